//! One request on its way: forwarded, with what goes wrong on the way.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::StreamExt;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::frames::Events;
use super::{Fault, KUBE, Letter, Proxy, Side};

/// A connection that is closed instead of an answer.
#[derive(Debug)]
pub(super) struct Cut;

impl Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

/// What is behind a side.
pub(super) struct Upstream {
    pub(super) base: String,
    pub(super) http: reqwest::Client,
}

/// A request as it came.
pub(super) struct Call {
    /// Its place on record.
    pub(super) index: usize,
    pub(super) head: Parts,
    pub(super) letter: Letter,
    /// What it watches.
    pub(super) watch: Option<Events>,
}

/// What the other side said.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Whole,
}

enum Whole {
    Here(Bytes),
    Coming(Events, reqwest::Response),
}

/// Sends a request on.
async fn send(side: &Side, call: &Call) -> Result<Reply, Cut> {
    let path = call.head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = call.head.headers.clone();
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let request = side.upstream.http.request(call.head.method.clone(), format!("{}{path}", side.upstream.base));
    let response = request.headers(headers).body(call.letter.body.clone()).send().await.map_err(|_| Cut)?;
    let (status, mut headers) = (response.status(), response.headers().clone());
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let body = match &call.watch {
        Some(events) if status.is_success() => Whole::Coming(events.clone(), response),
        Some(_) | None => Whole::Here(response.bytes().await.map_err(|_| Cut)?),
    };
    Ok(Reply { status, headers, body })
}

/// Answers one request.
pub(super) async fn deal(proxy: Proxy, side: Arc<Side>, call: Call, fault: Option<Fault>) -> Result<Response<Body>, Cut> {
    let apply = async || {
        let reply = send(&side, &call).await;
        if let Ok(reply) = &reply {
            proxy.answered(call.index, reply.status.as_u16());
            if let (Whole::Here(body), Some(observer)) = (&reply.body, proxy.observer()) {
                observer.applied(&call.letter, reply.status.as_u16(), body);
            }
        }
        reply
    };
    match fault {
        None => Ok(genuine(&proxy, Some(&call.letter), apply().await?)),
        Some(Fault::Drop) => Err(Cut),
        Some(Fault::DropAnswer) => {
            apply().await?;
            Err(Cut)
        }
        Some(Fault::Kill) => {
            let _ = apply().await;
            proxy.kill(call.index);
            Err(Cut)
        }
        Some(Fault::KillBefore) => {
            proxy.kill(call.index);
            Err(Cut)
        }
        Some(Fault::Late(by)) => {
            tokio::time::sleep(by).await;
            // Whoever asked has stopped waiting.
            Ok(genuine(&proxy, None, apply().await?))
        }
        Some(Fault::SlowAnswer(by)) => {
            let reply = apply().await?;
            tokio::time::sleep(by).await;
            Ok(genuine(&proxy, None, reply))
        }
        Some(Fault::Duplicate) => {
            let first = apply().await?;
            let _ = apply().await;
            Ok(genuine(&proxy, Some(&call.letter), first))
        }
        Some(Fault::Status(status, applied)) => {
            if applied {
                let _ = apply().await;
            }
            Ok(refused(&side, status))
        }
        Some(Fault::Garbage) => {
            let reply = apply().await?;
            Ok(answer(reply.status, reply.headers, Body::from(&b"\x00\xff{\"doc\":{\"kind\":<<<"[..])))
        }
        Some(Fault::Truncate) => Ok(truncated(apply().await?)),
    }
}

/// The answer as it is; a watch's goes through the gate.
fn genuine(proxy: &Proxy, told: Option<&Letter>, reply: Reply) -> Response<Body> {
    let body = match reply.body {
        Whole::Here(bytes) => {
            if let (Some(letter), Some(observer)) = (told, proxy.observer()) {
                observer.answered(letter, &bytes);
            }
            Body::from(bytes)
        }
        Whole::Coming(events, response) => proxy.0.gate.body(events, response),
    };
    answer(reply.status, reply.headers, body)
}

fn answer(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Half of the answer, and then nothing more.
fn truncated(reply: Reply) -> Response<Body> {
    let (whole, half) = match reply.body {
        Whole::Here(bytes) => (bytes.len(), bytes.slice(..bytes.len() / 2)),
        // Nobody knows how long a watch will be.
        Whole::Coming(..) => (0, Bytes::from_static(br#"{"type":"MODIFIED","object":{"apiVersion":"#)),
    };
    // What has been sent gets a moment to arrive before the connection breaks.
    let pause = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(Cut)
    };
    let stream = futures::stream::iter([Ok(half)]).chain(futures::stream::once(pause));
    let mut headers = reply.headers;
    if whole > 0 {
        headers.insert(CONTENT_LENGTH, whole.into());
    }
    answer(reply.status, headers, Body::from_stream(stream))
}

/// A status, as an API server or a web server in front of a panel says it.
fn refused(side: &Side, status: u16) -> Response<Body> {
    let reason = match status {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let body = if side.name == KUBE {
        let text = format!("the proxy answers {status}");
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": text, "reason": reason, "code": status})
            .to_string()
    } else {
        format!("<html><head><title>{status} {reason}</title></head><body><h1>{reason}</h1></body></html>")
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let kind = if side.name == KUBE { "application/json" } else { "text/html" };
    response.headers_mut().insert("content-type", kind.parse().unwrap());
    if status == 429 {
        response.headers_mut().insert("retry-after", "1".parse().unwrap());
    }
    response
}
