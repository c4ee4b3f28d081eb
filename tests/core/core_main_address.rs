//! The main address of a server after somebody changed it at the panel, or left it as it was: it is what the panel's list shows.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::changes::reinstall;
use crate::support::look::{takes, until_reason};
use crate::support::panel::Panel;
use crate::support::pool::parked;
use crate::support::seconds;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::provisioning::call::Call;
use serde_json::{Value, json};

/// An order with two addresses; a person has made the second one the main one, and the list shows it.
fn swapped(change: impl FnOnce(&mut Value)) -> (World, IpAddr) {
    let mut world = World::new(Panel::new(2, 6), handler(|h| change(&mut h["ipManagement"])));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.until_phase("web", "Active");
    let server = world.panel.server("1");
    let second = server.rows.iter().map(|r| r.address).find(|a| *a != server.main).unwrap();
    server.main = second;
    world.run_for(Duration::from_mins(1));
    (world, second)
}

fn addresses(world: &World) -> Vec<IpAddr> {
    world.panel.servers["1"].rows.iter().map(|r| r.address).collect()
}

#[test]
fn the_address_that_somebody_made_the_main_one_is_not_the_one_that_is_taken_away() {
    for by in ["Operator", "Panel"] {
        let (mut world, main) = swapped(|ip| ip["allocateBy"] = json!(by));
        world.edit("web", |raw| raw.spec.addresses.ipv4 = 1);
        let generation = world.orders["web"].raw.metadata.generation;
        world.until("acted upon", Duration::from_hours(1), |w| {
            w.status("web").observed_generation == generation && w.phase("web") == "Active"
        });
        assert_eq!(addresses(&world), [main], "{by}\n{}", world.describe());
        assert_eq!(world.status("web").server.as_ref().unwrap().main_address, Some(main.to_string()), "{by}");
        assert!(world.tasks.is_empty(), "{by}\n{}", world.describe());
        world.assert_quiet();
        // And where the server is given back.
        let (mut world, _) = swapped(|ip| ip["allocateBy"] = json!(by));
        world.delete("web");
        world.until_phase("web", "gone");
        assert!(world.tasks.is_empty(), "{by}\n{}", world.describe());
        world.assert_clean();
    }
}

/// The main address that it came with is an additional one by now: it counts as one of those that are wanted, and no other is taken for it.
#[test]
fn a_main_address_that_was_kept_counts_also_where_it_is_not_the_main_one_any_more() {
    let (mut world, main) = swapped(|ip| ip["disableIPChange"] = json!(true));
    let (before, taken) = (addresses(&world), takes(&world));
    for domain in ["a.example.net", "b.example.net"] {
        world.edit("web", |raw| raw.spec.domain = domain.into());
        world.run_for(Duration::from_hours(1));
        assert_eq!((world.phase("web"), addresses(&world), takes(&world)), ("Active", before.clone(), taken), "{}", world.describe());
    }
    assert_eq!(world.status("web").server.as_ref().unwrap().main_address, Some(main.to_string()));
    world.assert_quiet();
}

#[test]
fn a_main_address_that_is_kept_is_recorded_as_one() {
    for kind in [Kind::Plain, Kind::NoParking, Kind::ByPanel, Kind::DisableIpChange] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        let kept = |w: &World| w.status("web").server.as_ref().unwrap().main_address_kept;
        assert_eq!(kept(&world), kind == Kind::DisableIpChange, "{kind:?}");
        // What the handler says later changes nothing of where it is from.
        world.handler.disable_ip_change = false;
        world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
        world.run_for(Duration::from_hours(1));
        assert_eq!((world.phase("web"), kept(&world)), ("Active", kind == Kind::DisableIpChange), "{kind:?}\n{}", world.describe());
    }
}

/// Somebody gives the server another main address; the panel refuses to install with one that the server does not have.
#[test]
fn a_system_is_installed_with_the_main_address_that_the_server_has() {
    let moved: IpAddr = "192.0.2.1".parse().unwrap();
    for (kind, again) in
        [(Kind::Plain, true), (Kind::DisableIpChange, true), (Kind::ByPanel, true), (Kind::DisableIpChange, false), (Kind::ByPanel, false)]
    {
        let mut world = kind.world();
        if again {
            reach(&mut world, "Active", kind);
            world.run_for(seconds(60));
        } else {
            world.always = Some(("install", Fault::Refused));
            world.until("refused", Duration::from_hours(1), |w| w.status("web").last_error.as_ref().is_some_and(|e| e.step == "InstallOS"));
        }
        let server = world.panel.server("1");
        let main = std::mem::replace(&mut server.main, moved);
        server.rows.iter_mut().filter(|row| row.address == main).for_each(|row| row.address = moved);
        world.always = None;
        world.run_for(seconds(60));
        if again {
            reinstall(&mut world, "again");
        }
        world.until("it is installed", Duration::from_hours(6), |w| {
            w.panel.servers["1"].installs == 1 + usize::from(again) && w.phase("web") == "Active"
        });
        let address = |call: &Call| if let Call::Install { address, .. } = call { *address } else { None };
        let last = world.asked.iter().rev().find_map(|(_, call)| address(call));
        assert_eq!((last, world.tasks.len()), (Some(moved), 0), "{kind:?} {again}\n{}", world.describe());
        assert_eq!(world.status("web").server.as_ref().unwrap().main_address.as_deref(), Some("192.0.2.1"), "{kind:?} {again}");
        world.assert_quiet();
    }
}

/// A server with a main address of IPv6, and an order that asks for one of IPv4 alone.
fn with_ipv6(disable_ip_change: bool) -> World {
    let mut world = World::new(Panel::new(1, 6), handler(|h| h["ipManagement"]["disableIPChange"] = json!(disable_ip_change)));
    let main: IpAddr = "fd00::1".parse().unwrap();
    let server = world.panel.server("1");
    (server.main, server.rows[0].address) = (main, main);
    world.panel.used = vec![parked(main)];
    world.add(order("web", "u-web", |_| ()));
    world
}

#[test]
fn a_main_address_of_ipv6_counts_where_none_was_asked_for() {
    let mut world = with_ipv6(true);
    world.until_phase("web", "Active");
    world.assert_quiet();
    assert_eq!(addresses(&world).iter().filter(|a| a.is_ipv4()).count(), 1, "{}", world.describe());
    assert!(addresses(&world).len() == 2 && world.panel.servers["1"].main.is_ipv6(), "{}", world.describe());
    // Where it is to be replaced, the client is told what to ask for.
    let mut world = with_ipv6(false);
    until_reason(&mut world, "InvalidSpec");
    let said = find(&world.status("web").conditions, ConditionType::Ready).map(|c| c.message.clone()).unwrap_or_default();
    assert!(said.contains("at least one in spec.addresses.ipv6") && world.tasks.is_empty(), "{said}");
    world.edit("web", |raw| raw.spec.addresses.ipv6 = 1);
    world.until_phase("web", "Active");
    assert!(world.panel.servers["1"].main.to_string().starts_with("2001:db8::"), "{}", world.describe());
    world.assert_quiet();
}
