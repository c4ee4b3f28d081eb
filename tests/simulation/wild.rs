//! Random worlds with everything in them that came later than the seeds that are written down: those go on to mean what they meant.
//!
//! What is drawn here is drawn apart: `wild 7` is `random 7`, and more.

use serde_json::{Value, json};

use super::adversary::Adversary;
use super::apiserver::{HANDLERS, IPMANAGERS, SECRETS};
use super::departments::{Answer, Temper};
use super::mischief::Mischief;
use super::objects;
use super::people::{Act, Which};
use super::scenario::{Scenario, index};
use super::world::{PROVIDER, SHOP};

/// How many of a thousand worlds have each.
const PAGES: u64 = 500;
const LICENSES: u64 = 300;
const OWN_PASSWORD: u64 = 300;
const FEW_ATTEMPTS: u64 = 400;
const STOPPED_BY_HAND: u64 = 400;
const OUTAGE: u64 = 200;
const LACKS_PARTS: u64 = 500;

/// The Secret of a client's own that a root password is in.
const OWN_SECRET: &str = "own-root";

/// One of these, each as many times as it says.
fn one_of<T: Clone>(dice: &mut Adversary, of: &[(u64, T)]) -> T {
    let mut left = dice.below(of.iter().map(|(times, _)| times).sum());
    let place = of.iter().position(|(times, _)| {
        let here = left < *times;
        left = left.saturating_sub(*times);
        here
    });
    of[place.unwrap_or(0)].1.clone()
}

/// What departments answer first.
fn temper(dice: &mut Adversary) -> Temper {
    type Weighed = &'static [(u64, Option<Answer>)];
    let types: [(&'static str, Weighed); 4] = [
        (
            "FailedOperation",
            &[
                (4, None),
                (5, Some(Answer::Done)),
                (3, Some(Answer::Untrue)),
                (5, Some(Answer::Word("Abandon"))),
                (1, Some(Answer::Word("Cancelled"))),
                (2, Some(Answer::Word("PartsMissing"))),
            ],
        ),
        ("StopServer", &[(1, None), (1, Some(Answer::Untrue)), (1, Some(Answer::Word("Abandon"))), (1, Some(Answer::Word("Cancelled")))]),
        (
            "Assembly",
            &[
                (4, None),
                (1, Some(Answer::Untrue)),
                (1, Some(Answer::Word("Retry"))),
                (1, Some(Answer::Word("Cancelled"))),
                (1, Some(Answer::Word("Abandon"))),
            ],
        ),
        ("Procurement", &[(2, None), (1, Some(Answer::Word("Retry"))), (1, Some(Answer::Word("Cancelled")))]),
    ];
    let mut answers = Vec::new();
    for (type_, of) in types {
        let (answer, times) = (one_of(dice, of), 1 + dice.below(2));
        answers.extend(answer.map(|answer| (type_, answer, times)));
    }
    Temper { answers }
}

/// Something about an order, its handler, or what belongs to either; and how long it lasts.
fn any_mischief(name: &str, own_password: bool, licenses: bool, dice: &mut Adversary) -> Vec<Mischief> {
    let mut all = Vec::new();
    let span = |dice: &mut Adversary| 5000 + dice.below(85_000);
    let mut sometimes = |of_thousand: u64, what: Mischief, dice: &mut Adversary| {
        if dice.chance(of_thousand) {
            all.push(what);
        }
    };
    let how = one_of(
        dice,
        &[
            (2, json!({"delete": true})),
            (2, json!({"suspended": true})),
            (1, json!({"remote_id": "by hand"})),
            (1, json!({"remote_id": ""})),
            (1, json!({"ip": "198.51.100.9"})),
        ],
    );
    sometimes(if licenses { 700 } else { 0 }, Mischief::License(name.to_owned(), how), dice);
    sometimes(500, Mischief::Dismiss("dci", "acme"), dice);
    let lasts = span(dice);
    sometimes(250, Mischief::Lose(SHOP, format!("{name}-root"), lasts), dice);
    let lasts = span(dice);
    let of_client = if dice.chance(500) {
        Mischief::Lose(SHOP, OWN_SECRET.to_owned(), lasts)
    } else {
        Mischief::Mistype(SHOP, OWN_SECRET.to_owned(), lasts)
    };
    sometimes(if own_password { 600 } else { 0 }, of_client, dice);
    let (lasts, of_panel) = (span(dice), one_of(dice, &[(3, "dci-admin"), (2, "ipm-user"), (u64::from(licenses), "isp")]));
    let of_panel = of_panel.to_owned();
    let of_provider =
        if dice.chance(500) { Mischief::Lose(PROVIDER, of_panel, lasts) } else { Mischief::Mistype(PROVIDER, of_panel, lasts) };
    sometimes(300, of_provider, dice);
    let (after, politely) = (span(dice), dice.chance(500));
    let handler = one_of(dice, &[(4, "msk-1"), (u64::from(licenses), "isp")]).to_owned();
    sometimes(200, Mischief::Anew { kind: HANDLERS, name: handler, politely, after }, dice);
    let (after, politely) = (span(dice), dice.chance(500));
    sometimes(200, Mischief::Anew { kind: IPMANAGERS, name: "main".into(), politely, after }, dice);
    // Whatever was on its way has arrived by then: nobody remembers it of an order that has lost its status.
    let after = 10_000 + dice.below(30_000);
    sometimes(300, Mischief::Restore(name.to_owned(), after), dice);
    let (lasts, edited) = (span(dice), any_edit(dice));
    sometimes(250, Mischief::Handler("msk-1".into(), edited, lasts), dice);
    let policy = if dice.chance(700) { "Orphan" } else { "Release" };
    sometimes(250, Mischief::Policy(name.to_owned(), policy), dice);
    let protected = Mischief::Protection(name.to_owned(), true);
    // Some stay so to the end, and then the order does not go.
    let for_a_while = Mischief::Then(
        Box::new(Act::Also(protected.clone())),
        span(dice),
        Box::new(Act::Also(Mischief::Protection(name.to_owned(), false))),
    );
    let protected = if dice.chance(700) { for_a_while } else { protected };
    sometimes(200, protected, dice);
    all
}

/// What is edited of a handler's spec, and put back.
fn any_edit(dice: &mut Adversary) -> Value {
    one_of(
        dice,
        &[
            (1, json!({"retry": {"maxAttempts": 1}})),
            (1, json!({"timeouts": {"power": "15s", "step": "30s"}})),
            (1, json!({"timeouts": {"settle": "20s"}, "pollInterval": "30s"})),
            (1, json!({"departments": {"operations": {"name": "Night"}}})),
            (1, json!({"limits": {"maxConcurrentOperations": 1, "maxConcurrentReleases": 1}})),
            (1, json!({"allowedDeletionPolicies": ["Release"]})),
            (1, json!({"adoption": "Forbidden"})),
        ],
    )
}

/// When everything is put right.
fn calm_of(script: &[(u64, Act)]) -> u64 {
    script.iter().find(|(_, act)| matches!(act, Act::Calm)).map_or(0, |(at, _)| *at)
}

/// The names that orders are made under.
fn names_of(script: &[(u64, Act)]) -> Vec<String> {
    let name = |act: &Act| if let Act::Order(order) = act { order["metadata"]["name"].as_str().map(str::to_owned) } else { None };
    let mut names: Vec<String> = script.iter().filter_map(|(_, act)| name(act)).collect();
    names.sort();
    names.dedup();
    names
}

impl Scenario {
    /// A random world, and in it what else people and servers may do.
    pub fn wild(seed: u64) -> Self {
        let mut scenario = Self::random(seed);
        let dice = &mut Adversary::new(seed.wrapping_mul(0x9fb2_1c65_1e98_df25) ^ 0x77);
        scenario.adversary.apart = Some(Box::new(Adversary::new(dice.below(u64::MAX))));
        // Apart from that, too: what comes up too seldom by itself for a hundred worlds.
        scenario.lacks_parts = Adversary::new(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ 0x2f).chance(LACKS_PARTS);
        if dice.chance(PAGES) {
            scenario.staff.page = 1 + index(dice, 2);
            scenario.adversary.forgotten = 1 + dice.below(3);
        }
        if dice.chance(FEW_ATTEMPTS) {
            scenario.handler["retry"] = json!({"maxAttempts": 1 + dice.below(2)});
        }
        let calm = calm_of(&scenario.script);
        let names = names_of(&scenario.script);
        let own_password = dice.chance(OWN_PASSWORD);
        scenario.licenses |= dice.chance(LICENSES);
        scenario.furnish(own_password, names.first().map(String::as_str).unwrap_or_default());
        let moment = |dice: &mut Adversary| 20_000 + dice.below(calm.saturating_sub(21_000));
        for name in names.iter().filter(|_| calm > 0) {
            // Of several orders each has its part.
            for what in any_mischief(name, own_password, scenario.licenses, dice) {
                if names.len() == 1 || dice.below(names.len() as u64) == 0 {
                    scenario.then(moment(dice), Act::Also(what));
                }
            }
        }
        if scenario.staff.processes > 1 && scenario.staff.elect {
            scenario.then(moment(dice), Act::Also(Mischief::FreezeLeader(5000 + dice.below(55_000))));
            scenario.then(moment(dice), Act::Also(Mischief::Depose));
        }
        if dice.chance(STOPPED_BY_HAND)
            && let Some(name) = names.get(index(dice, names.len()))
        {
            scenario.handler["ipmiErrorPolicy"] = "CreateTask".into();
            let dies = Act::Server(Which::Of(name.clone()), json!({"ipmi": "dead"}));
            let at = moment(dice);
            scenario.then(at, Act::Also(Mischief::Then(Box::new(dies), 500, Box::new(Act::Delete(name.clone())))));
        }
        scenario.script.insert(0, (0, Act::Also(Mischief::Temper(temper(dice)))));
        if dice.chance(OUTAGE) {
            scenario.outage(moment(dice), 60_000 + dice.below(540_000));
        }
        scenario
    }

    /// Orders get licences where such are sold, and one of them a root password of the client's own.
    fn furnish(&mut self, own_password: bool, with_own: &str) {
        for (_, act) in &mut self.script {
            let Act::Order(order) = act else { continue };
            let adopts = order["spec"]["adopt"].is_object();
            if self.licenses && !adopts && order["spec"]["licenses"].is_null() {
                order["spec"]["licenses"] = json!([{"product": "Lite"}]);
            }
            if own_password && order["metadata"]["name"] == with_own {
                order["spec"]["operatingSystem"]["passwordSecretRef"] = json!({"name": OWN_SECRET, "key": "password"});
            }
        }
        if own_password {
            let secret = objects::secret(OWN_SECRET, &json!({"password": "own-3Lx8-Wq5n"}));
            self.script.insert(0, (0, Act::Also(Mischief::Make(SECRETS, SHOP, secret))));
        }
    }

    /// Somebody does this then.
    fn then(&mut self, at: u64, act: Act) {
        let place = self.script.iter().position(|(then, _)| *then > at).unwrap_or(self.script.len());
        self.script.insert(place, (at, act));
    }

    /// The API server is down for so long: whatever is put right is put right after that.
    fn outage(&mut self, at: u64, span: u64) {
        let calm = calm_of(&self.script);
        let later = (at + span).saturating_sub(calm);
        for (then, _) in self.script.iter_mut().filter(|(then, _)| *then >= calm) {
            *then += later;
        }
        self.then(at, Act::Also(Mischief::Outage(span)));
    }
}
