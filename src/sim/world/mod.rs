//! What the simulated panels know and the rules by which it changes: no HTTP, no clock of its own.
//!
//! Every rule is given the moment at which it applies, so that time may be paused, and state that changes by itself
//! (power, installation, switching) is settled from its time stamps when somebody looks.

pub(crate) mod addresses;
pub(crate) mod bill;
pub(crate) mod build;
pub(crate) mod connections;
pub(crate) mod dci;
pub(crate) mod edit;
pub(crate) mod human;
pub(crate) mod invented;
pub(crate) mod iplist;
pub(crate) mod operation;
pub(crate) mod parts;
pub(crate) mod power;
pub(crate) mod refusal;
pub(crate) mod server;
pub(crate) mod snapshot;
pub(crate) mod users;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use self::{addresses::AddressBase, bill::Bill, dci::Dci, users::Users};

/// A point in simulated time: how long after the start of the simulator.
pub(crate) type Moment = Duration;

/// The fields of a form as a caller sent them.
pub(crate) type Form = BTreeMap<String, String>;

/// An address manager: section 4.1 of the facts.
#[derive(Debug, Clone)]
pub(crate) struct Ipm {
    pub(crate) name: String,
    pub(crate) users: Users,
    pub(crate) base: AddressBase,
    pub(crate) behaviour: super::config::IpmBehaviour,
}

/// Everything that exists.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) dci: Vec<Dci>,
    pub(crate) ipm: Vec<Ipm>,
    pub(crate) bill: Vec<Bill>,
}

impl World {
    /// Lets time pass on all panels up to `now`.
    pub(crate) fn advance(&mut self, now: Moment) {
        for dci in &mut self.dci {
            dci.advance(now);
        }
        for dci in 0..self.dci.len() {
            for replacement in self.dci[dci].take_due(now) {
                self.replace(dci, &replacement);
            }
        }
    }
}
