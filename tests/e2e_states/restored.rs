//! Orders that come back from a backup, without status, here or in another cluster: they find what is theirs, and nothing is taken twice.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::hands::{ORDER, assert_done, backup, down, freeze, lose, picture, restore, saved_secret, settled, thaw, untouched, up};
use super::support::kstatus::condition;
use super::support::objects::{self, merged};
use super::support::plane::OwnPlane;
use super::support::{Setup, World};

const HANDLER: &str = "ProcessingHandler";

async fn remove_secret(world: &World, name: &str) {
    assert_done(world, &["delete", "secret", name, "-n", &world.shop, "--ignore-not-found"]).await;
}

#[tokio::test]
async fn an_order_restored_without_status_finds_its_server_and_nothing_is_done_to_it() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}, "reinstall": "first"})).await;
    world.until_active("web-01").await;
    world.polls(2).await;
    let (before, made) = (picture(&world), world.changes().len());
    for (what, finalizer, killed) in [("all of it", true, true), ("no finalizer", false, true), ("while it runs", true, false)] {
        if killed {
            down(&mut world).await;
        } else {
            freeze(world.operator.as_ref().unwrap());
        }
        let patch = if finalizer { json!({}) } else { json!({"metadata": {"finalizers": null}}) };
        restore(&mut world, "web-01", &patch).await;
        if killed {
            up(&mut world).await;
        } else {
            thaw(world.operator.as_ref().unwrap());
        }
        let found = settled(&mut world, "web-01", "Active").await;
        assert_eq!(found["status"]["lastHandledReinstall"], "first", "{what}");
        world.polls(2).await;
        assert_eq!((picture(&world), &world.changes()[made..]), (before.clone(), &[] as &[String]), "{what}");
    }
    // What it has is its own: it can be changed and given back, and another order gets another server.
    world.order("web-02", &json!({})).await;
    let other = world.until_active("web-02").await;
    assert_eq!(other["status"]["server"]["id"], "19");
    world.patch(ORDER, "web-01", &json!({"spec": {"addresses": {"ipv4": 1}, "reinstall": "second"}})).await;
    settled(&mut world, "web-01", "Active").await;
    assert_eq!(world.server(17)["installed"]["times"], 2);
    // Deleted before the operator has seen the restored one at all.
    down(&mut world).await;
    restore(&mut world, "web-01", &json!({})).await;
    world.delete(ORDER, "web-01").await;
    up(&mut world).await;
    world.until_gone("web-01").await;
    world.assert_server_released(17);
    assert!(world.taken().values().filter(|note| note.contains("k8s:")).count() == 1, "{:?}", world.taken());
    world.end().await;
}

/// Restored half-way: the Secrets with passwords that it made are there, or not.
#[tokio::test]
async fn an_order_restored_in_its_preparation_goes_on_with_the_secrets_it_made_or_without_them() {
    let mut world = World::start(Setup::default()).await;
    for (name, id, kept) in [("web-01", 17, true), ("web-02", 19, false)] {
        world.sim.change_server(id, json!({"operations": [{"duration": "1h"}]})).unwrap();
        world.order(name, &json!({})).await;
        world.until("the panel installs", |world| world.server(id)["operation"].is_object().then_some(())).await;
        world.polls(2).await;
        down(&mut world).await;
        let root = format!("{name}-root");
        let saved = saved_secret(&world, &root).await;
        let order = backup(&world, ORDER, name);
        lose(&mut world, ORDER, name).await;
        // What belonged to the lost order is collected by the cluster, sooner or later.
        remove_secret(&world, &root).await;
        if kept {
            world.create(&world.shop, saved).await;
        }
        world.create(&world.shop, order).await;
        up(&mut world).await;
        world.polls(2).await;
        world.sim.change_server(id, json!({"finish_operation": true})).unwrap();
        world.until_active(name).await;
        let text =
            assert_done(&world, &["get", "secret", &root, "-n", &world.shop, "-o", "go-template={{.data.password | base64decode}}"]).await;
        let digest = Sha256::digest(text.as_bytes()).iter().fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
        assert_eq!(world.server(id)["invented"]["passwordSha256"], digest, "{name}: the Secret holds the password of the system");
    }
    assert!(!world.touched(20), "{:?}", world.changes());
    let claims = world.changes().iter().filter(|line| line.starts_with("dci server.edit")).count();
    assert_eq!(claims, 4, "claimed and handed over once each: {:#?}", world.changes());
    world.end().await;
}

/// An order is lost for good, and nobody closed what a department was asked for it.
#[tokio::test]
async fn the_task_of_an_order_that_is_lost_is_closed() {
    let departments = json!({"assembly": {"name": "Assembly"}, "procurement": {"name": "Procurement"}});
    let setup = Setup::dci(&json!({"servers": []})).handler(&json!({"byServerType": false, "departments": departments}));
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({"configuration": {"serverType": null, "custom": {"memoryGiB": 64}}})).await;
    let name = world.until("a task", |w| Some(w.record.all("ManualTask").first()?["metadata"]["name"].as_str()?.to_owned())).await;
    down(&mut world).await;
    lose(&mut world, ORDER, "web-01").await;
    up(&mut world).await;
    let note = world.until("it is closed", |w| w.record.get("ManualTask", &name)?["spec"]["note"].as_str().map(str::to_owned)).await;
    assert_eq!(note, "closed by the operator: its order is gone");
    world.end().await;
}

/// The whole provider is lost and comes back without any status, locks included; a task that was open is there again, or is not.
#[tokio::test]
async fn everything_restored_without_status_is_as_it_was_and_tasks_are_raised_once() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 1}}))).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let refuses = json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "msg": "no", "count": 0});
    let fault = world.sim.add_fault(refuses).unwrap();
    world.order("web-02", &json!({})).await;
    let open = |world: &World| world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null()).collect::<Vec<_>>();
    world.until("a task", |world| (open(world).len() == 1).then_some(())).await;
    let (provider, shop, system) = (world.provider.clone(), world.shop.clone(), world.system.clone());
    for with_tasks in [true, false] {
        let before = (untouched(&world, 17), untouched(&world, 19), world.taken());
        down(&mut world).await;
        let mut saved = Vec::new();
        for (kind, namespace) in [("ProcessingHandler", &provider), ("IPManager", &provider), ("ManualTask", &provider), (ORDER, &shop)] {
            for object in world.record.all(kind) {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                if kind != "ManualTask" || with_tasks {
                    saved.push((namespace, backup(&world, kind, &name)));
                }
                lose(&mut world, kind, &name).await;
            }
        }
        assert_done(&world, &["delete", "leases", "--all", "-n", &system]).await;
        for (namespace, object) in saved {
            world.create(namespace, object).await;
        }
        up(&mut world).await;
        settled(&mut world, "web-01", "Active").await;
        world.until_order("web-02", "waits for the department", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
        world.polls(3).await;
        assert_eq!((untouched(&world, 17), untouched(&world, 19), world.taken()), before, "with tasks {with_tasks}");
        assert_eq!(
            open(&world)
                .iter()
                .filter(|t| t["spec"]["orderRef"]["uid"] == world.record.get(ORDER, "web-02").unwrap()["metadata"]["uid"])
                .count(),
            1
        );
        // What was asked for the order that it was before is closed.
        world.until("one task is open", |world| (open(world).len() == 1).then_some(())).await;
    }
    world.sim.remove_faults(Some(fault));
    let task = world.record.get(ORDER, "web-02").unwrap()["status"]["waitingOn"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &task, &json!({"spec": {"resolution": "Retry"}})).await;
    world.until_active("web-02").await;
    assert!(!world.touched(20), "{:?}", world.changes());
    for name in ["web-01", "web-02"] {
        world.delete(ORDER, name).await;
        world.until_gone(name).await;
    }
    world.assert_released(17);
    world.assert_released(19);
    world.end().await;
}

/// In another cluster, with the cluster id kept and not kept.
#[tokio::test]
async fn in_a_new_cluster_orders_find_their_servers_by_the_old_cluster_id_and_take_nothing_without_it() {
    let Some(own) = OwnPlane::start("moved") else { return };
    let mut old = World::start(Setup::default()).await;
    old.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    old.until_active("web-01").await;
    let (server, taken, made) = (untouched(&old, 17), old.taken(), old.changes().len());
    let order = backup(&old, ORDER, "web-01");
    let nothing_was_done = |world: &World| {
        assert_eq!((untouched(world, 17), world.taken(), &world.changes()[made..]), (server.clone(), taken.clone(), &[] as &[String]));
    };
    down(&mut old).await;
    // Not kept: the old cluster may be alive, and this one a copy of it.
    let mut new = old.moved(own.plane, "another", Setup::default()).await;
    let shop = new.shop.clone();
    new.create(&shop, order.clone()).await;
    let stalled = new.until_reason(ORDER, "web-01", "Stalled", "OrderIdElsewhere").await;
    let message = condition(&stalled, "Stalled").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("--cluster-id=e2e") && message.contains("server 17"), "{message}");
    new.polls(3).await;
    nothing_was_done(&new);
    // Deleted here, it gives back nothing that the other cluster uses; without the id it has nothing to do with it.
    new.delete(ORDER, "web-01").await;
    new.polls(3).await;
    nothing_was_done(&new);
    new.patch(ORDER, "web-01", &json!({"metadata": {"annotations": {"dci-operator.dev/order-id": null}}})).await;
    new.until_gone("web-01").await;
    nothing_was_done(&new);
    // Kept: what is found is the order's, and may be changed and given back.
    down(&mut new).await;
    let args = new.launch.args.iter().map(|arg| if arg == "--cluster-id=another" { "--cluster-id=e2e".into() } else { arg.clone() });
    new.launch.args = args.collect();
    up(&mut new).await;
    new.create(&shop, order.clone()).await;
    settled(&mut new, "web-01", "Active").await;
    new.polls(2).await;
    nothing_was_done(&new);
    // Under another name it is another order, with an id that is not its own.
    let copy = merged(order, &json!({"metadata": {"name": "web-02"}, "spec": {"domain": "web-02.example.net"}}));
    new.create(&shop, copy).await;
    new.until_reason(ORDER, "web-02", "Stalled", "InvalidSpec").await;
    freeze(new.operator.as_ref().unwrap());
    lose(&mut new, ORDER, "web-01").await;
    thaw(new.operator.as_ref().unwrap());
    new.until_reason(ORDER, "web-02", "Stalled", "OrderIdElsewhere").await;
    new.polls(2).await;
    nothing_was_done(&new);
    new.end().await;
    old.end().await;
}

/// Of two handlers that an order selects one cannot be read when the order comes back: the one that has its server.
#[tokio::test]
async fn a_restored_order_waits_for_a_handler_that_cannot_be_read() {
    let Some(own) = OwnPlane::start("unread") else { return };
    let mut panels = objects::panels();
    let servers = json!([{"id": 27, "name": "R2-27", "type": "E3-16G", "ip": "10.0.0.27"}]);
    // Panels of one product have addresses of their own.
    let second = merged(panels["dcimanager5"][0].clone(), &json!({"name": "dci2", "listen": "127.0.0.2:0", "servers": servers}));
    panels["dcimanager5"].as_array_mut().unwrap().push(second);
    panels["ipmanager5"][0]["holds_for"].as_array_mut().unwrap().push(json!({"panel": "dci2", "user": "dci"}));
    let mut world = World::own_namespaces(own.plane, Setup { panels, ..Setup::default() }).await;
    let provider = world.provider.clone();
    let mut other = objects::handler(world.sim.url("dci2").unwrap(), &json!({"priority": 20}));
    other["metadata"] = json!({"name": "msk-2", "labels": {"zone": "msk"}});
    world.create(&provider, other).await;
    world.patch(HANDLER, "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}, "spec": {"priority": 10}})).await;
    for name in ["msk-1", "msk-2"] {
        world.until_reason(HANDLER, name, "Ready", "Reachable").await;
    }
    world.order("web-01", &json!({"handlerRef": null, "handlerSelector": {"namespace": provider, "matchLabels": {"zone": "msk"}}})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["handler"], format!("{provider}/msk-1"));
    // And one that names it.
    world.order("web-02", &json!({})).await;
    world.until_active("web-02").await;
    let servers = |world: &World| [17, 19].map(|id| untouched(world, id));
    let (before, made) = (servers(&world), world.changes().len());
    down(&mut world).await;
    for name in ["web-01", "web-02"] {
        restore(&mut world, name, &json!({})).await;
    }
    // Stored while the definitions were those of another version.
    let loose = json!([
        {"op": "replace", "path": "/spec/versions/0/schema",
         "value": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        {"op": "add", "path": "/spec/versions/0/selectableFields", "value": null},
    ]);
    own.plane.define(&["patch", "crd/processinghandlers.dci-operator.dev", "--type=json", "-p", &loose.to_string()], None);
    let poison = json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": HANDLER, "metadata": {"name": "poison"},
                        "spec": {"priority": "high"}});
    world.until_stored(&provider, &poison).await;
    world.patch(HANDLER, "msk-1", &json!({"spec": {"priority": "high"}})).await;
    up(&mut world).await;
    world.until_reason(HANDLER, "msk-1", "Stalled", "InvalidObject").await;
    // The other one has a free server, and is asked nothing but what it has.
    for (deleted, part) in [(false, "no other one is taken"), (true, "remove the finalizer")] {
        if deleted {
            world.delete(ORDER, "web-01").await;
        }
        let told =
            |o: &Value| condition(o, "Ready").is_some_and(|c| c["reason"] == "HandlerNotReady" && c["message"].to_string().contains(part));
        world.until_order("web-01", part, |o| o["metadata"]["deletionTimestamp"].is_string() == deleted && told(o)).await;
        let lists = world.requests("dci2", "server");
        world.until("more lists", |world| (world.requests("dci2", "server") >= lists + 3).then_some(())).await;
        assert!(told(&world.record.get(ORDER, "web-01").unwrap()), "{part}");
        assert_eq!((servers(&world), &world.changes()[made..]), (before.clone(), &[] as &[String]), "{part}");
    }
    // Nobody is asked to give up what is at a handler that is there.
    world.delete(ORDER, "web-02").await;
    let told = |o: &Value| condition(o, "Ready").is_some_and(|c| c["message"].to_string().contains("cannot read it"));
    world.until_order("web-02", "waits for its handler", told).await;
    world.patch(HANDLER, "msk-1", &json!({"spec": {"priority": 10}})).await;
    for (name, server) in [("web-01", 17), ("web-02", 19)] {
        world.until_gone(name).await;
        world.assert_server_released(server);
    }
    assert!(world.record.all("ManualTask").is_empty());
    world.end().await;
}

/// A handler that does not allow the namespace any more takes back what an order may have had there before it was restored.
#[tokio::test]
async fn a_restored_order_that_may_not_use_its_handler_any_more_goes_when_it_is_deleted() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let made = world.changes().len();
    down(&mut world).await;
    restore(&mut world, "web-01", &json!({})).await;
    world.patch(HANDLER, "msk-1", &json!({"spec": {"allowedNamespaces": {"from": "Same"}}})).await;
    up(&mut world).await;
    world.until_reason(ORDER, "web-01", "Ready", "HandlerNotFound").await;
    world.polls(2).await;
    assert_eq!(world.changes()[made..], [] as [String; 0]);
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    world.assert_server_released(17);
    world.end().await;
}
