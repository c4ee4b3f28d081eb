//! Addresses that cannot be had: a group that the address manager does not know, or that is empty, and a main address that stays.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::look::{note_of, takes};
use crate::support::panel::{Panel, Replace};
use crate::support::pool::parked;
use crate::support::sweep::{Kind, assert_active, assert_released, reach};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{AddressRow, PoolAddress};
use dci_operator::provisioning::call::Call;
use serde_json::json;

fn world(field: &str, group: &str) -> World {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipManagement"][field] = json!(group)));
    world.add(order("web", "u-web", |_| ()));
    world
}

fn reason(world: &World) -> String {
    let conditions = &world.status("web").conditions;
    condition::find(conditions, ConditionType::Ready).map(|c| c.reason.clone()).unwrap_or_default()
}

#[test]
fn a_group_that_the_address_manager_does_not_know_is_a_failure_and_no_lack_of_addresses() {
    let mut world = world("publicIPType", "x");
    world.until("a failure", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
    let status = world.status("web");
    let error = status.last_error.clone().unwrap();
    assert_eq!((error.step.as_str(), error.code.as_str(), status.attempts), ("ChangeAddress", "panel:value", 1));
    assert!(error.message.contains("group x (ipManagement.publicIPType of the handler)"), "{}", error.message);
    assert_eq!(reason(&world), "Retrying");
    world.until("a task", Duration::from_hours(6), |w| !w.tasks.is_empty());
    world.run_for(Duration::from_hours(6));
    assert_eq!((world.open_tasks().as_slice(), takes(&world)), ([TaskType::FailedOperation].as_slice(), 3));
    // The group is made at the address manager.
    world.panel.free.insert("x".into(), vec!["203.0.113.99".parse().unwrap()]);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
    assert_eq!(world.status("web").server.as_ref().unwrap().main_address.as_deref(), Some("203.0.113.99"));
}

#[test]
fn a_parking_group_that_is_not_there_holds_no_server_for_ever() {
    for resolution in [Resolution::Abandon, Resolution::Retry] {
        let mut world = world("parkingIPType", "x");
        world.until_phase("web", "Active");
        world.delete("web");
        world.until("a task", Duration::from_hours(6), |w| !w.tasks.is_empty());
        let before = takes(&world);
        world.run_for(Duration::from_hours(6));
        assert_eq!((world.open_tasks().as_slice(), takes(&world)), ([TaskType::FailedOperation].as_slice(), before));
        let details = &world.tasks[0].details;
        assert!(details.contains("parkingIPType") && details.contains("value"), "{details}");
        if resolution == Resolution::Retry {
            world.panel.free.insert("x".into(), vec!["10.9.0.1".parse().unwrap()]);
        }
        world.resolve(TaskType::FailedOperation, resolution);
        world.until_phase("web", "gone");
        assert_eq!(world.panel.servers["1"].owner.is_none(), resolution == Resolution::Retry, "given up, or released");
    }
}

#[test]
fn an_empty_parking_group_is_waited_for_and_then_told_to_a_person() {
    for patient in [true, false] {
        let mut world = world("parkingIPType", "parking");
        world.until_phase("web", "Active");
        let parking = world.panel.free.insert("parking".into(), Vec::new()).unwrap();
        world.delete("web");
        world.until("a wait", Duration::from_hours(1), |w| w.status("web").waiting_on.as_ref().is_some_and(|wait| wait.kind == "Capacity"));
        let waits = world.status("web").waiting_on.clone().unwrap();
        assert!(waits.message.contains("no free address of group parking"), "{}", waits.message);
        if patient {
            // Nobody was asked yet: it comes right by itself.
            world.panel.free.insert("parking".into(), parking);
        } else {
            world.until("a task", Duration::from_hours(6), |w| !w.tasks.is_empty());
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
            world.panel.free.insert("parking".into(), parking);
            world.resolve(TaskType::FailedOperation, Resolution::Retry);
        }
        world.until_phase("web", "gone");
        assert_eq!(world.tasks.is_empty(), patient);
        world.assert_clean();
    }
}

#[test]
fn abandon_on_an_order_that_lives_keeps_its_server() {
    let mut world = world("publicIPType", "x");
    world.until("a task", Duration::from_hours(6), |w| !w.tasks.is_empty());
    world.resolve(TaskType::FailedOperation, Resolution::Abandon);
    world.until("stalled", Duration::from_hours(1), |w| reason(w) == "TaskCancelled");
    world.run_for(Duration::from_hours(6));
    let status = world.status("web");
    let message = condition::find(&status.conditions, ConditionType::Stalled).map(|c| c.message.clone()).unwrap_or_default();
    assert!(message.contains("the order keeps server 1"), "{message}");
    assert!(status.server.is_some() && world.panel.servers["1"].owner.is_some() && world.open_tasks().is_empty());
}

#[test]
fn a_name_that_the_address_manager_keeps_is_told_and_blocks_nothing() {
    for fault in [Fault::Refused, Fault::Ignored, Fault::CrashBefore, Fault::CrashAfter, Fault::LostApplied, Fault::LostNot] {
        let mut world = world("publicIPType", "public");
        world.until_phase("web", "Active");
        world.run_for(Duration::from_mins(5));
        // After the name at the server.
        world.faults.insert(world.asked.len() + 1, fault);
        world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
        let generation = world.orders["web"].raw.metadata.generation;
        world
            .until("settled", Duration::from_hours(2), |w| w.status("web").observed_generation == generation && w.phase("web") == "Active");
        let ours: Vec<_> = world.panel.used.iter().filter(|u| u.note == "k8s:u-web").collect();
        let step = world.status("web").steps.iter().find(|s| s.name == "ChangeAddress").unwrap();
        let refused = matches!(fault, Fault::Refused | Fault::Ignored);
        assert_eq!((ours.len(), ours[0].domain.as_str()), (1, if refused { "web.example.net" } else { "new.example.net" }), "{fault:?}");
        assert_eq!(step.message.contains("IPmanager keeps the name web.example.net"), refused, "{fault:?}: {}", step.message);
        assert!(world.tasks.is_empty() && world.panel.servers["1"].rows.iter().all(|r| r.domain == "new.example.net"), "{fault:?}");
    }
}

#[test]
fn a_main_address_that_is_not_replaced_stalls_and_gives_the_new_one_back() {
    for kind in [Kind::Plain, Kind::Several, Kind::ByPanel] {
        for replace in [Replace::Ignored, Replace::Refused] {
            let mut world = kind.world();
            world.panel.replace = replace;
            world.until("stalled", Duration::from_hours(12), |w| reason(w) == "MainAddressNotReplaced");
            assert!(
                world.panel.used.iter().all(|u| u.group == "parking" || u.address.is_ipv6()),
                "{kind:?} {replace:?}\n{}",
                world.describe()
            );
            let tried = world.asked.iter().filter(|(_, c)| matches!(c, Call::ReplaceMain { .. })).count();
            assert_eq!(tried, 3, "{kind:?} {replace:?}: as often as anything may fail");
            let asked = world.asked.len();
            world.run_for(Duration::from_hours(1));
            assert_eq!((world.asked.len(), world.tasks.len()), (asked, 0), "a change of the handler is waited for");
            world.panel.replace = Replace::Works;
            world.force("web");
            reach(&mut world, "Active", kind);
            assert_active(&world, kind);
        }
    }
}

#[test]
fn a_panel_that_is_busy_for_a_moment_replaces_the_main_address_later() {
    for kind in [Kind::Plain, Kind::ByPanel] {
        for close in [false, true] {
            let mut world = kind.world();
            if close {
                reach(&mut world, "Active", kind);
                world.delete("web");
            }
            world.always = Some(("replaceMainAddress", Fault::Refused));
            world.until("refused", Duration::from_hours(1), |w| {
                w.status("web").last_error.as_ref().is_some_and(|e| e.code == "MainAddressNotReplaced")
            });
            world.always = None;
            reach(&mut world, if close { "gone" } else { "Active" }, kind);
            assert!(world.tasks.is_empty(), "{kind:?}, closing {close}: nobody had to do anything");
        }
        // Where it never works, whoever deletes the order can end it.
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.always = Some(("replaceMainAddress", Fault::Refused));
        world.delete("web");
        world.run_for(Duration::from_hours(2));
        if world.orders.contains_key("web") {
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{kind:?}");
            world.resolve(TaskType::FailedOperation, Resolution::Abandon);
            world.until_phase("web", "gone");
        }
    }
}

/// Every address that stands on a server is in use at the address manager: free, it would be the next order's, too.
fn assert_in_use(world: &World) {
    let used = |address: IpAddr| world.panel.used.iter().any(|u| u.address == address);
    let free = world.panel.servers.values().flat_map(|s| &s.rows).find(|row| !used(row.address));
    assert!(free.is_none(), "{free:?} stands on a server and is free\n{}", world.describe());
}

#[test]
fn an_address_is_kept_while_the_panel_takes_its_time_to_replace_the_main_one() {
    for kind in [Kind::Plain, Kind::Several, Kind::ByPanel] {
        // The last one is more than an answer that is lost has: it counts as failed, and is tried with the same address.
        for span in [30, 100, 200, 420].map(seconds) {
            let mut world = kind.world();
            world.panel.replace = Replace::Later(span);
            for phase in ["Active", "gone"] {
                if phase == "gone" {
                    assert_active(&world, kind);
                    world.delete("web");
                }
                world.until(&format!("{kind:?} {span:?} {phase}"), Duration::from_hours(12), |w| {
                    assert_in_use(w);
                    w.phase("web") == phase
                });
            }
            assert_released(&world, kind);
            let asked = world.asked.iter().filter(|(_, c)| matches!(c, Call::ReplaceMain { .. })).count();
            assert_eq!((asked, world.tasks.len()), (2, 0), "{kind:?} {span:?}\n{}", world.describe());
        }
    }
}

#[test]
fn what_the_panel_accepted_and_does_not_show_is_said_to_be_that_and_not_to_be_a_lost_answer() {
    let mut world = Kind::Plain.world();
    world.panel.replace = Replace::Later(seconds(200));
    world.until("accepted", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
    let status = world.status("web");
    let (intent, error) = (status.in_flight.as_ref().unwrap(), status.last_error.as_ref().unwrap());
    assert_eq!((intent.call.as_str(), intent.outcome.as_str(), error.code.as_str()), ("replaceMainAddress", "Answered", "NoEffect"));
    let waits = &status.waiting_on.as_ref().unwrap().message;
    assert!(waits.contains("said that it replaced the main address") && !waits.contains("lost"), "{waits}");
    assert_eq!((reason(&world).as_str(), status.attempts), ("WaitingForPanel", 0));
    // A crash forgets nothing of it; and when it is seen, nothing is waited for any more.
    let since = world.now;
    world.restart();
    world.until("it is seen", Duration::from_hours(1), |w| w.asked.last().is_some_and(|(_, c)| matches!(c, Call::Install { .. })));
    assert!(world.now.duration_since(since).as_secs() < 240, "{}", world.describe());
    world.until_phase("web", "Active");
    assert_active(&world, Kind::Plain);
    assert!(
        world.tasks.is_empty()
            && !world.asked.iter().any(|(_, c)| matches!(c, Call::GiveBack { address } if address.to_string().starts_with("203.")))
    );
}

/// A panel that is at work on what it accepted refuses what it is asked for meanwhile: that says nothing of the first.
#[test]
fn an_address_that_was_accepted_once_is_not_freed_by_a_later_refusal() {
    let mut world = Kind::Plain.world();
    world.panel.replace = Replace::Later(Duration::from_mins(12));
    world.until("the first attempt failed", Duration::from_hours(1), |w| w.status("web").attempts == 1);
    world.always = Some(("replaceMainAddress", Fault::Refused));
    world.until("the second failed", Duration::from_hours(1), |w| {
        assert_in_use(w);
        w.status("web").attempts == 2
    });
    world.always = None;
    world.until("it is Active", Duration::from_hours(2), |w| {
        assert_in_use(w);
        w.phase("web") == "Active"
    });
    assert_active(&world, Kind::Plain);
}

/// The answer to the first attempt is lost, and the panel is at work on it when it refuses the second.
#[test]
fn an_address_that_may_be_on_its_way_is_not_freed_by_a_later_refusal() {
    let mut world = Kind::Plain.world();
    let mut calls = Kind::Plain.world();
    calls.until("asked", Duration::from_hours(1), |w| w.asked.iter().any(|(_, c)| c.name() == "replaceMainAddress"));
    let number = calls.asked.iter().position(|(_, c)| c.name() == "replaceMainAddress").unwrap();
    world.faults.insert(number, Fault::LostLate(Duration::from_mins(12)));
    world.until("asked", Duration::from_hours(1), |w| w.asked.len() > number);
    world.always = Some(("replaceMainAddress", Fault::Refused));
    world.until("refused", Duration::from_hours(1), |w| {
        assert_in_use(w);
        w.status("web").attempts > 0
    });
    world.run_for(Duration::from_mins(20));
    assert_in_use(&world);
    let public = |call: &Call| matches!(call, Call::GiveBack { address } if address.to_string().starts_with("203."));
    assert!(!world.asked.iter().any(|(_, call)| public(call)), "{}", world.describe());
    world.always = None;
    world.until("it is Active", Duration::from_hours(3), |w| {
        assert_in_use(w);
        w.phase("web") == "Active"
    });
    assert_active(&world, Kind::Plain);
}

/// The client wants fewer addresses while the panel is at work on the one that is to be the main one.
#[test]
fn an_address_that_may_be_on_its_way_is_not_the_one_that_is_given_up() {
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.panel.replace = Replace::Later(Duration::from_mins(12));
    world.until("the first attempt failed", Duration::from_hours(1), |w| w.status("web").attempts == 1);
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 1);
    world.until("it is Active", Duration::from_hours(3), |w| {
        assert_in_use(w);
        w.phase("web") == "Active"
    });
    assert_active(&world, Kind::Plain);
}

/// The list is shared, and may be from before the server was given back by the order before: its parking address is another one by now.
#[test]
fn the_parking_address_that_is_replaced_goes_back_though_the_list_shows_an_older_one() {
    for by in ["Operator", "Panel"] {
        let mut world = World::new(Panel::new(1, 4), handler(|h| h["ipManagement"]["allocateBy"] = json!(by)));
        world.list();
        let (old, new): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.1.1".parse().unwrap());
        let server = world.panel.server("1");
        (server.main, server.rows[0].address) = (new, new);
        let used = world.panel.used.iter_mut().find(|used| used.address == old).unwrap();
        used.address = new;
        let parking = world.panel.free.get_mut("parking").unwrap();
        parking.retain(|address| *address != new);
        parking.push(old);
        world.next_list = later(world.now, Duration::from_mins(1));
        world.add(order("web", "u-web", |_| ()));
        world.orders.get_mut("web").unwrap().wake = Some(world.now);
        world.until("its addresses change", Duration::from_mins(5), |w| w.asked.iter().any(|(_, c)| c.name() == "replaceMainAddress"));
        world.until_phase("web", "Active");
        assert!(!world.panel.used.iter().any(|used| used.group == "parking"), "{by}\n{}", world.describe());
        assert!(
            world.panel.server("1").main.to_string().starts_with("203.0.113."),
            "{by}: the client has a parking address\n{}",
            world.describe()
        );
    }
}

/// An order with two addresses; a person gives the second one to server 2, as its main one, takes that out of service, and the list shows it.
fn one_address_moved() -> (World, IpAddr) {
    let mut world = World::new(Panel::new(3, 6), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Orphan"])));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.until_phase("web", "Active");
    let server = world.panel.server("1");
    let row = server.rows.iter().find(|r| r.address != server.main).unwrap().clone();
    server.rows.retain(|r| *r != row);
    let moved = row.address;
    let client = world.panel.servers["1"].owner.clone();
    let other = world.panel.server("2");
    (other.main, other.rows, other.owner) = (moved, vec![row], client);
    (world, moved)
}

#[test]
fn an_address_that_a_person_gave_to_another_server_stays_there_and_is_not_given_to_a_third() {
    for policy in [None, Some(DeletionPolicy::Orphan)] {
        let (mut world, moved) = one_address_moved();
        if let Some(policy) = policy {
            world.edit("web", |raw| raw.spec.deletion_policy = policy);
        }
        world.run_for(Duration::from_mins(1));
        world.delete("web");
        world.until_phase("web", "gone");
        assert_eq!(note_of(&world, moved).as_deref(), Some(""), "{policy:?}: {}", world.describe());
        assert_eq!((world.panel.servers["2"].main, world.tasks.len()), (moved, 0));
    }
}

#[test]
fn an_address_that_a_person_gave_to_another_server_is_not_put_on_both() {
    for (ipv4, domain) in [(2, "new.example.net"), (1, "web.example.net")] {
        let (mut world, moved) = one_address_moved();
        world.run_for(Duration::from_mins(1));
        world.edit("web", |raw| {
            raw.spec.domain = domain.into();
            raw.spec.addresses.ipv4 = ipv4;
        });
        let waits = |w: &World| w.status("web").waiting_on.as_ref().is_some_and(|on| on.name == format!("address {moved}"));
        world.until("another list is waited for", Duration::from_mins(5), waits);
        world.step();
        assert!(world.orders["web"].wake.is_none_or(|at| at >= world.next_list), "nothing is read before there is one");
        world.run_for(Duration::from_hours(1));
        let on_server: Vec<IpAddr> = world.panel.servers["1"].rows.iter().map(|r| r.address).collect();
        assert!(world.phase("web") == "Active" && !on_server.contains(&moved), "{}", world.describe());
        assert_eq!(
            (on_server.len(), note_of(&world, moved).as_deref()),
            (usize::try_from(ipv4).unwrap(), Some("")),
            "{}",
            world.describe()
        );
        world.assert_quiet();
    }
}

#[test]
fn an_address_that_only_an_older_list_shows_elsewhere_is_taken() {
    let mut world = World::new(Panel::new(2, 4), handler(|_| ()));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    let next = world.panel.free["public"][0];
    let other = world.panel.server("2");
    let parked = other.main;
    (other.main, other.rows[0].address, other.owner) = (next, next, Some("9".into()));
    world.list();
    // It came back, and is free again, before the order takes it.
    let other = world.panel.server("2");
    (other.main, other.rows[0].address, other.owner) = (parked, parked, None);
    world.next_list = later(world.now, Duration::from_mins(1));
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
    world.run_for(Duration::from_mins(10));
    let on_server: Vec<IpAddr> = world.panel.servers["1"].rows.iter().map(|r| r.address).collect();
    assert_eq!((on_server.len(), on_server.contains(&next), takes(&world)), (2, true, 2), "{}", world.describe());
}

/// The address of an order that is gone by now, on another order's server: nobody's note is on it.
#[test]
fn an_address_that_came_from_another_order_goes_back_with_the_server_that_has_it() {
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.until_phase("web", "Active");
    world.add(order("other", "u-other", |_| ()));
    world.until_phase("other", "Active");
    let server = world.panel.server("1");
    let row = server.rows.iter().find(|r| r.address != server.main).unwrap().clone();
    server.rows.retain(|r| *r != row);
    let theirs = world.panel.server("2");
    (theirs.main, theirs.rows[0].address) = (row.address, row.address);
    world.run_for(Duration::from_mins(1));
    for order in ["web", "other"] {
        world.delete(order);
        world.until_phase(order, "gone");
    }
    assert_eq!(note_of(&world, row.address), None, "{}", world.describe());
    world.assert_clean();
}

#[test]
fn a_client_is_suspended_while_addresses_are_waited_for() {
    let mut world = World::new(Panel::new(1, 1), handler(|_| ()));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.run_for(Duration::from_mins(2));
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
    world.until("addresses are waited for", Duration::from_hours(1), |w| reason(w) == "WaitingForCapacity");
    world.edit("web", |raw| raw.spec.suspended = true);
    world.run_for(Duration::from_hours(1));
    assert!(world.panel.servers["1"].disabled && !world.panel.servers["1"].on, "{}", world.describe());
    world.panel.free.get_mut("public").unwrap().push("203.0.113.99".parse().unwrap());
    world.until("suspended, with its addresses", Duration::from_hours(2), |w| {
        w.phase("web") == "Suspended" && w.panel.servers["1"].rows.len() == 2
    });
    world.assert_quiet();
}

#[test]
fn a_clients_new_domain_does_not_wait_for_addresses() {
    let mut world = World::new(Panel::new(1, 1), handler(|_| ()));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.run_for(Duration::from_mins(2));
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
    world.until("addresses are waited for", Duration::from_hours(1), |w| reason(w) == "WaitingForCapacity");
    world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
    world.run_for(Duration::from_hours(1));
    assert_eq!((reason(&world).as_str(), world.panel.servers["1"].rows[0].domain.as_str()), ("WaitingForCapacity", "new.example.net"));
    world.panel.free.get_mut("public").unwrap().push("203.0.113.99".parse().unwrap());
    world.until("Active", Duration::from_hours(2), |w| w.phase("web") == "Active" && w.panel.servers["1"].rows.len() == 2);
    assert!(world.panel.servers["1"].rows.iter().all(|r| r.domain == "new.example.net"), "{}", world.describe());
    world.assert_quiet();
}

/// Somebody let the server go by hand, and an address that an order had noted stayed on it.
#[test]
fn an_address_that_came_with_a_server_is_left_as_it_is_and_told() {
    let mut world = World::simple(1, 4);
    let address: IpAddr = "203.0.113.250".parse().unwrap();
    let server = world.panel.server("1");
    let row = AddressRow { row: "900".into(), address, ..server.rows[0].clone() };
    server.rows.push(row);
    world.panel.used.push(PoolAddress { group: "public".into(), note: "k8s:u-gone".into(), ..parked(address) });
    world.until_phase("web", "Active");
    let said = &world.status("web").steps.iter().find(|s| s.name == "ChangeAddress").unwrap().message;
    assert!(said.contains("server 1 also has 203.0.113.250"), "{said}");
    assert_eq!((world.panel.servers["1"].rows.len(), note_of(&world, address).as_deref()), (2, Some("k8s:u-gone")));
}

/// A removal whose answer is lost, and the spec is put back before it lands: the client does not lose the address in secret.
#[test]
fn a_removal_that_lands_after_the_spec_was_put_back_is_made_good() {
    for fault in [Fault::LostLate(seconds(110)), Fault::CrashLate(seconds(110))] {
        let mut world = World::new(Panel::new(2, 6), handler(|_| ()));
        world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
        world.until_phase("web", "Active");
        world.run_for(seconds(60));
        let asked = world.asked.len();
        world.faults.insert(asked, fault);
        world.edit("web", |raw| raw.spec.addresses.ipv4 = 1);
        world.until("it is asked for", Duration::from_hours(1), |w| w.asked.len() > asked);
        world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
        world.run_for(Duration::from_hours(1));
        let has: Vec<String> = world.panel.server("1").rows.iter().map(|r| r.address.to_string()).collect();
        let told = world.status("web").server.clone().unwrap().addresses;
        assert!(has.len() == 2 && told.iter().all(|a| has.contains(a)), "{fault:?}: {has:?} {told:?}\n{}", world.describe());
        assert_eq!(world.phase("web"), "Active");
    }
}
