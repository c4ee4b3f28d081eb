//! What shows that a system was installed, and what does not: flags that were seen, a form that may have named the system all along.

#[path = "core_installation/told.rs"]
mod told;

use std::time::Duration;

use crate::support::changes::{reinstall, settled};
use crate::support::panel::{Panel, TEMPLATE};
use crate::support::seconds;
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use serde_json::json;

const UBUNTU: &str = "ISPsystem__Ubuntu-24.04-x86_64";

/// An order whose server has this system already, of the client before.
fn world(before: Option<&str>) -> World {
    let mut world = World::simple(1, 4);
    world.panel.server("1").template = before.map(Into::into);
    world
}

/// How often an installation was asked for, and how often one was begun.
fn installs(world: &World) -> (usize, usize) {
    (world.asked.iter().filter(|(_, call)| call.name() == "install").count(), world.panel.servers["1"].installs)
}

fn until_asked(world: &mut World, times: usize) {
    world.until("it is asked for", Duration::from_hours(12), |w| installs(w).0 == times);
}

fn until_error(world: &mut World, code: &str) {
    world.until(code, Duration::from_hours(12), |w| w.status("web").last_error.as_ref().is_some_and(|e| e.code == code));
    assert_ne!(world.phase("web"), "Active", "{}", world.describe());
}

fn until_task(world: &mut World) {
    world.until("a task", Duration::from_hours(24), |w| !w.open_tasks().is_empty());
}

/// Until the installation is accepted (`Running`), or its flag was seen (`Waiting`).
fn until_state(world: &mut World, state: &str) {
    world.until(state, Duration::from_hours(12), |w| {
        let status = w.status("web");
        status.in_flight.is_none() && status.steps.iter().any(|s| s.name == "InstallOS" && s.state == state)
    });
}

/// Another status is stored than the operator knows of.
fn put_back(world: &mut World, status: OrderStatus) {
    let stored = world.orders.get_mut("web").unwrap();
    stored.status = status;
    stored.version += 1;
    world.restart();
}

/// The client has the system that was asked for, and nothing of how it came there is left in the status.
fn assert_installed(world: &World, template: &str) {
    assert_eq!(world.panel.servers["1"].template.as_deref(), Some(template), "{}", world.describe());
    let server = world.status("web").server.as_ref().unwrap();
    assert!(!server.template_stood && !server.failure_stood && !server.reinstall_unconfirmed, "{server:?}");
}

#[test]
fn an_installation_without_a_trace_is_made_again_whatever_system_the_client_before_had() {
    for (before, restart) in [(None, false), (Some(UBUNTU), false), (Some(TEMPLATE), false), (Some(TEMPLATE), true)] {
        let mut world = world(before);
        world.always = Some(("install", Fault::Ignored));
        until_asked(&mut world, 1);
        if restart {
            world.restart();
        }
        until_error(&mut world, "InstallVanished");
        world.always = None;
        world.until_phase("web", "Active");
        assert_eq!((installs(&world), world.tasks.len()), ((2, 1), 0), "{before:?} {restart}\n{}", world.describe());
        assert_installed(&world, TEMPLATE);
        world.assert_quiet();
    }
}

/// It is over before the panel is listed again: no flag is ever seen.
#[test]
fn an_installation_that_nobody_saw_shows_by_a_system_that_was_not_there_before_or_is_told() {
    for before in [None, Some(UBUNTU)] {
        let mut world = world(before);
        world.panel.install_takes = Duration::ZERO;
        world.until_phase("web", "Active");
        assert_eq!((installs(&world), world.tasks.len()), ((1, 1), 0), "{before:?}");
        assert_installed(&world, TEMPLATE);
    }
    for resolution in [Resolution::Retry, Resolution::Done] {
        let mut world = world(Some(TEMPLATE));
        world.panel.install_takes = Duration::ZERO;
        until_task(&mut world);
        world.run_for(Duration::from_hours(6));
        // As often as anything may fail, and no more.
        assert_eq!((installs(&world), world.open_tasks().as_slice()), ((3, 3), [TaskType::FailedOperation].as_slice()));
        let details = &world.tasks[0].details;
        assert!(details.contains("InstallVanished") && details.contains("its form names the template, as it did before"), "{details}");
        world.panel.install_takes = Duration::from_mins(10);
        world.resolve(TaskType::FailedOperation, resolution);
        world.until_phase("web", "Active");
        let expected = if resolution == Resolution::Retry { 4 } else { 3 };
        assert_eq!((installs(&world), world.tasks.len()), ((expected, expected), 1), "{resolution:?}\n{}", world.describe());
        assert_installed(&world, TEMPLATE);
    }
}

#[test]
fn an_installation_that_a_version_before_has_begun_is_judged_as_it_would_have() {
    // What showed before was not recorded then.
    let forget = |world: &mut World| {
        let mut status = world.status("web").clone();
        let server = status.server.as_mut().unwrap();
        assert!(std::mem::take(&mut server.template_stood));
        put_back(world, status);
    };
    let mut world = world(Some(TEMPLATE));
    world.panel.install_takes = Duration::ZERO;
    until_asked(&mut world, 1);
    forget(&mut world);
    world.until_phase("web", "Active");
    world.run_for(seconds(90));
    reinstall(&mut world, "again");
    until_asked(&mut world, 2);
    forget(&mut world);
    world.until_phase("web", "Active");
    assert_eq!((installs(&world), world.tasks.len()), ((2, 2), 0), "{}", world.describe());
    assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("again"));
    assert_installed(&world, TEMPLATE);
}

#[test]
fn a_reinstallation_without_a_trace_is_left_to_a_department_whatever_the_spec_says_next() {
    for (template, resolution) in [(TEMPLATE, Resolution::Retry), (TEMPLATE, Resolution::Done), (UBUNTU, Resolution::Retry)] {
        let mut world = settled();
        world.always = Some(("install", Fault::Ignored));
        world.edit("web", |raw| (raw.spec.reinstall, raw.spec.operating_system.template) = ("again".into(), template.into()));
        until_task(&mut world);
        assert!(world.tasks[0].details.contains("InstallVanished"), "{}", world.tasks[0].details);
        world.run_for(Duration::from_hours(3));
        // Neither another value of another field nor the value that is put back is an answer: the data may be there still.
        world.edit("web", |raw| raw.spec.domain = "other.example.net".into());
        world.run_for(Duration::from_hours(3));
        reinstall(&mut world, "");
        world.run_for(Duration::from_hours(3));
        assert_eq!((installs(&world), world.open_tasks().len()), ((2, 1), 1), "{template} {resolution:?}\n{}", world.describe());
        let details = &world.tasks.last().unwrap().details;
        assert!(details.contains("it is not repeated by itself, since the server was handed over"), "{details}");
        world.always = None;
        if resolution == Resolution::Retry {
            // What nobody wants is not repeated by a department's word either.
            reinstall(&mut world, "again");
            world.run_for(Duration::from_hours(3));
        }
        world.resolve(TaskType::FailedOperation, resolution);
        world.until_phase("web", "Active");
        let expected = if resolution == Resolution::Retry { (3, 2) } else { (2, 1) };
        assert_eq!((installs(&world), world.open_tasks().len()), (expected, 0), "{template} {resolution:?}\n{}", world.describe());
        assert_installed(&world, template);
        world.assert_quiet();
    }
}

/// The panel did it, and nobody saw it: what the client has made of it since is not installed over.
#[test]
fn a_reinstallation_that_nobody_saw_is_made_once() {
    let mut world = settled();
    world.panel.install_takes = Duration::ZERO;
    reinstall(&mut world, "again");
    until_task(&mut world);
    world.run_for(Duration::from_hours(6));
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(6));
    assert_eq!((installs(&world), world.tasks.len()), ((2, 2), 1), "{}", world.describe());
    assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("again"));
    assert_installed(&world, TEMPLATE);
}

#[test]
fn an_installation_that_somebody_cancels_at_the_panel_is_made_again() {
    for before in [None, Some(UBUNTU)] {
        let mut world = world(before);
        until_state(&mut world, "Waiting");
        world.panel.server("1").operation = None;
        until_error(&mut world, "InstallCancelled");
        world.until_phase("web", "Active");
        assert_eq!((installs(&world), world.tasks.len()), ((2, 2), 0), "{before:?}\n{}", world.describe());
        assert_installed(&world, TEMPLATE);
        world.assert_quiet();
    }
}

#[test]
fn a_reinstallation_that_somebody_cancels_at_the_panel_is_left_to_a_department() {
    for resolution in [Resolution::Retry, Resolution::Done] {
        let mut world = settled();
        world.edit("web", |raw| (raw.spec.reinstall, raw.spec.operating_system.template) = ("again".into(), UBUNTU.into()));
        until_state(&mut world, "Waiting");
        world.panel.server("1").operation = None;
        until_task(&mut world);
        let details = world.tasks[0].details.clone();
        assert!(details.contains("InstallCancelled") && details.contains(&format!("names {TEMPLATE}, not {UBUNTU}")), "{details}");
        world.run_for(Duration::from_hours(6));
        assert_eq!((installs(&world), world.tasks.len()), ((2, 2), 1), "{resolution:?}\n{}", world.describe());
        if resolution == Resolution::Done {
            // A person has installed it.
            world.panel.server("1").template = Some(UBUNTU.into());
        }
        world.resolve(TaskType::FailedOperation, resolution);
        world.until_phase("web", "Active");
        let expected = if resolution == Resolution::Retry { (3, 3) } else { (2, 2) };
        assert_eq!((installs(&world), world.tasks.len()), (expected, 1), "{resolution:?}\n{}", world.describe());
        assert_installed(&world, UBUNTU);
    }
}

/// How often a cancellation was asked for.
fn cancels(world: &World) -> usize {
    world.asked.iter().filter(|(_, call)| call.name() == "cancelOperation").count()
}

/// The time of an installation is over, whatever becomes of its cancellation.
#[test]
fn a_cancellation_that_is_refused_is_asked_for_again_and_then_told() {
    for fault in [Fault::Refused, Fault::Unreachable] {
        let mut world = world(None);
        world.panel.installs_that_hang = 1;
        world.always = Some(("cancelOperation", fault));
        world.until("cancelled", Duration::from_hours(4), |w| cancels(w) > 0);
        world.until("cancelled again", Duration::from_mins(8), |w| cancels(w) > 1);
        if fault == Fault::Refused {
            until_task(&mut world);
            world.run_for(Duration::from_hours(6));
            assert_eq!((cancels(&world), world.open_tasks()), (3, vec![TaskType::FailedOperation]), "{}", world.describe());
            let details = &world.tasks[0].details;
            assert!(details.contains("InstallNotCancelled") && details.contains("cannot be cancelled"), "{details}");
            world.panel.server("1").operation = None;
            world.resolve(TaskType::FailedOperation, Resolution::Retry);
        }
        world.always = None;
        world.until_phase("web", "Active");
        assert_eq!((installs(&world).1, world.open_tasks().len()), (2, 0), "{fault:?}\n{}", world.describe());
        assert_installed(&world, TEMPLATE);
    }
}

/// Whoever is asked about it has mended what kept it from being cancelled.
#[test]
fn an_installation_that_hangs_is_cancelled_when_a_department_has_it_tried_again() {
    let mut world = world(None);
    world.panel.installs_that_hang = 1;
    world.always = Some(("cancelOperation", Fault::Refused));
    until_task(&mut world);
    let before = cancels(&world);
    world.always = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until("cancelled", Duration::from_mins(10), |w| cancels(w) > before);
    world.until_phase("web", "Active");
    assert_eq!((installs(&world).1, world.tasks.len()), (2, 1), "{}", world.describe());
    assert_installed(&world, TEMPLATE);
    world.assert_quiet();
}

/// What a department has had tried again hung before: that it did says nothing of the one that is made then.
#[test]
fn an_installation_that_is_made_after_one_that_hung_is_not_taken_for_that() {
    let mut world = world(Some(TEMPLATE));
    world.panel.installs_that_hang = 1;
    world.always = Some(("cancelOperation", Fault::Refused));
    until_task(&mut world);
    world.panel.server("1").operation = None;
    world.always = None;
    world.run_for(seconds(60));
    let before = installs(&world);
    world.faults.insert(world.asked.len(), Fault::CrashBefore);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
    assert_eq!(installs(&world), (before.0 + 2, before.1 + 1), "{}", world.describe());
    assert_installed(&world, TEMPLATE);
}

#[test]
fn an_installation_that_ends_after_its_cancellation_was_refused_is_not_made_again() {
    let mut world = world(None);
    world.panel.installs_that_hang = 1;
    world.always = Some(("cancelOperation", Fault::Refused));
    until_error(&mut world, "InstallNotCancelled");
    let now = world.now;
    if let Some(operation) = &mut world.panel.server("1").operation {
        operation.until = Some(now);
    }
    world.until_phase("web", "Active");
    assert_eq!((installs(&world), cancels(&world), world.tasks.len()), ((1, 1), 1, 0), "{}", world.describe());
    assert_installed(&world, TEMPLATE);
    world.assert_quiet();
}

/// How a panel's form may be otherwise.
type Form = fn(&mut Panel);

#[test]
fn an_installation_that_was_seen_costs_no_second_one_where_the_form_is_late_or_tells_nothing() {
    let forms: [(&str, Form); 3] = [
        ("it names the system a while after the end", |p| p.forms_name_after = seconds(90)),
        ("it has no place for the system", |p| p.forms_name_any = false),
        ("it names what was chosen", |p| p.forms_name_what_was_chosen = true),
    ];
    for (what, form) in forms {
        for before in [None, Some(UBUNTU), Some(TEMPLATE)] {
            let mut world = world(before);
            form(&mut world.panel);
            world.until_phase("web", "Active");
            assert_eq!((installs(&world), world.tasks.len()), ((1, 1), 0), "{what}, {before:?}\n{}", world.describe());
            assert_installed(&world, TEMPLATE);
            world.assert_quiet();
        }
    }
}

/// A panel may show that an operation failed until another one has succeeded.
#[test]
fn a_failure_from_before_is_not_that_of_an_installation_that_runs_or_is_to_show() {
    for shows in [0, 300] {
        let mut world = world(None);
        world.handler.max_attempts = 10;
        world.panel.failures_stay = true;
        world.panel.installs_show_after = seconds(shows);
        world.panel.installs_that_fail = 1;
        world.until_phase("web", "Active");
        assert_eq!((installs(&world), world.tasks.len()), ((2, 2), 0), "shows after {shows} s\n{}", world.describe());
        assert_installed(&world, TEMPLATE);
    }
}

#[test]
fn a_failure_from_before_is_not_that_of_the_next_recipe() {
    let mut panel = Panel::new(1, 4);
    (panel.failures_stay, panel.runs_that_fail) = (true, 1);
    let mut world = World::new(panel, handler(|h| h["dialect"] = json!({"runRecipe": {"func": "x"}})));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["recipes"] = json!(["a.sh", "b.sh", "c.sh"]);
        raw["spec"]["readyWhen"] = json!("OSInstalled");
    }));
    world.until_phase("web", "Active");
    assert_eq!(world.status("web").server.as_ref().unwrap().failed_recipes, ["b.sh"], "{}", world.describe());
    assert_eq!(world.panel.servers["1"].ran, ["a.sh", "b.sh", "c.sh"]);
    assert_installed(&world, TEMPLATE);
}

/// etcd is put back to a time before the hand-over; the client may have installed another system since, by himself.
#[test]
fn a_status_from_before_the_hand_over_learns_of_it_where_nothing_shows_the_installation() {
    for (state, there) in [("Running", TEMPLATE), ("Waiting", UBUNTU)] {
        let mut world = World::new(Panel::new(1, 4), handler(|h| h["retry"]["maxAttempts"] = json!(1)));
        world.add(order("web", "u-web", |_| ()));
        world.panel.server("1").template = Some(TEMPLATE.into());
        until_state(&mut world, state);
        let status = world.status("web").clone();
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        world.panel.server("1").template = Some(there.into());
        put_back(&mut world, status);
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(6));
        assert_eq!((installs(&world), world.tasks.len()), ((1, 1), 0), "{state}\n{}", world.describe());
        assert_installed(&world, there);
    }
}

/// The value of before is put back: nobody wants the installation any more, whatever a department says, and `Done` ends it.
#[test]
fn a_value_that_is_put_back_asks_for_no_installation() {
    let mut world = settled();
    reinstall(&mut world, "first");
    world.until("it is installed", Duration::from_hours(3), |w| w.status("web").last_handled_reinstall.as_deref() == Some("first"));
    world.until_phase("web", "Active");
    let before = installs(&world);
    world.always = Some(("install", Fault::Ignored));
    reinstall(&mut world, "second");
    until_task(&mut world);
    world.always = None;
    reinstall(&mut world, "first");
    world.run_for(Duration::from_hours(3));
    // Whoever is asked once more is told the same.
    let told = world.tasks.iter().filter(|t| t.details.contains("InstallVanished")).count();
    assert_eq!((told, world.tasks.len()), (2, 2), "{}", world.describe());
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(Duration::from_hours(3));
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(3));
    assert_eq!(
        (installs(&world).1, world.status("web").last_handled_reinstall.as_deref()),
        (before.1, Some("first")),
        "{}",
        world.describe()
    );
}

/// A second value of which nothing shows, after a first one that was served; and what a department is asked.
fn second_is_lost(template: &str) -> World {
    let mut world = settled();
    reinstall(&mut world, "first");
    world.until("it is installed", Duration::from_hours(3), |w| w.status("web").last_handled_reinstall.as_deref() == Some("first"));
    world.until_phase("web", "Active");
    world.always = Some(("install", Fault::Ignored));
    world.edit("web", |raw| (raw.spec.reinstall, raw.spec.operating_system.template) = ("second".into(), template.into()));
    until_task(&mut world);
    world.always = None;
    world
}

/// The panel refuses what a department wants repeated: whoever protects the server, or takes the wish back, until it is tried again is heard.
#[test]
fn a_repeated_installation_that_is_refused_is_not_made_where_it_is_protected_or_taken_back_since() {
    for protected in [true, false] {
        let mut world = second_is_lost(TEMPLATE);
        let (before, asked) = (installs(&world), world.asked.len());
        world.always = Some(("install", Fault::Refused));
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until("refused", Duration::from_hours(1), |w| w.asked[asked..].iter().any(|(_, call)| call.name() == "install"));
        world.edit("web", |raw| {
            if protected {
                raw.spec.deletion_protection = true;
            } else {
                raw.spec.reinstall = "first".into();
            }
        });
        world.always = None;
        world.run_for(Duration::from_hours(6));
        assert_eq!(installs(&world).1, before.1, "protected: {protected}\n{}", world.describe());
        // That the panel refused another one is not what a department is asked about.
        let unconfirmed = |w: &World| w.tasks.last().is_some_and(|t| t.details.contains("InstallUnconfirmed"));
        assert!(protected || unconfirmed(&world), "{}", world.describe());
    }
}

/// One edit names another value and protects the server; the value of before is named again, and the protection goes: nobody was heard.
#[test]
fn a_protection_is_no_departments_answer() {
    let mut world = second_is_lost(TEMPLATE);
    let before = installs(&world);
    world.edit("web", |raw| (raw.spec.reinstall, raw.spec.deletion_protection) = ("third".into(), true));
    world.run_for(Duration::from_hours(1));
    reinstall(&mut world, "second");
    world.run_for(Duration::from_hours(3));
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
    world.edit("web", |raw| raw.spec.deletion_protection = false);
    world.run_for(Duration::from_hours(3));
    assert_eq!((installs(&world).1, world.open_tasks().len()), (before.1, 1), "{}", world.describe());
}

/// The value of before is put back while the repeated installation runs: it is not made a third time.
#[test]
fn a_value_that_is_put_back_while_the_system_is_installed_installs_no_other() {
    let mut world = second_is_lost(TEMPLATE);
    let before = installs(&world);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until("it runs", Duration::from_hours(1), |w| w.panel.servers["1"].operation.as_ref().is_some_and(|o| o.shown));
    world.run_for(seconds(60));
    reinstall(&mut world, "first");
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(6));
    assert_eq!((installs(&world).1, world.open_tasks().len()), (before.1 + 1, 0), "{}", world.describe());
}

/// With the value another template is taken back: the system is the one that was there, and whoever says so is believed.
#[test]
fn a_reinstallation_that_is_taken_back_with_its_template_ends_with_what_was_there() {
    let mut world = second_is_lost(UBUNTU);
    let before = installs(&world);
    world.edit("web", |raw| (raw.spec.reinstall, raw.spec.operating_system.template) = ("first".into(), TEMPLATE.into()));
    world.run_for(Duration::from_hours(3));
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(6));
    assert_eq!((installs(&world).1, world.open_tasks().len()), (before.1, 0), "{}", world.describe());
    assert_eq!(world.status("web").server.as_ref().unwrap().template.as_deref(), Some(TEMPLATE));
    assert_installed(&world, TEMPLATE);
}
