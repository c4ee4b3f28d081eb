//! Rules that meet: suspension, licences, recipes, give-back, adoption and reinstallation on one order.

use std::time::Duration;

use crate::support::panel::Panel;
use crate::support::seconds;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::task::TaskType;
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::json;

fn licensed() -> World {
    let mut world = Kind::Licensed.world();
    reach(&mut world, "Active", Kind::Licensed);
    world.run_for(seconds(60));
    world
}

/// An Active order on a panel that can run recipes, which has run `a.sh`.
fn with_recipes() -> World {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["dialect"] = json!({"runRecipe": {"func": "x"}})));
    world.add(order("web", "u-web", |raw| raw["spec"]["recipes"] = json!(["a.sh"])));
    world.until_phase("web", "Active");
    world
}

fn names_since(world: &World, at: usize) -> Vec<&str> {
    world.panel.journal[at..].iter().map(Call::name).collect()
}

#[test]
fn a_licence_server_that_is_down_keeps_no_service_running_and_none_off() {
    let mut world = licensed();
    world.panel.licenses.state = HandlerState::NotReady("down".into());
    world.edit("web", |raw| raw.spec.suspended = true);
    world.until("it is off", Duration::from_hours(1), |w| !w.panel.servers["1"].on && w.panel.servers["1"].disabled);
    world.edit("web", |raw| raw.spec.suspended = false);
    world.until("it is on", Duration::from_hours(1), |w| w.panel.servers["1"].on && !w.panel.servers["1"].disabled);
}

/// It goes down before it shows that a licence stopped, and the service shall run again.
#[test]
fn a_licence_server_that_goes_down_while_a_licence_stops_keeps_no_service_off() {
    for fault in [None, Some(("suspendLicense", Fault::LostApplied))] {
        let mut world = licensed();
        world.panel.licenses.shows_after = seconds(30);
        world.always = fault;
        world.edit("web", |raw| raw.spec.suspended = true);
        world.until("asked", Duration::from_hours(1), |w| w.asked.iter().any(|(_, call)| call.name() == "suspendLicense"));
        world.panel.licenses.state = HandlerState::NotReady("down".into());
        world.edit("web", |raw| raw.spec.suspended = false);
        world.until("it is on", Duration::from_hours(1), |w| w.panel.servers["1"].on && !w.panel.servers["1"].disabled);
        assert!(world.panel.licenses.rows.values().any(|b| b.suspended), "{}", world.describe());
        world.panel.licenses.state = HandlerState::Ready;
        world.run_for(Duration::from_hours(2));
        assert!(world.panel.licenses.rows.values().all(|b| !b.suspended), "{fault:?}\n{}", world.describe());
        assert_eq!((world.phase("web"), world.tasks.len()), ("Active", 0), "{fault:?}\n{}", world.describe());
    }
}

#[test]
fn a_recipe_waits_for_the_end_of_a_suspension() {
    let mut world = with_recipes();
    world.edit("web", |raw| raw.spec.suspended = true);
    world.until_phase("web", "Suspended");
    let at = world.panel.journal.len();
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.phase("web"), names_since(&world, at).len()), ("Suspended", 0), "{}", world.describe());
    world.edit("web", |raw| raw.spec.suspended = false);
    world.until("it ran", Duration::from_hours(2), |w| w.panel.servers["1"].ran.len() == 2 && w.phase("web") == "Active");
    let names = names_since(&world, at);
    let place = |name: &str| names.iter().position(|n| *n == name).unwrap();
    assert!(place("powerOn") < place("runRecipe"), "{names:?}");
}

#[test]
fn a_recipe_whose_run_was_lost_is_not_run_by_another_change_of_the_spec() {
    let mut world = with_recipes();
    world.faults.insert(world.asked.len(), Fault::LostNot);
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.edit("web", |raw| raw.spec.recipes.truncate(1));
    world.run_for(Duration::from_hours(3));
    assert_eq!(world.panel.servers["1"].ran, ["a.sh"], "{}", world.describe());
}

#[test]
fn licences_go_with_an_order_that_is_deleted_while_it_gives_its_server_back() {
    let mut world = Kind::Licensed.world();
    world.panel.recipes_that_fail = 1;
    world.edit("web", |raw| raw.spec.recipes = vec!["ISPsystem__nginx.sh".into()]);
    world.until("given back", Duration::from_hours(3), |w| w.status("web").server.as_ref().is_some_and(|s| s.returning.is_some()));
    world.delete("web");
    world.until("gone", Duration::from_hours(3), |w| w.phase("web") == "gone");
    assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{}", world.describe());
}

#[test]
fn a_reinstall_token_that_is_there_at_adoption_installs_nothing() {
    let mut panel = Panel::new(2, 4);
    panel.users.push(PanelUser { id: "5".into(), name: "acme".into(), level: Level::User });
    let server = panel.server("2");
    (server.owner, server.on) = (Some(UserId("5".into())), true);
    server.rows.iter_mut().for_each(|row| row.domain = "web.example.net".into());
    let mut world = World::new(panel, handler(|_| ()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["adopt"] = json!({"serverId": "2"});
        raw["spec"]["domain"] = json!("web.example.net");
    }));
    world.until("refused", Duration::from_hours(1), |w| w.phase("web") == "Failed");
    world.edit("web", |raw| raw.spec.reinstall = "now".into());
    world.run_for(seconds(600));
    world.handler.adoption = true;
    world.force("web");
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(1));
    assert!(!world.panel.journal.iter().any(|c| matches!(c, Call::Install { .. })), "{}", world.describe());
    assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("now"));
    // One that comes later is a wish.
    world.edit("web", |raw| raw.spec.reinstall = "again".into());
    world.until("installed", Duration::from_hours(3), |w| w.panel.servers["2"].installs == 1 && w.phase("web") == "Active");
}
