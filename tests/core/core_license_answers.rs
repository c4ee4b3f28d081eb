//! What a licence server answers and shows is believed as far as it goes: ends, remote ids, and what it says that it did.

use std::time::Duration;

use crate::core_licenses::{active, days, made, monthly, order_licenses, renewals, stalled};
use crate::support::licenses::policy;
use crate::support::sweep::{Kind, assert_active, assert_released, reach};
use crate::support::world::{Fault, World};
use crate::support::{later, seconds};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::{Map, Value, json};

/// Taken for the end of a licence that has none, it would let the licence lapse.
#[test]
fn an_end_that_is_no_date_is_told_before_the_client_relies_on_it() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.no_date = Some("22.12.2026".into());
    world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains("UnknownDate: licence 7001 shows `22.12.2026` as its end"), "{told}");
    assert!(told.contains("Attempts: 3 (the handler allows 3)"), "looked at again before anybody is asked: {told}");
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. } | Call::HandOver { .. })), 1, "{}", world.describe());
    world.panel.licenses.no_date = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
    // Whose a licence is, and that it is stopped, shows all the same.
    world.panel.licenses.no_date = Some("22.12.2026".into());
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

/// The licence server shows ends in another form from some day on.
#[test]
fn an_end_that_was_a_date_once_is_told_when_it_is_near() {
    let mut world = monthly();
    world.panel.licenses.no_date = Some("31 Jan 2026".into());
    (0..24).for_each(|_| days(&mut world, 1));
    assert_eq!((world.phase("web"), world.open_tasks()), ("Active", Vec::new()), "{}", world.describe());
    (0..3).for_each(|_| days(&mut world, 1));
    assert_eq!((renewals(&world), world.open_tasks()), (0, vec![TaskType::FailedOperation]), "{}", world.describe());
    world.panel.licenses.no_date = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(Duration::from_hours(1));
    assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{}", world.describe());
}

/// Nobody renews it, which is said; the client has had it all along.
#[test]
fn an_end_that_is_no_date_is_said_of_an_active_order_and_stops_nothing() {
    let mut world = monthly();
    world.panel.licenses.no_date = Some("never".into());
    let stored = world.orders.get_mut("web").unwrap();
    stored.status.licenses[0].expires_at = None;
    stored.version += 1;
    for (suspended, phase) in [(true, "Suspended"), (false, "Active")] {
        world.edit("web", |raw| raw.spec.suspended = suspended);
        world.until(phase, Duration::from_hours(3), |w| w.phase("web") == phase);
    }
    world.run_for(Duration::from_hours(24));
    assert_eq!((world.tasks.len(), world.phase("web")), (0, "Active"), "{}", world.describe());
    let step = world.status("web").steps.iter().find(|s| s.name == "IssueLicenses").unwrap();
    assert!(step.message.ends_with("; nobody renews licence 7001, which shows `never` as its end"), "{}", step.message);
}

/// A person watches it from then on: before the hand-over, and where the end that it showed once is near.
#[test]
fn an_end_that_is_no_date_is_left_to_whoever_says_that_it_is_done() {
    for mut world in [Kind::Licensed.world(), monthly()] {
        world.panel.licenses.no_date = Some("unlimited".into());
        if world.phase("web") == "Active" {
            (0..27).for_each(|_| days(&mut world, 1));
        }
        let licenses = world.orders["web"].raw.spec.licenses.len();
        for asked in 1..=licenses {
            // One licence at a time, and each of those before: nobody is silent about one that nobody was asked about.
            world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
            let told = world.tasks.last().unwrap().details.clone();
            assert_eq!((world.tasks.len(), told.matches("shows `unlimited` as its end").count()), (asked, asked), "{told}");
            world.resolve(TaskType::FailedOperation, Resolution::Done);
        }
        let phase = world.phase("web").to_owned();
        world.until("Active", Duration::from_hours(3), |w| w.phase("web") == "Active");
        world.run_for(Duration::from_hours(24));
        assert_eq!((world.tasks.len(), renewals(&world), world.phase("web")), (licenses, 0, "Active"), "{phase}\n{}", world.describe());
        assert!(world.panel.licenses.orders.values().all(|count| *count == 1), "{phase}\n{}", world.describe());
    }
}

/// A `Done` is known by what was asked: all licences that an order may have are told of in one message.
#[test]
fn the_ends_of_as_many_licences_as_an_order_may_have_are_left_to_whoever_says_that_it_is_done() {
    let mut world = Kind::Licensed.world();
    let products: Vec<String> = (1..=16).map(|number| format!("P{number}")).collect();
    let sold: Map<String, Value> = products.iter().map(|product| (product.clone(), json!({"pricelist": "55227"}))).collect();
    world.panel.licenses.policy = policy(|licenses| licenses["products"] = Value::Object(sold));
    order_licenses(&mut world, &products.iter().map(String::as_str).collect::<Vec<_>>());
    world.panel.licenses.no_date = Some("for as long as the hoster pays".into());
    for asked in 1..=products.len() {
        world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
        assert_eq!(world.tasks.len(), asked, "{}", world.describe());
        world.resolve(TaskType::FailedOperation, Resolution::Done);
    }
    world.until("Active", Duration::from_hours(3), |w| w.phase("web") == "Active");
    assert_eq!(world.tasks.len(), products.len(), "{}", world.describe());
}

#[test]
fn nothing_is_bought_while_a_licence_does_not_tell_whose_it_is() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.unread = Some("4711".into());
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "PanelError");
    assert!(stalled(&world).1.contains("licences 4711"), "{}", stalled(&world).1);
    world.run_for(Duration::from_hours(1));
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. })), 0);
    world.panel.licenses.unread = None;
    world.force("web");
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
    // Those that it has are known by their ids: neither their renewal nor the end waits for somebody else's.
    world.panel.licenses.unread = Some("4711".into());
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

#[test]
fn a_remote_id_that_was_cut_is_seen_in_the_list_and_nothing_is_bought_again() {
    let mut world = Kind::Licensed.world();
    order_licenses(&mut world, &["Lite"]);
    // `k8s:u-web/Lite`: the order id stands whole.
    world.panel.licenses.remote_max = 13;
    world.until("bought", Duration::from_hours(1), |w| made(w, |c| matches!(c, Call::OrderLicense { .. })) == 1);
    // What the answer said is lost with the process.
    world.restart();
    world.orders.get_mut("web").unwrap().status.licenses.iter_mut().for_each(|l| l.id = None);
    world.run_for(Duration::from_hours(3));
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. })), 1, "{}", world.describe());
    assert_eq!(stalled(&world).0, "MarkerTruncated");
}

/// Neither list nor forms show remote ids, and the answer to a purchase is lost: whether it was made nobody knows.
#[test]
fn nothing_is_bought_again_where_no_form_tells_whose_a_licence_is() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.untold = true;
    world.always = Some(("orderLicense", Fault::LostApplied));
    world.until("Stalled", Duration::from_hours(3), |w| stalled(w).0 == "PanelError");
    assert!(stalled(&world).1.contains("no remote id of licences 7001"), "{}", stalled(&world).1);
    world.run_for(Duration::from_hours(6));
    assert_eq!(world.panel.licenses.rows.len(), 1, "{}", world.describe());
    (world.always, world.panel.licenses.untold) = (None, false);
    world.force("web");
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
}

/// The answer names it, so that it is not bought again; but the order does not rely on what may be somebody else's.
#[test]
fn a_licence_that_was_named_and_does_not_tell_whose_it_is_is_told_and_stopped_in_the_end() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.untold = true;
    world.until("Stalled", Duration::from_hours(3), |w| stalled(w).0 == "PanelError");
    assert!(stalled(&world).1.contains("the form of licence 7001 shows no remote id"), "{}", stalled(&world).1);
    world.restart();
    world.run_for(Duration::from_hours(6));
    assert_eq!((world.panel.licenses.rows.len(), world.status("web").licenses[0].id.as_deref()), (1, Some("7001")), "{}", world.describe());
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

/// The list itself tells whose a licence is: forms are not needed for that.
#[test]
fn a_licence_that_the_list_alone_tells_of_is_used_renewed_and_stopped() {
    for forbidden in [false, true] {
        let mut world = Kind::Licensed.world();
        world.panel.licenses.untold_in_forms = true;
        world.until("Active", Duration::from_hours(3), |w| {
            assert!(stalled(w).0.is_empty(), "{}", w.describe());
            w.phase("web") == "Active"
        });
        if forbidden {
            world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
            world.until("forbidden", Duration::from_hours(1), |w| stalled(w).0 == "DeletionPolicyForbidden");
        }
        let end = later(world.now, Duration::from_hours(24));
        world.panel.licenses.rows.values_mut().for_each(|b| b.expires = end);
        world.run_for(Duration::from_hours(3));
        assert_eq!((renewals(&world), world.tasks.len()), (2, 0), "{forbidden}\n{}", world.describe());
        world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Release);
        world.delete("web");
        world.until("gone", Duration::from_hours(3), |w| w.phase("web") == "gone");
        assert_released(&world, Kind::Licensed);
        assert!(world.tasks.is_empty(), "{forbidden}\n{}", world.describe());
    }
}

fn bought(world: &World) -> usize {
    made(world, |c| matches!(c, Call::OrderLicense { .. }))
}

/// List and form show what was bought a while after the answer has named it.
#[test]
fn a_licence_that_an_answer_named_is_waited_for_and_not_bought_again() {
    for fault in [None, Some(Fault::Touched)] {
        let mut world = Kind::Licensed.world();
        world.panel.licenses.shows_after = seconds(1800);
        world.always = fault.map(|fault| ("orderLicense", fault));
        world.until("named", Duration::from_hours(1), |w| w.status("web").licenses.iter().any(|l| l.id.is_some()));
        let record = world.status("web").licenses[0].clone();
        assert!(record.answered_at.is_some() && record.state.is_none() && world.status("web").in_flight.is_none(), "{}", world.describe());
        world.restart();
        let waits = |w: &World| w.status("web").waiting_on.as_ref().is_some_and(|on| on.name == "licence 7001 from hosting/isp");
        world.until("it is waited for", Duration::from_hours(1), waits);
        reach(&mut world, "Active", Kind::Licensed);
        assert_active(&world, Kind::Licensed);
        assert!(world.tasks.is_empty() && world.status("web").licenses.iter().all(|l| l.answered_at.is_none()), "{}", world.describe());
    }
}

/// The list that all orders share tells when it comes.
#[test]
fn a_licence_that_an_answer_told_of_costs_no_request_until_the_shared_list_shows_it() {
    for unnamed in [false, true] {
        let mut world = Kind::Licensed.world();
        somebody_has_one(&mut world);
        (world.panel.licenses.unnamed, world.panel.licenses.shows_after) = (unnamed, Duration::from_hours(1));
        world.until("bought", Duration::from_hours(1), |w| w.status("web").licenses.iter().any(|l| l.answered_at.is_some()));
        world.run_for(seconds(300));
        let reads = world.reads;
        world.run_for(seconds(1200));
        assert_eq!((world.reads, bought(&world)), (reads, if unnamed { 1 } else { 2 }), "{unnamed}\n{}", world.describe());
        reach(&mut world, "Active", Kind::Licensed);
        world.panel.licenses.rows.remove("1");
        assert_active(&world, Kind::Licensed);
    }
}

/// A licence of somebody else, which is none of the order's business.
fn somebody_has_one(world: &mut World) {
    let mut row = monthly().panel.licenses.rows.values().next().cloned().unwrap();
    (row.remote_id, row.shown_from, row.suspended) = ("somebody's".into(), world.now, true);
    world.panel.licenses.rows.insert("1".into(), row);
}

/// Each of them is a question of its own.
#[test]
fn a_departments_word_about_one_licence_buys_no_other_one_again() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.shows_after = Duration::from_hours(1000);
    world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.run_for(Duration::from_hours(1));
    assert_eq!((bought(&world), world.tasks.len()), (2, 1), "{}", world.describe());
    world.panel.licenses.shows_after = Duration::ZERO;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until("the next task", Duration::from_hours(3), |w| w.tasks.len() == 2);
    let ordered = |remote: &str| world.panel.licenses.orders[remote];
    assert_eq!((ordered("k8s:u-web/Pro"), ordered("k8s:u-web/Lite")), (2, 1), "{}", world.describe());
    assert!(world.tasks[1].details.contains("target license/k8s:u-web/Lite."), "{}", world.tasks[1].details);
}

/// It does not come: nothing is bought in its place but on a department's word, and what came after all is not bought again.
#[test]
fn a_licence_that_never_shows_is_bought_again_on_a_departments_word_alone() {
    for (comes, most, resolution) in
        [(true, 1, Resolution::Retry), (false, 1, Resolution::Retry), (true, 3, Resolution::Done), (false, 3, Resolution::Retry)]
    {
        let mut world = Kind::Licensed.world();
        world.handler.max_attempts = most;
        world.panel.licenses.shows_after = Duration::from_hours(1000);
        world.edit("web", |raw| raw.spec.licenses.retain(|l| l.product == "Pro"));
        world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
        let told = world.tasks.last().unwrap().details.clone();
        for part in [
            "call orderLicense, target license/k8s:u-web/Pro.",
            "made licence 7001 (`k8s:u-web/Pro`), and has not shown it since",
            "; only Retry orders another one",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        world.restart();
        world.run_for(Duration::from_hours(6));
        assert_eq!((bought(&world), world.status("web").licenses[0].id.as_deref()), (1, Some("7001")), "{}", world.describe());
        world.panel.licenses.shows_after = Duration::ZERO;
        if comes {
            world.panel.licenses.rows.values_mut().for_each(|b| b.shown_from = world.now);
        }
        world.resolve(TaskType::FailedOperation, resolution);
        reach(&mut world, "Active", Kind::Licensed);
        let ordered = world.panel.licenses.orders["k8s:u-web/Pro"];
        assert_eq!((ordered, world.tasks.len()), (if comes { 1 } else { 2 }, 1), "{comes} {most}\n{}", world.describe());
    }
}

/// That it was answered goes with each save, which tells that the definitions are older: that it is absent is no leave to buy another one.
#[test]
fn nothing_is_bought_again_where_older_definitions_drop_what_was_answered() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.shows_after = Duration::from_hours(1);
    world.panel.licenses.drops_answers = true;
    world.until("named", Duration::from_hours(1), |w| w.status("web").licenses.iter().any(|l| l.id.is_some()));
    // What the answer said is lost with the process.
    world.restart();
    somebody_has_one(&mut world);
    world.run_for(seconds(1800));
    assert!(bought(&world) == 2 && world.status("web").licenses.iter().all(|l| l.answered_at.is_none()), "{}", world.describe());
    assert_eq!(world.status("web").waiting_on.as_ref().unwrap().name, "licence 7001 from hosting/isp", "{}", world.describe());
    reach(&mut world, "Active", Kind::Licensed);
    world.panel.licenses.rows.remove("1");
    assert_active(&world, Kind::Licensed);
    assert!(world.panel.licenses.orders.values().all(|count| *count == 1) && world.tasks.is_empty(), "{}", world.describe());
}

/// The order goes before the licence that it bought shows: it would run on, and nobody would know of it.
#[test]
fn an_order_that_goes_waits_for_the_licence_that_an_answer_named() {
    for drops in [false, true] {
        let mut world = Kind::Licensed.world();
        world.panel.licenses.shows_after = seconds(1800);
        world.panel.licenses.drops_answers = drops;
        world.until("bought", Duration::from_hours(1), |w| bought(w) == 1);
        world.panel.licenses.shows_after = Duration::ZERO;
        somebody_has_one(&mut world);
        world.delete("web");
        world.run_for(seconds(1200));
        assert!(world.phase("web") == "Deleting" && world.panel.servers["1"].on, "{drops}\n{}", world.describe());
        world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
        assert_released(&world, Kind::Licensed);
        assert!(bought(&world) == 1 && world.tasks.is_empty(), "{drops}\n{}", world.describe());
    }
}

/// Nothing was made, though the answer said so.
#[test]
fn an_order_that_goes_has_a_department_look_for_a_licence_that_does_not_come() {
    let mut world = Kind::Licensed.world();
    world.always = Some(("orderLicense", Fault::Ignored));
    world.until("asked", Duration::from_hours(1), |w| !w.status("web").licenses.is_empty() && w.status("web").licenses[0].id.is_some());
    world.delete("web");
    world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(
        told.contains("made licence 9999 (`k8s:u-web/Pro`), and has not shown it since") && told.contains("Retry goes on without it"),
        "{told}"
    );
    assert!(world.panel.servers["1"].on, "{}", world.describe());
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
    assert_released(&world, Kind::Licensed);
}

/// A bare `ok`: it was bought all the same. Its remote id tells of it when it shows.
#[test]
fn a_purchase_whose_answer_names_no_licence_is_not_made_again_by_itself() {
    for (drops, fault) in [(false, None), (false, Some(Fault::Touched)), (true, None)] {
        let mut world = Kind::Licensed.world();
        (world.panel.licenses.unnamed, world.panel.licenses.drops_answers) = (true, drops);
        world.panel.licenses.shows_after = seconds(1800);
        world.always = fault.map(|fault| ("orderLicense", fault));
        world.until("bought", Duration::from_hours(1), |w| bought(w) == 1);
        world.run_for(seconds(1200));
        assert_eq!((bought(&world), world.tasks.len()), (1, 0), "{drops} {fault:?}\n{}", world.describe());
        let (record, in_flight) = (&world.status("web").licenses[0], &world.status("web").in_flight);
        assert!(record.id.is_none() && (drops || (record.answered_at.is_some() && in_flight.is_none())), "{fault:?}\n{}", world.describe());
        reach(&mut world, "Active", Kind::Licensed);
        assert_active(&world, Kind::Licensed);
        assert!(world.tasks.is_empty() && world.status("web").licenses.iter().all(|l| l.answered_at.is_none()), "{}", world.describe());
    }
}

#[test]
fn a_licence_that_no_answer_named_and_that_never_shows_is_bought_again_on_a_departments_word_alone() {
    let mut world = Kind::Licensed.world();
    order_licenses(&mut world, &["Pro"]);
    world.panel.licenses.unnamed = true;
    world.panel.licenses.shows_after = Duration::from_hours(1000);
    world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains("made a licence (`k8s:u-web/Pro`), without its id, and has not shown it since"), "{told}");
    world.restart();
    world.run_for(Duration::from_hours(6));
    assert_eq!((bought(&world), world.tasks.len()), (1, 1), "{}", world.describe());
    world.panel.licenses.shows_after = Duration::ZERO;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until("Active", Duration::from_hours(3), |w| w.phase("web") == "Active");
    assert_eq!((world.panel.licenses.orders["k8s:u-web/Pro"], world.tasks.len()), (2, 1), "{}", world.describe());
}

/// Where the definitions are older nothing that is stored tells of it but the intent, whose place the stop of another licence would take.
#[test]
fn an_order_that_goes_waits_for_a_licence_that_no_answer_named() {
    let freed = Kind::LicensedFreed;
    for (kind, count, drops) in [
        (Kind::Licensed, 1, false),
        (Kind::Licensed, 1, true),
        (Kind::Licensed, 2, false),
        (Kind::Licensed, 2, true),
        (freed, 1, false),
        (freed, 1, true),
    ] {
        let mut world = kind.world();
        (world.panel.licenses.unnamed, world.panel.licenses.drops_answers) = (true, drops);
        if count == 2 {
            order_licenses(&mut world, &["Pro"]);
            world.until("the first one", Duration::from_hours(1), |w| bought(w) == 1);
        }
        world.panel.licenses.shows_after = seconds(1800);
        if count == 2 {
            order_licenses(&mut world, &["Pro", "Lite"]);
        }
        world.until("bought", Duration::from_hours(1), |w| bought(w) == count);
        world.panel.licenses.shows_after = Duration::ZERO;
        world.delete("web");
        world.run_for(seconds(1200));
        let what = format!("{kind:?} {count} {drops}");
        assert!(world.phase("web") == "Deleting" && world.panel.servers["1"].on, "{what}\n{}", world.describe());
        world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
        assert_released(&world, kind);
        assert!(bought(&world) == count && world.tasks.is_empty(), "{what}\n{}", world.describe());
    }
}

/// Another one was bought before it by an answer that did not name it either.
#[test]
fn a_purchase_that_never_was_answered_is_under_way_for_no_longer_than_anything_else() {
    let first = active().asked.iter().position(|(_, call)| call.name() == "orderLicense").unwrap();
    let mut world = Kind::Licensed.world();
    world.panel.licenses.unnamed = true;
    world.faults.insert(first + 1, Fault::LostNot);
    world.until("the second one", Duration::from_hours(1), |w| w.asked.len() == first + 2);
    let intent = world.status("web").in_flight.clone().unwrap();
    assert_eq!((bought(&world), intent.target.as_str()), (1, "license/k8s:u-web/Lite"), "{}", world.describe());
    world.panel.licenses.state = HandlerState::NotReady("down".into());
    world.delete("web");
    world.run_for(world.handler.settle * 3);
    assert!(world.phase("web") == "Deleting" && world.status("web").in_flight.is_none(), "{}", world.describe());
    world.panel.licenses.state = HandlerState::Ready;
    world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
    assert_released(&world, Kind::Licensed);
}

/// No answer named it, and the licence server cuts its remote id: the list shows it all the same.
#[test]
fn a_licence_that_no_answer_named_is_seen_though_its_remote_id_was_cut() {
    for (kind, told) in [(Kind::Licensed, true), (Kind::Licensed, false), (Kind::LicensedFreed, false)] {
        let mut world = kind.world();
        order_licenses(&mut world, &["Lite"]);
        (world.panel.licenses.unnamed, world.panel.licenses.remote_max) = (true, 13);
        world.panel.licenses.shows_after = seconds(300);
        world.until("bought", Duration::from_hours(1), |w| bought(w) == 1);
        world.panel.licenses.shows_after = Duration::ZERO;
        if told {
            world.until("Stalled", seconds(900), |w| stalled(w).0 == "MarkerTruncated");
        }
        world.delete("web");
        world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
        assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{kind:?} {told}\n{}", world.describe());
        assert!(bought(&world) == 1 && world.tasks.is_empty(), "{kind:?} {told}\n{}", world.describe());
    }
}

/// A department bought one by hand; that another one is refused once is another matter.
#[test]
fn what_is_refused_of_one_licence_does_not_contradict_what_was_done_for_another() {
    let mut world = Kind::Licensed.world();
    world.always = Some(("orderLicense", Fault::Refused));
    world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let refused = world.asked.last().map(|(_, call)| call.clone()).unwrap();
    assert!(matches!(&refused, Call::OrderLicense { remote_id, .. } if remote_id == "k8s:u-web/Pro"), "{}", world.describe());
    world.panel.licenses.apply(&refused, world.now).unwrap();
    world.always = None;
    world.faults.insert(world.asked.len(), Fault::Refused);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until("Active", Duration::from_hours(3), |w| w.phase("web") == "Active");
    assert_active(&world, Kind::Licensed);
    assert_eq!(world.tasks.len(), 1, "{}", world.describe());
}
