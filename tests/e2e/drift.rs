//! What people do to an Active order's server behind the operator's back: told, never overwritten, and over when it is put right.

use serde_json::{Value, json};

use super::support::kstatus::{condition, is_true};
use super::support::{Setup, World};

const ORDER: &str = "DedicatedServerOrder";

async fn active() -> World {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"interval": "1s"}}))).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world
}

fn open(world: &World) -> Vec<String> {
    let tasks = world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null());
    tasks.map(|t| t["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The order stalls with this reason, and one task is raised.
async fn until_told(world: &mut World, reason: &str) -> Value {
    world
        .until_order("web-01", reason, |o| {
            condition(o, "Stalled").is_some_and(|c| c["reason"] == reason) && o["status"]["waitingOn"]["kind"] == "Department"
        })
        .await;
    let reason = reason.to_owned();
    let order = world.until("one task", |world| (open(world).len() == 1).then(|| world.record.get(ORDER, "web-01")).flatten()).await;
    assert_eq!(condition(&order, "Ready").unwrap()["reason"], reason);
    order
}

#[tokio::test]
async fn another_owner_and_another_marker_are_told_and_never_overwritten() {
    let mut world = active().await;
    let notes = world.server(17)["notes"].clone();
    let foreign = json!("k8s:other/shop/web-01/00000000-0000-0000-0000-000000000000");
    // With another marker beside it the order's address is on another one's server: that is a person's doing.
    world.record.by_hand(world.server(17)["ip"].as_str().unwrap());
    for (reason, change, back) in [
        ("OwnerChanged", json!({"owner": "owner-of-18"}), json!({"owner": "acme"})),
        // The host name changes with it: that is when notes are read again.
        (
            "NotOurServer",
            json!({"notes": foreign, "hostname": "sold.example.net"}),
            json!({"notes": notes, "hostname": "web-01.example.net"}),
        ),
    ] {
        let before = world.changes();
        world.sim.change_server(17, change).unwrap();
        until_told(&mut world, reason).await;
        world.polls(3).await;
        assert_eq!(world.changes(), before, "{reason}");
        world.sim.change_server(17, back).unwrap();
        world.until_active("web-01").await;
        world.until("nobody needs the task any more", |world| open(world).is_empty().then_some(())).await;
        assert_eq!(world.changes(), before, "{reason}: nothing had to be done");
    }
    world.end().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_no_other_one_is_taken() {
    let mut world = active().await;
    let before = world.changes();
    world.vanish(17).await;
    let order = until_told(&mut world, "ServerGone").await;
    assert_eq!(order["status"]["server"]["id"], "17");
    assert!(!is_true(&order, "Ready"));
    world.polls(3).await;
    assert_eq!(world.changes(), before);
    assert!(!world.touched(19), "no other server is taken");
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    let ours: Vec<_> = world.taken().into_iter().filter(|(_, note)| note.contains("k8s:")).collect();
    assert!(ours.is_empty(), "its addresses are given back: {ours:?}");
    world.end().await;
}
