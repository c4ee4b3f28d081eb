//! Pretended operators, counted by their own registries minute by minute, and what one Prometheus makes of them: series for
//! `promtool test rules`, one sample a minute, with the labels that a scrape adds, and a stale marker where a series ends, as a scrape
//! leaves one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dci_operator::controller::clients::Beat;
use dci_operator::controller::fence::Fence;
use dci_operator::controller::metrics::{Metrics, keeper};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Where an operator runs. A Prometheus that reads several adds it to all that each of them says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster.
    pub cluster: &'static str,
    /// The operator's namespace.
    pub namespace: &'static str,
}

/// Where the incidents are.
pub const HOME: Place = Place { cluster: "msk", namespace: "dci-system" };
/// Other operators, with handlers of the same names: of another cluster, and of the same one.
pub const NEIGHBOURS: [Place; 2] = [Place { cluster: "spb", namespace: "dci-system" }, Place { cluster: "msk", namespace: "dci-test" }];

/// A replica that leads.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    /// The number of its pod. Another pod has other series.
    pub pod: i64,
    /// The minute in which it took over.
    pub since: i64,
}

/// What there is at one minute. It begins in good order.
pub struct Fleet {
    /// The replica that leads.
    pub leader: Option<Leader>,
    /// The number of the pod that stands by.
    pub standby: Option<i64>,
    /// Minutes since the watch of orders was accepted.
    pub watch_age: i64,
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
            leader: Some(Leader { pod: 1, since: -1000 }),
            standby: Some(0),
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

/// An order with a field of another type.
pub fn unreadable(name: &str) -> Value {
    let mut order = order(name, &json!({}));
    order["spec"]["client"] = "acme".into();
    order
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

/// An order that has a server.
pub fn with_server(mut order: Value) -> Value {
    order["status"]["server"] = json!({"id": "17", "handler": "hosting/msk-1", "configuration": "E3-16G"});
    order
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

    /// The pages of the replicas at this minute, by the number of the pod. A pod that was not there a minute ago begins with nothing.
    fn pages(&self, pods: &mut BTreeMap<i64, Metrics>, minute: i64) -> BTreeMap<i64, String> {
        pods.retain(|pod, _| self.standby == Some(*pod) || self.leader.is_some_and(|leader| leader.pod == *pod));
        if let Some(leader) = self.leader {
            self.led(pods.entry(leader.pod).or_default(), minute, minute - leader.since);
        }
        if let Some(pod) = self.standby {
            keeper::leads(pods.entry(pod).or_default(), &Fence::closed());
        }
        pods.iter().map(|(pod, metrics)| (*pod, metrics.text().unwrap())).collect()
    }

    /// What the replica counts that has led for so many minutes.
    fn led(&self, metrics: &Metrics, minute: i64, minutes: i64) {
        let fence = Fence::closed();
        fence.renewed(Instant::now());
        keeper::leads(metrics, &fence);
        let ago = |minutes: i64| Instant::now().checked_sub(Duration::from_secs(u64::try_from(minutes).unwrap() * 60)).unwrap();
        let path = "/apis/dci-operator.dev/v1alpha1/dedicatedserverorders".to_owned();
        // A watch that was accepted before this replica began was not this one's.
        let opened = (self.watch_age <= minutes).then(|| ago(self.watch_age));
        let beat = Beat { tried: ago(0), opened, refused: None };
        keeper::watches(metrics, &BTreeMap::from([(path.clone(), beat)]), &mut BTreeMap::from([(path, ago(minutes.min(1000)))]));
        if opened.is_none() {
            return;
        }
        let cached =
            keeper::Cached { handlers: read(&self.handlers), ipmanagers: Vec::new(), orders: read(&self.orders), tasks: read(&self.tasks) };
        keeper::objects(metrics, &cached, Timestamp::from_second(minute * 60).unwrap());
        // What the controller of licence servers shows once it has asked one.
        for (product, end) in &self.licenses {
            metrics.license_expiry.of(["hosting/isp", product]).set(end * 60);
        }
    }
}

/// As a watch reads them, those that cannot be read too.
fn read<T: DeserializeOwned>(objects: &[Value]) -> Vec<Arc<T>> {
    objects.iter().map(|object| Arc::new(serde_json::from_value(object.clone()).unwrap())).collect()
}

/// What there is at a minute.
pub type Course<'a> = &'a dyn Fn(i64) -> Fleet;

/// The input series of `minutes` minutes.
pub fn series(minutes: i64, operators: &[(Place, Course<'_>)]) -> Vec<Value> {
    let mut all: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for (place, course) in operators {
        let mut pods = BTreeMap::new();
        let mut of_place: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        for minute in 0..minutes {
            let known = usize::try_from(minute).unwrap();
            let mut seen = BTreeSet::new();
            for (pod, page) in course(minute).pages(&mut pods, minute) {
                for (name, value) in samples(&page, &scraped(*place, pod)) {
                    let values = of_place.entry(name.clone()).or_insert_with(|| vec![None; known]);
                    assert_eq!(values.len(), known, "{name} twice in one page");
                    values.push(Some(value));
                    seen.insert(name);
                }
            }
            of_place.iter_mut().filter(|(name, _)| !seen.contains(*name)).for_each(|(_, values)| values.push(None));
        }
        all.append(&mut of_place);
    }
    all.iter().map(|(name, values)| json!({"series": name, "values": written(values)})).collect()
}

/// The labels that a scrape adds.
pub fn scraped(Place { cluster, namespace }: Place, pod: i64) -> String {
    let pod = pod.rem_euclid(200);
    format!(
        "cluster=\"{cluster}\",namespace=\"{namespace}\",job=\"dci-operator-metrics\",pod=\"dci-operator-{pod}\",instance=\"10.0.0.{pod}:8080\""
    )
}

/// `NAME{LABELS,SCRAPED}` and value of each sample; histograms are no part of any alert.
fn samples(page: &str, scraped: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = match name.strip_suffix('}') {
                Some(labelled) => format!("{labelled},{scraped}}}"),
                None => format!("{name}{{{scraped}}}"),
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
