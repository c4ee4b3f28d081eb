//! Whether the server of an order is at the panel what the order asks for: one oracle for every test in which an order works.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::invariants::view::{self, list, text};

use super::kstatus::is_true;

/// What of the order's server is not as its spec and its status say. Nothing where it is not Ready with what its spec says now: then the
/// server may be on its way.
pub fn unlike(panels: &Value, order: &Value) -> Vec<String> {
    let (spec, status) = (&order["spec"], &order["status"]);
    let current = status["observedGeneration"] == order["metadata"]["generation"];
    if !is_true(order, "Ready") || !current || view::is_deleting(order) {
        return Vec::new();
    }
    let (name, told) = (view::name(order), &status["server"]);
    let marked: Vec<view::Server<'_>> = view::servers(panels).into_iter().filter(|s| s.marks() == [view::order_id(order)]).collect();
    let [server] = marked.as_slice() else {
        return vec![format!("{} servers carry the marker of order {name}, and of no other one", marked.len())];
    };
    let is = server.state;
    let suspended = spec["suspended"] == true;
    let ips: BTreeSet<&str> = list(&is["ips"]).iter().map(|row| text(&row["ip"])).collect();
    let known: BTreeSet<&str> = list(&told["addresses"]).iter().map(text).collect();
    let of = |v6: bool| ips.iter().filter(|ip| ip.contains(':') == v6).count();
    let wanted = |family: &str, usual: u64| spec["addresses"][family].as_u64().unwrap_or(usual);
    // Names of users and hosts are the same in whatever case.
    let lower = |value: &Value| json!(text(value).to_lowercase());
    let rows = [
        ("its id", told["id"].clone(), is["id"].clone()),
        ("its owner", lower(&spec["client"]["username"]), lower(&is["owner"])),
        ("its host name", lower(&spec["domain"]), lower(&is["hostname"])),
        ("its power", json!(if suspended { "off" } else { "on" }), is["power"].clone()),
        ("disabled", json!(suspended), is["flags"]["disabled"].clone()),
        ("its main address", told["mainAddress"].clone(), is["ip"].clone()),
        ("what it has for addresses", json!(known), json!(ips)),
        ("the number of IPv4 addresses", json!(wanted("ipv4", 1)), json!(of(false))),
        ("the number of IPv6 addresses", json!(wanted("ipv6", 0)), json!(of(true))),
    ];
    let (panel, id) = (server.panel, server.id());
    let differs = rows.into_iter().filter(|(_, says, found)| says != found);
    differs.map(|(what, says, found)| format!("server {panel}/{id} of order {name}: {what} is {found}, the order says {says}")).collect()
}

#[test]
fn what_is_not_as_the_order_says_is_seen() {
    let order = |spec: Value, server: Value| {
        json!({
            "metadata": {"namespace": "shop", "name": "web", "uid": "u-1", "generation": 2}, "spec": spec,
            "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}], "server": server},
        })
    };
    let spec = |suspended: bool, domain: &str, ipv4: u64| {
        let client = json!({"username": "Acme"});
        json!({"client": client, "domain": domain, "suspended": suspended, "addresses": {"ipv4": ipv4}})
    };
    let told = json!({"id": "17", "mainAddress": "203.0.113.9", "addresses": ["203.0.113.9", "203.0.113.10"]});
    let server = json!({
        "id": "17", "owner": "acme", "hostname": "web.example.net", "power": "on", "notes": "k8s:c/shop/web/u-1", "ip": "203.0.113.9",
        "ips": [{"ip": "203.0.113.9"}, {"ip": "203.0.113.10"}], "flags": {"disabled": false},
    });
    let panels = |server: &Value| json!({"panels": {"dci": {"servers": [server, {"id": "18", "notes": ""}]}}});
    let good = order(spec(false, "web.example.net", 2), told.clone());
    assert_eq!(unlike(&panels(&server), &good), [] as [String; 0]);
    let changed = |name: &str, value: Value| {
        let mut server = server.clone();
        server[name] = value;
        unlike(&panels(&server), &good).len()
    };
    for (name, value) in [
        ("owner", json!("bob")),
        ("hostname", json!("free.ds")),
        ("power", json!("off")),
        ("flags", json!({"disabled": true})),
        ("ip", json!("10.0.0.17")),
        ("notes", json!("")),
        ("notes", json!("k8s:c/shop/web/u-1 k8s:c/shop/db/u-2")),
    ] {
        assert_eq!(changed(name, value.clone()), 1, "{name} {value}");
    }
    assert!(changed("ips", json!([{"ip": "203.0.113.9"}])) > 0 && changed("id", json!("19")) > 0);
    for other in [spec(true, "web.example.net", 2), spec(false, "other.example.net", 2), spec(false, "web.example.net", 3)] {
        assert!(!unlike(&panels(&server), &order(other.clone(), told.clone())).is_empty(), "{other}");
    }
    let mut on_its_way = order(spec(true, "web.example.net", 2), told);
    on_its_way["metadata"]["generation"] = 3.into();
    assert_eq!(unlike(&panels(&server), &on_its_way), [] as [String; 0]);
}
