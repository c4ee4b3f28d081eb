//! dci-operator: dedicated servers of DCImanager as Kubernetes resources.
//!
//! Arrows go down only: `bin` > `cli` > `controller` > `provisioning`, `panel` > `api`. `provisioning` decides and does
//! no I/O; it may name what a panel shows (`panel::model`, `panel::error`), never how it is asked.
//! `sim` shares no code with `panel`, so that each checks the other.

#![forbid(unsafe_code)]

pub mod api;
pub mod panel;
pub mod provisioning;

#[cfg(feature = "operator")]
pub mod cli;
#[cfg(feature = "operator")]
pub mod controller;
#[cfg(feature = "sim")]
pub mod sim;
