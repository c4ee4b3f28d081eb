//! The main address of a server: which one it is, and how another one takes its place.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::{AddressRow, FREE_DOMAIN, Family, ServerId};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Recheck};
use super::facts::Row;
use super::inflight::Shows;
use super::network::{addresses, parsed};
use super::pool::{is_parking, not_done};
use super::reason::Reason;
use super::step::Step;

/// The row of the main address: the recorded one, or after a change by hand the one that the panel's list names.
pub(super) fn main_row(cx: &mut Cx<'_>, step: Step, server: &ServerId, rows: &[AddressRow]) -> Flow<AddressRow> {
    let recorded = cx.status.server.as_ref().and_then(|s| parsed(s.main_address.as_ref()));
    if let Some(row) = rows.iter().find(|r| Some(r.address) == recorded) {
        return Continue(row.clone());
    }
    let listed = match cx.row(server) {
        Row::There(row) => row.main_address,
        Row::Gone | Row::Unknown => return Break(cx.wait_for_list(step)),
    };
    match rows.iter().find(|r| Some(r.address) == listed) {
        Some(row) => {
            let row = row.clone();
            record_main(cx, row.address);
            Continue(row)
        }
        None => {
            let message = format!("server {server}: its addresses do not contain the main address that the panel's list shows");
            Break(cx.fail(step, "MainAddressUnknown", &message))
        }
    }
}

pub(super) fn record_main(cx: &mut Cx<'_>, address: IpAddr) {
    if let Some(server) = cx.status.server.as_mut() {
        server.main_address = Some(address.to_string());
    }
}

/// The new main address, when this pass asked for a replacement and the rows show it in the old one's place.
pub(super) fn replaced(cx: &Cx<'_>, rows: &[AddressRow]) -> Option<IpAddr> {
    cx.facts.applied.iter().rev().find_map(|call| match call {
        Call::ReplaceMain { current, address: Some(new), .. } => {
            let shows = |a: &IpAddr| rows.iter().any(|r| r.address == *a);
            (shows(new) && !shows(current)).then_some(*new)
        }
        _ => None,
    })
}

/// Why the main address was not replaced, though this pass asked for it. Ask only where the rows still show the old one.
pub(super) fn not_replaced(cx: &Cx<'_>) -> Option<String> {
    let said = "it said that it was done, but the server's addresses do not show it";
    not_done(cx, |c| matches!(c, Call::ReplaceMain { .. }), said)
}

/// The main address was not replaced: tried again, since a panel may have been busy, and where that does not help the handler's
/// dialect is to be changed, which a living order waits for. One that is being deleted waits for a department, as with any failure.
fn main_stays(cx: &mut Cx<'_>, step: Step, message: &str) -> Halt {
    let reason = Reason::MainAddressNotReplaced;
    let failed = cx.status.attempts_for.as_ref().filter(|a| a.step == step.as_str()).map_or(0, |_| cx.status.attempts);
    if cx.order.deleting || cx.facts.another_handler || failed + 1 < cx.handler.max_attempts {
        return cx.fail(step, reason.as_str(), message);
    }
    cx.stall(step, reason, message, Recheck::OnChange)
}

/// Replaces the main address, and takes it back when the panel does not do it.
pub(super) fn replace_main(
    cx: &mut Cx<'_>,
    step: Step,
    server: &ServerId,
    main: &AddressRow,
    mine: &[IpAddr],
    rows: &[AddressRow],
    group: String,
) -> Halt {
    let spare = mine.iter().copied().find(|a| Family::of(*a) == Family::of(main.address) && !rows.iter().any(|r| r.address == *a));
    if let Some(why) = not_replaced(cx) {
        if let Some(address) = spare {
            return cx.call(step, Call::GiveBack { address }, Shows::AtOnce);
        }
        let message = format!(
            "server {server}: the panel did not replace the main address {}: {why}; set spec.dialect.replaceMainAddress of the handler",
            main.address
        );
        return main_stays(cx, step, &message);
    }
    let Some(address) = spare else {
        // All of ours are on the server as additional ones: one of them is taken off first, so that it can become the main one.
        let taken =
            mine.iter().find(|a| Family::of(**a) == Family::of(main.address)).and_then(|a| rows.iter().find(|r| r.address == *a)).cloned();
        return match taken {
            Some(row) => cx.call(step, Call::RemoveAddress { server: server.clone(), row: row.row, address: row.address }, Shows::AtOnce),
            None => cx.fail(step, "NoAddress", "no address of the main address's family is ours"),
        };
    };
    // The list that the claim was found by may not have shown the server, or the address that it had before the one that is replaced now.
    let parked = cx.facts.pool.iter().flatten().any(|a| a.address == main.address && is_parking(cx, a));
    if step == Step::ChangeAddress
        && let Some(status) = cx.status.server.as_mut()
        && (parked || status.parked_address.is_none())
    {
        status.parked_address = Some(main.address.to_string());
    }
    let domain = if step == Step::ParkAddress { FREE_DOMAIN.to_owned() } else { cx.order.domain.clone() };
    let call =
        Call::ReplaceMain { server: server.clone(), row: main.row.clone(), current: main.address, address: Some(address), group, domain };
    cx.call(step, call, Shows::AtOnce)
}

/// The panel replaces the main address by one of a group of its own choice. Returns the new main address.
pub(super) fn main_by_panel(cx: &mut Cx<'_>, step: Step, server: &ServerId, group: &str) -> Flow<IpAddr> {
    let rows = addresses(cx, step, server)?;
    let old = cx.status.server.as_ref().and_then(|s| parsed(s.parked_address.as_ref()));
    let old = if cx.handler.disable_ip_change { None } else { old };
    let Some(old) = old else {
        return main_row(cx, step, server, &rows).map_continue(|row| row.address);
    };
    let Some(row) = rows.iter().find(|r| r.address == old) else {
        // It is gone from the rows: the list tells which one took its place.
        let main = main_row(cx, step, server, &rows)?;
        super::parking::forget(cx);
        return Continue(main.address);
    };
    let is_replace = |c: &Call| matches!(c, Call::ReplaceMain { .. });
    let refused = |e: &PanelError| e.class() == ErrorClass::Refused && !e.refuses_session();
    if cx.facts.applied(is_replace) || cx.facts.refusal(is_replace).is_some_and(refused) {
        let message = format!(
            "server {server}: the panel did not replace the main address {old}; set spec.dialect.replaceMainAddress of the handler"
        );
        return Break(main_stays(cx, step, &message));
    }
    let domain = cx.order.domain.clone();
    let call =
        Call::ReplaceMain { server: server.clone(), row: row.row.clone(), current: old, address: None, group: group.to_owned(), domain };
    Break(cx.call(step, call, Shows::AtOnce))
}
