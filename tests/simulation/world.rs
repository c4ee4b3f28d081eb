//! The two worlds, API server and panels, which outlive every process; and the process that is started, killed and started again.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dci_operator::controller::clients::{Clients, Pulse};
use dci_operator::controller::metrics::Metrics;
use dci_operator::controller::run::{self, Options, Surroundings};
use dci_operator::sim::{Config, Offline};
use serde_json::Value;
use tokio::sync::Notify;

use super::adversary::{Adversary, Fault};
use super::apiserver::{Answer, ApiServer};
use super::determinism::now;
use super::http::{Asked, Door};
use super::invariants::Invariants;
use super::panels::{Call, PanelWire};
use super::people::People;

/// The operator's own namespace, the provider's with the handlers, and the clients' with the orders.
pub const SYSTEM: &str = "system";
pub const PROVIDER: &str = "hosting";
pub const SHOP: &str = "shop";

/// How long things may take once nothing goes wrong any more, in milliseconds.
const PATIENCE: u64 = 4 * 3_600_000;
/// How long nothing may be written at rest.
const REST: u64 = 120_000;

/// A request that arrives when nobody waits for it any more.
pub enum Late {
    Write(Asked),
    Call(Call),
}

/// Everything that outlives a process.
pub struct World {
    server: Mutex<ApiServer>,
    pub panels: Offline,
    adversary: Mutex<Adversary>,
    invariants: Mutex<Invariants>,
    late: Mutex<Vec<(u64, Late)>>,
    trace: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    /// A change at the API server.
    pub changed: Notify,
    dead: AtomicBool,
    died: Notify,
    pub crashes: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the life of one process ended.
enum End {
    Crashed,
    Over,
}

impl World {
    pub fn new(panels: &Value, adversary: Adversary) -> Self {
        let config = serde_yaml::to_string(panels).unwrap();
        Self {
            server: Mutex::default(),
            panels: Offline::new(&Config::from_yaml(&config).unwrap()).unwrap(),
            adversary: Mutex::new(adversary),
            invariants: Mutex::default(),
            late: Mutex::default(),
            trace: Mutex::default(),
            violations: Mutex::default(),
            changed: Notify::new(),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            crashes: Mutex::default(),
        }
    }

    pub fn server<T>(&self, look: impl FnOnce(&ApiServer) -> T) -> T {
        look(&lock(&self.server))
    }

    pub fn adversary<T>(&self, look: impl FnOnce(&mut Adversary) -> T) -> T {
        look(&mut lock(&self.adversary))
    }

    pub fn tell(&self, line: &str) {
        let now = now();
        lock(&self.trace).push(format!("{:>6}.{:03} {line}", now / 1000, now % 1000));
    }

    pub fn violation(&self, what: String) {
        self.tell(&format!("VIOLATION {what}"));
        lock(&self.violations).push(what);
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub fn trace(&self) -> Vec<String> {
        lock(&self.trace).clone()
    }

    /// What goes wrong at the next effect, which is noted.
    pub fn meet(&self, effect: &str) -> Option<Fault> {
        let (number, fault) = self.adversary(|a| (a.effects.len(), a.meet(effect)));
        let fate = fault.map_or_else(String::new, |fault| format!(" !! {fault:?}"));
        self.tell(&format!("#{number} {effect}{fate}"));
        fault
    }

    /// Never returns once the process is dead.
    pub async fn alive(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }

    /// The process ends here.
    pub async fn die<T>(&self) -> T {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
        std::future::pending().await
    }

    pub fn later(&self, after: u64, what: Late) {
        lock(&self.late).push((now() + after, what));
    }

    /// Does what a request to the API server asks for.
    pub fn apply(&self, asked: &Asked) -> Answer {
        let answer = super::http::perform(&mut lock(&self.server), asked, now());
        if let Err(refusal) = &answer
            && asked.method != "GET"
        {
            self.tell(&format!("   refused: {} {}", refusal.code, refusal.message));
        }
        self.look();
        answer
    }

    /// What people do with the API server.
    pub fn change<T>(&self, change: impl FnOnce(&mut ApiServer) -> T) -> T {
        let result = change(&mut lock(&self.server));
        self.look();
        result
    }

    /// Makes a call at a panel.
    pub fn panel_call(&self, call: &Call) -> Vec<u8> {
        let before = lock(&self.invariants).panel_before(self, call);
        let answer = self.panels.post(&call.panel, call.form.as_bytes()).unwrap_or_default();
        let found = lock(&self.invariants).panel_after(self, call, before);
        found.into_iter().for_each(|what| self.violation(what));
        answer
    }

    /// Lets the invariants see what was written since they last looked, and wakes the watches.
    pub fn look(&self) {
        let found = lock(&self.invariants).written(self);
        found.into_iter().for_each(|what| self.violation(what));
        self.changed.notify_waiters();
    }

    /// Requests that were on their way arrive.
    fn arrive(&self) {
        loop {
            let next = {
                let mut late = lock(&self.late);
                let due = late.iter().enumerate().filter(|(_, (at, _))| *at <= now()).min_by_key(|(_, (at, _))| *at).map(|(n, _)| n);
                due.map(|n| late.remove(n).1)
            };
            match next {
                None => return,
                Some(Late::Write(asked)) => {
                    self.tell("   late: a write");
                    let _ = self.apply(&asked);
                }
                Some(Late::Call(call)) => {
                    self.tell(&format!("   late: {} {} {}", call.panel, call.func, call.target));
                    self.panel_call(&call);
                }
            }
        }
    }

    fn next_arrival(&self) -> Option<u64> {
        lock(&self.late).iter().map(|(at, _)| *at).min()
    }

    fn surroundings(self: &Arc<Self>) -> Surroundings {
        let client = || kube::Client::new(Door(self.clone()), SYSTEM);
        Surroundings {
            clients: Clients { api: client(), watch: client(), pulse: Pulse::default() },
            namespace: SYSTEM.into(),
            metrics: Arc::new(Metrics::default()),
            wire: Some(Arc::new(PanelWire(self.clone()))),
            listeners: None,
        }
    }

    /// Lives until everything has come to rest, a rule is broken, or patience ends.
    pub fn run(self: &Arc<Self>, people: &mut People) {
        loop {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let end = runtime.block_on(self.life(people));
            drop(runtime);
            match end {
                End::Over => return,
                End::Crashed => {
                    *lock(&self.crashes) += 1;
                    let down = self.adversary(|a| if a.chance(500) { a.below(500) } else { a.below(20_000) });
                    self.tell(&format!("the process is dead for {down} ms"));
                    self.dead.store(false, Ordering::SeqCst);
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
                    runtime.block_on(self.pass(people, now() + down));
                }
            }
        }
    }

    /// Time passes without an operator.
    async fn pass(&self, people: &mut People, until: u64) {
        while now() < until {
            self.tick(people, until).await;
        }
    }

    /// The next thing happens that is not the operator's doing.
    async fn tick(&self, people: &mut People, until: u64) {
        let next = [Some(until), self.next_arrival(), people.next(now())].into_iter().flatten().min().unwrap_or(until);
        tokio::time::sleep(Duration::from_millis(next.saturating_sub(now()).clamp(1, 1000))).await;
        self.arrive();
        people.act(self);
    }

    async fn life(self: &Arc<Self>, people: &mut People) -> End {
        self.tell("the process starts");
        let options = Options {
            namespace: Some(SYSTEM.into()),
            watch: Vec::new(),
            cluster_id: Some("sim".into()),
            health: ([127, 0, 0, 1], 0).into(),
            metrics: ([127, 0, 0, 1], 0).into(),
            handler_grace: Duration::from_mins(10),
            leader_elect: false,
        };
        let mut looked = 0;
        let mut operator = pin!(run::operate(self.surroundings(), options, std::future::pending()));
        loop {
            let ended = {
                let tick = pin!(self.tick(people, now() + 1000));
                tokio::select! {
                    biased;
                    () = self.died.notified() => return End::Crashed,
                    result = &mut operator => Some(result),
                    () = tick => None,
                }
            };
            if let Some(result) = ended {
                // As a Pod does: it ends, and is started again.
                self.tell(&format!("the process ended: {:?}", result.err().map(|e| e.to_string())));
                return End::Crashed;
            }
            if !self.violations().is_empty() {
                return End::Over;
            }
            let Some(calm) = people.calm_since().filter(|_| now() >= looked + 5000) else { continue };
            looked = now();
            match people.at_rest(self, REST) {
                Some(true) => return End::Over,
                Some(false) | None if now() > calm + PATIENCE => {
                    let unsettled = people.unsettled(self);
                    let what = if unsettled.is_empty() { "the world does not come to rest".into() } else { unsettled.join("; ") };
                    self.violation(format!("not settled {PATIENCE} ms after the last fault: {what}"));
                    return End::Over;
                }
                Some(false) | None => {}
            }
        }
    }

    /// For those who look for the cause.
    pub fn describe(&self) -> String {
        let mut text = self.trace().join("\n");
        for object in self.server(|s| s.objects.values().filter(|o| o["kind"] == "DedicatedServerOrder").cloned().collect::<Vec<_>>()) {
            let _ = write!(text, "\n--- {}", serde_yaml::to_string(&object).unwrap_or_default());
        }
        text
    }
}

impl World {
    /// Somebody changes a server's records by hand.
    pub fn by_hand(&self, server: u64) {
        lock(&self.invariants).hands.insert(server.to_string(), now());
    }

    /// What was written, and asked of panels, so far.
    pub fn counts(&self) -> (u64, usize) {
        let invariants = lock(&self.invariants);
        (invariants.writes, invariants.calls)
    }
}
