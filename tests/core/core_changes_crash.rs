//! A whole life of changes, with every fault at every call and write, cut short by a deletion, or with a call that never works.

use std::time::Duration;

use dci_operator::api::task::Resolution;

use crate::support::changes::{assert_suspended, reinstall, settled, suspend};
use crate::support::sweep::{FAULTS, Kind, assert_active, assert_released, one_in, reach, try_all};
use crate::support::world::{Fault, World, WriteFault};
use crate::support::{later, seconds};

/// How the panel shows and switches ports: it does both, or neither.
const PORTS: [bool; 2] = [true, false];

fn fresh(ports: bool) -> World {
    let mut world = settled();
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
            let mut world = settled();
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
    try_all(one_in(4, points).flat_map(|(ports, call, fault)| {
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
                let end = later(world.now, Duration::from_hours(4));
                while ![wanted, "gone", "Deleting"].contains(&world.phase("web")) || world.asked.len() <= call {
                    if world.phase("web") == wanted && world.now > later(end, seconds(0)) {
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
