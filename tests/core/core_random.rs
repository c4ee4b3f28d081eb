//! Random faults and random people: whatever happens, the rules hold, and in quiet times every order gets where it wants to be.

use std::time::Duration;

use crate::support::panel::{Ipmi, Panel, Replace};
use crate::support::seconds;
use crate::support::world::{Fault, World, WriteFault, handler, order};
use dci_operator::api::condition::{ConditionType, is_true};
use dci_operator::api::task::Resolution;
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::facts::HandlerState;
use proptest::prelude::*;
use serde_json::json;

/// What people and machines do.
#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u64),
    Delete(u8),
    Edit(u8, i32, i32),
    Restart,
    Down,
    Suspend,
    Ready,
    Resolve(Resolution),
    DropTasks,
    Ipmi(u8, Ipmi),
    Replace(Replace),
    FailInstalls(usize),
    TakeServer(u8),
    PutBack(u8),
    PowerOff(u8),
    Force,
    Slot(bool),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::CrashBefore),
        Just(Fault::CrashAfter),
        (1u64..115).prop_map(|s| Fault::CrashLate(seconds(s))),
        Just(Fault::LostApplied),
        Just(Fault::LostNot),
        (1u64..115).prop_map(|s| Fault::LostLate(seconds(s))),
        Just(Fault::Refused),
        Just(Fault::Unreachable),
        Just(Fault::Touched),
        Just(Fault::Nothing),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let resolution = prop_oneof![Just(Resolution::Done), Just(Resolution::Retry), Just(Resolution::Cancelled)];
    let ipmi = prop_oneof![Just(Ipmi::Works), Just(Ipmi::Refuses), Just(Ipmi::Error), Just(Ipmi::Dead)];
    let late = (1u64..115).prop_map(|s| Replace::Later(seconds(s)));
    let replace = prop_oneof![Just(Replace::Works), late, Just(Replace::Ignored), Just(Replace::Refused)];
    prop_oneof![
        8 => (1u64..2000).prop_map(Act::Wait),
        1 => (0u8..3).prop_map(Act::Delete),
        2 => (0u8..3, 1i32..3, 0i32..2).prop_map(|(n, a, b)| Act::Edit(n, a, b)),
        1 => Just(Act::Restart),
        1 => Just(Act::Down),
        1 => Just(Act::Suspend),
        3 => Just(Act::Ready),
        3 => resolution.prop_map(Act::Resolve),
        1 => Just(Act::DropTasks),
        1 => (1u8..5, ipmi).prop_map(|(n, i)| Act::Ipmi(n, i)),
        1 => replace.prop_map(Act::Replace),
        1 => (0usize..3).prop_map(Act::FailInstalls),
        1 => (1u8..5).prop_map(Act::TakeServer),
        1 => (1u8..5).prop_map(Act::PutBack),
        1 => (1u8..5).prop_map(Act::PowerOff),
        1 => Just(Act::Force),
        1 => any::<bool>().prop_map(Act::Slot),
    ]
}

const NAMES: [&str; 3] = ["web", "api", "db"];

fn build(policy: usize) -> World {
    let handler = handler(|spec| {
        if policy & 1 != 0 {
            spec["ipmiErrorPolicy"] = json!("CreateTask");
        }
        if policy & 2 != 0 {
            spec["ipManagement"]["disableIPChange"] = json!(true);
        }
        if policy & 4 != 0 {
            spec["ipManagement"]["allocateBy"] = json!("Panel");
        }
    });
    let mut world = World::new(Panel::new(4, 12), handler);
    world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    for (n, name) in NAMES.iter().enumerate() {
        world.add(order(name, &format!("u-{name}"), |raw| {
            raw["spec"]["client"]["username"] = json!(["acme", "acme", "other"][n]);
            raw["spec"]["addresses"] = json!({"ipv4": 1 + n % 2, "ipv6": n / 2});
        }));
    }
    world
}

fn perform(world: &mut World, act: Act) {
    match act {
        Act::Wait(span) => world.run_for(seconds(span)),
        Act::Delete(n) => world.delete(NAMES[usize::from(n)]),
        Act::Edit(n, v4, v6) => {
            if world.orders.contains_key(NAMES[usize::from(n)]) {
                world.edit(NAMES[usize::from(n)], |raw| (raw.spec.addresses.ipv4, raw.spec.addresses.ipv6) = (v4, v6));
            }
        }
        Act::Restart => world.restart(),
        Act::Down => world.state = HandlerState::NotReady("down".into()),
        Act::Suspend => world.state = HandlerState::Suspended,
        Act::Ready => world.state = HandlerState::Ready,
        Act::Resolve(resolution) => {
            for task in world.tasks.iter_mut().filter(|t| t.resolution.is_none() && t.type_.takes(resolution)) {
                task.resolution = Some(resolution);
            }
        }
        Act::DropTasks => world.tasks.retain(|t| t.resolution.is_some()),
        Act::Ipmi(n, ipmi) => world.panel.server(&n.to_string()).ipmi = ipmi,
        Act::Replace(replace) => world.panel.replace = replace,
        Act::FailInstalls(n) => world.panel.installs_that_fail = n,
        Act::TakeServer(n) => {
            // A person sells a free server by hand.
            let server = world.panel.server(&n.to_string());
            if server.owner.is_none() && server.notes.is_empty() {
                server.owner = Some(UserId("7".into()));
            }
        }
        Act::PutBack(n) => {
            let server = world.panel.server(&n.to_string());
            if server.owner.as_ref().is_some_and(|o| o.0 == "7") {
                server.owner = None;
            }
        }
        Act::PowerOff(n) => {
            let server = world.panel.server(&n.to_string());
            (server.on, server.power) = (false, None);
        }
        Act::Force => NAMES.iter().for_each(|n| world.force(n)),
        Act::Slot(free) => world.slot = free,
    }
}

/// Quiet times: everything works, people answer. Then every order is Active, and after its deletion nothing is left of it.
fn come_to_rest(world: &mut World) {
    (world.faults, world.write_faults, world.read_faults) = Default::default();
    world.state = HandlerState::Ready;
    world.slot = true;
    world.panel.replace = Replace::Works;
    (world.panel.installs_that_fail, world.panel.installs_that_hang) = (0, 0);
    for server in world.panel.servers.values_mut() {
        server.ipmi = Ipmi::Works;
        server.owner = server.owner.take().filter(|o| o.0 != "7");
    }
    let settled = |w: &World| w.orders.iter().all(|(n, o)| w.phase(n) == "Active" && o.raw.metadata.deletion_timestamp.is_none());
    for deleting in [false, true] {
        if deleting {
            for name in NAMES {
                world.delete(name);
            }
        }
        for _ in 0..400 {
            if settled(world) && world.faults.is_empty() {
                break;
            }
            let stalled: Vec<String> = {
                let stuck = |o: &crate::support::world::Stored| is_true(&o.status.conditions, ConditionType::Stalled);
                world.orders.iter().filter(|(_, o)| stuck(o)).map(|(n, _)| n.clone()).collect()
            };
            for name in stalled {
                world.ask(&name);
            }
            perform(world, Act::Resolve(Resolution::Retry));
            world.run_for(seconds(120));
        }
        assert!(settled(world), "not at rest\n{}", world.describe());
        world.run_for(seconds(300));
        world.assert_quiet();
    }
    assert!(world.orders.is_empty());
    let used: Vec<_> = world.panel.used.iter().filter(|u| !u.note.is_empty()).collect();
    assert!(used.is_empty(), "notes are left: {used:?}\n{}", world.describe());
    for (id, server) in &world.panel.servers {
        assert!(server.owner.is_none() && server.notes.is_empty() && server.rows.len() == 1, "server {id}\n{}", world.describe());
        let in_use = world.panel.used.iter().filter(|u| u.address == server.main).count();
        assert_eq!(in_use, 1, "the main address of server {id} is not in use at the pool\n{}", world.describe());
    }
    let mains: std::collections::BTreeSet<_> = world.panel.servers.values().map(|s| s.main).collect();
    assert_eq!(mains.len(), world.panel.servers.len(), "an address on two servers\n{}", world.describe());
    assert!(world.locks.is_empty(), "locks are left: {:?}", world.locks);
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_order_comes_to_rest(
        policy in 0usize..8,
        acts in proptest::collection::vec(act(), 1..40),
        faults in proptest::collection::btree_map(0usize..60, fault(), 0..10),
        crashes in proptest::collection::btree_set((0usize..200, any::<bool>()), 0..6),
        reads in proptest::collection::btree_set(0usize..300, 0..10),
    ) {
        let mut world = build(policy);
        world.faults = faults;
        world.read_faults = reads;
        let crash = |before| if before { WriteFault::CrashBefore } else { WriteFault::CrashAfter };
        world.write_faults = crashes.into_iter().map(|(n, before)| (n, crash(before))).collect();
        for act in acts {
            perform(&mut world, act);
        }
        come_to_rest(&mut world);
        prop_assert!(world.now.as_second() > 0 && world.passes < 1_000_000, "{:?}", Duration::ZERO);
    }
}
