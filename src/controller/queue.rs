//! Which other orders wait for servers that an order could take (see `provisioning::queue`).

use crate::api::DedicatedServerOrder;
use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::provisioning::context::WaitKind;
use crate::provisioning::give_back::tried_ids;
use crate::provisioning::order::Order;
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
        if other.metadata.uid.as_ref() == Some(&order.uid) || serving_handler(other).as_ref() != Some(handler) || !waits(other) {
            return None;
        }
        let wanted = Wanted::new(&other.spec.configuration);
        if !compete(&order.wanted, &wanted) {
            return None;
        }
        let theirs = (other.metadata.creation_timestamp.as_ref().map(|t| t.0), other.metadata.uid.as_ref());
        let flight = other.status.as_ref().and_then(|s| s.in_flight.as_ref()).filter(|f| f.step == Step::Allocate.as_str());
        let waiting = Waiting {
            server_type: match wanted {
                Wanted::Ready(server_type) => Some(server_type),
                Wanted::Custom(_) => None,
            },
            asked_for: flight.and_then(|f| f.target.strip_prefix("server/")).map(str::to_owned),
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

/// Whether an order would take a server if one were free.
fn waits(order: &DedicatedServerOrder) -> bool {
    if order.metadata.deletion_timestamp.is_some() || order.spec.adopt.is_some() {
        return false;
    }
    let Some(status) = &order.status else { return true };
    let kept_back =
        |reason: Reason| condition::find(&status.conditions, ConditionType::Reconciling).is_some_and(|c| c.reason == reason.as_str());
    status.server.is_none()
        && status.last_error.is_none()
        && !condition::is_true(&status.conditions, ConditionType::Stalled)
        && !kept_back(Reason::LimitReached)
        && status.waiting_on.as_ref().is_none_or(|w| w.kind != WaitKind::Handler.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn order(status: &Value) -> DedicatedServerOrder {
        serde_json::from_value(json!({
            "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "metadata": {"name": "web"},
            "spec": {
                "handlerRef": {"name": "msk-1"}, "client": {"username": "acme"}, "configuration": {"serverType": "E3"},
                "domain": "a.example.net", "operatingSystem": {"template": "T"},
            },
            "status": status,
        }))
        .unwrap()
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
            (error, false),
            (condition("Stalled", "UnknownTemplate"), false),
            (condition("Reconciling", "LimitReached"), false),
            (json!({"server": {"id": "17", "name": "", "handler": "", "panel": "", "configuration": "", "client": ""}}), false),
        ] {
            assert_eq!(waits(&order(&status)), is, "{status}");
        }
    }
}
