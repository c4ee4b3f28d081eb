//! What is remembered of servers and addresses until the end of a world: who had his hands on them, and what a client is to keep.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::determinism::now;
use super::invariants::view::{self, text};
use super::kstatus;
use super::world::{World, lock};

/// What is remembered.
#[derive(Default)]
pub struct Noted {
    /// Servers and addresses that a person had his hands on, or gave up.
    touched: BTreeSet<String>,
    /// What people changed of a server, by its id.
    hands: BTreeMap<String, BTreeSet<String>>,
    /// Servers that were some order's.
    held: BTreeSet<String>,
    /// Servers that their clients keep, by id.
    kept: BTreeMap<String, Kept>,
}

/// A server that its client is to keep when its order goes.
#[derive(Clone)]
pub struct Kept {
    /// The order when its deletion was asked for.
    pub order: Value,
    /// The server then.
    pub server: Value,
    /// The order has gone, and nobody gave it up.
    pub let_go: bool,
}

/// The server of an order, if it has one.
fn server_of(order: Option<&Value>) -> &str {
    order.map_or("", |order| text(&order["status"]["server"]["id"]))
}

/// Its client keeps the server, which is as he asked for: nothing is on its way.
fn leaves_alone(order: &Value) -> bool {
    let status = &order["status"];
    let settled = kstatus::is_true(order, "Ready") && status["observedGeneration"] == order["metadata"]["generation"];
    settled && order["spec"]["deletionPolicy"] == "Orphan" && !status["server"]["handedOverAt"].is_null() && status["inFlight"].is_null()
}

impl World {
    /// Somebody changes a server's records by hand.
    pub fn by_hand(&self, server: u64, change: &Value) {
        let panels = self.panels.state();
        let id = server.to_string();
        for server in view::servers(&panels).iter().filter(|s| s.id() == id) {
            self.touch(&id);
            for row in view::list(&server.state["ips"]) {
                self.touch(text(&row["ip"]));
            }
        }
        let changed = change.as_object().into_iter().flatten().map(|(what, _)| what.clone());
        lock(&self.noted).hands.entry(id.clone()).or_default().extend(changed);
        lock(&self.rules).invariants.by_hand(&id, now());
    }

    /// A person had his hands on a server or an address, or gave it up: what becomes of it is not the operator's alone.
    pub fn touch(&self, what: &str) {
        lock(&self.noted).touched.insert(what.to_owned());
    }

    /// A person changes an address where it is kept: who gets it next is not the operator's doing.
    pub fn address_by_hand(&self, ip: &str) {
        self.touch(ip);
        lock(&self.rules).invariants.by_hand(ip, now());
    }

    pub fn is_touched(&self, what: &str) -> bool {
        lock(&self.noted).touched.contains(what)
    }

    /// Whether a person changed this of a server.
    pub fn has_changed(&self, server: &str, what: &str) -> bool {
        lock(&self.noted).hands.get(server).is_some_and(|changed| changed.contains(what))
    }

    /// Whether a server was some order's.
    pub fn was_held(&self, server: &str) -> bool {
        lock(&self.noted).held.contains(server)
    }

    /// Servers that their clients keep, by id.
    pub fn kept(&self) -> BTreeMap<String, Kept> {
        lock(&self.noted).kept.clone()
    }

    /// An order is not what it was: a server that it gets is no other's to keep any more, and one that its client is to keep is looked at.
    /// `leaves`: it gives up its finalizer.
    pub fn order_seen(&self, before: Option<&Value>, after: Option<&Value>, leaves: bool) {
        let (had, has) = (server_of(before), server_of(after));
        let mut noted = lock(&self.noted);
        if has != had && !has.is_empty() {
            noted.kept.remove(has);
            noted.held.insert(has.to_owned());
        }
        let Some(order) = before else { return };
        if !view::is_deleting(order) && after.is_some_and(view::is_deleting) && leaves_alone(order) {
            let panels = self.panels.state();
            let server = view::servers(&panels).into_iter().find(|server| server.id() == had).map(|server| server.state.clone());
            let kept = server.map(|server| Kept { order: order.clone(), server, let_go: false });
            noted.kept.extend(kept.map(|kept| (had.to_owned(), kept)));
        }
        if leaves && let Some(kept) = noted.kept.get_mut(had) {
            kept.let_go = !view::is_abandoned(order);
        }
    }
}
