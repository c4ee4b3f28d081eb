//! Writes documents as XML, JSON, plain JSON or text: sections 1.1, 1.3 and 1.4 of the facts.

use serde_json::{Map, Value};

use super::{
    doc::{Doc, Node},
    messages,
    params::Params,
};
use crate::sim::{config::SingleElem, world::refusal::Refusal};

/// What `out` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Xml,
    Json,
    JsonData,
    Text,
}

impl Format {
    /// The format that a caller asks for; XML when none is named, and for names that are not known.
    pub(crate) fn of(params: &Params) -> Self {
        match params.get("out") {
            "json" => Self::Json,
            "JSONdata" | "jsondata" => Self::JsonData,
            "text" => Self::Text,
            _ => Self::Xml,
        }
    }

    /// The content type of such an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Xml => "text/xml; charset=UTF-8",
            Self::Json | Self::JsonData => "application/json; charset=UTF-8",
            Self::Text => "text/plain; charset=UTF-8",
        }
    }
}

/// Elements that stand in an array in JSON however many there are. Rows of lists are written as the panel is told to.
const REPEATED: [&str; 3] = ["slist", "val", "param"];

/// The error document for a refusal (section 1.4).
pub(crate) fn error(refusal: &Refusal, lang: &str) -> Doc {
    let text = messages::text(refusal, lang);
    let object = Node::text("param", &*refusal.object).attr("name", "object").attr("type", "msg").attr("msg", refusal.object.clone());
    let mut node = Node::new("error")
        .attr("type", refusal.kind.word())
        .attr("object", refusal.object.clone())
        .attr("lang", if lang == "ru" { "ru" } else { "en" })
        .with(object);
    if !refusal.value.is_empty() {
        node = node.with(Node::text("param", &*refusal.value).attr("name", "value"));
    }
    Doc::fields(vec![node.field("msg", text)])
}

/// Writes a document.
pub(crate) fn write(doc: &Doc, format: Format, func: &str, single: SingleElem) -> Vec<u8> {
    match format {
        Format::Xml => xml(doc, func).into_bytes(),
        Format::Json => {
            let mut object = children(&doc.children, single);
            object.insert("$func".to_owned(), Value::from(func));
            let mut whole = Map::new();
            whole.insert("doc".to_owned(), Value::Object(object));
            Value::Object(whole).to_string().into_bytes()
        }
        Format::JsonData => plain(doc).to_string().into_bytes(),
        Format::Text => text(doc).into_bytes(),
    }
}

fn xml(doc: &Doc, func: &str) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<doc func=\"");
    escape(func, &mut out);
    out.push_str("\">");
    for child in &doc.children {
        xml_node(child, &mut out);
    }
    out.push_str("</doc>\n");
    out
}

fn xml_node(node: &Node, out: &mut String) {
    out.push('<');
    out.push_str(&node.name);
    for (name, value) in &node.attrs {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        escape(value, out);
        out.push('"');
    }
    if node.text.is_empty() && node.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    escape(&node.text, out);
    for child in &node.children {
        xml_node(child, out);
    }
    out.push_str("</");
    out.push_str(&node.name);
    out.push('>');
}

/// Characters that mean something are escaped, those that XML cannot carry are left out.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            c if (c as u32) < 0x20 || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => out.push(c),
        }
    }
}

fn json_node(node: &Node, single: SingleElem) -> Value {
    let mut object = children(&node.children, single);
    for (name, value) in &node.attrs {
        object.insert(format!("${name}"), Value::from(value.as_str()));
    }
    if !node.text.is_empty() {
        object.insert("$".to_owned(), Value::from(node.text.as_str()));
    }
    Value::Object(object)
}

fn children(nodes: &[Node], single: SingleElem) -> Map<String, Value> {
    let mut grouped: Vec<(&str, Vec<Value>)> = Vec::new();
    for node in nodes {
        let value = json_node(node, single);
        // Rows come one after the other, so that looking at the last group first is quick.
        match grouped.iter_mut().rev().find(|(name, _)| *name == node.name) {
            Some((_, values)) => values.push(value),
            None => grouped.push((&node.name, vec![value])),
        }
    }
    let mut object = Map::new();
    for (name, mut values) in grouped {
        let array = values.len() > 1 || REPEATED.contains(&name) || (name == "elem" && single == SingleElem::Array);
        let value = match values.pop() {
            Some(value) if !array => value,
            Some(value) => {
                values.push(value);
                Value::Array(values)
            }
            None => continue,
        };
        object.insert(name.to_owned(), value);
    }
    object
}

/// `JSONdata`: rows as an array, fields as an object, all without `$` (section 1.1). How errors look there is unknown;
/// here they are an object with the one key `error`.
fn plain(doc: &Doc) -> Value {
    if doc.is_list {
        let rows = doc.children.iter().filter(|node| node.name == "elem");
        return Value::Array(rows.map(plain_node).collect());
    }
    Value::Object(plain_children(&doc.children))
}

fn plain_children(nodes: &[Node]) -> Map<String, Value> {
    let mut object = Map::new();
    for node in nodes {
        let value = plain_node(node);
        if REPEATED.contains(&&*node.name) {
            let entry = object.entry(node.name.to_string()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = entry {
                values.push(value);
            }
        } else {
            object.insert(node.name.to_string(), value);
        }
    }
    object
}

fn plain_node(node: &Node) -> Value {
    let is_scalar = node.children.is_empty() && (node.attrs.is_empty() || !node.text.is_empty());
    if is_scalar {
        return Value::from(node.text.as_str());
    }
    let mut object = plain_children(&node.children);
    for (name, value) in &node.attrs {
        object.insert((*name).to_owned(), Value::from(value.as_str()));
    }
    Value::Object(object)
}

fn text(doc: &Doc) -> String {
    let mut out = String::new();
    for node in &doc.children {
        if node.name == "error" {
            out.push_str("ERROR ");
            out.push_str(node.child_text("msg").unwrap_or_default());
        } else if node.children.is_empty() {
            out.push_str(&node.name);
            out.push('=');
            out.push_str(&node.text);
        } else {
            let fields: Vec<String> = node.children.iter().map(|f| format!("{}={}", f.name, f.text)).collect();
            out.push_str(&fields.join(" "));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_list(rows: usize) -> Doc {
        let row = |id: usize| Node::new("elem").field("id", id.to_string()).field("hostname", "free.ds").flag("poweron", true);
        Doc::list((0..rows).map(|n| row(17 + n)).collect())
    }

    fn shown(doc: &Doc, format: Format, single: SingleElem) -> String {
        String::from_utf8(write(doc, format, "server", single)).unwrap()
    }

    #[test]
    fn lists() {
        let one = server_list(1);
        let array = SingleElem::Array;
        assert_eq!(
            shown(&one, Format::Xml, array),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<doc func=\"server\"><elem><id>17</id><hostname>free.ds</hostname><poweron/></elem></doc>\n"
        );
        assert_eq!(
            shown(&one, Format::Json, array),
            r#"{"doc":{"$func":"server","elem":[{"hostname":{"$":"free.ds"},"id":{"$":"17"},"poweron":{}}]}}"#
        );
        assert_eq!(
            shown(&one, Format::Json, SingleElem::Object),
            r#"{"doc":{"$func":"server","elem":{"hostname":{"$":"free.ds"},"id":{"$":"17"},"poweron":{}}}}"#
        );
        assert_eq!(shown(&one, Format::JsonData, array), r#"[{"hostname":"free.ds","id":"17","poweron":""}]"#);
        assert!(shown(&server_list(2), Format::Json, SingleElem::Object).contains(r#""elem":[{"#));
    }

    #[test]
    fn empty_lists() {
        let empty = server_list(0);
        assert_eq!(shown(&empty, Format::Json, SingleElem::Array), r#"{"doc":{"$func":"server"}}"#);
        assert_eq!(shown(&empty, Format::JsonData, SingleElem::Array), "[]");
    }

    #[test]
    fn errors() {
        let refusal = Refusal::exists("user", "john");
        let doc = error(&refusal, "");
        assert_eq!(
            shown(&doc, Format::Xml, SingleElem::Array),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<doc func=\"server\"><error type=\"exists\" object=\"user\" lang=\"en\"><param name=\"object\" type=\"msg\" msg=\"user\">user</param><param name=\"value\">john</param><msg>user 'john' already exists</msg></error></doc>\n"
        );
        let json: Value = serde_json::from_str(&shown(&doc, Format::Json, SingleElem::Array)).unwrap();
        let error = &json["doc"]["error"];
        assert_eq!((&error["$type"], &error["$object"]), (&Value::from("exists"), &Value::from("user")));
        assert_eq!(error["msg"]["$"], "user 'john' already exists");
        let plain: Value = serde_json::from_str(&shown(&doc, Format::JsonData, SingleElem::Array)).unwrap();
        assert_eq!(plain["error"]["type"], "exists");
        assert!(super::error(&refusal, "ru").children[0].child_text("msg").unwrap().contains("существует"));
    }

    #[test]
    fn escapes() {
        let doc = Doc::fields(vec![Node::text("notes", "a<b>&\"c\"\nd\u{1}").attr("x", "<\">")]);
        assert!(
            shown(&doc, Format::Xml, SingleElem::Array).contains("<notes x=\"&lt;&quot;&gt;\">a&lt;b&gt;&amp;&quot;c&quot;&#10;d</notes>")
        );
    }

    #[test]
    fn select_options_are_always_arrays() {
        let doc = Doc::fields(vec![super::super::doc::slist("owner", [("3".to_owned(), "acme".to_owned())])]);
        let json: Value = serde_json::from_str(&shown(&doc, Format::Json, SingleElem::Object)).unwrap();
        assert_eq!(json["doc"]["slist"][0]["$name"], "owner");
        assert_eq!(json["doc"]["slist"][0]["val"][0]["$key"], "3");
        assert_eq!(json["doc"]["slist"][0]["val"][0]["$"], "acme");
    }
}
