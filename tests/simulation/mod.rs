//! The parts of the simulation.

pub mod acts;
pub mod adversary;
pub mod apiserver;
pub mod defaults;
pub mod departments;
pub mod determinism;
pub mod ending;
pub mod http;
pub mod lives;
pub mod mischief;
pub mod noted;
pub mod pages;
pub mod panels;
pub mod patch;
pub mod people;
pub mod replica;
pub mod rules;
pub mod scenario;
pub mod seeds;
pub mod swarm;
pub mod wild;
pub mod world;

pub(crate) use super::{invariants, kstatus, objects, schema, tables};
