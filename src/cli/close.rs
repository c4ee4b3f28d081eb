//! Closing a task: which answers it takes, the change that gives one, and what the operator does with it.

use serde_json::{Value, json};

use crate::api::check::check_task;
use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::order::LastError;
use crate::api::task::{Resolution, TaskType};
use crate::api::{DedicatedServerOrder, ManualTask};
use crate::provisioning::is_drift;
use crate::provisioning::reason::Reason;
use crate::provisioning::report::done_means;
use crate::provisioning::step::Step;
use crate::provisioning::tasks::OPEN;

use super::known::Known;
use super::tasks::{answers, is_closed};

/// `lastError.code` of a licence or of an end that was paid for and does not show: only `Retry` pays for it once more.
const PAID_NOT_SHOWN: &str = "LicenseNotShown";

/// Why a task is not closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// No answer was given.
    #[error("task {task}: say how it is closed; a {type_} task takes {answers}")]
    NoAnswer {
        /// The task.
        task: ObjectKey,
        /// Its type.
        type_: &'static str,
        /// What it takes.
        answers: String,
    },
    /// The word is no answer at all.
    #[error("task {task}: there is no answer `{word}`; a {type_} task takes {answers}")]
    Unknown {
        /// The task.
        task: ObjectKey,
        /// The word.
        word: String,
        /// Its type.
        type_: &'static str,
        /// What it takes.
        answers: String,
    },
    /// Tasks of this type are not closed with that word.
    #[error("task {task}: it takes {answers}; {why}")]
    NotTaken {
        /// The task.
        task: ObjectKey,
        /// What it takes.
        answers: String,
        /// The rule.
        why: String,
    },
    /// Somebody has closed it.
    #[error("task {task} is closed already ({how}), and an answer stays; the order's status names the task that is open, if one is")]
    Closed {
        /// The task.
        task: ObjectKey,
        /// With which word.
        how: &'static str,
    },
    /// Nobody would act upon it.
    #[error("task {task} was not made by the operator, which does not act upon it; delete it")]
    NotMade {
        /// The task.
        task: ObjectKey,
    },
    /// The answer breaks a rule.
    #[error("task {task}: {problem}")]
    Invalid {
        /// The task.
        task: ObjectKey,
        /// Field and rule.
        problem: String,
    },
}

/// Namespace and name of a task.
#[must_use]
pub fn key(task: &ManualTask) -> ObjectKey {
    ObjectKey { namespace: task.metadata.namespace.clone().unwrap_or_default(), name: task.metadata.name.clone().unwrap_or_default() }
}

/// The answer that a word stands for, if the task takes it and is open.
pub fn resolution(task: &ManualTask, word: Option<&str>, note: Option<&str>) -> Result<Resolution, CloseError> {
    let (type_, takes, key) = (task.spec.type_, answers(task.spec.type_), key(task));
    if is_closed(task) {
        return Err(CloseError::Closed { task: key, how: task.spec.resolution.map_or("Closed", Resolution::as_str) });
    }
    let not_made = |c: &condition::Condition| c.reason == Reason::NotMade.as_str();
    if task.status.as_ref().and_then(|s| condition::find(&s.conditions, ConditionType::Ready)).is_some_and(not_made) {
        return Err(CloseError::NotMade { task: key });
    }
    let Some(word) = word else { return Err(CloseError::NoAnswer { task: key, type_: type_.as_str(), answers: takes }) };
    let Some(resolution) = Resolution::ALL.into_iter().find(|r| r.as_str().eq_ignore_ascii_case(word)) else {
        return Err(CloseError::Unknown { task: key, word: word.to_owned(), type_: type_.as_str(), answers: takes });
    };
    let mut closed = task.clone();
    closed.spec.resolution = Some(resolution);
    closed.spec.note = note.map(str::to_owned).or(closed.spec.note);
    match check_task(&closed).into_iter().next() {
        None => Ok(resolution),
        Some(problem) if !type_.takes(resolution) => Err(CloseError::NotTaken { task: key, answers: takes, why: problem.message }),
        Some(problem) => Err(CloseError::Invalid { task: key, problem: problem.to_string() }),
    }
}

/// The change that closes a task: refused by the server when anybody has written it since it was read.
#[must_use]
pub fn patch(task: &ManualTask, resolution: Resolution, note: Option<&str>) -> Value {
    let mut spec = json!({"resolution": resolution.as_str()});
    if let Some(note) = note {
        spec["note"] = note.into();
    }
    json!({"metadata": {"resourceVersion": task.metadata.resource_version}, "spec": spec})
}

/// What the operator does with an answer. An order that may not be read leaves open what depends on it.
#[must_use]
pub fn follows(task: &ManualTask, resolution: Resolution, order: &Known<DedicatedServerOrder>) -> String {
    let name = task.spec.order_ref.key();
    let order = match order {
        Known::Is(order) if order.metadata.uid.as_deref() == Some(&task.spec.order_ref.uid) => Some(order),
        Known::Is(_) | Known::Absent => return format!("order {name} is gone: nothing waits for the answer"),
        Known::Hidden(_) => None,
    };
    let awaited = |o: &DedicatedServerOrder| {
        let tasks = o.status.iter().flat_map(|s| &s.manual_tasks);
        tasks.filter(|t| t.state == OPEN).any(|t| task.metadata.name.as_deref() == Some(t.name.as_str()))
    };
    if order.is_some_and(|o| !awaited(o)) {
        return format!("order {name} does not wait for this task now: the operator acts on the task that the order's status calls Open");
    }
    let error = order.and_then(|o| o.status.as_ref()?.last_error.as_ref());
    if let (TaskType::FailedOperation, Some(order), Some(_)) = (task.spec.type_, order, error.filter(|e| is_drift(&e.code))) {
        return changed_by_hand(&name, order, resolution);
    }
    let failed = error.and_then(|e| Step::parse(&e.step));
    match (task.spec.type_, resolution) {
        (TaskType::StopServer, Resolution::Done) => "the server counts as off, without asking the panel, and is taken back".into(),
        (TaskType::StopServer, Resolution::Retry | Resolution::PartsMissing | Resolution::Cancelled) => {
            "the power is tried once more; a new task follows where that fails".into()
        }
        (TaskType::FailedOperation, Resolution::Done) => done(failed),
        (TaskType::FailedOperation, Resolution::Retry | Resolution::PartsMissing) => begun_again(order, error, failed),
        (TaskType::FailedOperation, Resolution::Cancelled) => format!(
            "order {name} stands still (TaskCancelled) and keeps its server, until its spec asks for something else or somebody annotates it with {}",
            crate::api::RECONCILE_ANNOTATION
        ),
        (TaskType::FailedOperation | TaskType::StopServer, Resolution::Abandon) => abandoned(&name, order, failed),
        (TaskType::Assembly, Resolution::PartsMissing) => "a Procurement task says what to buy; closed, it brings the Assembly back".into(),
        (TaskType::Assembly, Resolution::Done | Resolution::Retry) => {
            "the parts of the server are read again; what still lacks becomes a new task".into()
        }
        (TaskType::Procurement, Resolution::Done | Resolution::Retry | Resolution::PartsMissing) => {
            "the Assembly task comes back, unless a server has the parts by now".into()
        }
        (TaskType::Assembly | TaskType::Procurement, Resolution::Cancelled | Resolution::Abandon) => format!(
            "a reserved server is given back, and order {name} stands still (TaskCancelled) until it is changed, or annotated with {}",
            crate::api::RECONCILE_ANNOTATION
        ),
    }
}

/// A task about a server that somebody changed at the panel has answers of its own: no step is at fault.
fn changed_by_hand(name: &ObjectKey, order: &DedicatedServerOrder, resolution: Resolution) -> String {
    let goes_on = format!("order {name} goes on by itself when the server is put right at the panel");
    match (order.metadata.deletion_timestamp.is_some(), resolution) {
        (true, Resolution::Abandon) => abandoned(name, Some(order), None),
        (false, Resolution::Cancelled | Resolution::Abandon) => {
            format!("the server stays as it is, and no other task is raised for it; {goes_on}")
        }
        (true, Resolution::Done | Resolution::Retry | Resolution::PartsMissing | Resolution::Cancelled)
        | (false, Resolution::Done | Resolution::Retry | Resolution::PartsMissing) => {
            format!("the server is looked at again, and nothing is done to it: {goes_on}; where it is not, a new task says so")
        }
    }
}

/// What a step that is begun again costs is said before anything else is.
fn begun_again(order: Option<&DedicatedServerOrder>, error: Option<&LastError>, failed: Option<Step>) -> String {
    let step = failed.map_or_else(|| "the step".to_owned(), |step| format!("step {}", step.as_str()));
    let again = format!("{step} is begun again, and its attempts are counted from zero");
    let clients = order.and_then(|o| o.status.as_ref()?.server.as_ref()).is_some_and(|s| s.handed_over_at.is_some());
    if error.is_some_and(|e| e.code == PAID_NOT_SHOWN) {
        return format!("what was ordered and does not show is PAID FOR ONCE MORE: {again}");
    }
    if clients && failed == Some(Step::InstallOS) {
        return format!("what is installed then DESTROYS THE DATA on the client's server: {again}");
    }
    again
}

fn done(failed: Option<Step>) -> String {
    let when = failed.map_or_else(String::new, |step| format!(": {}", done_means(step)));
    format!(
        "the panel is asked whether it agrees{when}; where it does, the order goes on, and where it does not, a new task says what the panel shows"
    )
}

fn abandoned(name: &ObjectKey, order: Option<&DedicatedServerOrder>, failed: Option<Step>) -> String {
    let going = format!(
        "the server is given up without the panel's confirmation: order {name} goes, nothing more is sent to the server, and status.outcome of the task says what is left at the panels"
    );
    let stays = format!("order {name} stands still (TaskCancelled) and keeps its server");
    match order.map(|o| o.metadata.deletion_timestamp.is_some()) {
        Some(true) if failed == Some(Step::RevokeLicenses) => {
            "the licences are given up, look after them at the licence server; the server is still taken back".into()
        }
        Some(true) => going,
        Some(false) => stays,
        None => format!("where the order is being deleted, {going}; else {stays}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    #[test]
    fn an_answer_that_the_type_does_not_take_is_refused_with_those_that_it_takes() {
        let open = samples::task(&json!({}));
        for (word, wanted) in [("Done", Resolution::Done), ("retry", Resolution::Retry), ("Abandon", Resolution::Abandon)] {
            assert_eq!(resolution(&open, Some(word), None), Ok(wanted), "{word}");
        }
        for (type_, word, parts) in [
            ("StopServer", Some("Cancelled"), ["h/stopserver-u-1-1", "Done,Retry,Abandon", "is not cancelled"]),
            ("StopServer", Some("PartsMissing"), ["h/stopserver-u-1-1", "Done,Retry,Abandon", "closes Assembly tasks only"]),
            ("Assembly", Some("Abandon"), ["h/stopserver-u-1-1", "Done,Retry,PartsMissing,Cancelled", "closes FailedOperation"]),
            ("FailedOperation", Some("Fixed"), ["`Fixed`", "a FailedOperation task", "Done,Retry,Cancelled,Abandon"]),
            ("Procurement", None, ["say how", "a Procurement task", "Done,Retry,Cancelled"]),
        ] {
            let error = resolution(&samples::task(&json!({"spec": {"type": type_}})), word, None).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{type_} {word:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn what_is_closed_or_not_the_operators_stays_as_it_is() {
        let closed = samples::task(&json!({"spec": {"resolution": "Retry"}}));
        let error = resolution(&closed, Some("Done"), None).unwrap_err().to_string();
        assert!(error.contains("h/stopserver-u-1-1 is closed already (Retry)"), "{error}");
        let ready = json!({"type": "Ready", "status": "False", "reason": "NotMade", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let foreign = samples::task(&json!({"status": {"conditions": [ready]}}));
        assert!(matches!(resolution(&foreign, Some("Done"), None), Err(CloseError::NotMade { .. })));
        let long = "x".repeat(4097);
        let error = resolution(&samples::task(&json!({})), Some("Done"), Some(&long)).unwrap_err().to_string();
        assert!(error.contains("spec.note") && error.contains("4096"), "{error}");
    }

    #[test]
    fn the_change_holds_for_the_version_that_was_read() {
        let task = samples::task(&json!({}));
        assert_eq!(
            patch(&task, Resolution::Done, Some("unplugged")),
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"resolution": "Done", "note": "unplugged"}})
        );
        assert_eq!(patch(&task, Resolution::Retry, None)["spec"], json!({"resolution": "Retry"}));
    }

    #[test]
    fn what_follows_depends_on_type_answer_and_order() {
        let order = |deleting: bool, step: &str| {
            let deleted = if deleting { json!("2026-01-01T00:00:00Z") } else { json!(null) };
            let error = json!({"step": step, "code": "x", "message": "m", "retryable": true, "time": "2026-01-01T00:00:00Z"});
            let task = json!({"name": "stopserver-u-1-1", "type": "StopServer", "department": "Operations", "state": "Open"});
            let change = json!({"metadata": {"deletionTimestamp": deleted}, "status": {"lastError": error, "manualTasks": [task]}});
            Known::Is(samples::order(&change))
        };
        let hidden = || Known::Hidden("not allowed".into());
        for (type_, answer, order, part) in vec![
            ("StopServer", Resolution::Done, hidden(), "counts as off"),
            ("StopServer", Resolution::Retry, hidden(), "tried once more"),
            ("StopServer", Resolution::Abandon, hidden(), "where the order is being deleted"),
            ("StopServer", Resolution::Abandon, order(true, "PowerOff"), "order shop/web goes"),
            ("FailedOperation", Resolution::Abandon, order(false, "InstallOS"), "keeps its server"),
            ("FailedOperation", Resolution::Abandon, order(true, "RevokeLicenses"), "the licences are given up"),
            ("FailedOperation", Resolution::Done, order(false, "PowerOn"), "a new list of servers shows it on"),
            ("FailedOperation", Resolution::Done, hidden(), "whether it agrees;"),
            ("FailedOperation", Resolution::Retry, order(false, "InstallOS"), "step InstallOS is begun again"),
            ("FailedOperation", Resolution::Cancelled, hidden(), "TaskCancelled"),
            ("Assembly", Resolution::PartsMissing, hidden(), "Procurement"),
            ("Assembly", Resolution::Done, hidden(), "read again"),
            ("Assembly", Resolution::Cancelled, hidden(), "given back"),
            ("Procurement", Resolution::Done, hidden(), "Assembly task comes back"),
            ("StopServer", Resolution::Done, Known::Absent, "is gone"),
            ("StopServer", Resolution::Done, Known::Is(samples::order(&json!({"metadata": {"uid": "u-2"}}))), "is gone"),
            ("StopServer", Resolution::Done, Known::Is(samples::order(&json!({}))), "does not wait for this task"),
        ] {
            let text = follows(&samples::task(&json!({"spec": {"type": type_}})), answer, &order);
            assert!(text.contains(part), "{type_} {answer:?}: {text}");
        }
    }

    #[test]
    fn what_follows_depends_on_what_the_department_was_asked_about() {
        let order = |deleting: bool, step: &str, code: &str| {
            let deleted = if deleting { json!("2026-01-01T00:00:00Z") } else { json!(null) };
            let error = json!({"step": step, "code": code, "message": "m", "retryable": true, "time": "2026-01-01T00:00:00Z"});
            let task = json!({"name": "stopserver-u-1-1", "type": "FailedOperation", "department": "Operations", "state": "Open"});
            let server = json!({"id": "17", "handler": "h/msk-1", "configuration": "E3", "handedOverAt": "2026-01-01T00:00:00Z"});
            let status = json!({"lastError": error, "manualTasks": [task], "server": server});
            Known::Is(samples::order(&json!({"metadata": {"deletionTimestamp": deleted}, "status": status})))
        };
        let by_hand = |deleting| order(deleting, "HandOver", "OwnerChanged");
        for (answer, order, part) in vec![
            (Resolution::Done, by_hand(false), "looked at again, and nothing is done to it"),
            (Resolution::Retry, by_hand(false), "goes on by itself when the server is put right"),
            (Resolution::Cancelled, by_hand(false), "stays as it is, and no other task is raised"),
            (Resolution::Abandon, by_hand(false), "stays as it is, and no other task is raised"),
            (Resolution::Cancelled, by_hand(true), "where it is not, a new task says so"),
            (Resolution::Abandon, by_hand(true), "order shop/web goes"),
            (Resolution::Retry, order(false, "IssueLicenses", "LicenseNotShown"), "PAID FOR ONCE MORE: step IssueLicenses is begun again"),
            (Resolution::Retry, order(false, "IssueLicenses", "x"), "step IssueLicenses is begun again"),
            (Resolution::Retry, order(false, "InstallOS", "InstallVanished"), "DESTROYS THE DATA on the client's server"),
        ] {
            let text = follows(&samples::task(&json!({"spec": {"type": "FailedOperation"}})), answer, &order);
            assert!(text.contains(part), "{answer:?}: {text}");
            let by_hand = text.contains("put right");
            assert!(!by_hand || !(text.contains("HandOver") || text.contains("TaskCancelled")), "{answer:?}: {text}");
        }
    }
}
