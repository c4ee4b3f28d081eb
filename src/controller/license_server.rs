//! The controller of licence servers: a client, a probe, one list for all orders, counts, and who is woken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;

use crate::api::common::{ObjectKey, Time};
use crate::api::handler_status::LicenseCounts;
use crate::api::order_status::LicenseStatus;
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::panel::billmanager6::{BillManager6, calls};
use crate::panel::coremanager::client::Client as PanelClient;
use crate::panel::dialect::Dialect;
use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::license::{LicensePanel, LicenseRow, LicenseState};
use crate::provisioning::facts::HandlerState;
use crate::provisioning::license_server::{LicenseList, LicensePolicy, LicenseServer};
use crate::provisioning::licenses::ISSUED;
use crate::provisioning::reason::Reason;

use super::connection::connection;
use super::context::Context;
use super::handler::{KIND, dialect_calls, panel_identity, state_of};
use super::license_ref::recorded;
use super::license_told::{Asking, Told};
use super::metrics::PanelObserver;
use super::panels::lock;
use super::polled::{self, Turn};
use super::probed::Probed;
use super::problem::{Problem, problem_of, problem_of_settings};
use super::runtime::{put_back, still_newer};
use super::status::StatusError;
use super::stores;

#[derive(Default)]
struct Inner {
    panel: Option<Arc<dyn LicensePanel>>,
    proven: bool,
    made_from: String,
    state: Option<HandlerState>,
    list: Option<Arc<LicenseList>>,
    /// Remote ids read from forms, where the list shows none.
    remote_ids: BTreeMap<String, Told>,
    /// When this process last changed a licence of an order, by uid.
    changed: BTreeMap<String, Timestamp>,
}

/// A licence server at work.
#[derive(Default)]
pub struct LicenseRuntime(Mutex<Inner>);

impl LicenseRuntime {
    /// The panel; `None` until one was probed with success.
    #[must_use]
    pub fn panel(&self) -> Option<Arc<dyn LicensePanel>> {
        let inner = lock(&self.0);
        inner.panel.clone().filter(|_| inner.proven)
    }

    /// Notes a change to a licence of an order: older lists do not speak of it any more.
    pub fn note_change(&self, uid: &str, at: Timestamp) {
        let mut inner = lock(&self.0);
        not_to_come(&mut inner.list, at);
        inner.changed.insert(uid.to_owned(), at);
    }

    /// The complete list, each row with its remote id. Where the list shows none the form does; it is read when the row differs. One
    /// licence whose form cannot be read, or shows none either, keeps no order from the others: its row tells no remote id. Nor does that of
    /// one which is deleted. `asking`: an order that reads it to find its licences; what may have changed of those is looked at again.
    pub(super) async fn list(&self, panel: &dyn LicensePanel, asking: Option<Asking<'_>>) -> Result<LicenseList, PanelError> {
        let began = Timestamp::now();
        let mut rows = BTreeMap::new();
        let known = lock(&self.0).remote_ids.clone();
        for mut row in panel.licenses().await? {
            if row.remote_id.is_none() && row.state != LicenseState::Deleted {
                let shown = (row.name.clone(), row.address, row.expires);
                let stands = |told: &&Told| told.shown == shown && told.is_believed(began, asking);
                let remote_id = match known.get(&row.id.0).filter(stands) {
                    Some(told) => told.remote_id.clone(),
                    None => match panel.license(&row.id).await {
                        Ok(form) => {
                            if form.remote_id.is_none() {
                                tracing::warn!(license = %row.id, "neither the list nor the form shows whose licence it is");
                            }
                            // At once: a list that fails half-way through, or takes too long, goes on from here the next time.
                            let told = Told { shown, remote_id: form.remote_id.clone(), at: Timestamp::now() };
                            lock(&self.0).remote_ids.insert(row.id.0.clone(), told);
                            form.remote_id
                        }
                        Err(error) if matches!(error.class(), ErrorClass::Refused | ErrorClass::Missing) => {
                            tracing::warn!(license = %row.id, %error, "whose licence it is cannot be read");
                            rows.insert(row.id.0.clone(), row);
                            continue;
                        }
                        Err(error) => return Err(error),
                    },
                };
                row.by_form = remote_id.is_some();
                row.remote_id = remote_id;
            }
            rows.insert(row.id.0.clone(), row);
        }
        lock(&self.0).remote_ids.retain(|id, _| rows.contains_key(id));
        Ok(LicenseList { rows, began })
    }

    fn set_list(&self, list: Arc<LicenseList>) -> Option<Arc<LicenseList>> {
        let mut inner = lock(&self.0);
        let now = Timestamp::now();
        still_newer(&mut inner.changed, list.began, now);
        let before = inner.list.replace(list);
        not_to_come(&mut inner.list, now);
        before
    }

    /// Whether it can be used; `None` before this process has asked it.
    #[must_use]
    pub fn state(&self) -> Option<HandlerState> {
        lock(&self.0).state.clone()
    }

    /// What an order sees of it now.
    #[must_use]
    pub fn shown(&self, handler: &ProcessingHandler, uid: &str) -> LicenseServer {
        let mut inner = lock(&self.0);
        not_to_come(&mut inner.list, Timestamp::now());
        let unknown = || HandlerState::NotReady("it has not been probed yet".into());
        LicenseServer {
            key: handler.key(),
            state: inner.state.clone().unwrap_or_else(unknown),
            policy: LicensePolicy::new(&handler.spec),
            list: inner.list.clone(),
            changed: inner.changed.get(uid).copied(),
        }
    }

    /// True when that changed.
    fn set_state(&self, state: HandlerState) -> bool {
        let mut inner = lock(&self.0);
        let kind = |s: &HandlerState| std::mem::discriminant(s);
        let turned = inner.state.as_ref().map(kind) != Some(kind(&state));
        inner.state = Some(state);
        turned
    }
}

/// The same as of the list of a panel of servers.
fn not_to_come(list: &mut Option<Arc<LicenseList>>, now: Timestamp) {
    if let Some(list) = list
        && let Some(began) = put_back(list.began, now)
    {
        Arc::make_mut(list).began = began;
    }
}

/// All licence servers of this process.
#[derive(Default)]
pub struct LicenseServers(Mutex<BTreeMap<ObjectKey, Arc<LicenseRuntime>>>);

impl LicenseServers {
    /// A licence server; made when it is not there.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Arc<LicenseRuntime> {
        lock(&self.0).entry(key.clone()).or_default().clone()
    }

    /// Forgets a licence server.
    pub fn forget(&self, key: &ObjectKey) {
        lock(&self.0).remove(key);
    }
}

/// Brings one licence server up to date: one list serves all orders.
pub async fn reconcile(handler: &ProcessingHandler, context: &Context) -> Result<Action, StatusError> {
    let key = handler.key();
    context.panels.is_about(KIND, &key, handler);
    let cached = context.orders.all();
    let orders: Vec<_> = stores::readable(&cached).filter(|o| recorded(o).as_ref() == Some(&key)).collect();
    let named = |h: &ProcessingHandler| {
        let theirs = h.key().namespace;
        h.spec.license_server_ref.as_ref().is_some_and(|r| r.name == key.name && *r.namespace.as_ref().unwrap_or(&theirs) == key.namespace)
    };
    let (mut handlers, mut licensed) = (context.handlers.read(|h| named(h).then_some(())).len(), orders.len());
    let deleting = handler.metadata.deletion_timestamp.is_some();
    if deleting && handlers + licensed == 0 {
        // What this version cannot read holds it as well; each is asked by itself, and so only where it matters.
        handlers = super::unread::handlers_with_licenses(context, &key).await;
        licensed = super::unread::orders_with_licenses(context, &key).await;
    }
    let needed = handlers + licensed > 0;
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
    let runtime = context.panels.licenses.get(&key);
    let outcome = polled::in_time(Box::pin(poll(handler, &key, &runtime, &orders, context))).await;
    turn.taken(outcome.is_ok());
    let turned = runtime.set_state(state_of(handler, outcome.as_ref().err()));
    wake(handler, context, &orders, outcome.as_ref().ok(), turned);
    let held = deleting.then(|| format!("{handlers} handlers name it, and {licensed} orders have licences from it"));
    save(handler, context, &orders, outcome.as_ref(), held).await?;
    Ok(turn.next())
}

/// What one poll saw.
struct Seen {
    panel: String,
    before: Option<Arc<LicenseList>>,
    now: Arc<LicenseList>,
}

async fn poll(
    handler: &ProcessingHandler,
    key: &ObjectKey,
    runtime: &LicenseRuntime,
    orders: &[&DedicatedServerOrder],
    context: &Context,
) -> Result<Seen, Problem> {
    if let Some(problem) = crate::api::check::check_handler(handler).into_iter().next() {
        return Err(Problem::stalled(Reason::InvalidSpec, problem.to_string()));
    }
    let identity = panel_identity(handler, orders.len())?;
    super::namespaces::readable(context, handler).await?;
    let rate = u32::try_from(handler.spec.limits.requests_per_second).unwrap_or(0);
    let made = connection(context, &key.namespace, &handler.spec.connection, rate).await?;
    let made_from = format!("{} {:?}", made.made_from, handler.spec.dialect);
    let known = {
        let inner = lock(&runtime.0);
        inner.panel.clone().filter(|_| inner.made_from == made_from).map(|panel| (panel, inner.proven))
    };
    let (panel, proven) = match known {
        Some(known) => known,
        None => {
            let observer = PanelObserver::new(context.metrics.clone(), key.to_string());
            let client =
                PanelClient::over(&made.settings, Arc::new(observer), context.wire.clone()).map_err(|e| problem_of_settings(&e))?;
            (Arc::new(BillManager6::new(Arc::new(client), dialect(handler)?)) as Arc<dyn LicensePanel>, false)
        }
    };
    if !proven {
        // Kept whatever the probe says: the client remembers a refused log-in, so that the account is not locked.
        {
            let mut inner = lock(&runtime.0);
            (inner.panel, inner.proven, inner.made_from) = (Some(panel.clone()), false, made_from);
        }
        panel.probe().await.map_err(|e| problem_of(&e))?;
    }
    let now = Arc::new(runtime.list(panel.as_ref(), None).await.map_err(|e| problem_of(&e))?);
    if !proven {
        same_licenses(orders, &now)?;
        lock(&runtime.0).proven = true;
    }
    Ok(Seen { panel: identity, before: runtime.set_list(now.clone()), now })
}

/// Fewer licences that are not there tell nothing of whose account it is: they may have ended.
const TELLING: usize = 3;

/// Another user of the licence server may see the licences of another account: nobody's would be found there, those of deleted orders would
/// go on, and new ones be bought. Those whose ends have come may well be gone.
fn same_licenses(orders: &[&DedicatedServerOrder], now: &LicenseList) -> Result<(), Problem> {
    let licenses = orders.iter().filter_map(|o| o.status.as_ref()).flat_map(|s| &s.licenses);
    let lasts = |l: &&LicenseStatus| l.state.is_some() && l.expires_at.is_none_or(|end| end.0 > now.began);
    let had: Vec<&str> = licenses.filter(lasts).filter_map(|l| l.id.as_deref()).collect();
    if had.len() < TELLING || had.iter().any(|id| now.rows.contains_key(*id)) {
        return Ok(());
    }
    let message = format!(
        "orders have {} licences from here, and the licence server shows none of them, such as {}; put back the URL or the user that was there before (where they were deleted there, this passes with their ends)",
        had.len(),
        had[0]
    );
    Err(Problem::stalled(Reason::PanelChanged, message))
}

fn dialect(handler: &ProcessingHandler) -> Result<Dialect, Problem> {
    calls::dialect(dialect_calls(handler)?).map_err(|e| Problem::stalled(Reason::InvalidSpec, e.to_string()))
}

/// Wakes the orders that may go on: those that are not at rest, and those whose licence differs, is not listed, or ends soon.
fn wake(handler: &ProcessingHandler, context: &Context, orders: &[&DedicatedServerOrder], seen: Option<&Seen>, turned: bool) {
    if turned {
        for reference in context.handlers.read(|h| h.spec.license_server_ref.is_some().then(|| h.key())) {
            context.wake_handlers.wake(&reference);
        }
    }
    let soon =
        Time(Timestamp::now().checked_add(jiff::SignedDuration::try_from(policy_span(handler)).unwrap_or_default()).unwrap_or_default());
    for order in orders {
        let status = order.status.as_ref();
        let resting = status.is_some_and(|s| matches!(s.phase.as_deref(), Some("Active" | "Suspended")));
        let touched = |id: &str| {
            seen.is_some_and(|seen| {
                let row = seen.now.rows.get(id);
                let was = seen.before.as_ref().map(|b| b.rows.get(id));
                row.is_none_or(|r| r.state == LicenseState::Deleted) || was.is_some_and(|was| was != row)
            })
        };
        // Nobody renews a stopped one.
        let ends_soon = |l: &LicenseStatus| {
            let followed = l.state.as_deref() == Some(ISSUED) || l.answered_end.is_some();
            followed && l.expires_at.is_some_and(|at| at <= soon)
        };
        let due = status.is_some_and(|s| s.licenses.iter().any(|l| l.id.as_deref().is_some_and(touched) || ends_soon(l)));
        if turned || !resting || due {
            context.wake_orders.wake(&order.key());
        }
    }
}

fn policy_span(handler: &ProcessingHandler) -> Duration {
    LicensePolicy::new(&handler.spec).renew_before
}

async fn save(
    handler: &ProcessingHandler,
    context: &Context,
    orders: &[&DedicatedServerOrder],
    outcome: Result<&Seen, &Problem>,
    held: Option<String>,
) -> Result<(), StatusError> {
    let mut probed = Probed::new(handler, outcome.err(), "licence server");
    if let Ok(seen) = outcome {
        probed.status.panel = Some(seen.panel.clone());
        probed.status.licenses = Some(counts(handler, context, orders, &seen.now));
    }
    probed.save(context, orders, held).await
}

/// Counts and metrics. Labels are the products that the handler names, so that nobody else decides how many there are.
fn counts(handler: &ProcessingHandler, context: &Context, orders: &[&DedicatedServerOrder], now: &LicenseList) -> LicenseCounts {
    let licenses = listed(orders, now);
    let key = handler.key().to_string();
    let sold = |product: &str| handler.spec.licenses.as_ref().is_some_and(|l| l.products.contains_key(product));
    let mut shown = ends(&licenses);
    shown.retain(|product, _| sold(product));
    context.metrics.license_expiry.retain(|[handler, product]| *handler != key || shown.contains_key(product.as_str()));
    for (product, end) in shown {
        context.metrics.license_expiry.of([&key, product]).set(end.as_second());
    }
    LicenseCounts {
        total: i64::try_from(now.rows.values().filter(|r| r.state != LicenseState::Deleted).count()).unwrap_or(i64::MAX),
        of_orders: i64::try_from(licenses.len()).unwrap_or(i64::MAX),
        soonest_expiry: licenses.iter().filter(|(_, row)| running(row)).filter_map(|(_, row)| row.expires).min().map(Time::seconds),
    }
}

/// The licences of orders that the list shows, each with its row.
fn listed<'a>(orders: &[&'a DedicatedServerOrder], now: &'a LicenseList) -> Vec<(&'a LicenseStatus, &'a LicenseRow)> {
    let licenses = orders.iter().copied().filter_map(|o| o.status.as_ref()).flat_map(|s| &s.licenses);
    licenses.filter_map(|license| Some((license, now.rows.get(license.id.as_ref()?)?))).collect()
}

/// The soonest end of each product among the licences that are wanted. One that the licence server has stopped, as it may what has ended
/// and is not paid, was not stopped by us: that it is told of no more would look like a renewal.
fn ends<'a>(licenses: &[(&'a LicenseStatus, &'a LicenseRow)]) -> BTreeMap<&'a str, Timestamp> {
    let mut soonest = BTreeMap::new();
    for (license, row) in licenses {
        let stopped = row.state == LicenseState::Suspended && license.state.as_deref() == Some(ISSUED);
        if let Some(end) = row.expires.filter(|_| stopped || running(row)) {
            let entry = soonest.entry(license.product.as_str()).or_insert(end);
            *entry = (*entry).min(end);
        }
    }
    soonest
}

fn running(row: &LicenseRow) -> bool {
    !matches!(row.state, LicenseState::Suspended | LicenseState::Deleted)
}

#[cfg(test)]
mod tests;
