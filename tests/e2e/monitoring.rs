//! What a running operator counts: every metric of the table and no other, and something for every panel of the dashboards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dci_operator::controller::metrics::definitions;
use serde_json::json;

use super::support::World;
use super::support::hooks::Receiver;
use super::support::objects::{PANEL_PASSWORD, POOL_PASSWORD, secret};
use super::support::prometheus::{Prometheus, program};

#[path = "../monitoring_support/dashboards.rs"]
mod dashboards;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dci-operator/files/rules/dci-operator.yaml");
const HOOK_SECRET: &str = "hook-secret-8Vd3";

/// A licence server, a department that is told by webhook.
async fn start() -> (World, Receiver) {
    let receiver = Receiver::start(HOOK_SECRET, &[]).await;
    let mut world = super::licenses::start(&json!({}), &json!({})).await;
    world.keep_secret(HOOK_SECRET);
    world.create(&world.provider, secret("hooks", &json!({"hmac": HOOK_SECRET}))).await;
    let operations = json!({"name": "Operations", "webhook": {"url": receiver.url, "secretRef": {"name": "hooks", "key": "hmac"}}});
    let patch = json!({"spec": {"departments": {"operations": operations}, "retry": {"maxAttempts": 1}}});
    world.patch("ProcessingHandler", "msk-1", &patch).await;
    (world, receiver)
}

/// Two clients get their servers; a third one's installation fails, so that a department is asked; for a fourth no server is left.
async fn work(world: &mut World) {
    world.order("web-01", &json!({"licenses": [{"product": "Lite"}]})).await;
    world.until_active("web-01").await;
    world.order("web-02", &json!({"configuration": {"serverType": "E5-64G"}})).await;
    world.until_active("web-02").await;
    // An SLA that is soon over.
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"timeouts": {"step": "1s"}}})).await;
    world.order("web-03", &json!({"operatingSystem": {"template": "ISPsystem__Broken-1"}})).await;
    world.until_order("web-03", "a department is asked", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    world.order("web-04", &json!({})).await;
    world.until_order("web-04", "no server is left", |o| o["status"]["waitingOn"]["kind"] == "Capacity").await;
}

/// Labels of each sample, by the name of its metric as it stands in the table.
fn shown(page: &str) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    let label = regex::Regex::new(r#"(\w+)="(?:[^"\\]|\\.)*""#).unwrap();
    let histograms: Vec<String> = definitions().into_iter().filter(|d| d.kind == "histogram").map(|d| d.name).collect();
    let mut found: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap();
        let name = &line[..end];
        let histogram = histograms.iter().find(|h| ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{h}{end}")));
        let labels = label.captures_iter(line).map(|c| c[1].to_owned()).filter(|l| histogram.is_none() || l != "le").collect();
        found.entry(histogram.cloned().unwrap_or_else(|| name.to_owned())).or_default().insert(labels);
    }
    found
}

#[tokio::test]
async fn a_run_shows_every_metric_of_the_table_and_no_other() {
    let (mut world, receiver) = start().await;
    work(&mut world).await;
    let wanted: BTreeMap<String, BTreeSet<Vec<String>>> = definitions()
        .into_iter()
        .map(|d| (d.name, BTreeSet::from([d.labels.iter().map(ToString::to_string).collect::<Vec<String>>()])))
        .collect();
    let began = Instant::now();
    let page = loop {
        let operator = world.operator.as_ref().unwrap();
        let (code, page) = operator.page(operator.metrics, "/metrics").await;
        assert_eq!(code, 200);
        // Gauges are counted every five seconds.
        if shown(&page).len() >= wanted.len() || began.elapsed() > Duration::from_mins(1) {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let found = shown(&page);
    let missing: Vec<&String> = wanted.keys().filter(|name| !found.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{page}");
    assert_eq!(found, wanted, "{page}");
    let types: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let defined = definitions().into_iter().map(|d| (d.name.trim_end_matches("_total").to_owned(), d.kind.to_owned()));
    assert_eq!(types, defined.collect());
    for name in [&world.shop, "acme", "example.net", "203.0.113."] {
        let told: Vec<&str> = page.lines().filter(|l| l.contains(name) && !l.starts_with("dci_operator_order_step_age_seconds")).collect();
        let told: Vec<&&str> = told.iter().filter(|l| !l.starts_with("dci_operator_watch_age_seconds")).collect();
        assert!(told.is_empty(), "{name} stands in {told:#?}");
    }
    assert!([HOOK_SECRET, PANEL_PASSWORD, POOL_PASSWORD].iter().all(|secret| !page.contains(*secret)));
    assert!(receiver.told().len() <= 2);
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"timeouts": {"step": "20s"}}})).await;
    // What is gone leaves the page: the handler, with all that was counted for it.
    for name in ["web-01", "web-02", "web-03", "web-04"] {
        world.delete("DedicatedServerOrder", name).await;
    }
    for name in ["web-01", "web-02", "web-03", "web-04"] {
        world.until_gone(name).await;
    }
    world.delete("ProcessingHandler", "msk-1").await;
    let key = format!("{}/msk-1", world.provider);
    let began = Instant::now();
    loop {
        let operator = world.operator.as_ref().unwrap();
        let (_, page) = operator.page(operator.metrics, "/metrics").await;
        // Objects that are gone stand in no queue.
        let queued = |line: &str| line.starts_with("dci_operator_queue_depth{") && line.contains("\"queued\"") && !line.ends_with(" 0");
        let left: Vec<&str> = page.lines().filter(|line| line.contains(&key) || queued(line)).collect();
        if left.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{left:#?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    world.end().await;
}

#[tokio::test]
async fn every_panel_of_the_dashboards_has_something_to_show() {
    let Some(program) = program("every_panel_of_the_dashboards_has_something_to_show") else { return };
    let (mut world, _receiver) = start().await;
    let prometheus = Prometheus::start(program, world.operator.as_ref().unwrap().metrics, RULES).await;
    work(&mut world).await;
    // What happens in a moment is shown for a minute: each query has to have an answer at some time, not all of them at once.
    let (mut queries, mut variables) = (dashboards::queries(), dashboards::variables());
    assert!(queries.len() > 40, "{}", queries.len());
    let began = Instant::now();
    loop {
        let mut empty = Vec::new();
        for query in std::mem::take(&mut queries) {
            if prometheus.query(&dashboards::filled(&query.expression)).await.is_empty() {
                empty.push(query);
            }
        }
        let mut unfilled = Vec::new();
        for variable in std::mem::take(&mut variables) {
            let filled = dashboards::filled(&variable.expression);
            let (metric, label) = filled.strip_prefix("label_values(").unwrap().trim_end_matches(')').rsplit_once(", ").unwrap();
            if !prometheus.query(metric).await.iter().any(|series| series["metric"][label].is_string()) {
                unfilled.push(variable);
            }
        }
        (queries, variables) = (empty, unfilled);
        if queries.is_empty() && variables.is_empty() {
            break;
        }
        let left = || queries.iter().chain(&variables).map(|q| format!("{}: {}", q.place, q.expression)).collect::<Vec<_>>().join("\n");
        assert!(began.elapsed() < Duration::from_secs(90), "nothing is shown by:\n{}", left());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let rules = prometheus.get("rules").await;
    let rules: Vec<_> = rules["data"]["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap().clone()).collect();
    assert_eq!(rules.len(), 12);
    for rule in rules {
        assert!(rule["health"] == "ok" && rule["lastError"].is_null(), "{rule}");
    }
    world.end().await;
}
