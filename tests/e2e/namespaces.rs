//! Handlers that serve the namespaces with a label: for all others they do not exist.

use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::plane::OwnPlane;
use super::support::{Setup, World};

const ORDER: &str = "DedicatedServerOrder";

fn setup() -> Setup {
    let allowed = json!({"from": "Selector", "selector": {"matchLabels": {"hosting": "yes"}}});
    Setup::default().handler(&json!({"allowedNamespaces": allowed}))
}

async fn label(world: &World, patch: &str) {
    let shop = world.shop.clone();
    let (code, text) = world.kubectl(&["label", "namespace", &shop, patch, "--overwrite"]).await;
    assert_eq!(code, 0, "{text}");
}

/// Everything that an order shows of its handler, with the handler's name replaced.
fn seen(order: &Value, handler: &str) -> String {
    let mut status = order["status"].clone();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = Value::Null;
    }
    if let Some(waiting) = status["waitingOn"].as_object_mut() {
        waiting.remove("since");
    }
    status.to_string().replace(handler, "HANDLER")
}

#[tokio::test]
async fn a_namespace_without_the_label_sees_what_it_would_see_of_no_handler_and_one_that_gets_it_is_served() {
    // With the chart's `rbac.namespaceSelectors`, which needs an operator that watches all namespaces.
    let Some(own) = OwnPlane::start_with("namespaces", &["--namespace-selectors"]) else { return };
    let mut world = World::everywhere(own.plane, own.identity.clone(), setup()).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    world.order("barred", &json!({})).await;
    world.order("nobody", &json!({"handlerRef": {"name": "msk-9"}})).await;
    let barred = world.until_reason(ORDER, "barred", "Ready", "HandlerNotFound").await;
    let nobody = world.until_reason(ORDER, "nobody", "Ready", "HandlerNotFound").await;
    assert_eq!(seen(&barred, "msk-1"), seen(&nobody, "msk-9"));
    // So it is for one that selects: whether there is none, or none that it may use.
    for (name, zone) in [("selects-barred", json!({})), ("selects-none", json!({"zone": "nowhere"}))] {
        let selector = json!({"namespace": world.provider, "matchLabels": zone});
        world.order(name, &json!({"handlerRef": null, "handlerSelector": selector})).await;
    }
    let barred = world.until_reason(ORDER, "selects-barred", "Ready", "HandlerNotFound").await;
    let nobody = world.until_reason(ORDER, "selects-none", "Ready", "HandlerNotFound").await;
    assert_eq!(seen(&barred, "-"), seen(&nobody, "-"));
    // Neither events nor the panel tell more.
    world.polls(2).await;
    let shop = world.shop.clone();
    let mut told = Vec::new();
    for (order, handler) in [("barred", "msk-1"), ("nobody", "msk-9")] {
        let (field, columns) = (format!("involvedObject.name={order}"), "custom-columns=T:.type,R:.reason,M:.message");
        let (code, text) = world.kubectl(&["get", "events", "-n", &shop, "--field-selector", &field, "-o", columns]).await;
        assert_eq!(code, 0, "{text}");
        told.push(text.replace(handler, "HANDLER"));
    }
    assert_eq!(told[0], told[1]);
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    for name in ["nobody", "selects-none", "selects-barred"] {
        world.delete(ORDER, name).await;
        world.until_gone(name).await;
    }
    // The label comes later: nothing else has to be touched.
    label(&world, "hosting=yes").await;
    let order = world.until_active("barred").await;
    assert_eq!(order["status"]["server"]["id"], "17");
    // It goes again: what was taken is kept, may be changed, and is given back; another order gets nothing.
    label(&world, "hosting-").await;
    world.order("later", &json!({})).await;
    world.until_reason(ORDER, "later", "Ready", "HandlerNotFound").await;
    world.polls(2).await;
    let kept = world.record.get(ORDER, "barred").unwrap();
    assert_eq!(condition(&kept, "Ready").unwrap()["status"], "True", "{kept}");
    world.delete(ORDER, "barred").await;
    world.until_gone("barred").await;
    world.assert_released(17);
    world.delete(ORDER, "later").await;
    world.until_gone("later").await;
    world.end().await;
}
