//! Suspension of an Active order and its end: block, switch ports, power, and the way back.
//!
//! On DCImanager 5 the service is suspended with `server.disable`, the ports off and the power off (design.md section 9). The
//! panel refuses to switch a port on while the server is disabled (ispsystem-api.md 2.7), so that the way back is the same
//! order from the front. Each of these calls may be repeated without harm; each effect is read back. What has begun is
//! finished before anything else of the spec is acted upon; what has not begun, and is not asked for any more, costs nothing.
//!
//! An error of the power (IPMI, PDU) is an ordinary failure under both policies of the handler: the network stays off, the power
//! is tried again, and after `maxAttempts` a department looks after it.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::OrderStatus;
use crate::panel::model::{ServerId, ServerRow};

use super::call::Call;
use super::context::{Busy, Cx, Flow, Halt, LONG, WaitKind, after, cut};
use super::facts::Look;
use super::inflight::{NO_EFFECT, Shows};
use super::opening::{note_power, wait_for_power};
use super::step::{OPENING, State, Step};
use super::verdict::Verdict;

/// The way into suspension, in order.
const DOWN: [Step; 3] = [Step::Suspend, Step::PortsOff, Step::StopPower];
/// The way out, in order; `PowerOn` follows.
const UP: [Step; 2] = [Step::Resume, Step::PortsOn];
/// What is waited for while a port is being switched, and while something else runs on the server.
const CONNECTIONS: &str = "connections";

/// What the step of a power-on says that was overtaken. The panel may have been asked for it.
pub(super) const NOT_NEEDED: &str = "not needed: the service is suspended";

/// Whether a status says that the service is suspended, all of it.
#[must_use]
pub fn is_over(status: &OrderStatus) -> bool {
    DOWN.iter().all(|step| status.steps.iter().any(|s| s.name == step.as_str() && State::parse(&s.state).over()))
}

/// Whether suspension and spec agree: nothing is left to do in either direction.
pub(super) fn as_asked(cx: &Cx<'_>) -> bool {
    if cx.order.suspended { is_over(&cx.status) } else { !begun(cx) }
}

/// The way into suspension, or out of it, was begun and is not over.
fn begun(cx: &Cx<'_>) -> bool {
    recorded(cx, &DOWN) || UP.iter().any(|step| recorded(cx, &[*step]) && !cx.state(*step).over())
}

/// Whether one of these steps stands in the status.
fn recorded(cx: &Cx<'_>, steps: &[Step]) -> bool {
    cx.status.steps.iter().any(|s| steps.iter().any(|step| step.as_str() == s.name))
}

fn forget(cx: &mut Cx<'_>, steps: &[Step]) {
    cx.status.steps.retain(|s| !steps.iter().any(|step| step.as_str() == s.name));
}

/// The step that an order with all its other steps over is at.
pub(super) fn at_hand(cx: &Cx<'_>) -> Option<Step> {
    let way: &[Step] = if cx.order.suspended { &DOWN } else { &UP };
    if as_asked(cx) { None } else { way.iter().copied().find(|s| !cx.state(*s).over()) }
}

/// What an order at rest is: Active, or suspended.
pub(super) fn resting(cx: &Cx<'_>) -> Verdict {
    if cx.order.suspended && is_over(&cx.status) { Verdict::Suspended } else { Verdict::Ready }
}

/// What failed on the way that is not wanted any more needs no department, nor does a password that is not followed any more; and a server
/// that shall be off need not be on.
pub(super) fn overtake(cx: &mut Cx<'_>) {
    let handed_over = cx.state(Step::HandOver).over();
    let failed = cx.status.last_error.as_ref().and_then(|e| Step::parse(&e.step));
    let against: &[Step] = if cx.order.suspended { &UP } else { &DOWN };
    let power = cx.order.suspended && handed_over && !cx.state(Step::PowerOn).over();
    let password = !super::rotation::is_watched(cx);
    if failed.is_some_and(|step| against.contains(&step) || (power && step == Step::PowerOn) || (password && step == Step::SetPassword)) {
        cx.supersede_tasks();
        cx.forget_attempts();
        cx.status.waiting_on = None;
    }
    if power && cx.intent(Step::PowerOn).is_none() {
        cx.finish(Step::PowerOn, State::Done, NOT_NEEDED);
    }
}

/// Whether a client's server is to be suspended, or resumed, although a department has cancelled another change of it: what was given
/// up keeps nobody from it.
pub(super) fn goes_first(cx: &Cx<'_>) -> bool {
    let power = |step: Step| step == Step::PowerOn && !cx.order.suspended;
    let other = cx.cancelled().is_some_and(|step| !DOWN.contains(&step) && !UP.contains(&step) && !power(step));
    let resumed = !cx.order.suspended && recorded(cx, &UP) && !cx.state(Step::PowerOn).over();
    other && !cx.order.deleting && cx.state(Step::HandOver).over() && (!as_asked(cx) || resumed)
}

/// Nothing of this step is at work.
fn at_rest(cx: &Cx<'_>, step: Step) -> bool {
    cx.state(step).over() || cx.cancelled() == Some(step)
}

/// Addresses of a client's server are being changed, with no call under way.
fn addresses(cx: &Cx<'_>, step: Step) -> bool {
    step == Step::ChangeAddress && cx.state(Step::HandOver).over() && cx.intent(step).is_none()
}

/// A change of the suspension that has begun is finished before anything else.
pub(super) fn finish_begun(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let under_way = DOWN.iter().chain(&UP).any(|step| recorded(cx, &[*step]) && !cx.state(*step).over());
    let beside = |s: Step| matches!(s, Step::IssueLicenses | Step::RunRecipes) || addresses(cx, s);
    if under_way && OPENING.iter().all(|s| at_rest(cx, *s) || beside(*s)) { follow(cx, server) } else { Continue(()) }
}

/// An order that the client has is suspended, and resumed, before anything else of the spec that has not begun.
pub(super) fn first(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    // Addresses may be waited for without end.
    let waits = cx.status.waiting_on.as_ref().is_some_and(|w| w.kind == WaitKind::Capacity.as_str());
    let settled = [Step::HandOver, Step::InstallOS, Step::ChangeAddress, Step::PowerOn]
        .iter()
        .all(|s| at_rest(cx, *s) || (waits && addresses(cx, *s)));
    let recipe = matches!(cx.state(Step::RunRecipes), State::Running | State::Waiting);
    if settled && !recipe && cx.status.in_flight.is_none() { follow(cx, server) } else { Continue(()) }
}

/// Suspends or resumes as the spec asks; `Continue` when that is so.
pub(super) fn follow(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if as_asked(cx) {
        return Continue(());
    }
    if cx.order.suspended { suspend(cx, server) } else { resume(cx, server) }
}

/// A change of direction: what was asked for on the other way gets its time to take effect, and counts no more.
fn turn(cx: &mut Cx<'_>, from: &[Step], step: Step) -> Flow {
    if from.iter().any(|other| cx.intent(*other).is_some()) {
        cx.settled_in_list(step)?;
        cx.status.in_flight = None;
    }
    forget(cx, from);
    Continue(())
}

fn suspend(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    turn(cx, &UP, Step::Suspend)?;
    for step in DOWN {
        cx.step(step);
    }
    let step = Step::Suspend;
    if !cx.state(step).over() {
        if !cx.own_form(step, server)?.disabled {
            return Break(cx.call(step, Call::Disable { server: server.clone() }, Shows::AtOnce));
        }
        cx.finish(step, State::Done, "");
    }
    ports(cx, Step::PortsOff, server, false)?;
    stop_power(cx, server)
}

fn resume(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let untouched = |cx: &Cx<'_>| DOWN.iter().all(|s| cx.status.steps.iter().all(|r| r.name != s.as_str() || r.attempts == 0));
    if !recorded(cx, &UP) && untouched(cx) && DOWN.iter().all(|s| !cx.state(*s).over()) {
        // Nothing was asked of the panel yet: a spec that changes back costs nothing.
        forget(cx, &DOWN);
        return Continue(());
    }
    turn(cx, &DOWN, Step::Resume)?;
    for step in UP {
        cx.step(step);
    }
    let step = Step::Resume;
    if !cx.state(step).over() {
        if cx.own_form(step, server)?.disabled {
            return Break(cx.call(step, Call::Enable { server: server.clone() }, Shows::AtOnce));
        }
        cx.finish(step, State::Done, "");
    }
    ports(cx, Step::PortsOn, server, true)?;
    // Everything that an order that is not suspended needs power for finds it by itself.
    cx.enter(Step::PowerOn, State::Pending, "the service is resumed");
    super::opening::power_on(cx, server)
}

/// What stands between the server and its connections in the target of a call that failed.
const OF_CONNECTIONS: &str = "/connection/";
/// What stands between several connections.
const AND: &str = ",";

/// The target of a call to a server, or to one of its connections.
pub(super) fn target(server: &str, connection: Option<&str>) -> String {
    let connection = connection.map(|id| format!("{OF_CONNECTIONS}{id}"));
    format!("server/{server}{}", connection.unwrap_or_default())
}

/// Whether a target is about this connection, as far as it says so: after a restart it may name the server alone.
pub(super) fn may_name(target: &str, connection: &str) -> bool {
    target.split_once(OF_CONNECTIONS).is_none_or(|(_, named)| named.split(AND).any(|id| id == connection))
}

/// A target of connections is about this one, too.
pub(super) fn name_too(target: &mut String, connection: &str) {
    if !may_name(target, connection) {
        *target = cut(&format!("{target}{AND}{connection}"), LONG);
    }
}

/// Switches the ports. The panel switches them itself when it disables or enables a server, a while later
/// (ispsystem-api.md 2.4, inferred): only what is not as it shall be by then is asked for.
fn ports(cx: &mut Cx<'_>, step: Step, server: &ServerId, on: bool) -> Flow {
    if cx.state(step).over() {
        return Continue(());
    }
    let Some(connections) = cx.facts.connections.clone() else { return Break(cx.look(step, Look::Connections(server.clone()))) };
    let call = |connection: &str| {
        let (server, connection) = (server.clone(), connection.to_owned());
        if on { Call::ConnectionOn { server, connection } } else { Call::ConnectionOff { server, connection } }
    };
    // Accepted in an earlier pass, for all of them: a pass asks for one after the other before it waits.
    let asked = cx.state(step) == State::Running && cx.status.in_flight.is_none();
    for port in connections.iter().filter(|c| c.is_switch() && !c.busy) {
        let call = call(&port.id);
        match port.on {
            Some(is) if is == on => {}
            // Nothing shows it: what the panel answered is believed, and so is whoever switched this one by hand.
            None if asked || cx.facts.applied.contains(&call) || cx.is_said_to_be_done(step, &call) => {}
            Some(_) if asked => {
                let message = format!("the panel said that it switched connection {}, but it does not show", port.id);
                return Break(cx.fail(step, NO_EFFECT, &message));
            }
            Some(_) | None => return Break(cx.call(step, call, Shows::AtOnce)),
        }
    }
    if connections.iter().any(|c| c.is_switch() && c.busy) {
        return Break(switching(cx, step));
    }
    cx.finish(step, State::Done, "");
    Continue(())
}

/// A port is being switched: waited for, but not for ever.
fn switching(cx: &mut Cx<'_>, step: Step) -> Halt {
    let busy = Busy {
        name: CONNECTIONS,
        message: "a connection of the server is being switched",
        patience: cx.handler.step,
        pause: cx.handler.poll,
        code: "PortBusy",
        too_long: "a connection of the server is being switched, and that does not end",
    };
    cx.wait_for_end(step, &busy)
}

/// Off at last. An installation or a diagnosis is not cut short: it is waited for.
fn stop_power(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::StopPower;
    if cx.state(step).over() {
        return Continue(());
    }
    let off = Call::PowerOff { server: server.clone() };
    if cx.facts.applied.contains(&off) {
        return Break(wait_for_power(cx, step));
    }
    let row = cx.need_row(step, server)?;
    note_power(cx, row.power);
    if row.power.off && !row.power.on {
        cx.finish(step, State::Done, "");
        return Continue(());
    }
    if cx.state(step) == State::Running && cx.status.in_flight.is_none() {
        if row.power.error {
            return Break(cx.fail(step, "PowerError", "the panel reports a power error (IPMI or PDU); the network of the server is off"));
        }
        let since = cx.step(step).started_at.map_or(cx.now, |t| t.0);
        if cx.now < after(since, cx.handler.power) {
            return Break(wait_for_power(cx, step));
        }
        let message = format!("the server is not off after {}; its network is", crate::api::Duration(cx.handler.power));
        return Break(cx.fail(step, "PowerTimeout", &message));
    }
    if row.install.is_some() || row.flags.diagnostics {
        return Break(at_work(cx, step));
    }
    Break(cx.call(step, off, Shows::InTheList))
}

fn at_work(cx: &mut Cx<'_>, step: Step) -> Halt {
    let message = "an operation runs on the server; the power goes off after it";
    super::installation::operation_ends(cx, step, message, "an operation runs on the server and does not end")
}

/// Drift of a suspended order: enabled by hand, or on. Corrected once for each list, and never while the server is busy or its
/// power cannot be asked.
pub(super) fn drift(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Flow {
    if row.install.is_some() || row.flags.diagnostics || row.power.error {
        return Continue(());
    }
    if !row.flags.disabled {
        for step in DOWN {
            cx.enter(step, State::Pending, "the server was enabled by hand");
        }
        return suspend(cx, server);
    }
    if row.power.on {
        cx.enter(Step::StopPower, State::Pending, "the server was on");
        return stop_power(cx, server);
    }
    Continue(())
}

/// Closing, as the vendor does it (ispsystem-api.md 2.8): a disabled server is enabled first. The panel switches its connections
/// on a while later, which is waited for before the power is touched. A step of its own: that of the power says whether the
/// power was asked for, and nothing else.
pub(super) fn enable_for_closing(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if cx.state(Step::PowerOff) != State::Pending {
        return Continue(());
    }
    let step = Step::Resume;
    let enable = Call::Enable { server: server.clone() };
    if !cx.facts.applied.contains(&enable) && !cx.need_row(Step::PowerOff, server)?.flags.disabled {
        return Continue(());
    }
    if cx.own_form(step, server)?.disabled {
        return Break(cx.call(step, enable, Shows::AtOnce));
    }
    cx.finish(step, State::Done, "");
    Continue(())
}

/// Closing: ports that were switched off for a suspension are on again before the server is given back, and not before it is off.
pub(super) fn ports_for_closing(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::PortsOn;
    let switched = recorded(cx, &[Step::PortsOff]) || recorded(cx, &[step]);
    if !switched || cx.state(step).over() {
        return Continue(());
    }
    if cx.own_form(step, server)?.disabled {
        return Break(cx.call(step, Call::Enable { server: server.clone() }, Shows::AtOnce));
    }
    ports(cx, step, server, true)
}

/// Steps whose calls must not land on a server that was given back: closing lets them settle before it begins. To be enabled,
/// and to have its ports on, is what a free server has to be.
pub(super) fn settles_before_closing(step: Step) -> bool {
    DOWN.contains(&step) || step == Step::SetPassword
}
