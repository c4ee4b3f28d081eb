//! Every fault at every call, write and read while departments build, buy, or refuse to: no task is raised twice, and a server
//! that nobody builds is given back before the order stalls.

use std::time::Duration;

use crate::support::panel::{Panel, TEMPLATE};
use crate::support::sweep::{FAULTS, one_in, try_all};
use crate::support::world::{Fault, World, WriteFault, handler, order};
use crate::support::{later, seconds};
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::task::{Resolution, TaskType};
use serde_json::json;

/// What the departments answer, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Parts are missing, they are bought, the server is built.
    Bought,
    /// Nobody builds it.
    Cancelled,
    /// Nobody buys the parts.
    NotBought,
}

const KINDS: [Kind; 3] = [Kind::Bought, Kind::Cancelled, Kind::NotBought];
const BUILD: (TaskType, Resolution) = (TaskType::Assembly, Resolution::Done);

impl Kind {
    fn answers(self) -> &'static [(TaskType, Resolution)] {
        const MISSING: (TaskType, Resolution) = (TaskType::Assembly, Resolution::PartsMissing);
        match self {
            Self::Bought => &[MISSING, (TaskType::Procurement, Resolution::Done), BUILD],
            Self::Cancelled => &[(TaskType::Assembly, Resolution::Cancelled)],
            Self::NotBought => &[MISSING, (TaskType::Procurement, Resolution::Cancelled)],
        }
    }

    fn stops(self) -> bool {
        self != Self::Bought
    }

    fn world() -> World {
        let mut panel = Panel::new(3, 6);
        panel.install_takes = Duration::from_mins(2);
        let mut world = World::new(panel, handler(|spec| spec["dialect"] = json!({"flagForCleaning": {"func": "y"}})));
        world.add(order("web", "u-web", |raw| raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}})));
        world
    }
}

/// The answers that departments have given, in order.
fn given(world: &World) -> Vec<(TaskType, Resolution)> {
    let ours = world.tasks.iter().filter(|t| matches!(t.type_, TaskType::Assembly | TaskType::Procurement) && !t.by_operator);
    ours.filter_map(|t| t.resolution.map(|r| (t.type_, r))).collect()
}

/// The departments answer what is open.
fn answer(world: &mut World, answers: &[(TaskType, Resolution)]) {
    let number = given(world).len();
    let Some(open) = world.tasks.iter().position(|t| t.resolution.is_none()) else { return };
    let resolution = match world.tasks[open].type_ {
        TaskType::FailedOperation | TaskType::StopServer => Resolution::Retry,
        type_ @ (TaskType::Assembly | TaskType::Procurement) => {
            let Some(next) = answers.get(number) else { panic!("one task too many: {type_:?}\n{}", world.describe()) };
            assert_eq!(next.0, type_, "not its turn\n{}", world.describe());
            next.1
        }
    };
    if (world.tasks[open].type_, resolution) == BUILD
        && let Some(id) = world.status("web").server.as_ref().map(|s| s.id.clone())
    {
        world.panel.server(&id).parts.memory = Some("64".into());
    }
    world.tasks[open].resolution = Some(resolution);
    world.force("web");
}

fn stalled(world: &World) -> Option<&str> {
    let stored = world.orders.get("web")?;
    condition::find(&stored.status.conditions, ConditionType::Stalled).map(|c| c.reason.as_str())
}

/// Goes on until it holds; whoever looks after stalled orders asks for another look now and then.
fn reach(world: &mut World, what: &str, answers: &[(TaskType, Resolution)], holds: impl Fn(&World) -> bool) {
    let end = later(world.now, Duration::from_hours(8));
    let (mut since, mut steps) = (world.now, 0);
    while !holds(world) {
        steps += 1;
        assert!(steps < 20_000 && world.now < end, "{what} is not reached\n{}", world.describe());
        if stalled(world).is_some() && world.now > later(since, seconds(120)) {
            since = world.now;
            world.force("web");
        }
        answer(world, answers);
        world.step();
    }
}

/// A life: to Active, or to where it stops; from there somebody asks again, and it is built after all.
fn live(world: &mut World, kind: Kind) {
    let mut answers = kind.answers().to_vec();
    if kind.stops() {
        reach(world, "stopped", &answers, |w| stalled(w) == Some("TaskCancelled") && w.orders["web"].status.server.is_none());
        // The lock goes when the list shows the server free.
        world.run_for(seconds(60));
        world.assert_clean();
        let status = world.status("web");
        assert_eq!((status.phase.as_deref(), status.in_flight.as_ref()), (Some("Failed"), None), "{}", world.describe());
        assert_eq!(status.tried_servers.len(), 1, "{}", world.describe());
        // Nothing is taken again: not by itself, not by a change of the handler, not after a restart.
        let asked = world.asked.len();
        for again in 0..3 {
            if again == 1 {
                world.force("web");
            }
            if again == 2 {
                world.restart();
            }
            world.assert_quiet();
        }
        assert_eq!((world.asked.len(), stalled(world)), (asked, Some("TaskCancelled")), "{}", world.describe());
        answers.push(BUILD);
        world.ask("web");
    }
    reach(world, "Active", &answers, |w| w.phase("web") == "Active");
    assert_eq!(given(world), answers, "{}", world.describe());
    assert!(world.open_tasks().is_empty(), "{}", world.describe());
    let status = world.status("web");
    let server = &world.panel.servers[&status.server.as_ref().expect("a server").id];
    assert_eq!((server.owner.clone(), server.template.as_deref()), (world.panel.user("acme").map(|u| u.id.clone()), Some(TEMPLATE)));
    let owned = world.panel.servers.values().filter(|s| s.owner.is_some() || !s.notes.is_empty()).count();
    let public = world.panel.used.iter().filter(|u| u.note == "k8s:u-web" && u.group == "public").count();
    assert_eq!((owned, public), (1, 1), "{}", world.describe());
    world.assert_quiet();
    world.delete("web");
    reach(world, "gone", &answers, |w| w.phase("web") == "gone");
    world.assert_clean();
    world.assert_quiet();
}

fn counts(kind: Kind) -> World {
    let mut world = Kind::world();
    live(&mut world, kind);
    world
}

#[test]
fn each_kind_takes_its_way() {
    for kind in KINDS {
        counts(kind);
    }
}

#[test]
fn every_fault_at_every_call_is_survived() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let calls = counts(kind).asked.len();
        (0..calls).flat_map(move |call| FAULTS.into_iter().flat_map(move |fault| [0, 2].map(|reads| (kind, call, fault, reads))))
    });
    try_all(one_in(6, points).map(|(kind, call, fault, reads)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = Kind::world();
            world.faults.insert(call, fault);
            world.then_reads_fail = reads;
            live(&mut world, kind);
        });
        (format!("{kind:?}, call {call}, {fault:?}, {reads} reads"), live)
    }));
}

#[test]
fn a_crash_at_every_write_and_a_failure_of_every_read_is_survived() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let world = counts(kind);
        let writes = (0..world.writes).flat_map(|at| [Some(WriteFault::CrashBefore), Some(WriteFault::CrashAfter)].map(|f| (at, f)));
        writes.chain((0..world.reads).map(|at| (at, None))).map(move |(at, fault)| (kind, at, fault)).collect::<Vec<_>>()
    });
    try_all(points.map(|(kind, at, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = Kind::world();
            match fault {
                Some(fault) => drop(world.write_faults.insert(at, fault)),
                None => world.read_faults.extend(at..at + 3),
            }
            live(&mut world, kind);
        });
        (format!("{kind:?}, {at}, {fault:?}"), live)
    }));
}

#[test]
fn an_order_may_be_deleted_after_each_call_and_before_each_pass_and_meet_a_fault() {
    let points = KINDS.into_iter().flat_map(|kind| {
        let mut world = Kind::world();
        let until = |w: &World| w.phase("web") == "Active" || (w.status("web").server.is_none() && stalled(w).is_some());
        reach(&mut world, "its end", kind.answers(), until);
        let faults = || FAULTS.into_iter().map(Some).chain([None]);
        let calls = (0..world.asked.len()).flat_map(move |at| faults().map(move |fault| (Some(at), None, fault)));
        let passes = (0..world.passes).map(|at| (None, Some(at), None));
        calls.chain(passes).map(move |(call, pass, fault)| (kind, call, pass, fault)).collect::<Vec<_>>()
    });
    try_all(points.map(|(kind, call, pass, fault): (Kind, Option<usize>, Option<usize>, Option<Fault>)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = Kind::world();
            (world.delete_after_call, world.delete_before_pass) = (call, pass);
            if let (Some(call), Some(fault)) = (call, fault) {
                world.faults.insert(call, fault);
            }
            // A department that was asked once more before the deletion is seen answers as before.
            reach(&mut world, "gone", kind.answers(), |w| w.phase("web") == "gone");
            world.assert_clean();
            world.assert_quiet();
        });
        (format!("{kind:?}, after call {call:?}, before pass {pass:?}, {fault:?}"), live)
    }));
}
