//! Recipes: what their failure means, and when they count as run.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::ReadyWhen;
use crate::panel::model::ServerId;

use super::context::{Cx, Flow, Halt};
use super::facts::Look;
use super::give_back::{self, Then};
use super::reason::Reason;
use super::step::{State, Step};

/// Servers that are given back because of a failed recipe before a department is asked.
const OTHERS: usize = 1;

/// The panel reports that an installation failed. Where the system is there all the same, it was the recipe that failed: how
/// that shows on DCImanager 5 is not known otherwise (ispsystem-api.md 0.2), and a server whose client before had the same system
/// looks the same. `Continue`: the recipe failed, and nobody waits for it.
pub(super) fn installation_failed(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::InstallOS;
    let asked = cx.status.server.as_ref().and_then(|s| s.recipes.first().cloned());
    let Some(recipe) = asked else { return Break(cx.fail(step, "InstallFailed", "the panel reports that the installation failed")) };
    if !cx.facts.install_forms.contains_key(&server.0) {
        return Break(cx.look(step, Look::InstallForm(server.clone())));
    }
    if !super::installation::shows_ours(cx, server) {
        return Break(cx.fail(step, "InstallFailed", "the panel reports that the installation failed"));
    }
    let message = format!("the system is installed, but the panel reports a failure: recipe {recipe} failed");
    match cx.order.ready_when {
        ReadyWhen::OSInstalled => {
            cx.finish(step, State::Done, "");
            not_waited_for(cx, &recipe);
            Continue(())
        }
        ReadyWhen::RecipesFinished => Break(failed(cx, step, &message)),
    }
}

/// A failed recipe that the order waits for: another server, once; then a department.
pub(super) fn failed(cx: &mut Cx<'_>, step: Step, message: &str) -> Halt {
    if give_back::times(&cx.status, Reason::RecipeFailed) < OTHERS {
        return give_back::give_back(cx, Then::TryAnother(Reason::RecipeFailed, message.to_owned()));
    }
    // What failed on two servers is not repeated blindly.
    cx.count_for(step);
    cx.status.attempts = cx.handler.max_attempts;
    cx.fail(step, Reason::RecipeFailed.as_str(), message)
}

/// The order is Ready without it; the failure stands in the status.
fn not_waited_for(cx: &mut Cx<'_>, recipe: &str) {
    if let Some(server) = cx.status.server.as_mut()
        && !server.failed_recipes.iter().any(|r| r == recipe)
    {
        server.failed_recipes.push(recipe.to_owned());
    }
}

/// Recipes that are part of the installation have run with it.
pub(super) fn run(cx: &mut Cx<'_>) {
    let failed = cx.status.server.as_ref().is_some_and(|s| !s.failed_recipes.is_empty());
    let (state, message) = if cx.order.recipes.is_empty() {
        (State::Skipped, "none asked for")
    } else if failed {
        (State::Skipped, "a recipe failed; readyWhen: OSInstalled does not wait for it")
    } else {
        (State::Done, "part of the installation on DCImanager 5")
    };
    cx.finish(Step::RunRecipes, state, message);
}
