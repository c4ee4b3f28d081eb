//! Orders that are deleted when their handler, or its credentials, are gone: nothing is given up silently.

use std::time::Duration;

use crate::support::look::picture;
use crate::support::panel::{Ipmi, Panel};
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_released, reach, try_all};
use crate::support::world::{Fault, World, WriteFault, handler, order};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::handler::IpmiErrorPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::facts::HandlerState;
use dci_operator::provisioning::forsaken::Forsaken;
use serde_json::json;

const GRACE: Duration = Duration::from_mins(15);
/// Before it is over; times are kept in whole seconds.
const NOT_YET: Duration = Duration::from_mins(14);

fn lost() -> [Forsaken; 2] {
    [Forsaken::HandlerMissing, Forsaken::CredentialsMissing("Secret dci does not exist".into())]
}

fn ready(world: &World) -> (String, String) {
    find(&world.status("web").conditions, ConditionType::Ready).map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
}

fn lose(world: &mut World, lost: &Forsaken) {
    world.state = HandlerState::NotReady("gone".into());
    world.forsaken = Some(lost.clone());
}

fn found(world: &mut World) {
    world.state = HandlerState::Ready;
    world.forsaken = None;
}

fn until_task(world: &mut World) {
    world.until("a task", Duration::from_hours(2), |w| !w.open_tasks().is_empty());
}

#[test]
fn one_task_is_raised_after_the_grace_time_and_closing_goes_on_when_the_handler_is_back() {
    for lost in lost() {
        for step in 0..8 {
            let mut world = World::simple(2, 4);
            world.until_phase("web", "Active");
            world.run_for(seconds(60));
            world.delete("web");
            for _ in 0..step {
                world.step();
            }
            if world.phase("web") == "gone" {
                continue;
            }
            lose(&mut world, &lost);
            let (asked, began) = (world.asked.len(), world.now);
            world.step();
            assert!(!ready(&world).1.contains("RevokeLicenses"), "the order has none: {}", ready(&world).1);
            let deadline = world.status("web").waiting_on.as_ref().and_then(|w| w.deadline).expect("it is told when a task is raised");
            assert!(deadline.0 >= crate::support::later(began, GRACE.saturating_sub(seconds(1))), "{deadline:?}");
            world.run_for(NOT_YET);
            assert!(world.tasks.is_empty(), "a hiccup raises none");
            until_task(&mut world);
            assert!(!ready(&world).1.contains("RevokeLicenses"), "the order has none: {}", ready(&world).1);
            let details = &world.tasks[0].details;
            assert!(details.contains("\n- server 1 (R1-1) of panel dci.example.net:1500/dcimgr, client acme\n- addresses: "), "{details}");
            world.run_for(Duration::from_hours(5));
            assert_eq!((world.open_tasks().as_slice(), world.tasks.len()), ([TaskType::FailedOperation].as_slice(), 1));
            assert_eq!(world.asked.len(), asked, "nothing is asked of any panel");
            found(&mut world);
            world.until_phase("web", "gone");
            world.tasks.clear();
            world.assert_clean();
        }
    }
}

#[test]
fn a_handler_that_comes_and_goes_or_is_only_down_raises_nothing() {
    for lost in lost() {
        let mut world = World::simple(2, 4);
        world.until_phase("web", "Active");
        world.slot = false;
        world.delete("web");
        // Down for long before it is gone: that time does not count.
        world.state = HandlerState::NotReady("down".into());
        world.run_for(Duration::from_hours(3));
        for _ in 0..5 {
            lose(&mut world, &lost);
            world.run_for(NOT_YET);
            world.forsaken = None;
            world.run_for(Duration::from_mins(5));
        }
        assert!(world.tasks.is_empty(), "{}", world.describe());
        // An Active order is not concerned.
        let mut world = World::simple(2, 4);
        world.until_phase("web", "Active");
        lose(&mut world, &lost);
        world.run_for(Duration::from_hours(3));
        assert_eq!((world.phase("web"), world.tasks.len()), ("Active", 0));
    }
}

#[test]
fn only_abandon_ends_it_and_every_other_answer_looks_again() {
    for resolution in [Resolution::Abandon, Resolution::Retry, Resolution::Done, Resolution::Cancelled] {
        for lost in lost() {
            let mut world = World::simple(2, 4);
            world.until_phase("web", "Active");
            lose(&mut world, &lost);
            world.delete("web");
            let (before, asked) = (picture(&world), world.asked.len());
            until_task(&mut world);
            world.resolve(TaskType::FailedOperation, resolution);
            if resolution == Resolution::Abandon {
                world.until_phase("web", "gone");
            } else {
                world.run_for(seconds(60));
                assert!(world.open_tasks().is_empty() && world.phase("web") == "Deleting", "{resolution:?}");
                until_task(&mut world);
                assert_eq!(world.tasks.len(), 2, "{resolution:?}: asked again after another grace time");
                found(&mut world);
                world.until_phase("web", "gone");
                continue;
            }
            assert_eq!((picture(&world), world.asked.len()), (before, asked), "it is given up, not released");
        }
    }
}

#[test]
fn a_crash_at_every_write_raises_one_task_and_ends_once() {
    let points = (0..14).flat_map(|write| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| (write, fault)));
    try_all(points.map(|(write, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = World::simple(2, 4);
            world.until_phase("web", "Active");
            world.run_for(seconds(60));
            lose(&mut world, &Forsaken::HandlerMissing);
            world.delete("web");
            let before = picture(&world);
            world.write_faults.insert(world.writes + write, fault);
            until_task(&mut world);
            world.run_for(Duration::from_hours(1));
            assert_eq!((world.open_tasks().len(), world.tasks.len()), (1, 1), "{}", world.describe());
            world.resolve(TaskType::FailedOperation, Resolution::Abandon);
            world.until_phase("web", "gone");
            assert_eq!(picture(&world), before);
        });
        (format!("write {write}, {fault:?}"), live)
    }));
}

#[test]
fn a_namespace_that_takes_no_tasks_is_told_with_the_way_to_end_it() {
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    lose(&mut world, &Forsaken::HandlerMissing);
    world.no_tasks = true;
    world.delete("web");
    let writes = world.orders["web"].writes;
    world.run_for(Duration::from_hours(2));
    let writes = world.orders["web"].writes - writes;
    assert!(writes < 300, "{writes} writes: tried once a minute, on record first\n{}", world.describe());
    let (_, message) = ready(&world);
    assert!(message.contains("namespace hosting") && message.contains("dci-operator.dev/release-server"), "{message}");
    assert!(world.tasks.is_empty() && world.status("web").manual_tasks.is_empty(), "{}", world.describe());
    // The namespace is there again: the task is raised at once.
    world.no_tasks = false;
    world.run_for(seconds(120));
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
    // The same for a server that nobody can stop.
    let mut world = World::simple(2, 4);
    world.handler.ipmi = IpmiErrorPolicy::CreateTask;
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.no_tasks = true;
    world.delete("web");
    world.run_for(Duration::from_hours(1));
    assert!(ready(&world).1.contains("StopServer task"), "{:?}", ready(&world));
    world.no_tasks = false;
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::StopServer]);
}

#[test]
fn a_task_that_waited_already_may_end_it_too() {
    let mut world = World::simple(2, 4);
    world.handler.ipmi = IpmiErrorPolicy::CreateTask;
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.delete("web");
    until_task(&mut world);
    lose(&mut world, &Forsaken::HandlerMissing);
    let before = picture(&world);
    world.run_for(NOT_YET);
    assert_eq!(world.open_tasks(), [TaskType::StopServer], "another question has its own time");
    world.run_for(Duration::from_hours(1));
    world.resolve(TaskType::StopServer, Resolution::Abandon);
    world.until_phase("web", "gone");
    assert_eq!(picture(&world), before);
}

#[test]
fn another_panel_under_the_handlers_name_is_sent_nothing() {
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    world.handler.panel = "other.example.net:1500/dcimgr".into();
    let asked = world.asked.len();
    world.delete("web");
    world.run_for(Duration::from_hours(2));
    assert_eq!((ready(&world).0.as_str(), world.asked.len()), ("PanelChanged", asked));
    world.handler.panel = "dci.example.net:1500/dcimgr".into();
    world.force("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// A department gives up the licences, and the handler goes before that is read: nobody was asked about the server.
#[test]
fn an_answer_to_another_question_does_not_give_up_the_server() {
    for lost in lost() {
        let mut world = Kind::Licensed.world();
        reach(&mut world, "Active", Kind::Licensed);
        world.run_for(seconds(60));
        world.always = Some(("suspendLicense", Fault::Refused));
        world.delete("web");
        world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
        lose(&mut world, &lost);
        world.resolve(TaskType::FailedOperation, Resolution::Abandon);
        world.run_for(Duration::from_hours(2));
        assert_eq!(world.phase("web"), "Deleting", "{lost:?}\n{}", world.describe());
        assert!(world.panel.servers["1"].on && world.open_tasks() == [TaskType::FailedOperation], "{}", world.describe());
        assert!(world.tasks.last().unwrap().summary.contains("its handler or the handler's credentials are gone"));
        found(&mut world);
        world.always = None;
        reach(&mut world, "gone", Kind::Licensed);
        assert_released(&world, Kind::Licensed);
    }
}

/// The annotation is an author's word, and so is whose handler the order names: no department of another namespace works for that.
#[test]
fn nobody_is_asked_upon_the_word_of_an_orders_author_alone() {
    let mut world = World::new(Panel::new(2, 4), handler(|_| ()));
    world.add(order("web", "u-new", |raw| raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"})));
    lose(&mut world, &Forsaken::HandlerMissing);
    world.delete("web");
    world.run_for(Duration::from_hours(2));
    let (reason, message) = ready(&world);
    assert!(world.tasks.is_empty() && reason == "HandlerNotFound", "{reason}: {message}");
    for way_out in ["make the handler again", "dci-operator.dev/order-id", "dci-operator.dev/release-server"] {
        assert!(message.contains(way_out), "{way_out}: {message}");
    }
    found(&mut world);
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// The credentials go, a department is asked, and then the handler goes as well. Where its task is in another namespace than the handler
/// that the order names by now, nobody is.
#[test]
fn who_was_asked_before_the_handler_was_lost_may_answer() {
    for there in [true, false] {
        let mut world = World::new(Panel::new(2, 4), handler(|_| ()));
        world.add(order("web", "u-new", |raw| raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"})));
        lose(&mut world, &Forsaken::CredentialsMissing("Secret dci does not exist".into()));
        world.delete("web");
        until_task(&mut world);
        lose(&mut world, &Forsaken::HandlerMissing);
        if !there {
            world.tasks.clear();
        }
        world.run_for(Duration::from_hours(1));
        assert_eq!(world.tasks.len(), usize::from(there), "{}", world.describe());
        assert_eq!(ready(&world).1.contains("make the handler again"), !there, "{:?}", ready(&world));
        if there {
            world.resolve(TaskType::FailedOperation, Resolution::Abandon);
            world.until_phase("web", "gone");
            assert_eq!(world.tasks.len(), 1, "{}", world.describe());
        }
    }
}

#[test]
fn an_order_whose_server_is_free_goes_whatever_is_lost_then() {
    let closing = || {
        let mut world = World::simple(2, 4);
        world.until_phase("web", "Active");
        world.run_for(seconds(60));
        world.delete("web");
        world
    };
    let mut world = closing();
    world.until_phase("web", "gone");
    // The last one takes the finalizer away.
    let last_status = world.writes - 2;
    for lost in lost() {
        let mut world = closing();
        world.write_faults.insert(last_status, WriteFault::CrashAfter);
        world.until("released", Duration::from_hours(2), |w| w.write_faults.is_empty());
        assert!(world.status("web").steps.iter().any(|s| s.name == "Release" && s.state == "Done"), "{}", world.describe());
        lose(&mut world, &lost);
        world.run_for(Duration::from_hours(1));
        assert!(world.phase("web") == "gone" && world.tasks.is_empty(), "{}", world.describe());
        world.assert_clean();
    }
}

/// Without its handler nobody knows whose department it is by now, and with it everybody does.
#[test]
fn whoever_was_asked_stays_asked_when_the_handler_goes_as_well() {
    let credentials = Forsaken::CredentialsMissing("Secret dci does not exist".into());
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    lose(&mut world, &credentials);
    world.delete("web");
    until_task(&mut world);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(seconds(60));
    world.handler.operations = "Others".into();
    until_task(&mut world);
    lose(&mut world, &Forsaken::HandlerMissing);
    world.handler.operations = "Nobody".into();
    world.run_for(Duration::from_hours(1));
    let asked: Vec<&str> = world.tasks.iter().map(|t| t.department.as_str()).collect();
    assert_eq!(asked, ["Operations", "Others"], "{}", world.describe());
    lose(&mut world, &credentials);
    world.run_for(Duration::from_hours(1));
    let open: Vec<&str> = world.tasks.iter().filter(|t| t.resolution.is_none()).map(|t| t.department.as_str()).collect();
    assert_eq!(open, ["Nobody"], "{}", world.describe());
}
