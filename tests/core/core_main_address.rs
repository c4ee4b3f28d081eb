//! The main address of a server after somebody changed it at the panel, or left it as it was: it is what the panel's list shows.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::changes::reinstall;
use crate::support::look::{takes, until_reason};
use crate::support::panel::Panel;
use crate::support::pool::parked;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::panel::model::{AddressRow, AddressRowId, PoolAddress};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::Prepare;
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
    let server = world.status("web").server.as_ref().unwrap();
    let kept = before.iter().find(|a| **a != main).map(IpAddr::to_string);
    assert_eq!((&server.main_address, &server.kept_address), (&Some(main.to_string()), &kept));
    world.assert_quiet();
}

/// Somebody adds an address of nobody's, or another order's, and makes it the main one.
#[test]
fn an_address_that_somebody_adds_as_the_main_one_takes_none_of_the_clients_away() {
    let added: IpAddr = "203.0.113.200".parse().unwrap();
    for (by, note) in [("Operator", ""), ("Operator", "k8s:u-gone"), ("Operator", "k8s:u-web"), ("Panel", ""), ("Panel", "k8s:u-gone")] {
        let mut world = World::new(Panel::new(2, 6), handler(|h| h["ipManagement"]["allocateBy"] = json!(by)));
        world.add(order("web", "u-web", |_| ()));
        world.until_phase("web", "Active");
        let server = world.panel.server("1");
        let got = server.main;
        server.rows.push(AddressRow { row: AddressRowId("added".into()), address: added, domain: "web.example.net".into() });
        server.main = added;
        let (group, domain) = ("public".to_owned(), "web.example.net".to_owned());
        world.panel.used.push(PoolAddress { address: added, group, group_shown: None, domain, note: note.into() });
        world.run_for(Duration::from_mins(1));
        let at = world.asked.len();
        for domain in ["a.example.net", "b.example.net"] {
            world.edit("web", |raw| raw.spec.domain = domain.into());
            let generation = world.orders["web"].raw.metadata.generation;
            world.until("acted upon", Duration::from_hours(1), |w| {
                w.status("web").observed_generation == generation && w.phase("web") == "Active"
            });
            let taken = ["takeAddress", "addAddress", "removeAddress", "giveBackAddress"];
            let taken = world.asked[at..].iter().filter(|(_, call)| taken.contains(&call.name())).count();
            assert_eq!((taken, addresses(&world)), (0, vec![got, added]), "{by} {note}\n{}", world.describe());
            let status = world.status("web");
            let server = status.server.as_ref().unwrap();
            assert_eq!((&server.addresses, &server.main_address), (&vec![got.to_string()], &Some(got.to_string())), "{by} {note}");
            let said = &status.steps.iter().find(|s| s.name == "ChangeAddress").unwrap().message;
            assert!(said.contains("also has 203.0.113.200, which this order did not get"), "{said}");
            // A system is installed with what the panel's list shows: it is none of the client's for that.
            reinstall(&mut world, domain);
            world.until("installed", Duration::from_hours(6), |w| {
                w.status("web").last_handled_reinstall.as_deref() == Some(domain) && w.phase("web") == "Active"
            });
            assert_eq!(world.status("web").server.as_ref().unwrap().addresses, [got.to_string()], "{by} {note}");
        }
        assert!(world.tasks.is_empty(), "{by} {note}\n{}", world.describe());
        world.assert_quiet();
    }
}

#[test]
fn a_main_address_that_is_kept_is_recorded_as_one() {
    for kind in [Kind::Plain, Kind::NoParking, Kind::ByPanel, Kind::DisableIpChange] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        let main = world.panel.servers["1"].main.to_string();
        let kept = |w: &World| w.status("web").server.as_ref().unwrap().kept_address.clone();
        let expected = (kind == Kind::DisableIpChange).then_some(main);
        assert_eq!(kept(&world), expected, "{kind:?}");
        // What the handler says later changes nothing of where it is from.
        world.handler.disable_ip_change = false;
        world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
        world.run_for(Duration::from_hours(1));
        assert_eq!((world.phase("web"), kept(&world)), ("Active", expected), "{kind:?}\n{}", world.describe());
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
        let server = world.status("web").server.as_ref().unwrap();
        assert_eq!(server.main_address.as_deref(), Some("192.0.2.1"), "{kind:?} {again}");
        // The server's own, and not the one that was replaced; IPmanager is asked about none that it may not know.
        assert_eq!(server.addresses.first(), server.main_address.as_ref(), "{kind:?} {again}");
        assert!(!server.addresses.contains(&main.to_string()), "{kind:?} {again}: {:?}", server.addresses);
        let kept = (kind != Kind::ByPanel).then_some("192.0.2.1");
        assert_eq!(server.kept_address.as_deref(), kept, "{kind:?} {again}");
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

/// The answer to the first removal is lost, and nothing was done: by the second one another address is the main one.
#[test]
fn what_is_taken_away_at_a_second_attempt_is_not_the_main_address_by_then() {
    let mut world = World::new(Panel::new(2, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.until_phase("web", "Active");
    world.run_for(seconds(60));
    let asked = world.asked.len();
    world.faults.insert(asked, Fault::LostNot);
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 1);
    world.until("a removal", Duration::from_mins(5), |w| w.asked.len() > asked);
    let Some((_, Call::RemoveAddress { address, .. })) = world.asked.last().cloned() else { panic!("{}", world.describe()) };
    world.panel.server("1").main = address;
    let generation = world.orders["web"].raw.metadata.generation;
    world.until("acted upon", Duration::from_hours(1), |w| w.status("web").observed_generation == generation && w.phase("web") == "Active");
    let again = |call: &Call| matches!(call, Call::RemoveAddress { address: asked, .. } if *asked == address);
    assert!(!world.asked[asked + 1..].iter().any(|(_, call)| again(call)), "{}", world.describe());
    assert_eq!((addresses(&world), world.tasks.len()), (vec![address], 0), "{}", world.describe());
}

#[test]
fn why_a_main_address_is_not_known_is_told() {
    for (stands, said) in
        [(None, "it has no address at all"), (Some("192.0.2.1"), "its addresses do not contain 10.0.0.1, the main one in")]
    {
        let mut world = World::simple(1, 4);
        world.until("it has a server", Duration::from_hours(1), |w| w.status("web").server.is_some());
        let rows = &mut world.panel.server("1").rows;
        match stands {
            Some(address) => rows[0].address = address.parse().unwrap(),
            None => rows.clear(),
        }
        world.until("a failure", Duration::from_hours(1), |w| w.status("web").last_error.is_some());
        let error = world.status("web").last_error.as_ref().unwrap();
        assert!(error.code == "MainAddressUnknown" && error.message.contains(said), "{error:?}");
    }
}

/// The answer to the first replacement is lost, and nothing was done: somebody adds another main address before the second one.
#[test]
fn what_is_replaced_at_a_second_attempt_is_the_main_address_by_then() {
    let mut world = World::simple(2, 4);
    world.always = Some(("replaceMainAddress", Fault::LostNot));
    world.until("asked", Duration::from_hours(1), |w| w.asked.last().is_some_and(|(_, call)| call.name() == "replaceMainAddress"));
    world.always = None;
    let added: IpAddr = "192.0.2.1".parse().unwrap();
    let server = world.panel.server("1");
    server.rows.push(AddressRow { row: AddressRowId("added".into()), address: added, domain: "web.example.net".into() });
    server.main = added;
    world.until_phase("web", "Active");
    let current = |call: &Call| if let Call::ReplaceMain { current, .. } = call { Some(*current) } else { None };
    let replaced: Vec<IpAddr> = world.asked.iter().filter_map(|(_, call)| current(call)).collect();
    assert_eq!(replaced.last(), Some(&added), "{}", world.describe());
    assert!(!addresses(&world).contains(&added), "{}", world.describe());
}

/// The list is older than what was read of the server, or the panel does not agree with itself.
#[test]
fn a_main_address_that_the_list_alone_shows_is_none_of_the_servers() {
    let mut world = World::simple(2, 4);
    world.missing = Some(Prepare::RootPassword);
    until_reason(&mut world, "SecretConflict");
    let asked = world.asked.len();
    let main = std::mem::replace(&mut world.panel.server("1").main, "192.0.2.1".parse().unwrap());
    world.run_for(Duration::from_mins(11));
    let error = world.status("web").last_error.as_ref().unwrap();
    assert_eq!((world.asked.len(), error.code.as_str()), (asked, "SecretConflict"), "{}", world.describe());
    world.panel.server("1").main = main;
    world.missing = None;
    world.until_phase("web", "Active");
    // One that is the order's own, and was taken before a crash, is put onto the server all the same.
    let taken: IpAddr = "203.0.113.90".parse().unwrap();
    let (group, domain) = ("public".into(), "web.example.net".into());
    world.panel.used.push(PoolAddress { address: taken, group, group_shown: None, domain, note: "k8s:u-web".into() });
    world.panel.server("1").main = taken;
    world.list();
    world.panel.server("1").main = main;
    world.next_list = later(world.now, Duration::from_mins(5));
    let before = takes(&world);
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
    world.until("acted upon", Duration::from_mins(1), |w| addresses(w).len() == 2);
    assert_eq!((addresses(&world), takes(&world)), (vec![main, taken], before), "{}", world.describe());
}
