//! How the addresses of a server change, call by call: what is gone on with at once, what is waited for, and what goes back.

use std::time::Duration;

use crate::support::look::{reason, until_reason};
use crate::support::panel::Replace;
use crate::support::sweep::{Kind, assert_active};
use crate::support::world::{Fault, World};
use dci_operator::panel::model::FREE_DOMAIN;

const REPLACE: &str = "replaceMainAddress";

fn names(world: &World) -> Vec<&'static str> {
    world.asked.iter().map(|(_, call)| call.name()).collect()
}

/// Whether everything that is in use at the address manager is one of the free servers' addresses.
fn is_given_back(world: &World) -> bool {
    world.panel.used.iter().all(|used| used.group == "parking")
}

#[test]
fn a_main_address_that_was_replaced_needs_no_list_to_go_on() {
    let mut world = Kind::Plain.world();
    world.until("replaced", Duration::from_hours(1), |w| names(w).contains(&REPLACE));
    let next = names(&world).into_iter().skip_while(|name| *name != REPLACE).nth(1);
    assert_eq!(next, Some("giveBackAddress"), "what it replaced goes back in the same pass\n{}", world.describe());
}

#[test]
fn an_address_that_is_added_beside_the_main_one_does_not_take_its_place() {
    let mut world = Kind::Plain.world();
    world.panel.replace = Replace::Beside;
    until_reason(&mut world, "MainAddressNotReplaced");
    let parking = world.panel.servers["1"].main;
    assert!(world.panel.servers["1"].rows.iter().any(|row| row.address == parking && row.domain == FREE_DOMAIN), "{}", world.describe());
    assert!(!names(&world).contains(&"install"), "{}", world.describe());
}

#[test]
fn an_answer_that_was_lost_is_not_said_to_be_one_that_was_given() {
    for kind in [Kind::Plain, Kind::ByPanel] {
        let mut world = kind.world();
        world.always = Some((REPLACE, Fault::LostNot));
        world.until("asked", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
        let waits = world.status("web").waiting_on.clone().unwrap().message;
        assert!(reason(world.status("web")) == "AnswerLost" && waits.contains("the answer to replaceMainAddress was lost"), "{waits}");
        world.always = None;
        world.until("asked again", Duration::from_mins(15), |w| names(w).iter().filter(|name| **name == REPLACE).count() == 2);
        assert_eq!(world.status("web").attempts, 0, "{kind:?}\n{}", world.describe());
        world.until_phase("web", "Active");
        assert_active(&world, kind);
    }
}

#[test]
fn what_was_to_be_the_main_address_goes_back_where_that_was_refused_and_not_where_nobody_was_asked() {
    for kind in [Kind::Plain, Kind::ByPanel] {
        let mut world = kind.world();
        let back = |w: &World| kind == Kind::ByPanel || is_given_back(w);
        let error = |w: &World| w.status("web").last_error.clone().map(|e| e.code).unwrap_or_default();
        world.always = Some((REPLACE, Fault::Unreachable));
        until_reason(&mut world, "HandlerNotReady");
        assert_eq!((error(&world).as_str(), world.status("web").attempts), ("", 0), "{kind:?}\n{}", world.describe());
        assert!(kind == Kind::ByPanel || !back(&world), "{}", world.describe());
        world.always = Some((REPLACE, Fault::Refused));
        for attempt in 1..=2 {
            world.until("refused", Duration::from_hours(1), |w| w.status("web").attempts == attempt);
            assert_eq!(
                (error(&world).as_str(), back(&world)),
                ("MainAddressNotReplaced", true),
                "{kind:?} {attempt}\n{}",
                world.describe()
            );
        }
        world.always = None;
        world.until_phase("web", "Active");
        assert_active(&world, kind);
        // A session that is not believed says nothing of addresses either.
        let mut world = kind.world();
        world.always = Some((REPLACE, Fault::Session));
        world.until("a failure", Duration::from_hours(1), |w| w.status("web").attempts == 1);
        assert_eq!(error(&world), "panel:session", "{kind:?}\n{}", world.describe());
        assert!(kind == Kind::ByPanel || !back(&world), "{}", world.describe());
        world.always = None;
        world.until_phase("web", "Active");
        assert_active(&world, kind);
    }
}

/// Nothing else is under way: what shows needs no time.
#[test]
fn a_last_change_whose_answer_was_lost_and_which_shows_is_not_waited_for() {
    let mut calls = Kind::Plain.world();
    calls.until("asked", Duration::from_hours(1), |w| names(w).contains(&"giveBackAddress"));
    let at = names(&calls).iter().position(|name| *name == "giveBackAddress").unwrap();
    for fault in [Fault::LostApplied, Fault::CrashAfter] {
        let mut world = Kind::Plain.world();
        world.faults.insert(at, fault);
        world.until("asked", Duration::from_hours(1), |w| w.asked.len() > at);
        world.until("an installation", Duration::from_mins(1), |w| names(w).contains(&"install"));
        world.until_phase("web", "Active");
        assert_active(&world, Kind::Plain);
    }
}
