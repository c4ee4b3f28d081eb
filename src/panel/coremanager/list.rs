//! Complete lists: a list that lacks rows must never look complete, for a server that is missing may be taken for gone.

use std::collections::BTreeSet;

use crate::panel::error::PanelError;

use super::client::Client;
use super::document::{Document, Fields, Total};
use super::params::Params;

/// More pages than any panel has: the bound on a list that never ends.
const MAX_PAGES: usize = 1000;
/// How often a list that changes while it is read in pages is read anew.
const ATTEMPTS: usize = 3;

/// The rows of a list, one for each key, in the panel's order.
pub struct List {
    documents: Vec<Document>,
    func: String,
    key: &'static str,
}

impl Client {
    /// Asks for a whole list, in pages where the panel insists (ispsystem-api.md 1.3, paging). `key` names each row.
    pub async fn list(&self, func: &str, params: impl Fn() -> Params, key: &'static str) -> Result<List, PanelError> {
        for _ in 0..ATTEMPTS {
            let first = self.read(func, &params()).await?;
            if filtered(&first) {
                return Err(self.incomplete(func, "rows that a filter of our panel user hides; take the filter away at the panel"));
            }
            let mut pages = Pages::default();
            match pages.take(self, func, &first, key)? {
                Verdict::Complete => return Ok(List { documents: vec![first], func: func.to_owned(), key }),
                Verdict::More | Verdict::Changed => {}
            }
            let size = pages.seen.len();
            if size == 0 {
                return Err(self.incomplete(func, "all rows: the list says that there are some, and shows none"));
            }
            let page = |number: usize| params().with("p_num", number.to_string()).with("p_cnt", size.to_string());
            let mut documents = vec![first];
            for number in 2..=MAX_PAGES {
                let before = pages.seen.len();
                let document = self.read(func, &page(number)).await?;
                let verdict = pages.take(self, func, &document, key)?;
                documents.push(document);
                match verdict {
                    Verdict::Changed => break,
                    Verdict::More if pages.seen.len() == before => {
                        return Err(self.incomplete(func, format!("rows: {before} of {} were shown, and no page has more", pages.total)));
                    }
                    Verdict::More => {}
                    Verdict::Complete => {
                        // A row that went from an early page pulls another one across the border of two pages, unseen.
                        let mut check = Pages::default();
                        let again = self.read(func, &page(1)).await?;
                        check.take(self, func, &again, key)?;
                        if check.total == pages.total && check.seen == pages.first {
                            return Ok(List { documents, func: func.to_owned(), key });
                        }
                        break;
                    }
                }
            }
        }
        Err(self.incomplete(func, "all rows: the list changed each time it was read in pages"))
    }
}

impl Client {
    /// Looks whether a filter stored for our panel user hides rows of this list (ispsystem-api.md 1.3 and 6.4: stored filters
    /// act without a word). The form of `<list>.filter` shows it [inferred]; a panel without such a form tells nothing.
    /// `fields` are plain text fields of the rows: their being filled in can't mean anything else.
    pub async fn unfiltered(&self, func: &str, fields: &[&str]) -> Result<(), PanelError> {
        let form = match self.read(&format!("{func}.filter"), &Params::new()).await {
            Ok(form) => form,
            Err(PanelError::Refused { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let set = fields.iter().find(|name| form.fields().reference(name).is_some_and(|value| value != "*"));
        match set {
            Some(name) => {
                let what = format!("rows that a filter of our panel user by {name} hides; take the filter away at the panel");
                Err(self.incomplete(func, what))
            }
            None => Ok(()),
        }
    }
}

/// Whether the document says that a filter is set for our user (ispsystem-api.md 1.3: how a panel shows it is unknown, so
/// only a plain `filter` that says so is taken for it; empty and `off` say that there is none).
fn filtered(document: &Document) -> bool {
    let fields = document.fields();
    ["filter", "$filter", "p_filter"]
        .iter()
        .any(|name| fields.opt(name).is_some_and(|v| !matches!(v.as_str(), "off" | "no" | "0" | "false")))
}

enum Verdict {
    Complete,
    More,
    Changed,
}

/// The keys seen so far.
#[derive(Default)]
struct Pages {
    seen: BTreeSet<String>,
    first: BTreeSet<String>,
    total: usize,
}

impl Pages {
    fn take(&mut self, client: &Client, func: &str, document: &Document, key: &str) -> Result<Verdict, PanelError> {
        let rows = document.rows().ok_or_else(|| client.incomplete(func, "a list: elem holds something else than rows"))?;
        for row in rows {
            let grouping = || (row.opt("type").as_deref() == Some("group")).then(|| format!("group {:?}", row.form()));
            let id = row.opt(key).or_else(grouping).ok_or_else(|| client.incomplete(func, format!("{key} in one of its rows")))?;
            self.seen.insert(id);
        }
        let total = match document.total() {
            Total::Unsaid if self.first.is_empty() && self.total == 0 => self.seen.len(),
            Total::Rows(total) => total,
            Total::Unsaid | Total::Unreadable => return Err(client.incomplete(func, "the number of rows (p_elems)")),
        };
        if self.total != 0 && self.total != total {
            return Ok(Verdict::Changed);
        }
        self.total = total;
        if self.first.is_empty() {
            self.first.clone_from(&self.seen);
        }
        Ok(if self.seen.len() >= total { Verdict::Complete } else { Verdict::More })
    }
}

impl List {
    /// The rows, one for each key.
    #[must_use]
    pub fn rows(&self) -> Vec<Fields<'_>> {
        let mut seen = BTreeSet::new();
        let rows = self.documents.iter().flat_map(|d| d.rows().unwrap_or_default());
        rows.filter(|row| row.opt(self.key).is_some_and(|id| seen.insert(id))).collect()
    }

    /// Reads every row, naming the function in the error.
    pub fn parse<T>(&self, client: &Client, row: impl Fn(&Fields<'_>) -> Result<Option<T>, String>) -> Result<Vec<T>, PanelError> {
        let rows = self.rows();
        rows.iter().filter_map(|r| row(r).transpose()).map(|r| r.map_err(|what| client.incomplete(&self.func, what))).collect()
    }
}
