//! `ManualTask`: work for a department, raised by the operator and closed by a person.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{LABEL_PATTERN, LocalRef, NAME_PATTERN, NAMESPACE_PATTERN, NOT_BLANK_PATTERN, ObjectKey, Time, null_as_default};
use super::condition::Condition;
use super::messages as msg;

/// Work for a department.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "dci-operator.dev",
    version = "v1alpha1",
    kind = "ManualTask",
    plural = "manualtasks",
    shortname = "mt",
    category = "dci",
    namespaced,
    status = "TaskStatus",
    derive = "PartialEq",
    cel,
    doc = "Work for a department, raised by the operator. Close it by setting spec.resolution.",
    selectable = ".spec.department",
    selectable = ".spec.type",
    selectable = ".spec.orderRef.uid",
    printcolumn(name = "TYPE", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "DEPARTMENT", type_ = "string", json_path = ".spec.department"),
    printcolumn(name = "ORDER", type_ = "string", json_path = ".spec.orderRef.name"),
    printcolumn(name = "STATE", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "DEADLINE", type_ = "string", json_path = ".spec.deadline"),
    printcolumn(name = "ESCALATED", type_ = "string", json_path = ".status.escalatedTo"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "SUMMARY", type_ = "string", json_path = ".spec.summary", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == oldSelf.type && self.department == oldSelf.department && self.orderRef == oldSelf.orderRef && self.summary == oldSelf.summary && has(self.details) == has(oldSelf.details) && (!has(self.details) || self.details == oldSelf.details) && has(self.handlerRef) == has(oldSelf.handlerRef) && (!has(self.handlerRef) || self.handlerRef == oldSelf.handlerRef) && has(self.deadline) == has(oldSelf.deadline) && (!has(self.deadline) || self.deadline == oldSelf.deadline) && has(self.escalateTo) == has(oldSelf.escalateTo) && (!has(self.escalateTo) || self.escalateTo == oldSelf.escalateTo)")
        .message(msg::TASK_FIXED),
    validation = Rule::new("!has(oldSelf.resolution) || (has(self.resolution) && self.resolution == oldSelf.resolution)")
        .message(msg::RESOLUTION_FIXED),
    validation = Rule::new("!has(self.resolution) || self.resolution != 'PartsMissing' || self.type == 'Assembly'")
        .message(msg::PARTS_MISSING),
    validation = Rule::new("!has(self.resolution) || self.resolution != 'Cancelled' || self.type != 'StopServer'")
        .message(msg::CANCELLED),
    validation = Rule::new("!has(self.resolution) || self.resolution != 'Abandon' || self.type == 'FailedOperation' || self.type == 'StopServer'")
        .message(msg::ABANDON)
)]
pub struct TaskSpec {
    /// What kind of work. Immutable.
    #[serde(rename = "type")]
    pub type_: TaskType,
    /// Who does it: a department's name, a label value. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_PATTERN))]
    pub department: String,
    /// For which order. Immutable.
    pub order_ref: OrderRef,
    /// The handler that it was raised for, in this namespace. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler_ref: Option<LocalRef>,
    /// Until when it should be closed; it escalates then. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The department that may close it as well when the deadline has passed. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_PATTERN))]
    pub escalate_to: Option<String>,
    /// One line. Immutable.
    #[schemars(length(max = 512))]
    pub summary: String,
    /// What to do. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub details: Option<String>,
    /// How the department closed it. Acted upon at once; immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// What the department has to say. Acted upon at once: it stands in the order's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub note: Option<String>,
}

/// What kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TaskType {
    /// Build a server.
    Assembly,
    /// Buy parts.
    Procurement,
    /// Switch a server off whose IPMI fails.
    StopServer,
    /// Look after something that failed too often.
    FailedOperation,
}

impl TaskType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Assembly, Self::Procurement, Self::StopServer, Self::FailedOperation];

    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assembly => "Assembly",
            Self::Procurement => "Procurement",
            Self::StopServer => "StopServer",
            Self::FailedOperation => "FailedOperation",
        }
    }

    /// The words that a department may close this type with.
    #[must_use]
    pub fn answers(self) -> Vec<Resolution> {
        Resolution::ALL.into_iter().filter(|resolution| self.takes(*resolution)).collect()
    }

    /// Whether a department may close this type with that word (the twin of the schema's rules).
    #[must_use]
    pub fn takes(self, resolution: Resolution) -> bool {
        match resolution {
            Resolution::Done | Resolution::Retry => true,
            Resolution::PartsMissing => self == Self::Assembly,
            Resolution::Cancelled => self != Self::StopServer,
            Resolution::Abandon => matches!(self, Self::FailedOperation | Self::StopServer),
        }
    }
}

/// How the department closed it. Acted upon at once; immutable once set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Resolution {
    /// The work is done.
    Done,
    /// Try again by yourself.
    Retry,
    /// Parts have to be bought first.
    PartsMissing,
    /// It is not going to be done.
    Cancelled,
    /// Give the server up without the panel's confirmation; recorded.
    Abandon,
}

impl Resolution {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Done, Self::Retry, Self::PartsMissing, Self::Cancelled, Self::Abandon];

    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Retry => "Retry",
            Self::PartsMissing => "PartsMissing",
            Self::Cancelled => "Cancelled",
            Self::Abandon => "Abandon",
        }
    }
}

/// The order a task is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderRef {
    /// Namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE_PATTERN))]
    pub namespace: String,
    /// Name.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// Uid.
    #[schemars(length(min = 1, max = 64), regex(pattern = NOT_BLANK_PATTERN))]
    pub uid: String,
}

impl OrderRef {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// What the operator says of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The generation that was acted upon; -1 before the operator saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Open` or `Closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// When it was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// After `Abandon`: what was given up and is still at the panels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// When the operator saw the resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// When its deadline had passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated_at: Option<Time>,
    /// The department that may close it as well since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated_to: Option<String>,
    /// What departments were told by webhook, and what is still to be told; at most 8.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub notifications: Vec<Notification>,
    /// Conditions.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Something that a department is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Raised, Escalated or Closed.
    pub event: String,
    /// Who is told.
    pub department: String,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// How often it was tried.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// When it is tried again; absent once it was delivered or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    /// When the receiver took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Time>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}
