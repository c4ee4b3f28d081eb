//! Conditions: their types, and how one is set without touching what did not change.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Time, null_as_default};

/// A condition, in the shape of `metav1.Condition`.
///
/// Declared here because a status must carry no bound or pattern: an old schema must never refuse the write that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The generation this was said of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Every condition type that the operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The object is what its spec asks for.
    Ready,
    /// The operator is at work, or waits for something that comes by itself or by a person's task. Absent when not.
    Reconciling,
    /// Nothing goes on until somebody changes something. Absent when not.
    Stalled,
    /// A server is ours.
    ServerAllocated,
    /// It has its public addresses.
    NetworkConfigured,
    /// Its system is installed.
    OSInstalled,
    /// Its recipes have run.
    RecipesApplied,
    /// Its licences are there.
    LicensesIssued,
    /// A person has to act. Absent when not.
    ManualActionRequired,
    /// The service is suspended. Absent when not.
    Suspended,
    /// Handler: the panel accepts the credentials, and they are an administrator's.
    CredentialsValid,
    /// Handler: its `IPManager` is ready.
    IPManagerReady,
    /// Handler: its licence server is ready.
    LicenseServerReady,
    /// Handler: the Secrets of its departments' webhooks are there. Absent without webhooks.
    WebhooksReady,
    /// Task: its deadline has passed. Absent when not.
    Overdue,
}

impl ConditionType {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::ServerAllocated => "ServerAllocated",
            Self::NetworkConfigured => "NetworkConfigured",
            Self::OSInstalled => "OSInstalled",
            Self::RecipesApplied => "RecipesApplied",
            Self::LicensesIssued => "LicensesIssued",
            Self::ManualActionRequired => "ManualActionRequired",
            Self::Suspended => "Suspended",
            Self::CredentialsValid => "CredentialsValid",
            Self::IPManagerReady => "IPManagerReady",
            Self::LicenseServerReady => "LicenseServerReady",
            Self::WebhooksReady => "WebhooksReady",
            Self::Overdue => "Overdue",
        }
    }
}

/// The longest message that is written, in characters.
pub const MAX_MESSAGE: usize = 1024;

/// Cuts a message to what a status carries.
#[must_use]
pub fn bounded(message: &str) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let mut cut: String = message.chars().take(MAX_MESSAGE - 1).collect();
    cut.push('…');
    cut
}

/// Sets a condition; the transition time moves only when the status does.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: ConditionType,
    status: bool,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    // A condition always says something: `kubectl wait` and people print the message.
    let message = if message.is_empty() { reason.to_owned() } else { bounded(message) };
    let last_transition_time = Time::seconds(now);
    let new = Condition {
        type_: type_.as_str().into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_transition_time,
        observed_generation: Some(generation),
    };
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            let since = if old.status == new.status { old.last_transition_time } else { last_transition_time };
            *old = Condition { last_transition_time: since, ..new };
        }
        None => conditions.push(new),
    }
}

/// Keeps the transition time of every condition whose status is what it was when last saved.
///
/// Within one pass a condition may come and go in memory; nobody has seen that.
pub fn carry_times(saved: &[Condition], new: &mut [Condition]) {
    for condition in new {
        if let Some(old) = saved.iter().find(|c| c.type_ == condition.type_ && c.status == condition.status) {
            condition.last_transition_time = old.last_transition_time;
        }
    }
}

/// Takes a condition away: those that are bad when true are absent when they are not.
pub fn remove(conditions: &mut Vec<Condition>, type_: ConditionType) {
    conditions.retain(|c| c.type_ != type_.as_str());
}

/// Finds a condition.
#[must_use]
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Whether a condition is there and true.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let t = |s| Timestamp::from_second(s).unwrap();
        let mut conditions = Vec::new();
        set(&mut conditions, ConditionType::Ready, false, "Preparing", "a", 1, t(10));
        set(&mut conditions, ConditionType::Ready, false, "Installing", "b", 2, t(20));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time.0, t(10));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("Installing", Some(2)));
        set(&mut conditions, ConditionType::Ready, true, "Active", "", 2, t(30));
        assert_eq!(conditions[0].last_transition_time.0, t(30));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let text = bounded(&"ж".repeat(5000));
        assert_eq!(text.chars().count(), MAX_MESSAGE);
        assert!(text.ends_with('…'));
    }
}
