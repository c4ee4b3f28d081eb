//! A claim that is not known to be whole: what its server shows, what of it is undone, and what is asked of a person.

use std::ops::ControlFlow::{Break, Continue};

use crate::panel::model::{ServerForm, ServerId};

use super::allocation::{beside_another, bind};
use super::call::{Call, Left};
use super::capacity;
use super::context::{Cx, Flow, Halt, Recheck};
use super::facts::{Inventory, Seen};
use super::inflight::Shows;
use super::marker::{Found, is_bare, tokens};
use super::matching;
use super::people::{People, people};
use super::reason::Reason;
use super::step::Step;

/// The server that a claim was asked for, whose outcome is not known.
pub(super) fn claim_target(cx: &Cx<'_>) -> Option<ServerId> {
    cx.intent(Step::Allocate)?.server().map(ServerId::from)
}

/// A claim was asked for: what does its target show?
pub(super) fn claim_in_flight(cx: &mut Cx<'_>, server: &ServerId, people: &People) -> Flow {
    let step = Step::Allocate;
    let own = cx.intent(step).is_some_and(|f| cx.intent_is_own(f));
    let undone = cx.intent(step).is_some_and(|f| f.call == "unclaim");
    let made = cx.facts.applied(|c| matches!(c, Call::Claim { server: claimed, .. } if claimed == server));
    if let Some(error) = cx.facts.refusal(|c| matches!(c, Call::Unclaim { .. })).cloned() {
        return Break(cx.fail_with(step, &error));
    }
    if cx.facts.applied(|c| matches!(c, Call::Unclaim { .. })) {
        return unclaimed(cx, server, people);
    }
    let form = match cx.form(step, server)? {
        Seen::There(form) => form,
        Seen::Missing if own && !made => return Continue(()),
        Seen::Missing if cx.is_gone(step, server)? => {
            cx.settled(step)?;
            cx.status.in_flight = None;
            return Continue(());
        }
        Seen::Missing => return Break(cx.form_missing(step, server)),
    };
    match cx.order.marker.find_in(&form.notes) {
        Found::Ours => return bind(cx, server, &form, people),
        Found::Foreign(other) | Found::Previous(other) if cx.order.marker.stands_in(&form.notes) => {
            return Break(beside_another(cx, step, server, &other));
        }
        Found::Truncated(written) if is_of_a_claim(&written, &form, people) => return Break(undo(cx, server, Left::Marker(written))),
        // The panel has done it, and kept nothing of the marker: to claim another one would leave this one to nobody.
        Found::Nothing if made => {
            if let Some(owner) = ours_without_marker(&form, people) {
                return Break(undo(cx, server, Left::Owner(owner)));
            }
            // Or it shows later: to claim another one at once would give one order several servers.
            if own && matching::form_is_free(&form) {
                let message = format!("the panel said that server {server} was claimed, but it does not show");
                return Break(cx.not_shown_yet(step, &message));
            }
        }
        Found::Nothing if undone && ours_without_marker(&form, people).is_none() => {
            cx.settled(step)?;
            return Break(truncated(cx, server));
        }
        Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => {}
    }
    let clients = form.owner.as_deref().is_some_and(|owner| people.is_client(owner));
    let perhaps = !is_anothers(cx, &form) && (clients || ours_without_marker(&form, people).is_some());
    if own && !(made && perhaps) {
        // Asked for in this pass and not ours: lost to somebody else, or refused. Nothing is undone there; another one is chosen.
        cx.status.in_flight = None;
        return Continue(());
    }
    // The claim may still land: another server is only chosen when it has had its time.
    cx.settled(step)?;
    if perhaps {
        // The intent stays: nothing else tells of this server, also where another handler would be tried.
        let message = perhaps_ours(cx, server, &form);
        return Break(cx.stall(step, Reason::MarkerTruncated, &message, Recheck::Later));
    }
    let sold = cx.facts.inventory.as_ref().is_some_and(|list| {
        matching::form_is_free(&form) && capacity::free(&cx.order.wanted, &cx.status, cx.handler, list).iter().any(|row| row.id == *server)
    });
    if !sold {
        // It may have been taken out of service, or become another configuration, while nobody looked.
        cx.status.in_flight = None;
        return Continue(());
    }
    let call = Call::Claim { server: server.clone(), owner: people.me.id.clone(), marker: cx.order.marker.clone() };
    Break(cx.call(step, call, Shows::AtOnce))
}

/// What the panel has made of a claim's marker is not known: a person may have given the server to its owner since, be it only to have it
/// out of sale, and have written something into its notes.
fn perhaps_ours(cx: &Cx<'_>, server: &ServerId, form: &ServerForm) -> String {
    let words: Vec<&str> = tokens(&form.notes).filter(|word| !is_bare(word)).collect();
    let (found, may_have) = if words.is_empty() {
        ("has an owner without a marker".to_owned(), "kept nothing of it")
    } else {
        (format!("carries `{}`", words.join(" ")), "made that of its marker")
    };
    format!(
        "server {server} was asked for, and {found}: the panel may have {may_have}; no other one is taken: put `{}` into its notes if it is this order's, or take its owner away at the panel",
        cx.order.marker
    )
}

/// Whether the notes carry markers of other orders and nothing that a panel may have made of ours.
fn is_anothers(cx: &Cx<'_>, form: &ServerForm) -> bool {
    let mut words = tokens(&form.notes).peekable();
    words.peek().is_some() && words.all(|word| cx.order.marker.is_of_another(word))
}

/// The panel said that it undid a claim. Nothing but the intent leads back to the server where it did not, so its form has the last word.
fn unclaimed(cx: &mut Cx<'_>, server: &ServerId, people: &People) -> Flow {
    let step = Step::Allocate;
    let Seen::There(form) = cx.form(step, server)? else { return Break(cx.wait_for_list(step)) };
    let written = match cx.order.marker.find_in(&form.notes) {
        Found::Truncated(written) => is_of_a_claim(&written, &form, people),
        Found::Ours | Found::Nothing | Found::Previous(_) | Found::Foreign(_) => cx.order.marker.stands_in(&form.notes),
    };
    let owned = !is_anothers(cx, &form) && ours_without_marker(&form, people).is_some();
    if !written && !owned {
        return Break(truncated(cx, server));
    }
    let message = format!("the panel said that what is left of the claim of server {server} was taken away, but it still shows");
    Break(cx.not_shown_yet(step, &message))
}

fn undo(cx: &mut Cx<'_>, server: &ServerId, left: Left) -> Halt {
    cx.call(Step::Allocate, Call::Unclaim { server: server.clone(), left }, Shows::AtOnce)
}

/// What is left of a marker tells whose it was; a bare prefix may be anybody's word.
fn is_of_a_claim(written: &str, form: &ServerForm, people: &People) -> bool {
    !is_bare(written) || ours_without_marker(form, people).is_some()
}

/// The owner of a server that the operator's user has.
fn ours_without_marker(form: &ServerForm, people: &People) -> Option<String> {
    form.owner.clone().filter(|owner| people.is_me(owner))
}

pub(super) fn truncated(cx: &mut Cx<'_>, server: &ServerId) -> Halt {
    let message =
        format!("server {server}: the panel did not keep the marker `{}` as it was written; the claim was undone", cx.order.marker);
    cx.status.in_flight = None;
    // A department may have been asked about it: that has come right.
    cx.forget_attempts();
    cx.stall(Step::Allocate, Reason::MarkerTruncated, &message, Recheck::OnChange)
}

/// Closing, with a claim whose answer is not known: `Continue` with a server in the status when it was applied.
pub(super) fn resolve_claim(cx: &mut Cx<'_>, step: Step, server: &ServerId) -> Flow {
    if cx.order.adopt.is_some() {
        return super::adoption::resolve(cx, step, server);
    }
    let form = match cx.form(step, server)? {
        Seen::There(form) => form,
        Seen::Missing => {
            if cx.is_gone(step, server)? {
                cx.status.in_flight = None;
                return Continue(());
            }
            return Break(cx.form_missing(step, server));
        }
    };
    match cx.order.marker.find_in(&form.notes) {
        Found::Ours => {
            let people = people(cx, step)?;
            let intent = cx.status.in_flight.take();
            let flow = bind(cx, server, &form, &people);
            if flow.is_break() {
                cx.status.in_flight = intent;
            }
            flow
        }
        Found::Truncated(written) if !is_bare(&written) => {
            if let Some(error) = cx.facts.refusal(|c| matches!(c, Call::Unclaim { .. })).cloned() {
                return Break(cx.fail_with(step, &error));
            }
            Break(undo(cx, server, Left::Marker(written)))
        }
        Found::Foreign(other) | Found::Previous(other) if cx.order.marker.stands_in(&form.notes) => {
            Break(beside_another(cx, step, server, &other))
        }
        Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => {
            cx.settled(step)?;
            no_trace(cx, step, server, &form)
        }
    }
}

/// Closing: a server that nothing in the status leads to carries what the panel left of our marker. The claim was undone, and has landed once
/// more: nobody knows what else has happened there since, so that a department looks.
pub(super) fn remains(cx: &mut Cx<'_>, step: Step, inventory: &Inventory) -> Flow {
    let left = inventory.markers.iter().find(|(_, found)| found.iter().any(|marker| cx.order.marker.is_cut_to(marker)));
    let Some(server) = left.map(|(id, _)| ServerId(id.clone())) else { return Continue(()) };
    match cx.form(step, &server)? {
        Seen::There(form) if matches!(cx.order.marker.find_in(&form.notes), Found::Truncated(_)) => {
            let message = format!(
                "server {server} carries what the panel left of this order's marker: when you have seen to it that nobody uses it, take it out of the server's notes and the server's owner away"
            );
            Break(super::drift::not_touched(cx, step, Reason::NotOurServer, &message))
        }
        // The index is older than the form.
        Seen::There(_) => Break(cx.wait_for_list(step)),
        Seen::Missing => Break(cx.form_missing(step, &server)),
    }
}

/// Closing: the server that a claim was asked for shows no marker of ours. Where it is the operator's user all the same it is not
/// forgotten.
fn no_trace(cx: &mut Cx<'_>, step: Step, server: &ServerId, form: &ServerForm) -> Flow {
    let people = people(cx, step)?;
    let claimed = claim_target(cx).as_ref() == Some(server);
    if claimed && !is_anothers(cx, form) && ours_without_marker(form, &people).is_some() {
        return Break(cx.fail(step, Reason::MarkerTruncated.as_str(), &perhaps_ours(cx, server, form)));
    }
    cx.status.in_flight = None;
    Continue(())
}
