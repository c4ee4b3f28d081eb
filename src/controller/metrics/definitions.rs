//! Every metric in one place: field, name, unit, labels and help. The registry and `docs/metrics.md` are made of it.

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::series::{Kind, Series, quick, slow};

/// What all names begin with.
pub const PREFIX: &str = "dci_operator";

/// A metric as it is documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name as Prometheus shows it; a histogram's ends in `_bucket`, `_sum` or `_count` there.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Labels, in order.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: String,
}

/// What each type is: the type of the series, how one is made.
macro_rules! made {
    (counter) => {
        Counter
    };
    (gauge) => {
        Gauge
    };
    (quick) => {
        Histogram
    };
    (slow) => {
        Histogram
    };
    (counter!) => {
        Counter::default
    };
    (gauge!) => {
        Gauge::default
    };
    (quick!) => {
        quick
    };
    (slow!) => {
        slow
    };
}

macro_rules! unit {
    () => {
        None
    };
    ($unit:ident) => {
        Some(Unit::$unit)
    };
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ident $name:literal $(in $unit:ident)? [$($label:literal),*];)+) => {
        /// Everything that is counted: one registry, and what is in it.
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: Series<{ const LABELS: &[&str] = &[$($label),*]; LABELS.len() }, made!($type)>,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix(PREFIX);
                $(
                    let $field = Series::new([$($label),*], made!($type !));
                    registry.register_metric($name, concat!($($help),+), unit!($($unit)?), &$field);
                )+
                Self { registry, $($field,)+ }
            }
        }

        /// All of them, in the order of the documentation.
        #[must_use]
        pub fn definitions() -> Vec<Definition> {
            vec![$(definition::<made!($type)>($name, concat!($($help),+), unit!($($unit)?), &[$($label),*]),)+]
        }
    };
}

trait Registers {
    fn register_metric<const N: usize, M: Kind>(&mut self, name: &str, help: &str, unit: Option<Unit>, metric: &Series<N, M>);
}

impl Registers for Registry {
    fn register_metric<const N: usize, M: Kind>(&mut self, name: &str, help: &str, unit: Option<Unit>, metric: &Series<N, M>) {
        // The registry ends the text with a full stop of its own.
        let help = help.trim().trim_end_matches('.');
        match unit {
            Some(unit) => self.register_with_unit(name, help, unit, metric.clone()),
            None => self.register(name, help, metric.clone()),
        }
    }
}

fn definition<M: Kind>(name: &str, help: &str, unit: Option<Unit>, labels: &'static [&'static str]) -> Definition {
    let unit = unit.map(|u| format!("_{}", u.as_str())).unwrap_or_default();
    let total = if M::WORD == "counter" { "_total" } else { "" };
    Definition { name: format!("{PREFIX}_{name}{unit}{total}"), kind: M::WORD, labels, help: help.trim().to_owned() }
}

metrics! {
    /// 1, with the version of the program.
    build_info: gauge "build_info" ["version"];
    /// 1 while this replica works, 0 while it stands by. Without leader election it is always 1.
    leader: gauge "leader" [];
    /// Time since the API server last accepted a watch. Each is opened anew every minute, so that more than three minutes mean
    /// that the operator is deaf. `watched` is a namespace, or `all`.
    watch_age: gauge "watch_age" in Seconds ["kind", "watched"];
    /// Writes to the API server, by resource (`/status` apart), verb and result: ok, conflict (somebody was quicker), refused (any
    /// other answer that is an error) or failed (no answer).
    kubernetes_writes: counter "kubernetes_writes" ["resource", "verb", "result"];
    /// Events for users that were dropped because too many waited to be published.
    events_dropped: counter "events_dropped" [];

    /// Reconciles by result: ok, error, panic or timeout.
    reconciles: counter "reconciles" ["kind", "result"];
    /// Time that one reconcile took, panels and API server included.
    reconcile_duration: quick "reconcile_duration" in Seconds ["kind", "result"];
    /// Objects that this version cannot read: nothing is done for them. It is there, with 0 too, for as long as this replica knows
    /// all objects.
    unreadable: gauge "unreadable_objects" ["kind"];
    /// Objects by what they do in the queue: queued (something has changed, nobody has looked yet), running, or retrying (the last
    /// reconcile failed; it is repeated within half a minute).
    queue_depth: gauge "queue_depth" ["kind", "state"];

    /// 1 while condition Ready of a handler is true, 0 otherwise, and where this version cannot read it.
    handler_ready: gauge "handler_ready" ["handler"];
    /// 1 while condition Ready of an IPManager is true, 0 otherwise, and where this version cannot read it.
    ipmanager_ready: gauge "ipmanager_ready" ["ipmanager"];
    /// 1 while the panel of a handler or IPManager does not answer: nothing is asked of it for orders then, but one probe in each
    /// interval.
    breaker_open: gauge "breaker_open" ["panel"];
    /// Requests to panels by call (the function; `other` beyond 64 for each panel) and result: ok, refused, auth, unreachable,
    /// certificate, denied, `no_answer` or `not_a_document`.
    panel_requests: counter "panel_requests" ["panel", "call", "result"];
    /// Time until the answer to a request to a panel, waiting for a free place aside.
    panel_request_duration: quick "panel_request_duration" in Seconds ["panel", "call"];

    /// Servers that the panel lists, by configuration: the 50 largest, and `other`. One that goes by two names is counted under each.
    servers: gauge "servers" ["handler", "configuration"];
    /// Those of them that are free.
    servers_free: gauge "servers_free" ["handler", "configuration"];
    /// Servers that carry a marker of this cluster which no order answers to.
    orphans: gauge "orphan_servers" ["handler"];
    /// Orders whose server the panel does not list any more, or which is not marked as theirs.
    ghosts: gauge "ghost_orders" ["handler"];
    /// The soonest end among the licences of orders, in seconds since 1970, by licence server and product; those that were suspended with
    /// their order are left out.
    license_expiry: gauge "license_expiry_timestamp" in Seconds ["handler", "product"];
    /// How long before its end a licence is renewed (`spec.licenses.renewBefore`).
    license_renewal: gauge "license_renewal" in Seconds ["handler"];

    /// Orders by handler (`none`: it does not exist, or none is selected yet), phase, and step at hand (`none`: at rest).
    orders: gauge "orders" ["handler", "phase", "step"];
    /// Orders that wait, by what for: Panel, Department, Capacity, Handler or Retry.
    orders_waiting: gauge "orders_waiting" ["handler", "waiting_on"];
    /// Orders for which no free server is there, by the configuration that is ordered: `custom`, or a ready one that the panel
    /// has; `other` for the rest.
    orders_waiting_for_server: gauge "orders_waiting_for_server" ["handler", "configuration"];
    /// Orders with failed attempts at the step at hand.
    orders_retrying: gauge "orders_retrying" ["handler"];
    /// Orders that are in one step for longer than its SLA; `waiting_on` is Stalled where a person has to change something, and
    /// `none` where nothing is waited for.
    orders_beyond_sla: gauge "orders_beyond_sla" ["handler", "step", "waiting_on"];
    /// The SLA of each step: its time-out and one retry interval of the handler.
    step_sla: gauge "step_sla" in Seconds ["handler", "step"];
    /// Time in the step at hand, from its last begin or from the first failed attempt: of the 200 orders that are in theirs longest.
    order_step_age: gauge "order_step_age" in Seconds ["handler", "order", "step"];
    /// Time from the creation of an order until the client had the server.
    order_activation: slow "order_activation" in Seconds ["handler"];
    /// Time that a step took, from its last begin or from the first failed attempt.
    step_duration: slow "order_step_duration" in Seconds ["handler", "step"];
    /// Attempts at a step that were begun.
    step_attempts: counter "order_step_attempts" ["handler", "step"];
    /// Attempts at a step that failed.
    step_failures: counter "order_step_failures" ["handler", "step"];

    /// Open tasks by department (`other` beyond 100) and type.
    tasks_open: gauge "tasks_open" ["department", "task_type"];
    /// Open tasks by age: 1h, 1d, 1w (younger than that), or older.
    tasks_by_age: gauge "tasks_open_by_age" ["department", "age"];
    /// Open tasks whose deadline has passed; where they have none, those that are open for 24 hours.
    tasks_overdue: gauge "tasks_overdue" ["department"];
    /// Age of the oldest open task.
    oldest_task: gauge "task_oldest_age" in Seconds ["department"];
    /// Deliveries to the webhooks of departments: ok or failed.
    webhooks: counter "webhook_deliveries" ["department", "result"];
}

impl Metrics {
    /// The text that Prometheus reads.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_defined_is_what_is_shown() {
        let metrics = Metrics::default();
        metrics.reconciles.of(["Manual\"Task\n", "ok"]).inc();
        metrics.handler_ready.of(["a/b"]).set(1);
        metrics.step_duration.of(["a/b", "InstallOS"]).observe(2.0);
        let text = metrics.text().unwrap();
        for definition in definitions() {
            let Definition { name, kind, .. } = definition;
            let name = name.trim_end_matches("_total");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE ").count(), definitions().len());
        for line in [
            "dci_operator_reconciles_total{kind=\"Manual\\\"Task\\n\",result=\"ok\"} 1\n",
            "dci_operator_handler_ready{handler=\"a/b\"} 1\n",
            "dci_operator_events_dropped_total 0\n",
            "dci_operator_order_step_duration_seconds_bucket{le=\"5.0\",handler=\"a/b\",step=\"InstallOS\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn labels_do_not_clash_with_those_that_a_scraper_adds() {
        const TAKEN: [&str; 9] = ["namespace", "pod", "service", "container", "endpoint", "job", "instance", "cluster", "le"];
        for definition in definitions() {
            let clash: Vec<_> = definition.labels.iter().filter(|label| TAKEN.contains(label)).collect();
            assert!(clash.is_empty(), "{}: {clash:?}", definition.name);
            let own: std::collections::BTreeSet<_> = definition.labels.iter().collect();
            assert_eq!(own.len(), definition.labels.len(), "{}", definition.name);
            assert!(definition.help.ends_with('.'), "{}", definition.name);
        }
    }
}
