//! What a panel shows and what it is asked for, as plain data without any protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use secrecy::SecretString;

/// The domain of a server that nobody has (ispsystem-api.md 0.3, confirmed).
pub const FREE_DOMAIN: &str = "free.ds";
/// The form's word for "no owner" (ispsystem-api.md 1.3, confirmed).
pub const NO_OWNER: &str = "no_owner";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.to_owned())
            }
        }
    };
}

id!(
    /// A server's id at its panel (`elid`); a string, as all values of the panels are (ispsystem-api.md 1.3).
    ServerId
);
id!(
    /// A user's id at the panel.
    UserId
);
id!(
    /// The id of a row in a server's list of addresses.
    AddressRowId
);

impl ServerId {
    /// Orders ids as people do: numbers by value, anything else after them by text.
    #[must_use]
    pub fn sort_key(&self) -> (u64, &str) {
        (self.0.parse().unwrap_or(u64::MAX), &self.0)
    }
}

/// Who we are at a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Our log-in name.
    pub login: String,
    /// Our user id, where the panel's list of users shows us.
    pub user_id: Option<UserId>,
    /// Whether the panel lets us act as an administrator, which the integration needs.
    pub administrator: bool,
}

/// Level of a panel user (ispsystem-api.md 1.2 point 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// 16: an ordinary user (confirmed).
    User,
    /// Anything else: treated as an administrator, whose name no client may bear (29 and 30 are inferred).
    Administrator,
}

/// A user of the panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelUser {
    /// Id at the panel.
    pub id: UserId,
    /// Log-in name.
    pub name: String,
    /// Ordinary or not.
    pub level: Level,
}

/// The power flags of the list. More than one may stand, or none (ispsystem-api.md 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerFlags {
    /// `poweron`.
    pub on: bool,
    /// `poweroff`.
    pub off: bool,
    /// `powererror`: the panel could not ask IPMI or PDU.
    pub error: bool,
}

/// What `server.poweron` and its siblings are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Switch on.
    On,
    /// Switch off, hard.
    Off,
}

/// Flags of a list row that stand for a state of the machine (ispsystem-api.md 2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the panel shows independent flags; an enum would lose combinations")]
pub struct ServerFlags {
    /// `blocked`.
    pub blocked: bool,
    /// `disabled`: administratively off (service suspended).
    pub disabled: bool,
    /// `hwproblem`: must not be sold.
    pub hardware_problem: bool,
    /// `diag_in_progress`.
    pub diagnostics: bool,
    /// `operation_failed`: the last operation failed.
    pub operation_failed: bool,
}

/// One row of the list of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRow {
    /// Id.
    pub id: ServerId,
    /// Label, usually rack and unit.
    pub name: String,
    /// Domain of the main address; `free.ds` means free.
    pub hostname: String,
    /// Main address.
    pub main_address: Option<IpAddr>,
    /// MAC address, where the list shows it.
    pub mac: Option<String>,
    /// Owner as the list shows it: the name of a user (or an id); `None` when there is none.
    pub owner: Option<String>,
    /// `chassis_templ` and `type`: either may name the server's type, by its id or by its name.
    pub types: Vec<String>,
    /// Those of them that people know it by: the names, where the list shows any.
    pub names: Vec<String>,
    /// Power.
    pub power: PowerFlags,
    /// State of the machine.
    pub flags: ServerFlags,
    /// `install_in_progress`: present while an operation runs, with the panel's text if it shows one.
    pub install: Option<String>,
    /// `gen_chassis_name`: the server's type in words for people; empty where the list shows none.
    pub description: String,
}

#[cfg(test)]
impl ServerRow {
    /// A server of which a list shows the id only.
    pub(crate) fn blank(id: &str) -> Self {
        Self {
            id: id.into(),
            name: String::new(),
            hostname: String::new(),
            main_address: None,
            mac: None,
            owner: None,
            types: Vec::new(),
            names: Vec::new(),
            power: PowerFlags::default(),
            flags: ServerFlags::default(),
            install: None,
            description: String::new(),
        }
    }
}

/// The part of a server's edit form that the integration cares for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerForm {
    /// Owner: the id of a user (a name on some panels), `None` for `no_owner`.
    pub owner: Option<String>,
    /// Free text; carries our marker.
    pub notes: String,
    /// Domain, where the form shows it.
    pub hostname: Option<String>,
    /// Administratively off.
    pub disabled: bool,
    /// What it is made of.
    pub parts: Parts,
}

/// The parts that a server's form names (ispsystem-api.md 2.2): in words, where the form's options tell what an id stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// `cpu_0` and the following.
    pub processors: Vec<String>,
    /// `cpu_count`.
    pub processor_count: Option<String>,
    /// `chassis_ram`.
    pub memory: Option<String>,
    /// `hdd_0` to `hdd_29`.
    pub disks: Vec<String>,
    /// `pci_0` to `pci_6`.
    pub cards: Vec<String>,
}

/// How the notes change in the same call as the owner. What other people wrote there stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotesEdit {
    /// Leave them.
    Keep,
    /// Add this marker on a line of its own, once.
    Add(String),
    /// Take every occurrence of this marker away.
    Remove(String),
}

/// How the owner changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerEdit {
    /// Leave it.
    Keep,
    /// Give the server to this user.
    User(UserId),
    /// `no_owner`.
    Nobody,
}

/// What the form must show for an edit to be sent; checked on the read that is part of the edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No owner, and no marker of any order in the notes.
    Free,
    /// This marker stands in the notes.
    Marker(String),
    /// This owner, as the form shows it, and no marker of any order in the notes.
    Owner(String),
}

/// An edit of a server's owner and notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEdit {
    /// Checked first.
    pub expect: Expect,
    /// New owner.
    pub owner: OwnerEdit,
    /// New notes.
    pub notes: NotesEdit,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// `ipv4`.
    Ipv4,
    /// `ipv6`.
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The panels' word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// An address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRow {
    /// Row id (`elid` of `iplist.edit`).
    pub row: AddressRowId,
    /// Address.
    pub address: IpAddr,
    /// Domain.
    pub domain: String,
}

/// An address to put onto a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSpec {
    /// Family.
    pub family: Family,
    /// Group (`iptype`).
    pub group: String,
    /// The address itself; `None` lets the panel choose.
    pub address: Option<IpAddr>,
    /// Domain.
    pub domain: String,
}

/// The new main address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainAddress {
    /// The address that is there now.
    pub current: IpAddr,
    /// The new one; `None` lets the panel choose from `group`.
    pub address: Option<IpAddr>,
    /// Group (`iptype`).
    pub group: String,
    /// Domain of the row, sent along.
    pub domain: String,
}

/// What a server can be installed with (ispsystem-api.md 2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallForm {
    /// The template that is installed or was chosen last.
    pub current: Option<String>,
    /// Whether the form has a place for it, so that naming none says that there is none.
    pub shows_current: bool,
    /// Templates on offer; `None` when the panel shows no such list.
    pub templates: Option<Vec<String>>,
    /// Recipes on offer; `None` when the panel shows no such list.
    pub recipes: Option<Vec<String>>,
    /// Tags of templates and recipes, by name, where the panel shows them.
    pub tags: BTreeMap<String, BTreeSet<String>>,
}

impl InstallForm {
    /// Whether the form says that another system than this one is there, or none. It may call what is there by a name for people: only what
    /// it offers itself, or what is written as templates are (ispsystem-api.md 2.6, confirmed), can be compared.
    #[must_use]
    pub fn names_another(&self, template: &str) -> bool {
        match self.current.as_deref() {
            None => self.shows_current,
            Some(current) => {
                let offered = self.templates.as_ref().is_some_and(|all| all.iter().any(|t| t == current));
                current != template && (offered || current.contains("__"))
            }
        }
    }

    /// Whether a recipe may run on a template: they share a tag (ispsystem-api.md 5.3, confirmed). What has none fits all.
    #[must_use]
    pub fn share_a_tag(&self, template: &str, recipe: &str) -> bool {
        let tags = |name: &str| self.tags.get(name).filter(|tags| !tags.is_empty());
        match (tags(template), tags(recipe)) {
            (Some(of_template), Some(of_recipe)) => !of_template.is_disjoint(of_recipe),
            (None, _) | (_, None) => true,
        }
    }
}

/// An installation.
#[derive(Clone, Debug)]
pub struct InstallRequest {
    /// Template, `<repository>__<name>`.
    pub template: String,
    /// Recipe; `None` is sent as the literal `null`.
    pub recipe: Option<String>,
    /// Host name of the system.
    pub hostname: String,
    /// Main address.
    pub address: Option<IpAddr>,
    /// Password of root or Administrator.
    pub password: SecretString,
}

/// A connection of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Row id.
    pub id: String,
    /// Kind as the panel names it (`Switch`, `IPMI`, ...).
    pub kind: String,
    /// `func_in_progress`: the port is being switched.
    pub busy: bool,
    /// `status`: whether the port is on, where the panel shows it (inferred; the confirmed fields do not tell).
    pub on: Option<bool>,
}

impl Connection {
    /// Whether this is a port of a switch, whose network can be switched (ispsystem-api.md 2.7).
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.kind.eq_ignore_ascii_case("switch")
    }
}

/// An address in use at IPmanager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolAddress {
    /// Address.
    pub address: IpAddr,
    /// Group (`iptype`).
    pub group: String,
    /// The group as people read it, where the list shows both (`$orig` and `$`, ispsystem-api.md 1.3): either may be its name.
    pub group_shown: Option<String>,
    /// Domain.
    pub domain: String,
    /// Note; carries `k8s:<order id>` for what we took.
    pub note: String,
}

impl PoolAddress {
    /// Whether this is its group, in either form.
    #[must_use]
    pub fn is_of(&self, group: &str) -> bool {
        self.group == group || self.group_shown.as_deref() == Some(group)
    }
}

/// A request for a free address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRequest {
    /// Family.
    pub family: Family,
    /// Group.
    pub group: String,
    /// Domain.
    pub domain: String,
    /// Note.
    pub note: String,
}
