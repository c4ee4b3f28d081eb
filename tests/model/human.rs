//! A person: deletes orders, and works at the panel with forms that may be old by the time they are saved.

use super::rules::Rules;
use super::world::{Life, OpenForm, Order, Owner, Record, Server, TWO, World, at};

/// What a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// `kubectl delete`.
    Delete(Order),
    /// Opens the form of a server.
    Open(Server),
    /// Saves the open form as it was when it was opened: some other field was meant.
    SaveAsSeen,
    /// Gives a server to a client of theirs, with empty notes.
    Give(Server),
    /// Sets a server free, with empty notes.
    SetFree(Server),
    /// Keeps a server for maintenance under the operator's own account, with empty notes.
    Keep(Server),
    /// Switches a server off.
    SwitchOff(Server),
}

/// What a person may do now.
pub fn acts(rules: &Rules, world: &World, found: &mut Vec<Act>) {
    if world.faults.deletions > 0 {
        found.extend(TWO.into_iter().filter(|o| world.orders[at(*o)].life == Life::Live).map(Act::Delete));
    }
    if world.open.is_some() {
        found.push(Act::SaveAsSeen);
    }
    if world.faults.hands > 0 {
        for server in TWO {
            found.extend([Act::Give(server), Act::SetFree(server), Act::Keep(server)]);
            if world.open.is_none() {
                found.push(Act::Open(server));
            }
        }
    }
    if world.faults.hands > 0 && !rules.assume.no_hand_on_power {
        found.extend(TWO.into_iter().filter(|s| world.servers[at(*s)].on).map(Act::SwitchOff));
    }
}

/// It is done.
pub fn act(world: &mut World, act: Act) {
    match act {
        Act::Delete(order) => {
            world.faults.deletions -= 1;
            let elapsed = world.orders[at(order)].elapsed;
            world.orders[at(order)].life = Life::Deleting;
            world.wrote(order, None);
            // Only a write of the intent begins its time anew.
            world.orders[at(order)].elapsed = elapsed;
        }
        Act::Open(server) => {
            world.faults.hands -= 1;
            world.open = Some(OpenForm { server, form: world.servers[at(server)] });
        }
        Act::SaveAsSeen => {
            if let Some(OpenForm { server, form }) = world.open.take() {
                write(world, server, form.owner, form.holder);
            }
        }
        Act::Give(server) => set_owner(world, server, Owner::Stranger),
        Act::SetFree(server) => set_owner(world, server, Owner::Nobody),
        Act::Keep(server) => set_owner(world, server, Owner::Operator),
        Act::SwitchOff(server) => {
            world.faults.hands -= 1;
            world.servers[at(server)].on = false;
        }
    }
}

fn set_owner(world: &mut World, server: Server, owner: Owner) {
    world.faults.hands -= 1;
    write(world, server, owner, None);
}

fn write(world: &mut World, server: Server, owner: Owner, holder: Option<Order>) {
    let record = world.servers[at(server)];
    if (record.owner, record.holder) != (owner, holder) {
        world.servers[at(server)] = Record { owner, holder, by_hand: true, ..record };
    }
}
