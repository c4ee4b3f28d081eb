//! Closing an order whose handler, or whose handler's credentials, are gone: it waits, and a provider may end it.
//!
//! Nothing is ever given up silently: only the resolution `Abandon` of a task ends such an order. The task is raised once, after
//! the operator's grace time without a break, so that neither a restart nor a Secret that is being replaced raises one. When the
//! handler is back the task is not needed any more, and closing goes on.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::TaskSummary;
use crate::api::order_status::OrderStatus;
use crate::api::task::{Resolution, TaskType};
use crate::api::{ORDER_FINALIZER, ORDER_ID_ANNOTATION};

use super::context::{Cx, Flow, Halt, Wait, WaitKind, after};
use super::reason::Reason;
use super::step::Step;
use super::tasks::{Ask, OPEN};

/// Why the panel cannot be asked, and will not be able to be by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forsaken {
    /// There is no such handler any more: its finalizer was removed by force.
    HandlerMissing,
    /// The Secret with its credentials is gone, or lacks a key; in words.
    CredentialsMissing(String),
}

/// Waits for the handler; after the grace time asks its department.
pub(super) fn wait_or_ask(cx: &mut Cx<'_>, step: Step, lost: &Forsaken) -> Halt {
    if cx.state(Step::Release).over() {
        // Given up before, or confirmed by the panel, and the operator died before it could let the order go.
        return super::closing::forget(cx);
    }
    if *lost == Forsaken::HandlerMissing && !is_known_there(&cx.status) && !is_asked_there(cx) {
        return nobody_to_ask(cx, step);
    }
    if given_up_instead_of_stopped(cx) {
        return cx.abandon(step);
    }
    let (reason, why) = match lost {
        Forsaken::HandlerMissing => (Reason::HandlerNotFound, format!("handler {} does not exist any more", cx.handler.key)),
        Forsaken::CredentialsMissing(why) => {
            (Reason::CredentialsMissing, format!("the credentials of handler {} are missing: {why}", cx.handler.key))
        }
    };
    let name = cx.handler.key.to_string();
    // Another question, about a step that failed before, has another answer.
    let asked = cx.is_open(TaskType::FailedOperation) && cx.status.last_error.is_none();
    let began = cx.status.waiting_on.as_ref().filter(|w| w.kind == WaitKind::Handler.as_str() && w.name == name);
    let deadline = began.and_then(|w| w.deadline).map_or_else(|| after(cx.now, cx.facts.grace), |t| t.0);
    if !asked && cx.now < deadline {
        let message = format!("{why}; if it is not back in time, a task for {} is raised", cx.handler.operations);
        let wait = Wait { kind: WaitKind::Handler, name: &name, reason, message, until: Some(deadline), deadline: Some(deadline) };
        return cx.wait(step, wait);
    }
    let ask = question(cx, step, lost, &why);
    if !asked {
        // What failed before is looked at anew when the handler is back, and must not keep this task open then.
        cx.supersede(TaskType::FailedOperation);
        cx.status.last_error = None;
        cx.status.attempts = 0;
    }
    match cx.ask(&ask) {
        Break(halt) => halt,
        Continue(Resolution::Abandon) => cx.abandon(step),
        Continue(Resolution::Done | Resolution::Retry | Resolution::Cancelled | Resolution::PartsMissing) => {
            // Looked at again; if nothing has changed by then, asked again.
            let until = after(cx.now, cx.facts.grace);
            let wait = Wait { kind: WaitKind::Handler, name: &name, reason, message: why, until: Some(until), deadline: Some(until) };
            cx.wait(step, wait)
        }
    }
}

/// Whether the status says that the order has, or may have, something at its handler's panel: the operator alone writes it, and wrote it
/// with that handler. That an order was restored is its author's word, and so is whose handler it names.
#[must_use]
pub fn is_known_there(status: &OrderStatus) -> bool {
    status.server.is_some() || status.in_flight.is_some() || !status.licenses.is_empty()
}

/// Whether a department has been asked in the namespace of this very handler, and may answer: the task is shown, and only what is in that
/// namespace is. What the status says alone may have been said of another one, which the order's author has changed since.
fn is_asked_there(cx: &Cx<'_>) -> bool {
    let type_ = TaskType::FailedOperation;
    let mut open = cx.status.manual_tasks.iter().filter(|t| t.type_ == type_.as_str() && t.state == OPEN);
    open.any(|t| cx.facts.tasks.iter().any(|view| view.name == t.name && (view.resolution.is_none() || view.answer().is_some())))
}

/// An order that its author calls restored, and names a handler that nobody sees: in whosever namespace that is no department is asked.
fn nobody_to_ask(cx: &mut Cx<'_>, step: Step) -> Halt {
    let name = cx.handler.key.to_string();
    let message = format!(
        "handler {name} does not exist, or this namespace may not use it, and nothing but the annotation {ORDER_ID_ANNOTATION} says that the order has something there: make the handler again; or, to end the order and leave everything at the panels as it is, remove that annotation from it, or the finalizer {ORDER_FINALIZER}"
    );
    let reason = Reason::HandlerNotFound;
    cx.wait(step, Wait { kind: WaitKind::Handler, name: &name, reason, message, until: None, deadline: None })
}

/// The department was asked to stop the server before the handler went, and gave it up.
fn given_up_instead_of_stopped(cx: &mut Cx<'_>) -> bool {
    let open = |t: &TaskSummary| t.type_ == TaskType::StopServer.as_str() && t.state == OPEN;
    let Some(at) = cx.status.manual_tasks.iter().position(open) else { return false };
    let name = cx.status.manual_tasks[at].name.as_str();
    let given_up = cx.facts.tasks.iter().find(|t| t.name == name && t.answer() == Some(Resolution::Abandon));
    let Some(note) = given_up.map(|t| t.note.clone()) else { return false };
    cx.close(at, Resolution::Abandon.as_str(), &note);
    true
}

fn question(cx: &Cx<'_>, step: Step, lost: &Forsaken, why: &str) -> Ask {
    let left = left_in_lines(cx);
    let type_ = TaskType::FailedOperation.as_str();
    let open = cx.status.manual_tasks.iter().find(|t| t.type_ == type_ && t.state == OPEN).map(|t| t.department.clone());
    // Without a handler nobody knows its departments: whoever was asked already stays asked.
    let department = open.filter(|_| *lost == Forsaken::HandlerMissing).unwrap_or_else(|| cx.handler.operations.clone());
    Ask {
        type_: TaskType::FailedOperation,
        department,
        step,
        summary: format!("Order {} cannot be closed: its handler or the handler's credentials are gone", cx.order.key),
        details: format!(
            "Order {} ({}) is being deleted, but {why}.\n\nStill at the panels, as far as the order knows:\n{left}\n\nPut the handler and its Secrets back: the operator then goes on by itself and closes this task. Or close it with\n  Abandon: the order goes and everything stays at the panels as it is; take the marker `{}` out of the server's notes and `{}` out of its addresses' when you have dealt with them;\n  Retry or Done: look again.",
            cx.order.key,
            cx.order.uid,
            cx.order.marker,
            cx.order.marker.short(),
        ),
    }
}

/// What an order that is given up leaves at the panels, one thing in each line.
#[must_use]
pub fn left_behind(status: &OrderStatus) -> Vec<String> {
    let intent = status.in_flight.as_ref().map(|f| format!("perhaps the effect of {} on {}, whose answer is not known", f.call, f.target));
    let server = status.server.iter().flat_map(|s| {
        let addresses = if s.addresses.is_empty() { s.main_address.clone().unwrap_or_default() } else { s.addresses.join(", ") };
        // Taken for nobody, and without a marker: only the order knows of it.
        let parked = s.parked_address.as_ref().filter(|parked| s.main_address.as_ref() != Some(parked) && !s.addresses.contains(parked));
        let parked = parked.map(|parked| format!("parking address {parked}, which was replaced; perhaps nobody gave it back"));
        let server = [format!("server {} ({}) of panel {}, client {}", s.id, s.name, s.panel, s.client), format!("addresses: {addresses}")];
        server.into_iter().chain(parked)
    });
    let licenses = status.licenses.iter().filter_map(|l| {
        let handler = l.handler.as_deref().unwrap_or("its licence server");
        match (&l.id, l.answered_at) {
            (Some(id), _) => Some(format!("licence {id} ({}) at {handler}", l.product)),
            // Bought, and nobody named it yet.
            (None, Some(at)) => Some(format!("a licence ({}) that {handler} said at {at} it made, without its id", l.product)),
            (None, None) => None,
        }
    });
    let lines: Vec<String> = server.chain(licenses).chain(intent).collect();
    if lines.is_empty() { vec!["nothing that the status names; look for the marker".into()] } else { lines }
}

/// The same for people to read in a task.
pub(super) fn left_in_lines(cx: &Cx<'_>) -> String {
    format!("- {}", left_behind(&cx.status).join("\n- "))
}

/// The order's server is at the panel that the handler speaks with: a handler that was made anew under an old name may name
/// another panel, where the same id is another machine.
pub(super) fn same_panel(cx: &mut Cx<'_>, step: Step) -> Flow {
    let here = &cx.handler.panel;
    match cx.status.server.as_ref().map(|s| s.panel.clone()).filter(|panel| !panel.is_empty() && panel != here) {
        None => Continue(()),
        Some(panel) => {
            let message =
                format!("the order's server is at panel {panel}, and handler {} speaks with {here}; put the address back", cx.handler.key);
            Break(super::drift::not_touched(cx, step, Reason::PanelChanged, &message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_names_everything_that_the_status_knows_of() {
        let status = |value: serde_json::Value| serde_json::from_value::<OrderStatus>(value).unwrap();
        let server = |more: serde_json::Value| {
            let mut server = serde_json::json!({"id": "17", "name": "s17", "handler": "hosting/msk-1", "panel": "dci:1500", "configuration": "E3", "client": "acme"});
            server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            status(
                serde_json::json!({"server": server, "licenses": [{"product": "lite", "id": "700001", "handler": "hosting/isp", "state": "Active"}]}),
            )
        };
        let licence = "licence 700001 (lite) at hosting/isp";
        let machine = "server 17 (s17) of panel dci:1500, client acme";
        let replaced = serde_json::json!({"mainAddress": "203.0.113.10", "parkedAddress": "10.0.0.17"});
        let parked = "parking address 10.0.0.17, which was replaced; perhaps nobody gave it back";
        assert_eq!(left_behind(&server(replaced)), [machine, "addresses: 203.0.113.10", parked, licence]);
        let not_yet = serde_json::json!({"mainAddress": "10.0.0.17", "parkedAddress": "10.0.0.17"});
        assert_eq!(left_behind(&server(not_yet)), [machine, "addresses: 10.0.0.17", licence]);
        let bought = serde_json::json!({"product": "pro", "handler": "hosting/isp", "answeredAt": "2026-01-01T00:00:00Z"});
        let unnamed = status(serde_json::json!({"licenses": [bought, {"product": "lite", "handler": "hosting/isp"}]}));
        assert_eq!(left_behind(&unnamed), ["a licence (pro) that hosting/isp said at 2026-01-01T00:00:00Z it made, without its id"]);
        assert_eq!(left_behind(&status(serde_json::json!({}))), ["nothing that the status names; look for the marker"]);
    }
}
