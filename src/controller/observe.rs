//! A layer for clients of the API server: somebody sees what is asked and how it is answered, and changes nothing of it.

use std::error::Error;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response, StatusCode};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Somebody who sees requests and answers.
pub trait Observer: Clone {
    /// What is kept of a request until it is answered.
    type Asked: Send + 'static;

    /// A request leaves.
    fn asks(&self, request: &Request<Body>) -> Self::Asked;

    /// It was answered with a status, or not at all.
    fn answered(&self, asked: Self::Asked, answer: Result<StatusCode, &(dyn Error + 'static)>);
}

/// Shows an observer what a client does.
#[derive(Clone)]
pub struct Observe<O>(pub O);

impl<S, O: Observer> Layer<S> for Observe<O> {
    type Service = Observed<S, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, observer: self.0.clone() }
    }
}

/// A client that is observed.
#[derive(Clone)]
pub struct Observed<S, O> {
    inner: S,
    observer: O,
}

impl<S, R, O> Service<Request<Body>> for Observed<S, O>
where
    S: Service<Request<Body>, Response = Response<R>, Error = BoxError>,
    S::Future: Send + 'static,
    R: 'static,
    O: Observer + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let observer = self.observer.clone();
        let asked = observer.asks(&request);
        self.inner
            .call(request)
            .inspect(move |result: &Result<Response<R>, BoxError>| match result {
                Ok(response) => observer.answered(asked, Ok(response.status())),
                Err(error) => observer.answered(asked, Err(error.as_ref())),
            })
            .boxed()
    }
}
