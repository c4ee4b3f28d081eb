//! How a department is told of its tasks.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::common::{NOT_BLANK_PATTERN, SecretKeyRef};
use super::messages as msg;

/// A signed JSON POST when a task is raised, escalated or closed. Acted upon at once, for what happens from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(r"self.url.matches('^https://[^\\s/@?#\\\\]+(/[^\\s@?#\\\\]*)?$') || self.url.matches('^http://(127[.][0-9]+[.][0-9]+[.][0-9]+|localhost|\\[::1\\])(:[0-9]+)?(/[^\\s@?#\\\\]*)?$')")
        .message(msg::WEBHOOK_URL)
)]
pub struct Webhook {
    /// Where to, e.g. `https://tickets.example.net/dci`. No user, query or fragment; `http` on a loopback address only.
    #[schemars(length(min = 8, max = 512))]
    pub url: String,
    /// Key of a Secret in the handler's namespace that the message is signed with (HMAC-SHA256).
    pub secret_ref: SecretKeyRef,
    /// Certificates of the authorities to trust, PEM; system roots when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536), regex(pattern = NOT_BLANK_PATTERN))]
    pub ca_bundle: Option<String>,
}
