//! What tests look at in a world: the word of its order `web`, and what was done at its panel.

use std::net::IpAddr;
use std::time::Duration;

use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::order::OrderStatus;
use dci_operator::panel::model::{Level, PanelUser};

use super::seconds;
use super::world::World;

/// Why an order is Ready, or is not.
pub fn reason(status: &OrderStatus) -> &str {
    find(&status.conditions, ConditionType::Ready).map_or("", |c| c.reason.as_str())
}

/// Whether the order cannot go on by itself.
pub fn stalled(world: &World) -> bool {
    find(&world.status("web").conditions, ConditionType::Stalled).is_some()
}

/// Steps until the order says this of itself.
pub fn until_reason(world: &mut World, wanted: &str) {
    world.until(wanted, Duration::from_hours(12), |w| w.orders.get("web").is_some_and(|o| reason(&o.status) == wanted));
}

/// How often a call was made.
pub fn made(world: &World, name: &str) -> usize {
    world.panel.journal.iter().filter(|c| c.name() == name).count()
}

/// How often an address was asked for.
pub fn takes(world: &World) -> usize {
    world.asked.iter().filter(|(_, c)| c.name() == "takeAddress").count()
}

/// The note of an address that is in use.
pub fn note_of(world: &World, address: IpAddr) -> Option<String> {
    world.panel.used.iter().find(|used| used.address == address).map(|used| used.note.clone())
}

/// Everything that can be said of servers and addresses, to see that nothing was touched.
pub fn picture(world: &World) -> String {
    format!("{:?} {:?} {:?}", world.panel.servers, world.panel.used, world.panel.free)
}

/// The order has been Active for a while, at a panel with another client.
pub fn active() -> World {
    let mut world = World::simple(3, 6);
    world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world.until_phase("web", "Active");
    world.run_for(seconds(90));
    world
}
