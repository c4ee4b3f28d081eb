//! A Prometheus on loopback that reads one operator every second.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// A running Prometheus; it ends with this.
pub struct Prometheus {
    _child: Child,
    address: SocketAddr,
    dir: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The program; a test that needs it is counted as skipped where there is none.
pub fn program(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let found = found.map(|dir| dir.join("prometheus")).find(|path| path.is_file());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs prometheus): {test}");
    }
    found
}

impl Prometheus {
    /// Starts one that reads `target` and evaluates `rules`.
    pub async fn start(program: PathBuf, target: SocketAddr, rules: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = std::env::temp_dir().join(format!("dci-operator-prometheus-{}-{}", std::process::id(), port.port()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "dci-operator", "static_configs": [{"targets": [target.to_string()]}]}],
        });
        std::fs::write(dir.join("prometheus.yml"), serde_yaml::to_string(&config).unwrap()).unwrap();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg(format!("--web.listen-address={port}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let prometheus = Self { _child: child, address: port, dir };
        let began = Instant::now();
        while prometheus.query("up").await.is_empty() {
            assert!(began.elapsed() < Duration::from_mins(1), "Prometheus does not read {target}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        prometheus
    }

    /// What is at an address of its interface; null while it does not answer.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let client = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(10)).build().unwrap();
        let answer = client.post(format!("http://{}/api/v1/{path}", self.address)).form(parameters).send().await;
        match answer {
            Ok(answer) => serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// The series that an expression gives now, without those that are no number.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.ask("query", &[("query", expression)]).await;
        assert!(answer["status"] != "error", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        series.into_iter().filter(|s| s["value"][1].as_str().is_some_and(|v| v != "NaN")).collect()
    }

    /// A page that is read with GET.
    pub async fn get(&self, path: &str) -> Value {
        let client = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(10)).build().unwrap();
        let answer = client.get(format!("http://{}/api/v1/{path}", self.address)).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}
