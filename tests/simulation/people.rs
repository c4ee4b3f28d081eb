//! Everybody else: clients who order, change and delete; people at the panel; who ends the faults.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use dci_operator::api::RECONCILE_ANNOTATION;
use serde_json::{Value, json};

use super::adversary::Amiss;
use super::apiserver::{HANDLERS, LEASES, ORDERS, SECRETS, TASKS};
use super::departments::Temper;
use super::determinism::now;
use super::invariants::view;
use super::kstatus;
use super::mischief::Mischief;
use super::world::{PROVIDER, SHOP, World};

/// How people change objects.
pub const MERGE: &str = "application/merge-patch+json";

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
    /// What is less usual.
    Also(Mischief),
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
            Self::Also(what) => what.name(),
        }
    }

    /// Somebody does behind the operator's back, or to its handler, what keeps an order from its end. Repairs do not.
    pub fn is_by_hand(&self) -> bool {
        match self {
            Self::Server(..) | Self::LoseTasks | Self::Address(..) | Self::Handler(..) => true,
            Self::Also(what) => what.is_by_hand(),
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
    pub(super) lacks_parts: bool,
    pub(super) seen: BTreeMap<String, u64>,
    /// How many tasks were closed for each order.
    pub(super) closed: BTreeMap<String, usize>,
    /// What departments answer before they do what they usually do.
    pub(super) temper: Temper,
    /// What somebody does later, and at what time.
    pub(super) later: Vec<(u64, Act)>,
    /// Everything is being put right: nobody waits for anything.
    pub(super) healing: bool,
    /// Since when nothing has changed.
    quiet: Option<Quiet>,
    /// What was taken out of the address manager by hand.
    deleted: Vec<Value>,
}

/// Nothing is written, and no change asked for, since then.
struct Quiet {
    since: u64,
    /// Writes and calls until then, and passes by kind.
    counts: (u64, usize),
    passes: [u64; 4],
}

/// When it is asked again whether an order that was restored is seen, in milliseconds.
const UNSEEN: u64 = 1000;

/// An order that was restored without its finalizer, and that the operator has not seen since.
fn is_unseen(order: &Value) -> bool {
    let finalizers = view::list(&order["metadata"]["finalizers"]);
    finalizers.is_empty() && view::order_id(order) != order["metadata"]["uid"]
}

impl People {
    pub fn new(script: Vec<(u64, Act)>, takes: u64, lacks_parts: bool) -> Self {
        Self {
            script,
            calm: None,
            takes,
            lacks_parts,
            seen: BTreeMap::new(),
            closed: BTreeMap::new(),
            temper: Temper::default(),
            later: Vec::new(),
            healing: false,
            quiet: None,
            deleted: Vec::new(),
        }
    }

    pub fn calm_since(&self) -> Option<u64> {
        self.calm
    }

    pub fn next(&self, now: u64) -> Option<u64> {
        let due = |(at, act): &(u64, Act)| if matches!(act, Act::Await(_)) { (*at).max(now + 1000) } else { (*at).max(now) };
        let later = self.later.iter().map(|(at, _)| (*at).max(now)).min();
        self.script.first().map(due).into_iter().chain(later).min()
    }

    /// Somebody does this so many milliseconds later, or when everything is put right.
    pub(super) fn put_off(&mut self, after: u64, act: Act) {
        self.later.push((now() + after, act));
    }

    /// What was put off until now, in order.
    fn due(&mut self) -> Option<Act> {
        let due = self.later.iter().enumerate().filter(|(_, (at, _))| *at <= now());
        let place = due.min_by_key(|(_, (at, _))| *at)?.0;
        Some(self.later.remove(place).1)
    }

    /// Nothing is put off any longer, and what cannot be done now is left.
    fn put_back(&mut self, world: &World) {
        self.healing = true;
        while !self.later.is_empty() {
            let mut acts = std::mem::take(&mut self.later);
            // What belongs to an order comes after the order, and that after the handler that its server is at.
            acts.sort_by_key(|(at, act)| match act {
                Act::Also(what) => (!what.makes_a_handler(), what.has_an_owner(), *at),
                _ => (true, false, *at),
            });
            for (_, act) in acts {
                self.somebody(world, act);
            }
        }
        self.healing = false;
    }

    pub fn act(&mut self, world: &World) {
        while let Some(act) = self.due() {
            self.somebody(world, act);
        }
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
            self.somebody(world, act);
        }
        collect_garbage(world);
        self.departments(world);
    }

    /// Somebody does something that was not planned for a time.
    pub fn at_once(&mut self, world: &World, act: Act) {
        if !self.somebody(world, act) {
            world.idle.store(true, Ordering::SeqCst);
        }
    }

    /// Somebody does something; whether it changes anything.
    pub(super) fn somebody(&mut self, world: &World, act: Act) -> bool {
        world.tell(&format!("   somebody: {}", described(&act)));
        self.changes(world, act)
    }

    /// Whether what is done changes anything; what does is counted.
    fn changes(&mut self, world: &World, act: Act) -> bool {
        if let Act::Also(what) = act {
            return self.mischief(world, what);
        }
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

    fn deletes(&mut self, world: &World, name: String) {
        let key = (ORDERS, SHOP.to_owned(), name);
        if world.server(|s| s.get(&key)).is_ok_and(|order| is_unseen(&order)) {
            // Nobody knows yet that it was restored: it would go without a word, and its server stay.
            if !self.healing {
                self.put_off(UNSEEN, Act::Delete(key.2));
            }
            return;
        }
        if let Err(refusal) = world.change(|s| s.delete(&key, &Value::Null, now())) {
            world.tell(&format!("   (not so: {})", refusal.message));
        }
    }

    fn perform(&mut self, world: &World, act: Act) {
        let key = |name: &str| (ORDERS, SHOP.to_owned(), name.to_owned());
        let told = |what: super::apiserver::Answer| {
            if let Err(refusal) = what {
                world.tell(&format!("   (not so: {})", refusal.message));
            }
        };
        match act {
            Act::Order(object) => told(world.change(|s| s.create((ORDERS, SHOP.into(), String::new()), object, now()))),
            Act::Delete(name) => self.deletes(world, name),
            Act::DeleteAll => {
                for name in names(world) {
                    told(world.change(|s| s.delete(&key(&name), &Value::Null, now())));
                }
            }
            Act::Await(_) => {}
            Act::AskAgain => {
                let patch = json!({"metadata": {"annotations": {RECONCILE_ANNOTATION: now().to_string()}}});
                for name in names(world) {
                    told(world.change(|s| s.patch(&key(&name), MERGE, &patch, false, now())));
                }
            }
            Act::Heal => {
                self.put_back(world);
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
                    told(world.change(|s| s.patch(&(HANDLERS, PROVIDER.into(), name), MERGE, &patch, false, now())));
                }
            }
            Act::Edit(name, patch) => told(world.change(|s| s.patch(&key(&name), MERGE, &patch, false, now()))),
            Act::Handler(name, patch) => {
                told(world.change(|s| s.patch(&(HANDLERS, PROVIDER.into(), name), MERGE, &json!({"spec": patch}), false, now())));
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
            // Counted by itself.
            Act::Also(what) => {
                self.mischief(world, what);
            }
        }
    }

    /// What is not as it should be in the end, once nothing goes wrong any more.
    pub fn unsettled(world: &World) -> Vec<String> {
        let orders: Vec<Value> = world.server(|s| s.all(ORDERS).cloned().collect());
        let mut found = super::rules::unsettled(world);
        let abandoned = world.abandoned();
        let ids: Vec<&str> = orders.iter().map(view::order_id).chain(abandoned.iter().map(String::as_str)).collect();
        // A server that carries the marker of an order that is gone keeps its lock; whether it may carry it is judged by another rule.
        let panels = world.panels.state();
        let nobodys = |holder: &str| !ids.contains(&holder) && view::left(&panels, holder).is_empty();
        // The leader's is not a lock.
        let left = |lease: &&Value| name_of(lease) != "dci-operator" && lease["spec"]["holderIdentity"].as_str().is_some_and(nobodys);
        let locks: Vec<String> = world.server(|s| s.all(LEASES).filter(left).map(name_of).collect());
        found.extend(locks.into_iter().map(|name| format!("lock {name} of an order that is gone")));
        found
    }

    /// Everything is settled, and nothing was written for this long. `None`: something is not settled.
    pub fn at_rest(&mut self, world: &World, rest: u64) -> Option<bool> {
        if !self.script.is_empty() || !self.later.is_empty() || !Self::unsettled(world).is_empty() {
            self.quiet = None;
            return None;
        }
        let counts = world.counts();
        if let Some(quiet) = self.quiet.as_ref().filter(|quiet| quiet.counts == counts) {
            let span = now() - quiet.since;
            if span >= rest {
                super::ending::rested(world, span, quiet.passes);
            }
            return Some(span >= rest);
        }
        self.quiet = Some(Quiet { since: now(), counts, passes: world.passes_by_kind() });
        Some(false)
    }
}

fn described(act: &Act) -> String {
    match act {
        Act::Order(object) => format!("orders {}", object["metadata"]["name"].as_str().unwrap_or_default()),
        Act::Also(what) => what.described(),
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

pub(super) fn name_of(object: &Value) -> String {
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
pub(super) fn panel_of(server: u64) -> &'static str {
    if server < 100 { "dci" } else { "dci2" }
}

/// The server that an order has.
pub(super) fn server_of(world: &World, order: &str) -> Option<u64> {
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
