//! Adoption: an order takes over a server that its client already has, without touching it.
//!
//! The only change at the panel is our marker in the server's notes. Everything that the spec says of the server has to be
//! true already, domain and number of addresses included: an Active order acts upon its spec, and adoption must surprise no
//! running server. What differs is refused, with all of it in one message; nothing is written then.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::order::ServerStatus;
use crate::panel::error::ErrorClass;
use crate::panel::model::{AddressRow, Family, PoolAddress, ServerForm, ServerId, ServerRow};

use super::allocation::{index_complete, prepared};
use super::call::Call;
use super::client::ordinary_client;
use super::context::{Cx, Flow, Halt, Recheck, SHORT, cut};
use super::facts::{Look, Prepare, Seen};
use super::fitting::compare;
use super::half_claim::truncated;
use super::hardware::Hardware;
use super::inflight::Shows;
use super::marker::{Found, tokens};
use super::network::{addresses, main_first};
use super::opening::note_power;
use super::people::people;
use super::pool::is_nobodys;
use super::reason::Reason;
use super::step::{OPENING, State, Step};
use super::wanted::Wanted;

/// What the steps that are not taken say.
const ADOPTED: &str = "adopted";

/// Whether the order's server was taken over: its addresses carry no note of ours until they are given back or changed.
#[must_use]
pub(super) fn adopted(cx: &Cx<'_>) -> bool {
    cx.order.adopt.as_ref().is_some_and(|id| cx.is_own(id))
}

/// Ends with the server in the status, all steps over.
pub(super) fn adopt(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::Allocate;
    let seen = cx.form(step, server)?;
    if let Seen::There(form) = &seen {
        match cx.order.marker.find_in(&form.notes) {
            Found::Ours => return bind(cx, server, form),
            Found::Truncated(written) if cx.intent(step).is_some() => return Break(undo(cx, server, written)),
            Found::Nothing if cx.intent(step).is_some_and(|f| f.call == "unmark") => {
                cx.settled(step)?;
                return Break(truncated(cx, server));
            }
            Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => {}
        }
    }
    if !cx.handler.adoption {
        let unmarked = matches!(&seen, Seen::There(form) if !cx.order.marker.stands_in(&form.notes));
        if unmarked && cx.intent(step).is_some() {
            // What was asked for while it was allowed may still land.
            cx.settled(step)?;
            cx.status.in_flight = None;
        }
        let message = format!(
            "handler {} does not let orders take over servers: create the order without spec.adopt, or have the provider set spec.adoption: Allowed",
            cx.handler.key
        );
        return Break(cx.stall(step, Reason::AdoptionForbidden, &message, Recheck::OnChange));
    }
    let Seen::There(form) = seen else { return Break(refused(cx, server, "the panel knows no such server")) };
    owned_by_client(cx, server, &form)?;
    let row = cx.need_row(step, server)?;
    let differences = differences(cx, server, &form, &row)?;
    if !differences.is_empty() {
        return Break(refused(cx, server, &differences.join("; ")));
    }
    let call = Call::Adopt { server: server.clone(), owner: form.owner.clone().unwrap_or_default(), marker: cx.order.marker.clone() };
    if let Some(error) = cx.facts.refusal(|c| *c == call).filter(|e| e.class() == ErrorClass::Expectation).cloned() {
        return Break(refused(cx, server, &error.to_string()));
    }
    Break(cx.call(step, call, Shows::AtOnce))
}

fn refused(cx: &mut Cx<'_>, server: &ServerId, why: &str) -> Halt {
    let message = format!("server {server} is not taken over: {why}");
    cx.stall(Step::Allocate, Reason::AdoptionRefused, &message, Recheck::Later)
}

/// Nobody but the client is told anything else of a server.
fn owned_by_client(cx: &mut Cx<'_>, server: &ServerId, form: &ServerForm) -> Flow {
    let step = Step::Allocate;
    ordinary_client(cx, step)?;
    let people = people(cx, step)?;
    let Some(owner) = &form.owner else {
        return Break(refused(cx, server, "nobody owns it; create the order without spec.adopt to be given a free server"));
    };
    if !people.is_client(owner) {
        let why = format!("it does not belong to panel user {}", cx.order.username);
        return Break(refused(cx, server, &why));
    }
    let Some(inventory) = cx.facts.inventory.clone() else { return Break(cx.wait_for_list(step)) };
    // A server of this client that was not looked at may carry the marker of another namespace's order.
    index_complete(cx, step, &inventory, &people)?;
    prepared(cx, step, Prepare::ClientName, Reason::ClientNameTaken)
}

/// Everything in which server and spec differ.
fn differences(cx: &mut Cx<'_>, server: &ServerId, form: &ServerForm, row: &ServerRow) -> Flow<Vec<String>> {
    let step = Step::Allocate;
    let rows = addresses(cx, step, server)?;
    let Some(locks) = &cx.facts.locks else { return Break(cx.look(step, Look::Locks)) };
    let locked = locks.get(&server.0).is_some_and(|holder| *holder != cx.order.order_id);
    let mut found = Vec::new();
    let mut unless = |holds: bool, why: String| {
        if !holds {
            found.push(why);
        }
    };
    unless(tokens(&form.notes).next().is_none(), "its notes carry the marker of another order".into());
    unless(!locked, "another order holds its lock".into());
    match &cx.order.wanted {
        Wanted::Ready(wanted) => {
            let types = row.types.join(", ");
            unless(
                row.types.is_empty() || row.types.contains(wanted),
                format!("its type is {types}, spec.configuration.serverType says {wanted}"),
            );
        }
        Wanted::Custom(wanted) => {
            let hardware = Hardware::of_server(&form.parts, &row.description);
            let missing = compare(wanted, &hardware).missing.join(", ");
            unless(hardware.is_unknown() || missing.is_empty(), format!("it does not have what spec.configuration.custom says: {missing}"));
        }
    }
    let domain = &cx.order.domain;
    unless(same_domain(&row.hostname, domain), format!("its domain is {}, spec.domain says {domain}", row.hostname));
    let count = |family| rows.iter().filter(|r| Family::of(r.address) == family).count();
    for (family, name, wanted) in [(Family::Ipv4, "ipv4", cx.order.ipv4), (Family::Ipv6, "ipv6", cx.order.ipv6)] {
        let has = count(family);
        unless(has == wanted, format!("it has {has} addresses of family {name}, spec.addresses.{name} says {wanted}"));
    }
    unless(row.install.is_none(), "an operation runs on it".into());
    let disabled = row.flags.disabled || form.disabled;
    if cx.order.suspended {
        unless(disabled, "it is not suspended at the panel; adopt it with spec.suspended: false first".into());
    } else {
        unless(!disabled, "it is suspended at the panel".into());
        unless(row.power.on || !row.power.off, "it is off, and the server of an Active order is switched on; switch it on first".into());
    }
    Continue(found)
}

fn same_domain(shown: &str, wanted: &str) -> bool {
    shown.trim_end_matches('.').eq_ignore_ascii_case(wanted)
}

/// The panel cut the marker short: what is left of it goes. The owner is the client and stays.
fn undo(cx: &mut Cx<'_>, server: &ServerId, written: String) -> Halt {
    let step = Step::Allocate;
    if let Some(error) = cx.facts.refusal(|c| matches!(c, Call::Unmark { .. })).cloned() {
        return cx.fail_with(step, &error);
    }
    cx.call(step, Call::Unmark { server: server.clone(), written }, Shows::AtOnce)
}

/// Writes the server into the status as it is: from here on it is the order's, and there is nothing to prepare.
fn bind(cx: &mut Cx<'_>, server: &ServerId, form: &ServerForm) -> Flow {
    let step = Step::Allocate;
    let people = people(cx, step)?;
    if !people.client_has(form) {
        let message = format!(
            "server {server} carries this order's marker, but does not belong to the client {}; it is not touched",
            cx.order.username
        );
        return Break(super::drift::not_touched(cx, step, Reason::OwnerChanged, &message));
    }
    let row = cx.need_row(step, server)?;
    let rows = addresses(cx, step, server)?;
    let all = in_order(&row, &rows);
    let domain = if same_domain(&row.hostname, &cx.order.domain) { cx.order.domain.clone() } else { row.hostname.clone() };
    cx.status.server = Some(ServerStatus {
        id: server.0.clone(),
        name: cut(&row.name, SHORT),
        handler: cx.handler.key.to_string(),
        panel: cx.handler.panel.clone(),
        configuration: cx.order.wanted.to_string(),
        client: cx.order.username.clone(),
        main_address: all.first().map(IpAddr::to_string),
        domain: Some(cut(&domain, SHORT)),
        addresses: all.iter().map(IpAddr::to_string).collect(),
        handed_over_at: Some(Time::seconds(cx.now)),
        // Whatever ran there before ran: nothing is run on a client's server since he says what it has.
        recipes: cx.order.recipes.clone(),
        ..ServerStatus::default()
    });
    super::reinstallation::note_found(cx);
    note_power(cx, row.power);
    cx.finish(step, State::Done, &format!("server {server}, {ADOPTED}"));
    for skipped in OPENING {
        cx.finish(skipped, State::Skipped, ADOPTED);
    }
    Continue(())
}

fn in_order(row: &ServerRow, rows: &[AddressRow]) -> Vec<IpAddr> {
    let others = rows.iter().map(|r| r.address);
    match row.main_address {
        Some(main) => main_first(main, others),
        None => others.collect(),
    }
}

/// Closing, before the status names a server. An adoption that was begun and never finished is undone: our marker goes and the
/// client keeps the server. So it is where a person wrote the marker. One without an intent may be a restored order's, which closes as its
/// policy says.
pub(super) fn resolve(cx: &mut Cx<'_>, step: Step, server: &ServerId) -> Flow {
    let form = match cx.form(step, server)? {
        Seen::There(form) => form,
        Seen::Missing if cx.is_gone(step, server)? => {
            cx.status.in_flight = None;
            return Continue(());
        }
        Seen::Missing => return Break(cx.form_missing(step, server)),
    };
    let begun = cx.intent(Step::Allocate).is_some();
    let written = match cx.order.marker.find_in(&form.notes) {
        Found::Ours if !begun && super::selection::may_have_been_restored(cx.order) => return bind(cx, server, &form),
        Found::Ours => Some(cx.order.marker.to_string()),
        Found::Truncated(written) if begun => Some(written),
        Found::Foreign(_) | Found::Previous(_) if begun && cx.order.marker.stands_in(&form.notes) => Some(cx.order.marker.to_string()),
        Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => None,
    };
    match written {
        Some(written) => Break(undo(cx, server, written)),
        None => {
            cx.settled(step)?;
            cx.status.in_flight = None;
            Continue(())
        }
    }
}

/// Before the addresses of an adopted server are changed or taken back they are noted as ours in the pool, so that the ordinary
/// rules apply to them. Those that another order's note names, or that are of another group, are left as they are.
pub(super) fn note_addresses(cx: &mut Cx<'_>, step: Step, rows: &[AddressRow], used: &[PoolAddress]) -> Flow {
    if !adopted(cx) {
        return Continue(());
    }
    match used.iter().find(|a| is_nobodys(cx, a) && rows.iter().any(|r| r.address == a.address)) {
        None => Continue(()),
        Some(found) => {
            let note = cx.order.marker.with_short(&found.note);
            Break(cx.call(step, Call::SetNote { address: found.address, note }, Shows::AtOnce))
        }
    }
}
