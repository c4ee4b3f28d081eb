//! Events: each thing that a person following an order wants to be told is told when it happens, and not again with every later status.

use dci_operator::api::order::OrderStatus;
use dci_operator::provisioning::notices::between;
use serde_json::{Value, from_value, json};

fn status(json: &Value) -> OrderStatus {
    from_value(json.clone()).expect("a status")
}

/// Whether they warn, their reasons and their messages.
fn told(old: &Value, new: &Value) -> Vec<(bool, String, String)> {
    between(&status(old), &status(new)).into_iter().map(|notice| (notice.warning, notice.reason, notice.message)).collect()
}

fn event(warning: bool, reason: &str, message: &str) -> Vec<(bool, String, String)> {
    vec![(warning, reason.into(), message.into())]
}

fn task(state: &str, escalated_at: Option<&str>) -> Value {
    json!({"manualTasks": [{"name": "web-1", "type": "FailedOperation", "department": "operations", "state": state, "escalatedAt": escalated_at}]})
}

#[test]
fn a_recipe_that_failed_is_told_once() {
    let server = |failed: &[&str]| {
        json!({"server": {"id": "1", "name": "ds1", "handler": "hosting/msk-1", "panel": "dci", "owner": "5", "configuration": "E3-16G",
                          "client": "acme", "failedRecipes": failed}})
    };
    let expected = event(true, "RecipeFailed", "recipe b.sh failed; readyWhen: OSInstalled does not wait for it");
    assert_eq!(told(&server(&["a.sh"]), &server(&["a.sh", "b.sh"])), expected);
    assert_eq!(told(&server(&["a.sh", "b.sh"]), &server(&["a.sh", "b.sh"])), []);
}

#[test]
fn a_task_that_is_closed_or_overdue_is_told_once() {
    let (open, overdue, done) = (task("Open", None), task("Open", Some("2026-01-02T00:00:00Z")), task("Done", None));
    let closed = event(false, "TaskClosed", "FailedOperation task web-1: Done");
    let late = event(true, "TaskOverdue", "FailedOperation task web-1 waits for operations");
    for (old, new, expected) in [
        (&open, &done, closed),
        (&open, &overdue, late),
        (&open, &open, Vec::new()),
        (&overdue, &overdue, Vec::new()),
        (&done, &done, Vec::new()),
    ] {
        assert_eq!(told(old, new), expected, "{old} {new}");
    }
    // It was closed by somebody else than the one who was late.
    let late_and_done = task("Done", Some("2026-01-02T00:00:00Z"));
    assert_eq!(told(&overdue, &late_and_done)[0].1, "TaskClosed");
    assert_eq!(told(&late_and_done, &late_and_done), []);
}

#[test]
fn an_attempt_that_failed_is_told_once_and_the_next_one_anew() {
    let failed = |minute: u32| {
        let time = format!("2026-01-01T00:{minute:02}:00Z");
        json!({"lastError": {"step": "InstallOS", "code": "busy", "message": "not now", "retryable": true, "time": time}})
    };
    let expected = event(true, "AttemptFailed", "InstallOS: not now");
    assert_eq!(told(&json!({}), &failed(0)), expected);
    assert_eq!(told(&failed(0), &failed(0)), []);
    assert_eq!(told(&failed(0), &failed(5)), expected);
}

#[test]
fn an_order_that_is_ready_is_told_once() {
    let is = |type_: &str, yes: bool| {
        json!({"type": type_, "status": if yes { "True" } else { "False" }, "reason": "R", "message": "", "observedGeneration": 1,
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let ready = |ready: bool, suspended: bool| json!({"conditions": [is("Ready", ready), is("Suspended", suspended)]});
    assert_eq!(told(&ready(false, false), &ready(true, false)), event(false, "Active", "the server is prepared"));
    assert_eq!(told(&ready(false, false), &ready(true, true)), event(false, "Suspended", "the service is suspended"));
    assert_eq!(told(&ready(true, false), &ready(true, false)), []);
}

#[test]
fn an_order_that_stands_still_is_told_once_and_anew_for_another_reason() {
    let stalled = |reason: &str| {
        json!({"conditions": [{"type": "Stalled", "status": "True", "reason": reason, "message": "put it right", "observedGeneration": 1,
                               "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    let expected = event(true, "ServerGone", "put it right");
    assert_eq!(told(&json!({}), &stalled("ServerGone")), expected);
    assert_eq!(told(&stalled("ServerGone"), &stalled("ServerGone")), []);
    assert_eq!(told(&stalled("OwnerChanged"), &stalled("ServerGone")), expected);
}
