//! What a suspension waits for, what it keeps its hands off, and what is left of it when it is called off, given up, or overtaken.

use std::time::Duration;

use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::facts::HandlerState;
use serde_json::json;

use super::{assert_suspended, made, reason, settled, since, suspend, until_reason, until_settled};
use crate::support::panel::{Operation, Panel, TEMPLATE};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};

/// Somebody runs something on the server by hand.
fn by_hand(world: &mut World, takes: Duration) {
    let (now, until) = (world.now, Some(later(world.now, takes)));
    world.panel.server("1").operation =
        Some(Operation { shows: now, shown: true, until, template: TEMPLATE.into(), fails: false, recipe_fails: false });
}

#[test]
fn a_suspension_that_is_called_off_before_it_began_leaves_no_trace() {
    let mut world = settled();
    world.state = HandlerState::Suspended;
    suspend(&mut world, true);
    world.run_for(seconds(300));
    let begun = |world: &World| world.status("web").steps.iter().any(|s| ["Suspend", "Resume", "PortsOn"].contains(&s.name.as_str()));
    assert!(begun(&world), "{}", world.describe());
    world.state = HandlerState::Ready;
    suspend(&mut world, false);
    until_settled(&mut world);
    assert!(!begun(&world), "{}", world.describe());
}

#[test]
fn a_suspension_that_a_department_has_cancelled_is_not_tried_again() {
    for (suspended, call) in [(true, "disable"), (true, "connectionOff"), (true, "powerOff"), (false, "enable"), (false, "connectionOn")] {
        let mut world = settled();
        world.panel.ports_follow = false;
        if !suspended {
            suspend(&mut world, true);
            until_settled(&mut world);
        }
        world.always = Some((call, Fault::Refused));
        suspend(&mut world, suspended);
        world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        until_reason(&mut world, "TaskCancelled");
        let at = world.asked.len();
        for _ in 0..4 {
            world.force("web");
            world.run_for(Duration::from_mins(20));
        }
        assert_eq!((since(&world, at).len(), reason(&world)), (0, "TaskCancelled"), "{call}: {}", world.describe());
    }
}

#[test]
fn what_a_department_has_cancelled_is_told_also_while_the_panel_is_down() {
    for resumed in [false, true] {
        let mut world = settled();
        if resumed {
            suspend(&mut world, true);
            until_settled(&mut world);
            suspend(&mut world, false);
            until_settled(&mut world);
        }
        world.always = Some(("setDomain", Fault::Refused));
        world.edit("web", |raw| raw.spec.domain = "other.example.net".into());
        world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        until_reason(&mut world, "TaskCancelled");
        world.state = HandlerState::NotReady("down".into());
        world.force("web");
        world.run_for(seconds(300));
        assert_eq!(reason(&world), "TaskCancelled", "resumed: {resumed}\n{}", world.describe());
    }
}

/// The client has nothing yet that could be stopped.
#[test]
fn an_order_that_waits_for_addresses_in_preparation_is_not_suspended_yet() {
    let mut world = World::new(Panel::new(3, 0), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["suspended"] = json!(true)));
    until_reason(&mut world, "WaitingForCapacity");
    world.run_for(Duration::from_hours(1));
    assert_eq!((made(&world, "disable"), reason(&world)), (0, "WaitingForCapacity"), "{}", world.describe());
}

/// The list is answered, and what is read of the server alone is not: somebody has to look at it.
#[test]
fn a_suspension_whose_server_cannot_be_read_is_told_as_what_it_is() {
    for (suspended, step) in [(true, "Suspend"), (false, "Resume")] {
        let mut world = settled();
        if !suspended {
            suspend(&mut world, true);
            until_settled(&mut world);
        }
        world.read_faults.extend(world.reads..world.reads + 100_000);
        suspend(&mut world, suspended);
        world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
        assert_eq!(world.tasks[0].summary, format!("{step} of order shop/web failed"));
    }
}

/// The panel takes it, shows that it is at it, and the port is as it was.
#[test]
fn a_port_that_does_not_stay_switched_becomes_a_task_after_so_many_tries() {
    let mut world = settled();
    (world.panel.ports_follow, world.panel.ports_take) = (false, seconds(300));
    suspend(&mut world, true);
    let end = later(world.now, Duration::from_hours(2));
    while world.open_tasks().is_empty() {
        assert!(world.now < end, "no task\n{}", world.describe());
        world.step();
        world.panel.server("1").port_change = None;
    }
    assert_eq!(made(&world, "connectionOff"), usize::try_from(world.handler.max_attempts).unwrap(), "{}", world.describe());
    assert!(world.tasks[0].details.contains("said that it switched connection 1"), "{}", world.tasks[0].details);
}

#[test]
fn what_somebody_runs_by_hand_is_not_cut_short_by_a_suspension() {
    let mut world = settled();
    world.panel.server("1").on = true;
    by_hand(&mut world, Duration::from_hours(1));
    let at = world.asked.len();
    suspend(&mut world, true);
    world.run_for(Duration::from_mins(50));
    assert!(since(&world, at) == ["disable"] && world.panel.servers["1"].on, "{}", world.describe());
    until_settled(&mut world);
    assert_suspended(&world);
    // Enabled by hand for that: it is left so until that ends.
    by_hand(&mut world, Duration::from_hours(1));
    let server = world.panel.server("1");
    (server.disabled, server.on) = (false, true);
    let at = world.asked.len();
    world.run_for(Duration::from_mins(50));
    assert_eq!(since(&world, at), [] as [&str; 0], "{}", world.describe());
    world.until("suspended again", Duration::from_hours(1), |w| w.panel.servers["1"].disabled && !w.panel.servers["1"].on);
}

/// A call that was lost before is none of the attempts of another one.
#[test]
fn a_lost_answer_to_a_resumption_is_no_failed_attempt_of_the_power_off() {
    let mut world = World::new(Panel::new(3, 6), handler(|h| h["retry"]["maxAttempts"] = json!(1)));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    suspend(&mut world, true);
    until_settled(&mut world);
    let at = world.asked.len();
    world.faults.insert(at, Fault::LostApplied);
    suspend(&mut world, false);
    world.until("asked for", seconds(600), |w| w.asked.len() > at);
    world.panel.server("1").on = true;
    world.list();
    world.delete("web");
    world.until_phase("web", "gone");
    assert!(world.tasks.is_empty(), "{}", world.describe());
}

#[test]
fn the_status_names_the_call_whose_answer_is_missing_and_why() {
    let mut world = settled();
    let at = world.asked.len();
    world.faults.insert(at, Fault::LostNot);
    suspend(&mut world, true);
    until_reason(&mut world, "AnswerLost");
    let error = world.status("web").last_error.clone().unwrap();
    assert_eq!((error.step.as_str(), error.retryable), ("Suspend", true));
    let waits = world.status("web").waiting_on.clone().unwrap();
    assert!(waits.message.contains("disable") && waits.message.contains("reset"), "{}", waits.message);
}

/// A department looks after a server that was changed by hand: its question is not why an answer is missing.
#[test]
fn what_is_said_of_a_lost_answer_is_not_what_another_step_failed_for() {
    let mut world = settled();
    world.panel.server("1").owner = None;
    until_reason(&mut world, "OwnerChanged");
    let at = world.asked.len();
    world.faults.insert(at, Fault::CrashBefore);
    suspend(&mut world, true);
    until_reason(&mut world, "AnswerLost");
    let message = world.status("web").waiting_on.clone().unwrap().message;
    assert!(message.starts_with("the answer to disable was lost; "), "{message}");
}

/// A list that is older than the time that the call had tells nothing of it.
#[test]
fn a_server_whose_suspension_has_no_answer_is_enabled_before_it_is_switched_off() {
    for late in (10..=150).step_by(70).map(seconds) {
        let mut world = settled();
        world.handler.poll = Duration::from_mins(20);
        world.list();
        world.next_list = later(world.now, world.handler.poll);
        let at = world.asked.len();
        world.faults.insert(at, Fault::LostLate(late));
        suspend(&mut world, true);
        world.until("asked for", seconds(600), |w| w.asked.len() > at);
        world.delete("web");
        world.until_phase("web", "gone");
        assert_eq!(since(&world, at)[..3], ["disable", "enable", "powerOff"], "{late:?}\n{}", world.describe());
        world.assert_clean();
    }
}

/// Neither on nor off: nobody knows.
#[test]
fn a_power_that_the_panel_does_not_show_is_not_taken_for_off() {
    let mut world = settled();
    world.panel.power_hidden = true;
    suspend(&mut world, true);
    world.until("asked for", Duration::from_hours(1), |w| made(w, "powerOff") == 1);
    world.run_for(seconds(60));
    assert_ne!(world.phase("web"), "Suspended", "{}", world.describe());
    world.panel.power_hidden = false;
    until_settled(&mut world);
    assert_suspended(&world);
}
