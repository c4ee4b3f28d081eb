//! The definitions of our kinds: what they say, what they refuse, and that objects survive being read and written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

#[path = "api_support/rows/mod.rs"]
mod rows;
#[path = "api_support/statuses.rs"]
mod statuses;
#[path = "deploy_support/stored.rs"]
#[allow(dead_code, reason = "shared with other targets, which use the rest of it")]
mod stored;
#[path = "api_support/mod.rs"]
mod support;

#[path = "api/api_roundtrip.rs"]
mod api_roundtrip;
#[path = "api/api_rules.rs"]
mod api_rules;
#[path = "api/api_schema.rs"]
mod api_schema;
#[path = "api/api_stored.rs"]
mod api_stored;
