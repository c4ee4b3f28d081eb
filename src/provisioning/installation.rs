//! Installation: started once, followed by its flags, repeated only where nothing of a client's can be lost.
//!
//! DCImanager 5 has no operation object (ispsystem-api.md 0.2): an installation shows as a flag of the server's row. It counts as made
//! where its flag was seen, and then gone, unless the form of operations names another system after that, or none; and where the flag
//! was never seen, but the form names the template, which it did not before the installation was asked for. A form that named it before,
//! since the client before had the same system, tells nothing, and there is nothing else to ask: the panel shows no operation that is
//! over and not when a system was installed, and what it says of the progress on a server where nothing runs is not known. An installation
//! that nobody saw on such a server, as one that ends between two polls, counts as not made; one that was seen counts as made, although
//! somebody may have cancelled it. What was not made is made again before the hand-over, as often as anything may fail; then, and after
//! the hand-over at once, a department says what is there.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::LastError;
use crate::panel::error::ErrorClass;
use crate::panel::model::{ServerId, ServerRow};

use super::allocation::{offers, prepared};
use super::call::Call;
use super::context::{Busy, Cx, Flow, Halt, Next, Wait, WaitKind, after};
use super::facts::{Look, Prepare};
use super::inflight::Shows;
use super::reason::Reason;
use super::reinstallation;
use super::step::{State, Step};

const STEP: Step = Step::InstallOS;
/// What stands in an intent to cancel.
const CANCEL: &str = "cancelOperation";
/// What is waited for while something else runs on the server.
const OPERATION: &str = "operation";
/// The error of an installation that did not end in time.
const TIMEOUT: &str = "InstallTimeout";
/// The error of one that did not end in time, and whose cancellation the panel refuses.
const HANGS: &str = "InstallNotCancelled";
/// The error of an installation that the panel accepted, and of which it showed nothing.
const VANISHED: &str = "InstallVanished";
/// The error of an installation that was over, while the form named another system, or none; or that may have been cancelled.
pub(super) const CANCELLED: &str = "InstallCancelled";
/// What is waited for while the form does not name the system of an installation that is over.
const FORM: &str = "form";

/// The system is installed.
pub(super) fn install(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if cx.state(STEP).over() {
        return Continue(());
    }
    if cx.facts.applied(|c| matches!(c, Call::Install { .. })) {
        // The panel took it: recorded at once, so that a restart follows it instead of starting it again.
        return Break(follow(cx, "started"));
    }
    if cx.facts.applied(|c| matches!(c, Call::CancelOperation { .. })) {
        let message = format!("the installation did not end within {} and was cancelled", crate::api::Duration(cx.handler.install));
        return Break(cx.fail(STEP, TIMEOUT, &message));
    }
    let row = cx.need_row(STEP, server)?;
    match cx.state(STEP) {
        State::Running if cx.status.in_flight.is_none() => asked(cx, server, &row),
        State::Waiting => seen(cx, server, &row),
        State::Running if cx.intent(STEP).is_some_and(|f| f.call == CANCEL) => cancelling(cx, server, &row),
        State::Running if row.install.is_some() => {
            // The answer was lost, but the panel is at work.
            cx.status.in_flight = None;
            Break(at_work(cx, server, &row))
        }
        State::Pending | State::Running | State::Failed | State::Done | State::Skipped => begin(cx, server, &row),
    }
}

fn begin(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Flow {
    if cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some()) && !reinstallation::is_under_way(cx) {
        // Whatever is on these disks is the client's.
        return Break(cx.fail(
            STEP,
            "HandedOver",
            "the server was handed over before: nothing is installed on it without a reinstall token",
        ));
    }
    reinstallation::lost(cx)?;
    if row.install.is_none() && failed_with(cx, HANGS) && cx.is_counted(STEP) {
        // It has ended by itself since: what it made is not made again.
        return ended(cx, server, row);
    }
    let vanished = failed_with(cx, VANISHED);
    if vanished && row.install.is_some() {
        // It shows at last: one that the panel accepted is never asked for twice.
        return Break(at_work(cx, server, row));
    }
    if row.install.is_some() || row.flags.diagnostics {
        return Break(busy(cx, server, row));
    }
    offers(cx, STEP, server)?;
    if vanished && !row.flags.operation_failed && shows_ours(cx, server) {
        // It began and ended while nobody looked.
        cx.finish(STEP, State::Done, "");
        return Continue(());
    }
    // A Secret that the client names may come; one that the operator cannot make needs somebody who makes room for it.
    let lacking = if cx.order.own_password { Reason::CredentialsMissing } else { Reason::SecretConflict };
    prepared(cx, STEP, Prepare::RootPassword, lacking)?;
    let address = super::main_address::to_install_with(cx, row)?;
    let call = Call::Install {
        server: server.clone(),
        template: cx.order.template.clone(),
        recipe: cx.order.recipes.first().cloned(),
        hostname: cx.order.domain.clone(),
        address,
    };
    if cx.state(STEP) == State::Failed {
        cx.enter(STEP, State::Pending, "");
    }
    let halt = cx.call(STEP, call, Shows::InTheList);
    if matches!(halt.next, Next::Call(_)) {
        // Recorded with the intent: an answer that is lost must not lose what was asked for.
        let (template, recipes) = (cx.order.template.clone(), super::recipes::with_installation(cx.order, cx.handler));
        let named = names(cx, server, &template);
        if let Some(status) = cx.status.server.as_mut() {
            // What shows already shows nothing of this installation; nor does what comes from a form that could not be compared.
            (status.template_stood, status.failure_stood) = (named != Some(false), row.flags.operation_failed);
            status.template = Some(template);
            status.recipes = recipes;
            status.failed_recipes.clear();
            status.running_recipe = None;
        }
        super::rotation::installed(cx);
        reinstallation::serve(cx);
        if failed_with(cx, HANGS) {
            // What hung is over: whatever shows from now on is of this one.
            cx.status.last_error = None;
        }
    }
    Break(halt)
}

/// Something else runs on the server, or our own installation that could not be cancelled. Waited for, but not for ever.
fn busy(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Halt {
    if row.install.is_some() && (failed_with(cx, TIMEOUT) || failed_with(cx, HANGS)) {
        return cx.call(STEP, Call::CancelOperation { server: server.clone() }, Shows::InTheList);
    }
    other_operation(cx, STEP)
}

/// Whether this is the error of an installation that hangs: what runs on the server is the operator's own, also when a department has said
/// that it is tried again.
pub(super) fn hangs(error: &LastError) -> bool {
    error.step == STEP.as_str() && error.code == HANGS
}

/// Whether the last attempt failed with this error.
fn failed_with(cx: &Cx<'_>, code: &str) -> bool {
    cx.status.last_error.as_ref().is_some_and(|e| e.code == code)
}

/// The answer to the cancellation is lost: it may land late, and must not hit the next installation. What does not run any more may have
/// ended by itself, so that a client is at work on it: on a server that was handed over it is made again on a department's word alone.
fn cancelling(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Flow {
    if row.install.is_some() {
        return Break(cx.call(STEP, Call::CancelOperation { server: server.clone() }, Shows::InTheList));
    }
    cx.settled_in_list(STEP)?;
    let patience = crate::api::Duration(cx.handler.install);
    let message =
        format!("the installation did not end within {patience}; the answer to its cancellation was lost, and it does not run any more");
    if cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some()) {
        if !cx.facts.install_forms.contains_key(&server.0) {
            return Break(cx.look(STEP, Look::InstallForm(server.clone())));
        }
        cx.status.in_flight = None;
        if !row.flags.operation_failed && shows_ours(cx, server) {
            cx.finish(STEP, State::Done, "");
            return Continue(());
        }
        let message = format!("{message}; nothing shows whether it ended by itself before that");
        return Break(reinstallation::unconfirmed(cx, CANCELLED, &message));
    }
    cx.status.in_flight = None;
    // As where it was answered: whatever has ended what ran, it had not ended in time.
    Break(cx.fail(STEP, TIMEOUT, &message))
}

/// Something that is not this step's runs on the server.
pub(super) fn other_operation(cx: &mut Cx<'_>, step: Step) -> Halt {
    operation_ends(cx, step, "another operation runs on the server", "another operation runs on the server and does not end")
}

/// Waits for what runs on the server, as long as an installation may take.
pub(super) fn operation_ends(cx: &mut Cx<'_>, step: Step, message: &str, too_long: &str) -> Halt {
    let (patience, pause) = (cx.handler.install, cx.handler.poll * 2);
    cx.wait_for_end(step, &Busy { name: OPERATION, message, patience, pause, code: "Busy", too_long })
}

/// The panel accepted it; its flag has not been seen yet.
fn asked(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Flow {
    if row.install.is_some() {
        return Break(at_work(cx, server, row));
    }
    let since = cx.step(STEP).started_at.map_or(cx.now, |t| t.0);
    let due = after(since, cx.handler.settle);
    if cx.now < due {
        return Break(follow(cx, "accepted"));
    }
    if cx.facts.inventory.as_ref().is_none_or(|list| list.began < due) {
        // Only a list that was asked for when the flag was due tells that it is not there.
        return Break(cx.wait_for_list(STEP));
    }
    if row.flags.operation_failed && !failure_stood(cx) {
        return super::recipes::installation_failed(cx, server);
    }
    if !cx.facts.install_forms.contains_key(&server.0) {
        return Break(cx.look(STEP, Look::InstallForm(server.clone())));
    }
    // Beside a failure that may be an older one the form does not tell how this installation ended.
    if !row.flags.operation_failed && shows_ours(cx, server) {
        cx.finish(STEP, State::Done, "");
        return Continue(());
    }
    let why = match (row.flags.operation_failed, tells_nothing(cx, server)) {
        (true, true | false) => "; its list shows a failure, as it did before",
        (false, true) => "; its form names the template, as it did before",
        (false, false) => "",
    };
    let message = format!("the panel accepted the installation, but shows no trace of it{why}");
    not_made(cx, server, VANISHED, &message)
}

/// Nothing shows that it was made. Before the hand-over nothing of a client's is lost by another one. After it the disks may hold the
/// client's data still, or hold them already: a person looks.
fn not_made(cx: &mut Cx<'_>, server: &ServerId, code: &str, message: &str) -> Flow {
    if cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some()) {
        return Break(reinstallation::unconfirmed(cx, code, message));
    }
    // A status from before the hand-over knows nothing of it.
    super::recovery::is_the_clients(cx, STEP, server)?;
    Break(cx.fail(STEP, code, message))
}

/// Whether an error says that nothing shows of an installation that the panel accepted.
pub(super) fn is_unconfirmed(code: &str) -> bool {
    [VANISHED, CANCELLED].contains(&code)
}

/// Whether the form of operations names this template as the one that is there; `None` where the panel does not show the form.
fn names(cx: &Cx<'_>, server: &ServerId, template: &str) -> Option<bool> {
    let form = cx.facts.install_forms.get(&server.0).and_then(Option::as_ref)?;
    Some(form.current.as_deref() == Some(template))
}

/// Whether that the form names a template tells nothing of the installation that was asked for last.
fn template_stood(cx: &Cx<'_>) -> bool {
    cx.status.server.as_ref().is_some_and(|s| s.template_stood)
}

/// Whether that the list shows a failed operation tells nothing of what was asked for last.
pub(super) fn failure_stood(cx: &Cx<'_>) -> bool {
    cx.status.server.as_ref().is_some_and(|s| s.failure_stood)
}

/// Whether the form shows that the template that was asked for was installed: it names it, and did not before.
pub(super) fn shows_ours(cx: &Cx<'_>, server: &ServerId) -> bool {
    !template_stood(cx) && names(cx, server, &asked_for(cx)) == Some(true)
}

/// Whether the form names the template that was asked for, as it did before, so that it tells nothing either way.
pub(super) fn tells_nothing(cx: &Cx<'_>, server: &ServerId) -> bool {
    template_stood(cx) && names(cx, server, &asked_for(cx)) == Some(true)
}

/// The template that was asked for last; the spec may have changed since.
pub(super) fn asked_for(cx: &Cx<'_>) -> String {
    cx.status.server.as_ref().and_then(|s| s.template.clone()).unwrap_or_else(|| cx.order.template.clone())
}

/// The flag was seen before.
fn seen(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Flow {
    if row.install.is_none() {
        return ended(cx, server, row);
    }
    // While it runs the panel may still show the failure of an attempt before; one that is new is not waited out.
    if row.flags.operation_failed && !failure_stood(cx) {
        return super::recipes::installation_failed(cx, server);
    }
    let since = cx.step(STEP).started_at.map_or(cx.now, |t| t.0);
    if cx.now < after(since, cx.handler.install) {
        return Break(at_work(cx, server, row));
    }
    let cancel = Call::CancelOperation { server: server.clone() };
    match cx.facts.refusal(|c| *c == cancel).map(|error| (error.class(), error.to_string())) {
        Some((ErrorClass::Refused | ErrorClass::Missing | ErrorClass::Exists, error)) => {
            let message = format!("the installation did not end in time, and cannot be cancelled: {error}");
            Break(cx.fail(STEP, HANGS, &message))
        }
        // Nothing was sent: the call itself says what is waited for, and its time is over afterwards, too.
        Some((ErrorClass::Down | ErrorClass::Credentials | ErrorClass::Expectation | ErrorClass::Dialect, _)) | None => {
            Break(cx.call(STEP, cancel, Shows::InTheList))
        }
    }
}

/// It does not run any more.
fn ended(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Flow {
    if row.flags.operation_failed { super::recipes::installation_failed(cx, server) } else { over(cx, server) }
}

/// The flag is gone. What a cancelled operation leaves is not known (ispsystem-api.md 2.6): a form that names another system, or none,
/// shows that this one was not installed. One that the panel does not show, or that cannot be compared, shows nothing.
fn over(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let Some(form) = cx.facts.install_forms.get(&server.0) else { return Break(cx.look(STEP, Look::InstallForm(server.clone()))) };
    let wanted = asked_for(cx);
    let other = form.as_ref().filter(|f| f.names_another(&wanted));
    let Some(there) = other.map(|f| f.current.clone().unwrap_or_else(|| "no system".to_owned())) else {
        cx.finish(STEP, State::Done, "");
        return Continue(());
    };
    // A panel may write the form a moment after it has taken the flag away.
    let since = cx.status.waiting_on.as_ref().filter(|w| w.name == FORM).map_or(cx.now, |w| w.since.0);
    let due = after(since, cx.handler.settle);
    if cx.now >= due {
        let message = format!(
            "the installation is over, and the panel's form names {there}, not {wanted}: somebody cancelled it there, or installed another one"
        );
        return not_made(cx, server, CANCELLED, &message);
    }
    let message = format!("the installation is over; waiting for the panel's form to name {wanted}");
    let until = Some(after(cx.now, cx.handler.poll).min(due));
    Break(cx.wait(STEP, Wait { kind: WaitKind::Panel, name: FORM, reason: Reason::Preparing, message, until, deadline: Some(due) }))
}

/// The flag is there: the panel's own words become the progress. Where a failure may turn out to be a recipe's alone the form is read at
/// first sight: one that names a system before it is there names what was chosen, and tells nothing of it in the end.
fn at_work(cx: &mut Cx<'_>, server: &ServerId, row: &ServerRow) -> Halt {
    let first = cx.state(STEP) != State::Waiting;
    if first && cx.status.server.as_ref().is_some_and(|s| !s.template_stood && !s.recipes.is_empty()) {
        if !cx.facts.install_forms.contains_key(&server.0) {
            return cx.look(STEP, Look::InstallForm(server.clone()));
        }
        let early = names(cx, server, &asked_for(cx)) == Some(true);
        if let Some(status) = cx.status.server.as_mut() {
            status.template_stood = early;
        }
    }
    let text = row.install.clone().unwrap_or_default();
    cx.enter(STEP, State::Waiting, "");
    follow(cx, &text)
}

fn follow(cx: &mut Cx<'_>, text: &str) -> Halt {
    let (from, to) = (STEP.percent(), STEP.percent_end());
    let percent = percent_in(text).map_or(from, |p| from + (to - from) * p / 100);
    cx.progress(STEP, percent, text);
    let since = cx.step(STEP).started_at.map_or(cx.now, |t| t.0);
    let deadline = after(since, cx.handler.install);
    let (until, message) = if cx.state(STEP) == State::Waiting {
        (deadline, if text.is_empty() { "installing".to_owned() } else { format!("installing: {text}") })
    } else {
        (after(since, cx.handler.settle), format!("installation {text}"))
    };
    let name = cx.handler.panel.clone();
    cx.wait(
        STEP,
        Wait { kind: WaitKind::Panel, name: &name, reason: Reason::Preparing, message, until: Some(until), deadline: Some(deadline) },
    )
}

/// The first percentage in a text of the panel. Its words are shown, never decided upon.
fn percent_in(text: &str) -> Option<i32> {
    let at = text.find('%')?;
    let digits: String = text[..at].chars().rev().take_while(char::is_ascii_digit).collect::<Vec<_>>().into_iter().rev().collect();
    digits.parse::<i32>().ok().filter(|p| (0..=100).contains(p))
}

#[cfg(test)]
mod tests {
    use super::percent_in;

    #[test]
    fn a_percentage_is_found_where_there_is_one() {
        for (text, percent) in
            [("42%", Some(42)), ("Installing: 7% done", Some(7)), ("", None), ("%", None), ("999%", None), ("формат 100%", Some(100))]
        {
            assert_eq!(percent_in(text), percent, "{text}");
        }
    }
}
