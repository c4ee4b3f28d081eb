//! A proxy between the operator and all that it talks to: the API server on one side, panels on the others. It knows each request
//! by a name that is the same in every run, and lets it go wrong in a chosen way; events of watches can be held, lost, doubled.

mod fault;
mod forward;
mod frames;
mod point;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use axum::body::{Body, Bytes};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use fault::{Fault, Rule};
pub use frames::{Events, OnEvent};
pub use point::Point;

use forward::{Cut, Upstream};
use frames::Gate;
use point::Counter;

/// The side of the API server.
pub const KUBE: &str = "kube";

/// One request that came by.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its name.
    pub point: Point,
    /// Whether it asks for a change.
    pub change: bool,
    /// Whether it is a watch.
    pub watch: bool,
    /// Path at the API server, or function and target at a panel; as they are, with the names of this run.
    pub path: String,
    /// What was sent: the body at the API server, the fields at a panel, without what logs in.
    pub sent: Value,
    /// When it came.
    pub at: Instant,
    /// The fault that it met.
    pub fault: Option<Fault>,
    /// The status that the other side gave, once it gave one.
    pub status: Option<u16>,
}

/// A request as those see it who are told of each one while it is on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    /// `kube`, or the panel's name.
    pub side: String,
    /// Process id of the operator that sent it.
    pub who: u32,
    /// Whether it asks for a change.
    pub change: bool,
    /// When it came.
    pub at: Instant,
    /// What was sent.
    pub body: Bytes,
    /// What goes wrong with it.
    pub fault: Option<Fault>,
}

/// Somebody who is told of each request while it is on its way, in the order in which things happen.
pub trait Observer: Send + Sync {
    /// It has left the operator.
    fn sent(&self, letter: &Letter);
    /// The other side has done what was asked; the operator does not know yet. Watches are not told of.
    fn applied(&self, letter: &Letter, status: u16, answer: &[u8]);
    /// The operator gets the answer as it is.
    fn answered(&self, letter: &Letter, answer: &[u8]);
}

/// What all connections of one proxy share.
struct Shared {
    counter: Counter,
    asked: Mutex<Vec<Asked>>,
    rules: Mutex<Vec<Rule>>,
    down: Mutex<Vec<String>>,
    victim: Mutex<Option<u32>>,
    /// The last one that was killed here.
    killed: Mutex<Option<u32>>,
    /// Faults that could not be had.
    failed: Mutex<Vec<String>>,
    observer: Mutex<Option<Arc<dyn Observer>>>,
    gate: Gate,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    changed: tokio::sync::watch::Sender<u64>,
}

/// A running proxy. What it has started ends with the last copy of it.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

/// One listening address: what is behind it.
struct Side {
    name: String,
    upstream: Upstream,
}

/// Ends the listeners, which hold what is shared, when nobody has the proxy any more.
pub struct Running(Proxy);

impl std::ops::Deref for Running {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in self.0.0.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl Proxy {
    /// A proxy with no side yet. `names` are those of this run and what stands for them in the names of requests: namespaces, above all.
    pub fn start(names: &[(&str, &str)]) -> Running {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Running(Self(Arc::new(Shared {
            counter: Counter::new(names),
            asked: Mutex::default(),
            rules: Mutex::default(),
            down: Mutex::default(),
            victim: Mutex::default(),
            killed: Mutex::default(),
            failed: Mutex::default(),
            observer: Mutex::default(),
            gate: Gate::default(),
            tasks: Mutex::default(),
            changed: tokio::sync::watch::Sender::new(0),
        })))
    }

    /// Listens for an operator with this identity in front of the API server that the identity's kubeconfig names, and rewrites the
    /// kubeconfig in place: from now on it leads here. The token passes through.
    pub async fn kube(&self, kubeconfig: &Path) -> SocketAddr {
        let upstream = Upstream::kube(kubeconfig).await;
        let address = self.listen(KUBE, upstream).await;
        let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
        let name = config["clusters"][0]["name"].clone();
        config["clusters"] = json!([{"name": name, "cluster": {"server": format!("http://{address}")}}]);
        std::fs::write(kubeconfig, serde_yaml::to_string(&config).unwrap()).unwrap();
        address
    }

    /// The same, but leaves the identity's kubeconfig as it is, and writes another one beside it.
    pub async fn kube_beside(&self, kubeconfig: &Path, suffix: &str) -> PathBuf {
        let copy = kubeconfig.with_extension(format!("{suffix}.kubeconfig"));
        std::fs::copy(kubeconfig, &copy).unwrap();
        self.kube(&copy).await;
        copy
    }

    /// Listens in front of an API server without TLS.
    #[cfg(test)]
    async fn kube_at(&self, base: &str) -> String {
        format!("http://{}", self.listen(KUBE, Upstream::panel(&format!("{base}/"))).await)
    }

    /// Listens in front of a panel at this address, and tells the address that leads here.
    pub async fn panel(&self, name: &str, url: &str) -> String {
        let address = self.listen(name, Upstream::panel(url)).await;
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        format!("http://{address}/{path}")
    }

    async fn listen(&self, name: &str, upstream: Upstream) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let side = Arc::new(Side { name: name.to_owned(), upstream });
        let task = tokio::spawn(accept(self.clone(), listener, side));
        self.0.tasks.lock().unwrap().push(task);
        address
    }

    /// Lets requests go wrong from now on.
    pub fn add(&self, rule: Rule) {
        self.0.rules.lock().unwrap().push(rule);
    }

    /// Nothing goes wrong any more, but events that are held stay so.
    pub fn clear(&self) {
        self.0.rules.lock().unwrap().clear();
        self.0.down.lock().unwrap().clear();
    }

    /// One side takes no requests at all, and its watches end; or takes them again.
    pub fn down(&self, side: &str, down: bool) {
        let mut all = self.0.down.lock().unwrap();
        all.retain(|name| name != side);
        if down {
            all.push(side.to_owned());
            if side == KUBE {
                self.0.gate.cut(&Events::all());
            }
        }
    }

    /// From now on requests are counted anew: the names of what happens next do not depend on what happened before. The number of
    /// requests so far.
    pub fn count_anew(&self) -> usize {
        self.0.counter.reset();
        self.0.asked.lock().unwrap().len()
    }

    /// The process that `Fault::Kill` is for.
    pub fn victim(&self, pid: u32) {
        *self.0.victim.lock().unwrap() = Some(pid);
    }

    /// From now on this one is told of every request.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        *self.0.observer.lock().unwrap() = Some(observer);
    }

    fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.0.observer.lock().unwrap().clone()
    }

    /// Every request so far, in the order in which they came.
    pub fn asked(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap().clone()
    }

    /// Whether any request met a fault.
    pub fn met(&self) -> bool {
        self.0.asked.lock().unwrap().iter().any(|asked| asked.fault.is_some())
    }

    /// Tells of every request, and of every answer.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// What happens to events of watches; see `OnEvent`. The number is for `release`.
    pub fn on_events(&self, events: Events, what: OnEvent) -> u64 {
        self.0.gate.add(events, what)
    }

    /// Sends on what a rule holds, oldest first, and ends the rule. How many events that were.
    pub fn release(&self, rule: u64) -> usize {
        self.0.gate.release(rule)
    }

    /// Ends a rule; what it holds is lost.
    pub fn forget(&self, rule: u64) -> usize {
        self.0.gate.forget(rule)
    }

    /// How many events have met a rule.
    pub fn met_by(&self, rule: u64) -> usize {
        self.0.gate.hits(rule)
    }

    /// Every event that came from the API server, whatever became of it.
    pub fn events(&self, events: &Events) -> Vec<Value> {
        self.0.gate.seen(events)
    }

    /// Sends an event into all watches that stand for its kind and namespace: an old one once more, say. How many watches got it.
    pub fn inject(&self, event: &Value) -> usize {
        self.0.gate.inject(event)
    }

    /// Breaks off the watches that stand for these. How many there were.
    pub fn cut_watches(&self, events: &Events) -> usize {
        self.0.gate.cut(events)
    }

    /// How many watches stand.
    pub fn watches(&self, events: &Events) -> usize {
        self.0.gate.standing(events)
    }

    fn is_down(&self, side: &str) -> bool {
        self.0.down.lock().unwrap().iter().any(|name| name == side)
    }

    /// Puts a request on record and finds the fault that it meets.
    fn arrived(&self, mut asked: Asked) -> (usize, Option<Fault>) {
        let fault = self.0.rules.lock().unwrap().iter_mut().find_map(|rule| rule.meets(&asked));
        asked.fault.clone_from(&fault);
        let mut all = self.0.asked.lock().unwrap();
        all.push(asked);
        let index = all.len() - 1;
        drop(all);
        self.0.changed.send_modify(|count| *count += 1);
        (index, fault)
    }

    fn answered(&self, index: usize, status: u16) {
        self.0.asked.lock().unwrap()[index].status = Some(status);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// SIGKILL for the victim, after this request. That there is none, or none any more, is on record: such a run shows nothing.
    fn kill(&self, index: usize) {
        let victim = *self.0.victim.lock().unwrap();
        let mut last = self.0.killed.lock().unwrap();
        // Two of its requests were on their way: this one met nothing.
        if victim.is_some() && victim == *last {
            self.0.asked.lock().unwrap()[index].fault = None;
            return;
        }
        let killed = victim.map(|pid| std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status());
        let what = match killed {
            Some(Ok(status)) if status.success() => {
                *last = victim;
                return;
            }
            Some(result) => format!("process {victim:?} was not killed: {result:?}"),
            None => "nobody was there to be killed".to_owned(),
        };
        self.0.failed.lock().unwrap().push(what);
    }

    /// Faults that could not be had.
    pub fn failed(&self) -> Vec<String> {
        self.0.failed.lock().unwrap().clone()
    }
}

/// One client for all requests to panels, and one for each API server would be enough; each proxy has its own, so that a
/// runtime that ends takes its connections with it.
fn http(roots: Vec<reqwest::Certificate>, insecure: bool) -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().tls_certs_only(roots).tls_danger_accept_invalid_certs(insecure).no_proxy().build().unwrap()
}

impl Upstream {
    /// The API server of a kubeconfig.
    async fn kube(path: &Path) -> Self {
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let roots = config.root_cert.unwrap_or_default();
        let roots = roots.iter().map(|der| reqwest::Certificate::from_der(der).unwrap()).collect();
        let base = config.cluster_url.to_string();
        Self { base: base.trim_end_matches('/').to_owned(), http: http(roots, config.accept_invalid_certs) }
    }

    fn panel(url: &str) -> Self {
        let base: Vec<&str> = url.splitn(4, '/').take(3).collect();
        Self { base: base.join("/"), http: http(Vec::new(), false) }
    }
}

/// Takes connections until the proxy ends.
async fn accept(proxy: Proxy, listener: TcpListener, side: Arc<Side>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                if proxy.is_down(&side.name) {
                    continue;
                }
                let _ = socket.set_nodelay(true);
                let (proxy, side) = (proxy.clone(), side.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| take(proxy.clone(), side.clone(), request));
                    // An error is a connection that was cut, on purpose or by the other side.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request.
async fn take(proxy: Proxy, side: Arc<Side>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(Body::new(body), usize::MAX).await.map_err(|_| Cut)?;
    if proxy.is_down(&side.name) {
        return Err(Cut);
    }
    let asked = if side.name == KUBE { proxy.0.counter.kube(&head, &body) } else { proxy.0.counter.panel(&side.name, &head, &body) };
    let watch = asked.watch.then(|| Events::of_path(&asked.path));
    let who = proxy.0.victim.lock().unwrap().unwrap_or_default();
    let (change, at) = (asked.change, asked.at);
    let (index, fault) = proxy.arrived(asked);
    let letter = Letter { side: side.name.clone(), who, change, at, body, fault: fault.clone() };
    if let Some(observer) = proxy.observer() {
        observer.sent(&letter);
    }
    // What has begun goes on when the caller hangs up, or is killed.
    let task = tokio::spawn(forward::deal(proxy, side, forward::Call { index, head, letter, watch }, fault));
    task.await.map_err(|_| Cut)?
}
