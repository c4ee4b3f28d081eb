//! Recipes: which still have to run, what their failure means, and when they count as run. None is ever run twice unasked.
//!
//! On DCImanager 5 one recipe is part of the installation. Others are run one after the other by the dialect's `runRecipe`, where
//! the handler has it; how such a run shows is not known (ispsystem-api.md), so it is followed by the flags of an installation.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::order::{ReadyWhen, ServerStatus};
use crate::api::task::TaskType;
use crate::panel::model::{ServerId, ServerRow};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Next, Recheck, Wait, WaitKind, after};
use super::facts::Look;
use super::give_back::{self, Then};
use super::inflight::Shows;
use super::order::{Handler, Order};
use super::reason::Reason;
use super::step::{State, Step};

const STEP: Step = Step::RunRecipes;
/// Servers that are given back because of a failed recipe before a department is asked.
const OTHERS: usize = 1;
/// The error of an installation that the panel reports as failed.
const INSTALL_FAILED: &str = "InstallFailed";

/// Whether the handler can do what the order asks for.
pub(super) fn supported(cx: &mut Cx<'_>, step: Step) -> Flow {
    if cx.order.recipes.len() <= 1 || cx.handler.run_recipe {
        return Continue(());
    }
    let message = "spec.recipes names several recipes; this panel runs one as part of the installation, and the handler's spec.dialect has no runRecipe for the others";
    Break(cx.stall(step, Reason::SeveralRecipes, message, Recheck::Later))
}

/// The recipes that are recorded with an installation: those that it runs itself.
#[must_use]
pub fn with_installation(order: &Order, handler: &Handler) -> Vec<String> {
    order.recipes.iter().take(if handler.run_recipe { 1 } else { usize::MAX }).cloned().collect()
}

/// The first recipe that has not run yet, where recipes can be run by themselves. What has begun is followed to its end, whatever the
/// handler says by now.
#[must_use]
pub fn next(cx: &Cx<'_>) -> Option<String> {
    let server = cx.status.server.as_ref()?;
    let added = || cx.order.recipes.iter().filter(|_| cx.handler.run_recipe).find(|r| !server.recipes.contains(r)).cloned();
    server.running_recipe.clone().or_else(added)
}

/// A server that is off, or on its way there, runs nothing.
fn is_off(cx: &Cx<'_>) -> bool {
    cx.state(Step::HandOver).over() && (cx.order.suspended || !super::suspension::as_asked(cx))
}

/// Recipes that were added to the order are run at once.
pub(super) fn follow_spec(cx: &mut Cx<'_>) {
    if !is_off(cx) && cx.state(STEP).over() && cx.state(Step::InstallOS).over() && next(cx).is_some() {
        cx.step(STEP).finished_at = None;
        cx.enter(STEP, State::Pending, "spec.recipes changed");
    }
}

/// Whether what is installed differs from what the spec says, so that only a reinstall makes it so.
#[must_use]
pub fn wait_for_reinstall(order: &Order, handler: &Handler, ran: &[String]) -> bool {
    if handler.run_recipe { ran.iter().any(|r| !order.recipes.contains(r)) } else { ran != order.recipes }
}

/// The panel reports that an installation failed. Where its form names the system, which it did not before, it was the recipe that
/// failed: how that shows on DCImanager 5 is not known otherwise (ispsystem-api.md 0.2). Where the form named it before, nobody can
/// tell: an order that waits for recipes takes another server, as for a recipe, and any other one is not handed over on a guess, but
/// installed again. `Continue`: the recipe failed, and nobody waits for it.
pub(super) fn installation_failed(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::InstallOS;
    let asked = cx.status.server.as_ref().and_then(|s| s.recipes.first().cloned());
    let Some(recipe) = asked else { return Break(cx.fail(step, INSTALL_FAILED, "the panel reports that the installation failed")) };
    if !cx.facts.install_forms.contains_key(&server.0) {
        return Break(cx.look(step, Look::InstallForm(server.clone())));
    }
    let untold = super::installation::tells_nothing(cx, server);
    if !untold && !super::installation::shows_ours(cx, server) {
        return Break(cx.fail(step, INSTALL_FAILED, "the panel reports that the installation failed"));
    }
    let message = if untold {
        format!("the panel reports a failure; whether recipe {recipe} failed alone cannot be told, since the form named the system before")
    } else {
        format!("the system is installed, but the panel reports a failure: recipe {recipe} failed")
    };
    match (cx.order.ready_when, untold) {
        (ReadyWhen::OSInstalled, false) => {
            cx.finish(step, State::Done, "");
            note_failed(cx, &recipe);
            Continue(())
        }
        (ReadyWhen::OSInstalled, true) => Break(cx.fail(step, INSTALL_FAILED, &message)),
        (ReadyWhen::RecipesFinished, true | false) => Break(failed(cx, step, &message)),
    }
}

/// Whether a failure that the panel shows of an installation may be its recipe's, as far as anybody can tell.
pub(super) fn may_be_the_recipe(cx: &Cx<'_>) -> bool {
    cx.status.server.as_ref().is_some_and(|s| s.template_stood && !s.recipes.is_empty())
}

/// A failed recipe that the order waits for: another server, once; then a department.
fn failed(cx: &mut Cx<'_>, step: Step, message: &str) -> Halt {
    if !give_back::may_be_the_clients(cx) && give_back::times(&cx.status, Reason::RecipeFailed) < OTHERS {
        return give_back::give_back(cx, Then::TryAnother(Reason::RecipeFailed, message.to_owned()));
    }
    ask_a_person(cx, step, Reason::RecipeFailed.as_str(), message)
}

/// What failed here is not repeated blindly.
fn ask_a_person(cx: &mut Cx<'_>, step: Step, code: &str, message: &str) -> Halt {
    cx.fail_for_good(step, code, message, Time::seconds(cx.now))
}

/// The order is Ready without it; the failure stands in the status.
fn note_failed(cx: &mut Cx<'_>, recipe: &str) {
    if let Some(server) = cx.status.server.as_mut()
        && !server.failed_recipes.iter().any(|r| r == recipe)
    {
        server.failed_recipes.push(recipe.to_owned());
    }
}

/// All recipes have run, one after the other.
pub(super) fn run(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if cx.state(STEP).over() {
        return Continue(());
    }
    while let Some(recipe) = next(cx) {
        if is_off(cx) && running(cx).is_none() {
            cx.finish(STEP, State::Skipped, "the service is suspended");
            return Continue(());
        }
        run_one(cx, server, &recipe)?;
    }
    // The handler may have lost its way to run them meanwhile.
    let ran = |s: &ServerStatus| s.handed_over_at.is_some() || cx.order.recipes.iter().all(|r| s.recipes.contains(r));
    if !cx.status.server.as_ref().is_some_and(ran) {
        supported(cx, STEP)?;
    }
    let failed = cx.status.server.as_ref().is_some_and(|s| !s.failed_recipes.is_empty());
    let (state, message) = if cx.order.recipes.is_empty() {
        (State::Skipped, "none asked for")
    } else if failed {
        (State::Skipped, "a recipe failed; readyWhen: OSInstalled does not wait for it")
    } else if cx.handler.run_recipe {
        (State::Done, "")
    } else {
        (State::Done, "part of the installation on DCImanager 5")
    };
    cx.finish(STEP, state, message);
    Continue(())
}

/// One recipe; `Continue` when it has run, or failed without being waited for.
fn run_one(cx: &mut Cx<'_>, server: &ServerId, recipe: &str) -> Flow {
    let call = Call::RunRecipe { server: server.clone(), recipe: recipe.to_owned() };
    if cx.facts.applied.last() == Some(&call) {
        // The panel took it: recorded at once, so that a restart follows it instead of running it again.
        return Break(follow(cx, recipe));
    }
    if running(cx) == Some(recipe) && cx.state(STEP) == State::Failed {
        return unconfirmed(cx, server, recipe);
    }
    let row = cx.need_row(STEP, server)?;
    match cx.state(STEP) {
        State::Running if cx.status.in_flight.is_none() => asked(cx, recipe, &row),
        State::Waiting => seen(cx, server, recipe, &row),
        State::Running if row.install.is_some() => {
            // The answer was lost, but the panel is at work.
            cx.status.in_flight = None;
            cx.enter(STEP, State::Waiting, "");
            Break(follow(cx, recipe))
        }
        State::Running if !cx.intent(STEP).is_some_and(|f| cx.intent_is_own(f)) => {
            cx.settled_in_list(STEP)?;
            cx.status.in_flight = None;
            if !is_wanted(cx, recipe) {
                return unconfirmed(cx, server, recipe);
            }
            let message =
                format!("the answer to running recipe {recipe} was lost, and the panel shows no trace of it; it is not run twice");
            Break(cx.fail_after_losses(STEP, "AnswerLost", &message, 1))
        }
        State::Pending | State::Running | State::Failed | State::Done | State::Skipped => Break(begin(cx, call, recipe, &row)),
    }
}

/// The recipe that was asked for by itself, and whose end is not known, or was a failure.
fn running<'c>(cx: &'c Cx<'_>) -> Option<&'c str> {
    cx.status.server.as_ref().and_then(|s| s.running_recipe.as_deref())
}

/// Whether the spec names a recipe that has begun. One that it does not name any more is nobody's business.
fn is_wanted(cx: &Cx<'_>, recipe: &str) -> bool {
    cx.order.recipes.iter().any(|r| r == recipe)
}

/// A recipe that may have run is run again by a person's word only, whatever else of the spec changes, for as long as it is asked for.
fn unconfirmed(cx: &mut Cx<'_>, server: &ServerId, recipe: &str) -> Flow {
    if !is_wanted(cx, recipe) {
        if cx.need_row(STEP, server)?.install.is_some() {
            return Break(super::installation::other_operation(cx, STEP));
        }
        if let Some(server) = cx.status.server.as_mut() {
            server.running_recipe = None;
        }
        cx.supersede(TaskType::FailedOperation);
        cx.forget_attempts();
        cx.enter(STEP, State::Pending, "");
        return Continue(());
    }
    let codes = ["AnswerLost", "RecipeTimeout", Reason::RecipeFailed.as_str()];
    let error = cx.status.last_error.clone().filter(|e| e.step == STEP.as_str() && codes.contains(&e.code.as_str()));
    Break(match error {
        Some(error) => cx.fail_for_good(STEP, &error.code, &error.message, error.time),
        // What went wrong was told, and something else since: that the recipe may have run stays true.
        None => ask_a_person(cx, STEP, "AnswerLost", &format!("recipe {recipe} may have run; it is not run twice")),
    })
}

fn begin(cx: &mut Cx<'_>, call: Call, recipe: &str, row: &ServerRow) -> Halt {
    if row.install.is_some() || row.flags.diagnostics {
        return super::installation::other_operation(cx, STEP);
    }
    if cx.state(STEP) == State::Failed {
        cx.enter(STEP, State::Pending, "");
    }
    let refused = cx.facts.refusal(|c| *c == call).is_some();
    let halt = cx.call(STEP, call, Shows::InTheList);
    if let Some(server) = cx.status.server.as_mut() {
        if matches!(halt.next, Next::Call(_)) {
            // With the intent: a spec that changes must not change what is followed.
            server.running_recipe = Some(recipe.to_owned());
            server.failure_stood = row.flags.operation_failed;
        } else if refused {
            // What the panel refused has not run: the spec may name another one by now.
            server.running_recipe = None;
        }
    }
    halt
}

/// The panel accepted it; its flag has not been seen yet.
fn asked(cx: &mut Cx<'_>, recipe: &str, row: &ServerRow) -> Flow {
    if row.install.is_some() {
        cx.enter(STEP, State::Waiting, "");
        return Break(follow(cx, recipe));
    }
    let since = cx.step(STEP).started_at.map_or(cx.now, |t| t.0);
    let due = after(since, cx.handler.settle);
    if cx.now < due {
        return Break(follow(cx, recipe));
    }
    if cx.facts.inventory.as_ref().is_none_or(|list| list.began < due) {
        return Break(cx.wait_for_list(STEP));
    }
    ended(cx, recipe, row)
}

/// The flag was seen before.
fn seen(cx: &mut Cx<'_>, server: &ServerId, recipe: &str, row: &ServerRow) -> Flow {
    // While it runs the panel may still show the failure of what ran before.
    if row.install.is_none() || (row.flags.operation_failed && !super::installation::failure_stood(cx)) {
        return ended(cx, recipe, row);
    }
    let since = cx.step(STEP).started_at.map_or(cx.now, |t| t.0);
    if cx.now >= after(since, cx.handler.install) {
        if !is_wanted(cx, recipe) {
            return unconfirmed(cx, server, recipe);
        }
        // It is not cancelled: how far it came is not known.
        let message = format!("recipe {recipe} did not end within {}", crate::api::Duration(cx.handler.install));
        return Break(ask_a_person(cx, STEP, "RecipeTimeout", &message));
    }
    Break(follow(cx, recipe))
}

/// The panel is not at work any more.
fn ended(cx: &mut Cx<'_>, recipe: &str, row: &ServerRow) -> Flow {
    let failure = row.flags.operation_failed && is_wanted(cx, recipe);
    if failure && cx.order.ready_when == ReadyWhen::RecipesFinished {
        let message = format!("the panel reports that recipe {recipe} failed");
        return Break(failed(cx, STEP, &message));
    }
    if failure {
        note_failed(cx, recipe);
    }
    note_run(cx, recipe);
    cx.enter(STEP, State::Pending, "");
    Continue(())
}

fn note_run(cx: &mut Cx<'_>, recipe: &str) {
    if let Some(server) = cx.status.server.as_mut() {
        server.running_recipe = None;
        server.failure_stood = false;
        if !server.recipes.iter().any(|r| r == recipe) {
            server.recipes.push(recipe.to_owned());
        }
    }
}

/// A department said that the recipe at hand has run.
pub(super) fn believe_run(cx: &mut Cx<'_>) {
    if let Some(recipe) = next(cx) {
        note_run(cx, &recipe);
    }
}

fn follow(cx: &mut Cx<'_>, recipe: &str) -> Halt {
    let since = cx.step(STEP).started_at.map_or(cx.now, |t| t.0);
    let deadline = after(since, cx.handler.install);
    let seen = cx.state(STEP) == State::Waiting;
    let until = if seen { deadline } else { after(since, cx.handler.settle) };
    let message = format!("recipe {recipe} {}", if seen { "runs" } else { "was accepted" });
    cx.progress(STEP, STEP.percent(), &message);
    let name = cx.handler.panel.clone();
    cx.wait(
        STEP,
        Wait {
            kind: WaitKind::Panel,
            name: &name,
            reason: Reason::Preparing,
            message,
            until: Some(until.max(after(cx.now, cx.handler.poll))),
            deadline: Some(deadline),
        },
    )
}
