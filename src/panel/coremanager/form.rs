//! Edit forms: read, change, send back whole (ispsystem-api.md 1.3: fields left out may be reset).

use secrecy::{ExposeSecret, SecretString};

use crate::panel::error::{Outcome, PanelError};

use super::blot::blot;
use super::client::Client;
use super::document::Document;
use super::params::Params;

impl Client {
    /// Reads the form that `key` names and sends back what `build` makes of it. While nothing was sent, every error is a refusal.
    pub async fn modify<F>(&self, func: &str, key: &[(&str, &str)], build: F) -> Outcome<Document>
    where
        F: FnOnce(&Document) -> Result<Vec<(String, String)>, PanelError> + Send,
    {
        let params = || key.iter().fold(Params::new(), |params, (name, value)| params.with(name, *value));
        let fields = match self.whole(func, &params()).await {
            Ok((view, secrets)) => build(&view).map_err(|error| without(error, &secrets)),
            Err(error) => Err(error),
        };
        match fields {
            Ok(fields) => {
                let params = fields.into_iter().fold(params().with("sok", "ok"), |params, (name, value)| params.with(&name, value));
                self.change(func, &params).await
            }
            Err(error) => Outcome::Refused(error),
        }
    }
}

/// What is told of a form that is kept as the panel shows it.
fn without(error: PanelError, secrets: &[SecretString]) -> PanelError {
    let secrets: Vec<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
    error.reworded(|text| blot(text, &secrets))
}

/// The form's fields with these values; fields that the form does not show are added.
#[must_use]
pub fn overlay(document: &Document, values: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields = document.fields().form();
    for (name, value) in values {
        match fields.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => (*value).clone_into(old),
            None => fields.push(((*name).to_owned(), (*value).to_owned())),
        }
    }
    fields
}

/// A change of which only the success matters, and to which `missed` means that it has been made before
/// (ispsystem-api.md 1.4: on delete treat as success).
#[must_use]
pub fn gone(outcome: Outcome<Document>) -> Outcome<()> {
    match outcome {
        Outcome::Refused(PanelError::Refused { error, .. }) if error.kind == "missed" => Outcome::Applied(()),
        other => other.unit(),
    }
}
