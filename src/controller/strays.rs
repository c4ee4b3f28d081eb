//! Servers with our marker and no order ("orphans"), and orders with no server ("ghosts"): told, and never acted upon.
//!
//! They are found in the index of markers, at no request of their own: what it does not see is not told. It sees servers whose
//! owner is the operator's own user or a client whose name the handler has recorded, of this order or an earlier one. What is
//! told has shown in two lists in a row, since orders come and go while a list is being read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use crate::api::common::ObjectKey;
use crate::api::handler_status::{GhostOrder, HandlerStatus, OrphanServer};
use crate::api::order::InFlight;
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::provisioning::context::{SHORT, cut};
use crate::provisioning::facts::{Inventory, Row};
use crate::provisioning::marker::Marker;
use crate::provisioning::notices::Notice;
use crate::provisioning::order::{id_by, marked_id};
use crate::provisioning::step::Step;

use super::context::Context;
use super::stores::Guarded;

/// Entries of each list that a status shows.
const SHOWN: usize = 50;

/// Something astray.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stray {
    /// A server whose marker no order answers to.
    Orphan {
        /// Server.
        server: String,
        /// Marker.
        marker: String,
    },
    /// An order whose server is gone, or carries another mark.
    Ghost {
        /// Namespace and name.
        order: String,
        /// Server.
        server: String,
    },
}

/// What an order says of its server.
#[derive(Clone, Debug)]
struct Live {
    marker: Marker,
    /// Panel and server, once it has one.
    server: Option<(String, String)>,
    /// The server that a call in flight is about.
    asked: Option<String>,
    /// Its marker is being taken away, or has been.
    leaving: bool,
}

impl Live {
    fn of(order: &DedicatedServerOrder, cluster: &str) -> Option<Self> {
        let key = order.key();
        let id = marked_id(order)?.to_owned();
        let status = order.status.as_ref();
        let flight = status.and_then(|s| s.in_flight.as_ref());
        Some(Self {
            marker: Marker { cluster: cluster.to_owned(), namespace: key.namespace, name: key.name, order_id: id },
            server: status.and_then(|s| s.server.as_ref()).map(|s| (s.panel.clone(), s.id.clone())),
            asked: flight.and_then(InFlight::server).map(str::to_owned),
            leaving: flight.is_some_and(|f| f.step == Step::Release.as_str()),
        })
    }

    /// One that this version cannot read, by its metadata. Which server it has nobody knows: whatever carries its marker may be that one.
    fn unread(metadata: &ObjectMeta, cluster: &str) -> Option<Self> {
        let ObjectKey { namespace, name } = ObjectKey::of(metadata);
        let order_id = id_by(metadata)?.to_owned();
        let marker = Marker { cluster: cluster.to_owned(), namespace, name, order_id };
        Some(Self { marker, server: None, asked: None, leaving: false })
    }

    fn answers_for(&self, panel: &str, server: &str) -> bool {
        let bound = self.server.as_ref().is_none_or(|(at, id)| (at.is_empty() || at == panel) && id == server);
        bound || self.asked.as_deref() == Some(server)
    }
}

/// All orders that are there: one that cannot be read is one of them.
fn live(orders: &[Arc<Guarded<DedicatedServerOrder>>], cluster: &str) -> Vec<Live> {
    let of = |order: &Arc<Guarded<DedicatedServerOrder>>| match &order.0 {
        Ok(order) => Live::of(order, cluster),
        Err(invalid) => Live::unread(&invalid.metadata, cluster),
    };
    orders.iter().filter_map(of).collect()
}

/// Servers of this list that carry a marker of this cluster which no order answers to. `sees`: whether orders of a namespace are
/// watched at all.
fn orphans(now: &Inventory, panel: &str, cluster: &str, live: &[Live], sees: impl Fn(&str) -> bool) -> BTreeSet<Stray> {
    let by_marker: BTreeMap<&Marker, &Live> = live.iter().map(|l| (&l.marker, l)).collect();
    let mut found = BTreeSet::new();
    for (server, markers) in &now.markers {
        for marker in markers.iter().filter(|m| m.cluster == cluster && sees(&m.namespace)) {
            if !by_marker.get(marker).is_some_and(|order| order.answers_for(panel, server)) {
                found.insert(Stray::Orphan { server: cut(server, SHORT), marker: cut(&marker.to_string(), SHORT) });
            }
        }
    }
    found
}

/// Orders of this handler whose server the panel does not list any more, or which carries other marks only.
fn ghosts(now: &Inventory, panel: &str, orders: &[Live]) -> BTreeSet<Stray> {
    let gone = |order: &&Live, server: &str| {
        let marked = now.markers.get(server).is_none_or(|found| found.contains(&order.marker));
        now.row(server, None) == Row::Gone || !marked
    };
    let here = |order: &Live| order.server.clone().filter(|(at, _)| at.is_empty() || at == panel).map(|(_, id)| id);
    orders
        .iter()
        .filter(|order| !order.leaving)
        .filter_map(|order| Some((order, here(order)?)))
        .filter(|(order, server)| gone(order, server))
        .map(|(order, server)| Stray::Ghost { order: format!("{}/{}", order.marker.namespace, order.marker.name), server })
        .collect()
}

/// What a status has told before.
fn told(status: &HandlerStatus) -> BTreeSet<Stray> {
    let orphans = status.orphans.iter().map(|o| Stray::Orphan { server: o.server.clone(), marker: o.marker.clone() });
    let ghosts = status.ghosts.iter().map(|g| Stray::Ghost { order: g.order.clone(), server: g.server.clone() });
    orphans.chain(ghosts).collect()
}

/// Writes what is astray into a status; lists are cut, the numbers are not.
fn tell(status: &mut HandlerStatus, sure: &BTreeSet<Stray>) {
    (status.orphans, status.ghosts) = (Vec::new(), Vec::new());
    (status.orphan_count, status.ghost_count) = (0, 0);
    for stray in sure {
        match stray.clone() {
            Stray::Orphan { server, marker } => {
                status.orphan_count += 1;
                if status.orphans.len() < SHOWN {
                    status.orphans.push(OrphanServer { server, marker });
                }
            }
            Stray::Ghost { order, server } => {
                status.ghost_count += 1;
                if status.ghosts.len() < SHOWN {
                    status.ghosts.push(GhostOrder { order, server });
                }
            }
        }
    }
}

fn notice(stray: &Stray) -> Notice {
    let (reason, message) = match stray {
        Stray::Orphan { server, marker } => {
            ("OrphanServer", format!("server {server} carries the marker `{marker}`, but there is no such order; nothing is done with it"))
        }
        Stray::Ghost { order, server } => (
            "GhostOrder",
            format!("order {order} names server {server}, which the panel does not list any more or which is not marked as its own"),
        ),
    };
    Notice { warning: true, reason: reason.into(), message }
}

/// Looks for what is astray, and tells it in the handler's status, which metrics are counted from, and once as an event.
pub fn report(
    context: &Context,
    handler: &ProcessingHandler,
    orders: &[&DedicatedServerOrder],
    panel: &str,
    now: &Inventory,
    new: &mut HandlerStatus,
) {
    let key = handler.key();
    let all = live(&context.orders.all(), &context.cluster);
    let own: Vec<Live> = orders.iter().filter_map(|o| Live::of(o, &context.cluster)).collect();
    let mut found = orphans(now, panel, &context.cluster, &all, |namespace| context.wake_orders.sees(namespace));
    found.extend(ghosts(now, panel, &own));
    let before = context.panels.handler(&key).replace_strays(found.clone());
    let told = told(new);
    // After a restart the status remembers what the list before has shown.
    let sure: BTreeSet<Stray> = found.into_iter().filter(|s| before.contains(s) || told.contains(s)).collect();
    tell(new, &sure);
    for stray in self::told(new).difference(&told) {
        let notice = notice(stray);
        tracing::warn!(handler = %key, message = %notice.message, "astray");
        if !context.events.publish(handler.object_ref(&()), notice) {
            context.metrics.events_dropped.of([]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{ORDER_ID_ANNOTATION, samples};
    use crate::panel::model::ServerRow;

    const PANEL: &str = "dci.example.net:1500/dcimgr";

    fn marker(name: &str, id: &str) -> Marker {
        Marker { cluster: "c".into(), namespace: "shop".into(), name: name.into(), order_id: id.into() }
    }

    fn order(name: &str, id: &str, server: Option<&str>) -> Live {
        Live { marker: marker(name, id), server: server.map(|s| (PANEL.into(), s.into())), asked: None, leaving: false }
    }

    fn list(marked: &[(&str, &[Marker])], previous: &[&str]) -> Inventory {
        let rows = marked.iter().map(|(id, _)| ((*id).to_owned(), ServerRow::blank(id)));
        Inventory {
            rows: rows.collect(),
            previous: Some(previous.iter().map(|s| (*s).to_owned()).collect()),
            markers: marked.iter().map(|(id, m)| ((*id).to_owned(), m.to_vec())).collect(),
            ..Inventory::default()
        }
    }

    /// The order `shop/web` with a spec that this version cannot read, as it is cached.
    fn unread(metadata: &Value) -> Vec<Live> {
        let mut object = serde_json::to_value(samples::order(&json!({"metadata": metadata}))).unwrap();
        object["spec"]["domain"] = json!(5);
        let guarded: Guarded<DedicatedServerOrder> = serde_json::from_value(object).unwrap();
        assert!(guarded.0.is_err());
        live(&[Arc::new(guarded)], "c")
    }

    #[test]
    fn a_marker_that_no_order_answers_to_is_an_orphan() {
        let now = list(&[("17", &[marker("web", "u-1")])], &["17"]);
        let asking = Live { asked: Some("17".into()), ..order("web", "u-1", Some("99")) };
        let elsewhere = Live { server: Some(("other".into(), "17".into())), ..order("web", "u-1", None) };
        let rows = [
            ("no order", vec![], 1),
            ("its order", vec![order("web", "u-1", Some("17"))], 0),
            ("its order, not bound yet", vec![order("web", "u-1", None)], 0),
            ("its order, with another server", vec![order("web", "u-1", Some("18"))], 1),
            ("its order, asking for it", vec![asking], 0),
            ("its order, at another panel", vec![elsewhere], 1),
            ("another id of this name", vec![order("web", "u-2", Some("17"))], 1),
            ("its order, which cannot be read", unread(&json!({"uid": "u-1"})), 0),
            ("its order, restored, which cannot be read", unread(&json!({"uid": "u-9", "annotations": {ORDER_ID_ANNOTATION: "u-1"}})), 0),
            ("another order of this name, which cannot be read", unread(&json!({"uid": "u-2"})), 1),
        ];
        for (what, orders, expected) in rows {
            assert_eq!(orphans(&now, PANEL, "c", &orders, |_| true).len(), expected, "{what}");
        }
        assert!(orphans(&now, PANEL, "another", &[], |_| true).is_empty(), "another cluster's");
        assert!(orphans(&now, PANEL, "c", &[], |namespace| namespace != "shop").is_empty(), "a namespace that is not watched");
    }

    #[test]
    fn an_order_without_its_server_is_a_ghost() {
        let order = order("web", "u-1", Some("17"));
        let marked = |markers: &[Marker]| list(&[("17", markers), ("18", &[])], &["17", "18"]);
        let mut not_looked_at = marked(&[]);
        not_looked_at.markers.remove("17");
        let rows = [
            ("as it should be", marked(&[marker("web", "u-1")]), 0),
            ("no marker", marked(&[]), 1),
            ("another marker", marked(&[marker("web", "u-2")]), 1),
            ("an owner whose servers are not looked at", not_looked_at, 0),
            ("gone from one list", list(&[("18", &[])], &["17", "18"]), 0),
            ("gone from two lists", list(&[("18", &[])], &["18"]), 1),
        ];
        for (what, now, expected) in rows {
            assert_eq!(ghosts(&now, PANEL, std::slice::from_ref(&order)).len(), expected, "{what}");
        }
        let leaving = Live { leaving: true, ..order.clone() };
        assert!(ghosts(&marked(&[]), PANEL, &[leaving]).is_empty(), "being released");
        let elsewhere = Live { server: Some(("other".into(), "17".into())), ..order };
        assert!(ghosts(&marked(&[]), PANEL, &[elsewhere]).is_empty(), "another panel's");
    }

    #[test]
    fn lists_are_cut_and_numbers_are_not() {
        let many = (0..70).map(|n| Stray::Orphan { server: format!("{n:02}"), marker: "m".into() });
        let sure: BTreeSet<Stray> = many.chain([Stray::Ghost { order: "a/b".into(), server: "1".into() }]).collect();
        let mut status = HandlerStatus::default();
        tell(&mut status, &sure);
        assert_eq!((status.orphans.len(), status.orphan_count, status.ghosts.len(), status.ghost_count), (SHOWN, 70, 1, 1));
        assert_eq!(told(&status).len(), SHOWN + 1);
        tell(&mut status, &BTreeSet::new());
        assert_eq!(status, HandlerStatus::default());
    }
}
