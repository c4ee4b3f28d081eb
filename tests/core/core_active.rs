//! What befalls an Active order, as tables of scenarios: drift, changes of the spec, restarts.

use std::time::Duration;

use crate::support::look::{active, made, picture, stalled, until_reason};
use crate::support::panel::{Ipmi, Operation, TEMPLATE};
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_active, reach};
use crate::support::world::{Fault, World};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::order::{License, OrderStatus};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::facts::{HandlerState, Prepare};

#[test]
fn a_power_that_went_off_comes_back_on() {
    let mut world = active();
    let before = made(&world, "powerOn");
    world.panel.server("1").on = false;
    world.until("on", Duration::from_hours(1), |w| w.panel.servers["1"].on);
    world.until_phase("web", "Active");
    assert_eq!(made(&world, "powerOn"), before + 1);
    world.assert_quiet();
    // Many months later it is timed from this attempt, not from the first.
    world.run_for(Duration::from_hours(24));
    world.panel.power_takes = seconds(120);
    world.panel.server("1").on = false;
    world.until("on", Duration::from_hours(1), |w| w.panel.servers["1"].on);
    world.until_phase("web", "Active");
    assert_eq!((made(&world, "powerOn"), world.tasks.len()), (before + 2, 0));
    // Not while an operation runs, or the power cannot be asked.
    world.panel.server("1").ipmi = Ipmi::Error;
    world.panel.server("1").on = false;
    world.run_for(Duration::from_hours(1));
    assert_eq!((made(&world, "powerOn"), world.phase("web")), (before + 2, "Active"));
    let now = world.now;
    let server = world.panel.server("1");
    server.ipmi = Ipmi::Works;
    server.operation =
        Some(Operation { shows: now, shown: true, until: None, template: TEMPLATE.into(), fails: false, recipe_fails: false });
    world.run_for(Duration::from_hours(1));
    assert_eq!((made(&world, "powerOn"), world.phase("web")), (before + 2, "Active"));
}

#[test]
fn what_becomes_of_a_server_in_preparation_is_told_at_the_step_at_hand() {
    let mut world = World::simple(2, 4);
    world.missing = Some(Prepare::RootPassword);
    until_reason(&mut world, "SecretConflict");
    world.panel.server("1").gone = true;
    until_reason(&mut world, "ServerGone");
    let status = world.status("web");
    let failed: Vec<&str> = status.steps.iter().filter(|s| s.state == "Failed").map(|s| s.name.as_str()).collect();
    assert_eq!((failed, status.last_error.as_ref().unwrap().step.as_str()), (vec!["InstallOS"], "InstallOS"), "{}", world.describe());
}

#[test]
fn drift_that_needs_a_person_stalls_and_raises_one_task() {
    type Change = fn(&mut World);
    let rows: [(&str, Change, Change); 3] = [
        (
            "OwnerChanged",
            |w| w.panel.server("1").owner = Some(UserId("7".into())),
            |w| {
                w.panel.server("1").owner = w.panel.user("acme").map(|u| u.id.clone());
            },
        ),
        (
            "OwnerChanged",
            |w| w.panel.server("1").owner = None,
            |w| {
                w.panel.server("1").owner = w.panel.user("acme").map(|u| u.id.clone());
            },
        ),
        ("ServerGone", |w| w.panel.server("1").gone = true, |w| w.panel.server("1").gone = false),
    ];
    for (wanted, drift, cure) in rows {
        for answer in [None, Some(Resolution::Done), Some(Resolution::Cancelled)] {
            let mut world = active();
            drift(&mut world);
            let before = (picture(&world), world.asked.len());
            until_reason(&mut world, wanted);
            world.run_for(Duration::from_hours(1));
            assert!(stalled(&world), "{wanted}");
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{wanted}");
            // The panel is down for a while, and the operator starts again: it stays as it is.
            world.state = HandlerState::NotReady("down".into());
            world.run_for(seconds(1200));
            assert!(stalled(&world), "{wanted}: a panel that is down heals nothing");
            world.state = HandlerState::Ready;
            world.restart();
            world.step();
            assert!(stalled(&world), "{wanted}: one list after a start heals nothing\n{}", world.describe());
            world.run_for(seconds(1200));
            if let Some(resolution) = answer {
                let number = world.tasks.len();
                world.resolve(TaskType::FailedOperation, resolution);
                world.run_for(seconds(60));
                let read = world.status("web").manual_tasks.iter().filter(|t| t.state == resolution.as_str()).count();
                assert_eq!(read, number, "{wanted}: an answer is read at once");
                world.run_for(Duration::from_hours(2));
                let open = usize::from(resolution == Resolution::Done);
                assert_eq!(world.open_tasks().len(), open, "{wanted} {resolution:?}\n{}", world.describe());
            }
            assert_eq!((picture(&world), world.asked.len()), before, "{wanted}: nothing is touched");
            cure(&mut world);
            world.until_phase("web", "Active");
            assert!(world.status("web").manual_tasks.iter().all(|t| t.state != "Open"));
            // What the shell does with tasks that are not needed any more.
            world.tasks.clear();
            world.assert_quiet();
        }
    }
}

#[test]
fn a_read_that_fails_makes_a_server_that_drifted_neither_ready_nor_prepared() {
    let mut world = active();
    world.panel.server("1").owner = None;
    until_reason(&mut world, "OwnerChanged");
    // The next look at the panel fails; then its handler is not ready.
    world.read_faults.insert(world.reads);
    let reads = world.reads;
    world.until("looked again", Duration::from_hours(1), |w| w.reads > reads);
    assert!(stalled(&world), "a read that failed\n{}", world.describe());
    world.state = HandlerState::NotReady("down".into());
    world.run_for(seconds(1200));
    assert!(stalled(&world), "a panel that is down\n{}", world.describe());
}

#[test]
fn a_panel_that_is_down_leaves_an_active_order_as_it_is() {
    let mut world = active();
    let (writes, reads) = (world.writes, world.reads);
    world.state = HandlerState::NotReady("down".into());
    world.run_for(Duration::from_hours(1));
    world.state = HandlerState::Ready;
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.phase("web"), world.writes, world.reads), ("Active", writes, reads), "an idle order costs nothing");
}

#[test]
fn domain_and_addresses_are_acted_upon_at_once() {
    for kind in [Kind::Plain, Kind::DisableIpChange, Kind::ByPanel, Kind::NoParking] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        let installs = made(&world, "install");
        for (v4, v6, domain) in [(3, 2, "a.example.net"), (1, 1, "b.example.net"), (2, 0, "b.example.net"), (1, 0, "c.example.net")] {
            world.edit("web", |raw| {
                (raw.spec.addresses.ipv4, raw.spec.addresses.ipv6) = (v4, v6);
                raw.spec.domain = domain.into();
            });
            let generation = world.orders["web"].raw.metadata.generation;
            world.until("acted upon", Duration::from_hours(1), |w| {
                w.status("web").observed_generation == generation && w.phase("web") == "Active"
            });
            let rows = &world.panel.servers["1"].rows;
            let count = |v4: bool| rows.iter().filter(|r| r.address.is_ipv4() == v4).count();
            assert_eq!((count(true), count(false)), (usize::try_from(v4).unwrap(), usize::try_from(v6).unwrap()), "{kind:?}");
            assert!(rows.iter().all(|r| r.domain == domain), "{kind:?}\n{}", world.describe());
            let ours = world.panel.used.iter().filter(|u| u.note == "k8s:u-web");
            assert!(ours.clone().all(|u| u.domain == domain), "{kind:?}: an old name at IPmanager\n{}", world.describe());
            let in_use = world.panel.used.iter().filter(|u| u.group == "public").count();
            assert_eq!(in_use, rows.len() - usize::from(kind == Kind::DisableIpChange), "{kind:?}: addresses leak\n{}", world.describe());
        }
        assert_eq!(made(&world, "install"), installs);
        world.assert_quiet();
    }
}

#[test]
fn a_server_that_was_handed_over_is_not_installed_whatever_the_steps_say() {
    let mut world = active();
    for step in &mut world.orders.get_mut("web").unwrap().status.steps {
        if step.name == "InstallOS" {
            step.state = "Pending".into();
        }
    }
    world.until("a task", Duration::from_hours(12), |w| !w.tasks.is_empty());
    assert_eq!((made(&world, "install"), world.open_tasks().as_slice()), (1, [TaskType::FailedOperation].as_slice()));
}

#[test]
fn fixed_fields_stall_and_heal() {
    let mut world = active();
    world.edit("web", |raw| raw.spec.client.username = "other".into());
    until_reason(&mut world, "FixedFieldChanged");
    world.edit("web", |raw| raw.spec.client.username = "acme".into());
    world.until_phase("web", "Active");
    // Another template waits for the next reinstall.
    world.edit("web", |raw| raw.spec.operating_system.template = "ISPsystem__Ubuntu-24.04-x86_64".into());
    world.run_for(seconds(120));
    let said = find(&world.status("web").conditions, ConditionType::OSInstalled).map(|c| c.reason.clone());
    assert_eq!((said.as_deref(), world.phase("web"), made(&world, "install")), (Some("ReinstallPending"), "Active", 1));
}

/// Its status was lost, and its configuration changed before anybody looked for its server.
#[test]
fn a_server_that_is_found_again_is_not_written_down_as_one_of_another_type() {
    for deleted in [false, true] {
        let mut world = active();
        let before = picture(&world);
        let stored = world.orders.get_mut("web").unwrap();
        stored.status = OrderStatus { observed_generation: Some(-1), ..OrderStatus::default() };
        world.restart();
        world.edit("web", |raw| raw.spec.configuration.server_type = Some("E5-64G".into()));
        until_reason(&mut world, "FixedFieldChanged");
        world.run_for(Duration::from_hours(1));
        assert_eq!((picture(&world), world.status("web").server.is_none()), (before, true), "{}", world.describe());
        if deleted {
            world.delete("web");
            world.until_phase("web", "gone");
            world.assert_clean();
        } else {
            world.edit("web", |raw| raw.spec.configuration.server_type = Some("E3-16G".into()));
            world.until_phase("web", "Active");
            let server = world.status("web").server.clone().unwrap();
            assert_eq!((server.id.as_str(), server.configuration.as_str()), ("1", "E3-16G"));
        }
    }
}

#[test]
fn the_parking_address_of_another_server_is_never_given_back() {
    // The operator dies after it gave the old parking address back; by the time it is up another server has that address.
    let mut world = World::simple(3, 4);
    let given = "10.0.0.1".parse().unwrap();
    world.faults.insert(5, Fault::CrashAfter);
    world.until("given back", Duration::from_hours(1), |w| w.asked.len() == 6);
    assert!(!world.panel.used.iter().any(|u| u.address == given));
    world.panel.free.get_mut("parking").unwrap().retain(|a| *a != given);
    let server = world.panel.server("3");
    (server.main, server.rows[0].address) = (given, given);
    let used = world.panel.used.iter_mut().find(|u| u.address.to_string() == "10.0.0.3").unwrap();
    used.address = given;
    world.until_phase("web", "Active");
    assert!(world.panel.used.iter().any(|u| u.address == given), "{}", world.describe());
}

#[test]
fn an_active_order_survives_what_the_statuses_before_it_said() {
    // A long life: many tasks, all remembered within bounds.
    let mut world = active();
    for round in 0..20 {
        world.panel.server("1").owner = Some(UserId("7".into()));
        until_reason(&mut world, "OwnerChanged");
        world.run_for(seconds(60));
        world.tasks.iter_mut().for_each(|t| t.note = "ж\"\n".repeat(1300));
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        world.run_for(seconds(400));
        world.panel.server("1").owner = world.panel.user("acme").map(|u| u.id.clone());
        world.until_phase("web", "Active");
        assert!(world.tasks.len() == round + 1, "{round}\n{}", world.describe());
    }
    let mut names: Vec<_> = world.tasks.iter().map(|t| t.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 20, "a name is never used twice");
    assert_active(&world, Kind::Plain);
}

#[test]
fn what_is_not_allowed_is_told_while_the_panel_is_down() {
    let mut world = active();
    world.state = HandlerState::NotReady("down".into());
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    until_reason(&mut world, "DeletionPolicyForbidden");
    assert!(stalled(&world), "{}", world.describe());
    // And no longer when the handler allows it.
    world.handler.deletion_policies.insert(DeletionPolicy::Orphan);
    world.force("web");
    world.run_for(seconds(120));
    assert!(!stalled(&world), "{}", world.describe());
}

/// A step that is taken once more is no preparation: a client's server that is gone is a department's business.
#[test]
fn a_clients_server_that_is_gone_is_asked_about_while_something_else_is_waited_for() {
    let mut world = Kind::Licensed.world();
    world.until_phase("web", "Active");
    world.panel.licenses.state = HandlerState::NotReady("down".into());
    world.edit("web", |raw| raw.spec.licenses.truncate(1));
    world.run_for(seconds(300));
    world.panel.server("1").gone = true;
    world.until("a task", Duration::from_hours(2), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert!(stalled(&world), "{}", world.describe());
    // Back again: what was asked is no question any more, though the order still waits for something else.
    world.panel.server("1").gone = false;
    world.run_for(Duration::from_hours(1));
    assert!(world.status("web").manual_tasks.iter().all(|t| t.state != "Open"), "{}", world.describe());
}

/// What the spec says that is not allowed takes the place of what was told of the server; the department that was asked about that is not
/// asked about the spec.
#[test]
fn a_server_that_drifted_is_nobodys_task_when_it_and_the_spec_are_put_right() {
    type Change = fn(&mut World);
    let rows: [(&str, Change, Change); 2] = [
        (
            "DeletionPolicyForbidden",
            |w| w.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan),
            |w| w.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Release),
        ),
        (
            "UnknownProduct",
            |w| w.edit("web", |raw| raw.spec.licenses.push(License { product: "Nope".into(), period: 1 })),
            |w| w.edit("web", |raw| raw.spec.licenses.truncate(2)),
        ),
    ];
    for (wanted, change, back) in rows {
        let mut world = Kind::Licensed.world();
        world.until_phase("web", "Active");
        world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
        world.run_for(seconds(90));
        world.panel.server("1").owner = Some(UserId("7".into()));
        until_reason(&mut world, "OwnerChanged");
        world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
        change(&mut world);
        until_reason(&mut world, wanted);
        // Nothing has changed at the panel: it is told again when the spec is in order.
        back(&mut world);
        until_reason(&mut world, "OwnerChanged");
        world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
        change(&mut world);
        until_reason(&mut world, wanted);
        world.panel.server("1").owner = world.panel.user("acme").map(|u| u.id.clone());
        back(&mut world);
        world.until_phase("web", "Active");
        assert!(world.open_tasks().is_empty(), "{wanted}\n{}", world.describe());
        assert!(world.tasks.iter().all(|t| t.by_operator), "{wanted}: nobody was needed\n{}", world.describe());
    }
}
