//! Several handlers, servers that are given back while the order lives, and who may use which handler.

use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::objects::{self, DEBIAN};
use super::support::{Setup, World};

/// Three panels (`dci`, `dci2`, `dci3`) with a server each (17, 27, 37), and two address managers: `ipm` for the first and the
/// third panel, `ipm2` for the second.
fn panels() -> Value {
    let mut panels = objects::panels();
    panels["dcimanager5"][0]["server_types"].as_array_mut().unwrap().push(json!({"name": "E9"}));
    let first = panels["dcimanager5"][0].clone();
    let server = |id: u64, kind: &str| json!([{"id": id, "name": format!("R-{id}"), "type": kind, "ip": format!("10.0.0.{id}")}]);
    let named = |name: &str, servers: Value| objects::merged(first.clone(), &json!({"name": name, "servers": servers}));
    let theirs = json!({"id": 18, "type": "E3-16G", "ip": "203.0.113.9", "owner": "owner-of-18", "hostname": "theirs.example.net"});
    let mut ours = server(17, "E3-16G");
    ours.as_array_mut().unwrap().push(theirs);
    panels["dcimanager5"] = json!([named("dci", ours), named("dci2", server(27, "E3-16G")), named("dci3", server(37, "E5-64G"))]);
    // Panels of one product have addresses of their own.
    panels["dcimanager5"][1]["listen"] = "127.0.0.2:0".into();
    panels["dcimanager5"][2]["listen"] = "127.0.0.3:0".into();
    panels["dcimanager5"][2]["servers"].as_array_mut().unwrap().push(json!({"id": 38, "type": "E3-16G", "ip": "10.0.0.38"}));
    let pool = panels["ipmanager5"][0].clone();
    let holds = |panels: &[&str]| panels.iter().map(|panel| json!({"panel": panel, "user": "dci"})).collect::<Vec<_>>();
    let first = objects::merged(pool.clone(), &json!({"holds_for": holds(&["dci", "dci3"])}));
    let second = objects::merged(pool, &json!({"name": "ipm2", "listen": "127.0.0.4:0", "holds_for": holds(&["dci2"])}));
    panels["ipmanager5"] = json!([first, second]);
    panels
}

/// A world with the handlers `msk-1`, `msk-2` and `msk-3` of one label, in this order of priority.
async fn three(handler: Value) -> World {
    three_of(panels(), handler).await
}

async fn three_of(panels: Value, handler: Value) -> World {
    let world = World::start(Setup { panels, handler: handler.clone(), ..Setup::default() }).await;
    let provider = world.provider.clone();
    let mut other = objects::ip_manager(world.sim.url("ipm2").unwrap(), &json!({}));
    other["metadata"]["name"] = "other".into();
    world.create(&provider, other).await;
    for (number, panel, manager) in [(2, "dci2", "other"), (3, "dci3", "main")] {
        let spec = objects::merged(handler.clone(), &json!({"priority": number * 10, "ipManagement": {"ipManagerRef": {"name": manager}}}));
        let mut object = objects::handler(world.sim.url(panel).unwrap(), &spec);
        object["metadata"] = json!({"name": format!("msk-{number}"), "labels": {"zone": "msk"}});
        world.create(&provider, object).await;
    }
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}, "spec": {"priority": 10}})).await;
    world
}

fn selector(world: &World) -> Value {
    json!({"handlerRef": null, "handlerSelector": {"namespace": world.provider, "matchLabels": {"zone": "msk"}}})
}

async fn all_ready(world: &mut World) {
    for name in ["msk-1", "msk-2", "msk-3"] {
        world.until_reason("ProcessingHandler", name, "Ready", "Reachable").await;
    }
}

fn passed_over(order: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    order["status"]["handlers"].as_array().into_iter().flatten().map(|h| (text(&h["name"]), text(&h["reason"]))).collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn handlers_without_a_server_or_down_are_passed_over() {
    let mut world = three(json!({})).await;
    all_ready(&mut world).await;
    world.sim.add_fault(json!({"action": "down", "panel": "dci2"})).unwrap();
    world.until_reason("ProcessingHandler", "msk-2", "Ready", "Unreachable").await;
    let spec = objects::merged(selector(&world), &json!({"configuration": {"serverType": "E5-64G"}}));
    world.order("web-01", &spec).await;
    let active = world.until_active("web-01").await;
    assert_eq!(passed_over(&active), pairs(&[("msk-1", "WaitingForCapacity"), ("msk-2", "HandlerNotReady")]));
    assert_eq!(active["status"]["server"]["handler"], format!("{}/msk-3", world.provider));
    let marker = "notes=k8s:e2e/shop/web-01/ID";
    let expected = [
        "dci3 user.edit  name=acme".to_owned(),
        format!("dci3 server.edit 37 owner=1 {marker}"),
        "dci3 server.poweron 37".to_owned(),
        "ipm ip.edit  ip= iptype=public domain=web-01.example.net note=k8s:ID".to_owned(),
        "dci3 iplist.edit 37/500001 ip=203.0.113.10 iptype=public domain=web-01.example.net".to_owned(),
        "ipm ip.delete 10.0.0.37".to_owned(),
        format!("dci3 server.operations 37 ostemplate={DEBIAN} recipe=null"),
        format!("dci3 server.edit 37 owner=4 {marker}"),
    ];
    assert_eq!(world.changes(), expected);
    // What it has it has: a handler that comes back changes nothing, and one that serves an order is held.
    world.sim.remove_faults(None);
    world.until_reason("ProcessingHandler", "msk-2", "Ready", "Reachable").await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert!(world.changes()[expected.len()..].iter().all(|line| line.starts_with("dci3 ") || line.starts_with("ipm ")));
    world.end().await;
}

#[tokio::test]
async fn a_composed_server_comes_from_the_handler_that_has_it_and_is_built_at_one_where_none_has() {
    let mut panels = panels();
    let parts = |ram: &str| json!({"cpu_0": "Intel Xeon E-2146G", "cpu_count": "1", "chassis_ram": ram});
    panels["dcimanager5"][0]["servers"][0]["hardware"] = parts("16");
    panels["dcimanager5"][1]["servers"][0]["hardware"] = parts("64");
    let departments = json!({"assembly": {"name": "Assembly"}, "procurement": {"name": "Procurement"}});
    let mut world = three_of(panels, json!({"byServerType": false, "departments": departments})).await;
    all_ready(&mut world).await;
    let mut spec = selector(&world);
    spec["configuration"] = json!({"serverType": null, "custom": {"memoryGiB": 64}});
    world.order("web-01", &spec).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["handler"], format!("{}/msk-2", world.provider));
    assert_eq!(passed_over(&active), pairs(&[("msk-1", "WaitingForCapacity")]));
    assert!(world.record.all("ManualTask").is_empty());
    // Nobody has another one: the first handler's department is asked to build it, once, and nothing is reserved elsewhere.
    world.order("web-02", &spec).await;
    let waiting = world.until_order("web-02", "waits for Assembly", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    assert_eq!(waiting["status"]["server"]["handler"], format!("{}/msk-1", world.provider));
    world.polls(3).await;
    let tasks = world.record.all("ManualTask");
    assert_eq!((tasks.len(), tasks[0]["spec"]["type"].as_str()), (1, Some("Assembly")), "{tasks:?}");
    assert!(!world.changes().iter().any(|line| line.starts_with("dci3 server.edit")), "{:?}", world.changes());
    for name in ["web-01", "web-02"] {
        world.delete("DedicatedServerOrder", name).await;
        world.until_gone(name).await;
    }
    world.end().await;
}

#[tokio::test]
async fn an_order_that_every_handler_was_passed_over_for_wakes_when_one_changes() {
    let mut world = three(json!({})).await;
    all_ready(&mut world).await;
    world.patch("ProcessingHandler", "msk-2", &json!({"spec": {"suspend": true}})).await;
    world
        .until("it is suspended", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-2")?;
            (handler["status"]["observedGeneration"] == handler["metadata"]["generation"]).then_some(())
        })
        .await;
    let spec = objects::merged(selector(&world), &json!({"configuration": {"serverType": "E9"}}));
    world.order("web-01", &spec).await;
    let told = [("msk-1", "WaitingForCapacity"), ("msk-2", "HandlerSuspended"), ("msk-3", "WaitingForCapacity")];
    let waiting = world.until_order("web-01", "every handler was passed over", |o| passed_over(o) == pairs(&told)).await;
    assert_eq!((&waiting["status"]["phase"], &waiting["status"]["waitingOn"]["kind"]), (&json!("Pending"), &json!("Capacity")));
    world.polls(3).await;
    assert!(world.changes().is_empty(), "not even a user is made: {:?}", world.changes());
    // An order that has nothing anywhere holds no handler.
    world.delete("ProcessingHandler", "msk-3").await;
    world.until("msk-3 is gone", |world| world.record.get("ProcessingHandler", "msk-3").is_none().then_some(())).await;
    world.behind("servers", &json!({"panel": "dci", "id": 30, "type": "E9", "ip": "10.0.0.30"})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["handler"], format!("{}/msk-1", world.provider));
    world.end().await;
}

#[tokio::test]
async fn an_order_with_a_selector_stands_in_the_queue_of_each_of_its_handlers() {
    let mut world = three(json!({})).await;
    all_ready(&mut world).await;
    let wanted = json!({"configuration": {"serverType": "E9"}});
    world.order("web-01", &objects::merged(selector(&world), &wanted)).await;
    let noted = |name: &str| pairs(&[("msk-1", name), ("msk-2", name), ("msk-3", name)]);
    world.until_order("web-01", "no handler has one", |o| passed_over(o) == noted("WaitingForCapacity")).await;
    world.next_second("web-01").await;
    world.order("web-02", &wanted).await;
    let says = |o: &Value, place: &str| o["status"]["waitingOn"]["message"].as_str().unwrap_or_default().contains(place);
    world.until_order("web-02", "it is second", |o| says(o, "place 2 of 2")).await;
    world.until_order("web-01", "it is first", |o| says(o, "msk-1: the panel knows no server of type E9; place 1 of 2")).await;
    world.behind("servers", &json!({"panel": "dci", "id": 30, "type": "E9", "ip": "10.0.0.30"})).await;
    assert_eq!(world.until_active("web-01").await["status"]["server"]["id"], "30");
    world.until_order("web-02", "it is first now", |o| says(o, "place 1 of 1")).await;
    world.end().await;
}

#[tokio::test]
async fn after_a_failure_the_server_goes_back_and_the_same_address_manager_is_preferred() {
    let mut world = three(json!({"retry": {"maxAttempts": 2}})).await;
    all_ready(&mut world).await;
    let fault = json!({"action": "error", "panel": "dci", "func": "server.poweron", "type": "connection", "object": "ipmi", "msg": "no", "count": 0});
    world.sim.add_fault(fault).unwrap();
    world.order("web-01", &selector(&world)).await;
    let active = world.until_active("web-01").await;
    let tried = &active["status"]["triedServers"];
    assert_eq!((&tried[0]["id"], &tried[0]["reason"], tried.as_array().unwrap().len()), (&json!("17"), &json!("OperationFailed"), 1));
    assert_eq!(active["status"]["server"]["handler"], format!("{}/msk-3", world.provider), "msk-2 has another address manager");
    assert!(world.record.all("ManualTask").is_empty(), "no department is asked");
    world.assert_server_released(17);
    let marker = "notes=k8s:e2e/shop/web-01/ID";
    let expected = [
        "dci user.edit  name=acme".to_owned(),
        format!("dci server.edit 17 owner=1 {marker}"),
        "dci server.poweron 17 refused".to_owned(),
        "dci server.poweron 17 refused".to_owned(),
        "dci server.edit 17 owner=no_owner notes=".to_owned(),
        "dci3 user.edit  name=acme".to_owned(),
        format!("dci3 server.edit 38 owner=1 {marker}"),
        "dci3 server.poweron 38".to_owned(),
        "ipm ip.edit  ip= iptype=public domain=web-01.example.net note=k8s:ID".to_owned(),
        "dci3 iplist.edit 38/500002 ip=203.0.113.10 iptype=public domain=web-01.example.net".to_owned(),
        "ipm ip.delete 10.0.0.38".to_owned(),
        format!("dci3 server.operations 38 ostemplate={DEBIAN} recipe=null"),
        format!("dci3 server.edit 38 owner=4 {marker}"),
    ];
    assert_eq!(world.changes(), expected);
    let phases: Vec<Value> = world.record.versions("DedicatedServerOrder", "web-01").iter().map(|o| o["status"]["phase"].clone()).collect();
    assert!(!phases.contains(&json!("Deleting")) && !phases.contains(&json!("Failed")), "{phases:?}");
    world.end().await;
}

#[tokio::test]
async fn a_failed_recipe_takes_another_server_change_by_change() {
    let mut world = World::start(Setup::default()).await;
    world.sim.change_server(17, json!({"operations": [{"outcome": "recipe-fail", "duration": "1s"}]})).unwrap();
    world.order("web-01", &json!({"recipes": ["ISPsystem__nginx.sh"]})).await;
    let active = world.until_active("web-01").await;
    let tried = &active["status"]["triedServers"];
    assert_eq!((&tried[0]["id"], &tried[0]["reason"]), (&json!("17"), &json!("RecipeFailed")));
    assert_eq!(active["status"]["server"]["id"], "19");
    let marker = "notes=k8s:e2e/shop/web-01/ID";
    let expected = [
        "dci user.edit  name=acme".to_owned(),
        format!("dci server.edit 17 owner=1 {marker}"),
        "dci server.poweron 17".to_owned(),
        "ipm ip.edit  ip= iptype=public domain=web-01.example.net note=k8s:ID".to_owned(),
        "dci iplist.edit 17/500001 ip=203.0.113.10 iptype=public domain=web-01.example.net".to_owned(),
        "ipm ip.delete 10.0.0.17".to_owned(),
        format!("dci server.operations 17 ostemplate={DEBIAN} recipe=ISPsystem__nginx.sh"),
        "dci server.poweroff 17".to_owned(),
        "ipm ip.edit  ip= iptype=parking domain=free.ds note=k8s:ID".to_owned(),
        "dci iplist.edit 17/500001 ip=10.0.0.1 iptype=parking domain=free.ds".to_owned(),
        "ipm ip.edit 10.0.0.1 ip=10.0.0.1 iptype=parking domain=free.ds note=".to_owned(),
        "ipm ip.delete 203.0.113.10".to_owned(),
        "dci server.edit 17 owner=no_owner notes=".to_owned(),
        format!("dci server.edit 19 owner=1 {marker}"),
        "dci server.poweron 19".to_owned(),
        "ipm ip.edit  ip= iptype=public domain=web-01.example.net note=k8s:ID".to_owned(),
        "dci iplist.edit 19/500003 ip=203.0.113.10 iptype=public domain=web-01.example.net".to_owned(),
        "ipm ip.delete 10.0.0.19".to_owned(),
        format!("dci server.operations 19 ostemplate={DEBIAN} recipe=ISPsystem__nginx.sh"),
        format!("dci server.edit 19 owner=4 {marker}"),
    ];
    assert_eq!(world.changes(), expected);
    world.assert_server_released(17);
    world.end().await;
}

#[tokio::test]
async fn a_handler_that_is_not_allowed_looks_as_if_it_did_not_exist() {
    let mut world = World::start(Setup::default().handler(&json!({"allowedNamespaces": {"from": "Same"}}))).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}})).await;
    let named = |name: &str| json!({"handlerRef": {"name": name, "namespace": world.provider}});
    let selected =
        |label: &str| json!({"handlerRef": null, "handlerSelector": {"namespace": world.provider, "matchLabels": {"zone": label}}});
    let rows = [("named", named("msk-1")), ("nowhere", named("msk-9")), ("selected", selected("msk")), ("selects-none", selected("spb"))];
    for (name, spec) in &rows {
        world.order(name, spec).await;
    }
    let mut told = Vec::new();
    for (name, _) in &rows {
        let order = world.until_reason("DedicatedServerOrder", name, "Ready", "HandlerNotFound").await;
        let message = condition(&order, "Ready").unwrap()["message"].as_str().unwrap().replace("msk-9", "msk-1");
        let mut status = order["status"].clone();
        status["conditions"] = Value::Null;
        status["waitingOn"] = json!({"kind": status["waitingOn"]["kind"]});
        told.push((message, status));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[2], told[3]);
    world.polls(2).await;
    assert!(world.changes().is_empty());
    // Neither holds the handler; and as soon as the namespace may use it, both go on.
    let handler = world.record.get("ProcessingHandler", "msk-1").unwrap();
    assert_eq!(handler["status"]["orders"]["total"], 0);
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"allowedNamespaces": {"from": "All"}}})).await;
    world.until_active("named").await;
    world.until_active("selected").await;
    world.end().await;
}

#[tokio::test]
async fn orders_beyond_the_limit_of_their_namespace_wait_in_their_order() {
    let setup = Setup::default().handler(&json!({"limits": {"maxOrdersPerNamespace": 1}}));
    let mut world = World::start(setup).await;
    for name in ["web-01", "web-02", "web-03"] {
        world.order(name, &json!({})).await;
        world.next_second(name).await;
    }
    world.until_active("web-01").await;
    let place = |o: &Value| condition(o, "Ready").and_then(|c| Some(c["message"].as_str()?.to_owned())).unwrap_or_default();
    world.until_order("web-02", "is first in the queue", |o| place(o).ends_with("place 1 in the queue")).await;
    world.until_order("web-03", "is second in the queue", |o| place(o).ends_with("place 2 in the queue")).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_active("web-02").await;
    world.until_order("web-03", "is first in the queue", |o| place(o).ends_with("place 1 in the queue")).await;
    assert_eq!(world.asked("server.operations"), 2);
    world.end().await;
}
