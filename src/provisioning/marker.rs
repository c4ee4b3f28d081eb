//! The mark of ownership that an order leaves in the panels' own records, and how it is found again.

use std::fmt;

/// What stands in a server's notes: `k8s:<cluster id>/<namespace>/<name>/<order id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marker {
    /// Uid of kube-system, or `--cluster-id`.
    pub cluster: String,
    /// Namespace of the order.
    pub namespace: String,
    /// Name of the order.
    pub name: String,
    /// The order's first uid.
    pub order_id: String,
}

/// How every marker begins.
const PREFIX: &str = "k8s:";

/// What notes say of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No marker of anybody.
    Nothing,
    /// This order's marker, and no other.
    Ours,
    /// Our marker, but cut short or changed by the panel: this is what is left of it.
    Truncated(String),
    /// A marker of the same namespace and name with another order id: an earlier order's.
    Previous(String),
    /// Somebody else's marker, alone or beside ours.
    Foreign(String),
}

/// Whether nothing is left of a marker but how every one begins, with a sign that it was cut or without.
#[must_use]
pub fn is_bare(written: &str) -> bool {
    written.strip_prefix(PREFIX).is_some_and(|rest| !rest.contains(|c: char| c.is_ascii_alphanumeric()))
}

impl Marker {
    /// Reads a full marker.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let mut parts = token.strip_prefix(PREFIX)?.split('/');
        let mut next = || parts.next().filter(|p| !p.is_empty()).map(str::to_owned);
        let marker = Self { cluster: next()?, namespace: next()?, name: next()?, order_id: next()? };
        parts.next().is_none().then_some(marker)
    }

    /// Whether another marker has this order's id, but was not written by it: by another cluster, or under another name.
    #[must_use]
    pub fn is_elsewhere(&self, other: &Self) -> bool {
        self.order_id == other.order_id && self != other
    }

    /// Whether another marker is of an order of this name, in this namespace and cluster: of this one, or of an earlier one.
    #[must_use]
    pub fn has_name_of(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.namespace == other.namespace && self.name == other.name
    }

    /// Whether another marker is what is left of this order's when a panel keeps its beginning only.
    #[must_use]
    pub fn is_cut_to(&self, other: &Self) -> bool {
        self.has_name_of(other) && self.order_id != other.order_id && self.order_id.starts_with(&other.order_id)
    }

    /// What addresses and licences carry: `k8s:<order id>`.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{PREFIX}{}", self.order_id)
    }

    /// Whether the note of an address is this order's.
    #[must_use]
    pub fn is_in_note(&self, note: &str) -> bool {
        let short = self.short();
        note.split_whitespace().any(|token| token == short)
    }

    /// Whether the note of an address carries another order's word. What a panel made of ours, cut or with a sign of that behind it, is none.
    #[must_use]
    pub fn is_anothers(&self, note: &str) -> bool {
        let short = self.short();
        let is_of_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_ours = |word: &str| {
            let word = word.replace('\\', "");
            let kept = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            short.starts_with(kept) || word.strip_prefix(&short).is_some_and(|behind| !behind.starts_with(is_of_id))
        };
        tokens(note).any(|token| !is_ours(token))
    }

    /// The note of an address with this order's word behind what stands there.
    #[must_use]
    pub fn with_short(&self, note: &str) -> String {
        format!("{note} {}", self.short()).trim().to_owned()
    }

    /// The note of an address without this order's word.
    #[must_use]
    pub fn without_short(&self, note: &str) -> String {
        let short = self.short();
        note.split_whitespace().filter(|word| *word != short).collect::<Vec<_>>().join(" ")
    }

    /// What the notes of a server say of this order.
    #[must_use]
    pub fn find_in(&self, notes: &str) -> Found {
        let full = self.to_string();
        let mut ours = false;
        let mut others = Vec::new();
        for token in tokens(notes) {
            if token == full {
                ours = true;
            } else {
                others.push(token);
            }
        }
        // One that is nothing of ours says more than what is left of ours beside it.
        let strange = others.iter().find(|word| ours || !self.is_left_in(&full, word));
        match (strange, others.first()) {
            (Some(other), _) => self.judge(other),
            (None, Some(left)) => Found::Truncated((*left).to_owned()),
            (None, None) if ours => Found::Ours,
            (None, None) => Found::Nothing,
        }
    }

    /// Whether this order's marker stands in the notes, whatever stands beside it.
    #[must_use]
    pub fn stands_in(&self, notes: &str) -> bool {
        let full = self.to_string();
        tokens(notes).any(|token| token == full)
    }

    /// Whether a word in the notes is beyond doubt of another order: no panel makes another name and another id of ours.
    #[must_use]
    pub fn is_of_another(&self, word: &str) -> bool {
        Self::parse(word).is_some_and(|m| m.order_id != self.order_id && !self.is_named_like(&m))
    }

    fn judge(&self, other: &str) -> Found {
        match Self::parse(other) {
            Some(m) if self.has_name_of(&m) => Found::Previous(other.to_owned()),
            Some(_) | None => Found::Foreign(other.to_owned()),
        }
    }

    /// Whether a word is what a panel left of this marker: cut, with a sign of that or without, or with more written into it or behind it.
    fn is_left_in(&self, full: &str, word: &str) -> bool {
        // Some escape slashes.
        let word = word.replace('\\', "");
        let kept = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = |id: &str| id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        full.starts_with(kept)
            || match Self::parse(&word) {
                Some(m) => self.is_named_like(&m) && (m.order_id == self.order_id || !is_id(&m.order_id)),
                None => word.contains(&self.order_id),
            }
    }

    /// The same name, though a panel wrote it in small letters: of a name only the cluster's part may have others.
    fn is_named_like(&self, other: &Self) -> bool {
        self.cluster.eq_ignore_ascii_case(&other.cluster) && self.namespace == other.namespace && self.name == other.name
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}/{}/{}", self.cluster, self.namespace, self.name, self.order_id)
    }
}

/// Everything in a text that looks like a marker.
pub fn tokens(notes: &str) -> impl Iterator<Item = &str> {
    notes.split_whitespace().filter(|token| token.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marker() -> Marker {
        Marker { cluster: "c1".into(), namespace: "shop".into(), name: "web-01".into(), order_id: "u-1".into() }
    }

    #[test]
    fn notes_are_judged() {
        let m = marker();
        let full = m.to_string();
        let rows = [
            (String::new(), Found::Nothing),
            ("customer pays in cash".into(), Found::Nothing),
            (full.clone(), Found::Ours),
            (format!("old disk\n{full}\n"), Found::Ours),
            (full[..12].to_owned(), Found::Truncated(full[..12].to_owned())),
            ("k8s:c1/shop/web-01/u-2".into(), Found::Previous("k8s:c1/shop/web-01/u-2".into())),
            ("k8s:c2/shop/web-01/u-1".into(), Found::Foreign("k8s:c2/shop/web-01/u-1".into())),
            (format!("{full} k8s:c1/shop/web-02/u-9"), Found::Foreign("k8s:c1/shop/web-02/u-9".into())),
            ("k8s:".into(), Found::Truncated("k8s:".into())),
            (format!("{full} {full}…"), Found::Previous(format!("{full}…"))),
            (format!("{full}<br/> k8s:c2/shop/web-01/u-9"), Found::Foreign("k8s:c2/shop/web-01/u-9".into())),
        ];
        for (notes, expected) in rows {
            assert_eq!(m.find_in(&notes), expected, "{notes}");
        }
    }

    #[test]
    fn what_a_panel_made_of_ours_is_told_from_what_others_wrote() {
        let m = Marker { cluster: "C1".into(), ..marker() };
        let left = ["k8s:C1/shop/web-01/u-1…", "k8s:C1/shop/web-01/u-1<br>", "k8s:C1/shop/web-01/u-1<br/>", "k8s:C1/shop/we...", "k8s:…"];
        let written_into =
            [r"k8s:C1\/shop\/web-01\/u-1", "k8s:C1&#47;shop&#47;web-01&#47;u-1", "k8s:c1/shop/web-01/u-1", "k8s:C1/shop/web-01/u-&hellip;"];
        for word in left.into_iter().chain(written_into) {
            assert_eq!(m.find_in(word), Found::Truncated(word.to_owned()));
            assert_eq!((is_bare(word), m.is_of_another(word)), (word == "k8s:…", false), "{word}");
        }
        // (word, whether it is another order's beyond doubt)
        for (word, another) in [
            ("k8s:C2/shop/web-01/u-2", true),
            ("k8s:C1/shop/web-02/u-2", true),
            ("k8s:c1/shop/web-01/u-2", false),
            ("k8s:C1/shop/web-01/u-11", false),
            ("k8s:C2/shop/web-01/u-1", false),
            ("k8s:42", false),
        ] {
            assert!(matches!(m.find_in(word), Found::Previous(_) | Found::Foreign(_)), "{word}");
            assert_eq!(m.is_of_another(word), another, "{word}");
        }
    }

    #[test]
    fn what_an_address_manager_made_of_our_note_is_not_anothers() {
        let m = marker();
        for (note, expected) in [
            ("k8s:u-1", false),
            ("k8s:u", false),
            ("k8s:u-1…", false),
            ("k8s:u-1<br>", false),
            ("k8s:u-11", true),
            ("k8s:u-1-2", true),
            ("k8s:u-2…", true),
            ("rack 4 k8s:u-1 k8s:u-2", true),
        ] {
            assert_eq!(m.is_anothers(note), expected, "{note}");
        }
    }

    #[test]
    fn a_note_is_ours_only_as_a_whole_word() {
        let m = marker();
        assert!(m.is_in_note("k8s:u-1"));
        assert!(m.is_in_note("rack 4 k8s:u-1"));
        assert!(!m.is_in_note("k8s:u-11"));
        assert!(!m.is_in_note(""));
    }

    #[test]
    fn a_note_that_was_cut_short_is_no_other_orders() {
        let m = marker();
        for (note, anothers) in [
            ("", false),
            ("rack 4", false),
            ("k8", false),
            ("k8s:", false),
            ("k8s:u", false),
            ("k8s:u-1", false),
            ("k8s:u-11", true),
            ("k8s:u-2", true),
            ("k8s:u-1 k8s:u-2", true),
            ("k8s:c1/shop/web-02/u-9", true),
        ] {
            assert_eq!(m.is_anothers(note), anothers, "{note}");
        }
    }

    proptest! {
        #[test]
        fn a_marker_reads_back(parts in proptest::collection::vec("[a-z0-9-]{1,20}", 4)) {
            let m = Marker { cluster: parts[0].clone(), namespace: parts[1].clone(), name: parts[2].clone(), order_id: parts[3].clone() };
            prop_assert_eq!(Marker::parse(&m.to_string()), Some(m));
        }

        #[test]
        fn no_notes_panic(notes in ".{0,200}") {
            let _ = marker().find_in(&notes);
        }
    }
}
