//! Power that does not come or go: it has its time, and only then that is said; what the panel itself calls an error is said at once.

use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::task::TaskType;
use dci_operator::panel::model::ServerId;
use dci_operator::provisioning::call::Call;

use crate::support::changes::{settled, suspend};
use crate::support::look::made;
use crate::support::panel::Ipmi;
use crate::support::seconds;
use crate::support::world::{Fault, World};

fn error(world: &World) -> &str {
    world.status("web").last_error.as_ref().map_or("", |e| e.code.as_str())
}

/// How long it takes from the call to the error.
fn told_after(world: &mut World, call: &str, code: &str) -> Duration {
    let before = made(world, call);
    world.until(call, Duration::from_hours(1), |w| made(w, call) > before);
    let asked = world.now;
    world.until(code, Duration::from_hours(1), |w| error(w) == code);
    assert_eq!(made(world, call), before + 1, "it is asked for once\n{}", world.describe());
    Duration::try_from(world.now.duration_since(asked)).unwrap()
}

#[test]
fn power_that_does_not_change_has_its_time_before_it_counts_as_failed() {
    let mut opening = World::simple(3, 6);
    opening.panel.server("1").ipmi = Ipmi::Dead;
    let mut stopping = settled();
    stopping.panel.server("1").ipmi = Ipmi::Dead;
    suspend(&mut stopping, true);
    for (mut world, call) in [(opening, "powerOn"), (stopping, "powerOff")] {
        let (least, poll) = (world.handler.power, world.handler.poll);
        let after = told_after(&mut world, call, "PowerTimeout");
        // Steps note their times in whole seconds.
        assert!(after + seconds(1) >= least && after <= least + 2 * poll + seconds(5), "{call}: {after:?}");
        let message = &world.status("web").last_error.as_ref().unwrap().message;
        assert!(message.contains(&dci_operator::api::Duration(least).to_string()), "{message}");
        world.panel.server("1").ipmi = Ipmi::Works;
        world.force("web");
        world.until("it goes on", Duration::from_hours(1), |w| ["Active", "Suspended"].contains(&w.phase("web")) && error(w).is_empty());
    }
}

#[test]
fn a_power_error_that_the_panel_shows_is_told_at_once() {
    let mut world = settled();
    world.panel.server("1").ipmi = Ipmi::Error;
    suspend(&mut world, true);
    let after = told_after(&mut world, "powerOff", "PowerError");
    assert!(after < world.handler.power, "{after:?}");
}

/// A department may switch it by hand meanwhile: nothing is asked for again.
#[test]
fn power_that_comes_late_is_no_failure() {
    let mut world = World::simple(3, 6);
    world.panel.server("1").ipmi = Ipmi::Dead;
    world.until("asked for", Duration::from_hours(1), |w| made(w, "powerOn") == 1);
    world.panel.server("1").on = true;
    world.until_phase("web", "Active");
    assert_eq!(made(&world, "powerOn"), 1);
    let on = Call::PowerOn { server: ServerId("1".into()) };
    assert_eq!(world.panel.journal.iter().filter(|c| **c == on).count(), 1);
    assert!(error(&world).is_empty());
}

/// The order goes while its server is being switched on: what the list shows is off, and comes on later than all calls had their time.
#[test]
fn a_server_that_is_coming_on_is_switched_off_before_it_is_released() {
    let mut world = World::simple(3, 6);
    world.panel.power_takes = world.handler.settle * 4;
    assert!(world.panel.power_takes < world.handler.power);
    world.until("asked for", Duration::from_hours(1), |w| made(w, "powerOn") == 1);
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!(made(&world, "powerOff"), 1, "{}", world.describe());
    assert!(!world.panel.server("1").on);
    // Where it never comes on, that is believed when its time is over.
    let mut world = World::simple(3, 6);
    world.panel.server("1").ipmi = Ipmi::Dead;
    world.until("asked for", Duration::from_hours(1), |w| made(w, "powerOn") == 1);
    let (asked, power) = (world.now, world.handler.power);
    world.delete("web");
    world.until_phase("web", "gone");
    assert!(Duration::try_from(world.now.duration_since(asked)).unwrap() + seconds(1) >= power);
    assert_eq!(made(&world, "powerOff"), 0);
}

/// What was not begun yet has not failed.
#[test]
fn a_step_that_has_not_come_is_pending() {
    let mut world = World::simple(3, 6);
    world.until("it installs", Duration::from_hours(1), |w| made(w, "install") == 1);
    let reasons =
        [ConditionType::ServerAllocated, ConditionType::NetworkConfigured, ConditionType::OSInstalled, ConditionType::RecipesApplied]
            .map(|type_| find(&world.status("web").conditions, type_).map(|c| (c.status.clone(), c.reason.clone())));
    let told: Vec<(String, String)> = reasons.into_iter().map(|c| c.map(|(s, r)| (format!("{s:?}"), r)).unwrap()).collect();
    assert_eq!(told.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>(), ["Done", "Done", "Pending", "Pending"]);
}

#[test]
fn a_server_that_stays_disabled_is_enabled_so_many_times_and_then_a_department_is_asked() {
    let mut world = World::simple(2, 4);
    world.until("claimed", Duration::from_hours(1), |w| w.status("web").server.is_some());
    (world.panel.server("1").disabled, world.panel.server("1").on) = (true, false);
    world.always = Some(("enable", Fault::Ignored));
    world.until("a department is asked", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let enabled = world.asked.iter().filter(|(_, call)| call.name() == "enable").count();
    assert_eq!(enabled, usize::try_from(world.handler.max_attempts).unwrap(), "{}", world.describe());
}

/// A suspension overtakes a power-on that the panel took: it may still come about when the server is free.
#[test]
fn a_power_on_that_a_suspension_overtook_is_waited_for_before_the_release() {
    let mut world = settled();
    world.panel.power_takes = world.handler.settle * 4;
    world.panel.server("1").on = false;
    let before = made(&world, "powerOn");
    world.until("asked for", Duration::from_hours(1), |w| made(w, "powerOn") > before);
    suspend(&mut world, true);
    world.until_phase("web", "Suspended");
    world.delete("web");
    world.until_phase("web", "gone");
    world.run_for(world.handler.power);
    assert!(!world.panel.server("1").on, "{}", world.describe());
}

/// The answer to a power-on is lost, and it takes longer than an answer has: given up as failed, it may still come about.
#[test]
fn a_power_on_that_was_given_up_is_waited_for_before_the_release() {
    let mut world = World::simple(3, 6);
    world.panel.power_takes = world.handler.settle * 4;
    world.handler.max_attempts = 1;
    world.faults.insert(2, Fault::LostApplied);
    world.until("given up", Duration::from_hours(1), |w| !w.open_tasks().is_empty());
    assert!(made(&world, "powerOn") == 1 && !world.panel.server("1").on, "{}", world.describe());
    world.delete("web");
    world.until_phase("web", "gone");
    world.run_for(world.handler.power);
    assert!(!world.panel.server("1").on, "{}", world.describe());
}
