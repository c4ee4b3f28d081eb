//! Everything that the API server says about the objects of a test: every version is kept, and held against the rules
//! (`tests/invariants`) as far as they need no requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::invariants::Invariants;

/// The kinds of this project.
pub const KINDS: [(&str, &str); 4] = [
    ("DedicatedServerOrder", "dedicatedserverorders"),
    ("ProcessingHandler", "processinghandlers"),
    ("IPManager", "ipmanagers"),
    ("ManualTask", "manualtasks"),
];

/// Watched as well, since passwords are kept there. Nothing of them is in what tests search for secrets.
const SECRET: &str = "Secret";

/// How a kind is reached.
pub fn resource(kind: &str) -> ApiResource {
    if kind == SECRET {
        let (version, plural) = ("v1".to_owned(), "secrets".to_owned());
        return ApiResource { group: String::new(), api_version: version.clone(), version, kind: kind.into(), plural };
    }
    let plural = KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
    ApiResource {
        group: "dci-operator.dev".into(),
        version: "v1alpha1".into(),
        api_version: "dci-operator.dev/v1alpha1".into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}

#[derive(Default)]
struct Inner {
    now: BTreeMap<(String, String), Value>,
    history: Vec<Value>,
    /// The uids of all orders.
    ids: BTreeSet<String>,
    rules: Invariants,
    violations: Vec<String>,
    /// What has changed since it was last taken, by whoever asked for it: instead of the history, which would grow without end.
    changes: Option<Vec<Change>>,
}

/// An object before and after: nothing before where it is new, nothing after where it is gone.
pub type Change = (Option<Value>, Option<Value>);

/// What was seen so far.
#[derive(Clone)]
pub struct Record {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
}

/// The watches behind a record; they end with it.
pub struct Watches(Vec<JoinHandle<()>>);

impl Drop for Watches {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// How an object was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Its watch told a change.
    Changed,
    /// In the list with which a watch begins, also anew.
    Listed,
    /// Its watch told that it is gone.
    Gone,
}

impl Record {
    /// Watches namespaces; the watches stand when this returns.
    pub async fn start(client: &Client, namespaces: &[&str], secrets: Vec<String>) -> (Self, Watches) {
        let mut rules = Invariants::default();
        (rules.secrets, rules.blind) = (secrets, true);
        let inner = Arc::new(Mutex::new(Inner { rules, ..Inner::default() }));
        let record = Self { inner, changed: watch::Sender::new(0) };
        let mut tasks = Vec::new();
        let mut standing = Vec::new();
        for namespace in namespaces {
            for kind in KINDS.map(|(kind, _)| kind).into_iter().chain([SECRET]) {
                let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(kind));
                let (ready, stands) = watch::channel(false);
                standing.push(stands);
                tasks.push(tokio::spawn(follow(record.clone(), api, kind, ready)));
            }
        }
        for mut stands in standing {
            stands.wait_for(|ready| *ready).await.unwrap();
        }
        (record, Watches(tasks))
    }

    /// What has changed since this was last asked; the first time: from now on. Versions are not kept any more then.
    pub fn take_changes(&self) -> Vec<Change> {
        let mut inner = self.inner.lock().unwrap();
        inner.history.clear();
        inner.changes.replace(Vec::new()).unwrap_or_default()
    }

    /// No status may hold this.
    pub fn forbid(&self, secret: &str) {
        self.inner.lock().unwrap().rules.secrets.push(secret.to_owned());
    }

    /// An object as it was seen last.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.inner.lock().unwrap().now.get(&(kind.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a kind as they were seen last.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.inner.lock().unwrap().now.iter().filter(|((k, _), _)| k == kind).map(|(_, object)| object.clone()).collect()
    }

    /// Every version of an object, or of all of its kind where no name is given, the oldest first.
    pub fn versions(&self, kind: &str, name: &str) -> Vec<Value> {
        let inner = self.inner.lock().unwrap();
        let named = |o: &&Value| name.is_empty() || o["metadata"]["name"] == name;
        inner.history.iter().filter(|o| o["kind"] == kind).filter(named).cloned().collect()
    }

    /// What was seen after so many versions of anything.
    pub fn since(&self, count: usize) -> Vec<Value> {
        let inner = self.inner.lock().unwrap();
        inner.history.get(count..).unwrap_or_default().to_vec()
    }

    /// Every version of everything.
    pub fn everything(&self) -> String {
        serde_json::to_string(&self.inner.lock().unwrap().history).unwrap()
    }

    /// The uids of all orders that were seen.
    pub fn ids(&self) -> Vec<String> {
        self.inner.lock().unwrap().ids.iter().cloned().collect()
    }

    /// What broke the rules.
    pub fn violations(&self) -> Vec<String> {
        self.inner.lock().unwrap().violations.clone()
    }

    /// A person took an order out of the cluster by force, namespace and name.
    pub fn taken_out(&self, order: &str) {
        self.inner.lock().unwrap().rules.taken_out(order);
    }

    /// A person changes the records of a server, by its id, or those of an address.
    pub fn by_hand(&self, what: &str) {
        self.inner.lock().unwrap().rules.by_hand(what, 0);
    }

    /// A person puts the records of a panel back to what they were: its users are those of then.
    pub fn set_back(&self, panel: &str) {
        self.inner.lock().unwrap().rules.set_back(panel);
    }

    /// What the panels break of the rules, as they are now: two orders with one server, address or licence, what carries the marker of an
    /// order that is gone, and a user that is another one than when this was last asked.
    pub fn broken(&self, panels: &Value) -> Vec<String> {
        self.inner.lock().unwrap().rules.panels(panels)
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn saw(&self, kind: &str, object: DynamicObject, how: Seen) {
        let mut object = serde_json::to_value(object).unwrap();
        object["kind"] = kind.into();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        let mut inner = self.inner.lock().unwrap();
        let key = (kind.to_owned(), name);
        // A new object of an old name begins anew. And what came between two lists nobody has seen: conditions may have turned twice.
        let before = inner.now.get(&key).filter(|b| how != Seen::Listed && b["metadata"]["uid"] == object["metadata"]["uid"]).cloned();
        let gone = how == Seen::Gone;
        // What is gone is told without its finalizers: what it was before counts.
        let change = if gone { (before.or_else(|| Some(object.clone())), None) } else { (before, Some(object.clone())) };
        let found = inner.rules.changed(change.0.as_ref(), change.1.as_ref(), &Value::Null);
        inner.violations.extend(found.into_iter().map(|text| format!("{text}\n{}", object["status"])));
        match &mut inner.changes {
            Some(changes) => changes.push(change),
            None if kind == SECRET => {}
            None => inner.history.push(object.clone()),
        }
        if kind == "DedicatedServerOrder" {
            inner.ids.extend(object["metadata"]["uid"].as_str().map(str::to_owned));
        }
        if gone {
            inner.now.remove(&key);
        } else {
            inner.now.insert(key, object);
        }
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn follow(record: Record, api: Api<DynamicObject>, kind: &'static str, ready: watch::Sender<bool>) {
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => {
                ready.send_replace(true);
            }
            Ok(Event::Apply(object)) => record.saw(kind, object, Seen::Changed),
            Ok(Event::InitApply(object)) => record.saw(kind, object, Seen::Listed),
            Ok(Event::Delete(object)) => record.saw(kind, object, Seen::Gone),
            // The watcher tries again; an API server under load may take its time.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
