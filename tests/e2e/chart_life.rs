//! A release from its installation to its end, with an order that lives through all of it: the previous chart, the upgrade, the
//! way back, the uninstallation, an operator that is gone before its orders. On a control plane of the test's own, since the
//! definitions and the roles for people are one set for all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::plane::{OPERATOR, OwnPlane, Plane, plane};
use super::support::world::random;
use super::support::{Setup, World, objects};

const PREVIOUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/charts/dci-operator-0.1.0.tgz");
const CURRENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dci-operator");
const CRD: &str = "crd/dedicatedserverorders.dci-operator.dev";
const SYSTEM: &str = "dci-system";

/// The chart as this server can have it: an old one gets the definitions that it understands, as this program writes them, with the
/// chart's own template.
fn chart(plane: &Plane, source: &str, name: &str, program: &Path) -> PathBuf {
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
        shell(std::process::Command::new(program).args(["crds", "--for", "1.20", "--dir"]).arg(chart.join("files/crds")));
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

/// The operator is replaced by this program, as a rollout replaces its pod.
async fn rolled_out(world: &mut World, program: &Path) {
    let (status, _) = world.operator.take().unwrap().terminate().await;
    assert!(status.success(), "{status}");
    program.clone_into(&mut world.launch.program);
    world.operator = Some(world.launch.start().await);
    world.polls(2).await;
}

/// The program of the release before: `DCI_PREVIOUS_OPERATOR`, where somebody has built it. Otherwise today's stands for it, which shows
/// charts and definitions of two versions, and one version of the program.
fn previous_program() -> PathBuf {
    std::env::var_os("DCI_PREVIOUS_OPERATOR").map_or_else(
        || {
            let what =
                "a_release_is_installed_upgraded_rolled_back_and_removed_around_a_live_order, with the program of the release before";
            let _ = writeln!(std::io::stderr(), "SKIPPED (needs DCI_PREVIOUS_OPERATOR): {what}");
            OPERATOR.into()
        },
        PathBuf::from,
    )
}

/// What the release's Deployment and its `ConfigMap` say of the user's values, and of one that the previous chart did not have.
fn values_in_force(plane: &Plane) -> [String; 3] {
    let get = |what: &str, path: &str| plane.kubectl(&["get", what, "-n", SYSTEM, "-o", &format!("jsonpath={{{path}}}")], None);
    let env = |name: &str| get("deployment/dci-operator", &format!(".spec.template.spec.containers[0].env[?(@.name==\"{name}\")].value"));
    let level = match version(plane).as_str() {
        "dci-operator-0.1.0" => env("DCI_OPERATOR_LOG"),
        _ => get("configmap/dci-operator-logging", ".data.filter"),
    };
    [level.trim().to_owned(), get("deployment/dci-operator", ".spec.template.metadata.labels.team"), env("DCI_OPERATOR_DENIED_NETWORKS")]
}

#[tokio::test]
async fn a_release_is_installed_upgraded_rolled_back_and_removed_around_a_live_order() {
    let Some(own) = OwnPlane::start("chart") else { return };
    let plane = own.plane;
    let (older, today) = (previous_program(), PathBuf::from(OPERATOR));
    let (previous, current) = (chart(plane, PREVIOUS, "previous", &older), chart(plane, CURRENT, "current", &today));
    let (previous, current) = (previous.to_str().unwrap(), current.to_str().unwrap());
    // The harness's own release makes place. The definitions were applied before, as some people do, by today's program: they differ.
    helm(plane, &["uninstall", "dci-operator"]);
    assert!(include_str!("../../charts/dci-operator/README.md").contains("`--take-ownership --force-conflicts`"));
    let values = ["--set", "replicaCount=0", "--set", "logLevel=debug", "--set", "podLabels.team=hosting"];
    helm(plane, &[&["install", "dci-operator", previous, "--take-ownership", "--force-conflicts"], &values[..]].concat());
    assert_eq!(version(plane), "dci-operator-0.1.0");
    assert_eq!(values_in_force(plane), ["debug", "hosting", ""]);
    identity(plane, &own.identity);
    let mut world = World::everywhere(plane, own.identity.clone(), Setup { run: false, ..Setup::default() }).await;
    world.launch.program.clone_from(&older);
    world.operator = Some(world.launch.start().await);
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    roles_for_people(&world).await;

    // Upgraded and rolled back, definitions included, while the order stays as it is. What the user has set stays, and what is new has
    // its default.
    assert!(include_str!("../../docs/upgrades.md").contains("`helm upgrade --reset-then-reuse-values`"));
    let upgrade = ["upgrade", "dci-operator", current, "--reset-then-reuse-values"];
    let before = world.changes();
    helm(plane, &upgrade);
    assert_eq!(version(plane), "dci-operator-0.2.0");
    assert_eq!(values_in_force(plane), ["debug", "hosting", dci_operator::panel::denied::DEFAULT]);
    assert_eq!(plane.kubectl(&["get", "deployment/dci-operator", "-n", SYSTEM, "-o", "jsonpath={.spec.replicas}"], None), "0");
    rolled_out(&mut world, &today).await;
    helm(plane, &["rollback", "dci-operator", "1"]);
    assert_eq!(version(plane), "dci-operator-0.1.0");
    assert_eq!(values_in_force(plane), ["debug", "hosting", ""]);
    rolled_out(&mut world, &older).await;
    assert_eq!(world.changes(), before, "nothing was done to a server");
    world.until_active("web-01").await;
    helm(plane, &upgrade);
    rolled_out(&mut world, &today).await;
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

/// A strategy that was not written out is the server's, which takes it for nobody's: `Recreate` beside its fields is refused. As Helm 4
/// applies, which lets the server merge, and as Helm 3 did.
#[test]
fn taking_turns_is_switched_off_and_on_again_on_a_live_release() {
    let plane = plane();
    for merges in ["--server-side=true", "--server-side=false"] {
        let namespace = format!("turns-{}", random());
        plane.kubectl(&["create", "namespace", &namespace], None);
        let watch = format!("watchNamespaces={{{namespace}}}");
        let values = ["--set", &watch, "--set", "clusterId=e2e,crds.enabled=false,rbac.userRoles=false"];
        let helm = |what: &[&str]| plane.helm(&[what, &["--namespace", &namespace]].concat());
        let deployment = ["get", "deployment", "live-dci-operator", "-n", &namespace, "-o", "json"];
        let strategy = || {
            let deployment: Value = serde_json::from_str(&plane.kubectl(&deployment, None)).unwrap();
            let strategy = &deployment["spec"]["strategy"];
            assert_eq!(strategy["type"] == "RollingUpdate", strategy["rollingUpdate"].is_object(), "{strategy}");
            strategy["type"].as_str().unwrap().to_owned()
        };
        helm(&[&["install", "live", CURRENT, merges], &values[..]].concat());
        assert_eq!(strategy(), "RollingUpdate");
        helm(&[&["upgrade", "live", CURRENT, "--set", "leaderElection.enabled=false"], &values[..]].concat());
        assert_eq!(strategy(), "Recreate");
        helm(&[&["upgrade", "live", CURRENT], &values[..]].concat());
        assert_eq!(strategy(), "RollingUpdate");
        helm(&["rollback", "live", "2"]);
        assert_eq!(strategy(), "Recreate");
        helm(&["rollback", "live", "1"]);
        assert_eq!(strategy(), "RollingUpdate");
        helm(&["uninstall", "live"]);
    }
}

/// docs/uninstall.md, word by word: an operator that goes before its orders, one order that is given up by hand, the rest in the
/// order that the page names, until nothing is left but what stands in its table.
#[tokio::test]
async fn everything_goes_in_the_order_that_is_documented() {
    const REMOVE: &str = r#"[{"op": "remove", "path": "/metadata/finalizers"}]"#;
    let Some(own) = OwnPlane::start("uninstall") else { return };
    let plane = own.plane;
    let page = include_str!("../../docs/uninstall.md");
    let setup = Setup { args: vec!["--leader-elect".to_owned()], ..Setup::default() };
    let mut world = World::everywhere(plane, own.identity.clone(), setup).await;
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
    world.record.taken_out(&format!("{}/web-02", world.shop));
    assert_eq!(world.server(second)["owner"], "acme");
    assert!(world.server(second)["notes"].as_str().unwrap().contains("/web-02/"), "{}", world.server(second));
    assert_eq!(world.changes(), before);

    // Installed again, and everything in its order: orders, handlers and IPManagers, the operator, the definitions.
    let current = chart(plane, CURRENT, "current", Path::new(OPERATOR));
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
    assert!(page.contains("Wait until the orders' Secrets are gone"));
    secrets_of_orders_are_gone(&world).await;
    assert!(page.contains("kubectl delete -f crds/"));
    plane.define(&["delete", "--timeout=80s", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")], None);
    let definitions = plane.define(&["get", "crd", "-o", "name"], None);
    assert!(!definitions.contains("dci-operator.dev"), "{definitions}");

    // What remains: the client's user, the server that was given up, and the rows of the table.
    assert_eq!(world.server(second)["owner"], "acme");
    what_remains(&world, page, second);
    world.end().await;
}

/// Whether somebody collects what is left, and aggregates roles.
fn has_controllers() -> bool {
    !std::env::var("DCI_KUBE_CONTROLLER_MANAGER").is_ok_and(|path| path.is_empty())
}

/// Secrets of people and of orders in a namespace.
fn secrets(world: &World, namespace: &str) -> Vec<String> {
    let filter = r#"jsonpath={range .items[?(@.type!="kubernetes.io/service-account-token")]}{.metadata.name}{"\n"}{end}"#;
    world.plane.kubectl(&["get", "secrets", "-n", namespace, "-o", filter], None).lines().map(str::to_owned).collect()
}

/// The orders' own Secrets go with them: the garbage collector takes its time for that, and has to know the orders' kind.
async fn secrets_of_orders_are_gone(world: &World) {
    let began = std::time::Instant::now();
    while has_controllers() && !secrets(world, &world.shop).is_empty() {
        assert!(began.elapsed().as_secs() < 90, "{:?}", secrets(world, &world.shop));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Secrets and Leases are those that the page's table has, and no others.
fn what_remains(world: &World, page: &str, given_up: u64) {
    for row in [
        "| order's namespace | Secrets `<order>-root`, `<order>-panel`,",
        "| handler's namespace | the Secrets with log-ins",
        "| `dci-system` | the Lease of the leader election, called like the Deployment",
        "| `dci-system` | Leases of servers that are still allocated",
        "| cluster | the namespaces,",
    ] {
        assert!(page.contains(row), "the table of what remains has no row {row}");
    }
    let names = |namespace: &str| secrets(world, namespace);
    assert_eq!(names(&world.provider), ["dci-admin", "ipm-user"]);
    assert!(!has_controllers() || names(&world.shop).is_empty(), "{:?}", names(&world.shop));
    let leases: Value = serde_json::from_str(&world.plane.kubectl(&["get", "leases", "-n", SYSTEM, "-o", "json"], None)).unwrap();
    let of = |lease: &Value, annotation: &str| lease["metadata"]["annotations"][format!("dci-operator.dev/{annotation}")].clone();
    let held: Vec<_> = leases["items"].as_array().unwrap().iter().map(|lease| (of(lease, "server"), of(lease, "order"))).collect();
    let (leader, lock) = ((Value::Null, Value::Null), (json!(given_up.to_string()), json!(format!("{}/web-02", world.shop))));
    assert!(held.len() == 2 && held.contains(&leader) && held.contains(&lock), "{leases:#}");
    assert_eq!(leases["items"].as_array().unwrap().iter().filter(|lease| lease["metadata"]["name"] == "dci-operator").count(), 1);
    assert!(world.plane.try_kubectl(&["get", "namespace", SYSTEM]));
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
    if !has_controllers() {
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
