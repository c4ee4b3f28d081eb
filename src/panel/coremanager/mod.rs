//! The COREmanager protocol, which DCImanager 5, IPmanager 5 and BILLmanager speak (ispsystem-api.md section 1).

mod blot;
pub mod document;
mod node;
pub mod params;
pub mod values;

#[cfg(feature = "operator")]
pub mod client;
#[cfg(feature = "operator")]
pub mod form;
#[cfg(feature = "operator")]
mod limits;
#[cfg(feature = "operator")]
pub mod list;
#[cfg(feature = "operator")]
pub mod transport;

#[cfg(feature = "operator")]
pub use client::{Client, NoObserver, Observer};
