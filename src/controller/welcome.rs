//! Notices when client and API server do not know each other any more: then only a process that reads its identity anew goes on.
//!
//! A token in a file is read again by kube within a minute. A client certificate, a token that stands in the kubeconfig itself, and the
//! authority that the server's certificate is checked by are read once, at the start.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use kube::client::Body;

use crate::panel::tls::{certificate_text, tls_error};

use super::observe::Observer;
use super::panels::lock;

/// A token that was replaced in its file is used after that long at the latest.
const TOKEN_FILE: Duration = Duration::from_mins(1);
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
pub struct Guest {
    welcome: Welcome,
    client: usize,
}

impl Guest {
    /// One more client.
    #[must_use]
    pub fn new(welcome: &Welcome) -> Self {
        let mut all = lock(&welcome.0);
        all.push(None);
        Self { welcome: welcome.clone(), client: all.len() - 1 }
    }
}

impl Observer for Guest {
    type Asked = ();

    fn asks(&self, _: &Request<Body>) {}

    fn answered(&self, (): (), answer: Result<StatusCode, &(dyn Error + 'static)>) {
        let Self { welcome, client } = self;
        match answer {
            Ok(StatusCode::UNAUTHORIZED) => welcome.refused(*client, "it answers 401 (Unauthorized)".into(), Instant::now()),
            Ok(_) => welcome.accepted(*client),
            Err(error) => {
                if let Some(why) = untrusted(error) {
                    welcome.refused(*client, why, Instant::now());
                }
            }
        }
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
        let (one, two) = (Guest::new(&welcome).client, Guest::new(&welcome).client);
        let now = Instant::now();
        welcome.refused(one, "401".into(), now);
        assert_eq!(welcome.worn_out(), None, "once, and nothing was asked since");
        welcome.refused(two, "401".into(), now);
        welcome.refused(one, "401".into(), now + Duration::from_secs(59));
        assert_eq!(welcome.worn_out(), None);
        welcome.accepted(one);
        welcome.refused(one, "401".into(), now + TOKEN_FILE);
        assert_eq!(welcome.worn_out(), None, "it was welcome in between");
        welcome.refused(two, "its certificate".into(), now + TOKEN_FILE);
        assert_eq!(welcome.worn_out().as_deref(), Some("its certificate"));
    }

    #[test]
    fn only_401_and_certificates_are_refusals() {
        let welcome = Welcome::default();
        let guest = Guest::new(&welcome);
        let told = || lock(&welcome.0)[guest.client].clone().map(|r| r.why);
        let down = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let tls = std::io::Error::other(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
        let answers: [(Result<StatusCode, &(dyn Error + 'static)>, bool); 6] = [
            (Ok(StatusCode::FORBIDDEN), false),
            (Ok(StatusCode::UNAUTHORIZED), true),
            (Err(&down), true),
            (Ok(StatusCode::FORBIDDEN), false),
            (Err(&down), false),
            (Err(&tls), true),
        ];
        for (answer, refused) in answers {
            guest.answered((), answer);
            assert_eq!(told().is_some(), refused, "{answer:?}: {:?}", told());
        }
        assert!(told().unwrap().contains("not trusted"), "{:?}", told());
    }
}
