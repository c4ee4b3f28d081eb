//! The API server is away for a while, and comes back without the history that watches go on from.

use std::time::Duration;

use serde_json::json;

use super::servers::{self, Stopped};
use super::support::hands::{ORDER, freeze, lose, picture, settled, thaw};
use super::support::plane::{OwnPlane, plane};
use super::support::{Setup, World};

/// How long it is away: longer than any request, step or answer is waited for here, as ten minutes are where intervals are the usual ones.
const AWAY: Duration = Duration::from_secs(20);

/// An order at rest, one that is being installed, and one that is being released, each of which meets something while the API server
/// is away, where there is one to be stopped. How everything looks in the end, and what was asked of the panels.
async fn three_lives(mut world: World, own: Option<&OwnPlane>) -> (String, Vec<String>) {
    world.order("rest", &json!({"addresses": {"ipv4": 2}})).await;
    world.until_active("rest").await;
    world.order("leaving", &json!({})).await;
    world.until_active("leaving").await;
    world.sim.change_server(20, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.order("coming", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until("it is being installed", |world| world.server(20)["operation"].is_object().then_some(())).await;
    world.sim.add_fault(json!({"action": "delay-after", "func": "server.poweroff", "changes": true, "nth": 1, "delay": "2s"})).unwrap();
    world.delete(ORDER, "leaving").await;
    world.until("it is switched off", |world| (world.asked("server.poweroff") == 1).then_some(())).await;
    let stopped: Option<Stopped> = own.map(servers::stop);
    world.sim.change_server(20, json!({"finish_operation": true})).unwrap();
    world.sim.change_server(17, json!({"power": "off"})).unwrap();
    if let (Some(stopped), Some(own)) = (stopped, own) {
        let made = world.changes().len();
        tokio::time::sleep(AWAY).await;
        assert!(world.operator.as_mut().unwrap().exited().is_none(), "it waits for the API server:\n{}", world.log.tail(20));
        assert_eq!(world.changes()[made..], [] as [String; 0], "nothing is done that cannot be written down first");
        stopped.start(own.plane).await;
    }
    world.until_gone("leaving").await;
    world.until_active("coming").await;
    world.until("it is on again", |world| (world.server(17)["power"] == "on").then_some(())).await;
    settled(&mut world, "rest", "Active").await;
    world.polls(2).await;
    let (end, mut changes) = (picture(&world), world.changes());
    // Three orders go on side by side: what is asked counts, not in which order.
    changes.sort();
    world.end().await;
    (end, changes)
}

#[tokio::test]
#[ignore = "two lives with an outage in each: `make states` runs it"]
async fn an_outage_of_the_api_server_changes_nothing_in_what_becomes_of_orders() {
    let Some(own) = OwnPlane::start("outage") else { return };
    let away = three_lives(World::own_namespaces(own.plane, Setup::default()).await, Some(&own)).await;
    let reference = three_lives(World::own_namespaces(plane(), Setup::default()).await, None).await;
    assert_eq!(away.0, reference.0);
    assert_eq!(away.1, reference.1);
}

/// The operator hears of nothing for a while, and when it asks again the API server has no history to go on from: what is gone shows by
/// not being in a list.
#[tokio::test]
async fn what_happened_before_history_was_thrown_away_is_found_in_the_lists() {
    let Some(own) = OwnPlane::start("compacted") else { return };
    let setup = Setup::default().handler(&json!({"limits": {"maxConcurrentOperations": 1}}));
    let mut world = World::own_namespaces(own.plane, setup).await;
    world.order("rest", &json!({})).await;
    world.until_active("rest").await;
    world.sim.change_server(20, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.order("inside", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until("it is being installed", |world| world.server(20)["operation"].is_object().then_some(())).await;
    world.order("outside", &json!({})).await;
    world.until_reason(ORDER, "outside", "Ready", "LimitReached").await;
    let operator = world.operator.take().unwrap();
    freeze(&operator);
    // An order goes by force, and with it whoever had the only place; another one is edited; and one is new.
    lose(&mut world, ORDER, "inside").await;
    world.patch(ORDER, "rest", &json!({"spec": {"domain": "other.example.net"}})).await;
    world.order("new", &json!({})).await;
    world.delete(ORDER, "new").await;
    let stopped = servers::stop(&own);
    stopped.compact().await;
    stopped.start(own.plane).await;
    thaw(&operator);
    world.operator = Some(operator);
    let rest = settled(&mut world, "rest", "Active").await;
    assert_eq!(rest["status"]["server"]["domain"], "other.example.net");
    let outside = world.until_active("outside").await;
    assert_eq!(outside["status"]["server"]["id"], "19");
    // Our own watch has lost its history as well.
    world.until("the new one is gone", |world| world.record.get(ORDER, "new").is_none().then_some(())).await;
    // The server of the one that is gone is told of, and left alone.
    world
        .until("the handler tells of the server that nobody has", |world| {
            (world.record.get("ProcessingHandler", "msk-1")?["status"]["orphans"][0]["server"] == "20").then_some(())
        })
        .await;
    assert!(world.server(20)["operation"].is_object(), "{}", world.server(20));
    world.end().await;
}
