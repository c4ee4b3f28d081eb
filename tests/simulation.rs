//! The unmodified operator in one deterministic process: its reconcilers and kube's controllers over an API server and panels that
//! are data, with a clock that stands still unless everybody waits. See docs/reliability.md.

#![cfg(all(feature = "operator", feature = "sim"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test that cannot go on has failed")]

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
        Some(&"single") => Scenario::life(number(1)).with(&[(place(2), adversary::SINGLE[place(3)])]),
        _ => panic!("{text:?} is no run"),
    }
}

fn report(world: &World, trace: bool) {
    if trace {
        println!("{}", world.describe());
    }
    println!("\ntrace: {:016x}", digest(&world.trace()));
    println!("effects: {}", world.adversary(|a| a.effects.len()));
    println!("crashes: {}", world.crashes.lock().unwrap());
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
    let seed = digest(&[what.split_whitespace().take(2).collect::<Vec<_>>().join(" ")]);
    if trace && std::env::var("DCI_SIM_LOG").is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    // A thread of its own: the stack is where it always is.
    let run = std::thread::spawn(move || {
        determinism::begin(seed);
        let world = scenario(&what).run();
        report(&world, trace);
    });
    assert!(run.join().is_ok(), "the simulation panicked");
}

/// Replays one run with its trace: `DCI_SIM_RUN='life 7'`.
#[test]
#[ignore = "for one run"]
fn replay() {
    let what = std::env::var("DCI_SIM_RUN").expect("DCI_SIM_RUN says what to run");
    let told = simulation::seeds::child(&what, true);
    println!("{}", told.output);
    assert!(told.ok);
}

#[test]
fn an_order_opens_and_closes_in_the_same_way_each_time() {
    let first = simulation::seeds::child("life 1", false);
    assert!(first.ok, "{}", first.output);
    assert!(first.value("effects").parse::<usize>().unwrap() > 10, "{}", first.output);
    let again = simulation::seeds::child("life 1", false);
    assert_eq!(first.value("trace"), again.value("trace"));
    let other = simulation::seeds::child("life 2", false);
    assert_ne!(first.value("trace"), other.value("trace"));
}

#[test]
fn every_effect_may_go_wrong_in_every_way() {
    let began = Instant::now();
    let effects: usize = simulation::seeds::child("life 1", false).value("effects").parse().unwrap();
    let runs = (0..effects).flat_map(|effect| (0..adversary::SINGLE.len()).map(move |fault| format!("single 1 {effect} {fault}")));
    let told = children(runs.collect());
    assert_all(&told, began);
}
