//! Closing, as tables of scenarios: in every state of an order, and with servers that are not what they were.

use std::time::Duration;

use crate::support::look::{active, made, picture, reason, stalled, until_reason};
use crate::support::panel::Panel;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};
use dci_operator::api::Time;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::facts::{HandlerState, Prepare};
use serde_json::json;

#[test]
fn an_order_that_never_got_anything_needs_no_panel() {
    for state in [HandlerState::NotReady("down".into()), HandlerState::Suspended] {
        let mut world = World::simple(1, 4);
        world.state = state;
        world.step();
        let reads = world.reads;
        world.delete("web");
        world.until_phase("web", "gone");
        assert!(world.asked.is_empty() && world.reads == reads);
    }
    let mut world = World::simple(0, 4);
    until_reason(&mut world, "WaitingForCapacity");
    world.state = HandlerState::NotReady("down".into());
    world.delete("web");
    world.until_phase("web", "gone");
}

/// A copy of the claim that a network made may land late: after the release it would mark a server that is free.
#[test]
fn a_release_waits_until_what_was_asked_for_before_has_had_its_time() {
    let released = |world: &World| made(world, "release") == 1;
    let mut world = World::simple(1, 4);
    world.until("claimed", Duration::from_hours(1), |w| made(w, "claim") == 1);
    let claimed = world.now;
    world.delete("web");
    world.until("released", Duration::from_hours(1), released);
    assert!(world.now > later(claimed, world.handler.settle), "{} after {claimed}", world.now);
    world.until_phase("web", "gone");
    // A step that is cut short counts as having asked until closing began.
    let mut world = World::simple(1, 4);
    world.until("installing", Duration::from_hours(1), |w| w.panel.servers["1"].operation.is_some());
    world.run_for(world.handler.settle * 3);
    let deleted = world.now;
    world.delete("web");
    world.until("released", Duration::from_hours(1), released);
    assert!(world.now > later(deleted, world.handler.settle), "{} after {deleted}", world.now);
    // What has been at rest for long has nothing to wait for.
    let mut world = active();
    world.run_for(world.handler.settle);
    let deleted = world.now;
    world.delete("web");
    world.until("released", Duration::from_hours(1), released);
    assert!(world.now < later(deleted, world.handler.settle), "{} after {deleted}", world.now);
    // A clock that was put back makes nobody wait for days.
    let mut world = active();
    let ahead = Time::seconds(later(world.now, Duration::from_hours(72)));
    for step in &mut world.orders.get_mut("web").unwrap().status.steps {
        step.finished_at = step.finished_at.map(|_| ahead);
    }
    let deleted = world.now;
    world.delete("web");
    world.until("released", Duration::from_hours(1), released);
    assert!(world.now > later(deleted, world.handler.settle), "{} after {deleted}", world.now);
}

#[test]
fn a_server_that_is_gone_counts_as_released_after_two_lists() {
    for deleted_first in [true, false] {
        let mut world = active();
        if deleted_first {
            world.delete("web");
            world.panel.server("1").gone = true;
        } else {
            world.panel.server("1").gone = true;
            until_reason(&mut world, "ServerGone");
            world.delete("web");
        }
        world.until_phase("web", "gone");
        assert!(world.panel.used.iter().all(|u| u.note.is_empty()), "its addresses are given back");
        assert!(world.panel.servers.values().filter(|s| s.owner.is_some()).count() == 1, "no other server is touched");
    }
    // Not seen once is nothing.
    let mut world = active();
    let list = |w: &World| w.inventory.as_ref().map(|i| i.began);
    let seen = list(&world);
    world.panel.server("1").gone = true;
    world.delete("web");
    world.until("one list", seconds(60), |w| list(w) != seen);
    world.panel.server("1").gone = false;
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn a_server_with_a_foreign_marker_or_owner_is_never_touched() {
    type Change = fn(&mut World);
    let foreign = "k8s:other/a/b/c";
    let rows: [(&str, &str, Change); 5] = [
        ("the marker is gone", "NotOurServer", |w| w.panel.server("1").notes.clear()),
        ("another marker", "NotOurServer", |w| w.panel.server("1").notes = "k8s:other/a/b/c".into()),
        ("another one beside ours", "NotOurServer", |w| w.panel.server("1").notes.push_str(" k8s:other/a/b/c")),
        ("another owner", "OwnerChanged", |w| w.panel.server("1").owner = Some(UserId("7".into()))),
        ("off, and another marker", "NotOurServer", |w| {
            w.panel.server("1").notes = "k8s:other/a/b/c".into();
            w.panel.server("1").on = false;
        }),
    ];
    for (what, wanted, change) in rows {
        for kind in [Kind::Plain, Kind::DisableIpChange, Kind::ByPanel, Kind::NoParking] {
            let mut world = kind.world();
            world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
            reach(&mut world, "Active", kind);
            world.delete("web");
            change(&mut world);
            let before = picture(&world);
            until_reason(&mut world, wanted);
            world.run_for(Duration::from_hours(2));
            assert_eq!(picture(&world), before, "{what}, {kind:?}: {foreign}");
            assert!(stalled(&world) && world.phase("web") == "Deleting");
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{what}, {kind:?}");
        }
    }
}

#[test]
fn a_server_that_drifted_is_taken_back_when_it_is_put_right_and_let_go_when_it_is_given_up() {
    type Change = fn(&mut World);
    let rows: [(&str, Change, Change); 2] = [
        ("NotOurServer", |w| w.panel.server("1").notes.clear(), |w| w.panel.server("1").notes = "k8s:cluster-1/shop/web/u-web".into()),
        (
            "OwnerChanged",
            |w| w.panel.server("1").owner = Some(UserId("7".into())),
            |w| {
                w.panel.server("1").owner = w.panel.user("acme").map(|u| u.id.clone());
            },
        ),
    ];
    for (wanted, drift, cure) in rows {
        // Before the deletion, which closes what was asked for then, and after it.
        for early in [true, false] {
            let drifted = || {
                let mut world = Kind::Plain.world();
                world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
                reach(&mut world, "Active", Kind::Plain);
                if early {
                    drift(&mut world);
                    world.run_for(Duration::from_mins(10));
                }
                world.delete("web");
                drift(&mut world);
                world.until("Deleting", Duration::from_hours(1), |w| w.phase("web") == "Deleting" && stalled(w));
                assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{wanted}, {early}");
                world
            };
            for answer in [Resolution::Retry, Resolution::Done, Resolution::Cancelled] {
                let mut world = drifted();
                let before = picture(&world);
                world.resolve(TaskType::FailedOperation, answer);
                world.run_for(Duration::from_hours(1));
                assert_eq!((picture(&world), world.open_tasks()), (before, vec![TaskType::FailedOperation]), "{wanted}: asked again");
                assert!(world.tasks.len() <= 3, "{} tasks", world.tasks.len());
            }
            let mut world = drifted();
            cure(&mut world);
            world.until_phase("web", "gone");
            world.assert_clean();
            assert!(world.open_tasks().is_empty(), "nobody needs it any more");
            let mut world = drifted();
            let before = picture(&world);
            world.resolve(TaskType::FailedOperation, Resolution::Abandon);
            world.until_phase("web", "gone");
            assert_eq!(picture(&world), before, "{wanted}: everything stays as it is");
        }
    }
}

/// The panel's records were put back to before the order: they say that the server is off, and has a parking address only.
#[test]
fn what_records_that_were_set_back_say_of_a_server_is_not_believed_of_the_order_s() {
    let unsold = Panel::new(3, 6).servers["1"].clone();
    let mut world = active();
    let sold = world.panel.server("1").clone();
    assert!(sold.on && !unsold.on, "{sold:?} {unsold:?}");
    *world.panel.server("1") = unsold;
    world.delete("web");
    world.until("told", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.run_for(Duration::from_hours(1));
    assert_eq!((made(&world, "powerOff"), world.status("web").server.clone().unwrap().main_address), (0, Some(sold.main.to_string())));
    // Put right, it is switched off and given back without anybody's answer.
    *world.panel.server("1") = sold;
    world.until_phase("web", "gone");
    assert_eq!(made(&world, "powerOff"), 1);
    world.assert_clean();
    assert!(world.open_tasks().is_empty(), "nobody needs it any more");
}

/// The order is created anew without its status, as after a restore.
fn restore(world: &mut World, uid: &str, annotation: Option<&str>) {
    world.orders.remove("web");
    world.restart();
    let raw = order("web", uid, |raw| {
        if let Some(id) = annotation {
            raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": id});
        }
    });
    world.add(raw);
}

#[test]
fn a_restored_order_finds_its_server_and_never_installs_it_again() {
    for by_panel in [false, true] {
        let mut world =
            World::new(Panel::new(3, 4), handler(|h| h["ipManagement"]["allocateBy"] = json!(if by_panel { "Panel" } else { "Operator" })));
        world.add(order("web", "u-web", |_| ()));
        world.until_phase("web", "Active");
        let (asked, before) = (world.asked.len(), picture(&world));
        restore(&mut world, "u-new", Some("u-web"));
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        assert_eq!((picture(&world), world.asked.len()), (before, asked), "by panel {by_panel}\n{}", world.describe());
        assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some("1"));
        // What is found again is also taken back.
        world.delete("web");
        world.until_phase("web", "gone");
        world.assert_clean();
        // And so it is without ever having been Active again.
    }
    let mut world = active();
    restore(&mut world, "u-new", Some("u-web"));
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// Its status names the server, so that nobody else can have the addresses.
#[test]
fn a_restored_order_whose_server_is_gone_gives_its_addresses_back() {
    let mut world = active();
    restore(&mut world, "u-new", Some("u-web"));
    world.until_phase("web", "Active");
    world.panel.server("1").gone = true;
    until_reason(&mut world, "ServerGone");
    world.delete("web");
    world.until_phase("web", "gone");
    assert!(world.panel.used.iter().all(|used| used.note.is_empty()) && world.open_tasks().is_empty(), "{}", world.describe());
}

#[test]
fn nothing_is_taken_or_let_go_before_every_server_was_looked_at() {
    for deleted in [false, true] {
        let mut world = active();
        let asked = world.asked.len();
        restore(&mut world, "u-new", Some("u-web"));
        world.index_fails = 5;
        if deleted {
            world.delete("web");
        }
        world.run_for(seconds(120));
        assert_eq!((world.asked.len(), world.orders.len()), (asked, 1), "deleted {deleted}\n{}", world.describe());
        world.until_phase("web", if deleted { "gone" } else { "Active" });
        assert_eq!(world.panel.servers.values().filter(|s| s.owner.is_some()).count(), usize::from(!deleted));
    }
}

#[test]
fn whose_a_client_is_is_not_settled_before_every_server_of_his_was_looked_at() {
    // The marker of another namespace's order may stand on one of them.
    let mut world = active();
    world.missing = Some(Prepare::ClientName);
    restore(&mut world, "u-new", Some("u-web"));
    world.index_fails = 5;
    world.run_for(seconds(60));
    assert_eq!(reason(world.status("web")), "WaitingForPanel", "{}", world.describe());
    until_reason(&mut world, "ClientNameTaken");
}

#[test]
fn an_order_restored_in_preparation_goes_on_with_its_server() {
    for steps in 1..14 {
        let mut world = World::simple(3, 4);
        for _ in 0..steps {
            world.step();
        }
        if world.status("web").server.is_none() {
            continue;
        }
        restore(&mut world, "u-new", Some("u-web"));
        world.until_phase("web", "Active");
        assert_eq!(world.panel.servers.values().filter(|s| s.owner.is_some()).count(), 1);
        assert_eq!(world.panel.used.iter().filter(|u| u.note == "k8s:u-web").count(), 1);
    }
}

#[test]
fn an_order_recreated_under_the_same_name_takes_no_second_server() {
    let mut world = active();
    let before = picture(&world);
    restore(&mut world, "u-new", None);
    until_reason(&mut world, "PreviousServerFound");
    world.run_for(Duration::from_hours(1));
    assert_eq!(picture(&world), before);
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!(picture(&world), before, "and does not release the other one's");
}

/// Restored into another cluster, or under another name: the order that has this id may still be alive there.
#[test]
fn an_id_that_a_server_carries_elsewhere_is_neither_taken_over_nor_given_back_and_gets_no_second_server() {
    for (from, to, way) in [
        ("k8s:cluster-1/", "k8s:cluster-0/", "start the operator with --cluster-id=cluster-0"),
        ("/shop/web/", "/shop/old/", "restore the order as shop/old"),
    ] {
        for deleted in [false, true] {
            let mut world = active();
            let notes = &mut world.panel.server("1").notes;
            assert!(notes.contains(from), "{notes}");
            *notes = notes.replace(from, to);
            let before = picture(&world);
            restore(&mut world, "u-new", Some("u-web"));
            if deleted {
                world.delete("web");
            }
            until_reason(&mut world, "OrderIdElsewhere");
            let told = world.status("web").last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
            assert!(told.contains(way), "{told}");
            world.run_for(Duration::from_hours(1));
            assert_eq!(picture(&world), before, "{to}, deleted {deleted}\n{}", world.describe());
            // The cluster id of the old cluster is what takes it over, or gives it back.
            let notes = &mut world.panel.server("1").notes;
            *notes = notes.replace(to, from);
            world.restart();
            world.until_phase("web", if deleted { "gone" } else { "Active" });
            assert_eq!(world.panel.servers.values().filter(|s| s.owner.is_some()).count(), usize::from(!deleted));
        }
    }
}

#[test]
fn a_handler_that_is_not_ready_or_suspended_stops_closing_anywhere() {
    for at in 0..8 {
        for state in [HandlerState::NotReady("down".into()), HandlerState::Suspended] {
            let mut world = active();
            world.delete("web");
            for _ in 0..at {
                world.step();
            }
            if world.phase("web") == "gone" {
                continue;
            }
            world.state = state;
            let asked = world.asked.len();
            world.run_for(Duration::from_hours(1));
            assert_eq!(world.asked.len(), asked, "nothing is changed meanwhile");
            world.state = HandlerState::Ready;
            world.until_phase("web", "gone");
            world.assert_clean();
        }
    }
}

#[test]
fn closing_waits_for_a_place() {
    let mut world = active();
    let before = picture(&world);
    world.slot = false;
    world.delete("web");
    until_reason(&mut world, "LimitReached");
    world.run_for(Duration::from_hours(1));
    assert_eq!(picture(&world), before);
    world.slot = true;
    world.step();
    // Whoever has begun goes on.
    world.slot = false;
    world.until_phase("web", "gone");
}

#[test]
fn a_server_whose_notes_got_another_marker_beside_ours_is_not_called_released() {
    let mut world = active();
    world.always = Some(("release", Fault::LostNot));
    world.delete("web");
    world.until("the release is asked for", Duration::from_hours(2), |w| w.asked.iter().any(|(_, c)| c.name() == "release"));
    let ours = world.panel.servers["1"].notes.clone();
    world.panel.server("1").notes = format!("{ours} k8s:cluster-1/shop/other/u-other");
    world.always = None;
    world.run_for(Duration::from_hours(3));
    assert!(world.orders.contains_key("web") && world.panel.servers["1"].owner.is_some(), "{}", world.describe());
    world.panel.server("1").notes = ours;
    world.force("web");
    world.until("a way on", Duration::from_hours(12), |w| !w.orders.contains_key("web") || !w.open_tasks().is_empty());
    if !world.open_tasks().is_empty() {
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
    }
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// The undoing of a claim, or of an adoption, that fails each time is a matter for a department, as anything else in closing.
#[test]
fn half_a_claim_that_the_panel_does_not_let_go_is_told_to_a_department_once() {
    for attempts in [1, 3] {
        let mut world = World::new(Panel::new(1, 4), handler(|h| h["retry"]["maxAttempts"] = json!(attempts)));
        world.add(order("web", "u-web", |_| ()));
        world.panel.notes_max = 20;
        world.always = Some(("unclaim", Fault::Refused));
        world.until("the claim is undone", Duration::from_hours(1), |w| w.asked.iter().any(|(_, c)| c.name() == "unclaim"));
        world.delete("web");
        world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
        // What was asked while the order was opened is of the past.
        world.run_for(Duration::from_hours(1));
        let raised = world.tasks.len();
        assert!(raised <= 2, "{attempts}: {}", world.describe());
        world.run_for(Duration::from_hours(6));
        assert_eq!((world.tasks.len(), world.open_tasks().len()), (raised, 1), "{attempts}: {}", world.describe());
        // Taken at its word where it is so, and not where it is not.
        world.resolve(TaskType::FailedOperation, Resolution::Done);
        world.run_for(Duration::from_hours(6));
        assert!(world.orders.contains_key("web") && !world.panel.servers["1"].notes.is_empty(), "{attempts}: {}", world.describe());
        world.always = None;
        if world.open_tasks() == [TaskType::FailedOperation] {
            world.resolve(TaskType::FailedOperation, Resolution::Retry);
        }
        world.until_phase("web", "gone");
        world.assert_clean();
    }
}
