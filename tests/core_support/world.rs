//! The shell's loop over the model panel: passes, durable statuses, crashes, lost answers, virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dci_operator::api::DedicatedServerOrder;
use dci_operator::api::common::ObjectKey;
use dci_operator::api::handler::HandlerSpec;
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::error::{Outcome, PanelError};
use dci_operator::panel::model::{FREE_DOMAIN, PoolAddress, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::context::Next;
use dci_operator::provisioning::decide::{decide, refuse};
use dci_operator::provisioning::facts::{Facts, HandlerState, Inventory, Look, Prepare, Prepared, Seen, TaskView};
use dci_operator::provisioning::marker::{self, Marker};
use dci_operator::provisioning::notices;
use dci_operator::provisioning::order::{Handler, Order};
use dci_operator::provisioning::tasks::TaskRequest;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::panel::{ADMIN, Late, Panel, TEMPLATE, refused};
use super::{later, rules, seconds};

pub const CLUSTER: &str = "cluster-1";

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing at the call itself; the reads after it may fail.
    Nothing,
    /// The operator dies before it sends.
    CrashBefore,
    /// It dies when the panel has done it.
    CrashAfter,
    /// It dies, and the panel does it this much later.
    CrashLate(Duration),
    /// The panel did it; its answer is lost.
    LostApplied,
    /// Neither request nor answer arrived.
    LostNot,
    /// The answer is lost, and the panel does it this much later.
    LostLate(Duration),
    /// An error document.
    Refused,
    /// The connection is refused.
    Unreachable,
    /// The panel says that it did it, and did nothing.
    Ignored,
    /// The status of the order is changed by somebody else in between, so that the next guarded write fails.
    Touched,
}

/// What goes wrong at a write of a status or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    CrashBefore,
    CrashAfter,
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub raw: DedicatedServerOrder,
    pub status: OrderStatus,
    pub version: u64,
    pub wake: Option<Timestamp>,
    pub forced: bool,
    pub writes: usize,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub name: String,
    pub uid: String,
    pub type_: TaskType,
    pub resolution: Option<Resolution>,
    pub note: String,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Waited,
    Conflict,
    Crashed,
    Forgotten,
}

/// Memory of one pass, for the rules.
#[derive(Default)]
pub struct Pass {
    /// Forms read since the last change.
    pub forms: BTreeMap<String, String>,
}

pub struct World {
    pub now: Timestamp,
    pub panel: Panel,
    pub handler: Handler,
    pub state: HandlerState,
    pub slot: bool,
    pub orders: BTreeMap<String, Stored>,
    pub tasks: Vec<Task>,
    pub locks: BTreeMap<String, String>,
    pub missing: Option<Prepare>,
    pub faults: BTreeMap<usize, Fault>,
    pub write_faults: BTreeMap<usize, WriteFault>,
    pub delete_after_call: Option<usize>,
    pub delete_before_pass: Option<usize>,
    /// Reads that fail, by number.
    pub read_faults: BTreeSet<usize>,
    /// After a faulty call this many reads fail.
    pub then_reads_fail: usize,
    /// A server that user 7 takes right after the first list, or right before the first claim.
    pub taken_after_list: Option<String>,
    pub taken_before_claim: Option<String>,
    /// Everything that was asked for: number, order, call.
    pub asked: Vec<(String, Call)>,
    pub writes: usize,
    pub reads: usize,
    pub passes: usize,
    pub gone: Vec<String>,
    pub inventory: Option<Arc<Inventory>>,
    index: BTreeMap<String, (String, String, Vec<Marker>)>,
    changed: BTreeMap<String, Timestamp>,
    next_list: Timestamp,
    operations: usize,
}

/// The handler of the world; `change` may alter the JSON of its spec.
pub fn handler(change: impl FnOnce(&mut Value)) -> Handler {
    let mut spec = json!({
        "module": "DCImanager5",
        "connection": {"url": "https://dci.example.net:1500/dcimgr", "credentialsSecretRef": {"name": "dci"}},
        "ipManagement": {"ipManagerRef": {"name": "main"}, "publicIPType": "public", "parkingIPType": "parking"},
        "departments": {"operations": {"name": "Operations"}, "assembly": {"name": "A"}, "procurement": {"name": "P"}},
        "retry": {"interval": "5m", "maxAttempts": 3},
    });
    change(&mut spec);
    let spec: HandlerSpec = serde_json::from_value(spec).expect("a handler");
    Handler::new(ObjectKey { namespace: "hosting".into(), name: "msk-1".into() }, &spec, "dci.example.net:1500/dcimgr".into())
}

pub fn order(name: &str, uid: &str, change: impl FnOnce(&mut Value)) -> DedicatedServerOrder {
    let mut raw = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder",
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "handlerRef": {"name": "msk-1", "namespace": "hosting"},
            "client": {"username": "acme"},
            "configuration": {"serverType": "E3-16G"},
            "domain": format!("{name}.example.net"),
            "operatingSystem": {"template": TEMPLATE},
        },
    });
    change(&mut raw);
    serde_json::from_value(raw).expect("an order")
}

impl World {
    pub fn new(panel: Panel, handler: Handler) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self {
            now,
            panel,
            handler,
            state: HandlerState::Ready,
            slot: true,
            orders: BTreeMap::new(),
            tasks: Vec::new(),
            locks: BTreeMap::new(),
            missing: None,
            faults: BTreeMap::new(),
            write_faults: BTreeMap::new(),
            delete_after_call: None,
            delete_before_pass: None,
            read_faults: BTreeSet::new(),
            then_reads_fail: 0,
            taken_after_list: None,
            taken_before_claim: None,
            asked: Vec::new(),
            writes: 0,
            reads: 0,
            passes: 0,
            gone: Vec::new(),
            inventory: None,
            index: BTreeMap::new(),
            changed: BTreeMap::new(),
            next_list: now,
            operations: 0,
        }
    }

    /// Servers, addresses of each family, one order `web` with uid `u-web`.
    pub fn simple(servers: usize, public: usize) -> Self {
        let mut world = Self::new(Panel::new(servers, public), handler(|_| ()));
        world.add(order("web", "u-web", |_| ()));
        world
    }

    pub fn add(&mut self, raw: DedicatedServerOrder) {
        let name = raw.metadata.name.clone().unwrap();
        let status = OrderStatus { observed_generation: Some(-1), ..OrderStatus::default() };
        self.orders.insert(name, Stored { raw, status, version: 1, wake: None, forced: false, writes: 0 });
    }

    pub fn status(&self, name: &str) -> &OrderStatus {
        &self.orders[name].status
    }

    pub fn phase(&self, name: &str) -> &str {
        self.orders.get(name).map_or("gone", |o| o.status.phase.as_deref().unwrap_or("new"))
    }

    /// Changes a spec, as a client does.
    pub fn edit(&mut self, name: &str, change: impl FnOnce(&mut DedicatedServerOrder)) {
        let stored = self.orders.get_mut(name).expect("an order");
        change(&mut stored.raw);
        stored.raw.metadata.generation = stored.raw.metadata.generation.map(|g| g + 1);
        stored.version += 1;
        stored.wake = Some(self.now);
    }

    pub fn delete(&mut self, name: &str) {
        let now = self.now;
        if self.orders.get(name).is_some_and(|o| o.raw.metadata.deletion_timestamp.is_none()) {
            self.edit(name, |raw| {
                raw.metadata.deletion_timestamp = Some(serde_json::from_value(json!(now.to_string())).unwrap());
            });
        }
    }

    /// Somebody asks for an attempt now, or something that a stalled order may wait for has changed.
    pub fn force(&mut self, name: &str) {
        let now = self.now;
        if let Some(stored) = self.orders.get_mut(name) {
            stored.forced = true;
            stored.wake = Some(now);
        }
    }

    /// A department closes a task.
    pub fn resolve(&mut self, type_: TaskType, resolution: Resolution) {
        let task = self.tasks.iter_mut().find(|t| t.type_ == type_ && t.resolution.is_none()).expect("an open task");
        task.resolution = Some(resolution);
        for stored in self.orders.values_mut() {
            stored.wake = Some(self.now);
        }
    }

    pub fn open_tasks(&self) -> Vec<TaskType> {
        self.tasks.iter().filter(|t| t.resolution.is_none()).map(|t| t.type_).collect()
    }

    /// The process dies: what it kept in memory is lost.
    pub fn restart(&mut self) {
        self.inventory = None;
        self.index.clear();
        self.changed.clear();
        self.next_list = later(self.now, seconds(1));
        for stored in self.orders.values_mut() {
            stored.wake = None;
        }
    }

    /// Time passes until something is due; then the due passes are made.
    pub fn step(&mut self) {
        let awake = self.inventory.is_some() || matches!(self.state, HandlerState::NotReady(_));
        let wakes = self.orders.values().filter_map(|o| o.wake).filter(|_| awake);
        let due = wakes.chain([self.next_list]).min().unwrap_or(self.next_list);
        self.now = self.now.max(due);
        self.panel.advance(self.now);
        let listed = self.now >= self.next_list;
        if listed && matches!(self.state, HandlerState::Ready | HandlerState::Suspended) {
            self.list();
        }
        if listed {
            self.next_list = later(self.now, self.handler.poll);
        }
        let names: Vec<String> = self.orders.keys().cloned().collect();
        for name in names {
            let woken = self.orders.get(&name).is_some_and(|o| o.wake.is_some_and(|at| at <= self.now));
            if (listed || woken) && (self.inventory.is_some() || matches!(self.state, HandlerState::NotReady(_))) {
                self.pass(&name);
            }
        }
    }

    /// Steps until the condition holds; fails when it does not within this time.
    pub fn until(&mut self, what: &str, most: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let end = later(self.now, most);
        while !holds(self) {
            assert!(self.now < end, "not within {most:?}: {what}\n{}", self.describe());
            self.step();
        }
    }

    pub fn run_for(&mut self, span: Duration) {
        let end = later(self.now, span);
        while self.now < end {
            self.step();
        }
    }

    pub fn until_phase(&mut self, name: &str, phase: &str) {
        self.until(&format!("{name} {phase}"), Duration::from_hours(12), |w| w.phase(name) == phase);
    }

    /// Nothing is written or asked for any more.
    pub fn assert_quiet(&mut self) {
        self.run_for(seconds(120));
        let before = (self.writes, self.asked.len());
        self.run_for(seconds(600));
        assert_eq!((self.writes, self.asked.len()), before, "the world does not come to rest\n{}", self.describe());
    }

    pub fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("at {}\n", self.now);
        for (number, (name, call)) in self.asked.iter().enumerate() {
            let _ = writeln!(text, "  {number} {name}: {call:?}");
        }
        for (name, stored) in &self.orders {
            let mut status = stored.status.clone();
            status.conditions.retain(|c| ["Ready", "Stalled"].contains(&c.type_.as_str()));
            let steps: Vec<String> =
                std::mem::take(&mut status.steps).iter().map(|s| format!("{}={}({})", s.name, s.state, s.message)).collect();
            let _ = writeln!(text, "{name}: {}\n  {}", serde_json::to_string(&status).unwrap(), steps.join(" "));
        }
        for (id, s) in self.panel.servers.iter().filter(|(_, s)| s.owner.is_some() || !s.notes.is_empty() || s.installs > 0) {
            let _ = writeln!(text, "server {id}: {s:?}");
        }
        let used: Vec<String> = self.panel.used.iter().map(|u| format!("{} {} `{}`", u.address, u.group, u.note)).collect();
        let _ = writeln!(text, "used: {used:?}\nlate: {:?}\nlocks: {:?}, tasks: {:?}", self.panel.late, self.locks, self.tasks);
        text
    }

    fn tick(&mut self) {
        self.now = later(self.now, Duration::from_millis(10));
        self.panel.advance(self.now);
        rules::one_server_each(self);
    }

    fn list(&mut self) {
        let rows = self.panel.list();
        let clients: Vec<UserId> = {
            let names = self.orders.values().map(|o| o.raw.spec.client.username.clone());
            names.chain([ADMIN.to_owned()]).filter_map(|n| self.panel.user(&n).map(|u| u.id.clone())).collect()
        };
        let mut index = BTreeMap::new();
        for (id, row) in &rows {
            let Some(owner) = self.panel.servers[id].owner.clone().filter(|o| clients.contains(o)) else { continue };
            let seen = match self.index.get(id) {
                Some((was, name, markers)) if *was == owner.0 && *name == row.hostname => markers.clone(),
                Some(_) | None => marker::tokens(&self.panel.servers[id].notes).filter_map(Marker::parse).collect(),
            };
            index.insert(id.clone(), (owner.0, row.hostname.clone(), seen));
        }
        self.index = index;
        let markers = self.index.iter().map(|(id, (_, _, markers))| (id.clone(), markers.clone())).collect();
        let previous = self.inventory.as_ref().map(|i| i.rows.keys().cloned().collect());
        self.inventory = Some(Arc::new(Inventory { rows, began: self.now, previous, markers }));
        self.sweep_locks();
        if let Some(id) = self.taken_after_list.take() {
            self.panel.server(&id).owner = Some(UserId("7".into()));
        }
        self.tick();
    }

    /// A lock goes when no order names the server any more, and the panel shows it free.
    fn sweep_locks(&mut self) {
        let needed = |server: &str, holder: &str| {
            self.orders.values().any(|o| {
                let id = o.raw.metadata.annotations.as_ref().and_then(|a| a.get("dci-operator.dev/order-id"));
                let id = id.or(o.raw.metadata.uid.as_ref()).map(String::as_str);
                let named = o.status.server.as_ref().is_some_and(|s| s.id == server)
                    || o.status.in_flight.as_ref().is_some_and(|f| f.target == format!("server/{server}"));
                id == Some(holder) && named
            })
        };
        let free = |server: &str| self.panel.servers[server].owner.is_none();
        let keep: BTreeMap<String, String> =
            self.locks.iter().filter(|(s, h)| needed(s, h) || !free(s)).map(|(s, h)| (s.clone(), h.clone())).collect();
        self.locks = keep;
    }

    fn operation_id(&mut self) -> String {
        self.operations += 1;
        format!("op-{}", self.operations)
    }

    /// One pass over one order, as the shell makes it.
    pub fn pass(&mut self, name: &str) -> Ended {
        if self.delete_before_pass == Some(self.passes) {
            self.delete(name);
        }
        let Some(stored) = self.orders.get_mut(name) else { return Ended::Forgotten };
        let forced = std::mem::take(&mut stored.forced);
        stored.wake = None;
        let (mut raw, mut status, mut version) = (stored.raw.clone(), stored.status.clone(), stored.version);
        self.passes += 1;
        raw.status = Some(status.clone());
        let order = match Order::parse(&raw, CLUSTER) {
            Ok(order) => order,
            Err(refusal) => {
                let generation = raw.metadata.generation.unwrap_or_default();
                let new = refuse(&refusal, generation, raw.metadata.deletion_timestamp.is_some(), &raw.spec.reinstall, self.now, &status);
                return self.save(name, &mut version, &new).err().unwrap_or(Ended::Waited);
            }
        };
        let mut facts = Facts::new(self.state.clone(), self.operation_id());
        facts.login = ADMIN.into();
        facts.inventory.clone_from(&self.inventory);
        facts.changed = self.changed.get(name).copied();
        facts.slot = self.slot;
        facts.forced = forced;
        let views = self.tasks.iter().filter(|t| t.uid == order.uid);
        facts.tasks =
            views.map(|t| TaskView { name: t.name.clone(), type_: t.type_, resolution: t.resolution, note: t.note.clone() }).collect();
        let mut pass = Pass::default();
        for _ in 0..300 {
            let decided = self.now;
            let decision = decide(&order, &self.handler, &facts, self.now, &status);
            assert_eq!(decision, decide(&order, &self.handler, &facts, self.now, &status), "not a function of its arguments");
            status = decision.status;
            self.tick();
            match decision.next {
                Next::Look(look) => self.look(&look, &mut facts, &mut pass),
                Next::Prepare(what) => self.prepare(what, &mut facts),
                Next::Call(call) => {
                    if status.in_flight != self.orders[name].status.in_flight {
                        if let Err(ended) = self.save(name, &mut version, &status) {
                            return ended;
                        }
                        facts.own_operation = status.in_flight.as_ref().map(|f| f.operation_id.clone());
                        facts.operation_id = self.operation_id();
                    }
                    if call.destructive() && self.orders[name].version != version {
                        return self.conflict(name);
                    }
                    rules::before_call(self, name, &order, &call, &pass, facts.own_operation.as_deref());
                    pass.forms.clear();
                    match self.perform(name, &order, &call) {
                        Some(outcome) => facts.after(&call, outcome, self.now),
                        None => return Ended::Crashed,
                    }
                    if let Some(at) = facts.changed {
                        self.changed.insert(name.to_owned(), at);
                    }
                    self.tick();
                }
                Next::Raise(task) => {
                    if self.raise(&order.uid, &task, &mut facts) {
                        return Ended::Crashed;
                    }
                }
                Next::Wait(until) => {
                    let ended = self.save(name, &mut version, &status).err().unwrap_or(Ended::Waited);
                    if let (Ended::Waited, Some(stored)) = (ended, self.orders.get_mut(name)) {
                        stored.wake = stored.wake.into_iter().chain(until).min();
                        assert!(until.is_none_or(|at| at > decided), "{name} waits for a time that has passed\n{}", self.describe());
                    }
                    return ended;
                }
                Next::Forget => return self.forget(name, &order),
            }
        }
        panic!("a pass without end\n{}", self.describe());
    }

    fn conflict(&mut self, name: &str) -> Ended {
        if let Some(stored) = self.orders.get_mut(name) {
            stored.wake = Some(self.now);
        }
        Ended::Conflict
    }

    /// Writes a status when it differs, guarded by the version.
    fn save(&mut self, name: &str, version: &mut u64, status: &OrderStatus) -> Result<(), Ended> {
        let stored = &self.orders[name];
        let mut new = status.clone();
        notices::carry_times(&stored.status, &mut new);
        if new == stored.status {
            return Ok(());
        }
        let fault = self.write_faults.remove(&self.writes);
        self.writes += 1;
        if fault == Some(WriteFault::CrashBefore) {
            self.restart();
            return Err(Ended::Crashed);
        }
        if stored.version != *version {
            return Err(self.conflict(name));
        }
        rules::durable(self, name, &new);
        let text = serde_json::to_string(&new).expect("JSON");
        let stored = self.orders.get_mut(name).expect("an order");
        // What is read back is what went through the API server.
        stored.status = serde_json::from_str(&text).expect("a status");
        stored.version += 1;
        stored.writes += 1;
        *version = stored.version;
        if fault == Some(WriteFault::CrashAfter) {
            self.restart();
            return Err(Ended::Crashed);
        }
        Ok(())
    }

    fn look(&mut self, look: &Look, facts: &mut Facts, pass: &mut Pass) {
        self.reads += 1;
        assert!(facts.failed.is_none(), "a read after one that failed\n{}", self.describe());
        if self.read_faults.remove(&(self.reads - 1)) {
            facts.failed = Some(PanelError::NoAnswer { panel: "dci".into(), func: "read".into(), detail: "reset".into() });
            return;
        }
        match look {
            Look::Users => facts.users = Some(self.panel.users.clone()),
            Look::Form(server) => {
                let seen = self.panel.form(server).map_or(Seen::Missing, Seen::There);
                if let Seen::There(form) = &seen {
                    pass.forms.insert(server.0.clone(), form.notes.clone());
                }
                facts.forms.insert(server.0.clone(), seen);
            }
            Look::Addresses(server) => match self.panel.servers.get(&server.0).filter(|s| !s.gone) {
                Some(s) => facts.addresses = Some(s.rows.clone()),
                None => facts.failed = Some(refused("missed", "iplist")),
            },
            Look::Pool => facts.pool = Some(self.panel.used.clone()),
            Look::InstallForm(server) => {
                let form = self.panel.install_form(server);
                facts.install_forms.insert(server.0.clone(), Some(form));
            }
            Look::Connections(server) => facts.connections = Some(self.panel.connections(server, self.now)),
            Look::Locks => facts.locks = Some(self.locks.clone()),
        }
    }

    fn prepare(&mut self, what: Prepare, facts: &mut Facts) {
        let prepared = if self.missing == Some(what) { Prepared::Missing("it is not there".into()) } else { Prepared::Ready };
        match what {
            Prepare::ClientName => facts.client_name = Some(prepared),
            Prepare::PanelPassword => facts.panel_password = Some(prepared),
            Prepare::RootPassword => facts.root_password = Some(prepared),
        }
    }

    fn raise(&mut self, uid: &str, request: &TaskRequest, facts: &mut Facts) -> bool {
        let fault = self.write_faults.remove(&self.writes);
        self.writes += 1;
        if fault == Some(WriteFault::CrashBefore) {
            self.restart();
            return true;
        }
        if !self.tasks.iter().any(|t| t.name == request.name) {
            let task = Task { name: request.name.clone(), uid: uid.into(), type_: request.type_, resolution: None, note: String::new() };
            self.tasks.push(task);
        }
        if fault == Some(WriteFault::CrashAfter) {
            self.restart();
            return true;
        }
        let task = self.tasks.iter().find(|t| t.name == request.name).expect("the task");
        let view = TaskView { name: task.name.clone(), type_: task.type_, resolution: task.resolution, note: task.note.clone() };
        facts.tasks.retain(|t| t.name != view.name);
        facts.tasks.push(view);
        false
    }

    fn lock(&mut self, order: &Order, call: &Call) -> Result<(), PanelError> {
        let Call::Claim { server, .. } = call else { return Ok(()) };
        let holder = self.locks.entry(server.0.clone()).or_insert_with(|| order.order_id.clone());
        if *holder == order.order_id {
            return Ok(());
        }
        Err(PanelError::Expectation { server: server.0.clone(), detail: format!("locked by {holder}") })
    }

    /// Makes a call, or what the fault makes of it; `None` is a crash.
    fn perform(&mut self, name: &str, order: &Order, call: &Call) -> Option<Outcome<Option<IpAddr>>> {
        let number = self.asked.len();
        self.asked.push((name.to_owned(), call.clone()));
        let fault = self.faults.remove(&number);
        if fault.is_some() {
            self.read_faults.extend((self.reads..).take(self.then_reads_fail));
        }
        if let Err(error) = self.lock(order, call) {
            return Some(Outcome::Refused(error));
        }
        if matches!(call, Call::Claim { .. })
            && let Some(id) = self.taken_before_claim.take()
        {
            self.panel.server(&id).owner = Some(UserId("7".into()));
        }
        let lost = || PanelError::NoAnswer { panel: "dci".into(), func: call.name().into(), detail: "reset".into() };
        let now = self.now;
        let outcome = match fault {
            None | Some(Fault::Nothing) => Some(self.panel.apply(call, now, true).map_or_else(Outcome::of_error, Outcome::Applied)),
            Some(Fault::CrashBefore) => None,
            Some(Fault::CrashAfter) => {
                let _ = self.panel.apply(call, now, true);
                None
            }
            Some(Fault::LostApplied) => {
                let _ = self.panel.apply(call, now, true);
                Some(Outcome::Ambiguous(lost()))
            }
            Some(Fault::LostNot) => Some(Outcome::Ambiguous(lost())),
            Some(Fault::LostLate(span) | Fault::CrashLate(span)) => {
                if self.panel.check(call).is_ok() {
                    self.panel.late.push(Late { at: later(now, span), call: call.clone() });
                }
                matches!(fault, Some(Fault::LostLate(_))).then(|| Outcome::Ambiguous(lost()))
            }
            Some(Fault::Refused) => {
                self.refuse(call);
                Some(Outcome::Refused(refused("busy", call.name())))
            }
            Some(Fault::Unreachable) => {
                Some(Outcome::of_error(PanelError::Unreachable { panel: "dci".into(), detail: "connection refused".into() }))
            }
            Some(Fault::Ignored) => {
                self.refuse(call);
                Some(Outcome::Applied(None))
            }
            Some(Fault::Touched) => {
                if let Some(stored) = self.orders.get_mut(name) {
                    stored.version += 1;
                }
                Some(self.panel.apply(call, now, true).map_or_else(Outcome::of_error, Outcome::Applied))
            }
        };
        rules::one_server_each(self);
        if outcome.is_none() {
            self.restart();
        }
        if self.delete_after_call == Some(number) {
            self.delete(name);
        }
        outcome
    }

    /// A parking address that the pool does not take back stays in use: that is told, and blocks nothing.
    fn refuse(&mut self, call: &Call) {
        let Call::GiveBack { address } = call else { return };
        let parking = |u: &&PoolAddress| u.address == *address && u.group == "parking" && u.note.is_empty();
        self.panel.refused_parking += self.panel.used.iter().filter(parking).count();
    }

    fn forget(&mut self, name: &str, order: &Order) -> Ended {
        let fault = self.write_faults.remove(&self.writes);
        self.writes += 1;
        if fault == Some(WriteFault::CrashBefore) {
            self.restart();
            return Ended::Crashed;
        }
        self.locks.retain(|_, holder| *holder != order.order_id);
        self.tasks.retain(|t| t.uid != order.uid || t.resolution.is_some());
        self.orders.remove(name);
        self.changed.remove(name);
        self.gone.push(name.to_owned());
        if fault == Some(WriteFault::CrashAfter) {
            self.restart();
        }
        Ended::Forgotten
    }

    /// Every server is free, as if nobody had ever had it.
    pub fn assert_clean(&self) {
        for (id, server) in &self.panel.servers {
            let rows: Vec<&str> = server.rows.iter().map(|r| r.domain.as_str()).collect();
            assert!(server.owner.is_none() && server.notes.is_empty(), "server {id} is not free\n{}", self.describe());
            assert!(rows == [FREE_DOMAIN], "server {id} keeps addresses or domains\n{}", self.describe());
        }
        assert!(self.panel.used.iter().all(|u| u.group == "parking" && u.note.is_empty()), "addresses are kept\n{}", self.describe());
        let kept = self.panel.used.len() - self.panel.servers.len();
        assert!(kept <= self.panel.refused_parking, "addresses leak\n{}", self.describe());
        assert!(self.locks.is_empty() && self.open_tasks().is_empty(), "locks or tasks are left\n{}", self.describe());
    }
}
