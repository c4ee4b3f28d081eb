//! What the chart makes for a current server, whatever the one here is: budgets and policies are nothing that an old one is sent. It is
//! held against Kubernetes' own types; what a current server says to it is seen where the tests run on one.

use std::collections::BTreeSet;

use dci_operator::api::crds::{self, Target};
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
pub(super) fn for_current() -> Vec<(&'static str, Value)> {
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
        let policies = if ["namespaced", "2024", "renamed"].contains(&variant) { 0 } else { 3 };
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

/// Helm writes 1.0 as 1, which is the same to a server.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => json!(number.as_f64()),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// A server gets what it takes and keeps: one that drops a field would differ for ever from what Git says, and with field validation
/// an unknown one is an error.
#[test]
fn definitions_are_rendered_as_each_server_knows_them() {
    let render = |version: &str| plane().helm(&["template", "a", CHART, "--kube-version", version, "--show-only", "templates/crds.yaml"]);
    for minor in [25, 29, 30, 31, 33] {
        let target = Target::of_minor(minor);
        assert_eq!(target == Target::Current, minor >= 31);
        // A distribution's version, such as GKE's, counts as the release that it is.
        for version in [format!("1.{minor}.0"), format!("v1.{minor}.3-gke.100")] {
            let rendered = documents(&render(&version));
            assert_eq!(rendered.len(), 4, "{version}");
            for crd in &rendered {
                let known = crds::all(target).unwrap().into_iter().find(|known| known["metadata"]["name"] == crd["metadata"]["name"]);
                assert!(plain(&crd["spec"]) == plain(&known.unwrap()["spec"]), "{version}: {} differs", crd["metadata"]["name"]);
                assert!(crd["spec"].to_string().contains("x-kubernetes-validations"), "{version}");
            }
            let selects = rendered.iter().filter(|crd| crd["spec"]["versions"][0]["selectableFields"].is_array()).count();
            assert_eq!(selects, if minor >= 31 { 3 } else { 0 }, "{version}");
        }
    }
    let old = plane().helm_line().args(["template", "a", CHART, "--kube-version", "1.24.0"]).output().unwrap();
    assert!(!old.status.success() && String::from_utf8_lossy(&old.stderr).contains("dci-operator crds --for 1.20"), "{old:?}");
}
