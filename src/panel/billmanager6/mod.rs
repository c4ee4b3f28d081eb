//! BILLmanager as licence server (ispsystem-api.md 5.6).

pub mod calls;
pub mod parse;

#[cfg(feature = "operator")]
mod client;

#[cfg(feature = "operator")]
pub use client::BillManager6;
