//! An operator that watches all namespaces, on a control plane of its own: what would disturb the other tests.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::licenses;
use super::support::kstatus::is_true;
use super::support::plane::OwnPlane;
use super::support::record::resource;
use super::support::{Setup, World};

const CRD: &str = "crd/dedicatedserverorders.dci-operator.dev";

/// A patch that makes a definition let everything in.
fn loose() -> String {
    let patch = json!([
        {"op": "replace", "path": "/spec/versions/0/schema",
         "value": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
        {"op": "add", "path": "/spec/versions/0/selectableFields", "value": null},
    ]);
    patch.to_string()
}

#[tokio::test]
async fn namespaces_go_poison_stays_alone_and_a_dying_definition_releases_nothing() {
    let Some(own) = OwnPlane::start("cluster") else { return };
    let setup = Setup { panels: licenses::panels(&json!({})), ..Setup::default() };
    let setup = setup.handler(&json!({"licenseServerRef": {"name": "isp"}, "limits": {"maxConcurrentOperations": 1}}));
    let mut world = World::everywhere(own.plane, own.identity.clone(), setup).await;
    let (shop, provider) = (world.shop.clone(), world.provider.clone());

    // Without the permission to read labels a handler that selects by them says so, instead of serving nobody without a word.
    let allowed = |value: serde_json::Value| json!({"spec": {"allowedNamespaces": value}});
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}});
    world.patch("ProcessingHandler", "msk-1", &allowed(selector.clone())).await;
    let refused = world.until_reason("ProcessingHandler", "msk-1", "Stalled", "NamespaceLabelsForbidden").await;
    assert!(refused["status"].to_string().contains("rbac.namespaceSelectors"), "{}", refused["status"]);
    world.patch("ProcessingHandler", "msk-1", &allowed(json!({"from": "All", "selector": null}))).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;

    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let (_, system) = world.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]).await;
    assert!(world.server(17)["notes"].as_str().unwrap().starts_with(&format!("k8s:{system}/{shop}/web-01/")), "{}", world.server(17));

    // Nor can it be told whether a licence server that selects by them may be used. Who wants licences waits, says so, keeps nobody from
    // the only place, and goes when it is deleted.
    licenses::sell(&mut world, &json!({"allowedNamespaces": selector})).await;
    world.until_reason("ProcessingHandler", "isp", "Stalled", "NamespaceLabelsForbidden").await;
    world.order("licensed", &json!({"licenses": [{"product": "Lite"}]})).await;
    let waits = world.until_reason("DedicatedServerOrder", "licensed", "Ready", "LicenseServerNotReady").await;
    assert!(waits["status"]["waitingOn"]["message"].to_string().contains("cannot be told"), "{}", waits["status"]);
    world.order("plain", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until_active("plain").await;
    for (name, server) in [("licensed", 19), ("plain", 20)] {
        world.delete("DedicatedServerOrder", name).await;
        world.until_gone(name).await;
        world.assert_server_released(server);
    }

    // An object that the operator cannot read, which takes definitions that let it in.
    own.plane.define(&["patch", CRD, "--type=json", "-p", &loose()], None);
    let poison = json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "metadata": {"name": "poison"},
                        "spec": {"domain": 5}});
    world.until_stored(&shop, &poison).await;
    world.until_reason("DedicatedServerOrder", "poison", "Stalled", "InvalidObject").await;
    // One that has a server answers for it though it cannot be read: nobody is told to take its marks away.
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"domain": 5}})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "InvalidObject").await;
    world.polls(3).await;
    let handler = world.record.get("ProcessingHandler", "msk-1").unwrap();
    assert!(handler["status"]["orphans"].is_null(), "{}", handler["status"]);
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"domain": "web-01.example.net"}})).await;
    world.until_active("web-01").await;
    let mut kept =
        super::support::objects::order("kept", &json!({"client": {"username": "other"}, "configuration": {"serverType": "E5-64G"}}));
    kept["spec"]["handlerRef"] = json!({"name": "msk-1"});
    world.create(&provider, kept).await;
    world.until_active("kept").await;
    assert!(is_true(&world.record.get("DedicatedServerOrder", "web-01").unwrap(), "Ready"));

    // The namespace goes with an Active order in it: the server comes back first.
    let (code, text) = world.kubectl(&["delete", "namespace", &shop, "--timeout=80s"]).await;
    assert_eq!(code, 0, "{text}");
    world.until_gone("web-01").await;
    world.assert_server_released(17);

    // Deleting the definition deletes every order: nobody wants all servers back by that.
    let before = world.changes().len();
    own.plane.undefine(CRD);
    world
        .until_order("kept", "is told that nothing is released", |o| {
            o["metadata"]["deletionTimestamp"].is_string() && is_true(o, "Stalled")
        })
        .await;
    world.polls(3).await;
    assert_eq!(world.changes()[before..], [] as [String; 0]);
    assert_eq!(world.server(20)["owner"], "other");
    world.end().await;
}

/// Sets what an order that cannot be read says of what it has.
async fn note(world: &World, status: &Value) {
    let orders: Api<DynamicObject> = Api::namespaced_with(world.kube.clone(), &world.shop, &resource("DedicatedServerOrder"));
    orders.patch_status("poison", &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_holds_what_it_names() {
    let Some(own) = OwnPlane::start("held") else { return };
    let setup = Setup { panels: licenses::panels(&json!({})), ..Setup::default() };
    let mut world = World::own_namespaces(own.plane, setup).await;
    licenses::sell(&mut world, &json!({})).await;
    for name in ["msk-1", "isp"] {
        world.until_reason("ProcessingHandler", name, "Ready", "Reachable").await;
    }
    let (shop, provider) = (world.shop.clone(), world.provider.clone());
    for definition in [CRD, "crd/processinghandlers.dci-operator.dev"] {
        own.plane.define(&["patch", definition, "--type=json", "-p", &loose()], None);
    }
    let version = "dci-operator.dev/v1alpha1";
    let elsewhere = json!({"namespace": provider, "name": "msk-9"});
    let order = json!({"apiVersion": version, "kind": "DedicatedServerOrder", "metadata": {"name": "poison"},
                       "spec": {"domain": 5, "handlerRef": elsewhere}});
    world.until_stored(&shop, &order).await;
    let spec = json!({"priority": "high", "ipManagement": {"ipManagerRef": {"name": "main"}}, "licenseServerRef": {"name": "isp"}});
    let handler = json!({"apiVersion": version, "kind": "ProcessingHandler", "metadata": {"name": "poison"}, "spec": spec});
    world.until_stored(&provider, &handler).await;
    world.until_reason("DedicatedServerOrder", "poison", "Stalled", "InvalidObject").await;
    world.until_reason("ProcessingHandler", "poison", "Stalled", "InvalidObject").await;
    let has = json!({"server": {"id": "99", "handler": format!("{provider}/msk-1"), "configuration": "E3-16G"},
                     "licenses": [{"product": "Lite", "id": "1", "handler": format!("{provider}/isp")}]});
    note(&world, &has).await;
    // The name of a client that it recorded is not given to another namespace.
    let claimed = json!({"status": {"clients": [{"username": "Other", "namespace": "elsewhere"}]}});
    let handlers: Api<DynamicObject> = Api::namespaced_with(world.kube.clone(), &provider, &resource("ProcessingHandler"));
    handlers.patch_status("poison", &PatchParams::default(), &Patch::Merge(claimed)).await.unwrap();
    world.order("named", &json!({"client": {"username": "other"}})).await;
    let taken = |o: &Value| o["status"].to_string().contains("client name other is taken at this panel");
    world.until_order("named", "its client's name is another's", taken).await;
    world.delete("DedicatedServerOrder", "named").await;
    world.until_gone("named").await;
    // Its server is there: the handler stays until that is not said any more.
    world.delete("ProcessingHandler", "msk-1").await;
    let held = world.until_reason("ProcessingHandler", "msk-1", "Ready", "InUse").await;
    assert!(held["status"].to_string().contains("1 unreadable order still uses it"), "{}", held["status"]);
    world.polls(3).await;
    assert!(world.record.get("ProcessingHandler", "msk-1").is_some());
    note(&world, &json!({"server": null})).await;
    world.until("the handler goes", |world| world.record.get("ProcessingHandler", "msk-1").is_none().then_some(())).await;
    // So do the licence server and the address manager.
    world.delete("ProcessingHandler", "isp").await;
    world.delete("IPManager", "main").await;
    let held = world.until_reason("ProcessingHandler", "isp", "Ready", "InUse").await;
    assert!(held["status"].to_string().contains("1 handlers name it, and 1 orders have licences from it"), "{}", held["status"]);
    let held = world.until_reason("IPManager", "main", "Ready", "InUse").await;
    assert!(held["status"].to_string().contains("1 unreadable handler still uses it"), "{}", held["status"]);
    let asked = world.requests("ipm", "ip");
    world.until("they are asked again", |world| (world.requests("ipm", "ip") > asked + 2).then_some(())).await;
    for (kind, name) in [("ProcessingHandler", "isp"), ("IPManager", "main")] {
        assert!(world.record.get(kind, name).is_some(), "{name}");
    }
    world.delete("DedicatedServerOrder", "poison").await;
    world.delete("ProcessingHandler", "poison").await;
    for (kind, name) in [("ProcessingHandler", "isp"), ("IPManager", "main")] {
        world.until(name, |world| world.record.get(kind, name).is_none().then_some(())).await;
    }
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world.end().await;
}
