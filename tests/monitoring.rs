//! Metrics, alerts and dashboards fit together: `docs/metrics.md` says what the code defines, every alert has a page, fires in its
//! incident and is quiet otherwise, and dashboards show nothing that is not counted. With `UPDATE_DOCS=1` (`make docs`) what is
//! generated is written anew.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dci_operator::controller::metrics::definitions;
use serde_json::Value;

#[path = "monitoring_support/alerts.rs"]
mod alerts_fire;
#[path = "monitoring_support/dashboards.rs"]
mod dashboards;
#[path = "monitoring_support/fleet.rs"]
mod fleet;
#[path = "monitoring_support/helm_test.rs"]
mod helm_test;
#[path = "monitoring_support/incidents.rs"]
mod incidents;

const RULES: &str = "charts/dci-operator/files/rules/dci-operator.yaml";
const RUNBOOKS: &str = "docs/runbooks";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// All alerts as they stand in the rules.
fn alerts() -> Vec<Value> {
    let rules: Value = serde_yaml::from_str(&text(RULES)).unwrap();
    rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The names of metrics that an expression reads; none of them may be unknown.
fn known_metrics(place: &str, expression: &str) -> BTreeSet<String> {
    let pattern = regex::Regex::new("dci_operator_[a-z_]+").unwrap();
    let read: BTreeSet<String> = pattern.find_iter(expression).map(|found| found.as_str().to_owned()).collect();
    for name in &read {
        let known = definitions().into_iter().any(|d| match d.kind {
            "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| *name == format!("{}{end}", d.name)),
            _ => *name == d.name,
        });
        assert!(known, "{place}: there is no metric {name}");
    }
    read
}

// --- the documentation ------------------------------------------------------------------------------------------------

fn block(file: &str, name: &str, wanted: &str) {
    let old = text(file);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (head, rest) = old.split_once(&begin).unwrap_or_else(|| panic!("{file} lacks the line {begin}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} lacks {end}"));
    let new = format!("{head}{begin}\n{}\n\n{end}{tail}", wanted.trim());
    if new != old {
        assert!(std::env::var_os("UPDATE_DOCS").is_some(), "{file}: the part `{name}` is not what the code says; write it anew: make docs");
        std::fs::write(path(file), new).unwrap();
    }
}

#[test]
fn every_metric_and_every_alert_is_documented() {
    let mut table = String::from("| Metric | Type | Labels | What it is |\n|---|---|---|---|\n");
    for metric in definitions() {
        let labels = if metric.labels.is_empty() { "–".into() } else { format!("`{}`", metric.labels.join("`, `")) };
        writeln!(table, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help.replace('|', "\\|")).unwrap();
    }
    block("docs/metrics.md", "metrics", &table);
    let mut table = String::from("| Alert | Severity | After | What it says |\n|---|---|---|---|\n");
    let label = regex::Regex::new(r"\{\{ \$labels\.(\w+) \}\}").unwrap();
    for alert in alerts() {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let (name, summary) = (word(&alert["alert"]), word(&alert["annotations"]["summary"]));
        let summary = label.replace_all(&summary, "*$1*").into_owned();
        writeln!(
            table,
            "| [`{name}`](runbooks/{name}.md) | {} | {} | {summary} |",
            word(&alert["labels"]["severity"]),
            word(&alert["for"])
        )
        .unwrap();
    }
    block("docs/metrics.md", "alerts", &table);
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let mut pages: BTreeSet<String> =
        std::fs::read_dir(path(RUNBOOKS)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let page = format!("{name}.md");
        assert!(pages.remove(&page), "{RUNBOOKS}/{page} is missing");
        assert_eq!(alert["annotations"]["runbook_url"], format!("{RUNBOOKS}/{page}"), "{name}");
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(alert["annotations"]["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        let (_, first) =
            alert["annotations"]["description"].as_str().unwrap().split_once("Look first: ").unwrap_or_else(|| panic!("{name}"));
        assert!(!known_metrics(name, alert["expr"].as_str().unwrap()).is_empty(), "{name}");
        let text = text(&format!("{RUNBOOKS}/{page}"));
        let mut from = 0;
        for heading in
            [&format!("# {name}\n"), "\n## What it means\n", "\n## What it does to clients\n", "\n## Finding the cause\n", "\n## Cure\n"]
        {
            let found = text[from..].find(heading).unwrap_or_else(|| panic!("{page}: no {heading:?} in its place"));
            from += found + heading.len();
        }
        // Where nobody can open a page, the alert itself has its first command; up to what it fills in.
        let command = text.split_once("```sh\n").unwrap_or_else(|| panic!("{page}: no command")).1.lines().next().unwrap();
        let fixed: Vec<&str> = first.split("{{").next().unwrap().split(' ').filter(|word| !["-A", ""].contains(word)).collect();
        assert!(fixed[0] == "kubectl" && fixed.iter().all(|word| command.contains(word)), "{page}: {command:?} is not {first:?}");
    }
    assert!(pages.is_empty(), "pages without an alert: {pages:?}");
}

// --- dashboards -------------------------------------------------------------------------------------------------------

#[test]
fn dashboards_are_whole_and_show_what_is_counted() {
    let all = dashboards::all();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fleet", "handler", "order"]);
    for (name, dashboard) in &all {
        dashboards::check(name, dashboard);
    }
    let metrics = regex::Regex::new(r"dci_operator_[a-z_]+").unwrap();
    let mut shown = BTreeSet::new();
    for query in dashboards::queries().into_iter().chain(dashboards::variables()) {
        let read = known_metrics(&query.place, &query.expression);
        assert!(!read.is_empty(), "{}: {}", query.place, query.expression);
        shown.extend(
            read.into_iter().map(|name| ["_bucket", "_sum", "_count"].iter().fold(name, |n, end| n.trim_end_matches(end).to_owned())),
        );
        labels_exist(&query);
        // What is asked of one metric, and what of another one that it is compared with, is asked of the same operators.
        for metric in metrics.find_iter(&query.expression) {
            let rest = &query.expression[metric.end()..];
            assert!(rest.starts_with(&format!("{{{}", dashboards::NARROWED)), "{}: {} of all operators", query.place, metric.as_str());
        }
    }
    // What is counted and shown nowhere is either not worth counting or missing there.
    let hidden: Vec<String> = definitions().into_iter().map(|d| d.name).filter(|name| !shown.contains(name)).collect();
    let wanted = ["dci_operator_build_info", "dci_operator_ipmanager_ready", "dci_operator_webhook_deliveries_total"];
    assert_eq!(hidden, wanted);
}

/// Labels in selectors, groups and legends are labels that some metric of the query has.
fn labels_exist(query: &dashboards::Query) {
    let read = known_metrics(&query.place, &query.expression);
    let has = |label: &str| {
        label == "le"
            || dashboards::OPERATORS.contains(&label)
            || definitions().iter().any(|d| read.iter().any(|name| name.starts_with(&d.name)) && d.labels.contains(&label))
    };
    let groups = regex::Regex::new(r"(?:by|on) \(([^)]*)\)").unwrap();
    let selectors = regex::Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)""#).unwrap();
    let grouped = groups.captures_iter(&query.expression).flat_map(|c| c[1].split(',').map(|l| l.trim().to_owned()).collect::<Vec<_>>());
    let selected = selectors.captures_iter(&query.expression).map(|c| c[1].to_owned());
    for label in grouped.chain(selected) {
        assert!(has(&label), "{}: no label {label} in {}", query.place, query.expression);
    }
}
