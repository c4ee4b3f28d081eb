//! Closing: cancel, power off, addresses, parking, release. Nothing is ever given up silently.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::handler::IpmiErrorPolicy;
use crate::api::order_status::InFlight;
use crate::api::task::{Resolution, TaskType};
use crate::panel::error::ErrorClass;
use crate::panel::model::{FREE_DOMAIN, ServerId, ServerRow};

use super::allocation::index_complete;
use super::call::Call;
use super::context::{Busy, Cx, Flow, Halt, Next, Wait, WaitKind, after};
use super::facts::{Inventory, Look, Seen};
use super::half_claim::{claim_target, resolve_claim};
use super::inflight::Shows;
use super::opening::{note_power, wait_for_power};
use super::people::people;
use super::reason::Reason;
use super::step::{CLOSING, OPENING, State, Step};
use super::tasks::Ask;
use super::verdict::{Phase, Verdict};

/// Whether it is certain, without asking any panel, that the order has nothing there.
///
/// An order whose status was never lost (its id is its own uid) has written an intent before it claimed anything.
#[must_use]
pub fn nothing_to_release(cx: &Cx<'_>) -> bool {
    let marked = |list: &std::sync::Arc<Inventory>| super::capacity::is_own(&cx.order.marker, &cx.status, &cx.handler.panel, list);
    cx.status.server.is_none()
        && cx.status.in_flight.is_none()
        && cx.status.licenses.is_empty()
        && !super::selection::may_have_been_restored(cx.order)
        && !cx.facts.inventory.as_ref().is_some_and(marked)
}

/// Closing is over.
pub fn forget(cx: &mut Cx<'_>) -> Halt {
    cx.status.waiting_on = None;
    cx.progress(Step::Release, 100, "");
    let message = "nothing at the panels is this order's any more".to_owned();
    Halt { next: Next::Forget, verdict: Verdict::Progressing(Phase::Deleting, Reason::Released, message) }
}

/// Takes the server back; `Break` always, with `Next::Forget` at the end.
pub fn close(cx: &mut Cx<'_>) -> Flow {
    take_back(cx)?;
    Break(forget(cx))
}

/// Takes the server back; `Continue` once nothing at the panels is this order's any more.
pub(super) fn take_back(cx: &mut Cx<'_>) -> Flow {
    let step = Step::PowerOff;
    if cx.state(Step::Release) == State::Skipped {
        // Given up by a department.
        return Continue(());
    }
    if cx.order.deleting {
        super::orphaning::policy_allowed(cx)?;
    }
    if cx.status.server.is_none() {
        find_server(cx, step)?;
    }
    let Some(server) = cx.server_id() else { return super::license_revocation::revoke(cx) };
    if released(cx, &server)? {
        cx.finish(Step::Release, State::Done, "");
        return Continue(());
    }
    super::orphaning::note_hand_over(cx, &server)?;
    if super::orphaning::keeps_server(cx) {
        return super::orphaning::let_be(cx);
    }
    super::orphaning::taken_after_all(cx);
    opening_settled(cx)?;
    super::license_revocation::revoke(cx)?;
    if cx.is_gone(Step::Release, &server)? {
        cx.settled(Step::Release)?;
        super::network::give_back_all(cx, Step::Release)?;
        let taken = super::network::stays_taken(cx);
        cx.finish(Step::Release, State::Done, &format!("the panel does not list the server any more{taken}"));
        return Continue(());
    }
    place(cx)?;
    still_ours(cx, &server)?;
    super::suspension::enable_for_closing(cx, &server)?;
    cancel(cx, &server)?;
    power_off(cx, &server)?;
    super::suspension::ports_for_closing(cx, &server)?;
    super::network::remove_addresses(cx, &server)?;
    super::parking::park_address(cx, &server)?;
    release(cx, &server)
}

/// What the panel shows of a server that is not the order's any more says nothing of the order: neither its power nor its addresses.
fn still_ours(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = super::decide::current_step(cx);
    let marked = cx.facts.inventory.as_ref().and_then(|i| i.markers.get(&server.0)).is_some_and(|found| found.contains(&cx.order.marker));
    let drifted = cx.status.last_error.as_ref().is_some_and(|e| super::drift::is_drift(&e.code));
    if marked && !drifted {
        return Continue(());
    }
    let form = cx.own_form(step, server)?;
    if let Some(halt) = cx.somebody_elses(step, server, form.owner.as_deref()) {
        return Break(halt);
    }
    if drifted {
        // What the department was asked for has come right.
        cx.status.last_error = None;
        cx.supersede(TaskType::FailedOperation);
    }
    Continue(())
}

/// A place among the releases that may run at once; whoever has begun keeps it.
fn place(cx: &mut Cx<'_>) -> Flow {
    let step = Step::PowerOff;
    if cx.facts.slot || cx.state(step) != State::Pending || cx.status.in_flight.is_some() {
        return Continue(());
    }
    let limit = if cx.order.deleting { "maxConcurrentReleases" } else { "maxConcurrentOperations" };
    let message = format!("limits.{limit} of the handler is reached; place {} in the queue", super::queue::about(cx.facts.before_me + 1));
    let name = cx.handler.key.to_string();
    Break(cx.wait(step, Wait { kind: WaitKind::Capacity, name: &name, reason: Reason::LimitReached, message, until: None, deadline: None }))
}

/// An order without a server in its status: a claim whose answer was lost, or a restore without status.
fn find_server(cx: &mut Cx<'_>, step: Step) -> Flow {
    if let Some(server) = claim_target(cx) {
        resolve_claim(cx, Step::Allocate, &server)?;
        if cx.status.server.is_some() || !super::selection::may_have_been_restored(cx.order) {
            return Continue(());
        }
    }
    let Some(inventory) = cx.facts.inventory.clone() else { return Break(cx.wait_for_list(step)) };
    let people = people(cx, step)?;
    index_complete(cx, step, &inventory, &people)?;
    let found: Vec<&str> =
        inventory.markers.iter().filter(|(_, markers)| markers.contains(&cx.order.marker)).map(|(id, _)| id.as_str()).collect();
    match found.as_slice() {
        [] => {
            super::half_claim::remains(cx, step, &inventory)?;
            // Addresses carry the id alone: those of a living order elsewhere would be given back.
            super::allocation::elsewhere(cx, Step::Allocate, &inventory)?;
            super::network::give_back_all(cx, Step::Release)
        }
        [server] => {
            resolve_claim(cx, Step::Allocate, &ServerId::from(*server))?;
            if cx.status.server.is_some() {
                return Continue(());
            }
            // The index is older than the form, which does not show the marker any more.
            super::network::give_back_all(cx, Step::Release)
        }
        several => Break(super::allocation::several(cx, Step::Allocate, &several.join(", "))),
    }
}

/// The release was asked for before, and our marker is gone: nothing more is sent to this server, whoever has it now.
fn released(cx: &mut Cx<'_>, server: &ServerId) -> Flow<bool> {
    let asked =
        cx.intent(Step::Release).is_some_and(|f| f.call == "release" || f.call == "unmark") || cx.state(Step::Release) == State::Done;
    if !asked {
        return Continue(false);
    }
    match cx.form(Step::Release, server)? {
        Seen::Missing => Continue(false),
        // Whatever stands beside it.
        Seen::There(form) if cx.order.marker.stands_in(&form.notes) => Continue(false),
        Seen::There(_) => {
            // A person may have taken the marker away while our request is still under way: it must not meet the next order's claim.
            cx.settled(Step::Release)?;
            Continue(true)
        }
    }
}

/// A call of the preparation may still be under way: it gets its time before anything is taken back.
fn opening_settled(cx: &mut Cx<'_>) -> Flow {
    let opening = cx
        .status
        .in_flight
        .as_ref()
        .and_then(|f| Step::parse(&f.step))
        .filter(|s| OPENING.contains(s) || super::suspension::settles_before_closing(*s));
    if opening.is_none() {
        return Continue(());
    }
    cx.settled_in_list(Step::PowerOff)?;
    if !super::license_answers::is_told_by_intent(cx) {
        cx.status.in_flight = None;
    }
    Continue(())
}

/// Whatever runs on the server is cancelled first.
fn cancel(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::PowerOff;
    // Whoever was asked to stop the server sees to what runs on it; what is said of it then is listened to first.
    if cx.state(step).over() || cx.is_open(TaskType::StopServer) {
        return Continue(());
    }
    let cancel = Call::CancelOperation { server: server.clone() };
    if cx.facts.applied.contains(&cancel) {
        // The power has not been asked for yet.
        cx.enter(step, State::Waiting, "");
        return Break(cancelled(cx, step));
    }
    let row = cx.need_row(step, server)?;
    note_power(cx, row.power);
    if row.install.is_none() {
        return Continue(());
    }
    if cx.state(step) == State::Waiting {
        return Break(cancelled(cx, step));
    }
    Break(cx.call(step, cancel, Shows::InTheList))
}

/// The panel took the cancellation: waited for, but not for ever, and not asked for again at each list.
fn cancelled(cx: &mut Cx<'_>, step: Step) -> Halt {
    let busy = Busy {
        name: "cancellation",
        message: "what runs on the server was cancelled, and has not ended yet",
        patience: cx.handler.step,
        pause: cx.handler.poll,
        code: "Busy",
        too_long: "the panel said that what runs on the server was cancelled, but it does not end",
    };
    cx.wait_for_end(step, &busy)
}

/// Off, or as good as off by the handler's policy.
fn power_off(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::PowerOff;
    if cx.state(step).over() {
        return Continue(());
    }
    let off = Call::PowerOff { server: server.clone() };
    if let Some(error) = cx.facts.refusal(|c| *c == off).cloned() {
        return match error.class() {
            // Only an error document of the power call itself is an IPMI error, and none of log-in, access or a missing object (design.md
            // section 9).
            ErrorClass::Refused | ErrorClass::Exists if error.was_not_tried() => Break(cx.fail_with(step, &error)),
            ErrorClass::Refused | ErrorClass::Exists => ipmi_error(cx, &error.to_string()),
            ErrorClass::Down | ErrorClass::Credentials | ErrorClass::Missing | ErrorClass::Expectation | ErrorClass::Dialect => {
                Break(cx.fail_with(step, &error))
            }
        };
    }
    if cx.facts.applied.contains(&off) {
        return Break(wait_for_power(cx, step));
    }
    if cx.is_open(TaskType::StopServer) {
        return stop_by_hand(cx, "");
    }
    let row = cx.need_row(step, server)?;
    if row.power.off && !row.power.on {
        if cx.intent(step).is_some() {
            // Somebody else may have switched it off: a request of ours that comes late must not meet the next client's system.
            cx.settled_in_list(step)?;
        }
        coming_on(cx)?;
        cx.finish(step, State::Done, "");
        return Continue(());
    }
    // Whether a first call was made at all is not known where the server is on.
    let lost = |f: &InFlight| f.call == off.name() && !cx.intent_is_own(f) && (f.attempt > 1 || !row.power.on);
    if row.power.error && cx.intent(step).is_some_and(lost) {
        // A controller that is dead may keep the panel from answering at all: its list tells.
        cx.settled_in_list(step)?;
        cx.status.in_flight = None;
        return ipmi_error(cx, "the answer to the power-off was lost, and the panel reports a power error (IPMI or PDU)");
    }
    let asked = cx.state(step) == State::Running && cx.status.in_flight.is_none();
    if asked && row.power.error {
        return ipmi_error(cx, "the panel reports a power error (IPMI or PDU)");
    }
    if asked {
        let since = cx.step(step).started_at.map_or(cx.now, |t| t.0);
        if cx.now < after(since, cx.handler.power) {
            return Break(wait_for_power(cx, step));
        }
        let message = format!("the server is not off after {}", crate::api::Duration(cx.handler.power));
        return ipmi_error(cx, &message);
    }
    connections_quiet(cx, server)?;
    Break(cx.call(step, off, Shows::InTheList))
}

/// A power-on that the panel took, or may have taken, and does not show yet may still come about: the server would run when it is released.
fn coming_on(cx: &mut Cx<'_>) -> Flow {
    let unfinished = !cx.state(Step::PowerOn).over();
    let record = cx.step(Step::PowerOn);
    let since = record.started_at.filter(|_| unfinished || record.message == super::suspension::NOT_NEEDED);
    let Some(due) = since.map(|t| after(t.0, cx.handler.power)).filter(|due| cx.now < *due) else { return Continue(()) };
    Break(cx.wait_for_panel(Step::PowerOff, due, "the server may still be switched on, as the preparation asked for".to_owned()))
}

/// A port that is being switched is waited for, as the vendor does (ispsystem-api.md 2.8), but not for ever.
fn connections_quiet(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::PowerOff;
    let Some(connections) = &cx.facts.connections else { return Break(cx.look(step, Look::Connections(server.clone()))) };
    let since = cx.status.waiting_on.as_ref().filter(|w| w.name == "connections").map(|w| w.since.0);
    let deadline = after(since.unwrap_or(cx.now), cx.handler.step);
    if connections.iter().any(|c| c.busy) && cx.now < deadline {
        let message = "a connection of the server is being switched".to_owned();
        let until = Some(after(cx.now, cx.handler.poll));
        let wait =
            Wait { kind: WaitKind::Panel, name: "connections", reason: Reason::WaitingForPanel, message, until, deadline: Some(deadline) };
        return Break(cx.wait(step, wait));
    }
    Continue(())
}

/// What the step of the power says where an error of it was ignored.
pub(super) const IPMI_IGNORED: &str = "IPMI error ignored, as the handler says";

/// IPMI failed in closing: ignored, or a person stops the server. There is no retry.
fn ipmi_error(cx: &mut Cx<'_>, error: &str) -> Flow {
    let step = Step::PowerOff;
    match cx.handler.ipmi {
        IpmiErrorPolicy::Ignore => {
            let message = format!("{IPMI_IGNORED}: {error}");
            cx.finish(step, State::Done, &message);
            Continue(())
        }
        IpmiErrorPolicy::CreateTask => stop_by_hand(cx, error),
    }
}

fn stop_by_hand(cx: &mut Cx<'_>, error: &str) -> Flow {
    let step = Step::PowerOff;
    if let Some(f) = cx.status.in_flight.clone().filter(|f| f.step == step.as_str())
        && cx.intent_is_own(&f)
    {
        cx.status.in_flight = None;
    }
    let known = cx.step(step).message.clone();
    let error = if error.is_empty() { known.as_str() } else { error };
    cx.enter(step, State::Waiting, error);
    let server = cx.status.server.clone().unwrap_or_default();
    let ask = Ask {
        type_: TaskType::StopServer,
        department: cx.handler.operations.clone(),
        step,
        summary: format!("Stop server {} ({}) by hand: its IPMI fails", server.id, server.name),
        details: format!(
            "Order {} {}. Server {} ({}), main address {}, panel {}.\nIPMI: {error}\n\nSwitch the server off, then close this task with\n  Done: it is off; this is taken at your word;\n  Retry: the operator tries the power once more;\n  Abandon: {}.",
            cx.order.key,
            if cx.order.deleting { "is being deleted" } else { "gives this server back" },
            server.id,
            server.name,
            server.main_address.as_deref().unwrap_or("unknown"),
            server.panel,
            if cx.order.deleting {
                "give the server up without releasing it at the panel"
            } else {
                "the server stays as it is, and the order stalls"
            },
        ),
    };
    match cx.ask(&ask)? {
        Resolution::Done => {
            cx.finish(step, State::Done, BY_HAND);
            Continue(())
        }
        Resolution::Retry => {
            cx.enter(step, State::Pending, "");
            power_off(cx, &ServerId(server.id))
        }
        Resolution::Abandon | Resolution::PartsMissing | Resolution::Cancelled => Break(cx.abandon(step)),
    }
}

/// When the last call of the preparation, or of a change of the service, has had its time. A step that was cut short may have made one
/// until closing began; and so has one that says it ended later, since the clock was put back.
fn earlier_calls_land(cx: &Cx<'_>) -> Option<Timestamp> {
    let known = cx.status.steps.iter().filter_map(|record| Some((Step::parse(&record.name)?, record)));
    let (closing, earlier): (Vec<_>, Vec<_>) = known.partition(|(step, _)| CLOSING.contains(step));
    let closing = closing.iter().filter_map(|(_, r)| r.started_at.or(r.finished_at)).min()?;
    let last = earlier.iter().filter_map(|(_, r)| r.finished_at.or(r.started_at.and(Some(closing)))).max()?;
    // Steps are noted by the second.
    Some(after(last.min(closing).0, cx.handler.settle + Duration::from_secs(1)))
}

/// A network may deliver a request twice, and the copy late: one that writes our marker must not land when the server is free again.
pub(super) fn earlier_calls_had_their_time(cx: &mut Cx<'_>) -> Flow {
    let Some(due) = earlier_calls_land(cx).filter(|due| cx.now < *due) else { return Continue(()) };
    Break(cx.wait_for_panel(Step::Release, due, "what was asked for before the closing gets its time to arrive".to_owned()))
}

/// Its client has the server until it is released, and may have switched it on again: what runs on it would be his. The last list
/// tells: one of before our last change will do, since none of those switches anything on. Not asked where a person or nobody stopped it.
fn still_off(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::PowerOff;
    let said = &cx.step(step).message;
    if said.starts_with(IPMI_IGNORED) || said == BY_HAND || cx.intent(Step::Release).is_some() {
        return Continue(());
    }
    if list_shows(cx, server, |row| row.power.on && !row.power.off) {
        cx.enter(step, State::Pending, "the server was switched on again");
        return power_off(cx, server);
    }
    Continue(())
}

/// Whether the last list, however old, shows this of the server.
fn list_shows(cx: &Cx<'_>, server: &ServerId, what: impl Fn(&ServerRow) -> bool) -> bool {
    cx.facts.inventory.as_ref().and_then(|list| list.rows.get(&server.0)).is_some_and(what)
}

/// What began to run while a person was asked to stop the server was nobody's to cancel: it ends before the server is released. What the
/// preparation asked for, and began to show since the power was looked after, is cancelled like anything before.
fn nothing_runs(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if !list_shows(cx, server, |row| row.install.is_some()) || cx.intent(Step::Release).is_some() {
        return Continue(());
    }
    if cx.step(Step::PowerOff).message != BY_HAND {
        cx.enter(Step::PowerOff, State::Pending, "an operation began on the server");
        cancel(cx, server)?;
        return power_off(cx, server);
    }
    let (message, too_long) = ("an operation runs on the server", "an operation runs on the server and does not end");
    Break(super::installation::operation_ends(cx, Step::Release, message, too_long))
}

/// What the step of the power says where a person switched the server off.
pub(super) const BY_HAND: &str = "stopped by hand";

/// Domain first, then owner and marker in one call: the commit point.
fn release(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::Release;
    earlier_calls_had_their_time(cx)?;
    still_off(cx, server)?;
    nothing_runs(cx, server)?;
    super::network::domains(cx, step, server, FREE_DOMAIN)?;
    let form = cx.own_form(step, server)?;
    if form.disabled {
        return Break(cx.call(step, Call::Enable { server: server.clone() }, Shows::AtOnce));
    }
    super::cleaning::flag(cx, server)?;
    Break(cx.call(step, Call::Release { server: server.clone(), marker: cx.order.marker.clone() }, Shows::AtOnce))
}
