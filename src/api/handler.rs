//! `ProcessingHandler`: one integration with a panel, written by the provider.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{
    Connection, Duration, LABEL_PATTERN, LabelValue, LocalRef, NOT_BLANK_PATTERN, NamespacedRef, ObjectKey, default_poll, default_value,
    null_as_default, poll_or_default,
};
use super::messages as msg;

pub use super::department::Webhook;
pub use super::dialect::{DialectCall, DialectVerify};
pub use super::handler_status::{ClientClaim, ConfigurationCount, HandlerStatus, InventoryStatus, LicenseCounts, OrderCounts};
pub use super::licenses::{LicenseDeletion, LicenseProduct, Licenses};

/// One integration with a panel: how it is reached, how servers are prepared, who is asked when hands are needed.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "dci-operator.dev",
    version = "v1alpha1",
    kind = "ProcessingHandler",
    plural = "processinghandlers",
    shortname = "ph",
    category = "dci",
    namespaced,
    status = "HandlerStatus",
    derive = "PartialEq",
    cel,
    doc = "One integration with a panel: how it is reached, how servers are prepared, and who is asked when hands are needed.",
    selectable = ".spec.module",
    printcolumn(name = "MODULE", type_ = "string", json_path = ".spec.module"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "FREE", type_ = "integer", json_path = ".status.inventory.free"),
    printcolumn(name = "ORDERS", type_ = "integer", json_path = ".status.orders.total"),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.module == oldSelf.module")
        .message(msg::MODULE_FIXED),
    validation = Rule::new("self.module == 'BILLmanager6' || self.byServerType || (has(self.departments) && has(self.departments.assembly) && has(self.departments.procurement))")
        .message(msg::DEPARTMENTS),
    validation = Rule::new("self.module != 'BILLmanager6' || !(self.byServerType || has(self.ipManagement) || (has(self.departments) && (has(self.departments.assembly) || has(self.departments.procurement))))")
        .message(msg::LICENSE_SERVER),
    validation = Rule::new("self.module == 'BILLmanager6' || has(self.ipManagement)")
        .message(msg::IP_MANAGEMENT),
    validation = Rule::new("self.module == 'BILLmanager6' ? !has(self.licenseServerRef) : !has(self.licenses)")
        .message(msg::LICENSES)
)]
pub struct HandlerSpec {
    /// What is sold: `DedicatedServer`, the only value. Immutable.
    #[serde(default, deserialize_with = "null_as_default")]
    pub product_type: ProductType,
    /// The panel's product. Immutable.
    pub module: Module,
    /// How the panel is reached. Acted upon at once.
    pub connection: Connection,
    /// True: legacy, ready configurations only ("by server type"). Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub by_server_type: bool,
    /// What an IPMI error means while an order is closed. Acted upon at once; a task to stop the server that is open by then is answered first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ipmi_error_policy: IpmiErrorPolicy,
    /// Where addresses come from; required for the DCImanager modules. Acted upon at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_management: Option<IpManagement>,
    /// The handler (module `BILLmanager6`) that orders licences. Acted upon at once by orders that never asked for any; those that have, or may
    /// have, licences stay with the one that they first asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_server_ref: Option<NamespacedRef>,
    /// What a licence server sells; module `BILLmanager6` only. Acted upon at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licenses: Option<Licenses>,
    /// Who is asked when hands are needed. Assembly and procurement are required for the DCImanager modules unless `byServerType`.
    /// Acted upon at once, for tasks that are raised from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departments: Option<Departments>,
    /// Data centre. Informational; for DCImanager 6, only servers of this location are taken. Acted upon at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NOT_BLANK_PATTERN))]
    pub data_center: Option<String>,
    /// Lower is tried first when an order selects several handlers. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Bounds on what is done at once. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub limits: Limits,
    /// How failures are repeated. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub retry: Retry,
    /// How long each thing may take. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub timeouts: Timeouts,
    /// How often the panel's list of servers is read; at least 1s. Acted upon at once.
    #[serde(default = "default_poll", deserialize_with = "poll_or_default")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message(msg::POLL_INTERVAL))]
    pub poll_interval: Duration,
    /// Whose orders may use this handler. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub allowed_namespaces: AllowedNamespaces,
    /// Which deletion policies orders may ask for. Acted upon at once.
    #[serde(default = "default_policies", deserialize_with = "policies_or_default")]
    #[schemars(length(min = 1, max = 2))]
    pub allowed_deletion_policies: Vec<DeletionPolicy>,
    /// Whether orders may take over servers that already have an owner. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub adoption: Adoption,
    /// Overrides of panel calls that are not confirmed, by name of the call. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub dialect: BTreeMap<String, DialectCall>,
    /// True: no change is sent to the panel. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub suspend: bool,
}

default_value!(default_policies, policies_or_default: Vec<DeletionPolicy> = vec![DeletionPolicy::Release]);

/// What is sold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProductType {
    /// A dedicated server.
    #[default]
    DedicatedServer,
}

/// The panel's product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Module {
    /// DCImanager 5.
    DCImanager5,
    /// DCImanager 6.
    DCImanager6,
    /// BILLmanager 6 as licence server.
    BILLmanager6,
}

impl Module {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DCImanager5 => "DCImanager5",
            Self::DCImanager6 => "DCImanager6",
            Self::BILLmanager6 => "BILLmanager6",
        }
    }
}

/// What an IPMI error means while an order is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpmiErrorPolicy {
    /// The server counts as off.
    #[default]
    Ignore,
    /// A person has to stop the server before it is released.
    CreateTask,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.parkingIPType) || self.parkingIPType != self.publicIPType").message(msg::PARKING))]
pub struct IpManagement {
    /// The `IPManager`, in the handler's namespace.
    pub ip_manager_ref: LocalRef,
    /// True: the main address is never changed, neither on preparation nor on release.
    #[serde(default, deserialize_with = "null_as_default", rename = "disableIPChange")]
    pub disable_ip_change: bool,
    /// Group of addresses for servers that are issued.
    #[serde(default = "default_public", deserialize_with = "public_or_default", rename = "publicIPType")]
    #[schemars(length(min = 1, max = 64), regex(pattern = NOT_BLANK_PATTERN))]
    pub public_ip_type: String,
    /// Group of addresses for free servers, another one than `publicIPType`; the main address stays when absent.
    #[serde(default, rename = "parkingIPType", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = NOT_BLANK_PATTERN))]
    pub parking_ip_type: Option<String>,
    /// Who takes addresses from the pool: the operator in IPmanager, or the panel by itself. It stays while orders have servers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub allocate_by: AllocateBy,
}

default_value!(default_public, public_or_default: String = "public".into());

/// Who takes addresses from the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllocateBy {
    /// The operator takes each address in IPmanager and gives it to DCImanager.
    #[default]
    Operator,
    /// DCImanager takes it by itself; the operator never writes to IPmanager.
    Panel,
}

impl AllocateBy {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "Operator",
            Self::Panel => "Panel",
        }
    }
}

/// Who is asked when hands are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Departments {
    /// Failed operations, manual stops.
    #[serde(default, deserialize_with = "null_as_default")]
    pub operations: Operations,
    /// Builds servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assembly: Option<Department>,
    /// Buys parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procurement: Option<Department>,
}

impl Departments {
    /// All that there are, each by its name, with the receiver that is told of its tasks.
    pub fn all(&self) -> impl Iterator<Item = (&str, Option<&Webhook>)> {
        let operations = (self.operations.name.as_str(), self.operations.webhook.as_ref());
        let others = [&self.assembly, &self.procurement].into_iter().flatten().map(|d| (d.name.as_str(), d.webhook.as_ref()));
        std::iter::once(operations).chain(others)
    }
}

/// A department.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.deadline) || duration(self.deadline) >= duration('1s')").message(msg::DEADLINE),
    validation = Rule::new("!has(self.escalateTo) || (has(self.deadline) && self.escalateTo != self.name)").message(msg::ESCALATE_TO)
)]
pub struct Department {
    /// A label value.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_PATTERN))]
    pub name: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub title: Option<String>,
    /// How long a task may stay open before it escalates; at least 1s. As long as it takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// The department that may close a task as well when its deadline has passed: a label value, and not this department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_PATTERN))]
    pub escalate_to: Option<String>,
    /// Who is told when a task is raised, escalated or closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// The department that always exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.deadline) || duration(self.deadline) >= duration('1s')").message(msg::DEADLINE),
    validation = Rule::new("!has(self.escalateTo) || (has(self.deadline) && self.escalateTo != self.name)").message(msg::ESCALATE_TO)
)]
pub struct Operations {
    /// A label value.
    #[serde(default = "default_operations", deserialize_with = "operations_or_default")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_PATTERN))]
    pub name: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub title: Option<String>,
    /// How long a task may stay open before it escalates; at least 1s. As long as it takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// The department that may close a task as well when its deadline has passed: a label value, and not this department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_PATTERN))]
    pub escalate_to: Option<String>,
    /// Who is told when a task is raised, escalated or closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

default_value!(default_operations, operations_or_default: String = "Operations".into());

impl Default for Operations {
    fn default() -> Self {
        Self { name: default_operations(), title: None, deadline: None, escalate_to: None, webhook: None }
    }
}

/// Bounds on what is done at once; 0 means no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Orders that may be in preparation at once; 0: no limit.
    #[serde(deserialize_with = "operations_limit_or_default")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_concurrent_operations: i32,
    /// Orders that may be in release at once; 0: no limit.
    #[serde(deserialize_with = "releases_limit_or_default")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_concurrent_releases: i32,
    /// Orders of one namespace; 0: no limit.
    #[serde(deserialize_with = "null_as_default")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_orders_per_namespace: i32,
    /// Requests to the panel per second; 0: no limit.
    #[serde(deserialize_with = "requests_limit_or_default")]
    #[schemars(range(min = 0, max = 10000))]
    pub requests_per_second: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_operations: default_operations_limit(),
            max_concurrent_releases: default_releases_limit(),
            max_orders_per_namespace: 0,
            requests_per_second: default_requests_limit(),
        }
    }
}

default_value!(default_operations_limit, operations_limit_or_default: i32 = 20);
default_value!(default_releases_limit, releases_limit_or_default: i32 = 5);
default_value!(default_requests_limit, requests_limit_or_default: i32 = 10);

/// How failures are repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Time between two attempts, jittered; at least 1s.
    #[serde(default = "default_interval", deserialize_with = "interval_or_default")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message(msg::RETRY_INTERVAL))]
    pub interval: Duration,
    /// Attempts before a person is asked.
    #[serde(default = "default_attempts", deserialize_with = "attempts_or_default")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: i32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { interval: default_interval(), max_attempts: default_attempts() }
    }
}

default_value!(default_interval, interval_or_default: Duration = Duration::seconds(300));
default_value!(default_attempts, attempts_or_default: i32 = 10);
/// How long each thing may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.power) >= duration('1s') && duration(self.install) >= duration('1s') && duration(self.step) >= duration('1s') && duration(self.settle) >= duration('1s')")
        .message(msg::TIMEOUTS)
)]
pub struct Timeouts {
    /// Switching the power.
    #[serde(default = "default_power", deserialize_with = "power_or_default")]
    pub power: Duration,
    /// Installing a system.
    #[serde(default = "default_install", deserialize_with = "install_or_default")]
    pub install: Duration,
    /// Any other step.
    #[serde(default = "default_step", deserialize_with = "step_or_default")]
    pub step: Duration,
    /// How long a request may still take effect: one whose answer was lost, or a copy of it. A release waits that long after the preparation.
    #[serde(default = "default_settle", deserialize_with = "settle_or_default")]
    pub settle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { power: default_power(), install: default_install(), step: default_step(), settle: default_settle() }
    }
}

default_value!(default_power, power_or_default: Duration = Duration::seconds(600));
default_value!(default_install, install_or_default: Duration = Duration::seconds(7200));
default_value!(default_step, step_or_default: Duration = Duration::seconds(300));
default_value!(default_settle, settle_or_default: Duration = Duration::seconds(120));
/// Whose orders may use a handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
        .message(msg::ALLOWED_NAMESPACES)
)]
pub struct AllowedNamespaces {
    /// Which namespaces: the handler's own, all, or those with the selector's labels.
    #[serde(default, deserialize_with = "null_as_default")]
    pub from: NamespacesFrom,
    /// Labels of the namespaces, for `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<MatchLabels>,
}

/// Which namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The handler's own.
    #[default]
    Same,
    /// All.
    All,
    /// Those with certain labels.
    Selector,
}

/// Labels that must all be there; at least one, so that a selector whose labels were lost does not open the handler to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchLabels {
    /// Labels.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16), with = "BTreeMap<String, LabelValue>")]
    pub match_labels: BTreeMap<String, String>,
}

/// What becomes of the server when the order goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It is taken back.
    #[default]
    Release,
    /// It is left as it is.
    Orphan,
}

/// Whether orders may take over servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// No.
    #[default]
    Forbidden,
    /// Yes.
    Allowed,
}

impl ProcessingHandler {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.metadata.namespace.clone().unwrap_or_default(), name: self.metadata.name.clone().unwrap_or_default() }
    }
}
