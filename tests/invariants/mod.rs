//! What must hold at every moment, whatever goes wrong: written once, used by every test. The numbers are those of docs/reliability.md.
//!
//! Whoever tests feeds what happens, in order: calls of panels as they are sent (`sent`) and answered (`answered`), what the panels are
//! (`panels`: the simulator's `/_sim/state`), objects before and after each change (`changed`), and what people do behind the panels
//! (`by_hand`). Each returns what is broken, in words. Who includes this brings `kstatus` along.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::kstatus;

mod asked;
pub mod calls;
mod purchases;
pub mod ready;
pub mod rest;
#[cfg(test)]
mod tests;
pub mod view;

pub use calls::Call;
use view::{list, text};

/// How long after a person's act what it did may show, in milliseconds: calls that were decided before are still on their way.
const AFTERMATH: u64 = 20_000;

/// What is remembered from one moment to the next.
pub struct Invariants {
    /// No status may hold these.
    pub secrets: Vec<String>,
    /// How old what was read may be when it is acted upon, in milliseconds, where nothing went wrong lately.
    pub decision: u64,
    /// The tester does not see reads: what needs them is not checked.
    pub blind: bool,
    /// Order ids of orders that a person gave up: what is left of them is known to somebody.
    pub abandoned: BTreeSet<String>,
    calls: calls::Calls,
    asked: asked::Asked,
    purchases: purchases::Purchases,
    /// When the last thing ended that may hold a decision up.
    disturbed: Option<u64>,
    /// Orders that are gone, by order id.
    gone: BTreeMap<String, Gone>,
    /// Objects as they are: by kind, namespace and name.
    objects: BTreeMap<(String, String), Value>,
    /// Servers and addresses whose records a person changed, and when.
    hands: BTreeMap<String, u64>,
    users: BTreeMap<(String, String), String>,
    /// Servers that a department has said to be off, by the `StopServer` task of an order: its uid, and the server that it had then.
    stopped: BTreeSet<(String, String)>,
}

/// An order that is gone.
struct Gone {
    name: String,
    /// Its licences may run on: the client keeps them with his server, or they were given up.
    licenses_stay: bool,
}

/// One thing that happened, for those who have all of it only afterwards.
#[derive(Clone, Debug)]
pub enum Event {
    Sent(Call),
    Answered(Call),
    Panels(Value),
    /// `None` before: it was created; `None` after: it is gone.
    Object(Option<Value>, Option<Value>),
    /// A person changed the records of a server.
    Hand(String),
}

impl Default for Invariants {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            decision: calls::DECISION,
            blind: false,
            abandoned: BTreeSet::new(),
            calls: calls::Calls::default(),
            asked: asked::Asked::default(),
            purchases: purchases::Purchases::default(),
            disturbed: None,
            gone: BTreeMap::new(),
            objects: BTreeMap::new(),
            hands: BTreeMap::new(),
            users: BTreeMap::new(),
            stopped: BTreeSet::new(),
        }
    }
}

impl Invariants {
    pub fn new(secrets: &[&str]) -> Self {
        Self { secrets: secrets.iter().map(|s| (*s).to_owned()).collect(), ..Self::default() }
    }

    /// All that happened, each with its time in milliseconds, in order.
    pub fn all(&mut self, events: &[(u64, Event)]) -> Vec<String> {
        let mut panels = Value::Null;
        let mut wrong = Vec::new();
        for (at, event) in events {
            let found = match event {
                Event::Sent(call) => self.sent(call, *at, &panels),
                Event::Answered(call) => {
                    self.answered(call);
                    Vec::new()
                }
                Event::Panels(state) => {
                    panels = state.clone();
                    self.panels(state)
                }
                Event::Object(before, after) => self.changed(before.as_ref(), after.as_ref(), &panels),
                Event::Hand(server) => {
                    self.by_hand(server, *at);
                    Vec::new()
                }
            };
            wrong.extend(found.into_iter().map(|what| format!("{at} ms: {what}")));
        }
        wrong
    }

    /// A person changes the records of a server, or of an address where it is kept.
    pub fn by_hand(&mut self, server: &str, at: u64) {
        self.hands.insert(server.to_owned(), at);
    }

    /// A person puts the records of a panel back to what they were: its users are those of then.
    pub fn set_back(&mut self, panel: &str) {
        self.users.retain(|(of, _), _| of != panel);
    }

    /// A person took an order out of the cluster by force, namespace and name: what it has stays where it is.
    pub fn taken_out(&mut self, order: &str) {
        self.gone.retain(|_, gone| gone.name != order);
    }

    /// Something goes wrong, until then, that may hold up whoever decides: a lost or late answer, an outage, a process that stands still.
    pub fn disturbed(&mut self, until: u64) {
        self.disturbed = self.disturbed.max(Some(until));
    }

    /// How old what was read may be now. A decision that nothing holds up takes some requests; one that was held up waits for answers.
    fn within(&self, at: u64) -> u64 {
        let lately = self.disturbed.is_some_and(|until| at <= until + calls::DECISION);
        if lately { calls::DECISION } else { self.decision }
    }

    fn touched(&self, server: &str, at: u64) -> bool {
        self.hands.get(server).is_some_and(|then| at < then + AFTERMATH)
    }

    /// A call leaves the operator. `panels`: what they are now; null where that is not known.
    pub fn sent(&mut self, call: &Call, at: u64, panels: &Value) -> Vec<String> {
        let orders: Vec<&Value> = self.of_kind("DedicatedServerOrder").collect();
        let mut wrong = Vec::new();
        if !self.blind {
            wrong.extend(self.calls.check(call, at, self.within(at), &orders));
            wrong.extend(self.calls.holder(call, &orders).and_then(|order| self.asked.forbids(call, order)));
        }
        if call.releases() {
            wrong.extend(self.not_before_its_task(call, at, panels));
        }
        self.calls.sent(call, at);
        wrong
    }

    /// The operator has got an answer.
    pub fn answered(&mut self, call: &Call) {
        self.calls.answered(call);
    }

    /// (1), (3), (6): what the panels are.
    pub fn panels(&mut self, panels: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut of_order: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for server in view::servers(panels) {
            let marks = server.marks();
            if marks.len() > 1 {
                wrong.push(format!("(1) server {} carries the markers of {} orders", server.id(), marks.len()));
            }
            for mark in marks {
                of_order.entry(mark).or_default().push(format!("{}/{}", server.panel, server.id()));
            }
        }
        for (mark, servers) in &of_order {
            if servers.len() > 1 {
                wrong.push(format!("(1) order id {mark} has the servers {}", servers.join(", ")));
            }
            if let Some(Gone { name, .. }) = self.gone.get(mark) {
                wrong.push(format!("(3) order {name} is gone, and server {} carries its marker again", servers.join(", ")));
            }
        }
        let mut taken: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (ip, marks) in view::addresses(panels) {
            taken.entry(ip).or_default().extend(marks);
        }
        for (ip, holders) in view::on_servers(panels) {
            if self.hands.contains_key(ip) {
                continue;
            }
            let marked: Vec<String> = holders.iter().flat_map(view::Server::marks).collect();
            if marked.len() > 1 {
                wrong.push(format!("(1) address {ip} is on the servers of {} orders", marked.len()));
            }
            let by_hand = holders.iter().any(|server| self.hands.contains_key(server.id()));
            if holders.len() > 1 && view::is_public(ip) && !by_hand {
                let names: Vec<String> = holders.iter().map(|s| format!("{}/{}", s.panel, s.id())).collect();
                wrong.push(format!("(1) address {ip} is on the servers {}", names.join(", ")));
            }
            let noted = taken.get(ip).into_iter().flatten();
            wrong.extend(
                noted
                    .filter(|id| marked.iter().any(|mark| mark != *id))
                    .map(|id| format!("(1) address {ip} is on the server of order id {}, and noted for {id}", marked.join(", "))),
            );
        }
        for (ip, marks) in view::addresses(panels) {
            if marks.len() > 1 {
                wrong.push(format!("(1) address {ip} is noted for {} orders", marks.len()));
            }
            if let Some(Gone { name, .. }) = marks.iter().find_map(|mark| self.gone.get(mark)) {
                wrong.push(format!("(3) order {name} is gone, and address {ip} is noted for it again"));
            }
        }
        let licenses = view::licenses(panels);
        for (id, _, marks) in &licenses {
            if marks.len() > 1 {
                wrong.push(format!("(1) licence {id} belongs to {} orders", marks.len()));
            }
            let gone = marks.iter().find_map(|mark| self.gone.get(mark)).filter(|gone| !gone.licenses_stay && view::runs(panels, id));
            if let Some(Gone { name, .. }) = gone {
                wrong.push(format!("(3) order {name} is gone, and licence {id} runs for it again"));
            }
        }
        wrong.extend(self.purchases.seen(&licenses, |id| self.hands.contains_key(id)));
        let users = view::users(panels);
        for (user, was) in &self.users {
            if users.get(user).is_some_and(|is| is != was) {
                wrong.push(format!("(6) user {} of panel {} was changed", user.1, user.0));
            }
        }
        self.users = users;
        wrong
    }

    /// An object is not what it was. `panels`: what they are now; null where that is not known.
    pub fn changed(&mut self, before: Option<&Value>, after: Option<&Value>, panels: &Value) -> Vec<String> {
        let Some(object) = after.or(before) else { return Vec::new() };
        let kind = text(&object["kind"]).to_owned();
        let name = view::name(object);
        let mut wrong = Vec::new();
        if let Some(after) = after
            && after["status"].is_object()
            && ["DedicatedServerOrder", "ProcessingHandler", "IPManager", "ManualTask"].contains(&kind.as_str())
        {
            let found = kstatus::violations(before, after, &self.secrets);
            wrong.extend(found.into_iter().map(|what| format!("(8) {kind} {name}: {what}")));
        }
        match kind.as_str() {
            "DedicatedServerOrder" => wrong.extend(self.order_changed(before, after, panels)),
            "ManualTask" => wrong.extend(self.task_changed(before, after)),
            "Secret" => wrong.extend(secret_changed(before, after)),
            _ => {}
        }
        let key = (kind, name);
        match after {
            Some(after) => drop(self.objects.insert(key, after.clone())),
            None => drop(self.objects.remove(&key)),
        }
        wrong
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |((k, _), _)| k == kind).map(|(_, object)| object)
    }

    fn order_changed(&mut self, before: Option<&Value>, after: Option<&Value>, panels: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        if let (None, Some(order)) = (before, after) {
            // Restored: it is there again, and so may be what it has.
            self.gone.remove(view::order_id(order));
        }
        if let Some(after) = after {
            self.asked.changed(before, after);
        }
        if let (Some(before), Some(after)) = (before, after) {
            self.purchases.changed(before, after);
        }
        let holds = |order: Option<&Value>| order.is_some_and(|o| list(&o["metadata"]["finalizers"]).iter().any(|f| f == view::FINALIZER));
        if let Some(order) = before
            && holds(Some(order))
            && !holds(after)
        {
            wrong.extend(self.let_go(order, panels));
        }
        // The server of one order that is wanted is in no other's status.
        if let Some(order) = after.filter(|o| !view::is_deleting(o))
            && let Some(server) = order["status"]["server"]["id"].as_str()
        {
            let place = |o: &Value| (text(&o["status"]["handler"]).to_owned(), text(&o["status"]["server"]["id"]).to_owned());
            let twin = |o: &&Value| o["metadata"]["uid"] != order["metadata"]["uid"] && !view::is_deleting(o) && place(o) == place(order);
            if let Some(other) = self.of_kind("DedicatedServerOrder").find(twin) {
                wrong.push(format!("(1) server {server} is in the status of {} and of {}", view::name(order), view::name(other)));
            }
        }
        if let Some(order) = after.filter(|o| !view::is_deleting(o)) {
            // What a person took out of the address manager may be another one's next.
            let by_hand = |what: &str| what.strip_prefix("address ").is_some_and(|ip| self.hands.contains_key(ip));
            let own: Vec<String> = view::possessions(order).into_iter().filter(|what| !by_hand(what)).collect();
            for other in self.of_kind("DedicatedServerOrder").filter(|o| o["metadata"]["uid"] != order["metadata"]["uid"]) {
                let both = view::possessions(other).into_iter().filter(|what| !view::is_deleting(other) && own.contains(what));
                wrong.extend(both.map(|what| format!("(1) {what} is in the status of {} and of {}", view::name(order), view::name(other))));
            }
        }
        wrong
    }

    /// (3), (4): the finalizer goes when the panel has confirmed the release, and nothing is left.
    fn let_go(&mut self, order: &Value, panels: &Value) -> Vec<String> {
        let (id, name) = (view::order_id(order).to_owned(), view::name(order));
        if view::is_abandoned(order) {
            self.abandoned.insert(id);
            return Vec::new();
        }
        let mut wrong = Vec::new();
        let orphan = order["spec"]["deletionPolicy"] == "Orphan";
        // The client keeps the licences of a server that he keeps; or they alone were given up.
        let licenses_stay = orphan || view::are_licenses_abandoned(order);
        for what in view::left(panels, &id) {
            if !(licenses_stay && what.starts_with("licence")) {
                wrong.push(format!("(3) order {name} is gone, and {what} carries its marker"));
            }
        }
        if !self.blind
            && let Some(told) = self.calls.unconfirmed(&id)
        {
            wrong.push(format!("(4) order {name} is let go, and {told}"));
        }
        self.gone.insert(id, Gone { name, licenses_stay });
        wrong
    }

    /// (5): never two open tasks for one reason.
    fn task_changed(&mut self, before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
        let open = |task: &Value| task["spec"]["resolution"].is_null();
        let Some(task) = after else { return Vec::new() };
        let (order, type_) = (&task["spec"]["orderRef"]["uid"], &task["spec"]["type"]);
        // What was told when it was closed is not told once more when a watch shows it: the order may have another server by then.
        let told = self
            .of_kind("ManualTask")
            .any(|t| !open(t) && t["metadata"]["uid"] == task["metadata"]["uid"] && view::name(t) == view::name(task));
        if *type_ == "StopServer" && !open(task) && before.is_some_and(open) && !told {
            // Whoever asks for another try has not stopped it.
            let owner = self.of_kind("DedicatedServerOrder").find(|o| o["metadata"]["uid"] == *order);
            let server = owner.and_then(view::server_of).unwrap_or_default();
            let stopped = (text(order).to_owned(), server.to_owned());
            if task["spec"]["resolution"] == "Done" {
                self.stopped.insert(stopped);
            } else {
                self.stopped.remove(&stopped);
            }
        }
        if before.is_some() || !open(task) {
            return Vec::new();
        }
        // One that somebody made in another namespace is nobody's.
        let beside = |other: &Value| other["metadata"]["namespace"] == task["metadata"]["namespace"];
        let another = |other: &Value| open(other) && beside(other) && view::name(other) != view::name(task);
        let twin = |other: &&Value| another(other) && other["spec"]["orderRef"]["uid"] == *order && other["spec"]["type"] == *type_;
        let twins = self.of_kind("ManualTask").filter(twin);
        twins.map(|other| format!("(5) tasks {} and {} are both open for one reason", view::name(other), view::name(task))).collect()
    }

    /// (5): with `CreateTask`, a server is released when it is off, or when the department has closed its `StopServer` task: the server of
    /// an order that goes, or one that an order gives back for another.
    fn not_before_its_task(&self, call: &Call, at: u64, panels: &Value) -> Vec<String> {
        let gives = |o: &Value| view::is_deleting(o) || !o["status"]["server"]["returning"].is_null();
        let of_server = |o: &&Value| view::server_of(o) == Some(call.server()) && gives(o);
        let Some(order) = self.of_kind("DedicatedServerOrder").find(of_server) else { return Vec::new() };
        if view::is_deleting(order) && order["spec"]["deletionPolicy"] == "Orphan" {
            // The marker goes, whoever the owner is by now; the client keeps what is his.
            let his = |s: &view::Server<'_>| {
                s.panel == call.panel && s.id() == call.server() && s.state["owner"] == order["spec"]["client"]["username"]
            };
            let his = view::servers(panels).iter().any(his);
            return his.then(|| format!("(5) server {} is released, and its order says Orphan", call.server())).into_iter().collect();
        }
        let uid = &order["metadata"]["uid"];
        let stop =
            |t: &&Value| t["spec"]["orderRef"]["uid"] == *uid && t["spec"]["type"] == "StopServer" && t["spec"]["resolution"].is_null();
        let mut wrong = Vec::new();
        if let Some(task) = self.of_kind("ManualTask").find(stop) {
            wrong.push(format!("(5) server {} is released while task {} is open", call.server(), view::name(task)));
        }
        let of_order = |h: &&Value| order["status"]["handler"].as_str().is_none_or(|name| name == view::name(h));
        let policy = self.of_kind("ProcessingHandler").find(of_order).map(|h| text(&h["spec"]["ipmiErrorPolicy"]));
        let on = |s: &view::Server<'_>| s.panel == call.panel && s.id() == call.server() && s.state["power"] == "on";
        let runs = view::servers(panels).iter().any(on);
        let stopped = self.stopped.contains(&(text(uid).to_owned(), call.server().to_owned()));
        if policy == Some("CreateTask") && runs && !stopped && !self.touched(call.server(), at) {
            wrong.push(format!("(5) server {} is released while it runs, and nobody has closed a StopServer task", call.server()));
        }
        wrong
    }
}

/// (6): a password that an order was given stays what it is.
fn secret_changed(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let of_order = list(&after["metadata"]["ownerReferences"]).iter().any(|o| o["kind"] == "DedicatedServerOrder");
    let password = |secret: &Value| secret["data"]["password"].clone();
    let same = before["metadata"]["uid"] == after["metadata"]["uid"];
    if of_order && same && !password(before).is_null() && password(before) != password(after) {
        return vec![format!("(6) the password in Secret {} was changed", view::name(after))];
    }
    Vec::new()
}
