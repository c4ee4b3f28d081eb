//! What an API server does with a structural schema: puts defaults in, takes unknown fields out, finds what is not allowed.

use serde_json::Value;

use super::schema;

/// Completes an object and tells what breaks the schema. Rules (CEL) are not evaluated.
pub fn complete(schema: &Value, object: &mut Value) -> Vec<String> {
    walk(schema, object, true);
    schema::violations(schema, object)
}

fn walk(schema: &Value, value: &mut Value, root: bool) {
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object();
            if let Some(properties) = properties {
                let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
                members.retain(|name, _| {
                    free || properties.contains_key(name) || (root && ["metadata", "apiVersion", "kind"].contains(&name.as_str()))
                });
                // A null where null is not allowed is as good as nothing.
                members.retain(|name, value| !value.is_null() || properties.get(name).is_some_and(|s| s["nullable"] == true));
                for (name, schema) in properties {
                    if !members.contains_key(name) && !schema["default"].is_null() {
                        members.insert(name.clone(), schema["default"].clone());
                    }
                }
            }
            for (name, value) in members.iter_mut() {
                if root && name == "metadata" {
                    continue;
                }
                let inner = properties.and_then(|p| p.get(name)).unwrap_or(&schema["additionalProperties"]);
                if inner.is_object() {
                    walk(inner, value, false);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(&schema["items"], item, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
