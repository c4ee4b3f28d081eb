//! Feeds what happens in a world to the invariants (`tests/invariants`), and counts what must not go on at rest.

use serde_json::Value;

use super::apiserver::{Change, HANDLERS, ORDERS};
use super::determinism::now;
use super::invariants::{Call, Invariants, rest, view};
use super::kstatus;
use super::objects::{PANEL_PASSWORD, POOL_PASSWORD};
use super::world::World;

/// What is remembered between two looks.
pub struct Rules {
    pub invariants: Invariants,
    /// The version of the API server that was seen last.
    seen: u64,
    /// Writes of the operator that count at rest, and changes asked of panels.
    pub writes: u64,
    pub calls: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { invariants: Invariants::new(&[PANEL_PASSWORD, POOL_PASSWORD]), seen: 0, writes: 0, calls: 0 }
    }
}

impl Rules {
    /// Looks at what was written at the API server since the last look.
    pub fn written(&mut self, world: &World) -> Vec<String> {
        let changes: Vec<Change> = world.server(|s| s.since(self.seen).cloned().collect());
        let mut wrong = Vec::new();
        for change in changes {
            self.seen = change.version;
            let (kind, namespace, name) = &change.key;
            world.tell(&format!("   {} {} {namespace}/{name} {}", change.type_, kind.kind, summary(&change)));
            let gone = change.type_ == "DELETED";
            let (before, after) = (change.before.as_deref(), (!gone).then_some(&*change.object));
            if rest::counts(before, after) {
                self.writes += 1;
            }
            // What the panels are decides only what an order leaves behind.
            let holds = |o: Option<&Value>| o.is_some_and(|o| !view::list(&o["metadata"]["finalizers"]).is_empty());
            let leaves = *kind == ORDERS && holds(before) && !holds(after);
            let panels = if leaves { world.panels.state() } else { Value::Null };
            wrong.extend(self.invariants.changed(before, after, &panels));
        }
        wrong
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

fn summary(change: &Change) -> String {
    let status = &change.object["status"];
    let finalizers = view::list(&change.object["metadata"]["finalizers"]).len();
    let ready = kstatus::condition(&change.object, "Ready").map(|c| view::text(&c["reason"])).unwrap_or_default();
    let flight = &status["inFlight"];
    let flight = if flight.is_null() {
        String::new()
    } else {
        format!(" flight {} {} {}", view::text(&flight["call"]), view::text(&flight["target"]), view::text(&flight["outcome"]))
    };
    format!(
        "v{} g{}/{} f{finalizers} {} {ready}{flight}",
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
    let waits = |o: &Value| kstatus::condition(o, "Reconciling").is_some_and(|c| c["reason"] == "WaitingForCapacity");
    let panels = if orders.iter().any(waits) { world.panels.state() } else { Value::Null };
    let room = rest::Room { panels: &panels, orders: &orders, handlers: &handlers, panel_of };
    orders.iter().filter_map(|order| rest::unsettled(order, &room)).collect()
}
