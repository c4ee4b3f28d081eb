//! The one writer of status: guarded by the resource version, verified against what the server stored, silent when nothing differs.

use std::fmt::Debug;

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::object::HasStatus;
use kube::core::{NamespaceResourceScope, Resource};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::DedicatedServerOrder;
use crate::api::condition::{self, Condition, ConditionType};
use crate::api::order_status::OrderStatus;
use crate::provisioning::reason::Reason;
use crate::provisioning::verdict::Phase;

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Somebody else wrote the object since it was read. Read it again.
    #[error("{0} has changed since it was read")]
    Conflict(String),
    /// The object is gone.
    #[error("{0} is gone")]
    Gone(String),
    /// The server accepted the status, but stored something else: its definitions are older than this program.
    #[error("the API server dropped `{field}` of {object}: apply the CustomResourceDefinitions of this version")]
    CrdOutdated {
        /// Object.
        object: String,
        /// What was dropped.
        field: &'static str,
    },
    /// The API server said no, or nothing.
    #[error("writing the status of {object}: {source}")]
    Api {
        /// Object.
        object: String,
        /// Its error.
        source: Box<kube::Error>,
    },
    /// The status could not be serialised.
    #[error("serialising a status: {0}")]
    Json(#[from] serde_json::Error),
}

impl StatusError {
    /// Whether the API server refuses this write for good: a policy, or a definition that the object does not fit.
    #[must_use]
    pub fn refused(&self) -> bool {
        let code = |source: &kube::Error| if let kube::Error::Api(status) = source { status.code } else { 0 };
        matches!(self, Self::Api { source, .. } if matches!(code(source), 403 | 422))
    }
}

/// What the API server says of a JSON patch whose `test` failed.
const FAILED_TEST: &str = "the server rejected our request due to an error in our request";

/// Sorts an error of a guarded patch.
#[must_use]
pub fn patch_error(object: String, error: kube::Error) -> StatusError {
    match &error {
        kube::Error::Api(status) if status.code == 404 => StatusError::Gone(object),
        // Somebody was quicker. A failed `test` is 422 with these words; a policy that denies has that number too, and words of its own.
        kube::Error::Api(status) if status.code == 409 || (status.code == 422 && status.message.contains(FAILED_TEST)) => {
            StatusError::Conflict(object)
        }
        _ => StatusError::Api { object, source: Box::new(error) },
    }
}

/// A JSON patch that does nothing unless the object is still the one that was read.
pub fn guarded<K: Resource>(object: &K, mut operations: Vec<Value>) -> Result<Patch<()>, StatusError> {
    let version = object.meta().resource_version.clone().unwrap_or_default();
    let uid = object.meta().uid.clone().unwrap_or_default();
    let mut all = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}),
    ];
    all.append(&mut operations);
    Ok(Patch::Json(serde_json::from_value(Value::Array(all))?))
}

/// Writes a status under the resource version of the object that was read. The object that the server stored comes back:
/// it is as fresh as a quorum read.
///
/// A whole update, not a patch: JSON patches of old servers turn empty strings into null. The server takes nothing but the
/// status from it, so that what the cache left out of the metadata stays.
pub async fn write<K, S>(client: &Client, object: &K, status: &S) -> Result<K, StatusError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasStatus<Status = S> + Clone + Debug + Serialize + DeserializeOwned,
    S: Clone,
{
    let name = format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let mut new = object.clone();
    *new.status_mut() = Some(status.clone());
    let params = PostParams { field_manager: Some("dci-operator".into()), ..PostParams::default() };
    api.replace_status(&object.name_any(), &params, &new).await.map_err(|e| patch_error(name, e))
}

/// What the server dropped of an order's status without which nothing may be asked for: the intent, what showed before it, and what was
/// answered and paid for.
#[must_use]
pub fn dropped(stored: Option<&OrderStatus>, new: &OrderStatus) -> Option<&'static str> {
    let stood = |status: &OrderStatus| status.server.as_ref().map(|s| (s.template_stood, s.failure_stood));
    if stored.and_then(|s| s.in_flight.as_ref()) != new.in_flight.as_ref() {
        return Some("status.inFlight");
    }
    if stored.and_then(stood) != stood(new) {
        return Some("status.server.templateStood or failureStood");
    }
    let answered = |status: &OrderStatus| status.licenses.iter().map(|l| (l.answered_at, l.answered_end)).collect::<Vec<_>>();
    (stored.map(answered).unwrap_or_default() != answered(new)).then_some("status.licenses[].answeredAt or answeredEnd")
}

/// The phase of an order that cannot be read. That its closing has begun is not said where it has not: what begins it would be left out once
/// the order can be read again.
fn phase_of_unread(before: &Value) -> &'static str {
    let phase = if before["phase"] == Phase::Deleting.as_str() { Phase::Deleting } else { Phase::Failed };
    phase.as_str()
}

/// Tells an object that this version cannot read that it is so. It stops nobody else. What its status was comes back, null where it is gone.
pub async fn unreadable<K>(client: &Client, metadata: &ObjectMeta, error: &str) -> Result<Value, StatusError>
where
    K: Resource<DynamicType = ()>,
{
    let (namespace, name) = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let object = format!("{} {namespace}/{name}", K::kind(&()));
    let failed = |source| patch_error(object.clone(), source);
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let Some(mut found) = api.get_opt(&name).await.map_err(failed)? else { return Ok(Value::Null) };
    let generation = metadata.generation.unwrap_or_default();
    let mut status = found.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let before = status.clone();
    let mut conditions: Vec<Condition> = status.get("conditions").cloned().and_then(|c| serde_json::from_value(c).ok()).unwrap_or_default();
    let (reason, message) = (Reason::InvalidObject.as_str(), format!("this version cannot read the object: {error}"));
    condition::set(&mut conditions, ConditionType::Ready, false, reason, &message, generation, Timestamp::now());
    condition::set(&mut conditions, ConditionType::Stalled, true, reason, &message, generation, Timestamp::now());
    condition::remove(&mut conditions, ConditionType::Reconciling);
    if let Some(members) = status.as_object_mut() {
        members.insert("conditions".into(), serde_json::to_value(&conditions)?);
        members.insert("observedGeneration".into(), json!(generation));
        if K::kind(&()) == DedicatedServerOrder::kind(&()) {
            members.insert("phase".into(), phase_of_unread(&before).into());
        }
    }
    if status == before {
        return Ok(before);
    }
    if let Some(data) = found.data.as_object_mut() {
        data.insert("status".into(), status);
    }
    api.replace_status(&name, &PostParams::default(), &found).await.map(|_| before).map_err(failed)
}

/// Patches metadata or spec of an object that is still the one that was read.
pub async fn patch<K>(client: &Client, object: &K, operations: Vec<Value>) -> Result<K, StatusError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let name = format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some("dci-operator".into()), ..PatchParams::default() };
    api.patch(&object.name_any(), &params, &guarded(object, operations)?).await.map_err(|e| patch_error(name, e))
}

/// The operations that add a finalizer.
#[must_use]
pub fn add_finalizer<K: Resource>(object: &K, finalizer: &str) -> Vec<Value> {
    match object.meta().finalizers.as_deref() {
        None | Some([]) => vec![json!({"op": "add", "path": "/metadata/finalizers", "value": [finalizer]})],
        Some(_) => vec![json!({"op": "add", "path": "/metadata/finalizers/-", "value": finalizer})],
    }
}

/// The operations that remove a finalizer; none when it is not there.
#[must_use]
pub fn remove_finalizer<K: Resource>(object: &K, finalizer: &str) -> Vec<Value> {
    let at = object.meta().finalizers.iter().flatten().position(|f| f == finalizer);
    at.map_or_else(Vec::new, |at| {
        vec![
            json!({"op": "test", "path": format!("/metadata/finalizers/{at}"), "value": finalizer}),
            json!({"op": "remove", "path": format!("/metadata/finalizers/{at}")}),
        ]
    })
}

/// The operations that set an annotation.
#[must_use]
pub fn set_annotation<K: Resource>(object: &K, name: &str, value: &str) -> Vec<Value> {
    let escaped = name.replace('~', "~0").replace('/', "~1");
    match &object.meta().annotations {
        None => vec![json!({"op": "add", "path": "/metadata/annotations", "value": {name: value}})],
        Some(_) => vec![json!({"op": "add", "path": format!("/metadata/annotations/{escaped}"), "value": value})],
    }
}

/// Whether an object carries a finalizer.
#[must_use]
pub fn has_finalizer<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|f| f == finalizer)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use crate::api::order::{InFlight, LicenseStatus, ServerStatus};

    use super::*;

    #[test]
    fn what_a_server_with_older_definitions_drops_is_noticed() {
        let at: crate::api::Time = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let intent = InFlight {
            operation_id: "1".into(),
            step: "InstallOS".into(),
            call: "install".into(),
            target: "server/17".into(),
            handler: None,
            intent: None,
            attempt: 1,
            since: at,
            outcome: "Sent".into(),
            looks: 0,
        };
        let server = |template_stood, failure_stood| ServerStatus { template_stood, failure_stood, ..ServerStatus::default() };
        let with = |in_flight: Option<&InFlight>, server: Option<ServerStatus>| OrderStatus {
            in_flight: in_flight.cloned(),
            server,
            ..OrderStatus::default()
        };
        let none = with(Some(&intent), Some(server(false, false)));
        assert_eq!(dropped(Some(&none), &none), None);
        assert_eq!(dropped(None, &with(None, None)), None);
        for new in [with(Some(&intent), Some(server(true, false))), with(Some(&intent), Some(server(false, true)))] {
            assert_eq!(dropped(Some(&new), &new), None);
            assert_eq!(dropped(Some(&none), &new), Some("status.server.templateStood or failureStood"));
            assert_eq!(dropped(Some(&with(None, new.server.clone())), &new), Some("status.inFlight"));
            assert_eq!(dropped(None, &new), Some("status.inFlight"));
        }
        let asked = InFlight { intent: Some("0f".into()), ..intent.clone() };
        assert_eq!(dropped(Some(&none), &with(Some(&asked), none.server.clone())), Some("status.inFlight"));
        let license = |answered_at, answered_end| OrderStatus {
            licenses: vec![LicenseStatus { product: "Lite".into(), answered_at, answered_end, ..LicenseStatus::default() }],
            ..OrderStatus::default()
        };
        let kept = license(None, None);
        assert_eq!(dropped(Some(&kept), &kept), None);
        for (new, old) in [(license(Some(at), None), &kept), (license(Some(at), Some(at)), &license(Some(at), None))] {
            assert_eq!(dropped(Some(&new), &new), None);
            for stored in [Some(old), None] {
                assert_eq!(dropped(stored, &new), Some("status.licenses[].answeredAt or answeredEnd"));
            }
        }
    }

    #[test]
    fn an_order_that_cannot_be_read_is_closing_only_where_that_has_begun() {
        for (before, phase) in [(json!({"phase": "Deleting"}), "Deleting"), (json!({"phase": "Active"}), "Failed"), (json!({}), "Failed")] {
            assert_eq!(phase_of_unread(&before), phase, "{before}");
        }
    }

    #[test]
    fn a_policy_that_denies_is_nobody_who_was_quicker() {
        let sorted = |code: u16, message: &str| {
            let status = Status { code, message: message.into(), ..Status::default() };
            patch_error("order shop/web".into(), kube::Error::Api(status.boxed()))
        };
        assert!(matches!(sorted(404, "not found"), StatusError::Gone(_)));
        assert!(matches!(sorted(409, "the object has been modified"), StatusError::Conflict(_)));
        assert!(matches!(sorted(422, FAILED_TEST), StatusError::Conflict(_)));
        for (code, message) in [
            (422, "\"web\" is forbidden: ValidatingAdmissionPolicy 'freeze' denied request: nothing changes today"),
            (422, "DedicatedServerOrder.dci-operator.dev \"web\" is invalid: spec.domain: Too long"),
            (403, "orders is forbidden"),
        ] {
            let error = sorted(code, message);
            assert!(error.refused(), "{error}");
        }
    }
}
