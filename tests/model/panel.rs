//! The panel: no idempotency, no compare-and-swap; an edit writes the whole form that was read before, and the last writer wins.

use super::rules::Rules;
use super::world::{Kind, Message, Order, Owner, Record, World, at};

/// Whether a form says that the server is this order's, and nobody took it (`marker::find_in`, `somebody_elses`).
///
/// Without a marker nothing but the owner is left to go by.
pub fn ours(rules: &Rules, record: &Record, order: Order) -> bool {
    let marked = if rules.safe.marker { record.holder == Some(order) } else { true };
    marked && record.owner == Owner::Operator
}

/// Whether the notes show the order's marker, whoever owns the server.
pub fn marked(rules: &Rules, record: &Record, order: Order) -> bool {
    if rules.safe.marker { record.holder == Some(order) } else { record.owner == Owner::Operator }
}

/// A request takes effect.
pub fn apply(world: &mut World, message: &Message) {
    let record = world.servers[at(message.server)];
    // A marker that a person put there, or back there, protects nobody.
    let theirs = !record.by_hand && record.holder.is_some_and(|holder| holder != message.order);
    if message.kind.destructive() && theirs {
        world.harm.stray = true;
    }
    // An edit sends the whole form back, so that whatever stood there is overwritten.
    world.servers[at(message.server)] = match message.kind {
        Kind::Claim => Record { owner: Owner::Operator, holder: Some(message.order), by_hand: false, installed: false, ..record },
        Kind::Release => Record { owner: Owner::Nobody, holder: None, by_hand: false, installed: false, ..record },
        Kind::Install => Record { installed: true, on: true, ..record },
        Kind::PowerOff => Record { on: false, ..record },
    };
}
