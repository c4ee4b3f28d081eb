//! Every fault at every call and every write of opening and closing: each order still gets one server, and gives all of it back.

use std::time::Duration;

use crate::support::seconds;
use crate::support::sweep::{FAULTS, KINDS, Kind, assert_active, assert_released, one_in, reach, try_all};
use crate::support::world::{Fault, Task, World, WriteFault};
use dci_operator::api::task::TaskType;
use dci_operator::provisioning::call::Call;

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
fn assert_tasks(world: &World, fault: Option<Fault>, kind: Kind) {
    // A recipe whose answer is lost without a trace is not run twice: a department is asked.
    let shown = matches!(fault, Some(Fault::Refused | Fault::Ignored)) || kind == Kind::Recipes;
    let needless = |t: &Task| t.type_ != TaskType::Assembly;
    assert!(shown || !world.tasks.iter().any(needless), "a task for nothing\n{}", world.describe());
}

/// Installations that took effect: more than one only where one failed or its answer was lost.
fn assert_installs(world: &World, fault: Option<Fault>, kind: Kind) {
    let installs = world.panel.journal.iter().filter(|c| matches!(c, Call::Install { .. })).count();
    assert!(installs >= kind.given_back(), "{kind:?}\n{}", world.describe());
    let installs = installs - kind.given_back();
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
    // There are fourteen faults: each meets a sixth of the calls, with each commit another.
    try_all(one_in(6, points).map(|(kind, call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.faults.insert(call, fault);
            live(&mut world, kind);
            assert_installs(&world, Some(fault), kind);
            assert_tasks(&world, Some(fault), kind);
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
            assert_tasks(&world, None, kind);
        });
        (format!("{kind:?}, write {write}, {fault:?}"), live)
    }));
}

#[test]
fn every_read_may_fail() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let mut world = kind.world();
        live(&mut world, kind);
        (0..world.reads).flat_map(move |read| [1, 4].map(|many| (kind, read, many)))
    });
    try_all(one_in(2, points).map(|(kind, read, many)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.read_faults.extend((read..).take(many));
            live(&mut world, kind);
            assert_installs(&world, None, kind);
            assert_tasks(&world, None, kind);
        });
        (format!("{kind:?}, read {read}, {many}"), live)
    }));
}

/// The call works, what is read after it does not; and then the order is deleted or not.
#[test]
fn what_was_done_is_found_again_when_it_could_not_be_read_back() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let (calls, _) = counts(kind);
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        (0..calls).map(move |call| (kind, call, false)).chain((0..world.asked.len()).map(move |call| (kind, call, true)))
    });
    try_all(points.map(|(kind, call, deleted)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.faults.insert(call, Fault::Nothing);
            world.then_reads_fail = 1;
            if deleted {
                world.delete_after_call = Some(call);
                cut_short(&mut world, kind);
            } else {
                live(&mut world, kind);
                assert_installs(&world, None, kind);
            }
            assert_tasks(&world, None, kind);
        });
        (format!("{kind:?}, call {call}, {deleted}"), live)
    }));
}

#[test]
fn reads_may_fail_after_a_faulty_call() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let (calls, _) = counts(kind);
        (0..calls).flat_map(move |call| FAULTS.into_iter().map(move |fault| (kind, call, fault)))
    });
    try_all(one_in(6, points).map(|(kind, call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.faults.insert(call, fault);
            world.then_reads_fail = 2;
            live(&mut world, kind);
            assert_installs(&world, Some(fault), kind);
            assert_tasks(&world, Some(fault), kind);
        });
        (format!("{kind:?}, call {call}, {fault:?}"), live)
    }));
}

/// Deleted early: whatever had been done by then is taken back.
fn cut_short(world: &mut World, kind: Kind) {
    reach(world, "gone", kind);
    assert_released(world, kind);
    world.assert_quiet();
}

#[test]
fn an_order_may_be_deleted_after_each_call_and_before_each_pass() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let mut world = kind.world();
        world.panel.install_takes = Duration::from_mins(2);
        reach(&mut world, "Active", kind);
        let (calls, passes) = (world.asked.len(), world.passes);
        let after_calls = (0..calls).map(move |at| (kind, Some(at), None));
        after_calls.chain((0..passes).map(move |at| (kind, None, Some(at))))
    });
    try_all(points.map(|(kind, call, pass)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            (world.delete_after_call, world.delete_before_pass) = (call, pass);
            cut_short(&mut world, kind);
            assert!(world.panel.journal.iter().filter(|c| matches!(c, Call::Install { .. })).count() <= 1 + kind.given_back());
        });
        (format!("{kind:?}, after call {call:?}, before pass {pass:?}"), live)
    }));
}

#[test]
fn a_deletion_that_meets_a_fault_takes_everything_back() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        (0..world.asked.len()).flat_map(move |call| FAULTS.into_iter().flat_map(move |fault| [0, 1].map(|fail| (kind, call, fault, fail))))
    });
    try_all(one_in(4, points).map(|(kind, call, fault, fail)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.faults.insert(call, fault);
            world.then_reads_fail = fail;
            world.delete_after_call = Some(call);
            cut_short(&mut world, kind);
        });
        (format!("{kind:?}, call {call}, {fault:?}, {fail} reads"), live)
    }));
}

/// The list of servers is then older than the time that a lost call has: what it shows proves nothing.
#[test]
fn a_settle_time_shorter_than_the_poll_interval_is_kept_to() {
    let late = Duration::from_millis(1_900);
    let points = [Kind::Plain, Kind::Disabled].into_iter().flat_map(|kind| {
        let (calls, _) = counts(kind);
        (0..calls).flat_map(move |call| [Fault::LostLate(late), Fault::CrashLate(late)].map(|fault| (kind, call, fault)))
    });
    try_all(points.flat_map(|(kind, call, fault)| {
        [false, true].map(|deleted| {
            let live: Box<dyn FnOnce()> = Box::new(move || {
                let mut world = kind.world();
                world.handler.settle = seconds(2);
                world.faults.insert(call, fault);
                if deleted {
                    world.delete_after_call = Some(call.min(7));
                    cut_short(&mut world, kind);
                } else {
                    live(&mut world, kind);
                    // The effect was seen in time: nothing was repeated that destroys.
                    assert_installs(&world, None, kind);
                }
            });
            (format!("{kind:?}, call {call}, {fault:?}, deleted {deleted}"), live)
        })
    }));
}

/// Reads that fail for an hour are repeated at the pace of the list, and blamed on nobody.
#[test]
fn reads_that_fail_for_long_are_repeated_slowly() {
    for kind in KINDS {
        let mut world = kind.world();
        for (phase, step) in [("Active", 0), ("Active", 4), ("Active", 9), ("gone", 0), ("gone", 5)] {
            if phase == "gone" {
                world.delete("web");
            }
            for _ in 0..step {
                world.step();
            }
            let reads = world.reads;
            world.read_faults.extend(reads..reads + 100_000);
            world.run_for(Duration::from_hours(1));
            assert!(world.reads - reads < 300, "{kind:?}: {} reads\n{}", world.reads - reads, world.describe());
            assert!(world.tasks.iter().all(|t| t.type_ == TaskType::Assembly), "{kind:?}");
            world.read_faults.clear();
        }
        reach(&mut world, "gone", kind);
    }
}

const CALLS: [&str; 13] = [
    "createUser",
    "claim",
    "powerOn",
    "takeAddress",
    "setAddressNote",
    "giveBackAddress",
    "replaceMainAddress",
    "addAddress",
    "removeAddress",
    "setDomain",
    "install",
    "handOver",
    "release",
];

/// Something never works: it is tried at the pace of the handler, told, and done as soon as it works.
#[test]
fn what_never_works_is_tried_slowly_and_told() {
    let faults = [Fault::Refused, Fault::Unreachable, Fault::LostNot, Fault::LostApplied, Fault::Ignored];
    let points = [Kind::Plain, Kind::Several]
        .into_iter()
        .flat_map(|kind| CALLS.into_iter().chain(["powerOff"]).flat_map(move |call| faults.map(|fault| (kind, call, fault))));
    try_all(points.map(|(kind, call, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            for deleting in [false, true] {
                world.always = Some((call, fault));
                let asked = world.asked.len();
                if deleting {
                    world.delete("web");
                }
                let hours = 3;
                world.run_for(Duration::from_hours(hours));
                let asked = world.asked[asked..].iter().filter(|(_, c)| c.name() == call).count();
                let most = if fault == Fault::Unreachable { hours * 120 + 10 } else { hours * 12 + 10 };
                assert!(asked <= usize::try_from(most).unwrap(), "{asked} times\n{}", world.describe());
                world.always = None;
                reach(&mut world, if deleting { "gone" } else { "Active" }, kind);
            }
        });
        (format!("{kind:?}, {call}, {fault:?}"), live)
    }));
}
