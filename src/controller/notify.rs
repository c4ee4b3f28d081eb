//! Telling departments: which notifications are due, which are under way, and what came of them.
//!
//! An attempt is on record before it is made, and its outcome after: a restart neither forgets one nor repeats it more often than
//! its back-off says. Deliveries run beside the reconciles, so that a receiver that hangs holds up neither tasks nor orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::common::{ObjectKey, Time};
use crate::api::department::Webhook;
use crate::api::task::{Notification, TaskStatus};
use crate::api::{ManualTask, ProcessingHandler, check};
use crate::provisioning::context::{SHORT, after, cut};
use crate::provisioning::retry::jittered;

use super::context::Context;
use super::panels::lock;
use super::webhook::{self, Message, TIMEOUT, WebhookError};

/// Time before the second attempt; it doubles from attempt to attempt.
const FIRST: Duration = Duration::from_secs(2);
/// The longest time between two attempts.
const LONGEST: Duration = Duration::from_hours(1);
/// Attempts before a receiver is given up: about a day.
const ATTEMPTS: i32 = 36;
/// Deliveries to one address at a time.
const AT_ONCE: usize = 8;
/// How soon a delivery that found no place is looked at again.
const NO_PLACE: Duration = Duration::from_secs(1);

/// Which notification: uid of the task, event, department.
pub type Key = (String, String, String);

/// Where a delivery of this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// Under way.
    Running,
    /// Over, and not on record yet.
    Ended(Result<(), String>),
}

/// Deliveries under way, and the outcomes of those that are not on record yet.
#[derive(Default)]
pub struct Hooks {
    deliveries: Mutex<BTreeMap<Key, Progress>>,
    places: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Hooks {
    fn place(&self, url: &str) -> Option<OwnedSemaphorePermit> {
        let mut places = lock(&self.places);
        // Addresses that nobody is told at are not kept.
        places.retain(|known, free| known == url || free.available_permits() < AT_ONCE);
        places.entry(url.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone().try_acquire_owned().ok()
    }

    fn get(&self, key: &Key) -> Option<Progress> {
        lock(&self.deliveries).get(key).cloned()
    }

    fn put(&self, key: Key, progress: Progress) {
        lock(&self.deliveries).insert(key, progress);
    }

    /// Tasks went: what is known of deliveries for others than these, by uid, is of no use any more.
    pub fn keep(&self, tasks: &BTreeSet<String>) {
        lock(&self.deliveries).retain(|(uid, ..), progress| *progress == Progress::Running || tasks.contains(uid));
    }

    /// These outcomes are on record.
    pub fn recorded(&self, keys: &[Key]) {
        let mut deliveries = lock(&self.deliveries);
        for key in keys {
            deliveries.remove(key);
        }
    }
}

/// How long after attempt number `attempts` (from 1) the next one is made.
fn pause(attempts: i32, seed: &str) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    jittered(FIRST.saturating_mul(1 << doublings).min(LONGEST), seed, attempts)
}

/// What happens next with the notifications of a task.
#[derive(Default)]
pub struct Turn {
    /// To be started once the status is saved.
    pub deliveries: Vec<Delivery>,
    /// When to look again.
    pub again: Option<Timestamp>,
    /// Outcomes that the status now tells.
    pub recorded: Vec<Key>,
}

/// A delivery about to be made.
pub struct Delivery {
    key: Key,
    task: ObjectKey,
    webhook: Webhook,
    message: Message,
    place: OwnedSemaphorePermit,
}

/// What the handler of a task says of its departments.
pub struct Telling {
    /// The handler that the task names.
    named: Option<ObjectKey>,
    /// As the cache shows it.
    handler: Option<ProcessingHandler>,
}

/// The webhook of a department. Where two departments have one name, the first that has a webhook.
fn webhook_of<'h>(handler: &'h ProcessingHandler, department: &str) -> Option<&'h Webhook> {
    handler.spec.departments.as_ref()?.all().filter(|(name, _)| *name == department).find_map(|(_, webhook)| webhook)
}

impl Telling {
    /// Looks the handler up.
    #[must_use]
    pub fn of(context: &Context, task: &ManualTask) -> Self {
        let namespace = task.namespace().unwrap_or_default();
        let named = task.spec.handler_ref.as_ref().map(|h| ObjectKey { namespace, name: h.name.clone() });
        let handler = named.as_ref().and_then(|key| context.handlers.get(key));
        Self { named, handler }
    }

    /// Whether a department wants to be told. One whose handler cannot be seen now is asked again when it is its turn.
    #[must_use]
    pub fn tells(&self, department: &str) -> bool {
        match &self.handler {
            Some(handler) => webhook_of(handler, department).is_some(),
            None => self.named.is_some(),
        }
    }

    fn webhook(&self, department: &str) -> Result<Webhook, WebhookError> {
        let gone = || WebhookError::Invalid(format!("handler {} does not exist", self.named.clone().unwrap_or_default()));
        let handler = self.handler.as_ref().ok_or_else(gone)?;
        // The twin of the schema's rules: nothing is sent to an address that they refuse.
        if let Some(problem) = check::check_handler(handler).into_iter().find(|p| p.field.contains(".webhook.")) {
            return Err(WebhookError::Invalid(problem.to_string()));
        }
        webhook_of(handler, department).cloned().ok_or_else(|| WebhookError::Invalid(format!("{department} has no webhook")))
    }

    /// Takes what came of deliveries into the status, and plans what is due. To each department one thing after the other.
    #[must_use]
    pub fn next(&self, hooks: &Hooks, task: &ManualTask, status: &mut TaskStatus, now: Timestamp) -> Turn {
        let mut turn = Turn::default();
        let uid = task.uid().unwrap_or_default();
        let key = |told: &Notification| (uid.clone(), told.event.clone(), told.department.clone());
        status.notifications.retain(|told| told.attempts > 0 || told.next_attempt_at.is_none() || self.tells(&told.department));
        for told in status.notifications.iter_mut().filter(|told| told.next_attempt_at.is_some()) {
            if let Some(Progress::Ended(outcome)) = hooks.get(&key(told)) {
                record(told, outcome, now, &uid);
                turn.recorded.push(key(told));
            }
        }
        let mut at_work: Vec<String> = Vec::new();
        for at in 0..status.notifications.len() {
            let told = &status.notifications[at];
            let Some(due) = told.next_attempt_at else { continue };
            if at_work.contains(&told.department) {
                continue;
            }
            at_work.push(told.department.clone());
            if hooks.get(&key(told)) == Some(Progress::Running) {
                continue;
            }
            let mut again = due.0;
            if due.0 <= now {
                again = match self.begin(hooks, task, status, at, key(&status.notifications[at]), now) {
                    Ok(Some(delivery)) => {
                        turn.deliveries.push(delivery);
                        after(now, TIMEOUT * 2)
                    }
                    Ok(None) => after(now, NO_PLACE),
                    Err(at) => at,
                };
            }
            turn.again = turn.again.into_iter().chain([again]).min();
        }
        turn
    }

    /// Records an attempt; `None` where too many are under way to this address, `Err` with the time of the next one.
    fn begin(
        &self,
        hooks: &Hooks,
        task: &ManualTask,
        status: &mut TaskStatus,
        at: usize,
        key: Key,
        now: Timestamp,
    ) -> Result<Option<Delivery>, Timestamp> {
        let webhook = self.webhook(&status.notifications[at].department);
        let place = match &webhook {
            Ok(webhook) => match hooks.place(&webhook.url) {
                Some(place) => Some(place),
                None => return Ok(None),
            },
            Err(_) => None,
        };
        let told = &mut status.notifications[at];
        told.attempts = told.attempts.saturating_add(1);
        let wait = pause(told.attempts, &key.0);
        told.next_attempt_at = Some(Time::seconds(after(now, TIMEOUT + wait)));
        match (webhook, place) {
            (Ok(webhook), Some(place)) => {
                let message = Message::new(task, status, &status.notifications[at]);
                let task = ObjectKey { namespace: task.namespace().unwrap_or_default(), name: task.name_any() };
                Ok(Some(Delivery { key, task, webhook, message, place }))
            }
            (Err(error), _) => {
                record(told, Err(error.to_string()), now, &key.0);
                Err(told.next_attempt_at.map_or(now, |t| t.0))
            }
            (Ok(_), None) => Ok(None),
        }
    }
}

fn record(told: &mut Notification, outcome: Result<(), String>, now: Timestamp, seed: &str) {
    match outcome {
        Ok(()) => {
            told.delivered_at = Some(Time::seconds(now));
            told.next_attempt_at = None;
            told.last_error = None;
        }
        Err(error) => {
            told.last_error = Some(cut(&error, SHORT));
            // Rounded up: a time in whole seconds must not lie before the pause is over.
            let next = after(now, pause(told.attempts, seed) + Duration::from_secs(1));
            told.next_attempt_at = (told.attempts < ATTEMPTS).then(|| Time::seconds(next));
        }
    }
}

impl Delivery {
    /// Sends it, beside everything else. The task is woken when it has ended.
    pub fn start(self, context: &Arc<Context>) {
        let Self { key, task, webhook, message, place } = self;
        let context = context.clone();
        context.hooks.put(key.clone(), Progress::Running);
        tokio::spawn(async move {
            let (client, namespace, denied) = (context.client.clone(), task.namespace.clone(), context.denied.clone());
            let sent = tokio::spawn(async move {
                let _place = place;
                let reference = &webhook.secret_ref;
                let read = tokio::time::timeout(TIMEOUT, super::secrets::read(&client, &namespace, &reference.name)).await;
                let secret = read.map_err(|_| WebhookError::TimedOut)??.text(&reference.key)?;
                webhook::send(&webhook, &secret, &message, &denied).await
            });
            let outcome = match sent.await {
                Ok(result) => result.map_err(|e| e.to_string()),
                Err(_) => Err("the delivery ended unexpectedly".to_owned()),
            };
            let result = if outcome.is_ok() { "ok" } else { "failed" };
            tracing::debug!(task = %task, event = key.1, department = key.2, result, "told a department");
            context.metrics.webhooks.of([&key.2, result]).inc();
            context.hooks.put(key, Progress::Ended(outcome));
            context.wake_tasks.wake(&task);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    fn handler(departments: &Value) -> ProcessingHandler {
        samples::handler(&json!({"spec": {"byServerType": true, "departments": departments}}))
    }

    fn telling(url: &str) -> Telling {
        let hook = json!({"url": url, "secretRef": {"name": "s", "key": "k"}});
        let departments = json!({"operations": {"name": "Operations", "webhook": hook}, "assembly": {"name": "Assembly"}});
        let named = Some(ObjectKey { namespace: "h".into(), name: "msk-1".into() });
        Telling { named, handler: Some(handler(&departments)) }
    }

    fn task() -> ManualTask {
        serde_json::from_value(json!({
            "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask",
            "metadata": {"name": "failedoperation-u-1", "namespace": "h", "uid": "t-1"},
            "spec": {
                "type": "FailedOperation", "department": "Operations", "orderRef": {"namespace": "s", "name": "web", "uid": "u"},
                "handlerRef": {"name": "msk-1"}, "summary": "It failed", "details": "one\ntwo",
            },
        }))
        .unwrap()
    }

    fn planned(events: &[(&str, &str)]) -> TaskStatus {
        let one = |(event, department): &(&str, &str)| Notification {
            event: (*event).into(),
            department: (*department).into(),
            at: Some(Time(at(0))),
            next_attempt_at: Some(Time(at(0))),
            ..Notification::default()
        };
        TaskStatus { notifications: events.iter().map(one).collect(), ..TaskStatus::default() }
    }

    #[test]
    fn an_attempt_is_on_record_before_it_is_made_and_is_not_made_twice() {
        let (hooks, telling, task) = (Hooks::default(), telling("https://hooks.example.net/x"), task());
        let mut status = planned(&[("Raised", "Operations"), ("Closed", "Operations")]);
        let mut turn = telling.next(&hooks, &task, &mut status, at(0));
        assert_eq!(turn.deliveries.len(), 1, "one thing after the other");
        let first = turn.deliveries.remove(0);
        assert_eq!((first.message.id.as_str(), status.notifications[0].attempts), ("t-1.Raised.Operations", 1));
        let next = status.notifications[0].next_attempt_at.unwrap().0;
        assert!(next >= at(11), "a process that dies now tries again after its back-off, not at once: {next}");
        // Under way.
        hooks.put(first.key.clone(), Progress::Running);
        let before = status.clone();
        assert!(telling.next(&hooks, &task, &mut status, at(3600)).deliveries.is_empty());
        assert_eq!(status, before);
        // It failed: the status says so, and the next attempt waits.
        hooks.put(first.key.clone(), Progress::Ended(Err("HTTP status 500".into())));
        let turn = telling.next(&hooks, &task, &mut status, at(5));
        assert!(turn.deliveries.is_empty() && turn.recorded == [first.key.clone()]);
        assert_eq!(status.notifications[0].last_error.as_deref(), Some("HTTP status 500"));
        let due = turn.again.unwrap();
        assert!(due > at(6) && due < at(9), "{due}");
        hooks.recorded(&turn.recorded);
        let turn = telling.next(&hooks, &task, &mut status, due);
        assert_eq!((turn.deliveries.len(), status.notifications[0].attempts), (1, 2));
        // It worked: the next event follows.
        hooks.put(first.key.clone(), Progress::Ended(Ok(())));
        let turn = telling.next(&hooks, &task, &mut status, at(20));
        assert_eq!(status.notifications[0].delivered_at.map(|t| t.0), Some(at(20)));
        assert_eq!(turn.deliveries.iter().map(|d| d.message.event.as_str()).collect::<Vec<_>>(), ["Closed"]);
    }

    #[test]
    fn a_restart_goes_on_where_the_status_is() {
        let (telling, task) = (telling("https://hooks.example.net/x"), task());
        let mut status = planned(&[("Raised", "Operations")]);
        let _ = telling.next(&Hooks::default(), &task, &mut status, at(0));
        let mut restarted = status.clone();
        let turn = telling.next(&Hooks::default(), &task, &mut restarted, at(5));
        assert!(turn.deliveries.is_empty() && restarted == status, "it waits");
        let turn = telling.next(&Hooks::default(), &task, &mut restarted, status.notifications[0].next_attempt_at.unwrap().0);
        assert_eq!((turn.deliveries.len(), restarted.notifications[0].attempts), (1, 2));
    }

    #[test]
    fn a_receiver_that_never_answers_is_given_up_in_the_end() {
        let (hooks, telling, task) = (Hooks::default(), telling("https://hooks.example.net/x"), task());
        let mut status = planned(&[("Raised", "Operations")]);
        let mut now = at(0);
        for attempt in 1..=ATTEMPTS {
            let turn = telling.next(&hooks, &task, &mut status, now);
            assert_eq!((turn.deliveries.len(), status.notifications[0].attempts), (1, attempt));
            hooks.put(turn.deliveries[0].key.clone(), Progress::Ended(Err("no".into())));
            let turn = telling.next(&hooks, &task, &mut status, now);
            hooks.recorded(&turn.recorded);
            now = turn.again.unwrap_or(now);
        }
        assert!(status.notifications[0].next_attempt_at.is_none() && status.notifications[0].delivered_at.is_none());
        assert!(telling.next(&hooks, &task, &mut status, at(9_000_000)).deliveries.is_empty());
        let hours = now.duration_since(at(0)).as_hours();
        assert!((20..30).contains(&hours), "{hours}");
    }

    #[test]
    fn nothing_is_sent_to_an_address_that_the_rules_refuse_or_to_a_handler_that_is_gone() {
        let gone = Telling { named: Some(ObjectKey { namespace: "h".into(), name: "gone".into() }), handler: None };
        let rows = [(telling("http://hooks.example.net/x"), "webhook.url must be"), (gone, "does not exist")];
        for (telling, wanted) in rows {
            let mut status = planned(&[("Raised", "Operations")]);
            let turn = telling.next(&Hooks::default(), &task(), &mut status, at(0));
            let error = status.notifications[0].last_error.clone().unwrap();
            assert!(turn.deliveries.is_empty() && error.contains(wanted), "{error}");
            assert!(turn.again.is_some_and(|t| t > at(1)), "it is looked at again");
        }
    }

    #[test]
    fn a_department_that_does_not_want_to_be_told_any_more_is_not() {
        let mut status = planned(&[("Raised", "Assembly"), ("Raised", "Operations")]);
        let turn = telling("https://hooks.example.net/x").next(&Hooks::default(), &task(), &mut status, at(0));
        assert_eq!((status.notifications.len(), turn.deliveries.len()), (1, 1));
    }

    #[test]
    fn one_address_gets_only_so_many_at_a_time() {
        let (hooks, telling) = (Hooks::default(), telling("https://hooks.example.net/x"));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.extend(telling.next(&hooks, &task(), &mut planned(&[("Raised", "Operations")]), at(0)).deliveries);
        }
        let mut status = planned(&[("Raised", "Operations")]);
        let turn = telling.next(&hooks, &task(), &mut status, at(0));
        assert!(turn.deliveries.is_empty() && status.notifications[0].attempts == 0 && turn.again == Some(at(1)));
        held.clear();
        assert_eq!(telling.next(&hooks, &task(), &mut status, at(1)).deliveries.len(), 1);
    }
}
