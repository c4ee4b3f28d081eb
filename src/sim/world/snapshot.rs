//! The whole world as JSON, for people and tests that look at it.

use serde_json::{Map, Value, json};

use super::{
    Ipm, Moment, World,
    addresses::{AddressBase, Family},
    bill::Bill,
    dci::Dci,
    invented::digest,
    server::Server,
};
use crate::sim::config::{Flag, IpmiHealth, TemplateKind};

impl World {
    /// All panels by name.
    pub(crate) fn snapshot(&self, now: Moment) -> Map<String, Value> {
        let mut panels = Map::new();
        for dci in &self.dci {
            panels.insert(dci.name.clone(), dci.snapshot(now));
        }
        for ipm in &self.ipm {
            panels.insert(ipm.name.clone(), ipm.snapshot());
        }
        for bill in &self.bill {
            panels.insert(bill.name.clone(), bill.snapshot(now));
        }
        panels
    }
}

impl Dci {
    fn snapshot(&self, now: Moment) -> Value {
        let servers: Vec<Value> = self.servers.values().map(|server| self.server_snapshot(server, now)).collect();
        json!({
            "kind": "DCImanager5",
            "users": users(&self.users),
            "servers": servers,
            "addresses": addresses(&self.base),
        })
    }

    /// One server.
    pub(crate) fn server_snapshot(&self, server: &Server, now: Moment) -> Value {
        let rows: Vec<Value> = server
            .rows
            .iter()
            .enumerate()
            .map(|(place, row)| {
                json!({"id": row.id.to_string(), "ip": row.ip, "domain": row.domain, "group": row.group,
                       "main": place == 0})
            })
            .collect();
        let connections: Vec<Value> = server
            .connections
            .iter()
            .map(|connection| {
                json!({"id": connection.id.to_string(), "type": connection.kind.word(), "ip": connection.ip,
                       "port": connection.port, "on": connection.on, "switching": connection.change.is_some()})
            })
            .collect();
        let operation = server.operation.as_ref().map(|operation| {
            let kind = match operation.kind {
                TemplateKind::Os if operation.recipe_alone => "recipe",
                TemplateKind::Os => "install",
                TemplateKind::Diag => "diag",
                TemplateKind::Rescue => "rescue",
            };
            json!({"kind": kind, "template": operation.template, "recipe": operation.recipe,
                   "progress": operation.progress(now)})
        });
        json!({
            "id": server.id.to_string(),
            "name": server.name,
            "mac": server.mac,
            "notes": server.notes,
            "owner": self.owner_name(server),
            "type": server.type_name,
            "hostname": server.hostname(),
            "ip": server.main_ip(),
            "ips": rows,
            "power": if server.power.on { "on" } else { "off" },
            "powerFlag": server.power.flag(&self.behaviour, now).word(),
            "ipmi": match server.power.ipmi { IpmiHealth::Alive => "alive", IpmiHealth::Dead => "dead" },
            "flags": {
                "hwproblem": server.marks.has(Flag::Hwproblem),
                "blocked": server.marks.has(Flag::Blocked),
                "disabled": server.marks.has(Flag::Disabled),
                "operation_failed": server.marks.has(Flag::OperationFailed),
                "install_in_progress": server.operation.as_ref().is_some_and(|op| op.kind != TemplateKind::Diag),
                "diag_in_progress": server.operation.as_ref().is_some_and(|op| op.kind == TemplateKind::Diag),
            },
            "operation": operation,
            "installed": {
                "template": server.installed.template,
                "recipe": server.installed.recipe,
                "times": server.installed.times,
                "data": server.installed.data,
            },
            // Tells of the functions that are made up for tests.
            "invented": {
                "recipes": server.installed.recipes,
                "passwordSha256": server.installed.password,
                "toBeCleaned": server.installed.to_be_cleaned,
            },
            "connections": connections,
            "form": server.form,
            "hardware": self.hardware(server),
        })
    }
}

impl Ipm {
    fn snapshot(&self) -> Value {
        json!({"kind": "IPmanager5", "users": users(&self.users), "addresses": addresses(&self.base)})
    }
}

impl Bill {
    fn snapshot(&self, now: Moment) -> Value {
        let licenses: Vec<Value> = self
            .licenses
            .values()
            .map(|l| {
                json!({"id": l.id.to_string(), "owner": l.owner, "pricelist": l.pricelist, "addons": l.addons, "project": l.project,
                       "name": l.name, "ip": l.ip, "remoteId": l.remote_id, "status": l.status.number(), "key": l.key(now),
                       "expires": l.expires.to_string(), "renewals": l.renewals})
            })
            .collect();
        json!({"kind": "BILLmanager6", "users": users(&self.users), "licenses": licenses})
    }
}

fn users(users: &super::users::Users) -> Vec<Value> {
    // A digest, so that whoever looks sees a password change and nobody sees it.
    let user = |user: &super::users::User| json!({"id": user.id.to_string(), "name": user.name, "level": user.level, "passwordSha256": digest(&user.password)});
    users.iter().map(user).collect()
}

fn addresses(base: &AddressBase) -> Vec<Value> {
    base.taken
        .iter()
        .map(|(ip, taken)| {
            json!({"ip": ip, "family": Family::of(*ip).word(), "group": taken.group, "holder": taken.holder,
                   "domain": taken.domain, "note": taken.note})
        })
        .collect()
}
