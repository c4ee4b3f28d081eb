//! Failed attempts: counted, spaced, and handed to a department when there were too many.

use crate::api::common::Time;
use crate::api::order::LastError;
use crate::api::task::{Resolution, TaskType};

use super::context::{Cx, Flow, Halt, LONG, Recheck, Wait, WaitKind, after, cut};
use super::reason::Reason;
use super::step::{State, Step};
use super::tasks::{Ask, OPEN};

/// Spreads repeated attempts by up to a tenth either way, the same way for the same order and attempt.
#[must_use]
pub fn jittered(interval: std::time::Duration, seed: &str, attempt: i32) -> std::time::Duration {
    // FNV-1a: spreads well enough, and needs no random source in a pure function.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in seed.bytes().chain(attempt.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let per_mille = 900 + u32::try_from(hash % 201).unwrap_or(100);
    interval.saturating_mul(per_mille) / 1000
}

impl Cx<'_> {
    /// An attempt of a step failed. Repeated with the handler's interval; after `maxAttempts` a department looks after it.
    pub fn fail(&mut self, step: Step, code: &str, message: &str) -> Halt {
        if let Some(halt) = self.fails_to_verify(step, message) {
            return halt;
        }
        self.note_attempt(step, Time::seconds(self.now));
        let message = self.note_failure(step, code, message, 1);
        if self.status.attempts >= self.handler.max_attempts { self.give_up(step, &message) } else { self.back_off(step, &message) }
    }

    /// An attempt failed, now or at a time before, that is not repeated without a person's word.
    pub(super) fn fail_for_good(&mut self, step: Step, code: &str, message: &str, at: Time) -> Halt {
        if let Some(halt) = self.fails_to_verify(step, message) {
            return halt;
        }
        let known = self.is_counted(step) && self.status.attempts > 0 && at.0 < self.now;
        self.note_attempt(step, at);
        let message = self.note_failure(step, code, message, i32::from(!known));
        self.give_up(step, &message)
    }

    /// The same for a call of an earlier pass: nothing of this one tells which it was.
    pub(super) fn fail_for_good_of(&mut self, step: Step, code: &str, message: &str, call: &str, target: &str) -> Halt {
        if let Some(halt) = self.fails_to_verify(step, message) {
            return halt;
        }
        self.note_attempt_of(step, call, target);
        let message = self.note_failure(step, code, message, 1);
        self.give_up(step, &message)
    }

    /// An attempt of a step failed at what no call of this pass was about.
    pub(super) fn fail_of(&mut self, step: Step, code: &str, message: &str, call: &str, target: &str) -> Halt {
        if let Some(halt) = self.fails_to_verify(step, message) {
            return halt;
        }
        self.note_attempt_of(step, call, target);
        let message = self.note_failure(step, code, message, 1);
        if self.status.attempts >= self.handler.max_attempts { self.give_up(step, &message) } else { self.back_off(step, &message) }
    }

    fn note_attempt_of(&mut self, step: Step, call: &str, target: &str) {
        self.note_attempt(step, Time::seconds(self.now));
        if let Some(counted) = self.status.attempts_for.as_mut() {
            (counted.call, counted.target) = (call.to_owned(), target.to_owned());
        }
    }

    /// So many attempts whose answers were lost, each noted when it was, have failed: there are too many of them.
    pub(super) fn fail_after_losses(&mut self, step: Step, code: &str, message: &str, lost: i32) -> Halt {
        if let Some(halt) = self.fails_to_verify(step, message) {
            return halt;
        }
        if !self.is_counted(step) {
            self.note_attempt(step, Time::seconds(self.now));
        }
        let message = self.note_failure(step, code, message, lost.max(1));
        self.give_up(step, &message)
    }

    /// Counts failed attempts, and says why; returns the message as it is kept.
    fn note_failure(&mut self, step: Step, code: &str, message: &str, attempts: i32) -> String {
        // What is known to have ended needs no intent; a lost answer keeps it.
        self.settle_known();
        let message = cut(message, LONG);
        self.enter(step, State::Failed, &message);
        self.status.attempts = self.status.attempts.saturating_add(attempts);
        self.note_error(LastError {
            step: step.as_str().into(),
            code: code.into(),
            message: message.clone(),
            retryable: true,
            time: Time::seconds(self.now),
        });
        message
    }

    /// A wait in closing that may never end is counted like a failure; `Some` once a department has to look after it.
    pub fn out_of_patience(&mut self, step: Step, code: &str, message: &str) -> Option<Halt> {
        self.note_attempt(step, Time::seconds(self.now));
        let _ = self.note_failure(step, code, message, 1);
        if self.status.attempts < self.handler.max_attempts {
            return None;
        }
        match self.failed_operation(step) {
            Flow::Break(halt) => Some(halt),
            Flow::Continue(()) => None,
        }
    }

    /// What blocks nothing for ever, and is given up after as many attempts as anything has: `Continue` then.
    pub(super) fn try_a_few_times(&mut self, step: Step, code: &str, message: &str) -> Flow {
        if self.is_being_verified() {
            return Flow::Continue(());
        }
        self.note_attempt(step, Time::seconds(self.now));
        let message = self.note_failure(step, code, message, 1);
        if self.status.attempts < self.handler.max_attempts { Flow::Break(self.back_off(step, &message)) } else { Flow::Continue(()) }
    }

    /// Another handler, or a department.
    fn give_up(&mut self, step: Step, message: &str) -> Halt {
        if let Flow::Break(halt) = super::selection::try_another_handler(self, step, message) {
            return halt;
        }
        match self.failed_operation(step) {
            Flow::Break(halt) => halt,
            Flow::Continue(()) => self.back_off(step, message),
        }
    }

    fn back_off(&mut self, step: Step, message: &str) -> Halt {
        let at = after(self.now, jittered(self.handler.retry_interval, &self.order.uid, self.status.attempts));
        let message = format!("attempt {} of {} failed: {message}", self.status.attempts, self.handler.max_attempts);
        self.wait(
            step,
            Wait { kind: WaitKind::Retry, name: step.as_str(), reason: Reason::Retrying, message, until: Some(at), deadline: None },
        )
    }

    /// Waits for the department that looks after a failed step, or does what it said.
    pub fn failed_operation(&mut self, step: Step) -> Flow {
        let (summary, details) = self.failure_report(step);
        let department = self.handler.operations.clone();
        let ask = Ask { type_: TaskType::FailedOperation, department, step, summary, details };
        match self.ask(&ask)? {
            Resolution::Retry | Resolution::PartsMissing => {
                super::reinstallation::note_again(self, step);
                super::license_answers::may_be_repeated(self);
                // What still runs is known by that error alone: it is cancelled, and not waited for like somebody else's.
                let hangs = self.status.last_error.take().filter(super::installation::hangs);
                self.forget_attempts();
                self.status.last_error = hangs;
                self.enter(step, State::Pending, "");
            }
            Resolution::Done => self.begin_verifying(step),
            Resolution::Cancelled => {
                let note = self.answered(TaskType::FailedOperation);
                let message = format!("{} was cancelled by {}{note}", step.as_str(), self.handler.operations);
                return Flow::Break(self.stall(step, Reason::TaskCancelled, &message, Recheck::OnChange));
            }
            Resolution::Abandon if step == Step::RevokeLicenses => {
                // The licences alone are given up; the server is still taken back.
                self.finish(
                    step,
                    State::Skipped,
                    "the licences were given up by resolution Abandon; look after them at the licence server",
                );
            }
            Resolution::Abandon => return Flow::Break(self.abandon(step)),
        }
        Flow::Continue(())
    }

    /// What a department wrote into the task of this type that was closed last.
    pub(super) fn answered(&self, type_: TaskType) -> String {
        let last = self.status.manual_tasks.iter().rev().find(|t| t.type_ == type_.as_str() && t.state != OPEN);
        last.map(|t| t.message.as_str()).filter(|note| !note.is_empty()).map_or_else(String::new, |note| format!(": {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn jitter_stays_within_a_tenth(seed in "[a-f0-9-]{0,36}", attempt in 0i32..1000, secs in 1u64..100_000) {
            let interval = std::time::Duration::from_secs(secs);
            let got = jittered(interval, &seed, attempt);
            prop_assert!(got >= interval * 9 / 10 && got <= interval * 11 / 10, "{got:?}");
        }
    }
}
