//! An address manager in the configuration.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{Exhausted, GroupConfig, Omitted, ProtocolConfig, UserConfig};

/// One address manager.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpmConfig {
    #[serde(default = "ipmgr")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) users: Vec<UserConfig>,
    #[serde(default)]
    pub(crate) protocol: ProtocolConfig,
    #[serde(default)]
    pub(crate) behaviour: IpmBehaviour,
    #[serde(default)]
    pub(crate) address_groups: Vec<GroupConfig>,
    /// Addresses that are taken from the start.
    #[serde(default)]
    pub(crate) addresses: Vec<AddressConfig>,
    /// Panels whose servers' addresses are taken here from the start.
    #[serde(default)]
    pub(crate) holds_for: Vec<HoldsFor>,
}

fn ipmgr() -> String {
    "ipmgr".to_owned()
}

/// Where the facts leave several possibilities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IpmBehaviour {
    pub(crate) exhausted: Exhausted,
    pub(crate) ip_edit_omitted: Omitted,
    /// Notes longer than this are cut without a word; absent: not cut.
    pub(crate) note_limit: Option<usize>,
    /// Whether the list shows the number of a group as its machine value (section 1.3), and its name for people.
    pub(crate) group_numbers: bool,
}

impl Default for IpmBehaviour {
    fn default() -> Self {
        Self { exhausted: Exhausted::Limit, ip_edit_omitted: Omitted::Reset, note_limit: None, group_numbers: false }
    }
}

/// An address that is taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressConfig {
    pub(crate) ip: std::net::IpAddr,
    #[serde(default)]
    pub(crate) group: Option<String>,
    pub(crate) holder: String,
    #[serde(default)]
    pub(crate) domain: String,
    #[serde(default)]
    pub(crate) note: String,
}

/// A server panel whose addresses this address manager knows, as taken by `user`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoldsFor {
    pub(crate) panel: String,
    pub(crate) user: String,
}
