//! How a panel is reached: what a spec and its Secrets say.

use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::api::common::Connection;
use crate::panel::settings::{ConnectionSettings, Permission, TlsMode};
use crate::provisioning::reason::Reason;

use super::context::Context;
use super::credentials::SecretPassword;
use super::problem::{Problem, problem_of_settings};
use super::secrets::{self, SecretError};

/// Settings of a connection, with a text that changes when they do.
pub struct Made {
    /// Settings.
    pub settings: ConnectionSettings,
    /// What they were made from.
    pub made_from: String,
}

/// Reads the Secrets of a connection. They are read at every probe, so that a rotation takes effect by itself.
pub async fn connection(context: &Context, namespace: &str, spec: &Connection, requests_per_second: u32) -> Result<Made, Problem> {
    let secret = secrets::read(&context.client, namespace, &spec.credentials_secret_ref.name).await.map_err(|e| secret_problem(&e))?;
    let username = secret.text("username").map_err(|e| secret_problem(&e))?;
    let password = secret.text("password").map_err(|e| secret_problem(&e))?;
    let mut made_from = format!("{spec:?} {requests_per_second} {}", secret.version);
    let mut settings = ConnectionSettings::new(spec.url.clone(), username.expose_secret(), password);
    settings.timeout = spec.timeout.0;
    let source = SecretPassword::new(&context.client, namespace, &spec.credentials_secret_ref.name, &settings.username);
    settings.passwords = Some(Arc::new(source));
    settings.requests_per_second = requests_per_second;
    settings.denied = context.denied.clone();
    let fence = context.fence.clone();
    settings.permission = Permission::new(move || fence.is_open());
    if let Some(tls) = &spec.tls {
        settings.tls = if tls.insecure_skip_verify {
            TlsMode::Insecure
        } else if let Some(pin) = &tls.pinned_sha256 {
            TlsMode::pinned(pin).map_err(|e| problem_of_settings(&e))?
        } else if let Some(bundle) = &tls.ca_bundle {
            TlsMode::CaBundle(bundle.clone())
        } else if let Some(reference) = &tls.ca_bundle_secret_ref {
            let secret = secrets::read(&context.client, namespace, &reference.name).await.map_err(|e| secret_problem(&e))?;
            made_from.push_str(&secret.version);
            TlsMode::CaBundle(secret.text(&reference.key).map_err(|e| secret_problem(&e))?.expose_secret().to_owned())
        } else {
            TlsMode::System
        };
    }
    Ok(Made { settings, made_from })
}

fn secret_problem(error: &SecretError) -> Problem {
    let problem = if error.needs_somebody() { Problem::stalled } else { Problem::passing };
    problem(Reason::CredentialsMissing, error.to_string())
}
