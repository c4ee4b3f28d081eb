//! Each fault, and what the journal says of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Bench, client, error, eventually};

const CHANGE: &str = "authinfo=admin:secret&out=json&func=server.poweron&elid=17";

fn change(outcome: &str, delivered: bool) -> Vec<(String, String, bool)> {
    vec![("server.poweron".to_owned(), outcome.to_owned(), delivered)]
}

fn is_on(bench: &Bench) -> bool {
    bench.truth(17)["power"] == "on"
}

#[tokio::test]
async fn not_applied() {
    for fault in [
        json!({"action": "error", "type": "client", "object": "open", "value": "x", "msg": "no way"}),
        json!({"action": "status", "status": 502, "body": "bad gateway"}),
        json!({"action": "html"}),
        json!({"action": "drop-before"}),
        json!({"action": "ignore"}),
    ] {
        let bench = Bench::start().await;
        let mut spec = fault.clone();
        spec["func"] = json!("server.poweron");
        bench.fault(spec);
        let answer = bench.client.post(bench.url("dci")).body(CHANGE).send().await;
        match fault["action"].as_str().unwrap() {
            "error" => {
                let body: Value = serde_json::from_str(&answer.unwrap().text().await.unwrap()).unwrap();
                assert_eq!(error(&body["doc"]), ("client", "open"));
                assert_eq!(body["doc"]["error"]["msg"]["$"], "no way");
                assert_eq!(bench.changes(), change("refused", true));
            }
            "status" => {
                let answer = answer.unwrap();
                assert_eq!(answer.status().as_u16(), 502);
                assert_eq!(answer.text().await.unwrap(), "bad gateway");
                assert_eq!(bench.changes(), change("dropped", false));
            }
            "html" => {
                let answer = answer.unwrap();
                assert_eq!(answer.status().as_u16(), 200);
                assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
                assert_eq!(bench.changes(), change("dropped", false));
            }
            "drop-before" => {
                assert!(answer.is_err());
                assert_eq!(bench.changes(), change("dropped", false));
            }
            _ => {
                assert!(answer.unwrap().text().await.unwrap().contains(r#""ok""#));
                assert_eq!(bench.changes(), change("ignored", true));
            }
        }
        // Had it been applied, the power would be on by the time that a later call's is.
        bench.sim.change_server(18, json!({"power": "off"})).unwrap();
        bench.done("func=server.poweron&elid=18").await;
        eventually("time passes", async || bench.truth(18)["power"] == "on").await;
        assert!(!is_on(&bench), "{fault}");
        bench.done("func=server.poweron&elid=17").await;
        eventually("the fault is used up", async || is_on(&bench)).await;
    }
}

#[tokio::test]
async fn applied_and_the_answer_is_lost() {
    for action in ["drop-answer", "garbage", "truncate"] {
        let bench = Bench::start().await;
        bench.fault(json!({"action": action, "changes": true}));
        let answer = bench.send("dci", CHANGE).await;
        match action {
            "garbage" => assert!(serde_json::from_str::<Value>(&answer.unwrap()).is_err()),
            _ => assert!(answer.is_err(), "{action}: {answer:?}"),
        }
        assert_eq!(bench.changes(), change("applied", false), "{action}");
        eventually(action, async || is_on(&bench)).await;
    }
}

#[tokio::test]
async fn applied_late() {
    let bench = Bench::start().await;
    bench.fault(json!({"action": "late", "delay": "300ms", "func": "server.edit", "match": {"sok": "ok"}}));
    let claim = "authinfo=admin:secret&func=server.edit&sok=ok&elid=17&owner=1&notes=late";
    let sent = Instant::now();
    assert!(bench.send("dci", claim).await.is_err());
    eventually("the change comes", async || bench.truth(17)["notes"] == "late").await;
    assert!(sent.elapsed() >= Duration::from_millis(300));
    let journal = bench.sim.journal(0);
    assert_eq!((&journal[0]["outcome"], &journal[1]["outcome"]), (&json!("deferred"), &json!("applied")));
    assert_eq!((&journal[1]["lateOf"], &journal[1]["delivered"]), (&json!(1), &json!(false)));
}

#[tokio::test]
async fn slow_and_large_answers() {
    let bench = Bench::start().await;
    let timed = async |fault: Value| {
        bench.fault(fault);
        let sent = Instant::now();
        let body = bench.send("dci", "authinfo=admin:secret&out=json&func=whoami").await.unwrap();
        let whole: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(whole["doc"]["user"]["$name"], "admin");
        (sent.elapsed(), body.len())
    };
    assert!(timed(json!({"action": "delay-before", "delay": "200ms"})).await.0 >= Duration::from_millis(200));
    assert!(timed(json!({"action": "delay-after", "delay": "200ms"})).await.0 >= Duration::from_millis(200));
    assert!(timed(json!({"action": "drip", "delay": "50ms", "bytes": 20})).await.0 >= Duration::from_millis(100));
    assert!(timed(json!({"action": "oversize", "bytes": 300_000})).await.1 > 300_000);
}

#[tokio::test]
async fn a_caller_that_hangs_up_is_not_waited_for() {
    let bench = Bench::start().await;
    bench.fault(json!({"action": "delay-before", "delay": "300ms", "changes": true}));
    let sending = tokio::spawn(bench.client.post(bench.url("dci")).body(CHANGE).send());
    eventually("it arrives", async || bench.sim.requests()["dci"]["server.poweron"] == 1).await;
    sending.abort();
    eventually("it is done all the same", async || is_on(&bench)).await;
    assert_eq!(bench.changes(), change("applied", false));
}

#[tokio::test]
async fn sessions_expire() {
    let bench = Bench::start().await;
    let auth = bench.call_as("", "dci", "func=auth&username=admin&password=secret").await;
    let query = format!("func=server&out=json&auth={}", auth["auth"]["$"].as_str().unwrap());
    assert!(bench.send("dci", &query).await.unwrap().contains("elem"));
    bench.fault(json!({"action": "expire-sessions", "panel": "dci"}));
    assert!(bench.send("dci", &query).await.unwrap().contains(r#""$type":"auth""#));
}

#[tokio::test]
async fn down_refuses_connections_until_it_is_over() {
    let bench = Bench::start().await;
    bench.done("func=whoami").await;
    let id = bench.fault(json!({"action": "down"}));
    let fresh = client;
    let call = async || fresh().post(bench.url("dci")).body(CHANGE).send().await;
    eventually("it is down", async || matches!(call().await, Err(error) if error.is_connect())).await;
    let sim = format!("{}/faults/{id}", bench.url("sim"));
    assert_eq!(bench.client.delete(sim).send().await.unwrap().status().as_u16(), 200);
    eventually("it is up at the same address", async || call().await.is_ok()).await;
    bench.fault(json!({"action": "down", "for": "200ms"}));
    eventually("it comes back by itself", async || call().await.is_ok()).await;
}

#[tokio::test]
async fn one_of_two_panels_is_down() {
    let bench = Bench::start().await;
    bench.fault(json!({"action": "down", "panel": "dci", "for": "30s"}));
    assert!(bench.send("dci", CHANGE).await.is_err());
    assert!(bench.ipm("func=ip").await.get("elem").is_some());
    assert_eq!(bench.changes(), change("dropped", false));
    bench.sim.remove_faults(None);
    bench.done("func=whoami").await;
}

#[tokio::test]
async fn faults_over_http() {
    let bench = Bench::start().await;
    let faults = format!("{}/faults", bench.url("sim"));
    let post = async |body: &'static str| bench.client.post(&faults).body(body).send().await.unwrap();
    let made = post(r#"{"action": "error", "type": "limit", "func": "server", "nth": 2, "count": 1}"#).await;
    assert_eq!(serde_json::from_str::<Value>(&made.text().await.unwrap()).unwrap(), json!({"id": 1}));
    assert!(bench.dci("func=server").await.get("error").is_none());
    assert_eq!(error(&bench.dci("func=server").await).0, "limit");
    assert!(bench.dci("func=server").await.get("error").is_none());
    let list = bench.client.get(&faults).send().await.unwrap().text().await.unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list[0]["matched"], &list[0]["fired"]), (&json!(3), &json!(1)));
    for (body, message) in [
        (r#"{"action": "error"}"#, "needs `type`"),
        (r#"{"action": "explode"}"#, "unknown variant `explode`"),
        (r#"{"action": "html", "cuont": 1}"#, "unknown field `cuont`"),
        (r#"{"action": "html", "panel": "x"}"#, "no panel `x`"),
        ("{", "line"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.status().as_u16(), 400, "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(message), "{text}");
    }
    let removed = bench.client.delete(&faults).send().await.unwrap().text().await.unwrap();
    assert_eq!(removed, r#"{"removed":1}"#);
}
