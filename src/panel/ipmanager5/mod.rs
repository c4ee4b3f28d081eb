//! IPmanager 5 (ispsystem-api.md section 4.1).

pub mod parse;

#[cfg(feature = "operator")]
mod client;

#[cfg(feature = "operator")]
pub use client::IpManager5;
