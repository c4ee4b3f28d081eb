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
    let before_it = before.and_then(|b| b["status"]["observedGeneration"].as_i64());
    let Some(observed) = observed.filter(|observed| *observed >= 0) else {
        if before_it.is_some_and(|old| old >= 0) {
            wrong.push("observedGeneration is gone".into());
        }
        if status["conditions"].as_array().is_some_and(|all| !all.is_empty()) {
            wrong.push("conditions without observedGeneration".into());
        }
        return wrong;
    };
    if before_it.is_some_and(|old| old > observed) {
        wrong.push("observedGeneration went back".into());
    }
    // Who wrote what was there at first, nobody has seen; and clients' names are noted without a look at anything else.
    let said = |status: &Value| (status["conditions"].clone(), status["observedGeneration"].clone());
    let written = before.is_some_and(|before| said(&before["status"]) != said(status));
    wrong.extend(flux(list(&status["conditions"]), observed, generation, written).into_iter().map(str::to_owned));
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

/// Bad when true, the worst first.
const NEGATIVE: [&str; 3] = ["Stalled", "Reconciling", "ManualActionRequired"];

/// The numbered checks of Flux (`runtime/conditions/check` of fluxcd/pkg), both those that fail and those that warn. `written`: the status
/// is as the operator has just written it, which is held to what it must say of the generation; a client's change of the spec leaves the
/// status of before. FAIL0010, which demands an older `observedGeneration` while Reconciling, is left out: here it says which generation
/// was looked at (design.md, conditions), and later versions of the checker do not ask for it either.
fn flux(all: &[Value], observed: i64, generation: i64, written: bool) -> Vec<&'static str> {
    let find = |type_: &str| all.iter().find(|c| c["type"] == type_);
    let status = |type_: &str| find(type_).and_then(|c| c["status"].as_str());
    let ready = status("Ready");
    let negative = || NEGATIVE.iter().filter_map(|type_| find(type_));
    let of = |c: &Value| c["observedGeneration"].as_i64().unwrap_or(0);
    // Ready says what the worst of those says that are neither Reconciling nor Stalled.
    let worst = negative().next().filter(|c| c["type"] == "ManualActionRequired");
    let same = |c: &Value| find("Ready").is_some_and(|ready| ready["reason"] == c["reason"] && ready["message"] == c["message"]);
    let checks = [
        ("FAIL0001: Ready is True, and a bad condition is too", ready == Some("True") && negative().any(|c| c["status"] == "True")),
        ("FAIL0002: there is no Ready", ready.is_none()),
        ("FAIL0003: Reconciling is True, and Ready not False", status("Reconciling") == Some("True") && ready != Some("False")),
        ("FAIL0004: Stalled is True, and Ready not False", status("Stalled") == Some("True") && ready != Some("False")),
        ("FAIL0005: Reconciling and Stalled are both there", find("Reconciling").is_some() && find("Stalled").is_some()),
        ("FAIL0006: observedGeneration is beyond the generation", observed > generation),
        ("FAIL0007: Ready is True, and the generation was not looked at", written && ready == Some("True") && observed < generation),
        (
            "FAIL0008: Ready is True, and a condition speaks of an older generation",
            written && ready == Some("True") && all.iter().any(|c| of(c) < generation),
        ),
        (
            "FAIL0009: Ready is True, and a condition speaks of another generation than the status",
            ready == Some("True") && all.iter().any(|c| of(c) != observed),
        ),
        ("WARN0001: Ready is True, and a bad condition is there", ready == Some("True") && negative().next().is_some()),
        ("WARN0002: Ready does not say what the worst condition says", ready != Some("True") && worst.is_some_and(|c| !same(c))),
        ("WARN0003: Reconciling is False instead of absent", status("Reconciling") == Some("False")),
        ("WARN0004: Stalled is False instead of absent", status("Stalled") == Some("False")),
        ("WARN0005: a condition lacks its observedGeneration", all.iter().any(|c| of(c) < 1)),
    ];
    checks.into_iter().filter_map(|(what, broken)| broken.then_some(what)).collect()
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
    // Without exception, as the tests of decisions have it (`core_support::rules::durable`): what failed or is waited for keeps from Ready.
    for name in ["lastError", "waitingOn", "nextRetryTime"].into_iter().filter(|name| ready && !status[*name].is_null()) {
        wrong.push(format!("Ready, and {name} is {}", status[name]));
    }
    // Only what is off, or said to be off, is given back: the task is closed before that is on its way.
    let stops = |task: &Value| task["type"] == "StopServer" && task["state"] == "Open";
    if status["inFlight"]["call"] == "release" && list(&status["manualTasks"]).iter().any(stops) {
        wrong.push("the server is being released while a StopServer task is open".into());
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
fn each_check_of_flux_finds_what_breaks_it() {
    use serde_json::json;
    let of = |type_: &str, status: &str, generation: i64, reason: &str| json!({"type": type_, "status": status, "reason": reason, "message": "m", "observedGeneration": generation});
    let c = |type_: &str, status: &str| of(type_, status, 2, "A");
    let rows: [(&str, Vec<Value>, i64); 14] = [
        ("FAIL0001", vec![c("Ready", "True"), c("ManualActionRequired", "True")], 2),
        ("FAIL0002", vec![], 2),
        ("FAIL0003", vec![c("Ready", "Unknown"), c("Reconciling", "True")], 2),
        ("FAIL0004", vec![c("Ready", "Unknown"), c("Stalled", "True")], 2),
        ("FAIL0005", vec![c("Ready", "False"), c("Stalled", "True"), c("Reconciling", "True")], 2),
        ("FAIL0006", vec![c("Ready", "True")], 3),
        ("FAIL0007", vec![of("Ready", "True", 1, "A")], 1),
        ("FAIL0008", vec![c("Ready", "True"), of("Other", "True", 1, "A")], 2),
        ("FAIL0009", vec![c("Ready", "True"), of("Other", "True", 3, "A")], 2),
        ("WARN0001", vec![c("Ready", "True"), c("ManualActionRequired", "False")], 2),
        ("WARN0002", vec![c("Ready", "False"), of("ManualActionRequired", "True", 2, "B")], 2),
        ("WARN0003", vec![c("Ready", "True"), c("Reconciling", "False")], 2),
        ("WARN0004", vec![c("Ready", "True"), c("Stalled", "False")], 2),
        ("WARN0005", vec![of("Ready", "False", 0, "A")], 0),
    ];
    for (check, all, observed) in rows {
        let found = flux(&all, observed, 2, true);
        assert!(found.iter().any(|what| what.starts_with(check)), "{check}: {found:?}");
    }
    for good in
        [vec![c("Ready", "True")], vec![c("Ready", "False"), c("Reconciling", "True")], vec![c("Ready", "False"), c("Stalled", "True")]]
    {
        assert_eq!(flux(&good, 2, 2, true), [] as [&str; 0]);
    }
    assert_eq!(flux(&[of("Ready", "True", 1, "A")], 1, 2, false), [] as [&str; 0], "the client has just changed the spec");
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

#[test]
fn an_order_that_is_ready_waits_for_nothing_and_nothing_is_released_before_it_is_stopped() {
    use serde_json::json;
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "A", "message": "m", "observedGeneration": 1,
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let wrong = |patch: Value| {
        let mut status =
            json!({"observedGeneration": 1, "phase": "Active", "server": {"id": "17"}, "conditions": [condition("Ready", "True")]});
        for (name, value) in patch.as_object().unwrap() {
            status[name] = value.clone();
        }
        violations(None, &json!({"kind": "DedicatedServerOrder", "metadata": {"generation": 1}, "status": status}), &[])
    };
    assert_eq!(wrong(json!({})), [] as [String; 0]);
    for bad in [
        json!({"lastError": {"step": "PowerOn", "code": "IpmiError"}}),
        json!({"waitingOn": {"kind": "Panel", "name": "x"}}),
        json!({"nextRetryTime": "2026-01-01T00:00:00Z"}),
    ] {
        assert!(wrong(bad.clone()).iter().any(|what| what.starts_with("Ready, and ")), "{bad}");
    }
    let releasing = |state: &str| {
        let conditions = [condition("Ready", "False"), condition("Reconciling", "True")];
        let task = json!({"name": "stopserver-u-1", "type": "StopServer", "state": state});
        wrong(json!({"phase": "Deleting", "conditions": conditions, "inFlight": {"call": "release"}, "manualTasks": [task]}))
    };
    assert_eq!(releasing("Done"), [] as [String; 0]);
    assert_eq!(releasing("Open"), ["the server is being released while a StopServer task is open"]);
}
