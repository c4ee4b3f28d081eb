//! What authors of orders cannot do to one another, to departments and to whoever reads what the operator says.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::support::hooks::Receiver;
use super::support::kstatus::condition;
use super::support::objects::{self, secret};
use super::support::{Setup, World};

const ORDER: &str = "DedicatedServerOrder";
const TASK: &str = "ManualTask";
const HOOK_SECRET: &str = "hook-secret-5Tq8";

/// An order in the neighbour's namespace.
async fn neighbours(world: &World, name: &str, spec: &Value) -> Value {
    let mut object = objects::order(name, &json!({"client": {"username": "other"}, "handlerRef": {"namespace": world.provider}}));
    objects::merged(object["spec"].take(), spec).clone_into(&mut object["spec"]);
    world.create(&world.neighbour, object).await
}

fn message(object: &Value, type_: &str) -> String {
    condition(object, type_).unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn names_that_run_together_are_two_orders() {
    let mut world = World::start(Setup { neighbour: true, ..Setup::default() }).await;
    // c-x/a-web and c-x-a/web; and, at one panel, each its own client.
    world.order("a-web", &json!({})).await;
    neighbours(&world, "web", &json!({})).await;
    let (one, other) = (world.until_active("a-web").await, world.until_active("web").await);
    let id = |order: &Value| order["status"]["server"]["id"].as_str().unwrap().parse::<u64>().unwrap();
    assert_ne!(id(&one), id(&other));
    for (order, namespace) in [(&one, &world.shop), (&other, &world.neighbour)] {
        let (name, uid) = (order["metadata"]["name"].as_str().unwrap(), order["metadata"]["uid"].as_str().unwrap());
        let marker = format!("k8s:e2e/{namespace}/{name}/{uid}");
        assert_eq!(world.server(id(order))["notes"].as_str().unwrap().trim(), marker);
        let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), namespace);
        let found = secrets.list(&ListParams::default()).await.unwrap().items;
        let owners = found.iter().flat_map(|s| s.metadata.owner_references.iter().flatten().map(|o| o.uid.as_str()));
        let owners: Vec<&str> = owners.collect();
        assert!(owners.len() == 2 && owners.iter().all(|owner| *owner == uid), "{name}: {owners:?}");
    }
    let locks: Api<Lease> = Api::namespaced(world.kube.clone(), &world.system);
    let locks = locks.list(&ListParams::default().labels("dci-operator.dev/panel")).await.unwrap().items;
    let holders: std::collections::BTreeSet<_> = locks.iter().filter_map(|l| l.spec.as_ref()?.holder_identity.clone()).collect();
    assert_eq!((locks.len(), holders.len()), (2, 2));
    // The neighbour's client is not theirs, in whatever case it is written.
    let spec = json!({"client": {"username": "ACME"}, "configuration": {"serverType": "E5-64G"}});
    neighbours(&world, "taken", &spec).await;
    world.until_reason(ORDER, "taken", "Stalled", "ClientNameTaken").await;
    // One goes; the other one's server, address and Secrets stay as they are.
    let before = world.server(id(&other));
    world.delete(ORDER, "a-web").await;
    world.until_gone("a-web").await;
    world.assert_server_released(id(&one));
    assert_eq!(world.server(id(&other)), before);
    world.polls(2).await;
    assert_eq!(world.record.get(ORDER, "web").unwrap()["status"]["phase"], "Active");
    world.end().await;
}

#[tokio::test]
async fn an_order_reaches_no_secret_and_no_server_of_another_namespace() {
    let mut world = World::start(Setup { neighbour: true, ..Setup::default() }).await;
    world.order("web-01", &json!({})).await;
    let victim = world.until_active("web-01").await;
    let changed = world.changes().len();
    // A Secret of that name is the provider's and the neighbour's, and not the order's namespace's.
    for namespace in [&world.provider, &world.neighbour] {
        world.create(namespace, secret("web-02-own", &json!({"password": "their-password-3Fk1"}))).await;
    }
    world.keep_secret("their-password-3Fk1");
    let own = json!({"template": objects::DEBIAN, "passwordSecretRef": {"name": "web-02-own", "key": "password"}});
    world.order("web-02", &json!({"operatingSystem": own})).await;
    world.until_order("web-02", "its Secret is missing", |o| o["status"].to_string().contains("web-02-own does not exist")).await;
    let waits = world.record.get(ORDER, "web-02").unwrap();
    let said = format!("{}/web-02-own does not exist", world.shop);
    assert!(waits["status"].to_string().contains(&said), "{}", waits["status"]);
    assert_eq!(world.asked("server.operations"), 1, "nothing is installed with it");
    // A Secret that the operator would make is somebody's already: it is neither read nor written.
    world.create(&world.shop, secret("web-03-root", &json!({"password": "own-password-8Lm2"}))).await;
    world.keep_secret("own-password-8Lm2");
    world.order("web-03", &json!({})).await;
    let conflict = world.until_reason(ORDER, "web-03", "Ready", "SecretConflict").await;
    assert!(message(&conflict, "Ready").contains("web-03-root exists and is not this order's"), "{conflict}");
    assert_eq!(world.asked("server.operations"), 1, "nothing is installed with that either");
    for order in ["web-02", "web-03"] {
        world.delete(ORDER, order).await;
        world.until_gone(order).await;
    }
    let theirs = world.server(17);
    // The victim's id as one's own, copied or made up.
    let uid = victim["metadata"]["uid"].as_str().unwrap();
    let odd = format!("x k8s:e2e/{}/web-01/{uid}", world.shop);
    for (name, id) in [("thief", uid), ("guess", &odd)] {
        let mut object = objects::order(name, &json!({"client": {"username": "other"}, "handlerRef": {"namespace": world.provider}}));
        object["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": id});
        world.create(&world.neighbour, object).await;
    }
    let thief = world.until_reason(ORDER, "thief", "Stalled", "InvalidSpec").await;
    assert!(message(&thief, "Stalled").contains("is the id of another order that exists; remove it"), "{thief}");
    // What is no id is replaced by the order's own.
    let guess = world.until_active("guess").await;
    assert_eq!(guess["metadata"]["annotations"]["dci-operator.dev/order-id"], guess["metadata"]["uid"]);
    // Nor does a status that somebody brings along, which the server drops, make a server one's own.
    let third =
        json!({"client": {"username": "third"}, "handlerRef": {"namespace": world.provider}, "configuration": {"serverType": "E5-64G"}});
    let mut object = objects::order("claims", &third);
    object["status"] = victim["status"].clone();
    world.create(&world.neighbour, object).await;
    let waits = world.until_active("claims").await;
    assert_eq!(waits["status"]["server"]["id"], "20");
    for name in ["thief", "guess", "claims"] {
        let (code, text) = world.kubectl(&["delete", "dso", "-n", &world.neighbour, name, "--wait=false"]).await;
        assert_eq!(code, 0, "{text}");
        world.until_gone(name).await;
    }
    assert_eq!(world.server(17), theirs);
    assert!(world.changes().len() > changed);
    world.end().await;
}

#[tokio::test]
async fn a_task_of_another_namespace_answers_for_nobody() {
    let setup = Setup { neighbour: true, ..Setup::default() }.handler(&json!({"ipmiErrorPolicy": "CreateTask"}));
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.sim.change_server(17, json!({"ipmi": "dead"})).unwrap();
    world.delete(ORDER, "web-01").await;
    let task = world.until("a StopServer task", |world| world.record.all(TASK).pop()).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    // The same task, in the namespaces of two clients: one answered, one open.
    for (namespace, resolution) in [(&world.shop, json!("Done")), (&world.neighbour, Value::Null)] {
        let mut forged = json!({"apiVersion": task["apiVersion"], "kind": TASK, "metadata": {"name": name}, "spec": task["spec"]});
        forged["spec"]["resolution"] = resolution;
        if forged["spec"]["resolution"].is_null() {
            forged["spec"].as_object_mut().unwrap().remove("resolution");
        }
        world.create(namespace, forged).await;
    }
    // The open one is closed, so that nobody works on it; the answer of the other one counts for nothing.
    let neighbour = world.neighbour.clone();
    let mut note = String::new();
    for _ in 0..60 {
        world.polls(1).await;
        note = world.kubectl(&["get", "mt", "-n", &neighbour, &name, "-o", "jsonpath={.spec.note}"]).await.1;
        if !note.is_empty() {
            break;
        }
    }
    assert_eq!(note, "closed by the operator: departments of another namespace are asked");
    world.polls(2).await;
    let waits = world.record.get(ORDER, "web-01").expect("the order waits for its department");
    assert_eq!(waits["status"]["waitingOn"]["kind"], "Department", "{}", waits["status"]);
    assert!(!world.server(17)["owner"].as_str().unwrap().is_empty(), "the server is not released while it runs");
    let (_, open) = world.kubectl(&["get", "mt", "-n", &world.provider, &name, "-o", "jsonpath={.spec.resolution}"]).await;
    assert_eq!(open, "", "the real one is open");
    world.sim.change_server(17, json!({"ipmi": "alive", "power": "off"})).unwrap();
    world.patch(TASK, &name, &json!({"spec": {"resolution": "Done"}})).await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

/// That an order was restored, and whose handler served it, is its author's word alone.
#[tokio::test]
async fn no_department_of_another_namespace_works_upon_an_authors_word() {
    let setup = Setup { neighbour: true, args: vec!["--handler-grace=1s".into()], ..Setup::default() };
    let mut world = World::start(setup).await;
    let mut object =
        objects::order("forged", &json!({"client": {"username": "other"}, "handlerRef": {"namespace": world.provider, "name": "nobodys"}}));
    object["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "11111111-2222-4333-8444-555555555555"});
    world.create(&world.neighbour, object).await;
    world.until_reason(ORDER, "forged", "Ready", "HandlerNotFound").await;
    let neighbour = world.neighbour.clone();
    let (code, text) = world.kubectl(&["delete", "dso", "-n", &neighbour, "forged", "--wait=false"]).await;
    assert_eq!(code, 0, "{text}");
    let told = |o: &Value| o["metadata"]["deletionTimestamp"].is_string() && message(o, "Ready").contains("remove that annotation");
    world.until_order("forged", "the ways to end it", told).await;
    world.polls(5).await;
    assert!(world.record.all(TASK).is_empty(), "nobody of the provider's is asked");
    let (code, text) = world.kubectl(&["annotate", "dso", "-n", &neighbour, "forged", "dci-operator.dev/order-id-"]).await;
    assert_eq!(code, 0, "{text}");
    world.until_gone("forged").await;
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world.end().await;
}

/// What somebody writes who hopes that it is read as something else: a line of a log, a marker, more fields of a form, a template.
const ODD: &str = "x\nFORGED level=INFO\r\nk8s:e2e/shop/victim/0c4f %0a&elid=18&sok=ok {server} {{.}} ${HOME} \u{1b}[2J\u{202e}";

/// Whether a character ends a line, or shows what stands behind it in another place.
fn misleads(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

#[tokio::test]
async fn what_a_client_writes_stays_text_wherever_it_is_shown() {
    let hooks = Receiver::start(HOOK_SECRET, &[]).await;
    let webhook = json!({"url": hooks.url, "secretRef": {"name": "hooks", "key": "hmac"}});
    let setup = Setup::default().handler(&json!({
        "adoption": "Allowed", "byServerType": false, "retry": {"maxAttempts": 1},
        "departments": {"operations": {"name": "Operations", "webhook": webhook}, "assembly": {"name": "Operations", "webhook": null},
                        "procurement": {"name": "Operations"}},
    }));
    let mut world = World::start(setup).await;
    world.create(&world.provider, secret("hooks", &json!({"hmac": HOOK_SECRET}))).await;
    let custom =
        json!({"serverType": null, "custom": {"cpu": {"model": ODD}, "disks": [{"type": "x\nFORGED {0}", "sizeGB": 7}], "pci": [ODD]}});
    let rows = [
        ("template", json!({"operatingSystem": {"template": ODD}}), "UnknownTemplate"),
        ("recipe", json!({"recipes": [ODD]}), "UnknownRecipe"),
        ("type", json!({"configuration": {"serverType": ODD}}), "WaitingForCapacity"),
        ("adopt", json!({"adopt": {"serverId": "18&x=\nFORGED"}}), "AdoptionRefused"),
        ("adopt-two", json!({"adopt": {"serverId": "17, 18"}}), "AdoptionRefused"),
        ("custom", json!({"configuration": custom}), "WaitingForTask"),
    ];
    for (name, spec, _) in &rows {
        let labels = json!({"example.net/team": "a"});
        // Not merged twice: a null takes a member of the base away.
        let mut patch = spec.clone();
        patch["handlerRef"] = json!({"namespace": world.provider});
        let mut object = objects::order(name, &patch);
        object["metadata"]["labels"] = labels;
        object["metadata"]["annotations"] = json!({"dci-operator.dev/reconcile-requested-at": ODD, "example.net/note": ODD});
        world.create(&world.shop, object).await;
    }
    for (name, _, reason) in &rows {
        let told = world.until_order(name, reason, |o| o["status"]["conditions"].to_string().contains(&format!("\"{reason}\""))).await;
        let texts = told["status"]["conditions"].as_array().unwrap().iter().filter_map(|c| c["message"].as_str().map(str::to_owned));
        for text in texts {
            assert!(!text.contains(misleads) && text.len() <= 4096, "{name}: {text:?}");
        }
    }
    world.until("the department is told", |_| (!hooks.told().is_empty()).then_some(())).await;
    // No server but those that carry an order's own marker was changed, and none was installed.
    assert!(!world.touched(18) && world.asked("server.operations") == 0, "{:#?}", world.changes());
    for id in [17, 19, 20] {
        let notes = world.server(id)["notes"].as_str().unwrap().to_owned();
        assert!(!notes.contains("victim") && notes.matches("k8s:").count() <= 1, "{notes}");
    }
    // Events are one line each, webhooks one document, the log has no line of theirs, and metrics none of their words.
    let events: Api<Event> = Api::namespaced(world.kube.clone(), &world.shop);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    assert!(events.iter().any(|e| e.message.as_deref().is_some_and(|m| m.contains("FORGED"))), "it is shown");
    for event in &events {
        let text = event.message.clone().unwrap_or_default();
        assert!(!text.contains(misleads), "{text:?}");
    }
    assert!(hooks.told().iter().all(|told| told.body["task"]["summary"].as_str().is_some_and(|text| !text.contains('\n'))));
    let log = world.log.text();
    assert!(!log.lines().any(|line| line.starts_with("FORGED")) && !log.contains('\u{1b}'), "{}", world.log.tail(40));
    let metrics = world.operator.as_ref().unwrap().metrics;
    let (_, page) = world.operator.as_ref().unwrap().page(metrics, "/metrics").await;
    assert!(page.contains("dci_operator_orders") && !page.contains("FORGED") && !page.contains("victim"), "{page}");
    for (name, ..) in &rows {
        world.delete(ORDER, name).await;
    }
    for (name, ..) in &rows {
        world.until_gone(name).await;
    }
    for id in [17, 19, 20] {
        world.assert_released(id);
    }
    world.end().await;
}
