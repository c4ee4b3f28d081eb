//! What is done to a control plane of a test's own: its API server is stopped and started, and its history is thrown away.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::plane::{OwnPlane, Plane};

/// How long a server may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// How often one that ends is started again.
const AGAIN: usize = 3;

/// The API server of a control plane, while it is stopped.
pub struct Stopped {
    dir: PathBuf,
    line: Vec<String>,
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("pids/kube-apiserver")
}

/// Number and command line of the API server.
fn running(dir: &Path) -> (String, Vec<String>) {
    let text = std::fs::read_to_string(pid_file(dir)).unwrap();
    let pid = text.split_whitespace().next().unwrap().to_owned();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let line = line.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    (pid, line.map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

/// Since when a process runs, as the kernel counts; none when it does not.
fn started(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

/// The last that the API server said: its directory goes with the test.
fn end_of_log(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("logs/kube-apiserver.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Kills the API server: connections break, and nobody listens any more.
pub fn stop(own: &OwnPlane) -> Stopped {
    let dir = own.plane.dir.clone();
    let (pid, line) = running(&dir);
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let began = Instant::now();
    while started(&pid).is_some() {
        assert!(began.elapsed() < PATIENCE, "the API server does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    Stopped { dir, line }
}

impl Stopped {
    /// Another flag, or another value of one.
    #[must_use]
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.line.retain(|part| !part.starts_with(&format!("{flag}=")));
        self.line.push(format!("{flag}={value}"));
        self
    }

    fn spawn(&self) -> String {
        let log = std::fs::File::options().append(true).open(self.dir.join("logs/kube-apiserver.log")).unwrap();
        let mut command = Command::new(&self.line[0]);
        command.args(&self.line[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let pid = child.id().to_string();
        // Whoever takes the control plane down finds it there.
        std::fs::write(pid_file(&self.dir), format!("{pid} {}\n", started(&pid).unwrap_or_default())).unwrap();
        std::thread::spawn(move || child.wait());
        pid
    }

    /// Starts it at the same address, and waits until it is ready. One that ends meanwhile is started again, as a kubelet does it: on a
    /// busy machine it may give up waiting for etcd.
    pub async fn start(self, plane: &Plane) {
        let (began, mut again) = (Instant::now(), 0);
        let mut pid = self.spawn();
        while !plane.try_kubectl(&["--request-timeout=5s", "get", "--raw", "/readyz"]) {
            assert!(began.elapsed() < PATIENCE, "the API server does not come up:\n{}", end_of_log(&self.dir));
            if started(&pid).is_none() {
                assert!(again < AGAIN, "the API server ended:\n{}", end_of_log(&self.dir));
                again += 1;
                pid = self.spawn();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Throws away all of etcd's history: whoever watches from an older version is told that it is gone.
    pub async fn compact(&self) {
        compact_at(self.line.iter().find_map(|part| part.strip_prefix("--etcd-servers=")).unwrap()).await;
    }
}

async fn compact_at(etcd: &str) {
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let ask = async |path: &str, body: Value| -> Value {
        let answer = client.post(format!("{etcd}/v3/kv/{path}")).body(body.to_string()).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    };
    // Any read tells the revision that it was made at. `YQ==` is a key that nobody has.
    let revision = ask("range", json!({"key": "YQ=="})).await["header"]["revision"].clone();
    ask("compaction", json!({"revision": revision, "physical": true})).await;
}
