//! Opening, as tables of scenarios: what is asked of the panels, in which order, and where an order ends up.

use std::time::Duration;

use crate::support::look::{reason, until_reason};
use crate::support::panel::{ADMIN, Ipmi, Panel, TEMPLATE};
use crate::support::seconds;
use crate::support::sweep::{KINDS, Kind, assert_active, reach};
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{Level, PanelUser};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::{HandlerState, Prepare};
use serde_json::json;

fn names(world: &World) -> Vec<&'static str> {
    world.panel.journal.iter().map(Call::name).collect()
}

#[test]
fn opening_makes_each_change_once_and_in_order() {
    use Kind::*;
    let plain =
        ["createUser", "claim", "powerOn", "takeAddress", "replaceMainAddress", "giveBackAddress", "install", "handOver"].as_slice();
    let rows: [(Kind, &[&str]); 7] = [
        (Plain, plain),
        (CreateTask, plain),
        (
            Several,
            &[
                "createUser",
                "claim",
                "powerOn",
                "takeAddress",
                "takeAddress",
                "takeAddress",
                "replaceMainAddress",
                "addAddress",
                "addAddress",
                "giveBackAddress",
                "install",
                "handOver",
            ],
        ),
        (
            DisableIpChange,
            &[
                "createUser",
                "claim",
                "powerOn",
                "takeAddress",
                "takeAddress",
                "addAddress",
                "addAddress",
                "setDomain",
                "install",
                "handOver",
            ],
        ),
        (ByPanel, &["createUser", "claim", "powerOn", "replaceMainAddress", "install", "handOver"]),
        (ByPanelSeveral, &["createUser", "claim", "powerOn", "replaceMainAddress", "addAddress", "addAddress", "install", "handOver"]),
        (NoParking, &["createUser", "claim", "powerOn", "takeAddress", "replaceMainAddress", "install", "handOver"]),
    ];
    for (kind, expected) in rows {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        assert_eq!(names(&world), expected, "{kind:?}");
        assert_active(&world, kind);
        world.assert_quiet();
    }
}

#[test]
fn closing_makes_each_change_once_and_in_order() {
    use Kind::*;
    let rows: [(Kind, &[&str]); 6] = [
        (Plain, &["powerOff", "takeAddress", "replaceMainAddress", "giveBackAddress", "setAddressNote", "release"]),
        (
            Several,
            &[
                "powerOff",
                "removeAddress",
                "removeAddress",
                "giveBackAddress",
                "giveBackAddress",
                "takeAddress",
                "replaceMainAddress",
                "giveBackAddress",
                "setAddressNote",
                "release",
            ],
        ),
        (DisableIpChange, &["powerOff", "removeAddress", "removeAddress", "giveBackAddress", "giveBackAddress", "setDomain", "release"]),
        // The parking address gets the name of a free server with the call.
        (ByPanel, &["powerOff", "replaceMainAddress", "release"]),
        (NoParking, &["powerOff", "setAddressNote", "setDomain", "release"]),
        (Disabled, &["enable", "powerOff", "takeAddress", "replaceMainAddress", "giveBackAddress", "setAddressNote", "release"]),
    ];
    for (kind, expected) in rows {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        let before = world.panel.journal.len();
        world.delete("web");
        reach(&mut world, "gone", kind);
        assert_eq!(&names(&world)[before..], expected, "{kind:?}");
        crate::support::sweep::assert_released(&world, kind);
    }
}

#[test]
fn what_is_there_already_is_not_asked_for() {
    // (what, how the panel is prepared, calls that must not be made, calls that must)
    type Prepared = fn(&mut Panel);
    let rows: [(&str, Prepared, &[&str], &[&str]); 3] = [
        ("the power is on", |p| p.server("1").on = true, &["powerOn", "enable"], &["claim"]),
        (
            "the client exists",
            |p| p.users.push(PanelUser { id: "9".into(), name: "acme".into(), level: Level::User }),
            &["createUser"],
            &["claim"],
        ),
        // The main address is of the public group already, and nobody's.
        (
            "a public main address",
            |p| {
                p.used.iter_mut().filter(|u| u.address.to_string() == "10.0.0.1").for_each(|u| u.group = "public".into());
            },
            &["takeAddress", "replaceMainAddress"],
            &["setAddressNote", "setDomain"],
        ),
    ];
    for (what, prepare, never, once) in rows {
        let mut world = World::simple(1, 4);
        prepare(&mut world.panel);
        world.until_phase("web", "Active");
        let made = names(&world);
        assert!(never.iter().all(|n| !made.contains(n)) && once.iter().all(|n| made.contains(n)), "{what}: {made:?}");
        world.assert_quiet();
    }
}

#[test]
fn a_disabled_server_is_enabled_before_it_is_switched_on() {
    let mut world = World::simple(1, 4);
    // Disabled by a person right after the claim: a free one that is disabled is never taken.
    world.until("claimed", seconds(300), |w| w.orders["web"].status.server.is_some());
    world.panel.server("1").disabled = true;
    world.panel.server("1").on = false;
    world.panel.server("1").power = None;
    world.until_phase("web", "Active");
    let made = names(&world);
    let at = |name| made.iter().rposition(|n| *n == name);
    assert!(at("enable").is_some() && at("enable") < at("powerOn"), "{made:?}");
}

#[test]
fn orders_that_cannot_go_on_say_why_and_touch_nothing() {
    type Spoil = fn(&mut World);
    // (reason, what is wrong, calls that were made all the same, the cure)
    let rows: [(&str, Spoil, &[&str], Spoil); 6] = [
        (
            "UnknownTemplate",
            |w| w.panel.templates = Some(vec!["other".into()]),
            &["createUser"],
            |w| {
                w.panel.templates = Some(vec![TEMPLATE.into()]);
            },
        ),
        (
            "ClientIsAdministrator",
            |w| w.panel.users.push(PanelUser { id: "9".into(), name: "ACME".into(), level: Level::Administrator }),
            &[],
            |w| w.panel.users.retain(|u| u.name == ADMIN),
        ),
        ("ClientNameTaken", |w| w.missing = Some(Prepare::ClientName), &[], |w| w.missing = None),
        ("SecretConflict", |w| w.missing = Some(Prepare::PanelPassword), &[], |w| w.missing = None),
        (
            "WaitingForCapacity",
            // Whether there is a place for it or not: without a server it needs none.
            |w| (w.panel.servers.values_mut().for_each(|s| s.kind = "other".into()), w.slot = false).1,
            &[],
            |w| (w.panel.server("2").kind = "E3-16G".into(), w.slot = true).1,
        ),
        ("LimitReached", |w| w.slot = false, &[], |w| w.slot = true),
    ];
    for (wanted, spoil, made, cure) in rows {
        let mut world = World::simple(2, 4);
        spoil(&mut world);
        until_reason(&mut world, wanted);
        world.run_for(Duration::from_hours(2));
        assert_eq!((reason(world.status("web")), names(&world).as_slice()), (wanted, made));
        cure(&mut world);
        world.until_phase("web", "Active");
    }
}

#[test]
fn a_template_that_goes_after_the_claim_stalls_and_comes_back() {
    let mut world = World::simple(1, 4);
    world.until("claimed", seconds(300), |w| w.orders["web"].status.server.is_some());
    let told = |world: &World| find(&world.status("web").conditions, ConditionType::Stalled).unwrap().message.clone();
    world.panel.templates = Some(vec![]);
    until_reason(&mut world, "UnknownTemplate");
    assert!(told(&world).ends_with("it offers: nothing"), "{}", told(&world));
    world.panel.templates = Some((0..100).map(|n| format!("T-{n}")).collect());
    world.force("web");
    world.until("told what there is", Duration::from_hours(1), |w| told(w).contains("it offers: T-0, T-1, "));
    assert!(told(&world).ends_with(", …"), "{}", told(&world));
    assert!(world.panel.servers["1"].installs == 0);
    world.panel.templates = None;
    world.until_phase("web", "Active");
}

#[test]
fn a_root_password_that_cannot_be_made_stalls_and_goes_on() {
    let mut world = World::simple(1, 4);
    world.missing = Some(Prepare::RootPassword);
    // The order names no Secret: none is missing, one is in the way.
    until_reason(&mut world, "SecretConflict");
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (0, 0));
    world.missing = None;
    world.until_phase("web", "Active");
}

#[test]
fn an_order_whose_secret_is_not_there_takes_nothing() {
    let mut world = World::new(Panel::new(1, 4), handler(|_| ()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": "given", "key": "password"});
    }));
    world.missing = Some(Prepare::RootPassword);
    until_reason(&mut world, "CredentialsMissing");
    world.run_for(Duration::from_hours(1));
    assert_eq!(world.asked.iter().map(|(_, c)| c.name()).collect::<Vec<_>>(), ["createUser"]);
    let status = world.status("web");
    assert!(status.server.is_none() && status.in_flight.is_none() && status.attempts == 0);
    assert_eq!((world.phase("web"), world.tasks.len()), ("Allocating", 0));
    world.missing = None;
    world.until_phase("web", "Active");
    // One that goes after the claim is waited for as before.
    let mut world = World::new(Panel::new(1, 4), handler(|_| ()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": "given", "key": "password"});
    }));
    world.until("claimed", seconds(300), |w| w.orders["web"].status.server.is_some());
    world.missing = Some(Prepare::RootPassword);
    until_reason(&mut world, "CredentialsMissing");
    assert_eq!(world.panel.servers["1"].installs, 0);
    world.missing = None;
    world.until_phase("web", "Active");
}

#[test]
fn two_orders_never_share_a_server() {
    let mut world = World::simple(1, 4);
    world.add(order("api", "u-api", |raw| raw["spec"]["client"]["username"] = json!("other")));
    world.until("one is Active", Duration::from_hours(2), |w| w.phase("web") == "Active" || w.phase("api") == "Active");
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.phase("api"), world.phase("web")), ("Active", "Pending"));
    world.delete("api");
    world.until_phase("web", "Active");
    let two = World::simple(2, 4);
    let mut world = two;
    world.add(order("api", "u-api", |_| ()));
    world.until("both", Duration::from_hours(2), |w| w.phase("web") == "Active" && w.phase("api") == "Active");
}

#[test]
fn a_server_that_a_person_takes_is_left_alone() {
    // Between the list and the look at the form; the list still shows it free.
    let mut world = World::simple(2, 4);
    world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world.step();
    let mut world2 = World::simple(2, 4);
    world2.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world2.taken_after_list = Some("1".into());
    world2.until_phase("web", "Active");
    assert_eq!(world2.status("web").server.as_ref().map(|s| s.id.as_str()), Some("2"));
    // Between the look and the claim: the edit reads the form itself and refuses.
    let mut world3 = World::simple(2, 4);
    world3.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world3.taken_before_claim = Some("1".into());
    world3.until_phase("web", "Active");
    assert_eq!(world3.status("web").server.as_ref().map(|s| s.id.as_str()), Some("2"));
    for world in [world2, world3] {
        let server = &world.panel.servers["1"];
        assert!(server.owner.as_ref().is_some_and(|o| o.0 == "7") && server.notes.is_empty() && server.installs == 0);
    }
}

#[test]
fn a_marker_that_is_cut_short_is_taken_away_again() {
    for fault in
        [None, Some(Fault::Refused), Some(Fault::LostApplied), Some(Fault::LostNot), Some(Fault::CrashBefore), Some(Fault::CrashAfter)]
    {
        let mut world = World::simple(1, 4);
        world.panel.notes_max = 20;
        // The third call undoes the claim.
        world.faults.extend(fault.map(|f| (2, f)));
        until_reason(&mut world, "MarkerTruncated");
        assert!(world.panel.servers["1"].owner.is_none() && world.panel.servers["1"].notes.is_empty(), "{fault:?}");
        let asked = world.asked.len();
        world.run_for(Duration::from_hours(1));
        assert_eq!(world.asked.len(), asked, "{fault:?}: nothing is tried again by itself");
        world.panel.notes_max = usize::MAX;
        world.force("web");
        world.until_phase("web", "Active");
    }
    // Deleted while the rest of the marker cannot be taken away: it is not forgotten.
    let mut world = World::simple(1, 4);
    world.panel.notes_max = 20;
    world.faults.insert(2, Fault::Refused);
    world.delete_after_call = Some(2);
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn half_a_marker_is_not_forgotten_when_every_answer_is_lost() {
    for deleted in [false, true] {
        let mut world = World::simple(1, 4);
        world.panel.notes_max = 20;
        world.faults.extend((2..6).map(|call| (call, Fault::LostNot)));
        world.until("a task", Duration::from_hours(12), |w| !w.tasks.is_empty());
        assert!(!world.panel.servers["1"].notes.is_empty());
        if deleted {
            world.delete("web");
            world.until_phase("web", "gone");
            world.assert_clean();
        } else {
            let asked = world.asked.len();
            world.resolve(TaskType::FailedOperation, Resolution::Retry);
            until_reason(&mut world, "MarkerTruncated");
            assert!(world.asked.len() > asked && world.panel.servers["1"].owner.is_none(), "{}", world.describe());
        }
    }
}

#[test]
fn a_note_that_is_cut_short_is_given_back() {
    let mut world = World::simple(1, 4);
    world.panel.note_max = 5;
    until_reason(&mut world, "MarkerTruncated");
    assert_eq!(world.panel.used.len(), 1, "{}", world.describe());
    world.panel.note_max = usize::MAX;
    world.force("web");
    world.until_phase("web", "Active");
    assert_active(&world, Kind::Plain);
}

#[test]
fn an_empty_pool_is_waited_for() {
    let mut world = World::simple(1, 0);
    until_reason(&mut world, "WaitingForCapacity");
    assert_eq!(world.status("web").waiting_on.as_ref().map(|w| w.kind.as_str()), Some("Capacity"));
    world.run_for(Duration::from_hours(3));
    assert!(world.tasks.is_empty());
    world.panel.free.insert("public".into(), vec!["203.0.113.77".parse().unwrap()]);
    world.until_phase("web", "Active");
}

#[test]
fn an_installation_that_fails_is_repeated_and_then_looked_after_by_a_department() {
    let mut world = World::simple(1, 4);
    world.panel.installs_that_fail = 2;
    world.until_phase("web", "Active");
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (3, 0));

    for resolution in [Resolution::Retry, Resolution::Done, Resolution::Cancelled] {
        let mut world = World::simple(1, 4);
        world.panel.installs_that_fail = 3;
        world.until("a task", Duration::from_hours(12), |w| !w.tasks.is_empty());
        world.run_for(Duration::from_hours(6));
        assert_eq!((world.panel.servers["1"].installs, world.open_tasks().as_slice()), (3, [TaskType::FailedOperation].as_slice()));
        assert_eq!(world.phase("web"), "AwaitingTask");
        // Deleted by hand while it is needed: it comes back, under its name.
        let name = world.tasks.pop().unwrap().name;
        world.run_for(seconds(120));
        assert_eq!(world.tasks.last().map(|t| t.name.clone()), Some(name));
        if resolution == Resolution::Done {
            // A person has installed it.
            world.panel.server("1").failed = false;
            world.panel.server("1").template = Some(TEMPLATE.into());
        }
        world.resolve(TaskType::FailedOperation, resolution);
        if resolution == Resolution::Cancelled {
            until_reason(&mut world, "TaskCancelled");
            world.run_for(Duration::from_hours(6));
            assert_eq!((world.panel.servers["1"].installs, world.tasks.len(), world.phase("web")), (3, 1, "Failed"));
            continue;
        }
        world.until_phase("web", "Active");
        let expected = if resolution == Resolution::Done { 3 } else { 4 };
        assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (expected, 1), "{resolution:?}");
        world.assert_quiet();
    }
}

#[test]
fn attempts_are_spaced_and_counted() {
    let mut world = World::simple(1, 4);
    world.panel.installs_that_fail = 9;
    until_reason(&mut world, "Retrying");
    let status = world.status("web");
    assert_eq!((status.attempts, status.last_error.as_ref().map(|e| e.code.as_str())), (1, Some("InstallFailed")));
    let wait = status.next_retry_time.unwrap().0.duration_since(world.now).as_secs();
    assert!((260..=331).contains(&wait), "{wait}");
    world.force("web");
    world.step();
    assert_eq!(world.panel.servers["1"].installs, 2, "somebody asked for an attempt now");
}

#[test]
fn an_installation_that_shows_late_is_not_started_twice() {
    // Around the time after which the flag is missed, while the failure is waited out, and between two looks.
    for (shows, takes) in [(100, 600), (119, 600), (121, 600), (150, 600), (300, 600), (400, 200)] {
        let mut world = World::simple(1, 4);
        world.panel.installs_show_after = seconds(shows);
        world.panel.install_takes = seconds(takes);
        world.until_phase("web", "Active");
        assert_eq!(world.panel.servers["1"].installs, 1, "shows after {shows} s, takes {takes} s");
    }
}

#[test]
fn an_installation_that_hangs_is_cancelled() {
    let mut world = World::simple(1, 4);
    world.panel.installs_that_hang = 1;
    world.until_phase("web", "Active");
    let installs = world.panel.journal.iter().filter(|c| matches!(c, Call::Install { .. })).count();
    let cancels = world.panel.journal.iter().filter(|c| matches!(c, Call::CancelOperation { .. })).count();
    assert_eq!((installs, cancels), (2, 1));
    for (call, fault) in [(7, Fault::LostApplied), (7, Fault::LostNot), (7, Fault::LostLate(seconds(100))), (7, Fault::CrashAfter)] {
        let mut world = World::simple(1, 4);
        world.panel.installs_that_hang = 1;
        world.faults.insert(call, fault);
        reach(&mut world, "Active", Kind::Plain);
        assert_eq!(world.panel.servers["1"].template.as_deref(), Some(TEMPLATE));
    }
}

#[test]
fn power_that_does_not_come_is_an_ordinary_failure_in_opening() {
    for (ipmi, policy) in [(Ipmi::Refuses, "Ignore"), (Ipmi::Dead, "Ignore"), (Ipmi::Error, "Ignore"), (Ipmi::Refuses, "CreateTask")] {
        let mut world = World::new(Panel::new(1, 4), handler(|h| h["ipmiErrorPolicy"] = json!(policy)));
        world.add(order("web", "u-web", |_| ()));
        world.panel.server("1").ipmi = ipmi;
        world.until("a task", Duration::from_hours(12), |w| !w.tasks.is_empty());
        assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{ipmi:?}");
        world.panel.server("1").ipmi = Ipmi::Works;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", "Active");
    }
}

#[test]
fn a_handler_that_is_not_ready_or_suspended_is_waited_for() {
    for at in 0..12 {
        for state in [HandlerState::NotReady("the panel is down".into()), HandlerState::Suspended] {
            let mut world = World::simple(1, 4);
            for _ in 0..at {
                world.step();
            }
            world.state = state.clone();
            let asked = world.asked.len();
            world.run_for(Duration::from_hours(1));
            assert_eq!(world.asked.len(), asked, "{state:?}");
            assert!(world.tasks.is_empty() && world.phase("web") != "Failed");
            world.state = HandlerState::Ready;
            world.until_phase("web", "Active");
            assert_active(&world, Kind::Plain);
        }
    }
    assert!(KINDS.len() >= 8);
}

#[test]
fn answers_that_are_lost_for_ever_become_a_task() {
    let mut world = World::simple(1, 4);
    for call in 3..500 {
        world.faults.insert(call, Fault::LostNot);
    }
    world.until("a task", seconds(48 * 3600), |w| !w.open_tasks().is_empty());
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation]);
    world.faults.clear();
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
}
