//! A release from its installation to its end, with an order that lives through all of it: the previous chart, the upgrade, the
//! way back, the uninstallation, an operator that is gone before its orders. On a control plane of the test's own, since the
//! definitions and the roles for people are one set for all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::plane::{OPERATOR, OwnPlane, Plane};
use super::support::{Setup, World, objects};

const PREVIOUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/charts/dci-operator-0.1.0.tgz");
const CURRENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dci-operator");
const CRD: &str = "crd/dedicatedserverorders.dci-operator.dev";
const SYSTEM: &str = "dci-system";

/// The chart as this server can have it: an old one gets the definitions that it understands, with the chart's own template.
fn chart(plane: &Plane, source: &str, name: &str) -> PathBuf {
    let folder = plane.dir.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let shell = |command: &mut std::process::Command| assert!(command.status().unwrap().success(), "{command:?}");
    if Path::new(source).is_dir() {
        shell(std::process::Command::new("cp").arg("-r").arg(source).arg(&folder));
    } else {
        shell(std::process::Command::new("tar").arg("-xzf").arg(source).arg("-C").arg(&folder));
    }
    let chart = folder.join("dci-operator");
    if plane.minor < 25 {
        shell(std::process::Command::new(OPERATOR).args(["crds", "--for", "1.20", "--dir"]).arg(chart.join("files/crds")));
        let template = chart.join("templates/crds.yaml");
        let text = std::fs::read_to_string(&template).unwrap();
        assert!(text.contains("<1.25.0-0"), "the guard of old servers is not where it was");
        std::fs::write(&template, text.replace("<1.25.0-0", "<1.20.0-0")).unwrap();
    }
    chart
}

/// A token of the release's account, as a kubelet would hand it to the pod.
fn identity(plane: &Plane, kubeconfig: &Path) {
    let token = plane.kubectl(&["create", "token", "dci-operator", "--namespace", SYSTEM, "--duration", "1h"], None);
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    config["users"][0]["user"]["token"] = token.trim().into();
    std::fs::write(kubeconfig, serde_yaml::to_string(&config).unwrap()).unwrap();
}

fn helm(plane: &Plane, args: &[&str]) -> String {
    plane.helm(&[args, &["--namespace", SYSTEM]].concat())
}

/// Which chart a definition belongs to.
fn version(plane: &Plane) -> String {
    plane.kubectl(&["get", CRD, "-o", "jsonpath={.metadata.labels.helm\\.sh/chart}"], None)
}

/// The operator is replaced, as a rollout replaces its pod.
async fn rolled_out(world: &mut World) {
    let (status, _) = world.operator.take().unwrap().terminate().await;
    assert!(status.success(), "{status}");
    world.operator = Some(world.launch.start().await);
    world.polls(2).await;
}

#[tokio::test]
async fn a_release_is_installed_upgraded_rolled_back_and_removed_around_a_live_order() {
    let Some(own) = OwnPlane::start("chart") else { return };
    let plane = own.plane;
    let (previous, current) = (chart(plane, PREVIOUS, "previous"), chart(plane, CURRENT, "current"));
    let (previous, current) = (previous.to_str().unwrap(), current.to_str().unwrap());
    // The harness's own release makes place. The definitions were applied before, as some people do.
    helm(plane, &["uninstall", "dci-operator"]);
    helm(plane, &["install", "dci-operator", previous, "--set", "replicaCount=0", "--take-ownership"]);
    assert_eq!(version(plane), "dci-operator-0.1.0");
    identity(plane, &own.identity);
    let mut world = World::everywhere(plane, own.identity.clone(), Setup::default()).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    roles_for_people(&world).await;

    // Upgraded and rolled back, definitions included, while the order stays as it is.
    let before = world.changes();
    helm(plane, &["upgrade", "dci-operator", current, "--set", "replicaCount=0"]);
    assert_eq!(version(plane), "dci-operator-0.2.0");
    rolled_out(&mut world).await;
    helm(plane, &["rollback", "dci-operator", "1"]);
    assert_eq!(version(plane), "dci-operator-0.1.0");
    rolled_out(&mut world).await;
    assert_eq!(world.changes(), before, "nothing was done to a server");
    world.until_active("web-01").await;
    helm(plane, &["upgrade", "dci-operator", current, "--set", "replicaCount=0"]);
    rolled_out(&mut world).await;
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"domain": "www.example.net"}})).await;
    world.until_order("web-01", "has its new domain", |o| o["status"]["server"]["domain"] == "www.example.net").await;
    world.until_active("web-01").await;

    // Uninstalled: orders and definitions stay, and nobody's server is touched.
    let before = world.changes();
    world.operator.take().unwrap().terminate().await;
    let said = helm(plane, &["uninstall", "dci-operator"]);
    assert!(said.contains("kept due to the resource policy"), "{said}");
    assert_eq!(
        plane.kubectl(&["get", "clusterroles,deployments", "-A", "-l", "app.kubernetes.io/instance=dci-operator", "-o", "name"], None),
        ""
    );
    let shop = world.shop.clone();
    let order = |path: &str| plane.kubectl(&["get", "dso", "web-01", "-n", &shop, "-o", &format!("jsonpath={{{path}}}")], None);
    assert_eq!(order(".status.phase"), "Active");
    // Deleted while no operator is there: the finalizer holds the order, and its server with it.
    world.delete("DedicatedServerOrder", "web-01").await;
    assert!(order(".metadata.finalizers").contains("release-server"));
    assert_eq!(world.changes(), before);

    // Installed again it finds what was kept, without being told to take it over, and finishes what was asked for.
    helm(plane, &["install", "dci-operator", current, "--set", "replicaCount=0"]);
    identity(plane, &own.identity);
    world.operator = Some(world.launch.start().await);
    world.until_gone("web-01").await;
    world.assert_server_released(17);
    world.end().await;
}

/// docs/uninstall.md, word by word: an operator that goes before its orders, one order that is given up by hand, the rest in the
/// order that the page names, until nothing is left but what stands in its table.
#[tokio::test]
async fn everything_goes_in_the_order_that_is_documented() {
    const REMOVE: &str = r#"[{"op": "remove", "path": "/metadata/finalizers"}]"#;
    let Some(own) = OwnPlane::start("uninstall") else { return };
    let plane = own.plane;
    let page = include_str!("../../docs/uninstall.md");
    let mut world = World::everywhere(plane, own.identity.clone(), Setup::default()).await;
    let (shop, provider) = (world.shop.clone(), world.provider.clone());
    // A command of the page, with the names of here.
    let command = |line: &str, from: &str, to: &str| -> Vec<String> {
        assert!(page.contains(line), "the page does not say any more: {line}");
        let here = |word: &str| if word == "shop" { shop.clone() } else { word.replace("hosting", &provider).replace(from, to) };
        line.split(' ').skip(1).map(here).collect()
    };
    let run = async |world: &World, line: &str, from: &str, to: &str, more: &[&str]| {
        let words = command(line, from, to);
        let (code, said) = world.kubectl(&[&words.iter().map(String::as_str).collect::<Vec<_>>(), more].concat()).await;
        assert_eq!(code, 0, "{line}: {said}");
        said
    };
    for name in ["web-01", "web-02"] {
        world.order(name, &json!({})).await;
        world.until_active(name).await;
    }
    let server_of = |world: &World, name: &str| -> u64 {
        let order = world.record.get("DedicatedServerOrder", name).unwrap();
        order["status"]["server"]["id"].as_str().unwrap().parse().unwrap()
    };
    let (first, second) = (server_of(&world, "web-01"), server_of(&world, "web-02"));

    // The operator goes before its orders: nothing happens, and what is deleted waits.
    let before = world.changes();
    world.operator.take().unwrap().terminate().await;
    helm(plane, &["uninstall", "dci-operator"]);
    run(&world, "kubectl delete dso -n shop web-01", "web-01", "web-02", &["--wait=false"]).await;
    assert_eq!(world.record.get("DedicatedServerOrder", "web-01").unwrap()["status"]["phase"], "Active");
    // Left for good: the server stays with its client, with the note in it.
    let by_hand = "kubectl patch dso -n shop web-01 --type json -p";
    run(&world, by_hand, "web-01", "web-02", &[REMOVE]).await;
    world.until_gone("web-02").await;
    assert_eq!(world.server(second)["owner"], "acme");
    assert!(world.server(second)["notes"].as_str().unwrap().contains("/web-02/"), "{}", world.server(second));
    assert_eq!(world.changes(), before);

    // Installed again, and everything in its order: orders, handlers and IPManagers, the operator, the definitions.
    let current = chart(plane, CURRENT, "current");
    helm(plane, &["install", "dci-operator", current.to_str().unwrap(), "--set", "replicaCount=0", "--take-ownership"]);
    identity(plane, &own.identity);
    world.operator = Some(world.launch.start().await);
    run(&world, "kubectl delete dso --all --all-namespaces", "", "", &["--timeout=80s"]).await;
    world.until_gone("web-01").await;
    world.assert_server_released(first);
    run(&world, "kubectl delete ph,ipm --all --all-namespaces", "", "", &["--timeout=80s"]).await;
    assert!(page.contains("helm uninstall dci-operator --namespace dci-system"));
    world.operator.take().unwrap().terminate().await;
    let said = helm(plane, &["uninstall", "dci-operator"]);
    assert!(said.contains("kept due to the resource policy"), "{said}");

    // What an operator would hold, and none is there to let go: by hand, as the page has it.
    let (url, held) = (world.sim.url("dci").unwrap().to_owned(), json!(["dci-operator.dev/in-use"]));
    for mut object in [objects::handler(&url, &json!({})), objects::ip_manager(&url, &json!({}))] {
        object["metadata"]["finalizers"] = held.clone();
        world.create(&provider, object).await;
    }
    run(&world, "kubectl patch ph -n hosting msk-1 --type json -p", "", "", &[REMOVE]).await;
    run(&world, "kubectl patch ipm -n hosting main --type json -p", "", "", &[REMOVE]).await;
    run(&world, "kubectl delete ph,ipm -n hosting --all", "", "", &["--timeout=80s"]).await;
    let left = run(&world, "kubectl get dci --all-namespaces", "", "", &[]).await;
    assert!(left.contains("No resources found"), "{left}");
    assert!(page.contains("kubectl delete -f crds/"));
    plane.define(&["delete", "--timeout=80s", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")], None);
    let definitions = plane.define(&["get", "crd", "-o", "name"], None);
    assert!(!definitions.contains("dci-operator.dev"), "{definitions}");

    // What remains: the client's user, and the server that was given up.
    assert_eq!(world.server(second)["owner"], "acme");
    world.end().await;
}

/// Rolled back so far that an intent cannot be stored: then no server may be touched, since nobody would know of it
/// after a crash. Said is what helps, and with the right definitions it goes on.
#[tokio::test]
async fn definitions_that_are_too_old_keep_the_operator_from_touching_a_server() {
    let Some(own) = OwnPlane::start("outdated") else { return };
    let mut world = World::everywhere(own.plane, own.identity.clone(), Setup { run: false, ..Setup::default() }).await;
    let shop = world.shop.clone();
    let root = "/spec/versions/0/schema/openAPIV3Schema";
    let path = &format!("{root}/properties/status/properties/inFlight");
    let define = |patch: Value| own.plane.define(&["patch", CRD, "--type=json", "-p", &patch.to_string()], None);
    let mut older = vec![json!({"op": "remove", "path": path})];
    if own.plane.knows_rules() {
        // Rules speak of the field; in a definition that had none they would not.
        older.push(json!({"op": "remove", "path": format!("{root}/x-kubernetes-validations")}));
    }
    define(older.into());
    // The server takes notice in its own time. As long as it knows the field this one is not complete, and refused.
    world.order("probe", &json!({})).await;
    let began = std::time::Instant::now();
    let probe = ["patch", "dso", "probe", "-n", &shop, "--subresource=status", "--type=merge", "-p", r#"{"status": {"inFlight": {}}}"#];
    while world.kubectl(&probe).await.0 != 0 {
        assert!(began.elapsed().as_secs() < 60, "the server still knows the field");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    world.delete("DedicatedServerOrder", "probe").await;

    world.operator = Some(world.launch.start().await);
    world.order("web-01", &json!({})).await;
    let began = std::time::Instant::now();
    let events = ["get", "events.events.k8s.io", "-n", &shop, "--field-selector", "reason=CRDOutdated", "-o", "jsonpath={.items[*].note}"];
    while !world.kubectl(&events).await.1.contains("status.inFlight") {
        assert!(began.elapsed().as_secs() < 60, "nobody says that the definitions are too old");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    world.polls(3).await;
    // Making a user needs no intent: its name makes it happen once. Everything else does.
    assert_eq!(world.changes(), ["dci user.edit  name=acme"], "asked of a panel with no intent stored");
    define(json!([{"op": "add", "path": path, "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]));
    world.until_active("web-01").await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.end().await;
}

/// Editors of a namespace order servers there, and see neither handlers nor tasks, nor does an admin.
async fn roles_for_people(world: &World) {
    if std::env::var("DCI_KUBE_CONTROLLER_MANAGER").is_ok_and(|path| path.is_empty()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs a controller manager): roles_for_people");
        return;
    }
    let shop = world.shop.as_str();
    for role in ["view", "edit", "admin"] {
        let user = format!("--user={role}or");
        world.plane.kubectl(&["create", "rolebinding", role, "-n", shop, &format!("--clusterrole={role}"), &user], None);
    }
    let may = async |who: &str, verb: &str, what: &str| {
        let (what, sub) = what.split_once('/').unwrap_or((what, ""));
        let (what, sub) = (format!("{what}.dci-operator.dev"), format!("--subresource={sub}"));
        let who = format!("--as={who}");
        world.kubectl(&["auth", "can-i", verb, &what, &sub, "-n", shop, &who]).await.0 == 0
    };
    // Roles are aggregated by a controller, in its own time.
    let began = std::time::Instant::now();
    while !may("editor", "create", "dedicatedserverorders").await {
        assert!(began.elapsed().as_secs() < 60, "the role edit does not get what dci-edit has");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let rows = [
        ("viewor", "get", "dedicatedserverorders", true),
        ("viewor", "delete", "dedicatedserverorders", false),
        ("editor", "delete", "dedicatedserverorders", true),
        ("editor", "deletecollection", "dedicatedserverorders", false),
        ("editor", "update", "dedicatedserverorders/status", false),
        ("adminor", "get", "processinghandlers", false),
        ("adminor", "get", "manualtasks", false),
    ];
    for (who, verb, what, allowed) in rows {
        assert_eq!(may(who, verb, what).await, allowed, "{who} {verb} {what}");
    }
}
