//! One physical machine as a server panel knows it: sections 2.1 and 2.2 of the facts.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

use super::{Form, Moment, connections::Connection, operation::Operation, power::Power};
use crate::sim::config::{Flag, Script};

/// The domain of a server that nobody has (section 0, fact 3).
pub(crate) const FREE_DOMAIN: &str = "free.ds";

/// One row of a server's addresses (section 2.5).
#[derive(Debug, Clone)]
pub(crate) struct IpRow {
    pub(crate) id: u64,
    pub(crate) ip: IpAddr,
    pub(crate) domain: String,
    pub(crate) group: String,
}

/// What is on the disks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Installed {
    pub(crate) template: String,
    /// The template that was chosen last, whatever became of it.
    pub(crate) chosen: String,
    /// The recipe that has run, when one has.
    pub(crate) recipe: String,
    /// How many systems have been installed on this server so far.
    pub(crate) times: u64,
    /// Whether the disks hold somebody's data.
    pub(crate) data: bool,
    /// The recipes that have run on this system, in turn.
    pub(crate) recipes: Vec<String>,
    /// The SHA-256 of the root password, in hexadecimal digits.
    pub(crate) password: String,
    /// Whether the disks will be cleaned when the server becomes free, whatever the panel's policy is.
    pub(crate) to_be_cleaned: bool,
}

/// What a person or the panel has marked a server with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks(BTreeSet<Flag>);

impl Marks {
    /// Whether the server has the mark.
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.0.contains(&flag)
    }

    /// Sets or takes away a mark.
    pub(crate) fn set(&mut self, flag: Flag, marked: bool) {
        if marked {
            self.0.insert(flag);
        } else {
            self.0.remove(&flag);
        }
    }
}

/// One physical machine.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) notes: String,
    /// The id of a user.
    pub(crate) owner: Option<u64>,
    /// The name of a server type, or nothing.
    pub(crate) type_name: String,
    /// All other fields of the form: `rack`, `unit`, `cpu_0`, ...
    pub(crate) form: Form,
    pub(crate) marks: Marks,
    /// The first row is the main address.
    pub(crate) rows: Vec<IpRow>,
    pub(crate) power: Power,
    pub(crate) operation: Option<Operation>,
    pub(crate) installed: Installed,
    pub(crate) connections: Vec<Connection>,
    pub(crate) scripts: VecDeque<Script>,
}

impl Server {
    /// The domain of the main address.
    pub(crate) fn hostname(&self) -> &str {
        self.rows.first().map_or("", |row| row.domain.as_str())
    }

    /// The main address.
    pub(crate) fn main_ip(&self) -> Option<IpAddr> {
        self.rows.first().map(|row| row.ip)
    }

    /// Whether it is to be had: no owner and the domain `free.ds` (section 0, fact 3).
    pub(crate) fn is_released(&self) -> bool {
        self.owner.is_none() && self.hostname() == FREE_DOMAIN
    }

    /// Settles everything that has happened by itself up to `now`.
    pub(crate) fn advance(&mut self, now: Moment) {
        self.settle_operation(now);
        self.power.settle(now);
        for connection in &mut self.connections {
            connection.settle(now);
        }
    }
}
