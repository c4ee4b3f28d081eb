//! What a supported API server makes of the definitions and the chart's policies: the tables that the unit tests try against their
//! own evaluator, tried against a real one.
//!
//! Needs a server from 1.30 on, or `DCI_CURRENT=1 deploy/local/control-plane.sh run -- cargo test --test e2e_rules`.
#![cfg(all(feature = "sim", feature = "operator"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails so says where")]

#[path = "../e2e/support/audit.rs"]
mod audit;
#[path = "../e2e/support/plane.rs"]
#[allow(dead_code, reason = "its other users take more of it")]
mod plane;
#[path = "../api_support/rows/mod.rs"]
mod rows;
#[path = "../api_support/mod.rs"]
mod support;

mod definitions;
mod objects;
mod policies;
mod server;
mod stored;
