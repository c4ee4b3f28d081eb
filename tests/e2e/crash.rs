//! Killed at any moment, answers that are lost: every change is made once.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use super::support::{Setup, World};

/// What an order with two addresses takes, when nothing goes wrong.
const ONCE: [&str; 10] = [
    "user.edit",
    "server.edit",
    "server.poweron",
    "ip.edit",
    "ip.edit",
    "iplist.edit",
    "iplist.edit",
    "ip.delete",
    "server.operations",
    "server.edit",
];

fn fault(action: &str, func: &str, nth: u64) -> Value {
    json!({"action": action, "func": func, "changes": true, "nth": nth})
}

fn with(mut fault: Value, name: &str, value: &str) -> Value {
    fault[name] = value.into();
    fault
}

async fn world_with(faults: Vec<Value>) -> World {
    let world = World::start(Setup::default().handler(&json!({"timeouts": {"settle": "2s"}}))).await;
    for fault in faults {
        world.sim.add_fault(fault).unwrap();
    }
    // However slow this machine is: an installation lasts until `installed` ends it.
    world.sim.change_server(17, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world
}

/// Ends the installation once it was seen to run.
async fn installed(world: &mut World) {
    world.until("the panel installs", |world| world.server(17)["operation"].is_object().then_some(())).await;
    world.polls(3).await;
    world.sim.change_server(17, json!({"finish_operation": true})).unwrap();
}

/// Kills the operator right after the panel has made a change, before the answer is there.
async fn killed_after(func: &str, nth: u64) {
    let mut world = world_with(vec![with(fault("delay-after", func, nth), "delay", "20s")]).await;
    let nth = usize::try_from(nth).unwrap();
    let after_installation = (func, nth) == ("server.edit", 2);
    if after_installation {
        installed(&mut world).await;
    }
    world.until("the change is made", |world| (world.made().iter().filter(|made| *made == func).count() >= nth).then_some(())).await;
    world.kill_and_restart().await;
    if !after_installation {
        installed(&mut world).await;
    }
    world.until_active("web-01").await;
    assert_eq!(world.made(), ONCE, "{:#?}", world.changes());
    world.end().await;
}

#[tokio::test]
async fn killed_while_the_user_is_made() {
    killed_after("user.edit", 1).await;
}

#[tokio::test]
async fn killed_while_a_server_is_claimed() {
    killed_after("server.edit", 1).await;
}

#[tokio::test]
async fn killed_while_the_power_is_switched() {
    killed_after("server.poweron", 1).await;
}

#[tokio::test]
async fn killed_while_an_address_is_taken() {
    killed_after("ip.edit", 2).await;
}

#[tokio::test]
async fn killed_while_the_main_address_is_replaced() {
    killed_after("iplist.edit", 1).await;
}

#[tokio::test]
async fn killed_while_an_address_is_added() {
    killed_after("iplist.edit", 2).await;
}

#[tokio::test]
async fn killed_while_the_installation_is_started() {
    killed_after("server.operations", 1).await;
}

#[tokio::test]
async fn killed_while_the_server_is_handed_over() {
    killed_after("server.edit", 2).await;
}

#[tokio::test]
async fn killed_while_the_server_is_released() {
    let mut world = world_with(vec![]).await;
    installed(&mut world).await;
    world.until_active("web-01").await;
    world.sim.add_fault(with(fault("delay-after", "server.edit", 1), "delay", "20s")).unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    world
        .until("the release is made", |world| (world.made().iter().filter(|made| *made == "server.edit").count() == 3).then_some(()))
        .await;
    // From now on the server may be anybody's.
    world.sim.change_server(17, json!({"owner": "owner-of-18"})).unwrap();
    let before = world.changes().len();
    world.kill_and_restart().await;
    world.until_gone("web-01").await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    world.end().await;
}

#[tokio::test]
async fn answers_that_are_lost_change_nothing_twice() {
    let lost = [
        ("user.edit", 1),
        ("server.edit", 1),
        ("ip.edit", 1),
        ("ip.edit", 2),
        ("iplist.edit", 1),
        ("iplist.edit", 2),
        ("server.operations", 1),
        ("server.edit", 2),
    ];
    let mut world = world_with(lost.into_iter().map(|(func, nth)| fault("drop-answer", func, nth)).collect()).await;
    installed(&mut world).await;
    world.until_active("web-01").await;
    assert_eq!(world.made(), ONCE, "{:#?}", world.changes());
    // And back, with the answers of the release lost.
    for func in ["server.poweroff", "iplist.delete", "iplist.edit", "server.edit"] {
        world.sim.add_fault(fault("drop-answer", func, 1)).unwrap();
    }
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    let changes = world.changes()[before..].to_vec();
    for func in ["dci server.poweroff", "dci server.edit", "dci iplist.delete"] {
        assert_eq!(changes.iter().filter(|line| line.starts_with(func)).count(), 1, "{changes:#?}");
    }
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn changes_that_land_late_are_not_made_twice() {
    let late = |func, nth| with(fault("late", func, nth), "delay", "1s");
    let mut world = world_with(vec![late("server.edit", 1), late("ip.edit", 1), late("server.operations", 1)]).await;
    installed(&mut world).await;
    world.until_active("web-01").await;
    assert_eq!(world.made(), ONCE, "{:#?}", world.changes());
    world.end().await;
}

#[tokio::test]
async fn sigterm_ends_it_soon_also_in_a_slow_call() {
    let mut world = world_with(vec![with(fault("delay-after", "server.operations", 1), "delay", "60s")]).await;
    world.until("the installation is started", |world| (world.asked("server.operations") == 1).then_some(())).await;
    let (status, took) = world.operator.take().unwrap().terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    world.operator = Some(world.launch.start().await);
    installed(&mut world).await;
    world.until_active("web-01").await;
    assert_eq!(world.made(), ONCE, "{:#?}", world.changes());
    world.end().await;
}

#[tokio::test]
async fn two_replicas_take_turns_and_change_nothing_twice() {
    let mut world = World::start(Setup { args: vec!["--leader-elect".into()], ..Setup::default() }).await;
    let second = world.launch.start().await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until_active("web-01").await;
    assert_eq!(world.made(), ONCE, "{:#?}", world.changes());
    // Whoever led: the one that is left takes the server back.
    world.operator.replace(second).unwrap().kill().await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn a_leader_that_is_stopped_lets_the_next_one_take_over_at_once() {
    let args = vec!["--leader-elect".into(), "--leader-election-name=prod".into()];
    let mut world = World::start(Setup { args, ..Setup::default() }).await;
    world.until("it leads", |world| world.said(" leading").then_some(())).await;
    // An answer is on its way: the leader stays one until that is written down.
    world.sim.add_fault(json!({"action": "delay-after", "func": "server.edit", "changes": true, "nth": 1, "delay": "2s"})).unwrap();
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    world.until("the claim is made", |world| (world.asked("server.edit") > 0).then_some(())).await;
    // One that stands by has nothing to write down, and does not begin to lead on its way out.
    let standby = world.launch.start().await;
    let (status, took) = standby.terminate().await;
    assert!(status.success() && took < Duration::from_secs(6), "{status}, {took:?}");
    let (status, _) = world.operator.take().unwrap().terminate().await;
    assert!(status.success(), "{status}");
    let leases = Api::<Lease>::namespaced(world.kube.clone(), &world.system);
    let lease = leases.get("prod").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity, lease.renew_time), (None, None), "{}", world.log.tail(20));
    world.operator = Some(world.launch.start().await);
    world.until_active("web-01").await;
    assert_eq!(world.made(), ONCE, "{:#?}", world.changes());
    world.end().await;
}
