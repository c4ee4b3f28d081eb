//! Changes of an Active order: suspended and resumed, reinstalled, given a rotated password. Each costs exactly the calls it needs,
//! waits its turn, and survives every fault at each of them.

#[path = "core_support/mod.rs"]
mod support;

use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find, is_true};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::UserId;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::json;
use support::panel::{Ipmi, TEMPLATE};
use support::seconds;
use support::sweep::{Kind, assert_active, assert_released, reach, try_all};
use support::world::{Fault, World, WriteFault, handler, order};

const UBUNTU: &str = "ISPsystem__Ubuntu-24.04-x86_64";

fn active() -> World {
    let mut world = Kind::Plain.world();
    reach(&mut world, "Active", Kind::Plain);
    world.run_for(seconds(90));
    world
}

fn reason(world: &World) -> &str {
    find(&world.status("web").conditions, ConditionType::Ready).map_or("", |c| c.reason.as_str())
}

fn installed_reason(world: &World) -> &str {
    find(&world.status("web").conditions, ConditionType::OSInstalled).map_or("", |c| c.reason.as_str())
}

fn until_reason(world: &mut World, wanted: &str) {
    world.until(wanted, Duration::from_hours(12), |w| reason(w) == wanted);
}

/// The names of the calls since a point, in order.
fn since(world: &World, at: usize) -> Vec<&'static str> {
    world.asked[at..].iter().map(|(_, call)| call.name()).collect()
}

fn suspend(world: &mut World, suspended: bool) {
    world.edit("web", |raw| raw.spec.suspended = suspended);
}

fn reinstall(world: &mut World, token: &str) {
    world.edit("web", |raw| raw.spec.reinstall = token.into());
}

fn made(world: &World, name: &str) -> usize {
    world.panel.journal.iter().filter(|c| c.name() == name).count()
}

/// The order is at rest with what its spec says now.
fn until_settled(world: &mut World) {
    let generation = world.orders["web"].raw.metadata.generation;
    world.until("settled", Duration::from_hours(12), |w| {
        w.status("web").observed_generation == generation && matches!(w.phase("web"), "Active" | "Suspended")
    });
}

fn assert_suspended(world: &World) {
    let server = &world.panel.servers["1"];
    assert!(server.disabled && !server.port && !server.on, "{}", world.describe());
    assert_eq!((world.phase("web"), reason(world)), ("Suspended", "Suspended"), "{}", world.describe());
    assert!(is_true(&world.status("web").conditions, ConditionType::Suspended));
    assert_eq!(server.owner, world.panel.user("acme").map(|u| u.id.clone()), "the client's all the same");
}

#[test]
fn a_service_is_suspended_and_resumed_call_by_call() {
    for (show, follow) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut world = active();
        (world.panel.ports_show, world.panel.ports_follow) = (show, follow);
        let at = world.asked.len();
        suspend(&mut world, true);
        world.until("on its way", seconds(600), |w| reason(w) == "Suspending" || reason(w) == "WaitingForPanel");
        until_settled(&mut world);
        assert_suspended(&world);
        // A port that the panel shows as switched by the block itself is not switched again.
        let explicit = !(show && follow);
        let expected: &[&str] = if explicit { &["disable", "connectionOff", "powerOff"] } else { &["disable", "powerOff"] };
        assert_eq!(since(&world, at), expected, "show {show}, follow {follow}");
        world.assert_quiet();
        let at = world.asked.len();
        suspend(&mut world, false);
        until_settled(&mut world);
        assert_active(&world, Kind::Plain);
        assert!(find(&world.status("web").conditions, ConditionType::Suspended).is_none());
        let expected: &[&str] = if explicit { &["enable", "connectionOn", "powerOn"] } else { &["enable", "powerOn"] };
        assert_eq!(since(&world, at), expected, "show {show}, follow {follow}");
        world.assert_quiet();
        // Once more: what was done before does not stand in the way.
        let at = world.asked.len();
        suspend(&mut world, true);
        until_settled(&mut world);
        assert_suspended(&world);
        assert_eq!(since(&world, at).len(), 2 + usize::from(explicit));
    }
}

#[test]
fn an_order_that_is_created_suspended_is_prepared_handed_over_and_then_suspended() {
    let mut world = World::new(support::panel::Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["suspended"] = json!(true)));
    until_settled(&mut world);
    assert_suspended(&world);
    assert!(world.status("web").server.as_ref().unwrap().handed_over_at.is_some());
    let calls = since(&world, 0);
    assert_eq!(calls[calls.len() - 3..], ["handOver", "disable", "powerOff"]);
    world.assert_quiet();
    suspend(&mut world, false);
    until_settled(&mut world);
    assert_active(&world, Kind::Plain);
}

#[test]
fn what_changes_back_before_it_was_acted_upon_costs_nothing() {
    let mut world = active();
    let (at, writes) = (world.asked.len(), world.panel.journal.len());
    let changes: [fn(&mut World, bool); 4] = [
        suspend,
        |w, on| reinstall(w, if on { "again" } else { "" }),
        |w, on| w.edit("web", |raw| raw.spec.domain = if on { "a.example.net" } else { "web.example.net" }.into()),
        |w, on| w.edit("web", |raw| raw.spec.addresses.ipv4 = if on { 3 } else { 1 }),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for state in [HandlerState::Suspended, HandlerState::NotReady("down".into())] {
            // Nothing can be changed at the panel while the spec says so.
            world.state = state.clone();
            change(&mut world, true);
            world.run_for(seconds(900));
            assert_ne!(world.phase("web"), "Active", "{number} {state:?}: it is not as the spec says");
            change(&mut world, false);
            world.run_for(seconds(300));
            world.state = HandlerState::Ready;
            until_settled(&mut world);
            world.run_for(seconds(300));
            assert_eq!(since(&world, at), [] as [&str; 0], "{number} {state:?}\n{}", world.describe());
            assert_eq!(world.panel.journal.len(), writes);
            assert_active(&world, Kind::Plain);
        }
    }
    world.assert_quiet();
}

#[test]
fn a_suspension_that_ends_half_way_is_undone() {
    let mut total = active();
    let at = total.asked.len();
    suspend(&mut total, true);
    until_settled(&mut total);
    for calls in 1..=total.asked.len() - at {
        let mut world = active();
        suspend(&mut world, true);
        world.until("half way", seconds(600), |w| w.asked.len() == at + calls);
        suspend(&mut world, false);
        until_settled(&mut world);
        assert_active(&world, Kind::Plain);
        world.assert_quiet();
        suspend(&mut world, true);
        world.until("half way", seconds(600), |w| w.asked.len() > at + calls);
        suspend(&mut world, false);
        world.step();
        suspend(&mut world, true);
        until_settled(&mut world);
        world.run_for(seconds(300));
        assert_suspended(&world);
    }
}

#[test]
fn drift_of_a_suspended_service_is_corrected_once_and_never_over_other_work() {
    let mut world = active();
    suspend(&mut world, true);
    until_settled(&mut world);
    world.run_for(seconds(120));
    let at = world.asked.len();
    world.panel.server("1").on = true;
    world.until("off", seconds(600), |w| !w.panel.servers["1"].on);
    until_settled(&mut world);
    assert_eq!(since(&world, at), ["powerOff"]);
    world.assert_quiet();
    let at = world.asked.len();
    let server = world.panel.server("1");
    (server.disabled, server.port, server.on) = (false, true, true);
    world.until("suspended again", seconds(600), |w| !w.panel.servers["1"].on);
    until_settled(&mut world);
    assert_suspended(&world);
    assert_eq!(since(&world, at), ["disable", "powerOff"]);
    world.assert_quiet();
    let at = world.asked.len();
    let now = world.now;
    let operation =
        |until| support::panel::Operation { shows: now, shown: true, until, template: TEMPLATE.into(), fails: false, recipe_fails: false };
    world.panel.server("1").operation = Some(operation(Some(support::later(now, Duration::from_hours(1)))));
    world.panel.server("1").on = true;
    world.run_for(Duration::from_mins(50));
    assert_eq!(since(&world, at), [] as [&str; 0], "an installation is never cut short");
    world.until("off", Duration::from_hours(1), |w| !w.panel.servers["1"].on);
    until_settled(&mut world);
    // A power that cannot be asked is left alone.
    let at = world.asked.len();
    (world.panel.server("1").on, world.panel.server("1").ipmi) = (true, Ipmi::Error);
    world.run_for(Duration::from_hours(1));
    assert_eq!(since(&world, at), [] as [&str; 0]);
    // Somebody else's server is told, and not touched.
    world.panel.server("1").ipmi = Ipmi::Works;
    world.panel.server("1").owner = Some(UserId("7".into()));
    until_reason(&mut world, "OwnerChanged");
    assert_eq!(since(&world, at), [] as [&str; 0]);
    assert!(is_true(&world.status("web").conditions, ConditionType::Suspended), "it still is");
}

#[test]
fn a_dead_ipmi_leaves_the_network_off_and_becomes_a_task() {
    for ipmi in [Ipmi::Refuses, Ipmi::Error, Ipmi::Dead] {
        for kind in [Kind::Plain, Kind::CreateTask] {
            let mut world = kind.world();
            reach(&mut world, "Active", kind);
            world.panel.server("1").ipmi = ipmi;
            suspend(&mut world, true);
            world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
            assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{ipmi:?}");
            let server = &world.panel.servers["1"];
            assert!(server.disabled && !server.port && server.on, "{ipmi:?}\n{}", world.describe());
            // Resumed: the department need not look any more.
            if kind == Kind::CreateTask {
                suspend(&mut world, false);
                until_settled(&mut world);
                assert!(world.status("web").manual_tasks.iter().all(|t| t.state == "Superseded"), "{}", world.describe());
                assert!(world.panel.servers["1"].port && !world.panel.servers["1"].disabled);
                continue;
            }
            world.run_for(Duration::from_hours(1));
            world.panel.server("1").ipmi = Ipmi::Works;
            world.panel.server("1").on = false;
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            until_settled(&mut world);
            assert_suspended(&world);
        }
    }
}

#[test]
fn a_server_that_cannot_be_switched_on_can_be_suspended() {
    let mut world = active();
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.panel.server("1").on = false;
    world.until("a task", Duration::from_hours(12), |w| !w.open_tasks().is_empty());
    suspend(&mut world, true);
    until_settled(&mut world);
    assert_suspended(&world);
    assert!(world.status("web").manual_tasks.iter().all(|t| t.state != "Open"));
}

#[test]
fn a_suspended_order_is_deleted_after_it_was_enabled() {
    for kind in [Kind::Plain, Kind::Several, Kind::CreateTask, Kind::ByPanel] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        suspend(&mut world, true);
        until_settled(&mut world);
        let at = world.asked.len();
        world.delete("web");
        reach(&mut world, "gone", kind);
        let calls = since(&world, at);
        assert_eq!((calls[0], made(&world, "enable")), ("enable", 1), "{calls:?}");
        assert!(!world.panel.servers["1"].disabled, "the next client's server is not blocked");
        assert_released(&world, kind);
    }
}

#[test]
fn a_change_waits_its_turn() {
    // While the system is being installed again everything else waits; while the service is being suspended, too.
    let mut world = active();
    reinstall(&mut world, "again");
    world.until("installing", seconds(600), |w| w.panel.servers["1"].operation.is_some());
    let at = world.asked.len();
    world.edit("web", |raw| {
        raw.spec.suspended = true;
        raw.spec.domain = "a.example.net".into();
        raw.spec.addresses.ipv4 = 2;
    });
    world.until("installed", seconds(600), |w| {
        let over = w.panel.servers["1"].operation.is_none();
        assert!(over || w.asked.len() == at, "{}", w.describe());
        over
    });
    until_settled(&mut world);
    assert_suspended(&world);
    let calls = since(&world, at);
    assert_eq!(calls, ["takeAddress", "addAddress", "setDomain", "disable", "powerOff"]);
    let at = world.asked.len();
    suspend(&mut world, false);
    world.until("enabled", seconds(600), |w| w.asked.len() > at);
    world.edit("web", |raw| (raw.spec.domain, raw.spec.reinstall) = ("b.example.net".into(), "third".into()));
    until_settled(&mut world);
    assert_eq!(since(&world, at), ["enable", "powerOn", "setDomain", "setDomain", "install"]);
    world.assert_quiet();
}

#[test]
fn a_token_installs_once_with_what_the_spec_says_now() {
    let mut world = active();
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
    let mut world = active();
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
    assert_active(&world, Kind::Plain);
    world.assert_quiet();
}

#[test]
fn a_suspended_server_is_installed_when_it_is_resumed() {
    let mut world = active();
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
    let mut world = active();
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
            let mut world = active();
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

fn rotating() -> World {
    let handler = handler(|spec| spec["dialect"] = json!({"setPassword": {"func": "x", "params": {"p": "{password}"}}}));
    let mut world = World::new(support::panel::Panel::new(3, 6), handler);
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
        (0, Some("s/1"))
    );
    let reads = world.passwords_read;
    assert!((12..=25).contains(&reads), "{reads} reads in two hours");
    world.password = "s/2".into();
    world.until("set", Duration::from_mins(15), |w| w.panel.servers["1"].passwords == 1);
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].passwords, world.phase("web")), (1, "Active"));
    // A Secret that is gone changes nothing; one that comes back is another version.
    world.password = String::new();
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].passwords, world.phase("web")), (1, "Active"));
    // A reinstallation gives the password of the day: it is not set again.
    world.password = "s/3".into();
    reinstall(&mut world, "again");
    until_settled(&mut world);
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.panel.servers["1"].passwords, world.panel.servers["1"].installs), (1, 2));
    // Never while the service is suspended.
    suspend(&mut world, true);
    until_settled(&mut world);
    let reads = world.passwords_read;
    world.password = "s/4".into();
    world.run_for(Duration::from_hours(2));
    assert_eq!((world.passwords_read, world.panel.servers["1"].passwords), (reads, 1));
    suspend(&mut world, false);
    world.until("set", Duration::from_hours(1), |w| w.panel.servers["1"].passwords == 2);
}

#[test]
fn nobody_reads_a_secret_where_the_panel_cannot_set_a_password() {
    let mut world = World::new(support::panel::Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": "s", "key": "password"});
    }));
    world.until_phase("web", "Active");
    world.password = "s/2".into();
    world.run_for(Duration::from_hours(3));
    assert_eq!((world.passwords_read, world.panel.servers["1"].passwords), (0, 0));
    world.assert_quiet();
}

#[test]
fn a_rotation_survives_faults() {
    for fault in FAULTS {
        let mut world = rotating();
        world.faults.insert(world.asked.len(), fault);
        world.password = "s/2".into();
        world.until("set", Duration::from_hours(2), |w| {
            w.status("web").server.as_ref().is_some_and(|s| s.password_version.as_deref() == Some("s/2"))
        });
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        let set = world.panel.servers["1"].passwords;
        assert!(set == 1 || (set == 0 && fault == Fault::Ignored) || (set == 2 && !matches!(fault, Fault::Refused | Fault::Unreachable)));
        assert!(world.tasks.is_empty(), "{fault:?}");
    }
}

const FAULTS: [Fault; 14] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::CrashLate(Duration::from_secs(20)),
    Fault::CrashLate(Duration::from_secs(110)),
    Fault::CrashLate(Duration::from_secs(200)),
    Fault::LostLate(Duration::from_secs(200)),
    Fault::LostApplied,
    Fault::LostNot,
    Fault::LostLate(Duration::from_secs(20)),
    Fault::LostLate(Duration::from_secs(110)),
    Fault::Refused,
    Fault::Unreachable,
    Fault::Ignored,
    Fault::Touched,
];

/// How the panel shows and switches ports: it does both, or neither.
const PORTS: [bool; 2] = [true, false];

fn fresh(ports: bool) -> World {
    let mut world = active();
    (world.panel.ports_show, world.panel.ports_follow) = (ports, ports);
    world
}

/// Suspended, resumed, installed again, suspended and deleted.
fn live(world: &mut World) {
    suspend(world, true);
    reach(world, "Suspended", Kind::Plain);
    world.run_for(seconds(300));
    reach(world, "Suspended", Kind::Plain);
    assert_suspended(world);
    suspend(world, false);
    reach(world, "Active", Kind::Plain);
    world.run_for(seconds(300));
    reach(world, "Active", Kind::Plain);
    assert_active(world, Kind::Plain);
    reinstall(world, "again");
    world.run_for(seconds(10));
    reach(world, "Active", Kind::Plain);
    assert_eq!(world.status("web").last_handled_reinstall.as_deref(), Some("again"), "{}", world.describe());
    world.run_for(seconds(300));
    assert_active(world, Kind::Plain);
    suspend(world, true);
    reach(world, "Suspended", Kind::Plain);
    world.delete("web");
    reach(world, "gone", Kind::Plain);
    assert_released(world, Kind::Plain);
    world.assert_quiet();
    assert!(world.panel.servers.values().all(|s| !s.disabled && s.port), "{}", world.describe());
}

/// Installations of the client's server: one for the order and one for the token; one more only where a person said so, or
/// where the panel said that it had done what it had not.
fn assert_installs(world: &World, fault: Option<Fault>) {
    let installs = world.panel.servers["1"].installs;
    let told = !world.tasks.is_empty() || fault == Some(Fault::Ignored);
    assert!(installs == 2 || (told && (1..=3).contains(&installs)), "{installs} installations\n{}", world.describe());
}

#[test]
fn changes_follow_one_another() {
    for ports in PORTS {
        let mut world = fresh(ports);
        live(&mut world);
        assert_installs(&world, None);
        assert!(world.tasks.is_empty());
    }
}

/// What never works is tried at the pace of the handler, told, and done as soon as it works.
#[test]
fn a_change_that_never_works_is_tried_slowly_and_told() {
    let calls = ["disable", "connectionOff", "powerOff", "enable", "connectionOn", "install"];
    let faults = [Fault::Refused, Fault::Unreachable, Fault::LostNot, Fault::Ignored];
    try_all(calls.into_iter().flat_map(|call| faults.map(|fault| (call, fault))).map(|(call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = active();
            world.panel.ports_follow = false;
            let changes: [fn(&mut World); 5] =
                [|w| suspend(w, true), |w| suspend(w, false), |w| reinstall(w, "again"), |w| suspend(w, true), |w| w.delete("web")];
            for (number, (change, phase)) in changes.into_iter().zip(["Suspended", "Active", "Active", "Suspended", "gone"]).enumerate() {
                world.always = Some((call, fault));
                let at = world.asked.len();
                change(&mut world);
                world.run_for(Duration::from_hours(3));
                let asked = world.asked[at..].iter().filter(|(_, c)| c.name() == call).count();
                let most = if fault == Fault::Unreachable { 370 } else { 46 };
                assert!(asked <= most, "{number}: {asked} times\n{}", world.describe());
                let told = asked == 0 || fault == Fault::Unreachable || world.phase("web") == phase || !world.tasks.is_empty();
                assert!(told, "{number}: nobody is told\n{}", world.describe());
                world.always = None;
                reach(&mut world, phase, Kind::Plain);
            }
        });
        (format!("{call}, {fault:?}"), live)
    }));
}

#[test]
fn every_fault_at_every_call_of_a_change_is_survived() {
    let points = PORTS.into_iter().flat_map(|ports| {
        let mut world = fresh(ports);
        let from = world.asked.len();
        live(&mut world);
        assert_eq!(world.tasks.len(), 0);
        // A panel that does not show its ports, and says of one that it was switched when it was not, is believed.
        let blind = |n: usize| !ports && world.asked[n].1.name().starts_with("connection");
        let tried = (from..world.asked.len()).flat_map(|call| FAULTS.into_iter().map(move |fault| (ports, call, fault)));
        tried.filter(|(_, call, fault)| !(blind(*call) && *fault == Fault::Ignored)).collect::<Vec<_>>()
    });
    try_all(points.flat_map(|(ports, call, fault)| {
        [0, 2].map(|reads| {
            let live: Box<dyn FnOnce()> = Box::new(move || {
                let mut world = fresh(ports);
                world.faults.insert(call, fault);
                world.then_reads_fail = reads;
                live(&mut world);
                assert_installs(&world, Some(fault));
            });
            (format!("ports {ports}, call {call}, {fault:?}, {reads} reads"), live)
        })
    }));
}

#[test]
fn a_crash_at_every_write_of_a_change_is_survived() {
    let points = PORTS.into_iter().flat_map(|ports| {
        let mut world = fresh(ports);
        let from = world.writes;
        live(&mut world);
        (from..world.writes).flat_map(move |write| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| (ports, write, fault)))
    });
    try_all(points.map(|(ports, write, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = fresh(ports);
            world.write_faults.insert(write, fault);
            live(&mut world);
            assert_installs(&world, None);
        });
        (format!("ports {ports}, write {write}, {fault:?}"), live)
    }));
}

/// Deleted in the middle of a change, with a fault at the call before.
#[test]
fn an_order_may_be_deleted_in_the_middle_of_a_change() {
    let points = PORTS.into_iter().flat_map(|ports| {
        let mut world = fresh(ports);
        let from = world.asked.len();
        live(&mut world);
        let to = world.asked.len();
        (from..to).flat_map(move |call| FAULTS.into_iter().chain([Fault::Nothing]).map(move |fault| (ports, call, fault)))
    });
    try_all(points.map(|(ports, call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = fresh(ports);
            world.faults.insert(call, fault);
            world.delete_after_call = Some(call);
            for (suspended, token) in [(true, ""), (false, ""), (false, "again"), (true, "again")] {
                if world.phase("web") == "gone" || world.orders["web"].raw.metadata.deletion_timestamp.is_some() {
                    break;
                }
                world.edit("web", |raw| (raw.spec.suspended, raw.spec.reinstall) = (suspended, token.into()));
                let wanted = if suspended { "Suspended" } else { "Active" };
                let end = support::later(world.now, Duration::from_hours(4));
                while ![wanted, "gone", "Deleting"].contains(&world.phase("web")) || world.asked.len() <= call {
                    if world.phase("web") == wanted && world.now > support::later(end, seconds(0)) {
                        break;
                    }
                    let settled = world.phase("web") == wanted
                        && world.status("web").observed_generation == world.orders["web"].raw.metadata.generation;
                    if settled {
                        break;
                    }
                    assert!(world.now < end, "{}", world.describe());
                    for task in world.tasks.iter_mut().filter(|t| t.resolution.is_none()) {
                        task.resolution = Some(Resolution::Retry);
                    }
                    world.step();
                }
            }
            if world.orders.contains_key("web") {
                world.delete("web");
                reach(&mut world, "gone", Kind::Plain);
            }
            assert_released(&world, Kind::Plain);
            world.run_for(seconds(900));
            let left = world.panel.servers.values().all(|s| !s.disabled && s.owner.is_none());
            assert!(left, "something landed on a server that was given back\n{}", world.describe());
        });
        (format!("ports {ports}, call {call}, {fault:?}"), live)
    }));
}
