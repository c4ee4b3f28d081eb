//! Recipes that are run by themselves, where the dialect can: in order, one after the other, and never twice unasked.

use std::time::Duration;

use crate::support::panel::{Panel, TEMPLATE};
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use serde_json::{Value, json};

pub const THREE: [&str; 3] = ["a.sh", "b.sh", "c.sh"];

pub fn world(dialect: &Value, recipes: &[&str], change: impl FnOnce(&mut Panel, &mut Value)) -> World {
    let mut panel = Panel::new(2, 4);
    let mut spec = json!({"recipes": recipes});
    change(&mut panel, &mut spec);
    let mut world = World::new(panel, handler(|h| h["dialect"] = dialect.clone()));
    world.add(order("web", "u-web", |raw| {
        for (name, value) in spec.as_object().unwrap() {
            raw["spec"][name] = value.clone();
        }
    }));
    world
}

pub fn can() -> Value {
    json!({"runRecipe": {"func": "x"}})
}

pub fn ran(world: &World, id: &str) -> Vec<String> {
    world.panel.servers[id].ran.clone()
}

pub fn number_of_run(world: &World, recipe: &str) -> Option<usize> {
    world.asked.iter().position(|(_, call)| matches!(call, Call::RunRecipe { recipe: r, .. } if r == recipe))
}

fn stalled(world: &World) -> Option<String> {
    condition::find(&world.status("web").conditions, ConditionType::Stalled).map(|c| c.reason.clone())
}

#[test]
fn several_recipes_run_in_order_before_the_client_gets_the_server() {
    let mut world = world(&can(), &THREE, |_, _| ());
    world.until_phase("web", "Active");
    assert_eq!(ran(&world, "1"), THREE);
    let names: Vec<&str> = world.panel.journal.iter().map(Call::name).collect();
    assert_eq!(names[names.len() - 4..], ["install", "runRecipe", "runRecipe", "handOver"]);
    assert_eq!(world.status("web").server.as_ref().unwrap().recipes, THREE);
    world.assert_quiet();
}

#[test]
fn without_the_call_several_recipes_are_refused_and_one_is_not() {
    let mut refused = world(&json!({}), &THREE, |_, _| ());
    refused.until("stalled", Duration::from_hours(1), |w| stalled(w).as_deref() == Some("SeveralRecipes"));
    assert!(!refused.panel.journal.iter().any(|c| matches!(c, Call::Claim { .. })), "{}", refused.describe());
    refused.edit("web", |raw| raw.spec.recipes.truncate(1));
    refused.until_phase("web", "Active");
    assert_eq!(ran(&refused, "1"), ["a.sh"]);
}

#[test]
fn recipes_that_are_added_run_at_once_and_those_that_ran_never_again() {
    let mut world = world(&can(), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    world.edit("web", |raw| raw.spec.recipes = vec!["b.sh".into(), "a.sh".into(), "c.sh".into()]);
    world.until("they ran", Duration::from_hours(2), |w| ran(w, "1").len() == 3 && w.phase("web") == "Active");
    assert_eq!(ran(&world, "1"), ["a.sh", "b.sh", "c.sh"]);
    let installed = |w: &World| condition::find(&w.status("web").conditions, ConditionType::OSInstalled).unwrap().reason.clone();
    assert_eq!(installed(&world), "Done", "nothing waits for a reinstall");
    world.restart();
    world.edit("web", |raw| raw.spec.recipes.reverse());
    world.run_for(Duration::from_hours(2));
    assert_eq!((ran(&world, "1").len(), world.phase("web")), (3, "Active"));
    // One that is taken away cannot be undone: it waits for a reinstall.
    world.edit("web", |raw| raw.spec.recipes.truncate(1));
    world.run_for(Duration::from_mins(10));
    assert_eq!(condition::find(&world.status("web").conditions, ConditionType::OSInstalled).unwrap().reason, "ReinstallPending");
    assert_eq!(world.panel.journal.iter().filter(|c| matches!(c, Call::Install { .. })).count(), 1);
}

#[test]
fn without_the_call_an_added_recipe_waits_for_the_reinstall() {
    let mut world = world(&json!({}), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    world.edit("web", |raw| raw.spec.recipes = vec!["a.sh".into(), "b.sh".into()]);
    world.run_for(Duration::from_hours(1));
    assert_eq!((ran(&world, "1").as_slice(), world.phase("web")), (["a.sh".to_owned()].as_slice(), "Active"));
    assert_eq!(condition::find(&world.status("web").conditions, ConditionType::OSInstalled).unwrap().reason, "ReinstallPending");
}

#[test]
fn a_recipe_that_fails_by_itself_takes_another_server_once() {
    let mut world = world(&can(), &THREE, |panel, _| panel.runs_that_fail = 1);
    world.until_phase("web", "Active");
    assert_eq!((ran(&world, "1"), ran(&world, "2")), (vec!["a.sh".to_owned(), "b.sh".to_owned()], THREE.map(String::from).to_vec()));
    let tried = &world.status("web").tried_servers[0];
    assert!(tried.reason == "RecipeFailed" && tried.message.ends_with("left to the panel's own cleaning policy"), "{tried:?}");
}

#[test]
fn a_recipe_that_fails_on_two_servers_is_told_as_that() {
    let mut world = world(&can(), &THREE, |panel, _| panel.runs_that_fail = 2);
    world.until("a task", Duration::from_hours(8), |w| !w.open_tasks().is_empty());
    let (task, status) = (&world.tasks[0], world.status("web"));
    let (error, tried) = (status.last_error.as_ref().unwrap(), &status.tried_servers[0]);
    assert_eq!((status.attempts, task.summary.as_str()), (1, "RunRecipes of order shop/web failed"));
    for part in [
        "server 2 (".to_owned(),
        format!("Attempts: 1 (not repeated by itself), at {}.", error.time),
        "Last error: RecipeFailed: the panel reports that recipe b.sh failed".to_owned(),
        format!(
            "Before, on server 1 ({}), given back at {}: RecipeFailed: the panel reports that recipe b.sh failed",
            tried.name, tried.time
        ),
    ] {
        assert!(task.details.contains(&part), "{part} in\n{}", task.details);
    }
    assert!(tried.time < error.time);
}

/// Panels on whose form nothing shows what failed: it names the system all along.
const UNTOLD: [fn(&mut Panel); 2] =
    [|panel| panel.servers.values_mut().for_each(|s| s.template = Some(TEMPLATE.into())), |panel| panel.forms_name_what_was_chosen = true];

#[test]
fn a_failed_installation_is_no_failed_recipe_though_the_form_names_the_system() {
    for untold in UNTOLD {
        let mut world = world(&json!({}), &THREE[..1], |panel, spec| {
            untold(panel);
            panel.installs_that_fail = 1;
            spec["readyWhen"] = json!("OSInstalled");
        });
        world.until_phase("web", "Active");
        let server = world.status("web").server.as_ref().unwrap();
        assert!(server.failed_recipes.is_empty() && !server.template_stood, "{server:?}");
        let panel = &world.panel.servers["1"];
        assert_eq!((panel.installs, panel.template.as_deref(), world.tasks.len()), (2, Some(TEMPLATE), 0), "{}", world.describe());
    }
}

#[test]
fn where_nothing_shows_whether_system_or_recipe_failed_nothing_is_handed_over_on_a_guess() {
    for untold in UNTOLD {
        // Nobody waits for the recipe, and nobody can tell that it was the recipe.
        let mut world = world(&json!({}), &THREE[..1], |panel, spec| {
            untold(panel);
            panel.recipes_that_fail = 99;
            spec["readyWhen"] = json!("OSInstalled");
        });
        world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
        let details = &world.tasks[0].details;
        assert!(details.contains("InstallFailed") && details.contains("whether recipe a.sh failed alone cannot be told"), "{details}");
        assert_eq!(world.panel.servers["1"].installs, 3);
        // The failure goes on to show: only whoever looks at the server knows better.
        world.resolve(TaskType::FailedOperation, Resolution::Done);
        world.until_phase("web", "Active");
        assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (3, 1), "{}", world.describe());
        // An order that waits for its recipes takes another server, once, as where the recipe is known to have failed.
        let mut world = self::world(&json!({}), &THREE[..1], |panel, _| {
            untold(panel);
            panel.recipes_that_fail = 1;
        });
        world.until_phase("web", "Active");
        let (status, servers) = (world.status("web"), &world.panel.servers);
        assert!(status.tried_servers[0].message.contains("cannot be told"), "{:?}", status.tried_servers[0]);
        assert_eq!((servers["1"].installs, servers["2"].installs, world.tasks.len()), (1, 1, 0), "{}", world.describe());
    }
}

#[test]
fn on_a_clients_server_a_failed_recipe_is_a_task_and_nothing_goes_back() {
    let mut world = world(&can(), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    world.panel.runs_that_fail = 1;
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.until("a task", Duration::from_hours(2), |w| !w.open_tasks().is_empty());
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
    assert_eq!(world.status("web").server.as_ref().unwrap().id, "1");
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
    assert_eq!(ran(&world, "1"), ["a.sh", "b.sh", "b.sh"]);
}

#[test]
fn a_failure_that_nobody_waits_for_is_told_and_the_next_one_runs() {
    for failed in [&THREE[1..2], &THREE[1..]] {
        let mut world = world(&can(), &THREE, |panel, spec| {
            panel.runs_that_fail = failed.len();
            spec["readyWhen"] = json!("OSInstalled");
        });
        world.until_phase("web", "Active");
        let told = &world.status("web").server.as_ref().unwrap().failed_recipes;
        assert_eq!((ran(&world, "1").len(), told.as_slice()), (3, failed.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>().as_slice()));
        assert_eq!(condition::find(&world.status("web").conditions, ConditionType::RecipesApplied).unwrap().reason, "RecipeFailed");
        let step = world.status("web").steps.iter().find(|s| s.name == "RunRecipes").unwrap();
        assert!(step.state == "Skipped" && step.message.contains("a recipe failed"), "{step:?}");
        world.assert_quiet();
    }
}

#[test]
fn a_lost_answer_without_a_trace_is_a_departments_business() {
    for (fault, resolution, times) in
        [(Fault::LostNot, Resolution::Retry, 1), (Fault::CrashBefore, Resolution::Retry, 1), (Fault::LostNot, Resolution::Done, 0)]
    {
        let mut first = world(&can(), &THREE, |_, _| ());
        first.until_phase("web", "Active");
        let number = number_of_run(&first, "b.sh").expect("it ran");
        let mut world = world(&can(), &THREE, |_, _| ());
        world.faults.insert(number, fault);
        world.until("a task", Duration::from_hours(3), |w| !w.open_tasks().is_empty());
        assert!(world.status("web").last_error.as_ref().unwrap().message.contains("not run twice"), "{fault:?}");
        world.resolve(TaskType::FailedOperation, resolution);
        world.until_phase("web", "Active");
        assert_eq!(ran(&world, "1").iter().filter(|r| *r == "b.sh").count(), times, "{fault:?} {resolution:?}");
    }
}

#[test]
fn disks_are_flagged_before_the_release_where_the_panel_needs_it() {
    let dialect = json!({"flagForCleaning": {"func": "y"}});
    let mut world = world(&dialect, &THREE[..1], |panel, _| panel.recipes_that_fail = 1);
    world.until_phase("web", "Active");
    assert!(world.panel.servers["1"].flagged && !world.panel.servers["2"].flagged);
    assert!(world.status("web").tried_servers[0].message.ends_with("it was flagged for the panel's cleaning"));
    let names: Vec<&str> = world.panel.journal.iter().map(Call::name).collect();
    let at = names.iter().position(|n| *n == "flagForCleaning").expect("a flag");
    assert_eq!(names[at + 1], "release");
    world.delete("web");
    world.until_phase("web", "gone");
    assert!(world.panel.servers["2"].flagged, "a client's data, too");
    world.assert_clean();
}

#[test]
fn recipe_and_template_have_to_share_a_tag_where_the_panel_shows_them() {
    let tags = |text: &str| text.split(' ').filter(|t| !t.is_empty()).map(str::to_owned).collect();
    for (of_template, of_recipe, fits) in
        [("linux debian", "debian", true), ("linux", "windows", false), ("", "windows", true), ("linux", "", true)]
    {
        let mut world = world(&json!({}), &THREE[..1], |panel, _| {
            panel.tags = [(crate::support::panel::TEMPLATE.to_owned(), tags(of_template)), ("a.sh".to_owned(), tags(of_recipe))].into();
        });
        world.run_for(Duration::from_hours(1));
        let expected = if fits { (None, "Active") } else { (Some("RecipeIncompatible".to_owned()), "Failed") };
        assert_eq!((stalled(&world), world.phase("web")), expected, "{of_template} / {of_recipe}");
    }
}

#[test]
fn a_recipe_whose_answer_is_lost_is_not_called_run_since_something_else_was_changed() {
    let mut world = world(&can(), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    world.faults.insert(world.asked.len(), Fault::LostNot);
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.until("it is asked for", Duration::from_hours(1), |w| number_of_run(w, "b.sh").is_some());
    world.edit("web", |raw| raw.spec.domain = "other.example.net".into());
    world.run_for(Duration::from_hours(3));
    let told = condition::find(&world.status("web").conditions, ConditionType::RecipesApplied).unwrap();
    let really = ran(&world, "1").contains(&"b.sh".to_owned());
    assert!(told.status != "True" || really, "called run, and it is not\n{}", world.describe());
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "it is not run twice\n{}", world.describe());
}

#[test]
fn a_reinstall_that_is_refused_and_withdrawn_leaves_what_is_installed_and_runs_nothing_again() {
    for withdrawn in [true, false] {
        let mut world = world(&can(), &THREE[..2], |_, _| ());
        world.until_phase("web", "Active");
        let (before, journal) = (world.status("web").server.clone(), world.panel.journal.len());
        world.always = Some(("install", Fault::Refused));
        world.edit("web", |raw| {
            (raw.spec.reinstall, raw.spec.operating_system.template) = ("again".into(), "ISPsystem__Ubuntu-24.04-x86_64".into());
        });
        let tries = |w: &World| w.asked.iter().filter(|(_, call)| call.name() == "install").count();
        let first = tries(&world);
        world.until("it is asked for twice", Duration::from_hours(2), |w| tries(w) > first + 1);
        world.edit("web", |raw| {
            if withdrawn {
                raw.spec.reinstall = String::new();
            } else {
                raw.spec.deletion_protection = true;
            }
        });
        world.run_for(Duration::from_hours(3));
        assert_eq!(world.panel.journal.len(), journal, "nothing was done\n{}", world.describe());
        let after = world.status("web").server.clone();
        assert_eq!(after, before, "{withdrawn}");
    }
}

/// What a department gave up is not begun again by a change of the spec, whatever it is about.
#[test]
fn a_recipe_that_may_have_run_is_not_run_again_when_its_task_was_cancelled_and_the_spec_changes() {
    for taken_out in [true, false] {
        let mut world = world(&can(), &THREE[..1], |_, _| ());
        world.until_phase("web", "Active");
        world.faults.insert(world.asked.len(), Fault::LostNot);
        world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
        world.until("a task", Duration::from_hours(3), |w| !w.open_tasks().is_empty());
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        world.until("given up", Duration::from_hours(1), |w| stalled(w).as_deref() == Some("TaskCancelled"));
        world.edit("web", |raw| if taken_out { raw.spec.recipes.truncate(1) } else { raw.spec.recipes.push("c.sh".into()) });
        world.run_for(Duration::from_hours(3));
        let asked = world.asked.iter().filter(|(_, call)| call.name() == "runRecipe").count();
        assert_eq!(asked, 1, "taken out: {taken_out}\n{}", world.describe());
        if taken_out {
            assert_eq!((world.phase("web"), world.open_tasks().len()), ("Active", 0), "{}", world.describe());
        } else {
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
        }
    }
}

#[test]
fn a_failed_recipe_that_is_taken_out_of_the_spec_is_nobodys_business() {
    let mut world = world(&can(), &THREE[..1], |_, _| ());
    world.until_phase("web", "Active");
    world.panel.runs_that_fail = 1;
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.until("a task", Duration::from_hours(2), |w| !w.open_tasks().is_empty());
    world.edit("web", |raw| raw.spec.recipes.truncate(1));
    world.until_phase("web", "Active");
    assert!(world.open_tasks().is_empty(), "{}", world.describe());
    assert_eq!(ran(&world, "1"), ["a.sh", "b.sh"]);
    world.run_for(Duration::from_hours(2));
    assert_eq!((ran(&world, "1").len(), world.phase("web")), (2, "Active"));
}

/// A slip in the handler's dialect while a recipe runs: it is followed to its end, and the order is not Ready without the others.
#[test]
fn recipes_under_way_are_followed_although_the_handler_cannot_run_any_more() {
    let mut world = world(&can(), &THREE, |_, _| ());
    world.until("it runs", Duration::from_hours(2), |w| number_of_run(w, "b.sh").is_some());
    world.handler = handler(|_| ());
    world.force("web");
    world.run_for(Duration::from_hours(2));
    assert_ne!(world.phase("web"), "Active", "{}", world.describe());
    assert_eq!(stalled(&world).as_deref(), Some("SeveralRecipes"), "{}", world.describe());
    world.handler = handler(|h| h["dialect"] = can());
    world.force("web");
    world.until_phase("web", "Active");
    assert_eq!(ran(&world, "1"), THREE, "each once");
    // With the last one nothing is left that the handler would have to run.
    let mut world = self::world(&can(), &THREE, |_, _| ());
    world.until("it runs", Duration::from_hours(2), |w| number_of_run(w, "c.sh").is_some());
    world.handler = handler(|_| ());
    world.until_phase("web", "Active");
    assert_eq!(ran(&world, "1"), THREE, "each once");
}

#[test]
fn a_recipe_that_still_runs_is_waited_for_although_it_is_taken_out_of_the_spec() {
    let mut world = world(&can(), &THREE[..2], |_, _| ());
    world.until("it runs", Duration::from_hours(2), |w| w.panel.servers["1"].operation.is_some() && number_of_run(w, "b.sh").is_some());
    if let Some(operation) = &mut world.panel.server("1").operation {
        operation.until = None;
    }
    world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
    world.edit("web", |raw| raw.spec.recipes.truncate(1));
    world.run_for(Duration::from_hours(1));
    assert_ne!(world.phase("web"), "Active", "the operation runs\n{}", world.describe());
    world.panel.server("1").operation = None;
    world.until_phase("web", "Active");
}

/// Neither a department nor another server is wanted for what nobody asks for any more.
#[test]
fn a_recipe_that_is_taken_out_while_it_runs_or_its_answer_is_missing_is_nobodys_business() {
    let mut lost = world(&can(), &THREE[..1], |_, _| ());
    lost.until_phase("web", "Active");
    lost.faults.insert(lost.asked.len(), Fault::LostNot);
    lost.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    lost.until("it is asked for", Duration::from_hours(1), |w| number_of_run(w, "b.sh").is_some());
    lost.edit("web", |raw| raw.spec.recipes.truncate(1));
    lost.until("settled", Duration::from_hours(2), |w| {
        w.phase("web") == "Active" && w.status("web").observed_generation == w.orders["web"].raw.metadata.generation
    });
    assert!(lost.tasks.is_empty() && ran(&lost, "1") == ["a.sh"], "{}", lost.describe());

    let mut fails = world(&can(), &THREE, |panel, _| panel.runs_that_fail = 1);
    fails.until("it runs", Duration::from_hours(2), |w| w.panel.servers["1"].operation.is_some() && number_of_run(w, "b.sh").is_some());
    fails.edit("web", |raw| raw.spec.recipes.retain(|r| r != "b.sh"));
    fails.until_phase("web", "Active");
    let status = fails.status("web");
    let server = status.server.as_ref().unwrap();
    assert!(server.id == "1" && server.failed_recipes.is_empty() && status.tried_servers.is_empty(), "{}", fails.describe());
    assert_eq!((ran(&fails, "1"), fails.tasks.len()), (THREE.map(String::from).to_vec(), 0));

    let mut hangs = world(&can(), &THREE[..2], |_, _| ());
    hangs.until("it runs", Duration::from_hours(2), |w| w.panel.servers["1"].operation.is_some() && number_of_run(w, "b.sh").is_some());
    if let Some(operation) = &mut hangs.panel.server("1").operation {
        operation.until = None;
    }
    hangs.edit("web", |raw| raw.spec.recipes.truncate(1));
    hangs.run_for(Duration::from_hours(3));
    assert!(hangs.tasks.is_empty() && hangs.phase("web") != "Active", "the operation runs\n{}", hangs.describe());
    hangs.panel.server("1").operation = None;
    hangs.until_phase("web", "Active");
    assert!(hangs.tasks.is_empty(), "{}", hangs.describe());
}

/// The failure of before goes on to show while a person runs the recipe once more.
#[test]
fn a_recipe_that_a_person_runs_again_has_not_failed_by_what_showed_before() {
    let mut world = world(&can(), &THREE[..1], |panel, _| panel.failures_stay = true);
    world.until_phase("web", "Active");
    world.panel.runs_that_fail = 1;
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.until("a task", Duration::from_hours(2), |w| !w.open_tasks().is_empty());
    let now = world.now;
    world.panel.apply(&Call::RunRecipe { server: "1".into(), recipe: "b.sh".into() }, now, true).unwrap();
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    assert_eq!((ran(&world, "1").len(), world.tasks.len()), (3, 1), "{}", world.describe());
}
