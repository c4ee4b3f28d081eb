//! What a licence server shows and what it is asked for: plain data, and the trait that the controllers call.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use secrecy::SecretString;

/// The name of a licence that nobody has (ispsystem-api.md 5.6, release for reuse: confirmed).
pub const FREE_NAME: &str = "free.lic";
/// The address that such a licence is bound to.
pub const FREE_ADDRESS: &str = "0.0.0.0";

/// A licence's id at its server (`elid`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LicenseId(pub String);

impl fmt::Display for LicenseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for LicenseId {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

/// Status of a licence (ispsystem-api.md 5.1, item statuses: 3 confirmed, the others inferred).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LicenseState {
    /// 1 or 5: ordered, or something is under way.
    Ordered,
    /// 2.
    Active,
    /// 3.
    Suspended,
    /// 4: nobody can use it any more.
    Deleted,
    /// The list does not tell, or tells something else.
    Unknown,
}

/// A row of the list of licences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseRow {
    /// Id.
    pub id: LicenseId,
    /// Name.
    pub name: String,
    /// The address it is bound to.
    pub address: Option<IpAddr>,
    /// The caller's own id; `None` where the list does not show it.
    pub remote_id: Option<String>,
    /// The list does not show that: a form did, perhaps a while ago.
    pub by_form: bool,
    /// Status.
    pub state: LicenseState,
    /// When it ends: the beginning of that day, UTC; `None` where the list does not tell.
    pub expires: Option<Timestamp>,
}

/// The form of one licence. Only key and date are confirmed in it (ispsystem-api.md 5.6).
#[derive(Clone, Debug)]
pub struct LicenseForm {
    /// Name; empty where the form does not show it.
    pub name: String,
    /// The address it is bound to, 0.0.0.0 where that is none; `None` where the form does not show it.
    pub address: Option<IpAddr>,
    /// The caller's own id; `None` where the form does not show it, which is not the same as nobody's.
    pub remote_id: Option<String>,
    /// The key; `None` while the server has not made it.
    pub key: Option<SecretString>,
    /// When it ends: the beginning of that day, UTC; `None`: it does not. An error is what stands there instead of a date.
    pub expires: Result<Option<Timestamp>, String>,
}

/// A licence to be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseOrder {
    /// Tariff.
    pub pricelist: String,
    /// Addons by id.
    pub addons: BTreeMap<String, String>,
    /// Project to order for.
    pub project: Option<String>,
    /// Months.
    pub period: i32,
    /// The address it is bound to.
    pub address: IpAddr,
    /// Name.
    pub name: String,
    /// Our own id.
    pub remote_id: String,
}

/// What an edit writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseEdit {
    /// The remote id that has to stand there, else nothing is sent.
    pub expect: String,
    /// The address it is bound to.
    pub address: IpAddr,
    /// Name.
    pub name: String,
    /// Our own id; empty: nobody's.
    pub remote_id: String,
}

#[cfg(feature = "operator")]
pub use client::LicensePanel;

#[cfg(feature = "operator")]
mod client {
    use jiff::Timestamp;

    use super::{LicenseEdit, LicenseForm, LicenseId, LicenseOrder, LicenseRow};
    use crate::panel::model::Probe;
    use crate::panel::{Change, Read};

    /// A panel that sells licences (BILLmanager). An ordinary account is enough: it orders and sees its own.
    pub trait LicensePanel: Send + Sync {
        /// Logs in afresh and tells who we are there.
        fn probe(&self) -> Read<'_, Probe>;
        /// The complete list of licences of the account.
        fn licenses(&self) -> Read<'_, Vec<LicenseRow>>;
        /// One licence, with its key.
        fn license<'a>(&'a self, id: &'a LicenseId) -> Read<'a, LicenseForm>;
        /// Orders a licence: costs money. The answer names it, if it tells more than that it was done.
        fn order<'a>(&'a self, order: &'a LicenseOrder) -> Change<'a, Option<LicenseId>>;
        /// Writes address, name and remote id, after the form was read and shows `edit.expect`; else nothing is sent, and the
        /// outcome is `Refused`.
        fn edit<'a>(&'a self, id: &'a LicenseId, edit: &'a LicenseEdit) -> Change<'a, ()>;
        /// Prolongs by so many months: costs money. The answer names the new end, which list and form may show later.
        fn renew<'a>(&'a self, id: &'a LicenseId, months: i32) -> Change<'a, Option<Timestamp>>;
        /// Stops it.
        fn suspend<'a>(&'a self, id: &'a LicenseId) -> Change<'a, ()>;
        /// Starts it again.
        fn resume<'a>(&'a self, id: &'a LicenseId) -> Change<'a, ()>;
    }
}
