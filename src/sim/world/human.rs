//! What a person at the panel, at the rack, or with the database does behind the callers' backs.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

use super::{Moment, World, addresses::Taken, build::add_servers, edit::is_plain_field, iplist::RowChange, refusal::Refusal};
use crate::sim::config::{Flag, IpmiHealth, PowerState, Script, ServerConfig};

/// What a person changes of a server; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerChange {
    pub(crate) panel: Option<String>,
    /// The name of a user; empty takes the owner away.
    pub(crate) owner: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) notes: Option<String>,
    #[serde(rename = "type")]
    pub(crate) server_type: Option<String>,
    pub(crate) power: Option<PowerState>,
    pub(crate) ipmi: Option<IpmiHealth>,
    pub(crate) flags: BTreeMap<Flag, bool>,
    /// Fields of the form: a department changes parts. `null` takes one out.
    pub(crate) hardware: BTreeMap<String, String>,
    /// Put another address into the place of the main one.
    pub(crate) ip: Option<IpAddr>,
    /// What the following operations will do.
    pub(crate) operations: Option<Vec<Script>>,
    /// End the running operation now: `true` as it should, `false` as failed.
    pub(crate) finish_operation: Option<bool>,
    /// Cancel the running operation, at the panel.
    pub(crate) cancel_operation: bool,
    pub(crate) delete: bool,
}

/// What a person changes of the users.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    #[serde(default)]
    pub(crate) panel: Option<String>,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) password: Option<String>,
    #[serde(default)]
    pub(crate) level: Option<u8>,
    #[serde(default)]
    pub(crate) delete: bool,
}

/// What a person changes of the addresses of an address manager.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressChange {
    #[serde(default)]
    pub(crate) panel: Option<String>,
    pub(crate) ip: IpAddr,
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) holder: Option<String>,
    #[serde(default)]
    pub(crate) domain: Option<String>,
    #[serde(default)]
    pub(crate) note: Option<String>,
    #[serde(default)]
    pub(crate) delete: bool,
}

impl World {
    /// A person changes a server.
    pub(crate) fn human_server(&mut self, dci: usize, id: u64, change: &ServerChange, now: Moment) -> Result<(), Refusal> {
        if change.delete {
            let server = self.dci[dci].delete_server(id)?;
            for row in server.rows {
                self.give_back(dci, id, row.ip);
            }
            return Ok(());
        }
        let panel = &mut self.dci[dci];
        let owner = match change.owner.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(name) => Some(Some(panel.users.named(name).ok_or_else(|| Refusal::value("owner", name))?.id)),
        };
        if let Some(kind) = change.server_type.as_deref()
            && !kind.is_empty()
            && panel.type_named(kind).is_none()
        {
            return Err(Refusal::value("type", kind));
        }
        if let Some(field) = change.hardware.keys().find(|field| !is_plain_field(field)) {
            return Err(Refusal::value("hardware", field));
        }
        let hardware: Vec<(String, String)> =
            change.hardware.iter().map(|(field, value)| (field.clone(), panel.field_of(field, value))).collect();
        let server = panel.server_mut(id)?;
        server.form.extend(hardware);
        let was_released = server.is_released();
        if let Some(done) = change.finish_operation
            && let Some(operation) = &mut server.operation
        {
            operation.finish(now, done);
            server.settle_operation(now);
        }
        if change.cancel_operation {
            server.operation = None;
        }
        if let Some(owner) = owner {
            server.owner = owner;
        }
        for (from, to) in [
            (&change.name, &mut server.name),
            (&change.mac, &mut server.mac),
            (&change.notes, &mut server.notes),
            (&change.server_type, &mut server.type_name),
        ] {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
        if let Some(power) = change.power {
            server.power.force(power == PowerState::On);
        }
        if let Some(ipmi) = change.ipmi {
            server.power.set_ipmi(ipmi);
        }
        for (flag, set) in &change.flags {
            server.marks.set(*flag, *set);
        }
        if let Some(scripts) = &change.operations {
            server.scripts = scripts.clone().into();
        }
        let row = server.rows.first().map(|row| row.id);
        if let Some(row) = row {
            if let Some(ip) = change.ip {
                let old = std::mem::replace(&mut self.dci[dci].server_mut(id)?.rows[0].ip, ip);
                self.give_back(dci, id, old);
            }
            let domain = change.hostname.as_deref();
            self.change_row(dci, id, row, RowChange { domain, ..RowChange::default() }, now)?;
        }
        self.dci[dci].after_change(id, was_released, now);
        Ok(())
    }

    /// A person adds servers.
    pub(crate) fn human_add_servers(&mut self, dci: usize, entry: &ServerConfig) -> Result<Vec<u64>, String> {
        add_servers(&mut self.dci[dci], dci, entry)
    }

    /// A person changes an address of an address manager.
    pub(crate) fn human_address(&mut self, ipm: usize, change: &AddressChange) -> Result<(), Refusal> {
        let panel = &mut self.ipm[ipm];
        if change.delete {
            let removed = panel.base.taken.remove(&change.ip);
            return removed.map(|_| ()).ok_or_else(|| Refusal::missed("ip", &change.ip.to_string()));
        }
        if let Some(holder) = &change.holder
            && panel.users.named(holder).is_none()
        {
            return Err(Refusal::value("holder", holder));
        }
        let group = panel.base.group_of(change.ip).map_or_else(String::new, |group| group.name.clone());
        let taken = panel.base.taken.entry(change.ip).or_insert_with(|| Taken {
            group,
            holder: String::new(),
            domain: String::new(),
            note: String::new(),
        });
        for (from, to) in [
            (&change.group, &mut taken.group),
            (&change.holder, &mut taken.holder),
            (&change.domain, &mut taken.domain),
            (&change.note, &mut taken.note),
        ] {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
        Ok(())
    }
}
