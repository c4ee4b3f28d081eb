//! How well a server fits what a client composed: what has to be done to it, and which of several is the best.
//!
//! A server that has at least what is asked fits. Among those the one with the cheapest surplus wins: the fewest processors, PCI
//! cards, GiB of memory, GB of `NVMe`, GB of SSD, GB of other disks, and disks beyond what is asked, in this order. Where none fits,
//! the most similar one wins: the fewest parts to change, then the least memory and the fewest GB of disks that are missing, then
//! the cheapest surplus. A server of which nothing is known never fits, and is the least similar of all. The lowest id decides last.
//!
//! Types of disks and models have to be the ones that were asked for: nobody has said which of two is the better one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::api::order::CustomConfiguration;

use super::context::cut;
use super::hardware::{Disk, Hardware, Processors};

/// The longest text in a table, in bytes: names of parts are the client's and the panel's words.
const CELL: usize = 160;

/// What a server has beyond what is asked, the dearest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Surplus {
    processors: u64,
    cards: u64,
    memory_gib: u64,
    nvme_gb: u64,
    ssd_gb: u64,
    other_gb: u64,
    disks: u64,
}

/// How a server stands among others: the least is the best.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It has at least what is asked.
    Fits(Surplus),
    /// Parts have to be changed.
    Differs {
        /// Parts to add or to swap.
        parts: u64,
        /// Memory that is missing, in GiB.
        memory_gib: u64,
        /// Disks that are missing, in GB.
        disks_gb: u64,
        /// What it has beyond what is asked.
        surplus: Surplus,
    },
    /// Nothing is known of it.
    Unknown,
}

/// One line of the table for the department.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which part.
    pub part: &'static str,
    /// What was asked for.
    pub wanted: String,
    /// What is there of it.
    pub present: String,
    /// What to do; `None` where nothing is.
    pub action: Option<String>,
}

/// What was asked for against what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Part by part, in the order of the spec.
    pub lines: Vec<Line>,
    /// Parts that the server does not have.
    pub missing: Vec<String>,
    /// Whether a part that is there has to come out for another.
    pub swaps: bool,
    /// Where the server stands among others.
    pub rank: Rank,
}

impl Comparison {
    /// Whether the server has at least what is asked.
    #[must_use]
    pub fn fits(&self) -> bool {
        matches!(self.rank, Rank::Fits(_))
    }

    /// The table: wanted, present, what to do.
    #[must_use]
    pub fn table(&self) -> String {
        let action = |line: &Line| line.action.clone().unwrap_or_else(|| "nothing".into());
        let heads = ["part", "wanted", "present", "do"].map(str::to_owned);
        let rows = self.lines.iter().map(|l| [l.part.to_owned(), l.wanted.clone(), l.present.clone(), action(l)]);
        let rows: Vec<[String; 4]> = std::iter::once(heads).chain(rows).map(|row| row.map(|cell| cut(&cell, CELL))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let (a, b, c) = (width(0), width(1), width(2));
        let mut text = String::new();
        for [part, wanted, present, action] in &rows {
            let _ = writeln!(text, "{part:a$}  {wanted:b$}  {present:c$}  {action}");
        }
        text
    }
}

/// At work on one comparison.
#[derive(Default)]
struct Count {
    lines: Vec<Line>,
    missing: Vec<String>,
    swaps: bool,
    parts: u64,
    memory_gib: u64,
    disks_gb: u64,
    surplus: Surplus,
}

/// Compares what was asked for with what is there.
#[must_use]
pub fn compare(wanted: &CustomConfiguration, present: &Hardware) -> Comparison {
    let mut count = Count::default();
    count.processors(wanted, present.processors.as_ref());
    count.memory(wanted, present.memory_gib);
    count.disks(wanted, &present.disks);
    count.cards(wanted, &present.cards);
    let rank = if present.is_unknown() {
        Rank::Unknown
    } else if count.parts == 0 {
        Rank::Fits(count.surplus)
    } else {
        Rank::Differs { parts: count.parts, memory_gib: count.memory_gib, disks_gb: count.disks_gb, surplus: count.surplus }
    };
    Comparison { lines: count.lines, missing: count.missing, swaps: count.swaps, rank }
}

impl Count {
    fn line(&mut self, part: &'static str, wanted: String, present: String, action: Option<String>) {
        self.lines.push(Line { part, wanted, present, action });
    }

    fn processors(&mut self, wanted: &CustomConfiguration, present: Option<&Processors>) {
        let had = present.map_or(0, |p| p.count);
        let Some(cpu) = &wanted.cpu else {
            self.surplus.processors = had.into();
            return;
        };
        let asked = positive(cpu.count);
        let shown = present.map_or_else(nothing, |p| format!("{}x {}", p.count, p.model));
        let right = present.is_some_and(|p| names(&cpu.model, &p.model));
        let missing = if right { asked.saturating_sub(had) } else { asked };
        let action = match (missing, right, present) {
            (0, ..) => None,
            (_, false, Some(there)) => Some(format!("swap {}x {} for {missing}x {}", there.count, there.model, cpu.model)),
            (_, true, _) | (_, _, None) => Some(format!("add {missing}x {}", cpu.model)),
        };
        self.swaps |= missing > 0 && !right && present.is_some();
        if right {
            self.surplus.processors = had.saturating_sub(asked).into();
        }
        self.lack(missing, &cpu.model);
        self.line("processor", format!("{asked}x {}", cpu.model), shown, action);
    }

    fn memory(&mut self, wanted: &CustomConfiguration, present: Option<u32>) {
        let had = present.unwrap_or(0);
        let Some(asked) = wanted.memory_gib.map(positive) else {
            self.surplus.memory_gib = had.into();
            return;
        };
        let missing = asked.saturating_sub(had);
        self.surplus.memory_gib = had.saturating_sub(asked).into();
        let shown = present.map_or_else(nothing, |gib| format!("{gib} GiB"));
        let action = (missing > 0).then(|| format!("add {missing} GiB"));
        if missing > 0 {
            self.parts += 1;
            self.memory_gib = missing.into();
            self.missing.push(format!("{missing} GiB of memory"));
        }
        self.line("memory", format!("{asked} GiB"), shown, action);
    }

    /// The largest first, each given the smallest disk of its type that is large enough: no assignment serves more of them.
    fn disks(&mut self, wanted: &CustomConfiguration, present: &BTreeMap<Disk, u32>) {
        let mut asked: BTreeMap<Disk, u32> = BTreeMap::new();
        for disk in &wanted.disks {
            let count = asked.entry(Disk::new(&disk.type_, positive(disk.size_gb))).or_default();
            *count = count.saturating_add(positive(disk.count));
        }
        let mut left = present.clone();
        let mut rows = Vec::new();
        for (disk, count) in asked.into_iter().rev() {
            let (taken, missing) = self.serve(&disk, count, &mut left);
            rows.push((disk, count, taken, missing));
        }
        rows.reverse();
        for (disk, count, mut there, missing) in rows {
            let mut actions = Vec::new();
            let mut open = missing;
            while let Some(other) = spare(&left, &disk.kind).filter(|_| open > 0) {
                let swapped = take(&mut left, &other, open);
                actions.push(format!("swap {swapped}x {other} for {swapped}x {disk}"));
                open -= swapped;
                self.swaps = true;
                // What has to come out is there, too.
                there.push((other, swapped));
            }
            if open > 0 {
                actions.push(format!("add {open}x {disk}"));
            }
            self.disks_gb += u64::from(missing) * u64::from(disk.gb);
            self.lack(missing, &disk.to_string());
            let shown = there.iter().map(|(disk, n)| format!("{n}x {disk}")).collect::<Vec<_>>().join(", ");
            let shown = if shown.is_empty() { nothing() } else { shown };
            self.line("disk", format!("{count}x {disk}"), shown, (missing > 0).then(|| actions.join(", ")));
        }
        for (disk, count) in left {
            self.surplus.disks += u64::from(count);
            self.more_space(&disk.kind, u64::from(count) * u64::from(disk.gb));
        }
    }

    /// Gives a kind of disk what is there for it; returns that, and how many are missing.
    fn serve(&mut self, disk: &Disk, count: u32, left: &mut BTreeMap<Disk, u32>) -> (Vec<(Disk, u32)>, u32) {
        let mut missing = count;
        let mut taken = Vec::new();
        let enough: Vec<Disk> = left.keys().filter(|d| d.kind == disk.kind && d.gb >= disk.gb).cloned().collect();
        for there in enough {
            let used = take(left, &there, missing);
            missing -= used;
            self.more_space(&there.kind, u64::from(used) * u64::from(there.gb - disk.gb));
            taken.push((there, used));
            if missing == 0 {
                break;
            }
        }
        (taken, missing)
    }

    fn more_space(&mut self, kind: &str, gb: u64) {
        match kind {
            "NVMe" => self.surplus.nvme_gb += gb,
            "SSD" => self.surplus.ssd_gb += gb,
            _ => self.surplus.other_gb += gb,
        }
    }

    fn cards(&mut self, wanted: &CustomConfiguration, present: &[String]) {
        let mut left: Vec<&String> = present.iter().collect();
        for card in &wanted.pci {
            let found = left.iter().position(|there| names(card, there)).map(|at| left.remove(at));
            self.lack(u32::from(found.is_none()), card);
            let action = found.is_none().then(|| format!("add 1x {card}"));
            self.line("PCI card", card.clone(), found.cloned().unwrap_or_else(nothing), action);
        }
        self.surplus.cards = u64::try_from(left.len()).unwrap_or(u64::MAX);
    }

    fn lack(&mut self, count: u32, what: &str) {
        self.parts += u64::from(count);
        if count > 0 {
            self.missing.push(format!("{count}x {what}"));
        }
    }
}

fn nothing() -> String {
    "–".into()
}

fn positive(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A disk that nothing of the order needs: of the same type if there is one, the smallest first.
fn spare(left: &BTreeMap<Disk, u32>, kind: &str) -> Option<Disk> {
    left.keys().find(|disk| disk.kind == kind).or_else(|| left.keys().next()).cloned()
}

/// Takes up to so many of a disk; returns how many.
fn take(left: &mut BTreeMap<Disk, u32>, disk: &Disk, most: u32) -> u32 {
    let Some(there) = left.get_mut(disk) else { return 0 };
    let used = most.min(*there);
    *there -= used;
    if *there == 0 {
        left.remove(disk);
    }
    used
}

/// Whether the panel's name of a part is what was asked for: the same words, or the words asked for within the panel's, as in
/// `Intel Xeon E-2146G`. A version behind them makes it another part: `E5-2620 v4` is no `E5-2620`.
fn names(wanted: &str, shown: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let parts = text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ','));
        parts.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (wanted, shown) = (words(wanted), words(shown));
    let version = |word: &String| word.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    !wanted.is_empty()
        && shown
            .windows(wanted.len())
            .enumerate()
            .any(|(at, window)| window == wanted && !shown.get(at + wanted.len()).is_some_and(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn wanted(value: Value) -> CustomConfiguration {
        serde_json::from_value(value).unwrap()
    }

    fn usual() -> CustomConfiguration {
        wanted(json!({"cpu": {"model": "E-2146G"}, "memoryGiB": 64, "disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}]}))
    }

    #[test]
    fn a_server_fits_that_has_at_least_what_is_asked() {
        for (server, fits) in [
            ("E-2146G-64Gb-2x1920SSD", true),
            ("Intel Xeon E-2146G-128Gb-1920SSD-3840SSD+X710", true),
            ("2xE-2146G-64Gb-4x1920ssd", true),
            ("E-2146G-64Gb-1920SSD", false),
            ("E-2146G-64Gb-1920SSD-960SSD", false),
            ("E-2146G-64Gb-2x1920NVMe", false),
            ("E-2146G-32Gb-2x1920SSD", false),
            ("E-2146-64Gb-2x1920SSD", false),
            ("E-2146G v2-64Gb-2x1920SSD", false),
            ("Dell R640", false),
            ("", false),
        ] {
            let compared = compare(&usual(), &Hardware::parse(server));
            assert_eq!(compared.fits(), fits, "{server}");
            assert_eq!(compared.lines.iter().all(|line| line.action.is_none()), fits, "{server}");
            assert_eq!(compared.missing.is_empty(), fits, "{server}");
        }
    }

    #[test]
    fn the_best_server_comes_first() {
        // From the best to the worst; each row is worse than the one before it for one reason.
        let servers = [
            "E-2146G-64Gb-2x1920SSD",
            "E-2146G-64Gb-2x1920SSD-100HDD",
            "E-2146G-64Gb-1920SSD-1921SSD",
            "E-2146G-64Gb-2x1920SSD-10NVMe",
            "E-2146G-65Gb-2x1920SSD",
            "E-2146G-64Gb-2x1920SSD+X710",
            "2xE-2146G-64Gb-2x1920SSD",
            "E-2146G-64Gb-1920SSD",
            "E-2146G-64Gb-1920SSD-960SSD-960SSD",
            "E-2146G-8Gb-2x1920SSD",
            "E-2146G-8Gb-1920SSD",
            "E5-8Gb-1920SSD",
            "E5-8Gb",
            "Dell R640",
        ];
        let ranks: Vec<Rank> = servers.iter().map(|s| compare(&usual(), &Hardware::parse(s)).rank).collect();
        for (at, pair) in ranks.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{} before {}: {pair:?}", servers[at], servers[at + 1]);
        }
    }

    #[test]
    fn the_table_says_what_to_do_and_never_to_remove_anything() {
        let order = wanted(json!({
            "cpu": {"model": "E5-2620 v4", "count": 2}, "memoryGiB": 128,
            "disks": [{"type": "SSD", "sizeGB": 1920, "count": 3}, {"type": "HDD", "sizeGB": 4000}], "pci": ["X710", "X520"],
        }));
        let compared = compare(&order, &Hardware::parse("1xE5-2620 v4-64Gb-1920SSD-480SSD-4000HDD+Intel X520"));
        let actions: Vec<Option<&str>> = compared.lines.iter().map(|line| line.action.as_deref()).collect();
        let swap = "swap 1x 480SSD for 1x 1920SSD, add 1x 1920SSD";
        assert_eq!(actions, [Some("add 1x E5-2620 v4"), Some("add 64 GiB"), None, Some(swap), Some("add 1x X710"), None]);
        assert_eq!(compared.missing, ["1x E5-2620 v4", "64 GiB of memory", "2x 1920SSD", "1x X710"]);
        let table = compared.table();
        assert!(table.starts_with("part       wanted         present                do\n"), "{table}");
        assert!(
            table.contains("disk       3x 1920SSD     1x 1920SSD, 1x 480SSD  swap 1x 480SSD for 1x 1920SSD, add 1x 1920SSD"),
            "{table}"
        );
        assert!(!table.contains("remove") && compared.swaps);
        // What is swapped is named as present, on its line alone; what nothing is taken out for is added.
        let order = wanted(json!({"disks": [{"type": "NVMe", "sizeGB": 960}, {"type": "SSD", "sizeGB": 1920}]}));
        let rows = [
            ("E5-16Gb-480SSD", ["1x 480SSD", "–"], ["swap 1x 480SSD for 1x 960NVMe", "add 1x 1920SSD"], true),
            ("E5-16Gb", ["–", "–"], ["add 1x 960NVMe", "add 1x 1920SSD"], false),
        ];
        for (server, present, actions, swaps) in rows {
            let compared = compare(&order, &Hardware::parse(server));
            assert_eq!(compared.lines.iter().map(|l| l.present.as_str()).collect::<Vec<_>>(), present, "{server}");
            assert_eq!(compared.lines.iter().filter_map(|l| l.action.as_deref()).collect::<Vec<_>>(), actions, "{server}");
            assert_eq!(compared.swaps, swaps, "{server}");
        }
    }

    #[test]
    fn what_is_beyond_and_what_is_missing_is_counted_disk_by_disk() {
        let surplus = Surplus { processors: 1, cards: 1, memory_gib: 64, nvme_gb: 1920, ssd_gb: 7680, other_gb: 8000, disks: 7 };
        let more = Hardware::parse("2xE-2146G-128Gb-3x3840SSD-4x2000HDD-2x960NVMe+X710");
        assert_eq!(compare(&usual(), &more).rank, Rank::Fits(surplus));
        let order = wanted(json!({"disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}, {"type": "HDD", "sizeGB": 4000, "count": 3}]}));
        let surplus = Surplus { processors: 1, memory_gib: 64, ..Surplus::default() };
        let less = compare(&order, &Hardware::parse("E5-64Gb")).rank;
        assert_eq!(less, Rank::Differs { parts: 5, memory_gib: 0, disks_gb: 15_840, surplus });
    }

    #[test]
    fn a_disk_of_the_same_type_is_swapped_before_one_of_another_type() {
        let order = wanted(json!({"disks": [{"type": "SSD", "sizeGB": 1920}]}));
        let compared = compare(&order, &Hardware::parse("E5-64Gb-480HDD-480SSD-500NVMe"));
        assert_eq!(compared.lines[0].action.as_deref(), Some("swap 1x 480SSD for 1x 1920SSD"));
    }

    #[test]
    fn another_processor_is_swapped() {
        let order = wanted(json!({"cpu": {"model": "E5-2620 v4", "count": 2}, "memoryGiB": 128}));
        let other = compare(&order, &Hardware::parse("1xE3-64Gb"));
        assert!(other.swaps);
        assert_eq!(other.lines[0].action.as_deref(), Some("swap 1x E3 for 2x E5-2620 v4"));
        // A second one of the same is added, and for none nothing comes out.
        assert!(!compare(&order, &Hardware::parse("1xE5-2620 v4-64Gb")).swaps);
        let none = wanted(json!({"cpu": {"model": "E5-2620 v4", "count": 0}}));
        assert!(!compare(&none, &Hardware::parse("1xE3-64Gb")).swaps);
        assert_eq!(compare(&order, &Hardware::default()).rank, Rank::Unknown);
    }

    #[test]
    fn names_of_parts_row_by_row() {
        for (wanted, shown, same) in [
            ("E-2146G", "Intel(R) Xeon(R) E-2146G CPU @ 3.50GHz", true),
            ("xeon e-2146g", "Intel Xeon E-2146G", true),
            ("E5-2620", "E5-2620 v4", false),
            ("E5-2620 v4", "E5-2620 v4", true),
            ("E5-2620 v4", "E5-2620", false),
            ("E5-262", "E5-2620", false),
            ("E5-2620", "E5-2620 vPro", true),
            ("E5-2620", "E5-2620 v", true),
            ("X710", "Intel X710-DA2", false),
            ("", "X710", false),
        ] {
            assert_eq!(names(wanted, shown), same, "{wanted} {shown}");
        }
    }

    proptest! {
        /// Whatever is done as the table says fits afterwards, and adding parts never makes a fitting server unfit.
        #[test]
        fn more_is_never_less(
            disks in proptest::collection::vec(("(SSD|HDD)", 1i32..5, 1i32..4), 0..4),
            there in proptest::collection::vec(("(SSD|HDD)", 1u32..5, 1u32..4), 0..4),
            more in ("(SSD|HDD|NVMe)", 1u32..5, 1u32..4),
        ) {
            let rows: Vec<Value> = disks.iter().map(|(t, gb, n)| json!({"type": t, "sizeGB": gb, "count": n})).collect();
            let order = wanted(json!({"disks": rows}));
            let mut hardware = Hardware::parse("E5-16Gb");
            for (kind, gb, n) in &there {
                hardware.add_disks(Disk::new(kind, *gb), *n);
            }
            let before = compare(&order, &hardware);
            hardware.add_disks(Disk::new(&more.0, more.1), more.2);
            let after = compare(&order, &hardware);
            prop_assert!(!before.fits() || after.fits());
            let parts = |c: &Comparison| match c.rank { Rank::Differs { parts, .. } => parts, Rank::Fits(_) | Rank::Unknown => 0 };
            prop_assert!(parts(&after) <= parts(&before));
            for (kind, gb, n) in &disks {
                hardware.add_disks(Disk::new(kind, u32::try_from(*gb).unwrap()), u32::try_from(*n).unwrap());
            }
            prop_assert!(compare(&order, &hardware).fits());
        }
    }
}
