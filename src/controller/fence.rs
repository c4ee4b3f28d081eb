//! Keeps a replica that takes turns with others from changing anything once they may have taken over, by its own clock.
//!
//! A process that was stopped for a while, by a full machine or a debugger, does not know of it: its timers are due, its passes go on
//! where they were, and the question who leads is only one of them. So nothing asks whether this replica was told that it does not lead
//! any more; what counts is how long ago it last renewed.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tower::BoxError;

use super::election::DEADLINE;
use super::panels::lock;

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
#[error("not sent: this replica has not renewed its leadership for {DEADLINE:?}, and another one may lead")]
pub struct NotLeading;

/// Open while this replica leads.
#[derive(Clone, Default)]
pub struct Fence(Option<Arc<Mutex<Option<Instant>>>>);

impl Fence {
    /// One that opens when leadership is renewed. The default one is always open: nobody takes turns.
    #[must_use]
    pub fn closed() -> Self {
        Self(Some(Arc::default()))
    }

    /// Leadership was renewed by a request that was begun then.
    pub fn renewed(&self, at: Instant) {
        if let Some(renewed) = &self.0 {
            lock(renewed).replace(at);
        }
    }

    /// Whether this replica leads, and nobody else can have taken over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|renewed| lock(renewed).is_some_and(|at| at.elapsed() < DEADLINE))
    }

    /// A client that sends no writes while the fence is closed.
    #[must_use]
    pub fn around(&self, client: &Client) -> Client {
        if self.0.is_none() {
            return client.clone();
        }
        let (fence, inner) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (fence, inner) = (fence.clone(), inner.clone());
            async move {
                if *request.method() != Method::GET && !fence.is_open() {
                    return Err(BoxError::from(NotLeading));
                }
                inner.send(request).await.map_err(BoxError::from)
            }
        });
        Client::new(service, client.default_namespace())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::coordination::v1::Lease;
    use kube::Api;
    use kube::api::PostParams;

    #[test]
    fn it_is_open_for_as_long_as_nobody_else_can_lead() {
        assert!(Fence::default().is_open(), "nobody takes turns");
        let fence = Fence::closed();
        assert!(!fence.is_open(), "not leading yet");
        fence.renewed(Instant::now());
        assert!(fence.is_open());
        fence.renewed(Instant::now().checked_sub(DEADLINE).unwrap());
        assert!(!fence.is_open(), "others may lead by now");
    }

    #[tokio::test]
    async fn reads_go_through_and_writes_only_while_it_is_open() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let server = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let body = r#"{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}}"#;
            async move { Ok::<_, BoxError>(http::Response::new(Body::from(body.as_bytes().to_vec()))) }
        });
        let fence = Fence::closed();
        let leases: Api<Lease> = Api::namespaced(fence.around(&Client::new(server, "default")), "default");
        leases.get("a").await.unwrap();
        let lease = Lease::default();
        let refused = leases.create(&PostParams::default(), &lease).await.unwrap_err();
        assert!(refused.to_string().contains("has not renewed its leadership"), "{refused}");
        assert_eq!(sent.load(Ordering::SeqCst), 1, "the write was not sent");
        fence.renewed(Instant::now());
        leases.create(&PostParams::default(), &lease).await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), 2);
    }
}
