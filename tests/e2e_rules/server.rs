//! A namespace on the server under test, and what the server says to objects.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::plane::{Plane, plane};
use crate::support::{Kind, definition};

/// The answer to a request: the object, or what it is refused for.
pub type Answer = Result<Value, Refusal>;

/// A refusal, as the server's status tells it.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub message: String,
    /// One for each thing that is wrong: the field, and what is said of it.
    pub causes: Vec<(String, String)>,
}

/// One client, and a namespace of the test's own.
pub struct Server {
    pub plane: &'static Plane,
    pub client: Client,
    pub namespace: String,
}

impl Server {
    /// `None` where the server does not know rules; the test is counted as skipped.
    pub async fn start(test: &str) -> Option<Self> {
        if !plane().serves_current(test) {
            return None;
        }
        let client = client(&plane().kubeconfig, None).await;
        let namespace = format!("rules-{}-{}", std::process::id(), test.replace('_', "-").chars().take(24).collect::<String>());
        let namespace = namespace.trim_end_matches('-').to_owned();
        plane().kubectl(&["create", "namespace", &namespace], None);
        Some(Self { plane: plane(), client, namespace })
    }

    /// The objects of a kind in the test's namespace.
    pub fn all(&self, kind: Kind) -> Api<DynamicObject> {
        self.all_as(&self.client, kind)
    }

    /// The same, as another user.
    pub fn all_as(&self, client: &Client, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), &self.namespace, &resource(kind, "dci-operator.dev"))
    }

    pub async fn create(&self, kind: Kind, object: &Value) -> Answer {
        answer(self.all(kind).create(&PostParams::default(), &self.here(object)).await)
    }

    /// Asks without storing anything.
    pub async fn would_create(&self, kind: Kind, object: &Value) -> Answer {
        answer(self.all(kind).create(&PostParams { dry_run: true, ..PostParams::default() }, &self.here(object)).await)
    }

    /// Puts `new` in the place of an object, whatever its version.
    pub async fn replace(&self, kind: Kind, old: &Value, new: &Value) -> Answer {
        let mut new = self.here(new);
        new.metadata.resource_version = old["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        answer(self.all(kind).replace(name(old), &PostParams::default(), &new).await)
    }

    pub async fn set_status(&self, kind: Kind, name: &str, status: &Value) -> Answer {
        let patch = Patch::Merge(json!({"status": status}));
        answer(self.all(kind).patch_status(name, &PatchParams::default(), &patch).await)
    }

    pub async fn delete(&self, kind: Kind, name: &str) {
        let _ = self.all(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// An object of the tables, in this namespace.
    fn here(&self, object: &Value) -> DynamicObject {
        let mut object = object.clone();
        object["metadata"]["namespace"] = self.namespace.as_str().into();
        serde_json::from_value(object).unwrap()
    }

    pub fn end(&self) {
        self.plane.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], None);
    }
}

/// The name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// A kind as it is served in a group.
pub fn resource(kind: Kind, group: &str) -> ApiResource {
    let definition = definition(kind, dci_operator::api::crds::Target::Current);
    let names = &definition["spec"]["names"];
    let kind = GroupVersionKind::gvk(group, "v1alpha1", names["kind"].as_str().unwrap());
    ApiResource::from_gvk_with_plural(&kind, names["plural"].as_str().unwrap())
}

/// A client of the administrator's, who may take somebody else's name.
pub async fn client(kubeconfig: &std::path::Path, user: Option<&str>) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = user.map(str::to_owned);
    Client::try_from(config).unwrap()
}

pub fn answer(result: Result<DynamicObject, kube::Error>) -> Answer {
    match result {
        Ok(object) => Ok(serde_json::to_value(object).unwrap()),
        Err(kube::Error::Api(status)) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            let causes = causes.map(|cause| (cause.field.clone(), cause.message.clone())).collect();
            Err(Refusal { code: status.code, message: status.message.clone(), causes })
        }
        Err(error) => panic!("{error}"),
    }
}
