//! A pretended cluster, counted by the operator's own registry minute by minute, and what Prometheus makes of it: series for
//! `promtool test rules`, one sample a minute, with a stale marker where a series ends, as a scrape leaves one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dci_operator::api::{DedicatedServerOrder, ManualTask, ProcessingHandler};
use dci_operator::controller::clients::Beat;
use dci_operator::controller::metrics::{Metrics, counts, keeper, tasks};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What there is at one minute. It begins in good order.
pub struct Fleet {
    /// Whether the leader runs.
    pub leads: bool,
    /// Whether a second replica stands by.
    pub standby: bool,
    /// Minutes since the watch of orders was accepted.
    pub watch_age: u64,
    /// Handlers.
    pub handlers: Vec<Value>,
    /// Orders.
    pub orders: Vec<Value>,
    /// Tasks.
    pub tasks: Vec<Value>,
    /// The end of the soonest licence, by product, in minutes.
    pub licenses: BTreeMap<&'static str, i64>,
}

/// A time, in minutes from the beginning.
pub fn at(minute: i64) -> String {
    Timestamp::from_second(minute * 60).unwrap().to_string()
}

/// A condition.
pub fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "x", "lastTransitionTime": at(0)})
}

impl Default for Fleet {
    fn default() -> Self {
        let connection = json!({"url": "https://a/dcimgr", "credentialsSecretRef": {"name": "a"}});
        let handler = |name: &str, spec: Value, status: Value| {
            let mut object = json!({
                "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler",
                "metadata": {"name": name, "namespace": "hosting"}, "spec": spec, "status": status,
            });
            object["spec"]["connection"] = connection.clone();
            object["status"]["conditions"] = json!([condition("Ready", "True", "Reachable")]);
            object
        };
        let inventory = json!({"total": 8, "free": 3, "byConfiguration": [{"configuration": "E3-16G", "total": 8, "free": 3}]});
        let sold = json!({"products": {"ispmanager": {"pricelist": "1"}}});
        Self {
            leads: true,
            standby: true,
            watch_age: 0,
            handlers: vec![
                handler("msk-1", json!({"module": "DCImanager5"}), json!({"inventory": inventory})),
                handler("isp", json!({"module": "BILLmanager6", "licenses": sold}), json!({})),
            ],
            orders: vec![order("fine", &json!({"phase": "Active", "progress": {"percent": 100, "step": "HandOver"}}))],
            tasks: Vec::new(),
            // Renewed three days before their end.
            licenses: [("ispmanager", 40 * 24 * 60)].into(),
        }
    }
}

/// An order at handler msk-1.
pub fn order(name: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "handlerRef": {"name": "msk-1", "namespace": "hosting"}, "client": {"username": "acme"},
            "configuration": {"serverType": "E3-16G"}, "domain": "a.example.net", "operatingSystem": {"template": "T"},
        },
        "status": status,
    })
}

/// An order in a step since a minute.
pub fn in_step(name: &str, step: &str, since: i64, waits_for: Option<&str>) -> Value {
    order(
        name,
        &json!({
            "phase": "Preparing", "progress": {"percent": 15, "step": step},
            "waitingOn": waits_for.map(|kind| json!({"kind": kind, "name": "x", "since": at(since)})),
            "steps": [{"name": step, "state": "Waiting", "startedAt": at(since)}],
            "conditions": [condition("Reconciling", "True", if waits_for == Some("Capacity") { "WaitingForCapacity" } else { "InProgress" })],
        }),
    )
}

/// A task that the operator raised at a minute, with a deadline.
pub fn task(type_: &str, raised: i64, deadline: Option<i64>) -> Value {
    json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask",
        "metadata": {"name": format!("{}-u-1", type_.to_lowercase()), "namespace": "hosting", "creationTimestamp": at(raised)},
        "spec": {
            "type": type_, "department": "Operations", "orderRef": {"namespace": "shop", "name": "web", "uid": "u"}, "summary": "",
            "deadline": deadline.map(at),
        },
    })
}

impl Fleet {
    /// A handler's status.
    pub fn status(&mut self, handler: usize) -> &mut Value {
        &mut self.handlers[handler]["status"]
    }

    /// The pages of the replicas at this minute, by instance.
    fn pages(&self, metrics: &[Metrics; 2], minute: i64) -> BTreeMap<&'static str, String> {
        let read = |values: &[Value]| values.to_vec();
        let mut pages = BTreeMap::new();
        if self.leads {
            let all = &metrics[0];
            all.leader.of([]).set(1);
            let now = Timestamp::from_second(minute * 60).unwrap();
            let handlers: Vec<ProcessingHandler> = read(&self.handlers).into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
            let orders: Vec<DedicatedServerOrder> = read(&self.orders).into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
            let open: Vec<ManualTask> = read(&self.tasks).into_iter().map(|v| serde_json::from_value(v).unwrap()).collect();
            let objects =
                counts::Objects { handlers: handlers.iter().collect(), orders: orders.iter().collect(), ..counts::Objects::default() };
            counts::publish(all, &objects, now);
            tasks::publish(all, &objects.handlers, open.iter(), now);
            for (product, end) in &self.licenses {
                all.license_expiry.of(["hosting/isp", product]).set(end * 60);
            }
            let ago = |minutes: u64| Instant::now().checked_sub(Duration::from_secs(minutes * 60)).unwrap();
            let path = "/apis/dci-operator.dev/v1alpha1/dedicatedserverorders".to_owned();
            let beat = Beat { tried: ago(0), opened: Some(ago(self.watch_age)), refused: None };
            keeper::watches(all, &BTreeMap::from([(path, beat)]), &mut BTreeMap::new());
            pages.insert("10.0.0.1:8080", all.text().unwrap());
        }
        if self.standby {
            metrics[1].leader.of([]).set(0);
            pages.insert("10.0.0.2:8080", metrics[1].text().unwrap());
        }
        pages
    }
}

/// The input series of `minutes` minutes.
pub fn series(minutes: i64, fleet: impl Fn(i64) -> Fleet) -> Vec<Value> {
    let metrics = [Metrics::default(), Metrics::default()];
    let mut all: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for minute in 0..minutes {
        let mut seen = BTreeSet::new();
        for (instance, page) in fleet(minute).pages(&metrics, minute) {
            for (name, value) in samples(&page, instance) {
                let known = usize::try_from(minute).unwrap();
                let values = all.entry(name.clone()).or_insert_with(|| vec![None; known]);
                assert_eq!(values.len(), known, "{name} twice in one page");
                values.push(Some(value));
                seen.insert(name);
            }
        }
        all.iter_mut().filter(|(name, _)| !seen.contains(*name)).for_each(|(_, values)| values.push(None));
    }
    all.iter().map(|(name, values)| json!({"series": name, "values": written(values)})).collect()
}

/// `NAME{LABELS,instance="…"}` and value of each sample; histograms are no part of any alert.
fn samples(page: &str, instance: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = match name.strip_suffix('}') {
                Some(labelled) => format!("{labelled},instance=\"{instance}\"}}"),
                None => format!("{name}{{instance=\"{instance}\"}}"),
            };
            (name, value.parse().unwrap())
        })
        .collect()
}

/// In promtool's notation. A series that ends is marked stale, as a scrape does it.
fn written(values: &[Option<f64>]) -> String {
    let mut out = Vec::new();
    let mut there = false;
    for value in values {
        out.push(match value {
            Some(value) => value.to_string(),
            None if there => "stale".into(),
            None => "_".into(),
        });
        there = value.is_some();
    }
    out.join(" ")
}
