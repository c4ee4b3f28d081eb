//! Which tasks are an order's: those in the namespace of its handler. In any other one somebody may make a task of the same name,
//! and answer it.

use kube::ResourceExt;

use crate::api::{DedicatedServerOrder, ManualTask};
use crate::provisioning::facts::TaskView;
use crate::provisioning::order::selector;
use crate::provisioning::tasks::OPEN;

use super::context::{Context, serving_handler};
use super::task_status::made_by_us;

/// What an order is shown of a task.
pub(super) fn view(task: &ManualTask) -> TaskView {
    TaskView {
        name: task.name_any(),
        type_: task.spec.type_,
        resolution: task.spec.resolution,
        note: task.spec.note.clone().unwrap_or_default(),
    }
}

/// The tasks of an order, as the cache shows them.
pub(super) fn tasks_of(context: &Context, order: &DedicatedServerOrder) -> Vec<TaskView> {
    let open = order.status.as_ref().is_some_and(|s| s.manual_tasks.iter().any(|t| t.state == OPEN));
    if !open {
        return Vec::new();
    }
    context.tasks.read(|t| is_of(t, order).then(|| view(t)))
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
    names(task, order) && task.metadata.deletion_timestamp.is_none() && task.metadata.namespace == home(order)
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
            }
        }
    }
}
