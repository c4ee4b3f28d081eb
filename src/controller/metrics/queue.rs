//! How many objects of a kind wait for a reconcile, are in one, or wait because the last one failed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use crate::controller::panels::lock;

/// The queue of one controller. Controllers of the same kind, one for each namespace, add to the same numbers.
#[derive(Clone)]
pub struct Depth {
    queued: Gauge,
    running: Gauge,
    retrying: Gauge,
    waiting: Arc<Mutex<BTreeSet<String>>>,
    failing: Arc<Mutex<BTreeSet<String>>>,
}

/// A reconcile that runs; it is over when this is dropped, however it ended.
pub struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Depth {
    /// Of one kind.
    #[must_use]
    pub fn new(metrics: &Metrics, kind: &str) -> Self {
        let gauge = |state| metrics.queue_depth.of([kind, state]);
        Self {
            queued: gauge("queued"),
            running: gauge("running"),
            retrying: gauge("retrying"),
            waiting: Arc::default(),
            failing: Arc::default(),
        }
    }

    /// An object has changed, or was woken. Twice is once.
    pub fn triggered(&self, object: &str) {
        if lock(&self.waiting).insert(object.to_owned()) {
            self.queued.inc();
        }
    }

    /// An object's reconcile begins.
    #[must_use]
    pub fn started(&self, object: &str) -> Running {
        self.left(object);
        self.running.inc();
        Running(self.running.clone())
    }

    /// An object's reconcile ended.
    pub fn ended(&self, object: &str, success: bool) {
        let mut failing = lock(&self.failing);
        if success {
            if failing.remove(object) {
                self.retrying.dec();
            }
        } else if failing.insert(object.to_owned()) {
            self.retrying.inc();
        }
    }

    /// There is no reconcile for an object: it is gone.
    pub fn gone(&self, object: &str) {
        self.left(object);
        self.ended(object, true);
    }

    fn left(&self, object: &str) {
        if lock(&self.waiting).remove(object) {
            self.queued.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_counted_once_in_each_state() {
        let metrics = Metrics::default();
        let depth = Depth::new(&metrics, "ManualTask");
        let now = || ["queued", "running", "retrying"].map(|state| metrics.queue_depth.of(["ManualTask", state]).get());
        depth.triggered("a/x");
        depth.triggered("a/x");
        depth.triggered("a/y");
        assert_eq!(now(), [2, 0, 0]);
        let running = depth.started("a/x");
        // A retry that nothing has triggered.
        let other = depth.started("a/z");
        assert_eq!(now(), [1, 2, 0]);
        depth.triggered("a/x");
        drop((running, other));
        depth.ended("a/x", false);
        depth.ended("a/x", false);
        assert_eq!(now(), [2, 0, 1]);
        depth.gone("a/x");
        depth.gone("a/y");
        assert_eq!(now(), [0, 0, 0]);
    }
}
