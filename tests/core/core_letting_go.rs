//! Servers that are left as they are by `deletionPolicy: Orphan`, or taken over as they are (`adoption`), with every fault.

#[path = "core_letting_go/adoption.rs"]
mod adoption;
#[path = "core_letting_go/adoption_ends.rs"]
mod adoption_ends;

use std::time::Duration;

use crate::support::look::{picture, reason};
use crate::support::panel::{Ipmi, Panel};
use crate::support::seconds;
use crate::support::sweep::{FAULTS, Kind, reach, try_all};
use crate::support::world::{Fault, World, WriteFault, handler, order};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::call::Call;
use serde_json::{Value, json};

fn message(world: &World, name: &str) -> String {
    find(&world.status(name).conditions, ConditionType::Ready).map_or_else(String::new, |c| c.message.clone())
}

fn until_reason(world: &mut World, name: &str, wanted: &str) {
    world.until(wanted, Duration::from_hours(12), |w| w.orders.get(name).is_some_and(|o| reason(&o.status) == wanted));
}

fn names(calls: &[(String, Call)]) -> Vec<&'static str> {
    calls.iter().map(|(_, call)| call.name()).collect()
}

/// The same without the word of any order.
fn without_marks(picture: &str) -> String {
    let marker = regex::Regex::new(r" ?k8s:(cluster-1/|u-)[^ `\x22]*").unwrap();
    marker.replace_all(picture, "").into_owned()
}

fn orphaned(change: impl FnOnce(&mut Value)) -> World {
    let mut world = World::new(Panel::new(3, 6), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Orphan"])));
    world.panel.install_takes = Duration::from_mins(2);
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["deletionPolicy"] = json!("Orphan");
        raw["spec"]["addresses"] = json!({"ipv4": 2, "ipv6": 1});
        change(raw);
    }));
    world
}

/// The client has what it had, and nothing names the order any more.
fn assert_left(world: &World, before: &str) {
    assert_eq!(picture(world), without_marks(before), "{}", world.describe());
    assert!(world.locks.is_empty() && world.open_tasks().is_empty(), "{}", world.describe());
}

#[test]
fn an_orphaned_server_stays_exactly_as_it_is() {
    type Change = fn(&mut World);
    let rows: [(&str, Change); 6] = [
        ("as handed over", |_| ()),
        ("off", |w| w.panel.server("1").on = false),
        ("its IPMI is dead", |w| w.panel.server("1").ipmi = Ipmi::Dead),
        ("given to somebody else", |w| w.panel.server("1").owner = Some(UserId("7".into()))),
        ("another marker beside ours", |w| w.panel.server("1").notes.insert_str(0, "k8s:other/a/b/c ")),
        ("without our marker", |w| w.panel.server("1").notes.clear()),
    ];
    for (what, change) in rows {
        let mut world = orphaned(|_| ());
        world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
        world.until_phase("web", "Active");
        change(&mut world);
        let (before, asked) = (picture(&world), world.asked.len());
        world.delete("web");
        world.until_phase("web", "gone");
        assert_left(&world, &before);
        let unmarked = usize::from(what != "without our marker");
        let mut expected = vec!["setAddressNote"; 3];
        expected.extend(vec!["unmark"; unmarked]);
        assert_eq!(names(&world.asked[asked..]), expected, "{what}");
    }
}

#[test]
fn an_orphan_policy_that_the_handler_does_not_allow_is_refused_with_two_ways_out() {
    // When it is applied: nothing is asked for. What somebody wrote twice is told once.
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Release"])));
    world.add(order("web", "u-web", |raw| raw["spec"]["deletionPolicy"] = json!("Orphan")));
    until_reason(&mut world, "web", "DeletionPolicyForbidden");
    world.run_for(Duration::from_hours(1));
    assert!(world.asked.is_empty());
    let text = message(&world, "web");
    assert!(text.contains("set spec.deletionPolicy to Release, or") && text.contains("spec.allowedDeletionPolicies"), "{text}");
    // An order that never got anything goes all the same.
    world.delete("web");
    world.until_phase("web", "gone");
    // When it is deleted: nothing is touched, and each of the two ways works.
    for allow in [false, true] {
        let mut world = World::simple(2, 4);
        world.until_phase("web", "Active");
        world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
        until_reason(&mut world, "web", "DeletionPolicyForbidden");
        world.delete("web");
        let (before, asked) = (picture(&world), world.asked.len());
        world.run_for(Duration::from_hours(1));
        assert_eq!((reason(world.status("web")), world.phase("web")), ("DeletionPolicyForbidden", "Deleting"));
        assert_eq!((picture(&world), world.asked.len()), (before.clone(), asked));
        if allow {
            world.handler.deletion_policies.insert(DeletionPolicy::Orphan);
            world.force("web");
            world.until_phase("web", "gone");
            assert_left(&world, &before);
        } else {
            world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Release);
            world.until_phase("web", "gone");
            world.assert_clean();
        }
    }
}

#[test]
fn a_half_prepared_order_is_taken_back_whatever_its_policy_says() {
    let mut world = orphaned(|_| ());
    reach(&mut world, "Active", Kind::Plain);
    let calls = world.asked.len();
    try_all((0..calls).map(|call| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = orphaned(|_| ());
            world.delete_after_call = Some(call);
            reach(&mut world, "gone", Kind::Plain);
            if call + 1 < calls {
                world.assert_clean();
            } else {
                assert!(world.panel.servers["1"].owner.is_some(), "the last call is the hand-over: the client has it");
            }
        });
        (format!("call {call}"), live)
    }));
}

#[test]
fn a_restored_order_leaves_its_server_too_and_an_orphaned_one_is_never_mistaken() {
    let mut world = orphaned(|_| ());
    world.until_phase("web", "Active");
    let before = picture(&world);
    let restored = |raw: &mut Value| {
        raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"});
        raw["spec"]["deletionPolicy"] = json!("Orphan");
        raw["spec"]["addresses"] = json!({"ipv4": 2, "ipv6": 1});
    };
    world.orders.remove("web");
    world.restart();
    world.add(order("web", "u-new", restored));
    world.delete("web");
    world.until_phase("web", "gone");
    assert_left(&world, &before);
    // An order that is restored later, with the same id, gets another server and other addresses.
    let left = format!("{:?}", world.panel.servers["1"]);
    world.restart();
    world.add(order("web", "u-newer", restored));
    world.until_phase("web", "Active");
    assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some("2"));
    assert_eq!(format!("{:?}", world.panel.servers["1"]), left);
}

#[test]
fn a_change_of_mind_while_deleting_is_followed() {
    for step in 0..7 {
        for to in [DeletionPolicy::Orphan, DeletionPolicy::Release] {
            let mut world =
                orphaned(|raw| raw["spec"]["deletionPolicy"] = json!(if to == DeletionPolicy::Orphan { "Release" } else { "Orphan" }));
            world.until_phase("web", "Active");
            world.run_for(seconds(60));
            world.slot = false;
            world.delete("web");
            for _ in 0..step {
                world.slot = true;
                world.step();
            }
            if world.phase("web") == "gone" {
                continue;
            }
            world.edit("web", |raw| raw.spec.deletion_policy = to);
            world.slot = true;
            world.until_phase("web", "gone");
            assert!(world.panel.servers.values().all(|s| s.notes.is_empty()), "{}", world.describe());
            assert!(world.panel.used.iter().all(|u| u.note.is_empty()), "{}", world.describe());
            assert_eq!(world.panel.servers["1"].owner.is_some(), to == DeletionPolicy::Orphan, "{}", world.describe());
            if to == DeletionPolicy::Release {
                world.assert_clean();
            }
        }
    }
}

#[test]
fn a_task_to_stop_a_server_that_stays_is_not_needed_any_more() {
    let mut world = orphaned(|raw| raw["spec"]["deletionPolicy"] = json!("Release"));
    world.handler.ipmi = dci_operator::api::handler::IpmiErrorPolicy::CreateTask;
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.delete("web");
    world.until("a task", Duration::from_hours(1), |w| !w.tasks.is_empty());
    world.run_for(seconds(60));
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    world.until_phase("web", "gone");
    assert!(world.panel.servers["1"].on && world.open_tasks().is_empty());
}

#[test]
fn a_client_who_keeps_his_server_after_all_waits_for_nobody_who_was_to_take_it_back() {
    for answered in [None, Some(Resolution::Cancelled)] {
        let mut world = orphaned(|raw| raw["spec"]["deletionPolicy"] = json!("Release"));
        world.until_phase("web", "Active");
        world.panel.server("1").ipmi = Ipmi::Denied;
        world.delete("web");
        world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
        if let Some(word) = answered {
            world.resolve(TaskType::FailedOperation, word);
            world.run_for(seconds(120));
        }
        world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
        world.until_phase("web", "gone");
        let server = &world.panel.servers["1"];
        assert!(server.on && server.notes.is_empty() && world.open_tasks().is_empty(), "{answered:?}\n{}", world.describe());
    }
}

/// A life of an orphaned order, with whatever goes wrong in it.
fn let_be(world: &mut World) {
    reach(world, "Active", Kind::Plain);
    world.run_for(seconds(60));
    let before = picture(world);
    world.delete("web");
    reach(world, "gone", Kind::Plain);
    assert_left(world, &before);
    world.assert_quiet();
}

#[test]
fn every_fault_in_letting_go_and_taking_over_is_survived() {
    let mut world = orphaned(|_| ());
    let_be(&mut world);
    let (calls, reads, writes) = (world.asked.len(), world.reads, world.writes);
    let from = calls - 5;
    let orphans = (from..calls).flat_map(|call| FAULTS.into_iter().flat_map(move |fault| [0, 2].map(|fail| (call, fault, fail))));
    let orphans = orphans.map(|(call, fault, fail)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = orphaned(|_| ());
            world.faults.insert(call, fault);
            world.then_reads_fail = fail;
            let_be(&mut world);
        });
        (format!("orphan, call {call}, {fault:?}, {fail}"), live)
    });
    let crashes = (0..writes).flat_map(|write| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| (write, fault)));
    let crashes = crashes.map(|(write, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = orphaned(|_| ());
            world.write_faults.insert(write, fault);
            let_be(&mut world);
        });
        (format!("orphan, write {write}, {fault:?}"), live)
    });
    let failed = (0..reads).map(|read| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = orphaned(|_| ());
            world.read_faults.extend(read..read + 3);
            let_be(&mut world);
        });
        (format!("orphan, read {read}"), live)
    });
    try_all(orphans.chain(crashes).chain(failed).chain(adoption::adoptions()));
}

/// The panel goes down before the hand-over was read back, and the order is deleted before it is up again: the status does not tell of it.
#[test]
fn a_client_keeps_what_he_was_handed_over_although_nobody_read_it_back() {
    let calls = {
        let mut world = orphaned(|_| ());
        reach(&mut world, "Active", Kind::Plain);
        world.asked.len()
    };
    let mut world = orphaned(|_| ());
    world.faults.insert(calls - 1, Fault::Nothing);
    world.then_reads_fail = 1;
    world.until("the hand-over is made, and forgotten", Duration::from_hours(1), |w| {
        w.asked.len() == calls && w.status("web").in_flight.is_none()
    });
    let server = world.status("web").server.clone().unwrap();
    assert!(server.handed_over_at.is_none() && matches!(world.asked[calls - 1].1, Call::HandOver { .. }), "{}", world.describe());
    let before = picture(&world);
    world.delete("web");
    world.until_phase("web", "gone");
    assert_left(&world, &before);
}

#[test]
fn an_order_that_was_put_back_to_a_time_before_the_hand_over_leaves_its_server_too() {
    let mut world = orphaned(|_| ());
    let mut statuses = Vec::new();
    while world.phase("web") != "Active" {
        world.step();
        let status = world.status("web").clone();
        if status.server.is_some() && statuses.last() != Some(&status) {
            statuses.push(status);
        }
    }
    assert!(statuses.len() >= 6, "{} statuses", statuses.len());
    for (at, status) in statuses.into_iter().enumerate() {
        let mut world = orphaned(|_| ());
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        let before = picture(&world);
        let stored = world.orders.get_mut("web").unwrap();
        stored.status = status;
        stored.version += 1;
        world.restart();
        world.delete("web");
        world.until_phase("web", "gone");
        assert_eq!(picture(&world), without_marks(&before), "{at}\n{}", world.describe());
    }
}
