//! `kubectl dci`: what people ask of orders, tasks and handlers in a terminal.
//!
//! What is printed and planned is made by pure functions of stored objects and the time; [`client`] alone reads and writes. No panel
//! is ever asked, and no Secret is read: what only these know is said to be unknown.

pub mod client;
pub mod close;
pub mod inventory;
pub mod known;
pub mod manifest;
pub mod next;
pub mod plan;
pub mod status;
pub mod tasks;
pub mod text;
