//! What must hold in every state, and what must hold where nothing is left to do.

use stateright::{Model as _, Property};

use super::check::Protocol;
use super::world::{At, Installed, Life, Order, TWO, World, at};

/// At most one server carries an order's marker.
pub const ONE_SERVER: &str = "at most one server carries an order's marker";
/// No destructive call of one order takes effect on another's server.
pub const NO_STRAY: &str = "no destructive call of one order takes effect on another's server";
/// No destructive call without having read back the marker in the same decision.
pub const READ_BACK: &str = "a destructive call is sent only after the marker was read back";
/// The finalizer goes only after the panel showed the server free.
pub const NOT_EARLY: &str = "an order goes only when nothing carries its marker";
/// Where nothing is left to do, nothing is leaked, and every order has what it should, or waits for a reason.
pub const ENDS_WELL: &str = "at rest nothing is leaked, and every order has its server or waits for a reason";
/// Two orders never hold one server.
pub const ONE_ORDER: &str = "no server is in the status of two orders that are wanted";

/// All properties.
pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_SERVER, |_, world: &World| TWO.into_iter().all(|order| carried(world, order) <= 1)),
        Property::always(NO_STRAY, |_, world: &World| !world.harm.stray),
        Property::always(READ_BACK, |_, world: &World| !world.harm.blind),
        Property::always(NOT_EARLY, |_, world: &World| !world.harm.early),
        Property::always(ONE_ORDER, |protocol: &Protocol, world: &World| one_order(protocol, world)),
        Property::always(ENDS_WELL, |protocol: &Protocol, world: &World| !at_rest(protocol, world) || ends_well(world)),
    ]
}

/// Servers that carry the marker because the operator wrote it. What a person saved is a person's.
fn carried(world: &World, order: Order) -> usize {
    world.servers.iter().filter(|r| r.holder == Some(order) && !r.by_hand).count()
}

/// An order that is being deleted keeps the name of its server to the end, which harms nobody: its calls are other properties'.
fn one_order(_: &Protocol, world: &World) -> bool {
    let server = |object: &super::world::Object| object.status.server.filter(|_| object.life == Life::Live);
    match (server(&world.orders[0]), server(&world.orders[1])) {
        (Some(a), Some(b)) => a != b,
        (_, _) => true,
    }
}

/// Nothing that is not a fault would change anything.
pub fn at_rest(protocol: &Protocol, world: &World) -> bool {
    let busy = world.wire.iter().any(Option::is_some) || world.passes.iter().flatten().any(|p| p.at != At::Idle);
    if busy {
        return false;
    }
    let mut actions = Vec::new();
    protocol.fair(world, &mut actions);
    actions.into_iter().all(|action| protocol.next_state(world, action).is_none())
}

fn ends_well(world: &World) -> bool {
    TWO.into_iter().all(|order| {
        let object = &world.orders[at(order)];
        let status = &object.status;
        // A person had his hands on a server that the order names, carries or has locked.
        let named = |s| status.server == Some(s) || status.intent.is_some_and(|intent| intent.server == s);
        let has = |s| named(s) || world.servers[at(s)].holder == Some(order) || world.locks[at(s)] == Some(order);
        let touched = TWO.into_iter().any(|s| world.servers[at(s)].by_hand && has(s));
        match object.life {
            Life::Gone => carried(world, order) == 0 && world.locks.iter().all(|holder| *holder != Some(order) || touched),
            Life::Deleting => touched,
            Life::Live => match status.server {
                Some(server) => {
                    let mine = world.servers[at(server)].holder == Some(order);
                    (mine && status.installed == Installed::Yes) || touched
                }
                // Waiting for capacity: there is none.
                None => touched || TWO.into_iter().all(|s| !world.is_free(s)),
            },
        }
    })
}
