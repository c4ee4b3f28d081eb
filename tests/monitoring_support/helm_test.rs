//! The script of `helm test`, run with a stand-in for wget.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::text;

const TEMPLATE: &str = "charts/dci-operator/templates/tests/metrics.yaml";

/// The script as it stands in the template; what Helm fills in is a name.
fn script() -> String {
    let template = text(TEMPLATE);
    let (_, rest) = template.split_once("args:\n        - |\n").expect("the script");
    let lines: Vec<&str> = rest.lines().take_while(|line| line.starts_with("          ")).map(str::trim_start).collect();
    let filled = regex::Regex::new(r"\{\{[^}]*\}\}").unwrap();
    filled.replace_all(&lines.join("\n"), "metrics").into_owned()
}

/// Runs it where each request is answered by the next of these pages, and then by the last one again. Exit code, and what it said.
fn run(name: &str, pages: &[&str]) -> (i32, String) {
    let folder = std::env::temp_dir().join(format!("dci-operator-helm-test-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (number, page) in pages.iter().enumerate() {
        std::fs::write(folder.join(number.to_string()), page).unwrap();
    }
    let last = pages.len() - 1;
    let wget = format!(
        "#!/bin/sh\ncd '{}'\nn=$(cat asked 2>/dev/null || echo 0)\necho $((n + 1)) >asked\n[ $n -le {last} ] || n={last}\n[ -s $n ] || exit 1\ncat $n\n",
        folder.display()
    );
    for (tool, script) in [("wget", wget.as_str()), ("sleep", "#!/bin/sh\n")] {
        std::fs::write(folder.join(tool), script).unwrap();
        std::fs::set_permissions(folder.join(tool), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let search = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh").args(["-ec", &script()]).env("PATH", search).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn helm_test_passes_where_a_replica_works_and_nowhere_else() {
    let page =
        |leader: u8| format!("# TYPE dci_operator_leader gauge\ndci_operator_leader {leader}\ndci_operator_events_dropped_total 1\n");
    let (works, waits) = (page(1), page(0));
    assert_eq!(run("works", &[&works]).0, 0);
    // The Service takes whichever replica it likes, and one needs a while to become leader.
    assert_eq!(run("several", &["", &waits, &waits, "", &waits, &works]).0, 0);
    let (code, said) = run("waits", &[&waits]);
    assert!(code == 1 && said.contains("no replica works"), "{code}: {said}");
    let (code, said) = run("silent", &[""]);
    assert!(code == 1 && said.contains("does not serve its metrics"), "{code}: {said}");
    // Somebody else's page.
    let (code, said) = run("other", &["up 1\n"]);
    assert!(code == 1 && said.contains("does not serve its metrics"), "{code}: {said}");
}

/// The Service leads to any of the replicas. The one that works is met among as many as the chart takes.
#[test]
fn helm_test_asks_often_enough_for_as_many_replicas_as_there_may_be() {
    let schema: serde_json::Value = serde_json::from_str(&text("charts/dci-operator/values.schema.json")).unwrap();
    let most = schema["properties"]["replicaCount"]["maximum"].as_f64().unwrap();
    let script = script();
    let (_, rest) = script.split_once("$(seq ").unwrap();
    let times: i32 = rest.split(')').next().unwrap().parse().unwrap();
    let missed = (1.0 - 1.0 / most).powi(times);
    assert!(missed < 0.0002, "{times} questions miss the one of {most} that works with {missed}");
}
