//! Nobody is told a secret: they are planted everywhere, everything is asked for and everything goes wrong once, and then all that
//! has left the process is searched: the log at its most talkative, events, objects, metrics, traces, webhooks, leases.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::support::collector::{Collector, TOKEN};
use super::support::hooks::Receiver;
use super::support::objects::{self, PANEL_PASSWORD, POOL_PASSWORD, secret};
use super::support::{Setup, World};

// With signs that look different in a URL, in JSON and in XML.
const ROOT: &str = "root+pass&\"6Vw3<é";
const WRONG: &str = "wrong/pass%4Nd8";
const LICENSE: &str = "license pass=2Bf7";
const HOOK: &str = "hook-secret-9Jp1";
const COLLECTOR: &str = "collector-token-5Qk8";

/// As a form or a URL has it.
fn percent(secret: &str) -> String {
    secret.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How a secret may look in what is told.
fn forms(secret: &str) -> Vec<String> {
    let percent = percent(secret);
    let plus = percent.replace("%20", "+");
    let json = serde_json::to_string(secret).unwrap().trim_matches('"').to_owned();
    let xml = secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let debug = format!("{secret:?}").trim_matches('"').to_owned();
    let base64 = base64(secret.as_bytes());
    let mut all = vec![secret.to_owned(), percent.to_lowercase(), percent, plus, json, xml, debug, base64];
    all.sort();
    all.dedup();
    all
}

fn base64(bytes: &[u8]) -> String {
    // As Kubernetes writes it; without padding also a longer text shows.
    let json = serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap();
    json.as_str().unwrap().trim_end_matches('=').to_owned()
}

#[test]
fn a_secret_is_found_in_every_form() {
    let found = forms(ROOT);
    for form in [ROOT, "root%2Bpass%26%226Vw3%3C%C3%A9", "root+pass&amp;&quot;6Vw3&lt;é", "root+pass&\\\"6Vw3<é"] {
        assert!(found.iter().any(|f| f == form), "{form} is not in {found:?}");
    }
}

async fn world(collector: &Collector, hooks: &Receiver) -> World {
    let mut panels = objects::panels();
    panels["billmanager6"] = json!([{
        "name": "bill", "users": [{"name": "reseller", "password": LICENSE}], "pricelists": [{"id": 55227, "name": "ISPmanager 6 Lite"}],
    }]);
    let webhook = json!({"url": hooks.url, "secretRef": {"name": "hooks", "key": "hmac"}});
    let setup = Setup {
        panels,
        args: vec!["--log=trace".into(), "--log-format=json".into(), "--leader-elect".into()],
        run: false,
        ..Setup::default()
    }
    .handler(&json!({
        "licenseServerRef": {"name": "isp"}, "retry": {"maxAttempts": 2},
        "departments": {"operations": {"name": "Operations", "webhook": webhook}},
    }));
    let mut world = World::start(setup).await;
    world.create(&world.provider, secret("hooks", &json!({"hmac": HOOK}))).await;
    world.create(&world.provider, secret("isp", &json!({"username": "reseller", "password": LICENSE}))).await;
    world.create(&world.shop, secret("web-01-own", &json!({"password": ROOT}))).await;
    let handler = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler", "metadata": {"name": "isp"},
        "spec": {
            "module": "BILLmanager6", "pollInterval": "1s", "limits": {"requestsPerSecond": 0},
            "connection": {"url": world.sim.url("bill").unwrap(), "credentialsSecretRef": {"name": "isp"}, "timeout": "5s"},
            "licenses": {"products": {"Lite": {"pricelist": "55227"}}},
        },
    });
    world.create(&world.provider, handler).await;
    // As a platform tells all its programs where traces go, and what the collector knows them by.
    let told = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()), ("OTEL_EXPORTER_OTLP_HEADERS", format!("{TOKEN}={COLLECTOR}"))];
    world.launch.env.extend(told.map(|(name, value)| (name.to_owned(), value)));
    world.operator = Some(world.launch.start().await);
    world
}

/// What `kubectl dci` shows, whatever it is asked for.
async fn plugin(world: &World) -> String {
    let (shop, provider) = (world.shop.as_str(), world.provider.as_str());
    let order = objects::order("web-03", &json!({"handlerRef": {"name": "msk-1", "namespace": provider}}));
    let file = std::env::temp_dir().join(format!("dci-operator-told-{shop}.json"));
    std::fs::write(&file, order.to_string()).unwrap();
    let path = file.to_string_lossy().into_owned();
    let mut all = String::new();
    for args in [
        ["status", "web-01", "-n", shop].as_slice(),
        &["status", "web-02", "-n", shop],
        &["tasks", "-n", provider, "--all"],
        &["tasks", "-A"],
        &["inventory", "msk-1", "-n", provider],
        &["inventory", "isp", "-n", provider],
        &["plan", "-n", shop, "-f", &path],
    ] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-dci"));
        let output = command.args(args).env("KUBECONFIG", &world.plane.kubeconfig).kill_on_drop(true).output().await.unwrap();
        all += &String::from_utf8_lossy(&output.stdout);
        all += &String::from_utf8_lossy(&output.stderr);
    }
    std::fs::remove_file(&file).unwrap();
    all
}

/// What Secrets hold, except what is no secret.
async fn stored(world: &World) -> Vec<String> {
    let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), &world.shop);
    let mut all = Vec::new();
    for found in secrets.list(&ListParams::default()).await.unwrap().items {
        let ours = found.metadata.name.as_deref().unwrap_or_default().starts_with("web-");
        let values = found.data.unwrap_or_default().into_iter().filter(|(key, _)| ours && key != "username");
        all.extend(values.map(|(_, value)| String::from_utf8(value.0).unwrap()));
    }
    all
}

/// All that has left the process, by where it went.
async fn told(world: &World, collector: &Collector, hooks: &Receiver, pages: String, plugin: String) -> BTreeMap<&'static str, String> {
    let list = ListParams::default();
    let mut events = String::new();
    for namespace in [&world.provider, &world.shop, &world.system] {
        let found = Api::<Event>::namespaced(world.kube.clone(), namespace).list(&list).await.unwrap();
        events += &serde_json::to_string(&found.items).unwrap();
    }
    let leases = Api::<Lease>::namespaced(world.kube.clone(), &world.system).list(&list).await.unwrap();
    let hooked: Vec<Value> = hooks.told().into_iter().map(|told| told.body).collect();
    BTreeMap::from([
        ("log", world.log.text()),
        ("events", events),
        ("objects", world.record.everything()),
        ("pages", pages),
        ("plugin", plugin),
        ("traces", String::from_utf8_lossy(&collector.raw()).into_owned()),
        ("webhooks", serde_json::to_string(&hooked).unwrap()),
        ("leases", serde_json::to_string(&leases.items).unwrap()),
    ])
}

#[tokio::test]
async fn planted_secrets_leave_the_process_nowhere() {
    let (collector, hooks) = (Collector::start().await, Receiver::start(HOOK, &[]).await);
    let mut world = world(&collector, &hooks).await;
    // A panel that repeats what it was given, in errors of every kind of call.
    let echo = |func: &str, text: &str, count: u64| {
        let msg = format!("bad value {text} in sok=ok&passwd={}", percent(text));
        json!({"action": "error", "func": func, "type": "value", "object": "passwd", "value": text, "msg": msg,
               "count": count})
    };
    let mut asked = echo("server.operations", ROOT, 2);
    asked["changes"] = true.into();
    world.sim.add_fault(asked).unwrap();
    let own = json!({"template": objects::DEBIAN, "passwordSecretRef": {"name": "web-01-own", "key": "password"}});
    world.order("web-01", &json!({"operatingSystem": own, "licenses": [{"product": "Lite"}]})).await;
    let task = world.until("a task", |world| world.record.all("ManualTask").first().cloned()).await;
    assert!(task["spec"]["details"].as_str().unwrap().contains("bad value ***"), "the panel's words, blotted: {task:#?}");
    world.until("the department is told", |_| hooks.taken().contains(&"Raised".to_owned()).then_some(())).await;
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    // One with a password that the operator makes, for another client: three generated Secrets in all.
    world.order("web-02", &json!({"client": {"username": "other"}})).await;
    for order in ["web-01", "web-02"] {
        world.until_active(order).await;
    }
    let mut sessions = world.sim.session_ids();
    let mut plugin = plugin(&world).await;

    // Log-ins that are refused, by a panel that repeats the password in its answer; and by one that is not there.
    let refuse = world.sim.add_fault(echo("auth", WRONG, 0)).unwrap();
    world.write_secret("dci-admin", &json!({"password": WRONG})).await;
    world.until_reason("ProcessingHandler", "msk-1", "Stalled", "PanelError").await;
    plugin += &self::plugin(&world).await;
    world.sim.remove_faults(Some(refuse));
    world.write_secret("dci-admin", &json!({"password": PANEL_PASSWORD})).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let hang = json!({"action": "drop-answer", "panel": "dci", "func": "server", "count": 2});
    world.sim.add_fault(hang).unwrap();
    world.polls(4).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    sessions.extend(world.sim.session_ids());
    let generated = stored(&world).await;
    let operator = world.operator.as_ref().unwrap();
    let mut pages = String::new();
    for (addr, path) in [(operator.metrics, "/metrics"), (operator.health, "/livez"), (operator.health, "/readyz")] {
        pages += &operator.page(addr, path).await.1;
    }
    for order in ["web-01", "web-02"] {
        world.delete("DedicatedServerOrder", order).await;
        world.until_gone(order).await;
    }
    let token = std::fs::read_to_string(&world.launch.kubeconfig).unwrap();
    let token = serde_yaml::from_str::<Value>(&token).unwrap()["users"][0]["user"]["token"].as_str().unwrap().to_owned();
    // The signature of a token is what makes it one; its other parts are no secret.
    let signature = token.rsplit('.').next().unwrap().to_owned();
    let (status, _) = world.operator.take().unwrap().terminate().await;
    assert!(status.success());

    let licence = world.sim.state()["panels"]["bill"]["licenses"][0]["key"].as_str().unwrap().to_owned();
    let mut planted: Vec<String> = [PANEL_PASSWORD, POOL_PASSWORD, ROOT, WRONG, LICENSE, HOOK, COLLECTOR].map(str::to_owned).into();
    assert!(generated.contains(&licence) && generated.len() >= 5, "{} in Secrets", generated.len());
    assert!(sessions.len() >= 3, "sessions at three panels");
    planted.extend(generated);
    planted.extend(sessions);
    planted.extend([licence, signature]);
    let tokens = collector.tokens();
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token == COLLECTOR), "the collector gets its header: {tokens:?}");
    let told = told(&world, &collector, &hooks, pages, plugin).await;
    // What is searched is there, and as talkative as it gets.
    for (place, text, least) in [
        ("log", "\"level\":\"TRACE\"", 500),
        ("log", "calling the panel", 10),
        ("events", "InstallOSDone", 2),
        ("objects", "bad value ***", 1),
        ("pages", "dci_operator_panel_requests", 1),
        ("plugin", "web-01", 4),
        ("plugin", "msk-1", 4),
        ("traces", "InstallOS", 4),
        ("webhooks", "Raised", 1),
        ("leases", "leaseDurationSeconds", 1),
    ] {
        let found = told[place].matches(text).count();
        assert!(found >= least, "`{text}` is {found} times in {place}, at least {least} are expected");
    }
    let mut found = Vec::new();
    for secret in &planted {
        assert!(secret.len() >= 8, "too short to be told from other text: {secret}");
        for (place, text) in &told {
            for form in forms(secret).iter().filter(|form| text.contains(form.as_str())) {
                let line = text.lines().find(|line| line.contains(form.as_str())).unwrap();
                found.push(format!("{place}: {form} in {}", line.chars().take(600).collect::<String>()));
            }
        }
    }
    assert!(found.is_empty(), "{} times:\n{}", found.len(), found[..found.len().min(8)].join("\n"));
    world.end().await;
}
