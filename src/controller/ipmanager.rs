//! The IPManager controller: a client, a probe, the groups that are in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::ipmanager::{Flavor, IPManagerStatus, Pool};
use crate::api::{IPManager, RECONCILE_ANNOTATION};
use crate::panel::AddressPanel;
use crate::panel::coremanager::client::Client as PanelClient;
use crate::panel::ipmanager5::IpManager5;
use crate::provisioning::context::{SHORT, cut};
use crate::provisioning::reason::Reason;

use super::connection::connection;
use super::context::Context;
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
    let needed = users > 0;
    if manager.metadata.deletion_timestamp.is_some() && !needed {
        context.panels.forget_pool(&key);
    }
    if let Some(action) = polled::hold(&context.client, manager, needed).await? {
        return Ok(action);
    }
    let turn = match Turn::take(&context.panels, KIND, &key, manager, manager.spec.poll_interval.0) {
        Ok(turn) => turn,
        Err(rest) => return Ok(rest),
    };
    let was_ready = context.panels.pool(&key).is_some_and(|p| p.ready.is_ok());
    let outcome = probe(manager, &key, &context).await;
    turn.taken(outcome.is_ok());
    let ready = outcome.as_ref().map(|_| ()).map_err(|p| p.message.clone());
    let mut runtime = context.panels.pool(&key).unwrap_or(PoolRuntime {
        panel: None,
        proven: false,
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
    save(manager, &context, outcome, users).await?;
    Ok(turn.next())
}

fn uses(handler: &crate::api::ProcessingHandler, key: &ObjectKey) -> bool {
    handler.metadata.namespace.as_deref() == Some(&key.namespace)
        && handler.spec.ip_management.as_ref().is_some_and(|i| i.ip_manager_ref.name == key.name)
}

/// The groups, or why they are not known.
async fn probe(manager: &IPManager, key: &ObjectKey, context: &Context) -> Result<Vec<Pool>, Problem> {
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
    let (panel, proven) = match known.and_then(|k| Some((k.panel?, k.proven))) {
        Some(known) => known,
        None => {
            let observer = PanelObserver::new(context.metrics.clone(), key.to_string());
            let client =
                PanelClient::over(&made.settings, Arc::new(observer), context.wire.clone()).map_err(|e| problem_of_settings(&e))?;
            (Arc::new(IpManager5::new(Arc::new(client))) as Arc<dyn AddressPanel>, false)
        }
    };
    if !proven {
        // Kept whatever the probe says: the client remembers a refused log-in, so that the account is not locked.
        let mut runtime =
            PoolRuntime { panel: Some(panel.clone()), proven: false, ready: Err("not probed yet".into()), made_from: made.made_from };
        context.panels.set_pool(key, runtime.clone());
        panel.probe().await.map_err(|e| problem_of(&e))?;
        runtime.proven = true;
        context.panels.set_pool(key, runtime);
    }
    let mut groups: BTreeMap<String, i64> = BTreeMap::new();
    for address in panel.addresses().await.map_err(|e| problem_of(&e))? {
        *groups.entry(address.group).or_default() += 1;
    }
    let mut pools: Vec<Pool> =
        groups.into_iter().map(|(name, used)| Pool { name: cut(&name, SHORT), used: Some(used), free: None, total: None }).collect();
    pools.truncate(POOLS);
    Ok(pools)
}

async fn save(manager: &IPManager, context: &Context, outcome: Result<Vec<Pool>, Problem>, users: usize) -> Result<(), StatusError> {
    let now = Timestamp::now();
    let generation = manager.metadata.generation.unwrap_or_default();
    let old = manager.status.clone().unwrap_or_default();
    let mut new = IPManagerStatus { observed_generation: Some(generation), ..old.clone() };
    let conditions = &mut new.conditions;
    match &outcome {
        Ok(pools) => {
            new.pools.clone_from(pools);
            condition::set(conditions, ConditionType::Ready, true, Reason::Reachable.as_str(), "", generation, now);
        }
        Err(problem) => condition::set(conditions, ConditionType::Ready, false, problem.reason.as_str(), &problem.message, generation, now),
    }
    let deleting = manager.metadata.deletion_timestamp.is_some().then(|| super::users::still_in_use(users, "handler"));
    set_progress(conditions, outcome.as_ref().err(), deleting, generation, now);
    condition::carry_times(&old.conditions, &mut new.conditions);
    new.last_handled_reconcile_at = manager.annotations().get(RECONCILE_ANNOTATION).cloned();
    if new != old {
        tolerate(status::write(&context.client, manager, &new).await)?;
    }
    Ok(())
}
