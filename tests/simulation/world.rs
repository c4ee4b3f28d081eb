//! The two worlds, API server and panels, which outlive every process; and the process that is started, killed and started again.

use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use dci_operator::controller::clients::{Clients, Pulse};
use dci_operator::controller::metrics::Metrics;
use dci_operator::controller::run::{self, Options, RunError, Surroundings};
use dci_operator::controller::welcome::Welcome;
use dci_operator::panel::denied::DeniedNetworks;
use dci_operator::sim::{Config, Offline};
use serde_json::Value;
use tokio::sync::Notify;

use super::adversary::{Adversary, Fault};
use super::apiserver::{Answer, ApiServer};
use super::determinism::now;
use super::http::{Asked, Door};
use super::invariants::Call;
use super::panels::{PanelWire, Sent};
use super::people::{Act, People};
use super::replica::Replica;
use super::rules::Rules;

/// The operator's own namespace, the provider's with the handlers, and the clients' with the orders.
pub const SYSTEM: &str = "system";
pub const PROVIDER: &str = "hosting";
pub const SHOP: &str = "shop";

/// How long things may take once nothing goes wrong any more, in milliseconds.
const PATIENCE: u64 = 5_400_000;
/// How long nothing may be written at rest.
const REST: u64 = 120_000;

/// A request that arrives when nobody waits for it any more.
pub enum Late {
    Write(Asked),
    Call(Sent),
}

/// Everything that outlives a process.
pub struct World {
    server: Mutex<ApiServer>,
    pub panels: Offline,
    adversary: Mutex<Adversary>,
    rules: Mutex<Rules>,
    late: Mutex<Vec<(u64, Late)>>,
    trace: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    /// A change at the API server.
    pub changed: Notify,
    /// A process died.
    pub died: Notify,
    /// What somebody does at once, since an effect is about to happen.
    prompt: Mutex<Vec<Act>>,
    prompted: Notify,
    /// The processes that run.
    replicas: Mutex<Vec<Arc<Replica>>>,
    /// How many there are to be.
    pub processes: usize,
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

/// The operator at work.
type Running = Pin<Box<dyn Future<Output = Result<(), RunError>>>>;

/// One process, or the time at which another takes its place.
struct Process {
    who: Arc<Replica>,
    run: Option<Running>,
    restart: u64,
}

/// Runs all processes until one of them ends by itself: as a Pod does, it is started again then.
async fn ended(world: &World, processes: &mut [Process]) {
    std::future::poll_fn(|context| {
        for (number, process) in processes.iter_mut().enumerate() {
            if let Some(run) = &mut process.run
                && let Poll::Ready(result) = run.as_mut().poll(context)
            {
                world.tell(&format!("process {number} ended: {:?}", result.err().map(|e| e.to_string())));
                process.run = None;
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

impl World {
    pub fn new(panels: &Value, adversary: Adversary, processes: usize) -> Self {
        let config = serde_yaml::to_string(panels).unwrap();
        Self {
            server: Mutex::new(ApiServer::with(super::seeds::definitions())),
            panels: Offline::new(&Config::from_yaml(&config).unwrap()).unwrap(),
            adversary: Mutex::new(adversary),
            rules: Mutex::default(),
            late: Mutex::default(),
            trace: Mutex::default(),
            violations: Mutex::default(),
            changed: Notify::new(),
            died: Notify::new(),
            prompt: Mutex::default(),
            prompted: Notify::new(),
            replicas: Mutex::default(),
            processes,
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
        let (number, act, fault) = self.adversary(|a| {
            let number = a.effects.len();
            (number, a.acts.remove(&number), a.meet(effect))
        });
        if let Some(act) = act {
            lock(&self.prompt).push(act);
            self.prompted.notify_one();
        }
        let fate = fault.map_or_else(String::new, |fault| format!(" !! {fault:?}"));
        self.tell(&format!("#{number} {effect}{fate}"));
        fault
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
    pub fn panel_call(&self, sent: &Sent) -> Vec<u8> {
        let answer = self.panels.post(&sent.path, sent.form.as_bytes()).unwrap_or_default();
        let found = lock(&self.rules).called(self, &sent.call);
        self.broken(found);
        answer
    }

    /// A call leaves the operator.
    pub fn sent(&self, call: &Call) {
        let found = lock(&self.rules).sent(self, call);
        self.broken(found);
    }

    /// The operator gets an answer.
    pub fn answered(&self, call: &Call) {
        lock(&self.rules).invariants.answered(call, now());
    }

    fn broken(&self, found: Vec<String>) {
        for what in found {
            self.violation(what);
        }
    }

    /// Lets the invariants see what was written since they last looked, and wakes the watches.
    pub fn look(&self) {
        let found = lock(&self.rules).written(self);
        self.broken(found);
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
                Some(Late::Call(sent)) => {
                    self.tell(&format!("   late: {} {} {}", sent.path, sent.call.func, sent.call.target));
                    self.panel_call(&sent);
                }
            }
        }
    }

    fn next_arrival(&self) -> Option<u64> {
        lock(&self.late).iter().map(|(at, _)| *at).min()
    }

    /// A process that nobody has polled yet.
    fn start(self: &Arc<Self>, number: usize) -> Process {
        self.tell(&format!("process {number} starts"));
        let who = Arc::new(Replica::new(format!("operator-{number}-{}", now())));
        let mut replicas = lock(&self.replicas);
        let many = replicas.len().max(number + 1);
        replicas.resize_with(many, Arc::default);
        replicas[number] = who.clone();
        let client = || kube::Client::new(Door { world: self.clone(), who: who.clone() }, SYSTEM);
        let surroundings = Surroundings {
            clients: Clients { api: client(), watch: client(), pulse: Pulse::default(), welcome: Welcome::default() },
            namespace: SYSTEM.into(),
            identity: who.name.clone(),
            metrics: Arc::new(Metrics::default()),
            wire: Some(Arc::new(PanelWire { world: self.clone(), who: who.clone() })),
            listeners: None,
        };
        let options = Options {
            namespace: Some(SYSTEM.into()),
            watch: Vec::new(),
            cluster_id: Some("sim".into()),
            health: ([127, 0, 0, 1], 0).into(),
            metrics: ([127, 0, 0, 1], 0).into(),
            handler_grace: Duration::from_mins(10),
            task_retention: Duration::from_hours(168),
            leader_election: (self.processes > 1).then(|| "dci-operator".to_owned()),
            denied: DeniedNetworks::default(),
        };
        let run = run::operate(surroundings, options, std::future::pending());
        Process { who, run: Some(Box::pin(run)), restart: 0 }
    }

    /// A process is frozen for so long.
    pub fn freeze(&self, number: usize, span: u64) {
        if let Some(replica) = lock(&self.replicas).get(number) {
            replica.freeze(now() + span);
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    /// How long it takes until a dead process is started again.
    fn down(&self) -> u64 {
        *lock(&self.crashes) += 1;
        let down = self.adversary(|a| if a.chance(500) { a.below(500) } else { a.below(20_000) });
        self.tell(&format!("a process is dead for {down} ms"));
        down
    }

    /// Lives until everything has come to rest, a rule is broken, or patience ends.
    pub fn run(self: &Arc<Self>, people: &mut People) {
        loop {
            let runtime = Self::runtime();
            let end = runtime.block_on(self.life(people));
            // Whatever the process had in memory is lost with it.
            drop(runtime);
            match end {
                End::Over => return,
                End::Crashed => {
                    let until = now() + self.down();
                    Self::runtime().block_on(async {
                        while now() < until {
                            self.tick(people, until).await;
                        }
                    });
                }
            }
        }
    }

    /// The next thing happens that is not the operator's doing.
    async fn tick(&self, people: &mut People, until: u64) {
        let next = [Some(until), self.next_arrival(), people.next(now())].into_iter().flatten().min().unwrap_or(until);
        tokio::select! {
            biased;
            () = self.prompted.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(next.saturating_sub(now()).clamp(1, 1000))) => {}
        }
        self.arrive();
        for act in std::mem::take(&mut *lock(&self.prompt)) {
            people.at_once(self, act);
        }
        people.act(self);
    }

    async fn life(self: &Arc<Self>, people: &mut People) -> End {
        let mut processes: Vec<Process> = (0..self.processes).map(|number| self.start(number)).collect();
        let mut looked = 0;
        loop {
            let ended = {
                let tick = pin!(self.tick(people, now() + 1000));
                tokio::select! {
                    biased;
                    () = self.died.notified() => true,
                    () = ended(self, &mut processes) => true,
                    () = tick => false,
                }
            };
            if ended && self.processes == 1 {
                return End::Crashed;
            }
            for (number, process) in processes.iter_mut().enumerate() {
                if process.run.is_some() && process.who.is_dead() {
                    process.run = None;
                }
                if process.run.is_none() && process.restart == 0 {
                    process.restart = now() + self.down();
                }
                if process.run.is_none() && process.restart <= now() {
                    *process = self.start(number);
                }
            }
            if !self.violations().is_empty() {
                return End::Over;
            }
            let Some(calm) = people.calm_since().filter(|_| now() >= looked + 5000) else { continue };
            looked = now();
            match people.at_rest(self, REST) {
                Some(true) => return End::Over,
                Some(false) | None if now() > calm + PATIENCE => {
                    let unsettled = People::unsettled(self);
                    let what = if unsettled.is_empty() { "the world does not come to rest".into() } else { unsettled.join("; ") };
                    self.violation(format!("(7) not settled {PATIENCE} ms after the last fault: {what}"));
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
    /// Order ids of orders that a person gave up.
    pub fn abandoned(&self) -> Vec<String> {
        lock(&self.rules).invariants.abandoned.iter().cloned().collect()
    }

    /// Somebody changes a server's records by hand.
    pub fn by_hand(&self, server: u64) {
        lock(&self.rules).invariants.by_hand(&server.to_string(), now());
    }

    /// What was written, and asked of panels, so far.
    pub fn counts(&self) -> (u64, usize) {
        let rules = lock(&self.rules);
        (rules.writes, rules.calls)
    }
}
