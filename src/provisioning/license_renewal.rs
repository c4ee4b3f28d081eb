//! Renewal of licences: in time, once for each period, and whatever the clock says never twice in a row.
//!
//! A renewal is paid for, and goes from the old end on. Where the clock is far ahead, or a licence ended long ago, one that was
//! just renewed looks as if it ended soon again: what was renewed is left alone for half of its period, and `licenses[].renewedAt`
//! says since when. It is written together with the end that the renewal's intent was waiting for.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::order::{AttemptsFor, InFlight, LastError, License, LicenseStatus, OrderStatus};
use crate::api::task::TaskType;
use crate::panel::license::{LicenseForm, LicenseId, LicenseRow, LicenseState};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Next, after, cut};
use super::facts::HandlerState;
use super::license_answers::{RENEWAL, end_shows_in_time, is_end_overdue};
use super::license_list::{form, tells};
use super::license_server::LicenseServer;
use super::licenses::{ISSUED, TARGET, awaits, change, entry, record, remote_id, seen, target};
use super::step::{State, Step};
use super::verdict::Verdict;

/// The shortest month, in days: half a period is reckoned with it.
const MONTH: u64 = 28;

/// How long a licence is left alone whose renewal came to nothing while its order waited for something else: nobody counts these, and the
/// three days before its end (`licenses.renewBefore`) have room for many.
const PAUSE: Duration = Duration::from_hours(1);

/// Half of so many months.
fn half_of(months: i32) -> Duration {
    Duration::from_hours(12 * MONTH).saturating_mul(u32::try_from(months).unwrap_or(1).max(1))
}

fn period(licenses: &[License], record: &LicenseStatus) -> Option<i32> {
    licenses.iter().find(|l| l.product == record.product).map(|l| l.period)
}

/// The end that a renewal brings at least, where its answer names none: half of a period after the one before.
pub(super) fn least_end(licenses: &[License], record: &LicenseStatus, now: Timestamp) -> Time {
    let half = half_of(period(licenses, record).unwrap_or(1));
    Time::seconds(after(record.expires_at.map_or(now, |at| at.0), half))
}

/// The server, while its shared list says something about this order's licences.
pub(super) fn fresh_enough<'a>(cx: &Cx<'a>) -> Option<&'a LicenseServer> {
    let server = cx.facts.licenses.server.as_ref().filter(|s| s.state == HandlerState::Ready)?;
    let list = server.list.as_ref()?;
    server.changed.is_none_or(|at| list.began > at).then_some(server)
}

pub(super) fn row<'a>(server: &'a LicenseServer, record: &LicenseStatus) -> Option<&'a LicenseRow> {
    let row = server.list.as_ref()?.rows.get(record.id.as_deref()?)?;
    (row.state != LicenseState::Deleted).then_some(row)
}

/// Whether the shared list shows a licence as one that nobody can use any more.
fn is_deleted(server: &LicenseServer, record: &LicenseStatus) -> bool {
    let row = record.id.as_ref().and_then(|id| server.list.as_ref()?.rows.get(id));
    row.is_some_and(|row| row.state == LicenseState::Deleted)
}

/// Keeps the ends that the shared list shows. It costs no request.
pub(super) fn note_list(cx: &mut Cx<'_>) {
    let (now, order) = (cx.now, cx.order);
    for record in &mut cx.status.licenses {
        // Noted while the clock was ahead: half a period is counted from now at the latest.
        record.renewed_at = record.renewed_at.map(|at| at.min(Time::seconds(now)));
    }
    let Some(server) = fresh_enough(cx) else { return };
    // While an answer about a licence is missing, only its form decides whether the end has moved.
    if cx.status.in_flight.as_ref().is_some_and(|f| f.target.starts_with(TARGET)) {
        return;
    }
    for record in &mut cx.status.licenses {
        if let Some(expires) = row(server, record).and_then(|row| row.expires) {
            let half = period(&order.licenses, record).map(half_of);
            note_end(record, Some(Time::seconds(expires)), half, now);
        }
    }
}

/// Keeps the end that the licence server shows. One that has moved on by half a period (`half`) or more was renewed, by us or by somebody;
/// that, or the end that an answer named, is what was waited for.
fn note_end(record: &mut LicenseStatus, shown: Option<Time>, half: Option<Duration>, now: Timestamp) {
    let renewed = matches!((record.expires_at, shown, half), (Some(was), Some(is), Some(half)) if is.0 >= after(was.0, half));
    if renewed {
        record.renewed_at = Some(Time::seconds(now));
    }
    let moved_to = |end: Time| shown.is_none_or(|is| is >= end && Some(is) > record.expires_at);
    if record.answered_end.is_some_and(|end| renewed || moved_to(end)) {
        (record.answered_at, record.answered_end) = (None, None);
    }
    record.expires_at = shown;
}

/// A licence ends within `renewBefore`, but never before half of its period is over, it was not renewed within as long, no answer said
/// that it was, and the list does not show it as deleted.
pub(super) fn is_due(cx: &Cx<'_>, server: &LicenseServer, record: &LicenseStatus) -> bool {
    if record.answered_end.is_some() || is_deleted(server, record) {
        return false;
    }
    let Some(half) = period(&cx.order.licenses, record).map(half_of) else { return false };
    let Some(expires) = record.expires_at.filter(|_| record.state.as_deref() == Some(ISSUED)) else { return false };
    // Half of what was bought then, where that shows: the period of the spec may be another one by now.
    let bought = |at: Timestamp| Duration::try_from(expires.0.duration_since(at)).ok().filter(|span| !span.is_zero()).map(|span| span / 2);
    let rests = record.renewed_at.is_some_and(|at| cx.now < after(at.0, bought(at.0).map_or(half, |span| span.min(half))));
    !rests && after(cx.now, server.policy.renew_before.min(half)) >= expires.0
}

/// Renewed once for each period: it is due by the date that is recorded, and done as soon as the form shows another one.
pub(super) fn renewal(
    cx: &mut Cx<'_>,
    step: Step,
    server: &LicenseServer,
    license: &License,
    id: &LicenseId,
    remote: &str,
    form: &LicenseForm,
) -> Flow {
    let now = cx.now;
    let end = match &form.expires {
        Ok(end) => *end,
        Err(text) => return no_date(cx, step, server, &license.product, id, remote, text),
    };
    let shown = end.map(Time::seconds);
    let ours = awaits(cx, remote, RENEWAL);
    let entry = entry(cx, &license.product, server.key.to_string());
    if entry.expires_at != shown {
        note_end(entry, shown, Some(half_of(license.period)), now);
        if ours {
            entry.renewed_at = Some(Time::seconds(now));
        }
        seen(cx, remote, RENEWAL);
    }
    end_shows_in_time(cx, step, &license.product, id, remote)?;
    let due = record(cx, &license.product).is_some_and(|record| is_due(cx, server, record));
    let Some(expires) = end.filter(|_| due) else { return Continue(()) };
    let call = Call::RenewLicense { license: id.clone(), remote_id: remote.to_owned(), period: license.period, expires };
    Break(change(cx, step, server, call))
}

/// What is said of an end that is none.
const NO_DATE: &str = "which is no date that is understood";

/// An end that is not understood is told before a client relies on the licence, and when the one that it showed before is near; `Done`
/// means that a person watches it. Else it stops nobody: `unclear_ends` tells of it.
fn no_date(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, product: &str, id: &LicenseId, remote: &str, text: &str) -> Flow {
    end_shows_in_time(cx, step, product, id, remote)?;
    let handed_over = cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some());
    let due = record(cx, product).is_some_and(|record| is_due(cx, server, record));
    if handed_over && !due {
        return Continue(());
    }
    // Also where an earlier version did not take that for an answer. One that nobody was asked about is not watched.
    let watched = |e: &LastError| e.message.contains(NO_DATE) && e.message.contains(&format!("licence {id} shows"));
    if cx.is_being_verified() && cx.status.last_error.as_ref().is_some_and(watched) {
        entry(cx, product, server.key.to_string()).expires_at = None;
        return Continue(());
    }
    // All that are known by now: the last question alone says what is watched.
    let others = no_dates(cx).filter(|(other, _)| *other != id.0);
    let all: Vec<String> = std::iter::once((id.0.as_str(), text))
        .chain(others)
        .map(|(id, text)| format!("licence {id} shows `{}` as its end", cut(text, SHOWN)))
        .collect();
    let message =
        format!("{}, {NO_DATE}, such as 2026-12-31: nobody would renew it in time; Done means that a person does", all.join(" and "));
    Break(cx.fail_of(step, "UnknownDate", &message, RENEWAL, &target(remote)))
}

/// How much is told of what stands instead of a date, in bytes: all licences of an order have room in one message, and [`NO_DATE`] after
/// them, by which an answer to it is known.
const SHOWN: usize = 16;

/// Licences of the order whose forms were read in this pass, and what they show instead of a date.
fn no_dates<'a>(cx: &'a Cx<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    cx.status.licenses.iter().filter_map(move |record| {
        let id = record.id.as_ref()?;
        let text = cx.facts.licenses.forms.get(id)?.as_ref()?.expires.as_ref().err()?;
        Some((id.as_str(), text.as_str()))
    })
}

/// What a department said that it did for one licence shows, or is not needed any more: what fails at another one is counted by itself.
/// That a person watches an end stands nowhere else, so that this goes on to be known.
pub(super) fn confirm(cx: &mut Cx<'_>, step: Step, product: &str) {
    let target = target(&remote_id(&cx.order.marker.short(), product));
    let said = cx.status.attempts_for.as_ref().is_some_and(|a| a.done_at.is_some() && a.step == step.as_str() && a.target == target);
    if said && !cx.status.last_error.as_ref().is_some_and(|e| e.message.contains(NO_DATE)) {
        cx.forget_attempts();
    }
}

/// Of which licences nobody knows when they end, as the step's message tells it.
pub(super) fn unclear_ends(cx: &Cx<'_>) -> String {
    let told: Vec<String> =
        no_dates(cx).map(|(id, text)| format!("; nobody renews licence {id}, which shows `{text}` as its end")).collect();
    told.concat()
}

/// A renewal was asked for, and its answer is not known.
pub(super) fn is_renewal(intent: &InFlight) -> bool {
    intent.call == RENEWAL
}

/// Whether a licence ends soon, or a department has to be asked about one that was renewed, while the order may be busy with something
/// else, or stand still.
pub(super) fn is_pressing(cx: &Cx<'_>) -> bool {
    let handed_over = cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some());
    // What else is in flight is settled first, and a licence that is ordered or changed by its step. What the panel accepted, and does not
    // show yet, is followed without an intent: one of ours would be taken for that.
    let followed = [Step::InstallOS, Step::RunRecipes, Step::PowerOn, Step::StopPower, Step::PortsOff, Step::PortsOn];
    let accepted = followed.iter().any(|step| cx.state(*step) == State::Running);
    let elsewhere = accepted || cx.status.in_flight.as_ref().is_some_and(|f| !is_renewal(f));
    let Some(server) = fresh_enough(cx).filter(|_| handed_over && !cx.order.deleting && !elsewhere) else { return false };
    let (asked, asks) = (cx.status.in_flight.is_some(), may_ask(cx));
    let due = |record: &LicenseStatus| {
        let mut record = record.clone();
        if let Some(expires) = row(server, &record).and_then(|row| row.expires).filter(|_| !asked) {
            let half = period(&cx.order.licenses, &record).map(half_of);
            note_end(&mut record, Some(Time::seconds(expires)), half, cx.now);
        }
        is_due(cx, server, &record) || (asks && is_end_overdue(&record, cx.now))
    };
    let wanted = |record: &LicenseStatus| period(&cx.order.licenses, record).is_some();
    cx.status.licenses.iter().any(|record| wanted(record) && !is_left_alone(cx, record) && due(record))
}

/// Nothing else is counted, or asked about: a question about a renewal takes nobody's place.
fn may_ask(cx: &Cx<'_>) -> bool {
    let counted = |a: &AttemptsFor| a.step == Step::IssueLicenses.as_str();
    cx.status.attempts_for.as_ref().is_none_or(counted) && !cx.is_open(TaskType::FailedOperation) && cx.cancelled().is_none()
}

/// Not tried now: it could not be read, or its renewal came to nothing a while ago, here or in the step, which counts and asks a department.
fn is_left_alone(cx: &Cx<'_>, record: &LicenseStatus) -> bool {
    let target = target(&remote_id(&cx.order.marker.short(), &record.product));
    let step = Step::IssueLicenses;
    let renewal = |a: &&AttemptsFor| a.step == step.as_str() && a.call == RENEWAL && a.target == target;
    let failed = cx.status.attempts_for.as_ref().filter(renewal).filter(|_| cx.status.in_flight.is_none());
    // The step may never come to it again, where something else stands before it.
    let asked = cx.is_open(TaskType::FailedOperation) || cx.cancelled() == Some(step);
    let of_step = failed.is_some_and(|a| asked || a.last.is_some_and(|at| cx.now < after(at.0.min(cx.now), PAUSE)));
    let rests = record.renewal_failed_at.is_some_and(|at| cx.now < after(at.0.min(cx.now), PAUSE));
    of_step || rests || record.id.as_ref().is_none_or(|id| cx.facts.licenses.unread.contains_key(id))
}

/// What was renewed shows also where the order stands still.
pub(super) fn note_shown(cx: &mut Cx<'_>) {
    if !cx.order.deleting {
        note_list(cx);
    }
}

/// Whatever an order waits for, what its client uses does not end meanwhile: a decision that would only wait renews first what is due. What
/// is said of the order stays what it is.
pub(super) fn meanwhile(cx: &mut Cx<'_>, halt: Halt) -> Halt {
    let waits = match halt.next {
        Next::Wait(_) => true,
        Next::Look(_) | Next::Prepare(_) | Next::Call(_) | Next::Raise(_) | Next::Forget => false,
    };
    if waits {
        note_shown(cx);
    }
    if !waits || !is_pressing(cx) {
        return halt;
    }
    let before = cx.status.clone();
    let renewed = pressing(cx);
    let raises = |halt: &Halt| matches!(halt.next, Next::Raise(_));
    let overdue = |product: &str| record(cx, product).is_some_and(|r| is_end_overdue(r, cx.now));
    let stands_still = matches!(halt.verdict, Verdict::Stalled(..));
    if stands_still && renewed.as_ref().is_some_and(|(product, halt)| raises(halt) && overdue(product)) {
        // A department is asked: it is waited for, and its answer is about what stands in the status now. An order that goes on asks when
        // it comes to it.
        return renewed.map_or(halt, |(_, asked)| asked);
    }
    let (in_flight, mut licenses) = (cx.status.in_flight.take(), std::mem::take(&mut cx.status.licenses));
    let halt = match renewed {
        Some((_, Halt { next: next @ (Next::Look(_) | Next::Prepare(_) | Next::Call(_)), .. })) => Halt { next, verdict: halt.verdict },
        // Refused, or without effect: the next one may be renewed, and this one is looked at again later.
        Some((product, Halt { next: Next::Wait(_) | Next::Raise(_) | Next::Forget, .. })) => {
            let failed = in_flight.is_none().then(|| licenses.iter_mut().find(|record| record.product == product)).flatten();
            if let Some(record) = failed {
                record.renewal_failed_at = Some(Time::seconds(cx.now));
            }
            halt
        }
        None => halt,
    };
    cx.status = OrderStatus { licenses, in_flight, ..before };
    halt
}

/// Whether a licence is this order's, as its form shows, or the list itself where that shows nothing of it.
fn is_told(server: &LicenseServer, id: &LicenseId, remote: &str, form: &LicenseForm) -> bool {
    let listed = || server.list.as_ref().and_then(|list| list.rows.get(&id.0)).is_some_and(|row| tells(row, remote));
    form.remote_id.as_deref().map_or_else(listed, |shown| shown == remote)
}

/// Renews what is due of the licences that are there; the product that it is about, and what comes next.
fn pressing(cx: &mut Cx<'_>) -> Option<(String, Halt)> {
    let step = Step::IssueLicenses;
    let server = fresh_enough(cx).cloned()?;
    note_list(cx);
    for license in cx.order.licenses.clone() {
        // One that cannot be renewed keeps no other from it.
        let overdue = |record: &LicenseStatus| may_ask(cx) && is_end_overdue(record, cx.now);
        let due = |record: &&LicenseStatus| (is_due(cx, &server, record) || overdue(record)) && !is_left_alone(cx, record);
        let Some(id) = record(cx, &license.product).filter(due).and_then(|record| record.id.clone()).map(LicenseId) else { continue };
        let remote = remote_id(&cx.order.marker.short(), &license.product);
        let flow = match form(cx, step, &id) {
            Continue(Some(form)) if is_told(&server, &id, &remote, &form) => renewal(cx, step, &server, &license, &id, &remote, &form),
            Continue(_) => {
                // Looked at again later.
                entry(cx, &license.product, server.key.to_string()).renewal_failed_at = Some(Time::seconds(cx.now));
                continue;
            }
            Break(halt) => Break(halt),
        };
        if let Break(halt) = flow {
            return Some((license.product, halt));
        }
    }
    None
}
