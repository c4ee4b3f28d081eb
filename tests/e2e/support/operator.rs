//! The operator as a process: started with an identity of its own, listened to, and ended whatever happens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::plane::OPERATOR;

/// How long the process may take to say where it listens, or to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a process has written, line by line, over several lives.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// All of it.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// Its end.
    pub fn tail(&self, lines: usize) -> String {
        let all = self.0.lock().unwrap();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A running operator. It is killed when it is dropped.
pub struct Operator {
    child: Child,
    /// Where `/livez` and `/readyz` are.
    pub health: SocketAddr,
    /// Where `/metrics` is.
    pub metrics: SocketAddr,
}

/// How an operator is started.
#[derive(Clone)]
pub struct Launch {
    /// The program: the one under test, or another build.
    pub program: PathBuf,
    /// Its identity.
    pub kubeconfig: PathBuf,
    /// Arguments after `run`.
    pub args: Vec<String>,
    /// Where its words go.
    pub log: Log,
    /// More variables of its environment.
    pub env: Vec<(String, String)>,
}

impl Launch {
    /// With ports of its own choice.
    pub fn new(kubeconfig: &Path, args: &[&str], log: &Log) -> Self {
        let ports = ["--health-addr=127.0.0.1:0", "--metrics-addr=127.0.0.1:0"];
        let args = args.iter().chain(&ports).map(ToString::to_string).collect();
        Self { program: OPERATOR.into(), kubeconfig: kubeconfig.to_owned(), args, log: log.clone(), env: Vec::new() }
    }

    /// With these arguments and nothing else.
    pub fn exactly(kubeconfig: &Path, args: &[&str], log: &Log) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self { program: OPERATOR.into(), kubeconfig: kubeconfig.to_owned(), args, log: log.clone(), env: Vec::new() }
    }

    fn spawn(&self) -> (Child, watch::Receiver<Option<(SocketAddr, SocketAddr)>>) {
        let mut command = Command::new(&self.program);
        command.arg("run").args(&self.args).env("KUBECONFIG", &self.kubeconfig).env("NO_COLOR", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (found, ports) = watch::channel(None);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = self.log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(addrs) = listening(&line) {
                    found.send_replace(Some(addrs));
                }
                log.0.lock().unwrap().push(line);
            }
        });
        (child, ports)
    }

    /// Starts it and waits until it listens.
    pub async fn start(&self) -> Operator {
        match self.start_known(|_| {}).await {
            Some(operator) => operator,
            None => panic!("the operator has ended before it listened:\n{}", self.log.tail(40)),
        }
    }

    /// The same; its process id is told at once. `None`: it has ended before it listened.
    pub async fn start_known(&self, tell: impl FnOnce(u32)) -> Option<Operator> {
        let (child, mut ports) = self.spawn();
        tell(child.id().unwrap());
        match tokio::time::timeout(PATIENCE, ports.wait_for(Option::is_some)).await {
            Ok(Ok(addrs)) => {
                let (health, metrics) = addrs.unwrap();
                Some(Operator { child, health, metrics })
            }
            Ok(Err(_)) => None,
            Err(waited) => panic!("the operator does not say where it listens: {waited}\n{}", self.log.tail(40)),
        }
    }

    /// Starts one that has to end by itself.
    pub async fn start_and_end(&self) -> ExitStatus {
        let (mut child, mut ports) = self.spawn();
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("the operator goes on:\n{}", self.log.tail(40))).unwrap();
        // The end of its words comes when the reader's side is closed.
        while ports.changed().await.is_ok() {}
        status
    }
}

/// `listening health=Some(127.0.0.1:1) metrics=Some(127.0.0.1:2)`, or the same as JSON.
fn listening(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("listening")?;
    let addr = |name: &str| {
        let (_, rest) = rest.split_once(&format!("{name}=Some(")).or_else(|| rest.split_once(&format!("\"{name}\":\"Some(")))?;
        rest.split_once(')')?.0.parse().ok()
    };
    Some((addr("health")?, addr("metrics")?))
}

impl Operator {
    /// Its exit status, once it has one.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Its exit status, when it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; how it ended, and how long that took.
    pub async fn terminate(mut self) -> (ExitStatus, Duration) {
        let began = std::time::Instant::now();
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        (status, began.elapsed())
    }

    /// Status and body of a page that it serves.
    pub async fn page(&self, addr: SocketAddr, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(10)).build().unwrap();
        let answer = client.get(format!("http://{addr}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}
