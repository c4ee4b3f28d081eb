//! The shell's loop over the model panel: passes, durable statuses, crashes, lost answers, virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dci_operator::api::common::ObjectKey;
use dci_operator::api::handler::HandlerSpec;
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::api::{DedicatedServerOrder, ORDER_ID_ANNOTATION, RECONCILE_ANNOTATION};
use dci_operator::panel::model::{FREE_DOMAIN, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::{HandlerState, Inventory, Prepare, Unread};
use dci_operator::provisioning::forsaken::Forsaken;
use dci_operator::provisioning::hardware::Hardware;
use dci_operator::provisioning::marker::{self, Marker};
use dci_operator::provisioning::order::Handler;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::panel::{ADMIN, Ipmi, Panel, TEMPLATE};
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
    /// The session is refused, right after a log-in that worked.
    Session,
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
    /// The process has not looked at it since it was started.
    pub restarted: bool,
    pub writes: usize,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub name: String,
    pub uid: String,
    pub type_: TaskType,
    pub department: String,
    pub summary: String,
    pub details: String,
    pub resolution: Option<Resolution>,
    pub note: String,
    /// When it was made, in whole seconds.
    pub made: Timestamp,
    /// The operator closed it itself.
    pub by_operator: bool,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Waited,
    Conflict,
    Crashed,
    Forgotten,
    /// The handler cannot serve the order now; nothing was saved.
    Over,
}

/// Memory of one pass, for the rules.
#[derive(Default)]
pub struct Pass {
    /// Forms read since the last change.
    pub forms: BTreeMap<String, String>,
}

#[allow(clippy::struct_excessive_bools, reason = "each switches one thing of a test, by itself")]
pub struct World {
    pub now: Timestamp,
    pub panel: Panel,
    /// Recipes whose run the panel took and did not make.
    pub ignored_recipes: Vec<String>,
    pub handler: Handler,
    pub state: HandlerState,
    pub slot: bool,
    /// The handler or its credentials are gone.
    pub forsaken: Option<Forsaken>,
    /// The handler's namespace takes no tasks.
    pub no_tasks: bool,
    /// Orders that a task was refused for, and when: the process believes it for a minute.
    pub refused: BTreeMap<String, Timestamp>,
    pub orders: BTreeMap<String, Stored>,
    pub tasks: Vec<Task>,
    /// The API server's clock is so far behind the operator's.
    pub api_behind: Duration,
    pub locks: BTreeMap<String, String>,
    pub missing: Option<Prepare>,
    /// Version of the user's Secret with the root password, how often it was read, and when last.
    pub password: String,
    pub passwords_read: usize,
    pub password_at: Option<Timestamp>,
    pub faults: BTreeMap<usize, Fault>,
    pub write_faults: BTreeMap<usize, WriteFault>,
    /// What goes wrong at every call of this name.
    pub always: Option<(&'static str, Fault)>,
    /// When the latest passes were made: orders that are looked at without end would burn machine and panel.
    recent: VecDeque<Timestamp>,
    pub delete_after_call: Option<usize>,
    pub delete_before_pass: Option<usize>,
    /// Reads that fail, by number.
    pub read_faults: BTreeSet<usize>,
    /// After a faulty call this many reads fail.
    pub then_reads_fail: usize,
    /// A call to switch off was refused or did nothing: the server may stay on where the handler ignores that.
    pub may_stay_on: bool,
    /// Lists after which the notes cannot be read, so that the index of markers is not complete.
    pub index_fails: usize,
    /// A server whose form cannot be read for the index, and since when.
    pub unread: Option<(String, Timestamp)>,
    /// A server that user 7 takes right after the first list, or right before the first claim.
    pub taken_after_list: Option<String>,
    pub taken_before_claim: Option<String>,
    /// What somebody does at the panel right before the first claim.
    pub before_claim: Option<fn(&mut Panel)>,
    /// The form of a server is missed from its claim on.
    pub missed_after_claim: bool,
    /// Another order makes the client's user right before this one would.
    pub user_before_create: bool,
    /// Everything that was asked for: number, order, call.
    pub asked: Vec<(String, Call)>,
    pub writes: usize,
    pub reads: usize,
    /// How often the address manager was asked for what is in use there.
    pub pools_read: usize,
    pub passes: usize,
    pub gone: Vec<String>,
    pub inventory: Option<Arc<Inventory>>,
    pub index: BTreeMap<String, (String, String, Vec<Marker>)>,
    pub changed: BTreeMap<String, Timestamp>,
    pub next_list: Timestamp,
    pub operations: usize,
    /// Where there are several handlers.
    pub sites: super::sites::Sites,
    /// The handlers at which the calls were asked for.
    pub asked_at: Vec<String>,
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
            ignored_recipes: Vec::new(),
            handler,
            state: HandlerState::Ready,
            slot: true,
            forsaken: None,
            no_tasks: false,
            refused: BTreeMap::new(),
            orders: BTreeMap::new(),
            tasks: Vec::new(),
            api_behind: Duration::ZERO,
            locks: BTreeMap::new(),
            missing: None,
            password: dci_operator::provisioning::rotation::version("k", "1"),
            passwords_read: 0,
            password_at: None,
            faults: BTreeMap::new(),
            write_faults: BTreeMap::new(),
            always: None,
            recent: VecDeque::new(),
            delete_after_call: None,
            delete_before_pass: None,
            read_faults: BTreeSet::new(),
            then_reads_fail: 0,
            may_stay_on: false,
            index_fails: 0,
            unread: None,
            taken_after_list: None,
            taken_before_claim: None,
            before_claim: None,
            missed_after_claim: false,
            user_before_create: false,
            asked: Vec::new(),
            writes: 0,
            reads: 0,
            pools_read: 0,
            passes: 0,
            gone: Vec::new(),
            inventory: None,
            index: BTreeMap::new(),
            changed: BTreeMap::new(),
            next_list: now,
            operations: 0,
            sites: super::sites::Sites::default(),
            asked_at: Vec::new(),
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
        self.orders.insert(name, Stored { raw, status, version: 1, wake: None, forced: false, restarted: true, writes: 0 });
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

    /// Somebody asks for an attempt now.
    pub fn ask(&mut self, name: &str) {
        let now = self.now;
        let stored = self.orders.get_mut(name).expect("an order");
        stored.raw.metadata.annotations.get_or_insert_default().insert(RECONCILE_ANNOTATION.into(), now.to_string());
        stored.version += 1;
        stored.wake = Some(now);
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
        self.password_at = None;
        self.inventory = None;
        self.refused.clear();
        self.index.clear();
        self.changed.clear();
        let licenses = &mut self.panel.licenses;
        (licenses.list, licenses.changed, licenses.answers) = (None, BTreeMap::new(), BTreeMap::new());
        self.next_list = later(self.now, seconds(1));
        self.forget_sites();
        for stored in self.orders.values_mut() {
            stored.wake = None;
            stored.restarted = true;
        }
    }

    /// Time passes until something is due; then the due passes are made.
    pub fn step(&mut self) {
        if !self.sites.all.is_empty() {
            return self.step_sites();
        }
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
            // The licence server is another one: it is asked while the panel is down, too.
            self.panel.licenses.take_list(self.now);
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

    /// Fails when one order on average is looked at more than four times a second for half a minute.
    pub fn pace(&mut self) {
        self.recent.push_back(self.now);
        if self.recent.len() > 120 * self.orders.len().max(1) {
            let since = self.recent.pop_front().unwrap_or(self.now);
            assert!(self.now.duration_since(since).as_secs() > 30, "passes follow one another without a pause\n{}", self.describe());
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
            let _ = writeln!(text, "  {number} {name} at {}: {call:?}", self.asked_at[number]);
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
        for (id, row) in &self.panel.licenses.rows {
            let _ = writeln!(text, "licence {id}: {row:?}");
        }
        let used: Vec<String> = self.panel.used.iter().map(|u| format!("{} {} `{}`", u.address, u.group, u.note)).collect();
        let _ = writeln!(text, "used: {used:?}\nlate: {:?}\nlocks: {:?}, tasks: {:?}", self.panel.late, self.locks, self.tasks);
        text
    }

    pub fn tick(&mut self) {
        self.now = later(self.now, Duration::from_millis(10));
        self.advance_panels();
        rules::one_server_each(self);
    }

    pub fn list(&mut self) {
        let rows = self.panel.list();
        let clients: Vec<UserId> = {
            let names = self.orders.values().map(|o| o.raw.spec.client.username.clone());
            names.chain([ADMIN.to_owned()]).filter_map(|n| self.panel.user(&n).map(|u| u.id.clone())).collect()
        };
        let id_of = |raw: &DedicatedServerOrder| raw.metadata.annotations.as_ref().and_then(|all| all.get(ORDER_ID_ANNOTATION).cloned());
        let searches = |o: &Stored| o.status.server.is_none() && id_of(&o.raw).is_some_and(|id| Some(id) != o.raw.metadata.uid);
        let strangers = self.orders.values().any(searches).then(|| self.panel.strangers(&clients));
        let looked_at = |owner: &UserId| clients.contains(owner) || strangers.as_ref().is_some_and(|all| all.contains(owner));
        let mut index = BTreeMap::new();
        for (id, row) in &rows {
            let Some(owner) = self.panel.servers[id].owner.clone().filter(looked_at) else { continue };
            if self.unread.as_ref().is_some_and(|(unread, _)| unread == id) {
                continue;
            }
            let seen = match self.index.get(id) {
                Some((was, name, markers)) if *was == owner.0 && *name == row.hostname => markers.clone(),
                Some(_) | None => marker::tokens(&self.panel.servers[id].notes).filter_map(Marker::parse).collect(),
            };
            index.insert(id.clone(), (owner.0, row.hostname.clone(), seen));
        }
        self.index = index;
        if self.index_fails > 0 {
            self.index_fails -= 1;
            self.index.clear();
        }
        self.panel.licenses.take_list(self.now);
        let markers = self.index.iter().map(|(id, (_, _, markers))| (id.clone(), markers.clone())).collect();
        let previous = self.inventory.as_ref().map(|i| i.rows.keys().cloned().collect());
        let parts = |id: &String| Hardware::of_server(&self.panel.servers[id].parts, "");
        let hardware = rows.keys().map(|id| (id.clone(), parts(id))).collect();
        let names = self.orders.values().map(|o| o.raw.spec.client.username.clone());
        let (ids, asked, owners) = (BTreeMap::new(), BTreeSet::new(), names.chain([ADMIN.to_owned()]).collect());
        let unread =
            self.unread.iter().map(|(id, since)| (id.clone(), Unread { since: *since, why: "an error document".into() })).collect();
        let former = strangers.map(|all| all.iter().map(|id| self.panel.user_name(id)).collect());
        self.inventory =
            Some(Arc::new(Inventory { rows, began: self.now, turn: 0, previous, ids, asked, owners, former, markers, unread, hardware }));
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
                let here = o.status.in_flight.as_ref().filter(|f| f.handler.as_ref().is_none_or(|h| *h == self.handler.key.to_string()));
                let named = o.status.server.as_ref().is_some_and(|s| s.id == server && s.panel == self.handler.panel)
                    || here.is_some_and(|f| f.target == format!("server/{server}"));
                id == Some(holder) && named
            })
        };
        let free = |server: &str| self.panel.servers[server].owner.is_none();
        let keep: BTreeMap<String, String> =
            self.locks.iter().filter(|(s, h)| needed(s, h) || !free(s)).map(|(s, h)| (s.clone(), h.clone())).collect();
        self.locks = keep;
    }

    /// Every server is free, as if nobody had ever had it.
    pub fn assert_clean(&self) {
        for (id, server) in &self.panel.servers {
            let rows: Vec<&str> = server.rows.iter().map(|r| r.domain.as_str()).collect();
            assert!(server.owner.is_none() && server.notes.is_empty(), "server {id} is not free\n{}", self.describe());
            assert!(server.operation.is_none(), "something runs on server {id}\n{}", self.describe());
            assert!(!server.on || self.may_stay_on || server.ipmi != Ipmi::Works, "server {id} is on\n{}", self.describe());
            assert!(rows == [FREE_DOMAIN], "server {id} keeps addresses or domains\n{}", self.describe());
        }
        assert!(self.panel.used.iter().all(|u| u.group == "parking" && u.note.is_empty()), "addresses are kept\n{}", self.describe());
        assert_eq!(self.panel.used.len(), self.panel.servers.len(), "addresses leak\n{}", self.describe());
        assert!(self.locks.is_empty() && self.open_tasks().is_empty(), "locks or tasks are left\n{}", self.describe());
    }
}
