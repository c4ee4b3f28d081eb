//! Addresses of the order that the panel shows on another server: a person moved them there, or they were in use when the address manager
//! gave them. They are left where they are, and are the order's no more.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use crate::panel::model::{AddressRow, PoolAddress};

use super::call::Call;
use super::context::{Cx, Flow, Wait, WaitKind, after};
use super::inflight::Shows;
use super::reason::Reason;
use super::step::Step;

/// Whether the panel's list shows an address on a server that is not the order's. It shows main addresses only (ispsystem-api.md 2.2).
pub(super) fn listed_elsewhere(cx: &Cx<'_>, address: IpAddr) -> bool {
    cx.facts.inventory.as_ref().is_some_and(|i| i.rows.values().any(|r| r.main_address == Some(address) && !cx.is_own(&r.id)))
}

/// Takes our note off addresses that another server has, and that are not among these rows of the order's: given back, they would be
/// given to a third one.
pub(super) fn leave_where_they_are(cx: &mut Cx<'_>, step: Step, rows: &[AddressRow], used: &[PoolAddress]) -> Flow {
    let here = |address: IpAddr| rows.iter().any(|r| r.address == address);
    let ours = |a: &&PoolAddress| cx.order.marker.is_in_note(&a.note) && !here(a.address) && listed_elsewhere(cx, a.address);
    let Some(moved) = used.iter().find(ours).cloned() else { return Continue(()) };
    seen_twice(cx, step, moved.address)?;
    let note = cx.order.marker.without_short(&moved.note);
    Break(cx.call(step, Call::SetNote { address: moved.address, note }, Shows::AtOnce))
}

/// The list may be from before the other server gave the address back: one that is begun after it was first seen has to show it too.
fn seen_twice(cx: &mut Cx<'_>, step: Step, address: IpAddr) -> Flow {
    let name = format!("address {address}");
    let first = cx.status.waiting_on.as_ref().filter(|w| w.name == name).map(|w| w.since.0);
    // What is kept is whole seconds.
    let due = first.map(|first| after(first, Duration::from_secs(1)));
    if due.is_some_and(|due| cx.facts.inventory.as_ref().is_some_and(|i| i.began >= due)) {
        return Continue(());
    }
    let message = format!("{name}: it is the main one of another server; waiting for a list that shows it still");
    let until = Some(after(cx.now, cx.handler.poll * 2));
    Break(cx.wait(step, Wait { kind: WaitKind::Panel, name: &name, reason: Reason::WaitingForPanel, message, until, deadline: None }))
}
