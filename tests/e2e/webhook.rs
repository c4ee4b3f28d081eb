//! Webhooks over TLS: a receiver whose authority the department names is told, any other one is not, and nobody waits for it.

use serde_json::{Value, json};

use super::support::hooks::Receiver;
use super::support::kstatus::{condition, is_true};
use super::support::objects::secret;
use super::support::tls::{Front, stranger};
use super::support::{Setup, World};

const HOOK_SECRET: &str = "hook-secret-8Vn3";

fn departments(front: &Front, authority: &str) -> Value {
    let webhook = json!({"url": front.url, "secretRef": {"name": "hooks", "key": "hmac"}, "caBundle": authority});
    json!({"departments": {"operations": {"name": "Operations", "webhook": webhook}}})
}

/// What is on record about one event of the only task.
fn told(world: &World, event: &str) -> Option<Value> {
    let task = world.record.all("ManualTask").pop()?;
    task["status"]["notifications"].as_array()?.iter().find(|n| n["event"] == event).cloned()
}

#[tokio::test]
async fn only_a_receiver_of_the_named_authority_is_told_and_no_order_waits_for_it() {
    let receiver = Receiver::start(HOOK_SECRET, &[]).await;
    let front = Front::start(&receiver.url);
    let setup = Setup::default().handler(&json!({"retry": {"maxAttempts": 1}})).handler(&departments(&front, &stranger()));
    let mut world = World::start(setup).await;
    world.keep_secret(HOOK_SECRET);
    world.create(&world.provider, secret("hooks", &json!({"hmac": HOOK_SECRET}))).await;
    let refuses = json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "count": 1});
    world.sim.add_fault(refuses).unwrap();
    world.order("web-01", &json!({})).await;
    // Another authority: refused before anything is sent, and tried again.
    let raised =
        world.until("two attempts", |world| told(world, "Raised").filter(|n| n["lastError"].is_string() && front.refused() >= 2)).await;
    let error = raised["lastError"].as_str().unwrap();
    assert!(error.starts_with("certificate refused: ") && error.ends_with("; set webhook.caBundle to its authority"), "{error}");
    assert!(raised["deliveredAt"].is_null() && raised["nextAttemptAt"].is_string(), "{raised}");
    assert!(raised["attempts"].as_i64() >= Some(2) && receiver.told().is_empty(), "{raised} {:?}", receiver.told());
    // Meanwhile the task is closed, and the order goes on to its end.
    let name = world.record.all("ManualTask").pop().unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    world.until_active("web-01").await;
    assert!(receiver.told().is_empty());
    // The right authority: everything is told, in order, over the same handler.
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": departments(&front, &front.authority)})).await;
    let closed = world.until("told of its end", |world| told(world, "Closed").filter(|n| n["deliveredAt"].is_string())).await;
    assert_eq!((receiver.taken(), &closed["lastError"]), (vec!["Raised".to_owned(), "Closed".to_owned()], &Value::Null));
    world.end().await;
}

#[tokio::test]
async fn a_webhook_whose_secret_is_not_there_is_told_at_the_handler_and_holds_up_nobody() {
    let webhook = |name: &str| json!({"url": "https://127.0.0.1:1/x", "secretRef": {"name": name, "key": "hmac"}});
    let departments = |webhook: Value| json!({"departments": {"operations": {"name": "Operations", "webhook": webhook}}});
    let mut world = World::start(Setup::default().handler(&departments(webhook("nosuch")))).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let told = world.until_reason("ProcessingHandler", "msk-1", "WebhooksReady", "CredentialsMissing").await;
    let text = told["status"]["conditions"].to_string();
    assert!(text.contains("Operations is told of no task: Secret") && text.contains("/nosuch does not exist"), "{text}");
    assert!(is_true(&told, "Ready") && condition(&told, "Stalled").is_none(), "{text}");
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.create(&world.provider, secret("nosuch", &json!({"hmac": HOOK_SECRET}))).await;
    world.until_reason("ProcessingHandler", "msk-1", "WebhooksReady", "Done").await;
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": departments(Value::Null)})).await;
    world
        .until("no webhook", |world| condition(&world.record.get("ProcessingHandler", "msk-1")?, "WebhooksReady").is_none().then_some(()))
        .await;
    world.end().await;
}
