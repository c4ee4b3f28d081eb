//! The tests of the decisions that sweep over every crash and fault, in one program, for `deploy/ci/mutants.sh`: minutes, so they run
//! where the tests in `decisions.rs` notice nothing.

#[path = "core_changes.rs"]
mod core_changes;
#[path = "core_crash.rs"]
mod core_crash;
#[path = "core_departments_crash.rs"]
mod core_departments_crash;
#[path = "core_random.rs"]
mod core_random;
#[path = "core_selection_crash.rs"]
mod core_selection_crash;
