//! What an order is known by: its finalizer and its order id, which no other order has.

use crate::api::{DedicatedServerOrder, ORDER_FINALIZER, ORDER_ID_ANNOTATION};
use crate::provisioning::order::order_id;

use super::context::Context;
use super::status::{self, StatusError};

/// What an order is known by.
pub(super) enum Identity {
    /// Its own, and durable.
    Is(Box<DedicatedServerOrder>),
    /// Another order's, and why that is known.
    Conflict(Box<DedicatedServerOrder>, String),
}

/// Finalizer and order id are durable before anything is asked of a panel.
pub(super) async fn ensure(order: DedicatedServerOrder, context: &Context) -> Result<Identity, StatusError> {
    if let Some(id) = order_id(&order).filter(|id| order.metadata.uid.as_deref() != Some(id)) {
        // A copied annotation must not make another order's addresses look like this one's.
        let theirs = context.orders.read(|other| {
            let came_first = (other.metadata.creation_timestamp.as_ref().map(|t| t.0), &other.metadata.uid)
                < (order.metadata.creation_timestamp.as_ref().map(|t| t.0), &order.metadata.uid);
            let same = other.metadata.uid.as_deref() == Some(id) || (order_id(other) == Some(id) && came_first);
            (other.metadata.uid != order.metadata.uid && same).then_some(())
        });
        if !theirs.is_empty() {
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
