//! The last line of `status`: what is awaited, and of whom.

use jiff::Timestamp;

use crate::api::DedicatedServerOrder;
use crate::api::condition::{self, ConditionType};
use crate::api::order::{OrderStatus, TaskSummary, WaitingOn};
use crate::provisioning::context::WaitKind;
use crate::provisioning::reason::Reason;
use crate::provisioning::tasks::OPEN;

use super::tasks::answers;
use super::text::when;

/// What is awaited, and of whom: the order's author, the provider, a department, the panel, or time.
#[must_use]
pub fn next(order: &DedicatedServerOrder, now: Timestamp) -> String {
    let generation = order.metadata.generation.unwrap_or_default();
    let status = match &order.status {
        Some(status) if status.observed_generation.is_some_and(|seen| seen >= 0) => status,
        Some(_) | None => return "the operator: it has not seen the order yet; where that lasts, see whether it runs".into(),
    };
    if status.observed_generation.is_some_and(|seen| seen < generation) {
        return "the operator: it has not acted upon the last change of the order yet".into();
    }
    if let Some(stalled) = condition::find(&status.conditions, ConditionType::Stalled).filter(|c| c.status == "True") {
        let still = stands_still(&stalled.reason, status, now);
        // A department that is asked about it may end it all the same: of an order that is being deleted nobody else can.
        let asked = status.waiting_on.as_ref().filter(|wait| is_asked(wait, status));
        return match asked {
            Some(wait) => format!("{}; or {still}", awaited(wait, order, status, now)),
            None => still,
        };
    }
    if let Some(wait) = &status.waiting_on {
        return awaited(wait, order, status, now);
    }
    if let Some(call) = &status.in_flight {
        return format!("the operator: call {} of step {} is being made, or its effect is looked for", call.call, call.step);
    }
    match (condition::is_true(&status.conditions, ConditionType::Ready), status.phase.as_deref()) {
        (true, Some("Suspended")) => {
            "nothing: the service is suspended, as the order asks, until its author sets spec.suspended: false".into()
        }
        (true, _) => "nothing: the client has the server".into(),
        (false, _) => {
            let step = status.progress.as_ref().map_or("the next step", |p| p.step.as_str());
            format!("the operator: {step} goes on by itself")
        }
    }
}

/// Whether a department is waited for whose task is open.
fn is_asked(wait: &WaitingOn, status: &OrderStatus) -> bool {
    wait.kind == WaitKind::Department.as_str() && status.manual_tasks.iter().any(|task| task.name == wait.name && task.state == OPEN)
}

/// Nothing goes on until somebody changes something.
fn stands_still(reason: &str, status: &OrderStatus, now: Timestamp) -> String {
    let again = status.next_retry_time.filter(|at| at.0 > now).map(|at| format!("; looked at again {}", when(now, at)));
    let known = Reason::ALL.iter().copied().find(|r| r.as_str() == reason);
    let (who, cure) = known.map_or(("somebody", "See the message of condition Stalled."), |reason| (who(reason), reason.cure()));
    let cure = cure.trim_end_matches('.').replace('`', "");
    format!("{who}: {}{}", lower(&cure), again.unwrap_or_default())
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Whose change helps an order that stands still. What is not in the order's own spec is the provider's.
fn who(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidSpec
        | Reason::NotSupportedYet
        | Reason::FixedFieldChanged
        | Reason::ClientIsAdministrator
        | Reason::ClientNameTaken
        | Reason::SecretConflict
        | Reason::CredentialsMissing
        | Reason::UnknownTemplate
        | Reason::UnknownRecipe
        | Reason::RecipeIncompatible
        | Reason::ReinstallProtected
        | Reason::DeletionProtected
        | Reason::TaskCancelled => "the order's author",
        Reason::SeveralRecipes
        | Reason::CustomConfigurationRefused
        | Reason::UnknownProduct
        | Reason::DeletionPolicyForbidden
        | Reason::AdoptionForbidden
        | Reason::AdoptionRefused
        | Reason::HandlerNotFound
        | Reason::RecipeFailed
        | Reason::LicenseGone
        | Reason::NotOurLicense => "the order's author or the provider",
        Reason::Active
        | Reason::Suspended
        | Reason::Suspending
        | Reason::Resuming
        | Reason::Allocating
        | Reason::Preparing
        | Reason::Deleting
        | Reason::GivingBack
        | Reason::Released
        | Reason::WaitingForCapacity
        | Reason::LimitReached
        | Reason::WaitingForPanel
        | Reason::AnswerLost
        | Reason::WaitingForTask
        | Reason::Retrying
        | Reason::HandlerNotReady
        | Reason::NamespaceLabelsForbidden
        | Reason::LicenseServerNotReady
        | Reason::SeveralLicensesFound
        | Reason::HandlerSuspended
        | Reason::PreviousServerFound
        | Reason::OrderIdElsewhere
        | Reason::SeveralServersFound
        | Reason::MarkerTruncated
        | Reason::NotOurServer
        | Reason::OwnerChanged
        | Reason::ServerGone
        | Reason::MainAddressNotReplaced
        | Reason::DialectMissing
        | Reason::OperationFailed
        | Reason::IpmiError
        | Reason::ReinstallPending
        | Reason::Done
        | Reason::Pending
        | Reason::CRDOutdated
        | Reason::InvalidObject
        | Reason::Reachable
        | Reason::Unreachable
        | Reason::CertificateRefused
        | Reason::AddressDenied
        | Reason::LoginRefused
        | Reason::NotAdministrator
        | Reason::PanelError
        | Reason::PanelChanged
        | Reason::IPManagerNotFound
        | Reason::IPManagerNotReady
        | Reason::InUse
        | Reason::Open
        | Reason::Closed
        | Reason::ResolutionRefused
        | Reason::Superseded
        | Reason::DeadlinePassed
        | Reason::NotMade => "the provider",
    }
}

fn awaited(wait: &WaitingOn, order: &DedicatedServerOrder, status: &OrderStatus, now: Timestamp) -> String {
    let said = if wait.message.is_empty() { wait.name.as_str() } else { wait.message.as_str() };
    let until = wait.deadline.map_or_else(String::new, |at| format!("; it counts as failed {}", when(now, at)));
    let is = |kind: WaitKind| wait.kind == kind.as_str();
    if is(WaitKind::Department) {
        let task = status.manual_tasks.iter().find(|t| t.name == wait.name);
        return task.map_or_else(|| said.to_owned(), |task| department(task, order, status));
    }
    // A department may be asked all the same, or be at work on what is lacking.
    let asked = status.manual_tasks.iter().rev().find(|t| t.state == OPEN).map(|task| department(task, order, status));
    let (joint, other) = if is(WaitKind::Panel) {
        ("; and ", format!("the panel: {said}{until}"))
    } else if is(WaitKind::Retry) && reason_of_ready(status) == Some(Reason::CredentialsMissing.as_str()) {
        ("; and ", format!("{}: {said}", who(Reason::CredentialsMissing)))
    } else if is(WaitKind::Retry) {
        let at = status.next_retry_time.map_or_else(String::new, |at| format!("tried again {}; ", when(now, at)));
        ("; and ", format!("time: {at}{said}"))
    } else if is(WaitKind::Handler) {
        ("; and ", format!("the provider, handler {}: {said}", wait.name))
    } else {
        ("; or ", format!("the panel, or the provider: {said}"))
    };
    asked.into_iter().chain([other]).collect::<Vec<_>>().join(joint)
}

fn reason_of_ready(status: &OrderStatus) -> Option<&str> {
    condition::find(&status.conditions, ConditionType::Ready).map(|c| c.reason.as_str())
}

/// Who closes a task, and how.
fn department(task: &TaskSummary, order: &DedicatedServerOrder, status: &OrderStatus) -> String {
    let other = task.escalate_to.as_ref().filter(|_| task.escalated_at.is_some());
    let who = other.map_or_else(|| task.department.clone(), |other| format!("{} or {other}", task.department));
    let types = crate::api::task::TaskType::ALL;
    let takes = types.into_iter().find(|t| t.as_str() == task.type_).map_or_else(|| "ANSWER".to_owned(), answers);
    let at = status.server.as_ref().map(|s| s.handler.as_str()).or(status.handler.as_deref());
    let at = at.and_then(|key| key.split_once('/')).map(|(namespace, _)| namespace.to_owned());
    let namespace = at.or_else(|| crate::provisioning::order::handler_key(order).map(|key| key.namespace)).unwrap_or_default();
    format!("department {who}: kubectl dci close -n {namespace} {} {}", task.name, takes.replace(',', "|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    fn said(status: &Value) -> String {
        let mut all = json!({"observedGeneration": 1});
        for (name, value) in status.as_object().unwrap() {
            all[name] = value.clone();
        }
        next(&samples::order(&json!({"status": all})), "2026-01-01T12:00:00Z".parse().unwrap())
    }

    fn condition(type_: &str, reason: &str) -> Value {
        json!({"type": type_, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn what_is_awaited_and_of_whom() {
        let wait = |kind: &str, name: &str, message: &str| json!({"kind": kind, "name": name, "since": "2026-01-01T11:00:00Z", "deadline": "2026-01-01T12:10:00Z", "message": message});
        let task = |escalated: Value| {
            json!({"name": "stopserver-u-1-1", "type": "StopServer", "department": "Operations", "state": "Open",
                "escalatedAt": escalated, "escalateTo": "Leads"})
        };
        let failed =
            |state: &str| json!({"name": "failedoperation-u-1-1", "type": "FailedOperation", "department": "Operations", "state": state});
        let server = json!({"id": "17", "handler": "hosting/msk-1", "configuration": "E3"});
        for (status, wanted) in [
            (json!({"observedGeneration": -1}), "the operator: it has not seen the order yet; where that lasts, see whether it runs"),
            (json!({"observedGeneration": 0}), "the operator: it has not acted upon the last change of the order yet"),
            (json!({"conditions": [condition("Ready", "Active")], "phase": "Active"}), "nothing: the client has the server"),
            (
                json!({"conditions": [condition("Ready", "Suspended")], "phase": "Suspended"}),
                "nothing: the service is suspended, as the order asks, until its author sets spec.suspended: false",
            ),
            (json!({"conditions": [condition("Stalled", "InvalidSpec")]}), "the order's author: correct the field named in the message"),
            (
                json!({"conditions": [condition("Stalled", "DialectMissing")], "nextRetryTime": "2026-01-01T12:05:00Z"}),
                "the provider: set the entry of spec.dialect that the message names; looked at again in 5m",
            ),
            (json!({"conditions": [condition("Stalled", "FromLater")]}), "somebody: see the message of condition Stalled"),
            (json!({"waitingOn": wait("Panel", "dci:1500", "installing: 20%")}), "the panel: installing: 20%; it counts as failed in 10m"),
            (
                json!({"waitingOn": wait("Retry", "PowerOn", "attempt 2 of 10 failed: x"), "nextRetryTime": "2026-01-01T12:04:00Z"}),
                "time: tried again in 4m; attempt 2 of 10 failed: x",
            ),
            (
                json!({"waitingOn": wait("Retry", "Secret", "Secret web-root lacks key password"),
                    "conditions": [condition("Ready", "CredentialsMissing")]}),
                "the order's author: Secret web-root lacks key password",
            ),
            (json!({"waitingOn": wait("Handler", "h/msk-1", "it is suspended")}), "the provider, handler h/msk-1: it is suspended"),
            (
                json!({"waitingOn": wait("Capacity", "E3", "no free server of type E3; place 1")}),
                "the panel, or the provider: no free server of type E3; place 1",
            ),
            (
                json!({"waitingOn": wait("Department", "stopserver-u-1-1", "x"), "manualTasks": [task(json!(null))], "server": server}),
                "department Operations: kubectl dci close -n hosting stopserver-u-1-1 Done|Retry|Abandon",
            ),
            (
                json!({"waitingOn": wait("Department", "stopserver-u-1-1", "x"), "manualTasks": [task(json!("2026-01-01T11:30:00Z"))],
                    "handler": "h/msk-1"}),
                "department Operations or Leads: kubectl dci close -n h stopserver-u-1-1 Done|Retry|Abandon",
            ),
            (
                json!({"waitingOn": wait("Panel", "dci:1500", "next list"), "manualTasks": [task(json!(null))], "server": server}),
                "department Operations: kubectl dci close -n hosting stopserver-u-1-1 Done|Retry|Abandon; and the panel: next list; it counts as failed in 10m",
            ),
            (
                json!({"waitingOn": wait("Handler", "h/msk-1", "it is down"), "manualTasks": [task(json!(null))], "server": server}),
                "department Operations: kubectl dci close -n hosting stopserver-u-1-1 Done|Retry|Abandon; and the provider, handler h/msk-1: it is down",
            ),
            (
                json!({"inFlight": {"operationId": "1", "step": "Allocate", "call": "claim", "target": "server/17", "attempt": 1,
                    "since": "2026-01-01T11:59:00Z", "outcome": "Sent"}}),
                "the operator: call claim of step Allocate is being made, or its effect is looked for",
            ),
            // It is being deleted, and its server is not marked as its own.
            (
                json!({"conditions": [condition("Stalled", "NotOurServer")], "waitingOn": wait("Department", "failedoperation-u-1-1", "x"),
                    "manualTasks": [failed("Open")], "server": server}),
                "department Operations: kubectl dci close -n hosting failedoperation-u-1-1 Done|Retry|Cancelled|Abandon; or the provider: put the marker back into the server's notes, or delete the order and have the provider abandon it",
            ),
            (
                json!({"conditions": [condition("Stalled", "NotOurServer")], "waitingOn": wait("Department", "failedoperation-u-1-1", "x"),
                    "manualTasks": [failed("Cancelled")], "server": server}),
                "the provider: put the marker back into the server's notes, or delete the order and have the provider abandon it",
            ),
            (json!({"progress": {"percent": 5, "step": "Allocate"}}), "the operator: Allocate goes on by itself"),
        ] {
            assert_eq!(said(&status), wanted);
        }
        assert!(next(&samples::order(&json!({})), Timestamp::UNIX_EPOCH).contains("not seen the order yet"));
    }
}
