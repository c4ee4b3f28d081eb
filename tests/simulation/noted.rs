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
    /// Servers that their orders left to their clients, in whatever state.
    left: BTreeSet<String>,
    /// Order ids of orders that were taken out by force, and are restored: their generations begin anew.
    anew: BTreeSet<String>,
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

/// What a person has done who deletes a licence.
const LICENSE_GONE: &str = "license gone";

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

    /// Somebody changes a licence of the order that has this server. Only that it is gone shows in the list.
    pub fn license_by_hand(&self, license: u64, server: &str, change: &Value) {
        let what = if change["delete"] == true { LICENSE_GONE } else { "licenses" };
        lock(&self.noted).hands.entry(server.to_owned()).or_default().insert(what.to_owned());
        lock(&self.rules).invariants.by_hand(&license.to_string(), now());
    }

    /// A person says that a system is installed on a server, or that a recipe has run, and is believed.
    pub fn said_installed(&self, server: u64) {
        let id = server.to_string();
        self.touch(&id);
        lock(&self.noted).hands.entry(id).or_default().insert("installed".to_owned());
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

    /// Whether a person has taken a licence of the order away that has this server.
    pub fn has_lost_a_license(&self, server: &str) -> bool {
        self.has_changed(server, LICENSE_GONE)
    }

    /// An order goes, and leaves its server to its client.
    pub fn leave(&self, server: &str) {
        lock(&self.noted).left.insert(server.to_owned());
    }

    /// Whether a server is its client's, since its order left it to him.
    pub fn was_left(&self, server: &str) -> bool {
        lock(&self.noted).left.contains(server)
    }

    /// An order is taken out by force, to be restored.
    pub fn begins_anew(&self, id: &str) {
        lock(&self.noted).anew.insert(id.to_owned());
    }

    /// Whether the generations of an order tell of all that it ever asked for.
    pub fn is_first(&self, id: &str) -> bool {
        !lock(&self.noted).anew.contains(id)
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
    /// `leaves`: it gives up its finalizer, and nobody takes it out by force.
    pub fn order_seen(&self, before: Option<&Value>, after: Option<&Value>, leaves: bool) {
        let (had, has) = (server_of(before), server_of(after));
        let mut noted = lock(&self.noted);
        if has != had && !has.is_empty() {
            noted.kept.remove(has);
            noted.left.remove(has);
            noted.held.insert(has.to_owned());
        }
        if after.is_some_and(|order| view::is_deleting(order) && order["spec"]["deletionPolicy"] != "Orphan") {
            // Its client has thought better of it.
            noted.kept.remove(has);
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
