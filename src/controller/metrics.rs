//! Metrics: one registry by construction; what is counted is registered in the same place.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::panel::coremanager::client::Observer;

/// A reconcile, by kind and how it ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReconcileLabels {
    /// Kind.
    pub kind: String,
    /// ok, error, panic or timeout.
    pub result: String,
}

/// A request to a panel.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PanelLabels {
    /// Handler or IPManager, as namespace/name.
    pub panel: String,
    /// Function.
    pub func: String,
    /// How it ended.
    pub result: String,
}

/// One handler.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandlerLabels {
    /// Namespace/name.
    pub handler: String,
}

/// A product of a licence server.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProductLabels {
    /// Handler, as namespace/name.
    pub handler: String,
    /// Product, as its spec names it.
    pub product: String,
}

/// Orders of a phase.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PhaseLabels {
    /// Handler, as namespace/name.
    pub handler: String,
    /// Phase.
    pub phase: String,
}

/// One department.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct DepartmentLabels {
    /// Name.
    pub department: String,
}

/// Tasks of one type.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TaskLabels {
    /// Department.
    pub department: String,
    /// Type.
    pub task_type: String,
}

/// Deliveries to a department's webhook.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WebhookLabels {
    /// Department.
    pub department: String,
    /// ok or failed.
    pub result: String,
}

/// A kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KindLabels {
    /// Kind.
    pub kind: String,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// Reconciles.
    pub reconciles: Family<ReconcileLabels, Counter>,
    /// How long they took.
    pub durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// Requests to panels.
    pub requests: Family<PanelLabels, Counter>,
    /// Seconds spent in them.
    pub request_seconds: Family<HandlerLabels, Counter<f64, AtomicU64>>,
    /// Servers of a handler's panel.
    pub servers: Family<HandlerLabels, Gauge>,
    /// Free ones among them.
    pub free: Family<HandlerLabels, Gauge>,
    /// 1 while a handler is ready.
    pub ready: Family<HandlerLabels, Gauge>,
    /// Orders by phase.
    pub orders: Family<PhaseLabels, Gauge>,
    /// The soonest end among the running licences of orders, in seconds since 1970.
    pub license_expiry: Family<ProductLabels, Gauge>,
    /// Open tasks.
    pub tasks_open: Family<TaskLabels, Gauge>,
    /// Those whose deadline has passed.
    pub tasks_overdue: Family<DepartmentLabels, Gauge>,
    /// Age of the oldest open task, in seconds.
    pub oldest_task: Family<DepartmentLabels, Gauge>,
    /// Deliveries to webhooks.
    pub webhooks: Family<WebhookLabels, Counter>,
    /// Status writes.
    pub writes: Family<KindLabels, Counter>,
    /// Events that found the queue full.
    pub dropped_events: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.002, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dci_operator");
        macro_rules! metric {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let reconciles = metric!("reconciles", "Reconciles by kind and result", Family::default());
        let durations = Family::<KindLabels, Histogram, fn() -> Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        registry.register_with_unit("reconcile_duration", "Time one reconcile took", Unit::Seconds, durations.clone());
        let requests = metric!("panel_requests", "Requests to panels by panel, function and result", Family::default());
        let request_seconds = metric!("panel_request_time_seconds", "Time spent in requests to panels", Family::default());
        let servers = metric!("servers", "Servers that the panel lists", Family::default());
        let free = metric!("servers_free", "Free servers that the panel lists", Family::default());
        let ready = metric!("handler_ready", "1 while the handler is ready", Family::default());
        let orders = metric!("orders", "Orders by handler and phase", Family::default());
        let license_expiry = metric!(
            "license_expiry_timestamp_seconds",
            "The soonest end among the running licences of orders, by licence server and product",
            Family::default()
        );
        let tasks_open = metric!("tasks_open", "Open tasks by department and type", Family::default());
        let tasks_overdue = metric!("tasks_overdue", "Open tasks whose deadline has passed, by department", Family::default());
        let oldest_task = metric!("task_oldest_age_seconds", "Age of the oldest open task, by department", Family::default());
        let webhooks = metric!("webhook_deliveries", "Deliveries to the webhooks of departments, by result", Family::default());
        let writes = metric!("status_writes", "Status writes by kind", Family::default());
        let dropped_events = metric!("events_dropped", "Events that found the queue full", Counter::default());
        Self {
            registry,
            reconciles,
            durations,
            requests,
            request_seconds,
            servers,
            free,
            ready,
            orders,
            license_expiry,
            tasks_open,
            tasks_overdue,
            oldest_task,
            webhooks,
            writes,
            dropped_events,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Counts the requests to one panel.
pub struct PanelObserver {
    /// Where to.
    pub metrics: std::sync::Arc<Metrics>,
    /// Which panel, as namespace/name of its handler or IPManager.
    pub panel: String,
}

impl Observer for PanelObserver {
    fn call(&self, func: &str, result: &'static str, took: Duration) {
        let labels = PanelLabels { panel: self.panel.clone(), func: func.to_owned(), result: result.to_owned() };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics.request_seconds.get_or_create(&HandlerLabels { handler: self.panel.clone() }).inc_by(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.reconciles.get_or_create(&ReconcileLabels { kind: "ManualTask".into(), result: "ok".into() }).inc();
        metrics.ready.get_or_create(&HandlerLabels { handler: "a/b".into() }).set(1);
        let text = metrics.text().unwrap();
        for name in [
            "dci_operator_reconciles_total{kind=\"ManualTask\",result=\"ok\"} 1",
            "dci_operator_handler_ready{handler=\"a/b\"} 1",
            "dci_operator_events_dropped_total 0",
        ] {
            assert!(text.contains(name), "{name} in\n{text}");
        }
    }
}
