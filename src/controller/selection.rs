//! Orders with a selector, as long as no handler serves them: one pass at each handler, in order, until one takes the order.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::api::common::ObjectKey;
use crate::api::handler::Module;
use crate::api::order_status::OrderStatus;
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::provisioning::decide;
use crate::provisioning::order::Order;
use crate::provisioning::reason::Reason;
use crate::provisioning::round;
use crate::provisioning::selection::{self, Candidate, PassedOver, Selector};

use super::context::Context;
use super::order::{Ended, OrderError, Pass, known, release_object, save};
use super::pass_end::close_superseded;
use super::queue;
use super::runtime::{HandlerRuntime, Snapshot};
use super::stores::Guarded;

/// A handler that an order selects, with what the process knows of it.
struct Held {
    key: ObjectKey,
    priority: i32,
    allowed: bool,
    going: bool,
    runtime: Arc<HandlerRuntime>,
    snapshot: Snapshot,
}

impl Held {
    fn candidate(&self) -> Candidate<'_> {
        let client = self.snapshot.client.as_ref();
        Candidate {
            key: &self.key,
            priority: self.priority,
            pool: client.and_then(|c| c.pool.as_ref()),
            allowed: self.allowed,
            going: self.going,
            state: &self.snapshot.state,
            policy: client.map(|c| &c.policy),
            login: client.map_or("", |c| c.login.as_str()),
            inventory: self.snapshot.inventory.as_deref(),
        }
    }
}

/// The handlers that an order selects, those that its namespace may not use included.
async fn selected(context: &Context, selector: &Selector, namespace: &str) -> Vec<Held> {
    let chosen = context
        .handlers
        .read(|h: &ProcessingHandler| (h.spec.module != Module::BILLmanager6 && selector.selects(&h.key(), h.labels())).then(|| h.clone()));
    let mut all = Vec::new();
    for handler in chosen {
        let key = handler.key();
        context.panels.is_about(super::handler::KIND, &key, &handler);
        let runtime = context.panels.handler(&key);
        all.push(Held {
            priority: handler.spec.priority,
            allowed: context.may_use(&handler, namespace).await,
            going: handler.metadata.deletion_timestamp.is_some(),
            snapshot: runtime.snapshot(None),
            runtime,
            key,
        });
    }
    all
}

/// Whether an order selects a handler that this version cannot read: nobody looks there for its server, and it may be there.
fn selects_unread(handlers: &[Arc<Guarded<ProcessingHandler>>], selector: &Selector) -> bool {
    let mut unread = handlers.iter().filter(|handler| handler.0.is_err());
    unread.any(|handler| selector.selects(&ObjectKey::of(handler.meta()), handler.labels()))
}

/// Whether an order that has a server could be served by another handler as well.
pub(super) async fn another(context: &Context, order: &DedicatedServerOrder, parsed: &Order) -> bool {
    let (Some(selector), Some(status)) = (&parsed.selector, &order.status) else { return false };
    if status.server.as_ref().is_none_or(|s| s.handed_over_at.is_some()) {
        return false;
    }
    let all = selected(context, selector, &parsed.key.namespace).await;
    let candidates: Vec<Candidate<'_>> = all.iter().map(Held::candidate).collect();
    selection::another(parsed, status, &candidates)
}

/// One pass over an order that no handler serves yet.
pub(super) async fn pass(order: DedicatedServerOrder, parsed: Order, selector: &Selector, context: &Context) -> Result<Action, OrderError> {
    let all = selected(context, selector, &parsed.key.namespace).await;
    let restored = selection::may_have_been_restored(&parsed);
    let status = known(&order);
    let own = |h: &&Held| selection::has_own(&parsed, &status, &h.candidate());
    // A server of an earlier order of this name, or of this id under another name, tells only where no server is the order's own.
    let other = |h: &&Held| !parsed.deleting && selection::found(&parsed, &status, &h.candidate());
    if let Some(held) = all.iter().find(own).or_else(|| all.iter().find(other)) {
        // Wherever a server carries our marker, that is the order's handler, whatever its place in the row.
        return match Box::pin(at(held, &order, &parsed, None, context).run()).await? {
            Ended::Action(action) => Ok(action),
            Ended::Over(_) => Ok(Action::await_change()),
            Ended::Forgotten(stored) => release_object(&stored, context, None).await,
        };
    }
    let looked_through = || all.iter().all(|h| selection::looked_through(&parsed, &h.candidate()));
    if restored && (all.is_empty() || !looked_through() || selects_unread(&context.handlers.all(), selector)) {
        let waits = selection::not_looked_through(&parsed, Timestamp::now(), &status);
        let stored = save(&order, waits, context).await?;
        close_superseded(context, &stored).await?;
        return Ok(Action::await_change());
    }
    if parsed.deleting {
        return Box::pin(close(order, &parsed, selector, &all, context)).await;
    }
    Box::pin(open(order, &parsed, selector, &all, context)).await
}

/// Nothing of the order is at any panel. What a restored order may have in the pools is given back at each; licences that were kept for the
/// next server are given back by a pass at a handler, too.
async fn close(
    mut order: DedicatedServerOrder,
    parsed: &Order,
    selector: &Selector,
    all: &[Held],
    context: &Context,
) -> Result<Action, OrderError> {
    let status = known(&order);
    let candidates: Vec<Candidate<'_>> = all.iter().map(Held::candidate).collect();
    let closed_at = selection::closed_at(parsed, &status, &candidates);
    if closed_at.is_empty() && !status.licenses.is_empty() {
        let waits = selection::keeps_licenses(parsed, &selector.namespace, Timestamp::now(), &status);
        let stored = save(&order, waits, context).await?;
        close_superseded(context, &stored).await?;
        return Ok(Action::await_change());
    }
    let mut row: Vec<&Held> = all.iter().filter(|held| closed_at.contains(&&held.key)).collect();
    // Where the order waited last it goes on; the others are looked at once nothing is left there.
    row.sort_by_key(|held| status.handler.as_ref() != Some(&held.key.to_string()));
    for (number, held) in row.iter().enumerate() {
        // In memory: what is stored stays until this handler has something to say.
        round::close_at(parsed, order.status.get_or_insert_default(), &held.key.to_string());
        let pass = Pass { last: number + 1 == row.len(), ..at(held, &order, parsed, Some(Vec::new()), context) };
        match Box::pin(pass.run()).await? {
            Ended::Action(action) => return Ok(action),
            Ended::Forgotten(left) => order = *left,
            Ended::Over(_) => return Ok(Action::await_change()),
        }
        if round::given_up(&known(&order)).is_some() {
            super::forsaken::record(context, &order, &held.key.namespace).await?;
            break;
        }
    }
    release_object(&order, context, None).await
}

impl Pass<'_> {
    /// Nothing of the order is at this handler; others are looked at before it goes.
    pub(super) async fn nothing_here(&self, status: OrderStatus) -> Result<Ended, OrderError> {
        let mut order = self.order.clone();
        if round::is_saved(order.status.as_ref(), &status, self.last) {
            order = save(&order, status, self.context).await?;
        } else {
            order.status = Some(status);
        }
        Ok(Ended::Forgotten(Box::new(order)))
    }
}

async fn open(
    order: DedicatedServerOrder,
    parsed: &Order,
    selector: &Selector,
    all: &[Held],
    context: &Context,
) -> Result<Action, OrderError> {
    let status = known(&order);
    let mut row: Vec<Candidate<'_>> = all.iter().map(Held::candidate).filter(|c| c.allowed).collect();
    if row.is_empty() {
        let message = format!("no handler of namespace {} has these labels, or this namespace may use none that has", selector.namespace);
        let new = decide::without_handler(parsed, &selector.namespace, Reason::HandlerNotFound, &message, Timestamp::now(), &status);
        let stored = save(&order, new, context).await?;
        close_superseded(context, &stored).await?;
        return Ok(Action::await_change());
    }
    selection::sort(&mut row, &status);
    let mut passed: Vec<PassedOver> = Vec::new();
    for candidate in &row {
        if let Some(mut over) = selection::passes_over(parsed, &status, candidate) {
            if over.reason == Reason::WaitingForCapacity {
                over.message = format!("{}; {}", over.message, queue::of(context, parsed, candidate.key).place());
            }
            passed.push(over);
            continue;
        }
        let Some(held) = all.iter().find(|h| h.key == *candidate.key) else { continue };
        // Nothing is carried from one handler to the next: what one of them said is in `passed` alone.
        match Box::pin(at(held, &order, parsed, Some(passed.clone()), context).run()).await? {
            Ended::Action(action) => {
                leave_the_others(all, held, parsed, context);
                return Ok(action);
            }
            Ended::Over(over) => passed.push(over),
            Ended::Forgotten(stored) => return release_object(&stored, context, None).await,
        }
    }
    if let Some(held) = selection::builds(parsed, &status, &row, &passed).and_then(|key| all.iter().find(|h| h.key == *key)) {
        let pass = Pass { last: true, ..at(held, &order, parsed, Some(passed), context) };
        return match Box::pin(pass.run()).await? {
            Ended::Action(action) => {
                leave_the_others(all, held, parsed, context);
                Ok(action)
            }
            Ended::Over(_) => Ok(Action::await_change()),
            Ended::Forgotten(stored) => release_object(&stored, context, None).await,
        };
    }
    let new = selection::exhausted(parsed, &passed, Timestamp::now(), &status);
    let stored = save(&order, new, context).await?;
    close_superseded(context, &stored).await?;
    Ok(Action::await_change())
}

/// Places that were asked for at handlers which did not take the order.
fn leave_the_others(all: &[Held], taken: &Held, parsed: &Order, context: &Context) {
    for other in all.iter().filter(|h| h.key != taken.key) {
        for key in other.runtime.places(|p| p.leave(&parsed.uid)) {
            context.wake_orders.wake(&key);
        }
    }
}

fn at<'a>(held: &Held, order: &DedicatedServerOrder, parsed: &Order, passed: Option<Vec<PassedOver>>, context: &'a Context) -> Pass<'a> {
    Pass {
        context,
        handler: held.runtime.clone(),
        key: held.key.clone(),
        order: order.clone(),
        parsed: parsed.clone(),
        selecting: passed,
        last: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::samples;

    #[test]
    fn a_handler_that_cannot_be_read_is_selected_by_its_labels_all_the_same() {
        let cached = |name: &str, priority: &Value| {
            let metadata = json!({"name": name, "namespace": "hosting", "labels": {"zone": "msk"}});
            let mut object = serde_json::to_value(samples::handler(&json!({"metadata": metadata}))).unwrap();
            object["spec"]["priority"] = priority.clone();
            Arc::new(serde_json::from_value::<Guarded<ProcessingHandler>>(object).unwrap())
        };
        let handlers = [cached("msk-1", &json!("high")), cached("msk-2", &json!(10))];
        assert!(handlers[0].0.is_err() && handlers[1].0.is_ok());
        let selects = |handlers: &[Arc<Guarded<ProcessingHandler>>], namespace: &str, zone: &str| {
            let labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
            selects_unread(handlers, &Selector { namespace: namespace.into(), labels })
        };
        assert!(selects(&handlers, "hosting", "msk"));
        assert!(!selects(&handlers, "hosting", "spb") && !selects(&handlers, "elsewhere", "msk"), "not selected");
        assert!(!selects(&handlers[1..], "hosting", "msk"), "one that is read is looked through");
    }
}
