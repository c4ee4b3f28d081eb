//! Counts the writes to the API server where they leave the process, so that none can be forgotten.

use std::error::Error;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use kube::client::Body;

use crate::controller::observe::Observer;

use super::Metrics;
use super::series::OTHER;

/// The resources that the operator writes. Whatever else it should write one day is counted as `other` until it stands here.
const RESOURCES: [&str; 7] = ["dedicatedserverorders", "processinghandlers", "ipmanagers", "manualtasks", "leases", "secrets", "events"];

/// Counts what a client writes.
#[derive(Clone)]
pub struct CountWrites(pub Arc<Metrics>);

impl Observer for CountWrites {
    /// Resource and verb of a write.
    type Asked = Option<(String, &'static str)>;

    fn asks(&self, request: &Request<Body>) -> Self::Asked {
        verb(request.method()).map(|verb| (resource(request.uri().path()), verb))
    }

    fn answered(&self, asked: Self::Asked, answer: Result<StatusCode, &(dyn Error + 'static)>) {
        if let Some((resource, verb)) = asked {
            let result = answer.map_or("failed", |status| outcome(status.as_u16()));
            self.0.kubernetes_writes.of([&resource, verb, result]).inc();
        }
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
    use tower::{BoxError, Layer as _, Service as _};

    use super::*;
    use crate::controller::observe::Observe;

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
        let inner = tower::service_fn(|request: Request<Body>| async move {
            match request.method().as_str() {
                "PUT" => Ok(http::Response::builder().status(409).body(())?),
                "PATCH" => Err(BoxError::from("no answer")),
                _ => Ok(http::Response::new(())),
            }
        });
        let mut service = Observe(CountWrites(metrics.clone())).layer(inner);
        for method in ["GET", "POST", "PUT", "PUT", "PATCH"] {
            let request = Request::builder().method(method).uri("http://a/api/v1/namespaces/b/secrets/c");
            let _ = service.call(request.body(Body::empty()).unwrap()).await;
        }
        let count = |verb, result| metrics.kubernetes_writes.of(["secrets", verb, result]).get();
        assert_eq!((count("create", "ok"), count("update", "conflict"), count("patch", "failed")), (1, 2, 1));
        assert_eq!(metrics.kubernetes_writes.len(), 3);
    }
}
