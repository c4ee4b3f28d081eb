//! Closing without a panel: the order's handler, or its credentials, are gone. Ending such an order is a person's decision, and recorded.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, Resource};

use crate::api::common::ObjectKey;
use crate::api::handler::Module;
use crate::api::task::Resolution;
use crate::api::{DedicatedServerOrder, ManualTask, ProcessingHandler};
use crate::provisioning::context::{Next, cut};
use crate::provisioning::decide::{Decision, decide};
use crate::provisioning::facts::{Facts, HandlerState};
use crate::provisioning::forsaken::{Forsaken, is_known_there, left_behind};
use crate::provisioning::notices::Notice;
use crate::provisioning::order::{Order, marked_id};
use crate::provisioning::round::given_up;

use super::context::{Context, serving_handler};
use super::order::{OrderError, known, release_object, save};
use super::own_tasks::{self, tasks_of};
use super::pass_end::close_superseded;
use super::status::{self, StatusError};
use super::task;

/// Actions in one pass: a task, an answer, the end.
const ACTIONS: usize = 8;
/// How often an order is looked at whose handler cannot be used.
const PAUSE: Duration = Duration::from_secs(30);
/// Tries against the other writer of a task's status.
const TRIES: usize = 5;
/// The longest outcome that a task keeps, in bytes.
const OUTCOME: usize = 4096;

/// One pass over an order that is being deleted and whose panel nobody can ask.
pub async fn close(context: &Context, order: &DedicatedServerOrder, parsed: &Order, key: &ObjectKey) -> Result<Action, OrderError> {
    // Whoever made the name up is no reason to keep anything for it.
    let snapshot = context.panels.known(key).unwrap_or_default().snapshot(None);
    let found = context.handlers.find(key);
    let serves = match &found {
        Some(Ok(handler)) => handler.spec.module != Module::BILLmanager6 && context.may_use(handler, &parsed.key.namespace).await,
        Some(Err(_)) | None => false,
    };
    let (why, forsaken) = match (found, snapshot.state) {
        // It is there, and nobody is asked to give up what is at its panel. Whom it allows cannot be read either.
        (Some(Err(_)), _) => (format!("handler {key} does not exist, or this version of the operator cannot read it"), None),
        // Nobody but its author says that it has something there: as if there were no handler, whosever it is.
        _ if !serves && !is_known_there(&known(order)) => (format!("handler {key} does not exist"), Some(Forsaken::HandlerMissing)),
        (None, _) => (format!("handler {key} does not exist"), Some(Forsaken::HandlerMissing)),
        // A licence server has no servers: a handler of that name is waited for.
        (Some(Ok(handler)), _) if handler.spec.module == Module::BILLmanager6 => (format!("handler {key} does not exist"), None),
        (Some(Ok(_)), HandlerState::NotReady(why)) => (why, snapshot.credentials_missing.map(Forsaken::CredentialsMissing)),
        (Some(Ok(_)), HandlerState::Ready | HandlerState::Suspended) => ("the handler is not ready".to_owned(), None),
    };
    let policy = super::serving::policy(context, key);
    // No call is made here, so that no operation needs an id.
    let mut facts = Facts::new(HandlerState::NotReady(why), String::new());
    facts.forsaken = forsaken;
    facts.grace = context.handler_grace;
    facts.tasks = tasks_of(context, order);
    facts.unraisable = context.memory.unraisable(&parsed.uid);
    let mut order = order.clone();
    let mut now = known(&order);
    for _ in 0..ACTIONS {
        let Decision { status, next } = decide(parsed, &policy, &facts, Timestamp::now(), &now);
        let before = std::mem::replace(&mut now, status);
        match next {
            Next::Raise(request) => {
                if facts.forsaken == Some(Forsaken::HandlerMissing) && exists(context, key).await? {
                    // The cache is behind: there it is.
                    return Ok(Action::requeue(Duration::from_secs(1)));
                }
                order = save(&order, now, context).await?;
                now = known(&order);
                if !own_tasks::raise(context, &order, key, parsed, &request, &mut facts).await? {
                    now = before;
                }
            }
            Next::Forget => {
                let stored = save(&order, now, context).await?;
                record(context, &stored, &key.namespace).await?;
                return release_object(&stored, context, None).await;
            }
            Next::Wait(until) => {
                let stored = save(&order, now, context).await?;
                close_superseded(context, &stored).await?;
                let wait = until.map_or(PAUSE, |at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
                return Ok(Action::requeue(wait.clamp(Duration::from_millis(200), PAUSE)));
            }
            Next::Look(_) | Next::Prepare(_) | Next::Call(_) => return Ok(Action::requeue(PAUSE)),
        }
    }
    Err(OrderError::Circles(ACTIONS))
}

async fn exists(context: &Context, key: &ObjectKey) -> Result<bool, kube::Error> {
    let api: Api<ProcessingHandler> = Api::namespaced(context.client.clone(), &key.namespace);
    match api.get_metadata_opt(&key.name).await {
        Ok(found) => Ok(found.is_some()),
        // A namespace that the operator has no rights in any more holds no handler of ours.
        Err(kube::Error::Api(error)) if error.code == 403 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The record of an order that is given up: on the task that gave it up, which outlives the order, as an event there, and in the log.
pub async fn record(context: &Context, order: &DedicatedServerOrder, namespace: &str) -> Result<(), OrderError> {
    let status = known(order);
    let Some(step) = given_up(&status) else { return Ok(()) };
    let task = status.manual_tasks.iter().rev().find(|t| t.state == Resolution::Abandon.as_str());
    tracing::warn!(order = %order.key(), task = task.map(|t| t.name.as_str()), message = %step.message, "given up without the panel's confirmation");
    let Some(task) = task else { return Ok(()) };
    let left = left_behind(&status).join("; ");
    let marker = marked_id(order).unwrap_or_default();
    let outcome = cut(&format!("order {}: {}; still at the panels: {left}; marker {marker}", order.key(), step.message), OUTCOME);
    let api: Api<ManualTask> = Api::namespaced(context.client.clone(), namespace);
    for _ in 0..TRIES {
        let stored = match api.get_opt(&task.name).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(error) => {
                task::never_allowed(error)?;
                return Ok(());
            }
        };
        let mut new = stored.status.clone().unwrap_or_default();
        if new.outcome.is_some() {
            return Ok(());
        }
        new.outcome = Some(outcome.clone());
        match status::write(&context.client, &stored, &new).await {
            Ok(stored) => {
                let notice = Notice { warning: true, reason: "Abandoned".into(), message: cut(&outcome, 500) };
                if !context.events.publish(stored.object_ref(&()), notice) {
                    context.metrics.events_dropped.of([]).inc();
                }
                return Ok(());
            }
            Err(StatusError::Conflict(_)) => {}
            Err(StatusError::Gone(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    // Without the record the order does not go: the next pass tries again.
    Err(StatusError::Conflict(task.name.clone()).into())
}

/// Lets the lock of an order's server go: the one in its status, or the one it wanted to take over.
pub async fn unlock(context: &Context, order: &DedicatedServerOrder, panel: Option<&str>) -> Result<(), kube::Error> {
    let id = marked_id(order).unwrap_or_default();
    let bound = order.status.as_ref().and_then(|s| s.server.as_ref());
    let wanted = order.spec.adopt.as_ref().filter(|_| bound.is_none()).map(|a| a.server_id.clone());
    let Some(server) = bound.map(|s| s.id.clone()).or(wanted) else { return Ok(()) };
    let recorded = bound.map(|s| s.panel.clone()).filter(|p| !p.is_empty());
    let known = || serving_handler(order).and_then(|key| context.handlers.get(&key)).and_then(|h| h.status?.panel);
    match panel.map(str::to_owned).or(recorded).or_else(known) {
        Some(panel) => context.locks.release(&panel, &server, id).await,
        None => Ok(()),
    }
}
