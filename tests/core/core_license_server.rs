//! A licence server that is down, or that nobody may use: what waits for it, what does not, and what is said of it.

use std::time::Duration;

use crate::core_licenses::{active, made, monthly, order_licenses, stalled};
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_active, reach};
use crate::support::world::{Fault, World};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;

fn waits_for(world: &World) -> (String, String) {
    world.status("web").waiting_on.clone().map(|on| (on.name, on.message)).unwrap_or_default()
}

fn down() -> HandlerState {
    HandlerState::NotReady("down".into())
}

/// It may be there by the time that the server is prepared, and sell something else by then.
#[test]
fn a_server_is_prepared_while_its_licence_server_is_not_there() {
    for usable in [true, false] {
        let mut world = Kind::Licensed.world();
        (world.panel.licenses.usable, world.panel.licenses.state) = (usable, down());
        order_licenses(&mut world, &["Lite", "Nothing"]);
        world.until("it waits", Duration::from_hours(1), |w| waits_for(w).0 == "hosting/isp");
        assert!(world.panel.servers["1"].installs == 1 && stalled(&world).0.is_empty(), "{usable}\n{}", world.describe());
        let told = waits_for(&world).1;
        assert!(usable || told.ends_with("may not be used from the handler's namespace"), "{told}");
        (world.panel.licenses.usable, world.panel.licenses.state) = (true, HandlerState::Ready);
        order_licenses(&mut world, &["Pro", "Lite"]);
        reach(&mut world, "Active", Kind::Licensed);
        assert_active(&world, Kind::Licensed);
    }
}

#[test]
fn licences_that_can_be_ordered_nowhere_are_said_before_anything_is_asked_for() {
    let mut world = Kind::Licensed.world();
    world.handler.license_server = None;
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "LicenseServerNotReady");
    assert!(world.asked.is_empty(), "{}", world.describe());
}

/// Whatever else the order has already.
#[test]
fn nothing_is_bought_for_half_of_what_an_active_order_asks_for() {
    let mut world = monthly();
    order_licenses(&mut world, &["Lite", "Pro", "Nothing"]);
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "UnknownProduct");
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. })), 1, "{}", world.describe());
}

#[test]
fn a_licence_that_is_ordered_while_the_licence_server_is_down_is_waited_for() {
    let mut world = monthly();
    world.panel.licenses.state = down();
    order_licenses(&mut world, &["Lite", "Pro"]);
    world.run_for(Duration::from_hours(1));
    assert!(world.phase("web") != "Active" && waits_for(&world).0 == "hosting/isp", "{}", world.describe());
    world.panel.licenses.state = HandlerState::Ready;
    world.until("Active", Duration::from_hours(1), |w| w.phase("web") == "Active");
    assert_eq!(world.panel.licenses.orders["k8s:u-web/Pro"], 1, "{}", world.describe());
}

/// Their forms tell all that there is to know: the list that all orders share has shown them.
#[test]
fn licences_that_are_looked_at_again_cost_their_forms_alone() {
    let reads = [Kind::Plain, Kind::Licensed].map(|kind| {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.run_for(seconds(120));
        let before = world.reads;
        world.ask("web");
        world.run_for(seconds(20));
        world.reads - before
    });
    assert_eq!(reads[1], reads[0] + 2);
}

#[test]
fn a_licence_server_that_cannot_be_reached_is_waited_for_and_blamed_on_no_order() {
    let mut world = Kind::Licensed.world();
    world.always = Some(("orderLicense", Fault::Unreachable));
    world.until("it waits", Duration::from_hours(1), |w| waits_for(w).0 == "hosting/isp");
    world.run_for(Duration::from_hours(3));
    let status = world.status("web");
    assert!(status.attempts == 0 && world.tasks.is_empty(), "{}", world.describe());
    assert_eq!(waits_for(&world).0, "hosting/isp", "{}", world.describe());
}

#[test]
fn a_key_that_never_comes_is_told_in_the_time_that_an_installation_has() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.key_takes = Duration::from_hours(1000);
    world.handler.max_attempts = 1;
    world.until("keys are awaited", Duration::from_hours(1), |w| waits_for(w).0.contains("licence keys"));
    let most = world.handler.install + seconds(60);
    world.until("a task", most, |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains("LicenseKeyMissing: no key for Pro, Lite after"), "{told}");
    let now = world.now;
    world.panel.licenses.rows.values_mut().for_each(|b| b.key_at = now);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
}

/// The answer to a renewal is lost, and the licence server is down: the answer has its time before the renewal is taken for one that came.
#[test]
fn a_renewal_whose_answer_was_lost_has_its_time_while_the_licence_server_is_down() {
    let mut world = monthly();
    let end = crate::support::later(world.now, Duration::from_hours(24));
    world.panel.licenses.rows.values_mut().for_each(|b| b.expires = end);
    let asked = world.asked.len();
    world.faults.insert(asked, Fault::LostNot);
    world.until("it is asked for", Duration::from_hours(1), |w| w.asked.len() > asked);
    world.panel.licenses.state = down();
    world.run_for(world.handler.settle);
    assert!(world.status("web").in_flight.is_some(), "{}", world.describe());
    world.run_for(world.handler.settle + seconds(60));
    let status = world.status("web");
    assert!(status.in_flight.is_none() && world.phase("web") == "Active", "{}", world.describe());
    assert!(status.attempts_for.is_none(), "that an answer was lost is no failure to be counted on\n{}", world.describe());
}

/// The licence server goes down before it shows what became of a stop, or a start, which is not wanted any more: the service follows the spec
/// once that had its time, and so does the licence when its server is back.
#[test]
fn the_service_does_not_wait_for_a_licence_server_that_went_down_in_the_middle_of_a_change() {
    for (call, wanted) in [("suspendLicense", false), ("resumeLicense", true)] {
        let mut world = active();
        if wanted {
            world.edit("web", |raw| raw.spec.suspended = true);
            world.until_phase("web", "Suspended");
            world.run_for(seconds(60));
        }
        world.always = Some((call, Fault::LostLate(seconds(300))));
        world.edit("web", |raw| raw.spec.suspended = !wanted);
        world.until("it is asked for", Duration::from_hours(1), |w| w.asked.last().is_some_and(|(_, asked)| asked.name() == call));
        world.always = None;
        world.panel.licenses.state = down();
        world.edit("web", |raw| raw.spec.suspended = wanted);
        world.run_for(world.handler.settle);
        assert_eq!(world.status("web").in_flight.as_ref().map(|f| f.call.as_str()), Some(call), "{}", world.describe());
        world.until("the service follows", seconds(240), |w| w.panel.servers["1"].on != wanted);
        // What was asked for is done in the end, and is not wanted any more.
        world.run_for(seconds(300));
        world.panel.licenses.state = HandlerState::Ready;
        let phase = if wanted { "Suspended" } else { "Active" };
        world.until(phase, Duration::from_hours(1), |w| w.phase("web") == phase);
        assert!(world.panel.licenses.rows.values().all(|b| b.suspended == wanted), "{call}\n{}", world.describe());
    }
}
