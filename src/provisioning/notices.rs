//! Events: what a person following an order wants to be told, from the difference of two saved statuses.

use crate::api::condition::{self, ConditionType};
use crate::api::order::OrderStatus;

use super::closing::IPMI_IGNORED;
use super::context::cut;
use super::reason::Reason;
use super::step::{State, Step};
use super::tasks::{OPEN, waits_for};

/// An event to be published after the status was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Warning or Normal.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// The longest note of an event, in bytes; the API allows 1024.
const MAX_NOTE: usize = 1000;

fn notice(warning: bool, reason: &str, message: impl AsRef<str>) -> Notice {
    Notice { warning, reason: reason.into(), message: cut(message.as_ref(), MAX_NOTE) }
}

/// What happened between two statuses of one order.
#[must_use]
pub fn between(old: &OrderStatus, new: &OrderStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let (None, Some(server)) = (&old.server, &new.server) {
        notices.push(notice(false, "ServerAllocated", format!("server {} ({})", server.id, server.name)));
    }
    if let Some(returning) = new.server.as_ref().and_then(|s| s.returning.as_ref())
        && old.server.as_ref().is_none_or(|s| s.returning.is_none())
    {
        notices.push(notice(true, "GivingBack", format!("the server is given back: {}", returning.message)));
    }
    let failed = |s: &OrderStatus| s.server.as_ref().map(|s| s.failed_recipes.clone()).unwrap_or_default();
    for recipe in failed(new).into_iter().filter(|r| !failed(old).contains(r)) {
        notices.push(notice(true, "RecipeFailed", format!("recipe {recipe} failed; readyWhen: OSInstalled does not wait for it")));
    }
    if let (Some(server), None) = (&old.server, &new.server) {
        notices.push(notice(false, "GivenBack", format!("server {} ({}) is free again", server.id, server.name)));
    }
    for step in &new.steps {
        let was = old.steps.iter().find(|s| s.name == step.name).map_or(State::Pending, |s| State::parse(&s.state));
        if step.name == Step::Release.as_str() && State::parse(&step.state) == State::Skipped && was != State::Skipped {
            notices.push(notice(true, "Abandoned", step.message.clone()));
        }
        if State::parse(&step.state) == State::Done && was != State::Done {
            let message = if step.message.is_empty() { step.name.clone() } else { format!("{}: {}", step.name, step.message) };
            // Events of one reason fold into one: each step has its own.
            notices.push(notice(false, &format!("{}Done", step.name), message));
            if step.message.starts_with(IPMI_IGNORED) {
                notices.push(notice(true, Reason::IpmiError.as_str(), step.message.clone()));
            }
        }
    }
    for task in &new.manual_tasks {
        match old.manual_tasks.iter().find(|t| t.name == task.name) {
            None => notices.push(notice(true, "TaskRaised", format!("{} task {} for {}", task.type_, task.name, task.department))),
            Some(was) if was.state == OPEN && task.state != OPEN => {
                notices.push(notice(false, "TaskClosed", format!("{} task {}: {}", task.type_, task.name, task.state)));
            }
            Some(was) if was.escalated_at.is_none() && task.escalated_at.is_some() => {
                notices.push(notice(true, "TaskOverdue", format!("{} task {} {}", task.type_, task.name, waits_for(task))));
            }
            Some(_) => {}
        }
    }
    if let Some(error) = new.last_error.as_ref().filter(|e| e.retryable && old.last_error.as_ref() != Some(e)) {
        notices.push(notice(true, "AttemptFailed", format!("{}: {}", error.step, error.message)));
    }
    let stalled = |s: &OrderStatus| condition::find(&s.conditions, ConditionType::Stalled).map(|c| (c.reason.clone(), c.message.clone()));
    if let Some((reason, message)) = stalled(new).filter(|now| stalled(old).as_ref() != Some(now)) {
        notices.push(notice(true, &reason, message));
    }
    let ready = |s: &OrderStatus| condition::is_true(&s.conditions, ConditionType::Ready);
    if ready(new) && !ready(old) {
        let suspended = condition::is_true(&new.conditions, ConditionType::Suspended);
        notices.push(if suspended {
            notice(false, "Suspended", "the service is suspended")
        } else {
            notice(false, "Active", "the server is prepared")
        });
    }
    notices
}

/// Keeps the times of conditions and of what is waited for, where they are what they were when last saved.
pub fn carry_times(saved: &OrderStatus, new: &mut OrderStatus) {
    condition::carry_times(&saved.conditions, &mut new.conditions);
    if let (Some(old), Some(waiting)) = (&saved.waiting_on, &mut new.waiting_on)
        && old.kind == waiting.kind
        && old.name == waiting.name
    {
        waiting.since = old.since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(power_off: &str, message: &str) -> OrderStatus {
        serde_json::from_value(json!({"steps": [{"name": "PowerOff", "state": power_off, "message": message}]})).unwrap()
    }

    #[test]
    fn an_ipmi_error_that_is_ignored_is_told_once() {
        let told = |old: &OrderStatus, new: &OrderStatus| {
            between(old, new).into_iter().map(|n| (n.warning, n.reason, n.message)).collect::<Vec<_>>()
        };
        let message = format!("{IPMI_IGNORED}: no answer");
        let (before, after) = (status("Running", ""), status("Done", &message));
        let expected = [(false, "PowerOffDone".to_owned(), format!("PowerOff: {message}")), (true, "IpmiError".to_owned(), message)];
        assert_eq!(told(&before, &after), expected);
        assert_eq!(told(&after, &after), []);
        assert_eq!(told(&before, &status("Done", "")).len(), 1);
    }

    #[test]
    fn notes_fit_whatever_they_are_written_in() {
        assert!(notice(true, "R", "😀".repeat(2000)).message.len() <= 1024);
    }
}
