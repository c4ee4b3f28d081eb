//! The unmodified operator in one deterministic process: its reconcilers and kube's controllers over an API server and panels that
//! are data, with a clock that stands still unless everybody waits. See docs/reliability.md.

#![cfg(all(feature = "operator", feature = "sim"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test that cannot go on has failed")]

#[path = "commit/mod.rs"]
mod commit;
#[path = "invariants/mod.rs"]
#[allow(dead_code, reason = "shared with other tests, which feed it otherwise")]
mod invariants;
#[path = "e2e/support/kstatus.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod kstatus;
#[path = "e2e/support/objects.rs"]
mod objects;
#[path = "api_support/schema.rs"]
#[allow(dead_code, reason = "shared with the tests of the API")]
mod schema;
#[path = "simulation/mod.rs"]
mod simulation;
#[path = "tables/mod.rs"]
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use simulation::lives::{self, CURED, TWINS};
use simulation::scenario::Scenario;
use simulation::seeds::{assert_all, children, digest, met};
use simulation::world::World;
use simulation::{acts, adversary, determinism};
use tables::tell;

/// What a text describes: `wild 7` (`random 7`, and more in it), `full 1` (a life and its seed), `faults full 1 12/3 14/0` (what goes wrong
/// at its effects), `act full 1 12 delete` (what somebody does meanwhile), `with dcimanager5.behaviour.notes_limit=40 wild 7` (how a panel
/// is).
fn described(text: &str) -> Scenario {
    let words: Vec<&str> = text.split_whitespace().collect();
    let word = |n: usize| words.get(n).copied().unwrap_or_else(|| panic!("{text:?} is no run"));
    let number = |n: usize| word(n).parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no run"));
    let life = |n: usize| Scenario::named(word(n), number(n + 1)).unwrap_or_else(|| panic!("{text:?} is no run"));
    let fault = |text: &&str| {
        let (effect, fault) = text.split_once('/').unwrap_or_else(|| panic!("{text:?} is no effect and fault"));
        (effect.parse().unwrap(), adversary::SINGLE[fault.parse::<usize>().unwrap()])
    };
    match word(0) {
        "hole" => Scenario::hole(number(1)),
        "wild" => Scenario::wild(number(1)),
        "random" => Scenario::random(number(1)),
        "plain" => Scenario::plain(number(1)),
        "bulk" => Scenario::bulk(number(1)),
        "with" => described(&words[2..].join(" ")).at(word(1)),
        "faults" => life(1).with(&words[3..].iter().map(fault).collect::<Vec<_>>()),
        "act" => life(1).interrupted(usize::try_from(number(3)).unwrap(), word(4)),
        _ => life(0),
    }
}

/// How many of something, unless the environment says otherwise.
fn many(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Half of what is drawn is the same each time; the other half begins elsewhere with each commit. `DCI_SIM_FIRST` says where instead.
fn firsts() -> Vec<u64> {
    if std::env::var_os("DCI_SIM_FIRST").is_some() {
        return vec![many("DCI_SIM_FIRST", 1)];
    }
    let Some(commit) = commit::seed() else { return vec![1] };
    let first = 10_000 + commit % 1_000_000_000;
    tell(&format!("half of it from DCI_SIM_FIRST={first} on, for this commit"));
    vec![1, first]
}

/// So many seeds.
fn seeds(count: u64) -> Vec<u64> {
    let firsts = firsts();
    let each = count / firsts.len() as u64;
    let mut seeds: Vec<u64> = firsts.iter().flat_map(|first| *first..first + each).collect();
    seeds.truncate(usize::try_from(count).unwrap());
    seeds
}

fn report(world: &World, trace: bool) {
    if trace {
        println!("{}", world.describe());
    }
    println!("\ntrace: {:016x}", digest(&world.trace()));
    println!("effects: {}", world.adversary(|a| a.effects.len()));
    println!("writes: {}", world.adversary(|a| a.writes()));
    println!("crashes: {}", world.crashes.lock().unwrap());
    println!("ended: {}", simulation::people::ended(world));
    println!("simulated: {} s", determinism::now() / 1000);
    println!("passes: {}", world.passes().map_or(0, |(_, passes)| passes));
    println!("met: {}", world.all_met());
    println!("unmet: {}", world.adversary(|a| a.unmet()).join(" "));
    println!("idle: {}", world.idle.load(Ordering::SeqCst));
    for violation in world.violations() {
        println!("violation: {violation}");
    }
    println!("violations: {}", world.violations().len());
}

/// One simulation; started by the others in a process of its own.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let what = std::env::var("DCI_SIM_RUN").expect("DCI_SIM_RUN says what to run");
    let trace = std::env::var("DCI_SIM_TRACE").is_ok_and(|t| t == "1");
    let seed = digest(&[what.split_whitespace().nth(1).unwrap_or_default().to_owned()]);
    if trace && std::env::var("DCI_SIM_LOG").is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    determinism::end_after(simulation::seeds::MOST);
    // A thread of its own: the stack is where it always is.
    let run = std::thread::spawn(move || {
        determinism::begin(seed);
        let world = described(&what).run();
        report(&world, trace);
    });
    assert!(run.join().is_ok(), "the simulation panicked");
}

/// Replays one run with its trace: `DCI_SIM_RUN='full 7'`, or `DCI_SIM_SEED=7` for `wild 7`.
#[test]
#[ignore = "for one run"]
fn replay() {
    let seed = std::env::var("DCI_SIM_SEED").map(|seed| format!("wild {seed}"));
    let what = std::env::var("DCI_SIM_RUN").or(seed).expect("DCI_SIM_RUN or DCI_SIM_SEED says what to run");
    let told = simulation::seeds::child(&what, true);
    println!("{}", told.output);
    assert!(told.ok);
}

/// All there is, or a sample that fits a test.
fn all() -> bool {
    many("DCI_SIM_ALL", 0) > 0
}

/// How many effects a life has when nothing goes wrong.
fn effects(life: &str) -> usize {
    effects_and_writes(life).0
}

/// The same, and which of them are writes to the API server.
fn effects_and_writes(life: &str) -> (usize, Vec<usize>) {
    let told = simulation::seeds::child(&format!("{life} 1"), false);
    assert!(told.ok, "{life}: {}", told.output);
    let writes = told.value("writes").split_whitespace().map(|number| number.parse().unwrap()).collect();
    (told.value("effects").parse().unwrap(), writes)
}

#[test]
fn each_life_comes_to_its_end() {
    for life in lives::LIVES.into_iter().chain([TWINS, CURED]) {
        let told = simulation::seeds::child(&format!("{life} 1"), false);
        assert!(told.ok, "{life}: {}", told.output);
        assert_eq!(told.value("ended"), if life == CURED { "web=Active" } else { "" }, "{life}: how it ends");
        assert!(told.value("effects").parse::<usize>().unwrap() > 8, "{life}: {}", told.output);
        let met = met(&[(life.to_owned(), told)]);
        let missing: Vec<&&str> = lives::subject(life).iter().filter(|what| !met.contains_key(**what)).collect();
        assert!(missing.is_empty(), "{life}: what it is there for has not come up: {missing:?} of {met:?}");
    }
}

#[test]
fn a_seed_decides_all_of_a_run() {
    let began = Instant::now();
    let times = if all() { 20 } else { 2 };
    let worlds = (1..=6).map(|seed| format!("wild {seed}")).chain(["bulk 1", "full 1"].map(str::to_owned));
    let runs: Vec<String> = worlds.flat_map(|world| std::iter::repeat_n(world, times)).collect();
    let mut traces: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (run, told) in children(runs) {
        assert!(!told.value("trace").is_empty(), "{run}: {}", told.output);
        traces.entry(run).or_default().insert(told.value("trace").to_owned());
    }
    tell(&format!("{} worlds, {times} times each, in {:.1} s", traces.len(), began.elapsed().as_secs_f64()));
    let differ: Vec<&String> = traces.iter().filter(|(_, seen)| seen.len() > 1).map(|(run, _)| run).collect();
    assert!(differ.is_empty(), "not the same each time: {differ:?}");
    let different: BTreeSet<&BTreeSet<String>> = traces.values().collect();
    assert_eq!(different.len(), traces.len(), "other seeds, other runs");
}

#[test]
fn the_rules_see_a_claim_that_lands_when_its_order_is_gone() {
    let told = simulation::seeds::child("hole 1", false);
    assert!(!told.ok && told.value("violation").contains("carries its marker again"), "{}", told.output);
}

/// An order that stalled until its handler is changed looks at the change until a look of its came to an end, whatever is refused meanwhile.
#[test]
fn a_cured_handler_is_noticed_whichever_write_fails_then() {
    let began = Instant::now();
    let busy = adversary::SINGLE.iter().position(|fault| *fault == adversary::Fault::Refused).unwrap();
    // Later ones come when the order goes on already.
    let runs: Vec<String> = (0..effects("cured").min(16)).map(|effect| format!("faults cured 1 {effect}/{busy}")).collect();
    let told = children(runs);
    assert_all(&told, began);
    for (run, told) in &told {
        assert_eq!(told.value("ended"), "web=Active", "{run}: {}", told.output);
    }
}

/// A panel that says that it replaced the main address, and does it some seconds later.
#[test]
fn a_main_address_that_is_replaced_later_hinders_no_life() {
    let began = Instant::now();
    let runs = lives::LIVES.into_iter().map(|life| format!("with dcimanager5.behaviour.main_ip_replace=later {life} 1"));
    let told = children(runs.collect());
    assert_all(&told, began);
    for (run, told) in &told {
        assert_eq!(told.value("ended"), "", "{run}: something is left");
    }
}

/// What has gone wrong before: see docs/reliability.md.
#[test]
fn what_went_wrong_once_does_not_go_wrong_again() {
    let began = Instant::now();
    let runs = [
        // Orders that were only looked at kept others from places, which said so, and then that they had been looked at, for ever.
        "plain 340",
        "plain 542",
        "plain 1806",
        // A call whose answer was lost was left to a department that had been asked about something else.
        "plain 1821",
        // The lock of an order that was gone stayed: on a server that its client kept, and where the sweep had been cut short, or its process had died.
        "faults adopt 1 14/4",
        "faults adopt 1 15/0",
        "faults failover 1 75/2",
        "faults failover 1 76/6 45/5",
        // The same where the last answers were lost, and the order vanished from the cache before another pass saw it go.
        "faults adopt 1 19/4 14/5 20/5",
        "plain 124",
        // A parking address stayed taken: the list that the claim was found by showed nothing.
        "random 331375824",
        // A main address that somebody changed before the installation was asked for again and again.
        "plain 35",
        // An IPManager was refused for not knowing an address that had just been given back.
        "faults life 1 44/6",
        // The same while a client's addresses became fewer, and the handler was suspended just then.
        "act full 1 47 handler-suspended",
        // A server was deleted at the panel before anybody read back that its parking address was replaced: that stayed taken.
        "act life 1 19 server",
        // A claim whose marker the panel cut short was not undone after a crash: its place was nobody else's, for ever.
        "random 20",
        "random 713391616",
        // A server that was still coming on counted as off, and was released running.
        "random 916747303",
        // Orders that select handlers forgot that a panel cuts markers whenever another order tried it: they claimed in turn, for ever.
        "random 800241",
        // A department gave an order up, and was not told of the parking address that had been replaced and was still taken.
        "random 293310379",
        // A task and an order that was not there woke each other, without an end.
        "act life 1 5 task-by-hand",
    ];
    let told = children(runs.map(str::to_owned).to_vec());
    assert_all(&told, began);
    // A fault whose effect does not come any more shows nothing: the run needs another number.
    let unmet: Vec<String> =
        told.iter().filter(|(_, t)| !t.value("unmet").is_empty()).map(|(run, t)| format!("{run}: {}", t.value("unmet"))).collect();
    assert!(unmet.is_empty(), "planned, and not met: {unmet:?}");
}

/// Each effect of each life goes wrong in each way.
#[test]
fn every_effect_may_go_wrong() {
    let began = Instant::now();
    let mut runs = Vec::new();
    let anywhere = adversary::SINGLE.len() - adversary::OF_THE_API_SERVER;
    for life in lives::LIVES {
        let (effects, writes) = effects_and_writes(life);
        let ways = (0..effects).flat_map(|effect| (0..anywhere).map(move |fault| (effect, fault)));
        let of_writes = writes.into_iter().flat_map(|effect| (anywhere..adversary::SINGLE.len()).map(move |fault| (effect, fault)));
        runs.extend(ways.chain(of_writes).map(|(effect, fault)| format!("faults {life} 1 {effect}/{fault}")));
    }
    sample(&mut runs, 30);
    assert_all(&children(runs), began);
}

/// Somebody does something at each effect of a life.
#[test]
fn anybody_may_act_at_every_effect() {
    let began = Instant::now();
    let mut runs = Vec::new();
    for life in lives::LIVES {
        let acts = acts::acts(life);
        for effect in 0..effects(life) {
            runs.extend(acts.iter().map(|act| format!("act {life} 1 {effect} {act}")));
        }
    }
    sample(&mut runs, 40);
    let told = children(runs);
    // What would have changed nothing is no run: nobody's power can be switched off while there is no server.
    let (idle, acted): (Vec<_>, Vec<_>) = told.into_iter().partition(|(_, told)| told.ok && told.value("idle") == "true");
    tell(&format!("{} acts would have changed nothing", idle.len()));
    assert!(acted.len() >= 20, "{} acts changed anything", acted.len());
    assert_all(&acted, began);
}

/// Crashes before and after each pair of effects of one life, in order; what comes after a crash is a few effects longer.
#[test]
fn two_crashes_in_every_order() {
    let began = Instant::now();
    let most = effects("life") + 6;
    let crashes = || 0..adversary::CRASHES;
    let pairs = (0..most).flat_map(|one| (one + 1..most).map(move |other| (one, other)));
    let mut runs: Vec<String> = pairs
        .flat_map(|(one, other)| crashes().flat_map(move |a| crashes().map(move |b| format!("faults life 1 {one}/{a} {other}/{b}"))))
        .collect();
    tell(&format!("{} ordered pairs of crashes", runs.len()));
    sample(&mut runs, 20);
    assert_all(&children(runs), began);
}

/// Two and three faults of any kind in any life, drawn.
#[test]
fn several_effects_may_go_wrong() {
    let began = Instant::now();
    let lives = lives::LIVES.map(|life| (life, effects(life) as u64));
    let count = if all() { many("DCI_SIM_SEEDS", 1000) } else { 10 };
    let mut runs = Vec::new();
    for seed in seeds(count) {
        let mut dice = adversary::Adversary::new(seed);
        let (life, effects) = lives[usize::try_from(dice.below(lives.len() as u64)).unwrap()];
        let mut fault = || format!("{}/{}", dice.below(effects + 5), dice.below(adversary::SINGLE.len() as u64));
        let faults = (0..if seed % 2 == 0 { 2 } else { 3 }).map(|_| fault()).collect::<Vec<_>>().join(" ");
        runs.push(format!("faults {life} 1 {faults}"));
    }
    assert_all(&children(runs), began);
}

/// What must come up in some of a hundred wild worlds: what never happens is never tested.
const SOMETIMES: [&str; 66] = [
    "phase-Pending",
    "phase-Allocating",
    "phase-Preparing",
    "phase-AwaitingTask",
    "phase-Active",
    "phase-Suspended",
    "phase-Failed",
    "phase-Deleting",
    "AlreadyExists",
    "Conflict",
    "expired",
    "crash-before",
    "crash-after",
    "crash-late",
    "unreachable",
    "lost",
    "answer-lost",
    "late",
    "refused",
    "slow",
    "answer-late",
    "twice",
    "conflict-before",
    "conflict-after",
    "too-many",
    "page",
    "page-expired",
    "act-order",
    "act-delete",
    "act-edit",
    "act-server",
    "act-address",
    "act-amiss",
    "act-api-down",
    "act-panel-down",
    "act-freeze",
    "act-clock",
    "act-alone",
    "act-outage",
    "act-leader-frozen",
    "act-leader-deposed",
    "act-handler-edited",
    "act-handler-anew",
    "act-address-manager-anew",
    "act-secret-lost",
    "act-secret-changed",
    "act-license",
    "act-user",
    "act-policy",
    "act-protection",
    "act-taken-out",
    "act-restored",
    "list-amiss",
    "task-Assembly",
    "task-Procurement",
    "task-StopServer",
    "task-FailedOperation",
    "licence-Issued",
    "answer-Done",
    "answer-Abandon",
    "answer-stop",
    "answer-refused",
    "stalled-MarkerTruncated",
    "stalled-MainAddressNotReplaced",
    "stalled-OwnerChanged",
    "abandoned",
];

/// Anything: `DCI_SIM_SEEDS` runs from `DCI_SIM_FIRST` on.
#[test]
fn random_worlds_keep_the_rules() {
    let began = Instant::now();
    let seeds = seeds(many("DCI_SIM_SEEDS", 104));
    let many = seeds.len();
    let told = children(seeds.into_iter().map(|seed| format!("wild {seed}")).collect());
    assert_all(&told, began);
    let met = met(&told);
    tell(&format!("what came up: {met:?}"));
    // A few worlds say nothing of what is rare.
    let missing: Vec<&str> = SOMETIMES.into_iter().filter(|what| many >= 100 && !met.contains_key(*what)).collect();
    assert!(missing.is_empty(), "in {many} worlds this has never come up: {missing:?}");
}

/// Many orders at few places.
#[test]
fn many_orders_at_few_places_all_get_through() {
    let began = Instant::now();
    let runs = seeds(many("DCI_SIM_SEEDS", 60) / 15).into_iter().map(|seed| format!("bulk {seed}"));
    assert_all(&children(runs.collect()), began);
}

/// All, where all are asked for; else so many of them, drawn.
fn sample(runs: &mut Vec<String>, most: usize) {
    tell(&format!("{} runs there are", runs.len()));
    if all() {
        return;
    }
    let firsts = firsts();
    let mut left = std::mem::take(runs);
    for first in &firsts {
        let mut dice = adversary::Adversary::new(*first);
        for _ in 0..most / firsts.len() {
            if !left.is_empty() {
                runs.push(left.swap_remove(usize::try_from(dice.below(left.len() as u64)).unwrap()));
            }
        }
    }
}
