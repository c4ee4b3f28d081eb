//! `kubectl dci`: orders, tasks and handlers for people at a terminal.

#![forbid(unsafe_code)]

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dci_operator::cli::client::{ClientError, Cluster, Connect};
use dci_operator::cli::close::{self, CloseError};
use dci_operator::cli::manifest::{self, Manifest, ManifestError};
use dci_operator::cli::plan::{self, Weight};
use dci_operator::cli::tasks::Filter;
use dci_operator::cli::{inventory, status, tasks, text};
use jiff::Timestamp;

/// How often a task is read anew because somebody, mostly the operator, has written it meanwhile.
const TRIES: usize = 5;

#[derive(Parser)]
#[command(name = "kubectl-dci", bin_name = "kubectl dci", version, about = "Orders, tasks and handlers of dci-operator")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Namespace; that of the context when absent.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one when absent.
    #[arg(long, global = true)]
    context: Option<String>,
    /// Kubeconfig; KUBECONFIG or the usual file when absent.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Show an order on one screen: its server, its steps, what it waits for, and what is next.
    Status {
        /// Name of the order.
        order: String,
    },
    /// List the tasks that wait for departments.
    Tasks {
        /// Only those that this department may close.
        #[arg(long, value_name = "NAME")]
        department: Option<String>,
        /// Closed tasks, too.
        #[arg(long)]
        all: bool,
        /// Of all namespaces, whatever -n says.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Close a task; the answer stays.
    Close {
        /// Name of the task.
        task: String,
        #[arg(help = "How: Done, Retry, PartsMissing, Cancelled or Abandon; each type of task takes some of them")]
        resolution: Option<String>,
        /// What the department has to say; it comes into the order's status.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Show what the panel of a handler has, and what is ordered there.
    Inventory {
        /// Name of the handler.
        handler: String,
    },
    /// Say what orders in a file will do, without changing anything; fails where one is refused or would stand still.
    Plan {
        /// Manifests of orders, YAML or JSON; - for the standard input.
        #[arg(short, long, required = true, value_name = "FILE")]
        filename: Vec<String>,
    },
}

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Close(#[from] CloseError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("task {0} is written by others all the time; try again")]
    Busy(String),
    #[error("{0} of {1} orders would be refused or stand still; the plan says why")]
    Stops(usize, usize),
    #[error("the runtime does not start: {0}; free some memory or threads")]
    Runtime(std::io::Error),
    #[error("the output cannot be written: {0}; see where it goes to")]
    Output(std::io::Error),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    // A second provider in the process would make every TLS client of it panic.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An untrusted manifest may be spoken of.
            eprintln!("kubectl-dci: {}", text::clean(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), CommandError> {
    let Global { namespace, context, kubeconfig } = cli.global;
    let cluster = Cluster::connect(&Connect { kubeconfig, context, namespace: namespace.clone() }).await?;
    match cli.command {
        Command::Status { order } => {
            let order = cluster.order(&cluster.key(&order)).await?;
            print(&status::screen(&order, Timestamp::now()))
        }
        Command::Tasks { department, all, all_namespaces } => {
            list_tasks(&cluster, &Filter { department, closed: all }, all_namespaces).await
        }
        Command::Close { task, resolution, note } => close_task(&cluster, &task, resolution.as_deref(), note.as_deref()).await,
        Command::Inventory { handler } => {
            let handler = cluster.handler(&cluster.key(&handler)).await?;
            let (orders, unread) = cluster.all_orders().await?;
            print(&inventory::screen(&handler, &orders, &unread, Timestamp::now()))
        }
        Command::Plan { filename } => Box::pin(plan_all(&cluster, &filename, namespace.as_deref())).await,
    }
}

async fn list_tasks(cluster: &Cluster, filter: &Filter, everywhere: bool) -> Result<(), CommandError> {
    let (found, unreadable) = cluster.tasks(everywhere).await?;
    for name in unreadable {
        eprintln!("kubectl-dci: task {} cannot be read by this version and is left out", text::clean(&name));
    }
    match tasks::table(&found, filter, everywhere, Timestamp::now()) {
        Some(table) => print(&table),
        None => {
            let place = if everywhere { "any namespace".to_owned() } else { format!("namespace {}", cluster.namespace) };
            eprintln!("No {}tasks in {place}.", if filter.closed { "" } else { "open " });
            Ok(())
        }
    }
}

async fn close_task(cluster: &Cluster, name: &str, word: Option<&str>, note: Option<&str>) -> Result<(), CommandError> {
    let key = cluster.key(name);
    for _ in 0..TRIES {
        let task = cluster.task(&key).await?;
        let resolution = close::resolution(&task, word, note)?;
        // Read before: what follows depends on the order as it is when the answer is given.
        let order = cluster.order_of(&task).await?;
        if cluster.change_task(&key, &close::patch(&task, resolution, note)).await? {
            let follows = close::follows(&task, resolution, &order);
            return print(&format!("task {key} closed: {}\nnext: {}\n", resolution.as_str(), text::clean(&follows)));
        }
    }
    Err(CommandError::Busy(key.to_string()))
}

async fn plan_all(cluster: &Cluster, files: &[String], namespace: Option<&str>) -> Result<(), CommandError> {
    let mut manifests = Vec::new();
    for file in files {
        manifests.extend(manifest::orders(file, &read(file)?, namespace, &cluster.namespace)?);
    }
    let (mut stops, all) = (0, manifests.len());
    let mut texts = Vec::new();
    for Manifest { name, order, unknown } in manifests {
        match order {
            Ok(order) => {
                let mut question = Box::pin(cluster.question(*order, unknown)).await?;
                question.beside = all - 1;
                let plan = plan::plan(&question);
                stops += usize::from(plan.weight() == Weight::Stops);
                texts.push(plan::text(&plan));
            }
            Err(problem) => {
                stops += 1;
                texts.push(format!("order {}\nmanifest: INVALID\n  - {}\n", text::clean(&name), text::clean(&problem)));
            }
        }
    }
    print(&texts.join("\n"))?;
    if stops > 0 { Err(CommandError::Stops(stops, all)) } else { Ok(()) }
}

fn read(file: &str) -> Result<String, ManifestError> {
    let failed = |error| ManifestError::File { file: file.to_owned(), error };
    if file != "-" {
        return std::fs::read_to_string(file).map_err(failed);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn print(text: &str) -> Result<(), CommandError> {
    text::print(text).map_err(CommandError::Output)
}
