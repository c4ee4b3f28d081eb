//! Names of requests that are the same in every run: side, verb, kind of object, name, and how many of these there were before.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Instant;

use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::{Asked, KUBE};

/// The name of a request: `kube update dedicatedserverorders/status shop/web-01 #3`, `dci server.edit! 17 #1`. A `!` marks a change at a panel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// `kube`, or the panel's name.
    pub side: String,
    /// What is asked for.
    pub what: String,
    /// How many of these there were, this one included.
    pub nth: u32,
}

impl Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.side, self.what, self.nth)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (what, nth) = text.rsplit_once(" #")?;
            let (side, what) = what.split_once(' ')?;
            Some(Self { side: side.to_owned(), what: what.to_owned(), nth: nth.parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is no name of a request"))
    }
}

/// Functions of panels that act without a form being submitted, by their last words.
const ACTS: [&str; 11] =
    ["delete", "poweron", "poweroff", "reboot", "hardreboot", "enable", "disable", "opercancel", "suspend", "resume", "on"];

/// Fields that log in.
const HIDDEN: [&str; 6] = ["auth", "authinfo", "username", "password", "passwd", "confirm"];

/// Counts the requests of one run.
pub(super) struct Counter {
    names: Vec<(String, String)>,
    counts: Mutex<BTreeMap<(String, String), u32>>,
}

impl Counter {
    pub(super) fn new(names: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|(name, means)| ((*name).to_owned(), (*means).to_owned())).collect();
        Self { names, counts: Mutex::default() }
    }

    pub(super) fn reset(&self) {
        self.counts.lock().unwrap().clear();
    }

    fn point(&self, side: &str, what: String) -> Point {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry((side.to_owned(), what.clone())).or_default();
        *count += 1;
        Point { side: side.to_owned(), what, nth: *count }
    }

    /// A request to the API server.
    pub(super) fn kube(&self, head: &Parts, body: &[u8]) -> Asked {
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let place = Place::of(path);
        let watch = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
        let verb = match (head.method.as_str(), place.name.is_empty()) {
            ("GET", _) if watch => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            (other, _) => other,
        };
        let namespace = self.neutral(&place.namespace);
        // Events and locks have names that are made up anew in each run.
        let name = if ["events", "leases"].contains(&place.resource.as_str()) && !place.name.is_empty() {
            "*".to_owned()
        } else {
            self.neutral(&place.name)
        };
        let at = [namespace, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        // What is created stands in the body.
        let made = if verb == "create" { sent["metadata"]["name"].as_str().unwrap_or_default() } else { "" };
        let made = if ["events", "leases"].contains(&place.resource.as_str()) { String::new() } else { self.neutral(made) };
        let what = format!("{verb} {} {at}{}{made}", place.resource, if made.is_empty() { "" } else { "/" });
        let change = !["watch", "list", "get"].contains(&verb);
        self.asked(self.point(KUBE, what.trim_end().to_owned()), change, watch, head.uri.to_string(), sent)
    }

    /// A request to a panel.
    pub(super) fn panel(&self, side: &str, head: &Parts, body: &[u8]) -> Asked {
        let query = format!("http://x/?{}&{}", head.uri.query().unwrap_or_default(), String::from_utf8_lossy(body));
        let fields: BTreeMap<String, String> =
            reqwest::Url::parse(&query).map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default();
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let func = field("func");
        let submits = !field("sok").is_empty() && (func.contains('.') || func.ends_with("edit"));
        let acts = func.rsplit_once('.').is_some_and(|(_, last)| ACTS.contains(&last) || last == "off");
        let change = submits || acts;
        let target = [field("plid"), field("elid")].into_iter().filter(|id| !id.is_empty()).collect::<Vec<_>>().join("/");
        let what = format!("{func}{} {}", if change { "!" } else { "" }, self.neutral(&target));
        let shown: BTreeMap<&String, &String> = fields.iter().filter(|(name, _)| !HIDDEN.contains(&name.as_str())).collect();
        self.asked(self.point(side, what.trim_end().to_owned()), change, false, format!("{func} {target}"), json!(shown))
    }

    fn asked(&self, point: Point, change: bool, watch: bool, path: String, sent: Value) -> Asked {
        let _ = self;
        Asked { point, change, watch, path, sent, at: Instant::now(), fault: None, status: None }
    }

    /// A name without what differs from run to run.
    fn neutral(&self, name: &str) -> String {
        let name = self.names.iter().fold(name.to_owned(), |text, (name, means)| text.replace(name, means));
        let part = |part: &str| part.split('-').map(|word| if differs(word) { "*" } else { word }).collect::<Vec<_>>().join("-");
        name.split('/').map(part).collect::<Vec<_>>().join("/")
    }
}

/// A word that is a digest, a part of a uid, the id of an address, or the address itself.
fn differs(word: &str) -> bool {
    let digest = word.len() >= 4 && word.bytes().all(|b| b.is_ascii_hexdigit()) && word.bytes().any(|b| b.is_ascii_digit());
    digest || word.len() >= 16 && word.bytes().all(|b| b.is_ascii_alphanumeric()) || word.parse::<std::net::IpAddr>().is_ok()
}

/// Where a path of the API server leads.
pub(super) struct Place {
    /// Plural, with the subresource.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_matches('/').split('/');
        match parts.next() {
            Some("api") => {
                parts.next();
            }
            Some("apis") => {
                parts.next();
                parts.next();
            }
            Some(_) | None => return Self { resource: path.to_owned(), namespace: String::new(), name: String::new() },
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, resource, rest @ ..] => (*namespace, [&[*resource], rest].concat()),
            other => ("", other.to_vec()),
        };
        let (resource, name, sub) = match rest.as_slice() {
            [resource, name, sub, ..] => (*resource, *name, *sub),
            [resource, name] => (*resource, *name, ""),
            [resource] => (*resource, "", ""),
            [] => ("", "", ""),
        };
        let resource = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

#[test]
fn a_request_has_the_same_name_in_every_run() {
    let head = |method: &str, uri: &str| hyper::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0;
    let counter = Counter::new(&[("c-abcde", "shop"), ("o-abcde", "system")]);
    let orders = "/apis/dci-operator.dev/v1alpha1/namespaces/c-abcde/dedicatedserverorders";
    let names: Vec<String> = [
        counter.kube(&head("PUT", &format!("{orders}/web-01/status")), b"{}"),
        counter.kube(&head("PUT", &format!("{orders}/web-01/status?x=1")), b"{}"),
        counter.kube(&head("GET", &format!("{orders}?watch=true&resourceVersion=7")), b""),
        counter.kube(&head("GET", &format!("{orders}?limit=1")), b""),
        counter.kube(&head("POST", "/apis/coordination.k8s.io/v1/namespaces/o-abcde/leases"), br#"{"metadata":{"name":"dci-1f2e"}}"#),
        counter.kube(&head("POST", "/api/v1/namespaces/c-abcde/secrets"), br#"{"metadata":{"name":"web-01-root"}}"#),
        counter.kube(&head("GET", "/version"), b""),
        counter.panel("dci", &head("POST", "/dcimgr"), b"func=server.edit&elid=17&sok=ok&owner=1"),
        counter.panel("dci", &head("POST", "/dcimgr"), b"func=server.edit&elid=17"),
        counter.panel("dci", &head("POST", "/dcimgr"), b"func=iplist.delete&plid=17&elid=500001"),
        counter.panel("dci", &head("POST", "/dcimgr"), b"func=auth&username=a&password=b"),
    ]
    .into_iter()
    .map(|asked| asked.point.to_string())
    .collect();
    let expected = [
        "kube update dedicatedserverorders/status shop/web-01 #1",
        "kube update dedicatedserverorders/status shop/web-01 #2",
        "kube watch dedicatedserverorders shop #1",
        "kube list dedicatedserverorders shop #1",
        "kube create leases system #1",
        "kube create secrets shop/web-01-root #1",
        "kube list /version #1",
        "dci server.edit! 17 #1",
        "dci server.edit 17 #1",
        "dci iplist.delete! 17/* #1",
        "dci auth #1",
    ];
    assert_eq!(names, expected);
    for name in names {
        assert_eq!(name.parse::<Point>().unwrap().to_string(), name);
    }
}
