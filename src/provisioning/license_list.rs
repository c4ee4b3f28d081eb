//! Which licence is an order's, as the list of its licence server and the forms of licences show it: found before one is bought, and told
//! where it is gone, hidden, or somebody else's.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::License;
use crate::panel::license::{LicenseForm, LicenseId, LicenseRow, LicenseState};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Recheck, Wait, WaitKind, after};
use super::facts::Look;
use super::license_answers::wait_for_license;
use super::license_renewal::fresh_enough;
use super::license_server::{LIST, LicenseServer};
use super::licenses::{SUSPENDED, change, entry, record, remote_id, unknown_product};
use super::reason::Reason;
use super::step::Step;

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
        "the licence server shows no remote id of {}, nor can it be read from their forms: whether one is this order's is not known (a form that showed none is read again an hour later)",
        some_of(&unread)
    );
    Break(not_known(cx, step, &message))
}

/// Whether the list itself shows that a licence is this order's, and not what a form showed once.
pub(super) fn tells(row: &LicenseRow, remote: &str) -> bool {
    !row.by_form && remote_of(row) == remote
}

/// Only key and date are confirmed in forms: where one shows no remote id, that of the list is believed.
pub(super) fn told_by_list(cx: &mut Cx<'_>, step: Step, id: &LicenseId, remote: &str) -> Flow {
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

/// What is remembered of a form may have changed since, and nothing that the list shows tells of it: the form itself does.
fn still_shows(cx: &mut Cx<'_>, step: Step, row: &LicenseRow, remote: &str) -> Flow<bool> {
    if !row.by_form {
        return Continue(true);
    }
    match form(cx, step, &row.id)?.map(|form| form.remote_id) {
        Some(Some(shown)) => Continue(shown == remote),
        Some(None) => Break(untold(cx, step, &row.id, remote)),
        // Listed, and not to be read: no reason to buy another one.
        None => Continue(true),
    }
}

/// Found by its remote id; ordered only when it is certain that there is none.
pub(super) fn find_or_order(
    cx: &mut Cx<'_>,
    step: Step,
    server: &LicenseServer,
    license: &License,
    address: IpAddr,
    remote: &str,
) -> Flow<LicenseId> {
    let rows = fresh(cx, step)?;
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| remote_of(row) == remote) {
        if still_shows(cx, step, row, remote)? {
            found.push(row);
        }
    }
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
    if let Some(row) = cut_row(cx, server, &rows, remote) {
        return Break(truncated(cx, step, &row.id, remote_of(row), remote));
    }
    if record(cx, &license.product).is_some_and(|record| record.answered_at.is_some()) {
        // It was bought, as the answer said, which did not name it: its remote id will.
        return Break(wait_for_license(cx, step, server, &license.product, None, remote));
    }
    all_read(cx, step, &rows)?;
    let Some(product) = server.policy.products.get(&license.product) else {
        return Break(unknown_product(cx, step, server, &license.product));
    };
    let call = Call::OrderLicense {
        remote_id: remote.to_owned(),
        pricelist: product.pricelist.clone(),
        addons: product.addons.clone(),
        project: server.policy.project.clone(),
        period: license.period,
        address,
        name: cx.order.domain.clone(),
    };
    // What it is bound to then, where neither list nor form will tell.
    entry(cx, &license.product, server.key.to_string()).address = Some(address.to_string());
    Break(change(cx, step, server, call))
}

/// The one of these rows that may be the licence that is looked for, its remote id cut.
pub(super) fn cut_row<'r>(
    cx: &Cx<'_>,
    server: &LicenseServer,
    rows: impl IntoIterator<Item = &'r LicenseRow>,
    remote: &str,
) -> Option<&'r LicenseRow> {
    let others = cx.order.licenses.iter().map(|l| &l.product).chain(cx.status.licenses.iter().map(|l| &l.product));
    // One that was given up keeps its remote id, stopped, and its product's name may begin like this one's.
    let others: Vec<String> =
        others.chain(server.policy.products.keys()).map(|product| remote_id(&cx.order.marker.short(), product)).collect();
    rows.into_iter().find(|row| cut_short(remote_of(row), remote) && !others.iter().any(|o| o == remote_of(row)))
}

/// What a panel that cuts remote ids makes of ours: the order id has to stand there whole, else it may be anybody's.
fn cut_short(found: &str, remote: &str) -> bool {
    found.len() > 12 && found.len() < remote.len() && remote.starts_with(found)
}

fn truncated(cx: &mut Cx<'_>, step: Step, id: &LicenseId, found: &str, remote: &str) -> Halt {
    let message = format!("licence {id} carries `{found}` instead of `{remote}`: the licence server cuts remote ids; no other is ordered");
    cx.stall(step, Reason::MarkerTruncated, &message, Recheck::Later)
}

pub(super) fn other_remote_id(cx: &mut Cx<'_>, step: Step, id: &LicenseId, shown: &str, remote: &str) -> Halt {
    if cut_short(shown, remote) {
        return truncated(cx, step, id, shown, remote);
    }
    let message = format!("licence {id} carries remote id `{shown}`; put `{remote}` there, or remove the licence from spec.licenses");
    cx.stall(step, Reason::NotOurLicense, &message, Recheck::Later)
}

/// A licence that the server does not know.
pub(super) fn not_there(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, product: &str, remote: &str, id: &LicenseId) -> Halt {
    let rows = match fresh(cx, step) {
        Continue(rows) => rows,
        Break(halt) => return halt,
    };
    let known = record(cx, product).cloned().unwrap_or_default();
    if let Some(row) = rows.iter().find(|row| remote_of(row) == remote && row.id != *id) {
        // Somebody moved our remote id to another licence: that one is ours now.
        let moved = row.id.0.clone();
        entry(cx, product, server.key.to_string()).id = Some(moved);
        return wait_for_next(cx, step, server);
    }
    if known.state.is_some() {
        return gone(cx, step, product, id);
    }
    if known.answered_at.is_none() && rows.iter().any(|row| remote_of(row) == remote) {
        // The list has found it: it came after its form was read.
        return wait_for_next(cx, step, server);
    }
    wait_for_license(cx, step, server, product, Some(id), remote)
}

fn gone(cx: &mut Cx<'_>, step: Step, product: &str, id: &LicenseId) -> Halt {
    let message = format!(
        "licence {id} ({product}) is not at the licence server any more; no other is bought by itself: remove it from spec.licenses, and add it again later"
    );
    cx.stall(step, Reason::LicenseGone, &message, Recheck::Later)
}

/// Waits for the next list of the licence server.
fn wait_for_next(cx: &mut Cx<'_>, step: Step, server: &LicenseServer) -> Halt {
    let (name, until) = (server.key.to_string(), Some(after(cx.now, cx.handler.poll * 2)));
    let message = format!("{}: waiting for the next list of licence server {name}", step.as_str());
    cx.wait(step, Wait { kind: WaitKind::Panel, name: &name, reason: Reason::WaitingForPanel, message, until, deadline: None })
}

/// The row of a licence of ours in the list as it is now. A form alone does not tell that a licence runs, nor whether it was stopped.
pub(super) fn own_row(cx: &mut Cx<'_>, step: Step, product: &str, id: &LicenseId, remote: &str) -> Flow<LicenseRow> {
    match fresh(cx, step)?.into_iter().find(|row| row.id == *id) {
        Some(row) => Continue(row),
        None if is_listed(cx, &id.0) => Break(gone(cx, step, product, id)),
        None => Break(hidden(cx, step, id, remote)),
    }
}

/// What a list shows of a licence, be it the shared one or one that is read now.
fn listed(cx: &mut Cx<'_>, step: Step, id: &LicenseId) -> Flow<Option<LicenseRow>> {
    let shared = fresh_enough(cx).and_then(|server| server.list.as_ref()?.rows.get(&id.0)).cloned();
    match shared {
        Some(row) => Continue(Some(row)),
        None => Continue(fresh(cx, step)?.into_iter().find(|row| row.id == *id)),
    }
}

/// The address that a licence is bound to, as its form shows it, or the list: key and date alone are confirmed in forms (ispsystem-api.md
/// 5.6). Where neither does it is what was asked for last.
pub(super) fn bound_to(cx: &mut Cx<'_>, step: Step, product: &str, id: &LicenseId, form: &LicenseForm) -> Flow<Option<IpAddr>> {
    if form.address.is_some() {
        return Continue(form.address);
    }
    let shown = listed(cx, step, id)?.and_then(|row| row.address);
    let edited = cx.facts.applied.iter().rev().find_map(|call| written(call, id));
    let asked = || record(cx, product).and_then(|r| r.address.as_deref()).and_then(|text| text.parse::<IpAddr>().ok());
    Continue(shown.or(edited).or_else(asked))
}

/// The address that a call has bound a licence to.
fn written(call: &Call, id: &LicenseId) -> Option<IpAddr> {
    let Call::EditLicense { license, address, .. } = call else { return None };
    (license == id).then_some(*address)
}

/// The name that a licence keeps: an edit sends it, too, and an empty one would take it away.
pub(super) fn name_of(cx: &mut Cx<'_>, step: Step, id: &LicenseId, form: &LicenseForm) -> Flow<String> {
    if !form.name.is_empty() {
        return Continue(form.name.clone());
    }
    let name = listed(cx, step, id)?.map(|row| row.name).filter(|name| !name.is_empty());
    Continue(name.unwrap_or_else(|| cx.order.domain.clone()))
}

/// Whether the list of this decision shows a licence, be it as a deleted one.
pub(super) fn is_listed(cx: &Cx<'_>, id: &str) -> bool {
    cx.facts.licenses.fresh.iter().flatten().any(|row| row.id.0 == id)
}

/// A licence of ours is there, and its row is not: nobody would see whether it was stopped.
pub(super) fn hidden(cx: &mut Cx<'_>, step: Step, id: &LicenseId, remote: &str) -> Halt {
    let message = format!(
        "the list of the licence server does not show licence {id}, and its form says that it is ours (`{remote}`); take away the filter that hides it, or delete the licence there"
    );
    not_known(cx, step, &message)
}
