//! Opening: from a claimed server to the client's, and what is looked at while the order is Active.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::panel::model::{PowerFlags, ServerId, ServerRow};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Next, Recheck, Wait, WaitKind, after};
use super::facts::{Row, Seen};
use super::inflight::Shows;
use super::marker::Found;
use super::people::people;
use super::reason::Reason;
use super::step::{OPENING, State, Step};

/// What the spec asks for that is refused, whatever the panel says.
pub(super) fn allowed(cx: &mut Cx<'_>) -> Flow {
    fixed_fields(cx)?;
    super::orphaning::policy_allowed(cx)?;
    super::reinstallation::refused(cx).map_or(Continue(()), Break)
}

/// Goes through the steps of opening; `Continue` means that all are over.
pub fn open(cx: &mut Cx<'_>) -> Flow {
    fixed_fields(cx)?;
    super::give_back::go_on(cx)?;
    super::give_back::stays_stopped(cx)?;
    super::orphaning::policy_allowed(cx)?;
    if cx.status.server.is_none() {
        super::allocation::allocate(cx)?;
    }
    let Some(server) = cx.server_id() else { return Continue(()) };
    if cx.is_gone(Step::HandOver, &server)? {
        let message = format!("the panel does not list server {server} any more (two complete lists agree); no other one is taken");
        return Break(super::drift::drifted(cx, Reason::ServerGone, &message));
    }
    super::drift::note_listed(cx, &server);
    super::suspension::finish_begun(cx, &server)?;
    super::suspension::first(cx, &server)?;
    if cx.cancelled().is_some() {
        power_on(cx, &server)?;
        cx.stays_cancelled()?;
    }
    follow_spec(cx);
    super::assembly::assemble(cx, &server)?;
    power_on(cx, &server)?;
    super::network::change_address(cx, &server)?;
    super::reinstallation::start(cx);
    super::installation::install(cx, &server)?;
    super::reinstallation::finish(cx);
    // What waited for the installation.
    follow_spec(cx);
    super::network::change_address(cx, &server)?;
    super::recipes::run(cx, &server)?;
    super::licenses::issue(cx)?;
    hand_over(cx, &server)?;
    super::suspension::follow(cx, &server)
}

/// The twin of the schema's rules on fixed fields, for servers that drop rules.
fn fixed_fields(cx: &mut Cx<'_>) -> Flow {
    let Some(server) = &cx.status.server else { return Continue(()) };
    let wanted = cx.order.wanted.to_string();
    let rows = [("configuration", &server.configuration, &wanted), ("client", &server.client, &cx.order.username)];
    let changed = rows.iter().find(|(_, was, is)| was != is).map(|(field, was, _)| (*field, *was));
    let moved = super::selection::moved(cx.order, &server.handler).map(|field| (field, &server.handler));
    let changed = changed
        .or(moved)
        .map(|(field, was)| format!("spec.{field} is fixed once a server is allocated; put it back to {was}, or create another order"));
    match changed {
        Some(message) => Break(cx.stall(Step::HandOver, Reason::FixedFieldChanged, &message, Recheck::OnChange)),
        None => Continue(()),
    }
}

/// The client has the server, and nothing of the spec waits to be acted upon. Licences that are renewed are no work at the server.
pub(super) fn at_rest(cx: &Cx<'_>) -> bool {
    !cx.order.deleting
        && OPENING.iter().all(|s| cx.state(*s).over() || *s == Step::IssueLicenses)
        && (cx.order.suspended || super::recipes::next(cx).is_none())
        && network_as_asked(cx)
        && super::licenses::as_asked(cx)
        && super::suspension::as_asked(cx)
        && !super::reinstallation::is_due(cx)
        && !super::rotation::is_under_way(cx)
}

/// Domain and number of addresses are what was last read back.
fn network_as_asked(cx: &Cx<'_>) -> bool {
    let Some(server) = &cx.status.server else { return false };
    let v6 = server.addresses.iter().filter(|a| a.contains(':')).count();
    // A main address of IPv6 that stays is there whether one is asked for or not.
    let least = usize::from(server.main_address.as_ref().is_some_and(|main| main.contains(':')));
    let wanted = (cx.order.ipv4, cx.order.ipv6.max(least));
    server.domain.as_deref() == Some(cx.order.domain.as_str()) && (server.addresses.len() - v6, v6) == wanted
}

/// Before the hand-over the main address is one that was read back: the system is installed with it, and a panel refuses another.
pub(super) fn moved_in_preparation(cx: &Cx<'_>) -> bool {
    if !cx.handler.operator_allocates() || super::network::keeps_main(cx) {
        return false;
    }
    let Some(server) = &cx.status.server else { return false };
    let Row::There(row) = cx.row(&ServerId(server.id.clone())) else { return false };
    row.main_address.is_some_and(|main| !server.addresses.contains(&main.to_string()))
}

/// Domain and addresses are acted upon at once, also on an Active order, but not in the middle of an installation: its intent
/// and its progress belong to one another. Nor while the answer to a recipe is missing: a call for something else would take its place.
fn follow_spec(cx: &mut Cx<'_>) {
    if matches!(cx.state(Step::InstallOS), State::Running | State::Waiting) || cx.intent(Step::RunRecipes).is_some() {
        return;
    }
    super::recipes::follow_spec(cx);
    if cx.state(Step::ChangeAddress).over() && !network_as_asked(cx) {
        cx.enter(Step::ChangeAddress, State::Pending, "spec.domain or spec.addresses changed");
    } else if cx.state(Step::ChangeAddress).over() && moved_in_preparation(cx) {
        cx.enter(Step::ChangeAddress, State::Pending, "somebody changed the server's main address");
    }
}

/// Power on: lifts the block first, then waits for the flag.
pub(super) fn power_on(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::PowerOn;
    if cx.state(step).over() {
        return Continue(());
    }
    let enabled = |c: &Call| matches!(c, Call::Enable { .. });
    let asked = |c: &Call| matches!(c, Call::PowerOn { .. });
    if cx.facts.applied(asked) {
        // The panel took it; only the list can show the effect.
        return Break(wait_for_power(cx, step));
    }
    if cx.facts.applied(enabled) {
        cx.enter(step, State::Pending, "enabled");
    } else {
        let row = cx.need_row(step, server)?;
        note_power(cx, row.power);
        if row.power.on && !row.flags.disabled {
            cx.finish(step, State::Done, "");
            return Continue(());
        }
        // Enabled and switched on, as the panel said: waited for, and not asked for again at each list.
        if cx.state(step) == State::Running && cx.status.in_flight.is_none() {
            return Break(powering(cx, step, &row));
        }
        if row.flags.disabled {
            return Break(cx.call(step, Call::Enable { server: server.clone() }, Shows::InTheList));
        }
    }
    Break(cx.call(step, Call::PowerOn { server: server.clone() }, Shows::InTheList))
}

/// The panel said that it switches on, and the list does not show it yet.
fn powering(cx: &mut Cx<'_>, step: Step, row: &ServerRow) -> Halt {
    let since = cx.step(step).started_at.map_or(cx.now, |t| t.0);
    if cx.now < after(since, cx.handler.power) {
        return wait_for_power(cx, step);
    }
    let detail = match (row.flags.disabled, row.power.error) {
        (true, _) => "the panel shows it disabled",
        (false, true) => "the panel reports a power error (IPMI or PDU)",
        (false, false) => "the panel does not show it",
    };
    let message = format!("the server is not on after {}: {detail}", crate::api::Duration(cx.handler.power));
    cx.fail(step, "PowerTimeout", &message)
}

/// Waits for a power flag.
pub(super) fn wait_for_power(cx: &mut Cx<'_>, step: Step) -> Halt {
    let since = cx.step(step).started_at.map_or(cx.now, |t| t.0);
    let deadline = after(since, cx.handler.power);
    let name = cx.handler.panel.clone();
    let message = format!("{}: waiting for the panel to show it", step.as_str());
    cx.wait(
        step,
        Wait {
            kind: WaitKind::Panel,
            name: &name,
            reason: Reason::WaitingForPanel,
            message,
            until: Some(deadline),
            deadline: Some(deadline),
        },
    )
}

/// Keeps `server.powerState`.
pub(super) fn note_power(cx: &mut Cx<'_>, power: PowerFlags) {
    let word = match (power.on, power.off) {
        (true, false) => "On",
        (false, true) => "Off",
        (true, true) | (false, false) => "Unknown",
    };
    if let Some(server) = cx.status.server.as_mut() {
        server.power_state = Some(word.into());
    }
}

fn hand_over(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::HandOver;
    if cx.state(step).over() {
        // An earlier version left it begun.
        cx.finish(Step::CreateClient, State::Done, "");
        return Continue(());
    }
    let people = people(cx, step)?;
    let Some(client) = people.client.clone() else {
        // Somebody deleted the client's user since the first step: it is made again.
        cx.enter(Step::CreateClient, State::Pending, "the panel's user is gone");
        return super::client::create_client(cx);
    };
    cx.finish(Step::CreateClient, State::Done, "");
    let form = cx.own_form(step, server)?;
    if !people.client_has(&form) {
        if let Some(owner) = form.owner.as_deref().filter(|o| !people.is_me(o)) {
            let message = format!("server {server} belongs to panel user {owner}, neither the client nor the operator; it is not touched");
            return Break(cx.stall(step, Reason::OwnerChanged, &message, Recheck::Later));
        }
        super::parking::give_back_left(cx, server)?;
        let call = Call::HandOver { server: server.clone(), owner: client.id, marker: cx.order.marker.clone() };
        return Break(cx.call(step, call, Shows::AtOnce));
    }
    cx.finish(step, State::Done, "");
    let now = Time::seconds(cx.now);
    if let Some(server) = cx.status.server.as_mut() {
        server.handed_over_at.get_or_insert(now);
    }
    Continue(())
}

/// All steps are over: drift is looked for in the shared list, which costs no request of the order's own.
pub fn active(cx: &mut Cx<'_>) -> Halt {
    match look_for_drift(cx) {
        Break(halt) => halt,
        Continue(()) => {
            cx.supersede_tasks();
            if let Some(halt) = super::reinstallation::refused(cx) {
                return halt;
            }
            if let Break(halt) = super::rotation::follow(cx) {
                return halt;
            }
            cx.supersede_tasks();
            cx.status.waiting_on = None;
            cx.status.last_error = None;
            cx.progress(Step::HandOver, 100, "");
            let look_again = super::rotation::is_watched(cx).then(|| after(cx.now, cx.handler.retry_interval));
            Halt { next: Next::Wait(look_again), verdict: super::suspension::resting(cx) }
        }
    }
}

fn look_for_drift(cx: &mut Cx<'_>) -> Flow {
    let step = Step::HandOver;
    let Some(server) = cx.server_id() else { return Continue(()) };
    let Row::There(row) = cx.row(&server) else { return Continue(()) };
    let row = row.clone();
    note_power(cx, row.power);
    let marked = cx.facts.inventory.as_ref().and_then(|i| i.markers.get(&server.0)).is_none_or(|found| found.contains(&cx.order.marker));
    let id = cx.facts.inventory.as_ref().and_then(|i| i.ids.get(&cx.order.username));
    let client = [Some(&cx.order.username), id].into_iter().flatten().any(|owner| row.owner.as_ref() == Some(owner));
    if !client || !marked {
        // The list may name owners by an id that is not known yet, and may be older than the hand-over: the form decides.
        let people = people(cx, step)?;
        let form = match cx.form(step, &server)? {
            Seen::There(form) => form,
            Seen::Missing => return Break(cx.form_missing(step, &server)),
        };
        if cx.order.marker.find_in(&form.notes) != Found::Ours {
            let message = format!("server {server} does not carry this order's marker alone; put `{}` into its notes", cx.order.marker);
            return Break(super::drift::drifted(cx, Reason::NotOurServer, &message));
        }
        if !people.client_has(&form) {
            let owner = form.owner.unwrap_or_else(|| "nobody".into());
            let message =
                format!("server {server} belongs to panel user {owner}, not to the client {}; it is not touched", cx.order.username);
            return Break(super::drift::drifted(cx, Reason::OwnerChanged, &message));
        }
    }
    if cx.order.suspended {
        return super::suspension::drift(cx, &server, &row);
    }
    let busy = row.install.is_some() || row.flags.diagnostics || row.power.error;
    if row.power.off && !row.power.on && !busy {
        cx.enter(Step::PowerOn, State::Pending, "the server was off");
        return power_on(cx, &server);
    }
    Continue(())
}
