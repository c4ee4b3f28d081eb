//! How servers are stopped before they are released: what runs on them, their power, and who is asked where that fails.

use std::time::Duration;

use crate::support::look::{active, made, picture, reason};
use crate::support::panel::{Ipmi, Operation, Panel};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use serde_json::json;

#[test]
fn an_installation_is_cancelled_before_the_power_goes() {
    let mut world = World::simple(1, 4);
    world.until("installing", Duration::from_hours(1), |w| w.panel.servers["1"].operation.is_some());
    world.run_for(seconds(90));
    world.delete("web");
    world.until_phase("web", "gone");
    let names: Vec<&str> = world.panel.journal.iter().map(Call::name).collect();
    let at = |name| names.iter().position(|n| *n == name);
    assert!(at("cancelOperation").is_some() && at("cancelOperation") < at("powerOff"), "{names:?}");
    assert_eq!(made(&world, "powerOff"), 1);
    world.assert_clean();
}

#[test]
fn an_ipmi_error_is_ignored_where_the_handler_says_so() {
    for ipmi in [Ipmi::Refuses, Ipmi::Error, Ipmi::Dead] {
        let mut world = active();
        world.panel.server("1").ipmi = ipmi;
        world.delete("web");
        world.until_phase("web", "gone");
        world.assert_clean();
        assert!(world.tasks.is_empty());
        let asked = world.asked.iter().filter(|(_, c)| matches!(c, Call::PowerOff { .. })).count();
        assert_eq!(asked, 1, "{ipmi:?}: there is no retry in closing");
    }
}

#[test]
fn a_server_that_cannot_be_stopped_waits_for_a_person() {
    for ipmi in [Ipmi::Refuses, Ipmi::Error, Ipmi::Dead] {
        for resolution in [Resolution::Done, Resolution::Retry, Resolution::Abandon] {
            let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
            world.add(order("web", "u-web", |_| ()));
            world.until_phase("web", "Active");
            let before = picture(&world);
            world.panel.server("1").ipmi = ipmi;
            let before = before.replacen("ipmi: Works", &format!("ipmi: {ipmi:?}"), 1);
            world.delete("web");
            world.until("a task", Duration::from_hours(2), |w| !w.tasks.is_empty());
            world.run_for(Duration::from_hours(5));
            assert_eq!(world.open_tasks(), [TaskType::StopServer], "exactly one");
            assert_eq!(picture(&world), before, "nothing is taken back before it is closed");
            // A change of the handler's mind closes no task.
            world.handler.ipmi = dci_operator::api::handler::IpmiErrorPolicy::Ignore;
            world.run_for(Duration::from_hours(1));
            assert_eq!(picture(&world), before);
            world.handler.ipmi = dci_operator::api::handler::IpmiErrorPolicy::CreateTask;
            let name = world.tasks.pop().unwrap().name;
            world.run_for(seconds(120));
            assert_eq!(world.tasks.last().map(|t| t.name.clone()), Some(name), "made again");
            let asked = world.asked.len();
            world.resolve(TaskType::StopServer, resolution);
            match resolution {
                Resolution::Retry => {
                    world.run_for(Duration::from_hours(1));
                    assert_eq!(world.open_tasks(), [TaskType::StopServer], "it still fails: asked again");
                    assert_eq!(world.asked.len(), asked + 1);
                    world.panel.server("1").ipmi = Ipmi::Works;
                    world.resolve(TaskType::StopServer, Resolution::Retry);
                    world.until_phase("web", "gone");
                    world.assert_clean();
                }
                Resolution::Abandon => {
                    world.until_phase("web", "gone");
                    assert_eq!((picture(&world), world.asked.len()), (before, asked), "given up, not released");
                }
                Resolution::Done | Resolution::PartsMissing | Resolution::Cancelled => {
                    world.until_phase("web", "gone");
                    world.assert_clean();
                    let offs = world.asked[asked..].iter().filter(|(_, c)| matches!(c, Call::PowerOff { .. })).count();
                    assert_eq!(offs, 0, "taken at its word");
                }
            }
        }
    }
}

#[test]
fn a_crash_after_abandon_releases_nothing() {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.delete("web");
    world.until("a task", Duration::from_hours(2), |w| !w.tasks.is_empty());
    world.run_for(seconds(60));
    let before = picture(&world);
    // The status is stored when the order is let go, and the operator dies before the finalizer goes.
    world.write_faults.insert(world.writes + 1, crate::support::world::WriteFault::CrashBefore);
    world.resolve(TaskType::StopServer, Resolution::Abandon);
    world.until_phase("web", "gone");
    assert_eq!(picture(&world), before);
}

#[test]
fn a_port_that_is_switched_is_waited_for_but_not_for_ever() {
    for minutes in [2u64, 600] {
        let mut world = active();
        let now = world.now;
        world.panel.server("1").busy_until = Some(crate::support::later(now, Duration::from_mins(minutes)));
        world.delete("web");
        world.until("off", Duration::from_hours(1), |w| made(w, "powerOff") == 1);
        let waited = world.now.duration_since(now).as_secs();
        assert!((110..420).contains(&waited), "{waited}");
    }
}

#[test]
fn a_cancellation_that_comes_to_nothing_is_not_asked_for_without_end() {
    let mut world = World::simple(1, 4);
    world.panel.installs_that_hang = 1;
    world.until("installing", Duration::from_hours(1), |w| w.panel.servers["1"].operation.is_some());
    world.run_for(seconds(90));
    world.always = Some(("cancelOperation", Fault::Ignored));
    world.delete("web");
    world.until("a department is asked", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let asked = world.asked.iter().filter(|(_, call)| call.name() == "cancelOperation").count();
    assert_eq!(asked, usize::try_from(world.handler.max_attempts).unwrap(), "{}", world.describe());
    world.always = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// An order that is deleted, and whose server a department is asked to stop.
fn to_be_stopped() -> World {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.delete("web");
    world.until("a task", Duration::from_hours(2), |w| w.open_tasks() == [TaskType::StopServer]);
    world
}

#[test]
fn what_runs_on_a_server_that_a_department_stops_is_cancelled_when_it_has_answered() {
    let mut world = to_be_stopped();
    // An installation that was accepted just before, and whose flag shows late.
    let (shows, template) = (world.now, "Debian".to_owned());
    world.panel.server("1").operation = Some(Operation { shows, shown: true, until: None, template, fails: false, recipe_fails: false });
    world.always = Some(("cancelOperation", Fault::Ignored));
    world.run_for(Duration::from_hours(2));
    let cancelled = world.asked.iter().filter(|(_, call)| call.name() == "cancelOperation").count();
    assert_eq!((cancelled, world.open_tasks()), (0, vec![TaskType::StopServer]), "{}", world.describe());
    world.always = None;
    world.panel.server("1").ipmi = Ipmi::Works;
    world.resolve(TaskType::StopServer, Resolution::Retry);
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn what_began_to_run_while_a_person_stopped_the_server_ends_before_it_is_released() {
    let mut world = to_be_stopped();
    let (shows, until, template) = (world.now, Some(later(world.now, Duration::from_hours(1))), "Debian".to_owned());
    let operation = Operation { shows, shown: true, until, template, fails: false, recipe_fails: false };
    let server = world.panel.server("1");
    (server.operation, server.on) = (Some(operation), false);
    world.resolve(TaskType::StopServer, Resolution::Done);
    world.run_for(Duration::from_mins(50));
    assert_eq!(made(&world, "release"), 0, "{}", world.describe());
    world.until_phase("web", "gone");
    assert!(world.panel.servers["1"].operation.is_none(), "{}", world.describe());
}

#[test]
fn a_power_call_that_the_panel_does_not_allow_is_no_ipmi_error_and_no_server_is_released_running() {
    for policy in ["Ignore", "CreateTask"] {
        let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!(policy)));
        world.add(order("web", "u-web", |_| ()));
        world.until_phase("web", "Active");
        world.panel.server("1").ipmi = Ipmi::Denied;
        world.delete("web");
        world.until("a task", Duration::from_hours(12), |w| !w.tasks.is_empty());
        world.run_for(Duration::from_hours(6));
        assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{policy}");
        let server = &world.panel.servers["1"];
        assert!(server.on && server.owner.is_some() && server.notes.contains("u-web"), "{policy}: {}", world.describe());
        world.panel.server("1").ipmi = Ipmi::Works;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", "gone");
        world.assert_clean();
    }
}

/// A controller that is dead keeps the panel from answering; its list shows the power error.
#[test]
fn a_power_off_without_answer_is_an_ipmi_error_where_the_list_shows_one() {
    for policy in ["Ignore", "CreateTask"] {
        let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!(policy)));
        world.add(order("web", "u-web", |_| ()));
        world.until_phase("web", "Active");
        world.panel.server("1").ipmi = Ipmi::Error;
        world.always = Some(("powerOff", Fault::LostNot));
        world.may_stay_on = true;
        world.delete("web");
        if policy == "CreateTask" {
            world.until("a task", Duration::from_hours(1), |w| !w.tasks.is_empty());
            assert_eq!(world.open_tasks(), [TaskType::StopServer]);
            world.resolve(TaskType::StopServer, Resolution::Done);
        }
        world.until_phase("web", "gone");
        let asked = world.asked.iter().filter(|(_, c)| matches!(c, Call::PowerOff { .. })).count();
        // Whether the first one was sent at all is not known.
        assert_eq!((asked, world.open_tasks().len()), (2, 0), "{policy}");
        world.assert_clean();
    }
}

/// `Abandon` of an order that lives: its server stays as it is, also when the operator is started anew.
#[test]
fn a_server_that_a_department_gave_up_while_its_order_lives_is_not_asked_about_again() {
    let mut world = World::new(
        {
            let mut panel = Panel::new(2, 4);
            panel.recipes_that_fail = 1;
            panel
        },
        handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")),
    );
    world.add(order("web", "u-web", |raw| raw["spec"]["recipes"] = json!(["ISPsystem__nginx.sh"])));
    world.until("the server is given back", Duration::from_hours(2), |w| {
        w.status("web").server.as_ref().is_some_and(|s| s.returning.is_some())
    });
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.until("a task", Duration::from_hours(6), |w| w.open_tasks() == [TaskType::StopServer]);
    world.resolve(TaskType::StopServer, Resolution::Abandon);
    world.run_for(Duration::from_hours(1));
    let (asked, raised) = (world.asked.len(), world.tasks.len());
    assert_eq!(reason(world.status("web")), "TaskCancelled");
    world.restart();
    world.run_for(Duration::from_hours(3));
    assert_eq!(
        (world.asked.len(), world.tasks.len(), reason(world.status("web"))),
        (asked, raised, "TaskCancelled"),
        "{}",
        world.describe()
    );
}

/// The answer that is lost is that of the cancellation: the power was not asked for yet.
#[test]
fn a_power_error_beside_a_lost_cancellation_lets_no_server_go_unasked() {
    let mut world = World::simple(1, 4);
    world.until("installing", Duration::from_hours(1), |w| w.panel.servers["1"].operation.is_some());
    world.panel.server("1").ipmi = Ipmi::Error;
    world.may_stay_on = true;
    world.faults.insert(world.asked.len(), Fault::LostApplied);
    world.delete("web");
    world.until_phase("web", "gone");
    let names: Vec<&str> = world.asked.iter().map(|(_, c)| c.name()).collect();
    let at = |name: &str| names.iter().position(|n| *n == name);
    assert!(at("cancelOperation").is_some() && at("powerOff").is_some() && at("powerOff") < at("release"), "{names:?}");
}

/// An installation that shows only when the power was given up already: it is cancelled like any other.
#[test]
fn an_installation_that_shows_late_is_cancelled_also_where_ipmi_errors_are_ignored() {
    let mut world = World::simple(1, 4);
    world.panel.installs_show_after = seconds(90);
    world.until("asked for", Duration::from_hours(1), |w| made(w, "install") == 1);
    (world.panel.server("1").ipmi, world.may_stay_on) = (Ipmi::Refuses, true);
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
    assert_eq!(made(&world, "cancelOperation"), 1, "{}", world.describe());
}
