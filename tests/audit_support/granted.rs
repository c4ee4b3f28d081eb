//! What the chart grants the operator's account: which permissions, where they hold, and whether docs/permissions.md says the same.

use std::collections::BTreeSet;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::{HOW, Request};

/// A permission as the chart grants it, one verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    pub group: String,
    /// With the subresource.
    pub resource: String,
    pub verb: String,
    /// Empty: whatever its name.
    pub names: BTreeSet<String>,
    /// The namespace in which it holds; none: in all, and for what has no namespace.
    pub namespace: Option<String>,
}

impl Permission {
    pub fn text(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let names = if names.is_empty() { String::new() } else { format!(" [{}]", names.join(", ")) };
        format!("{} {}/{}{names}", self.verb, self.group, self.resource)
    }

    /// Kind of the role that it stands in.
    pub fn role(&self) -> &'static str {
        if self.namespace.is_some() { "Role" } else { "ClusterRole" }
    }

    pub fn covers(&self, request: &Request) -> bool {
        let named = self.names.is_empty() || request.name.as_ref().is_some_and(|name| self.names.contains(name));
        self.group == request.group && self.resource == request.resource && self.verb == request.verb && named
    }
}

/// The operator's permissions in what Helm renders: those of the roles that its account is bound to. Roles for people are not its
/// business.
pub fn permissions(text: &str) -> Vec<Permission> {
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).filter(|o| !o.is_null()).collect();
    let account = &documents.iter().find(|object| object["kind"] == "ServiceAccount").unwrap()["metadata"];
    let is_account = |subject: &Value| {
        subject["kind"] == "ServiceAccount" && subject["name"] == account["name"] && subject["namespace"] == account["namespace"]
    };
    let words =
        |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect() };
    let mut found = BTreeSet::new();
    for binding in documents.iter().filter(|object| object["subjects"].as_array().is_some_and(|all| all.iter().any(is_account))) {
        let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
        let namespace = binding["metadata"]["namespace"].as_str();
        assert_eq!(binding["kind"], if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" }, "{binding}");
        assert_eq!(*kind, if namespace.is_some() { "Role" } else { "ClusterRole" }, "bound elsewhere than it stands: {binding}");
        let is_bound = |role: &&Value| {
            role["kind"] == *kind && role["metadata"]["name"] == *name && role["metadata"]["namespace"].as_str() == namespace
        };
        let role = documents.iter().find(is_bound).unwrap_or_else(|| panic!("bound to a role that is not there: {binding}"));
        for rule in role["rules"].as_array().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        assert!(group != "*" && resource != "*" && verb != "*", "a permission for everything: {rule}");
                        let names = words(&rule["resourceNames"]).into_iter().collect();
                        let namespace = namespace.map(str::to_owned);
                        found.insert(Permission { group: group.clone(), resource: resource.clone(), verb, names, namespace });
                    }
                }
            }
        }
    }
    found.into_iter().collect()
}

/// The operator's permissions as the chart renders them with these values, for a release in namespace `system`.
pub fn rendered(values: &[&str]) -> Vec<Permission> {
    let helm = std::env::var("DCI_HELM").unwrap_or_else(|_| "helm".into());
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dci-operator");
    let mut command = Command::new(helm);
    command.args(["template", "dci", chart, "--namespace", "system"]);
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {HOW}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    permissions(&String::from_utf8(output.stdout).unwrap())
}

const SOME: [&str; 2] = ["watchNamespaces={shop,hosting}", "clusterId=a"];
const SELECTORS: [&str; 1] = ["rbac.namespaceSelectors=true"];

/// A permission that is used may still reach further than it has to: the audit log does not tell.
#[test]
fn no_permission_reaches_further_than_it_has_to() {
    for (values, watched) in [(&[][..], &[][..]), (&SELECTORS, &[]), (&SOME, &["shop", "hosting"])] {
        let all = rendered(values);
        assert!(all.len() >= 20, "{values:?}: {}", all.len());
        for permission in &all {
            let text = permission.text();
            let namespace = permission.namespace.as_deref();
            if permission.resource == "leases" {
                assert_eq!(namespace, Some("system"), "{values:?}: locks are in the release's own namespace: {text}");
            } else if watched.is_empty() {
                assert_eq!(namespace, None, "{values:?}: {text}");
            } else {
                assert!(namespace.is_some_and(|name| watched.contains(&name)), "{values:?}: {text} holds in {namespace:?}");
            }
        }
        // In each of them the same.
        let counts: BTreeSet<usize> =
            watched.iter().map(|name| all.iter().filter(|p| p.namespace.as_deref() == Some(name)).count()).collect();
        assert!(counts.len() <= 1, "{values:?}: {counts:?}");
        let names = |resource: &str| -> Vec<Vec<String>> {
            let found = all.iter().filter(|p| p.resource == resource);
            found.map(|p| [vec![p.verb.clone()], p.names.iter().cloned().collect()].concat()).collect()
        };
        let (mut namespaces, mut definitions) = (Vec::new(), Vec::new());
        if watched.is_empty() {
            namespaces.push(vec!["get", "kube-system"]);
            definitions.push(vec!["get", "dedicatedserverorders.dci-operator.dev"]);
        }
        if values == SELECTORS {
            namespaces.insert(0, vec!["get"]);
        }
        assert_eq!(names("namespaces"), namespaces, "{values:?}");
        assert_eq!(names("customresourcedefinitions"), definitions, "{values:?}");
    }
}

/// Group, resource, and the name where it is one only.
type Resource = (&'static str, &'static str, &'static str);

/// What the table calls resources.
const RESOURCES: [(&str, &[Resource]); 10] = [
    (
        "orders, handlers, IPManagers",
        &[
            ("dci-operator.dev", "dedicatedserverorders", ""),
            ("dci-operator.dev", "processinghandlers", ""),
            ("dci-operator.dev", "ipmanagers", ""),
        ],
    ),
    ("tasks", &[("dci-operator.dev", "manualtasks", "")]),
    (
        "`*/status`",
        &[
            ("dci-operator.dev", "dedicatedserverorders/status", ""),
            ("dci-operator.dev", "processinghandlers/status", ""),
            ("dci-operator.dev", "ipmanagers/status", ""),
            ("dci-operator.dev", "manualtasks/status", ""),
        ],
    ),
    ("`dedicatedserverorders/finalizers`", &[("dci-operator.dev", "dedicatedserverorders/finalizers", "")]),
    ("Secrets", &[("", "secrets", "")]),
    ("events (`events.k8s.io`)", &[("events.k8s.io", "events", "")]),
    ("Leases in its own namespace, always by a Role", &[("coordination.k8s.io", "leases", "")]),
    ("namespace `kube-system`", &[("", "namespaces", "kube-system")]),
    ("definition of orders", &[("apiextensions.k8s.io", "customresourcedefinitions", "dedicatedserverorders.dci-operator.dev")]),
    ("namespaces", &[("", "namespaces", "")]),
];

/// The table's permissions as [`Permission::text`] has them, where all or only some namespaces are watched.
fn documented(everywhere: bool, selectors: bool) -> BTreeSet<String> {
    let page = include_str!("../../docs/permissions.md");
    let mut found = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Permission")) {
        let permission = row.split('|').nth(1).unwrap().trim();
        let (what, rest) = permission.split_once(": ").unwrap_or_else(|| panic!("no verbs: {row}"));
        let (verbs, when) = rest.split_once("; ").unwrap_or((rest, ""));
        let holds = match when {
            "" => true,
            "all namespaces only" => everywhere,
            "only with `rbac.namespaceSelectors`" => selectors,
            other => panic!("a condition that nobody knows: {other}"),
        };
        let (_, resources) = RESOURCES.iter().find(|(name, _)| *name == what).unwrap_or_else(|| panic!("nobody knows what {what} are"));
        for (group, resource, name) in resources.iter().filter(|_| holds) {
            let name = if name.is_empty() { String::new() } else { format!(" [{name}]") };
            found.extend(verbs.split(", ").map(|verb| format!("{verb} {group}/{resource}{name}")));
        }
    }
    found
}

#[test]
fn the_table_of_permissions_is_what_the_chart_grants() {
    for (values, everywhere, selectors) in [(&[][..], true, false), (&SELECTORS, true, true), (&SOME, false, false)] {
        let granted: BTreeSet<String> = rendered(values).iter().map(Permission::text).collect();
        assert_eq!(documented(everywhere, selectors), granted, "{values:?}: docs/permissions.md, and what the chart grants");
    }
}
