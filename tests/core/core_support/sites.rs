//! Several handlers in one world: each with a panel of its own, some with a common address manager, and the shell's way of choosing
//! among them (`controller/selection`). The fields of the world are those of the handler at which a pass is made.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::swap;
use std::net::IpAddr;
use std::sync::Arc;

use dci_operator::api::common::ObjectKey;
use dci_operator::api::handler::HandlerSpec;
use dci_operator::api::order::OrderStatus;
use dci_operator::panel::model::{FREE_DOMAIN, PoolAddress};
use dci_operator::provisioning::decide::{Decision, decide};
use dci_operator::provisioning::facts::{Facts, HandlerState, Inventory};
use dci_operator::provisioning::marker::Marker;
use dci_operator::provisioning::order::{Handler, Order};
use dci_operator::provisioning::round;
use dci_operator::provisioning::selection::{self, Candidate, PassedOver};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::panel::{ADMIN, Panel};
use super::pool::parked;
use super::world::{CLUSTER, Ended, World, handler};
use super::{later, seconds};

/// A handler with its panel, as long as no pass is made at it.
pub struct Site {
    pub priority: i32,
    pub pool: ObjectKey,
    pub handler: Handler,
    pub state: HandlerState,
    pub panel: Panel,
    pub allowed: bool,
    pub inventory: Option<Arc<Inventory>>,
    index: BTreeMap<String, (String, String, Vec<Marker>)>,
    changed: BTreeMap<String, Timestamp>,
    pub locks: BTreeMap<String, String>,
    next_list: Timestamp,
}

/// The addresses of an address manager, as long as no panel uses them.
#[derive(Default)]
pub struct Pool {
    pub free: BTreeMap<String, Vec<IpAddr>>,
    pub used: Vec<PoolAddress>,
}

/// All handlers, and what a pass at one of them has to know of the others.
#[derive(Default)]
pub struct Sites {
    pub all: Vec<Site>,
    pub pools: BTreeMap<String, Pool>,
    at: Option<usize>,
    /// The handlers that were passed over before, where the order is not bound to one yet.
    pub selecting: Option<Vec<PassedOver>>,
    /// No other one is tried after this one.
    pub last: bool,
    pub another: bool,
    /// Why the pass ended with [`Ended::Over`].
    pub over: Option<PassedOver>,
    /// The status that a pass begins with, where that is not the stored one.
    pub begun: Option<OrderStatus>,
    /// The status of an order of which nothing is at a handler, and which others are looked at for.
    pub left: Option<OrderStatus>,
}

impl Site {
    /// Nothing is known of the panel before that.
    pub fn hold_back(&mut self, until: Timestamp) {
        self.next_list = until;
    }

    fn candidate(&self) -> Candidate<'_> {
        // Before its first list nothing is known of a panel.
        let known = self.inventory.is_some();
        Candidate {
            key: &self.handler.key,
            priority: self.priority,
            pool: known.then_some(&self.pool),
            allowed: self.allowed,
            going: false,
            state: &self.state,
            policy: known.then_some(&self.handler),
            login: if known { ADMIN } else { "" },
            inventory: self.inventory.as_deref(),
        }
    }
}

impl World {
    /// A world of several handlers, none yet.
    pub fn of_sites() -> Self {
        Self::new(Panel::new(0, 0), handler(|_| ()))
    }

    /// Adds a handler with that many servers, which takes addresses from the manager `pool`.
    pub fn add_site(&mut self, name: &str, priority: i32, pool: &str, servers: usize, change: impl FnOnce(&mut Panel, &mut Value)) {
        let number = self.sites.all.len();
        let mut panel = Panel::new(servers, 6);
        let mut spec = json!({
            "module": "DCImanager5", "priority": priority,
            "connection": {"url": format!("https://{name}.example.net:1500/dcimgr"), "credentialsSecretRef": {"name": "dci"}},
            "ipManagement": {"ipManagerRef": {"name": pool}, "publicIPType": "public", "parkingIPType": "parking"},
            "departments": {"operations": {"name": "Operations"}, "assembly": {"name": "A"}, "procurement": {"name": "P"}},
            "retry": {"interval": "5m", "maxAttempts": 3},
        });
        change(&mut panel, &mut spec);
        // Servers of different panels have the same ids, and never the same addresses.
        panel.used.clear();
        for (id, server) in &mut panel.servers {
            let parking: IpAddr = format!("10.0.{}.{id}", 10 + number).parse().unwrap();
            server.main = parking;
            server.rows[0].address = parking;
            panel.used.push(parked(parking));
        }
        let common = self.sites.pools.entry(pool.into()).or_default();
        common.used.append(&mut panel.used);
        let free = std::mem::take(&mut panel.free);
        if common.free.is_empty() {
            common.free = free;
        }
        let spec: HandlerSpec = serde_json::from_value(spec).unwrap();
        let key = ObjectKey { namespace: "hosting".into(), name: name.into() };
        self.sites.all.push(Site {
            priority,
            pool: ObjectKey { namespace: "hosting".into(), name: pool.into() },
            handler: Handler::new(key, &spec, format!("{name}.example.net:1500/dcimgr")),
            state: HandlerState::Ready,
            panel,
            allowed: true,
            inventory: None,
            index: BTreeMap::new(),
            changed: BTreeMap::new(),
            locks: BTreeMap::new(),
            next_list: self.now,
        });
    }

    /// Every panel of the world.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        std::iter::once(&self.panel).chain(self.sites.all.iter().map(|s| &s.panel))
    }

    /// The fields of the world become those of the handler, or the other way round.
    fn exchange(&mut self, number: usize) {
        let site = &mut self.sites.all[number];
        let pool = self.sites.pools.get_mut(&site.pool.name).unwrap();
        swap(&mut self.panel, &mut site.panel);
        // The licence server is one for all.
        swap(&mut self.panel.licenses, &mut site.panel.licenses);
        swap(&mut self.handler, &mut site.handler);
        swap(&mut self.state, &mut site.state);
        swap(&mut self.inventory, &mut site.inventory);
        swap(&mut self.index, &mut site.index);
        swap(&mut self.changed, &mut site.changed);
        swap(&mut self.locks, &mut site.locks);
        swap(&mut self.next_list, &mut site.next_list);
        let panel = if self.sites.at == Some(number) { &mut site.panel } else { &mut self.panel };
        swap(&mut panel.free, &mut pool.free);
        swap(&mut panel.used, &mut pool.used);
        self.sites.at = if self.sites.at == Some(number) { None } else { Some(number) };
    }

    /// Does something at a handler.
    pub fn at_site<T>(&mut self, number: usize, what: impl FnOnce(&mut Self) -> T) -> T {
        self.exchange(number);
        let result = what(self);
        self.exchange(number);
        result
    }

    /// Lets time pass at all panels, whichever is at hand.
    pub fn advance_panels(&mut self) {
        let now = self.now;
        let at = self.sites.at;
        if let Some(number) = at {
            self.exchange(number);
        }
        self.panel.advance(now);
        for number in 0..self.sites.all.len() {
            self.at_site(number, |world| world.panel.advance(now));
        }
        if let Some(number) = at {
            self.exchange(number);
        }
    }

    /// What the process knows of the handlers is lost; they are asked again one after the other.
    pub fn forget_sites(&mut self) {
        let now = self.now;
        for (site, wait) in self.sites.all.iter_mut().zip([1, 8, 4, 2]) {
            (site.inventory, site.next_list) = (None, later(now, seconds(wait)));
            site.index.clear();
            site.changed.clear();
        }
    }

    /// Time passes until something is due; then the due lists are read and the due passes are made.
    pub fn step_sites(&mut self) {
        let awake = |world: &Self| world.sites.all.iter().any(|s| s.inventory.is_some() || matches!(s.state, HandlerState::NotReady(_)));
        let wakes = self.orders.values().filter_map(|o| o.wake).filter(|_| awake(self));
        let due = wakes.chain(self.sites.all.iter().map(|s| s.next_list)).min().unwrap();
        self.now = self.now.max(due);
        self.advance_panels();
        let mut listed = false;
        for number in 0..self.sites.all.len() {
            if self.now < self.sites.all[number].next_list {
                continue;
            }
            listed = true;
            self.at_site(number, |world| {
                if matches!(world.state, HandlerState::Ready | HandlerState::Suspended) {
                    world.list();
                }
                world.next_list = later(world.now, world.handler.poll);
            });
        }
        for name in self.orders.keys().cloned().collect::<Vec<_>>() {
            let woken = self.orders.get(&name).is_some_and(|o| o.wake.is_some_and(|at| at <= self.now));
            if (listed || woken) && awake(self) {
                self.route(&name);
            }
        }
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        self.sites.all.iter().map(Site::candidate).collect()
    }

    fn number_of(&self, key: &ObjectKey) -> usize {
        self.sites.all.iter().position(|s| s.handler.key == *key).expect("a handler of this world")
    }

    /// A pass over an order, at the handler that serves it, or at each that it may select until one takes it.
    fn route(&mut self, name: &str) -> Ended {
        let stored = &self.orders[name];
        let mut raw = stored.raw.clone();
        raw.status = Some(stored.status.clone());
        let status = raw.status.clone().unwrap();
        let deleting = raw.metadata.deletion_timestamp.is_some();
        let parsed = if deleting { Order::for_closing(&raw, CLUSTER) } else { Order::parse(&raw, CLUSTER) }.expect("a good order");
        let recorded = status.server.as_ref().map(|s| s.handler.clone());
        let recorded = recorded.or_else(|| status.in_flight.as_ref().and_then(|f| f.handler.clone()));
        let Some(key) = recorded else { return self.select(name, &parsed, deleting) };
        let (namespace, at) = key.split_once('/').unwrap();
        let number = self.number_of(&ObjectKey { namespace: namespace.into(), name: at.into() });
        self.sites.another =
            status.server.as_ref().is_some_and(|s| s.handed_over_at.is_none()) && selection::another(&parsed, &status, &self.candidates());
        if round::is_under_way(&parsed, &status) { self.pass_of_a_round(name, number, &parsed) } else { self.bound_pass(name, number) }
    }

    /// A pass at the handler that a call leads to: the others are looked at before the order goes.
    fn pass_of_a_round(&mut self, name: &str, number: usize, parsed: &Order) -> Ended {
        if self.sites.all[number].inventory.is_none() && self.sites.all[number].state == HandlerState::Ready {
            return self.not_ready(name, number);
        }
        let ended = self.selecting_pass(name, number, Vec::new(), false);
        let (Ended::Forgotten, Some(left)) = (ended, self.sites.left.take()) else { return ended };
        if round::given_up(&left).is_some() {
            return self.forget_everywhere(name, parsed);
        }
        let ended = if left.in_flight.is_none() { Ended::Waited } else { self.store(name, &OrderStatus { in_flight: None, ..left }) };
        if let (Ended::Waited, Some(stored)) = (ended, self.orders.get_mut(name)) {
            stored.wake = Some(self.now);
        }
        ended
    }

    /// A pass at the one handler that serves an order.
    fn bound_pass(&mut self, name: &str, number: usize) -> Ended {
        if self.sites.all[number].inventory.is_none() && self.sites.all[number].state == HandlerState::Ready {
            // Not asked yet: the order only says that it waits.
            return self.not_ready(name, number);
        }
        self.sites.selecting = None;
        self.at_site(number, |world| world.pass(name))
    }

    /// As the shell does it before a handler has a client.
    fn not_ready(&mut self, name: &str, number: usize) -> Ended {
        let stored = self.orders.get_mut(name).unwrap();
        stored.wake = None;
        let (mut raw, status, mut version) = (stored.raw.clone(), stored.status.clone(), stored.version);
        raw.status = Some(status.clone());
        if raw.metadata.deletion_timestamp.is_some() {
            return Ended::Waited;
        }
        let order = Order::parse(&raw, CLUSTER).unwrap();
        let mut policy = Handler::placeholder();
        policy.key = self.sites.all[number].handler.key.clone();
        let facts = Facts::new(HandlerState::NotReady("not probed yet".into()), "op".into());
        let Decision { status, .. } = decide(&order, &policy, &facts, self.now, &status);
        self.save(name, &mut version, &status).err().unwrap_or(Ended::Waited)
    }

    /// One pass at each handler that the order may select, in order, until one takes it.
    fn select(&mut self, name: &str, parsed: &Order, deleting: bool) -> Ended {
        let mut status = self.orders[name].status.clone();
        let restored = selection::may_have_been_restored(parsed);
        let own = |c: &Candidate<'_>| selection::has_own(parsed, &status, c);
        let other = |c: &Candidate<'_>| !deleting && selection::found(parsed, &status, c);
        let marked = {
            let candidates = self.candidates();
            candidates.iter().position(own).or_else(|| candidates.iter().position(other))
        };
        if let Some(number) = marked {
            return self.bound_pass(name, number);
        }
        if restored && !self.candidates().iter().all(|c| selection::looked_through(parsed, c)) {
            let new = selection::not_looked_through(parsed, self.now, &status);
            return self.store(name, &new);
        }
        if deleting {
            let mut row: Vec<usize> =
                selection::closed_at(parsed, &status, &self.candidates()).into_iter().map(|key| self.number_of(key)).collect();
            if row.is_empty() && !status.licenses.is_empty() {
                let new = selection::keeps_licenses(parsed, "hosting", self.now, &status);
                return self.store(name, &new);
            }
            row.sort_by_key(|number| status.handler.as_ref() != Some(&self.sites.all[*number].handler.key.to_string()));
            for (at, number) in row.iter().enumerate() {
                round::close_at(parsed, &mut status, &self.sites.all[*number].handler.key.to_string());
                self.sites.begun = Some(status);
                match (self.selecting_pass(name, *number, Vec::new(), at + 1 == row.len()), self.sites.left.take()) {
                    (Ended::Forgotten, Some(left)) => status = left,
                    (ended, _) => return ended,
                }
                if round::given_up(&status).is_some() {
                    break;
                }
            }
            return self.forget_everywhere(name, parsed);
        }
        let mut row: Vec<Candidate<'_>> = self.candidates().into_iter().filter(|c| c.allowed).collect();
        selection::sort(&mut row, &status);
        let order: Vec<(usize, Option<PassedOver>)> =
            row.iter().map(|c| (self.number_of(c.key), selection::passes_over(parsed, &status, c))).collect();
        let mut passed: Vec<PassedOver> = Vec::new();
        for (number, over) in &order {
            if let Some(over) = over {
                passed.push(over.clone());
                continue;
            }
            match self.selecting_pass(name, *number, passed.clone(), false) {
                Ended::Over => passed.push(self.sites.over.take().unwrap()),
                Ended::Forgotten => return self.forget_everywhere(name, parsed),
                other => return other,
            }
        }
        let row: Vec<Candidate<'_>> = order
            .iter()
            .map(|(number, _)| self.candidates().into_iter().find(|c| *c.key == self.sites.all[*number].handler.key).unwrap())
            .collect();
        if let Some(number) = selection::builds(parsed, &status, &row, &passed).map(|key| self.number_of(key)) {
            return self.selecting_pass(name, number, passed, true);
        }
        let new = selection::exhausted(parsed, &passed, self.now, &status);
        self.store(name, &new)
    }

    fn selecting_pass(&mut self, name: &str, number: usize, passed: Vec<PassedOver>, last: bool) -> Ended {
        let before = self.orders[name].restarted;
        (self.sites.selecting, self.sites.last, self.sites.another) = (Some(passed), last, false);
        let ended = self.at_site(number, |world| world.pass(name));
        self.sites.selecting = None;
        if let (Ended::Over, Some(stored)) = (ended, self.orders.get_mut(name)) {
            // Each handler takes its own first look.
            stored.restarted = before;
        }
        ended
    }

    fn store(&mut self, name: &str, status: &dci_operator::api::order::OrderStatus) -> Ended {
        let stored = self.orders.get_mut(name).unwrap();
        stored.wake = None;
        let mut version = stored.version;
        self.save(name, &mut version, status).err().unwrap_or(Ended::Waited)
    }

    fn forget_everywhere(&mut self, name: &str, parsed: &Order) -> Ended {
        let ended = self.forget(name, parsed);
        if ended == Ended::Forgotten {
            self.sites.all.iter_mut().for_each(|s| s.locks.retain(|_, holder| *holder != parsed.order_id));
        }
        ended
    }

    /// The handlers at which a server carries our marker, by number.
    pub fn marked_at(&self) -> BTreeSet<usize> {
        let ours = |s: &Site| s.panel.servers.values().any(|s| s.notes.contains("k8s:"));
        (0..self.sites.all.len()).filter(|n| ours(&self.sites.all[*n])).collect()
    }

    /// All servers of all panels but these are free, and every address manager has what is not on a server.
    pub fn assert_sites_clean(&self, but: &BTreeSet<usize>) {
        for (number, site) in self.sites.all.iter().enumerate().filter(|(number, _)| !but.contains(number)) {
            for (id, server) in &site.panel.servers {
                let rows: Vec<&str> = server.rows.iter().map(|r| r.domain.as_str()).collect();
                let tell = |what: &str| format!("server {id} of handler {number} {what}\n{}", self.describe());
                assert!(server.owner.is_none() && server.notes.is_empty(), "{}", tell("is not free"));
                assert!(server.operation.is_none(), "{}", tell("is at work"));
                assert!(!server.on || self.may_stay_on, "{}", tell("is on"));
                assert_eq!(rows, [FREE_DOMAIN], "{}", tell("keeps addresses or domains"));
            }
            assert!(site.locks.is_empty(), "locks at handler {number}\n{}", self.describe());
        }
        for (name, pool) in &self.sites.pools {
            let sites = || self.sites.all.iter().filter(|s| s.pool.name == *name).map(|s| &s.panel);
            let on: BTreeSet<IpAddr> = sites().flat_map(|p| p.servers.values().flat_map(|s| s.rows.iter().map(|r| r.address))).collect();
            let used: BTreeSet<IpAddr> = pool.used.iter().map(|u| u.address).collect();
            assert!(on.is_subset(&used), "{name}: an address is on a server and free\n{}", self.describe());
            let left: Vec<&PoolAddress> = pool.used.iter().filter(|u| !on.contains(&u.address)).collect();
            // One that was not taken back yet carries the order's note as long as there is an order that asks for it again.
            let asked_again = |u: &&PoolAddress| u.group == "parking" && !u.note.is_empty() && !self.orders.is_empty();
            assert!(left.iter().all(asked_again), "{name}: {left:?} leak\n{}", self.describe());
        }
    }
}
