//! The order's server: the search by marker, the choice of a free one, the claim.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::{OrderStatus, ServerStatus};
use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::model::{InstallForm, ServerForm, ServerId, ServerRow};

use super::call::Call;
use super::capacity;
use super::client::create_client;
use super::context::{Cx, Flow, Halt, Next, Recheck, SHORT, Wait, WaitKind, after, cut};
use super::facts::{Inventory, Look, Prepare, Prepared, Seen};
use super::half_claim::{claim_in_flight, claim_target};
use super::inflight::Shows;
use super::marker::{Found, Marker, is_bare, tokens};
use super::matching;
use super::people::{People, people};
use super::queue::about;
use super::reason::Reason;
use super::step::{State, Step};
use super::wanted::Wanted;

/// Names of a template list that a message shows.
const SHOWN: usize = 12;
/// Kinds of servers that one decision asks for what can be installed on them: each costs requests, and the name may be mistyped.
const KINDS: usize = 8;
/// Servers that one pass loses to others: whatever a panel makes of markers, no order asks for all of its servers.
const LOST: usize = 5;

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
    if let Some(target) = claim_target(cx).filter(|target| inventory.markers.contains_key(&target.0))
        && let Seen::There(form) = cx.form(step, &target)?
        && matches!(own.find_in(&form.notes), Found::Truncated(left) if !is_bare(&left))
    {
        // Our own marker, cut short or changed, looks like another order's: the claim is undone below.
        return Continue(());
    }
    elsewhere(cx, step, inventory)?;
    if let Some(server) = previous.first() {
        match cx.form(step, &ServerId(server.clone()))? {
            // The index is older than the form.
            Seen::There(form) if !tokens(&form.notes).any(|word| Marker::parse(word).is_some_and(|m| own.has_name_of(&m))) => {
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
    // The server of a restored order may belong to a log-in that the operator had before.
    let searches = cx.status.server.is_none() && super::selection::may_have_been_restored(cx.order);
    if searches && inventory.former.is_none() {
        return Break(cx.wait_for_list(step));
    }
    let former = |owner: &str| searches && inventory.former.as_ref().is_some_and(|former| former.contains(owner));
    let ours = |row: &ServerRow| row.owner.as_deref().is_some_and(|o| people.is_me(o) || people.is_client(o) || former(o));
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
    let Seen::There(form) = cx.form(step, server)? else { return Break(cx.form_missing(step, server)) };
    match cx.order.marker.find_in(&form.notes) {
        Found::Ours => {
            of_its_type(cx, server)?;
            bind(cx, server, &form, people)
        }
        Found::Foreign(other) | Found::Previous(other) if cx.order.marker.stands_in(&form.notes) => {
            Break(beside_another(cx, step, server, &other))
        }
        // The index is older than the form.
        Found::Nothing | Found::Truncated(_) | Found::Previous(_) | Found::Foreign(_) => Break(cx.wait_for_list(step)),
    }
}

/// A server that nothing but its marker leads to was the order's before its status was lost, and the configuration was fixed then: another
/// one is not written down as that server's.
fn of_its_type(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::Allocate;
    let Wanted::Ready(wanted) = &cx.order.wanted else { return Continue(()) };
    // While it is asked for it cannot have been changed.
    let row = cx.facts.inventory.as_ref().and_then(|i| i.rows.get(&server.0)).filter(|_| cx.intent(step).is_none());
    let Some(row) = row.filter(|row| !row.types.is_empty() && !row.types.contains(wanted)) else { return Continue(()) };
    let message = format!(
        "server {server} carries this order's marker, and its type is {}: let spec.configuration.serverType say that again, as when it was allocated",
        row.types.join(", ")
    );
    Break(cx.stall(step, Reason::FixedFieldChanged, &message, Recheck::Later))
}

pub(super) fn several(cx: &mut Cx<'_>, step: Step, servers: &str) -> Halt {
    let message = format!("servers {servers} all carry this order's marker; release all but one by hand");
    cx.stall(step, Reason::SeveralServersFound, &message, Recheck::Later)
}

pub(super) fn beside_another(cx: &mut Cx<'_>, step: Step, server: &ServerId, other: &str) -> Halt {
    let message =
        format!("server {server} carries `{other}` beside this order's marker; it is not touched: take one of the two out of its notes");
    super::drift::not_touched(cx, step, Reason::NotOurServer, &message)
}

/// Writes the server into the status: from here on it is the order's.
pub(super) fn bind(cx: &mut Cx<'_>, server: &ServerId, form: &ServerForm, people: &People) -> Flow {
    let step = Step::Allocate;
    let owner = form.owner.clone().unwrap_or_default();
    let handed_over = people.is_client(&owner);
    if !handed_over && !people.is_me(&owner) {
        let message = format!(
            "server {server} carries this order's marker, but belongs to panel user `{owner}`; it is not touched, and no other one is taken"
        );
        return Break(super::drift::not_touched(cx, step, Reason::OwnerChanged, &message));
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
    if let Some(server) = first_that_fits(cx, inventory, &wanted, servers)? {
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
        Wanted::Ready(server_type) => capacity::no_server(server_type, inventory, cx.handler),
    };
    let message = capacity::lack(&none, &cx.status, &cx.facts.queue);
    Break(wait_for_capacity(cx, Reason::WaitingForCapacity, message))
}

/// What is said of a server for which the panel does not offer what is to be installed.
struct NotOffered {
    server: ServerId,
    halt: Halt,
    status: OrderStatus,
}

/// The first of these servers that is free, and for which the panel offers what is to be installed. That it does not is said where no
/// other one will do: servers of other types have other systems.
fn first_that_fits(cx: &mut Cx<'_>, inventory: &Inventory, wanted: &Wanted, servers: Vec<ServerId>) -> Flow<Option<ServerId>> {
    let (mut told, mut unfit): (Option<NotOffered>, Vec<&[String]>) = (None, Vec::new());
    for server in servers {
        let types = inventory.rows.get(&server.0).map(|row| row.types.as_slice()).unwrap_or_default();
        if unfit.len() >= KINDS || (!types.is_empty() && unfit.contains(&types)) {
            continue;
        }
        match cx.form(Step::Allocate, &server)? {
            Seen::There(form) if matching::form_is_free(&form) => {}
            Seen::There(_) | Seen::Missing => continue,
        }
        let said = not_offered(cx, wanted, &server)?;
        if said.is_none() && told.as_ref().is_none_or(|no| tells_as_much(cx, &server, &no.server)) {
            return Continue(Some(server));
        }
        told = told.or(said);
        unfit.push(types);
    }
    match told {
        Some(NotOffered { halt, status, .. }) => {
            cx.status = status;
            Break(halt)
        }
        None => Continue(None),
    }
}

/// An order that composes its configuration may be told of another server.
fn not_offered(cx: &mut Cx<'_>, wanted: &Wanted, server: &ServerId) -> Flow<Option<NotOffered>> {
    let before = cx.status.clone();
    match offers(cx, Step::Allocate, server) {
        Continue(()) => Continue(None),
        Break(halt @ Halt { next: Next::Wait(_), .. }) if matches!(wanted, Wanted::Custom(_)) => {
            let status = std::mem::replace(&mut cx.status, before);
            Continue(Some(NotOffered { server: server.clone(), halt, status }))
        }
        Break(halt) => Break(halt),
    }
}

/// Whether the panel tells of a server all that it told of another one, which it said no for: a name may be mistyped, and a form that shows
/// nothing is no yes.
fn tells_as_much(cx: &Cx<'_>, server: &ServerId, other: &ServerId) -> bool {
    let shown = |id: &ServerId| {
        let form = cx.facts.install_forms.get(&id.0).and_then(Option::as_ref);
        form.map(|form| (form.templates.is_some(), form.recipes.is_some()))
    };
    match (shown(server), shown(other)) {
        (Some((templates, recipes)), Some((no_templates, no_recipes))) => (templates || !no_templates) && (recipes || !no_recipes),
        (None, _) | (Some(_), None) => false,
    }
}

fn ask_for(cx: &mut Cx<'_>, server: ServerId, people: &People) -> Halt {
    let call = Call::Claim { server, owner: people.me.id.clone(), marker: cx.order.marker.clone() };
    // A refusal of this very server was answered by choosing another; what is left here is a panel that refuses as such.
    let is_claim = |c: &Call| matches!(c, Call::Claim { .. });
    let refused = |(c, e): &&(Call, PanelError)| is_claim(c) && e.class() != ErrorClass::Expectation;
    if let Some(error) = cx.facts.refused.iter().rev().find(refused).map(|(_, e)| e.clone()) {
        return cx.fail_with(Step::Allocate, &error);
    }
    if cx.facts.applied.iter().filter(|c| is_claim(c)).count() >= LOST {
        let message = format!(
            "{LOST} servers in a row were somebody else's right after they were claimed for this order: see what else gives away the servers of this panel"
        );
        return cx.fail(Step::Allocate, "ClaimsLost", &message);
    }
    cx.call(Step::Allocate, call, Shows::AtOnce)
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
