//! The parts that a server can be made of: what the ids in its form stand for. Sections 2.1 and 2.2 of the facts.

use super::{Form, dci::Dci, edit::NULL, server::Server};

/// The components that are chosen in the form, and how many fields each has.
pub(crate) const COMPONENTS: [(&str, usize); 3] = [("cpu", 2), ("hdd", 30), ("pci", 7)];

/// One part that a select of the form offers.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) id: u64,
    /// `cpu`, `hdd` or `pci`.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// The component that a field names.
fn component(field: &str) -> Option<&'static str> {
    let (prefix, number) = field.rsplit_once('_')?;
    let (kind, count) = COMPONENTS.into_iter().find(|(kind, _)| *kind == prefix)?;
    (number.parse::<usize>().ok()? < count).then_some(kind)
}

impl Dci {
    /// What stands in a field of the form: a part's id for its name, anything else as it is. A number is an id without a name.
    pub(crate) fn field_of(&mut self, field: &str, value: &str) -> String {
        let Some(kind) = component(field) else { return value.to_owned() };
        if value.is_empty() || value == NULL {
            return NULL.to_owned();
        }
        if value.chars().all(|c| c.is_ascii_digit()) {
            return value.to_owned();
        }
        if let Some(known) = self.parts.iter().find(|part| part.kind == kind && part.text == value) {
            return known.id.to_string();
        }
        // Part ids start where no other id is, so that one taken for the other is noticed.
        let id = 300_001 + self.parts.len() as u64;
        self.parts.push(Part { id, kind, text: value.to_owned() });
        id.to_string()
    }

    /// The name of a part, or its id where it has none.
    fn part_text<'a>(&'a self, kind: &str, id: &'a str) -> &'a str {
        self.parts.iter().find(|part| part.kind == kind && part.id.to_string() == id).map_or(id, |part| part.text.as_str())
    }

    /// What a server is made of: the fields of the form that say something about it, parts by their names.
    pub(crate) fn hardware(&self, server: &Server) -> Form {
        let is = |name: &str| component(name).is_some() || matches!(name, "cpu_count" | "chassis_ram");
        let said = server.form.iter().filter(|(name, value)| is(name) && !value.is_empty() && *value != NULL);
        said.map(|(name, value)| (name.clone(), component(name).map_or(value.as_str(), |kind| self.part_text(kind, value)).to_owned()))
            .collect()
    }

    /// The options of the selects: field name, then ids with names.
    pub(crate) fn part_options(&self) -> Vec<(String, Vec<(String, String)>)> {
        let mut lists = Vec::new();
        for (kind, count) in COMPONENTS {
            let options: Vec<(String, String)> =
                self.parts.iter().filter(|part| part.kind == kind).map(|part| (part.id.to_string(), part.text.clone())).collect();
            if options.is_empty() {
                continue;
            }
            let none = (NULL.to_owned(), "-- none --".to_owned());
            let all: Vec<(String, String)> = std::iter::once(none).chain(options).collect();
            lists.extend((0..count).map(|n| (format!("{kind}_{n}"), all.clone())));
        }
        lists
    }

    /// `gen_chassis_name`: the description of the type; where it has none, what the server is made of.
    pub(crate) fn description(&self, server: &Server) -> String {
        let described = self.type_named(&server.type_name).map(|kind| kind.description.clone()).unwrap_or_default();
        if described.is_empty() { self.composed(&server.form) } else { described }
    }

    fn composed(&self, form: &Form) -> String {
        let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty() && *value != NULL);
        let mut texts = Vec::new();
        if let Some(cpu) = field("cpu_0") {
            texts.push(format!("{}x{}", field("cpu_count").unwrap_or("1"), self.part_text("cpu", cpu)));
        }
        texts.extend(field("chassis_ram").map(|ram| format!("{ram}Gb")));
        texts.extend((0..30).filter_map(|n| field(&format!("hdd_{n}")).map(|id| self.part_text("hdd", id).to_owned())));
        texts.join("-")
    }
}
