//! The chart and what is made of it: every object that a variant makes for the server of the tests is accepted by it as it was sent, and
//! every pod keeps to the restricted standard. What an old server is not sent: `chart_current.rs`; what the values do, and which are
//! refused: `chart_values.rs`; how the objects fit together: `chart_fits.rs`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::chart_current::for_current;
use super::support::plane::plane;
use super::support::world::random;

pub(super) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dci-operator");
const MONITORING: &str = include_str!("support/monitoring.yaml");

/// Values to render the chart with. Between them they set every value that there is.
pub(super) const VARIANTS: [(&str, &str); 9] = [
    ("plain", "replicaCount: 1"),
    ("permissions", "{replicaCount: 0, serviceAccount: {create: false, name: given}, metrics: {service: {enabled: false}}}"),
    (
        "namespaced",
        "{watchNamespaces: [SHOP], clusterId: e2e, replicaCount: 1, deniedNetworks: [],
          image: {digest: 'sha256:DIGEST'}, leaderElection: {enabled: false}, rbac: {departments: [Assembly]},
          resources: {limits: {memory: 1Gi, cpu: '2'}, requests: {cpu: 100m}},
          metrics: {service: {enabled: false}, podMonitor: {enabled: true, metricRelabelings: [{action: labeldrop, regex: pod}]}}}",
    ),
    (
        "available",
        "{replicaCount: 3, podDisruptionBudget: {enabled: true, minAvailable: 50%}, priorityClassName: given, logFormat: json,
          logLevel: 'info,dci_operator=debug', tracing: {otlpEndpoint: 'http://collector.observability:4318'},
          rbac: {namespaceSelectors: true, departments: [Assembly]}, tolerations: [{operator: Exists}], nodeSelector: {a: b},
          affinity: {nodeAffinity: {}}, podLabels: {a: b}, podAnnotations: {a: b}, tests: {image: {tag: '1'}}}",
    ),
    (
        "guarded",
        "{replicaCount: 2, deniedNetworks: [10.96.0.0/12, 'fe80::/10'],
          networkPolicy: {enabled: true, panels: [{cidr: 192.0.2.0/28, ports: [1500, 443]}],
          metricsFrom: [{namespaceSelector: {matchLabels: {a: b}}}], apiServer: {cidrs: [10.0.0.1/32]},
          extraEgress: [{to: [{ipBlock: {cidr: 198.51.100.7/32}}]}]}, caBundle: {pem: '-----BEGIN CERTIFICATE-----'},
          podLabels: {team: hosting}, topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule},
          {maxSkew: 1, topologyKey: host, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {team: hosting}}}]}",
    ),
    (
        "watched",
        "{replicaCount: 1, metrics: {serviceMonitor: {enabled: true, labels: {release: prom}, relabelings: [{action: drop, regex: x,
          sourceLabels: [pod]}]}, service: {annotations: {a: b}}}, caBundle: {configMap: {name: roots, key: bundle.pem}}, extraArgs: [--task-retention=1h],
          extraEnv: [{name: A, value: b}], extraEnvFrom: [{secretRef: {name: given}}], extraVolumes: [{name: tmp, emptyDir: {}}],
          extraVolumeMounts: [{name: tmp, mountPath: /tmp}], imagePullSecrets: [{name: given}],
          prometheusRule: {enabled: true, labels: {release: prom}, runbookUrl: 'https://wiki.example.net/dci/'}, dashboards: {enabled: true, annotations: {folder: dci}}}",
    ),
    // Names that are taken for numbers where they are not quoted, and objects in another namespace.
    (
        "2024",
        "{watchNamespaces: [SHOP], clusterId: '2024', replicaCount: 1, rbac: {userRoles: false}, serviceAccount: {create: false, name: '123'},
          priorityClassName: '12e3', imagePullSecrets: [{name: '123'}], caBundle: {secret: {name: '123', key: '456'}},
          metrics: {podMonitor: {enabled: true, namespace: SHOP, labels: {a: b}, interval: 1m, scrapeTimeout: 5s, relabelings: [{action: drop, regex: x,
          sourceLabels: [pod]}]}}, prometheusRule: {enabled: true, namespace: SHOP},
          dashboards: {enabled: true, namespace: SHOP}, networkPolicy: {enabled: true, dnsPorts: [53, 5353],
          apiServer: {ports: [6443]}, panels: [{cidr: '2001:db8::/32', ports: [1500]}], metricsFrom: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}}",
    ),
    // Names resolved anywhere, and a budget of what may be missing.
    (
        "reachable",
        "{replicaCount: 2, podDisruptionBudget: {enabled: true, maxUnavailable: 34%}, networkPolicy: {enabled: true, dns: [],
          panels: [{cidr: 192.0.2.0/28, ports: [1500]}],
          extraIngress: [{from: [{podSelector: {matchLabels: {a: b}}}], ports: [{port: health, protocol: TCP}]}]}}",
    ),
    // All that is called otherwise, or is not there.
    (
        "renamed",
        "{fullnameOverride: full, nameOverride: other, image: {repository: registry.example.net/dci, tag: '1', pullPolicy: Always},
          serviceAccount: {annotations: {a: b}}, rbac: {create: false}, podDisruptionBudget: {enabled: true, minAvailable: 0}, policies: {enabled: false},
          podSecurityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: null, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}},
          securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}},
          resources: {requests: {memory: 128Mi}}, dashboards: {enabled: true, labels: {grafana_dashboard: null, a: b}}, prometheusRule: {enabled: true},
          tests: {enabled: true, image: {repository: registry.example.net/busybox, digest: 'sha256:DIGEST', pullPolicy: Never}},
          metrics: {serviceMonitor: {enabled: true, namespace: SHOP, interval: 1m, scrapeTimeout: 5s,
          metricRelabelings: [{action: labeldrop, regex: pod}]}}}",
    ),
];

/// All objects that the variants make, with the variant's name, in two namespaces of this run's own; made once.
fn objects() -> &'static (String, Vec<(&'static str, Value)>) {
    static OBJECTS: OnceLock<(String, Vec<(&'static str, Value)>)> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let id = random();
        let (system, shop) = (format!("chart-{id}"), format!("chart-shop-{id}"));
        for namespace in [&system, &shop] {
            plane().kubectl(&["create", "namespace", namespace], None);
        }
        let copy = Copied::new(&id);
        let mut all = Vec::new();
        for (name, values) in VARIANTS {
            let file = copy.write("e2e-values.yaml", &filled(values, &shop));
            let text = render(&copy.path, &[name, "--namespace", &system, "--values", &file]);
            all.extend(documents(&text).into_iter().map(|object| (name, object)));
        }
        (system, all)
    })
}

pub(super) fn filled(values: &str, shop: &str) -> String {
    values.replace("SHOP", shop).replace("DIGEST", &"0a".repeat(32))
}

fn render(chart: &str, args: &[&str]) -> String {
    let version = format!("1.{}.0", plane().minor);
    let mut all = vec!["template", args[0], chart, "--kube-version", &version, "--set", "crds.enabled=false"];
    all.extend(&args[1..]);
    plane().helm(&all)
}

pub(super) fn documents(text: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    all.filter(|object| !object.is_null()).collect()
}

/// A copy of the chart, to put files into; it goes with this.
pub(super) struct Copied {
    pub path: String,
}

impl Copied {
    pub fn new(id: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dci-operator-chart-{id}"));
        let status = std::process::Command::new("cp").arg("-r").arg(CHART).arg(&path).status().unwrap();
        assert!(status.success());
        Self { path: path.to_str().unwrap().to_owned() }
    }

    pub fn write(&self, file: &str, text: &str) -> String {
        let path = std::path::Path::new(&self.path).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A chart that depends on this one switches it on and off by a value of this one's own.
#[test]
fn a_chart_above_switches_it_on_and_off() {
    let copy = Copied::new(&random());
    let above = "{apiVersion: v2, name: above, version: 0.1.0, dependencies: [{name: dci-operator, version: '>=0', condition: dci-operator.enabled}]}";
    copy.write("above/Chart.yaml", above);
    let into = format!("{}/above/charts", copy.path);
    std::fs::create_dir_all(&into).unwrap();
    assert!(std::process::Command::new("cp").args(["-r", CHART, &into]).status().unwrap().success());
    let made = |value: &str| {
        let values = format!("dci-operator.{value},dci-operator.crds.enabled=false");
        documents(&render(&format!("{}/above", copy.path), &["a", "--set", &values])).len()
    };
    assert!(made("enabled=true") > 10);
    assert_eq!(made("enabled=false"), 0);
}

/// Whatever a release and its namespaces are called.
#[test]
fn names_that_look_like_something_else_stay_names() {
    let copy = Copied::new(&random());
    let values = "{watchNamespaces: ['123', 'null'], clusterId: '1', rbac: {departments: ['7']}, serviceAccount: {create: false, name: '123'},
                   priorityClassName: '123', caBundle: {configMap: {name: '123'}}, podDisruptionBudget: {enabled: true},
                   metrics: {serviceMonitor: {enabled: true, namespace: '567'}}, prometheusRule: {enabled: true}, dashboards: {enabled: true},
                   networkPolicy: {enabled: true, panels: [{cidr: 192.0.2.0/28, ports: [1500]}]}}";
    let file = copy.write("e2e-values.yaml", values);
    for release in ["2024", "12e4567", "1e3", "1abc", "my.rel", "true", "null", "off"] {
        let text = render(CHART, &[release, "--namespace", "1234", "--values", &file]);
        // To Kubernetes, which reads an older YAML than this test, off is a truth value.
        assert!(!text.lines().any(|line| line.ends_with(": off")), "{text}");
        for object in documents(&text) {
            names(&format!("{release}: {}", object["kind"]), &object);
            let name = object["metadata"]["name"].as_str().unwrap();
            let label = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('.');
            assert!(object["kind"] != "Service" || label, "{release}: a Service cannot be named {name}");
        }
    }
}

/// What stands under such a key is a name.
fn names(place: &str, value: &Value) {
    const KEYS: [&str; 6] = ["name", "namespace", "serviceAccountName", "priorityClassName", "secretName", "policyName"];
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = KEYS.contains(&key.as_str()) || key.starts_with("app.kubernetes.io/");
                assert!(!name || value.is_string(), "{place}.{key} is {value}");
                let list = key == "matchNames" || key == "resourceNames";
                assert!(!list || value.as_array().unwrap().iter().all(Value::is_string), "{place}.{key} is {value}");
                names(&format!("{place}.{key}"), value);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(place, item)),
        _ => {}
    }
}

/// Two releases of one name may have their objects in one namespace.
#[test]
fn objects_in_another_namespace_carry_the_releases() {
    let values =
        ["metrics.serviceMonitor", "prometheusRule", "dashboards"].map(|part| format!("{part}.enabled=true,{part}.namespace=watch"));
    let made = |release: &str, namespace: &str| -> Vec<String> {
        let text = render(CHART, &[release, "--namespace", namespace, "--set", &values.join(",")]);
        let there = documents(&text).into_iter().filter(|object| object["metadata"]["namespace"] == "watch");
        there.map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    };
    let (one, other) = (made("dci-operator", "a"), made("dci-operator", "b"));
    assert_eq!((one.len(), other.len()), (5, 5));
    assert!(one.iter().all(|name| name.contains("\"a.dci-operator") && !other.contains(name)), "{one:?} {other:?}");
    // At home they are called as everything else is.
    assert!(made("dci-operator", "watch").contains(&r#""ServiceMonitor" "dci-operator""#.to_owned()));
}

#[test]
fn every_object_is_accepted_as_it_is_sent() {
    if !plane().try_kubectl(&["get", "crd", "servicemonitors.monitoring.coreos.com"]) {
        plane().kubectl(&["apply", "-f", "-"], Some(MONITORING));
        for kind in ["servicemonitors", "podmonitors", "prometheusrules"] {
            plane().kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/{kind}.monitoring.coreos.com")], None);
        }
    }
    let (system, objects) = objects();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut created, mut tried) = (Vec::new(), Vec::new());
    for (_, object) in objects {
        *kinds.entry(object["kind"].as_str().unwrap()).or_default() += 1;
        // What has no namespace is one for all: it is created when the chart is installed (chart_life). And two of the variants
        // have a role with the same name.
        if object["metadata"]["namespace"].is_string() { created.push(object) } else { tried.push(object) }
    }
    for kind in ["Deployment", "NetworkPolicy", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap", "Pod", "Role", "Service"] {
        assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}");
    }
    // policy/v1 came with 1.21. What an older server is not sent has the same fields in the version that it knows.
    let old = plane().minor < 21;
    assert_eq!(kinds.contains_key("PodDisruptionBudget"), !old);
    let budgets = if old { budgets_as_older_servers_know_them(system) } else { Vec::new() };
    created.extend(&budgets);
    for (sent, mode) in [(created, "none"), (tried, "server")] {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": sent});
        let stored =
            plane().kubectl(&["create", &format!("--dry-run={mode}"), "--validate=true", "-o", "json", "-f", "-"], Some(&list.to_string()));
        let stored: Vec<Value> = serde_json::Deserializer::from_str(&stored).into_iter().map(|v| v.unwrap()).collect();
        let stored: Vec<&Value> =
            stored.iter().flat_map(|v| v["items"].as_array().map_or(vec![v], |items| items.iter().collect())).collect();
        assert_eq!(stored.len(), sent.len());
        for (sent, stored) in sent.iter().zip(stored) {
            let name = format!("{} {}", sent["kind"], sent["metadata"]["name"]);
            assert_eq!((&sent["kind"], &sent["metadata"]["name"]), (&stored["kind"], &stored["metadata"]["name"]));
            holds(&name, sent, stored);
        }
    }
}

/// The budgets that a current server gets, in a namespace of here.
fn budgets_as_older_servers_know_them(namespace: &str) -> Vec<Value> {
    let all = for_current().into_iter().map(|(_, object)| object);
    let mut budgets: Vec<Value> = all.filter(|object| object["kind"] == "PodDisruptionBudget").collect();
    for budget in &mut budgets {
        budget["apiVersion"] = "policy/v1beta1".into();
        budget["metadata"]["namespace"] = namespace.into();
    }
    assert!(budgets.len() >= 3, "{budgets:?}");
    budgets
}

/// What prunes must not prune definitions: every order goes with them. Unless that is asked for.
#[test]
fn definitions_are_kept_by_every_pipeline() {
    const WORDS: [(&str, &str); 3] = [
        ("helm.sh/resource-policy", "keep"),
        ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
    ];
    for keep in [true, false] {
        let keeps = format!("crds.keep={keep}");
        let text =
            plane().helm(&["template", "a", CHART, "--kube-version", "1.33.0", "--show-only", "templates/crds.yaml", "--set", &keeps]);
        let definitions = documents(&text);
        assert_eq!(definitions.len(), 4);
        for crd in definitions {
            for (name, value) in WORDS {
                assert_eq!(crd["metadata"]["annotations"][name] == value, keep, "{}: {name}", crd["metadata"]["name"]);
            }
        }
    }
}

/// Who may order, and who may close tasks, does not depend on how many namespaces are watched; only how they get it does.
#[test]
fn people_have_the_same_roles_in_one_namespace_as_in_all() {
    let roles = |values: &[&str]| -> Vec<Value> {
        let text = render(CHART, &[&["a", "--set", "rbac.departments={Assembly}"], values].concat());
        documents(&text)
            .into_iter()
            .filter(|o| o["metadata"]["name"].as_str().unwrap().starts_with("dci-") && o["rules"].is_array())
            .collect()
    };
    let everywhere = roles(&[]);
    let names: Vec<&str> = everywhere.iter().map(|role| role["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dci-view", "dci-edit", "dci-admin", "dci-department", "dci-department-Assembly"]);
    assert!(everywhere.iter().all(|role| role["kind"] == "ClusterRole"));
    let here = roles(&["--set", "watchNamespaces={hosting,shop}", "--set", "clusterId=a"]);
    assert_eq!(here.len(), 2 * everywhere.len());
    for (i, role) in here.iter().enumerate() {
        let same = &everywhere[i % everywhere.len()];
        assert_eq!((&role["metadata"]["name"], &role["rules"]), (&same["metadata"]["name"], &same["rules"]));
        assert_eq!(role["kind"], "Role");
        assert_eq!(role["metadata"]["namespace"], if i < everywhere.len() { "hosting" } else { "shop" });
        // Only ClusterRoles are aggregated.
        assert!(!role["metadata"]["labels"].to_string().contains("aggregate"), "{role}");
    }
}

#[test]
fn the_notes_say_what_comes_next() {
    let notes = |values: &[&str]| {
        let fixed = ["install", "a", CHART, "--namespace", "dci", "--dry-run=client", "--set", "crds.enabled=false"];
        plane().helm(&[&fixed, values].concat()).split_once("NOTES:").unwrap().1.to_owned()
    };
    let plain = notes(&[]);
    for words in [
        "dci-operator:0.1.0, without a registry",
        "rollout status deployment/a-dci-operator --namespace dci",
        "helm test a --namespace dci",
    ] {
        assert!(plain.contains(words), "{words}: {plain}");
    }
    assert!(plain.contains("kubectl get dci --all-namespaces"), "{plain}");
    assert!(!plain.contains("networkPolicy"), "{plain}");
    let guarded = |more: &str| {
        let panels = "networkPolicy.enabled=true,networkPolicy.panels[0].cidr=192.0.2.0/28,networkPolicy.panels[0].ports={1500}";
        notes(&["--set", &format!("{panels}{more}")])
    };
    let (open, peers) =
        (guarded(""), ",networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b,networkPolicy.apiServer.cidrs={10.0.0.1/32}");
    assert!(open.contains("(443, 6443): set networkPolicy.apiServer.cidrs") && open.contains("set networkPolicy.metricsFrom"), "{open}");
    assert!(!guarded(peers).contains("networkPolicy"), "{}", guarded(peers));
    assert!(!notes(&["--set", "image.repository=registry.example.net/dci-operator"]).contains("registry"));
    assert!(!plain.contains("runbookUrl"), "{plain}");
    let alerts = |url: &str| notes(&["--set", "prometheusRule.enabled=true", "--set", &format!("prometheusRule.runbookUrl={url}")]);
    assert!(alerts("").contains("set prometheusRule.runbookUrl"));
    assert!(!alerts("https://wiki.example.net/dci").contains("runbookUrl"));
    let some = notes(&["--set", "watchNamespaces={hosting,shop}", "--set", "clusterId=a", "--set", "replicaCount=0"]);
    assert!(some.contains("kubectl get dci --namespace hosting") && some.contains("bind the Roles dci-view"), "{some}");
    assert!(!some.contains("rollout") && !some.contains("helm test"), "{some}");
}

/// What is in the files of alerts and dashboards holds templates of others: it has to come through as it is.
#[test]
fn alerts_and_dashboards_are_installed_as_they_stand_in_the_files() {
    let (_, objects) = objects();
    let read = |file: &str| std::fs::read_to_string(format!("{CHART}/files/{file}")).unwrap();
    let of_kind = |kind: &str| objects.iter().filter(|(v, o)| *v == "watched" && o["kind"] == kind).map(|(_, o)| o).collect::<Vec<_>>();
    let rules = read("rules/dci-operator.yaml").replace("docs/runbooks/", "https://wiki.example.net/dci/");
    let rules: Value = serde_yaml::from_str(&rules).unwrap();
    let installed = of_kind("PrometheusRule");
    assert_eq!(installed.len(), 1);
    assert_eq!(installed[0]["spec"]["groups"], rules["groups"]);
    assert!(rules["groups"][0]["rules"].as_array().unwrap().len() >= 12);
    // Pods that are labelled otherwise are looked for by that label.
    let renamed = objects.iter().find(|(v, o)| *v == "renamed" && o["kind"] == "PrometheusRule").unwrap().1.to_string();
    assert!(renamed.contains("app.kubernetes.io/name=other") && !renamed.contains("app.kubernetes.io/name=dci-operator"), "{renamed}");
    let maps = of_kind("ConfigMap");
    for name in ["fleet", "handler", "order"] {
        let map = maps.iter().find(|m| m["data"][format!("{name}.json")].is_string()).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(map["data"][format!("{name}.json")], read(&format!("dashboards/{name}.json")));
    }
}

/// Everything that was sent was stored. The server writes quantities in its own way, and adds what is the default.
pub(super) fn holds(place: &str, sent: &Value, stored: &Value) {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => {
            for (name, value) in sent {
                // Empty lists and objects may be left out.
                if *value != json!({}) && *value != json!([]) && !value.is_null() {
                    holds(&format!("{place}.{name}"), value, stored.get(name).unwrap_or(&Value::Null));
                }
            }
        }
        (Value::Array(sent), Value::Array(stored)) => {
            assert_eq!(sent.len(), stored.len(), "{place}");
            for (i, (sent, stored)) in sent.iter().zip(stored).enumerate() {
                holds(&format!("{place}[{i}]"), sent, stored);
            }
        }
        (sent, stored) => assert_eq!(sent, stored, "{place} was not stored as it was sent"),
    }
}

#[test]
fn pods_keep_to_the_restricted_standard() {
    let (system, objects) = objects();
    let mut pods = Vec::new();
    for (variant, object) in objects {
        match object["kind"].as_str().unwrap() {
            "Deployment" => pods.push((variant, object["spec"]["template"].clone())),
            "Pod" => pods.push((variant, object.clone())),
            _ => {}
        }
    }
    assert!(pods.len() >= 10, "{}", pods.len());
    for (variant, pod) in &pods {
        restricted(variant, &pod["spec"]);
    }
    if !plane().is_current("pods_keep_to_the_restricted_standard, by the server's own judgement") {
        return;
    }
    let namespace = format!("{system}-restricted");
    plane().kubectl(&["create", "namespace", &namespace], None);
    let enforced = ["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"];
    plane().kubectl(&enforced, None);
    for (i, (_, mut pod)) in pods.into_iter().enumerate() {
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"] = json!({"name": format!("pod-{i}"), "namespace": namespace});
        // Neither is there; both have nothing to do with the standard.
        pod["spec"].as_object_mut().unwrap().remove("serviceAccountName");
        pod["spec"].as_object_mut().unwrap().remove("priorityClassName");
        plane().kubectl(&["create", "-f", "-"], Some(&pod.to_string()));
    }
}

/// The standard's table, as far as a field may be wrong: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
pub(super) fn restricted(variant: &str, spec: &Value) {
    let pod = &spec["securityContext"];
    assert_eq!(pod["runAsNonRoot"], true, "{variant}");
    assert_ne!(pod["runAsUser"], 0, "{variant}");
    assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{variant}");
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(!spec[field].as_bool().unwrap_or(false), "{variant}: {field}");
    }
    let allowed = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let source = volume.as_object().unwrap().keys().find(|key| *key != "name").unwrap();
        assert!(allowed.contains(&source.as_str()), "{variant}: volume of {source}");
    }
    for container in spec["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{variant}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{variant}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{variant}");
        assert!(context["privileged"].is_null() && context["procMount"].is_null(), "{variant}");
        for port in container["ports"].as_array().into_iter().flatten() {
            assert!(port["hostPort"].is_null(), "{variant}");
        }
    }
}
