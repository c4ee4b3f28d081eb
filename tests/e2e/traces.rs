//! Traces and logs: one trace for each step over reconciles and processes, its id in log lines and events; a filter that changes.

use std::collections::BTreeSet;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use super::support::collector::{Collector, attribute, hex};
use super::support::{Setup, World};

fn setup(collector: &Collector, more: &[&str]) -> Setup {
    let mut args = vec![format!("--otlp-endpoint={}", collector.url)];
    args.extend(more.iter().map(ToString::to_string));
    Setup { args, ..Setup::dci(&json!({"durations": {"install": "12s"}})) }
}

/// The spans of a step, whichever trace they are in.
fn of_step(spans: &[Span], step: &str) -> Vec<Span> {
    spans.iter().filter(|s| attribute(s, "step").as_deref() == Some(step)).cloned().collect()
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|s| s.name == name).collect()
}

/// The operator's log lines, which are JSON, without those that other processes of the test wrote.
fn lines(world: &World) -> Vec<Value> {
    world.log.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test]
async fn a_step_is_one_trace_over_reconciles_and_processes() {
    let collector = Collector::start().await;
    let mut world = World::start(setup(&collector, &["--log-format=json"])).await;
    world.order("web-01", &json!({})).await;
    // Killed in the middle of the step, after something of it was exported.
    world.until("the installation is in a trace", |_| named(&collector.spans(), "install").first().map(|_| ())).await;
    let before = of_step(&collector.spans(), "InstallOS").len();
    world.kill_and_restart().await;
    world.until_active("web-01").await;
    world.until("the end of the last step", |_| named(&collector.spans(), "HandOver").first().map(|_| ())).await;
    let spans = collector.spans();

    let install = of_step(&spans, "InstallOS");
    let traces: BTreeSet<String> = install.iter().map(|s| hex(&s.trace_id)).collect();
    assert_eq!(traces.len(), 1, "one trace: {install:#?}");
    let trace = traces.into_iter().next().unwrap();
    let [root] = named(&install, "InstallOS")[..] else { panic!("one root: {install:#?}") };
    assert!(root.parent_span_id.is_empty(), "{root:#?}");
    let order = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    let step = order["status"]["steps"].as_array().unwrap().iter().find(|s| s["name"] == "InstallOS").unwrap().clone();
    let at = |field: &str| step[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_nanosecond();
    assert_eq!((i128::from(root.start_time_unix_nano), i128::from(root.end_time_unix_nano)), (at("startedAt"), at("finishedAt")));
    assert!(named(&install, "reconcile").len() >= 2, "every reconcile: {install:#?}");
    assert!(install.len() > before, "of both processes");
    let [call] = named(&install, "install")[..] else { panic!("asked for once: {install:#?}") };
    assert_eq!((attribute(call, "outcome").as_deref(), attribute(call, "server").as_deref()), (Some("applied"), Some("17")));
    // Nothing hangs in the air but what the killed process had not sent yet: it stands below the root, whose id is known.
    let ids: BTreeSet<&[u8]> = install.iter().map(|s| s.span_id.as_slice()).collect();
    let below_root = install.iter().filter(|s| s.parent_span_id == root.span_id).count();
    assert!(below_root >= 2, "{install:#?}");
    let after_restart: Vec<&Span> = install.iter().rev().take(install.len() - before).collect();
    for span in after_restart.iter().filter(|s| !s.parent_span_id.is_empty()) {
        assert!(ids.contains(span.parent_span_id.as_slice()), "{span:#?}");
    }

    // Each step that was not skipped has a trace of its own, and a root.
    let mut all = BTreeSet::new();
    for step in order["status"]["steps"].as_array().unwrap().iter().filter(|s| s["state"] == "Done") {
        let name = step["name"].as_str().unwrap();
        let [root] = named(&spans, name)[..] else { panic!("one root of {name}") };
        assert!(all.insert(hex(&root.trace_id)), "{name} has a trace of its own");
    }
    assert!(all.len() >= 5, "{all:?}");
    // Found from the log, and from events.
    let said = lines(&world);
    let asked = said.iter().find(|l| l["fields"]["message"] == "calling the panel" && l["fields"]["call"] == "install").unwrap();
    assert_eq!(asked["span"]["trace_id"], json!(trace), "{asked}");
    assert!(said.iter().all(|l| l["level"].is_string() && l["timestamp"].is_string()));
    let events: Api<Event> = Api::namespaced(world.kube.clone(), &world.shop);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let done = events.iter().find(|e| e.reason.as_deref() == Some("InstallOSDone")).unwrap();
    assert_eq!(done.metadata.annotations.as_ref().and_then(|a| a.get("dci-operator.dev/trace-id")), Some(&trace));

    // Stopped in order, what is left is sent; and where there is no order to look at, there is no trace.
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    let (status, _) = world.operator.take().unwrap().terminate().await;
    assert!(status.success());
    assert_eq!(named(&collector.spans(), "Release").len(), 1);
    assert!(collector.spans().iter().all(|s| attribute(s, "step").is_some()), "nothing but steps");
    world.end().await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_traces_and_nothing_else() {
    let gone = Collector::start().await;
    let setup = setup(&gone, &[]);
    drop(gone);
    let mut world = World::start(setup).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.until("it is told", |world| world.said("the collector does not take traces").then_some(())).await;
    let (status, took) = world.operator.take().unwrap().terminate().await;
    assert!(status.success() && took.as_secs() < 8, "{took:?}");
    world.end().await;
}

#[tokio::test]
async fn what_is_logged_changes_while_it_runs() {
    let file = std::env::temp_dir().join(format!("dci-operator-e2e-filter-{}", std::process::id()));
    std::fs::write(&file, "# as it was started\n").unwrap();
    let args = vec![format!("--log-filter-file={}", file.display())];
    let mut world = World::start(Setup { args, ..Setup::default() }).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    assert!(!world.said("TRACE"));
    std::fs::write(&file, "# somebody looks closer\ndci_operator=trace\n").unwrap();
    world.until("what panels answer is logged", |world| (world.said("TRACE") && world.said("answer")).then_some(())).await;
    std::fs::write(&file, "dci_operator=loud\n").unwrap();
    world.until("a wrong filter is told", |world| world.said("the one before it stays").then_some(())).await;
    std::fs::remove_file(&file).unwrap();
    world.until("the filter of the start counts again", |world| world.said("filter=\"info\"").then_some(())).await;
    let traced = |world: &World| world.log.text().matches("TRACE").count();
    world.polls(2).await;
    let before = traced(&world);
    world.polls(3).await;
    assert_eq!(traced(&world), before);
    world.end().await;
}
