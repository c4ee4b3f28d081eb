//! The tests of the decisions in one program, for `deploy/ci/mutants.sh`: linked once for each mutant instead of once for each file.
//! Those that sweep over every crash are in `sweeps.rs`. `cargo test` leaves both out, since it runs the files one by one.

#[path = "core_active.rs"]
mod core_active;
#[path = "core_addresses.rs"]
mod core_addresses;
#[path = "core_closing.rs"]
mod core_closing;
#[path = "core_combined.rs"]
mod core_combined;
#[path = "core_custom.rs"]
mod core_custom;
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
#[path = "core_recipes.rs"]
mod core_recipes;
#[path = "core_selection.rs"]
mod core_selection;
#[path = "core_tasks.rs"]
mod core_tasks;
