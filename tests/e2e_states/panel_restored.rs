//! The panels' own records are put back to an older state: that is noticed, nothing is done on the ground of it, and no server or address
//! is given to somebody else.

use dci_operator::sim::Backup;
use serde_json::{Value, json};

use super::support::hands::{ORDER, picture, settled, untouched};
use super::support::kstatus::condition;
use super::support::{Setup, World};

fn open(world: &World) -> Vec<Value> {
    world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null()).collect()
}

/// A person puts the records of a panel back.
fn set_back(world: &World, panel: &str, to: &Backup) {
    world.sim.restore(panel, to).unwrap();
    world.record.set_back(panel);
}

/// The order stalls with one of these reasons, and one task is open.
async fn until_noticed(world: &mut World, name: &str, reasons: &[&str]) -> Value {
    let told = |o: &Value| condition(o, "Stalled").is_some_and(|c| reasons.iter().any(|r| c["reason"] == *r));
    world.until_order(name, "the panel's older state is noticed", told).await;
    world.until("one task", |world| (open(world).len() == 1).then_some(())).await;
    world.polls(2).await;
    assert_eq!(open(world).len(), 1);
    world.record.get(ORDER, name).unwrap()
}

#[tokio::test]
async fn servers_set_back_to_before_the_order_are_noticed_and_given_to_nobody() {
    let mut world = World::start(Setup::default()).await;
    let unsold = world.sim.backup();
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until_active("web-01").await;
    world.polls(2).await;
    let (sold, before) = (world.sim.backup(), picture(&world));
    set_back(&world, "dci", &unsold);
    until_noticed(&mut world, "web-01", &["NotOurServer", "OwnerChanged"]).await;
    // To the panel server 17 is free. It is not: another order gets another one, also from an operator that knows nothing yet.
    let server = untouched(&world, 17);
    world.kill_and_restart().await;
    world.order("web-02", &json!({})).await;
    let other = world.until_active("web-02").await;
    assert_eq!(other["status"]["server"]["id"], "19");
    world.order("web-03", &json!({})).await;
    world.until_reason(ORDER, "web-03", "Ready", "WaitingForCapacity").await;
    world.polls(2).await;
    assert_eq!(untouched(&world, 17), server);
    world.delete(ORDER, "web-03").await;
    world.until_gone("web-03").await;
    world.delete(ORDER, "web-02").await;
    world.until_gone("web-02").await;
    // Put right at the panel, the order goes on.
    set_back(&world, "dci", &sold);
    settled(&mut world, "web-01", "Active").await;
    world.until("nobody needs the task any more", |world| open(world).is_empty().then_some(())).await;
    world.polls(2).await;
    assert_eq!(picture(&world), before);
    // Set back again, and deleted: what is not known to be its server is not released.
    set_back(&world, "dci", &unsold);
    until_noticed(&mut world, "web-01", &["NotOurServer", "OwnerChanged"]).await;
    let (server, made) = (untouched(&world, 17), world.asked("server.edit"));
    world.delete(ORDER, "web-01").await;
    world
        .until("a task that can be abandoned", |world| {
            open(world).iter().any(|t| t["spec"]["details"].as_str().unwrap().contains("Abandon: the order goes")).then_some(())
        })
        .await;
    world.polls(2).await;
    assert_eq!((untouched(&world, 17), world.asked("server.edit")), (server, made));
    set_back(&world, "dci", &sold);
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

/// Claimed, but still with the operator's own user and the parking address.
#[tokio::test]
async fn servers_set_back_into_the_preparation_are_noticed_and_not_installed_again() {
    let mut world = World::start(Setup::default()).await;
    world.sim.change_server(17, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until("the panel installs", |world| world.server(17)["operation"].is_object().then_some(())).await;
    world.sim.change_server(17, json!({"finish_operation": true})).unwrap();
    world.until("it is installed", |world| world.server(17)["operation"].is_null().then_some(())).await;
    let halfway = world.sim.backup();
    world.until_active("web-01").await;
    world.polls(2).await;
    let (sold, before, made) = (world.sim.backup(), picture(&world), world.changes().len());
    let handed_over = world.server(17)["owner"] == "acme";
    assert!(handed_over);
    set_back(&world, "dci", &halfway);
    until_noticed(&mut world, "web-01", &["OwnerChanged", "NotOurServer"]).await;
    assert_eq!(world.changes()[made..], [] as [String; 0]);
    set_back(&world, "dci", &sold);
    settled(&mut world, "web-01", "Active").await;
    world.until("nobody needs the task any more", |world| open(world).is_empty().then_some(())).await;
    assert_eq!((picture(&world), &world.changes()[made..]), (before, &[] as &[String]));
    world.end().await;
}

/// The address manager forgets that addresses are used, and hands them out once more: the panel knows better, and the order says so.
#[tokio::test]
async fn addresses_that_the_manager_has_forgotten_are_not_given_to_a_second_server() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 2}}))).await;
    let unsold = world.sim.backup();
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until_active("web-01").await;
    let (before, sold) = (untouched(&world, 17), world.sim.backup());
    set_back(&world, "ipm", &unsold);
    world.order("web-02", &json!({"addresses": {"ipv4": 2}})).await;
    let second = world
        .until_order("web-02", "it is told which address is used already", |o| {
            condition(o, "Stalled").is_some_and(|c| c["message"].as_str().unwrap().contains("ip '203.0.113.11' already exists"))
        })
        .await;
    assert_eq!(second["status"]["server"]["mainAddress"], "10.0.0.19");
    world.polls(2).await;
    let noted: Vec<_> = world.taken().into_iter().filter(|(_, note)| note.contains("k8s:")).collect();
    assert!(noted.is_empty(), "what could not be used was given back: {noted:?}");
    assert_eq!(untouched(&world, 17), before);
    // Put right at the address manager, it goes on with others.
    set_back(&world, "ipm", &sold);
    let annotation = json!({"metadata": {"annotations": {"dci-operator.dev/reconcile-requested-at": "now"}}});
    world.patch(ORDER, "web-02", &annotation).await;
    let second = world.until_active("web-02").await;
    assert_eq!(second["status"]["server"]["addresses"], json!(["203.0.113.12", "203.0.113.13"]));
    assert_eq!(untouched(&world, 17), before);
    world.end().await;
}
