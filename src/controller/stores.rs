//! Watches and caches: one stream per kind and scope, each with its own back-off, pruned before it is kept.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope, Resource};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::api::common::ObjectKey;

/// Which namespaces are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Cluster,
    /// These only.
    Namespaces(Vec<String>),
}

impl Scope {
    /// One entry for each watch.
    #[must_use]
    pub fn parts(&self) -> Vec<Option<String>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }

    /// Whether objects of a namespace are seen.
    #[must_use]
    pub fn sees(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespaces(names) => names.iter().any(|n| n == namespace),
        }
    }
}

/// An object as it is cached: one that cannot be read keeps its metadata and stops nobody else.
pub type Guarded<K> = DeserializeGuard<K>;

/// The caches of one kind, one for each scope part.
pub struct Kind<K: Resource<DynamicType = ()> + 'static> {
    parts: Vec<Store<Guarded<K>>>,
}

impl<K: Resource<DynamicType = ()> + Clone> Clone for Kind<K> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<K> Kind<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Caches around these stores.
    #[must_use]
    pub fn new(parts: Vec<Store<Guarded<K>>>) -> Self {
        Self { parts }
    }

    /// A readable object by namespace and name.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<K> {
        self.find(key)?.ok()
    }

    /// An object by namespace and name; `Err` with the reason for one that is there and cannot be read.
    #[must_use]
    pub fn find(&self, key: &ObjectKey) -> Option<Result<K, String>> {
        Some(self.cached(key)?.0.as_ref().cloned().map_err(|invalid| invalid.error.clone()))
    }

    fn cached(&self, key: &ObjectKey) -> Option<Arc<Guarded<K>>> {
        let reference = ObjectRef::<Guarded<K>>::new(&key.name).within(&key.namespace);
        self.parts.iter().find_map(|store| store.get(&reference))
    }

    /// What is looked for in one readable object, without a copy of it.
    pub fn look<T>(&self, key: &ObjectKey, look: impl FnOnce(&K) -> T) -> Option<T> {
        self.cached(key)?.0.as_ref().ok().map(look)
    }

    /// Every object, as it stands in the cache; [`readable`] borrows the readable ones of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Guarded<K>>> {
        self.parts.iter().flat_map(Store::state).collect()
    }

    /// What is looked for in each readable object.
    pub fn read<T>(&self, mut look: impl FnMut(&K) -> Option<T>) -> Vec<T> {
        readable(&self.all()).filter_map(&mut look).collect()
    }
}

/// The readable ones among cached objects: borrowed, since copies of thousands of orders at each poll would be most of the memory.
pub fn readable<K>(objects: &[Arc<Guarded<K>>]) -> impl Iterator<Item = &K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok())
}

/// Where kubectl keeps the manifest as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reconnects quickly at first and then every five seconds at most, with the same small spread for nobody: a watch is cheap,
/// and an order must not wait a minute for a server that is back.
#[derive(Clone, Debug)]
struct Reconnect(u32);

impl Iterator for Reconnect {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_millis(200 << self.0.min(5)).min(Duration::from_secs(5));
        self.0 = self.0.saturating_add(1);
        Some(wait)
    }
}

impl Backoff for Reconnect {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// A watch at work: the stream that a controller is triggered by, and the cache that it fills.
pub struct Watched<K: Resource<DynamicType = ()> + 'static, S> {
    /// Objects that were applied or deleted, also those that went while the watch was away.
    pub stream: S,
    /// Cache.
    pub store: Store<Guarded<K>>,
    /// True once the first list is complete. Derived from the stream itself: waiting on the store loses wake-ups when several wait.
    pub synced: watch::Receiver<bool>,
}

/// Watches one kind in one scope part. Errors are logged and swallowed here, so that no other watch shares the back-off.
#[must_use]
pub fn watched<K>(client: &Client, namespace: Option<&str>) -> Watched<K, impl Stream<Item = Guarded<K>> + Send + use<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<Guarded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // Plain list and watch: streaming lists never become ready on some servers, and there is no fall-back.
    let config = watcher::Config::default().timeout(60).page_size(250);
    let (store, writer) = reflector::store();
    let (tell, synced) = watch::channel(false);
    let kind = K::plural(&()).into_owned();
    let cache = store.clone();
    let mut before = Vec::new();
    let stream = watcher(api, config)
        .backoff(Reconnect(0))
        .modify(|object| {
            // A third of the memory of a cached object is this, and nobody here reads it.
            object.managed_fields_mut().clear();
            // The key stays, and a map that is not there does not appear: patches of metadata are made from what is cached.
            if let Some(applied) = object.meta_mut().annotations.as_mut().and_then(|all| all.get_mut(LAST_APPLIED)) {
                *applied = String::new();
            }
        })
        .reflect(writer)
        .flat_map(move |event| {
            let objects = match event {
                Ok(watcher::Event::Init) => {
                    before = cache.state();
                    Vec::new()
                }
                // A list of several pages is in the cache when all of it is there: whoever were told of an object before would find what it
                // was before the list, and would not be told again.
                Ok(watcher::Event::InitApply(_)) => Vec::new(),
                Ok(watcher::Event::InitDone) => {
                    tell.send_replace(true);
                    let mut all = cache.state();
                    all.extend(missing(std::mem::take(&mut before), &cache));
                    all.sort_by_cached_key(|object| (object.namespace(), object.name_any()));
                    all
                }
                Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => vec![Arc::new(object)],
                Err(error) => {
                    tracing::warn!(%kind, %error, "watch failed; trying again");
                    Vec::new()
                }
            };
            stream::iter(objects.into_iter().map(Arc::unwrap_or_clone))
        });
    Watched { stream, store, synced }
}

/// What is not in the cache any more after another list: no event tells that it was deleted while the watch was away.
fn missing<K>(before: Vec<Arc<Guarded<K>>>, cache: &Store<Guarded<K>>) -> impl Iterator<Item = Arc<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    before.into_iter().filter(|object| cache.get(&ObjectRef::from_obj(object.as_ref())).is_none())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::api::ManualTask;

    /// An API server with these answers, one after the other; the last request is not answered.
    fn server(answers: impl IntoIterator<Item = serde_json::Value>) -> Client {
        let answers = Arc::new(Mutex::new(VecDeque::from_iter(answers)));
        let service = tower::service_fn(move |_: Request<Body>| {
            let answer = answers.lock().unwrap().pop_front();
            async move {
                let Some(answer) = answer else { return futures::future::pending().await };
                Ok::<_, Infallible>(Response::new(Body::from(format!("{answer}\n").into_bytes())))
            }
        });
        Client::new(service, "default")
    }

    fn list(version: &str, names: &[&str]) -> serde_json::Value {
        // What cannot be read as a task goes the same way.
        let metadata = |name: &&str| json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": version});
        let items: Vec<_> = names.iter().map(|name| json!({"metadata": metadata(name), "spec": {}})).collect();
        json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTaskList", "metadata": {"resourceVersion": version}, "items": items})
    }

    fn expired() -> serde_json::Value {
        json!({"type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410,
        }})
    }

    #[tokio::test(start_paused = true)]
    async fn what_went_while_the_watch_was_away_is_told() {
        let client = server([list("1", &["a", "b"]), expired(), list("9", &["b", "c"])]);
        let watched = watched::<ManualTask>(&client, None);
        let names: Vec<String> = watched.stream.take(5).map(|object| object.name_any()).collect().await;
        assert_eq!(names, ["a", "b", "a", "b", "c"]);
        assert_eq!(watched.store.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_of_a_change_finds_it_in_the_cache_though_its_list_has_several_pages() {
        let mut page = list("9", &["a"]);
        page["metadata"]["continue"] = "more".into();
        let client = server([list("1", &["a", "b"]), expired(), page, list("9", &["b"])]);
        let Watched { stream, store, synced: _ } = watched::<ManualTask>(&client, None);
        let versions = |object: Guarded<ManualTask>| {
            let cached = store.get(&ObjectRef::from_obj(&object)).and_then(|cached| cached.resource_version());
            (object.resource_version(), cached)
        };
        let told: Vec<_> = stream.take(4).map(versions).collect().await;
        let (old, new) = (Some("1".to_owned()), Some("9".to_owned()));
        let both = |version: &Option<String>| (version.clone(), version.clone());
        assert_eq!(told, [both(&old), both(&old), both(&new), both(&new)]);
    }

    #[test]
    fn reconnects_are_quick_and_never_far_apart() {
        let mut backoff = Reconnect(0);
        let waits: Vec<u128> = backoff.by_ref().take(8).map(|d| d.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(), Some(Duration::from_millis(200)));
    }
}
