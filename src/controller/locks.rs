//! Locks: one Lease per panel and server, in the operator's own namespace; creating it is the compare-and-swap that panels lack.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use sha2::{Digest, Sha256};

/// Label: which panel a lock belongs to.
const PANEL_LABEL: &str = "dci-operator.dev/panel";
/// Annotation: the server's id at that panel.
const SERVER_ANNOTATION: &str = "dci-operator.dev/server";
/// Annotation: namespace and name of the order that holds it.
const ORDER_ANNOTATION: &str = "dci-operator.dev/order";

/// What became of an attempt to lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locked {
    /// It is ours.
    Ours,
    /// Somebody else's order holds it.
    Theirs(String),
}

/// A lock as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Name of the Lease.
    pub name: String,
    /// Uid of the Lease, so that never a younger one is removed.
    pub uid: Option<String>,
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

    /// Takes the lock of a server for an order, or tells who has it.
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
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(Locked::Ours),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let held = self.api.get_opt(&name).await?;
                let holder = held.and_then(|l| l.spec?.holder_identity).unwrap_or_default();
                Ok(if holder == order_id { Locked::Ours } else { Locked::Theirs(holder) })
            }
            Err(error) => Err(error),
        }
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
                Some(Lock { name: lease.name_any(), uid: lease.uid(), server, holder, order })
            })
            .collect())
    }

    /// Lets a lock go, if it is still the one that was read.
    pub async fn remove(&self, lock: &Lock) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: lock.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api.delete(&lock.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
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
        self.remove(&Lock { name, uid: lease.uid(), server: server.to_owned(), holder, order: String::new() }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_name_per_panel_and_server() {
        let name = Locks::name("dci.example:1500/dcimgr", "17");
        assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        assert_eq!(name, Locks::name("dci.example:1500/dcimgr", "17"));
        assert_ne!(name, Locks::name("dci.example:1500/dcimgr", "18"));
        assert_ne!(Locks::name("a/b", "c"), Locks::name("a", "b/c"));
    }
}
