//! `kubectl dci status`: an order on one screen.

use jiff::Timestamp;

use crate::api::DedicatedServerOrder;
use crate::api::common::Time;
use crate::api::condition::{self, ConditionType};
use crate::api::order::{OrderStatus, ServerStatus};
use crate::provisioning::reason::Reason;
use crate::provisioning::tasks::OPEN;
use crate::provisioning::wanted::Wanted;

use super::next::next;
use super::text::{NOTHING, Table, age, clean, deadline, span, when};

/// The whole screen.
#[must_use]
pub fn screen(order: &DedicatedServerOrder, now: Timestamp) -> String {
    let none = OrderStatus::default();
    let status = order.status.as_ref().unwrap_or(&none);
    let mut parts = vec![head(order, status, now)];
    parts.extend(steps(status, now));
    parts.extend(tasks(status, now));
    parts.extend(licenses(status, now));
    parts.push(format!("next: {}\n", clean(&next(order, now))));
    parts.join("\n")
}

fn head(order: &DedicatedServerOrder, status: &OrderStatus, now: Timestamp) -> String {
    let mut table = Table::bare();
    let created = order.metadata.creation_timestamp.as_ref().map(|t| Time(t.0));
    let phase = status.phase.as_deref().unwrap_or(NOTHING);
    let progress = status.progress.as_ref().map_or_else(String::new, |p| format!(", {}%", p.percent));
    table.row(["Order:", &format!("{} ({})", order.key(), age(now, created))]);
    table.row(["Phase:", &format!("{phase}{progress}")]);
    if let Some(deleted) = &order.metadata.deletion_timestamp {
        table.row(["Deleted:", &when(now, Time(deleted.0))]);
    }
    for (type_, good) in [(ConditionType::Ready, true), (ConditionType::Stalled, false)] {
        if let Some(c) = condition::find(&status.conditions, type_).filter(|c| good || c.status == "True") {
            table.row([
                &format!("{}:", c.type_),
                &format!("{} {}: {} ({})", c.status, c.reason, c.message, age(now, Some(c.last_transition_time))),
            ]);
        }
    }
    match &status.server {
        Some(server) => server_rows(&mut table, server),
        None => {
            table.row(["Wanted:", &Wanted::new(&order.spec.configuration).to_string()]);
            if let Some(handler) = status.handler.clone().or_else(|| crate::provisioning::order::handler_key(order).map(|k| k.to_string()))
            {
                table.row(["Handler:", &handler]);
            }
        }
    }
    table.row(["Client:", &order.spec.client.username]);
    waits(&mut table, status, now);
    table.text()
}

fn server_rows(table: &mut Table, server: &ServerStatus) {
    let name = if server.name.is_empty() { String::new() } else { format!(" ({})", server.name) };
    let power = server.power_state.as_ref().map_or_else(String::new, |state| format!(", power {state}"));
    table.row(["Server:", &format!("{}{name}, {}{power}", server.id, server.configuration)]);
    table.row(["Handler:", &server.handler]);
    let main = server.main_address.as_deref().unwrap_or_default();
    let others: Vec<&str> = server.addresses.iter().map(String::as_str).filter(|a| *a != main).collect();
    let more = if others.is_empty() { String::new() } else { format!(" (main), {}", others.join(", ")) };
    table.row(["Address:", &format!("{main}{more}")]);
    table.row(["Domain:", server.domain.as_deref().unwrap_or_default()]);
    if let Some(template) = &server.template {
        table.row(["System:", &[vec![template.clone()], server.recipes.clone()].concat().join(", ")]);
    }
    if !server.failed_recipes.is_empty() {
        table.row(["Failed recipes:", &server.failed_recipes.join(", ")]);
    }
    if let Some(back) = &server.returning {
        table.row(["Given back:", &format!("{}: {}; then {}", back.reason, back.message, back.then)]);
    }
}

/// What holds the order up, and what went wrong.
fn waits(table: &mut Table, status: &OrderStatus, now: Timestamp) {
    if let Some(wait) = &status.waiting_on {
        let until =
            wait.deadline.map_or_else(String::new, |at| format!(", {} {}", if at.0 > now { "until" } else { "due" }, when(now, at)));
        table.row(["Waits for:", &format!("{} {}, {}{until}: {}", wait.kind, wait.name, since(now, wait.since), wait.message)]);
    }
    if let Some(call) = &status.in_flight {
        let lost = match call.outcome.as_str() {
            "Ambiguous" => format!(", its answer is missing, looked for {} times", call.looks),
            "Answered" => format!(", answered as done, looked for {} times", call.looks),
            _ => String::new(),
        };
        table.row([
            "In flight:",
            &format!("{} on {} (step {}, attempt {}), {}{lost}", call.call, call.target, call.step, call.attempt, since(now, call.since)),
        ]);
    }
    if let Some(error) = &status.last_error {
        table.row(["Last error:", &format!("{} {}: {} ({})", error.step, error.code, error.message, when(now, error.time))]);
        let retry = status.next_retry_time.map_or_else(|| NOTHING.to_owned(), |at| when(now, at));
        table.row(["Attempts:", &format!("{} failed; next: {retry}", status.attempts)]);
    }
    if let Some(pending) = condition::find(&status.conditions, ConditionType::OSInstalled)
        .filter(|c| [Reason::ReinstallPending, Reason::ReinstallProtected].iter().any(|r| r.as_str() == c.reason))
    {
        table.row(["Not done yet:", &pending.message]);
    }
    for handler in &status.handlers {
        table.row(["Passed over:", &format!("{}: {}: {}", handler.name, handler.reason, handler.message)]);
    }
    for tried in &status.tried_servers {
        table.row(["Tried before:", &format!("server {} at {}: {}: {}", tried.id, tried.handler, tried.reason, tried.message)]);
    }
}

fn since(now: Timestamp, at: Time) -> String {
    format!("for {}", age(now, Some(at)))
}

fn steps(status: &OrderStatus, now: Timestamp) -> Option<String> {
    let mut table = Table::new(&["STEP", "STATE", "SINCE", "TOOK", "MESSAGE"]);
    for step in &status.steps {
        let took = match (step.started_at, step.finished_at) {
            (Some(from), Some(to)) => span(to.0.duration_since(from.0)),
            _ => String::new(),
        };
        table.row([&step.name, &step.state, &age(now, step.finished_at.or(step.started_at)), &took, &step.message]);
    }
    (!table.is_empty()).then(|| table.text())
}

fn tasks(status: &OrderStatus, now: Timestamp) -> Option<String> {
    let mut table = Table::new(&["OPEN TASK", "TYPE", "DEPARTMENT", "AGE", "DEADLINE"]);
    for task in status.manual_tasks.iter().filter(|t| t.state == OPEN) {
        let other = task.escalate_to.as_ref().filter(|_| task.escalated_at.is_some());
        let department = other.map_or_else(|| task.department.clone(), |other| format!("{},{other}", task.department));
        table.row([&task.name, &task.type_, &department, &age(now, task.opened_at), &deadline(now, task.deadline)]);
    }
    (!table.is_empty()).then(|| table.text())
}

fn licenses(status: &OrderStatus, now: Timestamp) -> Option<String> {
    let mut table = Table::new(&["LICENCE", "ID", "STATE", "ADDRESS", "ENDS"]);
    for license in &status.licenses {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let ends = license.expires_at.map_or_else(String::new, |at| when(now, at));
        table.row([&license.product, &text(&license.id), &text(&license.state), &text(&license.address), &ends]);
    }
    let keys = status.license_secret.as_ref().map_or_else(String::new, |name| format!("keys: in Secret {}\n", clean(name)));
    (!table.is_empty()).then(|| table.text() + &keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::json;

    fn shown(change: &serde_json::Value) -> String {
        screen(&samples::order(change), "2026-01-01T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn an_active_order_on_one_screen() {
        let text = shown(&json!({"metadata": {"creationTimestamp": "2026-01-01T09:00:00Z"}, "status": {
            "observedGeneration": 1, "phase": "Active", "progress": {"percent": 100, "step": "HandOver"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Active", "message": "the server is prepared",
                "lastTransitionTime": "2026-01-01T10:00:00Z"}],
            "server": {"id": "17", "name": "R1-17", "handler": "h/msk-1", "configuration": "E3", "mainAddress": "203.0.113.11",
                "addresses": ["203.0.113.11", "203.0.113.12"], "domain": "a.example", "powerState": "On", "template": "T",
                "recipes": ["nginx"]},
            "steps": [
                {"name": "PowerOn", "state": "Done", "startedAt": "2026-01-01T09:10:00Z", "finishedAt": "2026-01-01T09:11:00Z"},
                {"name": "Assemble", "state": "Skipped", "finishedAt": "2026-01-01T09:10:00Z", "message": "ready configuration"}],
            "licenses": [{"product": "Lite", "id": "5", "state": "Issued", "address": "203.0.113.11", "expiresAt": "2026-01-31T12:00:00Z"}],
            "licenseSecret": "web-licenses",
        }}));
        assert_eq!(
            text,
            "Order:     shop/web (3h)\n\
             Phase:     Active, 100%\n\
             Ready:     True Active: the server is prepared (120m)\n\
             Server:    17 (R1-17), E3, power On\n\
             Handler:   h/msk-1\n\
             Address:   203.0.113.11 (main), 203.0.113.12\n\
             Domain:    a.example\n\
             System:    T, nginx\n\
             Client:    acme\n\
             \n\
             STEP       STATE     SINCE   TOOK   MESSAGE\n\
             PowerOn    Done      169m    60s    -\n\
             Assemble   Skipped   170m    -      ready configuration\n\
             \n\
             LICENCE   ID   STATE    ADDRESS        ENDS\n\
             Lite      5    Issued   203.0.113.11   in 30d\n\
             keys: in Secret web-licenses\n\
             \n\
             next: nothing: the client has the server\n"
        );
    }

    #[test]
    fn what_holds_an_order_up_is_told() {
        let text = shown(&json!({"metadata": {"deletionTimestamp": "2026-01-01T11:00:00Z"}, "status": {
            "observedGeneration": 1, "phase": "Deleting", "attempts": 3, "nextRetryTime": "2026-01-01T12:05:00Z",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "WaitingForTask", "message": "m", "lastTransitionTime": "2026-01-01T11:00:00Z"},
                {"type": "OSInstalled", "status": "True", "reason": "ReinstallPending", "message": "waits", "lastTransitionTime": "2026-01-01T11:00:00Z"}],
            "server": {"id": "17", "handler": "h/msk-1", "configuration": "E3", "failedRecipes": ["r"]},
            "waitingOn": {"kind": "Department", "name": "stopserver-u-1-1", "since": "2026-01-01T11:30:00Z",
                "deadline": "2026-01-01T11:50:00Z", "message": "PowerOff"},
            "manualTasks": [
                {"name": "failedoperation-u-1-1", "type": "FailedOperation", "department": "Operations", "state": "Retry"},
                {"name": "stopserver-u-1-1", "type": "StopServer", "department": "Operations", "state": "Open",
                    "openedAt": "2026-01-01T11:30:00Z", "deadline": "2026-01-01T11:50:00Z", "escalatedAt": "2026-01-01T11:50:00Z",
                    "escalateTo": "Leads"}],
            "lastError": {"step": "PowerOff", "code": "IpmiError", "message": "dead", "retryable": true, "time": "2026-01-01T11:30:00Z"},
            "inFlight": {"operationId": "1", "step": "PowerOff", "call": "powerOff", "target": "server/17", "attempt": 2,
                "since": "2026-01-01T11:59:00Z", "outcome": "Ambiguous", "looks": 1},
            "handlers": [{"name": "msk-2", "reason": "HandlerSuspended", "message": "it is suspended"}],
        }}));
        for part in [
            "Deleted:          60m ago",
            "Ready:            False WaitingForTask: m (60m)",
            "Waits for:        Department stopserver-u-1-1, for 30m, due 10m ago: PowerOff",
            "In flight:        powerOff on server/17 (step PowerOff, attempt 2), for 60s, its answer is missing, looked for 1 times",
            "Last error:       PowerOff IpmiError: dead (30m ago)",
            "Attempts:         3 failed; next: in 5m",
            "Not done yet:     waits",
            "Failed recipes:   r",
            "Passed over:      msk-2: HandlerSuspended: it is suspended",
            "stopserver-u-1-1   StopServer   Operations,Leads   30m   OVERDUE 10m",
            "next: department Operations or Leads: kubectl dci close -n h stopserver-u-1-1 Done|Retry|Abandon\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("failedoperation-u-1-1"), "closed: {text}");
    }

    #[test]
    fn an_order_that_nobody_has_seen_shows_what_it_wants() {
        let text = shown(&json!({}));
        assert!(text.contains("Phase:     -\nWanted:    E3\nHandler:   shop/msk-1\n"), "{text}");
        assert!(text.ends_with("next: the operator: it has not seen the order yet; where that lasts, see whether it runs\n"), "{text}");
    }
}
