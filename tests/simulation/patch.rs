//! JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396), as far as anybody here sends them.

use serde_json::{Map, Value};

/// Why a patch is not applied.
#[derive(Debug, PartialEq, Eq)]
pub enum PatchError {
    /// A `test` failed, or there is no such place.
    Failed(String),
    /// It is no patch.
    Malformed(String),
}

/// Applies a merge patch: null takes members away.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(into) = target else { return };
    for (name, value) in members {
        if value.is_null() {
            into.remove(name);
        } else {
            merge(into.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies the operations of a JSON patch, all or none.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let mut new = target.clone();
    for operation in patch.as_array().ok_or_else(|| PatchError::Malformed("no list".into()))? {
        let path = operation["path"].as_str().ok_or_else(|| PatchError::Malformed(operation.to_string()))?;
        let value = &operation["value"];
        match operation["op"].as_str() {
            Some("test") if new.pointer(path) == Some(value) => {}
            Some("test") => return Err(PatchError::Failed(format!("testing value {path} failed"))),
            Some("add") => put(&mut new, path, Some(value), true)?,
            Some("replace") => put(&mut new, path, Some(value), false)?,
            Some("remove") => put(&mut new, path, None, false)?,
            _ => return Err(PatchError::Malformed(operation.to_string())),
        }
    }
    *target = new;
    Ok(())
}

/// Sets (`value`) or takes away; `insert` makes room in lists and members in objects.
fn put(target: &mut Value, path: &str, value: Option<&Value>, insert: bool) -> Result<(), PatchError> {
    let missing = || PatchError::Failed(format!("there is no {path}"));
    let (parent, last) = path.rsplit_once('/').ok_or_else(missing)?;
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(members) => match value {
            Some(value) if insert || members.contains_key(&last) => drop(members.insert(last, value.clone())),
            Some(_) => return Err(missing()),
            None => drop(members.remove(&last).ok_or_else(missing)?),
        },
        Value::Array(items) => {
            let place = if last == "-" { items.len() } else { last.parse().map_err(|_| missing())? };
            match value {
                Some(value) if insert && place <= items.len() => items.insert(place, value.clone()),
                Some(value) if place < items.len() => items[place] = value.clone(),
                None if place < items.len() => drop(items.remove(place)),
                Some(_) | None => return Err(missing()),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(missing()),
    }
    Ok(())
}

#[test]
fn patches_are_applied_as_the_rfcs_say() {
    use serde_json::json as j;
    let apply = |mut target: Value, patch: Value| json(&mut target, &patch).map(|()| target);
    let op = |op: &str, path: &str, value: Value| j!([{"op": op, "path": path, "value": value}]);
    for (target, patch, expected) in [
        (j!({"a": 1}), op("add", "/b", j!(2)), Some(j!({"a": 1, "b": 2}))),
        (j!({"a": [1, 3]}), op("add", "/a/1", j!(2)), Some(j!({"a": [1, 2, 3]}))),
        (j!({"a": [1]}), op("add", "/a/-", j!(2)), Some(j!({"a": [1, 2]}))),
        (j!({"x/y": 1}), op("replace", "/x~1y", j!(2)), Some(j!({"x/y": 2}))),
        (j!({"a": [1, 2]}), j!([{"op": "remove", "path": "/a/0"}]), Some(j!({"a": [2]}))),
        (j!({"a": 1}), op("test", "/a", j!(1)), Some(j!({"a": 1}))),
        (j!({"a": 1}), op("test", "/a", j!(2)), None),
        (j!({"a": 1}), op("replace", "/b", j!(2)), None),
        (j!({}), op("add", "/a/b", j!(2)), None),
    ] {
        assert_eq!(apply(target.clone(), patch.clone()).ok(), expected, "{target} {patch}");
    }
    let mut target = j!({"a": {"b": 1, "c": 2}, "d": [1]});
    merge(&mut target, &j!({"a": {"b": null, "e": 3}, "d": [2]}));
    assert_eq!(target, j!({"a": {"c": 2, "e": 3}, "d": [2]}));
}
