//! The IPManager controller: a client, a probe, the groups that are in use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::handler::AllocateBy;
use crate::api::ipmanager::{Flavor, IPManagerStatus, Pool};
use crate::api::{DedicatedServerOrder, IPManager, ProcessingHandler, RECONCILE_ANNOTATION};
use crate::panel::AddressPanel;
use crate::panel::coremanager::client::Client as PanelClient;
use crate::panel::error::PanelError;
use crate::panel::ipmanager5::IpManager5;
use crate::panel::model::PoolAddress;
use crate::panel::settings::PanelId;
use crate::provisioning::context::{SHORT, cut};
use crate::provisioning::network;
use crate::provisioning::reason::Reason;

use super::connection::connection;
use super::context::{Context, serving_handler};
use super::metrics::PanelObserver;
use super::panels::PoolRuntime;
use super::polled::{self, Turn, tolerate};
use super::problem::{Problem, problem_of, problem_of_settings, set_progress};
use super::status::{self, StatusError};
use super::stores::Guarded;

/// The kind, as it is counted and paced.
const KIND: &str = "IPManager";
/// Groups that a status shows.
const POOLS: usize = 50;
/// After so many polls it is looked anew whether a filter hides addresses, as it is asked anew who is who at a panel: whoever logs in as our
/// user may store one while the operator runs, and what is hidden is neither given back nor known to be taken.
const LOOK_AGAIN: usize = 60;
/// Fewer addresses that are not there tell nothing of an address manager that was not exchanged: people remove some by hand.
const TELLING: usize = 3;

/// Brings one IPManager up to date.
pub async fn reconcile(object: Arc<Guarded<IPManager>>, context: Arc<Context>) -> Result<Action, StatusError> {
    let manager = match &object.0 {
        Ok(manager) => manager,
        Err(invalid) => {
            status::unreadable::<IPManager>(&context.client, &invalid.metadata, &invalid.error).await?;
            return Ok(Action::await_change());
        }
    };
    let key = ObjectKey { namespace: manager.namespace().unwrap_or_default(), name: manager.name_any() };
    let users: usize = context.handlers.read(|h| uses(h, &key).then_some(())).len();
    let deleting = manager.metadata.deletion_timestamp.is_some();
    // What this version cannot read holds it as well; each is asked by itself, and so only where it matters.
    let unread = if deleting && users == 0 { super::unread::handlers_of_pool(&context, &key).await } else { 0 };
    let needed = users + unread > 0;
    if deleting && !needed {
        context.panels.forget_pool(&key);
    }
    if let Some(action) = polled::hold(&context.client, manager, needed).await? {
        return Ok(action);
    }
    context.panels.is_about(KIND, &key, manager);
    let turn = match Turn::take(&context.panels, KIND, &key, manager, manager.spec.poll_interval.0) {
        Ok(turn) => turn,
        Err(rest) => return Ok(rest),
    };
    let was_ready = context.panels.pool(&key).is_some_and(|p| p.ready.is_ok());
    let outcome = polled::in_time(Box::pin(probe(manager, &key, &context))).await;
    turn.taken(outcome.is_ok());
    let ready = outcome.as_ref().map(|_| ()).map_err(|p| p.message.clone());
    let mut runtime = context.panels.pool(&key).unwrap_or(PoolRuntime {
        panel: None,
        proven: false,
        polls: 0,
        ready: Err(String::new()),
        made_from: String::new(),
    });
    runtime.ready = ready;
    let turned = runtime.ready.is_ok() != was_ready;
    context.panels.set_pool(&key, runtime);
    if turned {
        for handler in context.handlers.read(|h| uses(h, &key).then(|| h.key())) {
            context.wake_handlers.wake(&handler);
        }
    }
    let what = if unread > 0 { "unreadable handler" } else { "handler" };
    let held = deleting.then(|| super::users::still_in_use(users + unread, what));
    save(manager, &context, outcome, held).await?;
    Ok(turn.next())
}

fn uses(handler: &crate::api::ProcessingHandler, key: &ObjectKey) -> bool {
    handler.metadata.namespace.as_deref() == Some(&key.namespace)
        && handler.spec.ip_management.as_ref().is_some_and(|i| i.ip_manager_ref.name == key.name)
}

/// What one probe saw.
struct Seen {
    /// Which address manager it is.
    panel: String,
    pools: Vec<Pool>,
}

/// What there is, or why that is not known.
async fn probe(manager: &IPManager, key: &ObjectKey, context: &Context) -> Result<Seen, Problem> {
    if let Some(problem) = crate::api::check::check_ipmanager(manager).into_iter().next() {
        return Err(Problem::stalled(Reason::InvalidSpec, problem.to_string()));
    }
    match manager.spec.flavor {
        Flavor::IPmanager5 => {}
        Flavor::IPmanager6 => {
            return Err(Problem::stalled(Reason::NotSupportedYet, "flavor IPmanager6 is not supported yet; use IPmanager5".into()));
        }
    }
    let made = connection(context, &key.namespace, &manager.spec.connection, 0).await?;
    let known = context.panels.pool(key).filter(|k| k.made_from == made.made_from);
    let (panel, proven, polls) = match known.and_then(|k| Some((k.panel?, k.proven, k.polls))) {
        Some(known) => known,
        None => {
            let observer = PanelObserver::new(context.metrics.clone(), key.to_string());
            let client =
                PanelClient::over(&made.settings, Arc::new(observer), context.wire.clone()).map_err(|e| problem_of_settings(&e))?;
            (Arc::new(IpManager5::new(Arc::new(client))) as Arc<dyn AddressPanel>, false, 0)
        }
    };
    let (looks, polls) = filter_look(polls);
    let mut runtime =
        PoolRuntime { panel: Some(panel.clone()), proven, polls: 0, ready: Err("not probed yet".into()), made_from: made.made_from };
    if proven && looks {
        panel.unfiltered().await.map_err(|e| problem_of(&e))?;
    }
    if !proven {
        // Kept whatever the probe says: the client remembers a refused log-in, so that the account is not locked.
        context.panels.set_pool(key, runtime.clone());
        panel.probe().await.map_err(|e| problem_of(&e))?;
    }
    let identity = identity(manager)?;
    let used = panel.addresses().await.map_err(|e| problem_of(&e))?;
    let recorded = manager.status.as_ref().and_then(|s| s.panel.as_deref());
    let exchanged = recorded.is_some_and(|was| was != identity);
    if !proven || exchanged {
        // Another user of the same address manager may see other addresses.
        let had = had(context, |handler| uses(handler, key));
        same_addresses(recorded.unwrap_or(&identity), &identity, &used, &had, exchanged)?;
    }
    if !proven {
        runtime.proven = true;
        context.panels.set_pool(key, runtime);
    } else if let Some(known) = context.panels.pool(key) {
        // Noted only now: a look that failed is made again with the next poll.
        context.panels.set_pool(key, PoolRuntime { polls, ..known });
    }
    let mut groups: BTreeMap<String, i64> = BTreeMap::new();
    for address in used {
        *groups.entry(address.group_shown.unwrap_or(address.group)).or_default() += 1;
    }
    let mut pools: Vec<Pool> =
        groups.into_iter().map(|(name, used)| Pool { name: cut(&name, SHORT), used: Some(used), free: None, total: None }).collect();
    pools.truncate(POOLS);
    Ok(Seen { panel: identity, pools })
}

/// Whether a poll looks for a filter, and how many polls there were since the last look when it has ended well.
fn filter_look(polls: usize) -> (bool, usize) {
    let polls = polls.saturating_add(1);
    if polls >= LOOK_AGAIN { (true, 0) } else { (false, polls) }
}

fn identity(manager: &IPManager) -> Result<String, Problem> {
    let id = PanelId::of_url(&manager.spec.connection.url).map_err(|e| Problem::stalled(Reason::InvalidSpec, e.to_string()))?;
    Ok(id.to_string())
}

/// Whether the address manager that a handler names is the one that the handler's orders have their addresses from. `exchanged`: it named
/// another one until now.
pub(super) async fn serves(context: &Context, key: &ObjectKey, handler: &ObjectKey, exchanged: bool) -> Result<(), Problem> {
    let had = had(context, |h| h.key() == *handler);
    let Some(panel) = context.panels.pool(key).and_then(|pool| pool.panel).filter(|_| !had.is_empty()) else { return Ok(()) };
    // Not the words of the handler's own panel.
    let not_ready = |e: PanelError| Problem::passing(Reason::IPManagerNotReady, format!("IPManager {key}: {e}"));
    let used = panel.addresses().await.map_err(not_ready)?;
    same_addresses(&format!("handler {handler}"), &format!("IPManager {key}"), &used, &had, exchanged)
}

/// The addresses that orders of these handlers got from their address manager, and not what the panel takes by itself.
fn had(context: &Context, which: impl Fn(&ProcessingHandler) -> bool) -> BTreeSet<IpAddr> {
    let theirs = |handler: &ProcessingHandler| {
        let management = handler.spec.ip_management.as_ref().filter(|m| m.allocate_by == AllocateBy::Operator && which(handler))?;
        Some((handler.key(), management.disable_ip_change))
    };
    let handlers: BTreeMap<ObjectKey, bool> = context.handlers.read(theirs).into_iter().collect();
    let of_order = |order: &DedicatedServerOrder| {
        let keeps_main = *handlers.get(&serving_handler(order)?)?;
        Some(got(order, keeps_main))
    };
    context.orders.read(of_order).into_iter().flatten().collect()
}

/// The same of one order. What came with a server that was taken over may be kept elsewhere, and so may a main address that is not changed,
/// and one that was not when the order's addresses were: whatever its handler says by now, and whether it still is the main one or not.
fn got(order: &DedicatedServerOrder, keeps_main: bool) -> Vec<IpAddr> {
    let Some(status) = order.status.as_ref().filter(|_| order.spec.adopt.is_none()) else { return Vec::new() };
    let Some(server) = &status.server else { return Vec::new() };
    // A status of a version before does not say which one was kept: it stands first.
    let main = server.main_address.iter().chain(server.addresses.first()).filter(|_| keeps_main);
    let elsewhere: Vec<&String> = server.kept_address.iter().chain(main).collect();
    // What is being given back may be gone there already.
    let certain = network::certain_addresses(status).into_iter();
    certain.filter(|address| !elsewhere.contains(address)).filter_map(|text| text.parse().ok()).collect()
}

/// Another address is believed to be the same address manager under another name when it knows most of what was taken there: given back
/// to another one, addresses would stay taken for ever, and those of others would be given back there. Not all: some are being given back,
/// or were by hand. `exchanged`: it is known to be reached in another way than before, so that also one or two addresses tell.
fn same_addresses(was: &str, now: &str, used: &[PoolAddress], had: &BTreeSet<IpAddr>, exchanged: bool) -> Result<(), Problem> {
    if had.len() < TELLING && !exchanged {
        return Ok(());
    }
    let there: BTreeSet<IpAddr> = used.iter().map(|address| address.address).collect();
    let unknown: Vec<String> = had.difference(&there).map(ToString::to_string).collect();
    if unknown.len() * 2 <= had.len() {
        return Ok(());
    }
    let message = format!(
        "orders have {} addresses from {was}, and {now} does not know {} of them, such as {}; put back the reference, the URL or the user that was there before, or move the addresses first",
        had.len(),
        unknown.len(),
        unknown[0]
    );
    Err(Problem::stalled(Reason::PanelChanged, message))
}

async fn save(manager: &IPManager, context: &Context, outcome: Result<Seen, Problem>, held: Option<String>) -> Result<(), StatusError> {
    let now = Timestamp::now();
    let generation = manager.metadata.generation.unwrap_or_default();
    let old = manager.status.clone().unwrap_or_default();
    let mut new = IPManagerStatus { observed_generation: Some(generation), ..old.clone() };
    let conditions = &mut new.conditions;
    match &outcome {
        Ok(seen) => {
            new.panel = Some(seen.panel.clone());
            new.pools.clone_from(&seen.pools);
            condition::set(conditions, ConditionType::Ready, true, Reason::Reachable.as_str(), "", generation, now);
        }
        Err(problem) => condition::set(conditions, ConditionType::Ready, false, problem.reason.as_str(), &problem.message, generation, now),
    }
    set_progress(conditions, outcome.as_ref().err(), held, generation, now);
    condition::carry_times(&old.conditions, &mut new.conditions);
    new.last_handled_reconcile_at = manager.annotations().get(RECONCILE_ANNOTATION).cloned();
    if new != old {
        tolerate(status::write(&context.client, manager, &new).await)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::samples;

    fn order(server: &Value, more: &Value) -> DedicatedServerOrder {
        let mut status = json!({"server": {
            "id": "17", "handler": "h/msk-1", "configuration": "E3", "mainAddress": "10.0.0.9", "addresses": ["10.0.0.9", "203.0.113.9"],
            "handedOverAt": "2026-01-01T00:00:00Z",
        }});
        status["server"].as_object_mut().unwrap().extend(server.as_object().unwrap().clone());
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        samples::order(&json!({ "status": status }))
    }

    #[test]
    fn a_main_address_that_was_kept_tells_nothing_of_an_address_manager_whatever_the_handler_says_since() {
        let got =
            |server: Value, keeps_main| got(&order(&server, &json!({})), keeps_main).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(got(json!({}), false), ["10.0.0.9", "203.0.113.9"]);
        assert_eq!(got(json!({}), true), ["203.0.113.9"]);
        assert_eq!(got(json!({"keptAddress": "10.0.0.9"}), false), ["203.0.113.9"]);
        assert_eq!(got(json!({"keptAddress": "10.0.0.9"}), true), ["203.0.113.9"]);
        // It is an additional one by now, or another one stands in its place.
        let swapped = json!({"mainAddress": "203.0.113.9", "addresses": ["203.0.113.9", "10.0.0.9"], "keptAddress": "10.0.0.9"});
        assert_eq!(got(swapped, false), ["203.0.113.9"]);
        let moved = json!({"mainAddress": "192.0.2.1", "addresses": ["192.0.2.1"], "keptAddress": "192.0.2.1"});
        assert!(got(moved.clone(), false).is_empty() && got(moved, true).is_empty());
        // A version before recorded another main address alone.
        assert!(got(json!({"mainAddress": "192.0.2.1", "addresses": ["10.0.0.9"]}), true).is_empty());
    }

    #[test]
    fn addresses_that_may_have_been_given_back_tell_nothing_of_an_address_manager() {
        for (step, state, told) in [
            ("ChangeAddress", "Done", 2),
            ("ChangeAddress", "Running", 1),
            ("ChangeAddress", "Failed", 1),
            ("ChangeAddress", "Pending", 1),
            ("RemoveAddresses", "Running", 0),
        ] {
            let order = order(&json!({}), &json!({"steps": [{"name": step, "state": state}]}));
            assert_eq!(got(&order, false).len(), told, "{step} {state}");
        }
    }

    #[test]
    fn an_address_manager_moves_only_with_what_orders_have() {
        let record = |a: &&str| {
            let (group, domain, note) = (String::new(), String::new(), String::new());
            PoolAddress { address: a.parse().unwrap(), group, group_shown: None, domain, note }
        };
        let used = |all: &[&str]| all.iter().map(record).collect::<Vec<_>>();
        let had = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        let check =
            |there: &[&str], theirs: &BTreeSet<IpAddr>, exchanged| same_addresses("a/ipmgr", "b/ipmgr", &used(there), theirs, exchanged);
        let two = had(&["203.0.113.9", "203.0.113.10"]);
        assert!(check(&["203.0.113.9", "203.0.113.10", "10.0.0.1"], &two, true).is_ok());
        assert!(check(&[], &BTreeSet::new(), true).is_ok(), "nobody has anything there");
        assert!(check(&["203.0.113.9"], &two, true).is_ok(), "one was just given back");
        let problem = check(&["203.0.113.8"], &two, true).unwrap_err();
        assert_eq!((problem.reason, problem.stalled), (Reason::PanelChanged, true));
        assert!(problem.message.contains("does not know 2 of them, such as 203.0.113.9"), "{}", problem.message);
    }

    #[test]
    fn a_filter_is_looked_for_with_each_sixtieth_poll_and_again_after_a_look_that_failed() {
        let mut polls = 0;
        let looks: Vec<usize> = (1..=180)
            .filter(|_| {
                let (looks, next) = filter_look(polls);
                polls = next;
                looks
            })
            .collect();
        assert_eq!(looks, [60, 120, 180]);
        // Nothing is noted of a poll that failed.
        assert!(filter_look(59).0 && !filter_look(58).0);
    }

    #[test]
    fn few_addresses_that_somebody_removed_do_not_stop_an_address_manager_that_was_not_exchanged() {
        let had = |count: u8| (1..=count).map(|n| IpAddr::from([203, 0, 113, n])).collect::<BTreeSet<IpAddr>>();
        let check = |count| same_addresses("a/ipmgr", "a/ipmgr", &[], &had(count), false);
        assert!(check(1).is_ok() && check(2).is_ok());
        let problem = check(3).unwrap_err();
        assert_eq!((problem.reason, problem.stalled), (Reason::PanelChanged, true), "another user may see other addresses");
    }
}
