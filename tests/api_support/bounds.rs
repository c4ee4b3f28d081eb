//! Every bound of the schemas, broken: what the tests of the rules try, here and on a real server.

use serde_json::{Value, json};

use super::{KINDS, Kind, example, examples, schema_of};

/// Every way to break one bound of the example: where, and the object.
pub fn broken_bounds(kind: Kind, example: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    mutate(&schema_of(kind)["properties"]["spec"], &example["spec"], "/spec", &mut |path, value| {
        let mut object = example.clone();
        *object.pointer_mut(path).unwrap() = value;
        found.push((path.to_owned(), object));
    });
    found
}

fn mutate(schema: &Value, value: &Value, path: &str, emit: &mut dyn FnMut(&str, Value)) {
    let bound = |keyword: &str| schema[keyword].as_u64().and_then(|n| usize::try_from(n).ok());
    match value {
        Value::String(_) if schema["enum"].is_array() => emit(path, json!("Unheard")),
        Value::String(text) => {
            if let Some(max) = bound("maxLength") {
                emit(path, json!(format!("{text}{}", "a".repeat(max + 1 - text.chars().count().min(max)))));
                emit(path, json!("ж".repeat(max + 1)));
            }
            if bound("minLength").is_some() {
                emit(path, json!(""));
            }
            if schema["pattern"].is_string() {
                for bad in ["../secrets/other", " ", "a b", "a\n", "-a-", "ключ", "a@b@c"] {
                    emit(path, json!(bad));
                }
            }
        }
        Value::Number(_) => {
            // Bounds are written as floats: `1.0`.
            let whole = |keyword: &str| format!("{:.0}", schema[keyword].as_f64().unwrap()).parse::<i64>().unwrap();
            emit(path, json!(whole("minimum") - 1));
            emit(path, json!(whole("maximum") + 1));
        }
        Value::Array(items) => {
            emit(path, Value::Array(vec![items[0].clone(); bound("maxItems").unwrap() + 1]));
            if bound("minItems").is_some() {
                emit(path, json!([]));
            }
            mutate(&schema["items"], &items[0], &format!("{path}/0"), emit);
        }
        Value::Object(map) if schema["additionalProperties"].is_object() => {
            let (key, first) = map.iter().next().unwrap();
            emit(path, (0..=bound("maxProperties").unwrap()).map(|n| (format!("k{n}"), first.clone())).collect());
            if bound("minProperties").is_some() {
                emit(path, json!({}));
            }
            mutate(&schema["additionalProperties"], first, &format!("{path}/{key}"), emit);
        }
        Value::Object(map) => {
            for (key, child) in map {
                mutate(&schema["properties"][key], child, &format!("{path}/{key}"), emit);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Examples that together have every field of a spec.
pub fn full_examples() -> Vec<(Kind, Value)> {
    let mut custom = examples::order();
    custom["spec"]["configuration"] = json!({"custom": examples::custom()});
    let handler_ref = custom["spec"].as_object_mut().unwrap().remove("handlerRef");
    assert!(handler_ref.is_some());
    custom["spec"]["handlerSelector"] = json!({"namespace": "hosting", "matchLabels": {"zone": "msk"}});
    let mut adopting = examples::order();
    adopting["spec"]["adopt"] = json!({"serverId": "17"});
    let mut managers = [examples::ipmanager(), examples::ipmanager()];
    managers[0]["spec"]["connection"]["tls"] = json!({"caBundle": "PEM", "insecureSkipVerify": false});
    managers[1]["spec"]["connection"]["tls"] = json!({"caBundleSecretRef": {"name": "ca", "key": "ca.crt"}});
    let mut pinned = examples::handler();
    pinned["spec"]["connection"]["tls"] = examples::ipmanager()["spec"]["connection"]["tls"].take();
    let mut rest = examples::handler();
    rest["spec"]["connection"]["tls"] = json!({"caBundleSecretRef": {"name": "ca", "key": "ca.crt"}});
    rest["spec"]["dialect"] = json!({"power": {"method": "POST", "path": "/server"}});
    let server = examples::license_server();
    let more = [(Kind::Order, custom), (Kind::Order, adopting), (Kind::Handler, rest), (Kind::Handler, pinned), (Kind::Handler, server)];
    let managers = managers.into_iter().map(|manager| (Kind::Manager, manager));
    KINDS.into_iter().map(|kind| (kind, example(kind))).chain(more).chain(managers).collect()
}
