//! Notices when client and API server do not know each other any more: then only a process that reads its identity anew goes on.
//!
//! A token in a file is read again by kube within a minute. A client certificate, a token that stands in the kubeconfig itself, and the
//! authority that the server's certificate is checked by are read once, at the start.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use crate::panel::tls::{certificate_text, tls_error};

use super::panels::lock;

/// A token that was replaced in its file is used after that long at the latest.
const TOKEN_FILE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What each client was told since it was last welcome.
#[derive(Clone, Default)]
pub struct Welcome(Arc<Mutex<Vec<Option<Refused>>>>);

/// Refusals in a row.
#[derive(Clone, Debug)]
struct Refused {
    first: Instant,
    last: Instant,
    why: String,
}

impl Welcome {
    fn refused(&self, client: usize, why: String, now: Instant) {
        let mut all = lock(&self.0);
        if let Some(of) = all.get_mut(client) {
            let first = of.as_ref().map_or(now, |before| before.first);
            *of = Some(Refused { first, last: now, why });
        }
    }

    fn accepted(&self, client: usize) {
        if let Some(of) = lock(&self.0).get_mut(client) {
            *of = None;
        }
    }

    /// Why the clients are not welcome, and were not for longer than it takes to read a token again.
    #[must_use]
    pub fn worn_out(&self) -> Option<String> {
        let all = lock(&self.0);
        all.iter().flatten().find(|r| r.last.duration_since(r.first) >= TOKEN_FILE).map(|r| r.why.clone())
    }

    /// Waits until the clients are not welcome any more.
    pub async fn until_worn_out(&self) -> String {
        loop {
            if let Some(why) = self.worn_out() {
                return why;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Notes what a client is told.
#[derive(Clone)]
pub struct WelcomeLayer {
    welcome: Welcome,
    client: usize,
}

impl WelcomeLayer {
    /// For one more client.
    #[must_use]
    pub fn new(welcome: &Welcome) -> Self {
        let mut all = lock(&welcome.0);
        all.push(None);
        Self { welcome: welcome.clone(), client: all.len() - 1 }
    }
}

impl<S> Layer<S> for WelcomeLayer {
    type Service = WelcomeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WelcomeService { inner, of: self.clone() }
    }
}

/// A client whose answers are looked at.
#[derive(Clone)]
pub struct WelcomeService<S> {
    inner: S,
    of: WelcomeLayer,
}

impl<S, R> Service<http::Request<Body>> for WelcomeService<S>
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
        let WelcomeLayer { welcome, client } = self.of.clone();
        let answer: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(self.inner.call(request));
        answer
            .inspect(move |result: &Result<http::Response<R>, BoxError>| match result {
                Ok(response) if response.status() == http::StatusCode::UNAUTHORIZED => {
                    welcome.refused(client, "it answers 401 (Unauthorized)".into(), Instant::now());
                }
                Ok(_) => welcome.accepted(client),
                Err(error) => {
                    if let Some(why) = untrusted(error.as_ref()) {
                        welcome.refused(client, why, Instant::now());
                    }
                }
            })
            .boxed()
    }
}

/// What is wrong with a certificate, the server's or ours, where that is what failed.
fn untrusted(error: &(dyn Error + 'static)) -> Option<String> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(reason) => Some(format!("its certificate is not trusted: {}", certificate_text(reason))),
        rustls::Error::AlertReceived(alert) => Some(format!("it ends the TLS handshake: {alert:?}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_worn_out_when_it_was_refused_for_longer_than_a_token_takes_to_be_read_again() {
        let welcome = Welcome::default();
        let (one, two) = (WelcomeLayer::new(&welcome).client, WelcomeLayer::new(&welcome).client);
        let now = Instant::now();
        welcome.refused(one, "401".into(), now);
        assert_eq!(welcome.worn_out(), None, "once, and nothing was asked since");
        welcome.refused(two, "401".into(), now);
        welcome.refused(one, "401".into(), now + TOKEN_FILE - Duration::from_secs(1));
        assert_eq!(welcome.worn_out(), None);
        welcome.accepted(one);
        welcome.refused(one, "401".into(), now + TOKEN_FILE);
        assert_eq!(welcome.worn_out(), None, "it was welcome in between");
        welcome.refused(two, "its certificate".into(), now + TOKEN_FILE);
        assert_eq!(welcome.worn_out().as_deref(), Some("its certificate"));
    }

    #[tokio::test]
    async fn only_401_and_certificates_are_refusals() {
        let welcome = Welcome::default();
        let layer = WelcomeLayer::new(&welcome);
        let told = || lock(&welcome.0)[layer.client].clone().map(|r| r.why);
        let answers = |path: &str| match path {
            "/401" => Ok(http::Response::builder().status(401).body(()).unwrap()),
            "/403" => Ok(http::Response::builder().status(403).body(()).unwrap()),
            "/down" => Err(BoxError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))),
            _ => {
                let reason = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
                Err(BoxError::from(std::io::Error::other(reason)))
            }
        };
        let inner = tower::service_fn(move |request: http::Request<Body>| futures::future::ready(answers(request.uri().path())));
        let mut service = layer.layer(inner);
        for (path, refused) in [("/403", false), ("/401", true), ("/down", true), ("/403", false), ("/down", false), ("/tls", true)] {
            let _ = service.call(http::Request::builder().uri(path).body(Body::empty()).unwrap()).await;
            assert_eq!(told().is_some(), refused, "{path}: {:?}", told());
        }
        assert!(told().unwrap().contains("not trusted"), "{:?}", told());
    }
}
