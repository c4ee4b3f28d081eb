//! Orders whose status is older than their server: restored from a backup that was made in the middle of the preparation, or missing.
//!
//! A server that carries our marker and belongs to the client was handed over, whatever the status says: what is on its disks is the
//! client's. Nothing is prepared on it a second time, and it is not given back while the order lives.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::panel::model::ServerId;

use super::context::{Cx, Flow, Halt, Recheck};
use super::facts::Seen;
use super::marker::Found;
use super::people::people;
use super::pool::pool;
use super::reason::Reason;
use super::step::{State, Step};

/// Records that the client has the server already.
pub(super) fn found_again(cx: &mut Cx<'_>) {
    super::reinstallation::note_found(cx);
    if cx.order.suspended {
        cx.finish(Step::PowerOn, State::Done, "found again, and the service is suspended");
    }
    for done in [Step::CreateClient, Step::Assemble, Step::InstallOS, Step::RunRecipes, Step::HandOver] {
        cx.finish(done, State::Done, "found again");
    }
    // Which recipes ran is not known any more; none is run a second time.
    let (now, ran) = (Time::seconds(cx.now), cx.order.recipes.clone());
    if let Some(server) = cx.status.server.as_mut() {
        server.handed_over_at = Some(now);
        server.recipes = ran;
        server.returning = None;
    }
}

/// A call was about to be made on a server that belongs to the client: whether the status knows. `Some` where it did not until now.
pub(super) fn was_older(cx: &mut Cx<'_>, step: Step) -> Option<Halt> {
    let known = cx.status.server.as_ref().is_none_or(|s| s.handed_over_at.is_some());
    if known || cx.order.deleting || cx.order.adopt.is_some() || step == Step::HandOver {
        return None;
    }
    start_over(cx);
    Some(cx.wait_for_list(step))
}

/// A server that is being given back while the order lives is looked at first: what the client has is not given back.
pub(super) fn is_the_clients(cx: &mut Cx<'_>, step: Step, server: &ServerId) -> Flow {
    let Seen::There(form) = cx.form(step, server)? else { return Continue(()) };
    if cx.order.marker.find_in(&form.notes) != Found::Ours || form.owner.is_none() || !people(cx, step)?.client_has(&form) {
        return Continue(());
    }
    was_older(cx, step).map_or(Continue(()), Break)
}

/// Steps of closing that began are of the time before.
fn start_over(cx: &mut Cx<'_>) {
    if cx.status.server.as_ref().is_some_and(|s| s.returning.is_some()) {
        cx.status.steps.clear();
        cx.list_steps();
        cx.finish(Step::Allocate, State::Done, "found again");
    }
    cx.status.in_flight = None;
    cx.status.last_error = None;
    cx.forget_attempts();
    cx.supersede_tasks();
    found_again(cx);
}

/// An address that carries the note of a restored order tells of a server that nobody sees: its owner is one whose servers are not looked
/// at, or another handler serves it. No second one is taken.
pub(super) fn no_address_elsewhere(cx: &mut Cx<'_>) -> Flow {
    if !cx.handler.operator_allocates() || cx.status.in_flight.is_some() {
        return Continue(());
    }
    let noted = pool(cx, Step::Allocate)?.into_iter().find(|a| cx.order.marker.is_in_note(&a.note));
    let Some(address) = noted.map(|a| a.address) else { return Continue(()) };
    let message = format!(
        "address {address} carries the note of this order, and no server with its marker is found; no other one is taken: put `{}` into the notes of the order's server, give the server back to its owner or the handler its labels back, or take `{}` out of the address's note if there is none",
        cx.order.marker,
        cx.order.marker.short()
    );
    Break(cx.stall(Step::Allocate, Reason::PreviousServerFound, &message, Recheck::Later))
}
