//! What this process remembers of orders that the cache does not tell: the versions that it wrote, which orders it has begun with, what
//! they were answered at licence servers, and which of them no task can be made for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Instant;

use crate::api::DedicatedServerOrder;
use crate::api::common::ObjectKey;
use crate::provisioning::license_server::LicenseAnswers;
use crate::provisioning::tasks::REFUSED_FOR;

use super::panels::lock;

/// See the module.
#[derive(Default)]
pub struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Versions that were written, by uid: what the cache shows may be older.
    written: BTreeMap<String, u64>,
    /// Orders that somebody else has written meanwhile, by uid: the cache may not show it for long.
    outrun: BTreeSet<String>,
    /// Uid of the order that a pass was begun for.
    begun: BTreeMap<ObjectKey, String>,
    /// What licence servers answered to orders, by uid: no status may tell it yet.
    answers: BTreeMap<String, LicenseAnswers>,
    /// Orders that a task was refused for, by uid: when, and why.
    refused: BTreeMap<String, (Instant, String)>,
}

impl Memory {
    /// A pass begins. Another order had the name before: its uid, where it was never seen to go.
    #[must_use]
    pub fn begin(&self, key: &ObjectKey, uid: &str) -> Option<String> {
        let mut inner = lock(&self.0);
        if inner.begun.get(key).is_some_and(|known| known == uid) {
            return None;
        }
        inner.begun.insert(key.clone(), uid.to_owned())
    }

    /// The uid of an order that is not there any more, where it was never seen to go.
    #[must_use]
    pub fn vanished(&self, key: &ObjectKey) -> Option<String> {
        lock(&self.0).begun.remove(key)
    }

    /// Remembers the version of an order that was just written.
    pub fn wrote(&self, order: &DedicatedServerOrder) {
        if let (Some(uid), Some(version)) = (&order.metadata.uid, version_of(order)) {
            lock(&self.0).written.insert(uid.clone(), version);
        }
    }

    /// Somebody else was quicker to write an order: the next pass does not begin with what the cache shows.
    pub fn outrun(&self, uid: &str) {
        lock(&self.0).outrun.insert(uid.to_owned());
    }

    /// Whether the cache shows an order as it was before this process, or somebody whom it met, wrote it. Of the latter it is said once.
    #[must_use]
    pub fn behind(&self, order: &DedicatedServerOrder) -> bool {
        let Some(uid) = &order.metadata.uid else { return false };
        let mut inner = lock(&self.0);
        let written = inner.written.get(uid).copied();
        inner.outrun.remove(uid) || matches!((written, version_of(order)), (Some(written), Some(seen)) if seen < written)
    }

    /// Keeps what the licence server answered to an order.
    pub fn keep_answers(&self, uid: &str, answers: LicenseAnswers) {
        lock(&self.0).answers.insert(uid.to_owned(), answers);
    }

    /// What it answered to the call that the order's status has in flight: the write that was to tell it may have come to nothing.
    /// Where none is in flight (`asked`) nothing is kept any more.
    #[must_use]
    pub fn answers(&self, uid: &str, asked: bool) -> LicenseAnswers {
        let mut inner = lock(&self.0);
        if !asked {
            inner.answers.remove(uid);
        }
        inner.answers.get(uid).cloned().unwrap_or_default()
    }

    /// A task for an order was refused.
    pub fn no_task(&self, uid: &str, why: &str) {
        lock(&self.0).refused.insert(uid.to_owned(), (Instant::now(), why.to_owned()));
    }

    /// Why no task can be made for an order, as it was said a moment ago.
    #[must_use]
    pub fn unraisable(&self, uid: &str) -> Option<String> {
        self.unraisable_at(uid, Instant::now())
    }

    fn unraisable_at(&self, uid: &str, now: Instant) -> Option<String> {
        let mut inner = lock(&self.0);
        let (since, why) = inner.refused.get(uid)?.clone();
        if now.duration_since(since) < REFUSED_FOR {
            return Some(why);
        }
        inner.refused.remove(uid);
        None
    }

    /// Forgets an order that is gone.
    pub fn forget(&self, key: &ObjectKey, uid: &str) {
        let mut inner = lock(&self.0);
        inner.written.remove(uid);
        inner.outrun.remove(uid);
        inner.answers.remove(uid);
        inner.refused.remove(uid);
        if inner.begun.get(key).is_some_and(|known| known == uid) {
            inner.begun.remove(key);
        }
    }
}

/// Versions are numbers by contract only since 1.35; where one is not, the cache is believed.
fn version_of(order: &DedicatedServerOrder) -> Option<u64> {
    order.metadata.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_somebody_else_wrote_is_read_once() {
        let memory = Memory::default();
        let metadata = json!({"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7"});
        let order: DedicatedServerOrder = crate::api::samples::order(&json!({"metadata": metadata}));
        assert!(!memory.behind(&order));
        memory.outrun("u-1");
        assert!(memory.behind(&order) && !memory.behind(&order));
    }

    #[test]
    fn what_a_licence_server_answered_is_kept_while_the_call_is_in_flight() {
        let (memory, key) = (Memory::default(), ObjectKey { namespace: "shop".into(), name: "web".into() });
        let answers = LicenseAnswers { bought: [("k8s:u-1/Lite".to_owned(), Some("7001".into()))].into(), ..LicenseAnswers::default() };
        memory.keep_answers("u-1", answers.clone());
        assert_eq!((memory.answers("u-1", true), memory.answers("u-2", true)), (answers.clone(), LicenseAnswers::default()));
        assert_eq!(memory.answers("u-1", true), answers, "also by a pass after the next one");
        assert_eq!(memory.answers("u-1", false), LicenseAnswers::default(), "the status tells it by now");
        assert_eq!(memory.answers("u-1", true), LicenseAnswers::default());
        memory.keep_answers("u-1", answers);
        memory.forget(&key, "u-1");
        assert_eq!(memory.answers("u-1", true), LicenseAnswers::default());
    }

    #[test]
    fn that_no_task_can_be_made_is_believed_for_a_minute() {
        let (memory, key) = (Memory::default(), ObjectKey { namespace: "shop".into(), name: "web".into() });
        memory.no_task("u-1", "denied");
        let now = Instant::now();
        let after = |seconds| memory.unraisable_at("u-1", now + std::time::Duration::from_secs(seconds));
        assert_eq!((memory.unraisable("u-1").as_deref(), memory.unraisable("u-2")), (Some("denied"), None));
        assert_eq!((after(53).as_deref(), after(60), after(0)), (Some("denied"), None, None), "then it is tried again");
        memory.no_task("u-1", "denied");
        memory.forget(&key, "u-1");
        assert_eq!(memory.unraisable("u-1"), None);
    }

    #[test]
    fn an_order_that_nobody_saw_go_is_remembered_by_its_name() {
        let (memory, key) = (Memory::default(), ObjectKey { namespace: "shop".into(), name: "web".into() });
        assert_eq!(memory.begin(&key, "u-1"), None);
        assert_eq!(memory.begin(&key, "u-1"), None);
        assert_eq!(memory.begin(&key, "u-2").as_deref(), Some("u-1"), "one was made anew under its name");
        assert_eq!(memory.vanished(&key).as_deref(), Some("u-2"));
        assert_eq!(memory.vanished(&key), None);
        assert_eq!(memory.begin(&key, "u-3"), None);
        memory.forget(&key, "u-3");
        assert_eq!(memory.vanished(&key), None, "it was seen to go");
    }
}
