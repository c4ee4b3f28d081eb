//! Metrics: one registry by construction. Gauges are counted from the caches every few seconds, so that what is gone leaves them by
//! itself; counters and histograms are told of what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::panel::coremanager::client::Observer;

pub mod counts;
pub mod definitions;
pub mod keeper;
pub mod queue;
pub mod saved;
pub mod series;
pub mod sla;
pub mod tasks;
pub mod writes;

pub use definitions::{Definition, Metrics, definitions};

use super::panels::lock;
use series::OTHER;

/// Calls of one panel that are counted by name. The operator knows fewer; a handler's dialect may name others.
const CALLS: usize = 64;

/// Counts the requests to one panel.
pub struct PanelObserver {
    metrics: Arc<Metrics>,
    panel: String,
    calls: Mutex<BTreeSet<String>>,
}

impl PanelObserver {
    /// `panel`: namespace/name of its handler or IPManager.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, panel: String) -> Self {
        Self { metrics, panel, calls: Mutex::default() }
    }
}

impl Observer for PanelObserver {
    fn call(&self, func: &str, result: &'static str, took: Duration) {
        let known = {
            let mut calls = lock(&self.calls);
            calls.contains(func) || (calls.len() < CALLS && calls.insert(func.to_owned()))
        };
        let call = if known { func } else { OTHER };
        self.metrics.panel_requests.of([&self.panel, call, result]).inc();
        self.metrics.panel_request_duration.of([&self.panel, call]).observe(took.as_secs_f64());
    }
}

/// Numbers by label values, on their way into a gauge.
pub type Counted<const N: usize> = BTreeMap<[String; N], i64>;

/// Adds to one of them.
pub fn add<const N: usize>(counted: &mut Counted<N>, values: [&str; N], number: i64) {
    *counted.entry(values.map(str::to_owned)).or_default() += number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_dialect_are_counted_by_name_up_to_a_bound() {
        let metrics = Arc::new(Metrics::default());
        let observer = PanelObserver::new(metrics.clone(), "h/a".into());
        for number in 0..200 {
            observer.call(&format!("func{number}"), "ok", Duration::from_millis(30));
        }
        observer.call("func3", "ok", Duration::from_millis(30));
        assert_eq!(metrics.panel_requests.of(["h/a", "func3", "ok"]).get(), 2);
        assert_eq!(metrics.panel_requests.of(["h/a", OTHER, "ok"]).get(), 200 - CALLS as u64);
        assert_eq!(metrics.panel_requests.len(), CALLS + 1);
    }
}
