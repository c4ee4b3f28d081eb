//! Failures: repeated, and in the end a department's business.

use serde_json::{Value, json};

use super::support::{Setup, World};

fn refuses_power(count: u64) -> Value {
    json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "msg": "no", "count": count})
}

#[tokio::test]
async fn a_reconcile_that_is_asked_for_cuts_the_back_off() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"interval": "1h"}}))).await;
    world.sim.add_fault(refuses_power(1)).unwrap();
    world.order("web-01", &json!({})).await;
    let waiting = world.until_order("web-01", "waits for the retry", |o| o["status"]["waitingOn"]["kind"] == "Retry").await;
    assert!(waiting["status"]["nextRetryTime"].is_string() && waiting["status"]["lastError"]["step"] == "PowerOn", "{}", waiting["status"]);
    world.polls(3).await;
    assert_eq!(world.asked("server.poweron"), 1, "it waits");
    let patch = json!({"metadata": {"annotations": {"dci-operator.dev/reconcile-requested-at": "now-1"}}});
    world.patch("DedicatedServerOrder", "web-01", &patch).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["lastHandledReconcileAt"], "now-1");
    assert!(active["status"]["nextRetryTime"].is_null());
    world.end().await;
}

#[tokio::test]
async fn after_the_last_attempt_there_is_one_task() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 2}}))).await;
    let fault = world.sim.add_fault(refuses_power(0)).unwrap();
    world.order("web-01", &json!({})).await;
    let waiting = world.until_order("web-01", "waits for the department", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    assert_eq!(waiting["status"]["phase"], "AwaitingTask");
    world.polls(3).await;
    let tasks = world.record.all("ManualTask");
    assert_eq!(tasks.len(), 1, "exactly one");
    assert_eq!(tasks[0]["spec"]["type"], "FailedOperation");
    assert_eq!(world.asked("server.poweron"), 2);
    world.sim.remove_faults(Some(fault));
    let name = tasks[0]["metadata"]["name"].as_str().unwrap();
    world.patch("ManualTask", name, &json!({"spec": {"resolution": "Retry"}})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["manualTasks"][0]["state"], "Retry");
    world.end().await;
}

#[tokio::test]
async fn a_task_that_a_deletion_makes_needless_is_closed_while_the_server_is_released() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 1}}))).await;
    world.sim.add_fault(refuses_power(0)).unwrap();
    world.order("web-01", &json!({})).await;
    world.until_order("web-01", "waits for the department", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    // Nothing is released while the handler is suspended, so that the order is still there when its task is closed.
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": true}})).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world
        .until("the task is closed", |w| w.record.all("ManualTask").iter().all(|t| t["spec"]["resolution"] == "Cancelled").then_some(()))
        .await;
    assert!(world.record.get("DedicatedServerOrder", "web-01").is_some(), "the order still waits");
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": false}})).await;
    world.until_gone("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn an_installation_that_fails_is_tried_again() {
    let mut world = World::start(Setup::default()).await;
    world.sim.change_server(17, json!({"operations": [{"outcome": "fail", "duration": "1s"}]})).unwrap();
    world.order("web-01", &json!({})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(world.asked("server.operations"), 2);
    let steps = active["status"]["steps"].as_array().unwrap();
    assert_eq!(steps.iter().find(|s| s["name"] == "InstallOS").unwrap()["attempts"], 2);
    world.end().await;
}

#[tokio::test]
async fn an_installation_that_is_cancelled_at_the_panel_is_made_again() {
    let mut world = World::start(Setup::default()).await;
    world.sim.change_server(17, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.order("web-01", &json!({})).await;
    let seen = |o: &Value| {
        let steps = o["status"]["steps"].as_array();
        steps.is_some_and(|steps| steps.iter().any(|s| s["name"] == "InstallOS" && s["state"] == "Waiting"))
    };
    world.until_order("web-01", "its installation is seen", seen).await;
    world.sim.change_server(17, json!({"cancel_operation": true})).unwrap();
    world.until_active("web-01").await;
    assert_eq!((world.asked("server.operations"), &world.server(17)["installed"]["times"]), (2, &json!(1)));
    world.end().await;
}
