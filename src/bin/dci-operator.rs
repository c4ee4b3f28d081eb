//! The operator's command line: `run` and `crds`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use dci_operator::api::crds;

#[derive(Parser)]
#[command(version, about = "Kubernetes operator for dedicated servers of DCImanager")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CustomResourceDefinitions as YAML.
    Crds {
        /// The API server they are for; 1.20 leaves out rules and selectable fields.
        #[arg(long = "for", value_enum, default_value = "current")]
        target: ApiServer,
        /// Write one file per kind into this directory instead.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ApiServer {
    #[value(name = "current")]
    Current,
    #[value(name = "1.20")]
    V1_20,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Crds { target, dir } => write_crds(target, dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dci-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_crds(target: ApiServer, dir: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    let target = match target {
        ApiServer::Current => crds::Target::Current,
        ApiServer::V1_20 => crds::Target::V1_20,
    };
    let Some(dir) = dir else {
        print!("{}", crds::yaml(target)?);
        return Ok(());
    };
    std::fs::create_dir_all(&dir)?;
    for crd in crds::all(target)? {
        std::fs::write(dir.join(crds::file_name(&crd)), serde_yaml::to_string(&crd)?)?;
    }
    Ok(())
}
