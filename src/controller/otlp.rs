//! Export of traces to a collector: OTLP, protobuf over HTTP, in batches beside everything else. Off unless an endpoint is given.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{Request, Response, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::panel::denied::DeniedNetworks;
use crate::panel::settings::{SettingsError, TlsMode};
use crate::panel::tls::http_client;

use super::panels::lock;

/// Name of the instrumentation.
pub const SCOPE: &str = "dci-operator";
/// Where a collector takes traces, below its endpoint.
const PATH: &str = "v1/traces";
/// How long a batch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last batch may take when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// Much more than a collector answers.
const ANSWER: usize = 64 * 1024;
/// How often a collector that does not take traces is told of.
const TOLD: Duration = Duration::from_mins(1);

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// Not the address of a collector.
    #[error("--otlp-endpoint has to be an http or https URL, such as http://collector.example:4318")]
    Endpoint,
    /// The HTTP client could not be made.
    #[error("the HTTP client for traces: {0}")]
    Client(#[from] SettingsError),
    /// The same, by the HTTP library.
    #[error("the HTTP client for traces: {0}")]
    Http(#[from] reqwest::Error),
    /// The exporter could not be made.
    #[error("the exporter of traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// A running export.
pub struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// Starts sending to a collector; the requests are made on this runtime.
    pub fn start(endpoint: &str, runtime: Handle) -> Result<Self, OtlpError> {
        let url = reqwest::Url::parse(endpoint).map_err(|_| OtlpError::Endpoint)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(OtlpError::Endpoint);
        }
        // Whoever sets this address sets the refused networks too; collectors on the node itself are often link-local.
        let client = http_client(&TlsMode::System, &DeniedNetworks::none())?.timeout(TIMEOUT).build()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender { client, runtime, told: Mutex::new(None) })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/{PATH}", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()?;
        let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| SCOPE.to_owned());
        let resource = Resource::builder_empty()
            .with_service_name(SCOPE)
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION")), KeyValue::new("service.instance.id", instance)]);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_id_generator(Ids::default())
            .with_batch_exporter(exporter)
            .build();
        opentelemetry::global::set_tracer_provider(provider.clone());
        Ok(Self { provider })
    }

    /// Makes spans that are exported.
    #[must_use]
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SCOPE)
    }

    /// Sends what is left, as far as that is quick.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

thread_local! {
    static FORCED: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Runs something that begins one span, on this thread, which gets these ids.
pub(super) fn with_ids<T>(trace: TraceId, span: SpanId, begin: impl FnOnce() -> T) -> T {
    FORCED.set(Some((trace, span)));
    let begun = begin();
    FORCED.set(None);
    begun
}

/// Random ids, but for roots whose ids follow from what they are of.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        FORCED.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        FORCED.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// Sends batches with the HTTP client of panels and webhooks: no proxy, no redirect. The exporter has a thread and no runtime, so
/// that the requests are made on ours.
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    told: Mutex<Option<Instant>>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// A collector that is away loses traces and nothing else; told now and then.
    fn tell(&self, problem: &str) {
        let mut told = lock(&self.told);
        if told.is_none_or(|at| at.elapsed() >= TOLD) {
            *told = Some(Instant::now());
            tracing::warn!(problem, "the collector does not take traces; they are dropped meanwhile");
        }
    }
}

impl HttpClient for Sender {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let sent = self.runtime.spawn(exchange(self.client.clone(), request));
        Box::pin(async move {
            let answer = match sent.await {
                Ok(answer) => answer,
                Err(gone) => Err(gone.into()),
            };
            match &answer {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => self.tell(&format!("it answers {}", answer.status())),
                Err(error) => self.tell(&error.to_string()),
            }
            answer
        })
    }
}

/// One request. Errors come without the URL, which may hold a password.
async fn exchange(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let request = reqwest::Request::try_from(request).map_err(reqwest::Error::without_url)?;
    let mut answer = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let status: StatusCode = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response::builder().status(status).body(body.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_but_where_they_are_told() {
        let ids = Ids::default();
        assert_ne!(ids.new_trace_id(), ids.new_trace_id());
        let (trace, span) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([9; 8]));
        assert_eq!(with_ids(trace, span, || (ids.new_trace_id(), ids.new_span_id())), (trace, span));
        assert_ne!(ids.new_span_id(), span);
    }
}
