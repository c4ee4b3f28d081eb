//! Which runs there are: every point with every fault, or some of them.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::proxy::{Fault, KUBE, Point};

use super::scenario::{Life, Scenario};

/// How much is run, where the environment does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Every point with every fault.
    All,
    /// Every point with one fault.
    Once,
    /// Nothing: the points are listed.
    List,
}

/// How many requests of a scenario go wrong in one life where every point is to be seen within minutes.
pub const MANY: usize = 24;

/// How long panels are waited for; see `rig`.
pub const PANEL_TIMEOUT: Duration = Duration::from_secs(3);

/// What is run.
pub struct Settings {
    choice: Choice,
    scenarios: Vec<String>,
    point: Option<String>,
    faults: Vec<Fault>,
    shard: (usize, usize),
    /// Decides which faults are chosen, in which order they are run, and with which others.
    pub seed: u64,
    /// How many lives there are at a time.
    pub parallel: usize,
    /// How many requests of a scenario go wrong in one life.
    pub together: usize,
    /// One life, with exactly these.
    pub life: Option<Vec<Job>>,
    /// No run begins after this.
    pub minutes: Option<Duration>,
}

/// One request that goes wrong.
#[derive(Clone, Debug)]
pub struct Job {
    pub scenario: Scenario,
    pub point: Point,
    pub fault: Fault,
}

impl Job {
    /// A licence server knows neither a key by which it would tell a repetition nor a way back: what a proxy sends twice is bought twice.
    /// A hole that is known (docs/reliability.md); what has to hold all the same is that both end with the order.
    pub fn buys_twice(&self) -> bool {
        self.fault == Fault::Duplicate && self.point.what.starts_with("soft.order.param!")
    }

    /// What it is, as `FromStr` reads it.
    pub fn what(&self) -> String {
        format!("{} at {} in {}", self.fault, self.point, self.scenario.name())
    }

    /// What runs it alone.
    pub fn command(&self) -> String {
        let (scenario, point, fault) = (self.scenario.name(), &self.point, &self.fault);
        format!("DCI_SWEEP_SCENARIO={scenario} DCI_SWEEP_POINT='{point}' DCI_SWEEP_FAULT={fault} make sweep")
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (fault, rest) = text.split_once(" at ")?;
            let (point, scenario) = rest.rsplit_once(" in ")?;
            Some((fault, point, Scenario::named(scenario)?))
        };
        let (fault, point, scenario) = parts().ok_or_else(|| format!("`{text}` is no `FAULT at POINT in SCENARIO`"))?;
        Ok(Self { scenario, point: point.parse()?, fault: fault.parse()? })
    }
}

/// What runs one life with all these.
pub fn command(jobs: &[Job]) -> String {
    match jobs {
        [job] => job.command(),
        jobs => format!("DCI_SWEEP_LIFE='{}' make sweep", jobs.iter().map(Job::what).collect::<Vec<_>>().join("; ")),
    }
}

/// Every way in which a request goes wrong.
fn faults(point: &Point) -> Vec<Fault> {
    // Longer than the operator waits for an answer.
    let late = if point.side == KUBE { Duration::from_millis(15_700) } else { PANEL_TIMEOUT + Duration::from_millis(700) };
    let mut all = vec![
        Fault::Drop,
        Fault::DropAnswer,
        Fault::Kill,
        Fault::Late(late),
        Fault::Duplicate,
        Fault::Status(409, false),
        Fault::Status(429, false),
        Fault::Status(500, true),
        Fault::Status(503, false),
        Fault::Garbage,
        Fault::Truncate,
    ];
    // A lock that is somebody else's: another server is taken, as it should be, and the end is another one.
    if point.side == KUBE && point.what.starts_with("create leases") {
        all.retain(|fault| *fault != Fault::Status(409, false));
    }
    all
}

/// Throws dice (splitmix64).
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number for a text, the same everywhere.
fn number(seed: u64, text: &str) -> usize {
    let all = text.bytes().fold(seed, |all, byte| mixed(all ^ u64::from(byte)));
    usize::try_from(all >> 33).unwrap()
}

fn read<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} cannot be read")))
}

fn named<T: FromStr<Err = String>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn list(name: &str) -> Vec<String> {
    read::<String>(name).map_or_else(Vec::new, |text| text.split(',').map(str::to_owned).collect())
}

impl Settings {
    /// What the environment asks for; where it does not say, so many requests of a scenario go wrong together.
    pub fn read(usual: Choice, together: usize) -> Self {
        let choice = match std::env::var("DCI_SWEEP_RUNS").as_deref() {
            Ok("all") => Choice::All,
            Ok("once") => Choice::Once,
            Ok("list") => Choice::List,
            Ok(other) if !other.is_empty() => panic!("DCI_SWEEP_RUNS={other}: there are all, once and list"),
            Ok(_) | Err(_) => usual,
        };
        let shard = read::<String>("DCI_SWEEP_SHARD").map_or((0, 1), |text| {
            let parse = || {
                let (this, of) = text.split_once('/')?;
                Some((this.parse::<usize>().ok()?.checked_sub(1)?, of.parse().ok()?))
            };
            parse().unwrap_or_else(|| panic!("DCI_SWEEP_SHARD={text}: 1/4 is the first of four"))
        });
        Self {
            choice,
            scenarios: list("DCI_SWEEP_SCENARIO"),
            point: read("DCI_SWEEP_POINT"),
            faults: list("DCI_SWEEP_FAULT").iter().map(|text| named(text)).collect(),
            shard,
            seed: read("DCI_SWEEP_SEED").unwrap_or(1),
            parallel: read("DCI_SWEEP_PARALLEL").unwrap_or(24),
            together: read("DCI_SWEEP_TOGETHER").unwrap_or(together).max(1),
            life: read::<String>("DCI_SWEEP_LIFE").map(|text| text.split("; ").map(named).collect()),
            minutes: read("DCI_SWEEP_MINUTES").map(Duration::from_mins),
        }
    }

    /// A third of the runs, where the environment does not say which: this one's, of what goes wrong by this seed.
    pub fn for_this_commit(&mut self, number: u64) {
        if ["DCI_SWEEP_SEED", "DCI_SWEEP_SHARD"].iter().all(|name| std::env::var_os(name).is_none()) {
            self.seed = number % 1_000_000;
            self.shard = (usize::try_from(number % 3).unwrap(), 3);
            crate::tables::tell(&format!("DCI_SWEEP_SEED={} DCI_SWEEP_SHARD={}/3, for this commit", self.seed, self.shard.0 + 1));
        }
    }

    /// Whether the lives without faults are run twice.
    pub fn twice(&self) -> bool {
        self.together == 1 && self.point.is_none() && self.life.is_none()
    }

    /// Nothing is run: points are listed.
    pub fn lists(&self) -> bool {
        self.choice == Choice::List
    }

    /// One request is asked for by its full name.
    pub fn names_in_full(&self) -> bool {
        !self.faults.is_empty() && self.point.as_ref().is_some_and(|text| text.parse::<Point>().is_ok())
    }

    /// Whether a scenario is run.
    pub fn wants(&self, scenario: &str) -> bool {
        if let Some(jobs) = &self.life {
            return jobs.iter().any(|job| job.scenario.name() == scenario);
        }
        self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario)
    }

    /// Whether a point holds one of the parts of names that are asked for.
    fn names(&self, point: &str) -> bool {
        self.point.as_ref().is_none_or(|parts| parts.split(',').any(|part| point.contains(part)))
    }

    /// The runs of a scenario with these points.
    pub fn jobs(&self, scenario: Scenario, points: &[Point]) -> Vec<Job> {
        if self.choice == Choice::List {
            for point in points {
                println!("{}: {point}", scenario.name());
            }
            return Vec::new();
        }
        if let Some(jobs) = &self.life {
            return jobs.iter().filter(|job| job.scenario == scenario).cloned().collect();
        }
        if let (Some(Ok(point)), [_, ..]) = (self.point.as_ref().map(|text| text.parse::<Point>()), self.faults.as_slice()) {
            // Named in full: run, whether or not it came up in the run without faults.
            return self.faults.iter().map(|fault| Job { scenario, point: point.clone(), fault: fault.clone() }).collect();
        }
        let named: Vec<&Point> = points.iter().filter(|p| self.names(&p.to_string())).collect();
        let all = named.into_iter().flat_map(|point| {
            let mut faults: Vec<Fault> = faults(point).into_iter().filter(|f| self.faults.is_empty() || self.faults.contains(f)).collect();
            if self.choice != Choice::All && !faults.is_empty() {
                let one = number(self.seed, &format!("{} {point}", scenario.name())) % faults.len();
                faults = vec![faults.swap_remove(one)];
            }
            faults.into_iter().map(move |fault| Job { scenario, point: point.clone(), fault })
        });
        let (this, of) = self.shard;
        all.enumerate().filter(|(index, _)| index % of == this).map(|(_, job)| job).collect()
    }

    /// In an order that the seed decides, so that what has been run after a while is of everything.
    pub fn shuffle(&self, jobs: &mut [Job]) {
        jobs.sort_by_cached_key(|job| {
            let mut text = String::new();
            let _ = write!(text, "{} {} {}", job.scenario.name(), job.point, job.fault);
            number(self.seed, &text)
        });
    }
}

/// Lives that hold all these, so many for each scenario of a life, and each request at most once in it. A licence that is bought twice has
/// a life of its own.
pub fn lives(jobs: Vec<Job>, together: usize) -> Vec<(Life, Vec<Job>)> {
    let mut lives: Vec<(Life, Vec<Job>)> = Vec::new();
    for job in jobs {
        let life = job.scenario.life();
        let beside = |jobs: &[Job]| {
            // Where two licences are bought, less is looked at.
            if job.buys_twice() || jobs.iter().any(Job::buys_twice) {
                return false;
            }
            let mut others = jobs.iter().filter(|other| other.scenario == job.scenario);
            others.clone().all(|other| other.point != job.point) && others.nth(together - 1).is_none()
        };
        match lives.iter_mut().find(|(other, jobs)| *other == life && beside(jobs)) {
            Some((_, jobs)) => jobs.push(job),
            None => lives.push((life, vec![job])),
        }
    }
    lives
}

#[test]
fn a_life_holds_so_many_of_each_scenario_and_no_request_twice() {
    let job = |text: &str| text.parse::<Job>().unwrap();
    let all = [
        "drop at kube get secrets provider/dci #1 in open",
        "kill at dci server.edit! 17 #1 in open",
        "kill at dci server.edit! 17 #1 in delete",
        "503 at dci server.edit! 17 #1 in open",
        "409 at kube get secrets provider/dci #1 in open",
        "late-3700ms at dci server #2 in open",
    ];
    for text in all {
        assert_eq!(job(text).what(), text);
    }
    let sizes = |together| lives(all.map(job).to_vec(), together).iter().map(|(_, jobs)| jobs.len()).collect::<Vec<_>>();
    assert_eq!(sizes(1), [2, 1, 1, 1, 1]);
    assert_eq!(sizes(2), [3, 2, 1]);
    assert_eq!(sizes(3), [4, 2]);
    let twice = ["duplicate at bill soft.order.param! #1 in licence", "drop at bill soft.filter #1 in licence"].map(job);
    assert_eq!(lives(twice.to_vec(), 3).len(), 2, "bought twice, and nothing beside it");
    assert!("drop in open".parse::<Job>().is_err());
    assert!(command(&all.map(job)[..2]).starts_with("DCI_SWEEP_LIFE='drop at kube get secrets provider/dci #1 in open; kill at"));
}
