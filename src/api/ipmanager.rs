//! `IPManager`: one IPmanager, written by the provider.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Connection, Duration, default_poll, null_as_default, poll_or_default};
use super::condition::Condition;
use super::messages as msg;

/// One IPmanager.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "dci-operator.dev",
    version = "v1alpha1",
    kind = "IPManager",
    plural = "ipmanagers",
    shortname = "ipm",
    category = "dci",
    namespaced,
    status = "IPManagerStatus",
    derive = "PartialEq",
    cel,
    doc = "One IPmanager: where public and parking addresses come from.",
    printcolumn(name = "FLAVOR", type_ = "string", json_path = ".spec.flavor"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.flavor == oldSelf.flavor")
        .message(msg::FLAVOR_FIXED)
)]
pub struct IPManagerSpec {
    /// The product. Immutable.
    pub flavor: Flavor,
    /// How it is reached. Acted upon at once.
    pub connection: Connection,
    /// How often it is probed; at least 1s. Acted upon at once.
    #[serde(default = "default_poll", deserialize_with = "poll_or_default")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message(msg::POLL_INTERVAL))]
    pub poll_interval: Duration,
}

/// The product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Flavor {
    /// IPmanager 5.
    IPmanager5,
    /// The IP service of platform 6.
    IPmanager6,
}

impl Flavor {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IPmanager5 => "IPmanager5",
            Self::IPmanager6 => "IPmanager6",
        }
    }
}

/// What the operator says of an `IPManager`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPManagerStatus {
    /// The generation that was acted upon; -1 before the operator saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Identity of the address manager: host, port and path. Another one is used only when it knows the addresses that orders have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panel: Option<String>,
    /// Groups of addresses, at most 50.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// The value of the reconcile annotation that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// A group of addresses. What a panel does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name of the group.
    pub name: String,
    /// Addresses in use that we may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<i64>,
    /// Free addresses; IPmanager 5 does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<i64>,
    /// All addresses; IPmanager 5 does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}
