//! Failures and hand work: one task with its text, `Done` that the panel has to confirm, another department, deadlines, webhooks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::hooks::{Answer, Receiver};
use super::support::{Setup, World, kstatus};

const HOOK_SECRET: &str = "hook-secret-5Tk8";

fn refuses_power(count: u64) -> Value {
    json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "msg": "no", "count": count})
}

fn open_tasks(world: &World) -> Vec<Value> {
    world.record.all("ManualTask").into_iter().filter(|task| task["spec"]["resolution"].is_null()).collect()
}

fn name_of(task: &Value) -> String {
    task["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Closes a task as a person does.
async fn close(world: &World, task: &str, resolution: &str, note: &str) {
    let patch = json!({"spec": {"resolution": resolution, "note": note}}).to_string();
    let (code, text) = world.kubectl(&["patch", "manualtask", task, "-n", &world.provider, "--type", "merge", "-p", &patch]).await;
    assert_eq!(code, 0, "{text}");
}

/// The one open task, when it is another one than this.
async fn next_task(world: &mut World, before: &str) -> Value {
    world
        .until("another task", |world| {
            let open = open_tasks(world);
            assert!(open.len() <= 1, "never two: {open:#?}");
            open.into_iter().find(|task| name_of(task) != before)
        })
        .await
}

#[tokio::test]
async fn done_is_confirmed_by_the_panel_or_refused_politely() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 2}}))).await;
    let fails = json!({"outcome": "fail", "duration": "2500ms"});
    world.sim.change_server(17, json!({"operations": [fails, fails]})).unwrap();
    world.order("web-01", &json!({})).await;
    let first = next_task(&mut world, "").await;
    let name = name_of(&first);
    assert_eq!((&first["spec"]["type"], &first["spec"]["handlerRef"]["name"]), (&json!("FailedOperation"), &json!("msk-1")));
    let details = first["spec"]["details"].as_str().unwrap();
    for part in
        ["Step InstallOS, call install, target server/17", "Attempts: 2 (the handler allows 2)", "Last error: InstallFailed", "Cancelled:"]
    {
        assert!(details.contains(part), "{part} in\n{details}");
    }
    world.until_order("web-01", "waits for the department", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    world.polls(2).await;
    assert_eq!(open_tasks(&world).len(), 1, "exactly one");

    close(&world, &name, "Done", "looked at it").await;
    let second = next_task(&mut world, &name).await;
    assert!(second["spec"]["summary"].as_str().unwrap().contains("does not show that it is done"), "{second:#?}");
    assert_eq!(world.asked("server.operations"), 2, "what failed is not asked for again");
    world.kill_and_restart().await;
    world.polls(3).await;
    assert_eq!(open_tasks(&world).len(), 1, "exactly one after a restart");
    assert_eq!(world.asked("server.operations"), 2);

    close(&world, &name_of(&second), "Retry", "replaced the disk").await;
    let active = world.until_active("web-01").await;
    assert_eq!(world.asked("server.operations"), 3);
    let states: Vec<&Value> = active["status"]["manualTasks"].as_array().unwrap().iter().map(|t| &t["state"]).collect();
    assert_eq!(states, ["Done", "Retry"]);
    assert!(active["status"]["attemptsFor"].is_null() && active["status"]["lastError"].is_null());
    let installs = world.changes().iter().filter(|line| line.starts_with("dci server.operations 17")).count();
    assert_eq!(installs, 3, "{:#?}", world.changes());
    world.end().await;
}

#[tokio::test]
async fn a_back_off_goes_on_after_the_operator_was_killed() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"interval": "1h"}}))).await;
    world.sim.add_fault(refuses_power(1)).unwrap();
    world.order("web-01", &json!({})).await;
    let waiting = world.until_order("web-01", "waits for the retry", |o| o["status"]["waitingOn"]["kind"] == "Retry").await;
    world.kill_and_restart().await;
    world.polls(4).await;
    let changed = json!({"spec": {"readyWhen": "OSInstalled"}});
    world.patch("DedicatedServerOrder", "web-01", &changed).await;
    let seen =
        world.until_order("web-01", "the change was seen", |o| o["status"]["observedGeneration"] == o["metadata"]["generation"]).await;
    world.polls(2).await;
    for field in ["nextRetryTime", "attempts", "attemptsFor"] {
        assert_eq!(seen["status"][field], waiting["status"][field], "{field}");
    }
    assert_eq!(world.asked("server.poweron"), 1, "neither the restart nor a change that the step does not read is a cure");
    let patch = json!({"metadata": {"annotations": {"dci-operator.dev/reconcile-requested-at": "now-1"}}});
    world.patch("DedicatedServerOrder", "web-01", &patch).await;
    world.until_active("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn another_department_is_asked_instead() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 1}}))).await;
    let fault = world.sim.add_fault(refuses_power(0)).unwrap();
    world.order("web-01", &json!({})).await;
    let old = next_task(&mut world, "").await;
    assert_eq!(old["spec"]["department"], "Operations");
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"departments": {"operations": {"name": "Field"}}}})).await;
    let new = next_task(&mut world, &name_of(&old)).await;
    assert_eq!((&new["spec"]["department"], &new["metadata"]["labels"]["dci-operator.dev/department"]), (&json!("Field"), &json!("Field")));
    let closed = world.record.get("ManualTask", &name_of(&old)).unwrap();
    assert_eq!(closed["spec"]["resolution"], "Cancelled");
    assert_eq!(closed["spec"]["note"], "closed by the operator: Field is asked instead");
    world.until_reason("ManualTask", &name_of(&old), "Ready", "Superseded").await;
    // What the operator wrote itself is nobody's answer, also for the next process.
    world.kill_and_restart().await;
    world.polls(3).await;
    assert_eq!((open_tasks(&world).len(), world.asked("server.poweron")), (1, 1));
    // Somebody plays with the labels: departments select by them.
    let played = json!({"metadata": {"labels": {"dci-operator.dev/department": "Mine", "dci-operator.dev/escalated-to": "Mine"}}});
    world.patch("ManualTask", &name_of(&new), &played).await;
    world
        .until("the labels are mended", |world| {
            let labels = world.record.get("ManualTask", &name_of(&new))?["metadata"]["labels"].clone();
            (labels["dci-operator.dev/department"] == "Field" && labels["dci-operator.dev/escalated-to"].is_null()).then_some(())
        })
        .await;
    world.sim.remove_faults(Some(fault));
    close(&world, &name_of(&new), "Retry", "reset the management board").await;
    world.until_active("web-01").await;
    world.end().await;
}

/// The operator's metrics, as soon as they say this.
pub async fn until_metric(world: &World, line: &str) {
    let began = Instant::now();
    let operator = world.operator.as_ref().unwrap();
    loop {
        let (_, text) = operator.page(operator.metrics, "/metrics").await;
        if text.contains(line) {
            return;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "no `{line}` in\n{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_task_that_is_late_escalates_and_departments_are_told_whatever_their_receiver_does() {
    let receiver = Receiver::start(HOOK_SECRET, &[Answer::Status(500), Answer::Hang, Answer::Redirect]).await;
    let operations = json!({
        "name": "Operations", "deadline": "4s", "escalateTo": "Leads",
        "webhook": {"url": receiver.url, "secretRef": {"name": "hooks", "key": "hmac"}},
    });
    let setup = Setup::default().handler(&json!({"retry": {"maxAttempts": 1}, "departments": {"operations": operations}}));
    let mut world = World::start(setup).await;
    world.keep_secret(HOOK_SECRET);
    world.create(&world.provider, super::support::objects::secret("hooks", &json!({"hmac": format!("{HOOK_SECRET}\n")}))).await;
    let fault = world.sim.add_fault(refuses_power(0)).unwrap();
    world.order("web-01", &json!({})).await;
    let task = next_task(&mut world, "").await;
    let name = name_of(&task);
    let overdue = world.until_reason("ManualTask", &name, "Overdue", "DeadlinePassed").await;
    assert_eq!((&overdue["status"]["escalatedTo"], &overdue["spec"]["escalateTo"]), (&json!("Leads"), &json!("Leads")));
    assert!(overdue["status"]["escalatedAt"].as_str() >= overdue["spec"]["deadline"].as_str(), "{overdue:#?}");
    world
        .until("the label of the other department", |world| {
            let labels = world.record.get("ManualTask", &name)?["metadata"]["labels"].clone();
            (labels["dci-operator.dev/escalated-to"] == "Leads").then_some(())
        })
        .await;
    let order = world
        .until_order("web-01", "says that its task is overdue", |o| {
            kstatus::condition(o, "ManualActionRequired").is_some_and(|c| c["message"].as_str().unwrap().contains("Leads may close it too"))
        })
        .await;
    assert!(order["status"]["manualTasks"][0]["escalatedAt"].is_string());
    until_metric(&world, "dci_operator_tasks_overdue{department=\"Operations\"} 1").await;

    // The receiver hangs: the order goes on all the same.
    world.until("the receiver hangs", |_| (receiver.told().len() >= 2).then_some(())).await;
    assert!(receiver.taken().is_empty());
    world.kill_and_restart().await;
    world.sim.remove_faults(Some(fault));
    close(&world, &name, "Retry", "reset the management board").await;
    world.until_active("web-01").await;
    let told = receiver.told();
    assert!(told.len() <= 3, "a restart repeats nothing at once: {told:#?}");

    let done = world
        .until("everything is told", |world| {
            let task = world.record.get("ManualTask", &name)?;
            let all = task["status"]["notifications"].as_array()?.clone();
            (all.len() == 3 && all.iter().all(|n| n["deliveredAt"].is_string())).then_some(task)
        })
        .await;
    assert_eq!(receiver.taken(), ["Raised", "Escalated", "Closed"], "each once, in order");
    let told = receiver.told();
    let uid = done["metadata"]["uid"].as_str().unwrap();
    assert!(told.iter().take(4).all(|t| t.id == format!("{uid}.Raised.Operations")), "every attempt has the same id: {told:#?}");
    let last = &told.last().unwrap().body;
    assert_eq!((&last["task"]["resolution"], &last["task"]["note"]), (&json!("Retry"), &json!("reset the management board")));
    assert_eq!(
        (&last["order"]["name"], &last["task"]["escalatedTo"], &last["handler"]),
        (&json!("web-01"), &json!("Leads"), &json!("msk-1"))
    );
    assert_eq!(done["status"]["notifications"][0]["attempts"], 4);
    assert_eq!(done["status"]["notifications"][0]["lastError"], Value::Null);
    world.end().await;
}
