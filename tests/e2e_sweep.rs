//! Every request of every scenario goes wrong in every way, on a real API server: a proxy between the operator and both the API
//! server and the panels sees to it. See docs/reliability.md.
//!
//! `make test` lets a third of them go wrong in one way, many in one life; `make sweep` each in every way, and by itself. One run:
//! `DCI_SWEEP_SCENARIO`, `DCI_SWEEP_POINT`, `DCI_SWEEP_FAULT`.
#![cfg(all(feature = "sim", feature = "operator"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

#[path = "commit/mod.rs"]
mod commit;
#[path = "invariants/mod.rs"]
#[allow(dead_code, reason = "shared with other tests, which feed it otherwise")]
mod invariants;
#[path = "proxy/mod.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod proxy;
#[path = "e2e/support/mod.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod support;
#[path = "sweep/mod.rs"]
mod sweep;
#[path = "tables/mod.rs"]
mod tables;

use support::kstatus;
use sweep::plan::{Choice, MANY, Settings};

/// A third of all requests, each in one way, and many in one life; the commit chooses which and how. Every one by itself where
/// `DCI_SWEEP=all` (`make check-all`).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_third_of_all_requests_may_go_wrong() {
    let alone = std::env::var("DCI_SWEEP").is_ok_and(|sweep| sweep == "all");
    let mut settings = Settings::read(Choice::Once, if alone { 1 } else { MANY });
    if !alone {
        settings.for_this_commit(commit::seed().unwrap_or(1));
    }
    sweep::run(&settings).await;
}

/// Every request in every way: `make sweep`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "make sweep"]
async fn every_request_may_go_wrong_in_every_way() {
    sweep::run(&Settings::read(Choice::All, 1)).await;
}
