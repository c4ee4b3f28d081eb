//! The fuzz targets on stable: the corpus is replayed, then mutated for a while. `make fuzz` does it for longer.
//!
//! `DCI_FUZZ_SECONDS` (default 10) for each target: half of them for inputs that are always the same, half for those of the commit.
//! `DCI_FUZZ_SEED` for another or a repeated run: the same seed tries the same inputs in the same order. A failure prints both, and the
//! input.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "commit/mod.rs"]
mod commit;
#[path = "../fuzz/entries.rs"]
mod entries;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The seed of half of every run that names no other.
const SEED: u64 = 0x5eed_0001;
/// Seeds that are refused, in order; all others are accepted.
const REFUSED: [&str; 22] = [
    "configurations/nothing",
    "configurations/odd",
    "dialect/brace",
    "dialect/empty",
    "dialect/func",
    "dialect/placeholder",
    "dialect/reserved",
    "dialect/unknown",
    "documents/deep",
    "documents/deeper",
    "documents/html",
    "documents/lone_surrogate",
    "documents/mute",
    "documents/not_utf8",
    "documents/numbers",
    "documents/truncated",
    "durations/five",
    "durations/long",
    "durations/point",
    "durations/sign",
    "durations/unicode",
    "durations/unit",
];
/// Inputs are not longer.
const LONGEST: usize = 4096;
/// Inputs that a run must have tried at least; fewer means that nothing was fuzzed.
const FEWEST: u64 = 1_000;

/// Words that matter to the parsers: mutations put them in.
const WORDS: [&str; 36] = [
    "\"doc\"",
    "\"error\"",
    "\"elem\"",
    "\"$\"",
    "\"$orig\"",
    "\"$type\"",
    "\"id\"",
    "\"owner\"",
    "\"notes\"",
    "\"mac\"",
    "\"elid\"",
    "\"slist\"",
    "\"p_elems\"",
    "null",
    "true",
    "1e999",
    "{}",
    "[]",
    "{",
    "}",
    "[",
    "]",
    "\\u0000",
    "\\ud800",
    "k8s:",
    "{server}",
    "{row}",
    "replaceMainAddress\n",
    "\nauth=",
    "=",
    "ms",
    "h",
    "m",
    "s",
    "99999",
    "pl4nted",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Splitmix: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", directory.display());
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let place = random.below(input.len() + 1);
        match random.below(7) {
            0 if place < input.len() => input[place] ^= 1 << random.below(8),
            1 if place < input.len() => input[place] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let end = (place + random.below(16)).min(input.len());
                input.drain(place..end);
            }
            3 => input.truncate(place),
            4 => {
                // A part of itself once more: depth and repetition.
                let end = (place + random.below(64)).min(input.len());
                let part = input[place..end].to_vec();
                let times = 1 + random.below(8);
                input.splice(place..place, part.repeat(times));
            }
            5 => {
                let other = &others[random.below(others.len())];
                input.truncate(place);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                input.splice(place..place, word.bytes());
            }
        }
    }
    input.truncate(LONGEST);
}

fn shown(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{}", byte.escape_ascii());
        text
    })
}

/// What decides which inputs are tried, one after the other: always the same, and another one with each commit.
fn chosen() -> Vec<u64> {
    if std::env::var_os("DCI_FUZZ_SEED").is_some() {
        return vec![number("DCI_FUZZ_SEED", SEED)];
    }
    std::iter::once(SEED).chain(commit::seed()).collect()
}

fn fuzz(name: &str) {
    let (_, entry) = entries::ALL.into_iter().find(|(n, _)| *n == name).unwrap();
    let seeds = corpus(name);
    let mut refused = Vec::new();
    for (path, bytes) in &seeds {
        let Ok(taken) = catch_unwind(AssertUnwindSafe(|| entry(bytes))) else { panic!("{} fails", path.display()) };
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        refused.extend((!taken).then(|| format!("{name}/{file}")));
    }
    let known: Vec<&str> = REFUSED.into_iter().filter(|seed| seed.split('/').next() == Some(name)).collect();
    assert_eq!(refused, known, "the seeds that are refused");
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, bytes)| bytes).collect();
    let time = Duration::from_secs(number("DCI_FUZZ_SECONDS", 10));
    let chosen = chosen();
    println!("{name}: {} seeds replayed; DCI_FUZZ_SECONDS={}, for {} seeds", seeds.len(), time.as_secs(), chosen.len());
    for seed in &chosen {
        mutated(name, entry, &seeds, *seed, time / u32::try_from(chosen.len()).unwrap());
    }
}

/// Tries mutations of the seeds of the corpus for a while.
fn mutated(name: &str, entry: fn(&[u8]) -> bool, seeds: &[Vec<u8>], seed: u64, time: Duration) {
    println!("{name}: DCI_FUZZ_SEED={seed}");
    let mut random = Random(seed);
    let (began, mut tried, mut accepted) = (Instant::now(), 0u64, 0u64);
    while began.elapsed() < time || tried < FEWEST {
        let mut input = seeds[random.below(seeds.len())].clone();
        mutate(&mut input, seeds, &mut random);
        let result = catch_unwind(AssertUnwindSafe(|| entry(&input)));
        let Ok(taken) = result else { panic!("{name} fails: DCI_FUZZ_SEED={seed}, input {tried}: {}", shown(&input)) };
        tried += 1;
        accepted += u64::from(taken);
    }
    println!("{name}: {tried} inputs, {accepted} of them accepted");
    // What is refused at its first byte shows nothing of what comes after it.
    assert!(accepted * 100 >= tried, "{name}: {accepted} of {tried} inputs were accepted");
}

#[test]
fn documents() {
    fuzz("documents");
}

#[test]
fn dialect() {
    fuzz("dialect");
}

#[test]
fn durations() {
    fuzz("durations");
}

#[test]
fn configurations() {
    fuzz("configurations");
}

#[test]
fn every_target_has_a_test_a_program_and_seeds() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).unwrap();
    let own = include_str!("fuzz.rs");
    for (name, _) in entries::ALL {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}: no program in fuzz/Cargo.toml");
        assert!(own.contains(&format!("fuzz(\"{name}\")")), "{name}: no test here");
        corpus(name);
    }
}

#[test]
fn a_seed_gives_the_same_inputs_again() {
    let seeds: Vec<Vec<u8>> = corpus("documents").into_iter().map(|(_, bytes)| bytes).collect();
    let run = |seed| {
        let mut random = Random(seed);
        (0..50)
            .map(|_| {
                let mut input = seeds[random.below(seeds.len())].clone();
                mutate(&mut input, &seeds, &mut random);
                input
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
