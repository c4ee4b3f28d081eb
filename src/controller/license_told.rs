//! What is remembered of the forms of licences, where the list of a licence server shows no remote ids.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

/// What of a row has to be the same for its form to be believed: name, address, end.
pub(super) type Shown = (String, Option<IpAddr>, Option<Timestamp>);

/// How long a form that told no remote id is not asked again: there may be thousands of them.
pub(super) const UNTOLD: SignedDuration = SignedDuration::from_hours(1);

/// The same of one that told no remote id but nobody's, or that of the order which asks: somebody may have put it right since, and nothing
/// that the list shows tells of it.
pub(super) const DOUBTED: SignedDuration = SignedDuration::from_mins(5);

/// What a form told, where the list shows no remote id.
#[derive(Clone)]
pub(super) struct Told {
    /// The row at that time.
    pub(super) shown: Shown,
    /// None where the form shows none either: nobody knows whose the licence is.
    pub(super) remote_id: Option<String>,
    /// When it was read.
    pub(super) at: Timestamp,
}

impl Told {
    /// Whether it is believed without a look at the form. `own`: how the remote ids of the order begin that asks. One that was cut short
    /// begins its own, and so does an empty one.
    pub(super) fn is_believed(&self, now: Timestamp, own: Option<&str>) -> bool {
        let age = now.duration_since(self.at);
        match (self.remote_id.as_deref(), own) {
            (None, _) => age < UNTOLD,
            (Some(told), Some(own)) if told.starts_with(own) || own.starts_with(told) => age < DOUBTED,
            (Some(_), _) => true,
        }
    }
}
