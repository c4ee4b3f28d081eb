//! How a reconcile is run: contained, timed, counted, and repeated with a back-off of its own.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use kube::ResourceExt;
use kube::core::{NamespaceResourceScope, Resource};
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::api::common::ObjectKey;

use super::context::{Context, FirstLists};
use super::metrics::queue::Depth;
use super::panels::lock;
use super::stores::Guarded;

/// The longest one reconcile may take: a stuck one must not hold its object for ever.
pub const RECONCILE_TIMEOUT: Duration = Duration::from_mins(10);

/// How long first lists may take before it is told which of them all others wait for.
const FIRST_LISTS: Duration = Duration::from_mins(1);

/// What a reconcile failed with.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It said so.
    #[error("{0}")]
    Failed(String),
    /// It panicked: contained, so that the other objects go on.
    #[error("reconcile panicked: {0}")]
    Panicked(String),
    /// It did not end in time.
    #[error("reconcile did not end within {RECONCILE_TIMEOUT:?}")]
    TimedOut,
}

impl ReconcileError {
    fn label(&self) -> &'static str {
        match self {
            Self::Failed(_) => "error",
            Self::Panicked(_) => "panic",
            Self::TimedOut => "timeout",
        }
    }
}

/// Runs a future so that neither a panic nor a hang of it gets out.
pub async fn contained<F, E>(limit: Duration, work: F) -> Result<Action, ReconcileError>
where
    F: Future<Output = Result<Action, E>>,
    E: Display,
{
    match tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(Ok(action))) => Ok(action),
        Ok(Ok(Err(error))) => Err(ReconcileError::Failed(error.to_string())),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
            Err(ReconcileError::Panicked(text.unwrap_or_else(|| "no message".into())))
        }
        Err(_) => Err(ReconcileError::TimedOut),
    }
}

/// Failures in a row by object: kube's own error policy knows nothing of the attempts before.
#[derive(Default)]
pub struct Failures(Mutex<BTreeMap<String, u32>>);

impl Failures {
    /// One more failure: how long to wait.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = lock(&self.0);
        let count = failures.entry(object.to_owned()).or_default();
        let wait = Duration::from_millis(500 << (*count).min(7)).min(Duration::from_secs(30));
        *count = count.saturating_add(1);
        wait
    }

    /// A success: the object is forgotten, so that the map never grows.
    pub fn succeeded(&self, object: &str) {
        lock(&self.0).remove(object);
    }

    /// Objects that fail at the moment.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// Whether none fails.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Says in each minute which first lists hold back every reconcile, those of other kinds and namespaces too, until none does.
pub async fn tell_what_is_awaited(first_lists: &FirstLists) {
    while tokio::time::timeout(FIRST_LISTS, first_lists.all()).await.is_err() {
        let awaited = first_lists.awaited().collect::<Vec<_>>().join(", ");
        tracing::warn!(%awaited, "nothing is reconciled before each watch has had its first list");
    }
}

/// Runs the controller of one kind in one scope part until `stop` turns true. Nothing is reconciled before every cache of the process
/// has had its first list: a handler that is not known yet would look like one that does not exist. `vanished`: an object was to be
/// reconciled and is not there any more.
pub async fn run<K, F, Fut, E>(
    context: Arc<Context>,
    triggers: impl Stream<Item = Guarded<K>> + Send + 'static,
    store: Store<Guarded<K>>,
    wakes: impl Stream<Item = ObjectRef<Guarded<K>>> + Send + 'static,
    mut stop: watch::Receiver<bool>,
    reconcile: F,
    vanished: impl Fn(&Context, &ObjectKey) + Send + 'static,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    F: Fn(Arc<Guarded<K>>, Arc<Context>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<Action, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let shared = context.clone();
    let failures = Arc::new(Failures::default());
    let (counted, blamed, forgotten) = (failures.clone(), failures.clone(), failures);
    let depth = Depth::new(&context.metrics, &kind);
    let (changed, woken, gone) = (depth.clone(), depth.clone(), depth.clone());
    let triggers = triggers.inspect(move |object| changed.triggered(&identity(object)));
    let wakes = wakes.inspect(move |object| woken.triggered(&name_of(object.namespace.as_deref(), &object.name)));
    let stopping = stop.clone();
    // No limit on concurrency here: kube's queue knows no priorities, so that a limit would make a new order wait behind
    // thousands of others. What is scarce is the panel, and each panel's client bounds its own requests.
    Controller::for_stream(triggers.map(Ok::<_, watcher::Error>), store)
        .with_config(Config::default().concurrency(0))
        .reconcile_on(wakes)
        .graceful_shutdown_on(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .run(
            move |object, context: Arc<Context>| {
                let (reconcile, counted, kind, depth) = (reconcile.clone(), counted.clone(), kind.clone(), depth.clone());
                let mut stopping = stopping.clone();
                let span = super::trace::reconcile(object.as_ref());
                async move {
                    let known = tokio::select! {
                        known = context.first_lists.all() => known,
                        _ = stopping.wait_for(|stop| *stop) => false,
                    };
                    if !known {
                        return Ok(Action::await_change());
                    }
                    let id = identity(object.as_ref());
                    let _running = depth.started(&id);
                    let began = Instant::now();
                    let result = contained(RECONCILE_TIMEOUT, reconcile(object, context.clone())).await;
                    let label = result.as_ref().map_or_else(ReconcileError::label, |_| "ok");
                    context.metrics.reconciles.of([&kind, label]).inc();
                    context.metrics.reconcile_duration.of([&kind, label]).observe(began.elapsed().as_secs_f64());
                    depth.ended(&id, result.is_ok());
                    match &result {
                        Ok(_) => counted.succeeded(&id),
                        Err(error @ ReconcileError::Failed(_)) => tracing::warn!(%kind, object = %id, %error, "reconcile failed"),
                        Err(error @ (ReconcileError::Panicked(_) | ReconcileError::TimedOut)) => {
                            tracing::error!(%kind, object = %id, %error, "reconcile failed");
                        }
                    }
                    result
                }
                .instrument(span)
            },
            move |object, _, _| Action::requeue(blamed.failed(&identity(object.as_ref()))),
            context,
        )
        .for_each(move |result| {
            if let Err(controller::Error::ObjectNotFound(object)) = result {
                let id = name_of(object.namespace.as_deref(), &object.name);
                gone.gone(&id);
                // One that is made anew under this name has not failed yet.
                forgotten.succeeded(&id);
                vanished(&shared, &ObjectKey { namespace: object.namespace.unwrap_or_default(), name: object.name });
            }
            futures::future::ready(())
        })
        .await;
}

fn identity<K: Resource>(object: &K) -> String {
    name_of(object.meta().namespace.as_deref(), &object.name_any())
}

fn name_of(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_own_object_only() {
        let work = async {
            let nothing: Option<Action> = std::hint::black_box(None);
            Ok::<_, String>(nothing.expect("poison"))
        };
        let error = contained(Duration::from_secs(5), work).await.unwrap_err();
        assert!(matches!(&error, ReconcileError::Panicked(text) if text == "poison"), "{error}");
    }

    /// What panics may have formatted all that it has at hand.
    #[tokio::test]
    async fn a_panic_beside_a_password_does_not_show_it() {
        use crate::panel::settings::ConnectionSettings;
        let settings = ConnectionSettings::new("https://dci.example.net/dcimgr", "operator", "pl4nted".to_owned().into());
        let work = async move {
            let nothing: Result<Action, String> = Err(format!("{settings:?}"));
            Ok::<_, String>(std::hint::black_box(nothing).unwrap())
        };
        let error = format!("{0} {0:?}", contained(Duration::from_secs(5), work).await.unwrap_err());
        assert!(error.contains("reconcile panicked") && error.contains("dci.example.net"), "{error}");
        assert!(!error.contains("pl4nted"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_ends() {
        let work = async {
            futures::future::pending::<()>().await;
            Ok::<_, String>(Action::await_change())
        };
        assert!(matches!(contained(Duration::from_mins(10), work).await, Err(ReconcileError::TimedOut)));
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_list_that_holds_all_others_back_is_told_in_each_minute() {
        let lines = Lines::default();
        let written = lines.clone();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(move || lines.clone()).finish());
        let ((seen, hosting), (unseen, shop)) = (watch::channel(false), watch::channel(false));
        seen.send_replace(true);
        let first_lists = FirstLists::new(vec![("orders in hosting".into(), hosting), ("orders in shop".into(), shop)]);
        let told = || String::from_utf8_lossy(&lock(&written.0)).lines().map(str::to_owned).collect::<Vec<_>>();
        let waiting = tell_what_is_awaited(&first_lists);
        tokio::pin!(waiting);
        for (seconds, so_often) in [(59, 0), (2, 1), (60, 2)] {
            assert!(tokio::time::timeout(Duration::from_secs(seconds), &mut waiting).await.is_err());
            assert_eq!(told().len(), so_often, "{:?}", told());
        }
        assert!(told().iter().all(|line| line.contains("orders in shop") && !line.contains("hosting")), "{:?}", told());
        unseen.send_replace(true);
        waiting.await;
        assert_eq!(told().len(), 2);
    }

    #[test]
    fn failures_are_spaced_and_forgotten() {
        let failures = Failures::default();
        let waits: Vec<u128> = (0..9).map(|_| failures.failed("a/b").as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        failures.succeeded("a/b");
        assert!(failures.is_empty());
        assert_eq!(failures.failed("a/b").as_millis(), 500);
    }
}
