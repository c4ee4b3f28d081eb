//! Parking addresses: what was replaced goes back whatever becomes of the server, and none is put onto two.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::look::{note_of, until_reason};
use crate::support::panel::{Panel, Replace};
use crate::support::pool::parked;
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{AddressRow, PoolAddress};
use dci_operator::provisioning::facts::Prepare;
use serde_json::json;

/// Of server 1.
fn parking() -> IpAddr {
    "10.0.0.1".parse().unwrap()
}

/// The client has the server, and IPmanager did not take the parking address back that he never had.
fn left() -> World {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Orphan"])));
    world.add(order("web", "u-web", |_| ()));
    world.always = Some(("giveBackAddress", Fault::Refused));
    world.until_phase("web", "Active");
    let server = world.status("web").server.as_ref().unwrap();
    assert_eq!(server.parked_address.as_deref(), Some("10.0.0.1"), "{}", world.describe());
    world
}

fn orphan(world: &mut World) {
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    world.delete("web");
}

#[test]
fn a_parking_address_that_is_left_goes_back_though_the_client_keeps_the_server() {
    for gone in [false, true] {
        let mut world = left();
        world.always = None;
        let public = world.panel.servers["1"].main;
        world.panel.server("1").gone = gone;
        orphan(&mut world);
        world.until_phase("web", "gone");
        assert_eq!((note_of(&world, parking()), note_of(&world, public).as_deref()), (None, Some("")), "gone {gone}\n{}", world.describe());
        assert_eq!(world.panel.servers["1"].main, public);
    }
}

#[test]
fn a_parking_address_that_cannot_go_back_keeps_no_order_whose_client_keeps_the_server() {
    let mut world = left();
    orphan(&mut world);
    let mut told = false;
    world.until("gone", Duration::from_hours(6), |w| {
        let error = w.orders.get("web").and_then(|order| order.status.last_error.as_ref());
        told |= error.is_some_and(|e| e.code == "ParkingAddressKept");
        w.phase("web") == "gone"
    });
    assert!(told && world.open_tasks().is_empty(), "{}", world.describe());
    assert_eq!((note_of(&world, parking()).as_deref(), world.panel.servers["1"].notes.as_str()), (Some(""), ""));
    // Without our marker on it nothing is ours to ask for: that keeps no order either.
    let mut world = left();
    world.always = None;
    world.panel.server("1").notes.clear();
    orphan(&mut world);
    world.until_phase("web", "gone");
    assert_eq!((note_of(&world, parking()).as_deref(), world.tasks.len()), (Some(""), 0), "{}", world.describe());
}

/// The parking address was tried in vain as often as anything is, and given up: what comes next has attempts of its own.
#[test]
fn a_parking_address_that_cannot_go_back_does_not_spoil_what_comes_after_it() {
    let mut world = left();
    orphan(&mut world);
    world.until_phase("web", "gone");
    let at = world.asked.iter().position(|(_, call)| call.name() == "unmark").unwrap();
    for fault in [Fault::Refused, Fault::CrashBefore, Fault::CrashAfter, Fault::LostNot, Fault::LostApplied] {
        let mut world = left();
        world.faults.insert(at, fault);
        orphan(&mut world);
        world.until_phase("web", "gone");
        assert_eq!((world.asked[at].1.name(), world.tasks.len()), ("unmark", 0), "{fault:?}\n{}", world.describe());
        assert_eq!((note_of(&world, parking()).as_deref(), world.panel.servers["1"].notes.as_str()), (Some(""), ""), "{fault:?}");
    }
    // One that is refused each time is told as what it is, and nothing before it is asked for meanwhile.
    let mut world = left();
    world.faults.extend((at..at + 3).map(|number| (number, Fault::Refused)));
    orphan(&mut world);
    world.until("a task", Duration::from_hours(6), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert!(world.tasks[0].details.contains("call unmark") && world.asked.len() == at + 3, "{}", world.describe());
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "gone");
    assert_eq!((world.panel.servers["1"].notes.as_str(), world.tasks.len()), ("", 1), "{}", world.describe());
}

#[test]
fn a_parking_address_that_goes_back_to_no_group_any_more_is_told() {
    let mut world = left();
    world.handler.parking_group = None;
    world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
    let generation = world.orders["web"].raw.metadata.generation;
    world.until("acted upon", Duration::from_hours(1), |w| w.status("web").observed_generation == generation && w.phase("web") == "Active");
    let said = &world.status("web").steps.iter().find(|s| s.name == "ChangeAddress").unwrap().message;
    assert!(said.contains("address 10.0.0.1 was replaced and stays taken: the handler has no ipManagement.parkingIPType"), "{said}");
}

/// Somebody typed in an address of the parking group at a server, and IPmanager does not know that it is in use.
#[test]
fn a_parking_address_that_stands_on_another_server_is_left_to_it() {
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    let other = world.panel.servers["2"].main;
    world.panel.used.retain(|used| used.address != other);
    world.panel.free.insert("parking".into(), vec![other, "10.0.1.1".parse().unwrap()]);
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!((world.panel.servers["2"].main, note_of(&world, other).as_deref()), (other, Some("")), "{}", world.describe());
    assert!(world.panel.servers["1"].main != other && world.tasks.is_empty(), "{}", world.describe());
    world.assert_clean();
}

/// The panel said that the parking address was replaced, and the server was deleted there before that was read back.
#[test]
fn a_parking_address_goes_back_though_its_server_was_gone_before_anybody_saw_it_replaced() {
    let mut world = World::simple(3, 6);
    world.panel.replace = Replace::ThenGone;
    until_reason(&mut world, "ServerGone");
    world.delete("web");
    world.until_phase("web", "gone");
    let mut used: Vec<String> = world.panel.used.iter().map(|used| used.address.to_string()).collect();
    used.sort_unstable();
    assert_eq!(used, ["10.0.0.2", "10.0.0.3"], "{}", world.describe());
    // One that nobody asked to replace is what the server had last: a panel that does not list it may still have it.
    let mut world = World::simple(3, 6);
    world.until("it has a server", Duration::from_hours(1), |w| w.status("web").server.is_some());
    world.panel.server("1").gone = true;
    until_reason(&mut world, "ServerGone");
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!(note_of(&world, parking()).as_deref(), Some(""), "{}", world.describe());
}

/// How often the call was asked for.
fn asked(world: &World, name: &str) -> usize {
    world.asked.iter().filter(|(_, call)| call.name() == name).count()
}

#[test]
fn a_parking_address_goes_back_before_the_hand_over_at_the_latest_and_is_nothing_to_look_after_then() {
    for refused in [false, true] {
        let mut world = World::simple(2, 4);
        world.always = refused.then_some(("giveBackAddress", Fault::Refused));
        world.until("an installation", Duration::from_hours(1), |w| asked(w, "install") == 1);
        assert_eq!(note_of(&world, parking()).is_some(), refused);
        world.always = None;
        let read = world.pools_read;
        world.until_phase("web", "Active");
        let server = world.status("web").server.as_ref().unwrap();
        assert_eq!((note_of(&world, parking()), server.parked_address.as_ref()), (None, None), "refused {refused}\n{}", world.describe());
        assert_eq!(world.pools_read > read, refused, "the address manager is asked again only where something is left");
    }
}

/// It went back before a crash, and another panel's order has got it from the same address manager since.
#[test]
fn a_parking_address_that_another_order_has_by_now_is_left_to_it() {
    let mut world = left();
    world.always = None;
    world.panel.used.iter_mut().filter(|used| used.address == parking()).for_each(|used| used.note = "k8s:u-other".into());
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!((note_of(&world, parking()).as_deref(), world.tasks.len()), (Some("k8s:u-other"), 0), "{}", world.describe());
}

/// Somebody gives the server another main address, which is none of the address manager's, before the parking address went back.
#[test]
fn the_parking_address_that_was_replaced_first_goes_back_though_another_main_address_was_replaced_after_it() {
    let mut world = World::simple(2, 4);
    world.missing = Some(Prepare::RootPassword);
    world.always = Some(("giveBackAddress", Fault::Refused));
    until_reason(&mut world, "SecretConflict");
    let moved = "192.0.2.1".parse().unwrap();
    let server = world.panel.server("1");
    (server.main, server.rows[0].address) = (moved, moved);
    world.until("replaced again", Duration::from_hours(1), |w| asked(w, "replaceMainAddress") == 2);
    (world.always, world.missing) = (None, None);
    world.until_phase("web", "Active");
    assert_eq!(note_of(&world, parking()), None, "{}", world.describe());
    assert!(world.panel.servers["1"].main.to_string().starts_with("203.0.113."), "{}", world.describe());
}

/// What was taken by a call whose answer was lost, of a server that has a main address of IPv6 by now.
#[test]
fn a_parking_address_takes_no_place_of_the_other_family() {
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    let main: IpAddr = "fd00::1".parse().unwrap();
    let server = world.panel.server("1");
    server.rows.push(AddressRow { row: "added".into(), address: main, domain: "web.example.net".into() });
    server.main = main;
    world.panel.used.push(PoolAddress { note: "k8s:u-web".into(), ..parked("10.0.1.99".parse().unwrap()) });
    let (left, free): (IpAddr, IpAddr) = ("10.0.1.99".parse().unwrap(), "fd00::2".parse().unwrap());
    world.panel.free.entry("parking".into()).or_default().push(free);
    world.run_for(Duration::from_mins(1));
    world.delete("web");
    world.until("gone", Duration::from_hours(1), |w| !w.orders.contains_key("web"));
    assert_eq!((world.panel.servers["1"].main, asked(&world, "replaceMainAddress")), (free, 2), "{}", world.describe());
    assert!(world.panel.free["parking"].contains(&left) && world.tasks.is_empty(), "{}", world.describe());
}
