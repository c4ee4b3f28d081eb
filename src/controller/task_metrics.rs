//! Open and overdue tasks by department, counted from the cache every few seconds: what is deleted leaves the count by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::ManualTask;

use super::context::Context;
use super::metrics::{DepartmentLabels, Metrics, TaskLabels};
use super::task_status::made_by_us;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Tasks of one department.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open ones by type.
    pub open: BTreeMap<&'static str, i64>,
    /// Open ones whose deadline has passed.
    pub overdue: i64,
    /// Age of the oldest open one, in seconds.
    pub oldest: i64,
}

/// Adds one task.
pub fn count(all: &mut BTreeMap<String, Counts>, task: &ManualTask, now: Timestamp) {
    if task.spec.resolution.is_some() || !made_by_us(task) {
        return;
    }
    let counts = all.entry(task.spec.department.clone()).or_default();
    *counts.open.entry(task.spec.type_.as_str()).or_default() += 1;
    counts.overdue += i64::from(task.spec.deadline.is_some_and(|at| at.0 <= now));
    let age = task.metadata.creation_timestamp.as_ref().map_or(0, |t| now.duration_since(t.0).as_secs());
    counts.oldest = counts.oldest.max(age);
}

/// Writes the counts; departments that have no open task any more get none.
fn publish(metrics: &Metrics, all: &BTreeMap<String, Counts>, known: &mut BTreeMap<String, Counts>) {
    for (department, counts) in &mut *known {
        if !all.contains_key(department) {
            counts.overdue = 0;
            counts.oldest = 0;
        }
        counts.open.values_mut().for_each(|number| *number = 0);
    }
    for (department, counts) in all {
        let known = known.entry(department.clone()).or_default();
        known.open.extend(counts.open.iter().map(|(type_, number)| (*type_, *number)));
        (known.overdue, known.oldest) = (counts.overdue, counts.oldest);
    }
    for (department, counts) in known {
        for (type_, number) in &counts.open {
            let labels = TaskLabels { department: department.clone(), task_type: (*type_).to_owned() };
            metrics.tasks_open.get_or_create(&labels).set(*number);
        }
        let labels = DepartmentLabels { department: department.clone() };
        metrics.tasks_overdue.get_or_create(&labels).set(counts.overdue);
        metrics.oldest_task.get_or_create(&labels).set(counts.oldest);
    }
}

/// Keeps the counts for as long as the process lives.
pub async fn keep(context: Arc<Context>) {
    let mut known = BTreeMap::new();
    loop {
        let (now, mut all) = (Timestamp::now(), BTreeMap::new());
        context.tasks.read(|task| {
            count(&mut all, task, now);
            None::<()>
        });
        publish(&context.metrics, &all, &mut known);
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task(name: &str, department: &str, second: i64, resolution: Option<&str>) -> ManualTask {
        let at = |s: i64| Timestamp::from_second(s).unwrap().to_string();
        serde_json::from_value(json!({
            "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask",
            "metadata": {"name": name, "creationTimestamp": at(second)},
            "spec": {
                "type": "StopServer", "department": department, "orderRef": {"namespace": "s", "name": "web", "uid": "u"},
                "summary": "", "deadline": at(second + 100), "resolution": resolution,
            },
        }))
        .unwrap()
    }

    #[test]
    fn open_tasks_of_ours_are_counted_and_leave_again() {
        let now = Timestamp::from_second(10_150).unwrap();
        let mut all = BTreeMap::new();
        for task in [
            task("stopserver-u-1", "Operations", 10_000, None),
            task("stopserver-u-2", "Operations", 10_100, None),
            task("stopserver-u-3", "Operations", 9_000, Some("Done")),
            task("foreign", "Operations", 9_000, None),
        ] {
            count(&mut all, &task, now);
        }
        assert_eq!(all["Operations"], Counts { open: [("StopServer", 2)].into(), overdue: 1, oldest: 150 });
        let (metrics, mut known) = (Metrics::default(), BTreeMap::new());
        publish(&metrics, &all, &mut known);
        let text = metrics.text().unwrap();
        for line in [
            "dci_operator_tasks_open{department=\"Operations\",task_type=\"StopServer\"} 2",
            "dci_operator_tasks_overdue{department=\"Operations\"} 1",
            "dci_operator_task_oldest_age_seconds{department=\"Operations\"} 150",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        publish(&metrics, &BTreeMap::new(), &mut known);
        let text = metrics.text().unwrap();
        assert!(text.contains("task_type=\"StopServer\"} 0") && text.contains("overdue{department=\"Operations\"} 0"), "{text}");
    }
}
