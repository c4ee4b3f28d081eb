//! The four kinds of the group `dci-operator.dev`, as users write them and as the API server stores them.

pub mod check;
pub mod common;
pub mod condition;
pub mod crds;
pub mod department;
pub mod dialect;
#[expect(clippy::duplicated_attributes, reason = "columns share types and priorities")]
pub mod handler;
pub mod handler_status;
#[expect(clippy::duplicated_attributes, reason = "columns share types and priorities")]
pub mod ipmanager;
pub mod licenses;
pub mod messages;
pub mod order;
pub mod order_status;
#[cfg(test)]
pub(crate) mod samples;
mod syntax;
#[expect(clippy::duplicated_attributes, reason = "columns share types and priorities")]
pub mod task;

pub use common::{Connection, Duration, LocalSecretRef, NamespacedRef, Time};
pub use condition::{Condition, ConditionType};
pub use handler::ProcessingHandler;
pub use ipmanager::IPManager;
pub use order::DedicatedServerOrder;
pub use task::ManualTask;

/// API group.
pub const GROUP: &str = "dci-operator.dev";
/// The finalizer that holds an order until its server is off, parked and released.
pub const ORDER_FINALIZER: &str = "dci-operator.dev/release-server";
/// The finalizer that holds a handler or `IPManager` while something needs it.
pub const IN_USE_FINALIZER: &str = "dci-operator.dev/in-use";
/// Annotation: the order's first uid, kept so that a restored order finds its server.
pub const ORDER_ID_ANNOTATION: &str = "dci-operator.dev/order-id";
/// Annotation: reconcile now, without back-off; echoed in `status.lastHandledReconcileAt`.
pub const RECONCILE_ANNOTATION: &str = "dci-operator.dev/reconcile-requested-at";
/// Label of a task: its department.
pub const DEPARTMENT_LABEL: &str = "dci-operator.dev/department";
/// Label of a task: uid of its order.
pub const ORDER_UID_LABEL: &str = "dci-operator.dev/order-uid";
/// Label of a task: its type.
pub const TYPE_LABEL: &str = "dci-operator.dev/type";
/// Label of a task that escalated: the department that may close it as well.
pub const ESCALATED_LABEL: &str = "dci-operator.dev/escalated-to";
