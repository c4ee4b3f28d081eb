//! Licences that are not needed any more: stopped, or freed for reuse, and read back before anything is done to the server.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::handler::LicenseDeletion;
use crate::api::order::LicenseStatus;
use crate::panel::license::{FREE_NAME, LicenseId, LicenseRow, LicenseState};

use super::call::Call;
use super::context::{Cx, Flow};
use super::license_answers::{ORDER, RENEWAL, is_told_by_intent, wait_for_license};
use super::license_list::{all_read, cut_row, form, fresh, hidden, is_listed, remote_of, untold};
use super::license_server::LicenseServer;
use super::licenses::{SUSPENDED, awaits, change, entry, remote_id, seen, usable};
use super::selection::may_have_been_restored;
use super::step::{State, Step};

/// Closing: every licence of the order is stopped, or freed, and read back, before anything is done to the server.
pub fn revoke(cx: &mut Cx<'_>) -> Flow {
    let step = Step::RevokeLicenses;
    if cx.state(step).over() {
        return Continue(());
    }
    if !cx.order.deleting {
        // The server goes back while the order lives: its licences stay with it, and are bound to the next server's address.
        cx.finish(step, State::Skipped, "kept for the next server");
        return Continue(());
    }
    if !may_have_any(cx) {
        cx.finish(step, State::Skipped, "none ordered");
        return Continue(());
    }
    let server = usable(cx, step)?;
    opening_settled(cx, step)?;
    let mut records = cx.status.licenses.clone();
    // First what was bought and is not named: its intent may be all that tells of it, and the stop of another one takes that place.
    records.sort_by_key(|record| record.id.is_some() || record.answered_at.is_none());
    for record in records {
        take_back(cx, step, &server, &record)?;
        entry(cx, &record.product, server.key.to_string()).state = Some(SUSPENDED.into());
    }
    // A restored order may not know what it had: the list does.
    let prefix = remote_id(&cx.order.marker.short(), "");
    let rows = fresh(cx, step)?;
    for row in rows.iter().filter(|row| remote_of(row).starts_with(&prefix)) {
        stop(cx, step, &server, row)?;
    }
    if may_have_been_restored(cx.order) {
        all_read(cx, step, &rows)?;
    }
    let count = cx.status.licenses.len();
    let done = match server.policy.on_deletion {
        LicenseDeletion::Suspend => "suspended",
        LicenseDeletion::Release => "released for reuse",
    };
    cx.finish(step, State::Done, &format!("{count} {done}"));
    Continue(())
}

/// Whether there may be licences of the order; one that was restored may not know what it had.
pub(super) fn may_have_any(cx: &Cx<'_>) -> bool {
    let at_a_server = cx.facts.licenses.server.is_some() || cx.handler.license_server.is_some();
    !cx.status.licenses.is_empty() || (may_have_been_restored(cx.order) && at_a_server)
}

/// An order of a licence whose answer is missing gets its time before the list is believed.
fn opening_settled(cx: &mut Cx<'_>, step: Step) -> Flow {
    let opening = cx.status.in_flight.as_ref().is_some_and(|f| f.step == Step::IssueLicenses.as_str());
    if opening {
        cx.settled(step)?;
        if !is_told_by_intent(cx) {
            cx.status.in_flight = None;
        }
    }
    Continue(())
}

/// One licence that is not needed any more; `Continue` once the list shows that it is stopped or freed, or its form that it
/// is gone.
pub(super) fn take_back(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, record: &LicenseStatus) -> Flow {
    let remote = remote_id(&cx.order.marker.short(), &record.product);
    if [ORDER, "resumeLicense"].iter().any(|call| awaits(cx, &remote, call)) {
        // Whether it was bought, or started again, is not known yet.
        cx.settled(step)?;
    }
    // Of a licence that our own order made the server may have kept a part of the remote id, or nothing at all.
    let part = |left: &str, name: &str| remote.starts_with(left) && (!left.is_empty() || (record.state.is_none() && name != FREE_NAME));
    let ours = |row: &&LicenseRow| {
        let left = remote_of(row);
        left == remote || (Some(&row.id.0) == record.id.as_ref() && part(left, &row.name))
    };
    let rows = fresh(cx, step)?;
    for row in rows.iter().filter(ours) {
        if record.id.is_none() {
            // One that is freed does not carry our remote id any more.
            entry(cx, &record.product, server.key.to_string()).id = Some(row.id.0.clone());
        }
        stop(cx, step, server, row)?;
    }
    if let Some(id) = record.id.as_ref().filter(|id| !is_listed(cx, id)) {
        // A filter that is stored at the licence server hides rows without a word (ispsystem-api.md 1.3): it may go on all the same.
        let id = LicenseId(id.clone());
        if let Some(form) = form(cx, step, &id)? {
            match form.remote_id.as_deref() {
                Some(left) if part(left, &form.name) => return Break(hidden(cx, step, &id, &remote)),
                // It was ours, and nothing says that it is somebody else's by now.
                None if form.name != FREE_NAME => return Break(untold(cx, step, &id, &remote)),
                Some(_) | None => {}
            }
        } else if record.state.is_none() && !rows.iter().any(|row| remote_of(row) == remote) {
            // It was ordered, as the answer said, and may still come: nobody would know of it then.
            return Break(wait_for_license(cx, step, server, &record.product, Some(&id), &remote));
        }
    } else if record.id.is_none()
        && record.answered_at.is_some()
        && record.state.is_none()
        && !rows.iter().any(|row| remote_of(row) == remote)
        && !is_shown_cut(cx, server, &rows, &remote)
    {
        // The same, where the answer did not name it.
        return Break(wait_for_license(cx, step, server, &record.product, None, &remote));
    }
    let unread = |row: &LicenseRow| Some(&row.id.0) == record.id.as_ref() && row.remote_id.is_none() && !ours(&row);
    if record.id.is_none() || rows.iter().any(unread) {
        all_read(cx, step, &rows)?;
    }
    for call in [ORDER, RENEWAL, "resumeLicense", "suspendLicense", "freeLicense"] {
        seen(cx, &remote, call);
    }
    Continue(())
}

/// Whether a licence that no answer named shows with a remote id that was cut: an order that goes stops whatever carries its id.
fn is_shown_cut(cx: &Cx<'_>, server: &LicenseServer, rows: &[LicenseRow], remote: &str) -> bool {
    let prefix = remote_id(&cx.order.marker.short(), "");
    let known = |row: &LicenseRow| cx.status.licenses.iter().any(|record| record.id.as_ref() == Some(&row.id.0));
    let own = rows.iter().filter(|row| remote_of(row).starts_with(&prefix) && !known(row));
    cx.order.deleting && cut_row(cx, server, own, remote).is_some()
}

/// Suspends, and frees where the handler says so. The row is of this very decision, and it or its form shows whose licence it is.
fn stop(cx: &mut Cx<'_>, step: Step, server: &LicenseServer, row: &LicenseRow) -> Flow {
    let (license, remote_id) = (row.id.clone(), remote_of(row).to_owned());
    if row.state != LicenseState::Suspended {
        // What is remembered of a form may have changed since, and this is somebody else's by now. Whoever frees it compares, too.
        if row.by_form {
            match form(cx, step, &license)?.map(|form| form.remote_id) {
                Some(Some(shown)) if shown == remote_id => {}
                Some(None) => return Break(untold(cx, step, &license, &remote_id)),
                Some(Some(_)) | None => return Continue(()),
            }
        }
        return Break(change(cx, step, server, Call::SuspendLicense { license, remote_id }));
    }
    seen(cx, &remote_id, "suspendLicense");
    match server.policy.on_deletion {
        LicenseDeletion::Suspend => Continue(()),
        LicenseDeletion::Release => Break(change(cx, step, server, Call::FreeLicense { license, remote_id })),
    }
}
