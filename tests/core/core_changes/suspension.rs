//! A service is suspended and resumed call by call; drift, a dead IPMI, a change of mind and a deletion do not stop it.

use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find, is_true};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::UserId;
use serde_json::json;

use super::{assert_suspended, made, reason, reinstall, settled, since, suspend, until_reason, until_settled};
use crate::support::panel::{Ipmi, Operation, Panel, TEMPLATE};
use crate::support::sweep::{Kind, assert_active, assert_released, reach};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};

#[test]
fn a_service_is_suspended_and_resumed_call_by_call() {
    for (show, follow) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut world = settled();
        (world.panel.ports_show, world.panel.ports_follow) = (show, follow);
        let at = world.asked.len();
        suspend(&mut world, true);
        world.until("on its way", seconds(600), |w| reason(w) == "Suspending" || reason(w) == "WaitingForPanel");
        until_settled(&mut world);
        assert_suspended(&world);
        // A port that the panel shows as switched by the block itself is not switched again.
        let explicit = !(show && follow);
        let expected: &[&str] = if explicit { &["disable", "connectionOff", "powerOff"] } else { &["disable", "powerOff"] };
        assert_eq!(since(&world, at), expected, "show {show}, follow {follow}");
        world.assert_quiet();
        let at = world.asked.len();
        suspend(&mut world, false);
        until_settled(&mut world);
        assert_active(&world, Kind::Plain);
        assert!(find(&world.status("web").conditions, ConditionType::Suspended).is_none());
        let expected: &[&str] = if explicit { &["enable", "connectionOn", "powerOn"] } else { &["enable", "powerOn"] };
        assert_eq!(since(&world, at), expected, "show {show}, follow {follow}");
        world.assert_quiet();
        // Once more: what was done before does not stand in the way.
        let at = world.asked.len();
        suspend(&mut world, true);
        until_settled(&mut world);
        assert_suspended(&world);
        assert_eq!(since(&world, at).len(), 2 + usize::from(explicit));
    }
}

#[test]
fn an_order_that_is_created_suspended_is_prepared_handed_over_and_then_suspended() {
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["suspended"] = json!(true)));
    until_settled(&mut world);
    assert_suspended(&world);
    assert!(world.status("web").server.as_ref().unwrap().handed_over_at.is_some());
    let calls = since(&world, 0);
    assert_eq!(calls[calls.len() - 3..], ["handOver", "disable", "powerOff"]);
    world.assert_quiet();
    suspend(&mut world, false);
    until_settled(&mut world);
    assert_active(&world, Kind::Plain);
}

#[test]
fn a_suspension_that_ends_half_way_is_undone() {
    let mut total = settled();
    let at = total.asked.len();
    suspend(&mut total, true);
    until_settled(&mut total);
    for calls in 1..=total.asked.len() - at {
        let mut world = settled();
        suspend(&mut world, true);
        world.until("half way", seconds(600), |w| w.asked.len() == at + calls);
        suspend(&mut world, false);
        until_settled(&mut world);
        assert_active(&world, Kind::Plain);
        world.assert_quiet();
        suspend(&mut world, true);
        world.until("half way", seconds(600), |w| w.asked.len() > at + calls);
        suspend(&mut world, false);
        world.step();
        suspend(&mut world, true);
        until_settled(&mut world);
        world.run_for(seconds(300));
        assert_suspended(&world);
    }
}

#[test]
fn drift_of_a_suspended_service_is_corrected_once_and_never_over_other_work() {
    let mut world = settled();
    suspend(&mut world, true);
    until_settled(&mut world);
    world.run_for(seconds(120));
    let at = world.asked.len();
    world.panel.server("1").on = true;
    world.until("off", seconds(600), |w| !w.panel.servers["1"].on);
    until_settled(&mut world);
    assert_eq!(since(&world, at), ["powerOff"]);
    world.assert_quiet();
    let at = world.asked.len();
    let server = world.panel.server("1");
    (server.disabled, server.port, server.on) = (false, true, true);
    world.until("suspended again", seconds(600), |w| !w.panel.servers["1"].on);
    until_settled(&mut world);
    assert_suspended(&world);
    assert_eq!(since(&world, at), ["disable", "powerOff"]);
    world.assert_quiet();
    let at = world.asked.len();
    let now = world.now;
    let operation = |until| Operation { shows: now, shown: true, until, template: TEMPLATE.into(), fails: false, recipe_fails: false };
    world.panel.server("1").operation = Some(operation(Some(later(now, Duration::from_hours(1)))));
    world.panel.server("1").on = true;
    world.run_for(Duration::from_mins(50));
    assert_eq!(since(&world, at), [] as [&str; 0], "an installation is never cut short");
    world.until("off", Duration::from_hours(1), |w| !w.panel.servers["1"].on);
    until_settled(&mut world);
    // A power that cannot be asked is left alone.
    let at = world.asked.len();
    (world.panel.server("1").on, world.panel.server("1").ipmi) = (true, Ipmi::Error);
    world.run_for(Duration::from_hours(1));
    assert_eq!(since(&world, at), [] as [&str; 0]);
    // Somebody else's server is told, and not touched.
    world.panel.server("1").ipmi = Ipmi::Works;
    world.panel.server("1").owner = Some(UserId("7".into()));
    until_reason(&mut world, "OwnerChanged");
    assert_eq!(since(&world, at), [] as [&str; 0]);
    assert!(is_true(&world.status("web").conditions, ConditionType::Suspended), "it still is");
}

/// A department that looks after a server changed by hand was not asked about a call that fails meanwhile.
#[test]
fn a_lost_answer_is_looked_up_while_a_department_looks_after_drift() {
    for fault in [Fault::LostApplied, Fault::LostNot, Fault::Refused] {
        let mut world = settled();
        world.panel.server("1").owner = None;
        until_reason(&mut world, "OwnerChanged");
        assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
        world.faults.insert(world.asked.len(), fault);
        suspend(&mut world, true);
        world.until("suspended", seconds(1200), |w| is_true(&w.status("web").conditions, ConditionType::Suspended));
        world.panel.server("1").owner = world.panel.user("acme").map(|u| u.id.clone());
        until_reason(&mut world, "Suspended");
        assert_suspended(&world);
        assert_eq!(world.open_tasks(), [], "{fault:?}");
    }
}

#[test]
fn a_dead_ipmi_leaves_the_network_off_and_becomes_a_task() {
    for ipmi in [Ipmi::Refuses, Ipmi::Error, Ipmi::Dead] {
        for kind in [Kind::Plain, Kind::CreateTask] {
            let mut world = kind.world();
            reach(&mut world, "Active", kind);
            world.panel.server("1").ipmi = ipmi;
            suspend(&mut world, true);
            world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{ipmi:?}");
            let server = &world.panel.servers["1"];
            assert!(server.disabled && !server.port && server.on, "{ipmi:?}\n{}", world.describe());
            // Resumed: the department need not look any more.
            if kind == Kind::CreateTask {
                suspend(&mut world, false);
                until_settled(&mut world);
                assert!(world.status("web").manual_tasks.iter().all(|t| t.state == "Superseded"), "{}", world.describe());
                assert!(world.panel.servers["1"].port && !world.panel.servers["1"].disabled);
                continue;
            }
            world.run_for(Duration::from_hours(1));
            world.panel.server("1").ipmi = Ipmi::Works;
            world.panel.server("1").on = false;
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            until_settled(&mut world);
            assert_suspended(&world);
        }
    }
}

/// A change that a department gave up stays so, and the client is suspended and resumed all the same.
#[test]
fn what_a_department_has_cancelled_keeps_nobody_from_being_suspended() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 2] =
        [("setDomain", |w| w.edit("web", |raw| raw.spec.domain = "other.example.net".into())), ("install", |w| reinstall(w, "again"))];
    for (call, change) in changes {
        let mut world = settled();
        world.always = Some((call, Fault::Refused));
        change(&mut world);
        world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        until_reason(&mut world, "TaskCancelled");
        let asked = |w: &World| w.asked.iter().filter(|(_, c)| c.name() == call).count();
        let before = asked(&world);
        for suspended in [true, false, true, false] {
            suspend(&mut world, suspended);
            world.until("followed", Duration::from_hours(1), |w| {
                let server = &w.panel.servers["1"];
                (server.disabled, server.on) == (suspended, !suspended) && reason(w) == "TaskCancelled"
            });
            let shown = is_true(&world.status("web").conditions, ConditionType::Suspended);
            assert_eq!((shown, asked(&world), world.tasks.len()), (suspended, before, 1), "{call}: {}", world.describe());
            world.assert_quiet();
        }
        world.always = None;
        world.edit("web", |raw| {
            raw.metadata.annotations = Some([("dci-operator.dev/reconcile-requested-at".to_owned(), "now".to_owned())].into());
        });
        world.until_phase("web", "Active");
        assert!(asked(&world) > before, "asked for again");
    }
}

#[test]
fn a_server_that_cannot_be_switched_on_can_be_suspended() {
    for cancelled in [false, true] {
        let mut world = settled();
        world.panel.server("1").ipmi = Ipmi::Refuses;
        world.panel.server("1").on = false;
        world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
        if cancelled {
            world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
            until_reason(&mut world, "TaskCancelled");
        }
        suspend(&mut world, true);
        until_settled(&mut world);
        assert_suspended(&world);
        assert!(world.status("web").manual_tasks.iter().all(|t| t.state != "Open"));
    }
}

#[test]
fn a_suspended_order_is_deleted_after_it_was_enabled() {
    for kind in [Kind::Plain, Kind::Several, Kind::CreateTask, Kind::ByPanel] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        suspend(&mut world, true);
        until_settled(&mut world);
        let at = world.asked.len();
        world.delete("web");
        reach(&mut world, "gone", kind);
        let calls = since(&world, at);
        assert_eq!((calls[0], made(&world, "enable")), ("enable", 1), "{calls:?}");
        assert!(!world.panel.servers["1"].disabled, "the next client's server is not blocked");
        assert_released(&world, kind);
    }
}

/// A recipe that was refused waits for its next try: not on a server that is switched off.
#[test]
fn no_recipe_is_run_on_a_suspended_server() {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["dialect"] = json!({"runRecipe": {"func": "x"}})));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.always = Some(("runRecipe", Fault::Refused));
    world.edit("web", |raw| raw.spec.recipes = vec!["b.sh".into()]);
    world.until("refused", Duration::from_hours(1), |w| w.asked.iter().any(|(_, call)| call.name() == "runRecipe"));
    suspend(&mut world, true);
    world.until_phase("web", "Suspended");
    let at = world.asked.len();
    world.run_for(Duration::from_hours(2));
    assert_eq!((since(&world, at).len(), world.phase("web")), (0, "Suspended"), "{}", world.describe());
    world.always = None;
    suspend(&mut world, false);
    until_settled(&mut world);
    assert_eq!(world.panel.servers["1"].ran, ["b.sh"], "{}", world.describe());
}

/// Where the panel does not show whether a port is on, nothing could ever confirm it: whoever switched it is believed.
#[test]
fn a_department_that_says_that_it_switched_a_port_is_believed_where_nothing_shows_it() {
    let by_hand = |world: &mut World, call: &'static str, on: bool| {
        world.always = Some((call, Fault::Refused));
        world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
        assert!(world.tasks.last().unwrap().details.contains("taken at your word"), "{}", world.tasks.last().unwrap().details);
        world.panel.server("1").port = on;
        world.resolve(TaskType::FailedOperation, Resolution::Done);
    };
    for deleted in [false, true] {
        let mut world = settled();
        (world.panel.ports_show, world.panel.ports_follow) = (false, false);
        suspend(&mut world, true);
        by_hand(&mut world, "connectionOff", false);
        until_settled(&mut world);
        assert_suspended(&world);
        assert_eq!(world.tasks.len(), 1, "{}", world.describe());
        if deleted {
            world.delete("web");
            by_hand(&mut world, "connectionOn", true);
            world.until_phase("web", "gone");
            assert_released(&world, Kind::Plain);
        } else {
            suspend(&mut world, false);
            by_hand(&mut world, "connectionOn", true);
            until_settled(&mut world);
            assert_active(&world, Kind::Plain);
        }
        assert_eq!(world.tasks.len(), 2, "deleted: {deleted}\n{}", world.describe());
    }
}

/// A department is asked about one port of two: nothing tells of the other one, which nobody asked for.
#[test]
fn a_department_that_says_that_it_switched_a_port_is_not_believed_of_another_one() {
    for dead in [["1"].as_slice(), ["1", "3"].as_slice()] {
        let mut world = settled();
        (world.panel.ports_show, world.panel.ports_follow) = (false, false);
        world.panel.more_ports = vec!["3".into()];
        suspend(&mut world, true);
        until_settled(&mut world);
        world.panel.dead_ports = dead.iter().map(|id| (*id).to_owned()).collect();
        let at = world.asked.len();
        suspend(&mut world, false);
        for named in ["server/1/connection/1.", "server/1/connection/1,3."].into_iter().take(dead.len()) {
            world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
            let details = &world.tasks.last().unwrap().details;
            assert!(details.contains(&format!("target {named}")), "{details}");
            world.panel.server("1").port = true;
            world.resolve(TaskType::FailedOperation, Resolution::Done);
        }
        until_settled(&mut world);
        assert!(world.asked[at..].iter().any(|(_, call)| call.connection() == Some("3")), "{dead:?}\n{}", world.describe());
        // A port that failed is a department's from then on, and is asked about once.
        assert_eq!(world.tasks.len(), dead.len(), "{}", world.describe());
        assert_active(&world, Kind::Plain);
    }
}
