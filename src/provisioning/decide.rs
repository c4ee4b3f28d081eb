//! The one entrance: order, handler and facts in; the new status and the next action out.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::condition::{self, ConditionType};
use crate::api::order::OrderStatus;
use crate::api::task::TaskType;
use crate::panel::error::{ErrorClass, PanelError};

use super::context::{Cx, Flow, Halt, Next, Wait, WaitKind, after};
use super::facts::{Facts, HandlerState, Row};
use super::order::{Handler, Order};
use super::reason::Reason;
use super::step::{CLOSING, OPENING, Step};
use super::tasks::OPEN;
use super::verdict::{Phase, conclude};

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status as it will be.
    pub status: OrderStatus,
    /// What the shell has to do.
    pub next: Next,
}

/// Decides what to do next for one order. Pure: the same arguments give the same answer.
#[must_use]
pub fn decide(order: &Order, handler: &Handler, facts: &Facts, now: Timestamp, status: &OrderStatus) -> Decision {
    let asked = asked(order, status);
    let mut cx = Cx { order, handler, facts, now, status: status.clone() };
    super::clock::put_right(&mut cx.status, handler, now);
    super::tasks::date_open(&mut cx.status, &facts.tasks);
    super::license_answers::note(&mut cx);
    let pressing = super::license_renewal::is_pressing(&cx);
    if !asked
        && !pressing
        && let Some(next) = held(order, facts, now, &cx.status)
    {
        super::license_renewal::note_shown(&mut cx);
        return Decision { status: cx.status, next };
    }
    if !pressing && let Some(until) = blind(&cx) {
        return Decision { status: cx.status, next: Next::Wait(Some(until)) };
    }
    if asked {
        super::give_back::forgive(&mut cx.status);
    }
    super::assembly::call_off(&mut cx);
    super::assembly::reopen(&mut cx);
    let halt = match run(&mut cx) {
        ControlFlow::Break(halt) => halt,
        ControlFlow::Continue(()) => super::opening::active(&mut cx),
    };
    let halt = super::license_renewal::meanwhile(&mut cx, halt);
    let mut status = cx.status;
    if asked {
        status.last_handled_reconcile_at.clone_from(&order.reconcile_requested);
    }
    let pending = super::reinstallation::pending(order, handler, &status);
    conclude(&mut status, &halt.verdict, order.generation, now, pending);
    Decision { status, next: halt.next }
}

/// Whether somebody wants an attempt now.
#[must_use]
pub fn asked(order: &Order, status: &OrderStatus) -> bool {
    order.reconcile_requested.is_some() && order.reconcile_requested != status.last_handled_reconcile_at
}

/// Until when an order is left alone: it stalled or backs off, and nothing has changed since.
fn held(order: &Order, facts: &Facts, now: Timestamp, status: &OrderStatus) -> Option<Next> {
    let forsaken = order.deleting && facts.forsaken.is_some();
    let changed = status.observed_generation != Some(order.generation) || closing_begins(order.deleting, status);
    if facts.forced || forsaken || changed || was_unreadable(status) {
        return None;
    }
    // A task was closed, or somebody deleted one that is needed.
    let view = |name: &str| facts.tasks.iter().find(|t| t.name == name);
    if status.manual_tasks.iter().any(|t| t.state == OPEN && super::tasks::is_overdue(t, now)) {
        return None;
    }
    if status.manual_tasks.iter().filter(|t| t.state == OPEN).any(|t| view(&t.name).is_none_or(|v| v.resolution.is_some())) {
        return None;
    }
    let stalled = condition::is_true(&status.conditions, ConditionType::Stalled);
    let pausing = [WaitKind::Retry, WaitKind::Capacity, WaitKind::Handler].map(WaitKind::as_str);
    let retrying = status.waiting_on.as_ref().is_some_and(|w| pausing.contains(&w.kind.as_str()));
    // One that is found as it was keeps the time that is on record; when it is looked at again the process remembers.
    let until = status.next_retry_time.map(|t| t.0).map(|at| facts.recheck.filter(|_| stalled).map_or(at, |next| at.max(next)));
    match until {
        Some(at) if (stalled || retrying) && now < at => Some(Next::Wait(Some(at))),
        None if stalled => Some(Next::Wait(None)),
        Some(_) | None => None,
    }
}

/// The order could not be read when it was last looked at: nothing that is said of it now was decided.
fn was_unreadable(status: &OrderStatus) -> bool {
    let stalled = condition::find(&status.conditions, ConditionType::Stalled);
    stalled.is_some_and(|c| c.reason == Reason::InvalidObject.as_str())
}

/// An order whose server drifted stays stalled for as long as the panel cannot be asked whether it still does.
fn blind(cx: &Cx<'_>) -> Option<Timestamp> {
    let seen = cx.status.observed_generation == Some(cx.order.generation);
    let stalled = condition::is_true(&cx.status.conditions, ConditionType::Stalled) && !was_unreadable(&cx.status);
    if !stalled || !seen || !super::opening::at_rest(cx) {
        return None;
    }
    // Whether licences are in order tells their server, which may be there; and a spec that was refused may be allowed by now.
    let drifted = cx.status.last_error.as_ref().is_some_and(|e| super::drift::is_drift(&e.code));
    let changed = (cx.facts.forced && !cx.facts.restarted) || asked(cx.order, &cx.status);
    if !cx.state(Step::IssueLicenses).over() || (changed && !drifted) {
        return None;
    }
    let unseen = cx.server_id().is_none_or(|server| cx.row(&server) == Row::Unknown);
    let down = matches!(cx.facts.handler, HandlerState::NotReady(_));
    (down || unseen).then(|| after(cx.now, cx.handler.poll))
}

fn run(cx: &mut Cx<'_>) -> Flow {
    cx.note_lost_answer();
    cx.note_refusal();
    if closing_begins(cx.order.deleting, &cx.status) {
        begin_closing(&mut cx.status, cx.now);
    }
    cx.note_overdue();
    // What failed at another handler is no reason to wait at this one. What a department has cancelled of an order that selects is weighed
    // first: nobody but the selection has named this handler.
    if cx.order.handler.is_some() || cx.cancelled().is_none() {
        super::selection::settle_at(cx);
    }
    cx.weigh_attempts(asked(cx.order, &cx.status))?;
    cx.status.next_retry_time = None;
    if cx.status.waiting_on.as_ref().is_some_and(|w| w.kind == WaitKind::Retry.as_str()) {
        cx.status.waiting_on = None;
    }
    super::selection::settle_at(cx);
    cx.list_steps();
    record_token(&mut cx.status, &cx.order.reinstall);
    if !cx.order.deleting {
        super::suspension::overtake(cx);
        super::reinstallation::reconsider(cx);
    }
    let step = current_step(cx);
    if cx.order.deleting && super::closing::nothing_to_release(cx) {
        return ControlFlow::Break(super::closing::forget(cx));
    }
    if let HandlerState::NotReady(why) = &cx.facts.handler {
        if super::opening::at_rest(cx) {
            // A panel that is down is the handler's failure: an Active order stays what it is, and its licences do not end. What a
            // department was asked it is asked all the same.
            failed_before(cx)?;
            super::licenses::issue(cx)?;
            super::drift::still(cx)?;
            super::opening::allowed(cx)?;
            cx.status.last_error = None;
            cx.status.waiting_on = None;
            return ControlFlow::Break(Halt { next: Next::Wait(None), verdict: super::suspension::resting(cx) });
        }
        let message = why.clone();
        if let Some(lost) = cx.facts.forsaken.clone().filter(|_| cx.order.deleting) {
            return ControlFlow::Break(super::forsaken::wait_or_ask(cx, step, &lost));
        }
        return ControlFlow::Break(cx.wait_for_handler(step, Reason::HandlerNotReady, message));
    }
    super::forsaken::same_panel(cx, step)?;
    if let Some(error) = cx.facts.failed.clone() {
        super::main_address::note_unread(cx, &error);
        return ControlFlow::Break(unread(cx, step, &error));
    }
    failed_before(cx)?;
    super::done::verify(cx)?;
    if cx.order.deleting { super::closing::close(cx) } else { super::opening::open(cx) }
}

/// The first decision that an order is deleted in, whether anything can be done by then or not: what failed in its life is of the past.
fn begin_closing(status: &mut OrderStatus, now: Timestamp) {
    super::attempts::forget(status);
    status.waiting_on = None;
    status.progress = None;
    // What was asked of a department for the preparation is not needed any more; the shell closes the objects.
    super::tasks::supersede_all(status, now);
    // Skipped by a give-back under way: now the licences go, too.
    status.steps.retain(|s| s.name != Step::RevokeLicenses.as_str());
}

/// Whether an order is seen to be deleted for the first time.
fn closing_begins(deleting: bool, status: &OrderStatus) -> bool {
    deleting && status.phase.as_deref() != Some(Phase::Deleting.as_str())
}

/// How long a read of something of an order may fail while the panel's list is answered: nobody is blamed for a panel that is slow.
pub(super) const UNREADABLE: Duration = Duration::from_hours(2);

/// A read of something of this order has failed. Where that lasts while the panel's list goes on to be answered it is not the handler's
/// failure, and somebody has to look at it. A list of what the whole panel has that lacks something is the handler's as well: each order
/// that reads it fails at it.
fn unread(cx: &mut Cx<'_>, step: Step, error: &PanelError) -> Halt {
    let handlers = error.class() == ErrorClass::Down || error.is_of_a_whole_list();
    if !handlers || error.nobody_there() {
        return cx.fail_with(step, error);
    }
    if super::opening::at_rest(cx) {
        return cx.fail_of_handler(step, error);
    }
    // Not the wait for a handler that is down, which may have been long.
    let name = format!("{}: {}", cx.handler.key, error.code());
    let since = cx.status.waiting_on.as_ref().filter(|w| w.name == name).map(|w| w.since.0);
    let over = since.map(|since| after(since, UNREADABLE));
    if over.is_some_and(|over| cx.facts.inventory.as_ref().is_some_and(|list| list.began >= over)) {
        return cx.fail_for_good(step, &error.code(), &error.to_string(), Time::seconds(cx.now));
    }
    let (until, message) = (Some(after(cx.now, cx.handler.poll)), error.to_string());
    cx.wait(step, Wait { kind: WaitKind::Handler, name: &name, reason: Reason::HandlerNotReady, message, until, deadline: None })
}

/// A step that was handed to a department waits for it.
fn failed_before(cx: &mut Cx<'_>) -> Flow {
    if !cx.is_open(TaskType::FailedOperation) {
        return ControlFlow::Continue(());
    }
    let Some(error) = &cx.status.last_error else {
        // What the department was asked for has come right by itself.
        cx.supersede(TaskType::FailedOperation);
        return ControlFlow::Continue(());
    };
    if super::drift::is_drift(&error.code) {
        return ControlFlow::Continue(());
    }
    let step = Step::parse(&error.step).unwrap_or_else(|| current_step(cx));
    cx.failed_operation(step)
}

/// The first step that is not over.
pub(super) fn current_step(cx: &Cx<'_>) -> Step {
    let closing = cx.order.deleting || super::give_back::under_way(cx);
    let steps: &[Step] = if closing { &CLOSING } else { &OPENING };
    let last = || if closing { Step::Release } else { super::suspension::at_hand(cx).unwrap_or(Step::HandOver) };
    steps.iter().copied().find(|s| !cx.state(*s).over() && !super::at_hand::is_empty(cx, *s)).unwrap_or_else(last)
}

/// A reinstall token that is there at first sight is recorded, never acted upon. No token is recorded as none.
fn record_token(status: &mut OrderStatus, token: &str) {
    if status.observed_generation.is_none_or(|g| g < 0) && !token.is_empty() {
        status.last_handled_reinstall = Some(token.to_owned());
    }
}

/// A decision that ends at once, for orders that cannot be parsed.
#[must_use]
pub fn refuse(
    refusal: &super::order::Refusal,
    generation: i64,
    deleting: bool,
    token: &str,
    now: Timestamp,
    status: &OrderStatus,
) -> OrderStatus {
    let mut status = status.clone();
    if closing_begins(deleting, &status) {
        begin_closing(&mut status, now);
    }
    record_token(&mut status, token);
    status.waiting_on = None;
    status.next_retry_time = None;
    let verdict = super::verdict::Verdict::Stalled(refusal.reason, refusal.message.clone(), deleting);
    conclude(&mut status, &verdict, generation, now, None);
    status
}

/// The status of an order whose handler cannot be used at all (not found, not allowed): it waits for it.
#[must_use]
pub fn without_handler(order: &Order, name: &str, reason: Reason, message: &str, now: Timestamp, status: &OrderStatus) -> OrderStatus {
    waiting_without_handler(order, WaitKind::Handler, name, reason, message, now, status)
}

/// The same for any kind of wait.
pub(super) fn waiting_without_handler(
    order: &Order,
    kind: WaitKind,
    name: &str,
    reason: Reason,
    message: &str,
    now: Timestamp,
    status: &OrderStatus,
) -> OrderStatus {
    let placeholder = Handler::placeholder();
    let facts = Facts::new(HandlerState::Ready, String::new());
    let mut cx = Cx { order, handler: &placeholder, facts: &facts, now, status: status.clone() };
    if closing_begins(order.deleting, &cx.status) {
        begin_closing(&mut cx.status, now);
    }
    record_token(&mut cx.status, &order.reinstall);
    super::assembly::call_off(&mut cx);
    cx.list_steps();
    let step = current_step(&cx);
    let wait = Wait { kind, name, reason, message: message.to_owned(), until: None, deadline: None };
    let Halt { verdict, .. } = cx.wait(step, wait);
    let mut status = cx.status;
    conclude(&mut status, &verdict, order.generation, now, None);
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::samples;

    #[test]
    fn an_order_that_can_be_read_again_is_decided_upon_at_once() {
        let order = Order::parse(&samples::order(&json!({})), "c").unwrap();
        let facts = Facts::new(HandlerState::NotReady("it is down".into()), "1".into());
        for (reason, then) in [("InvalidObject", "HandlerNotReady"), ("UnknownTemplate", "UnknownTemplate")] {
            let said = |type_: &str, status: &str| {
                json!({
                    "type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
                })
            };
            let conditions = [said("Ready", "False"), said("Stalled", "True")];
            let stored = samples::order(&json!({"status": {"observedGeneration": 1, "phase": "Failed", "conditions": conditions}}));
            let decided = decide(&order, &Handler::placeholder(), &facts, Timestamp::UNIX_EPOCH, &stored.status.unwrap());
            let ready = condition::find(&decided.status.conditions, ConditionType::Ready).unwrap();
            assert_eq!(ready.reason, then, "its spec is what it was");
        }
    }

    #[test]
    fn an_order_that_was_deleted_while_nobody_could_read_it_begins_to_close() {
        let raw = samples::order(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let order = Order::for_closing(&raw, "c").unwrap();
        let facts = Facts::new(HandlerState::NotReady("it is down".into()), "1".into());
        let server = json!({"id": "17", "handler": "h/msk-1", "configuration": "E3"});
        for (phase, attempts) in [("Failed", 0), ("Deleting", 2)] {
            let condition = json!({
                "type": "Stalled", "status": "True", "reason": "InvalidObject", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let status = json!({"observedGeneration": 1, "phase": phase, "attempts": 2, "server": server, "conditions": [condition]});
            let stored = samples::order(&json!({ "status": status })).status.unwrap();
            let decided = decide(&order, &Handler::placeholder(), &facts, Timestamp::UNIX_EPOCH, &stored);
            assert_eq!(decided.status.attempts, attempts, "{phase}");
        }
    }
}
