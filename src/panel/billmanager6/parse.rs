//! Reads the rows and forms of a licence server (ispsystem-api.md 5.6), without any I/O.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use secrecy::SecretString;

use crate::panel::coremanager::document::{Document, Fields};
use crate::panel::coremanager::values::{address, same_object};
use crate::panel::license::{LicenseForm, LicenseId, LicenseRow, LicenseState};

/// A row of `soft` (inferred; the names of its fields are those of the form).
pub fn license_row(row: &Fields<'_>) -> Result<LicenseRow, String> {
    Ok(LicenseRow {
        id: LicenseId(row.opt("id").ok_or("id in one of its rows")?),
        name: row.opt("licname").or_else(|| row.opt("name")).unwrap_or_default(),
        address: row.opt("ip").and_then(|text| address(&text)),
        // A list that leaves an empty remote id out is not told from one that never shows any: the form tells.
        remote_id: row.has("remoteid").then(|| row.opt("remoteid").unwrap_or_default()),
        by_form: false,
        state: row.opt("status").map_or(LicenseState::Unknown, |text| state(&text)),
        // One licence of the account with a date of another form keeps nobody from the others: its own form tells what stands there.
        expires: row.opt("expiredate").and_then(|text| date(&text).ok().flatten()),
    })
}

/// Item statuses (ispsystem-api.md 5.1).
fn state(text: &str) -> LicenseState {
    match text {
        "1" | "5" => LicenseState::Ordered,
        "2" => LicenseState::Active,
        "3" => LicenseState::Suspended,
        "4" => LicenseState::Deleted,
        _ => LicenseState::Unknown,
    }
}

/// The view of `soft.edit`: `lickey` may be empty at first (confirmed).
///
/// A document that shows neither remote id nor key nor date is no form of a licence.
pub fn license_form(document: &Document, id: &LicenseId) -> Result<LicenseForm, String> {
    let form = document.fields();
    if !["remoteid", "lickey", "expiredate"].iter().any(|name| form.has(name)) {
        return Err("the form of a licence (remoteid, lickey, expiredate)".to_owned());
    }
    same_object(&form, &id.0)?;
    Ok(LicenseForm {
        name: form.opt("licname").or_else(|| form.opt("name")).unwrap_or_default(),
        // Only key and date are confirmed: a form without these says nothing of what the licence is bound to, and of whose it is.
        address: form.has("ip").then(|| form.opt("ip").and_then(|text| address(&text)).unwrap_or(Ipv4Addr::UNSPECIFIED.into())),
        remote_id: form.has("remoteid").then(|| form.opt("remoteid").unwrap_or_default()),
        key: form.opt("lickey").map(SecretString::from),
        expires: form.opt("expiredate").map_or(Ok(None), |text| date(&text)),
    })
}

/// The new end in the answer to `service.prolong`, a document in the document (confirmed); `None` where none is named.
#[must_use]
pub fn prolonged(document: &Document) -> Option<Timestamp> {
    let answer = document.fields();
    let inner = answer.children("doc").unwrap_or_default();
    let end = inner.first().and_then(|doc| doc.opt("newexpiredate")).or_else(|| answer.opt("newexpiredate"))?;
    date(&end).ok().flatten()
}

/// The beginning of a day, UTC; `None` where nothing or zeros stand: such a licence does not end. The form of a date is not known
/// (ispsystem-api.md 5.6): what else is no day of this era is given back as it stands there, since nobody knows when that licence ends.
pub fn date(text: &str) -> Result<Option<Timestamp>, String> {
    let text = text.trim();
    let day = text.split(['T', ' ']).next().unwrap_or_default();
    if text.is_empty() || (!day.is_empty() && day.chars().all(|c| matches!(c, '0' | '-' | '.' | '/'))) {
        return Ok(None);
    }
    let date = day.parse::<Date>().ok().filter(|date| date.year() >= 1970 && day.len() == 10);
    let at = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok()).map(|zoned| zoned.timestamp());
    at.map(Some).ok_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::coremanager::document::Answer;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    fn document(json: &str) -> Document {
        match Document::parse(json.as_bytes(), &[]).unwrap() {
            Answer::Document(document) => document,
            Answer::Error(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn rows_tell_what_they_show() {
        let list = document(
            r#"{"doc":{"$func":"soft","elem":[
                {"id":{"$":"7001"},"licname":{"$":"a.example"},"ip":{"$":"203.0.113.7"},"remoteid":{"$":"k8s:u/Lite"},
                 "status":{"$":"Active","$orig":"2"},"expiredate":{"$":"2026-12-22"}},
                {"id":{"$":"7002"},"remoteid":{},"status":{"$":"3"},"expiredate":{"$":"2026-12-22 10:00:00"}},
                {"id":{"$":"7003"},"status":{"$":"stopped"},"expiredate":{"$":"0000-00-00"},"ip":{"$":"none"}}]}}"#,
        );
        let rows: Vec<LicenseRow> = list.rows().unwrap().iter().map(|row| license_row(row).unwrap()).collect();
        let at = Some("2026-12-22T00:00:00Z".parse().unwrap());
        assert_eq!((rows[0].remote_id.as_deref(), rows[0].state, rows[0].expires), (Some("k8s:u/Lite"), LicenseState::Active, at));
        assert_eq!(rows[0].address, "203.0.113.7".parse().ok());
        assert_eq!((rows[1].remote_id.as_deref(), rows[1].state, rows[1].expires), (Some(""), LicenseState::Suspended, at));
        assert_eq!((rows[2].remote_id.as_deref(), rows[2].state, rows[2].expires), (None, LicenseState::Unknown, None));
        let foreign = document(r#"{"doc":{"elem":{"id":{"$":"7004"},"expiredate":{"$":"22.12.2026"}}}}"#);
        assert_eq!(license_row(&foreign.rows().unwrap()[0]).unwrap().expires, None, "the others can be read");
        let bad = document(r#"{"doc":{"elem":{"licname":{"$":"x"}}}}"#);
        assert!(license_row(&bad.rows().unwrap()[0]).is_err());
    }

    #[test]
    fn a_form_is_a_licence_s() {
        let id = LicenseId::from("7001");
        let form = document(r#"{"doc":{"elid":{"$":"7001"},"remoteid":{"$":"k8s:u/Lite"},"lickey":{},"expiredate":{"$":"2026-12-22"}}}"#);
        let form = license_form(&form, &id).unwrap();
        assert!(form.key.is_none() && form.remote_id.as_deref() == Some("k8s:u/Lite"));
        let keyed = document(r#"{"doc":{"lickey":{"$":" KEY-1 "}}}"#);
        assert_eq!(license_form(&keyed, &id).unwrap().key.unwrap().expose_secret(), "KEY-1");
        assert_eq!(license_form(&keyed, &id).unwrap().remote_id, None, "whose it is, it does not tell");
        let freed = document(r#"{"doc":{"remoteid":{},"lickey":{"$":"KEY-1"}}}"#);
        assert_eq!(license_form(&freed, &id).unwrap().remote_id.as_deref(), Some(""), "nobody's");
        assert_eq!(license_form(&keyed, &id).unwrap().address, None, "nor what it is bound to");
        for (shown, expected) in [(r#"{"$":"203.0.113.7"}"#, "203.0.113.7"), ("{}", "0.0.0.0"), (r#"{"$":"none"}"#, "0.0.0.0")] {
            let form = document(&format!(r#"{{"doc":{{"lickey":{{}},"ip":{shown}}}}}"#));
            assert_eq!(license_form(&form, &id).unwrap().address, expected.parse().ok(), "{shown}");
        }
        for other in [r#"{"doc":{"ok":{}}}"#, r#"{"doc":{"elid":{"$":"9"},"remoteid":{"$":"x"}}}"#] {
            assert!(license_form(&document(other), &id).is_err(), "{other}");
        }
        assert!(!format!("{:?}", license_form(&keyed, &id).unwrap()).contains("KEY-1"), "a key never shows");
    }

    #[test]
    fn an_end_that_is_not_understood_is_none_that_does_not_come() {
        let at = "2026-12-22T00:00:00Z".parse().unwrap();
        for never in ["", " ", "0000-00-00", "0000-00-00 00:00:00", "00.00.0000", "0", "-"] {
            assert_eq!(date(never), Ok(None), "{never}");
        }
        for day in ["2026-12-22", " 2026-12-22 ", "2026-12-22 10:00:00", "2026-12-22T10:00:00Z"] {
            assert_eq!(date(day), Ok(Some(at)), "{day}");
        }
        for unclear in
            ["22.12.2026", "12/22/2026", "2026-12-32", "20261222", "1969-12-31", "1798848000", "Thu 22 Dec", "Today", "soon", "0x"]
        {
            assert_eq!(date(unclear), Err(unclear.to_owned()));
        }
        let form = document(r#"{"doc":{"remoteid":{"$":"k8s:u/Lite"},"expiredate":{"$":"22.12.2026"}}}"#);
        let form = license_form(&form, &LicenseId::from("7001")).unwrap();
        assert_eq!((form.remote_id.as_deref(), form.expires), (Some("k8s:u/Lite"), Err("22.12.2026".to_owned())), "whose it is, it tells");
        let form = document(r#"{"doc":{"lickey":{},"expiredate":{}}}"#);
        assert_eq!(license_form(&form, &LicenseId::from("7001")).unwrap().expires, Ok(None));
    }

    #[test]
    fn a_renewal_names_the_new_end() {
        let at = "2027-01-22T00:00:00Z".parse().ok();
        let named = [
            r#"{"doc":{"doc":{"newexpiredate":{"$":"2027-01-22"}},"ok":{}}}"#,
            r#"{"doc":{"doc":[{"newexpiredate":{"$":"22 Jan","$orig":"2027-01-22"}}]}}"#,
            r#"{"doc":{"newexpiredate":{"$":"2027-01-22 00:00:00"}}}"#,
        ];
        for answer in named {
            assert_eq!(prolonged(&document(answer)), at, "{answer}");
        }
        for answer in [r#"{"doc":{"ok":{}}}"#, r#"{"doc":{"doc":"x"}}"#, r#"{"doc":{"doc":{"newexpiredate":{"$":"soon"}}}}"#] {
            assert_eq!(prolonged(&document(answer)), None, "{answer}");
        }
    }

    proptest! {
        #[test]
        fn no_date_panics(text in "\\PC{0,20}") {
            let _ = date(&text);
        }
    }
}
