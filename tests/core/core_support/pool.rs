//! The address manager in memory: what is free there, what is taken, and what it shows.

use std::net::IpAddr;

use dci_operator::panel::model::{Family, PoolAddress};

use super::panel::Panel;

impl Panel {
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
        self.used.push(PoolAddress { address, group: group.into(), domain: domain.into(), note });
        Some(address)
    }

    pub fn give_back(&mut self, address: IpAddr) {
        if let Some(at) = self.used.iter().position(|u| u.address == address) {
            let used = self.used.remove(at);
            self.free.entry(used.group).or_default().push(address);
        }
    }
}
