//! Panels and webhooks in refused networks: nobody connects there, the object says so, and goes on once it names another place.

use serde_json::json;

use super::support::kstatus::condition;
use super::support::objects::{self, secret};
use super::support::{Setup, World};

const HANDLER: &str = "ProcessingHandler";
const METADATA: &str = "https://169.254.169.254/dcimgr";

/// Waits until the object is refused for its address, and returns what it says.
async fn denied(world: &mut World, kind: &str, name: &str) -> String {
    let object = world.until_reason(kind, name, "Stalled", "AddressDenied").await;
    assert_eq!(condition(&object, "Ready").unwrap()["reason"], "AddressDenied", "{object}");
    condition(&object, "Stalled").unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn metadata_services_are_no_panels_and_no_webhooks() {
    let webhook = json!({"url": "https://[::ffff:169.254.169.254]/latest", "secretRef": {"name": "hooks", "key": "hmac"}});
    let departments = json!({"retry": {"maxAttempts": 1}, "departments": {"operations": {"name": "Operations", "webhook": webhook}}});
    let mut world = World::start(Setup::default().handler(&departments)).await;
    let provider = world.provider.clone();
    world.create(&provider, secret("hooks", &json!({"hmac": "hook-secret-2Rk9"}))).await;
    let mut handler = objects::handler(METADATA, &json!({}));
    handler["metadata"]["name"] = "metadata".into();
    let mut pool = objects::ip_manager("https://[fe80::1]/ipmgr", &json!({}));
    pool["metadata"]["name"] = "link-local".into();
    let mut behind = objects::handler(world.sim.url("dci").unwrap(), &json!({"ipManagement": {"ipManagerRef": {"name": "link-local"}}}));
    behind["metadata"]["name"] = "behind".into();
    let licences = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": HANDLER, "metadata": {"name": "isp"},
        "spec": {
            "module": "BILLmanager6", "pollInterval": "1s", "licenses": {"products": {"Lite": {"pricelist": "1"}}},
            "connection": {"url": "https://[fd00:ec2::254]/billmgr", "credentialsSecretRef": {"name": "dci-admin"}, "timeout": "5s"},
        },
    });
    for object in [handler, pool, behind, licences] {
        world.create(&provider, object).await;
    }
    for (kind, name, address) in
        [(HANDLER, "metadata", "169.254.169.254"), ("IPManager", "link-local", "fe80::1"), (HANDLER, "isp", "fd00:ec2::254")]
    {
        let message = denied(&mut world, kind, name).await;
        assert!(message.contains(address) && message.contains("--denied-networks"), "{name}: {message}");
    }
    world.until_reason(HANDLER, "behind", "Ready", "IPManagerNotReady").await;
    // Who orders there waits, and is told why; orders of the good handler are served, its department is not told.
    world.order("waits", &json!({"handlerRef": {"name": "metadata"}})).await;
    let waits = world.until_reason("DedicatedServerOrder", "waits", "Ready", "HandlerNotReady").await;
    assert!(waits["status"].to_string().contains("AddressDenied"), "{}", waits["status"]);
    let refuses = json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "count": 1});
    world.sim.add_fault(refuses).unwrap();
    world.order("web-01", &json!({})).await;
    let error = world
        .until("the webhook is refused", |world| {
            let task = world.record.all("ManualTask").pop()?;
            task["status"]["notifications"][0]["lastError"].as_str().map(str::to_owned)
        })
        .await;
    assert!(error.starts_with("address refused: ") && error.contains("169.254.0.0/16"), "{error}");
    let name = world.record.all("ManualTask").pop().unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    world.until_active("web-01").await;
    // A place where a panel may be cures it.
    let url = world.sim.url("dci").unwrap().to_owned();
    world.patch(HANDLER, "metadata", &json!({"spec": {"connection": {"url": url}}})).await;
    world.until_reason(HANDLER, "metadata", "Ready", "Reachable").await;
    world.until_active("waits").await;
    world.end().await;
}

#[tokio::test]
async fn a_list_of_ones_own_counts_for_names_too_and_can_be_switched_off() {
    let args = vec!["--denied-networks=127.0.0.0/8,::1".to_owned()];
    let mut world = World::start(Setup { args, ..Setup::default() }).await;
    let provider = world.provider.clone();
    // The resolver is asked for it at each connection: what the name stands for counts.
    let url = world.sim.url("dci").unwrap().replace("127.0.0.1", "localhost");
    assert!(url.starts_with("http://localhost:"), "{url}");
    let mut named = objects::handler(&url, &json!({}));
    named["metadata"]["name"] = "named".into();
    world.create(&provider, named).await;
    let message = denied(&mut world, HANDLER, "named").await;
    assert!(message.contains("localhost is 127.0.0.1, which is in 127.0.0.0/8"), "{message}");
    denied(&mut world, HANDLER, "msk-1").await;
    denied(&mut world, "IPManager", "main").await;
    assert_eq!(world.requests("dci", "auth"), 0, "nobody asked the panel for anything");
    // Without the list all of them are panels.
    world.operator.take().unwrap().kill().await;
    world.launch.args.retain(|arg| !arg.starts_with("--denied-networks"));
    world.launch.args.push("--denied-networks=".to_owned());
    world.operator = Some(world.launch.start().await);
    for name in ["named", "msk-1"] {
        let ready = world.until_reason(HANDLER, name, "Ready", "Reachable").await;
        assert!(condition(&ready, "Stalled").is_none(), "{ready}");
    }
    world.order("web-01", &json!({"handlerRef": {"name": "named"}})).await;
    world.until_active("web-01").await;
    world.end().await;
}
