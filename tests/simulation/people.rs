//! Everybody else: clients who order, change and delete; people at the panel and in the departments; who ends the faults.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use dci_operator::api::RECONCILE_ANNOTATION;
use serde_json::{Value, json};

use super::adversary::Amiss;
use super::apiserver::{HANDLERS, LEASES, ORDERS, SECRETS, TASKS};
use super::determinism::now;
use super::invariants::view;
use super::kstatus;
use super::world::{PROVIDER, SHOP, World};

/// What somebody does at a moment.
#[derive(Clone, Debug)]
pub enum Act {
    /// Creates an order; the object as a client writes it.
    Order(Value),
    Delete(String),
    DeleteAll,
    /// Waits until everything is settled, for so many milliseconds at most.
    Await(u64),
    /// Asks every order that there is for an attempt now.
    AskAgain,
    /// Every server is repaired, every handler at work.
    Heal,
    /// Patches an order's spec.
    Edit(String, Value),
    /// Patches a handler's spec.
    Handler(String, Value),
    /// Changes a server behind the panel: the one that this order has.
    Server(Which, Value),
    /// Deletes every task of an order's.
    LoseTasks,
    /// Stops a process for so long, and lets it go on.
    Freeze(usize, u64),
    /// Steps the operator's clock by so many seconds.
    Clock(i64),
    PanelsDown(u64),
    /// One of them.
    PanelDown(String, u64),
    /// An order's main address is taken out of the address manager, or noted for nobody.
    Address(String, bool),
    ApiDown(u64),
    /// The next so many lists of servers show something else.
    Amiss(Amiss, usize),
    /// There is one process from now on.
    Alone,
    /// Nothing goes wrong from now on.
    Calm,
}

impl Act {
    /// What sort of thing it is.
    fn name(&self) -> &'static str {
        match self {
            Self::Order(_) => "order",
            Self::Delete(_) | Self::DeleteAll => "delete",
            Self::Await(_) => "await",
            Self::AskAgain => "ask-again",
            Self::Heal => "heal",
            Self::Edit(..) => "edit",
            Self::Handler(..) => "handler",
            Self::Server(..) => "server",
            Self::LoseTasks => "tasks",
            Self::Freeze(..) => "freeze",
            Self::Clock(_) => "clock",
            Self::PanelsDown(_) | Self::PanelDown(..) => "panel-down",
            Self::Address(..) => "address",
            Self::ApiDown(_) => "api-down",
            Self::Amiss(..) => "amiss",
            Self::Alone => "alone",
            Self::Calm => "calm",
        }
    }

    /// Somebody does behind the operator's back, or to its handler, what keeps an order from its end. Repairs do not.
    pub fn is_by_hand(&self) -> bool {
        match self {
            Self::Server(..) | Self::LoseTasks | Self::Address(..) | Self::Handler(..) => true,
            Self::Order(_)
            | Self::Delete(_)
            | Self::DeleteAll
            | Self::Await(_)
            | Self::AskAgain
            | Self::Heal
            | Self::Edit(..)
            | Self::Freeze(..)
            | Self::Clock(_)
            | Self::PanelsDown(_)
            | Self::PanelDown(..)
            | Self::ApiDown(_)
            | Self::Amiss(..)
            | Self::Alone
            | Self::Calm => false,
        }
    }
}

/// Which server.
#[derive(Clone, Debug)]
pub enum Which {
    Of(String),
    Id(u64),
}

/// What everybody does, in order of time.
pub struct People {
    script: Vec<(u64, Act)>,
    calm: Option<u64>,
    /// How long departments take for a task, in milliseconds.
    pub takes: u64,
    /// The first server that is to be built lacks parts.
    lacks_parts: bool,
    seen: BTreeMap<String, u64>,
    /// How many tasks were closed for each order.
    closed: BTreeMap<String, usize>,
    /// Since when, and after how many writes and calls, nothing has changed.
    quiet: Option<(u64, u64, usize)>,
    /// What was taken out of the address manager by hand.
    deleted: Vec<Value>,
}

impl People {
    pub fn new(script: Vec<(u64, Act)>, takes: u64, lacks_parts: bool) -> Self {
        let (seen, closed) = (BTreeMap::new(), BTreeMap::new());
        Self { script, calm: None, takes, lacks_parts, seen, closed, quiet: None, deleted: Vec::new() }
    }

    pub fn calm_since(&self) -> Option<u64> {
        self.calm
    }

    pub fn next(&self, now: u64) -> Option<u64> {
        let due = |(at, act): &(u64, Act)| if matches!(act, Act::Await(_)) { (*at).max(now + 1000) } else { (*at).max(now) };
        self.script.first().map(due)
    }

    pub fn act(&mut self, world: &World) {
        while let Some((at, act)) = self.script.first().cloned().filter(|(at, _)| *at <= now()) {
            if let Act::Await(most) = act {
                let settled = Self::unsettled(world).is_empty();
                if !settled && now() < at + most {
                    break;
                }
                if settled {
                    super::ending::look(world);
                }
            }
            self.script.remove(0);
            world.tell(&format!("   somebody: {}", described(&act)));
            self.changes(world, act);
        }
        collect_garbage(world);
        self.departments(world);
    }

    /// Somebody does something that was not planned for a time.
    pub fn at_once(&mut self, world: &World, act: Act) {
        world.tell(&format!("   somebody: {}", described(&act)));
        if !self.changes(world, act) {
            world.idle.store(true, Ordering::SeqCst);
        }
    }

    /// Whether what is done changes anything; what does is counted.
    fn changes(&mut self, world: &World, act: Act) -> bool {
        let name = act.name();
        let all = || (world.server(|s| s.version), matches!(name, "server" | "address").then(|| world.panels.state()));
        let before = all();
        self.perform(world, act);
        let changed = !["edit", "delete", "order", "server", "tasks", "address", "handler"].contains(&name) || all() != before;
        if changed {
            world.met(&format!("act-{name}"));
        }
        changed
    }

    fn perform(&mut self, world: &World, act: Act) {
        let key = |name: &str| (ORDERS, SHOP.to_owned(), name.to_owned());
        let merge = "application/merge-patch+json";
        let told = |what: super::apiserver::Answer| {
            if let Err(refusal) = what {
                world.tell(&format!("   (not so: {})", refusal.message));
            }
        };
        match act {
            Act::Order(object) => told(world.change(|s| s.create((ORDERS, SHOP.into(), String::new()), object, now()))),
            Act::Delete(name) => told(world.change(|s| s.delete(&key(&name), &Value::Null, now()))),
            Act::DeleteAll => {
                for name in names(world) {
                    told(world.change(|s| s.delete(&key(&name), &Value::Null, now())));
                }
            }
            Act::Await(_) => {}
            Act::AskAgain => {
                let patch = json!({"metadata": {"annotations": {RECONCILE_ANNOTATION: now().to_string()}}});
                for name in names(world) {
                    told(world.change(|s| s.patch(&key(&name), merge, &patch, false, now())));
                }
            }
            Act::Heal => {
                for server in view::servers(&world.panels.state()) {
                    let id = server.id().parse().unwrap_or(0);
                    let healed = json!({"panel": server.panel, "ipmi": "alive", "flags": {"hwproblem": false, "operation_failed": false}});
                    world.panels.change_server(id, healed).unwrap();
                }
                // An address that the order's server still has is its again, whoever got it meanwhile.
                let panels = world.panels.state();
                let kept = |entry: &Value| {
                    let mark = view::marks(view::text(&entry["note"]));
                    let has = |s: &view::Server<'_>| view::list(&s.state["ips"]).iter().any(|row| row["ip"] == entry["ip"]);
                    view::servers(&panels).iter().any(|s| has(s) && s.marks() == mark)
                };
                for entry in self.deleted.drain(..).filter(kept) {
                    world.panels.change_address(entry).unwrap();
                }
                let handlers: Vec<String> = world.server(|s| s.all(HANDLERS).map(name_of).collect());
                for name in handlers {
                    let patch = json!({"spec": {"suspend": false}});
                    told(world.change(|s| s.patch(&(HANDLERS, PROVIDER.into(), name), merge, &patch, false, now())));
                }
            }
            Act::Edit(name, patch) => told(world.change(|s| s.patch(&key(&name), merge, &patch, false, now()))),
            Act::Handler(name, patch) => {
                told(world.change(|s| s.patch(&(HANDLERS, PROVIDER.into(), name), merge, &json!({"spec": patch}), false, now())));
            }
            Act::Server(which, change) => {
                let id = match which {
                    Which::Of(name) => server_of(world, &name),
                    Which::Id(id) => Some(id),
                };
                if let Some(id) = id {
                    world.by_hand(id, &change);
                    let mut change = change;
                    change["panel"] = panel_of(id).into();
                    if let Err(error) = world.panels.change_server(id, change) {
                        world.tell(&format!("   (not so: {error})"));
                    }
                }
            }
            Act::LoseTasks => {
                let names: Vec<_> = world.server(|s| s.objects.keys().filter(|k| k.0 == TASKS).cloned().collect());
                for key in &names {
                    told(world.change(|s| s.delete(key, &Value::Null, now())));
                }
            }
            Act::Freeze(number, ms) => world.freeze(number, ms),
            Act::Clock(seconds) => super::determinism::step(seconds),
            Act::PanelDown(name, ms) => drop(world.adversary(|a| a.panel_down.insert(name, now() + ms))),
            Act::Address(name, gone) => {
                let order = world.server(|s| s.get(&key(&name)).ok()).unwrap_or_default();
                let ip = &order["status"]["server"]["mainAddress"];
                let change = if gone { json!({"ip": ip, "delete": true}) } else { json!({"ip": ip, "note": ""}) };
                if let Some(ip) = ip.as_str() {
                    world.address_by_hand(ip);
                }
                self.deleted.extend(entered(&world.panels.state(), ip).filter(|_| gone));
                if ip.is_string()
                    && let Err(error) = world.panels.change_address(change)
                {
                    world.tell(&format!("   (not so: {error})"));
                }
            }
            Act::Amiss(how, lists) => world.adversary(|a| a.amiss = std::iter::repeat_n(how, lists).collect()),
            Act::Alone => world.end_others(),
            Act::PanelsDown(ms) => world.adversary(|a| a.panels_down_until = now() + ms),
            Act::ApiDown(ms) => world.adversary(|a| a.api_down_until = now() + ms),
            Act::Calm => {
                world.adversary(super::adversary::Adversary::calm);
                world.calms();
                self.calm = Some(now());
            }
        }
    }

    /// The departments do what a task asks for, and close it.
    fn departments(&mut self, world: &World) {
        let open: Vec<Value> = world.server(|s| s.all(TASKS).filter(|t| t["spec"]["resolution"].is_null()).cloned().collect());
        for task in open {
            let uid = task["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let since = *self.seen.entry(uid).or_insert_with(now);
            if now() < since + self.takes {
                continue;
            }
            let name = task["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let order = task["spec"]["orderRef"]["name"].as_str().unwrap_or_default().to_owned();
            let resolution = match task["spec"]["type"].as_str() {
                // Whoever builds servers has what is asked for, or lacks parts; without a server there is nothing to build.
                Some("Assembly") => match server_of(world, &order) {
                    Some(_) if self.is_short_of_parts(world) => "PartsMissing",
                    Some(id) => {
                        let mut built = super::scenario::fitting();
                        built["panel"] = panel_of(id).into();
                        let _ = world.panels.change_server(id, built);
                        "Done"
                    }
                    None => "Cancelled",
                },
                Some("StopServer") if world.adversary(|a| a.chance(250)) => "Retry",
                Some("StopServer") => {
                    if let Some(id) = server_of(world, &order) {
                        let _ = world.panels.change_server(id, json!({"panel": panel_of(id), "power": "off", "ipmi": "alive"}));
                    }
                    "Done"
                }
                Some("FailedOperation") => {
                    let times = self.closed.entry(order.clone()).or_default();
                    *times += 1;
                    // What trying again does not cure is given up: the server where the order goes anyway, or the preparation.
                    let deleting = world
                        .server(|s| s.get(&(ORDERS, SHOP.to_owned(), order.clone())))
                        .is_ok_and(|o| o["metadata"]["deletionTimestamp"].is_string());
                    match (*times > 3, deleting) {
                        (false, _) => "Retry",
                        (true, true) => "Abandon",
                        (true, false) => "Cancelled",
                    }
                }
                _ => "Done",
            };
            world.tell(&format!("   a department closes {name} of {order}: {resolution}"));
            let patch = json!({"spec": {"resolution": resolution}});
            let _ = world.change(|s| s.patch(&(TASKS, PROVIDER.into(), name), "application/merge-patch+json", &patch, false, now()));
        }
    }

    /// Whoever builds servers lacks parts, now and then, and where the first one is to be so.
    fn is_short_of_parts(&mut self, world: &World) -> bool {
        let by_chance = world.adversary(|a| a.chance(300));
        std::mem::take(&mut self.lacks_parts) || by_chance
    }

    /// What is not as it should be in the end, once nothing goes wrong any more.
    pub fn unsettled(world: &World) -> Vec<String> {
        let orders: Vec<Value> = world.server(|s| s.all(ORDERS).cloned().collect());
        let mut found = super::rules::unsettled(world);
        let abandoned = world.abandoned();
        let ids: Vec<&str> = orders.iter().map(view::order_id).chain(abandoned.iter().map(String::as_str)).collect();
        // The leader's is not a lock.
        let left = |lease: &&Value| {
            name_of(lease) != "dci-operator" && lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !ids.contains(&holder))
        };
        let locks: Vec<String> = world.server(|s| s.all(LEASES).filter(left).map(name_of).collect());
        found.extend(locks.into_iter().map(|name| format!("lock {name} of an order that is gone")));
        found
    }

    /// Everything is settled, and nothing was written for this long. `None`: something is not settled.
    pub fn at_rest(&mut self, world: &World, rest: u64) -> Option<bool> {
        if !self.script.is_empty() || !Self::unsettled(world).is_empty() {
            self.quiet = None;
            return None;
        }
        let counts = world.counts();
        match self.quiet {
            Some((since, writes, calls)) if (writes, calls) == counts => Some(now() >= since + rest),
            Some(_) | None => {
                self.quiet = Some((now(), counts.0, counts.1));
                Some(false)
            }
        }
    }
}

fn described(act: &Act) -> String {
    match act {
        Act::Order(object) => format!("orders {}", object["metadata"]["name"].as_str().unwrap_or_default()),
        other => format!("{other:?}"),
    }
}

/// What belongs to an order that is gone goes with it, as the controllers of a cluster see to.
fn collect_garbage(world: &World) {
    let uids: Vec<Value> = world.server(|s| s.all(ORDERS).map(|o| o["metadata"]["uid"].clone()).collect());
    let orphan = |secret: &Value| {
        let owners = secret["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        !owners.is_empty() && owners.iter().all(|owner| !uids.contains(&owner["uid"]))
    };
    let orphans: Vec<String> = world.server(|s| s.all(SECRETS).filter(|secret| orphan(secret)).map(name_of).collect());
    for name in orphans {
        let _ = world.change(|s| s.delete(&(SECRETS, SHOP.to_owned(), name), &Value::Null, now()));
    }
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn names(world: &World) -> Vec<String> {
    world.server(|s| s.all(ORDERS).map(name_of).collect())
}

/// What the address manager has of an address.
fn entered(panels: &Value, ip: &Value) -> Option<Value> {
    let mut entry = view::list(&panels["panels"]["ipm"]["addresses"]).iter().find(|entry| entry["ip"] == *ip)?.clone();
    entry.as_object_mut()?.remove("family");
    Some(entry)
}

/// Ids of servers differ from panel to panel.
fn panel_of(server: u64) -> &'static str {
    if server < 100 { "dci" } else { "dci2" }
}

/// The server that an order has.
fn server_of(world: &World, order: &str) -> Option<u64> {
    let key = (ORDERS, SHOP.to_owned(), order.to_owned());
    world.server(|s| s.get(&key).ok()).and_then(|o| o["status"]["server"]["id"].as_str()?.parse().ok())
}

/// How each order ended, in one line.
pub fn ended(world: &World) -> String {
    let one = |order: &Value| {
        let stalled =
            kstatus::condition(order, "Stalled").map_or_else(String::new, |c| format!("({})", c["reason"].as_str().unwrap_or_default()));
        format!("{}={}{stalled}", name_of(order), order["status"]["phase"].as_str().unwrap_or("new"))
    };
    world.server(|s| s.all(ORDERS).map(one).collect::<Vec<_>>().join(" "))
}
