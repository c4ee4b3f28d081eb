//! Claims whose server goes out of sight, or changes hands, before it is known what became of them.

use std::time::Duration;

use crate::support::look::{reason, until_reason};
use crate::support::panel::ADMIN;
use crate::support::seconds;
use crate::support::world::{Fault, World};
use dci_operator::panel::model::{Level, PanelUser};

const MARKER: &str = "k8s:cluster-1/shop/web/u-web";

/// What was asked for of claims, and the servers.
fn claims(world: &World) -> Vec<String> {
    let asked = world.asked.iter().filter(|(_, call)| call.name().ends_with("laim"));
    asked.map(|(_, call)| format!("{} {}", call.name(), call.server().map_or("", |server| server.0.as_str()))).collect()
}

fn server_of(world: &World) -> Option<&str> {
    world.status("web").server.as_ref().map(|s| s.id.as_str())
}

/// A claim that this happens to, right after it was sent.
fn claiming(fault: Fault) -> World {
    let mut world = World::simple(3, 6);
    world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world.faults.insert(1, fault);
    world.until("a claim", Duration::from_hours(1), |w| w.asked.len() > 1);
    world
}

/// The panel's list goes on to show the server: the order may have it, and takes no second one.
#[test]
fn a_claim_whose_server_has_no_form_for_a_while_is_looked_for_again() {
    // The answer never came, or it came and nobody can see what it was worth.
    for fault in [Fault::CrashAfter, Fault::Nothing] {
        let mut world = World::simple(3, 6);
        world.faults.insert(1, fault);
        world.missed_after_claim = true;
        world.run_for(Duration::from_hours(1));
        assert_eq!((claims(&world), server_of(&world)), (vec!["claim 1".to_owned()], None), "{fault:?}\n{}", world.describe());
        world.panel.forms_missed.clear();
        world.until_phase("web", "Active");
        assert_eq!((claims(&world), server_of(&world)), (vec!["claim 1".to_owned()], Some("1")), "{fault:?}\n{}", world.describe());
    }
}

#[test]
fn a_claim_whose_server_the_panel_does_not_have_any_more_is_over() {
    for goes in [false, true] {
        let mut world = claiming(Fault::CrashBefore);
        world.panel.server("1").gone = true;
        if goes {
            world.delete("web");
            world.until("gone", Duration::from_hours(1), |w| !w.orders.contains_key("web"));
            continue;
        }
        world.until("another one", Duration::from_hours(1), |w| server_of(w).is_some());
        assert_eq!(
            (claims(&world), server_of(&world)),
            (vec!["claim 1".to_owned(), "claim 2".to_owned()], Some("2")),
            "{}",
            world.describe()
        );
    }
}

/// The panel refuses the claim since it misses something of the server: that is told, nothing is in flight there, and another one is taken.
#[test]
fn a_claim_that_was_refused_for_a_server_whose_form_is_missed_since_is_told_and_not_waited_for() {
    let mut world = World::simple(3, 6);
    world.before_claim = Some(|panel| {
        panel.forms_missed.insert("1".into());
    });
    until_reason(&mut world, "Retrying");
    assert_eq!((claims(&world), world.status("web").in_flight.is_some()), (vec!["claim 1".to_owned()], false), "{}", world.describe());
    world.until("another one", Duration::from_mins(20), |w| server_of(w).is_some());
    assert_eq!((claims(&world), server_of(&world)), (vec!["claim 1".to_owned(), "claim 2".to_owned()], Some("2")), "{}", world.describe());
}

/// The panel says that it was done, and another user has the server: it is lost, and there is nothing to wait for.
#[test]
fn a_claim_that_was_answered_and_lost_to_another_user_is_followed_by_the_next_at_once() {
    let mut world = World::simple(3, 6);
    world.faults.insert(1, Fault::Ignored);
    world.before_claim = Some(|panel| panel.server("1").owner = Some("7".into()));
    world.until("another one", seconds(60), |w| server_of(w).is_some());
    assert_eq!((claims(&world), server_of(&world)), (vec!["claim 1".to_owned(), "claim 2".to_owned()], Some("2")), "{}", world.describe());
}

#[test]
fn a_claim_that_is_seen_to_be_undone_is_over_at_once() {
    for kept in [0, 20] {
        let mut world = World::simple(2, 4);
        world.panel.notes_max = kept;
        world.until("told", seconds(60), |w| reason(w.status("web")) == "MarkerTruncated");
        assert_eq!(claims(&world), ["claim 1", "unclaim 1"], "{}", world.describe());
        assert!(world.status("web").in_flight.is_none(), "{}", world.describe());
    }
}

/// A word that every marker begins with, on a server that another user has by now.
#[test]
fn a_word_of_somebody_else_s_is_not_undone_when_the_order_goes() {
    let mut world = claiming(Fault::CrashBefore);
    let server = world.panel.server("1");
    (server.owner, server.notes) = (Some("7".into()), "k8s: ask the desk".into());
    world.delete("web");
    world.until_phase("web", "gone");
    let server = &world.panel.servers["1"];
    assert_eq!((server.owner.as_ref().map(|o| o.0.as_str()), server.notes.as_str()), (Some("7"), "k8s: ask the desk"));
    assert_eq!(claims(&world), ["claim 1"], "{}", world.describe());
}

/// Somebody takes away what is left of a claim after the notes were read for the list: nobody has to be asked.
#[test]
fn what_was_left_of_a_claim_when_the_list_was_read_is_looked_for_in_the_form() {
    let mut world = World::simple(1, 4);
    world.panel.notes_max = 26;
    until_reason(&mut world, "MarkerTruncated");
    let operator = world.panel.user(ADMIN).map(|user| user.id.clone());
    let server = world.panel.server("1");
    (server.owner, server.notes) = (operator, MARKER[..26].into());
    world.list();
    let server = world.panel.server("1");
    (server.owner, server.notes) = (None, String::new());
    world.delete("web");
    world.pass("web");
    assert_eq!(world.orders.get("web").map(|o| reason(&o.status)), Some("WaitingForPanel"), "{}", world.describe());
    world.until("gone", Duration::from_mins(10), |w| !w.orders.contains_key("web"));
    assert!(world.tasks.is_empty(), "{}", world.describe());
}
