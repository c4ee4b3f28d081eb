//! Lists in pages: the same pages from both servers, all of the moment at which the first one was asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use serde_json::{Value, json};

use super::apiserver::{ApiServer, IPMANAGERS, Key, Kind, LEASES, ORDERS};
use super::objects::merged;
use super::simulated_pages::Wanted;
use super::subjects::subject;
use super::{Sent, place, real, real_list, simulated};

/// In the order in which they are made.
const NAMES: [&str; 7] = ["d", "a", "g", "c", "f", "b", "e"];

/// The same objects of one kind at both servers.
struct Both {
    client: Client,
    server: ApiServer,
    /// Kind and namespace.
    of: (Kind, String),
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Real,
    Simulated,
}

/// What one server has said of a list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    pages: Vec<Vec<String>>,
    /// All pages of a list are of one version; which one is each server's own.
    versions: usize,
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

impl Both {
    fn key(&self, name: &str) -> Key {
        (self.of.0, self.of.1.clone(), name.to_owned())
    }

    /// A change that neither refuses.
    async fn change(&mut self, method: &'static str, name: &str, body: Value) {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let (key, sent) = (self.key(name), Sent { method, status: false, content_type, body });
        real(&self.client, &key, &sent).await.unwrap();
        simulated(&mut self.server, &key, &sent).unwrap();
    }

    async fn make(&mut self, name: &str, label: &str) {
        let metadata = json!({"metadata": {"name": name, "namespace": self.of.1, "labels": {"of": label}}});
        self.change("POST", name, merged(subject(self.of.0).0, &metadata)).await;
    }

    async fn page(&self, side: Side, labels: &str, limit: usize, token: &str) -> Result<Value, (u16, String)> {
        match side {
            Side::Real => {
                let query = format!("limit={limit}&continue={token}&labelSelector={}", labels.replace('=', "%3D"));
                real_list(&self.client, &self.key(""), &query).await
            }
            Side::Simulated => {
                let wanted = Wanted { kind: &self.of.0, namespace: &self.of.1, labels, limit, token };
                let page = self.server.page(&wanted).map(Arc::unwrap_or_clone);
                page.map_err(|refusal| (refusal.code, refusal.reason.to_owned()))
            }
        }
    }

    /// All pages from this one on.
    async fn pages(&self, side: Side, labels: &str, limit: usize, mut token: String) -> Told {
        let (mut told, mut versions) = (Told::default(), BTreeSet::new());
        loop {
            let list = self.page(side, labels, limit, &token).await.unwrap();
            told.pages.push(list["items"].as_array().unwrap().iter().map(name).collect());
            versions.insert(list["metadata"]["resourceVersion"].to_string());
            told.versions = versions.len();
            list["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut token);
            if token.is_empty() {
                return told;
            }
            assert!(told.pages.len() <= 2 * NAMES.len(), "{side:?}: pages without end: {told:?}");
        }
    }

    async fn compare(&self, labels: &str, limit: usize) {
        let real = self.pages(Side::Real, labels, limit, String::new()).await;
        let mut simulated = self.pages(Side::Simulated, labels, limit, String::new()).await;
        assert_eq!(real.versions, 1, "{} by {limit}: {real:?}", self.of.0.kind);
        if !labels.is_empty() {
            // A real server does not look ahead whether anything that comes has the labels: a page more may have nothing.
            let names = |told: &Told| told.pages.concat();
            assert_eq!(names(&simulated), names(&real), "{} by {limit} of {labels}", self.of.0.kind);
            simulated.pages.clone_from(&real.pages);
        }
        assert_eq!(simulated, real, "{} by {limit}", self.of.0.kind);
    }
}

#[tokio::test]
async fn lists_come_in_the_pages_of_a_real_server() {
    let (client, namespace) = place().await;
    // Kinds of which nobody else makes objects there.
    for kind in [ORDERS, IPMANAGERS, LEASES] {
        let mut both = Both { client: client.clone(), server: ApiServer::default(), of: (kind, namespace.clone()) };
        for (number, name) in NAMES.into_iter().enumerate() {
            both.make(name, ["shop", "other"][number % 2]).await;
        }
        for limit in [0, 1, 3, 6, 7, 8] {
            both.compare("", limit).await;
            both.compare("of=shop", limit).await;
        }
        // What happens while a list is read is not in what is left of it.
        let mut tokens = Vec::new();
        for side in [Side::Real, Side::Simulated] {
            let first = both.page(side, "", 3, "").await.unwrap();
            assert_eq!(first["items"].as_array().unwrap().iter().map(name).collect::<String>(), "abc");
            tokens.push((side, first["metadata"]["continue"].as_str().unwrap().to_owned()));
        }
        both.change("DELETE", "e", json!({})).await;
        both.make("dd", "shop").await;
        both.change("PATCH", "f", json!({"metadata": {"labels": {"of": "nobody"}}})).await;
        for (side, token) in tokens {
            let told = both.pages(side, "", 3, token).await;
            assert_eq!((told.pages.concat().concat().as_str(), told.versions), ("defg", 1), "{side:?} {}", kind.kind);
            let refused = both.page(side, "", 3, "nonsense").await.unwrap_err();
            assert_eq!(refused, (400, "BadRequest".to_owned()), "{side:?}");
        }
        both.compare("", 3).await;
    }
}
