//! Stale and unobserved states, and restores, on a real API server: what the operator knows is old, was skipped, or is lost.
//!
//! Run by `make test-e2e`, or `deploy/local/control-plane.sh run -- cargo test --test e2e_states`. Those that take minutes are ignored:
//! `make states` runs all. docs/reliability.md has the table of what happens and what must follow.
#![cfg(all(feature = "sim", feature = "operator"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

#[path = "invariants/mod.rs"]
#[allow(dead_code, reason = "shared with other tests, which feed it otherwise")]
mod invariants;
#[path = "proxy/mod.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod proxy;
#[path = "sweep/rules.rs"]
mod rules;
#[path = "e2e/support/mod.rs"]
#[allow(dead_code, reason = "shared with the other e2e tests, which use all of it")]
mod support;

#[path = "e2e_states/changed_back.rs"]
mod changed_back;
#[path = "e2e_states/clocks.rs"]
mod clocks;
#[path = "e2e_states/identity.rs"]
mod identity;
#[path = "e2e_states/leader.rs"]
mod leader;
#[path = "e2e_states/outage.rs"]
mod outage;
#[path = "e2e_states/panel_restored.rs"]
mod panel_restored;
#[path = "e2e_states/restored.rs"]
mod restored;
#[path = "e2e_states/servers.rs"]
mod servers;
#[path = "e2e_states/watched.rs"]
mod watched;

use support::kstatus;
