//! What a world has to look like in the end: whatever nobody had his hands on is as it was, but for what an order has.

use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize as _;
use serde_json::Value;

use super::apiserver::{LEASES, ORDERS, SECRETS, TASKS};
use super::invariants::{ready, rest, view};
use super::people::ended;
use super::world::{RECONCILED, World};

/// Nobody's, with the domain of free servers, without a marker, and one address, which is for parking.
fn is_given_back(server: &Value) -> bool {
    let rows = view::list(&server["ips"]);
    view::text(&server["owner"]).is_empty()
        && server["hostname"] == "free.ds"
        && view::marks(view::text(&server["notes"])).is_empty()
        && rows.len() == 1
        && !view::is_public(view::text(&rows[0]["ip"]))
}

/// What is left of orders that are gone: servers that were free at first and are nobody's now, but not as free ones are, and addresses
/// that are taken for nothing. What a person changed is left out, what a client was to keep, and what a department gave up, where it
/// carries the order's marker or the task names it.
fn left_over(world: &World) -> Vec<String> {
    let now = world.panels.state();
    let orders: Vec<Value> = world.server(|s| s.all(ORDERS).cloned().collect());
    // Its own, or one that it found with a marker and says so: a person has to look at that.
    let tells = |order: &Value, id: &str| {
        let error = &order["status"]["lastError"];
        error["code"] == "PreviousServerFound" && view::text(&error["message"]).starts_with(&format!("server {id} "))
    };
    let had = |id: &str| orders.iter().any(|order| view::server_of(order) == Some(id) || tells(order, id));
    let free: Vec<(String, String)> = view::servers(&world.at_first)
        .into_iter()
        .filter(|s| is_given_back(s.state))
        .map(|s| (s.panel.to_owned(), s.id().to_owned()))
        .collect();
    let servers = view::servers(&now);
    let mut left: Vec<String> = servers
        .iter()
        .filter(|s| free.iter().any(|(panel, id)| panel == s.panel && id == s.id()) && !had(s.id()) && !world.is_touched(s.id()))
        .filter(|s| !world.was_left(s.id()))
        .filter(|s| !is_given_back(s.state))
        .map(|s| format!("server {}/{} is not given back: {}", s.panel, s.id(), s.state))
        .collect();
    left.extend(idle_locks(world, &orders, &servers));
    let stands = view::on_servers(&now);
    let given_up = world.abandoned();
    let outcomes: Vec<String> = world.server(|s| s.all(TASKS).map(|t| t["status"]["outcome"].to_string()).collect());
    for (ip, marks) in view::addresses(&now) {
        let known = marks.iter().any(|id| given_up.contains(id) || orders.iter().any(|o| view::order_id(o) == id));
        let named = orders.iter().any(|o| o["status"].to_string().contains(&format!("\"{ip}\"")));
        let recorded = outcomes.iter().any(|said| said.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == ip));
        if !stands.contains_key(ip) && !known && !named && !recorded && !world.is_touched(ip) {
            left.push(format!("address {ip} is taken for nothing"));
        }
    }
    left
}

/// Locks that keep a free server from every other order: their own has nothing to do with it.
fn idle_locks(world: &World, orders: &[Value], servers: &[view::Server<'_>]) -> Vec<String> {
    let free = |id: &str| {
        let shown = servers.iter().find(|s| s.id() == id);
        let flags = |s: &Value| s["flags"].as_object().is_some_and(|flags| flags.values().any(|flag| flag == true));
        shown.is_some_and(|s| is_given_back(s.state) && !flags(s.state) && !world.is_touched(id))
    };
    let idle = |lease: &Value| {
        let server = lease["metadata"]["annotations"]["dci-operator.dev/server"].as_str()?;
        let order = orders.iter().find(|order| lease["spec"]["holderIdentity"] == view::order_id(order))?;
        let has = view::server_of(order) == Some(server);
        (!has && free(server)).then(|| format!("free server {server} is locked by {}, which has nothing to do with it", view::name(order)))
    };
    world.server(|s| s.all(LEASES).filter_map(idle).collect())
}

/// Servers to which nobody could log in with what the orders' Secrets say. A person may have installed what he had his hands on.
fn wrong_passwords(world: &World) -> Vec<String> {
    let (panels, orders) = (world.panels.state(), world.server(|s| s.all(ORDERS).cloned().collect::<Vec<_>>()));
    let wrong = |order: &Value| {
        let (name, key) = rest::root_password(order);
        let place = (SECRETS, view::text(&order["metadata"]["namespace"]).to_owned(), name);
        let secret = world.server(|s| s.get(&place).ok()).and_then(|secret| Secret::deserialize(&*secret).ok());
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        rest::wrong_password(order, &panels, data.get(&key).map(|bytes| bytes.0.as_slice()))
    };
    orders.iter().filter(|o| !view::server_of(o).is_some_and(|id| world.is_touched(id))).filter_map(wrong).collect()
}

/// Orders that say that they are ready, and have no such server, or not all that belongs to it. `untouched`: of servers only that no person
/// had his hands on: what was done to others just now, or to their licences, the operator may not have seen.
fn unlike(world: &World, untouched: bool) -> Vec<String> {
    let (panels, orders) = (world.panels.state(), world.server(|s| s.all(ORDERS).cloned().collect::<Vec<_>>()));
    let of = |order: &Value| {
        let server = view::text(&order["status"]["server"]["id"]);
        if untouched && world.is_touched(server) {
            Vec::new()
        } else {
            let just_now = |what: &str| untouched && what == "licenses" && world.has_lost_a_license(server);
            ready::unlike(order, &panels, |what| world.has_changed(server, what) || just_now(what))
        }
    };
    orders.iter().flat_map(of).collect()
}

/// Looks at a world that goes on, while everything in it is settled.
pub fn look(world: &World) {
    for what in unlike(world, true) {
        world.violation(format!("(7) {what}"));
    }
}

/// What is a client's to decide of his server.
const KEPT: [&str; 6] = ["/owner", "/hostname", "/power", "/ips", "/installed", "/flags/disabled"];

/// In what a server that nobody touched is not what it was.
fn changed(was: &Value, is: Option<&Value>, whose: &str) -> Vec<String> {
    let Some(is) = is else { return vec![format!("server {} of {whose} is gone", was["id"])] };
    let differs = KEPT.iter().filter(|field| was.pointer(field) != is.pointer(field));
    differs
        .map(|field| format!("server {} of {whose}: {field} was {:?}, and is {:?}", was["id"], was.pointer(field), is.pointer(field)))
        .collect()
}

/// Servers that clients have without an order: those that were somebody's at first and that no order ever had, and those that were left to
/// their clients as they were. Of an order that was never changed that is as they were at first, down to the notes.
fn not_kept(world: &World) -> Vec<String> {
    let panels = world.panels.state();
    let (servers, at_first) = (view::servers(&panels), view::servers(&world.at_first));
    let shown = |id: &str| servers.iter().find(|server| server.id() == id).map(|server| server.state);
    let owned = || at_first.iter().filter(|server| !view::text(&server.state["owner"]).is_empty() && !world.is_touched(server.id()));
    let strangers = owned().filter(|server| !world.was_held(server.id()));
    let mut wrong: Vec<String> = strangers.flat_map(|server| changed(server.state, shown(server.id()), "a stranger")).collect();
    for (id, kept) in world.kept().into_iter().filter(|(id, kept)| kept.let_go && !world.is_touched(id)) {
        let whose = format!("the client of order {}", view::name(&kept.order));
        wrong.extend(changed(&kept.server, shown(&id), &whose));
        let Some(now) = shown(&id) else { continue };
        if !view::marks(view::text(&now["notes"])).is_empty() {
            wrong.push(format!("server {id} of {whose} carries a marker: {}", now["notes"]));
        }
        // What it was at first, where all that its order did was to take it over and to go.
        let unchanged = kept.order["metadata"]["generation"] == 1 && world.is_first(view::order_id(&kept.order));
        if let Some(first) = owned().find(|server| server.id() == id).filter(|_| unchanged) {
            wrong.extend(changed(first.state, Some(now), &whose));
            if first.state["notes"] != now["notes"] {
                wrong.push(format!("the notes of server {id} of {whose} were {}, and are {}", first.state["notes"], now["notes"]));
            }
        }
    }
    wrong
}

/// How many passes there may be for each object that is looked after, once nothing goes wrong any more: so many, and one in each second.
const PASSES: u64 = 200;

/// Somebody is at work all the time, although it is all the same: what only reads is seen by nobody else.
fn restless(world: &World) -> Option<String> {
    let (span, passes) = world.passes()?;
    // Every order that there was, with its tasks, handlers and address managers.
    let looked_after = world.times("act-order") + 4;
    let most = (PASSES + span / 1000) * looked_after;
    (passes > most).then(|| format!("{passes} passes in {} s over {looked_after} objects, after the last fault", span / 1000))
}

/// Looks at what went on while a world was at rest, for so many milliseconds. `before`: the passes that there had been until then.
pub fn rested(world: &World, span: u64, before: [u64; 4]) {
    // Where two processes work of which none leads they wake each other.
    if world.passes().is_none() {
        return;
    }
    for ((kind, before), now) in RECONCILED.into_iter().zip(before).zip(world.passes_by_kind()) {
        let objects = world.server(|s| s.all(kind).count()) as u64;
        if let Some(what) = rest::restless(kind.kind, objects, now - before, span) {
            world.violation(format!("(7) {what}"));
        }
    }
}

/// Says what is wrong with the end of a world. Where a rule was broken before it did not come to its end. `leaves_nothing`: no order stays.
pub fn judge(world: &World, alone: bool, leaves_nothing: bool) {
    for what in world.cut_short() {
        world.violation(what);
    }
    if !world.violations().is_empty() || world.idle.load(Ordering::SeqCst) {
        return;
    }
    let mut wrong = left_over(world);
    wrong.extend(wrong_passwords(world));
    wrong.extend(unlike(world, false));
    wrong.extend(not_kept(world));
    wrong.extend(restless(world));
    if alone {
        wrong.extend(undisturbed(world));
    }
    let left = ended(world);
    if leaves_nothing && !left.is_empty() {
        wrong.push(format!("every order was deleted, and nobody did anything by hand: {left}"));
    }
    for what in wrong {
        world.violation(format!("(7) {what}"));
    }
}

/// Nothing is left of any order, and nobody had to give one up: so a life ends in which nobody meddles, whatever goes wrong.
fn undisturbed(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let left = ended(world);
    if !left.is_empty() {
        wrong.push(format!("the life did not come to its end: {left}"));
    }
    if !world.abandoned().is_empty() {
        wrong.push("the server was given up, although nobody had done anything to it".to_owned());
    }
    wrong
}
