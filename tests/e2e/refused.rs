//! What this version does not do yet is refused with a reason, and never ignored.

use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::{Setup, World};

fn rows() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("selector", json!({"handlerRef": null, "handlerSelector": {"matchLabels": {"a": "b"}}}), "handlerSelector"),
        ("suspended", json!({"suspended": true}), "suspended"),
        ("recipes", json!({"recipes": ["ISPsystem__nginx.sh", "ISPsystem__other.sh"]}), "recipe"),
    ]
}

#[tokio::test]
async fn orders_that_ask_for_more_are_refused() {
    let mut world = World::start(Setup::default()).await;
    for (name, spec, _) in rows() {
        world.order(name, &spec).await;
    }
    for (name, _, word) in rows() {
        let order = world.until_reason("DedicatedServerOrder", name, "Stalled", "NotSupportedYet").await;
        let message = condition(&order, "Stalled").unwrap()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(word), "{name}: {message}");
        assert_eq!(order["status"]["phase"], "Failed", "{name}");
    }
    world.polls(2).await;
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    // Corrected, an order goes on; deleted, it goes.
    world.patch("DedicatedServerOrder", "suspended", &json!({"spec": {"suspended": false}})).await;
    world.until_active("suspended").await;
    for (name, ..) in rows() {
        world.delete("DedicatedServerOrder", name).await;
        world.until_gone(name).await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_new_reinstall_token_is_refused_and_destroys_nothing() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"reinstall": "first"})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["lastHandledReinstall"], "first", "a token that was there from the start is only recorded");
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"reinstall": "second"}})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "NotSupportedYet").await;
    world.polls(2).await;
    assert_eq!(world.server(17)["installed"]["times"], 1);
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"reinstall": "first"}})).await;
    world.until_active("web-01").await;
    // What is being suspended or protected only now is refused, too, and the server stays as it is.
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"suspended": true}})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "NotSupportedYet").await;
    assert_eq!(world.server(17)["power"], "on");
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"suspended": false, "deletionProtection": true}})).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "DeletionProtected").await;
    world.polls(2).await;
    assert_eq!(world.server(17)["owner"], "acme");
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"deletionProtection": false}})).await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn handlers_that_ask_for_more_are_refused() {
    let mut world = World::start(Setup::default()).await;
    let provider = world.provider.clone();
    let url = world.sim.url("dci").unwrap().to_owned();
    let handler = |name: &str, spec: Value| {
        let mut object = super::support::objects::handler(&url, &spec);
        object["metadata"]["name"] = name.into();
        object
    };
    world.create(&provider, handler("six", json!({"module": "DCImanager6"}))).await;
    world.until_reason("ProcessingHandler", "six", "Stalled", "NotSupportedYet").await;
    let mut pool = super::support::objects::ip_manager(world.sim.url("ipm").unwrap(), &json!({"flavor": "IPmanager6"}));
    pool["metadata"]["name"] = "six".into();
    world.create(&provider, pool).await;
    world.until_reason("IPManager", "six", "Stalled", "NotSupportedYet").await;
    // The good one beside them works.
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.end().await;
}
