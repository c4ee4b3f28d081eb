//! Servers in the configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::OperationOutcome;
use crate::sim::span::Span;

/// One server, or `count` of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerConfig {
    /// That many servers; ids, addresses and names count up.
    pub(crate) count: Option<u32>,
    pub(crate) id: Option<u64>,
    /// `{id}` and `{n}` (from 1) are replaced.
    pub(crate) name: Option<String>,
    #[serde(rename = "type")]
    pub(crate) server_type: Option<String>,
    /// Absent: made from the id. Empty: none.
    pub(crate) mac: Option<String>,
    /// The main address. Absent: made from the id. Empty: none.
    pub(crate) ip: Option<String>,
    pub(crate) extra_ips: Vec<String>,
    /// The domain of the main address.
    pub(crate) hostname: Option<String>,
    /// The name of a user.
    pub(crate) owner: Option<String>,
    pub(crate) notes: String,
    pub(crate) flags: Vec<Flag>,
    pub(crate) power: PowerState,
    pub(crate) ipmi: IpmiHealth,
    pub(crate) rack: Option<String>,
    pub(crate) unit: Option<String>,
    /// Fields of the form such as `cpu_0` or `hdd_3`: the name of a part, which gets an id, or the id of one without a name.
    pub(crate) hardware: BTreeMap<String, String>,
    /// Absent: one switch port and one IPMI.
    pub(crate) connections: Option<Vec<ConnectionConfig>>,
    /// What its operations will do, one after the other.
    pub(crate) operations: Vec<Script>,
    pub(crate) installed: Option<String>,
}

/// A flag that a server has from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flag {
    Hwproblem,
    Blocked,
    Disabled,
    OperationFailed,
}

/// Whether the power is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PowerState {
    On,
    #[default]
    Off,
}

/// Whether the IPMI answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IpmiHealth {
    #[default]
    Alive,
    Dead,
}

/// Something a server is connected to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionConfig {
    #[serde(rename = "type")]
    pub(crate) kind: ConnectionKind,
    #[serde(default)]
    pub(crate) ip: String,
    #[serde(default)]
    pub(crate) port: String,
}

/// The kinds of connections (section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum ConnectionKind {
    Switch,
    #[serde(rename = "IPMI")]
    Ipmi,
    #[serde(rename = "PDU")]
    Pdu,
}

impl ConnectionKind {
    /// As it stands in the list.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Switch => "Switch",
            Self::Ipmi => "IPMI",
            Self::Pdu => "PDU",
        }
    }
}

/// What one operation will do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    #[serde(default)]
    pub(crate) outcome: OperationOutcome,
    #[serde(default)]
    pub(crate) duration: Option<Span>,
}
