//! The definitions themselves, as the server is told them: accepted without a warning, and what would be refused is refused.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use dci_operator::api::crds::Target;
use serde_json::{Value, json};

use crate::plane::plane;
use crate::support::{KINDS, Kind, definition};

/// What the server says to a definition that is not stored: whether it takes it, and with which words.
fn ask(crd: &Value) -> (bool, String) {
    // Tests run side by side.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let id = format!("{}-{}", std::process::id(), ASKED.fetch_add(1, Ordering::Relaxed));
    let file = std::env::temp_dir().join(format!("dci-operator-crd-{id}.json"));
    std::fs::write(&file, crd.to_string()).unwrap();
    let kubectl = std::env::var("DCI_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let said = Command::new(kubectl)
        .env("KUBECONFIG", plane().definitions())
        .args(["create", "--dry-run=server", "--validate=strict", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned())
}

/// A definition in a group where there is none yet: an update of what is there is checked less.
fn fresh(kind: Kind) -> Value {
    let mut crd = definition(kind, Target::Current);
    let group = "asked.dci-operator.dev";
    crd["metadata"]["name"] = format!("{}.{group}", crd["spec"]["names"]["plural"].as_str().unwrap()).into();
    crd["spec"]["group"] = group.into();
    crd
}

#[test]
fn each_definition_is_accepted_without_a_warning() {
    if !plane().serves_current("each_definition_is_accepted_without_a_warning") {
        return;
    }
    for kind in KINDS {
        assert_eq!(ask(&fresh(kind)), (true, String::new()), "{kind:?}");
    }
}

/// The server does look: each of these is what a slip in the source would make of a definition.
#[test]
fn a_definition_with_a_slip_is_refused() {
    if !plane().serves_current("a_definition_with_a_slip_is_refused") {
        return;
    }
    let rule = |rule: &str| json!([{"rule": rule, "message": "must be something else"}]);
    let nested = "self.recipes.all(a, self.recipes.all(b, self.recipes.all(c, a.contains(b) && b.contains(c))))";
    for (path, value, words) in [
        ("/properties/spec/x-kubernetes-validations", rule("self.domein != 'free.ds'"), "undefined field 'domein'"),
        ("/properties/spec/x-kubernetes-validations", rule("self.domain"), "must evaluate to a bool"),
        ("/properties/spec/x-kubernetes-validations", rule(nested), "exceeds budget"),
        ("/properties/spec/properties/domain/default", json!(5), "must be of type string"),
        ("/properties/spec/properties/addresses/properties/ipv4/type", json!("int"), "Unsupported value"),
    ] {
        let mut crd = fresh(Kind::Order);
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let (parent, key) = path.rsplit_once('/').unwrap();
        schema.pointer_mut(parent).unwrap()[key] = value;
        let (taken, said) = ask(&crd);
        assert!(!taken && said.contains(words), "{path}: {taken}, {said}");
    }
    if !plane().selects_fields("a_definition_with_a_slip_is_refused, in a field to select by") {
        return;
    }
    let mut crd = fresh(Kind::Order);
    crd["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.recipes"}]);
    let (taken, said) = ask(&crd);
    assert!(!taken && said.contains("selectableFields[0].jsonPath"), "{said}");
}
