//! Licences that nobody needs any more: stopped where they are ours, and never forgotten.

use std::time::Duration;

use crate::core_licenses::{active, order_licenses, stalled};
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_released, reach};
use crate::support::world::{Fault, World};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::license::FREE_NAME;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;

/// What is not read any more is not stopped for that, and a department may give it up.
#[test]
fn a_licence_of_ours_that_cannot_be_read_is_not_taken_for_stopped() {
    let mut world = active();
    let own = world.panel.licenses.rows.keys().next().cloned().unwrap();
    world.panel.licenses.unread = Some(own.clone());
    world.delete("web");
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains(&format!("shows no remote id of licences {own}, nor can it be read")), "{told}");
    world.run_for(Duration::from_hours(1));
    assert!(!world.panel.licenses.rows[&own].suspended && world.panel.servers["1"].on, "{}", world.describe());
    world.panel.licenses.unread = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

/// A panel whose list shows no remote ids, and whose forms have no such field: nothing tells that a licence is still ours.
#[test]
fn licences_that_do_not_tell_whose_they_are_are_neither_stopped_by_guess_nor_left_running() {
    for known in [true, false] {
        let mut world = active();
        world.panel.licenses.untold = true;
        if !known {
            // As one that was put back to a time before they were found.
            let stored = world.orders.get_mut("web").unwrap();
            stored.status.licenses.iter_mut().for_each(|l| l.id = None);
            stored.version += 1;
        }
        world.delete("web");
        world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
        world.run_for(Duration::from_hours(3));
        let stopped = |w: &World| w.panel.licenses.rows.values().filter(|b| b.suspended).count();
        assert!(stopped(&world) == 0 && world.panel.servers["1"].on, "{known}\n{}", world.describe());
        world.panel.licenses.untold = false;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        reach(&mut world, "gone", Kind::Licensed);
        assert_released(&world, Kind::Licensed);
    }
}

/// The list hides it, and its form does not tell whose it is.
#[test]
fn a_hidden_licence_that_does_not_tell_whose_it_is_is_not_taken_for_gone() {
    let mut world = active();
    let lite = world.panel.licenses.of("k8s:u-web/Lite")[0].0.clone();
    world.panel.licenses.hidden.insert(lite.clone());
    world.panel.licenses.unread = Some(lite.clone());
    world.delete("web");
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains(&format!("the form of licence {lite} shows no remote id")), "{told}");
    assert!(told.contains("the server is taken back all the same") && !told.contains("nothing more is sent"), "{told}");
    assert!(!world.panel.licenses.rows[&lite].suspended && world.panel.servers["1"].on, "{}", world.describe());
    // A department gives it up: the server goes back all the same.
    world.resolve(TaskType::FailedOperation, Resolution::Abandon);
    world.until("gone", Duration::from_hours(3), |w| w.phase("web") == "gone");
    assert!(!world.panel.licenses.rows[&lite].suspended, "{}", world.describe());
}

/// Nor does it tell whose it was; but that it is free stands there.
#[test]
fn a_hidden_licence_that_somebody_freed_keeps_no_order() {
    let mut world = Kind::LicensedFreed.world();
    reach(&mut world, "Active", Kind::LicensedFreed);
    world.run_for(seconds(60));
    let lite = world.panel.licenses.of("k8s:u-web/Lite")[0].0.clone();
    world.panel.licenses.rows.get_mut(&lite).unwrap().name = FREE_NAME.into();
    world.panel.licenses.hidden.insert(lite.clone());
    world.panel.licenses.unread = Some(lite);
    world.delete("web");
    world.until("gone", Duration::from_hours(1), |w| w.phase("web") == "gone");
    assert!(world.tasks.is_empty(), "{}", world.describe());
}

/// A filter that is stored at the licence server hides rows without a word: what is ordered would go on when the order is gone.
#[test]
fn a_licence_that_the_list_hides_is_not_taken_for_gone() {
    for (kind, remote) in [(Kind::Licensed, "k8s:u-web/Lite"), (Kind::LicensedFreed, "k8s:u-web/Pro")] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.run_for(seconds(60));
        let own = world.panel.licenses.of(remote)[0].0.clone();
        world.panel.licenses.hidden.insert(own.clone());
        world.delete("web");
        world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
        let told = world.tasks.last().unwrap().details.clone();
        assert!(told.contains(&format!("does not show licence {own}")), "{told}");
        let reads = world.reads;
        world.run_for(Duration::from_hours(1));
        assert!(!world.panel.licenses.rows[&own].suspended && world.panel.servers["1"].on, "{}", world.describe());
        assert!(world.reads - reads < 60, "{} reads while it waits", world.reads - reads);
        world.panel.licenses.hidden.clear();
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        reach(&mut world, "gone", kind);
        assert_released(&world, kind);
    }
}

#[test]
fn a_licence_that_the_list_hides_is_not_forgotten_by_an_order_that_does_not_want_it_any_more() {
    let mut world = active();
    let pro = world.panel.licenses.of("k8s:u-web/Pro")[0].0.clone();
    world.panel.licenses.hidden.insert(pro.clone());
    order_licenses(&mut world, &["Lite"]);
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "PanelError");
    assert_eq!(world.status("web").licenses.len(), 2, "{}", world.describe());
    // Somebody else has it by now: there is nothing of ours to be stopped.
    world.panel.licenses.rows.get_mut(&pro).unwrap().remote_id = "somebody's".into();
    world.force("web");
    world.until("Pro is let go", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 1);
    assert!(!world.panel.licenses.rows[&pro].suspended, "{}", world.describe());
}

/// A form told it once, and does not any more.
#[test]
fn a_licence_whose_form_stopped_telling_is_neither_stopped_nor_taken_for_stopped() {
    let mut world = active();
    let own = ["k8s:u-web/Lite", "k8s:u-web/Pro"].map(|remote| (world.panel.licenses.of(remote)[0].0.clone(), remote.to_owned()));
    world.panel.licenses.remembered = own.into();
    world.panel.licenses.untold = true;
    world.delete("web");
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert!(world.panel.licenses.rows.values().all(|b| !b.suspended), "{}", world.describe());
    world.panel.licenses.untold = false;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

/// The list shows no remote ids: what a form told once may not be true any more.
#[test]
fn a_licence_is_not_stopped_for_what_its_form_showed_once() {
    let mut world = active();
    let [lite, pro] = ["k8s:u-web/Lite", "k8s:u-web/Pro"].map(|remote| world.panel.licenses.of(remote)[0].0.clone());
    world.panel.licenses.remembered = [(lite.clone(), "k8s:u-web/Lite".to_owned()), (pro.clone(), "k8s:u-web/Pro".to_owned())].into();
    world.panel.licenses.rows.get_mut(&lite).unwrap().remote_id = "somebody's".into();
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    let rows = &world.panel.licenses.rows;
    assert_eq!((rows[&lite].suspended, rows[&pro].suspended), (false, true), "{}", world.describe());
}

#[test]
fn the_deletion_waits_for_the_licence_server_before_it_touches_the_server() {
    for kind in [Kind::Licensed, Kind::LicensedFreed] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.panel.licenses.state = HandlerState::NotReady("Unreachable: nothing there".into());
        let asked = world.asked.len();
        world.delete("web");
        world.run_for(Duration::from_hours(5));
        let on = world.status("web").waiting_on.clone().unwrap();
        assert_eq!((on.kind.as_str(), on.name.as_str()), ("Handler", "hosting/isp"));
        assert!(on.message.contains("nothing there"), "{}", on.message);
        assert_eq!(world.asked.len(), asked, "nothing is done to the server\n{}", world.describe());
        world.panel.licenses.state = HandlerState::Ready;
        reach(&mut world, "gone", kind);
        assert_released(&world, kind);
        let off = world.panel.journal.iter().position(|c| matches!(c, Call::PowerOff { .. })).unwrap();
        let last = world.panel.journal.iter().rposition(Call::at_license_server).unwrap();
        assert!(last < off, "licences first\n{}", world.describe());
        let names: Vec<&str> = world.panel.licenses.rows.values().map(|b| b.name.as_str()).collect();
        assert!(kind == Kind::Licensed || names == [FREE_NAME, FREE_NAME], "{names:?}");
    }
}

/// A protected order that is deleted is refused first: when it is let go, what it had is taken back all the same.
#[test]
fn licences_kept_for_the_next_server_are_stopped_where_the_deletion_was_refused_at_first() {
    let mut world = Kind::Licensed.world();
    world.handler.run_recipe = true;
    world.panel.licenses.key_takes = Duration::from_hours(1);
    world.until("bought", Duration::from_hours(1), |w| w.panel.licenses.rows.len() == 2);
    world.panel.runs_that_fail = 1;
    world.edit("web", |raw| raw.spec.recipes.push("more.sh".into()));
    world.until("given back", Duration::from_hours(2), |w| w.status("web").steps.iter().any(|s| s.name == "RevokeLicenses"));
    world.edit("web", |raw| raw.spec.deletion_protection = true);
    world.delete("web");
    world.run_for(Duration::from_mins(10));
    assert_eq!(world.phase("web"), "Deleting");
    world.edit("web", |raw| raw.spec.deletion_protection = false);
    reach(&mut world, "gone", Kind::Licensed);
    assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{}", world.describe());
}

/// The licence server works through what is asked of it: what it accepted shows a moment later.
#[test]
fn a_licence_that_takes_a_moment_to_stop_is_no_failure() {
    for kind in [Kind::Licensed, Kind::LicensedFreed] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.run_for(seconds(60));
        world.handler.max_attempts = 1;
        world.panel.licenses.shows_after = seconds(30);
        world.delete("web");
        let asked = |w: &World, name: &str| w.asked.iter().filter(|(_, call)| call.name() == name).count();
        world.until("asked", Duration::from_hours(1), |w| asked(w, "suspendLicense") == 1 && w.status("web").waiting_on.is_some());
        let status = world.status("web");
        assert_eq!(status.in_flight.as_ref().map(|f| f.outcome.as_str()), Some("Answered"), "{}", world.describe());
        let on = status.waiting_on.as_ref().unwrap();
        assert!(on.message.contains("suspendLicense was answered as done, and does not show yet"), "{}", on.message);
        assert!(status.last_error.is_none() && status.attempts == 0, "{}", world.describe());
        reach(&mut world, "gone", kind);
        assert_released(&world, kind);
        let freed = if kind == Kind::LicensedFreed { 2 } else { 0 };
        assert_eq!((asked(&world, "suspendLicense"), asked(&world, "freeLicense")), (2, freed), "{}", world.describe());
        assert!(world.tasks.is_empty(), "nobody is asked for nothing\n{}", world.describe());
    }
}

/// A licence that says that it stops, and never does, is told after as many attempts as anything has.
#[test]
fn a_licence_that_never_stops_is_told_as_one_whose_stop_was_answered() {
    let mut world = active();
    world.always = Some(("suspendLicense", Fault::Ignored));
    world.delete("web");
    world.until("a task", Duration::from_hours(3), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains("NoEffect: suspendLicense was asked for 3 times and answered as done, and its effect never showed"), "{told}");
    assert!(world.panel.servers["1"].on, "{}", world.describe());
}

/// A suspension shows a while later; by then the service shall run again.
#[test]
fn a_licence_whose_stop_shows_after_the_service_was_resumed_is_started_again() {
    for shows in [seconds(30), seconds(200)] {
        let mut world = active();
        world.panel.licenses.shows_after = shows;
        world.edit("web", |raw| raw.spec.suspended = true);
        let asked = |w: &World| w.asked.iter().any(|(_, call)| call.name() == "suspendLicense");
        world.until("asked", Duration::from_hours(1), asked);
        world.edit("web", |raw| raw.spec.suspended = false);
        world.run_for(Duration::from_hours(2));
        assert!(world.panel.licenses.rows.values().all(|b| !b.suspended), "{shows:?}\n{}", world.describe());
        assert_eq!((world.phase("web"), world.tasks.len()), ("Active", 0), "{shows:?}\n{}", world.describe());
    }
}
