//! The API server of the simulation: objects, versions, and the rules by which they change; no HTTP, no time of its own.
//!
//! `conformance.rs` holds it against a real one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::defaults;
use super::patch::{self, PatchError};

/// When time begins: 2026-01-01T00:00:00Z.
pub const EPOCH: i64 = 1_767_225_600;

/// What the server knows of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::struct_field_names, reason = "its kind is called so in every manifest")]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    /// Defined by a `CustomResourceDefinition`: has a generation and a status of its own.
    pub custom: bool,
}

const OURS: &str = "dci-operator.dev";

pub const ORDERS: Kind =
    Kind { group: OURS, version: "v1alpha1", plural: "dedicatedserverorders", kind: "DedicatedServerOrder", custom: true };
pub const HANDLERS: Kind = Kind { group: OURS, version: "v1alpha1", plural: "processinghandlers", kind: "ProcessingHandler", custom: true };
pub const IPMANAGERS: Kind = Kind { group: OURS, version: "v1alpha1", plural: "ipmanagers", kind: "IPManager", custom: true };
pub const TASKS: Kind = Kind { group: OURS, version: "v1alpha1", plural: "manualtasks", kind: "ManualTask", custom: true };
pub const LEASES: Kind = Kind { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease", custom: false };
pub const SECRETS: Kind = Kind { group: "", version: "v1", plural: "secrets", kind: "Secret", custom: false };
pub const EVENTS: Kind = Kind { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", custom: false };
pub const NAMESPACES: Kind = Kind { group: "", version: "v1", plural: "namespaces", kind: "Namespace", custom: false };
pub const DEFINITIONS: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    plural: "customresourcedefinitions",
    kind: "CustomResourceDefinition",
    custom: false,
};
pub const KINDS: [Kind; 9] = [ORDERS, HANDLERS, IPMANAGERS, TASKS, LEASES, SECRETS, EVENTS, NAMESPACES, DEFINITIONS];

/// Namespace (empty for the cluster's) and name of an object of a kind.
pub type Key = (Kind, String, String);

/// One change, as watches see it.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    /// Milliseconds since the beginning.
    pub at: u64,
    pub key: Key,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub type_: &'static str,
    pub object: Arc<Value>,
    pub before: Option<Arc<Value>>,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    /// The object that says so.
    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

pub type Answer = Result<Arc<Value>, Refusal>;

/// How many changes a watch may be behind before it is told that they are gone, usually.
pub const KEPT: usize = 4000;

/// Everything that is stored.
pub struct ApiServer {
    pub objects: BTreeMap<Key, Arc<Value>>,
    pub log: VecDeque<Change>,
    pub version: u64,
    uids: u64,
    /// How many changes a watch may be behind.
    pub kept: usize,
    /// The longest page of a list, whatever a client asks for; 0: as long as it likes.
    pub page: usize,
    /// Versions up to this one have been forgotten.
    pub compacted: u64,
    definitions: Vec<Value>,
}

fn conflict(key: &Key) -> Refusal {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest version and try again",
        qualified(&key.0),
        key.2
    );
    Refusal::new(409, "Conflict", message)
}

fn qualified(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.plural.to_owned() } else { format!("{}.{}", kind.plural, kind.group) }
}

fn missing(key: &Key) -> Refusal {
    Refusal::new(404, "NotFound", format!("{} \"{}\" not found", qualified(&key.0), key.2))
}

fn invalid(key: &Key, what: &str) -> Refusal {
    Refusal::new(422, "Invalid", format!("{} \"{}\" is invalid: {what}", key.0.kind, key.2))
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::with(dci_operator::api::crds::all(dci_operator::api::crds::Target::Current).unwrap())
    }
}

impl ApiServer {
    /// A server that knows these definitions.
    pub fn with(definitions: Vec<Value>) -> Self {
        let known: Vec<Value> = definitions.iter().map(|d| json!({"metadata": {"name": d["metadata"]["name"]}})).collect();
        let mut server =
            Self { objects: BTreeMap::new(), log: VecDeque::new(), version: 100, uids: 0, kept: KEPT, page: 0, compacted: 0, definitions };
        for definition in known {
            server.create((DEFINITIONS, String::new(), String::new()), definition, 0).unwrap();
        }
        server
    }
}

impl ApiServer {
    fn schema(&self, kind: &Kind) -> Option<&Value> {
        let of_kind = |d: &&Value| d["spec"]["names"]["kind"] == kind.kind;
        self.definitions.iter().find(of_kind).map(|d| &d["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    }

    fn note(&mut self, key: &Key, type_: &'static str, mut object: Value, before: Option<Arc<Value>>, at: u64) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        match type_ {
            "DELETED" => drop(self.objects.remove(key)),
            _ => drop(self.objects.insert(key.clone(), object.clone())),
        }
        self.log.push_back(Change { version: self.version, at, key: key.clone(), type_, object: object.clone(), before });
        if self.log.len() > self.kept
            && let Some(old) = self.log.pop_front()
        {
            self.compacted = old.version;
        }
        object
    }

    /// What the schema says of a custom object: defaults are put in, unknown fields taken out, what breaks it is refused.
    fn structural(&self, key: &Key, object: &mut Value) -> Result<(), Refusal> {
        let Some(schema) = self.schema(&key.0).filter(|_| key.0.custom) else { return Ok(()) };
        let found = defaults::complete(schema, object);
        if found.is_empty() { Ok(()) } else { Err(invalid(key, &found.join(", "))) }
    }

    pub fn create(&mut self, key: Key, mut object: Value, now: u64) -> Answer {
        let (kind, namespace, _) = key;
        let mut name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty()
            && let Some(prefix) = object["metadata"]["generateName"].as_str()
        {
            name = format!("{prefix}{:05}", self.version);
        }
        let key = (kind, namespace, name);
        if key.2.is_empty() {
            return Err(invalid(&key, "metadata.name: Required value: name or generateName is required"));
        }
        if !object["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty() {
            return Err(Refusal::new(500, "InternalError", "resourceVersion should not be set on objects to be created"));
        }
        self.uids += 1;
        let metadata = &mut object["metadata"];
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink"] {
            if let Some(members) = metadata.as_object_mut() {
                members.remove(field);
            }
        }
        metadata["name"] = key.2.clone().into();
        if !key.1.is_empty() {
            metadata["namespace"] = key.1.clone().into();
        }
        metadata["uid"] = format!("{:08x}-0000-4000-8000-000000000000", self.uids).into();
        metadata["creationTimestamp"] = timestamp(now).into();
        if kind.custom {
            metadata["generation"] = 1.into();
            if let Some(members) = object.as_object_mut() {
                members.remove("status");
            }
        }
        self.structural(&key, &mut object)?;
        // What breaks the schema is refused before anybody looks whether it is there.
        if self.objects.contains_key(&key) {
            return Err(Refusal::new(409, "AlreadyExists", format!("{} \"{}\" already exists", qualified(&kind), key.2)));
        }
        encode_strings(&mut object);
        Ok(self.note(&key, "ADDED", object, None, now))
    }

    pub fn get(&self, key: &Key) -> Answer {
        self.objects.get(key).cloned().ok_or_else(|| missing(key))
    }

    /// A list of one namespace, or of all where it is empty.
    pub fn list(&self, kind: &Kind, namespace: &str, labels: &str) -> Value {
        listed(&self.objects, self.version, kind, namespace, labels)
    }

    /// `PUT`, of the object or of its status.
    pub fn replace(&mut self, key: &Key, new: &Value, status: bool, now: u64) -> Answer {
        let Some(old) = self.objects.get(key).cloned() else {
            if key.0 == LEASES && !new["metadata"]["uid"].is_string() {
                // Of the kinds here, Leases alone are made by a write to a name that is not there.
                return self.create(key.clone(), new.clone(), now);
            }
            // Who names the object that it was gets a conflict, as if another one were there.
            return Err(if new["metadata"]["uid"].is_string() { conflict(key) } else { missing(key) });
        };
        // Secrets may be written without a version, most other kinds not.
        if new["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) && key.0 != SECRETS {
            return Err(invalid(key, "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"));
        }
        self.update(key, &old, new.clone(), status, now)
    }

    /// `PATCH`, of the object or of its status.
    pub fn patch(&mut self, key: &Key, content_type: &str, patch: &Value, status: bool, now: u64) -> Answer {
        let old = self.get(key)?;
        let mut new = Value::clone(&old);
        if content_type.starts_with("application/json-patch+json") {
            patch::json(&mut new, patch).map_err(|error| match error {
                PatchError::Failed(_) => Refusal::new(422, "Invalid", "the server rejected our request due to an error in our request"),
                PatchError::Malformed(what) => Refusal::new(400, "BadRequest", what),
            })?;
        } else if content_type.starts_with("application/merge-patch+json") {
            patch::merge(&mut new, patch);
        } else {
            return Err(Refusal::new(415, "UnsupportedMediaType", content_type.to_owned()));
        }
        self.update(key, &old, new, status, now)
    }

    fn update(&mut self, key: &Key, old: &Arc<Value>, mut new: Value, status: bool, now: u64) -> Answer {
        let meta = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let version = meta(&new, "resourceVersion");
        if !version.is_empty() && version != meta(old, "resourceVersion") {
            return Err(conflict(key));
        }
        if !meta(&new, "uid").is_empty() && meta(&new, "uid") != meta(old, "uid") {
            let message = format!(
                "Operation cannot be fulfilled on {} \"{}\": StorageError: invalid object, Code: 4, UID mismatch",
                qualified(&key.0),
                key.2
            );
            return Err(Refusal::new(409, "Conflict", message));
        }
        if status {
            let mut object = Value::clone(old);
            object["status"] = new["status"].take();
            if object["status"].is_null()
                && let Some(members) = object.as_object_mut()
            {
                members.remove("status");
            }
            new = object;
        } else {
            for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "name", "namespace"]
            {
                carry(&old["metadata"], &mut new["metadata"], field);
            }
            if key.0.custom {
                carry(old, &mut new, "status");
            }
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        self.structural(key, &mut new)?;
        encode_strings(&mut new);
        if let Some(members) = new["metadata"].as_object_mut() {
            let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(serde_json::Map::is_empty);
            members.retain(|name, value| !(["finalizers", "labels", "annotations"].contains(&name.as_str()) && empty(value)));
        }
        if key.0.custom && !status && new["spec"] != old["spec"] {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        let deleting = !old["metadata"]["deletionTimestamp"].is_null();
        let (had, has) = (names(&old["metadata"]["finalizers"]), names(&new["metadata"]["finalizers"]));
        if deleting && has.iter().any(|f| !had.contains(f)) {
            let what = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
            return Err(invalid(key, what));
        }
        if new == **old {
            return Ok(old.clone());
        }
        if deleting && has.is_empty() {
            return Ok(self.note(key, "DELETED", new, Some(old.clone()), now));
        }
        Ok(self.note(key, "MODIFIED", new, Some(old.clone()), now))
    }

    pub fn delete(&mut self, key: &Key, options: &Value, now: u64) -> Answer {
        let old = self.get(key)?;
        for (field, wanted) in
            [("uid", &options["preconditions"]["uid"]), ("resourceVersion", &options["preconditions"]["resourceVersion"])]
        {
            if wanted.is_string() && old["metadata"][field] != *wanted {
                let message = format!(
                    "Operation cannot be fulfilled on {} \"{}\": Precondition failed: {field} in precondition: {}, {field} in object meta: {}",
                    qualified(&key.0),
                    key.2,
                    wanted.as_str().unwrap_or_default(),
                    old["metadata"][field].as_str().unwrap_or_default()
                );
                return Err(Refusal::new(409, "Conflict", message));
            }
        }
        if names(&old["metadata"]["finalizers"]).is_empty() {
            let uid = old["metadata"]["uid"].clone();
            self.note(key, "DELETED", Value::clone(&old), Some(old), now);
            let details = json!({"name": key.2, "group": key.0.group, "kind": key.0.plural, "uid": uid});
            return Ok(Arc::new(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Ok(old);
        }
        let mut new = Value::clone(&old);
        new["metadata"]["deletionTimestamp"] = timestamp(now).into();
        new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        if let Some(generation) = old["metadata"]["generation"].as_i64() {
            new["metadata"]["generation"] = (generation + 1).into();
        }
        Ok(self.note(key, "MODIFIED", new, Some(old), now))
    }

    /// What changed after a version, oldest first.
    pub fn since(&self, version: u64) -> impl Iterator<Item = &Change> {
        self.log.range(self.log.partition_point(|change| change.version <= version)..)
    }

    /// All objects of a kind.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((k, _, _), _)| *k == kind).map(|(_, object)| &**object)
    }
}

/// A list of what there was at a version.
pub fn listed(objects: &BTreeMap<Key, Arc<Value>>, version: u64, kind: &Kind, namespace: &str, labels: &str) -> Value {
    let wanted: Vec<(&str, &str)> = labels.split(',').filter_map(|l| l.split_once('=')).collect();
    let fits = |object: &Value| wanted.iter().all(|(name, value)| object["metadata"]["labels"][name] == *value);
    let items: Vec<&Value> = objects
        .iter()
        .filter(|((k, n, _), object)| k == kind && (namespace.is_empty() || n == namespace) && fits(object))
        .map(|(_, object)| &**object)
        .collect();
    let api_version = if kind.group.is_empty() { kind.version.to_owned() } else { format!("{}/{}", kind.group, kind.version) };
    json!({
        "kind": format!("{}List", kind.kind), "apiVersion": api_version,
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    })
}

fn carry(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => {
            if let Some(members) = to.as_object_mut() {
                members.remove(field);
            }
        }
    }
}

/// What is written as `stringData` of a Secret is stored as `data`.
fn encode_strings(object: &mut Value) {
    let Some(Value::Object(strings)) = object.as_object_mut().and_then(|o| o.remove("stringData")) else { return };
    for (name, text) in strings {
        object["data"][name] = base64(text.as_str().unwrap_or_default().as_bytes()).into();
    }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sign = char::from(SIGNS[number >> (18 - 6 * place) & 63]);
            text.push(if place <= chunk.len() { sign } else { '=' });
        }
    }
    text
}

/// A moment, in whole seconds, as the server writes it.
pub fn timestamp(millis: u64) -> String {
    let seconds = EPOCH + i64::try_from(millis / 1000).unwrap();
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}
