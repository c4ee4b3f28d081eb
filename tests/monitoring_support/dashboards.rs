//! Grafana's dashboards of the chart: their queries, and what has to be true of their form.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// What narrows every query to some operators, where one Prometheus reads several. A scrape that adds no such labels matches too.
#[allow(dead_code, reason = "one of the two test programs that share this file")]
pub const NARROWED: &str = r#"cluster=~"$cluster",namespace=~"$namespace""#;
/// The variables of that, and the labels of the same names.
pub const OPERATORS: [&str; 2] = ["cluster", "namespace"];

/// A query of a panel.
pub struct Query {
    /// Dashboard, panel and letter.
    pub place: String,
    /// As it stands there.
    pub expression: String,
}

/// The dashboards by file.
pub fn all() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/dci-operator/files/dashboards");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let name = |file: &Path| file.file_stem().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|file| (name(file), serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Every query of every panel.
pub fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for (name, dashboard) in all() {
        for panel in list(&dashboard["panels"]).iter().filter(|p| p["type"] != "row") {
            assert!(!list(&panel["targets"]).is_empty(), "{name}: {} asks nothing", panel["title"]);
            for target in list(&panel["targets"]) {
                let place = format!("{name}: {} {}", panel["title"], target["refId"]);
                found.push(Query { place, expression: target["expr"].as_str().unwrap().to_owned() });
            }
        }
    }
    found
}

/// The queries that fill the variables: `label_values(METRIC, LABEL)`. Not those that are filled with what a scrape adds.
pub fn variables() -> Vec<Query> {
    let mut found = Vec::new();
    for (name, dashboard) in all() {
        for variable in list(&dashboard["templating"]["list"]).iter().filter(|v| v["type"] == "query") {
            if OPERATORS.iter().any(|operators| variable["name"] == *operators) {
                continue;
            }
            assert_eq!(variable["definition"], variable["query"]["query"], "{name}");
            let place = format!("{name}: variable {}", variable["name"]);
            found.push(Query { place, expression: variable["definition"].as_str().unwrap().to_owned() });
        }
    }
    found
}

/// A query as Grafana sends it with all variables at All; without the zero that is shown where there is nothing, which would answer
/// for a query that finds nothing.
#[allow(dead_code, reason = "one of the two test programs that share this file")]
pub fn filled(expression: &str) -> String {
    let filled = expression.replace("$__rate_interval", "1m").replace(" or vector(0)", "");
    let filled = ["$cluster", "$namespace", "$handler", "$order"].iter().fold(filled, |filled, name| filled.replace(name, ".*"));
    assert!(!filled.contains('$'), "a variable is left in {filled}");
    assert!(!filled.contains("vector("), "{filled} has an answer whatever is counted");
    filled
}

/// What Grafana would stumble over.
#[allow(dead_code, reason = "one of the two test programs that share this file")]
pub fn check(name: &str, dashboard: &Value) {
    assert_eq!(dashboard["uid"], format!("dci-operator-{name}"), "{name}");
    assert!(dashboard["id"].is_null(), "{name}: an id is given by Grafana");
    let variables: Vec<&Value> = list(&dashboard["templating"]["list"]).iter().collect();
    assert!(variables.iter().any(|v| v["name"] == "datasource" && v["type"] == "datasource" && v["query"] == "prometheus"), "{name}");
    for operators in OPERATORS {
        let variable = variables.iter().find(|v| v["name"] == operators).unwrap_or_else(|| panic!("{name}: no {operators}"));
        assert!(variable["multi"] == true && variable["includeAll"] == true && variable["current"]["value"] == "$__all", "{name}");
        // Series without the label have it empty.
        assert_eq!(variable["allValue"], ".*", "{name}: {operators}");
        let asked = if operators == "cluster" { "" } else { r#"{cluster=~"$cluster"}"# };
        assert_eq!(variable["query"]["query"], format!("label_values(dci_operator_leader{asked}, {operators})"), "{name}");
        assert_eq!(variable["definition"], variable["query"]["query"], "{name}");
    }
    let known: BTreeSet<&str> = variables.iter().map(|v| v["name"].as_str().unwrap()).chain(["__rate_interval"]).collect();
    let used = regex::Regex::new(r"\$\{?(\w+)").unwrap();
    for found in used.captures_iter(&dashboard.to_string()) {
        assert!(known.contains(&found[1]) || &found[1] == "__all", "{name}: variable {} is not defined", &found[1]);
    }
    let mut ids = BTreeSet::new();
    let mut covered = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().filter(|title| !title.is_empty()).unwrap_or_else(|| panic!("{name}: a panel without a title"));
        assert!(ids.insert(panel["id"].as_i64().unwrap()), "{name}: {title}: its id is another one's");
        let place = |side: &str| panel["gridPos"][side].as_i64().unwrap();
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(x >= 0 && w > 0 && h > 0 && x + w <= 24, "{name}: {title}: outside of the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(covered.insert(cell), "{name}: {title}: lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        let mut letters = BTreeSet::new();
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}: {title}");
            assert!(letters.insert(target["refId"].as_str().unwrap()), "{name}: {title}");
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title}: no unit");
    }
}
