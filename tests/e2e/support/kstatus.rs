//! Rules that every status has to follow: those of kstatus and Flux, and bounds.

use serde_json::Value;

/// Words that no status may hold; none of the operator's reasons or messages carries a secret.
pub fn violations(before: Option<&Value>, now: &Value, secrets: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let generation = now["metadata"]["generation"].as_i64().unwrap_or(0);
    let status = &now["status"];
    let observed = status["observedGeneration"].as_i64();
    if let Some(text) = secrets.iter().find(|secret| status.to_string().contains(*secret)) {
        wrong.push(format!("the status holds the secret {text}"));
    }
    let Some(observed) = observed.filter(|observed| *observed >= 0) else {
        if status["conditions"].as_array().is_some_and(|all| !all.is_empty()) {
            wrong.push("conditions without observedGeneration".into());
        }
        return wrong;
    };
    if observed > generation {
        wrong.push(format!("observedGeneration {observed} is beyond generation {generation}"));
    }
    if before.and_then(|b| b["status"]["observedGeneration"].as_i64()).is_some_and(|old| old > observed) {
        wrong.push("observedGeneration went back".into());
    }
    conditions(before, status, observed, &mut wrong);
    bounds(now, &mut wrong);
    wrong
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A condition by type.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|c| c["type"] == type_)
}

/// Whether a condition is there and True.
pub fn is_true(object: &Value, type_: &str) -> bool {
    condition(object, type_).is_some_and(|c| c["status"] == "True")
}

fn conditions(before: Option<&Value>, status: &Value, observed: i64, wrong: &mut Vec<String>) {
    let all = list(&status["conditions"]);
    let find = |type_: &str| all.iter().find(|c| c["type"] == type_);
    let holds = |type_: &str| find(type_).is_some_and(|c| c["status"] == "True");
    for condition in all {
        let type_ = condition["type"].as_str().unwrap_or_default();
        if all.iter().filter(|c| c["type"] == type_).count() != 1 {
            wrong.push(format!("{type_} stands there more than once"));
        }
        if !matches!(condition["status"].as_str(), Some("True" | "False" | "Unknown")) {
            wrong.push(format!("{type_} is {}", condition["status"]));
        }
        let reason = condition["reason"].as_str().unwrap_or_default();
        if reason.is_empty() || !reason.chars().all(|c| c.is_ascii_alphanumeric()) || !reason.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            wrong.push(format!("{type_} has reason {reason:?}"));
        }
        if condition["message"].as_str().is_none_or(|m| m.is_empty() || m.chars().count() > 1024) {
            wrong.push(format!("{type_} has message {}", condition["message"]));
        }
        if condition["observedGeneration"].as_i64().is_none_or(|g| g < 0 || g > observed) {
            wrong.push(format!("{type_} has observedGeneration {}, the status {observed}", condition["observedGeneration"]));
        }
        let since = condition["lastTransitionTime"].as_str().unwrap_or_default();
        if since.parse::<jiff::Timestamp>().is_err() {
            wrong.push(format!("{type_} has lastTransitionTime {since:?}"));
        }
        let old = before.map_or(&[][..], |b| list(&b["status"]["conditions"])).iter().find(|c| c["type"] == type_);
        if old.is_some_and(|old| old["status"] == condition["status"] && old["lastTransitionTime"] != condition["lastTransitionTime"]) {
            wrong.push(format!("lastTransitionTime of {type_} moved while its status did not"));
        }
    }
    // Bad when true: absent when they are not.
    for type_ in ["Reconciling", "Stalled", "ManualActionRequired"] {
        if find(type_).is_some_and(|c| c["status"] != "True") {
            wrong.push(format!("{type_} is there and not True"));
        }
    }
    let Some(ready) = find("Ready") else {
        wrong.push("there is no Ready".into());
        return;
    };
    if ready["observedGeneration"].as_i64() != Some(observed) {
        wrong.push("Ready speaks of another generation than the status".into());
    }
    match (ready["status"] == "True", holds("Reconciling"), holds("Stalled")) {
        (true, false, false) | (false, true, false) | (false, false, true) => {}
        (ready, reconciling, stalled) => wrong.push(format!("Ready {ready}, Reconciling {reconciling}, Stalled {stalled}")),
    }
}

const PHASES: [&str; 8] = ["Pending", "Allocating", "AwaitingTask", "Preparing", "Active", "Suspended", "Deleting", "Failed"];
const STATES: [&str; 6] = ["Pending", "Running", "Waiting", "Done", "Skipped", "Failed"];

fn bounds(object: &Value, wrong: &mut Vec<String>) {
    let status = &object["status"];
    if status.to_string().len() > 64 * 1024 {
        wrong.push(format!("the status has {} bytes", status.to_string().len()));
    }
    for (name, most) in [("conditions", 16), ("steps", 20), ("manualTasks", 16), ("pools", 50), ("clients", 1000)] {
        if list(&status[name]).len() > most {
            wrong.push(format!("{} {name}", list(&status[name]).len()));
        }
    }
    if object["kind"] != "DedicatedServerOrder" {
        return;
    }
    let between = |value: &Value, most: i64| value.is_null() || value.as_i64().is_some_and(|n| (0..=most).contains(&n));
    if !between(&status["progress"]["percent"], 100) || !between(&status["attempts"], 1000) {
        wrong.push(format!("progress {}, attempts {}", status["progress"], status["attempts"]));
    }
    if !status["phase"].as_str().is_some_and(|phase| PHASES.contains(&phase)) {
        wrong.push(format!("phase {}", status["phase"]));
    }
    for step in list(&status["steps"]) {
        if !step["state"].as_str().is_some_and(|state| STATES.contains(&state)) || !between(&step["attempts"], 1000) {
            wrong.push(format!("step {step}"));
        }
    }
    let waits = status["waitingOn"]["kind"].as_str();
    if waits.is_some_and(|kind| !["Panel", "Department", "Capacity", "Handler", "Retry"].contains(&kind)) {
        wrong.push(format!("waitingOn {}", status["waitingOn"]));
    }
    if waits == Some("Retry") && status["nextRetryTime"].is_null() {
        wrong.push("waits for a retry without nextRetryTime".into());
    }
    let ready = list(&status["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    if ready
        && (!["Active", "Suspended"].iter().any(|phase| status["phase"] == *phase)
            || status["server"]["id"].is_null()
            || !status["inFlight"].is_null())
    {
        wrong.push(format!("Ready in phase {}, server {}, in flight {}", status["phase"], status["server"]["id"], status["inFlight"]));
    }
    if object["metadata"]["deletionTimestamp"].is_string() && ready {
        // Only the version before the operator has looked again may say so.
        let observed = status["observedGeneration"].as_i64();
        if observed == object["metadata"]["generation"].as_i64() {
            wrong.push("Ready while it is being deleted".into());
        }
    }
}

#[test]
fn bad_statuses_are_found() {
    use serde_json::json;
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "A", "message": "b", "observedGeneration": 1,
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let object = |observed: i64, conditions: Vec<Value>| json!({"kind": "IPManager", "metadata": {"generation": 1}, "status": {"observedGeneration": observed, "conditions": conditions}});
    let wrong = |object: &Value| violations(None, object, &["hush".into()]);
    for good in [
        object(-1, vec![]),
        object(1, vec![condition("Ready", "True")]),
        object(1, vec![condition("Ready", "False"), condition("Reconciling", "True")]),
        object(1, vec![condition("Ready", "False"), condition("Stalled", "True")]),
    ] {
        assert!(wrong(&good).is_empty(), "{good}: {:?}", wrong(&good));
    }
    let mut secret = condition("Ready", "True");
    secret["message"] = "hush".into();
    for bad in [
        object(1, vec![]),
        object(2, vec![condition("Ready", "True")]),
        object(1, vec![condition("Ready", "False")]),
        object(1, vec![condition("Ready", "True"), condition("Stalled", "True")]),
        object(1, vec![condition("Ready", "True"), condition("Reconciling", "True")]),
        object(1, vec![condition("Ready", "True"), condition("Stalled", "False")]),
        object(1, vec![condition("Ready", "False"), condition("Stalled", "True"), condition("Reconciling", "True")]),
        object(1, vec![condition("Ready", "True"), condition("Ready", "True")]),
        object(1, vec![secret]),
    ] {
        assert!(!wrong(&bad).is_empty(), "{bad}");
    }
}
