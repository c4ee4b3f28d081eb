//! Metrics, alerts and dashboards fit together: `docs/metrics.md` says what the code defines, every alert has a page, fires in its
//! incident and is quiet otherwise, and dashboards show nothing that is not counted. With `UPDATE_DOCS=1` (`make docs`) what is
//! generated is written anew.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dci_operator::controller::metrics::definitions;
use serde_json::{Value, json};

#[path = "monitoring_support/dashboards.rs"]
mod dashboards;
#[path = "monitoring_support/fleet.rs"]
mod fleet;
#[path = "monitoring_support/incidents.rs"]
mod incidents;

use fleet::Fleet;
use incidents::{BEGINS, INCIDENTS, Incident, OVER};

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
        for part in ["summary", "description"] {
            assert!(alert["annotations"][part].as_str().is_some_and(|text| !text.is_empty()), "{name}: {part}");
        }
        assert!(!known_metrics(name, alert["expr"].as_str().unwrap()).is_empty(), "{name}");
        let text = text(&format!("{RUNBOOKS}/{page}"));
        let mut from = 0;
        for heading in
            [&format!("# {name}\n"), "\n## What it means\n", "\n## What it does to clients\n", "\n## Finding the cause\n", "\n## Cure\n"]
        {
            let found = text[from..].find(heading).unwrap_or_else(|| panic!("{page}: no {heading:?} in its place"));
            from += found + heading.len();
        }
        assert!(text.contains("kubectl "), "{page}: no command");
    }
    assert!(pages.is_empty(), "pages without an alert: {pages:?}");
}

// --- alerts -----------------------------------------------------------------------------------------------------------

/// promtool; a test that needs it is counted as skipped where there is none.
fn promtool(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let found = found.map(|dir| dir.join("promtool")).find(|path| path.is_file());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs promtool): {test}");
    }
    found
}

/// Runs the real rules over what the registry showed; Prometheus itself says whether each alert is as it has to be.
fn evaluate(promtool: &Path, name: &str, minutes: i64, fleet: impl Fn(i64) -> Fleet, expected: &[Value]) {
    evaluate_series(promtool, name, &fleet::series(minutes, fleet), expected);
}

fn evaluate_series(promtool: &Path, name: &str, series: &[Value], expected: &[Value]) {
    assert!(series.iter().any(|s| s["series"].as_str().unwrap().contains("dci_operator_leader")), "{name}: nothing was scraped");
    let test = json!({
        "rule_files": [path(RULES)], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": expected}],
    });
    let file = std::env::temp_dir().join(format!("dci-operator-alerts-{}-{name}.yaml", std::process::id()));
    std::fs::write(&file, serde_yaml::to_string(&test).unwrap()).unwrap();
    let output = Command::new(promtool).args(["test", "rules"]).arg(&file).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {said}\n{}", file.display());
    std::fs::remove_file(&file).unwrap();
}

/// What an alert has to be at a minute: there with these labels and annotations, or not there.
fn expectation(minute: i64, alert: &str, there: Option<&Incident>) -> Value {
    let alerts: Vec<Value> = there
        .map(|incident| {
            let labels: serde_json::Map<String, Value> = incident.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
            json!({"exp_labels": labels, "exp_annotations": incident.annotations(minute)})
        })
        .into_iter()
        .collect();
    json!({"eval_time": format!("{minute}m"), "alertname": alert, "exp_alerts": alerts})
}

impl Incident {
    /// As the rule has them, filled in.
    fn annotations(&self, minute: i64) -> Value {
        let alert = alerts().into_iter().find(|a| a["alert"] == self.alert).unwrap();
        let mut annotations = alert["annotations"].clone();
        for (_, text) in annotations.as_object_mut().unwrap() {
            let mut filled = text.as_str().unwrap().to_owned();
            for (name, value) in self.labels {
                filled = filled.replace(&format!("{{{{ $labels.{name} }}}}"), value);
            }
            filled = filled.replace("{{ $value }}", self.value).replace("{{ $value | humanizeDuration }}", &(self.duration)(minute));
            assert!(!filled.contains("{{"), "{}: {filled}", self.alert);
            *text = filled.into();
        }
        assert_eq!(annotations["summary"], self.summary);
        let description = annotations["description"].as_str().unwrap();
        assert!(description.contains(self.description), "{}: {description}", self.alert);
        annotations
    }
}

#[test]
fn each_alert_fires_in_its_incident_and_in_no_other() {
    let Some(promtool) = promtool("each_alert_fires_in_its_incident_and_in_no_other") else { return };
    let names: Vec<String> = alerts().iter().map(|a| a["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, INCIDENTS.map(|i| i.alert), "one incident for each alert, in the order of the rules");
    for incident in &INCIDENTS {
        let mut expected = Vec::new();
        let fires = BEGINS + incident.after;
        for minute in [BEGINS - 1, fires - 1, fires, OVER - 1, OVER + 6, 119] {
            let there = (fires..OVER).contains(&minute);
            expected.extend(names.iter().map(|name| expectation(minute, name, (there && name == incident.alert).then_some(incident))));
        }
        let fleet = |minute| {
            let mut fleet = Fleet::default();
            if (BEGINS..OVER).contains(&minute) {
                (incident.happens)(&mut fleet, minute);
            }
            fleet
        };
        evaluate(&promtool, incident.alert, 120, fleet, &expected);
    }
}

#[test]
fn everyday_life_raises_no_alert() {
    let Some(promtool) = promtool("everyday_life_raises_no_alert") else { return };
    let expected: Vec<Value> =
        (0..120).flat_map(|minute| alerts().into_iter().map(move |a| expectation(minute, a["alert"].as_str().unwrap(), None))).collect();
    let fleet = |minute| {
        let mut fleet = Fleet::default();
        incidents::everyday(&mut fleet, minute);
        fleet
    };
    evaluate(&promtool, "everyday", 120, fleet, &expected);
}

/// Where one Prometheus reads several, none hides another one's end, however that looks.
#[test]
fn each_operator_is_missed_by_itself() {
    let Some(promtool) = promtool("each_operator_is_missed_by_itself") else { return };
    let down = &INCIDENTS[0];
    assert_eq!(down.alert, "DciOperatorDown");
    let expected = |minute: i64, namespaces: &[&str]| {
        let alert = |namespace: &&str| {
            let mut labels = json!({"severity": "critical"});
            if !namespace.is_empty() {
                labels["namespace"] = (*namespace).into();
            }
            json!({"exp_labels": labels, "exp_annotations": down.annotations(minute)})
        };
        json!({"eval_time": format!("{minute}m"), "alertname": down.alert, "exp_alerts": namespaces.iter().map(alert).collect::<Vec<_>>()})
    };
    let leader = |namespace: &str, instance: &str, values: &str| {
        let series = format!("dci_operator_leader{{namespace=\"{namespace}\",instance=\"{instance}\"}}");
        json!({"series": series, "values": values})
    };
    // Of one everything is gone after twenty minutes; one stands by and never works; of one the replicas change places.
    let gone = leader("gone", "1", "1+0x19 stale");
    let (first, second) = (leader("works", "3", "1+0x29 stale _x2 0+0x900"), leader("works", "4", "0+0x31 1+0x900"));
    let several = [gone.clone(), leader("idle", "2", "0+0x900"), first, second];
    let told = [
        expected(19, &["idle"]),
        expected(24, &["idle"]),
        expected(25, &["gone", "idle"]),
        expected(31, &["gone", "idle"]),
        expected(37, &["gone", "idle"]),
        expected(370, &["gone", "idle"]),
        expected(400, &["idle"]),
    ];
    evaluate_series(&promtool, "several", &several, &told);
    // Alone it is missed for ever, and not taken back in between.
    let told = [expected(300, &["gone"]), expected(330, &["gone", ""]), expected(385, &[""]), expected(900, &[""])];
    evaluate_series(&promtool, "alone", &[gone], &told);
}

/// The test above would also pass if promtool looked at nothing.
#[test]
fn an_incident_that_is_not_expected_is_found() {
    let Some(promtool) = promtool("an_incident_that_is_not_expected_is_found") else { return };
    let wrong = std::panic::catch_unwind(|| {
        let down = |_| Fleet { leads: false, ..Fleet::default() };
        evaluate(&promtool, "unexpected", 30, down, &[expectation(20, "DciOperatorDown", None)]);
    });
    let said = *wrong.expect_err("the alert fires").downcast::<String>().unwrap();
    assert!(said.contains("DciOperatorDown") && said.contains("exp:[]"), "{said}");
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
    let mut shown = BTreeSet::new();
    for query in dashboards::queries().into_iter().chain(dashboards::variables()) {
        let read = known_metrics(&query.place, &query.expression);
        assert!(!read.is_empty(), "{}: {}", query.place, query.expression);
        shown.extend(
            read.into_iter().map(|name| ["_bucket", "_sum", "_count"].iter().fold(name, |n, end| n.trim_end_matches(end).to_owned())),
        );
        labels_exist(&query);
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
        label == "le" || definitions().iter().any(|d| read.iter().any(|name| name.starts_with(&d.name)) && d.labels.contains(&label))
    };
    let groups = regex::Regex::new(r"(?:by|on) \(([^)]*)\)").unwrap();
    let selectors = regex::Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)""#).unwrap();
    let grouped = groups.captures_iter(&query.expression).flat_map(|c| c[1].split(',').map(|l| l.trim().to_owned()).collect::<Vec<_>>());
    let selected = selectors.captures_iter(&query.expression).map(|c| c[1].to_owned());
    for label in grouped.chain(selected) {
        assert!(has(&label), "{}: no label {label} in {}", query.place, query.expression);
    }
}
