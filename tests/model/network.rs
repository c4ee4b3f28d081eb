//! The network between operator and panel: it delays, loses and doubles requests, and loses answers.

use super::panel;
use super::rules::Rules;
use super::world::{Answer, At, Message, Outcome, WIRE, World, at};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Takes effect, and the answer arrives.
    Arrive,
    /// Takes effect, and the answer is lost.
    LoseAnswer,
    /// Is lost.
    Lose,
    /// Its sender stops waiting; it is still on its way.
    Late,
    /// A proxy sends it twice.
    Double,
}

const FATES: [Fate; 5] = [Fate::Arrive, Fate::LoseAnswer, Fate::Lose, Fate::Late, Fate::Double];

/// Puts a request on the wire; `false` when there is no room.
pub fn send(world: &mut World, message: Message) -> bool {
    let room = world.wire.iter_mut().find(|m| m.is_none());
    match room {
        Some(place) => {
            *place = Some(message);
            true
        }
        None => false,
    }
}

/// What may become of each request now.
pub fn fates(rules: &Rules, world: &World, found: &mut Vec<(u8, Fate)>) {
    for place in 0..WIRE {
        let Some(message) = world.wire[place] else { continue };
        for fate in FATES {
            let possible = match fate {
                // Unless assumed otherwise, what a proxy sends twice lands twice before its one answer.
                Fate::Arrive => message.waiter.is_none() || !rules.assume.no_late_copy || !has_copy(world, &message),
                Fate::LoseAnswer | Fate::Late => world.faults.losses > 0 && message.waiter.is_some(),
                Fate::Lose => world.faults.losses > 0 || message.copy,
                Fate::Double => world.faults.copies > 0 && message.waiter.is_some() && world.wire.contains(&None),
            };
            if possible {
                found.push((u8::try_from(place).unwrap_or(0), fate));
            }
        }
    }
}

fn has_copy(world: &World, original: &Message) -> bool {
    world.wire.iter().flatten().any(|m| m.copy && (m.order, m.kind, m.server) == (original.order, original.kind, original.server))
}

/// It happens.
pub fn happen(world: &mut World, place: u8, fate: Fate) {
    let Some(message) = world.wire[at(place)] else { return };
    let fault = match fate {
        Fate::Arrive => {
            world.wire[at(place)] = None;
            panel::apply(world, &message);
            answer(world, &message, true);
            false
        }
        Fate::LoseAnswer => {
            world.wire[at(place)] = None;
            panel::apply(world, &message);
            answer(world, &message, false);
            true
        }
        Fate::Lose => {
            world.wire[at(place)] = None;
            answer(world, &message, false);
            !message.copy
        }
        Fate::Late => {
            world.wire[at(place)] = Some(Message { waiter: None, ..message });
            answer(world, &message, false);
            true
        }
        Fate::Double => {
            send(world, Message { waiter: None, copy: true, ..message });
            world.faults.copies -= 1;
            false
        }
    };
    if fault {
        world.faults.losses -= 1;
    }
}

/// The sender hears of it, or hears nothing in time (`note_lost_answer`).
fn answer(world: &mut World, message: &Message, arrives: bool) {
    let Some(replica) = message.waiter else { return };
    let pass = world.pass(replica, message.order);
    pass.at = At::Decide;
    if arrives {
        pass.answer = Answer::Applied(message.kind);
        return;
    }
    pass.answer = Answer::None;
    pass.own = false;
    if let Some(intent) = pass.status.intent.as_mut() {
        intent.outcome = Outcome::Ambiguous(0);
    }
}
