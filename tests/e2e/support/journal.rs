//! What was asked of the simulated panels, as short lines.

use std::collections::BTreeMap;

use serde_json::Value;

use super::World;

/// Parameters that a line shows.
const SHOWN: [&str; 9] = ["name", "owner", "notes", "ip", "iptype", "domain", "note", "ostemplate", "recipe"];

/// A change as one line: panel, function, target, what stands in it, and what became of it unless it was applied.
pub fn line(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let func = text("func");
    let shown = SHOWN.iter().filter(|name| func != "server.edit" || ["owner", "notes"].contains(name)).filter_map(|name| {
        let value = entry["params"][name].as_str()?;
        Some(format!(" {name}={value}"))
    });
    let outcome = if text("outcome") == "applied" { String::new() } else { format!(" {}", text("outcome")) };
    let lost = if entry["delivered"] == true { "" } else { " (answer lost)" };
    format!("{} {func} {}{}{outcome}{lost}", text("panel"), text("target"), shown.collect::<String>())
}

impl World {
    /// Every change that was asked for, in order; names of this run are replaced by `shop` and `ID`.
    pub fn changes(&self) -> Vec<String> {
        self.sim.journal(0).iter().map(|entry| self.neutral(&line(entry))).collect()
    }

    /// A text without the names of this run.
    pub fn neutral(&self, text: &str) -> String {
        self.record.ids().iter().fold(text.replace(&self.shop, "shop"), |text, id| text.replace(id, "ID"))
    }

    /// The functions of the changes that were made, in order.
    pub fn made(&self) -> Vec<String> {
        let made = self.sim.journal(0).into_iter().filter(|entry| entry["outcome"] == "applied");
        made.map(|entry| entry["func"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// How many changes with this function were asked for.
    pub fn asked(&self, func: &str) -> usize {
        self.sim.journal(0).iter().filter(|entry| entry["func"] == func).count()
    }

    /// Whether any change was asked for a server or its addresses.
    pub fn touched(&self, server: u64) -> bool {
        let (whole, part) = (server.to_string(), format!("{server}/"));
        let of_it = |entry: &Value| entry["target"].as_str().is_some_and(|target| target == whole || target.starts_with(&part));
        self.sim.journal(0).iter().any(|entry| entry["panel"] == "dci" && of_it(entry))
    }

    /// A server is free again, and no address is noted as ours any more.
    pub fn assert_released(&self, id: u64) {
        self.assert_server_released(id);
        let ours: Vec<_> = self.taken().into_iter().filter(|(_, note)| note.contains("k8s:")).collect();
        assert!(ours.is_empty(), "addresses are still noted as ours: {ours:?}");
    }

    /// A server is nobody's, with a parking address, and without a trace of ours.
    pub fn assert_server_released(&self, id: u64) {
        let server = self.server(id);
        let free = server["owner"].as_str().unwrap_or_default().is_empty() && server["hostname"] == "free.ds";
        assert!(free && !server["notes"].as_str().unwrap().contains("k8s:"), "server {id} is not free: {server}");
        assert!(server["ips"].as_array().unwrap().len() == 1 && server["ip"].as_str().unwrap().starts_with("10."), "{server}");
    }

    /// A person does something behind the panels, through `/_sim`.
    pub async fn behind(&self, path: &str, body: &Value) {
        let url = format!("{}/{path}", self.sim.url("sim").unwrap());
        let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        let answer = client.post(url).body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap_or_default());
    }

    /// A person takes a server out of the panel.
    pub async fn vanish(&self, id: u64) {
        let url = format!("{}/servers/{id}", self.sim.url("sim").unwrap());
        let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        assert!(client.delete(url).send().await.unwrap().status().is_success());
    }

    /// How often a function of a panel was called, reads included.
    pub fn requests(&self, panel: &str, func: &str) -> u64 {
        self.sim.requests()[panel][func].as_u64().unwrap_or(0)
    }

    /// All requests to a panel, by function.
    pub fn request_counts(&self, panel: &str) -> BTreeMap<String, u64> {
        serde_json::from_value(self.sim.requests()[panel].clone()).unwrap_or_default()
    }

    /// A server as the panel has it.
    pub fn server(&self, id: u64) -> Value {
        let state = self.sim.state();
        let servers = state["panels"]["dci"]["servers"].as_array().cloned().unwrap_or_default();
        servers
            .into_iter()
            .find(|server| server["id"].as_str() == Some(id.to_string().as_str()))
            .unwrap_or_else(|| panic!("there is no server {id}"))
    }

    /// What stands in a field of a server's form: a part by its name.
    pub fn parts(&self, id: u64, field: &str) -> String {
        self.server(id)["hardware"][field].as_str().unwrap_or_default().to_owned()
    }

    /// The addresses that are taken at the address manager, with their notes.
    pub fn taken(&self) -> BTreeMap<String, String> {
        let state = self.sim.state();
        let rows = state["panels"]["ipm"]["addresses"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.iter().map(|row| (text(&row["ip"]), text(&row["note"]))).collect()
    }
}
