//! Why a handler or an IPManager is not ready, and which conditions say so.

use jiff::Timestamp;

use crate::api::condition::{self, Condition, ConditionType};
use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::settings::SettingsError;
use crate::provisioning::reason::Reason;

/// Why a handler or IPManager is not ready.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Reason.
    pub reason: Reason,
    /// In words.
    pub message: String,
    /// Somebody has to change something; otherwise it is tried again by itself.
    pub stalled: bool,
}

impl Problem {
    /// Somebody has to change something.
    #[must_use]
    pub fn stalled(reason: Reason, message: String) -> Self {
        Self { reason, message, stalled: true }
    }

    /// It is tried again by itself.
    #[must_use]
    pub fn passing(reason: Reason, message: String) -> Self {
        Self { reason, message, stalled: false }
    }
}

/// What a panel's error says of the handler.
#[must_use]
pub fn problem_of(error: &PanelError) -> Problem {
    let message = error.to_string();
    match error {
        PanelError::Certificate { .. } => Problem::stalled(Reason::CertificateRefused, message),
        PanelError::AddressDenied { .. } => Problem::stalled(Reason::AddressDenied, message),
        PanelError::Refused { .. } if error.hides_users() => Problem::stalled(Reason::NotAdministrator, message),
        _ if error.class() == ErrorClass::Credentials => Problem::stalled(Reason::LoginRefused, message),
        // Also a log-in that it does not take now, which counts as no answer to the call that it was for.
        PanelError::Refused { .. } => Problem::stalled(Reason::PanelError, message),
        _ if error.class() == ErrorClass::Down => Problem::passing(Reason::Unreachable, message),
        _ => Problem::stalled(Reason::PanelError, message),
    }
}

/// What settings that cannot be used say of the handler.
#[must_use]
pub fn problem_of_settings(error: &SettingsError) -> Problem {
    let reason = match error {
        SettingsError::Denied(_) => Reason::AddressDenied,
        SettingsError::Url(_) | SettingsError::Pin | SettingsError::Bundle(_) | SettingsError::System(_) | SettingsError::Http(_) => {
            Reason::InvalidSpec
        }
    };
    Problem::stalled(reason, error.to_string())
}

/// Sets Reconciling and Stalled to what a problem, or a deletion that is held, means.
pub fn set_progress(conditions: &mut Vec<Condition>, problem: Option<&Problem>, deleting: Option<String>, generation: i64, now: Timestamp) {
    // Kept aside: what is still true keeps the time at which it became so.
    let stalled = condition::find(conditions, ConditionType::Stalled).cloned();
    let old = condition::find(conditions, ConditionType::Reconciling).cloned();
    condition::remove(conditions, ConditionType::Stalled);
    condition::remove(conditions, ConditionType::Reconciling);
    match (problem, deleting) {
        (_, Some(message)) => {
            conditions.extend(old);
            condition::set(conditions, ConditionType::Ready, false, Reason::InUse.as_str(), &message, generation, now);
            condition::set(conditions, ConditionType::Reconciling, true, Reason::InUse.as_str(), &message, generation, now);
        }
        (Some(p), None) if p.stalled => {
            conditions.extend(stalled);
            condition::set(conditions, ConditionType::Stalled, true, p.reason.as_str(), &p.message, generation, now);
        }
        (Some(p), None) => {
            conditions.extend(old);
            condition::set(conditions, ConditionType::Reconciling, true, p.reason.as_str(), &p.message, generation, now);
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_that_stays_keeps_the_time_at_which_it_began() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (problem, type_) in [
            (Problem::stalled(Reason::LoginRefused, "no".into()), ConditionType::Stalled),
            (Problem::passing(Reason::Unreachable, "no".into()), ConditionType::Reconciling),
        ] {
            let mut conditions = Vec::new();
            for second in [10, 20] {
                set_progress(&mut conditions, Some(&problem), None, 1, at(second));
            }
            assert_eq!(conditions.len(), 1, "{conditions:?}");
            assert_eq!(condition::find(&conditions, type_).unwrap().last_transition_time.0, at(10));
            set_progress(&mut conditions, None, None, 1, at(30));
            assert!(conditions.is_empty(), "{conditions:?}");
        }
    }
}
