//! What the process knows of one handler while it runs: client, the shared list, readiness, places, how its orders were judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::common::ObjectKey;
use crate::panel::ServerPanel;
use crate::panel::error::PanelError;
use crate::provisioning::facts::{HandlerState, Inventory};
use crate::provisioning::order::Handler;
use crate::provisioning::selection::PassedOver;

use super::panels::lock;
use super::places::Places;

/// The rest of an order that stalled until somebody changes something.
pub const UNTIL_CHANGED: Duration = Duration::MAX;

/// A handler at work.
pub struct HandlerRuntime {
    inner: Mutex<HandlerInner>,
}

struct HandlerInner {
    /// Raised whenever what failed before may work now: other spec, other credentials, ready again.
    epoch: u64,
    /// The epoch that began when the handler turned ready for the first time.
    first_ready: Option<u64>,
    state: HandlerState,
    client: Option<ServerClient>,
    candidate: Option<ServerClient>,
    inventory: Option<Arc<Inventory>>,
    changed: BTreeMap<String, Timestamp>,
    places: Places,
    judged: BTreeMap<String, Passes>,
    credentials_missing: Option<String>,
    /// What the client was made from whose address manager was found to know the orders' addresses.
    pool_known: Option<(String, ObjectKey)>,
    /// Whether the spec that this process saw first is one that the handler's status does not tell of.
    spec_unseen: Option<bool>,
    remarked: BTreeMap<String, Timestamp>,
    strays: BTreeSet<super::strays::Stray>,
    stale_locks: BTreeSet<String>,
    /// Locks may have been left since they were last looked through.
    locks_due: bool,
    /// When the users' Secrets with root passwords were read, by order.
    passwords: BTreeMap<String, Instant>,
}

/// What the passes of this process over an order have come to.
#[derive(Default)]
struct Passes {
    /// The epoch that a pass began in.
    looked: u64,
    /// The epoch that the last pass began in which came to its end: what it decided is saved.
    judged: Option<u64>,
    /// When it was found stalled, and for how long it is left alone.
    stalled: Option<(Instant, Duration)>,
    /// Why the handler was passed over then, in the pass that ended last, for which generation of the order.
    over: Option<(i64, PassedOver)>,
}

/// What is needed to speak with a handler's panel.
#[derive(Clone)]
pub struct ServerClient {
    /// Checked settings.
    pub policy: Handler,
    /// The panel; `None` while this process could not ask it yet.
    pub panel: Option<Arc<dyn ServerPanel>>,
    /// The IPManager it takes addresses from.
    pub pool: Option<ObjectKey>,
    /// Our log-in name.
    pub login: String,
    /// Spec and Secret versions that it was made from.
    pub made_from: String,
    /// Places for preparation; 0 is no limit.
    pub max_operations: usize,
    /// Places for release; 0 is no limit.
    pub max_releases: usize,
}

impl ServerClient {
    /// What stands for a panel that this process could not ask yet: what the handler's spec says is known all the same.
    #[must_use]
    pub fn unasked(policy: Handler) -> Self {
        let (login, made_from) = (String::new(), String::new());
        Self { policy, panel: None, pool: None, login, made_from, max_operations: 0, max_releases: 0 }
    }

    /// The panel; an error where it could not be asked yet.
    pub fn panel(&self) -> Result<&Arc<dyn ServerPanel>, PanelError> {
        let unreachable = || PanelError::Unreachable { panel: self.policy.panel.clone(), detail: "it has not been asked yet".into() };
        self.panel.as_ref().ok_or_else(unreachable)
    }
}

/// What a pass over an order works with.
pub struct Snapshot {
    /// Whether it can be used.
    pub state: HandlerState,
    /// The client; `None` until there is one.
    pub client: Option<ServerClient>,
    /// The shared list.
    pub inventory: Option<Arc<Inventory>>,
    /// When this process last changed the server in question.
    pub changed: Option<Timestamp>,
    /// Why there are no credentials, when that is what this process saw last.
    pub credentials_missing: Option<String>,
    /// See `HandlerInner::epoch`.
    pub epoch: u64,
}

impl Default for HandlerRuntime {
    fn default() -> Self {
        Self {
            inner: Mutex::new(HandlerInner {
                epoch: 0,
                first_ready: None,
                state: HandlerState::NotReady("the handler has not been probed yet".into()),
                client: None,
                candidate: None,
                inventory: None,
                changed: BTreeMap::new(),
                places: Places::default(),
                judged: BTreeMap::new(),
                credentials_missing: None,
                pool_known: None,
                spec_unseen: None,
                remarked: BTreeMap::new(),
                strays: BTreeSet::new(),
                stale_locks: BTreeSet::new(),
                // What a process before this one has left is not known.
                locks_due: true,
                passwords: BTreeMap::new(),
            }),
        }
    }
}

impl HandlerRuntime {
    /// What an order sees now. `server` is its own, if it has one.
    #[must_use]
    pub fn snapshot(&self, server: Option<&str>) -> Snapshot {
        let mut inner = lock(&self.inner);
        not_to_come(&mut inner.inventory, Timestamp::now());
        Snapshot {
            state: inner.state.clone(),
            client: inner.client.clone(),
            inventory: inner.inventory.clone(),
            changed: server.and_then(|s| inner.changed.get(s).copied()),
            credentials_missing: inner.credentials_missing.clone(),
            epoch: inner.epoch,
        }
    }

    /// Sets whether, and why, the last probe found no credentials.
    pub fn set_credentials_missing(&self, why: Option<String>) {
        lock(&self.inner).credentials_missing = why;
    }

    /// Whether the address manager of a client made from this was found to know the orders' addresses.
    #[must_use]
    pub fn knows_pool(&self, made_from: &str) -> bool {
        lock(&self.inner).pool_known.as_ref().is_some_and(|(known, _)| known == made_from)
    }

    /// It was.
    pub fn note_pool(&self, made_from: &str, pool: &ObjectKey) {
        lock(&self.inner).pool_known = Some((made_from.to_owned(), pool.clone()));
    }

    /// Whether this address manager may be another one than the last that was found to know the orders' addresses; where this process knows
    /// of none, whether the spec that it saw first had been seen before.
    #[must_use]
    pub fn may_be_another_pool(&self, pool: &ObjectKey) -> bool {
        let inner = lock(&self.inner);
        inner.pool_known.as_ref().map_or_else(|| inner.spec_unseen == Some(true), |(_, known)| known != pool)
    }

    /// Remembers of the first spec that this process sees whether the status tells of it; later ones change nothing.
    pub fn note_first_spec(&self, seen: bool) {
        lock(&self.inner).spec_unseen.get_or_insert(!seen);
    }

    /// Notes that a server's marker was changed while owner and host name were not: the index is read anew.
    pub fn note_mark(&self, server: &str, at: Timestamp) {
        lock(&self.inner).remarked.insert(server.to_owned(), at);
    }

    /// Servers whose notes have to be read with the next list.
    #[must_use]
    pub fn remarked(&self) -> BTreeSet<String> {
        lock(&self.inner).remarked.keys().cloned().collect()
    }

    /// Replaces what seemed to be astray by what seems so now; returns what was before.
    pub fn replace_strays(&self, now: BTreeSet<super::strays::Stray>) -> BTreeSet<super::strays::Stray> {
        std::mem::replace(&mut lock(&self.inner).strays, now)
    }

    /// Sets a client whose probe succeeded. Orders that gave up before are judged anew.
    pub fn set_client(&self, client: ServerClient) {
        let mut inner = lock(&self.inner);
        inner.candidate = None;
        inner.client = Some(client);
        inner.epoch += 1;
    }

    /// Keeps a client that has not been probed with success: it remembers a refused log-in, so that the account is not locked
    /// by trying the same credentials at every poll.
    pub fn set_candidate(&self, client: ServerClient) {
        lock(&self.inner).candidate = Some(client);
    }

    /// A client that was made from these settings, and whether it was probed with success.
    #[must_use]
    pub fn client_made_from(&self, made_from: &str) -> Option<(ServerClient, bool)> {
        let inner = lock(&self.inner);
        let proven = inner.client.iter().map(|c| (c.clone(), true));
        let tried = inner.candidate.iter().map(|c| (c.clone(), false));
        proven.chain(tried).find(|(c, _)| c.made_from == made_from)
    }

    /// Sets whether the handler can be used; true when that changed.
    pub fn set_state(&self, state: HandlerState) -> bool {
        let mut inner = lock(&self.inner);
        if inner.state == state {
            return false;
        }
        let kind = std::mem::discriminant(&inner.state) != std::mem::discriminant(&state);
        if state == HandlerState::Ready {
            inner.epoch += 1;
            let epoch = inner.epoch;
            inner.first_ready.get_or_insert(epoch);
        }
        inner.state = state;
        kind
    }

    /// See `HandlerInner::epoch`.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        lock(&self.inner).epoch
    }

    /// Publishes a list. Changes that it has seen need not be remembered any longer.
    pub fn set_inventory(&self, inventory: Arc<Inventory>) {
        let mut inner = lock(&self.inner);
        let now = Timestamp::now();
        still_newer(&mut inner.changed, inventory.began, now);
        still_newer(&mut inner.remarked, inventory.began, now);
        inner.inventory = Some(inventory);
        not_to_come(&mut inner.inventory, now);
    }

    /// The list that was published last.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        lock(&self.inner).inventory.clone()
    }

    /// Notes a change to a server: older lists do not speak of it any more.
    pub fn note_change(&self, server: &str, at: Timestamp) {
        let mut inner = lock(&self.inner);
        not_to_come(&mut inner.inventory, at);
        inner.changed.insert(server.to_owned(), at);
    }

    /// The servers that this process changed since the last list.
    #[must_use]
    pub fn changed(&self) -> BTreeSet<String> {
        lock(&self.inner).changed.keys().cloned().collect()
    }

    /// Whether this process has not judged an order since it first saw the handler ready: all that is new then is the process.
    pub fn restarted(&self, uid: &str) -> bool {
        let inner = lock(&self.inner);
        let judged = inner.judged.get(uid).and_then(|order| order.judged);
        inner.first_ready.is_none_or(|ready| judged.is_none_or(|epoch| epoch < ready))
    }

    /// A pass over an order begins: whether the order has not been judged since something about the handler changed. A pass that
    /// fails has judged nothing: what it would have decided is decided by the next one.
    pub fn first_look(&self, uid: &str, epoch: u64) -> bool {
        let mut inner = lock(&self.inner);
        let order = inner.judged.entry(uid.to_owned()).or_default();
        order.looked = epoch;
        order.judged != Some(epoch)
    }

    /// A pass over an order has come to its end, and what was decided is saved. `stalled`: for how long an order is left alone that stalled
    /// ([`UNTIL_CHANGED`]: until handler, order or credentials change).
    pub fn note_judged(&self, uid: &str, stalled: Option<Duration>) {
        let mut inner = lock(&self.inner);
        if let Some(order) = inner.judged.get_mut(uid) {
            order.judged = Some(order.looked);
            order.stalled = stalled.map(|rest| (Instant::now(), rest));
            order.over = None;
        }
    }

    /// Notes, after [`Self::note_judged`], that the order goes on to the next handler.
    pub fn note_over(&self, uid: &str, generation: i64, over: PassedOver) {
        if let Some(order) = lock(&self.inner).judged.get_mut(uid) {
            order.over = Some((generation, over));
        }
    }

    /// Why the order was sent on when it was last looked at here, in this generation.
    #[must_use]
    pub fn over(&self, uid: &str, generation: i64) -> Option<PassedOver> {
        let inner = lock(&self.inner);
        inner.judged.get(uid)?.over.as_ref().filter(|(of, _)| *of == generation).map(|(_, over)| over.clone())
    }

    /// For how long an order is still left alone that stalled. What is stored does not tell: an order that is found as it was is
    /// not written for that.
    #[must_use]
    pub fn rests(&self, uid: &str) -> Option<Duration> {
        let (at, rest) = lock(&self.inner).judged.get(uid)?.stalled?;
        rest.checked_sub(at.elapsed()).filter(|rest| !rest.is_zero())
    }

    /// The same as a time; none where only a change ends it.
    #[must_use]
    pub fn rests_until(&self, uid: &str, now: Timestamp) -> Option<Timestamp> {
        let (_, rest) = lock(&self.inner).judged.get(uid)?.stalled?;
        if rest == UNTIL_CHANGED {
            return None;
        }
        now.checked_add(self.rests(uid)?).ok()
    }

    /// Looks at the places, and changes them.
    pub fn places<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        change(&mut lock(&self.inner).places)
    }

    /// Servers have changed, or an order went: its lock may be left. Remembered until the locks were looked through.
    pub fn note_locks(&self) {
        lock(&self.inner).locks_due = true;
    }

    /// Whether the locks are to be looked through: something has happened since, or some were seen that nobody seemed to need.
    #[must_use]
    pub fn locks_due(&self) -> bool {
        let inner = lock(&self.inner);
        inner.locks_due || !inner.stale_locks.is_empty()
    }

    /// The locks are looked through from now on. What happens meanwhile makes them due again: whether it was seen is not known.
    pub fn begin_sweep(&self) {
        lock(&self.inner).locks_due = false;
    }

    /// Replaces the locks that nobody seemed to need by those of now; returns the ones before.
    pub fn replace_stale_locks(&self, now: BTreeSet<String>) -> BTreeSet<String> {
        std::mem::replace(&mut lock(&self.inner).stale_locks, now)
    }

    /// Forgets an order; those that may go on because of it.
    pub fn forget(&self, uid: &str) -> Vec<ObjectKey> {
        let mut inner = lock(&self.inner);
        // Whether its lock went with it is not known: the answer may be lost, or a person took the finalizer away.
        inner.locks_due |= inner.judged.remove(uid).is_some();
        inner.passwords.remove(uid);
        inner.places.leave(uid)
    }

    /// Whether the Secret with an order's root password was not read within this time by this process.
    #[must_use]
    pub fn password_due(&self, uid: &str, interval: Duration) -> bool {
        lock(&self.inner).passwords.get(uid).is_none_or(|at| at.elapsed() >= interval)
    }

    /// Notes that an order's Secret was read.
    pub fn note_password(&self, uid: &str) {
        lock(&self.inner).passwords.insert(uid.to_owned(), Instant::now());
    }
}

/// Forgets changes that a list has seen which began then. What was noted at a time that is still to come was noted before the clock was
/// put back: the next list has seen it. What a list has seen that was being read when the clock was put back nobody can tell: it makes
/// nothing forgotten.
pub(super) fn still_newer(changes: &mut BTreeMap<String, Timestamp>, began: Timestamp, now: Timestamp) {
    if began > now {
        for at in changes.values_mut() {
            *at = now;
        }
        return;
    }
    changes.retain(|_, at| *at > began);
    for at in changes.values_mut() {
        *at = (*at).min(now);
    }
}

/// A list that began at a time that is still to come did so before the clock was put back: it says nothing of what is changed from now on.
/// When it counts as begun instead.
pub(super) fn put_back(began: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (began > now).then(|| now.checked_sub(Duration::from_nanos(1)).unwrap_or(now))
}

fn not_to_come(list: &mut Option<Arc<Inventory>>, now: Timestamp) {
    if let Some(list) = list
        && let Some(began) = put_back(list.began, now)
    {
        Arc::make_mut(list).began = began;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_put_back_makes_no_change_newer_than_the_next_list() {
        let second = |at| Timestamp::from_second(at).unwrap();
        let mut changes = BTreeMap::from([("17".to_owned(), second(3600)), ("18".to_owned(), second(5)), ("19".to_owned(), second(12))]);
        still_newer(&mut changes, second(10), second(20));
        assert_eq!(changes, BTreeMap::from([("17".to_owned(), second(20)), ("19".to_owned(), second(12))]));
        still_newer(&mut changes, second(21), second(22));
        assert!(changes.is_empty(), "{changes:?}");
    }

    #[test]
    fn a_list_from_before_the_clock_was_put_back_is_not_believed_of_what_is_changed_afterwards() {
        use crate::panel::model::ServerRow;
        use crate::provisioning::facts::Row;
        let handler = HandlerRuntime::default();
        let began = Timestamp::now().checked_add(Duration::from_hours(1)).unwrap();
        let list = |began| {
            let rows = [("17".to_owned(), ServerRow::blank("17"))].into();
            Arc::new(Inventory { rows, began, ..Inventory::default() })
        };
        // It is published, and then the clock is put back.
        lock(&handler.inner).inventory = Some(list(began));
        let shows = |handler: &HandlerRuntime| {
            let seen = handler.snapshot(Some("17"));
            matches!(seen.inventory.unwrap().row("17", seen.changed), Row::There(_))
        };
        assert!(shows(&handler), "nothing has changed since");
        handler.note_change("17", Timestamp::now());
        assert!(!shows(&handler));
        // It is being read when the clock is put back and the server changed: nobody knows which came first.
        let handler = HandlerRuntime::default();
        handler.note_change("17", Timestamp::now());
        handler.set_inventory(list(began));
        assert!(!shows(&handler));
        handler.set_inventory(list(Timestamp::now()));
        assert!(shows(&handler), "the next list has seen it");
        // The same where nobody has looked at the list in between.
        let handler = HandlerRuntime::default();
        lock(&handler.inner).inventory = Some(list(began));
        let at = Timestamp::now();
        handler.note_change("17", at);
        assert!(handler.inventory().unwrap().began < at);
    }

    #[test]
    fn what_happens_while_the_locks_are_looked_through_makes_them_due_again() {
        let handler = HandlerRuntime::default();
        assert!(handler.locks_due(), "what a process before has left is not known");
        handler.begin_sweep();
        assert!(!handler.locks_due());
        handler.note_locks();
        assert!(handler.replace_stale_locks(BTreeSet::new()).is_empty() && handler.locks_due());
        handler.begin_sweep();
        handler.replace_stale_locks(["dci-1".to_owned()].into());
        assert!(handler.locks_due(), "one is to be seen twice");
    }

    #[test]
    fn an_order_is_judged_anew_once_for_each_epoch() {
        let handler = HandlerRuntime::default();
        assert!(handler.first_look("a", 1));
        assert!(handler.first_look("a", 1), "the pass before failed");
        handler.note_judged("a", None);
        assert!(!handler.first_look("a", 1));
        assert!(handler.first_look("a", 2));
        handler.note_judged("a", None);
        assert!(!handler.first_look("a", 2));
        assert!(handler.first_look("b", 2), "another order");
        // What is learned while a pass is under way concerns the next one.
        assert!(handler.first_look("a", 3));
        handler.note_judged("a", None);
        assert!(handler.first_look("a", 4));
    }

    #[test]
    fn an_order_that_stalled_is_left_alone_for_its_time() {
        let handler = HandlerRuntime::default();
        assert_eq!(handler.rests("a"), None);
        let _ = handler.first_look("a", 1);
        handler.note_judged("a", Some(Duration::from_mins(5)));
        assert!(handler.rests("a").is_some_and(|rest| rest > Duration::from_mins(4)));
        let now = Timestamp::now();
        assert!(handler.rests_until("a", now).is_some_and(|at| at > now));
        handler.note_judged("a", Some(UNTIL_CHANGED));
        assert!(handler.rests("a").is_some() && handler.rests_until("a", now).is_none(), "no time ends it");
        handler.note_judged("a", Some(Duration::ZERO));
        assert_eq!(handler.rests("a"), None, "it is over");
        handler.note_judged("a", None);
        assert_eq!(handler.rests("a"), None, "it goes on");
    }
}
