//! Least privilege, proven by the API server: its audit log of a whole e2e run against the permissions that the chart renders.
//!
//! `make test-e2e` runs this after the e2e tests, which leave the logs in `DCI_AUDIT_DIR`. A permission that is granted and was
//! not used fails, and so does a request that was refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails so says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

#[path = "audit_support/granted.rs"]
mod granted;

use granted::{Permission, permissions, rendered};

const HOW: &str = "run `make test-e2e`: it runs this after the e2e tests";

/// Granted permissions that no request can show, and why. One that is used after all fails.
const UNSEEN: [(&str, &str); 1] = [(
    "update dci-operator.dev/dedicatedserverorders/finalizers",
    "asked for by admission (OwnerReferencesPermissionEnforcement) when a Secret that blocks its owner's deletion is made, not by a \
     request of its own; e2e permissions::secrets_of_an_order_need_its_finalizers_and_are_never_written_again",
)];

/// Requests that are refused as a part of what is tested, by mode, and why. One that does not happen any more fails.
const REFUSED: [(&str, &str, &str); 1] = [(
    "cluster",
    "get /namespaces",
    "without rbac.namespaceSelectors a handler that selects namespaces is refused because the server says so; e2e cluster",
)];

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    group: String,
    resource: String,
    verb: String,
    name: Option<String>,
}

/// One line of the log, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: User,
    verb: String,
    object_ref: Option<Object>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(default)]
    api_group: String,
    resource: String,
    subresource: Option<String>,
    name: Option<String>,
}

/// What accounts of one mode did: requests that were allowed, and that were refused for want of a permission.
#[derive(Debug, Default)]
struct Uses {
    allowed: BTreeMap<Request, usize>,
    refused: BTreeMap<Request, usize>,
}

impl Uses {
    fn read(&mut self, log: impl BufRead, accounts: &BTreeSet<String>) {
        for line in log.lines() {
            let line = line.unwrap();
            if !line.contains("system:serviceaccount:") {
                continue;
            }
            let Line { user, verb, object_ref, annotations } = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            // What is no resource (discovery) is open to everybody.
            let (true, Some(object)) = (accounts.contains(&user.username), object_ref) else { continue };
            let Object { api_group: group, resource, subresource, name } = object;
            let resource = subresource.map_or(resource.clone(), |sub| format!("{resource}/{sub}"));
            let request = Request { group, resource, verb, name };
            // Not by the status code: a namespace that is being deleted refuses what is permitted.
            let decision = annotations.get("authorization.k8s.io/decision").map(String::as_str);
            let of = if decision == Some("forbid") { &mut self.refused } else { &mut self.allowed };
            *of.entry(request).or_default() += 1;
        }
    }

    /// How often each permission was used; a request counts for the narrowest one. And requests that none covers.
    fn by_permission<'p>(&self, granted: &'p [Permission]) -> (BTreeMap<&'p Permission, usize>, Vec<&Request>) {
        let mut counts: BTreeMap<&Permission, usize> = granted.iter().map(|p| (p, 0)).collect();
        let mut uncovered = Vec::new();
        for (request, times) in &self.allowed {
            let narrowest = granted.iter().filter(|p| p.covers(request)).max_by_key(|p| !p.names.is_empty());
            match narrowest {
                Some(permission) => *counts.entry(permission).or_default() += times,
                None => uncovered.push(request),
            }
        }
        (counts, uncovered)
    }
}

/// What is wrong with what was granted and what was used; the table of both is printed.
fn verdict(mode: &str, granted: &[Permission], uses: &Uses) -> Vec<String> {
    let (counts, uncovered) = uses.by_permission(granted);
    let mut wrong = Vec::new();
    println!("\n{mode}\n{:>9}  {:<11}  PERMISSION", "USES", "ROLE");
    for (permission, count) in counts {
        let text = permission.text();
        let unseen = UNSEEN.iter().find(|(unseen, _)| *unseen == text);
        println!("{count:>9}  {:<11}  {text}{}", permission.role(), unseen.map_or("", |_| " (no request shows it)"));
        match (count, unseen) {
            (0, None) => wrong.push(format!("{mode}: granted and never used: {text}")),
            (0, Some(_)) | (_, None) => {}
            (_, Some((_, why))) => wrong.push(format!("{mode}: used after all, take it off the list ({why}): {text}")),
        }
    }
    wrong.extend(uncovered.iter().map(|r| format!("{mode}: used and granted by nothing of the chart: {r:?}")));
    wrong
}

/// Requests that were refused and should not have been, and the other way round.
fn refusals(mode: &str, uses: &Uses) -> Vec<String> {
    let mut expected: BTreeSet<&str> = REFUSED.iter().filter(|(of, ..)| *of == mode).map(|(_, request, _)| *request).collect();
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for (request, times) in &uses.refused {
        let text = format!("{} {}/{}", request.verb, request.group, request.resource);
        match expected.get(text.as_str()) {
            Some(known) => {
                met.insert(*known);
            }
            None => wrong.push(format!("{mode}: used and not granted ({times} times): {text} {:?}", request.name)),
        }
    }
    expected.retain(|known| !met.contains(known));
    wrong.extend(expected.iter().map(|known| format!("{mode}: is not refused any more, take it off the list: {known}")));
    wrong
}

/// Uses by mode, from the logs and accounts that the tests have left.
fn logged(dir: &Path) -> BTreeMap<String, Uses> {
    let noted = std::fs::read_to_string(dir.join("accounts")).unwrap_or_else(|e| panic!("{}: {e}; {HOW}", dir.display()));
    let mut accounts: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in noted.lines() {
        let [log, mode, account] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        accounts.entry((log.to_owned(), mode.to_owned())).or_default().insert(account.to_owned());
    }
    let mut uses: BTreeMap<String, Uses> = BTreeMap::new();
    for ((log, mode), accounts) in &accounts {
        let path = dir.join(format!("{log}.log"));
        let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        uses.entry(mode.clone()).or_default().read(BufReader::new(file), accounts);
    }
    uses
}

#[test]
fn everything_granted_is_used_and_nothing_else_is_asked_for() {
    let dir = std::env::var_os("DCI_AUDIT_DIR").unwrap_or_else(|| panic!("DCI_AUDIT_DIR is not set; {HOW}"));
    let mut logged = logged(Path::new(&dir));
    let mut wrong: Vec<String> = logged.iter().flat_map(|(mode, uses)| refusals(mode, uses)).collect();
    // With and without the permission that only some need it is the same operator.
    let mut wide = logged.remove("selectors").unwrap_or_default();
    for (request, times) in logged.remove("cluster").unwrap_or_default().allowed {
        *wide.allowed.entry(request).or_default() += times;
    }
    let narrow = logged.remove("namespaced").unwrap_or_default();
    assert!(logged.is_empty(), "modes that nobody knows: {:?}", logged.keys());
    wrong.extend(verdict("all namespaces", &rendered(&["rbac.namespaceSelectors=true"]), &wide));
    wrong.extend(verdict("some namespaces", &rendered(&["watchNamespaces={shop}", "clusterId=a"]), &narrow));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const ROLE: &str = "
kind: ClusterRole
metadata: {name: dci}
rules:
  - {apiGroups: [''], resources: [namespaces], resourceNames: [kube-system], verbs: [get]}
  - {apiGroups: [''], resources: [namespaces], verbs: [get]}
  - {apiGroups: [dci-operator.dev], resources: [manualtasks, manualtasks/status], verbs: [update]}
  - {apiGroups: [dci-operator.dev], resources: [dedicatedserverorders/finalizers], verbs: [update]}
---
kind: ClusterRoleBinding
roleRef: {kind: ClusterRole, name: dci}
subjects: [{kind: ServiceAccount, name: dci, namespace: s}]
---
kind: ServiceAccount
metadata: {name: dci, namespace: s}
---
kind: ClusterRole
metadata: {name: for-people}
rules: [{apiGroups: [''], resources: [pods], verbs: [delete]}]
";

fn line(user: &str, verb: &str, resource: &str, name: &str, decision: &str) -> String {
    let (resource, sub) = resource.split_once('/').map_or((resource, None), |(r, s)| (r, Some(s)));
    let group = if resource == "namespaces" { "" } else { "dci-operator.dev" };
    let mut object = serde_json::json!({"resource": resource, "name": name});
    for (key, value) in [("subresource", sub.unwrap_or_default()), ("apiGroup", group)] {
        if !value.is_empty() {
            object[key] = value.into();
        }
    }
    let line = serde_json::json!({
        "user": {"username": format!("system:serviceaccount:{user}")}, "verb": verb, "objectRef": object,
        "annotations": {"authorization.k8s.io/decision": decision},
    });
    format!("{line}\n")
}

#[test]
fn what_is_missing_and_what_is_too_much_is_told() {
    let granted = permissions(ROLE);
    assert_eq!(granted.len(), 5, "roles for people are not the operator's: {granted:#?}");
    let accounts = BTreeSet::from(["system:serviceaccount:s:dci".to_owned()]);
    let read = |lines: &[String]| {
        let mut uses = Uses::default();
        uses.read(lines.concat().as_bytes(), &accounts);
        uses
    };
    let all = [
        line("s:dci", "get", "namespaces", "kube-system", "allow"),
        line("s:dci", "get", "namespaces", "shop", "allow"),
        line("s:dci", "update", "manualtasks", "a", "allow"),
        line("s:dci", "update", "manualtasks/status", "a", "allow"),
        // Neither another account nor the administrator counts.
        line("s:nobody", "delete", "manualtasks", "a", "forbid"),
        "{\"user\": {\"username\": \"admin\"}, \"verb\": \"delete\"}\n".to_owned(),
    ];
    assert_eq!(verdict("m", &granted, &read(&all)), [] as [String; 0]);
    // The narrow one does not stand in for the wide one.
    let told = verdict("m", &granted, &read(&[&all[..1], &all[2..]].concat()));
    assert_eq!(told, ["m: granted and never used: get /namespaces"]);
    let told = verdict("m", &granted, &read(&[&all[1..]].concat()));
    assert_eq!(told, ["m: granted and never used: get /namespaces [kube-system]"]);
    // By somebody else's grace.
    let other = line("s:dci", "list", "manualtasks", "a", "allow");
    assert!(verdict("m", &granted, &read(&[&all[..], &[other]].concat()))[0].contains("granted by nothing of the chart"));
    // What cannot be seen, seen.
    let seen = line("s:dci", "update", "dedicatedserverorders/finalizers", "a", "allow");
    assert!(verdict("m", &granted, &read(&[&all[..], &[seen]].concat()))[0].contains("used after all"));
    // Refused.
    let refused = line("s:dci", "delete", "manualtasks", "a", "forbid");
    assert_eq!(refusals("m", &read(&[refused])), ["m: used and not granted (1 times): delete dci-operator.dev/manualtasks Some(\"a\")"]);
    let expected = line("s:dci", "get", "namespaces", "hosting", "forbid");
    assert_eq!(refusals("cluster", &read(std::slice::from_ref(&expected))), [] as [String; 0]);
    assert_eq!(refusals("namespaced", &read(&[expected])).len(), 1);
    assert_eq!(refusals("cluster", &read(&all))[0], "cluster: is not refused any more, take it off the list: get /namespaces");
}
