//! The definitions as a whole: bounded specs, free statuses, columns, names, and what old servers get.

use crate::support::{KINDS, Kind, definition, schema, schema_of};
use dci_operator::api::crds::{self, Target};
use serde_json::{Value, json};

/// Every node below `spec` or `status` of a kind.
fn each_node(part: &str, visit: &mut dyn FnMut(Kind, &str, &Value)) {
    for kind in KINDS {
        schema::walk(&schema_of(kind)["properties"][part], part, &mut |path, node| visit(kind, path, node));
    }
}

/// Every member of a definition, however deep.
fn each_member(value: &Value, path: &str, visit: &mut dyn FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                visit(path, key, child);
                each_member(child, &format!("{path}.{key}"), visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_member(item, &format!("{path}[]"), visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn each_part_of_a_spec_is_bounded() {
    let mut seen = 0;
    each_node("spec", &mut |kind, path, node| {
        let has = |keyword: &str| node.get(keyword).is_some();
        let bounded = match node["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || node["format"] == "date-time",
            Some("array") => has("maxItems") && has("items"),
            Some("object") if has("additionalProperties") => has("maxProperties"),
            // An object with neither properties nor a type of values would be pruned to nothing.
            Some("object") => has("properties"),
            Some("integer" | "number") => has("minimum") && has("maximum"),
            Some("boolean") => true,
            _ => false,
        };
        assert!(bounded, "{kind:?}.{path} has no bound: {node}");
        for keyword in ["anyOf", "oneOf", "allOf", "not", "$ref"] {
            assert!(!has(keyword), "{kind:?}.{path} has {keyword}");
        }
        seen += 1;
    });
    assert!(seen > 140, "only {seen} nodes seen");
}

#[test]
fn each_text_that_has_to_be_there_refuses_blanks() {
    let mut seen = 0;
    each_node("spec", &mut |kind, path, node| {
        // Addresses are kept to their form by a rule.
        if node["type"] != "string" || node["minLength"].as_u64().unwrap_or(0) == 0 || path.rsplit('.').next() == Some("url") {
            return;
        }
        let longest = usize::try_from(node["maxLength"].as_u64().unwrap()).unwrap();
        for blank in [" ", "\t", "\u{a0}"] {
            for text in [blank.to_owned(), blank.repeat(longest)] {
                assert_ne!(schema::violations(node, &json!(text)), Vec::<String>::new(), "{kind:?}.{path} takes {text:?}");
            }
        }
        seen += 1;
    });
    assert!(seen > 30, "only {seen} texts seen");
}

#[test]
fn defaults_are_within_their_own_bounds() {
    each_node("spec", &mut |kind, path, node| {
        if let Some(default) = node.get("default") {
            assert_eq!(schema::violations(node, default), Vec::<String>::new(), "{kind:?}.{path}: the server would refuse the definition");
            // Tried: 1.20 takes an empty text here for null, and refuses the definition.
            assert!(*default != json!("") && !default.is_null(), "{kind:?}.{path}: an empty default");
        }
    });
}

#[test]
fn no_rule_reaches_into_status_beyond_whether_it_is_there() {
    for kind in KINDS {
        for (path, rule, _) in schema::rules(schema_of(kind)) {
            assert!(path.is_empty() || path.starts_with(".spec"), "{kind:?}{path}: a rule on status could refuse its write");
            let mut rest = rule.clone();
            for known in ["has(oldSelf.status.server)", "has(oldSelf.status.inFlight)", "has(oldSelf.status)"] {
                rest = rest.replace(known, "");
            }
            assert!(!rest.contains(".status"), "{kind:?}{path}: `{rule}` reads unbounded values");
        }
    }
}

#[test]
fn no_rule_goes_through_a_list_within_a_list() {
    let macros = [".all(", ".exists(", ".exists_one(", ".map(", ".filter("];
    for kind in KINDS {
        for (path, rule, _) in schema::rules(schema_of(kind)) {
            let count: usize = macros.iter().map(|name| rule.matches(name).count()).sum();
            assert!(count <= 1, "{kind:?}{path}: `{rule}` may nest list macros, which an API server refuses for its cost");
        }
    }
}

#[test]
fn statuses_are_free_of_bounds() {
    let bounds = [
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "multipleOf",
        "uniqueItems",
    ];
    each_node("status", &mut |kind, path, node| {
        for keyword in bounds {
            assert!(node.get(keyword).is_none(), "{kind:?}.{path} has {keyword}: an old schema could refuse the write that matters");
        }
        assert!(path == "status" || node.get("default").is_none(), "{kind:?}.{path} has a default: what nobody wrote would be there");
    });
    for kind in KINDS {
        assert_eq!(schema_of(kind)["properties"]["status"]["default"], json!({"observedGeneration": -1}), "{kind:?}");
    }
}

#[test]
fn definitions_have_nothing_that_servers_refuse_or_warn_about() {
    for target in [Target::Current, Target::V1_25, Target::V1_20] {
        for kind in KINDS {
            each_member(&definition(kind, target), "", &mut |path, key, value| {
                assert_ne!(key, "nullable", "{kind:?}{path}: null would be kept and `has()` would take it for a value");
                assert_ne!(key, "x-kubernetes-preserve-unknown-fields", "{kind:?}{path}");
                assert_ne!(key, "$ref", "{kind:?}{path}");
                if key == "format" {
                    let known = ["int32", "int64", "date-time"].iter().any(|format| value == format);
                    assert!(known, "{kind:?}{path}: format {value}");
                }
                let refused: &[&str] = match target {
                    Target::Current => &[],
                    Target::V1_25 => &["selectableFields"],
                    Target::V1_20 => &["selectableFields", "x-kubernetes-validations"],
                };
                assert!(!refused.contains(&key), "{kind:?}{path}.{key}");
            });
        }
    }
}

#[test]
fn old_servers_get_the_same_but_for_rules_and_selectable_fields() {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("x-kubernetes-validations");
                map.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for kind in KINDS {
        let mut current = definition(kind, Target::Current);
        assert!(current["spec"]["versions"][0]["selectableFields"].is_array() == (kind != Kind::Manager), "{kind:?}");
        current["spec"]["versions"][0].as_object_mut().unwrap().remove("selectableFields");
        assert_eq!(current, definition(kind, Target::V1_25), "{kind:?}");
        strip(&mut current);
        assert_eq!(current, definition(kind, Target::V1_20), "{kind:?}");
    }
}

#[test]
fn definitions_are_asked_for_by_the_servers_version() {
    for (versions, target) in [
        (["current", "1.31", "v1.31.0-rc.1", "1.40"], Target::Current),
        (["1.25", "1.29", "1.30", "v1.30.6+k3s1"], Target::V1_25),
        (["1.20", "1.20.2", "1.24", "1.24+"], Target::V1_20),
    ] {
        for version in versions {
            assert_eq!(version.parse::<Target>().ok(), Some(target), "{version}");
        }
    }
    for nonsense in ["", "1", "1.", "2.0", "1.x", "1.25x", "latest"] {
        assert!(nonsense.parse::<Target>().is_err(), "{nonsense}");
    }
}

#[test]
fn a_definition_fits_into_an_annotation() {
    for kind in KINDS {
        // `kubectl apply` keeps the whole object in an annotation, which holds 256 KiB.
        let length = serde_yaml::to_string(&definition(kind, Target::Current)).unwrap().len();
        assert!(length < 200 * 1024, "{kind:?}: {length} bytes");
    }
}

#[test]
fn kinds_are_named_as_promised() {
    let names = |kind| match kind {
        Kind::Order => ("DedicatedServerOrder", "dedicatedserverorders", "dso"),
        Kind::Manager => ("IPManager", "ipmanagers", "ipm"),
        Kind::Task => ("ManualTask", "manualtasks", "mt"),
        Kind::Handler => ("ProcessingHandler", "processinghandlers", "ph"),
    };
    for kind in KINDS {
        let crd = definition(kind, Target::Current);
        let (name, plural, short) = names(kind);
        assert_eq!(crd["metadata"]["name"], format!("{plural}.dci-operator.dev"));
        assert_eq!(crd["spec"]["group"], "dci-operator.dev");
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        let spec = &crd["spec"]["names"];
        assert_eq!((&spec["kind"], &spec["plural"]), (&json!(name), &json!(plural)));
        assert_eq!(spec["shortNames"], json!([short]));
        // Never `all`: `kubectl delete all --all` would take servers back.
        assert_eq!(spec["categories"], json!(["dci"]), "{kind:?}");
        let versions = crd["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!(
            (&versions[0]["name"], &versions[0]["served"], &versions[0]["storage"]),
            (&json!("v1alpha1"), &json!(true), &json!(true))
        );
        assert_eq!(versions[0]["subresources"], json!({"status": {}}), "{kind:?}");
        assert_eq!(versions[0]["schema"]["openAPIV3Schema"]["required"], json!(["spec"]), "{kind:?}");
    }
}

/// Columns of a kind: name, type, path; with `wide`, those of priority 1.
fn columns(kind: Kind, wide: bool) -> Vec<(String, String, String)> {
    let crd = definition(kind, Target::Current);
    let text = |column: &Value, key: &str| column[key].as_str().unwrap_or_default().to_owned();
    let list = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    list.iter()
        .filter(|column| (column["priority"] == json!(1)) == wide)
        .map(|column| (text(column, "name"), text(column, "type"), text(column, "jsonPath")))
        .collect()
}

#[test]
fn columns_show_what_people_ask_first() {
    let names = |kind, wide| columns(kind, wide).into_iter().map(|(name, ..)| name).collect::<Vec<_>>().join(", ");
    assert_eq!(names(Kind::Order, false), "PHASE, READY, STEP, SERVER, ADDRESS, WAITING ON, NEXT RETRY, AGE");
    assert_eq!(names(Kind::Order, true), "HANDLER, ERROR, MESSAGE");
    assert_eq!(names(Kind::Handler, false), "MODULE, READY, FREE, ORDERS, MESSAGE, AGE");
    assert_eq!(names(Kind::Task, false), "TYPE, DEPARTMENT, ORDER, STATE, DEADLINE, ESCALATED, AGE");
    assert_eq!(names(Kind::Manager, false), "FLAVOR, READY, MESSAGE, AGE");
    for kind in KINDS {
        for (name, type_, path) in columns(kind, false).into_iter().chain(columns(kind, true)) {
            // A column of type date shows how long ago; a time to come would be shown as <invalid>.
            assert_eq!(type_ == "date", name == "AGE", "{kind:?} {name}");
            if name != "AGE" {
                assert!(reached(kind, &path).is_some(), "{kind:?} {name}: the schema has no {path}");
            }
        }
    }
}

/// The schema's node that a JSON path of a column or selectable field names.
fn reached(kind: Kind, path: &str) -> Option<Value> {
    path.replace("[?(@.type==\"Ready\")]", ".[]").split('.').skip(1).try_fold(schema_of(kind).clone(), |node, part| {
        Some(if part == "[]" { node.get("items")?.clone() } else { node["properties"].get(part)?.clone() })
    })
}

#[test]
fn selectable_fields_are_there_and_plain() {
    for kind in KINDS {
        let crd = definition(kind, Target::Current);
        for field in crd["spec"]["versions"][0]["selectableFields"].as_array().into_iter().flatten() {
            let node = reached(kind, field["jsonPath"].as_str().unwrap()).unwrap_or_else(|| panic!("{kind:?}: {field}"));
            assert!(["string", "integer", "boolean"].iter().any(|type_| node["type"] == *type_), "{kind:?}: {field}");
        }
    }
}

#[test]
fn each_field_is_described_and_each_spec_field_says_when_it_counts() {
    let marks = ["Immutable.", "immutable once set.", "Fixed once allocated.", "Acted upon at once", "at the next reinstall."];
    for kind in KINDS {
        for (name, field) in schema_of(kind)["properties"]["spec"]["properties"].as_object().unwrap() {
            let text = field["description"].as_str().unwrap_or_default();
            assert!(marks.iter().any(|mark| text.contains(mark)), "{kind:?}.spec.{name} does not say when a change of it counts: `{text}`");
        }
    }
    for part in ["spec", "status"] {
        each_node(part, &mut |kind, path, node| {
            let plain = path.ends_with("[]") && node["type"] == "string";
            assert!(plain || node["description"].is_string(), "{kind:?}.{path} is not described");
        });
    }
}

#[test]
fn the_files_are_what_the_types_say() {
    for dir in ["crds", "charts/dci-operator/files/crds"] {
        let command = format!("run: dci-operator crds --dir {dir}");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let mut expected = Vec::new();
        for crd in crds::all(Target::Current).unwrap() {
            let name = crds::file_name(&crd);
            let stored = std::fs::read_to_string(path.join(&name)).unwrap_or_default();
            let generated = serde_yaml::to_string(&crd).unwrap();
            assert!(stored == generated, "{dir}/{name} is not what src/api says; {command}");
            expected.push(name);
        }
        let entries = std::fs::read_dir(&path).unwrap();
        let mut files: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, expected, "{dir} holds other files than the definitions; {command}");
    }
}
