//! Write-ahead intents: no change without one, and none repeated blindly (design.md section 4, rules 1 and 4).
//!
//! An intent covers the calls of one step on one server. It is written before the first of them and goes when the
//! step's effect was read back, or when the outcome of every call made under it is known. An intent that this process
//! did not write itself may have been acted upon: its answer counts as lost.

use std::ops::ControlFlow;

use crate::api::common::Time;
use crate::api::order::{InFlight, LastError};
use crate::api::task::TaskType;
use crate::panel::error::ErrorClass;
use crate::panel::model::ServerId;

use super::call::Call;
use super::context::{Cx, Flow, Halt, LONG, Next, Wait, WaitKind, after, cut};
use super::facts::{HandlerState, Look, Row, Seen};
use super::marker::Found;
use super::reason::Reason;
use super::step::{State, Step};

/// `inFlight.outcome`: written, and nothing is known to be lost.
pub const SENT: &str = "Sent";
/// `inFlight.outcome`: an answer is missing.
pub const AMBIGUOUS: &str = "Ambiguous";
/// `inFlight.outcome`: the panel answered that it was done, and does not show it.
pub const ANSWERED: &str = "Answered";
/// `lastError.code`: the panel answered that it was done, and it did not show in the time that it had.
pub(super) const NO_EFFECT: &str = "NoEffect";
/// How often the effect of a lost answer is looked for in vain before the call is made again.
const LOOKS: i32 = 2;

/// Where the effect of a call shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// In forms and address lists, which are read anew in every decision.
    AtOnce,
    /// In the panel's list of servers, which is shared and may be old.
    InTheList,
}

impl Cx<'_> {
    /// Notes that an answer of this pass is missing. Called once at the beginning of every decision.
    pub fn note_lost_answer(&mut self) {
        let Some((call, error)) = &self.facts.ambiguous else { return };
        let own = self.facts.own_operation.as_deref();
        // Made beside whatever the order is about, which is not blamed for it; nor is it what a department was asked about.
        let elsewhere = self.state(Step::IssueLicenses).over() || self.is_open(TaskType::FailedOperation);
        let beside = matches!(call, Call::RenewLicense { .. }) && elsewhere;
        if let Some(f) = self.status.in_flight.as_mut().filter(|f| own == Some(&f.operation_id) && f.outcome == SENT) {
            f.outcome = AMBIGUOUS.into();
            f.since = Time(self.now);
            f.looks = 0;
            call.name().clone_into(&mut f.call);
            if beside {
                return;
            }
            let step = Step::parse(&f.step);
            let error = LastError {
                step: f.step.clone(),
                code: error.code(),
                message: cut(&error.to_string(), LONG),
                retryable: true,
                time: Time::seconds(self.now),
            };
            self.note_error(error);
            if let Some(step) = step {
                self.note_loss(step);
            }
        }
    }

    /// The last call was refused, or never left: whoever reads the status later must not take it for one that was accepted.
    /// Called once at the beginning of every decision, since reads may fail before the refusal is judged.
    pub fn note_refusal(&mut self) {
        let Some(call) = &self.facts.last_refused else { return };
        let own = self.status.in_flight.as_ref().filter(|f| self.intent_is_own(f));
        let Some(step) = own.and_then(|f| Step::parse(&f.step)) else { return };
        if self.state(step) == State::Running {
            let followed = step == Step::InstallOS && matches!(call, Call::CancelOperation { .. });
            self.enter(step, if followed { State::Waiting } else { State::Pending }, "");
        }
    }

    /// The intent of a step, if one is in flight.
    #[must_use]
    pub fn intent(&self, step: Step) -> Option<&InFlight> {
        self.status.in_flight.as_ref().filter(|f| f.step == step.as_str())
    }

    /// Whether the intent in flight was written in this pass and no answer under it is missing.
    #[must_use]
    pub fn intent_is_own(&self, f: &InFlight) -> bool {
        self.facts.own_operation.as_deref() == Some(&f.operation_id) && f.outcome == SENT
    }

    /// Asks for a change, unless it was just made without effect, was refused, may still be under way, or is not ours to make.
    pub fn call(&mut self, step: Step, call: Call, shows: Shows) -> Halt {
        if self.facts.applied.contains(&call) {
            let message = format!("the panel said that {} was done, but it does not show", call.name());
            return self.fail(step, NO_EFFECT, &message);
        }
        self.call_again(step, call, shows)
    }

    /// The same for a call that one pass may make several times, such as taking one address after the other.
    pub fn call_again(&mut self, step: Step, call: Call, shows: Shows) -> Halt {
        if let Some(halt) = self.contradicts_done(step, &call) {
            return halt;
        }
        // A suspended handler changes nothing at its panel; licences that end are renewed at another one.
        if self.facts.handler == HandlerState::Suspended && !matches!(call, Call::RenewLicense { .. }) {
            return self.wait_for_handler(
                step,
                Reason::HandlerSuspended,
                "the handler is suspended: nothing is changed at the panel".into(),
            );
        }
        if let Some(error) = self.facts.refusal(|c| *c == call).cloned() {
            return match error.class() {
                ErrorClass::Expectation => super::drift::not_touched(self, step, Reason::NotOurServer, &error.to_string()),
                ErrorClass::Down
                | ErrorClass::Credentials
                | ErrorClass::Missing
                | ErrorClass::Exists
                | ErrorClass::Refused
                | ErrorClass::Dialect => self.fail_with(step, &error),
            };
        }
        if let Some(halt) = self.not_ours(step, &call) {
            return halt;
        }
        let server = call.server().cloned().or_else(|| self.server_id());
        let target = server.map_or_else(|| format!("order/{}", self.order.order_id), |s| format!("server/{s}"));
        let target = call.license().map_or(target, super::licenses::target);
        match self.status.in_flight.clone() {
            Some(f)
                if self.intent_is_own(&f)
                    && f.step == step.as_str()
                    && f.target == target
                    && (!call.wants_own_intent() || f.call == call.name()) =>
            {
                self.emit(step, call)
            }
            Some(f) if self.intent_is_own(&f) => self.new_intent(step, call, target, 1),
            Some(_) => self.settle(step, call, target, shows),
            None => self.new_intent(step, call, target, 1),
        }
    }

    /// Before anything is changed the marker is read back: in this very decision where a mistake would cost a client something,
    /// else once in a pass. Somebody else's server is never touched.
    fn not_ours(&mut self, step: Step, call: &Call) -> Option<Halt> {
        if call.marks() || call.at_license_server() {
            // These check the form themselves; a licence is found by its own remote id.
            return None;
        }
        if matches!(call, Call::SetNote { .. }) && super::orphaning::keeps_server(self) {
            // Our own word goes from a note of ours, whoever has the server by now.
            return None;
        }
        let server = call.server().cloned().or_else(|| self.server_id())?;
        let missing = self.facts.forms.get(&server.0) == Some(&Seen::Missing);
        if call.server().is_none() && missing && self.row(&server) == Row::Gone {
            return None;
        }
        let form = match self.facts.forms.get(&server.0) {
            None if !call.destructive() && self.facts.verified(&server) => return None,
            None => return Some(self.look(step, Look::Form(server))),
            Some(Seen::Missing) => return Some(self.form_missing(step, &server)),
            Some(Seen::There(form)) => form.clone(),
        };
        if self.order.marker.find_in(&form.notes) != Found::Ours {
            let message = format!("server {server} does not carry this order's marker alone; {} is not asked for", call.name());
            return Some(super::drift::not_touched(self, step, Reason::NotOurServer, &message));
        }
        if call.destructive() { self.somebody_elses(step, &server, form.owner.as_deref()) } else { None }
    }

    /// A server that a person gave to another client may still carry our marker.
    pub(super) fn somebody_elses(&mut self, step: Step, server: &ServerId, owner: Option<&str>) -> Option<Halt> {
        let owner = owner?;
        let people = match super::people::people(self, step) {
            ControlFlow::Continue(people) => people,
            ControlFlow::Break(halt) => return Some(halt),
        };
        if people.is_me(owner) {
            return None;
        }
        if people.is_client(owner) {
            return super::recovery::was_older(self, step);
        }
        let message = format!("server {server} belongs to panel user {owner}, neither the client nor the operator; it is not touched");
        Some(super::drift::not_touched(self, step, Reason::OwnerChanged, &message))
    }

    /// An answer is missing and the effect does not show: waits, looks again, and only then tries anew.
    fn settle(&mut self, step: Step, call: Call, target: String, shows: Shows) -> Halt {
        let attempt = match &self.status.in_flight {
            Some(f) if f.step == step.as_str() => f.attempt + 1,
            Some(_) | None => 1,
        };
        let due = self.status.in_flight.as_ref().map_or(self.now, |f| after(f.since.0, self.handler.settle));
        let listed = self.facts.inventory.as_ref().is_some_and(|i| i.began >= due);
        if shows == Shows::InTheList && self.now >= due && !listed {
            return self.wait_for_list(step);
        }
        let lost = attempt.saturating_sub(1);
        match self.settled(step) {
            ControlFlow::Break(halt) => halt,
            ControlFlow::Continue(()) if self.failed_so_far(step).saturating_add(lost) >= self.handler.max_attempts => {
                // Lost as often as anything may fail: a person looks why.
                let code = if self.was_answered() { NO_EFFECT } else { "AnswerLost" };
                let message = self.lost_each_time(step, &call, lost);
                if let (Call::Unclaim { .. } | Call::Unmark { .. }, Some(f)) = (&call, self.status.in_flight.as_mut()) {
                    // Nothing but the intent leads back to a server with half a marker.
                    f.attempt = 0;
                } else {
                    self.status.in_flight = None;
                }
                self.fail_after_losses(step, code, &message, lost)
            }
            ControlFlow::Continue(()) => self.new_intent(step, call, target, attempt),
        }
    }

    /// What is in flight was answered as done, if it is of this pass, and its effect does not show: from now on it has the time that an answer
    /// that is missing has. Whether it is.
    pub(super) fn note_answered(&mut self) -> bool {
        let own = self.status.in_flight.as_ref().is_some_and(|f| self.intent_is_own(f));
        match self.status.in_flight.as_mut().filter(|_| own) {
            Some(f) => {
                (f.outcome, f.since, f.looks) = (ANSWERED.into(), Time(self.now), 0);
                true
            }
            None => false,
        }
    }

    /// A call was answered as done in this pass, and its effect does not show: it is waited for like one whose answer is missing.
    pub(super) fn not_shown_yet(&mut self, step: Step, message: &str) -> Halt {
        // One that is made beside something else is not what the order is about.
        if self.note_answered() && !self.state(step).over() {
            self.note_loss(step);
        }
        match self.settled(step) {
            ControlFlow::Break(halt) => halt,
            ControlFlow::Continue(()) => {
                self.status.in_flight = None;
                self.fail(step, NO_EFFECT, message)
            }
        }
    }

    /// Whether the panel answered that what is in flight was done.
    fn was_answered(&self) -> bool {
        self.status.in_flight.as_ref().is_some_and(|f| f.outcome == ANSWERED)
    }

    /// What a call without an answer is said to have come to. The panel may well have answered, only not whether it was done.
    fn lost_each_time(&self, step: Step, call: &Call, lost: i32) -> String {
        let times = if lost == 1 { "once".to_owned() } else { format!("{lost} times") };
        if self.was_answered() {
            return format!("{} was asked for {times} and answered as done, and its effect never showed", call.name());
        }
        match self.last_words(step) {
            Some(error) => {
                format!(
                    "{} was asked for {times} without an answer that says that it was done, and its effect never showed; the last: {error}",
                    call.name()
                )
            }
            None => format!("the answer to {} was lost {times}, and its effect never showed", call.name()),
        }
    }

    /// The last error of this step, where there was one: the panel's own words.
    fn last_words(&self, step: Step) -> Option<&str> {
        let error = self.status.last_error.as_ref().filter(|e| e.step == step.as_str() && e.retryable)?;
        Some(error.message.as_str()).filter(|text| !text.is_empty())
    }

    /// `Continue` once whatever is in flight has had its time to take effect, and was looked for in vain as often as is due.
    pub fn settled(&mut self, step: Step) -> Flow {
        let Some(mut f) = self.status.in_flight.clone() else { return ControlFlow::Continue(()) };
        if self.intent_is_own(&f) {
            return ControlFlow::Continue(());
        }
        if f.outcome == SENT {
            // Written by an earlier pass or process: whether its call was made is not known.
            f.outcome = AMBIGUOUS.into();
            f.since = Time(self.now);
            f.looks = 0;
            if f.step == step.as_str() {
                self.note_loss(step);
            }
        }
        if self.now >= after(f.since.0, self.handler.settle) {
            f.looks += 1;
            if f.looks >= LOOKS {
                return ControlFlow::Continue(());
            }
            f.since = Time(self.now);
        }
        let until = after(f.since.0, self.handler.settle);
        let (reason, what) = if f.outcome == ANSWERED {
            (Reason::WaitingForPanel, format!("{} was answered as done, and does not show yet", f.call))
        } else {
            let why = self.last_words(step).map_or_else(String::new, |error| format!(" ({error})"));
            (Reason::AnswerLost, format!("the answer to {} was lost{why}", f.call))
        };
        let message = format!("{what}; looking again before anything is repeated ({} of {LOOKS})", f.looks + 1);
        self.status.in_flight = Some(f);
        let name = self.handler.panel.clone();
        let wait = Wait { kind: WaitKind::Panel, name: &name, reason, message, until: Some(until), deadline: None };
        ControlFlow::Break(self.wait(step, wait))
    }

    /// The same for effects that show in the list of servers: it has to be newer than the time that they had.
    pub fn settled_in_list(&mut self, step: Step) -> Flow {
        self.settled(step)?;
        let due = self.status.in_flight.as_ref().filter(|f| !self.intent_is_own(f)).map(|f| after(f.since.0, self.handler.settle));
        let began = self.facts.inventory.as_ref().map(|i| i.began);
        match due {
            Some(due) if began.is_none_or(|began| began < due) => ControlFlow::Break(self.wait_for_list(step)),
            Some(_) | None => ControlFlow::Continue(()),
        }
    }

    fn new_intent(&mut self, step: Step, call: Call, target: String, attempt: i32) -> Halt {
        self.status.in_flight = Some(InFlight {
            operation_id: self.facts.operation_id.clone(),
            step: step.as_str().into(),
            call: call.name().into(),
            target,
            handler: Some(self.handler.key.to_string()),
            intent: Some(self.intent_now(step)),
            attempt,
            since: Time(self.now),
            outcome: SENT.into(),
            looks: 0,
        });
        if call.is_timed() {
            // Its time-out runs from this attempt, not from one before.
            self.step(step).started_at = Some(Time::seconds(self.now));
        }
        self.emit(step, call)
    }

    fn emit(&mut self, step: Step, call: Call) -> Halt {
        if self.state(step) != State::Running {
            // A cancellation is no new attempt of what it cancels, whose time is over.
            if !matches!(call, Call::CancelOperation { .. }) {
                self.step(step).started_at = None;
            }
            self.enter(step, State::Running, "");
            self.step(step).attempts += 1;
        }
        self.status.waiting_on = None;
        self.status.next_retry_time = None;
        self.progress(step, step.percent(), call.name());
        let verdict = self.progressing(step, call.name());
        Halt { next: Next::Call(call), verdict }
    }
}
