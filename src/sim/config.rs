//! The file that describes the simulated panels. `example.yaml` beside this file shows every key.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use serde::Deserialize;

use super::{faults::FaultSpec, span::Span};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It is not what a configuration looks like; the message names the place.
    #[error("{0}")]
    Parse(#[from] serde_yaml::Error),
    /// It reads well and cannot be: a server of an unknown type, a range that is none.
    #[error("{place}: {message}")]
    Invalid {
        /// Where in the file.
        place: String,
        /// What is wrong there.
        message: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), message: message.into() }
    }
}

/// Everything that one simulator serves.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) seed: u64,
    pub(crate) journal: JournalConfig,
    pub(crate) dcimanager5: Vec<DciConfig>,
    pub(crate) ipmanager5: Vec<IpmConfig>,
    pub(crate) faults: Vec<FaultSpec>,
}

impl Config {
    /// Reads a configuration from YAML. Unknown keys are errors.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Ok(serde_yaml::from_str(text)?)
    }

    /// Whether everything that it describes can be made.
    pub fn check(&self) -> Result<(), ConfigError> {
        super::core::Core::new(self).map(drop)
    }

    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
        Self::from_yaml(&text)
    }
}

/// How much the journal keeps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournalConfig {
    pub(crate) capacity: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { capacity: 50_000 }
    }
}

/// Somebody who can log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserConfig {
    pub(crate) name: String,
    pub(crate) password: String,
    #[serde(default = "level_user")]
    pub(crate) level: u8,
}

fn level_user() -> u8 {
    super::world::users::LEVEL_USER
}

/// How the protocol of one panel behaves: sections 1.2 and 1.3 of the facts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProtocolConfig {
    /// A session ends this long after its last call.
    pub(crate) session_idle: Span,
    /// Whether a session works only from the address that opened it.
    pub(crate) session_bound_to_ip: bool,
    /// How the only row of a list is written in JSON.
    pub(crate) single_elem: SingleElem,
    /// How many rows a list shows when the caller does not ask for paging; absent: all.
    pub(crate) page_size: Option<usize>,
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self {
            session_idle: Span(std::time::Duration::from_hours(1)),
            session_bound_to_ip: true,
            single_elem: SingleElem::Array,
            page_size: None,
        }
    }
}

/// How the only row of a list is written in JSON (section 1.3: both are to be accepted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SingleElem {
    Array,
    Object,
}

/// A group of addresses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupConfig {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) ranges: Vec<String>,
    /// Ranges that are given out only when an address of them is named.
    #[serde(default)]
    pub(crate) hidden_ranges: Vec<String>,
    /// Who may take addresses of this group; absent: everybody.
    #[serde(default)]
    pub(crate) users: Option<Vec<String>>,
}

/// What an exhausted group is refused with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exhausted {
    #[default]
    Limit,
    Missed,
}

/// One server panel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DciConfig {
    #[serde(default = "dcimgr")]
    pub(crate) name: String,
    /// An own address to listen at; absent: the common one.
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) users: Vec<UserConfig>,
    #[serde(default)]
    pub(crate) protocol: ProtocolConfig,
    #[serde(default)]
    pub(crate) behaviour: DciBehaviour,
    #[serde(default)]
    pub(crate) durations: Durations,
    #[serde(default)]
    pub(crate) release: ReleasePolicy,
    #[serde(default)]
    pub(crate) server_types: Vec<TypeConfig>,
    #[serde(default)]
    pub(crate) racks: Vec<String>,
    #[serde(default)]
    pub(crate) os_templates: Vec<TemplateConfig>,
    #[serde(default)]
    pub(crate) recipes: Vec<RecipeConfig>,
    /// The panel's own base of addresses.
    #[serde(default)]
    pub(crate) address_groups: Vec<GroupConfig>,
    /// Take addresses from a simulated address manager instead.
    #[serde(default)]
    pub(crate) addresses_from: Option<AddressesFrom>,
    #[serde(default)]
    pub(crate) servers: Vec<ServerConfig>,
}

fn dcimgr() -> String {
    "dcimgr".to_owned()
}

/// The address manager that a server panel is connected to, and the user it has there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressesFrom {
    pub(crate) ipmanager: String,
    pub(crate) user: String,
}

/// How long things take. Sections 2.4 to 2.7.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Durations {
    pub(crate) power: Span,
    pub(crate) install: Span,
    pub(crate) diag: Span,
    pub(crate) rescue: Span,
    pub(crate) connection: Span,
    /// How long after its start an operation becomes visible in the list.
    pub(crate) operation_visible_after: Span,
}

impl Default for Durations {
    fn default() -> Self {
        let seconds = |n| Span(std::time::Duration::from_secs(n));
        Self {
            power: seconds(2),
            install: seconds(20),
            diag: seconds(10),
            rescue: seconds(5),
            connection: seconds(1),
            operation_visible_after: seconds(0),
        }
    }
}

/// Where the facts leave several possibilities, which one this panel has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DciBehaviour {
    pub(crate) server_edit_omitted: Omitted,
    /// How `owner` stands in the list when there is none.
    pub(crate) no_owner_in_list: NoOwner,
    pub(crate) main_ip_replace: MainIpReplace,
    /// What a power call answers when the IPMI does not.
    pub(crate) dead_ipmi_answer: DeadIpmiAnswer,
    /// What the list shows while the IPMI does not answer.
    pub(crate) dead_ipmi_list: DeadIpmiList,
    pub(crate) dead_ipmi_error: ErrorName,
    /// The refusal of an operation while another one runs.
    pub(crate) busy_error: ErrorName,
    pub(crate) exhausted: Exhausted,
    /// Notes longer than this are cut without a word; absent: not cut.
    pub(crate) notes_limit: Option<usize>,
    /// Whether `iplist` has rows of type `group`.
    pub(crate) iplist_groups: bool,
    /// Whether the server list shows the MAC address.
    pub(crate) list_mac: bool,
    /// Which of the two fields with the server type the list shows.
    pub(crate) type_fields: TypeFields,
}

impl Default for DciBehaviour {
    fn default() -> Self {
        Self {
            server_edit_omitted: Omitted::Reset,
            no_owner_in_list: NoOwner::Absent,
            main_ip_replace: MainIpReplace::Works,
            dead_ipmi_answer: DeadIpmiAnswer::Error,
            dead_ipmi_list: DeadIpmiList::Powererror,
            dead_ipmi_error: ErrorName { kind: "connection".to_owned(), object: "ipmi".to_owned() },
            busy_error: ErrorName { kind: "server_busy".to_owned(), object: "operation".to_owned() },
            exhausted: Exhausted::Limit,
            notes_limit: None,
            iplist_groups: true,
            list_mac: false,
            type_fields: TypeFields::Both,
        }
    }
}

/// The type and object of an error document.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorName {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) object: String,
}

/// What becomes of fields that a modifying call leaves out (section 1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Omitted {
    Reset,
    Keep,
}

/// How `owner` stands in the list when there is none (section 2.1: absent or empty).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NoOwner {
    Absent,
    Empty,
}

/// What happens when a caller gives the main row another address (section 2.5: unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MainIpReplace {
    Works,
    Ignored,
    Refused,
}

/// What a power call answers when the IPMI is dead (section 2.7: unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeadIpmiAnswer {
    Error,
    /// The call succeeds; the flag appears later.
    Ok,
}

/// What the list shows of a server whose IPMI is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeadIpmiList {
    Powererror,
    LastKnown,
}

/// Which of the fields `type` and `chassis_templ` the list shows (section 2.1: older and newer panels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TypeFields {
    Both,
    Type,
    ChassisTempl,
}

/// What the panel does with a server that has become free (section 2.8).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReleasePolicy {
    pub(crate) diagnostics: bool,
    pub(crate) outcome: DiagOutcome,
    pub(crate) clear_disks: bool,
    pub(crate) power_off: bool,
}

impl Default for ReleasePolicy {
    fn default() -> Self {
        Self { diagnostics: false, outcome: DiagOutcome::Ok, clear_disks: true, power_off: true }
    }
}

/// How diagnostics end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiagOutcome {
    #[default]
    Ok,
    Hwproblem,
}

/// A server type (`chassistempl`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TypeConfig {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    /// The templates that may be installed; absent: all.
    #[serde(default)]
    pub(crate) os: Option<Vec<String>>,
}

/// A template of an operation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateConfig {
    pub(crate) name: String,
    #[serde(default, rename = "type")]
    pub(crate) kind: TemplateKind,
    #[serde(default)]
    pub(crate) outcome: OperationOutcome,
    #[serde(default)]
    pub(crate) duration: Option<Span>,
}

/// What a template is for (section 2.6, `osmgr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TemplateKind {
    #[default]
    Os,
    Diag,
    Rescue,
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OperationOutcome {
    #[default]
    Success,
    /// `operation_failed`; nothing is installed.
    Fail,
    /// The system is installed, its recipe fails, and `operation_failed` shows.
    RecipeFail,
    /// It never ends by itself.
    Hang,
    /// It ends, and the server has the flag `hwproblem`.
    Hwproblem,
}

/// A recipe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecipeConfig {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) outcome: RecipeOutcome,
}

/// How a recipe ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RecipeOutcome {
    #[default]
    Success,
    Fail,
}

/// One server, or `count` of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerConfig {
    /// That many servers; ids, addresses and names count up.
    pub(crate) count: Option<u32>,
    pub(crate) id: Option<u64>,
    /// `{id}` and `{n}` (from 1) are replaced.
    pub(crate) name: Option<String>,
    #[serde(rename = "type")]
    pub(crate) server_type: Option<String>,
    /// Absent: made from the id. Empty: none.
    pub(crate) mac: Option<String>,
    /// The main address. Absent: made from the id. Empty: none.
    pub(crate) ip: Option<String>,
    pub(crate) extra_ips: Vec<String>,
    /// The domain of the main address.
    pub(crate) hostname: Option<String>,
    /// The name of a user.
    pub(crate) owner: Option<String>,
    pub(crate) notes: String,
    pub(crate) flags: Vec<Flag>,
    pub(crate) power: PowerState,
    pub(crate) ipmi: IpmiHealth,
    pub(crate) rack: Option<String>,
    pub(crate) unit: Option<String>,
    /// Fields of the form such as `cpu_0` or `hdd_3`.
    pub(crate) hardware: BTreeMap<String, String>,
    /// Absent: one switch port and one IPMI.
    pub(crate) connections: Option<Vec<ConnectionConfig>>,
    /// What its operations will do, one after the other.
    pub(crate) operations: Vec<Script>,
    pub(crate) installed: Option<String>,
}

/// A flag that a server has from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flag {
    Hwproblem,
    Blocked,
    Disabled,
    OperationFailed,
}

/// Whether the power is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PowerState {
    On,
    #[default]
    Off,
}

/// Whether the IPMI answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IpmiHealth {
    #[default]
    Alive,
    Dead,
}

/// Something a server is connected to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionConfig {
    #[serde(rename = "type")]
    pub(crate) kind: ConnectionKind,
    #[serde(default)]
    pub(crate) ip: String,
    #[serde(default)]
    pub(crate) port: String,
}

/// The kinds of connections (section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum ConnectionKind {
    Switch,
    #[serde(rename = "IPMI")]
    Ipmi,
    #[serde(rename = "PDU")]
    Pdu,
}

impl ConnectionKind {
    /// As it stands in the list.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Switch => "Switch",
            Self::Ipmi => "IPMI",
            Self::Pdu => "PDU",
        }
    }
}

/// What one operation will do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    #[serde(default)]
    pub(crate) outcome: OperationOutcome,
    #[serde(default)]
    pub(crate) duration: Option<Span>,
}

/// One address manager.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpmConfig {
    #[serde(default = "ipmgr")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) users: Vec<UserConfig>,
    #[serde(default)]
    pub(crate) protocol: ProtocolConfig,
    #[serde(default)]
    pub(crate) behaviour: IpmBehaviour,
    #[serde(default)]
    pub(crate) address_groups: Vec<GroupConfig>,
    /// Addresses that are taken from the start.
    #[serde(default)]
    pub(crate) addresses: Vec<AddressConfig>,
    /// Panels whose servers' addresses are taken here from the start.
    #[serde(default)]
    pub(crate) holds_for: Vec<HoldsFor>,
}

fn ipmgr() -> String {
    "ipmgr".to_owned()
}

/// Where the facts leave several possibilities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IpmBehaviour {
    pub(crate) exhausted: Exhausted,
    pub(crate) ip_edit_omitted: Omitted,
    /// Notes longer than this are cut without a word; absent: not cut.
    pub(crate) note_limit: Option<usize>,
}

impl Default for IpmBehaviour {
    fn default() -> Self {
        Self { exhausted: Exhausted::Limit, ip_edit_omitted: Omitted::Reset, note_limit: None }
    }
}

/// An address that is taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressConfig {
    pub(crate) ip: std::net::IpAddr,
    #[serde(default)]
    pub(crate) group: Option<String>,
    pub(crate) holder: String,
    #[serde(default)]
    pub(crate) domain: String,
    #[serde(default)]
    pub(crate) note: String,
}

/// A server panel whose addresses this address manager knows, as taken by `user`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoldsFor {
    pub(crate) panel: String,
    pub(crate) user: String,
}
