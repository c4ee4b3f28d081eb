//! From what was decided to phase and conditions, by the rules of kstatus, in one place.

use jiff::Timestamp;

use crate::api::condition::{self, ConditionType};
use crate::api::order::OrderStatus;

use super::context::{LONG, cut};
use super::reason::Reason;
use super::step::{State, Step};

/// The phase that people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has begun.
    Pending,
    /// A server is being claimed.
    Allocating,
    /// A department has to act.
    AwaitingTask,
    /// The server is being prepared.
    Preparing,
    /// The client has it.
    Active,
    /// The service is suspended, as asked.
    Suspended,
    /// It is being taken back.
    Deleting,
    /// Nothing goes on without a person.
    Failed,
}

impl Phase {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Allocating => "Allocating",
            Self::AwaitingTask => "AwaitingTask",
            Self::Preparing => "Preparing",
            Self::Active => "Active",
            Self::Suspended => "Suspended",
            Self::Deleting => "Deleting",
            Self::Failed => "Failed",
        }
    }
}

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was asked for is there.
    Ready,
    /// What was asked for is there, and suspended as was asked for, too.
    Suspended,
    /// It goes on by itself, or by a task that a person closes.
    Progressing(Phase, Reason, String),
    /// Nobody goes on until somebody changes something. `bool`: while being deleted.
    Stalled(Reason, String, bool),
}

/// Writes phase and conditions.
///
/// `pending`: what the installed system differs in from the spec, and why that waits.
pub fn conclude(status: &mut OrderStatus, verdict: &Verdict, generation: i64, now: Timestamp, pending: Option<(Reason, &'static str)>) {
    let conditions = &mut status.conditions;
    let mut set = |type_, value, reason: Reason, message: &str| {
        condition::set(conditions, type_, value, reason.as_str(), &cut(message, LONG), generation, now);
    };
    let phase = match verdict {
        Verdict::Ready => {
            set(ConditionType::Ready, true, Reason::Active, "the server is prepared");
            Phase::Active
        }
        Verdict::Suspended => {
            set(ConditionType::Ready, true, Reason::Suspended, "the server is prepared, and the service is suspended as asked");
            Phase::Suspended
        }
        Verdict::Progressing(phase, reason, message) => {
            set(ConditionType::Ready, false, *reason, message);
            set(ConditionType::Reconciling, true, *reason, message);
            *phase
        }
        Verdict::Stalled(reason, message, deleting) => {
            set(ConditionType::Ready, false, *reason, message);
            set(ConditionType::Stalled, true, *reason, message);
            if *deleting { Phase::Deleting } else { Phase::Failed }
        }
    };
    if !matches!(verdict, Verdict::Progressing(..)) {
        condition::remove(&mut status.conditions, ConditionType::Reconciling);
    }
    if !matches!(verdict, Verdict::Stalled(..)) {
        condition::remove(&mut status.conditions, ConditionType::Stalled);
    }
    status.phase = Some(phase.as_str().into());
    status.observed_generation = Some(generation);
    if phase != Phase::Deleting && super::suspension::is_over(status) {
        let message = "the server is disabled, its switch ports and its power are off";
        condition::set(&mut status.conditions, ConditionType::Suspended, true, Reason::Suspended.as_str(), message, generation, now);
    } else {
        condition::remove(&mut status.conditions, ConditionType::Suspended);
    }
    steps_as_conditions(status, generation, now, pending);
}

fn steps_as_conditions(status: &mut OrderStatus, generation: i64, now: Timestamp, pending: Option<(Reason, &'static str)>) {
    let over = |step: Step| status.steps.iter().any(|s| s.name == step.as_str() && State::parse(&s.state).over());
    let recipe_failed = status.server.as_ref().is_some_and(|s| !s.failed_recipes.is_empty());
    let rows = [
        (ConditionType::ServerAllocated, status.server.is_some()),
        (ConditionType::NetworkConfigured, over(Step::ChangeAddress)),
        (ConditionType::OSInstalled, over(Step::InstallOS)),
        (ConditionType::RecipesApplied, over(Step::RunRecipes) && !recipe_failed),
        (ConditionType::LicensesIssued, over(Step::IssueLicenses)),
    ];
    for (type_, done) in rows {
        let (reason, message) = match (type_, done, pending) {
            (ConditionType::OSInstalled, true, Some(pending)) => pending,
            (ConditionType::RecipesApplied, false, _) if recipe_failed => (Reason::RecipeFailed, "see status.server.failedRecipes"),
            (_, true, _) => (Reason::Done, ""),
            (_, false, _) => (Reason::Pending, ""),
        };
        condition::set(&mut status.conditions, type_, done, reason.as_str(), message, generation, now);
    }
    match status.manual_tasks.iter().rev().find(|t| t.state == super::tasks::OPEN) {
        Some(task) => {
            let message = format!("{} task {} {}", task.type_, task.name, super::tasks::waits_for(task));
            condition::set(
                &mut status.conditions,
                ConditionType::ManualActionRequired,
                true,
                Reason::WaitingForTask.as_str(),
                &message,
                generation,
                now,
            );
        }
        None => condition::remove(&mut status.conditions, ConditionType::ManualActionRequired),
    }
}
