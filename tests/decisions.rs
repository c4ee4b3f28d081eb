//! The decisions against a model of the panels (`core/core_support`). What sweeps over every crash and fault is in `sweeps.rs`: minutes,
//! so that `deploy/ci/mutants.sh` asks it only where these notice nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it cannot go on")]

#[path = "core/core_support/mod.rs"]
mod support;

#[path = "core/core_active.rs"]
mod core_active;
#[path = "core/core_address_changes.rs"]
mod core_address_changes;
#[path = "core/core_addresses.rs"]
mod core_addresses;
#[path = "core/core_allocation.rs"]
mod core_allocation;
#[path = "core/core_answers.rs"]
mod core_answers;
#[path = "core/core_attempts.rs"]
mod core_attempts;
#[path = "core/core_changes.rs"]
mod core_changes;
#[path = "core/core_clients.rs"]
mod core_clients;
#[path = "core/core_closing.rs"]
mod core_closing;
#[path = "core/core_combined.rs"]
mod core_combined;
#[path = "core/core_custom.rs"]
mod core_custom;
#[path = "core/core_entrance.rs"]
mod core_entrance;
#[path = "core/core_forsaken.rs"]
mod core_forsaken;
#[path = "core/core_give_back.rs"]
mod core_give_back;
#[path = "core/core_half_claim_ends.rs"]
mod core_half_claim_ends;
#[path = "core/core_half_claims.rs"]
mod core_half_claims;
#[path = "core/core_installation.rs"]
mod core_installation;
#[path = "core/core_letting_go.rs"]
mod core_letting_go;
#[path = "core/core_level.rs"]
mod core_level;
#[path = "core/core_license_answers.rs"]
mod core_license_answers;
#[path = "core/core_license_list.rs"]
mod core_license_list;
#[path = "core/core_license_server.rs"]
mod core_license_server;
#[path = "core/core_licenses.rs"]
mod core_licenses;
#[path = "core/core_main_address.rs"]
mod core_main_address;
#[path = "core/core_missed.rs"]
mod core_missed;
#[path = "core/core_notices.rs"]
mod core_notices;
#[path = "core/core_opening.rs"]
mod core_opening;
#[path = "core/core_parking.rs"]
mod core_parking;
#[path = "core/core_power.rs"]
mod core_power;
#[path = "core/core_recipe_runs.rs"]
mod core_recipe_runs;
#[path = "core/core_recipes.rs"]
mod core_recipes;
#[path = "core/core_records.rs"]
mod core_records;
#[path = "core/core_recovery.rs"]
mod core_recovery;
#[path = "core/core_renewals.rs"]
mod core_renewals;
#[path = "core/core_renewals_due.rs"]
mod core_renewals_due;
#[path = "core/core_revocation.rs"]
mod core_revocation;
#[path = "core/core_selection.rs"]
mod core_selection;
#[path = "core/core_selection_ends.rs"]
mod core_selection_ends;
#[path = "core/core_standing.rs"]
mod core_standing;
#[path = "core/core_stopping.rs"]
mod core_stopping;
#[path = "core/core_taking.rs"]
mod core_taking;
#[path = "core/core_tasks.rs"]
mod core_tasks;
