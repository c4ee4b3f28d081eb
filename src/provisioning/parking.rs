//! Parking: the private address of a server that is free, on its way to the client and back.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::panel::model::{AddressRow, Family, PoolAddress, ServerId};

use super::call::Call;
use super::context::{Cx, Flow, SHORT, cut};
use super::inflight::Shows;
use super::main_address::{
    Replacement, leave_main, main_by_panel, main_row, not_replaced, note_replaced, record_main, replace_main, replaced,
};
use super::moved::{leave_where_they_are, listed_elsewhere};
use super::network::{addresses, ours, parsed};
use super::pool::{is_nobodys, is_parking, not_done, pool, take, unknown_group};
use super::step::{State, Step};

/// The parking address that the server had goes back to its pool. A refusal is reported and blocks nothing, but the address stays in the
/// status, which alone knows of it: it is tried again before the hand-over, with each change of addresses, and in closing.
pub(super) fn give_back_parking(cx: &mut Cx<'_>, step: Step, rows: &[AddressRow], used: &[PoolAddress]) -> Flow {
    let Some(parked) = left(cx, rows, used) else {
        if let Some(message) = stays_taken(cx, rows, used) {
            cx.step(step).message = cut(&message, SHORT);
        }
        return Continue(());
    };
    let call = Call::GiveBack { address: parked };
    let Some(why) = not_done(cx, |c| *c == call, "IPmanager said that it was, but still shows it") else {
        return Break(cx.call(step, call, Shows::AtOnce));
    };
    let message = cut(&format!("the parking address {parked} could not be given back: {why}"), SHORT);
    if step != Step::ChangeAddress {
        // The last chance: with the order goes what is known of the address.
        cx.try_a_few_times(step, "ParkingAddressKept", &message)?;
    }
    cx.step(step).message = message;
    Continue(())
}

/// The address that the server had, where it is still taken for nobody.
fn replaced_and_taken<'u>(cx: &Cx<'_>, rows: &[AddressRow], used: &'u [PoolAddress]) -> Option<&'u PoolAddress> {
    let parked = cx.status.server.as_ref().and_then(|s| parsed(s.parked_address.as_ref()))?;
    let on_server = rows.iter().any(|r| r.address == parked);
    used.iter().find(|a| a.address == parked).filter(|_| !on_server && !in_use_elsewhere(cx, parked, used))
}

/// The same, where it is one of those that go back to their pool.
fn left(cx: &Cx<'_>, rows: &[AddressRow], used: &[PoolAddress]) -> Option<IpAddr> {
    replaced_and_taken(cx, rows, used).filter(|a| is_parking(cx, a)).map(|a| a.address)
}

/// What is said of one that is not `left` and goes back to no pool, since it is shown in another group: nobody else would find it.
fn stays_taken(cx: &Cx<'_>, rows: &[AddressRow], used: &[PoolAddress]) -> Option<String> {
    let kept = replaced_and_taken(cx, rows, used).filter(|a| !cx.order.marker.is_in_note(&a.note))?;
    let why = match &cx.handler.parking_group {
        Some(parking) => format!("IPmanager shows it in group `{}`, not in {parking} (ipManagement.parkingIPType)", kept.group),
        None => "the handler has no ipManagement.parkingIPType".to_owned(),
    };
    Some(format!("address {} was replaced and stays taken: {why}", kept.address))
}

/// Whether the address that was replaced is still to be given back.
pub(super) fn is_left(cx: &Cx<'_>, rows: &[AddressRow], used: &[PoolAddress]) -> bool {
    left(cx, rows, used).is_some()
}

/// Before the hand-over: an address manager that was busy when the address was replaced may not be any more.
pub(super) fn give_back_left(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::ChangeAddress;
    let known = cx.status.server.as_ref().is_some_and(|s| s.parked_address.is_some());
    if !known || !cx.handler.operator_allocates() {
        return Continue(());
    }
    let rows = addresses(cx, step, server)?;
    let used = pool(cx, step)?;
    give_back_parking(cx, step, &rows, &used)?;
    if !is_left(cx, &rows, &used) {
        forget(cx);
    }
    Continue(())
}

/// The address that was replaced is nothing to look after any more.
pub(super) fn forget(cx: &mut Cx<'_>) {
    if let Some(server) = cx.status.server.as_mut() {
        server.parked_address = None;
    }
}

/// Given back before a crash, and taken by somebody else since. What another panel has got from the same address manager meanwhile, this
/// one's list does not show.
fn in_use_elsewhere(cx: &Cx<'_>, address: IpAddr, used: &[PoolAddress]) -> bool {
    let marked = |note: &str| super::marker::tokens(note).next().is_some() && !cx.order.marker.is_in_note(note);
    listed_elsewhere(cx, address) || used.iter().any(|a| a.address == address && marked(&a.note))
}

/// Closing: the parking address comes back, and nothing in the pool carries our note any more.
pub(super) fn park_address(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::ParkAddress;
    if cx.state(step).over() {
        return Continue(());
    }
    let parking = cx.handler.parking_group.clone().filter(|_| !cx.handler.disable_ip_change);
    match (parking, cx.handler.operator_allocates()) {
        (Some(group), true) => park_from_pool(cx, server, &group)?,
        (Some(group), false) => {
            // Before the first replacement the recorded main address is what has to go.
            if cx.state(step) == State::Pending
                && let Some(status) = cx.status.server.as_mut()
            {
                status.parked_address.clone_from(&status.main_address);
            }
            main_by_panel(cx, step, server, &group)?;
        }
        (None, true) => {}
        (None, false) => {
            cx.finish(step, State::Skipped, "the main address stays");
            return Continue(());
        }
    }
    if cx.handler.operator_allocates() {
        drop_notes(cx, server)?;
    }
    cx.finish(step, State::Done, "");
    Continue(())
}

fn park_from_pool(cx: &mut Cx<'_>, server: &ServerId, group: &str) -> Flow {
    let step = Step::ParkAddress;
    let rows = addresses(cx, step, server)?;
    let used = pool(cx, step)?;
    // One that IPmanager took for a free one may stand on another server.
    leave_where_they_are(cx, step, &rows, &used)?;
    if let Some(new) = replaced(cx, &rows) {
        record_main(cx, new);
    }
    let main = main_row(cx, step, server, &rows)?;
    let parked = used.iter().any(|a| a.address == main.address && a.is_of(group));
    let mine = ours_in_parking(cx, &used, group);
    // A person may have given the server a public address of another order that is gone by now: with our note it goes back like ours.
    let nobodys = |a: &&PoolAddress| a.address == main.address && is_nobodys(cx, a);
    if let Some(found) = used.iter().find(nobodys) {
        let note = cx.order.marker.with_short(&found.note);
        let call = Call::SetNote { address: found.address, note };
        let Some(why) = not_done(cx, |c| *c == call, "IPmanager said that it was, but does not show it") else {
            return Break(cx.call(step, call, Shows::AtOnce));
        };
        cx.step(step).message = cut(&format!("address {} could not be noted, and stays taken: {why}", found.address), SHORT);
    }
    if !parked {
        if let Some(why) = not_replaced(cx, step)? {
            return Break(leave_main(cx, step, &Replacement { server, main: &main, mine: &mine, rows: &rows }, &why));
        }
        // One of the other family cannot take its place; it goes back with those that are too many.
        if !mine.iter().any(|a| Family::of(*a) == Family::of(main.address)) {
            nothing_in_unknown_group(cx, step, group, &rows, &used)?;
            return Break(take(cx, step, Family::of(main.address), group, &mine));
        }
        return Break(replace_main(cx, step, &Replacement { server, main: &main, mine: &mine, rows: &rows }, group.to_owned()));
    }
    note_replaced(cx, step);
    // A parking address too many, taken by a call whose answer was lost.
    if let Some(address) = mine.into_iter().find(|a| *a != main.address) {
        return Break(cx.call(step, Call::GiveBack { address }, Shows::AtOnce));
    }
    Continue(())
}

/// What was taken for the server before, and is shown in another group than it was asked of: the next one would be, too, and stay taken.
fn nothing_in_unknown_group(cx: &mut Cx<'_>, step: Step, group: &str, rows: &[AddressRow], used: &[PoolAddress]) -> Flow {
    let astray = |a: &&PoolAddress| {
        let on_server = rows.iter().any(|r| r.address == a.address);
        cx.order.marker.is_in_note(&a.note) && !on_server && !a.is_of(&cx.handler.public_group) && !a.is_of(group)
    };
    match used.iter().find(astray) {
        Some(found) => Break(unknown_group(cx, step, group, found)),
        None => Continue(()),
    }
}

/// Public addresses of ours go back; what stays on the server as its main address loses our note.
fn drop_notes(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::ParkAddress;
    let rows = addresses(cx, step, server)?;
    let all = pool(cx, step)?;
    leave_where_they_are(cx, step, &rows, &all)?;
    for used in all {
        if !cx.order.marker.is_in_note(&used.note) {
            continue;
        }
        if rows.iter().any(|r| r.address == used.address) {
            let note = cx.order.marker.without_short(&used.note);
            return Break(cx.call(step, Call::SetNote { address: used.address, note }, Shows::AtOnce));
        }
        return Break(cx.call(step, Call::GiveBack { address: used.address }, Shows::AtOnce));
    }
    Continue(())
}

/// Parking addresses that carry our note, lowest first.
fn ours_in_parking(cx: &Cx<'_>, used: &[PoolAddress], parking: &str) -> Vec<IpAddr> {
    ours(cx, used.iter().filter(|a| a.is_of(parking)))
}
