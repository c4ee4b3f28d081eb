//! The address manager in memory: what is free there, what is taken, and what it shows.

use std::net::IpAddr;

use dci_operator::panel::model::{FREE_DOMAIN, Family, PoolAddress};

use super::panel::Panel;

/// How the list shows the group of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// By its name.
    Named,
    /// By a number, with the name for people.
    Both,
    /// By a number alone.
    Numbered,
    /// Not at all.
    Unsaid,
    /// Each as one of parking.
    Parking,
}

/// The record of a parking address that a free server has.
pub fn parked(address: IpAddr) -> PoolAddress {
    let (group, domain) = ("parking".into(), FREE_DOMAIN.into());
    PoolAddress { address, group, group_shown: None, domain, note: String::new() }
}

impl Panel {
    /// The addresses in use, as the list shows them.
    pub fn pool(&self) -> Vec<PoolAddress> {
        let number = |group: &str| self.free.keys().position(|name| name == group).unwrap_or_default().to_string();
        let shown = |used: &PoolAddress| {
            let (group, group_shown) = match self.groups {
                Groups::Named => (used.group.clone(), None),
                Groups::Both => (number(&used.group), Some(used.group.clone())),
                Groups::Numbered => (number(&used.group), None),
                Groups::Unsaid => (String::new(), None),
                Groups::Parking => ("parking".into(), None),
            };
            PoolAddress { group, group_shown, ..used.clone() }
        };
        self.used.iter().map(shown).collect()
    }

    pub fn pick(&self, family: Family, group: &str) -> Option<IpAddr> {
        self.free.get(group)?.iter().copied().filter(|a| Family::of(*a) == family).min()
    }

    pub fn take(&mut self, family: Family, group: &str, domain: &str, note: &str) -> Option<IpAddr> {
        let address = self.pick(family, group)?;
        self.free.get_mut(group)?.retain(|a| *a != address);
        let mut note: String = note.chars().take(self.note_max).collect();
        if self.noted_over > 0 && !note.is_empty() {
            self.noted_over -= 1;
            note = "k8s:u-other".into();
        }
        self.used.push(PoolAddress { address, group: group.into(), group_shown: None, domain: domain.into(), note });
        Some(address)
    }

    pub fn give_back(&mut self, address: IpAddr) {
        if let Some(at) = self.used.iter().position(|u| u.address == address) {
            let used = self.used.remove(at);
            self.free.entry(used.group).or_default().push(address);
        }
    }
}
