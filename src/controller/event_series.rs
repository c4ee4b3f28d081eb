//! Which events are of their own and which are one more of a series: the same words about the same object fold, others do not.
//!
//! The client library folds by reason alone and keeps the first text, so that what was said later is never shown. What is
//! remembered is bounded in number and time; of one reason and object so many texts are shown one by one, the rest in one event.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::provisioning::notices::Notice;

/// How long an event that is not seen again is remembered: a later one is an event of its own, as in the client library.
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_mins(6);
/// Events that are remembered at most.
const REMEMBERED: usize = 1024;
/// Texts of one reason about one object that are shown one by one while they are remembered.
const TEXTS: usize = 10;
/// What stands for the others.
const OTHERS: &str = "there are more events of this kind than are shown one by one; see the object's status";

/// What one event says, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    warning: bool,
    reason: String,
    message: String,
}

impl Key {
    fn is_about_the_same(&self, other: &Self) -> bool {
        let what = |k: &Self| (k.uid.clone(), k.namespace.clone(), k.kind.clone(), k.name.clone());
        self.reason == other.reason && what(self) == what(other)
    }
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    count: i32,
    last: Timestamp,
}

/// How a notice is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publish {
    /// As an event of its own, with this name and text.
    New {
        /// Name of the event.
        name: String,
        /// Its text.
        message: String,
    },
    /// As one more of the event with this name.
    Again {
        /// Name of the event.
        name: String,
        /// How often it was seen, with this one.
        count: i32,
    },
}

/// The events of the last minutes.
#[derive(Debug, Default)]
pub struct Series {
    known: HashMap<Key, Known>,
}

impl Series {
    /// What becomes of a notice about an object.
    #[must_use]
    pub fn of(&mut self, object: &ObjectReference, notice: &Notice, now: Timestamp) -> Publish {
        self.known.retain(|_, k| now.duration_since(k.last) < REMEMBERED_FOR);
        let mut key = key(object, notice);
        if !self.known.contains_key(&key) && self.known.keys().filter(|k| k.is_about_the_same(&key)).count() >= TEXTS {
            OTHERS.clone_into(&mut key.message);
        }
        if let Some(known) = self.known.get_mut(&key) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            return Publish::Again { name: known.name.clone(), count: known.count };
        }
        if self.known.len() >= REMEMBERED
            && let Some(oldest) = self.known.iter().min_by_key(|(_, k)| k.last).map(|(key, _)| key.clone())
        {
            self.known.remove(&oldest);
        }
        let (name, message) = (event_name(object, now), key.message.clone());
        self.known.insert(key, Known { name: name.clone(), count: 1, last: now });
        Publish::New { name, message }
    }

    /// An event that could not be published, or is gone: the next of its kind is one of its own.
    pub fn forget(&mut self, name: &str) {
        self.known.retain(|_, k| k.name != name);
    }
}

fn key(object: &ObjectReference, notice: &Notice) -> Key {
    Key {
        namespace: object.namespace.clone(),
        kind: object.kind.clone(),
        name: object.name.clone(),
        uid: object.uid.clone(),
        warning: notice.warning,
        reason: notice.reason.clone(),
        message: notice.message.clone(),
    }
}

/// The object's name, as far as a name has room for it, and the time.
fn event_name(object: &ObjectReference, now: Timestamp) -> String {
    let name = object.name.as_deref().unwrap_or("dci-operator");
    let kept: String = name.chars().take(220).collect();
    format!("{}.{:x}", kept.trim_end_matches(['.', '-']), now.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectReference {
        ObjectReference {
            name: Some(name.into()),
            namespace: Some("shop".into()),
            uid: Some(format!("u-{name}")),
            ..ObjectReference::default()
        }
    }

    fn raised(message: &str) -> Notice {
        Notice { warning: true, reason: "TaskRaised".into(), message: message.into() }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn other_words_are_an_event_of_their_own_and_the_same_ones_fold() {
        let mut series = Series::default();
        let mut names = Vec::new();
        for (n, message) in ["task 1", "task 2", "task 3"].into_iter().enumerate() {
            let Publish::New { name, message: shown } = series.of(&object("web"), &raised(message), at(i64::try_from(n).unwrap())) else {
                panic!("{message} folds")
            };
            assert_eq!(shown, message);
            names.push(name);
        }
        names.dedup();
        assert_eq!(names.len(), 3);
        for count in 2..4 {
            let again = series.of(&object("web"), &raised("task 2"), at(10));
            assert_eq!(again, Publish::Again { name: names[1].clone(), count });
        }
        let same_words = Notice { warning: false, ..raised("task 2") };
        for (other, notice) in [(object("api"), raised("task 2")), (object("web"), same_words)] {
            assert!(matches!(series.of(&other, &notice, at(11)), Publish::New { .. }), "{other:?}");
        }
    }

    #[test]
    fn what_was_not_seen_for_minutes_is_forgotten_and_so_is_what_could_not_be_published() {
        let mut series = Series::default();
        assert!(matches!(series.of(&object("web"), &raised("a"), at(0)), Publish::New { .. }));
        assert!(matches!(series.of(&object("web"), &raised("a"), at(300_000)), Publish::Again { count: 2, .. }), "the time runs anew");
        assert!(matches!(series.of(&object("web"), &raised("a"), at(600_000)), Publish::Again { count: 3, .. }));
        let Publish::New { name, .. } = series.of(&object("web"), &raised("a"), at(960_000)) else { panic!("remembered for ever") };
        series.forget(&name);
        assert!(matches!(series.of(&object("web"), &raised("a"), at(960_001)), Publish::New { .. }));
    }

    #[test]
    fn a_flood_of_words_about_one_object_is_a_few_events() {
        let mut series = Series::default();
        let shown: Vec<Publish> = (0..500).map(|n| series.of(&object("web"), &raised(&format!("text {n}")), at(n))).collect();
        let new: Vec<&str> =
            shown.iter().filter_map(|p| if let Publish::New { message, .. } = p { Some(message.as_str()) } else { None }).collect();
        assert_eq!((new.len(), new[TEXTS]), (TEXTS + 1, OTHERS));
        assert!(matches!(&shown[499], Publish::Again { count, .. } if *count == 490), "{:?}", shown[499]);
        // Others are not concerned, neither in another object nor of another reason.
        assert!(matches!(series.of(&object("api"), &raised("text 1"), at(500)), Publish::New { message, .. } if message == "text 1"));
        let other = Notice { reason: "TaskClosed".into(), ..raised("text 1") };
        assert!(matches!(series.of(&object("web"), &other, at(500)), Publish::New { message, .. } if message == "text 1"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut series = Series::default();
        for n in 0..3000 {
            let published = series.of(&object(&format!("web-{n}")), &raised("a"), at(n));
            assert!(matches!(published, Publish::New { .. }));
            assert!(series.known.len() <= REMEMBERED);
        }
        assert!(matches!(series.of(&object("web-2999"), &raised("a"), at(3000)), Publish::Again { .. }), "the oldest goes first");
    }

    #[test]
    fn the_name_of_an_event_is_always_one_that_the_api_takes() {
        let long = event_name(&object(&format!("{}.{}", "a".repeat(219), "b".repeat(33))), at(0));
        assert!(long.len() <= 253 && !long.contains(".."), "{long}");
    }
}
