//! What an order is known by: its finalizer and its order id, which no other order has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use crate::api::{DedicatedServerOrder, ORDER_FINALIZER, ORDER_ID_ANNOTATION};
use crate::provisioning::order::{annotated_id, order_id};

use super::context::Context;
use super::status::{self, StatusError};

/// What an order is known by.
pub(super) enum Identity {
    /// Its own, and durable.
    Is(Box<DedicatedServerOrder>),
    /// Another order's, and why that is known.
    Conflict(Box<DedicatedServerOrder>, String),
}

/// Whether another order has this id, by its metadata, which one that cannot be read has, too: it is its uid, or it came first with it.
fn has(other: &ObjectMeta, id: &str, order: &ObjectMeta) -> bool {
    let ticket = |metadata: &ObjectMeta| (metadata.creation_timestamp.as_ref().map(|t| t.0), metadata.uid.clone());
    let came_first = || ticket(other) < ticket(order);
    other.uid != order.uid && (other.uid.as_deref() == Some(id) || (annotated_id(other) == Some(id) && came_first()))
}

/// Finalizer and order id are durable before anything is asked of a panel.
pub(super) async fn ensure(order: DedicatedServerOrder, context: &Context) -> Result<Identity, StatusError> {
    if let Some(id) = order_id(&order).filter(|id| order.metadata.uid.as_deref() != Some(id)) {
        // A copied annotation must not make another order's addresses look like this one's.
        if context.orders.all().iter().any(|other| has(other.meta(), id, &order.metadata)) {
            let message = format!("annotation {ORDER_ID_ANNOTATION} is the id of another order that exists; remove it");
            return Ok(Identity::Conflict(Box::new(order), message));
        }
    }
    if order.metadata.deletion_timestamp.is_some() {
        return Ok(Identity::Is(Box::new(order)));
    }
    let mut operations = Vec::new();
    if !status::has_finalizer(&order, ORDER_FINALIZER) {
        operations.extend(status::add_finalizer(&order, ORDER_FINALIZER));
    }
    if order_id(&order).is_none() {
        let uid = order.metadata.uid.clone().unwrap_or_default();
        operations.extend(status::set_annotation(&order, ORDER_ID_ANNOTATION, &uid));
    }
    if operations.is_empty() {
        return Ok(Identity::Is(Box::new(order)));
    }
    let patched = status::patch(&context.client, &order, operations).await?;
    context.memory.wrote(&patched);
    Ok(Identity::Is(Box::new(patched)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::samples;
    use crate::controller::stores::Guarded;

    #[test]
    fn an_id_is_another_order_s_also_where_that_one_cannot_be_read() {
        let object = |uid: &str, id: Option<&str>, created: &str| {
            let annotations = id.map(|id| json!({ORDER_ID_ANNOTATION: id}));
            samples::order(&json!({"metadata": {"uid": uid, "creationTimestamp": created, "annotations": annotations}}))
        };
        let copy = object("u-9", Some("u-1"), "2026-01-02T00:00:00Z").metadata;
        let mut broken = serde_json::to_value(object("u-1", None, "2026-01-01T00:00:00Z")).unwrap();
        broken["spec"]["domain"] = json!(5);
        let unread: Guarded<DedicatedServerOrder> = serde_json::from_value(broken).unwrap();
        assert!(unread.0.is_err() && has(unread.meta(), "u-1", &copy));
        let restored = |created| has(&object("u-5", Some("u-1"), created).metadata, "u-1", &copy);
        assert!(restored("2026-01-01T00:00:00Z") && !restored("2026-01-03T00:00:00Z"), "who came first has it");
        assert!(!has(&object("u-2", None, "2026-01-01T00:00:00Z").metadata, "u-1", &copy), "another id");
        assert!(!has(&copy, "u-1", &copy), "the order itself");
    }
}
