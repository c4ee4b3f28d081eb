//! The alerts of the chart, evaluated by Prometheus's own `promtool` over what pretended operators show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::fleet::{Course, Fleet, HOME, Leader, NEIGHBOURS, Place, condition, in_step, scraped, series, task, with_server};
use super::incidents::{BEGINS, INCIDENTS, Incident, OVER, everyday};
use super::{RULES, alerts, path};

/// promtool; a test that needs it is counted as skipped where there is none.
fn promtool(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let found = found.map(|dir| dir.join("promtool")).find(|path| path.is_file());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs promtool): {test}");
    }
    found
}

/// What has to be true: either whole alerts, with all that they say, or which alerts fire.
enum Expected {
    Alerts(Vec<Value>),
    Firing(Vec<Value>),
}

/// Runs the real rules over these series; Prometheus itself says whether each alert is as it has to be. `every`: how often samples
/// are taken, and how often rules are evaluated.
fn evaluate(promtool: &Path, name: &str, every: [&str; 2], series: &[Value], expected: &Expected) {
    assert!(series.iter().any(|s| s["series"].as_str().unwrap().contains("dci_operator_leader")), "{name}: nothing was scraped");
    let mut run = json!({"interval": every[0], "input_series": series});
    match expected {
        Expected::Alerts(all) => run["alert_rule_test"] = json!(all),
        Expected::Firing(all) => run["promql_expr_test"] = json!(all),
    }
    let test = json!({"rule_files": [path(RULES)], "evaluation_interval": every[1], "tests": [run]});
    let file = std::env::temp_dir().join(format!("dci-operator-alerts-{}-{name}.yaml", std::process::id()));
    std::fs::write(&file, serde_yaml::to_string(&test).unwrap()).unwrap();
    let output = Command::new(promtool).args(["test", "rules"]).arg(&file).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {said}\n{}", file.display());
    std::fs::remove_file(&file).unwrap();
}

/// Samples and evaluations once a minute.
const MINUTES: [&str; 2] = ["1m", "1m"];

/// What an alert has to be at a minute: there with these labels and annotations, or not there.
fn expectation(minute: i64, alert: &str, there: Option<&Incident>) -> Value {
    let there = there.map(|incident| json!({"exp_labels": labels(incident, HOME), "exp_annotations": incident.annotations(minute)}));
    json!({"eval_time": format!("{minute}m"), "alertname": alert, "exp_alerts": there.into_iter().collect::<Vec<_>>()})
}

fn labels(incident: &Incident, place: Place) -> BTreeMap<&'static str, &'static str> {
    let place = [("cluster", place.cluster), ("namespace", place.namespace)];
    incident.labels.iter().copied().chain(place.into_iter().filter(|(_, value)| !value.is_empty())).collect()
}

/// The alerts that fire at a time, wherever they do, and no others.
fn firing(at: &str, all: &[(&str, Place)]) -> Value {
    let mut samples: Vec<Value> = Vec::new();
    for (alert, Place { cluster, namespace }) in all {
        let mut labels = format!("{{alertname=\"{alert}\"");
        for (name, value) in [("cluster", cluster), ("namespace", namespace)].iter().filter(|(_, value)| !value.is_empty()) {
            write!(labels, ",{name}=\"{value}\"").unwrap();
        }
        samples.push(json!({"labels": labels + "}", "value": 1}));
    }
    json!({"expr": "count by (alertname, cluster, namespace) (ALERTS{alertstate=\"firing\"})", "eval_time": at, "exp_samples": samples})
}

impl Incident {
    /// As the rule has them, filled in.
    fn annotations(&self, minute: i64) -> Value {
        let alert = alerts().into_iter().find(|a| a["alert"] == self.alert).unwrap();
        let mut annotations = alert["annotations"].clone();
        let replaced = regex::Regex::new(r#"\{\{ reReplaceAll "([^"]+)" "([^"]+)" \$labels\.(\w+) \}\}"#).unwrap();
        for (_, text) in annotations.as_object_mut().unwrap() {
            let mut filled = replaced
                .replace_all(text.as_str().unwrap(), |found: &regex::Captures| {
                    let value = self.labels.iter().find(|(name, _)| *name == &found[3]).unwrap().1;
                    regex::Regex::new(&found[1]).unwrap().replace_all(value, &found[2]).into_owned()
                })
                .into_owned();
            for (name, value) in self.labels {
                filled = filled.replace(&format!("{{{{ $labels.{name} }}}}"), value);
            }
            filled = filled.replace("{{ $value }}", self.value).replace("{{ $value | humanizeDuration }}", &(self.duration)(minute));
            assert!(!filled.contains("{{"), "{}: {filled}", self.alert);
            *text = filled.into();
        }
        assert_eq!(annotations["summary"], self.summary);
        let description = annotations["description"].as_str().unwrap();
        assert!(description.contains(self.description), "{}: {description}", self.alert);
        annotations
    }

    /// The cluster in which it happens.
    fn fleet(&self, minute: i64) -> Fleet {
        let mut fleet = Fleet::default();
        if (BEGINS..OVER).contains(&minute) {
            (self.happens)(&mut fleet, minute);
        }
        fleet
    }
}

/// With neighbours in good order, whose handlers have the same names.
fn at_home(course: Course<'_>) -> Vec<Value> {
    static WELL: OnceLock<Vec<Value>> = OnceLock::new();
    let well = WELL.get_or_init(|| series(120, &NEIGHBOURS.map(|place| (place, &(|_| Fleet::default()) as Course<'_>))));
    let mut all = series(120, &[(HOME, course)]);
    all.extend_from_slice(well);
    all
}

#[test]
fn each_alert_fires_in_its_incident_and_in_no_other() {
    let Some(promtool) = promtool("each_alert_fires_in_its_incident_and_in_no_other") else { return };
    let names: Vec<String> = alerts().iter().map(|a| a["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, INCIDENTS.map(|i| i.alert), "one incident for each alert, in the order of the rules");
    for incident in &INCIDENTS {
        let mut expected = Vec::new();
        let fires = BEGINS + incident.after;
        for minute in [BEGINS - 1, fires - 1, fires, OVER - 1, OVER + 6, 119] {
            let there = (fires..OVER).contains(&minute);
            expected.extend(names.iter().map(|name| expectation(minute, name, (there && name == incident.alert).then_some(incident))));
        }
        evaluate(&promtool, incident.alert, MINUTES, &at_home(&|minute| incident.fleet(minute)), &Expected::Alerts(expected));
    }
}

/// The pod that leads goes, for a minute there is nobody, and a new one takes over, whose series are others: that is no reason to take
/// an alert back, or to begin anew to wait for it. Evaluated twice in each gap.
#[test]
fn a_new_leader_neither_delays_an_alert_nor_takes_it_back() {
    let Some(promtool) = promtool("a_new_leader_neither_delays_an_alert_nor_takes_it_back") else { return };
    for incident in INCIDENTS.iter().filter(|incident| incident.alert != "DciOperatorDown") {
        let fires = BEGINS + incident.after;
        let mut gaps = vec![BEGINS + 2, fires - 1, fires + 7, fires + 19];
        if incident.alert == "DciWatchStale" {
            // Before it was stale, the new one has to see by itself that it is.
            gaps.remove(0);
        }
        let course = |minute| {
            let mut fleet = incident.fleet(minute);
            let before = gaps.iter().filter(|gap| **gap < minute).max();
            if let Some(gap) = before {
                fleet.leader = Some(Leader { pod: 10 + gap, since: gap + 1 });
            }
            if gaps.contains(&minute) {
                fleet.leader = None;
            }
            fleet
        };
        let mut expected = vec![firing(&format!("{}m30s", fires - 1), &[])];
        for minute in fires..OVER {
            expected.extend(["0s", "30s"].map(|second| firing(&format!("{minute}m{second}"), &[(incident.alert, HOME)])));
        }
        expected.extend([OVER, OVER + 1, OVER + 6, 119].map(|minute| firing(&format!("{minute}m"), &[])));
        let name = format!("{}-new-leader", incident.alert);
        evaluate(&promtool, &name, ["1m", "30s"], &at_home(&course), &Expected::Firing(expected));
    }
}

/// What is over while nobody leads, or with the one that led, is not told of any more once another one knows better.
#[test]
fn a_new_leader_knows_better_than_the_one_before() {
    let Some(promtool) = promtool("a_new_leader_knows_better_than_the_one_before") else { return };
    for incident in INCIDENTS.iter().filter(|incident| incident.alert != "DciOperatorDown") {
        let gone = BEGINS + incident.after + 5;
        let course = |minute| match minute {
            ..BEGINS => Fleet::default(),
            _ if minute < gone => incident.fleet(minute),
            _ if minute == gone => Fleet { leader: None, ..Fleet::default() },
            _ => Fleet { leader: Some(Leader { pod: 2, since: gone + 1 }), ..Fleet::default() },
        };
        let mut expected = vec![firing(&format!("{}m", gone - 1), &[(incident.alert, HOME)])];
        expected.extend((gone + 1..gone + 15).map(|minute| firing(&format!("{minute}m"), &[])));
        let name = format!("{}-better", incident.alert);
        evaluate(&promtool, &name, MINUTES, &at_home(&course), &Expected::Firing(expected));
    }
}

/// Series of what was over end while somebody leads. They are not remembered for so long that it would be told of again.
#[test]
fn what_was_over_is_not_raised_anew_while_nobody_leads() {
    let Some(promtool) = promtool("what_was_over_is_not_raised_anew_while_nobody_leads") else { return };
    for incident in INCIDENTS.iter().filter(|incident| incident.alert != "DciOperatorDown") {
        let over = BEGINS + incident.after + 5;
        let course = |minute| {
            let mut fleet = if minute < over { incident.fleet(minute) } else { Fleet::default() };
            if minute > over {
                fleet.leader = None;
            }
            fleet
        };
        let mut expected = vec![firing(&format!("{}m", over - 1), &[(incident.alert, HOME)])];
        expected.extend((over..over + 6).map(|minute| firing(&format!("{minute}m"), &[])));
        expected.extend((over + 6..over + 40).map(|minute| firing(&format!("{minute}m"), &[("DciOperatorDown", HOME)])));
        let name = format!("{}-over", incident.alert);
        evaluate(&promtool, &name, MINUTES, &at_home(&course), &Expected::Firing(expected));
    }
}

#[test]
fn everyday_life_raises_no_alert() {
    let Some(promtool) = promtool("everyday_life_raises_no_alert") else { return };
    let course = |minute| {
        let mut fleet = Fleet::default();
        everyday(&mut fleet, minute);
        fleet
    };
    let expected = (0..120).map(|minute| firing(&format!("{minute}m"), &[])).collect();
    evaluate(&promtool, "everyday", MINUTES, &at_home(&course), &Expected::Firing(expected));
}

/// Where the department has no deadline a day is one.
#[test]
fn a_task_without_a_deadline_is_overdue_after_a_day() {
    let Some(promtool) = promtool("a_task_without_a_deadline_is_overdue_after_a_day") else { return };
    let course: Course<'_> = &|minute| {
        let mut fleet = Fleet::default();
        if minute < OVER {
            fleet.tasks.push(task("FailedOperation", BEGINS - 24 * 60, None));
        }
        fleet
    };
    let mut expected: Vec<Value> = (0..BEGINS + 5).map(|minute| firing(&format!("{minute}m"), &[])).collect();
    expected.extend((BEGINS + 5..OVER).map(|minute| firing(&format!("{minute}m"), &[("DciTaskOverdue", HOME)])));
    expected.push(firing(&format!("{OVER}m"), &[]));
    evaluate(&promtool, "no-deadline", MINUTES, &at_home(course), &Expected::Firing(expected));
}

/// What an order with a server waits for is no free server: nobody else would tell of an address that does not come.
#[test]
fn an_address_that_does_not_come_is_told_of() {
    let Some(promtool) = promtool("an_address_that_does_not_come_is_told_of") else { return };
    let course: Course<'_> = &|minute| {
        let mut fleet = Fleet::default();
        if (BEGINS..OVER).contains(&minute) {
            fleet.orders.push(with_server(in_step("waits", "ChangeAddress", BEGINS, Some("Capacity"))));
        }
        fleet
    };
    // Five minutes for the step and five for a retry; what counts is beyond that.
    let fires = BEGINS + 11 + 5;
    let mut expected: Vec<Value> = (0..fires).map(|minute| firing(&format!("{minute}m"), &[])).collect();
    expected.extend((fires..OVER).map(|minute| firing(&format!("{minute}m"), &[("DciOrderBeyondSLA", HOME)])));
    expected.push(firing(&format!("{OVER}m"), &[]));
    evaluate(&promtool, "no-address", MINUTES, &at_home(course), &Expected::Firing(expected));
}

/// `renewBefore` of yearly licences says nothing of a monthly one, which is renewed when half of its month is over.
#[test]
fn a_monthly_licence_is_missed_no_earlier_than_it_is_due() {
    let Some(promtool) = promtool("a_monthly_licence_is_missed_no_earlier_than_it_is_due") else { return };
    let course: Course<'_> = &|_| {
        let mut fleet = Fleet::default();
        fleet.handlers[1]["spec"]["licenses"]["renewBefore"] = "1080h".into();
        fleet.licenses.insert("ispmanager", BEGINS + 7 * 24 * 60);
        fleet
    };
    let fires = BEGINS + 1 + 15;
    let mut expected: Vec<Value> = (0..fires).map(|minute| firing(&format!("{minute}m"), &[])).collect();
    expected.extend((fires..120).map(|minute| firing(&format!("{minute}m"), &[("DciLicenseExpiring", HOME)])));
    evaluate(&promtool, "monthly", MINUTES, &at_home(course), &Expected::Firing(expected));
}

/// What one operator says of a handler has nothing to do with another one's handler of the same name.
#[test]
fn handlers_of_the_same_name_are_told_apart() {
    let Some(promtool) = promtool("handlers_of_the_same_name_are_told_apart") else { return };
    let [spb, test] = NEIGHBOURS;
    let home: Course<'_> = &|_| {
        let mut fleet = Fleet::default();
        fleet.status(0)["conditions"][0] = condition("Ready", "False", "LoginRefused");
        fleet.handlers[1]["spec"]["licenses"]["renewBefore"] = "72h".into();
        fleet.licenses.insert("ispmanager", 35 * 60);
        fleet
    };
    // Its panel does not answer, which must not hide that the other one's handler is not ready. Its licences end at the same time, and
    // that is soon enough to renew them.
    let other_cluster: Course<'_> = &|_| {
        let mut fleet = Fleet::default();
        fleet.status(0)["conditions"][0] = condition("Ready", "False", "Unreachable");
        fleet.handlers[1]["spec"]["licenses"]["renewBefore"] = "24h".into();
        fleet.licenses.insert("ispmanager", 35 * 60);
        fleet
    };
    // Everything is well, and licences are renewed ten days before their end.
    let other_namespace: Course<'_> = &|_| {
        let mut fleet = Fleet::default();
        fleet.handlers[1]["spec"]["licenses"]["renewBefore"] = "240h".into();
        fleet.licenses.insert("ispmanager", 4 * 24 * 60);
        fleet
    };
    let all = series(60, &[(HOME, home), (spb, other_cluster), (test, other_namespace)]);
    let early = firing("7m", &[("DciBreakerOpen", spb)]);
    let late =
        firing("50m", &[("DciBreakerOpen", spb), ("DciHandlerNotReady", HOME), ("DciLicenseExpiring", HOME), ("DciLicenseExpiring", test)]);
    evaluate(&promtool, "apart", MINUTES, &all, &Expected::Firing(vec![early, late]));
}

/// A handler that this version cannot read shows no conditions, and is of no use all the same.
#[test]
fn a_handler_that_cannot_be_read_is_not_ready() {
    let Some(promtool) = promtool("a_handler_that_cannot_be_read_is_not_ready") else { return };
    let course: Course<'_> = &|_| {
        let mut fleet = Fleet::default();
        fleet.handlers[0]["spec"]["module"] = json!({"of": "a later version"});
        fleet
    };
    let expected = vec![firing("9m", &[]), firing("10m", &[("DciHandlerNotReady", HOME), ("DciUnreadableObjects", HOME)])];
    evaluate(&promtool, "unreadable", MINUTES, &at_home(course), &Expected::Firing(expected));
}

fn leader(place: Place, pod: i64, values: &str) -> Value {
    json!({"series": format!("dci_operator_leader{{{}}}", scraped(place, pod)), "values": values})
}

/// Where one Prometheus reads several, none hides another one's end, however that looks.
#[test]
fn each_operator_is_missed_by_itself() {
    let Some(promtool) = promtool("each_operator_is_missed_by_itself") else { return };
    let down = &INCIDENTS[0];
    assert_eq!(down.alert, "DciOperatorDown");
    let place = |namespace| Place { namespace, ..HOME };
    let nowhere = Place { cluster: "", namespace: "" };
    let expected = |minute: i64, places: &[Place]| {
        let alert = |place: &Place| json!({"exp_labels": labels(down, *place), "exp_annotations": down.annotations(minute)});
        json!({"eval_time": format!("{minute}m"), "alertname": down.alert, "exp_alerts": places.iter().map(alert).collect::<Vec<_>>()})
    };
    // Of one everything is gone after twenty minutes; one stands by and never works; of one the replicas change places.
    let gone = leader(place("gone"), 1, "1+0x19 stale");
    let (first, second) = (leader(place("works"), 3, "1+0x29 stale _x2 0+0x900"), leader(place("works"), 4, "0+0x31 1+0x900"));
    let several = [gone.clone(), leader(place("idle"), 2, "0+0x900"), first, second];
    let told = vec![
        expected(19, &[place("idle")]),
        expected(24, &[place("idle")]),
        expected(25, &[place("gone"), place("idle")]),
        expected(31, &[place("gone"), place("idle")]),
        expected(37, &[place("gone"), place("idle")]),
        expected(370, &[place("gone"), place("idle")]),
        expected(400, &[place("idle")]),
    ];
    evaluate(&promtool, "several", MINUTES, &several, &Expected::Alerts(told));
    // Alone it is missed for ever, and not taken back in between.
    let told = vec![
        expected(300, &[place("gone")]),
        expected(330, &[place("gone"), nowhere]),
        expected(385, &[nowhere]),
        expected(900, &[nowhere]),
    ];
    evaluate(&promtool, "alone", MINUTES, &[gone], &Expected::Alerts(told));
}

/// One that crashes a minute after each start is never gone for five minutes, and does next to nothing.
#[test]
fn an_operator_that_crashes_again_and_again_is_down() {
    let Some(promtool) = promtool("an_operator_that_crashes_again_and_again_is_down") else { return };
    // A sample every thirty seconds; from minute 20 on one minute of work, and three and a half until the next start.
    let crashes = format!("1+0x39 {} 1+0x200", ["1+0x1 stale _x6"; 20].join(" "));
    // The same with another replica that waits for the Lease, and crashes as soon as it has it.
    let waits = format!("0+0x39 {} 0+0x200", ["stale _x6 0+0x1"; 20].join(" "));
    let steady = leader(NEIGHBOURS[0], 1, "1+0x500");
    let over = 20 + 20 * 9 / 2;
    let down = [("DciOperatorDown", HOME)];
    for (name, all) in [
        ("crashes", vec![leader(HOME, 1, &crashes), steady.clone()]),
        ("crashes-too", vec![leader(HOME, 1, &crashes), leader(HOME, 2, &waits), steady.clone()]),
    ] {
        let mut expected = vec![firing("20m", &[]), firing("30m", &[])];
        expected.extend((2 * 40..2 * over).map(|half| firing(&format!("{}s", half * 30), &down)));
        expected.extend((over + 11..over + 60).map(|minute| firing(&format!("{minute}m"), &[])));
        evaluate(&promtool, name, ["30s", "30s"], &all, &Expected::Firing(expected));
    }
    // Three restarts within twenty minutes, of a minute each, are none; an outage of half an hour is over when it is over.
    let rollouts = format!("1+0x39 {} 1+0x200", ["stale _x1 1+0x8"; 3].join(" "));
    let outage = "1+0x39 stale _x59 1+0x200";
    let all = [leader(HOME, 1, &rollouts), leader(NEIGHBOURS[1], 1, outage), steady];
    let mut expected: Vec<Value> = (0..50).filter(|m| *m < 25).map(|minute| firing(&format!("{minute}m"), &[])).collect();
    expected.extend((25..50).map(|minute| firing(&format!("{minute}m"), &[("DciOperatorDown", NEIGHBOURS[1])])));
    expected.extend((50..120).map(|minute| firing(&format!("{minute}m"), &[])));
    evaluate(&promtool, "restarts", ["30s", "30s"], &all, &Expected::Firing(expected));
}

/// A scrape may add neither namespace nor cluster.
#[test]
fn alerts_need_no_labels_of_a_scrape() {
    let Some(promtool) = promtool("alerts_need_no_labels_of_a_scrape") else { return };
    let bare = Place { cluster: "", namespace: "" };
    let course: Course<'_> = &|_| {
        let mut fleet = Fleet::default();
        fleet.status(0)["conditions"][0] = condition("Ready", "False", "LoginRefused");
        fleet.licenses.insert("ispmanager", 35 * 60);
        fleet
    };
    let expected = firing("50m", &[("DciHandlerNotReady", bare), ("DciLicenseExpiring", bare)]);
    evaluate(&promtool, "bare", MINUTES, &series(60, &[(bare, course)]), &Expected::Firing(vec![expected]));
}

/// The tests above would also pass if promtool looked at nothing.
#[test]
fn an_incident_that_is_not_expected_is_found() {
    let Some(promtool) = promtool("an_incident_that_is_not_expected_is_found") else { return };
    let down: Course<'_> = &|_| Fleet { leader: None, ..Fleet::default() };
    let cases = [
        Expected::Alerts(vec![expectation(20, "DciOperatorDown", None)]),
        Expected::Firing(vec![firing("20m", &[])]),
        Expected::Firing(vec![firing("20m", &[("DciOperatorDown", NEIGHBOURS[0])])]),
    ];
    for expected in cases {
        let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            evaluate(&promtool, "unexpected", MINUTES, &series(30, &[(HOME, down)]), &expected);
        }));
        let said = *wrong.expect_err("the alert fires").downcast::<String>().unwrap();
        assert!(said.contains("DciOperatorDown") && said.contains("exp:"), "{said}");
    }
}
