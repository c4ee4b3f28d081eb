//! Reads the parts that a server's form names into the model of hardware (ispsystem-api.md 2.2).
//!
//! The panel's names of parts are free text of its owner. A disk wants a type and a size, a memory a number; what does not show
//! them is kept as unknown text, and never counts as something that was asked for.

use crate::panel::model::Parts;

use super::hardware::{Disk, Hardware, Processors, clean, disk, gigabytes};

/// Types of disks that a text is searched for, the more telling ones first: `SATA SSD` is an SSD.
const KINDS: [&str; 5] = ["NVMe", "SSD", "HDD", "SAS", "SATA"];
/// From here on a bare number of memory is taken for MiB. Wrong either way it asks a person rather than sell too little.
const MEBIBYTES_FROM: u32 = 4096;

impl Hardware {
    /// What the form shows; where it names no part at all, the list's description of the server's type (`gen_chassis_name`).
    #[must_use]
    pub fn of_server(parts: &Parts, description: &str) -> Self {
        if *parts == Parts::default() { Self::parse(description) } else { Self::of_form(parts) }
    }

    fn of_form(parts: &Parts) -> Self {
        let mut hardware = Self::default();
        hardware.take_processors(parts);
        if let Some(text) = parts.memory.as_deref().map(clean) {
            hardware.memory_gib = memory(&text);
            if hardware.memory_gib.is_none() {
                hardware.add_unknown(&text);
            }
        }
        for text in parts.disks.iter().map(|text| clean(text)) {
            match disk_text(&text) {
                Some((disk, count)) => hardware.add_disks(disk, count),
                None => hardware.add_unknown(&text),
            }
        }
        for text in parts.cards.iter().map(|text| clean(text)) {
            hardware.add_card(&text);
        }
        hardware
    }

    /// `cpu_count` tells how many; where it does not, the number of fields that name the model.
    fn take_processors(&mut self, parts: &Parts) {
        let mut models = parts.processors.iter().map(|text| clean(text));
        let Some(model) = models.next() else { return };
        let (same, others): (Vec<String>, Vec<String>) = models.partition(|other| *other == model);
        for other in &others {
            self.add_unknown(other);
        }
        let named = u32::try_from(same.len()).unwrap_or_default().saturating_add(1);
        let told = parts.processor_count.as_deref().and_then(|text| text.trim().parse::<u32>().ok()).filter(|n| (1..=64).contains(n));
        self.processors = Some(Processors { model, count: told.filter(|_| others.is_empty()).unwrap_or(named) });
    }
}

/// `64`, `64 GB`, `64Gb`, `65536 MB`.
fn memory(text: &str) -> Option<u32> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value: u32 = number.trim().parse().ok()?;
    let gib = match text[number.len()..].to_ascii_lowercase().as_str() {
        "mb" | "mib" | "m" => value / 1024,
        "" if value >= MEBIBYTES_FROM => value / 1024,
        "gb" | "gib" | "g" | "" => value,
        _ => return None,
    };
    (1..=1_048_576).contains(&gib).then_some(gib)
}

/// `1920SSD`, `SSD 1920 GB`, `Samsung PM883 1.92TB SATA SSD`.
fn disk_text(text: &str) -> Option<(Disk, u32)> {
    if let Some(read) = disk(text).filter(|(disk, _)| KINDS.contains(&disk.kind.as_str())) {
        return Some(read);
    }
    let tokens = tokens(text);
    let is = |token: &str, words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(token));
    let kind = KINDS.into_iter().find(|kind| tokens.iter().any(|token| token.eq_ignore_ascii_case(kind)))?;
    let sizes: Vec<u32> = tokens
        .windows(2)
        .filter_map(|pair| {
            let factor = if is(pair[1], &["TB", "T"]) {
                1000.0
            } else if is(pair[1], &["GB", "G"]) {
                1.0
            } else {
                return None;
            };
            gigabytes(pair[0], factor)
        })
        .collect();
    match sizes.as_slice() {
        [one] => Some((Disk::new(kind, *one), 1)),
        _ => None,
    }
}

/// Numbers and words; a number that follows letters without a blank belongs to a model's name.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '/' | '-')) {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, rest) = word.split_at(digits);
        found.extend([number, rest].into_iter().filter(|token| !token.is_empty()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(processors: &[&str], count: Option<&str>, memory: Option<&str>, disks: &[&str], cards: &[&str]) -> Parts {
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        Parts {
            processors: texts(processors),
            processor_count: count.map(str::to_owned),
            memory: memory.map(str::to_owned),
            disks: texts(disks),
            cards: texts(cards),
        }
    }

    #[test]
    fn forms_row_by_row() {
        let rows = [
            (parts(&["Intel Xeon E-2146G"], Some("1"), Some("64"), &["1920SSD"], &["X710"]), "1xIntel Xeon E-2146G-64Gb-1x1920SSD+X710"),
            (parts(&["E5-2620", "E5-2620"], None, Some("128 GB"), &[], &[]), "2xE5-2620-128Gb"),
            (parts(&["E5-2620"], Some("2"), Some("65536"), &[], &[]), "2xE5-2620-64Gb"),
            (parts(&["E5-2620", "E5-2630"], Some("2"), Some("2048 MB"), &[], &[]), "1xE5-2620-2Gb+?E5-2630"),
            (parts(&[], None, None, &["SSD 480 GB", "Samsung PM883 1.92TB SATA SSD", "SATA 2000GB"], &[]), "1x2000SATA-1x480SSD-1x1920SSD"),
            (parts(&[], None, None, &["NVMe", "PM983 960 GB", "RAID of 2 x 480 GB or 960 GB SSD"], &[]), {
                "+?NVMe+?PM983 960 GB+?RAID of 2 x 480 GB or 960 GB SSD"
            }),
            (parts(&[], Some("2"), Some("much"), &[], &[]), "+?much"),
        ];
        for (parts, shown) in rows {
            assert_eq!(Hardware::of_server(&parts, "E5-16Gb").to_string(), shown, "{parts:?}");
        }
    }

    #[test]
    fn the_description_counts_only_where_the_form_names_nothing() {
        assert_eq!(Hardware::of_server(&Parts::default(), "E5-16Gb").to_string(), "1xE5-16Gb");
        assert!(Hardware::of_server(&Parts::default(), "Dell R640").is_unknown());
    }

    proptest! {
        #[test]
        fn no_form_breaks_it(texts in proptest::collection::vec("([0-9]{1,12}|\\.|TB|GB|SSD|nvme|x| |\\PC){0,9}", 0..8)) {
            let one = texts.first().cloned();
            let parts = Parts {
                processors: texts.clone(), processor_count: one.clone(), memory: one, disks: texts.clone(), cards: texts,
            };
            let hardware = Hardware::of_server(&parts, "");
            prop_assert!(hardware.disks.keys().all(|disk| disk.gb > 0));
            let _ = hardware.to_string();
        }
    }
}
