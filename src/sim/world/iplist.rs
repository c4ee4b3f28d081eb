//! Addresses of servers: section 2.5 of the facts, and who allocates: section 4.2.

use std::net::IpAddr;

use super::{
    Moment, World,
    addresses::{AddressBase, Family, Taken, Want},
    dci::{Replacement, Source},
    refusal::Refusal,
    server::IpRow,
};
use crate::sim::config::MainIpReplace;

/// An address that a server is to get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewAddress<'a> {
    pub(crate) group: &'a str,
    pub(crate) family: Family,
    /// This one and no other.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) domain: &'a str,
}

/// What is to become of a row; `None` leaves as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RowChange<'a> {
    pub(crate) domain: Option<&'a str>,
    pub(crate) ip: Option<IpAddr>,
    /// Replace the address by any free one of this group.
    pub(crate) any_of: Option<&'a str>,
}

impl World {
    /// The base that a panel takes its addresses from, and the user it does that as.
    fn source(&mut self, dci: usize, server: u64) -> (&mut AddressBase, String, bool) {
        match self.dci[dci].source.clone() {
            Source::Own => (&mut self.dci[dci].base, format!("server {server}"), true),
            Source::Ipmanager { index, user } => {
                let is_admin = self.ipm[index].users.named(&user).is_some_and(super::users::User::is_admin);
                (&mut self.ipm[index].base, user, is_admin)
            }
        }
    }

    /// Finds an address for a server, and takes it where the panel takes its addresses from.
    fn obtain(&mut self, dci: usize, server: u64, new: &NewAddress<'_>) -> Result<(IpAddr, String), Refusal> {
        if let Some(ip) = new.ip {
            let used = self.dci[dci].servers.values().any(|server| server.rows.iter().any(|row| row.ip == ip));
            if used {
                return Err(Refusal::exists("ip", &ip.to_string()));
            }
        }
        let own = matches!(self.dci[dci].source, Source::Own);
        let (base, holder, is_admin) = self.source(dci, server);
        let Some(ip) = new.ip else {
            let want = Want { group: new.group, family: new.family, ip: None, holder: &holder, is_admin, domain: new.domain, note: "" };
            return base.take(&want).map(|ip| (ip, new.group.to_owned()));
        };
        if let Some(taken) = base.taken.get_mut(&ip) {
            // Taken beforehand by the same user, who now says what it is for (section 4.2, mode B).
            if taken.holder != holder {
                return Err(Refusal::exists("ip", &ip.to_string()));
            }
            new.domain.clone_into(&mut taken.domain);
            return Ok((ip, taken.group.clone()));
        }
        let Some(group) = base.group_of(ip).map(|group| group.name.clone()) else {
            // A panel with its own base is told the addresses that another system has allocated.
            return if own { Ok((ip, new.group.to_owned())) } else { Err(Refusal::value("ip", &ip.to_string())) };
        };
        let taken = Taken { group: group.clone(), holder, domain: new.domain.to_owned(), note: String::new() };
        base.taken.insert(ip, taken);
        Ok((ip, group))
    }

    /// Gives an address back to where the panel takes its addresses from.
    pub(crate) fn give_back(&mut self, dci: usize, server: u64, ip: IpAddr) {
        let (base, holder, _) = self.source(dci, server);
        if base.taken.get(&ip).is_some_and(|taken| taken.holder == holder) {
            base.taken.remove(&ip);
        }
    }

    /// Adds an address to a server and returns it.
    pub(crate) fn add_address(&mut self, dci: usize, server: u64, new: &NewAddress<'_>, now: Moment) -> Result<IpAddr, Refusal> {
        self.dci[dci].server(server)?;
        let (ip, group) = self.obtain(dci, server, new)?;
        let panel = &mut self.dci[dci];
        let id = panel.next_row_id();
        let server_ref = panel.server_mut(server)?;
        let was_released = server_ref.is_released();
        server_ref.rows.push(IpRow { id, ip, domain: new.domain.to_owned(), group });
        panel.after_change(server, was_released, now);
        Ok(ip)
    }

    /// Changes a row: its domain, or, if the panel does that, its address.
    pub(crate) fn change_row(&mut self, dci: usize, server: u64, row: u64, change: RowChange<'_>, now: Moment) -> Result<(), Refusal> {
        let how = self.dci[dci].behaviour.main_ip_replace;
        self.change_row_so(dci, server, row, change, how, now)
    }

    /// Makes a replacement whose time has come. One that has become impossible meanwhile comes to nothing.
    pub(super) fn replace(&mut self, dci: usize, replacement: &Replacement) {
        let Replacement { due, server, row, domain, ip, any_of } = replacement;
        let change = RowChange { domain: domain.as_deref(), ip: *ip, any_of: any_of.as_deref() };
        let _ = self.change_row_so(dci, *server, *row, change, MainIpReplace::Works, *due);
    }

    fn change_row_so(
        &mut self,
        dci: usize,
        server: u64,
        row: u64,
        change: RowChange<'_>,
        how: MainIpReplace,
        now: Moment,
    ) -> Result<(), Refusal> {
        let panel = &self.dci[dci];
        let missed = || Refusal::missed("ip", &row.to_string());
        let rows = &panel.server(server)?.rows;
        let place = rows.iter().position(|candidate| candidate.id == row).ok_or_else(missed)?;
        let old = rows[place].clone();
        let was_released = panel.server(server)?.is_released();
        let domain = change.domain.unwrap_or(&old.domain).to_owned();
        let other_ip = change.ip.filter(|ip| *ip != old.ip);
        let other_group = change.any_of.filter(|group| change.ip.is_none() && *group != old.group);
        let mut new = (old.ip, old.group.clone());
        if other_ip.is_some() || other_group.is_some() {
            match how {
                MainIpReplace::Later => {
                    let due = now + panel.durations.main_ip.0;
                    let (domain, any_of) = (change.domain.map(str::to_owned), change.any_of.map(str::to_owned));
                    self.dci[dci].replacements.push(Replacement { due, server, row, domain, ip: change.ip, any_of });
                    return Ok(());
                }
                MainIpReplace::Refused => {
                    let value = other_ip.map_or_else(String::new, |ip| ip.to_string());
                    return Err(Refusal::value("ip", &value));
                }
                MainIpReplace::Ignored => {}
                MainIpReplace::Works => {
                    let wanted = NewAddress {
                        group: other_group.unwrap_or(""),
                        family: Family::of(other_ip.unwrap_or(old.ip)),
                        ip: other_ip,
                        domain: &domain,
                    };
                    new = self.obtain(dci, server, &wanted)?;
                    self.give_back(dci, server, old.ip);
                }
            }
        }
        let (base, holder, _) = self.source(dci, server);
        if let Some(taken) = base.taken.get_mut(&new.0)
            && taken.holder == holder
        {
            taken.domain.clone_from(&domain);
        }
        let panel = &mut self.dci[dci];
        panel.server_mut(server)?.rows[place] = IpRow { id: row, ip: new.0, domain, group: new.1 };
        panel.after_change(server, was_released, now);
        Ok(())
    }

    /// Removes a row. The main address stays (section 6.4: "delete of main IP refused").
    pub(crate) fn delete_row(&mut self, dci: usize, server: u64, row: u64) -> Result<(), Refusal> {
        let rows = &mut self.dci[dci].server_mut(server)?.rows;
        let place = rows.iter().position(|candidate| candidate.id == row);
        let place = place.ok_or_else(|| Refusal::missed("ip", &row.to_string()))?;
        if place == 0 {
            return Err(Refusal::access("main_ip"));
        }
        let ip = rows.remove(place).ip;
        self.give_back(dci, server, ip);
        Ok(())
    }
}
