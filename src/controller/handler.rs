//! The handler controller: a client, a probe, the shared list and its index, counts, and the locks that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::runtime::controller::Action;

use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::handler::{IpmiErrorPolicy, Module};
use crate::api::handler_status::{ConfigurationCount, InventoryStatus};
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::panel::coremanager::client::Client as PanelClient;
use crate::panel::dcimanager5::DciManager5;
use crate::panel::dialect::Dialect;
use crate::panel::settings::PanelId;
use crate::provisioning::context::{SHORT, cut};
use crate::provisioning::facts::{HandlerState, Inventory};
use crate::provisioning::matching;
use crate::provisioning::order::Handler;
use crate::provisioning::reason::Reason;

use super::allocate_by::AllocatedBy;
use super::connection::connection;
use super::context::{self, Context};
use super::hardware;
use super::index;
use super::metrics::PanelObserver;
use super::polled::{self, Turn};
use super::probed::Probed;
use super::problem::{Problem, problem_of, problem_of_settings};
use super::runtime::{HandlerRuntime, ServerClient};
use super::serving::{self, has_something, searches};
use super::standing;
use super::status::{self, StatusError};
use super::stores::Guarded;

/// The kind, as it is counted and paced.
pub(super) const KIND: &str = "ProcessingHandler";
/// Configurations that a status shows.
const CONFIGURATIONS: usize = 50;

/// Brings one handler up to date: one list of its panel serves all its orders.
pub async fn reconcile(object: Arc<Guarded<ProcessingHandler>>, context: Arc<Context>) -> Result<Action, StatusError> {
    let handler = match &object.0 {
        Ok(handler) => handler,
        Err(invalid) => {
            status::unreadable::<ProcessingHandler>(&context.client, &invalid.metadata, &invalid.error).await?;
            return Ok(Action::await_change());
        }
    };
    if handler.spec.module == Module::BILLmanager6 {
        return super::license_server::reconcile(handler, &context).await;
    }
    let key = handler.key();
    let cached = context.orders.all();
    let named = context::orders_of(&cached, &key);
    let selecting = context::selecting(&cached, handler);
    context.panels.is_about(KIND, &key, handler);
    let runtime = context.panels.handler(&key);
    let sure = serving::holding(named.iter().chain(&selecting).copied(), &runtime, &context.cluster);
    let orders = context.served(handler, &named, &sure).await;
    // The panel is looked through for all of them; those whose namespace it does not allow hold it no more than those that name it.
    let selecting_it = context.served(handler, &selecting, &sure).await;
    let deleting = handler.metadata.deletion_timestamp.is_some();
    // One that goes takes no new orders: those that have nothing there do not hold it, and wait for another one.
    // What is claimed at this very moment the cache does not show yet.
    let claims = |order: &DedicatedServerOrder| order.metadata.uid.as_ref().is_some_and(|uid| runtime.places(|p| p.has(uid)));
    let holds = |order: &&DedicatedServerOrder| has_something(order) || claims(order);
    let holders = || orders.iter().chain(&selecting_it).copied().filter(holds).count();
    // What this version cannot read holds it as well; each is asked by itself, and so only where it matters.
    let unread = if (deleting || moves(handler)) && holders() == 0 { super::unread::orders_of(&context, handler).await } else { 0 };
    let holding = unread + if deleting { holders() } else { orders.len() };
    let needed = holding > 0;
    if deleting && !needed {
        context.panels.forget_handler(&key);
    }
    if let Some(action) = polled::hold(&context.client, handler, needed).await? {
        return Ok(action);
    }
    let turn = match Turn::take(&context.panels, KIND, &key, handler, handler.spec.poll_interval.0) {
        Ok(turn) => turn,
        Err(rest) => return Ok(rest),
    };
    runtime.note_first_spec(is_seen(handler));
    let epoch = runtime.epoch();
    let allocated = AllocatedBy::new(handler, &runtime, holders() + unread);
    let outcome = match allocated.check().and_then(|()| supported(handler, orders.len() + unread)) {
        Ok(panel) => polled::in_time(Box::pin(poll(handler, &key, panel, &runtime, &orders, &selecting, &context))).await,
        Err(problem) => Err(problem),
    };
    turn.taken(outcome.is_ok());
    let no_credentials = outcome.as_ref().err().filter(|p| p.reason == Reason::CredentialsMissing && p.stalled);
    runtime.set_credentials_missing(no_credentials.map(|p| p.message.clone()));
    // Another spec is looked at once by every order: one that rests does so for ever otherwise.
    let turned = runtime.set_state(state_of(handler, outcome.as_ref().err())) || runtime.epoch() != epoch;
    wake(&context, named.iter().chain(&selecting).copied(), outcome.as_ref().ok(), turned);
    let what = if unread > 0 { "unreadable order" } else { "order" };
    let held = deleting.then(|| super::users::still_in_use(holding, what));
    let saved = save(handler, &context, &orders, held, allocated.record(), outcome.as_ref()).await;
    // Also where the API server takes no status of it: locks would keep servers from every order for as long.
    if let Ok(seen) = &outcome
        && runtime.locks_due()
    {
        super::sweep::sweep(&context, &runtime, &seen.panel, &seen.now).await;
    }
    saved.map(|()| turn.next())
}

/// What a poll's outcome means for those who use the handler.
pub(super) fn state_of(handler: &ProcessingHandler, problem: Option<&Problem>) -> HandlerState {
    match problem {
        Some(problem) => HandlerState::NotReady(format!("{}: {}", problem.reason.as_str(), problem.message)),
        None if handler.spec.suspend => HandlerState::Suspended,
        None => HandlerState::Ready,
    }
}

/// What one poll saw.
struct Seen {
    panel: String,
    now: Arc<Inventory>,
    changed: BTreeSet<String>,
}

async fn poll(
    handler: &ProcessingHandler,
    key: &ObjectKey,
    panel_id: String,
    runtime: &HandlerRuntime,
    orders: &[&DedicatedServerOrder],
    selecting: &[&DedicatedServerOrder],
    context: &Context,
) -> Result<Seen, Problem> {
    super::namespaces::readable(context, handler).await?;
    let limits = &handler.spec.limits;
    let rate = u32::try_from(limits.requests_per_second).unwrap_or(0);
    let made = connection(context, &key.namespace, &handler.spec.connection, rate).await?;
    let pool =
        handler.spec.ip_management.as_ref().map(|i| ObjectKey { namespace: key.namespace.clone(), name: i.ip_manager_ref.name.clone() });
    let made_from = format!("{} {:?} {:?}", made.made_from, handler.spec, handler.metadata.generation);
    let (client, proven) = match runtime.client_made_from(&made_from) {
        Some(known) => known,
        None => {
            let dialect = dialect(handler)?;
            let observer = PanelObserver::new(context.metrics.clone(), key.to_string());
            let http = PanelClient::over(&made.settings, Arc::new(observer), context.wire.clone()).map_err(|e| problem_of_settings(&e))?;
            let client = ServerClient {
                policy: Handler::new(key.clone(), &handler.spec, panel_id.clone()),
                panel: Some(Arc::new(DciManager5::new(Arc::new(http), dialect))),
                pool: pool.clone(),
                login: made.settings.username.clone(),
                made_from,
                max_operations: usize::try_from(limits.max_concurrent_operations).unwrap_or(0),
                max_releases: usize::try_from(limits.max_concurrent_releases).unwrap_or(0),
            };
            runtime.set_candidate(client.clone());
            (client, false)
        }
    };
    let first = runtime.snapshot(None).client.is_none();
    let panel = client.panel().map_err(|e| problem_of(&e))?.clone();
    // A log-in of a call may have told of another level: who we are is asked afresh, since it may be mended by now.
    if !proven || !panel.is_administrator() {
        let probe = panel.probe().await.map_err(|e| problem_of(&e))?;
        if !probe.administrator {
            return Err(standing::not_administrator(&probe.login));
        }
        // Where orders are served already, those go on with what they have until all of it is looked at.
        if first {
            runtime.set_client(client.clone());
        }
    }
    let mut owners: BTreeSet<String> = orders.iter().chain(selecting).map(|o| o.spec.client.username.clone()).collect();
    owners.insert(client.login.clone());
    let before = runtime.inventory();
    let whose = index::Whose {
        owners,
        remembered: handler.status.iter().flat_map(|s| &s.clients).map(|c| c.username.clone()).collect(),
        remarked: runtime.remarked(),
        searched: orders.iter().chain(selecting).copied().any(searches),
    };
    let mut now = index::take(&panel, before.as_deref(), &whose).await.map_err(|e| problem_of(&e))?;
    standing::check(panel.as_ref(), &client.login, before.as_deref(), &now, orders).await?;
    if hardware::is_needed(handler, orders.iter().chain(selecting).copied()) {
        now.hardware = hardware::take(&panel, before.as_deref(), &now, &runtime.changed()).await;
    }
    let now = Arc::new(now);
    let changed = index::changed(before.as_deref(), &now);
    runtime.set_inventory(now.clone());
    if !changed.is_empty() {
        // Also where this poll fails after all: no later one tells.
        runtime.note_locks();
    }
    pool_ready(context, pool.as_ref())?;
    if let Some(pool) = pool.as_ref().filter(|_| client.policy.operator_allocates() && !runtime.knows_pool(&client.made_from)) {
        super::ipmanager::serves(context, pool, key, runtime.may_be_another_pool(pool)).await?;
        runtime.note_pool(&client.made_from, pool);
    }
    if !proven && !first {
        runtime.set_client(client);
    }
    Ok(Seen { panel: panel_id, now, changed })
}

/// Whether the handler's spec is one that its status tells of, and not one that was refused for another address manager or panel.
fn is_seen(handler: &ProcessingHandler) -> bool {
    let status = handler.status.as_ref();
    let stalled = status.and_then(|s| condition::find(&s.conditions, ConditionType::Stalled));
    let refused = stalled.is_some_and(|c| c.status == "True" && c.reason == Reason::PanelChanged.as_str());
    !refused && status.and_then(|s| s.observed_generation) == handler.metadata.generation
}

/// Whether the spec names another panel, or another way to take addresses, than the status has written down: neither changes while orders
/// have something there.
fn moves(handler: &ProcessingHandler) -> bool {
    let Some(status) = &handler.status else { return false };
    let panel = PanelId::of_url(&handler.spec.connection.url).ok().map(|panel| panel.to_string());
    let way = handler.spec.ip_management.as_ref().map(|management| management.allocate_by.as_str());
    let differ = |was: Option<&str>, is: Option<&str>| was.zip(is).is_some_and(|(was, is)| was != is);
    differ(status.panel.as_deref(), panel.as_deref()) || differ(status.allocate_by.as_deref(), way)
}

/// What this version does, on the panel that the handler has had since its orders exist.
fn supported(handler: &ProcessingHandler, orders: usize) -> Result<String, Problem> {
    if let Some(problem) = crate::api::check::check_handler(handler).into_iter().next() {
        return Err(Problem::stalled(Reason::InvalidSpec, problem.to_string()));
    }
    match handler.spec.module {
        Module::DCImanager5 | Module::BILLmanager6 => {}
        Module::DCImanager6 => {
            let message = format!("module {} is not supported yet; use DCImanager5", handler.spec.module.as_str());
            return Err(Problem::stalled(Reason::NotSupportedYet, message));
        }
    }
    panel_identity(handler, orders)
}

/// The identity of the panel, which stays while orders use it.
pub(super) fn panel_identity(handler: &ProcessingHandler, orders: usize) -> Result<String, Problem> {
    let panel =
        PanelId::of_url(&handler.spec.connection.url).map_err(|e| Problem::stalled(Reason::InvalidSpec, e.to_string()))?.to_string();
    let recorded = handler.status.as_ref().and_then(|s| s.panel.as_ref());
    match recorded {
        Some(was) if *was != panel && orders > 0 => {
            let message = format!(
                "{orders} orders were made at {was}, and spec.connection.url names {panel}; put it back, or create another handler"
            );
            Err(Problem::stalled(Reason::PanelChanged, message))
        }
        Some(_) | None => Ok(panel),
    }
}

fn dialect(handler: &ProcessingHandler) -> Result<Dialect, Problem> {
    Dialect::new(dialect_calls(handler)?).map_err(|e| Problem::stalled(Reason::InvalidSpec, e.to_string()))
}

/// An override: call, function, parameters.
pub(super) type Override<'a> = (&'a str, &'a str, &'a BTreeMap<String, String>);

/// The overrides of a COREmanager panel.
pub(super) fn dialect_calls(handler: &ProcessingHandler) -> Result<Vec<Override<'_>>, Problem> {
    let mut calls = Vec::new();
    for (name, call) in &handler.spec.dialect {
        let Some(func) = &call.func else {
            let module = handler.spec.module.as_str();
            let message = format!("spec.dialect.{name}: {module} takes func and params; method and path belong to REST panels");
            return Err(Problem::stalled(Reason::InvalidSpec, message));
        };
        if call.answer.is_some() || call.verify.is_some() {
            let message = format!("spec.dialect.{name}: answer and verify are not acted upon yet; remove them");
            return Err(Problem::stalled(Reason::NotSupportedYet, message));
        }
        calls.push((name.as_str(), func.as_str(), &call.params));
    }
    Ok(calls)
}

fn pool_ready(context: &Context, pool: Option<&ObjectKey>) -> Result<(), Problem> {
    let Some(key) = pool else { return Ok(()) };
    if context.ipmanagers.get(key).is_none() {
        return Err(Problem::passing(Reason::IPManagerNotFound, format!("IPManager {key} does not exist")));
    }
    match context.panels.pool(key) {
        Some(pool) => pool.ready.map_err(|why| Problem::passing(Reason::IPManagerNotReady, format!("IPManager {key}: {why}"))),
        None => Err(Problem::passing(Reason::IPManagerNotReady, format!("IPManager {key} has not been probed yet"))),
    }
}

/// Wakes the orders that may go on: those that are not at rest, and those on whose server something differs.
fn wake<'a>(context: &Context, orders: impl Iterator<Item = &'a DedicatedServerOrder>, seen: Option<&Seen>, turned: bool) {
    for order in orders {
        let status = order.status.as_ref();
        let active = status.is_some_and(|s| matches!(s.phase.as_deref(), Some("Active" | "Suspended")));
        let touched = || {
            let server = status.and_then(|s| s.server.as_ref());
            seen.is_some_and(|seen| server.is_some_and(|s| seen.changed.contains(&s.id) || !seen.now.rows.contains_key(&s.id)))
        };
        if turned || !active || touched() {
            context.wake_orders.wake(&order.key());
        }
    }
}

async fn save(
    handler: &ProcessingHandler,
    context: &Context,
    orders: &[&DedicatedServerOrder],
    held: Option<String>,
    allocated_by: Option<String>,
    outcome: Result<&Seen, &Problem>,
) -> Result<(), StatusError> {
    let problem = outcome.err();
    let mut probed = Probed::new(handler, problem, "panel");
    if handler.spec.ip_management.is_some() {
        match problem {
            Some(p) if matches!(p.reason, Reason::IPManagerNotFound | Reason::IPManagerNotReady) => {
                probed.set(ConditionType::IPManagerReady, false, p.reason, &p.message);
            }
            None => probed.set(ConditionType::IPManagerReady, true, Reason::Reachable, ""),
            Some(_) => {}
        }
    }
    match super::license_ref::readiness(context, handler).await {
        Some((ready, reason, message)) => probed.set(ConditionType::LicenseServerReady, ready, reason, &message),
        None => condition::remove(&mut probed.status.conditions, ConditionType::LicenseServerReady),
    }
    probed.status.allocate_by = allocated_by;
    if let Ok(seen) = outcome {
        let status = &mut probed.status;
        status.panel = Some(seen.panel.clone());
        status.inventory = Some(inventory(&seen.now, handler.spec.ipmi_error_policy));
        super::client_names::recall(status, orders);
        super::strays::report(context, handler, orders, &seen.panel, &seen.now, status);
    }
    probed.save(context, orders, held).await
}

/// How many servers there are and, as orders find them, how many of them are free.
fn inventory(now: &Inventory, ipmi: IpmiErrorPolicy) -> InventoryStatus {
    let given = matching::candidates_of_any_type(now, ipmi == IpmiErrorPolicy::CreateTask);
    let given: BTreeSet<&str> = given.into_iter().map(|row| row.id.0.as_str()).collect();
    let mut by: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut free = 0;
    for row in now.rows.values() {
        let is_free = given.contains(row.id.0.as_str());
        free += i64::from(is_free);
        // Ordered, allocated and waited for under each of them.
        for name in &row.names {
            let entry = by.entry(name).or_default();
            entry.0 += i64::from(is_free);
            entry.1 += 1;
        }
    }
    let mut by_configuration: Vec<ConfigurationCount> =
        by.into_iter().map(|(name, (free, total))| ConfigurationCount { configuration: cut(name, SHORT), free, total }).collect();
    by_configuration.sort_by(|a, b| (b.total, &a.configuration).cmp(&(a.total, &b.configuration)));
    by_configuration.truncate(CONFIGURATIONS);
    InventoryStatus { total: i64::try_from(now.rows.len()).unwrap_or(i64::MAX), free, by_configuration }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_counted_under_each_name_that_people_know_it_by_and_under_no_id() {
        use crate::panel::model::{FREE_DOMAIN, ServerRow};
        let row = |id: &str, hostname: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let types = [vec!["4".to_owned()], names.clone()].concat();
            (id.to_owned(), ServerRow { types, names, hostname: hostname.into(), ..ServerRow::blank(id) })
        };
        let rows = [row("1", FREE_DOMAIN, &["E5", "E3"]), row("2", "web.example.net", &["E5"])];
        let counted = inventory(&Inventory { rows: rows.into(), ..Inventory::default() }, IpmiErrorPolicy::Ignore);
        let shown: Vec<_> = counted.by_configuration.iter().map(|c| (c.configuration.as_str(), c.free, c.total)).collect();
        assert_eq!((counted.total, counted.free, shown), (2, 1, vec![("E5", 1, 2), ("E3", 1, 1)]));
    }

    /// A record that somebody cloned, and a server whose power nobody can switch: what counts as free is what orders are given.
    #[test]
    fn a_server_that_no_order_is_given_does_not_count_as_free() {
        use crate::panel::model::{FREE_DOMAIN, ServerRow};
        let row = |id: &str, mac: &str| {
            let names = vec!["E3".to_owned()];
            let (types, hostname) = (names.clone(), FREE_DOMAIN.to_owned());
            (id.to_owned(), ServerRow { types, names, hostname, mac: Some(mac.into()), ..ServerRow::blank(id) })
        };
        let rows = [row("1", "00:16:3e:00:00:01"), row("2", "00-16-3E-00-00-01"), row("3", "00:16:3e:00:00:03")];
        let mut now = Inventory { rows: rows.into(), ..Inventory::default() };
        now.rows.get_mut("3").unwrap().power.error = true;
        for (policy, free) in [(IpmiErrorPolicy::Ignore, 1), (IpmiErrorPolicy::CreateTask, 0)] {
            let counted = inventory(&now, policy);
            assert_eq!((counted.total, counted.free), (3, free), "{policy:?}");
            assert_eq!((counted.by_configuration[0].total, counted.by_configuration[0].free), (3, free), "{policy:?}");
        }
    }

    #[test]
    fn another_panel_or_another_way_to_take_addresses_is_noticed() {
        let handler = |status: &serde_json::Value| crate::api::samples::handler(&json!({"status": status}));
        let same = json!({"panel": "dci.example.net:443/dcimgr", "allocateBy": "Operator"});
        for (status, expected) in [
            (json!({}), false),
            (same, false),
            (json!({"panel": "dci.example.net:1500/dcimgr", "allocateBy": "Operator"}), true),
            (json!({"panel": "dci.example.net:443/dcimgr", "allocateBy": "Panel"}), true),
        ] {
            assert_eq!(moves(&handler(&status)), expected, "{status}");
        }
    }

    #[test]
    fn an_address_manager_that_nobody_has_seen_with_this_spec_may_be_another_one() {
        let pool = |name: &str| ObjectKey { namespace: "h".into(), name: name.into() };
        let handler = |generation: i64, observed: i64, reason: &str| {
            let stalled = json!([{"type": "Stalled", "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            let conditions = if reason.is_empty() { json!([]) } else { stalled };
            crate::api::samples::handler(&json!({
                "metadata": {"generation": generation}, "status": {"observedGeneration": observed, "conditions": conditions},
            }))
        };
        let started = |seen: bool| {
            let panels = crate::controller::panels::Panels::default();
            let runtime = panels.handler(&pool("msk-1"));
            runtime.note_first_spec(seen);
            // Whatever is written after the first poll, also where that fails.
            runtime.note_first_spec(true);
            runtime
        };
        assert!(!started(is_seen(&handler(3, 3, ""))).may_be_another_pool(&pool("main")), "the operator was only started anew");
        assert!(started(is_seen(&handler(4, 3, ""))).may_be_another_pool(&pool("main")), "edited while it was down");
        assert!(started(is_seen(&handler(4, 4, "PanelChanged"))).may_be_another_pool(&pool("main")), "refused, and then started anew");
        assert!(!started(is_seen(&handler(4, 4, "LoginRefused"))).may_be_another_pool(&pool("main")));
        let runtime = started(false);
        runtime.note_pool("spec", &pool("main"));
        assert!(!runtime.may_be_another_pool(&pool("main")) && runtime.may_be_another_pool(&pool("other")));
    }
}
