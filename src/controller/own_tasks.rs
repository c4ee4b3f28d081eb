//! Which tasks are an order's, and how it comes to them: those in the namespace of its handler. In any other one somebody may make a task
//! of the same name, and answer it.

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::api::common::{ObjectKey, Time};
use crate::api::{DedicatedServerOrder, ManualTask};
use crate::provisioning::facts::{Facts, TaskView};
use crate::provisioning::notices;
use crate::provisioning::order::{Order, selector};
use crate::provisioning::tasks::{OPEN, SHOWN_WITHIN, TaskRequest};

use super::context::{Context, serving_handler};
use super::order::{OrderError, known};
use super::task::{self, Raised, is_earlier};
use super::task_status::made_by_us;
use super::trace;

/// What an order is shown of a task.
fn view(task: &ManualTask, earlier: bool) -> TaskView {
    // An order may be quicker to see it than its task.
    let seen = task.status.as_ref().and_then(|status| status.closed_at).map_or_else(Timestamp::now, |at| at.0);
    TaskView {
        name: task.name_any(),
        type_: task.spec.type_,
        resolution: task.spec.resolution,
        closed_at: task.spec.resolution.map(|_| seen),
        note: task.spec.note.clone().unwrap_or_default(),
        made: task.metadata.creation_timestamp.as_ref().map(|t| Time::seconds(t.0)),
        earlier,
    }
}

/// Raises a task that is on record by now, and notes what became of it; whether the order is to go on with that record. Where not, `facts`
/// say why there is no task.
pub(super) async fn raise(
    context: &Context,
    order: &DedicatedServerOrder,
    handler: &ObjectKey,
    parsed: &Order,
    request: &TaskRequest,
    facts: &mut Facts,
) -> Result<bool, OrderError> {
    match task::raise(&context.client, handler, parsed, request).await? {
        Raised::Made(task) => {
            let (status, notice) = (known(order), notices::raised(request));
            let trace = trace::of_notice(order, &status, &status, &notice);
            if !context.events.publish_traced(order.object_ref(&()), notice, trace) {
                context.metrics.events_dropped.of([]).inc();
            }
            facts.raised(view(&task, false));
        }
        Raised::There(task) => facts.raised(view(&task, false)),
        Raised::Taken(task) => facts.raised(view(&task, true)),
        Raised::Refused(why) => {
            context.memory.no_task(&parsed.uid, &why);
            facts.unraisable = Some(why);
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tasks of an order, as the cache shows them.
pub(super) fn tasks_of(context: &Context, order: &DedicatedServerOrder) -> Vec<TaskView> {
    let open = order.status.as_ref().is_some_and(|s| s.manual_tasks.iter().any(|t| t.state == OPEN));
    if !open {
        return Vec::new();
    }
    context.tasks.read(|t| is_of(t, order).then(|| view(t, is_earlier(t, asked_at(t, order), SHOWN_WITHIN))))
}

/// When a task was asked for, as the order's status says.
fn asked_at(task: &ManualTask, order: &DedicatedServerOrder) -> Option<Time> {
    let summaries = order.status.iter().flat_map(|s| &s.manual_tasks);
    summaries.filter(|s| Some(&s.name) == task.metadata.name.as_ref()).find_map(|s| s.opened_at)
}

/// The namespace of an order's handler.
fn home(order: &DedicatedServerOrder) -> Option<String> {
    serving_handler(order).map(|key| key.namespace).or_else(|| selector(order).map(|s| s.namespace))
}

/// Whether a task names an order by its uid.
fn names(task: &ManualTask, order: &DedicatedServerOrder) -> bool {
    order.metadata.uid.as_deref() == Some(&task.spec.order_ref.uid)
}

/// Whether an order listens to a task.
fn is_of(task: &ManualTask, order: &DedicatedServerOrder) -> bool {
    names(task, order) && task.metadata.deletion_timestamp.is_none() && task.metadata.namespace == home(order) && made_by_us(task)
}

/// Whether an open task looks like one of an order's and nobody listens to it: it was raised before the order named a handler in
/// another namespace, or somebody made it there.
pub(super) fn elsewhere(task: &ManualTask, order: &DedicatedServerOrder) -> bool {
    let home = home(order);
    names(task, order) && task.spec.resolution.is_none() && home.is_some() && task.metadata.namespace != home && made_by_us(task)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::samples;

    fn order(spec: &Value, status: &Value) -> DedicatedServerOrder {
        samples::order(&json!({"spec": spec, "status": status}))
    }

    fn task(namespace: &str, name: &str, resolution: &Value) -> ManualTask {
        samples::task(&json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"resolution": resolution}}))
    }

    #[test]
    fn an_order_listens_to_the_namespace_of_its_handler_and_to_no_other() {
        let server = json!({"server": {"id": "17", "handler": "hosting/a", "configuration": "E3"}});
        let named = json!({"handlerRef": {"name": "a", "namespace": "hosting"}});
        let selects = json!({"handlerRef": null, "handlerSelector": {"namespace": "hosting", "matchLabels": {"zone": "msk"}}});
        let own = json!({"handlerRef": {"name": "a"}});
        // What serves an order counts, whatever its spec has come to say.
        let moved = json!({"handlerRef": {"name": "a", "namespace": "elsewhere"}});
        for (spec, status, home) in
            [(&named, &json!({}), "hosting"), (&selects, &json!({}), "hosting"), (&own, &json!({}), "shop"), (&moved, &server, "hosting")]
        {
            let order = order(spec, status);
            for namespace in ["hosting", "shop", "elsewhere"] {
                let answered = task(namespace, "stopserver-u-1-1", &json!("Done"));
                assert_eq!(is_of(&answered, &order), namespace == home, "{namespace}: {spec}");
                assert!(!elsewhere(&answered, &order), "what is closed stays as it is");
                let open = task(namespace, "stopserver-u-1-1", &Value::Null);
                assert_eq!(elsewhere(&open, &order), namespace != home, "{namespace}: {spec}");
                assert!(!elsewhere(&task(namespace, "mine", &Value::Null), &order), "what does not look like ours is left alone");
                assert!(!is_of(&task(namespace, "mine", &json!("Done")), &order), "nor is it listened to");
            }
        }
    }

    #[test]
    fn an_order_is_told_when_a_task_was_closed_also_where_it_sees_that_first() {
        let closed = json!({"closedAt": "2026-01-09T00:00:00Z"});
        for (resolution, status, at) in [
            (Value::Null, Value::Null, None),
            (json!("Retry"), closed, Some("2026-01-09T00:00:00Z".parse().unwrap())),
            (json!("Retry"), Value::Null, Some(Timestamp::now())),
        ] {
            let mut task = task("hosting", "failedoperation-u-1-1", &resolution);
            task.status = serde_json::from_value(status).unwrap();
            let shown = view(&task, false).closed_at;
            assert!(shown.is_some() == at.is_some() && shown >= at, "{resolution}: {shown:?}");
        }
    }

    #[test]
    fn an_answer_from_before_the_question_is_known_by_its_age() {
        let status = json!({"manualTasks": [{"name": "stopserver-u-1-1", "type": "StopServer", "department": "Operations", "state": "Open",
                                             "openedAt": "2026-01-09T00:00:00Z"}]});
        let order = order(&json!({}), &status);
        for (made, resolution, earlier) in [
            ("2026-01-02T00:00:00Z", json!("Done"), true),
            ("2026-01-02T00:00:00Z", Value::Null, false),
            ("2026-01-09T00:00:00Z", json!("Done"), false),
            // By a clock that is behind.
            ("2026-01-08T23:55:00Z", json!("Done"), false),
        ] {
            let mut task = task("shop", "stopserver-u-1-1", &resolution);
            task.metadata.creation_timestamp = serde_json::from_value(json!(made)).unwrap();
            assert_eq!(is_earlier(&task, asked_at(&task, &order), SHOWN_WITHIN), earlier, "{made} {resolution}");
            assert_eq!(view(&task, earlier).made, Some(Time(made.parse().unwrap())), "what an open one is asked is as old");
        }
        assert_eq!(asked_at(&task("shop", "stopserver-u-1-2", &Value::Null), &order), None, "one that the status does not name");
    }
}
