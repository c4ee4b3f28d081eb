//! Why a panel refuses: the triple type, object, value of section 1.4 of the facts.

use std::fmt;

/// The type of an error document (section 1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bad login, or a session that is unknown or has expired.
    Auth,
    /// Not allowed for this user or level.
    Access,
    /// The name is taken.
    Exists,
    /// Nothing is left.
    Limit,
    /// No such object or function.
    Missed,
    /// A parameter has a value that cannot be used.
    Value,
    /// A type of one module's own.
    Other(String),
}

impl Kind {
    /// The type for a word as it stands in error documents.
    pub(crate) fn from_word(word: &str) -> Self {
        match word {
            "auth" => Self::Auth,
            "access" => Self::Access,
            "exists" => Self::Exists,
            "limit" => Self::Limit,
            "missed" => Self::Missed,
            "value" => Self::Value,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The word that stands in error documents.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Auth => "auth",
            Self::Access => "access",
            Self::Exists => "exists",
            Self::Limit => "limit",
            Self::Missed => "missed",
            Self::Value => "value",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A refusal: nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("type {kind}, object {object}, value '{value}'")]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) object: String,
    pub(crate) value: String,
    /// A text to show instead of the usual one.
    pub(crate) msg: Option<String>,
}

impl Refusal {
    /// A refusal of this type about an object.
    pub(crate) fn new(kind: Kind, object: &str, value: &str) -> Self {
        Self { kind, object: object.to_owned(), value: value.to_owned(), msg: None }
    }

    /// No such object.
    pub(crate) fn missed(object: &str, value: &str) -> Self {
        Self::new(Kind::Missed, object, value)
    }

    /// A parameter that cannot be used.
    pub(crate) fn value(object: &str, value: &str) -> Self {
        Self::new(Kind::Value, object, value)
    }

    /// Not allowed.
    pub(crate) fn access(object: &str) -> Self {
        Self::new(Kind::Access, object, "")
    }

    /// The name is taken.
    pub(crate) fn exists(object: &str, value: &str) -> Self {
        Self::new(Kind::Exists, object, value)
    }
}
