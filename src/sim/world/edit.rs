//! The form of a server: what it shows, and what a modifying call does to fields that it leaves out. Sections 1.3 and
//! 2.2 of the facts.

use super::{
    Form, Moment, World,
    addresses::Family,
    dci::Dci,
    iplist::{NewAddress, RowChange},
    parts::COMPONENTS,
    power::Power,
    refusal::Refusal,
    server::{Installed, Marks, Server},
};
use crate::sim::config::{ConnectionKind, Flag, IpmiHealth, Omitted};

/// "Nobody" in a form (section 1.3).
pub(crate) const NO_OWNER: &str = "no_owner";
/// "Nothing selected" in a form (section 1.3).
pub(crate) const NULL: &str = "null";

/// The plain fields of the form, each with what an omitted one becomes.
fn plain_fields() -> Vec<(String, &'static str)> {
    let mut fields: Vec<(String, &'static str)> = [
        ("rack", NULL),
        ("unit", ""),
        ("unit2", ""),
        ("srvtypesize2", ""),
        ("sizefromtype2", "off"),
        ("srvsize2", ""),
        ("is_blade2", ""),
        ("is_multinode2", ""),
        ("parent_chassis", NO_OWNER),
        ("blade_slot", ""),
        ("chassis_ram", ""),
        ("cpu_count", ""),
        ("forcelock", "off"),
    ]
    .map(|(name, default)| (name.to_owned(), default))
    .into();
    for (prefix, count) in COMPONENTS {
        fields.extend((0..count).map(|n| (format!("{prefix}_{n}"), NULL)));
    }
    fields
}

/// Whether this is a plain field of the form.
pub(crate) fn is_plain_field(name: &str) -> bool {
    plain_fields().iter().any(|(field, _)| field == name)
}

/// The plain fields of a server about which nothing has been said.
pub(crate) fn empty_form() -> Form {
    plain_fields().into_iter().map(|(name, default)| (name, default.to_owned())).collect()
}

/// What the field `owner` of a form says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnerField {
    Omitted,
    Nobody,
    User(u64),
}

fn on_off(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

/// Cuts a text at a number of characters, as a column of limited width does.
pub(crate) fn cut(text: &str, limit: Option<usize>) -> String {
    match limit {
        Some(limit) => text.chars().take(limit).collect(),
        None => text.to_owned(),
    }
}

impl Dci {
    /// The fields of the form, in order.
    pub(crate) fn form(&self, server: &Server) -> Vec<(String, String)> {
        let kind = self.type_named(&server.type_name);
        let main = server.rows.first();
        let mut fields = vec![
            ("id", server.id.to_string()),
            ("name", server.name.clone()),
            ("mac", server.mac.clone()),
            ("hostname", server.hostname().to_owned()),
            ("family", main.map_or(Family::V4, |row| Family::of(row.ip)).word().to_owned()),
            ("owner", server.owner.map_or_else(|| NO_OWNER.to_owned(), |id| id.to_string())),
            ("type", server.type_name.clone()),
            ("chassistempl", kind.map_or_else(|| NULL.to_owned(), |kind| kind.id.to_string())),
            ("ip_block", main.map_or_else(String::new, |row| row.group.clone())),
            ("specialip", String::new()),
            ("hwproblem", on_off(server.marks.has(Flag::Hwproblem))),
            ("disabled", on_off(server.marks.has(Flag::Disabled))),
            ("notes", server.notes.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Vec<_>>();
        fields.extend(server.form.iter().map(|(name, value)| (name.clone(), value.clone())));
        fields
    }

    fn type_from(&self, form: &Form) -> Result<Option<String>, Refusal> {
        let by_id = match form.get("chassistempl").map(String::as_str) {
            None => None,
            Some("" | NULL) => Some(String::new()),
            Some(id) => {
                let kind = self.types.iter().find(|kind| kind.id.to_string() == id);
                Some(kind.ok_or_else(|| Refusal::value("chassistempl", id))?.name.clone())
            }
        };
        Ok(by_id.or_else(|| form.get("type").cloned()))
    }

    fn owner_from(&self, form: &Form) -> Result<OwnerField, Refusal> {
        match form.get("owner").map(String::as_str) {
            None => Ok(OwnerField::Omitted),
            Some("" | NULL | NO_OWNER) => Ok(OwnerField::Nobody),
            Some(id) => {
                let user = self.users.find(id).ok_or_else(|| Refusal::value("owner", id))?;
                Ok(OwnerField::User(user.id))
            }
        }
    }

    fn check_mac(&self, form: &Form, id: u64) -> Result<(), Refusal> {
        let Some(mac) = form.get("mac").filter(|mac| !mac.is_empty()) else { return Ok(()) };
        let taken = self.servers.values().any(|server| {
            server.id != id
                && server.mac.eq_ignore_ascii_case(mac)
                && self.servers.get(&id).is_none_or(|own| !own.mac.eq_ignore_ascii_case(mac))
        });
        if taken { Err(Refusal::exists("mac", mac)) } else { Ok(()) }
    }

    /// Writes the form into a server. Fields that are left out become what they are on an empty form, unless the panel
    /// keeps them.
    fn write_form(&mut self, id: u64, form: &Form) -> Result<(), Refusal> {
        self.check_mac(form, id)?;
        let kind = self.type_from(form)?;
        let owner = self.owner_from(form)?;
        let limit = self.behaviour.notes_limit;
        let reset = match self.behaviour.server_edit_omitted {
            Omitted::Reset => true,
            Omitted::Keep => false,
        };
        let server = self.server_mut(id)?;
        let text = |name: &str, old: &str| match form.get(name) {
            Some(value) => value.clone(),
            None if reset => String::new(),
            None => old.to_owned(),
        };
        server.name = text("name", &server.name);
        server.mac = text("mac", &server.mac);
        server.notes = cut(&text("notes", &server.notes), limit);
        server.type_name = match kind {
            Some(kind) => kind,
            None if reset => String::new(),
            None => server.type_name.clone(),
        };
        server.owner = match owner {
            OwnerField::User(id) => Some(id),
            OwnerField::Omitted if !reset => server.owner,
            OwnerField::Nobody | OwnerField::Omitted => None,
        };
        let hwproblem = match form.get("hwproblem") {
            Some(value) => value == "on",
            None => !reset && server.marks.has(Flag::Hwproblem),
        };
        server.marks.set(Flag::Hwproblem, hwproblem);
        for (name, default) in plain_fields() {
            match form.get(&name) {
                Some(value) => server.form.insert(name, value.clone()),
                None if reset => server.form.insert(name, default.to_owned()),
                None => None,
            };
        }
        Ok(())
    }
}

impl World {
    /// `server.edit` of a server that exists. The hostname is the main address's domain; it changes only when it is
    /// given, since it is no field of the server's own.
    pub(crate) fn edit_server(&mut self, dci: usize, id: u64, form: &Form, now: Moment) -> Result<(), Refusal> {
        let server = self.dci[dci].server(id)?;
        let was_released = server.is_released();
        let hostname = form.get("hostname").filter(|name| !name.is_empty() && *name != server.hostname());
        let row = server.rows.first().map(|row| row.id);
        self.dci[dci].write_form(id, form)?;
        if let (Some(hostname), Some(row)) = (hostname, row) {
            self.change_row(dci, id, row, RowChange { domain: Some(hostname), ..RowChange::default() }, now)?;
        }
        self.dci[dci].after_change(id, was_released, now);
        Ok(())
    }

    /// `server.edit` without an id: a new server, with a main address of the group `ip_block`.
    pub(crate) fn create_server(&mut self, dci: usize, form: &Form, now: Moment) -> Result<u64, Refusal> {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let panel = &mut self.dci[dci];
        if field("name").is_empty() {
            return Err(Refusal::value("name", ""));
        }
        if panel.servers.values().any(|server| server.name == field("name")) {
            return Err(Refusal::exists("name", field("name")));
        }
        let family = Family::parse(field("family")).ok_or_else(|| Refusal::value("family", field("family")))?;
        let ip = match field("specialip") {
            "" => None,
            ip => Some(ip.parse().map_err(|_| Refusal::value("specialip", ip))?),
        };
        panel.ids.server += 1;
        let id = panel.ids.server;
        let server = blank_server(id);
        panel.servers.insert(id, server);
        let done = panel.write_form(id, form);
        let done = done.and_then(|()| panel.connect(id, ConnectionKind::Switch, "", "").map(|_| ()));
        let done = done.and_then(|()| {
            let group = match (field("ip_block"), &self.dci[dci].base.groups[..]) {
                ("", [first, ..]) => first.name.clone(),
                (group, _) => group.to_owned(),
            };
            if group.is_empty() && ip.is_none() {
                return Ok(());
            }
            let new = NewAddress { group: &group, family, ip, domain: field("hostname") };
            self.add_address(dci, id, &new, now).map(|_| ())
        });
        if let Err(refusal) = done {
            self.dci[dci].servers.remove(&id);
            return Err(refusal);
        }
        Ok(id)
    }
}

/// A server about which nothing is known yet.
pub(crate) fn blank_server(id: u64) -> Server {
    Server {
        id,
        name: String::new(),
        mac: String::new(),
        notes: String::new(),
        owner: None,
        type_name: String::new(),
        form: empty_form(),
        marks: Marks::default(),
        rows: Vec::new(),
        power: Power::new(false, IpmiHealth::Alive),
        operation: None,
        installed: Installed::default(),
        connections: Vec::new(),
        scripts: std::collections::VecDeque::new(),
    }
}
