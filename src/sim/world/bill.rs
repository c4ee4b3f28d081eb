//! A licence server: section 5.6 of the facts.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

use super::{Moment, World, edit::cut, refusal::Refusal, users::Users};
use crate::sim::config::{BillBehaviour, BillConfig, ConfigError, LicenseConfig};

/// Status of a licence: section 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    Suspended,
}

impl Status {
    /// The number in lists.
    pub(crate) fn number(self) -> &'static str {
        match self {
            Self::Active => "2",
            Self::Suspended => "3",
        }
    }
}

/// One licence.
#[derive(Debug, Clone)]
pub(crate) struct License {
    pub(crate) id: u64,
    pub(crate) owner: String,
    pub(crate) pricelist: u64,
    pub(crate) addons: BTreeMap<String, String>,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) remote_id: String,
    pub(crate) status: Status,
    pub(crate) key: String,
    /// When the key is there.
    pub(crate) key_at: Moment,
    pub(crate) expires: jiff::civil::Date,
    pub(crate) renewals: u64,
    /// When it comes into list and form.
    shown_from: Moment,
    /// What they go on to show, and until when.
    before: Option<(Moment, Box<License>)>,
}

impl License {
    /// What list and form show of it; none while they do not show it at all.
    pub(crate) fn shown(&self, now: Moment) -> Option<&Self> {
        if now < self.shown_from {
            return None;
        }
        match &self.before {
            Some((until, before)) if now < *until => Some(before.as_ref()),
            Some(_) | None => Some(self),
        }
    }

    /// The key, once it is there.
    pub(crate) fn key(&self, now: Moment) -> &str {
        if now >= self.key_at { &self.key } else { "" }
    }
}

/// What is ordered.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) owner: &'a str,
    pub(crate) pricelist: &'a str,
    pub(crate) period: &'a str,
    pub(crate) ip: &'a str,
    pub(crate) name: &'a str,
    pub(crate) project: &'a str,
    pub(crate) remote_id: &'a str,
    pub(crate) addons: BTreeMap<String, String>,
}

/// What a person changes of a licence; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LicenseChange {
    pub(crate) panel: Option<String>,
    pub(crate) remote_id: Option<String>,
    pub(crate) ip: Option<IpAddr>,
    /// The day on which it ends.
    pub(crate) expires: Option<String>,
    /// The key is there now.
    pub(crate) issue_key: bool,
    /// Stop it, or let it run again.
    pub(crate) suspended: Option<bool>,
    pub(crate) delete: bool,
}

/// A licence server.
#[derive(Debug, Clone)]
pub(crate) struct Bill {
    pub(crate) name: String,
    pub(crate) users: Users,
    pub(crate) behaviour: BillBehaviour,
    pub(crate) pricelists: BTreeMap<u64, String>,
    pub(crate) licenses: BTreeMap<u64, License>,
    last: u64,
}

fn months(text: &str) -> Result<u32, Refusal> {
    text.parse().ok().filter(|months| (1..=120).contains(months)).ok_or_else(|| Refusal::value("period", text))
}

impl Bill {
    /// The licence server that a configuration describes.
    pub(crate) fn build(config: &BillConfig, users: Users) -> Result<Self, ConfigError> {
        let place = format!("billmanager6 {}", config.name);
        let pricelists = config.pricelists.iter().map(|p| (p.id, p.name.clone())).collect();
        // Ids start where no id of another panel is, so that one taken for the other is noticed.
        let (behaviour, licenses) = (config.behaviour.clone(), BTreeMap::new());
        let mut bill = Self { name: config.name.clone(), users, behaviour, pricelists, licenses, last: 700_000 };
        for LicenseConfig { owner, pricelist, ip, name, remote_id } in &config.licenses {
            if bill.users.named(owner).is_none() {
                return Err(ConfigError::invalid(format!("{place}: licenses"), format!("no user `{owner}`")));
            }
            let ip = ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
            let pricelist = pricelist.to_string();
            let (period, project, addons) = ("1", "", BTreeMap::new());
            let order = Order { owner, pricelist: &pricelist, period, ip: &ip, name, project, remote_id, addons };
            let made = bill.order(&order, Moment::ZERO);
            let id = made.map_err(|refusal| ConfigError::invalid(format!("{place}: licenses"), refusal.to_string()))?;
            if let Some(license) = bill.licenses.get_mut(&id) {
                license.shown_from = Moment::ZERO;
            }
        }
        Ok(bill)
    }

    fn span(&self, months: u32) -> Moment {
        self.behaviour.month.0.saturating_mul(months)
    }

    /// `soft.order.param`, finished: a new licence each time, also with a remote id that is there already.
    pub(crate) fn order(&mut self, order: &Order<'_>, now: Moment) -> Result<u64, Refusal> {
        let pricelist = order.pricelist.parse().ok().filter(|id| self.pricelists.contains_key(id));
        let pricelist = pricelist.ok_or_else(|| Refusal::value("pricelist", order.pricelist))?;
        let period = months(order.period)?;
        let ip: IpAddr = order.ip.parse().map_err(|_| Refusal::value("ip", order.ip))?;
        let twin = |l: &License| l.ip == Some(ip) && l.pricelist == pricelist && l.status == Status::Active;
        if self.behaviour.one_per_address && self.licenses.values().any(twin) {
            return Err(Refusal::exists("ip", order.ip));
        }
        self.last += 1;
        let id = self.last;
        let license = License {
            id,
            owner: order.owner.to_owned(),
            pricelist,
            addons: order.addons.clone(),
            project: order.project.to_owned(),
            name: order.name.to_owned(),
            ip: Some(ip),
            remote_id: cut(order.remote_id, self.behaviour.remote_id_limit),
            status: Status::Active,
            key: format!("LIC-{id}-{:08x}", id.wrapping_mul(2_654_435_761) & 0xffff_ffff),
            key_at: now + self.behaviour.key_delay.0,
            expires: day_after(jiff::Timestamp::now(), self.span(period)),
            renewals: 0,
            shown_from: now + self.behaviour.show_delay.0,
            before: None,
        };
        self.licenses.insert(id, license);
        Ok(id)
    }

    /// The licence with this id, as its owner sees it.
    pub(crate) fn find(&mut self, elid: &str, owner: &str) -> Result<&mut License, Refusal> {
        let missed = || Refusal::missed("soft", elid);
        let id: u64 = elid.parse().map_err(|_| missed())?;
        self.licenses.get_mut(&id).filter(|l| l.owner == owner).ok_or_else(missed)
    }

    /// The same, to be changed: list and form show that later, where it is configured so.
    pub(crate) fn change(&mut self, elid: &str, owner: &str, now: Moment) -> Result<&mut License, Refusal> {
        let delay = self.behaviour.show_delay.0;
        let license = self.find(elid, owner)?;
        if !delay.is_zero() {
            let shown = license.shown(now).cloned();
            license.before = shown.map(|shown| (now + delay, Box::new(License { before: None, ..shown })));
        }
        Ok(license)
    }

    /// `service.prolong`: counted from the end that it has. Returns the new one.
    pub(crate) fn prolong(&mut self, elid: &str, owner: &str, period: &str, now: Moment) -> Result<jiff::civil::Date, Refusal> {
        let span = self.span(months(period)?);
        let license = self.change(elid, owner, now)?;
        let end = license.expires.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| Refusal::value("expiredate", elid))?;
        license.expires = day_after(end.timestamp(), span);
        license.renewals += 1;
        Ok(license.expires)
    }
}

/// The day on which something ends that lasts this long.
fn day_after(from: jiff::Timestamp, span: Moment) -> jiff::civil::Date {
    let end = from.checked_add(span).unwrap_or(from);
    end.to_zoned(jiff::tz::TimeZone::UTC).date()
}

impl World {
    /// A person changes a licence.
    pub(crate) fn human_license(&mut self, bill: usize, id: u64, change: &LicenseChange, now: Moment) -> Result<(), Refusal> {
        let text = id.to_string();
        let missed = || Refusal::missed("soft", &text);
        if change.delete {
            return self.bill[bill].licenses.remove(&id).map(drop).ok_or_else(missed);
        }
        let license = self.bill[bill].licenses.get_mut(&id).ok_or_else(missed)?;
        // What a person does shows at once.
        (license.shown_from, license.before) = (Moment::ZERO, None);
        if let Some(remote) = &change.remote_id {
            license.remote_id.clone_from(remote);
        }
        license.ip = change.ip.or(license.ip);
        if let Some(day) = &change.expires {
            license.expires = day.parse().map_err(|_| Refusal::value("expires", day))?;
        }
        if change.issue_key {
            license.key_at = now;
        }
        match change.suspended {
            Some(true) => license.status = Status::Suspended,
            Some(false) => license.status = Status::Active,
            None => {}
        }
        Ok(())
    }
}
