//! What Argo CD and Flux show of an order, a handler and a task through their lives: the scripts of deploy/argocd run on every
//! version of every object that the API server told of. With `UPDATE_FIXTURES=1` objects in states that the present release has no
//! fixture of are added to it; what is there stays as it is.

use std::collections::BTreeMap;
use std::io::Write as _;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::kstatus::is_true;
use super::support::objects::merged;
use super::support::plane::plane;
use super::support::record::resource;
use super::support::world::random;
use super::support::{Setup, World, objects};

#[allow(dead_code, reason = "tests/deploy.rs uses the rest")]
#[path = "../deploy_support/lua.rs"]
mod lua;
#[allow(dead_code, reason = "tests/api.rs and tests/deploy.rs use the rest")]
#[path = "../deploy_support/stored.rs"]
mod stored;

#[tokio::test]
async fn argo_cd_follows_the_life_of_an_order() {
    let Some(interpreter) = lua::interpreter("argo_cd_follows_the_life_of_an_order") else { return };
    let setup = Setup { run: false, ..Setup::default() }.handler(&json!({"ipmiErrorPolicy": "CreateTask"}));
    let mut world = World::start(setup).await;
    // One whose IPManager is not there.
    let mut other = objects::handler(world.sim.url("dci").unwrap(), &json!({"ipManagement": {"ipManagerRef": {"name": "other"}}}));
    other["metadata"]["name"] = "msk-2".into();
    world.create(&world.provider, other).await;
    world.operator = Some(world.launch.start().await);
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.order("wrong", &json!({"operatingSystem": {"template": "ISPsystem__nothing"}, "client": {"username": "other"}})).await;
    world.until_active("web-01").await;
    world.until_reason("DedicatedServerOrder", "wrong", "Stalled", "UnknownTemplate").await;
    world.until("msk-2 was looked at", |w| w.record.get("ProcessingHandler", "msk-2")?["status"]["conditions"].get(0).map(|_| ())).await;
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"domain": "www.example.net"}})).await;
    world.until_order("web-01", "the change was seen", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"]).await;
    world.until_active("web-01").await;
    let suspend = |on: bool| json!({"spec": {"suspend": on}});
    world.patch("ProcessingHandler", "msk-1", &suspend(true)).await;
    world.until("the handler is suspended", |w| seen(w, "ProcessingHandler", "msk-1").filter(|o| o["spec"]["suspend"] == true)).await;
    world.patch("ProcessingHandler", "msk-1", &suspend(false)).await;
    world.until("the handler goes on", |w| seen(w, "ProcessingHandler", "msk-1").filter(|o| o["spec"]["suspend"] == false)).await;
    // Which of the free ones it got is up to the other order too.
    let order = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    let server = order["status"]["server"]["id"].as_str().unwrap().parse().unwrap();
    world.sim.change_server(server, json!({"ipmi": "dead"})).unwrap();
    world.delete("DedicatedServerOrder", "wrong").await;
    world.delete("DedicatedServerOrder", "web-01").await;
    let task = world.until("a StopServer task", |w| w.record.all("ManualTask").pop()).await;
    let task = task["metadata"]["name"].as_str().unwrap().to_owned();
    world.until_order("web-01", "waits for the department", |o| is_true(o, "ManualActionRequired")).await;
    world.until("the task is open", |w| w.record.get("ManualTask", &task).filter(|t| t["status"]["phase"] == "Open")).await;
    world.patch("ManualTask", &task, &json!({"spec": {"resolution": "Done"}})).await;
    world.until_gone("web-01").await;
    world.until_gone("wrong").await;
    world.until("the task is closed", |w| w.record.get("ManualTask", &task).filter(|t| t["status"]["phase"] == "Closed")).await;

    let names = [
        ("DedicatedServerOrder", "web-01"),
        ("DedicatedServerOrder", "wrong"),
        ("ProcessingHandler", "msk-1"),
        ("ProcessingHandler", "msk-2"),
        ("IPManager", "main"),
        ("ManualTask", task.as_str()),
    ];
    let versions: Vec<Value> = names.iter().flat_map(|(kind, name)| world.record.versions(kind, name)).collect();
    let mut kept = BTreeMap::new();
    for (object, health) in versions.iter().zip(lua::health(&interpreter, &versions)) {
        let expected = expected(object);
        assert_eq!(health.status, expected, "{}\n{object}", health.message);
        assert!(!health.message.is_empty(), "{object}");
        if let Some(name) = fixture(object, expected) {
            kept.insert(name, object.clone());
        }
    }
    assert_eq!(kept.len(), 13, "states that were seen: {:?}", kept.keys());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        for (name, object) in kept {
            store(name, object, &world);
        }
    }
    world.end().await;
}

/// Helm waits for a release by the library from which Flux has its health, so what it sees of orders is what Flux sees. And the
/// release may go: its orders stay.
#[tokio::test]
async fn helm_waits_for_orders_and_leaves_them_where_they_are() {
    if !plane().helm(&["version", "--short"]).starts_with("v4") {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs Helm 4): helm_waits_for_orders_and_leaves_them_where_they_are");
        return;
    }
    let mut world = World::start(Setup::default()).await;
    let chart = std::env::temp_dir().join(format!("dci-operator-orders-{}", random()));
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "{apiVersion: v2, name: orders, version: 0.1.0}").unwrap();
    let mut order = order_in_git(&world);
    order["spec"]["deletionProtection"] = false.into();
    order["spec"].as_object_mut().unwrap().remove("recipes");
    let helm = async |args: &[&str]| {
        let mut line = tokio::process::Command::from(world.plane.helm_line());
        let output = line.args(args).args(["--namespace", &world.shop]).output().await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    };
    let path = chart.to_str().unwrap();
    let write = |order: &Value| std::fs::write(chart.join("templates/order.yaml"), order.to_string()).unwrap();
    write(&order);
    let (ok, said) = helm(&["install", "good", path, "--wait", "--timeout", "3m"]).await;
    assert!(ok, "{said}");
    let phase = |name: &str| world.plane.kubectl(&["get", "dso", name, "-n", &world.shop, "-o", "jsonpath={.status.phase}"], None);
    assert_eq!(phase("web-01"), "Active", "Helm did not wait for it");
    // One that cannot be served is told at once, with the reason, and not waited for.
    order["metadata"]["name"] = "wrong".into();
    order["spec"]["operatingSystem"]["template"] = "ISPsystem__nothing".into();
    write(&order);
    let (ok, said) = helm(&["install", "bad", path, "--wait", "--timeout", "3m"]).await;
    assert!(!ok && said.contains("ISPsystem__nothing"), "{said}");
    for release in ["good", "bad"] {
        let (ok, said) = helm(&["uninstall", release]).await;
        assert!(ok && said.contains("kept due to the resource policy"), "{said}");
    }
    assert_eq!(phase("web-01"), "Active");
    std::fs::remove_dir_all(&chart).unwrap();
    for name in ["web-01", "wrong"] {
        world.delete("DedicatedServerOrder", name).await;
    }
    for name in ["web-01", "wrong"] {
        world.until_gone(name).await;
    }
    world.end().await;
}

/// The order of the example for Argo CD, in this world's namespaces.
fn order_in_git(world: &World) -> Value {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/argocd/orders/web-01.yaml");
    let mut order: Value = serde_yaml::from_str(&std::fs::read_to_string(example).unwrap()).unwrap();
    order["metadata"]["namespace"] = world.shop.clone().into();
    order["spec"]["handlerRef"]["namespace"] = world.provider.clone().into();
    order
}

/// What is in Git is applied again and again: of an order that the operator has served there is nothing to change, and no field of
/// its spec has become the operator's. `ignoreDifferences` is not needed.
#[tokio::test]
async fn an_order_that_was_served_is_no_difference_from_git() {
    const PIPELINE: &str = "argocd-controller";
    let mut world = World::start(Setup::default()).await;
    let mut order = order_in_git(&world);
    let orders: Api<DynamicObject> = Api::namespaced_with(world.kube.clone(), &world.shop, &resource("DedicatedServerOrder"));
    let asked = |dry_run| PatchParams { dry_run, ..PatchParams::apply(PIPELINE) };
    let first = orders.patch("web-01", &asked(false), &Patch::Apply(&order)).await.unwrap();
    world.until_active("web-01").await;
    // Both are of one version of the order: the operator may still have had something to say.
    let (live, again) = loop {
        let before = orders.get("web-01").await.unwrap();
        let again = orders.patch("web-01", &asked(true), &Patch::Apply(&order)).await.unwrap();
        if orders.get("web-01").await.unwrap().resource_version() == before.resource_version() {
            break (before, again);
        }
        world.polls(1).await;
    };
    // That somebody has asked is noted with the time, and is no change.
    let settled = |object: &DynamicObject| {
        let mut object = serde_json::to_value(object).unwrap();
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        for manager in object["metadata"]["managedFields"].as_array_mut().unwrap() {
            manager.as_object_mut().unwrap().remove("time");
        }
        object
    };
    assert_eq!(settled(&again), settled(&live));
    assert_eq!(live.data["spec"], first.data["spec"]);
    assert_eq!(live.metadata.generation, first.metadata.generation);
    // Of what is not the pipeline's: a status, a finalizer and one annotation.
    let fields = serde_json::to_value(live.metadata.managed_fields.as_ref().unwrap()).unwrap();
    let mut owned = json!({});
    for manager in fields.as_array().unwrap().iter().filter(|manager| manager["manager"] != PIPELINE) {
        owned = merged(owned, &manager["fieldsV1"]);
    }
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&owned), ["f:metadata", "f:status"], "{owned}");
    assert_eq!(names(&owned["f:metadata"]), ["f:annotations", "f:finalizers"], "{owned}");
    let annotations: Vec<String> = names(&owned["f:metadata"]["f:annotations"]).into_iter().filter(|name| name != ".").collect();
    assert_eq!(annotations, ["f:dci-operator.dev/order-id"]);
    // Both ways: what is changed in Git is applied, with no conflict.
    order["spec"]["deletionProtection"] = false.into();
    orders.patch("web-01", &asked(false), &Patch::Apply(&order)).await.unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.end().await;
}

/// What people copy: the manifests in README, documentation, demo and examples for Flux and Argo CD.
#[test]
fn every_example_is_accepted_by_the_server() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["docs", "deploy/demo", "deploy/flux/provider", "deploy/flux/orders", "deploy/argocd/provider", "deploy/argocd/orders"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    let id = random();
    for namespace in ["hosting", "shop"] {
        plane().kubectl(&["create", "namespace", &format!("{namespace}-{id}")], None);
    }
    let mut kinds = BTreeMap::new();
    for file in files.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let parts: Vec<&str> = match file.extension().and_then(|e| e.to_str()) {
            Some("md") => text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect(),
            Some("yaml") => vec![&text],
            _ => vec![],
        };
        for document in parts.into_iter().flat_map(serde_yaml::Deserializer::from_str) {
            let mut object = Value::deserialize(document).unwrap();
            if object["apiVersion"] != "dci-operator.dev/v1alpha1" {
                continue;
            }
            *kinds.entry(object["kind"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("hosting").to_owned();
            object["metadata"]["namespace"] = format!("{namespace}-{id}").into();
            // What the server does not know is refused too. It says which object it was.
            plane().kubectl(&["create", "--dry-run=server", "--validate=true", "-f", "-"], Some(&object.to_string()));
        }
    }
    assert!(kinds.len() == 4 && kinds["DedicatedServerOrder"] >= 5, "{kinds:?}");
}

/// An object of which the operator has seen the present version.
fn seen(world: &World, kind: &str, name: &str) -> Option<Value> {
    world.record.get(kind, name).filter(|o| o["status"]["observedGeneration"] == o["metadata"]["generation"])
}

/// What the object's conditions mean in Argo CD's words, written apart from the scripts: by kstatus first.
fn expected(object: &Value) -> &'static str {
    let kind = object["kind"].as_str().unwrap();
    let current = object["status"]["observedGeneration"].as_i64().unwrap_or(-1) >= object["metadata"]["generation"].as_i64().unwrap();
    let waits = match kind {
        "DedicatedServerOrder" => is_true(object, "ManualActionRequired"),
        "ManualTask" => !is_true(object, "Ready"),
        _ => object["spec"]["suspend"] == true,
    };
    if !current {
        return "Progressing";
    }
    let gone = object["metadata"]["deletionTimestamp"].is_string() && kind != "ManualTask";
    match (is_true(object, "Stalled"), waits, is_true(object, "Ready") && !gone) {
        (true, ..) => "Degraded",
        (false, true, _) => "Suspended",
        (false, false, true) => "Healthy",
        (false, false, false) => "Progressing",
    }
}

/// The name of the fixture that an object is an example of.
fn fixture(object: &Value, health: &str) -> Option<&'static str> {
    let unseen = object["status"]["observedGeneration"].as_i64().unwrap_or(-1);
    let deleted = object["metadata"]["deletionTimestamp"].is_string();
    Some(match (object["kind"].as_str().unwrap(), health) {
        ("DedicatedServerOrder", "Healthy") => "order-active",
        ("DedicatedServerOrder", "Degraded") if !deleted => "order-stalled",
        ("DedicatedServerOrder", "Suspended") => "order-waits-for-department",
        ("DedicatedServerOrder", "Progressing") if deleted && object["status"]["phase"] == "Deleting" => "order-releasing",
        ("DedicatedServerOrder", "Progressing") if object["spec"]["domain"] == "www.example.net" && unseen > 0 => "order-changed",
        ("DedicatedServerOrder", "Progressing") if object["status"]["server"]["id"].is_string() && !deleted => "order-preparing",
        ("ProcessingHandler", "Suspended") => "handler-suspended",
        ("ProcessingHandler", "Healthy") => "handler-ready",
        ("ProcessingHandler", "Progressing") if unseen < 0 => "handler-unseen",
        ("ProcessingHandler", _) if object["metadata"]["name"] == "msk-2" && unseen > 0 => "handler-not-ready",
        ("IPManager", "Healthy") => "ipmanager-ready",
        ("ManualTask", "Suspended") => "task-open",
        ("ManualTask", "Healthy") => "task-closed",
        _ => return None,
    })
}

/// Adds an object to the fixtures of this release, with the names that differ from run to run replaced. One that is there stays:
/// it is what users have stored.
fn store(name: &str, mut object: Value, world: &World) {
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    object["metadata"].as_object_mut().unwrap().remove("selfLink");
    let text = serde_yaml::to_string(&object).unwrap();
    let text = text.replace(&world.provider, "hosting").replace(&world.shop, "shop").replace(&world.system, "dci-system");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/objects/v", env!("CARGO_PKG_VERSION"));
    std::fs::create_dir_all(folder).unwrap();
    let Ok(mut file) = std::fs::File::create_new(format!("{folder}/{name}.yaml")) else { return };
    file.write_all(text.as_bytes()).unwrap();
    let sum = Sha256::digest(&text).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut list = std::fs::OpenOptions::new().create(true).append(true).open(format!("{folder}/{}", stored::SUMS)).unwrap();
    writeln!(list, "{sum}  {name}.yaml").unwrap();
}
