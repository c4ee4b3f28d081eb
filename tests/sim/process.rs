//! The program `dci-sim`, TLS, and several panels.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use dci_operator::sim::{Config, Options, Simulator};

use crate::support::{Bench, CONFIG, client, localhost};

fn file(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

/// A program that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dci_sim() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dci-sim"))
}

#[tokio::test]
async fn prints_where_it_listens_and_ends_at_once() {
    let child = dci_sim().arg("--config").arg(file("run.yaml", CONFIG)).arg("--tls").stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Running(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("certificate sha256 "));
    for (name, path) in [("dci", "/dcimgr"), ("ipm", "/ipmgr")] {
        let line = next();
        assert!(line.starts_with(&format!("listening {name} https://127.0.0.1:")) && line.ends_with(path), "{line}");
    }
    let line = next();
    let url = line.strip_prefix("listening sim ").unwrap();
    assert!(client().get(format!("{url}/state")).send().await.unwrap().status().is_success());
    let killed = Command::new("kill").arg("-TERM").arg(child.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn says_what_is_wrong_with_the_file() {
    for (name, text, message) in [
        ("unknown.yaml", "dcimanager5: [{users: [], serverz: []}]", "unknown field `serverz`"),
        ("empty.yaml", "{}", "neither a `dcimanager5` nor an `ipmanager5`"),
        ("twice.yaml", "dcimanager5: [{users: []}, {users: [], name: b}]", "both be at /dcimgr"),
        ("names.yaml", "dcimanager5: [{users: []}]\nipmanager5: [{users: [], name: dcimgr}]", "two panels with the name"),
    ] {
        let output = dci_sim().arg("--config").arg(file(name, text)).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(errors.contains(message) && errors.contains(name), "{errors}");
    }
    let output = dci_sim().args(["--config", "/does/not/exist.yaml"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read /does/not/exist.yaml"));
    let checked = dci_sim().arg("--check").arg("--config").arg(file("check.yaml", CONFIG)).status().unwrap();
    assert!(checked.success());
}

#[test]
fn explains_itself() {
    let help = String::from_utf8(dci_sim().arg("--help").output().unwrap().stdout).unwrap();
    for word in ["--config", "DCI_SIM_CONFIG", "--listen", "DCI_SIM_LISTEN", "--tls", "/_sim/journal"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[tokio::test]
async fn tls_with_a_certificate_of_its_own() {
    let _ = client();
    let options = Options { tls: true, ..Options::new(localhost()) };
    let sim = Simulator::start_with(Config::from_yaml(CONFIG).unwrap(), options).await.unwrap();
    let url = format!("{}?func=server&authinfo=admin:secret", sim.url("dci").unwrap());
    assert!(url.starts_with("https://"));
    assert_eq!(sim.fingerprint().unwrap().len(), 64);
    let root = reqwest::Certificate::from_pem(sim.certificate_pem().unwrap().as_bytes()).unwrap();
    let trusting = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    assert!(trusting.get(&url).send().await.unwrap().text().await.unwrap().contains("<id>17</id>"));
    let strict = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    assert!(strict.get(&url).send().await.is_err());
}

#[tokio::test]
async fn panels_with_an_address_of_their_own() {
    let config = "
dcimanager5:
  - {name: one, users: [{name: a, password: x, level: 30}], servers: [{count: 1}]}
  - {name: two, listen: 127.0.0.1:0, users: [{name: b, password: y, level: 30}], servers: [{count: 2}]}
  - {name: three, listen: 127.0.0.1:0, users: [{name: b, password: y, level: 30}]}
";
    let bench = Bench::with(config).await;
    assert_eq!(bench.call_as("a:x", "one", "func=server").await["p_elems"]["$"], "1");
    assert_eq!(bench.call_as("b:y", "two", "func=server").await["p_elems"]["$"], "2");
    assert_eq!(bench.call_as("b:y", "three", "func=server").await["p_elems"]["$"], "0");
    assert_ne!(bench.url("two"), bench.url("three"));
}

#[tokio::test]
async fn stops() {
    let bench = Bench::start().await;
    let url = bench.url("dci");
    bench.sim.stop();
    let mut sim = bench.sim;
    (&mut sim.handle).await.unwrap().unwrap();
    assert!(client().get(&url).send().await.is_err());
}
