//! Health and metrics over HTTP: `/livez` and `/readyz` say what the watches are really doing.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::clients::{Beat, Pulse};
use super::context::FirstLists;
use super::metrics::Metrics;

/// A watch is reopened every minute; one that was not even tried for so long is stuck.
const STUCK: Duration = Duration::from_mins(3);

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}; choose another with --{purpose}-addr")]
pub struct ListenError {
    address: SocketAddr,
    purpose: &'static str,
    source: Error,
}

/// What health is told from.
#[derive(Clone)]
pub struct Health {
    /// Watches.
    pub pulse: Pulse,
    /// First lists, by kind and scope. Not there while the process asks whether it may do its work.
    pub first_lists: Arc<OnceLock<FirstLists>>,
    /// False while this replica only stands by.
    pub leading: watch::Receiver<bool>,
}

/// Takes a port, or says clearly which one is busy. `[::]` is both families, unless the system keeps them apart.
pub async fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, ListenError> {
    listen_by(address, TcpListener::bind).await.map_err(|source| ListenError { address, purpose, source })
}

/// Where IPv6 is switched off there is no `[::]`: then it is `0.0.0.0`. What somebody else has, or what is not allowed, is no reason.
async fn listen_by<T>(address: SocketAddr, bind: impl AsyncFn(SocketAddr) -> Result<T, Error>) -> Result<T, Error> {
    match bind(address).await {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED && !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) =>
        {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))).await
        }
        other => other,
    }
}

/// Serves `/livez` and `/readyz`.
pub async fn serve_health(listener: TcpListener, health: Health) -> std::io::Result<()> {
    let app = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(health);
    axum::serve(listener, app).await
}

/// Serves `/metrics`.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    axum::serve(listener, Router::new().route("/metrics", get(show)).with_state(metrics)).await
}

async fn show(State(metrics): State<Arc<Metrics>>) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let kind = [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match metrics.text() {
        Ok(text) => (StatusCode::OK, kind, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [("content-type", "text/plain")], error.to_string()),
    }
}

async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    let stuck = health.pulse.beats().into_iter().filter(|(_, beat)| beat.tried.elapsed() > STUCK).map(|(path, _)| path);
    report(&stuck.map(|path| format!("watch {path} was not tried for {STUCK:?}")).collect::<Vec<_>>())
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let Some(first_lists) = health.first_lists.get() else {
        return report(&["starting: the API server has not said yet that this process may do its work".into()]);
    };
    if !*health.leading.borrow() {
        // A replica that stands by watches nothing; it is ready to take over.
        return (StatusCode::OK, "ok (standing by)\n".into());
    }
    let mut problems: Vec<String> = first_lists.awaited().map(|watch| format!("{watch}: first list not complete")).collect();
    problems.extend(health.pulse.beats().iter().filter_map(|(path, beat)| trouble(path, *beat)));
    report(&problems)
}

fn trouble(path: &str, beat: Beat) -> Option<String> {
    if let Some(status) = beat.refused {
        return Some(format!("{path}: the API server answers {status}"));
    }
    match beat.opened {
        Some(opened) if opened.elapsed() <= STUCK => None,
        Some(_) => Some(format!("{path}: not opened for {STUCK:?}")),
        None => Some(format!("{path}: not opened yet")),
    }
}

fn report(problems: &[String]) -> (StatusCode, String) {
    if problems.is_empty() { (StatusCode::OK, "ok\n".into()) } else { (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kubelet ends what does not live, and sends no requests to what is not ready: neither is a matter of who leads then.
    #[tokio::test]
    async fn while_it_starts_it_lives_and_is_not_ready() {
        for leads in [true, false] {
            let (_lead, leading) = watch::channel(leads);
            let health = Health { pulse: Pulse::default(), first_lists: Arc::default(), leading };
            assert_eq!(livez(State(health.clone())).await.0, StatusCode::OK);
            assert_eq!(readyz(State(health.clone())).await.0, StatusCode::SERVICE_UNAVAILABLE);
            assert!(health.first_lists.set(FirstLists::default()).is_ok());
            assert_eq!(readyz(State(health)).await.0, StatusCode::OK);
        }
    }

    /// As where the kernel was started without IPv6: EAFNOSUPPORT, which has no kind of its own.
    #[tokio::test]
    async fn without_ipv6_every_address_is_every_one_of_version_4() {
        let bind = |error: ErrorKind| {
            async move |address: SocketAddr| if address.is_ipv6() { Err(Error::new(error, "no")) } else { Ok(address.to_string()) }
        };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(listen_by(address("[::]:8081"), bind(ErrorKind::Other)).await.unwrap(), "0.0.0.0:8081");
        assert_eq!(listen_by(address("127.0.0.1:8081"), bind(ErrorKind::Other)).await.unwrap(), "127.0.0.1:8081");
        for (asked, error) in
            [("[::]:8081", ErrorKind::AddrInUse), ("[::]:8081", ErrorKind::PermissionDenied), ("[::1]:8081", ErrorKind::Other)]
        {
            assert_eq!(listen_by(address(asked), bind(error)).await.unwrap_err().kind(), error, "{asked}");
        }
    }

    /// What asks may have either family: the kubelet of a cluster that has one of them only, and Prometheus.
    #[tokio::test]
    async fn every_address_is_of_both_families() {
        let listener = listen("[::]:0".parse().unwrap(), "health").await.unwrap();
        let local = listener.local_addr().unwrap();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, local.port())).await.unwrap();
        if local.is_ipv6() {
            tokio::net::TcpStream::connect((Ipv6Addr::LOCALHOST, local.port())).await.unwrap();
        }
    }
}
