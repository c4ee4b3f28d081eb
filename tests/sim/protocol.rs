//! Log-in, formats, paging, filters: section 1 of the facts.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::support::{Bench, CONFIG, column, error};

async fn get(bench: &Bench, url: &str) -> reqwest::Response {
    bench.client.get(url).send().await.unwrap()
}

#[tokio::test]
async fn session_in_parameter_or_cookie() {
    let bench = Bench::start().await;
    let url = bench.url("dci");
    let answer = get(&bench, &format!("{url}?func=auth&out=json&username=admin&password=secret")).await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    let whole: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let auth = &whole["doc"]["auth"];
    let id = auth["$"].as_str().unwrap();
    assert_eq!((&auth["$id"], &auth["$level"]), (&json!(id), &json!("30")));
    assert!(cookie.starts_with(&format!("dcimgrses5={id};")), "{cookie}");
    let list = get(&bench, &format!("{url}?func=server&auth={id}")).await.text().await.unwrap();
    assert!(list.contains("<id>17</id>"), "{list}");
    let with_cookie = bench.client.get(format!("{url}?func=server")).header("cookie", format!("x=1; dcimgrses5={id}"));
    assert!(with_cookie.send().await.unwrap().text().await.unwrap().contains("<id>17</id>"));
    let xml = bench.send("dci", "func=auth&username=admin&password=secret").await.unwrap();
    assert!(xml.contains("<auth id=\"") && xml.contains("\" level=\"30\">"), "{xml}");
}

#[tokio::test]
async fn wrong_passwords_and_sessions() {
    let bench = Bench::start().await;
    for query in [
        "func=server&authinfo=admin:wrong",
        "func=auth&username=admin&password=wrong",
        "func=auth&username=nobody&password=wrong",
        "func=auth&username=admin&key=0123456789abcdef",
        "func=server&auth=unknown",
        "func=server",
    ] {
        let answer = bench.send("dci", &format!("{query}&out=json")).await.unwrap();
        let whole: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(error(&whole["doc"]).0, "auth", "{query}");
    }
}

#[tokio::test]
async fn a_session_belongs_to_an_address() {
    let bench = Bench::start().await;
    let auth = bench.call_as("", "dci", "func=auth&username=admin&password=secret").await;
    let query = format!("func=server&out=json&auth={}", auth["auth"]["$"].as_str().unwrap());
    assert!(bench.send("dci", &query).await.unwrap().contains("elem"));
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let elsewhere = reqwest::Client::builder().tls_certs_only([]).local_address(elsewhere).build().unwrap();
    let answer = elsewhere.post(bench.url("dci")).body(query).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains(r#""$type":"auth""#), "{answer}");
}

#[tokio::test]
async fn acting_as_somebody_else() {
    let bench = Bench::start().await;
    let key = "0123456789abcdef0123";
    bench.done(&format!("func=session.newkey&username=acme&key={key}")).await;
    let auth = bench.call_as("", "dci", &format!("func=auth&username=acme&key={key}")).await;
    assert_eq!(auth["auth"]["$level"], "16");
    let session = auth["auth"]["$"].as_str().unwrap().to_owned();
    let again = bench.call_as("", "dci", &format!("func=auth&username=acme&key={key}")).await;
    assert_eq!(error(&again).0, "auth", "a key works once");
    // A user sees and reboots the own server only.
    let list: Value = serde_json::from_str(&bench.send("dci", &format!("func=server&out=json&auth={session}")).await.unwrap()).unwrap();
    assert_eq!(column(&list["doc"], "id"), ["18"]);
    let reboot = |id: u32| format!("func=server.reboot&elid={id}&out=json&auth={session}");
    assert!(bench.send("dci", &reboot(18)).await.unwrap().contains(r#""ok""#));
    assert!(bench.send("dci", &reboot(17)).await.unwrap().contains(r#""$type":"missed""#));
    assert_eq!(column(&bench.dci("func=server&su=acme").await, "id"), ["18"]);
    assert_eq!(error(&bench.call_as("acme:acme-secret", "dci", "func=user").await).0, "access");
    let changes = bench.sim.journal(0);
    assert_eq!((&changes[0]["caller"], &changes[0]["target"]), (&json!("acme"), &json!("18")));
}

#[tokio::test]
async fn ways_to_send() {
    let bench = Bench::start().await;
    let base = bench.url("dci").trim_end_matches("/dcimgr").to_owned();
    for path in ["/dcimgr", "/manager/dcimgr", "/dcimgr/"] {
        let query = "func=server&authinfo=admin%3Asecret&out=JSONdata";
        let by_get = get(&bench, &format!("{base}{path}?{query}")).await;
        assert_eq!(by_get.headers()["content-type"], "application/json; charset=UTF-8");
        let rows: Value = serde_json::from_str(&by_get.text().await.unwrap()).unwrap();
        assert_eq!(rows[0]["id"], "17");
        assert_eq!(rows[0]["poweroff"], "");
        let by_post = bench.client.post(format!("{base}{path}")).body(query).send().await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&by_post.text().await.unwrap()).unwrap(), rows);
    }
    let missing = get(&bench, &format!("{base}/billmgr")).await;
    assert_eq!(missing.status().as_u16(), 404);
    let plain = get(&bench, &format!("{base}/dcimgr?func=user&authinfo=admin:secret&out=text")).await.text().await.unwrap();
    assert!(plain.contains("id=3 name=acme level=16"), "{plain}");
}

#[tokio::test]
async fn errors_have_status_200() {
    let bench = Bench::start().await;
    let answer = get(&bench, &format!("{}?func=no.such&authinfo=admin:secret", bench.url("dci"))).await;
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["content-type"], "text/xml; charset=UTF-8");
    let body = answer.text().await.unwrap();
    assert!(body.contains("<error type=\"missed\" object=\"func\""), "{body}");
    let russian = bench.dci("func=no.such&lang=ru").await;
    assert!(russian["error"]["msg"]["$"].as_str().unwrap().contains("не найден"));
}

#[tokio::test]
async fn empty_and_single_rows() {
    let servers = CONFIG.find("    servers:").unwrap();
    let end = CONFIG.find("ipmanager5:").unwrap();
    for (single, rows, is_array) in [("array", 1, true), ("object", 1, false), ("object", 2, true)] {
        let config =
            format!("{}    protocol: {{single_elem: {single}}}\n    servers: [{{count: {rows}}}]\n{}", &CONFIG[..servers], &CONFIG[end..]);
        let bench = Bench::with(&config).await;
        assert_eq!(bench.dci("func=server").await["elem"].is_array(), is_array, "{single} {rows}");
    }
    let bench = Bench::with(&format!("{}{}", &CONFIG[..servers], &CONFIG[end..])).await;
    let list = bench.dci("func=server").await;
    assert!(list.get("elem").is_none(), "{list}");
    assert_eq!(bench.send("dci", "authinfo=admin:secret&func=server&out=JSONdata").await.unwrap(), "[]");
}

#[tokio::test]
async fn pages() {
    let bench = Bench::start().await;
    for (query, ids, total) in [
        ("", vec!["17", "18", "19"], "3"),
        ("&p_cnt=2", vec!["17", "18"], "3"),
        ("&p_cnt=2&p_num=2", vec!["19"], "3"),
        ("&p_cnt=2&p_num=3", vec![], "3"),
    ] {
        let list = bench.dci(&format!("func=server{query}")).await;
        assert_eq!(column(&list, "id"), ids, "{query}");
        assert_eq!(list["p_elems"]["$"], total);
    }
}

#[tokio::test]
async fn filters_stay_with_the_user() {
    let bench = Bench::start().await;
    bench.done("func=server.filter&sok=ok&hostname=a.example&out=json").await;
    assert_eq!(column(&bench.dci("func=server").await, "id"), ["18"]);
    let other = bench.call_as("other:secret", "dci", "func=server").await;
    assert_eq!(column(&other, "id"), ["17", "18", "19"]);
    bench.done("func=server.filter&sok=ok&hostname=").await;
    assert_eq!(column(&bench.dci("func=server").await, "id"), ["17", "18", "19"]);
    bench.ipm("func=ip.filter&sok=ok&ip=10.0.0.17").await;
    assert_eq!(column(&bench.ipm("func=ip").await, "ip"), ["10.0.0.17"]);
}

#[tokio::test]
async fn small_lists_that_clients_read() {
    let bench = Bench::start().await;
    assert_eq!(column(&bench.done("func=chassistempl").await, "name"), ["E3-16G", "E5-64G"]);
    assert_eq!(column(&bench.done("func=rack").await, "name"), ["R1"]);
    assert_eq!(column(&bench.done("func=switch").await, "rack_id"), ["1"]);
    assert_eq!(column(&bench.done("func=switch.port&elid=1").await, "serverhname"), ["free.ds", "a.example", "free.ds"]);
    assert_eq!(column(&bench.done("func=pdu.port&elid=1").await, "power"), ["0", "1", "0"]);
    assert_eq!(column(&bench.done("func=osmgr").await, "type"), ["OS", "OS", "OS", "diag", "rescue"]);
    let console = bench.done("func=ipmiredirect&elid=17&value=IPMI+S17&newwindow=yes").await;
    assert!(console["ok"]["$"].as_str().unwrap().contains("17"));
    let traffic = bench.done("func=traffic&sok=ok&period=currentmonth").await;
    assert_eq!(traffic["reportdata"]["traff"]["elem"][1]["hostname"]["$"], "a.example");
    bench.done("func=pdu.on&elid=19").await;
    assert_eq!(bench.truth(19)["power"], "on");
}
