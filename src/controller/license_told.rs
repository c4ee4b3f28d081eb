//! What is remembered of the forms of licences, where the list of a licence server shows no remote ids.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

/// What of a row has to be the same for its form to be believed: name, address, end.
pub(super) type Shown = (String, Option<IpAddr>, Option<Timestamp>);

/// How long a form that told no remote id, or nobody's, is not asked again: there may be thousands of them.
pub(super) const UNTOLD: SignedDuration = SignedDuration::from_hours(1);

/// The same of one that told the remote id of the order which asks, or a part of it: somebody may have put it right since, and nothing that
/// the list shows tells of it.
pub(super) const DOUBTED: SignedDuration = SignedDuration::from_mins(5);

/// Who reads the list to find its licences.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    /// How the remote ids of the order begin.
    pub(super) own: &'a str,
    /// When a task of the order was closed last: whoever did may have put our remote id on a licence that was nobody's.
    pub(super) answered: Option<Timestamp>,
}

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
    /// Whether it is believed without a look at the form. One that was cut short begins the order's own.
    pub(super) fn is_believed(&self, now: Timestamp, asking: Option<Asking<'_>>) -> bool {
        let most = match (self.remote_id.as_deref(), asking) {
            (None, _) | (Some(""), Some(_)) => UNTOLD,
            (Some(told), Some(by)) if told.starts_with(by.own) || by.own.starts_with(told) => DOUBTED,
            (Some(_), _) => return true,
        };
        // Read while the clock was ahead: nobody knows when that was.
        let lasts = (SignedDuration::ZERO..most).contains(&now.duration_since(self.at));
        // Answers are noted in whole seconds.
        let answered = asking.and_then(|by| by.answered).is_some_and(|at| self.at.as_second() <= at.as_second());
        lasts && !answered
    }
}
