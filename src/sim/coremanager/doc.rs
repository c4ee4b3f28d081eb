//! Documents: a tree of elements with attributes and text. Section 1.3 of the facts.

use std::borrow::Cow;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: Cow<'static, str>,
    pub(crate) attrs: Vec<(&'static str, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// An element with nothing in it, as the flags of lists are.
    pub(crate) fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), attrs: Vec::new(), text: String::new(), children: Vec::new() }
    }

    /// An element with text.
    pub(crate) fn text(name: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::new(name) }
    }

    /// With an attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attrs.push((name, value.into()));
        self
    }

    /// With another element in it.
    pub(crate) fn with(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// With a text element in it.
    pub(crate) fn field(self, name: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        self.with(Self::text(name, text))
    }

    /// With an empty element in it, if so.
    pub(crate) fn flag(self, name: &'static str, present: bool) -> Self {
        if present { self.with(Self::new(name)) } else { self }
    }

    /// The text of a child.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }
}

/// An answer: the element `doc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doc {
    /// Whether it is a list, even if an empty one.
    pub(crate) is_list: bool,
    pub(crate) children: Vec<Node>,
}

impl Doc {
    /// A list of rows, each of which is called `elem`.
    pub(crate) fn list(rows: Vec<Node>) -> Self {
        Self { is_list: true, children: rows }
    }

    /// Fields of a form, or of an answer.
    pub(crate) fn fields(children: Vec<Node>) -> Self {
        Self { is_list: false, children }
    }

    /// `<ok/>`: it is done.
    pub(crate) fn ok() -> Self {
        Self::fields(vec![Node::new("ok")])
    }

    /// `<id>`: what was made (section 1.3, create).
    pub(crate) fn created(name: &'static str, id: u64) -> Self {
        Self::fields(vec![Node::text(name, id.to_string()), Node::new("ok")])
    }
}

/// The options of a select field: `slist` (section 1.3).
pub(crate) fn slist(name: impl Into<String>, options: impl IntoIterator<Item = (String, String)>) -> Node {
    let mut node = Node::new("slist").attr("name", name);
    for (key, text) in options {
        node = node.with(Node::text("val", text).attr("key", key));
    }
    node
}
