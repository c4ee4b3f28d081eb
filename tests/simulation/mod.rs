//! The parts of the simulation.

pub mod adversary;
pub mod apiserver;
pub mod defaults;
pub mod determinism;
pub mod http;
pub mod invariants;
pub mod panels;
pub mod patch;
pub mod people;
pub mod replica;
pub mod scenario;
pub mod seeds;
pub mod world;

pub(crate) use super::{kstatus, objects, schema};
