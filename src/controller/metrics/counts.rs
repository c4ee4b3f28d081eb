//! What the caches say of handlers, IPManagers and orders, in numbers. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::api::common::ObjectKey;
use crate::api::condition::{self, Condition, ConditionType};
use crate::api::handler::Module;
use crate::api::order_status::OrderStatus;
use crate::api::{DedicatedServerOrder, IPManager, ProcessingHandler};
use crate::controller::context::serving_handler;
use crate::provisioning::context::WaitKind;
use crate::provisioning::reason::Reason;
use crate::provisioning::step::{CHANGES, CLOSING, OPENING};
use crate::provisioning::verdict::Phase;

use super::series::{OTHER, Together};
use super::{Counted, Metrics, add, sla};

/// The label value of what there is none of.
pub const NONE: &str = "none";
/// The configuration of orders that compose their own.
const CUSTOM: &str = "custom";
/// Orders whose time in their step is shown one by one.
const SHOWN: usize = 200;
const PHASES: [Phase; 8] = [
    Phase::Pending,
    Phase::Allocating,
    Phase::AwaitingTask,
    Phase::Preparing,
    Phase::Active,
    Phase::Suspended,
    Phase::Deleting,
    Phase::Failed,
];
const WAITS: [WaitKind; 5] = [WaitKind::Panel, WaitKind::Department, WaitKind::Capacity, WaitKind::Handler, WaitKind::Retry];

/// The objects that are counted.
#[derive(Default)]
pub struct Objects<'a> {
    /// Handlers and licence servers.
    pub handlers: Vec<&'a ProcessingHandler>,
    /// IPManagers.
    pub ipmanagers: Vec<&'a IPManager>,
    /// Orders.
    pub orders: Vec<&'a DedicatedServerOrder>,
    /// Handlers that this version cannot read, by namespace and name. They are there, and serve nobody.
    pub unreadable_handlers: BTreeSet<String>,
    /// IPManagers of this kind.
    pub unreadable_ipmanagers: BTreeSet<String>,
}

/// Shows what the caches hold now, and drops the series of what is gone.
pub fn publish(metrics: &Metrics, objects: &Objects<'_>, now: Timestamp) {
    let handlers = handlers(metrics, objects);
    orders(metrics, objects, &handlers, now);
    let pools = objects.ipmanagers.iter().map(|m| name_of(*m));
    let unreadable = objects.unreadable_handlers.iter().chain(&objects.unreadable_ipmanagers).cloned();
    let panels: BTreeSet<String> = handlers.keys().cloned().chain(pools).chain(unreadable).chain([OTHER.to_owned()]).collect();
    metrics.panel_requests.retain(|[panel, ..]| panels.contains(panel));
    metrics.panel_request_duration.retain(|[panel, _]| panels.contains(panel));
    let known = |handler: &String| handler == NONE || panels.contains(handler);
    metrics.license_expiry.retain(|[handler, _]| known(handler));
    metrics.order_activation.retain(|[handler]| known(handler));
    metrics.step_duration.retain(|[handler, _]| known(handler));
    metrics.step_attempts.retain(|[handler, _]| known(handler));
    metrics.step_failures.retain(|[handler, _]| known(handler));
}

fn handlers<'a>(metrics: &Metrics, objects: &Objects<'a>) -> BTreeMap<String, &'a ProcessingHandler> {
    let (mut ready, mut pools_ready, mut breaker) = (Counted::new(), Counted::new(), Counted::new());
    let (mut total, mut free, mut orphans, mut ghosts) = (Counted::new(), Counted::new(), Counted::new(), Counted::new());
    let (mut renewal, mut slas) = (Counted::new(), Counted::new());
    for handler in &objects.handlers {
        let key = handler.key().to_string();
        let status = handler.status.as_ref();
        let conditions = status.map_or(&[][..], |s| &s.conditions);
        let (is_ready, is_open) = readiness(conditions);
        // One that is on its way out on purpose is missed by nobody.
        if condition::find(conditions, ConditionType::Ready).is_none_or(|c| c.reason != Reason::InUse.as_str()) {
            add(&mut ready, [&key], is_ready);
        }
        add(&mut breaker, [&key], is_open);
        if let Some(licenses) = handler.spec.licenses.as_ref().filter(|_| handler.spec.module == Module::BILLmanager6) {
            add(&mut renewal, [&key], seconds(licenses.renew_before.0));
            continue;
        }
        add(&mut orphans, [&key], status.map_or(0, |s| s.orphan_count));
        add(&mut ghosts, [&key], status.map_or(0, |s| s.ghost_count));
        for step in OPENING.into_iter().chain(CLOSING).chain(CHANGES) {
            add(&mut slas, [&key, step.as_str()], seconds(sla::of(step, &handler.spec)));
        }
        let Some(inventory) = status.and_then(|s| s.inventory.as_ref()) else { continue };
        let (mut rest, mut rest_free) = (inventory.total, inventory.free);
        for count in &inventory.by_configuration {
            add(&mut total, [&key, &count.configuration], count.total);
            add(&mut free, [&key, &count.configuration], count.free);
            rest -= count.total;
            rest_free -= count.free;
        }
        if rest > 0 {
            add(&mut total, [&key, OTHER], rest);
            // Those that go by two names were taken off twice.
            add(&mut free, [&key, OTHER], rest_free.max(0));
        }
    }
    for key in &objects.unreadable_handlers {
        add(&mut ready, [key], 0);
    }
    for key in &objects.unreadable_ipmanagers {
        add(&mut pools_ready, [key], 0);
    }
    for manager in &objects.ipmanagers {
        let key = name_of(*manager);
        let (is_ready, is_open) = readiness(manager.status.as_ref().map_or(&[], |s| &s.conditions));
        add(&mut pools_ready, [&key], is_ready);
        // A handler of the same name shares the series, as it does in the requests.
        let open = breaker.entry([key]).or_default();
        *open = (*open).max(is_open);
    }
    metrics.handler_ready.replace(ready, Together::Least);
    metrics.ipmanager_ready.replace(pools_ready, Together::Least);
    metrics.breaker_open.replace(breaker, Together::Greatest);
    metrics.servers.replace(total, Together::Sum);
    metrics.servers_free.replace(free, Together::Sum);
    metrics.orphans.replace(orphans, Together::Sum);
    metrics.ghosts.replace(ghosts, Together::Sum);
    metrics.license_renewal.replace(renewal, Together::Greatest);
    metrics.step_sla.replace(slas, Together::Greatest);
    objects.handlers.iter().map(|h| (h.key().to_string(), *h)).collect()
}

/// Ready, and whether the panel does not answer.
fn readiness(conditions: &[Condition]) -> (i64, i64) {
    let ready = condition::find(conditions, ConditionType::Ready);
    let down = ready.is_some_and(|c| c.status != "True" && c.reason == Reason::Unreachable.as_str());
    (i64::from(condition::is_true(conditions, ConditionType::Ready)), i64::from(down))
}

fn orders(metrics: &Metrics, objects: &Objects<'_>, handlers: &BTreeMap<String, &ProcessingHandler>, now: Timestamp) {
    let (mut all, mut waiting, mut for_server, mut retrying, mut late) =
        (Counted::new(), Counted::new(), Counted::new(), Counted::new(), Counted::new());
    for key in handlers.keys() {
        add(&mut retrying, [key], 0);
        // There before it is first told of something: a rate does not see what a series begins with.
        metrics.order_activation.of([key]);
    }
    let configurations: BTreeMap<&str, BTreeSet<&str>> = handlers.iter().map(|(key, h)| (key.as_str(), configurations(h))).collect();
    let (mut ages, unseen) = (Vec::new(), OrderStatus::default());
    for order in &objects.orders {
        let there = |key: &str| handlers.contains_key(key) || objects.unreadable_handlers.contains(key);
        let handler = handler_of(order, |key| there(&key.to_string()));
        let status = order.status.as_ref().unwrap_or(&unseen);
        let step = sla::at_hand(status);
        let phase = status.phase.as_deref().unwrap_or(Phase::Pending.as_str());
        let phase = PHASES.iter().map(|p| p.as_str()).find(|p| *p == phase).unwrap_or(OTHER);
        add(&mut all, [&handler, phase, step.map_or(NONE, |s| s.as_str())], 1);
        let waits = status.waiting_on.as_ref().and_then(|w| WAITS.into_iter().find(|kind| kind.as_str() == w.kind));
        if let Some(kind) = waits {
            add(&mut waiting, [&handler, kind.as_str()], 1);
        }
        if let Some(wanted) = wanted_server(order, waits) {
            // An order without a handler of its own waits for any of those that it selects.
            let known = match configurations.get(handler.as_str()) {
                Some(of_handler) => of_handler.contains(wanted),
                None => configurations.values().any(|of_any| of_any.contains(wanted)),
            };
            add(&mut for_server, [&handler, if known || wanted == CUSTOM { wanted } else { OTHER }], 1);
        }
        if status.attempts > 0 {
            add(&mut retrying, [&handler], 1);
        }
        let Some((step, since)) = step.and_then(|step| Some((step, sla::since(status, step)?))) else { continue };
        let age = now.duration_since(since).as_secs().max(0);
        if handlers.get(&handler).is_some_and(|h| age > seconds(sla::of(step, &h.spec))) {
            let stalled = condition::is_true(&status.conditions, ConditionType::Stalled);
            let waits = if stalled { "Stalled" } else { waits.map_or(NONE, |kind| kind.as_str()) };
            add(&mut late, [&handler, step.as_str(), waits], 1);
        }
        ages.push((age, [handler, order.key().to_string(), step.as_str().to_owned()]));
    }
    ages.sort_unstable_by_key(|(age, labels)| (Reverse(*age), labels.clone()));
    metrics.orders.replace(all, Together::Sum);
    metrics.orders_waiting.replace(waiting, Together::Sum);
    metrics.orders_waiting_for_server.replace(for_server, Together::Sum);
    metrics.orders_retrying.replace(retrying, Together::Sum);
    metrics.orders_beyond_sla.replace(late, Together::Sum);
    let slowest = ages.into_iter().take(SHOWN).map(|(age, labels)| (labels, age)).collect();
    metrics.order_step_age.replace(slowest, Together::Greatest);
}

/// The handler that an order is counted for. Anybody may name one that does not exist, or that is not theirs to use: such orders are
/// counted together, so that nobody else decides how many series there are.
#[must_use]
pub fn handler_of(order: &DedicatedServerOrder, exists: impl Fn(&ObjectKey) -> bool) -> String {
    let ready = order.status.as_ref().and_then(|s| condition::find(&s.conditions, ConditionType::Ready));
    let refused = ready.is_some_and(|c| c.reason == Reason::HandlerNotFound.as_str());
    let key = serving_handler(order).filter(|key| !refused && exists(key));
    key.map_or_else(|| NONE.to_owned(), |key| key.to_string())
}

/// The configurations of which the panel has servers.
fn configurations(handler: &ProcessingHandler) -> BTreeSet<&str> {
    let inventory = handler.status.as_ref().and_then(|s| s.inventory.as_ref());
    inventory.into_iter().flat_map(|i| &i.by_configuration).map(|c| c.configuration.as_str()).collect()
}

/// What an order for which no server is there asks for.
fn wanted_server(order: &DedicatedServerOrder, waits: Option<WaitKind>) -> Option<&str> {
    let status = order.status.as_ref()?;
    let reconciling = condition::find(&status.conditions, ConditionType::Reconciling)?;
    if waits != Some(WaitKind::Capacity) || status.server.is_some() || reconciling.reason != Reason::WaitingForCapacity.as_str() {
        return None;
    }
    Some(order.spec.configuration.server_type.as_deref().unwrap_or(CUSTOM))
}

fn name_of<K: Resource>(object: &K) -> String {
    ObjectKey { namespace: object.meta().namespace.clone().unwrap_or_default(), name: object.name_any() }.to_string()
}

pub(super) fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    const NOW: i64 = 100_000;

    fn at(second: i64) -> String {
        Timestamp::from_second(second).unwrap().to_string()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "x", "lastTransitionTime": at(1)})
    }

    fn handler(name: &str, ready: (&str, &str)) -> ProcessingHandler {
        samples::handler(&json!({
            "metadata": {"name": name},
            "status": {
                "conditions": [condition("Ready", ready.0, ready.1)], "orphanCount": 2,
                "inventory": {"total": 10, "free": 4, "byConfiguration": [{"configuration": "E3", "free": 3, "total": 7}]},
            },
        }))
    }

    fn order(name: &str, handler: &str, type_: &str, status: &Value) -> DedicatedServerOrder {
        samples::order(&json!({
            "metadata": {"name": name, "namespace": "c"}, "status": status,
            "spec": {"handlerRef": {"name": handler, "namespace": "h"}, "configuration": {"serverType": type_}},
        }))
    }

    fn lines(metrics: &Metrics, name: &str) -> Vec<String> {
        let text = metrics.text().unwrap();
        let of_it = |line: &&str| line.starts_with(&format!("dci_operator_{name}{{")) || line.starts_with(&format!("dci_operator_{name} "));
        text.lines().filter(of_it).map(|l| l.trim_start_matches("dci_operator_").to_owned()).collect()
    }

    #[test]
    fn handlers_are_counted_and_leave_with_all_that_is_theirs() {
        let metrics = Metrics::default();
        let (good, down) = (handler("a", ("True", "Reachable")), handler("b", ("False", "Unreachable")));
        let refused = handler("c", ("False", "LoginRefused"));
        let leaving = handler("d", ("False", "InUse"));
        publish(&metrics, &Objects { handlers: vec![&good, &down, &refused, &leaving], ..Objects::default() }, Timestamp::now());
        assert!(!lines(&metrics, "handler_ready").iter().any(|line| line.contains("h/d")), "nobody is called for what is deleted");
        publish(&metrics, &Objects { handlers: vec![&good, &down, &refused], ..Objects::default() }, Timestamp::now());
        let one = |name: &str, a: i64, b: i64, c: i64, label: &str| {
            let of = |key: &str, value| format!("{name}{{{label}=\"h/{key}\"}} {value}");
            assert_eq!(lines(&metrics, name), [of("a", a), of("b", b), of("c", c)]);
        };
        one("handler_ready", 1, 0, 0, "handler");
        one("breaker_open", 0, 1, 0, "panel");
        one("orphan_servers", 2, 2, 2, "handler");
        assert_eq!(metrics.servers.of(["h/a", "E3"]).get(), 7);
        assert_eq!((metrics.servers.of(["h/a", OTHER]).get(), metrics.servers_free.of(["h/a", OTHER]).get()), (3, 1));
        metrics.panel_requests.of(["h/b", "server", "ok"]).inc();
        metrics.step_attempts.of(["h/b", "PowerOn"]).inc();
        metrics.step_attempts.of([NONE, "PowerOn"]).inc();
        publish(&metrics, &Objects { handlers: vec![&good], ..Objects::default() }, Timestamp::now());
        let text = metrics.text().unwrap();
        assert!(!text.contains("h/b") && !text.contains("h/c") && text.contains("handler=\"none\""), "{text}");
    }

    #[test]
    fn servers_that_go_by_two_names_leave_no_less_than_none_for_the_rest() {
        let metrics = Metrics::default();
        let count = |name: &str| json!({"configuration": name, "free": 1, "total": 1});
        let inventory = json!({"total": 3, "free": 1, "byConfiguration": [count("E3"), count("E5")]});
        let handler = samples::handler(&json!({"metadata": {"name": "a"}, "status": {"inventory": inventory}}));
        publish(&metrics, &Objects { handlers: vec![&handler], ..Objects::default() }, Timestamp::now());
        assert_eq!((metrics.servers.of(["h/a", OTHER]).get(), metrics.servers_free.of(["h/a", OTHER]).get()), (1, 0));
    }

    #[test]
    fn what_cannot_be_read_is_not_ready_and_keeps_what_is_its_own() {
        let metrics = Metrics::default();
        let good = handler("a", ("True", "Reachable"));
        metrics.panel_requests.of(["h/b", "server", "ok"]).inc();
        metrics.step_attempts.of(["h/b", "PowerOn"]).inc();
        let order = order("waits", "b", "E3", &json!({"phase": "Pending"}));
        let objects = Objects {
            handlers: vec![&good],
            orders: vec![&order],
            unreadable_handlers: ["h/b".to_owned()].into(),
            unreadable_ipmanagers: ["h/pool".to_owned()].into(),
            ..Objects::default()
        };
        publish(&metrics, &objects, Timestamp::now());
        assert_eq!(lines(&metrics, "handler_ready"), ["handler_ready{handler=\"h/a\"} 1", "handler_ready{handler=\"h/b\"} 0"]);
        assert_eq!(lines(&metrics, "ipmanager_ready"), ["ipmanager_ready{ipmanager=\"h/pool\"} 0"]);
        assert_eq!(lines(&metrics, "orders"), ["orders{handler=\"h/b\",phase=\"Pending\",step=\"none\"} 1"]);
        // Nothing is known of its panel: the alert that it is not ready has to come.
        assert_eq!(lines(&metrics, "breaker_open"), ["breaker_open{panel=\"h/a\"} 0"]);
        assert_eq!(metrics.panel_requests.of(["h/b", "server", "ok"]).get(), 1);
        assert_eq!(metrics.step_attempts.of(["h/b", "PowerOn"]).get(), 1);
    }

    #[test]
    fn orders_are_counted_by_where_they_stand_and_never_by_what_a_client_writes() {
        let metrics = Metrics::default();
        let known = handler("a", ("True", "Reachable"));
        let waiting = |reason: &str| {
            json!({
                "phase": "Pending", "waitingOn": {"kind": "Capacity", "name": "x", "since": at(1)},
                "progress": {"percent": 5, "step": "Allocate"}, "conditions": [condition("Reconciling", "True", reason)],
                "steps": [{"name": "Allocate", "state": "Waiting", "startedAt": at(NOW - 5000)}],
            })
        };
        let step = |name: &str, state: &str, started: i64| {
            json!({
                "phase": "Preparing", "progress": {"percent": 20, "step": name}, "attempts": 2,
                "steps": [{"name": name, "state": state, "startedAt": at(started)}],
            })
        };
        let mut selects = order("selects", "a", "E3", &waiting("WaitingForCapacity"));
        selects.spec.handler_ref = None;
        let all = vec![
            selects,
            order("waits", "a", "E3", &waiting("WaitingForCapacity")),
            order("unknown-type", "a", "whatever", &waiting("WaitingForCapacity")),
            order("limited", "a", "E3", &waiting("LimitReached")),
            order("late", "a", "E3", &step("PowerOn", "Running", NOW - 901)),
            order("quick", "a", "E3", &step("InstallOS", "Waiting", NOW - 901)),
            order(
                "done",
                "a",
                "E3",
                &json!({"phase": "Active", "progress": {"percent": 100, "step": "HandOver"},
                "steps": [{"name": "HandOver", "state": "Done", "startedAt": at(1)}]}),
            ),
            order("new", "a", "E3", &json!({})),
            order("lost", "nobody", "E3", &json!({"phase": "made up"})),
            order("refused", "a", "E3", &json!({"phase": "Pending", "conditions": [condition("Ready", "False", "HandlerNotFound")]})),
        ];
        let objects = Objects { handlers: vec![&known], orders: all.iter().collect(), ..Objects::default() };
        publish(&metrics, &objects, Timestamp::from_second(NOW).unwrap());
        let wanted = [
            "{handler=\"h/a\",phase=\"Active\",step=\"none\"} 1",
            "{handler=\"h/a\",phase=\"Pending\",step=\"Allocate\"} 3",
            "{handler=\"h/a\",phase=\"Pending\",step=\"none\"} 1",
            "{handler=\"h/a\",phase=\"Preparing\",step=\"InstallOS\"} 1",
            "{handler=\"h/a\",phase=\"Preparing\",step=\"PowerOn\"} 1",
            "{handler=\"none\",phase=\"Pending\",step=\"Allocate\"} 1",
            "{handler=\"none\",phase=\"Pending\",step=\"none\"} 1",
            "{handler=\"none\",phase=\"other\",step=\"none\"} 1",
        ];
        assert_eq!(lines(&metrics, "orders"), wanted.map(|line| format!("orders{line}")));
        let late = ["Allocate\",waiting_on=\"Capacity\"} 3", "PowerOn\",waiting_on=\"none\"} 1"];
        assert_eq!(lines(&metrics, "orders_beyond_sla"), late.map(|l| format!("orders_beyond_sla{{handler=\"h/a\",step=\"{l}")));
        let for_server = ["h/a\",configuration=\"E3\"} 1", "h/a\",configuration=\"other\"} 1", "none\",configuration=\"E3\"} 1"]
            .map(|l| format!("orders_waiting_for_server{{handler=\"{l}"));
        assert_eq!(lines(&metrics, "orders_waiting_for_server"), for_server);
        assert_eq!(lines(&metrics, "orders_retrying"), ["orders_retrying{handler=\"h/a\"} 2"]);
        assert_eq!(metrics.order_step_age.of(["h/a", "c/late", "PowerOn"]).get(), 901);
        assert_eq!(lines(&metrics, "order_step_age_seconds").len(), 6);
    }

    #[test]
    fn of_many_orders_the_slowest_are_shown_one_by_one() {
        let metrics = Metrics::default();
        let known = handler("a", ("True", "Reachable"));
        let all: Vec<DedicatedServerOrder> = (0..1000)
            .map(|number| {
                let status = json!({"phase": "Preparing", "progress": {"percent": 20, "step": "PowerOn"},
                    "steps": [{"name": "PowerOn", "state": "Running", "startedAt": at(NOW - number)}]});
                order(&format!("o{number}"), &format!("made-up-{number}"), &format!("type-{number}"), &status)
            })
            .collect();
        let objects = Objects { handlers: vec![&known], orders: all.iter().collect(), ..Objects::default() };
        publish(&metrics, &objects, Timestamp::from_second(NOW).unwrap());
        assert_eq!(metrics.order_step_age.len(), SHOWN);
        assert_eq!(metrics.order_step_age.of([NONE, "c/o999", "PowerOn"]).get(), 999);
        assert_eq!(lines(&metrics, "orders"), ["orders{handler=\"none\",phase=\"Preparing\",step=\"PowerOn\"} 1000"]);
    }
}
