//! What was asked of the panels: every call that asks for a change, and how often each function was called.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::world::Form;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was made.
    Applied,
    /// It was refused with an error document.
    Refused,
    /// The answer says that it was made, and nothing was done.
    Ignored,
    /// It was lost before anything was done.
    Dropped,
    /// It will be made later, when the caller no longer waits; that is another entry, with `lateOf`.
    Deferred,
}

/// One change that was asked for.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) time: String,
    pub(crate) panel: String,
    pub(crate) caller: String,
    /// As whom, when that is somebody else (`su`).
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub(crate) done_as: Option<String>,
    pub(crate) func: String,
    pub(crate) params: Form,
    pub(crate) target: String,
    pub(crate) outcome: Outcome,
    /// What was made: an id, an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<EntryError>,
    /// Whether the caller got the whole answer.
    pub(crate) delivered: bool,
    /// The fault that the call met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late_of: Option<u64>,
}

/// Type and object of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EntryError {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) object: String,
}

/// The newest entries, and counters.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    capacity: usize,
    last: u64,
    requests: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Functions are counted by name as long as there are not more names than this; a caller could make up any number.
const COUNTED_FUNCTIONS: usize = 500;

impl Journal {
    /// A journal that keeps that many entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity: capacity.max(1), last: 0, requests: BTreeMap::new() }
    }

    /// Writes an entry and returns its number.
    pub(crate) fn write(&mut self, mut entry: Entry) -> u64 {
        self.last += 1;
        entry.seq = self.last;
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.last
    }

    /// The entry with this number, if it is still there.
    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let first = self.entries.front()?.seq;
        self.entries.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// The entries after this number.
    pub(crate) fn since(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.seq > seq)
    }

    /// Counts a call.
    pub(crate) fn count(&mut self, panel: &str, func: &str) {
        let functions = self.requests.entry(panel.to_owned()).or_default();
        let known = functions.len() < COUNTED_FUNCTIONS || functions.contains_key(func);
        *functions.entry(if known { func } else { "(other)" }.to_owned()).or_default() += 1;
    }

    /// How often each function of each panel was called.
    pub(crate) fn requests(&self) -> &BTreeMap<String, BTreeMap<String, u64>> {
        &self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            seq: 0,
            time: String::new(),
            panel: String::new(),
            caller: String::new(),
            done_as: None,
            func: String::new(),
            params: Form::new(),
            target: String::new(),
            outcome: Outcome::Applied,
            result: None,
            error: None,
            delivered: false,
            fault: None,
            late_of: None,
        }
    }

    #[test]
    fn keeps_the_newest() {
        let mut journal = Journal::new(3);
        for _ in 0..5 {
            journal.write(entry());
        }
        assert_eq!(journal.since(0).map(|entry| entry.seq).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(journal.since(4).map(|entry| entry.seq).collect::<Vec<_>>(), [5]);
        assert_eq!(journal.get_mut(4).map(|entry| entry.seq), Some(4));
        assert!(journal.get_mut(2).is_none());
        assert!(journal.get_mut(6).is_none());
    }

    #[test]
    fn counts_no_endless_number_of_names() {
        let mut journal = Journal::new(1);
        for n in 0..2_000 {
            journal.count("p", &format!("f{n}"));
        }
        assert_eq!(journal.requests()["p"].len(), COUNTED_FUNCTIONS + 1);
        assert_eq!(journal.requests()["p"]["(other)"], 1_500);
    }
}
