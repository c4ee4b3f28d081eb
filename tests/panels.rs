//! The clients of panels, against servers that answer in any way, and against the simulated panels.

#![cfg(all(feature = "operator", feature = "sim"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

#[path = "panels/support.rs"]
mod support;

#[path = "panels/panel_billmanager6.rs"]
mod panel_billmanager6;
#[path = "panels/panel_dcimanager5.rs"]
mod panel_dcimanager5;
#[path = "panels/panel_denied.rs"]
mod panel_denied;
#[path = "panels/panel_documents.rs"]
mod panel_documents;
#[path = "panels/panel_hostile.rs"]
mod panel_hostile;
#[path = "panels/panel_ipmanager5.rs"]
mod panel_ipmanager5;
#[path = "panels/panel_login.rs"]
mod panel_login;
#[path = "panels/panel_requests.rs"]
mod panel_requests;
#[path = "panels/panel_tls.rs"]
mod panel_tls;
#[path = "panels/panel_transport.rs"]
mod panel_transport;
