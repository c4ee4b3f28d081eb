//! Reading objects as the user may, and closing a task: the only part of `kubectl dci` that talks to anybody.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, ObjectList, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DeserializeGuard;
use kube::{Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::common::ObjectKey;
use crate::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};
use crate::panel::causes;

use super::known::Known;
use super::plan::{Offer, Question, Wanted, wanted_handlers};

/// How many objects one answer carries.
const PAGE: u32 = 500;
/// How long an API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// Why something could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No kubeconfig, or one that leads nowhere.
    #[error("no cluster: {0}; set KUBECONFIG, or give --kubeconfig and --context")]
    Config(String),
    /// The object does not exist.
    #[error("{what} {key} does not exist; name its namespace with -n, and see kubectl get {plural} -A")]
    Missing {
        /// Its kind.
        what: &'static str,
        /// Namespace and name.
        key: ObjectKey,
        /// What kubectl lists.
        plural: &'static str,
    },
    /// The definitions are not there.
    #[error("the cluster does not know {plural}.dci-operator.dev; install the operator's definitions, or choose another --context")]
    NotInstalled {
        /// What kubectl lists.
        plural: &'static str,
    },
    /// The user may not.
    #[error("you may not {verb} {plural} {place}; ask for role {role} there")]
    Forbidden {
        /// What was wanted.
        verb: &'static str,
        /// Of what.
        plural: &'static str,
        /// Where.
        place: String,
        /// Who may.
        role: &'static str,
    },
    /// A rule or a policy refuses the change.
    #[error("{what} {key}: {why}")]
    Refused {
        /// Kind.
        what: &'static str,
        /// Namespace and name.
        key: ObjectKey,
        /// The server's words.
        why: String,
    },
    /// The object is of another version.
    #[error("{what}: {why}; use the kubectl-dci of the operator's version")]
    Unreadable {
        /// Kind, and where known the name.
        what: String,
        /// The field.
        why: String,
    },
    /// The log-in is not accepted.
    #[error("the API server does not accept the credentials of this context; log in again, or choose another --context")]
    LoginRefused,
    /// No answer.
    #[error("the API server does not answer as it should: {0}; check the context and the network")]
    Failed(String),
}

/// A kind as this program speaks of it.
trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned {
    const WHAT: &'static str;
    const PLURAL: &'static str;
    const ROLE: &'static str;
}

impl Kind for DedicatedServerOrder {
    const WHAT: &'static str = "order";
    const PLURAL: &'static str = "dedicatedserverorders";
    const ROLE: &'static str = "dci-view";
}

impl Kind for ProcessingHandler {
    const WHAT: &'static str = "handler";
    const PLURAL: &'static str = "processinghandlers";
    const ROLE: &'static str = "dci-admin";
}

impl Kind for IPManager {
    const WHAT: &'static str = "IPManager";
    const PLURAL: &'static str = "ipmanagers";
    const ROLE: &'static str = "dci-admin";
}

impl Kind for ManualTask {
    const WHAT: &'static str = "task";
    const PLURAL: &'static str = "manualtasks";
    const ROLE: &'static str = "dci-department";
}

/// Which cluster, as the command line says.
#[derive(Clone, Debug, Default)]
pub struct Connect {
    /// A kubeconfig; `KUBECONFIG` or the usual place when absent.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it; the current one when absent.
    pub context: Option<String>,
    /// A namespace; the context's when absent.
    pub namespace: Option<String>,
}

/// A cluster, as the user sees it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The namespace of the command line, or of the context.
    pub namespace: String,
}

impl Cluster {
    /// Finds the cluster. Nothing is asked of it yet.
    pub async fn connect(options: &Connect) -> Result<Self, ClientError> {
        let failed = |error: &(dyn std::error::Error + 'static)| ClientError::Config(whole(error));
        let chosen = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &options.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
                Config::from_custom_kubeconfig(file, &chosen).await.map_err(|e| failed(&e))?
            }
            None if options.context.is_some() => Config::from_kubeconfig(&chosen).await.map_err(|e| failed(&e))?,
            // Inside a cluster there is no kubeconfig.
            None => Config::infer().await.map_err(|e| failed(&e))?,
        };
        // Somebody waits at a terminal, and a repeated patch would meet its own first try.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client: Client::try_from(config).map_err(|e| failed(&e))?, namespace })
    }

    /// The key of a name in the namespace at hand.
    #[must_use]
    pub fn key(&self, name: &str) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: name.to_owned() }
    }

    /// An order.
    pub async fn order(&self, key: &ObjectKey) -> Result<DedicatedServerOrder, ClientError> {
        self.get(key).await
    }

    /// A handler.
    pub async fn handler(&self, key: &ObjectKey) -> Result<ProcessingHandler, ClientError> {
        self.get(key).await
    }

    /// A task.
    pub async fn task(&self, key: &ObjectKey) -> Result<ManualTask, ClientError> {
        self.get(key).await
    }

    /// The tasks of a namespace or of all, and the names of those that this version cannot read.
    pub async fn tasks(&self, everywhere: bool) -> Result<(Vec<ManualTask>, Vec<String>), ClientError> {
        let (tasks, unread) = self.list(if everywhere { None } else { Some(&self.namespace) }).await?;
        Ok((tasks, unread.into_iter().map(|metadata| metadata.name.unwrap_or_default()).collect()))
    }

    /// The orders of all namespaces, if the user may list them, and those that this version cannot read.
    pub async fn all_orders(&self) -> Result<(Known<Vec<DedicatedServerOrder>>, Vec<ObjectKey>), ClientError> {
        let (orders, unread) = parted(known(self.list(None).await)?);
        Ok((orders, unread.iter().map(ObjectKey::of).collect()))
    }

    /// The order of a task, if the user may read it.
    pub async fn order_of(&self, task: &ManualTask) -> Result<Known<DedicatedServerOrder>, ClientError> {
        match self.get(&task.spec.order_ref.key()).await {
            // It is only looked at to say what follows: the answer does not depend on it.
            Err(error @ ClientError::Unreadable { .. }) => Ok(Known::Hidden(error.to_string())),
            other => known(other),
        }
    }

    /// Changes a task. Whether it was: `false` means that somebody has written it since it was read.
    pub async fn change_task(&self, key: &ObjectKey, patch: &Value) -> Result<bool, ClientError> {
        let api: Api<ManualTask> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams { field_manager: Some("kubectl-dci".into()), ..PatchParams::default() };
        match api.patch(&key.name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            // A policy says whose task it is; without its words people would look at their roles.
            Err(kube::Error::Api(status)) if matches!(status.code, 400..=403 | 422) && !is_rbac(&status.message) => {
                Err(ClientError::Refused { what: ManualTask::WHAT, key: key.clone(), why: line(&status.message) })
            }
            Err(error) => Err(told::<ManualTask>(error, "patch", Some(key), Some(&key.namespace))),
        }
    }

    /// Everything that a plan is made of.
    pub async fn question(&self, order: DedicatedServerOrder, unknown_fields: Vec<String>) -> Result<Question, ClientError> {
        let key = order.key();
        let existing = known(self.get::<DedicatedServerOrder>(&key).await)?;
        let mut unread_handlers = Vec::new();
        let handlers = match wanted_handlers(&order, existing.get()) {
            Wanted::Nobody => Known::Is(Vec::new()),
            Wanted::Named(handler) => match known(self.get::<ProcessingHandler>(&handler).await)? {
                Known::Is(handler) => Known::Is(vec![self.offer(handler).await?]),
                Known::Absent => Known::Absent,
                Known::Hidden(why) => Known::Hidden(why),
            },
            Wanted::Selected(selector) => match known(self.list::<ProcessingHandler>(Some(&selector.namespace)).await)? {
                Known::Is((handlers, unread)) => {
                    let selected = |m: &ObjectMeta| selector.selects(&ObjectKey::of(m), &m.labels.clone().unwrap_or_default());
                    unread_handlers.extend(unread.iter().filter(|m| selected(m)).map(ObjectKey::of));
                    let mut offers = Vec::new();
                    for handler in handlers.into_iter().filter(|h| selected(&h.metadata)) {
                        offers.push(self.offer(handler).await?);
                    }
                    Known::Is(offers)
                }
                Known::Absent => Known::Absent,
                Known::Hidden(why) => Known::Hidden(why),
            },
        };
        let (neighbours, unread) = parted(known(self.list(Some(&key.namespace)).await)?);
        let unread_orders = unread.iter().map(ObjectKey::of).collect();
        let labels = self.labels(&key.namespace).await?;
        Ok(Question { order, unknown_fields, existing, handlers, unread_handlers, labels, neighbours, unread_orders, beside: 0 })
    }

    async fn offer(&self, handler: ProcessingHandler) -> Result<Offer, ClientError> {
        let namespace = handler.key().namespace;
        let pool =
            handler.spec.ip_management.as_ref().map(|m| ObjectKey { namespace: namespace.clone(), name: m.ip_manager_ref.name.clone() });
        let server = handler.spec.license_server_ref.as_ref();
        let server = server.map(|r| ObjectKey { namespace: r.namespace.clone().unwrap_or(namespace), name: r.name.clone() });
        let pool = match pool {
            Some(key) => known(self.get(&key).await)?,
            None => Known::Absent,
        };
        let license_server = match server {
            Some(key) => known(self.get(&key).await)?,
            None => Known::Absent,
        };
        Ok(Offer { handler, pool, license_server })
    }

    async fn labels(&self, namespace: &str) -> Result<Known<BTreeMap<String, String>>, ClientError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match api.get_metadata(namespace).await {
            Ok(found) => Ok(Known::Is(found.metadata.labels.unwrap_or_default())),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Known::Absent),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Known::Hidden(format!("you may not read namespace {namespace}"))),
            Err(error) => Err(failed(error)),
        }
    }

    async fn get<K: Kind>(&self, key: &ObjectKey) -> Result<K, ClientError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        api.get(&key.name).await.map_err(|error| told::<K>(error, "get", Some(key), Some(&key.namespace)))
    }

    /// All pages; and whose objects this version cannot read, which must not hide the rest.
    async fn list<K: Kind>(&self, namespace: Option<&str>) -> Result<(Vec<K>, Vec<ObjectMeta>), ClientError> {
        let api: Api<DeserializeGuard<K>> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list: ObjectList<DeserializeGuard<K>> = api.list(&page).await.map_err(|error| told::<K>(error, "list", None, namespace))?;
            for object in list.items {
                match object.0 {
                    Ok(object) => objects.push(object),
                    Err(invalid) => unreadable.push(invalid.metadata),
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok((objects, unreadable)),
            }
        }
    }
}

/// The objects of a list, where it may be read, and those of them that this version cannot read.
fn parted<K>(listed: Known<(Vec<K>, Vec<ObjectMeta>)>) -> (Known<Vec<K>>, Vec<ObjectMeta>) {
    match listed {
        Known::Is((objects, unread)) => (Known::Is(objects), unread),
        Known::Absent => (Known::Absent, Vec::new()),
        Known::Hidden(why) => (Known::Hidden(why), Vec::new()),
    }
}

/// What may not be read is no failure: the rest is told without it.
fn known<T>(result: Result<T, ClientError>) -> Result<Known<T>, ClientError> {
    match result {
        Ok(object) => Ok(Known::Is(object)),
        Err(ClientError::Missing { .. }) => Ok(Known::Absent),
        Err(ClientError::Forbidden { verb, plural, place, .. }) => Ok(Known::Hidden(format!("you may not {verb} {plural} {place}"))),
        Err(error) => Err(error),
    }
}

fn told<K: Kind>(error: kube::Error, verb: &'static str, key: Option<&ObjectKey>, namespace: Option<&str>) -> ClientError {
    match (error, key) {
        (kube::Error::Api(status), _) if status.code == 403 => {
            let place = namespace.map_or_else(|| "in all namespaces".to_owned(), |namespace| format!("in namespace {namespace}"));
            ClientError::Forbidden { verb, plural: K::PLURAL, place, role: K::ROLE }
        }
        (kube::Error::Api(status), key) if status.code == 404 => {
            let named = status.details.as_ref().is_some_and(|d| !d.name.is_empty());
            match key.filter(|_| named) {
                Some(key) => ClientError::Missing { what: K::WHAT, key: key.clone(), plural: K::PLURAL },
                None => ClientError::NotInstalled { plural: K::PLURAL },
            }
        }
        (kube::Error::SerdeError(error), key) => {
            let what = key.map_or_else(|| K::PLURAL.to_owned(), |key| format!("{} {key}", K::WHAT));
            ClientError::Unreadable { what, why: line(&error.to_string()) }
        }
        (error, _) => failed(error),
    }
}

fn failed(error: kube::Error) -> ClientError {
    match error {
        kube::Error::Api(status) if status.code == 401 => ClientError::LoginRefused,
        kube::Error::Api(status) => ClientError::Failed(line(&status.message)),
        error => ClientError::Failed(whole(&error)),
    }
}

/// Whether a refusal is that of the permissions, and not a policy's.
fn is_rbac(message: &str) -> bool {
    message.contains("cannot patch resource")
}

/// An error with its causes, on one line.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    line(&causes::whole(error))
}

fn line(text: &str) -> String {
    super::text::clean(text.trim())
}
