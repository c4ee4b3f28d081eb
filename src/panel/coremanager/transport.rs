//! Posts one form to a panel and brings the body back, telling what was sent from what was not.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use reqwest::header::LOCATION;
use reqwest::{StatusCode, Url};

use crate::panel::causes::causes;
use crate::panel::error::PanelError;
use crate::panel::resolver;
use crate::panel::settings::{ConnectionSettings, PanelId, SettingsError, TlsMode};
use crate::panel::tls::{self, certificate_text, tls_error};

use super::document::{MAX_BODY, MAX_FORM, bounded};

/// Idle connections are dropped before any server would: a request written to a connection that the server is just
/// closing has no answer, and a change without an answer has to be looked for instead of being known.
const IDLE: Duration = Duration::from_secs(2);
const MAX_CONNECT: Duration = Duration::from_secs(20);

/// What brings a form to a panel and its answer back where that is not HTTP: a test that has the panels in its own process.
pub trait Wire: Send + Sync {
    /// Posts these fields to this address. The deadline of the call covers it.
    fn post(&self, url: &str, fields: &[(&str, &str)]) -> BoxFuture<'static, Result<Vec<u8>, WireError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Nothing was sent.
    NotSent(String),
    /// Nobody knows whether it arrived.
    NoAnswer(String),
}

/// How much of an answer is read: one panel's must not take the memory of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Most {
    /// What no list is.
    Form,
    /// A list, of which so many bytes are held already.
    Page(usize),
}

impl Most {
    fn bytes(self) -> usize {
        match self {
            Self::Form => MAX_FORM,
            Self::Page(held) => MAX_BODY.saturating_sub(held),
        }
    }

    fn exceeded(self) -> String {
        match self {
            Self::Form => format!("more than {MAX_FORM} bytes"),
            Self::Page(0) => format!("more than {MAX_BODY} bytes"),
            Self::Page(_) => format!("more than {MAX_BODY} bytes in all pages of the list"),
        }
    }
}

/// How forms get to a panel.
enum Way {
    Http(reqwest::Client),
    Wire(Arc<dyn Wire>),
}

/// One panel's address and the way there.
pub(super) struct Transport {
    way: Way,
    url: Url,
    panel: String,
    timeout: Duration,
}

impl Transport {
    pub(super) fn new(settings: &ConnectionSettings, id: &PanelId, wire: Option<Arc<dyn Wire>>) -> Result<Self, SettingsError> {
        let url = Url::parse(settings.url.trim()).map_err(|_| SettingsError::Url("not an address"))?;
        resolver::check(&settings.denied, &url)?;
        let timeout = settings.timeout.max(Duration::from_millis(1));
        let way = match wire {
            Some(wire) => Way::Wire(wire),
            None => Way::Http(Self::http(settings, &url, timeout)?),
        };
        Ok(Self { way, url, panel: id.authority(), timeout })
    }

    fn http(settings: &ConnectionSettings, url: &Url, timeout: Duration) -> Result<reqwest::Client, SettingsError> {
        // Without TLS (loopback only) a system without authorities is no hindrance; no redirect ever leads to another scheme.
        let tls = if url.scheme() == "http" { &TlsMode::Insecure } else { &settings.tls };
        tls::http_client(tls, &settings.denied)?
            .pool_idle_timeout(IDLE)
            // Shorter than the whole, so that it is known that a connection never came about and nothing was sent.
            .connect_timeout((timeout / 2).min(MAX_CONNECT))
            .build()
            .map_err(|e| SettingsError::Http(chain(&e)))
    }

    pub(super) fn panel(&self) -> &str {
        &self.panel
    }

    /// Posts the fields and reads the answer. The deadline covers all of it.
    pub(super) async fn post(&self, func: &str, fields: &[(&str, &str)], most: Most) -> Result<Vec<u8>, PanelError> {
        let exchange = async {
            match &self.way {
                Way::Http(http) => self.exchange(http, func, fields, most).await,
                Way::Wire(wire) => match wire.post(self.url.as_str(), fields).await {
                    Ok(body) if body.len() > most.bytes() => Err(self.not_a_document(func, most.exceeded())),
                    Ok(body) => Ok(body),
                    Err(error) => Err(self.on_the_wire(func, error)),
                },
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(self.no_answer(func, format!("not complete within {:?}", self.timeout))),
        }
    }

    async fn exchange(&self, http: &reqwest::Client, func: &str, fields: &[(&str, &str)], most: Most) -> Result<Vec<u8>, PanelError> {
        let mut response = match http.post(self.url.clone()).form(fields).send().await {
            Ok(response) => response,
            Err(error) => return Err(self.failure(func, &error.without_url())),
        };
        let status = response.status();
        if status.is_redirection() {
            let target = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).and_then(|l| self.url.join(l).ok());
            // The panel's own host alone: any other part of the address, its host too, may repeat what was posted.
            let to = match target {
                None => "nowhere",
                Some(target) if target.host() == self.url.host() => self.url.host_str().unwrap_or_default(),
                Some(_) => "another host",
            };
            return Err(self.not_a_document(func, format!("a redirect ({}) to {to}", status.as_u16())));
        }
        if status != StatusCode::OK {
            return Err(self.not_a_document(func, format!("HTTP status {}", status.as_u16())));
        }
        let too_large = || self.not_a_document(func, most.exceeded());
        let announced = response.content_length().unwrap_or(0);
        if announced > most.bytes() as u64 {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > most.bytes() => return Err(too_large()),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(self.no_answer(func, chain(&error.without_url()))),
            }
        }
        // Nothing of what the panel sent, nor its headers: they may repeat what was posted.
        tracing::trace!(panel = self.panel, func, bytes = body.len(), "answer");
        Ok(body)
    }

    /// Sorts a failure before any answer: without a connection nothing was sent; otherwise nobody knows.
    fn failure(&self, func: &str, error: &reqwest::Error) -> PanelError {
        if let Some(denied) = resolver::denied(error) {
            return PanelError::AddressDenied { panel: self.panel.clone(), detail: bounded(&denied.to_string()) };
        }
        if error.is_builder() || error.is_connect() {
            return match tls_error(error) {
                Some(rustls::Error::InvalidCertificate(reason)) => {
                    PanelError::Certificate { panel: self.panel.clone(), detail: bounded(&certificate_text(reason)) }
                }
                Some(other) => PanelError::Unreachable { panel: self.panel.clone(), detail: bounded(&format!("TLS: {other}")) },
                None => PanelError::Unreachable { panel: self.panel.clone(), detail: chain(error) },
            };
        }
        self.no_answer(func, chain(error))
    }

    fn on_the_wire(&self, func: &str, error: WireError) -> PanelError {
        match error {
            WireError::NotSent(detail) => PanelError::Unreachable { panel: self.panel.clone(), detail: bounded(&detail) },
            WireError::NoAnswer(detail) => self.no_answer(func, bounded(&detail)),
        }
    }

    fn no_answer(&self, func: &str, detail: String) -> PanelError {
        PanelError::NoAnswer { panel: self.panel.clone(), func: func.to_owned(), detail }
    }

    pub(super) fn not_a_document(&self, func: &str, detail: String) -> PanelError {
        PanelError::NotADocument { panel: self.panel.clone(), func: func.to_owned(), detail }
    }
}

/// The last cause, which is what the network said, after what it was done for.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    match texts.as_slice() {
        [] => String::new(),
        [only] => bounded(only),
        [first, .., last] => bounded(&format!("{first}: {last}")),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use secrecy::SecretString;

    use super::*;

    struct Answers(Option<Result<Vec<u8>, WireError>>);

    impl Wire for Answers {
        fn post(&self, _: &str, _: &[(&str, &str)]) -> BoxFuture<'static, Result<Vec<u8>, WireError>> {
            match self.0.clone() {
                Some(answer) => futures::future::ready(answer).boxed(),
                None => futures::future::pending().boxed(),
            }
        }
    }

    async fn answer(wire: Option<Result<Vec<u8>, WireError>>) -> Result<Vec<u8>, PanelError> {
        let settings = ConnectionSettings::new("https://dci.example.net/dcimgr", "op", SecretString::from("x"));
        let id = PanelId::of_url(&settings.url).unwrap();
        Transport::new(&settings, &id, Some(Arc::new(Answers(wire)))).unwrap().post("whoami", &[], Most::Form).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_sent_is_told_from_what_has_no_answer_on_any_wire() {
        assert_eq!(answer(Some(Ok(b"x".to_vec()))).await.unwrap(), b"x");
        let not_sent = answer(Some(Err(WireError::NotSent("refused".into())))).await;
        assert!(matches!(not_sent, Err(PanelError::Unreachable { .. })), "{not_sent:?}");
        let lost = answer(Some(Err(WireError::NoAnswer("closed".into())))).await;
        assert!(matches!(lost, Err(PanelError::NoAnswer { .. })), "{lost:?}");
        let silent = answer(None).await;
        assert!(matches!(silent, Err(PanelError::NoAnswer { .. })), "the deadline covers it: {silent:?}");
        let large = answer(Some(Ok(vec![b' '; MAX_FORM + 1]))).await;
        assert!(matches!(&large, Err(PanelError::NotADocument { detail, .. }) if detail.contains("more than")), "{large:?}");
    }
}
