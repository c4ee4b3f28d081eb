//! `/_sim`: people behind the panels, the journal, the counters.

use serde_json::{Value, json};

use crate::support::{Bench, column, error};

async fn post(bench: &Bench, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}{path}", bench.url("sim"));
    let answer = bench.client.post(url).body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn get(bench: &Bench, path: &str) -> Value {
    let url = format!("{}{path}", bench.url("sim"));
    serde_json::from_str(&bench.client.get(url).send().await.unwrap().text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn people_change_servers() {
    let bench = Bench::start().await;
    let change = json!({"owner": "acme", "hostname": "b.example", "power": "on", "notes": "mine", "ipmi": "dead",
                        "flags": {"blocked": true, "disabled": true}});
    let (status, server) = post(&bench, "/servers/17", change).await;
    assert_eq!(status, 200);
    assert_eq!((&server["owner"], &server["notes"]), (&json!("acme"), &json!("mine")));
    let row = bench.server(17).await;
    assert_eq!((&row["owner"]["$"], &row["hostname"]["$"]), (&json!("acme"), &json!("b.example")));
    assert!(row.get("blocked").is_some() && row.get("disabled").is_some() && row.get("powererror").is_some());
    let (_, server) = post(&bench, "/servers/17", json!({"owner": "", "ipmi": "alive", "ip": "192.0.2.9"})).await;
    assert_eq!((&server["owner"], &server["ip"], &server["powerFlag"]), (&Value::Null, &json!("192.0.2.9"), &json!("poweron")));
    assert_eq!(post(&bench, "/servers/17", json!({"owner": "nobody"})).await.0, 422);
    assert_eq!(post(&bench, "/servers/17", json!({"ownr": "acme"})).await.0, 400);
    assert_eq!(post(&bench, "/servers/99", json!({})).await.0, 422);
    assert_eq!(post(&bench, "/servers/17", json!({"panel": "x"})).await.0, 404);
    assert_eq!(post(&bench, "/servers/17", json!({"delete": true})).await.0, 200);
    assert_eq!(error(&bench.dci("func=server.edit&elid=17").await), ("missed", "server"));
    let (_, made) = post(&bench, "/servers", json!({"panel": "dci", "count": 2, "type": "E5-64G", "name": "new-{n}"})).await;
    assert_eq!(made, json!({"ids": ["20", "21"]}));
    assert_eq!(bench.server(21).await["name"]["$"], "new-2");
    assert_eq!(bench.changes().len(), 0, "people do not stand in the journal");
}

#[tokio::test]
async fn people_end_operations() {
    let bench = Bench::start().await;
    post(&bench, "/servers/17", json!({"operations": [{"outcome": "hang"}, {"outcome": "fail", "duration": "0s"}]})).await;
    let install = "func=server.operations&sok=ok&elid=17&operation=ostemplate&ostemplate=ISPsystem__Debian-12-x86_64&passwd=a&confirm=a";
    bench.done(install).await;
    let (_, server) = post(&bench, "/servers/17", json!({"finish_operation": true})).await;
    assert_eq!(server["installed"]["template"], "ISPsystem__Debian-12-x86_64");
    bench.done(install).await;
    assert!(bench.server(17).await.get("operation_failed").is_some());
}

#[tokio::test]
async fn people_cancel_operations_and_a_form_may_name_what_was_chosen() {
    let (as_usual, release) = (crate::support::CONFIG.to_owned(), "release: {diagnostics: true}");
    let chosen = as_usual.replace(release, &format!("behaviour: {{ostemplate_in_form: chosen}}\n    {release}"));
    for (config, named) in [(as_usual, None), (chosen, Some("ISPsystem__Endless"))] {
        let bench = Bench::with(&config).await;
        let install = "func=server.operations&sok=ok&elid=17&operation=ostemplate&ostemplate=ISPsystem__Endless&passwd=a&confirm=a";
        bench.done(install).await;
        let (status, server) = post(&bench, "/servers/17", json!({"cancel_operation": true})).await;
        assert_eq!((status, &server["operation"], &server["installed"]["times"]), (200, &Value::Null, &json!(0)));
        let row = bench.server(17).await;
        assert!(row.get("install_in_progress").is_none() && row.get("operation_failed").is_none(), "{row}");
        assert_eq!(bench.done("func=server.operations&elid=17").await["ostemplate"]["$"].as_str(), named);
    }
}

#[tokio::test]
async fn people_change_users_and_addresses() {
    let bench = Bench::start().await;
    assert_eq!(post(&bench, "/users", json!({"panel": "dci", "name": "admin", "password": "new"})).await.0, 200);
    assert_eq!(error(&bench.dci("func=server").await).0, "auth");
    assert!(bench.call_as("admin:new", "dci", "func=server").await.get("elem").is_some());
    assert_eq!(post(&bench, "/users", json!({"name": "eve", "password": "x"})).await.1, json!({"id": "4"}));
    assert_eq!(post(&bench, "/users", json!({"name": "eve", "delete": true})).await.0, 200);
    assert_eq!(post(&bench, "/users", json!({"name": "eve", "delete": true})).await.0, 404);
    let taken = json!({"ip": "203.0.113.1", "holder": "dci", "note": "by hand"});
    assert_eq!(post(&bench, "/addresses", taken).await.0, 200);
    assert_eq!(column(&bench.ipm("func=ip").await, "note").pop().unwrap(), "by hand");
    assert_eq!(post(&bench, "/addresses", json!({"ip": "203.0.113.1", "delete": true})).await.0, 200);
    assert_eq!(post(&bench, "/addresses", json!({"ip": "203.0.113.1", "delete": true})).await.0, 422);
    assert_eq!(post(&bench, "/addresses", json!({"ip": "203.0.113.1", "holder": "nobody"})).await.0, 422);
}

#[tokio::test]
async fn journal_and_counters() {
    let bench = Bench::with(&format!("journal: {{capacity: 3}}\n{}", crate::support::CONFIG)).await;
    for id in [17, 18, 99, 17, 18] {
        bench.dci(&format!("func=server.poweron&elid={id}")).await;
        bench.dci("func=server").await;
    }
    let journal = get(&bench, "/journal").await;
    let seqs: Vec<u64> = journal.as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [3, 4, 5]);
    let refused = &journal[0];
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(refused["error"], json!({"type": "missed", "object": "server"}));
    assert_eq!((&refused["caller"], &refused["panel"], &refused["target"]), (&json!("admin"), &json!("dci"), &json!("99")));
    assert!(refused["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(get(&bench, "/journal?since=4").await.as_array().unwrap().len(), 1);
    assert_eq!(get(&bench, "/requests").await, json!({"dci": {"server": 5, "server.poweron": 5}}));
    let state = get(&bench, "/state").await;
    assert_eq!(state["panels"]["dci"]["servers"][0]["id"], "17");
    assert_eq!(state["panels"]["ipm"]["addresses"][0]["holder"], "dci");
    assert_eq!(get(&bench, "/").await["panels"][1]["path"], "/ipmgr");
}

#[tokio::test]
async fn thousands_of_servers() {
    let config = "dcimanager5: [{users: [{name: a, password: b, level: 30}], servers: [{count: 5000}]}]";
    let bench = Bench::with(config).await;
    let list = bench.call_as("a:b", "dcimgr", "func=server").await;
    assert_eq!(list["elem"].as_array().unwrap().len(), 5000);
}
