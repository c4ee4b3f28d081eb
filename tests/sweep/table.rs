//! What became of all runs.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use super::rig::Ended;

#[derive(Default)]
struct Row {
    points: usize,
    planned: usize,
    met: usize,
    not_met: usize,
    broken: usize,
    left_out: usize,
    longest: Duration,
    /// Of which fault.
    longest_of: String,
}

/// One row for each scenario, in the order of the scenarios.
#[derive(Default)]
pub struct Table(Vec<(String, Row)>, BTreeMap<String, usize>);

impl Table {
    pub fn scenario(&mut self, name: &str, points: usize, planned: usize) {
        self.0.push((name.to_owned(), Row { points, planned, ..Row::default() }));
    }

    fn row(&mut self, scenario: &str) -> &mut Row {
        &mut self.0.iter_mut().find(|(name, _)| name == scenario).unwrap().1
    }

    pub fn note(&mut self, scenario: &str, fault: &str, ended: &Ended) {
        *self.1.entry(fault.to_owned()).or_default() += 1;
        let row = self.row(scenario);
        match ended {
            Ended::Met(recovery) => {
                row.met += 1;
                if let Some(recovery) = *recovery
                    && recovery > row.longest
                {
                    row.longest = recovery;
                    fault.clone_into(&mut row.longest_of);
                }
            }
            Ended::NotMet => row.not_met += 1,
            Ended::Broken(_) => row.broken += 1,
        }
    }

    pub fn left_out(&mut self, scenario: &str) {
        self.row(scenario).left_out += 1;
    }

    pub fn runs(&self) -> usize {
        self.0.iter().map(|(_, row)| row.met + row.not_met + row.broken).sum()
    }

    pub fn not_met(&self) -> usize {
        self.0.iter().map(|(_, row)| row.not_met).sum()
    }

    pub fn broken(&self) -> usize {
        self.0.iter().map(|(_, row)| row.broken).sum()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Scenario | Points | Planned | Run | Not met | Violations | Longest recovery |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|")?;
        let mut all = Row::default();
        for (name, row) in &self.0 {
            let run = row.met + row.not_met + row.broken;
            let longest = format!("{:.1} s ({})", row.longest.as_secs_f64(), row.longest_of);
            writeln!(f, "| {name} | {} | {} | {run} | {} | {} | {longest} |", row.points, row.planned, row.not_met, row.broken)?;
            all.points += row.points;
            all.planned += row.planned;
            all.met += row.met;
            all.not_met += row.not_met;
            all.broken += row.broken;
            all.left_out += row.left_out;
            all.longest = all.longest.max(row.longest);
        }
        let run = all.met + all.not_met + all.broken;
        let longest = all.longest.as_secs_f64();
        writeln!(f, "| all | {} | {} | {run} | {} | {} | {longest:.1} s |", all.points, all.planned, all.not_met, all.broken)?;
        if all.left_out > 0 {
            writeln!(f, "{} runs were left out: the time was over, or another request of their life broke a rule.", all.left_out)?;
        }
        let faults = self.1.iter().map(|(fault, count)| format!("{fault} {count}")).collect::<Vec<_>>();
        write!(f, "By fault: {}.", faults.join(", "))
    }
}
