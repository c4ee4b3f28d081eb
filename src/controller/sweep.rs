//! Locks that nobody needs any more: found by one list, removed only when a list begun later agrees.

use std::collections::BTreeMap;

use kube::Api;

use crate::api::DedicatedServerOrder;
use crate::api::order::InFlight;
use crate::provisioning::facts::Inventory;
use crate::provisioning::matching;
use crate::provisioning::order::marked_id;

use super::context::Context;
use super::cut_short::Otherwise;
use super::locks::Lock;
use super::runtime::HandlerRuntime;

/// Lets locks go whose order is gone or speaks of another server, once the panel shows the server free (design.md section 9).
///
/// A server that carries no marker of an order that is gone needs no lock of it either, whoever has it, and whatever keeps it from being
/// sold: a client who kept his server could have it taken over by no other order.
pub async fn sweep(context: &Context, runtime: &HandlerRuntime, panel: &str, now: &Inventory) {
    let mut seen = runtime;
    let mut looking = begin(&mut seen);
    let locks = match context.locks.of_panel(panel).await {
        Ok(locks) => locks,
        Err(error) => {
            tracing::warn!(%error, "locks not listed");
            return;
        }
    };
    let named: BTreeMap<(String, String), Named> = context.orders.read(|order| Some(names(order))).into_iter().flatten().collect();
    let left = left(locks, &named, now);
    let before = runtime.replace_stale_locks(left.nobodys.iter().map(|l| l.name.clone()).collect());
    looking.ended = !left.undecided;
    drop(looking);
    for lock in left.nobodys.iter().filter(|l| before.contains(&l.name)) {
        // The cache may be behind another replica: the last word is the API server's.
        let needed = match holder(context, lock).await {
            Ok(Some(order)) => is_needed_by(lock, &order),
            Ok(None) => false,
            Err(_) => true,
        };
        if !needed && let Err(error) = context.locks.remove(lock).await {
            tracing::warn!(lock = %lock.name, %error, "lock not removed");
        }
    }
}

/// The locks are looked through from now on. Where that comes to no end, as at the time-out of a poll, they are due as they were.
fn begin<'w, 'r>(runtime: &'w mut &'r HandlerRuntime) -> Otherwise<'w, &'r HandlerRuntime> {
    runtime.begin_sweep();
    Otherwise { on: runtime, ended: false, then: |runtime| runtime.note_locks() }
}

/// What one look at the locks came to.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// Locks that no order speaks of, of servers that nobody needs them for.
    nobodys: Vec<Lock>,
    /// An order asks for such a server, or gives back one that the panel shows free: it may have just done so. A claim that comes to
    /// nothing leaves its lock, and so may a return, and no later list differs from this one: the locks are looked through again. One that
    /// keeps its server needs the lock, also where the server was taken out of the panel: that may stay so for weeks.
    undecided: bool,
}

fn left(locks: Vec<Lock>, named: &BTreeMap<(String, String), Named>, now: &Inventory) -> Left {
    let by = |lock: &Lock| named.get(&(lock.holder.clone(), lock.server.clone()));
    let (spoken, nobodys): (Vec<Lock>, Vec<Lock>) = locks.into_iter().filter(|l| is_idle(l, now)).partition(|l| by(l).is_some());
    let undecided = |lock: &Lock| match by(lock) {
        Some(Named::Asked) => true,
        Some(Named::Leaves) => is_free(lock, now),
        Some(Named::Bound) | None => false,
    };
    Left { undecided: spoken.iter().any(undecided), nobodys }
}

/// Nobody has the server.
fn is_free(lock: &Lock, now: &Inventory) -> bool {
    now.rows.get(&lock.server).is_none_or(matching::is_free_of_any_type)
}

/// As far as the panel shows, nobody needs the lock.
fn is_idle(lock: &Lock, now: &Inventory) -> bool {
    let marked = || now.markers.get(&lock.server).is_some_and(|markers| markers.iter().any(|m| m.order_id == lock.holder));
    is_free(lock, now) || !marked()
}

/// The order holds the lock for a server that it has, or asks for. One that went to another server needs none of it, whoever has it now.
fn is_needed_by(lock: &Lock, order: &DedicatedServerOrder) -> bool {
    names(order).iter().any(|(named, _)| *named == (lock.holder.clone(), lock.server.clone()))
}

/// How an order speaks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// It has it, and keeps it.
    Bound,
    /// It has it, and is deleted or gives it back.
    Leaves,
    /// It asks for it, or for its claim to be undone: it may never get it.
    Asked,
}

/// The servers that an order speaks of, each with its order id.
fn names(order: &DedicatedServerOrder) -> Vec<((String, String), Named)> {
    let Some(id) = marked_id(order) else { return Vec::new() };
    let status = order.status.as_ref();
    let bound = status.and_then(|s| s.server.as_ref()).map(|s| s.id.clone());
    let asked = status.and_then(|s| s.in_flight.as_ref()).and_then(InFlight::server).map(str::to_owned);
    let returning = status.and_then(|s| s.server.as_ref()).is_some_and(|s| s.returning.is_some());
    let has = if returning || order.metadata.deletion_timestamp.is_some() { Named::Leaves } else { Named::Bound };
    // What it has comes last: in a table it counts.
    let servers = asked.map(|server| (server, Named::Asked)).into_iter().chain(bound.map(|server| (server, has)));
    servers.map(|(server, how)| ((id.to_owned(), server), how)).collect()
}

async fn holder(context: &Context, lock: &Lock) -> Result<Option<DedicatedServerOrder>, kube::Error> {
    let Some((namespace, name)) = lock.order.split_once('/') else { return Ok(None) };
    Api::<DedicatedServerOrder>::namespaced(context.client.clone(), namespace).get_opt(name).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::model::{FREE_DOMAIN, ServerRow};
    use crate::provisioning::marker::Marker;

    fn lock() -> Lock {
        Lock { name: "dci-1".into(), uid: None, version: None, server: "21".into(), holder: "o-1".into(), order: "shop/web".into() }
    }

    fn shown(owner: Option<&str>, hostname: &str, order_id: Option<&str>) -> Inventory {
        let row = ServerRow { hostname: hostname.into(), owner: owner.map(str::to_owned), ..ServerRow::blank("21") };
        let marker = |id: &str| Marker { cluster: "c".into(), namespace: "shop".into(), name: "web".into(), order_id: id.into() };
        Inventory {
            rows: [("21".to_owned(), row)].into(),
            markers: order_id.map(|id| ("21".to_owned(), vec![marker(id)])).into_iter().collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn an_order_that_went_to_another_server_does_not_need_the_lock_of_the_first_one() {
        let order = |id: &str, status: &serde_json::Value| {
            let annotations = serde_json::json!({crate::api::ORDER_ID_ANNOTATION: id});
            crate::api::samples::order(&serde_json::json!({"metadata": {"annotations": annotations}, "status": status}))
        };
        let has = |server: &str| serde_json::json!({"server": {"id": server, "handler": "hosting/msk", "configuration": "E3"}});
        let asks = serde_json::json!({"inFlight": {"step": "Allocate", "call": "claim", "operationId": "0", "target": "server/21",
                                                   "since": "2026-01-01T00:00:00Z", "outcome": "Sent", "attempt": 1}});
        assert!(is_needed_by(&lock(), &order("o-1", &has("21"))) && is_needed_by(&lock(), &order("o-1", &asks)));
        assert!(!is_needed_by(&lock(), &order("o-1", &has("22"))) && !is_needed_by(&lock(), &order("o-1", &serde_json::json!({}))));
        assert!(!is_needed_by(&lock(), &order("o-2", &has("21"))), "an order of the same name");
    }

    #[test]
    fn the_lock_of_a_server_that_is_asked_for_in_vain_is_looked_at_until_that_is_decided() {
        let free = || shown(None, FREE_DOMAIN, None);
        let named = |how: Named| BTreeMap::from([(("o-1".to_owned(), "21".to_owned()), how)]);
        let waits = Left { nobodys: vec![], undecided: true };
        assert_eq!(left(vec![lock()], &named(Named::Asked), &free()), waits);
        assert_eq!(left(vec![lock()], &BTreeMap::new(), &free()), Left { nobodys: vec![lock()], undecided: false });
        // Nor where it cannot be sold: when that changes nobody needs it, either.
        let mut broken = free();
        broken.rows.values_mut().for_each(|row| row.flags.operation_failed = true);
        assert_eq!(left(vec![lock()], &BTreeMap::new(), &broken), Left { nobodys: vec![lock()], undecided: false });
        // The order that gives it back may have done so a moment ago. One that keeps it looks at it itself, also where the panel does not
        // show it any more.
        for (shown, now) in [("free", free()), ("not at all", Inventory::default())] {
            assert_eq!(left(vec![lock()], &named(Named::Leaves), &now), waits, "{shown}");
            assert_eq!(left(vec![lock()], &named(Named::Bound), &now), Left { nobodys: vec![], undecided: false }, "{shown}");
        }
        // Where somebody else has it the lock is looked at when something changes.
        let lost = shown(Some("acme"), "web.example.net", None);
        assert_eq!(left(vec![lock()], &named(Named::Leaves), &lost), Left { nobodys: vec![], undecided: false });
        let taken = shown(Some("operator"), FREE_DOMAIN, Some("o-1"));
        assert_eq!(left(vec![lock()], &named(Named::Asked), &taken), Left { nobodys: vec![], undecided: false });
        // One that has a server and asks for something about it has it.
        let both = serde_json::json!({"server": {"id": "21", "handler": "hosting/msk", "configuration": "E3"},
                                      "inFlight": {"step": "Release", "call": "release", "operationId": "0", "target": "server/21",
                                                   "since": "2026-01-01T00:00:00Z", "outcome": "Sent", "attempt": 1}});
        let annotations = serde_json::json!({crate::api::ORDER_ID_ANNOTATION: "o-1"});
        let mut order = crate::api::samples::order(&serde_json::json!({"metadata": {"annotations": annotations}, "status": both}));
        let spoken = |order: &DedicatedServerOrder| names(order).into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(spoken(&order), named(Named::Bound));
        order.metadata.deletion_timestamp = serde_json::from_value("2026-01-02T00:00:00Z".into()).unwrap();
        assert_eq!(spoken(&order), named(Named::Leaves));
        order.metadata.deletion_timestamp = None;
        let returning = serde_json::json!({"reason": "OperationFailed", "then": "TryAnother", "since": "2026-01-02T00:00:00Z"});
        order.status.as_mut().unwrap().server.as_mut().unwrap().returning = serde_json::from_value(returning).unwrap();
        assert_eq!(spoken(&order), named(Named::Leaves));
    }

    #[test]
    fn locks_that_are_not_looked_through_to_the_end_are_due_as_before() {
        let runtime = HandlerRuntime::default();
        for (ended, due) in [(false, true), (true, false)] {
            let mut seen = &runtime;
            let mut looking = begin(&mut seen);
            assert!(!runtime.locks_due());
            looking.ended = ended;
            drop(looking);
            assert_eq!(runtime.locks_due(), due);
        }
    }

    #[test]
    fn a_lock_is_idle_where_the_server_does_not_carry_its_holders_marker() {
        for (owner, hostname, marker, idle) in [
            (None, FREE_DOMAIN, None, true),
            (None, "web.example.net", None, true),
            (Some("acme"), "web.example.net", None, true),
            (Some("acme"), "web.example.net", Some("o-2"), true),
            (Some("acme"), "web.example.net", Some("o-1"), false),
            (Some("operator"), FREE_DOMAIN, Some("o-1"), false),
        ] {
            assert_eq!(is_idle(&lock(), &shown(owner, hostname, marker)), idle, "{owner:?} {hostname} {marker:?}");
        }
        assert!(is_idle(&lock(), &Inventory::default()), "there is no such server any more");
    }
}
