//! Which server an order takes, what it says where it takes none, and what it looks at before.

use std::time::Duration;

use crate::support::look::{active, made, reason, stalled, until_reason};
use crate::support::panel::{Panel, TEMPLATE};
use crate::support::seconds;
use crate::support::world::{World, handler, order};
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::capacity::FOR_OTHERS;
use dci_operator::provisioning::facts::Prepare;
use serde_json::{Value, json};

const MARKER: &str = "k8s:cluster-1/shop/web/u-web";
const OTHER: &str = "ISPsystem__Ubuntu-24.04-x86_64";

/// The servers that claims were asked for.
fn claimed(world: &World) -> Vec<&str> {
    world.asked.iter().filter(|(_, c)| c.name() == "claim").filter_map(|(_, c)| c.server()).map(|server| server.0.as_str()).collect()
}

fn server_of(world: &World) -> Option<&str> {
    world.status("web").server.as_ref().map(|s| s.id.as_str())
}

fn told(world: &World) -> String {
    world.status("web").last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default()
}

fn restored(world: &mut World, change: impl FnOnce(&mut Value)) {
    world.orders.remove("web");
    world.restart();
    world.add(order("web", "u-new", |raw| {
        raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"});
        change(raw);
    }));
}

/// Steps until the order is Active and has never given this reason meanwhile.
fn until_active_without(world: &mut World, reasons: &[&str]) {
    world.until("Active", Duration::from_hours(2), |w| {
        let said = reason(w.status("web"));
        assert!(!reasons.contains(&said), "{said}\n{}", w.describe());
        w.phase("web") == "Active"
    });
}

#[test]
fn the_status_names_the_server_and_its_parking_address_until_the_client_has_it() {
    let mut world = World::simple(2, 4);
    world.until("a server", Duration::from_hours(1), |w| server_of(w).is_some());
    let server = world.status("web").server.clone().unwrap();
    assert_eq!((server.name.as_str(), server.parked_address.as_deref()), ("R1-1", Some("10.0.0.1")), "{}", world.describe());
    assert_eq!((server.panel, server.handler), (world.handler.panel.clone(), world.handler.key.to_string()));
    let mut world = active();
    restored(&mut world, |_| ());
    world.until("a server", Duration::from_hours(1), |w| server_of(w).is_some());
    let server = world.status("web").server.clone().unwrap();
    assert_eq!((server.name.as_str(), server.parked_address.as_deref()), ("R1-1", None), "{}", world.describe());
}

/// Whether the handler sells it is asked of what is to be allocated, not of what the order has had before it was restored.
#[test]
fn a_restored_order_finds_what_it_composed_also_where_server_types_only_are_sold_by_now() {
    let custom = |raw: &mut Value| raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}});
    let mut world = World::new(Panel::new(2, 6), handler(|_| ()));
    world.panel.server("1").parts.memory = Some("64".into());
    world.add(order("web", "u-web", custom));
    world.until_phase("web", "Active");
    world.run_for(seconds(90));
    world.handler.by_server_type = true;
    restored(&mut world, custom);
    until_active_without(&mut world, &["CustomConfigurationRefused"]);
    assert_eq!((server_of(&world), made(&world, "claim")), (Some("1"), 1), "{}", world.describe());
}

#[test]
fn what_is_not_there_in_kubernetes_is_waited_for_where_a_secret_is_and_else_told() {
    for (missing, said, stalls) in [
        (Prepare::RootPassword, "CredentialsMissing", false),
        (Prepare::ClientName, "ClientNameTaken", true),
        (Prepare::PanelPassword, "SecretConflict", true),
    ] {
        let mut world = World::new(Panel::new(2, 4), handler(|_| ()));
        world.add(order("web", "u-web", |raw| {
            raw["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": "root", "key": "password"});
        }));
        world.missing = Some(missing);
        until_reason(&mut world, said);
        let waits = world.status("web").waiting_on.as_ref().map(|w| w.kind.as_str());
        assert_eq!((stalled(&world), waits), (stalls, (!stalls).then_some("Retry")), "{said}\n{}", world.describe());
        assert!(claimed(&world).is_empty(), "{said}");
        world.missing = None;
        world.force("web");
        world.until_phase("web", "Active");
    }
}

/// Somebody changes the notes of a server after they were read for the list: what they say now is waited for, and told by the next one.
#[test]
fn notes_that_are_older_than_the_form_are_waited_for() {
    for (before, after) in [("k8s:cluster-1/shop/web/u-old", ""), (MARKER, "k8s:cluster-1/shop/other/u-other")] {
        let mut world = World::simple(2, 4);
        let raw = world.orders.remove("web").unwrap().raw;
        let server = world.panel.server("1");
        (server.owner, server.notes) = (Some("1".into()), before.into());
        world.step();
        world.panel.server("1").notes = after.into();
        world.add(raw);
        world.pass("web");
        until_active_without(&mut world, &["PreviousServerFound", "NotOurServer"]);
        assert_eq!((server_of(&world), world.panel.servers["1"].notes.as_str()), (Some("2"), after), "{}", world.describe());
    }
}

#[test]
fn what_is_left_of_an_order_s_own_marker_is_told_from_an_earlier_order_s() {
    for (notes, words) in [
        (&MARKER[..MARKER.len() - 1], "carries what the panel left of this order's marker"),
        ("k8s:cluster-1/shop/web/u-old", "carries the marker of an earlier order of this name"),
    ] {
        let mut world = World::simple(2, 4);
        let server = world.panel.server("1");
        (server.owner, server.notes) = (Some("1".into()), notes.into());
        until_reason(&mut world, "PreviousServerFound");
        assert!(told(&world).contains(words) && claimed(&world).is_empty(), "{}", told(&world));
    }
}

/// What belongs to other clients of the panel is looked at for nobody.
#[test]
fn a_restored_order_does_not_wait_for_what_other_clients_servers_carry() {
    let mut world = active();
    world.panel.server("3").owner = Some(UserId("7".into()));
    restored(&mut world, |_| ());
    world.until("found", Duration::from_mins(10), |w| w.phase("web") == "Active");
    assert_eq!(server_of(&world), Some("1"));
}

/// Its notes are read with the lists: between two of them there is nothing to look at.
#[test]
fn an_order_that_waits_for_a_server_to_be_read_is_looked_at_with_each_list() {
    let mut world = World::simple(2, 4);
    world.panel.server("2").owner = Some(UserId("1".into()));
    world.unread = Some(("2".into(), world.now));
    until_reason(&mut world, "WaitingForPanel");
    let (passes, poll) = (world.passes, world.handler.poll);
    world.run_for(poll * 4);
    assert!((4..=6).contains(&(world.passes - passes)), "{} passes\n{}", world.passes - passes, world.describe());
    assert_eq!(reason(world.status("web")), "WaitingForPanel");
}

#[test]
fn a_server_that_another_order_holds_the_lock_of_is_not_asked_for() {
    let mut world = World::simple(2, 4);
    let raw = world.orders.remove("web").unwrap().raw;
    world.step();
    world.locks.insert("1".into(), "u-other".into());
    world.add(raw);
    world.pass("web");
    world.until("a server", Duration::from_hours(1), |w| server_of(w).is_some());
    assert_eq!(claimed(&world), ["2"], "{}", world.describe());
}

/// Whoever composes his configuration can take any free server, and so can those that came before: nobody is asked to build one.
#[test]
fn nobody_builds_a_server_while_a_free_one_is_for_an_order_that_came_before() {
    let mut world = World::new(Panel::new(1, 6), handler(|_| ()));
    for (name, created) in [("web", "2026-01-01T00:00:02Z"), ("older", "2026-01-01T00:00:01Z")] {
        world.add(order(name, &format!("u-{name}"), |raw| {
            raw["metadata"]["creationTimestamp"] = json!(created);
            raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}});
        }));
    }
    world.list();
    world.pass("web");
    let waiting = world.status("web").waiting_on.clone().unwrap();
    assert!(waiting.message.contains(FOR_OTHERS) && waiting.message.contains("place 2 of 2"), "{}", waiting.message);
    assert!(world.tasks.is_empty() && claimed(&world).is_empty(), "{}", world.describe());
}

/// Another server of its type would have the same systems: which one of a type an order gets is not the client's choice.
#[test]
fn an_order_for_a_server_type_says_at_once_that_its_template_is_not_offered() {
    let mut world = World::simple(2, 4);
    world.panel.server("2").kind = "E3-16G, E3-old".into();
    world.panel.templates_of.insert("1".into(), Some(vec![OTHER.into()]));
    until_reason(&mut world, "UnknownTemplate");
    assert!(told(&world).contains("for server 1; it offers: ") && claimed(&world).is_empty(), "{}", told(&world));
}

/// A client is given the server a moment before the claim: that is no failure of the order's.
#[test]
fn a_server_that_was_given_away_right_before_its_claim_costs_no_attempt() {
    // To an ordinary user, or to the operator's own by hand.
    let changes: [fn(&mut Panel); 2] = [|p| p.server("1").owner = Some("7".into()), |p| p.server("1").owner = Some("1".into())];
    for change in changes {
        let mut world = World::simple(2, 4);
        world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
        world.before_claim = Some(change);
        until_active_without(&mut world, &["Retrying", "MarkerTruncated", "AnswerLost"]);
        assert_eq!((claimed(&world).as_slice(), server_of(&world)), (["1", "2"].as_slice(), Some("2")), "{}", world.describe());
        assert!(world.tasks.is_empty());
    }
}

#[test]
fn what_the_panel_offers_is_told_up_to_a_dozen_names() {
    let names = |number: usize| (0..number).map(|n| format!("other-{n}")).collect::<Vec<_>>();
    for (number, end) in [(0, "it offers: nothing"), (12, "other-11"), (13, "other-11, …")] {
        let mut world = World::simple(1, 4);
        world.panel.templates = Some(names(number));
        until_reason(&mut world, "UnknownTemplate");
        assert!(told(&world).ends_with(end), "{number}: {}", told(&world));
        world.panel.templates = Some(vec![TEMPLATE.into()]);
        world.panel.recipes = Some(names(number));
        world.edit("web", |raw| raw.spec.recipes = vec!["a.sh".into()]);
        until_reason(&mut world, "UnknownRecipe");
        assert!(told(&world).contains("recipe a.sh") && told(&world).ends_with(end), "{number}: {}", told(&world));
        world.panel.recipes.as_mut().unwrap().push("a.sh".into());
        world.force("web");
        world.until_phase("web", "Active");
    }
}
