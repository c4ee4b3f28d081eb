//! Closing an order at several handlers, one after the other: the records of the steps in its status are those of one of them.

use crate::api::condition::{self, ConditionType};
use crate::api::order_status::{OrderStatus, StepStatus};

use super::order::Order;
use super::selection::may_have_been_restored;
use super::step::{CLOSING, State, Step};

/// A handler closes an order. Of one that was restored each handler does, one after the other; any other order is closed at one, whichever
/// can be asked: what was tried before was tried at the licence server that its status names, and goes on.
pub fn close_at(order: &Order, status: &mut OrderStatus, handler: &str) {
    if may_have_been_restored(order) {
        begin_at(status, handler);
    } else {
        status.handler = Some(handler.to_owned());
    }
}

/// A handler begins to close an order, or goes on where the status names it. What another one found says nothing of this one: neither that
/// there were no licences, nor what was tried there, or what the order stands still for.
fn begin_at(status: &mut OrderStatus, handler: &str) {
    if status.handler.as_deref() == Some(handler) {
        return;
    }
    status.steps.retain(|s| Step::parse(&s.name).is_none_or(|step| !CLOSING.contains(&step)));
    super::attempts::forget(status);
    status.waiting_on = None;
    condition::remove(&mut status.conditions, ConditionType::Stalled);
    status.handler = Some(handler.to_owned());
}

/// Whether a call leads to a handler that was asked for while several were looked at, or before that: what is left of a restored order may
/// be at any of them, and nothing but the call names this one.
#[must_use]
pub fn is_under_way(order: &Order, status: &OrderStatus) -> bool {
    let leads = status.server.is_none() && status.in_flight.as_ref().is_some_and(|f| f.handler.is_some());
    leads && order.deleting && order.selector.is_some() && may_have_been_restored(order)
}

/// The step that says that a department gave the order up.
#[must_use]
pub fn given_up(status: &OrderStatus) -> Option<&StepStatus> {
    status.steps.iter().find(|s| s.name == Step::Release.as_str() && State::parse(&s.state) == State::Skipped)
}

/// Whether it is saved that nothing of an order is left at a handler (`left`). What is stored may be what another one waits for: the two
/// would write the order in turn. It is saved at the last one, where this one has written something ahead, and where a department gave the
/// order up.
#[must_use]
pub fn is_saved(stored: Option<&OrderStatus>, left: &OrderStatus, last: bool) -> bool {
    let ahead = stored.and_then(|s| s.in_flight.as_ref()) != left.in_flight.as_ref();
    last || ahead || given_up(left).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> OrderStatus {
        let steps = json!([{"name": "Allocate", "state": "Done"}, {"name": "RevokeLicenses", "state": "Skipped"}]);
        let at = "2026-01-01T00:00:00Z";
        let stalled = json!({"type": "Stalled", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": at});
        serde_json::from_value(json!({"handler": "hosting/a", "steps": steps, "attempts": 2, "conditions": [stalled]})).unwrap()
    }

    #[test]
    fn a_handler_begins_anew_with_an_order_and_goes_on_with_its_own_records() {
        let begun = |handler: &str| {
            let mut status = status();
            begin_at(&mut status, handler);
            status
        };
        assert_eq!(begun("hosting/a"), status());
        let other = begun("hosting/b");
        let names: Vec<&str> = other.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!((names.as_slice(), other.attempts, other.handler.as_deref()), (["Allocate"].as_slice(), 0, Some("hosting/b")));
        assert!(other.conditions.is_empty(), "what it stands still for there is no reason here");
    }

    #[test]
    fn a_call_that_was_made_in_a_round_is_no_reason_to_end_it() {
        let order = |spec: serde_json::Value, id: &str, deleted: Option<&str>| {
            let metadata = json!({"annotations": {crate::api::ORDER_ID_ANNOTATION: id}, "deletionTimestamp": deleted});
            Order::for_closing(&crate::api::samples::order(&json!({"metadata": metadata, "spec": spec})), "c").unwrap()
        };
        let selects = || json!({"handlerRef": null, "handlerSelector": {"namespace": "hosting", "matchLabels": {"zone": "msk"}}});
        let at = "2026-01-01T00:00:00Z";
        let deleted = Some(at);
        let flight = |handler: Option<&str>| {
            json!({"operationId": "1", "step": "RevokeLicenses", "call": "suspendLicense", "target": "license/1", "attempt": 1,
                   "since": at, "outcome": "Sent", "handler": handler})
        };
        let status = |value: serde_json::Value| serde_json::from_value::<OrderStatus>(value).unwrap();
        let asks = status(json!({"inFlight": flight(Some("hosting/a"))}));
        let server = json!({"id": "17", "handler": "hosting/a", "configuration": "E3"});
        assert!(is_under_way(&order(selects(), "u-old", deleted), &asks));
        assert!(!is_under_way(&order(selects(), "u-old", None), &asks), "it lives");
        assert!(!is_under_way(&order(json!({}), "u-old", deleted), &asks), "it names one handler");
        let own = crate::api::samples::order(&json!({})).metadata.uid.unwrap();
        assert!(!is_under_way(&order(selects(), &own, deleted), &asks), "its status was never lost");
        for other in [json!({}), json!({"inFlight": flight(None)}), json!({"inFlight": flight(Some("hosting/a")), "server": server})] {
            assert!(!is_under_way(&order(selects(), "u-old", deleted), &status(other.clone())), "{other}");
        }
    }

    #[test]
    fn that_nothing_is_left_is_saved_where_somebody_has_to_know() {
        let mut given_up = status();
        given_up.steps.push(StepStatus { name: "Release".into(), state: "Skipped".into(), ..StepStatus::default() });
        assert!(is_saved(None, &given_up, false) && is_saved(None, &status(), true) && !is_saved(None, &status(), false));
        let flight = json!({"operationId": "1", "step": "Release", "call": "giveBack", "target": "address/192.0.2.1", "attempt": 1,
                            "since": "2026-01-01T00:00:00Z", "outcome": "Sent"});
        let stored: OrderStatus = serde_json::from_value(json!({"inFlight": flight})).unwrap();
        assert!(is_saved(Some(&stored), &status(), false), "what was written ahead is taken back");
    }
}
