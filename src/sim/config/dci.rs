//! A server panel in the configuration.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{Exhausted, GroupConfig, Invented, ProtocolConfig, ServerConfig, UserConfig};
use crate::sim::span::Span;

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
    pub(crate) invented: Invented,
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
    /// How long a main address takes to be replaced where that is done later.
    pub(crate) main_ip: Span,
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
            main_ip: seconds(3),
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
    /// How long the list shows that an operation has failed.
    pub(crate) operation_failed_until: FailedUntil,
    /// Which template the form of operations names.
    pub(crate) ostemplate_in_form: FormTemplate,
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
            operation_failed_until: FailedUntil::NextOperation,
            ostemplate_in_form: FormTemplate::Installed,
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
    /// The call succeeds; the address is another one later.
    Later,
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

/// How long `operation_failed` shows (section 2.1: the last operation failed; when that ends is unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailedUntil {
    /// Another operation begins.
    NextOperation,
    /// Another operation has succeeded.
    NextSuccess,
}

/// What `ostemplate` is in the form of operations (section 2.6: "current").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FormTemplate {
    Installed,
    /// What was chosen last, whatever became of it.
    Chosen,
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
