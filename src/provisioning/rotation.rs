//! Rotation of the root password from the user's Secret, where the handler's dialect says how a panel sets one.
//!
//! Secrets are not watched. The one that `passwordSecretRef` names is read at most once in each `retry.interval` of the handler, of
//! Active orders only, and only where `spec.dialect.setPassword` is set; a password that differs from the one that the system was given
//! last is set. The status knows it by a version, a keyed digest. A version that is not known, or that was made with another
//! key or in another way, is recorded, never acted upon. Setting a password twice harms nobody: a lost answer is settled and
//! repeated like any other. Until an answer says that a password was set, the system may have it or the one before: what is on record
//! then is neither, so that the password of the Secret is set even where it is the old one again by then.

use std::ops::ControlFlow::{Break, Continue};

use super::call::Call;
use super::context::{Cx, Flow, Next};
use super::facts::{Prepare, Row};
use super::inflight::Shows;
use super::step::{State, Step};

const STEP: Step = Step::SetPassword;
/// How a version begins. What releases before this one recorded, uid and resource version of the Secret, does not.
const FORM: &str = "hmac-sha256:";
/// Stands for the digest where one of two passwords was given, and nobody knows which: no digest is like it.
const UNKNOWN: &str = "unknown";

/// The version of a password: its digest, and which key it was made with.
#[must_use]
pub fn version(key: &str, digest: &str) -> String {
    format!("{FORM}{key}:{digest}")
}

/// Whether two versions tell, by being the same or not, whether two passwords are.
#[must_use]
pub fn comparable(one: &str, other: &str) -> bool {
    key_of(one).is_some_and(|key| key_of(other) == Some(key))
}

/// Which key a version was made with.
fn key_of(version: &str) -> Option<&str> {
    Some(version.strip_prefix(FORM)?.split_once(':')?.0)
}

/// Whether this order's Secret is looked at now and then.
pub(super) fn is_watched(cx: &Cx<'_>) -> bool {
    cx.handler.sets_password && cx.order.own_password && !cx.order.suspended && !cx.order.deleting
}

/// Whether a password is being set.
pub(super) fn is_under_way(cx: &Cx<'_>) -> bool {
    cx.status.steps.iter().any(|s| s.name == STEP.as_str()) && !cx.state(STEP).over()
}

/// The version that the installation about to be made gives to the system.
pub(super) fn installed(cx: &mut Cx<'_>) {
    let version = cx.facts.password_version.clone().filter(|v| !v.is_empty() && cx.order.own_password);
    if let Some(server) = cx.status.server.as_mut() {
        server.password_version = version;
    }
}

/// Sets a password that was rotated; `Continue` when there is none.
pub(super) fn follow(cx: &mut Cx<'_>) -> Flow {
    let begun = is_under_way(cx);
    if !is_watched(cx) {
        if begun {
            // The record stays: a call whose answer is lost may still land, and closing gives it its time by that.
            cx.finish(STEP, State::Skipped, "not asked for any more");
        }
        return Continue(());
    }
    let Some(server) = cx.server_id() else { return Continue(()) };
    if !begun && !cx.facts.password_due && cx.facts.password_version.is_none() {
        return Continue(());
    }
    let Some(version) = cx.facts.password_version.clone() else { return Break(cx.prepare(STEP, Prepare::PasswordVersion)) };
    let known = cx.status.server.as_ref().and_then(|s| s.password_version.clone());
    let done = cx.facts.applied(|c| matches!(c, Call::SetPassword { version: set, .. } if *set == version));
    // One that was being set goes on, whatever the version was compared with when that began.
    let told = known.as_ref().is_some_and(|known| begun || comparable(known, &version));
    if version.is_empty() || done || !told || known.as_ref() == Some(&version) {
        // A Secret that is gone changes nothing; a system whose version is not known keeps what it has.
        if let Some(status) = cx.status.server.as_mut().filter(|_| !version.is_empty()) {
            status.password_version = Some(version);
        }
        if begun {
            cx.finish(STEP, State::Done, "");
        }
        return Continue(());
    }
    // A password goes into a running system, not into one that is off or being installed.
    let at_work = match cx.row(&server) {
        Row::There(row) => row.install.is_some() || row.flags.diagnostics || !row.power.on,
        Row::Gone | Row::Unknown => true,
    };
    if at_work && !begun {
        return Continue(());
    }
    let neither = key_of(&version).map(|key| self::version(key, UNKNOWN));
    let halt = cx.call(STEP, Call::SetPassword { server, version }, Shows::AtOnce);
    if let (Next::Call(_), Some(server)) = (&halt.next, cx.status.server.as_mut()) {
        // On record with the intent, and so before the call is made. Whatever becomes of the step, the next look at the Secret finds another
        // version than this.
        server.password_version = neither.or(known);
    }
    Break(halt)
}

/// A department said that the password is set. Nothing at the panel shows which one the system has: it is believed to be the present one.
pub(super) fn believe_set(cx: &mut Cx<'_>) -> Flow {
    if !is_watched(cx) {
        return Continue(());
    }
    let Some(version) = cx.facts.password_version.clone() else { return Break(cx.prepare(STEP, Prepare::PasswordVersion)) };
    if let Some(server) = cx.status.server.as_mut().filter(|_| !version.is_empty()) {
        server.password_version = Some(version);
    }
    Continue(())
}
