//! Whose answer counts, and for what: names of tasks that were given before, orders under another uid, and `Done` of what the panel shows
//! elsewhere or not at all.

use std::time::Duration;

use crate::support::panel::{Ipmi, Panel};
use crate::support::seconds;
use crate::support::world::{Fault, World, WriteFault, handler, order};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::FREE_DOMAIN;
use serde_json::json;

/// An order is deleted whose server a department has to stop.
fn stopping() -> World {
    let mut world = World::new(Panel::new(2, 8), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world
}

fn until_asked(world: &mut World, name: &str) {
    let is_open = |w: &World| w.tasks.iter().any(|t| t.name == name && t.resolution.is_none());
    world.until(name, Duration::from_hours(2), is_open);
}

/// Numbers follow from the status: one that was set back gives a name again, and with it an answer from before the question.
#[test]
fn an_answer_from_before_the_status_was_set_back_is_none() {
    let points = (0..6).flat_map(|write| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| Some((write, fault))));
    for point in points.chain([None]) {
        let mut world = stopping();
        let before = world.status("web").clone();
        // Nothing is done with the server after that.
        world.always = Some(("takeAddress", Fault::Refused));
        world.delete("web");
        until_asked(&mut world, "stopserver-u-web-1");
        world.resolve(TaskType::StopServer, Resolution::Done);
        let stopped = |w: &World| w.status("web").steps.iter().any(|s| s.name == "PowerOff" && s.state == "Done");
        world.until("stopped by hand", Duration::from_hours(1), stopped);
        world.run_for(Duration::from_hours(1));
        world.tasks.retain(|t| t.type_ == TaskType::StopServer);
        let stored = world.orders.get_mut("web").unwrap();
        (stored.status, stored.version, stored.wake) = (before, stored.version + 1, Some(world.now));
        world.always = None;
        if let Some((write, fault)) = point {
            world.write_faults.insert(world.writes + write, fault);
        }
        until_asked(&mut world, "stopserver-u-web-2");
        world.run_for(seconds(300));
        assert!(world.panel.servers["1"].owner.is_some() && world.phase("web") == "Deleting", "{point:?}\n{}", world.describe());
        assert_eq!(world.open_tasks(), [TaskType::StopServer], "{point:?}");
        world.resolve(TaskType::StopServer, Resolution::Done);
        world.until_phase("web", "gone");
    }
}

/// The API server says when a task was made, the operator when it asked.
#[test]
fn an_answer_counts_however_far_the_operators_clock_is_ahead() {
    for behind in [0, 15, 90] {
        let mut world = stopping();
        world.api_behind = Duration::from_mins(behind);
        world.delete("web");
        until_asked(&mut world, "stopserver-u-web-1");
        world.run_for(seconds(60));
        world.resolve(TaskType::StopServer, Resolution::Done);
        world.until_phase("web", "gone");
        assert_eq!(world.tasks.len(), 1, "{behind}\n{}", world.describe());
    }
}

/// Whoever is asked already may answer, also where the status was set back while he was.
#[test]
fn an_open_task_that_was_found_again_is_answered_once() {
    let mut world = stopping();
    let before = world.status("web").clone();
    world.delete("web");
    until_asked(&mut world, "stopserver-u-web-1");
    world.run_for(Duration::from_hours(1));
    let stored = world.orders.get_mut("web").unwrap();
    (stored.status, stored.version, stored.wake) = (before, stored.version + 1, Some(world.now));
    world.run_for(seconds(300));
    assert_eq!((world.open_tasks().as_slice(), world.tasks.len()), ([TaskType::StopServer].as_slice(), 1), "{}", world.describe());
    world.resolve(TaskType::StopServer, Resolution::Done);
    world.until_phase("web", "gone");
    assert_eq!(world.tasks.len(), 1, "{}", world.describe());
}

#[test]
fn an_order_that_was_restored_with_its_status_asks_under_its_new_uid() {
    for kept in [false, true] {
        let mut world = stopping();
        world.delete("web");
        until_asked(&mut world, "stopserver-u-web-1");
        if !kept {
            world.tasks.clear();
        }
        let stored = world.orders.get_mut("web").unwrap();
        stored.raw.metadata.uid = Some("u-new".into());
        stored.raw.metadata.annotations.get_or_insert_default().insert("dci-operator.dev/order-id".into(), "u-web".into());
        stored.version += 1;
        world.restart();
        until_asked(&mut world, "stopserver-u-new-2");
        world.run_for(seconds(300));
        assert_eq!((world.open_tasks().as_slice(), world.tasks.len()), ([TaskType::StopServer].as_slice(), 1 + usize::from(kept)));
        assert!(world.tasks.iter().filter(|t| t.name == "stopserver-u-web-1").all(|t| t.by_operator), "{}", world.describe());
        world.resolve(TaskType::StopServer, Resolution::Done);
        world.until_phase("web", "gone");
        world.assert_clean();
    }
}

#[test]
fn done_of_what_comes_before_a_release_is_looked_for_or_believed() {
    for (call, by_hand, is_done) in [("setDomain", true, true), ("setDomain", false, false), ("flagForCleaning", false, true)] {
        let mut world = World::new(
            Panel::new(2, 8),
            handler(|h| {
                h["retry"]["maxAttempts"] = json!(2);
                h["ipManagement"]["disableIPChange"] = json!(true);
                h["dialect"] = json!({"flagForCleaning": {"func": "y"}});
            }),
        );
        world.add(order("web", "u-web", |_| ()));
        world.until_phase("web", "Active");
        world.delete("web");
        world.always = Some((call, Fault::Refused));
        world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
        let asked = |w: &World| w.asked.iter().filter(|(_, c)| c.name() == call).count();
        let before = asked(&world);
        if by_hand {
            world.panel.server("1").rows.iter_mut().for_each(|row| row.domain = FREE_DOMAIN.into());
        }
        world.resolve(TaskType::FailedOperation, Resolution::Done);
        if is_done {
            world.until_phase("web", "gone");
            assert_eq!(world.tasks.len(), 1, "{call}\n{}", world.describe());
            world.assert_clean();
        } else {
            world.until("another task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
            assert!(world.tasks[1].details.contains("setDomain is still needed"), "{}", world.tasks[1].details);
        }
        assert_eq!(asked(&world), before, "{call} was not asked for again");
    }
}
