//! What each value of the chart does: wrong ones are refused, none is set without effect or taken away by halves, and without roles the
//! account is bound to nothing.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::chart::{CHART, Copied, VARIANTS, documents, filled};
use super::chart_current::CURRENT;
use super::support::plane::{Plane, plane};
use super::support::world::random;

/// Paths of the values that have none below them.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), found)),
        None => drop(found.insert(path.to_owned())),
    }
}

fn defaults() -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(format!("{CHART}/values.yaml")).unwrap()).unwrap()
}

fn run(plane: &Plane, args: &[&str]) -> (i32, String) {
    let output = plane.helm_line().args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

#[test]
fn wrong_values_are_refused() {
    let monitors = "{service: {enabled: true}, serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}";
    let rows = [
        ("replicas: 2", "replicas"),
        ("metrics: {servicemonitor: {}}", "servicemonitor"),
        ("{replicaCount: two, image: {pullPolicy: Sometimes, digest: 'sha256:12', tag: 'a b'}}", "replicaCount pullPolicy digest tag"),
        ("{watchNamespaces: [Shop], rbac: {departments: ['a b']}, clusterId: 'a/b'}", "watchNamespaces departments clusterId"),
        (
            "{networkPolicy: {panels: [{cidr: example.net, ports: [0]}]}, logFormat: xml, tracing: {otlpEndpoint: collector}}",
            "cidr ports logFormat otlpEndpoint",
        ),
        ("{caBundle: {pem: nonsense}, podDisruptionBudget: {minAvailable: half}, tolerations: [{efect: x}]}", "pem minAvailable efect"),
        // What a schema cannot say is said by the templates.
        ("watchNamespaces: [shop]", "clusterId is required"),
        ("networkPolicy: {enabled: true}", "networkPolicy.panels is required"),
        (&format!("metrics: {monitors}"), "enable one of them"),
        ("metrics: {service: {enabled: false}, serviceMonitor: {enabled: true}}", "metrics.service.enabled"),
        ("caBundle: {configMap: {name: a}, secret: {name: b}}", "one of pem, configMap and secret"),
        ("serviceAccount: {create: false}", "serviceAccount.name is required"),
        ("prometheusRule: {runbookUrl: docs}", "runbookUrl"),
        ("deniedNetworks: [link-local]", "deniedNetworks"),
        // What the program would take for the name of a module, and log nothing else; an image with two tags; no quantity.
        ("{logLevel: warning, image: {repository: 'registry.example.net:5000/dci-operator:0.1.0'}}", "logLevel repository"),
        ("{logLevel: 'info,dci_operator', resources: {limits: {memory: lots}}}", "logLevel memory"),
        ("{watchNamespaces: [shop], clusterId: a, rbac: {namespaceSelectors: true}}", "NamespaceLabelsForbidden"),
        // Two that work at once; more than `helm test` would meet; what the operator would ask for at /v1/traces/v1/traces.
        ("{replicaCount: 2, leaderElection: {enabled: false}}", "replicaCount leaderElection.enabled turns"),
        ("replicaCount: 6", "replicaCount maximum"),
        ("tracing: {otlpEndpoint: 'http://collector:4318/v1/traces'}", "otlpEndpoint"),
        ("tracing: {otlpEndpoint: 'http://collector:4318/v1/traces/'}", "otlpEndpoint"),
        ("tracing: {otlpEndpoint: 'http://collector:4318/?tenant=a'}", "otlpEndpoint"),
        // Tolerations that no API server takes.
        ("tolerations: [{key: a, operator: Exists, value: x}]", "tolerations value"),
        ("tolerations: [{operator: Equal, value: x}]", "tolerations operator"),
        ("tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 30}]", "tolerations effect NoExecute"),
        // What the pods promise is kept, and a label by which they are found.
        (
            "{podSecurityContext: {runAsNonRoot: 'yes', runAsUser: 0}, securityContext: {readOnlyRootFilesytem: true}}",
            "runAsNonRoot runAsUser readOnlyRootFilesytem",
        ),
        ("securityContext: {allowPrivilegeEscalation: true, capabilities: {drop: [NET_RAW]}}", "allowPrivilegeEscalation drop"),
        ("podSecurityContext: {runAsNonRoot: null}", "podSecurityContext runAsNonRoot"),
        (
            "{podLabels: {app.kubernetes.io/name: a}, dashboards: {labels: {app.kubernetes.io/instance: b}}}",
            "podLabels name dashboards instance",
        ),
        ("{tests: {image: {tag: ''}}, resources: {requests: {cpu: -1}, limits: {memry: 64Mi}}}", "tag cpu memry"),
        ("{networkPolicy: {panels: [{cidr: 999.1.1.1/99, ports: [1500]}], dnsPorts: [domain]}}", "cidr dnsPorts"),
        ("{deniedNetworks: [1.2.3.4/99], networkPolicy: {apiServer: {cidrs: ['fe80:::/10']}}}", "deniedNetworks cidrs"),
        ("podDisruptionBudget: {minAvailable: 101%, maxUnavailable: 150%}", "minAvailable maxUnavailable"),
        ("topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, labelSektor: {}}]", "labelSektor"),
        ("networkPolicy: {metricsFrom: [{ipBlock: {cidrr: 10.0.0.0/8}}], extraEgress: [{towards: []}]}", "cidrr towards"),
        ("extraEnv: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", "extraEnv"),
        ("{fullnameOverride: 1abc, nameOverride: '123'}", "fullnameOverride nameOverride"),
        ("metrics: {podMonitor: {interval: 30s1m, relabelings: [{acton: drop}]}}", "interval acton"),
        (
            "metrics: {serviceMonitor: {enabled: true, interval: 1m, scrapeTimeout: 1m1s}}",
            "scrapeTimeout 1m1s of the monitor is longer than its interval 1m",
        ),
        // What the chart sets itself, and volumes that the restricted standard does not allow.
        ("podAnnotations: {dci-operator.dev/ca-checksum: a}", "podAnnotations not"),
        ("extraVolumes: [{name: a, hostPath: {path: /}}]", "extraVolumes hostPath"),
        ("extraVolumes: [{name: a}]", "extraVolumes"),
        ("extraEnv: [{name: DCI_OPERATOR_LOG_FORMAT, value: json}]", "extraEnv: DCI_OPERATOR_LOG_FORMAT is set by the chart itself"),
        ("extraEnv: [{name: DCI_OPERATOR_LOG_FILTER_FILE, value: a}]", "DCI_OPERATOR_LOG_FILTER_FILE is set by the chart itself"),
        ("extraEnv: [{name: DCI_OPERATOR_LOG, value: debug}]", "DCI_OPERATOR_LOG is set by the chart itself"),
        ("extraEnv: [{name: DCI_OPERATOR_DENIED_NETWORKS, value: none}]", "DCI_OPERATOR_DENIED_NETWORKS is set by the chart itself"),
        (
            "{tracing: {otlpEndpoint: 'http://a'}, extraEnv: [{name: DCI_OPERATOR_OTLP_ENDPOINT, value: a}]}",
            "DCI_OPERATOR_OTLP_ENDPOINT is set by the chart itself",
        ),
        ("{caBundle: {secret: {name: a}}, extraEnv: [{name: SSL_CERT_FILE, value: a}]}", "SSL_CERT_FILE is set by the chart itself"),
        ("{caBundle: {secret: {name: a}}, extraEnv: [{name: SSL_CERT_DIR, value: a}]}", "SSL_CERT_DIR is set by the chart itself"),
        ("extraEnv: [{name: DCI_OPERATOR_LEADER_ELECT, value: 'true'}]", "DCI_OPERATOR_LEADER_ELECT is set by the chart itself"),
        ("extraEnv: [{name: A, value: '1'}, {name: A, value: '2'}]", "extraEnv A twice"),
        ("extraArgs: [--namespace=shop]", "extraArgs: --namespace=shop is set by the chart itself"),
        ("extraArgs: [--leader-elect]", "extraArgs: --leader-elect is set by the chart itself"),
        ("extraArgs: [--watch-namespace, shop]", "extraArgs: --watch-namespace is set by the chart itself"),
        // The filter file takes the place of the first; the others would take the place of a value.
        ("extraArgs: [--log=debug]", "extraArgs: --log=debug is set by the chart itself"),
        ("extraArgs: [--log-filter-file=/x]", "extraArgs: --log-filter-file=/x is set by the chart itself"),
        ("extraArgs: [--log-format, json]", "extraArgs: --log-format is set by the chart itself"),
        ("extraArgs: [--denied-networks=none]", "extraArgs: --denied-networks=none is set by the chart itself"),
        (
            "{tracing: {otlpEndpoint: 'http://a'}, extraArgs: ['--otlp-endpoint=http://b']}",
            "extraArgs: --otlp-endpoint=http://b is set by the chart itself",
        ),
        ("extraVolumes: [{name: logging, emptyDir: {}}]", "extraVolumes name"),
        ("extraVolumeMounts: [{name: tmp, mountPath: /tmp}]", "extraVolumeMounts: tmp is none of extraVolumes"),
        // Without a default there is nothing that the pods would have instead.
        ("{podSecurityContext: null, securityContext: null}", "podSecurityContext securityContext"),
        ("{logLevel: null, metrics: null, leaderElection: null}", "logLevel metrics leaderElection"),
        ("metrics: {podMonitor: {enabled: true, interval: 5s}}", "scrapeTimeout 10s of the monitor is longer than its interval 5s"),
    ];
    let copy = Copied::new(&random());
    for (values, words) in rows {
        let file = copy.write("e2e-values.yaml", values);
        let (code, text) = run(plane(), &["template", "a", CHART, "--set", "crds.enabled=false", "--values", &file]);
        assert_ne!(code, 0, "{values}: accepted");
        let one = [words];
        let words: Vec<&str> = if [" required", " of ", " is set by ", " is none of "].iter().any(|part| words.contains(part)) {
            one.to_vec()
        } else {
            words.split(' ').collect()
        };
        assert!(words.iter().all(|word| text.contains(word)), "{values}: {text}");
    }
}

/// With a budget that lets no pod go no node can be drained. As a server reckons: a part of a pod counts as a whole one.
#[test]
fn budgets_that_let_no_pod_go_are_refused() {
    let (min, max) = ("minAvailable", "maxUnavailable");
    // Pods, the bound, and whether one of them may go.
    let rows = [
        (1, min, json!(1), false),
        (2, min, json!(2), false),
        (2, min, json!(1), true),
        (1, min, json!("100%"), false),
        (1, min, json!("1%"), false),
        (2, min, json!("51%"), false),
        (2, min, json!("50%"), true),
        (3, min, json!("67%"), false),
        (3, min, json!("66%"), true),
        (5, min, json!("81%"), false),
        (1, min, json!(0), true),
        (1, min, json!("0%"), true),
        (1, max, json!(0), false),
        (3, max, json!("0%"), false),
        (3, max, json!("1%"), true),
        (1, max, json!(1), true),
        // Without pods there is nothing to keep.
        (0, min, json!("100%"), true),
    ];
    let copy = Copied::new(&random());
    for (replicas, field, bound, goes) in rows {
        let mut values = json!({"replicaCount": replicas, "podDisruptionBudget": {"enabled": true}});
        values["podDisruptionBudget"][field] = bound.clone();
        let file = copy.write("e2e-values.yaml", &values.to_string());
        let fixed = ["template", "a", CHART, "--kube-version", CURRENT, "--set", "crds.enabled=false", "--values", &file];
        let (code, text) = run(plane(), &fixed);
        assert_eq!(code == 0, goes, "{values}: {text}");
        let bound = bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
        assert!(goes || text.contains(&format!("podDisruptionBudget.{field} {bound}")), "{values}: {text}");
    }
}

#[test]
fn every_variant_passes_a_strict_lint() {
    let copy = Copied::new(&random());
    for (name, values) in VARIANTS {
        let file = copy.write("e2e-values.yaml", &filled(values, "shop"));
        let (code, text) = run(plane(), &["lint", "--strict", CHART, "--values", &file]);
        assert_eq!(code, 0, "{name}: {text}");
    }
}

/// What no variant sets is rendered by nobody.
#[test]
fn every_value_is_set_by_a_variant() {
    // Definitions are sent apart, and looked at apart.
    const ELSEWHERE: [&str; 2] = ["/crds/enabled", "/crds/keep"];
    let variants = VARIANTS.map(|(_, values)| serde_yaml::from_str::<Value>(&filled(values, "shop")).unwrap());
    let mut all = BTreeSet::new();
    leaves(&defaults(), "", &mut all);
    let set = |path: &str| ELSEWHERE.contains(&path) || variants.iter().any(|values| values.pointer(path).is_some());
    let missing: Vec<&String> = all.iter().filter(|path| !set(path)).collect();
    assert!(all.len() > 60 && missing.is_empty(), "no variant sets {missing:?}");
}

/// What a variant makes; nothing where it is refused.
fn rendered(copy: &Copied, release: &str, file: &str, values: &Value) -> Option<String> {
    let file = copy.write(file, &values.to_string());
    let fixed = ["template", release, CHART, "--namespace", "dci", "--kube-version", CURRENT, "--set", "crds.enabled=false", "--values"];
    let output = plane().helm_line().args(fixed).arg(file).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// A value that a template reads by another name than it has is accepted and does nothing. So each one that a variant sets is taken
/// away once: what is made then has to be something else, or refused.
#[test]
fn no_value_is_without_effect() {
    let (copy, defaults) = (Copied::new(&random()), defaults());
    let mut cases: Vec<(&str, Value, String)> = Vec::new();
    for (name, values) in VARIANTS {
        let values: Value = serde_yaml::from_str(&filled(values, "shop")).unwrap();
        let mut paths = BTreeSet::new();
        leaves(&values, "", &mut paths);
        paths.retain(|path| defaults.pointer(path) != values.pointer(path));
        cases.extend(paths.into_iter().map(|path| (name, values.clone(), path)));
    }
    assert!(cases.len() > 80, "{}", cases.len());
    let whole = VARIANTS.map(|(name, values)| {
        let values = serde_yaml::from_str(&filled(values, "shop")).unwrap();
        (name, rendered(&copy, name, &format!("whole-{name}.yaml"), &values).unwrap_or_else(|| panic!("{name} is refused")))
    });
    let (next, idle) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(4) {
            scope.spawn(|| {
                while let Some((name, values, path)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut values = values.clone();
                    let (parent, key) = path.rsplit_once('/').unwrap();
                    values.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
                    let file = format!("without-{name}{}.yaml", path.replace('/', "-"));
                    let without = rendered(&copy, name, &file, &values);
                    let with = &whole.iter().find(|(of, _)| of == name).unwrap().1;
                    if without.as_ref() == Some(with) {
                        idle.lock().unwrap().push(format!("{name}: {path}"));
                    }
                }
            });
        }
    });
    let idle = idle.into_inner().unwrap();
    assert!(idle.is_empty(), "{} values do nothing:\n{}", idle.len(), idle.join("\n"));
}

/// `null` takes a value's default away. Either that is refused, with its name, or what is made is whole without it.
#[test]
fn a_value_that_is_taken_away_is_refused_or_nothing_is_half_made() {
    let copy = Copied::new(&random());
    let mut paths = BTreeSet::new();
    leaves(&defaults(), "", &mut paths);
    let above: Vec<String> = paths.iter().flat_map(|path| path.match_indices('/').skip(1).map(|(end, _)| path[..end].to_owned())).collect();
    paths.extend(above);
    // Everything that is rendered on demand is; but one of the two monitors.
    let all = json!({
        "podDisruptionBudget": {"enabled": true}, "networkPolicy": {"enabled": true, "panels": [{"cidr": "192.0.2.0/28", "ports": [1500]}]},
        "metrics": {"serviceMonitor": {"enabled": true}}, "prometheusRule": {"enabled": true}, "dashboards": {"enabled": true},
        "caBundle": {"configMap": {"name": "a"}}, "rbac": {"departments": ["a"]}, "crds": {"enabled": false},
    });
    let mut refused = 0;
    for path in &paths {
        let mut values = all.clone();
        let (parents, key) = path.rsplit_once('/').unwrap();
        let parent = parents.split('/').skip(1).fold(&mut values, |value, name| &mut value[name]);
        parent[key] = Value::Null;
        let file = copy.write("null.yaml", &values.to_string());
        let fixed = ["template", "a", CHART, "--namespace", "dci", "--kube-version", CURRENT, "--values", &file];
        let output = plane().helm_line().args(fixed).output().unwrap();
        let (made, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            refused += 1;
            assert!(
                said.contains(key) && (said.contains("specifications of the schema") || said.contains("execution error")),
                "{path}: {said}"
            );
            continue;
        }
        assert!(!made.contains("nil>") && !made.contains("%!"), "{path}: {made}");
        for object in documents(&made) {
            match object["kind"].as_str().unwrap() {
                "Deployment" => hardened(path, &object["spec"]["template"]["spec"]),
                "Pod" => hardened(path, &object["spec"]),
                _ => {}
            }
        }
    }
    assert!(refused > 20 && paths.len() > refused + 20, "{refused} of {}", paths.len());
}

/// What the standard asks for of a pod, whatever is taken away.
fn hardened(path: &str, spec: &Value) {
    let (pod, container) = (&spec["securityContext"], &spec["containers"][0]["securityContext"]);
    assert!(pod["runAsNonRoot"] == true && pod["seccompProfile"]["type"] == "RuntimeDefault", "{path}: {pod}");
    assert!(container["allowPrivilegeEscalation"] == false && container["capabilities"]["drop"] == json!(["ALL"]), "{path}: {container}");
}

/// With `rbac.create: false` somebody else gives the account what it needs: the chart binds it to nothing. Roles for people stay.
#[test]
fn without_roles_the_account_is_bound_to_nothing() {
    let copy = Copied::new(&random());
    for values in [json!({}), json!({"watchNamespaces": ["hosting", "shop"], "clusterId": "a"})] {
        let bound = |create: bool| -> Vec<String> {
            let mut values = values.clone();
            values["rbac"] = json!({"create": create, "departments": ["Assembly"]});
            let text = rendered(&copy, "a", &format!("rbac-{create}.yaml"), &values).unwrap();
            let all = documents(&text);
            let account = all.iter().find(|object| object["kind"] == "ServiceAccount").unwrap()["metadata"]["name"].clone();
            let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": "dci"});
            let bindings = all.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("RoleBinding"));
            let bindings = bindings.filter(|binding| binding["subjects"].as_array().unwrap().contains(&subject));
            let roles = all.iter().filter(|object| object["rules"].is_array() && object["kind"].as_str().unwrap().ends_with("Role"));
            let roles = roles.filter(|role| !role["metadata"]["name"].as_str().unwrap().starts_with("dci-"));
            assert!(text.contains("dci-department-Assembly"), "people have no roles: {text}");
            bindings.chain(roles).map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
        };
        assert_eq!(bound(false), [] as [String; 0], "{values}");
        assert!(bound(true).len() >= 4, "{values}: {:?}", bound(true));
    }
}
