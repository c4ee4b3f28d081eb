//! Changes of an Active order: suspended and resumed, reinstalled, given a rotated password. Each costs exactly the calls it needs,
//! and waits its turn. That each survives every fault is in `core_changes_crash`.
//!
//! Here are what the modules share, and what holds between changes of different kinds.

#[path = "core_changes/reinstallation.rs"]
mod reinstallation;
#[path = "core_changes/rotation.rs"]
mod rotation;
#[path = "core_changes/suspension.rs"]
mod suspension;
#[path = "core_changes/turns.rs"]
mod turns;

use std::time::Duration;

use crate::support::changes::{assert_suspended, reinstall, settled, suspend};
use crate::support::look::{made, until_reason};
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_active};
use crate::support::world::World;
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::provisioning::facts::HandlerState;

fn reason(world: &World) -> &str {
    find(&world.status("web").conditions, ConditionType::Ready).map_or("", |c| c.reason.as_str())
}

/// The names of the calls since a point, in order.
fn since(world: &World, at: usize) -> Vec<&'static str> {
    world.asked[at..].iter().map(|(_, call)| call.name()).collect()
}

/// The order is at rest with what its spec says now.
fn until_settled(world: &mut World) {
    let generation = world.orders["web"].raw.metadata.generation;
    world.until("settled", Duration::from_hours(12), |w| {
        w.status("web").observed_generation == generation && matches!(w.phase("web"), "Active" | "Suspended")
    });
}

#[test]
fn what_changes_back_before_it_was_acted_upon_costs_nothing() {
    let mut world = settled();
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
fn a_change_waits_its_turn() {
    // While the system is being installed again everything else waits; while the service is being suspended, too.
    let mut world = settled();
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
    assert_eq!(calls, ["setDomain", "takeAddress", "addAddress", "setAddressDomain", "disable", "powerOff"]);
    let at = world.asked.len();
    suspend(&mut world, false);
    world.until("enabled", seconds(600), |w| w.asked.len() > at);
    world.edit("web", |raw| (raw.spec.domain, raw.spec.reinstall) = ("b.example.net".into(), "third".into()));
    until_settled(&mut world);
    assert_eq!(since(&world, at), ["enable", "powerOn", "setDomain", "setDomain", "setAddressDomain", "setAddressDomain", "install"]);
    world.assert_quiet();
}
