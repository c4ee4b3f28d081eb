//! The order's server: the search by marker, the choice of a free one, the claim.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::ServerStatus;
use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::{InstallForm, ServerForm, ServerId, ServerRow};

use super::call::{Call, Left};
use super::capacity;
use super::client::create_client;
use super::context::{Cx, Flow, Halt, Recheck, SHORT, Wait, WaitKind, after, cut};
use super::facts::{Inventory, Look, Prepare, Prepared, Seen};
use super::inflight::Shows;
use super::marker::{Found, Marker};
use super::matching;
use super::people::{People, people};
use super::queue::about;
use super::reason::Reason;
use super::step::{State, Step};
use super::wanted::Wanted;

/// Names of a template list that a message shows.
const SHOWN: usize = 12;

/// Ends with a server of the order's own in the status.
pub(super) fn allocate(cx: &mut Cx<'_>) -> Flow {
    // One that was restored may have a server already: that is looked for first.
    let restored = super::selection::may_have_been_restored(cx.order);
    if !restored && cx.status.in_flight.is_none() && cx.order.adopt.is_none() && cx.facts.inventory.is_some() {
        // What is wrong with an order is said before it waits, and keeps nobody behind it waiting.
        super::assembly::refused(cx)?;
        super::licenses::obtainable(cx)?;
    }
    if !restored {
        limits(cx)?;
    }
    let Some(inventory) = cx.facts.inventory.clone() else { return Break(cx.wait_for_list(Step::CreateClient)) };
    if let Some(server) = cx.order.adopt.clone() {
        return super::adoption::adopt(cx, &server);
    }
    create_client(cx)?;
    let people = people(cx, Step::Allocate)?;
    find_own(cx, &inventory, &people)?;
    if cx.status.server.is_some() {
        return Continue(());
    }
    if restored {
        limits(cx)?;
    }
    claim(cx, &inventory, &people)
}

/// Limits of the handler, and that there is no server for it, keep an order back that has not begun: nothing is made for it at the
/// panel, not even its client.
fn limits(cx: &mut Cx<'_>) -> Flow {
    let max = cx.handler.max_orders_per_namespace;
    if cx.status.in_flight.is_some() {
        return Continue(());
    }
    if max > 0 && cx.facts.older_orders >= max {
        let place = about(cx.facts.older_orders - max + 1);
        let message =
            format!("limits.maxOrdersPerNamespace ({max}) of the handler is reached in this namespace; place {place} in the queue");
        return Break(wait_for_capacity(cx, Reason::LimitReached, message));
    }
    if let Some(inventory) = &cx.facts.inventory
        && let Some(message) = capacity::nothing_for(cx.order, &cx.status, cx.handler, inventory, &cx.facts.queue)
    {
        return Break(wait_for_capacity(cx, Reason::WaitingForCapacity, message));
    }
    if !cx.facts.slot {
        return Break(no_place(cx));
    }
    Continue(())
}

fn no_place(cx: &mut Cx<'_>) -> Halt {
    let place = about(cx.facts.before_me + 1);
    let message = format!("limits.maxConcurrentOperations of the handler is reached; place {place} in the queue");
    wait_for_capacity(cx, Reason::LimitReached, message)
}

/// Something in Kubernetes is ready, or the decision ends.
pub(super) fn prepared(cx: &mut Cx<'_>, step: Step, what: Prepare, reason: Reason) -> Flow {
    let known = match what {
        Prepare::ClientName => &cx.facts.client_name,
        Prepare::PanelPassword => &cx.facts.panel_password,
        Prepare::RootPassword | Prepare::PasswordVersion => &cx.facts.root_password,
        Prepare::LicenseKeys => &cx.facts.licenses.keys,
    };
    match known.clone() {
        None => Break(cx.prepare(step, what)),
        Some(Prepared::Ready) => Continue(()),
        Some(Prepared::Missing(why)) if reason == Reason::CredentialsMissing => {
            let until = Some(after(cx.now, cx.handler.poll));
            Break(cx.wait(step, Wait { kind: WaitKind::Retry, name: "Secret", reason, message: why, until, deadline: None }))
        }
        Some(Prepared::Missing(why)) => Break(cx.stall(step, reason, &why, Recheck::Later)),
    }
}

pub(super) fn wait_for_capacity(cx: &mut Cx<'_>, reason: Reason, message: String) -> Halt {
    // Where there is no server that is what is waited for, and since when, whether the client is there or not.
    let allocates = reason == Reason::WaitingForCapacity || cx.state(Step::CreateClient).over();
    let step = if allocates { Step::Allocate } else { Step::CreateClient };
    if step == Step::Allocate {
        cx.enter(step, State::Waiting, &message);
    }
    let name = cx.order.wanted.to_string();
    cx.wait(step, Wait { kind: WaitKind::Capacity, name: &name, reason, message, until: None, deadline: None })
}

/// Looks for a server that carries our marker: after a crash, a lost answer, or a restore without status.
fn find_own(cx: &mut Cx<'_>, inventory: &Inventory, people: &People) -> Flow {
    let step = Step::Allocate;
    index_complete(cx, step, inventory, people)?;
    let (own, mut mine, mut previous) = (&cx.order.marker, Vec::new(), Vec::new());
    for (server, markers) in &inventory.markers {
        for marker in markers {
            if marker == own {
                mine.push(server.clone());
            } else if own.has_name_of(marker) {
                previous.push(server.clone());
            }
        }
    }
    match mine.as_slice() {
        [] => {}
        [server] => return bind_if_ours(cx, &ServerId(server.clone()), people),
        servers => return Break(several(cx, step, &servers.join(", "))),
    }
    elsewhere(cx, step, inventory)?;
    if let Some(server) = previous.first() {
        let claimed = claim_target(cx).is_some_and(|target| target.0 == *server);
        match cx.form(step, &ServerId(server.clone()))? {
            // Our own marker, cut short: the claim is undone below.
            Seen::There(form) if claimed && matches!(cx.order.marker.find_in(&form.notes), Found::Truncated(_)) => return Continue(()),
            // The index is older than the form.
            Seen::There(form)
                if !super::marker::tokens(&form.notes).any(|word| Marker::parse(word).is_some_and(|m| own.has_name_of(&m))) =>
            {
                return Break(cx.wait_for_list(step));
            }
            // The claim was undone, and landed once more: nobody knows what else has happened there since.
            Seen::There(form) if matches!(cx.order.marker.find_in(&form.notes), Found::Truncated(_)) => {
                let message = format!(
                    "server {server} carries what the panel left of this order's marker; no second one is taken: when you have seen to it that nobody uses it, take it out of the server's notes and the server's owner away"
                );
                return Break(cx.stall(step, Reason::PreviousServerFound, &message, Recheck::Later));
            }
            Seen::There(_) | Seen::Missing => {}
        }
        let message = format!(
            "server {server} carries the marker of an earlier order of this name; no second one is taken: release it by hand, or restore the annotation {}",
            crate::api::ORDER_ID_ANNOTATION
        );
        return Break(cx.stall(step, Reason::PreviousServerFound, &message, Recheck::Later));
    }
    Continue(())
}

/// An order that was restored into another cluster, or copied, has the id of one that may still be alive: what carries it is
/// neither taken over nor given back, and no other server is taken.
pub(super) fn elsewhere(cx: &mut Cx<'_>, step: Step, inventory: &Inventory) -> Flow {
    let mine = cx.order.marker.clone();
    let found = inventory.markers.iter().find_map(|(id, markers)| Some((id, markers.iter().find(|m| mine.is_elsewhere(m))?)));
    let Some((server, marker)) = found else { return Continue(()) };
    let annotation = crate::api::ORDER_ID_ANNOTATION;
    let way = if marker.cluster == mine.cluster {
        format!("restore the order as {}/{}", marker.namespace, marker.name)
    } else {
        format!("start the operator with --cluster-id={} if this cluster takes the place of that one", marker.cluster)
    };
    let message = format!(
        "server {server} carries this order's id in the marker `{marker}`; it is not touched, and no other one is taken: {way}, or remove the annotation {annotation} to have nothing to do with it"
    );
    Break(cx.stall(step, Reason::OrderIdElsewhere, &message, Recheck::Later))
}

/// Allocating, or letting an order go, before every server that could be ours has been looked at could lose or double one.
pub(super) fn index_complete(cx: &mut Cx<'_>, step: Step, inventory: &Inventory, people: &People) -> Flow {
    let ours = |row: &ServerRow| row.owner.as_deref().is_some_and(|owner| people.is_me(owner) || people.is_client(owner));
    let not_read = || inventory.rows.values().filter(|row| ours(row) && !inventory.markers.contains_key(&row.id.0));
    if let Some((server, unread)) = not_read().find_map(|row| Some((&row.id, inventory.unread.get(&row.id.0)?))) {
        let message = format!(
            "whose server {server} is cannot be read, and it may be this order's: {}; mend its entry at the panel, or give it another owner",
            unread.why
        );
        if cx.now >= after(unread.since, cx.handler.step) {
            return Break(cx.stall(step, Reason::PanelError, &message, Recheck::Later));
        }
        return Break(cx.wait_for_panel(step, after(cx.now, cx.handler.poll * 2), message));
    }
    match not_read().next() {
        Some(_) => Break(cx.wait_for_list(step)),
        None => Continue(()),
    }
}

fn bind_if_ours(cx: &mut Cx<'_>, server: &ServerId, people: &People) -> Flow {
    let step = Step::Allocate;
    let Seen::There(form) = cx.form(step, server)? else { return Break(cx.wait_for_list(step)) };
    match cx.order.marker.find_in(&form.notes) {
        Found::Ours => bind(cx, server, &form, people),
        Found::Foreign(other) | Found::Previous(other) if cx.order.marker.stands_in(&form.notes) => {
            Break(beside_another(cx, step, server, &other))
        }
        // The index is older than the form.
        Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => Break(cx.wait_for_list(step)),
    }
}

pub(super) fn several(cx: &mut Cx<'_>, step: Step, servers: &str) -> Halt {
    let message = format!("servers {servers} all carry this order's marker; release all but one by hand");
    cx.stall(step, Reason::SeveralServersFound, &message, Recheck::Later)
}

fn beside_another(cx: &mut Cx<'_>, step: Step, server: &ServerId, other: &str) -> Halt {
    let message =
        format!("server {server} carries `{other}` beside this order's marker; it is not touched: take one of the two out of its notes");
    cx.stall(step, Reason::NotOurServer, &message, Recheck::Later)
}

/// Writes the server into the status: from here on it is the order's.
fn bind(cx: &mut Cx<'_>, server: &ServerId, form: &ServerForm, people: &People) -> Flow {
    let step = Step::Allocate;
    let owner = form.owner.clone().unwrap_or_default();
    let handed_over = people.is_client(&owner);
    if !handed_over && !people.is_me(&owner) {
        let message = format!(
            "server {server} carries this order's marker, but belongs to panel user `{owner}`; it is not touched, and no other one is taken"
        );
        return Break(cx.stall(step, Reason::OwnerChanged, &message, Recheck::Later));
    }
    let row = cx.facts.inventory.as_ref().and_then(|i| i.rows.get(&server.0)).cloned();
    let main = row.as_ref().and_then(|r| r.main_address).map(|a| a.to_string());
    cx.status.server = Some(ServerStatus {
        id: server.0.clone(),
        name: row.map(|r| cut(&r.name, SHORT)).unwrap_or_default(),
        handler: cx.handler.key.to_string(),
        panel: cx.handler.panel.clone(),
        configuration: cx.order.wanted.to_string(),
        client: cx.order.username.clone(),
        main_address: main.clone(),
        // The main address of a server that the client has is not a parking address any more.
        parked_address: main.filter(|_| !handed_over),
        ..ServerStatus::default()
    });
    cx.finish(step, State::Done, &format!("server {server}"));
    super::assembly::reserved(cx);
    if handed_over {
        super::recovery::found_again(cx);
    }
    Continue(())
}

fn claim(cx: &mut Cx<'_>, inventory: &Inventory, people: &People) -> Flow {
    let step = Step::Allocate;
    if let Some(target) = claim_target(cx) {
        claim_in_flight(cx, &target, people)?;
        if cx.status.server.is_some() {
            return Continue(());
        }
    }
    if !cx.facts.slot {
        return Break(no_place(cx));
    }
    if cx.facts.locks.is_none() {
        return Break(cx.look(step, Look::Locks));
    }
    super::assembly::refused(cx)?;
    let wanted = cx.order.wanted.clone();
    let mut free = capacity::free(&wanted, &cx.status, cx.handler, inventory);
    let locks = cx.facts.locks.clone().unwrap_or_default();
    free.retain(|row| !cx.facts.not_free.contains(&row.id.0) && locks.get(&row.id.0).is_none_or(|holder| *holder == cx.order.order_id));
    let any = !free.is_empty();
    let mine = cx.facts.queue.left_over(free);
    let for_others = any && mine.is_empty();
    let servers: Vec<ServerId> = match &wanted {
        Wanted::Ready(_) => mine.into_iter().map(|row| row.id.clone()).collect(),
        Wanted::Custom(parts) => super::assembly::best_first(cx, inventory, parts, &mine)?,
    };
    for server in servers {
        match cx.form(step, &server)? {
            Seen::There(form) if matching::form_is_free(&form) => {}
            Seen::There(_) | Seen::Missing => continue,
        }
        offers(cx, step, &server)?;
        if cx.order.own_password {
            // Without it nothing can be installed: no server is taken for an order that lacks it.
            prepared(cx, step, Prepare::RootPassword, Reason::CredentialsMissing)?;
        }
        if super::selection::may_have_been_restored(cx.order) {
            super::recovery::no_address_elsewhere(cx)?;
        }
        return Break(ask_for(cx, server, people));
    }
    let none = match &wanted {
        Wanted::Ready(_) | Wanted::Custom(_) if for_others => capacity::FOR_OTHERS.to_owned(),
        Wanted::Custom(parts) => return Break(super::assembly::without_server(cx, parts)),
        Wanted::Ready(server_type) => capacity::no_server(server_type, inventory),
    };
    let message = capacity::lack(&none, &cx.status, &cx.facts.queue);
    Break(wait_for_capacity(cx, Reason::WaitingForCapacity, message))
}

fn ask_for(cx: &mut Cx<'_>, server: ServerId, people: &People) -> Halt {
    let call = Call::Claim { server, owner: people.me.id.clone(), marker: cx.order.marker.clone() };
    // A refusal of this very server was answered by choosing another; what is left here is a panel that refuses as such.
    let is_claim = |c: &Call| matches!(c, Call::Claim { .. });
    let refused = |(c, e): &&(Call, PanelError)| is_claim(c) && e.class() != ErrorClass::Expectation;
    if let Some(error) = cx.facts.refused.iter().rev().find(refused).map(|(_, e)| e.clone()) {
        return cx.fail_with(Step::Allocate, &error);
    }
    cx.call(Step::Allocate, call, Shows::AtOnce)
}

/// The server that a claim was asked for, whose outcome is not known.
pub(super) fn claim_target(cx: &Cx<'_>) -> Option<ServerId> {
    cx.intent(Step::Allocate)?.server().map(ServerId::from)
}

/// A claim was asked for: what does its target show?
fn claim_in_flight(cx: &mut Cx<'_>, server: &ServerId, people: &People) -> Flow {
    let step = Step::Allocate;
    let own = cx.intent(step).is_some_and(|f| cx.intent_is_own(f));
    let undone = cx.intent(step).is_some_and(|f| f.call == "unclaim");
    if let Some(error) = cx.facts.refusal(|c| matches!(c, Call::Unclaim { .. })).cloned() {
        return Break(cx.fail_with(step, &error));
    }
    if cx.facts.applied(|c| matches!(c, Call::Unclaim { .. })) {
        return Break(truncated(cx, server));
    }
    let form = match cx.form(step, server)? {
        Seen::There(form) => form,
        Seen::Missing if own => return Continue(()),
        Seen::Missing if cx.is_gone(step, server)? => {
            cx.settled(step)?;
            cx.status.in_flight = None;
            return Continue(());
        }
        Seen::Missing => return Break(cx.wait_for_list(step)),
    };
    match cx.order.marker.find_in(&form.notes) {
        Found::Ours => return bind(cx, server, &form, people),
        Found::Truncated(written) if is_of_a_claim(&written, &form, people) => return Break(undo(cx, server, Left::Marker(written))),
        // The panel has done it, and kept nothing of the marker: to claim another one would leave this one to nobody.
        Found::Nothing if cx.facts.applied(|c| matches!(c, Call::Claim { server: claimed, .. } if claimed == server)) => {
            if let Some(owner) = ours_without_marker(&form, people) {
                return Break(undo(cx, server, Left::Owner(owner)));
            }
        }
        Found::Nothing if undone && ours_without_marker(&form, people).is_none() => {
            cx.settled(step)?;
            return Break(truncated(cx, server));
        }
        Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => {}
    }
    if own {
        // Asked for in this pass and not ours: lost to somebody else, or refused. Nothing is undone there; another one is chosen.
        cx.status.in_flight = None;
        return Continue(());
    }
    // The claim may still land: another server is only chosen when it has had its time.
    cx.settled(step)?;
    let clients = form.owner.as_deref().is_some_and(|owner| people.is_client(owner));
    if cx.order.marker.find_in(&form.notes) == Found::Nothing && (clients || ours_without_marker(&form, people).is_some()) {
        // The intent stays: nothing else tells of this server, also where another handler would be tried.
        let message = perhaps_ours(cx, server);
        return Break(cx.stall(step, Reason::MarkerTruncated, &message, Recheck::Later));
    }
    let sold = cx.facts.inventory.as_ref().is_some_and(|list| {
        matching::form_is_free(&form) && capacity::free(&cx.order.wanted, &cx.status, cx.handler, list).iter().any(|row| row.id == *server)
    });
    if !sold {
        // It may have been taken out of service, or become another configuration, while nobody looked.
        cx.status.in_flight = None;
        return Continue(());
    }
    let call = Call::Claim { server: server.clone(), owner: people.me.id.clone(), marker: cx.order.marker.clone() };
    Break(cx.call(step, call, Shows::AtOnce))
}

/// Whether the panel has kept nothing of a claim's marker is not known: a person may have given the server to its owner since, be it only
/// to have it out of sale.
fn perhaps_ours(cx: &Cx<'_>, server: &ServerId) -> String {
    format!(
        "server {server} was asked for, and has an owner without a marker: the panel may have kept nothing of it; no other one is taken: put `{}` into its notes if it is this order's, or take its owner away at the panel",
        cx.order.marker
    )
}

fn undo(cx: &mut Cx<'_>, server: &ServerId, left: Left) -> Halt {
    cx.call(Step::Allocate, Call::Unclaim { server: server.clone(), left }, Shows::AtOnce)
}

/// What is left of a marker tells whose it was; a bare prefix may be anybody's word.
fn is_of_a_claim(written: &str, form: &ServerForm, people: &People) -> bool {
    !super::marker::is_bare(written) || ours_without_marker(form, people).is_some()
}

/// The owner of a server that the operator's user has.
fn ours_without_marker(form: &ServerForm, people: &People) -> Option<String> {
    form.owner.clone().filter(|owner| people.is_me(owner))
}

pub(super) fn truncated(cx: &mut Cx<'_>, server: &ServerId) -> Halt {
    let message = format!("server {server}: the panel cut the marker `{}` short; the claim was undone", cx.order.marker);
    cx.status.in_flight = None;
    // A department may have been asked about it: that has come right.
    cx.forget_attempts();
    cx.stall(Step::Allocate, Reason::MarkerTruncated, &message, Recheck::OnChange)
}

/// The panel offers template and recipes for this server, as far as it tells.
pub(super) fn offers(cx: &mut Cx<'_>, step: Step, server: &ServerId) -> Flow {
    super::recipes::supported(cx, step)?;
    let form = match cx.facts.install_forms.get(&server.0) {
        None => return Break(cx.look(step, Look::InstallForm(server.clone()))),
        Some(None) => return Continue(()),
        Some(Some(form)) => form.clone(),
    };
    if let Some(recipe) = cx.order.recipes.iter().find(|r| !form.share_a_tag(&cx.order.template, r)) {
        let message = format!("recipe {recipe} and template {} share no tag at the panel", cx.order.template);
        return Break(cx.stall(step, Reason::RecipeIncompatible, &message, Recheck::Later));
    }
    let InstallForm { templates, recipes, .. } = form;
    if let Some(on_offer) = templates.filter(|t| !t.contains(&cx.order.template)) {
        let message =
            format!("the panel does not offer template {} for server {server}; it offers: {}", cx.order.template, shown(&on_offer));
        return Break(cx.stall(step, Reason::UnknownTemplate, &message, Recheck::Later));
    }
    if let Some(on_offer) = recipes
        && let Some(recipe) = cx.order.recipes.iter().find(|r| !on_offer.contains(r))
    {
        let message = format!("the panel does not offer recipe {recipe} for server {server}; it offers: {}", shown(&on_offer));
        return Break(cx.stall(step, Reason::UnknownRecipe, &message, Recheck::Later));
    }
    Continue(())
}

fn shown(names: &[String]) -> String {
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    if text.is_empty() { "nothing".into() } else { text }
}

/// Closing, with a claim whose answer is not known: `Continue` with a server in the status when it was applied.
pub(super) fn resolve_claim(cx: &mut Cx<'_>, step: Step, server: &ServerId) -> Flow {
    if cx.order.adopt.is_some() {
        return super::adoption::resolve(cx, step, server);
    }
    let form = match cx.form(step, server)? {
        Seen::There(form) => form,
        Seen::Missing => {
            if cx.is_gone(step, server)? {
                cx.status.in_flight = None;
                return Continue(());
            }
            return Break(cx.wait_for_list(step));
        }
    };
    match cx.order.marker.find_in(&form.notes) {
        Found::Ours => {
            let people = people(cx, step)?;
            let intent = cx.status.in_flight.take();
            let flow = bind(cx, server, &form, &people);
            if flow.is_break() {
                cx.status.in_flight = intent;
            }
            flow
        }
        Found::Truncated(written) if !super::marker::is_bare(&written) => {
            if let Some(error) = cx.facts.refusal(|c| matches!(c, Call::Unclaim { .. })).cloned() {
                return Break(cx.fail_with(step, &error));
            }
            Break(undo(cx, server, Left::Marker(written)))
        }
        Found::Foreign(other) | Found::Previous(other) if cx.order.marker.stands_in(&form.notes) => {
            Break(beside_another(cx, step, server, &other))
        }
        found @ (Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_)) => {
            cx.settled(step)?;
            no_trace(cx, step, server, &form, &found)
        }
    }
}

/// Closing: the server that a claim was asked for shows no marker of ours. Where it is the operator's user's all the same it is not
/// forgotten.
fn no_trace(cx: &mut Cx<'_>, step: Step, server: &ServerId, form: &ServerForm, found: &Found) -> Flow {
    let people = people(cx, step)?;
    let claimed = claim_target(cx).as_ref() == Some(server);
    let nobodys = matches!(found, Found::Nothing | Found::Truncated(_)) && ours_without_marker(form, &people).is_some();
    if claimed && nobodys {
        return Break(cx.fail(step, Reason::MarkerTruncated.as_str(), &perhaps_ours(cx, server)));
    }
    cx.status.in_flight = None;
    Continue(())
}
