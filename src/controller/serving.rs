//! Whether the handler that an order names can serve it, and what an order has at its handler.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::DedicatedServerOrder;
use crate::api::common::ObjectKey;
use crate::api::handler::Module;
use crate::provisioning::context::{LONG, cut};
use crate::provisioning::facts::Inventory;
use crate::provisioning::marker::Marker;
use crate::provisioning::order::{Handler, Order, marked_id};
use crate::provisioning::reason::Reason;

use super::context::Context;
use super::runtime::HandlerRuntime;

/// An order that has a server or licences, is about to take a server, or may have had one before it was restored. Of
/// any other nothing was ever asked of a panel.
#[must_use]
pub fn has_something(order: &DedicatedServerOrder) -> bool {
    let licensed = order.status.as_ref().is_some_and(|s| !s.licenses.is_empty());
    order.is_bound() || licensed || restored(order)
}

fn restored(order: &DedicatedServerOrder) -> bool {
    marked_id(order).is_some_and(|id| order.metadata.uid.as_deref() != Some(id))
}

/// Whether an order looks for a server that it may have had before it was restored.
#[must_use]
pub fn searches(order: &DedicatedServerOrder) -> bool {
    restored(order) && order.status.as_ref().is_none_or(|s| s.server.is_none())
}

/// Uids of those of the orders that hold a handler whatever their namespaces may use by now: for which a server is claimed there, or whose
/// servers the panel's last list shows. That is no word of their authors.
#[must_use]
pub fn holding<'o>(orders: impl Iterator<Item = &'o DedicatedServerOrder>, runtime: &HandlerRuntime, cluster: &str) -> BTreeSet<String> {
    let inventory = runtime.inventory();
    let claims = |uid: &String| runtime.places(|places| places.has(uid));
    let shown =
        |order: &DedicatedServerOrder| inventory.as_deref().is_some_and(|list| has_something(order) && is_shown(order, list, cluster));
    orders.filter_map(|order| order.metadata.uid.clone().filter(|uid| claims(uid) || shown(order))).collect()
}

fn is_shown(order: &DedicatedServerOrder, list: &Inventory, cluster: &str) -> bool {
    let (ObjectKey { namespace, name }, Some(id)) = (order.key(), marked_id(order)) else { return false };
    let marker = Marker { cluster: cluster.to_owned(), namespace, name, order_id: id.to_owned() };
    list.markers.values().flatten().any(|shown| *shown == marker)
}

/// What is said of a handler that is being deleted.
#[must_use]
pub fn goes(handler: &ObjectKey) -> String {
    format!("handler {handler} is being deleted, and takes no new orders")
}

/// What the spec of a handler says, also where its panel was not asked yet: without it nobody knows whether an order has all that it
/// asks for.
#[must_use]
pub fn policy(context: &Context, key: &ObjectKey) -> Handler {
    match context.handlers.get(key) {
        Some(handler) => {
            let panel = handler.status.as_ref().and_then(|s| s.panel.clone()).unwrap_or_default();
            Handler::new(key.clone(), &handler.spec, panel)
        }
        None => Handler { key: key.clone(), ..Handler::placeholder() },
    }
}

/// Whether the handler of an order can serve it.
pub enum Serving {
    /// It can; its runtime.
    At(Arc<HandlerRuntime>),
    /// Why not, for the order's status.
    No(Reason, String),
}

/// Looks whether it can.
pub async fn by(context: &Context, key: &ObjectKey, parsed: &Order, order: &DedicatedServerOrder) -> Serving {
    let missing = || Serving::No(Reason::HandlerNotFound, format!("handler {key} does not exist, or this namespace may not use it"));
    let handler = match context.handlers.find(key) {
        Some(Ok(handler)) => handler,
        // It is there, and so is what was taken at its panel: another version of the operator, or a corrected spec, serves it again.
        // Whom it allows cannot be read either: nobody is told of it who has nothing there.
        Some(Err(_)) if !order.is_bound() && key.namespace != parsed.key.namespace => return missing(),
        Some(Err(error)) => {
            let message = format!("this version of the operator cannot read handler {key}: {}", cut(&error, LONG));
            return Serving::No(Reason::HandlerNotReady, message);
        }
        None => return missing(),
    };
    // A licence server has no servers.
    if handler.spec.module == Module::BILLmanager6 {
        return missing();
    }
    // Once something was taken there, a handler that no longer allows the namespace still takes it back.
    if !order.is_bound() && !parsed.deleting {
        if !context.may_use(&handler, &parsed.key.namespace).await {
            return missing();
        }
        if handler.metadata.deletion_timestamp.is_some() && !has_something(order) {
            return Serving::No(Reason::HandlerNotReady, goes(key));
        }
    }
    context.panels.is_about(super::handler::KIND, key, &handler);
    Serving::At(context.panels.handler(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::api::{ORDER_ID_ANNOTATION, samples};
    use crate::controller::places::Ticket;

    #[test]
    fn an_order_whose_server_the_panel_shows_or_which_takes_one_holds_its_handler_whatever_its_namespace_may_use() {
        let runtime = HandlerRuntime::default();
        let order = |uid: &str, name: &str, id: &str| {
            samples::order(&json!({"metadata": {"uid": uid, "name": name, "annotations": {ORDER_ID_ANNOTATION: id}}}))
        };
        let restored = order("u-2", "web", "u-1");
        let holds = |order: &DedicatedServerOrder| !holding([order].into_iter(), &runtime, "c1").is_empty();
        assert!(!holds(&restored), "nobody has looked yet");
        let markers = BTreeMap::from([("17".to_owned(), vec![Marker::parse("k8s:c1/shop/web/u-1").unwrap()])]);
        runtime.set_inventory(Arc::new(Inventory { markers, ..Inventory::default() }));
        assert!(holds(&restored));
        assert!(!holds(&order("u-2", "web", "made-up")) && !holds(&order("u-2", "db", "u-1")), "what an author says is no proof");
        let new = order("u-3", "new", "u-3");
        assert!(!holds(&new));
        let ticket = Ticket { created: jiff::Timestamp::now(), uid: "u-3".into(), key: new.key() };
        runtime.places(|places| places.enter(&ticket, false, &BTreeSet::new(), 1));
        assert!(holds(&new), "a server is being claimed for it");
    }
}
