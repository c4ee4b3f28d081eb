//! Changes of an Active order: suspended, resumed, reinstalled; domain and addresses; each asserted by what the panel was asked for.

use serde_json::{Value, json};

use super::support::kstatus::{condition, is_true};
use super::support::objects::DEBIAN;
use super::support::{Setup, World};

const ORDER: &str = "DedicatedServerOrder";

/// An Active order `web-01` on server 17.
async fn active(setup: Setup, spec: &Value) -> World {
    let mut world = World::start(setup).await;
    world.order("web-01", spec).await;
    world.until_active("web-01").await;
    world
}

async fn edit(world: &World, spec: Value) {
    world.patch(ORDER, "web-01", &json!({ "spec": spec })).await;
}

/// Waits until the order is Ready in this phase with what its spec says now.
async fn settled(world: &mut World, phase: &str) -> Value {
    world
        .until_order("web-01", phase, |o| {
            o["status"]["phase"] == phase && is_true(o, "Ready") && o["status"]["observedGeneration"] == o["metadata"]["generation"]
        })
        .await
}

/// Function and target of the changes at DCImanager since a point.
fn since(world: &World, at: usize) -> Vec<String> {
    world.changes()[at..].iter().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn ports(world: &World) -> Vec<bool> {
    let server = world.server(17);
    let rows = server["connections"].as_array().cloned().unwrap_or_default();
    rows.iter().filter(|c| c["type"] == "Switch").map(|c| c["on"] == true).collect()
}

fn assert_suspended(world: &World) {
    let server = world.server(17);
    assert_eq!((&server["flags"]["disabled"], &server["power"], &server["owner"]), (&json!(true), &json!("off"), &json!("acme")));
    assert!(ports(world).iter().all(|on| !on), "{server}");
}

#[tokio::test]
async fn a_service_is_suspended_corrected_resumed_and_deleted_change_by_change() {
    let mut world = active(Setup::default(), &json!({})).await;
    let at = world.changes().len();
    edit(&world, json!({"suspended": true})).await;
    let order = settled(&mut world, "Suspended").await;
    // The ports went off with the block, and were seen to.
    assert_eq!(since(&world, at), ["server.disable 17", "server.poweroff 17"]);
    assert_suspended(&world);
    assert_eq!(condition(&order, "Ready").unwrap()["reason"], "Suspended");
    assert!(is_true(&order, "Suspended") && condition(&order, "Reconciling").is_none());
    // Switched on by hand: off again, once.
    let at = world.changes().len();
    world.sim.change_server(17, json!({"power": "on"})).unwrap();
    world.until("off again", |world| (world.server(17)["power"] == "off").then_some(())).await;
    settled(&mut world, "Suspended").await;
    world.polls(3).await;
    assert_eq!(since(&world, at), ["server.poweroff 17"]);
    // Killed in the middle of the way back.
    let at = world.changes().len();
    world.sim.add_fault(json!({"action": "delay-after", "func": "server.enable", "changes": true, "nth": 1, "delay": "20s"})).unwrap();
    edit(&world, json!({"suspended": false})).await;
    world.until("enabled", |world| (world.asked("server.enable") == 1).then_some(())).await;
    world.kill_and_restart().await;
    let order = settled(&mut world, "Active").await;
    assert_eq!(since(&world, at), ["server.enable 17", "server.poweron 17"]);
    assert!(condition(&order, "Suspended").is_none() && ports(&world).iter().all(|on| *on));
    assert_eq!(world.server(17)["power"], "on");
    // Suspended once more, and deleted so: enabled first, as the vendor does it.
    edit(&world, json!({"suspended": true})).await;
    settled(&mut world, "Suspended").await;
    let at = world.changes().len();
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    let calls = since(&world, at);
    assert_eq!(calls[0], "server.enable 17", "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("server.power")), "it is off: {calls:?}");
    world.assert_released(17);
    world
        .until("ports and block as before", |world| {
            (ports(world).iter().all(|on| *on) && world.server(17)["flags"]["disabled"] == false).then_some(())
        })
        .await;
    assert_eq!(world.server(17)["installed"]["times"], 1);
    world.end().await;
}

#[tokio::test]
async fn an_order_that_is_created_suspended_is_prepared_first() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"suspended": true})).await;
    settled(&mut world, "Suspended").await;
    assert_suspended(&world);
    let calls = since(&world, 0);
    assert_eq!(calls[calls.len() - 3..], ["server.edit 17", "server.disable 17", "server.poweroff 17"], "{calls:?}");
    world.end().await;
}

#[tokio::test]
async fn a_suspension_with_a_dead_ipmi_keeps_the_network_off_until_a_person_helps() {
    let setup = Setup::default().handler(&json!({"retry": {"maxAttempts": 2}}));
    let mut world = active(setup, &json!({})).await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    edit(&world, json!({"suspended": true})).await;
    let task = world.until("a task", |world| world.record.all("ManualTask").pop()).await;
    assert_eq!(task["spec"]["type"], "FailedOperation");
    assert!(ports(&world).iter().all(|on| !on));
    assert_eq!((&world.server(17)["flags"]["disabled"], world.asked("server.poweroff")), (&json!(true), 2));
    world.sim.change_server(17, json!({"ipmi": "alive"})).unwrap();
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    settled(&mut world, "Suspended").await;
    assert_suspended(&world);
    world.end().await;
}

#[tokio::test]
async fn each_token_installs_once() {
    let mut world = active(Setup::default(), &json!({"reinstall": "first", "addresses": {"ipv4": 2}})).await;
    let before = world.server(17);
    let at = world.changes().len();
    // What waits for the next reinstallation says so.
    edit(&world, json!({"recipes": ["ISPsystem__nginx.sh"]})).await;
    world.until_reason(ORDER, "web-01", "OSInstalled", "ReinstallPending").await;
    settled(&mut world, "Active").await;
    assert_eq!(since(&world, at), [] as [&str; 0]);
    // Protected: refused with the cure, and nothing is lost.
    edit(&world, json!({"deletionProtection": true, "reinstall": "second"})).await;
    world.until_reason(ORDER, "web-01", "Stalled", "ReinstallProtected").await;
    world.polls(3).await;
    edit(&world, json!({"reinstall": "first"})).await;
    settled(&mut world, "Active").await;
    edit(&world, json!({"reinstall": "second"})).await;
    world.until_reason(ORDER, "web-01", "Stalled", "ReinstallProtected").await;
    assert_eq!(since(&world, at), [] as [&str; 0]);
    // Killed right after the panel took it: it is followed, not repeated.
    world.sim.change_server(17, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.sim.add_fault(json!({"action": "delay-after", "func": "server.operations", "changes": true, "nth": 1, "delay": "20s"})).unwrap();
    edit(&world, json!({"deletionProtection": false})).await;
    world.until("the panel installs", |world| world.server(17)["operation"].is_object().then_some(())).await;
    world.kill_and_restart().await;
    world.polls(3).await;
    world.sim.change_server(17, json!({"finish_operation": true})).unwrap();
    let order = settled(&mut world, "Active").await;
    assert_eq!(since(&world, at), ["server.operations 17"]);
    assert!(world.changes()[at].contains(&format!("ostemplate={DEBIAN} recipe=ISPsystem__nginx.sh")), "{}", world.changes()[at]);
    assert_eq!(order["status"]["lastHandledReinstall"], "second");
    assert_eq!(condition(&order, "OSInstalled").unwrap()["reason"], "Done");
    let after = world.server(17);
    assert_eq!(after["installed"]["times"], 2);
    assert_eq!((&after["owner"], &after["ip"], &after["notes"]), (&before["owner"], &before["ip"], &before["notes"]));
    assert!(world.record.all("ManualTask").is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_reinstallation_without_answer_and_trace_is_left_to_a_person() {
    let mut world = active(Setup::default(), &json!({})).await;
    let asked = world.asked("server.operations");
    world.sim.add_fault(json!({"action": "drop-before", "func": "server.operations", "changes": true, "nth": 1})).unwrap();
    edit(&world, json!({"reinstall": "again"})).await;
    let task = world.until("a task", |world| world.record.all("ManualTask").pop()).await;
    assert_eq!(task["spec"]["type"], "FailedOperation");
    world.polls(4).await;
    assert_eq!(world.server(17)["installed"]["times"], 1, "nothing is repeated by itself");
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    settled(&mut world, "Active").await;
    assert_eq!(world.server(17)["installed"]["times"], 2);
    assert!(world.asked("server.operations") > asked);
    world.end().await;
}

#[tokio::test]
async fn an_edit_between_two_removals_is_no_lost_answer() {
    let setup = Setup::default().handler(&json!({"retry": {"maxAttempts": 1}}));
    let mut world = active(setup, &json!({"addresses": {"ipv4": 4}})).await;
    let at = world.changes().len();
    world.sim.add_fault(json!({"action": "delay-after", "func": "iplist.delete", "changes": true, "nth": 1, "delay": "3s"})).unwrap();
    edit(&world, json!({"addresses": {"ipv4": 2}})).await;
    world.until("the first goes", |world| (world.asked("iplist.delete") == 1).then_some(())).await;
    edit(&world, json!({"domain": "meanwhile.example.net"})).await;
    let order = settled(&mut world, "Active").await;
    assert_eq!(order["status"]["server"]["addresses"], json!(["203.0.113.10", "203.0.113.11"]));
    let lost = |o: &Value| o["status"].to_string().contains("AnswerLost");
    let told: Vec<Value> = world.record.versions(ORDER, "web-01").into_iter().filter(lost).collect();
    assert!(told.is_empty(), "{told:#?}");
    assert!(world.record.all("ManualTask").is_empty(), "no answer was lost");
    let calls = since(&world, at);
    assert_eq!(calls.iter().filter(|call| call.starts_with("iplist.delete")).count(), 2, "{calls:?}");
    world.end().await;
}

#[tokio::test]
async fn domain_and_addresses_change_on_an_active_order() {
    let mut world = active(Setup::default(), &json!({})).await;
    let at = world.changes().len();
    edit(&world, json!({"domain": "shop.example.net", "addresses": {"ipv4": 3}})).await;
    let order = settled(&mut world, "Active").await;
    let server = &order["status"]["server"];
    assert_eq!(server["addresses"], json!(["203.0.113.10", "203.0.113.11", "203.0.113.12"]));
    let at_panel = world.server(17);
    assert!(at_panel["ips"].as_array().unwrap().iter().all(|row| row["domain"] == "shop.example.net"), "{at_panel}");
    // The record that the operator made at IPmanager, too: a name server answers with it.
    let renamed: Vec<String> = world.changes()[at..].iter().filter(|line| line.starts_with("ipm ip.edit 203.0.113.10 ")).cloned().collect();
    assert!(renamed.len() == 1 && renamed[0].contains("domain=shop.example.net note=k8s:"), "{renamed:?}");
    // Fewer: never the main one.
    edit(&world, json!({"addresses": {"ipv4": 1}})).await;
    let order = settled(&mut world, "Active").await;
    assert_eq!(order["status"]["server"]["addresses"], json!(["203.0.113.10"]));
    assert_eq!(world.server(17)["ip"], "203.0.113.10");
    let calls = since(&world, at);
    let count = |start: &str| calls.iter().filter(|call| call.starts_with(start)).count();
    assert_eq!((count("ip.edit"), count("iplist.delete"), count("ip.delete")), (3, 2, 2), "{calls:?}");
    assert_eq!(count("server."), 0, "{calls:?}");
    // Another client is refused, here by the twin where the server knows no rules, and costs nothing.
    let at = world.changes().len();
    let (code, text) = {
        let patch = json!({"spec": {"client": {"username": "other"}}}).to_string();
        let shop = world.shop.clone();
        world.kubectl(&["patch", "dso", "web-01", "-n", &shop, "--type=merge", "-p", &patch]).await
    };
    if code == 0 {
        world.until_reason(ORDER, "web-01", "Stalled", "FixedFieldChanged").await;
        edit(&world, json!({"client": {"username": "acme"}})).await;
        settled(&mut world, "Active").await;
    } else {
        assert!(text.contains("spec.client is fixed"), "{text}");
    }
    assert_eq!(since(&world, at), [] as [&str; 0]);
    world.end().await;
}
