//! One metric and its series: labels are counted when the program is compiled, series when it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::controller::panels::lock;

/// The label value that everything beyond a bound is counted under.
pub const OTHER: &str = "other";
/// Series of one metric at most; one of a histogram is a dozen for Prometheus.
pub const MOST: usize = 4000;
/// The longest label value, in characters: namespace and name of an object fit.
const LONGEST: usize = 320;

/// Seconds in which requests and reconciles are sorted.
const QUICK: [f64; 11] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Seconds in which steps and orders are sorted: from one second to a week.
const SLOW: [f64; 13] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0, 604_800.0];

/// What one series shows of several gauges: of those beyond the bound, or of names that were cut to the same one.
#[derive(Clone, Copy, Debug)]
pub enum Together {
    /// The sum: of numbers of things.
    Sum,
    /// The greatest: of ages and times, and of what is 1 when it is bad.
    Greatest,
    /// The least: of what is 0 when it is bad.
    Least,
}

impl Together {
    fn of(self, one: i64, another: i64) -> i64 {
        match self {
            Self::Sum => one.saturating_add(another),
            Self::Greatest => one.max(another),
            Self::Least => one.min(another),
        }
    }
}

/// What a series may be.
pub trait Kind: EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static {
    /// The word in the exposition.
    const WORD: &'static str;
}

impl Kind for Counter {
    const WORD: &'static str = "counter";
}

impl Kind for Gauge {
    const WORD: &'static str = "gauge";
}

impl Kind for Histogram {
    const WORD: &'static str = "histogram";
}

/// A histogram of what takes milliseconds to minutes.
#[must_use]
pub fn quick() -> Histogram {
    Histogram::new(QUICK)
}

/// A histogram of what takes seconds to days.
#[must_use]
pub fn slow() -> Histogram {
    Histogram::new(SLOW)
}

/// A metric with N labels.
pub struct Series<const N: usize, M> {
    names: [&'static str; N],
    make: fn() -> M,
    all: Arc<Mutex<BTreeMap<[String; N], M>>>,
}

impl<const N: usize, M> Clone for Series<N, M> {
    fn clone(&self) -> Self {
        Self { names: self.names, make: self.make, all: self.all.clone() }
    }
}

impl<const N: usize, M> fmt::Debug for Series<N, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Series{:?}", self.names)
    }
}

impl<const N: usize, M: Kind> Series<N, M> {
    /// One without series. A metric without labels has its one series from the start.
    pub fn new(names: [&'static str; N], make: fn() -> M) -> Self {
        let series = Self { names, make, all: Arc::default() };
        if N == 0 {
            series.of(std::array::from_fn(|_| ""));
        }
        series
    }

    /// The series with these label values. When there are too many, it is the one in which all values are [`OTHER`].
    pub fn of(&self, values: [&str; N]) -> M {
        let mut all = lock(&self.all);
        let values = values.map(cut);
        let full = all.len() >= MOST && !all.contains_key(&values);
        let values = if full { std::array::from_fn(|_| OTHER.to_owned()) } else { values };
        all.entry(values).or_insert_with(self.make).clone()
    }

    /// Drops the series whose labels are not wanted any more.
    pub fn retain(&self, wanted: impl Fn(&[String; N]) -> bool) {
        lock(&self.all).retain(|values, _| wanted(values));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.all).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<const N: usize> Series<N, Gauge> {
    /// Shows these values and no others. What is beyond the bound is shown together, in the series in which all values are [`OTHER`].
    pub fn replace(&self, new: BTreeMap<[String; N], i64>, together: Together) {
        let mut shown: BTreeMap<[String; N], i64> = BTreeMap::new();
        for (values, value) in new {
            let values = values.map(|v| cut(&v));
            let full = shown.len() >= MOST && !shown.contains_key(&values);
            let values = if full { std::array::from_fn(|_| OTHER.to_owned()) } else { values };
            shown.entry(values).and_modify(|there| *there = together.of(*there, value)).or_insert(value);
        }
        let gauge = |value| {
            let gauge = Gauge::default();
            gauge.set(value);
            gauge
        };
        *lock(&self.all) = shown.into_iter().map(|(values, value)| (values, gauge(value))).collect();
    }
}

fn cut(value: &str) -> String {
    value.chars().take(LONGEST).collect()
}

/// The labels of one series on their way out.
struct Labels<'a> {
    names: &'a [&'static str],
    values: &'a [String],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.values) {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl<const N: usize, M: Kind> EncodeMetric for Series<N, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (values, metric) in lock(&self.all).iter() {
            if N == 0 {
                return metric.encode(encoder);
            }
            let labels = Labels { names: &self.names, values };
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_together() {
        let series = Series::<2, Counter>::new(["a", "b"], Counter::default);
        for number in 0..MOST + 50 {
            series.of([&number.to_string(), "x"]).inc();
        }
        assert_eq!(series.len(), MOST + 1);
        assert_eq!(series.of([OTHER, OTHER]).get(), 50);
        // What was known before is still counted by itself.
        series.of(["7", "x"]).inc();
        assert_eq!(series.of(["7", "x"]).get(), 2);
        series.retain(|[a, _]| a == "7");
        assert_eq!(series.len(), 1);
        assert_eq!(series.of([&"y".repeat(1000), ""]).get(), 0);
        series.retain(|[a, _]| a.len() <= LONGEST);
        assert_eq!(series.len(), 2);
    }

    #[test]
    fn a_gauge_shows_what_there_is_and_nothing_else() {
        let series = Series::<1, Gauge>::new(["a"], Gauge::default);
        series.replace([(["x".to_owned()], 1), (["y".to_owned()], 2)].into(), Together::Sum);
        series.replace([(["y".to_owned()], 3)].into(), Together::Sum);
        assert_eq!((series.len(), series.of(["y"]).get()), (1, 3));
    }

    #[test]
    fn gauges_beyond_the_bound_are_shown_together_and_not_left_out() {
        let series = Series::<2, Gauge>::new(["a", "b"], Gauge::default);
        // In the order of their names; the last fifty are one too many each.
        let many: BTreeMap<[String; 2], i64> =
            (0..MOST + 50).map(|number| ([format!("{number:05}"), "x".to_owned()], i64::try_from(number % 100).unwrap())).collect();
        for (together, wanted) in [(Together::Sum, (0..50).sum::<i64>()), (Together::Greatest, 49), (Together::Least, 0)] {
            series.replace(many.clone(), together);
            assert_eq!((series.len(), series.of([OTHER, OTHER]).get()), (MOST + 1, wanted), "{together:?}");
            assert_eq!(series.of(["03999", "x"]).get(), 99, "what is within the bound is shown by itself");
        }
        series.replace(many.into_iter().take(MOST).collect(), Together::Sum);
        assert!(series.len() == MOST && !lock(&series.all).keys().any(|[a, _]| a == OTHER), "nothing is beyond it");
        // Names that differ where nobody sees it.
        let long = |end: &str| [format!("{}{end}", "y".repeat(LONGEST)), String::new()];
        series.replace([(long("a"), 3), (long("b"), 4)].into(), Together::Sum);
        assert_eq!((series.len(), series.of([&long("")[0], ""]).get()), (1, 7));
    }
}
