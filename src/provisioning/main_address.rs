//! The main address of a server: which one it is, and how another one takes its place.
//!
//! The call for that is not known (ispsystem-api.md 2.5): a panel may answer it first and do it later. What it accepted and does not show
//! is waited for like an answer that is missing, and the address that was to be the new one is nobody else's meanwhile.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use crate::api::common::Time;
use crate::api::order::{InFlight, LastError};
use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::{AddressRow, Family, ServerId, ServerRow};

use super::call::Call;
use super::context::{Cx, Flow, Halt, Next, Recheck, after};
use super::facts::Row;
use super::inflight::{ANSWERED, NO_EFFECT, Shows};
use super::network::{addresses, parsed};
use super::pool::{domain_for, is_parking, refused};
use super::reason::Reason;
use super::step::Step;

/// The call in `inFlight.call`.
const REPLACE: &str = "replaceMainAddress";
/// The panel accepted it, and it does not show.
const SAID: &str = "it said that it was done, but the server's addresses do not show it";

fn is_replace(call: &Call) -> bool {
    matches!(call, Call::ReplaceMain { .. })
}

/// The row of the main address: the one that the panel's list names, or, where that is older than our last change, the recorded one.
pub(super) fn main_row(cx: &mut Cx<'_>, step: Step, server: &ServerId, rows: &[AddressRow]) -> Flow<AddressRow> {
    let listed = if let Row::There(row) = cx.row(server) { row.main_address } else { None };
    // Somebody may have made another one of them the main one. A list may be older than a replacement that is under way.
    if cx.intent(step).is_none_or(|f| f.call != REPLACE)
        && let Some(row) = rows.iter().find(|r| Some(r.address) == listed)
    {
        let row = clients(cx, step, row.address, rows).unwrap_or_else(|| row.clone());
        record_main(cx, row.address);
        return Continue(row);
    }
    let recorded = cx.status.server.as_ref().and_then(|s| parsed(s.main_address.as_ref()));
    if let Some(row) = rows.iter().find(|r| Some(r.address) == recorded) {
        return Continue(row.clone());
    }
    if !matches!(cx.row(server), Row::There(_)) {
        return Break(cx.wait_for_list(step));
    }
    match rows.iter().find(|r| Some(r.address) == listed) {
        Some(row) => {
            let row = row.clone();
            record_main(cx, row.address);
            Continue(row)
        }
        None => {
            if cx.intent(step).is_some() {
                // It may have been replaced a moment ago, and the list be older than that.
                cx.settled_in_list(step)?;
            }
            let what = match listed {
                _ if rows.is_empty() => "it has no address at all".to_owned(),
                Some(main) => format!("its addresses do not contain {main}, the main one in the panel's list"),
                None => "the panel's list shows no main address of it".to_owned(),
            };
            Break(cx.fail(step, "MainAddressUnknown", &format!("server {server}: {what}")))
        }
    }
}

/// The row of the main address that a client got, where the panel's list names as the main one an address that his order never got:
/// somebody has added that, and it takes none of those that the client has away. The way back is another matter: there the one that the
/// panel names is what has to be replaced.
fn clients(cx: &Cx<'_>, step: Step, listed: IpAddr, rows: &[AddressRow]) -> Option<AddressRow> {
    let server = cx.status.server.as_ref().filter(|s| step == Step::ChangeAddress && s.handed_over_at.is_some())?;
    if server.addresses.iter().any(|text| text.parse::<IpAddr>() == Ok(listed)) {
        return None;
    }
    let first = parsed(server.addresses.first())?;
    rows.iter().find(|r| r.address == first).cloned()
}

/// The address that the panel's list names as the main one, where it is not the one that the client got as that.
pub(super) fn added_as_main(cx: &Cx<'_>, step: Step, server: &ServerId, rows: &[AddressRow]) -> Option<IpAddr> {
    let listed = if let Row::There(row) = cx.row(server) { row.main_address } else { None };
    listed.filter(|a| rows.iter().any(|r| r.address == *a) && clients(cx, step, *a, rows).is_some())
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

/// The panel said that it replaced the main address, and then did not know the server any more: nobody reads back what it had last, and the
/// address that was replaced is not that.
pub(super) fn note_unread(cx: &mut Cx<'_>, error: &PanelError) {
    if error.class() != ErrorClass::Missing {
        return;
    }
    let asked_for = |call: &Call| if let Call::ReplaceMain { address, .. } = call { *address } else { None };
    if let Some(new) = cx.facts.applied.iter().rev().find_map(asked_for) {
        record_main(cx, new);
    }
}

/// The address that the system is installed with. Somebody may have given the server another main one since it was recorded, and a panel
/// refuses one that the server does not have; but one that is replaced first is no client's.
pub(super) fn to_install_with(cx: &mut Cx<'_>, row: &ServerRow) -> Flow<Option<IpAddr>> {
    let listed = row.main_address.filter(|_| !super::opening::moved_in_preparation(cx));
    if let Some(main) = listed {
        note_moved(cx, &row.id, main)?;
        record_main(cx, main);
    }
    Continue(listed.or_else(|| cx.status.server.as_ref().and_then(|s| parsed(s.main_address.as_ref()))))
}

/// The recorded addresses are the server's, the main one first, also where somebody put another one into the main one's place: nobody
/// looks at them again as long as the spec asks for as many. One that was added beside them is none of them.
fn note_moved(cx: &mut Cx<'_>, server: &ServerId, main: IpAddr) -> Flow {
    let Some(status) = &cx.status.server else { return Continue(()) };
    let (mut known, new) = (status.addresses.clone(), main.to_string());
    let mut kept = status.kept_address.clone();
    if let Some(at) = known.iter().position(|a| *a == new) {
        let main = known.remove(at);
        known.insert(0, main);
    } else {
        let recorded = known.iter().position(|a| Some(a) == status.main_address.as_ref()).unwrap_or(0);
        let Some(old) = known.get(recorded).cloned() else { return Continue(()) };
        let rows = addresses(cx, Step::InstallOS, server)?;
        let shows = |text: &String| rows.iter().any(|r| r.address.to_string() == *text);
        if !shows(&new) || shows(&old) {
            return Continue(());
        }
        known.remove(recorded);
        known.insert(0, new.clone());
        // What the panel takes by itself is nothing that IPmanager is asked about.
        if cx.handler.operator_allocates() || kept.as_ref() == Some(&old) {
            kept = Some(new);
        }
    }
    if let Some(status) = cx.status.server.as_mut() {
        (status.addresses, status.kept_address) = (known, kept);
    }
    Continue(())
}

/// Why the main address was not replaced, though it was asked for: refused in this pass, or accepted and not seen in all the time that an
/// answer that is lost has. Ask only where the rows still show the old one.
pub(super) fn not_replaced(cx: &mut Cx<'_>, step: Step) -> Flow<Option<String>> {
    if cx.facts.refusal(is_replace).is_some() {
        return Continue(refused(cx, is_replace));
    }
    if cx.facts.applied(is_replace) {
        note_accepted(cx, step);
    }
    let intent = cx.intent(step).filter(|f| f.call == REPLACE);
    let Some((own, accepted)) = intent.map(|f| (cx.intent_is_own(f), is_accepted(f))) else { return Continue(None) };
    if own {
        // It had its time before this pass, which now gives back what was to take its place.
        return Continue(Some(SAID.to_owned()));
    }
    if !accepted {
        return Continue(None);
    }
    if cx.settled(step).is_break() {
        let since = cx.status.in_flight.as_ref().map_or(cx.now, |f| f.since.0);
        let message = "the panel said that it replaced the main address, and does not show it yet; looking again".to_owned();
        return Break(cx.wait_for_panel(step, after(since, cx.handler.settle), message));
    }
    Continue(Some(SAID.to_owned()))
}

/// Whether an intent is about a main address that the panel said it replaced.
fn is_accepted(intent: &InFlight) -> bool {
    intent.call == REPLACE && intent.outcome == ANSWERED
}

/// The rows show the new main address: what was accepted has come about.
pub(super) fn note_replaced(cx: &mut Cx<'_>, step: Step) {
    if cx.intent(step).is_some_and(|f| is_accepted(f) && !cx.intent_is_own(f)) {
        cx.status.in_flight = None;
    }
}

/// Whether the panel accepted another main address for the server, now or in an attempt before, without showing it.
fn was_accepted(cx: &Cx<'_>, step: Step) -> bool {
    cx.status.last_error.as_ref().is_some_and(|e| e.step == step.as_str() && e.code == NO_EFFECT)
}

/// The panel said that it replaced the main address, and the rows show the old one.
fn note_accepted(cx: &mut Cx<'_>, step: Step) {
    if !cx.note_answered() {
        return;
    }
    if let Some(f) = cx.status.in_flight.as_mut() {
        REPLACE.clone_into(&mut f.call);
        // It counts with no answer that is missing.
        f.attempt = 0;
    }
    cx.note_error(LastError {
        step: step.as_str().into(),
        code: NO_EFFECT.into(),
        message: format!("the main address was not replaced yet: {SAID}"),
        retryable: true,
        time: Time::seconds(cx.now),
    });
    cx.note_loss(step);
}

/// Whether one more failure stalls the order, which then waits for another dialect.
fn stalls_next(cx: &Cx<'_>, step: Step) -> bool {
    let failed = cx.status.attempts_for.as_ref().filter(|a| a.step == step.as_str()).map_or(0, |_| cx.status.attempts);
    !cx.order.deleting && !cx.facts.another_handler && failed + 1 >= cx.handler.max_attempts
}

/// The main address was not replaced: tried again, since a panel may have been busy, and where that does not help the handler's
/// dialect is to be changed, which a living order waits for. One that is being deleted waits for a department, as with any failure.
fn main_stays(cx: &mut Cx<'_>, step: Step, code: &str, message: &str) -> Halt {
    if !stalls_next(cx, step) {
        return cx.fail(step, code, message);
    }
    cx.stall(step, Reason::MainAddressNotReplaced, message, Recheck::OnChange)
}

/// What is known when the main address of a server is to be replaced.
pub(super) struct Replacement<'a> {
    /// The server.
    pub server: &'a ServerId,
    /// The main address that it has.
    pub main: &'a AddressRow,
    /// Addresses of ours, one of which is to take its place.
    pub mine: &'a [IpAddr],
    /// All addresses of the server.
    pub rows: &'a [AddressRow],
}

impl Replacement<'_> {
    /// The address of ours that is to take the main one's place: one that the server does not have yet.
    fn spare(&self) -> Option<IpAddr> {
        self.mine.iter().copied().find(|a| self.fits(*a) && !self.rows.iter().any(|r| r.address == *a))
    }

    fn fits(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.main.address)
    }
}

/// The main address was not replaced. What was to take its place goes back at once where the panel refused it, and may not have accepted it
/// in an attempt before; else it is kept for the next attempt, and goes back only before the order stalls: a panel that is slow may still be
/// about to put it onto the server.
pub(super) fn leave_main(cx: &mut Cx<'_>, step: Step, replacement: &Replacement<'_>, why: &str) -> Halt {
    let accepted = cx.facts.refusal(is_replace).is_none();
    // An earlier one, whose answer is missing, may be under way.
    let unsure = cx.intent(step).is_some_and(|f| f.call == REPLACE && f.attempt > 1);
    let code = if accepted || unsure || was_accepted(cx, step) { NO_EFFECT } else { Reason::MainAddressNotReplaced.as_str() };
    let goes_back = code != NO_EFFECT || (step == Step::ChangeAddress && stalls_next(cx, step));
    if let Some(address) = replacement.spare().filter(|_| goes_back) {
        return give_back_spare(cx, step, address, accepted);
    }
    if accepted {
        cx.status.in_flight = None;
    }
    let message = format!(
        "server {}: the panel did not replace the main address {}: {why}; set spec.dialect.replaceMainAddress of the handler",
        replacement.server, replacement.main.address
    );
    main_stays(cx, step, code, &message)
}

/// Gives back what was to be the main address. `accepted`: the intent goes on to say what for, so that whoever decides next knows it.
fn give_back_spare(cx: &mut Cx<'_>, step: Step, address: IpAddr, accepted: bool) -> Halt {
    let halt = cx.call(step, Call::GiveBack { address }, Shows::AtOnce);
    if accepted
        && matches!(halt.next, Next::Call(_))
        && let Some(f) = cx.status.in_flight.as_mut()
    {
        REPLACE.clone_into(&mut f.call);
    }
    halt
}

/// Replaces the main address.
pub(super) fn replace_main(cx: &mut Cx<'_>, step: Step, replacement: &Replacement<'_>, group: String) -> Halt {
    let Replacement { server, main, mine, rows } = *replacement;
    let Some(address) = replacement.spare() else {
        // All of ours are on the server as additional ones: one of them is taken off first, so that it can become the main one.
        let taken = mine.iter().find(|a| replacement.fits(**a)).and_then(|a| rows.iter().find(|r| r.address == *a)).cloned();
        return match taken {
            Some(row) => cx.call(step, Call::RemoveAddress { server: server.clone(), row: row.row, address: row.address }, Shows::AtOnce),
            None if step == Step::ChangeAddress && main.address.is_ipv6() && cx.order.ipv6 == 0 => {
                let message = format!(
                    "the main address of server {server}, {}, is one of IPv6 and is replaced by one of IPv6: ask for at least one in spec.addresses.ipv6",
                    main.address
                );
                cx.stall(step, Reason::InvalidSpec, &message, Recheck::OnChange)
            }
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
    let domain = domain_for(cx, step);
    let call =
        Call::ReplaceMain { server: server.clone(), row: main.row.clone(), current: main.address, address: Some(address), group, domain };
    cx.call(step, call, Shows::AtOnce)
}

/// The panel replaces the main address by one of a group of its own choice. Returns the new main address.
pub(super) fn main_by_panel(cx: &mut Cx<'_>, step: Step, server: &ServerId, group: &str) -> Flow<IpAddr> {
    let rows = addresses(cx, step, server)?;
    // Nothing was replaced yet: what the server has now is what goes, whatever the list that the claim was found by has shown.
    let untouched = step == Step::ChangeAddress && cx.step(step).attempts == 0 && !super::network::keeps_main(cx);
    if untouched {
        let main = main_row(cx, step, server, &rows)?.address.to_string();
        if let Some(status) = cx.status.server.as_mut() {
            status.parked_address = Some(main);
        }
    }
    let old = cx.status.server.as_ref().and_then(|s| parsed(s.parked_address.as_ref()));
    let old = if cx.handler.disable_ip_change { None } else { old };
    let Some(old) = old else {
        return main_row(cx, step, server, &rows).map_continue(|row| row.address);
    };
    let Some(row) = rows.iter().find(|r| r.address == old) else {
        // It is gone from the rows: the list tells which one took its place.
        let main = main_row(cx, step, server, &rows)?;
        note_replaced(cx, step);
        super::parking::forget(cx);
        return Continue(main.address);
    };
    // What is refused for another reason is no question of the dialect.
    let refusal = cx.facts.refusal(is_replace).map(|e| e.class() == ErrorClass::Refused && !e.refuses_session());
    let (stays, code) = match refusal {
        Some(stays) => (stays, Reason::MainAddressNotReplaced.as_str()),
        None => (not_replaced(cx, step)?.is_some(), NO_EFFECT),
    };
    if stays {
        if refusal.is_none() {
            cx.status.in_flight = None;
        }
        let message = format!(
            "server {server}: the panel did not replace the main address {old}; set spec.dialect.replaceMainAddress of the handler"
        );
        return Break(main_stays(cx, step, code, &message));
    }
    let domain = domain_for(cx, step);
    let call =
        Call::ReplaceMain { server: server.clone(), row: row.row.clone(), current: old, address: None, group: group.to_owned(), domain };
    Break(cx.call(step, call, Shows::AtOnce))
}
