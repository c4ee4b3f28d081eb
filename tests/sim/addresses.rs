//! The address manager, alone and connected to a server panel: sections 4.1 and 4.2 of the facts.

use serde_json::json;

use crate::support::{Bench, CONFIG, column, error};

#[tokio::test]
async fn taking_and_giving_back() {
    let bench = Bench::start().await;
    let taken = bench.ipm("func=ip.edit&sok=ok&family=ipv4&ip=&domain=n1.example&iptype=public&note=k8s:1").await;
    assert_eq!(taken["ip"]["$"], "203.0.113.1");
    let form = bench.ipm("func=ip.edit&elid=203.0.113.1").await;
    for (field, text) in [("ip", "203.0.113.1"), ("domain", "n1.example"), ("iptype", "public"), ("note", "k8s:1"), ("family", "ipv4")] {
        assert_eq!(form[field]["$"], text);
    }
    bench.ipm("func=ip.edit&elid=203.0.113.1&sok=ok&domain=n2.example").await;
    let form = bench.ipm("func=ip.edit&elid=203.0.113.1").await;
    assert_eq!((&form["domain"]["$"], &form["note"]), (&json!("n2.example"), &json!({})), "the note was left out");
    let list = bench.ipm("func=ip").await;
    assert_eq!(column(&list, "ip"), ["10.0.0.17", "10.0.0.18", "10.0.0.19", "203.0.113.1"]);
    assert_eq!(column(&list, "iptype"), ["parking", "parking", "parking", "public"]);
    assert!(bench.ipm("func=ip.delete&elid=203.0.113.1").await.get("ok").is_some());
    assert_eq!(error(&bench.ipm("func=ip.delete&elid=203.0.113.1").await), ("missed", "ip"));
}

#[tokio::test]
async fn who_may_what() {
    let bench = Bench::start().await;
    let stranger = async |query: &str| bench.call_as("stranger:secret", "ipm", query).await;
    assert_eq!(error(&stranger("func=ip.edit&sok=ok&iptype=public").await), ("access", "iptype"));
    assert_eq!(stranger("func=ip.edit&sok=ok&iptype=parking").await["ip"]["$"], "10.0.0.1");
    assert_eq!(column(&stranger("func=ip").await, "ip"), ["10.0.0.1"]);
    assert_eq!(error(&stranger("func=ip.edit&elid=10.0.0.17").await), ("missed", "ip"));
    assert_eq!(error(&stranger("func=ip.delete&elid=10.0.0.17").await), ("missed", "ip"));
    let all = bench.call_as("ipadmin:secret", "ipm", "func=ip").await;
    assert_eq!(column(&all, "owner"), ["stranger", "dci", "dci", "dci"]);
    assert_eq!(error(&stranger("func=user").await).0, "access");
    // The server panel's users are unknown here.
    assert_eq!(error(&bench.call_as("admin:secret", "ipm", "func=ip").await).0, "auth");
}

#[tokio::test]
async fn named_hidden_and_exhausted() {
    for shape in ["limit", "missed"] {
        let config = CONFIG.replace("  - name: ipm\n", &format!("  - name: ipm\n    behaviour: {{exhausted: {shape}}}\n"));
        let bench = Bench::with(&config).await;
        let take = async |ip: &str| bench.ipm(&format!("func=ip.edit&sok=ok&iptype=public&family=ipv4&ip={ip}")).await;
        assert_eq!(take("203.0.113.2").await["ip"]["$"], "203.0.113.2");
        assert_eq!(error(&take("203.0.113.2").await), ("exists", "ip"));
        assert_eq!(error(&take("192.0.2.1").await), ("value", "ip"));
        assert_eq!(error(&take("x").await), ("value", "ip"));
        assert_eq!(take("").await["ip"]["$"], "203.0.113.1");
        assert_eq!(take("").await["ip"]["$"], "203.0.113.3");
        assert_eq!(error(&take("").await), (shape, "ip"));
        assert_eq!(take("203.0.113.9").await["ip"]["$"], "203.0.113.9", "hidden, but named");
        assert_eq!(error(&bench.ipm("func=ip.edit&sok=ok&iptype=nothing").await), ("value", "iptype"));
    }
}

#[tokio::test]
async fn a_panel_that_is_connected_takes_addresses_there() {
    let config = CONFIG.replace("    servers:\n", "    addresses_from: {ipmanager: ipm, user: dci}\n    servers:\n");
    let bench = Bench::with(&config).await;
    let added = bench.done("func=iplist.edit&plid=17&sok=ok&iptype=public&family=ipv4&ip=&domain=n1.example").await;
    assert_eq!(added["ip"]["$"], "203.0.113.1");
    let list = bench.ipm("func=ip").await;
    assert_eq!(column(&list, "ip"), ["10.0.0.17", "10.0.0.18", "10.0.0.19", "203.0.113.1"]);
    assert_eq!(column(&list, "domain")[3], "n1.example");
    // An address that the same user has taken there beforehand is accepted, another user's is not.
    bench.ipm("func=ip.edit&sok=ok&iptype=public&ip=203.0.113.3&note=k8s:1").await;
    bench.done("func=iplist.edit&plid=17&sok=ok&iptype=public&ip=203.0.113.3&domain=n1.example").await;
    bench.call_as("ipadmin:secret", "ipm", "func=ip.edit&sok=ok&iptype=public&ip=203.0.113.2").await;
    let refused = bench.dci("func=iplist.edit&plid=17&sok=ok&iptype=public&ip=203.0.113.2").await;
    assert_eq!(error(&refused), ("exists", "ip"));
    let rows = bench.done("func=iplist&elid=17").await;
    let extra = column(&rows, "id").pop().unwrap();
    bench.done(&format!("func=iplist.delete&plid=17&elid={extra}")).await;
    assert!(!column(&bench.ipm("func=ip").await, "ip").contains(&"203.0.113.3".to_owned()));
}

#[tokio::test]
async fn the_main_address_comes_from_elsewhere() {
    let bench = Bench::start().await;
    let rows = bench.done("func=iplist&elid=17").await;
    let main = rows["elem"][1]["id"]["$"].as_str().unwrap().to_owned();
    bench.done(&format!("func=iplist.edit&plid=17&elid={main}&sok=ok&ip=198.51.100.7&domain=n1.example")).await;
    let row = bench.server(17).await;
    assert_eq!((&row["ip"]["$"], &row["hostname"]["$"]), (&json!("198.51.100.7"), &json!("n1.example")));
    // Not connected: the address manager is not told.
    assert!(column(&bench.ipm("func=ip").await, "ip").contains(&"10.0.0.17".to_owned()));
    bench.done(&format!("func=iplist.edit&plid=17&elid={main}&sok=ok&ip=&iptype=parking")).await;
    assert_eq!(bench.server(17).await["ip"]["$"], "10.0.0.1");
}
