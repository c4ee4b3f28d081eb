//! Renewals of licences, whatever else their order, its panel or the licence server is busy with.

use std::time::Duration;

use crate::support::licenses::Bought;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World};
use crate::support::{later, seconds};
use dci_operator::api::Time;
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::{from_value, json};

pub const DAY: u64 = 24 * 3600;

pub fn products(world: &mut World, products: &[&str]) {
    let licenses = products.iter().map(|p| from_value(json!({"product": p})).unwrap()).collect();
    world.edit("web", |raw| raw.spec.licenses = licenses);
}

/// An order that is Active with these.
pub fn with(names: &[&str]) -> World {
    let mut world = Kind::Licensed.world();
    products(&mut world, names);
    reach(&mut world, "Active", Kind::Licensed);
    world.run_for(seconds(60));
    world
}

pub fn of<'w>(world: &'w mut World, product: &str) -> &'w mut Bought {
    let id = world.status("web").licenses.iter().find(|l| l.product == product).and_then(|l| l.id.clone()).unwrap();
    world.panel.licenses.rows.get_mut(&id).unwrap()
}

/// It ends within a day.
pub fn ends(world: &mut World, product: &str) {
    let end = later(world.now, seconds(DAY));
    of(world, product).expires = end;
}

pub fn renewals(world: &World) -> usize {
    world.panel.licenses.rows.values().map(|b| b.renewals).sum()
}

pub fn asked(world: &World) -> usize {
    world.asked.iter().filter(|(_, call)| matches!(call, Call::RenewLicense { .. })).count()
}

pub fn stalled(world: &World) -> String {
    condition::find(&world.status("web").conditions, ConditionType::Stalled).map(|c| c.reason.clone()).unwrap_or_default()
}

fn ready(world: &World) -> bool {
    condition::is_true(&world.status("web").conditions, ConditionType::Ready)
}

fn most(world: &World) -> usize {
    usize::try_from(world.handler.max_attempts).unwrap()
}

#[test]
fn a_licence_is_renewed_while_the_panel_of_servers_is_down() {
    for fault in [None, Some(Fault::LostApplied), Some(Fault::LostNot), Some(Fault::CrashAfter)] {
        let mut world = with(&["Lite"]);
        world.state = HandlerState::NotReady("down".into());
        ends(&mut world, "Lite");
        if let Some(fault) = fault {
            world.faults.insert(world.asked.len(), fault);
        }
        world.run_for(Duration::from_hours(3));
        assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{fault:?}\n{}", world.describe());
        world.assert_quiet();
    }
}

#[test]
fn a_department_that_looks_after_a_renewal_is_waited_for_also_while_the_panel_is_down() {
    for (fault, down) in [(Fault::Refused, true), (Fault::Ignored, true), (Fault::Refused, false), (Fault::Ignored, false)] {
        let mut world = with(&["Lite"]);
        ends(&mut world, "Lite");
        world.always = Some(("renewLicense", fault));
        world.until("a department is asked", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
        // What was answered as done is not paid for again by itself.
        let times = if fault == Fault::Ignored { 1 } else { most(&world) };
        let told = world.tasks.last().unwrap().details.contains("was renewed to an end that the answer did not name");
        assert_eq!((asked(&world), told), (times, fault == Fault::Ignored), "{fault:?} {down}\n{}", world.describe());
        if down {
            world.state = HandlerState::NotReady("down".into());
        }
        world.run_for(Duration::from_hours(6));
        assert_eq!((asked(&world), world.open_tasks()), (times, vec![TaskType::FailedOperation]), "{fault:?} {down}\n{}", world.describe());
        world.always = None;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.run_for(Duration::from_hours(3));
        assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{fault:?} {down}\n{}", world.describe());
    }
}

/// The step does not come to it again: the spec is forbidden meanwhile.
#[test]
fn a_renewal_that_was_refused_once_is_made_although_its_step_is_not_reached_any_more() {
    let mut world = with(&["Lite"]);
    ends(&mut world, "Lite");
    world.faults.insert(world.asked.len(), Fault::Refused);
    let before = asked(&world);
    world.until("it is asked for", Duration::from_hours(1), |w| asked(w) > before);
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    world.run_for(Duration::from_hours(6));
    assert_eq!((renewals(&world), stalled(&world).as_str()), (1, "DeletionPolicyForbidden"), "{}", world.describe());
}

/// An installation that was accepted and does not show yet is followed without an intent.
#[test]
fn a_licence_that_ends_while_a_reinstall_is_accepted_makes_no_second_one() {
    let mut world = with(&["Lite"]);
    world.panel.installs_show_after = seconds(90);
    world.edit("web", |raw| raw.spec.reinstall = "again".into());
    let installs = |w: &World| w.asked.iter().filter(|(_, call)| call.name() == "install").count();
    let before = installs(&world);
    world.until("it is asked for", Duration::from_hours(1), |w| installs(w) > before);
    ends(&mut world, "Lite");
    world.run_for(Duration::from_hours(6));
    assert_eq!((installs(&world), renewals(&world), world.phase("web")), (before + 1, 1, "Active"), "{}", world.describe());
}

#[test]
fn a_server_that_drifted_stays_told_when_a_licence_is_renewed_while_its_panel_is_down() {
    let mut world = with(&["Lite"]);
    world.panel.server("1").owner = None;
    world.until("told", Duration::from_hours(1), |w| stalled(w) == "OwnerChanged");
    world.state = HandlerState::NotReady("down".into());
    ends(&mut world, "Lite");
    world.run_for(Duration::from_hours(3));
    assert_eq!((renewals(&world), stalled(&world).as_str(), ready(&world)), (1, "OwnerChanged", false), "{}", world.describe());
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
}

/// Its form is refused, while the list shows that it ends.
#[test]
fn a_licence_that_cannot_be_read_is_asked_for_once_in_a_pass_and_keeps_no_other_from_being_renewed() {
    for (down, waits) in [(true, false), (false, false), (false, true)] {
        let mut world = with(&["Lite", "Pro"]);
        if waits {
            world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
            world.until("forbidden", Duration::from_hours(1), |w| stalled(w) == "DeletionPolicyForbidden");
        }
        if down {
            world.state = HandlerState::NotReady("down".into());
        }
        let lite = world.status("web").licenses.iter().find(|l| l.product == "Lite").and_then(|l| l.id.clone()).unwrap();
        world.panel.licenses.refused.insert(lite);
        ends(&mut world, "Lite");
        ends(&mut world, "Pro");
        let attempts = world.status("web").attempts;
        world.run_for(Duration::from_hours(3));
        let other = of(&mut world, "Pro").renewals;
        assert_eq!(other, 1, "{down} {waits}\n{}", world.describe());
        if waits {
            assert_eq!(
                (world.status("web").attempts, stalled(&world).as_str()),
                (attempts, "DeletionPolicyForbidden"),
                "nobody else is blamed"
            );
        }
    }
}

#[test]
fn what_is_wrong_with_one_licence_keeps_no_other_from_being_renewed() {
    // Not sold.
    let mut world = with(&["Lite"]);
    products(&mut world, &["Lite", "Nothing"]);
    world.until("told", Duration::from_hours(1), |w| stalled(w) == "UnknownProduct");
    ends(&mut world, "Lite");
    world.run_for(Duration::from_hours(3));
    assert_eq!((renewals(&world), stalled(&world).as_str()), (1, "UnknownProduct"), "{}", world.describe());
    // Gone, and then the panel of servers is down.
    let mut world = with(&["Lite", "Pro"]);
    let lite = world.status("web").licenses.iter().find(|l| l.product == "Lite").and_then(|l| l.id.clone()).unwrap();
    world.panel.licenses.rows.retain(|id, _| *id != lite);
    world.until("gone", Duration::from_hours(2), |w| stalled(w) == "LicenseGone");
    world.state = HandlerState::NotReady("down".into());
    ends(&mut world, "Pro");
    world.run_for(Duration::from_hours(3));
    assert_eq!((renewals(&world), stalled(&world).as_str()), (1, "LicenseGone"), "{}", world.describe());
}

/// Nobody counts what fails beside something else: it has a pause instead.
#[test]
fn a_renewal_that_comes_to_nothing_while_its_order_waits_has_a_pause_after_so_many_tries() {
    let mut world = forbidden();
    ends(&mut world, "Lite");
    world.always = Some(("renewLicense", Fault::Refused));
    world.run_for(Duration::from_hours(6));
    assert!((6..=6 * most(&world)).contains(&asked(&world)), "{}\n{}", asked(&world), world.describe());
    assert!(world.status("web").licenses[0].renewal_failed_at.is_some());
    world.always = None;
    world.run_for(Duration::from_hours(2));
    assert_eq!((renewals(&world), stalled(&world).as_str()), (1, "DeletionPolicyForbidden"), "{}", world.describe());
}

/// One that stands still, and whose licence may end meanwhile.
pub fn forbidden() -> World {
    let mut world = with(&["Lite"]);
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    world.until("forbidden", Duration::from_hours(1), |w| stalled(w) == "DeletionPolicyForbidden");
    world
}

#[test]
fn an_order_stays_active_while_the_licence_server_is_down_in_the_middle_of_a_renewal() {
    for fault in [Fault::LostNot, Fault::LostApplied] {
        let mut world = with(&["Lite"]);
        ends(&mut world, "Lite");
        world.faults.insert(world.asked.len(), fault);
        let before = asked(&world);
        world.until("it is asked for", Duration::from_hours(1), |w| asked(w) > before);
        world.panel.licenses.state = HandlerState::NotReady("down".into());
        world.run_for(Duration::from_hours(12));
        assert_eq!((world.phase("web"), ready(&world)), ("Active", true), "{fault:?}\n{}", world.describe());
        world.panel.licenses.state = HandlerState::Ready;
        world.run_for(Duration::from_hours(3));
        assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{fault:?}\n{}", world.describe());
        world.assert_quiet();
    }
}

/// The licence server is down whenever a retry is due: what was refused before is counted all the same, until somebody is asked.
#[test]
fn what_a_renewal_was_refused_is_counted_on_where_the_licence_server_comes_and_goes() {
    let mut world = with(&["Lite"]);
    ends(&mut world, "Lite");
    world.always = Some(("renewLicense", Fault::Refused));
    for times in 1..most(&world) {
        world.until("refused", Duration::from_hours(1), |w| asked(w) == times);
        world.panel.licenses.state = HandlerState::NotReady("down".into());
        world.run_for(Duration::from_hours(1));
        assert_eq!((world.phase("web"), ready(&world), asked(&world)), ("Active", true, times), "{}", world.describe());
        world.panel.licenses.state = HandlerState::Ready;
    }
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert_eq!(asked(&world), most(&world), "{}", world.describe());
    world.always = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(Duration::from_hours(1));
    assert_eq!((renewals(&world), world.phase("web"), world.status("web").attempts), (1, "Active", 0), "{}", world.describe());
    // Refused once, and paid for by hand while the licence server is down: it counts no more.
    let mut world = with(&["Lite"]);
    ends(&mut world, "Lite");
    world.faults.insert(world.asked.len(), Fault::Refused);
    world.until("refused", Duration::from_hours(1), |w| asked(w) == 1);
    world.panel.licenses.state = HandlerState::NotReady("down".into());
    world.run_for(Duration::from_hours(1));
    let row = of(&mut world, "Lite");
    row.expires = later(row.expires, seconds(30 * DAY));
    world.panel.licenses.state = HandlerState::Ready;
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.phase("web"), world.status("web").attempts, asked(&world)), ("Active", 0, 1), "{}", world.describe());
    world.assert_quiet();
}

#[test]
fn a_licence_that_ends_while_the_server_is_coming_on_is_renewed_once_and_nothing_is_switched_twice() {
    let mut world = with(&["Lite"]);
    world.panel.power_takes = world.handler.power / 2;
    world.panel.server("1").on = false;
    let switched = |w: &World| w.asked.iter().filter(|(_, call)| call.name() == "powerOn").count();
    let before = switched(&world);
    world.until("it is asked for", Duration::from_hours(1), |w| switched(w) > before);
    ends(&mut world, "Lite");
    world.run_for(Duration::from_hours(6));
    assert_eq!((switched(&world), renewals(&world), world.phase("web")), (before + 1, 1, "Active"), "{}", world.describe());
}

/// What was answered for a licence, and does not show.
pub fn answered(world: &World) -> Option<(Time, Time)> {
    let record = &world.status("web").licenses[0];
    record.answered_at.zip(record.answered_end)
}

/// List and form show the new end an hour after the answer has named it; whatever becomes of the process or the order meanwhile.
#[test]
fn an_end_that_a_renewals_answer_named_is_believed_until_it_shows() {
    type Stand = fn(&mut World);
    let rest: Stand = |_| ();
    let down: Stand = |world| world.state = HandlerState::NotReady("down".into());
    let forbidden: Stand = |world| {
        world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
        world.until("forbidden", Duration::from_hours(1), |w| stalled(w) == "DeletionPolicyForbidden");
    };
    for (what, stand) in [("at rest", rest), ("down", down), ("forbidden", forbidden)] {
        for fault in [None, Some(Fault::Touched)] {
            let mut world = with(&["Lite"]);
            stand(&mut world);
            let phase = world.phase("web").to_owned();
            world.panel.licenses.shows_after = Duration::from_hours(1);
            ends(&mut world, "Lite");
            let old = of(&mut world, "Lite").expires;
            if let Some(fault) = fault {
                world.faults.insert(world.asked.len(), fault);
            }
            world.until("told", Duration::from_hours(1), |w| answered(w).is_some());
            assert_eq!(answered(&world).map(|(_, end)| end), Some(Time::seconds(later(old, seconds(30 * DAY)))));
            world.restart();
            world.run_for(seconds(1800));
            assert!(answered(&world).is_some() && world.status("web").in_flight.is_none(), "{what} {fault:?}\n{}", world.describe());
            world.run_for(Duration::from_hours(6));
            let record = world.status("web").licenses[0].clone();
            assert_eq!((asked(&world), renewals(&world), answered(&world)), (1, 1, None), "{what} {fault:?}\n{}", world.describe());
            assert_eq!(record.expires_at, Some(Time::seconds(later(old, seconds(30 * DAY)))), "{what} {fault:?}");
            assert_eq!((world.phase("web"), world.tasks.len()), (phase.as_str(), 0), "{what} {fault:?}\n{}", world.describe());
            world.assert_quiet();
        }
    }
}

/// It is not paid for again, whoever is slow: somebody has half of the time that is left to look why it does not show.
#[test]
fn a_renewal_that_never_shows_is_paid_for_once_and_a_department_finds_out() {
    for (resolution, shows) in
        [(Resolution::Done, true), (Resolution::Retry, true), (Resolution::Retry, false), (Resolution::Cancelled, false)]
    {
        let mut world = with(&["Lite"]);
        world.panel.licenses.shows_after = Duration::from_hours(1000);
        ends(&mut world, "Lite");
        world.until("answered", Duration::from_hours(1), |w| answered(w).is_some());
        world.run_for(Duration::from_hours(11));
        assert_eq!((world.phase("web"), ready(&world), world.tasks.len()), ("Active", true, 0), "{}", world.describe());
        world.until("a task", Duration::from_hours(2), |w| w.open_tasks() == [TaskType::FailedOperation]);
        let told = world.tasks.last().unwrap().details.clone();
        let id = world.status("web").licenses[0].id.clone().unwrap();
        for part in [
            "call renewLicense, target license/k8s:u-web/Lite.".to_owned(),
            format!("LicenseNotShown: licence {id} (`k8s:u-web/Lite`) was renewed until {}", answered(&world).unwrap().1),
        ] {
            assert!(told.contains(&part), "{part}\n{told}");
        }
        world.restart();
        world.run_for(Duration::from_hours(6));
        assert_eq!((asked(&world), world.open_tasks().len()), (1, 1), "{}", world.describe());
        world.panel.licenses.shows_after = Duration::ZERO;
        if shows {
            of(&mut world, "Lite").before = None;
        }
        world.resolve(TaskType::FailedOperation, resolution);
        world.run_for(Duration::from_hours(3));
        let once = shows || resolution == Resolution::Cancelled;
        assert_eq!((asked(&world), world.tasks.len()), (if once { 1 } else { 2 }, 1), "{resolution:?} {shows}\n{}", world.describe());
        let active = resolution != Resolution::Cancelled;
        assert_eq!((world.phase("web") == "Active", answered(&world).is_none()), (active, active), "{resolution:?} {shows}");
    }
}

/// A department said that it is done, and the server goes on to show the old end.
#[test]
fn a_renewal_that_is_said_to_be_done_and_does_not_show_is_asked_about_again_and_not_paid_for() {
    let mut world = with(&["Lite"]);
    world.panel.licenses.shows_after = Duration::from_hours(1000);
    ends(&mut world, "Lite");
    world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until("another task", Duration::from_hours(1), |w| w.tasks.len() == 2);
    assert!(world.tasks[1].details.contains("call renewLicense, target license/k8s:u-web/Lite."), "{}", world.tasks[1].details);
    // Another period is no reason to pay for one more either.
    world.edit("web", |raw| raw.spec.licenses[0].period = 2);
    world.run_for(Duration::from_hours(3));
    assert_eq!((asked(&world), world.open_tasks()), (1, vec![TaskType::FailedOperation]), "{}", world.describe());
    // Somebody renews it by hand.
    let row = of(&mut world, "Lite");
    (row.before, row.renewals) = (None, row.renewals + 1);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.run_for(Duration::from_hours(1));
    assert_eq!((asked(&world), world.phase("web"), answered(&world)), (1, "Active", None), "{}", world.describe());
}

/// The next period: what was believed of the last one does not keep it back.
#[test]
fn a_licence_that_shows_its_ends_late_is_renewed_once_for_each_period() {
    let mut world = with(&["Lite"]);
    world.panel.licenses.shows_after = Duration::from_hours(1);
    for period in 1..=3 {
        ends(&mut world, "Lite");
        world.run_for(Duration::from_hours(6));
        assert_eq!((asked(&world), answered(&world), world.phase("web")), (period, None, "Active"), "{}", world.describe());
        world.now = later(world.now, seconds(29 * DAY));
    }
}

/// A bare `ok`, or an end that is not understood: it was done all the same, and shows a while later.
#[test]
fn a_renewal_whose_answer_names_no_end_is_not_paid_for_again_by_itself() {
    for mut world in [with(&["Lite"]), forbidden()] {
        let phase = world.phase("web").to_owned();
        ends(&mut world, "Lite");
        let old = of(&mut world, "Lite").expires;
        world.always = Some(("renewLicense", Fault::Ignored));
        world.run_for(Duration::from_hours(6));
        assert_eq!((asked(&world), world.tasks.len()), (1, 0), "{phase}\n{}", world.describe());
        assert_eq!(answered(&world).map(|(_, end)| end), Some(Time::seconds(later(old, seconds(14 * DAY)))), "{phase}");
        of(&mut world, "Lite").expires = later(old, seconds(30 * DAY));
        world.run_for(Duration::from_hours(6));
        assert_eq!((asked(&world), answered(&world), world.phase("web")), (1, None, phase.as_str()), "{}", world.describe());
        world.assert_quiet();
    }
}

/// Nobody comes to the step that asks.
#[test]
fn a_department_is_asked_about_a_renewal_that_does_not_show_also_where_the_order_stands_still() {
    for (fault, resolution) in [(None, Resolution::Done), (Some(Fault::Ignored), Resolution::Retry)] {
        let mut world = forbidden();
        ends(&mut world, "Lite");
        world.panel.licenses.shows_after = Duration::from_hours(1000);
        world.always = fault.map(|fault| ("renewLicense", fault));
        world.until("a task", Duration::from_hours(16), |w| w.open_tasks() == [TaskType::FailedOperation]);
        let told = world.tasks.last().unwrap().details.clone();
        assert!(told.contains("call renewLicense, target license/k8s:u-web/Lite.") && told.contains("LicenseNotShown"), "{told}");
        world.restart();
        world.run_for(Duration::from_hours(1));
        assert_eq!((asked(&world), world.tasks.len()), (1, 1), "{resolution:?}\n{}", world.describe());
        (world.panel.licenses.shows_after, world.always) = (Duration::ZERO, None);
        of(&mut world, "Lite").before = None;
        world.resolve(TaskType::FailedOperation, resolution);
        world.run_for(Duration::from_hours(3));
        let times = if resolution == Resolution::Retry { 2 } else { 1 };
        assert_eq!((asked(&world), renewals(&world), world.tasks.len()), (times, 1, 1), "{resolution:?}\n{}", world.describe());
        assert_eq!((answered(&world), stalled(&world).as_str()), (None, "DeletionPolicyForbidden"), "{resolution:?}\n{}", world.describe());
    }
}

/// What a department was asked about one licence is answered, though the answer to the renewal of another one was lost meanwhile.
#[test]
fn the_answer_about_one_renewal_is_heard_where_that_of_another_was_lost_meanwhile() {
    let mut world = with(&["Lite", "Pro"]);
    world.panel.licenses.shows_after = Duration::from_hours(1000);
    ends(&mut world, "Lite");
    world.until("a task", Duration::from_hours(16), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.panel.licenses.shows_after = Duration::ZERO;
    let counted = world.status("web").attempts_for.clone().map(|a| (a.call, a.target));
    ends(&mut world, "Pro");
    world.always = Some(("renewLicense", Fault::LostApplied));
    world.until("it is renewed", Duration::from_hours(1), |w| asked(w) == 2);
    world.always = None;
    world.run_for(Duration::from_hours(1));
    assert_eq!(world.status("web").attempts_for.clone().map(|a| (a.call, a.target)), counted, "{}", world.describe());
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(Duration::from_hours(3));
    assert_eq!((asked(&world), of(&mut world, "Pro").renewals, world.tasks.len()), (3, 1, 1), "{}", world.describe());
    assert_eq!((world.phase("web"), answered(&world)), ("Active", None), "{}", world.describe());
}
