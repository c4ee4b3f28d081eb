//! Orders out of a file: one or more documents, YAML or JSON, a List included.

use serde::Deserialize;
use serde_json::Value;

use crate::api::DedicatedServerOrder;
use crate::api::crds::{self, Target};

/// The kind that is planned.
const KIND: &str = "DedicatedServerOrder";

/// Why a file cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{file}: {error}; name a file that can be read, or - for the standard input")]
    File {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no YAML.
    #[error("{file}: {error}; correct the file")]
    Yaml {
        /// The file.
        file: String,
        /// Where, and why.
        error: serde_yaml::Error,
    },
    /// There is no order in it.
    #[error("{file}: there is no DedicatedServerOrder in it; plan takes manifests of orders")]
    NoOrder {
        /// The file.
        file: String,
    },
    /// An order says another namespace than the command line.
    #[error("order {name} is of namespace {namespace}, and -n says {asked}; leave one of the two away")]
    Namespace {
        /// The order.
        name: String,
        /// Its own.
        namespace: String,
        /// That of the command line.
        asked: String,
    },
}

/// A document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its name, for people.
    pub name: String,
    /// The order, or why it cannot be read as one.
    pub order: Result<Box<DedicatedServerOrder>, String>,
    /// Fields that there are not: a server drops or refuses them.
    pub unknown: Vec<String>,
}

/// The orders of a text, with the namespace that they would get. `asked`: what the command line names.
pub fn orders(file: &str, text: &str, asked: Option<&str>, default: &str) -> Result<Vec<Manifest>, ManifestError> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| ManifestError::Yaml { file: file.to_owned(), error })?;
        collect(value, &mut found);
    }
    if found.is_empty() {
        return Err(ManifestError::NoOrder { file: file.to_owned() });
    }
    found.into_iter().map(|value| read(value, asked, default)).collect()
}

/// Orders stand by themselves or in a list; other kinds are not planned.
fn collect(value: Value, found: &mut Vec<Value>) {
    let ours = value["apiVersion"].as_str().is_some_and(|v| v.split('/').next() == Some(crate::api::GROUP));
    if ours && value["kind"] == KIND {
        found.push(value);
    } else if let Some(items) = value["kind"].as_str().filter(|kind| kind.ends_with("List")).and_then(|_| value["items"].as_array()) {
        items.iter().cloned().for_each(|item| collect(item, found));
    }
}

fn read(mut value: Value, asked: Option<&str>, default: &str) -> Result<Manifest, ManifestError> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match (value["metadata"]["namespace"].as_str(), asked) {
        (Some(own), Some(asked)) if own != asked => {
            return Err(ManifestError::Namespace { name, namespace: own.to_owned(), asked: asked.to_owned() });
        }
        (None, _) if value["metadata"].is_object() => value["metadata"]["namespace"] = asked.unwrap_or(default).into(),
        (Some(_) | None, _) => {}
    }
    let unknown = unknown(&value);
    // What the server writes is not the author's.
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    let order = serde_json::from_value::<DedicatedServerOrder>(value).map(Box::new).map_err(|error| error.to_string());
    let order = order.and_then(|order| if name.is_empty() { Err("metadata.name is missing".into()) } else { Ok(order) });
    Ok(Manifest { name: if name.is_empty() { "without a name".into() } else { name }, order, unknown })
}

/// Fields of the spec that the definition does not have.
fn unknown(order: &Value) -> Vec<String> {
    let all = crds::all(Target::Current).unwrap_or_default();
    let mut fields = Vec::new();
    if let Some(definition) = all.iter().find(|c| c["spec"]["names"]["kind"] == KIND) {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        compare("spec", schema, &order["spec"], &mut fields);
    }
    fields
}

fn compare(path: &str, schema: &Value, value: &Value, fields: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, child) in members {
                match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
                    Some(known) => compare(&format!("{path}.{name}"), known, child, fields),
                    None => fields.push(format!("{path}.{name}")),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| compare(&format!("{path}[]"), &schema["items"], item, fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "
apiVersion: dci-operator.dev/v1alpha1
kind: DedicatedServerOrder
metadata: {name: web-01}
spec:
  handlerRef: {name: msk-1}
  client: {username: acme}
  configuration: {serverType: E3}
  domain: a.example
  operatingSystem: {template: T}
";

    fn read_all(text: &str) -> Vec<Manifest> {
        orders("f.yaml", text, None, "shop").unwrap()
    }

    #[test]
    fn several_documents_and_lists_are_read_and_other_kinds_left_out() {
        let two = format!("{ORDER}---\nkind: ConfigMap\napiVersion: v1\n---\n{}", ORDER.replace("web-01", "web-02"));
        let names: Vec<String> = read_all(&two).into_iter().map(|m| m.order.unwrap().key().to_string()).collect();
        assert_eq!(names, ["shop/web-01", "shop/web-02"]);
        let order: Value = serde_yaml::from_str(ORDER).unwrap();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [order]}).to_string();
        assert_eq!(read_all(&list)[0].name, "web-01");
    }

    #[test]
    fn fields_that_there_are_not_are_named() {
        let text = ORDER.replace("  domain:", "  recipe: x\n  addresses: {ipv5: 1}\n  domain:");
        assert_eq!(read_all(&text)[0].unknown, ["spec.addresses.ipv5", "spec.recipe"]);
        assert!(read_all(ORDER)[0].unknown.is_empty());
    }

    #[test]
    fn what_is_no_order_says_why() {
        let broken = read_all(&ORDER.replace("  domain: a.example\n", ""));
        assert!(broken[0].order.as_ref().unwrap_err().contains("domain"));
        assert_eq!(read_all(&ORDER.replace("name: web-01", "labels: {}"))[0].order, Err("metadata.name is missing".into()));
        let error = |text: &str, asked| orders("f.yaml", text, asked, "shop").unwrap_err().to_string();
        assert!(error("a: [", None).starts_with("f.yaml: "));
        assert!(error("kind: ConfigMap", None).contains("there is no DedicatedServerOrder"));
        let named = ORDER.replace("{name: web-01}", "{name: web-01, namespace: other}");
        assert!(error(&named, Some("shop")).contains("of namespace other, and -n says shop"));
        assert_eq!(read_all(&named)[0].order.as_ref().unwrap().key().to_string(), "other/web-01");
    }
}
