//! What to do next, as pure functions from (order, handler, what the panel shows, now) to data. No I/O.
//!
//! [`decide::decide`] is the one entrance. It never acts: it says what to read (`Look`), what to prepare in Kubernetes
//! (`Prepare`), what to change at a panel (`Call`), or until when to wait, together with the status that goes with it.

pub mod allocation;
pub mod call;
pub mod closing;
pub mod context;
pub mod decide;
pub mod facts;
pub mod inflight;
pub mod installation;
pub mod marker;
pub mod matching;
pub mod network;
pub mod notices;
pub mod opening;
pub mod order;
pub mod reason;
pub mod reinstallation;
pub mod retry;
pub mod rotation;
pub mod step;
pub mod suspension;
pub mod tasks;
pub mod verdict;
pub mod wanted;
