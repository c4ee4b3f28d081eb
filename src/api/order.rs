//! `DedicatedServerOrder`: one server for one client.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{
    LabelValue, NAMESPACE_PATTERN, NOT_BLANK_PATTERN, NamespacedRef, ObjectKey, SecretKeyRef, default_value, null_as_default,
};
use super::handler::DeletionPolicy;
use super::messages as msg;

pub use super::order_status::{
    AttemptsFor, HandlerNote, InFlight, InstalledSystem, LastError, LicenseStatus, OrderStatus, Progress, Returning, ServerStatus,
    StepStatus, TaskSummary, TriedServer, WaitingOn,
};

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
    printcolumn(name = "HANDLER", type_ = "string", json_path = ".status.handler", priority = 1),
    printcolumn(name = "ERROR", type_ = "string", json_path = ".status.lastError.code", priority = 1),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message(msg::ORDER_NAME),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || self.spec.configuration == oldSelf.spec.configuration")
        .message(msg::CONFIGURATION_FIXED),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || self.spec.client == oldSelf.spec.client")
        .message(msg::CLIENT_FIXED),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || (has(self.spec.handlerRef) == has(oldSelf.spec.handlerRef) && (!has(self.spec.handlerRef) || self.spec.handlerRef == oldSelf.spec.handlerRef))")
        .message(msg::HANDLER_REF_FIXED),
    validation = Rule::new("!(has(oldSelf.status) && (has(oldSelf.status.server) || has(oldSelf.status.inFlight))) || (has(self.spec.handlerSelector) == has(oldSelf.spec.handlerSelector) && (!has(self.spec.handlerSelector) || self.spec.handlerSelector == oldSelf.spec.handlerSelector))")
        .message(msg::HANDLER_SELECTOR_FIXED)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.handlerRef) != has(self.handlerSelector)")
        .message(msg::ONE_HANDLER),
    validation = Rule::new("self.domain != 'free.ds'")
        .message(msg::DOMAIN_FREE),
    validation = Rule::new("!(has(self.adopt) && has(self.handlerSelector))")
        .message(msg::ADOPT_HANDLER),
    validation = Rule::new("has(self.adopt) == has(oldSelf.adopt) && (!has(self.adopt) || self.adopt == oldSelf.adopt)")
        .message(msg::ADOPT_FIXED)
)]
pub struct OrderSpec {
    /// The handler that serves the order, in the order's own namespace unless it says otherwise. Fixed once allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler_ref: Option<NamespacedRef>,
    /// Or: handlers of one namespace by label, tried by priority, the next one on failure. Fixed once allocated.
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
    #[serde(default, deserialize_with = "null_as_default")]
    pub addresses: Addresses,
    /// What is installed. Acted upon at the next reinstall.
    pub operating_system: OperatingSystem,
    /// Recipes, run after the installation. Acted upon at the next reinstall. Where the handler's dialect has `runRecipe`, those that
    /// are added are run at once.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = NOT_BLANK_PATTERN)))]
    pub recipes: Vec<String>,
    /// What the order waits for before it is Ready. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ready_when: ReadyWhen,
    /// Licences, each product once; the keys come into the Secret named in `status.licenseSecret`. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["product"]))]
    pub licenses: Vec<License>,
    /// True: the service is suspended: server disabled, switch ports and power off. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub suspended: bool,
    /// Any new value installs the system again and destroys the data on the disks. Acted upon at once, on a suspended order when it is
    /// resumed, with deletionProtection never; a value that is already there when the operator first sees, adopts or finds a server
    /// again is recorded, never acted upon, and an empty one is no wish.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub reinstall: String,
    /// What becomes of the server when the order is deleted. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
    pub deletion_policy: DeletionPolicy,
    /// True: deletion and reinstallation are refused. Acted upon at once.
    #[serde(default, deserialize_with = "null_as_default")]
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
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE_PATTERN))]
    pub namespace: Option<String>,
    /// Labels that a handler must all have.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, LabelValue>")]
    pub match_labels: BTreeMap<String, String>,
}

/// Owner in the panel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.username.lowerAscii() in ['no_owner', 'null'])")
        .message(msg::USERNAME_TAKEN)
)]
pub struct Client {
    /// Log-in name; created when it does not exist. Names of administrators are refused.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._@-]*[A-Za-z0-9])?$"))]
    pub username: String,
    /// Mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = r"^[^\s@]+@[^\s@]+$"))]
    pub email: Option<String>,
}

/// What is ordered: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serverType) != has(self.custom)")
        .message(msg::ONE_CONFIGURATION)
)]
pub struct Configuration {
    /// A ready configuration: the panel's server type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = NOT_BLANK_PATTERN))]
    pub server_type: Option<String>,
    /// A configuration of the client's own: parts that the server has at least. Refused by handlers with `byServerType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomConfiguration>,
}

/// A configuration of the client's own; at least one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cpu) || has(self.memoryGiB) || (has(self.disks) && size(self.disks) > 0) || (has(self.pci) && size(self.pci) > 0)")
        .message(msg::CUSTOM_PART)
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
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub disks: Vec<Disk>,
    /// PCI cards by name.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(min = 1, max = 128), regex(pattern = NOT_BLANK_PATTERN)))]
    pub pci: Vec<String>,
}

/// Processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Model.
    #[schemars(length(min = 1, max = 128), regex(pattern = NOT_BLANK_PATTERN))]
    pub model: String,
    /// How many.
    #[serde(default = "one", deserialize_with = "one_or_default")]
    #[schemars(range(min = 1, max = 16))]
    pub count: i32,
}

/// Disks of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Type: `SSD`, `HDD`, `NVMe`, ...
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 32), regex(pattern = NOT_BLANK_PATTERN))]
    pub type_: String,
    /// Size of each in GB.
    #[serde(rename = "sizeGB")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub size_gb: i32,
    /// How many.
    #[serde(default = "one", deserialize_with = "one_or_default")]
    #[schemars(range(min = 1, max = 30))]
    pub count: i32,
}

default_value!(one, one_or_default: i32 = 1);

/// Public addresses, the main one included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Addresses {
    /// IPv4; at least one, since the main address is one.
    #[serde(deserialize_with = "one_or_default")]
    #[schemars(range(min = 1, max = 64))]
    pub ipv4: i32,
    /// IPv6.
    #[serde(deserialize_with = "null_as_default")]
    #[schemars(range(min = 0, max = 64))]
    pub ipv6: i32,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { ipv4: one(), ipv6: 0 }
    }
}

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatingSystem {
    /// The panel's template, `<repository>__<name>`.
    #[schemars(length(min = 1, max = 253), regex(pattern = NOT_BLANK_PATTERN))]
    pub template: String,
    /// Password of root or Administrator; generated into Secret `<order>-root` when absent. Acted upon at the next reinstall, or at once
    /// where the handler's dialect has `setPassword`: another password is then set on the running server.
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
    /// Product, as `spec.licenses.products` of the licence handler names it.
    #[schemars(length(min = 1, max = 128), regex(pattern = NOT_BLANK_PATTERN))]
    pub product: String,
    /// Months that it is ordered and renewed for. Acted upon at the next renewal.
    #[serde(default = "one", deserialize_with = "one_or_default")]
    #[schemars(range(min = 1, max = 120))]
    pub period: i32,
}

/// Take over a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// Id at the panel.
    #[schemars(length(min = 1, max = 64), regex(pattern = NOT_BLANK_PATTERN))]
    pub server_id: String,
}

impl DedicatedServerOrder {
    /// Whether it has a server, or notes that it claims one.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.status.as_ref().is_some_and(|s| s.server.is_some() || s.in_flight.is_some())
    }

    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.metadata.namespace.clone().unwrap_or_default(), name: self.metadata.name.clone().unwrap_or_default() }
    }
}
