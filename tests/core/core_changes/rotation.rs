//! A password that was rotated in its Secret is set at the panel once, whatever goes wrong, and the Secret is read seldom.

use std::time::Duration;

use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::rotation::version;
use serde_json::json;

use super::{reinstall, suspend, until_settled};
use crate::support::panel::{Ipmi, Operation, Panel};
use crate::support::sweep::FAULTS;
use crate::support::world::{Fault, World, handler, order};
use crate::support::{later, seconds};

fn rotating() -> World {
    let handler = handler(|spec| spec["dialect"] = json!({"setPassword": {"func": "x", "params": {"p": "{password}"}}}));
    let mut world = World::new(Panel::new(3, 6), handler);
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": "s", "key": "password"});
    }));
    world.until_phase("web", "Active");
    world
}

#[test]
fn a_rotated_password_is_set_once_and_looked_for_seldom() {
    let mut world = rotating();
    world.run_for(Duration::from_hours(2));
    assert_eq!(
        (world.panel.servers["1"].passwords, world.status("web").server.as_ref().unwrap().password_version.as_deref()),
        (0, Some(version("k", "1").as_str()))
    );
    let reads = world.passwords_read;
    assert!((12..=25).contains(&reads), "{reads} reads in two hours");
    world.password = version("k", "2");
    world.until("set", Duration::from_mins(15), |w| w.panel.servers["1"].passwords == 1);
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].passwords, world.phase("web")), (1, "Active"));
    // A Secret that is gone changes nothing.
    world.password = String::new();
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].passwords, world.phase("web")), (1, "Active"));
    // A reinstallation gives the password of the day: it is not set again.
    world.password = version("k", "3");
    reinstall(&mut world, "again");
    until_settled(&mut world);
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].passwords, world.panel.servers["1"].installs), (1, 2));
    // Never while the service is suspended.
    suspend(&mut world, true);
    until_settled(&mut world);
    let reads = world.passwords_read;
    world.password = version("k", "4");
    world.run_for(Duration::from_hours(2));
    assert_eq!((world.passwords_read, world.panel.servers["1"].passwords), (reads, 1));
    suspend(&mut world, false);
    world.until("set", Duration::from_hours(1), |w| w.panel.servers["1"].passwords == 2);
}

/// What an earlier release has recorded, and what was made with a key that is lost, tells nothing: no password is set for it.
#[test]
fn a_version_of_another_form_or_key_is_replaced_and_nothing_is_set() {
    for known in ["3b0d3a57-6b0f-4c43-93cf-4a9a8f2f7a10/88123".to_owned(), version("lost", "1")] {
        let mut world = rotating();
        let stored = world.orders.get_mut("web").unwrap();
        stored.status.server.as_mut().unwrap().password_version = Some(known.clone());
        stored.version += 1;
        world.password = version("k", "7");
        let recorded = |w: &World| w.status("web").server.as_ref().unwrap().password_version.clone();
        world.until("recorded", Duration::from_mins(15), |w| recorded(w) == Some(version("k", "7")));
        world.run_for(Duration::from_hours(1));
        assert_eq!((world.panel.servers["1"].passwords, world.phase("web")), (0, "Active"), "{known}");
        world.password = version("k", "8");
        world.until("set", Duration::from_mins(15), |w| w.panel.servers["1"].passwords == 1);
        world.run_for(Duration::from_hours(1));
        assert_eq!((recorded(&world), world.panel.servers["1"].passwords), (Some(version("k", "8")), 1), "{known}");
    }
}

#[test]
fn nobody_reads_a_secret_where_the_panel_cannot_set_a_password() {
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": "s", "key": "password"});
    }));
    world.until_phase("web", "Active");
    world.password = version("k", "2");
    world.run_for(Duration::from_hours(3));
    assert_eq!((world.passwords_read, world.panel.servers["1"].passwords), (0, 0));
    world.assert_quiet();
}

#[test]
fn a_rotation_survives_faults() {
    for fault in FAULTS {
        let mut world = rotating();
        world.faults.insert(world.asked.len(), fault);
        world.password = version("k", "2");
        world.until("set", Duration::from_hours(2), |w| {
            w.status("web").server.as_ref().is_some_and(|s| s.password_version == Some(version("k", "2")))
        });
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        let set = world.panel.servers["1"].passwords;
        assert!(set == 1 || (set == 0 && fault == Fault::Ignored) || (set == 2 && !matches!(fault, Fault::Refused | Fault::Unreachable)));
        assert!(world.tasks.is_empty(), "{fault:?}");
    }
}

/// Nobody knows whether the new password was set: the old one is set again, though it is what was on record before.
#[test]
fn a_password_that_is_put_back_before_it_is_known_what_was_set_is_set_again() {
    let recorded = |w: &World| w.status("web").server.as_ref().unwrap().password_version.clone();
    for fault in [Fault::LostApplied, Fault::LostNot, Fault::CrashBefore, Fault::CrashAfter] {
        let mut world = rotating();
        world.faults.insert(world.asked.len(), fault);
        let asked = world.asked.len();
        world.password = version("k", "2");
        world.until("asked for", Duration::from_mins(15), |w| w.asked.len() > asked);
        assert_ne!(recorded(&world), Some(version("k", "1")), "{fault:?}: it may be another by now");
        world.password = version("k", "1");
        world.until("set again", Duration::from_mins(30), |w| recorded(w) == Some(version("k", "1")));
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        let versions: Vec<String> = world.asked[asked..].iter().map(|(_, call)| version_of(call)).collect();
        assert_eq!(versions, [version("k", "2"), version("k", "1")], "{fault:?}");
        assert!(world.tasks.is_empty(), "{fault:?}");
    }
}

fn version_of(call: &Call) -> String {
    match call {
        Call::SetPassword { version, .. } => version.clone(),
        other => panic!("{other:?}"),
    }
}

/// The step may go while the answer is missing: the client takes the Secret out of the order, or the provider the call out of the dialect.
#[test]
fn a_rotation_that_is_dropped_leaves_nobody_to_believe_that_nothing_was_set() {
    let mut world = rotating();
    let asked = world.asked.len();
    world.faults.insert(asked, Fault::LostApplied);
    world.password = version("k", "2");
    world.until("asked for", Duration::from_mins(15), |w| w.asked.len() > asked);
    world.handler.sets_password = false;
    world.force("web");
    until_settled(&mut world);
    world.run_for(Duration::from_mins(10));
    assert!(world.status("web").in_flight.is_none() && world.phase("web") == "Active", "{}", world.describe());
    world.password = version("k", "1");
    world.handler.sets_password = true;
    world.force("web");
    world.until("set again", Duration::from_mins(30), |w| w.asked.len() == asked + 2);
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.asked.len(), version_of(&world.asked[asked + 1].1)), (asked + 2, version("k", "1")));
    // Nor does a Secret that is gone for a while.
    world.faults.insert(asked + 2, Fault::LostApplied);
    world.password = version("k", "2");
    world.until("asked for", Duration::from_mins(15), |w| w.asked.len() > asked + 2);
    world.password = String::new();
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.asked.len(), world.phase("web")), (asked + 3, "Active"));
    world.password = version("k", "1");
    world.until("set again", Duration::from_mins(30), |w| w.asked.len() == asked + 4);
}

/// Nothing at the panel shows which password a system has.
#[test]
fn a_department_that_says_that_it_set_the_password_is_believed() {
    let mut world = rotating();
    world.always = Some(("setPassword", Fault::Refused));
    world.password = version("k", "2");
    world.until("a task", Duration::from_hours(2), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert!(world.tasks[0].details.contains("is taken at your word"), "{}", world.tasks[0].details);
    let asked = world.asked.len();
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    world.run_for(Duration::from_hours(1));
    let recorded = world.status("web").server.as_ref().unwrap().password_version.clone();
    assert_eq!((recorded, world.asked.len(), world.tasks.len()), (Some(version("k", "2")), asked, 1), "{}", world.describe());
    // The next one is the operator's again.
    world.always = None;
    world.password = version("k", "3");
    world.until("set", Duration::from_mins(15), |w| w.panel.servers["1"].passwords == 1);
}

/// A change of what it was for is heard while a department is asked, and when it has given it up.
#[test]
fn a_rotation_that_failed_hears_what_the_spec_says_next() {
    type Change = fn(&mut World);
    // (what, the change, passwords set and installations made)
    let changes: [(&str, Change, (usize, usize)); 3] = [
        ("no Secret", |w| w.edit("web", |raw| raw.spec.operating_system.password_secret_ref = None), (0, 1)),
        (
            "another Secret",
            |w| {
                w.always = None;
                w.edit("web", |raw| {
                    raw.spec.operating_system.password_secret_ref.iter_mut().for_each(|secret| secret.name = "better".into());
                });
            },
            (1, 1),
        ),
        ("a reinstallation", |w| reinstall(w, "again"), (0, 2)),
    ];
    for (what, change, expected) in changes {
        for cancelled in [false, true] {
            let mut world = rotating();
            world.always = Some(("setPassword", Fault::Refused));
            world.password = version("k", "2");
            world.until("a task", Duration::from_hours(2), |w| w.open_tasks() == [TaskType::FailedOperation]);
            if cancelled {
                world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
                world.until("given up", Duration::from_hours(1), |w| w.phase("web") == "Failed");
            }
            change(&mut world);
            until_settled(&mut world);
            world.run_for(Duration::from_hours(1));
            let server = &world.panel.servers["1"];
            assert_eq!((server.passwords, server.installs), expected, "{what} {cancelled}\n{}", world.describe());
            assert_eq!((world.phase("web"), world.open_tasks().len()), ("Active", 0), "{what} {cancelled}\n{}", world.describe());
        }
    }
    // Nor is it anybody's business where the handler has the call no more.
    let mut world = rotating();
    world.always = Some(("setPassword", Fault::Refused));
    world.password = version("k", "2");
    world.until("a task", Duration::from_hours(2), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.handler.sets_password = false;
    world.force("web");
    world.until_phase("web", "Active");
    assert_eq!((world.panel.servers["1"].passwords, world.open_tasks().len()), (0, 0), "{}", world.describe());
}

/// Closing knows of a call that may still land by the record of its step.
#[test]
fn a_rotation_that_was_dropped_has_its_time_before_the_release() {
    let mut world = rotating();
    let asked = world.asked.len();
    world.faults.insert(asked, Fault::LostLate(seconds(110)));
    world.password = version("k", "2");
    world.until("asked for", Duration::from_mins(15), |w| w.asked.len() > asked);
    world.edit("web", |raw| raw.spec.operating_system.password_secret_ref = None);
    until_settled(&mut world);
    world.delete("web");
    world.until_phase("web", "gone");
    let at = |name: &str| world.panel.journal.iter().position(|call| call.name() == name);
    assert!(at("setPassword").is_some() && at("setPassword") < at("release"), "{}", world.describe());
}

/// A Secret that is changed in the course of the installation: the system was given the one before.
#[test]
fn a_password_that_is_rotated_during_the_installation_is_set_after_it() {
    let mut world = rotating();
    reinstall(&mut world, "again");
    world.until("installing", seconds(600), |w| w.panel.servers["1"].operation.is_some());
    let recorded = world.status("web").server.as_ref().unwrap().password_version.clone();
    assert_eq!(recorded, Some(version("k", "1")), "what the installation gives");
    world.password = version("k", "2");
    until_settled(&mut world);
    world.run_for(Duration::from_hours(1));
    assert_eq!(world.panel.servers["1"].passwords, 1, "{}", world.describe());
}

#[test]
fn nothing_is_on_record_of_a_password_that_is_not_the_clients() {
    let mut world = World::simple(1, 4);
    world.until_phase("web", "Active");
    assert_eq!(world.status("web").server.as_ref().unwrap().password_version, None);
}

#[test]
fn no_password_is_set_on_a_system_that_is_off_or_at_work() {
    for off in [false, true] {
        let mut world = rotating();
        let now = world.now;
        let server = world.panel.server("1");
        if off {
            (server.on, server.ipmi) = (false, Ipmi::Error);
        } else {
            let until = Some(later(now, Duration::from_hours(1)));
            let template = server.template.clone().unwrap();
            server.operation = Some(Operation { shows: now, shown: true, until, template, fails: false, recipe_fails: false });
        }
        world.run_for(seconds(120));
        world.password = version("k", "2");
        world.run_for(Duration::from_mins(50));
        assert!(world.asked.iter().all(|(_, call)| call.name() != "setPassword"), "off {off}: {}", world.describe());
        let server = world.panel.server("1");
        (server.on, server.ipmi) = (true, Ipmi::Works);
        world.until("set", Duration::from_hours(1), |w| w.panel.servers["1"].passwords == 1);
    }
}
