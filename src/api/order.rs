//! DedicatedServerOrder: one server for one client.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{NamespacedRef, ObjectKey, SecretKeyRef, Time};
use super::condition::Condition;
use super::handler::DeletionPolicy;

/// One server for one client.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "dci-operator.dev",
    version = "v1alpha1",
    kind = "DedicatedServerOrder",
    plural = "dedicatedserverorders",
    shortname = "dso",
    category = "dci",
    namespaced,
    status = "OrderStatus",
    derive = "PartialEq",
    cel,
    doc = "One dedicated server for one client.",
    selectable = ".spec.handlerRef.name",
    selectable = ".status.phase",
    selectable = ".status.server.id",
    printcolumn(name = "PHASE", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "STEP", type_ = "string", json_path = ".status.progress.step"),
    printcolumn(name = "SERVER", type_ = "string", json_path = ".status.server.id"),
    printcolumn(name = "ADDRESS", type_ = "string", json_path = ".status.server.mainAddress"),
    printcolumn(name = "WAITING ON", type_ = "string", json_path = ".status.waitingOn.kind"),
    printcolumn(name = "NEXT RETRY", type_ = "string", json_path = ".status.nextRetryTime"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "HANDLER", type_ = "string", json_path = ".spec.handlerRef.name", priority = 1),
    printcolumn(name = "ERROR", type_ = "string", json_path = ".status.lastError.code", priority = 1),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name of an order must have at most 63 characters; choose a shorter name"),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || self.spec.configuration == oldSelf.spec.configuration")
        .message("spec.configuration is fixed once a server is allocated; put it back, or create another order"),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || self.spec.client == oldSelf.spec.client")
        .message("spec.client is fixed once a server is allocated; put it back, or create another order"),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || (has(self.spec.handlerRef) == has(oldSelf.spec.handlerRef) && (!has(self.spec.handlerRef) || self.spec.handlerRef == oldSelf.spec.handlerRef))")
        .message("spec.handlerRef is fixed once a server is allocated; put it back, or create another order"),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || (has(self.spec.handlerSelector) == has(oldSelf.spec.handlerSelector) && (!has(self.spec.handlerSelector) || self.spec.handlerSelector == oldSelf.spec.handlerSelector))")
        .message("spec.handlerSelector is fixed once a server is allocated; put it back, or create another order")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.handlerRef) != has(self.handlerSelector)")
        .message("set exactly one of spec.handlerRef and spec.handlerSelector"),
    validation = Rule::new("has(self.adopt) == has(oldSelf.adopt) && (!has(self.adopt) || self.adopt == oldSelf.adopt)")
        .message("spec.adopt cannot be added, changed or removed; create another order")
)]
pub struct OrderSpec {
    /// The handler that serves the order. Fixed once allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler_ref: Option<NamespacedRef>,
    /// Or: handlers of one namespace by label, tried by priority. Fixed once allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler_selector: Option<HandlerSelector>,
    /// Owner in the panel. Fixed once allocated.
    pub client: Client,
    /// What is ordered. Fixed once allocated.
    pub configuration: Configuration,
    /// Domain of the server. Acted upon at once.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$")
    )]
    pub domain: String,
    /// Public addresses, the main one included. Acted upon at once.
    #[serde(default)]
    pub addresses: Addresses,
    /// What is installed. Acted upon at the next reinstall.
    pub operating_system: OperatingSystem,
    /// Recipes, run after the installation. Acted upon at the next reinstall.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub recipes: Vec<String>,
    /// What the order waits for before it is Ready.
    #[serde(default)]
    pub ready_when: ReadyWhen,
    /// Licences. Acted upon at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub licenses: Vec<License>,
    /// True: the service is suspended. Acted upon at once.
    #[serde(default)]
    pub suspended: bool,
    /// Any new value installs the system again and destroys the data on the disks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub reinstall: String,
    /// What becomes of the server when the order goes. Acted upon when the order is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// True: deletion is refused. Acted upon at once.
    #[serde(default)]
    pub deletion_protection: bool,
    /// Take over a server that already has an owner. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
}

/// Handlers of one namespace by label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandlerSelector {
    /// Namespace; the order's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Labels that a handler must all have.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, LabelText>")]
    pub match_labels: BTreeMap<String, String>,
}

/// Schema of a label's value.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used: a bound on the values of a map")]
struct LabelText(#[schemars(length(max = 63))] String);

/// Owner in the panel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Log-in name; created when it does not exist. Names of administrators are refused.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._@-]*[A-Za-z0-9])?$"))]
    pub username: String,
    /// Mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254))]
    pub email: Option<String>,
}

/// What is ordered: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serverType) != has(self.custom)")
        .message("set exactly one of configuration.serverType and configuration.custom")
)]
pub struct Configuration {
    /// A ready configuration: the panel's server type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub server_type: Option<String>,
    /// A configuration of the client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomConfiguration>,
}

/// A configuration of the client's own; at least one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cpu) || has(self.memoryGiB) || (has(self.disks) && size(self.disks) > 0) || (has(self.pci) && size(self.pci) > 0)")
        .message("configuration.custom needs at least one of cpu, memoryGiB, disks and pci")
)]
pub struct CustomConfiguration {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory in GiB.
    #[serde(default, rename = "memoryGiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub memory_gib: Option<i32>,
    /// Disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub disks: Vec<Disk>,
    /// PCI cards by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(min = 1, max = 128)))]
    pub pci: Vec<String>,
}

/// Processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Model.
    #[schemars(length(min = 1, max = 128))]
    pub model: String,
    /// How many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub count: i32,
}

/// Disks of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Type: `SSD`, `HDD`, `NVMe`, ...
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 32))]
    pub type_: String,
    /// Size of each in GB.
    #[serde(rename = "sizeGB")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub size_gb: i32,
    /// How many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 30))]
    pub count: i32,
}

fn one() -> i32 {
    1
}

/// Public addresses, the main one included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Addresses {
    /// IPv4; at least one, since the main address is one.
    #[schemars(range(min = 1, max = 64))]
    pub ipv4: i32,
    /// IPv6.
    #[schemars(range(min = 0, max = 64))]
    pub ipv6: i32,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { ipv4: 1, ipv6: 0 }
    }
}

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatingSystem {
    /// The panel's template, `<repository>__<name>`.
    #[schemars(length(min = 1, max = 253))]
    pub template: String,
    /// Password of root or Administrator; generated into Secret `<order>-root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// What the order waits for before it is Ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReadyWhen {
    /// The system is installed and the recipes have run.
    #[default]
    RecipesFinished,
    /// The system is installed.
    OSInstalled,
}

/// A licence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct License {
    /// Product, as the licence handler names it.
    #[schemars(length(min = 1, max = 128))]
    pub product: String,
    /// Period in months.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 120))]
    pub period: i32,
}

/// Take over a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// Id at the panel.
    #[schemars(length(min = 1, max = 64))]
    pub server_id: String,
}

/// What the operator says of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderStatus {
    /// The generation that was acted upon; -1 before the operator saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// For people: Pending, Allocating, `AwaitingTask`, Preparing, Active, Suspended, Deleting, Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// For programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The steps, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// Tasks raised for this order, newest last, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manual_tasks: Vec<TaskSummary>,
    /// Licences; the keys are in Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<LicenseStatus>,
    /// Failed attempts of the step at hand.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// The last error; absent once it is overcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// When it is tried again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<Time>,
    /// What is waited for; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<WaitingOn>,
    /// The value of the reconcile annotation that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The value of `spec.reinstall` that was acted upon or recorded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reinstall: Option<String>,
    /// The external call about to be made, written before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    pub percent: i32,
    /// The step at hand.
    pub step: String,
    /// What happens, where possible in the panel's own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Name.
    pub name: String,
    /// Pending; Running: begun, the panel not yet seen at work; Waiting: the panel is seen at work, or somebody is waited for;
    /// Done; Skipped; Failed.
    pub state: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How often it was begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// What happened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The server of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Id at the panel.
    pub id: String,
    /// Label at the panel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The handler, as namespace/name.
    pub handler: String,
    /// Identity of the panel (host, port, path).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub panel: String,
    /// The configuration it was taken for.
    pub configuration: String,
    /// The client it was taken for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// Main address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_address: Option<String>,
    /// All public addresses, the main one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The main address it had when it was free; absent once that is replaced and given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_address: Option<String>,
    /// Template that was installed last by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Recipes that were run with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipes: Vec<String>,
    /// On, Off or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<String>,
    /// When it was handed over to the client; from then on nothing on its disks is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_at: Option<Time>,
}

/// A task of this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSummary {
    /// Name of the `ManualTask`, in the handler's namespace.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Department.
    pub department: String,
    /// Open, or how it was closed.
    pub state: String,
    /// When it was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A licence of this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseStatus {
    /// Product.
    pub product: String,
    /// Id at the licence server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// The last error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The step it happened in.
    pub step: String,
    /// One word for programs.
    pub code: String,
    /// What happened, and what can be done.
    pub message: String,
    /// Whether it is tried again by itself.
    pub retryable: bool,
    /// When.
    pub time: Time,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingOn {
    /// Panel, Department, Capacity, Handler or Retry.
    pub kind: String,
    /// Which one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Since when.
    pub since: Time,
    /// Until when at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The external call about to be made. It stays until its effect was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Unique for each attempt.
    pub operation_id: String,
    /// The step it belongs to.
    pub step: String,
    /// The call, or the first of several of this step.
    pub call: String,
    /// What it is done to, e.g. `server/17`.
    pub target: String,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// When it was written, or, once Ambiguous, since when its answer has been missing.
    pub since: Time,
    /// Sent or Ambiguous.
    pub outcome: String,
    /// How often the effect was looked for in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub looks: i32,
}

impl DedicatedServerOrder {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.metadata.namespace.clone().unwrap_or_default(), name: self.metadata.name.clone().unwrap_or_default() }
    }
}
