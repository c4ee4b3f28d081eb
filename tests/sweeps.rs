//! The decisions against a model of the panels (`core/core_support`), with a crash or a fault at every point.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it cannot go on")]

#[path = "core/core_support/mod.rs"]
mod support;

#[path = "core/core_changes_crash.rs"]
mod core_changes_crash;
#[path = "core/core_crash.rs"]
mod core_crash;
#[path = "core/core_departments_crash.rs"]
mod core_departments_crash;
#[path = "core/core_random.rs"]
mod core_random;
#[path = "core/core_selection_crash.rs"]
mod core_selection_crash;
