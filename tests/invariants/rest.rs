//! (7): once nothing goes wrong any more, every order is where it may stay, and then nothing is written.

use dci_operator::provisioning::reason::Reason;
use serde_json::Value;
use sha2::{Digest, Sha256};

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
            "WaitingForCapacity" => !room.has(order),
            "LimitReached" => room.is_full_for(order) || room.is_kept_out(order),
            // Licences, and no handler that the order selects can order any: the message says what to do, and another handler may come.
            "LicenseServerNotReady" => order["spec"]["handlerSelector"].is_object() && !room.orders_licenses(),
            // Every panel that could serve it cuts what says whose a server is: another handler may come.
            "MarkerTruncated" => order["spec"]["handlerSelector"].is_object() && !room.has(order),
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

/// How often one object may be reconciled in a minute in which nothing is written: when its panel is asked, when its time has come, and
/// when either of it happens to another.
const PACE: u64 = 60;

/// Somebody is at work all the time, and nothing comes of it: objects that wake each other, or look without end, write nothing. So many
/// passes, within so many milliseconds at rest, over so many objects of a kind.
pub fn restless(kind: &str, objects: u64, passes: u64, span: u64) -> Option<String> {
    // What has begun counts as a whole minute.
    let most = PACE * objects.max(1) * (span / 60_000 + 1);
    (passes > most).then(|| format!("{passes} passes over {objects} {kind} in {} s at rest", span / 1000))
}

/// A reason that is documented, with something to do, and a message.
fn has_a_cure(stalled: &Value) -> bool {
    let reason = Reason::ALL.iter().find(|reason| stalled["reason"] == reason.as_str());
    reason.is_some_and(|reason| !reason.cure().starts_with("Nothing")) && !view::text(&stalled["message"]).is_empty()
}

impl Room<'_> {
    /// A server that an order asks for is free, at a handler that it may use. What an order that stands has, or may have, is nobody else's.
    fn has(&self, order: &Value) -> bool {
        let wanted = view::text(&order["spec"]["configuration"]["serverType"]);
        let only = self.named_by(order).and_then(self.panel_of);
        let fits = |s: &view::Server<'_>| s.is_free() && (wanted.is_empty() || s.state["type"] == wanted);
        let kept = |s: &view::Server<'_>| self.standing(order).any(|o| view::server_of(o) == Some(s.id()));
        let cut: Vec<&str> = self.cuts_markers_of(order).collect();
        let usable = |panel: &str| only.is_none_or(|only| only == panel) && !cut.contains(&panel);
        view::servers(self.panels).iter().any(|s| fits(s) && !kept(s) && usable(s.panel))
    }

    /// The panels that an order with a selector was passed over at since they cut its marker.
    fn cuts_markers_of<'b>(&'b self, order: &'b Value) -> impl Iterator<Item = &'b str> {
        let cut = |h: &&Value| {
            view::list(&order["status"]["handlers"]).iter().any(|n| n["name"] == h["metadata"]["name"] && n["reason"] == "MarkerTruncated")
        };
        self.handlers.iter().filter(cut).filter_map(self.panel_of)
    }

    /// A handler can order licences.
    fn orders_licenses(&self) -> bool {
        self.handlers.iter().any(|h| h["spec"]["licenseServerRef"].is_object())
    }

    /// The handler that an order names; none where it selects one.
    fn named_by(&self, order: &Value) -> Option<&Value> {
        self.handlers.iter().find(|h| h["metadata"]["name"] == order["spec"]["handlerRef"]["name"])
    }

    /// Other orders that stand in the middle of a change until somebody has put them right.
    fn standing(&self, order: &Value) -> impl Iterator<Item = &Value> {
        let stands = |o: &&Value| kstatus::is_true(o, "Stalled") && !o["status"]["inFlight"].is_null();
        let own = order["metadata"]["uid"].clone();
        self.orders.iter().filter(stands).filter(move |o| o["metadata"]["uid"] != own)
    }

    /// As many orders as may be prepared at once at a handler stand there with their places, as only those do that are not handed over.
    fn is_kept_out(&self, order: &Value) -> bool {
        let named = self.named_by(order);
        let inside = |h: &Value| {
            let prepared = |o: &&Value| !view::is_deleting(o) && o["status"]["server"]["handedOverAt"].is_null();
            let here = |o: &&Value| o["status"]["handler"].as_str().is_none_or(|name| name == view::name(h));
            self.standing(order).filter(prepared).filter(here).count() as u64
        };
        let limit = |h: &Value| h["spec"]["limits"]["maxConcurrentOperations"].as_u64().unwrap_or(0);
        let usable = self.handlers.iter().filter(|h| named.is_none_or(|named| named == *h));
        usable.into_iter().any(|h| limit(h) > 0 && inside(h) >= limit(h))
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

/// The Secret with the root password of an order's server, and the key in it.
pub fn root_password(order: &Value) -> (String, String) {
    let own = &order["spec"]["operatingSystem"]["passwordSecretRef"];
    let name = own["name"].as_str().map_or_else(|| format!("{}-root", view::text(&order["metadata"]["name"])), str::to_owned);
    (name, own["key"].as_str().unwrap_or("password").to_owned())
}

/// Whoever logs in to the server of an order that is Active does so with what its Secret says. `password`: what that is, if there is one.
pub fn wrong_password(order: &Value, panels: &Value, password: Option<&[u8]>) -> Option<String> {
    let works = kstatus::is_true(order, "Ready") && !view::is_deleting(order);
    let id = view::server_of(order).filter(|_| works)?;
    let server = view::servers(panels).into_iter().find(|s| s.id() == id)?;
    // A system that was there before its order has a password that nobody told.
    let has = view::text(&server.state["invented"]["passwordSha256"]);
    if has.is_empty() && order["spec"]["adopt"].is_object() {
        return None;
    }
    let digest = |password: &[u8]| Sha256::digest(password).iter().fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
    let right = password.is_some_and(|password| digest(password) == has);
    (!right).then(|| format!("the root password of server {id} is not that of the Secret of {}", view::name(order)))
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
