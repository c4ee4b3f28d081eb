//! Licences: bought once, bound to the server, renewed once for each period, given back before the server.

use std::time::Duration;

use crate::support::licenses::{Bought, policy};
use crate::support::sweep::{Kind, assert_active, assert_released, reach, try_all};
use crate::support::world::{Fault, World};
use crate::support::{later, seconds};
use dci_operator::api::Time;
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::{from_value, json};

const DAY: u64 = 24 * 3600;

pub fn active() -> World {
    let mut world = Kind::Licensed.world();
    reach(&mut world, "Active", Kind::Licensed);
    world.run_for(seconds(60));
    world
}

pub fn stalled(world: &World) -> (String, String) {
    let found = condition::find(&world.status("web").conditions, ConditionType::Stalled);
    found.map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
}

pub fn made(world: &World, is: impl Fn(&Call) -> bool) -> usize {
    world.panel.journal.iter().filter(|c| is(c)).count()
}

pub fn order_licenses(world: &mut World, products: &[&str]) {
    let licenses = products.iter().map(|p| from_value(json!({"product": p})).unwrap()).collect();
    world.edit("web", |raw| raw.spec.licenses = licenses);
}

#[test]
fn licences_come_before_the_client_and_cost_no_request_afterwards() {
    let mut world = Kind::Licensed.world();
    world.until("keys are awaited", Duration::from_hours(1), |w| {
        w.status("web").waiting_on.as_ref().is_some_and(|on| on.name.contains("licence keys"))
    });
    assert_eq!(world.panel.licenses.rows.len(), 2, "all are ordered before any key is waited for\n{}", world.describe());
    assert!(made(&world, |c| matches!(c, Call::HandOver { .. })) == 0);
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
    let bought = world.panel.licenses.rows.values().map(|b| (b.pricelist.clone(), b.name.clone())).collect::<Vec<_>>();
    assert_eq!(bought, [("55228".to_owned(), "web.example.net".to_owned()), ("55227".to_owned(), "web.example.net".to_owned())]);
    world.run_for(seconds(120));
    let reads = world.reads;
    world.assert_quiet();
    world.run_for(Duration::from_hours(3));
    assert_eq!(world.reads, reads, "an idle order costs no request of its own");
}

#[test]
fn a_product_that_is_not_sold_is_told_with_those_that_are() {
    let mut world = Kind::Licensed.world();
    order_licenses(&mut world, &["Lite", "Enterprise"]);
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "UnknownProduct");
    assert_eq!(stalled(&world).1, "licence server hosting/isp does not sell Enterprise; it has Lite, Pro");
    assert!(world.panel.licenses.rows.is_empty(), "nothing is bought for half an order");
    order_licenses(&mut world, &["Lite"]);
    world.until_phase("web", "Active");
}

#[test]
fn a_licence_server_that_is_down_stops_only_those_who_need_it() {
    let mut plain = Kind::Plain.world();
    plain.panel.licenses.state = HandlerState::NotReady("down".into());
    reach(&mut plain, "Active", Kind::Plain);
    let mut world = Kind::Licensed.world();
    world.panel.licenses.state = HandlerState::NotReady("Unreachable: nothing there".into());
    world.until("waits", Duration::from_hours(1), |w| w.status("web").waiting_on.as_ref().is_some_and(|on| on.name == "hosting/isp"));
    world.run_for(Duration::from_hours(1));
    assert!(world.tasks.is_empty() && world.status("web").attempts == 0, "nobody is blamed\n{}", world.describe());
    world.panel.licenses.state = HandlerState::Ready;
    reach(&mut world, "Active", Kind::Licensed);
    world.run_for(seconds(60));
    world.panel.licenses.state = HandlerState::NotReady("down".into());
    world.panel.licenses.rows.values_mut().for_each(|b| b.expires = later(world.now, seconds(DAY)));
    world.run_for(Duration::from_hours(1));
    assert_eq!(world.phase("web"), "Active", "what is there stays there\n{}", world.describe());
    let mut none = Kind::Licensed.world();
    none.handler.license_server = None;
    none.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "LicenseServerNotReady");
    none.handler.license_server = Some(crate::support::licenses::key());
    reach(&mut none, "Active", Kind::Licensed);
}

#[test]
fn more_and_fewer_are_acted_upon_at_once() {
    let mut world = active();
    order_licenses(&mut world, &["Lite"]);
    world.until("Pro is given back", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 1);
    let pro = world.panel.licenses.of("k8s:u-web/Pro");
    assert!(world.panel.licenses.rows[&pro[0].0].suspended);
    // It is still there, suspended: asked for again it is taken up again, not bought again.
    order_licenses(&mut world, &["Lite", "Pro"]);
    world.until("Pro is there again", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 2);
    assert_active(&world, Kind::Licensed);
    order_licenses(&mut world, &[]);
    world.until("none is left", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.is_empty());
    assert!(world.panel.licenses.rows.values().all(|b| b.suspended));
    let step = world.status("web").steps.iter().find(|s| s.name == "IssueLicenses").cloned().unwrap();
    assert_eq!((step.state.as_str(), step.message.as_str()), ("Skipped", "none ordered"));
}

/// Whatever becomes of the call or its answer, one period is paid for once.
#[test]
fn a_period_is_renewed_once() {
    let faults = [
        None,
        Some(Fault::CrashBefore),
        Some(Fault::CrashAfter),
        Some(Fault::CrashLate(seconds(110))),
        Some(Fault::CrashLate(seconds(200))),
        Some(Fault::LostApplied),
        Some(Fault::LostNot),
        Some(Fault::LostLate(seconds(20))),
        Some(Fault::LostLate(seconds(200))),
        Some(Fault::Refused),
        Some(Fault::Unreachable),
        Some(Fault::Ignored),
        Some(Fault::Touched),
    ];
    let points = faults.into_iter().flat_map(|fault| [0, 2].map(|reads| (fault, reads)));
    try_all(points.map(|(fault, reads)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = active();
            let lite = world.panel.licenses.of("k8s:u-web/Lite")[0].0.clone();
            let end = later(world.now, seconds(2 * DAY));
            world.panel.licenses.rows.get_mut(&lite).unwrap().expires = end;
            if let Some(fault) = fault {
                world.faults.insert(world.asked.len(), fault);
            }
            world.then_reads_fail = reads;
            if fault == Some(Fault::Ignored) {
                // It was answered as done: it is paid for once more on a department's word alone.
                world.until("a department is asked", Duration::from_hours(30), |w| w.open_tasks() == [TaskType::FailedOperation]);
                world.resolve(TaskType::FailedOperation, Resolution::Retry);
            }
            world.until("renewed", Duration::from_hours(3), |w| w.panel.licenses.rows[&lite].renewals > 0);
            reach(&mut world, "Active", Kind::Licensed);
            world.run_for(Duration::from_hours(2));
            let row = &world.panel.licenses.rows[&lite];
            assert_eq!((row.renewals, row.expires), (1, later(end, seconds(30 * DAY))), "{}", world.describe());
            let record = world.status("web").licenses.iter().find(|l| l.product == "Lite").unwrap();
            assert_eq!(record.expires_at.map(|t| t.0.as_second()), Some(row.expires.as_second()));
            assert_eq!(world.phase("web"), "Active");
            assert!(made(&world, |c| matches!(c, Call::OrderLicense { .. })) == 2, "{}", world.describe());
        });
        (format!("{fault:?}, {reads} reads"), live)
    }));
}

#[test]
fn renew_before_longer_than_the_period_does_not_renew_without_end() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.policy = crate::support::licenses::policy(|l| l["renewBefore"] = json!("9000h"));
    order_licenses(&mut world, &["Lite"]);
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(2));
    assert_eq!(made(&world, |c| matches!(c, Call::RenewLicense { .. })), 0, "{}", world.describe());
    world.panel.licenses.rows.values_mut().for_each(|b| b.expires = later(world.now, seconds(10 * DAY)));
    world.run_for(Duration::from_hours(2));
    assert_eq!(made(&world, |c| matches!(c, Call::RenewLicense { .. })), 1, "{}", world.describe());
}

/// One licence, of a month at a time; how often it was renewed.
pub fn monthly() -> World {
    let mut world = Kind::Licensed.world();
    order_licenses(&mut world, &["Lite"]);
    reach(&mut world, "Active", Kind::Licensed);
    world.run_for(seconds(60));
    world
}

fn only(world: &mut World) -> &mut Bought {
    world.panel.licenses.rows.values_mut().next().unwrap()
}

pub fn renewals(world: &World) -> usize {
    world.panel.licenses.rows.values().map(|b| b.renewals).sum()
}

/// Days go by; the last hour of them is looked at.
pub fn days(world: &mut World, days: u64) {
    world.now = later(world.now, seconds(days * DAY));
    world.run_for(Duration::from_hours(1));
}

/// Where the clock is far ahead, or a licence ended long ago, the end that a renewal brings is in the past as well.
#[test]
fn a_clock_far_ahead_renews_once_in_half_a_period() {
    let mut world = monthly();
    days(&mut world, 400);
    assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{}", world.describe());
    days(&mut world, 13);
    assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{}", world.describe());
    days(&mut world, 1);
    assert_eq!((renewals(&world), world.phase("web")), (2, "Active"), "{}", world.describe());
}

/// Somebody wants longer periods from now on: what was bought for a month ends with it.
#[test]
fn a_longer_period_does_not_let_what_was_bought_before_end() {
    let mut world = monthly();
    (0..27).for_each(|_| days(&mut world, 1));
    assert_eq!(renewals(&world), 1, "{}", world.describe());
    world.edit("web", |raw| raw.spec.licenses[0].period = 12);
    (0..40).for_each(|_| days(&mut world, 1));
    assert_eq!(renewals(&world), 2, "{}", world.describe());
    assert!(matches!(world.asked.last(), Some((_, Call::RenewLicense { period: 12, .. }))), "{}", world.describe());
}

/// The clock was ahead, and is right again: what it noted does not keep the next renewal back until that time has come.
#[test]
fn a_renewal_noted_in_the_future_keeps_the_next_one_back_for_half_a_period_at_most() {
    let mut world = monthly();
    let ahead = later(world.now, seconds(400 * DAY));
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses[0].renewed_at = Some(Time::seconds(ahead));
    stored.version += 1;
    days(&mut world, 1);
    assert!(world.status("web").licenses[0].renewed_at.is_some_and(|at| at.0 < world.now), "{}", world.describe());
    days(&mut world, 25);
    assert_eq!(renewals(&world), 0);
    days(&mut world, 2);
    assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{}", world.describe());
}

/// Somebody renewed it by hand, and it has ended all the same: nobody renews it a moment later once more.
#[test]
fn what_somebody_renewed_is_left_alone_for_half_a_period() {
    let mut world = monthly();
    let record = |w: &World| w.status("web").licenses[0].renewed_at.map(|at| at.0);
    assert_eq!(record(&world), None);
    let ended = world.now - jiff::SignedDuration::from_hours(100 * 24);
    only(&mut world).expires = ended;
    world.until("renewed", Duration::from_hours(1), |w| record(w).is_some());
    let first = record(&world);
    days(&mut world, 13);
    only(&mut world).expires = later(ended, seconds(60 * DAY));
    world.until("seen", Duration::from_hours(1), |w| record(w) > first);
    days(&mut world, 13);
    assert_eq!(renewals(&world), 1, "{}", world.describe());
    days(&mut world, 1);
    assert_eq!(renewals(&world), 2, "{}", world.describe());
}

#[test]
fn a_licence_follows_the_server() {
    let mut world = active();
    let elsewhere = "198.51.100.9";
    world.panel.licenses.rows.values_mut().for_each(|b| b.address = elsewhere.parse().unwrap());
    // As if the order had another server now, whose main address the licences do not have yet.
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses.iter_mut().for_each(|l| l.address = Some(elsewhere.into()));
    (stored.version, stored.wake) = (stored.version + 1, Some(world.now));
    world.step();
    world.until_phase("web", "Active");
    assert_active(&world, Kind::Licensed);
    assert_eq!(made(&world, |c| matches!(c, Call::EditLicense { .. })), 2);
}

#[test]
fn a_licence_that_somebody_deleted_is_not_bought_again_by_itself() {
    let mut world = active();
    let lite = world.panel.licenses.of("k8s:u-web/Lite")[0].0.clone();
    world.panel.licenses.rows.remove(&lite);
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "LicenseGone");
    world.run_for(Duration::from_hours(2));
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. })), 2, "{}", world.describe());
    order_licenses(&mut world, &["Pro"]);
    world.until_phase("web", "Active");
    order_licenses(&mut world, &["Pro", "Lite"]);
    world.until("bought anew", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 2);
    assert_eq!(world.panel.licenses.of("k8s:u-web/Lite").len(), 1);
}

#[test]
fn a_server_that_cuts_remote_ids_sells_one_licence_at_most() {
    for kept in [0, 3, 9, 20] {
        let mut world = Kind::Licensed.world();
        order_licenses(&mut world, &["Lite"]);
        world.panel.licenses.remote_max = kept;
        world.until("Stalled", Duration::from_hours(1), |w| {
            ["MarkerTruncated", "NotOurLicense"].contains(&stalled(w).0.as_str()) || kept > 13
        });
        world.run_for(Duration::from_hours(3));
        assert_eq!(world.panel.licenses.rows.len(), 1, "{kept}\n{}", world.describe());
        world.delete("web");
        reach(&mut world, "gone", Kind::Licensed);
        assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{kept}\n{}", world.describe());
    }
}

#[test]
fn two_licences_with_our_remote_id_stop_the_order() {
    let mut world = Kind::Licensed.world();
    world.until("bought", Duration::from_hours(1), |w| !w.panel.licenses.of("k8s:u-web/Pro").is_empty());
    let mut twin = Kind::Licensed.world();
    let mut bought = world.panel.licenses.rows.values().next().unwrap().clone();
    bought.shown_from = twin.now;
    for id in ["1", "2"] {
        twin.panel.licenses.rows.insert(id.into(), bought.clone());
    }
    twin.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "SeveralLicensesFound");
    assert!(stalled(&twin).1.starts_with("licences 1, 2 all carry"), "{:?}", stalled(&twin));
    assert_eq!(made(&twin, |c| matches!(c, Call::OrderLicense { .. })), 0);
}

#[test]
fn what_a_restored_order_had_is_found_and_not_bought_again() {
    let mut world = active();
    let bought = world.panel.licenses.rows.clone();
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses.clear();
    (stored.version, stored.wake) = (stored.version + 1, Some(world.now));
    world.step();
    world.until("found", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 2);
    assert_active(&world, Kind::Licensed);
    assert_eq!(world.panel.licenses.rows.len(), bought.len());
    // And one that is deleted without ever having known.
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses.clear();
    stored.raw.spec.licenses.clear();
    stored.raw.metadata.annotations = Some([("dci-operator.dev/order-id".to_owned(), "u-web".to_owned())].into());
    stored.raw.metadata.uid = Some("u-restored".into());
    stored.version += 1;
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{}", world.describe());
}

/// A call that never works is tried at the handler's pace, becomes a task, and works as soon as it can.
#[test]
fn licence_calls_that_never_work_are_tried_slowly_and_told() {
    let calls = ["orderLicense", "suspendLicense", "freeLicense"];
    let faults = [Fault::Refused, Fault::Unreachable, Fault::LostNot, Fault::Ignored];
    let points = calls.into_iter().flat_map(|call| faults.map(|fault| (call, fault)));
    try_all(points.map(|(call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let kind = Kind::LicensedFreed;
            let mut world = kind.world();
            for phase in ["Active", "gone"] {
                world.always = Some((call, fault));
                let asked = world.asked.len();
                if phase == "gone" {
                    world.delete("web");
                }
                world.run_for(Duration::from_hours(3));
                let asked = world.asked[asked..].iter().filter(|(_, c)| c.name() == call).count();
                let most = if fault == Fault::Unreachable { 3 * 120 + 10 } else { 3 * 12 + 10 };
                assert!(asked <= most, "{asked} times\n{}", world.describe());
                world.always = None;
                if phase == "Active" || !world.gone.contains(&"web".to_owned()) {
                    reach(&mut world, phase, kind);
                }
            }
            assert!(world.panel.licenses.orders.values().all(|n| *n == 1), "{}", world.describe());
            assert_released(&world, kind);
        });
        (format!("{call}, {fault:?}"), live)
    }));
}

#[test]
fn licences_stop_and_start_with_the_service() {
    let mut world = active();
    let all = |w: &World, suspended: bool| w.panel.licenses.rows.values().all(|b| b.suspended == suspended);
    let bought = world.panel.licenses.rows.len();
    world.edit("web", |raw| raw.spec.suspended = true);
    world.until("suspended", Duration::from_hours(1), |w| w.phase("web") == "Suspended" && all(w, true));
    // Their ends come and go while it is suspended.
    let end = later(world.now, seconds(DAY));
    world.panel.licenses.rows.values_mut().for_each(|row| row.expires = end);
    world.run_for(Duration::from_hours(2 * 24));
    assert!(world.panel.licenses.rows.values().all(|row| (row.renewals, row.expires) == (0, end)), "they are not renewed meanwhile");
    world.edit("web", |raw| raw.spec.suspended = false);
    world.until("resumed", Duration::from_hours(1), |w| w.phase("web") == "Active" && all(w, false));
    assert_eq!(world.panel.licenses.rows.len(), bought);
}

#[test]
fn what_is_not_sold_is_said_before_a_server_is_waited_for() {
    let mut world = Kind::Licensed.world();
    world.panel.servers.values_mut().for_each(|s| s.kind = "other".into());
    order_licenses(&mut world, &["Nothing"]);
    world.until("stalled", Duration::from_hours(1), |w| stalled(w).0 == "UnknownProduct");
    assert!(world.asked.is_empty(), "{}", world.describe());
}

/// What a client uses does not end while his order waits for a department, for ever, or for somebody to change its spec.
#[test]
fn a_licence_that_ends_soon_is_renewed_whatever_else_its_order_waits_for() {
    type Stand = fn(&mut World);
    let failed: Stand = |world| {
        world.always = Some(("setDomain", Fault::Refused));
        world.edit("web", |raw| raw.spec.domain = "other.example.net".into());
        world.until("a department is asked", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    };
    let cancelled: Stand = |world| {
        world.always = Some(("setDomain", Fault::Refused));
        world.edit("web", |raw| raw.spec.domain = "other.example.net".into());
        world.until("a department is asked", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        world.until("cancelled", Duration::from_hours(1), |w| stalled(w).0 == "TaskCancelled");
    };
    let forbidden: Stand = |world| {
        world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
        world.until("forbidden", Duration::from_hours(1), |w| stalled(w).0 == "DeletionPolicyForbidden");
    };
    for (what, stand) in [("failed", failed), ("cancelled", cancelled), ("forbidden", forbidden)] {
        for fault in [None, Some(Fault::LostApplied), Some(Fault::LostNot), Some(Fault::CrashAfter)] {
            let mut world = monthly();
            stand(&mut world);
            let (tasks, before, phase) = (world.open_tasks(), stalled(&world), world.phase("web").to_owned());
            let end = later(world.now, seconds(DAY));
            only(&mut world).expires = end;
            if let Some(fault) = fault {
                world.faults.insert(world.asked.len(), fault);
            }
            world.run_for(Duration::from_hours(3));
            assert_eq!(renewals(&world), 1, "{what} {fault:?}\n{}", world.describe());
            assert_eq!((world.open_tasks(), stalled(&world), world.phase("web")), (tasks, before, phase.as_str()), "{what} {fault:?}");
            world.assert_quiet();
        }
    }
}

#[test]
fn a_licence_that_is_gone_keeps_no_other_from_being_renewed() {
    let mut world = active();
    let first = world.status("web").licenses[0].id.clone().unwrap();
    world.panel.licenses.rows.retain(|id, _| *id != first);
    world.until("gone", Duration::from_hours(2), |w| stalled(w).0 == "LicenseGone");
    let end = later(world.now, seconds(DAY));
    only(&mut world).expires = end;
    world.run_for(Duration::from_hours(3));
    assert_eq!((renewals(&world), stalled(&world).0.as_str()), (1, "LicenseGone"), "{}", world.describe());
}

/// A licence server whose handler is not there, or may not be used, is waited for by an order that may have licences there.
#[test]
fn a_restored_order_is_not_closed_without_its_licence_server() {
    let mut world = active();
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses.clear();
    stored.raw.metadata.annotations = Some([("dci-operator.dev/order-id".to_owned(), "u-web".to_owned())].into());
    stored.raw.metadata.uid = Some("u-restored".into());
    stored.version += 1;
    world.panel.licenses.usable = false;
    world.delete("web");
    world.run_for(Duration::from_hours(3));
    assert_eq!(world.phase("web"), "Deleting", "{}", world.describe());
    assert!(world.panel.licenses.rows.values().all(|b| !b.suspended));
    let told = world.status("web").waiting_on.as_ref().map(|on| on.message.clone()).unwrap_or_default();
    assert!(told.ends_with("if it has none, take licenseServerRef out of the handler"), "{told}");
    world.panel.licenses.usable = true;
    world.force("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{}", world.describe());
}

/// The name of one product is how that of another begins: the stopped licence is no cut one of it.
#[test]
fn a_product_whose_name_continues_that_of_one_given_up_is_ordered() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.policy = policy(|l| l["products"]["LitePlus"] = json!({"pricelist": "55229"}));
    order_licenses(&mut world, &["Lite"]);
    reach(&mut world, "Active", Kind::Plain);
    order_licenses(&mut world, &["LitePlus"]);
    world.until("ordered", Duration::from_hours(2), |w| {
        w.phase("web") == "Active"
            && w.status("web").licenses.iter().any(|l| l.product == "LitePlus")
            && w.status("web").licenses.len() == 1
    });
    assert_eq!(world.panel.licenses.rows.len(), 2, "{}", world.describe());
}
