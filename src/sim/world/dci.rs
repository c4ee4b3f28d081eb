//! A server panel as a whole: its servers, its lists, and where its addresses come from.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Moment,
    addresses::AddressBase,
    parts::Part,
    refusal::Refusal,
    server::Server,
    users::{User, Users},
};
use crate::sim::config::{DciBehaviour, Durations, Invented, RecipeConfig, ReleasePolicy, TemplateConfig};

/// Where a panel takes its addresses from (section 2.5, "source of addresses").
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Its own base.
    Own,
    /// The address manager with this place in the world, as this user there.
    Ipmanager { index: usize, user: String },
}

/// A server type.
#[derive(Debug, Clone)]
pub(crate) struct ServerType {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) os: Option<Vec<String>>,
}

/// A rack; each has one switch and one PDU.
#[derive(Debug, Clone)]
pub(crate) struct Rack {
    pub(crate) id: u64,
    pub(crate) name: String,
}

/// A row whose address is going to be another one.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    pub(crate) due: Moment,
    pub(crate) server: u64,
    pub(crate) row: u64,
    pub(crate) domain: Option<String>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) any_of: Option<String>,
}

/// The last ids that were given out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    pub(crate) server: u64,
    pub(crate) row: u64,
    pub(crate) connection: u64,
}

/// A server panel: section 2 of the facts.
#[derive(Debug, Clone)]
pub(crate) struct Dci {
    pub(crate) name: String,
    pub(crate) users: Users,
    pub(crate) servers: BTreeMap<u64, Server>,
    pub(crate) types: Vec<ServerType>,
    pub(crate) racks: Vec<Rack>,
    /// What the ids of components stand for.
    pub(crate) parts: Vec<Part>,
    pub(crate) templates: Vec<TemplateConfig>,
    pub(crate) recipes: Vec<RecipeConfig>,
    pub(crate) base: AddressBase,
    pub(crate) source: Source,
    pub(crate) durations: Durations,
    pub(crate) behaviour: DciBehaviour,
    pub(crate) release: ReleasePolicy,
    pub(crate) invented: Invented,
    pub(crate) ids: Ids,
    pub(crate) replacements: Vec<Replacement>,
}

impl Dci {
    /// Lets time pass on all servers.
    pub(crate) fn advance(&mut self, now: Moment) {
        for server in self.servers.values_mut() {
            server.advance(now);
        }
    }

    /// The replacements whose time has come.
    pub(crate) fn take_due(&mut self, now: Moment) -> Vec<Replacement> {
        let (due, left) = std::mem::take(&mut self.replacements).into_iter().partition(|replacement| replacement.due <= now);
        self.replacements = left;
        due
    }

    /// One server.
    pub(crate) fn server(&self, id: u64) -> Result<&Server, Refusal> {
        self.servers.get(&id).ok_or_else(|| Refusal::missed("server", &id.to_string()))
    }

    /// One server, to change it.
    pub(crate) fn server_mut(&mut self, id: u64) -> Result<&mut Server, Refusal> {
        self.servers.get_mut(&id).ok_or_else(|| Refusal::missed("server", &id.to_string()))
    }

    /// The server that a caller names, if the caller may see it: administrators see all, users their own.
    pub(crate) fn visible(&self, elid: &str, user: &User) -> Result<u64, Refusal> {
        let id = elid.trim().parse().map_err(|_| Refusal::missed("server", elid))?;
        let server = self.server(id)?;
        if user.is_admin() || server.owner == Some(user.id) { Ok(id) } else { Err(Refusal::missed("server", elid)) }
    }

    /// The name of a server's owner.
    pub(crate) fn owner_name(&self, server: &Server) -> Option<&str> {
        let owner = self.users.get(server.owner?)?;
        Some(&owner.name)
    }

    /// The type of a server.
    pub(crate) fn type_named(&self, name: &str) -> Option<&ServerType> {
        self.types.iter().find(|kind| kind.name == name)
    }

    pub(crate) fn next_row_id(&mut self) -> u64 {
        self.ids.row += 1;
        self.ids.row
    }

    pub(crate) fn next_connection_id(&mut self) -> u64 {
        self.ids.connection += 1;
        self.ids.connection
    }

    /// Removes a server, as a person at the panel does.
    pub(crate) fn delete_server(&mut self, id: u64) -> Result<Server, Refusal> {
        self.servers.remove(&id).ok_or_else(|| Refusal::missed("server", &id.to_string()))
    }
}
