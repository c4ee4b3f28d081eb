//! What the list of a licence server shows of an order's licences, and their forms, where the two differ, or show less than they might.

use std::time::Duration;

use crate::core_licenses::{active, days, made, monthly, order_licenses, stalled};
use crate::support::licenses::policy;
use crate::support::sweep::{Kind, assert_active, reach};
use crate::support::world::World;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;

const LITE: &str = "k8s:u-web/Lite";

fn lite(world: &World) -> String {
    world.panel.licenses.of(LITE)[0].0.clone()
}

/// Its form is there, and the list, which a stored filter may cut, does not show it: it counts neither as issued nor as stopped or started.
#[test]
fn a_licence_that_the_list_hides_is_told_of_and_not_looked_at_without_end() {
    let mut world = active();
    let lite = lite(&world);
    world.panel.licenses.hidden.insert(lite.clone());
    world.until("told", Duration::from_hours(1), |w| stalled(w).0 == "PanelError");
    assert!(stalled(&world).1.contains(&format!("does not show licence {lite}")), "{}", stalled(&world).1);
    let (reads, writes) = (world.reads, world.writes);
    world.run_for(Duration::from_hours(1));
    let (reads, writes) = (world.reads - reads, world.writes - writes);
    // Two forms and the list, in one pass for each poll at most: that it was looked at remembers the process, which this world leaves out.
    let polls = usize::try_from(3600 / world.handler.poll.as_secs()).unwrap();
    assert!(reads <= 3 * (polls + 1) && writes <= 2, "{reads} reads, {writes} writes\n{}", world.describe());
    world.panel.licenses.hidden.clear();
    world.until("Active", Duration::from_hours(1), |w| w.phase("web") == "Active");
    world.edit("web", |raw| raw.spec.suspended = true);
    world.until("stopped", Duration::from_hours(1), |w| w.phase("web") == "Suspended");
    world.panel.licenses.hidden.insert(lite.clone());
    world.edit("web", |raw| raw.spec.suspended = false);
    world.until("told", Duration::from_hours(1), |w| stalled(w).0 == "PanelError");
    world.run_for(Duration::from_hours(1));
    assert!(world.panel.licenses.rows[&lite].suspended && world.phase("web") != "Active", "{}", world.describe());
    world.panel.licenses.hidden.clear();
    world.until("started", Duration::from_hours(1), |w| w.phase("web") == "Active");
    assert!(!world.panel.licenses.rows[&lite].suspended, "{}", world.describe());
}

/// The list says that nobody can use it any more, whatever its form shows.
#[test]
fn a_licence_that_the_list_shows_as_deleted_is_gone_and_not_paid_for() {
    let mut world = active();
    let lite = lite(&world);
    world.panel.licenses.deleted.insert(lite.clone());
    world.until("gone", Duration::from_hours(1), |w| stalled(w).0 == "LicenseGone");
    days(&mut world, 28);
    assert_eq!((world.panel.licenses.rows[&lite].renewals, stalled(&world).0.as_str()), (0, "LicenseGone"), "{}", world.describe());
    order_licenses(&mut world, &["Pro"]);
    world.until("let go", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 1);
}

/// That its server is down is no sign of a licence that is gone, or somebody else's.
#[test]
fn what_was_told_of_a_licence_stays_told_while_its_server_is_down() {
    for told in ["LicenseGone", "NotOurLicense"] {
        let mut world = active();
        let lite = lite(&world);
        if told == "LicenseGone" {
            world.panel.licenses.rows.remove(&lite);
        } else {
            world.panel.licenses.rows.get_mut(&lite).unwrap().remote_id = "somebody's".into();
        }
        world.ask("web");
        world.until("told", Duration::from_hours(1), |w| stalled(w).0 == told);
        world.panel.licenses.state = HandlerState::NotReady("down".into());
        for _ in 0..12 {
            world.run_for(Duration::from_mins(7));
            assert_eq!((stalled(&world).0.as_str(), world.phase("web") == "Active"), (told, false), "{}", world.describe());
        }
        world.panel.licenses.state = HandlerState::Ready;
        order_licenses(&mut world, &["Pro"]);
        world.until("let go", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 1);
    }
}

/// The provider sells it to nobody any more; those who have it keep it.
#[test]
fn a_restored_order_keeps_a_licence_that_is_not_sold_any_more() {
    let mut world = active();
    world.panel.licenses.policy = policy(|l| {
        l["products"].as_object_mut().unwrap().remove("Lite");
    });
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses.clear();
    (stored.version, stored.wake) = (stored.version + 1, Some(world.now));
    world.step();
    world.until("found", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 2);
    assert_active(&world, Kind::Licensed);
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. })), 2, "{}", world.describe());
}

/// Forms are confirmed to show key and date alone (ispsystem-api.md 5.6).
#[test]
fn a_licence_whose_form_shows_no_address_is_bound_once_and_keeps_its_name() {
    for bare_list in [false, true] {
        let mut world = Kind::Licensed.world();
        (world.panel.licenses.bare_forms, world.panel.licenses.bare_list) = (true, bare_list);
        world.until_phase("web", "Active");
        assert_active(&world, Kind::Licensed);
        let edits = |w: &World| made(w, |c| matches!(c, Call::EditLicense { .. }));
        assert_eq!((edits(&world), world.tasks.len()), (0, 0), "{bare_list}\n{}", world.describe());
        // As if the order had another server now, whose main address the licences do not have yet.
        let elsewhere = "198.51.100.9";
        world.panel.licenses.rows.values_mut().for_each(|b| b.address = elsewhere.parse().unwrap());
        world.list();
        let stored = world.orders.get_mut("web").unwrap();
        stored.status.licenses.iter_mut().for_each(|l| l.address = Some(elsewhere.into()));
        (stored.version, stored.wake) = (stored.version + 1, Some(world.now));
        // What an edit has changed is seen at once, in its own row.
        world.step();
        assert_eq!(edits(&world), 2, "{bare_list}\n{}", world.describe());
        world.run_for(Duration::from_hours(1));
        assert_active(&world, Kind::Licensed);
        let named = world.panel.licenses.rows.values().all(|b| b.name == "web.example.net");
        assert!(edits(&world) == 2 && named && world.tasks.is_empty(), "{bare_list}\n{}", world.describe());
    }
}

/// Licences of other ids, which are remembered as the order's own since their forms were read once.
fn remembered(ids: &[&str]) -> World {
    let bought = monthly().panel.licenses.rows.values().next().cloned().unwrap();
    let mut world = Kind::Licensed.world();
    order_licenses(&mut world, &["Lite"]);
    for id in ids {
        let mut row = bought.clone();
        row.shown_from = world.now;
        world.panel.licenses.rows.insert((*id).into(), row);
        world.panel.licenses.remembered.insert((*id).into(), LITE.into());
    }
    world
}

/// The list shows no remote ids: that one was cleared shows in the form alone.
#[test]
fn a_doubled_remote_id_is_seen_to_be_cleared_where_the_forms_alone_show_it() {
    let mut world = remembered(&["1", "2"]);
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "SeveralLicensesFound");
    world.panel.licenses.rows.get_mut("2").unwrap().remote_id = String::new();
    reach(&mut world, "Active", Kind::Licensed);
    assert_eq!(world.status("web").licenses[0].id.as_deref(), Some("1"), "{}", world.describe());
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. })), 0, "{}", world.describe());
}

/// What was the order's own once is somebody else's by now: it is neither taken nor waited for.
#[test]
fn a_licence_that_was_given_to_somebody_else_is_not_found_by_what_is_remembered_of_it() {
    let mut world = remembered(&["1"]);
    world.panel.licenses.rows.get_mut("1").unwrap().remote_id = "somebody's".into();
    reach(&mut world, "Active", Kind::Licensed);
    let id = world.status("web").licenses[0].id.clone().unwrap();
    assert!(id != "1" && made(&world, |c| matches!(c, Call::OrderLicense { .. })) == 1, "{}", world.describe());
    assert!(!world.panel.licenses.rows["1"].suspended);
}

/// Somebody put it onto another licence, and deleted the first one.
#[test]
fn a_remote_id_that_was_moved_to_another_licence_is_followed() {
    let mut world = active();
    let row = world.panel.licenses.rows.remove(&lite(&world)).unwrap();
    world.panel.licenses.rows.insert("9001".into(), row);
    world.until("followed", Duration::from_hours(1), |w| {
        assert!(stalled(w).0.is_empty(), "{}", w.describe());
        w.phase("web") == "Active" && w.status("web").licenses.iter().any(|l| l.id.as_deref() == Some("9001"))
    });
    assert_active(&world, Kind::Licensed);
}

/// The order id has to stand there whole, and be followed by something.
#[test]
fn a_remote_id_of_which_too_little_is_left_may_be_anybodys() {
    for (kept, told) in [(12, "NotOurLicense"), (13, "MarkerTruncated")] {
        let mut world = Kind::Licensed.world();
        order_licenses(&mut world, &["Lite"]);
        world.panel.licenses.remote_max = kept;
        world.until("Stalled", Duration::from_hours(1), |w| !stalled(w).0.is_empty());
        assert_eq!(stalled(&world).0, told, "{kept}\n{}", world.describe());
    }
}
