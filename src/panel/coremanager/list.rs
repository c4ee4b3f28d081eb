//! Complete lists: a list that lacks rows must never look complete, for a server that is missing may be taken for gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use crate::panel::error::{ErrorDocument, PanelError, SESSION};

use super::blot::BLOT;
use super::client::Client;
use super::document::{Document, Fields, Total, bounded};
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
    ///
    /// A list that fits one page costs one request, one of `n` pages `2n - 1`: while a list is read in pages, a row that goes pulls
    /// another one across a border of two pages, unseen, and one that comes hides this from the total. Each page but the last
    /// is therefore asked for once more. What all of them showed before and after the last one was read, they showed at that
    /// moment, too: together they are the list as it was then.
    ///
    /// Whether the number of rows counts those that group others is not known (ispsystem-api.md 2.5). If it does not, a page with some of
    /// them looks like a whole list: until a list was seen to end with the rows that it counts, the page behind its last one is asked for.
    pub async fn list(&self, func: &str, params: impl Fn() -> Params, key: &'static str) -> Result<List, PanelError> {
        for _ in 0..ATTEMPTS {
            let first = self.read_page(func, &params(), 0).await?;
            if filtered(&first) {
                return Err(self.incomplete(func, "rows that a filter of our panel user hides; take the filter away at the panel"));
            }
            let mut pages = Pages { counts_groups: self.counts_groups.load(Ordering::Relaxed), ..Pages::default() };
            match pages.take(self, func, &first, key)? {
                Verdict::Complete => return Ok(List { documents: vec![first], func: func.to_owned(), key }),
                Verdict::More | Verdict::Changed => {}
            }
            let size = pages.seen.len();
            if size == 0 {
                return Err(self.incomplete(func, "all rows: the list says that there are some, and shows none"));
            }
            let page = |number: usize| params().with("p_num", number.to_string()).with("p_cnt", size.to_string());
            // All pages are held until the last one was read: together they may be as large as a list that comes in one.
            let mut held = first.size();
            let mut documents = vec![first];
            for number in 2..=MAX_PAGES {
                let before = pages.seen.len();
                let verdict = match self.read_page(func, &page(number), held).await {
                    Ok(document) => {
                        let verdict = pages.take(self, func, &document, key)?;
                        held += document.size();
                        documents.push(document);
                        verdict
                    }
                    Err(PanelError::Refused { func: refused, error, .. }) if refused == func && pages.may_end() && no_page(&error) => {
                        pages.ended = true;
                        Verdict::Complete
                    }
                    Err(error) => return Err(error),
                };
                match verdict {
                    Verdict::More if pages.seen.len() == before => {
                        return Err(self.incomplete(func, format!("rows: {before} of {} were shown, and no page has more", pages.total)));
                    }
                    Verdict::More => {}
                    Verdict::Complete if self.unmoved(func, page, key, &pages, &documents).await? => {
                        if pages.ended {
                            self.counts_groups.store(true, Ordering::Relaxed);
                        }
                        return Ok(List { documents, func: func.to_owned(), key });
                    }
                    Verdict::Complete | Verdict::Changed => break,
                }
            }
        }
        Err(self.incomplete(func, "all rows: the list changed each time it was read in pages"))
    }

    /// Whether all pages but the last, which was read this moment, show the same rows once more.
    async fn unmoved(
        &self,
        func: &str,
        page: impl Fn(usize) -> Params,
        key: &str,
        pages: &Pages,
        documents: &[Document],
    ) -> Result<bool, PanelError> {
        let held: usize = documents.iter().map(Document::size).sum();
        let earlier = pages.keys.iter().take(pages.keys.len().saturating_sub(1));
        for ((number, keys), document) in (1..).zip(earlier).zip(documents) {
            let again = self.read_page(func, &page(number), held - document.size()).await?;
            if again.total() != Total::Rows(pages.total) || keys_of(self, func, &again, key)? != *keys {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Client {
    /// Looks whether a filter stored for our panel user hides rows of this list (ispsystem-api.md 1.3 and 6.4: stored filters
    /// act without a word). The form of `<list>.filter` shows it [inferred]; a panel without such a form tells nothing.
    /// `fields` are plain text fields of the rows: their being filled in can't mean anything else.
    pub async fn unfiltered(&self, func: &str, fields: &[&str]) -> Result<(), PanelError> {
        let form = match self.read(&format!("{func}.filter"), &Params::new()).await {
            Ok(form) => form,
            Err(PanelError::Refused { error, .. }) if error.kind != SESSION => return Ok(()),
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

/// Whether a panel says that it has no page of that number.
fn no_page(error: &ErrorDocument) -> bool {
    matches!(error.kind.as_str(), "value" | "missed")
}

enum Verdict {
    Complete,
    More,
    Changed,
}

/// The keys that a document names its rows by. Of two different rows with one key one would be lost.
fn keys_of(client: &Client, func: &str, document: &Document, key: &str) -> Result<BTreeSet<String>, PanelError> {
    let rows = document.rows().ok_or_else(|| client.incomplete(func, "a list: elem holds something else than rows"))?;
    let mut known: BTreeMap<String, Fields<'_>> = BTreeMap::new();
    for row in rows {
        let name = key_of(func, row, key).ok_or_else(|| client.incomplete(func, format!("{key} in one of its rows")))?;
        if !is_group(func, row) && known.get(&name).is_some_and(|other| !other.is_same(row)) {
            return Err(client.incomplete(func, format!("rows that {key} tells apart: two different ones have {}", bounded(&name))));
        }
        known.insert(name, row);
    }
    Ok(known.into_keys().collect())
}

/// What a row is known by. Two rows whose keys held a secret would be one, and whoever is missing may be taken for gone. A row that groups
/// others is of another table than they are: its id may be that of one of them.
fn key_of(func: &str, row: Fields<'_>, key: &str) -> Option<String> {
    if is_group(func, row) {
        return Some(format!("group {:?} {:?}", row.opt(key), row.form()));
    }
    row.opt(key).filter(|shown| !shown.contains(BLOT))
}

/// The list that has rows which group others.
const GROUPED: &str = "iplist";

/// Whether a row groups others, and is none of them (ispsystem-api.md 2.5). In other lists a `type` is something else, as a server's.
fn is_group(func: &str, row: Fields<'_>) -> bool {
    func == GROUPED && row.opt("type").as_deref() == Some("group")
}

/// The pages read so far.
#[derive(Default)]
struct Pages {
    seen: BTreeSet<String>,
    /// Those of them that group others.
    groups: BTreeSet<String>,
    /// What each page showed.
    keys: Vec<BTreeSet<String>>,
    total: usize,
    /// Whether the total is known to count the groups, too.
    counts_groups: bool,
    /// Nothing came behind as many rows as the total says, groups included.
    ended: bool,
}

impl Pages {
    fn take(&mut self, client: &Client, func: &str, document: &Document, key: &str) -> Result<Verdict, PanelError> {
        let keys = keys_of(client, func, document, key)?;
        let before = self.seen.len();
        self.seen.extend(keys.iter().cloned());
        let rows = document.rows().unwrap_or_default().into_iter();
        self.groups.extend(rows.filter(|row| is_group(func, *row)).filter_map(|row| key_of(func, row, key)));
        let first = self.keys.is_empty();
        let total = match document.total() {
            Total::Unsaid if first => self.seen.len() - self.groups.len(),
            Total::Rows(total) => total,
            // A page behind the last one has nothing, and may not say of how many.
            Total::Unsaid if self.seen.len() == before && self.may_end() => self.total,
            Total::Unsaid | Total::Unreadable => return Err(client.incomplete(func, "the number of rows (p_elems)")),
        };
        let changed = !first && self.total != total;
        self.keys.push(keys);
        self.total = total;
        if changed {
            return Ok(Verdict::Changed);
        }
        self.ended = !first && self.seen.len() == before && self.may_end();
        let whole = self.seen.len() - self.groups.len() >= total || self.ended || (self.counts_groups && self.may_end());
        Ok(if whole { Verdict::Complete } else { Verdict::More })
    }

    /// Whether these are all rows if, and only if, the total counts the groups, too.
    fn may_end(&self) -> bool {
        self.seen.len() == self.total && !self.groups.is_empty()
    }
}

impl List {
    /// The rows, one for each key; without those that group others.
    #[must_use]
    pub fn rows(&self) -> Vec<Fields<'_>> {
        let mut seen = BTreeSet::new();
        let rows = self.documents.iter().flat_map(|d| d.rows().unwrap_or_default());
        let rows = rows.filter(|row| !is_group(&self.func, *row));
        rows.filter(|row| row.opt(self.key).is_some_and(|id| seen.insert(id))).collect()
    }

    /// Reads every row, naming the function in the error.
    pub fn parse<T>(&self, client: &Client, row: impl Fn(&Fields<'_>) -> Result<Option<T>, String>) -> Result<Vec<T>, PanelError> {
        let rows = self.rows();
        rows.iter().filter_map(|r| row(r).transpose()).map(|r| r.map_err(|what| client.incomplete(&self.func, what))).collect()
    }
}
