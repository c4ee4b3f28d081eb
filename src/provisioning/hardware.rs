//! What a server is made of, as one model, and the panels' grammar for it (ispsystem-api.md 3.3).

use std::collections::BTreeMap;
use std::fmt;

/// The longest text that is read, in bytes; what a panel shows is hostile input.
const LONGEST: usize = 2048;
/// The most of one part that is believed.
const MOST: u32 = 9999;

/// Processors of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Model as the panel writes it; may contain dashes and blanks.
    pub model: String,
    /// How many.
    pub count: u32,
}

/// One kind of disk. The order (type, then size) is that of texts and tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    /// `SSD`, `HDD`, `NVMe`, ...; other words in capitals.
    pub kind: String,
    /// Size in GB (10⁹ bytes).
    pub gb: u32,
}

impl Disk {
    /// A disk whose type is spelled as all are.
    #[must_use]
    pub fn new(kind: &str, gb: u32) -> Self {
        Self { kind: kind_of(kind), gb }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.gb, self.kind)
    }
}

/// What a server is made of, as far as it is known. Two servers with the same disks in another order are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Processors.
    pub processors: Option<Processors>,
    /// Memory in GiB.
    pub memory_gib: Option<u32>,
    /// The RAID tag: what stands between memory and disks.
    pub raid: Option<String>,
    /// How many disks of each kind.
    pub disks: BTreeMap<Disk, u32>,
    /// PCI cards, sorted.
    pub cards: Vec<String>,
    /// Speed of the network port in Mbit/s, where a text tells.
    pub port_mbit: Option<u32>,
    /// Texts that say nothing to the operator; kept for people, sorted.
    pub unknown: Vec<String>,
}

impl Hardware {
    /// Whether nothing is known of it: it fits nobody, and is the least similar to everything.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.processors.is_none() && self.memory_gib.is_none() && self.disks.is_empty() && self.cards.is_empty()
    }

    /// Adds disks of one kind.
    pub fn add_disks(&mut self, disk: Disk, count: u32) {
        let had = self.disks.entry(disk).or_default();
        *had = had.saturating_add(count).min(MOST);
    }

    /// Adds a card.
    pub fn add_card(&mut self, name: &str) {
        insert(&mut self.cards, name);
    }

    /// Adds a text that says nothing to the operator.
    pub fn add_unknown(&mut self, text: &str) {
        insert(&mut self.unknown, text);
    }

    /// Reads the panels' grammar: `[<n>x]<cpu>-<ram>Gb[-<raid tag>]-[<n>x]<size><SSD|HDD|NVMe|...>...` (ispsystem-api.md 3.3,
    /// confirmed), and what [`Display`](fmt::Display) adds to it: `+<card>`, `+raid:<tag>`, `+@<Mbit/s>M` and `+?<unknown text>`.
    /// Names of processors contain dashes themselves, so that the memory is looked for first. Never fails: what is not understood
    /// is kept as it is.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = clean(text);
        let mut items = text.split('+');
        let mut read = Self::default();
        read.read_head(items.next().unwrap_or_default());
        for item in items.map(str::trim).filter(|item| !item.is_empty()) {
            read.read_item(item);
        }
        read
    }

    fn read_head(&mut self, head: &str) {
        let segments: Vec<&str> = head.split('-').map(str::trim).filter(|s| !s.is_empty()).collect();
        let memory = segments.iter().position(|s| memory(s).is_some());
        let (cpu, rest) = match memory {
            Some(at) => {
                self.memory_gib = segments.get(at).and_then(|s| self::memory(s));
                (&segments[..at], segments.get(at + 1..).unwrap_or_default())
            }
            None => segments.split_at(segments.iter().position(|s| disk(s).is_some()).unwrap_or(segments.len())),
        };
        self.read_processors(&cpu.join("-"));
        for (at, segment) in rest.iter().enumerate() {
            if let Some((disk, count)) = disk(segment) {
                self.add_disks(disk, count);
            } else if let (Some(speed), None) = (port(segment), self.port_mbit) {
                self.port_mbit = Some(speed);
            } else if at == 0 && memory.is_some() && is_tag(segment) {
                self.raid = Some((*segment).to_owned());
            } else {
                self.add_unknown(segment);
            }
        }
    }

    /// Without the memory behind it a text is a processor only where it begins with a count.
    fn read_processors(&mut self, text: &str) {
        let (count, model) = counted(text);
        match count {
            _ if text.is_empty() => {}
            None if self.memory_gib.is_none() => self.add_unknown(text),
            Some(_) | None => self.processors = Some(Processors { model: model.to_owned(), count: count.unwrap_or(1) }),
        }
    }

    fn read_item(&mut self, item: &str) {
        let after = |prefix: &str| item.strip_prefix(prefix).map(str::trim).filter(|rest| !rest.is_empty());
        if let Some(unknown) = after("?") {
            self.add_unknown(unknown);
        } else if let (Some(raid), None) = (after("raid:"), &self.raid) {
            self.raid = Some(raid.to_owned());
        } else if let (Some(speed), None) = (after("@").and_then(mbit), self.port_mbit) {
            self.port_mbit = Some(speed);
        } else if ["?", "raid:", "@"].iter().any(|prefix| item.starts_with(prefix)) {
            self.add_unknown(item);
        } else {
            self.add_card(item);
        }
    }
}

/// One line in the panels' grammar; what that has no place for stands behind it.
impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_place = self.raid.as_ref().filter(|tag| self.memory_gib.is_some() && is_tag(tag));
        let mut head = Vec::new();
        head.extend(self.processors.as_ref().map(|p| format!("{}x{}", p.count, p.model)));
        head.extend(self.memory_gib.map(|gib| format!("{gib}Gb")));
        head.extend(in_place.cloned());
        head.extend(self.disks.iter().map(|(disk, count)| format!("{count}x{disk}")));
        f.write_str(&head.join("-"))?;
        for card in &self.cards {
            write!(f, "+{card}")?;
        }
        if let (Some(raid), None) = (&self.raid, in_place) {
            write!(f, "+raid:{raid}")?;
        }
        if let Some(speed) = self.port_mbit {
            write!(f, "+@{speed}M")?;
        }
        self.unknown.iter().try_for_each(|text| write!(f, "+?{text}"))
    }
}

fn insert(sorted: &mut Vec<String>, text: &str) {
    let at = sorted.partition_point(|other| other.as_str() <= text);
    sorted.insert(at, text.to_owned());
}

/// One line without control characters and with single blanks, of a length that can be handled.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let plain: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `<n>x<rest>`.
fn counted(text: &str) -> (Option<u32>, &str) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = text[digits..].strip_prefix('x').map(str::trim).filter(|rest| !rest.is_empty());
    match (text[..digits].parse::<u32>(), rest) {
        (Ok(count), Some(rest)) if (1..=MOST).contains(&count) => (Some(count), rest),
        _ => (None, text),
    }
}

/// `<n>Gb`: memory in GiB.
fn memory(text: &str) -> Option<u32> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = ["gb", "gib"].iter().any(|unit| text[digits.len()..].eq_ignore_ascii_case(unit));
    let gib: u32 = digits.trim_end().parse().ok()?;
    (unit && (1..=1_048_576).contains(&gib)).then_some(gib)
}

/// `[<n>x]<size>[GB|TB]<type>`. A type has three letters at least: processors end like `2146G` and `8259CL`.
#[must_use]
pub fn disk(text: &str) -> Option<(Disk, u32)> {
    let (count, text) = counted(text);
    let kind = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let size = &text[..text.len() - kind.len()];
    let unit = |unit: &str| kind.get(..2).filter(|head| head.eq_ignore_ascii_case(unit)).map(|_| kind[2..].trim_start());
    let (kind, factor) = unit("TB").map(|rest| (rest, 1000.0)).or_else(|| unit("GB").map(|rest| (rest, 1.0))).unwrap_or((kind.trim(), 1.0));
    let begins = |unit: &str| kind.get(..2).is_some_and(|head| head.eq_ignore_ascii_case(unit));
    let unit = ["GHz", "MHz", "GiB", "TiB", "MiB", "Mbps", "Mbit"].iter().any(|unit| unit.eq_ignore_ascii_case(kind));
    let word = (3..=16).contains(&kind.len()) && kind.chars().all(|c| c.is_ascii_alphabetic()) && !unit;
    if !word || begins("GB") || begins("TB") {
        return None;
    }
    Some((Disk::new(kind, gigabytes(size, factor)?), count.unwrap_or(1)))
}

/// A size in GB, from a number and what its unit is worth.
#[must_use]
pub fn gigabytes(number: &str, factor: f64) -> Option<u32> {
    let gb = (number.parse::<f64>().ok()? * factor).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie within a u32")]
    (1.0..=100_000_000.0).contains(&gb).then_some(gb as u32)
}

/// A speed such as `10Gbps`, `1 Gbit/s` or `1000Mbps`, in Mbit/s.
fn port(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '/');
    let factor = match lower[number.len()..].trim() {
        "gbps" | "gbit" | "gbit/s" => 1000,
        "mbps" | "mbit" | "mbit/s" => 1,
        _ => return None,
    };
    number.trim().parse::<u32>().ok().filter(|n| (1..=1_000_000).contains(n)).map(|n| n * factor)
}

/// `<n>M`.
fn mbit(text: &str) -> Option<u32> {
    text.strip_suffix('M')?.parse().ok().filter(|n| *n > 0)
}

/// Whether a text can stand where the RAID tag does without being taken for something else.
fn is_tag(text: &str) -> bool {
    !text.is_empty() && !text.contains(['-', '+']) && disk(text).is_none() && port(text).is_none() && memory(text).is_none()
}

/// The one spelling of a disk's type.
fn kind_of(word: &str) -> String {
    let known = ["NVMe", "SSD", "HDD", "SAS", "SATA"].into_iter().find(|known| known.eq_ignore_ascii_case(word));
    known.map_or_else(|| word.to_ascii_uppercase(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn disks(rows: &[(&str, u32, u32)]) -> BTreeMap<Disk, u32> {
        rows.iter().map(|(kind, gb, count)| (Disk::new(kind, *gb), *count)).collect()
    }

    #[test]
    fn the_grammar_of_the_panels_row_by_row() {
        let rows = [
            ("E-2146G-64Gb-1920SSD-3840SSD", Some(("E-2146G", 1)), Some(64), None, disks(&[("SSD", 1920, 1), ("SSD", 3840, 1)])),
            ("2xE5-2620-128Gb-HWRAID-4x2000HDD", Some(("E5-2620", 2)), Some(128), Some("HWRAID"), disks(&[("HDD", 2000, 4)])),
            ("Xeon E3-1230 v5-16GB-2x480SSD-480ssd", Some(("Xeon E3-1230 v5", 1)), Some(16), None, disks(&[("SSD", 480, 3)])),
            ("EPYC 7502P-256Gb-2x1.92TBNVMe", Some(("EPYC 7502P", 1)), Some(256), None, disks(&[("NVMe", 1920, 2)])),
            ("32Gb-1000HDD", None, Some(32), None, disks(&[("HDD", 1000, 1)])),
            ("2xE5-2620", Some(("E5-2620", 2)), None, None, disks(&[])),
            ("2x480SSD", None, None, None, disks(&[("SSD", 480, 2)])),
            ("", None, None, None, disks(&[])),
        ];
        for (text, processors, memory_gib, raid, disks) in rows {
            let read = Hardware::parse(text);
            let processors = processors.map(|(model, count)| Processors { model: model.into(), count });
            let expected = Hardware { processors, memory_gib, raid: raid.map(str::to_owned), disks, ..Hardware::default() };
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_survives() {
        for (text, shown) in [
            ("Dell R640 (new)", "+?Dell R640 (new)"),
            ("E5-2620-64Gb-480SSD-whatever", "1xE5-2620-64Gb-1x480SSD+?whatever"),
            ("E5-64Gb-480SSD-10Gbps", "1xE5-64Gb-1x480SSD+@10000M"),
            ("E5-64Gb-480SSD-100Mbit/s", "1xE5-64Gb-1x480SSD+@100M"),
            ("E5-64Gb-480SSD-1000Mbps", "1xE5-64Gb-1x480SSD+@1000M"),
            ("E5-64Gb-100 mbit-480SSD", "1xE5-64Gb-1x480SSD+@100M"),
            ("E5-64Gb-100Mbps-10Mbps", "1xE5-64Gb+@100M+?10Mbps"),
            ("E5-64Gb+@0M", "1xE5-64Gb+?@0M"),
            ("1xE5-64Gb+X710-DA2+H730", "1xE5-64Gb+H730+X710-DA2"),
            ("E5-64Gb-32Gb", "1xE5-64Gb+?32Gb"),
            ("E5-64Gb-0SSD", "1xE5-64Gb-0SSD"),
            ("E5\u{0}\n-64Gb", "1xE5-64Gb"),
            ("+raid:RAID 10+@x", "+raid:RAID 10+?@x"),
        ] {
            let read = Hardware::parse(text);
            assert_eq!(read.to_string(), shown, "{text}");
            assert_eq!(Hardware::parse(shown), read, "{text}");
        }
        assert!(Hardware::parse("Dell R640").is_unknown());
        assert!(!Hardware::parse("+X710").is_unknown());
    }

    #[test]
    fn absurd_numbers_are_no_parts() {
        for text in ["99999999999Gb", "99999999999x480SSD", "10000x480SSD", "0x480SSD", "99999999999SSD", "1e9SSD", "0Gb", "5GBTBSSD"] {
            assert!(Hardware::parse(text).is_unknown(), "{text}");
        }
        let many = vec!["9999x480SSD"; 100].join("-");
        assert_eq!(Hardware::parse(&many).disks, disks(&[("SSD", 480, 9999)]));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_two_characters() {
        for (plain, kept) in [(LONGEST - 1, LONGEST - 1), (LONGEST - 2, LONGEST)] {
            let text = format!("{}é", "a".repeat(plain));
            assert_eq!(clean(&text).len(), kept, "{plain}");
        }
    }

    fn hardware() -> impl Strategy<Value = Hardware> {
        let disk = ("(SSD|HDD|NVMe|SAS|SATA|QLC)", 1u32..100_000).prop_map(|(kind, gb)| Disk::new(&kind, gb));
        (
            proptest::option::of(("(Intel )?[A-Z][a-z]{0,3}[0-9](-[0-9]{4}[A-Z]?)?( v[2-9])?", 1u32..9)),
            proptest::option::of(1u32..8192),
            proptest::option::of("(HW|SW)RAID[0-9]{0,2}"),
            btree_map(disk, 1u32..30, 0..4),
            vec("[A-Z]{1,3}[0-9]{1,4}(-DA[24])?", 0..3),
            proptest::option::of(1u32..400_000),
            vec("[a-z]{1,6}( [a-z0-9]{1,6})?", 0..3),
        )
            .prop_map(|(cpu, memory_gib, raid, disks, mut cards, port_mbit, mut unknown)| {
                cards.sort();
                unknown.sort();
                let processors = cpu.map(|(model, count)| Processors { model, count });
                Hardware { processors, memory_gib, raid, disks, cards, port_mbit, unknown }
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(hardware in hardware()) {
            prop_assert_eq!(Hardware::parse(&hardware.to_string()), hardware);
        }

        #[test]
        fn the_order_of_disks_does_not_matter(rows in vec(("(SSD|HDD|NVMe)", 1u32..5000, 1u32..9), 1..6)) {
            let text = |rows: &[(String, u32, u32)]| {
                let disks: Vec<String> = rows.iter().map(|(kind, gb, n)| format!("{n}x{gb}{kind}")).collect();
                format!("E-2146G-64Gb-{}", disks.join("-"))
            };
            let mut turned = rows.clone();
            turned.reverse();
            prop_assert_eq!(Hardware::parse(&text(&rows)), Hardware::parse(&text(&turned)));
        }

        #[test]
        fn no_text_breaks_it_and_reading_again_changes_nothing(
            text in "([0-9]{0,3}x?|-|\\+|\\?|@|Gb|GB|TB|SSD|hdd|raid:|Gbps|E5| |\\.|\\PC){0,14}",
        ) {
            let read = Hardware::parse(&text);
            prop_assert_eq!(Hardware::parse(&read.to_string()), read.clone(), "{}", read);
        }
    }
}
