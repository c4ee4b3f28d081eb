//! Kustomize's way out, as deploy/kustomize/README.md has it: the operator goes, definitions, namespaces and orders stay. On a control
//! plane of the test's own, since the roles are one set for all.

use serde_json::{Value, json};

use super::chart::documents;
use super::support::objects;
use super::support::plane::{OwnPlane, Plane};

const KUSTOMIZE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize");

/// What a file or folder has, as far as this server knows such objects.
fn known(plane: &Plane, path: &str) -> Vec<Value> {
    let text = if std::path::Path::new(path).is_file() {
        std::fs::read_to_string(path).unwrap()
    } else {
        plane.kubectl(&["kustomize", path], None)
    };
    let known = |object: &Value| match object["apiVersion"].as_str().unwrap() {
        "policy/v1" => plane.minor >= 21,
        "admissionregistration.k8s.io/v1" => plane.minor >= 30,
        // They are there already, as this server has them.
        "apiextensions.k8s.io/v1" => false,
        _ => true,
    };
    documents(&text).into_iter().filter(known).collect()
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

#[test]
fn kustomize_takes_the_operator_away_and_nothing_else() {
    let Some(own) = OwnPlane::start("kustomize") else { return };
    let plane = own.plane;
    // The harness's own release has objects of the same names.
    plane.helm(&["uninstall", "dci-operator", "--namespace", "dci-system"]);
    for namespace in ["hosting", "shop"] {
        plane.kubectl(&["create", "namespace", namespace], None);
    }
    let mut order = objects::order("web-01", &json!({}));
    order["metadata"]["finalizers"] = json!(["dci-operator.dev/release-server"]);
    order["spec"]["handlerRef"]["namespace"] = "hosting".into();
    plane.kubectl(&["create", "-n", "shop", "-f", "-"], Some(&order.to_string()));
    let readme = std::fs::read_to_string(format!("{KUSTOMIZE}/README.md")).unwrap();
    let rows: Vec<(&str, &str)> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `overlays/")?.split_once("` | "))
        .filter(|(_, what)| what.contains("kubectl delete") || what.starts_with("the same, "))
        .collect();
    assert_eq!(rows.iter().map(|(overlay, _)| *overlay).collect::<Vec<_>>(), ["cluster-wide", "highly-available", "namespaced"]);
    for (overlay, way) in rows {
        let built = known(plane, &format!("{KUSTOMIZE}/overlays/{overlay}"));
        plane.kubectl(&["apply", "-f", "-"], Some(&list(&built)));
        let mut commands: Vec<&str> = way.split('`').filter(|part| part.starts_with("kubectl delete ")).collect();
        if way.starts_with("the same") {
            commands.insert(0, "kubectl delete -k dci-operator/deploy/kustomize/base/operator");
        }
        for command in commands {
            let path = command.split(' ').next_back().unwrap().replace("dci-operator/deploy/kustomize", KUSTOMIZE);
            if plane.minor >= 31 {
                plane.kubectl(&["delete", command.split(' ').nth(2).unwrap(), &path, "--timeout=60s"], None);
                continue;
            }
            // What the server does not know it cannot delete either.
            let objects = known(plane, &path);
            if !objects.is_empty() {
                plane.kubectl(&["delete", "--timeout=60s", "-f", "-"], Some(&list(&objects)));
            }
        }
        let left = plane.kubectl(&["get", "--ignore-not-found", "-o", "name", "-f", "-"], Some(&list(&built)));
        let namespaces = built.iter().filter(|object| object["kind"] == "Namespace").count();
        assert!(namespaces >= 1 && left.lines().count() == namespaces, "{overlay}: {left}");
        assert!(left.lines().all(|name| name.starts_with("namespace/")), "{overlay}: {left}");
        let definitions = plane.define(&["get", "crd", "-o", "name"], None);
        assert_eq!(definitions.lines().filter(|name| name.ends_with(".dci-operator.dev")).count(), 4, "{overlay}: {definitions}");
        let deleted = plane.kubectl(&["get", "dso", "-n", "shop", "web-01", "-o", "jsonpath={.metadata.deletionTimestamp}"], None);
        assert_eq!(deleted, "", "{overlay}: the order goes with the operator");
    }
}
