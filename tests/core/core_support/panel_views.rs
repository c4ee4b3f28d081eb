//! What the panel in memory shows the operator's user: the list of servers, the forms, the connections, and the users.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dci_operator::panel::error::PanelError;
use dci_operator::panel::model::{
    Connection, InstallForm, Level, PanelUser, PowerFlags, ServerFlags, ServerForm, ServerId, ServerRow, UserId,
};
use jiff::Timestamp;

use super::panel::{ADMIN, Ipmi, Panel, Server, refused};

impl Panel {
    /// Another level for the operator's user, from this moment on.
    pub fn set_level(&mut self, level: Level) {
        self.users.iter_mut().filter(|u| u.name == ADMIN).for_each(|u| u.level = level);
    }

    fn is_ordinary(&self) -> bool {
        self.user(ADMIN).is_some_and(|me| me.level == Level::User)
    }

    /// Administrators are shown all servers that there are, others their own.
    fn shows(&self, server: &Server) -> bool {
        !server.gone && (!self.is_ordinary() || server.owner.as_ref() == self.user(ADMIN).map(|me| &me.id))
    }

    /// The list of users.
    pub fn list_users(&self) -> Result<Vec<PanelUser>, PanelError> {
        if self.users_incomplete {
            return Err(PanelError::Incomplete { panel: "dci".into(), func: "user".into(), what: "rows that a filter hides".into() });
        }
        match (self.is_ordinary(), self.hides_users) {
            (false, _) => Ok(self.users.clone()),
            (true, true) => Err(refused("access", "user")),
            (true, false) => Ok(self.user(ADMIN).into_iter().cloned().collect()),
        }
    }

    /// The list of servers.
    pub fn list(&self) -> BTreeMap<String, ServerRow> {
        let shown = self.servers.iter().filter(|(_, s)| self.shows(s));
        shown
            .map(|(id, s)| {
                let domain = s.rows.iter().find(|r| r.address == s.main).map(|r| r.domain.clone());
                let flags = ServerFlags { disabled: s.disabled, operation_failed: s.failed, ..ServerFlags::default() };
                let error = s.ipmi == Ipmi::Error;
                let row = ServerRow {
                    id: ServerId(id.clone()),
                    name: format!("R1-{id}"),
                    hostname: domain.unwrap_or_default(),
                    main_address: Some(s.main),
                    mac: Some(format!("00:00:00:00:00:{id}")),
                    owner: s.owner.as_ref().map(|o| self.user_name(o)),
                    types: s.kind.split(", ").map(str::to_owned).collect(),
                    names: vec![s.kind.clone()],
                    power: PowerFlags { on: s.on && !self.power_hidden, off: !s.on && !self.power_hidden, error },
                    flags,
                    install: s.operation.as_ref().filter(|o| o.shown).map(|_| "Installing: 42%".into()),
                    description: String::new(),
                };
                (id.clone(), row)
            })
            .collect()
    }

    /// Owners of servers who are neither these nor ordinary users: administrators, and those whom no user is.
    pub fn strangers(&self, known: &[UserId]) -> BTreeSet<UserId> {
        let ordinary = |id: &UserId| self.users.iter().any(|user| user.id == *id && user.level == Level::User);
        let owners = self.servers.values().filter(|s| !s.gone).filter_map(|s| s.owner.clone());
        owners.filter(|owner| !known.contains(owner) && !ordinary(owner)).collect()
    }

    /// A server, where our user is shown it.
    pub fn shown(&self, id: &ServerId) -> Option<&Server> {
        self.servers.get(&id.0).filter(|s| self.shows(s))
    }

    /// Whether a server has an address.
    pub fn stands_on(&self, id: &ServerId, address: IpAddr) -> bool {
        self.servers.get(&id.0).is_some_and(|s| s.main == address || s.rows.iter().any(|row| row.address == address))
    }

    pub fn form(&self, id: &ServerId) -> Option<ServerForm> {
        let s = self.shown(id).filter(|_| !self.forms_missed.contains(&id.0))?;
        let owner = s.owner.as_ref().map(|o| o.0.clone());
        Some(ServerForm { owner, notes: s.notes.clone(), hostname: None, disabled: s.disabled, parts: s.parts.clone() })
    }

    pub fn install_form(&self, id: &ServerId, now: Timestamp) -> InstallForm {
        let current = self.servers.get(&id.0).filter(|_| self.forms_name_any).and_then(|s| match &s.named {
            _ if self.forms_name_what_was_chosen && s.chosen.is_some() => s.chosen.clone(),
            Some((until, before)) if now < *until => before.clone(),
            Some(_) | None => s.template.clone(),
        });
        let templates = self.templates_of.get(&id.0).cloned().unwrap_or_else(|| self.templates.clone());
        InstallForm { current, shows_current: self.forms_name_any, templates, recipes: self.recipes.clone(), tags: self.tags.clone() }
    }

    pub fn connections(&self, id: &ServerId, now: Timestamp) -> Vec<Connection> {
        let Some(server) = self.servers.get(&id.0) else { return Vec::new() };
        let busy = server.busy_until.is_some_and(|at| now < at) || server.port_change.is_some();
        let on = self.ports_show.then_some(server.port);
        let first = "1".to_owned();
        let switched = [&first].into_iter().chain(&self.more_ports);
        let switched = switched.map(|id| Connection { id: id.clone(), kind: "Switch".into(), busy, on });
        switched.chain([Connection { id: "2".into(), kind: "IPMI".into(), busy: false, on: None }]).collect()
    }
}
