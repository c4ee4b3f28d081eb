//! Open and overdue tasks by department. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::handler::Departments;
use crate::api::{ManualTask, ProcessingHandler};
use crate::controller::task_status::made_by_us;

use super::counts::seconds;
use super::series::{OTHER, Together};
use super::sla::NO_DEADLINE;
use super::{Counted, Metrics, add};

/// Departments that are counted by name; there are rarely more than a handful.
const DEPARTMENTS: usize = 100;
/// Ages that tasks are sorted by: younger than that many seconds.
const AGES: [(&str, i64); 4] = [("1h", 3600), ("1d", 86_400), ("1w", 604_800), ("older", i64::MAX)];

/// Shows the open tasks. Departments that a handler names are there with 0 as well.
pub fn publish<'a>(metrics: &Metrics, handlers: &[&ProcessingHandler], tasks: impl Iterator<Item = &'a ManualTask>, now: Timestamp) {
    let open: Vec<&ManualTask> = tasks.filter(|t| t.spec.resolution.is_none() && made_by_us(t)).collect();
    let named = handlers.iter().flat_map(|h| departments(h));
    let names: BTreeSet<&str> = named.chain(open.iter().map(|t| t.spec.department.as_str())).collect();
    let names: BTreeSet<&str> = names.into_iter().take(DEPARTMENTS).collect();
    let shown = |department: &'a str| if names.contains(department) { department } else { OTHER };
    let (mut by_type, mut by_age, mut overdue) = (Counted::new(), Counted::new(), Counted::new());
    let mut oldest: BTreeMap<[String; 1], i64> = BTreeMap::new();
    for name in &names {
        add(&mut overdue, [name], 0);
        oldest.insert([(*name).to_owned()], 0);
        for (age, _) in AGES {
            add(&mut by_age, [name, age], 0);
        }
    }
    for task in open {
        let department = shown(&task.spec.department);
        add(&mut by_type, [department, task.spec.type_.as_str()], 1);
        let age = task.metadata.creation_timestamp.as_ref().map_or(0, |t| now.duration_since(t.0).as_secs());
        let range = AGES.iter().find(|(_, end)| age < *end).map_or("older", |(name, _)| name);
        add(&mut by_age, [department, range], 1);
        // Without a deadline nobody would ever be told of it.
        let late = task.spec.deadline.as_ref().map_or(age >= seconds(NO_DEADLINE), |at| at.0 <= now);
        add(&mut overdue, [department], i64::from(late));
        let entry = oldest.entry([department.to_owned()]).or_default();
        *entry = (*entry).max(age);
    }
    metrics.tasks_open.replace(by_type, Together::Sum);
    metrics.tasks_by_age.replace(by_age, Together::Sum);
    metrics.tasks_overdue.replace(overdue, Together::Sum);
    metrics.oldest_task.replace(oldest, Together::Greatest);
    metrics.webhooks.retain(|[department, _]| department == OTHER || names.contains(department.as_str()));
}

fn departments(handler: &ProcessingHandler) -> impl Iterator<Item = &str> {
    let all = handler.spec.departments.as_ref();
    // Who looks after failures where the handler names nobody.
    let usual = if all.is_none() { Some("Operations") } else { None };
    usual.into_iter().chain(all.into_iter().flat_map(Departments::all).map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
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

    fn handler() -> ProcessingHandler {
        let departments = json!({"operations": {"name": "Operations"}, "assembly": {"name": "Builders"}});
        samples::handler(&json!({"metadata": {"name": "a"}, "spec": {"departments": departments}}))
    }

    #[test]
    fn open_tasks_of_ours_are_counted_and_leave_again() {
        let now = Timestamp::from_second(10_150).unwrap();
        let tasks = [
            task("stopserver-u-1", "Operations", 10_000, None),
            task("stopserver-u-2", "Operations", 10_100, None),
            task("stopserver-u-3", "Operations", 9_000, Some("Done")),
            task("stopserver-u-4", "Gone", 1_000, None),
            task("foreign", "Operations", 9_000, None),
        ];
        let (metrics, handler) = (Metrics::default(), handler());
        publish(&metrics, &[&handler], tasks.iter(), now);
        metrics.webhooks.of(["Gone", "ok"]).inc();
        let text = metrics.text().unwrap();
        for line in [
            "dci_operator_tasks_open{department=\"Operations\",task_type=\"StopServer\"} 2\n",
            "dci_operator_tasks_overdue{department=\"Operations\"} 1\n",
            "dci_operator_tasks_overdue{department=\"Builders\"} 0\n",
            "dci_operator_task_oldest_age_seconds{department=\"Operations\"} 150\n",
            "dci_operator_tasks_open_by_age{department=\"Operations\",age=\"1h\"} 2\n",
            "dci_operator_tasks_open_by_age{department=\"Gone\",age=\"1d\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        publish(&metrics, &[&handler], [].iter(), now);
        let text = metrics.text().unwrap();
        assert!(!text.contains("Gone") && !text.contains("tasks_open{"), "{text}");
        assert!(text.contains("overdue{department=\"Operations\"} 0"), "{text}");
    }

    #[test]
    fn a_task_without_a_deadline_is_overdue_after_a_day_and_one_with_a_later_one_is_not() {
        let mut without = task("stopserver-u-1", "Operations", 0, None);
        let mut with = task("stopserver-u-2", "Builders", 0, None);
        without.spec.deadline = None;
        with.spec.deadline.as_mut().unwrap().0 = Timestamp::from_second(200_000).unwrap();
        for (second, overdue) in [(86_399, 0), (86_400, 1)] {
            let metrics = Metrics::default();
            publish(&metrics, &[], [without.clone(), with.clone()].iter(), Timestamp::from_second(second).unwrap());
            assert_eq!(metrics.tasks_overdue.of(["Operations"]).get(), overdue, "{second}");
            assert_eq!(metrics.tasks_overdue.of(["Builders"]).get(), 0, "{second}");
        }
    }

    #[test]
    fn too_many_departments_are_counted_together() {
        let tasks: Vec<ManualTask> = (0..500).map(|n| task(&format!("stopserver-u-{n}"), &format!("d{n:03}"), 10, None)).collect();
        let metrics = Metrics::default();
        publish(&metrics, &[], tasks.iter(), Timestamp::from_second(20).unwrap());
        assert_eq!(metrics.tasks_open.len(), DEPARTMENTS + 1);
        assert_eq!(metrics.tasks_open.of([OTHER, "StopServer"]).get(), 400);
    }
}
