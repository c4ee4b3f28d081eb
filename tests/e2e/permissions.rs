//! Permissions: every one that the chart grants is used, in both modes; `tests/audit.rs` reads the API server's audit log of it.

use std::io::Write as _;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::support::plane::OwnPlane;
use super::support::{Setup, World};

const CRD: &str = "crd/ipmanagers.dci-operator.dev";

fn allowed(value: &Value) -> Value {
    json!({"spec": {"allowedNamespaces": value}})
}

fn selector() -> Value {
    json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}})
}

/// Tasks that nobody has closed, by name.
fn open(world: &World) -> Vec<String> {
    let tasks = world.record.all("ManualTask");
    tasks.iter().filter(|t| t["spec"]["resolution"].is_null()).map(|t| t["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// An operator that leads, and does not keep closed tasks; its handler raises a task after a failure that is repeated, and told
/// in the same words: that event is counted.
fn setup() -> Setup {
    let args = vec!["--leader-elect".into(), "--task-retention=1s".into()];
    Setup { args, ..Setup::default() }.handler(&json!({"retry": {"maxAttempts": 3}}))
}

/// What needs each permission at least once: something unreadable, hand work, another department, and an order's whole life.
async fn everything(world: &mut World) {
    let provider = world.provider.clone();
    let poison = json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": "IPManager", "metadata": {"name": "poison"},
                        "spec": {"connection": 5}});
    world.until_stored(&provider, &poison).await;
    world.until_reason("IPManager", "poison", "Stalled", "InvalidObject").await;
    let refuses = json!({"action": "error", "func": "server.poweron", "type": "connection", "object": "ipmi", "msg": "no", "count": 0});
    let fault = world.sim.add_fault(refuses).unwrap();
    world.order("web-01", &json!({})).await;
    let first = world.until("a task", |world| open(world).first().cloned()).await;
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"departments": {"operations": {"name": "Field"}}}})).await;
    let second = world.until("another task", |world| open(world).into_iter().find(|name| *name != first)).await;
    world.sim.remove_faults(Some(fault));
    world.patch("ManualTask", &second, &json!({"spec": {"resolution": "Retry"}})).await;
    world.until_active("web-01").await;
    world.until("closed tasks are not kept", |world| world.record.all("ManualTask").is_empty().then_some(())).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.delete("ProcessingHandler", "msk-1").await;
    world.until("the handler goes", |world| world.record.get("ProcessingHandler", "msk-1").is_none().then_some(())).await;
}

#[tokio::test]
async fn every_permission_is_used_in_both_modes() {
    let Some(own) = OwnPlane::start_with("permissions", &["--namespace-selectors"]) else { return };
    let mut world = World::everywhere(own.plane, own.identity.clone(), setup().handler(&json!({"allowedNamespaces": selector()}))).await;
    // Definitions that let an unreadable object in.
    let loose = json!([
        {"op": "replace", "path": "/spec/versions/0/schema",
         "value": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        {"op": "add", "path": "/spec/versions/0/selectableFields", "value": null},
    ]);
    own.plane.define(&["patch", CRD, "--type=json", "-p", &loose.to_string()], None);

    // Labels of namespaces are read each time: whoever gets the label may order.
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    world.order("early", &json!({})).await;
    world.until_reason("DedicatedServerOrder", "early", "Ready", "HandlerNotFound").await;
    world.delete("DedicatedServerOrder", "early").await;
    world.until_gone("early").await;
    let (code, text) = world.kubectl(&["label", "namespace", &world.shop, "team=shop"]).await;
    assert_eq!(code, 0, "{text}");
    everything(&mut world).await;
    world.end().await;

    let mut world = World::own_namespaces(own.plane, setup()).await;
    everything(&mut world).await;
    world.end().await;
}

#[tokio::test]
async fn namespaced_mode_refuses_selectors_and_says_why() {
    let mut world = World::start(Setup::default().handler(&json!({"allowedNamespaces": selector()}))).await;
    let refused = world.until_reason("ProcessingHandler", "msk-1", "Stalled", "NamespaceLabelsForbidden").await;
    assert!(refused["status"].to_string().contains("watches some namespaces only"), "{}", refused["status"]);
    world.order("web-01", &json!({})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Ready", "HandlerNotFound").await;
    assert!(world.changes().is_empty());
    world.patch("ProcessingHandler", "msk-1", &allowed(&json!({"from": "All", "selector": null}))).await;
    world.until_active("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn secrets_of_an_order_need_its_finalizers_and_are_never_written_again() {
    let world = World::start(Setup { run: false, ..Setup::default() }).await;
    let order = world.order("web-01", &json!({})).await;
    let secret = |name: &str| -> Secret {
        serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "name": "web-01",
            "uid": order["metadata"]["uid"], "blockOwnerDeletion": true,
        }]}}))
        .unwrap()
    };
    let client = async |kubeconfig: &std::path::Path| {
        let read = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        Api::<Secret>::namespaced(kube::Client::try_from(config).unwrap(), &world.shop)
    };
    // The chart's account may. The server learns of definitions in its own time, and refuses owners until then.
    let ours = client(&world.launch.kubeconfig).await;
    let began = std::time::Instant::now();
    let made = loop {
        match ours.create(&PostParams::default(), &secret("ours")).await {
            Ok(made) => break made,
            Err(error) => assert!(began.elapsed().as_secs() < 90, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    // One that has everything but the finalizers may not: that is what the rule is for.
    let accounts: Api<ServiceAccount> = Api::namespaced(world.kube.clone(), &world.system);
    accounts.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "poor"}})).unwrap()).await.unwrap();
    let account = format!("--serviceaccount={}:poor", world.system);
    for args in [
        vec!["create", "role", "poor", "-n", &world.shop, "--verb=get,create", "--resource=secrets"],
        vec!["create", "rolebinding", "poor", "-n", &world.shop, "--role=poor", &account],
    ] {
        let (code, text) = world.kubectl(&args).await;
        assert_eq!(code, 0, "{text}");
    }
    let kubeconfig = world.identity_of("poor").await;
    let poor = client(&kubeconfig).await;
    let began = std::time::Instant::now();
    while poor.get_opt("ours").await.is_err() {
        assert!(began.elapsed().as_secs() < 60, "the binding does not work");
    }
    match poor.create(&PostParams::default(), &secret("theirs")).await {
        Err(refused) => assert!(refused.to_string().contains("blockOwnerDeletion"), "{refused}"),
        // Somebody else's cluster may not ask for it.
        Ok(_) if std::env::var_os("DCI_E2E_EXISTING_CLUSTER").is_some() => {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED (needs OwnerReferencesPermissionEnforcement): secrets_of_an_order_need_its_finalizers_and_are_never_written_again"
            );
        }
        Ok(made) => panic!("made without a permission on finalizers: {made:?}"),
    }
    // Not asked as the chart's account, whose refusals the audit would count.
    let account = format!("--as=system:serviceaccount:{}:{}", world.system, own_account(&world).await);
    for verb in ["update", "patch", "delete", "list", "watch", "deletecollection"] {
        let (code, _) = world.kubectl(&["auth", "can-i", verb, "secrets", "-n", &world.shop, &account]).await;
        assert_ne!(code, 0, "the operator may {verb} Secrets");
    }
    assert!(made.metadata.owner_references.unwrap()[0].block_owner_deletion.unwrap());
    let _ = std::fs::remove_file(kubeconfig);
    world.delete("DedicatedServerOrder", "web-01").await;
    world.end().await;
}

/// Name of the chart's account.
async fn own_account(world: &World) -> String {
    let path = "jsonpath={.items[0].subjects[0].name}";
    world.kubectl(&["get", "rolebindings", "-n", &world.provider, "-o", path]).await.1
}
