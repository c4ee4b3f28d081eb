//! A panel and a pool of addresses in memory: what the calls do, when they take effect, and how they go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use dci_operator::panel::error::{ErrorDocument, PanelError};
use dci_operator::panel::model::{AddressRow, AddressRowId, FREE_DOMAIN, Family, Level, PanelUser, Parts, PoolAddress, ServerId, UserId};
use dci_operator::provisioning::call::{Call, Left};
use dci_operator::provisioning::marker;
use jiff::Timestamp;

use super::later;
use super::pool::{Groups, parked};

/// The operator's own log-in.
pub const ADMIN: &str = "k8s-admin";
pub const TEMPLATE: &str = "ISPsystem__Debian-12-x86_64";

/// How a server's IPMI behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipmi {
    Works,
    /// Every power call is answered with an error document.
    Refuses,
    /// The operator's user may not make power calls.
    Denied,
    /// Calls are accepted, nothing happens, and the list shows `powererror`.
    Error,
    /// Calls are accepted and nothing happens.
    Dead,
}

/// What becomes of a call for another main address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    Works,
    /// It is answered at once, and done so much later.
    Later(Duration),
    /// It is done, and then somebody deletes the server.
    ThenGone,
    /// The new one is added beside the old one, which stays the main one.
    Beside,
    Ignored,
    Refused,
}

#[derive(Clone, Debug)]
pub struct Operation {
    /// When its flag begins to show in the list.
    pub shows: Timestamp,
    pub shown: bool,
    pub until: Option<Timestamp>,
    pub template: String,
    pub fails: bool,
    pub recipe_fails: bool,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "as independent as the flags of the panel")]
pub struct Server {
    pub kind: String,
    pub owner: Option<UserId>,
    pub notes: String,
    pub rows: Vec<AddressRow>,
    pub main: IpAddr,
    pub on: bool,
    pub power: Option<(Timestamp, bool)>,
    pub disabled: bool,
    pub operation: Option<Operation>,
    pub failed: bool,
    pub template: Option<String>,
    /// The template that was chosen last.
    pub chosen: Option<String>,
    /// Until then the form names this one.
    pub named: Option<(Timestamp, Option<String>)>,
    pub ipmi: Ipmi,
    pub gone: bool,
    pub busy_until: Option<Timestamp>,
    pub installs: usize,
    /// The switch port, and what it is being switched to.
    pub port: bool,
    pub port_change: Option<(Timestamp, bool)>,
    pub passwords: usize,
    pub parts: Parts,
    /// Recipes that ran here, in order.
    pub ran: Vec<String>,
    pub flagged: bool,
}

/// A change that takes effect after its answer, or after that was lost: it was checked when it was asked for.
#[derive(Clone, Debug)]
pub struct Late {
    pub at: Timestamp,
    pub call: Call,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that a panel may do or not")]
pub struct Panel {
    pub servers: BTreeMap<String, Server>,
    pub users: Vec<PanelUser>,
    /// Whether an ordinary user may not see the users, or is shown itself alone.
    pub hides_users: bool,
    /// Free addresses by group.
    pub free: BTreeMap<String, Vec<IpAddr>>,
    pub used: Vec<PoolAddress>,
    pub notes_max: usize,
    /// What becomes of a slash in notes that are written, and what stands behind them then.
    pub notes_slash: &'static str,
    pub notes_end: &'static str,
    pub note_max: usize,
    /// So many addresses that are taken next another order takes at the same time, and notes them later.
    pub noted_over: usize,
    /// What the answer to the taking of an address names instead of it.
    pub names: Option<IpAddr>,
    pub groups: Groups,
    pub replace: Replace,
    pub installs_that_fail: usize,
    pub installs_that_hang: usize,
    /// Tags of templates and recipes.
    pub tags: BTreeMap<String, BTreeSet<String>>,
    /// Runs of single recipes that fail.
    pub runs_that_fail: usize,
    /// Installations whose system is there in the end, while the recipe failed.
    pub recipes_that_fail: usize,
    pub install_takes: Duration,
    /// How long a running installation does not show in the list.
    pub installs_show_after: Duration,
    /// Whether a failure shows until something has succeeded, and not only until something begins.
    pub failures_stay: bool,
    /// Whether the form names the template that was chosen last, installed or not.
    pub forms_name_what_was_chosen: bool,
    /// How long after its end the form does not name what was installed.
    pub forms_name_after: Duration,
    /// Whether the form has a place for the template that is there.
    pub forms_name_any: bool,
    pub power_takes: Duration,
    /// Whether the list tells neither that a server is on nor that it is off.
    pub power_hidden: bool,
    pub ports_take: Duration,
    /// Whether the panel shows if a port is on, and whether it switches the ports itself with the block.
    pub ports_show: bool,
    pub ports_follow: bool,
    /// Further switch connections, which show as the first one does, and those whose switch refuses everything.
    pub more_ports: Vec<String>,
    pub dead_ports: BTreeSet<String>,
    pub templates: Option<Vec<String>>,
    /// Those of servers that have others, or whose form shows none, by id.
    pub templates_of: BTreeMap<String, Option<Vec<String>>>,
    /// The recipes that the form of the installation shows, where it does.
    pub recipes: Option<Vec<String>>,
    /// Servers whose form misses something, although the list shows them.
    pub forms_missed: BTreeSet<String>,
    /// Whether the list of users lacks some, as where a filter hides them.
    pub users_incomplete: bool,
    /// Servers whose form of the installation is refused.
    pub forms_refused: BTreeSet<String>,
    pub late: Vec<Late>,
    /// Every change that took effect, in order.
    pub journal: Vec<Call>,
    /// The licence server.
    pub licenses: super::licenses::Server,
    rows_made: usize,
}

pub fn refused(kind: &str, func: &str) -> PanelError {
    let error = ErrorDocument { kind: kind.into(), ..ErrorDocument::default() };
    PanelError::Refused { panel: "dci".into(), func: func.into(), error }
}

fn expectation(server: &ServerId, detail: &str) -> PanelError {
    PanelError::Expectation { server: server.0.clone(), detail: detail.into() }
}

impl Panel {
    /// Free servers `1..=servers` with parking addresses, and pools of this many public addresses of each family.
    pub fn new(servers: usize, public: usize) -> Self {
        let mut panel = Self {
            servers: BTreeMap::new(),
            users: vec![PanelUser { id: "1".into(), name: ADMIN.into(), level: Level::Administrator }],
            hides_users: true,
            free: BTreeMap::new(),
            used: Vec::new(),
            notes_max: usize::MAX,
            notes_slash: "/",
            notes_end: "",
            note_max: usize::MAX,
            noted_over: 0,
            names: None,
            groups: Groups::Named,
            replace: Replace::Works,
            installs_that_fail: 0,
            installs_that_hang: 0,
            tags: BTreeMap::new(),
            runs_that_fail: 0,
            recipes_that_fail: 0,
            install_takes: Duration::from_mins(10),
            installs_show_after: Duration::ZERO,
            failures_stay: false,
            forms_name_what_was_chosen: false,
            forms_name_after: Duration::ZERO,
            forms_name_any: true,
            power_takes: Duration::from_secs(20),
            power_hidden: false,
            ports_take: Duration::from_secs(3),
            ports_show: true,
            ports_follow: true,
            more_ports: Vec::new(),
            dead_ports: BTreeSet::new(),
            templates: Some(vec![TEMPLATE.into(), "ISPsystem__Ubuntu-24.04-x86_64".into()]),
            templates_of: BTreeMap::new(),
            recipes: None,
            forms_missed: BTreeSet::new(),
            users_incomplete: false,
            forms_refused: BTreeSet::new(),
            late: Vec::new(),
            journal: Vec::new(),
            licenses: super::licenses::Server::new(),
            rows_made: 0,
        };
        let addresses = |prefix: &str, range: std::ops::RangeInclusive<usize>| -> Vec<IpAddr> {
            range.map(|n| format!("{prefix}{n}").parse().expect("an address")).collect()
        };
        let mut all = addresses("203.0.113.", 1..=public);
        all.extend(addresses("2001:db8::", 1..=public));
        panel.free.insert("public".into(), all);
        panel.free.insert("parking".into(), addresses("10.0.1.", 1..=20));
        for n in 1..=servers {
            let parking: IpAddr = format!("10.0.0.{n}").parse().expect("an address");
            let row = panel.row(parking, FREE_DOMAIN);
            panel.used.push(parked(parking));
            let server = Server {
                kind: "E3-16G".into(),
                owner: None,
                notes: String::new(),
                rows: vec![row],
                main: parking,
                on: false,
                power: None,
                disabled: false,
                operation: None,
                failed: false,
                template: None,
                chosen: None,
                named: None,
                ipmi: Ipmi::Works,
                gone: false,
                busy_until: None,
                installs: 0,
                port: true,
                port_change: None,
                passwords: 0,
                parts: Parts::default(),
                ran: Vec::new(),
                flagged: false,
            };
            panel.servers.insert(n.to_string(), server);
        }
        panel
    }

    fn row(&mut self, address: IpAddr, domain: &str) -> AddressRow {
        self.rows_made += 1;
        AddressRow { row: AddressRowId(format!("r{}", self.rows_made)), address, domain: domain.into() }
    }

    pub fn server(&mut self, id: &str) -> &mut Server {
        self.servers.get_mut(id).expect("a server of the world")
    }

    pub fn user(&self, name: &str) -> Option<&PanelUser> {
        self.users.iter().find(|u| u.name == name)
    }

    pub fn user_name(&self, id: &UserId) -> String {
        self.users.iter().find(|u| u.id == *id).map_or_else(|| id.0.clone(), |u| u.name.clone())
    }

    /// Lets time pass: power, operations, late changes.
    pub fn advance(&mut self, now: Timestamp) {
        let (due, left): (Vec<Late>, Vec<Late>) = std::mem::take(&mut self.late).into_iter().partition(|l| l.at <= now);
        self.late = left;
        for late in due {
            // A change that has become impossible by now has no effect.
            let _ = self.apply(&late.call, late.at, false);
        }
        let named = later(now, self.forms_name_after);
        for server in self.servers.values_mut() {
            if let Some((at, on)) = server.power.filter(|(at, _)| *at <= now) {
                let _ = at;
                server.on = on;
                server.power = None;
            }
            if let Some((_, on)) = server.port_change.filter(|(at, _)| *at <= now) {
                server.port = on;
                server.port_change = None;
            }
            if let Some(operation) = server.operation.as_mut() {
                operation.shown = operation.shows <= now;
            }
            if let Some(operation) = server.operation.clone().filter(|o| o.until.is_some_and(|at| at <= now)) {
                server.operation = None;
                server.failed = operation.fails || operation.recipe_fails;
                if !operation.fails {
                    server.named = Some((named, server.template.take()));
                    server.template = Some(operation.template);
                }
            }
        }
    }

    /// What a change would be refused for. Nothing is changed.
    pub fn check(&self, call: &Call) -> Result<(), PanelError> {
        if call.at_license_server() {
            return self.licenses.check(call);
        }
        let form = |id: &ServerId| self.form(id).ok_or_else(|| refused("missed", "server.edit"));
        if let Some(server) = call.server() {
            let form = form(server)?;
            let marked = |text: &str| form.notes.split_whitespace().any(|w| w == text);
            let expected = match call {
                Call::Claim { .. } => form.owner.is_none() && marker::tokens(&form.notes).next().is_none(),
                Call::Unclaim { left: Left::Marker(written), .. } | Call::Unmark { written, .. } => marked(written),
                Call::Unclaim { left: Left::Owner(owner), .. } => {
                    form.owner.as_deref() == Some(owner) && marker::tokens(&form.notes).next().is_none()
                }
                Call::Adopt { owner, .. } => form.owner.as_deref() == Some(owner) && marker::tokens(&form.notes).next().is_none(),
                Call::HandOver { marker, .. } | Call::Release { marker, .. } => marked(&marker.to_string()),
                _ => true,
            };
            if !expected {
                return Err(expectation(server, "not as expected"));
            }
        }
        match call {
            Call::PowerOn { server } | Call::PowerOff { server } if self.servers[&server.0].ipmi == Ipmi::Refuses => {
                Err(refused("ipmi", "server.power"))
            }
            Call::PowerOn { server } | Call::PowerOff { server } if self.servers[&server.0].ipmi == Ipmi::Denied => {
                Err(refused("access", "server.power"))
            }
            Call::ReplaceMain { .. } if self.replace == Replace::Refused => Err(refused("value", "iplist.edit")),
            Call::TakeAddress { group, .. } if !self.free.contains_key(group) => Err(refused("value", "ip.edit")),
            Call::TakeAddress { family, group, .. } | Call::AddAddress { family, group, address: None, .. }
                if self.pick(*family, group).is_none() =>
            {
                Err(refused("limit", "ip.edit"))
            }
            Call::CreateUser { username } if self.user(username).is_some() => Err(refused("exists", "user.edit")),
            Call::GiveBack { address } | Call::SetNote { address, .. } | Call::SetPoolDomain { address, .. }
                if !self.used.iter().any(|u| u.address == *address) =>
            {
                Err(refused("missed", "ip.edit"))
            }
            Call::ConnectionOn { connection, .. } | Call::ConnectionOff { connection, .. } if self.dead_ports.contains(connection) => {
                Err(refused("busy", "server.connection"))
            }
            Call::ConnectionOn { server, .. } if self.servers[&server.0].disabled => Err(refused("access", "server.connection.on")),
            Call::CancelOperation { server } if self.servers[&server.0].operation.is_none() => Err(refused("value", "server.opercancel")),
            Call::Install { server, address: Some(address), .. } if !self.stands_on(server, *address) => {
                Err(refused("value", "server.operations"))
            }
            Call::RemoveAddress { server, address, .. } if self.servers[&server.0].main == *address => {
                Err(refused("access", "iplist.delete"))
            }
            Call::Install { server, .. } | Call::RunRecipe { server, .. } if self.servers[&server.0].operation.is_some() => {
                Err(refused("busy", "server.operations"))
            }
            _ => Ok(()),
        }
    }

    fn cut(&self, notes: &str) -> String {
        let kept: String = notes.chars().take(self.notes_max).collect();
        kept.replace('/', self.notes_slash) + self.notes_end
    }

    /// Makes a change; `checked` is false for one that was checked when it was asked for, and lands only now.
    #[expect(clippy::too_many_lines, reason = "one arm for each call")]
    pub fn apply(&mut self, call: &Call, now: Timestamp, checked: bool) -> Result<Option<IpAddr>, PanelError> {
        if checked {
            self.check(call)?;
        }
        if let (Call::ReplaceMain { .. }, Replace::Later(takes), true) = (call, self.replace, checked) {
            self.late.push(Late { at: later(now, takes), call: call.clone() });
            return Ok(None);
        }
        self.journal.push(call.clone());
        if call.at_license_server() {
            return self.licenses.apply(call, now).map(|()| None);
        }
        let without = |notes: &str, marker: &str| notes.split_whitespace().filter(|w| *w != marker).collect::<Vec<_>>().join(" ");
        let power_takes = self.power_takes;
        match call {
            Call::CreateUser { username } => {
                if self.user(username).is_none() {
                    let id = UserId(format!("{}", self.users.len() + 1));
                    self.users.push(PanelUser { id, name: username.clone(), level: Level::User });
                }
            }
            Call::Claim { server, owner, marker } => {
                let text = format!("{} {marker}", self.server(&server.0).notes);
                let text = self.cut(text.trim());
                let s = self.server(&server.0);
                (s.owner, s.notes) = (Some(owner.clone()), text);
            }
            Call::Unclaim { server, left } => {
                let s = self.server(&server.0);
                s.owner = None;
                if let Left::Marker(written) = left {
                    s.notes = without(&s.notes, written);
                }
            }
            Call::Adopt { server, marker, .. } => {
                let text = format!("{} {marker}", self.server(&server.0).notes);
                let text = self.cut(text.trim());
                self.server(&server.0).notes = text;
            }
            Call::Unmark { server, written } => {
                let s = self.server(&server.0);
                s.notes = without(&s.notes, written);
            }
            Call::HandOver { server, owner, .. } => self.server(&server.0).owner = Some(owner.clone()),
            Call::Release { server, marker } => {
                let s = self.server(&server.0);
                (s.owner, s.notes) = (None, without(&s.notes, &marker.to_string()));
            }
            Call::Enable { server } | Call::Disable { server } => {
                let on = matches!(call, Call::Enable { .. });
                let (at, follow) = (later(now, self.ports_take), self.ports_follow);
                let s = self.server(&server.0);
                if follow && s.disabled == on {
                    s.port_change = Some((at, on));
                }
                s.disabled = !on;
            }
            Call::ConnectionOn { server, connection } | Call::ConnectionOff { server, connection } => {
                let at = later(now, self.ports_take);
                if connection == "1" {
                    self.server(&server.0).port_change = Some((at, matches!(call, Call::ConnectionOn { .. })));
                }
            }
            Call::SetPassword { server, .. } => self.server(&server.0).passwords += 1,
            Call::PowerOn { server } | Call::PowerOff { server } => {
                let on = matches!(call, Call::PowerOn { .. });
                let s = self.server(&server.0);
                if s.ipmi == Ipmi::Works {
                    s.power = Some((later(now, power_takes), on));
                }
            }
            Call::TakeAddress { family, group, domain, note } => {
                let taken = self.take(*family, group, domain, note);
                return Ok(taken.map(|address| self.names.unwrap_or(address)));
            }
            Call::SetNote { address, note } => {
                if let Some(used) = self.used.iter_mut().find(|u| u.address == *address) {
                    used.note.clone_from(note);
                }
            }
            Call::SetPoolDomain { address, domain } => {
                if let Some(used) = self.used.iter_mut().find(|u| u.address == *address) {
                    used.domain.clone_from(domain);
                }
            }
            Call::GiveBack { address } => self.give_back(*address),
            Call::ReplaceMain { server, row, address, group, domain, .. }
                if matches!(self.replace, Replace::Works | Replace::Later(_) | Replace::ThenGone) =>
            {
                let family = Family::of(self.server(&server.0).main);
                let chosen = address.or_else(|| self.take(family, group, domain, ""));
                if let Some(new) = chosen
                    && let Some(at) = self.server(&server.0).rows.iter().position(|r| r.row == *row)
                {
                    let old = std::mem::replace(&mut self.server(&server.0).rows[at].address, new);
                    self.server(&server.0).rows[at].domain.clone_from(domain);
                    self.server(&server.0).main = new;
                    if address.is_none() {
                        self.give_back(old);
                    }
                    if self.replace == Replace::ThenGone {
                        self.server(&server.0).gone = true;
                    }
                }
            }
            Call::ReplaceMain { server, address: Some(new), domain, .. } if self.replace == Replace::Beside => {
                let row = self.row(*new, domain);
                self.server(&server.0).rows.push(row);
            }
            Call::AddAddress { server, family, group, address, domain, .. } => {
                let chosen = address.or_else(|| self.take(*family, group, domain, ""));
                if let Some(new) = chosen.filter(|a| !self.servers[&server.0].rows.iter().any(|r| r.address == *a)) {
                    let row = self.row(new, domain);
                    self.server(&server.0).rows.push(row);
                    return Ok(Some(new));
                }
            }
            Call::RemoveAddress { server, row, address } => {
                self.server(&server.0).rows.retain(|r| r.row != *row);
                if self.used.iter().any(|u| u.address == *address && u.note.is_empty()) {
                    self.give_back(*address);
                }
            }
            Call::SetDomain { server, row, domain } => {
                self.server(&server.0).rows.iter_mut().filter(|r| r.row == *row).for_each(|r| r.domain.clone_from(domain));
            }
            Call::Install { server, template, recipe, .. } => self.install(server, template, recipe.as_deref(), now),
            Call::RunRecipe { server, recipe } => self.run_recipe(server, recipe, now),
            Call::FlagForCleaning { server } => self.server(&server.0).flagged = true,
            Call::CancelOperation { server } => self.server(&server.0).operation = None,
            Call::ReplaceMain { .. }
            | Call::OrderLicense { .. }
            | Call::EditLicense { .. }
            | Call::RenewLicense { .. }
            | Call::SuspendLicense { .. }
            | Call::ResumeLicense { .. }
            | Call::FreeLicense { .. } => {}
        }
        Ok(None)
    }

    fn run_recipe(&mut self, server: &ServerId, recipe: &str, now: Timestamp) {
        let fails = self.runs_that_fail > 0;
        self.runs_that_fail -= usize::from(fails);
        let until = Some(later(now, self.install_takes));
        let (shows, shown) = (later(now, self.installs_show_after), self.installs_show_after.is_zero());
        let stays = self.failures_stay;
        let s = self.server(&server.0);
        s.failed = s.failed && stays;
        s.ran.push(recipe.into());
        let template = s.template.clone().unwrap_or_default();
        s.operation = Some(Operation { shows, shown, until, template, fails: false, recipe_fails: fails });
    }

    fn install(&mut self, server: &ServerId, template: &str, recipe: Option<&str>, now: Timestamp) {
        let fails = self.installs_that_fail > 0;
        self.installs_that_fail -= usize::from(fails);
        let recipe_fails = recipe.is_some() && self.recipes_that_fail > 0;
        self.recipes_that_fail -= usize::from(recipe_fails);
        let hangs = self.installs_that_hang > 0;
        self.installs_that_hang -= usize::from(hangs);
        let until = later(now, self.install_takes);
        let (shows, shown) = (later(now, self.installs_show_after), self.installs_show_after.is_zero());
        let stays = self.failures_stay;
        let s = self.server(&server.0);
        s.installs += 1;
        s.chosen = Some(template.into());
        s.flagged = false;
        s.ran = recipe.map(str::to_owned).into_iter().collect();
        s.failed = s.failed && stays;
        s.operation = Some(Operation { shows, shown, until: (!hangs).then_some(until), template: template.into(), fails, recipe_fails });
    }
}
