//! Makes the world that a configuration describes.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Ipm, World,
    addresses::{AddressBase, Group, Range, Taken, plus},
    bill::Bill,
    connections::Connection,
    dci::{Dci, Ids, Rack, ServerType, Source},
    edit::{blank_server, is_plain_field},
    power::Power,
    refusal::Kind,
    server::{FREE_DOMAIN, IpRow, Server},
    users::Users,
};
use crate::sim::config::{
    Config, ConfigError, ConnectionConfig, ConnectionKind, DciConfig, Exhausted, Flag, GroupConfig, IpmConfig, PowerState, ServerConfig,
    UserConfig,
};

impl World {
    /// Makes everything.
    pub(crate) fn build(config: &Config) -> Result<Self, ConfigError> {
        let mut world = Self::default();
        for ipm in &config.ipmanager5 {
            world.ipm.push(build_ipm(ipm)?);
        }
        for bill in &config.billmanager6 {
            let users = build_users(&bill.users, &format!("billmanager6 {}", bill.name))?;
            world.bill.push(Bill::build(bill, users)?);
        }
        for (index, dci) in config.dcimanager5.iter().enumerate() {
            let panel = build_dci(dci, &world)?;
            world.dci.push(panel);
            for (place, entry) in dci.servers.iter().enumerate() {
                let place = format!("dcimanager5[{index}] ({}): servers[{place}]", dci.name);
                add_servers(&mut world.dci[index], index, entry).map_err(|message| ConfigError::invalid(place, message))?;
            }
            world.enter_own_addresses(index);
        }
        for (index, ipm) in config.ipmanager5.iter().enumerate() {
            world.enter_held_addresses(index, ipm)?;
        }
        Ok(world)
    }

    /// Addresses of servers are taken in the base they come from.
    fn enter_own_addresses(&mut self, index: usize) {
        let rows: Vec<(u64, IpRow)> =
            self.dci[index].servers.values().flat_map(|server| server.rows.iter().map(|row| (server.id, row.clone()))).collect();
        let (base, user) = match self.dci[index].source.clone() {
            Source::Own => (&mut self.dci[index].base, None),
            Source::Ipmanager { index, user } => (&mut self.ipm[index].base, Some(user)),
        };
        for (server, row) in rows {
            enter(base, &row, user.clone().unwrap_or_else(|| format!("server {server}")));
        }
    }

    fn enter_held_addresses(&mut self, index: usize, config: &IpmConfig) -> Result<(), ConfigError> {
        let place = |key: &str| format!("ipmanager5[{index}] ({}): {key}", config.name);
        for held in &config.holds_for {
            let panel = self.dci.iter().find(|dci| dci.name == held.panel);
            let panel = panel.ok_or_else(|| ConfigError::invalid(place("holds_for"), format!("no panel `{}`", held.panel)))?;
            let rows: Vec<IpRow> = panel.servers.values().flat_map(|server| server.rows.clone()).collect();
            let ipm = &mut self.ipm[index];
            if ipm.users.named(&held.user).is_none() {
                return Err(ConfigError::invalid(place("holds_for"), format!("no user `{}`", held.user)));
            }
            for row in rows {
                enter(&mut ipm.base, &row, held.user.clone());
            }
        }
        let ipm = &mut self.ipm[index];
        for address in &config.addresses {
            let bad = |message: String| ConfigError::invalid(place("addresses"), message);
            if ipm.users.named(&address.holder).is_none() {
                return Err(bad(format!("no user `{}`", address.holder)));
            }
            let group = match &address.group {
                Some(group) => group.clone(),
                None => ipm.base.group_of(address.ip).map_or_else(String::new, |group| group.name.clone()),
            };
            let taken = Taken { group, holder: address.holder.clone(), domain: address.domain.clone(), note: address.note.clone() };
            ipm.base.taken.insert(address.ip, taken);
        }
        Ok(())
    }
}

/// Notes an address as taken, if a group of the base has it.
fn enter(base: &mut AddressBase, row: &IpRow, holder: String) {
    let Some(group) = base.group_of(row.ip).map(|group| group.name.clone()) else { return };
    let taken = Taken { group, holder, domain: row.domain.clone(), note: String::new() };
    base.taken.entry(row.ip).or_insert(taken);
}

fn build_users(configs: &[UserConfig], place: &str) -> Result<Users, ConfigError> {
    let mut users = Users::default();
    for config in configs {
        users
            .create(&config.name, &config.password, config.level)
            .map_err(|refusal| ConfigError::invalid(place, format!("user `{}`: {refusal}", config.name)))?;
    }
    Ok(users)
}

fn build_base(groups: &[GroupConfig], exhausted: Exhausted, place: &str) -> Result<AddressBase, ConfigError> {
    let mut base = AddressBase { exhausted: Some(exhausted.into()), ..AddressBase::default() };
    for config in groups {
        let mut ranges = Vec::new();
        for (texts, hidden) in [(&config.ranges, false), (&config.hidden_ranges, true)] {
            for text in texts {
                let range = Range::parse(text, hidden);
                ranges.push(range.map_err(|error| ConfigError::invalid(format!("{place}: {}", config.name), error.to_string()))?);
            }
        }
        base.groups.push(Group { name: config.name.clone(), ranges, users: config.users.clone() });
    }
    Ok(base)
}

impl From<Exhausted> for Kind {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::Limit => Self::Limit,
            Exhausted::Missed => Self::Missed,
        }
    }
}

fn build_ipm(config: &IpmConfig) -> Result<Ipm, ConfigError> {
    let place = format!("ipmanager5 {}", config.name);
    Ok(Ipm {
        name: config.name.clone(),
        users: build_users(&config.users, &place)?,
        base: build_base(&config.address_groups, config.behaviour.exhausted, &place)?,
        behaviour: config.behaviour.clone(),
    })
}

fn build_dci(config: &DciConfig, world: &World) -> Result<Dci, ConfigError> {
    let place = format!("dcimanager5 {}", config.name);
    let source = match &config.addresses_from {
        None => Source::Own,
        Some(from) => {
            let bad = |message: String| ConfigError::invalid(format!("{place}: addresses_from"), message);
            let index = world.ipm.iter().position(|ipm| ipm.name == from.ipmanager);
            let index = index.ok_or_else(|| bad(format!("no ipmanager5 `{}`", from.ipmanager)))?;
            if world.ipm[index].users.named(&from.user).is_none() {
                return Err(bad(format!("`{}` has no user `{}`", from.ipmanager, from.user)));
            }
            Source::Ipmanager { index, user: from.user.clone() }
        }
    };
    let mut racks = config.racks.clone();
    for rack in config.servers.iter().filter_map(|server| server.rack.as_ref()) {
        if !racks.contains(rack) {
            racks.push(rack.clone());
        }
    }
    if racks.is_empty() {
        racks.push("R1".to_owned());
    }
    let types = (1..).zip(&config.server_types).map(|(id, kind)| ServerType {
        id,
        name: kind.name.clone(),
        description: kind.description.clone(),
        os: kind.os.clone(),
    });
    Ok(Dci {
        name: config.name.clone(),
        users: build_users(&config.users, &place)?,
        servers: std::collections::BTreeMap::new(),
        types: types.collect(),
        racks: (1..).zip(racks).map(|(id, name)| Rack { id, name }).collect(),
        parts: Vec::new(),
        templates: config.os_templates.clone(),
        recipes: config.recipes.clone(),
        base: build_base(&config.address_groups, config.behaviour.exhausted, &place)?,
        source,
        durations: config.durations.clone(),
        behaviour: config.behaviour.clone(),
        release: config.release.clone(),
        invented: config.invented.clone(),
        // Row and connection ids start where no server id is, so that one taken for the other is noticed.
        ids: Ids { server: 0, row: 500_000, connection: 800_000 },
        replacements: Vec::new(),
    })
}

/// Adds the servers of one entry and returns their ids.
pub(crate) fn add_servers(dci: &mut Dci, panel: usize, entry: &ServerConfig) -> Result<Vec<u64>, String> {
    let mut ids = Vec::new();
    for n in 0..u64::from(entry.count.unwrap_or(1)) {
        let id = entry.id.map_or(dci.ids.server + 1, |first| first + n);
        if dci.servers.contains_key(&id) {
            return Err(format!("there are two servers with the id {id}"));
        }
        dci.ids.server = dci.ids.server.max(id);
        let server = build_server(dci, panel, entry, id, n)?;
        dci.servers.insert(id, server);
        ids.push(id);
    }
    Ok(ids)
}

fn build_server(dci: &mut Dci, panel: usize, entry: &ServerConfig, id: u64, n: u64) -> Result<Server, String> {
    let mut server = blank_server(id);
    let name = entry.name.clone().unwrap_or_else(|| "server-{id}".to_owned());
    server.name = name.replace("{id}", &id.to_string()).replace("{n}", &(n + 1).to_string());
    if let Some(kind) = &entry.server_type {
        if dci.type_named(kind).is_none() {
            return Err(format!("unknown server type `{kind}`"));
        }
        server.type_name.clone_from(kind);
    }
    let [.., b5, b4, b3, b2, b1, b0] = id.to_be_bytes();
    let panel_byte = u8::try_from(panel % 256).unwrap_or_default() ^ b5 ^ b4;
    server.mac = match &entry.mac {
        None => format!("02:5e:{panel_byte:02x}:{b2:02x}:{b1:02x}:{b0:02x}"),
        Some(mac) => mac.clone(),
    };
    let hostname = entry.hostname.as_deref().unwrap_or(FREE_DOMAIN);
    let main = match entry.ip.as_deref() {
        None => Some(IpAddr::V4(Ipv4Addr::new(10, b2 ^ b3, b1, b0))),
        Some("") => None,
        Some(ip) => Some(plus(ip.parse().map_err(|_| format!("`{ip}` is no address"))?, n)),
    };
    let mut ips: Vec<IpAddr> = main.into_iter().collect();
    for ip in &entry.extra_ips {
        ips.push(plus(ip.parse().map_err(|_| format!("`{ip}` is no address"))?, n));
    }
    for ip in ips {
        let group = dci.base.group_of(ip).map_or_else(String::new, |group| group.name.clone());
        let row = IpRow { id: dci.next_row_id(), ip, domain: hostname.to_owned(), group };
        server.rows.push(row);
    }
    if let Some(owner) = &entry.owner {
        let user = dci.users.named(owner).ok_or_else(|| format!("unknown owner `{owner}`"))?;
        server.owner = Some(user.id);
    }
    server.notes.clone_from(&entry.notes);
    for flag in &entry.flags {
        server.marks.set(*flag, true);
    }
    server.power = Power::new(entry.power == PowerState::On, entry.ipmi);
    let rack = match &entry.rack {
        None => dci.racks.first(),
        Some(name) => dci.racks.iter().find(|rack| rack.name == *name),
    };
    server.form.insert("rack".to_owned(), rack.map_or(String::new(), |rack| rack.id.to_string()));
    let unit = entry.unit.clone().unwrap_or_else(|| (id % 42 + 1).to_string());
    server.form.insert("unit".to_owned(), unit.clone());
    server.form.insert("unit2".to_owned(), unit);
    for (field, value) in &entry.hardware {
        if !is_plain_field(field) {
            return Err(format!("`{field}` is no field of the server form"));
        }
        let value = dci.field_of(field, value);
        server.form.insert(field.clone(), value);
    }
    let usual = || {
        let connection = |kind, ip: String, port: String| ConnectionConfig { kind, ip, port };
        vec![
            connection(ConnectionKind::Switch, String::new(), format!("Gi0/{}", id % 48 + 1)),
            connection(ConnectionKind::Ipmi, plus(IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), id % 1_048_576).to_string(), String::new()),
        ]
    };
    for config in entry.connections.clone().unwrap_or_else(usual) {
        server.connections.push(Connection {
            id: dci.next_connection_id(),
            kind: config.kind,
            ip: config.ip,
            port: config.port,
            on: !server.marks.has(Flag::Disabled),
            change: None,
        });
    }
    server.scripts = entry.operations.clone().into();
    if let Some(template) = &entry.installed {
        server.installed.template.clone_from(template);
        server.installed.data = true;
    }
    Ok(server)
}
