//! Objects that change and change back, and objects that go and come again under the same name, seen or not.

use serde_json::{Value, json};

use super::support::hands::{ORDER, assert_done, backup, down, freeze, lose, picture, restore, settled, thaw, untouched, up};
use super::support::kstatus::condition;
use super::support::objects::{PANEL_PASSWORD, merged, order};
use super::support::{Setup, World};

/// An Active order `web-01` with two addresses on server 17.
async fn active(setup: Setup) -> World {
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}, "reinstall": "before"})).await;
    world.until_active("web-01").await;
    world.polls(2).await;
    world
}

/// Each thing that can be said, and what was said before.
async fn there_and_back(world: &World) {
    for (spec, back) in [
        (json!({"domain": "other.example.net"}), json!({"domain": "web-01.example.net"})),
        (json!({"addresses": {"ipv4": 1}}), json!({"addresses": {"ipv4": 2}})),
        (json!({"suspended": true}), json!({"suspended": false})),
        (json!({"reinstall": "again"}), json!({"reinstall": "before"})),
        (json!({"recipes": ["ISPsystem__nginx.sh"]}), json!({"recipes": []})),
        (
            json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}}),
            json!({"operatingSystem": {"template": super::support::objects::DEBIAN}}),
        ),
        (json!({"deletionProtection": true}), json!({"deletionProtection": false})),
    ] {
        world.patch(ORDER, "web-01", &json!({ "spec": spec })).await;
        world.patch(ORDER, "web-01", &json!({ "spec": back })).await;
    }
    let interval = |text: &str| json!({"spec": {"pollInterval": text}});
    for (kind, name) in [("ProcessingHandler", "msk-1"), ("IPManager", "main")] {
        world.patch(kind, name, &interval("1h")).await;
        world.patch(kind, name, &interval("1s")).await;
    }
    for suspend in [true, false] {
        world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": suspend}})).await;
    }
    for password in ["wrong", PANEL_PASSWORD] {
        world.write_secret("dci-admin", &json!({"password": password})).await;
    }
}

#[tokio::test]
async fn what_changed_and_changed_back_while_nobody_looked_changes_nothing() {
    let mut world = active(Setup::default()).await;
    let (before, made) = (picture(&world), world.changes().len());
    // Killed: none of it was ever seen. Frozen: all of it comes at once.
    for killed in [true, false] {
        if killed {
            down(&mut world).await;
        } else {
            freeze(world.operator.as_ref().unwrap());
        }
        there_and_back(&world).await;
        if killed {
            up(&mut world).await;
        } else {
            thaw(world.operator.as_ref().unwrap());
        }
        settled(&mut world, "web-01", "Active").await;
        world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
        world.polls(3).await;
        assert_eq!(world.changes()[made..], [] as [String; 0], "killed {killed}");
        assert_eq!(picture(&world), before, "killed {killed}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_order_that_goes_and_comes_again_while_nobody_looks_gets_one_server() {
    let mut world = World::start(Setup { run: false, ..Setup::default() }).await;
    // Nobody ever saw the first two of this name.
    for _ in 0..2 {
        world.order("web-01", &json!({})).await;
        world.delete(ORDER, "web-01").await;
        world.until_gone("web-01").await;
    }
    world.order("web-01", &json!({})).await;
    up(&mut world).await;
    world.until_active("web-01").await;
    assert!(!world.touched(19) && !world.touched(20), "{:?}", world.changes());
    // Asked to go while nobody looked; and when it is gone there is another one of its name, with a server that was prepared anew.
    down(&mut world).await;
    world.delete(ORDER, "web-01").await;
    up(&mut world).await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.order("web-01", &json!({})).await;
    let second = world.until_active("web-01").await;
    assert_eq!(second["status"]["server"]["id"], "17");
    assert_eq!(world.server(17)["installed"]["times"], 2);
    assert!(!world.touched(19), "{:?}", world.changes());
    world.end().await;
}

/// Its finalizer was taken off by force, so that its server was never given back.
#[tokio::test]
async fn an_order_that_was_lost_and_made_anew_never_gets_a_second_server_and_never_gives_back_the_first() {
    let mut world = active(Setup::default()).await;
    let (server, made) = (untouched(&world, 17), world.changes().len());
    for killed in [true, false] {
        if killed {
            down(&mut world).await;
        } else {
            freeze(world.operator.as_ref().unwrap());
        }
        restore(&mut world, "web-01", &json!({"metadata": {"annotations": null, "finalizers": null}})).await;
        if killed {
            up(&mut world).await;
        } else {
            thaw(world.operator.as_ref().unwrap());
        }
        let stalled = world.until_reason(ORDER, "web-01", "Stalled", "PreviousServerFound").await;
        assert!(condition(&stalled, "Stalled").unwrap()["message"].as_str().unwrap().contains("server 17"), "{stalled}");
        world.polls(2).await;
        assert_eq!((untouched(&world, 17), &world.changes()[made..]), (server.clone(), &[] as &[String]), "killed {killed}");
    }
    // Deleted, it leaves the server of the order that was before it alone.
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    world.polls(2).await;
    assert_eq!((untouched(&world, 17), world.changes().len()), (server, made));
    world.end().await;
}

#[tokio::test]
async fn handlers_that_go_and_come_again_under_their_names_find_everything_as_it_was() {
    let mut world = active(Setup::default()).await;
    let (before, made) = (picture(&world), world.changes().len());
    let provider = world.provider.clone();
    for killed in [true, false] {
        let objects = [("ProcessingHandler", "msk-1"), ("IPManager", "main")].map(|(kind, name)| (kind, name, backup(&world, kind, name)));
        if killed {
            down(&mut world).await;
        } else {
            freeze(world.operator.as_ref().unwrap());
        }
        for (kind, name, object) in objects {
            lose(&mut world, kind, name).await;
            world.create(&provider, object).await;
        }
        assert_done(&world, &["delete", "secret", "dci-admin", "-n", &provider]).await;
        let data = json!({"username": "operator", "password": PANEL_PASSWORD});
        world.create(&provider, super::support::objects::secret("dci-admin", &data)).await;
        if killed {
            up(&mut world).await;
        } else {
            thaw(world.operator.as_ref().unwrap());
        }
        world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
        world.polls(3).await;
        settled(&mut world, "web-01", "Active").await;
        assert_eq!((picture(&world), &world.changes()[made..]), (before.clone(), &[] as &[String]), "killed {killed}");
    }
    // The name of its client is known to belong to its namespace again, and it can be given back.
    let mut foreign =
        merged(order("thief", &json!({"handlerRef": {"name": "msk-1"}})), &json!({"metadata": {"namespace": provider.clone()}}));
    foreign["spec"]["configuration"] = json!({"serverType": "E5-64G"});
    world.create(&provider, foreign).await;
    let thief =
        world.until_order("thief", "is refused", |o| condition(o, "Stalled").is_some_and(|c| c["reason"] == "ClientNameTaken")).await;
    assert_eq!(thief["status"]["server"], Value::Null);
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}
