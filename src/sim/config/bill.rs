//! A licence server in the configuration.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{ProtocolConfig, UserConfig};
use crate::sim::span::Span;

/// One licence server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BillConfig {
    #[serde(default = "billmgr")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) users: Vec<UserConfig>,
    #[serde(default)]
    pub(crate) protocol: ProtocolConfig,
    #[serde(default)]
    pub(crate) behaviour: BillBehaviour,
    /// Tariffs that licences are ordered by.
    #[serde(default)]
    pub(crate) pricelists: Vec<PricelistConfig>,
    /// Licences that are there from the start.
    #[serde(default)]
    pub(crate) licenses: Vec<LicenseConfig>,
}

fn billmgr() -> String {
    "billmgr".to_owned()
}

/// Where the facts leave several possibilities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BillBehaviour {
    /// How long after the order the key is there.
    pub(crate) key_delay: Span,
    /// How long after an order, or another change, list and form show it; the answer comes at once.
    pub(crate) show_delay: Span,
    /// How long a month of a licence is.
    pub(crate) month: Span,
    /// Remote ids longer than this are cut without a word; absent: not cut.
    pub(crate) remote_id_limit: Option<usize>,
    /// Whether the list shows remote ids.
    pub(crate) list_remote_id: bool,
    /// Whether the form does.
    pub(crate) form_remote_id: bool,
    /// A second running licence of a tariff on one address is refused.
    pub(crate) one_per_address: bool,
}

impl Default for BillBehaviour {
    fn default() -> Self {
        Self {
            key_delay: Span(std::time::Duration::ZERO),
            show_delay: Span(std::time::Duration::ZERO),
            month: Span(std::time::Duration::from_hours(30 * 24)),
            remote_id_limit: None,
            list_remote_id: true,
            form_remote_id: true,
            one_per_address: false,
        }
    }
}

/// A tariff.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PricelistConfig {
    pub(crate) id: u64,
    pub(crate) name: String,
}

/// A licence that is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenseConfig {
    pub(crate) owner: String,
    pub(crate) pricelist: u64,
    #[serde(default)]
    pub(crate) ip: Option<IpAddr>,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) remote_id: String,
}
