//! What an order asks for: a ready configuration, or one of the client's own.

use std::fmt;

use crate::api::order::{Configuration, CustomConfiguration};

/// What an order asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A server type of the panel.
    Ready(String),
    /// Parts that the server has to have at least.
    Custom(CustomConfiguration),
}

impl Wanted {
    /// Reads what the spec says; the schema and its twin keep it to exactly one of the two.
    #[must_use]
    pub fn new(configuration: &Configuration) -> Self {
        match (&configuration.server_type, &configuration.custom) {
            (Some(server_type), _) => Self::Ready(server_type.clone()),
            (None, custom) => Self::Custom(custom.clone().unwrap_or_default()),
        }
    }
}

/// One line: the server type, or the parts in the panels' own grammar (ispsystem-api.md 3.3) with the PCI cards behind it.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let custom = match self {
            Self::Ready(server_type) => return f.write_str(server_type),
            Self::Custom(custom) => custom,
        };
        let mut parts = Vec::new();
        parts.extend(custom.cpu.as_ref().map(|cpu| format!("{}x{}", cpu.count, cpu.model)));
        parts.extend(custom.memory_gib.map(|gib| format!("{gib}Gb")));
        parts.extend(custom.disks.iter().map(|disk| format!("{}x{}{}", disk.count, disk.size_gb, disk.type_)));
        f.write_str(&parts.join("-"))?;
        for card in &custom.pci {
            write!(f, "+{card}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_in_the_panels_grammar() {
        let custom = serde_json::json!({"custom": {"cpu": {"model": "E-2146G"}, "memoryGiB": 64,
            "disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}], "pci": ["X710"]}});
        let read = |value| Wanted::new(&serde_json::from_value(value).unwrap()).to_string();
        assert_eq!(read(custom), "1xE-2146G-64Gb-2x1920SSD+X710");
        assert_eq!(read(serde_json::json!({"serverType": "E3-16G"})), "E3-16G");
    }
}
