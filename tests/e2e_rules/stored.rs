//! Objects that were stored before a rule or a bound came: what can still be done with them.

use dci_operator::api::crds::Target;
use dci_operator::api::messages as msg;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::plane::plane;
use crate::server::{Answer, answer, client, resource};
use crate::support::{Kind, definition, example};

/// Takes rules and bounds from a schema, and leaves its shape.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for keyword in ["x-kubernetes-validations", "pattern", "maxLength", "minLength"] {
                // A field of that name is an object or not there.
                if map.get(keyword).is_some_and(|value| !value.is_object()) {
                    map.remove(keyword);
                }
            }
            map.values_mut().for_each(loosen);
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The definition of orders in a group of this test's own.
fn orders(group: &str) -> Value {
    let mut crd = definition(Kind::Order, Target::Current);
    crd["metadata"]["name"] = format!("dedicatedserverorders.{group}").into();
    crd["spec"]["group"] = group.into();
    crd["spec"]["names"]["shortNames"] = json!([]);
    crd
}

fn define(crd: &Value) {
    plane().define(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(&crd.to_string()));
    let name = format!("crd/{}", crd["metadata"]["name"].as_str().unwrap());
    plane().define(&["wait", "--for=condition=Established", "--timeout=60s", &name], None);
}

async fn patch(all: &Api<DynamicObject>, value: Value) -> Answer {
    answer(all.patch("web-01", &PatchParams::default(), &Patch::Merge(value)).await)
}

#[tokio::test]
async fn an_order_from_before_a_rule_can_still_be_served_and_released() {
    if !plane().serves_current("an_order_from_before_a_rule_can_still_be_served_and_released") {
        return;
    }
    // Not a group that an older server passes on: asked where the definitions are.
    let group = format!("stored-{}.dci-operator.dev", std::process::id());
    let strict = orders(&group);
    let mut loose = strict.clone();
    loosen(&mut loose["spec"]["versions"][0]["schema"]);
    define(&loose);
    let client = client(plane().definitions(), None).await;
    let all: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource(Kind::Order, &group));
    let mut old = example(Kind::Order);
    old["apiVersion"] = format!("{group}/v1alpha1").into();
    old["metadata"]["namespace"] = "default".into();
    // Breaks a rule of the spec, and a bound of a field.
    old["spec"]["domain"] = "free.ds".into();
    old["spec"]["client"]["email"] = "nobody at all".into();
    answer(all.create(&PostParams::default(), &serde_json::from_value(old.clone()).unwrap()).await).unwrap();
    define(&strict);

    // From when on the server knows the new definition: the same as a new object is refused.
    let mut fresh = old.clone();
    fresh["metadata"]["name"] = "web-02".into();
    let began = std::time::Instant::now();
    let refusal = loop {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        match answer(all.create(&dry, &serde_json::from_value(fresh.clone()).unwrap()).await) {
            Err(refusal) => break refusal,
            Ok(_) => assert!(began.elapsed().as_secs() < 60, "the new definition is not in force"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!(refusal.causes.iter().any(|(field, _)| field == "spec.client.email"), "{refusal:?}");

    // What the operator writes: finalizers, annotations, statuses.
    patch(&all, json!({"metadata": {"finalizers": ["dci-operator.dev/release-server"], "annotations": {"a": "b"}}})).await.unwrap();
    let status = Patch::Merge(json!({"status": {"observedGeneration": 1, "phase": "Active"}}));
    answer(all.patch_status("web-01", &PatchParams::default(), &status).await).unwrap();

    // What is broken may stay as it is, and may not become otherwise broken.
    let refusal = patch(&all, json!({"spec": {"client": {"email": "nobody either"}}})).await.unwrap_err();
    assert!(refusal.causes.iter().any(|(field, _)| field == "spec.client.email"), "{refusal:?}");
    // A rule of the whole spec counts as soon as any of the spec changes.
    let refusal = patch(&all, json!({"spec": {"deletionProtection": false}})).await.unwrap_err();
    assert!(refusal.causes.iter().all(|(_, said)| said.ends_with(msg::DOMAIN_FREE)), "{refusal:?}");
    // The bound of the address that stays does not count then.
    let mended = patch(&all, json!({"spec": {"domain": "web-01.example.net", "deletionProtection": false}})).await.unwrap();
    assert_eq!(mended["spec"]["client"]["email"], "nobody at all");

    // It can go, finalizer and all.
    let _ = all.delete("web-01", &DeleteParams::default()).await.unwrap();
    patch(&all, json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(all.get_opt("web-01").await.unwrap().is_none());
    plane().define(&["delete", "crd", strict["metadata"]["name"].as_str().unwrap()], None);
}
