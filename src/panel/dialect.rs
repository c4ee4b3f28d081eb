//! Overrides of calls that ispsystem-api.md marks inferred or unknown (design.md sections 2 and 9).

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::coremanager::params::Params;

/// The call that replaces the main address of a server (ispsystem-api.md 2.5: unknown).
pub const REPLACE_MAIN_ADDRESS: &str = "replaceMainAddress";

/// The call that runs one recipe on an installed system (ispsystem-api.md: unknown; no default).
pub const RUN_RECIPE: &str = "runRecipe";
/// The call that flags a server's disks for the panel's own cleaning (ispsystem-api.md 2.8: by policy; no default).
pub const FLAG_FOR_CLEANING: &str = "flagForCleaning";
/// The call that sets the password of a running system (no public fact at all): made only where the handler says how.
pub const SET_PASSWORD: &str = "setPassword";
/// The placeholder of a password. What it stands in is treated as a secret.
const PASSWORD: &str = "password";

/// Calls that may be overridden, with the placeholders that each fills in.
const KNOWN: &[(&str, &[&str])] = &[
    (REPLACE_MAIN_ADDRESS, &["server", "row", "address", "current", "group", "domain", "family"]),
    (RUN_RECIPE, &["server", "recipe"]),
    (FLAG_FOR_CLEANING, &["server"]),
    (SET_PASSWORD, &["server", PASSWORD]),
];

/// Why a dialect can't be used; each names the field of the handler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// Nobody would ever use it.
    #[error("spec.dialect.{call}: no such call; known: {known}")]
    UnknownCall {
        /// Call.
        call: String,
        /// Those that there are.
        known: String,
    },
    /// There is no function to call.
    #[error("spec.dialect.{0}.func: required for this panel; letters, digits, '.' and '_' only")]
    Func(String),
    /// The parameter has a placeholder that this call has no value for.
    #[error("spec.dialect.{call}.params.{param}: no placeholder {{{placeholder}}}; known: {known}")]
    UnknownPlaceholder {
        /// Call.
        call: String,
        /// Parameter.
        param: String,
        /// Placeholder.
        placeholder: String,
        /// What may be used.
        known: String,
    },
    /// A brace that opens or closes nothing.
    #[error("spec.dialect.{call}.params.{param}: a brace without its pair; write {{name}}")]
    Brace {
        /// Call.
        call: String,
        /// Parameter.
        param: String,
    },
    /// The client sets this one itself.
    #[error("spec.dialect.{call}.params.{param}: set by the operator itself; remove it")]
    Reserved {
        /// Call.
        call: String,
        /// Parameter.
        param: String,
    },
}

/// How one call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectCall {
    /// Function.
    pub func: String,
    /// Parameters; values may hold placeholders such as `{server}`.
    pub params: BTreeMap<String, String>,
}

impl DialectCall {
    /// The parameters with the placeholders filled in. What is filled in is never looked at again.
    #[must_use]
    pub fn fill(&self, values: &BTreeMap<&str, String>) -> Params {
        let mut params = Params::new();
        for (name, template) in &self.params {
            params.set(name, substitute(template, values));
        }
        params
    }

    /// The same with a password, which the parameters keep as a secret, alone and with what stands around it.
    #[must_use]
    pub fn fill_with(&self, values: &BTreeMap<&str, String>, password: Option<&SecretString>) -> Params {
        let Some(password) = password else { return self.fill(values) };
        let mut with = values.clone();
        with.insert(PASSWORD, password.expose_secret().to_owned());
        let mut params = Params::new();
        for (name, template) in &self.params {
            let secret = parts(template).unwrap_or_default().iter().any(|part| matches!(part, Part::Placeholder(PASSWORD)));
            let text = substitute(template, &with);
            if secret {
                if text != password.expose_secret() {
                    params = params.secret_part(password);
                }
                params = params.secret(name, &SecretString::from(text));
            } else {
                params.set(name, text);
            }
        }
        params
    }

    /// Whether this sends an edit form, which has to be read first (ispsystem-api.md 1.3, modify).
    #[must_use]
    pub fn is_edit(&self) -> bool {
        self.func.rsplit('.').next() == Some("edit") && self.params.contains_key("elid") && self.params.contains_key("sok")
    }
}

/// How the calls are made where ispsystem-api.md does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    calls: BTreeMap<String, DialectCall>,
}

impl Default for Dialect {
    /// The inferred defaults of DCImanager 5.
    fn default() -> Self {
        let params =
            [("elid", "{row}"), ("plid", "{server}"), ("sok", "ok"), ("ip", "{address}"), ("domain", "{domain}"), ("iptype", "{group}")];
        let params = params.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let call = DialectCall { func: "iplist.edit".to_owned(), params };
        Self { calls: BTreeMap::from([(REPLACE_MAIN_ADDRESS.to_owned(), call)]) }
    }
}

impl Dialect {
    /// The defaults with these overrides: call name, function, parameters. Every name and placeholder is checked here.
    pub fn new<'a, I>(overrides: I) -> Result<Self, DialectError>
    where
        I: IntoIterator<Item = (&'a str, &'a str, &'a BTreeMap<String, String>)>,
    {
        Self::checked(KNOWN, Self::default().calls, overrides)
    }

    /// These calls with overrides. `known` lists every call that may be overridden, with its placeholders.
    pub fn checked<'a, I>(known: &[(&str, &[&str])], defaults: BTreeMap<String, DialectCall>, overrides: I) -> Result<Self, DialectError>
    where
        I: IntoIterator<Item = (&'a str, &'a str, &'a BTreeMap<String, String>)>,
    {
        let mut dialect = Self { calls: defaults };
        for (call, func, params) in overrides {
            let (_, placeholders) = known.iter().find(|(name, _)| *name == call).ok_or_else(|| {
                let known = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                DialectError::UnknownCall { call: call.to_owned(), known }
            })?;
            if func.is_empty() || !func.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')) {
                return Err(DialectError::Func(call.to_owned()));
            }
            for (param, template) in params {
                if RESERVED.contains(&param.as_str()) {
                    return Err(DialectError::Reserved { call: call.to_owned(), param: param.clone() });
                }
                check(call, param, template, placeholders)?;
            }
            let entry = DialectCall { func: func.to_owned(), params: params.clone() };
            dialect.calls.insert(call.to_owned(), entry);
        }
        Ok(dialect)
    }

    /// How this call is made; `None`: the handler has to say.
    #[must_use]
    pub fn call(&self, name: &str) -> Option<&DialectCall> {
        self.calls.get(name)
    }
}

/// Parameters that carry the session, the format and the function.
const RESERVED: &[&str] = &["auth", "authinfo", "func", "lang", "out", "su", "username", "password"];

/// Text and placeholders of a template, in turn.
enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Takes a template apart; `None` when a brace has no pair.
fn parts(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at(at);
        parts.push(Part::Text(text));
        let (name, after) = tail.strip_prefix('{')?.split_once('}')?;
        if name.contains('{') {
            return None;
        }
        parts.push(Part::Placeholder(name));
        rest = after;
    }
    parts.push(Part::Text(rest));
    Some(parts)
}

fn check(call: &str, param: &str, template: &str, known: &[&str]) -> Result<(), DialectError> {
    let brace = || DialectError::Brace { call: call.to_owned(), param: param.to_owned() };
    for part in parts(template).ok_or_else(brace)? {
        match part {
            Part::Text(_) => {}
            Part::Placeholder(name) if known.contains(&name) => {}
            Part::Placeholder(name) => {
                return Err(DialectError::UnknownPlaceholder {
                    call: call.to_owned(),
                    param: param.to_owned(),
                    placeholder: name.to_owned(),
                    known: known.join(", "),
                });
            }
        }
    }
    Ok(())
}

fn substitute(template: &str, values: &BTreeMap<&str, String>) -> String {
    let mut text = String::new();
    for part in parts(template).unwrap_or_default() {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Placeholder(name) => text.push_str(values.get(name).map_or("", String::as_str)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(call: &str, func: &str, param: &str, value: &str) -> Result<Dialect, DialectError> {
        let params = BTreeMap::from([(param.to_owned(), value.to_owned())]);
        Dialect::new([(call, func, &params)])
    }

    #[test]
    fn the_default_edits_the_main_row() {
        let dialect = Dialect::default();
        let call = dialect.call(REPLACE_MAIN_ADDRESS).unwrap();
        assert!(call.is_edit());
        let values = BTreeMap::from([("row", "501".to_owned()), ("server", "17".to_owned()), ("address", "{row}".to_owned())]);
        let params = call.fill(&values);
        assert_eq!(params.get("elid"), Some("501"));
        assert_eq!(params.get("plid"), Some("17"));
        assert_eq!(params.get("ip"), Some("{row}"), "a value is not a template");
        assert_eq!(params.get("domain"), Some(""));
        assert_eq!(dialect.call("runRecipe"), None);
    }

    #[test]
    fn an_override_replaces_the_whole_call() {
        let dialect = one(REPLACE_MAIN_ADDRESS, "server.edit", "specialip", "a{address}b{current}").unwrap();
        let call = dialect.call(REPLACE_MAIN_ADDRESS).unwrap();
        assert_eq!(call.params.len(), 1);
        assert!(!call.is_edit());
        let values = BTreeMap::from([("address", "1".to_owned()), ("current", "2".to_owned())]);
        assert_eq!(call.fill(&values).get("specialip"), Some("a1b2"));
    }

    #[test]
    fn mistakes_are_named_where_they_stand() {
        for (result, text) in [
            (
                one("replaceMainIp", "x", "a", ""),
                "spec.dialect.replaceMainIp: no such call; known: replaceMainAddress, runRecipe, flagForCleaning, setPassword",
            ),
            (one(REPLACE_MAIN_ADDRESS, "a b", "a", ""), "spec.dialect.replaceMainAddress.func: required"),
            (one(REPLACE_MAIN_ADDRESS, "", "a", ""), "spec.dialect.replaceMainAddress.func: required"),
            (
                one(REPLACE_MAIN_ADDRESS, "x", "a", "{servr}"),
                "spec.dialect.replaceMainAddress.params.a: no placeholder {servr}; known: server, row",
            ),
            (one(REPLACE_MAIN_ADDRESS, "x", "a", "{"), "a brace without its pair"),
            (one(REPLACE_MAIN_ADDRESS, "x", "a", "}{"), "a brace without its pair"),
            (one(REPLACE_MAIN_ADDRESS, "x", "a", "{{row}}"), "a brace without its pair"),
            (one(REPLACE_MAIN_ADDRESS, "x", "authinfo", "a:b"), "spec.dialect.replaceMainAddress.params.authinfo: set by the operator"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_password_is_filled_in_and_never_shown() {
        let params = BTreeMap::from([("elid".to_owned(), "{server}".to_owned()), ("passwd".to_owned(), "{password}".to_owned())]);
        let dialect = Dialect::new([(SET_PASSWORD, "server.passwd", &params)]).unwrap();
        let password = SecretString::from("hush{server}");
        let filled = dialect.call(SET_PASSWORD).unwrap().fill_with(&BTreeMap::from([("server", "17".to_owned())]), Some(&password));
        assert_eq!(filled.expose(), [("elid", "17"), ("passwd", "hush{server}")], "a password is no template");
        assert_eq!(filled.secrets(), ["hush{server}"]);
        assert!(!format!("{filled:?}").contains("hush"));
        let params = BTreeMap::from([("cred".to_owned(), "root:{password}".to_owned())]);
        let dialect = Dialect::new([(SET_PASSWORD, "server.passwd", &params)]).unwrap();
        let filled = dialect.call(SET_PASSWORD).unwrap().fill_with(&BTreeMap::new(), Some(&password));
        assert_eq!(filled.expose(), [("cred", "root:hush{server}")]);
        assert_eq!(filled.secrets(), ["root:hush{server}", "hush{server}"], "a panel may repeat the one or the other");
        assert!(!format!("{filled:?}").contains("hush"));
        assert_eq!(Params::new().with("sok", "ok").and(filled).secrets(), ["root:hush{server}", "hush{server}"]);
        assert_eq!(Dialect::default().call(SET_PASSWORD), None, "there is no default");
        let error = one(REPLACE_MAIN_ADDRESS, "x", "a", "{password}").unwrap_err().to_string();
        assert!(error.contains("no placeholder {password}"), "{error}");
    }

    proptest! {
        #[test]
        fn no_template_breaks_it(template in "[{}a-z ]{0,20}", value in "\\PC{0,8}") {
            let _ = one(REPLACE_MAIN_ADDRESS, "x", "a", &template);
            let values = BTreeMap::from([("row", value)]);
            let _ = substitute(&template, &values);
        }
    }
}
