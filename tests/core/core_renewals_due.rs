//! Which licences are renewed beside whatever else their order is about, when, and how often somebody is asked about one.

use std::time::Duration;

use crate::core_renewals::{DAY, answered, asked, ends, forbidden, of, products, renewals, stalled, with};
use crate::support::licenses::policy;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World};
use crate::support::{later, seconds};
use dci_operator::api::Time;
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::order::LicenseStatus;
use dci_operator::api::task::TaskType;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::license_server::LicenseAnswers;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const FORBIDDEN: &str = "DeletionPolicyForbidden";

/// The time, in whole seconds, so long after now.
fn moment(world: &World, after: Duration) -> Timestamp {
    Time::seconds(later(world.now, after)).0
}

/// One pass at this very time, with a list that was asked for then.
fn pass_at(world: &mut World, at: Timestamp) {
    world.now = at;
    world.panel.licenses.take_list(at);
    world.pass("web");
}

/// What is stored of its first licence is another thing.
fn store(world: &mut World, change: impl FnOnce(&mut LicenseStatus)) {
    let stored = world.orders.get_mut("web").unwrap();
    change(&mut stored.status.licenses[0]);
    stored.version += 1;
}

fn forbid(world: &mut World) {
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    world.until("forbidden", Duration::from_hours(1), |w| stalled(w) == FORBIDDEN);
}

/// Its renewal was answered, and never shows.
fn unshown(world: &mut World) {
    world.panel.licenses.shows_after = Duration::from_hours(1000);
    ends(world, "Lite");
    world.until("answered", Duration::from_hours(1), |w| answered(w).is_some());
}

#[test]
fn what_keeps_a_renewal_back_does_so_until_its_time_is_over_and_no_longer() {
    type Keep = fn(&mut World, Timestamp);
    let failed: Keep = |world, at| {
        ends(world, "Lite");
        store(world, |record| record.renewal_failed_at = Some(Time(at - SignedDuration::from_hours(1))));
    };
    // Two days before an end that is two days away: half of it is over.
    let renewed: Keep = |world, at| {
        of(world, "Lite").expires = later(at, seconds(2 * DAY));
        store(world, |record| record.renewed_at = Some(Time(at - SignedDuration::from_hours(48))));
    };
    for (what, keep) in [("failed", failed), ("renewed", renewed)] {
        let mut world = forbidden();
        let at = moment(&world, seconds(120));
        keep(&mut world, at);
        pass_at(&mut world, at - SignedDuration::from_secs(1));
        assert_eq!(asked(&world), 0, "{what}\n{}", world.describe());
        pass_at(&mut world, at);
        assert_eq!(asked(&world), 1, "{what}\n{}", world.describe());
    }
    // Refused in its step, which is not reached any more.
    let mut world = with(&["Lite"]);
    ends(&mut world, "Lite");
    world.faults.insert(world.asked.len(), Fault::Refused);
    world.until("refused", Duration::from_hours(1), |w| asked(w) == 1);
    forbid(&mut world);
    let last = world.status("web").attempts_for.as_ref().and_then(|a| a.last).unwrap();
    pass_at(&mut world, later(last.0, seconds(3599)));
    assert_eq!(asked(&world), 1, "{}", world.describe());
    pass_at(&mut world, later(last.0, seconds(3600)));
    assert_eq!(asked(&world), 2, "{}", world.describe());
}

/// What the list shows is acted upon in the pass that it comes in, unless it may be older than what was changed last.
#[test]
fn a_list_that_was_asked_for_when_a_licence_was_changed_says_nothing_of_it_and_the_next_one_does() {
    let mut world = forbidden();
    ends(&mut world, "Lite");
    let at = moment(&world, seconds(60));
    world.panel.licenses.changed.insert("web".into(), at);
    pass_at(&mut world, at);
    assert_eq!(asked(&world), 0, "{}", world.describe());
    pass_at(&mut world, later(at, seconds(1)));
    assert_eq!((asked(&world), renewals(&world)), (1, 1), "{}", world.describe());
}

/// Half of a month would be two weeks.
#[test]
fn a_licence_of_a_year_is_renewed_as_long_before_its_end_as_the_licence_server_wants() {
    for stands_still in [false, true] {
        let mut world = Kind::Licensed.world();
        world.panel.licenses.policy = policy(|licenses| licenses["renewBefore"] = json!("1440h"));
        world.panel.licenses.period_days = 365;
        products(&mut world, &["Lite"]);
        world.edit("web", |raw| raw.spec.licenses[0].period = 12);
        reach(&mut world, "Active", Kind::Licensed);
        if stands_still {
            forbid(&mut world);
        }
        for (days, expected) in [(70, 0), (50, 1)] {
            of(&mut world, "Lite").expires = later(world.now, seconds(days * DAY));
            world.run_for(Duration::from_hours(3));
            assert_eq!(renewals(&world), expected, "{days} {stands_still}\n{}", world.describe());
        }
    }
}

/// Ten days instead of a month, as the answer says and the list shows.
#[test]
fn an_end_that_shows_as_it_was_answered_is_what_was_waited_for_however_short_the_period_is() {
    let mut world = forbidden();
    (world.panel.licenses.period_days, world.panel.licenses.shows_after) = (10, seconds(1800));
    ends(&mut world, "Lite");
    world.until("answered", Duration::from_hours(1), |w| answered(w).is_some());
    world.until("shown", Duration::from_hours(1), |w| answered(w).is_none());
    world.run_for(Duration::from_hours(30));
    assert_eq!((asked(&world), world.tasks.len(), stalled(&world).as_str()), (1, 0, FORBIDDEN), "{}", world.describe());
}

/// Neither an end that somebody moved by a day, nor one that was there before: an answer may name that, too.
#[test]
fn an_end_that_is_not_what_was_answered_is_not_taken_for_it() {
    for moved in [true, false] {
        let mut world = forbidden();
        unshown(&mut world);
        if moved {
            let (_, before) = of(&mut world, "Lite").before.as_mut().unwrap();
            before.expires = later(before.expires, seconds(DAY));
        } else {
            store(&mut world, |record| record.answered_end = record.expires_at);
        }
        world.run_for(Duration::from_hours(2));
        assert!(answered(&world).is_some() && asked(&world) == 1, "{moved}\n{}", world.describe());
    }
}

#[test]
fn an_end_that_somebody_moved_shows_in_an_order_that_stands_still() {
    let mut world = forbidden();
    let end = moment(&world, seconds(90 * DAY));
    of(&mut world, "Lite").expires = end;
    world.run_for(seconds(300));
    assert_eq!(world.status("web").licenses[0].expires_at, Some(Time(end)), "{}", world.describe());
}

/// Neither before a client has it nor when he gives it back.
#[test]
fn a_licence_that_nobody_uses_is_not_renewed_while_its_order_stands_still() {
    for (call, deleted) in [("handOver", false), ("suspendLicense", true)] {
        let mut world = if deleted { with(&["Lite"]) } else { Kind::Licensed.world() };
        world.always = Some((call, Fault::Refused));
        if deleted {
            world.delete("web");
        }
        world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
        ends(&mut world, "Lite");
        world.run_for(Duration::from_hours(6));
        assert_eq!((asked(&world), world.open_tasks()), (0, vec![TaskType::FailedOperation]), "{call}\n{}", world.describe());
    }
}

/// What the panel accepted, and does not show yet, is followed without an intent: one of a renewal would be taken for that.
#[test]
fn a_renewal_waits_for_an_installation_that_the_panel_accepted() {
    let mut world = with(&["Lite"]);
    world.panel.installs_show_after = seconds(90);
    world.edit("web", |raw| raw.spec.reinstall = "again".into());
    let installing = |w: &World| w.status("web").steps.iter().any(|s| s.name == "InstallOS" && s.state == "Running");
    world.until("accepted", Duration::from_hours(1), installing);
    ends(&mut world, "Lite");
    while installing(&world) {
        assert_eq!(asked(&world), 0, "{}", world.describe());
        world.step();
    }
    world.run_for(Duration::from_hours(3));
    assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{}", world.describe());
}

/// It may still be bought: nothing else remembers that it was asked for.
#[test]
fn a_purchase_whose_answer_is_missing_keeps_its_intent_though_another_licence_ends() {
    let mut world = with(&["Lite"]);
    products(&mut world, &["Lite", "Pro"]);
    world.faults.insert(world.asked.len(), Fault::LostLate(Duration::from_hours(3)));
    world.until("lost", Duration::from_hours(1), |w| w.status("web").in_flight.is_some());
    forbid(&mut world);
    world.now = later(world.now, seconds(29 * DAY));
    world.run_for(Duration::from_hours(2));
    let intent = world.status("web").in_flight.clone().map(|f| (f.call, f.target));
    assert_eq!(intent, Some(("orderLicense".into(), "license/k8s:u-web/Pro".into())), "{}", world.describe());
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Release);
    world.run_for(Duration::from_hours(3));
    assert_eq!((world.panel.licenses.orders["k8s:u-web/Pro"], of(&mut world, "Lite").renewals), (1, 1), "{}", world.describe());
}

/// A question about a renewal takes nobody's place.
#[test]
fn nobody_is_asked_about_a_renewal_that_does_not_show_while_something_else_is_counted() {
    let mut world = with(&["Lite"]);
    unshown(&mut world);
    world.always = Some(("setDomain", Fault::Refused));
    world.edit("web", |raw| raw.spec.domain = "other.example.net".into());
    world.until("counted", Duration::from_hours(1), |w| w.status("web").attempts == 1);
    forbid(&mut world);
    let counted = world.status("web").attempts_for.clone();
    assert!(counted.as_ref().is_some_and(|a| a.step == "ChangeAddress"), "{}", world.describe());
    world.run_for(Duration::from_hours(16));
    assert_eq!((world.tasks.len(), stalled(&world).as_str(), asked(&world)), (0, FORBIDDEN, 1), "{}", world.describe());
    assert_eq!(world.status("web").attempts_for, counted, "{}", world.describe());
}

/// Its form shows that it is somebody else's by now.
#[test]
fn a_licence_that_is_somebody_elses_is_not_renewed_and_not_looked_at_before_it_ends() {
    for lite_ends in [false, true] {
        let mut world = with(&["Lite", "Pro"]);
        forbid(&mut world);
        of(&mut world, "Lite").remote_id = "somebody's".into();
        ends(&mut world, "Pro");
        if lite_ends {
            ends(&mut world, "Lite");
        }
        world.run_for(Duration::from_hours(3));
        assert_eq!((of(&mut world, "Lite").renewals, of(&mut world, "Pro").renewals), (0, 1), "{}", world.describe());
        let looked_at = world.status("web").licenses.iter().any(|l| l.product == "Lite" && l.renewal_failed_at.is_some());
        assert_eq!(looked_at, lite_ends, "{}", world.describe());
    }
}

/// Something else changed about it a moment later: it is not asked for what is known.
#[test]
fn licences_that_do_not_end_soon_are_no_reason_to_look_again_at_an_order_that_stands_still() {
    let mut world = with(&["Lite", "Pro"]);
    of(&mut world, "Lite").remote_id = "somebody's".into();
    world.ask("web");
    world.until("told", Duration::from_hours(1), |w| stalled(w) == "NotOurLicense");
    let reads = world.reads;
    for _ in 0..3 {
        let at = later(world.now, seconds(1));
        pass_at(&mut world, at);
    }
    assert_eq!(world.reads, reads, "{}", world.describe());
}

/// What was answered for the others is.
#[test]
fn what_was_answered_for_a_licence_is_not_taken_for_the_answer_to_what_is_asked_of_it_next() {
    let of = |names: &[&str]| LicenseAnswers {
        bought: names.iter().map(|name| ((*name).to_owned(), None)).collect(),
        prolonged: names.iter().map(|name| ((*name).to_owned(), Some(Timestamp::UNIX_EPOCH))).collect(),
    };
    let mut answers = of(&["k8s:u-web/Lite", "k8s:u-web/Pro"]);
    answers.forget("k8s:u-web/Lite");
    assert_eq!(answers, of(&["k8s:u-web/Pro"]));
}

/// Two attempts fail at the first licence, the third one at the second.
#[test]
fn attempts_at_the_licences_of_an_order_are_counted_together() {
    let mut world = Kind::Licensed.world();
    let bought = |w: &World| w.asked.iter().filter(|(_, call)| matches!(call, Call::OrderLicense { .. })).count();
    world.always = Some(("orderLicense", Fault::Refused));
    world.until("refused", Duration::from_hours(6), |w| bought(w) == 1);
    world.always = None;
    let next = world.asked.len();
    world.faults.extend([(next, Fault::Refused), (next + 2, Fault::Refused)]);
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert_eq!((bought(&world), world.panel.licenses.rows.len()), (4, 1), "{}", world.describe());
}
