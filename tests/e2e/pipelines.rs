//! The pipelines of deploy/: what kustomize, Flux and Argo CD make of the chart with the values that stand in the examples, and what
//! the examples say of pruning and waiting.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::chart::{CHART, Copied, documents, restricted};
use super::chart_current::CURRENT;
use super::support::plane::plane;
use super::support::world::random;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

/// All objects of the YAML files in a folder and below it.
fn objects(folder: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.extend(serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()));
        }
    }
    found
}

fn named<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    all.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The chart as a pipeline renders it. Its pods keep to the standard that the pipeline's namespace enforces, its image is the
/// example's, and what it must not prune says so in the word of the pipeline.
fn rendered(release: &str, namespace: &str, values: &Value, keeps: (&str, &str)) -> Vec<Value> {
    let copy = Copied::new(&random());
    let file = copy.write("values-of-the-example.yaml", &values.to_string());
    let made =
        documents(&plane().helm(&["template", release, CHART, "--kube-version", CURRENT, "--namespace", namespace, "--values", &file]));
    let of = |kind: &str| made.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let deployments = of("Deployment");
    assert_eq!(deployments.len(), 1);
    let pod = &deployments[0]["spec"]["template"]["spec"];
    let image = pod["containers"][0]["image"].as_str().unwrap();
    assert!(image.starts_with(&format!("{}:", values["image"]["repository"].as_str().unwrap())), "{image}");
    restricted(release, pod);
    for pod in of("Pod") {
        restricted(release, &pod["spec"]);
    }
    assert!(made.iter().all(|object| object["metadata"]["namespace"].is_null() || object["metadata"]["namespace"] == namespace));
    let definitions = of("CustomResourceDefinition");
    assert_eq!(definitions.len(), 4);
    assert!(definitions.iter().all(|definition| definition["metadata"]["annotations"][keeps.0] == keeps.1));
    assert_eq!(of("ValidatingAdmissionPolicy").len(), 3);
    made
}

#[test]
fn the_flux_example_fits_together() {
    let folder = Path::new(DEPLOY).join("flux");
    let all = objects(&folder);
    let mut resolved = 0;
    for object in &all {
        let (kind, home) = (object["kind"].as_str().unwrap(), &object["metadata"]["namespace"]);
        // Flux knows dependencies among objects of one kind only.
        for wanted in object["spec"]["dependsOn"].as_array().into_iter().flatten() {
            let found = named(&all, kind, wanted["name"].as_str().unwrap());
            let namespace = if wanted["namespace"].is_null() { home } else { &wanted["namespace"] };
            assert_eq!(&found["metadata"]["namespace"], namespace, "{kind} {wanted}");
            resolved += 1;
        }
    }
    assert_eq!(resolved, 2);
    let steps = ["dci-operator", "dci-provider", "dci-orders"].map(|name| named(&all, "Kustomization", name));
    for pair in steps.windows(2) {
        assert_eq!(pair[1]["spec"]["dependsOn"], json!([{"name": pair[0]["metadata"]["name"]}]));
    }
    // As the README says: each waits, so that what comes after it may count on it; neither a file nor the end of the object takes a
    // server back, and what is pruned is the operator alone.
    let said = steps.map(|step| (&step["spec"]["wait"], &step["spec"]["prune"], &step["spec"]["deletionPolicy"]));
    let (yes, no, null) = (&json!(true), &json!(false), &Value::Null);
    assert_eq!(said, [(yes, yes, null), (yes, no, null), (yes, no, &json!("Orphan"))]);
    for step in steps {
        let path = step["spec"]["path"].as_str().unwrap();
        assert!(folder.join(path).is_dir(), "{path}");
        // The repository that the README names; everything else that is pointed to is in the example.
        assert_eq!(step["spec"]["sourceRef"], json!({"kind": "GitRepository", "name": "fleet"}));
    }

    let release = named(&all, "HelmRelease", "dci-operator");
    let (spec, namespace) = (&release["spec"], release["metadata"]["namespace"].as_str().unwrap());
    let source = named(&all, "GitRepository", spec["chart"]["spec"]["sourceRef"]["name"].as_str().unwrap());
    assert_eq!(source["metadata"]["namespace"], namespace);
    let chart = spec["chart"]["spec"]["chart"].as_str().unwrap();
    assert_eq!(Path::new(env!("CARGO_MANIFEST_DIR")).join(chart), Path::new(CHART));
    assert!(source["spec"]["ignore"].as_str().unwrap().contains("!/charts"));
    let keeps = ("kustomize.toolkit.fluxcd.io/prune", "disabled");
    let made = rendered(spec["releaseName"].as_str().unwrap(), namespace, &spec["values"], keeps);
    // Flux runs the test that the chart has, and nothing needs definitions that the example does not bring.
    assert_eq!(spec["test"]["enable"], true);
    let test = made.iter().find(|object| object["kind"] == "Pod" && object["metadata"]["annotations"]["helm.sh/hook"] == "test").unwrap();
    // From where the operator comes, not from a registry that the nodes may not reach: an upgrade whose test fails is rolled back.
    let registry =
        |image: &Value| image.as_str().unwrap().split_once('/').unwrap_or_else(|| panic!("{image} has no registry")).0.to_owned();
    assert_eq!(registry(&test["spec"]["containers"][0]["image"]), registry(&spec["values"]["image"]["repository"]));
    assert!(std::fs::read_to_string(folder.join("README.md")).unwrap().contains("`tests.image.repository`"));
    assert!(!made.iter().any(|object| object["apiVersion"] == "monitoring.coreos.com/v1"));
}

#[test]
fn the_argo_cd_example_fits_together() {
    let folder = Path::new(DEPLOY).join("argocd");
    let (projects, all): (Vec<Value>, Vec<Value>) = objects(&folder)
        .into_iter()
        .filter(|object| object["apiVersion"] == "argoproj.io/v1alpha1")
        .partition(|object| object["kind"] == "AppProject");
    let names = ["dci-operator", "dci-provider", "dci-orders"];
    assert_eq!(all.iter().map(|application| application["metadata"]["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    for application in &all {
        let (metadata, spec) = (&application["metadata"], &application["spec"]);
        // Nothing goes because an Application goes, and what is pruned is the operator alone.
        assert!(metadata["finalizers"].is_null(), "{metadata}");
        let operator = metadata["name"] == "dci-operator";
        assert_eq!(spec["syncPolicy"]["automated"], json!({"prune": operator, "selfHeal": true}), "{metadata}");
        // As the README says, they are not needed.
        assert!(spec["ignoreDifferences"].is_null(), "{metadata}");
        let options = spec["syncPolicy"]["syncOptions"].as_array().unwrap();
        assert!(options.contains(&json!("CreateNamespace=true")), "{metadata}");
        if !operator {
            for object in objects(&folder.join(spec["source"]["path"].as_str().unwrap())) {
                assert_eq!(object["metadata"]["namespace"], spec["destination"]["namespace"], "{metadata}");
            }
        }
    }
    // Tasks are in no repository: without this its Application would not show them.
    let (project, provider) = (&projects[0]["spec"], &all[1]["spec"]);
    assert_eq!((projects.len(), &provider["project"]), (1, &projects[0]["metadata"]["name"]));
    assert!(project["orphanedResources"].is_object(), "{project}");
    assert_eq!(project["sourceRepos"], json!([provider["source"]["repoURL"]]));
    assert_eq!(project["destinations"], json!([provider["destination"]]));
    let (source, destination) = (&all[0]["spec"]["source"], &all[0]["spec"]["destination"]);
    let chart = source["path"].as_str().unwrap();
    assert_eq!(Path::new(env!("CARGO_MANIFEST_DIR")).join(chart), Path::new(CHART));
    let helm = &source["helm"];
    let keeps = ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false");
    let namespace = destination["namespace"].as_str().unwrap();
    let made = rendered(helm["releaseName"].as_str().unwrap(), namespace, &helm["valuesObject"], keeps);
    // A pod of a hook that nobody runs would stay for ever.
    assert!(!made.iter().any(|object| object["kind"] == "Pod"));
}

#[test]
fn kustomize_is_what_the_chart_makes() {
    const KUSTOMIZE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize");
    let script =
        std::process::Command::new(format!("{KUSTOMIZE}/generate.sh")).arg("--check").env("DCI_HELM", plane().helm_path()).output();
    let script = script.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&script.stdout), String::from_utf8_lossy(&script.stderr));
    assert!(script.status.success(), "{said}");
    let id = random();
    for namespace in ["kustomize", "hosting", "shop"] {
        plane().kubectl(&["create", "namespace", &format!("{namespace}-{id}")], None);
    }
    let mut all = Vec::new();
    for overlay in ["cluster-wide", "highly-available", "namespaced"] {
        let built = documents(&plane().kubectl(&["kustomize", &format!("{KUSTOMIZE}/overlays/{overlay}")], None));
        let count = |kind: &str| built.iter().filter(|object| object["kind"] == kind).count();
        assert_eq!((count("CustomResourceDefinition"), count("Deployment"), count("Namespace")), (4, 1, 1), "{overlay}");
        assert_eq!(count("ClusterRole") > 0, overlay != "namespaced");
        let replicas = &built.iter().find(|object| object["kind"] == "Deployment").unwrap()["spec"]["replicas"];
        assert_eq!(*replicas, if overlay == "highly-available" { 3 } else { 1 });
        // Every order goes with a definition, and with the namespace the locks of servers.
        for kept in built.iter().filter(|object| object["kind"] == "CustomResourceDefinition" || object["kind"] == "Namespace") {
            let annotations = &kept["metadata"]["annotations"];
            assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{overlay}: {}", kept["metadata"]["name"]);
            assert_eq!(
                annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false",
                "{overlay}: {}",
                kept["metadata"]["name"]
            );
            // No release has them (docs/uninstall.md).
            assert!(annotations["helm.sh/resource-policy"].is_null(), "{overlay}: {annotations}");
        }
        all.extend(built);
    }
    // An overlay of one's own, as the README shows it, with another image.
    let copy = Copied::new(&format!("overlay-{id}"));
    let readme = std::fs::read_to_string(format!("{KUSTOMIZE}/README.md")).unwrap();
    copy.write("own/kustomization.yaml", readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap());
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), format!("{}/own/dci-operator", copy.path)).unwrap();
    let built = documents(&plane().kubectl(&["kustomize", &format!("{}/own", copy.path)], None));
    let image = &built.iter().find(|object| object["kind"] == "Deployment").unwrap()["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example.net/platform/dci-operator:0.1.0");
    // Definitions as the bases have them are known from 1.31 on, admission policies from 1.30, the budget's version from 1.21.
    let new = |object: &Value| match object["apiVersion"].as_str().unwrap() {
        "policy/v1" => plane().minor < 21,
        "apiextensions.k8s.io/v1" => plane().minor < 31,
        "admissionregistration.k8s.io/v1" => plane().minor < 30,
        _ => false,
    };
    all.retain(|object| !new(object) && object["kind"] != "Namespace");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string();
    let list = list.replace("\"namespace\":\"dci-system\"", &format!("\"namespace\":\"kustomize-{id}\""));
    let list = ["hosting", "shop"].iter().fold(list, |list, namespace| {
        list.replace(&format!("\"namespace\":\"{namespace}\""), &format!("\"namespace\":\"{namespace}-{id}\""))
    });
    plane().kubectl(&["apply", "--dry-run=server", "--validate=true", "-f", "-"], Some(&list));
}
