//! (7): an order that says that it is ready has the server that it asks for, and all that belongs to it, as the panels show them. What the
//! operator says is believed only where it says that something waits for the next installation.
//!
//! The simulation and the sweep share this. The sweep of the decisions (`assert_active` in `tests/core/core_support/sweep.rs`) asks the
//! same of a model of the panels that is no JSON.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kstatus;
use super::view::{self, list, text};

/// Whether something is as it should be, and what it is else.
type Row = (bool, String);

/// In what the server of an order that is ready is not as the order asks; nothing of any other order.
///
/// `by_hand`: whether a person changed this of the server (`notes`, `hostname`, `ip`), edited one of its order's `licenses`, or said that
/// it is `installed`. The lists do not show those, the operator leaves them as they are, or it is to believe what is said. Another owner, a
/// server or a licence that is gone, and another power are its to see: they count whoever did it.
pub fn unlike(order: &Value, panels: &Value, by_hand: impl Fn(&str) -> bool) -> Vec<String> {
    let current = order["status"]["observedGeneration"] == order["metadata"]["generation"];
    if !current || !kstatus::is_true(order, "Ready") || view::is_deleting(order) {
        return Vec::new();
    }
    let (name, id) = (view::name(order), text(&order["status"]["server"]["id"]));
    let Some(server) = view::servers(panels).into_iter().find(|server| server.id() == id) else {
        return vec![format!("order {name} is ready, and its server `{id}` is not there")];
    };
    let mut rows = owned(order, &server, &by_hand);
    if !by_hand("ip") {
        rows.extend(addressed(order, server.state));
    }
    rows.extend(running(order, server.state));
    if !by_hand("installed") {
        rows.extend(installed(order, server.state));
    }
    if !by_hand("licenses") {
        rows.extend(licensed(order, panels));
    }
    let wrong = rows.into_iter().filter(|(holds, _)| !holds);
    wrong.map(|(_, what)| format!("order {name} is ready, and of its server {id} {what}")).collect()
}

/// Owner, marker and domain.
fn owned(order: &Value, server: &view::Server<'_>, by_hand: &impl Fn(&str) -> bool) -> Vec<Row> {
    let (client, domain) = (&order["spec"]["client"]["username"], &order["spec"]["domain"]);
    let (owner, hostname, marks) = (&server.state["owner"], &server.state["hostname"], server.marks());
    let domains = list(&server.state["ips"]).iter().all(|row| row["domain"] == *domain);
    vec![
        (owner == client, format!("the owner is {owner}, not {client}")),
        (by_hand("notes") || marks == [view::order_id(order)], format!("the markers are {marks:?}")),
        (
            by_hand("hostname") || (hostname == domain && domains),
            format!("the domain is {hostname}, not {domain}: {}", server.state["ips"]),
        ),
    ]
}

/// Public addresses, as many as are asked for, and those that the status tells.
fn addressed(order: &Value, server: &Value) -> Vec<Row> {
    let ips: BTreeSet<&str> = list(&server["ips"]).iter().map(|row| text(&row["ip"])).collect();
    let told: BTreeSet<&str> = list(&order["status"]["server"]["addresses"]).iter().map(text).collect();
    let (v6, v4): (Vec<&str>, Vec<&str>) = ips.iter().copied().partition(|ip| ip.contains(':'));
    let asked = |family: &str, usual: u64| order["spec"]["addresses"][family].as_u64().unwrap_or(usual);
    let counted = v4.len() as u64 == asked("ipv4", 1) && v6.len() as u64 == asked("ipv6", 0);
    vec![
        (counted, format!("the addresses are {ips:?}, and it asks for {}", order["spec"]["addresses"])),
        (ips.iter().all(|ip| view::is_public(ip)), format!("not all of the addresses {ips:?} are public")),
        (ips == told, format!("the addresses are {ips:?}, and the status tells {told:?}")),
    ]
}

/// On, or off where the service is suspended, with its ports, and nothing going on.
fn running(order: &Value, server: &Value) -> Vec<Row> {
    let suspended = order["spec"]["suspended"] == true;
    let (power, phase) = if suspended { ("off", "Suspended") } else { ("on", "Active") };
    let said = order["status"]["phase"] == phase && kstatus::is_true(order, "Suspended") == suspended;
    let ports = list(&server["connections"]).iter().filter(|port| port["type"] == "Switch").all(|port| port["on"] == !suspended);
    vec![
        (said, format!("it says {}, and spec.suspended is {suspended}", order["status"]["phase"])),
        (server["power"] == power, format!("the power is {}, and spec.suspended is {suspended}", server["power"])),
        (
            server["flags"]["disabled"] == suspended,
            format!("`disabled` is {}, and spec.suspended {suspended}", server["flags"]["disabled"]),
        ),
        (ports, format!("the ports are {}, and spec.suspended is {suspended}", server["connections"])),
        (server["operation"].is_null(), format!("something goes on: {}", server["operation"])),
    ]
}

/// Template and recipes. What differs from the spec and says so waits for the next installation: it is what the last one asked for.
fn installed(order: &Value, server: &Value) -> Vec<Row> {
    // What was there before its order is the client's own.
    if order["spec"]["adopt"].is_object() {
        return Vec::new();
    }
    let (spec, status) = (&order["spec"], &order["status"]["server"]);
    let waits = kstatus::condition(order, "OSInstalled").is_some_and(|c| c["reason"] == "ReinstallPending");
    let (template, recipes) =
        if waits { (&status["template"], &status["recipes"]) } else { (&spec["operatingSystem"]["template"], &spec["recipes"]) };
    // With `readyWhen: OSInstalled` nobody waits for one that fails.
    let failed = list(&status["failedRecipes"]);
    let asked: BTreeSet<&str> = list(recipes).iter().filter(|recipe| !failed.contains(recipe)).map(text).collect();
    // One whose answer was lost may have run twice, since a person said so.
    let ran: BTreeSet<&str> = list(&server["invented"]["recipes"]).iter().map(text).collect();
    let there = &server["installed"]["template"];
    vec![
        (there == template, format!("the system is {there}, not {template}")),
        (ran == asked, format!("the recipes {ran:?} ran, not {asked:?}")),
    ]
}

/// One licence of each product, which runs unless the service is suspended, on the main address; and none that is not asked for.
fn licensed(order: &Value, panels: &Value) -> Vec<Row> {
    let id = view::order_id(order);
    let wanted: Vec<String> =
        list(&order["spec"]["licenses"]).iter().map(|license| format!("k8s:{id}/{}", text(&license["product"]))).collect();
    let (status, main) = (if order["spec"]["suspended"] == true { "3" } else { "2" }, &order["status"]["server"]["mainAddress"]);
    let one = |remote: &String| {
        let found: Vec<&Value> = view::licenses_of(panels, remote).collect();
        let good = found.len() == 1 && found.iter().all(|row| row["status"] == status && row["ip"] == *main);
        (good, format!("the licences {remote} are {found:?}, not one with status {status} on {main}"))
    };
    let spare = view::licenses(panels)
        .into_iter()
        .filter(|(_, remote, marks)| marks.iter().any(|mark| mark == id) && !wanted.iter().any(|asked| asked == remote));
    let spare = spare
        .map(|(license, remote, _)| (!view::runs(panels, license), format!("licence {license} runs as {remote}, which is not asked for")));
    wanted.iter().map(one).chain(spare).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An order that has all that it asks for, and the panels.
    fn world() -> (Value, Value) {
        let order = json!({
            "metadata": {"namespace": "shop", "name": "web", "uid": "u-1", "generation": 2},
            "spec": {
                "client": {"username": "acme"}, "domain": "web.example.net", "addresses": {"ipv4": 1, "ipv6": 1},
                "operatingSystem": {"template": "Debian"}, "recipes": ["nginx"], "licenses": [{"product": "Lite"}],
            },
            "status": {
                "observedGeneration": 2, "phase": "Active",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "OSInstalled", "status": "True", "reason": "Done"}],
                "server": {
                    "id": "17", "mainAddress": "203.0.113.9", "addresses": ["203.0.113.9", "2001:db8::1"],
                    "template": "Debian", "recipes": ["nginx"],
                },
            },
        });
        let row = |ip: &str| json!({"ip": ip, "domain": "web.example.net"});
        let server = json!({
            "id": "17", "owner": "acme", "notes": "k8s:c/shop/web/u-1", "hostname": "web.example.net", "power": "on",
            "ips": [row("203.0.113.9"), row("2001:db8::1")], "flags": {"disabled": false}, "operation": null,
            "connections": [{"type": "Switch", "on": true}, {"type": "IPMI", "on": true}],
            "installed": {"template": "Debian"}, "invented": {"recipes": ["nginx"]},
        });
        let licence = json!({"id": "7", "remoteId": "k8s:u-1/Lite", "status": "2", "ip": "203.0.113.9"});
        (order, json!({"panels": {"dci": {"servers": [server]}, "bill": {"licenses": [licence]}}}))
    }

    /// What is found where a place of the order, or of the panels, is something else.
    fn found(patches: &[(&str, Value)], by_hand: &[&str]) -> Vec<String> {
        let (mut order, mut panels) = world();
        for (path, value) in patches {
            let place = if path.starts_with("/panels") { panels.pointer_mut(path) } else { order.pointer_mut(path) };
            *place.unwrap_or_else(|| panic!("there is no {path}")) = value.clone();
        }
        unlike(&order, &panels, |what| by_hand.contains(&what))
    }

    fn at(field: &str) -> String {
        format!("/panels/dci/servers/0/{field}")
    }

    #[test]
    fn a_server_is_as_its_order_asks() {
        assert_eq!(found(&[], &[]), Vec::<String>::new());
        for (field, value) in [
            ("id", json!("18")),
            ("owner", json!("")),
            ("notes", json!("")),
            ("notes", json!("k8s:c/shop/web/u-1 k8s:c/shop/db/u-2")),
            ("hostname", json!("free.ds")),
            ("ips/1/domain", json!("free.ds")),
            ("ips/0/ip", json!("10.0.0.9")),
            ("ips/1/ip", json!("203.0.113.8")),
            ("ips/0/ip", json!("203.0.113.8")),
            ("power", json!("off")),
            ("flags/disabled", json!(true)),
            ("connections/0/on", json!(false)),
            ("operation", json!({"kind": "install"})),
            ("installed/template", json!("")),
            ("invented/recipes", json!([])),
        ] {
            let wrong = found(&[(at(field).as_str(), value.clone())], &[]);
            assert!(!wrong.is_empty(), "{field} is {value}");
        }
        for (field, value) in [("status", json!("3")), ("ip", json!("203.0.113.8")), ("remoteId", json!("k8s:u-1/Pro"))] {
            assert!(!found(&[(format!("/panels/bill/licenses/0/{field}").as_str(), value)], &[]).is_empty(), "{field}");
        }
        // Of what is not ready, or not up to date, nothing is said.
        for (path, value) in [("/metadata/generation", json!(3)), ("/status/conditions/0/status", json!("False"))] {
            assert!(found(&[(path, value), (at("owner").as_str(), json!(""))], &[]).is_empty(), "{path}");
        }
    }

    #[test]
    fn what_a_person_changed_is_left_as_it_is_where_nobody_sees_it() {
        for (field, value, hand) in [
            ("notes", json!(""), "notes"),
            ("hostname", json!("theirs.example.net"), "hostname"),
            ("ips/0/ip", json!("198.51.100.7"), "ip"),
            ("installed/template", json!(""), "installed"),
            ("invented/recipes", json!([]), "installed"),
        ] {
            assert!(found(&[(at(field).as_str(), value)], &[hand]).is_empty(), "{field}");
        }
        assert!(found(&[("/panels/bill/licenses/0/status", json!("3"))], &["licenses"]).is_empty());
        for (field, value) in [("owner", json!("other")), ("power", json!("off")), ("id", json!("18"))] {
            assert!(!found(&[(at(field).as_str(), value)], &["owner", "power", "delete", "installed"]).is_empty(), "{field}");
        }
    }

    #[test]
    fn a_suspended_service_is_off_and_a_change_may_wait_for_the_next_installation() {
        let mut suspended = vec![("/spec", world().0["spec"].clone()), ("/status/phase", json!("Suspended"))];
        suspended[0].1["suspended"] = true.into();
        let conditions = json!([{"type": "Ready", "status": "True"}, {"type": "Suspended", "status": "True"}]);
        suspended.push(("/status/conditions", conditions));
        assert!(!found(&suspended, &[]).is_empty(), "it runs");
        let (power, disabled, port) = (at("power"), at("flags/disabled"), at("connections/0/on"));
        let off = [(power.as_str(), json!("off")), (disabled.as_str(), json!(true)), (port.as_str(), json!(false))];
        let licence = [("/panels/bill/licenses/0/status", json!("3"))];
        assert_eq!(found(&[&suspended[..], &off[..], &licence[..]].concat(), &[]), Vec::<String>::new());
        let other = ("/spec/recipes", json!(["php"]));
        assert!(!found(std::slice::from_ref(&other), &[]).is_empty());
        assert!(found(&[other, ("/status/conditions/1/reason", json!("ReinstallPending"))], &[]).is_empty());
        // Nobody knows what an adopted server had.
        let mut spec = world().0["spec"].clone();
        spec["adopt"] = json!({"serverId": "17"});
        assert!(found(&[("/spec", spec), (at("installed/template").as_str(), json!("CentOS"))], &[]).is_empty());
    }
}
