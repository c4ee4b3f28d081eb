//! Plain text for a terminal: columns as kubectl prints them, and times as ages.

use std::fmt::Write as _;
use std::io::Write as _;

use jiff::{SignedDuration, Timestamp};

use crate::api::common::Time;
use crate::provisioning::context::cut;

/// What stands where there is nothing to say.
pub const NOTHING: &str = "-";
/// Blanks between two columns.
const GAP: usize = 3;

/// A text of somebody else's on one line: what would move the cursor of a terminal becomes a blank.
#[must_use]
pub fn clean(text: &str) -> String {
    cut(text, usize::MAX)
}

/// Writes to the standard output. A reader that has gone away has seen enough.
pub fn print(text: &str) -> std::io::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A span as kubectl writes ages: `90s`, `5m30s`, `3h`, `4d12h`. One that is not over yet is none.
#[must_use]
pub fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |large: i64, unit: &str, small: i64, rest: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{rest}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if years < 2 => format!("{days}d"),
        () if years < 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

/// How long ago something was.
#[must_use]
pub fn age(now: Timestamp, at: Option<Time>) -> String {
    at.map_or_else(|| NOTHING.to_owned(), |at| span(now.duration_since(at.0)))
}

/// When something is, was, or should have been: `in 5m`, `3h ago`.
#[must_use]
pub fn when(now: Timestamp, at: Time) -> String {
    if at.0 > now { format!("in {}", span(at.0.duration_since(now))) } else { format!("{} ago", span(now.duration_since(at.0))) }
}

/// A deadline: `in 5m`, or `OVERDUE 3h`.
#[must_use]
pub fn deadline(now: Timestamp, at: Option<Time>) -> String {
    match at {
        None => NOTHING.to_owned(),
        Some(at) if at.0 > now => when(now, at),
        Some(at) => format!("OVERDUE {}", span(now.duration_since(at.0))),
    }
}

/// Rows in aligned columns.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    headed: bool,
}

impl Table {
    /// With a line of names over the columns.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(ToString::to_string).collect()], headed: true }
    }

    /// Without such a line.
    #[must_use]
    pub fn bare() -> Self {
        Self::default()
    }

    /// Adds a row; an empty cell shows as a dash.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cell = |text: S| {
            let text = clean(text.as_ref());
            if text.trim().is_empty() { NOTHING.to_owned() } else { text }
        };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == usize::from(self.headed)
    }

    /// The lines, each behind so many blanks.
    #[must_use]
    pub fn indented(&self, blanks: usize) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(blanks);
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}{:GAP$}", "");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The lines.
    #[must_use]
    pub fn text(&self) -> String {
        self.indented(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_kubectl_writes_ages() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_060, "3h21m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (64_000_000, "2y10d"),
            (315_360_000, "10y"),
        ] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn times_before_and_after_now_differ() {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        let now = at(1000).0;
        assert_eq!((when(now, at(1300)).as_str(), when(now, at(940)).as_str()), ("in 5m", "60s ago"));
        assert_eq!(deadline(now, Some(at(1300))), "in 5m");
        assert_eq!(deadline(now, Some(at(940))), "OVERDUE 60s");
        assert_eq!((deadline(now, None).as_str(), age(now, None).as_str()), ("-", "-"));
    }

    #[test]
    fn columns_are_aligned_and_nothing_moves_the_cursor() {
        let mut table = Table::new(&["NAME", "STATE"]);
        assert!(table.is_empty());
        table.row(["a-long-name", "Open"]);
        table.row(["б", "a\u{1b}[2Jb\nc"]);
        table.row(["x", ""]);
        assert!(!table.is_empty());
        assert_eq!(table.text(), "NAME          STATE\na-long-name   Open\nб             a [2Jb c\nx             -\n");
        let mut bare = Table::bare();
        bare.row(["phase:", "Active"]);
        assert_eq!(bare.indented(2), "  phase:   Active\n");
    }
}
