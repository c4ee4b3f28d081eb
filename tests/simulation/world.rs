//! The two worlds, API server and panels, which outlive every process; and the process that is started, killed and started again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
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
use super::apiserver::{Answer, ApiServer, HANDLERS, IPMANAGERS, Kind, ORDERS, TASKS};
use super::determinism::now;
use super::http::{Asked, Door};
use super::invariants::Call;
use super::noted::Noted;
use super::panels::{PanelWire, Sent};
use super::people::{Act, People};
use super::replica::{Replica, Staff};
use super::rules::Rules;

/// The operator's own namespace, the provider's with the handlers, and the clients' with the orders.
pub const SYSTEM: &str = "system";
pub const PROVIDER: &str = "hosting";
pub const SHOP: &str = "shop";

/// The kinds that the operator looks after.
pub(super) const RECONCILED: [Kind; 4] = [ORDERS, HANDLERS, IPMANAGERS, TASKS];

/// How long things may take once nothing goes wrong any more, in milliseconds.
const PATIENCE: u64 = 5_400_000;

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
    pub(super) rules: Mutex<Rules>,
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
    pub(super) replicas: Mutex<Vec<Arc<Replica>>>,
    /// How many there are to be, and whether they elect a leader.
    pub processes: usize,
    elect: bool,
    /// The first process goes on alone.
    alone: AtomicBool,
    pub crashes: Mutex<usize>,
    /// What the processes counted, by process that was started.
    metrics: Mutex<Vec<Arc<Metrics>>>,
    /// The panels before anything happened.
    pub at_first: Value,
    /// A panel keeps the beginning of what is written into notes.
    pub cuts_notes: bool,
    pub(super) noted: Mutex<Noted>,
    /// Since when nothing goes wrong any more, in milliseconds, and how many passes there had been until then.
    calm: Mutex<Option<(u64, u64)>>,
    /// What came up, and how often.
    met: Mutex<BTreeMap<String, u64>>,
    /// How long nothing may be written at rest, in milliseconds.
    rest: u64,
    /// What somebody was to do at an effect would have changed nothing: there is nothing to be learned from this world.
    pub idle: AtomicBool,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    pub fn new(panels: &Value, adversary: Adversary, staff: Staff) -> Self {
        let config = serde_yaml::to_string(panels).unwrap();
        let panels = Offline::new(&Config::from_yaml(&config).unwrap()).unwrap();
        let mut server = ApiServer::with(super::seeds::definitions());
        (server.kept, server.page) = (staff.kept, staff.page);
        Self {
            server: Mutex::new(server),
            at_first: panels.state(),
            cuts_notes: config.contains("notes_limit:"),
            panels,
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
            processes: staff.processes,
            elect: staff.elect,
            rest: staff.rest,
            alone: AtomicBool::new(false),
            crashes: Mutex::default(),
            metrics: Mutex::default(),
            noted: Mutex::default(),
            calm: Mutex::default(),
            met: Mutex::default(),
            idle: AtomicBool::new(false),
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
        if let Some(fault) = fault {
            self.met(fault.name());
            self.disturb(fault.lasts());
        }
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
            self.met(refusal.reason);
            self.tell(&format!("   refused: {} {}", refusal.code, refusal.message));
        }
        let counted = self.look();
        // What a panel was last asked may be noted for ever, and who leads.
        if asked.method != "GET" && !asked.is_the_leaders() && !(asked.probes() && counted == Some(0)) {
            lock(&self.rules).writes += 1;
        }
        answer
    }

    /// What people do with the API server.
    pub fn change<T>(&self, change: impl FnOnce(&mut ApiServer) -> T) -> T {
        let result = change(&mut lock(&self.server));
        let _ = self.look();
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
        lock(&self.rules).invariants.answered(call);
    }

    fn broken(&self, found: Vec<String>) {
        for what in found {
            self.violation(what);
        }
    }

    /// Lets the invariants see what was written since they last looked, and wakes the watches.
    /// How many of them say more than when a panel was last asked; `None`: nothing was written.
    pub fn look(&self) -> Option<usize> {
        let seen = lock(&self.rules).written(self);
        self.broken(seen.wrong);
        self.changed.notify_waiters();
        (seen.changes > 0).then_some(seen.counting)
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
        let metrics = Arc::new(Metrics::default());
        lock(&self.metrics).push(metrics.clone());
        let client = || kube::Client::new(Door { world: self.clone(), who: who.clone() }, SYSTEM);
        let surroundings = Surroundings {
            clients: Clients { api: client(), watch: client(), pulse: Pulse::default(), welcome: Welcome::default() },
            namespace: SYSTEM.into(),
            identity: who.name.clone(),
            metrics,
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
            leader_election: (self.processes > 1 && self.elect).then(|| "dci-operator".to_owned()),
            denied: DeniedNetworks::default(),
        };
        let run = run::operate(surroundings, options, std::future::pending());
        Process { who, run: Some(Box::pin(run)), restart: 0 }
    }

    /// Two processes work, and nobody leads.
    pub fn leaderless(&self) -> bool {
        self.processes > 1 && !self.elect
    }

    /// A process is frozen for so long.
    pub fn freeze(&self, number: usize, span: u64) {
        self.disturb(span);
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
                if number > 0 && self.alone.load(Ordering::SeqCst) {
                    process.run = None;
                    continue;
                }
                if process.run.is_none() && process.restart == 0 {
                    process.restart = now() + self.down();
                }
                if process.run.is_none() && process.restart <= now() {
                    *process = self.start(number);
                }
            }
            if !self.violations().is_empty() || self.idle.load(Ordering::SeqCst) {
                return End::Over;
            }
            let Some(calm) = people.calm_since().filter(|_| now() >= looked + 5000) else { continue };
            looked = now();
            match people.at_rest(self, self.rest) {
                Some(true) => return End::Over,
                Some(false) | None if now() > calm + PATIENCE + self.rest => {
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

    /// Something came up.
    pub fn met(&self, what: &str) {
        *lock(&self.met).entry(what.to_owned()).or_default() += 1;
    }

    /// What came up, in one line.
    pub fn all_met(&self) -> String {
        lock(&self.met).iter().map(|(what, times)| format!("{what}={times}")).collect::<Vec<_>>().join(" ")
    }

    /// How often this came up.
    pub fn times(&self, what: &str) -> u64 {
        lock(&self.met).get(what).copied().unwrap_or(0)
    }

    /// From now on there is one process.
    pub fn end_others(&self) {
        self.alone.store(true, Ordering::SeqCst);
    }

    /// From now on nothing goes wrong any more.
    pub fn calms(&self) {
        let passes = self.all_passes();
        *lock(&self.calm) = Some((now(), passes));
    }

    /// How long nothing has gone wrong, in milliseconds, and the passes since then. `None`: it still may, or two processes work of which
    /// none leads, and wake each other with all that they write.
    pub fn passes(&self) -> Option<(u64, u64)> {
        let (since, before) = lock(&self.calm).filter(|_| !self.leaderless() || self.alone.load(Ordering::SeqCst))?;
        Some((now() - since, self.all_passes() - before))
    }

    /// How many reconciles of each kind have ended, however they did.
    pub fn passes_by_kind(&self) -> [u64; 4] {
        let all = lock(&self.metrics);
        let ends = |kind: Kind| ["ok", "error", "panic", "timeout"].map(|how| [kind.kind, how]);
        RECONCILED.map(|kind| all.iter().map(|metrics| ends(kind).map(|end| metrics.reconciles.of(end).get()).iter().sum::<u64>()).sum())
    }

    fn all_passes(&self) -> u64 {
        self.passes_by_kind().iter().sum()
    }

    /// Something goes wrong, for so many milliseconds, that may hold up whoever decides.
    pub fn disturb(&self, span: u64) {
        lock(&self.rules).invariants.disturbed(now() + span);
    }

    /// Reconciles that a panic or the time ended: they are contained, and repeated, and nobody would hear of them.
    pub fn cut_short(&self) -> Vec<String> {
        let mut found = Vec::new();
        for metrics in lock(&self.metrics).iter() {
            for kind in RECONCILED {
                for how in ["panic", "timeout"] {
                    let times = metrics.reconciles.of([kind.kind, how]).get();
                    found.extend((times > 0).then(|| format!("{times} reconciles of {} ended by {how}", kind.kind)));
                }
            }
        }
        found
    }

    /// What was written, and asked of panels, so far.
    pub fn counts(&self) -> (u64, usize) {
        let rules = lock(&self.rules);
        (rules.writes, rules.calls)
    }
}
