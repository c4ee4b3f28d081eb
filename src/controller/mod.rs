//! The shell: watches, reconcilers, panels, the one writer of status, events, metrics and health.
//!
//! Decisions come from `provisioning`; everything that touches Kubernetes or a panel happens here.

pub mod client_names;
pub mod clients;
pub mod context;
mod credentials;
pub mod election;
pub mod event_series;
pub mod events;
pub mod fence;
pub mod forsaken;
pub mod handler;
pub mod hardware;
pub mod health;
pub mod identity;
pub mod index;
pub mod ipmanager;
pub mod license_calls;
pub mod license_server;
pub mod locks;
pub mod logs;
pub mod metrics;
mod namespaces;
pub mod notify;
pub mod order;
pub mod otlp;
mod own_tasks;
pub mod panels;
pub mod perform;
pub mod places;
pub mod polled;
pub mod queue;
pub mod run;
pub mod runner;
pub mod secrets;
pub mod selection;
pub mod status;
pub mod stores;
pub mod strays;
pub mod sweep;
pub mod task;
pub mod task_status;
pub mod trace;
pub mod users;
pub mod webhook;
pub mod webhook_secrets;
pub mod welcome;
