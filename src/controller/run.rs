//! The operator process: from its flags to running controllers, and to an orderly end.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use futures::{StreamExt, future};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::{NamespaceResourceScope, Resource};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::api::common::ObjectKey;
use crate::api::condition::{self, ConditionType};
use crate::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};
use crate::panel::causes::whole;
use crate::panel::coremanager::transport::Wire;
use crate::panel::denied::DeniedNetworks;
use crate::provisioning::order::selector;

use super::clients::{self, Clients};
use super::context::{Context, FirstLists, Wake};
use super::election::{self, Candidate};
use super::events::Events;
use super::fence::Fence;
use super::health::{self, Health, ListenError};
use super::locks::Locks;
use super::memory::Memory;
use super::metrics::{self, Metrics};
use super::notify::Hooks;
use super::panels::Panels;
use super::stores::{Guarded, Kind, Scope, watched};
use super::{handler, ipmanager, order, runner, task};

/// How long reconciles may go on after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(7);

/// What the process is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's own namespace: its locks are there.
    pub namespace: Option<String>,
    /// Namespaces that are watched; empty: all.
    pub watch: Vec<String>,
    /// Cluster id of markers; required when not all namespaces are watched.
    pub cluster_id: Option<String>,
    /// Where `/livez` and `/readyz` are served.
    pub health: SocketAddr,
    /// Where `/metrics` is served.
    pub metrics: SocketAddr,
    /// How long a handler, or its credentials, may be gone before a department is asked about an order that is being deleted.
    pub handler_grace: Duration,
    /// How long a closed task is kept.
    pub task_retention: Duration,
    /// The Lease by which several replicas take turns; `None`: there is only this one.
    pub leader_election: Option<String>,
    /// Networks that no panel and no receiver of webhooks is in.
    pub denied: DeniedNetworks,
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cluster.
    #[error("no Kubernetes cluster: {0}; set KUBECONFIG, or run in a Pod")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be made, or the API server does not answer as it should.
    #[error("Kubernetes: {}", whole(.0))]
    Kube(#[from] kube::Error),
    /// The same of an API server that is known by its address.
    #[error("the API server at {server}: {}", whole(.source))]
    Server {
        /// Scheme, host and port.
        server: String,
        /// What came of a request to it.
        source: kube::Error,
    },
    /// A permission is missing.
    #[error("the API server forbids {what}: {message}; install the chart's RBAC for this ServiceAccount")]
    Forbidden {
        /// What was tried.
        what: String,
        /// The server's words.
        message: String,
    },
    /// The definitions are not there.
    #[error("the API server does not know {0}; apply the CustomResourceDefinitions (dci-operator crds | kubectl apply -f -)")]
    NotInstalled(String),
    /// Namespaced mode cannot read the uid of kube-system.
    #[error(
        "--watch-namespace needs --cluster-id: a name for this cluster that never changes, since it stands in the panels' records; where an operator that watched all namespaces has made orders, the uid of kube-system"
    )]
    ClusterId,
    /// A port is busy.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Leadership was lost: the process ends, so that nothing of the old view is left.
    #[error("leadership lost")]
    LeadershipLost,
    /// Who we are, or whom we trust, was replaced, and is read at the start only.
    #[error("the API server and this process do not know each other any more: {0}; it ends, to read kubeconfig and certificates anew")]
    NotWelcome(String),
    /// A controller ended by itself: a deaf process must not look healthy.
    #[error("a controller ended unexpectedly")]
    Ended,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: Options) -> Result<(), RunError> {
    let until = terminated();
    let config = Config::infer().await?;
    run_with(config, options, until).await
}

/// SIGTERM or SIGINT, heard from now on: also where the API server hangs at the start.
fn terminated() -> impl Future<Output = ()> {
    let [term, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let heard = async |signal: std::io::Result<Signal>| match signal {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => future::pending().await,
    };
    async move {
        tokio::select! {
            () = heard(term) => {}
            () = heard(interrupt) => {}
        }
    }
}

/// What an operator has around it: in a process of its own this is made from flags and a kubeconfig, in a simulation by hand.
pub struct Surroundings {
    /// Clients of the API server.
    pub clients: Clients,
    /// The operator's own namespace.
    pub namespace: String,
    /// What this replica calls itself where replicas take turns.
    pub identity: String,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What brings requests to panels; `None`: HTTP.
    pub wire: Option<Arc<dyn Wire>>,
    /// Where health and metrics are served, in this order; `None`: nowhere.
    pub listeners: Option<(TcpListener, TcpListener)>,
}

/// Runs against this cluster until `until` is over.
pub async fn run_with(config: Config, options: Options, until: impl Future<Output = ()>) -> Result<(), RunError> {
    let server = server(&config.cluster_url);
    let metrics = Arc::new(Metrics::default());
    let clients = clients::clients(&config, &metrics)?;
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let health_listener = health::listen(options.health, "health").await?;
    let metrics_listener = health::listen(options.metrics, "metrics").await?;
    tracing::info!(health = ?health_listener.local_addr().ok(), metrics = ?metrics_listener.local_addr().ok(), "listening");
    let listeners = Some((health_listener, metrics_listener));
    let identity = format!("{}_{}", std::env::var("HOSTNAME").unwrap_or_else(|_| "dci-operator".into()), std::process::id());
    let surroundings = Surroundings { clients, namespace, identity, metrics, wire: None, listeners };
    operate(surroundings, options, until).await.map_err(|error| match error {
        RunError::Kube(source) => RunError::Server { server, source },
        other => other,
    })
}

/// Where the API server is. A URL may hold a name and a password as well: these are left out.
fn server(url: &http::Uri) -> String {
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default())
}

/// Runs in these surroundings until `until` is over.
pub async fn operate(surroundings: Surroundings, options: Options, until: impl Future<Output = ()>) -> Result<(), RunError> {
    let Surroundings { clients: Clients { api, watch: watch_client, pulse, welcome }, namespace, identity, metrics, wire, listeners } =
        surroundings;
    let scope = if options.watch.is_empty() { Scope::Cluster } else { Scope::Namespaces(options.watch.clone()) };
    tokio::pin!(until);
    let (lead, leading) = watch::channel(options.leader_election.is_none());
    let known = Arc::new(OnceLock::new());
    // Before anything is asked: an API server that is slow to answer is no reason to end the process.
    let metrics_listener = listeners.map(|(health_listener, metrics_listener)| {
        let health = Health { pulse: pulse.clone(), first_lists: known.clone(), leading: leading.clone() };
        tokio::spawn(health::serve_health(health_listener, health));
        metrics_listener
    });
    let cluster = tokio::select! {
        admitted = admitted(&api, &scope, &namespace, &options) => admitted?,
        () = &mut until => return Ok(()),
    };
    let fence = if options.leader_election.is_some() { Fence::closed() } else { Fence::default() };
    // The election's own Lease is the only thing that a replica writes which does not lead.
    let (unfenced, api) = (api.clone(), fence.around(&api));
    let (stop, stopped) = watch::channel(false);
    let (resign, resigned) = watch::channel(false);
    let mut synced = Vec::new();
    let orders = plan::<DedicatedServerOrder>(&watch_client, &scope, &mut synced);
    let handlers = plan::<ProcessingHandler>(&watch_client, &scope, &mut synced);
    let ipmanagers = plan::<IPManager>(&watch_client, &scope, &mut synced);
    let tasks = plan::<ManualTask>(&watch_client, &scope, &mut synced);
    let first_lists = FirstLists::new(synced);
    let _ = known.set(first_lists.clone());
    let context = Arc::new(Context {
        client: api.clone(),
        cluster,
        orders: orders.kind(),
        handlers: handlers.kind(),
        scope,
        ipmanagers: ipmanagers.kind(),
        tasks: tasks.kind(),
        panels: Panels::default(),
        wire,
        denied: options.denied,
        locks: Locks::new(api.clone(), &namespace),
        events: Events::start(api.clone()),
        metrics,
        wake_orders: orders.wake(),
        wake_handlers: handlers.wake(),
        wake_tasks: tasks.wake(),
        hooks: Hooks::default(),
        memory: Memory::default(),
        handler_grace: options.handler_grace,
        task_retention: options.task_retention,
        fence: fence.clone(),
        first_lists,
    });
    tokio::spawn(metrics::keeper::keep(context.clone(), pulse));
    if let Some(metrics_listener) = metrics_listener {
        tokio::spawn(health::serve_metrics(metrics_listener, context.metrics.clone()));
    }
    let mut campaign = match options.leader_election {
        Some(name) => {
            let candidate = Candidate { leases: Api::namespaced(unfenced, &namespace), name, identity };
            election::campaign(candidate, fence, lead, resigned).boxed()
        }
        None => async move {
            // The sender lives as long as the campaign: dropping it would look like lost leadership.
            let _lead = lead;
            let mut resigned = resigned;
            let _ = resigned.wait_for(|resigned| *resigned).await;
        }
        .boxed(),
    };
    let mut controllers = start(&context, orders, handlers, ipmanagers, tasks, &stopped);
    let led = leading.clone();
    let work = async {
        let mut leading = leading;
        if leading.wait_for(|l| *l).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            _ = future::select_all(controllers.iter_mut()) => {}
            () = runner::tell_what_is_awaited(&context.first_lists).then(|()| future::pending::<()>()) => {}
        }
    };
    let result = tokio::select! {
        () = &mut until => Ok(()),
        () = &mut campaign => Err(RunError::LeadershipLost),
        () = work => Err(RunError::Ended),
        why = welcome.until_worn_out() => Err(RunError::NotWelcome(why)),
    };
    stop.send_replace(true);
    if result.is_ok() {
        tracing::info!("stopping");
        // Nothing is under way at a replica that does not lead, and it has no time to begin to.
        if !*led.borrow() || drain(controllers, &mut campaign).await {
            resign.send_replace(true);
            campaign.await;
        }
    }
    result
}

/// Lets what is under way end. A leader leads until then, so that what was done at the panels is still written down. `false`: somebody
/// else may lead by now.
async fn drain(controllers: Vec<BoxFuture<'_, ()>>, campaign: &mut BoxFuture<'_, ()>) -> bool {
    tokio::select! {
        ended = tokio::time::timeout(DRAIN, future::join_all(controllers)) => {
            if ended.is_err() {
                tracing::warn!("reconciles still ran after {DRAIN:?}; what they wrote ahead is taken up at the next start");
            }
            true
        }
        () = campaign => false,
    }
}

/// The watches and wake-ups of one kind, before its controllers run.
struct Plan<K: Resource<DynamicType = ()> + 'static> {
    parts: Vec<Part<K>>,
}

struct Part<K: Resource<DynamicType = ()> + 'static> {
    namespace: Option<String>,
    stream: BoxStream<'static, Guarded<K>>,
    store: Store<Guarded<K>>,
    wake: mpsc::UnboundedSender<ObjectRef<Guarded<K>>>,
    woken: mpsc::UnboundedReceiver<ObjectRef<Guarded<K>>>,
}

fn plan<K>(client: &Client, scope: &Scope, synced: &mut Vec<(String, watch::Receiver<bool>)>) -> Plan<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut parts = Vec::new();
    for namespace in scope.parts() {
        let watched = watched::<K>(client, namespace.as_deref());
        let name = format!("{} in {}", K::plural(&()), namespace.as_deref().unwrap_or("all namespaces"));
        synced.push((name, watched.synced));
        let (wake, woken) = mpsc::unbounded_channel();
        parts.push(Part { namespace, stream: watched.stream.boxed(), store: watched.store, wake, woken });
    }
    Plan { parts }
}

impl<K> Plan<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    fn kind(&self) -> Kind<K> {
        Kind::new(self.parts.iter().map(|p| p.store.clone()).collect())
    }

    fn wake(&self) -> Wake<K> {
        Wake::new(self.parts.iter().map(|p| (p.namespace.clone(), p.wake.clone())).collect())
    }
}

/// One controller for each kind and scope part. What one kind's changes mean for another wakes that other one.
fn start(
    context: &Arc<Context>,
    orders: Plan<DedicatedServerOrder>,
    handlers: Plan<ProcessingHandler>,
    ipmanagers: Plan<IPManager>,
    tasks: Plan<ManualTask>,
    stopped: &watch::Receiver<bool>,
) -> Vec<BoxFuture<'static, ()>> {
    let mut all: Vec<BoxFuture<'static, ()>> = Vec::new();
    for part in orders.parts {
        let wakes = UnboundedReceiverStream::new(part.woken);
        let vanished = |context: &Context, key: &ObjectKey| {
            order::vanished(context, key);
            task::order_vanished(context, key);
        };
        all.push(runner::run(context.clone(), part.stream, part.store, wakes, stopped.clone(), order::reconcile, vanished).boxed());
    }
    for part in handlers.parts {
        let wakes = UnboundedReceiverStream::new(part.woken);
        let woken = context.clone();
        let mut seen = BTreeMap::new();
        let stream = part.stream.inspect(move |handler| {
            if let Ok(handler) = &handler.0
                && news(&mut seen, handler, woken.handlers.get(&handler.key()).is_some())
            {
                wake_orders_of(&woken, handler);
            }
        });
        all.push(runner::run(context.clone(), stream, part.store, wakes, stopped.clone(), handler::reconcile, |_, _| ()).boxed());
    }
    for part in ipmanagers.parts {
        let wakes = UnboundedReceiverStream::new(part.woken);
        all.push(runner::run(context.clone(), part.stream, part.store, wakes, stopped.clone(), ipmanager::reconcile, |_, _| ()).boxed());
    }
    for part in tasks.parts {
        let wakes = UnboundedReceiverStream::new(part.woken);
        let woken = context.clone();
        // A task that was deleted reaches no reconcile of its own: its order is woken, and raises it again if it is needed.
        let stream = part.stream.inspect(move |task| {
            if let Ok(task) = &task.0 {
                woken.wake_orders.wake(&task.spec.order_ref.key());
            }
        });
        all.push(runner::run(context.clone(), stream, part.store, wakes, stopped.clone(), task::reconcile, task::vanished).boxed());
    }
    all
}

/// What orders look at in a handler, or wait for.
#[derive(PartialEq, Eq)]
struct Shape {
    uid: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    going: bool,
    ready: bool,
}

impl Shape {
    fn of(handler: &ProcessingHandler) -> Self {
        let conditions = handler.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        Self {
            uid: handler.metadata.uid.clone(),
            generation: handler.metadata.generation,
            labels: handler.metadata.labels.clone(),
            going: handler.metadata.deletion_timestamp.is_some(),
            ready: condition::is_true(conditions, ConditionType::Ready),
        }
    }
}

/// Whether a handler differs in what orders wait for, or is not there any more. Its status is written at every other poll, for all the
/// other reasons.
fn news(seen: &mut BTreeMap<ObjectKey, Shape>, handler: &ProcessingHandler, there: bool) -> bool {
    let (before, shape) = (seen.remove(&handler.key()), Shape::of(handler));
    let differs = before.is_none_or(|before| before != shape);
    if there {
        seen.insert(handler.key(), shape);
    }
    differs || !there
}

/// An order may have been applied before its handler, or wait for a handler that has changed. One that is not there any more serves nobody,
/// whatever they wait for.
fn wake_orders_of(context: &Context, handler: &ProcessingHandler) {
    let key = handler.key();
    let there = context.handlers.find(&key).is_some();
    let waiting = context.orders.read(|order| {
        let for_handler = order.status.as_ref().and_then(|s| s.waiting_on.as_ref()).is_some_and(|w| w.kind == "Handler");
        let serving = super::context::serving_handler(order);
        // Labels may have come or gone: whoever selects in this namespace looks again.
        let selects = serving.is_none() && selector(order).is_some_and(|s| s.namespace == key.namespace);
        (selects || ((for_handler || !there) && serving.as_ref() == Some(&key))).then(|| order.key())
    });
    for order in &waiting {
        context.wake_orders.wake(order);
    }
}

/// The cluster id, once it is known that the API server lets this process do its work.
async fn admitted(api: &Client, scope: &Scope, namespace: &str, options: &Options) -> Result<String, RunError> {
    check_access(api, scope, namespace).await?;
    cluster_id(api, options).await
}

/// The uid of kube-system, or what the flag says.
async fn cluster_id(client: &Client, options: &Options) -> Result<String, RunError> {
    if let Some(id) = &options.cluster_id {
        return Ok(id.clone());
    }
    if !options.watch.is_empty() {
        return Err(RunError::ClusterId);
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let system = api.get_metadata("kube-system").await.map_err(|e| access("get on namespace kube-system", e))?;
    Ok(system.metadata.uid.unwrap_or_default())
}

/// Tries every list once: a missing permission or definition is told at the start, loudly, instead of being waited for.
async fn check_access(client: &Client, scope: &Scope, namespace: &str) -> Result<(), RunError> {
    for part in scope.parts() {
        try_list::<DedicatedServerOrder>(client, part.as_deref()).await?;
        try_list::<ProcessingHandler>(client, part.as_deref()).await?;
        try_list::<IPManager>(client, part.as_deref()).await?;
        try_list::<ManualTask>(client, part.as_deref()).await?;
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    leases.list_metadata(&ListParams::default().limit(1)).await.map(|_| ()).map_err(|e| access("list on leases in its own namespace", e))
}

async fn try_list<K>(client: &Client, namespace: Option<&str>) -> Result<(), RunError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let name = format!("{}.{}", K::plural(&()), K::group(&()));
    let within = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(RunError::NotInstalled(name)),
        Err(error) => Err(access(&format!("list on {name}{within}"), error)),
    }
}

fn access(what: &str, error: kube::Error) -> RunError {
    match error {
        kube::Error::Api(status) if status.code == 403 => RunError::Forbidden { what: what.into(), message: status.message },
        other => RunError::Kube(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Connect(#[source] std::io::Error);

    #[test]
    fn an_api_server_that_is_not_reached_is_told_with_its_address_and_each_cause_once() {
        let url: http::Uri = "https://admin:secret@[2001:db8::1]:6443/proxied".parse().unwrap();
        let refused = Connect(std::io::Error::other("connection refused"));
        let error = RunError::Server { server: server(&url), source: kube::Error::Service(Box::new(refused)) };
        assert_eq!(
            error.to_string(),
            "the API server at https://[2001:db8::1]:6443: ServiceError: client error (Connect): connection refused"
        );
        assert_eq!(server(&"https://kubernetes.default.svc/".parse().unwrap()), "https://kubernetes.default.svc");
    }
}
