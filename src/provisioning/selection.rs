//! Which of several handlers serves an order: by priority, past those that cannot, and never a second one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow::{Break, Continue};

use jiff::Timestamp;

use crate::api::common::ObjectKey;
use crate::api::order::{HandlerNote, OrderStatus};

use super::capacity;
use super::context::{Cx, Flow, SHORT, WaitKind, cut};
use super::facts::{HandlerState, Inventory};
use super::fitting::compare;
use super::give_back::{self, Then};
use super::order::{Handler, Order};
use super::reason::Reason;
use super::step::Step;
use super::tasks::OPEN;
use super::wanted::Wanted;

/// Handlers that a status speaks of.
const NOTED: usize = 32;

/// Handlers of one namespace, by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Namespace.
    pub namespace: String,
    /// Labels that a handler must all have.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether a handler is one of them.
    #[must_use]
    pub fn selects(&self, handler: &ObjectKey, labels: &BTreeMap<String, String>) -> bool {
        handler.namespace == self.namespace && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// A handler that an order may select, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Namespace and name.
    pub key: &'a ObjectKey,
    /// Lower is tried first.
    pub priority: i32,
    /// The IPManager that it takes addresses from.
    pub pool: Option<&'a ObjectKey>,
    /// Whether the order's namespace may use it. One that it may not is looked through for servers of ours, and never spoken of.
    pub allowed: bool,
    /// It is being deleted.
    pub going: bool,
    /// Whether it can be used.
    pub state: &'a HandlerState,
    /// Its policy, once its panel was asked.
    pub policy: Option<&'a Handler>,
    /// Our log-in at its panel.
    pub login: &'a str,
    /// The shared list.
    pub inventory: Option<&'a Inventory>,
}

/// Why a handler was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Namespace and name.
    pub key: ObjectKey,
    /// One word.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

/// The order in which handlers are tried: those whose server this order gave back come last; before them those that share the
/// IPManager of the one that failed; then by priority, then by name.
pub fn sort(candidates: &mut [Candidate<'_>], status: &OrderStatus) {
    let failed = |key: &ObjectKey| status.tried_servers.iter().any(|t| t.handler == key.to_string());
    let last = status.tried_servers.last().map(|t| t.handler.clone());
    let pool = candidates.iter().find(|c| Some(c.key.to_string()) == last).and_then(|c| c.pool).cloned();
    let shares = |c: &Candidate<'_>| pool.is_some() && c.pool == pool.as_ref();
    candidates
        .sort_by(|a, b| (failed(a.key), !shares(a), a.priority, &a.key.name).cmp(&(failed(b.key), !shares(b), b.priority, &b.key.name)));
}

/// Whether a server at this handler carries the marker of this order, of an earlier one of the same name, or this order's id. What a list
/// from before the order gave a server back shows of its own marker there is of the past.
#[must_use]
pub fn found(order: &Order, status: &OrderStatus, candidate: &Candidate<'_>) -> bool {
    let panel = candidate.policy.map(|policy| policy.panel.as_str());
    let back = |id: &str, list: &Inventory| panel.is_some_and(|panel| capacity::went_back(status, panel, id, list));
    candidate.inventory.is_some_and(|list| capacity::is_marked_but(order, list, |id| back(id, list)))
}

/// Whether a server at this handler carries this order's own marker, or what a panel left of it.
#[must_use]
pub fn has_own(order: &Order, status: &OrderStatus, candidate: &Candidate<'_>) -> bool {
    let panel = candidate.policy.map_or("", |policy| policy.panel.as_str());
    candidate.inventory.is_some_and(|list| capacity::is_own(&order.marker, status, panel, list))
}

/// Whether every server of this handler that could be the order's was looked at.
#[must_use]
pub fn looked_through(order: &Order, candidate: &Candidate<'_>) -> bool {
    candidate.inventory.is_some_and(|i| {
        let names = [order.username.as_str(), candidate.login];
        let restored = may_have_been_restored(order);
        let former = |owner: &String| restored && i.former.as_ref().is_some_and(|former| former.contains(owner));
        let ours = |owner: &String| names.iter().any(|n| owner == n || i.ids.get(*n) == Some(owner)) || former(owner);
        i.owners.contains(&order.username)
            && (!restored || i.former.is_some())
            && !i.rows.iter().any(|(id, row)| row.owner.as_ref().is_some_and(ours) && !i.markers.contains_key(id))
    })
}

/// Whether something of the order may be at a panel although its status says nothing: its status was restored or lost.
#[must_use]
pub fn may_have_been_restored(order: &Order) -> bool {
    order.order_id != order.uid
}

/// Why a handler cannot serve the order now, as far as that is known without asking its panel.
#[must_use]
pub fn passes_over(order: &Order, status: &OrderStatus, candidate: &Candidate<'_>) -> Option<PassedOver> {
    let because = |reason, message: String| Some(PassedOver { key: candidate.key.clone(), reason, message });
    if candidate.going {
        return because(Reason::HandlerNotReady, "the handler is being deleted".into());
    }
    match candidate.state {
        HandlerState::NotReady(why) => return because(Reason::HandlerNotReady, why.clone()),
        HandlerState::Suspended => return because(Reason::HandlerSuspended, "the handler is suspended".into()),
        HandlerState::Ready => {}
    }
    let (Some(policy), Some(inventory)) = (candidate.policy, candidate.inventory) else {
        return because(Reason::HandlerNotReady, "the handler has not been probed yet".into());
    };
    match &order.wanted {
        Wanted::Ready(server_type) => {
            if !capacity::free(&order.wanted, status, policy, inventory).is_empty() {
                return None;
            }
            because(Reason::WaitingForCapacity, capacity::no_server(server_type, inventory, policy))
        }
        Wanted::Custom(_) if policy.by_server_type => {
            because(Reason::CustomConfigurationRefused, "the handler serves ready configurations only".into())
        }
        Wanted::Custom(wanted) => {
            // What was not read yet may fit: the handler's own pass waits for it. But nobody's work at another handler is called off for
            // what may turn out not to fit.
            let elsewhere = status.handler.as_ref().is_some_and(|at| *at != candidate.key.to_string());
            let built_elsewhere = elsewhere && super::assembly::are_at_work(status);
            let may_fit = |id: &str| match inventory.hardware.get(id) {
                Some(hardware) => compare(wanted, hardware).fits(),
                None => !built_elsewhere,
            };
            if capacity::free(&order.wanted, status, policy, inventory).iter().any(|row| may_fit(&row.id.0)) {
                return None;
            }
            because(Reason::WaitingForCapacity, "no free server has the parts".into())
        }
    }
}

/// The handler at which a department builds the server of a custom order that none fits: the one that was asked before, else the
/// first in order. `passed`: why each was passed over; one that is down, refuses, or is at its limit builds nothing.
#[must_use]
pub fn builds<'c>(order: &Order, status: &OrderStatus, row: &[Candidate<'c>], passed: &[PassedOver]) -> Option<&'c ObjectKey> {
    if !matches!(order.wanted, Wanted::Custom(_)) {
        return None;
    }
    let able = |key: &ObjectKey| passed.iter().any(|p| p.key == *key && p.reason == Reason::WaitingForCapacity);
    let mut able = row.iter().map(|c| c.key).filter(|key| able(key)).peekable();
    let first = able.peek().copied();
    // A handler that was only looked at has not asked anybody.
    let asked = status.handler.as_deref().filter(|_| status.manual_tasks.iter().any(|t| t.state == OPEN));
    able.find(|key| asked == Some(key.to_string().as_str())).or(first)
}

/// The handlers at which an order that goes without a server is closed. One that was restored may have something in any pool: at each. Of
/// any other one nothing but licences can be left, and one handler that can be asked is enough to have them given back.
#[must_use]
pub fn closed_at<'c>(order: &Order, status: &OrderStatus, candidates: &[Candidate<'c>]) -> Vec<&'c ObjectKey> {
    if may_have_been_restored(order) {
        return candidates.iter().map(|c| c.key).collect();
    }
    let able = candidates.iter().filter(|c| !status.licenses.is_empty() && *c.state == HandlerState::Ready && c.inventory.is_some());
    let best = able.min_by_key(|c| (!looked_through(order, c), !c.allowed, c.priority, c.key));
    best.map(|c| c.key).into_iter().collect()
}

/// What is said of an order that goes, where no handler can be asked to have its licences given back.
#[must_use]
pub fn keeps_licenses(order: &Order, namespace: &str, now: Timestamp, status: &OrderStatus) -> OrderStatus {
    let finalizer = crate::api::ORDER_FINALIZER;
    let message = format!(
        "the order has licences, and none of the handlers that it selects can be asked to have them given back; make one usable again, or, to leave them at the licence server, remove the finalizer {finalizer}"
    );
    waiting(order, WaitKind::Handler, namespace, Reason::HandlerNotReady, &message, now, status.clone())
}

/// What a pass at one handler came to, where it bound nothing: the reason to try the next one. `None`: it is this one's business.
#[must_use]
pub fn ended_without(key: &ObjectKey, status: &OrderStatus) -> Option<PassedOver> {
    if status.server.is_some() || status.in_flight.is_some() {
        return None;
    }
    let ready = crate::api::condition::find(&status.conditions, crate::api::condition::ConditionType::Ready)?;
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == ready.reason)?;
    let elsewhere = matches!(
        reason,
        Reason::WaitingForCapacity
            | Reason::LimitReached
            | Reason::HandlerNotReady
            | Reason::HandlerSuspended
            | Reason::UnknownTemplate
            | Reason::UnknownRecipe
            | Reason::RecipeIncompatible
            | Reason::SeveralRecipes
            | Reason::CustomConfigurationRefused
            | Reason::DeletionPolicyForbidden
            | Reason::LicenseServerNotReady
            | Reason::UnknownProduct
            // Whatever server it is: this panel cuts what says whose it is.
            | Reason::MarkerTruncated
    );
    elsewhere.then(|| PassedOver { key: key.clone(), reason, message: ready.message.clone() })
}

/// What the status says of the handlers that were passed over.
#[must_use]
pub fn notes(passed: &[PassedOver]) -> Vec<HandlerNote> {
    let note = |p: &PassedOver| HandlerNote { name: p.key.name.clone(), reason: p.reason.as_str().into(), message: cut(&p.message, SHORT) };
    passed.iter().take(NOTED).map(note).collect()
}

/// The status of an order that every handler was passed over for: it waits until one of them changes.
#[must_use]
pub fn exhausted(order: &Order, passed: &[PassedOver], now: Timestamp, status: &OrderStatus) -> OrderStatus {
    let capacity = [Reason::WaitingForCapacity, Reason::LimitReached, Reason::HandlerSuspended];
    let reason = capacity.into_iter().find(|r| passed.iter().any(|p| p.reason == *r)).or_else(|| passed.first().map(|p| p.reason));
    let reason = reason.unwrap_or(Reason::HandlerNotFound);
    let kind = match reason {
        Reason::WaitingForCapacity | Reason::LimitReached => WaitKind::Capacity,
        _ => WaitKind::Handler,
    };
    let shown: Vec<String> = passed.iter().map(|p| format!("{}: {}", p.key.name, p.message)).collect();
    let message = format!("no handler can serve the order now; {}", shown.join("; "));
    waiting(order, kind, &order.wanted.to_string(), reason, &message, now, OrderStatus { handlers: notes(passed), ..status.clone() })
}

/// A restored order waits until every handler that it may select was looked through: its server may be at any of them.
#[must_use]
pub fn not_looked_through(order: &Order, now: Timestamp, status: &OrderStatus) -> OrderStatus {
    let mut message = "the order was restored, and not every handler that it selects was looked through for its server yet".to_owned();
    if order.deleting {
        let finalizer = crate::api::ORDER_FINALIZER;
        let _ = write!(
            message,
            "; make the handlers usable again, or, to leave what may be at the panels there, remove the finalizer {finalizer}"
        );
    } else {
        message.push_str("; no other one is taken");
    }
    waiting(order, WaitKind::Handler, "restore", Reason::HandlerNotReady, &message, now, status.clone())
}

fn waiting(
    order: &Order,
    kind: WaitKind,
    name: &str,
    reason: Reason,
    message: &str,
    now: Timestamp,
    mut status: OrderStatus,
) -> OrderStatus {
    if super::decide::asked(order, &status) {
        give_back::forgive(&mut status);
        status.last_handled_reconcile_at.clone_from(&order.reconcile_requested);
    }
    super::decide::waiting_without_handler(order, kind, name, reason, message, now, &status)
}

/// The records of the steps are those of one handler: an order that is tried at another one begins anew.
pub(super) fn settle_at(cx: &mut Cx<'_>) {
    if cx.order.deleting || cx.status.server.is_some() || cx.status.in_flight.is_some() {
        return;
    }
    let key = cx.handler.key.to_string();
    if cx.status.handler.as_ref().is_some_and(|at| *at != key) {
        cx.status.steps.clear();
        // Whoever says that the allocation is done says that a server carries our marker: before another one is taken here a department
        // hears that none does.
        let done = cx.status.attempts_for.take().filter(|a| a.done_at.is_some() && a.step == Step::Allocate.as_str());
        cx.forget_attempts();
        cx.status.attempts_for = done;
        cx.supersede_tasks();
    }
    cx.status.handler = Some(key);
}

/// Steps whose failure another server may cure: all that is done to the server itself before the hand-over. A user that cannot be
/// made, or a claim that the panel refuses, is not the server's fault.
fn cured_elsewhere(step: Step) -> bool {
    match step {
        Step::PowerOn | Step::ChangeAddress | Step::InstallOS | Step::RunRecipes => true,
        Step::CreateClient
        | Step::Allocate
        | Step::Assemble
        | Step::IssueLicenses
        | Step::HandOver
        | Step::RevokeLicenses
        | Step::PowerOff
        | Step::RemoveAddresses
        | Step::ParkAddress
        | Step::Release
        | Step::Suspend
        | Step::PortsOff
        | Step::StopPower
        | Step::Resume
        | Step::PortsOn
        | Step::SetPassword => false,
    }
}

/// A step failed too often, and another handler could serve the order: the server is given back first.
pub(super) fn try_another_handler(cx: &mut Cx<'_>, step: Step, message: &str) -> Flow {
    // One that is not given back is looked after by a department.
    let stays = cx.status.server.is_none() || give_back::may_be_the_clients(cx);
    if cx.order.deleting || stays || give_back::under_way(cx) || !cured_elsewhere(step) || !cx.facts.another_handler {
        return Continue(());
    }
    let message = format!("{} failed {} times: {message}", step.as_str(), cx.status.attempts);
    Break(give_back::give_back(cx, Then::TryAnother(Reason::OperationFailed, message)))
}

/// Whether a handler other than the order's own, at which nothing failed yet, could take the order now.
#[must_use]
pub fn another(order: &Order, status: &OrderStatus, candidates: &[Candidate<'_>]) -> bool {
    let own = status.server.as_ref().map(|s| s.handler.as_str());
    candidates.iter().any(|c| {
        let name = c.key.to_string();
        c.allowed
            && own != Some(&name)
            && !status.tried_servers.iter().any(|t| t.handler == name)
            && passes_over(order, status, c).is_none()
    })
}

/// The twin of the schema's rule that the handler is fixed: `None` where the spec still names the one that serves the order.
#[must_use]
pub fn moved(order: &Order, serving: &str) -> Option<&'static str> {
    match (&order.handler, &order.selector) {
        (Some(named), _) => (named.to_string() != serving).then_some("handlerRef"),
        (None, Some(selector)) => {
            let same = serving.split_once('/').is_some_and(|(namespace, _)| namespace == selector.namespace);
            (!same).then_some("handlerSelector")
        }
        (None, None) => Some("handlerRef"),
    }
}
