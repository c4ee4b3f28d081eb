//! What failed attempts are counted for: a step and the part of the spec that it acts upon, not the number of reconciles.
//!
//! A change of a field that the step does not read neither starts the count anew nor shortens its back-off; a change of one that
//! it does read is a new intent. Both stand in the status, so that a restart forgets neither.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::api::common::Time;
use crate::api::handler::DeletionPolicy;
use crate::api::order::{AttemptsFor, OrderStatus};
use crate::api::task::TaskType;

use super::call::Call;
use super::context::{Cx, Flow, LONG, Recheck, Wait, WaitKind, cut};
use super::order::Order;
use super::reason::Reason;
use super::step::{CHANGES, CLOSING, OPENING, Step};

/// The fields of an order that a step acts upon, by name.
fn relevant(order: &Order, step: Step) -> Vec<(&'static str, String)> {
    let client = || ("client", order.username.clone());
    let configuration = || ("configuration", order.wanted.to_string());
    let recipes = || ("recipes", order.recipes.join("\n"));
    // A client who keeps his server after all needs none of what takes it back.
    let keeps = order.deleting && order.deletion_policy != DeletionPolicy::Release;
    let policy = || keeps.then(|| ("deletionPolicy", format!("{:?}", order.deletion_policy)));
    match step {
        Step::CreateClient | Step::HandOver => vec![client()],
        Step::Allocate => vec![client(), configuration()],
        Step::Assemble => vec![configuration()],
        Step::ChangeAddress => {
            vec![("domain", order.domain.clone()), ("ipv4", order.ipv4.to_string()), ("ipv6", order.ipv6.to_string())]
        }
        Step::InstallOS => vec![
            ("template", order.template.clone()),
            recipes(),
            // The host name of the installed system.
            ("domain", order.domain.clone()),
            ("reinstall", order.reinstall.clone()),
        ],
        Step::RunRecipes => vec![recipes()],
        Step::IssueLicenses | Step::RevokeLicenses => {
            let licenses = order.licenses.iter().map(|l| format!("{}\n{}", l.product, l.period)).collect::<Vec<_>>().join("\n");
            [("licenses", licenses)].into_iter().chain(policy()).collect()
        }
        Step::Suspend | Step::PortsOff | Step::StopPower | Step::Resume | Step::PortsOn => vec![("suspended", order.suspended.to_string())],
        // An installation gives the system its password, too.
        Step::SetPassword => vec![("passwordSecretRef", order.password_secret.clone()), ("reinstall", order.reinstall.clone())],
        Step::PowerOff | Step::RemoveAddresses | Step::ParkAddress | Step::Release => policy().into_iter().collect(),
        Step::PowerOn => Vec::new(),
    }
}

/// A short hash of what a step is to bring about: step, server, and the relevant fields of the spec.
#[must_use]
pub fn intent_of(order: &Order, step: Step, server: Option<&str>) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        // With its length in front, so that no two lists of texts look the same.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    add(step.as_str());
    add(server.unwrap_or_default());
    for (name, value) in relevant(order, step) {
        add(name);
        add(&value);
    }
    let digest = hash.finalize();
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The call that a step is about, where no other is known to have failed.
fn principal(step: Step) -> &'static str {
    match step {
        Step::CreateClient => "createUser",
        Step::Allocate => "claim",
        Step::PowerOn => "powerOn",
        Step::ChangeAddress | Step::ParkAddress => "replaceMainAddress",
        Step::InstallOS => "install",
        Step::HandOver => "handOver",
        Step::PowerOff | Step::StopPower => "powerOff",
        Step::Suspend => "disable",
        Step::PortsOff => "connectionOff",
        Step::Resume => "enable",
        Step::PortsOn => "connectionOn",
        Step::SetPassword => "setPassword",
        Step::RemoveAddresses => "removeAddress",
        Step::Release => "release",
        Step::IssueLicenses => "orderLicense",
        Step::RevokeLicenses => "suspendLicense",
        Step::RunRecipes => "runRecipe",
        // Nothing is asked of DCImanager in this one.
        Step::Assemble => "none",
    }
}

/// What was counted is forgotten: it has come about, or it is not asked for any more.
pub(super) fn forget(status: &mut OrderStatus) {
    status.attempts = 0;
    status.attempts_for = None;
    status.last_error = None;
    status.next_retry_time = None;
}

impl Cx<'_> {
    /// What a step is to bring about now, as a hash.
    pub(super) fn intent_now(&self, step: Step) -> String {
        let server = self.status.server.as_ref().map(|s| s.id.as_str());
        // The server is what allocation is to find.
        intent_of(self.order, step, server.filter(|_| !matches!(step, Step::CreateClient | Step::Allocate)))
    }

    /// An attempt of a step has failed, at the call that was asked for last. Counted with those before it, if they were for the same.
    pub(super) fn count_for(&mut self, step: Step) {
        let intent = self.intent_now(step);
        let (call, target) = self.asked_last(step);
        match self.status.attempts_for.as_mut().filter(|a| a.intent == intent) {
            Some(known) => {
                known.call = call;
                known.target = target;
            }
            None => {
                // A count of a version that did not say what it was for goes on.
                if self.status.attempts_for.is_some() {
                    self.status.attempts = 0;
                }
                let since = Time::seconds(self.now);
                self.status.attempts_for =
                    Some(AttemptsFor { step: step.as_str().into(), intent, call, target, since, last: None, done_at: None });
            }
        }
    }

    /// An attempt of a step has failed at this time: what it was for, and when.
    pub(super) fn note_attempt(&mut self, step: Step, at: Time) {
        self.count_for(step);
        if let Some(counted) = self.status.attempts_for.as_mut() {
            counted.since = counted.since.min(at);
            counted.last = Some(at);
        }
    }

    /// The answer to an attempt is missing. While it is being found out whether a department has done what failed, nothing is noted.
    pub(super) fn note_loss(&mut self, step: Step) {
        if !self.is_being_verified() {
            self.note_attempt(step, Time::seconds(self.now));
        }
    }

    /// Whether what is counted is this step, for what is asked for now.
    pub(super) fn is_counted(&self, step: Step) -> bool {
        self.status.attempts_for.as_ref().is_some_and(|a| a.intent == self.intent_now(step))
    }

    /// Attempts of a step that are known to have failed, for what is asked for now.
    pub(super) fn failed_so_far(&self, step: Step) -> i32 {
        if self.is_counted(step) && !self.is_being_verified() { self.status.attempts } else { 0 }
    }

    fn asked_last(&self, step: Step) -> (String, String) {
        let facts = self.facts;
        let lost = facts.ambiguous.as_ref().map(|(call, _)| call);
        let made = facts.last_refused.as_ref().or(lost).or_else(|| facts.applied.last());
        let intent = self.intent(step);
        let name = made.map(Call::name).or_else(|| intent.map(|f| f.call.as_str())).unwrap_or_else(|| principal(step));
        let server = made.and_then(Call::server).map(|s| s.0.as_str()).or_else(|| self.status.server.as_ref().map(|s| s.id.as_str()));
        let target = match (made.and_then(Call::license), server, intent) {
            (Some(license), ..) => super::licenses::target(license),
            (None, _, Some(f)) if f.target.starts_with(super::licenses::TARGET) => f.target.clone(),
            (None, Some(server), _) => super::suspension::target(server, made.and_then(Call::connection)),
            (None, None, Some(f)) => f.target.clone(),
            (None, None, None) => format!("order/{}", self.order.order_id),
        };
        (name.to_owned(), cut(&target, LONG))
    }

    /// What was counted for the order is forgotten.
    pub(super) fn forget_attempts(&mut self) {
        forget(&mut self.status);
    }

    /// A step is over: what was counted for it is forgotten, and what was counted for another one is not. Nor is that a server drifted: only
    /// a look at the server tells that it does no more.
    pub(super) fn forget_attempts_of(&mut self, step: Step) {
        let other = self.status.attempts_for.as_ref().is_some_and(|a| a.step != step.as_str());
        if !other {
            let drift = self.status.last_error.take().filter(|e| e.step != step.as_str() && super::drift::is_drift(&e.code));
            self.forget_attempts();
            self.status.last_error = drift;
        } else if self.status.last_error.as_ref().is_some_and(|e| e.step == step.as_str()) {
            self.status.last_error = None;
        }
    }

    /// Looks at what was counted before anything is tried again: a spec that asks for something else starts anew, one that asks
    /// for the same waits for its time, and what a department has cancelled stays so. `asked`: somebody wants an attempt now.
    pub(super) fn weigh_attempts(&mut self, asked: bool) -> Flow {
        let Some(counted) = self.status.attempts_for.clone() else { return Flow::Continue(()) };
        let Some(step) = Step::parse(&counted.step) else { return Flow::Continue(()) };
        let closing = self.order.deleting || super::give_back::under_way(self);
        let steps: &[Step] = if closing { &CLOSING } else { &OPENING };
        // Steps that an Active order takes when it is asked to; those of them that closing takes, too, are no past either.
        let change = CHANGES.contains(&step) && !(closing && super::suspension::settles_before_closing(step));
        // A claim that is undone is undone under its own step.
        let undoing = closing && step == Step::Allocate && self.status.server.is_none();
        if !(steps.contains(&step) || change || undoing) || counted.intent != self.intent_now(step) {
            self.start_anew(step);
            return Flow::Continue(());
        }
        let Some(error) = self.status.last_error.clone().filter(|e| e.step == counted.step) else { return Flow::Continue(()) };
        let cancelled = self.cancelled().is_some();
        if cancelled && asked {
            self.forget_attempts();
            return Flow::Continue(());
        }
        if cancelled && !super::suspension::goes_first(self) {
            return self.stays_cancelled();
        }
        let waits = self.status.waiting_on.as_ref().filter(|w| w.kind == WaitKind::Retry.as_str() && w.name == counted.step);
        let until = self.status.next_retry_time.map(|t| t.0).filter(|at| *at > self.now);
        // A handler or a Secret that was changed may be the cure; that this process is new is none.
        let changed = self.facts.forced && !self.facts.restarted;
        match (waits.map(|w| w.message.clone()), until) {
            (Some(message), Some(at)) if error.retryable && !asked && !changed => {
                let wait =
                    Wait { kind: WaitKind::Retry, name: step.as_str(), reason: Reason::Retrying, message, until: Some(at), deadline: None };
                Flow::Break(self.wait(step, wait))
            }
            _ => Flow::Continue(()),
        }
    }

    /// The step that a department has cancelled, for as long as nobody asks for it again.
    pub(super) fn cancelled(&self) -> Option<Step> {
        let error = self.status.last_error.as_ref().filter(|e| e.code == Reason::TaskCancelled.as_str() && !e.retryable)?;
        let counted = self.status.attempts_for.as_ref().filter(|a| a.step == error.step)?;
        Step::parse(&counted.step)
    }

    /// What a department has cancelled stays so.
    pub(super) fn stays_cancelled(&mut self) -> Flow {
        match (self.cancelled(), self.status.last_error.clone()) {
            (Some(step), Some(error)) => Flow::Break(self.stall(step, Reason::TaskCancelled, &error.message, Recheck::OnChange)),
            (Some(_) | None, _) => Flow::Continue(()),
        }
    }

    /// The spec asks for something else than what failed: the count, its task and its back-off are of the past.
    fn start_anew(&mut self, step: Step) {
        if self.supersede(TaskType::FailedOperation) {
            self.status.waiting_on = None;
        }
        self.status.attempts = 0;
        self.status.attempts_for = None;
        self.status.next_retry_time = None;
        // What went wrong before still tells how the server was left; its step finds out what has to be done about it.
        let stale = self.status.last_error.as_ref().is_some_and(|e| e.step != step.as_str() || !e.retryable);
        if stale {
            self.status.last_error = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    fn order(change: &Value) -> Order {
        let mut spec = json!({"domain": "web.example.net", "operatingSystem": {"template": "Debian"}, "recipes": ["nginx"]});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Order::parse(&samples::order(&json!({"spec": spec})), "c").unwrap()
    }

    #[test]
    fn a_change_is_a_new_intent_of_the_steps_that_act_upon_it_and_of_no_other() {
        use Step::*;
        let secret = json!({"operatingSystem": {"template": "Debian", "passwordSecretRef": {"name": "root", "key": "password"}}});
        let rows: [(&str, Value, &[Step]); 9] = [
            ("nothing", json!({}), &[]),
            ("domain", json!({"domain": "other.example.net"}), &[ChangeAddress, InstallOS]),
            ("addresses", json!({"addresses": {"ipv4": 2}}), &[ChangeAddress]),
            ("template", json!({"operatingSystem": {"template": "Alma"}}), &[InstallOS]),
            ("recipes", json!({"recipes": []}), &[InstallOS, RunRecipes]),
            ("secret", secret, &[SetPassword]),
            ("reinstall", json!({"reinstall": "again"}), &[InstallOS, SetPassword]),
            ("client", json!({"client": {"username": "other"}}), &[CreateClient, Allocate, HandOver]),
            ("configuration", json!({"configuration": {"serverType": "E5"}}), &[Allocate, Assemble]),
        ];
        let before = order(&json!({}));
        for (name, change, steps) in rows {
            let after = order(&change);
            for step in OPENING.into_iter().chain(CLOSING).chain(CHANGES) {
                let changed = intent_of(&before, step, Some("17")) != intent_of(&after, step, Some("17"));
                assert_eq!(changed, steps.contains(&step), "{name}, {step:?}");
            }
        }
    }

    #[test]
    fn what_takes_a_server_back_is_another_intent_where_its_client_keeps_it_and_nowhere_else() {
        use Step::*;
        let living = order(&json!({}));
        let rows: [(DeletionPolicy, &[Step]); 2] =
            [(DeletionPolicy::Release, &[]), (DeletionPolicy::Orphan, &[RevokeLicenses, PowerOff, RemoveAddresses, ParkAddress, Release])];
        for (policy, steps) in rows {
            let going = Order { deleting: true, deletion_policy: policy, ..living.clone() };
            for step in CLOSING {
                let changed = intent_of(&living, step, Some("17")) != intent_of(&going, step, Some("17"));
                assert_eq!(changed, steps.contains(&step), "{policy:?}, {step:?}");
            }
        }
    }

    #[test]
    fn steps_servers_and_the_borders_between_fields_make_different_intents() {
        let one = order(&json!({}));
        let all: std::collections::BTreeSet<String> = OPENING.into_iter().chain(CLOSING).map(|s| intent_of(&one, s, Some("17"))).collect();
        assert_eq!(all.len(), OPENING.len() + CLOSING.len());
        assert_ne!(intent_of(&one, Step::PowerOn, Some("17")), intent_of(&one, Step::PowerOn, Some("18")), "another server");
        let joined = order(&json!({"domain": "a.b", "operatingSystem": {"template": "c"}}));
        let apart = order(&json!({"domain": "a", "operatingSystem": {"template": "c"}}));
        assert_ne!(intent_of(&joined, Step::InstallOS, None), intent_of(&apart, Step::InstallOS, None));
        let text = intent_of(&one, Step::InstallOS, None);
        assert!(text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
    }
}
