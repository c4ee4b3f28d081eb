//! The allocation protocol as a model, all of whose states are looked at (`docs/reliability.md`, design section 4).
//!
//! Two orders, two servers, two replicas of the operator, the API server, the panel, a person, a network that loses, delays
//! and doubles requests, and crashes. The model says what `provisioning/{allocation,inflight,closing,installation}.rs` and
//! `controller/{order,locks,sweep,status,perform}.rs` do, as far as servers are won, kept and lost by it. It leaves out:
//!
//! - user, addresses, domains, power on and hand-over: these repeat what install (destructive, not an edit) and release
//!   (destructive, an edit) do, or can be repeated; tasks and retries by count; `find_own` after a restore without status;
//! - the age of the shared list: which free server is tried first is open, so that every order of an old list is covered,
//!   and whether one is free is read from its form, as in the code;
//! - versions of locks: one that a sweep has found idle goes here also where its order has taken it again meanwhile; in the code it is
//!   another version by then, and stays;
//! - times: `timeouts.settle` may pass for an order as soon as no request of its is on the wire any more, which is what it
//!   means ([`rules::Assumptions`] says what is taken for granted);
//! - steps that nobody could tell from one step (`world::At`), which makes the state space small enough to be seen whole.
//!
//! A test with `#[ignore]` takes longer; `make model` runs them all and prints the tables.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "parts of a state are read in place, however small they are")]

#[path = "tables/mod.rs"]
mod tables;

mod model {
    pub mod check;
    pub mod human;
    pub mod network;
    pub mod operator;
    pub mod panel;
    pub mod properties;
    pub mod rules;
    pub mod world;
}

use model::check::{Checked, check, longest_to_rest};
use model::properties::{NO_STRAY, NOT_EARLY, ONE_ORDER, ONE_SERVER, READ_BACK};
use model::rules::{Assumptions, Repairs, Rules, Safeguards};
use model::world::Faults;
use tables::tell;

/// No limit.
const ALL: usize = 0;

fn faults(losses: u8, copies: u8, crashes: u8, hands: u8, deletions: u8) -> Faults {
    Faults { losses, copies, crashes, hands, deletions }
}

fn adversary(rules: &Rules) -> String {
    let Faults { losses, copies, crashes, hands, deletions } = rules.faults;
    let mut parts = Vec::new();
    for (count, what) in
        [(losses, "lost or late"), (copies, "doubled"), (crashes, "crash"), (hands, "act by hand"), (deletions, "deletion")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if parts.is_empty() { "two replicas".into() } else { parts.join(", ") }
}

fn head() {
    tell("| What | Adversary | Property that breaks | Steps | States | Seconds |\n|---|---|---|---:|---:|---:|");
}

fn row(what: &str, rules: &Rules, found: &Checked) {
    let (broken, steps) = match &found.broken {
        Some((name, path)) => (*name, path.len().to_string()),
        None if found.complete => ("none: all states seen", format!("≤ {}", found.depth)),
        None => ("none so far", format!("≤ {}", found.depth)),
    };
    tell(&format!("| {what} | {} | {broken} | {steps} | {} | {:.0} |", adversary(rules), found.states, found.took.as_secs_f64()));
}

fn holds(what: &str, rules: Rules, limit: usize) -> usize {
    let found = check(rules, limit, 2);
    row(what, &rules, &found);
    if let Some((name, path)) = &found.broken {
        panic!("{what}: {name}\n  {}", path.join("\n  "));
    }
    assert!(found.complete || limit != ALL, "not all states were seen");
    found.states
}

/// A property breaks, and it is one of these. The shortest way there is printed, for whoever wants to read it.
fn breaks(what: &str, rules: Rules, properties: &[&str]) {
    let found = check(rules, ALL, 1);
    row(what, &rules, &found);
    let Some((name, path)) = &found.broken else { panic!("{what}: nothing breaks, although it should") };
    if std::env::var_os("DCI_MODEL_TRACES").is_some() {
        println!("  {}", path.join("\n  "));
    }
    assert!(properties.contains(name), "{what}: {name}\n  {}", path.join("\n  "));
}

/// What the protocol as implemented is shown to survive, in every state.
fn survived() -> [Faults; 3] {
    [faults(1, 0, 1, 0, 1), faults(1, 0, 1, 1, 0), faults(0, 1, 0, 0, 1)]
}

#[test]
fn the_protocol_as_implemented_holds() {
    head();
    let states: usize = survived().into_iter().map(|faults| holds("as implemented", Rules { faults, ..Rules::default() }, ALL)).sum();
    assert!(states >= 1_000_000, "{states} states: the model has become smaller than what it is to show");
}

/// It comes to rest, and every property holds on the way: also against adversaries of whom not all states can be seen.
#[test]
fn once_faults_stop_everything_comes_to_rest() {
    const SEED: u64 = 5;
    const WALKS: usize = 3_000;
    const BOUND: usize = 300;
    for faults in survived().into_iter().chain([faults(2, 0, 2, 2, 2), faults(1, 1, 1, 1, 1)]) {
        let rules = Rules { faults, ..Rules::default() };
        let longest = longest_to_rest(rules, SEED, WALKS, BOUND);
        let longest = longest.unwrap_or_else(|broken| panic!("{}: {broken}", adversary(&rules)));
        tell(&format!("{}: {WALKS} walks (seed {SEED}), at rest after {longest} steps at most", adversary(&rules)));
    }
}

#[test]
fn each_safeguard_is_needed() {
    head();
    let on = Safeguards::default();
    let quiet = faults(0, 0, 0, 0, 0);
    for (what, safe, faults, properties) in [
        ("without intent", Safeguards { intent: false, ..on }, quiet, [ONE_SERVER].as_slice()),
        ("without lock", Safeguards { lock: false, ..on }, quiet, &[ONE_ORDER]),
        ("without marker", Safeguards { marker: false, ..on }, faults(0, 0, 0, 1, 0), &[READ_BACK, ONE_ORDER]),
        ("without read-back", Safeguards { read_back: false, ..on }, faults(0, 0, 1, 1, 0), &[READ_BACK]),
        // Who never reads is seen although nobody meddles, and each server is the order's own.
        ("without read-back", Safeguards { read_back: false, ..on }, quiet, &[READ_BACK]),
        ("without settle", Safeguards { settle: false, ..on }, faults(0, 0, 0, 0, 1), &[NOT_EARLY]),
        ("without resource version", Safeguards { resource_version: false, ..on }, quiet, &[ONE_SERVER]),
        ("without time for earlier calls", Safeguards { earlier_calls: false, ..on }, faults(0, 1, 0, 0, 1), &[NOT_EARLY]),
    ] {
        let within = |all: &Faults| {
            let pairs = [
                (faults.losses, all.losses),
                (faults.copies, all.copies),
                (faults.crashes, all.crashes),
                (faults.hands, all.hands),
                (faults.deletions, all.deletions),
            ];
            pairs.iter().all(|(one, all)| one <= all)
        };
        assert!(survived().iter().any(within), "{what}: not shown to hold with the safeguard");
        breaks(what, Rules { safe, faults, ..Rules::default() }, properties);
    }
}

/// What the protocol as implemented does not survive; each is a row of `docs/reliability.md`. When one of these fails since
/// nothing breaks any more, the code was repaired: make the repair the rule of the model, and move the row.
#[test]
fn holes_that_are_known() {
    head();
    let late_copy = Assumptions { no_late_copy: false, ..Assumptions::default() };
    let long_pause = Assumptions { no_long_pause: false, ..Assumptions::default() };
    for (what, rules) in [
        ("a copy lands after the answer", Rules { faults: faults(0, 1, 0, 0, 1), assume: late_copy, ..Rules::default() }),
        (
            "frozen between intent and request, thawed after settle",
            Rules { faults: faults(0, 0, 0, 0, 1), assume: long_pause, ..Rules::default() },
        ),
    ] {
        breaks(what, rules, &[NO_STRAY, NOT_EARLY]);
    }
}

#[test]
#[ignore = "takes minutes: make model"]
fn the_repairs_mend_late_copies() {
    head();
    let late_copy = Assumptions { no_late_copy: false, ..Assumptions::default() };
    holds(
        "repaired, late copies",
        Rules { faults: faults(0, 1, 0, 0, 1), assume: late_copy, repair: Repairs { quiet: true }, ..Rules::default() },
        limit(),
    );
}

/// So many states are made (the same one may be made several times) before a long check is ended.
fn limit() -> usize {
    std::env::var("DCI_MODEL_STATES").ok().map_or(40_000_000, |text| text.parse().unwrap())
}

#[test]
#[ignore = "takes minutes: make model"]
fn the_protocol_as_implemented_holds_against_more() {
    head();
    for faults in [faults(0, 0, 1, 0, 2), faults(2, 0, 1, 0, 1), faults(2, 0, 2, 1, 0), faults(1, 0, 1, 0, 2), faults(0, 0, 0, 1, 1)] {
        holds("as implemented", Rules { faults, ..Rules::default() }, limit());
    }
    // A power-off that is late when a person switches the server off waits for its time, like a release.
    let assume = Assumptions { no_hand_on_power: false, ..Assumptions::default() };
    holds("a person may switch servers off", Rules { faults: faults(1, 0, 0, 1, 1), assume, ..Rules::default() }, limit());
}
