//! Counts the gauges anew every few seconds for as long as the process lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::controller::clients::{Beat, Pulse};
use crate::controller::context::Context;

use super::{Counted, Metrics, add, counts, tasks};

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps the gauges.
pub async fn keep(context: Arc<Context>, pulse: Pulse) {
    context.metrics.build_info.of([env!("CARGO_PKG_VERSION")]).set(1);
    let mut first = BTreeMap::new();
    loop {
        context.metrics.leader.of([]).set(i64::from(context.fence.is_open()));
        watches(&context.metrics, &pulse.beats(), &mut first);
        // Half a cache would say that orders have no handler. A replica that stands by has none, and shows nothing.
        if context.first_lists.awaited().next().is_none() {
            objects(&context, Timestamp::now());
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn objects(context: &Context, now: Timestamp) {
    let handlers = context.handlers.all();
    let ipmanagers = context.ipmanagers.all();
    let orders = context.orders.all();
    let all = counts::Objects {
        handlers: handlers.iter().filter_map(|o| o.0.as_ref().ok()).collect(),
        ipmanagers: ipmanagers.iter().filter_map(|o| o.0.as_ref().ok()).collect(),
        orders: orders.iter().filter_map(|o| o.0.as_ref().ok()).collect(),
    };
    counts::publish(&context.metrics, &all, now);
    let found = context.tasks.all();
    tasks::publish(&context.metrics, &all.handlers, found.iter().filter_map(|o| o.0.as_ref().ok()), now);
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
    metrics.watch_age.replace(ages);
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
