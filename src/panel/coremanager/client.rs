//! The client of one panel: log-in, session, calls (ispsystem-api.md 1.1, 1.2 and 1.4).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::panel::error::{ErrorDocument, Outcome, PanelError, SESSION};
use crate::panel::settings::{ConnectionSettings, PanelId, Passwords, Permission, SettingsError};

use super::blot::blot;
use super::document::{Answer, Document, bounded};
use super::limits::Limiter;
use super::params::Params;
use super::transport::{Most, Transport, Wire};

/// A refused log-in is not repeated for so long (design.md section 9, Log-in): a wrong password must not lock the account.
pub const LOGIN_PAUSE: Duration = Duration::from_mins(1);
/// A log-in that the panel answers with another error, such as too many sessions, is not repeated for so long: every call would bring
/// another one.
pub const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// Told of every request to a panel, for metrics.
pub trait Observer: Send + Sync {
    /// A request ended. `result` is one of `ok`, `refused`, `auth`, `unreachable`, `certificate`, `denied`, `no_answer`,
    /// `not_a_document`.
    fn call(&self, func: &str, result: &'static str, took: Duration);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn call(&self, _func: &str, _result: &'static str, _took: Duration) {}
}

/// How the panel lets us in.
#[derive(Clone)]
enum Access {
    /// `auth=<session>` (ispsystem-api.md 1.2 point 2, confirmed).
    Session(SecretString),
    /// `authinfo=user:password` on every call (ispsystem-api.md 1.2 point 1, confirmed).
    AuthInfo,
}

impl Access {
    fn is_session(&self) -> bool {
        match self {
            Self::Session(_) => true,
            Self::AuthInfo => false,
        }
    }
}

/// A log-in that worked.
#[derive(Clone)]
struct Ticket {
    access: Access,
    /// `level` of the answer to `auth`, where it told one.
    level: Option<String>,
    number: u64,
}

#[derive(Default)]
struct Gate {
    ticket: Option<Ticket>,
    /// The last log-in's failure, for whoever waited while it was tried.
    failure: Option<PanelError>,
    /// A refusal, remembered together with its time.
    refused: Option<(Instant, PanelError)>,
}

/// A call's error, and whether the call itself may have reached the panel.
#[derive(Debug)]
struct Failure {
    error: PanelError,
    sent: bool,
}

/// The client of one COREmanager panel. Concurrent calls share one log-in.
pub struct Client {
    transport: Transport,
    id: PanelId,
    username: String,
    /// As it was used last.
    password: std::sync::Mutex<SecretString>,
    passwords: Option<Arc<dyn Passwords>>,
    permission: Permission,
    limiter: Limiter,
    observer: Arc<dyn Observer>,
    gate: Mutex<Gate>,
    /// The level that the last log-in told, where it told one.
    level: std::sync::Mutex<Option<String>>,
    /// Log-ins that ended, well or not; read without the gate to tell who came before which.
    logins: AtomicU64,
    /// The panel's numbers of rows were seen to count those that group others.
    pub(super) counts_groups: AtomicBool,
}

/// How long a log-in is not repeated that ended so.
fn pause(error: &PanelError) -> Duration {
    match error {
        PanelError::Login { .. } => LOGIN_PAUSE,
        PanelError::Refused { .. } => BUSY_PAUSE,
        PanelError::Unreachable { .. }
        | PanelError::NotSent { .. }
        | PanelError::Certificate { .. }
        | PanelError::AddressDenied { .. }
        | PanelError::NoAnswer { .. }
        | PanelError::NotADocument { .. }
        | PanelError::Incomplete { .. }
        | PanelError::Expectation { .. }
        | PanelError::Dialect { .. } => Duration::ZERO,
    }
}

/// How `fresh_login` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The level that the panel told (ispsystem-api.md 1.2 point 5), where it did.
    pub level: Option<String>,
}

impl Client {
    /// A client; nothing is sent yet. A change of the Secret needs a new one, which forgets a refused log-in.
    pub fn new(settings: &ConnectionSettings) -> Result<Self, SettingsError> {
        Self::observed(settings, Arc::new(NoObserver))
    }

    /// A client whose requests are told to `observer`.
    pub fn observed(settings: &ConnectionSettings, observer: Arc<dyn Observer>) -> Result<Self, SettingsError> {
        Self::over(settings, observer, None)
    }

    /// The same over a wire of the caller's; `None`: HTTP.
    pub fn over(settings: &ConnectionSettings, observer: Arc<dyn Observer>, wire: Option<Arc<dyn Wire>>) -> Result<Self, SettingsError> {
        let id = PanelId::of_url(&settings.url)?;
        Ok(Self {
            transport: Transport::new(settings, &id, wire)?,
            id,
            username: settings.username.clone(),
            password: std::sync::Mutex::new(settings.password.clone()),
            passwords: settings.passwords.clone(),
            permission: settings.permission.clone(),
            limiter: Limiter::new(settings.requests_per_second, settings.max_concurrent),
            observer,
            gate: Mutex::new(Gate::default()),
            level: std::sync::Mutex::default(),
            logins: AtomicU64::new(0),
            counts_groups: AtomicBool::new(false),
        })
    }

    /// Which panel this is.
    #[must_use]
    pub fn id(&self) -> &PanelId {
        &self.id
    }

    /// Our log-in name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The level that the last log-in told, where it told one: a session that has expired is renewed by whoever calls next, and the level may
    /// be another one by then.
    #[must_use]
    pub fn level(&self) -> Option<String> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a level that was told otherwise than by a log-in; the next log-in tells it anew.
    pub fn note_level(&self, level: &str) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level.to_owned());
    }

    /// Calls a function that changes nothing.
    pub async fn read(&self, func: &str, params: &Params) -> Result<Document, PanelError> {
        self.call(func, params, Most::Form).await.map_err(|f| f.error)
    }

    /// Reads a list or a page of one, of which so many bytes are held already.
    pub(super) async fn read_page(&self, func: &str, params: &Params, held: usize) -> Result<Document, PanelError> {
        self.call(func, params, Most::Page(held)).await.map_err(|f| f.error)
    }

    /// Reads a form that is sent back: as the panel shows it, for what is blotted out of it would be written over. What is told of it has
    /// to be without the secrets that come along.
    pub(in crate::panel) async fn whole(&self, func: &str, params: &Params) -> Result<(Document, Vec<SecretString>), PanelError> {
        let (document, access) = self.ask(func, params, Most::Form).await.map_err(|f| f.error)?;
        Ok((document, self.sent(params, &access)))
    }

    /// Calls a function that changes something. What failed before the call itself was sent is known not to have happened.
    pub async fn change(&self, func: &str, params: &Params) -> Outcome<Document> {
        match self.call(func, params, Most::Form).await {
            Ok(document) => Outcome::Applied(document),
            Err(Failure { error, sent: true }) => Outcome::of_error(error),
            Err(Failure { error, sent: false }) => Outcome::Refused(error),
        }
    }

    /// Logs in afresh, whatever session there is. Within [`LOGIN_PAUSE`] of a refusal the refusal is repeated instead.
    pub async fn fresh_login(&self) -> Result<LoggedIn, PanelError> {
        let came = self.logins.load(Ordering::Acquire);
        let ticket = self.ticket(came, |_| false).await?;
        Ok(LoggedIn { level: ticket.level })
    }

    /// An error of an answer that lacks something.
    #[must_use]
    pub fn incomplete(&self, func: &str, what: impl Into<String>) -> PanelError {
        PanelError::Incomplete { panel: self.transport.panel().to_owned(), func: func.to_owned(), what: what.into() }
    }

    /// One call, and a document that shows nothing of what was sent in secret with it.
    async fn call(&self, func: &str, params: &Params, most: Most) -> Result<Document, Failure> {
        let (mut document, access) = self.ask(func, params, most).await?;
        let secrets = self.sent(params, &access);
        document.blot(&secrets.iter().map(ExposeSecret::expose_secret).collect::<Vec<_>>(), &self.username);
        Ok(document)
    }

    /// What a panel knows of us that it could repeat in its answer.
    fn sent(&self, params: &Params, access: &Access) -> Vec<SecretString> {
        let params = params.secrets().into_iter().map(SecretString::from);
        params.chain([self.credential(access).1, self.password()]).collect()
    }

    /// The field that lets us in.
    fn credential(&self, access: &Access) -> (&'static str, SecretString) {
        match access {
            Access::Session(session) => ("auth", session.clone()),
            Access::AuthInfo => ("authinfo", SecretString::from(format!("{}:{}", self.username, self.password().expose_secret()))),
        }
    }

    async fn ask(&self, func: &str, params: &Params, most: Most) -> Result<(Document, Access), Failure> {
        let unsent = |error| Failure { error, sent: false };
        let came = self.logins.load(Ordering::Acquire);
        let ticket = self.ticket(came, |_| true).await.map_err(unsent)?;
        let answer = self.request(func, params, Some(&ticket.access), most).await.map_err(|error| Failure { error, sent: true })?;
        let error = match answer {
            Answer::Document(document) => return Ok((document, ticket.access)),
            Answer::Error(error) if error.kind != "auth" => return Err(self.refused(func, error)),
            Answer::Error(error) => error,
        };
        // An `auth` error means that the call was not made (ispsystem-api.md 1.4): the session is unknown or has expired.
        if !ticket.access.is_session() {
            // There is no session that could have expired: the password itself was refused.
            let error = self.login_error(error);
            self.remember(ticket.number, &error).await;
            return Err(unsent(error));
        }
        let came = self.logins.load(Ordering::Acquire);
        let again = self.ticket(came, |held| held.number != ticket.number).await.map_err(unsent)?;
        let answer = self.request(func, params, Some(&again.access), most).await;
        match answer {
            Ok(Answer::Document(document)) => Ok((document, again.access)),
            Ok(Answer::Error(error)) if error.kind != "auth" => Err(self.refused(func, error)),
            Ok(Answer::Error(error)) if again.access.is_session() => Err(unsent(self.session_refused(func, error))),
            Ok(Answer::Error(error)) => Err(unsent(self.login_error(error))),
            Err(error) => Err(Failure { error, sent: true }),
        }
    }

    fn refused(&self, func: &str, error: ErrorDocument) -> Failure {
        let error = PanelError::Refused { panel: self.transport.panel().to_owned(), func: func.to_owned(), error };
        Failure { error, sent: true }
    }

    fn login_error(&self, error: ErrorDocument) -> PanelError {
        PanelError::Login { panel: self.transport.panel().to_owned(), object: error.object, message: error.message }
    }

    /// The log-in before this call worked, so that the credentials are good: it is the call that is refused. Were this taken for a refused
    /// log-in, an order would wait for a handler that finds nothing wrong.
    fn session_refused(&self, func: &str, error: ErrorDocument) -> PanelError {
        let message = format!(
            "the session of a log-in that worked is refused by the next call (auth), as where a panel binds sessions to an address: {}",
            error.message
        );
        let error = ErrorDocument { kind: SESSION.to_owned(), message, ..error };
        PanelError::Refused { panel: self.transport.panel().to_owned(), func: func.to_owned(), error }
    }

    async fn remember(&self, number: u64, error: &PanelError) {
        let mut gate = self.gate.lock().await;
        if gate.ticket.as_ref().is_some_and(|t| t.number == number) {
            gate.ticket = None;
            gate.refused = Some((Instant::now(), error.clone()));
        }
    }

    /// The ticket that `good` accepts, or a new one. One log-in at a time: who came before it ended shares its result.
    async fn ticket(&self, came: u64, good: impl Fn(&Ticket) -> bool) -> Result<Ticket, PanelError> {
        let mut gate = self.gate.lock().await;
        let shared = self.logins.load(Ordering::Acquire) > came;
        if let Some(ticket) = &gate.ticket
            && (shared || good(ticket))
        {
            return Ok(ticket.clone());
        }
        if let Some((at, error)) = &gate.refused
            && at.elapsed() < pause(error)
        {
            return Err(error.clone());
        }
        if let Some(error) = &gate.failure
            && shared
        {
            return Err(error.clone());
        }
        gate.ticket = None;
        let result = self.login().await;
        let number = self.logins.fetch_add(1, Ordering::AcqRel) + 1;
        gate.failure = result.as_ref().err().cloned();
        gate.refused = None;
        match result {
            Ok((access, level)) => {
                self.level.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&level);
                let ticket = Ticket { access, level, number };
                gate.ticket = Some(ticket.clone());
                Ok(ticket)
            }
            Err(error) => {
                if !pause(&error).is_zero() {
                    gate.refused = Some((Instant::now(), error.clone()));
                }
                Err(error)
            }
        }
    }

    fn password(&self) -> SecretString {
        self.password.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn login(&self) -> Result<(Access, Option<String>), PanelError> {
        if let Some(source) = &self.passwords {
            // Nothing is sent without it: the old one may be refused, and count against the account.
            let unreadable = |detail| PanelError::NotSent { panel: self.transport.panel().to_owned(), detail };
            *self.password.lock().unwrap_or_else(PoisonError::into_inner) = source.read().await.map_err(unreadable)?;
        }
        let params = Params::new().with("username", self.username.as_str()).secret("password", &self.password());
        let document = match self.request("auth", &params, None, Most::Form).await? {
            Answer::Document(document) => document,
            Answer::Error(error) if error.kind == "auth" => return Err(self.login_error(error)),
            Answer::Error(error) => return Err(self.refused("auth", error).error),
        };
        let fields = document.fields();
        let level = fields.attribute("auth", "$level");
        if let Some(session) = fields.attribute("auth", "$id").or_else(|| fields.opt("auth")) {
            return Ok((Access::Session(SecretString::from(session)), level));
        }
        if self.username.contains(':') {
            // The pair is split at the first colon (ispsystem-api.md 1.2 point 1, inferred).
            return Err(self.incomplete("auth", "a session, and authinfo can't carry a user name with a colon"));
        }
        // Nothing has been checked yet. One small call does it, before many calls at once try a wrong password; whether
        // the panel knows this function does not matter, only that it does not answer `auth`.
        match self.request("whoami", &Params::new(), Some(&Access::AuthInfo), Most::Form).await? {
            Answer::Error(error) if error.kind == "auth" => Err(self.login_error(error)),
            Answer::Document(_) | Answer::Error(_) => Ok((Access::AuthInfo, level)),
        }
    }

    /// One request: waits for the limits, posts, reads, tells the observer.
    async fn request(&self, func: &str, params: &Params, access: Option<&Access>, most: Most) -> Result<Answer, PanelError> {
        let credential = access.map(|access| self.credential(access));
        let mut fields = vec![("func", func), ("out", "json"), ("lang", "en")];
        if let Some((name, value)) = &credential {
            fields.push((name, value.expose_secret()));
        }
        fields.extend(params.expose());
        let _permit = self.limiter.permit().await;
        if !self.permission.is_given() {
            let detail = "not sent: this replica does not lead any more".to_owned();
            return Err(PanelError::Unreachable { panel: self.transport.panel().to_owned(), detail });
        }
        let began = Instant::now();
        let result = self.transport.post(func, &fields, most).await.and_then(|body| {
            let password = self.password();
            let mut secrets = params.secrets();
            secrets.extend(credential.as_ref().map(|(_, value)| value.expose_secret()));
            secrets.push(password.expose_secret());
            let answer = Document::parse(&body, &secrets);
            self.of_this_call(func, answer.map_err(|e| self.transport.not_a_document(func, e.to_string()))?, &secrets)
        });
        self.observer.call(func, label(&result), began.elapsed());
        if let Err(error) = &result {
            tracing::debug!(%error, "panel call failed");
        }
        result
    }

    /// A document may say which function it answers. A log-in form in place of the answer is a lost session; anything
    /// foreign is no answer to this call, and must not be taken for its success.
    fn of_this_call(&self, func: &str, answer: Answer, secrets: &[&str]) -> Result<Answer, PanelError> {
        let Answer::Document(document) = &answer else { return Ok(answer) };
        let Some(answered) = document.func() else { return Ok(answer) };
        let family = |name: &str| name.split('.').next().map(str::to_owned);
        if family(&answered) == family(func) {
            return Ok(answer);
        }
        if answered == "logon" && func != "auth" {
            let message = "the panel shows its log-in form".to_owned();
            return Ok(Answer::Error(ErrorDocument { kind: "auth".into(), object: "logon".into(), message, ..ErrorDocument::default() }));
        }
        Err(self.transport.not_a_document(func, format!("a document of {}", bounded(&blot(&answered, secrets)))))
    }
}

fn label(result: &Result<Answer, PanelError>) -> &'static str {
    match result {
        Ok(Answer::Document(_)) => "ok",
        Ok(Answer::Error(error)) if error.kind == "auth" => "auth",
        Err(PanelError::Unreachable { .. } | PanelError::NotSent { .. }) => "unreachable",
        Err(PanelError::Certificate { .. }) => "certificate",
        Err(PanelError::AddressDenied { .. }) => "denied",
        Err(PanelError::NoAnswer { .. }) => "no_answer",
        Err(PanelError::NotADocument { .. } | PanelError::Incomplete { .. }) => "not_a_document",
        Ok(Answer::Error(_))
        | Err(PanelError::Login { .. } | PanelError::Refused { .. } | PanelError::Expectation { .. } | PanelError::Dialect { .. }) => {
            "refused"
        }
    }
}
