//! A changed token installs the server once, with what the spec says then; failed, lost or refused, it is never installed in secret.

use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find, is_true};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;

use super::{assert_suspended, made, reinstall, settled, since, suspend, until_reason, until_settled};
use crate::support::panel::TEMPLATE;
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_active};
use crate::support::world::{Fault, World};

const UBUNTU: &str = "ISPsystem__Ubuntu-24.04-x86_64";

fn installed_reason(world: &World) -> &str {
    find(&world.status("web").conditions, ConditionType::OSInstalled).map_or("", |c| c.reason.as_str())
}

#[test]
fn a_token_installs_once_with_what_the_spec_says_now() {
    let mut world = settled();
    world.edit("web", |raw| {
        raw.spec.operating_system.template = UBUNTU.into();
        raw.spec.recipes = vec!["ISPsystem__nginx.sh".into()];
    });
    world.run_for(seconds(300));
    assert_eq!((installed_reason(&world), made(&world, "install")), ("ReinstallPending", 1));
    let (owner, address) = (world.panel.servers["1"].owner.clone(), world.panel.servers["1"].main);
    for (round, token) in ["a", "b", "a"].into_iter().enumerate() {
        let at = world.asked.len();
        reinstall(&mut world, token);
        world.until("installing", seconds(600), |w| w.panel.servers["1"].operation.is_some());
        assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some(token), "acted upon");
        assert_ne!(world.phase("web"), "Active");
        until_settled(&mut world);
        assert_eq!((since(&world, at), world.panel.servers["1"].installs), (vec!["install"], round + 2));
        assert_eq!(world.panel.servers["1"].template.as_deref(), Some(UBUNTU));
        let bound = world.status("web").server.clone().unwrap();
        assert_eq!((bound.template.as_deref(), bound.recipes.len(), bound.reinstall), (Some(UBUNTU), 1, None));
        assert_eq!(installed_reason(&world), "Done");
        world.assert_quiet();
    }
    assert_eq!((world.panel.servers["1"].owner.clone(), world.panel.servers["1"].main), (owner, address));
    assert!(matches!(world.asked.last(), Some((_, Call::Install { recipe: Some(_), hostname, .. })) if hostname == "web.example.net"));
    // No value is no wish, and the value before it is known.
    let at = world.asked.len();
    for token in ["", "a", ""] {
        reinstall(&mut world, token);
        world.run_for(seconds(300));
    }
    assert_eq!(since(&world, at), [] as [&str; 0]);
}

#[test]
fn a_token_that_changes_in_preparation_costs_no_second_installation() {
    let mut world = Kind::Plain.world();
    reinstall(&mut world, "first sight");
    world.until("claimed", seconds(600), |w| w.asked.len() == 3);
    reinstall(&mut world, "before the installation");
    until_settled(&mut world);
    assert_eq!((made(&world, "install"), world.status("web").last_handled_reinstall.as_deref()), (1, Some("before the installation")));
    world.assert_quiet();
}

#[test]
fn a_protection_refuses_a_reinstallation_until_it_is_lifted_or_the_token_put_back() {
    let mut world = settled();
    let steps = |w: &World| w.status("web").steps.iter().map(|s| (s.name.clone(), s.state.clone())).collect::<Vec<_>>();
    let before = steps(&world);
    world.edit("web", |raw| (raw.spec.deletion_protection, raw.spec.reinstall) = (true, "again".into()));
    until_reason(&mut world, "ReinstallProtected");
    assert!(is_true(&world.status("web").conditions, ConditionType::Stalled));
    assert_eq!(installed_reason(&world), "ReinstallProtected");
    // The server is looked after all the same.
    world.panel.server("1").on = false;
    world.until("on", Duration::from_hours(1), |w| w.panel.servers["1"].on);
    until_reason(&mut world, "ReinstallProtected");
    world.run_for(Duration::from_hours(2));
    assert_eq!(made(&world, "install"), 1);
    reinstall(&mut world, "");
    until_settled(&mut world);
    assert_eq!((made(&world, "install"), world.tasks.len()), (1, 0));
    reinstall(&mut world, "again");
    until_reason(&mut world, "ReinstallProtected");
    world.edit("web", |raw| raw.spec.deletion_protection = false);
    until_settled(&mut world);
    assert_eq!(made(&world, "install"), 2);
    assert_active(&world, Kind::Plain);
    // Protected while the panel refuses it: nothing has begun, so that it is refused again.
    world.always = Some(("install", Fault::Refused));
    reinstall(&mut world, "third");
    world.until("refused", seconds(600), |w| w.asked.iter().filter(|(_, c)| c.name() == "install").count() == 3);
    world.edit("web", |raw| raw.spec.deletion_protection = true);
    until_reason(&mut world, "ReinstallProtected");
    world.always = None;
    world.run_for(Duration::from_hours(2));
    assert_eq!(made(&world, "install"), 2);
    reinstall(&mut world, "again");
    until_settled(&mut world);
    assert_eq!(steps(&world), before, "as if it had never been asked for");
    assert_active(&world, Kind::Plain);
    world.assert_quiet();
}

#[test]
fn a_suspended_server_is_installed_when_it_is_resumed() {
    let mut world = settled();
    suspend(&mut world, true);
    until_settled(&mut world);
    reinstall(&mut world, "again");
    world.run_for(Duration::from_hours(1));
    assert_suspended(&world);
    let message = find(&world.status("web").conditions, ConditionType::OSInstalled).unwrap().message.clone();
    assert!(installed_reason(&world) == "ReinstallPending" && message.contains("suspended"), "{message}");
    let at = world.asked.len();
    suspend(&mut world, false);
    until_settled(&mut world);
    assert_eq!(since(&world, at), ["enable", "powerOn", "install"]);
    world.assert_quiet();
}

#[test]
fn a_reinstallation_that_failed_is_carried_through() {
    let mut world = settled();
    world.panel.installs_that_fail = 1;
    reinstall(&mut world, "again");
    world.until("failed", seconds(600), |w| w.panel.servers["1"].failed);
    // The data are gone: the value that is put back does not bring them back.
    reinstall(&mut world, "");
    until_settled(&mut world);
    assert_eq!(world.panel.servers["1"].installs, 3, "{}", world.describe());
    assert_active(&world, Kind::Plain);
    // Failed for good: one task; another value and another template then are one installation.
    world.panel.installs_that_fail = 3;
    reinstall(&mut world, "third");
    world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (6, 1));
    world.edit("web", |raw| (raw.spec.reinstall, raw.spec.operating_system.template) = ("fourth".into(), UBUNTU.into()));
    until_settled(&mut world);
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].installs, world.panel.servers["1"].template.as_deref()), (7, Some(UBUNTU)));
    assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("fourth"));
}

#[test]
fn a_lost_reinstallation_is_followed_where_it_shows_and_never_repeated_where_it_does_not() {
    for (fault, shows) in [(Fault::LostApplied, true), (Fault::CrashAfter, true), (Fault::LostNot, false), (Fault::CrashBefore, false)] {
        for answer in [Resolution::Retry, Resolution::Done] {
            let mut world = settled();
            world.always = None;
            world.faults.insert(world.asked.len(), fault);
            reinstall(&mut world, "again");
            if shows {
                until_settled(&mut world);
                assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (2, 0), "{fault:?}");
                continue;
            }
            world.until("a task", Duration::from_hours(1), |w| !w.open_tasks().is_empty());
            world.run_for(Duration::from_hours(2));
            assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (1, 1), "{fault:?}");
            // Another change of the spec is no answer.
            world.edit("web", |raw| raw.spec.domain = "a.example.net".into());
            world.run_for(Duration::from_hours(1));
            assert_eq!((world.panel.servers["1"].installs, world.open_tasks().len()), (1, 1), "{fault:?}\n{}", world.describe());
            world.edit("web", |raw| raw.spec.domain = "web.example.net".into());
            world.run_for(Duration::from_hours(1));
            assert_eq!(world.panel.servers["1"].installs, 1);
            world.resolve(TaskType::FailedOperation, answer);
            until_settled(&mut world);
            let installs = 1 + usize::from(answer == Resolution::Retry);
            assert_eq!(world.panel.servers["1"].installs, installs, "{fault:?} {answer:?}\n{}", world.describe());
            assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("again"));
            world.assert_quiet();
        }
    }
}

/// One that still runs is cancelled again, and made again. Of one that does not run any more nothing tells whether it was cancelled or had
/// ended by itself: a department looks.
#[test]
fn a_reinstallation_whose_cancellation_has_no_answer_is_cancelled_again_or_told() {
    for (fault, cancelled) in [(Fault::LostApplied, true), (Fault::CrashAfter, true), (Fault::LostNot, false), (Fault::CrashBefore, false)]
    {
        let mut world = settled();
        let at = world.asked.len();
        world.panel.installs_that_hang = 1;
        world.faults.insert(at + 1, fault);
        reinstall(&mut world, "again");
        if cancelled {
            world.until("a task", Duration::from_hours(4), |w| !w.open_tasks().is_empty());
            assert!(world.tasks[0].details.contains("the answer to its cancellation was lost"), "{}", world.tasks[0].details);
            world.run_for(Duration::from_hours(6));
            assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (2, 1), "{fault:?}\n{}", world.describe());
            world.resolve(TaskType::FailedOperation, Resolution::Retry);
        }
        until_settled(&mut world);
        let calls = since(&world, at);
        assert_eq!((calls[0], calls[1], calls.last()), ("install", "cancelOperation", Some(&"install")), "{fault:?}");
        let tasks = usize::from(cancelled);
        assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (3, tasks), "{fault:?}\n{}", world.describe());
        assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("again"), "{fault:?}");
        assert_active(&world, Kind::Plain);
        world.assert_quiet();
    }
}

/// It was slow, and the client is at work on it by the time that it is known not to run any more.
#[test]
fn a_reinstallation_that_ended_by_itself_is_not_made_again_where_its_cancellation_has_no_answer() {
    for (fault, template) in
        [(Fault::LostNot, TEMPLATE), (Fault::CrashBefore, TEMPLATE), (Fault::LostNot, UBUNTU), (Fault::CrashBefore, UBUNTU)]
    {
        let mut world = settled();
        let at = world.asked.len();
        world.panel.installs_that_hang = 1;
        world.faults.insert(at + 1, fault);
        world.edit("web", |raw| (raw.spec.reinstall, raw.spec.operating_system.template) = ("again".into(), template.into()));
        world.until("cancelled", Duration::from_hours(4), |w| w.asked[at..].iter().any(|(_, call)| call.name() == "cancelOperation"));
        let now = world.now;
        if let Some(operation) = &mut world.panel.server("1").operation {
            operation.until = Some(now);
        }
        if template == UBUNTU {
            // The form names it, and did not before.
            until_settled(&mut world);
        } else {
            world.until("a task", Duration::from_hours(4), |w| !w.open_tasks().is_empty());
            assert!(world.tasks[0].details.contains("InstallCancelled"), "{}", world.tasks[0].details);
            world.edit("web", |raw| raw.spec.deletion_protection = true);
        }
        world.run_for(Duration::from_hours(6));
        let tasks = usize::from(template == TEMPLATE);
        let made = (world.panel.servers["1"].installs, world.tasks.len(), world.open_tasks().len());
        assert_eq!(made, (2, tasks, tasks), "{fault:?} {template}\n{}", world.describe());
        assert_eq!(world.panel.servers["1"].template.as_deref(), Some(template), "{fault:?}");
    }
}

/// The data may be there still: a department's word repeats nothing that is protected by then, or that nobody wants any more.
#[test]
fn a_lost_reinstallation_is_not_repeated_where_it_is_protected_or_withdrawn_since() {
    for protected in [true, false] {
        let mut world = settled();
        world.faults.insert(world.asked.len(), Fault::LostNot);
        reinstall(&mut world, "again");
        world.until("a task", Duration::from_hours(1), |w| !w.open_tasks().is_empty());
        world.edit("web", |raw| {
            if protected {
                raw.spec.deletion_protection = true;
            } else {
                raw.spec.reinstall = String::new();
            }
        });
        world.run_for(Duration::from_mins(10));
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.run_for(Duration::from_hours(3));
        assert_eq!(world.panel.servers["1"].installs, 1, "protected: {protected}\n{}", world.describe());
        if protected {
            let told = find(&world.status("web").conditions, ConditionType::Stalled).map(|c| c.reason.clone());
            assert_eq!(told.as_deref(), Some("ReinstallProtected"), "{}", world.describe());
            world.restart();
            world.run_for(Duration::from_hours(3));
            assert!(world.open_tasks().is_empty(), "it was answered\n{}", world.describe());
            world.edit("web", |raw| raw.spec.deletion_protection = false);
            until_settled(&mut world);
            assert_eq!(world.panel.servers["1"].installs, 2, "{}", world.describe());
        } else {
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            until_settled(&mut world);
            assert_eq!(world.panel.servers["1"].installs, 1, "{}", world.describe());
        }
    }
}
