//! The task controller: keeps status and labels of the tasks that the operator made, wakes their orders, removes old ones.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::api::common::Time;
use crate::api::condition::{self, ConditionType};
use crate::api::task::{OrderRef, Resolution, TaskSpec, TaskStatus, TaskType};
use crate::api::{DEPARTMENT_LABEL, ManualTask, ORDER_UID_LABEL, TYPE_LABEL};
use crate::provisioning::order::Order;
use crate::provisioning::reason::Reason;
use crate::provisioning::tasks::TaskRequest;

use super::context::Context;
use super::metrics::KindLabels;
use super::status::{self, StatusError};
use super::stores::Guarded;

/// How long a closed task is kept.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// Who makes tasks; a task without it is not acted upon.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "dci-operator");

/// Raises a task; one that exists already is the same one.
pub async fn raise(client: &Client, namespace: &str, order: &Order, request: &TaskRequest) -> Result<ManualTask, kube::Error> {
    let api: Api<ManualTask> = Api::namespaced(client.clone(), namespace);
    let spec = TaskSpec {
        type_: request.type_,
        department: request.department.clone(),
        order_ref: OrderRef { namespace: order.key.namespace.clone(), name: order.key.name.clone(), uid: order.uid.clone() },
        summary: request.summary.chars().take(512).collect(),
        details: Some(request.details.chars().take(16384).collect()),
        resolution: None,
        note: None,
    };
    let mut task = ManualTask::new(&request.name, spec);
    task.metadata = ObjectMeta { name: Some(request.name.clone()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
    task.metadata.labels = Some(labels(&task.spec));
    match api.create(&PostParams::default(), &task).await {
        Ok(task) => Ok(task),
        Err(kube::Error::Api(status)) if status.code == 409 => api.get(&request.name).await,
        Err(error) => Err(error),
    }
}

fn labels(spec: &TaskSpec) -> std::collections::BTreeMap<String, String> {
    [
        (DEPARTMENT_LABEL, spec.department.as_str()),
        (ORDER_UID_LABEL, spec.order_ref.uid.as_str()),
        (TYPE_LABEL, spec.type_.as_str()),
        MANAGED_BY,
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Whether the operator made a task: its name follows from its spec, which nobody can change.
#[must_use]
pub fn made_by_us(task: &ManualTask) -> bool {
    let prefix = format!("{}-{}-", task.spec.type_.as_str().to_lowercase(), task.spec.order_ref.uid);
    task.name_any().strip_prefix(&prefix).is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Closes a task that is not needed any more.
pub async fn supersede(client: &Client, task: &ManualTask) -> Result<(), StatusError> {
    let result = match task.spec.type_ {
        // A StopServer task is never cancelled; it goes with its order.
        TaskType::StopServer => {
            let api: Api<ManualTask> = Api::namespaced(client.clone(), &task.namespace().unwrap_or_default());
            let params =
                DeleteParams { preconditions: Some(Preconditions { uid: task.uid(), resource_version: None }), ..DeleteParams::default() };
            match api.delete(&task.name_any(), &params).await {
                Ok(_) => Ok(()),
                Err(error) => Err(status::patch_error(format!("ManualTask {}", task.name_any()), error)),
            }
        }
        TaskType::Assembly | TaskType::Procurement | TaskType::FailedOperation => {
            let operations = vec![json!({"op": "add", "path": "/spec/resolution", "value": Resolution::Cancelled.as_str()})];
            status::patch(client, task, operations).await.map(|_| ())
        }
    };
    match result {
        Ok(()) | Err(StatusError::Gone(_) | StatusError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings one task up to date.
pub async fn reconcile(object: Arc<Guarded<ManualTask>>, context: Arc<Context>) -> Result<Action, StatusError> {
    let task = match &object.0 {
        Ok(task) => task,
        Err(invalid) => {
            status::unreadable::<ManualTask>(&context.client, &invalid.metadata, &invalid.error).await?;
            return Ok(Action::await_change());
        }
    };
    if task.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let ours = made_by_us(task);
    let wanted = labels(&task.spec);
    if ours && wanted.iter().any(|(name, value)| task.labels().get(name) != Some(value)) {
        // Somebody changed the labels: departments select by them.
        let all: std::collections::BTreeMap<_, _> = task.labels().clone().into_iter().chain(wanted).collect();
        let operations = vec![json!({"op": "add", "path": "/metadata/labels", "value": all})];
        match status::patch(&context.client, task, operations).await {
            Ok(_) | Err(StatusError::Gone(_) | StatusError::Conflict(_)) => return Ok(Action::await_change()),
            Err(error) => return Err(error),
        }
    }
    let now = Timestamp::now();
    let new = status_of(task, ours, now);
    let old = task.status.clone().unwrap_or_default();
    if new != old {
        context.metrics.writes.get_or_create(&KindLabels { kind: "ManualTask".into() }).inc();
        match status::write(&context.client, task, &new).await {
            Ok(_) | Err(StatusError::Gone(_) | StatusError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    context.wake_orders.wake(&task.spec.order_ref.key());
    let Some(closed) = new.closed_at.filter(|_| ours) else { return Ok(Action::await_change()) };
    let age = now.duration_since(closed.0).unsigned_abs();
    if age < KEPT {
        return Ok(Action::requeue(KEPT.saturating_sub(age)));
    }
    let api: Api<ManualTask> = Api::namespaced(context.client.clone(), &task.namespace().unwrap_or_default());
    match api.delete(&task.name_any(), &DeleteParams::default()).await {
        Ok(_) => Ok(Action::await_change()),
        Err(error) => Err(status::patch_error(format!("ManualTask {}", task.name_any()), error)),
    }
}

fn status_of(task: &ManualTask, ours: bool, now: Timestamp) -> TaskStatus {
    let generation = task.metadata.generation.unwrap_or_default();
    let mut status = TaskStatus { observed_generation: Some(generation), ..task.status.clone().unwrap_or_default() };
    status.opened_at = status.opened_at.or_else(|| task.metadata.creation_timestamp.as_ref().map(|t| Time::seconds(t.0)));
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
            let message = format!("waits for {}", task.spec.department);
            set(ConditionType::Ready, false, Reason::Open, &message);
            set(ConditionType::Reconciling, true, Reason::Open, &message);
            status.phase = Some("Open".into());
        }
        Some(resolution) => {
            let taken = task.spec.type_.takes(resolution);
            let message = if taken {
                resolution.as_str().to_owned()
            } else {
                format!("{} does not close {} tasks", resolution.as_str(), task.spec.type_.as_str())
            };
            set(ConditionType::Ready, true, if taken { Reason::Closed } else { Reason::ResolutionRefused }, &message);
            condition::remove(&mut status.conditions, ConditionType::Reconciling);
            status.phase = Some("Closed".into());
            status.closed_at = status.closed_at.or(Some(Time::seconds(now)));
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, resolution: Option<Resolution>) -> ManualTask {
        ManualTask::new(
            name,
            TaskSpec {
                type_: TaskType::StopServer,
                department: "Operations".into(),
                order_ref: OrderRef { namespace: "shop".into(), name: "web".into(), uid: "u-1".into() },
                summary: String::new(),
                details: None,
                resolution,
                note: None,
            },
        )
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
    fn a_task_is_open_until_it_has_a_resolution() {
        let now = Timestamp::from_second(1_000).unwrap();
        let open = status_of(&task("stopserver-u-1-1", None), true, now);
        assert_eq!((open.phase.as_deref(), open.closed_at), (Some("Open"), None));
        let closed = status_of(&task("stopserver-u-1-1", Some(Resolution::Done)), true, now);
        assert_eq!((closed.phase.as_deref(), closed.closed_at.map(|t| t.0)), (Some("Closed"), Some(now)));
        assert!(condition::is_true(&closed.conditions, ConditionType::Ready));
    }
}
