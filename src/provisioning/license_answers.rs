//! What the licence server answered that it did, and does not show: waited for and looked for, and never asked for again at once.
//!
//! BILLmanager works through what is asked of it (ispsystem-api.md 5.1, status 5: in progress): what it accepted may show a while later.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::order::InFlight;

use super::context::{Cx, Halt, after};
use super::inflight::ANSWERED;
use super::licenses::{ORDERED, SUSPENDED, remote_id, target, wanted_state};
use super::step::Step;

/// A call was answered as done in this pass, and its effect does not show: it is waited for like one whose answer is missing.
pub(super) fn not_shown_yet(cx: &mut Cx<'_>, step: Step, message: &str) -> Halt {
    let now = Time(cx.now);
    if cx.status.in_flight.clone().is_some_and(|f| cx.intent_is_own(&f))
        && let Some(f) = cx.status.in_flight.as_mut()
    {
        f.outcome = ANSWERED.into();
        f.since = now;
        f.looks = 0;
        // One that is renewed beside something else is not what the order is about.
        if !cx.state(step).over() {
            cx.note_loss(step);
        }
    }
    match cx.settled(step) {
        Break(halt) => halt,
        Continue(()) => {
            cx.status.in_flight = None;
            cx.fail(step, "NoEffect", message)
        }
    }
}

/// The licence server is down, and did not show whether a licence stopped, or started again, that shall not any more: the record says what
/// was asked for, so that it is looked at when the server is back. The client's service does not wait for that.
pub(super) fn note_unseen(cx: &mut Cx<'_>) {
    let had_its_time = |f: &&InFlight| !cx.intent_is_own(f) && cx.now >= after(f.since.0, cx.handler.settle * 2);
    let Some(f) = cx.status.in_flight.as_ref().filter(had_its_time).cloned() else { return };
    let state = match f.call.as_str() {
        "suspendLicense" => SUSPENDED,
        "resumeLicense" => ORDERED,
        _ => return,
    };
    if (state == SUSPENDED) == (wanted_state(cx) == SUSPENDED) {
        return;
    }
    let marker = cx.order.marker.short();
    if let Some(record) = cx.status.licenses.iter_mut().find(|r| target(&remote_id(&marker, &r.product)) == f.target) {
        record.state = Some(state.into());
        cx.status.in_flight = None;
    }
}
