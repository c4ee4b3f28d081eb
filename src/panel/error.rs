//! How a call to a panel can end: errors by kind, and the outcome of a change.

use std::time::Duration;

/// The bound on any text of a panel that is kept for a message, in bytes.
pub const MAX_TEXT: usize = 512;

/// Why a call to a panel failed. Secrets are never part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PanelError {
    /// Nothing was sent: the address did not answer, or the connection was refused.
    #[error("{panel}: not reachable: {detail}")]
    Unreachable {
        /// Panel, as host and port.
        panel: String,
        /// What the network said.
        detail: String,
    },
    /// Something that a call needs could not be had in Kubernetes, so that nothing was sent.
    #[error("{panel}: nothing was sent: {detail}")]
    NotSent {
        /// Panel.
        panel: String,
        /// What could not be had.
        detail: String,
    },
    /// The certificate is not trusted; nothing was sent.
    #[error("{panel}: certificate refused: {detail}; give connection.tls.caBundle or connection.tls.pinnedSHA256")]
    Certificate {
        /// Panel.
        panel: String,
        /// What the check said.
        detail: String,
    },
    /// The panel's name stands for an address that is refused; nothing was sent.
    #[error("{panel}: address refused: {detail}")]
    AddressDenied {
        /// Panel.
        panel: String,
        /// Which address, and why.
        detail: String,
    },
    /// The connection broke or timed out after something may have been sent.
    #[error("{panel}: {func}: no answer: {detail}")]
    NoAnswer {
        /// Panel.
        panel: String,
        /// The function called.
        func: String,
        /// What the network said.
        detail: String,
    },
    /// An answer came, but it is not a document of this panel (HTML, truncated, too large, redirect, HTTP error).
    #[error("{panel}: {func}: not a panel's answer: {detail}")]
    NotADocument {
        /// Panel.
        panel: String,
        /// The function called.
        func: String,
        /// What it was instead.
        detail: String,
    },
    /// The log-in was refused.
    #[error("{panel}: log-in refused ({object}): {message}; check the Secret of connection.credentialsSecretRef")]
    Login {
        /// Panel.
        panel: String,
        /// The error's object.
        object: String,
        /// The panel's text.
        message: String,
    },
    /// The panel answered with an error document (ispsystem-api.md 1.4).
    #[error("{panel}: {func}: {error}")]
    Refused {
        /// Panel.
        panel: String,
        /// The function called.
        func: String,
        /// The error document.
        error: ErrorDocument,
    },
    /// The document lacks what the call needs.
    #[error("{panel}: {func}: the answer lacks {what}")]
    Incomplete {
        /// Panel.
        panel: String,
        /// The function called.
        func: String,
        /// What is missing.
        what: String,
    },
    /// What the edit expected of the server does not hold; nothing was sent.
    #[error("server {server}: {detail}")]
    Expectation {
        /// Server.
        server: String,
        /// What was found instead.
        detail: String,
    },
    /// The dialect does not say how this is called on this panel.
    #[error("spec.dialect.{call}: {detail}")]
    Dialect {
        /// Name of the call.
        call: String,
        /// What to set.
        detail: String,
    },
}

/// `type` of an error document of our own making: a session that is refused right after a log-in that worked.
pub const SESSION: &str = "session";

/// An error document: the triple that programs may rely on, and the text for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorDocument {
    /// `type`.
    pub kind: String,
    /// `object`.
    pub object: String,
    /// `value`.
    pub value: String,
    /// Localised text; never matched on.
    pub message: String,
}

impl std::fmt::Display for ErrorDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error {}", self.kind)?;
        for part in [&self.object, &self.value] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// What an error means for whoever must go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The panel as a whole does not answer: one failure of the handler, not of each order.
    Down,
    /// The credentials are not accepted, or not an administrator's.
    Credentials,
    /// The object is not there (`missed`).
    Missing,
    /// The name is taken (`exists`).
    Exists,
    /// The panel said no to this call.
    Refused,
    /// Our own precondition did not hold.
    Expectation,
    /// The handler has to say how it is called.
    Dialect,
}

impl PanelError {
    /// What it means for whoever must go on.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. }
            | Self::NotSent { .. }
            | Self::Certificate { .. }
            | Self::AddressDenied { .. }
            | Self::NoAnswer { .. }
            | Self::NotADocument { .. } => ErrorClass::Down,
            Self::Login { .. } => ErrorClass::Credentials,
            // A log-in that the panel does not take now says nothing of the call that it was for.
            Self::Refused { func, error, .. } if func == "auth" && error.kind != "auth" => ErrorClass::Down,
            Self::Refused { .. } if self.hides_users() => ErrorClass::Credentials,
            Self::Refused { error, .. } => match error.kind.as_str() {
                "auth" => ErrorClass::Credentials,
                "missed" => ErrorClass::Missing,
                "exists" => ErrorClass::Exists,
                _ => ErrorClass::Refused,
            },
            Self::Incomplete { .. } => ErrorClass::Refused,
            Self::Expectation { .. } => ErrorClass::Expectation,
            Self::Dialect { .. } => ErrorClass::Dialect,
        }
    }

    /// The same in other words: `of` is given every text that may be the panel's.
    #[must_use]
    pub fn reworded(self, of: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Unreachable { panel, detail } => Self::Unreachable { panel, detail: of(&detail) },
            Self::NotSent { panel, detail } => Self::NotSent { panel, detail: of(&detail) },
            Self::Certificate { panel, detail } => Self::Certificate { panel, detail: of(&detail) },
            Self::AddressDenied { panel, detail } => Self::AddressDenied { panel, detail: of(&detail) },
            Self::NoAnswer { panel, func, detail } => Self::NoAnswer { panel, func, detail: of(&detail) },
            Self::NotADocument { panel, func, detail } => Self::NotADocument { panel, func, detail: of(&detail) },
            Self::Login { panel, object, message } => Self::Login { panel, object: of(&object), message: of(&message) },
            Self::Refused { panel, func, error: ErrorDocument { kind, object, value, message } } => {
                let error = ErrorDocument { kind, object: of(&object), value: of(&value), message: of(&message) };
                Self::Refused { panel, func, error }
            }
            Self::Incomplete { panel, func, what } => Self::Incomplete { panel, func, what: of(&what) },
            Self::Expectation { server, detail } => Self::Expectation { server, detail: of(&detail) },
            Self::Dialect { call, detail } => Self::Dialect { call, detail: of(&detail) },
        }
    }

    /// Whether the panel did not believe the session of a log-in that had worked: it says nothing of what the call is about.
    #[must_use]
    pub fn refuses_session(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.kind == SESSION)
    }

    /// Whether the panel did not try what the call is about: our user may not make it (`access`, ispsystem-api.md 1.4), or its session is
    /// not believed.
    #[must_use]
    pub fn was_not_tried(&self) -> bool {
        self.refuses_session() || matches!(self, Self::Refused { error, .. } if error.kind == "access")
    }

    /// Whether the panel does not show us its users: whoever may not see them is no administrator there, whatever else it answers.
    #[must_use]
    pub fn hides_users(&self) -> bool {
        matches!(self, Self::Refused { func, error, .. } if func == "user" && error.kind == "access")
    }

    /// Whether a list that shows what the whole panel has could not be read whole: no order is to blame, and each that reads it fails at it.
    #[must_use]
    pub fn is_of_a_whole_list(&self) -> bool {
        matches!(self, Self::Incomplete { func, .. } if matches!(func.as_str(), "server" | "user" | "ip"))
    }

    /// Whether nothing answers at the panel's address, or it cannot be asked, so that nothing else is worth asking it now.
    #[must_use]
    pub fn nobody_there(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotSent { .. } | Self::Certificate { .. } | Self::AddressDenied { .. } => true,
            Self::NoAnswer { .. }
            | Self::NotADocument { .. }
            | Self::Login { .. }
            | Self::Refused { .. }
            | Self::Incomplete { .. }
            | Self::Expectation { .. }
            | Self::Dialect { .. } => false,
        }
    }

    /// Whether asking again later can help without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self.class() {
            ErrorClass::Down | ErrorClass::Refused | ErrorClass::Missing | ErrorClass::Exists | ErrorClass::Expectation => true,
            ErrorClass::Credentials | ErrorClass::Dialect => false,
        }
    }

    /// Whether this refusal of something out of a pool says that the request itself is wrong: a value that the panel does not know,
    /// or one that this user may not use. Any other may mean that none is left (ispsystem-api.md 1.4 and 4.1).
    #[must_use]
    pub fn faults_request(&self) -> bool {
        match self {
            Self::Refused { error, .. } => matches!(error.kind.as_str(), "value" | "access"),
            Self::Dialect { .. } => true,
            Self::Unreachable { .. }
            | Self::NotSent { .. }
            | Self::Certificate { .. }
            | Self::AddressDenied { .. }
            | Self::NoAnswer { .. }
            | Self::NotADocument { .. }
            | Self::Login { .. }
            | Self::Incomplete { .. }
            | Self::Expectation { .. } => false,
        }
    }

    /// The short code that stands in `lastError.code`.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Unreachable { .. } => "Unreachable".into(),
            Self::NotSent { .. } => "NotSent".into(),
            Self::Certificate { .. } => "CertificateRefused".into(),
            Self::AddressDenied { .. } => "AddressDenied".into(),
            Self::NoAnswer { .. } => "NoAnswer".into(),
            Self::NotADocument { .. } => "NotADocument".into(),
            Self::Login { .. } => "LoginRefused".into(),
            Self::Refused { error, .. } if error.object.is_empty() => format!("panel:{}", error.kind),
            Self::Refused { error, .. } => format!("panel:{}/{}", error.kind, error.object),
            Self::Incomplete { .. } => "IncompleteAnswer".into(),
            Self::Expectation { .. } => "ExpectationFailed".into(),
            Self::Dialect { .. } => "DialectMissing".into(),
        }
    }
}

/// How a change ended (design.md section 4, rule 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The panel said that it is done.
    Applied(T),
    /// It is known that nothing changed.
    Refused(PanelError),
    /// It may have been applied, now or later.
    Ambiguous(PanelError),
}

impl<T> Outcome<T> {
    /// Sorts the error of a change that was sent: a parsed refusal or an unsent request is known, all else may have been applied. Also an
    /// error document without a type (ispsystem-api.md 1.4) counts as a refusal: what a change may have done is looked for in forms and
    /// lists before it is made once more.
    #[must_use]
    pub fn of_error(error: PanelError) -> Self {
        match error {
            // The panel could not reach one of its own parts: what that part did of it is not known (ispsystem-api.md 1.4).
            PanelError::Refused { error: ref document, .. } if document.kind == "client" => Self::Ambiguous(error),
            PanelError::Unreachable { .. }
            | PanelError::NotSent { .. }
            | PanelError::Certificate { .. }
            | PanelError::AddressDenied { .. }
            | PanelError::Login { .. }
            | PanelError::Refused { .. }
            | PanelError::Expectation { .. }
            | PanelError::Dialect { .. } => Self::Refused(error),
            PanelError::NoAnswer { .. } | PanelError::NotADocument { .. } | PanelError::Incomplete { .. } => Self::Ambiguous(error),
        }
    }

    /// Drops the value.
    #[must_use]
    pub fn unit(self) -> Outcome<()> {
        self.map(|_| ())
    }

    /// Makes something else of the value.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        self.and_then(|value| Outcome::Applied(f(value)))
    }

    /// Looks whether the answer names what it has to: a change that was made may still turn out not to be known.
    #[must_use]
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Self::Applied(value) => f(value),
            Self::Refused(e) => Outcome::Refused(e),
            Self::Ambiguous(e) => Outcome::Ambiguous(e),
        }
    }
}

/// The longest a panel may take for one call when nothing else is said (ispsystem-api.md 1.1, confirmed).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);
