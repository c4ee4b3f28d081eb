//! ProcessingHandler: one integration with a panel, written by the provider.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Connection, Duration, LocalRef, NamespacedRef, ObjectKey, Time};
use super::condition::Condition;

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
        .message("spec.module cannot be changed; create another ProcessingHandler and let new orders refer to it"),
    validation = Rule::new("self.module == 'BILLmanager6' || self.byServerType || (has(self.departments) && has(self.departments.assembly) && has(self.departments.procurement))")
        .message("set spec.departments.assembly and spec.departments.procurement, or byServerType: true for ready configurations only"),
    validation = Rule::new("self.module != 'BILLmanager6' || !(self.byServerType || has(self.ipManagement) || has(self.licenseServerRef) || (has(self.departments) && (has(self.departments.assembly) || has(self.departments.procurement))))")
        .message("module BILLmanager6 is a licence server: remove byServerType, ipManagement, licenseServerRef and departments.assembly and .procurement"),
    validation = Rule::new("self.module == 'BILLmanager6' || has(self.ipManagement)")
        .message("set spec.ipManagement.ipManagerRef: the modules DCImanager5 and DCImanager6 need an IPManager"),
    validation = Rule::new("self.module == 'DCImanager5' || self.module == 'BILLmanager6' || !has(self.ipManagement) || self.ipManagement.allocateBy == 'Operator'")
        .message("ipManagement.allocateBy: Panel belongs to module DCImanager5; use Operator"),
    validation = Rule::new("has(self.dataCenter) ? self.module != 'BILLmanager6' : true")
        .message("dataCenter belongs to the modules DCImanager5 and DCImanager6; remove it")
)]
pub struct HandlerSpec {
    /// What is sold. The only value. Immutable in effect.
    #[serde(default)]
    pub product_type: ProductType,
    /// The panel's product. Immutable.
    pub module: Module,
    /// How the panel is reached. Acted upon at once.
    pub connection: Connection,
    /// True: legacy, ready configurations only ("by server type"). Acted upon at once.
    #[serde(default)]
    pub by_server_type: bool,
    /// What an IPMI error means while an order is closed. Acted upon at once.
    #[serde(default)]
    pub ipmi_error_policy: IpmiErrorPolicy,
    /// Where addresses come from; required for the DCImanager modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_management: Option<IpManagement>,
    /// The handler (module BILLmanager6) that orders licences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_server_ref: Option<NamespacedRef>,
    /// Who is asked when hands are needed. May be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departments: Option<Departments>,
    /// Data centre. Informational.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub data_center: Option<String>,
    /// Lower is tried first when an order selects several handlers.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Bounds on what is done at once. Acted upon at once.
    #[serde(default)]
    pub limits: Limits,
    /// How failures are repeated. Acted upon at once.
    #[serde(default)]
    pub retry: Retry,
    /// How long each thing may take. Acted upon at once.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How often the panel's list of servers is read; at least 1s.
    #[serde(default = "default_poll")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("pollInterval must be at least 1s"))]
    pub poll_interval: Duration,
    /// Whose orders may use this handler.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// What orders may ask for.
    #[serde(default = "default_policies")]
    #[schemars(length(min = 1, max = 2))]
    pub allowed_deletion_policies: Vec<DeletionPolicy>,
    /// Whether orders may take over servers that already have an owner.
    #[serde(default)]
    pub adoption: Adoption,
    /// Overrides of panel calls that are not confirmed, by name of the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub dialect: BTreeMap<String, DialectCall>,
    /// True: no change is sent to the panel.
    #[serde(default)]
    pub suspend: bool,
}

pub(super) fn default_poll() -> Duration {
    Duration::seconds(30)
}

fn default_policies() -> Vec<DeletionPolicy> {
    vec![DeletionPolicy::Release]
}

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpManagement {
    /// The IPManager, in the handler's namespace.
    pub ip_manager_ref: LocalRef,
    /// True: the main address is never changed, neither on preparation nor on release.
    #[serde(default, rename = "disableIPChange")]
    pub disable_ip_change: bool,
    /// Group of addresses for servers that are issued.
    #[serde(default = "default_public", rename = "publicIPType")]
    #[schemars(length(min = 1, max = 64))]
    pub public_ip_type: String,
    /// Group of addresses for free servers; the main address stays when absent.
    #[serde(default, rename = "parkingIPType", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub parking_ip_type: Option<String>,
    /// Who takes addresses from the pool: the operator in IPmanager, or the panel by itself.
    #[serde(default)]
    pub allocate_by: AllocateBy,
}

fn default_public() -> String {
    "public".into()
}

/// Who takes addresses from the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllocateBy {
    /// The operator takes each address in IPmanager and gives it to DCImanager.
    #[default]
    Operator,
    /// DCImanager takes it by itself; the operator never writes to IPmanager.
    Panel,
}

/// Who is asked when hands are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Departments {
    /// Failed operations, manual stops.
    #[serde(default)]
    pub operations: Operations,
    /// Builds servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assembly: Option<Department>,
    /// Buys parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procurement: Option<Department>,
}

/// A department.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Department {
    /// A label value.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub title: Option<String>,
}

/// The department that always exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operations {
    /// A label value.
    #[serde(default = "default_operations")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub title: Option<String>,
}

fn default_operations() -> String {
    "Operations".into()
}

impl Default for Operations {
    fn default() -> Self {
        Self { name: default_operations(), title: None }
    }
}

/// Bounds on what is done at once; 0 means no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Orders that may be in preparation at once.
    #[schemars(range(min = 0, max = 10000))]
    pub max_concurrent_operations: i32,
    /// Orders that may be in release at once.
    #[schemars(range(min = 0, max = 10000))]
    pub max_concurrent_releases: i32,
    /// Orders of one namespace.
    #[schemars(range(min = 0, max = 100_000))]
    pub max_orders_per_namespace: i32,
    /// Requests to the panel per second.
    #[schemars(range(min = 0, max = 10000))]
    pub requests_per_second: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_concurrent_operations: 20, max_concurrent_releases: 5, max_orders_per_namespace: 0, requests_per_second: 10 }
    }
}

/// How failures are repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Time between two attempts, jittered; at least 1s.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("retry.interval must be at least 1s"))]
    pub interval: Duration,
    /// Attempts before a person is asked.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: i32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { interval: default_interval(), max_attempts: default_attempts() }
    }
}

fn default_interval() -> Duration {
    Duration::seconds(300)
}

fn default_attempts() -> i32 {
    10
}

/// How long each thing may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.power) >= duration('1s') && duration(self.install) >= duration('1s') && duration(self.step) >= duration('1s') && duration(self.settle) >= duration('1s')")
        .message("timeouts must be at least 1s each")
)]
pub struct Timeouts {
    /// Switching the power.
    #[serde(default = "default_power")]
    pub power: Duration,
    /// Installing a system.
    #[serde(default = "default_install")]
    pub install: Duration,
    /// Any other step.
    #[serde(default = "default_step")]
    pub step: Duration,
    /// How long a change whose answer was lost may still take effect.
    #[serde(default = "default_settle")]
    pub settle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { power: default_power(), install: default_install(), step: default_step(), settle: default_settle() }
    }
}

fn default_power() -> Duration {
    Duration::seconds(600)
}

fn default_install() -> Duration {
    Duration::seconds(7200)
}

fn default_step() -> Duration {
    Duration::seconds(300)
}

fn default_settle() -> Duration {
    Duration::seconds(120)
}

/// Whose orders may use a handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
        .message("allowedNamespaces.selector goes with from: Selector; set both or neither")
)]
pub struct AllowedNamespaces {
    /// Which.
    #[serde(default)]
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

/// Labels that must all be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchLabels {
    /// Labels.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, LabelValue>")]
    pub match_labels: BTreeMap<String, String>,
}

/// Schema of a label's value.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used: a bound on the values of a map")]
struct LabelValue(#[schemars(length(max = 63))] String);

/// What becomes of the server when the order goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// How a call of a panel is made where the built-in form does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.func) != (has(self.method) && has(self.path)) && has(self.method) == has(self.path)")
        .message("a dialect call has either func (COREmanager panels) or method and path (REST panels)")
)]
pub struct DialectCall {
    /// COREmanager function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_.]+$"))]
    pub func: Option<String>,
    /// HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 6), regex(pattern = "^[A-Z]+$"))]
    pub method: Option<String>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// Parameters; values may hold placeholders such as `{server}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64), with = "BTreeMap<String, ParamValue>")]
    pub params: BTreeMap<String, String>,
    /// Member of the answer that carries the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub answer: Option<String>,
    /// How the effect is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<DialectVerify>,
}

/// Schema of a parameter's value.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used: a bound on the values of a map")]
struct ParamValue(#[schemars(length(max = 512))] String);

/// How the effect of a dialect call is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DialectVerify {
    /// The call that is read.
    #[schemars(length(min = 1, max = 128))]
    pub call: String,
    /// What it has to show.
    #[schemars(length(min = 1, max = 512))]
    pub expect: String,
}

/// What the operator says of a handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandlerStatus {
    /// The generation that was acted upon; -1 before the operator saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Identity of the panel (host, port, path).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panel: Option<String>,
    /// What the panel has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<InventoryStatus>,
    /// Orders that use this handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<OrderCounts>,
    /// Client names and the namespace each belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientClaim>,
    /// When the panel was last probed with success; written at most every ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// The value of the reconcile annotation that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// Servers of a panel, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryStatus {
    /// All.
    pub total: i64,
    /// Free.
    pub free: i64,
    /// By configuration, at most 50, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_configuration: Vec<ConfigurationCount>,
}

/// Servers of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationCount {
    /// Configuration.
    pub configuration: String,
    /// Free.
    pub free: i64,
    /// All.
    pub total: i64,
}

/// Orders of a handler, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderCounts {
    /// All.
    pub total: i64,
    /// Ready.
    pub ready: i64,
    /// Waiting for a person.
    pub waiting_for_task: i64,
}

/// A client name belongs to one namespace per panel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientClaim {
    /// Name at the panel.
    pub username: String,
    /// Namespace.
    pub namespace: String,
}

impl ProcessingHandler {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.metadata.namespace.clone().unwrap_or_default(), name: self.metadata.name.clone().unwrap_or_default() }
    }
}
