//! The status of a handler after its panel was asked, or could not be: what server panels and licence servers have in common.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::common::Time;
use crate::api::condition::{self, ConditionType};
use crate::api::handler_status::{HandlerStatus, OrderCounts};
use crate::api::{DedicatedServerOrder, ProcessingHandler, RECONCILE_ANNOTATION};
use crate::provisioning::reason::Reason;

use super::context::Context;
use super::polled::tolerate;
use super::problem::{Problem, set_progress};
use super::status::{self, StatusError};

/// How often the time of the last probe is written when nothing else changes.
const PROBE_NOTED: Duration = Duration::from_mins(10);

/// The status of a handler that was probed just now.
pub(super) struct Probed<'a> {
    handler: &'a ProcessingHandler,
    problem: Option<&'a Problem>,
    now: Timestamp,
    /// What it comes to.
    pub status: HandlerStatus,
}

impl<'a> Probed<'a> {
    /// Says whether the handler is ready, and its credentials are good. `server`: what people call what it speaks with.
    pub fn new(handler: &'a ProcessingHandler, problem: Option<&'a Problem>, server: &str) -> Self {
        let status = HandlerStatus { observed_generation: handler.metadata.generation, ..handler.status.clone().unwrap_or_default() };
        let mut probed = Self { handler, problem, now: Timestamp::now(), status };
        let (reason, message) = problem.map_or((Reason::Reachable, ""), |p| (p.reason, &p.message));
        let suspended = format!("suspended: nothing is changed at the {server}");
        probed.set(
            ConditionType::Ready,
            problem.is_none(),
            reason,
            if handler.spec.suspend && problem.is_none() { &suspended } else { message },
        );
        match problem.map(|p| p.reason) {
            Some(refused @ (Reason::LoginRefused | Reason::NotAdministrator | Reason::CredentialsMissing)) => {
                probed.set(ConditionType::CredentialsValid, false, refused, message);
            }
            None | Some(Reason::IPManagerNotFound | Reason::IPManagerNotReady) => {
                probed.set(ConditionType::CredentialsValid, true, Reason::Reachable, "");
            }
            Some(_) => {}
        }
        probed
    }

    fn generation(&self) -> i64 {
        self.handler.metadata.generation.unwrap_or_default()
    }

    /// Sets a condition.
    pub fn set(&mut self, type_: ConditionType, value: bool, reason: Reason, message: &str) {
        let generation = self.generation();
        condition::set(&mut self.status.conditions, type_, value, reason.as_str(), message, generation, self.now);
    }

    /// Writes the status where it differs. `held`: why a handler that was deleted is still there.
    pub async fn save(self, context: &Context, orders: &[&DedicatedServerOrder], held: Option<String>) -> Result<(), StatusError> {
        let generation = self.generation();
        let Self { handler, problem, now, status: mut new } = self;
        let old = handler.status.clone().unwrap_or_default();
        let trouble = super::webhook_secrets::trouble(context, handler).await;
        super::webhook_secrets::set(&mut new.conditions, trouble.as_deref(), generation, now);
        set_progress(&mut new.conditions, problem, held, generation, now);
        condition::carry_times(&old.conditions, &mut new.conditions);
        new.orders = Some(count(orders));
        new.last_handled_reconcile_at = handler.annotations().get(RECONCILE_ANNOTATION).cloned();
        let stale = old.last_probe_time.is_none_or(|t| now.duration_since(t.0).unsigned_abs() >= PROBE_NOTED);
        if problem.is_none() && (new != old || stale) {
            new.last_probe_time = Some(Time::seconds(now));
        }
        if new != old {
            tolerate(status::write(&context.client, handler, &new).await)?;
        }
        Ok(())
    }
}

fn count(orders: &[&DedicatedServerOrder]) -> OrderCounts {
    let of = |is: &dyn Fn(&DedicatedServerOrder) -> bool| i64::try_from(orders.iter().filter(|o| is(o)).count()).unwrap_or(i64::MAX);
    let has = |order: &DedicatedServerOrder, type_| order.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, type_));
    OrderCounts {
        total: of(&|_| true),
        ready: of(&|o| has(o, ConditionType::Ready)),
        waiting_for_task: of(&|o| has(o, ConditionType::ManualActionRequired)),
    }
}
