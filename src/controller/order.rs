//! The order controller: one pass is look, decide, act, until there is something to wait for; then the status is saved.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, Resource};
use tracing::Instrument as _;

use crate::api::common::ObjectKey;
use crate::api::order_status::OrderStatus;
use crate::api::{DedicatedServerOrder, ORDER_FINALIZER};
use crate::panel::error::Outcome;
use crate::provisioning::call::Call;
use crate::provisioning::context::Next;
use crate::provisioning::decide::{self, Decision};
use crate::provisioning::facts::{Facts, HandlerState};
use crate::provisioning::forsaken::Forsaken;
use crate::provisioning::licenses::target;
use crate::provisioning::notices::{self, Notice};
use crate::provisioning::order::{Order, Refusal};
use crate::provisioning::reason::Reason;
use crate::provisioning::round;
use crate::provisioning::selection::{self, PassedOver};

use super::context::{Context, serving_handler};
use super::cut_short;
use super::identity::{self, Identity};
use super::metrics::{counts, saved};
use super::own_tasks;
use super::perform::{Panels, PerformError};
use super::places::Asked;
use super::queue;
use super::runtime::{HandlerRuntime, ServerClient};
use super::serving::{self, Serving, has_something};
use super::status::{self, StatusError};
use super::stores::Guarded;
use super::task;
use super::task_status::made_by_us;
use super::trace;

/// Actions in one pass; more means that a decision goes round in circles.
const ACTIONS: usize = 400;

/// How soon an order is looked at again that its handler cannot serve, should nothing wake it.
const UNSERVED: Duration = Duration::from_secs(30);

/// Why a reconcile of an order failed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The status could not be saved.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// Something could not be done.
    #[error(transparent)]
    Perform(#[from] PerformError),
    /// The API server said no, or nothing.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// No random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(String),
    /// A defect of the operator: stopped before it costs anybody anything.
    #[error("decisions went round in circles: {0} actions in one pass")]
    Circles(usize),
}

/// Brings one order a step further.
pub async fn reconcile(object: Arc<Guarded<DedicatedServerOrder>>, context: Arc<Context>) -> Result<Action, OrderError> {
    let result = match &object.0 {
        Ok(order) => Box::pin(one_pass(order.clone(), &context)).await,
        Err(invalid) => {
            let told = status::unreadable::<DedicatedServerOrder>(&context.client, &invalid.metadata, &invalid.error).await;
            if told.as_ref().is_ok_and(|status| status["inFlight"].is_null()) {
                cut_short::leave(&context, invalid.metadata.uid.as_deref().unwrap_or_default());
            }
            told.map(|_| Action::await_change()).map_err(OrderError::from)
        }
    };
    match result {
        // Somebody else wrote it: the watch brings the new version, and where it is dead the next pass reads it.
        Err(OrderError::Status(StatusError::Conflict(_))) => {
            if let Ok(order) = &object.0 {
                context.memory.outrun(order.metadata.uid.as_deref().unwrap_or_default());
            }
            Ok(Action::requeue(Duration::from_millis(200)))
        }
        Err(OrderError::Status(StatusError::Gone(_))) => {
            if let Ok(order) = &object.0 {
                gone(&context, order, order.metadata.uid.as_deref().unwrap_or_default());
            }
            Ok(Action::await_change())
        }
        other => other,
    }
}

async fn one_pass(cached: DedicatedServerOrder, context: &Context) -> Result<Action, OrderError> {
    let uid = cached.metadata.uid.clone().unwrap_or_default();
    if let Some(before) = context.memory.begin(&cached.key(), &uid) {
        forget(context, &cached.key(), &before);
        super::task::order_vanished(context, &cached.key());
    }
    let deleting = cached.metadata.deletion_timestamp.is_some();
    if deleting && !status::has_finalizer(&cached, ORDER_FINALIZER) {
        gone(context, &cached, &uid);
        return Ok(Action::await_change());
    }
    let order = if context.memory.behind(&cached) {
        match fresh(context, &cached.key()).await? {
            Some(order) if order.metadata.uid.as_deref() == Some(&uid) => order,
            Some(_) | None => {
                gone(context, &cached, &uid);
                return Ok(Action::await_change());
            }
        }
    } else {
        cached
    };
    let order = match identity::ensure(order, context).await? {
        Identity::Is(order) => *order,
        Identity::Conflict(order, message) => {
            let refusal = Refusal { reason: Reason::InvalidSpec, message };
            return refuse(&order, &refusal, context).await;
        }
    };
    let parsed = if order.metadata.deletion_timestamp.is_some() {
        Order::for_closing(&order, &context.cluster)
    } else {
        Order::parse(&order, &context.cluster)
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return refuse(&order, &refusal, context).await,
    };
    if parsed.deleting && super::definition::is_going(context).await? {
        let message = "the CustomResourceDefinition is being deleted: nothing is released".to_owned();
        return refuse(&order, &Refusal { reason: Reason::DeletionProtected, message }, context).await;
    }
    if let (None, Some(selector)) = (serving_handler(&order), parsed.selector.clone()) {
        return Box::pin(super::selection::pass(order, parsed, &selector, context)).await;
    }
    let key = serving_handler(&order).unwrap_or_default();
    let handler = match serving::by(context, &key, &parsed, &order).await {
        Serving::At(handler) => handler,
        Serving::No(..) if parsed.deleting && !has_something(&order) => return release_object(&order, context, None).await,
        Serving::No(Reason::HandlerNotFound, _) if parsed.deleting => {
            return Box::pin(super::forsaken::close(context, &order, &parsed, &key)).await;
        }
        Serving::No(reason, message) => {
            let status = decide::without_handler(&parsed, &key.to_string(), reason, &message, Timestamp::now(), &known(&order));
            let stored = save(&order, status, context).await?;
            super::pass_end::close_superseded(context, &stored).await?;
            cut_short::leave_unless_at_work(context, &stored);
            // Nothing tells when a handler goes that cannot be read.
            return Ok(if reason == Reason::HandlerNotFound { Action::await_change() } else { Action::requeue(UNSERVED) });
        }
    };
    let (others, namespace) = (round::is_under_way(&parsed, &known(&order)), key.namespace.clone());
    match Box::pin(Pass { context, handler, key, order, parsed, selecting: others.then(Vec::new), last: !others }.run()).await? {
        Ended::Action(action) => Ok(action),
        Ended::Forgotten(left) if others && round::given_up(&known(&left)).is_none() => {
            // Nothing leads to this handler any more: the next pass makes the round.
            save(&left, OrderStatus { in_flight: None, ..known(&left) }, context).await?;
            Ok(Action::requeue(Duration::ZERO))
        }
        Ended::Forgotten(stored) => {
            super::forsaken::record(context, &stored, &namespace).await?;
            release_object(&stored, context, None).await
        }
        Ended::Over(_) => Ok(Action::await_change()),
    }
}

/// The status as stored.
pub(super) fn known(order: &DedicatedServerOrder) -> OrderStatus {
    order.status.clone().unwrap_or_default()
}

pub(super) async fn fresh(context: &Context, key: &ObjectKey) -> Result<Option<DedicatedServerOrder>, kube::Error> {
    Api::<DedicatedServerOrder>::namespaced(context.client.clone(), &key.namespace).get_opt(&key.name).await
}

async fn refuse(order: &DedicatedServerOrder, refusal: &Refusal, context: &Context) -> Result<Action, OrderError> {
    let deleting = order.metadata.deletion_timestamp.is_some();
    if deleting && !has_something(order) {
        return release_object(order, context, None).await;
    }
    let status = decide::refuse(
        refusal,
        order.metadata.generation.unwrap_or_default(),
        deleting,
        &order.spec.reinstall,
        Timestamp::now(),
        &known(order),
    );
    let stored = save(order, status, context).await?;
    super::pass_end::close_superseded(context, &stored).await?;
    cut_short::leave_unless_at_work(context, &stored);
    Ok(Action::await_change())
}

/// Saves a status that differs, then publishes what happened.
pub(super) async fn save(
    order: &DedicatedServerOrder,
    mut new: OrderStatus,
    context: &Context,
) -> Result<DedicatedServerOrder, OrderError> {
    let old = known(order);
    notices::carry_times(&old, &mut new);
    if new == old {
        return Ok(order.clone());
    }
    let stored = status::write(&context.client, order, &new).await?;
    // Also what was stored without all that it should have: the cache is older than that.
    context.memory.wrote(&stored);
    if let Some(field) = status::dropped(stored.status.as_ref(), &new) {
        let error = StatusError::CrdOutdated { object: order.key().to_string(), field };
        let notice = Notice { warning: true, reason: Reason::CRDOutdated.as_str().into(), message: error.to_string() };
        if !context.events.publish(order.object_ref(&()), notice) {
            context.metrics.events_dropped.of([]).inc();
        }
        return Err(error.into());
    }
    let handler = counts::handler_of(&stored, |key| context.handlers.get(key).is_some());
    saved::saved(&context.metrics, &handler, &old, &stored);
    trace::ended(&stored, &old, &new);
    for notice in notices::between(&old, &new) {
        let trace = trace::of_notice(&stored, &old, &new, &notice);
        if !context.events.publish_traced(stored.object_ref(&()), notice, trace) {
            context.metrics.events_dropped.of([]).inc();
        }
    }
    Ok(stored)
}

/// The finalizer goes, and with it the object.
pub(super) async fn release_object(order: &DedicatedServerOrder, context: &Context, panel: Option<&str>) -> Result<Action, OrderError> {
    let uid = order.metadata.uid.clone().unwrap_or_default();
    for open in context.tasks.read(|t| (made_by_us(t) && t.spec.order_ref.uid == uid && t.spec.resolution.is_none()).then(|| t.clone())) {
        task::supersede(&context.client, &open, "its order is gone").await?;
    }
    let operations = status::remove_finalizer(order, ORDER_FINALIZER);
    if !operations.is_empty() {
        status::patch(&context.client, order, operations).await?;
    }
    // After the finalizer: without its lock an order that is still there could act again. What is left here the sweep takes away.
    if let Err(error) = super::forsaken::unlock(context, order, panel).await {
        tracing::warn!(order = %order.key(), %error, "the lock of a server that is free stays until the next sweep");
    }
    gone(context, order, &uid);
    Ok(Action::await_change())
}

/// An order is not in the cache any more. A pass that saw it go has forgotten it; where the last answers were lost there was none.
pub fn vanished(context: &Context, key: &ObjectKey) {
    if let Some(uid) = context.memory.vanished(key) {
        forget(context, key, &uid);
    }
}

fn gone(context: &Context, order: &DedicatedServerOrder, uid: &str) {
    forget(context, &order.key(), uid);
    if let Some(key) = serving_handler(order) {
        context.wake_handlers.wake(&key);
    }
}

fn forget(context: &Context, key: &ObjectKey, uid: &str) {
    context.memory.forget(key, uid);
    let next = context.panels.forget_order(uid);
    // Its namespace may have one more now: the oldest asks, the others with the next poll.
    let limited = |o: &DedicatedServerOrder| o.metadata.namespace.as_ref() == Some(&key.namespace) && super::places::waits(o);
    let oldest = context.oldest(limited);
    next.iter().chain(&oldest).for_each(|key| context.wake_orders.wake(key));
}

/// 32 random hexadecimal digits.
fn operation_id() -> Result<String, OrderError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| OrderError::Random(e.to_string()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// One pass over one order, at one handler.
pub(super) struct Pass<'a> {
    pub(super) context: &'a Context,
    pub(super) handler: Arc<HandlerRuntime>,
    pub(super) key: ObjectKey,
    pub(super) order: DedicatedServerOrder,
    pub(super) parsed: Order,
    /// The handlers that were passed over before, where the order is not bound to this one yet.
    pub(super) selecting: Option<Vec<PassedOver>>,
    /// No other handler is tried after this one.
    pub(super) last: bool,
}

/// How a pass ended.
pub(super) enum Ended {
    /// This is when the order is looked at again.
    Action(Action),
    /// The handler cannot serve the order now; nothing was saved.
    Over(PassedOver),
    /// Nothing of the order is there any more; only the finalizer is left.
    Forgotten(Box<DedicatedServerOrder>),
}

impl Pass<'_> {
    /// The work of a pass.
    pub(super) async fn go(&mut self) -> Result<Ended, OrderError> {
        let server = self.order.status.as_ref().and_then(|s| s.server.as_ref()).map(|s| s.id.clone());
        let snapshot = self.handler.snapshot(server.as_deref());
        let mut facts = Facts::new(snapshot.state.clone(), operation_id()?);
        facts.inventory = snapshot.inventory;
        if server.is_none() && !self.parsed.deleting {
            facts.queue = queue::of(self.context, &self.parsed, &self.key);
        }
        // Before anything that is told once only.
        if let Some(client) = &snapshot.client
            && let Asked::Again(at_latest) = self.take_place(client, &mut facts)
        {
            return Ok(Ended::Action(Action::requeue(at_latest)));
        }
        facts.changed = snapshot.changed;
        facts.restarted = self.handler.restarted(&self.parsed.uid);
        facts.forced = self.handler.first_look(&self.parsed.uid, snapshot.epoch);
        facts.recheck = self.handler.rests_until(&self.parsed.uid, Timestamp::now());
        if let Some(over) = self.still_over(&facts) {
            self.passed_over(facts.slot, &over);
            return Ok(Ended::Over(over));
        }
        facts.tasks = own_tasks::tasks_of(self.context, &self.order);
        facts.unraisable = self.context.memory.unraisable(&self.parsed.uid);
        let client = match snapshot.client {
            Some(client) => client,
            None if self.parsed.deleting => {
                let closing = super::forsaken::close(self.context, &self.order, &self.parsed, &self.key);
                return Box::pin(closing).await.map(Ended::Action);
            }
            // What does not need the panel goes on: a client's licences do not end since the operator was started while it is down.
            None => {
                facts.handler = match snapshot.state {
                    not_ready @ HandlerState::NotReady(_) => not_ready,
                    HandlerState::Ready | HandlerState::Suspended => HandlerState::NotReady("the handler is not ready".into()),
                };
                ServerClient::unasked(serving::policy(self.context, &self.key))
            }
        };
        facts.forsaken = snapshot.credentials_missing.map(Forsaken::CredentialsMissing);
        facts.grace = self.context.handler_grace;
        facts.login.clone_from(&client.login);
        let policy = &client.policy;
        facts.password_due =
            policy.sets_password && self.parsed.own_password && self.handler.password_due(&self.parsed.uid, policy.retry_interval);
        facts.another_handler = super::selection::another(self.context, &self.order, &self.parsed).await;
        let asked = self.order.status.as_ref().and_then(|s| s.in_flight.as_ref()).is_some_and(|f| f.target.starts_with(&target("")));
        facts.licenses.answers = self.context.memory.answers(&self.parsed.uid, asked);
        facts.licenses.note_stored(self.order.status.as_ref().map_or(&[], |status| &status.licenses));
        let licenses = super::license_ref::facts(self.context, &self.order, &self.parsed, &client.policy).await;
        facts.licenses.server = licenses?;
        Box::pin(self.act(&client, facts)).await
    }

    async fn act(&mut self, client: &ServerClient, mut facts: Facts) -> Result<Ended, OrderError> {
        let mut status = known(&self.order);
        if let Some(passed) = &self.selecting {
            status.handlers = selection::notes(passed);
        }
        for _ in 0..ACTIONS {
            let now = Timestamp::now();
            if facts.handler == HandlerState::Ready && self.is_suspended() {
                facts.handler = HandlerState::Suspended;
            }
            let Decision { status: new, next } = decide::decide(&self.parsed, &client.policy, &facts, now, &status);
            let before = std::mem::replace(&mut status, new);
            if let (None, Some(server), Some(_)) = (&before.server, &status.server, &self.parsed.adopt) {
                // The marker may have got there later than the index was read.
                self.handler.note_mark(&server.id, now);
            }
            match next {
                Next::Look(look) => {
                    let span = trace::look(&self.order, &status, &look, &self.key);
                    self.panels(client).look(&look, &mut facts).instrument(span.clone()).await?;
                    if let Some(server) = facts.noted_otherwise(&look) {
                        self.handler.note_mark(&server.0, now);
                    }
                    trace::looked(&span, &facts);
                }
                Next::Prepare(what) => {
                    let span = trace::prepare(&self.order, &status, what, &self.key);
                    self.panels(client).prepare(what, &mut facts).instrument(span).await?;
                }
                Next::Raise(request) => {
                    // On record first: a crash leaves a task that is raised again under its name, never one that nobody knows of.
                    self.order = save(&self.order, status, self.context).await?;
                    status = known(&self.order);
                    let key = &client.policy.key;
                    if !own_tasks::raise(self.context, &self.order, key, &self.parsed, &request, &mut facts).await? {
                        status = before;
                    }
                }
                Next::Call(call) => {
                    if let Some(action) = Box::pin(self.call(client, &call, &mut status, &mut facts)).await? {
                        return Ok(Ended::Action(action));
                    }
                }
                Next::Wait(until) => return self.end(status, until, facts.slot).await,
                Next::Forget if self.selecting.is_some() && status.server.is_none() => {
                    return self.nothing_here(status).await;
                }
                Next::Forget => {
                    let stored = save(&self.order, status, self.context).await?;
                    super::forsaken::record(self.context, &stored, &client.policy.key.namespace).await?;
                    return release_object(&stored, self.context, Some(&client.policy.panel)).await.map(Ended::Action);
                }
            }
        }
        save(&self.order, status, self.context).await?;
        Err(OrderError::Circles(ACTIONS))
    }

    fn panels<'b>(&'b self, client: &'b ServerClient) -> Panels<'b> {
        Panels { context: self.context, client, order: &self.parsed, object: &self.order }
    }

    /// Writes the intent ahead, makes sure that the order is still the one that was decided upon, and makes the change.
    async fn call(
        &mut self,
        client: &ServerClient,
        call: &Call,
        status: &mut OrderStatus,
        facts: &mut Facts,
    ) -> Result<Option<Action>, OrderError> {
        if matches!(call, Call::Claim { .. } | Call::Adopt { .. }) && !self.parsed.deleting && !self.order.is_bound() && self.handler_goes()
        {
            let (name, why) = (self.key.to_string(), serving::goes(&self.key));
            let known = known(&self.order);
            let waits = decide::without_handler(&self.parsed, &name, Reason::HandlerNotReady, &why, Timestamp::now(), &known);
            self.order = save(&self.order, waits, self.context).await?;
            self.keep_place(false);
            return Ok(Some(Action::requeue(UNSERVED)));
        }
        if status.in_flight != known(&self.order).in_flight {
            // A guarded write is as good as a quorum read: it fails unless the order is what it was.
            self.order = save(&self.order, status.clone(), self.context).await?;
            *status = known(&self.order);
            facts.own_operation = status.in_flight.as_ref().map(|f| f.operation_id.clone());
            facts.operation_id = operation_id()?;
        } else if call.destructive() && !Box::pin(self.still_the_same(facts)).await? {
            return Ok(Some(Action::requeue(Duration::ZERO)));
        }
        // Asked last: the process may have been stopped at any moment before.
        if !self.context.fence.is_open() {
            return Ok(Some(Action::requeue(Duration::from_secs(5))));
        }
        let span = trace::call(&self.order, status, call, &self.key);
        let (key, server) = (&self.parsed.key, call.server().map(|s| s.0.as_str()));
        span.in_scope(|| tracing::info!(order = %key, call = call.name(), server, "calling the panel"));
        if let Some(server) = call.server() {
            // Where the pass is dropped in the middle of the call nobody notes it afterwards.
            self.handler.note_change(&server.0, Timestamp::now());
        }
        let outcome = self.panels(client).call(call, facts).instrument(span.clone()).await?;
        trace::outcome(&span, &outcome);
        let now = Timestamp::now();
        if let Some(server) = call.server() {
            self.handler.note_change(&server.0, now);
            if matches!(call, Call::Adopt { .. } | Call::Unmark { .. }) {
                self.handler.note_mark(&server.0, now);
            }
        }
        if matches!(call, Call::Unclaim { .. }) || call.marks() && matches!(outcome, Outcome::Refused(_)) {
            // The lock that was taken for it hides a server that may be free; where a claim came and went between two lists, neither tells.
            self.handler.note_locks();
        }
        facts.after(call, outcome, now);
        Ok(None)
    }

    /// It was deleted since the pass began, and is held only by those that have something there.
    fn handler_goes(&self) -> bool {
        self.context.handlers.get(&self.key).is_none_or(|handler| handler.metadata.deletion_timestamp.is_some())
    }

    /// Somebody suspended it since it was asked last: at once, and also where a poll of its panel takes its time.
    fn is_suspended(&self) -> bool {
        self.context.handlers.look(&self.key, |handler| handler.spec.suspend).unwrap_or(false)
    }
}
