//! Disks of servers that go back: flagged for the panel's own cleaning, where the panel needs a flag for that.
//!
//! A released server is cleaned by the panel's own policy (ispsystem-api.md 2.8); nothing here wipes a disk, or says that one was
//! wiped. A panel that has to be told is told by the dialect's `flagForCleaning`.

use std::ops::ControlFlow::{Break, Continue};

use crate::panel::dialect::FLAG_FOR_CLEANING;
use crate::panel::model::ServerId;

use super::call::Call;
use super::context::{Cx, Flow};
use super::inflight::Shows;
use super::step::Step;

/// Before the release: a server with something on its disks is flagged. A flag that the panel refuses holds the release back.
pub(super) fn flag(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let used = cx.status.server.as_ref().is_some_and(|s| s.template.is_some() || s.handed_over_at.is_some());
    let call = Call::FlagForCleaning { server: server.clone() };
    if !used || !cx.handler.flag_for_cleaning || cx.facts.applied.contains(&call) {
        return Continue(());
    }
    if cx.is_being_verified() && cx.status.attempts_for.as_ref().is_some_and(|a| a.call == FLAG_FOR_CLEANING) {
        // Nothing at the panel shows a flag: whoever has set it by hand, or seen to the disks, is believed.
        return Continue(());
    }
    // A flag can be set again: after a lost answer it is.
    Break(cx.call(Step::Release, call, Shows::AtOnce))
}

/// What is said of the disks of a server that was given back.
#[must_use]
pub fn said(cx: &Cx<'_>, used: bool) -> &'static str {
    match (used, cx.handler.flag_for_cleaning) {
        (false, _) => "",
        (true, true) => "; it was flagged for the panel's cleaning",
        (true, false) => BY_POLICY_SAID,
    }
}

const BY_POLICY_SAID: &str = "; its disks are left to the panel's own cleaning policy";
