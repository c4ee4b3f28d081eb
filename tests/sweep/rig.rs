//! One run: a world of its own, a proxy around its operator, and somebody who starts the operator anew when it was killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dci_operator::sim::Window;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::proxy::{Asked, Point, Proxy, Rule, Running};
use crate::support::World;
use crate::support::operator::Launch;
use crate::support::record::Record;

use super::end_state::{differences, end_state, left_over, not_as_ordered, wrong_passwords};
use super::plan::Job;
use super::rules::{Rules, follow};
use super::scenario::Life;

/// How long a condition is waited for: many instances share the machine, and nothing but this tells slow from stuck.
const PATIENCE: Duration = Duration::from_mins(5);

/// How old what was read may be when it is acted upon where nothing went wrong lately, in milliseconds: a decision makes some ten requests,
/// and many instances share the machine.
const DECISION: u64 = 10_000;

/// How long an order that has all it wants may go on writing.
const QUIET: Duration = Duration::from_mins(2);

/// What a run without faults tells.
#[derive(Clone)]
pub struct Reference {
    /// The requests while the scenario acted.
    pub points: Vec<Point>,
    /// What it ended in.
    pub end: Value,
    /// How long it acted.
    pub took: Duration,
}

/// What became of a run with a fault.
pub enum Ended {
    /// The fault was met; how long it took from there to the end of the scenario, where nothing else went wrong after it.
    Met(Option<Duration>),
    /// The request did not come up.
    NotMet,
    /// A rule was broken.
    Broken(String),
}

/// Something that goes on beside a run, and ends with it.
struct Task(JoinHandle<()>);

/// The operator is started again whenever it has ended, as a kubelet does it.
async fn keep(launch: Launch, proxy: Proxy) {
    loop {
        if let Some(mut operator) = launch.start_known(|pid| proxy.victim(pid)).await {
            operator.ended().await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One run.
pub struct Run {
    pub world: World,
    pub proxy: Running,
    pub rules: Arc<Rules>,
    keeper: Option<Task>,
    _beside: [Task; 2],
}

/// What a server is busy with lasts until the operator has seen it, as what takes minutes does: an installation that had ended before its
/// answer was missed would be begun again, which costs nothing before the hand-over, but is another end.
async fn install(record: Record, window: Window, url: String, fails: Option<(&str, &str)>) {
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let mut changes = record.changes();
    loop {
        let order = record.get("DedicatedServerOrder", "web-01").unwrap_or_default();
        let steps = order["status"]["steps"].as_array().cloned().unwrap_or_default();
        let seen = |name: &str| steps.iter().any(|step| step["name"] == name && step["state"] == "Waiting");
        for (panel, id, _) in busy(&window.state()).into_iter().filter(|(.., step)| seen(step)) {
            let well = fails != Some((panel.as_str(), id.as_str()));
            let body = json!({"panel": panel, "finish_operation": well}).to_string();
            let _ = client.post(format!("{url}/servers/{id}")).body(body).send().await;
        }
        let _ = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
    }
}

/// When a panel was last asked may be noted for ever.
fn probes(asked: &Asked) -> bool {
    let status = asked.path.split('?').next().is_some_and(|path| path.ends_with("/status"));
    status && ["/processinghandlers/", "/ipmanagers/"].iter().any(|kind| asked.path.contains(kind))
}

/// Servers that are busy, with their panels before and after them the step that waits for it.
fn busy(state: &Value) -> Vec<(String, String, &'static str)> {
    let panels = state["panels"].as_object().cloned().unwrap_or_default();
    let of = |(panel, all): (String, Value)| {
        let servers = all["servers"].as_array().cloned().unwrap_or_default();
        let busy = servers.into_iter().filter(|s| s["operation"].is_object() && s["operation"]["kind"] != "diag");
        let step = |s: &Value| if s["operation"]["kind"] == "recipe" { "RunRecipes" } else { "InstallOS" };
        busy.map(|s| (panel.clone(), s["id"].as_str().unwrap_or_default().to_owned(), step(&s))).collect::<Vec<_>>()
    };
    panels.into_iter().flat_map(of).collect()
}

impl Run {
    /// The world of a life, with a proxy in front of everything, before the operator is started.
    async fn prepare(life: Life) -> Self {
        let mut world = World::start(life.setup()).await;
        world.patience = PATIENCE;
        life.populate(&mut world).await;
        let proxy = Proxy::start(&[(&world.system, "system"), (&world.provider, "provider"), (&world.shop, "shop")]);
        proxy.kube(&world.launch.kubeconfig).await;
        for (kind, name, panel) in life.connections() {
            let url = proxy.panel(panel, world.sim.url(panel).unwrap()).await;
            let timeout = format!("{}s", super::plan::PANEL_TIMEOUT.as_secs());
            world.patch(kind, name, &json!({"spec": {"connection": {"url": url, "timeout": timeout}}})).await;
        }
        let rules = Rules::new(world.sim.window(), DECISION);
        proxy.observe(rules.clone());
        let follower = Task(tokio::spawn(follow(world.record.clone(), rules.clone())));
        let installer = install(world.record.clone(), world.sim.window(), world.sim.url("sim").unwrap().to_owned(), life.fails());
        let beside = [follower, Task(tokio::spawn(installer))];
        Self { world, proxy, rules, keeper: None, _beside: beside }
    }

    /// Starts the operator, and goes on doing so.
    pub fn start_operator(&mut self) {
        self.keeper = Some(Task(tokio::spawn(keep(self.world.launch.clone(), self.proxy.clone()))));
    }

    /// Waits until an order that is there has what it wants, and nothing is written any more.
    async fn quiet(&mut self) {
        let began = Instant::now();
        loop {
            let before = self.proxy.asked().len();
            self.world.polls(3).await;
            let written: Vec<String> =
                self.proxy.asked()[before..].iter().filter(|a| a.change && !probes(a)).map(|a| a.point.to_string()).collect();
            if written.is_empty() {
                return;
            }
            assert!(began.elapsed() < QUIET, "it goes on writing: {}", written.join(", "));
        }
    }

    /// Everything is given back once the order is gone.
    async fn given_back(&mut self) {
        let began = Instant::now();
        let leases = Api::<Lease>::namespaced(self.world.kube.clone(), &self.world.system);
        loop {
            let mut left = left_over(&self.world);
            let locks = leases.list(&ListParams::default()).await.unwrap().items;
            left.extend(locks.iter().map(|lock| format!("lock {:?}", lock.metadata.name)));
            if left.is_empty() {
                return;
            }
            assert!(began.elapsed() < QUIET, "the order is gone, and this is left: {}", left.join("; "));
            self.world.polls(1).await;
        }
    }

    /// No rule is broken, but for the one that cannot be kept where a licence was bought twice on the way.
    fn obeyed(&self, twice: bool) {
        let mut wrong = self.rules.wrong();
        wrong.retain(|what| !(twice && what.starts_with("(6) licences ")));
        wrong.extend(self.proxy.failed());
        assert!(wrong.is_empty(), "{}", wrong.join("; "));
    }

    async fn end(mut self, twice: bool) {
        self.obeyed(twice);
        // The operator first: it would notice that the world ends.
        self.keeper = None;
        self.world.end().await;
    }
}

/// A life without faults: what each scenario asks for, and what it ends in.
pub async fn reference(life: Life) -> Vec<Reference> {
    let mut run = Run::prepare(life).await;
    let mut all = Vec::new();
    for scenario in life.scenarios() {
        let from = run.proxy.count_anew();
        let began = Instant::now();
        scenario.act(&mut run).await;
        let took = began.elapsed();
        let over = run.proxy.asked().len();
        run.quiet().await;
        let asked = run.proxy.asked();
        // An order that is gone leaves something to do: what else is asked for then depends on the time.
        let after = asked[over..].iter().filter(|asked| scenario.deletes() && asked.change && !probes(asked));
        let points = asked[from..over].iter().chain(after).map(|asked| asked.point.clone()).collect();
        assert_eq!([not_as_ordered(&run.world), wrong_passwords(&run.world).await].concat(), Vec::<String>::new());
        all.push(Reference { points, end: end_state(&run.world), took });
    }
    run.given_back().await;
    run.end(false).await;
    all
}

/// A life in which some requests go wrong. What became of each is told as soon as it is known.
pub async fn life(life: Life, jobs: &[Job], references: &[Reference], tell: impl Fn(&Job, Ended)) {
    let mut run = Run::prepare(life).await;
    let twice = jobs.iter().any(Job::buys_twice);
    for (scenario, reference) in life.scenarios().iter().zip(references) {
        let of_scenario: Vec<&Job> = jobs.iter().filter(|job| job.scenario == *scenario).collect();
        let from = run.proxy.count_anew();
        for job in &of_scenario {
            run.proxy.add(Rule::at(job.point.clone(), job.fault.clone()));
        }
        scenario.act(&mut run).await;
        let done = Instant::now();
        run.quiet().await;
        // Not met until now: it is not wanted in the next one.
        run.proxy.clear();
        let met: Vec<Asked> = run.proxy.asked().drain(from..).filter(|asked| asked.fault.is_some()).collect();
        let mut wrong = differences(&reference.end, &end_state(&run.world));
        wrong.retain(|what| !(twice && what.starts_with(".panels.bill.licenses")));
        // A handler that is down for a moment is passed over, and its panel never hears of the client.
        wrong.retain(|what| !(life == Life::Elsewhere && what.starts_with(".panels.dci.users")));
        wrong.extend(not_as_ordered(&run.world).into_iter().filter(|what| !(twice && what.contains("licences k8s:"))));
        wrong.extend(wrong_passwords(&run.world).await);
        assert!(wrong.is_empty(), "the end is another one: {}", wrong.join("; "));
        run.obeyed(twice);
        let last = met.iter().map(|asked| asked.at).max();
        for job in of_scenario {
            let ended = match met.iter().find(|asked| asked.point == job.point) {
                Some(asked) => Ended::Met((Some(asked.at) == last).then(|| done.saturating_duration_since(asked.at))),
                None => Ended::NotMet,
            };
            tell(job, ended);
        }
    }
    run.given_back().await;
    run.end(twice).await;
}
