//! Worlds that differ from the usual one where the facts leave several possibilities: each has its own few of them.

use serde_json::{Value, json};

use super::adversary::{Adversary, Amiss};
use super::people::Act;
use super::scenario::{Scenario, index};

/// How many of a thousand possibilities are not the usual one.
const RATE: u64 = 150;
/// How many of a thousand worlds are watched for an hour when they are at rest.
const LONG_REST: u64 = 50;

/// What may be otherwise, each with its choices: the panel's kind, the part of its configuration, the field.
fn possibilities() -> Vec<(&'static str, &'static str, &'static str, Vec<Value>)> {
    vec![
        ("dcimanager5", "behaviour", "server_edit_omitted", vec!["keep".into()]),
        ("dcimanager5", "behaviour", "no_owner_in_list", vec!["empty".into()]),
        ("dcimanager5", "behaviour", "main_ip_replace", vec!["ignored".into(), "refused".into()]),
        ("dcimanager5", "behaviour", "dead_ipmi_answer", vec!["ok".into()]),
        ("dcimanager5", "behaviour", "dead_ipmi_list", vec!["last-known".into()]),
        ("dcimanager5", "behaviour", "dead_ipmi_error", vec![json!({"type": "ipmi_failed", "object": ""})]),
        ("dcimanager5", "behaviour", "busy_error", vec![json!({"type": "exists", "object": "operation"})]),
        ("dcimanager5", "behaviour", "exhausted", vec!["missed".into()]),
        ("dcimanager5", "behaviour", "notes_limit", vec![40.into(), 250.into()]),
        ("dcimanager5", "behaviour", "iplist_groups", vec![false.into()]),
        ("dcimanager5", "behaviour", "list_mac", vec![true.into()]),
        ("dcimanager5", "behaviour", "type_fields", vec!["type".into(), "chassis-templ".into()]),
        ("dcimanager5", "durations", "operation_visible_after", vec!["1s".into(), "3s".into()]),
        ("dcimanager5", "durations", "power", vec!["20s".into()]),
        ("dcimanager5", "release", "diagnostics", vec![true.into()]),
        ("dcimanager5", "release", "power_off", vec![false.into()]),
        ("dcimanager5", "protocol", "page_size", vec![2.into(), 3.into()]),
        ("dcimanager5", "protocol", "single_elem", vec!["object".into()]),
        ("dcimanager5", "protocol", "session_idle", vec!["15s".into()]),
        ("ipmanager5", "protocol", "page_size", vec![3.into()]),
        ("ipmanager5", "behaviour", "exhausted", vec!["missed".into()]),
        ("ipmanager5", "behaviour", "ip_edit_omitted", vec!["keep".into()]),
        ("ipmanager5", "behaviour", "note_limit", vec![100.into()]),
        ("billmanager6", "behaviour", "key_delay", vec!["0s".into(), "3m".into()]),
        ("billmanager6", "behaviour", "remote_id_limit", vec![20.into(), 100.into()]),
        ("billmanager6", "behaviour", "list_remote_id", vec![false.into()]),
        ("billmanager6", "behaviour", "one_per_address", vec![true.into()]),
    ]
}

/// More of them, which came later: drawn apart, so that what else a seed decides stays as it is.
fn later_possibilities() -> Vec<(&'static str, &'static str, &'static str, Vec<Value>)> {
    vec![
        ("dcimanager5", "behaviour", "operation_failed_until", vec!["next-success".into()]),
        ("dcimanager5", "behaviour", "ostemplate_in_form", vec!["chosen".into()]),
    ]
}

/// What is not the usual one: kind, part, field, value.
fn drawn(
    dice: &mut Adversary,
    possibilities: Vec<(&'static str, &'static str, &'static str, Vec<Value>)>,
) -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let mut all = Vec::new();
    for (kind, part, field, choices) in possibilities {
        let which = usize::try_from(dice.below(choices.len() as u64)).unwrap_or(0);
        if dice.chance(RATE) {
            all.push((kind, part, field, choices[which].clone()));
        }
    }
    all
}

/// The panels of these kinds are so.
pub fn apply(panels: &mut Value, swarm: &[(&str, &str, &str, Value)]) {
    for (kind, part, field, value) in swarm {
        for panel in panels.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            panel[part][field] = value.clone();
        }
    }
}

impl Scenario {
    /// At panels that are so: `dcimanager5.behaviour.notes_limit=40`.
    pub fn at(mut self, text: &str) -> Self {
        let (path, value) = text.split_once('=').unwrap_or_else(|| panic!("{text:?} says nothing of a panel"));
        let mut all = possibilities().into_iter().chain(later_possibilities());
        let known = all.find(|(kind, part, field, _)| format!("{kind}.{part}.{field}") == path);
        let (kind, part, field, _) = known.unwrap_or_else(|| panic!("{path:?} is no possibility"));
        self.swarm.push((kind, part, field, serde_json::from_str(value).unwrap_or_else(|_| value.into())));
        self
    }

    /// Anything, with anything going wrong meanwhile, at panels of any kind.
    pub fn random(seed: u64) -> Self {
        let mut scenario = Self::plain(seed);
        let mut dice = Adversary::new(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5a);
        if dice.chance(700) {
            scenario.swarm = drawn(&mut dice, possibilities());
        }
        scenario.swarm.extend(drawn(&mut Adversary::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5b), later_possibilities()));
        scenario.staff.elect = dice.chance(500);
        if dice.chance(300) {
            scenario.staff.kept = 30;
        }
        if dice.chance(LONG_REST) {
            scenario.staff.rest = 3_600_000;
        }
        let calm = scenario.script.iter().position(|(_, act)| matches!(act, Act::Calm)).unwrap_or(0);
        if scenario.staff.processes > 1 && !scenario.staff.elect {
            // Two that act on one order for ever may keep each other from getting anywhere, without harm.
            scenario.script.insert(calm, (scenario.script[calm].0, Act::Alone));
        }
        if dice.chance(200) {
            let lists = 1 + index(&mut dice, 3);
            // Two lists that agree are believed, whatever they show: half of the servers is shown once.
            let (how, lists) = if dice.chance(500) { (Amiss::Nothing, lists) } else { (Amiss::Half(index(&mut dice, 2)), 1) };
            let at = 1000 + dice.below(140_000);
            let place = scenario.script.iter().position(|(then, _)| *then > at).unwrap_or(0);
            scenario.script.insert(place, (at, Act::Amiss(how, lists)));
        }
        scenario
    }
}
