//! The API server's door: requests of kube clients become calls of `ApiServer`, and its changes become watches.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::future::BoxFuture;
use futures::stream;
use http::{Request, Response};
use serde_json::{Value, json};
use tower::{BoxError, Service};

use super::adversary::{Fault, WRITE};
use super::apiserver::{Answer, EVENTS, HANDLERS, IPMANAGERS, KINDS, Key, Kind, LEASES, Refusal};
use super::pages::{Wanted, expired};
use super::replica::Replica;
use super::world::{Late, World};

/// How long a client of the operator's waits for an answer of the API server, in milliseconds.
pub const PATIENCE: u64 = 15_000;

/// What a request asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub key: Key,
    pub status: bool,
    pub query: Vec<(String, String)>,
    pub content_type: String,
    pub body: Value,
    metadata_only: bool,
}

impl Asked {
    pub fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Something that counts is written; events and the leader's lease do not.
    fn is_effect(&self) -> bool {
        self.method != "GET" && self.key.0 != EVENTS && !self.is_the_leaders()
    }

    /// The Lease of the process that leads.
    pub fn is_the_leaders(&self) -> bool {
        self.key.0 == LEASES && (self.key.2 == "dci-operator" || self.body["metadata"]["name"] == "dci-operator")
    }

    /// The status of something that is probed.
    pub fn probes(&self) -> bool {
        self.status && [HANDLERS, IPMANAGERS].contains(&self.key.0)
    }

    /// The next page of a list.
    fn goes_on(&self) -> bool {
        self.method == "GET" && !self.query("continue").is_empty()
    }

    fn describe(&self) -> String {
        let name = if self.key.2.is_empty() { self.body["metadata"]["name"].as_str().unwrap_or_default() } else { &self.key.2 };
        format!("{} {} {}/{name}{}", self.method, self.key.0.plural, self.key.1, if self.status { " status" } else { "" })
    }
}

/// Reads the path: `/apis/<group>/<version>[/namespaces/<namespace>]/<plural>[/<name>[/status]]`.
pub fn route(path: &str) -> Option<(Key, bool)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let kind = |plural: &str| KINDS.into_iter().find(|k| k.group == group && k.plural == plural);
    let key = |kind: Kind, namespace: &str, name: &str| (kind, namespace.to_owned(), name.to_owned());
    Some(match rest {
        ["namespaces", namespace, plural] if kind(plural).is_some() => (key(kind(plural)?, namespace, ""), false),
        ["namespaces", namespace, plural, name] => (key(kind(plural)?, namespace, name), false),
        ["namespaces", namespace, plural, name, "status"] => (key(kind(plural)?, namespace, name), true),
        [plural] => (key(kind(plural)?, "", ""), false),
        [plural, name] => (key(kind(plural)?, "", name), false),
        _ => return None,
    })
}

/// The way of one process's clients to the server.
#[derive(Clone)]
pub struct Door {
    pub world: Arc<World>,
    pub who: Arc<Replica>,
}

impl Service<Request<kube::client::Body>> for Door {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        Box::pin(serve(self.world.clone(), self.who.clone(), request))
    }
}

fn broken(what: &str) -> BoxError {
    Box::new(io::Error::new(io::ErrorKind::ConnectionReset, what.to_owned()))
}

async fn serve(world: Arc<World>, who: Arc<Replica>, request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
    who.alive().await;
    let (head, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let Some((key, status)) = route(head.uri.path()) else {
        world.violation(format!("a request that the simulation does not know: {} {}", head.method, head.uri));
        return Err(broken("unknown"));
    };
    let query = reqwest::Url::parse(&format!("http://x/?{}", head.uri.query().unwrap_or_default()))?;
    let asked = Asked {
        method: head.method.to_string(),
        key,
        status,
        query: query.query_pairs().map(|(n, v)| (n.into_owned(), v.into_owned())).collect(),
        content_type: header("content-type"),
        body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? },
        metadata_only: header("accept").contains("as=PartialObjectMetadata"),
    };
    let (way, down) = world.adversary(|a| (1 + a.below(15), a.api_down_until));
    tokio::time::sleep(Duration::from_millis(way)).await;
    who.alive().await;
    if super::determinism::now() < down {
        world.disturb(0);
        return Err(broken("the API server is down"));
    }
    if asked.query("watch") == "true" || asked.query("watch") == "1" {
        return Ok(watch(world, who, &asked));
    }
    if asked.method == "GET" && world.adversary(|a| a.chance(a.reads)) {
        world.disturb(300);
        tokio::time::sleep(Duration::from_millis(300)).await;
        return Err(broken("the answer is lost"));
    }
    let fault = if asked.is_effect() { world.meet(&format!("{WRITE}{}", asked.describe())) } else { None };
    let answer = match fault {
        None if asked.goes_on() && world.adversary(super::adversary::Adversary::forgets) => {
            world.disturb(0);
            Err(expired())
        }
        None => world.apply(&asked),
        Some(Fault::CrashBefore) => return who.die(&world).await,
        Some(Fault::CrashAfter) => {
            let _ = world.apply(&asked);
            return who.die(&world).await;
        }
        Some(Fault::CrashLate(after)) => {
            world.later(after, Late::Write(asked));
            return who.die(&world).await;
        }
        Some(Fault::Unreachable) => return Err(broken("refused")),
        Some(Fault::Lost) => {
            tokio::time::sleep(Duration::from_millis(PATIENCE)).await;
            return Err(broken("no answer"));
        }
        Some(Fault::AnswerLost) => {
            let _ = world.apply(&asked);
            return Err(broken("no answer"));
        }
        Some(Fault::Late(after)) => {
            world.later(after, Late::Write(asked));
            return Err(broken("no answer"));
        }
        Some(Fault::Refused) => Err(unavailable()),
        Some(Fault::Slow(after)) => {
            tokio::time::sleep(Duration::from_millis(after)).await;
            who.alive().await;
            world.apply(&asked)
        }
        Some(Fault::AnswerLate(after)) => {
            let answer = world.apply(&asked);
            // An intent that is answered later than others wait for it is to them what a frozen process is: where nobody leads, that is
            // the hole that is known (see the model).
            let believed = if world.leaderless() { super::panels::FROZEN } else { PATIENCE };
            if after > believed {
                tokio::time::sleep(Duration::from_millis(after.min(PATIENCE))).await;
                who.alive().await;
                return Err(broken("no answer"));
            }
            tokio::time::sleep(Duration::from_millis(after)).await;
            answer
        }
        Some(Fault::Twice(0)) => {
            let _ = world.apply(&asked);
            world.apply(&asked)
        }
        Some(Fault::Twice(after)) => {
            world.later(after, Late::Write(asked.clone()));
            world.apply(&asked)
        }
        Some(Fault::ConflictBefore) => Err(outrun(&asked)),
        Some(Fault::TooMany) => Err(too_many()),
        Some(Fault::ConflictAfter) => world.apply(&asked).and_then(|_| Err(second(&asked))),
    };
    if asked.goes_on() {
        world.met(if answer.is_ok() { "page" } else { "page-expired" });
    }
    let back = world.adversary(|a| 1 + a.below(10));
    tokio::time::sleep(Duration::from_millis(back)).await;
    who.alive().await;
    Ok(respond(answer, &asked))
}

/// What a server says that is about to stop.
fn unavailable() -> Refusal {
    let message = "the server is currently unable to handle the request".into();
    Refusal { code: 503, reason: "ServiceUnavailable", message }
}

/// What a server says that has too much to do.
fn too_many() -> Refusal {
    let message = "the server has received too many requests and has asked us to try again later".into();
    Refusal { code: 429, reason: "TooManyRequests", message }
}

/// What is said of a write that was not made since somebody else was quicker; of a creation too, where a quota is counted.
fn outrun(asked: &Asked) -> Refusal {
    let message = format!(
        "Operation cannot be fulfilled on {}: the object has been modified; please apply your changes to the latest version and try again",
        asked.describe()
    );
    Refusal { code: 409, reason: "Conflict", message }
}

/// What is said of a write that is sent for the second time.
fn second(asked: &Asked) -> Refusal {
    match asked.method.as_str() {
        "POST" => Refusal { code: 409, reason: "AlreadyExists", message: format!("{} already exists", asked.describe()) },
        _ => outrun(asked),
    }
}

/// Does what was asked.
pub fn perform(server: &mut super::apiserver::ApiServer, asked: &Asked, now: u64) -> Answer {
    let (kind, namespace, name) = &asked.key;
    match asked.method.as_str() {
        "GET" if name.is_empty() => {
            let (labels, token) = (asked.query("labelSelector"), asked.query("continue"));
            server.page(&Wanted { kind, namespace, labels, limit: asked.query("limit").parse().unwrap_or(0), token })
        }
        "GET" => server.get(&asked.key),
        "POST" => server.create(asked.key.clone(), asked.body.clone(), now),
        "PUT" => server.replace(&asked.key, &asked.body, asked.status, now),
        "PATCH" => server.patch(&asked.key, &asked.content_type, &asked.body, asked.status, now),
        "DELETE" => server.delete(&asked.key, &asked.body, now),
        other => Err(Refusal { code: 405, reason: "MethodNotAllowed", message: other.to_owned() }),
    }
}

fn respond(answer: Answer, asked: &Asked) -> Response<Body> {
    let (code, value) = match answer {
        Ok(value) if asked.method == "POST" => (201, value),
        Ok(value) => (200, value),
        Err(refusal) => (refusal.code, Arc::new(refusal.status())),
    };
    let value = if asked.metadata_only && code < 300 { partial(value) } else { value };
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

fn partial(value: Arc<Value>) -> Arc<Value> {
    let one = |object: &Value| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
    match value["items"].as_array() {
        Some(items) => Arc::new(json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"],
            "items": items.iter().map(one).collect::<Vec<_>>(),
        })),
        None if value["kind"] == "Status" => value,
        None => Arc::new(one(&value)),
    }
}

/// A watch from a version on: each change is delivered when it is due, in order.
struct Watch {
    world: Arc<World>,
    who: Arc<Replica>,
    kind: Kind,
    namespace: String,
    seen: u64,
    ends: tokio::time::Instant,
    /// What was delivered last was due then: nothing overtakes.
    due: u64,
    over: bool,
}

fn watch(world: Arc<World>, who: Arc<Replica>, asked: &Asked) -> Response<Body> {
    let seconds = asked.query("timeoutSeconds").parse().unwrap_or(300);
    let seen = asked.query("resourceVersion").parse().unwrap_or(0);
    let watch = Watch {
        world,
        who,
        kind: asked.key.0,
        namespace: asked.key.1.clone(),
        seen,
        ends: tokio::time::Instant::now() + Duration::from_secs(seconds),
        due: 0,
        over: false,
    };
    let lines = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))), watch))
    });
    Response::new(Body::from_stream(lines))
}

impl Watch {
    async fn next(&mut self) -> Option<String> {
        loop {
            self.who.alive().await;
            if self.over || super::determinism::now() < self.world.adversary(|a| a.cuts_watches_until()) {
                return None;
            }
            let changed = self.world.changed.notified();
            let found = self.world.server(|server| {
                if self.seen < server.compacted {
                    return Err(());
                }
                let mine = |c: &&super::apiserver::Change| c.key.0 == self.kind && (self.namespace.is_empty() || c.key.1 == self.namespace);
                Ok(server
                    .since(self.seen)
                    .find(mine)
                    .map(|c| (c.version, c.at, format!(r#"{{"type":"{}","object":{}}}"#, c.type_, c.object))))
            });
            match found {
                Err(()) => {
                    self.over = true;
                    self.world.met("expired");
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old resource version",
                        "reason": "Expired", "code": 410});
                    return Some(json!({"type": "ERROR", "object": status}).to_string());
                }
                Ok(Some((version, at, event))) => {
                    let (lag, drop) = self.world.adversary(|a| {
                        let lag = if a.lag > 0 && a.chance(300) { a.below(a.lag) } else { a.below(5) };
                        (lag, a.lag > 0 && a.chance(10))
                    });
                    if drop {
                        return None;
                    }
                    self.due = self.due.max(at + lag);
                    let wait = self.due.saturating_sub(super::determinism::now());
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    self.who.alive().await;
                    self.seen = version;
                    return Some(event);
                }
                Ok(None) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(self.ends) => {
                        self.over = true;
                        return Some(self.bookmark().to_string());
                    }
                },
            }
        }
    }

    /// How far the watch is, for the next one.
    fn bookmark(&self) -> Value {
        let version = self.world.server(|server| server.version).to_string();
        let api_version = if self.kind.group.is_empty() { "v1".to_owned() } else { format!("{}/{}", self.kind.group, self.kind.version) };
        json!({"type": "BOOKMARK", "object": {
            "kind": self.kind.kind, "apiVersion": api_version, "metadata": {"resourceVersion": version, "creationTimestamp": null}}})
    }
}
