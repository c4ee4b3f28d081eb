//! What a decision works on: the checked order, the handler, the facts, and the status as it will be.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::common::Time;
use crate::api::order::{LastError, OrderStatus, Progress, StepStatus, WaitingOn};
use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::{ServerForm, ServerId, ServerRow};

use super::call::Call;
use super::facts::{Facts, Look, Prepare, Row, Seen};
use super::inflight::AMBIGUOUS;
use super::marker::Found;
use super::order::{Handler, Order};
use super::reason::Reason;
use super::step::{CLOSING, OPENING, State, Step};
use super::tasks::TaskRequest;
use super::verdict::{Phase, Verdict};

/// What the shell has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read something and decide again.
    Look(Look),
    /// Get something ready in Kubernetes and decide again.
    Prepare(Prepare),
    /// Save the status if its intent is new, change something at a panel, and decide again.
    Call(Call),
    /// Raise a task and decide again.
    Raise(TaskRequest),
    /// Save the status; decide again at this time at the latest, or when something changes.
    Wait(Option<Timestamp>),
    /// Closing is over: unlock the server and let the order go.
    Forget,
}

/// The end of one decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// What to do.
    pub next: Next,
    /// Where the order stands.
    pub verdict: Verdict,
}

/// A step either lets the next one go on, or ends the decision.
pub type Flow<T = ()> = ControlFlow<Halt, T>;

/// Whether a stalled order is looked at again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recheck {
    /// After the handler's retry interval.
    Later,
    /// Only when order, handler or credentials change, or somebody asks.
    OnChange,
}

/// What is waited for (`waitingOn.kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// The panel.
    Panel,
    /// A department.
    Department,
    /// A free server or address, or a place within a limit.
    Capacity,
    /// The handler.
    Handler,
    /// Time.
    Retry,
}

impl WaitKind {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panel => "Panel",
            Self::Department => "Department",
            Self::Capacity => "Capacity",
            Self::Handler => "Handler",
            Self::Retry => "Retry",
        }
    }
}

/// What is waited for, in full.
pub struct Wait<'w> {
    /// Kind.
    pub kind: WaitKind,
    /// Which one.
    pub name: &'w str,
    /// Reason of the conditions.
    pub reason: Reason,
    /// In words.
    pub message: String,
    /// When to decide again at the latest.
    pub until: Option<Timestamp>,
    /// When it counts as failed.
    pub deadline: Option<Timestamp>,
}

/// Something at the panel that has to end before a step goes on.
pub struct Busy<'b> {
    /// `waitingOn.name`.
    pub name: &'b str,
    /// In words.
    pub message: &'b str,
    /// How long it may take.
    pub patience: Duration,
    /// When it is looked at again.
    pub pause: Duration,
    /// The error when it takes longer: for programs.
    pub code: &'b str,
    /// And in words.
    pub too_long: &'b str,
}

/// One decision at work.
pub struct Cx<'a> {
    /// The order.
    pub order: &'a Order,
    /// The handler.
    pub handler: &'a Handler,
    /// What is known.
    pub facts: &'a Facts,
    /// Now.
    pub now: Timestamp,
    /// The status as it will be.
    pub status: OrderStatus,
}

/// Adds a span to a time; a sum beyond what a timestamp can hold stays where it is.
#[must_use]
pub fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|d| at.checked_add(d).ok()).unwrap_or(at)
}

/// The longest text that stands in a status often, in bytes.
pub const SHORT: usize = 256;
/// The longest text that stands in a status a few times, in bytes.
pub const LONG: usize = 1024;

/// Whether a character ends a line, moves a terminal's cursor, or shows what stands behind it in another place (UAX #9).
fn misleads(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a text to so many bytes; control characters, which JSON writes as six each, become spaces. The whole status has to stay small.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    let clean = |c: char| if misleads(c) { ' ' } else { c };
    if text.len() <= bytes {
        return text.chars().map(clean).collect();
    }
    let mut kept = String::new();
    for c in text.chars().map(clean) {
        if kept.len() + c.len_utf8() + '…'.len_utf8() > bytes {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

impl Cx<'_> {
    // ---- steps ----

    /// The record of a step; made when it is not there.
    pub fn step(&mut self, step: Step) -> &mut StepStatus {
        let name = step.as_str();
        if let Some(at) = self.status.steps.iter().position(|s| s.name == name) {
            return &mut self.status.steps[at];
        }
        self.status.steps.push(StepStatus { name: name.into(), state: State::Pending.as_str().into(), ..StepStatus::default() });
        let last = self.status.steps.len() - 1;
        &mut self.status.steps[last]
    }

    /// The state of a step.
    #[must_use]
    pub fn state(&self, step: Step) -> State {
        self.status.steps.iter().find(|s| s.name == step.as_str()).map_or(State::Pending, |s| State::parse(&s.state))
    }

    /// Makes the list of steps of opening or closing, in order, and drops no record.
    pub fn list_steps(&mut self) {
        let steps: &[Step] = if self.order.deleting { &CLOSING } else { &OPENING };
        for step in steps {
            self.step(*step);
        }
    }

    /// Moves a step on; the first move sets when it began.
    pub fn enter(&mut self, step: Step, state: State, message: &str) {
        let now = Time::seconds(self.now);
        let record = self.step(step);
        record.state = state.as_str().into();
        record.message = cut(message, SHORT);
        if record.started_at.is_none() && state != State::Pending {
            record.started_at = Some(now);
        }
        if state != State::Done && state != State::Skipped {
            record.finished_at = None;
        }
    }

    /// Ends a step: its intent goes, and so do the traces of failed attempts.
    pub fn finish(&mut self, step: Step, state: State, message: &str) {
        if self.state(step).over() {
            return;
        }
        self.enter(step, state, message);
        self.step(step).finished_at = Some(Time::seconds(self.now));
        if self.status.in_flight.as_ref().is_some_and(|f| f.step == step.as_str()) {
            self.status.in_flight = None;
        }
        self.forget_attempts_of(step);
    }

    // ---- the order's server ----

    /// The id of the order's server.
    #[must_use]
    pub fn server_id(&self) -> Option<ServerId> {
        self.status.server.as_ref().map(|s| ServerId(s.id.clone()))
    }

    /// Whether this is the order's server.
    #[must_use]
    pub fn is_own(&self, server: &ServerId) -> bool {
        self.status.server.as_ref().is_some_and(|s| s.id == server.0)
    }

    /// What the shared list says of a server.
    #[must_use]
    pub fn row(&self, server: &ServerId) -> Row<'_> {
        self.facts.inventory.as_ref().map_or(Row::Unknown, |inventory| inventory.row(&server.0, self.facts.changed))
    }

    /// The row of a server, or the wait for a list that shows it.
    pub fn need_row(&mut self, step: Step, server: &ServerId) -> Flow<ServerRow> {
        match self.row(server) {
            Row::There(row) => ControlFlow::Continue(row.clone()),
            Row::Gone | Row::Unknown => ControlFlow::Break(self.wait_for_list(step)),
        }
    }

    /// Waits for the panel's next list.
    pub fn wait_for_list(&mut self, step: Step) -> Halt {
        let until = after(self.now, self.handler.poll * 2);
        self.wait_for_panel(step, until, format!("{}: waiting for the panel's next list", step.as_str()))
    }

    /// Waits for what the panel shows later, until this time at the latest.
    pub fn wait_for_panel(&mut self, step: Step, until: Timestamp, message: String) -> Halt {
        let (name, until) = (self.handler.panel.clone(), Some(until));
        self.wait(step, Wait { kind: WaitKind::Panel, name: &name, reason: Reason::WaitingForPanel, message, until, deadline: None })
    }

    /// The form of a server, read in this decision.
    pub fn form(&self, step: Step, server: &ServerId) -> Flow<Seen> {
        match self.facts.forms.get(&server.0) {
            Some(seen) => ControlFlow::Continue(seen.clone()),
            None => ControlFlow::Break(self.look(step, Look::Form(server.clone()))),
        }
    }

    /// The form of the order's own server, with our marker and an owner of ours; anything else is not touched.
    pub fn own_form(&mut self, step: Step, server: &ServerId) -> Flow<ServerForm> {
        let form = match self.form(step, server)? {
            Seen::There(form) => form,
            Seen::Missing => return ControlFlow::Break(self.form_missing(step, server)),
        };
        match self.order.marker.find_in(&form.notes) {
            Found::Ours => ControlFlow::Continue(form),
            Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => {
                let message = format!(
                    "server {server} does not carry this order's marker alone; it is not touched: put `{}` into its notes",
                    self.order.marker
                );
                ControlFlow::Break(super::drift::not_touched(self, step, Reason::NotOurServer, &message))
            }
        }
    }

    // ---- ends of a decision ----

    /// Something has to be read.
    #[must_use]
    pub fn look(&self, step: Step, look: Look) -> Halt {
        Halt { next: Next::Look(look), verdict: self.progressing(step, "") }
    }

    /// Something has to be got ready in Kubernetes.
    #[must_use]
    pub fn prepare(&self, step: Step, what: Prepare) -> Halt {
        Halt { next: Next::Prepare(what), verdict: self.progressing(step, "") }
    }

    /// The verdict of an order at work.
    #[must_use]
    pub fn progressing(&self, step: Step, message: &str) -> Verdict {
        let (phase, reason) = phase_of(step, self.order.deleting);
        let message = if message.is_empty() { step.as_str().to_owned() } else { message.to_owned() };
        Verdict::Progressing(phase, reason, message)
    }

    /// Waits. What is waited for keeps its `since` while it stays the same.
    pub fn wait(&mut self, step: Step, wait: Wait<'_>) -> Halt {
        self.settle_known();
        let kind = wait.kind.as_str();
        let since = match &self.status.waiting_on {
            Some(old) if old.kind == kind && old.name == wait.name => old.since,
            Some(_) | None => Time::seconds(self.now),
        };
        self.status.waiting_on = Some(WaitingOn {
            kind: kind.into(),
            name: wait.name.to_owned(),
            since,
            deadline: wait.deadline.map(Time::seconds),
            message: cut(&wait.message, LONG),
        });
        let (mut phase, _) = phase_of(step, self.order.deleting);
        match wait.kind {
            WaitKind::Department if !self.order.deleting => phase = Phase::AwaitingTask,
            WaitKind::Handler | WaitKind::Capacity if self.status.server.is_none() && !self.order.deleting => phase = Phase::Pending,
            WaitKind::Department | WaitKind::Handler | WaitKind::Capacity | WaitKind::Panel | WaitKind::Retry => {}
        }
        // After a call that failed, the time of the next one is kept: what the order writes wakes it again at once.
        let failed = match wait.kind {
            WaitKind::Retry | WaitKind::Capacity => true,
            WaitKind::Handler => self.facts.last_refused.is_some(),
            WaitKind::Panel | WaitKind::Department => false,
        };
        self.status.next_retry_time = wait.until.filter(|_| failed).map(Time::seconds);
        Halt { next: Next::Wait(wait.until), verdict: Verdict::Progressing(phase, wait.reason, wait.message) }
    }

    /// Waits for something at the panel that has to end by itself, from when it was first waited for, and not for ever.
    pub fn wait_for_end(&mut self, step: Step, of: &Busy<'_>) -> Halt {
        let since = self.status.waiting_on.as_ref().filter(|w| w.name == of.name).map(|w| w.since.0);
        let deadline = after(since.unwrap_or(self.now), of.patience);
        if self.now >= deadline {
            return self.fail(step, of.code, of.too_long);
        }
        let (until, message) = (Some(after(self.now, of.pause)), of.message.to_owned());
        let wait = Wait { kind: WaitKind::Panel, name: of.name, reason: Reason::WaitingForPanel, message, until, deadline: Some(deadline) };
        self.wait(step, wait)
    }

    /// Waits for the handler: its panel is down, suspended or not ready. No order is blamed for it.
    pub fn wait_for_handler(&mut self, step: Step, reason: Reason, message: String) -> Halt {
        let name = self.handler.key.to_string();
        let until = Some(after(self.now, self.handler.poll));
        self.wait(step, Wait { kind: WaitKind::Handler, name: &name, reason, message, until, deadline: None })
    }

    /// Nothing goes on until somebody changes something.
    pub fn stall(&mut self, step: Step, reason: Reason, message: &str, recheck: Recheck) -> Halt {
        self.settle_known();
        self.enter_failed(step, message);
        self.status.waiting_on = None;
        self.note_error(LastError {
            step: step.as_str().into(),
            code: reason.as_str().into(),
            message: cut(message, LONG),
            retryable: false,
            time: Time::seconds(self.now),
        });
        let until = match recheck {
            Recheck::Later => Some(after(self.now, self.handler.retry_interval)),
            Recheck::OnChange => None,
        };
        self.status.next_retry_time = until.map(Time::seconds);
        Halt { next: Next::Wait(until), verdict: Verdict::Stalled(reason, message.to_owned(), self.order.deleting) }
    }

    /// Marks the step as failed without losing what it means that it was begun.
    fn enter_failed(&mut self, step: Step, message: &str) {
        if !self.state(step).over() {
            self.enter(step, State::Failed, message);
        }
    }

    /// A panel's error that ends an attempt. What concerns the whole panel is the handler's failure, not the order's.
    pub fn fail_with(&mut self, step: Step, error: &PanelError) -> Halt {
        match error.class() {
            ErrorClass::Down | ErrorClass::Credentials => self.fail_of_handler(step, error),
            ErrorClass::Dialect => self.stall(step, Reason::DialectMissing, &error.to_string(), Recheck::OnChange),
            ErrorClass::Missing | ErrorClass::Exists | ErrorClass::Refused | ErrorClass::Expectation => {
                let code = error.code();
                self.fail(step, &code, &error.to_string())
            }
        }
    }

    /// An error that is the handler's: the order waits for it, and stays what it was said to be.
    pub(super) fn fail_of_handler(&mut self, step: Step, error: &PanelError) -> Halt {
        match super::drift::still(self) {
            ControlFlow::Break(halt) => halt,
            ControlFlow::Continue(()) => self.wait_for_handler(step, Reason::HandlerNotReady, error.to_string()),
        }
    }

    /// All outcomes of this pass are known, so that its intent has served; but what only the intent leads back to has to be read back.
    pub fn settle_known(&mut self) {
        let costs = |c: &Call| matches!(c, Call::Release { .. } | Call::OrderLicense { .. } | Call::RenewLicense { .. });
        let unseen = |c: &Call| c.marks() || costs(c) || self.is_being_replaced(c);
        let unread = self.facts.applied.last().is_some_and(unseen) && self.facts.last_refused.is_none();
        let undoes = |c: &&Call| matches!(c, Call::Unclaim { .. } | Call::Unmark { .. });
        let half = self.facts.last_refused.as_ref().filter(undoes).filter(|_| self.status.server.is_none()).map(Call::name);
        if unread || !self.status.in_flight.as_ref().is_some_and(|f| self.intent_is_own(f)) {
            return;
        }
        match (self.status.in_flight.as_mut(), half) {
            // The server still carries what is left of our marker, whatever is read, or cannot be read, after that. It is not counted as
            // a lost answer: it has failed, and counts as that.
            (Some(f), Some(undo)) => {
                undo.clone_into(&mut f.call);
                (f.outcome, f.since, f.looks, f.attempt) = (AMBIGUOUS.into(), Time(self.now), 0, 0);
            }
            (Some(_) | None, _) => self.status.in_flight = None,
        }
    }

    /// Whether a call is for another main address, and the old one was not seen to be gone: the panel may be at work on it.
    fn is_being_replaced(&self, call: &Call) -> bool {
        let Call::ReplaceMain { current, .. } = call else { return false };
        self.facts.addresses.as_ref().is_none_or(|rows| rows.iter().any(|row| row.address == *current))
    }

    /// Sets `progress` for the step at hand.
    pub fn progress(&mut self, step: Step, percent: i32, message: &str) {
        self.status.progress = Some(Progress { percent, step: step.as_str().into(), message: cut(message, LONG) });
    }
}

/// Phase and reason of an order at work on a step.
fn phase_of(step: Step, deleting: bool) -> (Phase, Reason) {
    if deleting {
        return (Phase::Deleting, Reason::Deleting);
    }
    match step {
        Step::CreateClient | Step::Allocate | Step::Assemble => (Phase::Allocating, Reason::Allocating),
        Step::PowerOn | Step::ChangeAddress | Step::InstallOS | Step::RunRecipes | Step::IssueLicenses | Step::HandOver => {
            (Phase::Preparing, Reason::Preparing)
        }
        Step::Suspend | Step::PortsOff | Step::StopPower => (Phase::Preparing, Reason::Suspending),
        Step::Resume | Step::PortsOn => (Phase::Preparing, Reason::Resuming),
        Step::SetPassword => (Phase::Preparing, Reason::Preparing),
        // Steps of closing while the order lives: the server is given back.
        Step::RevokeLicenses | Step::PowerOff | Step::RemoveAddresses | Step::ParkAddress | Step::Release => {
            (Phase::Preparing, Reason::GivingBack)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_mislead_become_spaces() {
        assert_eq!(cut("a\nb\r\u{1b}[2J\u{0}\u{7f}\u{85}", 64), "a b  [2J   ");
        assert_eq!(cut("a\u{202e}b\u{2066}c\u{2029}d", 64), "a b c d");
        let read = "Ж é 👩‍👧 العربية";
        assert_eq!(cut(read, 64), read, "what can be read stays");
    }

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc…");
        assert_eq!(cut("жжжж", 6), "ж…");
    }
}
