//! Taking a server back.

use serde_json::{Value, json};

use super::support::{Setup, World, kstatus};

/// An Active order `web-01` on server 17.
async fn active(setup: Setup) -> World {
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until_active("web-01").await;
    world
}

fn open_tasks(world: &World) -> Vec<Value> {
    world.record.all("ManualTask").into_iter().filter(|task| task["spec"]["resolution"].is_null()).collect()
}

#[tokio::test]
async fn an_order_is_taken_back_change_by_change() {
    let mut world = active(Setup::default()).await;
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    let changes = world.changes()[before..].to_vec();
    let count = |start: &str| changes.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("dci server.poweroff 17"), 1, "{changes:#?}");
    assert_eq!(count("dci iplist.delete"), 1, "the extra address: {changes:#?}");
    assert_eq!(count("dci server.edit 17"), 1, "the release: {changes:#?}");
    assert!(changes.last().unwrap().starts_with("dci server.edit 17"), "nothing comes after the release: {changes:#?}");
    assert!(!changes.iter().any(|line| line.contains("refused") || line.contains("lost")), "{changes:#?}");
    world.assert_released(17);
    assert_eq!(world.server(17)["power"], "off");
    world.end().await;
}

#[tokio::test]
async fn a_dead_ipmi_is_ignored() {
    let mut world = active(Setup::default()).await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert_eq!(world.asked("server.poweroff"), 1);
    assert!(world.record.all("ManualTask").is_empty());
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn a_dead_ipmi_holds_the_server_until_the_department_has_stopped_it() {
    let mut world = active(Setup::default().handler(&json!({"ipmiErrorPolicy": "CreateTask"}))).await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    let task = world.until("a StopServer task", |world| open_tasks(world).pop()).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!((&task["spec"]["type"], &task["spec"]["department"]), (&json!("StopServer"), &json!("Operations")));
    world.until_order("web-01", "waits for the department", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    let (_, text) = world.kubectl(&["get", "mt", "-n", &world.provider]).await;
    assert!(text.contains("StopServer") && text.contains("web-01") && text.contains("Open"), "{text}");
    // Somebody deletes it: it is needed, so it comes back.
    world.delete("ManualTask", &name).await;
    let again = world
        .until("the task is there again", |world| open_tasks(world).into_iter().find(|t| t["metadata"]["uid"] != task["metadata"]["uid"]))
        .await;
    assert_eq!(again["metadata"]["name"], name.as_str());
    world.polls(3).await;
    assert_eq!(open_tasks(&world).len(), 1, "exactly one");
    assert_eq!(world.server(17)["owner"], "acme", "nothing is released while the task is open");
    assert_eq!(world.asked("server.poweroff"), 1, "power is not asked for again and again");
    let patch = json!({"spec": {"resolution": "Done", "note": "pulled the plug"}}).to_string();
    let (code, text) = world.kubectl(&["patch", "mt", &name, "-n", &world.provider, "--type=merge", "-p", &patch]).await;
    assert_eq!(code, 0, "{text}");
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.until("the task is closed", |world| (world.record.get("ManualTask", &name)?["status"]["phase"] == "Closed").then_some(())).await;
    assert_eq!(world.record.all("ManualTask").len(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_answer_is_kept_beyond_its_time_until_the_order_has_read_it() {
    let setup = Setup { args: vec!["--task-retention=1s".into()], ..Setup::default() };
    let mut world = active(setup.handler(&json!({"ipmiErrorPolicy": "CreateTask"}))).await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    let task = world.until("a StopServer task", |world| open_tasks(world).pop()).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    // Nothing is read of an answer while the panel is down.
    let down = world.sim.add_fault(json!({"action": "down", "panel": "dci"})).unwrap();
    world.until_reason("ProcessingHandler", "msk-1", "Reconciling", "Unreachable").await;
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Done"}})).await;
    world.until("it is closed", |world| (world.record.get("ManualTask", &name)?["status"]["phase"] == "Closed").then_some(())).await;
    world.polls(4).await;
    assert!(world.record.get("ManualTask", &name).is_some(), "the answer is lost");
    world.sim.remove_faults(Some(down));
    world.until_gone("web-01").await;
    world.assert_released(17);
    let raised = world.record.versions("ManualTask", "").iter().filter(|t| t["metadata"]["name"] != name.as_str()).count();
    assert_eq!(raised, 0, "nobody was asked twice");
    world.end().await;
}

#[tokio::test]
async fn an_installation_is_cancelled() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}})).await;
    world
        .until_order("web-01", "installs", |o| {
            o["status"]["steps"].as_array().is_some_and(|all| all.iter().any(|s| s["name"] == "InstallOS" && s["state"] == "Running"))
        })
        .await;
    world.until("the panel installs", |world| world.server(17)["operation"].is_object().then_some(())).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert!(world.server(17)["operation"].is_null(), "{}", world.server(17));
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn deletion_before_anything_was_done() {
    let mut world = World::start(Setup { credentials: Value::Null, ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    world.order("web-02", &json!({"handlerRef": {"name": "nowhere"}})).await;
    for name in ["web-01", "web-02"] {
        world.until_order(name, "waits for the handler", |o| o["status"]["waitingOn"]["kind"] == "Handler").await;
        world.delete("DedicatedServerOrder", name).await;
        world.until_gone(name).await;
    }
    assert!(world.changes().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_handler_that_is_in_use_stays() {
    let mut world = active(Setup::default()).await;
    world.delete("ProcessingHandler", "msk-1").await;
    world.delete("IPManager", "main").await;
    let held = world.until_reason("ProcessingHandler", "msk-1", "Ready", "InUse").await;
    assert!(held["status"].to_string().contains("1 order still"), "{}", held["status"]);
    world.until_reason("IPManager", "main", "Ready", "InUse").await;
    world.polls(2).await;
    let order = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    assert_eq!(order["status"]["phase"], "Active");
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world
        .until("handler and IPManager are gone", |world| {
            (world.record.get("ProcessingHandler", "msk-1").is_none() && world.record.get("IPManager", "main").is_none()).then_some(())
        })
        .await;
    world.end().await;
}

/// An ordinary user is shown its own servers only. Whether a session keeps the rights that its user had at the log-in is not known.
#[tokio::test]
async fn nothing_is_given_up_while_the_panel_user_is_not_an_administrator() {
    for keeps in [false, true] {
        let mut world = active(Setup::dci(&json!({"protocol": {"session_keeps_level": keeps}}))).await;
        // The operator's user has a server, so that its lists are not empty.
        world.order("slow", &json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}})).await;
        world.until("the panel installs", |world| world.server(19)["operation"].is_object().then_some(())).await;
        let uid = world.record.get("DedicatedServerOrder", "web-01").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        let noted = |world: &World| world.taken().into_iter().filter(|(_, note)| note.contains(&uid)).collect::<Vec<_>>();
        let addresses = noted(&world);
        assert!(!addresses.is_empty(), "{:?}", world.taken());
        world.behind("users", &json!({"panel": "dci", "name": "operator", "level": 16})).await;
        if keeps {
            world.polls(2).await;
            let handler = world.record.get("ProcessingHandler", "msk-1").unwrap();
            assert!(kstatus::is_true(&handler, "Ready"), "its session is shown all servers: {handler}");
            world.sim.add_fault(json!({"action": "expire-sessions", "panel": "dci", "func": "server", "count": 1})).unwrap();
        }
        let handler = world.until_reason("ProcessingHandler", "msk-1", "Stalled", "NotAdministrator").await;
        assert_eq!(kstatus::condition(&handler, "CredentialsValid").unwrap()["reason"], "NotAdministrator");
        world.delete("DedicatedServerOrder", "web-01").await;
        world
            .until_order("web-01", "waits for the handler", |o| {
                o["metadata"]["deletionTimestamp"].is_string() && o["status"]["waitingOn"]["kind"] == "Handler"
            })
            .await;
        let asked = world.requests("dci", "user");
        world.until("who it is is asked again", |world| (world.requests("dci", "user") >= asked + 3).then_some(())).await;
        assert_eq!((&world.server(17)["owner"], noted(&world)), (&json!("acme"), addresses), "keeps {keeps}");
        assert!(open_tasks(&world).is_empty(), "{:?}", open_tasks(&world));
        world.behind("users", &json!({"panel": "dci", "name": "operator", "level": 29})).await;
        world.until_gone("web-01").await;
        world.delete("DedicatedServerOrder", "slow").await;
        world.until_gone("slow").await;
        world.assert_released(17);
        world.assert_released(19);
        world.end().await;
    }
}

#[tokio::test]
async fn a_server_that_lost_our_marker_is_not_touched() {
    let mut world = active(Setup::default()).await;
    world.sim.change_server(17, json!({"notes": "sold to somebody", "owner": "owner-of-18"})).unwrap();
    let before = world.changes().len();
    world.until_order("web-01", "Stalled", |o| kstatus::is_true(o, "Stalled")).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world
        .until_order("web-01", "Deleting and Stalled", |o| o["metadata"]["deletionTimestamp"].is_string() && kstatus::is_true(o, "Stalled"))
        .await;
    world.polls(3).await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    // Whoever looks after it says that it is somebody else's now.
    let open = |w: &World| {
        let tasks = w.record.all("ManualTask").into_iter();
        tasks.filter(|t| t["spec"]["resolution"].is_null()).map(|t| t["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The one that the order waits for: the one before it may still be open, and nobody listens to that any more.
    let awaited = |w: &World| Some(w.record.get("DedicatedServerOrder", "web-01")?["status"]["waitingOn"]["name"].as_str()?.to_owned());
    let task = world.until("one task", |w| awaited(w).filter(|task| open(w) == std::slice::from_ref(task))).await;
    world.patch("ManualTask", &task, &json!({"spec": {"resolution": "Abandon", "note": "sold"}})).await;
    world.until_gone("web-01").await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    world.end().await;
}
