//! Holds the API server of the simulation (`tests/simulation`) against the real one: the same random requests, the same answers,
//! the same watch. What it is believed for is what this shows.
//!
//! `DCI_CONFORM_SEQUENCES` sequences for each kind (8) from `DCI_CONFORM_FIRST` (1) on; `make conformance` makes more of them.
#![cfg(all(feature = "sim", feature = "operator"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test that fails so says where")]

#[path = "e2e/support/audit.rs"]
#[allow(dead_code, reason = "shared with the other tests on a real API server")]
mod audit;
#[path = "e2e/support/objects.rs"]
#[allow(dead_code, reason = "shared with the other tests on a real API server")]
mod objects;
#[path = "e2e/support/plane.rs"]
#[allow(dead_code, reason = "shared with the other tests on a real API server")]
mod plane;
#[path = "tables/mod.rs"]
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use objects::merged;
use plane::plane;

#[path = "simulation/apiserver.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod apiserver;
#[path = "simulation/defaults.rs"]
mod defaults;
#[path = "e2e_conformance/pages.rs"]
mod pages;
#[path = "simulation/patch.rs"]
mod patch;
#[path = "api_support/schema.rs"]
#[allow(dead_code, reason = "shared with the tests of the API")]
mod schema;
#[path = "simulation/pages.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod simulated_pages;
#[path = "e2e_conformance/subjects.rs"]
mod subjects;

use apiserver::{ApiServer, EVENTS, IPMANAGERS, Key, Kind, LEASES, ORDERS, SECRETS, TASKS};
use subjects::subject;

/// What the operator reads and writes.
const KINDS: [Kind; 6] = [ORDERS, IPMANAGERS, TASKS, LEASES, SECRETS, EVENTS];

/// Requests in each sequence.
const REQUESTS: usize = 40;
/// Sequences at once: each waits a second for its watch.
const AT_ONCE: usize = 8;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most.max(1)
    }

    fn chance(&mut self, of_ten: usize) -> bool {
        self.below(10) < of_ten
    }
}

/// Which version a write is guarded by.
#[derive(Clone, Copy, Debug)]
enum Guard {
    Latest,
    Older(usize),
    Nothing,
}

/// One request, the same for both servers; what it is guarded by is each server's own.
#[derive(Clone, Debug)]
enum Op {
    Create(Value),
    Get,
    Replace(Guard, Value),
    Status(Guard, Value),
    Json(Guard, Value),
    Merge(Value),
    Delete(Option<Guard>),
    /// Of those with these labels.
    List(String),
}

/// What a request looks like on the wire.
struct Sent {
    method: &'static str,
    status: bool,
    content_type: &'static str,
    body: Value,
}

/// What one server was seen to store, in the order of its answers: the others are named by their places here.
#[derive(Default)]
struct Memory {
    objects: Vec<Value>,
    uids: Vec<String>,
}

impl Memory {
    fn guard(&self, guard: Guard) -> Value {
        match guard {
            Guard::Latest => self.objects.last().cloned().unwrap_or_default(),
            Guard::Older(back) => self.objects.iter().rev().nth(back).or(self.objects.first()).cloned().unwrap_or_default(),
            Guard::Nothing => Value::Null,
        }
    }

    fn sent(&self, op: &Op, object: &Value) -> Sent {
        let json = "application/json";
        let guarded = |guard: Guard, change: &Value| {
            let seen = self.guard(guard);
            let base = if seen.is_null() { object.clone() } else { seen };
            let mut new = merged(base, change);
            if matches!(guard, Guard::Nothing) {
                new["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            }
            new
        };
        match op {
            Op::Create(change) => Sent { method: "POST", status: false, content_type: json, body: merged(object.clone(), change) },
            Op::Get | Op::List(_) => Sent { method: "GET", status: false, content_type: json, body: Value::Null },
            Op::Replace(guard, change) => Sent { method: "PUT", status: false, content_type: json, body: guarded(*guard, change) },
            Op::Status(guard, change) => Sent { method: "PUT", status: true, content_type: json, body: guarded(*guard, change) },
            Op::Json(guard, operations) => {
                let seen = self.guard(*guard);
                let mut all = Vec::new();
                if !seen.is_null() {
                    for field in ["uid", "resourceVersion"] {
                        all.push(json!({"op": "test", "path": format!("/metadata/{field}"), "value": seen["metadata"][field]}));
                    }
                }
                all.extend(operations.as_array().unwrap().clone());
                Sent { method: "PATCH", status: false, content_type: "application/json-patch+json", body: all.into() }
            }
            Op::Merge(change) => {
                Sent { method: "PATCH", status: false, content_type: "application/merge-patch+json", body: change.clone() }
            }
            Op::Delete(guard) => {
                let mut body = json!({});
                if let Some(guard) = guard {
                    body["preconditions"] = json!({"uid": self.guard(*guard)["metadata"]["uid"]});
                    if body["preconditions"]["uid"].is_null() {
                        body = json!({});
                    }
                }
                Sent { method: "DELETE", status: false, content_type: json, body }
            }
        }
    }

    /// Which of the objects that were seen one is.
    fn place(&mut self, object: &Value) -> usize {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        self.uids.iter().position(|known| known == uid).unwrap_or_else(|| {
            self.uids.push(uid.to_owned());
            self.uids.len() - 1
        })
    }

    /// A list without what differs from server to server: a real one leaves out what each item of a kind of its own is.
    fn neutral_list(&mut self, answer: &Result<Value, (u16, String)>) -> Value {
        let list = match answer {
            Ok(list) => list,
            Err((code, reason)) => return json!({"code": code, "reason": reason}),
        };
        let item = |object: &Value| {
            let metadata = &object["metadata"];
            json!({
                "uid": self.place(object), "name": metadata["name"], "labels": metadata["labels"], "generation": metadata["generation"],
                "deleting": !metadata["deletionTimestamp"].is_null(), "spec": object["spec"], "data": object["data"],
            })
        };
        let items: Vec<Value> = list["items"].as_array().unwrap().iter().map(item).collect();
        json!({"kind": list["kind"], "apiVersion": list["apiVersion"], "items": items})
    }

    /// An answer without what differs from server to server.
    fn neutral(&mut self, answer: &Result<Value, (u16, String)>, op: &Op) -> Value {
        let object = match answer {
            Ok(object) if object["kind"] == "Status" => return json!({"deleted": object["status"]}),
            Ok(object) => object,
            // A `test` that fails is 422 on some servers and 409 on others.
            Err((409 | 422, _)) if matches!(op, Op::Json(..)) => return json!("patch refused"),
            Err((code, reason)) => return json!({"code": code, "reason": reason}),
        };
        let metadata = &object["metadata"];
        let uid = self.place(object);
        let deleting = !metadata["deletionTimestamp"].is_null();
        let finalizers = metadata["finalizers"].as_array().map_or(0, Vec::len);
        let content = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = Value::Null;
            object["metadata"]["managedFields"] = Value::Null;
            object
        };
        let last = self.objects.last();
        // A write that changes nothing may make a new version, of its bookkeeping; and the last version of an object that goes with
        // its last finalizer is nobody's business.
        let version = if last.is_some_and(|last| content(last) == content(object)) || (deleting && finalizers == 0) {
            Value::Null
        } else {
            last.is_none_or(|last| last["metadata"]["resourceVersion"] != metadata["resourceVersion"]).into()
        };
        self.objects.push(object.clone());
        let said = ["type", "reason", "action", "note", "regarding", "reportingController", "reportingInstance", "eventTime", "series"];
        let event = said.map(|name| if object["kind"] == EVENTS.kind { object[name].clone() } else { Value::Null });
        json!({
            "event": event, "uid": uid, "version": version, "deleting": deleting, "name": metadata["name"], "labels": metadata["labels"],
            "annotations": metadata["annotations"], "finalizers": metadata["finalizers"], "generation": metadata["generation"],
            "spec": object["spec"], "status": object["status"], "data": object["data"],
        })
    }
}

/// One of a list, of this object's sequence alone: others are made beside it.
fn list(dice: &mut Dice, name: &str) -> Op {
    Op::List(format!("sequence={name}{}", ["", "", ",a=1", ",a=2", ",q=r"][dice.below(5)]))
}

/// As the operator makes events, and makes them more of a series; and as they expire.
fn event_op(dice: &mut Dice, name: &str, number: usize) -> Op {
    let series = json!({"count": number + 2, "lastObservedTime": format!("2026-01-01T00:00:{number:02}.000000Z")});
    match dice.below(10) {
        0..4 => Op::Create(json!({})),
        4..7 => Op::Merge(json!({ "series": series })),
        7 => Op::Get,
        8 => Op::Delete(None),
        _ => list(dice, name),
    }
}

fn any_op(dice: &mut Dice, changes: &[Value], custom: bool, name: &str) -> Op {
    let guard = |dice: &mut Dice| match dice.below(6) {
        0 => Guard::Nothing,
        1 => Guard::Older(1 + dice.below(3)),
        _ => Guard::Latest,
    };
    let metadata = [
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"annotations": {"b": "2"}}}),
        json!({"metadata": {"finalizers": ["example.net/one"]}}),
        json!({"metadata": {"finalizers": ["example.net/one", "example.net/two"]}}),
        json!({"metadata": {"finalizers": null}}),
        json!({}),
    ];
    let change = |dice: &mut Dice| {
        if dice.chance(5) { metadata[dice.below(metadata.len())].clone() } else { changes[dice.below(changes.len())].clone() }
    };
    match dice.below(15) {
        0 | 1 => Op::Create(if dice.chance(5) { json!({}) } else { change(dice) }),
        2 => Op::Get,
        3 | 4 => Op::Replace(guard(dice), change(dice)),
        5 | 6 if custom => {
            let status =
                [json!({"observedGeneration": 1}), json!({"observedGeneration": 2, "unknown": true}), json!({"observedGeneration": "x"})];
            Op::Status(
                guard(dice),
                json!({"status": status[dice.below(3)], "spec": {"pollInterval": "77s", "domain": "not.example.net"}, "metadata": {"labels": {"c": "3"}}}),
            )
        }
        7 | 8 => {
            let operations = [
                json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.net/one"]}]),
                json!([{"op": "remove", "path": "/metadata/finalizers/0"}]),
                json!([{"op": "test", "path": "/metadata/finalizers/0", "value": "example.net/one"}, {"op": "remove", "path": "/metadata/finalizers/0"}]),
                json!([{"op": "add", "path": "/metadata/annotations", "value": {"x/y": "z"}}]),
                json!([{"op": "add", "path": "/metadata/labels/q", "value": "r"}]),
            ];
            Op::Json(guard(dice), operations[dice.below(operations.len())].clone())
        }
        9 | 10 => Op::Merge(change(dice)),
        11 => Op::Delete(None),
        12 => Op::Delete(Some(guard(dice))),
        13 => list(dice, name),
        _ => Op::Create(json!({})),
    }
}

fn simulated(server: &mut ApiServer, key: &Key, sent: &Sent) -> Result<Value, (u16, String)> {
    let answer = match sent.method {
        "GET" => server.get(key),
        "POST" => server.create((key.0, key.1.clone(), String::new()), sent.body.clone(), 0),
        "PUT" => server.replace(key, &sent.body, sent.status, 0),
        "PATCH" => server.patch(key, sent.content_type, &sent.body, sent.status, 0),
        _ => server.delete(key, &sent.body, 0),
    };
    answer.map(Arc::unwrap_or_clone).map_err(|refusal| (refusal.code, refusal.reason.to_owned()))
}

fn path(key: &Key) -> String {
    let group = if key.0.group.is_empty() { format!("/api/{}", key.0.version) } else { format!("/apis/{}/{}", key.0.group, key.0.version) };
    format!("{group}/namespaces/{}/{}", key.1, key.0.plural)
}

async fn real(client: &Client, key: &Key, sent: &Sent) -> Result<Value, (u16, String)> {
    let mut path = path(key);
    if sent.method != "POST" {
        path = format!("{path}/{}{}", key.2, if sent.status { "/status" } else { "" });
    }
    let body = if sent.method == "GET" { Vec::new() } else { serde_json::to_vec(&sent.body).unwrap() };
    let request = Request::builder().method(sent.method).uri(path).header("content-type", sent.content_type).body(body).unwrap();
    match client.request::<Value>(request).await {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err((status.code, status.reason.clone())),
        Err(error) => panic!("{error}"),
    }
}

async fn real_list(client: &Client, key: &Key, query: &str) -> Result<Value, (u16, String)> {
    match client.request::<Value>(Request::get(format!("{}?{query}", path(key))).body(Vec::new()).unwrap()).await {
        Ok(list) => Ok(list),
        Err(kube::Error::Api(status)) => Err((status.code, status.reason.clone())),
        Err(error) => panic!("{error}"),
    }
}

/// What a watch from the beginning shows: types, generations, and whether the object was on its way out.
fn told(type_: &str, object: &Value) -> String {
    let (metadata, series) = (&object["metadata"], &object["series"]["count"]);
    format!("{type_} g{} deleting {} {} {series}", metadata["generation"], !metadata["deletionTimestamp"].is_null(), object["spec"])
}

async fn watched(client: &Client, key: &Key, since: &str) -> Vec<String> {
    let uri = format!("{}?watch=true&resourceVersion={since}&timeoutSeconds=1&fieldSelector=metadata.name%3D{}", path(key), key.2);
    let text = client.request_text(Request::get(uri).body(Vec::new()).unwrap()).await.unwrap();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        told(event["type"].as_str().unwrap_or_default(), &event["object"])
    };
    text.lines().map(event).collect()
}

async fn version(client: &Client, key: &Key) -> String {
    let list: Value = client.request(Request::get(path(key)).body(Vec::new()).unwrap()).await.unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// One sequence of requests to both, and what their watches showed. Counts the answers; or tells where the two differ.
async fn sequence(client: &Client, namespace: &str, kind: Kind, seed: u64) -> Result<BTreeMap<String, usize>, String> {
    let (object, changes) = subject(kind);
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    let mut dice = Dice(seed.wrapping_mul(7919) + 17);
    let mut server = ApiServer::default();
    let key: Key = (kind, namespace.to_owned(), format!("c-{seed}"));
    let mut object = merged(object, &json!({"metadata": {"name": key.2, "namespace": namespace, "labels": {"sequence": key.2}}}));
    if kind == EVENTS {
        object["regarding"]["namespace"] = namespace.into();
    }
    let (mut theirs, mut ours) = (Memory::default(), Memory::default());
    let began = version(client, &key).await;
    let mut history = Vec::new();
    let again = format!("again: DCI_CONFORM_FIRST={seed} DCI_CONFORM_SEQUENCES=1 make conformance");
    for _ in 0..REQUESTS {
        // Writes that change nothing are not asked for: they may make a version of their own, of the bookkeeping.
        let different = json!({"metadata": {"annotations": {"n": history.len().to_string()}}});
        let drawn =
            if kind == EVENTS { event_op(&mut dice, &key.2, history.len()) } else { any_op(&mut dice, &changes, kind.custom, &key.2) };
        let op = match drawn {
            Op::Replace(guard, change) => Op::Replace(guard, merged(change, &different)),
            Op::Merge(change) if kind != EVENTS => Op::Merge(merged(change, &different)),
            Op::Json(guard, operations) => {
                let mut all = operations.as_array().unwrap().clone();
                all.push(json!({"op": "add", "path": "/metadata/annotations", "value": different["metadata"]["annotations"]}));
                Op::Json(guard, all.into())
            }
            other => other,
        };
        let (real, simulated) = if let Op::List(labels) = &op {
            let query = format!("labelSelector={}", labels.replace('=', "%3D").replace(',', "%2C"));
            (real_list(client, &key, &query).await, Ok(server.list(&kind, namespace, labels)))
        } else {
            let simulated = simulated(&mut server, &key, &ours.sent(&op, &object));
            (real(client, &key, &theirs.sent(&op, &object)).await, simulated)
        };
        let told = format!(
            "{op:?}\n  real {}",
            real.as_ref().map_or_else(|(code, reason)| format!("{code} {reason}"), |object| object["metadata"].to_string())
        );
        let (real, simulated) = match &op {
            Op::List(_) => (theirs.neutral_list(&real), ours.neutral_list(&simulated)),
            op => (theirs.neutral(&real, op), ours.neutral(&simulated, op)),
        };
        history.push(told);
        if simulated != real {
            return Err(format!(
                "{} sequence {seed}: the simulation answers {simulated}, the server {real} to the last of\n{}\n{again}",
                kind.kind,
                history.join("\n")
            ));
        }
        *answers.entry(real["code"].as_u64().map_or("done".into(), |code| code.to_string())).or_default() += 1;
    }
    let mut changes: Vec<String> = server.log.iter().filter(|c| c.key == key).map(|c| told(c.type_, &c.object)).collect();
    let mut seen = watched(client, &key, &began).await;
    // A write that changes nothing may be an event, of the bookkeeping.
    let nothing = |next: &mut String, last: &mut String| next.strip_prefix("MODIFIED ") == last.split_once(' ').map(|(_, rest)| rest);
    changes.dedup_by(nothing);
    seen.dedup_by(nothing);
    if changes != seen {
        let history = history.join("\n");
        return Err(format!(
            "{} sequence {seed}: the simulation's watch shows {changes:#?}, the server's {seen:#?} after\n{history}\n{again}",
            kind.kind
        ));
    }
    Ok(answers)
}

fn many(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// A client of the real one, and a namespace of the test's own.
async fn place() -> (Client, String) {
    let kubeconfig = Kubeconfig::read_from(&plane().kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let mut bytes = [0u8; 5];
    getrandom::fill(&mut bytes).unwrap();
    let namespace: String = bytes.iter().map(|b| char::from(b'a' + b % 26)).collect();
    let namespace = format!("conform-{namespace}");
    let created = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let request = Request::post("/api/v1/namespaces").header("content-type", "application/json");
    client.request::<Value>(request.body(serde_json::to_vec(&created).unwrap()).unwrap()).await.unwrap();
    (client, namespace)
}

#[tokio::test]
async fn the_simulated_api_server_answers_as_the_real_one() {
    let (client, namespace) = place().await;
    let (first, sequences) = (many("DCI_CONFORM_FIRST", 1), many("DCI_CONFORM_SEQUENCES", 8));
    let all = (first..first + sequences).flat_map(|seed| KINDS.map(|kind| (kind, seed)));
    let all: Vec<_> = all.map(|(kind, seed)| sequence(&client, &namespace, kind, seed)).collect();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    let mut done = futures::stream::iter(all).buffer_unordered(AT_ONCE);
    let mut differences = Vec::new();
    while let Some(told) = done.next().await {
        match told {
            Ok(counted) => counted.into_iter().for_each(|(code, times)| *answers.entry(code).or_default() += times),
            Err(difference) => differences.push(difference),
        }
    }
    tables::tell(&format!("{} sequences of {REQUESTS} requests, by answer: {answers:?}", sequences * KINDS.len() as u64));
    assert!(differences.is_empty(), "{} sequences differ, the first:\n{}", differences.len(), differences.join("\n\n"));
    assert!(sequences < 8 || ["done", "404", "409", "422"].iter().all(|code| answers.contains_key(*code)), "{answers:?}");
}
