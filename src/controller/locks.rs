//! Locks: one Lease per panel and server, in the operator's own namespace; creating it is the compare-and-swap that panels lack.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use sha2::{Digest, Sha256};

/// Label: which panel a lock belongs to.
const PANEL_LABEL: &str = "dci-operator.dev/panel";
/// Annotation: the server's id at that panel.
const SERVER_ANNOTATION: &str = "dci-operator.dev/server";
/// Annotation: namespace and name of the order that holds it.
const ORDER_ANNOTATION: &str = "dci-operator.dev/order";

/// How often a lock is asked for that comes, goes or changes meanwhile.
const TRIES: usize = 3;

/// What became of an attempt to lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locked {
    /// It is ours.
    Ours,
    /// Somebody else's order holds it.
    Theirs(String),
    /// It came, went or changed at each try: somebody else is about to take it, or to let it go.
    Contended,
}

/// A lock as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Name of the Lease.
    pub name: String,
    /// Uid of the Lease, so that never a younger one is removed.
    pub uid: Option<String>,
    /// Resource version of the Lease, so that none is removed that its holder has taken again since; `None` where any will do.
    pub version: Option<String>,
    /// Server.
    pub server: String,
    /// Order id of the holder.
    pub holder: String,
    /// The holder, as namespace/name.
    pub order: String,
}

/// The locks in one namespace.
#[derive(Clone)]
pub struct Locks {
    api: Api<Lease>,
}

pub(super) fn hex(bytes: &[u8], length: usize) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).take(length).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

fn digest(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

impl Locks {
    /// The locks in this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }

    /// The name of a server's lock: the same for every handler of one panel.
    #[must_use]
    pub fn name(panel: &str, server: &str) -> String {
        // The length in front keeps two pairs from reading the same.
        format!("dci-{}", hex(&digest(&format!("{}:{panel}/{server}", panel.len())), 40))
    }

    /// Takes the lock of a server for an order, or tells who has it. One that the order has already is written again: whoever found it idle
    /// before, and is about to remove it, then removes it no more.
    pub async fn acquire(&self, panel: &str, server: &str, order_id: &str, order: &str) -> Result<Locked, kube::Error> {
        let name = Self::name(panel, server);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(PANEL_LABEL.to_owned(), hex(&digest(panel), 40))])),
                annotations: Some(BTreeMap::from([
                    (SERVER_ANNOTATION.to_owned(), server.to_owned()),
                    (ORDER_ANNOTATION.to_owned(), order.to_owned()),
                ])),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec { holder_identity: Some(order_id.to_owned()), ..LeaseSpec::default() }),
        };
        for _ in 0..TRIES {
            match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => return Ok(Locked::Ours),
                Err(error) if answered(&error, &[409]) => {}
                Err(error) => return Err(error),
            }
            let Some(mut held) = self.api.get_opt(&name).await? else { continue };
            let spec = held.spec.get_or_insert_default();
            let holder = spec.holder_identity.clone().unwrap_or_default();
            if holder != order_id {
                return Ok(Locked::Theirs(holder));
            }
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            match self.api.replace(&name, &PostParams::default(), &held).await {
                Ok(_) => return Ok(Locked::Ours),
                // It was removed, or written, in this very moment.
                Err(error) if answered(&error, &[404, 409]) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Locked::Contended)
    }

    /// All locks of a panel.
    pub async fn of_panel(&self, panel: &str) -> Result<Vec<Lock>, kube::Error> {
        let selector = format!("{PANEL_LABEL}={}", hex(&digest(panel), 40));
        let list = self.api.list(&ListParams::default().labels(&selector)).await?;
        Ok(list
            .items
            .into_iter()
            .filter_map(|lease| {
                let server = lease.annotations().get(SERVER_ANNOTATION)?.clone();
                let holder = lease.spec.as_ref()?.holder_identity.clone()?;
                let order = lease.annotations().get(ORDER_ANNOTATION).cloned().unwrap_or_default();
                Some(Lock { name: lease.name_any(), uid: lease.uid(), version: lease.resource_version(), server, holder, order })
            })
            .collect())
    }

    /// Lets a lock go, if it is still the one that was read, and as it was read.
    pub async fn remove(&self, lock: &Lock) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: lock.uid.clone(), resource_version: lock.version.clone() }),
            ..DeleteParams::default()
        };
        match self.api.delete(&lock.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if answered(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets the lock of a server go that an order holds.
    pub async fn release(&self, panel: &str, server: &str, order_id: &str) -> Result<(), kube::Error> {
        let name = Self::name(panel, server);
        let Some(lease) = self.api.get_opt(&name).await? else { return Ok(()) };
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.clone()).unwrap_or_default();
        if holder != order_id {
            return Ok(());
        }
        let (uid, server, order) = (lease.uid(), server.to_owned(), String::new());
        self.remove(&Lock { name, uid, version: None, server, holder, order }).await
    }
}

/// Whether the API server answered with one of these codes.
fn answered(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    /// The Lease that an API server has, and its version; none while it is gone.
    type Kept = Arc<Mutex<Option<(Value, u32)>>>;

    fn locks(kept: &Kept) -> Locks {
        let kept = kept.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let kept = kept.clone();
            async move {
                let (method, one) = (request.method().to_string(), !request.uri().path().ends_with("/leases"));
                let bytes = request.into_body().collect_bytes().await.unwrap();
                let asked: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let mut kept = kept.lock().unwrap();
                let shown = |(lease, version): &(Value, u32)| {
                    let mut lease = lease.clone();
                    lease["metadata"]["resourceVersion"] = version.to_string().into();
                    lease
                };
                let failed = |code: u16| (code, json!({"kind": "Status", "status": "Failure", "message": "no", "code": code}));
                let version = kept.as_ref().map(|(_, version)| version.to_string());
                let (code, answer) = match (method.as_str(), kept.as_ref().map(shown)) {
                    ("POST", None) => {
                        *kept = Some((asked.clone(), 1));
                        (201, asked)
                    }
                    ("GET", lease) if !one => {
                        let items: Vec<Value> = lease.into_iter().collect();
                        (200, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": {}, "items": items}))
                    }
                    (_, None) => failed(404),
                    ("GET", Some(lease)) => (200, lease),
                    ("PUT", Some(_)) if asked["metadata"]["resourceVersion"].as_str() == version.as_deref() => {
                        let next = kept.as_ref().map_or(1, |(_, version)| version + 1);
                        *kept = Some((asked.clone(), next));
                        (200, asked)
                    }
                    ("DELETE", Some(_)) if asked["preconditions"]["resourceVersion"].as_str() == version.as_deref() => {
                        *kept = None;
                        (200, json!({"kind": "Status", "status": "Success"}))
                    }
                    _ => failed(409),
                };
                Ok::<_, Infallible>(http::Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
            }
        });
        Locks::new(Client::new(service, "system"), "system")
    }

    /// A sweep has found it idle, and looked at the order, which asked for nothing then.
    #[tokio::test]
    async fn a_lock_that_its_holder_takes_again_is_not_removed_by_who_found_it_idle_before() {
        let kept = Kept::default();
        let locks = locks(&kept);
        assert_eq!(locks.acquire("p", "21", "o-1", "shop/web").await.unwrap(), Locked::Ours);
        let idle = locks.of_panel("p").await.unwrap().remove(0);
        assert_eq!((idle.server.as_str(), idle.holder.as_str(), idle.order.as_str()), ("21", "o-1", "shop/web"));
        assert_eq!(locks.acquire("p", "21", "o-1", "shop/web").await.unwrap(), Locked::Ours);
        locks.remove(&idle).await.unwrap();
        assert_eq!(locks.acquire("p", "21", "o-2", "shop/other").await.unwrap(), Locked::Theirs("o-1".into()), "it is there still");
        let idle = locks.of_panel("p").await.unwrap().remove(0);
        locks.remove(&idle).await.unwrap();
        assert_eq!(locks.acquire("p", "21", "o-2", "shop/other").await.unwrap(), Locked::Ours, "it was as it was read");
    }

    /// It is there whenever it is to be made, and gone whenever it is read.
    #[tokio::test]
    async fn a_lock_that_comes_and_goes_meanwhile_is_nobodys_in_particular() {
        let service = tower::service_fn(|request: http::Request<Body>| async move {
            let (code, reason) = if request.method() == http::Method::POST { (409u16, "AlreadyExists") } else { (404, "NotFound") };
            let failed = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": "no", "code": code});
            Ok::<_, Infallible>(http::Response::builder().status(code).body(Body::from(failed.to_string().into_bytes())).unwrap())
        });
        let locks = Locks::new(Client::new(service, "system"), "system");
        assert_eq!(locks.acquire("p", "21", "o-1", "shop/web").await.unwrap(), Locked::Contended);
    }

    #[test]
    fn a_lock_has_one_name_per_panel_and_server() {
        let name = Locks::name("dci.example:1500/dcimgr", "17");
        assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        assert_eq!(name, Locks::name("dci.example:1500/dcimgr", "17"));
        assert_ne!(name, Locks::name("dci.example:1500/dcimgr", "18"));
        assert_ne!(Locks::name("a/b", "c"), Locks::name("a", "b/c"));
    }
}
