//! What is in `charts/` and `deploy/` fits together: values, schema and README of the chart, Argo CD's scripts and what they say
//! of real objects, and what every example of an order has to carry. With `UPDATE_DOCS=1` (`make docs`) what is generated is
//! written anew.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

#[path = "deploy_support/ci.rs"]
mod ci;
#[path = "deploy_support/lua.rs"]
mod lua;
#[path = "deploy_support/stored.rs"]
#[allow(dead_code, reason = "shared with other targets, which use the rest of it")]
mod stored;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Compares a file with what it has to be, or writes it.
fn generated(file: &str, wanted: &str) {
    if std::fs::read_to_string(path(file)).unwrap_or_default() == wanted {
        return;
    }
    assert!(std::env::var_os("UPDATE_DOCS").is_some(), "{file} is not what it is made from; write it anew: make docs");
    std::fs::write(path(file), wanted).unwrap();
}

// --- the chart --------------------------------------------------------------------------------------------------------

/// A value of the chart, as it stands in values.yaml.
struct Setting {
    path: Vec<String>,
    comment: String,
}

/// The values with the comments above them, in the order of the file. What belongs to an item of a list is no value.
fn settings(yaml: &str) -> Vec<Setting> {
    let (mut found, mut comment) = (Vec::new(), Vec::new());
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut list: Option<usize> = None;
    for line in yaml.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if let Some(said) = words.strip_prefix('#') {
            comment.push(said.trim().to_owned());
            continue;
        }
        list = list.filter(|depth| indent > *depth);
        if words.starts_with("- ") {
            list = list.or(Some(indent));
        }
        if let (None, Some((key, _))) = (list, words.split_once(':')) {
            above.retain(|(depth, _)| *depth < indent);
            above.push((indent, key.to_owned()));
            found.push(Setting { path: above.iter().map(|(_, key)| key.clone()).collect(), comment: comment.join(" ") });
        }
        comment.clear();
    }
    found
}

fn is_below(path: &[String], above: &[String]) -> bool {
    path.len() > above.len() && path.starts_with(above)
}

#[test]
fn the_chart_refuses_the_networks_that_the_program_refuses_by_itself() {
    let values: Value = serde_yaml::from_str(&text("charts/dci-operator/values.yaml")).unwrap();
    let listed: Vec<&str> = values["deniedNetworks"].as_array().unwrap().iter().map(|network| network.as_str().unwrap()).collect();
    assert_eq!(listed.join(","), dci_operator::panel::denied::DEFAULT);
}

#[test]
fn the_charts_readme_explains_every_value() {
    let source = text("charts/dci-operator/values.yaml");
    let values: Value = serde_yaml::from_str(&source).unwrap();
    let all = settings(&source);
    let mut table = String::from("| Value | Default | What it is |\n|---|---|---|\n");
    for setting in &all {
        let name = setting.path.join(".");
        let below = || all.iter().filter(|other| is_below(&other.path, &setting.path));
        if setting.comment.is_empty() {
            let explained = below().next().is_some() || all.iter().any(|up| is_below(&setting.path, &up.path) && !up.comment.is_empty());
            assert!(explained, "values.yaml: {name} is not explained");
            continue;
        }
        let default = values.pointer(&format!("/{}", setting.path.join("/"))).unwrap_or_else(|| panic!("values.yaml: no {name}"));
        let default = if below().any(|other| !other.comment.is_empty()) { "–".into() } else { format!("`{default}`") };
        writeln!(table, "| `{name}` | {default} | {} |", setting.comment.replace('|', "\\|")).unwrap();
    }
    let (begin, end) = ("<!-- values -->\n", "<!-- end of values -->");
    let file = "charts/dci-operator/README.md";
    let old = text(file);
    let (head, rest) = old.split_once(begin).expect("the marker before the table");
    let (_, tail) = rest.split_once(end).expect("the marker after the table");
    generated(file, &format!("{head}{begin}\n{table}\n{end}{tail}"));
}

#[test]
fn comments_of_values_are_found() {
    let found = settings("# One\n# two.\na: 1\n\nb:\n  # Three.\n  c: []\n  d:\n    - e: 1\n      f: 2\n  # Four.\n  g: {}\n");
    let found: Vec<(String, &str)> = found.iter().map(|s| (s.path.join("."), s.comment.as_str())).collect();
    let wanted = [("a", "One two."), ("b", ""), ("b.c", "Three."), ("b.d", ""), ("b.g", "Four.")];
    assert_eq!(found, wanted.map(|(path, comment)| (path.to_owned(), comment)));
}

/// Values in which any name is right, or any item, by the last part of their path; and why.
const OPEN: [(&[&str], &str); 4] = [
    (
        &["annotations", "podAnnotations", "labels", "podLabels", "matchLabels", "nodeSelector", "requests", "limits"],
        "the names are the user's",
    ),
    (&["nodeAffinity", "podAffinity", "podAntiAffinity"], "of many forms, and of more with each version of Kubernetes"),
    (
        &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"],
        "kinds of volumes: the same",
    ),
    (&["global"], "other charts put in what they like"),
];

fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    schema["$ref"].as_str().map_or(schema, |name| root.pointer(name.trim_start_matches('#')).unwrap())
}

/// Names of values: those that a schema knows, objects first resolved.
fn known<'a>(schema: &'a Value, root: &'a Value, path: &str, found: &mut Vec<String>) {
    let Some(properties) = resolved(schema, root)["properties"].as_object() else { return };
    for (name, child) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.push(path.clone());
        known(child, root, &path, found);
    }
}

/// What lets something unknown in, by the last part of its path: objects, at any depth and in lists too, that do not name all
/// their fields, lists of whatever it may be, values of no type.
fn open(schema: &Value, root: &Value, name: &str, found: &mut BTreeSet<String>) {
    let schema = resolved(schema, root);
    let lets_in = match schema["type"].as_str() {
        Some("object") => schema["additionalProperties"] != json!(false),
        Some("array") => !schema["items"].is_object(),
        Some(_) => false,
        None => ["type", "enum", "const"].iter().all(|word| schema[word].is_null()),
    };
    if lets_in {
        found.insert(name.to_owned());
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        open(child, root, name, found);
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            open(&schema[part], root, name, found);
        }
    }
}

#[test]
fn the_schema_lets_nothing_unknown_in() {
    let schema: Value = serde_json::from_str(&text("charts/dci-operator/values.schema.json")).unwrap();
    let mut found = BTreeSet::new();
    open(&schema, &schema, "", &mut found);
    let wanted: BTreeSet<String> = OPEN.iter().flat_map(|(names, _)| names.iter().map(|name| (*name).to_owned())).collect();
    assert_eq!(found, wanted);
}

#[test]
fn schema_and_values_know_the_same_names() {
    let schema: Value = serde_json::from_str(&text("charts/dci-operator/values.schema.json")).unwrap();
    let values: Value = serde_yaml::from_str(&text("charts/dci-operator/values.yaml")).unwrap();
    assert_eq!(schema["additionalProperties"], json!(false));
    let mut names = Vec::new();
    known(&schema, &schema, "", &mut names);
    // What other tools put in, and what Kubernetes knows beside what is set by default.
    let parts = ["resources.", "affinity.", "podSecurityContext.", "securityContext."];
    let foreign = |name: &str| ["global", "enabled"].contains(&name) || parts.iter().any(|start| name.starts_with(start));
    for name in names.iter().filter(|name| !foreign(name)) {
        assert!(values.pointer(&format!("/{}", name.replace('.', "/"))).is_some(), "values.yaml: {name} of the schema is missing");
    }
    for name in values.as_object().unwrap().keys() {
        assert!(names.contains(name), "values.schema.json: {name} is missing");
    }
}

// --- Argo CD ----------------------------------------------------------------------------------------------------------

#[test]
fn the_config_map_for_argo_cd_is_made_of_the_scripts() {
    let block = |text: &str, indent: usize| {
        text.trim_end().lines().fold(String::new(), |mut all, line| {
            let pad = if line.is_empty() { 0 } else { indent };
            writeln!(all, "{:pad$}{line}", "").unwrap();
            all
        })
    };
    let mut map = String::from(
        "# Health and actions of the four kinds, and health of Applications: paste the data into Argo CD's ConfigMap. Made from lua/ (make docs). Do not edit.\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  labels:\n    \
         app.kubernetes.io/name: argocd-cm\n    app.kubernetes.io/part-of: argocd\ndata:\n",
    );
    for (kind, health, discovery, actions) in lua::SCRIPTS {
        write!(map, "  resource.customizations.health.dci-operator.dev_{kind}: |\n{}", block(&lua::script(health), 4)).unwrap();
        writeln!(map, "  resource.customizations.actions.dci-operator.dev_{kind}: |\n    discovery.lua: |").unwrap();
        writeln!(map, "{}    definitions:", block(&lua::script(discovery), 6)).unwrap();
        for (name, action) in actions {
            write!(map, "      - name: {name}\n        action.lua: |\n{}", block(&lua::script(action), 10)).unwrap();
        }
    }
    write!(map, "  resource.customizations.health.argoproj.io_Application: |\n{}", block(&lua::script(lua::APPLICATION), 4)).unwrap();
    // What Argo CD reads out of it is the scripts again.
    let parsed: Value = serde_yaml::from_str(&map).unwrap();
    assert_eq!(parsed["data"]["resource.customizations.health.argoproj.io_Application"].as_str().unwrap(), lua::script(lua::APPLICATION));
    for (kind, health, _, actions) in lua::SCRIPTS {
        let data = |what: &str| parsed["data"][format!("resource.customizations.{what}.dci-operator.dev_{kind}")].as_str().unwrap();
        assert_eq!(data("health"), lua::script(health));
        let read: Value = serde_yaml::from_str(data("actions")).unwrap();
        assert_eq!(read["definitions"].as_array().unwrap().len(), actions.len());
    }
    generated("deploy/argocd/argocd-cm.yaml", &map);
}

/// What Argo CD has to show of each stored object, by the name of its file.
const HEALTH: [(&str, &str, &str); 33] = [
    ("handler-departments", "Healthy", "Reachable"),
    ("handler-dialect", "Healthy", "Reachable"),
    ("handler-license-server", "Healthy", "Reachable"),
    ("handler-not-ready", "Progressing", ""),
    ("handler-addresses-by-operator", "Healthy", "Reachable"),
    ("handler-ready", "Healthy", "Reachable"),
    ("handler-suspended", "Suspended", "Nothing is changed"),
    ("handler-unseen", "Progressing", "has not seen"),
    ("ipmanager-moved", "Degraded", "put spec.connection.url back"),
    ("ipmanager-pinned", "Progressing", "connection refused"),
    ("ipmanager-platform", "Healthy", "Reachable"),
    ("ipmanager-ready", "Healthy", "Reachable"),
    ("ipmanager-with-authority", "Healthy", "Reachable"),
    ("order-active", "Healthy", ""),
    ("order-adopted-and-suspended", "Suspended", "the service is suspended"),
    ("order-answer-lost", "Progressing", "42%: "),
    ("order-changed", "Progressing", "has not seen"),
    ("order-given-up-on", "Degraded", "failed on two servers"),
    ("order-giving-back", "Progressing", "given back"),
    ("order-installing", "Progressing", "55%: installing"),
    ("order-licensed", "Healthy", "prepared"),
    ("order-preparing", "Progressing", "%: "),
    ("order-reinstall-refused", "Suspended", "waits for Operations or Leads"),
    ("order-reinstalling", "Suspended", "waits for Operations or Leads"),
    ("order-renewal-answered", "Healthy", "prepared"),
    ("order-renewal-failed", "Healthy", "prepared"),
    ("order-releasing", "Progressing", "taken back"),
    ("order-stalled", "Degraded", ""),
    ("order-waits-for-department", "Suspended", "stopserver-"),
    ("task-abandoned", "Healthy", "Abandon"),
    ("task-closed", "Healthy", ""),
    ("task-open", "Suspended", "Operations: "),
    ("task-overdue", "Suspended", "Operations: "),
];

#[test]
fn argo_cd_says_of_stored_objects_what_is_true() {
    let Some(lua) = lua::interpreter("argo_cd_says_of_stored_objects_what_is_true") else { return };
    let stored = stored::objects();
    let objects: Vec<Value> = stored.iter().map(|stored| stored.object.clone()).collect();
    for (stored, health) in stored.iter().zip(lua::health(&lua, &objects)) {
        let name = &stored.name;
        let row = HEALTH.iter().find(|(of, ..)| of == name);
        let (_, status, message) = row.unwrap_or_else(|| panic!("{name}: write into HEALTH what Argo CD has to show of it"));
        assert_eq!(&health.status, status, "{name}: {}", health.message);
        assert!(!health.message.is_empty() && health.message.contains(message), "{name}: {}", health.message);
    }
    // Of an object that nobody has seen there is nothing to say.
    for kind in lua::SCRIPTS.map(|(kind, ..)| kind) {
        let new = json!({"kind": kind, "metadata": {"name": "a", "generation": 1}, "spec": {}});
        assert_eq!(lua::health(&lua, &[new])[0].status, "Progressing");
    }
}

/// Sync waves are nothing without it: an app of apps would apply orders before there is an operator.
#[test]
fn argo_cd_waits_for_an_application_before_the_next_wave() {
    let Some(lua) = lua::interpreter("argo_cd_waits_for_an_application_before_the_next_wave") else { return };
    let script = lua::script(lua::APPLICATION);
    let status = |object: &Value| lua::evaluate(&lua, &script, object, "result.status");
    assert_eq!(status(&json!({"kind": "Application", "metadata": {"name": "a"}})), "Progressing");
    assert_eq!(status(&json!({"kind": "Application", "status": {"sync": {"status": "OutOfSync"}}})), "Progressing");
    for known in ["Healthy", "Degraded", "Missing"] {
        assert_eq!(status(&json!({"kind": "Application", "status": {"health": {"status": known}}})), known);
    }
    let file = text("deploy/argocd/application.yaml");
    let objects = serde_yaml::Deserializer::from_str(&file).map(|d| Value::deserialize(d).unwrap());
    let (applications, projects): (Vec<Value>, Vec<Value>) = objects.partition(|object| object["kind"] == "Application");
    assert!(projects.iter().all(|p| p["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] == "0"), "before what is in it");
    let waves = applications.iter().map(|a| a["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"].as_str().unwrap());
    assert_eq!(waves.collect::<Vec<_>>(), ["0", "1", "2"]);
    for later in &applications[1..] {
        // Applied too early, by hand or otherwise, it is tried again until the kinds are known.
        assert_eq!(later["spec"]["syncPolicy"]["retry"]["limit"], -1, "{}", later["metadata"]["name"]);
    }
}

/// Flux makes no namespace by itself, and none that is removed from Git may take orders, handlers or locks along.
#[test]
fn the_flux_example_makes_its_namespaces_and_keeps_them() {
    let mut files = Vec::new();
    documents(&path("deploy/flux"), &mut files);
    let (mut made, mut used) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "yaml")) {
        for document in serde_yaml::Deserializer::from_str(&std::fs::read_to_string(file).unwrap()) {
            let object = Value::deserialize(document).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if object["kind"] == "Namespace" {
                assert_eq!(object["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"], "disabled", "namespace {name}");
                made.insert(name);
            } else {
                used.insert(object["metadata"]["namespace"].as_str().unwrap().to_owned());
            }
        }
    }
    // There where Flux is.
    used.remove("flux-system");
    assert_eq!(made, used);
}

#[test]
fn argo_cds_actions_do_what_they_say() {
    let Some(lua) = lua::interpreter("argo_cds_actions_do_what_they_say") else { return };
    let stored = stored::objects();
    let object = |name: &str| &stored.iter().find(|stored| stored.name == name).unwrap_or_else(|| panic!("no {name}")).object;
    let disabled = |script: &str, name: &str, action: &str| {
        lua::evaluate(&lua, &lua::script(script), object(name), &format!("result[\"{action}\"].disabled"))
    };
    assert_eq!(disabled("discovery-order", "order-active", "reconcile"), "true");
    assert_eq!(disabled("discovery-order", "order-stalled", "reconcile"), "false");
    assert_eq!(disabled("discovery-handler", "handler-ready", "suspend"), "false");
    assert_eq!(disabled("discovery-handler", "handler-ready", "resume"), "true");
    assert_eq!(disabled("discovery-handler", "handler-suspended", "resume"), "false");
    assert_eq!(disabled("discovery-ipmanager", "ipmanager-ready", "reconcile"), "false");
    assert_eq!(disabled("discovery-task", "task-open", "done"), "false");
    assert_eq!(disabled("discovery-task", "task-closed", "retry"), "true");

    let done = |script: &str, name: &str, what: &str| lua::evaluate(&lua, &lua::script(script), object(name), what);
    let annotation = "result.metadata.annotations[\"dci-operator.dev/reconcile-requested-at\"]";
    for name in ["order-stalled", "handler-ready", "ipmanager-ready"] {
        let time = done("action-reconcile", name, annotation);
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    assert_eq!(done("action-suspend", "handler-ready", "result.spec.suspend"), "true");
    assert_eq!(done("action-resume", "handler-suspended", "result.spec.suspend"), "false");
    assert_eq!(done("action-done", "task-open", "result.spec.resolution"), "Done");
    assert_eq!(done("action-retry", "task-open", "result.spec.resolution"), "Retry");
    // Every script belongs to an action that the discovery knows.
    for (kind, _, discovery, actions) in lua::SCRIPTS {
        let any = &stored.iter().find(|stored| stored.object["kind"] == kind).unwrap().object;
        for (name, _) in actions {
            let known = lua::evaluate(&lua, &lua::script(discovery), any, &format!("result[\"{name}\"] ~= nil"));
            assert_eq!(known, "true", "{kind}: {name}");
        }
    }
}

// --- examples ---------------------------------------------------------------------------------------------------------

/// All files with manifests or with blocks of them.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|e| e == "md" || e == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn no_pipeline_takes_a_server_back_by_the_way() {
    const WORDS: [(&str, &str); 3] = [
        ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
        ("helm.sh/resource-policy", "keep"),
    ];
    let mut files = vec![path("README.md")];
    documents(&path("docs"), &mut files);
    documents(&path("deploy"), &mut files);
    let mut orders = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let parts: Vec<String> = if file.extension().is_some_and(|e| e == "md") {
            text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
        } else {
            vec![text]
        };
        for part in parts {
            for document in serde_yaml::Deserializer::from_str(&part) {
                let object = Value::deserialize(document).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                if object["kind"] == "DedicatedServerOrder" && object["metadata"]["name"].is_string() {
                    orders += 1;
                    for (name, value) in WORDS {
                        let said = &object["metadata"]["annotations"][name];
                        assert_eq!(said, value, "{}: {}: {name}", file.display(), object["metadata"]["name"]);
                    }
                }
            }
        }
    }
    assert!(orders > 4, "only {orders} examples of orders");
}

/// Where a pipeline heals, protection that is taken away by hand is put back, and an order that is deleted before its file is made anew,
/// with another server.
#[test]
fn a_server_is_given_back_from_git_first() {
    for file in ["deploy/argocd/README.md", "deploy/flux/README.md", "docs/letting-go.md"] {
        let text = text(file);
        let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{file}: nothing of {words}"));
        let way = ["`deletionProtection: false`", "out of Git", "`kubectl delete dso"].map(at);
        assert!(way.is_sorted(), "{file}: protection, file and order are not in this order: {way:?}");
    }
    // Said of the examples, whose orders are protected.
    for file in ["deploy/argocd/orders/web-01.yaml", "deploy/flux/orders/web-01.yaml"] {
        assert!(text(file).contains("\n  deletionProtection: true\n"), "{file}");
    }
}

#[test]
fn the_copies_of_the_definitions_are_the_same() {
    for entry in std::fs::read_dir(path("crds")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        for copy in ["charts/dci-operator/files/crds", "deploy/kustomize/base/crds"] {
            assert!(text(&format!("crds/{name}")) == text(&format!("{copy}/{name}")), "{copy}/{name} is not crds/{name}; make crds");
        }
    }
}

/// `cargo` reads the whole manifest before it builds one program of it.
#[test]
fn the_manifest_names_nothing_that_is_not_in_the_images_context() {
    let folder = std::env::temp_dir().join(format!("dci-operator-context-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for kept in text(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')) {
        std::os::unix::fs::symlink(path(kept), folder.join(kept)).unwrap();
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output =
        std::process::Command::new(cargo).args(["build", "--offline", "--locked", "--bin", "none"]).current_dir(&folder).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no bin target named `none`"), "{said}");
}
