//! A large fleet that is already there: what a process that finds it needs of memory, requests and time.
//!
//! Run by `make bench` (`DCI_BENCH_ORDERS`, 2,000). The orders are copies of one that became Active in earnest, with servers and
//! marks of their own, so that thousands are there in a minute.

use std::time::Instant;

use dci_operator::api::{DedicatedServerOrder, ORDER_FINALIZER, ORDER_ID_ANNOTATION};
use futures::StreamExt;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::bench::usage;
use super::support::objects::DEBIAN;
use super::support::{Setup, World};

/// The first server of the fleet; the one that the order to be copied gets is 17.
const FIRST: u64 = 100_000;
/// Polls that the fleet is watched for.
const POLLS: u64 = 5;

fn address(n: u64) -> String {
    format!("10.{}.{}.{}", 8 + n / 62_500, n % 62_500 / 250, n % 250 + 1)
}

/// Makes the `n`th order as the first one is, on a server of its own.
async fn copy(world: &World, model: &Value, n: u64) {
    let api: Api<DedicatedServerOrder> = Api::namespaced(world.kube.clone(), &world.shop);
    let name = format!("web-{n:05}");
    let mut object = model.clone();
    object["metadata"] = json!({"name": name, "finalizers": [ORDER_FINALIZER]});
    object["spec"]["domain"] = format!("{name}.example.net").into();
    let made = api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await.unwrap();
    let uid = made.metadata.uid.clone().unwrap();
    let id = json!({"metadata": {"annotations": {ORDER_ID_ANNOTATION: uid}}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&id)).await.unwrap();
    let mut status = object["status"].clone();
    status["observedGeneration"] = 1.into();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["observedGeneration"] = 1.into();
    }
    let server = FIRST + n;
    let own = json!({"id": server.to_string(), "name": format!("L-{n}"), "mainAddress": address(n), "addresses": [address(n)], "domain": format!("{name}.example.net")});
    for (member, value) in own.as_object().unwrap() {
        status["server"][member] = value.clone();
    }
    let marker = format!("k8s:e2e/{}/{name}/{uid}", world.shop);
    world.sim.change_server(server, json!({"owner": "acme", "notes": marker, "hostname": format!("{name}.example.net")})).unwrap();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await.unwrap();
}

#[tokio::test]
#[ignore = "make bench"]
async fn a_large_fleet() {
    let orders: u64 = std::env::var("DCI_BENCH_ORDERS").map_or(2_000, |text| text.parse().unwrap());
    let servers = json!([
        {"id": 17, "name": "R1-17", "type": "E3-16G", "ip": "10.0.0.17"},
        {"id": 18, "name": "R1-18", "type": "E3-16G", "ip": "203.0.113.9", "owner": "owner-of-18", "hostname": "theirs.example.net"},
        {"count": orders, "id": FIRST, "name": "L-{n}", "type": "E5-64G", "ip": address(0), "power": "on", "installed": DEBIAN},
    ]);
    let mut world = World::start(Setup::dci(&json!({"servers": servers})).handler(&json!({"pollInterval": "5s"}))).await;
    world.order("web-first", &json!({})).await;
    let model = world.until_active("web-first").await;
    let alone = usage(world.operator.as_ref().unwrap().pid()).0;
    if let Some(operator) = world.operator.take() {
        operator.kill().await;
    }
    let began = Instant::now();
    futures::stream::iter(0..orders).for_each_concurrent(16, |n| copy(&world, &model, n)).await;
    println!("{orders} orders made in {:?}", began.elapsed());

    let began = Instant::now();
    world.operator = Some(world.launch.start().await);
    let pid = world.operator.as_ref().unwrap().pid();
    let forms = world.requests("dci", "server.edit");
    world
        .until("the handler counts them", |world| {
            let ready = &world.record.get("ProcessingHandler", "msk-1")?["status"]["orders"]["ready"];
            (ready.as_u64() == Some(orders + 1)).then_some(())
        })
        .await;
    world.polls(POLLS).await;
    let ready = began.elapsed();
    let (resident, processor) = usage(pid);
    let forms = world.requests("dci", "server.edit") - forms;
    let lists = world.requests("dci", "server");
    let versions = |world: &World| {
        world.record.all("DedicatedServerOrder").iter().map(|o| o["metadata"]["resourceVersion"].clone()).collect::<Vec<_>>()
    };
    let before = versions(&world);
    world.polls(POLLS).await;
    let (idle, used) = usage(pid);
    println!(
        "{orders} idle orders: {resident} KiB after {ready:?} and {POLLS} polls, {idle} KiB after {} more; alone {alone} KiB; {} bytes each; {forms} forms read, {processor} ms to start, {} ms for each poll",
        world.requests("dci", "server") - lists,
        idle.saturating_sub(alone) * 1024 / orders,
        (used - processor) / POLLS,
    );
    assert_eq!(before, versions(&world), "idle orders are written");
    let unwell: Vec<Value> = world.record.all("DedicatedServerOrder").into_iter().filter(|o| o["status"]["phase"] != "Active").collect();
    assert!(unwell.is_empty(), "{} orders are not Active any more, the first: {}", unwell.len(), unwell[0]);
    world.end().await;
}
