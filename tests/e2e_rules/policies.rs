//! The chart's policies, enforced by a real server: who may delete what, who may write what into a task, and what the operator's own
//! account may make.

use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::plane::{OwnPlane, plane};
use crate::server::{Answer, answer, client, resource};
use crate::support::{Kind, example, patched};

/// The account that the policies below let through.
const OPERATOR: &str = "system:serviceaccount:default:dci-dci-operator";

struct Policed {
    own: OwnPlane,
    client: Client,
    cases: u32,
}

impl Policed {
    /// A server of the test's own, since policies are for the whole cluster: with the chart's policies and roles, and users who
    /// have what their names say.
    async fn start(test: &str) -> Option<Self> {
        if !plane().serves_current(test) {
            return None;
        }
        let own = OwnPlane::start(test)?;
        let plane = own.plane;
        let release = ["--namespace", "default", "--set", "rbac.departments={Operations,Assembly}"];
        plane.kubectl(&["apply", "-f", "-"], Some(&plane.render(&release)));
        let policies = ["--show-only", "templates/policies.yaml", "--kube-version", "1.30.0"];
        plane.define(&["apply", "-f", "-"], Some(&plane.render(&[&release[..], &policies[..]].concat())));
        for namespace in ["hosting", "shop"] {
            plane.kubectl(&["create", "namespace", namespace], None);
        }
        for (role, verbs) in [("patcher", "get,patch"), ("updater", "get,patch,update")] {
            let resources = "--resource=manualtasks.dci-operator.dev,manualtasks.dci-operator.dev/status";
            plane.kubectl(&["create", "role", role, "-n", "hosting", &format!("--verb={verbs}"), resources], None);
        }
        for (user, role) in [
            ("operations", "--clusterrole=dci-department-Operations"),
            ("assembly", "--clusterrole=dci-department-Assembly"),
            ("patcher", "--role=patcher"),
            ("updater", "--role=updater"),
            (OPERATOR, "--role=patcher"),
        ] {
            let name = user.rsplit(':').next().unwrap();
            plane.kubectl(&["create", "rolebinding", name, "-n", "hosting", role, &format!("--user={user}")], None);
        }
        let client = client(&plane.kubeconfig, None).await;
        let policed = Self { own, client, cases: 0 };
        policed.in_force().await;
        Some(policed)
    }

    /// Policies take a moment to be known to the server; so do roles.
    async fn in_force(&self) {
        self.create(Kind::Order, &order("probe", &json!({"deletionProtection": true}))).await;
        let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
        let began = std::time::Instant::now();
        while all(&self.client, Kind::Order).delete("probe", &dry).await.is_ok() {
            assert!(began.elapsed().as_secs() < 60, "the policies are not in force");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    async fn create(&self, kind: Kind, object: &Value) {
        answer(all(&self.client, kind).create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await).unwrap();
    }

    /// A patch of a task by somebody; nobody is the administrator.
    async fn patch(&mut self, user: Option<&str>, task: &str, patch: Value) -> Answer {
        self.cases += 1;
        let client = client(&self.own.plane.kubeconfig, user).await;
        answer(all(&client, Kind::Task).patch(task, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    async fn delete(&mut self, order: &str) -> Answer {
        self.cases += 1;
        let deleted = all(&self.client, Kind::Order).delete(order, &DeleteParams::default()).await;
        answer(deleted.map(|either| either.left_or_else(|_| DynamicObject::new(order, &resource(Kind::Order, "dci-operator.dev")))))
    }
}

/// Orders are in the client's namespace, tasks in the provider's.
fn all(client: &Client, kind: Kind) -> Api<DynamicObject> {
    let namespace = if kind == Kind::Order { "shop" } else { "hosting" };
    Api::namespaced_with(client.clone(), namespace, &resource(kind, "dci-operator.dev"))
}

fn order(name: &str, spec: &Value) -> Value {
    let base = patched(&example(Kind::Order), &json!({"metadata": {"name": name}, "spec": {"deletionProtection": null}}));
    patched(&base, &json!({"spec": spec}))
}

fn task(name: &str) -> Value {
    let open = json!({"type": "StopServer", "department": "Operations", "resolution": null, "note": null});
    patched(
        &example(Kind::Task),
        &json!({"metadata": {"name": name, "labels": {"dci-operator.dev/department": "Operations"}}, "spec": open}),
    )
}

fn assert_denied(answer: Answer, words: &str, what: &str) {
    let refusal = answer.expect_err(what);
    assert!(refusal.code == 403 && refusal.message.contains(words), "{what}: {refusal:?}");
    assert!(refusal.message.contains("ValidatingAdmissionPolicy"), "{what}: {refusal:?}");
}

#[tokio::test]
async fn a_protected_order_is_deleted_with_its_namespace_only() {
    let Some(mut policed) = Policed::start("protection").await else { return };
    let words = "spec.deletionProtection of the order is true: set it to false first";
    for (name, spec) in [
        ("kept", json!({"deletionProtection": true})),
        ("open", json!({"deletionProtection": false})),
        ("silent", json!({})),
        ("opened", json!({"deletionProtection": true})),
    ] {
        policed.create(Kind::Order, &order(name, &spec)).await;
    }
    assert_denied(policed.delete("kept").await, words, "a protected order");
    policed.delete("open").await.unwrap();
    policed.delete("silent").await.unwrap();
    let orders = all(&policed.client, Kind::Order);
    let open = Patch::Merge(json!({"spec": {"deletionProtection": false}}));
    let _ = orders.patch("opened", &PatchParams::default(), &open).await.unwrap();
    policed.delete("opened").await.unwrap();
    let everything = orders.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    assert_denied(answer(everything.map(|_| unreachable!("the collection was deleted"))), words, "all orders at once");
    policed.cases += 1;
    assert_eq!(orders.list(&ListParams::default()).await.unwrap().items.len(), 2, "the protected ones are there");
    // A namespace that goes takes its orders with it; the finalizer, which these do not have, is what would hold it.
    policed.own.plane.kubectl(&["delete", "namespace", "shop", "--timeout=60s"], None);
    assert!(orders.get_opt("kept").await.unwrap().is_none());
    policed.cases += 1;
    println!("{} policy cases", policed.cases);
}

#[tokio::test]
async fn a_task_is_closed_by_its_department_and_its_metadata_is_the_operators() {
    let Some(mut policed) = Policed::start("tasks").await else { return };
    for name in ["mt-1", "mt-2", "mt-3", "mt-4", "mt-5"] {
        policed.create(Kind::Task, &task(name)).await;
    }
    let (note, done) = (json!({"spec": {"note": "looking"}}), json!({"spec": {"resolution": "Done"}}));
    let department = "the task is for department Operations: closing it takes the verb resolve on departments/Operations";
    for (user, patch) in [("assembly", &note), ("assembly", &done), ("patcher", &note), ("patcher", &done), ("updater", &done)] {
        assert_denied(policed.patch(Some(user), "mt-1", patch.clone()).await, department, user);
    }
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]);
    let metadata = [
        json!({"labels": {"dci-operator.dev/department": "Assembly"}}),
        json!({"labels": {"dci-operator.dev/department": null}}),
        json!({"labels": {"mine": "x"}}),
        json!({"annotations": {"mine": "x"}}),
        json!({"finalizers": ["example.com/mine"]}),
        json!({"ownerReferences": owner}),
    ];
    for patch in &metadata {
        let what = format!("operations: {patch}");
        assert_denied(
            policed.patch(Some("operations"), "mt-1", json!({"metadata": patch})).await,
            "metadata of a task is the operator's",
            &what,
        );
    }
    // Nothing changes: nothing is refused.
    policed.patch(Some("assembly"), "mt-1", json!({"metadata": {"labels": {"dci-operator.dev/department": "Operations"}}})).await.unwrap();
    let both = json!({"metadata": {"labels": {"mine": "x"}}, "spec": {"note": "x"}});
    assert_denied(policed.patch(Some("operations"), "mt-1", both).await, "metadata of a task", "both at once");
    policed.patch(Some("operations"), "mt-1", note).await.unwrap();
    policed.patch(Some("operations"), "mt-1", done.clone()).await.unwrap();
    // Nobody came in time: the department that was asked then may answer, too, and the first one still may.
    let tasks = all(&policed.client, Kind::Task);
    let escalated = Patch::Merge(json!({"status": {"escalatedTo": "Assembly"}}));
    let _ = tasks.patch_status("mt-5", &PatchParams::default(), &escalated).await.unwrap();
    let words = "the task is for department Operations, escalated to Assembly: closing it takes";
    assert_denied(policed.patch(Some("patcher"), "mt-5", json!({"spec": {"note": "mine"}})).await, words, "neither of the two");
    policed.patch(Some("operations"), "mt-5", json!({"spec": {"note": "looking"}})).await.unwrap();
    policed.patch(Some("assembly"), "mt-5", done.clone()).await.unwrap();
    // Whoever may update tasks may change their metadata, and the operator and an administrator may do both.
    for patch in &metadata {
        policed.patch(Some("updater"), "mt-2", json!({"metadata": patch})).await.unwrap();
    }
    policed.patch(Some(OPERATOR), "mt-3", json!({"metadata": {"labels": {"mine": "x"}}, "spec": {"resolution": "Done"}})).await.unwrap();
    policed.patch(None, "mt-4", json!({"metadata": {"labels": {"mine": "x"}}, "spec": {"resolution": "Done"}})).await.unwrap();
    // A status is not the policy's matter.
    let patcher = client(&policed.own.plane.kubeconfig, Some("patcher")).await;
    let status = Patch::Merge(json!({"status": {"observedGeneration": 1}}));
    let _ = all(&patcher, Kind::Task).patch_status("mt-1", &PatchParams::default(), &status).await.unwrap();
    policed.cases += 1;
    // Whatever removes a task that is being deleted takes its finalizers away.
    let _ = tasks.delete("mt-2", &DeleteParams::default()).await.unwrap();
    policed.patch(Some("patcher"), "mt-2", json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(tasks.get_opt("mt-2").await.unwrap().is_none());
    println!("{} policy cases", policed.cases);
}

/// Secrets are the older server's where custom resources alone are served by a current one: then the policy is put in force for a kind of
/// our group that looks like them.
const LIKE_SECRETS: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": {"name": "secrets.dci-operator.dev"}, "spec": {"group": "dci-operator.dev", "scope": "Namespaced",
    "names": {"kind": "Secret", "plural": "secrets", "singular": "secret"},
    "versions": [{"name": "v1alpha1", "served": true, "storage": true,
      "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}"#;

/// With the operator's token somebody else would make a Secret that the cluster fills with another account's token, and read it.
#[tokio::test]
async fn the_account_makes_no_secrets_but_those_of_orders() {
    let Some(mut policed) = Policed::start("secrets").await else { return };
    let plane = policed.own.plane;
    let (group, version) = if plane.minor >= 30 { ("", "v1") } else { ("dci-operator.dev", "v1alpha1") };
    if !group.is_empty() {
        plane.define(&["apply", "-f", "-"], Some(LIKE_SECRETS));
        plane.define(&["wait", "--for=condition=Established", "--timeout=60s", "crd/secrets.dci-operator.dev"], None);
        let policies = ["--namespace", "default", "--show-only", "templates/policies.yaml", "--kube-version", "1.30.0"];
        let text = plane.render(&policies);
        let theirs = text
            .replace("apiGroups: [\"\"]", &format!("apiGroups: [{group}]"))
            .replace("apiVersions: [v1]", &format!("apiVersions: [{version}]"));
        assert_ne!(theirs, text);
        plane.define(&["apply", "-f", "-"], Some(&theirs));
    }
    let rule = json!({"apiGroups": [group], "resources": ["secrets"], "verbs": ["create"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "maker", "namespace": "shop"}, "rules": [rule]});
    plane.kubectl(&["apply", "-f", "-"], Some(&role.to_string()));
    plane.kubectl(&["create", "rolebinding", "maker", "-n", "shop", "--role=maker", &format!("--user={OPERATOR}"), "--user=author"], None);
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "Secret"), "secrets");
    let owner = |version: &str, kind: &str| json!([{"apiVersion": version, "kind": kind, "name": "web-01", "uid": "u"}]);
    let order = owner("dci-operator.dev/v1alpha1", "DedicatedServerOrder");
    let token = "kubernetes.io/service-account-token";
    let (type_, owned) = ("the operator makes Secrets of type Opaque only", "the operator makes only Secrets that belong to an order");
    let cases = [
        (OPERATOR, Some(token), order.clone(), Some(type_)),
        (OPERATOR, Some("kubernetes.io/tls"), order.clone(), Some(type_)),
        (OPERATOR, Some("Opaque"), json!(null), Some(owned)),
        (OPERATOR, None, json!([]), Some(owned)),
        (OPERATOR, None, owner("v1", "ConfigMap"), Some(owned)),
        (OPERATOR, None, owner("example.net/v1", "DedicatedServerOrder"), Some(owned)),
        // As passwords and keys are made, and those of licences.
        (OPERATOR, None, order.clone(), None),
        (OPERATOR, Some("Opaque"), order, None),
        // What others make is none of its matter.
        ("author", Some(token), json!(null), None),
        ("author", None, json!(null), None),
    ];
    // The policy takes a moment, the older server another one until it passes the kind on.
    let began = std::time::Instant::now();
    for (i, (user, type_, owners, refused)) in cases.into_iter().enumerate() {
        let mut secret = json!({
            "apiVersion": resource.api_version, "kind": "Secret", "type": type_, "data": {"password": "eA=="},
            "metadata": {"name": format!("made-{i}"), "ownerReferences": owners, "annotations": {"kubernetes.io/service-account.name": "default"}},
        });
        secret.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let secret: DynamicObject = serde_json::from_value(secret).unwrap();
        let client = client(&plane.kubeconfig, Some(user)).await;
        let secrets: Api<DynamicObject> = Api::namespaced_with(client, "shop", &resource);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let said = loop {
            let said = answer(secrets.create(&dry, &secret).await);
            let early = said.as_ref().map_or_else(|refusal| !refusal.message.contains("ValidatingAdmissionPolicy"), |_| refused.is_some());
            if !early {
                break said;
            }
            assert!(began.elapsed().as_secs() < 60, "{user} {i}: {said:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        match refused {
            Some(words) => assert_denied(said, words, &format!("{user} {i}")),
            None => drop(said.unwrap_or_else(|refusal| panic!("{user} {i}: {refusal:?}"))),
        }
        policed.cases += 1;
    }
    println!("{} policy cases", policed.cases);
}
