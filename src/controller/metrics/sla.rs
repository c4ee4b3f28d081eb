//! How long an order may be in one step, and for how long it has been. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::handler::HandlerSpec;
use crate::api::order_status::OrderStatus;
use crate::provisioning::step::{State, Step};

/// What a department is given where the handler sets it no deadline.
pub const NO_DEADLINE: Duration = Duration::from_hours(24);

/// The SLA of a step: the time that one attempt may take by `spec.timeouts`, and one `spec.retry.interval`. An order that is in a step
/// for longer has seen an attempt fail, and the next one is not quick either; or it waits, for a free server, a department, a panel or a
/// handler, and then no attempt need have failed.
#[must_use]
pub fn of(step: Step, handler: &HandlerSpec) -> Duration {
    let timeouts = &handler.timeouts;
    let attempt = match step {
        Step::PowerOn | Step::PowerOff | Step::StopPower => timeouts.power.0,
        Step::InstallOS | Step::RunRecipes => timeouts.install.0,
        Step::Assemble => {
            let department = handler.departments.as_ref().and_then(|d| d.assembly.as_ref());
            department.and_then(|d| d.deadline).map_or(NO_DEADLINE, |d| d.0)
        }
        Step::CreateClient
        | Step::Allocate
        | Step::ChangeAddress
        | Step::IssueLicenses
        | Step::HandOver
        | Step::RevokeLicenses
        | Step::RemoveAddresses
        | Step::ParkAddress
        | Step::Release
        | Step::Suspend
        | Step::PortsOff
        | Step::Resume
        | Step::PortsOn
        | Step::SetPassword => timeouts.step.0,
    };
    attempt.saturating_add(handler.retry.interval.0)
}

/// The step that an order is in; none while it is at rest. An order that has never got anywhere has no progress yet.
#[must_use]
pub fn at_hand(status: &OrderStatus) -> Option<Step> {
    let progress = status.progress.as_ref().map(|p| p.step.as_str());
    let named = status.steps.iter().find(|s| Some(s.name.as_str()) == progress && !State::parse(&s.state).over());
    let begun = |state| matches!(state, State::Running | State::Waiting | State::Failed);
    let record = named.or_else(|| status.steps.iter().find(|s| begun(State::parse(&s.state))))?;
    Step::parse(&record.name)
}

/// Since when a step has been at hand: when it was begun last, or when the first of its failed attempts failed. An attempt sets the
/// first of the two anew, so that neither is enough alone.
#[must_use]
pub fn since(status: &OrderStatus, step: Step) -> Option<Timestamp> {
    let began = status.steps.iter().find(|s| s.name == step.as_str()).and_then(|s| s.started_at);
    let failed = status.attempts_for.as_ref().filter(|a| a.step == step.as_str()).map(|a| a.since);
    began.into_iter().chain(failed).map(|t| t.0).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use crate::provisioning::step::{CHANGES, CLOSING, OPENING};
    use serde_json::{Value, json};

    fn handler(spec: &Value) -> HandlerSpec {
        samples::handler(&json!({"spec": spec})).spec
    }

    #[test]
    fn each_step_may_take_one_attempt_and_one_pause() {
        let handler = handler(&json!({
            "timeouts": {"power": "10m", "install": "2h", "step": "5m"}, "retry": {"interval": "3m"},
            "departments": {"assembly": {"name": "Assembly", "deadline": "6h"}, "procurement": {"name": "Procurement"}},
        }));
        let minutes = |step| of(step, &handler).as_secs() / 60;
        for (step, wanted) in [(Step::PowerOff, 13), (Step::InstallOS, 123), (Step::Assemble, 363), (Step::Release, 8)] {
            assert_eq!(minutes(step), wanted, "{step:?}");
        }
        assert!(OPENING.into_iter().chain(CLOSING).chain(CHANGES).all(|step| minutes(step) > 3));
        assert_eq!(of(Step::Assemble, &self::handler(&json!({}))), NO_DEADLINE + Duration::from_mins(5));
    }

    #[test]
    fn a_new_attempt_does_not_start_the_clock_anew() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut status: OrderStatus = serde_json::from_value(json!({
            "progress": {"percent": 15, "step": "PowerOn"},
            "steps": [{"name": "Allocate", "state": "Done", "startedAt": at(10).to_string()},
                {"name": "PowerOn", "state": "Running", "startedAt": at(500).to_string()}],
        }))
        .unwrap();
        assert_eq!((at_hand(&status), since(&status, Step::PowerOn)), (Some(Step::PowerOn), Some(at(500))));
        status.attempts_for = serde_json::from_value(json!({
            "step": "PowerOn", "intent": "x", "call": "powerOn", "target": "server/17", "since": at(100).to_string(),
        }))
        .unwrap();
        assert_eq!(since(&status, Step::PowerOn), Some(at(100)));
        assert_eq!(since(&status, Step::Allocate), Some(at(10)));
        status.progress = None;
        assert_eq!(at_hand(&status), Some(Step::PowerOn));
        status.steps[1].state = "Done".into();
        assert_eq!(at_hand(&status), None);
    }

    /// As docs/metrics.md has it: beyond its SLA, and nothing has failed.
    #[test]
    fn an_order_that_waits_for_a_free_server_is_in_its_step_without_an_attempt() {
        let since_when = Timestamp::from_second(10).unwrap();
        let status: OrderStatus = serde_json::from_value(json!({
            "steps": [{"name": "Allocate", "state": "Waiting", "startedAt": since_when.to_string()}],
        }))
        .unwrap();
        assert!(status.attempts_for.is_none() && status.attempts == 0);
        assert_eq!((at_hand(&status), since(&status, Step::Allocate)), (Some(Step::Allocate), Some(since_when)));
    }
}
