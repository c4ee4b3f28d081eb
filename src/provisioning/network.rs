//! Addresses: public ones instead of the parking address, and the way back.
//!
//! Everything is decided from what server and pool show now against what is wanted; addresses of ours are found again by
//! their note. A crash at any point is therefore continued, not compensated.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::{OrderStatus, ServerStatus, StepStatus};
use crate::panel::model::{AddressRow, Family, PoolAddress, ServerId};

use super::call::Call;
use super::context::{Cx, Flow, Halt};
use super::facts::{Look, Row};
use super::inflight::Shows;
use super::main_address::{
    Replacement, leave_main, main_by_panel, main_row, not_replaced, note_replaced, record_main, replace_main, replaced,
};
use super::moved::{leave_where_they_are, listed_elsewhere};
use super::parking::give_back_parking;
use super::pool::{is_nobodys, is_public, pool, take};
use super::reason::Reason;
use super::step::{State, Step};

/// The server has its public addresses, and each of them the order's domain.
pub(super) fn change_address(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::ChangeAddress;
    if cx.state(step).over() {
        return Continue(());
    }
    cx.step(step).message.clear();
    let all = if cx.handler.operator_allocates() { from_pool(cx, server)? } else { by_panel(cx, server)? };
    domains(cx, step, server, &cx.order.domain.clone())?;
    if cx.handler.operator_allocates() {
        super::pool::names(cx, step)?;
    }
    superseded_had_its_time(cx, step)?;
    remember(cx, &all);
    if !super::parking::is_left(cx) {
        super::parking::forget(cx);
    }
    // A parking address that could not be given back is said here, and a name that could not be changed.
    let said = cx.step(step).message.clone();
    cx.finish(step, State::Done, &said);
    Continue(())
}

/// What was asked for before the spec was changed, or put back, may still land: nobody would look at the addresses again.
fn superseded_had_its_time(cx: &mut Cx<'_>, step: Step) -> Flow {
    let asked_for = cx.intent(step).map(|f| f.intent.clone());
    match asked_for {
        // It was for what is wanted now, and that shows.
        Some(intent) if intent.as_ref() == Some(&cx.intent_now(step)) => Continue(()),
        Some(_) => cx.settled(step),
        None => Continue(()),
    }
}

/// Whether addresses of the order are, or were, being taken back or changed: what its status says of them may not be so any more.
#[must_use]
pub fn is_changing(status: &OrderStatus) -> bool {
    let steps = [Step::ChangeAddress, Step::RemoveAddresses, Step::ParkAddress, Step::Release].map(Step::as_str);
    let closing = |record: &StepStatus| record.name != Step::ChangeAddress.as_str() && steps.contains(&record.name.as_str());
    status.in_flight.as_ref().is_some_and(|f| steps.contains(&f.step.as_str()))
        || status.steps.iter().any(|record| closing(record) && record.state != State::Pending.as_str())
}

/// Writes what was read back into the status, the main address first.
fn remember(cx: &mut Cx<'_>, all: &[IpAddr]) {
    let domain = cx.order.domain.clone();
    if let Some(server) = cx.status.server.as_mut() {
        server.main_address = all.first().map(IpAddr::to_string);
        server.addresses = all.iter().map(IpAddr::to_string).collect();
        server.domain = Some(domain);
    }
}

/// The main address first, the others in order.
pub(super) fn main_first(main: IpAddr, others: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = others.into_iter().filter(|a| *a != main).collect();
    all.sort_unstable();
    all.insert(0, main);
    all
}

/// The addresses of the server, read in this decision.
pub(super) fn addresses(cx: &Cx<'_>, step: Step, server: &ServerId) -> Flow<Vec<AddressRow>> {
    match &cx.facts.addresses {
        Some(rows) => Continue(rows.clone()),
        None => Break(cx.look(step, Look::Addresses(server.clone()))),
    }
}

pub(super) fn parsed(text: Option<&String>) -> Option<IpAddr> {
    text.and_then(|t| t.parse().ok())
}

/// The operator takes addresses in IPmanager and gives them to DCImanager. Returns the order's addresses, the main one first.
fn from_pool(cx: &mut Cx<'_>, server: &ServerId) -> Flow<Vec<IpAddr>> {
    let step = Step::ChangeAddress;
    let rows = addresses(cx, step, server)?;
    let used = pool(cx, step)?;
    let group = cx.handler.public_group.clone();
    super::adoption::note_addresses(cx, step, &rows, &used)?;
    // A replaced main address shows in the rows before the shared list knows it.
    if let Some(new) = replaced(cx, &rows) {
        record_main(cx, new);
    }
    if !keeps_main(cx) {
        // Before the hand-over the panel says which one it is: somebody may have added another one as the main address.
        let listed = if let Row::There(row) = cx.row(server) { row.main_address } else { None };
        if let Some(listed) = listed.filter(|a| rows.iter().any(|r| r.address == *a)) {
            record_main(cx, listed);
        }
    }
    let main = main_row(cx, step, server, &rows)?;
    let keep_main = keeps_main(cx);
    if !main_is_left_alone(cx)
        && let Some(own) = used.iter().find(|a| a.address == main.address && is_nobodys(cx, a))
    {
        // The main address is a public one already, left there when no parking group was configured: it becomes ours.
        let note = cx.order.marker.with_short(&own.note);
        return Break(cx.call(step, Call::SetNote { address: own.address, note }, Shows::AtOnce));
    }
    leave_where_they_are(cx, step, &rows, &used)?;
    let mine = ours_in_public(cx, &used);
    if mine.contains(&main.address) {
        note_replaced(cx, step);
    } else if !keep_main && let Some(why) = not_replaced(cx, step)? {
        return Break(leave_main(cx, step, &Replacement { server, main: &main, mine: &mine, rows: &rows }, &why));
    }
    // Of a server that was taken over, addresses that are not the operator's to give, of another group or with another's note, count too.
    let recorded = cx.status.server.as_ref().filter(|_| super::adoption::adopted(cx)).map(|s| s.addresses.clone()).unwrap_or_default();
    let counts = |a: &IpAddr| *a != main.address && !mine.contains(a) && recorded.contains(&a.to_string());
    let kept: Vec<IpAddr> = rows.iter().map(|r| r.address).filter(|a| keep_main && counts(a)).collect();
    for family in [Family::Ipv4, Family::Ipv6] {
        let wanted = match family {
            Family::Ipv4 => cx.order.ipv4,
            Family::Ipv6 => cx.order.ipv6,
        };
        let wanted = wanted.saturating_sub(usize::from(keep_main && Family::of(main.address) == family));
        let others: Vec<String> = kept.iter().filter(|a| Family::of(**a) == family).map(IpAddr::to_string).collect();
        if others.len() > wanted {
            let message = format!(
                "server {server} has more addresses than spec.addresses asks for, and {} are not the operator's to take away: take them off by hand, or ask for as many as there are",
                others.join(", ")
            );
            return Break(cx.fail(step, "AddressesKept", &message));
        }
        let wanted = wanted - others.len();
        let have: Vec<IpAddr> = mine.iter().copied().filter(|a| Family::of(*a) == family && !(keep_main && *a == main.address)).collect();
        if have.len() < wanted {
            return Break(take(cx, step, family, &group, &have));
        }
        if have.len() > wanted {
            return Break(give_up_one(cx, step, server, &rows, &main, &have));
        }
    }
    if !keep_main && !mine.contains(&main.address) {
        return Break(replace_main(cx, step, &Replacement { server, main: &main, mine: &mine, rows: &rows }, group));
    }
    for address in &mine {
        if !rows.iter().any(|r| r.address == *address) {
            let present = rows.iter().filter(|r| Family::of(r.address) == Family::of(*address)).count();
            let call = Call::AddAddress {
                server: server.clone(),
                family: Family::of(*address),
                group,
                address: Some(*address),
                domain: cx.order.domain.clone(),
                present,
            };
            return Break(cx.call(step, call, Shows::AtOnce));
        }
    }
    give_back_parking(cx, step, &rows, &used)?;
    Continue(main_first(main.address, mine.into_iter().chain(kept)))
}

/// Whether the server's main address is not the operator's to replace. The system of a client who has the server is configured with it:
/// it stays, whatever the handler says of pools by now.
pub(super) fn keeps_main(cx: &Cx<'_>) -> bool {
    main_is_left_alone(cx) || cx.status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some())
}

/// Whether the main address never was the operator's to give.
fn main_is_left_alone(cx: &Cx<'_>) -> bool {
    cx.handler.disable_ip_change || super::adoption::adopted(cx)
}

/// Public addresses that carry our note, lowest first: also those of a group that the handler took them from before.
fn ours_in_public(cx: &Cx<'_>, used: &[PoolAddress]) -> Vec<IpAddr> {
    ours(cx, used.iter().filter(|a| is_public(cx, a)))
}

pub(super) fn ours<'a>(cx: &Cx<'_>, used: impl Iterator<Item = &'a PoolAddress>) -> Vec<IpAddr> {
    let mut mine: Vec<IpAddr> = used.filter(|a| cx.order.marker.is_in_note(&a.note)).map(|a| a.address).collect();
    mine.sort_unstable();
    mine.dedup();
    mine
}

/// More addresses are ours than are wanted: one that is not the main one goes, from the server first.
fn give_up_one(cx: &mut Cx<'_>, step: Step, server: &ServerId, rows: &[AddressRow], main: &AddressRow, have: &[IpAddr]) -> Halt {
    let spare = have.iter().copied().filter(|a| *a != main.address);
    let on_server = |a: &IpAddr| rows.iter().find(|r| r.address == *a);
    // One that the server does not have is the cheapest to lose.
    match spare.clone().find(|a| on_server(a).is_none()).or_else(|| spare.max()) {
        Some(address) => match on_server(&address) {
            Some(row) => cx.call(step, Call::RemoveAddress { server: server.clone(), row: row.row.clone(), address }, Shows::AtOnce),
            None => cx.call(step, Call::GiveBack { address }, Shows::AtOnce),
        },
        None => cx.fail(step, "NothingToGiveUp", "the main address is the only one, and more are ours than are wanted"),
    }
}

/// The panel takes addresses by itself. Returns the order's addresses, the main one first.
fn by_panel(cx: &mut Cx<'_>, server: &ServerId) -> Flow<Vec<IpAddr>> {
    let step = Step::ChangeAddress;
    let group = cx.handler.public_group.clone();
    let main = main_by_panel(cx, step, server, &group)?;
    let rows = addresses(cx, step, server)?;
    for (family, wanted) in [(Family::Ipv4, cx.order.ipv4), (Family::Ipv6, cx.order.ipv6)] {
        let have: Vec<&AddressRow> = rows.iter().filter(|r| Family::of(r.address) == family).collect();
        if have.len() < wanted {
            let call = Call::AddAddress {
                server: server.clone(),
                family,
                group,
                address: None,
                domain: cx.order.domain.clone(),
                present: have.len(),
            };
            return Break(cx.call(step, call, Shows::AtOnce));
        }
        if have.len() > wanted
            && let Some(row) = have.iter().rev().find(|r| r.address != main)
        {
            let call = Call::RemoveAddress { server: server.clone(), row: row.row.clone(), address: row.address };
            return Break(cx.call(step, call, Shows::AtOnce));
        }
    }
    Continue(main_first(main, rows.iter().map(|r| r.address)))
}

/// Every address of the server has this domain.
pub(super) fn domains(cx: &mut Cx<'_>, step: Step, server: &ServerId, domain: &str) -> Flow {
    let rows = addresses(cx, step, server)?;
    match rows.iter().find(|r| !r.domain.trim_end_matches('.').eq_ignore_ascii_case(domain)) {
        None => Continue(()),
        Some(row) => {
            Break(cx.call(step, Call::SetDomain { server: server.clone(), row: row.row.clone(), domain: domain.to_owned() }, Shows::AtOnce))
        }
    }
}

/// Closing: all but the main address go, from the server and from our part of the pool.
pub(super) fn remove_addresses(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::RemoveAddresses;
    if cx.state(step).over() {
        return Continue(());
    }
    let rows = addresses(cx, step, server)?;
    let main = main_row(cx, step, server, &rows)?;
    if cx.handler.operator_allocates() && rows.len() > 1 {
        let used = pool(cx, step)?;
        super::adoption::note_addresses(cx, step, &rows, &used)?;
        super::orphaning::note_addresses_again(cx, step, &rows, &used)?;
    }
    if let Some(row) = rows.iter().find(|r| r.address != main.address) {
        let call = Call::RemoveAddress { server: server.clone(), row: row.row.clone(), address: row.address };
        return Break(cx.call(step, call, Shows::AtOnce));
    }
    if cx.handler.operator_allocates() {
        let used = pool(cx, step)?;
        leave_where_they_are(cx, step, &rows, &used)?;
        if let Some(address) = ours_in_public(cx, &used).into_iter().find(|a| *a != main.address) {
            return Break(cx.call(step, Call::GiveBack { address }, Shows::AtOnce));
        }
        // The preparation may have been cut short before the old parking address went back.
        give_back_parking(cx, step, &rows, &used)?;
    }
    super::parking::forget(cx);
    if let Some(status) = cx.status.server.as_mut() {
        status.addresses = vec![main.address.to_string()];
    }
    let said = cx.step(step).message.clone();
    cx.finish(step, State::Done, &said);
    Continue(())
}

/// Closing, with the server gone: what the pool keeps for this order goes back all the same.
pub(super) fn give_back_all(cx: &mut Cx<'_>, step: Step) -> Flow {
    if !cx.handler.operator_allocates() {
        return Continue(());
    }
    // An address may still be on its way.
    cx.settled(step)?;
    let used = pool(cx, step)?;
    let noted: Vec<IpAddr> = used.iter().filter(|a| cx.order.marker.is_in_note(&a.note)).map(|a| a.address).collect();
    let Some(first) = noted.first().copied() else {
        let replaced = |s: &ServerStatus| s.parked_address.is_some() && s.parked_address != s.main_address;
        // What the server had last is nobody's to free: a panel that does not list it may still have it.
        return if cx.status.server.as_ref().is_some_and(replaced) { give_back_parking(cx, step, &[], &used) } else { Continue(()) };
    };
    // The list shows main addresses only: where one of ours is in use, so may the others be.
    let in_use = noted
        .iter()
        .copied()
        .find(|a| listed_elsewhere(cx, *a))
        .map(|a| (a, "is the main address of a server that does not carry its marker"));
    // Of a server that nobody sees these are the additional ones: its main address never was ours to note.
    let unseen = cx.status.server.is_none() && cx.handler.disable_ip_change && super::selection::may_have_been_restored(cx.order);
    if let Some((address, why)) = in_use.or_else(|| unseen.then_some((first, "may be in use by a server that is not found"))) {
        let message = format!(
            "address {address} carries this order's note and {why}: put the marker `{}` into that server's notes, or take `{}` out of the address's note",
            cx.order.marker,
            cx.order.marker.short()
        );
        return Break(super::drift::not_touched(cx, step, Reason::NotOurServer, &message));
    }
    Break(cx.call(step, Call::GiveBack { address: first }, Shows::AtOnce))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn addresses_change_while_they_are_replaced_and_from_the_first_of_them_that_goes() {
        let status = |value: Value| serde_json::from_value::<OrderStatus>(value).unwrap();
        for (step, state, changing) in [
            (Step::ChangeAddress, State::Done, false),
            (Step::InstallOS, State::Waiting, false),
            (Step::PowerOff, State::Done, false),
            (Step::RemoveAddresses, State::Pending, false),
            (Step::RemoveAddresses, State::Waiting, true),
            (Step::ParkAddress, State::Done, true),
            (Step::Release, State::Failed, true),
        ] {
            let recorded = status(json!({"steps": [{"name": step.as_str(), "state": state.as_str()}]}));
            assert_eq!(is_changing(&recorded), changing, "{step:?} {state:?}");
        }
        for (step, changing) in [(Step::ChangeAddress, true), (Step::ParkAddress, true), (Step::InstallOS, false)] {
            let in_flight = json!({"operationId": "1", "step": step.as_str(), "call": "x", "target": "server/17", "attempt": 1,
                "since": "2026-11-22T10:00:00Z", "outcome": "Sent"});
            assert_eq!(is_changing(&status(json!({"inFlight": in_flight}))), changing, "{step:?}");
        }
    }
}
