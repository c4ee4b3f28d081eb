//! All tests of the decisions in one program, for `deploy/ci/mutants.sh`: linked once for each mutant instead of once for each file.
//! `cargo test` leaves it out, since it runs the files one by one.

#[path = "core_active.rs"]
mod core_active;
#[path = "core_addresses.rs"]
mod core_addresses;
#[path = "core_changes.rs"]
mod core_changes;
#[path = "core_closing.rs"]
mod core_closing;
#[path = "core_combined.rs"]
mod core_combined;
#[path = "core_crash.rs"]
mod core_crash;
#[path = "core_custom.rs"]
mod core_custom;
#[path = "core_departments_crash.rs"]
mod core_departments_crash;
#[path = "core_forsaken.rs"]
mod core_forsaken;
#[path = "core_give_back.rs"]
mod core_give_back;
#[path = "core_letting_go.rs"]
mod core_letting_go;
#[path = "core_licenses.rs"]
mod core_licenses;
#[path = "core_opening.rs"]
mod core_opening;
#[path = "core_random.rs"]
mod core_random;
#[path = "core_recipes.rs"]
mod core_recipes;
#[path = "core_selection.rs"]
mod core_selection;
#[path = "core_selection_crash.rs"]
mod core_selection_crash;
#[path = "core_tasks.rs"]
mod core_tasks;
