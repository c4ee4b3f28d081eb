//! Taking over a server that a client already has.

use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::objects::{PANEL_PASSWORD, panels};
use super::support::{Setup, World};

/// Server 30 is acme's, since before there was an operator.
fn setup() -> Setup {
    let mut servers = panels()["dcimanager5"][0]["servers"].clone();
    servers.as_array_mut().unwrap().push(json!({
        "id": 30, "name": "R3-30", "type": "E3-16G", "ip": "203.0.113.77", "extra_ips": ["203.0.113.78"], "owner": "acme",
        "hostname": "old.example.net", "power": "on", "notes": "contract 7", "installed": "ISPsystem__CentOS-7-x86_64",
    }));
    let users = json!([
        {"name": "operator", "password": PANEL_PASSWORD, "level": 29},
        {"name": "owner-of-18", "password": "x"},
        {"name": "acme", "password": "x"},
    ]);
    Setup::dci(&json!({"servers": servers, "users": users}))
        .handler(&json!({"adoption": "Allowed", "allowedDeletionPolicies": ["Release", "Orphan"]}))
}

fn adopt(patch: &Value) -> Value {
    let base = json!({"adopt": {"serverId": "30"}, "domain": "old.example.net", "addresses": {"ipv4": 2}});
    super::support::objects::merged(base, patch)
}

#[tokio::test]
async fn a_running_server_is_taken_over_by_one_note_and_left_again() {
    let mut world = World::start(setup()).await;
    let before = world.server(30);
    world.order("web-01", &adopt(&json!({"deletionPolicy": "Orphan", "reinstall": "now"}))).await;
    let active = world.until_active("web-01").await;
    assert_eq!(world.changes(), ["dci server.edit 30 owner=3 notes=contract 7\nk8s:e2e/shop/web-01/ID".to_owned()]);
    let server = &active["status"]["server"];
    assert_eq!((&server["id"], &server["mainAddress"]), (&json!("30"), &json!("203.0.113.77")));
    assert_eq!(server["addresses"], json!(["203.0.113.77", "203.0.113.78"]));
    assert_eq!(active["status"]["lastHandledReinstall"], "now");
    for step in active["status"]["steps"].as_array().unwrap().iter().filter(|s| s["name"] != "Allocate") {
        assert_eq!(step["state"], "Skipped", "{step}");
    }
    // A second order does not get it.
    world.order("web-02", &adopt(&json!({}))).await;
    world.until_reason("DedicatedServerOrder", "web-02", "Stalled", "AdoptionRefused").await;
    world.polls(3).await;
    assert_eq!(world.changes().len(), 1, "{:?}", world.changes());
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert_eq!(world.changes().len(), 2, "{:?}", world.changes());
    let after = world.server(30);
    for field in ["owner", "power", "hostname", "ip", "ips", "notes", "installed"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    world.delete("DedicatedServerOrder", "web-02").await;
    world.until_gone("web-02").await;
    world.end().await;
}

#[tokio::test]
async fn an_adopted_server_is_released_like_any_other() {
    let mut world = World::start(setup()).await;
    world.sim.change_server(30, json!({"notes": ""})).unwrap();
    world.order("web-01", &adopt(&json!({}))).await;
    world.until_active("web-01").await;
    // Power drift is corrected from now on.
    world.sim.change_server(30, json!({"power": "off"})).unwrap();
    world.until("it is on again", |world| (world.server(30)["power"] == "on").then_some(())).await;
    world.until_active("web-01").await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(30);
    let taken = world.taken();
    assert!(!taken.contains_key("203.0.113.77") && !taken.contains_key("203.0.113.78"), "its addresses are given back: {taken:?}");
    world.end().await;
}

#[tokio::test]
async fn what_does_not_agree_is_refused_and_goes_on_when_it_does() {
    let mut world = World::start(setup()).await;
    world.order("web-01", &adopt(&json!({"domain": "new.example.net", "configuration": {"serverType": "E5-64G"}}))).await;
    world.order("theirs", &adopt(&json!({"adopt": {"serverId": "18"}, "client": {"username": "bob"}}))).await;
    world.order("free", &adopt(&json!({"adopt": {"serverId": "19"}}))).await;
    world.order("nothing", &adopt(&json!({"adopt": {"serverId": "999"}}))).await;
    for (name, words) in [
        ("web-01", vec!["old.example.net", "E5-64G"]),
        ("theirs", vec!["does not belong to panel user bob"]),
        ("free", vec!["nobody owns it"]),
        ("nothing", vec!["no such server"]),
    ] {
        let order = world.until_reason("DedicatedServerOrder", name, "Stalled", "AdoptionRefused").await;
        let message = condition(&order, "Stalled").unwrap()["message"].as_str().unwrap().to_owned();
        assert!(words.iter().all(|word| message.contains(word)), "{name}: {message}");
    }
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world
        .patch("DedicatedServerOrder", "web-01", &json!({"spec": {"domain": "old.example.net", "configuration": {"serverType": "E3-16G"}}}))
        .await;
    world.until_active("web-01").await;
    assert_eq!(world.changes().len(), 1, "{:?}", world.changes());
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"adoption": "Forbidden"}})).await;
    world.until_reason("DedicatedServerOrder", "free", "Stalled", "AdoptionForbidden").await;
    world.polls(2).await;
    let adopted = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    assert_eq!(adopted["status"]["phase"], "Active", "what was taken over stays so");
    world.end().await;
}
