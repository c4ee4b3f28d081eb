//! What CI runs: the workflows hang together, and the script for kind cleans up whatever fails.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{path, text};

/// With stand-ins for the tools, of which one fails: what was made has to go, whatever could not be collected.
#[test]
fn the_kind_cluster_is_deleted_whatever_fails() {
    let folder = std::env::temp_dir().join(format!("dci-operator-kind-{}", std::process::id()));
    let tools = folder.join("tools");
    std::fs::create_dir_all(&tools).unwrap();
    let calls = folder.join("calls");
    for tool in ["docker", "kind", "kubectl", "helm", "find"] {
        // The logs are asked of a cluster that is not there; the tests' program is found nowhere, so another one stands for it.
        let script = "#!/bin/bash\necho \"${0##*/} $*\" >>CALLS\ncase \"${0##*/} $1 $2\" in FAILS) exit 1 ;; \"kubectl logs \"*) \
                      [[ $* == *pod/panels ]] || exit 1; echo certificate sha256 0a ;; find*) echo /bin/true ;; esac\n[[ ! -p /dev/stdin ]] || cat >/dev/null\n";
        std::fs::write(tools.join(tool), script.replace("CALLS", calls.to_str().unwrap()).replace("FAILS", "\"$FAILS\"")).unwrap();
        std::fs::set_permissions(tools.join(tool), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let search = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let (serves, pod) = ("kubectl wait --for=condition=Ready", "kubectl wait --namespace");
    let before = ["kind create cluster", "helm install dci-operator", "helm test dci-operator", serves, "helm uninstall dci-operator"];
    for fails in before.into_iter().chain([pod]) {
        let _ = std::fs::remove_file(&calls);
        let output = std::process::Command::new("bash")
            .arg(path("deploy/kind/e2e.sh"))
            .env("PATH", &search)
            .env("FAILS", fails)
            .env("TMPDIR", &folder)
            .output()
            .unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let calls = std::fs::read_to_string(&calls).unwrap();
        assert!(!output.status.success(), "{fails}: {said}");
        assert!(calls.contains(fails), "{fails}: it did not come to that\n{calls}\n{said}");
        assert!(calls.contains("kind export logs"), "{fails}: no logs\n{calls}");
        assert!(calls.lines().any(|call| call.starts_with("kind delete cluster --name dci-e2e-")), "{fails}: the cluster stays\n{calls}");
        assert!(calls.contains("--no-run --test e2e --test e2e_rules"), "{fails}: tests of rules are not built\n{calls}");
        // What the operator needs is let through, or it serves no order.
        let install = calls.lines().find(|call| call.starts_with("helm install"));
        let guarded = ["networkPolicy.enabled=true", "networkPolicy.panels[0].cidr=10.244.0.0/16", "networkPolicy.panels[0].ports={1500}"];
        assert!(install.is_none_or(|call| guarded.iter().all(|value| call.contains(value))), "{fails}: {install:?}");
        // The tests start when the chart is gone: its policies and roles would be in their way.
        let at = |start: &str| calls.lines().position(|call| call.starts_with(start));
        let (gone, tests) = (at("helm uninstall dci-operator "), at("kubectl apply "));
        assert_eq!(tests.is_some(), fails == pod, "{fails}: the tests were started, or not\n{calls}");
        assert!(tests.is_none_or(|tests| gone.is_some_and(|gone| gone < tests)), "{fails}: the chart is still there\n{calls}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What is built into the image, or run in the cluster, is tried there before it is merged.
#[test]
fn the_kind_workflow_looks_at_what_it_builds() {
    let workflow = workflow("kind");
    let paths = workflow["on"]["pull_request"]["paths"].as_array().unwrap();
    for needed in [
        "src/**",
        "tests/**",
        "Cargo.toml",
        "Cargo.lock",
        "charts/**",
        "deploy/Dockerfile",
        "deploy/kind/**",
        "deploy/demo/**",
        ".dockerignore",
    ] {
        assert!(paths.contains(&json!(needed)), "a change of {needed} is tried in no cluster: {paths:?}");
    }
}

/// 1.30 is supported, and has fields to select by switched off: a test that needs them asks whether they are there.
#[test]
fn tests_that_select_by_fields_ask_whether_they_can() {
    let mut found = 0;
    for folder in ["tests/e2e", "tests/e2e_rules", "tests/e2e_states"] {
        for entry in std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().path()).filter(|file| file.is_file()) {
            let text = std::fs::read_to_string(&entry).unwrap();
            // Up to the next test.
            for test in text.split("test]\n").skip(1) {
                let selects = ["--field-selector=status.", "--field-selector={", ".fields(selector)", "[\"selectableFields\"] ="];
                if selects.iter().any(|words| test.contains(words)) {
                    assert!(test.contains("selects_fields("), "{}: {}", entry.display(), test.lines().next().unwrap());
                    found += 1;
                }
            }
        }
    }
    assert_eq!(found, 3, "the words to look for are others now");
}

/// What a test in its own control plane is about is not tested in kind: said so where kind is explained.
#[test]
fn what_is_skipped_in_kind_is_named() {
    let readme = text("deploy/kind/README.md");
    let mut found = 0;
    for folder in ["tests/e2e", "tests/e2e_rules"] {
        for file in std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            let file = format!("{folder}/{file}");
            let own = path(&file).is_file() && text(&file).contains("OwnPlane::start");
            assert_eq!(readme.contains(&format!("`{file}`")), own, "deploy/kind/README.md: {file}");
            found += usize::from(own);
        }
    }
    assert!(found >= 8, "{found}");
    // What of it is put into the tests' pod comes to it as its arguments.
    assert!(
        text("deploy/kind/runner.yaml").contains("inside.sh, TESTS]") && text("deploy/kind/inside.sh").contains("for program in \"$@\"")
    );
}

fn workflow(name: &str) -> Value {
    serde_yaml::from_str(&text(&format!(".github/workflows/{name}.yaml"))).unwrap()
}

/// Each in a release that others are seen to use, on a Node that runners have. actionlint says so of the best known only, and reads no
/// action of our own.
const ACTIONS: [&str; 12] = [
    "EmbarkStudios/cargo-deny-action@v2",
    "actions/attest-build-provenance@v4",
    "actions/attest@v4",
    "actions/cache@v6",
    "actions/checkout@v7",
    "actions/upload-artifact@v7",
    "azure/setup-helm@v5",
    "docker/build-push-action@v7",
    "docker/login-action@v4",
    "docker/setup-buildx-action@v4",
    "docker/setup-qemu-action@v4",
    "helm/kind-action@v1",
];

#[test]
fn every_action_of_others_is_one_that_was_looked_at() {
    let workflows = std::fs::read_dir(path(".github/workflows")).unwrap().map(|entry| entry.unwrap().path());
    let mut found = BTreeSet::new();
    for file in workflows.chain([path(".github/actions/debian/action.yaml")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        let uses = text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: "));
        found.extend(uses.filter(|action| !action.starts_with("./")).map(str::to_owned));
    }
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ACTIONS);
    // What deploy/kind/README.md says of the workflows is done.
    assert!(text("deploy/kind/README.md").contains("the workflows with actionlint (`make lint`"));
    assert!(text("deploy/ci/stages.sh").contains("program actionlint"));
}

/// An image or a chart that has a name is used; it gets one when nothing is left that could fail.
#[test]
fn nothing_is_released_before_its_checks() {
    let release = workflow("release");
    let jobs = release["jobs"].as_object().unwrap();
    for called in ["ci", "kind"] {
        assert_eq!(jobs[called]["uses"], format!("./.github/workflows/{called}.yaml"));
        assert!(workflow(called)["on"].as_object().unwrap().contains_key("workflow_call"), "{called} cannot be called");
    }
    let writes = jobs.iter().filter(|(_, job)| job["permissions"].to_string().contains("write"));
    assert_eq!(writes.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["image"]);
    let image = &jobs["image"];
    assert!(["ci", "kind"].iter().all(|job| image["needs"].as_array().unwrap().contains(&json!(job))), "{}", image["needs"]);
    let steps = image["steps"].as_array().unwrap();
    let at = |words: &str| steps.iter().position(|step| step.to_string().contains(words)).unwrap_or_else(|| panic!("no step with {words}"));
    let build = &steps[at("push-by-digest=true")]["with"];
    assert!(build["tags"].is_null() && build["push"].is_null(), "the image has a name before it was seen to start: {build}");
    let order =
        ["push-by-digest=true", "docker run --rm", "helm lint", "sbom-path", "imagetools create --tag", "helm push", "gh release create"];
    let order = order.map(at);
    assert!(order.is_sorted(), "{order:?}");
}

/// The chart is changed with `sed` before it is packaged, which says nothing where a line is written otherwise.
#[test]
fn the_released_chart_names_its_image_and_its_runbooks() {
    let steps = workflow("release")["jobs"]["image"]["steps"].take();
    let run = steps.as_array().unwrap().iter().filter_map(|step| step["run"].as_str()).find(|run| run.contains("helm package")).unwrap();
    let folder = std::env::temp_dir().join(format!("dci-operator-release-{}", std::process::id()));
    let (tools, chart) = (folder.join("tools"), folder.join("charts/dci-operator"));
    for made in [&tools, &chart] {
        std::fs::create_dir_all(made).unwrap();
    }
    std::fs::copy(path("charts/dci-operator/values.yaml"), chart.join("values.yaml")).unwrap();
    let runbooks = "https://github.example/Own/dci/blob/v0.1.0/docs/runbooks";
    let helm = tools.join("helm");
    // In the place of the one that renders.
    let says =
        format!("#!/bin/bash\n[[ $1 != template ]] || printf '%s\\n' 'image: \"r/i@d\"' 'runbook_url: {runbooks}/DciOperatorDown.md'\n");
    std::fs::write(&helm, says).unwrap();
    std::fs::set_permissions(&helm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let given = [
        ("GITHUB_SERVER_URL", "https://github.example"),
        ("GITHUB_REPOSITORY", "Own/dci"),
        ("GITHUB_REF_NAME", "v0.1.0"),
        ("IMAGE", "r/i"),
        ("DIGEST", "d"),
        ("CHART", "0.2.0"),
    ];
    let search = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let output =
        std::process::Command::new("bash").args(["-ec", run]).envs(given).env("PATH", search).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let values: Value = serde_yaml::from_str(&std::fs::read_to_string(chart.join("values.yaml")).unwrap()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((&values["image"]["repository"], &values["image"]["digest"]), (&json!("r/i"), &json!("d")));
    assert_eq!(values["prometheusRule"]["runbookUrl"], runbooks);
    assert_eq!(values["tests"]["image"]["digest"], "", "the image of `helm test` is another one");
}

/// What is tested in clusters is tested against each API server alone too, where more of the tests can run.
#[test]
fn both_workflows_know_the_newest_kubernetes() {
    let kind = workflow("kind")["jobs"]["e2e"]["strategy"]["matrix"]["include"].take();
    let servers = workflow("ci")["jobs"]["current-server"]["strategy"]["matrix"]["kubernetes"].take();
    let clusters = kind.as_array().unwrap();
    assert!(clusters.len() >= 3 && clusters.iter().all(|one| servers.as_array().unwrap().contains(&one["name"])), "{kind} {servers}");
    for one in clusters {
        assert!(one["node"].as_str().unwrap().starts_with(&format!("v{}.", one["name"].as_str().unwrap())), "{one}");
    }
    // What is installed is always the same.
    let ci = text(".github/workflows/ci.yaml");
    assert!(!ci.contains("@latest"), "a tool of the day");
}
