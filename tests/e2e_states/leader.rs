//! Two replicas take turns, and the one that leads is frozen for longer than its lease, then thawed: it must not act.

use std::time::Duration;

use serde_json::json;

use super::proxy::{Fault, Proxy, Rule};
use super::support::hands::{ORDER, another, freeze, picture, requests, settled, thaw, up};
use super::support::{Setup, World};

/// Writes of one account among these requests, but for the election's own Lease.
fn writes(requests: &[(String, String)], account: &str) -> Vec<String> {
    let reads = ["get ", "list ", "watch "];
    let of = requests.iter().filter(|(who, _)| who == account).map(|(_, what)| what);
    of.filter(|what| !reads.iter().any(|verb| what.starts_with(verb)) && !what.contains(" leases  dci-operator")).cloned().collect()
}

#[tokio::test]
async fn a_leader_that_was_frozen_beyond_its_lease_changes_nothing_when_it_is_thawed() {
    let setup = Setup { args: vec!["--leader-elect".into()], ..Setup::default() };
    let setup = setup.handler(&json!({"timeouts": {"settle": "2s"}}));
    let mut world = World::start(Setup { run: false, ..setup }).await;
    let proxy = Proxy::start(&[(&world.system, "system"), (&world.provider, "provider"), (&world.shop, "shop")]);
    proxy.kube(&world.launch.kubeconfig).await;
    up(&mut world).await;
    // One order at rest, one whose claim is being answered, one that is being installed, and a retry that is due.
    world.order("rest", &json!({})).await;
    world.until_active("rest").await;
    world.sim.change_server(20, json!({"operations": [{"duration": "1h"}]})).unwrap();
    world.order("long", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until("it is being installed", |world| world.server(20)["operation"].is_object().then_some(())).await;
    world.polls(2).await;
    world.sim.add_fault(json!({"action": "delay-after", "func": "server.edit", "changes": true, "nth": 1, "delay": "3s"})).unwrap();
    let edits = world.asked("server.edit");
    world.order("claim", &json!({})).await;
    world.until("the claim is made", |world| (world.asked("server.edit") > edits).then_some(())).await;
    let frozen = world.operator.take().unwrap();
    freeze(&frozen);
    // Once it is thawed it will not hear for a while that it does not lead any more: everything else answers at once.
    proxy.add(Rule::always(Fault::SlowAnswer(Duration::from_secs(4)), |asked| asked.path.ends_with("/leases/dci-operator")));
    let account = requests(&world)[0].0.clone();
    let next = another(&world, "next").await;
    world.operator = Some(next.start().await);
    world.until("the other one leads", |_| next.log.text().contains(" leading").then_some(())).await;
    // It does all that the frozen one was about to do, and more.
    world.until_active("claim").await;
    world.delete(ORDER, "long").await;
    world.until_gone("long").await;
    world.order("heir", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until_active("heir").await;
    world.patch(ORDER, "rest", &json!({"spec": {"domain": "other.example.net", "addresses": {"ipv4": 2}}})).await;
    settled(&mut world, "rest", "Active").await;
    world.polls(2).await;
    let (before, made, log) = (picture(&world), world.changes().len(), requests(&world).len());
    let mine = writes(&requests(&world), &account).len();
    assert!(mine > 0, "what the frozen one wrote is seen");
    thaw(&frozen);
    let mut frozen = Some(frozen);
    let ended = world
        .until("it ends", |_| {
            let status = frozen.as_mut().unwrap().exited();
            status.inspect(|_| drop(frozen.take()))
        })
        .await;
    assert_eq!(ended.code(), Some(1), "{}", world.log.tail(20));
    assert!(world.said("leadership lost"), "{}", world.log.tail(20));
    world.polls(2).await;
    let after = requests(&world);
    assert_eq!(writes(&after[log..], &account), [] as [String; 0], "{}", world.log.tail(40));
    assert_eq!(world.changes()[made..], [] as [String; 0], "{}", world.log.tail(40));
    assert_eq!(picture(&world), before);
    // And what it would have done is done once.
    assert_eq!(world.server(20)["installed"]["times"], 1, "by `heir`; what `long` had begun was cancelled");
    assert_eq!(world.server(19)["installed"]["times"], 1);
    let _ = std::fs::remove_file(&next.kubeconfig);
    world.end().await;
}
