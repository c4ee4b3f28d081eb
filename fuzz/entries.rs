//! What is fuzzed: one function for each parser of what panels and people write. It panics where the parser broke a promise.
//!
//! Shared by the targets of cargo-fuzz (`fuzz_targets/`) and by the harness that runs on stable (`tests/fuzz.rs`). Needs no
//! feature of the crate. A new one is a function, a line in [`ALL`], a target, and a
//! directory of seeds in `corpus/`.

use std::collections::BTreeMap;

use dci_operator::api::Duration;
use dci_operator::panel::billmanager6::{calls, parse as licenses};
use dci_operator::panel::coremanager::document::{Answer, Document};
use dci_operator::panel::dcimanager5::parse;
use dci_operator::panel::dialect::{Dialect, FLAG_FOR_CLEANING, REPLACE_MAIN_ADDRESS, RUN_RECIPE, SET_PASSWORD};
use dci_operator::panel::error::MAX_TEXT;
use dci_operator::panel::ipmanager5::parse as pool;
use dci_operator::panel::license::LicenseId;
use dci_operator::panel::model::{Expect, NotesEdit, OwnerEdit, ServerEdit, ServerId};
use dci_operator::provisioning::hardware::Hardware;

/// A parser under its name, which is also the name of its corpus. It tells whether the input was accepted: what is refused at once
/// shows little.
pub type Entry = (&'static str, fn(&[u8]) -> bool);

/// All entries.
pub const ALL: [Entry; 4] = [("documents", documents), ("dialect", dialect), ("durations", durations), ("configurations", configurations)];

/// A secret that stands in some seeds: nothing that is read may show it.
const SECRET: &str = "pl4nted";

/// Fields that carry session, format and function: no dialect sets them.
const RESERVED: [&str; 6] = ["auth", "func", "out", "su", "username", "password"];

/// Documents of the COREmanager protocol, and everything that is read out of them.
pub fn documents(bytes: &[u8]) -> bool {
    let document = match Document::parse(bytes, &[SECRET]) {
        Ok(Answer::Document(document)) => document,
        Ok(Answer::Error(error)) => {
            assert!(!error.to_string().contains(SECRET), "an error shows a secret");
            assert!(error.message.len() <= MAX_TEXT, "an error is longer than {MAX_TEXT} bytes");
            return true;
        }
        Err(malformed) => {
            assert!(!malformed.to_string().contains(SECRET), "what is malformed is repeated");
            return false;
        }
    };
    assert!(bytes.windows(3).any(|w| w == b"doc") || bytes.contains(&b'\\'), "a document, where none was sent");
    let _ = (document.total(), document.options("ostemplate"), document.func(), parse::install_form(&document));
    for row in document.rows().unwrap_or_default() {
        if let Ok(server) = parse::server_row(&row) {
            assert!(!server.id.0.is_empty(), "a server without an id");
        }
        let _ = (parse::user_row(&row), parse::address_row(&row), parse::connection_row(&row), pool::pool_row(&row));
        if let Ok(license) = licenses::license_row(&row) {
            assert!(!license.id.0.is_empty(), "a licence without an id");
        }
    }
    let _ = (licenses::license_form(&document, &LicenseId("17".into())), licenses::prolonged(&document));
    let server = ServerId::from("17");
    if let Ok(form) = parse::server_form(&document, &server) {
        let edit = ServerEdit { expect: Expect::Free, owner: OwnerEdit::Nobody, notes: NotesEdit::Add("k8s:a/b/c/d".into()) };
        let sent = parse::edited_form(&document, &form, &edit);
        assert!(sent.iter().any(|(name, value)| name == "notes" && value.contains("k8s:a/b/c/d")), "an edit lost the marker");
        assert!(sent.iter().all(|(name, _)| !["elid", "func", "auth", "su"].contains(&name.as_str())), "a form chose its own function");
        let _ = parse::unmet(&edit.expect, &form);
    }
    true
}

/// Dialect entries: lines of `call`, `func`, then `name=template` each.
pub fn dialect(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (call, func) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let params: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once('=')).map(|(name, template)| (name.to_owned(), template.to_owned())).collect();
    let sold = calls::dialect([(call, func, &params)]);
    let for_licenses = sold.is_ok();
    if let Ok(sold) = sold {
        let filled =
            sold.call(call).map(|made| made.fill(&BTreeMap::from([("license", "{remoteid}".to_owned()), ("remoteid", "}{".to_owned())])));
        assert!(filled.is_some_and(|f| RESERVED.iter().all(|name| f.get(name).is_none())), "a licence server's dialect chose the session");
    }
    let Ok(dialect) = Dialect::new([(call, func, &params)]) else { return for_licenses };
    assert!([REPLACE_MAIN_ADDRESS, RUN_RECIPE, FLAG_FOR_CLEANING, SET_PASSWORD].contains(&call), "a call that nobody makes was accepted");
    let Some(made) = dialect.call(call) else { panic!("an accepted call is not there") };
    // What is filled in may look like a placeholder itself; it is never looked at again.
    let filled = made.fill(&BTreeMap::from([("server", "{row}".to_owned()), ("row", "never".to_owned()), ("address", "}{".to_owned())]));
    for (name, template) in &params {
        let sent = filled.get(name);
        assert!(sent.is_some(), "parameter {name} is not sent");
        if template == "{server}" {
            assert_eq!(sent, Some("{row}"), "a value was taken for a template");
        }
    }
    assert!(RESERVED.iter().all(|name| filled.get(name).is_none()), "a dialect chose the session");
    true
}

/// Durations: what is accepted is what a plain reading gives, and reads back as the same, if it is short enough to be written in four
/// parts.
pub fn durations(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let plain = milliseconds(&text);
    match Duration::parse(&text) {
        Ok(duration) => {
            assert_eq!(Some(duration.0.as_millis()), plain, "{text:?}");
            assert!(text.is_ascii() && text.len() <= 44, "a duration of {} bytes", text.len());
            let written = duration.to_string();
            match Duration::parse(&written) {
                Ok(again) => assert_eq!(again, duration, "{text:?} is written as {written:?}"),
                // Four parts of up to 99999h are longer than one part of hours may be.
                Err(_) => assert!(duration.0.as_secs() > 99_999 * 3600, "{text:?} is written as {written:?}, which is none"),
            }
            true
        }
        Err(error) => {
            assert!(plain.is_none(), "{text:?} is refused");
            assert!(error.to_string().len() < 256, "the error repeats too much");
            false
        }
    }
}

/// One to four numbers, each with its unit, one character after the other.
fn milliseconds(text: &str) -> Option<u128> {
    let (mut total, mut number, mut parts) = (0, String::new(), 0);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let (longest, unit) = match (c, rest.peek()) {
            ('m', Some('s')) => {
                rest.next();
                (9, 1)
            }
            ('s', _) => (9, 1000),
            ('m', _) => (7, 60_000),
            ('h', _) => (5, 3_600_000),
            (_, _) => return None,
        };
        if number.len() > longest {
            return None;
        }
        total += number.parse::<u128>().ok()? * unit;
        number.clear();
        parts += 1;
    }
    (number.is_empty() && (1..=4).contains(&parts)).then_some(total)
}

/// The grammar of configurations: what is shown reads back as the same hardware, and no word of it is lost.
pub fn configurations(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let read = Hardware::parse(&text);
    let shown = read.to_string();
    assert_eq!(Hardware::parse(&shown).to_string(), shown, "what is shown does not read back");
    if read.is_unknown() {
        return false;
    }
    // Letters of any case, and numbers without the zeros before them: `01920ssd` is `1920SSD`.
    let kept = shown.to_lowercase();
    for word in words(&text) {
        // A unit is understood, not repeated.
        let bare = ["gib", "gb", "tib", "tb", "g", "t"].iter().find_map(|unit| word.strip_prefix(unit));
        assert!(kept.contains(&word) || bare.is_some_and(|rest| kept.contains(rest)), "{word:?} of {text:?} is not in {shown:?}");
    }
    true
}

/// Runs of letters, and numbers, in small letters. How many there are of one kind is added up, so that counts (`12x`) are none, nor
/// is what has another unit in the end (`2TB`) or is rounded.
fn words(text: &str) -> Vec<String> {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let kind = |c: &char| if c.is_ascii_digit() { 0 } else { 1 + u8::from(c.is_alphanumeric()) };
    let (mut found, mut point) = (Vec::new(), false);
    let mut runs = text.chunk_by(|a, b| kind(a) == kind(b)).peekable();
    while let Some(run) = runs.next() {
        let counts = runs.peek().is_some_and(|next| ['x', '×', '*', 't', '.', ','].contains(&next[0]));
        let fraction = std::mem::replace(&mut point, run.ends_with(&['.']) || run.ends_with(&[',']));
        match kind(&run[0]) {
            0 if !counts && !fraction => found.push(run.iter().collect::<String>().trim_start_matches('0').to_owned()),
            2 if !['x', '×'].contains(&run[0]) => found.push(run.iter().collect()),
            _ => {}
        }
    }
    found
}
