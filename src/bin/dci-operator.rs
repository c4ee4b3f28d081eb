//! The operator's command line: `run` and `crds`.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dci_operator::api::crds;
use dci_operator::cli::text;
use dci_operator::controller::otlp::Export;
use dci_operator::controller::run::{Options, run};
use dci_operator::controller::{election, logs};
use dci_operator::panel::denied::{self, DeniedNetworks};

#[derive(Parser)]
#[command(version, about = "Kubernetes operator for dedicated servers of DCImanager")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds {
        /// The API server they are for, `current` or its version: before 1.31 they have no selectable fields, before 1.25 no rules.
        #[arg(long = "for", value_name = "VERSION", default_value = "current")]
        target: crds::Target,
        /// Write one file per kind into this directory instead.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Args)]
struct RunArgs {
    /// The operator's own namespace; the Pod's or the kubeconfig context's when absent.
    #[arg(long, env = "DCI_OPERATOR_NAMESPACE")]
    namespace: Option<String>,
    /// Watch this namespace only (may be given several times); all namespaces when absent.
    #[arg(long = "watch-namespace", env = "DCI_OPERATOR_WATCH_NAMESPACE", value_delimiter = ',')]
    watch: Vec<String>,
    /// Name of this cluster in the panels' records; the uid of kube-system when absent. Must never change.
    #[arg(long, env = "DCI_OPERATOR_CLUSTER_ID", value_parser = cluster_id)]
    cluster_id: Option<String>,
    /// Where /livez and /readyz are served. `[::]` is both families, and 0.0.0.0 where there is no IPv6.
    #[arg(long, env = "DCI_OPERATOR_HEALTH_ADDR", default_value = "[::]:8081")]
    health_addr: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, env = "DCI_OPERATOR_METRICS_ADDR", default_value = "[::]:8080")]
    metrics_addr: SocketAddr,
    /// How long a handler, or its credentials, may be gone before its department is asked about an order that is being deleted.
    #[arg(long, env = "DCI_OPERATOR_HANDLER_GRACE", default_value = "15m", value_parser = dci_operator::api::Duration::parse)]
    handler_grace: dci_operator::api::Duration,
    /// How long a task is kept after it was closed.
    #[arg(long, env = "DCI_OPERATOR_TASK_RETENTION", default_value = "168h", value_parser = dci_operator::api::Duration::parse)]
    task_retention: dci_operator::api::Duration,
    /// Networks in which the operator connects to no panel and no webhook, whatever a handler says; separated by commas, or `none`.
    #[arg(long, env = "DCI_OPERATOR_DENIED_NETWORKS", default_value = denied::DEFAULT)]
    denied_networks: DeniedNetworks,
    /// Take turns with other replicas.
    #[arg(long, env = "DCI_OPERATOR_LEADER_ELECT")]
    leader_elect: bool,
    /// The Lease, in the operator's own namespace, by which replicas take turns: each installation in a namespace has its own.
    #[arg(long, env = "DCI_OPERATOR_LEADER_ELECTION_NAME", default_value = election::NAME)]
    leader_election_name: String,
    /// How logs are written.
    #[arg(long, env = "DCI_OPERATOR_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `dci_operator=debug`.
    #[arg(long, env = "DCI_OPERATOR_LOG", default_value = "info")]
    log: String,
    /// A file with such a filter, which takes the place of the one above; it is looked at while the operator runs.
    #[arg(long, env = "DCI_OPERATOR_LOG_FILTER_FILE")]
    log_filter_file: Option<PathBuf>,
    /// Collector that gets a trace of each step of an order, OTLP over HTTP, such as `http://collector:4318`; no traces when absent.
    #[arg(long, env = "DCI_OPERATOR_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Part of every marker: no blanks, no slashes, and short enough for a panel's notes.
fn cluster_id(text: &str) -> Result<String, String> {
    let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if valid { Ok(text.to_owned()) } else { Err("1 to 64 letters, digits, dots, dashes or underscores".into()) }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => operate(*args),
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

fn operate(args: RunArgs) -> Result<(), Box<dyn std::error::Error>> {
    // A second provider in the process would make every TLS client of it panic.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Where a platform tells all its programs where traces go, it is told so by this name.
    let endpoint = args.otlp_endpoint.or_else(|| std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok()).filter(|url| !url.is_empty());
    let export = endpoint.map(|url| Export::start(&url, runtime.handle().clone())).transpose()?;
    let format = match args.log_format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    let filter = logs::start(&args.log, format, export.as_ref().map(Export::tracer))?;
    if let Some(file) = args.log_filter_file {
        runtime.spawn(filter.follow(file));
    }
    let options = Options {
        namespace: args.namespace,
        // A name that is given twice would be watched twice, and all in it done twice.
        watch: args.watch.into_iter().filter(|name| !name.is_empty()).collect::<BTreeSet<_>>().into_iter().collect(),
        cluster_id: args.cluster_id,
        health: args.health_addr,
        metrics: args.metrics_addr,
        handler_grace: args.handler_grace.0,
        task_retention: args.task_retention.0,
        leader_election: args.leader_elect.then_some(args.leader_election_name),
        denied: args.denied_networks,
    };
    let result = runtime.block_on(run(options));
    if let Some(export) = export {
        export.stop();
    }
    // Blocking work of libraries must not hold the process back.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(result?)
}

fn write_crds(target: crds::Target, dir: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    let Some(dir) = dir else {
        let written = text::print(&crds::yaml(target)?);
        return written.map_err(|error| format!("the output cannot be written: {error}; see where it goes to").into());
    };
    std::fs::create_dir_all(&dir)?;
    for crd in crds::all(target)? {
        std::fs::write(dir.join(crds::file_name(&crd)), serde_yaml::to_string(&crd)?)?;
    }
    Ok(())
}
