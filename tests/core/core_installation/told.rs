//! What an order says and waits for while its system is installed, and whose word counts when an installation is in doubt.

use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::task::{Resolution, TaskType};
use serde_json::json;

use super::{
    TEMPLATE, UBUNTU, assert_installed, cancels, installs, second_is_lost, until_asked, until_error, until_state, until_task, world,
};
use crate::support::changes::reinstall;
use crate::support::look::{reason, until_reason};
use crate::support::panel::{Operation, Panel};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};

/// The state of a step of the order.
fn state<'w>(world: &'w World, step: &str) -> &'w str {
    world.status("web").steps.iter().find(|s| s.name == step).map_or("", |s| s.state.as_str())
}

/// An order with these recipes.
fn with_recipes(recipes: &[&str], dialect: bool) -> World {
    let change = |h: &mut serde_json::Value| {
        if dialect {
            h["dialect"] = json!({"runRecipe": {"func": "x"}});
        }
    };
    let mut world = World::new(Panel::new(1, 4), handler(change));
    world.add(order("web", "u-web", |raw| raw["spec"]["recipes"] = json!(recipes)));
    world
}

/// Its progress is the panel's own, between where the step begins (30 %) and where it ends (90 %) for the order.
#[test]
fn the_panels_percentage_of_an_installation_becomes_the_orders_progress() {
    let mut world = world(None);
    until_state(&mut world, "Waiting");
    let progress = world.status("web").progress.clone().unwrap();
    assert_eq!((progress.percent, progress.step.as_str(), progress.message.as_str()), (55, "InstallOS", "Installing: 42%"));
    let waiting = world.status("web").waiting_on.clone().unwrap();
    assert_eq!((waiting.kind.as_str(), waiting.message.as_str()), ("Panel", "installing: Installing: 42%"));
}

/// It has its time to show, and a list that was asked for right at the end of that tells that it does not.
#[test]
fn an_accepted_installation_is_said_to_be_until_the_list_of_its_last_moment() {
    let mut world = world(None);
    world.always = Some(("install", Fault::Ignored));
    until_state(&mut world, "Running");
    world.run_for(seconds(2));
    let told = world.status("web").waiting_on.as_ref().map(|w| w.message.clone());
    assert_eq!((told.as_deref(), reason(world.status("web"))), (Some("installation accepted"), "Preparing"));
    let begun = world.status("web").steps.iter().find(|s| s.name == "InstallOS").and_then(|s| s.started_at).unwrap();
    let due = later(begun.0, world.handler.settle);
    world.until("nearly due", Duration::from_hours(1), |w| later(w.now, w.handler.poll) >= due);
    assert!(world.now < due && world.status("web").last_error.is_none(), "{}", world.describe());
    world.next_list = due;
    world.until("due", Duration::from_hours(1), |w| w.now >= due);
    let error = world.status("web").last_error.as_ref().map(|e| e.code.as_str());
    assert_eq!(error, Some("InstallVanished"), "{}", world.describe());
}

/// The form is read where a failure may turn out to be a recipe's alone, and it has not named the system before.
#[test]
fn the_form_is_read_once_at_the_first_sight_of_an_installation_with_a_recipe_and_of_no_other() {
    for (recipes, before, read) in
        [(&[][..], None, 0), (&["a.sh"][..], None, 1), (&["a.sh"][..], Some(TEMPLATE), 0), (&[][..], Some(TEMPLATE), 0)]
    {
        let mut world = with_recipes(recipes, false);
        world.panel.server("1").template = before.map(Into::into);
        until_state(&mut world, "Running");
        let reads = world.reads;
        until_state(&mut world, "Waiting");
        assert_eq!(world.reads - reads, read, "{recipes:?} {before:?}");
        world.run_for(seconds(300));
        assert_eq!((state(&world, "InstallOS"), world.reads - reads), ("Waiting", read), "{recipes:?} {before:?}");
    }
}

#[test]
fn an_installation_that_fails_before_anybody_sees_it_is_one_that_failed() {
    let mut world = world(None);
    (world.panel.install_takes, world.panel.installs_that_fail) = (Duration::ZERO, 1);
    until_error(&mut world, "InstallFailed");
    world.until_phase("web", "Active");
    assert_eq!((installs(&world), world.tasks.len()), ((2, 2), 0), "{}", world.describe());
    assert_installed(&world, TEMPLATE);
}

#[test]
fn an_installation_without_an_answer_counts_as_begun_while_it_is_looked_for() {
    let mut world = world(None);
    world.always = Some(("install", Fault::LostNot));
    until_asked(&mut world, 1);
    world.always = None;
    until_reason(&mut world, "AnswerLost");
    world.run_for(world.handler.settle / 2);
    assert_eq!((reason(world.status("web")), state(&world, "InstallOS")), ("AnswerLost", "Running"), "{}", world.describe());
    world.until_phase("web", "Active");
    assert_eq!(installs(&world), (2, 1));
}

/// It is waited for at the pace of the panel's lists, since it shows in them alone.
#[test]
fn what_somebody_else_runs_on_the_server_is_waited_for_and_never_cancelled() {
    let mut world = world(None);
    world.always = Some(("install", Fault::Refused));
    until_asked(&mut world, 1);
    world.always = None;
    let (now, until) = (world.now, later(world.now, Duration::from_mins(50)));
    let operation = Operation { shows: now, shown: true, until: Some(until), template: UBUNTU.into(), fails: false, recipe_fails: false };
    world.panel.server("1").operation = Some(operation);
    world.until("it waits", Duration::from_mins(20), |w| w.status("web").waiting_on.as_ref().is_some_and(|o| o.name == "operation"));
    let (passes, lists) = (world.passes, Duration::from_mins(20).as_secs() / world.handler.poll.as_secs());
    world.run_for(Duration::from_mins(20));
    let passes = world.passes - passes;
    assert!(passes <= usize::try_from(lists).unwrap() + 3, "{passes} looks in the time of {lists} lists");
    assert_eq!((installs(&world).0, cancels(&world)), (1, 0), "{}", world.describe());
    world.until_phase("web", "Active");
    assert_eq!((installs(&world), cancels(&world), world.tasks.len()), ((2, 1), 0, 0), "{}", world.describe());
    assert_installed(&world, TEMPLATE);
}

#[test]
fn what_a_department_has_tried_again_is_not_said_to_have_failed() {
    let mut world = world(None);
    world.always = Some(("install", Fault::Refused));
    until_task(&mut world);
    let (asked, _) = installs(&world);
    world.always = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    until_asked(&mut world, asked + 1);
    assert_eq!(world.status("web").last_error, None, "{}", world.describe());
    world.until_phase("web", "Active");
}

/// A new token is no wish for another installation while the first one is not the client's yet.
#[test]
fn before_the_hand_over_a_protected_token_says_nothing_of_the_installed_system() {
    let mut world = with_recipes(&["a.sh", "b.sh"], true);
    world.until("a recipe runs", Duration::from_hours(2), |w| state(w, "RunRecipes") == "Waiting");
    world.edit("web", |raw| (raw.spec.deletion_protection, raw.spec.reinstall) = (true, "again".into()));
    world.run_for(seconds(120));
    assert!(world.status("web").server.as_ref().unwrap().handed_over_at.is_none(), "{}", world.describe());
    let told = find(&world.status("web").conditions, ConditionType::OSInstalled).unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("True", "Done"), "{}", world.describe());
}

/// The panel was seen to install, so that the client's data are gone, whatever was not known of the attempt before.
#[test]
fn a_repeated_installation_that_began_is_carried_through_though_its_value_is_put_back() {
    let mut world = second_is_lost(TEMPLATE);
    let (before, tasks) = (installs(&world).1, world.tasks.len());
    world.panel.installs_that_fail = 1;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    until_state(&mut world, "Waiting");
    reinstall(&mut world, "first");
    world.until("it failed", Duration::from_hours(1), |w| w.panel.servers["1"].failed);
    world.until_phase("web", "Active");
    assert_eq!((installs(&world).1, world.tasks.len()), (before + 2, tasks), "{}", world.describe());
    assert_installed(&world, TEMPLATE);
}

/// It was said of a value that nobody wanted then.
#[test]
fn a_departments_word_on_an_installation_that_was_taken_back_is_none_on_the_same_value_named_again() {
    let mut world = second_is_lost(TEMPLATE);
    let before = installs(&world);
    reinstall(&mut world, "first");
    world.run_for(Duration::from_hours(1));
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(Duration::from_hours(1));
    reinstall(&mut world, "second");
    world.run_for(Duration::from_hours(3));
    assert_eq!((installs(&world), world.open_tasks()), (before, vec![TaskType::FailedOperation]), "{}", world.describe());
}

/// The client still asks for the other system.
#[test]
fn a_reinstallation_that_is_wanted_is_not_done_where_the_form_names_what_was_there() {
    let mut world = second_is_lost(UBUNTU);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.run_for(Duration::from_hours(1));
    let details = &world.tasks.last().unwrap().details;
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
    assert!(details.contains(&format!("names {TEMPLATE} as the system of server 1, not {UBUNTU}")), "{details}");
    assert_eq!(world.status("web").server.as_ref().unwrap().template.as_deref(), Some(UBUNTU), "what was asked for");
}
