//! DCImanager 5 (ispsystem-api.md section 2).

pub mod notes;
pub mod parse;
pub mod parts;

#[cfg(feature = "operator")]
mod addresses;
#[cfg(feature = "operator")]
mod client;
#[cfg(feature = "operator")]
mod operations;
#[cfg(feature = "operator")]
mod servers;

#[cfg(feature = "operator")]
pub use client::DciManager5;
