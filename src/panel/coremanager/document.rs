//! Reads the JSON documents of the COREmanager protocol (ispsystem-api.md 1.3 and 1.4), without any I/O.
//!
//! The panels made this form out of XML: text stands under `$`, attributes under `$name`, a list of one element is that
//! element, an empty list is no member at all, and an empty element is `{}`. Nothing here trusts the shape: what cannot be
//! read is an error or empty, never a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::panel::error::{ErrorDocument, MAX_TEXT};

use super::blot::{BLOT, Needles, blot};
use super::node::{Members, Node};

/// The largest list that is read, in bytes: in one answer, or all its pages together.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// The largest of all other answers that is read, in bytes. Forms may offer long choices.
pub const MAX_FORM: usize = 4 * 1024 * 1024;

/// Why bytes are not a document. The text never repeats the bytes: a proxy may echo the request, with the password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than [`MAX_BODY`].
    #[error("more than {MAX_BODY} bytes")]
    TooLarge,
    /// Nothing at all.
    #[error("an empty body")]
    Empty,
    /// A page for people: a proxy's, or the panel's own while it is being updated (ispsystem-api.md 1.4).
    #[error("an HTML or XML page of {0} bytes")]
    Markup(usize),
    /// Not JSON, or cut off, or not UTF-8, or nested deeper than the parser goes.
    #[error("{length} bytes that are not JSON (line {line}, column {column})")]
    NotJson {
        /// Bytes received.
        length: usize,
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// JSON, but without an object `doc`.
    #[error("JSON without an object doc")]
    NoDocument,
    /// There is an error member, but it says nothing.
    #[error("an error without type and text")]
    MuteError,
}

/// What a panel answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A document without an error.
    Document(Document),
    /// An error document (ispsystem-api.md 1.4).
    Error(ErrorDocument),
}

/// A document without an error: the members of `doc`.
#[derive(Clone, PartialEq)]
pub struct Document {
    members: Members,
    size: usize,
}

impl fmt::Debug for Document {
    /// Names only: an answer may carry a session or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members.names()).finish()
    }
}

impl Document {
    /// Reads an answer. `secrets` are blotted out of the panel's texts, which may repeat a refused value.
    pub fn parse(body: &[u8], secrets: &[&str]) -> Result<Answer, Malformed> {
        let size = body.len();
        if size > MAX_BODY {
            return Err(Malformed::TooLarge);
        }
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match body.iter().find(|b| !b.is_ascii_whitespace()) {
            None => return Err(Malformed::Empty),
            Some(b'<') => return Err(Malformed::Markup(body.len())),
            Some(_) => {}
        }
        let value = Node::parse(body).map_err(|e| Malformed::NotJson { length: body.len(), line: e.line(), column: e.column() })?;
        let Node::Object(top) = value else { return Err(Malformed::NoDocument) };
        // Some answers carry the error beside `doc` or without it (ispsystem-api.md 1.4, confirmed).
        if let Some(error) = error_member(&top) {
            return error_document(error, secrets).map(Answer::Error);
        }
        let Some(Node::Object(members)) = top.into_member("doc") else { return Err(Malformed::NoDocument) };
        if let Some(error) = error_member(&members) {
            return error_document(error, secrets).map(Answer::Error);
        }
        Ok(Answer::Document(Self { members, size }))
    }

    /// How many bytes it came in.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes secrets out of everything that it says, whatever is made of that later. `known`: our name at the panel.
    pub fn blot(&mut self, secrets: &[&str], known: &str) {
        self.members.blot(&Needles::of(secrets, known));
    }

    /// The members of the document.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields { members: &self.members }
    }

    /// The function that the document says it answers, where it says so (`$func`).
    #[must_use]
    pub fn func(&self) -> Option<String> {
        self.fields().opt("$func")
    }

    /// The rows of a list. `None`: a row is something else than an object, so nobody knows what is missing.
    #[must_use]
    pub fn rows(&self) -> Option<Vec<Fields<'_>>> {
        self.fields().children("elem")
    }

    /// `p_elems`, the number of rows there are in all (ispsystem-api.md 1.3, confirmed).
    #[must_use]
    pub fn total(&self) -> Total {
        let fields = self.fields();
        match fields.opt("p_elems").or_else(|| fields.opt("$p_elems")) {
            None => Total::Unsaid,
            Some(text) => text.parse().map_or(Total::Unreadable, Total::Rows),
        }
    }

    /// The values that the form offers for the select `name` (`slist`, ispsystem-api.md 1.3 and 2.6, confirmed);
    /// `None` when the form shows no such list. The literal for "nothing" is left out.
    #[must_use]
    pub fn options(&self, name: &str) -> Option<Vec<String>> {
        Some(self.option_values(name)?.into_iter().filter_map(option_key).filter(|v| !is_nothing(v)).collect())
    }

    /// What the form calls the value `key` of the select `name`; `None` where it has no such list, or no words for the value.
    #[must_use]
    pub fn option_text(&self, name: &str, key: &str) -> Option<String> {
        let list = self.option_values(name)?;
        let option = list.into_iter().find(|v| v.get("$key").and_then(scalar).as_deref() == Some(key))?;
        let text = option.get("$").or_else(|| option.get("msg")).and_then(|v| scalar(v).or_else(|| machine_text(v)))?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn option_values(&self, name: &str) -> Option<Vec<&Node>> {
        let lists = self.fields().children("slist")?;
        let list = lists.into_iter().find(|l| l.opt("$name").as_deref() == Some(name))?;
        Some(match list.members.get("val") {
            None | Some(Node::Null) => Vec::new(),
            Some(Node::Array(values)) => values.iter().collect(),
            Some(one) => vec![one],
        })
    }

    /// The tags of what a select offers, by value, where the form shows any (ispsystem-api.md 5.3: that there are tags is confirmed,
    /// how a form shows them is not known). Read leniently: an attribute or member `tag` or `tags`, one text or several, with spaces,
    /// commas or semicolons between them.
    #[must_use]
    pub fn option_tags(&self, name: &str) -> BTreeMap<String, BTreeSet<String>> {
        let texts = |value: &Node| match value {
            Node::Array(all) => all.iter().filter_map(|v| scalar(v).or_else(|| machine_text(v))).collect(),
            one => scalar(one).or_else(|| machine_text(one)).into_iter().collect::<Vec<_>>(),
        };
        let tags = |value: &Node| -> BTreeSet<String> {
            let told = ["$tags", "$tag", "tags", "tag"].into_iter().filter_map(|member| value.get(member)).flat_map(texts);
            told.flat_map(|text| text.split([' ', ',', ';']).map(str::to_owned).collect::<Vec<_>>()).filter(|t| !t.is_empty()).collect()
        };
        let values = self.option_values(name).unwrap_or_default();
        values.into_iter().filter_map(|v| Some((option_key(v)?, tags(v)))).filter(|(_, tags)| !tags.is_empty()).collect()
    }
}

/// What a value of a select stands for.
fn option_key(value: &Node) -> Option<String> {
    value.get("$key").and_then(scalar).or_else(|| machine_text(value))
}

/// What a list says about its own length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Nothing.
    Unsaid,
    /// So many rows in all.
    Rows(usize),
    /// Something that is not a number.
    Unreadable,
}

/// Members of a document, a row or a form.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    members: &'a Members,
}

impl<'a> Fields<'a> {
    /// Whether these are the same members with the same values.
    #[must_use]
    pub fn is_same(&self, other: Fields<'_>) -> bool {
        self.members == other.members
    }

    /// Whether the flag is set. Flags are told by presence, whatever stands in them (ispsystem-api.md 1.3, confirmed);
    /// only a JSON `false`, which XML cannot have made, is none.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|v| *v != Node::Bool(false))
    }

    /// Whether there is a member of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some()
    }

    /// The value meant for programs (`$orig`, else `$`); empty when missing, null or empty.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.members.get(name).and_then(machine_text).unwrap_or_default()
    }

    /// [`Self::text`] without surrounding blanks, `None` when nothing is left.
    #[must_use]
    pub fn opt(&self, name: &str) -> Option<String> {
        let text = self.text(name);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The value meant for people (`$`, else `$orig`), without surrounding blanks.
    #[must_use]
    pub fn display(&self, name: &str) -> Option<String> {
        let value = self.members.get(name)?;
        let text = value.get("$").and_then(scalar).or_else(|| machine_text(value))?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The value of a reference, `None` also for the literals that mean nothing (ispsystem-api.md 1.3).
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<String> {
        self.opt(name).filter(|v| !is_nothing(v))
    }

    /// Whether a checkbox of a form is ticked (ispsystem-api.md 1.3: `on` or `off`, confirmed).
    #[must_use]
    pub fn ticked(&self, name: &str) -> bool {
        self.opt(name).is_some_and(|v| ["on", "yes", "true", "1"].iter().any(|t| v.eq_ignore_ascii_case(t)))
    }

    /// The member's own attribute `$attribute`.
    #[must_use]
    pub fn attribute(&self, name: &str, attribute: &str) -> Option<String> {
        let text = self.members.get(name)?.get(attribute).and_then(scalar)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The objects under a member that is a list, one element, or missing. `None`: something else stands there.
    #[must_use]
    pub fn children(&self, name: &str) -> Option<Vec<Fields<'a>>> {
        match self.members.get(name) {
            None | Some(Node::Null) => Some(Vec::new()),
            Some(Node::Object(one)) => Some(vec![Fields { members: one }]),
            Some(Node::Array(many)) => many.iter().map(|v| v.as_object().map(|members| Fields { members })).collect(),
            Some(Node::Bool(_) | Node::Number(_) | Node::String(_)) => None,
        }
    }

    /// The fields of a form with their values as they would be sent back, in order: members that carry a plain value.
    /// Lists, metadata, buttons and what steers the call itself are left out (ispsystem-api.md 1.3, inferred).
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        self.members.iter().filter(|(name, _)| is_field(name)).filter_map(|(n, v)| Some((n.to_owned(), field_value(v)?))).collect()
    }
}

/// Members of a form that are not fields of the object.
const NOT_FIELDS: &[&str] = &[
    "auth",
    "authinfo",
    "back",
    "button",
    "buttons",
    "clicked_button",
    "doc",
    "elem",
    "elid",
    "error",
    "filter",
    "form",
    "func",
    "help",
    "id",
    "lang",
    "list",
    "messages",
    "metadata",
    "ok",
    "operafake",
    "out",
    "page",
    "plid",
    "progressid",
    "saved_filters",
    "sfrom",
    "slist",
    "snext",
    "sok",
    "su",
    "title",
    "tparams",
];

fn is_field(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.starts_with("p_") && !NOT_FIELDS.contains(&name)
}

/// The value of a form field; `None` for what is no plain value. A missing value is sent as empty, as the form would.
fn field_value(value: &Node) -> Option<String> {
    match value {
        Node::Null => Some(String::new()),
        Node::Object(members) if members.names().all(|k| k.starts_with('$')) => Some(machine_text(value).unwrap_or_default()),
        Node::Object(_) => None,
        // Several values of one field are one parameter, joined as several ids are (ispsystem-api.md 1.3; here inferred).
        Node::Array(values) if values.is_empty() => None,
        Node::Array(values) => values.iter().map(field_value).collect::<Option<Vec<_>>>().map(|v| v.join(", ")),
        Node::Bool(_) | Node::Number(_) | Node::String(_) => scalar(value),
    }
}

/// The literals that stand for "nothing selected" (ispsystem-api.md 1.3, confirmed).
#[must_use]
pub fn is_nothing(value: &str) -> bool {
    matches!(value.trim(), "" | "null" | "no_owner")
}

/// A plain value as text: the panels send strings, but numbers and truth values are understood.
fn scalar(value: &Node) -> Option<String> {
    match value {
        Node::String(text) => Some(text.to_string()),
        Node::Number(number) => Some(number.to_string()),
        Node::Bool(truth) => Some(truth.to_string()),
        Node::Null | Node::Array(_) | Node::Object(_) => None,
    }
}

/// The text of a node: the machine's value before the display value (ispsystem-api.md 1.3, confirmed).
fn machine_text(value: &Node) -> Option<String> {
    match value {
        Node::Object(members) => members.get("$orig").and_then(scalar).or_else(|| members.get("$").and_then(scalar)),
        Node::Array(values) => values.first().filter(|v| !matches!(v, Node::Array(_))).and_then(machine_text),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) => scalar(value),
    }
}

/// The error member, if there is one.
fn error_member(members: &Members) -> Option<&Node> {
    members.get("error").filter(|v| **v != Node::Null)
}

fn error_document(value: &Node, secrets: &[&str]) -> Result<ErrorDocument, Malformed> {
    let value = match value {
        Node::Array(many) => many.first().ok_or(Malformed::MuteError)?,
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Object(_) => value,
    };
    let mut error = match value {
        Node::Object(members) => {
            let fields = Fields { members };
            // Attributes are the rule; children of the same names are what a power plugin answers (ispsystem-api.md 2.7).
            let pick = |names: &[&str]| names.iter().find_map(|n| fields.opt(n)).unwrap_or_default();
            ErrorDocument {
                kind: pick(&["$type", "type"]),
                object: pick(&["$object", "object"]),
                value: error_parameter(fields, "value").unwrap_or_default(),
                message: pick(&["msg", "text", "$"]),
            }
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Array(_) => {
            ErrorDocument { message: scalar(value).unwrap_or_default().trim().to_owned(), ..ErrorDocument::default() }
        }
    };
    if error.kind.is_empty() && error.message.is_empty() {
        return Err(Malformed::MuteError);
    }
    // A refused password stands in `value`, and may be quoted by the text.
    if matches!(error.object.as_str(), "passwd" | "password" | "confirm" | "checkpasswd") && !error.value.is_empty() {
        BLOT.clone_into(&mut error.value);
    }
    // `kind` decides what happens next: a password that happens to be one of the panel's own words must not change it.
    if !KINDS.contains(&error.kind.as_str()) {
        error.kind = blot(&error.kind, secrets);
    }
    error.kind = bounded(&error.kind);
    for text in [&mut error.object, &mut error.value, &mut error.message] {
        *text = bounded(&blot(text, secrets));
    }
    Ok(error)
}

/// The `param` of that name (ispsystem-api.md 1.4, confirmed), or the attribute.
fn error_parameter(error: Fields<'_>, name: &str) -> Option<String> {
    let params = error.children("param").unwrap_or_default();
    let param = params.into_iter().find(|p| p.opt("$name").as_deref() == Some(name));
    param.and_then(|p| p.opt("$").or_else(|| p.opt("$value"))).or_else(|| error.opt(&format!("${name}")))
}

/// The panel's own words for the kinds of its errors (ispsystem-api.md 1.4).
const KINDS: [&str; 7] = ["auth", "client", "exists", "missed", "value", "access", "limit"];

/// At most [`MAX_TEXT`] bytes, cut between characters; control characters become blanks.
#[must_use]
pub fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
