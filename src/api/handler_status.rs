//! What the operator says of a handler. No bound, enum or pattern: an old schema must never refuse the write that matters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Time, null_as_default};
use super::condition::Condition;

/// What the operator says of a handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandlerStatus {
    /// The generation that was acted upon; -1 before the operator saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Identity of the panel (host, port, path).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panel: Option<String>,
    /// Who takes the orders' addresses from the pool (`spec.ipManagement.allocateBy`), written down before it is acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate_by: Option<String>,
    /// What the panel has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<InventoryStatus>,
    /// Licences, of a licence server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licenses: Option<LicenseCounts>,
    /// Orders that use this handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<OrderCounts>,
    /// Client names and the namespace each belongs to.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientClaim>,
    /// Servers that carry a marker of this cluster which no order answers to, at most 50. Nothing is done with them.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub orphans: Vec<OrphanServer>,
    /// Number of orphans, also beyond the 50 that are listed.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "none")]
    pub orphan_count: i64,
    /// Orders whose server the panel does not list any more, or which is not marked as theirs, at most 50.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub ghosts: Vec<GhostOrder>,
    /// Number of ghosts, also beyond the 50 that are listed.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "none")]
    pub ghost_count: i64,
    /// When the panel was last probed with success; written at most every ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// The value of the reconcile annotation that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn none(count: &i64) -> bool {
    *count == 0
}

/// A server that carries a marker of ours, and which no order answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanServer {
    /// Id at the panel.
    pub server: String,
    /// What stands in its notes.
    pub marker: String,
}

/// An order whose server is not there, or not its own any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GhostOrder {
    /// Namespace and name of the order.
    pub order: String,
    /// Id of its server at the panel.
    pub server: String,
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
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
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

/// Licences of a licence server, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseCounts {
    /// All that the account sees.
    pub total: i64,
    /// Those of orders.
    pub of_orders: i64,
    /// The soonest end among those of orders that are not suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soonest_expiry: Option<Time>,
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
