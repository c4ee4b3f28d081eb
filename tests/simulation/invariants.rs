//! What must hold at every moment, whatever goes wrong (the numbers are those of docs/reliability.md).

use std::collections::BTreeMap;

use dci_operator::api::ORDER_ID_ANNOTATION;
use serde_json::Value;

use super::apiserver::{Change, HANDLERS, IPMANAGERS, KINDS, ORDERS, TASKS};
use super::determinism::now;
use super::kstatus;
use super::objects::{PANEL_PASSWORD, POOL_PASSWORD};
use super::panels::Call;
use super::world::World;

/// Functions that harm whoever uses the server.
const DESTRUCTIVE: [&str; 6] =
    ["server.poweroff", "server.operations", "server.disable", "server.reboot", "iplist.delete", "server.connection.off"];

/// What is remembered between two looks.
#[derive(Default)]
pub struct Invariants {
    seen: u64,
    /// Writes of the operator that count at rest, and changes asked of panels.
    pub writes: u64,
    pub calls: usize,
    /// Servers whose records somebody changed by hand, and when.
    pub hands: BTreeMap<String, u64>,
    /// Order ids of orders that a person gave up: what is left of them is known to somebody.
    pub abandoned: Vec<String>,
    /// Order ids of orders that are gone.
    gone: BTreeMap<String, String>,
}

/// The servers of all panels, with the panel's name.
pub fn servers(state: &Value) -> Vec<(String, Value)> {
    let panels = state["panels"].as_object().cloned().unwrap_or_default();
    let of = |(name, panel): (String, Value)| {
        panel["servers"].as_array().cloned().unwrap_or_default().into_iter().map(move |s| (name.clone(), s)).collect::<Vec<_>>()
    };
    panels.into_iter().flat_map(of).collect()
}

/// The order ids in the notes of a server, and in those of an address.
fn marked(notes: &str) -> Vec<String> {
    notes.split_whitespace().filter_map(|t| t.strip_prefix("k8s:")).filter_map(|t| t.rsplit('/').next()).map(str::to_owned).collect()
}

fn notes(value: &Value, field: &str) -> Vec<String> {
    marked(value[field].as_str().unwrap_or_default())
}

/// Every address that is taken, with the orders that it is noted for.
fn addresses(state: &Value) -> Vec<(String, Vec<String>)> {
    let panels = state["panels"].as_object().into_iter().flatten();
    let rows = panels.flat_map(|(_, panel)| panel["addresses"].as_array().cloned().unwrap_or_default());
    rows.map(|row| (row["ip"].as_str().unwrap_or_default().to_owned(), notes(&row, "note"))).collect()
}

impl Invariants {
    /// Looks at what was written at the API server since the last look.
    pub fn written(&mut self, world: &World) -> Vec<String> {
        let changes: Vec<Change> = world.server(|s| s.log.iter().filter(|c| c.version > self.seen).cloned().collect());
        let mut wrong = Vec::new();
        for change in changes {
            self.seen = change.version;
            let (kind, namespace, name) = &change.key;
            let told = format!("{} {} {namespace}/{name}", change.type_, kind.kind);
            world.tell(&format!("   {told} {}", summary(&change)));
            if counts(&change) {
                self.writes += 1;
            }
            if [ORDERS, HANDLERS, IPMANAGERS, TASKS].contains(kind) && change.type_ != "DELETED" && change.object["status"].is_object() {
                let secrets = [PANEL_PASSWORD.to_owned(), POOL_PASSWORD.to_owned()];
                let found = if *kind == TASKS { Vec::new() } else { kstatus::violations(change.before.as_ref(), &change.object, &secrets) };
                wrong.extend(found.into_iter().map(|what| format!("(8) {told}: {what}")));
            }
            if *kind == ORDERS && change.type_ == "DELETED" {
                wrong.extend(self.order_gone(world, &change.object));
            }
        }
        wrong
    }

    /// (3), (4): what is gone has left nothing.
    fn order_gone(&mut self, world: &World, order: &Value) -> Vec<String> {
        let uid = order["metadata"]["uid"].as_str().unwrap_or_default();
        let id = order["metadata"]["annotations"][ORDER_ID_ANNOTATION].as_str().unwrap_or(uid).to_owned();
        let name = order["metadata"]["name"].as_str().unwrap_or_default();
        let given_up = order["status"]["manualTasks"].as_array().into_iter().flatten().any(|task| task["state"] == "Abandon");
        if given_up {
            self.abandoned.push(id);
            return Vec::new();
        }
        let state = world.panels.state();
        self.gone.insert(id.clone(), name.to_owned());
        let wrong = left(&state, &id);
        wrong.into_iter().map(|what| format!("(3) order {name} is gone, and {what} carries its marker")).collect()
    }

    pub fn panel_before(world: &World, call: &Call) -> Option<Value> {
        if !call.change || call.panel.starts_with("ipm") {
            return None;
        }
        let id = call.target.split('/').next().unwrap_or_default();
        let state = world.panels.state();
        servers(&state).into_iter().find(|(_, s)| s["id"] == id).map(|(_, s)| s)
    }

    /// Looks at the panels after a call.
    pub fn panel_after(&mut self, world: &World, call: &Call, before: Option<Value>) -> Vec<String> {
        if !call.change {
            return Vec::new();
        }
        self.calls += 1;
        let mut wrong = Vec::new();
        if let Some(server) = before.filter(|_| DESTRUCTIVE.contains(&call.func.as_str())) {
            let id = server["id"].as_str().unwrap_or_default();
            let by_hand = self.hands.get(id).is_some_and(|at| now() < at + 20_000);
            if notes(&server, "notes").is_empty() && !by_hand {
                wrong.push(format!("(2) {} of server {id}, which carries no marker", call.func));
            }
        }
        let state = world.panels.state();
        let mut of_order: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (panel, server) in servers(&state) {
            let id = server["id"].as_str().unwrap_or_default();
            let marks = notes(&server, "notes");
            if marks.len() > 1 {
                wrong.push(format!("(1) server {id} carries the markers of {} orders", marks.len()));
            }
            for mark in marks {
                of_order.entry(mark).or_default().push(format!("{panel}/{id}"));
            }
        }
        for (mark, servers) in &of_order {
            if servers.len() > 1 {
                wrong.push(format!("(1) order id {mark} has the servers {}", servers.join(", ")));
            }
            if let Some(name) = self.gone.get(mark) {
                wrong.push(format!("(3) order {name} is gone, and server {} carries its marker again", servers.join(", ")));
            }
        }
        for (ip, marks) in addresses(&state) {
            if marks.len() > 1 {
                wrong.push(format!("(1) address {ip} is noted for {} orders", marks.len()));
            }
            if let Some(name) = marks.iter().find_map(|mark| self.gone.get(mark)) {
                wrong.push(format!("(3) order {name} is gone, and address {ip} is noted for it again"));
            }
        }
        wrong
    }
}

/// What carries an order's marker.
fn left(state: &Value, id: &str) -> Vec<String> {
    let servers = servers(state)
        .into_iter()
        .filter(|(_, s)| notes(s, "notes").iter().any(|m| m == id))
        .map(|(panel, s)| format!("server {panel}/{}", s["id"]));
    let addresses = addresses(state).into_iter().filter(|(_, marks)| marks.iter().any(|m| m == id)).map(|(ip, _)| format!("address {ip}"));
    servers.chain(addresses).collect()
}

/// Whether a write is one that must not go on at rest.
fn counts(change: &Change) -> bool {
    let kind = change.key.0;
    if !KINDS[..4].contains(&kind) {
        return false;
    }
    let neutral = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = Value::Null;
        // A stalled order that is looked at again after each interval notes when: known, see docs/reliability.md.
        object["status"]["nextRetryTime"] = Value::Null;
        object["status"]["lastError"]["time"] = Value::Null;
        object["status"]["lastProbeTime"] = Value::Null;
        object
    };
    change.before.as_ref().is_none_or(|before| neutral(before) != neutral(&change.object))
}

fn summary(change: &Change) -> String {
    let status = &change.object["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let finalizers = change.object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
    let ready = kstatus::condition(&change.object, "Ready").map_or_else(String::new, |c| text(&c["reason"]));
    let flight = &status["inFlight"];
    let flight = if flight.is_null() {
        String::new()
    } else {
        format!(" flight {} {} {}", text(&flight["call"]), text(&flight["target"]), text(&flight["outcome"]))
    };
    format!(
        "v{} g{}/{} f{finalizers} {} {ready}{flight}",
        change.version,
        change.object["metadata"]["generation"],
        status["observedGeneration"],
        text(&status["phase"])
    )
}

impl World {
    /// Types of servers that are free, one for each server.
    pub fn free(&self) -> Vec<String> {
        let free = |s: &Value| s["owner"].as_str().unwrap_or_default().is_empty() && s["hostname"] == "free.ds" && s["operation"].is_null();
        let flagged = |s: &Value| s["flags"].as_object().into_iter().flatten().any(|(_, set)| *set == true);
        servers(&self.panels.state())
            .into_iter()
            .filter(|(_, s)| free(s) && !flagged(s) && !s["notes"].as_str().unwrap_or_default().contains("k8s:"))
            .map(|(_, s)| s["type"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}
