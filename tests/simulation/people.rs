//! Everybody else: clients who order, change and delete; people at the panel and in the departments; who ends the faults.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::apiserver::{HANDLERS, ORDERS, TASKS};
use super::determinism::now;
use super::kstatus;
use super::world::{PROVIDER, SHOP, World};

/// What somebody does at a moment.
#[derive(Clone, Debug)]
pub enum Act {
    /// Creates an order; the object as a client writes it.
    Order(Value),
    Delete(&'static str),
    DeleteNamed(String),
    /// Patches an order's spec.
    Edit(String, Value),
    /// Patches a handler's spec.
    Handler(String, Value),
    /// Changes a server behind the panel: the one that this order has, or with this id.
    Server(Which, Value),
    /// Deletes every task of an order's.
    LoseTasks,
    PanelsDown(u64),
    ApiDown(u64),
    /// Nothing goes wrong from now on.
    Calm,
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
    seen: BTreeMap<String, u64>,
    /// Servers whose records somebody changed by hand.
    quiet: Option<(u64, u64, usize)>,
}

impl People {
    pub fn new(mut script: Vec<(u64, Act)>, takes: u64) -> Self {
        script.sort_by_key(|(at, _)| *at);
        Self { script, calm: None, takes, seen: BTreeMap::new(), quiet: None }
    }

    pub fn calm_since(&self) -> Option<u64> {
        self.calm
    }

    pub fn next(&self, now: u64) -> Option<u64> {
        self.script.first().map(|(at, _)| (*at).max(now))
    }

    pub fn act(&mut self, world: &World) {
        while self.script.first().is_some_and(|(at, _)| *at <= now()) {
            let (_, act) = self.script.remove(0);
            world.tell(&format!("   somebody: {}", described(&act)));
            self.perform(world, act);
        }
        self.departments(world);
    }

    fn perform(&mut self, world: &World, act: Act) {
        let key = |name: &str| (ORDERS, SHOP.to_owned(), name.to_owned());
        let merge = "application/merge-patch+json";
        let told = |what: Result<Value, super::apiserver::Refusal>| {
            if let Err(refusal) = what {
                world.tell(&format!("   (not so: {})", refusal.message));
            }
        };
        match act {
            Act::Order(object) => told(world.change(|s| s.create((ORDERS, SHOP.into(), String::new()), object, now()))),
            Act::Delete(name) => told(world.change(|s| s.delete(&key(name), &Value::Null, now()))),
            Act::DeleteNamed(name) => told(world.change(|s| s.delete(&key(&name), &Value::Null, now()))),
            Act::Edit(name, patch) => told(world.change(|s| s.patch(&key(&name), merge, &patch, false, now()))),
            Act::Handler(name, patch) => {
                told(world.change(|s| s.patch(&(HANDLERS, PROVIDER.into(), name), merge, &json!({"spec": patch}), false, now())));
            }
            Act::Server(which, change) => {
                let id = match which {
                    Which::Id(id) => Some(id),
                    Which::Of(name) => world.server(|s| s.get(&key(&name)).ok()).and_then(|o| o["status"]["server"]["id"].as_str()?.parse().ok()),
                };
                if let Some(id) = id {
                    world.by_hand(id);
                    if let Err(error) = world.panels.change_server(id, change) {
                        world.tell(&format!("   (not so: {error})"));
                    }
                }
            }
            Act::LoseTasks => {
                let names: Vec<_> = world.server(|s| s.objects.keys().filter(|k| k.0 == TASKS).cloned().collect());
                names.iter().for_each(|key| told(world.change(|s| s.delete(key, &Value::Null, now()))));
            }
            Act::PanelsDown(ms) => world.adversary(|a| a.panels_down_until = now() + ms),
            Act::ApiDown(ms) => world.adversary(|a| a.api_down_until = now() + ms),
            Act::Calm => {
                world.adversary(super::adversary::Adversary::calm);
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
                Some("StopServer") => {
                    let key = (ORDERS, SHOP.to_owned(), order.clone());
                    let id = world.server(|s| s.get(&key).ok()).and_then(|o| o["status"]["server"]["id"].as_str()?.parse().ok());
                    if let Some(id) = id {
                        let _ = world.panels.change_server(id, json!({"power": "off", "ipmi": "alive"}));
                    }
                    "Done"
                }
                Some("FailedOperation") => "Retry",
                _ => "Done",
            };
            world.tell(&format!("   a department closes {name} of {order}: {resolution}"));
            let patch = json!({"spec": {"resolution": resolution}});
            let _ = world.change(|s| s.patch(&(TASKS, PROVIDER.into(), name), "application/merge-patch+json", &patch, false, now()));
        }
    }

    /// What is not as it should be in the end, once nothing goes wrong any more.
    pub fn unsettled(&self, world: &World) -> Vec<String> {
        let orders: Vec<Value> = world.server(|s| s.all(ORDERS).cloned().collect());
        orders.iter().filter_map(|order| unsettled(order, world)).collect()
    }

    /// Everything is settled, and nothing was written for this long. `None`: something is not settled.
    pub fn at_rest(&mut self, world: &World, rest: u64) -> Option<bool> {
        if !self.script.is_empty() || !self.unsettled(world).is_empty() {
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

/// Why an order is not in a state that it may stay in.
fn unsettled(order: &Value, world: &World) -> Option<String> {
    let name = order["metadata"]["name"].as_str().unwrap_or_default();
    let status = &order["status"];
    let phase = status["phase"].as_str().unwrap_or("new");
    let deleting = !order["metadata"]["deletionTimestamp"].is_null();
    let current = status["observedGeneration"] == order["metadata"]["generation"];
    let reason = |type_: &str| kstatus::condition(order, type_).and_then(|c| c["reason"].as_str()).unwrap_or_default().to_owned();
    let cure = kstatus::condition(order, "Stalled").and_then(|c| c["message"].as_str()).is_some_and(|m| !m.is_empty());
    let wanted = order["spec"]["configuration"]["serverType"].as_str().unwrap_or_default();
    let settled = match (phase, kstatus::is_true(order, "Stalled")) {
        (_, true) => cure,
        ("Active" | "Suspended", false) => !deleting && kstatus::is_true(order, "Ready"),
        (_, false) => !deleting && reason("Reconciling") == "WaitingForCapacity" && !world.free().iter().any(|type_| type_ == wanted),
    };
    if settled && current {
        return None;
    }
    Some(format!("order {name} is {phase}{}: Ready {} ({}), {}", if deleting { ", deleting" } else { "" },
        kstatus::is_true(order, "Ready"), reason("Ready"), kstatus::condition(order, "Ready").map_or("", |c| c["message"].as_str().unwrap_or_default())))
}

fn described(act: &Act) -> String {
    match act {
        Act::Order(object) => format!("orders {}", object["metadata"]["name"].as_str().unwrap_or_default()),
        Act::Delete(_) | Act::DeleteNamed(_) | Act::Edit(..) | Act::Handler(..) | Act::Server(..) | Act::LoseTasks | Act::PanelsDown(_) | Act::ApiDown(_) | Act::Calm => format!("{act:?}"),
    }
}
