//! The unmodified operator in one deterministic process: its reconcilers and kube's controllers over an API server and panels that
//! are data, with a clock that stands still unless everybody waits. See docs/reliability.md.

#![cfg(all(feature = "operator", feature = "sim"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test that cannot go on has failed")]

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

use std::time::Instant;

use simulation::scenario::Scenario;
use simulation::seeds::{assert_all, children, digest};
use simulation::world::World;
use simulation::{adversary, determinism};

/// What a text like `life 7` or `single 7 12 3` describes.
fn scenario(text: &str) -> Scenario {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or_else(|| panic!("{text:?} is no run"));
    let place = |n: usize| usize::try_from(number(n)).unwrap();
    match words.first() {
        Some(&"life") => Scenario::life(number(1)),
        Some(&"hole") => Scenario::hole(number(1)),
        Some(&"random") => Scenario::random(number(1)),
        Some(&"bulk") => Scenario::bulk(number(1)),
        Some(&"single") => Scenario::life(number(1)).with(&[(place(2), adversary::SINGLE[place(3)])]),
        Some(&"pair") => {
            Scenario::life(number(1)).with(&[(place(2), adversary::SINGLE[place(3)]), (place(4), adversary::SINGLE[place(5)])])
        }
        _ => panic!("{text:?} is no run"),
    }
}

/// How many of something, unless the environment says otherwise.
fn many(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn report(world: &World, trace: bool) {
    if trace {
        println!("{}", world.describe());
    }
    println!("\ntrace: {:016x}", digest(&world.trace()));
    println!("effects: {}", world.adversary(|a| a.effects.len()));
    println!("crashes: {}", world.crashes.lock().unwrap());
    println!("ended: {}", simulation::people::ended(world));
    println!("simulated: {} s", determinism::now() / 1000);
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
    simulation::seeds::watchdog();
    // A thread of its own: the stack is where it always is.
    let run = std::thread::spawn(move || {
        determinism::begin(seed);
        let world = scenario(&what).run();
        report(&world, trace);
    });
    assert!(run.join().is_ok(), "the simulation panicked");
}

/// Replays one run with its trace: `DCI_SIM_RUN='life 7'`, or `DCI_SIM_SEED=7` for `random 7`.
#[test]
#[ignore = "for one run"]
fn replay() {
    let seed = std::env::var("DCI_SIM_SEED").map(|seed| format!("random {seed}"));
    let what = std::env::var("DCI_SIM_RUN").or(seed).expect("DCI_SIM_RUN or DCI_SIM_SEED says what to run");
    let told = simulation::seeds::child(&what, true);
    println!("{}", told.output);
    assert!(told.ok);
}

#[test]
fn an_order_opens_and_closes_in_the_same_way_each_time() {
    let first = simulation::seeds::child("life 1", false);
    assert!(first.ok, "{}", first.output);
    assert!(first.value("effects").parse::<usize>().unwrap() > 40, "{}", first.output);
    assert_eq!(first.value("ended"), "");
    let again = simulation::seeds::child("life 1", false);
    assert_eq!(first.value("trace"), again.value("trace"));
    let other = simulation::seeds::child("life 2", false);
    assert_ne!(first.value("trace"), other.value("trace"));
}

#[test]
#[ignore = "make simulation: a seed does not decide the order of everything yet"]
fn a_seed_decides_all_of_a_run() {
    for run in ["random 1", "random 2", "bulk 1"] {
        let (first, again) = (simulation::seeds::child(run, false), simulation::seeds::child(run, false));
        assert!(!first.value("trace").is_empty(), "{}", first.output);
        assert_eq!(first.value("trace"), again.value("trace"), "{run}");
    }
}

#[test]
fn the_rules_see_a_claim_that_lands_when_its_order_is_gone() {
    let told = simulation::seeds::child("hole 1", false);
    assert!(!told.ok && told.value("violation").contains("carries its marker again"), "{}", told.output);
}

/// Each effect of one order's life, with some of the ways in which it can go wrong; with `DCI_SIM_ALL=1`, all of them.
#[test]
fn every_effect_may_go_wrong() {
    let began = Instant::now();
    let effects: usize = simulation::seeds::child("life 1", false).value("effects").parse().unwrap();
    let ways = adversary::SINGLE.len();
    let some = |effect: usize, fault: usize| many("DCI_SIM_ALL", 0) > 0 || (effect + fault).is_multiple_of(8);
    let runs = (0..effects).flat_map(|effect| (0..ways).filter(move |f| some(effect, *f)).map(move |f| format!("single 1 {effect} {f}")));
    assert_all(&children(runs.collect()), began);
}

/// Two faults in one life, drawn.
#[test]
#[ignore = "for `make simulation`"]
fn two_effects_may_go_wrong() {
    let began = Instant::now();
    let effects: u64 = simulation::seeds::child("life 1", false).value("effects").parse().unwrap();
    let mut dice = adversary::Adversary::new(many("DCI_SIM_FIRST", 1));
    let mut pair = || {
        let (one, other) = (dice.below(effects), dice.below(effects));
        let ways = adversary::SINGLE.len() as u64;
        format!("pair 1 {one} {} {other} {}", dice.below(ways), dice.below(ways))
    };
    let runs = (0..many("DCI_SIM_SEEDS", 1000)).map(|_| pair()).collect();
    assert_all(&children(runs), began);
}

/// Anything: `DCI_SIM_SEEDS` runs from `DCI_SIM_FIRST` on.
#[test]
#[ignore = "make simulation: a seed does not decide the order of everything yet"]
fn random_worlds_keep_the_rules() {
    let began = Instant::now();
    let first = many("DCI_SIM_FIRST", 1);
    let runs = (first..first + many("DCI_SIM_SEEDS", 40)).map(|seed| format!("random {seed}"));
    assert_all(&children(runs.collect()), began);
}

/// Many orders at few places.
#[test]
#[ignore = "make simulation: a seed does not decide the order of everything yet"]
fn many_orders_at_few_places_all_get_through() {
    let began = Instant::now();
    let first = many("DCI_SIM_FIRST", 1);
    let runs = (first..first + many("DCI_SIM_SEEDS", 60) / 15).map(|seed| format!("bulk {seed}"));
    assert_all(&children(runs.collect()), began);
}
