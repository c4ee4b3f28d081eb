//! The table of tasks: what waits for which department, since when, and which answers it takes.

use jiff::Timestamp;

use crate::api::ManualTask;
use crate::api::common::Time;
use crate::api::task::{Resolution, TaskType};

use super::text::{Table, age, deadline};

/// Which tasks are shown.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that this department may close; all when absent.
    pub department: Option<String>,
    /// Closed ones, too.
    pub closed: bool,
}

impl Filter {
    fn shows(&self, task: &ManualTask) -> bool {
        (self.closed || !is_closed(task)) && self.department.as_ref().is_none_or(|d| departments(task).contains(&d.as_str()))
    }
}

/// Whether nothing is awaited of a department any more.
#[must_use]
pub fn is_closed(task: &ManualTask) -> bool {
    task.spec.resolution.is_some() || task.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Closed"))
}

/// The answers that a type of task takes, as a list for people.
#[must_use]
pub fn answers(type_: TaskType) -> String {
    type_.answers().into_iter().map(Resolution::as_str).collect::<Vec<_>>().join(",")
}

/// Who may close a task: its department, and once it has escalated the other one, too.
fn departments(task: &ManualTask) -> Vec<&str> {
    let other = task.status.as_ref().and_then(|s| s.escalated_to.as_deref());
    std::iter::once(task.spec.department.as_str()).chain(other).collect()
}

/// The tasks, the oldest first; `None` when there are none to show. `namespaces`: of all namespaces, so that each is named.
#[must_use]
pub fn table(tasks: &[ManualTask], filter: &Filter, namespaces: bool, now: Timestamp) -> Option<String> {
    let mut shown: Vec<&ManualTask> = tasks.iter().filter(|task| filter.shows(task)).collect();
    let created = |task: &ManualTask| task.metadata.creation_timestamp.as_ref().map(|t| Time(t.0));
    shown.sort_by_key(|task| (created(task), task.metadata.namespace.clone(), task.metadata.name.clone()));
    let columns = ["NAMESPACE", "NAME", "TYPE", "DEPARTMENT", "ORDER", "AGE", "DEADLINE", "ANSWERS", "STATE"];
    let kept = |at: usize| (at > 0 || namespaces) && (at < columns.len() - 1 || filter.closed);
    let header: Vec<&str> = columns.into_iter().enumerate().filter(|(at, _)| kept(*at)).map(|(_, name)| name).collect();
    let mut table = Table::new(&header);
    for task in shown {
        let closed = is_closed(task);
        let state = task.spec.resolution.map_or(if closed { "Closed" } else { "Open" }, Resolution::as_str);
        let cells = [
            task.metadata.namespace.clone().unwrap_or_default(),
            task.metadata.name.clone().unwrap_or_default(),
            task.spec.type_.as_str().to_owned(),
            departments(task).join(","),
            task.spec.order_ref.key().to_string(),
            age(now, created(task)),
            if closed { String::new() } else { deadline(now, task.spec.deadline) },
            if closed { String::new() } else { answers(task.spec.type_) },
            state.to_owned(),
        ];
        table.row(cells.iter().enumerate().filter(|(at, _)| kept(*at)).map(|(_, cell)| cell));
    }
    (!table.is_empty()).then(|| table.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn tasks() -> Vec<ManualTask> {
        vec![
            samples::task(&json!({"metadata": {"name": "second", "creationTimestamp": "2026-01-01T11:00:00Z"}, "spec": {
                "type": "FailedOperation", "deadline": "2026-01-01T11:30:00Z", "escalateTo": "Leads"},
                "status": {"phase": "Open", "escalatedTo": "Leads"}})),
            samples::task(&json!({"metadata": {"name": "first", "creationTimestamp": "2026-01-01T10:00:00Z"},
                "spec": {"type": "Assembly", "department": "Assembly", "deadline": "2026-01-01T13:00:00Z"}})),
            samples::task(&json!({"metadata": {"name": "over", "creationTimestamp": "2026-01-01T09:00:00Z"},
                "spec": {"type": "StopServer", "resolution": "Done"}, "status": {"phase": "Closed"}})),
        ]
    }

    #[test]
    fn open_tasks_are_shown_the_oldest_first() {
        let text = table(&tasks(), &Filter::default(), false, now()).unwrap();
        assert_eq!(
            text,
            "NAME     TYPE              DEPARTMENT         ORDER      AGE    DEADLINE      ANSWERS\n\
             first    Assembly          Assembly           shop/web   120m   in 60m        Done,Retry,PartsMissing,Cancelled\n\
             second   FailedOperation   Operations,Leads   shop/web   60m    OVERDUE 30m   Done,Retry,Cancelled,Abandon\n"
        );
    }

    #[test]
    fn closed_ones_are_shown_when_asked_for() {
        let all = Filter { closed: true, ..Filter::default() };
        let text = table(&tasks(), &all, true, now()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("NAMESPACE   NAME") && lines[0].ends_with("STATE"), "{text}");
        assert!(lines[1].starts_with("h           over") && lines[1].ends_with("Done"), "{text}");
        assert!(lines[2].ends_with("Open"), "{text}");
    }

    #[test]
    fn a_department_sees_what_it_may_close() {
        let names = |department: &str| {
            let filter = Filter { department: Some(department.into()), closed: false };
            table(&tasks(), &filter, false, now())
                .map(|text| text.lines().skip(1).map(|l| l.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names("Leads"), Some(vec!["second".to_owned()]));
        assert_eq!(names("Assembly"), Some(vec!["first".to_owned()]));
        assert_eq!(names("Nobody"), None);
    }
}
