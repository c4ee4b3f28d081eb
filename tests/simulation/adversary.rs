//! What goes wrong: at which effect, and how. All of it is drawn from the seed or planned by number.

use std::collections::{BTreeMap, VecDeque};

use super::determinism::next;
use super::people::Act;

/// What goes wrong at an effect: a write at the API server, or a change at a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before anything is sent.
    CrashBefore,
    /// It dies when the other side has done it.
    CrashAfter,
    /// The connection is refused: nothing was sent.
    Unreachable,
    /// The request is lost, and nobody knows.
    Lost,
    /// It was done; the answer is lost.
    AnswerLost,
    /// The answer is lost, and it is done this many milliseconds later.
    Late(u64),
    /// The process dies, and it is done this many milliseconds later.
    CrashLate(u64),
    /// The other side refuses, as it does when it is busy.
    Refused,
    /// It is done after so many milliseconds, and answered.
    Slow(u64),
    /// It is done at once; the answer comes so many milliseconds later, perhaps to nobody.
    AnswerLate(u64),
    /// It arrives twice, the second time so many milliseconds later; 0: at once, and the second answer is what comes back.
    Twice(u64),
    /// The API server says that somebody else was quicker (409), and has done nothing.
    ConflictBefore,
    /// It has too much to do (429), and has done nothing.
    TooMany,
    /// It says that somebody else was quicker, and it was this very request: what stands before it has sent it once more.
    ConflictAfter,
}

impl Fault {
    /// Its name, without times.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash-before",
            Self::CrashAfter => "crash-after",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::AnswerLost => "answer-lost",
            Self::Late(_) => "late",
            Self::CrashLate(_) => "crash-late",
            Self::Refused => "refused",
            Self::Slow(_) => "slow",
            Self::AnswerLate(_) => "answer-late",
            Self::Twice(_) => "twice",
            Self::ConflictBefore => "conflict-before",
            Self::TooMany => "too-many",
            Self::ConflictAfter => "conflict-after",
        }
    }

    /// How long it may hold up whoever asked, in milliseconds.
    pub fn lasts(self) -> u64 {
        match self {
            Self::Late(span) | Self::CrashLate(span) | Self::Slow(span) | Self::AnswerLate(span) | Self::Twice(span) => span,
            Self::Lost => super::http::PATIENCE,
            Self::CrashBefore
            | Self::CrashAfter
            | Self::Unreachable
            | Self::AnswerLost
            | Self::Refused
            | Self::ConflictBefore
            | Self::TooMany
            | Self::ConflictAfter => 0,
        }
    }
}

/// A list of servers that is not what the panel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amiss {
    /// None at all.
    Nothing,
    /// Every second one, from the first or the second on.
    Half(usize),
}

/// Every way in which one effect alone can go wrong. Replays name them by their places here.
pub const SINGLE: [Fault; 14] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::Unreachable,
    Fault::Lost,
    Fault::AnswerLost,
    Fault::Late(1500),
    Fault::CrashLate(1500),
    Fault::Refused,
    Fault::AnswerLate(30_000),
    Fault::Twice(0),
    Fault::Twice(200),
    Fault::ConflictBefore,
    Fault::TooMany,
    Fault::ConflictAfter,
];

/// How many of them are crashes.
pub const CRASHES: usize = 2;
/// How many of the last of them are ways of the API server alone.
pub const OF_THE_API_SERVER: usize = 3;
/// How the effects begin that are writes to the API server.
pub const WRITE: &str = "api ";
/// How many of a thousand faults of such a write are one of those.
const TOLD_OTHERWISE: u64 = 300;

/// The longest that a request may be on its way: less than `timeouts.settle` of the handlers.
const LATEST: u64 = 4000;

/// What goes wrong, and what did.
#[derive(Default)]
pub struct Adversary {
    state: u64,
    /// Faults by number of the effect, from 0.
    pub planned: BTreeMap<usize, Fault>,
    /// Faults at the first effect of this name, once.
    pub named: Vec<(String, Fault)>,
    /// How many of a thousand effects go wrong.
    pub rate: u64,
    /// No request is late: where the clock is put forward, the time that is left to one does not pass.
    pub punctual: bool,
    /// How many of a thousand reads fail.
    pub reads: u64,
    /// How many of a thousand answers to reads take seconds, and are old when they come.
    pub old_answers: u64,
    /// How late watches may be, in milliseconds.
    pub lag: u64,
    /// The effects so far.
    pub effects: Vec<String>,
    /// Nothing goes wrong while the API server (the panels) are down: nothing is reached.
    pub api_down_until: u64,
    pub panels_down_until: u64,
    /// One panel alone is down.
    pub panel_down: BTreeMap<String, u64>,
    /// The next lists of servers show something else.
    pub amiss: VecDeque<Amiss>,
    /// What somebody does when this effect is about to happen, by number.
    pub acts: BTreeMap<usize, Act>,
    /// How many lists the API server forgets between two of their pages, at most.
    pub forgotten: u64,
    /// Draws what came later than the worlds whose seeds are written down somewhere, so that what else a seed decides stays as it is; none
    /// in those.
    pub apart: Option<Box<Adversary>>,
}

impl Adversary {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, ..Self::default() }
    }

    /// A number below this one.
    pub fn below(&mut self, most: u64) -> u64 {
        if most == 0 { 0 } else { next(&mut self.state) % most }
    }

    /// True so many times of a thousand.
    pub fn chance(&mut self, of_thousand: u64) -> bool {
        of_thousand > 0 && self.below(1000) < of_thousand
    }

    /// The same, drawn apart; never where nothing is.
    pub fn chance_apart(&mut self, of_thousand: u64) -> bool {
        self.apart.as_mut().is_some_and(|dice| dice.chance(of_thousand))
    }

    /// Whether the API server has forgotten the list that a page is asked of.
    pub fn forgets(&mut self) -> bool {
        let forgets = self.forgotten > 0 && self.chance_apart(500);
        self.forgotten -= u64::from(forgets);
        forgets
    }

    /// Until when the API server keeps no watch open. Where nothing is drawn apart it keeps them while it is down.
    pub fn cuts_watches_until(&self) -> u64 {
        if self.apart.is_some() { self.api_down_until } else { 0 }
    }

    /// What goes wrong at the next effect.
    pub fn meet(&mut self, effect: &str) -> Option<Fault> {
        let number = self.effects.len();
        self.effects.push(effect.to_owned());
        if let Some(fault) = self.planned.get(&number) {
            return Some(*fault);
        }
        if let Some(place) = self.named.iter().position(|(name, _)| name == effect) {
            return Some(self.named.remove(place).1);
        }
        if !self.chance(self.rate) {
            return None;
        }
        let drawn = match self.below(13) {
            0 => Fault::CrashBefore,
            1 => Fault::CrashAfter,
            2 => Fault::Unreachable,
            3 => Fault::Lost,
            4 | 5 => Fault::AnswerLost,
            6 => Fault::Late(100 + self.below(LATEST - 100)),
            7 => Fault::CrashLate(100 + self.below(LATEST - 100)),
            8 => Fault::Refused,
            9 => Fault::AnswerLate(self.below(40_000)),
            10 => Fault::Twice(0),
            11 => Fault::Twice(1 + self.below(200)),
            _ => Fault::Slow(100 + self.below(3000)),
        };
        let told_otherwise = effect.starts_with(WRITE) && self.chance_apart(TOLD_OTHERWISE);
        if let Some(dice) = self.apart.as_mut().filter(|_| told_otherwise) {
            let place = usize::try_from(dice.below(OF_THE_API_SERVER as u64)).unwrap_or(0);
            return Some(SINGLE[SINGLE.len() - OF_THE_API_SERVER + place]);
        }
        Some(match drawn {
            Fault::Late(_) if self.punctual => Fault::AnswerLost,
            Fault::CrashLate(_) if self.punctual => Fault::CrashAfter,
            other => other,
        })
    }

    /// The numbers of the effects that were writes to the API server.
    pub fn writes(&self) -> String {
        let writes = self.effects.iter().enumerate().filter(|(_, effect)| effect.starts_with(WRITE));
        writes.map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// What was planned for effects that did not come.
    pub fn unmet(&self) -> Vec<String> {
        let planned = self.planned.range(self.effects.len()..).map(|(number, fault)| format!("{number}/{}", fault.name()));
        let named = self.named.iter().map(|(name, fault)| format!("{}/{}", name.replace(' ', "-"), fault.name()));
        planned.chain(named).chain(self.acts.keys().map(|number| format!("{number}/act"))).collect()
    }

    /// From now on nothing is drawn any more; what was planned still happens.
    pub fn calm(&mut self) {
        (self.rate, self.reads, self.old_answers, self.lag) = (0, 0, 0, 0);
        (self.api_down_until, self.panels_down_until) = (0, 0);
        self.panel_down.clear();
        self.amiss.clear();
        self.apart = None;
    }
}
