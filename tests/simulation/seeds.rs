//! Runs in processes of their own: one simulation each, with the same addresses, clock and randomness every time.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a run told.
#[derive(Clone, Debug)]
pub struct Told {
    pub ok: bool,
    pub output: String,
}

impl Told {
    /// A line `name: value` of the output.
    pub fn value(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.output.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
    }
}

/// One number for a text.
pub fn digest(lines: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    hasher.finish()
}

/// For how many seconds one run may compute.
pub const MOST: u64 = 120;

/// Why a run has failed.
fn why(told: &Told) -> String {
    let violation = told.output.lines().find(|l| l.starts_with("violation: "));
    let panic = told.output.lines().find(|l| l.contains("panicked at"));
    violation.or(panic).unwrap_or("it did not come to its end, perhaps within its time").to_owned()
}

/// Where the definitions of our kinds are: to make them from the types takes a tenth of a run.
const DEFINITIONS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/simulation-definitions.json");

fn made() -> Vec<Value> {
    dci_operator::api::crds::all(dci_operator::api::crds::Target::Current).unwrap()
}

/// The definitions, as the process that started this one has left them.
pub fn definitions() -> Vec<Value> {
    std::fs::read(DEFINITIONS).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_else(made)
}

/// Leaves them for the processes that are started from here.
fn leave_definitions() {
    static LEFT: Once = Once::new();
    LEFT.call_once(|| {
        let beside = format!("{DEFINITIONS}.{}", std::process::id());
        std::fs::write(&beside, serde_json::to_vec(&made()).unwrap()).unwrap();
        std::fs::rename(&beside, DEFINITIONS).unwrap();
    });
}

/// What is freed is kept for the same thread: a tenth of a run would be the allocator's otherwise. The arenas stay as they are, since
/// a thread of the test program that shared the simulation's would move its addresses.
const ALLOCATOR: &str = "glibc.malloc.tcache_count=2000";

/// Runs one simulation in a process of its own.
pub fn child(what: &str, trace: bool) -> Told {
    leave_definitions();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    // Nothing of the environment but this, so that the process is the same wherever it is started.
    command.env_clear().env("DCI_SIM_RUN", what).env("DCI_SIM_TRACE", if trace { "1" } else { "0" }).env("RUST_BACKTRACE", "0");
    command.env("GLIBC_TUNABLES", ALLOCATOR);
    super::determinism::same_addresses(&mut command);
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A panic of a reconcile is contained by the operator, and tried again: here it has failed.
    let ok = output.status.success() && text.contains("violations: 0") && !text.contains("panicked at");
    Told { ok, output: text }
}

/// Runs many, as many at once as there are processors.
pub fn children(all: Vec<String>) -> Vec<(String, Told)> {
    // One sweep after another: each keeps all processors busy.
    static TURN: Mutex<()> = Mutex::new(());
    let many = std::thread::available_parallelism().map_or(2, usize::from);
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let queue = Mutex::new(all.into_iter());
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..many {
            scope.spawn(|| {
                loop {
                    let Some(what) = queue.lock().unwrap().next() else { return };
                    let result = child(&what, false);
                    told.lock().unwrap().push((what, result));
                }
            });
        }
    });
    told.into_inner().unwrap()
}

/// What came up in many runs, and how often.
pub fn met(told: &[(String, Told)]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (what, times) in told.iter().flat_map(|(_, t)| t.value("met").split(' ')).filter_map(|word| word.split_once('=')) {
        *all.entry(what.to_owned()).or_default() += times.parse().unwrap_or(0);
    }
    all
}

/// How many orders of a hundred may stand still in the end, where there were that many: each for a documented reason, but all of them
/// would be worlds in which nothing works any more. Panels that cut markers or keep main addresses, and hands, leave one in ten so.
const STALLED: u64 = 20;

/// What was left of orders in the end, and how often; those that stand still say why.
fn ends(told: &[(String, Told)]) -> BTreeMap<&str, u64> {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for end in told.iter().flat_map(|(_, t)| t.value("ended").split(' ')).filter_map(|order| order.split_once('=')).map(|(_, end)| end) {
        *ends.entry(end).or_default() += 1;
    }
    ends
}

/// How many orders stand still in the end, of how many that were made.
fn stalled(told: &[(String, Told)]) -> (u64, u64) {
    let still = ends(told).iter().filter(|(end, _)| end.contains('(')).map(|(_, times)| times).sum::<u64>();
    (still, met(told).get("act-order").copied().unwrap_or(0))
}

/// What many runs came to, in two lines.
fn summary(told: &[(String, Told)]) -> String {
    let number = |t: &Told, name: &str| t.value(name).split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let sum = |name: &str| told.iter().map(|(_, t)| number(t, name)).sum::<u64>();
    let unmet: usize = told.iter().map(|(_, t)| t.value("unmet").split_whitespace().count()).sum();
    let (still, made) = stalled(told);
    format!(
        "{} effects, {} crashes, {unmet} planned faults or acts whose effect did not come, {} hours of simulated time, {} passes after the last faults, {} in one world; what was left of orders in the end: {:?}; {still} of {made} that were made stand still",
        sum("effects"),
        sum("crashes"),
        sum("simulated") / 3600,
        sum("passes"),
        told.iter().map(|(_, t)| number(t, "passes")).max().unwrap_or(0),
        ends(told),
    )
}

/// Fails with one line for each run that failed, which replays it.
pub fn assert_all(told: &[(String, Told)], began: Instant) {
    let failed: Vec<&(String, Told)> = told.iter().filter(|(_, t)| !t.ok).collect();
    let took: Duration = began.elapsed();
    super::tables::tell(&format!("{} runs in {:.1} s, {} failed: {}", told.len(), took.as_secs_f64(), failed.len(), summary(told)));
    for (what, result) in failed.iter().take(20) {
        println!("{}\n  replay: DCI_SIM_RUN='{what}' cargo test --test simulation replay -- --ignored --nocapture", why(result));
    }
    assert!(failed.is_empty(), "{} of {} runs failed; replay lines are above", failed.len(), told.len());
    let (still, made) = stalled(told);
    assert!(made < 100 || still * 100 <= made * STALLED, "{still} of {made} orders stand still in the end: {:?}", ends(told));
}
