//! What a watch tells late, twice, in pieces, once more after a restart, or never: a proxy between operator and API server sees to it, and
//! the rules that hold everywhere are checked at each request.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use super::invariants::calls::DECISION;
use super::proxy::{Events, OnEvent, Proxy, Running};
use super::rules::{Rules, follow};
use super::support::hands::{ORDER, backup, down, freeze, lose, picture, settled, thaw, up};
use super::support::{Setup, World};

const NEW_PASSWORD: &str = "panel-pass-4Jm9";

/// A world whose operator sees the API server and the panels through a proxy.
struct Watched {
    world: World,
    proxy: Running,
    rules: Arc<Rules>,
    follower: JoinHandle<()>,
}

impl Watched {
    async fn start(setup: Setup) -> Self {
        let mut world = World::start(Setup { run: false, ..setup }).await;
        let proxy = Proxy::start(&[(&world.system, "system"), (&world.provider, "provider"), (&world.shop, "shop")]);
        proxy.kube(&world.launch.kubeconfig).await;
        for (kind, name, panel) in [("ProcessingHandler", "msk-1", "dci"), ("IPManager", "main", "ipm")] {
            let url = proxy.panel(panel, world.sim.url(panel).unwrap()).await;
            world.patch(kind, name, &json!({"spec": {"connection": {"url": url}}})).await;
        }
        // What is held back, and who stands still, is the tests' own doing, of which the rules are not told.
        let rules = Rules::new(world.sim.window(), DECISION);
        proxy.observe(rules.clone());
        let follower = tokio::spawn(follow(world.record.clone(), rules.clone()));
        up(&mut world).await;
        world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
        Self { world, proxy, rules, follower }
    }

    /// The next events of this kind meet something.
    fn meet(&self, resource: &str, how: Option<OnEvent>) -> Option<u64> {
        how.map(|how| self.proxy.on_events(Events::of(resource), how))
    }

    /// What is held comes, after the operator had time to go on without it. Whatever else was to be met is met: a life in which it was not
    /// shows nothing.
    async fn come(&mut self, rule: Option<u64>, how: Option<OnEvent>) {
        let (Some(rule), Some(how)) = (rule, how) else { return };
        let proxy = &self.proxy;
        self.world.until(&format!("an event meets {how:?}"), |_| (proxy.met_by(rule) > 0).then_some(())).await;
        match how {
            OnEvent::Hold => {
                self.world.polls(2).await;
                assert!(self.proxy.release(rule) > 0, "something was held");
            }
            OnEvent::Skip(_) | OnEvent::Duplicate | OnEvent::CutMidFrame | OnEvent::Gone => {}
        }
    }

    fn obeyed(&self) {
        let wrong = self.rules.wrong();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    async fn end(self) {
        self.obeyed();
        self.follower.abort();
        self.world.end().await;
    }
}

fn open(world: &World) -> Option<Value> {
    world.record.all("ManualTask").into_iter().find(|t| t["spec"]["resolution"].is_null())
}

/// One order from its creation to its end, with hand work and changes of everything around it; each thing that is done to an object meets
/// the same on its way to the operator. What was asked of the panels.
async fn life(how: Option<OnEvent>) -> Vec<String> {
    let mut at = Watched::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 2}}))).await;
    at.world.keep_secret(NEW_PASSWORD);
    let refuses = json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "msg": "no", "count": 2});
    at.world.sim.add_fault(refuses).unwrap();
    let rule = at.meet("dedicatedserverorders", how);
    at.world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    at.come(rule, how).await;

    let task = at.world.until("a task", open).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    at.world.until_order("web-01", "waits for it", |o| o["status"]["waitingOn"]["name"] == name).await;
    at.rules.closing(&task, "Retry");
    let rule = at.meet("manualtasks", how);
    at.world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    at.come(rule, how).await;
    at.world.until_active("web-01").await;

    let rule = at.meet("dedicatedserverorders", how);
    at.world.patch(ORDER, "web-01", &json!({"spec": {"domain": "second.example.net", "addresses": {"ipv4": 1}}})).await;
    at.come(rule, how).await;
    settled(&mut at.world, "web-01", "Active").await;

    for (suspend, domain) in [(true, "third.example.net"), (false, "fourth.example.net")] {
        let rule = at.meet("processinghandlers", how);
        at.world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": suspend}})).await;
        at.come(rule, how).await;
        at.world
            .until("the handler is as it was patched", |world| {
                let handler = world.record.get("ProcessingHandler", "msk-1")?;
                (handler["status"]["observedGeneration"] == handler["metadata"]["generation"]).then_some(())
            })
            .await;
        if !suspend {
            // What was asked for in between is acted upon first, or it would depend on the machine whether it is.
            settled(&mut at.world, "web-01", "Active").await;
        }
        at.world.patch(ORDER, "web-01", &json!({"spec": {"domain": domain}})).await;
        if suspend {
            at.world.until_reason(ORDER, "web-01", "Ready", "HandlerSuspended").await;
        } else {
            settled(&mut at.world, "web-01", "Active").await;
        }
    }

    // Secrets are read and never watched; what is watched meets the same all the while, and there is something to be met.
    let rule = at.meet("processinghandlers", how);
    at.world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"annotations": {"example.net/password": "changed"}}})).await;
    at.world.behind("users", &json!({"panel": "dci", "name": "operator", "password": NEW_PASSWORD})).await;
    at.world.write_secret("dci-admin", &json!({"password": NEW_PASSWORD})).await;
    at.world.sim.add_fault(json!({"action": "expire-sessions", "panel": "dci", "count": 1})).unwrap();
    at.world.patch(ORDER, "web-01", &json!({"spec": {"domain": "fifth.example.net"}})).await;
    settled(&mut at.world, "web-01", "Active").await;
    at.come(rule, how).await;

    let rule = at.meet("dedicatedserverorders", how);
    at.world.delete(ORDER, "web-01").await;
    at.come(rule, how).await;
    at.world.until_gone("web-01").await;
    at.world.assert_released(17);
    let changes = at.world.changes();
    at.end().await;
    changes
}

/// The same with watches that do what they should, once for all tests.
async fn undisturbed() -> &'static [String] {
    static LIFE: OnceCell<Vec<String>> = OnceCell::const_new();
    LIFE.get_or_init(|| life(None)).await
}

async fn told(how: OnEvent) {
    let (changes, reference) = (life(Some(how)).await, undisturbed().await);
    assert_eq!(changes, reference, "{how:?}");
}

#[tokio::test]
async fn events_that_come_late_change_nothing_but_the_time() {
    told(OnEvent::Hold).await;
}

#[tokio::test]
#[ignore = "`make states` runs it"]
async fn events_that_come_twice_change_nothing() {
    told(OnEvent::Duplicate).await;
}

#[tokio::test]
async fn watches_that_break_off_in_the_middle_of_an_event_change_nothing() {
    told(OnEvent::CutMidFrame).await;
}

#[tokio::test]
async fn watches_that_end_with_410_change_nothing() {
    told(OnEvent::Gone).await;
}

/// The operator's view of its orders stands still, at rest, half-way and in a release, while they are changed and deleted.
#[tokio::test]
async fn on_the_ground_of_an_old_view_nothing_is_done_that_the_order_does_not_want_any_more() {
    let mut at = Watched::start(Setup::default()).await;
    for (name, spec) in [("rest", json!({})), ("going", json!({}))] {
        at.world.order(name, &spec).await;
        at.world.until_active(name).await;
    }
    at.world.sim.change_server(20, json!({"operations": [{"duration": "1h"}]})).unwrap();
    at.world.order("coming", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    at.world.until("it is being installed", |world| world.server(20)["operation"].is_object().then_some(())).await;
    at.world.polls(2).await;
    let made = at.world.changes().len();
    let rule = at.proxy.on_events(Events::of("dedicatedserverorders"), OnEvent::Hold);
    at.world.patch(ORDER, "rest", &json!({"spec": {"suspended": true}})).await;
    for name in ["going", "coming"] {
        at.world.delete(ORDER, name).await;
    }
    // Everything calls for the old view to be acted upon: an installation ends, and servers that should be on are off.
    at.rules.by_hand("20");
    at.world.sim.change_server(20, json!({"finish_operation": true})).unwrap();
    for id in [17, 19] {
        at.rules.by_hand(&id.to_string());
        at.world.sim.change_server(id, json!({"power": "off"})).unwrap();
    }
    at.world.polls(3).await;
    // What a refused write has shown to be different may be acted upon, and nothing else.
    assert!(at.proxy.release(rule) >= 3);
    settled(&mut at.world, "rest", "Suspended").await;
    for name in ["going", "coming"] {
        at.world.until_gone(name).await;
    }
    for id in [19, 20] {
        at.world.assert_server_released(id);
    }
    assert!(!at.world.made()[made..].iter().any(|func| func == "server.poweron"), "{:?}", at.world.changes());
    assert_eq!(at.world.made().iter().filter(|func| *func == "server.operations").count(), 3);
    at.end().await;
}

/// A new process is told all that was ever told, and is left with a view of the past.
#[tokio::test]
async fn old_events_that_come_again_after_a_restart_change_nothing() {
    let mut at = Watched::start(Setup::default()).await;
    at.world.order("old", &json!({})).await;
    at.world.until_active("old").await;
    let past = at.proxy.events(&Events::all()).len();
    at.world.delete(ORDER, "old").await;
    at.world.until_gone("old").await;
    // The list has to show that the server is free again.
    at.world.polls(2).await;
    at.world.order("heir", &json!({"addresses": {"ipv4": 2}})).await;
    let heir = at.world.until_active("heir").await;
    assert_eq!(heir["status"]["server"]["id"], "17");
    let young = at.proxy.events(&Events::all()).len();
    at.world.patch(ORDER, "heir", &json!({"spec": {"domain": "other.example.net"}})).await;
    settled(&mut at.world, "heir", "Active").await;
    at.world.polls(2).await;
    let (before, made) = (picture(&at.world), at.world.changes().len());
    let all = at.proxy.events(&Events::all());
    down(&mut at.world).await;
    up(&mut at.world).await;
    at.world.polls(2).await;
    // The whole past, then once more up to where `old` had the server, and up to where `heir` was not done.
    for until in [all.len(), past, young - 1] {
        let told: usize = all[..until].iter().map(|event| at.proxy.inject(event)).sum();
        assert!(told > 0, "nobody was told");
        at.world.polls(3).await;
        assert_eq!(at.world.changes()[made..], [] as [String; 0], "told of the first {until} of {} events", all.len());
    }
    at.proxy.cut_watches(&Events::all());
    at.world.patch(ORDER, "heir", &json!({"spec": {"domain": "third.example.net"}})).await;
    settled(&mut at.world, "heir", "Active").await;
    assert_eq!(picture(&at.world), before.replace("other.example.net", "third.example.net"));
    at.world.delete(ORDER, "heir").await;
    at.world.until_gone("heir").await;
    at.world.assert_released(17);
    at.end().await;
}

/// What a later event takes back is never told: the operator sees the world before, and then the world after.
#[tokio::test]
async fn what_a_later_event_takes_back_and_nobody_told_changes_nothing() {
    let mut at = Watched::start(Setup::default()).await;
    at.world.order("web-01", &json!({"reinstall": "first"})).await;
    at.world.until_active("web-01").await;
    at.world.polls(2).await;
    let (before, made) = (picture(&at.world), at.world.changes().len());
    for (there, back) in [
        (json!({"suspended": true}), json!({"suspended": false})),
        (json!({"reinstall": "second"}), json!({"reinstall": "first"})),
        (json!({"domain": "other.example.net"}), json!({"domain": "web-01.example.net"})),
    ] {
        let skipped = at.proxy.on_events(Events::of("dedicatedserverorders").named(&at.world.shop, "web-01"), OnEvent::Skip(1));
        at.world.patch(ORDER, "web-01", &json!({ "spec": there })).await;
        at.world.patch(ORDER, "web-01", &json!({ "spec": back })).await;
        settled(&mut at.world, "web-01", "Active").await;
        at.world.polls(2).await;
        assert_eq!((picture(&at.world), &at.world.changes()[made..]), (before.clone(), &[] as &[String]), "{there}");
        assert_eq!(at.proxy.met_by(skipped), 1, "{there} was told");
    }
    // Lost by force and restored: the operator is told of neither, and works on with the order that is not there any more. The rules cannot
    // know that it was a person who let the order go.
    at.obeyed();
    let object = backup(&at.world, ORDER, "web-01");
    let skipped = at.proxy.on_events(Events::of("dedicatedserverorders"), OnEvent::Skip(usize::MAX));
    freeze(at.world.operator.as_ref().unwrap());
    lose(&mut at.world, ORDER, "web-01").await;
    let shop = at.world.shop.clone();
    at.world.create(&shop, object).await;
    thaw(at.world.operator.as_ref().unwrap());
    at.world.sim.change_server(17, json!({"power": "off"})).unwrap();
    at.world.polls(3).await;
    assert_eq!(at.world.changes()[made..], [] as [String; 0]);
    assert!(at.proxy.met_by(skipped) > 0, "nothing was kept from the operator");
    at.proxy.forget(skipped);
    at.world.patch(ORDER, "web-01", &json!({"metadata": {"annotations": {"dci-operator.dev/reconcile-requested-at": "now"}}})).await;
    at.world.until("the order that is there has its server on", |world| (world.server(17)["power"] == "on").then_some(())).await;
    settled(&mut at.world, "web-01", "Active").await;
    at.world.polls(2).await;
    assert_eq!((picture(&at.world), &at.world.changes()[made..]), (before, &["dci server.poweron 17".to_owned()] as &[String]));
    at.follower.abort();
    at.world.end().await;
}
