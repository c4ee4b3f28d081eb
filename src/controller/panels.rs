//! All handlers and IPManagers that the process knows while it runs, and when their panels are asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use kube::Resource;

use crate::api::common::ObjectKey;
use crate::panel::AddressPanel;

use super::runtime::HandlerRuntime;

/// A lock that a panic elsewhere does not poison: every critical section here leaves its data whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An IPManager at work.
#[derive(Clone)]
pub struct PoolRuntime {
    /// The panel; `None` until there is one.
    pub panel: Option<Arc<dyn AddressPanel>>,
    /// Whether it was probed with success.
    pub proven: bool,
    /// Polls since it was last seen that no filter hides addresses.
    pub polls: usize,
    /// Ready, or why not.
    pub ready: Result<(), String>,
    /// Spec and Secret versions that the client was made from.
    pub made_from: String,
}

/// When an object's panel was last asked with success, and for which version of the object.
struct Turn {
    at: Instant,
    asked_for: String,
    success: bool,
}

/// How long a panel is left alone after a failure, whatever happens.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Gone with the last who waits for it.
type WeakTurn = Weak<tokio::sync::Mutex<()>>;

/// All handlers and IPManagers of this process.
#[derive(Default)]
pub struct Panels {
    turns: Mutex<BTreeMap<(&'static str, ObjectKey), Turn>>,
    handlers: Mutex<BTreeMap<ObjectKey, Arc<HandlerRuntime>>>,
    pools: Mutex<BTreeMap<ObjectKey, PoolRuntime>>,
    /// Which object of a name all this is about.
    uids: Mutex<BTreeMap<(&'static str, ObjectKey), String>>,
    /// For each panel: held by whoever records a client's name that is new there.
    naming: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// For each panel and client: held by whoever makes the client's user there.
    making: Mutex<BTreeMap<(String, String), WeakTurn>>,
    /// Licence servers.
    pub licenses: super::license_server::LicenseServers,
}

impl Panels {
    /// A handler; made when it is not there.
    #[must_use]
    pub fn handler(&self, key: &ObjectKey) -> Arc<HandlerRuntime> {
        lock(&self.handlers).entry(key.clone()).or_default().clone()
    }

    /// A handler that there is, for those who ask by a name that anybody may have made up.
    #[must_use]
    pub fn known(&self, key: &ObjectKey) -> Option<Arc<HandlerRuntime>> {
        lock(&self.handlers).get(key).cloned()
    }

    /// Who holds this records a client's name: one after the other, at all handlers of a panel.
    #[must_use]
    pub fn naming(&self, panel: &str) -> Arc<tokio::sync::Mutex<()>> {
        lock(&self.naming).entry(panel.to_owned()).or_default().clone()
    }

    /// Who holds this makes a client's user: one order after the other. Not all clients of a panel together: one that does not answer would
    /// keep each of them for as long as all before it.
    #[must_use]
    pub fn making_user(&self, panel: &str, username: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = lock(&self.making);
        making.retain(|_, turn| turn.strong_count() > 0);
        let key = (panel.to_owned(), username.to_owned());
        if let Some(turn) = making.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        making.insert(key, Arc::downgrade(&turn));
        turn
    }

    /// Forgets an order at every handler; those that may go on because of it.
    #[must_use]
    pub fn forget_order(&self, uid: &str) -> Vec<ObjectKey> {
        self.all().iter().flat_map(|handler| handler.forget(uid)).collect()
    }

    /// Gives an order's places back at every handler; those that may go on because of it.
    #[must_use]
    pub fn leave(&self, uid: &str) -> Vec<ObjectKey> {
        self.all().iter().flat_map(|handler| handler.places(|places| places.leave(uid))).collect()
    }

    fn all(&self) -> Vec<Arc<HandlerRuntime>> {
        lock(&self.handlers).values().cloned().collect()
    }

    /// An object that was made anew under its name is another one, and may speak of another panel: what is known of the one before it is
    /// forgotten, readiness, client and list. Finalizers that were removed by force let that happen unseen.
    pub fn is_about<K: Resource>(&self, kind: &'static str, key: &ObjectKey, object: &K) {
        let Some(uid) = object.meta().uid.clone() else { return };
        let before = lock(&self.uids).insert((kind, key.clone()), uid.clone());
        if before.is_none_or(|before| before == uid) {
            return;
        }
        tracing::warn!(kind, object = %key, "made anew under the same name: what was known of its panel is forgotten");
        if kind == super::handler::KIND {
            self.forget_handler(key);
        } else {
            self.forget_pool(key);
        }
    }

    /// Forgets a handler, of servers or of licences.
    pub fn forget_handler(&self, key: &ObjectKey) {
        self.licenses.forget(key);
        lock(&self.handlers).remove(key);
        lock(&self.turns).remove(&(super::handler::KIND, key.clone()));
        lock(&self.uids).remove(&(super::handler::KIND, key.clone()));
    }

    /// How long until an object's panel is asked again: its own status writes must not make it ask sooner. `None`: now, since
    /// the time has come, or something else is asked for.
    #[must_use]
    pub fn rest(&self, kind: &'static str, key: &ObjectKey, asked_for: &str, interval: Duration) -> Option<Duration> {
        let turns = lock(&self.turns);
        let turn = turns.get(&(kind, key.clone())).filter(|t| t.asked_for == asked_for)?;
        let interval = if turn.success { interval } else { interval.min(AFTER_FAILURE) };
        interval.checked_sub(turn.at.elapsed()).filter(|rest| !rest.is_zero())
    }

    /// Notes that an object's panel was asked. After a failure whatever wakes the object makes it ask again, but for a moment: an error
    /// whose words change each time is written each time, and what is written wakes.
    pub fn asked(&self, kind: &'static str, key: &ObjectKey, asked_for: String, at: Instant, success: bool) {
        lock(&self.turns).insert((kind, key.clone()), Turn { at, asked_for, success });
    }

    /// An IPManager.
    #[must_use]
    pub fn pool(&self, key: &ObjectKey) -> Option<PoolRuntime> {
        lock(&self.pools).get(key).cloned()
    }

    /// Sets an IPManager.
    pub fn set_pool(&self, key: &ObjectKey, pool: PoolRuntime) {
        lock(&self.pools).insert(key.clone(), pool);
    }

    /// Forgets an IPManager.
    pub fn forget_pool(&self, key: &ObjectKey) {
        lock(&self.pools).remove(key);
        lock(&self.turns).remove(&("IPManager", key.clone()));
        lock(&self.uids).remove(&("IPManager", key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::controller::places::{Place, Ticket};
    use crate::provisioning::facts::HandlerState;

    #[test]
    fn a_panel_is_asked_once_for_each_interval_unless_something_else_is_asked_for() {
        let (panels, key) = (Panels::default(), ObjectKey { namespace: "a".into(), name: "b".into() });
        let rest = |asked_for: &str| panels.rest("IPManager", &key, asked_for, Duration::from_mins(1));
        assert_eq!(rest("1"), None, "never asked");
        panels.asked("IPManager", &key, "1".into(), Instant::now(), true);
        assert!(rest("1").is_some_and(|r| r > Duration::from_secs(50)));
        assert_eq!(rest("2"), None, "another generation");
        panels.asked("IPManager", &key, "1".into(), Instant::now(), false);
        assert!(rest("1").is_some_and(|r| r <= AFTER_FAILURE), "a failure is waited after for a moment");
        let before = Instant::now().checked_sub(AFTER_FAILURE).unwrap();
        panels.asked("IPManager", &key, "1".into(), before, false);
        assert_eq!(rest("1"), None, "and not for longer");
    }

    #[test]
    fn a_handler_that_nobody_made_is_not_made_by_asking_for_it() {
        let (panels, key) = (Panels::default(), ObjectKey { namespace: "a".into(), name: "b".into() });
        assert!(panels.known(&key).is_none() && lock(&panels.handlers).is_empty());
        let made = panels.handler(&key);
        assert!(panels.known(&key).is_some_and(|known| Arc::ptr_eq(&known, &made)));
    }

    #[test]
    fn an_order_leaves_its_places_at_every_handler() {
        let panels = Panels::default();
        let key = |name: &str| ObjectKey { namespace: "a".into(), name: name.into() };
        let enter = |handler: &str, order: &str, created: i64| {
            let created = jiff::Timestamp::from_second(created).unwrap();
            let ticket = Ticket { created, uid: order.into(), key: key(order) };
            panels.handler(&key(handler)).places(|places| places.enter(&ticket, false, &BTreeSet::new(), 1))
        };
        for handler in ["one", "other"] {
            assert_eq!((enter(handler, "refused", 1), enter(handler, "waits", 2)), (Place::Taken, Place::Momentarily(0)));
        }
        assert_eq!(panels.leave("refused"), [key("waits"), key("waits")]);
        assert_eq!((enter("one", "waits", 2), enter("other", "waits", 2)), (Place::Taken, Place::Taken));
    }

    #[test]
    fn whoever_makes_the_same_user_shares_a_turn_that_is_forgotten_after_them() {
        let panels = Panels::default();
        let turn = panels.making_user("dci", "acme");
        assert!(Arc::ptr_eq(&turn, &panels.making_user("dci", "acme")));
        assert!(!Arc::ptr_eq(&turn, &panels.making_user("dci", "globex")));
        assert!(!Arc::ptr_eq(&turn, &panels.making_user("dci2", "acme")));
        drop(turn);
        let _other = panels.making_user("dci", "other");
        assert_eq!(lock(&panels.making).len(), 1);
    }

    #[test]
    fn a_handler_that_was_made_anew_is_another_one() {
        let (panels, key) = (Panels::default(), ObjectKey { namespace: "a".into(), name: "b".into() });
        let is_about =
            |kind, uid: &str| panels.is_about(kind, &key, &crate::api::samples::handler(&serde_json::json!({"metadata": {"uid": uid}})));
        let known = || matches!(panels.handler(&key).snapshot(None).state, HandlerState::Ready);
        is_about("ProcessingHandler", "1");
        panels.handler(&key).set_state(HandlerState::Ready);
        panels.asked("ProcessingHandler", &key, "1".into(), Instant::now(), true);
        is_about("ProcessingHandler", "1");
        is_about("IPManager", "7");
        is_about("IPManager", "8");
        assert!(known(), "the same one; an IPManager of that name is none");
        is_about("ProcessingHandler", "2");
        assert!(!known() && panels.rest("ProcessingHandler", &key, "1", Duration::from_mins(1)).is_none());
    }
}
