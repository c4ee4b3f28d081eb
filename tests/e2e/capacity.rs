//! Which server: none, one for two, one that somebody else takes.

use serde_json::json;

use super::support::objects::DEBIAN;
use super::support::{Setup, World};

fn one_server() -> Setup {
    Setup::dci(&json!({"servers": [{"id": 17, "name": "R1-17", "type": "E3-16G", "ip": "10.0.0.17"}]}))
}

#[tokio::test]
async fn an_order_waits_for_a_server_that_appears() {
    let mut world = World::start(Setup::default()).await;
    world.order("big-1", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until_active("big-1").await;
    world.order("big-2", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    let waiting = world.until_order("big-2", "waits for capacity", |o| o["status"]["waitingOn"]["kind"] == "Capacity").await;
    assert!(waiting["status"]["server"].is_null());
    world.polls(2).await;
    world.behind("servers", &json!({"id": 30, "type": "E5-64G", "ip": "10.0.0.30"})).await;
    let active = world.until_active("big-2").await;
    assert_eq!(active["status"]["server"]["id"], "30");
    assert!(!world.touched(17) && !world.touched(19), "servers of another type");
    world.end().await;
}

#[tokio::test]
async fn orders_for_what_is_sold_out_cost_the_panel_nothing_and_keep_nobody_back() {
    let limits = json!({"limits": {"maxConcurrentOperations": 1, "requestsPerSecond": 2}, "pollInterval": "5s"});
    let mut world = World::start(Setup::default().handler(&limits)).await;
    // At one request for each of them and poll nobody would ever be served.
    for number in 0..25 {
        let spec = json!({"configuration": {"serverType": "none"}, "client": {"username": format!("guest{number}")}});
        world.order(&format!("wait-{number}"), &spec).await;
    }
    world.until_order("wait-24", "waits for capacity", |o| o["status"]["waitingOn"]["kind"] == "Capacity").await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    assert_eq!(world.asked("user.edit"), 1, "nobody becomes the panel's client for nothing: {:#?}", world.changes());
    let waiting = world.record.get("DedicatedServerOrder", "wait-24").unwrap();
    let message = waiting["status"]["waitingOn"]["message"].as_str().unwrap();
    assert!(message.starts_with("the panel knows no server of type none; place ") && message.ends_with(" of 20+"), "{message}");
    // Nor is it asked in each list whether their clients have users by now. The one who got a server is a new owner.
    world.polls(2).await;
    let asked = world.requests("dci", "user");
    world.polls(5).await;
    assert_eq!(world.requests("dci", "user"), asked);
    world.end().await;
}

#[tokio::test]
async fn orders_that_stalled_cost_the_panel_a_look_in_each_retry_interval_and_none_for_each_poll() {
    let quick = json!({"pollInterval": "1s", "retry": {"interval": "10s"}, "limits": {"requestsPerSecond": 0}});
    let mut world = World::start(Setup::default().handler(&quick)).await;
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}})).await;
    let selector = json!({"namespace": world.provider, "matchLabels": {"zone": "msk"}});
    for number in 0..25 {
        let mut spec = json!({"operatingSystem": {"template": "none"}});
        if number % 2 == 0 {
            (spec["handlerRef"], spec["handlerSelector"]) = (json!(null), selector.clone());
        }
        world.order(&format!("odd-{number}"), &spec).await;
    }
    for number in 0..25 {
        world.until_reason("DedicatedServerOrder", &format!("odd-{number}"), "Ready", "UnknownTemplate").await;
    }
    // The first interval was always kept; afterwards what is stored lies in the past.
    world.polls(20).await;
    let looks = |world: &World| world.requests("dci", "server.operations");
    let written = |world: &World| ["odd-7", "odd-8"].map(|name| world.record.versions("DedicatedServerOrder", name).len());
    let before = (looks(&world), written(&world));
    world.polls(10).await;
    let made = looks(&world) - before.0;
    assert!((1..=75).contains(&made), "{made} looks of 25 orders in ten polls");
    assert_eq!(written(&world), before.1, "nothing is written for it");
    // A change is looked at at once.
    world.patch("DedicatedServerOrder", "odd-8", &json!({"spec": {"operatingSystem": {"template": DEBIAN}}})).await;
    world.until_active("odd-8").await;
    world.end().await;
}

#[tokio::test]
async fn one_of_two_orders_gets_the_only_server_and_the_other_one_waits_for_it() {
    let mut world = World::start(one_server()).await;
    for name in ["web-01", "web-02"] {
        world.order(name, &json!({})).await;
    }
    let winner = world
        .until("one order is Active and the other waits", |world| {
            let phase = |name: &str| world.record.get("DedicatedServerOrder", name).unwrap_or_default()["status"]["phase"].clone();
            let waits = |name: &str| {
                world.record.get("DedicatedServerOrder", name).unwrap_or_default()["status"]["waitingOn"]["kind"] == "Capacity"
            };
            [("web-01", "web-02"), ("web-02", "web-01")].into_iter().find(|(a, b)| phase(a) == "Active" && waits(b))
        })
        .await;
    assert_eq!(world.asked("server.operations"), 1);
    let (first, second) = winner;
    let first_id = world.record.get("DedicatedServerOrder", first).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(world.server(17)["notes"].as_str().unwrap().ends_with(&first_id));
    world.delete("DedicatedServerOrder", first).await;
    world.until_gone(first).await;
    world.until_active(second).await;
    assert_eq!(world.asked("server.operations"), 2);
    world.end().await;
}

#[tokio::test]
async fn a_server_that_a_person_takes_meanwhile_is_left_alone() {
    let mut world = World::start(Setup { run: false, ..Setup::default() }).await;
    // The list says that 17 is free; while its form is being read, a person sells it.
    let fault =
        json!({"action": "delay-before", "panel": "dci", "func": "server.edit", "match": {"elid": "17"}, "changes": false, "delay": "2s"});
    world.sim.add_fault(fault).unwrap();
    world.order("web-01", &json!({})).await;
    world.operator = Some(world.launch.start().await);
    world.until("the form is being read", |world| (world.requests("dci", "server.edit") > 0).then_some(())).await;
    world.sim.change_server(17, json!({"owner": "owner-of-18", "hostname": "sold.example.net"})).unwrap();
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["id"], "19");
    assert!(!world.touched(17), "{:?}", world.changes());
    world.end().await;
}

#[tokio::test]
async fn places_at_the_panel_are_limited() {
    let setup = Setup::default().handler(&json!({"limits": {"maxConcurrentOperations": 1}}));
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}})).await;
    world.until("the first installs", |world| (world.asked("server.operations") == 1).then_some(())).await;
    world.order("web-02", &json!({})).await;
    world.until_reason("DedicatedServerOrder", "web-02", "Ready", "LimitReached").await;
    assert!(!world.touched(19));
    world.sim.change_server(17, json!({"finish_operation": true})).unwrap();
    world.until_active("web-01").await;
    world.until_active("web-02").await;
    world.end().await;
}

#[tokio::test]
async fn an_order_that_is_refused_in_its_preparation_keeps_nobody_from_a_place() {
    let setup = Setup::default().handler(&json!({"limits": {"maxConcurrentOperations": 1}}));
    let mut world = World::start(setup).await;
    let slow = json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}, "deletionProtection": true});
    world.order("web-01", &slow).await;
    world.until("the first installs", |world| (world.asked("server.operations") == 1).then_some(())).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "DeletionProtected").await;
    world.order("web-02", &json!({})).await;
    world.until_active("web-02").await;
    world.end().await;
}

#[tokio::test]
async fn an_order_over_its_quota_keeps_nobody_from_a_place() {
    let limits = json!({"limits": {"maxConcurrentOperations": 1, "maxOrdersPerNamespace": 1}});
    let mut world = World::start(Setup::default().handler(&limits)).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.order("web-02", &json!({})).await;
    world.until_reason("DedicatedServerOrder", "web-02", "Ready", "LimitReached").await;
    // An order of another namespace, with the quota of its own.
    let mut other = super::support::objects::order("web-03", &json!({}));
    other["spec"]["client"]["username"] = "other".into();
    world.create(&world.provider, other).await;
    let served = |world: &World| {
        let order = world.record.get("DedicatedServerOrder", "web-03")?;
        (order["status"]["phase"] == "Active").then_some(())
    };
    world.until("the other namespace is served", served).await;
    world.end().await;
}

#[tokio::test]
async fn many_orders_are_released_a_few_at_a_time_and_none_is_left_over() {
    let servers: Vec<_> = (0..6).map(|n| json!({"id": 30 + n, "type": "E3-16G", "ip": format!("10.0.1.{n}")})).collect();
    let setup = Setup::dci(&json!({"servers": servers})).handler(&json!({"limits": {"maxConcurrentReleases": 2}}));
    let mut world = World::start(setup).await;
    let names: Vec<String> = (0..6).map(|n| format!("web-{n}")).collect();
    let nowhere: Vec<String> = (0..12).map(|n| format!("none-{n}")).collect();
    for name in &names {
        world.order(name, &json!({})).await;
    }
    for name in &nowhere {
        world.order(name, &json!({"configuration": {"serverType": "E5-64G"}})).await;
    }
    for name in &names {
        world.until_active(name).await;
    }
    for name in nowhere.iter().chain(&names) {
        world.delete("DedicatedServerOrder", name).await;
    }
    for name in nowhere.iter().chain(&names) {
        world.until_gone(name).await;
    }
    let mut at_once = 0i32;
    let mut most = 0;
    for line in world.changes() {
        // A server is off first and free in the end.
        at_once += i32::from(line.contains("server.poweroff")) - i32::from(line.contains("owner=no_owner"));
        most = most.max(at_once);
    }
    assert!((1..=2).contains(&most), "{most} at once: {:?}", world.changes());
    for id in 30..36 {
        world.assert_server_released(id);
    }
    world.end().await;
}
