//! Handlers and IPManagers: credentials, panels that are down, suspension, who may use them.

use dci_operator::api::ORDER_ID_ANNOTATION;
use serde_json::{Value, json};

use super::support::kstatus::{condition, is_true};
use super::support::objects::{self, PANEL_PASSWORD, secret};
use super::support::{Setup, World};

/// Waits until the address manager was asked that many times more: time in which the handler was tried, too.
async fn pool_polls(world: &mut World, count: u64) {
    let began = world.requests("ipm", "ip");
    world.until("more polls of the address manager", |world| (world.requests("ipm", "ip") >= began + count).then_some(())).await;
}

fn step<'a>(order: &'a Value, name: &str) -> &'a Value {
    order["status"]["steps"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap()
}

#[tokio::test]
async fn a_wrong_password_stalls_the_handler_until_the_secret_is_mended() {
    let credentials = json!({"username": "operator", "password": "wrong-pass-3Jt6"});
    let mut world = World::start(Setup { credentials, ..Setup::default() }).await;
    world.keep_secret("wrong-pass-3Jt6");
    world.order("web-01", &json!({})).await;
    let stalled = world.until_reason("ProcessingHandler", "msk-1", "Stalled", "LoginRefused").await;
    assert_eq!(condition(&stalled, "CredentialsValid").unwrap()["reason"], "LoginRefused");
    let order = world.until_order("web-01", "waits for the handler", |o| o["status"]["waitingOn"]["kind"] == "Handler").await;
    assert!(is_true(&order, "Reconciling") && order["status"]["attempts"].is_null());
    pool_polls(&mut world, 6).await;
    assert_eq!(world.requests("dci", "auth"), 1, "a refused log-in is not repeated every second");
    world.write_secret("dci-admin", &json!({"password": PANEL_PASSWORD})).await;
    world.until_active("web-01").await;
    assert_eq!(world.requests("dci", "auth"), 2);
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_is_missing_is_waited_for() {
    let mut world = World::start(Setup { credentials: Value::Null, ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    let stalled = world.until_reason("ProcessingHandler", "msk-1", "Stalled", "CredentialsMissing").await;
    assert!(condition(&stalled, "Stalled").unwrap()["message"].as_str().unwrap().contains("dci-admin"));
    let provider = world.provider.clone();
    world.create(&provider, secret("dci-admin", &json!({"username": "operator", "password": PANEL_PASSWORD}))).await;
    world.until_active("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn the_panel_user_has_to_be_an_administrator() {
    let credentials = json!({"username": "plain", "password": PANEL_PASSWORD});
    let mut world = World::start(Setup { credentials, ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    world.until_reason("ProcessingHandler", "msk-1", "Stalled", "NotAdministrator").await;
    assert!(world.changes().is_empty());
    world.behind("users", &json!({"panel": "dci", "name": "plain", "level": 29})).await;
    world.until_active("web-01").await;
    world.end().await;
}

/// It is shown the same servers, and what is gone is believed of it, too.
#[tokio::test]
async fn the_credentials_of_another_administrator_serve_the_orders_that_are_there() {
    let mut panels = objects::panels();
    let second = json!({"name": "second", "password": PANEL_PASSWORD, "level": 30});
    panels["dcimanager5"][0]["users"].as_array_mut().unwrap().push(second);
    let mut world = World::start(Setup { panels, ..Setup::default() }).await;
    for name in ["web-01", "web-02"] {
        world.order(name, &json!({})).await;
        world.until_active(name).await;
    }
    let (log_ins, changes) = (world.requests("dci", "auth"), world.changes());
    world.write_secret("dci-admin", &json!({"username": "second"})).await;
    world.until("it logs in anew", |world| (world.requests("dci", "auth") > log_ins).then_some(())).await;
    world.polls(3).await;
    for name in ["web-01", "web-02"] {
        assert!(is_true(&world.record.get("DedicatedServerOrder", name).unwrap(), "Ready"), "{name}");
    }
    assert_eq!(world.changes(), changes);
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_server_released(17);
    world.vanish(19).await;
    world.until_reason("DedicatedServerOrder", "web-02", "Stalled", "ServerGone").await;
    world.delete("DedicatedServerOrder", "web-02").await;
    world.until_gone("web-02").await;
    let ours: Vec<_> = world.taken().into_iter().filter(|(_, note)| note.contains("k8s:")).collect();
    assert!(ours.is_empty(), "its addresses are given back: {ours:?}");
    world.end().await;
}

#[tokio::test]
async fn a_panel_that_is_down_hurts_no_order() {
    let mut world = World::start(Setup::default()).await;
    world.order("at-rest", &json!({})).await;
    world.until_active("at-rest").await;
    world.order("under-way", &json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}})).await;
    world.until("it installs", |world| (world.asked("server.operations") == 2).then_some(())).await;
    world.until_order("under-way", "installs", |o| step(o, "InstallOS")["state"] == "Running").await;
    let down = world.sim.add_fault(json!({"action": "down", "panel": "dci"})).unwrap();
    let handler = world.until_reason("ProcessingHandler", "msk-1", "Ready", "Unreachable").await;
    assert!(is_true(&handler, "Reconciling"));
    world.order("new", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until_order("new", "waits for the handler", |o| o["status"]["waitingOn"]["kind"] == "Handler").await;
    let told = world.record.versions("ProcessingHandler", "msk-1").len();
    pool_polls(&mut world, 4).await;
    assert!(world.record.versions("ProcessingHandler", "msk-1").len() <= told + 1, "one failure is told once");
    world.sim.change_server(19, json!({"finish_operation": true})).unwrap();
    world.sim.remove_faults(Some(down));
    let finished = world.until_active("under-way").await;
    assert_eq!(step(&finished, "InstallOS")["attempts"], 1);
    assert!(finished["status"]["lastError"].is_null(), "{}", finished["status"]["lastError"]);
    world.until_active("new").await;
    let at_rest = world.record.versions("DedicatedServerOrder", "at-rest");
    let since = at_rest.iter().position(|o| is_true(o, "Ready")).unwrap();
    assert!(at_rest[since..].iter().all(|o| is_true(o, "Ready")), "an Active order stays Ready");
    assert_eq!(world.asked("server.operations"), 3);
    world.end().await;
}

#[tokio::test]
async fn an_address_manager_that_is_down_is_waited_for() {
    let mut world = World::start(Setup::default()).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let down = world.sim.add_fault(json!({"action": "down", "panel": "ipm"})).unwrap();
    world.until_reason("IPManager", "main", "Ready", "Unreachable").await;
    world.until_reason("ProcessingHandler", "msk-1", "IPManagerReady", "IPManagerNotReady").await;
    world.order("web-01", &json!({})).await;
    world.until_order("web-01", "waits for the handler", |o| o["status"]["waitingOn"]["kind"] == "Handler").await;
    world.polls(2).await;
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world.sim.remove_faults(Some(down));
    let active = world.until_active("web-01").await;
    assert!(active["status"]["lastError"].is_null());
    world.end().await;
}

/// An order is Active, and there is a second address manager, `ipm2`, which gave it nothing.
async fn active_beside_another_address_manager() -> World {
    let mut panels = objects::panels();
    let second = objects::merged(panels["ipmanager5"][0].clone(), &json!({"name": "ipm2", "listen": "127.0.0.4:0", "holds_for": []}));
    panels["ipmanager5"].as_array_mut().unwrap().push(second);
    let mut world = World::start(Setup { panels, ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world
}

/// A handler that names another IPManager: the addresses of its orders are not there.
#[tokio::test]
async fn a_handler_does_not_change_to_an_address_manager_that_does_not_know_what_its_orders_have() {
    let mut world = active_beside_another_address_manager().await;
    let mut other = objects::ip_manager(world.sim.url("ipm2").unwrap(), &json!({}));
    other["metadata"]["name"] = json!("other");
    world.create(&world.provider, other).await;
    world.until_reason("IPManager", "other", "Ready", "Reachable").await;
    let named = |name: &str| json!({"spec": {"ipManagement": {"ipManagerRef": {"name": name}}}});
    world.patch("ProcessingHandler", "msk-1", &named("other")).await;
    let handler = world.until_reason("ProcessingHandler", "msk-1", "Ready", "PanelChanged").await;
    let message = condition(&handler, "Stalled").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("IPManager") && message.contains("does not know 1 of them, such as 203.0.113.10"), "{message}");
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    world
        .until_order("web-01", "waits", |o| o["metadata"]["deletionTimestamp"].is_string() && o["status"]["waitingOn"]["kind"] == "Handler")
        .await;
    let asked = world.requests("ipm2", "ip");
    world.until("it is asked twice more", |world| (world.requests("ipm2", "ip") > asked + 1).then_some(())).await;
    assert_eq!(world.changes().len(), before, "nothing is given back anywhere");
    world.patch("ProcessingHandler", "msk-1", &named("main")).await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

/// Who takes addresses: those that were taken in one way cannot be given back in the other.
#[tokio::test]
async fn who_takes_addresses_stays_while_orders_have_servers() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let by = |who: &str| json!({"spec": {"ipManagement": {"allocateBy": who}}});
    world.patch("ProcessingHandler", "msk-1", &by("Panel")).await;
    let handler = world.until_reason("ProcessingHandler", "msk-1", "Ready", "PanelChanged").await;
    let message = condition(&handler, "Stalled").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("the addresses of 1 orders were taken with spec.ipManagement.allocateBy Operator"), "{message}");
    world.patch("ProcessingHandler", "msk-1", &by("Operator")).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.patch("ProcessingHandler", "msk-1", &by("Panel")).await;
    world
        .until("nobody has anything: it is taken over", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-1")?;
            (handler["status"]["allocateBy"] == "Panel" && is_true(&handler, "Ready")).then_some(())
        })
        .await;
    world.end().await;
}

/// An IPManager whose address names another one: what orders have would stay taken at the old one, and others' would be given back.
#[tokio::test]
async fn an_address_manager_that_does_not_know_what_orders_have_is_not_used() {
    let mut world = active_beside_another_address_manager().await;
    let [first, second] = ["ipm", "ipm2"].map(|name| world.sim.url(name).unwrap().to_owned());
    world.patch("IPManager", "main", &json!({"spec": {"connection": {"url": second}}})).await;
    let manager = world.until_reason("IPManager", "main", "Ready", "PanelChanged").await;
    assert!(is_true(&manager, "Stalled"));
    let message = condition(&manager, "Stalled").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("does not know 1 of them, such as 203.0.113.10"), "{message}");
    world.until_reason("ProcessingHandler", "msk-1", "IPManagerReady", "IPManagerNotReady").await;
    let before = world.changes().len();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_order("web-01", "waits", |o| o["metadata"]["deletionTimestamp"].is_string() && !is_true(o, "Ready")).await;
    world.polls(2).await;
    assert_eq!(world.changes().len(), before, "nothing is given back anywhere");
    world.patch("IPManager", "main", &json!({"spec": {"connection": {"url": first}}})).await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    // Nobody has anything there any more.
    world.patch("IPManager", "main", &json!({"spec": {"connection": {"url": second}}})).await;
    world.until_reason("IPManager", "main", "Ready", "Reachable").await;
    world.end().await;
}

#[tokio::test]
async fn a_suspended_handler_changes_nothing() {
    let mut world = World::start(Setup::default().handler(&json!({"suspend": true}))).await;
    world.order("web-01", &json!({})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Ready", "HandlerSuspended").await;
    world.polls(3).await;
    assert!(world.changes().is_empty());
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": false}})).await;
    world.until_active("web-01").await;
    let before = world.changes().len();
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": true}})).await;
    world
        .until("it is suspended", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-1")?;
            (handler["status"]["observedGeneration"] == handler["metadata"]["generation"]).then_some(())
        })
        .await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world
        .until_order("web-01", "waits for the handler", |o| {
            o["metadata"]["deletionTimestamp"].is_string() && o["status"]["waitingOn"]["kind"] == "Handler"
        })
        .await;
    world.polls(2).await;
    assert_eq!(world.changes().len(), before);
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": false}})).await;
    world.until_gone("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn a_handler_that_is_suspended_stops_what_has_begun() {
    let mut world = World::start(Setup::default()).await;
    // The order is looked at, with a handler that is ready, for as long as the panel takes to say who its users are.
    let before = world.requests("dci", "user");
    world.sim.add_fault(json!({"action": "delay-before", "panel": "dci", "func": "user", "delay": "4s", "count": 1})).unwrap();
    world.order("web-01", &json!({})).await;
    world.until("its users are asked for", |world| (world.requests("dci", "user") > before).then_some(())).await;
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": true}})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Ready", "HandlerSuspended").await;
    world.polls(2).await;
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"suspend": false}})).await;
    world.until_active("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn a_handler_that_is_being_deleted_takes_no_new_orders() {
    let mut world = World::start(Setup::default()).await;
    world.order("old", &json!({})).await;
    world.until_active("old").await;
    world.delete("ProcessingHandler", "msk-1").await;
    world
        .until("it is held by its order", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-1")?;
            (handler["metadata"]["deletionTimestamp"].is_string()).then_some(())
        })
        .await;
    let before = world.changes().len();
    world.order("new", &json!({})).await;
    world
        .until_order("new", "is told", |o| {
            condition(o, "Ready")
                .is_some_and(|c| c["reason"] == "HandlerNotReady" && c["message"].as_str().unwrap().contains("being deleted"))
        })
        .await;
    world.polls(2).await;
    assert_eq!(world.changes().len(), before);
    world.delete("DedicatedServerOrder", "old").await;
    world.until_gone("old").await;
    world.until_reason("DedicatedServerOrder", "new", "Ready", "HandlerNotFound").await;
    world.delete("DedicatedServerOrder", "new").await;
    world.until_gone("new").await;
    world.end().await;
}

#[tokio::test]
async fn a_handler_of_another_namespace_is_as_if_it_were_not_there() {
    let mut world = World::start(Setup::default().handler(&json!({"allowedNamespaces": {"from": "Same"}}))).await;
    world.order("foreign", &json!({})).await;
    world.order("nowhere", &json!({"handlerRef": {"name": "msk-9"}})).await;
    let foreign = world.until_reason("DedicatedServerOrder", "foreign", "Ready", "HandlerNotFound").await;
    let nowhere = world.until_reason("DedicatedServerOrder", "nowhere", "Ready", "HandlerNotFound").await;
    let told = |order: &Value| condition(order, "Ready").unwrap()["message"].as_str().unwrap().replace("msk-9", "msk-1");
    assert_eq!(told(&foreign), told(&nowhere));
    world.polls(2).await;
    assert!(world.changes().is_empty());
    // An order in the handler's own namespace is served; and so is the other one when the handler says so.
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"allowedNamespaces": {"from": "All"}}})).await;
    world.until_active("foreign").await;
    world.end().await;
}

/// An order that selects it, from a namespace that it does not allow, and says that it was restored.
#[tokio::test]
async fn an_order_that_may_not_use_a_handler_does_not_hold_it() {
    let mut world = World::start(Setup::default().handler(&json!({"allowedNamespaces": {"from": "Same"}}))).await;
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}})).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let selector = json!({"namespace": world.provider, "matchLabels": {"zone": "msk"}});
    let mut order = objects::order("foreign", &json!({"handlerRef": null, "handlerSelector": selector}));
    order["metadata"]["annotations"] = json!({ORDER_ID_ANNOTATION: "made-up"});
    let shop = world.shop.clone();
    world.create(&shop, order).await;
    world.until_reason("DedicatedServerOrder", "foreign", "Ready", "HandlerNotFound").await;
    world.delete("ProcessingHandler", "msk-1").await;
    world.until("the handler goes", |world| world.record.get("ProcessingHandler", "msk-1").is_none().then_some(())).await;
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world.end().await;
}
