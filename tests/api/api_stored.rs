//! Objects that earlier releases stored stay readable, with everything that was in them, and there is one for each field.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::stored::{SUMS, Stored, files, objects, releases};
use crate::support::{KINDS, Kind, refusals, schema, schema_of, twin};
use dci_operator::api::common::Duration;
use dci_operator::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn kind_of(stored: &Stored) -> Kind {
    match stored.object["kind"].as_str().unwrap() {
        "DedicatedServerOrder" => Kind::Order,
        "ProcessingHandler" => Kind::Handler,
        "IPManager" => Kind::Manager,
        "ManualTask" => Kind::Task,
        other => panic!("{}: a {other}", stored.name),
    }
}

#[test]
fn stored_objects_stay_readable() {
    fn again<T: Serialize + DeserializeOwned>(name: &str, object: &Value) -> Value {
        let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        serde_json::to_value(&read).unwrap()
    }
    for stored in objects() {
        let name = format!("{}/{}", stored.release, stored.name);
        let written = match kind_of(&stored) {
            Kind::Order => again::<DedicatedServerOrder>(&name, &stored.object),
            Kind::Handler => again::<ProcessingHandler>(&name, &stored.object),
            Kind::Manager => again::<IPManager>(&name, &stored.object),
            Kind::Task => again::<ManualTask>(&name, &stored.object),
        };
        holds(&name, &stored.object, &written);
    }
}

/// Everything that was stored is there; what is new may be added.
fn holds(place: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                holds(&format!("{place}.{name}"), value, new.get(name).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{place}");
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                holds(&format!("{place}[{i}]"), old, new);
            }
        }
        (Value::String(old), Value::String(new)) => {
            // Times and durations may be written in another way: 60s is 1m.
            let time = |text: &String| text.parse::<jiff::Timestamp>().ok();
            let duration = |text: &String| serde_json::from_value::<Duration>(json!(text)).ok().map(|d| d.0);
            let same =
                old == new || time(old).is_some_and(|t| time(new) == Some(t)) || duration(old).is_some_and(|d| duration(new) == Some(d));
            assert!(same, "{place}: {old} became {new}");
        }
        (old, new) => assert_eq!(old, new, "{place}"),
    }
}

/// A status cannot be written to an object that the server refuses as a whole.
#[test]
fn stored_objects_are_still_accepted() {
    for stored in objects() {
        let (kind, object) = (kind_of(&stored), &stored.object);
        let name = format!("{}/{}", stored.release, stored.name);
        assert_eq!(schema::violations(schema_of(kind), object), Vec::<String>::new(), "{name}");
        assert_eq!(refusals(kind, Some(object), object), Ok(Vec::new()), "{name}");
        assert_eq!(twin(kind, object), Ok(Vec::new()), "{name}");
    }
}

/// Every field that a schema has, as a path.
fn fields(kind: Kind) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in ["spec", "status"] {
        schema::walk(&schema_of(kind)["properties"][part], part, &mut |path, _| {
            found.insert(path.to_owned());
        });
    }
    found
}

/// The fields of a schema that a value has something in.
fn present(schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    if value.is_null() || schema.is_null() {
        return;
    }
    found.insert(path.to_owned());
    for (name, child) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(known) => present(known, child, &format!("{path}.{name}"), found),
            None => present(&schema["additionalProperties"], child, &format!("{path}{{}}"), found),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        present(&schema["items"], item, &format!("{path}[]"), found);
    }
}

/// A field that no fixture has could be renamed, and nobody would notice that it is lost.
#[test]
fn every_field_was_stored_once() {
    let stored = objects();
    for kind in KINDS {
        let mut found = BTreeSet::new();
        for object in stored.iter().filter(|stored| kind_of(stored) == kind).map(|stored| &stored.object) {
            for part in ["spec", "status"] {
                present(&schema_of(kind)["properties"][part], &object[part], part, &mut found);
            }
        }
        let wanted = fields(kind);
        assert!(wanted.len() > 25, "{kind:?}: {wanted:?}");
        let missing: Vec<&String> = wanted.difference(&found).collect();
        assert!(missing.is_empty(), "{kind:?}: add a file with these to the present release in tests/fixtures/objects: {missing:?}");
    }
}

/// A stored object that is changed is not what users have any more. Of a folder's list lines are only added.
#[test]
fn stored_objects_are_as_they_were_stored() {
    for release in releases() {
        let mut sums = String::new();
        for file in files(&release) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name != SUMS {
                let sum = Sha256::digest(std::fs::read(&file).unwrap());
                let hex = sum.iter().fold(String::new(), |mut text, byte| {
                    write!(text, "{byte:02x}").unwrap();
                    text
                });
                writeln!(sums, "{hex}  {name}").unwrap();
            }
        }
        let list = release.join(SUMS);
        let mut listed: Vec<String> = std::fs::read_to_string(&list).unwrap().lines().map(str::to_owned).collect();
        listed.sort_by(|a, b| a.split("  ").nth(1).cmp(&b.split("  ").nth(1)));
        assert_eq!(listed, sums.lines().collect::<Vec<_>>(), "{}: files are added, and none is changed", list.display());
    }
}
