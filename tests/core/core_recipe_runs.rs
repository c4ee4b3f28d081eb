//! How the run of a single recipe is followed: what shows late or never, and what was lost.

use std::time::Duration;

use crate::core_recipes::{THREE, can, number_of_run, ran, world};
use crate::support::panel::{Operation, TEMPLATE};
use crate::support::world::{Fault, World};
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::task::{Resolution, TaskType};

fn told(world: &World) -> &str {
    condition::find(&world.status("web").conditions, ConditionType::Ready).map_or("", |c| c.message.as_str())
}

#[test]
fn a_recipe_that_shows_late_is_waited_for_and_the_next_one_runs_after_it() {
    for late in [Duration::from_secs(45), Duration::from_secs(119)] {
        let mut world = world(&can(), &THREE, |panel, _| panel.installs_show_after = late);
        world.until("it is accepted", Duration::from_hours(2), |w| told(w) == "recipe b.sh was accepted");
        world.until("it runs", Duration::from_mins(5), |w| told(w) == "recipe b.sh runs");
        world.until_phase("web", "Active");
        assert_eq!((ran(&world, "1"), world.tasks.len()), (THREE.map(String::from).to_vec(), 0), "{late:?}\n{}", world.describe());
        let calls = world.asked.iter().filter(|(_, call)| call.name() == "runRecipe").count();
        assert_eq!(calls, 2, "{late:?}\n{}", world.describe());
    }
}

#[test]
fn a_recipe_that_no_list_shows_for_a_while_is_told_as_accepted_until_one_does() {
    let mut world = world(&can(), &THREE, |panel, _| panel.installs_show_after = Duration::from_secs(140));
    world.handler.settle = Duration::from_secs(150);
    world.until("it is accepted", Duration::from_hours(2), |w| told(w) == "recipe b.sh was accepted");
    world.run_for(Duration::from_secs(110));
    assert_eq!(told(&world), "recipe b.sh was accepted");
    let wake = crate::support::later(world.now, Duration::from_secs(35));
    world.orders.get_mut("web").unwrap().wake = Some(wake);
    world.until("it runs", Duration::from_mins(5), |w| told(w) == "recipe b.sh runs");
    world.until_phase("web", "Active");
    assert_eq!((ran(&world, "1"), world.tasks.len()), (THREE.map(String::from).to_vec(), 0), "{}", world.describe());
}

/// How long a run takes is not known: what a list of after the settle time does not show any more has run.
#[test]
fn a_recipe_that_never_shows_counts_as_run_after_the_settle_time() {
    let mut world = world(&can(), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    world.faults.insert(world.asked.len(), Fault::Ignored);
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.until("it is accepted", Duration::from_mins(5), |w| told(w) == "recipe b.sh was accepted");
    let accepted = world.now;
    world.until_phase("web", "Active");
    let took = world.now.duration_since(accepted).unsigned_abs();
    assert!(took >= world.handler.settle.saturating_sub(Duration::from_secs(1)), "{took:?}\n{}", world.describe());
    assert!(took <= world.handler.settle + world.handler.poll * 2, "{took:?}\n{}", world.describe());
    assert!(world.tasks.is_empty() && world.ignored_recipes == ["b.sh"]);
}

#[test]
fn a_recipe_whose_answer_is_lost_is_followed_where_the_panel_shows_it_and_one_that_was_refused_is_tried_again() {
    for (fault, calls) in [(Fault::LostApplied, 1), (Fault::CrashAfter, 1), (Fault::Refused, 2)] {
        let mut world = world(&can(), &THREE[..1], |_, _| ());
        world.until_phase("web", "Active");
        world.faults.insert(world.asked.len(), fault);
        world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
        world.until("it ran", Duration::from_hours(3), |w| ran(w, "1").len() == 2 && w.phase("web") == "Active");
        assert!(world.tasks.is_empty(), "{fault:?}\n{}", world.describe());
        let made = world.asked.iter().filter(|(_, call)| call.name() == "runRecipe").count();
        assert_eq!(made, calls, "{fault:?}\n{}", world.describe());
    }
}

/// Where no department can be asked, and where the one that was asked gave it up.
#[test]
fn a_recipe_that_failed_or_was_given_up_stays_that_when_more_are_added() {
    for (given_up, code, message) in [
        (false, "RecipeFailed", "the panel reports that recipe b.sh failed"),
        (true, "AnswerLost", "recipe b.sh may have run; it is not run twice"),
    ] {
        let mut world = world(&can(), &THREE[..1], |_, _| ());
        world.until_phase("web", "Active");
        world.panel.runs_that_fail = 1;
        world.no_tasks = !given_up;
        world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
        if given_up {
            world.until("a task", Duration::from_hours(2), |w| !w.open_tasks().is_empty());
            world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        }
        world.run_for(Duration::from_hours(2));
        world.edit("web", |raw| raw.spec.recipes.push("c.sh".into()));
        world.run_for(Duration::from_hours(1));
        let error = world.status("web").last_error.as_ref().unwrap();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message), "{}", world.describe());
        assert_eq!(ran(&world, "1"), ["a.sh", "b.sh"]);
    }
}

#[test]
fn a_recipe_is_not_begun_while_something_else_runs_on_the_server() {
    let mut world = world(&can(), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    let now = world.now;
    let other = Operation { shows: now, shown: true, until: None, template: TEMPLATE.into(), fails: false, recipe_fails: false };
    world.panel.server("1").operation = Some(other);
    world.run_for(Duration::from_mins(2));
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.run_for(Duration::from_mins(10));
    assert!(number_of_run(&world, "b.sh").is_none(), "{}", world.describe());
    world.panel.server("1").operation = None;
    world.until_phase("web", "Active");
    assert_eq!(ran(&world, "1"), ["a.sh", "b.sh"]);
}
