//! How a licence server is asked, as data: what a vendor-published client sends (ispsystem-api.md 5.6), open to overrides.

use std::collections::BTreeMap;

use crate::panel::dialect::{Dialect, DialectCall, DialectError};

/// The list of licences (inferred).
pub const LIST: &str = "listLicenses";
/// One licence.
pub const READ: &str = "readLicense";
/// A new one.
pub const ORDER: &str = "orderLicense";
/// Address, name and remote id.
pub const EDIT: &str = "editLicense";
/// Another period.
pub const RENEW: &str = "renewLicense";
/// Stop.
pub const SUSPEND: &str = "suspendLicense";
/// Start again.
pub const RESUME: &str = "resumeLicense";

/// Calls that may be overridden, with the placeholders that each fills in.
const KNOWN: &[(&str, &[&str])] = &[
    (LIST, &[]),
    (READ, &["license"]),
    (ORDER, &["pricelist", "period", "address", "name", "project", "remoteId"]),
    (EDIT, &["license", "address", "name", "remoteId"]),
    (RENEW, &["license", "period"]),
    (SUSPEND, &["license"]),
    (RESUME, &["license"]),
];

type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The calls of the published client; `soft` as list is inferred.
const DEFAULTS: [Row; 7] = [
    (LIST, "soft", &[]),
    (READ, "soft.edit", &[("elid", "{license}")]),
    (
        ORDER,
        "soft.order.param",
        &[
            ("pricelist", "{pricelist}"),
            ("period", "{period}"),
            ("ip", "{address}"),
            ("licname", "{name}"),
            ("remoteid", "{remoteId}"),
            ("sok", "ok"),
            ("skipbasket", "on"),
            ("clicked_button", "finish"),
        ],
    ),
    (EDIT, "soft.edit", &[("elid", "{license}"), ("ip", "{address}"), ("licname", "{name}"), ("remoteid", "{remoteId}"), ("sok", "ok")]),
    (RENEW, "service.prolong", &[("elid", "{license}"), ("period", "{period}"), ("sok", "ok")]),
    (SUSPEND, "soft.suspend", &[("elid", "{license}")]),
    (RESUME, "soft.resume", &[("elid", "{license}")]),
];

/// The dialect of a licence server with these overrides: call name, function, parameters.
pub fn dialect<'a, I>(overrides: I) -> Result<Dialect, DialectError>
where
    I: IntoIterator<Item = (&'a str, &'a str, &'a BTreeMap<String, String>)>,
{
    let defaults = DEFAULTS.iter().map(|(name, func, params)| {
        let params = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        ((*name).to_owned(), DialectCall { func: (*func).to_owned(), params })
    });
    Dialect::checked(KNOWN, defaults.collect(), overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_call_has_a_default_with_known_placeholders_only() {
        for (name, func, params) in DEFAULTS {
            let params: BTreeMap<String, String> = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let made = dialect([(name, func, &params)]).unwrap();
            assert_eq!(made.call(name).map(|c| c.func.as_str()), Some(func));
            assert_eq!(made, dialect([]).unwrap(), "an override by the default changes nothing");
        }
        assert_eq!(KNOWN.len(), DEFAULTS.len());
    }

    #[test]
    fn a_call_of_another_product_is_refused_with_those_that_there_are() {
        let error = dialect([("replaceMainAddress", "iplist.edit", &BTreeMap::new())]).unwrap_err().to_string();
        assert!(error.contains("no such call; known: listLicenses, readLicense, orderLicense"), "{error}");
    }
}
