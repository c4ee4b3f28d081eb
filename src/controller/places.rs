//! Places at a handler: who may be at work there at once, who waits, in order of creation, and how many orders a namespace has.
//!
//! An order that waits for a person (a task, a changed spec) or for its licence server has no place: nothing of it runs at the panel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::DedicatedServerOrder;
use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::order::OrderStatus;
use crate::provisioning::capacity;
use crate::provisioning::context::after;
use crate::provisioning::facts::Facts;
use crate::provisioning::order::selector;
use crate::provisioning::reason::Reason;
use crate::provisioning::selection::PassedOver;
use crate::provisioning::step::{State, Step};

use super::context::serving_handler;
use super::order::Pass;
use super::runtime::ServerClient;

/// An order that has not asked again for so long does not keep others waiting.
const STALE: Duration = Duration::from_mins(10);

/// How soon an order asks again for a place that is free in a moment, should nobody wake it.
const MOMENT: Duration = Duration::from_secs(5);

/// How long a call keeps the place of an order that stalls. One that is refused is not looked at: nothing would ever take its intent away.
const HELD: Duration = Duration::from_hours(2);

/// When an order asks again that so many come before. Whoever leaves wakes the next one: those far behind need not ask often, and each
/// time costs a look at all orders.
#[must_use]
fn turn(before: usize) -> Duration {
    let rounds = u32::try_from(before / 20).unwrap_or(u32::MAX).saturating_add(1);
    MOMENT.saturating_mul(rounds).min(Duration::from_mins(1))
}

/// Who asks for a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// When the order was created: the oldest comes first.
    pub created: Timestamp,
    /// Uid.
    pub uid: String,
    /// Namespace and name.
    pub key: ObjectKey,
}

/// What an order that asks for a place is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has one.
    Taken,
    /// Those at work, and so many that asked before, have all of them.
    Full(usize),
    /// One is free but for orders that are being looked at, or were woken for it: whoever leaves wakes the next one.
    Momentarily(usize),
}

/// What an order does that has asked for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is decided upon, with the place or without.
    Decide,
    /// It asks again, after this time at the latest: there is a place in a moment, for which it is woken, and nothing that it says of
    /// itself is to change meanwhile.
    Again(Duration),
}

/// Places of one kind.
#[derive(Debug, Default)]
struct Lane {
    inside: BTreeSet<String>,
    waiting: BTreeMap<Ticket, Instant>,
    /// Those that gave their place back, for as long as their statuses in the cache do not show it.
    left: BTreeSet<String>,
}

impl Lane {
    /// Takes (or keeps) a place. `begun`: orders that are at work by their status, whatever this process remembers.
    fn enter(&mut self, ticket: &Ticket, begun: &BTreeSet<String>, max: usize, now: Instant) -> Place {
        self.waiting.retain(|_, asked| now.duration_since(*asked) < STALE);
        self.left.retain(|uid| begun.contains(uid) && *uid != ticket.uid);
        if max == 0 || self.inside.contains(&ticket.uid) || begun.contains(&ticket.uid) {
            self.waiting.retain(|t, _| t.uid != ticket.uid);
            self.inside.insert(ticket.uid.clone());
            return Place::Taken;
        }
        let before = self.waiting.keys().filter(|t| *t < ticket).count();
        let taken = self.inside.union(begun).filter(|uid| !self.left.contains(*uid)).count();
        if taken + before < max {
            self.waiting.retain(|t, _| t.uid != ticket.uid);
            self.inside.insert(ticket.uid.clone());
            return Place::Taken;
        }
        self.waiting.insert(ticket.clone(), now);
        let at_work = begun.iter().filter(|uid| !self.left.contains(*uid)).count();
        if at_work < max { Place::Momentarily(before) } else { Place::Full(before) }
    }

    /// Takes the places of orders that are gone: a pass that began with an old copy of one may have asked for it once more.
    fn keep(&mut self, there: &BTreeSet<String>) {
        self.inside.retain(|uid| there.contains(uid));
        self.waiting.retain(|ticket, _| there.contains(&ticket.uid));
    }

    /// Gives a place back; whoever waits longest may ask again. So may the next one where that goes which a place was kept for.
    fn leave(&mut self, uid: &str) -> Option<ObjectKey> {
        let was_next = self.waiting.keys().next().is_some_and(|t| t.uid == uid);
        self.waiting.retain(|t, _| t.uid != uid);
        if self.inside.remove(uid) {
            self.left.insert(uid.to_owned());
        } else if !was_next {
            return None;
        }
        self.waiting.keys().next().map(|t| t.key.clone())
    }
}

/// All places of one handler.
#[derive(Debug, Default)]
pub struct Places {
    operations: Lane,
    releases: Lane,
    /// Orders on their way to a server: uid and namespace. Their statuses may not show it yet.
    reserved: BTreeMap<String, String>,
}

impl Places {
    /// See [`Lane::enter`].
    pub fn enter(&mut self, ticket: &Ticket, deleting: bool, begun: &BTreeSet<String>, max: usize) -> Place {
        let lane = if deleting { &mut self.releases } else { &mut self.operations };
        lane.enter(ticket, begun, max, Instant::now())
    }

    /// An order is deleted: it prepares nothing any more, however long it waits to be released. Who may go on because of it.
    pub fn closes(&mut self, uid: &str) -> Option<ObjectKey> {
        self.reserved.remove(uid);
        self.operations.leave(uid)
    }

    /// Whether an order is being prepared, or is looked at for that.
    #[must_use]
    pub fn has(&self, uid: &str) -> bool {
        self.operations.inside.contains(uid)
    }

    /// Forgets everybody but these.
    pub fn keep(&mut self, there: &BTreeSet<String>) {
        self.operations.keep(there);
        self.releases.keep(there);
        self.reserved.retain(|uid, _| there.contains(uid));
    }

    /// How many orders of the namespace come before this one, those that are on their way included; where there is room for it,
    /// it is one of those from now on. `others`: uids of the orders that have a server here, or were here before this one.
    pub fn reserve(&mut self, ticket: &Ticket, others: &BTreeSet<String>, max: usize) -> usize {
        let namespace = &ticket.key.namespace;
        let on_their_way = self.reserved.iter().filter(|(uid, ns)| *ns == namespace && **uid != ticket.uid && !others.contains(*uid));
        let before = others.len() + on_their_way.count();
        if before < max {
            self.reserved.insert(ticket.uid.clone(), namespace.clone());
        }
        before
    }

    /// Gives the places of an order back; the orders that may go on because of it.
    pub fn leave(&mut self, uid: &str) -> Vec<ObjectKey> {
        self.reserved.remove(uid);
        [self.operations.leave(uid), self.releases.leave(uid)].into_iter().flatten().collect()
    }
}

/// Whether an order takes a place among those at work: from the claim to the hand-over, or while it is released.
#[must_use]
pub fn at_work(order: &DedicatedServerOrder) -> bool {
    let Some(status) = &order.status else { return false };
    let begun = |step: Step| status.steps.iter().any(|r| r.name == step.as_str() && State::parse(&r.state) != State::Pending);
    let stalled = condition::is_true(&status.conditions, ConditionType::Stalled);
    let person = stalled || status.waiting_on.as_ref().is_some_and(|w| w.kind == "Department");
    let ready = condition::find(&status.conditions, ConditionType::Ready);
    let elsewhere = ready.is_some_and(|c| c.reason == Reason::LicenseServerNotReady.as_str());
    let busy = if going(order) { begun(Step::PowerOff) } else { !handed_over(order) };
    let flies = status.in_flight.as_ref().is_some_and(|f| !stalled || Timestamp::now() < after(f.since.0, HELD));
    // One whose server a department has built asks for a place like any other.
    order.is_bound() && busy && (flies || !(person || elsewhere || waits(order)))
}

/// Whether an order waits for a place, or for its namespace to have fewer orders.
#[must_use]
pub fn waits(order: &DedicatedServerOrder) -> bool {
    let ready = order.status.as_ref().and_then(|s| condition::find(&s.conditions, ConditionType::Ready));
    ready.is_some_and(|c| c.reason == Reason::LimitReached.as_str())
}

impl Pass<'_> {
    /// Asks for a place, and tells the decision how many come before the order.
    pub(super) fn take_place(&self, client: &ServerClient, facts: &mut Facts) -> Asked {
        let (uid, deleting) = (&self.parsed.uid, self.parsed.deleting);
        let ticket = Ticket { created: self.parsed.created, uid: uid.clone(), key: self.parsed.key.clone() };
        if deleting && let Some(next) = self.handler.places(|places| places.closes(uid)) {
            self.context.wake_orders.wake(&next);
        }
        let max = client.policy.max_orders_per_namespace;
        if max > 0 && !deleting && !self.order.is_bound() {
            let mine = (Some(self.parsed.created), Some(uid));
            let counts = |o: &DedicatedServerOrder| {
                let older = (o.metadata.creation_timestamp.as_ref().map(|t| t.0), o.metadata.uid.as_ref()) < mine;
                o.metadata.namespace.as_deref() == Some(&self.parsed.key.namespace)
                    && o.metadata.uid.as_ref() != Some(uid)
                    && (o.is_bound() || older)
            };
            let others = self.others(counts);
            facts.older_orders = self.handler.places(|p| p.reserve(&ticket, &others, max));
            if facts.older_orders >= max {
                facts.older_orders = self.among_those_there(|p| p.reserve(&ticket, &others, max));
            }
            if facts.older_orders >= max {
                // Kept back before it needs a place: it must not keep others from one.
                return Asked::Decide;
            }
        }
        let max = if deleting { client.max_releases } else { client.max_operations };
        // An order at rest needs none, nor does one that goes without ever having had a server.
        let needs = if deleting { self.order.is_bound() } else { !handed_over(&self.order) };
        if needs && !deleting && self.finds_nothing(client, facts) {
            // It has none either, should the decision find a server all the same: it asks for one then.
            facts.slot = false;
            return Asked::Decide;
        }
        if needs {
            let begun = if max == 0 { BTreeSet::new() } else { self.others(|o| going(o) == deleting && at_work(o)) };
            let mut place = self.handler.places(|p| p.enter(&ticket, deleting, &begun, max));
            if place != Place::Taken {
                place = self.among_those_there(|p| p.enter(&ticket, deleting, &begun, max));
            }
            facts.slot = place == Place::Taken;
            match place {
                Place::Taken => {}
                Place::Full(before) => facts.before_me = before,
                Place::Momentarily(before) => {
                    facts.before_me = before;
                    if is_current(&self.order) {
                        return Asked::Again(turn(before));
                    }
                }
            }
        }
        Asked::Decide
    }

    /// Whether the list alone says that there is no server for the order: it waits without keeping others from a place.
    fn finds_nothing(&self, client: &ServerClient, facts: &Facts) -> bool {
        let Some(inventory) = &facts.inventory else { return false };
        let new = OrderStatus::default();
        let status = self.order.status.as_ref().unwrap_or(&new);
        capacity::nothing_for(&self.parsed, status, &client.policy, inventory, &facts.queue).is_some()
    }

    /// After a pass: who is at work keeps its place, and who is `waiting` for one goes on waiting. Nobody else keeps others from theirs.
    pub(super) fn keep_place(&self, waiting: bool) {
        if !waiting && !at_work(&self.order) {
            self.leave_place();
        }
    }

    /// After a pass at one of several handlers that did not take the order.
    pub(super) fn passed_over(&self, slot: bool, over: &PassedOver) {
        if slot || over.reason != Reason::LimitReached {
            self.leave_place();
        }
    }

    /// Gives the order's places back, and wakes whoever waits for one.
    fn leave_place(&self) {
        for key in self.handler.places(|p| p.leave(&self.parsed.uid)) {
            self.context.wake_orders.wake(&key);
        }
    }

    /// Asks once more when orders that are gone, or at another handler by now, have lost their places.
    fn among_those_there<T>(&self, ask: impl FnOnce(&mut Places) -> T) -> T {
        let labels = self.context.handlers.get(&self.key).and_then(|handler| handler.metadata.labels).unwrap_or_default();
        let here = |o: &DedicatedServerOrder| may_be_here(o, &self.key, &labels).then(|| o.metadata.uid.clone()).flatten();
        let there = self.context.orders.read(here).into_iter().collect();
        self.handler.places(|places| {
            places.keep(&there);
            ask(places)
        })
    }

    /// Uids of the orders of this handler of which something holds.
    fn others(&self, holds: impl Fn(&DedicatedServerOrder) -> bool) -> BTreeSet<String> {
        let here = |o: &DedicatedServerOrder| serving_handler(o).as_ref() == Some(&self.key) && holds(o);
        self.context.orders.read(|o| here(o).then(|| o.metadata.uid.clone()).flatten()).into_iter().collect()
    }
}

/// Whether a handler serves an order, or is one of those that may.
fn may_be_here(order: &DedicatedServerOrder, handler: &ObjectKey, labels: &BTreeMap<String, String>) -> bool {
    match serving_handler(order) {
        Some(serving) => serving == *handler,
        None => selector(order).is_some_and(|selector| selector.selects(handler, labels)),
    }
}

/// Whether its status is about the order as it is now.
fn is_current(order: &DedicatedServerOrder) -> bool {
    order.status.as_ref().is_some_and(|s| s.observed_generation == order.metadata.generation)
}

fn going(order: &DedicatedServerOrder) -> bool {
    order.metadata.deletion_timestamp.is_some()
}

fn handed_over(order: &DedicatedServerOrder) -> bool {
    let steps = order.status.as_ref().map(|s| s.steps.as_slice()).unwrap_or_default();
    steps.iter().any(|r| r.name == Step::HandOver.as_str() && State::parse(&r.state).over())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::common::Time;

    fn ticket(second: i64, uid: &str) -> Ticket {
        let key = ObjectKey { namespace: "shop".into(), name: uid.into() };
        Ticket { created: Timestamp::from_second(second).unwrap(), uid: uid.into(), key }
    }

    #[test]
    fn places_are_bounded_kept_and_given_back_in_order() {
        let (mut places, none) = (Places::default(), BTreeSet::new());
        let (a, b, c) = (ticket(1, "a"), ticket(2, "b"), ticket(3, "c"));
        assert_eq!(places.enter(&b, false, &none, 1), Place::Taken);
        assert_eq!(places.enter(&b, false, &none, 1), Place::Taken, "who is in stays in");
        assert_eq!(places.enter(&c, false, &none, 1), Place::Momentarily(0), "b may be only looked at");
        let b_at_work = BTreeSet::from(["b".to_owned()]);
        assert_eq!(places.enter(&c, false, &b_at_work, 1), Place::Full(0));
        assert_eq!(places.enter(&a, false, &b_at_work, 1), Place::Full(0), "the older one comes first");
        assert_eq!(places.enter(&c, false, &b_at_work, 1), Place::Full(1));
        assert_eq!(places.enter(&c, true, &none, 1), Place::Taken, "releases have places of their own");
        assert_eq!(places.leave("b"), std::slice::from_ref(&a.key));
        assert_eq!(places.enter(&c, false, &none, 1), Place::Momentarily(1), "the place is kept for the older one");
        assert_eq!(places.enter(&a, false, &none, 1), Place::Taken);
        assert!((0..50).all(|n| places.enter(&ticket(n, &n.to_string()), false, &none, 0) == Place::Taken), "0 is no limit");
    }

    #[test]
    fn those_far_behind_ask_less_often() {
        for (before, seconds) in [(0, 5), (19, 5), (20, 10), (100, 30), (5000, 60), (usize::MAX, 60)] {
            assert_eq!(turn(before), Duration::from_secs(seconds), "{before}");
        }
    }

    #[test]
    fn after_a_restart_those_at_work_have_their_places() {
        let mut places = Places::default();
        let begun = BTreeSet::from(["a".to_owned()]);
        assert_eq!(places.enter(&ticket(2, "b"), false, &begun, 1), Place::Full(0));
        assert_eq!(places.enter(&ticket(1, "a"), false, &begun, 1), Place::Taken);
        assert_eq!(places.leave("a"), [ticket(2, "b").key]);
        assert_eq!(
            places.enter(&ticket(2, "b"), false, &begun, 1),
            Place::Taken,
            "the cache may show later that a is not at work any more"
        );
        places.leave("b");
        let begun = BTreeSet::from(["b".to_owned()]);
        assert_eq!(places.enter(&ticket(1, "a"), false, &begun, 1), Place::Taken, "it may come back");
        assert_eq!(places.enter(&ticket(2, "b"), false, &BTreeSet::new(), 1), Place::Momentarily(0));
    }

    #[test]
    fn an_order_with_a_server_that_waits_for_a_place_is_not_at_work() {
        let flight = json!({"operationId": "op", "step": "PowerOn", "call": "powerOn", "target": "server/1", "attempt": 1,
            "since": "2026-01-01T00:00:00Z", "outcome": "Sent"});
        let at_work = |reason: &str, in_flight: &serde_json::Value| {
            let ready =
                json!({"type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let server = json!({"id": "1", "name": "", "handler": "hosting/msk-1", "panel": "", "configuration": "", "client": ""});
            let waits = json!({"kind": "Capacity", "name": "hosting/msk-1", "since": "2026-01-01T00:00:00Z", "message": ""});
            let status = json!({"server": server, "waitingOn": waits, "inFlight": in_flight, "conditions": [ready]});
            at_work(&crate::api::samples::order(&json!({"status": status})))
        };
        assert!(!at_work("LimitReached", &json!(null)), "its server was built meanwhile");
        assert!(at_work("WaitingForCapacity", &json!(null)), "an address is waited for with the place");
        assert!(at_work("LimitReached", &flight), "something of it may run at the panel");
    }

    #[test]
    fn nobody_waits_for_one_that_is_not_heard_of_any_more() {
        let (mut lane, none, began) = (Lane::default(), BTreeSet::new(), Instant::now());
        assert_eq!(lane.enter(&ticket(1, "a"), &none, 1, began), Place::Taken);
        assert_eq!(lane.enter(&ticket(2, "b"), &none, 1, began), Place::Momentarily(0));
        lane.leave("a");
        assert_eq!(lane.enter(&ticket(3, "c"), &none, 1, began), Place::Momentarily(1));
        assert_eq!(lane.enter(&ticket(3, "c"), &none, 1, began + STALE), Place::Taken);
    }

    #[test]
    fn whoever_leaves_a_place_that_was_kept_for_it_wakes_the_next_one() {
        let (mut places, none) = (Places::default(), BTreeSet::new());
        let [a, b, c, d] = [(1, "a"), (2, "b"), (3, "c"), (4, "d")].map(|(second, uid)| ticket(second, uid));
        assert_eq!(places.enter(&a, false, &none, 1), Place::Taken);
        assert_eq!([&b, &c, &d].map(|t| places.enter(t, false, &none, 1)), [0, 1, 2].map(Place::Momentarily));
        assert_eq!(places.leave("a"), std::slice::from_ref(&b.key));
        assert!(places.leave("c").is_empty(), "it was not its turn");
        // It was woken, and finds that there is no server for it.
        assert_eq!(places.leave("b"), std::slice::from_ref(&d.key));
        assert!(places.leave("b").is_empty(), "once");
        assert_eq!(places.enter(&d, false, &none, 1), Place::Taken);
    }

    #[test]
    fn an_order_that_is_gone_keeps_no_place() {
        let (mut places, none) = (Places::default(), BTreeSet::new());
        assert_eq!(places.enter(&ticket(1, "gone"), true, &none, 1), Place::Taken);
        assert_eq!(places.enter(&ticket(2, "left"), true, &none, 1), Place::Momentarily(0));
        assert_eq!(places.enter(&ticket(3, "here"), true, &none, 1), Place::Momentarily(1));
        assert_eq!(places.reserve(&ticket(1, "gone"), &none, 1), 0);
        places.keep(&BTreeSet::from(["here".to_owned()]));
        assert_eq!(places.enter(&ticket(3, "here"), true, &none, 1), Place::Taken);
        assert_eq!(places.reserve(&ticket(3, "here"), &none, 1), 0);
    }

    #[test]
    fn an_order_that_went_to_another_handler_keeps_no_place_at_this_one() {
        let here = ObjectKey { namespace: "hosting".into(), name: "msk-1".into() };
        let labels = BTreeMap::from([("zone".to_owned(), "msk".to_owned())]);
        let may_be = |order: &serde_json::Value| may_be_here(&crate::api::samples::order(order), &here, &labels);
        let names = |name: &str| json!({"spec": {"handlerRef": {"namespace": "hosting", "name": name}}});
        assert!(may_be(&names("msk-1")) && !may_be(&names("msk-2")));
        let selects =
            |zone: &str| json!({"spec": {"handlerRef": null, "handlerSelector": {"namespace": "hosting", "matchLabels": {"zone": zone}}}});
        assert!(may_be(&selects("msk")) && !may_be(&selects("spb")));
        let mut bound = selects("msk");
        bound["status"] =
            json!({"server": {"id": "1", "name": "", "handler": "hosting/msk-2", "panel": "", "configuration": "", "client": ""}});
        assert!(!may_be(&bound), "served by another one");
        let lane = |there: &[&str]| there.iter().map(|uid| (*uid).to_owned()).collect();
        let (mut places, none) = (Places::default(), BTreeSet::new());
        assert_eq!(places.reserve(&ticket(1, "went"), &none, 1), 0);
        places.keep(&lane(&["comes"]));
        assert_eq!(places.reserve(&ticket(2, "comes"), &none, 1), 0);
    }

    #[test]
    fn an_order_that_waits_to_be_released_keeps_nobody_from_being_prepared() {
        let (mut places, none) = (Places::default(), BTreeSet::new());
        let (gone, next) = (ticket(1, "gone"), ticket(2, "next"));
        assert_eq!(places.enter(&gone, false, &none, 1), Place::Taken);
        assert_eq!(places.enter(&ticket(0, "other"), true, &none, 1), Place::Taken);
        assert_eq!(places.enter(&next, false, &none, 1), Place::Momentarily(0));
        assert_eq!(places.closes("gone"), Some(next.key.clone()), "whoever waits is woken");
        assert_eq!(places.enter(&gone, true, &none, 1), Place::Momentarily(0), "it waits itself");
        assert_eq!(places.enter(&next, false, &none, 1), Place::Taken);
        assert_eq!(places.closes("gone"), None);
    }

    #[test]
    fn an_order_that_waits_for_its_licence_server_keeps_nobody_from_a_place() {
        let works = |reason: &str, flight: &serde_json::Value| {
            let ready =
                json!({"type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let server = json!({"id": "17", "handler": "hosting/msk-1", "configuration": "E3"});
            at_work(&crate::api::samples::order(&json!({"status": {"server": server, "conditions": [ready], "inFlight": flight}})))
        };
        let nothing = serde_json::Value::Null;
        assert!(works("WaitingForPanel", &nothing));
        assert!(!works("LicenseServerNotReady", &nothing));
        let flight = json!({"operationId": "1", "step": "IssueLicenses", "call": "orderLicense", "target": "license/x", "attempt": 1,
                            "since": "2026-01-01T00:00:00Z", "outcome": "Ambiguous"});
        assert!(works("LicenseServerNotReady", &flight), "what was asked for may be under way");
    }

    #[test]
    fn a_call_keeps_the_place_of_an_order_that_is_refused_for_two_hours_at_most() {
        let works = |progress: &str, hours: u64| {
            let since = Time::seconds(Timestamp::now().checked_sub(Duration::from_hours(hours)).unwrap());
            let flight = json!({"operationId": "1", "step": "InstallOS", "call": "install", "target": "server/17", "attempt": 1,
                                "since": since, "outcome": "Sent"});
            let refused = json!({"type": progress, "status": "True", "reason": "InvalidSpec", "message": "",
                                 "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let server = json!({"id": "17", "handler": "hosting/msk-1", "configuration": "E3"});
            at_work(&crate::api::samples::order(&json!({"status": {"server": server, "conditions": [refused], "inFlight": flight}})))
        };
        assert!(works("Stalled", 0), "something of it may run at the panel");
        assert!(!works("Stalled", 3), "nobody looks at it any more");
        assert!(works("Reconciling", 3), "this one is looked at");
    }

    #[test]
    fn a_namespace_never_gets_more_than_its_number() {
        let (mut places, none) = (Places::default(), BTreeSet::new());
        assert_eq!(places.reserve(&ticket(1, "a"), &none, 1), 0);
        assert_eq!(places.reserve(&ticket(1, "a"), &none, 1), 0, "who is in stays in");
        assert_eq!(places.reserve(&ticket(2, "b"), &none, 1), 1, "its status may not show it yet");
        let others = BTreeSet::from(["a".to_owned()]);
        assert_eq!(places.reserve(&ticket(2, "b"), &others, 1), 1, "nobody is counted twice");
        places.leave("a");
        assert_eq!(places.reserve(&ticket(2, "b"), &none, 1), 0);
    }
}
