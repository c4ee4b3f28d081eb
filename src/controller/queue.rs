//! Which other orders wait for servers that an order could take (see `provisioning::queue`).

use crate::api::DedicatedServerOrder;
use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::order::InFlight;
use crate::provisioning::context::WaitKind;
use crate::provisioning::give_back::tried_ids;
use crate::provisioning::order::{Order, selector};
use crate::provisioning::queue::{Queue, Waiting, compete};
use crate::provisioning::reason::Reason;
use crate::provisioning::step::Step;
use crate::provisioning::wanted::Wanted;

use super::context::{Context, serving_handler};

/// The orders of this handler that wait for what `order` waits for. Orders that would not take a server if there were one (they
/// stalled, back off, or are kept back by a limit) are no part of it: a younger order does not wait behind them.
pub fn of(context: &Context, order: &Order, handler: &ObjectKey) -> Queue {
    let mine = (Some(order.created), Some(&order.uid));
    let mut queue = Queue::default();
    let others = context.orders.read(|other| {
        let wanted = rival(order, handler, other)?;
        let theirs = (other.metadata.creation_timestamp.as_ref().map(|t| t.0), other.metadata.uid.as_ref());
        let flight = other.status.as_ref().and_then(|s| s.in_flight.as_ref()).filter(|f| f.step == Step::Allocate.as_str());
        let waiting = Waiting {
            server_type: match wanted {
                Wanted::Ready(server_type) => Some(server_type),
                Wanted::Custom(_) => None,
            },
            asked_for: flight.and_then(InFlight::server).map(str::to_owned),
            tried: other.status.as_ref().map(tried_ids).unwrap_or_default(),
        };
        Some((theirs < mine, waiting))
    });
    for (ahead, waiting) in others {
        if ahead {
            queue.ahead.push(waiting);
        } else {
            queue.behind += 1;
        }
    }
    queue
}

/// The order that has waited longest for what `order` waited for: it goes on where this one does not.
pub fn next(context: &Context, order: &Order, handler: &ObjectKey) -> Option<ObjectKey> {
    context.oldest(|other| rival(order, handler, other).is_some())
}

/// Whether an order without a server goes on only when somebody changes something.
#[must_use]
pub fn stands_still(order: &DedicatedServerOrder) -> bool {
    order.status.as_ref().is_some_and(|s| s.server.is_none() && condition::is_true(&s.conditions, ConditionType::Stalled))
}

/// What another order wants, where it waits at this handler for a server that `order` could take, too.
fn rival(order: &Order, handler: &ObjectKey, other: &DedicatedServerOrder) -> Option<Wanted> {
    if other.metadata.uid.as_ref() == Some(&order.uid) || !waits(other) || !stands_at(other, handler) {
        return None;
    }
    Some(Wanted::new(&other.spec.configuration)).filter(|wanted| compete(&order.wanted, wanted))
}

/// Whether an order waits at this handler: the one that it names, or one of those that it selects, was allowed to use, and was passed
/// over at for nothing but a free server.
fn stands_at(order: &DedicatedServerOrder, handler: &ObjectKey) -> bool {
    match serving_handler(order) {
        Some(serving) => serving == *handler,
        None => {
            let notes = order.status.as_ref().map(|s| s.handlers.as_slice()).unwrap_or_default();
            let noted = notes.iter().any(|n| n.name == handler.name && n.reason == Reason::WaitingForCapacity.as_str());
            noted && selector(order).is_some_and(|s| s.namespace == handler.namespace)
        }
    }
}

/// Whether an order would take a server if one were free.
fn waits(order: &DedicatedServerOrder) -> bool {
    if order.metadata.deletion_timestamp.is_some() || order.spec.adopt.is_some() {
        return false;
    }
    let Some(status) = &order.status else { return true };
    let kept_back =
        |reason: Reason| condition::find(&status.conditions, ConditionType::Reconciling).is_some_and(|c| c.reason == reason.as_str());
    status.server.is_none()
        && (status.last_error.is_none() || status.waiting_on.as_ref().is_some_and(|w| w.kind == WaitKind::Capacity.as_str()))
        && !condition::is_true(&status.conditions, ConditionType::Stalled)
        && !kept_back(Reason::LimitReached)
        && status.waiting_on.as_ref().is_none_or(|w| w.kind != WaitKind::Handler.as_str() && w.kind != WaitKind::Retry.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    fn order(status: &Value) -> DedicatedServerOrder {
        samples::order(&json!({"status": status}))
    }

    #[test]
    fn only_who_would_take_a_server_stands_in_the_queue() {
        let condition = |type_: &str, reason: &str| {
            json!({"conditions": [{
                "type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]})
        };
        let waiting = |kind: &str| json!({"waitingOn": {"kind": kind, "name": "x", "since": "2026-01-01T00:00:00Z"}});
        let error = json!({"lastError": {
            "step": "Allocate", "code": "busy", "message": "x", "retryable": true, "time": "2026-01-01T00:00:00Z",
        }});
        for (status, is) in [
            (json!({}), true),
            (json!({"observedGeneration": -1}), true),
            (waiting("Capacity"), true),
            (waiting("Panel"), true),
            (condition("Reconciling", "WaitingForCapacity"), true),
            (waiting("Handler"), false),
            // A Secret of the user's that is not there.
            (waiting("Retry"), false),
            (error.clone(), false),
            (json!({"waitingOn": waiting("Capacity")["waitingOn"], "lastError": error["lastError"]}), true),
            (condition("Stalled", "UnknownTemplate"), false),
            (condition("Reconciling", "LimitReached"), false),
            (json!({"server": {"id": "17", "name": "", "handler": "", "panel": "", "configuration": "", "client": ""}}), false),
        ] {
            assert_eq!(waits(&order(&status)), is, "{status}");
        }
    }

    #[test]
    fn an_order_with_a_selector_stands_where_it_was_passed_over_for_a_free_server() {
        let selecting = |namespace: &str, status: &Value| {
            let mut order = order(status);
            order.metadata.namespace = Some("shop".into());
            order.spec.handler_ref = None;
            let selector = json!({"namespace": namespace, "matchLabels": {"zone": "msk"}});
            order.spec.handler_selector = serde_json::from_value(selector).unwrap();
            order
        };
        let note = |name: &str, reason: &str| json!({"handlers": [{"name": name, "reason": reason, "message": ""}]});
        let handler = ObjectKey { namespace: "hosting".into(), name: "msk-1".into() };
        for (namespace, status, is) in [
            ("hosting", note("msk-1", "WaitingForCapacity"), true),
            ("hosting", note("msk-1", "HandlerSuspended"), false),
            ("hosting", note("msk-2", "WaitingForCapacity"), false),
            ("other", note("msk-1", "WaitingForCapacity"), false),
            ("hosting", json!({}), false),
        ] {
            assert_eq!(stands_at(&selecting(namespace, &status), &handler), is, "{namespace} {status}");
        }
        let mut bound = note("msk-1", "WaitingForCapacity");
        bound["server"] = json!({"id": "17", "name": "", "handler": "hosting/msk-2", "panel": "", "configuration": "", "client": ""});
        assert!(!stands_at(&selecting("hosting", &bound), &handler), "served by another one");
        let mut named = order(&json!({}));
        named.metadata.namespace = Some("hosting".into());
        assert!(stands_at(&named, &handler));
    }
}
