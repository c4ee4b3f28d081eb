//! IPmanager's side of an order's addresses: those in use there, those that are taken, what it refuses, and the names that its records
//! carry.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::{FREE_DOMAIN, Family, PoolAddress};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Recheck, SHORT, Wait, WaitKind, after, cut};
use super::facts::Look;
use super::inflight::{NO_EFFECT, Shows};
use super::moved::listed_elsewhere;
use super::reason::Reason;
use super::step::Step;

/// The addresses in use at IPmanager, read in this decision.
pub(super) fn pool(cx: &Cx<'_>, step: Step) -> Flow<Vec<PoolAddress>> {
    match &cx.facts.pool {
        Some(pool) => Continue(pool.clone()),
        None => Break(cx.look(step, Look::Pool)),
    }
}

/// Whether an address of the order's is one that a client has: also of a group that the handler took them from before.
pub(super) fn is_public(cx: &Cx<'_>, address: &PoolAddress) -> bool {
    address.is_of(&cx.handler.public_group) || !is_parking(cx, address)
}

/// Whether an address is a public one that no order has noted.
pub(super) fn is_nobodys(cx: &Cx<'_>, address: &PoolAddress) -> bool {
    address.is_of(&cx.handler.public_group) && super::marker::tokens(&address.note).next().is_none()
}

/// Whether an address is one of those that free servers have.
pub(super) fn is_parking(cx: &Cx<'_>, address: &PoolAddress) -> bool {
    cx.handler.parking_group.as_ref().is_some_and(|group| address.is_of(group))
}

/// The domain of an address that is taken in a step: the order's, or that of a server that is free.
pub(super) fn domain_for(cx: &Cx<'_>, step: Step) -> String {
    if step == Step::ParkAddress { FREE_DOMAIN.to_owned() } else { cx.order.domain.clone() }
}

/// How a change that this pass asked for was refused. `None`: it was not, or nobody was there to answer, or believed who asked.
pub(super) fn refused(cx: &Cx<'_>, which: impl Fn(&Call) -> bool) -> Option<String> {
    let answers = |e: &&PanelError| !matches!(e.class(), ErrorClass::Down | ErrorClass::Credentials) && !e.refuses_session();
    cx.facts.refusal(which).filter(answers).map(ToString::to_string)
}

/// Why a change that this pass asked for did not come about: the refusal, or `said` where it was said to be done. Ask only where it does
/// not show. `None`: it was not asked for, or nobody was there to answer, or believed who asked.
pub(super) fn not_done(cx: &Cx<'_>, which: impl Fn(&Call) -> bool, said: &str) -> Option<String> {
    refused(cx, &which).or_else(|| cx.facts.applied(which).then(|| said.to_owned()))
}

/// How many addresses one pass may be given that another order has, too.
const NOT_OURS: usize = 3;

/// Takes one more address beside those that the order has of this kind. One whose note did not stick is given back: without our note it
/// would be lost for ever. One that another order has noted as well, or that stands on a server, is left to whoever has it.
pub(super) fn take(cx: &mut Cx<'_>, step: Step, family: Family, group: &str, have: &[IpAddr]) -> Halt {
    let domain = domain_for(cx, step);
    let call = Call::TakeAddress { family, group: group.to_owned(), domain, note: cx.order.marker.short() };
    if let Some(error) = cx.facts.refusal(|c| *c == call).cloned() {
        return match error.class() {
            ErrorClass::Down | ErrorClass::Credentials | ErrorClass::Dialect => cx.fail_with(step, &error),
            ErrorClass::Refused if error.refuses_session() => cx.fail_with(step, &error),
            ErrorClass::Missing | ErrorClass::Exists | ErrorClass::Refused | ErrorClass::Expectation if error.faults_request() => {
                wrong_group(cx, step, group, &error)
            }
            ErrorClass::Missing | ErrorClass::Exists | ErrorClass::Refused | ErrorClass::Expectation => no_address(cx, step, group, &error),
        };
    }
    if let Some(address) = cx.facts.taken.iter().find(|a| cx.facts.applied.contains(&Call::GiveBack { address: **a })) {
        let message = format!("IPmanager did not store the note `{}` of {address}; the address was given back", cx.order.marker.short());
        return cx.stall(step, Reason::MarkerTruncated, &message, Recheck::OnChange);
    }
    if let Some(address) = unmarked(cx) {
        return cx.call(step, Call::GiveBack { address }, Shows::AtOnce);
    }
    let Some(taking) = cx.facts.taking.clone().filter(|_| cx.facts.applied.contains(&call)) else {
        return cx.call(step, call, Shows::AtOnce);
    };
    // The same call may be needed several times in one pass: each one that worked shows as one more address of ours.
    if have.iter().any(|a| !taking.before.contains(a)) {
        return cx.call_again(step, call, Shows::AtOnce);
    }
    let new = |a: &&PoolAddress| !taking.before.contains(&a.address) && cx.order.marker.is_in_note(&a.note);
    if let Some(found) = cx.facts.pool.iter().flatten().find(new).cloned() {
        return unknown_group(cx, step, group, &found);
    }
    let Some(named) = taking.named else { return cx.call(step, call, Shows::AtOnce) };
    let theirs: Vec<String> = cx.facts.taken.iter().filter(|a| is_anothers(cx, **a)).map(IpAddr::to_string).collect();
    if !is_anothers(cx, named) {
        let message = format!("IPmanager gave address {named}, which it does not show as this order's; it stays as it is");
        return cx.fail(step, NO_EFFECT, &message);
    }
    if theirs.len() < NOT_OURS {
        return cx.call_again(step, call, Shows::AtOnce);
    }
    let message = format!("IPmanager gave addresses that other orders have noted, and which are left to them: {}", theirs.join(", "));
    cx.fail(step, "AddressTaken", &message)
}

/// An address of ours does not count as what it was taken for. It carries our note, and goes back when the order goes.
pub(super) fn unknown_group(cx: &mut Cx<'_>, step: Step, group: &str, found: &PoolAddress) -> Halt {
    let message = format!(
        "address {} was taken for an address of group {group}, and IPmanager shows it in group `{}`: no other one is taken; let ipManagement of the handler name the groups as IPmanager's list does",
        found.address, found.group
    );
    cx.fail(step, "UnknownGroup", &message)
}

/// Whether the pool shows an address with another order's word: it was given to both, and theirs is the later note.
fn is_anothers(cx: &Cx<'_>, address: IpAddr) -> bool {
    cx.facts.pool.iter().flatten().any(|a| a.address == address && cx.order.marker.is_anothers(&a.note))
}

/// An address that an answer of this pass named, which the pool shows for nobody and no server is known to have.
fn unmarked(cx: &Cx<'_>) -> Option<IpAddr> {
    let noted = |a: IpAddr| cx.facts.pool.iter().flatten().any(|u| u.address == a && cx.order.marker.is_in_note(&u.note));
    let stands = |a: IpAddr| cx.facts.addresses.iter().flatten().any(|r| r.address == a) || listed_elsewhere(cx, a);
    cx.facts.taken.iter().copied().find(|a| !noted(*a) && !is_anothers(cx, *a) && !stands(*a))
}

/// The panel does not take what it was asked for: waiting brings no address, a person has to look.
fn wrong_group(cx: &mut Cx<'_>, step: Step, group: &str, error: &PanelError) -> Halt {
    let field = if step == Step::ParkAddress { "parkingIPType" } else { "publicIPType" };
    let message = format!("the panel gives no address of group {group} (ipManagement.{field} of the handler) to its user: {error}");
    cx.fail(step, &error.code(), &message)
}

fn no_address(cx: &mut Cx<'_>, step: Step, group: &str, error: &PanelError) -> Halt {
    // What a panel answers when a pool is empty is not known (ispsystem-api.md 4.1): any refusal that does not fault the request
    // waits, slowly. A server that is taken back for want of one does not wait for ever: a person can end it.
    let message = format!("no free address of group {group}: {error}");
    if step == Step::ParkAddress
        && let Some(halt) = cx.out_of_patience(step, &error.code(), &message)
    {
        return halt;
    }
    let until = Some(after(cx.now, cx.handler.retry_interval));
    cx.wait(step, Wait { kind: WaitKind::Capacity, name: group, reason: Reason::WaitingForCapacity, message, until, deadline: None })
}

/// The records of our addresses carry the order's domain (`ip.edit`, ispsystem-api.md 4.1): a name server of IPmanager answers with it.
/// A panel that shows no names is left alone; a refusal is reported and blocks nothing.
pub(super) fn names(cx: &mut Cx<'_>, step: Step) -> Flow {
    let domain = cx.order.domain.clone();
    let other = |a: &PoolAddress| !a.domain.is_empty() && !a.domain.trim_end_matches('.').eq_ignore_ascii_case(&domain);
    let ours: Vec<PoolAddress> =
        pool(cx, step)?.into_iter().filter(|a| is_public(cx, a) && cx.order.marker.is_in_note(&a.note) && other(a)).collect();
    for PoolAddress { address, domain: old, .. } in ours {
        let call = Call::SetPoolDomain { address, domain: domain.clone() };
        let Some(why) = not_done(cx, |c| *c == call, "it said that it was done, but does not show it") else {
            return Break(cx.call(step, call, Shows::AtOnce));
        };
        cx.step(step).message = cut(&format!("IPmanager keeps the name {old} for {address}: {why}"), SHORT);
    }
    Continue(())
}
