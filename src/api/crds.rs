//! The `CustomResourceDefinition`s, generated from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};

/// For which API server the definitions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// 1.31 and later: with rules and selectable fields.
    Current,
    /// 1.25 to 1.30: with rules. Selectable fields are refused before 1.30, which drops them.
    V1_25,
    /// Before 1.25, as the local test server is: without rules too.
    V1_20,
}

impl Target {
    /// The target of a server's minor version.
    #[must_use]
    pub const fn of_minor(minor: u32) -> Self {
        match minor {
            0..25 => Self::V1_20,
            25..31 => Self::V1_25,
            31.. => Self::Current,
        }
    }

    const fn has_rules(self) -> bool {
        match self {
            Self::Current | Self::V1_25 => true,
            Self::V1_20 => false,
        }
    }

    const fn selects_fields(self) -> bool {
        match self {
            Self::Current => true,
            Self::V1_25 | Self::V1_20 => false,
        }
    }
}

/// Neither `current` nor a version of Kubernetes.
#[derive(Debug, thiserror::Error)]
#[error("`current`, or a server's version such as 1.29")]
pub struct UnknownVersion;

impl std::str::FromStr for Target {
    type Err = UnknownVersion;

    /// `current`, or the version of a server as it or a person writes it: `1.29`, `v1.29.3`, `1.29+`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "current" {
            return Ok(Self::Current);
        }
        let rest = text.strip_prefix('v').unwrap_or(text).strip_prefix("1.").ok_or(UnknownVersion)?;
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        if !tail.is_empty() && !tail.starts_with(['.', '+', '-']) {
            return Err(UnknownVersion);
        }
        digits.parse().map(Self::of_minor).map_err(|_| UnknownVersion)
    }
}

/// Why the definitions could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A definition did not survive serialisation.
    #[error("cannot write a CustomResourceDefinition: {0}")]
    Json(#[from] serde_json::Error),
    /// The same, as YAML.
    #[error("cannot write a CustomResourceDefinition as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// The four definitions as JSON, in the order of their file names.
pub fn all(target: Target) -> Result<Vec<Value>, CrdError> {
    [DedicatedServerOrder::crd(), IPManager::crd(), ManualTask::crd(), ProcessingHandler::crd()]
        .into_iter()
        .map(|crd| finish(crd, target))
        .collect()
}

/// One YAML stream with all four.
pub fn yaml(target: Target) -> Result<String, CrdError> {
    let mut text = String::new();
    for crd in all(target)? {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&crd)?);
    }
    Ok(text)
}

/// The file that holds a definition.
#[must_use]
pub fn file_name(crd: &Value) -> String {
    let name = crd["metadata"]["name"].as_str().unwrap_or("unknown");
    format!("{}.yaml", name.split('.').next().unwrap_or(name))
}

fn finish(crd: CustomResourceDefinition, target: Target) -> Result<Value, CrdError> {
    let mut value = serde_json::to_value(crd)?;
    for version in value["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"];
        without_defaults(status);
        // The default stands on `status` itself: a fresh object must never look as if it had been acted upon.
        status["default"] = json!({"observedGeneration": -1});
        if !target.selects_fields()
            && let Some(version) = version.as_object_mut()
        {
            version.remove("selectableFields");
        }
        schema(&mut version["schema"]["openAPIV3Schema"], target);
    }
    Ok(value)
}

/// Takes the defaults from a schema: what the operator did not write is not there, and 1.20 refuses `default: ""`.
fn without_defaults(value: &mut Value) {
    if let Some(node) = value.as_object_mut() {
        node.remove("default");
        for (key, child) in node.iter_mut() {
            match key.as_str() {
                "properties" => child.as_object_mut().into_iter().flatten().for_each(|(_, property)| without_defaults(property)),
                "items" | "additionalProperties" => without_defaults(child),
                _ => {}
            }
        }
    }
}

/// Walks a schema: formats that API servers warn about go, and for old servers the rules too.
///
/// `nullable` goes as well: without it the server prunes an explicit null before anything looks at the object, so that
/// null means absent; with it, null is kept and `has()` in a rule takes it for a value.
fn schema(value: &mut Value, target: Target) {
    match value {
        Value::Object(map) => {
            if map.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
                map.remove("format");
            }
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            if !target.has_rules() {
                map.remove("x-kubernetes-validations");
            }
            for child in map.values_mut() {
                schema(child, target);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| schema(item, target)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
