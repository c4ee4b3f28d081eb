//! Counts the gauges anew every few seconds for as long as the process lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Resource;

use crate::api::common::ObjectKey;
use crate::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};
use crate::controller::clients::{Beat, Pulse};
use crate::controller::context::Context;
use crate::controller::fence::Fence;
use crate::controller::stores::{Guarded, readable};

use super::series::Together;
use super::{Counted, Metrics, add, counts, tasks};

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps the gauges.
pub async fn keep(context: Arc<Context>, pulse: Pulse) {
    context.metrics.build_info.of([env!("CARGO_PKG_VERSION")]).set(1);
    let mut first = BTreeMap::new();
    loop {
        leads(&context.metrics, &context.fence);
        watches(&context.metrics, &pulse.beats(), &mut first);
        // Half a cache would say that orders have no handler. A replica that stands by has none, and shows nothing.
        if context.first_lists.awaited().next().is_none() {
            let cached = Cached {
                handlers: context.handlers.all(),
                ipmanagers: context.ipmanagers.all(),
                orders: context.orders.all(),
                tasks: context.tasks.all(),
            };
            objects(&context.metrics, &cached, Timestamp::now());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Shows whether this replica works: by its own clock, like everything that it may write.
pub fn leads(metrics: &Metrics, fence: &Fence) {
    metrics.leader.of([]).set(i64::from(fence.is_open()));
}

/// All objects, as they stand in the caches.
pub struct Cached {
    /// Handlers and licence servers.
    pub handlers: Vec<Arc<Guarded<ProcessingHandler>>>,
    /// IPManagers.
    pub ipmanagers: Vec<Arc<Guarded<IPManager>>>,
    /// Orders.
    pub orders: Vec<Arc<Guarded<DedicatedServerOrder>>>,
    /// Tasks.
    pub tasks: Vec<Arc<Guarded<ManualTask>>>,
}

/// Shows what is cached, and how much of it cannot be read.
pub fn objects(metrics: &Metrics, cached: &Cached, now: Timestamp) {
    let all = counts::Objects {
        handlers: readable(&cached.handlers).collect(),
        ipmanagers: readable(&cached.ipmanagers).collect(),
        orders: readable(&cached.orders).collect(),
        unreadable_handlers: unreadable(&cached.handlers).collect(),
        unreadable_ipmanagers: unreadable(&cached.ipmanagers).collect(),
    };
    counts::publish(metrics, &all, now);
    tasks::publish(metrics, &all.handlers, readable(&cached.tasks), now);
    let mut numbers = Counted::new();
    add(&mut numbers, ["ProcessingHandler"], number(&cached.handlers));
    add(&mut numbers, ["IPManager"], number(&cached.ipmanagers));
    add(&mut numbers, ["DedicatedServerOrder"], number(&cached.orders));
    add(&mut numbers, ["ManualTask"], number(&cached.tasks));
    // Last: where this is shown everything else is, and the alerts do not look any more at what the replica before said.
    metrics.unreadable.replace(numbers, Together::Sum);
}

/// Namespace and name of what cannot be read.
fn unreadable<K: Resource>(objects: &[Arc<Guarded<K>>]) -> impl Iterator<Item = String> {
    objects.iter().filter_map(|object| object.0.as_ref().err()).map(|invalid| ObjectKey::of(&invalid.metadata).to_string())
}

fn number<K: Resource>(objects: &[Arc<Guarded<K>>]) -> i64 {
    i64::try_from(unreadable(objects).count()).unwrap_or(i64::MAX)
}

/// Shows how long ago each watch was accepted. One that never was counts from when it was seen first.
pub fn watches(metrics: &Metrics, beats: &BTreeMap<String, Beat>, first: &mut BTreeMap<String, Instant>) {
    let mut ages = Counted::new();
    for (path, beat) in beats {
        let seen = *first.entry(path.clone()).or_insert(beat.tried);
        let age = beat.opened.unwrap_or(seen).elapsed().as_secs();
        let (kind, watched) = watch_of(path);
        add(&mut ages, [kind, watched], i64::try_from(age).unwrap_or(i64::MAX));
    }
    metrics.watch_age.replace(ages, Together::Greatest);
}

/// `/apis/GROUP/VERSION[/namespaces/NAMESPACE]/RESOURCE`.
fn watch_of(path: &str) -> (&str, &str) {
    let mut parts = path.rsplit('/');
    let resource = parts.next().unwrap_or_default();
    let (scope, above) = (parts.next().unwrap_or_default(), parts.next());
    let kind = match resource {
        "dedicatedserverorders" => "DedicatedServerOrder",
        "processinghandlers" => "ProcessingHandler",
        "ipmanagers" => "IPManager",
        "manualtasks" => "ManualTask",
        other => other,
    };
    (kind, if above == Some("namespaces") { scope } else { "all" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use kube::core::DeserializeGuard;
    use serde_json::{Value, json};

    #[test]
    fn what_cannot_be_read_is_counted_and_a_handler_of_this_kind_is_not_ready() {
        let guarded = |object: &Value| Arc::new(serde_json::from_value::<Guarded<ProcessingHandler>>(object.clone()).unwrap());
        let readable = serde_json::to_value(samples::handler(&json!({"metadata": {"name": "a"}}))).unwrap();
        let mut broken = readable.clone();
        broken["metadata"]["name"] = "b".into();
        broken["spec"]["module"] = json!({"of": "a later version"});
        let task: Guarded<ManualTask> = serde_json::from_value(json!({"metadata": {"name": "t", "namespace": "h"}, "spec": 7})).unwrap();
        assert!(matches!(&task, DeserializeGuard(Err(_))));
        let mut cached = Cached {
            handlers: vec![guarded(&readable), guarded(&broken)],
            ipmanagers: Vec::new(),
            orders: Vec::new(),
            tasks: vec![Arc::new(task)],
        };
        let metrics = Metrics::default();
        let ready = || ["a", "b"].map(|name| metrics.handler_ready.of([&format!("h/{name}")]).get());
        let counted = || ["ProcessingHandler", "IPManager", "DedicatedServerOrder", "ManualTask"].map(|k| metrics.unreadable.of([k]).get());
        assert!(metrics.unreadable.is_empty(), "nothing is said before the caches are complete");
        objects(&metrics, &cached, Timestamp::now());
        assert_eq!((metrics.unreadable.len(), counted()), (4, [1, 0, 0, 1]));
        assert_eq!((metrics.handler_ready.len(), ready()[1]), (2, 0));
        // Corrected.
        cached.handlers[1] = guarded(&readable);
        cached.tasks.clear();
        objects(&metrics, &cached, Timestamp::now());
        assert_eq!((metrics.handler_ready.len(), counted()), (1, [0; 4]));
    }

    #[test]
    fn a_replica_leads_for_as_long_as_it_may_write() {
        let metrics = Metrics::default();
        let fence = Fence::closed();
        leads(&metrics, &fence);
        assert_eq!(metrics.leader.of([]).get(), 0);
        fence.renewed(Instant::now());
        leads(&metrics, &fence);
        assert_eq!(metrics.leader.of([]).get(), 1);
        leads(&metrics, &Fence::closed());
        assert_eq!(metrics.leader.of([]).get(), 0);
    }

    #[test]
    fn a_watch_that_was_never_accepted_grows_old_too() {
        let metrics = Metrics::default();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let beats = BTreeMap::from([
            (
                "/apis/dci-operator.dev/v1alpha1/dedicatedserverorders".to_owned(),
                Beat { tried: ago(2), opened: Some(ago(40)), refused: None },
            ),
            (
                "/apis/dci-operator.dev/v1alpha1/namespaces/shop/manualtasks".to_owned(),
                Beat { tried: ago(1), opened: None, refused: Some(403) },
            ),
        ]);
        let mut first = BTreeMap::from([("/apis/dci-operator.dev/v1alpha1/namespaces/shop/manualtasks".to_owned(), ago(500))]);
        watches(&metrics, &beats, &mut first);
        assert_eq!(metrics.watch_age.of(["DedicatedServerOrder", "all"]).get(), 40);
        assert_eq!(metrics.watch_age.of(["ManualTask", "shop"]).get(), 500);
    }
}
