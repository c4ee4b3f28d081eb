//! Letting go: servers that stay with their client, orders that are protected, handlers that are gone, and what is astray.

use serde_json::{Value, json};

use super::support::hands::{down, restore, up};
use super::support::kstatus::{condition, is_true};
use super::support::plane::{OwnPlane, plane};
use super::support::{Setup, World};

/// A handler that allows both policies.
fn both() -> Setup {
    Setup::default().handler(&json!({"allowedDeletionPolicies": ["Release", "Orphan"]}))
}

fn open_task(world: &World, type_: &str) -> Option<Value> {
    world.record.all("ManualTask").into_iter().find(|t| t["spec"]["type"] == type_ && t["spec"]["resolution"].is_null())
}

async fn close(world: &World, task: &Value, resolution: &str) {
    let name = task["metadata"]["name"].as_str().unwrap();
    world.patch("ManualTask", name, &json!({"spec": {"resolution": resolution, "note": "by hand"}})).await;
}

fn message(order: &Value, type_: &str) -> String {
    condition(order, type_).unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_orphaned_server_stays_with_its_client_change_by_change() {
    let mut world = World::start(both()).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}, "deletionPolicy": "Orphan"})).await;
    world.until_active("web-01").await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    let (before, changes) = (world.server(17), world.changes().len());
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    let expected = ["ipm ip.edit 203.0.113.10", "ipm ip.edit 203.0.113.11", "dci server.edit 17 owner=4 notes="];
    let made = world.changes()[changes..].to_vec();
    assert_eq!(made.len(), expected.len(), "{made:#?}");
    for (line, start) in made.iter().zip(expected) {
        assert!(line.starts_with(start) && !line.contains("k8s:"), "{line}");
    }
    let mut left = before;
    left["notes"] = "".into();
    let now = world.server(17);
    for field in ["owner", "power", "hostname", "ip", "ips", "notes", "installed"] {
        assert_eq!(now[field], left[field], "{field}");
    }
    assert!(world.taken().contains_key("203.0.113.11") && world.taken().values().all(|note| !note.contains("k8s:")));
    // Nothing of it is astray: the handler has read its notes anew.
    world.polls(4).await;
    let handler = world.record.get("ProcessingHandler", "msk-1").unwrap();
    assert!(handler["status"]["orphans"].is_null(), "{}", handler["status"]);
    world.end().await;
}

#[tokio::test]
async fn a_policy_that_is_not_allowed_and_a_protection_hold_the_server() {
    let mut world = World::start(Setup::default()).await;
    world.order("forbidden", &json!({"deletionPolicy": "Orphan", "client": {"username": "other"}})).await;
    let refused = world.until_reason("DedicatedServerOrder", "forbidden", "Stalled", "DeletionPolicyForbidden").await;
    assert!(message(&refused, "Stalled").contains("spec.deletionPolicy to Release"), "{}", message(&refused, "Stalled"));
    assert!(world.changes().is_empty());
    world.order("web-01", &json!({"deletionProtection": true})).await;
    world.until_active("web-01").await;
    // Where policies do not stop it the finalizer does.
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    let held = world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "DeletionProtected").await;
    let text = message(&held, "Stalled");
    assert!(text.contains("deletionPolicy: Release") && text.contains("deletionPolicy: Orphan"), "{text}");
    world.polls(3).await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    // One way out, which the handler does not allow yet, and then does.
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"deletionProtection": false, "deletionPolicy": "Orphan"}})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "DeletionPolicyForbidden").await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"allowedDeletionPolicies": ["Release", "Orphan"]}})).await;
    world.until_gone("web-01").await;
    assert_eq!((&world.server(17)["owner"], &world.server(17)["power"]), (&json!("acme"), &json!("on")));
    world.until_active("forbidden").await;
    world.end().await;
}

#[tokio::test]
async fn an_order_whose_handler_was_removed_by_force_is_ended_by_a_person_and_told_when_it_is_back() {
    let mut world = World::start(Setup { args: vec!["--handler-grace=2s".into()], ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let mut handler = world.record.get("ProcessingHandler", "msk-1").unwrap();
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"finalizers": null}})).await;
    world.delete("ProcessingHandler", "msk-1").await;
    // The operator puts its finalizer back when it sees it in time.
    world
        .until("the handler is on its way", |world| {
            world.record.get("ProcessingHandler", "msk-1").is_none_or(|h| h["metadata"]["deletionTimestamp"].is_string()).then_some(())
        })
        .await;
    if world.record.get("ProcessingHandler", "msk-1").is_some() {
        world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"finalizers": null}})).await;
    }
    world.until("the handler is gone", |world| world.record.get("ProcessingHandler", "msk-1").is_none().then_some(())).await;
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    let task = world.until("a task", |world| open_task(world, "FailedOperation")).await;
    let details = task["spec"]["details"].as_str().unwrap();
    assert!(task["spec"]["department"] == "Operations" && details.contains("server 17") && details.contains("203.0.113.10"), "{details}");
    close(&world, &task, "Abandon").await;
    world.until_gone("web-01").await;
    let name = task["metadata"]["name"].as_str().unwrap();
    let outcome =
        world.until("the record", |world| world.record.get("ManualTask", name)?["status"]["outcome"].as_str().map(str::to_owned)).await;
    assert!(outcome.contains("given up") && outcome.contains("server 17") && outcome.contains("/web-01"), "{outcome}");
    assert!(outcome.contains("addresses: 203.0.113.10"), "{outcome}");
    assert!(world.said("given up without the panel's confirmation"));
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    assert_eq!(world.server(17)["owner"], "acme");
    // The handler is made anew, and remembers its clients: the server that nobody answers for is told.
    let clients = handler["status"]["clients"].clone();
    handler["metadata"] = json!({"name": "msk-1"});
    handler["status"].take();
    handler["apiVersion"] = "dci-operator.dev/v1alpha1".into();
    world.create(&world.provider, handler).await;
    assert_eq!(clients[0]["username"], "acme");
    world.order("web-02", &json!({})).await;
    world.until_active("web-02").await;
    let told = world
        .until("the orphan is told", |world| world.record.get("ProcessingHandler", "msk-1").filter(|h| h["status"]["orphanCount"] == 1))
        .await;
    let orphan = &told["status"]["orphans"][0];
    assert!(orphan["server"] == "17" && orphan["marker"].as_str().unwrap().contains("/web-01/"), "{}", told["status"]);
    super::tasks::until_metric(&world, &format!("dci_operator_orphan_servers{{handler=\"{}/msk-1\"}} 1", world.provider)).await;
    world.polls(3).await;
    assert_eq!(world.server(17)["owner"], "acme", "nothing is done with it");
    // A server that goes leaves a ghost.
    world.sim.change_server(19, json!({"delete": true})).unwrap();
    world
        .until("the ghost is told", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-1")?;
            (handler["status"]["ghosts"][0]["server"] == "19").then_some(())
        })
        .await;
    world.end().await;
}

/// The server was sold to somebody else by hand, while the status of its order was lost: only its address still names the order.
#[tokio::test]
async fn an_order_that_is_given_up_while_its_handlers_are_looked_through_is_recorded_too() {
    let mut world = World::start(Setup::default()).await;
    let order = "DedicatedServerOrder";
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}})).await;
    let selector = json!({"handlerRef": null, "handlerSelector": {"namespace": world.provider, "matchLabels": {"zone": "msk"}}});
    world.order("web-01", &selector).await;
    world.until_active("web-01").await;
    let before = world.changes().len();
    down(&mut world).await;
    world.record.by_hand("17");
    world.record.by_hand(world.server(17)["ip"].as_str().unwrap());
    world.sim.change_server(17, json!({"notes": ""})).unwrap();
    restore(&mut world, "web-01", &json!({})).await;
    world.delete(order, "web-01").await;
    up(&mut world).await;
    let task = world.until("a task", |world| open_task(world, "FailedOperation")).await;
    close(&world, &task, "Abandon").await;
    world.until_gone("web-01").await;
    let name = task["metadata"]["name"].as_str().unwrap();
    let outcome =
        world.until("the record", |world| world.record.get("ManualTask", name)?["status"]["outcome"].as_str().map(str::to_owned)).await;
    assert!(outcome.contains("given up") && outcome.contains("/web-01"), "{outcome}");
    assert!(world.said("given up without the panel's confirmation"));
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    world.end().await;
}

#[tokio::test]
async fn credentials_that_are_gone_become_a_task_and_closing_goes_on_when_they_are_back() {
    let mut world = World::start(Setup { args: vec!["--handler-grace=2s".into()], ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let provider = world.provider.clone();
    let (code, text) = world.kubectl(&["delete", "secret", "dci-admin", "-n", &provider]).await;
    assert_eq!(code, 0, "{text}: a user's Secret is never held");
    world.until_reason("ProcessingHandler", "msk-1", "CredentialsValid", "CredentialsMissing").await;
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_order("web-01", "says when it asks", |o| o["status"]["waitingOn"]["deadline"].is_string()).await;
    let task = world.until("a task", |world| open_task(world, "FailedOperation")).await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    let secret = super::support::objects::secret("dci-admin", &Setup::default().credentials);
    world.create(&provider, secret).await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    world.until("the task is closed", |world| (world.record.get("ManualTask", &name)?["status"]["phase"] == "Closed").then_some(())).await;
    world.end().await;
}

/// The order's namespace takes no new objects any more: the task is the provider's, and lives in the provider's namespace.
#[tokio::test]
async fn a_namespace_with_a_server_that_cannot_be_stopped_waits_for_the_department() {
    let Some(own) = OwnPlane::start("letting-go") else { return };
    let setup = Setup::default().handler(&json!({"ipmiErrorPolicy": "CreateTask"}));
    let mut world = World::everywhere(own.plane, own.identity.clone(), setup).await;
    let shop = world.shop.clone();
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    let before = world.changes().len();
    let (code, text) = world.kubectl(&["delete", "namespace", &shop, "--wait=false"]).await;
    assert_eq!(code, 0, "{text}");
    let task = world.until("a StopServer task", |world| open_task(world, "StopServer")).await;
    assert_eq!(task["metadata"]["namespace"], world.provider.as_str());
    world.polls(3).await;
    assert_eq!(world.server(17)["owner"], "acme", "nothing is released while the task is open");
    let (_, text) = world.kubectl(&["get", "namespace", &shop, "-o", "jsonpath={.status.phase}"]).await;
    assert_eq!(text, "Terminating");
    close(&world, &task, "Done").await;
    world.until_gone("web-01").await;
    world.assert_server_released(17);
    let changes = world.changes()[before..].to_vec();
    assert!(changes[0].starts_with("dci server.poweroff 17") && changes.last().unwrap().starts_with("dci server.edit 17"), "{changes:#?}");
    let (code, text) = world.kubectl(&["wait", "--for=delete", &format!("namespace/{shop}"), "--timeout=60s"]).await;
    assert_eq!(code, 0, "{text}");
    world.end().await;
}

/// What the chart ships for servers that know policies.
#[test]
fn policies_are_rendered_where_the_server_knows_them() {
    let render = |args: &[&str]| plane().render(&[&["--namespace", "dci-system"], args].concat());
    let current = ["--kube-version", "1.33.0"];
    let text = render(&current);
    let policies: Vec<Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap())
        .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.starts_with("ValidatingAdmissionPolicy")))
        .collect();
    assert_eq!(policies.len(), 6, "three policies with their bindings");
    let bound =
        |name: &Value| policies.iter().any(|p| p["spec"]["policyName"] == *name && p["spec"]["validationActions"] == json!(["Deny"]));
    for policy in policies.iter().filter(|p| p["kind"] == "ValidatingAdmissionPolicy") {
        let name = &policy["metadata"]["name"];
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        assert!(name.as_str().unwrap().chars().all(valid) && bound(name), "{name}");
        assert!(policy["spec"]["validations"].as_array().unwrap().iter().all(|v| v["message"].is_string()), "{name}");
    }
    // One text for the policy and for the finalizer behind it.
    let ways_out = "released (deletionPolicy: Release) or left as it is (deletionPolicy: Orphan)";
    assert!(dci_operator::api::messages::DELETION_PROTECTED.contains(ways_out));
    assert!(policies[0]["spec"]["validations"][0]["message"].as_str().unwrap().ends_with(ways_out), "{}", policies[0]);
    assert!(text.contains("system:serviceaccount:dci-system:dci-dci-operator"), "the operator itself is let through");
    for args in [
        vec!["--kube-version", "1.29.0"],
        vec!["--kube-version", "1.33.0", "--set", "policies.enabled=false"],
        vec!["--kube-version", "1.33.0", "--set", "watchNamespaces={a}", "--set", "clusterId=e2e"],
    ] {
        assert!(!render(&args).contains("ValidatingAdmissionPolicy"), "{args:?}");
    }
}

/// The API server itself refuses the deletion, and keeps departments apart.
#[tokio::test]
async fn policies_are_enforced_by_servers_that_know_them() {
    if !plane().serves_current("policies_are_enforced_by_servers_that_know_them") {
        return;
    }
    let Some(own) = OwnPlane::start("policies") else { return };
    let mut world =
        World::everywhere(own.plane, own.identity.clone(), Setup::default().handler(&json!({"ipmiErrorPolicy": "CreateTask"}))).await;
    let (shop, provider) = (world.shop.clone(), world.provider.clone());
    own.plane.kubectl(
        &["apply", "-f", "-"],
        Some(&own.plane.render(&["--namespace", "default", "--set", "rbac.departments={Operations,Assembly}"])),
    );
    let policies = ["--namespace", "default", "--show-only", "templates/policies.yaml", "--kube-version", "1.30.0"];
    own.plane.define(&["apply", "-f", "-"], Some(&own.plane.render(&policies)));
    world.order("web-01", &json!({"deletionProtection": true})).await;
    world.until_active("web-01").await;
    let began = std::time::Instant::now();
    loop {
        // A policy takes a moment to be in force.
        let (code, text) = world.kubectl(&["delete", "dso", "web-01", "-n", &shop, "--dry-run=server"]).await;
        if code != 0 && text.contains("deletionProtection") {
            break;
        }
        assert!(began.elapsed().as_secs() < 60, "{text}");
    }
    let (code, text) = world.kubectl(&["delete", "dso", "web-01", "-n", &shop, "--wait=false"]).await;
    assert!(code != 0 && text.contains("set it to false first"), "{text}");
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"deletionProtection": false}})).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    let task = world.until("a task", |world| open_task(world, "StopServer")).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    for (user, role) in [("op", "dci-department-Operations"), ("as", "dci-department-Assembly")] {
        own.plane
            .kubectl(&["create", "rolebinding", user, "-n", &provider, &format!("--clusterrole={role}"), &format!("--user={user}")], None);
    }
    let done = json!({"spec": {"resolution": "Done"}}).to_string();
    let label = json!({"metadata": {"labels": {"dci-operator.dev/department": "Assembly"}}}).to_string();
    let patch = |user: &str, body: &str| {
        let (name, provider) = (name.clone(), provider.clone());
        let args = ["patch", "mt", &name, "-n", &provider, "--type=merge", "-p", body, "--as", user].map(str::to_owned);
        args.to_vec()
    };
    for (user, body, words) in [("as", &done, "for department Operations"), ("op", &label, "metadata of a task")] {
        let args = patch(user, body);
        let (code, text) = world.kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(code != 0 && text.contains(words), "{user}: {text}");
    }
    let args = patch("op", &done);
    let (code, text) = world.kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(code, 0, "{text}");
    world.until_gone("web-01").await;
    assert!(!is_true(&task, "Stalled"));
    world.end().await;
}
