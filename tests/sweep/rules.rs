//! Feeds what happens in a run to the invariants (`tests/invariants`), in the order in which it happens: requests as they pass the proxy, and
//! objects as the operator writes them. What others write comes from watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use dci_operator::sim::Window;
use serde_json::Value;

use crate::invariants::{Call, Invariants};
use crate::proxy::{KUBE, Letter, Observer};
use crate::support::objects::{PANEL_PASSWORD, POOL_PASSWORD};
use crate::support::record::Record;

/// Kinds that rules speak of.
const KINDS: [&str; 4] = ["DedicatedServerOrder", "ProcessingHandler", "ManualTask", "Secret"];

/// Kind and uid.
type Key = (String, String);

struct Inner {
    invariants: Invariants,
    /// Objects as they were seen last, by kind and uid.
    objects: BTreeMap<Key, Value>,
    /// Those that are gone: an answer that comes late does not bring them back.
    gone: BTreeSet<Key>,
    wrong: Vec<String>,
}

/// The rules of one run.
pub struct Rules {
    window: Window,
    began: Instant,
    inner: Mutex<Inner>,
}

fn key(object: &Value) -> Key {
    (object["kind"].as_str().unwrap_or_default().to_owned(), object["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or_default()
}

impl Rules {
    /// `decision`: how old what was read may be when it is acted upon where nothing went wrong lately, in milliseconds.
    pub fn new(window: Window, decision: u64) -> Arc<Self> {
        let mut invariants = Invariants::new(&[PANEL_PASSWORD, POOL_PASSWORD]);
        invariants.decision = decision;
        Arc::new(Self {
            window,
            began: Instant::now(),
            inner: Mutex::new(Inner { invariants, objects: BTreeMap::new(), gone: BTreeSet::new(), wrong: Vec::new() }),
        })
    }

    fn now(&self) -> u64 {
        self.since(Instant::now())
    }

    fn since(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap()
    }

    fn call(&self, letter: &Letter) -> Option<Call> {
        let body = String::from_utf8_lossy(&letter.body);
        let read = || Call { began: self.since(letter.at), ..Call::read(&letter.who.to_string(), &letter.side, &body) };
        (letter.side != KUBE).then(read)
    }

    /// An object as it is since somebody wrote it. An older version than the one that is known says nothing.
    pub fn object(&self, object: &Value) {
        let key = key(object);
        if !KINDS.contains(&key.0.as_str()) {
            return;
        }
        let panels = self.panels(&key);
        let mut inner = self.inner.lock().unwrap();
        let before = inner.objects.get(&key).cloned();
        if inner.gone.contains(&key) || before.as_ref().is_some_and(|before| version(before) >= version(object)) {
            return;
        }
        let found = inner.invariants.changed(before.as_ref(), Some(object), &panels);
        inner.wrong.extend(found);
        inner.objects.insert(key, object.clone());
    }

    /// What an order leaves behind is looked at where it goes.
    fn panels(&self, key: &Key) -> Value {
        if key.0 == "DedicatedServerOrder" { self.window.state() } else { Value::Null }
    }

    /// An object is gone. Where another one has its name already, that one has taken its place.
    pub fn gone(&self, key: &Key) {
        let panels = self.panels(key);
        let mut inner = self.inner.lock().unwrap();
        inner.gone.insert(key.clone());
        let Some(last) = inner.objects.remove(key) else { return };
        let name = |o: &Value| [&o["kind"], &o["metadata"]["namespace"], &o["metadata"]["name"]].map(Value::to_string);
        if inner.objects.values().all(|other| name(other) != name(&last)) {
            let found = inner.invariants.changed(Some(&last), None, &panels);
            inner.wrong.extend(found);
        }
    }

    /// A task is about to be closed by whoever it is for: the operator may act upon that before anybody else has seen it.
    pub fn closing(&self, task: &Value, resolution: &str) {
        let mut closed = task.clone();
        closed["spec"]["resolution"] = resolution.into();
        let mut inner = self.inner.lock().unwrap();
        let found = inner.invariants.changed(Some(task), Some(&closed), &Value::Null);
        inner.wrong.extend(found);
    }

    /// A person does something to a server.
    pub fn by_hand(&self, server: &str) {
        let now = self.now();
        self.inner.lock().unwrap().invariants.by_hand(server, now);
    }

    /// What is broken so far.
    pub fn wrong(&self) -> Vec<String> {
        self.inner.lock().unwrap().wrong.clone()
    }
}

impl Observer for Rules {
    fn sent(&self, letter: &Letter) {
        if let Some(fault) = &letter.fault {
            let until = self.since(letter.at + fault.lasts());
            self.inner.lock().unwrap().invariants.disturbed(until);
        }
        let Some(call) = self.call(letter) else { return };
        let panels = if call.releases() { self.window.state() } else { Value::Null };
        let now = self.now();
        let mut inner = self.inner.lock().unwrap();
        let found = inner.invariants.sent(&call, now, &panels);
        inner.wrong.extend(found);
    }

    fn applied(&self, letter: &Letter, status: u16, answer: &[u8]) {
        if !letter.change {
            return;
        }
        if letter.side == KUBE {
            if (200..300).contains(&status)
                && let Ok(object) = serde_json::from_slice::<Value>(answer)
            {
                self.object(&object);
            }
            return;
        }
        let state = self.window.state();
        let mut inner = self.inner.lock().unwrap();
        let found = inner.invariants.panels(&state);
        inner.wrong.extend(found);
    }

    fn answered(&self, letter: &Letter, answer: &[u8]) {
        let Some(mut call) = self.call(letter) else { return };
        call.answer = Some(String::from_utf8_lossy(answer).into_owned());
        self.inner.lock().unwrap().invariants.answered(&call);
    }
}

/// Tells the rules of what the watches see. The record tells of what is gone only by its not being there any more.
pub async fn follow(record: Record, rules: Arc<Rules>) {
    let (mut changes, mut seen, mut there) = (record.changes(), 0, BTreeSet::new());
    loop {
        let new = record.since(seen);
        seen += new.len();
        for object in &new {
            rules.object(object);
            there.insert(key(object));
        }
        let now: BTreeSet<Key> = KINDS.iter().flat_map(|kind| record.all(kind)).map(|object| key(&object)).collect();
        for gone in there.extract_if(.., |key| !now.contains(key)) {
            rules.gone(&gone);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
