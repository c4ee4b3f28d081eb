//! Every fault at every call, write and read of an order that selects among several handlers: it never has two servers, what a
//! failed handler gave is given back, and it ends exactly where it should. One point of five is tried; all of them by `make check-all`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::panel::{ADMIN, Ipmi, TEMPLATE};
use crate::support::sweep::{FAULTS, one_in, try_all};
use crate::support::world::{Fault, World, WriteFault, order};
use crate::support::{later, seconds};
use dci_operator::api::condition::{ConditionType, is_true};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use serde_json::json;

/// What an order meets at its handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first handler has no server, the second one serves.
    PassedOver,
    /// Nothing can be installed at the first handler: the one that shares its address manager is next, before one of a better
    /// priority.
    Failover,
    /// Nothing can be installed at the two that share an address manager.
    Chain,
    /// Recipes fail at the first handler; its server is given back for that, and another one of the same handler is tried first.
    Recipe,
    /// The first handler's servers cannot be switched on, so nothing was done to the one that goes back.
    Power,
}

const KINDS: [Kind; 5] = [Kind::PassedOver, Kind::Failover, Kind::Chain, Kind::Recipe, Kind::Power];
/// Those that are swept; the others together meet everything that the failover meets.
const SWEPT: [Kind; 4] = [Kind::PassedOver, Kind::Chain, Kind::Recipe, Kind::Power];

impl Kind {
    /// Handlers `a`, `b`, `c` by priority; `a` and `c` have one address manager.
    fn world(self) -> World {
        let mut world = World::of_sites();
        let installs_nothing = |name: &str| match self {
            Self::PassedOver | Self::Recipe | Self::Power => false,
            Self::Failover | Self::Chain => self.broken().contains(&name),
        };
        for (name, priority, pool) in [("a", 10, "one"), ("b", 20, "two"), ("c", 30, "one")] {
            let servers = if self == Self::PassedOver && name == "a" { 0 } else { 2 };
            world.add_site(name, priority, pool, servers, |panel, spec| {
                panel.install_takes = Duration::from_mins(1);
                spec["retry"]["interval"] = json!("1m");
                if installs_nothing(name) {
                    // As many as are tried before a handler is given up.
                    panel.installs_that_fail = usize::MAX;
                }
                if self == Self::Recipe && name == "a" {
                    panel.recipes_that_fail = usize::MAX;
                    spec["dialect"] = json!({"flagForCleaning": {"func": "y"}});
                }
                if self == Self::Power && name == "a" {
                    panel.servers.values_mut().for_each(|s| s.ipmi = Ipmi::Refuses);
                }
            });
        }
        world.add(order("web", "u-web", |raw| {
            raw["spec"].as_object_mut().unwrap().remove("handlerRef");
            raw["spec"]["handlerSelector"] = json!({"namespace": "hosting", "matchLabels": {"zone": "msk"}});
            raw["spec"]["addresses"] = json!({"ipv4": 2});
            if self == Self::Recipe {
                raw["spec"]["recipes"] = json!(["ISPsystem__nginx.sh"]);
            }
        }));
        world
    }

    /// Handlers that cannot serve the order, in the order in which they are tried.
    fn broken(self) -> &'static [&'static str] {
        match self {
            Self::PassedOver => &[],
            Self::Failover | Self::Recipe | Self::Power => &["a"],
            Self::Chain => &["a", "c"],
        }
    }

    /// The number of the handler at which it ends.
    fn end(self) -> usize {
        match self {
            Self::PassedOver | Self::Chain => 1,
            Self::Failover | Self::Recipe | Self::Power => 2,
        }
    }
}

/// How sure it is which handler serves the order in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The one that it should be, after those that it should be.
    Exact,
    /// One that can. After a restart handlers are known one after the other, and one that does not answer is passed over: while
    /// the order is bound to none, the next best one takes it.
    Able,
}

/// Goes on until a phase is reached; whoever looks after stalled orders asks for another attempt now and then.
fn reach(world: &mut World, phase: &str) {
    let end = later(world.now, Duration::from_hours(8));
    let (mut since, mut steps) = (world.now, 0);
    while world.phase("web") != phase {
        steps += 1;
        assert!(steps < 20_000, "time stands still\n{}", world.describe());
        assert!(world.now < end, "{phase} is not reached\n{}", world.describe());
        let stalled = world.orders.get("web").is_some_and(|o| is_true(&o.status.conditions, ConditionType::Stalled));
        if stalled && world.now > later(since, seconds(120)) {
            since = world.now;
            world.force("web");
        }
        if let Some(task) = world.tasks.iter_mut().find(|t| t.resolution.is_none()) {
            task.resolution = Some(Resolution::Retry);
        }
        world.step();
        assert!(world.marked_at().len() <= 1, "servers at two handlers\n{}", world.describe());
    }
}

/// One server at one handler, with two addresses of its manager; nothing anywhere else.
fn assert_active(world: &World, kind: Kind, end: End) {
    let tell = || world.describe();
    let status = world.status("web");
    let bound = status.server.as_ref().expect("a server");
    let site = world.sites.all.iter().position(|s| s.handler.key.to_string() == bound.handler).expect("a handler");
    let there = &world.sites.all[site];
    assert_eq!(bound.panel, there.handler.panel, "{}", tell());
    let name = there.handler.key.name.as_str();
    assert!(site == kind.end() || (end == End::Able && !kind.broken().contains(&name)), "{}", tell());
    let server = &there.panel.servers[&bound.id];
    assert_eq!(server.owner, there.panel.user("acme").map(|u| u.id.clone()), "{}", tell());
    assert_eq!((server.template.as_deref(), server.on, server.rows.len()), (Some(TEMPLATE), true, 2), "{}", tell());
    let pool = &world.sites.pools[&there.pool.name];
    let noted: BTreeSet<_> = pool.used.iter().filter(|u| u.note == "k8s:u-web" && u.group != "parking").map(|u| u.address).collect();
    assert_eq!(noted, server.rows.iter().map(|r| r.address).collect(), "addresses\n{}", tell());
    for (name, pool) in world.sites.pools.iter().filter(|(name, _)| **name != there.pool.name) {
        assert!(pool.used.iter().all(|u| u.note.is_empty()), "addresses of {name}\n{}", tell());
    }
    for (id, other) in there.panel.servers.iter().filter(|(id, _)| **id != bound.id) {
        assert!(other.owner.is_none() && other.notes.is_empty(), "server {id}\n{}", tell());
    }
    let tried: Vec<&str> = status.tried_servers.iter().filter_map(|t| t.handler.strip_prefix("hosting/")).collect();
    let expected = kind.broken();
    // Where no other handler answers, a second server of one that failed is tried.
    let some = tried.iter().all(|t| expected.contains(t));
    assert!(tried == expected || (end == End::Able && some), "{tried:?}\n{}", tell());
    assert!(world.open_tasks().is_empty(), "{}", tell());
    world.assert_sites_clean(&BTreeSet::from([site]));
}

/// A life of an order: to Active, to rest, and away.
fn live(world: &mut World, kind: Kind, end: End) {
    reach(world, "Active");
    assert_active(world, kind, end);
    world.run_for(seconds(60));
    world.delete("web");
    cut_short(world);
}

/// Whatever had been done is taken back, at every panel.
fn cut_short(world: &mut World) {
    reach(world, "gone");
    // A lock that a crash left behind goes with the next lists.
    world.assert_quiet();
    world.assert_sites_clean(&BTreeSet::new());
}

fn counts(kind: Kind) -> World {
    let mut world = kind.world();
    live(&mut world, kind, End::Exact);
    world
}

#[test]
fn each_kind_takes_its_way() {
    for kind in KINDS {
        let world = counts(kind);
        let mut at = world.asked_at.clone();
        at.dedup();
        let expected: &[&str] = match kind {
            Kind::PassedOver => &["b"],
            Kind::Failover | Kind::Recipe | Kind::Power => &["a", "c"],
            Kind::Chain => &["a", "c", "b"],
        };
        assert_eq!(at, expected, "{kind:?}\n{}", world.describe());
    }
}

#[test]
fn every_fault_at_every_call_is_survived() {
    let points = SWEPT.into_iter().flat_map(|kind| {
        let calls = counts(kind).asked.len();
        let faults = || FAULTS.into_iter().map(|f| (f, 0)).chain([Fault::Nothing, Fault::CrashAfter, Fault::LostApplied].map(|f| (f, 2)));
        (0..calls).flat_map(move |call| faults().map(move |(fault, reads)| (kind, call, fault, reads)))
    });
    try_all(one_in(8, points).map(|(kind, call, fault, reads)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            world.faults.insert(call, fault);
            world.then_reads_fail = reads;
            let down = matches!(fault, Fault::CrashBefore | Fault::CrashAfter | Fault::CrashLate(_) | Fault::Unreachable);
            live(&mut world, kind, if down || reads > 0 { End::Able } else { End::Exact });
        });
        (format!("{kind:?}, call {call}, {fault:?}, {reads} reads"), live)
    }));
}

#[test]
fn a_crash_at_every_write_and_a_failure_of_every_read_is_survived() {
    let points = SWEPT.into_iter().flat_map(|kind| {
        let world = counts(kind);
        let writes = (0..world.writes).flat_map(|at| [Some(WriteFault::CrashBefore), Some(WriteFault::CrashAfter)].map(|f| (at, f)));
        writes.chain((0..world.reads).map(|at| (at, None))).map(move |(at, fault)| (kind, at, fault)).collect::<Vec<_>>()
    });
    try_all(one_in(8, points).map(|(kind, at, fault)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            match fault {
                Some(fault) => drop(world.write_faults.insert(at, fault)),
                None => world.read_faults.extend(at..at + 3),
            }
            live(&mut world, kind, End::Able);
        });
        (format!("{kind:?}, {at}, {fault:?}"), live)
    }));
}

#[test]
fn an_order_may_be_deleted_after_each_call_and_before_each_pass_and_meet_a_fault() {
    let points = SWEPT.into_iter().flat_map(|kind| {
        let mut world = kind.world();
        reach(&mut world, "Active");
        let calls = (0..world.asked.len()).flat_map(|at| {
            let faults = FAULTS.into_iter().map(Some).chain([None]);
            faults.map(move |fault| (Some(at), None, fault))
        });
        let passes = (0..world.passes).map(|at| (None, Some(at), None));
        calls.chain(passes).map(move |(call, pass, fault)| (kind, call, pass, fault)).collect::<Vec<_>>()
    });
    try_all(one_in(8, points).map(|(kind, call, pass, fault): (Kind, Option<usize>, Option<usize>, Option<Fault>)| {
        let live: Box<dyn FnOnce()> = Box::new(move || {
            let mut world = kind.world();
            (world.delete_after_call, world.delete_before_pass) = (call, pass);
            if let (Some(call), Some(fault)) = (call, fault) {
                world.faults.insert(call, fault);
            }
            cut_short(&mut world);
        });
        (format!("{kind:?}, after call {call:?}, before pass {pass:?}, {fault:?}"), live)
    }));
}

/// A server of the order is found again wherever it is: with its status gone, and while a handler is not known yet.
#[test]
fn a_restored_order_finds_its_server_and_takes_no_second_one() {
    for kind in KINDS {
        for late in 0..3 {
            let mut world = kind.world();
            reach(&mut world, "Active");
            let claims = |w: &World| w.asked.iter().filter(|(_, c)| matches!(c, Call::Claim { .. })).count();
            let before = claims(&world);
            let mut raw = world.orders.remove("web").unwrap().raw;
            raw.metadata.uid = Some("u-new".into());
            raw.metadata.annotations.get_or_insert_default().insert("dci-operator.dev/order-id".into(), "u-web".into());
            raw.status = None;
            world.add(raw);
            world.restart();
            // One of the handlers comes last.
            let at = later(world.now, Duration::from_mins(20));
            world.sites.all[late].hold_back(at);
            reach(&mut world, "Active");
            assert_eq!(claims(&world), before, "{kind:?}, {late}\n{}", world.describe());
            let site = kind.end();
            let bound = world.status("web").server.as_ref().unwrap();
            assert_eq!(bound.handler, world.sites.all[site].handler.key.to_string(), "{kind:?}, {late}");
            world.delete("web");
            cut_short(&mut world);
        }
    }
}

/// The list of the first handler's panel is from before its server went back, and no later one comes.
#[test]
fn a_panel_that_goes_down_after_a_return_holds_the_order_no_more() {
    for deleted in [false, true] {
        let mut world = Kind::Failover.world();
        world.until("it goes back", Duration::from_hours(8), |w| w.status("web").server.as_ref().is_some_and(|s| s.returning.is_some()));
        let before = world.sites.all[0].inventory.clone();
        assert!(before.as_ref().is_some_and(|list| list.markers.values().any(|found| !found.is_empty())), "{}", world.describe());
        world.until("it is back", Duration::from_hours(8), |w| !w.status("web").tried_servers.is_empty());
        assert_eq!(world.status("web").tried_servers[0].handler, "hosting/a");
        (world.sites.all[0].inventory, world.sites.all[0].state) = (before, HandlerState::NotReady("down".into()));
        if deleted {
            world.delete("web");
            reach(&mut world, "gone");
            world.assert_sites_clean(&BTreeSet::new());
        } else {
            reach(&mut world, "Active");
            // The lock goes with the next list.
            world.sites.all[0].state = HandlerState::Ready;
            world.run_for(seconds(120));
            assert_active(&world, Kind::Failover, End::Exact);
        }
    }
}

/// Handlers with address managers of their own, in this order, and an order that selects among them.
fn sites<const N: usize>(sites: [(&str, i32, usize, bool); N]) -> World {
    let mut world = World::of_sites();
    for (name, priority, servers, licensed) in sites {
        world.add_site(name, priority, name, servers, |panel, spec| {
            panel.install_takes = Duration::from_mins(1);
            if licensed {
                spec["licenseServerRef"] = json!({"name": "isp"});
            }
        });
    }
    world.add(order("web", "u-web", |raw| {
        raw["spec"].as_object_mut().unwrap().remove("handlerRef");
        raw["spec"]["handlerSelector"] = json!({"namespace": "hosting", "matchLabels": {"zone": "msk"}});
        if sites.iter().any(|(.., licensed)| *licensed) {
            raw["spec"]["licenses"] = json!([{"product": "Lite"}]);
        }
    }));
    world
}

/// The order comes back without its status, as another object, and is deleted.
fn restored_and_deleted(world: &mut World) {
    let mut raw = world.orders.remove("web").unwrap().raw;
    raw.metadata.uid = Some("u-new".into());
    raw.metadata.annotations.get_or_insert_default().insert("dci-operator.dev/order-id".into(), "u-web".into());
    raw.status = None;
    world.add(raw);
    world.delete("web");
    world.restart();
}

#[test]
fn a_restored_order_is_closed_where_its_own_server_is_and_not_where_an_earlier_one_left_another() {
    for own in [0, 1] {
        let priority = |number| if number == own { 10 } else { 20 };
        let mut world = sites([("a", priority(0), 1, false), ("b", priority(1), 1, false)]);
        world.until_phase("web", "Active");
        assert_eq!(world.marked_at(), BTreeSet::from([own]));
        // The order before it was given up there.
        let other = &mut world.sites.all[1 - own].panel;
        let me = other.user(ADMIN).unwrap().id.clone();
        let left = other.server("1");
        left.owner = Some(me);
        left.notes = "k8s:cluster-1/shop/web/u-older".into();
        restored_and_deleted(&mut world);
        world.until_phase("web", "gone");
        world.assert_sites_clean(&BTreeSet::from([1 - own]));
        let left = &world.sites.all[1 - own].panel.servers["1"];
        assert!(left.owner.is_some() && left.notes.ends_with("/u-older"), "{}", world.describe());
    }
}

#[test]
fn what_one_handler_says_of_a_restored_order_is_not_believed_of_the_next() {
    let mut world = sites([("a", 10, 0, false), ("b", 20, 2, true)]);
    world.until_phase("web", "Active");
    assert_eq!(world.panel.licenses.rows.len(), 1);
    // The machine was taken out of the panel, and its addresses given back by hand; its licence goes on.
    let id = world.status("web").server.as_ref().unwrap().id.clone();
    world.sites.all[1].panel.server(&id).gone = true;
    world.panel.licenses.state = HandlerState::NotReady("down".into());
    world.sites.pools.values_mut().for_each(|pool| pool.used.retain(|used| used.note.is_empty()));
    restored_and_deleted(&mut world);
    world.run_for(Duration::from_mins(10));
    let before = world.orders["web"].writes;
    world.run_for(Duration::from_mins(30));
    assert_eq!(world.orders["web"].writes, before, "what is not at one handler is not written while another one waits");
    world.panel.licenses.state = HandlerState::Ready;
    world.until_phase("web", "gone");
    assert!(world.panel.licenses.rows.values().all(|license| license.suspended), "{}", world.describe());
}

/// While a call of one handler is in flight nothing but that call says where the order is.
#[test]
fn a_round_that_is_cut_short_at_one_handler_looks_at_the_others_all_the_same() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::LostNot, Fault::LostApplied] {
        let mut world = sites([("a", 10, 0, true), ("b", 20, 2, true)]);
        world.until_phase("web", "Active");
        // The machine was taken out of the panel; its addresses carry the order's note, and nobody knows who has them.
        let id = world.status("web").server.as_ref().unwrap().id.clone();
        world.sites.all[1].panel.server(&id).gone = true;
        let before = world.asked.len();
        restored_and_deleted(&mut world);
        world.always = Some(("suspendLicense", fault));
        let stops = |w: &World| w.asked.iter().skip(before).any(|(_, call)| call.name() == "suspendLicense");
        world.until("its licence is stopped", Duration::from_hours(1), stops);
        world.always = None;
        assert_eq!(world.asked_at.last().map(String::as_str), Some("a"), "{fault:?}");
        world.until("asked", Duration::from_hours(12), |w| !w.orders.contains_key("web") || !w.open_tasks().is_empty());
        assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{fault:?}\n{}", world.describe());
        assert!(world.orders.contains_key("web"), "{fault:?}");
        assert!(world.status("web").handler.as_deref() == Some("hosting/b"), "{fault:?}\n{}", world.describe());
        assert!(world.panel.licenses.rows.values().all(|license| license.suspended), "{fault:?}\n{}", world.describe());
        world.sites.pools.values_mut().for_each(|pool| pool.used.retain(|used| used.note.is_empty()));
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", "gone");
    }
}
