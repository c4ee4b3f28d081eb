//! What is done to the operator and to stored objects, and how everything looks in the end.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::World;
use super::operator::{Launch, Log, Operator};

pub const ORDER: &str = "DedicatedServerOrder";

/// SIGSTOP: nothing of it goes on, its connections stand, and others see nothing of it.
pub fn freeze(operator: &Operator) {
    signal(operator, "-STOP");
}

/// SIGCONT.
pub fn thaw(operator: &Operator) {
    signal(operator, "-CONT");
}

fn signal(operator: &Operator, signal: &str) {
    assert!(Command::new("kill").args([signal, &operator.pid().to_string()]).status().unwrap().success());
}

/// Another account with the operator's permissions, so that the audit log tells who asked; how an operator with it is started.
pub async fn another(world: &World, account: &str) -> Launch {
    let system = world.system.clone();
    assert_done(world, &["create", "serviceaccount", account, "-n", &system]).await;
    for namespace in [&world.system, &world.provider, &world.shop] {
        let (_, names) = world.kubectl(&["get", "rolebindings", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}"]).await;
        for name in names.split_whitespace() {
            let subject = json!({"kind": "ServiceAccount", "namespace": system, "name": account});
            let patch = json!([{"op": "add", "path": "/subjects/-", "value": subject}]).to_string();
            assert_done(world, &["patch", "rolebinding", name, "-n", namespace, "--type=json", "-p", &patch]).await;
        }
    }
    let kubeconfig: PathBuf = world.identity_of(account).await;
    Launch { kubeconfig, log: Log::default(), env: Vec::new(), ..world.launch.clone() }
}

/// Runs kubectl, which has to succeed.
pub async fn assert_done(world: &World, args: &[&str]) -> String {
    let (code, text) = world.kubectl(args).await;
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

/// Requests that have ended, by the API server's audit log: account and verb with what it was about, the oldest first.
pub fn requests(world: &World) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(world.plane.dir.join("audit.log")).unwrap_or_default();
    let user = format!("system:serviceaccount:{}:", world.system);
    let lines = text.lines().filter(|line| line.contains(&user)).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = |line: Value| {
        let account = line["user"]["username"].as_str()?.strip_prefix(&user)?.to_owned();
        let about = &line["objectRef"];
        let part = |name: &str| about[name].as_str().unwrap_or_default().to_owned();
        Some((account, format!("{} {} {} {}", line["verb"].as_str()?, part("resource"), part("subresource"), part("name"))))
    };
    lines.filter_map(of).collect()
}

/// A stored object as a backup has it: what the server sets is not in it, and neither is the status.
pub fn backup(world: &World, kind: &str, name: &str) -> Value {
    let mut object = world.record.get(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"));
    object["apiVersion"] = "dci-operator.dev/v1alpha1".into();
    object.as_object_mut().unwrap().remove("status");
    // As Velero does it.
    object["metadata"].as_object_mut().unwrap().retain(|name, _| ["name", "labels", "annotations", "finalizers"].contains(&name.as_str()));
    object
}

/// The object is gone, whatever held it, and nobody was asked: not even the operator, which is down or frozen.
pub async fn lose(world: &mut World, kind: &'static str, name: &str) {
    let namespace = if kind == ORDER { world.shop.clone() } else { world.provider.clone() };
    let what = format!("{kind}.dci-operator.dev/{name}").to_lowercase();
    assert_done(world, &["patch", &what, "-n", &namespace, "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#]).await;
    assert_done(world, &["delete", &what, "-n", &namespace, "--wait=false", "--ignore-not-found"]).await;
    let full = format!("{namespace}/{name}");
    let name = name.to_owned();
    world.until("it is lost", |world| world.record.get(kind, &name).is_none().then_some(())).await;
    world.record.taken_out(&full);
}

/// An order is lost and comes back from a backup, changed by this patch.
pub async fn restore(world: &mut World, name: &str, patch: &Value) {
    let object = super::objects::merged(backup(world, ORDER, name), patch);
    lose(world, ORDER, name).await;
    let shop = world.shop.clone();
    world.create(&shop, object).await;
}

/// The operator is killed; what is done then it did not see.
pub async fn down(world: &mut World) {
    world.operator.take().unwrap().kill().await;
}

/// And runs again.
pub async fn up(world: &mut World) {
    world.operator = Some(world.launch.start().await);
}

/// Waits until the order is Ready in this phase with what its spec says now.
pub async fn settled(world: &mut World, name: &str, phase: &str) -> Value {
    world
        .until_order(name, phase, |o| {
            o["status"]["phase"] == phase
                && super::kstatus::is_true(o, "Ready")
                && o["status"]["observedGeneration"] == o["metadata"]["generation"]
        })
        .await
}

/// How everything looks: the orders with their servers, the servers with owner, marks and addresses, and the open tasks. The names of
/// this run are not in it, so that two runs can be compared.
pub fn picture(world: &World) -> String {
    let mut text = String::new();
    let none = Vec::new();
    for order in world.record.all(ORDER) {
        let status = &order["status"];
        let (server, name) = (&status["server"], &order["metadata"]["name"]);
        let addresses = server["addresses"].as_array().unwrap_or(&none).len();
        let (phase, id, domain) = (&status["phase"], &server["id"], &server["domain"]);
        writeln!(text, "order {name}: {phase}, server {id}, {domain}, {addresses} addresses, in flight {}", status["inFlight"]).unwrap();
    }
    let state = world.sim.state();
    for server in state["panels"]["dci"]["servers"].as_array().unwrap_or(&none) {
        let groups: Vec<&Value> = server["ips"].as_array().unwrap_or(&none).iter().map(|row| &row["group"]).collect();
        let fields = ["id", "owner", "hostname", "notes", "power", "operation"].map(|name| server[name].to_string());
        let installed = &server["installed"]["times"];
        writeln!(text, "server {}, {groups:?}, installed {installed}", fields.join(", ")).unwrap();
    }
    for (address, note) in world.taken() {
        let group = if address.starts_with("10.") { "parking" } else { "public" };
        writeln!(text, "address {group}: {note}").unwrap();
    }
    for task in world.record.all("ManualTask").iter().filter(|t| t["spec"]["resolution"].is_null()) {
        writeln!(text, "task {}", task["spec"]["type"]).unwrap();
    }
    world.neutral(&text)
}

/// Everything that a server says of itself, to see that it was not touched.
pub fn untouched(world: &World, id: u64) -> String {
    let mut server = world.server(id);
    server.as_object_mut().unwrap().remove("power");
    server.to_string()
}

/// A Secret as a backup has it: its owner is not in it.
pub async fn saved_secret(world: &World, name: &str) -> Value {
    let text = assert_done(world, &["get", "secret", name, "-n", &world.shop, "-o", "json"]).await;
    let mut object: Value = serde_json::from_str(&text).unwrap();
    object["metadata"].as_object_mut().unwrap().retain(|name, _| ["name", "labels", "annotations"].contains(&name.as_str()));
    object
}
