//! Locks that nobody needs any more: found by one list, removed only when a list begun later agrees.

use std::collections::BTreeSet;

use kube::Api;

use crate::api::DedicatedServerOrder;
use crate::provisioning::facts::Inventory;
use crate::provisioning::matching;
use crate::provisioning::order::order_id;

use super::context::Context;
use super::locks::Lock;
use super::panels::HandlerRuntime;

/// Lets locks go whose order is gone or speaks of another server, once the panel shows the server free (design.md section 9).
pub async fn sweep(context: &Context, runtime: &HandlerRuntime, panel: &str, now: &Inventory) {
    let locks = match context.locks.of_panel(panel).await {
        Ok(locks) => locks,
        Err(error) => {
            tracing::warn!(%error, "locks not listed");
            return;
        }
    };
    let free = |lock: &Lock| now.rows.get(&lock.server).is_none_or(matching::is_free_of_any_type);
    let cached: BTreeSet<(String, String)> = context.orders.read(|order| Some(names(order))).into_iter().flatten().collect();
    let idle: Vec<Lock> = locks.into_iter().filter(|l| free(l) && !cached.contains(&(l.holder.clone(), l.server.clone()))).collect();
    let before = runtime.replace_stale_locks(idle.iter().map(|l| l.name.clone()).collect());
    for lock in idle.iter().filter(|l| before.contains(&l.name)) {
        // The cache may be behind another replica: the last word is the API server's.
        let needed = match holder(context, lock).await {
            Ok(Some(order)) => names(&order).contains(&(lock.holder.clone(), lock.server.clone())),
            Ok(None) => false,
            Err(_) => true,
        };
        if !needed && let Err(error) = context.locks.remove(lock).await {
            tracing::warn!(lock = %lock.name, %error, "lock not removed");
        }
    }
}

/// The servers that an order speaks of, each with its order id.
fn names(order: &DedicatedServerOrder) -> Vec<(String, String)> {
    let Some(id) = order_id(order).or(order.metadata.uid.as_deref()) else { return Vec::new() };
    let status = order.status.as_ref();
    let bound = status.and_then(|s| s.server.as_ref()).map(|s| s.id.clone());
    let asked = status.and_then(|s| s.in_flight.as_ref()).and_then(|f| f.target.strip_prefix("server/")).map(str::to_owned);
    bound.into_iter().chain(asked).map(|server| (id.to_owned(), server)).collect()
}

async fn holder(context: &Context, lock: &Lock) -> Result<Option<DedicatedServerOrder>, kube::Error> {
    let Some((namespace, name)) = lock.order.split_once('/') else { return Ok(None) };
    Api::<DedicatedServerOrder>::namespaced(context.client.clone(), namespace).get_opt(name).await
}
