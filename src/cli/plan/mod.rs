//! What will happen when a manifest is applied: a pure function of the order, its handlers as they are stored, and the order that is
//! there already.
//!
//! It knows what Kubernetes knows. What only a panel can tell stands in [`Plan::unknown`], never among what is said to happen.

mod assess;
mod changes;
mod print;
mod steps;

use std::collections::BTreeMap;

use crate::api::check::check_order;
use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use kube::ResourceExt as _;

use crate::api::{DedicatedServerOrder, IPManager, ProcessingHandler, RECONCILE_ANNOTATION};
use crate::controller::context::serving_handler;
use crate::provisioning::context::WaitKind;
use crate::provisioning::order::{Handler, Order};
use crate::provisioning::selection::Selector;
use crate::provisioning::step::Step;

use super::known::Known;

pub use print::text;

/// Stands for the cluster's name in markers, which no plan shows.
const CLUSTER: &str = "plan";

/// Everything that a plan is made of.
#[derive(Clone, Debug)]
pub struct Question {
    /// The order as the manifest says it.
    pub order: DedicatedServerOrder,
    /// Fields of the manifest that there are not.
    pub unknown_fields: Vec<String>,
    /// The order of that name that is there.
    pub existing: Known<DedicatedServerOrder>,
    /// The handlers that it names or selects; of one that has a server, the one that serves it.
    pub handlers: Known<Vec<Offer>>,
    /// Those of them that this version cannot read.
    pub unread_handlers: Vec<ObjectKey>,
    /// Labels of the order's namespace.
    pub labels: Known<BTreeMap<String, String>>,
    /// All orders of its namespace.
    pub neighbours: Known<Vec<DedicatedServerOrder>>,
    /// Those of them that this version cannot read.
    pub unread_orders: Vec<ObjectKey>,
    /// How many other orders are planned in the same call.
    pub beside: usize,
}

/// A handler, with what it depends on.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The handler.
    pub handler: ProcessingHandler,
    /// Its IPManager.
    pub pool: Known<IPManager>,
    /// Its licence server, where it names one.
    pub license_server: Known<ProcessingHandler>,
}

impl Offer {
    /// What the decisions read of it.
    #[must_use]
    pub fn policy(&self) -> Handler {
        let panel = self.handler.status.as_ref().and_then(|s| s.panel.clone()).unwrap_or_default();
        Handler::new(self.handler.key(), &self.handler.spec, panel)
    }
}

/// What a finding means for the order, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It goes on.
    Good,
    /// It cannot be told.
    Unknown,
    /// The order waits, and goes on by itself once that has changed.
    Waits,
    /// Nothing goes on until somebody changes order or handler.
    Stops,
}

/// Something that speaks for or against a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it means.
    pub weight: Weight,
    /// In words.
    pub text: String,
}

/// A handler, looked at for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Lower is tried first.
    pub priority: i32,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Assessment {
    /// The worst of it.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.findings.iter().map(|f| f.weight).max().unwrap_or(Weight::Unknown)
    }
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is done.
    Does,
    /// It is not needed.
    Skips,
    /// It is over.
    Over,
}

/// A step, and what it will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// What becomes of it.
    pub act: Act,
    /// In words.
    pub text: String,
}

/// What a change of a field costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is acted upon at once.
    AtOnce,
    /// It takes effect later, or on something else's occasion.
    Later,
    /// It destroys the data on the disks.
    Wipes,
    /// It is refused.
    Refused,
}

/// A field of an order that has a server, and what its change brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field.
    pub field: &'static str,
    /// As it is stored.
    pub was: String,
    /// As the manifest says.
    pub becomes: String,
    /// What it costs.
    pub effect: Effect,
    /// In words.
    pub text: String,
}

/// What the manifest meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// No such order is there.
    New,
    /// Whether one is there cannot be told: why. The plan is that of a new one.
    Unseen(String),
    /// One is there, without a server yet.
    Waiting,
    /// One is there, with a server in preparation.
    Preparing,
    /// One is there, and the client has its server.
    HandedOver,
    /// One is there, and is being deleted.
    Deleting,
}

/// What will happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Namespace and name of the order.
    pub order: ObjectKey,
    /// What it meets.
    pub situation: Situation,
    /// What is wrong with the manifest itself.
    pub problems: Vec<String>,
    /// What the order that is there waits for, where this manifest changes nothing about it.
    pub stands: Option<Finding>,
    /// The handlers, in the order in which they are tried.
    pub handlers: Vec<Assessment>,
    /// Why no handler could be looked at.
    pub no_handler: Option<Finding>,
    /// Whether a selector tries one after the other.
    pub selects: bool,
    /// The one that serves the order, as far as can be told.
    pub chosen: Option<ObjectKey>,
    /// The steps, in order.
    pub steps: Vec<Planned>,
    /// What a change of an order with a server brings about.
    pub changes: Vec<Change>,
    /// What only the panel, or somebody with more rights, knows.
    pub unknown: Vec<String>,
}

impl Plan {
    /// What it comes to.
    #[must_use]
    pub fn weight(&self) -> Weight {
        let refused = self.changes.iter().any(|c| c.effect == Effect::Refused);
        if refused || !self.problems.is_empty() {
            return Weight::Stops;
        }
        let handlers = match (&self.no_handler, &self.situation) {
            (Some(finding), _) => finding.weight,
            (None, Situation::Deleting) => return Weight::Good,
            (None, Situation::New | Situation::Unseen(_) | Situation::Waiting | Situation::Preparing | Situation::HandedOver) => {
                self.handlers.iter().map(Assessment::weight).min().unwrap_or(Weight::Unknown)
            }
        };
        self.stands.iter().map(|finding| finding.weight).fold(handlers, Weight::max)
    }
}

/// The handlers that have to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One.
    Named(ObjectKey),
    /// Those with these labels.
    Selected(Selector),
    /// None: the manifest says none, or both.
    Nobody,
}

/// The handlers that a plan needs: once an order has a server, the one that serves it.
#[must_use]
pub fn wanted_handlers(order: &DedicatedServerOrder, existing: Option<&DedicatedServerOrder>) -> Wanted {
    let serving = existing.filter(|e| e.is_bound()).and_then(serving_handler);
    if let Some(key) = serving.or_else(|| crate::provisioning::order::handler_key(order)) {
        return Wanted::Named(key);
    }
    crate::provisioning::order::selector(order).map_or(Wanted::Nobody, Wanted::Selected)
}

fn situation(existing: &Known<DedicatedServerOrder>) -> Situation {
    match existing {
        Known::Absent => Situation::New,
        Known::Hidden(why) => Situation::Unseen(why.clone()),
        Known::Is(order) if order.metadata.deletion_timestamp.is_some() => Situation::Deleting,
        Known::Is(order) if order.status.as_ref().and_then(|s| s.server.as_ref()).is_some_and(|s| s.handed_over_at.is_some()) => {
            Situation::HandedOver
        }
        Known::Is(order) if order.is_bound() => Situation::Preparing,
        Known::Is(_) => Situation::Waiting,
    }
}

/// What will happen. Nothing is read or changed for it.
#[must_use]
pub fn plan(question: &Question) -> Plan {
    let mut plan = Plan {
        order: question.order.key(),
        situation: situation(&question.existing),
        problems: check_order(&question.order).iter().map(ToString::to_string).collect(),
        stands: None,
        handlers: Vec::new(),
        no_handler: None,
        selects: question.order.spec.handler_selector.is_some(),
        chosen: None,
        steps: Vec::new(),
        changes: Vec::new(),
        unknown: Vec::new(),
    };
    plan.problems.extend(question.unknown_fields.iter().map(|field| format!("{field}: there is no such field")));
    let order = match Order::parse(&question.order, CLUSTER) {
        Ok(order) if plan.problems.is_empty() => order,
        Ok(_) => return plan,
        Err(refusal) => {
            // Its first problem is among those above.
            if plan.problems.is_empty() {
                plan.problems.push(refusal.to_string());
            }
            return plan;
        }
    };
    if let Known::Is(existing) = &question.existing {
        plan.changes = match plan.situation {
            Situation::Deleting => return plan,
            Situation::Preparing | Situation::HandedOver => changes::of(existing, question, &order),
            Situation::New | Situation::Unseen(_) | Situation::Waiting => changes::fixed_from_the_start(existing, &question.order),
        };
    }
    let asks = |order: &DedicatedServerOrder| order.annotations().get(RECONCILE_ANNOTATION).cloned();
    // Whoever asks for another attempt gets one.
    let same = question
        .existing
        .get()
        .is_some_and(|is| is.spec == question.order.spec && asks(&question.order).is_none_or(|asked| asks(is) == Some(asked)));
    let stands = question.existing.get().and_then(stands);
    plan.stands = stands.clone().filter(|_| same);
    assess::handlers(question, &order, &mut plan);
    let offers = question.handlers.get().map(Vec::as_slice).unwrap_or_default();
    let offer = offers.iter().find(|o| Some(o.handler.key()) == plan.chosen);
    plan.steps = steps::of(question, &order, offer, &plan.situation);
    plan.unknown = steps::unknown(question, &order, offer, &plan);
    if let Some(finding) = stands.filter(|_| !same) {
        plan.unknown.push(format!("whether the change helps the order, which does not go on as it is: {}", finding.text));
    }
    plan
}

/// Why an order does not go on by itself: it stands still, or a department was asked.
fn stands(existing: &DedicatedServerOrder) -> Option<Finding> {
    // What was said of an older spec may be cured.
    let status = existing.status.as_ref().filter(|s| s.observed_generation == existing.metadata.generation)?;
    if let Some(stalled) = condition::find(&status.conditions, ConditionType::Stalled).filter(|c| c.status == "True") {
        return Some(Finding { weight: Weight::Stops, text: format!("{}: {}", stalled.reason, stalled.message) });
    }
    let wait = status.waiting_on.as_ref().filter(|w| w.kind == WaitKind::Department.as_str())?;
    let task = status.manual_tasks.iter().find(|t| t.name == wait.name)?;
    Some(Finding { weight: Weight::Waits, text: format!("department {} has task {}", task.department, task.name) })
}

#[cfg(test)]
mod tests;
