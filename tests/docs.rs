//! The documentation says what the code says: tables between markers are compared with the code, or with `UPDATE_DOCS=1`
//! written anew (`make docs`), and every example can be read and breaks no rule.
#![cfg(all(feature = "operator", feature = "sim"))]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dci_operator::api::check;
use dci_operator::api::condition::ConditionType;
use dci_operator::api::crds::{Target, all};
use dci_operator::provisioning::reason::Reason;
use dci_operator::provisioning::report::done_means;
use dci_operator::provisioning::step::{CLOSING, OPENING};
use serde::Deserialize;
use serde_json::Value;

#[path = "docs_support/named.rs"]
mod named;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares what stands between `<!-- NAME -->` and `<!-- end of NAME -->` with what it has to be.
fn block(file: &str, name: &str, wanted: &str) {
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("{file} lacks the line {begin}")) + begin.len();
    let to = from + text[from..].find(&end).unwrap_or_else(|| panic!("{file} lacks {end}"));
    let wanted = format!("\n{}\n\n", wanted.trim());
    if text[from..to] == wanted {
        return;
    }
    assert!(std::env::var_os("UPDATE_DOCS").is_some(), "{file}: the part `{name}` is not what the code says; write it anew: make docs");
    std::fs::write(&path, format!("{}{wanted}{}", &text[..from], &text[to..])).unwrap();
}

/// A text inside a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

// All parts of one file are compared by one test: they must not write it at the same time.

#[test]
fn the_readme_has_every_reason_and_every_condition() {
    let mut table = String::from("| Reason | What has happened | What to do |\n|---|---|---|\n");
    for reason in Reason::ALL {
        writeln!(table, "| `{}` | {} | {} |", reason.as_str(), cell(reason.cause()), cell(reason.cure())).unwrap();
    }
    block("README.md", "reasons", &table);
    let mut table = String::from("| Step | `Done` is confirmed when |\n|---|---|\n");
    for step in OPENING.iter().chain(&CLOSING) {
        writeln!(table, "| `{}` | {} |", step.as_str(), cell(done_means(*step))).unwrap();
    }
    block("README.md", "done", &table);
    block("README.md", "dci-operator run --help", &help(env!("CARGO_BIN_EXE_dci-operator"), &["run", "--help"]));
    block("README.md", "kubectl dci --help", &help(env!("CARGO_BIN_EXE_kubectl-dci"), &["--help"]));
    block("README.md", "dci-sim --help", &help(env!("CARGO_BIN_EXE_dci-sim"), &["--help"]));

    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    for condition in CONDITIONS {
        assert!(text.contains(&format!("\n| `{}` |", known(condition).as_str())), "README.md: no row for condition {condition:?}");
    }
    for step in OPENING.iter().chain(&CLOSING) {
        assert!(text.contains(&format!("`{}`", step.as_str())), "README.md: nothing about step {step:?}");
    }
}

const CONDITIONS: [ConditionType; 15] = [
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::ServerAllocated,
    ConditionType::NetworkConfigured,
    ConditionType::OSInstalled,
    ConditionType::RecipesApplied,
    ConditionType::LicensesIssued,
    ConditionType::ManualActionRequired,
    ConditionType::Suspended,
    ConditionType::CredentialsValid,
    ConditionType::IPManagerReady,
    ConditionType::LicenseServerReady,
    ConditionType::WebhooksReady,
    ConditionType::Overdue,
];

/// Breaks the build when there is a new one, so that it is added above.
fn known(condition: ConditionType) -> ConditionType {
    match condition {
        ConditionType::Ready
        | ConditionType::Reconciling
        | ConditionType::Stalled
        | ConditionType::ServerAllocated
        | ConditionType::NetworkConfigured
        | ConditionType::OSInstalled
        | ConditionType::RecipesApplied
        | ConditionType::LicensesIssued
        | ConditionType::ManualActionRequired
        | ConditionType::Suspended
        | ConditionType::CredentialsValid
        | ConditionType::IPManagerReady
        | ConditionType::LicenseServerReady
        | ConditionType::WebhooksReady
        | ConditionType::Overdue => condition,
    }
}

/// What a program says of itself. The environment is empty: the help shows the values of variables.
fn help(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("```text\n{}\n```", lines.join("\n").trim())
}

/// As `dci-operator crds | head -1` has one.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let piped = std::process::Stdio::piped;
    let mut program = Command::new(env!("CARGO_BIN_EXE_dci-operator")).arg("crds").stdout(piped()).stderr(piped()).spawn().unwrap();
    drop(program.stdout.take());
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Each setting of BILLmanager's form (ispsystem-api.md 5.1) stands beside a field that exists.
#[test]
fn every_setting_of_the_handler_form_has_its_field() {
    const SETTINGS: [&str; 16] = [
        "Product type",
        "Processing module",
        "URL",
        "User name, Password",
        "By server type",
        "Do not ignore IPMI errors",
        "IPmanager",
        "Disable IP address change",
        "IP type for parking",
        "License server",
        "Name",
        "Data center",
        "Department",
        "Department for assembly",
        "Department for purchase",
        "Sorting",
    ];
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, table) = text.split_once("<!-- handler form -->").unwrap();
    let (table, _) = table.split_once("<!-- end of handler form -->").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| Step"))
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.iter().map(|r| r[1]).collect::<Vec<_>>(), SETTINGS);
    let crds = all(Target::Current).unwrap();
    let handler = crds.iter().find(|c| c["spec"]["names"]["kind"] == "ProcessingHandler").unwrap();
    let schema = &handler["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for field in rows.iter().map(|r| r[2].trim_matches('`')).filter(|f| *f != "metadata.name") {
        let found = field.split('.').fold(schema, |at, name| &at["properties"][name]);
        assert!(found.is_object(), "README.md: there is no field {field}");
    }
}

#[test]
fn the_reference_has_every_field() {
    for crd in all(Target::Current).unwrap() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut table = String::from("| Field | Type | Default | A change counts | What it is |\n|---|---|---|---|---|\n");
        spec_rows(&mut table, "spec", &schema["spec"], "");
        block("docs/reference.md", &format!("{kind} spec"), &table);
        let mut table = String::from("| Field | Type | What it is |\n|---|---|---|\n");
        status_rows(&mut table, "status", &schema["status"]);
        block("docs/reference.md", &format!("{kind} status"), &table);
    }
}

/// When a change of a field counts is written in its description; what a description does not say is as in its parent.
const WHEN: [(&str, &str); 8] = [
    ("Immutable", "never: immutable"),
    ("Fixed once allocated", "until a server is allocated, then fixed"),
    ("at the next reinstall, or at once where", "at the next reinstall; with `dialect.setPassword` at once"),
    ("at the next reinstall", "at the next reinstall"),
    ("at the next renewal", "at the next renewal"),
    ("immutable once set", "at once; immutable once set"),
    ("stays while orders have servers", "while no order has a server"),
    ("cted upon at once", "at once"),
];

/// A field below another one, by its path from there.
struct Child<'s> {
    path: String,
    schema: &'s Value,
    required: bool,
}

fn children(schema: &Value) -> Vec<Child<'_>> {
    let mut found = Vec::new();
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().into_iter().flatten().any(|field| field == name);
        found.push(Child { path: format!(".{name}"), schema: child, required });
    }
    for (below, prefix) in [("items", "[]"), ("additionalProperties", ".<name>")] {
        if schema[below].is_object() {
            found.extend(children(&schema[below]).into_iter().map(|child| Child { path: format!("{prefix}{}", child.path), ..child }));
        }
    }
    found
}

fn type_of(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().filter_map(Value::as_str).map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    }
    // Bounds of integers stand in the schema as 1.0, those of lengths as 1.
    #[expect(clippy::cast_possible_truncation, reason = "bounds of schemas are small and whole")]
    let whole = |bound: &str| schema[bound].as_i64().or_else(|| schema[bound].as_f64().map(|bound| bound as i64));
    let bounds = |least: &str, most: &str| match (whole(least), whole(most)) {
        (Some(least), Some(most)) => format!(" {least}–{most}"),
        (None, Some(most)) => format!(" up to {most}"),
        (Some(least), None) => format!(" from {least}"),
        (None, None) => String::new(),
    };
    match schema["type"].as_str().unwrap_or("any") {
        "array" => format!("list{} of {}", bounds("minItems", "maxItems"), type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map{} to {}", bounds("minProperties", "maxProperties"), type_of(&schema["additionalProperties"]))
        }
        "integer" => format!("integer{}", bounds("minimum", "maximum")),
        "string" if schema["format"] == "date-time" => "time".into(),
        "string" if schema["pattern"].as_str().is_some_and(|p| p.contains("ms")) => "duration".into(),
        "string" => match bounds("minLength", "maxLength") {
            bounds if bounds.is_empty() => "string".into(),
            bounds => format!("string,{bounds} characters"),
        },
        other => other.into(),
    }
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn spec_rows(table: &mut String, path: &str, schema: &Value, inherited: &str) {
    for Child { path: name, schema: child, required } in children(schema) {
        let text = description(child);
        let when = WHEN.iter().find(|(phrase, _)| text.contains(phrase)).map_or(inherited, |(_, when)| when);
        assert!(!when.is_empty(), "{path}{name}: its description does not say when a change counts");
        let default = match &child["default"] {
            _ if required => "**required**".to_owned(),
            Value::Null => "–".into(),
            value => format!("`{}`", serde_json::to_string(value).unwrap().trim_matches('"')),
        };
        // An object's own default is that of its fields.
        let default = if child["properties"].is_object() && default.starts_with('`') { "–".into() } else { default };
        writeln!(table, "| `{path}{name}` | {} | {} | {when} | {} |", cell(&type_of(child)), cell(&default), cell(text)).unwrap();
        spec_rows(table, &format!("{path}{name}"), child, when);
    }
}

fn status_rows(table: &mut String, path: &str, schema: &Value) {
    for Child { path: name, schema: child, .. } in children(schema) {
        // The same in all kinds, and explained in the README.
        writeln!(table, "| `{path}{name}` | {} | {} |", cell(&type_of(child)), cell(description(child))).unwrap();
        if name != ".conditions" {
            status_rows(table, &format!("{path}{name}"), child);
        }
    }
}

/// All files that show manifests to users.
fn documents() -> Vec<PathBuf> {
    let mut files = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let gitops = ["deploy/flux/provider", "deploy/flux/orders", "deploy/argocd/provider", "deploy/argocd/orders", "deploy/kustomize"];
    for folder in ["docs", "docs/runbooks", "deploy/demo", "deploy/flux", "deploy/argocd", "deploy/kind", "charts/dci-operator"]
        .into_iter()
        .chain(gitops)
    {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md" || e == "yaml") {
                files.push(path);
            }
        }
    }
    files
}

/// The YAML in a file: all of it, or what stands in its blocks.
fn yaml(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|e| e == "yaml") {
        return vec![text];
    }
    text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn every_example_can_be_read_and_breaks_no_rule() {
    let mut kinds = BTreeSet::new();
    for path in documents() {
        for text in yaml(&path) {
            for document in serde_yaml::Deserializer::from_str(&text) {
                let value = Value::deserialize(document).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()));
                if value["apiVersion"] != "dci-operator.dev/v1alpha1" {
                    continue;
                }
                let kind = value["kind"].as_str().unwrap().to_owned();
                unknown_fields(&path, &kind, &value);
                let place = format!("{}: {kind} {}", path.display(), value["metadata"]["name"]);
                let problems = match kind.as_str() {
                    "DedicatedServerOrder" => check::check_order(&read(&place, value)),
                    "ProcessingHandler" => check::check_handler(&read(&place, value)),
                    "IPManager" => check::check_ipmanager(&read(&place, value)),
                    "ManualTask" => check::check_task(&read(&place, value)),
                    other => panic!("{place}: no kind {other}"),
                };
                assert!(problems.is_empty(), "{place}: {problems:?}");
                kinds.insert(kind);
            }
        }
    }
    assert_eq!(kinds.len(), 4, "an example of each kind, found: {kinds:?}");
}

fn read<T: serde::de::DeserializeOwned>(place: &str, value: Value) -> T {
    serde_json::from_value(value).unwrap_or_else(|e| panic!("{place}: {e}"))
}

/// Fields that the schema does not know would be dropped by the API server without a word.
fn unknown_fields(path: &Path, kind: &str, value: &Value) {
    let crds = all(Target::Current).unwrap();
    let crd = crds.iter().find(|c| c["spec"]["names"]["kind"] == kind).expect("a definition of each kind");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    check_fields(&format!("{}: {kind} spec", path.display()), schema, &value["spec"]);
}

fn check_fields(place: &str, schema: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                let known = known.unwrap_or_else(|| panic!("{place}: no field {name}"));
                check_fields(&format!("{place}.{name}"), known, child);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_fields(place, &schema["items"], item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn links_lead_somewhere() {
    for path in documents().into_iter().chain([root().join("CHANGELOG.md"), root().join("deploy/local/README.md")]) {
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.is_empty() {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: nothing at {target}", path.display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&file).unwrap();
                let found = text.lines().filter(|l| l.starts_with('#')).any(|l| slug(l) == anchor);
                assert!(found, "{}: no heading for {target}", path.display());
            }
        }
    }
}

/// Commands that are copied from the documentation work where they are pasted.
#[test]
fn commands_say_where_and_work_on_the_oldest_server() {
    let mut helm = 0;
    for path in documents().into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
        for line in text.lines() {
            let at = path.display();
            for command in line.split('`').filter(|part| part.contains("helm ") && part.contains(" dci-operator ")) {
                helm += 1;
                assert!(command.contains("--namespace"), "{at}: Helm looks into the namespace of the context: {command}");
                // A chart whose templates know new values is rendered without them then.
                assert!(!command.contains(" --reuse-values"), "{at}: --reset-then-reuse-values: {command}");
            }
            // Fields to select by came with 1.31.
            assert!(!line.contains("--field-selector status."), "{at}: not known to 1.30: {line}");
            // Its pod would be refused where the restricted standard is enforced, and no network policy of ours would hold for it.
            assert!(!line.contains("kubectl run "), "{at}: kubectl debug --profile=restricted: {line}");
        }
    }
    assert!(helm >= 6, "only {helm} commands");
}

/// The anchor of a heading, as forges make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter_map(|c| if c == ' ' { Some('-') } else { (c.is_alphanumeric() || c == '-' || c == '_').then_some(c) }).collect()
}

/// A file of `tests/core` is a module of one of two programs, or its tests do not run.
#[test]
fn no_test_of_decisions_is_left_out_of_their_common_programs() {
    let text = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let programs = text("tests/decisions.rs") + &text("tests/sweeps.rs");
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("tests/core")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("core_") && path.extension().is_some_and(|e| e == "rs") {
            assert!(programs.contains(&format!("#[path = \"core/{name}\"]")), "neither tests/decisions.rs nor tests/sweeps.rs has {name}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} files");
}
