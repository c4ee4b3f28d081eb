//! Addresses that are taken: which one it was, whose it is, and where it is shown.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::look::{note_of, takes};
use crate::support::sweep::{Kind, assert_active, assert_released, reach};
use crate::support::world::World;
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
