//! What panels, forms and objects say, read in one way: servers, markers, notes, orders.

use std::collections::BTreeMap;

use serde_json::Value;

/// Finalizer of an order.
pub const FINALIZER: &str = "dci-operator.dev/release-server";
/// The annotation with the order's first uid.
pub const ORDER_ID: &str = "dci-operator.dev/order-id";

/// A text, or nothing.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The members of a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The order ids of the markers in a text: `k8s:<cluster>/<namespace>/<name>/<order id>` in notes of servers, `k8s:<order id>` in
/// those of addresses, `k8s:<order id>/<product>` in remote ids of licences.
pub fn marks(text: &str) -> Vec<String> {
    let ends = |c: char| c.is_whitespace() || c.is_control() || ['"', '\'', '\\', '<', '>', '&', ','].contains(&c);
    let mut found: Vec<String> = Vec::new();
    for rest in text.split("k8s:").skip(1) {
        let token = rest.split(ends).next().unwrap_or_default();
        let parts: Vec<&str> = token.split('/').collect();
        let id = if parts.len() == 4 { parts[3] } else { parts[0] };
        if !id.is_empty() && !found.iter().any(|f| f == id) {
            found.push(id.to_owned());
        }
    }
    found
}

/// A server of a panel.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    pub panel: &'a str,
    pub state: &'a Value,
}

impl<'a> Server<'a> {
    pub fn id(&self) -> &'a str {
        text(&self.state["id"])
    }

    /// The order ids in its notes.
    pub fn marks(&self) -> Vec<String> {
        marks(text(&self.state["notes"]))
    }

    /// Free: nobody's, without a marker, nothing going on, nothing wrong with it.
    pub fn is_free(&self) -> bool {
        let flagged = self.state["flags"].as_object().into_iter().flatten().any(|(_, set)| *set == true);
        text(&self.state["owner"]).is_empty()
            && self.state["hostname"] == "free.ds"
            && self.state["operation"].is_null()
            && !flagged
            && self.marks().is_empty()
    }
}

/// Addresses for parking are private ones.
pub fn is_public(ip: &str) -> bool {
    !ip.starts_with("10.")
}

/// The servers of all panels.
pub fn servers(panels: &Value) -> Vec<Server<'_>> {
    let all = panels["panels"].as_object().into_iter().flatten();
    all.flat_map(|(panel, state)| list(&state["servers"]).iter().map(move |state| Server { panel, state })).collect()
}

/// Rows of all panels, with the panel's name.
fn rows<'a>(panels: &'a Value, what: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let all = panels["panels"].as_object().into_iter().flatten();
    all.flat_map(move |(panel, state)| list(&state[what]).iter().map(move |row| (panel.as_str(), row)))
}

/// Every address that is taken, with the orders that it is noted for.
pub fn addresses(panels: &Value) -> Vec<(&str, Vec<String>)> {
    rows(panels, "addresses").map(|(_, row)| (text(&row["ip"]), marks(text(&row["note"])))).collect()
}

/// Every address that stands on servers, with those servers.
pub fn on_servers(panels: &Value) -> BTreeMap<&str, Vec<Server<'_>>> {
    let mut found: BTreeMap<&str, Vec<Server<'_>>> = BTreeMap::new();
    for server in servers(panels) {
        for row in list(&server.state["ips"]) {
            found.entry(text(&row["ip"])).or_default().push(server);
        }
    }
    found
}

/// The addresses and licences that an order has noted as its own.
pub fn possessions(order: &Value) -> Vec<String> {
    let status = &order["status"];
    let addresses = list(&status["server"]["addresses"]).iter().map(text);
    let licenses = list(&status["licenses"]).iter().map(|row| text(&row["id"])).filter(|id| !id.is_empty());
    addresses.map(|ip| format!("address {ip}")).chain(licenses.map(|id| format!("licence {id}"))).collect()
}

/// Every licence: id, remote id, and the orders that it says.
pub fn licenses(panels: &Value) -> Vec<(&str, &str, Vec<String>)> {
    rows(panels, "licenses").map(|(_, row)| (text(&row["id"]), text(&row["remoteId"]), marks(text(&row["remoteId"])))).collect()
}

/// The licences with this remote id.
pub fn licenses_of<'a>(panels: &'a Value, remote: &'a str) -> impl Iterator<Item = &'a Value> {
    rows(panels, "licenses").map(|(_, row)| row).filter(move |row| row["remoteId"] == remote)
}

/// Every client's user with panel and id, and what must not change of it. Whose passwords people change are administrators.
pub fn users(panels: &Value) -> BTreeMap<(String, String), String> {
    let told = |row: &Value| format!("{} {} {}", text(&row["name"]), row["level"], text(&row["passwordSha256"]));
    let client = |(_, row): &(&str, &Value)| row["level"].as_u64().is_none_or(|level| level < 29);
    rows(panels, "users").filter(client).map(|(panel, row)| ((panel.to_owned(), text(&row["id"]).to_owned()), told(row))).collect()
}

/// The order id of an order.
pub fn order_id(order: &Value) -> &str {
    let own = text(&order["metadata"]["uid"]);
    order["metadata"]["annotations"][ORDER_ID].as_str().unwrap_or(own)
}

/// Namespace and name.
pub fn name(object: &Value) -> String {
    format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

/// The server that an order has, or is about to take.
pub fn server_of(order: &Value) -> Option<&str> {
    let status = &order["status"];
    status["server"]["id"].as_str().or_else(|| status["inFlight"]["target"].as_str()?.strip_prefix("server/"))
}

/// An order that is on its way out.
pub fn is_deleting(order: &Value) -> bool {
    order["metadata"]["deletionTimestamp"].is_string()
}

/// Somebody gave the release of an order up; it is recorded. A department may have given up something else of it before.
pub fn is_abandoned(order: &Value) -> bool {
    gave_up(order, "Release")
}

/// Somebody gave up to take the licences of an order back.
pub fn are_licenses_abandoned(order: &Value) -> bool {
    gave_up(order, "RevokeLicenses")
}

fn gave_up(order: &Value, step: &str) -> bool {
    let skipped = |s: &Value| s["name"] == step && s["state"] == "Skipped";
    let status = &order["status"];
    list(&status["steps"]).iter().any(skipped) && list(&status["manualTasks"]).iter().any(|task| task["state"] == "Abandon")
}

/// A licence that is not suspended: only such a one costs, and that one may keep the remote id of an order that is gone.
pub fn runs(panels: &Value, id: &str) -> bool {
    rows(panels, "licenses").any(|(_, row)| row["id"] == id && row["status"] != "3")
}

/// What carries an order's marker.
pub fn left(panels: &Value, id: &str) -> Vec<String> {
    let has = |marks: &[String]| marks.iter().any(|mark| mark == id);
    let servers = servers(panels).into_iter().filter(|s| has(&s.marks())).map(|s| format!("server {}/{}", s.panel, s.id()));
    let addresses = addresses(panels).into_iter().filter(|(_, marks)| has(marks)).map(|(ip, _)| format!("address {ip}"));
    let licenses = licenses(panels).into_iter().filter(|(id, _, marks)| has(marks) && runs(panels, id));
    let licenses = licenses.map(|(id, ..)| format!("licence {id}"));
    servers.chain(addresses).chain(licenses).collect()
}

/// The fields of a form as it is sent (`application/x-www-form-urlencoded`).
pub fn form(body: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    body.split('&').filter(|p| !p.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (byte, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                bytes.push(digit(*high).unwrap_or(0) * 16 + digit(*low).unwrap_or(0));
                rest = after;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn markers_and_forms_are_read() {
    assert_eq!(marks("old notes k8s:c/shop/web/id-1\n"), ["id-1"]);
    assert_eq!(marks(r#""notes":{"$":"k8s:c/shop/web/id-1\nk8s:c/shop/web/id-2"}"#), ["id-1", "id-2"]);
    assert_eq!(marks("k8s:id-1 k8s:id-1"), ["id-1"]);
    assert_eq!(marks("k8s:id-1/ISPmanager6Lite"), ["id-1"]);
    assert!(marks("nothing of ours").is_empty());
    let read = form("func=server.edit&notes=k8s%3Ac%2Fn%2Fm%2Fid+x&sok=ok");
    assert_eq!((read["notes"].as_str(), read["sok"].as_str()), ("k8s:c/n/m/id x", "ok"));
}
