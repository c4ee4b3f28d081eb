//! Secrets: read when needed, never listed or watched; created for generated passwords and keys, and for licence keys, and never written again.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use secrecy::{ExposeSecret, SecretString};

use crate::api::{DedicatedServerOrder, ORDER_ID_ANNOTATION};
use crate::provisioning::order::marked_id;

/// Why a Secret cannot be used. Never carries what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there, or lacks a key.
    #[error("{0}")]
    Missing(String),
    /// A Secret of that name is somebody else's.
    #[error("Secret {0} exists and is not this order's; rename or remove it")]
    Conflict(String),
    /// It was made for a user of another name.
    #[error("Secret {name} holds the log-in of another user than {username}; keep what you need of it, and remove it")]
    OfAnother {
        /// Namespace and name.
        name: String,
        /// The user whose password is asked for.
        username: String,
    },
    /// The API server does not let it be read or made: a quota, a policy, a missing permission. Others than the operator mend that.
    #[error("Secret {name}: the API server refuses it: {message}")]
    Refused {
        /// Namespace and name.
        name: String,
        /// The server's words.
        message: String,
    },
    /// The API server said something else, or nothing.
    #[error("Secret {name}: {source}")]
    Api {
        /// Namespace and name.
        name: String,
        /// Its error.
        source: Box<kube::Error>,
    },
    /// What it said is no Secret. In which way is not told: it might be told with what is in it.
    #[error("Secret {0}: the API server's answer cannot be read")]
    Unreadable(String),
    /// No random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(String),
}

impl SecretError {
    fn of(name: &str, source: kube::Error) -> Self {
        match source {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
                Self::Refused { name: name.to_owned(), message: status.message }
            }
            kube::Error::SerdeError(_) => Self::Unreadable(name.to_owned()),
            source => Self::Api { name: name.to_owned(), source: Box::new(source) },
        }
    }

    /// Whether somebody has to change something before it goes on; otherwise the next attempt may.
    #[must_use]
    pub fn needs_somebody(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Conflict(_) | Self::OfAnother { .. } | Self::Refused { .. } => true,
            Self::Api { .. } | Self::Unreadable(_) | Self::Random(_) => false,
        }
    }
}

/// A Secret's content and its version.
pub struct Read {
    data: BTreeMap<String, ByteString>,
    name: String,
    /// Resource version.
    pub version: String,
}

impl Read {
    /// A key as text.
    pub fn text(&self, key: &str) -> Result<SecretString, SecretError> {
        let bytes = self.data.get(key).ok_or_else(|| SecretError::Missing(format!("Secret {} has no key `{key}`", self.name)))?;
        let text =
            std::str::from_utf8(&bytes.0).map_err(|_| SecretError::Missing(format!("key `{key}` of Secret {} is not UTF-8", self.name)))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(SecretError::Missing(format!("key `{key}` of Secret {} is empty", self.name)));
        }
        Ok(SecretString::from(text))
    }
}

/// Reads a Secret.
pub async fn read(client: &Client, namespace: &str, name: &str) -> Result<Read, SecretError> {
    let full = format!("{namespace}/{name}");
    match Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await {
        Ok(Some(secret)) => {
            let version = secret.metadata.resource_version.unwrap_or_default();
            Ok(Read { data: secret.data.unwrap_or_default(), name: full, version })
        }
        Ok(None) => Err(SecretError::Missing(format!("Secret {full} does not exist"))),
        Err(source) => Err(SecretError::of(&full, source)),
    }
}

/// What the name of the Secret with the log-in of the client's panel user ends in.
pub const PANEL: &str = "panel";

/// A generated password, or a key, in a Secret of the order's own: read when it is there, created when not. That of another panel user is
/// not this one's: two would have one password, and whoever reads the Secret would log in as the wrong one.
pub async fn generated(client: &Client, order: &DedicatedServerOrder, suffix: &str, username: &str) -> Result<SecretString, SecretError> {
    let key = order.key();
    let name = format!("{}-{suffix}", key.name);
    let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    let full = format!("{}/{name}", key.namespace);
    let failed = |source| SecretError::of(&full, source);
    // The client of an order may become another one until it has a server; the users of other Secrets are always the same.
    let user = (suffix == PANEL).then_some(username);
    if let Some(secret) = api.get_opt(&name).await.map_err(failed)? {
        return of_order(secret, order, &full, user);
    }
    let data = BTreeMap::from([("username".to_owned(), username.to_owned()), ("password".to_owned(), password()?)]);
    let secret = Secret { metadata: owned(order, &name), string_data: Some(data), ..Secret::default() };
    match api.create(&PostParams::default(), &secret).await {
        Ok(stored) => of_order(stored, order, &full, user),
        // Lost a race against ourselves, or the answer of an earlier try.
        Err(kube::Error::Api(status)) if status.code == 409 => of_order(api.get(&name).await.map_err(failed)?, order, &full, user),
        Err(error) => Err(failed(error)),
    }
}

/// Whether [`generated`] would find the Secret of this panel user, or none: nothing is made.
pub async fn panel_user_may_be_generated(client: &Client, order: &DedicatedServerOrder, username: &str) -> Result<(), SecretError> {
    let key = order.key();
    let name = format!("{}-{PANEL}", key.name);
    let full = format!("{}/{name}", key.namespace);
    let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    match api.get_opt(&name).await.map_err(|source| SecretError::of(&full, source))? {
        Some(secret) => of_order(secret, order, &full, Some(username)).map(drop),
        None => Ok(()),
    }
}

/// Metadata of a Secret that goes with its order.
fn owned(order: &DedicatedServerOrder, name: &str) -> ObjectMeta {
    let key = order.key();
    let owner = OwnerReference {
        api_version: DedicatedServerOrder::api_version(&()).into_owned(),
        kind: DedicatedServerOrder::kind(&()).into_owned(),
        name: key.name,
        uid: order.metadata.uid.clone().unwrap_or_default(),
        // Who waits for an order to be gone (foreground) finds nothing of it: another one of its name meets no old Secret.
        block_owner_deletion: Some(true),
        ..OwnerReference::default()
    };
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(key.namespace),
        annotations: Some(BTreeMap::from([(ORDER_ID_ANNOTATION.to_owned(), id_of(order).to_owned())])),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn id_of(order: &DedicatedServerOrder) -> &str {
    marked_id(order).unwrap_or_default()
}

/// It goes with the order; or it was made for it, and has come back from a backup, which leaves owners out: uids are others then. One
/// that names an owner of another uid is collected by the cluster in a moment.
fn is_own(secret: &Secret, order: &DedicatedServerOrder) -> bool {
    let (uid, id) = (order.metadata.uid.as_deref().unwrap_or_default(), id_of(order));
    let mut owners = secret.metadata.owner_references.iter().flatten().peekable();
    if owners.peek().is_some() {
        return owners.any(|o| o.uid == uid);
    }
    !id.is_empty() && secret.metadata.annotations.iter().flatten().any(|(name, value)| name == ORDER_ID_ANNOTATION && value == id)
}

/// Secrets with keys that one look for an unused name passes by: as many times may licences come, go or change.
const PASSED_BY: u32 = 256;

/// A Secret of the order's own that holds exactly this; its name comes back, none where there is nothing to hold. What was made
/// before is never written: other values come into another Secret, `<order>-<suffix>`, then `<order>-<suffix>-2` and so on, from
/// the one named in `current` on.
pub async fn store(
    client: &Client,
    order: &DedicatedServerOrder,
    suffix: &str,
    values: &BTreeMap<String, SecretString>,
    current: Option<&str>,
) -> Result<Option<String>, SecretError> {
    if values.is_empty() {
        return Ok(None);
    }
    let key = order.key();
    let base = format!("{}-{suffix}", key.name);
    let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    let data: BTreeMap<String, ByteString> =
        values.iter().map(|(name, value)| (name.clone(), ByteString(value.expose_secret().as_bytes().to_vec()))).collect();
    let first = number(&base, current);
    for count in first..first.saturating_add(PASSED_BY) {
        let name = numbered(&base, count);
        let full = format!("{}/{name}", key.namespace);
        let failed = |source| SecretError::of(&full, source);
        let Some(found) = api.get_opt(&name).await.map_err(failed)? else {
            let new = Secret { metadata: owned(order, &name), data: Some(data.clone()), immutable: Some(true), ..Secret::default() };
            return api.create(&PostParams::default(), &new).await.map(|_| Some(name)).map_err(failed);
        };
        if !is_own(&found, order) {
            return Err(SecretError::Conflict(full));
        }
        if found.data.unwrap_or_default() == data {
            return Ok(Some(name));
        }
    }
    Err(SecretError::Conflict(format!("{}/{}", key.namespace, numbered(&base, first))))
}

/// The name of a Secret: the first has the plain one.
fn numbered(base: &str, count: u32) -> String {
    if count <= 1 { base.to_owned() } else { format!("{base}-{count}") }
}

/// Which one a name is of; the first where it is none of them.
fn number(base: &str, name: Option<&str>) -> u32 {
    let rest = name.and_then(|name| name.strip_prefix(base)?.strip_prefix('-'));
    rest.and_then(|digits| digits.parse().ok()).filter(|count| *count > 1).unwrap_or(1)
}

fn of_order(secret: Secret, order: &DedicatedServerOrder, full: &str, user: Option<&str>) -> Result<SecretString, SecretError> {
    if !is_own(&secret, order) {
        return Err(SecretError::Conflict(full.to_owned()));
    }
    let read = Read { data: secret.data.unwrap_or_default(), name: full.to_owned(), version: String::new() };
    let another = |wanted: &&str| read.text("username").is_ok_and(|known| known.expose_secret() != *wanted);
    if let Some(wanted) = user.filter(another) {
        return Err(SecretError::OfAnother { name: full.to_owned(), username: wanted.to_owned() });
    }
    read.text("password")
}

/// 24 characters of 62, drawn evenly: about 142 bits. No signs that a panel's form or a kernel's command line could stumble over.
fn password() -> Result<String, SecretError> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(24);
    let mut bytes = [0u8; 64];
    while text.len() < 24 {
        getrandom::fill(&mut bytes).map_err(|e| SecretError::Random(e.to_string()))?;
        // Bytes beyond the largest multiple of 62 would favour the first letters.
        text.extend(bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])));
    }
    text.truncate(24);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    #[test]
    fn a_secret_that_is_refused_needs_somebody_and_a_server_that_is_down_does_not() {
        let of = |code: u16, message: &str| {
            let status = kube::core::Status { code, message: message.into(), ..kube::core::Status::default() };
            SecretError::of("shop/web-root", kube::Error::Api(status.boxed()))
        };
        let quota = of(403, "secrets \"web-root\" is forbidden: exceeded quota: secrets");
        assert!(quota.needs_somebody());
        assert_eq!(
            quota.to_string(),
            "Secret shop/web-root: the API server refuses it: secrets \"web-root\" is forbidden: exceeded quota: secrets"
        );
        assert!(of(422, "denied request").needs_somebody());
        assert!(!of(429, "too many requests").needs_somebody() && !of(500, "etcd").needs_somebody());
    }

    #[test]
    fn passwords_are_long_plain_and_never_the_same() {
        let (a, b) = (password().unwrap(), password().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 24 && a.chars().all(|c| c.is_ascii_alphanumeric()), "{}", a.len());
    }

    #[test]
    fn a_secret_is_the_order_s_by_its_owner_or_restored_without_one_by_the_order_s_id() {
        let order = samples::order(&serde_json::json!({"metadata": {"uid": "u-2", "annotations": {ORDER_ID_ANNOTATION: "u-1"}}}));
        let made = owned(&order, "web-root");
        assert!(is_own(&Secret { metadata: made.clone(), ..Secret::default() }, &order));
        let with = |owner: Option<&str>, id: Option<&str>| {
            let mut metadata = made.clone();
            for reference in metadata.owner_references.iter_mut().flatten() {
                reference.uid = owner.unwrap_or_default().into();
            }
            if owner.is_none() {
                metadata.owner_references = None;
            }
            metadata.annotations = id.map(|id| BTreeMap::from([(ORDER_ID_ANNOTATION.to_owned(), id.to_owned())]));
            is_own(&Secret { metadata, ..Secret::default() }, &order)
        };
        for (owner, id, own) in [
            (Some("u-2"), None, true),
            (None, Some("u-1"), true),
            (None, Some("u-2"), false),
            (None, None, false),
            (Some("u-1"), Some("u-1"), false),
        ] {
            assert_eq!(with(owner, id), own, "{owner:?} {id:?}");
        }
    }

    #[test]
    fn a_password_is_of_one_user() {
        let order = samples::order(&serde_json::json!({"metadata": {"uid": "u-1", "annotations": {ORDER_ID_ANNOTATION: "u-1"}}}));
        let of = |username: Option<&str>| {
            let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
            let mut data = BTreeMap::from([("password".to_owned(), bytes("secret"))]);
            data.extend(username.map(|name| ("username".to_owned(), bytes(name))));
            let secret = Secret { metadata: owned(&order, "web-panel"), data: Some(data), ..Secret::default() };
            of_order(secret, &order, "shop/web-panel", Some("bob"))
        };
        for known in [None, Some("bob")] {
            assert_eq!(of(known).unwrap().expose_secret(), "secret", "{known:?}");
        }
        let error = of(Some("acme")).unwrap_err();
        assert!(error.needs_somebody());
        assert_eq!(
            error.to_string(),
            "Secret shop/web-panel holds the log-in of another user than bob; keep what you need of it, and remove it"
        );
    }

    #[test]
    fn names_of_secrets_are_counted_from_the_one_that_is_known() {
        for (known, expected) in [
            (None, 1),
            (Some("web-licenses"), 1),
            (Some("web-licenses-2"), 2),
            (Some("web-licenses-17"), 17),
            (Some("web-licenses-0"), 1),
            (Some("web-licenses-x"), 1),
            (Some("other"), 1),
        ] {
            assert_eq!(number("web-licenses", known), expected, "{known:?}");
        }
        assert_eq!((numbered("web-licenses", 1), numbered("web-licenses", 2)), ("web-licenses".into(), "web-licenses-2".into()));
    }
}
