//! The simulated panels, over HTTP, as clients use them.
#![cfg(all(feature = "sim", feature = "operator"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

#[path = "sim/addresses.rs"]
mod addresses;
#[path = "sim/behind.rs"]
mod behind;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/invented.rs"]
mod invented;
#[path = "sim/licenses.rs"]
mod licenses;
#[path = "sim/life.rs"]
mod life;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/protocol.rs"]
mod protocol;
#[path = "sim/support.rs"]
mod support;
