//! The client's user at the panel: an ordinary one, of this namespace, made where there is none.

use std::ops::ControlFlow::{Break, Continue};

use super::allocation::{index_complete, prepared};
use super::call::Call;
use super::context::{Cx, Flow, Halt, Next, Recheck};
use super::facts::{HandlerState, Prepare};
use super::inflight::NO_EFFECT;
use super::people::people;
use super::reason::Reason;
use super::step::{State, Step};

/// The client's user exists, is an ordinary one, and its name belongs to this namespace.
pub(super) fn create_client(cx: &mut Cx<'_>) -> Flow {
    let step = Step::CreateClient;
    // Until something is asked for, another client may be named at any time.
    let fixed = cx.status.server.is_some() || cx.status.in_flight.is_some();
    if fixed && cx.state(step).over() {
        return Continue(());
    }
    let people = people(cx, step)?;
    let username = cx.order.username.clone();
    ordinary_client(cx, step)?;
    if let Some(inventory) = cx.facts.inventory.clone().filter(|_| people.client.is_some()) {
        // A server of this client that was not looked at may carry the marker of another namespace's order.
        index_complete(cx, step, &inventory, &people)?;
    }
    prepared(cx, step, Prepare::ClientName, Reason::ClientNameTaken)?;
    if people.client.is_none() {
        prepared(cx, step, Prepare::PanelPassword, Reason::SecretConflict)?;
        return Break(create_user(cx, username));
    }
    cx.finish(step, State::Done, "");
    Continue(())
}

/// The client's name is not an administrator's.
pub(super) fn ordinary_client(cx: &mut Cx<'_>, step: Step) -> Flow {
    let people = people(cx, step)?;
    let username = &cx.order.username;
    if people.client_is_administrator || username.eq_ignore_ascii_case(&cx.facts.login) {
        let message = format!("spec.client.username {username} is a panel administrator; choose another name");
        return Break(cx.stall(step, Reason::ClientIsAdministrator, &message, Recheck::Later));
    }
    Continue(())
}

/// Creating a user needs no intent: the name makes it happen once, and its password is stored right before, by the order that makes it.
/// Where another order was faster the panel's next list of users shows that, and this is not asked for again.
fn create_user(cx: &mut Cx<'_>, username: String) -> Halt {
    let step = Step::CreateClient;
    if cx.facts.handler == HandlerState::Suspended {
        return cx.wait_for_handler(step, Reason::HandlerSuspended, "the handler is suspended: nothing is changed at the panel".into());
    }
    let call = Call::CreateUser { username };
    if let Some(halt) = cx.contradicts_done(step, &call) {
        return halt;
    }
    if let Some((_, error)) = cx.facts.ambiguous.as_ref().filter(|(lost, _)| *lost == call) {
        let (code, message) = (error.code(), error.to_string());
        return cx.fail(step, &code, &message);
    }
    if cx.facts.applied.contains(&call) {
        return cx.fail(step, NO_EFFECT, "the panel said that the user was created, but its list does not show it");
    }
    if let Some(error) = cx.facts.refusal(|c| *c == call).cloned() {
        return cx.fail_with(step, &error);
    }
    cx.enter(step, State::Running, "");
    cx.progress(step, step.percent(), call.name());
    let verdict = cx.progressing(step, call.name());
    Halt { next: Next::Call(call), verdict }
}
