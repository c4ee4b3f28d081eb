//! Reinstallation: a new value of `spec.reinstall` on an order that the client has installs the system once more.
//!
//! It destroys what is on the disks, so that it is asked for exactly once for each value. `server.reinstall` holds the value
//! before anything is asked of the panel: it is the leave to install on a server that was handed over. `lastHandledReinstall`
//! gets it as soon as the installation may have begun; from then on it is carried through by the rules of any installation
//! (the data are gone), whatever the spec says next. Until then a value that is put back, a protection or a suspension costs
//! nothing. A lost answer that leaves no trace is never repeated here: a department looks (design.md section 9).

use crate::api::common::Time;
use crate::api::order::{InstalledSystem, OrderStatus, ServerStatus, StepStatus};
use crate::api::task::TaskType;

use super::call::Call;
use super::context::{Cx, Flow, Halt, Recheck};
use super::order::{Handler, Order};
use super::reason::Reason;
use super::step::{OPENING, State, Step};

const STEP: Step = Step::InstallOS;
/// The error of a lost answer that left no trace.
const LOST: &str = "AnswerLost";
/// The error of an installation of which nothing is known any more but that nothing showed that it was made.
const UNCONFIRMED: &str = "InstallUnconfirmed";
const NOT_REPEATED: &str = "nothing shows that the installation was made; it is not repeated by itself, since the server was handed over";
/// What the condition and the message say where a protection refuses it.
const PROTECTED: &str = "spec.reinstall has a new value, and spec.deletionProtection refuses what destroys data: set deletionProtection: false to have the system installed again, or put spec.reinstall back";
/// The same where it is not known whether it was done.
const PROTECTED_SINCE: &str = "whether the system was installed again is not known, and spec.deletionProtection refuses that it is done once more: set deletionProtection: false to have it installed, or put spec.reinstall back";
const SUSPENDED: &str = "spec.reinstall has a new value; the system is installed again when the service is not suspended any more";
const DIFFERS: &str = "spec.operatingSystem.template or spec.recipes differ from what is installed; they take effect at the next reinstall";

/// A value of `spec.reinstall` that nothing was done for yet. No value is no wish.
fn new_token<'o>(order: &'o Order, status: &OrderStatus) -> Option<&'o str> {
    let token = order.reinstall.as_str();
    (!token.is_empty() && status.last_handled_reinstall.as_deref() != Some(token)).then_some(token)
}

/// What the installed system differs in from the spec, and why that waits.
#[must_use]
pub fn pending(order: &Order, handler: &Handler, status: &OrderStatus) -> Option<(Reason, &'static str)> {
    let server = status.server.as_ref()?;
    let handed_over = server.handed_over_at.is_some() && server.reinstall.is_none();
    let asked = handed_over && new_token(order, status).is_some();
    let differs = |installed: &String| *installed != order.template || super::recipes::wait_for_reinstall(order, handler, &server.recipes);
    let differs = server.template.as_ref().is_some_and(differs);
    match (asked, order.suspended, order.deletion_protection) {
        (true, true, _) => Some((Reason::ReinstallPending, SUSPENDED)),
        (true, false, true) => Some((Reason::ReinstallProtected, PROTECTED)),
        (true, false, false) | (false, _, _) => differs.then_some((Reason::ReinstallPending, DIFFERS)),
    }
}

/// A client's server was found again or taken over: a value that is there by then is recorded, never acted upon.
pub(super) fn note_found(cx: &mut Cx<'_>) {
    if !cx.order.reinstall.is_empty() {
        cx.status.last_handled_reinstall = Some(cx.order.reinstall.clone());
    }
}

/// Whether an order that has nothing else to do has this to do.
pub(super) fn is_due(cx: &Cx<'_>) -> bool {
    let handed_over = cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some());
    handed_over && !cx.order.suspended && !cx.order.deletion_protection && new_token(cx.order, &cx.status).is_some()
}

/// Whether an installation on a server that was handed over is one that the client asked for.
pub(super) fn is_under_way(cx: &Cx<'_>) -> bool {
    cx.status.server.as_ref().is_some_and(|s| s.reinstall.is_some())
}

/// Called at the beginning of every decision: an installation that may have begun is handled from now on; one that has not, and
/// is not asked for any more, is forgotten.
pub(super) fn reconsider(cx: &mut Cx<'_>) {
    let Some(token) = cx.status.server.as_ref().and_then(|s| s.reinstall.clone()) else { return };
    let lost = cx.intent(STEP).is_some_and(|f| !cx.intent_is_own(f));
    let accepted = cx.state(STEP) == State::Waiting || cx.facts.applied(|c| matches!(c, Call::Install { .. }));
    if lost || accepted {
        cx.status.last_handled_reinstall = Some(token);
        if let Some(server) = cx.status.server.as_mut().filter(|_| cx.status.steps.iter().any(is_seen)) {
            // It has begun, beyond doubt: the data are gone.
            (server.before_reinstall, server.reinstall_unconfirmed, server.reinstall_again) = (None, false, None);
        }
        return;
    }
    let handled = cx.status.last_handled_reinstall.as_deref() == Some(&token);
    let running = cx.state(STEP) == State::Running && cx.intent(STEP).is_none();
    // What a department gave up does not begin again because the service was suspended meanwhile.
    let cancelled = cx.cancelled() == Some(STEP) && cx.order.reinstall == token;
    if cancelled || handled || running || cx.intent(STEP).is_some() || (is_due(cx) && cx.order.reinstall == token) {
        return;
    }
    withdraw(cx);
    if cx.is_open(TaskType::FailedOperation) {
        cx.supersede_tasks();
    }
    cx.status.waiting_on = None;
}

/// Whether the panel was seen to install.
fn is_seen(record: &StepStatus) -> bool {
    record.name == STEP.as_str() && record.state == State::Waiting.as_str()
}

/// What was asked for, and was not made, stands in the status as if it had been: the system is the one that was there.
fn restore(server: &mut ServerStatus) {
    if let Some(was) = server.before_reinstall.take() {
        (server.template, server.password_version) = (was.template, was.password_version);
        (server.recipes, server.failed_recipes) = (was.recipes, was.failed_recipes);
        server.running_recipe = None;
    }
}

/// Nothing was installed.
fn withdraw(cx: &mut Cx<'_>) {
    let recipes = cx.status.server.as_mut().is_some_and(|server| {
        (server.reinstall, server.reinstall_before, server.reinstall_again) = (None, None, None);
        restore(server);
        !server.recipes.is_empty()
    });
    cx.finish(STEP, State::Done, "");
    cx.finish(Step::RunRecipes, if recipes { State::Done } else { State::Skipped }, "");
}

/// Begins: the leave is given, and stands in the status that is written before the call. Nothing else may be under way.
pub(super) fn start(cx: &mut Cx<'_>) {
    let idle = cx.status.in_flight.is_none() && OPENING.iter().all(|s| cx.state(*s).over()) && super::suspension::as_asked(cx);
    if !idle || !is_due(cx) {
        return;
    }
    let (token, before) = (cx.order.reinstall.clone(), cx.status.last_handled_reinstall.clone());
    if let Some(server) = cx.status.server.as_mut() {
        server.reinstall = Some(token);
        server.reinstall_before = before;
        server.before_reinstall = Some(InstalledSystem {
            template: server.template.clone(),
            recipes: server.recipes.clone(),
            failed_recipes: server.failed_recipes.clone(),
            password_version: server.password_version.clone(),
        });
    }
    cx.enter(STEP, State::Pending, "spec.reinstall has a new value");
    cx.enter(Step::RunRecipes, State::Pending, "");
}

/// The installation is about to be asked for: it serves the value that stands in the spec now, too.
pub(super) fn serve(cx: &mut Cx<'_>) {
    let token = new_token(cx.order, &cx.status).map(str::to_owned);
    let Some(server) = cx.status.server.as_mut() else { return };
    let Some(token) = token else { return };
    if server.handed_over_at.is_none() {
        // The first installation of all: nothing is there yet to be installed over.
        cx.status.last_handled_reinstall = Some(token);
    } else if server.reinstall.is_some() && server.reinstall == cx.status.last_handled_reinstall && !cx.order.deletion_protection {
        // Whether the one before has begun or not: the client wants one now.
        (server.reinstall, server.reinstall_again) = (Some(token.clone()), Some(token.clone()));
        cx.status.last_handled_reinstall = Some(token);
    }
}

/// The installation is over.
pub(super) fn finish(cx: &mut Cx<'_>) {
    let put_back = cx.status.server.as_ref().is_some_and(|s| is_before(s, cx.order));
    if let Some(server) = cx.status.server.as_mut() {
        (server.reinstall_before, server.reinstall_again) = (None, None);
        server.reinstall_unconfirmed = false;
        server.before_reinstall = None;
        server.template_stood = false;
        // What showed before a recipe that runs by itself counts until that is over.
        server.failure_stood = server.failure_stood && server.running_recipe.is_some();
    }
    if let Some(token) = cx.status.server.as_mut().and_then(|s| s.reinstall.take()) {
        cx.status.last_handled_reinstall = Some(if put_back { cx.order.reinstall.clone() } else { token });
    }
}

/// Whether the spec names the value again that was handled before the installation at hand.
fn is_before(server: &ServerStatus, order: &Order) -> bool {
    server.reinstall_before.as_deref() == Some(order.reinstall.as_str())
}

/// Whether nobody asks for the installation at hand any more.
fn is_withdrawn(server: &ServerStatus, order: &Order) -> bool {
    order.reinstall.is_empty() || is_before(server, order)
}

/// A department looks after an installation of which nothing shows, and wants it made once more.
pub(super) fn note_again(cx: &mut Cx<'_>, step: Step) {
    let order = cx.order;
    if let Some(server) = cx.status.server.as_mut().filter(|s| step == STEP && s.reinstall_unconfirmed && !is_withdrawn(s, order)) {
        server.reinstall_again = server.reinstall.clone();
    }
}

/// Whether an installation that nobody asks for any more, and of which nothing showed, was never made: the form names what was there.
pub(super) fn was_never_made(cx: &mut Cx<'_>, there: &str) -> bool {
    let order = cx.order;
    let unmade = |s: &&mut ServerStatus| {
        let was = s.before_reinstall.as_ref().is_some_and(|was| was.template.as_deref() == Some(there));
        s.reinstall_unconfirmed && is_withdrawn(s, order) && was
    };
    let Some(server) = cx.status.server.as_mut().filter(unmade) else { return false };
    restore(server);
    true
}

/// Nothing shows of an installation on a server that was handed over, though the panel accepted it: not repeated, whatever the spec says
/// of other things.
pub(super) fn unconfirmed(cx: &mut Cx<'_>, code: &str, message: &str) -> Halt {
    if let Some(server) = cx.status.server.as_mut() {
        (server.reinstall_unconfirmed, server.reinstall_again) = (true, None);
    }
    let message = format!("{message}; it is not repeated by itself, since the server was handed over");
    cx.fail_for_good(STEP, code, &message, Time::seconds(cx.now))
}

/// The answer to an installation on a server that was handed over is lost, and nothing shows: whether it was made is for a person to
/// say, or for a new value of `spec.reinstall`; another change of the spec says nothing of it. So it is where the panel had accepted it.
/// `Continue` where this is not so.
pub(super) fn lost(cx: &mut Cx<'_>) -> Flow {
    let Some(server) = cx.status.server.as_ref().filter(|s| s.handed_over_at.is_some()) else { return Flow::Continue(()) };
    let withdrawn = is_withdrawn(server, cx.order);
    let same = server.reinstall.as_deref() == Some(cx.order.reinstall.as_str()) || withdrawn;
    let answered = server.reinstall_again.is_some() && server.reinstall_again == server.reinstall;
    // What nobody wants any more is not repeated by a department's word either.
    let unanswered = server.reinstall_unconfirmed && same && (!answered || withdrawn);
    let lost = cx.intent(STEP).is_some_and(|f| !cx.intent_is_own(f));
    match (lost, unanswered) {
        // The data may be there still: who protects them since then is heard.
        (false, false) if server.reinstall_unconfirmed && cx.order.deletion_protection => {
            return Flow::Break(cx.stall(STEP, Reason::ReinstallProtected, PROTECTED_SINCE, Recheck::OnChange));
        }
        (false, false) => return Flow::Continue(()),
        (false, true) => return Flow::Break(ask_again(cx)),
        (true, true | false) => {}
    }
    cx.settled_in_list(STEP)?;
    if let Some(server) = cx.status.server.as_mut() {
        (server.reinstall_unconfirmed, server.reinstall_again) = (true, None);
    }
    cx.status.in_flight = None;
    let message = "the answer to the installation was lost, and the panel shows no trace of it; it is not repeated by itself, since the server was handed over";
    Flow::Break(cx.fail_after_losses(STEP, LOST, message, 1))
}

/// A department is asked as it was before, where the status still tells why.
fn ask_again(cx: &mut Cx<'_>) -> Halt {
    let told = cx.status.last_error.clone().filter(|e| e.step == STEP.as_str());
    let told = told.filter(|e| e.code == LOST || super::installation::is_unconfirmed(&e.code));
    let (code, message, at) = told.map_or_else(
        || (UNCONFIRMED.to_owned(), NOT_REPEATED.to_owned(), Time::seconds(cx.now)),
        |error| (error.code, error.message, error.time),
    );
    cx.fail_for_good(STEP, &code, &message, at)
}

/// A protection refuses what the spec asks for; the order is looked after all the same.
pub(super) fn refused(cx: &mut Cx<'_>) -> Option<Halt> {
    let refused = pending(cx.order, cx.handler, &cx.status).is_some_and(|(reason, _)| reason == Reason::ReinstallProtected);
    refused.then(|| cx.stall(Step::HandOver, Reason::ReinstallProtected, PROTECTED, Recheck::Later))
}
