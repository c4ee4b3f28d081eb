//! A running server of a client is taken over as it is, by one note; what does not agree with the spec is refused.

use std::time::Duration;

use dci_operator::api::DedicatedServerOrder;
use dci_operator::api::handler::AllocateBy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{AddressRow, AddressRowId, Level, PanelUser, PoolAddress, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::Prepare;
use serde_json::{Value, json};

use super::{message, names, picture, reason, until_reason, without_marks};
use crate::support::look::note_of;
use crate::support::panel::Panel;
use crate::support::pool::parked;
use crate::support::seconds;
use crate::support::sweep::{FAULTS, Kind, reach};
use crate::support::world::{Fault, World, WriteFault, handler, order};

/// Server 2 is acme's, with two public addresses, a note of the provider's, and its power on.
pub(super) fn adopting(change: impl FnOnce(&mut Value)) -> World {
    let mut panel = Panel::new(3, 6);
    for (id, name) in [("5", "acme"), ("7", "bob")] {
        panel.users.push(PanelUser { id: id.into(), name: name.into(), level: Level::User });
    }
    let rows: Vec<AddressRow> = ["198.51.100.7", "198.51.100.8"]
        .iter()
        .enumerate()
        .map(|(n, a)| AddressRow { row: AddressRowId(format!("old{n}")), address: a.parse().unwrap(), domain: "web.example.net".into() })
        .collect();
    panel.used.retain(|u| u.address.to_string() != "10.0.0.2");
    for row in &rows {
        panel.used.push(PoolAddress {
            address: row.address,
            group: "public".into(),
            group_shown: None,
            domain: "web.example.net".into(),
            note: String::new(),
        });
    }
    let server = panel.server("2");
    (server.owner, server.on, server.main) = (Some(UserId("5".into())), true, rows[0].address);
    server.rows = rows;
    server.notes = "rack 4".into();
    let mut world = World::new(
        panel,
        handler(|h| {
            h["adoption"] = json!("Allowed");
            h["allowedDeletionPolicies"] = json!(["Release", "Orphan"]);
        }),
    );
    world.add(adopter("web", "u-web", change));
    world
}

fn adopter(name: &str, uid: &str, change: impl FnOnce(&mut Value)) -> DedicatedServerOrder {
    order(name, uid, |raw| {
        raw["spec"]["adopt"] = json!({"serverId": "2"});
        raw["spec"]["domain"] = json!("web.example.net");
        raw["spec"]["addresses"] = json!({"ipv4": 2});
        raw["spec"]["reinstall"] = json!("token");
        change(raw);
    })
}

#[test]
fn a_running_server_is_taken_over_by_one_note() {
    let mut world = adopting(|_| ());
    let before = picture(&world);
    world.until_phase("web", "Active");
    world.assert_quiet();
    assert_eq!(names(&world.asked), ["adopt"]);
    assert_eq!(without_marks(&picture(&world)), before);
    let status = world.status("web").clone();
    let server = status.server.clone().unwrap();
    assert_eq!((server.id.as_str(), server.name.as_str(), server.main_address.as_deref()), ("2", "R1-2", Some("198.51.100.7")));
    assert_eq!((server.panel.as_str(), server.handler.as_str()), (world.handler.panel.as_str(), world.handler.key.to_string().as_str()));
    assert_eq!((server.configuration.as_str(), server.client.as_str()), ("E3-16G", "acme"));
    assert_eq!((server.addresses.len(), server.domain.as_deref(), server.power_state.as_deref()), (2, Some("web.example.net"), Some("On")));
    assert!(server.handed_over_at.is_some() && server.template.is_none() && server.parked_address.is_none());
    assert_eq!(status.last_handled_reinstall.as_deref(), Some("token"), "recorded, not acted upon");
    for step in &status.steps {
        let expected = if step.name == "Allocate" { "Done" } else { "Skipped" };
        assert_eq!((step.state.as_str(), step.message.contains("adopted")), (expected, true), "{step:?}");
    }
    // From here on it is an Active order like any other: the power comes back on.
    world.panel.server("2").on = false;
    world.until("on", Duration::from_hours(1), |w| w.panel.servers["2"].on);
    world.until_phase("web", "Active");
    assert_eq!(names(&world.asked), ["adopt", "powerOn"]);
}

#[test]
fn an_adopted_server_goes_as_its_deletion_policy_says() {
    let mut world = adopting(|_| ());
    world.panel.server("2").notes.clear();
    world.until_phase("web", "Active");
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
    let mut world = adopting(|raw| raw["spec"]["deletionPolicy"] = json!("Orphan"));
    let before = picture(&world);
    world.until_phase("web", "Active");
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!((picture(&world), names(&world.asked)), (before, vec!["adopt", "unmark"]));
}

/// A crash between the two would leave it taken for ever. Where nothing is taken off, and nothing takes the main one's place, none is noted.
#[test]
fn an_address_of_an_adopted_server_is_noted_before_it_is_taken_off() {
    for (addresses, wanted) in [(2, vec!["noted", "off", "free"]), (1, Vec::new())] {
        let mut world = adopting(|raw| raw["spec"]["addresses"] = json!({"ipv4": addresses}));
        world.handler.parking_group = None;
        world.panel.server("2").rows.truncate(addresses);
        world.until_phase("web", "Active");
        world.delete("web");
        world.until_phase("web", "gone");
        let main = world.panel.servers["2"].main;
        let of = |call: &Call| match call {
            Call::SetNote { address, .. } => Some(("noted", *address)),
            Call::RemoveAddress { address, .. } => Some(("off", *address)),
            Call::GiveBack { address } => Some(("free", *address)),
            _ => None,
        };
        let done = world.asked.iter().filter_map(|(_, call)| of(call)).filter(|(_, address)| addresses == 1 || *address != main);
        assert_eq!(done.map(|(what, _)| what).collect::<Vec<_>>(), wanted, "{}", world.describe());
    }
}

/// Without a note nothing tells whose they are by now: they are told, since nobody else would find them.
#[test]
fn the_addresses_of_an_adopted_server_that_is_gone_stay_taken_and_are_told() {
    let mut world = adopting(|_| ());
    // One of which nobody knows where it stands, and which this server never had.
    world.panel.used.push(PoolAddress { group: "public".into(), ..parked("198.51.100.9".parse().unwrap()) });
    world.until_phase("web", "Active");
    world.panel.server("2").gone = true;
    until_reason(&mut world, "web", "ServerGone");
    world.delete("web");
    // Each status that is written is seen: the order goes right after the last one.
    let writes = world.writes;
    world.write_faults.extend((writes..writes + 30).map(|write| (write, WriteFault::CrashAfter)));
    let mut said = String::new();
    world.until("gone", Duration::from_hours(12), |w| {
        let release = w.orders.get("web").and_then(|order| order.status.steps.iter().find(|step| step.name == "Release"));
        if let Some(step) = release {
            said.clone_from(&step.message);
        }
        w.phase("web") == "gone"
    });
    assert!(said.contains("still taken there: 198.51.100.7, 198.51.100.8;"), "{said}");
    for address in ["198.51.100.7", "198.51.100.8"] {
        assert_eq!(note_of(&world, address.parse().unwrap()).as_deref(), Some(""), "{}", world.describe());
    }
}

#[test]
fn what_does_not_agree_is_refused_and_nothing_is_written() {
    type Change = fn(&mut World);
    type Spec = fn(&mut Value);
    let same: Spec = |_| ();
    let rows: [(&str, &str, Spec, Change, Change); 16] = [
        ("AdoptionForbidden", "spec.adoption: Allowed", same, |w| w.handler.adoption = false, |w| w.handler.adoption = true),
        ("AdoptionRefused", "no such server", same, |w| w.panel.server("2").gone = true, |w| w.panel.server("2").gone = false),
        ("AdoptionRefused", "nobody owns it", same, |w| w.panel.server("2").owner = None, |w| owner(w, "5")),
        ("AdoptionRefused", "does not belong to panel user acme", same, |w| owner(w, "7"), |w| owner(w, "5")),
        ("AdoptionRefused", "does not belong", same, |w| owner(w, "1"), |w| owner(w, "5")),
        ("AdoptionRefused", "marker of another", same, |w| note(w, "k8s:other/a/b/c"), |w| note(w, "")),
        ("AdoptionRefused", "marker of another", same, |w| note(w, "k8s:cluster-1/shop/web/u-old"), |w| note(w, "")),
        ("AdoptionRefused", "marker of another", same, |w| note(w, "k8s:cluster-1/sh"), |w| note(w, "")),
        ("AdoptionRefused", "holds its lock", same, |w| lock(w, "u-other"), |w| w.locks.clear()),
        ("AdoptionRefused", "serverType says E3-16G", same, |w| kind(w, "E5-64G"), |w| kind(w, "E3-16G")),
        ("AdoptionRefused", "spec.domain says web.example.net", same, |w| domain(w, "old.example.net"), |w| domain(w, "web.example.net")),
        (
            "AdoptionRefused",
            "it has 2 addresses of family ipv4, spec.addresses.ipv4 says 1",
            |r| r["spec"]["addresses"] = json!({"ipv4": 1}),
            |_| (),
            |w| w.edit("web", |raw| raw.spec.addresses.ipv4 = 2),
        ),
        ("AdoptionRefused", "it is off", same, |w| w.panel.server("2").on = false, |w| w.panel.server("2").on = true),
        ("AdoptionRefused", "suspended", same, |w| w.panel.server("2").disabled = true, |w| w.panel.server("2").disabled = false),
        (
            "ClientIsAdministrator",
            "k8s-admin",
            |r| r["spec"]["client"]["username"] = json!("k8s-admin"),
            |w| owner(w, "1"),
            |w| {
                owner(w, "5");
                w.edit("web", |raw| raw.spec.client.username = "acme".into());
            },
        ),
        ("ClientNameTaken", "not there", same, |w| w.missing = Some(Prepare::ClientName), |w| w.missing = None),
    ];
    for (wanted, words, spec, wrong, cure) in rows {
        let mut world = adopting(spec);
        wrong(&mut world);
        let before = picture(&world);
        until_reason(&mut world, "web", wanted);
        world.run_for(Duration::from_hours(1));
        assert_eq!((picture(&world), world.asked.len()), (before, 0), "{wanted}: {words}");
        assert!(message(&world, "web").contains(words), "{wanted}: {}", message(&world, "web"));
        assert_eq!((world.phase("web"), world.tasks.len()), ("Failed", 0));
        cure(&mut world);
        world.force("web");
        world.until_phase("web", "Active");
        assert_eq!(names(&world.asked), ["adopt"], "{wanted}: {words}");
    }
    // Everything that differs stands in one message.
    let mut world = adopting(|r| r["spec"]["addresses"] = json!({"ipv4": 4}));
    domain(&mut world, "old.example.net");
    until_reason(&mut world, "web", "AdoptionRefused");
    let text = message(&world, "web");
    assert!(text.contains("old.example.net") && text.contains("says 4"), "{text}");
    // Whoever does not own it is told nothing of it.
    owner(&mut world, "7");
    world.force("web");
    world.run_for(seconds(60));
    assert!(!message(&world, "web").contains("old.example.net"), "{}", message(&world, "web"));
}

fn owner(world: &mut World, id: &str) {
    world.panel.server("2").owner = Some(UserId(id.into()));
}

fn note(world: &mut World, text: &str) {
    world.panel.server("2").notes = text.into();
}

fn lock(world: &mut World, holder: &str) {
    world.locks.insert("2".into(), holder.into());
}

fn kind(world: &mut World, name: &str) {
    world.panel.server("2").kind = name.into();
}

fn domain(world: &mut World, name: &str) {
    world.panel.server("2").rows.iter_mut().for_each(|r| r.domain = name.into());
}

#[test]
fn of_two_orders_one_gets_the_server() {
    for late in [None, Some(Fault::LostLate(seconds(20))), Some(Fault::CrashAfter), Some(Fault::CrashBefore)] {
        let mut world = adopting(|_| ());
        world.add(adopter("web2", "u-web2", |_| ()));
        if let Some(fault) = late {
            world.faults.insert(0, fault);
        }
        world.until("one has it", Duration::from_hours(2), |w| w.phase("web") == "Active" || w.phase("web2") == "Active");
        world.run_for(Duration::from_hours(1));
        let (first, second) = if world.phase("web") == "Active" { ("web", "web2") } else { ("web2", "web") };
        assert_eq!((world.phase(first), reason(world.status(second))), ("Active", "AdoptionRefused"), "{}", world.describe());
        world.delete(second);
        world.until_phase(second, "gone");
        world.run_for(seconds(120));
        assert_eq!(world.phase(first), "Active");
    }
}

#[test]
fn a_marker_that_is_cut_short_is_taken_away_and_the_client_keeps_the_server() {
    for (kept, end) in [(16, ""), (usize::MAX, "…")] {
        let mut world = adopting(|_| ());
        (world.panel.notes_max, world.panel.notes_end) = (kept, end);
        let before = picture(&world);
        until_reason(&mut world, "web", "MarkerTruncated");
        world.run_for(Duration::from_hours(1));
        assert_eq!((picture(&world), names(&world.asked)), (before, vec!["adopt", "unmark"]));
    }
}

#[test]
fn domain_and_addresses_of_an_adopted_server_follow_the_spec_and_its_main_address_stays() {
    for by_panel in [false, true] {
        let mut world = adopting(|_| ());
        if by_panel {
            world.handler.allocate_by = AllocateBy::Panel;
        }
        world.panel.server("2").notes.clear();
        world.until_phase("web", "Active");
        for (v4, v6, name) in [(3, 1, "web.example.net"), (1, 0, "b.example.net"), (2, 0, "b.example.net")] {
            world.edit("web", |raw| {
                (raw.spec.addresses.ipv4, raw.spec.addresses.ipv6) = (v4, v6);
                raw.spec.domain = name.into();
            });
            let generation = world.orders["web"].raw.metadata.generation;
            world.until("acted upon", Duration::from_hours(1), |w| {
                w.status("web").observed_generation == generation && w.phase("web") == "Active"
            });
            let server = &world.panel.servers["2"];
            let count = |v4: bool| server.rows.iter().filter(|r| r.address.is_ipv4() == v4).count();
            assert_eq!((count(true), count(false)), (usize::try_from(v4).unwrap(), usize::try_from(v6).unwrap()), "{}", world.describe());
            assert!(server.main.to_string() == "198.51.100.7" && server.rows.iter().all(|r| r.domain == name), "{}", world.describe());
            let in_use = world.panel.used.iter().filter(|u| u.group == "public").count();
            assert_eq!(in_use, server.rows.len(), "addresses leak\n{}", world.describe());
        }
        assert!(!names(&world.asked).iter().any(|n| ["install", "powerOff", "replaceMainAddress"].contains(n)));
        world.delete("web");
        world.until_phase("web", "gone");
        world.assert_clean();
    }
}

/// One of its addresses is of a group that the operator does not take from: it is one of those that are wanted, and stays.
#[test]
fn an_address_of_another_group_on_an_adopted_server_counts() {
    let mut world = adopting(|_| ());
    let other: std::net::IpAddr = "198.51.100.8".parse().unwrap();
    world.panel.used.iter_mut().find(|u| u.address == other).unwrap().group = "legacy".into();
    // One that somebody else has, without a note.
    let theirs: std::net::IpAddr = "198.51.100.9".parse().unwrap();
    world.panel.used.push(PoolAddress { address: theirs, group: "public".into(), ..world.panel.used[0].clone() });
    world.until_phase("web", "Active");
    world.edit("web", |raw| raw.spec.domain = "b.example.net".into());
    world.run_for(Duration::from_hours(1));
    let rows = &world.panel.servers["2"].rows;
    assert!(rows.len() == 2 && rows.iter().all(|r| r.domain == "b.example.net"), "{}", world.describe());
    assert!(rows.iter().any(|r| r.address == other) && !names(&world.asked).contains(&"takeAddress"), "{}", world.describe());
    assert_eq!((world.phase("web"), world.status("web").server.as_ref().unwrap().addresses.len()), ("Active", 2));
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 3);
    world.until("a third one", Duration::from_hours(1), |w| w.panel.servers["2"].rows.len() == 3 && w.phase("web") == "Active");
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
    world.until("two again", Duration::from_hours(1), |w| w.panel.servers["2"].rows.len() == 2 && w.phase("web") == "Active");
    assert!(world.panel.servers["2"].rows.iter().any(|r| r.address == other), "{}", world.describe());
    // Fewer than it had: nobody but a person takes that one off.
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 1);
    world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
    assert!(world.tasks.last().unwrap().details.contains("198.51.100.8"), "{}", world.describe());
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 2);
    world.until("as it was", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.open_tasks().is_empty());
    world.assert_quiet();
    assert_eq!(note_of(&world, theirs).as_deref(), Some(""), "{}", world.describe());
}

/// Deleted while it is being taken over: the client keeps what it had.
fn cut_short(world: &mut World, before: &str) {
    reach(world, "gone", Kind::Plain);
    assert_eq!(picture(world), *before, "{}", world.describe());
    assert!(world.locks.is_empty(), "{}", world.describe());
    world.assert_quiet();
}

/// A life of an adopted order, taken over and left again: at the end everything is as it was.
fn taken_and_left(world: &mut World, fault: Option<Fault>) {
    let before = picture(world);
    reach(world, "Active", Kind::Plain);
    assert_eq!(without_marks(&picture(world)), before, "{}", world.describe());
    world.run_for(seconds(60));
    world.assert_quiet();
    world.delete("web");
    reach(world, "gone", Kind::Plain);
    assert_eq!(picture(world), before, "{}", world.describe());
    let only = names(&world.asked).iter().all(|n| ["adopt", "unmark"].contains(n));
    assert!(only && world.locks.is_empty(), "{fault:?}\n{}", world.describe());
}

/// Every fault at every call, write and read of an adoption, and of one that is deleted meanwhile.
pub(super) fn adoptions() -> Vec<(String, Box<dyn FnOnce()>)> {
    let leaving = || adopting(|raw| raw["spec"]["deletionPolicy"] = json!("Orphan"));
    let mut world = leaving();
    taken_and_left(&mut world, None);
    let (calls, reads, writes) = (world.asked.len(), world.reads, world.writes);
    let mut all: Vec<(String, Box<dyn FnOnce()>)> = Vec::new();
    for call in 0..calls {
        for (fault, fail) in FAULTS.into_iter().flat_map(|fault| [0, 2].map(|fail| (fault, fail))) {
            let live = move || {
                let mut world = leaving();
                world.faults.insert(call, fault);
                world.then_reads_fail = fail;
                taken_and_left(&mut world, Some(fault));
            };
            all.push((format!("adopt, call {call}, {fault:?}, {fail}"), Box::new(live)));
            let live = move || {
                let mut world = adopting(|_| ());
                let before = picture(&world);
                world.faults.insert(0, fault);
                world.then_reads_fail = fail;
                world.delete_after_call = Some(0);
                cut_short(&mut world, &before);
            };
            all.push((format!("adopt, deleted, {fault:?}, {fail}"), Box::new(live)));
        }
    }
    for write in 0..writes {
        for fault in [WriteFault::CrashBefore, WriteFault::CrashAfter] {
            let live = move || {
                let mut world = leaving();
                world.write_faults.insert(write, fault);
                taken_and_left(&mut world, None);
            };
            all.push((format!("adopt, write {write}, {fault:?}"), Box::new(live)));
        }
    }
    for read in 0..reads {
        let live = move || {
            let mut world = leaving();
            world.read_faults.extend(read..read + 3);
            taken_and_left(&mut world, None);
        };
        all.push((format!("adopt, read {read}"), Box::new(live)));
    }
    all
}

#[test]
fn an_adoption_that_never_works_becomes_a_task_and_ends_with_the_order() {
    for fault in [Fault::Refused, Fault::LostNot, Fault::Ignored] {
        let mut world = adopting(|_| ());
        let before = picture(&world);
        world.always = Some(("adopt", fault));
        world.until("a task", Duration::from_hours(12), |w| !w.tasks.is_empty());
        assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.always = None;
        world.until_phase("web", "Active");
        assert_eq!(without_marks(&picture(&world)), before);
    }
}

#[test]
fn an_adoption_that_was_cut_short_ends_also_where_the_server_is_gone_or_another_marker_came_to_it() {
    let begun = || {
        let mut world = adopting(|_| ());
        world.faults.insert(0, Fault::LostApplied);
        world.until("asked for", seconds(600), |w| !w.asked.is_empty());
        assert!(world.status("web").server.is_none() && world.panel.servers["2"].notes.contains("u-web"), "{}", world.describe());
        world
    };
    let mut world = begun();
    world.panel.servers.remove("2");
    world.delete("web");
    world.until_phase("web", "gone");
    let mut world = begun();
    world.panel.server("2").notes.push_str(" k8s:c/shop/other/u-9");
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!(world.panel.servers["2"].notes, "rack 4 k8s:c/shop/other/u-9", "{}", world.describe());
}

/// What was asked for while it was allowed may still land: it is the order's then, and nothing of it is in flight otherwise.
#[test]
fn an_adoption_that_is_forbidden_while_its_answer_is_missing_is_waited_for() {
    for (fault, lands) in [(Fault::LostLate(Duration::from_mins(1)), true), (Fault::LostNot, false), (Fault::CrashBefore, false)] {
        let mut world = adopting(|_| ());
        let before = picture(&world);
        world.faults.insert(0, fault);
        world.until("asked for", seconds(600), |w| !w.asked.is_empty());
        world.handler.adoption = false;
        world.force("web");
        until_reason(&mut world, "web", if lands { "Active" } else { "AdoptionForbidden" });
        let status = world.status("web");
        assert_eq!((status.server.is_some(), status.in_flight.is_some()), (lands, false), "{fault:?}\n{}", world.describe());
        assert_eq!(without_marks(&picture(&world)), before, "{fault:?}");
        assert_eq!(names(&world.asked), ["adopt"], "{fault:?}");
    }
}

#[test]
fn no_recipe_is_run_on_a_server_that_was_taken_over_but_those_that_are_added() {
    let mut world = adopting(|raw| raw["spec"]["recipes"] = json!(["a.sh"]));
    world.handler.run_recipe = true;
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(1));
    assert_eq!(names(&world.asked), ["adopt"], "{}", world.describe());
    world.edit("web", |raw| raw.spec.recipes.push("b.sh".into()));
    world.run_for(Duration::from_hours(1));
    let recipe = |call: &Call| if let Call::RunRecipe { recipe, .. } = call { Some(recipe.clone()) } else { None };
    let ran: Vec<String> = world.asked.iter().filter_map(|(_, call)| recipe(call)).collect();
    assert_eq!(ran, ["b.sh"], "{}", world.describe());
}
