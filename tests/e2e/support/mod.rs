//! What the tests share, one subject in each file.

pub mod audit;
pub mod collector;
pub mod hands;
pub mod hooks;
pub mod journal;
pub mod kstatus;
pub mod manifests;
pub mod objects;
pub mod operator;
pub mod plane;
pub mod prometheus;
pub mod record;
pub mod serves;
pub mod tls;
pub mod world;

pub use world::{Setup, World};
