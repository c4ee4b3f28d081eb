//! What the tests share: a small configuration, a caller, and waiting for conditions.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use dci_operator::sim::{Config, Simulator};
use serde_json::{Value, json};

/// Two panels. Things take a tenth of a second.
pub const CONFIG: &str = r#"
dcimanager5:
  - name: dci
    users:
      - {name: admin, password: secret, level: 30}
      - {name: other, password: secret, level: 29}
      - {name: acme, password: acme-secret}
    durations: {power: 50ms, install: 200ms, diag: 100ms, connection: 100ms}
    release: {diagnostics: true}
    server_types: [{name: E3-16G, description: small}, {name: E5-64G}]
    os_templates:
      - {name: ISPsystem__Debian-12-x86_64}
      - {name: ISPsystem__Broken, outcome: fail}
      - {name: ISPsystem__Endless, outcome: hang}
      - {name: ISPsystem__Diag-x86_64, type: diag}
      - {name: ISPsystem__Sysrescd-x86_64, type: rescue}
    recipes: [{name: ISPsystem__nginx.sh}, {name: ISPsystem__bad.sh, outcome: fail}]
    address_groups:
      - {name: public, ranges: [203.0.113.1-203.0.113.20, "2001:db8::/64"]}
      - {name: parking, ranges: [10.0.0.0/16]}
    servers:
      - {id: 17, name: R1-10, type: E3-16G, ip: 10.0.0.17}
      - {id: 18, name: R1-11, type: E3-16G, ip: 10.0.0.18, owner: acme, hostname: a.example, power: "on"}
      - {id: 19, name: R1-12, type: E5-64G, ip: 10.0.0.19, flags: [hwproblem], ipmi: dead}
ipmanager5:
  - name: ipm
    users:
      - {name: ipadmin, password: secret, level: 30}
      - {name: dci, password: secret}
      - {name: stranger, password: secret}
    address_groups:
      - {name: public, ranges: [203.0.113.1-203.0.113.3], hidden_ranges: [203.0.113.9], users: [dci]}
      - {name: parking, ranges: [10.0.0.0/16]}
    holds_for: [{panel: dci, user: dci}]
"#;

/// A running simulator and somebody who calls it.
pub struct Bench {
    pub sim: Simulator,
    pub client: reqwest::Client,
}

pub fn client() -> reqwest::Client {
    // Clients for plain HTTP need a provider, too; the certificates of the system would take long to read.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(20)).build().unwrap()
}

pub fn localhost() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(CONFIG).await
    }

    pub async fn with(yaml: &str) -> Self {
        let config = Config::from_yaml(yaml).unwrap();
        Self { sim: Simulator::start(config, localhost()).await.unwrap(), client: client() }
    }

    pub fn url(&self, panel: &str) -> String {
        self.sim.url(panel).unwrap().to_owned()
    }

    /// Sends a form and returns the body of the answer.
    pub async fn send(&self, panel: &str, query: &str) -> Result<String, reqwest::Error> {
        let request = self.client.post(self.url(panel)).body(query.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send().await?.text().await
    }

    /// Calls as a user and returns `doc` of the JSON answer.
    pub async fn call_as(&self, user: &str, panel: &str, query: &str) -> Value {
        let body = self.send(panel, &format!("authinfo={user}&out=json&{query}")).await.unwrap();
        let whole: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        whole["doc"].clone()
    }

    /// Calls the server panel as its administrator.
    pub async fn dci(&self, query: &str) -> Value {
        self.call_as("admin:secret", "dci", query).await
    }

    /// Calls the server panel, which agrees.
    pub async fn done(&self, query: &str) -> Value {
        let doc = self.dci(query).await;
        assert!(doc.get("error").is_none(), "{query}: {doc}");
        doc
    }

    /// Calls the address manager as the user with which panels take addresses.
    pub async fn ipm(&self, query: &str) -> Value {
        self.call_as("dci:secret", "ipm", query).await
    }

    /// The row of a server in the list.
    pub async fn server(&self, id: u64) -> Value {
        let list = self.dci("func=server").await;
        let rows = list["elem"].as_array().cloned().unwrap_or_default();
        let id = id.to_string();
        rows.into_iter().find(|row| row["id"]["$"] == id).unwrap_or_default()
    }

    /// Waits until the row of a server is as it should be.
    pub async fn until(&self, id: u64, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let row = self.server(id).await;
            if holds(&row) {
                return row;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{what}: {row}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn fault(&self, fault: Value) -> u64 {
        self.sim.add_fault(fault).unwrap()
    }

    /// The state of a server as only people behind the panel see it.
    pub fn truth(&self, id: u64) -> Value {
        let state = self.sim.state();
        let servers = state["panels"]["dci"]["servers"].as_array().unwrap();
        let id = id.to_string();
        servers.iter().find(|server| server["id"] == id).cloned().unwrap_or_default()
    }

    /// Function, outcome, delivered of all changes.
    pub fn changes(&self) -> Vec<(String, String, bool)> {
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let entry = |entry: &Value| (text(entry, "func"), text(entry, "outcome"), entry["delivered"] == json!(true));
        self.sim.journal(0).iter().map(entry).collect()
    }
}

/// Type and object of an error document.
pub fn error(doc: &Value) -> (&str, &str) {
    let text = |key: &str| doc["error"][key].as_str().unwrap_or_default();
    (text("$type"), text("$object"))
}

/// The texts of one field of all rows.
pub fn column(doc: &Value, field: &str) -> Vec<String> {
    let rows = doc["elem"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| row[field]["$"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
