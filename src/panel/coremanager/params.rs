//! Parameters of one call: form fields whose secret values never show.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

enum Value {
    Plain(String),
    Secret(SecretString),
}

/// The fields that are posted with one call, in order. Setting a name again replaces its value.
#[derive(Default)]
pub struct Params {
    fields: Vec<(String, Value)>,
    /// Secrets that are parts of values: a panel may repeat them without what stands around them.
    parts: Vec<SecretString>,
}

impl Params {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// With this field, whose value must never be shown.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &SecretString) -> Self {
        self.put(name, Value::Secret(value.clone()));
        self
    }

    /// With a secret that is a part of a field's value: blotted out of whatever comes back also where it stands alone.
    #[must_use]
    pub fn secret_part(mut self, secret: &SecretString) -> Self {
        self.parts.push(secret.clone());
        self
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.put(name, Value::Plain(value.into()));
    }

    /// With the fields of another one behind or over these.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (name, value) in other.fields {
            self.put(&name, value);
        }
        self.parts.extend(other.parts);
        self
    }

    fn put(&mut self, name: &str, value: Value) {
        match self.fields.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// The value of a field that is not secret.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).and_then(|(_, v)| match v {
            Value::Plain(text) => Some(text.as_str()),
            Value::Secret(_) => None,
        })
    }

    /// Whether the field is set.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n == name)
    }

    /// All pairs, secrets in the clear: for the request body only.
    #[must_use]
    pub fn expose(&self) -> Vec<(&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| match value {
                Value::Plain(text) => (name.as_str(), text.as_str()),
                Value::Secret(text) => (name.as_str(), text.expose_secret()),
            })
            .collect()
    }

    /// The secret values, and then the secrets that are parts of them, to be blotted out of whatever comes back.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        let values = self.fields.iter().filter_map(|(_, value)| match value {
            Value::Plain(_) => None,
            Value::Secret(text) => Some(text.expose_secret()),
        });
        values.chain(self.parts.iter().map(ExposeSecret::expose_secret)).collect()
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in &self.fields {
            match value {
                Value::Plain(text) => map.entry(name, text),
                Value::Secret(_) => map.entry(name, &"***"),
            };
        }
        map.finish()
    }
}
