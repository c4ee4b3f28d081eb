//! The task controller: keeps status and labels of the tasks that the operator made, escalates them, wakes their orders, tells
//! their departments, and removes old ones.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::runtime::controller::Action;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use crate::api::common::{LocalRef, ObjectKey, Time};
use crate::api::task::{OrderRef, Resolution, TaskSpec, TaskStatus, TaskType};
use crate::api::{DedicatedServerOrder, ManualTask};
use crate::provisioning::context::cut;
use crate::provisioning::notices::Notice;
use crate::provisioning::order::Order;
use crate::provisioning::tasks::{self, BY_OPERATOR, FOUND_WITHIN, OPEN, TaskRequest};

use super::context::Context;
use super::notify;
use super::order::{OrderError, fresh};
use super::polled::{CONFLICT, after_write};
use super::status::{self, StatusError};
use super::stores::Guarded;
use super::task_status::{labels, made_by_us, mended, status_of};

/// How long a task that is due to be removed is kept for an order that has yet to read its answer, before it is looked at again.
const AWAITED: Duration = Duration::from_secs(30);
/// How soon a task is looked at again that nobody needs and that may not be closed.
const DENIED: Duration = Duration::from_mins(5);
/// The longest note, in bytes: well within what the schema allows in characters.
const NOTE: usize = 4000;

/// A task is not there any more: nobody asks what became of its notifications.
pub fn vanished(context: &Context, _key: &ObjectKey) {
    context.hooks.keep(&context.tasks.read(|task| task.metadata.uid.clone()).into_iter().collect());
}

/// An order is not there any more: what was asked of departments for it is looked at. One that was let go has closed its tasks itself.
pub fn order_vanished(context: &Context, order: &ObjectKey) {
    let open = |task: &ManualTask| task.spec.resolution.is_none() && task.spec.order_ref.key() == *order;
    let key = |task: &ManualTask| ObjectKey { namespace: task.namespace().unwrap_or_default(), name: task.name_any() };
    for task in context.tasks.read(|task| open(task).then(|| key(task))) {
        context.wake_tasks.wake(&task);
    }
}

/// What became of a task that is needed.
pub enum Raised {
    /// It was made.
    Made(Box<ManualTask>),
    /// It was there: made by a pass whose end nobody saw, or before the cache shows it.
    There(Box<ManualTask>),
    /// Its name is that of one that was closed before this one was asked for.
    Taken(Box<ManualTask>),
    /// The API server says why there will be none: in its own words, for whoever may change that.
    Refused(String),
}

/// Raises a task, once those that it takes the place of are closed: two must never be open. One that exists already is the same one.
pub async fn raise(client: &Client, handler: &ObjectKey, order: &Order, request: &TaskRequest) -> Result<Raised, OrderError> {
    match close_replaced(client, &handler.namespace, order, request).await {
        Ok(()) => {}
        Err(StatusError::Api { source, .. }) => return Ok(Raised::Refused(never_allowed(*source)?)),
        Err(error) => return Err(error.into()),
    }
    let made = create(client, handler, order, request).await;
    Ok(made.or_else(|error| never_allowed(error).map(Raised::Refused))?)
}

/// Whether a task was closed, and made before it was asked for: what it was closed with is no answer to that.
pub(super) fn is_earlier(task: &ManualTask, opened_at: Option<Time>, within: Duration) -> bool {
    let made = task.metadata.creation_timestamp.as_ref().map(|t| t.0);
    task.spec.resolution.is_some() && tasks::is_earlier(made, opened_at, within)
}

/// Why tasks cannot be written in a namespace: it is gone (404), on its way or closed to the operator (403), or a policy or a webhook says
/// no (400, 422). Any other error may pass.
pub fn never_allowed(error: kube::Error) -> Result<String, kube::Error> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => Ok(cut(&status.message, 200)),
        error => Err(error),
    }
}

async fn create(client: &Client, handler: &ObjectKey, order: &Order, request: &TaskRequest) -> Result<Raised, kube::Error> {
    let api: Api<ManualTask> = Api::namespaced(client.clone(), &handler.namespace);
    let spec = TaskSpec {
        type_: request.type_,
        department: request.department.clone(),
        order_ref: OrderRef { namespace: order.key.namespace.clone(), name: order.key.name.clone(), uid: order.uid.clone() },
        handler_ref: Some(LocalRef { name: handler.name.clone() }),
        deadline: request.deadline,
        escalate_to: request.escalate_to.clone(),
        summary: request.summary.chars().take(512).collect(),
        details: Some(request.details.chars().take(16384).collect()),
        resolution: None,
        note: None,
    };
    let mut task = ManualTask::new(&request.name, spec);
    task.metadata = ObjectMeta { name: Some(request.name.clone()), namespace: Some(handler.namespace.clone()), ..ObjectMeta::default() };
    task.metadata.labels = Some(labels(&task));
    match api.create(&PostParams::default(), &task).await {
        Ok(task) => Ok(Raised::Made(Box::new(task))),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = Box::new(api.get(&request.name).await?);
            Ok(if is_earlier(&found, request.opened_at, FOUND_WITHIN) { Raised::Taken(found) } else { Raised::There(found) })
        }
        Err(error) => Err(error),
    }
}

/// Closes the tasks that another one takes the place of. Read anew. Those of an order that was restored with its status bear its old uid.
async fn close_replaced(client: &Client, namespace: &str, order: &Order, request: &TaskRequest) -> Result<(), StatusError> {
    let api: Api<ManualTask> = Api::namespaced(client.clone(), namespace);
    for name in &request.replaces {
        let found = api.get_opt(name).await.map_err(|e| status::patch_error(format!("ManualTask {namespace}/{name}"), e))?;
        let open = found.filter(|t| t.spec.resolution.is_none() && t.spec.order_ref.key() == order.key && made_by_us(t));
        if let Some(task) = open {
            let why = format!("{} is asked instead", request.department);
            match close(client, &task, &why).await {
                Ok(()) | Err(StatusError::Gone(_)) => {}
                // Somebody has just written it: looked at again before another one is raised.
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Closes a task that is not needed any more. A conflict is an error: the task is looked at again, before its order goes. Not so one that
/// was closed already: the cache may be behind for as long as its watch is away.
pub async fn supersede(client: &Client, task: &ManualTask, why: &str) -> Result<(), StatusError> {
    // It stays open; an order is not held back by what will never be allowed.
    is_superseded(client, task, why).await.map(|_| ())
}

/// The same; `false` where the API server does not let it be closed.
async fn is_superseded(client: &Client, task: &ManualTask, why: &str) -> Result<bool, StatusError> {
    match close(client, task, why).await {
        Ok(()) | Err(StatusError::Gone(_)) => Ok(true),
        Err(conflict @ StatusError::Conflict(_)) => {
            let (namespace, name) = (task.namespace().unwrap_or_default(), task.name_any());
            let api: Api<ManualTask> = Api::namespaced(client.clone(), &namespace);
            let now = api.get_opt(&name).await.map_err(|e| status::patch_error(format!("ManualTask {namespace}/{name}"), e))?;
            let open = now.is_some_and(|now| now.metadata.uid == task.metadata.uid && now.spec.resolution.is_none());
            if open { Err(conflict) } else { Ok(true) }
        }
        Err(error) if error.refused() => {
            tracing::warn!(task = task.name_any(), %error, "a task that nobody needs any more is not closed");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Closed like a department closes it, with a note that says who did. The order's status says that its answer counts for nothing.
async fn close(client: &Client, task: &ManualTask, why: &str) -> Result<(), StatusError> {
    let operations = vec![
        json!({"op": "add", "path": "/spec/resolution", "value": own_resolution(task.spec.type_).as_str()}),
        json!({"op": "add", "path": "/spec/note", "value": own_note(task.spec.note.as_deref(), why)}),
    ];
    status::patch(client, task, operations).await.map(|_| ())
}

/// The word that the operator closes a task with. `Cancelled` is never said of a server that has to be stopped: `Retry`, the
/// operator goes on by itself, is the one word for it that claims nothing.
fn own_resolution(type_: TaskType) -> Resolution {
    match type_ {
        TaskType::StopServer => Resolution::Retry,
        TaskType::Assembly | TaskType::Procurement | TaskType::FailedOperation => Resolution::Cancelled,
    }
}

fn own_note(theirs: Option<&str>, why: &str) -> String {
    let ours = format!("{BY_OPERATOR}{why}");
    match theirs.filter(|note| !note.is_empty()) {
        Some(note) => format!("{ours}; the note before: {}", cut(note, NOTE - ours.len() - 32)),
        None => ours,
    }
}

/// Whether the order has yet to read the answer: its handler is gone, or does not work, or it cannot be read itself. Removed now, it would
/// be asked again.
fn awaited(order: Option<&Result<DedicatedServerOrder, String>>, task: &ManualTask) -> bool {
    match order {
        Some(Ok(order)) => order.metadata.uid.as_deref() == Some(&task.spec.order_ref.uid) && awaits(order, &task.name_any()),
        Some(Err(_)) => true,
        None => false,
    }
}

/// Whether nobody waits for the answer to an open task any more: its order went without closing it, since its finalizer was removed by
/// force, or since it was restored as another object. That the cache does not show it is no proof: the API server is asked.
async fn is_forsaken(context: &Context, task: &ManualTask) -> Result<bool, kube::Error> {
    let key = task.spec.order_ref.key();
    if !context.scope.sees(&key.namespace) {
        return Ok(false);
    }
    match context.orders.find(&key) {
        // One that cannot be read may be the one.
        Some(Err(_)) => return Ok(false),
        Some(Ok(order)) if !forsakes(Some(&order), task) => return Ok(false),
        Some(Ok(_)) | None => {}
    }
    Ok(forsakes(fresh(context, &key).await?.as_ref(), task))
}

/// Whether an order, as it is, has nothing to do with a task that was raised for one of its name. Of one that was restored with its
/// status the task that the status names stays until the one that it is asked anew with takes its place.
fn forsakes(order: Option<&DedicatedServerOrder>, task: &ManualTask) -> bool {
    order.is_none_or(|order| {
        let same = order.metadata.uid.as_deref() == Some(&task.spec.order_ref.uid);
        !same && !awaits(order, &task.name_any())
    })
}

/// Whether an order's status says that it waits for the answer to a task.
fn awaits(order: &DedicatedServerOrder, task: &str) -> bool {
    order.status.as_ref().is_some_and(|s| s.manual_tasks.iter().any(|t| t.name == task && t.state == OPEN))
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
    if let Some(all) = mended(task).filter(|_| ours) {
        // Somebody changed the labels, or the task has escalated: departments select by them.
        let operations = vec![json!({"op": "add", "path": "/metadata/labels", "value": all})];
        return after_write(status::patch(&context.client, task, operations).await);
    }
    let now = Timestamp::now();
    let old = task.status.clone().unwrap_or_default();
    let handler = notify::Telling::of(&context, task);
    let mut new = status_of(task, ours, now, |department| handler.tells(department));
    let turn = if ours { handler.next(&context.hooks, task, &mut new, now) } else { notify::Turn::default() };
    let mut again = turn.again;
    if new != old {
        match status::write(&context.client, task, &new).await {
            Ok(_) => {
                context.hooks.recorded(&turn.recorded);
                publish(&context, task, &old, &new);
                // The attempt is on record: only now is it made.
                turn.deliveries.into_iter().for_each(|delivery| delivery.start(&context));
            }
            Err(StatusError::Gone(_) | StatusError::Conflict(_)) => return Ok(Action::requeue(CONFLICT)),
            Err(error) => return Err(error),
        }
    } else if ours && task.spec.resolution.is_none() {
        // What was just written brings another look.
        match is_forsaken(&context, task).await {
            Ok(false) => {}
            Ok(true) => match is_superseded(&context.client, task, "its order is gone").await {
                Ok(true) => {}
                // Nothing tells when it may be closed.
                Ok(false) => again = Some(sooner(again, now, DENIED)),
                Err(StatusError::Conflict(_)) => return Ok(Action::requeue(CONFLICT)),
                Err(error) => return Err(error),
            },
            // The order's namespace is not the operator's any more: nothing is known of what is there.
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) => {
                tracing::warn!(task = task.name_any(), %error, "whether the order of a task is gone is not known");
                again = Some(sooner(again, now, AWAITED));
            }
        }
    }
    let order = task.spec.order_ref.key();
    // One that is not there would be told to have vanished, and that wakes this task.
    if context.orders.find(&order).is_some() {
        context.wake_orders.wake(&order);
    }
    let deadline = task.spec.deadline.filter(|_| ours && new.closed_at.is_none() && new.escalated_at.is_none()).map(|t| t.0);
    let mut removal = new.closed_at.filter(|_| ours).map(|t| crate::provisioning::context::after(t.0, context.task_retention));
    if removal.is_some_and(|at| at <= now) && awaited(context.orders.find(&order).as_ref(), task) {
        removal = Some(crate::provisioning::context::after(now, AWAITED));
    } else if removal.is_some_and(|at| at <= now) {
        let api: Api<ManualTask> = Api::namespaced(context.client.clone(), &task.namespace().unwrap_or_default());
        return match api.delete(&task.name_any(), &DeleteParams::default()).await {
            Ok(_) => Ok(Action::await_change()),
            Err(error) => Err(status::patch_error(format!("ManualTask {}", task.name_any()), error)),
        };
    }
    let due = [deadline, removal, again].into_iter().flatten().min();
    Ok(due.map_or_else(Action::await_change, |at| {
        Action::requeue(Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(50)))
    }))
}

/// The sooner of the time at which a task is looked at again anyway, and of the end of this pause.
fn sooner(again: Option<Timestamp>, now: Timestamp, pause: Duration) -> Timestamp {
    let next = crate::provisioning::context::after(now, pause);
    again.map_or(next, |at| at.min(next))
}

/// What a person following a task wants to be told.
fn publish(context: &Context, task: &ManualTask, old: &TaskStatus, new: &TaskStatus) {
    let mut notices = Vec::new();
    if let (None, Some(_), Some(deadline)) = (old.escalated_at, new.escalated_at, task.spec.deadline) {
        let other = new.escalated_to.as_ref().map_or_else(String::new, |other| format!("; {other} may close it as well"));
        notices.push(Notice { warning: true, reason: "TaskOverdue".into(), message: format!("it was due at {deadline}{other}") });
    }
    for told in new.notifications.iter().filter(|n| n.delivered_at.is_none() && n.next_attempt_at.is_none()) {
        if old.notifications.iter().any(|n| n.event == told.event && n.department == told.department && n.next_attempt_at.is_some()) {
            let error = told.last_error.as_deref().unwrap_or_default();
            let message =
                format!("{} could not be told that the task is {} ({} attempts): {error}", told.department, told.event, told.attempts);
            notices.push(Notice { warning: true, reason: "WebhookFailed".into(), message });
        }
    }
    for notice in notices {
        if !context.events.publish(task.object_ref(&()), notice) {
            context.metrics.events_dropped.of([]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// A task that the cache shows open is closed, by an API server that has had another version of it.
    async fn superseded(now: (u16, Value)) -> Result<(), StatusError> {
        closed([failed(422, "the server rejected our request due to an error in our request"), now]).await.map(|_| ())
    }

    fn failed(code: u16, message: &str) -> (u16, Value) {
        (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}))
    }

    /// A task is closed by an API server with these answers.
    async fn closed<const N: usize>(answers: [(u16, Value); N]) -> Result<bool, StatusError> {
        let answers = Mutex::new(VecDeque::from(answers));
        let service = tower::service_fn(move |_: Request<Body>| {
            let (code, answer) = answers.lock().unwrap().pop_front().unwrap();
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        let task = serde_json::from_value(task("t-1", None)).unwrap();
        is_superseded(&Client::new(service, "hosting"), &task, "x").await
    }

    #[tokio::test]
    async fn a_task_that_may_not_be_closed_is_told_from_one_that_is_and_looked_at_again() {
        assert!(!closed([failed(422, "ValidatingAdmissionPolicy 'freeze' denied request")]).await.unwrap());
        assert!(!closed([failed(403, "forbidden")]).await.unwrap());
        assert!(closed([(200, task("t-1", Some("Retry")))]).await.unwrap());
        assert!(closed([failed(500, "not now")]).await.is_err());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(sooner(None, at(0), DENIED), at(300));
        assert_eq!(sooner(Some(at(5)), at(0), DENIED), at(5));
    }

    /// What comes of a task whose name is taken by one of this age.
    async fn taken_by(made: &str, resolution: Option<&str>) -> Raised {
        let conflict = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "message": "it exists",
                              "code": 409});
        let mut found = task("t-1", resolution);
        found["metadata"]["creationTimestamp"] = json!(made);
        let answers = Mutex::new(VecDeque::from([(409, conflict), (200, found)]));
        let service = tower::service_fn(move |_: Request<Body>| {
            let (code, answer): (u16, Value) = answers.lock().unwrap().pop_front().unwrap();
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        let request = TaskRequest {
            name: "t".into(),
            type_: TaskType::StopServer,
            department: "Ops".into(),
            summary: "s".into(),
            details: "d".into(),
            opened_at: serde_json::from_value(json!("2026-01-09T00:00:00Z")).unwrap(),
            deadline: None,
            escalate_to: None,
            replaces: Vec::new(),
        };
        let order = Order::parse(&crate::api::samples::order(&json!({})), "c").unwrap();
        let handler = ObjectKey { namespace: "hosting".into(), name: "msk-1".into() };
        raise(&Client::new(service, "hosting"), &handler, &order, &request).await.unwrap()
    }

    #[tokio::test]
    async fn a_name_that_was_given_before_is_known_by_its_age() {
        let (before, now) = ("2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z");
        assert!(matches!(taken_by(before, Some("Done")).await, Raised::Taken(_)), "an answer to something else");
        assert!(matches!(taken_by(before, None).await, Raised::There(_)), "who is asked already may answer");
        assert!(matches!(taken_by(now, Some("Done")).await, Raised::There(_)), "made by a pass whose end nobody saw");
    }

    fn task(uid: &str, resolution: Option<&str>) -> Value {
        json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask",
               "metadata": {"name": "t", "namespace": "hosting", "uid": uid, "resourceVersion": "1"},
               "spec": {"type": "StopServer", "department": "Ops", "summary": "s", "details": "d", "resolution": resolution,
                        "orderRef": {"name": "web", "namespace": "shop", "uid": "o"}}})
    }

    #[tokio::test]
    async fn a_task_that_is_closed_already_holds_nobody_up_though_the_cache_shows_it_open() {
        assert!(superseded((200, task("t-1", Some("Done")))).await.is_ok());
        assert!(superseded((200, task("t-2", None))).await.is_ok(), "another one of its name");
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "gone", "code": 404});
        assert!(superseded((404, gone)).await.is_ok());
        assert!(matches!(superseded((200, task("t-1", None))).await, Err(StatusError::Conflict(_))), "somebody is writing it");
    }

    #[test]
    fn an_order_that_is_gone_or_another_one_by_now_forsakes_its_tasks_unless_it_waits_for_them() {
        use crate::api::samples;
        let task = samples::task(&json!({}));
        let order = |uid: &str, tasks: &Value| samples::order(&json!({"metadata": {"uid": uid}, "status": {"manualTasks": tasks}}));
        let named = |name: &str, state: &str| json!([{"name": name, "type": "StopServer", "department": "Operations", "state": state}]);
        assert!(forsakes(None, &task));
        for (uid, tasks, expected) in [
            ("u-1", json!([]), false),
            ("u-1", named("stopserver-u-1-1", "Superseded"), false),
            ("u-2", json!([]), true),
            ("u-2", named("stopserver-u-1-1", "Superseded"), true),
            ("u-2", named("stopserver-u-2-1", "Open"), true),
            // Restored with its status: it has raised nothing in the place of this one.
            ("u-2", named("stopserver-u-1-1", "Open"), false),
        ] {
            assert_eq!(forsakes(Some(&order(uid, &tasks)), &task), expected, "{uid} {tasks}");
        }
    }

    #[test]
    fn an_answer_is_kept_for_an_order_that_has_yet_to_read_it_and_for_one_that_cannot_be_read() {
        use crate::api::samples;
        let task = samples::task(&json!({}));
        let order = |uid: &str, state: &str| {
            let tasks = json!([{"name": "stopserver-u-1-1", "type": "StopServer", "department": "Operations", "state": state}]);
            Ok(samples::order(&json!({"metadata": {"uid": uid}, "status": {"manualTasks": tasks}})))
        };
        assert!(awaited(Some(&order("u-1", "Open")), &task));
        assert!(!awaited(Some(&order("u-1", "Done")), &task) && !awaited(Some(&order("u-2", "Open")), &task));
        assert!(awaited(Some(&Err("invalid type".into())), &task));
        assert!(!awaited(None, &task), "it is gone");
    }

    #[test]
    fn what_the_operator_closes_itself_is_a_word_that_the_type_takes() {
        for type_ in [TaskType::Assembly, TaskType::Procurement, TaskType::StopServer, TaskType::FailedOperation] {
            assert!(type_.takes(own_resolution(type_)), "{type_:?}");
        }
    }

    #[test]
    fn a_note_of_the_department_is_kept_and_the_whole_stays_short() {
        assert_eq!(own_note(None, "x"), "closed by the operator: x");
        assert_eq!(own_note(Some("looking"), "x"), "closed by the operator: x; the note before: looking");
        assert!(own_note(Some(&"ж".repeat(4096)), "x").len() <= 4096);
    }

    #[test]
    fn what_a_policy_or_a_webhook_denies_is_told_and_what_may_pass_is_tried_again() {
        let answer = |code: u16| {
            let status = kube::core::Status { code, message: "denied: no tasks here".into(), ..kube::core::Status::default() };
            never_allowed(kube::Error::Api(Box::new(status)))
        };
        for code in [400, 403, 404, 422] {
            assert_eq!(answer(code).unwrap(), "denied: no tasks here", "{code}");
        }
        for code in [409, 429, 500, 503, 504] {
            assert!(answer(code).is_err(), "{code}");
        }
    }
}
