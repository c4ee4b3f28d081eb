//! From an order to an Active server.

use serde_json::json;

use super::support::objects::{self, DEBIAN, secret};
use super::support::plane::plane;
use super::support::{Setup, World};

#[tokio::test]
async fn a_ready_order_becomes_active_change_by_change() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 2}, "recipes": ["ISPsystem__nginx.sh"]})).await;
    let active = world.until_active("web-01").await;
    let marker = "notes=k8s:e2e/shop/web-01/ID";
    let expected = [
        "dci user.edit  name=acme".to_owned(),
        format!("dci server.edit 17 owner=1 {marker}"),
        "dci server.poweron 17".to_owned(),
        "ipm ip.edit  ip= iptype=public domain=web-01.example.net note=k8s:ID".to_owned(),
        "ipm ip.edit  ip= iptype=public domain=web-01.example.net note=k8s:ID".to_owned(),
        "dci iplist.edit 17/500001 ip=203.0.113.10 iptype=public domain=web-01.example.net".to_owned(),
        "dci iplist.edit 17/ ip=203.0.113.11 iptype=public domain=web-01.example.net".to_owned(),
        "ipm ip.delete 10.0.0.17".to_owned(),
        format!("dci server.operations 17 ostemplate={DEBIAN} recipe=ISPsystem__nginx.sh"),
        format!("dci server.edit 17 owner=4 {marker}"),
    ];
    assert_eq!(world.changes(), expected);
    let server = &active["status"]["server"];
    assert_eq!((&server["id"], &server["mainAddress"]), (&json!("17"), &json!("203.0.113.10")));
    assert_eq!(server["addresses"], json!(["203.0.113.10", "203.0.113.11"]));
    let at_panel = world.server(17);
    assert_eq!((&at_panel["owner"], &at_panel["power"]), (&json!("acme"), &json!("on")));
    assert_eq!((&at_panel["installed"]["template"], &at_panel["installed"]["times"]), (&json!(DEBIAN), &json!(1)));
    // Steps end in their order, and progress only grows.
    let percents: Vec<i64> = world
        .record
        .versions("DedicatedServerOrder", "web-01")
        .iter()
        .filter_map(|o| o["status"]["progress"]["percent"].as_i64())
        .collect();
    assert!(percents.is_sorted() && percents.last() == Some(&100), "{percents:?}");
    world.end().await;
}

#[tokio::test]
async fn kubectl_waits_and_shows_columns() {
    let mut world = World::start(Setup::default()).await;
    let shop = world.shop.clone();
    world.order("web-01", &json!({})).await;
    let (code, text) = world.kubectl(&["wait", "--for=condition=Ready", "--timeout=90s", "-n", &shop, "dso/web-01"]).await;
    assert_eq!(code, 0, "{text}");
    world.until_active("web-01").await;
    let header = |text: &str| {
        text.lines().next().unwrap_or_default().split("  ").map(str::trim).filter(|w| !w.is_empty()).collect::<Vec<_>>().join("|")
    };
    let (_, text) = world.kubectl(&["get", "dso", "-n", &shop]).await;
    assert_eq!(header(&text), "NAME|PHASE|READY|STEP|SERVER|ADDRESS|WAITING ON|NEXT RETRY|AGE", "{text}");
    for word in ["web-01", "Active", "True", "17", "203.0.113.10"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert!(!text.contains("<invalid>"), "{text}");
    let (_, text) = world.kubectl(&["get", "dso", "-n", &shop, "-o", "wide"]).await;
    assert!(header(&text).ends_with("AGE|HANDLER|ERROR|MESSAGE") && text.contains(&format!("{}/msk-1", world.provider)), "{text}");
    let provider = world.provider.clone();
    let (_, text) = world.kubectl(&["get", "ph", "-n", &provider]).await;
    assert_eq!(header(&text), "NAME|MODULE|READY|FREE|ORDERS|MESSAGE|AGE", "{text}");
    let (code, text) = world.kubectl(&["get", "dci", "-n", &provider]).await;
    assert!(code == 0 && text.contains("msk-1") && text.contains("main"), "{text}");
    // Servers cost money: a sweep through everything in a namespace must not take them back.
    let (_, text) = world.kubectl(&["delete", "all", "--all", "-n", &shop]).await;
    world.polls(2).await;
    let order = world.record.get("DedicatedServerOrder", "web-01").expect("it is still there");
    assert!(order["metadata"]["deletionTimestamp"].is_null(), "{text}");
    world.end().await;
}

#[tokio::test]
async fn a_root_password_is_generated_or_waited_for_and_never_told() {
    let mut world = World::start(Setup::default()).await;
    let shop = world.shop.clone();
    world.keep_secret("root-pass-5Zk8");
    world.order("given", &json!({"operatingSystem": {"passwordSecretRef": {"name": "given-root", "key": "password"}}})).await;
    let waits = world.until_reason("DedicatedServerOrder", "given", "Ready", "CredentialsMissing").await;
    assert!(waits["status"]["server"].is_null() && waits["status"]["inFlight"].is_null(), "{waits}");
    assert!(!world.made().iter().any(|func| func.starts_with("server") || func.starts_with("ip")), "{:?}", world.made());
    world.create(&shop, secret("given-root", &json!({"password": "root-pass-5Zk8"}))).await;
    world.until_active("given").await;
    let order = world.order("made", &json!({})).await;
    world.until_active("made").await;
    let (_, text) = world.kubectl(&["get", "secret", "made-root", "-n", &shop, "-o", "json"]).await;
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stored["metadata"]["ownerReferences"][0]["uid"], order["metadata"]["uid"]);
    let (_, password) =
        world.kubectl(&["get", "secret", "made-root", "-n", &shop, "-o", "go-template={{.data.password | base64decode}}"]).await;
    assert!(password.len() >= 16, "{password}");
    world.keep_secret(&password);
    let (_, all) = world.kubectl(&["get", "dci,events", "-n", &shop, "-o", "json"]).await;
    assert!(!all.contains(&password) && !all.contains("root-pass-5Zk8"));
    world.end().await;
}

#[tokio::test]
async fn an_unknown_template_claims_nothing_and_an_edit_goes_on() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"operatingSystem": {"template": "ISPsystem__Nope-1"}})).await;
    let stalled = world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "UnknownTemplate").await;
    assert!(stalled["status"]["server"].is_null() && stalled["status"]["inFlight"].is_null());
    assert!(!world.made().iter().any(|func| func.starts_with("server") || func.starts_with("ip")), "{:?}", world.made());
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"operatingSystem": {"template": DEBIAN}}})).await;
    world.until_active("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn a_failed_recipe_does_not_matter_where_only_the_system_is_waited_for() {
    let mut world = World::start(Setup::dci(&json!({"recipes": [{"name": "ISPsystem__broken.sh", "outcome": "fail"}]}))).await;
    world.order("web-01", &json!({"recipes": ["ISPsystem__broken.sh"], "readyWhen": "OSInstalled"})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(
        (&active["status"]["server"]["id"], &active["status"]["server"]["failedRecipes"]),
        (&json!("17"), &json!(["ISPsystem__broken.sh"]))
    );
    assert_eq!(world.asked("server.operations"), 1);
    assert!(!world.touched(19), "no other server is tried");
    world.end().await;
}

/// What the address manager never gave is not asked of it, when it is looked at for the first time.
async fn started_again(world: &mut World) {
    world.kill_and_restart().await;
    world.polls(2).await;
    world.until_reason("IPManager", "main", "Ready", "Reachable").await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
}

#[tokio::test]
async fn addresses_stay_when_the_handler_says_so() {
    // The addresses of free servers are none of the address manager's.
    let setup = Setup::default().handler(&json!({"ipManagement": {"disableIPChange": true}}));
    let mut panels = objects::panels();
    panels["ipmanager5"][0]["holds_for"] = json!([]);
    let setup = Setup { panels, ..setup };
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["mainAddress"], "10.0.0.17");
    started_again(&mut world).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert_eq!(world.server(17)["ip"], "10.0.0.17");
    assert!(!world.made().iter().any(|func| func == "ip.edit" || func == "ip.delete"), "{:?}", world.made());
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn the_panel_allocates_addresses_when_it_is_told_to() {
    let groups = json!([{"name": "public", "ranges": ["198.51.100.10-198.51.100.60"]}, {"name": "parking", "ranges": ["10.0.0.0/16"]}]);
    let setup = Setup::dci(&json!({"address_groups": groups})).handler(&json!({"ipManagement": {"allocateBy": "Panel"}}));
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 3}})).await;
    let active = world.until_active("web-01").await;
    let addresses = active["status"]["server"]["addresses"].as_array().unwrap().clone();
    assert!(addresses.len() == 3 && addresses.iter().all(|a| a.as_str().unwrap().starts_with("198.51.100.")), "{addresses:?}");
    started_again(&mut world).await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert!(!world.changes().iter().any(|line| line.starts_with("ipm")), "{:?}", world.changes());
    world.assert_released(17);
    world.end().await;
}

#[tokio::test]
async fn extra_addresses_and_the_domain_follow_the_spec() {
    let mut world = World::start(Setup::default()).await;
    world.order("web-01", &json!({"addresses": {"ipv4": 3}})).await;
    world.until_active("web-01").await;
    world
        .patch("DedicatedServerOrder", "web-01", &json!({"spec": {"domain": "other.example.net", "addresses": {"ipv4": 1, "ipv6": 1}}}))
        .await;
    let changed = world
        .until_order("web-01", "Active with other addresses", |o| {
            o["status"]["server"]["domain"] == "other.example.net" && o["status"]["phase"] == "Active"
        })
        .await;
    let addresses = changed["status"]["server"]["addresses"].as_array().unwrap().clone();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert_eq!(world.asked("server.operations"), 1, "nothing is installed again");
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(17);
    world.end().await;
}

/// The API server itself refuses what the rules forbid, and selects by fields.
#[tokio::test]
async fn the_api_server_enforces_the_rules() {
    if !plane().serves_current("the_api_server_enforces_the_rules") {
        return;
    }
    let mut world = World::start(Setup::default()).await;
    let shop = world.shop.clone();
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    for (patch, word) in [
        (json!({"spec": {"configuration": {"serverType": "E5-64G"}}}), "configuration"),
        (json!({"spec": {"client": {"username": "other"}}}), "client"),
        (json!({"spec": {"handlerRef": {"name": "other"}}}), "handlerRef"),
        (json!({"spec": {"domain": "free.ds"}}), "free.ds"),
    ] {
        let (code, text) = world.kubectl(&["patch", "dso", "web-01", "-n", &shop, "--type=merge", "-p", &patch.to_string()]).await;
        assert!(code != 0 && text.contains(word), "{patch}: {text}");
    }
    if plane().selects_fields("the_api_server_enforces_the_rules, by the fields of an order") {
        for (selector, found) in [("status.phase=Active", true), ("status.server.id=99", false)] {
            let selector = format!("--field-selector={selector}");
            let (_, text) = world.kubectl(&["get", "dso", "-n", &shop, &selector, "-o", "name"]).await;
            assert_eq!(text.contains("web-01"), found, "{selector}: {text}");
        }
    }
    world.end().await;
}
