//! The part of JSON Schema that structural schemas use: a check of values, and a walk over all nodes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// What of the schema a value breaks, as `path: keyword`. Rules are not looked at.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        // Compiling a pattern takes far longer than trying it.
        static COMPILED: RefCell<BTreeMap<String, Regex>> = const { RefCell::new(BTreeMap::new()) };
    }
    COMPILED.with_borrow_mut(|all| all.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text))
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut broken = |keyword: &str| found.push(format!("{path}: {keyword}"));
    let typed = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !typed {
        broken("type");
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        broken("enum");
    }
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    for keyword in ["minLength", "minItems", "minProperties"] {
        if schema[keyword].as_u64().is_some_and(|min| (size as u64) < min) {
            broken(keyword);
        }
    }
    for keyword in ["maxLength", "maxItems", "maxProperties"] {
        if schema[keyword].as_u64().is_some_and(|max| size as u64 > max) {
            broken(keyword);
        }
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|min| number < min) {
            broken("minimum");
        }
        if schema["maximum"].as_f64().is_some_and(|max| number > max) {
            broken("maximum");
        }
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !matches(pattern, text)
    {
        broken("pattern");
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            broken("required");
        }
    }
    for (name, child) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        if let Some(known) = known {
            check(known, child, &format!("{path}.{name}"), found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(&schema["items"], item, &format!("{path}[]"), found);
    }
}

/// Calls `visit` with the path of each node of a schema and the node; a map's values are `{}`, a list's items `[]`.
pub fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(child, &format!("{path}.{name}"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}{{}}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
}

/// Every rule of a schema: the path it stands on, its expression and its message.
pub fn rules(schema: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    walk(schema, "", &mut |path, node| {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
            found.push((path.to_owned(), text("rule"), text("message")));
        }
    });
    found
}
