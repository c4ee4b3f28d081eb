//! A small world for the decisions: panels in memory, stored objects, virtual time, and the shell's loop with faults.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it cannot go on")]

pub mod changes;
pub mod licenses;
pub mod look;
pub mod panel;
pub mod panel_views;
pub mod pool;
pub mod rules;
pub mod shell;
pub mod sites;
pub mod sweep;
pub mod world;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A time after another one.
pub fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(SignedDuration::try_from(span).unwrap()).unwrap()
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
