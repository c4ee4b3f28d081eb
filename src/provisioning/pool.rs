//! IPmanager's side of an order's addresses: those in use there, what it refuses, and the names that its records carry.

use std::ops::ControlFlow::{Break, Continue};

use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::PoolAddress;

use super::call::Call;
use super::context::{Cx, Flow, Halt, SHORT, Wait, WaitKind, after, cut};
use super::facts::Look;
use super::inflight::Shows;
use super::reason::Reason;
use super::step::Step;

/// The addresses in use at IPmanager, read in this decision.
pub(super) fn pool(cx: &Cx<'_>, step: Step) -> Flow<Vec<PoolAddress>> {
    match &cx.facts.pool {
        Some(pool) => Continue(pool.clone()),
        None => Break(cx.look(step, Look::Pool)),
    }
}

/// The panel does not take what it was asked for: waiting brings no address, a person has to look.
pub(super) fn wrong_group(cx: &mut Cx<'_>, step: Step, group: &str, error: &PanelError) -> Halt {
    let field = if step == Step::ParkAddress { "parkingIPType" } else { "publicIPType" };
    let message = format!("the panel gives no address of group {group} (ipManagement.{field} of the handler) to its user: {error}");
    cx.fail(step, &error.code(), &message)
}

pub(super) fn no_address(cx: &mut Cx<'_>, step: Step, group: &str, error: &PanelError) -> Halt {
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
    let parking = cx.handler.parking_group.clone().filter(|group| *group != cx.handler.public_group);
    let domain = cx.order.domain.clone();
    let other = |a: &PoolAddress| !a.domain.is_empty() && !a.domain.trim_end_matches('.').eq_ignore_ascii_case(&domain);
    let ours: Vec<PoolAddress> = pool(cx, step)?
        .into_iter()
        .filter(|a| parking.as_ref() != Some(&a.group) && cx.order.marker.is_in_note(&a.note) && other(a))
        .collect();
    for PoolAddress { address, domain: old, .. } in ours {
        let call = Call::SetPoolDomain { address, domain: domain.clone() };
        let refusal = cx.facts.refusal(|c| *c == call).filter(|e| !matches!(e.class(), ErrorClass::Down | ErrorClass::Credentials));
        let why = match refusal {
            Some(error) => error.to_string(),
            None if cx.facts.applied.contains(&call) => "it said that it was done, but does not show it".to_owned(),
            None => return Break(cx.call(step, call, Shows::AtOnce)),
        };
        cx.step(step).message = cut(&format!("IPmanager keeps the name {old} for {address}: {why}"), SHORT);
    }
    Continue(())
}
