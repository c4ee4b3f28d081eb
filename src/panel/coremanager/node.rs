//! JSON as panels write it, held closely. Most members are `{"$": "text"}`: with a tree for each of them a document took some
//! sixty times what was sent, and one panel the memory of all.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::blot::Needles;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    String(Box<str>),
    Array(Box<[Node]>),
    Object(Members),
}

/// The members of an object, by name in order. Of several with one name the last counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Members(Box<[(Arc<str>, Node)]>);

impl Node {
    /// Reads JSON, no deeper than `serde_json` goes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut from = serde_json::Deserializer::from_slice(bytes);
        let node = Reader(&Names::default()).deserialize(&mut from)?;
        from.end()?;
        Ok(node)
    }

    /// The member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// Takes secrets out of every text in it, numbers too.
    fn blot(&mut self, secrets: &Needles) {
        match self {
            Self::Null | Self::Bool(_) => {}
            Self::Number(number) => {
                if let Some(clean) = secrets.taken_out(&number.to_string()) {
                    *self = Self::String(clean.into());
                }
            }
            Self::String(text) => {
                if let Some(clean) = secrets.taken_out(text) {
                    *text = clean.into();
                }
            }
            Self::Array(all) => all.iter_mut().for_each(|node| node.blot(secrets)),
            Self::Object(members) => members.blot(secrets),
        }
    }

    pub(super) fn as_object(&self) -> Option<&Members> {
        match self {
            Self::Object(members) => Some(members),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_) => None,
        }
    }
}

impl Members {
    fn new(mut all: Vec<(Arc<str>, Node)>) -> Self {
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(all.into_boxed_slice())
    }

    /// Takes secrets out of every text in them, and out of their names.
    pub(super) fn blot(&mut self, secrets: &Needles) {
        let mut renamed = false;
        for (name, node) in &mut self.0 {
            if let Some(clean) = secrets.taken_out(name) {
                *name = clean.into();
                renamed = true;
            }
            node.blot(secrets);
        }
        if renamed {
            *self = Self::new(std::mem::take(&mut self.0).into_vec());
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let place = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        self.0.get(place).map(|(_, node)| node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(name, node)| (&**name, node))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// One of them alone.
    pub(super) fn into_member(self, name: &str) -> Option<Node> {
        self.0.into_vec().into_iter().find(|(other, _)| **other == *name).map(|(_, node)| node)
    }
}

/// Names of members: rows have the same ones, which are held once.
#[derive(Default)]
struct Names(RefCell<BTreeSet<Arc<str>>>);

impl Names {
    fn one(&self, name: &str) -> Arc<str> {
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        all.insert(new.clone());
        new
    }
}

struct Reader<'a>(&'a Names);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = all.next_element_seed(Reader(self.0))? {
            nodes.push(node);
        }
        Ok(Node::Array(nodes.into_boxed_slice()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = all.next_key_seed(Name(self.0))? {
            members.push((name, all.next_value_seed(Reader(self.0))?));
        }
        Ok(Node::Object(Members::new(members)))
    }
}

struct Name<'a>(&'a Names);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Arc<str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Arc<str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Arc<str>, E> {
        Ok(self.0.one(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_and_the_last_of_several_counts() {
        let read = Node::parse(br#"{"b": 1, "a": [null, true, -2, 1.5, "x"], "b": {"$": "2"}}"#).unwrap();
        let members = read.as_object().unwrap();
        assert_eq!(members.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read.get("b").and_then(|b| b.get("$")), Some(&Node::String("2".into())));
        assert_eq!(read.get("c"), None);
        assert!(Node::parse(b"{} {}").is_err() && Node::parse(b"{").is_err());
        let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
        assert!(Node::parse(&deep).is_err(), "deeper than anybody reads");
    }

    #[test]
    fn secrets_are_taken_out_of_texts_numbers_and_names() {
        let read = |json: &str| {
            let Node::Object(members) = Node::parse(json.as_bytes()).unwrap() else { panic!("{json}") };
            members
        };
        let mut members = read(r#"{"z": {"$": "a 12345678 b"}, "x12345678": [123456789, true, null], "\u0031\u0032345678": 1234567}"#);
        members.blot(&Needles::of(&["12345678"], "op"));
        assert_eq!(members, read(r#"{"z": {"$": "a *** b"}, "x***": ["***9", true, null], "***": 1234567}"#));
        assert!(members.get("***").is_some() && members.get("z").is_some(), "they are found by the names that they have now");
    }

    #[test]
    fn a_member_costs_little() {
        assert!(size_of::<(Arc<str>, Node)>() <= 40, "{}", size_of::<(Arc<str>, Node)>());
    }
}
