//! What the operator says of a task: open or closed, overdue, and whom it still has to tell. Pure.

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::condition::{self, ConditionType};
use crate::api::task::{Notification, TaskStatus};
use crate::api::{DEPARTMENT_LABEL, ESCALATED_LABEL, ManualTask, ORDER_UID_LABEL, TYPE_LABEL};
use crate::provisioning::reason::Reason;
use crate::provisioning::tasks::is_own_note;

/// Who makes tasks.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "dci-operator");
/// Notifications that a status remembers; there are never more kinds of them than that.
const REMEMBERED: usize = 8;

/// Something that a department is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The task was raised.
    Raised,
    /// Its deadline has passed.
    Escalated,
    /// It is closed.
    Closed,
}

impl Event {
    /// The word in the API and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "Raised",
            Self::Escalated => "Escalated",
            Self::Closed => "Closed",
        }
    }
}

/// The labels that a task has to have, and whether it may carry others of ours.
#[must_use]
pub fn labels(task: &ManualTask) -> std::collections::BTreeMap<String, String> {
    let spec = &task.spec;
    let escalated = task.status.as_ref().and_then(|s| s.escalated_to.as_deref());
    [
        (DEPARTMENT_LABEL, spec.department.as_str()),
        (ORDER_UID_LABEL, spec.order_ref.uid.as_str()),
        (TYPE_LABEL, spec.type_.as_str()),
        MANAGED_BY,
    ]
    .into_iter()
    .chain(escalated.map(|other| (ESCALATED_LABEL, other)))
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// All labels of a task as they should be; `None` when they are.
#[must_use]
pub fn mended(task: &ManualTask) -> Option<std::collections::BTreeMap<String, String>> {
    let present = task.metadata.labels.clone().unwrap_or_default();
    let mut all = present.clone();
    // Nobody gets access to a task by writing a label.
    all.remove(ESCALATED_LABEL);
    all.extend(labels(task));
    (all != present).then_some(all)
}

/// Whether the operator made a task: its name follows from its spec, which nobody can change. The uid of an order is a label's value;
/// another one was not made by the API server, and cannot be written into a label.
#[must_use]
pub fn made_by_us(task: &ManualTask) -> bool {
    let uid = task.spec.order_ref.uid.as_str();
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_label = uid.len() <= 63 && end(uid.chars().next()) && end(uid.chars().next_back());
    let prefix = format!("{}-{uid}-", task.spec.type_.as_str().to_lowercase());
    let name = task.metadata.name.as_deref().unwrap_or_default();
    is_label && name.strip_prefix(&prefix).is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The status of a task now. `tells`: whether a department wants to be told.
#[must_use]
pub fn status_of(task: &ManualTask, ours: bool, now: Timestamp, tells: impl Fn(&str) -> bool) -> TaskStatus {
    let generation = task.metadata.generation.unwrap_or_default();
    let old = task.status.clone().unwrap_or_default();
    let mut status = TaskStatus { observed_generation: Some(generation), ..old.clone() };
    status.opened_at = status.opened_at.or_else(|| task.metadata.creation_timestamp.as_ref().map(|t| Time::seconds(t.0)));
    let spec = &task.spec;
    let open = spec.resolution.is_none();
    if ours && open && status.escalated_at.is_none() && spec.deadline.is_some_and(|at| at.0 <= now) {
        status.escalated_at = Some(Time::seconds(now));
        status.escalated_to.clone_from(&spec.escalate_to);
    }
    conditions(task, ours, now, &mut status);
    if ours {
        // Planned with the very write that says that it happened: a restart neither forgets nor repeats it.
        let happened = [
            (Event::Raised, old.opened_at.is_none()),
            (Event::Escalated, old.escalated_at.is_none() && status.escalated_at.is_some()),
            (Event::Closed, old.closed_at.is_none() && status.closed_at.is_some()),
        ];
        for (event, _) in happened.into_iter().filter(|(_, is_new)| *is_new) {
            plan(task, event, now, &mut status, &tells);
        }
    }
    status
}

fn plan(task: &ManualTask, event: Event, now: Timestamp, status: &mut TaskStatus, tells: impl Fn(&str) -> bool) {
    let other = status.escalated_to.as_ref().filter(|_| event != Event::Raised);
    for department in [Some(&task.spec.department), other].into_iter().flatten().filter(|d| tells(d)) {
        let known = status.notifications.iter().any(|n| n.event == event.as_str() && n.department == *department);
        if !known && status.notifications.len() < REMEMBERED {
            status.notifications.push(Notification {
                event: event.as_str().into(),
                department: department.clone(),
                at: Some(Time::seconds(now)),
                next_attempt_at: Some(Time::seconds(now)),
                ..Notification::default()
            });
        }
    }
}

fn conditions(task: &ManualTask, ours: bool, now: Timestamp, status: &mut TaskStatus) {
    let generation = task.metadata.generation.unwrap_or_default();
    let (escalated_at, escalated_to) = (status.escalated_at, status.escalated_to.clone());
    let conditions = &mut status.conditions;
    let mut set =
        |type_, value, reason: Reason, message: &str| condition::set(conditions, type_, value, reason.as_str(), message, generation, now);
    match task.spec.resolution {
        _ if !ours => {
            set(ConditionType::Ready, false, Reason::NotMade, Reason::NotMade.cause());
            set(ConditionType::Stalled, true, Reason::NotMade, Reason::NotMade.cause());
            condition::remove(&mut status.conditions, ConditionType::Reconciling);
            status.phase = Some("Open".into());
        }
        None => {
            let message = match &escalated_to {
                Some(other) => format!("waits for {} or {other}", task.spec.department),
                None => format!("waits for {}", task.spec.department),
            };
            set(ConditionType::Ready, false, Reason::Open, &message);
            set(ConditionType::Reconciling, true, Reason::Open, &message);
            if let (Some(_), Some(deadline)) = (escalated_at, task.spec.deadline) {
                let other = escalated_to.map_or_else(String::new, |other| format!("; {other} may close it as well"));
                set(ConditionType::Overdue, true, Reason::DeadlinePassed, &format!("it was due at {deadline}{other}"));
            }
            status.phase = Some("Open".into());
        }
        Some(resolution) => {
            let taken = task.spec.type_.takes(resolution);
            let by_operator = task.spec.note.as_deref().is_some_and(is_own_note);
            let (reason, message) = match (taken, by_operator) {
                (true, true) => (Reason::Superseded, format!("{}, by the operator: nobody needs it any more", resolution.as_str())),
                (true, false) => (Reason::Closed, resolution.as_str().to_owned()),
                (false, _) => {
                    (Reason::ResolutionRefused, format!("{} does not close {} tasks", resolution.as_str(), task.spec.type_.as_str()))
                }
            };
            set(ConditionType::Ready, true, reason, &message);
            condition::remove(&mut status.conditions, ConditionType::Reconciling);
            condition::remove(&mut status.conditions, ConditionType::Overdue);
            status.phase = Some("Closed".into());
            status.closed_at = status.closed_at.or(Some(Time::seconds(now)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::task::{OrderRef, Resolution, TaskSpec, TaskType};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn task(name: &str, resolution: Option<Resolution>) -> ManualTask {
        let mut task = ManualTask::new(
            name,
            TaskSpec {
                type_: TaskType::StopServer,
                department: "Operations".into(),
                order_ref: OrderRef { namespace: "shop".into(), name: "web".into(), uid: "u-1".into() },
                handler_ref: None,
                deadline: Some(Time(at(2_000))),
                escalate_to: Some("Leads".into()),
                summary: String::new(),
                details: None,
                resolution,
                note: None,
            },
        );
        task.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1_000)));
        task
    }

    /// What was planned, in order.
    fn told(status: &TaskStatus) -> Vec<(&str, &str)> {
        status.notifications.iter().map(|n| (n.event.as_str(), n.department.as_str())).collect()
    }

    #[test]
    fn only_tasks_whose_name_follows_from_their_spec_are_ours() {
        for (name, ours) in [
            ("stopserver-u-1-1", true),
            ("stopserver-u-1-12", true),
            ("stopserver-u-1-", false),
            ("stopserver-u-2-1", false),
            ("stopserver-u-1-1x", false),
            ("failedoperation-u-1-1", false),
        ] {
            assert_eq!(made_by_us(&task(name, None)), ours, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_labels_value_is_no_uid_of_an_order() {
        let mut one = task("stopserver-u-1-1", None);
        for (uid, ours) in
            [("u".repeat(63), true), ("u".repeat(64), false), ("u.".into(), false), ("-u".into(), false), ("u u".into(), false)]
        {
            one.metadata.name = Some(format!("stopserver-{}-1", uid.replace(' ', "-")));
            one.spec.order_ref.uid.clone_from(&uid);
            assert_eq!(made_by_us(&one), ours, "{uid}");
        }
    }

    #[test]
    fn a_task_is_open_until_it_has_a_resolution() {
        let open = status_of(&task("stopserver-u-1-1", None), true, at(1_000), |_| false);
        assert_eq!((open.phase.as_deref(), open.closed_at), (Some("Open"), None));
        let closed = status_of(&task("stopserver-u-1-1", Some(Resolution::Done)), true, at(1_000), |_| false);
        assert_eq!((closed.phase.as_deref(), closed.closed_at.map(|t| t.0)), (Some("Closed"), Some(at(1_000))));
        assert!(condition::is_true(&closed.conditions, ConditionType::Ready) && closed.notifications.is_empty());
    }

    #[test]
    fn what_the_operator_closed_is_told_from_what_a_department_says_of_it() {
        for (note, reason) in [
            (None, "Closed"),
            (Some("closed by the operator: nobody needs it any more; the note before: looking"), "Superseded"),
            (Some("see the last one, closed by the operator: nobody needs it"), "Closed"),
        ] {
            let mut one = task("stopserver-u-1-1", Some(Resolution::Done));
            one.spec.note = note.map(str::to_owned);
            let closed = status_of(&one, true, at(1_000), |_| false);
            assert_eq!(condition::find(&closed.conditions, ConditionType::Ready).map(|c| c.reason.as_str()), Some(reason), "{note:?}");
        }
    }

    #[test]
    fn a_task_escalates_once_and_each_event_is_planned_once() {
        let mut one = task("stopserver-u-1-1", None);
        let look = |one: &mut ManualTask, second| {
            let status = status_of(one, true, at(second), |_| true);
            one.status = Some(status.clone());
            status
        };
        assert_eq!(told(&look(&mut one, 1_500)), [("Raised", "Operations")]);
        assert!(mended(&one).is_some_and(|all| all.len() == 4), "labels of a task without any");
        let before = look(&mut one, 1_999);
        assert!(before.escalated_at.is_none() && !condition::is_true(&before.conditions, ConditionType::Overdue));
        let escalated = look(&mut one, 2_000);
        assert_eq!((escalated.escalated_at.map(|t| t.0), escalated.escalated_to.as_deref()), (Some(at(2_000)), Some("Leads")));
        assert_eq!(told(&escalated), [("Raised", "Operations"), ("Escalated", "Operations"), ("Escalated", "Leads")]);
        assert!(condition::is_true(&escalated.conditions, ConditionType::Overdue));
        assert_eq!(look(&mut one, 9_000), escalated, "once");
        assert_eq!(mended(&one).and_then(|all| all.get(ESCALATED_LABEL).cloned()).as_deref(), Some("Leads"));
        one.spec.resolution = Some(Resolution::Done);
        let closed = look(&mut one, 9_001);
        assert_eq!(told(&closed)[3..], [("Closed", "Operations"), ("Closed", "Leads")]);
        assert!(condition::find(&closed.conditions, ConditionType::Overdue).is_none());
        assert_eq!(look(&mut one, 10_000), closed);
    }

    #[test]
    fn a_task_that_is_closed_in_time_does_not_escalate_and_a_foreign_one_tells_nobody() {
        let late = status_of(&task("stopserver-u-1-1", Some(Resolution::Done)), true, at(9_000), |_| true);
        assert!(late.escalated_at.is_none());
        let foreign = status_of(&task("mine", None), false, at(9_000), |_| true);
        assert!(foreign.escalated_at.is_none() && foreign.notifications.is_empty());
    }

    #[test]
    fn labels_that_somebody_changed_are_mended_and_others_are_left() {
        let mut one = task("stopserver-u-1-1", None);
        one.metadata.labels = Some(labels(&one).into_iter().chain([("team".to_owned(), "x".to_owned())]).collect());
        assert_eq!(mended(&one), None);
        let labels = one.metadata.labels.as_mut().unwrap();
        labels.insert(DEPARTMENT_LABEL.into(), "Mine".into());
        labels.insert(ESCALATED_LABEL.into(), "Mine".into());
        let all = mended(&one).unwrap();
        assert_eq!((all[DEPARTMENT_LABEL].as_str(), all.get(ESCALATED_LABEL), all["team"].as_str()), ("Operations", None, "x"));
    }
}
