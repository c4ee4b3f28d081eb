//! Licences: found before they are ordered, bound to the server's main address, keys into a Secret. For their renewal see
//! `license_renewal`, for their end `license_revocation`.
//!
//! A licence of an order carries the remote id `k8s:<order id>/<product>`. Ordering and renewing cost money: an answer that is
//! missing, or a success that does not show, is waited for and looked for, and never answered by asking again at once.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::{InFlight, License, LicenseStatus};
use crate::panel::error::ErrorClass;
use crate::panel::license::{LicenseForm, LicenseId, LicenseRow, LicenseState};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Recheck, Wait, WaitKind, after};
use super::facts::{HandlerState, Look, Prepare};
use super::inflight::Shows;
use super::license_answers::{ORDER, is_awaited, is_end_overdue, note_unseen, wait_for_license};
use super::license_renewal::{fresh_enough, is_due, is_renewal, note_list, renewal, row, unclear_ends};
use super::license_revocation::take_back;
use super::license_server::{LIST, LicenseServer};
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
        let Some(why) = due(cx) else { return Continue(()) };
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
        cx.finish(step, State::Done, "");
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
    for license in listed.into_iter().chain(gone) {
        if !one(cx, step, &server, &license, address)? {
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
    let have = |product: &str| cx.status.licenses.iter().any(|l| l.product == product && l.id.is_some());
    let unknown = cx.order.licenses.iter().find(|l| !server.policy.products.contains_key(&l.product) && !have(&l.product));
    let Some(unknown) = unknown else { return Continue(()) };
    let known: Vec<&str> = server.policy.products.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("licence server {} does not sell {}; it has {known}", server.key, unknown.product);
    Break(cx.stall(step, Reason::UnknownProduct, &message, Recheck::Later))
}

/// One licence that is asked for; whether its key is there.
fn one(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, license: &License, address: IpAddr) -> Flow<bool> {
    let remote = remote_id(&cx.order.marker.short(), &license.product);
    let id = match record(cx, &license.product).and_then(|r| r.id.clone()) {
        Some(id) => LicenseId(id),
        None => find_or_order(cx, step, server, license, address, &remote)?,
    };
    if is_awaited(cx, &license.product, &id, &remote) {
        return Break(wait_for_license(cx, step, server, &license.product, &id, &remote));
    }
    let Some(form) = form(cx, step, &id)? else {
        return Break(not_there(cx, step, server, &license.product, &remote, &id));
    };
    match form.remote_id.as_deref() {
        Some(shown) if shown == remote => {}
        Some(shown) => return Break(other_remote_id(cx, step, &id, shown, &remote)),
        None => told_by_list(cx, step, &id, &remote)?,
    }
    seen(cx, &remote, ORDER);
    let handler = server.key.to_string();
    let entry = entry(cx, &license.product, handler);
    entry.id = Some(id.0.clone());
    entry.answered_at = entry.answered_at.filter(|_| entry.answered_end.is_some());
    entry.state.get_or_insert_with(|| ORDERED.into());
    if form.address != Some(address) {
        let call = Call::EditLicense { license: id, remote_id: remote, address, name: form.name };
        return Break(change(cx, step, server, call));
    }
    entry.address = Some(address.to_string());
    seen(cx, &remote, "editLicense");
    suspension(cx, step, server, &license.product, &id, &remote)?;
    renewal(cx, step, server, license, &id, &remote, &form)?;
    Continue(form.key.is_some())
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

/// The form of a licence, read in this pass.
pub(super) fn form(cx: &mut Cx<'_>, step: Step, id: &LicenseId) -> Flow<Option<LicenseForm>> {
    let licenses = &cx.facts.licenses;
    match (licenses.forms.get(&id.0), licenses.unread.get(&id.0)) {
        (Some(form), _) => Continue(form.clone()),
        (None, Some(error)) => Break(cx.fail_with(step, error)),
        (None, None) => Break(cx.look(step, Look::License(id.clone()))),
    }
}

/// The list as it is now: what is ordered on its account has to be certain.
pub(super) fn fresh(cx: &mut Cx<'_>, step: Step) -> Flow<Vec<LicenseRow>> {
    let licenses = &cx.facts.licenses;
    match (&licenses.fresh, licenses.unread.get(LIST)) {
        (Some(rows), _) => Continue(rows.iter().filter(|row| row.state != LicenseState::Deleted).cloned().collect()),
        (None, Some(error)) => Break(cx.fail_with(step, error)),
        (None, None) => Break(cx.look(step, Look::Licenses)),
    }
}

pub(super) fn remote_of(row: &LicenseRow) -> &str {
    row.remote_id.as_deref().unwrap_or_default()
}

/// `Continue` where every licence tells whose it is: one that does not may be the one that is looked for.
pub(super) fn all_read(cx: &mut Cx<'_>, step: Step, rows: &[LicenseRow]) -> Flow {
    let unread: Vec<&str> = rows.iter().filter(|row| row.remote_id.is_none()).map(|row| row.id.0.as_str()).collect();
    if unread.is_empty() {
        return Continue(());
    }
    let message = format!(
        "the licence server shows no remote id of {}, nor can it be read from their forms: whether one is this order's is not known",
        some_of(&unread)
    );
    Break(not_known(cx, step, &message))
}

/// Whether the list itself shows that a licence is this order's, and not what a form showed once.
pub(super) fn tells(row: &LicenseRow, remote: &str) -> bool {
    !row.by_form && remote_of(row) == remote
}

/// Only key and date are confirmed in forms: where one shows no remote id, that of the list is believed.
fn told_by_list(cx: &mut Cx<'_>, step: Step, id: &LicenseId, remote: &str) -> Flow {
    let shared = fresh_enough(cx).and_then(|server| server.list.as_ref()?.rows.get(&id.0));
    if shared.is_some_and(|row| tells(row, remote)) {
        return Continue(());
    }
    let rows = fresh(cx, step)?;
    if rows.iter().any(|row| row.id == *id && tells(row, remote)) { Continue(()) } else { Break(untold(cx, step, id, remote)) }
}

/// A licence that was this order's as far as anybody knows, and does not tell whose it is.
pub(super) fn untold(cx: &mut Cx<'_>, step: Step, id: &LicenseId, remote: &str) -> Halt {
    let message = format!(
        "the form of licence {id} shows no remote id, nor does the list: whether it is this order's (`{remote}`) is not known; let the licence server show it, or delete the licence there"
    );
    not_known(cx, step, &message)
}

/// Whose a licence is, or what became of it, cannot be told: nothing is bought or stopped by guess. An order that goes asks a department,
/// which may give its licences up.
pub(super) fn not_known(cx: &mut Cx<'_>, step: Step, message: &str) -> Halt {
    if cx.order.deleting {
        return cx.fail(step, Reason::PanelError.as_str(), message);
    }
    cx.stall(step, Reason::PanelError, message, Recheck::Later)
}

/// The first few of many.
fn some_of(ids: &[&str]) -> String {
    let shown = ids.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    match ids.len() {
        0..=5 => format!("licences {shown}"),
        more => format!("licences {shown} and {} more", more - 5),
    }
}

/// Found by its remote id; ordered only when it is certain that there is none.
fn find_or_order(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, license: &License, address: IpAddr, remote: &str) -> Flow<LicenseId> {
    let rows = fresh(cx, step)?;
    let found: Vec<&LicenseRow> = rows.iter().filter(|row| remote_of(row) == remote).collect();
    match found.as_slice() {
        [row] => {
            if row.state == LicenseState::Suspended {
                // Stopped by us when it was not asked for any more, or by somebody: it is started again.
                entry(cx, &license.product, server.key.to_string()).state = Some(SUSPENDED.into());
            }
            return Continue(row.id.clone());
        }
        [] => {}
        several => {
            let ids: Vec<&str> = several.iter().map(|row| row.id.0.as_str()).collect();
            let message = format!("licences {} all carry remote id {remote}; clear it on all but one", ids.join(", "));
            return Break(cx.stall(step, Reason::SeveralLicensesFound, &message, Recheck::Later));
        }
    }
    let others = cx.order.licenses.iter().map(|l| &l.product).chain(cx.status.licenses.iter().map(|l| &l.product));
    // One that was given up keeps its remote id, stopped, and its product's name may begin like this one's.
    let others: Vec<String> =
        others.chain(server.policy.products.keys()).map(|product| remote_id(&cx.order.marker.short(), product)).collect();
    if let Some(row) = rows.iter().find(|row| cut_short(remote_of(row), remote) && !others.iter().any(|o| o == remote_of(row))) {
        return Break(truncated(cx, step, &row.id, remote_of(row), remote));
    }
    all_read(cx, step, &rows)?;
    let Some(product) = server.policy.products.get(&license.product) else { return Break(cx.wait_for_list(step)) };
    let call = Call::OrderLicense {
        remote_id: remote.to_owned(),
        pricelist: product.pricelist.clone(),
        addons: product.addons.clone(),
        project: server.policy.project.clone(),
        period: license.period,
        address,
        name: cx.order.domain.clone(),
    };
    entry(cx, &license.product, server.key.to_string());
    Break(change(cx, step, server, call))
}

/// What a panel that cuts remote ids makes of ours: the order id has to stand there whole, else it may be anybody's.
fn cut_short(found: &str, remote: &str) -> bool {
    found.len() > 12 && found.len() < remote.len() && remote.starts_with(found)
}

fn truncated(cx: &mut Cx<'_>, step: Step, id: &LicenseId, found: &str, remote: &str) -> Halt {
    let message = format!("licence {id} carries `{found}` instead of `{remote}`: the licence server cuts remote ids; no other is ordered");
    cx.stall(step, Reason::MarkerTruncated, &message, Recheck::Later)
}

fn other_remote_id(cx: &mut Cx<'_>, step: Step, id: &LicenseId, shown: &str, remote: &str) -> Halt {
    if cut_short(shown, remote) {
        return truncated(cx, step, id, shown, remote);
    }
    let message = format!("licence {id} carries remote id `{shown}`; put `{remote}` there, or remove the licence from spec.licenses");
    cx.stall(step, Reason::NotOurLicense, &message, Recheck::Later)
}

/// A licence that the server does not know.
fn not_there(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, product: &str, remote: &str, id: &LicenseId) -> Halt {
    let rows = match fresh(cx, step) {
        Continue(rows) => rows,
        Break(halt) => return halt,
    };
    let known = record(cx, product).cloned().unwrap_or_default();
    if let Some(row) = rows.iter().find(|row| remote_of(row) == remote && row.id != *id) {
        // Somebody moved our remote id to another licence: that one is ours now.
        let moved = row.id.0.clone();
        entry(cx, product, server.key.to_string()).id = Some(moved);
        return cx.wait_for_list(step);
    }
    if known.state.is_some() {
        let message = format!(
            "licence {id} ({product}) is not at the licence server any more; no other is bought by itself: remove it from spec.licenses, and add it again later"
        );
        return cx.stall(step, Reason::LicenseGone, &message, Recheck::Later);
    }
    if known.answered_at.is_none() && rows.iter().any(|row| remote_of(row) == remote) {
        // The list has found it: it came after its form was read.
        return cx.wait_for_list(step);
    }
    wait_for_license(cx, step, server, product, id, remote)
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
    let rows = fresh(cx, step)?;
    let stopped = rows.iter().any(|row| row.id == *id && row.state == LicenseState::Suspended);
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
