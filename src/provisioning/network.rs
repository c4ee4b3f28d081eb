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
    Replacement, added_as_main, leave_main, main_by_panel, main_row, not_replaced, note_replaced, record_main, replace_main, replaced,
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
    let left = if cx.handler.operator_allocates() {
        super::pool::names(cx, step)?;
        super::parking::is_left(cx, &addresses(cx, step, server)?, &pool(cx, step)?)
    } else {
        false
    };
    superseded_had_its_time(cx, step)?;
    remember(cx, &all);
    if !left {
        super::parking::forget(cx);
    }
    // A parking address that could not be given back is said here, a name that could not be changed, and what else is on the server.
    let said: Vec<String> = [cx.step(step).message.clone(), besides(cx, server, &all)].into_iter().filter(|s| !s.is_empty()).collect();
    cx.finish(step, State::Done, &said.join("; "));
    Continue(())
}

/// What is said of addresses that the server has and the order did not get: those of whoever had the server before. They may be another
/// order's, so that nobody but a person takes them off.
fn besides(cx: &Cx<'_>, server: &ServerId, all: &[IpAddr]) -> String {
    let rows = cx.facts.addresses.iter().flatten().map(|r| r.address);
    let others: Vec<String> = rows.filter(|a| !all.contains(a)).map(|a| a.to_string()).collect();
    if others.is_empty() {
        return String::new();
    }
    format!("server {server} also has {}, which this order did not get: left as they are", others.join(", "))
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

/// Those of the addresses that a status names which the order has for certain. While they are taken back that is none; while they are
/// changed, or were until that was cut short, it is the main one alone, and only where a client has the server, who keeps it.
#[must_use]
pub fn certain_addresses(status: &OrderStatus) -> Vec<&String> {
    let Some(server) = &status.server else { return Vec::new() };
    let closing = [Step::RemoveAddresses, Step::ParkAddress, Step::Release].map(Step::as_str);
    let in_flight = status.in_flight.as_ref().map(|f| f.step.as_str());
    let begun = |record: &StepStatus| closing.contains(&record.name.as_str()) && record.state != State::Pending.as_str();
    if in_flight.is_some_and(|step| closing.contains(&step)) || status.steps.iter().any(begun) {
        return Vec::new();
    }
    let change = Step::ChangeAddress.as_str();
    let open = |record: &StepStatus| record.name == change && !State::parse(&record.state).over();
    let changing = in_flight == Some(change) || status.steps.iter().any(open);
    let main = server.main_address.as_ref().filter(|_| server.handed_over_at.is_some());
    server.addresses.iter().filter(|address| !changing || main == Some(*address)).collect()
}

/// Writes what was read back into the status, the main address first.
fn remember(cx: &mut Cx<'_>, all: &[IpAddr]) {
    let domain = cx.order.domain.clone();
    let ours = |address: &IpAddr| cx.facts.pool.iter().flatten().any(|a| a.address == *address && cx.order.marker.is_in_note(&a.note));
    let not_ours: Vec<String> = all.iter().filter(|a| !ours(a)).map(IpAddr::to_string).collect();
    let keeps = cx.handler.disable_ip_change;
    if let Some(server) = cx.status.server.as_mut() {
        // What the handler says later of main addresses changes nothing of where this one is from.
        let known = server.kept_address.take();
        server.kept_address = match not_ours.first() {
            Some(first) if keeps => known.filter(|known| not_ours.contains(known)).or_else(|| Some(first.clone())),
            Some(_) => known,
            None => None,
        };
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
    // Whatever its note says: the panel keeps it as the main one, and it is counted with none of the client's.
    let added = added_as_main(cx, step, server, &rows);
    let mine: Vec<IpAddr> = ours_in_public(cx, &used).into_iter().filter(|a| Some(*a) != added).collect();
    if mine.contains(&main.address) {
        note_replaced(cx, step);
    } else if !keep_main && let Some(why) = not_replaced(cx, step)? {
        return Break(leave_main(cx, step, &Replacement { server, main: &main, mine: &mine, rows: &rows }, &why));
    }
    // Of a server that was taken over, or kept its main address, what is not the operator's to give, of another group or with another's note,
    // counts too.
    let came_with = |s: &&ServerStatus| s.kept_address.is_some() || super::adoption::adopted(cx);
    let recorded = cx.status.server.as_ref().filter(came_with).map(|s| s.addresses.clone()).unwrap_or_default();
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
            clients_name(cx, server)?;
            return Break(take(cx, step, family, &group, &have));
        }
        if have.len() > wanted {
            not_the_main_one(cx, step, server, &have)?;
            return Break(give_up_one(cx, step, server, &rows, &main, &have));
        }
    }
    if !keep_main && !mine.contains(&main.address) {
        return Break(replace_main(cx, step, &Replacement { server, main: &main, mine: &mine, rows: &rows }, group));
    }
    for address in &mine {
        if !rows.iter().any(|r| r.address == *address) {
            clients_name(cx, server)?;
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
    // One that the server does not have is the cheapest to lose; but the lowest may be on its way to be the main one.
    match spare.clone().filter(|a| on_server(a).is_none()).max().or_else(|| spare.max()) {
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
    let mut rows = addresses(cx, step, server)?;
    // The main one by now, and nobody's of this order: none of the client's is taken off for it, nor is it.
    let added = added_as_main(cx, step, server, &rows);
    rows.retain(|r| Some(r.address) != added);
    for (family, wanted) in [(Family::Ipv4, cx.order.ipv4), (Family::Ipv6, cx.order.ipv6)] {
        let have: Vec<&AddressRow> = rows.iter().filter(|r| Family::of(r.address) == family).collect();
        if have.len() < wanted {
            clients_name(cx, server)?;
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
            not_the_main_one(cx, step, server, &have.iter().map(|r| r.address).collect::<Vec<_>>())?;
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

/// Before one of these is taken off a client's server: one that the order did not give it may be the main one by now, which only a list
/// tells that is newer than our last change.
fn not_the_main_one(cx: &mut Cx<'_>, step: Step, server: &ServerId, have: &[IpAddr]) -> Flow {
    let clients = cx.status.server.as_ref().filter(|s| s.handed_over_at.is_some());
    let unknown = clients.is_some_and(|s| have.iter().any(|a| !s.addresses.contains(&a.to_string())));
    if unknown { cx.need_row(step, server).map_continue(|_| ()) } else { Continue(()) }
}

/// An address that is added may be long in coming: what a client has got already has its new name meanwhile.
fn clients_name(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    if cx.status.server.as_ref().is_none_or(|s| s.handed_over_at.is_none()) {
        return Continue(());
    }
    let domain = cx.order.domain.clone();
    domains(cx, Step::ChangeAddress, server, &domain)
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
    // A status that was lost named their server, which nobody finds: another client may have it, or another panel.
    let unseen = cx.status.server.is_none() && super::selection::may_have_been_restored(cx.order);
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

/// What is said of addresses of a server that is gone which stay taken, since no note says whose they are: they came with it, or it was
/// taken over. Nobody else would find them.
pub(super) fn stays_taken(cx: &Cx<'_>) -> String {
    let Some(server) = &cx.status.server else { return String::new() };
    let had = |a: &PoolAddress| {
        let text = a.address.to_string();
        server.addresses.iter().chain(&server.main_address).chain(&server.parked_address).any(|known| *known == text)
    };
    let used = cx.facts.pool.iter().flatten();
    let left = used.filter(|a| had(a) && super::marker::tokens(&a.note).next().is_none() && !listed_elsewhere(cx, a.address));
    let left: Vec<String> = left.map(|a| a.address.to_string()).collect();
    if left.is_empty() {
        return String::new();
    }
    format!("; without a note in IPmanager, and so still taken there: {}; to be given back by hand where nobody uses them", left.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_being_changed_or_taken_back_is_not_had_for_certain() {
        let status = |server: Value, more: Value| {
            let mut status = json!({"server": {
                "id": "17", "handler": "h/msk-1", "configuration": "E3", "mainAddress": "203.0.113.9", "addresses": ["203.0.113.9", "203.0.113.10"],
            }});
            status["server"].as_object_mut().unwrap().extend(server.as_object().unwrap().clone());
            status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<OrderStatus>(status).unwrap()
        };
        let had = |more: &Value| {
            let count = |server: Value| certain_addresses(&status(server, more.clone())).len();
            (count(json!({})), count(json!({"handedOverAt": "2026-11-22T10:00:00Z"})))
        };
        for (step, state, certain) in [
            (Step::ChangeAddress, State::Done, (2, 2)),
            (Step::ChangeAddress, State::Skipped, (2, 2)),
            (Step::ChangeAddress, State::Pending, (0, 1)),
            (Step::ChangeAddress, State::Running, (0, 1)),
            (Step::ChangeAddress, State::Failed, (0, 1)),
            (Step::InstallOS, State::Waiting, (2, 2)),
            (Step::PowerOff, State::Done, (2, 2)),
            (Step::RemoveAddresses, State::Pending, (2, 2)),
            (Step::RemoveAddresses, State::Waiting, (0, 0)),
            (Step::ParkAddress, State::Done, (0, 0)),
            (Step::Release, State::Failed, (0, 0)),
        ] {
            let recorded = json!({"steps": [{"name": step.as_str(), "state": state.as_str()}]});
            assert_eq!(had(&recorded), certain, "{step:?} {state:?}");
        }
        for (step, certain) in [(Step::ChangeAddress, (0, 1)), (Step::ParkAddress, (0, 0)), (Step::InstallOS, (2, 2))] {
            let in_flight = json!({"operationId": "1", "step": step.as_str(), "call": "x", "target": "server/17", "attempt": 1,
                "since": "2026-11-22T10:00:00Z", "outcome": "Sent"});
            assert_eq!(had(&json!({"inFlight": in_flight})), certain, "{step:?}");
        }
        // Another main address, by hand: whether the order got that one is not known.
        let moved = status(
            json!({"mainAddress": "192.0.2.1", "handedOverAt": "2026-11-22T10:00:00Z"}),
            json!({"steps": [{"name": "ChangeAddress", "state": "Running"}]}),
        );
        assert!(certain_addresses(&moved).is_empty());
        assert!(certain_addresses(&OrderStatus::default()).is_empty());
    }
}
