//! What to do next, as pure functions from (order, handler, what the panel shows, now) to data. No I/O.
//!
//! [`decide::decide`] is the one entrance. It never acts: it says what to read (`Look`), what to prepare in Kubernetes
//! (`Prepare`), what to change at a panel (`Call`), or until when to wait, together with the status that goes with it.

pub mod adoption;
pub mod allocation;
pub mod assembly;
mod at_hand;
pub mod attempts;
pub mod call;
pub mod capacity;
pub mod cleaning;
mod client;
mod clock;
pub mod closing;
pub mod context;
pub mod decide;
pub mod desk;
mod done;
mod drift;
pub mod facts;
pub mod fitting;
pub mod forsaken;
pub mod give_back;
mod gone;
mod half_claim;
pub mod hardware;
pub mod inflight;
pub mod installation;
mod license_answers;
mod license_list;
pub mod license_renewal;
pub mod license_revocation;
pub mod license_server;
pub mod licenses;
mod main_address;
pub mod marker;
pub mod matching;
mod missed;
mod moved;
pub mod network;
pub mod notices;
pub mod opening;
pub mod order;
pub mod orphaning;
mod parking;
pub mod parts;
mod people;
pub mod pool;
pub mod queue;
pub mod reason;
pub mod recipes;
mod recovery;
pub mod reinstallation;
pub mod report;
pub mod retry;
pub mod rotation;
pub mod round;
pub mod selection;
pub mod step;
pub mod suspension;
pub mod tasks;
pub mod verdict;
pub mod wanted;

pub use drift::is_drift;
