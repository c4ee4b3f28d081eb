//! The file that describes the simulated panels. `src/sim/example.yaml` shows every key.

mod bill;
mod dci;
mod invented;
mod ipm;
mod server;

use std::path::Path;

use serde::Deserialize;

use super::{faults::FaultSpec, span::Span};

pub(crate) use self::{bill::*, dci::*, invented::*, ipm::*, server::*};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It is not what a configuration looks like; the message names the place.
    #[error("{0}")]
    Parse(#[from] serde_yaml::Error),
    /// It reads well and cannot be: a server of an unknown type, a range that is none.
    #[error("{place}: {message}")]
    Invalid {
        /// Where in the file.
        place: String,
        /// What is wrong there.
        message: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), message: message.into() }
    }
}

/// Everything that one simulator serves.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) seed: u64,
    pub(crate) journal: JournalConfig,
    pub(crate) dcimanager5: Vec<DciConfig>,
    pub(crate) ipmanager5: Vec<IpmConfig>,
    pub(crate) billmanager6: Vec<BillConfig>,
    pub(crate) faults: Vec<FaultSpec>,
}

impl Config {
    /// Reads a configuration from YAML. Unknown keys are errors.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Ok(serde_yaml::from_str(text)?)
    }

    /// Whether everything that it describes can be made.
    pub fn check(&self) -> Result<(), ConfigError> {
        super::core::Core::new(self).map(drop)
    }

    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
        Self::from_yaml(&text)
    }
}

/// How much the journal keeps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournalConfig {
    pub(crate) capacity: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { capacity: 50_000 }
    }
}

/// Somebody who can log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserConfig {
    pub(crate) name: String,
    pub(crate) password: String,
    #[serde(default = "level_user")]
    pub(crate) level: u8,
}

fn level_user() -> u8 {
    super::world::users::LEVEL_USER
}

/// How the protocol of one panel behaves: sections 1.2 and 1.3 of the facts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProtocolConfig {
    /// A session ends this long after its last call.
    pub(crate) session_idle: Span,
    /// Whether a session works only from the address that opened it.
    pub(crate) session_bound_to_ip: bool,
    /// Whether a session keeps the level that its user had at the log-in; it is not known of real panels.
    pub(crate) session_keeps_level: bool,
    /// How the only row of a list is written in JSON.
    pub(crate) single_elem: SingleElem,
    /// How many rows a list shows when the caller does not ask for paging; absent: all.
    pub(crate) page_size: Option<usize>,
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self {
            session_idle: Span(std::time::Duration::from_hours(1)),
            session_bound_to_ip: true,
            session_keeps_level: false,
            single_elem: SingleElem::Array,
            page_size: None,
        }
    }
}

/// How the only row of a list is written in JSON (section 1.3: both are to be accepted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SingleElem {
    Array,
    Object,
}

/// A group of addresses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupConfig {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) ranges: Vec<String>,
    /// Ranges that are given out only when an address of them is named.
    #[serde(default)]
    pub(crate) hidden_ranges: Vec<String>,
    /// Who may take addresses of this group; absent: everybody.
    #[serde(default)]
    pub(crate) users: Option<Vec<String>>,
}

/// What an exhausted group is refused with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exhausted {
    #[default]
    Limit,
    Missed,
}
