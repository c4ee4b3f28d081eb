//! What all reconcilers share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::{mpsc, watch};

use crate::api::common::ObjectKey;
use crate::api::handler::NamespacesFrom;
use crate::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};

use crate::panel::coremanager::transport::Wire;
use crate::panel::denied::DeniedNetworks;
use crate::provisioning::order::{handler_key, selector};

use super::events::Events;
use super::fence::Fence;
use super::locks::Locks;
use super::memory::Memory;
use super::metrics::Metrics;
use super::notify::Hooks;
use super::panels::Panels;
use super::serving::has_something;
use super::stores::{self, Guarded, Kind, Scope};

/// What all reconcilers share.
pub struct Context {
    /// For single requests.
    pub client: Client,
    /// Cluster id of markers.
    pub cluster: String,
    /// Orders.
    pub orders: Kind<DedicatedServerOrder>,
    /// Handlers.
    pub handlers: Kind<ProcessingHandler>,
    /// Which namespaces are watched: nothing may be asked about any other.
    pub scope: Scope,
    /// IPManagers.
    pub ipmanagers: Kind<IPManager>,
    /// Tasks.
    pub tasks: Kind<ManualTask>,
    /// Panels.
    pub panels: Panels,
    /// What brings requests to panels; `None`: HTTP.
    pub wire: Option<Arc<dyn Wire>>,
    /// Networks that no panel and no receiver of webhooks is in.
    pub denied: DeniedNetworks,
    /// Locks.
    pub locks: Locks,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Wakes orders.
    pub wake_orders: Wake<DedicatedServerOrder>,
    /// Wakes handlers.
    pub wake_handlers: Wake<ProcessingHandler>,
    /// Wakes tasks.
    pub wake_tasks: Wake<ManualTask>,
    /// What departments are being told.
    pub hooks: Hooks,
    /// What this process remembers of orders.
    pub memory: Memory,
    /// How long a handler, or its credentials, may be gone before the department is asked about an order that is being deleted.
    pub handler_grace: std::time::Duration,
    /// How long a closed task is kept.
    pub task_retention: std::time::Duration,
    /// Closed once others may lead: nothing is changed any more.
    pub fence: Fence,
    /// First lists, by kind and scope.
    pub first_lists: FirstLists,
}

/// Which watches have had their first list, by kind and scope.
#[derive(Clone, Default)]
pub struct FirstLists(Arc<Vec<(String, watch::Receiver<bool>)>>);

impl FirstLists {
    /// One entry for each watch: its name, and what turns true when its first list is complete.
    #[must_use]
    pub fn new(all: Vec<(String, watch::Receiver<bool>)>) -> Self {
        Self(Arc::new(all))
    }

    /// Those that are still awaited.
    pub fn awaited(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, complete)| !*complete.borrow()).map(|(name, _)| name.as_str())
    }

    /// Waits for all of them: what a cache does not show before its first list may well be there. `false`: one will not come, because
    /// the process is on its way out.
    pub async fn all(&self) -> bool {
        for (_, complete) in self.0.iter() {
            if complete.clone().wait_for(|c| *c).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Where a watch of one kind takes wake-ups.
pub type Waker<K> = (Option<String>, mpsc::UnboundedSender<ObjectRef<Guarded<K>>>);

/// Wakes objects of one kind, wherever they are watched.
pub struct Wake<K: Resource<DynamicType = ()> + 'static> {
    parts: Vec<Waker<K>>,
}

impl<K: Resource<DynamicType = ()> + 'static> Wake<K> {
    /// One entry for each watch.
    #[must_use]
    pub fn new(parts: Vec<Waker<K>>) -> Self {
        Self { parts }
    }

    /// Whether all namespaces are watched.
    #[must_use]
    pub fn everywhere(&self) -> bool {
        self.parts.iter().any(|(of, _)| of.is_none())
    }

    /// Whether objects of a namespace are watched.
    #[must_use]
    pub fn sees(&self, namespace: &str) -> bool {
        self.parts.iter().any(|(of, _)| of.as_ref().is_none_or(|n| n == namespace))
    }

    /// Has an object reconciled soon. Requests for one object fold into one.
    pub fn wake(&self, key: &ObjectKey) {
        for (namespace, sender) in &self.parts {
            if namespace.as_ref().is_none_or(|n| *n == key.namespace) {
                // A closed channel means that the process is on its way out.
                let _ = sender.send(ObjectRef::new(&key.name).within(&key.namespace));
            }
        }
    }
}

/// The handler that serves an order: the one that its server was taken from, or at which one is being claimed, else the one that
/// it names. An order with a selector has none until then.
#[must_use]
pub fn serving_handler(order: &DedicatedServerOrder) -> Option<ObjectKey> {
    let status = order.status.as_ref();
    let of_server = status.and_then(|s| s.server.as_ref()).map(|server| &server.handler);
    let recorded = of_server.or_else(|| status.and_then(|s| s.in_flight.as_ref()).and_then(|f| f.handler.as_ref()));
    let recorded = recorded.and_then(|name| name.split_once('/'));
    recorded.map(|(namespace, name)| ObjectKey { namespace: namespace.into(), name: name.into() }).or_else(|| handler_key(order))
}

/// Those of the orders that use a handler.
#[must_use]
pub fn orders_of<'o>(orders: &'o [Arc<Guarded<DedicatedServerOrder>>], handler: &ObjectKey) -> Vec<&'o DedicatedServerOrder> {
    stores::readable(orders).filter(|order| serving_handler(order).as_ref() == Some(handler)).collect()
}

/// Those of the orders without a handler of their own that select this one.
#[must_use]
pub fn selecting<'o>(orders: &'o [Arc<Guarded<DedicatedServerOrder>>], handler: &ProcessingHandler) -> Vec<&'o DedicatedServerOrder> {
    let (key, labels) = (handler.key(), handler.labels());
    let selects = |order: &DedicatedServerOrder| selector(order).is_some_and(|s| s.selects(&key, labels));
    stores::readable(orders).filter(|order| serving_handler(order).is_none() && selects(order)).collect()
}

impl Context {
    /// The order that was created first of those of which something holds.
    pub fn oldest(&self, holds: impl Fn(&DedicatedServerOrder) -> bool) -> Option<ObjectKey> {
        let ticket = |o: &DedicatedServerOrder| (o.metadata.creation_timestamp.as_ref().map(|t| t.0), o.metadata.uid.clone(), o.key());
        self.orders.read(|o| holds(o).then(|| ticket(o))).into_iter().min().map(|(_, _, key)| key)
    }

    /// Whether orders of a namespace may use a handler; an error says what the operator lacks to tell. The labels are read each time,
    /// so that a change of them counts at once.
    pub async fn allowed(&self, handler: &ProcessingHandler, namespace: &str) -> Result<bool, kube::Error> {
        let rule = &handler.spec.allowed_namespaces;
        match rule.from {
            NamespacesFrom::Same => Ok(handler.metadata.namespace.as_deref() == Some(namespace)),
            NamespacesFrom::All => Ok(true),
            NamespacesFrom::Selector => {
                let labels = super::namespaces::labels(self, namespace).await?;
                let wanted = rule.selector.as_ref().map(|s| &s.match_labels);
                Ok(wanted.is_some_and(|w| !w.is_empty() && w.iter().all(|(k, v)| labels.get(k) == Some(v))))
            }
        }
    }

    /// The same where what cannot be told is not allowed: whoever orders must see no difference to a handler that does not exist.
    pub async fn may_use(&self, handler: &ProcessingHandler, namespace: &str) -> bool {
        self.allowed(handler, namespace).await.unwrap_or_else(|error| {
            tracing::warn!(handler = %handler.key(), %namespace, %error, "labels of the namespace not read: it may not use the handler");
            false
        })
    }

    /// Of the orders that name a handler those that it serves, may serve, or takes back, and those of which that cannot be told: the others
    /// hold it no more than if it did not exist. `holding`: uids of those that hold it in any case.
    pub async fn served<'o>(
        &self,
        handler: &ProcessingHandler,
        named: &[&'o DedicatedServerOrder],
        holding: &BTreeSet<String>,
    ) -> Vec<&'o DedicatedServerOrder> {
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        let mut served = Vec::new();
        for &order in named {
            // One that was restored without its status may have a server there: until that is looked for it cannot go.
            let bound = order.is_bound()
                || (order.metadata.deletion_timestamp.is_some() && has_something(order))
                || order.metadata.uid.as_ref().is_some_and(|uid| holding.contains(uid));
            let namespace = order.metadata.namespace.clone().unwrap_or_default();
            let allowed = match known.get(&namespace) {
                _ if bound => true,
                Some(allowed) => *allowed,
                None => {
                    // What is let go, or taken for another panel's, cannot be taken back: so this is not [`Self::may_use`].
                    let allowed = self.allowed(handler, &namespace).await.unwrap_or_else(|error| {
                        tracing::warn!(handler = %handler.key(), %namespace, %error, "labels of the namespace not read: its orders count");
                        true
                    });
                    known.insert(namespace, allowed);
                    allowed
                }
            };
            if allowed {
                served.push(order);
            }
        }
        served
    }
}

#[cfg(test)]
impl Context {
    /// What reconcilers share, with nothing in the caches. All namespaces are watched.
    pub(super) fn with(client: &Client) -> Self {
        Self {
            client: client.clone(),
            cluster: "c1".into(),
            orders: Kind::new(vec![]),
            handlers: Kind::new(vec![]),
            scope: Scope::Cluster,
            ipmanagers: Kind::new(vec![]),
            tasks: Kind::new(vec![]),
            panels: Panels::default(),
            wire: None,
            denied: DeniedNetworks::default(),
            locks: Locks::new(client.clone(), "dci"),
            events: Events::start(client.clone()),
            metrics: Arc::default(),
            wake_orders: Wake::new(vec![]),
            wake_handlers: Wake::new(vec![(None, mpsc::unbounded_channel().0)]),
            wake_tasks: Wake::new(vec![]),
            hooks: Hooks::default(),
            memory: Memory::default(),
            handler_grace: std::time::Duration::from_mins(15),
            task_retention: std::time::Duration::from_hours(168),
            fence: Fence::default(),
            first_lists: FirstLists::default(),
        }
    }

    /// A client of an API server that fails at everything.
    pub(super) fn refusing() -> Client {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let status =
                serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "", "code": 500});
            let body = kube::client::Body::from(status.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(http::Response::builder().status(500).body(body).unwrap())
        });
        Client::new(service, "default")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    fn order(status: &Value) -> DedicatedServerOrder {
        let spec = json!({"handlerRef": null, "handlerSelector": {"matchLabels": {"zone": "msk"}}});
        samples::order(&json!({"spec": spec, "status": status}))
    }

    #[tokio::test]
    async fn an_order_holds_a_handler_where_nobody_can_tell_whether_it_may_use_it() {
        let context = Context::with(&Context::refusing());
        let from = |from: &str| samples::handler(&json!({"spec": {"allowedNamespaces": {"from": from}}}));
        let labelled = json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}});
        let by_label = samples::handler(&json!({"spec": {"allowedNamespaces": labelled}}));
        let order = samples::order(&json!({}));
        let served = async |handler: &ProcessingHandler, holding: &str| {
            let holding = BTreeSet::from([holding.to_owned()]);
            context.served(handler, &[&order], &holding).await.len()
        };
        assert!(!context.may_use(&by_label, "shop").await, "the API server does not answer: it is not served");
        assert_eq!(served(&by_label, "nobody").await, 1);
        assert_eq!(served(&from("All"), "nobody").await, 1);
        assert_eq!(served(&from("Same"), "nobody").await, 0, "it may not use it");
        assert_eq!(served(&from("Same"), "u-1").await, 1, "it has something there all the same");
    }

    #[test]
    fn an_order_is_served_by_whoever_has_its_server_or_was_asked_for_one() {
        let server = |handler: &str| json!({"id": "17", "handler": handler, "configuration": "E3"});
        let flight = |handler: &str| {
            json!({"operationId": "1", "step": "Allocate", "call": "claim", "target": "server/17", "attempt": 1,
                "since": "2026-01-01T00:00:00Z", "outcome": "Sent", "handler": handler})
        };
        for (status, expected) in [
            (json!({}), None),
            (json!({"server": server("hosting/b")}), Some("hosting/b")),
            (json!({"inFlight": flight("hosting/c")}), Some("hosting/c")),
            (json!({"server": server("hosting/b"), "inFlight": flight("hosting/c")}), Some("hosting/b")),
        ] {
            assert_eq!(serving_handler(&order(&status)).map(|key| key.to_string()).as_deref(), expected, "{status}");
        }
    }
}
