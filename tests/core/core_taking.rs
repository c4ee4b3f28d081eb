//! Addresses that are taken: which one it was, whose it is, and where it is shown.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::look::{note_of, takes};
use crate::support::pool::Groups;
use crate::support::sweep::{Kind, assert_active, assert_released, reach};
use crate::support::world::{Fault, World};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;

/// Whether an address was given back since so many calls were made.
fn is_given_back(world: &World, since: usize, address: &str) -> bool {
    let call = Call::GiveBack { address: address.parse().unwrap() };
    world.asked[since..].iter().any(|(_, asked)| *asked == call)
}

/// Two orders take an address at the same time, and the address manager gives both the same one: there is no compare-and-swap.
#[test]
fn an_address_that_another_order_has_noted_is_left_to_it_and_another_one_is_taken() {
    for kind in [Kind::Plain, Kind::Several] {
        for (phase, group) in [("Active", "public"), ("gone", "parking")] {
            let mut world = kind.world();
            if phase == "gone" {
                reach(&mut world, "Active", kind);
                world.delete("web");
            }
            world.panel.noted_over = 1;
            let (asked, before) = (world.asked.len(), takes(&world));
            let theirs = world.panel.free[group].iter().copied().min().unwrap();
            reach(&mut world, phase, kind);
            let tell = || format!("{kind:?} {phase}\n{}", world.describe());
            assert_eq!(note_of(&world, theirs).as_deref(), Some("k8s:u-other"), "{}", tell());
            assert!(!is_given_back(&world, asked, &theirs.to_string()) && world.tasks.is_empty(), "{}", tell());
            assert!(world.panel.servers.values().flat_map(|s| &s.rows).all(|row| row.address != theirs), "{}", tell());
            let needed = if phase == "gone" { 1 } else { kind.wanted().0 + kind.wanted().1 };
            assert_eq!(takes(&world) - before, needed + 1, "{}", tell());
        }
    }
}

#[test]
fn an_address_manager_that_gives_everybody_s_addresses_is_asked_a_few_times_and_told_of() {
    let mut world = Kind::Plain.world();
    world.panel.noted_over = usize::MAX;
    world.until("a failure", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
    let error = world.status("web").last_error.clone().unwrap();
    assert_eq!((error.code.as_str(), takes(&world)), ("AddressTaken", 3), "{}", world.describe());
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        assert!(error.message.contains(address) && !is_given_back(&world, 0, address), "{}", error.message);
    }
    world.panel.noted_over = 0;
    world.until_phase("web", "Active");
    assert!(world.tasks.is_empty());
}

/// That the answer names what was taken is inferred: what somebody had before is not given back on its word.
#[test]
fn an_answer_that_names_somebody_else_s_address_frees_none() {
    for kind in [Kind::Plain, Kind::Several] {
        // The parking address of another server, which has no note, and the order's own.
        for named in ["10.0.0.2", "10.0.0.1"] {
            let mut world = kind.world();
            world.panel.names = Some(named.parse().unwrap());
            reach(&mut world, "Active", kind);
            assert_active(&world, kind);
            assert!(note_of(&world, "10.0.0.2".parse().unwrap()).is_some() && world.tasks.is_empty(), "{}", world.describe());
            world.delete("web");
            reach(&mut world, "gone", kind);
            assert_released(&world, kind);
            assert!(!is_given_back(&world, 0, "10.0.0.2"), "{kind:?} {named}\n{}", world.describe());
        }
    }
}

#[test]
fn an_address_that_stands_on_a_server_is_not_given_back_for_want_of_a_note() {
    // The main address of another server, and the one that the order's own server still has.
    for named in ["10.0.0.2", "10.0.0.1"] {
        let mut world = World::simple(2, 4);
        let address: IpAddr = named.parse().unwrap();
        world.panel.used.retain(|used| used.address != address);
        (world.panel.names, world.panel.note_max) = (Some(address), 0);
        world.until("a failure", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
        let error = world.status("web").last_error.as_ref().unwrap();
        assert!(error.code == "NoEffect" && error.message.contains(named), "{error:?}");
        assert!(!is_given_back(&world, 0, named), "{}", world.describe());
    }
}

#[test]
fn a_list_that_shows_groups_in_two_forms_is_read_by_either() {
    for kind in [Kind::Plain, Kind::Several, Kind::NoParking] {
        let mut world = kind.world();
        world.panel.groups = Groups::Both;
        reach(&mut world, "Active", kind);
        assert_active(&world, kind);
        world.delete("web");
        reach(&mut world, "gone", kind);
        assert_released(&world, kind);
        assert!(world.tasks.is_empty(), "{kind:?}");
    }
}

/// Another parking address would be shown no better: one is taken, and a person is told of it.
#[test]
fn a_list_that_does_not_name_the_groups_drains_none_and_what_stays_taken_is_told() {
    for groups in [Groups::Numbered, Groups::Unsaid] {
        let mut world = World::simple(2, 4);
        world.panel.groups = groups;
        world.until_phase("web", "Active");
        let said = world.status("web").steps.iter().find(|s| s.name == "ChangeAddress").unwrap().message.clone();
        assert!(said.contains("address 10.0.0.1 was replaced and stays taken"), "{groups:?}: {said}");
        let before = takes(&world);
        world.delete("web");
        world.until("a task", Duration::from_hours(6), |w| !w.tasks.is_empty());
        world.run_for(Duration::from_hours(6));
        assert_eq!((takes(&world) - before, world.open_tasks().as_slice()), (1, [TaskType::FailedOperation].as_slice()), "{groups:?}");
        let error = world.status("web").last_error.as_ref().unwrap();
        assert_eq!((error.step.as_str(), error.code.as_str()), ("ParkAddress", "UnknownGroup"));
        assert!(error.message.contains("address 10.0.1.1 was taken") && world.tasks[0].details.contains("10.0.1.1"), "{error:?}");
        // The list is put right.
        world.panel.groups = Groups::Named;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", "gone");
        assert_eq!(takes(&world) - before, 1, "{groups:?}\n{}", world.describe());
        let mut used: Vec<String> = world.panel.used.iter().map(|u| format!("{}{}", u.address, u.note)).collect();
        used.sort_unstable();
        assert_eq!(used, ["10.0.0.1", "10.0.0.2", "10.0.1.1"], "{groups:?}: but for what was told nothing is left");
        assert_eq!(world.panel.servers["1"].main.to_string(), "10.0.1.1");
    }
}

#[test]
fn a_public_address_that_is_shown_as_one_of_parking_is_taken_once_in_each_attempt_and_goes_back_in_the_end() {
    let mut world = Kind::Plain.world();
    world.panel.groups = Groups::Parking;
    world.until("a failure", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
    assert_eq!((world.status("web").last_error.as_ref().unwrap().code.as_str(), takes(&world)), ("UnknownGroup", 1));
    world.until("a task", Duration::from_hours(6), |w| !w.tasks.is_empty());
    assert_eq!(takes(&world), 3, "one in each attempt");
    world.panel.groups = Groups::Named;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
    assert_active(&world, Kind::Plain);
    assert_eq!(takes(&world), 3);
}

/// It says nothing of the addresses that there are.
#[test]
fn a_session_that_is_refused_is_a_failure_and_no_lack_of_addresses() {
    let mut world = World::simple(2, 4);
    world.always = Some(("takeAddress", Fault::Session));
    world.until("a failure", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
    let (error, waits) = (world.status("web").last_error.clone().unwrap(), world.status("web").waiting_on.clone().unwrap());
    assert_eq!((error.step.as_str(), error.code.as_str(), waits.kind.as_str()), ("ChangeAddress", "panel:session", "Retry"));
    world.always = None;
    world.until_phase("web", "Active");
}
