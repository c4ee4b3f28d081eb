//! Bad input that no schema can see, or that an old server's schema does not: each has its message on the object, and nobody else
//! is bothered by it.

use dci_operator::api::messages as msg;
use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::tls::Front;
use super::support::{Setup, World, objects};

const ORDER: &str = "DedicatedServerOrder";
const HANDLER: &str = "ProcessingHandler";

/// Waits until the object's condition has this reason, and returns what it says.
async fn told(world: &mut World, kind: &str, name: &str, type_: &str, reason: &str) -> String {
    let object = world.until_reason(kind, name, type_, reason).await;
    condition(&object, type_).unwrap()["message"].as_str().unwrap().to_owned()
}

/// What an object of the provider's or the client's is refused with: by the server, or, where it drops rules, by the operator.
async fn refused(world: &mut World, namespace: &str, object: &Value, reason: &str) -> String {
    let path = std::env::temp_dir().join(format!("dci-operator-e2e-{namespace}-bad.json"));
    std::fs::write(&path, object.to_string()).unwrap();
    let (code, text) = world.kubectl(&["create", "-n", namespace, "-f", &path.to_string_lossy()]).await;
    std::fs::remove_file(&path).unwrap();
    if code != 0 {
        return text;
    }
    let kind = object["kind"].as_str().unwrap().to_owned();
    told(world, &kind, object["metadata"]["name"].as_str().unwrap(), "Stalled", reason).await
}

#[tokio::test]
async fn handlers_are_told_what_is_wrong_with_what_they_name() {
    let mut panels = objects::panels();
    let administrator = json!({"name": "root", "password": "root-pass-3Jd7", "level": 30});
    panels["ipmanager5"][0]["users"].as_array_mut().unwrap().push(administrator);
    let mut world = World::start(Setup { panels, ..Setup::default() }).await;
    let provider = world.provider.clone();
    world.create(&provider, objects::secret("ipm-admin", &json!({"username": "root", "password": "root-pass-3Jd7"}))).await;
    let url = world.sim.url("dci").unwrap().to_owned();
    let front = Front::start(&url);
    let other = world.sim.url("sim").unwrap().to_owned();
    let connection = |more: Value| {
        let spec = json!({"connection": {"url": url, "credentialsSecretRef": {"name": "dci-admin"}}});
        objects::merged(spec, &json!({"connection": more}))
    };
    // An IPmanager is no DCImanager.
    let pool = world.sim.url("ipm").unwrap().to_owned();
    let other_product = connection(json!({"url": pool, "credentialsSecretRef": {"name": "ipm-admin"}}));
    let call = |name: &str, params: Value| json!({"dialect": {name: {"func": "server.x", "params": params}}});
    let rows = [
        ("no-pool", json!({"ipManagement": {"ipManagerRef": {"name": "nowhere"}}}), "Ready", "IPManagerNotFound", "nowhere does not exist"),
        ("shut", connection(json!({"url": "https://127.0.0.1:1/dcimgr"})), "Ready", "Unreachable", "127.0.0.1:1"),
        ("no-panel", connection(json!({"url": other})), "Ready", "Unreachable", "not a panel's answer: HTTP status"),
        ("other-product", other_product, "Stalled", "PanelError", "missed"),
        ("untrusted", connection(json!({"url": front.url})), "Stalled", "CertificateRefused", "connection.tls.caBundle"),
        (
            "no-bundle",
            connection(json!({"url": front.url, "tls": {"caBundle": "nonsense"}})),
            "Stalled",
            "InvalidSpec",
            "connection.tls.caBundle",
        ),
        ("no-call", call("reboot", json!({})), "Stalled", "InvalidSpec", "spec.dialect.reboot: no such call; known: "),
        ("no-word", call("runRecipe", json!({"a": "{srv}"})), "Stalled", "InvalidSpec", "spec.dialect.runRecipe.params.a: no placeholder"),
        ("login", call("runRecipe", json!({"auth": "x"})), "Stalled", "InvalidSpec", "spec.dialect.runRecipe.params.auth: set by the"),
    ];
    for (name, spec, ..) in &rows {
        let mut object = objects::handler(&url, spec);
        object["metadata"]["name"] = (*name).into();
        world.create(&provider, object).await;
    }
    for (name, _, type_, reason, text) in rows {
        let message = told(&mut world, HANDLER, name, type_, reason).await;
        assert!(message.contains(text), "{name}: {message}");
    }
    let mut object = objects::handler(&url, &json!({"ipManagement": {"publicIPType": "parking"}}));
    object["metadata"]["name"] = "parking".into();
    let message = refused(&mut world, &provider, &object, "InvalidSpec").await;
    assert!(message.contains(msg::PARKING), "{message}");
    // An order of one of them waits for it and says so; the good handler works.
    let waits = world.order("waits", &json!({"handlerRef": {"name": "no-call"}})).await;
    assert!(waits["metadata"]["uid"].is_string());
    world.until_reason(ORDER, "waits", "Ready", "HandlerNotReady").await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn orders_and_tasks_are_told_what_is_wrong_with_what_they_name() {
    let mut world = World::start(Setup::default().handler(&json!({"retry": {"maxAttempts": 1}}))).await;
    let (shop, provider) = (world.shop.clone(), world.provider.clone());
    let rows = [
        ("recipe", json!({"recipes": ["ISPsystem__nope.sh"]}), "Stalled", "UnknownRecipe", "ISPsystem__nginx.sh"),
        ("admin", json!({"client": {"username": "operator"}}), "Stalled", "ClientIsAdministrator", "operator"),
        ("type", json!({"configuration": {"serverType": "Nope"}}), "Ready", "WaitingForCapacity", "Nope"),
    ];
    for (name, spec, ..) in &rows {
        world.order(name, spec).await;
    }
    for (name, _, type_, reason, text) in rows {
        let message = told(&mut world, ORDER, name, type_, reason).await;
        assert!(message.contains(text), "{name}: {message}");
        let order = world.record.get(ORDER, name).unwrap();
        assert!(order["status"]["server"].is_null(), "{name}");
    }
    let free = objects::order("free", &json!({"handlerRef": {"namespace": provider}, "domain": "free.ds"}));
    let message = refused(&mut world, &shop, &free, "InvalidSpec").await;
    assert!(message.contains(msg::DOMAIN_FREE), "{message}");
    // A word that does not close this type of task: the server refuses it, or the task says that nothing came of it.
    world.sim.add_fault(json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "count": 1})).unwrap();
    world.order("web-01", &json!({})).await;
    let task = world.until("a task", |world| world.record.all("ManualTask").pop()).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = json!({"spec": {"resolution": "PartsMissing"}}).to_string();
    let (code, text) = world.kubectl(&["patch", "manualtask", &name, "-n", &provider, "--type=merge", "-p", &patch]).await;
    if code == 0 {
        let closed = world.until("refused", |world| {
            let object = world.record.get("ManualTask", &name)?;
            let all = object["status"]["conditions"].as_array()?.clone();
            all.into_iter().find(|c| c["reason"] == "ResolutionRefused")
        });
        let message = closed.await["message"].as_str().unwrap().to_owned();
        assert_eq!(message, "PartsMissing does not close FailedOperation tasks");
        // Another task takes its place: nothing is lost by a wrong word.
        let next = world.until("another task", |world| {
            let open = world.record.all("ManualTask").into_iter().find(|t| t["spec"]["resolution"].is_null())?;
            open["metadata"]["name"].as_str().map(str::to_owned)
        });
        let next = next.await;
        world.patch("ManualTask", &next, &json!({"spec": {"resolution": "Retry"}})).await;
    } else {
        assert!(text.contains(msg::PARTS_MISSING), "{text}");
        world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    }
    world.until_active("web-01").await;
    // A task that a person makes is no task of the operator's.
    let order_ref = json!({"namespace": shop, "name": "web-01", "uid": "not-the-uid"});
    let made = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask", "metadata": {"name": "mine"},
        "spec": {"type": "FailedOperation", "department": "Operations", "summary": "by hand", "orderRef": order_ref},
    });
    world.create(&provider, made).await;
    let message = told(&mut world, "ManualTask", "mine", "Stalled", "NotMade").await;
    assert!(message.contains("not acted upon"), "{message}");
    // Its order goes, and nobody closes it: the two do not wake each other for that.
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    world.polls(1).await;
    let before = looks_at_tasks(&world).await;
    world.polls(3).await;
    let made = looks_at_tasks(&world).await - before;
    assert!(made < 20, "{made} reconciles of tasks in three polls");
    world.end().await;
}

/// How often tasks were reconciled.
async fn looks_at_tasks(world: &World) -> u64 {
    let operator = world.operator.as_ref().unwrap();
    let (_, page) = operator.page(operator.metrics, "/metrics").await;
    let counted = |line: &&str| line.starts_with("dci_operator_reconciles_total{") && line.contains("kind=\"ManualTask\"");
    page.lines().filter(counted).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
