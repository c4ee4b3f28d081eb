//! `Done` of a `FailedOperation` task: the panel is asked whether it agrees. Where it does not, a new task says what it shows.
//!
//! While the answer is looked for, the step may do whatever else is left, but not what failed: that would be a retry.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::order::LastError;
use crate::panel::dialect::FLAG_FOR_CLEANING;
use crate::panel::model::{ServerId, ServerRow};

use super::allocation::index_complete;
use super::call::Call;
use super::context::{Cx, Flow, Halt, LONG, cut};
use super::facts::{Look, Seen};
use super::licenses::{TARGET, target};
use super::marker::Found;
use super::people::people;
use super::reason::Reason;
use super::step::{State, Step};

/// `lastError.code`: a department said `Done`, and the panel does not show it.
pub const NOT_CONFIRMED: &str = "NotConfirmed";

/// What the panel says.
enum Answer {
    /// It is done; the step itself finds it so.
    Agrees,
    /// It is done, and this step needs nothing else.
    Over(&'static str),
    /// The step itself has to find out: it fails where it wants the failed call again.
    AskTheStep,
    /// It shows something else.
    Differs(String),
}

/// Looks whether the panel agrees with a department that said `Done`.
pub(super) fn verify(cx: &mut Cx<'_>) -> Flow {
    let Some((step, since)) = cx.being_verified() else { return Continue(()) };
    if let Some(server) = cx.server_id()
        && cx.is_gone(step, &server)?
    {
        // Nothing can be asked of a server that is not there; what follows from that is said, or done, by whoever is next.
        cx.confirmed(step);
        return Continue(());
    }
    match ask_panel(cx, step, since)? {
        Answer::Agrees => cx.confirmed(step),
        Answer::Over(message) => {
            cx.finish(step, State::Done, message);
            cx.forget_attempts();
        }
        Answer::AskTheStep => {}
        Answer::Differs(shown) => return Break(cx.not_confirmed(step, &shown)),
    }
    Continue(())
}

fn ask_panel(cx: &mut Cx<'_>, step: Step, since: Time) -> Flow<Answer> {
    let answer = match step {
        Step::CreateClient => match people(cx, step)?.client {
            Some(_) => Answer::Agrees,
            None => Answer::Differs(format!("its list of users does not show {}", cx.order.username)),
        },
        Step::Allocate => allocated(cx, step, since)?,
        Step::PowerOn => {
            let (_, row) = fresh_row(cx, step, since)?;
            if row.power.on { Answer::Agrees } else { Answer::Differs(power(&row)) }
        }
        Step::PowerOff | Step::StopPower => {
            let (_, row) = fresh_row(cx, step, since)?;
            match (row.power.off, row.power.on) {
                (true, false) => Answer::Agrees,
                // The panel cannot tell: whoever stopped it is believed, as with StopServer.
                (false, false) if row.power.error && step == Step::PowerOff => Answer::Over(super::closing::BY_HAND),
                (true | false, true) | (false, false) => Answer::Differs(power(&row)),
            }
        }
        Step::InstallOS => installed(cx, step, since)?,
        Step::HandOver => {
            let Some(server) = cx.server_id() else { return Continue(Answer::AskTheStep) };
            let people = people(cx, step)?;
            let form = cx.own_form(step, &server)?;
            let owner = form.owner.unwrap_or_else(|| "nobody".into());
            if people.is_client(&owner) {
                Answer::Agrees
            } else {
                Answer::Differs(format!("the owner of server {server} is {owner}, not {}", cx.order.username))
            }
        }
        Step::RunRecipes => recipe_run(cx, step, since)?,
        Step::Release => released(cx, step)?,
        Step::SetPassword => {
            super::rotation::believe_set(cx)?;
            Answer::Over("set by hand")
        }
        Step::Assemble
        | Step::Suspend
        | Step::PortsOff
        | Step::Resume
        | Step::PortsOn
        | Step::ChangeAddress
        | Step::IssueLicenses
        | Step::RevokeLicenses
        | Step::RemoveAddresses
        | Step::ParkAddress => Answer::AskTheStep,
    };
    Continue(answer)
}

/// The row of the order's server in a list that was asked for after the department had answered.
fn fresh_row(cx: &mut Cx<'_>, step: Step, since: Time) -> Flow<(ServerId, ServerRow)> {
    let Some(server) = cx.server_id().filter(|_| listed_since(cx, since)) else { return Break(cx.wait_for_list(step)) };
    let row = cx.need_row(step, &server)?;
    Continue((server, row))
}

fn listed_since(cx: &Cx<'_>, since: Time) -> bool {
    cx.facts.inventory.as_ref().is_some_and(|list| list.began >= since.0)
}

fn power(row: &ServerRow) -> String {
    let on = match (row.power.on, row.power.off) {
        (true, false) => "on",
        (false, true) => "off",
        (true, true) => "both on and off",
        (false, false) => "neither on nor off",
    };
    let error = if row.power.error { ", with a power error (IPMI or PDU)" } else { "" };
    format!("its list shows server {} {on}{error}", row.id)
}

fn allocated(cx: &mut Cx<'_>, step: Step, since: Time) -> Flow<Answer> {
    if cx.undoes_a_claim() {
        return Continue(Answer::AskTheStep);
    }
    if let Some(server) = cx.order.adopt.clone() {
        // The notes of a client's server are read for the index when something else of it differs.
        let Seen::There(form) = cx.form(step, &server)? else { return Continue(Answer::AskTheStep) };
        return Continue(match cx.order.marker.find_in(&form.notes) {
            Found::Ours => Answer::Agrees,
            Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => {
                Answer::Differs(format!("the notes of server {server} do not carry `{}` alone", cx.order.marker))
            }
        });
    }
    let Some(inventory) = cx.facts.inventory.clone().filter(|list| list.began >= since.0) else { return Break(cx.wait_for_list(step)) };
    let people = people(cx, step)?;
    index_complete(cx, step, &inventory, &people)?;
    let mine = inventory.markers.values().filter(|markers| markers.contains(&cx.order.marker)).count();
    Continue(match mine {
        0 => Answer::Differs(format!(
            "no server that belongs to {} or to the operator carries `{}` in its notes",
            cx.order.username, cx.order.marker
        )),
        _ => Answer::Agrees,
    })
}

fn installed(cx: &mut Cx<'_>, step: Step, since: Time) -> Flow<Answer> {
    let (server, row) = fresh_row(cx, step, since)?;
    if row.install.is_some() {
        // A person has started it; it is followed like one of the operator's own, and has its time from now on.
        cx.confirmed(step);
        follow_by_hand(cx, step, &row);
        return Continue(Answer::AskTheStep);
    }
    // The flag stays when a person runs the recipe: nothing at the panel shows that it has run. Nor does anything show that only a recipe
    // failed where the form named the system before: whoever has looked at the server is believed.
    let recipe = cx.status.last_error.as_ref().is_some_and(|e| e.code == Reason::RecipeFailed.as_str());
    let recipe = recipe || super::recipes::may_be_the_recipe(cx);
    if row.flags.operation_failed && !recipe {
        return Continue(Answer::Differs(format!("its list shows that an operation on server {server} failed")));
    }
    let Some(form) = cx.facts.install_forms.get(&server.0) else { return Break(cx.look(step, Look::InstallForm(server))) };
    let wanted = super::installation::asked_for(cx);
    let cancelled = cx.status.last_error.as_ref().is_some_and(|e| e.code == super::installation::CANCELLED);
    Continue(match form.as_ref().and_then(|f| f.current.as_ref()) {
        Some(there) if *there == wanted => Answer::Over("installed by hand"),
        Some(there) if super::reinstallation::was_never_made(cx, there) => Answer::Over("nothing was installed"),
        Some(there) => Answer::Differs(format!("its form names {there} as the system of server {server}, not {wanted}")),
        // Nothing else may ever show it: its form did not name one before.
        None if cancelled => Answer::Over("installed by hand"),
        None => Answer::Differs(format!("its form names no system of server {server}; {wanted} has to be installed through the panel")),
    })
}

/// Nothing at the panel shows that a recipe has run: the department is believed, since to run it once more may do harm.
fn recipe_run(cx: &mut Cx<'_>, step: Step, since: Time) -> Flow<Answer> {
    let (_, row) = fresh_row(cx, step, since)?;
    cx.confirmed(step);
    if row.install.is_some() {
        follow_by_hand(cx, step, &row);
    } else {
        super::recipes::believe_run(cx);
    }
    Continue(Answer::AskTheStep)
}

/// What a person has started runs: a failure that the list shows by now is one of before.
fn follow_by_hand(cx: &mut Cx<'_>, step: Step, row: &ServerRow) {
    if let Some(server) = cx.status.server.as_mut() {
        server.failure_stood = row.flags.operation_failed;
    }
    cx.step(step).started_at = None;
    cx.enter(step, State::Waiting, "");
}

/// Whether what a department was asked about in the last step is a call that comes before the release itself.
fn failed_before_the_release(cx: &Cx<'_>) -> bool {
    let failed = cx.status.attempts_for.as_ref().map(|a| a.call.as_str());
    failed.is_some_and(|call| ["setDomain", "enable", FLAG_FOR_CLEANING].contains(&call))
}

fn released(cx: &mut Cx<'_>, step: Step) -> Flow<Answer> {
    // What was asked for since the department answered is looked after like any other call.
    let Some(server) = cx.server_id().filter(|_| cx.intent(step).is_none()) else { return Continue(Answer::AskTheStep) };
    Continue(match cx.form(step, &server)? {
        Seen::Missing => Answer::AskTheStep,
        // Something else failed, before the release: the step finds out whether it is done.
        Seen::There(form) if cx.order.marker.stands_in(&form.notes) && failed_before_the_release(cx) => Answer::AskTheStep,
        Seen::There(form) if cx.order.marker.stands_in(&form.notes) => {
            let owner = form.owner.unwrap_or_else(|| "nobody".into());
            Answer::Differs(format!("the notes of server {server} still carry the order's marker, and its owner is {owner}"))
        }
        Seen::There(_) => Answer::Over("released by hand"),
    })
}

impl Cx<'_> {
    /// The step of which a department said that it is done, and since when.
    fn being_verified(&self) -> Option<(Step, Time)> {
        let counted = self.status.attempts_for.as_ref()?;
        Some((Step::parse(&counted.step)?, counted.done_at?))
    }

    /// Whether it is being found out that a step is done.
    pub(super) fn is_being_verified(&self) -> bool {
        self.being_verified().is_some()
    }

    /// A department said that the step is done.
    pub(super) fn begin_verifying(&mut self, step: Step) {
        if self.status.attempts_for.as_ref().is_none_or(|a| a.step != step.as_str()) {
            self.count_for(step);
        }
        // Whatever was on its way when a person took over is theirs to judge. Nothing but the intent leads back to half a marker.
        let undoing = self.undoes_a_claim();
        self.status.in_flight = self.status.in_flight.take().filter(|f| undoing || f.step != step.as_str());
        let now = self.now;
        if let Some(counted) = self.status.attempts_for.as_mut() {
            counted.done_at = Some(Time(now));
        }
        self.enter(step, State::Pending, "verifying what was done by hand");
        self.status.next_retry_time = None;
    }

    /// A claim, or an adoption, is being undone.
    fn undoes_a_claim(&self) -> bool {
        // In closing also a claim whose answer never came: what became of it is looked for until it is known.
        let undone = |call: &str| call == "unclaim" || call == "unmark" || (self.order.deleting && call == "claim");
        self.status.server.is_none() && self.intent(Step::Allocate).is_some_and(|f| undone(&f.call))
    }

    fn confirmed(&mut self, step: Step) {
        self.forget_attempts();
        self.enter(step, State::Pending, "");
    }

    /// Whether a department said of the very call that failed that its effect is there, and it is being found out.
    pub(super) fn is_said_to_be_done(&self, step: Step, call: &Call) -> bool {
        let verified = self.being_verified().is_some_and(|(verified, _)| verified == step);
        let failed = self.status.attempts_for.as_ref().is_some_and(|a| a.call == call.name());
        verified && failed && !self.is_of_another_license(call) && !self.is_of_another_connection(call)
    }

    /// The step wants the very call that failed, though a department said that its effect is there.
    pub(super) fn contradicts_done(&mut self, step: Step, call: &Call) -> Option<Halt> {
        if !self.is_said_to_be_done(step, call) {
            return None;
        }
        let shown = format!("{} is still needed{}", call.name(), self.shown());
        Some(self.not_confirmed(step, &shown))
    }

    /// What failed was about one licence, and this call is about another one: that is nothing that a department said was done.
    fn is_of_another_license(&self, call: &Call) -> bool {
        let failed = self.status.attempts_for.as_ref().map(|a| a.target.as_str()).filter(|target| target.starts_with(TARGET));
        failed.zip(call.license()).is_some_and(|(failed, remote)| failed != target(remote))
    }

    /// The same of one connection of the server and another one.
    fn is_of_another_connection(&self, call: &Call) -> bool {
        let failed = self.status.attempts_for.as_ref().map(|a| a.target.as_str());
        failed.zip(call.connection()).is_some_and(|(failed, connection)| !super::suspension::may_name(failed, connection))
    }

    /// The addresses of the server as far as this decision has read them.
    fn shown(&self) -> String {
        let Some(rows) = &self.facts.addresses else { return String::new() };
        let rows: Vec<String> = rows.iter().map(|r| format!("{} ({})", r.address, r.domain)).collect();
        format!("; the server's addresses are {}", if rows.is_empty() { "none".to_owned() } else { rows.join(", ") })
    }

    /// The step failed while it was being verified.
    pub(super) fn fails_to_verify(&mut self, step: Step, message: &str) -> Option<Halt> {
        let (verified, _) = self.being_verified()?;
        (verified == step).then(|| self.not_confirmed(step, message))
    }

    /// The panel does not agree: a new task says so, politely.
    fn not_confirmed(&mut self, step: Step, shown: &str) -> Halt {
        self.settle_known();
        let message = format!("the last task was closed as Done, but the panel does not show it yet: {shown}");
        self.enter(step, State::Failed, &message);
        let lost = self.facts.ambiguous.as_ref().map(|(call, _)| call);
        let connection = self.facts.last_refused.as_ref().or(lost).and_then(Call::connection);
        if let Some(counted) = self.status.attempts_for.as_mut() {
            counted.done_at = None;
            if let Some(connection) = connection {
                // The next answer is about this one, too.
                super::suspension::name_too(&mut counted.target, connection);
            }
        }
        self.status.last_error = Some(LastError {
            step: step.as_str().into(),
            code: NOT_CONFIRMED.into(),
            message: cut(&message, LONG),
            retryable: true,
            time: Time::seconds(self.now),
        });
        match self.failed_operation(step) {
            Break(halt) => halt,
            // The task that was just raised has no answer yet.
            Continue(()) => self.wait_for_list(step),
        }
    }
}
