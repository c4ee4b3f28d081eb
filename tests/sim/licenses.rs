//! The licence server by its protocol: section 5.6 of the facts.

use serde_json::json;

use crate::support::{Bench, column, error, eventually};

const CONFIG: &str = "
billmanager6:
  - name: bill
    users: [{name: reseller, password: secret}, {name: other, password: secret}]
    behaviour: {key_delay: 1h, remote_id_limit: 8, one_per_address: true}
    pricelists: [{id: 55227, name: Lite}]
";
const ORDER: &str = "func=soft.order.param&pricelist=55227&period=1&ip=203.0.113.1&licname=a&remoteid=k8s:u/Lite&sok=ok&skipbasket=on&clicked_button=finish";

#[tokio::test]
async fn a_licence_is_ordered_keyed_prolonged_and_given_up() {
    let bench = Bench::with(CONFIG).await;
    let bill = async |query: &str| bench.call_as("reseller:secret", "bill", query).await;
    let id = bill(&format!("{ORDER}&addon_7=2")).await["id"]["$"].as_str().unwrap().to_owned();
    let form = bill(&format!("func=soft.edit&elid={id}")).await;
    assert_eq!((&form["remoteid"]["$"], &form["lickey"]), (&json!("k8s:u/Li"), &json!({})), "cut, and without a key yet");
    bench.sim.change_license(id.parse().unwrap(), json!({"issue_key": true, "expires": "2031-01-01"})).unwrap();
    let answer = bill(&format!("func=service.prolong&elid={id}&period=1&sok=ok")).await;
    assert_eq!(answer["doc"]["newexpiredate"]["$"], "2031-01-31");
    let form = bill(&format!("func=soft.edit&elid={id}")).await;
    assert!(form["lickey"]["$"].as_str().unwrap().starts_with("LIC-") && form["expiredate"]["$"] == "2031-01-31");
    bill(&format!("func=soft.suspend&elid={id}")).await;
    assert_eq!(column(&bill("func=soft").await, "status"), ["3"]);
    for (suspended, shown) in [(false, "2"), (true, "3")] {
        bench.sim.change_license(id.parse().unwrap(), json!({"suspended": suspended})).unwrap();
        assert_eq!(column(&bill("func=soft").await, "status"), [shown], "a person has stopped it: {suspended}");
    }
    bill(&format!("func=soft.edit&elid={id}&ip=0.0.0.0&licname=free.lic&remoteid=&sok=ok")).await;
    assert_eq!(column(&bill("func=soft").await, "licname"), ["free.lic"]);
    let made: Vec<String> = bench.changes().into_iter().map(|(func, ..)| func).collect();
    assert_eq!(made, ["soft.order.param", "service.prolong", "soft.suspend", "soft.edit"]);
}

#[tokio::test]
async fn what_is_refused() {
    let bench = Bench::with(CONFIG).await;
    let bill = async |query: &str| bench.call_as("reseller:secret", "bill", query).await;
    let id = bill(ORDER).await["id"]["$"].as_str().unwrap().to_owned();
    assert_eq!(error(&bill(ORDER).await), ("exists", "ip"), "one for each address, as configured");
    for (from, to, object) in [
        ("55227", "1", "pricelist"),
        ("period=1", "period=0", "period"),
        ("203.0.113.1", "x", "ip"),
        ("=finish", "=next", "clicked_button"),
    ] {
        assert_eq!(error(&bill(&ORDER.replace(from, to)).await), ("value", object));
    }
    let other = async |query: String| bench.call_as("other:secret", "bill", &query).await;
    assert!(column(&other("func=soft".into()).await, "id").is_empty(), "an account sees its own");
    for func in ["soft.edit", "soft.suspend", "service.prolong&sok=ok&period=1"] {
        assert_eq!(error(&other(format!("func={func}&elid={id}")).await), ("missed", "soft"));
    }
}

/// The answer says what was done; list and form show it when its time has come.
#[tokio::test]
async fn what_was_done_shows_later_where_it_is_configured_so() {
    const THERE: &str = "licenses: [{owner: reseller, pricelist: 55227, ip: 198.51.100.7, name: old, remote_id: r}]";
    for (delay, shows) in [("1h", false), ("200ms", true)] {
        let behaviour = CONFIG.replace("key_delay: 1h, remote_id_limit: 8, one_per_address: true", &format!("show_delay: {delay}"));
        let bench = Bench::with(&format!("{}    {THERE}\n", behaviour.trim_end_matches(' '))).await;
        let bill = async |query: &str| bench.call_as("reseller:secret", "bill", query).await;
        let there = column(&bill("func=soft").await, "id").remove(0);
        let before = bill(&format!("func=soft.edit&elid={there}")).await["expiredate"].clone();
        let answer = bill(&format!("func=service.prolong&elid={there}&period=1&sok=ok")).await;
        let end = answer["doc"]["newexpiredate"].clone();
        assert_ne!(end, before);
        bill(&format!("func=soft.suspend&elid={there}")).await;
        let bought = bill(ORDER).await["id"]["$"].as_str().unwrap().to_owned();
        if shows {
            eventually("all of it shows", async || {
                let list = bill("func=soft").await;
                let form = bill(&format!("func=soft.edit&elid={there}")).await;
                column(&list, "status") == ["3", "2"] && column(&list, "id") == [there.clone(), bought.clone()] && form["expiredate"] == end
            })
            .await;
            continue;
        }
        let list = bill("func=soft").await;
        assert_eq!((column(&list, "id"), column(&list, "status")), (vec![there.clone()], vec!["2".to_owned()]));
        assert_eq!(bill(&format!("func=soft.edit&elid={there}")).await["expiredate"], before);
        assert_eq!(error(&bill(&format!("func=soft.edit&elid={bought}")).await), ("missed", "soft"));
        let truth = bench.sim.state()["panels"]["bill"]["licenses"].clone();
        assert_eq!((&truth[0]["expires"], &truth[0]["status"], &truth[1]["id"]), (&end["$"], &json!("3"), &json!(bought)));
    }
}
