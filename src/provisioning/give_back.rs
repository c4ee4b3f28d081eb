//! Giving a server back while the order lives: a half-prepared one, for another server or because nothing more is tried.
//!
//! Why, and what follows, stands in `status.server.returning`; from then on the order runs the flow of closing, until the
//! panel shows the server free. Only then the server leaves the status: a crash at any point is continued, and a deletion in
//! the middle is the same flow with another end.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::order::{OrderStatus, Returning, ServerStatus, TriedServer};
use crate::panel::model::ServerId;

use super::context::{Cx, Flow, Halt, LONG, Recheck, Wait, WaitKind, after, cut};
use super::order::Handler;
use super::reason::Reason;
use super::step::Step;

/// Servers that a status remembers.
const REMEMBERED: usize = 16;
/// `returning.then`: another server is looked for.
const TRY_ANOTHER: &str = "TryAnother";
/// `returning.then`: the order stalls.
const STALL: &str = "Stall";

/// What an order does once its server is free again. Reason and message say why the server is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Look for another server; this one is not taken again.
    TryAnother(Reason, String),
    /// Stall for this reason, until the order is changed or somebody asks for an attempt.
    Stall(Reason, String),
}

/// Begins to give the order's server back. A server that is, was, or may have become the client's is never given back this way,
/// nor is one that was taken over: the order stalls instead.
pub(super) fn give_back(cx: &mut Cx<'_>, then: Then) -> Halt {
    let (word, reason, message) = match then {
        Then::TryAnother(reason, message) => (TRY_ANOTHER, reason, message),
        Then::Stall(reason, message) => (STALL, reason, message),
    };
    let step = super::decide::current_step(cx);
    if may_be_the_clients(cx) {
        let message = format!("{message}; the server may hold a client's data, so it is not given back while the order lives");
        return cx.stall(step, reason, &message, Recheck::OnChange);
    }
    let since = Time::seconds(cx.now);
    let Some(server) = cx.status.server.as_mut() else {
        return cx.stall(step, reason, &message, Recheck::OnChange);
    };
    let returning = Returning { reason: reason.as_str().into(), message: cut(&message, LONG), then: word.into(), since };
    server.returning.get_or_insert(returning);
    cx.forget_attempts();
    cx.supersede_tasks();
    let name = cx.handler.panel.clone();
    let message = format!("the server is given back: {message}");
    let until = Some(after(cx.now, cx.handler.poll));
    cx.wait(Step::PowerOff, Wait { kind: WaitKind::Panel, name: &name, reason: Reason::GivingBack, message, until, deadline: None })
}

/// Whether a client's data may be on the disks: handed over, perhaps handed over, or taken over from the beginning.
pub(super) fn may_be_the_clients(cx: &Cx<'_>) -> bool {
    let ever_asked = cx.status.steps.iter().any(|s| s.name == Step::HandOver.as_str() && s.attempts > 0);
    let handed_over = cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some());
    handed_over || ever_asked || cx.state(Step::HandOver).over() || cx.intent(Step::HandOver).is_some() || cx.order.adopt.is_some()
}

/// Whether the order's server is on its way back although the order lives.
#[must_use]
pub fn under_way(cx: &Cx<'_>) -> bool {
    !cx.order.deleting && cx.status.server.as_ref().is_some_and(|s| s.returning.is_some())
}

/// Goes on with a server that is being given back; `Continue` where none is.
pub(super) fn go_on(cx: &mut Cx<'_>) -> Flow {
    if !under_way(cx) {
        return Continue(());
    }
    if let Some(server) = cx.server_id().filter(|_| !cx.state(Step::Release).over()) {
        super::recovery::is_the_clients(cx, Step::PowerOff, &server)?;
    }
    super::closing::take_back(cx)?;
    Break(returned(cx))
}

/// The panel shows the server free, or does not know it any more: the order begins anew, or stalls.
fn returned(cx: &mut Cx<'_>) -> Halt {
    let Some((server, returning)) = cx.status.server.take().and_then(|s| s.returning.clone().map(|r| (s, r))) else {
        return cx.wait_for_list(Step::Allocate);
    };
    let stops = returning.then != TRY_ANOTHER;
    remember(cx, &server, &returning, stops);
    cx.status.in_flight = None;
    cx.status.steps.clear();
    cx.list_steps();
    cx.forget_attempts();
    cx.status.waiting_on = None;
    cx.status.progress = None;
    cx.supersede_tasks();
    if stops {
        return stopped(cx, &returning.reason, &returning.message);
    }
    // The pass ends here: what it did to the one server must not be taken for something done to the next.
    cx.wait_for_list(Step::Allocate)
}

fn remember(cx: &mut Cx<'_>, server: &ServerStatus, returning: &Returning, stops: bool) {
    let disks = super::cleaning::said(cx, server.template.is_some());
    cx.status.tried_servers.push(TriedServer {
        panel: server.panel.clone(),
        handler: server.handler.clone(),
        id: server.id.clone(),
        name: server.name.clone(),
        reason: returning.reason.clone(),
        message: cut(&format!("{}{disks}", returning.message), LONG),
        time: Time::seconds(cx.now),
        stopped_at: stops.then_some(cx.order.generation),
    });
    if cx.status.tried_servers.len() > REMEMBERED {
        cx.status.tried_servers.remove(0);
    }
}

fn stopped(cx: &mut Cx<'_>, reason: &str, message: &str) -> Halt {
    // A word of a later version is not known here.
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == reason).unwrap_or(Reason::OperationFailed);
    cx.stall(Step::Allocate, reason, message, Recheck::OnChange)
}

/// An order that stalled after its server was given back takes no other one, also after a restart, until its spec changes.
pub(super) fn stays_stopped(cx: &mut Cx<'_>) -> Flow {
    let last = cx.status.tried_servers.last().filter(|t| t.stopped_at == Some(cx.order.generation)).cloned();
    match last {
        Some(tried) if cx.status.server.is_none() && cx.status.in_flight.is_none() => Break(stopped(cx, &tried.reason, &tried.message)),
        Some(_) | None => Continue(()),
    }
}

/// Servers that the order gave back for something about them, and not because it was stopped.
#[must_use]
pub fn tried_ids(status: &OrderStatus) -> Vec<String> {
    status.tried_servers.iter().filter(|t| t.stopped_at.is_none()).map(|t| t.id.clone()).collect()
}

/// Whether this server is one of those.
#[must_use]
pub fn was_tried(status: &OrderStatus, handler: &Handler, server: &ServerId) -> bool {
    status.tried_servers.iter().any(|t| t.id == server.0 && t.panel == handler.panel && t.stopped_at.is_none())
}

/// How often a server was given back for this reason.
#[must_use]
pub fn times(status: &OrderStatus, reason: Reason) -> usize {
    status.tried_servers.iter().filter(|t| t.reason == reason.as_str()).count()
}

/// Somebody asks for an attempt: what was tried before may be tried again.
pub(super) fn forgive(status: &mut OrderStatus) {
    if status.server.is_none() && status.in_flight.is_none() {
        status.tried_servers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use crate::provisioning::context::Next;
    use crate::provisioning::decide::decide;
    use crate::provisioning::facts::{Facts, HandlerState};
    use crate::provisioning::order::{Handler, Order};
    use crate::provisioning::step::State;
    use crate::provisioning::verdict::Verdict;
    use serde_json::{Value, json};

    #[test]
    fn a_server_that_was_given_back_because_it_was_stopped_may_be_taken_again() {
        let status: OrderStatus = serde_json::from_value(serde_json::json!({"triedServers": [
            {"handler": "h/msk-1", "id": "17", "reason": "RecipeFailed", "message": "no", "time": "2026-01-01T00:00:00Z"},
            {"handler": "h/msk-1", "id": "18", "reason": "TaskCancelled", "message": "no", "time": "2026-01-01T00:00:00Z", "stoppedAt": 3},
        ]}))
        .unwrap();
        assert_eq!(tried_ids(&status), ["17"]);
    }

    fn order() -> Order {
        Order::parse(&samples::order(&json!({"metadata": {"uid": "u-web", "generation": 3}})), "c").unwrap()
    }

    fn handler() -> Handler {
        let departments = json!({"assembly": {"name": "A"}, "procurement": {"name": "P"}});
        let spec = samples::handler(&json!({"spec": {"departments": departments}})).spec;
        Handler::new(crate::api::common::ObjectKey { namespace: "shop".into(), name: "msk-1".into() }, &spec, "dci:1500/dcimgr".into())
    }

    fn status(change: impl FnOnce(&mut Value)) -> OrderStatus {
        let mut status = json!({
            "observedGeneration": 3,
            "server": {"id": "17", "handler": "shop/msk-1", "panel": "dci:1500/dcimgr", "configuration": "E3", "client": "acme"},
            "steps": [{"name": "PowerOn", "state": "Failed"}],
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    /// What giving back makes of a status.
    fn begin(order: &Order, status: OrderStatus, then: Then) -> (OrderStatus, Halt) {
        let (handler, facts) = (handler(), Facts::new(HandlerState::Ready, "op".into()));
        let mut cx = Cx { order, handler: &handler, facts: &facts, now: jiff::Timestamp::UNIX_EPOCH, status };
        let halt = give_back(&mut cx, then);
        (cx.status, halt)
    }

    fn stall() -> Then {
        Then::Stall(Reason::TaskCancelled, "cancelled by Assembly".into())
    }

    #[test]
    fn a_server_that_may_be_the_clients_is_never_given_back() {
        let adopted = Order { adopt: Some("17".into()), ..order() };
        assert!(begin(&adopted, status(|_| ()), stall()).0.server.unwrap().returning.is_none());
        let rows: [fn(&mut Value); 4] = [
            |s| s["server"]["handedOverAt"] = json!("2026-01-01T00:00:00Z"),
            |s| s["steps"] = json!([{"name": "HandOver", "state": "Failed", "attempts": 1}]),
            |s| s["steps"] = json!([{"name": "HandOver", "state": "Done"}]),
            |s| {
                s["inFlight"] = json!({"operationId": "1", "step": "HandOver", "call": "handOver", "target": "server/17", "attempt": 1,
                    "since": "2026-01-01T00:00:00Z", "outcome": "Sent"});
            },
        ];
        for (at, change) in rows.into_iter().enumerate() {
            let (after, halt) = begin(&order(), status(change), stall());
            assert!(after.server.unwrap().returning.is_none(), "row {at}");
            assert!(matches!(halt.verdict, Verdict::Stalled(Reason::TaskCancelled, ..)), "row {at}: {halt:?}");
        }
        assert!(begin(&order(), status(|_| ()), stall()).0.server.unwrap().returning.is_some());
    }

    #[test]
    fn the_first_reason_stays() {
        let (after, _) = begin(&order(), status(|_| ()), stall());
        let (after, _) = begin(&order(), after, Then::TryAnother(Reason::RecipeFailed, "later".into()));
        assert_eq!(after.server.unwrap().returning.unwrap().then, STALL);
    }

    #[test]
    fn an_order_that_stopped_stays_so_until_its_spec_changes_or_somebody_asks() {
        let order = order();
        let handler = handler();
        let (mut given, _) = begin(&order, status(|_| ()), stall());
        given.steps.iter_mut().for_each(|s| s.state = State::Done.as_str().into());
        let facts = Facts::new(HandlerState::Ready, "op".into());
        let mut cx = Cx { order: &order, handler: &handler, facts: &facts, now: jiff::Timestamp::UNIX_EPOCH, status: given };
        let halt = returned(&mut cx);
        assert!(matches!(&halt.verdict, Verdict::Stalled(Reason::TaskCancelled, m, false) if m == "cancelled by Assembly"), "{halt:?}");
        let stopped = cx.status;
        assert!(stopped.server.is_none() && stopped.in_flight.is_none() && !stopped.steps.iter().any(|s| s.state == "Done"));
        // As after a restart: everything is judged anew.
        let forced = Facts { forced: true, ..facts.clone() };
        let now = jiff::Timestamp::from_second(5).unwrap();
        let again = decide(&order, &handler, &forced, now, &stopped);
        assert_eq!(again.next, Next::Wait(None));
        assert_eq!(again.status.phase.as_deref(), Some("Failed"));
        let changed = Order { generation: 4, ..order.clone() };
        assert_eq!(decide(&changed, &handler, &facts, now, &stopped).status.waiting_on.unwrap().kind, "Panel", "looks for a server");
        let asked = Order { reconcile_requested: Some("now".into()), ..order };
        let after = decide(&asked, &handler, &facts, now, &stopped);
        assert!(after.status.tried_servers.is_empty() && after.status.waiting_on.unwrap().kind == "Panel");
    }

    #[test]
    fn the_list_of_tried_servers_is_bounded() {
        let (order, handler, facts) = (order(), handler(), Facts::new(HandlerState::Ready, "op".into()));
        let mut known = OrderStatus::default();
        for id in 0..40 {
            known.server = status(|s| s["server"]["id"] = json!(id.to_string())).server;
            let then = Then::TryAnother(Reason::RecipeFailed, "it failed".into());
            let mut cx = Cx { order: &order, handler: &handler, facts: &facts, now: jiff::Timestamp::UNIX_EPOCH, status: known };
            give_back(&mut cx, then);
            returned(&mut cx);
            assert!(was_tried(&cx.status, &handler, &ServerId(id.to_string())));
            known = cx.status;
        }
        assert_eq!(known.tried_servers.len(), REMEMBERED);
        assert_eq!(times(&known, Reason::RecipeFailed), REMEMBERED);
    }
}
