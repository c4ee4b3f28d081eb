//! Feeds what happens in a world to the invariants (`tests/invariants`), and counts what must not go on at rest.

use std::collections::BTreeSet;

use serde_json::Value;

use super::apiserver::{Change, HANDLERS, IPMANAGERS, Kind, ORDERS, TASKS};
use super::determinism::now;
use super::invariants::{Call, Invariants, rest, view};
use super::kstatus;
use super::objects::{PANEL_PASSWORD, POOL_PASSWORD};
use super::world::{World, lock};

/// How old what was read may be when it is acted upon where nothing went wrong lately, in milliseconds: a decision that reads a server, its
/// users, addresses and connections, and writes its intent, makes some ten requests of less than 80 ms each.
const DECISION: u64 = 2000;

/// What is remembered between two looks.
pub struct Rules {
    pub invariants: Invariants,
    /// The version of the API server that was seen last.
    seen: u64,
    /// Requests of the operator's that write, but for those that may go on at rest, and changes asked of panels.
    pub writes: u64,
    pub calls: usize,
    /// Order ids of orders that are just being taken out of the API server by force.
    taken_out: BTreeSet<String>,
}

/// What a look found.
pub struct Seen {
    pub wrong: Vec<String>,
    pub changes: usize,
    /// Those that say more than when a panel was last asked.
    pub counting: usize,
}

impl Default for Rules {
    fn default() -> Self {
        let mut invariants = Invariants::new(&[PANEL_PASSWORD, POOL_PASSWORD]);
        invariants.decision = DECISION;
        Self { invariants, seen: 0, writes: 0, calls: 0, taken_out: BTreeSet::new() }
    }
}

impl Rules {
    /// Looks at what was written at the API server since the last look.
    pub fn written(&mut self, world: &World) -> Seen {
        let changes: Vec<Change> = world.server(|s| s.since(self.seen).cloned().collect());
        let (mut wrong, mut counting) = (Vec::new(), 0);
        for change in &changes {
            self.seen = change.version;
            let (kind, namespace, name) = &change.key;
            world.tell(&format!("   {} {} {namespace}/{name} {}", change.type_, kind.kind, summary(change)));
            let gone = change.type_ == "DELETED";
            let (before, after) = (change.before.as_deref(), (!gone).then_some(&*change.object));
            counting += usize::from(![HANDLERS, IPMANAGERS].contains(kind) || rest::counts(before, after));
            came_up(world, kind, before, after);
            // What the panels are decides only what an order leaves behind.
            let holds = |o: Option<&Value>| o.is_some_and(|o| !view::list(&o["metadata"]["finalizers"]).is_empty());
            let leaves = *kind == ORDERS && holds(before) && !holds(after);
            let panels = if leaves { world.panels.state() } else { Value::Null };
            let taken = leaves && before.is_some_and(|o| self.taken_out.remove(view::order_id(o)));
            if leaves && let Some(order) = before.filter(|o| !taken && view::is_abandoned(o)) {
                abandoned(world, order);
            }
            if *kind == ORDERS {
                world.order_seen(before, after, leaves && !taken);
            }
            if leaves && let Some(server) = before.filter(|o| !taken && is_kept(o)).and_then(view::server_of) {
                world.leave(server);
            }
            let found = self.invariants.changed(before, after, &panels);
            match before.filter(|_| taken) {
                // Nobody has let it go: it is to come back.
                Some(order) => self.invariants.taken_out(&view::name(order)),
                None => wrong.extend(found),
            }
        }
        Seen { wrong, changes: changes.len(), counting }
    }

    /// Looks at the panels after a call.
    pub fn called(&mut self, world: &World, call: &Call) -> Vec<String> {
        if !call.change {
            return Vec::new();
        }
        self.calls += 1;
        self.invariants.panels(&world.panels.state())
    }

    /// A call leaves the operator.
    pub fn sent(&mut self, world: &World, call: &Call) -> Vec<String> {
        let panels = if call.releases() { world.panels.state() } else { Value::Null };
        self.invariants.sent(call, now(), &panels)
    }
}

impl World {
    /// Somebody takes an order out of the API server by force, and restores it later.
    pub fn taken_out(&self, id: &str) {
        lock(&self.rules).taken_out.insert(id.to_owned());
        self.begins_anew(id);
    }

    /// It cannot be restored: what it had, servers and addresses, is known to somebody, as if it had been given up.
    pub fn lost(&self, id: &str, had: &[String]) {
        for what in had {
            self.touch(what);
        }
        lock(&self.rules).invariants.abandoned.insert(id.to_owned());
    }
}

/// Counts phases, reasons and tasks that are new.
fn came_up(world: &World, kind: &Kind, before: Option<&Value>, after: Option<&Value>) {
    let Some(after) = after else { return };
    if *kind == TASKS && before.is_none() {
        world.met(&format!("task-{}", view::text(&after["spec"]["type"])));
    }
    if *kind == ORDERS {
        let phase = |o: &Value| view::text(&o["status"]["phase"]).to_owned();
        if before.is_none_or(|b| phase(b) != phase(after)) {
            world.met(&format!("phase-{}", phase(after)));
        }
        let reason = |o: &Value| kstatus::condition(o, "Stalled").map(|c| view::text(&c["reason"]).to_owned());
        if let Some(stalled) = reason(after).filter(|_| before.is_none_or(|b| reason(b) != reason(after))) {
            world.met(&format!("stalled-{stalled}"));
        }
        for what in happened(before.unwrap_or(&Value::Null), after) {
            world.met(&what);
        }
    }
}

/// What has become of an order's server and of its licences.
fn happened(before: &Value, after: &Value) -> Vec<String> {
    let server = |o: &Value, what: &str| view::text(&o["status"]["server"][what]).to_owned();
    let is_new = |what: &str, is: &str| server(before, what) != is && server(after, what) == is;
    let had = !server(before, "id").is_empty();
    let taken = !had && !server(after, "id").is_empty();
    let given_back = had && server(after, "id").is_empty() && !view::is_deleting(after);
    let leave = server(before, "reinstall");
    let reinstalled = !leave.is_empty() && server(after, "reinstall").is_empty() && after["status"]["lastHandledReinstall"] == leave;
    let words = [
        ("adopted", taken && after["spec"]["adopt"].is_object()),
        ("second-panel", is_new("handler", "hosting/msk-2")),
        ("given-back", given_back),
        ("reinstalled", reinstalled),
    ];
    let states = |o: &Value| -> Vec<String> {
        let licenses = view::list(&o["status"]["licenses"]).iter();
        licenses.map(|l| format!("{} {}", view::text(&l["product"]), view::text(&l["state"]))).collect()
    };
    let (were, are) = (states(before), states(after));
    let licences = are.iter().filter(|state| !were.contains(state)).filter_map(|state| state.split_once(' '));
    let licences = licences.filter(|(_, state)| !state.is_empty()).map(|(_, state)| format!("licence-{state}"));
    words.into_iter().filter(|(_, so)| *so).map(|(word, _)| word.to_owned()).chain(licences).collect()
}

/// Its client keeps the server of an order that goes.
fn is_kept(order: &Value) -> bool {
    order["spec"]["deletionPolicy"] == "Orphan" && !order["status"]["server"]["handedOverAt"].is_null()
}

/// What an order had that was given up is known to somebody.
fn abandoned(world: &World, order: &Value) {
    world.met("abandoned");
    let server = &order["status"]["server"];
    let addresses = view::list(&server["addresses"]).iter().map(view::text);
    for what in view::server_of(order).into_iter().chain(addresses).chain(server["mainAddress"].as_str()) {
        world.touch(what);
    }
    // What a panel left of its marker stands on a server that the status does not name; the task does.
    let named = format!("/{}/", view::name(order));
    for left in view::servers(&world.panels.state()) {
        if view::text(&left.state["notes"]).contains(&named) {
            world.touch(left.id());
        }
    }
}

fn summary(change: &Change) -> String {
    let status = &change.object["status"];
    let finalizers = view::list(&change.object["metadata"]["finalizers"]).len();
    let ready = kstatus::condition(&change.object, "Ready")
        .map(|c| format!("{}: {}", view::text(&c["reason"]), view::text(&c["message"])))
        .unwrap_or_default();
    let flight = &status["inFlight"];
    let flight = if flight.is_null() {
        String::new()
    } else {
        format!(" flight {} {} {}", view::text(&flight["call"]), view::text(&flight["target"]), view::text(&flight["outcome"]))
    };
    format!(
        "v{} g{}/{} f{finalizers} {}{flight} {ready}",
        change.version,
        change.object["metadata"]["generation"],
        status["observedGeneration"],
        view::text(&status["phase"])
    )
}

/// The panel of a handler, by its address.
fn panel_of(handler: &Value) -> Option<&str> {
    handler["spec"]["connection"]["url"].as_str()?.rsplit('/').next().map(super::panels::panel_of)
}

/// Orders that are not where they may stay.
pub fn unsettled(world: &World) -> Vec<String> {
    let of = |kind| world.server(|s| s.all(kind).cloned().collect::<Vec<Value>>());
    let (orders, handlers) = (of(ORDERS), of(HANDLERS));
    let reasons = ["WaitingForCapacity", "MarkerTruncated"];
    let waits = |o: &Value| kstatus::condition(o, "Reconciling").is_some_and(|c| reasons.contains(&view::text(&c["reason"])));
    let panels = if orders.iter().any(waits) { world.panels.state() } else { Value::Null };
    let room = rest::Room { panels: &panels, orders: &orders, handlers: &handlers, panel_of };
    orders.iter().filter_map(|order| rest::unsettled(order, &room)).collect()
}
