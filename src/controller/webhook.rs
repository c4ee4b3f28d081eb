//! One signed JSON POST to a department. Nothing of the answer but its status is looked at.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use reqwest::header::CONTENT_TYPE;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::api::ManualTask;
use crate::api::department::Webhook;
use crate::api::task::{Notification, TaskStatus};
use crate::panel::causes::causes;
use crate::panel::denied::DeniedNetworks;
use crate::panel::settings::{SettingsError, TlsMode};
use crate::panel::{resolver, tls};
use crate::provisioning::context::cut;

/// The longest one delivery may take, connection and answer included.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest text of a message, in bytes: details and note are cut to it.
const TEXT: usize = 4096;

/// Why a department was not told. Never carries the address, which may hold a token, nor the Secret.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The handler's settings are not usable.
    #[error("{0}")]
    Invalid(String),
    /// The certificates of the handler are not usable.
    #[error(transparent)]
    Tls(#[from] SettingsError),
    /// The address is in a network that is refused.
    #[error("address refused: {0}")]
    Denied(String),
    /// The Secret cannot be used.
    #[error(transparent)]
    Secret(#[from] super::secrets::SecretError),
    /// No connection, or no answer.
    #[error("{0}")]
    Http(String),
    /// The receiver did not take it.
    #[error("HTTP status {0}")]
    Status(u16),
    /// It took too long.
    #[error("no answer within {TIMEOUT:?}")]
    TimedOut,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same for every attempt: who gets it twice, has it already.
    pub id: String,
    /// Raised, Escalated or Closed.
    pub event: String,
    /// JSON.
    pub body: String,
}

impl Message {
    /// What a department is told of a task. Nothing in a task is secret.
    #[must_use]
    pub fn new(task: &ManualTask, status: &TaskStatus, told: &Notification) -> Self {
        let spec = &task.spec;
        let id = format!("{}.{}.{}", task.uid().unwrap_or_default(), told.event, told.department);
        let body = json!({
            "event": told.event,
            "delivery": id,
            "time": told.at,
            "department": told.department,
            "task": {
                "namespace": task.namespace(),
                "name": task.name_any(),
                "uid": task.uid(),
                "type": spec.type_.as_str(),
                "department": spec.department,
                "summary": cut(&spec.summary, TEXT),
                // Lines stay lines: JSON takes care of them.
                "details": spec.details.as_ref().map(|text| lines(text)),
                "deadline": spec.deadline,
                "escalatedTo": status.escalated_to,
                "resolution": spec.resolution,
                "note": spec.note.as_ref().map(|text| lines(text)),
            },
            "order": {"namespace": spec.order_ref.namespace, "name": spec.order_ref.name, "uid": spec.order_ref.uid},
            "handler": spec.handler_ref.as_ref().map(|h| &h.name),
        });
        Self { id, event: told.event.clone(), body: body.to_string() }
    }
}

/// A text cut to what a message carries, line by line.
fn lines(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let rest = TEXT.saturating_sub(kept.len() + 1);
        if rest < 8 {
            break;
        }
        if !kept.is_empty() {
            kept.push('\n');
        }
        kept.push_str(&cut(line, rest));
    }
    kept
}

/// HMAC-SHA256 of `<timestamp>.<body>`, as it stands in the header.
#[must_use]
pub fn signature(secret: &[u8], timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    format!("sha256={}", hex(context.sign().as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sends a message once.
pub async fn send(webhook: &Webhook, secret: &SecretString, message: &Message, denied: &DeniedNetworks) -> Result<(), WebhookError> {
    match tokio::time::timeout(TIMEOUT, post(webhook, secret, message, denied)).await {
        Ok(result) => result,
        Err(_) => Err(WebhookError::TimedOut),
    }
}

async fn post(webhook: &Webhook, secret: &SecretString, message: &Message, denied: &DeniedNetworks) -> Result<(), WebhookError> {
    let url = reqwest::Url::parse(&webhook.url).map_err(|_| WebhookError::Invalid("webhook.url is no address".into()))?;
    resolver::check(denied, &url).map_err(|e| WebhookError::Denied(e.to_string()))?;
    let tls = match &webhook.ca_bundle {
        // Without TLS, on a loopback address, a system without authorities is no hindrance.
        _ if webhook.url.starts_with("http://") => TlsMode::Insecure,
        Some(bundle) => TlsMode::CaBundle(bundle.clone()),
        None => TlsMode::System,
    };
    let http = tls::http_client(&tls, denied)?.build().map_err(|e| WebhookError::Invalid(told(&e.without_url())))?;
    let timestamp = Timestamp::now().as_second();
    let answer = http
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header("X-DCI-Event", &message.event)
        .header("X-DCI-Delivery", &message.id)
        .header("X-DCI-Timestamp", timestamp.to_string())
        .header("X-DCI-Signature", signature(secret.expose_secret().as_bytes(), timestamp, message.body.as_bytes()))
        .body(message.body.clone())
        .send()
        .await
        .map_err(|e| match resolver::denied(&e) {
            Some(denied) => WebhookError::Denied(denied.to_string()),
            None => WebhookError::Http(told(&e.without_url())),
        })?;
    // The body is not read: the connection is closed with it.
    if answer.status().is_success() { Ok(()) } else { Err(WebhookError::Status(answer.status().as_u16())) }
}

/// An error and its last cause; of a certificate what is wrong with it, and its checksum.
fn told(error: &reqwest::Error) -> String {
    if let Some(rustls::Error::InvalidCertificate(reason)) = tls::tls_error(error) {
        return cut(&format!("certificate refused: {}; set webhook.caBundle to its authority", tls::certificate_text(reason)), 256);
    }
    let last = causes(error).last();
    cut(&last.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")), 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231_over_time_and_body() {
        // Test case 2.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let tag = hmac::sign(&key, b"what do ya want for nothing?");
        assert_eq!(hex(tag.as_ref()), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac Jefe
        let wanted = "sha256=d3793e2b4103edfbd98cc19591832f5fad701d413db9fcae0ae7dab8184ed207";
        assert_eq!(signature(b"Jefe", 1_700_000_000, b"{}"), wanted);
        assert_ne!(signature(b"Jefe", 1_700_000_000, b"{}"), signature(b"Jefe", 1_700_000_001, b"{}"), "the time is signed too");
    }

    #[test]
    fn a_long_text_is_cut_and_keeps_its_lines() {
        assert_eq!(lines("one\n\ntwo"), "one\n\ntwo");
        let long = "ж".repeat(100).as_str().to_owned() + "\n";
        assert!(lines(&long.repeat(100)).len() <= TEXT);
    }
}
