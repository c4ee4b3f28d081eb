//! `dci-sim`: serves the simulated panels.

#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use dci_operator::sim::{Config, Options, SimError, Simulator};

/// Simulated panels: server panels and address managers of the fifth generation.
///
/// For each panel one line `listening NAME URL` is printed; the last one, `sim`, is where /_sim is also served while
/// panels are down. /_sim/state shows everything, /_sim/journal lists every change asked for, /_sim/faults (POST) makes
/// calls go wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The file that describes the panels; src/sim/example.yaml shows every key
    #[arg(long, env = "DCI_SIM_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Where the panels listen that have no address of their own; port 0 is any free port
    #[arg(long, env = "DCI_SIM_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where /_sim is served besides
    #[arg(long, env = "DCI_SIM_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    admin_listen: SocketAddr,
    /// Serve the panels with TLS; the certificate is made at the start, and its SHA-256 printed
    #[arg(long, env = "DCI_SIM_TLS")]
    tls: bool,
    /// Write the certificate to this file
    #[arg(long, env = "DCI_SIM_CERTIFICATE_OUT", value_name = "FILE", requires = "tls")]
    certificate_out: Option<PathBuf>,
    /// Read the file, say whether it can be used, and end
    #[arg(long)]
    check: bool,
}

#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error("{}: {source}", path.display())]
    Config { path: PathBuf, source: Box<SimError> },
    #[error(transparent)]
    Sim(#[from] SimError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dci-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), MainError> {
    let named = |error: SimError| match error {
        SimError::Config(_) => MainError::Config { path: args.config.clone(), source: Box::new(error) },
        error => MainError::Sim(error),
    };
    let config = Config::from_file(&args.config).map_err(|error| named(error.into()))?;
    if args.check {
        return config.check().map_err(|error| named(error.into()));
    }
    let options = Options { listen: args.listen, admin_listen: args.admin_listen, tls: args.tls };
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let simulator = Simulator::start_with(config, options).await.map_err(named)?;
    if let (Some(path), Some(pem)) = (&args.certificate_out, simulator.certificate_pem()) {
        tokio::fs::write(path, pem).await?;
    }
    if let Some(fingerprint) = simulator.fingerprint() {
        println!("certificate sha256 {fingerprint}");
    }
    for (name, url) in simulator.urls() {
        println!("listening {name} {url}");
    }
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    // Answers that are still being delayed are not waited for.
    std::process::exit(0)
}
