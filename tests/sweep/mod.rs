//! First a run of each scenario without faults, which tells the points; then a run for each point and fault; then the table.

mod end_state;
pub mod plan;
mod rig;
mod rules;
mod scenario;
mod table;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Semaphore;

use plan::{Job, Settings};
use rig::{Ended, Reference};
use scenario::Life;
use table::Table;

/// The longest that one life may take: beyond the patience of each of its waits.
const LONGEST: Duration = Duration::from_mins(20);

/// Runs what the settings ask for; anything that breaks a rule fails the test.
pub async fn run(settings: &Settings) {
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(settings.parallel));
    let wanted = Life::ALL.into_iter().filter(|life| life.scenarios().iter().any(|s| settings.wants(s.name())));
    let references = Arc::new(join_all(wanted.map(|life| reference(life, settings.twice(), &places))).await);
    assert!(!references.is_empty(), "DCI_SWEEP_SCENARIO names no scenario");
    let mut table = Table::default();
    let mut jobs = Vec::new();
    for (life, told) in references.iter() {
        for (scenario, reference) in life.scenarios().iter().zip(told).filter(|(s, _)| settings.wants(s.name())) {
            let wanted = settings.jobs(*scenario, &reference.points);
            table.scenario(scenario.name(), reference.points.len(), wanted.len());
            jobs.extend(wanted);
        }
    }
    settings.shuffle(&mut jobs);
    let together = if settings.life.is_some() { usize::MAX } else { settings.together };
    let mut waiting: VecDeque<(Life, Vec<Job>)> = plan::lives(jobs, together).into();
    println!("{} lives, {} at a time, seed {}", waiting.len(), settings.parallel, settings.seed);
    let (mut running, mut not_met) = (tokio::task::JoinSet::new(), BTreeSet::new());
    let mut told = Instant::now();
    loop {
        while running.len() < settings.parallel
            && let Some((life, jobs)) = waiting.pop_front()
        {
            if settings.minutes.is_some_and(|most| began.elapsed() > most) {
                for job in &jobs {
                    table.left_out(job.scenario.name());
                }
                continue;
            }
            let references = references.clone();
            running.spawn(async move {
                let of_life = &references.iter().find(|(other, _)| *other == life).unwrap().1;
                one(life, jobs, of_life).await
            });
        }
        let Some(done) = running.join_next().await else { break };
        let told_of = done.unwrap();
        let mut again = Vec::new();
        for (job, ended) in told_of {
            match ended {
                // Once more: others that went wrong may have kept it from coming up.
                Some(Ended::NotMet) if together > 1 && settings.life.is_none() && not_met.insert(job.what()) => again.push(job),
                Some(ended) => note(&mut table, &job, &ended),
                // What comes after a rule that was broken is run in another life, where one request alone broke it.
                None if together == 1 => again.push(job),
                None => table.left_out(job.scenario.name()),
            }
        }
        waiting.extend(plan::lives(again, together));
        if told.elapsed() > Duration::from_mins(1) {
            told = Instant::now();
            println!(
                "{:>4} s: {} runs, {} broke a rule, {} lives left",
                began.elapsed().as_secs(),
                table.runs(),
                table.broken(),
                waiting.len()
            );
        }
    }
    crate::tables::tell(&format!("{table}\nin {} s; {}", began.elapsed().as_secs(), computed()));
    assert!(table.broken() == 0, "{} runs broke a rule; each one's command is above", table.broken());
    // Runs in which nothing went wrong show nothing.
    let (runs, not_met) = (table.runs(), table.not_met());
    assert!(runs > 0 || settings.lists(), "nothing was run");
    let most = if settings.names_in_full() { 0 } else { (runs / 20).max(1) };
    assert!(not_met <= most, "{not_met} of {runs} requests did not come up again, and so did not go wrong");
}

fn note(table: &mut Table, job: &Job, ended: &Ended) {
    let what = job.what();
    match ended {
        Ended::Met(Some(recovery)) => println!("kept: {what}, {:.1} s", recovery.as_secs_f64()),
        Ended::Met(None) => println!("kept: {what}, and others after it"),
        Ended::NotMet => println!("not met: {what}"),
        // At once: what is only printed is seen when all are done.
        Ended::Broken(text) => crate::tables::tell(&format!("BROKEN: {what}: {text}\n  alone: {}", job.command())),
    }
    table.note(job.scenario.name(), &job.fault.to_string(), ended);
}

/// A life without faults; twice, where that is not too long: what it ends in has to be the same.
async fn reference(life: Life, twice: bool, places: &Semaphore) -> (Life, Vec<Reference>) {
    let once = async || {
        let _place = places.acquire().await.unwrap();
        rig::reference(life).await
    };
    let again = async || if twice { Some(once().await) } else { None };
    let (first, second) = tokio::join!(once(), again());
    for (index, (scenario, first)) in life.scenarios().iter().zip(&first).enumerate() {
        let same = second.as_ref().is_none_or(|second| second[index].end == first.end);
        assert!(same, "{}: two runs without faults end differently", scenario.name());
        println!("{}: {} points, {:.1} s", scenario.name(), first.points.len(), first.took.as_secs_f64());
    }
    (life, first)
}

/// Seconds that this process and the operators computed.
fn computed() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|n| n.parse().unwrap_or_default()).collect();
    let sum = |at: usize| fields.get(at..at + 2).map_or(0, |two| two.iter().sum::<u64>()) / 100;
    format!("computed: tests and panels {} s, operators {} s", sum(11), sum(13))
}

/// One life. `None`: it did not come to that, since a rule was broken before.
async fn one(life: Life, jobs: Vec<Job>, references: &[Reference]) -> Vec<(Job, Option<Ended>)> {
    let told: Arc<Mutex<Vec<(String, Ended)>>> = Arc::default();
    let task = {
        let (jobs, references, told) = (jobs.clone(), references.to_vec(), told.clone());
        let tell = move |job: &Job, ended: Ended| told.lock().unwrap().push((job.what(), ended));
        tokio::spawn(async move { rig::life(life, &jobs, &references, tell).await })
    };
    let abort = task.abort_handle();
    let broken = match tokio::time::timeout(LONGEST, task).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
            Some(text.unwrap_or_else(|| "it panicked".to_owned()))
        }
        Err(_) => {
            abort.abort();
            Some(format!("it did not end within {LONGEST:?}"))
        }
    };
    let mut ended: BTreeMap<usize, Ended> = BTreeMap::new();
    for (what, how) in told.lock().unwrap().drain(..) {
        ended.extend(jobs.iter().position(|job| job.what() == what).map(|index| (index, how)));
    }
    if let Some(what) = broken {
        let order = |job: &Job| life.scenarios().iter().position(|s| *s == job.scenario);
        let next = (0..jobs.len()).filter(|index| !ended.contains_key(index)).min_by_key(|index| order(&jobs[*index]));
        // Which of them is the cause nobody knows: this one stands for all. Where all came to rest, and the end is wrong, any may be.
        let last = (0..jobs.len()).max_by_key(|index| order(&jobs[*index]));
        let text = if jobs.len() > 1 { format!("{what}\n  all of this life: {}", plan::command(&jobs)) } else { what };
        if let Some(index) = next.or(last) {
            ended.insert(index, Ended::Broken(text));
        }
    }
    jobs.into_iter().enumerate().map(|(index, job)| (job, ended.remove(&index))).collect()
}
