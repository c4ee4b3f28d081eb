//! What the licence server answered that it did, and does not show: waited for and looked for, and never asked for again at once.
//!
//! BILLmanager works through what is asked of it (ispsystem-api.md 5.1, status 5: in progress), and repeats what fails for about an hour
//! (5.2): what it accepted may show a while later. A licence and an end that an answer named are believed, stand in the status
//! (`licenses[].answeredAt`, `answeredEnd`), and are never paid for again but on a department's word. A purchase whose answer names no id
//! is looked for by its remote id, and a renewal whose answer names no end is believed to bring half of a period at least.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::order::{InFlight, LicenseStatus};
use crate::panel::license::{LicenseId, LicenseRow, LicenseState};

use super::context::{Cx, Flow, Halt, Wait, WaitKind, after};
use super::license_list::{cut_row, remote_of};
use super::license_renewal::{fresh_enough, least_end};
use super::license_server::LicenseServer;
use super::licenses::{ORDERED, SUSPENDED, awaits, entry, record, remote_id, seen, target, wanted_state};
use super::reason::Reason;
use super::step::{State, Step};

/// `lastError.code`: answered as done, and not shown for as long as it is believed.
const NOT_SHOWN: &str = "LicenseNotShown";
/// `inFlight.call`: a licence is bought.
pub(super) const ORDER: &str = "orderLicense";
/// `inFlight.call`: a licence is renewed.
pub(super) const RENEWAL: &str = "renewLicense";
/// How long a licence that an answer named is waited for, and an end at least.
const AT_LEAST: Duration = Duration::from_hours(1);
/// How long an end that an answer named is believed at most: the three days before the old one (`licenses.renewBefore`) have room for it.
const AT_MOST: Duration = Duration::from_hours(24);

/// Keeps what was answered in this pass. Called once at the beginning of every decision, since reads may fail before it is needed, and the
/// order may be about something else.
pub(super) fn note(cx: &mut Cx<'_>) {
    let (order, facts, now) = (cx.order, cx.facts, Time::seconds(cx.now));
    let marker = order.marker.short();
    for at in 0..cx.status.licenses.len() {
        let remote = remote_id(&marker, &cx.status.licenses[at].product);
        let bought = facts.licenses.answers.bought.get(&remote).filter(|_| awaits(cx, &remote, ORDER));
        let prolonged = facts.licenses.answers.prolonged.get(&remote).filter(|_| awaits(cx, &remote, RENEWAL));
        // An earlier pass wrote the purchase ahead, and what is stored tells by now how it ended.
        let stored = facts.licenses.stored.contains(&cx.status.licenses[at].product);
        let earlier = stored && awaits(cx, &remote, ORDER) && !cx.status.in_flight.as_ref().is_some_and(|f| cx.intent_is_own(f));
        let record = &mut cx.status.licenses[at];
        // Noted while the clock was ahead: the time counts from now on at the latest.
        record.answered_at = record.answered_at.map(|at| at.min(now));
        if earlier && record.id.is_none() && record.answered_at.is_some() {
            seen(cx, &remote, ORDER);
        } else if let Some(id) = bought {
            // Not verified yet, hence without a state; but known from now on.
            record.answered_at = record.answered_at.filter(|_| id.is_none()).or(Some(now));
            record.id = id.as_ref().map(|id| id.0.clone());
            if id.is_some() {
                seen(cx, &remote, ORDER);
            }
            // Where nothing but the time of the answer tells of it, the intent stays until that stands in the status: definitions of an older
            // version drop it, and then it would be bought again at once.
        } else if let Some(named) = prolonged {
            let end = named.map_or_else(|| least_end(&order.licenses, record, now.0), Time::seconds);
            (record.answered_at, record.answered_end, record.renewed_at) = (Some(now), Some(end), Some(now));
            seen(cx, &remote, RENEWAL);
        }
    }
}

/// An order that goes has bought a licence, as an answer said that did not name it, and nothing else that is stored tells of it while older
/// definitions drop when that was: the intent stays until the licence shows.
pub(super) fn is_told_by_intent(cx: &Cx<'_>) -> bool {
    let of = |f: &InFlight| {
        let mut bought = cx.facts.licenses.answers.bought.iter();
        f.call == ORDER && bought.any(|(remote, id)| id.is_none() && target(remote) == f.target)
    };
    cx.order.deleting && cx.status.in_flight.as_ref().is_some_and(of)
}

/// Until when an answer is believed; none where nothing is waited for. A new end has half of the time that the old one leaves, within
/// bounds.
fn believed_until(record: &LicenseStatus) -> Option<Timestamp> {
    let at = record.answered_at?.0;
    let left = record.answered_end.and(record.expires_at).and_then(|end| Duration::try_from(end.0.duration_since(at)).ok());
    Some(after(at, left.map_or(AT_LEAST, |left| (left / 2).clamp(AT_LEAST, AT_MOST))))
}

fn is_overdue(record: &LicenseStatus, now: Timestamp) -> bool {
    believed_until(record).is_some_and(|until| now >= until)
}

/// A renewal was answered, and the licence server has shown the end before it for too long.
pub(super) fn is_end_overdue(record: &LicenseStatus, now: Timestamp) -> bool {
    record.answered_end.is_some() && is_overdue(record, now)
}

/// `Continue` while an end that an answer named is believed; after that a department finds out.
pub(super) fn end_shows_in_time(cx: &mut Cx<'_>, step: Step, product: &str, id: &LicenseId, remote: &str) -> Flow {
    let Some(record) = record(cx, product).filter(|r| is_end_overdue(r, cx.now)).cloned() else { return Continue(()) };
    let told = |time: Option<Time>| time.map_or_else(|| "nothing".to_owned(), |time| time.to_string());
    let named = record.answered_end.filter(|end| *end != least_end(&cx.order.licenses, &record, cx.now));
    let until = named.map_or_else(|| "to an end that the answer did not name".to_owned(), |end| format!("until {end}"));
    let message = format!(
        "licence {id} (`{remote}`) was renewed {until}, as the licence server answered at {}, and it goes on to show {}: look there whether that was paid for and is under way; only Retry pays for it once more",
        told(record.answered_at),
        told(record.expires_at)
    );
    Break(cx.fail_for_good_of(step, NOT_SHOWN, &message, RENEWAL, &target(remote)))
}

/// Whether a licence that was bought, as an answer said, has yet to come into the shared list: until then, or until its time is over,
/// nothing is read for it. `id`: where the answer named it; one that it did not name may show with a remote id that was cut.
pub(super) fn is_awaited(cx: &Cx<'_>, product: &str, id: Option<&LicenseId>, remote: &str) -> bool {
    let named = |r: &&LicenseStatus| r.state.is_none() && r.answered_at.is_some() && !is_overdue(r, cx.now);
    let Some((server, list)) = fresh_enough(cx).and_then(|server| Some((server, server.list.as_deref()?))) else { return false };
    let shown = |row: &LicenseRow| Some(&row.id) == id || remote_of(row) == remote;
    let there = list.rows.values().filter(|row| row.state != LicenseState::Deleted);
    record(cx, product).is_some_and(|r| named(&r))
        && !list.rows.values().any(shown)
        && (id.is_some() || cut_row(cx, server, there, remote).is_none())
}

/// A licence was bought, as an answer said, and neither list nor form shows it: it is waited for, also by an order that does not want it
/// any more, and in the end a department finds out. `id`: where the answer named it.
pub(super) fn wait_for_license(
    cx: &mut Cx<'_>,
    step: Step,
    server: &LicenseServer,
    product: &str,
    id: Option<&LicenseId>,
    remote: &str,
) -> Halt {
    let (made, short) = match id {
        Some(id) => (format!("licence {id} (`{remote}`)"), format!("licence {id}")),
        None => (format!("a licence (`{remote}`), without its id"), format!("licence {remote}")),
    };
    let now = Time::seconds(cx.now);
    let record = entry(cx, product, server.key.to_string());
    // A record of an older version does not tell when, and older definitions drop it: that it is absent is no leave to buy another one.
    let at = *record.answered_at.get_or_insert(now);
    let until = believed_until(record).unwrap_or(at.0);
    if cx.now < until {
        cx.enter(step, State::Waiting, "a licence that was ordered is awaited");
        let message = format!("the licence server answered at {at} that it made {made}, and does not show it yet");
        let name = format!("{short} from {}", server.key);
        let (reason, next) = (Reason::WaitingForPanel, Some(after(cx.now, cx.handler.poll)));
        return cx.wait(step, Wait { kind: WaitKind::Panel, name: &name, reason, message, until: next, deadline: Some(until) });
    }
    let wanted = !cx.order.deleting && cx.order.licenses.iter().any(|l| l.product == product);
    let next = if wanted { "only Retry orders another one" } else { "stop it there if it comes; Retry goes on without it" };
    let message = format!(
        "the licence server answered at {at} that it made {made}, and has not shown it since: look there whether it was made and paid for; {next}"
    );
    cx.fail_for_good_of(step, NOT_SHOWN, &message, ORDER, &target(remote))
}

/// A department was asked about what was answered and does not show, and wants it anew: now it may be ordered, or paid for, once more.
pub(super) fn may_be_repeated(cx: &mut Cx<'_>) {
    let Some(asked) = cx.status.attempts_for.clone() else { return };
    let (now, marker) = (cx.now, cx.order.marker.short());
    let mut again = false;
    for record in cx.status.licenses.iter_mut().filter(|record| is_overdue(record, now)) {
        let call = if record.answered_end.is_some() { RENEWAL } else { ORDER };
        if asked.call == call && asked.target == target(&remote_id(&marker, &record.product)) {
            if call == ORDER {
                // Nothing else makes an order forget a licence that an answer named.
                record.id = None;
                again = true;
            } else {
                record.renewed_at = None;
            }
            (record.answered_at, record.answered_end) = (None, None);
        }
    }
    if again {
        // What is remembered of the answer would keep it from being bought.
        cx.status.in_flight = cx.status.in_flight.take().filter(|f| f.call != ORDER || f.target != asked.target);
    }
}

/// The licence server is down, and did not show whether a licence stopped, or started again, that shall not any more: the record says what
/// was asked for, so that it is looked at when the server is back. The client's service does not wait for that.
pub(super) fn note_unseen(cx: &mut Cx<'_>) {
    let had_its_time = |f: &&InFlight| !cx.intent_is_own(f) && cx.now >= after(f.since.0, cx.handler.settle * 2);
    let Some(f) = cx.status.in_flight.as_ref().filter(had_its_time).cloned() else { return };
    let state = match f.call.as_str() {
        "suspendLicense" => SUSPENDED,
        "resumeLicense" => ORDERED,
        _ => return,
    };
    if (state == SUSPENDED) == (wanted_state(cx) == SUSPENDED) {
        return;
    }
    let marker = cx.order.marker.short();
    if let Some(record) = cx.status.licenses.iter_mut().find(|r| target(&remote_id(&marker, &r.product)) == f.target) {
        record.state = Some(state.into());
        cx.status.in_flight = None;
    }
}
