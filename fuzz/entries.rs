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

/// A parser under its name, which is also the name of its corpus.
pub type Entry = (&'static str, fn(&[u8]));

/// All entries.
pub const ALL: [Entry; 4] = [("documents", documents), ("dialect", dialect), ("durations", durations), ("configurations", configurations)];

/// A secret that stands in some seeds: nothing that is read may show it.
const SECRET: &str = "pl4nted";

/// Fields that carry session, format and function: no dialect sets them.
const RESERVED: [&str; 6] = ["auth", "func", "out", "su", "username", "password"];

/// Documents of the COREmanager protocol, and everything that is read out of them.
pub fn documents(bytes: &[u8]) {
    let document = match Document::parse(bytes, &[SECRET]) {
        Ok(Answer::Document(document)) => document,
        Ok(Answer::Error(error)) => {
            assert!(!error.to_string().contains(SECRET), "an error shows a secret");
            assert!(error.message.len() <= MAX_TEXT, "an error is longer than {MAX_TEXT} bytes");
            return;
        }
        Err(malformed) => {
            assert!(!malformed.to_string().contains(SECRET), "what is malformed is repeated");
            return;
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
    let _ = licenses::license_form(&document, &LicenseId("17".into()));
    let server = ServerId::from("17");
    if let Ok(form) = parse::server_form(&document, &server) {
        let edit = ServerEdit { expect: Expect::Free, owner: OwnerEdit::Nobody, notes: NotesEdit::Add("k8s:a/b/c/d".into()) };
        let sent = parse::edited_form(&document, &form, &edit);
        assert!(sent.iter().any(|(name, value)| name == "notes" && value.contains("k8s:a/b/c/d")), "an edit lost the marker");
        assert!(sent.iter().all(|(name, _)| !["elid", "func", "auth", "su"].contains(&name.as_str())), "a form chose its own function");
        let _ = parse::unmet(&edit.expect, &form);
    }
}

/// Dialect entries: lines of `call`, `func`, then `name=template` each.
pub fn dialect(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (call, func) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let params: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once('=')).map(|(name, template)| (name.to_owned(), template.to_owned())).collect();
    if let Ok(sold) = calls::dialect([(call, func, &params)]) {
        let filled =
            sold.call(call).map(|made| made.fill(&BTreeMap::from([("license", "{remoteid}".to_owned()), ("remoteid", "}{".to_owned())])));
        assert!(filled.is_some_and(|f| RESERVED.iter().all(|name| f.get(name).is_none())), "a licence server's dialect chose the session");
    }
    let Ok(dialect) = Dialect::new([(call, func, &params)]) else { return };
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
}

/// Durations: what is accepted reads back as the same, if it is short enough to be written in four parts.
pub fn durations(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Duration::parse(&text) {
        Ok(duration) => {
            assert!(text.is_ascii() && text.len() <= 44, "a duration of {} bytes", text.len());
            let written = duration.to_string();
            match Duration::parse(&written) {
                Ok(again) => assert_eq!(again, duration, "{text:?} is written as {written:?}"),
                // Four parts of up to 99999h are longer than one part of hours may be.
                Err(_) => assert!(duration.0.as_secs() > 99_999 * 3600, "{text:?} is written as {written:?}, which is none"),
            }
        }
        Err(error) => assert!(error.to_string().len() < 256, "the error repeats too much"),
    }
}

/// The grammar of configurations: what is shown reads back as the same hardware, and no word of it is lost.
pub fn configurations(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = Hardware::parse(&text);
    let shown = read.to_string();
    assert_eq!(Hardware::parse(&shown).to_string(), shown, "what is shown does not read back");
}
