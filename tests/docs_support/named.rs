//! What the documentation names is there: fields of the four kinds, tests and their files, its own sections.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dci_operator::api::crds::{Target, all};
use serde_json::Value;

use super::{documents, root, slug};

/// All sources of a folder, however deep.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What looks like the name of a test: words with at least this many underscores between them.
fn named_tests(text: &str, underscores: usize) -> BTreeSet<&str> {
    let like_a_test = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    quoted(text).filter(like_a_test).filter(|word| word.matches('_').count() >= underscores).collect()
}

/// Single tests by their names, all of a file by the file's.
#[test]
fn tests_that_the_documentation_names_exist() {
    let mut files = Vec::new();
    sources(&root().join("tests"), &mut files);
    sources(&root().join("src"), &mut files);
    let all: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for (file, least) in [("docs/security.md", 45), ("docs/reliability.md", 15), ("docs/upgrades.md", 3), ("docs/uninstall.md", 3)] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let named = named_tests(&text, 2);
        assert!(named.len() >= least, "{file} names {} tests only", named.len());
        let exists = |name: &str| {
            all.contains(&format!("fn {name}("))
                || ["tests", "tests/core"].iter().any(|dir| root().join(dir).join(format!("{name}.rs")).exists())
        };
        let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "{file}: there is no {missing:?}");
        for name in quoted(&text).filter(|word| Path::new(word).extension().is_some_and(|end| end == "rs") && !word.contains([' ', '*'])) {
            assert!(files.iter().any(|path| path.ends_with(name)), "{file}: there is no file {name}");
        }
    }
}

/// Fields of others' kinds: Kubernetes' own, and Flux's.
const FOREIGN: [&str; 6] =
    ["status.storedVersions", "status.containerStatuses", "spec.holderIdentity", "spec.template.spec", "spec.dependsOn", "spec.values"];

/// Paths of fields as a text has them, such as `spec.connection.url` or `.status.pools[0].name`; inside of another path
/// (`spec.template.spec`) there is none.
fn paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in ["spec", "status"] {
        for (at, _) in text.match_indices(start) {
            let (before, rest) = (&text[..at], &text[at + start.len()..]);
            let mut back = before.chars().rev();
            let inside = match back.next() {
                Some('.') => back.next().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ']'),
                Some(c) => c.is_alphanumeric() || matches!(c, '_' | '-' | '/'),
                None => false,
            };
            if inside {
                continue;
            }
            let mut path = start.to_owned();
            let mut rest = rest;
            loop {
                let name = rest.strip_prefix('.').unwrap_or_default();
                let name = &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())];
                if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                    path = format!("{path}.{name}");
                    rest = &rest[name.len() + 1..];
                } else if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    // One of a list, whichever: a number, all, those of a condition.
                    let _ = index;
                    path.push_str("[]");
                    rest = after;
                } else {
                    break;
                }
            }
            if path != start {
                found.insert(path);
            }
        }
    }
    found
}

fn resolves(schema: &Value, path: &str) -> bool {
    let steps = path.replace("[]", ".[]");
    let end = steps.split('.').try_fold(schema, |at, step| {
        if step == "[]" { at.get("items") } else { at["properties"].get(step).or_else(|| at.get("additionalProperties")) }
    });
    end.is_some()
}

#[test]
fn fields_that_the_documentation_names_exist() {
    let schemas: Vec<Value> =
        all(Target::Current).unwrap().into_iter().map(|mut crd| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()).collect();
    let mut files = documents();
    for folder in ["charts/dci-operator/files/rules", "charts/dci-operator/files/dashboards", "deploy/argocd/lua"] {
        files.extend(std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let (mut count, mut wrong) = (0, Vec::new());
    for file in files {
        for path in paths(&std::fs::read_to_string(&file).unwrap()) {
            if FOREIGN.iter().any(|foreign| path.starts_with(foreign)) {
                continue;
            }
            count += 1;
            if !schemas.iter().any(|schema| resolves(schema, &path)) {
                wrong.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(count > 250, "only {count} fields were found");
    assert!(wrong.is_empty(), "no kind has\n{}", wrong.join("\n"));
}

#[test]
fn paths_of_fields_are_found_in_a_text() {
    let text = "`spec.a.b`, {.status.c[0].d} status.e[?(@.f==\"g\")].h. @.spec.i order.status.j x_status.rs spec.k... spec.template.spec.l";
    let found: Vec<String> = paths(text).into_iter().collect();
    assert_eq!(found, ["spec.a.b", "spec.i", "spec.k", "spec.template.spec.l", "status.c[].d", "status.e[].h"]);
    let schema = &all(Target::Current).unwrap()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for (path, known) in
        [("spec.addresses.ipv4", true), ("status.steps[].name", true), ("spec.ipManagerRef", false), ("status.steps.name", false)]
    {
        assert_eq!(resolves(schema, path), known, "{path}");
    }
}

/// A section that the table of contents leaves out is found by those who know that it is there.
#[test]
fn the_contents_of_the_readme_are_its_sections() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let contents = text.split_once("**Contents:**").unwrap().1.split_once("\n\n").unwrap().0;
    let listed: Vec<&str> = contents.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    let mut fenced = false;
    let headings = text.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with("## ")
    });
    let sections: Vec<String> = headings.map(slug).filter(|section| section != "more").collect();
    assert_eq!(listed, sections);
}
