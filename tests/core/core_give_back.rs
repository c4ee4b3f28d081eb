//! Servers that are given back while their order lives: after a recipe failed, once, and never one that may be the client's.

use std::time::Duration;

use crate::support::panel::Panel;
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::json;

fn world(servers: usize, failing: usize, ready_when: &str) -> World {
    let mut panel = Panel::new(servers, 4);
    panel.recipes_that_fail = failing;
    let mut world = World::new(panel, handler(|_| ()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["recipes"] = json!(["ISPsystem__nginx.sh"]);
        raw["spec"]["readyWhen"] = json!(ready_when);
    }));
    world
}

fn tried(world: &World) -> Vec<&str> {
    world.status("web").tried_servers.iter().map(|t| t.id.as_str()).collect()
}

fn condition(world: &World, type_: ConditionType) -> (String, String) {
    let found = condition::find(&world.status("web").conditions, type_);
    found.map(|c| (c.status.clone(), c.reason.clone())).unwrap_or_default()
}

#[test]
fn a_failed_recipe_takes_another_server_and_gives_the_first_one_back() {
    let mut world = world(2, 1, "RecipesFinished");
    let mut phases = Vec::new();
    world.until("Active", Duration::from_hours(2), |w| {
        let status = w.status("web");
        let returning = status.server.as_ref().is_some_and(|s| s.returning.is_some());
        if returning {
            phases.push(w.phase("web").to_owned());
            assert_eq!(condition(w, ConditionType::Reconciling).0, "True");
        }
        w.phase("web") == "Active"
    });
    assert!(!phases.is_empty() && phases.iter().all(|p| p == "Preparing"), "{phases:?}");
    assert_eq!(tried(&world), ["1"]);
    assert_eq!(world.status("web").tried_servers[0].reason, "RecipeFailed");
    assert_eq!(world.status("web").server.as_ref().unwrap().id, "2");
    assert!(world.tasks.is_empty(), "no department is asked");
    let told: Vec<&str> = world.status("web").steps.iter().map(|s| s.name.as_str()).collect();
    assert!(!told.contains(&"Release"), "the steps of closing are not the order's: {told:?}");
    let names: Vec<String> =
        world.panel.journal.iter().map(|c| format!("{} {}", c.name(), c.server().map_or("", |s| s.0.as_str()))).collect();
    let wanted =
        ["install 1", "powerOff 1", "takeAddress ", "replaceMainAddress 1", "giveBackAddress ", "setAddressNote ", "release 1", "claim 2"];
    let from = names.iter().position(|n| n == "install 1").expect("an installation");
    assert_eq!(names[from..from + wanted.len()], wanted.map(String::from), "{}", world.describe());
}

#[test]
fn a_recipe_that_fails_on_two_servers_becomes_a_task() {
    let mut world = world(3, 3, "RecipesFinished");
    world.until("a task", Duration::from_hours(2), |w| !w.tasks.is_empty());
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
    assert_eq!((tried(&world), world.status("web").server.as_ref().unwrap().id.as_str()), (vec!["1"], "2"));
    world.run_for(Duration::from_hours(2));
    assert_eq!(world.panel.journal.iter().filter(|c| matches!(c, Call::Install { .. })).count(), 2, "nothing is repeated unasked");
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until("another task", Duration::from_hours(2), |w| w.tasks.len() == 2);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn a_server_that_was_given_back_is_not_taken_again_unless_somebody_asks() {
    let mut world = world(1, 1, "RecipesFinished");
    world.until("capacity", Duration::from_hours(2), |w| w.status("web").waiting_on.as_ref().is_some_and(|x| x.kind == "Capacity"));
    world.assert_clean();
    // A person looked at it: it counts as free again.
    world.panel.server("1").failed = false;
    world.run_for(Duration::from_hours(3));
    let claims = |w: &World| w.panel.journal.iter().filter(|c| matches!(c, Call::Claim { .. })).count();
    assert_eq!((claims(&world), world.phase("web")), (1, "Pending"));
    assert!(world.status("web").waiting_on.as_ref().unwrap().message.contains("status.triedServers"), "{}", world.describe());
    world.edit("web", |raw| {
        raw.metadata.annotations.get_or_insert_default().insert("dci-operator.dev/reconcile-requested-at".into(), "now".into());
    });
    world.until_phase("web", "Active");
    assert_eq!((claims(&world), tried(&world).len()), (2, 0));
}

#[test]
fn an_installation_that_failed_itself_is_repeated_on_the_same_server() {
    let mut world = world(2, 0, "RecipesFinished");
    world.panel.installs_that_fail = 1;
    world.until_phase("web", "Active");
    assert_eq!((tried(&world).len(), world.status("web").server.as_ref().unwrap().id.as_str()), (0, "1"));
}

#[test]
fn a_recipe_that_nobody_waits_for_is_only_told() {
    let mut world = world(2, 1, "OSInstalled");
    world.until_phase("web", "Active");
    let server = world.status("web").server.clone().unwrap();
    assert_eq!((server.id.as_str(), server.failed_recipes), ("1", vec!["ISPsystem__nginx.sh".to_owned()]));
    assert_eq!(condition(&world, ConditionType::RecipesApplied), ("False".into(), "RecipeFailed".into()));
    assert_eq!(condition(&world, ConditionType::OSInstalled).0, "True");
    assert!(world.tasks.is_empty() && tried(&world).is_empty());
    world.assert_quiet();
}

/// Its status may be an older one: what it says of servers that went back is of the past.
#[test]
fn an_order_that_has_a_server_is_neither_stopped_by_one_that_it_gave_back_nor_forgets_it() {
    let mut world = world(2, 1, "RecipesFinished");
    world.until_phase("web", "Active");
    world.ask("web");
    world.run_for(Duration::from_mins(5));
    assert_eq!((world.phase("web"), tried(&world)), ("Active", vec!["1"]), "{}", world.describe());
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.tried_servers[0].stopped_at = stored.raw.metadata.generation;
    world.force("web");
    world.run_for(Duration::from_mins(5));
    assert_eq!(world.phase("web"), "Active", "{}", world.describe());
}

/// The status is from before the hand-over, and says that the server is given back.
#[test]
fn a_server_that_the_client_has_is_kept_while_its_turn_to_be_given_back_is_waited_for() {
    let mut world = world(2, 1, "RecipesFinished");
    world.until("an installation", Duration::from_hours(1), |w| w.panel.servers["1"].installs == 1);
    world.slot = false;
    world.until("its turn is waited for", Duration::from_hours(1), |w| {
        let status = w.status("web");
        let returning = status.server.as_ref().is_some_and(|s| s.returning.is_some());
        returning && status.waiting_on.as_ref().is_some_and(|on| on.kind == "Capacity")
    });
    world.panel.server("1").owner = world.panel.user("acme").map(|user| user.id.clone());
    world.until("it is the client's", Duration::from_mins(5), |w| {
        w.status("web").server.as_ref().is_some_and(|s| s.returning.is_none() && s.handed_over_at.is_some())
    });
    world.slot = true;
    world.until_phase("web", "Active");
    assert_eq!((world.status("web").server.as_ref().unwrap().id.as_str(), world.panel.servers["1"].installs), ("1", 1));
}

/// Its hand-over was asked for once, and refused: the client may have had it for a moment. Another handler could serve the order.
#[test]
fn what_fails_after_a_hand_over_was_asked_for_is_told_to_a_department_and_not_tried_at_another_handler() {
    let mut world = World::of_sites();
    for (name, priority) in [("a", 10), ("b", 20)] {
        world.add_site(name, priority, "one", 2, |_, _| ());
    }
    world.add(order("web", "u-web", |raw| {
        raw["spec"].as_object_mut().unwrap().remove("handlerRef");
        raw["spec"]["handlerSelector"] = json!({"namespace": "hosting", "matchLabels": {"zone": "msk"}});
    }));
    world.always = Some(("handOver", Fault::Refused));
    world.until("a hand-over", Duration::from_hours(2), |w| w.asked.iter().any(|(_, call)| matches!(call, Call::HandOver { .. })));
    world.always = Some(("setDomain", Fault::Refused));
    world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
    world.until("a task", Duration::from_hours(4), |w| !w.tasks.is_empty());
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.open_tasks().as_slice(), world.tasks.len()), ([TaskType::FailedOperation].as_slice(), 1), "{}", world.describe());
    let server = world.status("web").server.clone().unwrap();
    assert!(server.handler == "hosting/a" && server.returning.is_none(), "{}", world.describe());
    world.always = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
}

/// An order with a licence, bought and without its key yet, whose server at the first of three handlers went back; that handler has no
/// other one. The last handler is down all the time.
fn licensed_and_given_back() -> World {
    let mut world = World::of_sites();
    for (name, priority, servers) in [("a", 10, 1), ("b", 20, 2), ("c", 30, 2)] {
        world.add_site(name, priority, "one", servers, |_, spec| spec["licenseServerRef"] = json!({"name": "isp"}));
    }
    world.sites.all[2].state = HandlerState::NotReady("down".into());
    world.add(order("web", "u-web", |raw| {
        raw["spec"].as_object_mut().unwrap().remove("handlerRef");
        raw["spec"]["handlerSelector"] = json!({"namespace": "hosting", "matchLabels": {"zone": "msk"}});
        raw["spec"]["licenses"] = json!([{"product": "Lite"}]);
    }));
    world.panel.licenses.key_takes = Duration::from_hours(1);
    world.until("bought", Duration::from_hours(2), |w| w.panel.licenses.rows.len() == 1);
    world.always = Some(("setDomain", Fault::Refused));
    world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
    let returning = |w: &World| w.status("web").server.as_ref().is_some_and(|s| s.returning.is_some());
    world.until("it is given back", Duration::from_hours(4), returning);
    world.always = None;
    world.until("it went back", Duration::from_hours(1), |w| w.status("web").server.is_none());
    assert_eq!(world.status("web").licenses.len(), 1, "kept for the next server\n{}", world.describe());
    world
}

/// The order has its first uid: no server of its can be anywhere, and a licence says nothing of that.
#[test]
fn a_licence_that_is_kept_does_not_keep_the_next_handler_waiting_for_one_that_is_down() {
    let mut world = licensed_and_given_back();
    world.until("another handler", Duration::from_mins(10), |w| w.status("web").server.as_ref().is_some_and(|s| s.handler == "hosting/b"));
    world.until_phase("web", "Active");
    let main = world.status("web").server.as_ref().unwrap().main_address.clone();
    let bound = world.panel.licenses.rows.values().map(|row| Some(row.address.to_string())).collect::<Vec<_>>();
    assert_eq!(bound, [main], "{}", world.describe());
    world.delete("web");
    world.until_phase("web", "gone");
    assert!(world.panel.licenses.rows.values().all(|row| row.suspended), "{}", world.describe());
}

/// The handler at which it is closed comes and goes; what is tried is tried at the licence server.
#[test]
fn an_order_that_goes_with_a_licence_goes_on_where_it_was_whichever_handler_can_be_asked() {
    let mut world = licensed_and_given_back();
    world.always = Some(("suspendLicense", Fault::Refused));
    world.delete("web");
    world.until("a task", Duration::from_hours(4), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let before = world.status("web").clone();
    let (at, other) = if before.handler.as_deref() == Some("hosting/a") { (0, "hosting/b") } else { (1, "hosting/a") };
    world.sites.all[at].state = HandlerState::NotReady("down".into());
    world.run_for(Duration::from_mins(5));
    let status = world.status("web");
    assert_eq!((status.handler.as_deref(), status.attempts), (Some(other), before.attempts), "{}", world.describe());
    assert_eq!((world.open_tasks(), world.tasks.len()), (vec![TaskType::FailedOperation], 1), "{}", world.describe());
    // What the department says meanwhile is heard.
    world.resolve(TaskType::FailedOperation, Resolution::Abandon);
    world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
    assert!(world.tasks.len() == 1 && world.panel.licenses.rows.values().all(|row| !row.suspended), "{}", world.describe());
}

/// One handler that can be asked is enough to have a licence given back.
#[test]
fn an_order_that_goes_with_a_licence_that_was_kept_waits_for_no_handler_that_is_down() {
    for down in [false, true] {
        let mut world = licensed_and_given_back();
        if down {
            world.sites.all[1].state = HandlerState::NotReady("down".into());
            // The first handler lists its server as free.
            world.run_for(Duration::from_mins(2));
            world.sites.all.iter_mut().for_each(|site| site.state = HandlerState::NotReady("down".into()));
        }
        world.delete("web");
        if down {
            world.run_for(Duration::from_hours(1));
            let told = world.status("web").waiting_on.as_ref().map(|on| on.message.clone()).unwrap_or_default();
            assert!(told.starts_with("the order has licences, and none of the handlers"), "{told}");
            assert!(world.panel.licenses.rows.values().all(|row| !row.suspended), "{}", world.describe());
            world.sites.all[1].state = HandlerState::Ready;
        }
        world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
        assert!(world.panel.licenses.rows.values().all(|row| row.suspended), "{}", world.describe());
    }
}
