//! Lists in pages, as a real server cuts them: all pages of one list show the same moment, for as long as the server knows of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::apiserver::{Answer, ApiServer, Key, Kind, Refusal, listed};

/// What a client asks of a list.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub kind: &'a Kind,
    /// Empty: all of them.
    pub namespace: &'a str,
    pub labels: &'a str,
    /// How many objects at most; 0: all.
    pub limit: usize,
    /// What the page before has said; empty: from the start.
    pub token: &'a str,
}

/// What a client is told whose list is of a moment that is forgotten.
pub fn expired() -> Refusal {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
                   continue parameter.";
    Refusal { code: 410, reason: "Expired", message: message.into() }
}

/// Where a page ends: the version that the list shows, and the last object of the page.
fn read(token: &str) -> Option<(u64, (&str, &str))> {
    let mut parts = token.splitn(3, '/');
    let version = parts.next()?.parse().ok()?;
    Some((version, (parts.next()?, parts.next()?)))
}

/// Namespace and name: the order of a list.
fn place(object: &Value) -> (&str, &str) {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    (part("namespace"), part("name"))
}

impl ApiServer {
    /// A page of a list. One that goes on shows what there was when the first one was asked for.
    pub fn page(&self, wanted: &Wanted<'_>) -> Answer {
        let Wanted { kind, namespace, labels, limit, token } = *wanted;
        let limit = if limit > 0 && self.page > 0 { limit.min(self.page) } else { limit };
        let (version, mut list) = if token.is_empty() {
            (self.version, self.list(kind, namespace, labels))
        } else {
            let Some((version, after)) = read(token) else {
                return Err(Refusal { code: 400, reason: "BadRequest", message: "continue key is not valid".into() });
            };
            if version < self.compacted {
                return Err(expired());
            }
            let mut list = listed(&self.at(*kind, version), version, kind, namespace, labels);
            if let Some(items) = list["items"].as_array_mut() {
                items.retain(|item| place(item) > after);
            }
            (version, list)
        };
        if let Some(items) = list["items"].as_array_mut().filter(|items| limit > 0 && items.len() > limit) {
            items.truncate(limit);
            let (namespace, name) = items.last().map(place).unwrap_or_default();
            let token = format!("{version}/{namespace}/{name}");
            list["metadata"]["continue"] = token.into();
        }
        Ok(Arc::new(list))
    }

    /// The objects of a kind as they were at a version that is not forgotten.
    fn at(&self, kind: Kind, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let of_kind = |(key, _): &(&Key, &Arc<Value>)| key.0 == kind;
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.objects.iter().filter(of_kind).map(|(key, object)| (key.clone(), object.clone())).collect();
        for change in self.log.iter().rev().take_while(|change| change.version > version).filter(|change| change.key.0 == kind) {
            match &change.before {
                Some(before) => drop(objects.insert(change.key.clone(), before.clone())),
                None => drop(objects.remove(&change.key)),
            }
        }
        objects
    }
}

#[test]
fn all_pages_of_a_list_show_the_moment_at_which_it_was_asked_for() {
    use serde_json::json;

    use super::apiserver::SECRETS;
    let mut server = ApiServer::with(Vec::new());
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"of": "shop"}}});
    let place = |name: &str| (SECRETS, "shop".to_owned(), name.to_owned());
    for name in ["a", "b", "c", "d"] {
        server.create(place(""), secret(name), 0).unwrap();
    }
    let page = |server: &ApiServer, limit: usize, token: &str| {
        let list = server.page(&Wanted { kind: &SECRETS, namespace: "shop", labels: "of=shop", limit, token })?;
        let names: Vec<String> =
            list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        let (version, token) = (&list["metadata"]["resourceVersion"], list["metadata"]["continue"].as_str().unwrap_or_default());
        Ok::<_, Refusal>((names.join(""), version.as_str().unwrap().to_owned(), token.to_owned()))
    };
    let (first, version, token) = page(&server, 2, "").unwrap();
    assert_eq!((first.as_str(), token.is_empty()), ("ab", false));
    assert_eq!(page(&server, 0, "").unwrap().0, "abcd", "whoever asks for no pages gets none");
    server.delete(&place("c"), &Value::Null, 0).unwrap();
    server.create(place(""), secret("e"), 0).unwrap();
    server.patch(&place("d"), "application/merge-patch+json", &json!({"metadata": {"labels": {"of": "other"}}}), false, 0).unwrap();
    assert_eq!(page(&server, 2, &token).unwrap(), ("cd".to_owned(), version, String::new()));
    assert_eq!(page(&server, 4, "").unwrap().0, "abe");
    server.page = 1;
    assert_eq!(page(&server, 4, "").unwrap().0, "a", "no more than the server gives");
    server.compacted = server.version;
    assert_eq!(page(&server, 2, &token).unwrap_err(), expired());
}
