//! `kubectl dci` against a real API server: what it shows, what it closes, what it plans, and what it says when it cannot.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::support::objects::{self, merged};
use super::support::{Setup, World};

const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-dci");

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

async fn run(kubeconfig: &Path, args: &[&str], stdin: &str) -> Ended {
    let mut command = Command::new(PLUGIN);
    command.args(args).env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that does not read its input has closed it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A command that succeeds, as the cluster's administrator.
async fn shown(world: &World, args: &[&str]) -> String {
    let ended = run(&world.plane.kubeconfig, args, "").await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{args:?}: {}", ended.out);
    for secret in &world.secrets {
        assert!(!ended.out.contains(secret), "{args:?}: {}", ended.out);
    }
    ended.out
}

/// One that fails, with one line that says why.
async fn refused(kubeconfig: &Path, args: &[&str], parts: &[&str]) {
    let ended = run(kubeconfig, args, "").await;
    assert_eq!(ended.code, 1, "{args:?}: {}{}", ended.out, ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{args:?}: {}", ended.err);
    assert!(ended.err.starts_with("kubectl-dci: "), "{}", ended.err);
    for part in parts {
        assert!(ended.err.contains(part), "{args:?}: {part}: {}", ended.err);
    }
}

/// How wide a column is depends on what is in it.
fn narrow(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.join("\n")
}

fn all_in(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(narrow(text).contains(&narrow(part)), "{part}\n{text}");
    }
}

/// A kubeconfig of somebody who has one of the chart's roles in a namespace.
async fn person(world: &World, name: &str, namespace: &str, role: &str) -> PathBuf {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    world.create(&world.system, account).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": world.system, "name": name}],
    });
    world.create(namespace, binding).await;
    world.identity_of(name).await
}

fn manifest(world: &World, name: &str, spec: &Value) -> String {
    let handler = json!({"handlerRef": {"namespace": world.provider}});
    let mut order = merged(objects::order(name, &handler), &json!({"spec": spec}));
    order["metadata"]["namespace"] = world.shop.clone().into();
    serde_yaml::to_string(&order).unwrap()
}

#[tokio::test]
async fn an_active_order_its_handler_and_plans() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until_active("web-01").await;
    let counted = |status: &Value| status["inventory"]["free"] == 2 && status["orders"]["ready"] == 1;
    let handler = |world: &World| counted(&world.record.get("ProcessingHandler", "msk-1")?["status"]).then_some(());
    world.until("the handler has counted", handler).await;
    let (shop, provider) = (world.shop.clone(), world.provider.clone());

    let text = shown(&world, &["status", "web-01", "-n", &shop]).await;
    let handler = format!("Handler:   {provider}/msk-1");
    all_in(
        &text,
        &[
            &format!("Order:     {shop}/web-01 ("),
            "Phase:     Active, 100%",
            "Ready:     True Active: the server is prepared",
            "Server:    17 (R1-17), E3-16G, power On",
            &handler,
            "Domain:    web-01.example.net",
            "STEP            STATE     SINCE",
            "Assemble        Skipped",
            "HandOver        Done",
        ],
    );
    assert!(text.ends_with("\nnext: nothing: the client has the server\n"), "{text}");

    let text = shown(&world, &["inventory", "msk-1", "--namespace", &provider]).await;
    all_in(
        &text,
        &["Ready:     True Reachable", "Servers:   2 free of 4", "E3-16G          1      3       0", "E5-64G          1      1       0"],
    );
    assert!(narrow(&text).contains("Orders: 1, 1 ready, 0 wait for a task"), "{text}");

    let before = world.changes();
    plans(&world, &shop).await;
    assert_eq!(world.changes(), before, "a plan changes nothing");
    assert!(world.record.get("DedicatedServerOrder", "web-02").is_none());
    as_others_may(&world).await;
    world.end().await;
}

async fn plans(world: &World, shop: &str) {
    let admin = &world.plane.kubeconfig;
    let file = std::env::temp_dir().join(format!("dci-operator-plan-{shop}.yaml"));
    let unchanged = manifest(world, "web-01", &json!({"addresses": {"ipv4": 2}}));
    std::fs::write(&file, format!("{}---\n{unchanged}", manifest(world, "web-02", &json!({"recipes": ["ISPsystem__nginx.sh"]})))).unwrap();
    let text = shown(world, &["plan", "-f", file.to_str().unwrap()]).await;
    std::fs::remove_file(&file).unwrap();
    all_in(
        &text,
        &[
            "/web-02: new\nmanifest: valid\n",
            "ok   it is Ready",
            "ok   IPManager main is Ready",
            "ok   1 of 3 servers of type E3-16G are free",
            "5   InstallOS       installs template ISPsystem__Debian-12-x86_64 with recipe ISPsystem__nginx.sh",
            "result: the steps above are taken",
            "/web-01: exists, and the client has its server\n",
            "changes: none",
        ],
    );
    let plan = |text: String| async move { run(admin, &["plan", "-f", "-", "-n", shop], &text).await };
    let wiped = plan(manifest(world, "web-01", &json!({"addresses": {"ipv4": 1}, "reinstall": "now"}))).await;
    assert_eq!(wiped.code, 0, "{}", wiped.err);
    all_in(
        &wiped.out,
        &[
            "spec.addresses.ipv4   2    1         at once",
            "WIPES DATA",
            "result: the changes above are made; THE DATA ON THE SERVER ARE LOST",
        ],
    );
    for (name, spec, part) in [
        ("web-01", json!({"addresses": {"ipv4": 2}, "configuration": {"serverType": "E5-64G"}}), "result: REFUSED: spec.configuration"),
        ("web-02", json!({"domain": "free.ds"}), "manifest: INVALID\n  - spec.domain: domain free.ds"),
        ("web-02", json!({"recipe": "x"}), "spec.recipe: there is no such field"),
        ("web-02", json!({"client": null}), "missing field `client`"),
        ("web-02", json!({"handlerRef": {"name": "nowhere"}}), "nowhere does not exist"),
        ("web-02", json!({"deletionPolicy": "Orphan"}), "STOPS   deletionPolicy Orphan is not allowed"),
    ] {
        let ended = plan(manifest(world, name, &spec)).await;
        assert_eq!(ended.code, 1, "{}", ended.out);
        assert!(ended.out.contains(part), "{part}\n{}", ended.out);
        assert_eq!(ended.err, "kubectl-dci: 1 of 1 orders would be refused or stand still; the plan says why\n");
    }
    let sold_out = plan(manifest(world, "web-02", &json!({"configuration": {"serverType": "E7"}}))).await;
    assert_eq!(sold_out.code, 0, "waiting is no error: {}", sold_out.err);
    all_in(&sold_out.out, &["result: the order waits, and goes on by itself: its panel has no server of type E7"]);
}

/// The author of orders sees no handlers; whoever has no right is told which one it takes.
async fn as_others_may(world: &World) {
    let (shop, provider) = (world.shop.as_str(), world.provider.as_str());
    let author = person(world, "author", shop, "dci-edit").await;
    let ended = run(&author, &["plan", "-f", "-"], &manifest(world, "web-02", &json!({}))).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    all_in(&ended.out, &[&format!("handler: unknown: you may not get processinghandlers in namespace {provider}"), "1   CreateClient"]);
    let ended = run(&author, &["status", "web-01", "-n", shop], "").await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    refused(&author, &["inventory", "msk-1", "-n", provider], &["you may not get processinghandlers", "role dci-admin"]).await;
    refused(&author, &["tasks", "-A"], &["you may not list manualtasks in all namespaces", "role dci-department"]).await;
    refused(&author, &["status", "web-01", "-n", "default"], &["you may not get dedicatedserverorders in namespace default"]).await;
    let admin = &world.plane.kubeconfig;
    refused(admin, &["status", "none", "-n", shop], &[&format!("order {shop}/none does not exist"), "-n"]).await;
    refused(admin, &["inventory", "none", "-n", shop], &[&format!("handler {shop}/none does not exist")]).await;
    refused(admin, &["close", "none", "Done", "-n", shop], &[&format!("task {shop}/none does not exist")]).await;
    refused(admin, &["status", "web-01", "--context", "none"], &["no cluster", "none", "--context"]).await;
    refused(Path::new("/nowhere"), &["status", "web-01", "--kubeconfig", "/nowhere/config"], &["no cluster", "/nowhere/config"]).await;
    refused(admin, &["plan", "-f", "/nowhere/order.yaml"], &["/nowhere/order.yaml", "for the standard input"]).await;
    let other = manifest(world, "web-02", &json!({}));
    let ended = run(admin, &["plan", "-f", "-", "-n", "default"], &other).await;
    assert!(ended.code == 1 && ended.err.contains("-n says default"), "{}", ended.err);
    // Usage errors are kubectl's, too: 1, not 2.
    assert_eq!(run(admin, &["status"], "").await.code, 1);
    // The context of another kubeconfig, and its namespace.
    let ended =
        run(Path::new("/nowhere"), &["status", "web-01", "--kubeconfig", author.to_str().unwrap(), "--context", "operator"], "").await;
    assert!(ended.err.contains(&format!("in namespace {}", world.system)), "{}", ended.err);
}

#[tokio::test]
async fn a_department_lists_its_tasks_and_closes_one() {
    let mut world = World::start(Setup::default().handler(&json!({"ipmiErrorPolicy": "CreateTask"}))).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let (shop, provider) = (world.shop.clone(), world.provider.clone());
    let department = person(&world, "department", &provider, "dci-department").await;
    let ended = run(&department, &["tasks", "-n", &provider], "").await;
    assert_eq!((ended.code, ended.out.as_str(), ended.err), (0, "", format!("No open tasks in namespace {provider}.\n")));

    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    let waits = |o: &Value| o["status"]["waitingOn"]["kind"] == "Department";
    let order = world.until_order("web-01", "waits for the department", waits).await;
    let name = order["status"]["waitingOn"]["name"].as_str().unwrap().to_owned();
    world.until("the task is there", |world| world.record.get("ManualTask", &name)).await;

    let ended = run(&department, &["tasks", "-n", &provider, "--department", "Operations"], "").await;
    let lines: Vec<Vec<&str>> = ended.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "TYPE", "DEPARTMENT", "ORDER", "AGE", "DEADLINE", "ANSWERS"]);
    let order = format!("{shop}/web-01");
    assert_eq!(lines[1][..4], [name.as_str(), "StopServer", "Operations", &order]);
    assert_eq!((lines.len(), lines[1][6]), (2, "Done,Retry,Abandon"));
    let ended = run(&department, &["tasks", "-n", &provider, "--department", "Assembly"], "").await;
    assert_eq!(ended.out, "");
    let text = shown(&world, &["status", "web-01", "-n", &shop]).await;
    all_in(
        &text,
        &[
            "Phase:        Deleting",
            "OPEN TASK",
            // Also while the panel's next list is awaited.
            &format!("next: department Operations: kubectl dci close -n {provider} {name} Done|Retry|Abandon"),
        ],
    );

    refused(&department, &["close", &name, "Cancelled", "-n", &provider], &[&name, "it takes Done,Retry,Abandon", "not cancelled"]).await;
    refused(&department, &["close", &name, "-n", &provider], &["say how it is closed", "Done,Retry,Abandon"]).await;
    refused(&department, &["close", &name, "Fixed", "-n", &provider], &["there is no answer `Fixed`"]).await;
    assert!(world.record.get("ManualTask", &name).unwrap()["spec"]["resolution"].is_null());
    let ended = run(&department, &["close", &name, "Done", "--note", "pulled the plug", "-n", &provider], "").await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    all_in(&ended.out, &[&format!("task {provider}/{name} closed: Done\nnext: the server counts as off")]);
    world.until_gone("web-01").await;
    world.assert_released(17);
    let task = world.record.get("ManualTask", &name).unwrap();
    assert_eq!((&task["spec"]["resolution"], &task["spec"]["note"]), (&json!("Done"), &json!("pulled the plug")));

    refused(&department, &["close", &name, "Retry", "-n", &provider], &["is closed already (Done)"]).await;
    let text = shown(&world, &["tasks", "-A", "--all"]).await;
    let line = text.lines().find(|l| l.contains(&name)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.starts_with(&provider) && line.ends_with("Done"), "{text}");
    through_kubectl(&world).await;
    world.end().await;
}

/// kubectl finds it in PATH by its name.
async fn through_kubectl(world: &World) {
    let path = format!("{}:{}", Path::new(PLUGIN).parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = world.plane.kubectl_command();
    let output = command.env("PATH", path).args(["dci", "tasks", "--all", "-n", &world.provider]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("StopServer"));
}
