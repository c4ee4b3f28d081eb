//! What a run ends in, without what may differ from run to run: times, uids, which of the free addresses it is.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use crate::invariants::{ready, rest};
use crate::support::World;
use crate::support::serves;

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether a record carries a marker of ours.
pub fn is_ours(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("k8s:"))
}

/// Public or parking.
fn group(address: &Value) -> &'static str {
    if address.as_str().is_some_and(|ip| ip.starts_with("10.")) { "parking" } else { "public" }
}

fn order(order: &Value, provider: &str) -> Value {
    let status = &order["status"];
    let conditions: Vec<Value> = rows(&status["conditions"]).iter().map(|c| json!([c["type"], c["status"], c["reason"]])).collect();
    let steps: Vec<Value> = rows(&status["steps"]).iter().map(|s| json!([s["name"], s["state"]])).collect();
    let licenses: Vec<Value> = rows(&status["licenses"]).iter().map(|l| json!([l["product"], l["state"]])).collect();
    let server = &status["server"];
    json!({
        "phase": status["phase"], "conditions": conditions, "steps": steps, "licenses": licenses, "inFlight": status["inFlight"],
        "seen": status["observedGeneration"] == order["metadata"]["generation"],
        "server": [server["id"], server["domain"], server["handler"].as_str().map(|h| h.replace(provider, "provider"))],
        "addresses": rows(&server["addresses"]).iter().map(group).collect::<Vec<_>>(),
        "reinstall": status["lastHandledReinstall"], "waitingOn": status["waitingOn"]["kind"],
        "lastError": [status["lastError"]["step"], status["lastError"]["code"]],
    })
}

fn server(server: &Value) -> Value {
    let ports: Vec<&Value> = rows(&server["connections"]).iter().filter(|c| c["type"] == "Switch").map(|c| &c["on"]).collect();
    // One whose answer was lost may have run twice, since a person said so.
    let recipes: BTreeSet<&str> = rows(&server["invented"]["recipes"]).iter().filter_map(Value::as_str).collect();
    json!({
        "recipes": recipes,
        "id": server["id"], "owner": server["owner"], "hostname": server["hostname"], "power": server["power"],
        "ours": is_ours(&server["notes"]), "main": group(&server["ip"]), "addresses": rows(&server["ips"]).len(),
        "installed": [server["installed"]["template"], server["installed"]["times"]], "operation": server["operation"].is_object(),
        "disabled": server["flags"]["disabled"], "ports": ports,
    })
}

fn panel(panel: &Value) -> Value {
    let noted = rows(&panel["addresses"]).iter().filter(|a| is_ours(&a["note"])).count();
    let taken = |of: &str| rows(&panel["addresses"]).iter().filter(|a| group(&a["ip"]) == of).count();
    let users: BTreeSet<(&str, String)> =
        rows(&panel["users"]).iter().map(|u| (u["name"].as_str().unwrap_or_default(), u["level"].to_string())).collect();
    let licenses: Vec<Value> =
        rows(&panel["licenses"]).iter().map(|l| json!([l["pricelist"], l["status"], is_ours(&l["remoteId"])])).collect();
    json!({
        "servers": rows(&panel["servers"]).iter().map(server).collect::<Vec<_>>(),
        "addresses": {"noted": noted, "public": taken("public"), "parking": taken("parking")}, "licenses": licenses, "users": users,
    })
}

/// What there is in the end: orders, tasks, panels.
pub fn end_state(world: &World) -> Value {
    let state = world.sim.state();
    let panels: serde_json::Map<String, Value> =
        state["panels"].as_object().into_iter().flatten().map(|(name, all)| (name.clone(), panel(all))).collect();
    // How often something fails is not what any scenario is about; but whoever was asked is not left with it.
    let of = |task: &Value| json!([task["spec"]["type"], task["spec"]["resolution"]]);
    let (failed, asked): (Vec<Value>, Vec<Value>) = world.record.all("ManualTask").iter().map(of).partition(|t| t[0] == "FailedOperation");
    let open = failed.iter().filter(|t| t[1].is_null()).count();
    let orders = world.record.all("DedicatedServerOrder");
    let orders: Vec<Value> = orders.iter().map(|o| order(o, &world.provider)).collect();
    json!({"orders": orders, "tasks": asked, "openFailures": open, "panels": panels})
}

/// In what the servers of orders that are ready are not as the orders ask, nor what their statuses say.
pub fn not_as_ordered(world: &World) -> Vec<String> {
    let panels = world.sim.state();
    let of = |order: &Value| [ready::unlike(order, &panels, |_| false), serves::unlike(&panels, order)].concat();
    world.record.all("DedicatedServerOrder").iter().flat_map(of).collect()
}

/// Servers of orders to which nobody could log in with what the orders' Secrets say.
pub async fn wrong_passwords(world: &World) -> Vec<String> {
    let secrets = Api::<Secret>::namespaced(world.kube.clone(), &world.shop);
    let (panels, mut wrong) = (world.sim.state(), Vec::new());
    for order in world.record.all("DedicatedServerOrder") {
        let (name, key) = rest::root_password(&order);
        let data = secrets.get_opt(&name).await.unwrap().and_then(|secret| secret.data).unwrap_or_default();
        wrong.extend(rest::wrong_password(&order, &panels, data.get(&key).map(|bytes| bytes.0.as_slice())));
    }
    wrong
}

/// Where two ends differ, path by path.
pub fn differences(expected: &Value, found: &Value) -> Vec<String> {
    fn walk(path: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
        match (expected, found) {
            (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
                for (name, value) in a {
                    walk(&format!("{path}.{name}"), value, &b[name], all);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    walk(&format!("{path}[{index}]"), a, b, all);
                }
            }
            (a, b) if a == b => {}
            (a, b) => all.push(format!("{path}: {b}, without the fault {a}")),
        }
    }
    let mut all = Vec::new();
    walk("", expected, found, &mut all);
    all
}

/// Addresses that are taken and stand on no server: nobody would ever give them back.
fn on_no_server(world: &World, state: &Value) -> Vec<String> {
    let panels = || state["panels"].as_object().into_iter().flatten();
    let servers = panels().flat_map(|(_, panel)| rows(&panel["servers"]));
    let used: Vec<&Value> = servers.flat_map(|server| rows(&server["ips"])).map(|row| &row["ip"]).collect();
    // Where panels take addresses by themselves, what an address manager had for their servers at first is not theirs any more.
    let by_panel = world.record.all("ProcessingHandler").iter().any(|h| h["spec"]["ipManagement"]["allocateBy"] == "Panel");
    let asked = panels().filter(|(_, panel)| !by_panel || panel["kind"] != "IPmanager5");
    let taken = asked.flat_map(|(name, panel)| rows(&panel["addresses"]).iter().map(move |address| (name, address)));
    taken.filter(|(_, a)| !used.contains(&&a["ip"])).map(|(name, a)| format!("address {a} of {name}, which is on no server")).collect()
}

/// What is left once every order is gone.
pub fn left_over(world: &World) -> Vec<String> {
    let state = world.sim.state();
    let mut left = on_no_server(world, &state);
    for (name, panel) in state["panels"].as_object().into_iter().flatten() {
        for server in rows(&panel["servers"]).iter().filter(|s| s["id"] != "18") {
            let id = server["id"].as_str().unwrap_or_default();
            let free = server["owner"].as_str().unwrap_or_default().is_empty() && server["hostname"] == "free.ds";
            if !free || is_ours(&server["notes"]) || rows(&server["ips"]).len() != 1 || group(&server["ip"]) != "parking" {
                left.push(format!("server {name}/{id} is not given back: {server}"));
            }
        }
        left.extend(rows(&panel["addresses"]).iter().filter(|a| is_ours(&a["note"])).map(|a| format!("address {a}")));
        left.extend(
            rows(&panel["licenses"]).iter().filter(|l| is_ours(&l["remoteId"]) && l["status"] != "3").map(|l| format!("licence {l}")),
        );
    }
    let open = world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null());
    left.extend(open.map(|t| format!("open task {}", t["metadata"]["name"])));
    left
}
