//! What the chart makes for a current server, whatever the one here is: budgets and policies are nothing that an old one is sent. It is
//! held against Kubernetes' own types; what a current server says to it is seen where the tests run on one.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1 as rbac;
use serde_json::{Value, json};

use super::chart::{CHART, Copied, VARIANTS, documents, filled, holds, restricted};
use super::support::plane::plane;
use super::support::world::random;

/// The server that the chart is rendered for; kustomize's bases are made for it too.
pub(super) const CURRENT: &str = "1.33.0";

/// All objects that the variants make for a current server, definitions included, with the variant's name.
fn for_current() -> Vec<(&'static str, Value)> {
    let copy = Copied::new(&random());
    let mut all = Vec::new();
    for (name, values) in VARIANTS {
        let file = copy.write("e2e-values.yaml", &filled(values, "shop"));
        let text = plane().helm(&["template", name, CHART, "--kube-version", CURRENT, "--namespace", "dci", "--values", &file]);
        all.extend(documents(&text).into_iter().map(|object| (name, object)));
    }
    all
}

/// A field that the types do not know is lost on the way through them.
#[test]
fn every_object_for_a_current_server_is_what_its_types_know() {
    let all = for_current();
    let mut untyped = BTreeSet::new();
    for (variant, object) in &all {
        let (kind, version) = (object["kind"].as_str().unwrap(), object["apiVersion"].as_str().unwrap());
        let place = format!("{variant}: {kind} {}", object["metadata"]["name"]);
        match typed(version, kind, object) {
            Some(known) => holds(&place, object, &known),
            None => drop(untyped.insert(kind.to_owned())),
        }
    }
    assert!(
        untyped.iter().map(String::as_str).eq(["CustomResourceDefinition", "PodMonitor", "PrometheusRule", "ServiceMonitor"]),
        "{untyped:?}"
    );
    let of = |variant: &str, kind: &str| -> Vec<&Value> {
        all.iter().filter(|(of, object)| *of == variant && object["kind"] == kind).map(|(_, object)| object).collect()
    };
    for (variant, _) in VARIANTS {
        // Policies are for all namespaces.
        let policies = if ["namespaced", "2024", "renamed"].contains(&variant) { 0 } else { 2 };
        for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
            assert_eq!(of(variant, kind).len(), policies, "{variant}: {kind}");
        }
        assert_eq!(of(variant, "CustomResourceDefinition").len(), 4, "{variant}");
        for pod in of(variant, "Deployment").iter().map(|object| &object["spec"]["template"]).chain(of(variant, "Pod")) {
            restricted(variant, &pod["spec"]);
        }
    }
    let budgets = VARIANTS.map(|(variant, _)| of(variant, "PodDisruptionBudget"));
    let budgets: Vec<Value> = budgets.iter().flatten().map(|budget| budget["spec"].clone()).collect();
    let bounds: Vec<_> = budgets.iter().map(|spec| (&spec["minAvailable"], &spec["maxUnavailable"])).collect();
    let null = &Value::Null;
    assert_eq!(bounds, [(&json!("50%"), null), (null, &json!("34%")), (&json!(0), null)]);
    let policy = of("reachable", "NetworkPolicy")[0];
    assert_eq!(policy["spec"]["ingress"][1]["ports"][0]["port"], "health");
    let names = policy["spec"]["egress"].as_array().unwrap().iter().find(|rule| rule["ports"][0]["port"] == 53).unwrap();
    assert!(names["to"].is_null(), "{names}");
}

/// An object as Kubernetes' own types have it; nothing for kinds of others.
fn typed(version: &str, kind: &str, object: &Value) -> Option<Value> {
    fn through<T: serde::Serialize + serde::de::DeserializeOwned>(object: &Value) -> Value {
        let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
        serde_json::to_value(read).unwrap()
    }
    Some(match (version, kind) {
        ("v1", "ConfigMap") => through::<core::ConfigMap>(object),
        ("v1", "Pod") => through::<core::Pod>(object),
        ("v1", "Service") => through::<core::Service>(object),
        ("v1", "ServiceAccount") => through::<core::ServiceAccount>(object),
        ("apps/v1", "Deployment") => through::<apps::Deployment>(object),
        ("policy/v1", "PodDisruptionBudget") => through::<PodDisruptionBudget>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => through::<NetworkPolicy>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => through::<rbac::Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => through::<rbac::RoleBinding>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => through::<rbac::ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => through::<rbac::ClusterRoleBinding>(object),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => through::<admission::ValidatingAdmissionPolicy>(object),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            through::<admission::ValidatingAdmissionPolicyBinding>(object)
        }
        // What a definition may say is the matter of tests/api.
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") | ("monitoring.coreos.com/v1", _) => return None,
        _ => panic!("{version} {kind} is not known to this test"),
    })
}

/// What no variant sets is rendered by nobody.
#[test]
fn every_value_is_set_by_a_variant() {
    fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value.as_object().filter(|fields| !fields.is_empty()) {
            Some(fields) => fields.iter().for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), found)),
            None => drop(found.insert(path.to_owned())),
        }
    }
    // Definitions are sent apart; and what is made with `rbac.create: false` is what the tests of permissions miss.
    const ELSEWHERE: [&str; 3] = ["/crds/enabled", "/crds/keep", "/rbac/create"];
    let variants = VARIANTS.map(|(_, values)| serde_yaml::from_str::<Value>(&filled(values, "shop")).unwrap());
    let defaults = std::fs::read_to_string(format!("{CHART}/values.yaml")).unwrap();
    let mut all = BTreeSet::new();
    leaves(&serde_yaml::from_str(&defaults).unwrap(), "", &mut all);
    let set = |path: &str| ELSEWHERE.contains(&path) || variants.iter().any(|values| values.pointer(path).is_some());
    let missing: Vec<&String> = all.iter().filter(|path| !set(path)).collect();
    assert!(all.len() > 60 && missing.is_empty(), "no variant sets {missing:?}");
}
