//! Counts the writes to the API server where they leave the process, so that none can be forgotten.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use http::Method;
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::Metrics;
use super::series::OTHER;

/// The resources that the operator writes. Whatever else it should write one day is counted as `other` until it stands here.
const RESOURCES: [&str; 7] = ["dedicatedserverorders", "processinghandlers", "ipmanagers", "manualtasks", "leases", "secrets", "events"];

/// Wraps a client.
#[derive(Clone)]
pub struct CountWrites(pub Arc<Metrics>);

impl<S> Layer<S> for CountWrites {
    type Service = CountingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountingService { inner, metrics: self.0.clone() }
    }
}

/// A client whose writes are counted.
#[derive(Clone)]
pub struct CountingService<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, R> Service<http::Request<Body>> for CountingService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<R>, Error = BoxError>,
    S::Future: Send + 'static,
    R: 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let write = verb(request.method()).map(|verb| (resource(request.uri().path()), verb));
        let answer: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(self.inner.call(request));
        let Some((resource, verb)) = write else { return answer };
        let metrics = self.metrics.clone();
        answer
            .inspect(move |result: &Result<http::Response<R>, BoxError>| {
                let result = result.as_ref().map_or("failed", |response| outcome(response.status().as_u16()));
                metrics.kubernetes_writes.of([&resource, verb, result]).inc();
            })
            .boxed()
    }
}

fn verb(method: &Method) -> Option<&'static str> {
    match *method {
        Method::POST => Some("create"),
        Method::PUT => Some("update"),
        Method::PATCH => Some("patch"),
        Method::DELETE => Some("delete"),
        _ => None,
    }
}

fn outcome(status: u16) -> &'static str {
    match status {
        ..300 => "ok",
        409 => "conflict",
        _ => "refused",
    }
}

/// `/apis/GROUP/VERSION[/namespaces/NAMESPACE]/RESOURCE[/NAME[/SUBRESOURCE]]`, and the same below `/api/VERSION`.
fn resource(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    match rest.first().filter(|name| RESOURCES.contains(name)) {
        Some(name) if rest.get(2) == Some(&"status") => format!("{name}/status"),
        Some(name) => (*name).to_owned(),
        None => OTHER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_from_paths() {
        for (path, wanted) in [
            ("/apis/dci-operator.dev/v1alpha1/namespaces/shop/dedicatedserverorders/web/status", "dedicatedserverorders/status"),
            ("/apis/dci-operator.dev/v1alpha1/namespaces/shop/dedicatedserverorders/status", "dedicatedserverorders"),
            ("/api/v1/namespaces/shop/secrets", "secrets"),
            ("/apis/coordination.k8s.io/v1/namespaces/o/leases/x", "leases"),
            ("/apis/events.k8s.io/v1/namespaces/events/events", "events"),
            ("/api/v1/namespaces/shop", "other"),
            ("/api/v1/namespaces/shop/pods/made-up", "other"),
            ("/", "other"),
        ] {
            assert_eq!(resource(path), wanted, "{path}");
        }
    }

    #[tokio::test]
    async fn writes_are_counted_with_their_result_and_reads_are_not() {
        let metrics = Arc::new(Metrics::default());
        let inner = tower::service_fn(|request: http::Request<Body>| async move {
            match request.method().as_str() {
                "PUT" => Ok(http::Response::builder().status(409).body(())?),
                "PATCH" => Err(BoxError::from("no answer")),
                _ => Ok(http::Response::new(())),
            }
        });
        let mut service = CountWrites(metrics.clone()).layer(inner);
        for method in ["GET", "POST", "PUT", "PUT", "PATCH"] {
            let request = http::Request::builder().method(method).uri("http://a/api/v1/namespaces/b/secrets/c");
            let _ = service.call(request.body(Body::empty()).unwrap()).await;
        }
        let count = |verb, result| metrics.kubernetes_writes.of(["secrets", verb, result]).get();
        assert_eq!((count("create", "ok"), count("update", "conflict"), count("patch", "failed")), (1, 2, 1));
        assert_eq!(metrics.kubernetes_writes.len(), 3);
    }
}
