//! Licences: through a licence server, beside the panels of servers and addresses.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use super::support::hands::{ORDER, assert_done, backup, down, lose, saved_secret, up};
use super::support::{Setup, World};

const LICENSE_PASSWORD: &str = "license-pass-3Kz8";

/// All panels, and a licence server `bill`.
pub fn panels(behaviour: &Value) -> Value {
    let mut panels = super::support::objects::panels();
    panels["billmanager6"] = json!([{
        "name": "bill",
        "users": [{"name": "reseller", "password": LICENSE_PASSWORD}],
        "behaviour": behaviour,
        "pricelists": [{"id": 55227, "name": "ISPmanager 6 Lite"}, {"id": 55228, "name": "ISPmanager 6 Pro"}],
    }]);
    panels
}

/// Creates the handler `isp` of the licence server, with this patch of its spec.
pub async fn sell(world: &mut World, spec: &Value) {
    world.keep_secret(LICENSE_PASSWORD);
    let credentials = json!({"username": "reseller", "password": LICENSE_PASSWORD});
    world.create(&world.provider, super::support::objects::secret("isp", &credentials)).await;
    let base = json!({
        "module": "BILLmanager6",
        "connection": {"url": world.sim.url("bill").unwrap(), "credentialsSecretRef": {"name": "isp"}, "timeout": "5s"},
        "licenses": {"products": {"Lite": {"pricelist": "55227"}, "Pro": {"pricelist": "55228", "addons": {"7": "2"}}}},
        "pollInterval": "1s",
        "limits": {"requestsPerSecond": 0},
    });
    let handler = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler", "metadata": {"name": "isp"},
        "spec": super::support::objects::merged(base, spec),
    });
    world.create(&world.provider, handler).await;
}

/// A world with a licence server `bill`, whose handler `isp` is made from this patch of `spec.licenses`.
pub async fn start(behaviour: &Value, licenses: &Value) -> World {
    let setup = Setup { panels: panels(behaviour), ..Setup::default() }.handler(&json!({"licenseServerRef": {"name": "isp"}}));
    let mut world = World::start(setup).await;
    sell(&mut world, &json!({ "licenses": licenses })).await;
    world.until_reason("ProcessingHandler", "isp", "Ready", "Reachable").await;
    world
}

fn two() -> Value {
    json!({"licenses": [{"product": "Lite"}, {"product": "Pro", "period": 2}]})
}

/// The licences at the panel.
fn bought(world: &World) -> Vec<Value> {
    world.sim.state()["panels"]["bill"]["licenses"].as_array().cloned().unwrap_or_default()
}

/// What was changed at the licence server, as function, remote id or target, and what became of it.
fn changes(world: &World) -> Vec<String> {
    world.changes().into_iter().filter_map(|line| line.strip_prefix("bill ").map(str::to_owned)).collect()
}

fn number(id: &Value) -> u64 {
    id.as_str().unwrap().parse().unwrap()
}

async fn keys(world: &World, name: &str) -> std::collections::BTreeMap<String, String> {
    let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), &world.shop);
    let order = world.record.get("DedicatedServerOrder", name).unwrap();
    let secret = secrets.get(order["status"]["licenseSecret"].as_str().unwrap()).await.unwrap();
    assert_eq!(secret.immutable, Some(true), "keys are never changed");
    assert_eq!(secret.metadata.owner_references.as_ref().unwrap()[0].name, name, "it goes with its order");
    secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, String::from_utf8(v.0).unwrap())).collect()
}

#[tokio::test]
async fn where_no_licence_can_be_ordered_no_server_is_taken() {
    let mut world = start(&json!({}), &json!({})).await;
    let without = json!({"metadata": {"labels": {"zone": "msk"}}, "spec": {"licenseServerRef": null}});
    world.patch("ProcessingHandler", "msk-1", &without).await;
    world
        .until("the handler is as it was patched", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-1")?;
            (handler["status"]["observedGeneration"] == handler["metadata"]["generation"]).then_some(())
        })
        .await;
    world.order("web-01", &two()).await;
    let selector = json!({"handlerRef": null, "handlerSelector": {"namespace": world.provider, "matchLabels": {"zone": "msk"}}});
    world.order("web-02", &super::support::objects::merged(selector, &two())).await;
    let stalled = world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "LicenseServerNotReady").await;
    assert!(stalled["status"]["lastError"]["message"].as_str().unwrap().contains("no licenseServerRef"), "{stalled}");
    world.until_order("web-02", "the handler is passed over", |o| o["status"]["handlers"][0]["reason"] == "LicenseServerNotReady").await;
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"licenseServerRef": {"name": "isp"}}})).await;
    world.until_active("web-01").await;
    world.until_active("web-02").await;
    assert_eq!(bought(&world).len(), 4);
    world.end().await;
}

#[tokio::test]
async fn two_licences_are_ordered_keyed_and_suspended_in_the_end() {
    let mut world = start(&json!({"key_delay": "1h"}), &json!({})).await;
    world.order("web-01", &two()).await;
    let waiting =
        world.until_order("web-01", "waits for keys", |o| o["status"]["waitingOn"]["name"].to_string().contains("licence keys")).await;
    assert_eq!(waiting["status"]["phase"], "Preparing");
    assert_eq!(world.server(17)["owner"], "operator", "the client gets the server only with its licences");
    let address = world.server(17)["ip"].as_str().unwrap().to_owned();
    for license in bought(&world) {
        assert_eq!((license["ip"].as_str(), license["key"].as_str()), (Some(address.as_str()), Some("")));
        let id = number(&license["id"]);
        world.sim.change_license(id, json!({"issue_key": true})).unwrap();
    }
    world.until_active("web-01").await;
    let all = bought(&world);
    let stored = keys(&world, "web-01").await;
    for (license, product) in all.iter().zip(["Lite", "Pro"]) {
        assert_eq!(Some(stored[product].as_str()), license["key"].as_str());
        world.keep_secret(&stored[product]);
    }
    let order = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    let status = &order["status"]["licenses"];
    assert_eq!((&status[0]["product"], &status[0]["state"], &status[1]["id"]), (&json!("Lite"), &json!("Issued"), &all[1]["id"]));
    assert!(status[0]["expiresAt"].as_str().unwrap().starts_with(all[0]["expires"].as_str().unwrap()), "{status}");
    let (lite, pro) = (all[0]["id"].as_str().unwrap().to_owned(), all[1]["id"].as_str().unwrap().to_owned());
    assert_eq!(changes(&world), [format!("soft.order.param  ip={address}"), format!("soft.order.param  ip={address}")]);
    assert_eq!(all[1]["addons"], json!({"7": "2"}));
    world.until_reason("ProcessingHandler", "msk-1", "LicenseServerReady", "Reachable").await;
    // An idle order costs no request of its own: forms are not read any more.
    let forms = world.requests("bill", "soft.edit");
    world.polls(3).await;
    assert_eq!(world.requests("bill", "soft.edit"), forms);
    // The licence server is held.
    world.delete("ProcessingHandler", "isp").await;
    let held = world.until_reason("ProcessingHandler", "isp", "Ready", "InUse").await;
    assert!(held["status"].to_string().contains("1 orders have licences"), "{}", held["status"]);
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert_eq!(changes(&world)[2..], [format!("soft.suspend {lite}"), format!("soft.suspend {pro}")]);
    let lines = world.changes();
    let at = |start: &str| lines.iter().rposition(|line| line.starts_with(start)).unwrap();
    assert!(at("bill soft.suspend") < at("dci server.poweroff"), "licences before the power: {lines:#?}");
    assert!(
        bought(&world).iter().all(|l| l["status"] == "3" && l["remoteId"].as_str().unwrap().starts_with("k8s:")),
        "{:?}",
        bought(&world)
    );
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn a_lost_answer_never_buys_twice() {
    let mut world = start(&json!({}), &json!({"onDeletion": "Release"})).await;
    for (func, action) in [("soft.order.param", "drop-answer"), ("service.prolong", "drop-answer")] {
        world.sim.add_fault(json!({"action": action, "panel": "bill", "func": func, "changes": true})).unwrap();
    }
    world.order("web-01", &json!({"licenses": [{"product": "Lite"}]})).await;
    world.until_active("web-01").await;
    assert_eq!(bought(&world).len(), 1, "{:?}", bought(&world));
    assert_eq!(world.asked("soft.order.param"), 1);
    // It ends soon: prolonged once, although that answer is lost too.
    let id = number(&bought(&world)[0]["id"]);
    let soon = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    world.sim.change_license(id, json!({"expires": soon.to_string()})).unwrap();
    world.until("renewed", |world| (bought(world)[0]["renewals"] == 1).then_some(())).await;
    let end = bought(&world)[0]["expires"].as_str().unwrap().to_owned();
    world
        .until_order("web-01", "Active with the new end", |o| {
            o["status"]["phase"] == "Active" && o["status"]["licenses"][0]["expiresAt"].to_string().contains(&end)
        })
        .await;
    world.polls(3).await;
    assert_eq!((world.asked("service.prolong"), &bought(&world)[0]["renewals"]), (1, &json!(1)));
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    let freed = &bought(&world)[0];
    assert_eq!((&freed["name"], &freed["ip"], &freed["remoteId"]), (&json!("free.lic"), &json!("0.0.0.0"), &json!("")));
    let address = "203.0.113.10";
    assert_eq!(
        changes(&world),
        [
            format!("soft.order.param  ip={address} (answer lost)"),
            format!("service.prolong {id} (answer lost)"),
            format!("soft.suspend {id}"),
            format!("soft.edit {id} ip=0.0.0.0"),
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn what_is_not_sold_is_told_and_a_change_of_mind_acted_upon() {
    let mut world = start(&json!({"list_remote_id": false}), &json!({})).await;
    world.order("web-01", &json!({"licenses": [{"product": "Enterprise"}]})).await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "UnknownProduct").await;
    assert!(bought(&world).is_empty());
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"licenses": [{"product": "Lite"}]}})).await;
    world.until_active("web-01").await;
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"licenses": [{"product": "Pro"}]}})).await;
    world
        .until_order("web-01", "has the other one", |o| {
            o["status"]["phase"] == "Active"
                && o["status"]["licenses"][0]["product"] == "Pro"
                && o["status"]["licenses"][0]["state"] == "Issued"
        })
        .await;
    assert_eq!(keys(&world, "web-01").await.into_keys().collect::<Vec<_>>(), ["Pro"]);
    // The operator may create Secrets, not change them: the first set stays as it was.
    let order = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    assert_eq!(order["status"]["licenseSecret"], "web-01-licenses-2");
    let first: Api<Secret> = Api::namespaced(world.kube.clone(), &world.shop);
    assert_eq!(first.get("web-01-licenses").await.unwrap().data.unwrap().into_keys().collect::<Vec<_>>(), ["Lite"]);
    let states: Vec<Value> = bought(&world).iter().map(|l| l["status"].clone()).collect();
    assert_eq!(states, ["3", "2"]);
    // Somebody deletes it at the panel: told, and not bought again.
    let id = number(&bought(&world)[1]["id"]);
    world.sim.change_license(id, json!({"delete": true})).unwrap();
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "LicenseGone").await;
    world.polls(3).await;
    assert_eq!(world.asked("soft.order.param"), 2);
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn a_restored_order_finds_its_licences_and_their_keys_are_in_a_secret_of_its_own() {
    let mut world = start(&json!({}), &json!({})).await;
    world.order("web-01", &two()).await;
    world.until_active("web-01").await;
    world.polls(2).await;
    let (before, made, stored) = (bought(&world), world.changes().len(), keys(&world, "web-01").await);
    for key in stored.values() {
        world.keep_secret(key);
    }
    for kept in [true, false] {
        down(&mut world).await;
        let (order, secret) = (backup(&world, ORDER, "web-01"), saved_secret(&world, "web-01-licenses").await);
        lose(&mut world, ORDER, "web-01").await;
        // The cluster collects what the lost order owned, sooner or later.
        let shop = world.shop.clone();
        assert_done(&world, &["delete", "secret", "web-01-licenses", "-n", &shop, "--ignore-not-found"]).await;
        if kept {
            world.create(&shop, secret).await;
        }
        world.create(&shop, order).await;
        up(&mut world).await;
        let found = world.until_active("web-01").await;
        world.polls(2).await;
        assert_eq!((bought(&world), &world.changes()[made..]), (before.clone(), &[] as &[String]), "kept {kept}");
        assert_eq!(found["status"]["licenseSecret"], "web-01-licenses", "kept {kept}");
        let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), &world.shop);
        let data = secrets.get("web-01-licenses").await.unwrap().data.unwrap_or_default();
        assert!(stored.iter().all(|(product, key)| data[product].0 == key.as_bytes()), "kept {kept}");
    }
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    assert!(bought(&world).iter().all(|l| l["status"] == "3"), "{:?}", bought(&world));
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn a_licence_is_renewed_though_the_operator_was_started_while_the_panel_is_down() {
    let mut world = start(&json!({}), &json!({})).await;
    world.order("web-01", &json!({"licenses": [{"product": "Lite"}]})).await;
    world.until_active("web-01").await;
    let panel_down = world.sim.add_fault(json!({"action": "down", "panel": "dci"})).unwrap();
    world.kill_and_restart().await;
    let id = number(&bought(&world)[0]["id"]);
    let soon = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    world.sim.change_license(id, json!({"expires": soon.to_string()})).unwrap();
    world.until("renewed", |world| (bought(world)[0]["renewals"] == 1).then_some(())).await;
    let end = bought(&world)[0]["expires"].as_str().unwrap().to_owned();
    let noted = |o: &Value| o["status"]["licenses"][0]["expiresAt"].to_string().contains(&end);
    let order = world.until_order("web-01", "the new end", noted).await;
    assert_eq!((&order["status"]["phase"], world.asked("service.prolong")), (&json!("Active"), 1), "{}", order["status"]);
    world.sim.remove_faults(Some(panel_down));
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    world.end().await;
}
