//! Events: what a person following an order wants to be told, from the difference of two saved statuses.

use crate::api::condition::{self, ConditionType};
use crate::api::order::OrderStatus;

use super::closing::IPMI_IGNORED;
use super::context::cut;
use super::reason::Reason;
use super::step::{State, Step};
use super::tasks::{OPEN, TaskRequest, waits_for};

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
        notices.push(notice(false, "GivenBack", format!("server {} ({}) is free again, or not listed any more", server.id, server.name)));
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
            Some(was) if was.state == OPEN && task.state != OPEN => {
                notices.push(notice(false, "TaskClosed", format!("{} task {}: {}", task.type_, task.name, task.state)));
            }
            Some(was) if was.escalated_at.is_none() && task.escalated_at.is_some() => {
                notices.push(notice(true, "TaskOverdue", format!("{} task {} {}", task.type_, task.name, waits_for(task))));
            }
            // A new one is on record before it is made: that it was raised is told once it is there.
            None | Some(_) => {}
        }
    }
    if let Some(error) = new.last_error.as_ref().filter(|e| e.retryable && old.last_error.as_ref() != Some(e)) {
        notices.push(notice(true, "AttemptFailed", format!("{}: {}", error.step, error.message)));
    }
    if let Some((reason, message)) = stalled(new).filter(|now| stalled(old) != Some(*now)) {
        notices.push(notice(true, reason, message));
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

/// A task was made.
#[must_use]
pub fn raised(task: &TaskRequest) -> Notice {
    notice(true, "TaskRaised", format!("{} task {} for {}", task.type_.as_str(), task.name, task.department))
}

/// Keeps the times of conditions, of what is waited for and of what nobody has cured yet, where they are what they were when last saved.
pub fn carry_times(saved: &OrderStatus, new: &mut OrderStatus) {
    condition::carry_times(&saved.conditions, &mut new.conditions);
    if let (Some(old), Some(waiting)) = (&saved.waiting_on, &mut new.waiting_on)
        && old.kind == waiting.kind
        && old.name == waiting.name
    {
        waiting.since = old.since;
    }
    // A stalled order that is looked at again after each interval, and found as it was, is no news.
    if stalled(saved).is_some()
        && stalled(saved) == stalled(new)
        && saved.next_retry_time.is_some() == new.next_retry_time.is_some()
        && let (Some(old), Some(error)) = (&saved.last_error, &mut new.last_error)
        && (&old.step, &old.code, &old.message, old.retryable) == (&error.step, &error.code, &error.message, error.retryable)
    {
        error.time = old.time;
        new.next_retry_time = saved.next_retry_time;
    }
}

/// Reason and message of an order that is stalled.
fn stalled(status: &OrderStatus) -> Option<(&str, &str)> {
    let condition = condition::find(&status.conditions, ConditionType::Stalled)?;
    Some((&condition.reason, &condition.message))
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
    fn a_stalled_order_that_is_found_as_it_was_is_no_news() {
        let stalled = |minute: u32, reason: &str, retry: bool| -> OrderStatus {
            let time = format!("2026-01-01T00:{minute:02}:00Z");
            let condition = json!({"type": "Stalled", "status": "True", "reason": reason, "message": "put it right", "observedGeneration": 1,
                                   "lastTransitionTime": time});
            let error = json!({"step": "HandOver", "code": reason, "message": "put it right", "retryable": false, "time": time});
            let next = retry.then(|| format!("2026-01-01T00:{:02}:00Z", minute + 5));
            serde_json::from_value(json!({"conditions": [condition], "lastError": error, "nextRetryTime": next})).unwrap()
        };
        let saved = stalled(0, "OwnerChanged", true);
        let carried = |mut new: OrderStatus| {
            carry_times(&saved, &mut new);
            new
        };
        assert_eq!(carried(stalled(5, "OwnerChanged", true)), saved);
        for news in [stalled(5, "ServerGone", true), stalled(5, "OwnerChanged", false)] {
            assert_ne!(carried(news.clone()), saved);
            assert_eq!(carried(news.clone()).last_error, news.last_error);
        }
    }

    #[test]
    fn a_step_that_is_passed_over_is_no_release_that_was_given_up() {
        let told = |name: &str, was: &str| {
            let of = |state: &str| -> OrderStatus {
                serde_json::from_value(json!({"steps": [{"name": name, "state": state, "message": "given up"}]})).unwrap()
            };
            between(&of(was), &of("Skipped")).into_iter().map(|n| n.reason).collect::<Vec<_>>()
        };
        assert_eq!(told("Release", "Running"), ["Abandoned"]);
        assert_eq!(told("Release", "Skipped"), [] as [&str; 0]);
        assert_eq!(told("RunRecipes", "Pending"), [] as [&str; 0]);
    }

    #[test]
    fn the_time_of_a_wait_is_kept_while_it_is_for_the_same() {
        let waits = |minute: u32, kind: &str, name: &str| -> OrderStatus {
            let since = format!("2026-01-01T00:{minute:02}:00Z");
            serde_json::from_value(json!({"waitingOn": {"kind": kind, "name": name, "since": since}})).unwrap()
        };
        let saved = waits(0, "Panel", "dci");
        for (kind, name, same) in [("Panel", "dci", true), ("Panel", "other", false), ("Handler", "dci", false)] {
            let mut new = waits(5, kind, name);
            carry_times(&saved, &mut new);
            assert_eq!(new, waits(if same { 0 } else { 5 }, kind, name));
        }
    }

    #[test]
    fn notes_fit_whatever_they_are_written_in() {
        assert!(notice(true, "R", "😀".repeat(2000)).message.len() <= 1024);
    }
}
