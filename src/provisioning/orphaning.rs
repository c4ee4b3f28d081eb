//! `deletionPolicy: Orphan`: the client keeps the server exactly as it is; only the marks of the order go.
//!
//! Left alone are power, owner, domain, addresses and licences. The marker goes from the server's notes, and the order's word from the notes
//! of its addresses: a restored order bears the same id and would otherwise take a client's address for its own. An order
//! that was never handed over has nothing that anybody would keep: it is taken back as with `Release`.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::handler::DeletionPolicy;
use crate::api::order::{ServerStatus, StepStatus};
use crate::api::task::TaskType;

use crate::panel::model::{AddressRow, PoolAddress, ServerId};

use super::call::Call;
use super::context::{Cx, Flow, Next, Recheck};
use super::facts::{Look, Seen};
use super::inflight::Shows;
use super::marker::Found;
use super::network::addresses;
use super::parking::{give_back_parking, is_left};
use super::people::people;
use super::pool::{is_nobodys, pool};
use super::reason::Reason;
use super::step::{State, Step};

/// What the steps that are not taken say.
const LEFT: &str = "left as it is: deletionPolicy is Orphan";

/// Two calls, as `inFlight` and `attemptsFor` name them.
const GIVE_BACK: &str = "giveBackAddress";
const UNMARK: &str = "unmark";

fn word(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Release => "Release",
        DeletionPolicy::Orphan => "Orphan",
    }
}

/// The handler lets orders ask for this policy. Asked when the order is applied and again when it is deleted; nothing is touched
/// where it does not.
pub(super) fn policy_allowed(cx: &mut Cx<'_>) -> Flow {
    let (asked, allowed) = (cx.order.deletion_policy, &cx.handler.deletion_policies);
    if allowed.contains(&asked) {
        return Continue(());
    }
    let others = allowed.iter().map(|p| word(*p)).collect::<Vec<_>>().join(" or ");
    let message = format!(
        "handler {} does not allow deletionPolicy {}: set spec.deletionPolicy to {others}, or have the provider add {} to spec.allowedDeletionPolicies of the handler; until then nothing is touched",
        cx.handler.key,
        word(asked),
        word(asked),
    );
    let step = if cx.order.deleting { Step::Release } else { Step::HandOver };
    Break(cx.stall(step, Reason::DeletionPolicyForbidden, &message, Recheck::OnChange))
}

/// Whether the client keeps the server. What was never handed over is nobody's, and is taken back.
#[must_use]
pub(super) fn keeps_server(cx: &Cx<'_>) -> bool {
    cx.order.deleting
        && cx.order.deletion_policy == DeletionPolicy::Orphan
        && cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some())
}

/// A hand-over that the status does not tell of: its effect was not read back any more, or the status is an older one. The panel tells
/// whether the client has the server.
pub(super) fn note_hand_over(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if !cx.order.deleting || cx.order.deletion_policy != DeletionPolicy::Orphan || keeps_server(cx) {
        return Continue(());
    }
    let people = people(cx, Step::HandOver)?;
    let Seen::There(form) = cx.form(Step::HandOver, server)? else { return Continue(()) };
    if cx.order.marker.find_in(&form.notes) != Found::Ours || !people.client_has(&form) {
        return if cx.intent(Step::HandOver).is_some() { cx.settled(Step::HandOver) } else { Continue(()) };
    }
    let now = Time::seconds(cx.now);
    if let Some(server) = cx.status.server.as_mut() {
        server.handed_over_at = Some(now);
    }
    Continue(())
}

/// Takes our marks away; `Continue` once nothing names this order any more.
pub(super) fn let_be(cx: &mut Cx<'_>) -> Flow {
    let Some(server) = cx.server_id() else { return Continue(()) };
    let step = Step::Release;
    if cx.status.in_flight.as_ref().is_some_and(|f| f.step != step.as_str()) {
        // Asked for by the preparation, or by a release that was begun before the policy was changed: it gets its time.
        cx.settled_in_list(step)?;
        cx.status.in_flight = None;
    }
    cx.supersede(TaskType::StopServer);
    for skipped in [Step::RevokeLicenses, Step::PowerOff, Step::RemoveAddresses, Step::ParkAddress] {
        cx.finish(skipped, State::Skipped, LEFT);
    }
    let gone = cx.is_gone(step, &server)?;
    let kept = if cx.handler.operator_allocates() {
        forget_addresses(cx, step, gone)?;
        give_back_replaced(cx, step, &server, gone)?
    } else {
        String::new()
    };
    if gone {
        cx.settled(step)?;
        cx.finish(step, State::Done, &format!("the panel does not list the server any more{kept}"));
        return Continue(());
    }
    let form = match cx.form(step, &server)? {
        Seen::There(form) => form,
        Seen::Missing => return Break(cx.form_missing(step, &server)),
    };
    if cx.order.marker.stands_in(&form.notes) {
        super::closing::earlier_calls_had_their_time(cx)?;
        let call = Call::Unmark { server, written: cx.order.marker.to_string() };
        let given_up = is_counted_for(cx, step, GIVE_BACK);
        let halt = cx.call(step, call, Shows::AtOnce);
        if given_up && matches!(halt.next, Next::Call(_)) {
            // What was tried in vain, and is given up, is none of the attempts of this call.
            cx.forget_attempts_of(step);
        }
        return Break(halt);
    }
    cx.finish(step, State::Done, &format!("{LEFT}{kept}"));
    Continue(())
}

/// Whether what is counted for a step are attempts of this call.
fn is_counted_for(cx: &Cx<'_>, step: Step, call: &str) -> bool {
    cx.status.attempts_for.as_ref().is_some_and(|a| a.step == step.as_str() && a.call == call)
}

/// What stood on the server before its client had it never was his, and nothing but the status knows of it: it goes back, as with
/// `Release`. Returns what is to be said where it does not.
fn give_back_replaced(cx: &mut Cx<'_>, step: Step, server: &ServerId, gone: bool) -> Flow<String> {
    let replaced = |s: &ServerStatus| s.parked_address.clone().filter(|_| s.parked_address != s.main_address);
    let Some(parked) = cx.status.server.as_ref().and_then(replaced) else { return Continue(String::new()) };
    let rows = if gone { Vec::new() } else { addresses(cx, step, server)? };
    let used = pool(cx, step)?;
    // Without our marker nothing is ours to ask for; it goes last.
    let marked = gone || matches!(cx.form(step, server)?, Seen::There(form) if cx.order.marker.find_in(&form.notes) == Found::Ours);
    // While the marker is being taken away, or once that has failed, nothing is asked for before it any more.
    let unmarking = !gone && (cx.intent(step).is_some_and(|f| f.call == UNMARK) || is_counted_for(cx, step, UNMARK));
    if (!marked || unmarking) && is_left(cx, &rows, &used) {
        return Continue(format!("; the parking address {parked} that it had before stays taken in IPmanager"));
    }
    cx.step(step).message.clear();
    give_back_parking(cx, step, &rows, &used)?;
    let said = cx.step(step).message.clone();
    Continue(if said.is_empty() { said } else { format!("; {said}") })
}

/// The policy was changed in the middle of it: what was left as it is, is taken back after all.
pub(super) fn taken_after_all(cx: &mut Cx<'_>) {
    let left = |s: &StepStatus| s.state == State::Skipped.as_str() && s.message == LEFT;
    if cx.status.steps.iter().any(left) {
        cx.status.steps.retain(|s| !left(s));
        cx.list_steps();
    }
}

/// What had our note until the policy was changed gets it again, so that it goes back with the server. The main address is parking's.
pub(super) fn note_addresses_again(cx: &mut Cx<'_>, step: Step, rows: &[AddressRow], used: &[PoolAddress]) -> Flow {
    let Some(server) = &cx.status.server else { return Continue(()) };
    let recorded = |a: &PoolAddress| {
        let text = a.address.to_string();
        server.addresses.contains(&text) && server.main_address.as_ref() != Some(&text)
    };
    let nobodys = |a: &&PoolAddress| is_nobodys(cx, a) && recorded(a);
    match used.iter().filter(nobodys).find(|a| rows.iter().any(|r| r.address == a.address)) {
        None => Continue(()),
        Some(found) => {
            let note = cx.order.marker.with_short(&found.note);
            Break(cx.call(step, Call::SetNote { address: found.address, note }, Shows::AtOnce))
        }
    }
}

/// No note in the pool names this order any more. What is on the server stays in use; what never got there goes back.
fn forget_addresses(cx: &mut Cx<'_>, step: Step, gone: bool) -> Flow {
    let Some(used) = cx.facts.pool.clone() else { return Break(cx.look(step, Look::Pool)) };
    let Some(ours) = used.iter().find(|a| cx.order.marker.is_in_note(&a.note)).cloned() else { return Continue(()) };
    if !gone {
        let Some(rows) = cx.facts.addresses.clone() else {
            let server = cx.server_id().unwrap_or_else(|| "".into());
            return Break(cx.look(step, Look::Addresses(server)));
        };
        super::moved::leave_where_they_are(cx, step, &rows, &used)?;
        if !rows.iter().any(|r| r.address == ours.address) {
            return Break(cx.call(step, Call::GiveBack { address: ours.address }, Shows::AtOnce));
        }
    }
    let note = cx.order.marker.without_short(&ours.note);
    Break(cx.call(step, Call::SetNote { address: ours.address, note }, Shows::AtOnce))
}
