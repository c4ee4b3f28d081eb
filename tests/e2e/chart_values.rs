//! What each value of the chart does: none is set without effect, and without roles the account is bound to nothing.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::chart::{CHART, Copied, VARIANTS, documents, filled};
use super::chart_current::CURRENT;
use super::support::plane::plane;
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
