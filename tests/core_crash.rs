//! Every fault at every call and every write of opening and closing: each order still gets one server, and gives all of it back.

#[path = "core_support/mod.rs"]
mod support;

use std::time::Duration;

use dci_operator::provisioning::call::Call;
use support::seconds;
use support::sweep::{KINDS, Kind, assert_active, assert_released, reach, try_all};
use support::world::{Fault, World, WriteFault};

const FAULTS: [Fault; 12] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::CrashLate(Duration::from_secs(20)),
    Fault::CrashLate(Duration::from_secs(110)),
    Fault::LostApplied,
    Fault::LostNot,
    Fault::LostLate(Duration::from_secs(20)),
    Fault::LostLate(Duration::from_secs(110)),
    Fault::Refused,
    Fault::Unreachable,
    Fault::Ignored,
    Fault::Touched,
];

/// A life of an order: to Active, to rest, and away.
fn live(world: &mut World, kind: Kind) {
    reach(world, "Active", kind);
    assert_active(world, kind);
    world.run_for(seconds(60));
    world.assert_quiet();
    world.delete("web");
    reach(world, "gone", kind);
    assert_released(world, kind);
    world.assert_quiet();
}

/// A department is asked only where the panel itself says or shows that something failed.
fn assert_tasks(world: &World, fault: Option<Fault>) {
    let shown = matches!(fault, Some(Fault::Refused | Fault::Ignored));
    assert!(shown || world.tasks.is_empty(), "a task for nothing\n{}", world.describe());
}

/// Installations that took effect: more than one only where one failed or its answer was lost.
fn assert_installs(world: &World, fault: Option<Fault>, kind: Kind) {
    let installs = world.panel.journal.iter().filter(|c| matches!(c, Call::Install { .. })).count();
    let uncertain = !matches!(fault, None | Some(Fault::Refused | Fault::Unreachable | Fault::Ignored));
    assert!(installs == 1 || (uncertain && installs == 2), "{installs} installations, {kind:?} {fault:?}\n{}", world.describe());
}

fn counts(kind: Kind) -> (usize, usize) {
    let mut world = kind.world();
    live(&mut world, kind);
    assert_installs(&world, None, kind);
    (world.asked.len(), world.writes)
}

#[test]
fn every_fault_at_every_call_is_survived() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let (calls, _) = counts(kind);
        (0..calls).flat_map(move |call| FAULTS.into_iter().map(move |fault| (kind, call, fault)))
    });
    try_all(points.map(|(kind, call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.faults.insert(call, fault);
            live(&mut world, kind);
            assert_installs(&world, Some(fault), kind);
            assert_tasks(&world, Some(fault));
        });
        (format!("{kind:?}, call {call}, {fault:?}"), live)
    }));
}

#[test]
fn a_crash_at_every_write_is_survived() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let (_, writes) = counts(kind);
        (0..writes).flat_map(move |write| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| (kind, write, fault)))
    });
    try_all(points.map(|(kind, write, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.write_faults.insert(write, fault);
            live(&mut world, kind);
            assert_installs(&world, None, kind);
            assert_tasks(&world, None);
        });
        (format!("{kind:?}, write {write}, {fault:?}"), live)
    }));
}
