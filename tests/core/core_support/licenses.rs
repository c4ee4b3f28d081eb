//! A licence server in memory: what is bought there, when its key comes, and what the calls do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use dci_operator::api::common::ObjectKey;
use dci_operator::api::handler::HandlerSpec;
use dci_operator::panel::error::PanelError;
use dci_operator::panel::license::{FREE_NAME, LicenseForm, LicenseId, LicenseRow, LicenseState};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;
use dci_operator::provisioning::license_server::{LicenseAnswers, LicenseList, LicensePolicy};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::later;
use super::panel::refused;

const DAY: u64 = 24 * 3600;

#[derive(Clone, Debug)]
pub struct Bought {
    pub pricelist: String,
    pub name: String,
    pub address: IpAddr,
    pub remote_id: String,
    pub key_at: Timestamp,
    pub expires: Timestamp,
    pub suspended: bool,
    pub renewals: usize,
    /// When it came, or comes, into list and forms.
    pub shown_from: Timestamp,
    /// What they go on to show, and until when.
    pub before: Option<(Timestamp, Box<Self>)>,
}

impl Bought {
    /// What list and form show of it; none while they do not show it at all.
    fn shown(&self, now: Timestamp) -> Option<&Self> {
        if now < self.shown_from {
            return None;
        }
        match &self.before {
            Some((until, before)) if now < *until => Some(before.as_ref()),
            Some(_) | None => Some(self),
        }
    }
}

/// The licence server of the world.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that a licence server may do or not")]
pub struct Server {
    pub rows: BTreeMap<String, Bought>,
    /// Orders that were ever made, by remote id.
    pub orders: BTreeMap<String, usize>,
    pub key_takes: Duration,
    /// How long after it was made a change shows in list and form.
    pub shows_after: Duration,
    pub period_days: u64,
    /// Characters of a remote id that are kept.
    pub remote_max: usize,
    pub policy: LicensePolicy,
    pub state: HandlerState,
    /// Whether its handler is there, and lets the order's use it.
    pub usable: bool,
    pub list: Option<std::sync::Arc<LicenseList>>,
    pub changed: BTreeMap<String, Timestamp>,
    /// What the process remembers of what was answered, by order.
    pub answers: BTreeMap<String, LicenseAnswers>,
    /// A licence, somebody's or ours, of which neither the list nor its form tells the remote id.
    pub unread: Option<String>,
    /// The list shows no remote ids, and the forms have no such field.
    pub untold: bool,
    /// The list shows remote ids, and the forms have no such field.
    pub untold_in_forms: bool,
    /// Licences whose forms are refused.
    pub refused: BTreeSet<String>,
    /// Licences that the list does not show, though they are there: a filter hides them.
    pub hidden: BTreeSet<String>,
    /// Remote ids that the list does not show, as they were remembered when their forms were read.
    pub remembered: BTreeMap<String, String>,
    /// What stands in list and forms instead of a date.
    pub no_date: Option<String>,
    /// Older definitions drop from each status what was answered.
    pub drops_answers: bool,
    /// An answer to a purchase says no more than that it was done.
    pub unnamed: bool,
    /// Licences that the list shows as deleted, and whose forms are still there.
    pub deleted: BTreeSet<String>,
    /// Forms show neither name nor address.
    pub bare_forms: bool,
    /// Nor does the list.
    pub bare_list: bool,
}

pub fn key() -> ObjectKey {
    ObjectKey { namespace: "hosting".into(), name: "isp".into() }
}

/// A spec with two products; `change` may alter the JSON of its licences.
pub fn policy(change: impl FnOnce(&mut Value)) -> LicensePolicy {
    let mut licenses = json!({"products": {"Lite": {"pricelist": "55227"}, "Pro": {"pricelist": "55228", "addons": {"7": "2"}}}});
    change(&mut licenses);
    let spec: HandlerSpec = serde_json::from_value(json!({
        "module": "BILLmanager6",
        "connection": {"url": "https://billing.example.net/billmgr", "credentialsSecretRef": {"name": "isp"}},
        "licenses": licenses,
    }))
    .expect("a licence server");
    LicensePolicy::new(&spec)
}

impl Server {
    pub fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            orders: BTreeMap::new(),
            key_takes: Duration::from_secs(45),
            shows_after: Duration::ZERO,
            period_days: 30,
            remote_max: usize::MAX,
            policy: policy(|_| ()),
            state: HandlerState::Ready,
            usable: true,
            list: None,
            changed: BTreeMap::new(),
            answers: BTreeMap::new(),
            unread: None,
            untold: false,
            untold_in_forms: false,
            refused: BTreeSet::new(),
            hidden: BTreeSet::new(),
            remembered: BTreeMap::new(),
            no_date: None,
            drops_answers: false,
            unnamed: false,
            deleted: BTreeSet::new(),
            bare_forms: false,
            bare_list: false,
        }
    }

    /// A licence that is about to be changed.
    fn find(&mut self, id: &LicenseId, now: Timestamp) -> Result<&mut Bought, PanelError> {
        let lag = self.shows_after;
        let b = self.rows.get_mut(&id.0).ok_or_else(|| refused("missed", "soft.edit"))?;
        let shown = if lag.is_zero() { None } else { b.shown(now).cloned() };
        b.before = shown.map(|shown| (later(now, lag), Box::new(Bought { before: None, ..shown })));
        Ok(b)
    }

    fn tells(&self, id: &str) -> bool {
        !self.untold && self.unread.as_deref() != Some(id)
    }

    pub fn fresh(&self, now: Timestamp) -> Vec<LicenseRow> {
        let row = |(id, b): (&String, &Bought)| LicenseRow {
            id: LicenseId(id.clone()),
            name: if self.bare_list { String::new() } else { b.name.clone() },
            address: Some(b.address).filter(|_| !self.bare_list),
            remote_id: self.remembered.get(id).or(self.tells(id).then_some(&b.remote_id)).cloned(),
            by_form: self.remembered.contains_key(id),
            state: match (self.deleted.contains(id), b.suspended) {
                (true, _) => LicenseState::Deleted,
                (false, true) => LicenseState::Suspended,
                (false, false) => LicenseState::Active,
            },
            expires: Some(b.expires).filter(|_| self.no_date.is_none()),
        };
        let unread = self.unread.iter().filter(|id| !self.rows.contains_key(*id)).map(|id| LicenseRow {
            id: LicenseId(id.clone()),
            name: "somebody.example.net".into(),
            address: None,
            remote_id: None,
            by_form: false,
            state: LicenseState::Active,
            expires: None,
        });
        self.rows
            .iter()
            .filter(|(id, _)| !self.hidden.contains(*id))
            .filter_map(|(id, b)| Some(row((id, b.shown(now)?))))
            .chain(unread)
            .collect()
    }

    pub fn take_list(&mut self, now: Timestamp) {
        let rows = self.fresh(now).into_iter().map(|row| (row.id.0.clone(), row)).collect();
        self.list = Some(std::sync::Arc::new(LicenseList { rows, began: now }));
    }

    pub fn form(&self, id: &LicenseId, now: Timestamp) -> Option<LicenseForm> {
        self.rows.get(&id.0).and_then(|b| b.shown(now)).map(|b| LicenseForm {
            name: if self.bare_forms { String::new() } else { b.name.clone() },
            address: Some(b.address).filter(|_| !self.bare_forms),
            remote_id: (self.tells(&id.0) && !self.untold_in_forms).then(|| b.remote_id.clone()),
            key: (now >= b.key_at).then(|| SecretString::from(format!("KEY-{id}"))),
            expires: self.no_date.clone().map_or(Ok(Some(b.expires)), Err),
        })
    }

    /// What a change would be refused for.
    pub fn check(&self, call: &Call) -> Result<(), PanelError> {
        let there = |id: &LicenseId| self.rows.get(&id.0).ok_or_else(|| refused("missed", "soft.edit"));
        match call {
            Call::EditLicense { license, remote_id, .. } | Call::FreeLicense { license, remote_id } => {
                let told = self.tells(&license.0) && !self.untold_in_forms;
                if told && there(license)?.remote_id == *remote_id { Ok(()) } else { Err(refused("value", "soft.edit")) }
            }
            Call::RenewLicense { license, .. } | Call::SuspendLicense { license, .. } | Call::ResumeLicense { license, .. } => {
                there(license).map(drop)
            }
            _ => Ok(()),
        }
    }

    pub fn apply(&mut self, call: &Call, now: Timestamp) -> Result<(), PanelError> {
        self.check(call)?;
        match call {
            Call::OrderLicense { remote_id, pricelist, address, name, .. } => {
                *self.orders.entry(remote_id.clone()).or_default() += 1;
                let id = format!("{}", 7001 + self.rows.len());
                let bought = Bought {
                    pricelist: pricelist.clone(),
                    name: name.clone(),
                    address: *address,
                    remote_id: remote_id.chars().take(self.remote_max).collect(),
                    key_at: later(now, self.key_takes),
                    expires: later(now, Duration::from_secs(self.period_days * DAY)),
                    suspended: false,
                    renewals: 0,
                    shown_from: later(now, self.shows_after),
                    before: None,
                };
                self.rows.insert(id, bought);
            }
            Call::EditLicense { license, address, name, .. } => {
                let b = self.find(license, now)?;
                (b.name, b.address) = (name.clone(), *address);
            }
            Call::FreeLicense { license, .. } => {
                let b = self.find(license, now)?;
                (b.name, b.address, b.remote_id) = (FREE_NAME.into(), "0.0.0.0".parse().unwrap(), String::new());
            }
            Call::RenewLicense { license, .. } => {
                let days = self.period_days;
                let b = self.find(license, now)?;
                b.renewals += 1;
                b.expires = later(b.expires, Duration::from_secs(days * DAY));
            }
            Call::SuspendLicense { license, .. } => self.find(license, now)?.suspended = true,
            Call::ResumeLicense { license, .. } => self.find(license, now)?.suspended = false,
            _ => {}
        }
        Ok(())
    }

    /// The licence that a remote id stands on.
    pub fn of(&self, remote_id: &str) -> Vec<LicenseId> {
        self.rows.iter().filter(|(_, b)| b.remote_id == remote_id).map(|(id, _)| LicenseId(id.clone())).collect()
    }
}
