//! Licences: found before they are ordered, bound to the server's main address, keys into a Secret. For their renewal see
//! `license_renewal`, for their end `license_revocation`.
//!
//! A licence of an order carries the remote id `k8s:<order id>/<product>`. Ordering and renewing cost money: an answer that is
//! missing, or a success that does not show, is waited for and looked for, and never answered by asking again at once.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::{InFlight, License, LicenseStatus};
use crate::api::task::TaskType;
use crate::panel::error::ErrorClass;
use crate::panel::license::{LicenseId, LicenseState};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Recheck, Wait, WaitKind, after};
use super::facts::{HandlerState, Prepare};
use super::inflight::Shows;
use super::license_answers::{ORDER, is_awaited, is_end_overdue, note_unseen, wait_for_license};
use super::license_list::{bound_to, find_or_order, form, name_of, not_there, other_remote_id, own_row, remote_of, told_by_list};
use super::license_renewal::{confirm, fresh_enough, is_due, is_renewal, note_list, renewal, row, unclear_ends};
use super::license_revocation::take_back;
use super::license_server::LicenseServer;
use super::reason::Reason;
use super::step::{State, Step};

/// `licenses[].state`: ordered, the key is awaited.
pub const ORDERED: &str = "Ordered";
/// `licenses[].state`: its key is in the Secret.
pub const ISSUED: &str = "Issued";
/// `licenses[].state`: stopped together with the service.
pub const SUSPENDED: &str = "Suspended";

/// The remote id of an order's licence.
#[must_use]
pub fn remote_id(marker: &str, product: &str) -> String {
    format!("{marker}/{product}")
}

/// Every licence that is asked for, and none that is not any more; `Continue` once all have their keys.
pub fn issue(cx: &mut Cx<'_>) -> Flow {
    let step = Step::IssueLicenses;
    if cx.order.licenses.is_empty() && cx.status.licenses.is_empty() {
        cx.finish(step, State::Skipped, "none ordered");
        return Continue(());
    }
    note_list(cx);
    if cx.state(step).over() {
        let Some(why) = due(cx) else {
            forget_rested(cx, step);
            return Continue(());
        };
        cx.enter(step, State::Pending, why);
    }
    let ready = cx.facts.licenses.server.as_ref().is_some_and(|s| s.state == HandlerState::Ready);
    if !ready {
        note_unseen(cx);
    }
    // A renewal has had its time: whether it came about the server's list tells when it is back.
    let renewal = |f: &InFlight| is_renewal(f) && cx.now >= after(f.since.0, cx.handler.settle * 2);
    if !ready && cx.status.in_flight.as_ref().is_none_or(renewal) && as_asked(cx) {
        // What is there stays there while the licence server is down; renewals begin early enough.
        still_told(cx, step)?;
        rest(cx, step);
        return Continue(());
    }
    let server = usable(cx, step)?;
    known_products(cx, step, &server)?;
    let address = cx.status.server.as_ref().and_then(|s| s.main_address.as_ref()).and_then(|a| a.parse::<IpAddr>().ok());
    let Some(address) = address else { return Break(cx.wait_for_list(step)) };
    for record in cx.status.licenses.clone() {
        if !cx.order.licenses.iter().any(|l| l.product == record.product) {
            take_back(cx, step, &server, &record)?;
            cx.status.licenses.retain(|l| l.product != record.product);
        }
    }
    let mut keyless = Vec::new();
    // One that is gone stops what comes after it, and the others may have to be renewed.
    let (listed, gone) = cx.order.licenses.clone().into_iter().partition::<Vec<_>, _>(|l| {
        let known = record(cx, &l.product).filter(|r| r.id.is_some());
        known.is_none_or(|r| fresh_enough(cx).is_none_or(|server| row(server, r).is_some()))
    });
    let mut all: Vec<License> = listed.into_iter().chain(gone).collect();
    if cx.is_being_verified() {
        // What a department said that it did is looked for before anything else fails.
        let (said, marker) = (cx.status.attempts_for.as_ref().map(|a| a.target.clone()), cx.order.marker.short());
        all.sort_by_key(|l| said.as_deref() != Some(target(&remote_id(&marker, &l.product)).as_str()));
    }
    for license in all {
        let keyed = one(cx, step, &server, &license, address)?;
        confirm(cx, step, &license.product);
        if !keyed {
            keyless.push(license.product);
        }
    }
    if !keyless.is_empty() {
        return Break(wait_for_keys(cx, step, &server, &keyless));
    }
    store_keys(cx, step)?;
    match cx.order.licenses.len() {
        0 => cx.finish(step, State::Skipped, "none ordered"),
        count => {
            let secret = cx.status.license_secret.clone().unwrap_or_default();
            let unclear = unclear_ends(cx);
            cx.finish(step, State::Done, &format!("{count} in Secret {secret}{unclear}"));
        }
    }
    Continue(())
}

/// What was told of a licence stays told while its server cannot be asked: that it is down is no sign of the licence.
fn still_told(cx: &mut Cx<'_>, step: Step) -> Flow {
    let about = [Reason::LicenseGone, Reason::NotOurLicense, Reason::MarkerTruncated, Reason::PanelError];
    let error = cx.status.last_error.as_ref().filter(|e| e.step == step.as_str() && !e.retryable);
    let told = error.and_then(|e| Some((about.into_iter().find(|reason| reason.as_str() == e.code)?, e.message.clone())));
    match told.filter(|_| cx.state(step) == State::Failed) {
        Some((reason, message)) => Break(cx.stall(step, reason, &message, Recheck::Later)),
        None => Continue(()),
    }
}

/// The step is over for as long as the licence server is down. What failed before is counted on when it is back: where it comes and goes,
/// nobody would ever be asked.
fn rest(cx: &mut Cx<'_>, step: Step) {
    let attempts = cx.status.attempts;
    let failed = cx.status.attempts_for.clone().filter(|a| attempts > 0 && a.step == step.as_str() && a.done_at.is_none());
    cx.finish(step, State::Done, "");
    if failed.is_some() {
        (cx.status.attempts, cx.status.attempts_for) = (attempts, failed);
    }
}

/// The licence server is back, and nothing of what failed before is due any more.
fn forget_rested(cx: &mut Cx<'_>, step: Step) {
    let counted = cx.status.attempts_for.as_ref().is_some_and(|a| a.step == step.as_str() && a.done_at.is_none());
    if counted && fresh_enough(cx).is_some() && !cx.is_open(TaskType::FailedOperation) {
        cx.forget_attempts_of(step);
    }
}

/// Before a server is taken: licences that this handler can order nowhere, or that nobody sells, will never make an order Ready.
pub(super) fn obtainable(cx: &mut Cx<'_>) -> Flow {
    if cx.order.licenses.is_empty() {
        return Continue(());
    }
    match cx.facts.licenses.server.clone() {
        Some(server) if server.state == HandlerState::Ready => known_products(cx, Step::IssueLicenses, &server),
        // One that is not there, or not ready, may be by the time that the server is prepared.
        None if cx.handler.license_server.is_none() => usable(cx, Step::IssueLicenses).map_continue(|_| ()),
        Some(_) | None => Continue(()),
    }
}

/// Whether the licences are as the spec asks, renewals aside: they wait for nobody.
#[must_use]
pub fn as_asked(cx: &Cx<'_>) -> bool {
    unlike_spec(cx).is_none()
}

/// Why licences that were all issued are looked at again.
fn due(cx: &Cx<'_>) -> Option<&'static str> {
    unlike_spec(cx).or_else(|| {
        let server = fresh_enough(cx)?;
        let have = &cx.status.licenses;
        if have.iter().any(|h| row(server, h).is_none()) {
            return Some("a licence is not listed any more");
        }
        if super::decide::asked(cx.order, &cx.status) && !have.is_empty() {
            return Some("looked at again, as asked");
        }
        if have.iter().any(|record| is_end_overdue(record, cx.now)) {
            return Some("a renewal that was answered does not show");
        }
        have.iter().any(|record| is_due(cx, server, record)).then_some("a licence ends soon")
    })
}

/// What differs from the spec on an order whose licences were all issued.
fn unlike_spec(cx: &Cx<'_>) -> Option<&'static str> {
    let (wanted, have) = (&cx.order.licenses, &cx.status.licenses);
    if wanted.len() != have.len() || wanted.iter().any(|w| !have.iter().any(|h| h.product == w.product && h.id.is_some())) {
        return Some("spec.licenses changed");
    }
    let main = cx.status.server.as_ref().and_then(|s| s.main_address.as_deref());
    if have.iter().any(|h| h.address.as_deref() != main) {
        return Some("the main address changed");
    }
    have.iter().any(|h| h.state.as_deref() != Some(wanted_state(cx))).then_some("spec.suspended changed")
}

/// Licences stop with the service, once the client has it.
pub(super) fn wanted_state(cx: &Cx<'_>) -> &'static str {
    let handed_over = cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some());
    if cx.order.suspended && handed_over { SUSPENDED } else { ISSUED }
}

/// How the targets of licence calls begin in `inFlight.target`.
pub(super) const TARGET: &str = "license/";

/// The target of a licence call.
#[must_use]
pub fn target(remote_id: &str) -> String {
    format!("{TARGET}{remote_id}")
}

/// The licence server, ready for changes; whoever has licences waits for it.
pub(super) fn usable(cx: &mut Cx<'_>, step: Step) -> Flow<LicenseServer> {
    let Some(server) = cx.facts.licenses.server.clone() else {
        let known =
            cx.status.licenses.iter().find_map(|l| l.handler.clone()).or(cx.handler.license_server.as_ref().map(ToString::to_string));
        let Some(name) = known else {
            let message = "the handler has no licenseServerRef; set it, or remove spec.licenses";
            return Break(cx.stall(step, Reason::LicenseServerNotReady, message, Recheck::Later));
        };
        let mut message = format!("licence server {name} does not exist, is none, or may not be used from the handler's namespace");
        if cx.order.deleting && cx.status.licenses.is_empty() {
            message += "; the order was restored, and may have licences there: if it has none, take licenseServerRef out of the handler";
        }
        return Break(wait_for_server(cx, step, &name, message));
    };
    match &server.state {
        HandlerState::Ready => Continue(server),
        HandlerState::NotReady(why) => {
            let message = format!("licence server {}: {why}", server.key);
            Break(wait_for_server(cx, step, &server.key.to_string(), message))
        }
        HandlerState::Suspended => {
            let message = format!("licence server {} is suspended: nothing is changed there", server.key);
            Break(wait_for_server(cx, step, &server.key.to_string(), message))
        }
    }
}

fn wait_for_server(cx: &mut Cx<'_>, step: Step, name: &str, message: String) -> Halt {
    let until = Some(after(cx.now, cx.handler.poll));
    cx.wait(step, Wait { kind: WaitKind::Handler, name, reason: Reason::LicenseServerNotReady, message, until, deadline: None })
}

fn known_products(cx: &mut Cx<'_>, step: Step, server: &LicenseServer) -> Flow {
    let (order, marker) = (cx.order, cx.order.marker.short());
    let have = |product: &str| cx.status.licenses.iter().any(|l| l.product == product && l.id.is_some());
    // Bought before the order was restored, or under another status: it is found, and not bought.
    let listed = |product: &str| {
        let remote = remote_id(&marker, product);
        let mut rows = server.list.iter().flat_map(|list| list.rows.values());
        rows.any(|row| row.state != LicenseState::Deleted && remote_of(row) == remote)
    };
    let sold = |product: &str| server.policy.products.contains_key(product);
    let unknown = order.licenses.iter().find(|l| !sold(&l.product) && !have(&l.product) && !listed(&l.product));
    unknown.map_or(Continue(()), |license| Break(unknown_product(cx, step, server, &license.product)))
}

/// A product that the licence server does not sell.
pub(super) fn unknown_product(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, product: &str) -> Halt {
    let known: Vec<&str> = server.policy.products.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("licence server {} does not sell {product}; it has {known}", server.key);
    cx.stall(step, Reason::UnknownProduct, &message, Recheck::Later)
}

/// One licence that is asked for; whether its key is there.
fn one(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, license: &License, address: IpAddr) -> Flow<bool> {
    let product = license.product.as_str();
    let remote = remote_id(&cx.order.marker.short(), product);
    let known = record(cx, product).and_then(|r| r.id.clone()).map(LicenseId);
    if is_awaited(cx, product, known.as_ref(), &remote) {
        return Break(wait_for_license(cx, step, server, product, known.as_ref(), &remote));
    }
    let id = match known {
        Some(id) => id,
        None => find_or_order(cx, step, server, license, address, &remote)?,
    };
    let Some(form) = form(cx, step, &id)? else {
        return Break(not_there(cx, step, server, product, &remote, &id));
    };
    match form.remote_id.as_deref() {
        Some(shown) if shown == remote => {}
        Some(shown) => return Break(other_remote_id(cx, step, &id, shown, &remote)),
        None => told_by_list(cx, step, &id, &remote)?,
    }
    if record(cx, product).is_some_and(|r| is_unlisted(cx, r)) {
        own_row(cx, step, product, &id, &remote)?;
    }
    seen(cx, &remote, ORDER);
    let handler = server.key.to_string();
    let found = entry(cx, product, handler.clone());
    found.id = Some(id.0.clone());
    found.answered_at = found.answered_at.filter(|_| found.answered_end.is_some());
    found.state.get_or_insert_with(|| ORDERED.into());
    if bound_to(cx, step, product, &id, &form)? != Some(address) {
        let name = name_of(cx, step, &id, &form)?;
        let call = Call::EditLicense { license: id, remote_id: remote, address, name };
        return Break(change(cx, step, server, call));
    }
    entry(cx, product, handler).address = Some(address.to_string());
    seen(cx, &remote, "editLicense");
    suspension(cx, step, server, product, &id, &remote)?;
    renewal(cx, step, server, license, &id, &remote, &form)?;
    Continue(form.key.is_some())
}

/// Whether a licence that had its key is not in the list any more: its form alone does not tell that it runs.
fn is_unlisted(cx: &Cx<'_>, record: &LicenseStatus) -> bool {
    let had_key = matches!(record.state.as_deref(), Some(ISSUED | SUSPENDED));
    had_key && record.id.is_some() && fresh_enough(cx).is_some_and(|server| row(server, record).is_none())
}

pub(super) fn record<'a>(cx: &'a Cx<'_>, product: &str) -> Option<&'a LicenseStatus> {
    cx.status.licenses.iter().find(|l| l.product == product)
}

/// The record of a licence; it is there before anything is ordered, so that closing knows of it.
pub(super) fn entry<'a>(cx: &'a mut Cx<'_>, product: &str, handler: String) -> &'a mut LicenseStatus {
    if let Some(at) = cx.status.licenses.iter().position(|l| l.product == product) {
        return &mut cx.status.licenses[at];
    }
    cx.status.licenses.push(LicenseStatus { product: product.to_owned(), handler: Some(handler), ..LicenseStatus::default() });
    let last = cx.status.licenses.len() - 1;
    &mut cx.status.licenses[last]
}

/// Whether the effect of a call on a licence is waited for.
pub(super) fn awaits(cx: &Cx<'_>, remote: &str, call: &str) -> bool {
    cx.status.in_flight.as_ref().is_some_and(|f| f.target == target(remote) && f.call == call)
}

/// The effect of a call on a licence was seen: its intent has served.
pub(super) fn seen(cx: &mut Cx<'_>, remote: &str, call: &str) {
    if awaits(cx, remote, call) {
        cx.status.in_flight = None;
    }
}

/// Asks for a change at the licence server. What concerns the whole server is waited for, and blamed on no order.
pub(super) fn change(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, call: Call) -> Halt {
    if let Some(error) = cx.facts.refusal(|c| *c == call).cloned()
        && matches!(error.class(), ErrorClass::Down | ErrorClass::Credentials)
    {
        return wait_for_server(cx, step, &server.key.to_string(), error.to_string());
    }
    if cx.facts.applied.contains(&call) {
        let message = format!("the licence server said that {} was done, but it does not show", call.name());
        return cx.not_shown_yet(step, &message);
    }
    cx.call(step, call, Shows::AtOnce)
}

/// Stops and starts with the service. What was asked for before the spec changed its mind may still take effect: it gets its time.
fn suspension(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, product: &str, id: &LicenseId, remote: &str) -> Flow {
    let wanted = wanted_state(cx);
    let away = if wanted == SUSPENDED { "resumeLicense" } else { "suspendLicense" };
    let state = record(cx, product).and_then(|r| r.state.clone());
    if !awaits(cx, remote, away) && (state.as_deref() == Some(SUSPENDED)) == (wanted == SUSPENDED) {
        return Continue(());
    }
    let stopped = own_row(cx, step, product, id, remote)?.state == LicenseState::Suspended;
    seen(cx, remote, if stopped { "suspendLicense" } else { "resumeLicense" });
    if stopped != (state.as_deref() == Some(SUSPENDED)) {
        entry(cx, product, server.key.to_string()).state = Some(if stopped { SUSPENDED } else { ORDERED }.into());
    }
    if stopped != (wanted == SUSPENDED) {
        let (license, remote_id) = (id.clone(), remote.to_owned());
        let call = if stopped { Call::ResumeLicense { license, remote_id } } else { Call::SuspendLicense { license, remote_id } };
        return Break(change(cx, step, server, call));
    }
    if awaits(cx, remote, away) {
        cx.settled(step)?;
        seen(cx, remote, away);
    }
    Continue(())
}

fn wait_for_keys(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, keyless: &[String]) -> Halt {
    // Nothing is in flight any more: what was ordered has been seen.
    let name = format!("licence keys from {}", server.key);
    let since = cx.status.waiting_on.as_ref().filter(|w| w.name == name).map_or(cx.now, |w| w.since.0);
    let deadline = after(since, cx.handler.install);
    if cx.now >= deadline {
        let message = format!("no key for {} after {}", keyless.join(", "), crate::api::Duration(cx.handler.install));
        cx.status.waiting_on = None;
        return cx.fail(step, "LicenseKeyMissing", &message);
    }
    cx.enter(step, State::Waiting, "keys are awaited");
    let message = format!("waiting for the keys of {}", keyless.join(", "));
    let until = Some(after(cx.now, cx.handler.poll));
    cx.wait(step, Wait { kind: WaitKind::Panel, name: &name, reason: Reason::WaitingForPanel, message, until, deadline: Some(deadline) })
}

/// All keys are known: they go into the order's Secret together.
fn store_keys(cx: &mut Cx<'_>, step: Step) -> Flow {
    super::allocation::prepared(cx, step, Prepare::LicenseKeys, Reason::SecretConflict)?;
    cx.status.license_secret.clone_from(&cx.facts.licenses.secret);
    for record in cx.status.licenses.iter_mut().filter(|r| r.state.as_deref() == Some(ORDERED)) {
        record.state = Some(ISSUED.into());
    }
    Continue(())
}
