//! How a pass over an order ends: what was decided is saved, who waited behind the order is woken, and when it is looked at again.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::api::condition::{self, ConditionType};
use crate::api::order_status::OrderStatus;
use crate::api::{DedicatedServerOrder, ManualTask};
use crate::provisioning::decide;
use crate::provisioning::facts::Facts;
use crate::provisioning::selection::{self, PassedOver};
use crate::provisioning::tasks::SUPERSEDED;

use super::context::Context;
use super::order::{Ended, OrderError, Pass, known, save};
use super::own_tasks;
use super::queue;
use super::runtime::UNTIL_CHANGED;
use super::task;

impl Pass<'_> {
    pub(super) async fn end(&mut self, status: OrderStatus, until: Option<Timestamp>, slot: bool) -> Result<Ended, OrderError> {
        // What is due already comes out as no time at all.
        let wait = until.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
        let rests = condition::is_true(&status.conditions, ConditionType::Stalled).then(|| wait.unwrap_or(UNTIL_CHANGED));
        let goes_on = self.selecting.is_some() && !self.last && !self.parsed.deleting;
        let over = selection::ended_without(&self.key, &status).filter(|_| goes_on);
        // What was written ahead in this pass is taken back first.
        if let Some(over) = over.clone().filter(|_| known(&self.order).in_flight.is_none()) {
            self.passed_over(slot, &over);
            self.judged(rests, Some(over.clone()));
            return Ok(Ended::Over(over));
        }
        let stood = queue::stands_still(&self.order);
        let gave_back = known(&self.order).server.is_some() && status.server.is_none();
        self.order = save(&self.order, status, self.context).await?;
        if gave_back {
            // The list that showed the server free came while the order still named it: no later one differs, and the lock may be left.
            self.handler.note_locks();
        }
        if !stood && queue::stands_still(&self.order) {
            // It takes none of the free servers; whoever waited behind it may.
            if let Some(key) = queue::next(self.context, &self.parsed, &self.key) {
                self.context.wake_orders.wake(&key);
            }
        }
        close_superseded(self.context, &self.order).await?;
        self.keep_place(!slot && super::places::waits(&self.order));
        // Not before all is saved: a pass that fails has not used up the look that a change of the handler is worth.
        self.judged(rests, over);
        Ok(Ended::Action(
            wait.map_or_else(Action::await_change, |w| Action::requeue(w.max(Duration::from_millis(50)).min(Duration::from_hours(1)))),
        ))
    }

    fn judged(&self, rests: Option<Duration>, over: Option<PassedOver>) {
        self.handler.note_judged(&self.parsed.uid, rests);
        if let Some(over) = over {
            self.handler.note_over(&self.parsed.uid, self.parsed.generation, over);
        }
    }

    /// The handler could not serve the order when that was asked, a moment ago, and nothing has changed since: it is not asked again with
    /// each poll. What is stored does not tell, since it speaks of all handlers that were tried.
    pub(super) fn still_over(&self, facts: &Facts) -> Option<PassedOver> {
        let known = known(&self.order);
        let asks = facts.forced || self.parsed.deleting || decide::asked(&self.parsed, &known);
        if self.selecting.is_none() || self.last || asks || known.in_flight.is_some() {
            return None;
        }
        self.handler.rests(&self.parsed.uid).and_then(|_| self.handler.over(&self.parsed.uid, self.parsed.generation))
    }
}

/// Closes the objects of tasks that the status, as it was just saved, says nobody needs any more: a department must not work on them.
pub(super) async fn close_superseded(context: &Context, order: &DedicatedServerOrder) -> Result<(), OrderError> {
    let uid = order.metadata.uid.clone().unwrap_or_default();
    let tasks = &known(order).manual_tasks;
    for name in tasks.iter().filter(|t| t.state == SUPERSEDED).map(|t| &t.name) {
        let open =
            |t: &ManualTask| (t.name_any() == *name && t.spec.order_ref.uid == uid && t.spec.resolution.is_none()).then(|| t.clone());
        for task in context.tasks.read(open) {
            task::supersede(&context.client, &task, "nobody needs it any more").await?;
        }
    }
    // Raised before the order named a handler in another namespace, or made by somebody there: nobody listens to them.
    for task in context.tasks.read(|t| own_tasks::elsewhere(t, order).then(|| t.clone())) {
        task::supersede(&context.client, &task, "departments of another namespace are asked").await?;
    }
    Ok(())
}
