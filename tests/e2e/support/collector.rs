//! A collector of traces: takes what the operator exports, as it comes and decoded.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The header by which a collector knows who sends.
pub const TOKEN: &str = "x-collector-token";

#[derive(Default)]
struct Inner {
    raw: Vec<u8>,
    tokens: Vec<String>,
    spans: Vec<Span>,
    wrong: Vec<String>,
}

/// A running collector.
pub struct Collector {
    /// Its endpoint.
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner::default()));
        let shared = inner.clone();
        let take = async move |uri: Uri, headers: HeaderMap, body: Bytes| -> StatusCode { received(&shared, &uri, &headers, &body) };
        let app = Router::new().fallback(take);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, inner, task }
    }

    /// All spans so far; fails when something came that is no export of traces.
    pub fn spans(&self) -> Vec<Span> {
        let inner = self.inner.lock().unwrap();
        assert!(inner.wrong.is_empty(), "{}", inner.wrong.join("\n"));
        inner.spans.clone()
    }

    /// The header `TOKEN` of each export that had one.
    pub fn tokens(&self) -> Vec<String> {
        self.inner.lock().unwrap().tokens.clone()
    }

    /// All bytes that came, headers included, but for the one that is told to nobody else.
    pub fn raw(&self) -> Vec<u8> {
        self.inner.lock().unwrap().raw.clone()
    }
}

fn received(inner: &Mutex<Inner>, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> StatusCode {
    let mut inner = inner.lock().unwrap();
    let mut headers = headers.clone();
    inner.tokens.extend(headers.remove(TOKEN).map(|token| token.to_str().unwrap().to_owned()));
    inner.raw.extend_from_slice(format!("{uri} {headers:?}\n").as_bytes());
    inner.raw.extend_from_slice(body);
    let kind = headers.get("content-type").and_then(|v| v.to_str().ok());
    match ExportTraceServiceRequest::decode(body.clone()) {
        Ok(request) if uri.path() == "/v1/traces" && kind == Some("application/x-protobuf") => {
            let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
            inner.spans.extend(scopes.flat_map(|s| s.spans));
            StatusCode::OK
        }
        other => {
            inner.wrong.push(format!("{uri} {kind:?} {:?}", other.err()));
            StatusCode::BAD_REQUEST
        }
    }
}

/// Lower-case hexadecimal digits, as logs and events show ids.
pub fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// An attribute of a span as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
