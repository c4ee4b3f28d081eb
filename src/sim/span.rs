//! Lengths of time as people write them in a configuration: `300ms`, `2s`, `1h30m`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time that is written as `300ms`, `2s`, `5m`, `1h`, or several of these in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span(pub(crate) Duration);

/// Why a text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpanError {
    /// There is a number without a unit, a unit without a number, or nothing at all.
    #[error("`{0}` is no duration; write for example 300ms, 2s, 5m, 1h or 1h30m")]
    Shape(String),
    /// It is longer than can be counted.
    #[error("`{0}` is too long for a duration")]
    TooLong(String),
}

impl Span {
    /// Reads one length of time.
    pub(crate) fn parse(text: &str) -> Result<Self, SpanError> {
        let shape = || SpanError::Shape(text.to_owned());
        let too_long = || SpanError::TooLong(text.to_owned());
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(shape)?;
            if digits == 0 {
                return Err(shape());
            }
            let number: u64 = rest[..digits].parse().map_err(|_| too_long())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let millis: u64 = match &rest[..unit] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(shape()),
            };
            rest = &rest[unit..];
            total = number.checked_mul(millis).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        }
        if text.trim().is_empty() {
            return Err(shape());
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 300ms, 2s, 5m or 1h")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Span, E> {
                Span::parse(&number.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("300ms", 300), ("2s", 2_000), ("5m", 300_000), ("1h", 3_600_000), ("1h30m", 5_400_000), ("0", 0), ("0s", 0), (" 7s ", 7_000)]
        {
            assert_eq!(Span::parse(text).unwrap().0, Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "5", "s", "-1s", "1x", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }
}
