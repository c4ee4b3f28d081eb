//! Passes over an order that do not come to their end, and orders over which there is none: what they leave behind.

use crate::api::DedicatedServerOrder;
use crate::api::order::InFlight;
use crate::api::order_status::OrderStatus;
use crate::provisioning::call::Call;
use crate::provisioning::facts::Facts;
use crate::provisioning::inflight::SENT;

use super::context::Context;
use super::order::{Ended, OrderError, Pass, fresh, known, save};
use super::places::at_work;
use super::status::StatusError;

/// Gives the places of an order back that is refused, or whose handler cannot serve it, unless something of it may run at the panel (of one
/// that is refused a call, for two hours at most): no pass does so, and others would wait for ever.
pub(super) fn leave_unless_at_work(context: &Context, order: &DedicatedServerOrder) {
    if !at_work(order) {
        leave(context, order.metadata.uid.as_deref().unwrap_or_default());
    }
}

/// Gives the places of an order back, and wakes whoever waits for one.
pub(super) fn leave(context: &Context, uid: &str) {
    for key in context.panels.leave(uid) {
        context.wake_orders.wake(&key);
    }
}

/// What is done where a piece of work fails, panics, or is dropped before its end.
pub(super) struct Otherwise<'w, W> {
    pub(super) on: &'w mut W,
    pub(super) ended: bool,
    pub(super) then: fn(&W),
}

impl<W> Drop for Otherwise<'_, W> {
    fn drop(&mut self) {
        if !self.ended {
            (self.then)(self.on);
        }
    }
}

impl Pass<'_> {
    /// One pass. Where it comes to nothing, as in a panic or at the time-out of a reconcile, the order gives its place back: one whose passes
    /// all end so must not keep others from theirs.
    pub(super) async fn run(mut self) -> Result<Ended, OrderError> {
        let mut pass = Otherwise { on: &mut self, ended: false, then: |pass| pass.keep_place(false) };
        let result = Box::pin(pass.on.go()).await;
        pass.ended = result.is_ok();
        result
    }

    /// Whether the order is still what was decided upon. Where it is not the next pass reads it anew, and an intent under which nothing is
    /// missing goes: nobody is told of an answer that was lost, and nobody waits for it.
    pub(super) async fn still_the_same(&self, facts: &Facts) -> Result<bool, OrderError> {
        let now = fresh(self.context, &self.parsed.key).await?;
        let intent = |o: &DedicatedServerOrder| o.status.as_ref().and_then(|s| s.in_flight.clone());
        let ours = now.filter(|now| {
            now.metadata.uid == self.order.metadata.uid
                && intent(now).map(|f| f.operation_id) == intent(&self.order).map(|f| f.operation_id)
        });
        let same = |now: &DedicatedServerOrder| {
            now.metadata.generation == self.order.metadata.generation && now.metadata.deletion_timestamp.is_some() == self.parsed.deleting
        };
        if ours.as_ref().is_some_and(same) {
            return Ok(true);
        }
        self.context.memory.outrun(&self.parsed.uid);
        if let Some(now) = ours.filter(|now| intent(now).is_some_and(|f| is_answered(&f, facts))) {
            match save(&now, OrderStatus { in_flight: None, ..known(&now) }, self.context).await {
                Ok(_) | Err(OrderError::Status(StatusError::Conflict(_) | StatusError::Gone(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Whether all that was asked for under an intent took addresses away, and was answered: each shows before the next one is asked for.
fn is_answered(intent: &InFlight, facts: &Facts) -> bool {
    let own = facts.own_operation.as_deref() == Some(&intent.operation_id) && intent.outcome == SENT;
    let began = ["removeAddress", "giveBackAddress"].contains(&intent.call.as_str());
    let known = facts.ambiguous.is_none() && facts.last_refused.is_none();
    let took = |call: &Call| matches!(call, Call::RemoveAddress { .. } | Call::GiveBack { .. });
    own && began && known && facts.applied.last().is_some_and(took)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use kube::runtime::controller::Action;
    use serde_json::json;

    use super::*;
    use crate::api::common::ObjectKey;
    use crate::api::samples;
    use crate::controller::runner::contained;
    use crate::controller::runtime::{HandlerRuntime, ServerClient};
    use crate::panel::model::{AddressRowId, ServerId};
    use crate::provisioning::facts::HandlerState;
    use crate::provisioning::order::{Handler, Order};

    fn add(given: &AtomicUsize) {
        given.fetch_add(1, Ordering::SeqCst);
    }

    /// How often a place is given back by work that does this.
    async fn given_back(how: &str) -> usize {
        let mut given = AtomicUsize::new(0);
        let work = async {
            let mut work = Otherwise { on: &mut given, ended: false, then: add };
            match how {
                "hangs" => std::future::pending::<()>().await,
                "panics" => {
                    let nothing: Option<()> = std::hint::black_box(None);
                    nothing.expect("poison");
                }
                _ => tokio::task::yield_now().await,
            }
            work.ended = how == "ends";
            Ok::<_, Infallible>(Action::await_change())
        };
        let _ = contained(Duration::from_mins(10), work).await;
        given.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_fails_panics_or_hangs_gives_its_place_back_and_no_other() {
        for (how, times) in [("ends", 0), ("fails", 1), ("panics", 1), ("hangs", 1)] {
            assert_eq!(given_back(how).await, times, "{how}");
        }
    }

    /// Whether an order has its place when its pass asks the API server for something, and whether once that has failed, panicked or hung.
    async fn place_of(how: &'static str) -> (bool, bool) {
        let (handler, had) = (Arc::new(HandlerRuntime::default()), Arc::new(AtomicBool::new(false)));
        let (at, noted) = (handler.clone(), had.clone());
        let service = tower::service_fn(move |_: Request<Body>| {
            noted.fetch_or(at.places(|places| places.has("u-1")), Ordering::SeqCst);
            async move {
                match how {
                    "hangs" => std::future::pending::<()>().await,
                    "panics" => {
                        let nothing: Option<()> = std::hint::black_box(None);
                        nothing.expect("poison");
                    }
                    _ => {}
                }
                Err::<Response<Body>, _>(std::io::Error::other("broken"))
            }
        });
        let context = Context::with(&Client::new(service, "default"));
        handler.set_client(ServerClient { max_operations: 1, ..ServerClient::unasked(Handler::placeholder()) });
        handler.set_state(HandlerState::Ready);
        let order = samples::order(&json!({}));
        let parsed = Order::parse(&order, &context.cluster).unwrap();
        let key = ObjectKey { namespace: "h".into(), name: "msk-1".into() };
        let pass = Pass { context: &context, handler: handler.clone(), key, order, parsed, selecting: None, last: true };
        let work = async { Box::pin(pass.run()).await.map(|_| Action::await_change()) };
        let _ = contained(Duration::from_mins(10), work).await;
        (had.load(Ordering::SeqCst), handler.places(|places| places.has("u-1")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_fails_panics_or_hangs_gives_its_place_back() {
        for how in ["fails", "panics", "hangs"] {
            assert_eq!(place_of(how).await, (true, false), "{how}");
        }
    }

    #[test]
    fn an_intent_whose_removals_were_all_answered_tells_of_no_lost_answer() {
        let intent = |call: &str, outcome: &str| -> InFlight {
            serde_json::from_value(json!({
                "operationId": "op", "step": "ChangeAddress", "call": call, "target": "server/17", "attempt": 1,
                "since": "2026-01-01T00:00:00Z", "outcome": outcome,
            }))
            .unwrap()
        };
        let address = "203.0.113.12".parse().unwrap();
        let remove = Call::RemoveAddress { server: ServerId("17".into()), row: AddressRowId("3".into()), address };
        let mut facts = Facts::new(HandlerState::Ready, "next".into());
        facts.own_operation = Some("op".into());
        let answered = |facts: &Facts| is_answered(&intent("removeAddress", "Sent"), facts);
        assert!(!answered(&facts), "nothing was asked for yet");
        facts.applied = vec![remove.clone()];
        assert!(answered(&facts));
        facts.applied.push(Call::GiveBack { address });
        assert!(answered(&facts));
        assert!(!is_answered(&intent("removeAddress", "Ambiguous"), &facts) && !is_answered(&intent("takeAddress", "Sent"), &facts));
        facts.last_refused = Some(remove);
        assert!(!answered(&facts), "what was refused is looked at first");
        (facts.last_refused, facts.own_operation) = (None, Some("another".into()));
        assert!(!answered(&facts), "it is no intent of this pass");
    }
}
