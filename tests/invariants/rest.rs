//! (7): once nothing goes wrong any more, every order is where it may stay, and then nothing is written.

use dci_operator::provisioning::reason::Reason;
use serde_json::Value;

use super::kstatus;
use super::view;

/// What else decides whether an order may wait.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// What the panels are.
    pub panels: &'a Value,
    /// All orders.
    pub orders: &'a [Value],
    /// All handlers.
    pub handlers: &'a [Value],
    /// The name of a handler's panel, where there are several.
    pub panel_of: fn(&Value) -> Option<&str>,
}

/// Why an order is not in a state that it may stay in: Active, or stalled with its cure, or waiting for what nobody has.
pub fn unsettled(order: &Value, room: &Room<'_>) -> Option<String> {
    let status = &order["status"];
    let phase = status["phase"].as_str().unwrap_or("new");
    let deleting = view::is_deleting(order);
    let current = status["observedGeneration"] == order["metadata"]["generation"];
    let condition = |type_: &str| kstatus::condition(order, type_);
    let reason = |type_: &str| condition(type_).map(|c| view::text(&c["reason"])).unwrap_or_default();
    let settled = match (phase, kstatus::is_true(order, "Stalled")) {
        (_, true) => condition("Stalled").is_some_and(has_a_cure),
        ("Active" | "Suspended", false) => !deleting && kstatus::is_true(order, "Ready"),
        (_, false) if deleting => false,
        (_, false) => match reason("Reconciling") {
            "WaitingForCapacity" => !room.has(order) || room.is_blocked(order),
            "LimitReached" => room.is_full_for(order) || room.is_blocked(order),
            _ => false,
        },
    };
    if settled && current {
        return None;
    }
    Some(format!(
        "order {} is {phase}{}: Ready {} ({}), {}",
        view::text(&order["metadata"]["name"]),
        if deleting { ", deleting" } else { "" },
        kstatus::is_true(order, "Ready"),
        reason("Ready"),
        condition("Ready").map_or("", |c| view::text(&c["message"]))
    ))
}

/// A reason that is documented, with something to do, and a message.
fn has_a_cure(stalled: &Value) -> bool {
    let reason = Reason::ALL.iter().find(|reason| stalled["reason"] == reason.as_str());
    reason.is_some_and(|reason| !reason.cure().starts_with("Nothing")) && !view::text(&stalled["message"]).is_empty()
}

impl Room<'_> {
    /// A server that an order asks for is free, at a handler that it may use.
    fn has(&self, order: &Value) -> bool {
        let wanted = view::text(&order["spec"]["configuration"]["serverType"]);
        let named = |h: &&Value| h["metadata"]["name"] == order["spec"]["handlerRef"]["name"];
        let only = self.handlers.iter().find(named).and_then(self.panel_of);
        let fits = |s: &view::Server<'_>| s.is_free() && (wanted.is_empty() || s.state["type"] == wanted);
        view::servers(self.panels).iter().any(|s| fits(s) && only.is_none_or(|panel| panel == s.panel))
    }

    /// Somebody has to put an order right that is in the middle of a change: its place is not another one's.
    fn is_blocked(&self, order: &Value) -> bool {
        let stands = |o: &&Value| kstatus::is_true(o, "Stalled") && !o["status"]["inFlight"].is_null();
        self.orders.iter().filter(stands).any(|o| o["metadata"]["uid"] != order["metadata"]["uid"])
    }

    /// The namespace has as many orders as it may: those that have a server, and those that were there before.
    fn is_full_for(&self, order: &Value) -> bool {
        let age = |o: &Value| (view::text(&o["metadata"]["creationTimestamp"]).to_owned(), view::text(&o["metadata"]["uid"]).to_owned());
        let counts =
            |o: &&Value| o["metadata"]["uid"] != order["metadata"]["uid"] && (!o["status"]["server"].is_null() || age(o) < age(order));
        let limit = |h: &Value| h["spec"]["limits"]["maxOrdersPerNamespace"].as_u64().unwrap_or(0);
        let most = self.handlers.iter().map(limit).max().unwrap_or(0);
        most > 0 && self.orders.iter().filter(counts).count() as u64 >= most
    }
}

/// Whether a write is one that must not go on at rest. Only when a panel was last asked may be noted for ever.
pub fn counts(before: Option<&Value>, after: Option<&Value>) -> bool {
    let ours = ["DedicatedServerOrder", "ProcessingHandler", "IPManager", "ManualTask"];
    let kind = after.or(before).map(|o| view::text(&o["kind"])).unwrap_or_default();
    if !ours.contains(&kind) {
        return false;
    }
    let neutral = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = Value::Null;
        object["metadata"]["managedFields"] = Value::Null;
        object["status"]["lastProbeTime"] = Value::Null;
        object
    };
    before.map(neutral) != after.map(neutral)
}
