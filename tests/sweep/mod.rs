//! First a run of each scenario without faults, which tells the points; then a run for each point and fault; then the table.

mod end_state;
pub mod plan;
mod rig;
mod rules;
mod scenario;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Semaphore;

use plan::{Job, Settings};
use rig::{Ended, Reference};
use scenario::Scenario;
use table::Table;

/// The longest that one run may take: beyond the patience of each of its waits.
const LONGEST: Duration = Duration::from_mins(8);

/// Runs what the settings ask for; anything that breaks a rule fails the test.
pub async fn run(settings: &Settings) {
    let began = Instant::now();
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|s| settings.wants(s.name())).collect();
    assert!(!scenarios.is_empty(), "DCI_SWEEP_SCENARIO names none of {:?}", Scenario::ALL.map(Scenario::name));
    let places = Arc::new(Semaphore::new(settings.parallel));
    let references = join_all(scenarios.iter().map(|scenario| reference(*scenario, &places))).await;
    let mut table = Table::default();
    let mut jobs = Vec::new();
    for (scenario, reference) in scenarios.iter().zip(&references) {
        let wanted = settings.jobs(*scenario, &reference.points);
        table.scenario(scenario.name(), reference.points.len(), wanted.len());
        jobs.extend(wanted.into_iter().map(|job| (job, reference.clone())));
    }
    settings.shuffle(&mut jobs);
    println!("{} runs, {} at a time, seed {}", jobs.len(), settings.parallel, settings.seed);
    let mut running = tokio::task::JoinSet::new();
    let (mut told, all) = (Instant::now(), jobs.len());
    for (job, reference) in jobs {
        let place = places.clone().acquire_owned().await.unwrap();
        if settings.minutes.is_some_and(|most| began.elapsed() > most) {
            table.left_out(job.scenario.name());
            continue;
        }
        running.spawn(async move {
            let ended = one(&job, &reference).await;
            drop(place);
            (job, ended)
        });
        while let Some(done) = running.try_join_next() {
            note(&mut table, done.unwrap());
        }
        if told.elapsed() > Duration::from_mins(1) {
            told = Instant::now();
            println!("{:>4} s: {} of {all} runs, {} broke a rule", began.elapsed().as_secs(), table.runs(), table.broken());
        }
    }
    while let Some(done) = running.join_next().await {
        note(&mut table, done.unwrap());
    }
    println!("\n{table}");
    println!("in {} s; {}", began.elapsed().as_secs(), computed());
    assert!(table.broken() == 0, "{} runs broke a rule; each one's command is above", table.broken());
}

fn note(table: &mut Table, (job, ended): (Job, Ended)) {
    if let Ended::Broken(what) = &ended {
        println!("BROKEN: {what}\n  alone: {}", job.command());
    }
    table.note(job.scenario.name(), &job.fault.to_string(), &ended);
}

/// The run without faults, twice: what they end in has to be the same.
async fn reference(scenario: Scenario, places: &Semaphore) -> Reference {
    let once = async || {
        let _place = places.acquire().await.unwrap();
        rig::reference(scenario).await
    };
    let (first, second) = tokio::join!(once(), once());
    assert_eq!(first.end, second.end, "{}: two runs without faults end differently", scenario.name());
    println!("{}: {} points, {:.1} s", scenario.name(), first.points.len(), first.took.as_secs_f64());
    first
}

/// Seconds that this process and the operators computed.
fn computed() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|n| n.parse().unwrap_or_default()).collect();
    let sum = |at: usize| fields.get(at..at + 2).map_or(0, |two| two.iter().sum::<u64>()) / 100;
    format!("computed: tests and panels {} s, operators {} s", sum(11), sum(13))
}

async fn one(job: &Job, reference: &Reference) -> Ended {
    let (scenario, point, fault) = (job.scenario, job.point.clone(), job.fault.clone());
    let reference = reference.clone();
    let task = tokio::spawn(async move { rig::with_fault(scenario, point, fault, &reference).await });
    let abort = task.abort_handle();
    match tokio::time::timeout(LONGEST, task).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
            Ended::Broken(text.unwrap_or_else(|| "it panicked".to_owned()))
        }
        Err(_) => {
            abort.abort();
            Ended::Broken(format!("it did not end within {LONGEST:?}"))
        }
    }
}
