//! Faults: which calls go wrong, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{coremanager::params::Params, span::Span, world::Moment};

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Not applied; an error document (`type`, `object`, `value`, `msg`).
    Error,
    /// Not applied; an HTTP status (`status`, `body`).
    Status,
    /// Not applied; a web page with status 200, as a proxy or a panel that is being updated sends.
    Html,
    /// Not applied; the connection is closed without an answer.
    DropBefore,
    /// Applied; the connection is closed without an answer.
    DropAnswer,
    /// Applied `delay` later, then answered.
    DelayBefore,
    /// Applied, answered `delay` later.
    DelayAfter,
    /// The connection is closed without an answer; applied `delay` later.
    Late,
    /// Applied; the answer is no document.
    Garbage,
    /// Applied; the answer breaks off after `bytes`.
    Truncate,
    /// Applied; the answer has `bytes` of white space before it.
    Oversize,
    /// Applied; the answer comes in pieces of `bytes`, with `delay` between them.
    Drip,
    /// Nothing is accepted at all.
    Down,
    /// All sessions of the panel end before the call.
    ExpireSessions,
    /// Not applied; the answer says that it was.
    Ignore,
}

/// One fault, as it stands in the configuration and as it is posted.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultSpec {
    pub(crate) action: Action,
    /// The panel; absent: every panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) panel: Option<String>,
    /// The function; `server.*` means all that begin so; absent: every function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) func: Option<String>,
    /// Parameters with their values; a value may end in `*`.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) params: BTreeMap<String, String>,
    /// Who calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<String>,
    /// `true`: only calls that ask for a change; `false`: only the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<bool>,
    /// The first of the matching calls that goes wrong, from 1.
    #[serde(default = "one")]
    pub(crate) nth: u64,
    /// How many go wrong; 0: all of them. 1 unless given.
    #[serde(default = "one")]
    pub(crate) count: u64,
    /// How likely each one is to go wrong, in percent.
    #[serde(default = "always")]
    pub(crate) percent: u8,
    /// The fault goes away after this.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub(crate) lasts: Option<Span>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) msg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delay: Option<Span>,
}

fn one() -> u64 {
    1
}

fn always() -> u8 {
    100
}

/// Why a fault cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FaultError {
    #[error("a fault with the action {0} needs `{1}`")]
    Needs(&'static str, &'static str),
    #[error("`status` is a number from 200 to 599, not {0}")]
    Status(u16),
    #[error("`nth` counts from 1")]
    Nth,
    #[error("there is no panel `{0}`")]
    Panel(String),
}

impl FaultSpec {
    /// Checks what the type cannot say.
    pub(crate) fn check(&self, panels: &[String]) -> Result<(), FaultError> {
        let needs = |action, field, there: bool| if there { Ok(()) } else { Err(FaultError::Needs(action, field)) };
        match self.action {
            Action::Error => needs("error", "type", self.kind.is_some())?,
            Action::Status => needs("status", "status", self.status.is_some())?,
            Action::DelayBefore => needs("delay-before", "delay", self.delay.is_some())?,
            Action::DelayAfter => needs("delay-after", "delay", self.delay.is_some())?,
            Action::Late => needs("late", "delay", self.delay.is_some())?,
            Action::Drip => needs("drip", "delay", self.delay.is_some())?,
            Action::Html
            | Action::DropBefore
            | Action::DropAnswer
            | Action::Garbage
            | Action::Truncate
            | Action::Oversize
            | Action::Down
            | Action::ExpireSessions
            | Action::Ignore => {}
        }
        if let Some(status) = self.status.filter(|status| !(200..600).contains(status)) {
            return Err(FaultError::Status(status));
        }
        if self.nth == 0 {
            return Err(FaultError::Nth);
        }
        match &self.panel {
            Some(panel) if !panels.contains(panel) => Err(FaultError::Panel(panel.clone())),
            Some(_) | None => Ok(()),
        }
    }

    fn matches(&self, call: &Suspect<'_>) -> bool {
        let fits = |wanted: &Option<String>, given: &str| wanted.as_ref().is_none_or(|wanted| like(wanted, given));
        fits(&self.panel, call.panel)
            && fits(&self.func, call.params.func())
            && fits(&self.caller, call.caller)
            && self.changes.is_none_or(|changes| changes == call.params.is_change())
            && self.params.iter().all(|(name, wanted)| call.params.sent(name).is_some_and(|given| like(wanted, given)))
    }
}

/// Whether a text is what is wanted, which may end in `*`.
fn like(wanted: &str, given: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == given, |start| given.starts_with(start))
}

/// A call that might go wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspect<'a> {
    pub(crate) panel: &'a str,
    pub(crate) params: &'a Params,
    pub(crate) caller: &'a str,
}

/// A fault with what has become of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) spec: FaultSpec,
    /// How many calls have matched.
    matched: u64,
    /// How many of them have gone wrong.
    fired: u64,
    #[serde(skip)]
    since: Moment,
}

impl Fault {
    fn ends(&self) -> Option<Moment> {
        self.spec.lasts.map(|lasts| self.since + lasts.0)
    }

    fn is_over(&self, now: Moment) -> bool {
        self.ends().is_some_and(|ends| ends <= now)
    }
}

/// Whether a panel, or several, accept calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Up,
    /// Nothing is accepted, until then if that is known.
    Down(Option<Moment>),
}

/// All faults, those that are used up among them.
#[derive(Debug)]
pub(crate) struct Faults {
    list: Vec<Fault>,
    last_id: u64,
    random: u64,
}

impl Faults {
    /// No faults. The seed decides which of those fire that fire only sometimes.
    pub(crate) fn new(seed: u64) -> Self {
        Self { list: Vec::new(), last_id: 0, random: seed }
    }

    /// Adds a fault and returns its id.
    pub(crate) fn add(&mut self, spec: FaultSpec, now: Moment) -> u64 {
        self.last_id += 1;
        self.list.push(Fault { id: self.last_id, spec, matched: 0, fired: 0, since: now });
        self.last_id
    }

    /// All faults.
    pub(crate) fn list(&self) -> &[Fault] {
        &self.list
    }

    /// Removes one fault, or all, and says how many.
    pub(crate) fn remove(&mut self, id: Option<u64>) -> usize {
        let before = self.list.len();
        self.list.retain(|fault| id.is_some_and(|id| fault.id != id));
        before - self.list.len()
    }

    /// Whether a panel accepts calls.
    pub(crate) fn reach(&self, panel: &str, now: Moment) -> Reach {
        let down = |fault: &&Fault| {
            fault.spec.action == Action::Down && !fault.is_over(now) && fault.spec.panel.as_ref().is_none_or(|wanted| wanted == panel)
        };
        let mut ends = self.list.iter().filter(down).map(Fault::ends);
        let Some(first) = ends.next() else { return Reach::Up };
        Reach::Down(ends.fold(first, |longest, end| longest.zip(end).map(|(a, b)| a.max(b))))
    }

    /// The first fault that this call meets. Every fault that matches counts the call.
    pub(crate) fn pick(&mut self, call: &Suspect<'_>, now: Moment) -> Option<(u64, FaultSpec)> {
        let mut hit = None;
        for fault in &mut self.list {
            if fault.is_over(now) || !fault.spec.matches(call) {
                continue;
            }
            fault.matched += 1;
            let due = fault.matched >= fault.spec.nth;
            let left = fault.spec.count == 0 || fault.spec.action == Action::Down || fault.fired < fault.spec.count;
            if hit.is_some() || !due || !left || !chance(&mut self.random, fault.spec.percent) {
                continue;
            }
            fault.fired += 1;
            hit = Some((fault.id, fault.spec.clone()));
        }
        hit
    }
}

/// Throws dice (splitmix64), the same way for the same seed.
fn chance(random: &mut u64, percent: u8) -> bool {
    if percent >= 100 {
        return true;
    }
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn faults(specs: &str) -> Faults {
        let mut faults = Faults::new(7);
        let specs: Vec<FaultSpec> = serde_yaml::from_str(specs).unwrap();
        for spec in specs {
            faults.add(spec, Moment::ZERO);
        }
        faults
    }

    fn meets(faults: &mut Faults, panel: &str, query: &str, second: u64) -> Option<Action> {
        let params = Params::read(Some(query), "", b"");
        let call = Suspect { panel, params: &params, caller: "op" };
        faults.pick(&call, Duration::from_secs(second)).map(|(_, spec)| spec.action)
    }

    #[test]
    fn counts() {
        let mut faults = faults("[{action: html, func: server, nth: 2, count: 2}]");
        let met: Vec<bool> = (0..5).map(|_| meets(&mut faults, "a", "func=server", 0).is_some()).collect();
        assert_eq!(met, [false, true, true, false, false]);
        assert_eq!(faults.list()[0].fired, 2);
    }

    #[test]
    fn matches() {
        for (spec, query, met) in [
            ("{action: html, func: server}", "func=server.edit", false),
            ("{action: html, func: 'server*'}", "func=server.edit", true),
            ("{action: html, panel: b}", "func=server", false),
            ("{action: html, panel: a}", "func=server", true),
            ("{action: html, caller: op}", "func=server", true),
            ("{action: html, caller: other}", "func=server", false),
            ("{action: html, match: {elid: '7'}}", "func=x&elid=7", true),
            ("{action: html, match: {elid: '7'}}", "func=x&elid=8", false),
            ("{action: html, match: {elid: '7'}}", "func=x", false),
            ("{action: html, changes: true}", "func=server", false),
            ("{action: html, changes: true}", "func=server.edit&sok=ok", true),
            ("{action: html, percent: 0}", "func=server", false),
        ] {
            assert_eq!(meets(&mut faults(&format!("[{spec}]")), "a", query, 0).is_some(), met, "{spec} {query}");
        }
    }

    #[test]
    fn ends_by_itself() {
        let mut faults = faults("[{action: html, count: 0, for: 5s}]");
        assert!(meets(&mut faults, "a", "func=x", 4).is_some());
        assert!(meets(&mut faults, "a", "func=x", 5).is_none());
    }

    #[test]
    fn down() {
        let faults = faults("[{action: down, panel: a, for: 5s}, {action: down, panel: b}]");
        let at = |panel, second| faults.reach(panel, Duration::from_secs(second));
        assert_eq!(at("a", 1), Reach::Down(Some(Duration::from_secs(5))));
        assert_eq!(at("a", 5), Reach::Up);
        assert_eq!(at("b", 9), Reach::Down(None));
        assert_eq!(at("c", 0), Reach::Up);
    }

    #[test]
    fn checks() {
        let check = |spec: &str| serde_yaml::from_str::<FaultSpec>(spec).unwrap().check(&["a".to_owned()]);
        assert_eq!(check("{action: error}"), Err(FaultError::Needs("error", "type")));
        assert_eq!(check("{action: late}"), Err(FaultError::Needs("late", "delay")));
        assert_eq!(check("{action: status, status: 700}"), Err(FaultError::Status(700)));
        assert_eq!(check("{action: html, panel: z}"), Err(FaultError::Panel("z".to_owned())));
        assert_eq!(check("{action: html, panel: a}"), Ok(()));
        assert!(serde_yaml::from_str::<FaultSpec>("{action: html, cuont: 3}").is_err());
    }
}
