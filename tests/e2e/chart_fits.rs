//! The chart's objects fit together: what selects finds what it is for, ports are called as they are asked for, and the network policy
//! lets through what it has to and nothing else.

use serde_json::{Value, json};

use super::chart::VARIANTS;
use super::chart_current::for_current;

/// Whether these labels are all among those.
fn among(labels: &Value, of: &Value) -> bool {
    let labels = labels.as_object().unwrap_or_else(|| panic!("no labels: {labels}"));
    assert!(!labels.is_empty(), "selects everything");
    labels.iter().all(|(name, value)| &of[name] == value)
}

fn names(ports: &Value) -> Vec<&str> {
    ports.as_array().into_iter().flatten().filter_map(|port| port["name"].as_str()).collect()
}

/// A selector that has another label than the pods finds nobody, and nothing says so: no metrics, no budget, a policy for nobody.
#[test]
fn every_selector_and_every_port_leads_somewhere() {
    let all = for_current();
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for (variant, _) in VARIANTS {
        let of =
            |kind: &'static str| all.iter().filter(move |(of, object)| *of == variant && object["kind"] == kind).map(|(_, object)| object);
        let deployment = of("Deployment").next().unwrap();
        let template = &deployment["spec"]["template"];
        let (pods, namespace) = (&template["metadata"]["labels"], &deployment["metadata"]["namespace"]);
        let container = &template["spec"]["containers"][0];
        let ports = names(&container["ports"]);
        // As docs/upgrades.md says: a Deployment of another name takes another Lease.
        let args = container["args"].as_array().unwrap();
        let lease = json!(format!("--leader-election-name={}", deployment["metadata"]["name"].as_str().unwrap()));
        assert_eq!(args.contains(&lease), args.contains(&json!("--leader-elect")), "{variant}: {args:?}");
        let test = of("Pod").next().map(|pod| &pod["metadata"]["labels"]);
        // What stands for the operator's pods stands for no other one.
        let mut finds_pods = |what: &'static str, selector: &Value| {
            assert!(among(selector, pods), "{variant}: {what} selects {selector}, the pods are {pods}");
            assert!(test.is_none_or(|test| !among(selector, test)), "{variant}: {what} selects the pod of `helm test` too: {selector}");
            *seen.entry(what).or_default() += 1;
        };
        finds_pods("Deployment", &deployment["spec"]["selector"]["matchLabels"]);
        for constraint in template["spec"]["topologySpreadConstraints"].as_array().into_iter().flatten() {
            finds_pods("spread", &constraint["labelSelector"]["matchLabels"]);
            let own = constraint["topologyKey"] == "host";
            assert!(
                !own || constraint["labelSelector"]["matchLabels"] == json!({"team": "hosting"}),
                "{variant}: not left alone: {constraint}"
            );
        }
        for probe in ["livenessProbe", "readinessProbe"] {
            let port = container[probe]["httpGet"]["port"].as_str().unwrap();
            assert!(ports.contains(&port), "{variant}: {probe} asks port {port} of {ports:?}");
        }
        for service in of("Service") {
            finds_pods("Service", &service["spec"]["selector"]);
            for port in service["spec"]["ports"].as_array().unwrap() {
                let target = port["targetPort"].as_str().unwrap();
                assert!(ports.contains(&target), "{variant}: the Service leads to port {target} of {ports:?}");
            }
        }
        for budget in of("PodDisruptionBudget") {
            finds_pods("PodDisruptionBudget", &budget["spec"]["selector"]["matchLabels"]);
        }
        for monitor in of("PodMonitor") {
            finds_pods("PodMonitor", &monitor["spec"]["selector"]["matchLabels"]);
            assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"], json!([namespace]), "{variant}");
            for endpoint in monitor["spec"]["podMetricsEndpoints"].as_array().unwrap() {
                assert!(ports.contains(&endpoint["port"].as_str().unwrap()), "{variant}: {endpoint}");
            }
        }
        for policy in of("NetworkPolicy") {
            finds_pods("NetworkPolicy", &policy["spec"]["podSelector"]["matchLabels"]);
            for port in policy["spec"]["ingress"].as_array().unwrap().iter().flat_map(|rule| rule["ports"].as_array().unwrap()) {
                assert!(ports.contains(&port["port"].as_str().unwrap()), "{variant}: the policy lets in to {port}, of {ports:?}");
            }
            // Where only some may read the metrics, the pod of `helm test` is one of them.
            if let (Some(test), Some(peers)) = (test, policy["spec"]["ingress"][0]["from"].as_array()) {
                let mut peers = peers.iter().filter(|peer| peer["podSelector"].is_object() && peer["namespaceSelector"].is_null());
                assert!(peers.any(|peer| among(&peer["podSelector"]["matchLabels"], test)), "{variant}: `helm test` is kept out");
            }
        }
        for monitor in of("ServiceMonitor") {
            let service = of("Service").next().unwrap();
            assert!(
                among(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]),
                "{variant}: {monitor} finds no Service"
            );
            assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"], json!([&service["metadata"]["namespace"]]), "{variant}");
            for endpoint in monitor["spec"]["endpoints"].as_array().unwrap() {
                assert!(names(&service["spec"]["ports"]).contains(&endpoint["port"].as_str().unwrap()), "{variant}: {endpoint}");
            }
            *seen.entry("ServiceMonitor").or_default() += 1;
        }
    }
    for what in ["Deployment", "spread", "Service", "PodDisruptionBudget", "PodMonitor", "ServiceMonitor", "NetworkPolicy"] {
        assert!(seen.get(what).is_some_and(|times| *times >= 2), "{what}: {seen:?}");
    }
}

/// Word by word: one port too many lets something through that nobody sees.
#[test]
fn the_network_policy_lets_through_what_was_asked_for_and_nothing_else() {
    let all = for_current();
    let spec = |variant: &str| {
        let mut found = all.iter().filter(|(of, object)| *of == variant && object["kind"] == "NetworkPolicy");
        found.next().map(|(_, object)| object["spec"].clone()).unwrap()
    };
    let labels =
        |name: &str, instance: &str| json!({"matchLabels": {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}});
    let tcp = |ports: &[u16]| ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect::<Value>();
    let names = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]);
    let metrics = json!([{"port": "metrics", "protocol": "TCP"}]);
    let to = |cidr: &str| json!([{"ipBlock": {"cidr": cidr}}]);
    let guarded = json!({
        "podSelector": labels("dci-operator", "guarded"),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "ports": metrics,
            "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}, {"podSelector": labels("dci-operator-test", "guarded")}],
        }],
        "egress": [
            {"ports": tcp(&[443, 6443]), "to": to("10.0.0.1/32")},
            {"ports": names, "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]},
            {"ports": tcp(&[1500, 443]), "to": to("192.0.2.0/28")},
            {"to": to("198.51.100.7/32")},
        ],
    });
    assert_eq!(spec("guarded"), guarded);
    // Without peers a rule is for everybody.
    let reachable = json!({
        "podSelector": labels("dci-operator", "reachable"),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": metrics},
            {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": "health", "protocol": "TCP"}]},
        ],
        "egress": [{"ports": tcp(&[443, 6443])}, {"ports": names}, {"ports": tcp(&[1500]), "to": to("192.0.2.0/28")}],
    });
    assert_eq!(spec("reachable"), reachable);
}
