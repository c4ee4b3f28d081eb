//! Condition `WebhooksReady` of a handler: whether the Secrets that its departments' messages are signed with can be read.
//!
//! Looked at with each poll, so that a name that is wrong is told before there is a task that nobody is told of. Neither handler nor
//! orders wait for it.

use jiff::Timestamp;

use crate::api::ProcessingHandler;
use crate::api::common::SecretKeyRef;
use crate::api::condition::{self, Condition, ConditionType};
use crate::api::handler::Departments;
use crate::provisioning::reason::Reason;

use super::context::Context;
use super::secrets::{self, SecretError};
use super::webhook::TIMEOUT;

/// The departments with a webhook, and the Secret of each.
fn references(handler: &ProcessingHandler) -> Vec<(&str, &SecretKeyRef)> {
    let all = handler.spec.departments.iter().flat_map(Departments::all);
    all.filter_map(|(name, webhook)| Some((name, &webhook?.secret_ref))).collect()
}

async fn readable(context: &Context, namespace: &str, reference: &SecretKeyRef) -> Result<(), String> {
    let read = tokio::time::timeout(TIMEOUT, secrets::read(&context.client, namespace, &reference.name));
    let secret = read.await.map_err(|_| format!("Secret {namespace}/{} could not be read in time", reference.name))?;
    secret.and_then(|s| s.text(&reference.key)).map(drop).map_err(|e: SecretError| e.to_string())
}

/// What of a handler's webhooks cannot work; `None` where it has none.
pub async fn trouble(context: &Context, handler: &ProcessingHandler) -> Option<Vec<String>> {
    let references = references(handler);
    if references.is_empty() {
        return None;
    }
    let namespace = handler.key().namespace;
    let mut found = Vec::new();
    for (department, reference) in references {
        if let Err(why) = readable(context, &namespace, reference).await {
            found.push(format!("{department} is told of no task: {why}"));
        }
    }
    Some(found)
}

/// Sets the condition, or takes it away where there is no webhook.
pub fn set(conditions: &mut Vec<Condition>, trouble: Option<&[String]>, generation: i64, now: Timestamp) {
    match trouble {
        None => condition::remove(conditions, ConditionType::WebhooksReady),
        Some([]) => condition::set(conditions, ConditionType::WebhooksReady, true, Reason::Done.as_str(), "", generation, now),
        Some(found) => {
            let (reason, message) = (Reason::CredentialsMissing.as_str(), found.join("; "));
            condition::set(conditions, ConditionType::WebhooksReady, false, reason, &message, generation, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::json;

    #[test]
    fn each_webhook_is_looked_at_and_a_condition_of_the_past_goes() {
        let hook = |name: &str| json!({"url": "https://h.example.net/x", "secretRef": {"name": name, "key": "k"}});
        let departments = json!({
            "operations": {"name": "Ops", "webhook": hook("a")}, "assembly": {"name": "Build"},
            "procurement": {"name": "Buy", "webhook": hook("b")},
        });
        let handler = samples::handler(&json!({"spec": {"departments": departments}}));
        let found: Vec<(&str, &str)> = references(&handler).into_iter().map(|(d, r)| (d, r.name.as_str())).collect();
        assert_eq!(found, [("Ops", "a"), ("Buy", "b")]);
        assert!(references(&samples::handler(&json!({}))).is_empty());

        let at = |second| Timestamp::from_second(second).unwrap();
        let mut conditions = Vec::new();
        set(&mut conditions, Some(&["Ops: no".to_owned(), "Buy: no".to_owned()]), 1, at(10));
        assert_eq!((conditions[0].status.as_str(), conditions[0].message.as_str()), ("False", "Ops: no; Buy: no"));
        set(&mut conditions, Some(&[]), 1, at(20));
        assert_eq!((conditions[0].status.as_str(), conditions[0].message.as_str()), ("True", "Done"));
        set(&mut conditions, None, 1, at(30));
        assert!(conditions.is_empty());
    }
}
