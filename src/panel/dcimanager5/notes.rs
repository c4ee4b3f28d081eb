//! Markers in the notes of a server (design.md section 2): put in, found and taken out without touching what people wrote.

use crate::panel::model::NotesEdit;

/// What every marker begins with.
pub const PREFIX: &str = "k8s:";

/// The markers in the notes, of whatever order; also one that somebody wrote further text beside.
pub fn markers(notes: &str) -> impl Iterator<Item = &str> {
    notes.split_whitespace().filter(|word| word.starts_with(PREFIX))
}

/// Whether this very marker is there: a word of its own, not the beginning of a longer one.
#[must_use]
pub fn has(notes: &str, marker: &str) -> bool {
    let marker = marker.trim();
    !marker.is_empty() && notes.split_whitespace().any(|word| word == marker)
}

/// The notes after the edit.
#[must_use]
pub fn edited(notes: &str, edit: &NotesEdit) -> String {
    match edit {
        NotesEdit::Keep => notes.to_owned(),
        NotesEdit::Add(marker) => add(notes, marker.trim()),
        NotesEdit::Remove(marker) => remove(notes, marker.trim()),
    }
}

fn add(notes: &str, marker: &str) -> String {
    if marker.is_empty() || has(notes, marker) {
        return notes.to_owned();
    }
    if notes.is_empty() || notes.ends_with('\n') {
        return format!("{notes}{marker}");
    }
    // The panel's forms write lines as browsers do.
    let end = if notes.contains("\r\n") { "\r\n" } else { "\n" };
    format!("{notes}{end}{marker}")
}

fn remove(notes: &str, marker: &str) -> String {
    if !has(notes, marker) {
        return notes.to_owned();
    }
    let mut kept = String::with_capacity(notes.len());
    let mut tail_taken = false;
    for line in notes.split_inclusive('\n') {
        tail_taken = line.trim() == marker;
        if !tail_taken {
            without(line, marker, &mut kept);
        }
    }
    // The line before a marker at the very end got its end of line from us.
    if tail_taken && !notes.ends_with('\n') {
        let line = kept.strip_suffix('\n').unwrap_or(&kept);
        kept.truncate(line.strip_suffix('\r').unwrap_or(line).len());
    }
    kept
}

/// Copies a line without the marker, and without the blank before it (after it, where the line begins with it).
fn without(line: &str, marker: &str, kept: &mut String) {
    let mut rest = line;
    while let Some(at) = find_word(rest, marker) {
        let (before, after) = rest.split_at(at);
        let after = &after[marker.len()..];
        let trimmed = before.strip_suffix([' ', '\t']);
        kept.push_str(trimmed.unwrap_or(before));
        rest = if trimmed.is_none() { after.strip_prefix([' ', '\t']).unwrap_or(after) } else { after };
    }
    kept.push_str(rest);
}

/// Where the marker stands as a word of its own.
fn find_word(text: &str, marker: &str) -> Option<usize> {
    let ends = |c: Option<char>| c.is_none_or(char::is_whitespace);
    text.match_indices(marker)
        .map(|(at, _)| at)
        .find(|at| ends(text[..*at].chars().next_back()) && ends(text[at + marker.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const M: &str = "k8s:c/ns/name/uid";

    #[test]
    fn other_people_s_lines_stay() {
        for (before, after) in [
            ("", "k8s:c/ns/name/uid"),
            ("bad fan", "bad fan\nk8s:c/ns/name/uid"),
            ("bad fan\n", "bad fan\nk8s:c/ns/name/uid"),
            ("a\r\nb", "a\r\nb\r\nk8s:c/ns/name/uid"),
            ("k8s:c/ns/name/uid\nx", "k8s:c/ns/name/uid\nx"),
            ("k8s:c/ns/name/uid2", "k8s:c/ns/name/uid2\nk8s:c/ns/name/uid"),
        ] {
            assert_eq!(edited(before, &NotesEdit::Add(M.into())), after);
            assert_eq!(edited(before, &NotesEdit::Keep), before);
        }
    }

    #[test]
    fn every_occurrence_goes_and_nothing_else() {
        for (before, after) in [
            ("k8s:c/ns/name/uid", ""),
            ("a\nk8s:c/ns/name/uid", "a"),
            ("a\r\nk8s:c/ns/name/uid", "a"),
            ("a\nk8s:c/ns/name/uid\nb", "a\nb"),
            ("k8s:c/ns/name/uid\nb\n", "b\n"),
            (" k8s:c/ns/name/uid \nb\nk8s:c/ns/name/uid\n", "b\n"),
            ("do not touch: k8s:c/ns/name/uid (bob)\n", "do not touch: (bob)\n"),
            ("k8s:c/ns/name/uid bob", "bob"),
            ("k8s:c/ns/name/uid2\nx", "k8s:c/ns/name/uid2\nx"),
            ("xk8s:c/ns/name/uid", "xk8s:c/ns/name/uid"),
            ("", ""),
        ] {
            assert_eq!(edited(before, &NotesEdit::Remove(M.into())), after, "{before:?}");
        }
    }

    #[test]
    fn any_marker_is_seen() {
        assert_eq!(markers("x k8s:a/b\nk8s:c").collect::<Vec<_>>(), ["k8s:a/b", "k8s:c"]);
        assert_eq!(markers("about k8s").count(), 0);
    }

    proptest! {
        #[test]
        fn put_in_and_taken_out_leaves_what_was_there(notes in "([a-z]{0,3}|k8s:c/ns/name/uid2|[ \t\n]|\r\n| ){0,8}") {
            prop_assume!(!has(&notes, M));
            let with = edited(&notes, &NotesEdit::Add(M.into()));
            prop_assert!(has(&with, M));
            prop_assert_eq!(edited(&with, &NotesEdit::Add(M.into())), with.clone());
            let without = edited(&with, &NotesEdit::Remove(M.into()));
            prop_assert!(!has(&without, M));
            // Nothing but one end of line at the very end may differ.
            let end = ['\n', '\r'];
            prop_assert!(notes == without || notes.trim_end_matches(end) == without.trim_end_matches(end), "{:?} {:?}", notes, without);
        }

        #[test]
        fn no_notes_break_it(notes in "\\PC{0,40}", marker in "\\PC{0,10}") {
            let gone = edited(&notes, &NotesEdit::Remove(marker.clone()));
            prop_assert!(gone.len() <= notes.len());
            prop_assert!(!has(&gone, &marker));
            let _ = edited(&notes, &NotesEdit::Add(marker));
        }
    }
}
