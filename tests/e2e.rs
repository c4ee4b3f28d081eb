//! The whole way: a real API server, the operator as a process of its own with the chart's permissions, simulated panels.
//!
//! Run by `make test-e2e`, or `deploy/local/control-plane.sh run -- cargo test --test e2e`. Every test has namespaces, panels
//! and an operator of its own, so that all can run side by side on one API server.
#![cfg(all(feature = "sim", feature = "operator"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

#[path = "commit/mod.rs"]
mod commit;
#[path = "invariants/mod.rs"]
#[allow(dead_code, reason = "shared with other tests, which feed it otherwise")]
mod invariants;
#[path = "e2e/support/mod.rs"]
#[allow(dead_code, reason = "shared with other targets, which use the rest of it")]
mod support;
#[path = "tables/mod.rs"]
mod tables;

use support::kstatus;

#[path = "e2e/adoption.rs"]
mod adoption;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/bench.rs"]
mod bench;
#[path = "e2e/capacity.rs"]
mod capacity;
#[path = "e2e/changes.rs"]
mod changes;
#[path = "e2e/chart.rs"]
mod chart;
#[path = "e2e/chart_current.rs"]
mod chart_current;
#[path = "e2e/chart_fits.rs"]
mod chart_fits;
#[path = "e2e/chart_life.rs"]
mod chart_life;
#[path = "e2e/chart_values.rs"]
mod chart_values;
#[path = "e2e/closing.rs"]
mod closing;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/crash.rs"]
mod crash;
#[path = "e2e/custom.rs"]
mod custom;
#[path = "e2e/denied.rs"]
mod denied;
#[path = "e2e/deployed.rs"]
mod deployed;
#[path = "e2e/dialect.rs"]
mod dialect;
#[path = "e2e/drift.rs"]
mod drift;
#[path = "e2e/gitops.rs"]
mod gitops;
#[path = "e2e/handler.rs"]
mod handler;
#[path = "e2e/handlers.rs"]
mod handlers;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/isolation.rs"]
mod isolation;
#[path = "e2e/kubectl_dci.rs"]
mod kubectl_dci;
#[path = "e2e/kustomize.rs"]
mod kustomize;
#[path = "e2e/letting_go.rs"]
mod letting_go;
#[path = "e2e/licenses.rs"]
mod licenses;
#[path = "e2e/live_changes.rs"]
mod live_changes;
#[path = "e2e/manifests.rs"]
mod manifests;
#[path = "e2e/monitoring.rs"]
mod monitoring;
#[path = "e2e/namespaces.rs"]
mod namespaces;
#[path = "e2e/opening.rs"]
mod opening;
#[path = "e2e/permissions.rs"]
mod permissions;
#[path = "e2e/pipelines.rs"]
mod pipelines;
#[path = "e2e/process.rs"]
mod process;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/retry.rs"]
mod retry;
#[path = "e2e/scale.rs"]
mod scale;
#[path = "e2e/soak.rs"]
mod soak;
#[path = "e2e/tasks.rs"]
mod tasks;
#[path = "e2e/told.rs"]
mod told;
#[path = "e2e/traces.rs"]
mod traces;
#[path = "e2e/webhook.rs"]
mod webhook;
