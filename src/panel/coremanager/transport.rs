//! Posts one form to a panel and brings the body back, telling what was sent from what was not.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{StatusCode, Url};

use crate::panel::error::PanelError;
use crate::panel::settings::{ConnectionSettings, PanelId, SettingsError, TlsMode};
use crate::panel::tls::{self, causes, certificate_text, tls_error};

use super::document::{MAX_BODY, bounded};

/// Idle connections are dropped before any server would: a request written to a connection that the server is just
/// closing has no answer, and a change without an answer has to be looked for instead of being known.
const IDLE: Duration = Duration::from_secs(2);
const MAX_CONNECT: Duration = Duration::from_secs(20);

/// One panel's address and the HTTP client for it.
pub(super) struct Transport {
    http: reqwest::Client,
    url: Url,
    panel: String,
    timeout: Duration,
}

impl Transport {
    pub(super) fn new(settings: &ConnectionSettings, id: &PanelId) -> Result<Self, SettingsError> {
        let url = Url::parse(settings.url.trim()).map_err(|_| SettingsError::Url("not an address"))?;
        // Without TLS (loopback only) a system without authorities is no hindrance; no redirect ever leads to another scheme.
        let tls = if url.scheme() == "http" { &TlsMode::Insecure } else { &settings.tls };
        let timeout = settings.timeout.max(Duration::from_millis(1));
        let http = tls::http_client(tls)?
            .pool_idle_timeout(IDLE)
            // Shorter than the whole, so that it is known that a connection never came about and nothing was sent.
            .connect_timeout((timeout / 2).min(MAX_CONNECT))
            .build()
            .map_err(|e| SettingsError::Http(chain(&e)))?;
        Ok(Self { http, url, panel: id.authority(), timeout })
    }

    pub(super) fn panel(&self) -> &str {
        &self.panel
    }

    /// Posts the fields and reads the answer. The deadline covers all of it.
    pub(super) async fn post(&self, func: &str, fields: &[(&str, &str)]) -> Result<Vec<u8>, PanelError> {
        match tokio::time::timeout(self.timeout, self.exchange(func, fields)).await {
            Ok(result) => result,
            Err(_) => Err(self.no_answer(func, format!("not complete within {:?}", self.timeout))),
        }
    }

    async fn exchange(&self, func: &str, fields: &[(&str, &str)]) -> Result<Vec<u8>, PanelError> {
        let mut response = match self.http.post(self.url.clone()).form(fields).send().await {
            Ok(response) => response,
            Err(error) => return Err(self.failure(func, &error.without_url())),
        };
        let status = response.status();
        if status.is_redirection() {
            let target = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).and_then(|l| self.url.join(l).ok());
            // The host alone: the rest of the address may repeat what was posted.
            let host = target.as_ref().and_then(Url::host_str).map_or_else(|| "nowhere".to_owned(), bounded);
            return Err(self.not_a_document(func, format!("a redirect ({}) to {host}", status.as_u16())));
        }
        if status != StatusCode::OK {
            return Err(self.not_a_document(func, format!("HTTP status {}", status.as_u16())));
        }
        let too_large = || self.not_a_document(func, format!("more than {MAX_BODY} bytes"));
        let announced = response.content_length().unwrap_or(0);
        if announced > MAX_BODY as u64 {
            return Err(too_large());
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(bounded);
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => return Err(too_large()),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(self.no_answer(func, chain(&error.without_url()))),
            }
        }
        tracing::trace!(panel = self.panel, func, bytes = body.len(), kind, "answer");
        Ok(body)
    }

    /// Sorts a failure before any answer: without a connection nothing was sent; otherwise nobody knows.
    fn failure(&self, func: &str, error: &reqwest::Error) -> PanelError {
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
