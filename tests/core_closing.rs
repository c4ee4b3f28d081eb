//! Closing and what befalls an Active order, as tables of scenarios.

#[path = "core_support/mod.rs"]
mod support;

use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::json;
use support::panel::{Ipmi, Panel};
use support::seconds;
use support::sweep::{Kind, assert_active, reach};
use support::world::{Fault, World, handler, order};

fn reason(status: &OrderStatus) -> &str {
    find(&status.conditions, ConditionType::Ready).map_or("", |c| c.reason.as_str())
}

fn stalled(world: &World) -> bool {
    find(&world.status("web").conditions, ConditionType::Stalled).is_some()
}

fn until_reason(world: &mut World, wanted: &str) {
    world.until(wanted, Duration::from_hours(12), |w| w.orders.get("web").is_some_and(|o| reason(&o.status) == wanted));
}

fn made(world: &World, name: &str) -> usize {
    world.panel.journal.iter().filter(|c| c.name() == name).count()
}

fn active() -> World {
    let mut world = World::simple(3, 6);
    world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world.until_phase("web", "Active");
    world.run_for(seconds(90));
    world
}

/// Everything that can be said of a server and its addresses, to see that nothing was touched.
fn picture(world: &World) -> String {
    format!("{:?} {:?} {:?}", world.panel.servers, world.panel.used, world.panel.free)
}

#[test]
fn an_order_that_never_got_anything_needs_no_panel() {
    for state in [HandlerState::NotReady("down".into()), HandlerState::Suspended] {
        let mut world = World::simple(1, 4);
        world.state = state;
        world.step();
        let reads = world.reads;
        world.delete("web");
        world.until_phase("web", "gone");
        assert!(world.asked.is_empty() && world.reads == reads);
    }
    let mut world = World::simple(0, 4);
    until_reason(&mut world, "WaitingForCapacity");
    world.state = HandlerState::NotReady("down".into());
    world.delete("web");
    world.until_phase("web", "gone");
}

#[test]
fn an_installation_is_cancelled_before_the_power_goes() {
    let mut world = World::simple(1, 4);
    world.until("installing", Duration::from_hours(1), |w| w.panel.servers["1"].operation.is_some());
    world.run_for(seconds(90));
    world.delete("web");
    world.until_phase("web", "gone");
    let names: Vec<&str> = world.panel.journal.iter().map(Call::name).collect();
    let at = |name| names.iter().position(|n| *n == name);
    assert!(at("cancelOperation").is_some() && at("cancelOperation") < at("powerOff"), "{names:?}");
    assert_eq!(made(&world, "powerOff"), 1);
    world.assert_clean();
}

#[test]
fn an_ipmi_error_is_ignored_where_the_handler_says_so() {
    for ipmi in [Ipmi::Refuses, Ipmi::Error, Ipmi::Dead] {
        let mut world = active();
        world.panel.server("1").ipmi = ipmi;
        world.delete("web");
        world.until_phase("web", "gone");
        world.assert_clean();
        assert!(world.tasks.is_empty());
        let asked = world.asked.iter().filter(|(_, c)| matches!(c, Call::PowerOff { .. })).count();
        assert_eq!(asked, 1, "{ipmi:?}: there is no retry in closing");
    }
}

#[test]
fn a_server_that_cannot_be_stopped_waits_for_a_person() {
    for ipmi in [Ipmi::Refuses, Ipmi::Error, Ipmi::Dead] {
        for resolution in [Resolution::Done, Resolution::Retry, Resolution::Abandon] {
            let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
            world.add(order("web", "u-web", |_| ()));
            world.until_phase("web", "Active");
            let before = picture(&world);
            world.panel.server("1").ipmi = ipmi;
            let before = before.replacen("ipmi: Works", &format!("ipmi: {ipmi:?}"), 1);
            world.delete("web");
            world.until("a task", Duration::from_hours(2), |w| !w.tasks.is_empty());
            world.run_for(Duration::from_hours(5));
            assert_eq!(world.open_tasks(), [TaskType::StopServer], "exactly one");
            assert_eq!(picture(&world), before, "nothing is taken back before it is closed");
            // A change of the handler's mind closes no task.
            world.handler.ipmi = dci_operator::api::handler::IpmiErrorPolicy::Ignore;
            world.run_for(Duration::from_hours(1));
            assert_eq!(picture(&world), before);
            world.handler.ipmi = dci_operator::api::handler::IpmiErrorPolicy::CreateTask;
            let name = world.tasks.pop().unwrap().name;
            world.run_for(seconds(120));
            assert_eq!(world.tasks.last().map(|t| t.name.clone()), Some(name), "made again");
            let asked = world.asked.len();
            world.resolve(TaskType::StopServer, resolution);
            match resolution {
                Resolution::Retry => {
                    world.run_for(Duration::from_hours(1));
                    assert_eq!(world.open_tasks(), [TaskType::StopServer], "it still fails: asked again");
                    assert_eq!(world.asked.len(), asked + 1);
                    world.panel.server("1").ipmi = Ipmi::Works;
                    world.resolve(TaskType::StopServer, Resolution::Retry);
                    world.until_phase("web", "gone");
                    world.assert_clean();
                }
                Resolution::Abandon => {
                    world.until_phase("web", "gone");
                    assert_eq!((picture(&world), world.asked.len()), (before, asked), "given up, not released");
                }
                Resolution::Done | Resolution::PartsMissing | Resolution::Cancelled => {
                    world.until_phase("web", "gone");
                    world.assert_clean();
                    let offs = world.asked[asked..].iter().filter(|(_, c)| matches!(c, Call::PowerOff { .. })).count();
                    assert_eq!(offs, 0, "taken at its word");
                }
            }
        }
    }
}

#[test]
fn a_crash_after_abandon_releases_nothing() {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.delete("web");
    world.until("a task", Duration::from_hours(2), |w| !w.tasks.is_empty());
    world.run_for(seconds(60));
    let before = picture(&world);
    // The status is stored when the order is let go, and the operator dies before the finalizer goes.
    world.write_faults.insert(world.writes + 1, support::world::WriteFault::CrashBefore);
    world.resolve(TaskType::StopServer, Resolution::Abandon);
    world.until_phase("web", "gone");
    assert_eq!(picture(&world), before);
}

#[test]
fn a_server_that_is_gone_counts_as_released_after_two_lists() {
    for deleted_first in [true, false] {
        let mut world = active();
        if deleted_first {
            world.delete("web");
            world.panel.server("1").gone = true;
        } else {
            world.panel.server("1").gone = true;
            until_reason(&mut world, "ServerGone");
            world.delete("web");
        }
        world.until_phase("web", "gone");
        assert!(world.panel.used.iter().all(|u| u.note.is_empty()), "its addresses are given back");
        assert!(world.panel.servers.values().filter(|s| s.owner.is_some()).count() == 1, "no other server is touched");
    }
    // Not seen once is nothing.
    let mut world = active();
    world.panel.server("1").gone = true;
    world.delete("web");
    world.step();
    world.panel.server("1").gone = false;
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn a_server_with_a_foreign_marker_or_owner_is_never_touched() {
    type Change = fn(&mut World);
    let foreign = "k8s:other/a/b/c";
    let rows: [(&str, &str, Change); 5] = [
        ("the marker is gone", "NotOurServer", |w| w.panel.server("1").notes.clear()),
        ("another marker", "NotOurServer", |w| w.panel.server("1").notes = "k8s:other/a/b/c".into()),
        ("another one beside ours", "NotOurServer", |w| w.panel.server("1").notes.push_str(" k8s:other/a/b/c")),
        ("another owner", "OwnerChanged", |w| w.panel.server("1").owner = Some(UserId("7".into()))),
        ("off, and another marker", "NotOurServer", |w| {
            w.panel.server("1").notes = "k8s:other/a/b/c".into();
            w.panel.server("1").on = false;
        }),
    ];
    for (what, wanted, change) in rows {
        for kind in [Kind::Plain, Kind::DisableIpChange, Kind::ByPanel, Kind::NoParking] {
            let mut world = kind.world();
            world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
            reach(&mut world, "Active", kind);
            world.delete("web");
            change(&mut world);
            let before = picture(&world);
            until_reason(&mut world, wanted);
            world.run_for(Duration::from_hours(2));
            assert_eq!(picture(&world), before, "{what}, {kind:?}: {foreign}");
            assert!(stalled(&world) && world.phase("web") == "Deleting");
        }
    }
}

/// The order is created anew without its status, as after a restore.
fn restore(world: &mut World, uid: &str, annotation: Option<&str>) {
    world.orders.remove("web");
    world.restart();
    let raw = order("web", uid, |raw| {
        if let Some(id) = annotation {
            raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": id});
        }
    });
    world.add(raw);
}

#[test]
fn a_restored_order_finds_its_server_and_never_installs_it_again() {
    for by_panel in [false, true] {
        let mut world =
            World::new(Panel::new(3, 4), handler(|h| h["ipManagement"]["allocateBy"] = json!(if by_panel { "Panel" } else { "Operator" })));
        world.add(order("web", "u-web", |_| ()));
        world.until_phase("web", "Active");
        let (asked, before) = (world.asked.len(), picture(&world));
        restore(&mut world, "u-new", Some("u-web"));
        world.until_phase("web", "Active");
        world.run_for(Duration::from_hours(1));
        assert_eq!((picture(&world), world.asked.len()), (before, asked), "by panel {by_panel}\n{}", world.describe());
        assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some("1"));
        // What is found again is also taken back.
        world.delete("web");
        world.until_phase("web", "gone");
        world.assert_clean();
        // And so it is without ever having been Active again.
    }
    let mut world = active();
    restore(&mut world, "u-new", Some("u-web"));
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn an_order_restored_in_preparation_goes_on_with_its_server() {
    for steps in 1..14 {
        let mut world = World::simple(3, 4);
        for _ in 0..steps {
            world.step();
        }
        if world.status("web").server.is_none() {
            continue;
        }
        restore(&mut world, "u-new", Some("u-web"));
        world.until_phase("web", "Active");
        assert_eq!(world.panel.servers.values().filter(|s| s.owner.is_some()).count(), 1);
        assert_eq!(world.panel.used.iter().filter(|u| u.note == "k8s:u-web").count(), 1);
    }
}

#[test]
fn an_order_recreated_under_the_same_name_takes_no_second_server() {
    let mut world = active();
    let before = picture(&world);
    restore(&mut world, "u-new", None);
    until_reason(&mut world, "PreviousServerFound");
    world.run_for(Duration::from_hours(1));
    assert_eq!(picture(&world), before);
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!(picture(&world), before, "and does not release the other one's");
}

#[test]
fn a_handler_that_is_not_ready_or_suspended_stops_closing_anywhere() {
    for at in 0..8 {
        for state in [HandlerState::NotReady("down".into()), HandlerState::Suspended] {
            let mut world = active();
            world.delete("web");
            for _ in 0..at {
                world.step();
            }
            if world.phase("web") == "gone" {
                continue;
            }
            world.state = state;
            let asked = world.asked.len();
            world.run_for(Duration::from_hours(1));
            assert_eq!(world.asked.len(), asked, "nothing is changed meanwhile");
            world.state = HandlerState::Ready;
            world.until_phase("web", "gone");
            world.assert_clean();
        }
    }
}

#[test]
fn closing_waits_for_a_place() {
    let mut world = active();
    let before = picture(&world);
    world.slot = false;
    world.delete("web");
    until_reason(&mut world, "LimitReached");
    world.run_for(Duration::from_hours(1));
    assert_eq!(picture(&world), before);
    world.slot = true;
    world.step();
    // Whoever has begun goes on.
    world.slot = false;
    world.until_phase("web", "gone");
}

#[test]
fn a_port_that_is_switched_is_waited_for_but_not_for_ever() {
    for minutes in [2u64, 600] {
        let mut world = active();
        let now = world.now;
        world.panel.server("1").busy_until = Some(support::later(now, Duration::from_mins(minutes)));
        world.delete("web");
        world.until("off", Duration::from_hours(1), |w| made(w, "powerOff") == 1);
        let waited = world.now.duration_since(now).as_secs();
        assert!(waited >= 110 && waited < 420, "{waited}");
    }
}

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
                world.resolve(TaskType::FailedOperation, resolution);
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
            let in_use = world.panel.used.iter().filter(|u| u.group == "public").count();
            assert_eq!(in_use, rows.len() - usize::from(kind == Kind::DisableIpChange), "{kind:?}: addresses leak\n{}", world.describe());
        }
        assert_eq!(made(&world, "install"), installs);
        world.assert_quiet();
    }
}

#[test]
fn fixed_fields_and_unsupported_ones_stall_and_heal() {
    let mut world = active();
    world.edit("web", |raw| raw.spec.client.username = "other".into());
    until_reason(&mut world, "FixedFieldChanged");
    world.edit("web", |raw| raw.spec.client.username = "acme".into());
    world.until_phase("web", "Active");
    world.edit("web", |raw| raw.spec.recipes = vec!["a".into(), "b".into()]);
    until_reason(&mut world, "NotSupportedYet");
    world.edit("web", |raw| raw.spec.recipes = Vec::new());
    world.until_phase("web", "Active");
    // Another template waits for the next reinstall.
    world.edit("web", |raw| raw.spec.operating_system.template = "ISPsystem__Ubuntu-24.04-x86_64".into());
    world.run_for(seconds(120));
    let said = find(&world.status("web").conditions, ConditionType::OSInstalled).map(|c| c.reason.clone());
    assert_eq!((said.as_deref(), world.phase("web"), made(&world, "install")), (Some("ReinstallPending"), "Active", 1));
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
    names.dedup();
    assert_eq!(names.len(), 20, "a name is never used twice");
    assert_active(&world, Kind::Plain);
}
