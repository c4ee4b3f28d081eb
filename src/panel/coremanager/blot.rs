//! Secrets taken out of a panel's words, in every form in which a panel may repeat them.

use std::fmt::Write as _;

/// Stands where a secret was.
pub(super) const BLOT: &str = "***";

/// Takes the secrets out of a text: as they are, escaped as in a page or in JSON, and encoded as in a request, which an error may
/// repeat.
#[must_use]
pub fn blot(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        for form in forms(secret) {
            text = text.replace(&form, BLOT);
        }
    }
    text
}

/// The shortest secret, in bytes, that is looked for in documents. In the words of an error what a shorter one stood in is lost, and
/// nothing else; in a document it may be a part of ids, names and numbers that decisions are made upon.
const LEAST: usize = 8;

/// Secrets in every form, for the many texts of a document.
pub(super) struct Needles(Vec<String>);

impl Needles {
    /// Those that are long enough. What stands in `known`, our name at the panel, is no secret: rows carry it.
    pub(super) fn of(secrets: &[&str], known: &str) -> Self {
        let secrets = secrets.iter().filter(|s| s.len() >= LEAST && !known.contains(**s));
        let mut all: Vec<String> = secrets.flat_map(|secret| forms(secret)).collect();
        longest_first(&mut all);
        Self(all)
    }

    /// The text without them; `None` where it holds none. Most texts are shorter than any of them, and cost nothing.
    pub(super) fn taken_out(&self, text: &str) -> Option<String> {
        let held = |needle: &String| text.contains(needle.as_str());
        self.0.iter().any(held).then(|| self.0.iter().fold(text.to_owned(), |text, needle| text.replace(needle, BLOT)))
    }
}

/// A shorter form may be a part of a longer one.
fn longest_first(forms: &mut Vec<String>) {
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
}

/// How a secret may stand in a text, the longest form first.
fn forms(secret: &str) -> Vec<String> {
    let escaped = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let json = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let mut forms = vec![
        secret.to_owned(),
        escaped.replace('"', "&quot;"),
        escaped.replace('"', "&quot;").replace('\'', "&#39;"),
        escaped,
        json.replace('/', "\\/"),
        json,
    ];
    for upper in [true, false] {
        let strict = encoded(secret, upper, b"-._~");
        let form = encoded(secret, upper, b"-._*");
        forms.extend([strict.replace("%20", "+"), form.replace("%20", "+"), encoded(secret, upper, b""), strict, form]);
    }
    longest_first(&mut forms);
    forms
}

/// Percent-encoded, but for letters, digits and these.
fn encoded(text: &str, upper: bool, kept: &[u8]) -> String {
    text.bytes().fold(String::with_capacity(text.len() * 3), |mut out, byte| {
        // Writing to a String does not fail.
        let _ = match byte {
            _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => write!(out, "{}", char::from(byte)),
            _ if upper => write!(out, "%{byte:02X}"),
            _ => write!(out, "%{byte:02x}"),
        };
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_blotted_in_every_form() {
        let secret = "p+a&\"<s é/~*";
        for said in [
            "p+a&\"<s é/~*",
            "p+a&amp;\"&lt;s é/~*",
            "p+a&amp;&quot;&lt;s é/~*",
            "p+a&\\\"<s é/~*",
            "p+a&\\\"<s é\\/~*",
            "p%2Ba%26%22%3Cs%20%C3%A9%2F~%2A",
            "p%2Ba%26%22%3Cs+%C3%A9%2F~%2A",
            "p%2ba%26%22%3cs+%c3%a9%2f%7e*",
            "p%2Ba%26%22%3Cs%20%C3%A9%2F%7E%2A",
        ] {
            assert_eq!(blot(&format!("bad <{said}>!"), &[secret]), "bad <***>!", "{said}");
        }
        assert_eq!(blot("nothing here", &[secret, ""]), "nothing here");
        assert_eq!(blot("plain and plain%20", &["plain"]), "*** and ***%20");
    }

    #[test]
    fn a_document_loses_no_short_word_and_nothing_that_everybody_knows() {
        let out = |secrets: &[&str], text: &str| Needles::of(secrets, "dci-operator").taken_out(text);
        assert_eq!(out(&["1", "secret7", ""], "17 and secret7"), None);
        assert_eq!(out(&["operator"], "dci-operator"), None);
        assert_eq!(out(&["hush-hush"], "nothing"), None);
        assert_eq!(out(&["hush-hush", "op:hush-hush"], "R1 op:hush-hush, hush%2Dhush").as_deref(), Some("R1 ***, ***"));
    }
}
