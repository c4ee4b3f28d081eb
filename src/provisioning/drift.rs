//! What happened to an order's server behind the operator's back: another owner, another marker, no server, another panel.
//!
//! Nothing of it is overwritten. In preparation the order stalls; on an Active order, and on one that is being deleted, a department is
//! told as well. While the order is deleted the department may also give the server up: nothing else would ever end such an order.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::LastError;
use crate::api::task::{Resolution, TaskType};
use crate::panel::model::ServerId;

use super::context::{Cx, Flow, Halt, Next, Recheck};
use super::facts::Row;
use super::forsaken::left_in_lines;
use super::reason::Reason;
use super::step::{OPENING, Step};
use super::tasks::Ask;

/// Whether an error says that the server was changed behind our back.
#[must_use]
pub fn is_drift(code: &str) -> bool {
    [Reason::ServerGone, Reason::OwnerChanged, Reason::NotOurServer, Reason::PanelChanged].iter().any(|r| r.as_str() == code)
}

impl Cx<'_> {
    /// A call has failed, or nothing goes on. A department that was asked about a server changed by hand was not asked about this, unless
    /// it is such a change again: no step waits for it.
    pub(super) fn note_error(&mut self, error: LastError) {
        let another = !is_drift(&error.code);
        let replaced = self.status.last_error.replace(error);
        if another && replaced.is_some_and(|e| is_drift(&e.code)) {
            self.supersede(TaskType::FailedOperation);
        }
    }
}

/// Found while the order lives. In preparation it stalls; on an Active order a department is told as well.
pub(super) fn drifted(cx: &mut Cx<'_>, reason: Reason, message: &str) -> Halt {
    // A step that is taken once more on a client's server is no preparation.
    let clients = cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some());
    let step = OPENING.into_iter().filter(|_| !clients).find(|s| !cx.state(*s).over());
    if let Some(step) = step {
        return cx.stall(step, reason, message, Recheck::Later);
    }
    let step = Step::HandOver;
    let known = cx.status.last_error.as_ref().is_some_and(|e| e.code == reason.as_str());
    let last = cx.status.manual_tasks.iter().rev().find(|t| t.type_ == TaskType::FailedOperation.as_str());
    let settled = known && last.is_some_and(|t| t.state == Resolution::Cancelled.as_str() || t.state == Resolution::Abandon.as_str());
    let ask = question(
        cx,
        step,
        message,
        "The order goes on by itself when this is put right at the panel. Close this task with\n  Done or Retry: look again;\n  Cancelled: it stays as it is, and no other task is raised for it.",
    );
    // What the department did when it answered is looked at again later.
    let asked = if settled { None } else { cx.ask(&ask).break_value() };
    told(cx, step, reason, message, asked)
}

/// The server is listed again: whoever was asked about that it was gone is not any more, whatever else the order waits for.
pub(super) fn note_listed(cx: &mut Cx<'_>, server: &ServerId) {
    let gone = cx.status.last_error.as_ref().is_some_and(|e| e.code == Reason::ServerGone.as_str());
    if gone && matches!(cx.row(server), Row::There(_)) {
        cx.status.last_error = None;
        cx.supersede(TaskType::FailedOperation);
    }
}

/// An order at rest whose server drifted stays stalled for as long as the panel cannot be asked whether it still does.
pub(super) fn still(cx: &mut Cx<'_>) -> Flow {
    let told = cx.status.last_error.as_ref().filter(|e| is_drift(&e.code)).map(|e| (e.code.clone(), e.message.clone()));
    let Some((code, message)) = told.filter(|_| super::opening::at_rest(cx)) else { return Continue(()) };
    let Some(reason) = Reason::ALL.iter().copied().find(|r| r.as_str() == code) else { return Continue(()) };
    let waiting_on = cx.status.waiting_on.take();
    let halt = cx.stall(Step::HandOver, reason, &message, Recheck::Later);
    cx.status.waiting_on = waiting_on;
    Break(halt)
}

/// Found on the way to a call on the order's server. An order that lives stalls; where it is being deleted a department is asked to
/// put it right, or to give the server up.
pub(super) fn not_touched(cx: &mut Cx<'_>, step: Step, reason: Reason, message: &str) -> Halt {
    if !cx.order.deleting {
        return cx.stall(step, reason, message, Recheck::Later);
    }
    let left = left_in_lines(cx);
    let ways = format!(
        "Still at the panels, as far as the order knows:\n{left}\n\nClosing goes on by itself when this is put right at the panel. Or close this task with\n  Abandon: the order goes and everything stays at the panels as it is; take the marker `{}` out of the server's notes and `{}` out of its addresses' where they are left;\n  Done or Retry: look again.",
        cx.order.marker,
        cx.order.marker.short(),
    );
    let ask = question(cx, step, message, &ways);
    let asked = match cx.ask(&ask) {
        Break(halt) => Some(halt),
        Continue(Resolution::Abandon) => return cx.abandon(step),
        Continue(Resolution::Done | Resolution::Retry | Resolution::Cancelled | Resolution::PartsMissing) => None,
    };
    told(cx, step, reason, message, asked)
}

fn question(cx: &Cx<'_>, step: Step, message: &str, ways: &str) -> Ask {
    Ask {
        type_: TaskType::FailedOperation,
        department: cx.handler.operations.clone(),
        step,
        summary: format!("The server of order {} was changed by hand", cx.order.key),
        details: format!("Order {} ({}): {message}.\n\n{ways}", cx.order.key, cx.order.uid),
    }
}

/// Stalled, and at the same time waiting for whoever was asked.
fn told(cx: &mut Cx<'_>, step: Step, reason: Reason, message: &str, asked: Option<Halt>) -> Halt {
    let waiting_on = cx.status.waiting_on.take().filter(|_| asked.is_some());
    let mut halt = cx.stall(step, reason, message, Recheck::Later);
    cx.status.waiting_on = waiting_on;
    if let Some(Halt { next: Next::Raise(task), .. }) = asked {
        halt.next = Next::Raise(task);
    }
    halt
}
