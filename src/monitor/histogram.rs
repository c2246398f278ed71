//! A histogram with logarithmic classes, each divided linearly: 6 % relative error over the whole range of 64 bits.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

const SUB_BITS: u32 = 4;
const SUBS: usize = 1 << SUB_BITS;
const CLASSES: usize = (64 - SUB_BITS as usize + 1) * SUBS;

/// Counts values, most often nanoseconds. Recording is one relaxed addition to its class and one to the sum.
#[derive(Debug)]
pub struct Histogram {
    classes: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn class_of(value: u64) -> usize {
    if value < SUBS as u64 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BITS;
    ((shift as usize + 1) << SUB_BITS) + ((value >> shift) as usize - SUBS)
}

/// The largest value of a class.
fn top_of(class: usize) -> u64 {
    if class < SUBS {
        return class as u64;
    }
    let shift = (class >> SUB_BITS) - 1;
    let next = ((class & (SUBS - 1)) as u128 + SUBS as u128 + 1) << shift;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Histogram { classes: (0..CLASSES).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts `value` once. Any thread may.
    #[inline]
    pub fn record(&self, value: u64) {
        self.classes[class_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts `value` `times` times, for the one thread that writes now: cheaper, since it needs no locked addition.
    #[inline]
    pub(crate) fn record_owned(&self, value: u64, times: u64) {
        let class = &self.classes[class_of(value)];
        class.store(class.load(Ordering::Relaxed).wrapping_add(times), Ordering::Relaxed);
        let sum = self.sum.load(Ordering::Relaxed).wrapping_add(value.wrapping_mul(times));
        self.sum.store(sum, Ordering::Relaxed);
    }

    /// Adds what it holds to `total`.
    pub fn add_to(&self, total: &mut Distribution) {
        total.sum = total.sum.saturating_add(self.sum.load(Ordering::Relaxed));
        if total.classes.is_empty() {
            total.classes = vec![0; CLASSES];
        }
        for (sum, class) in total.classes.iter_mut().zip(&self.classes) {
            *sum += class.load(Ordering::Relaxed);
        }
        total.count = total.classes.iter().sum();
    }
}

/// What histograms held at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    classes: Vec<u64>,
    count: u64,
    sum: u64,
}

impl Distribution {
    /// How many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Their mean; zero if there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The value that a share `q` (0 to 1) of all values do not exceed, rounded up to the top of its class; zero if there
    /// are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return top_of(class);
            }
        }
        0
    }

    /// The largest value, rounded up to the top of its class; zero if there are none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.classes.iter().rposition(|&count| count > 0).map_or(0, top_of)
    }

    /// For each of `bounds`, in ascending order: the largest value of its class, and how many values do not exceed that.
    pub fn up_to(&self, bounds: &[u64]) -> impl Iterator<Item = (u64, u64)> {
        let (mut class, mut seen) = (0, 0);
        bounds.iter().map(move |&bound| {
            let end = class_of(bound) + 1;
            seen += self.classes.get(class..end.min(self.classes.len())).unwrap_or_default().iter().sum::<u64>();
            class = class.max(end);
            (top_of(end - 1), seen)
        })
    }

    /// What was recorded after `earlier`, an earlier state of the same histograms.
    #[must_use]
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let before = |class: usize| earlier.classes.get(class).copied().unwrap_or(0);
        let classes: Vec<u64> =
            self.classes.iter().enumerate().map(|(class, count)| count.saturating_sub(before(class))).collect();
        let (count, sum) = (classes.iter().sum(), self.sum.saturating_sub(earlier.sum));
        Distribution { classes, count, sum }
    }

    /// The classes that hold something, as (largest value of the class, count).
    pub fn classes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.classes.iter().enumerate().filter(|(_, count)| **count > 0).map(|(class, count)| (top_of(class), *count))
    }
}

#[derive(Serialize)]
struct Summary {
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Serialize for Distribution {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Summary {
            count: self.count,
            mean: self.mean(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max(),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_class_within_six_percent() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) + 1, (1_u64 << shift) - 1, (1_u64 << shift) / 3 * 4] {
                let class = class_of(value);
                assert!(class < CLASSES, "{value}");
                let top = top_of(class);
                assert!(top >= value && (top - value) as f64 <= value as f64 / 15.9, "{value} under {top}");
                assert!(class == 0 || top_of(class - 1) < value, "{value} in the first class that holds it");
            }
        }
        assert_eq!(top_of(class_of(u64::MAX)), u64::MAX);
    }

    fn seen(histogram: &Histogram) -> Distribution {
        let mut seen = Distribution::default();
        histogram.add_to(&mut seen);
        seen
    }

    #[test]
    fn what_was_recorded_since() {
        let histogram = Histogram::new();
        (1..=100).for_each(|value| histogram.record(value));
        let before = seen(&histogram);
        (0..7).for_each(|_| histogram.record(1000));
        let since = seen(&histogram).since(&before);
        assert_eq!((since.count(), since.sum(), since.quantile(0.01)), (7, 7000, 1023));
        assert_eq!(before.since(&Distribution::default()), before);
    }

    #[test]
    fn buckets_are_cumulative_and_exact_at_their_tops() {
        let histogram = Histogram::new();
        [1, 2, 31, 32, 33, 34, 5000].iter().for_each(|&value| histogram.record(value));
        let buckets: Vec<_> = seen(&histogram).up_to(&[1, 4, 32, 64, u64::MAX]).collect();
        assert_eq!(buckets, [(1, 1), (4, 2), (33, 5), (67, 6), (u64::MAX, 7)]);
        assert_eq!(Distribution::default().up_to(&[8]).collect::<Vec<_>>(), [(8, 0)]);
    }

    #[test]
    fn quantiles_and_mean() {
        let histogram = Histogram::new();
        (1..=100).for_each(|value| histogram.record(value));
        let mut seen = Distribution::default();
        histogram.add_to(&mut seen);
        assert_eq!((seen.count(), seen.sum()), (100, 5050));
        assert!((50..=53).contains(&seen.quantile(0.5)) && (99..=103).contains(&seen.quantile(0.99)));
        assert_eq!(seen.quantile(0.0), 1);
        assert_eq!(Distribution::default().quantile(0.5), 0);
        assert_eq!(Distribution::default().max(), 0);
    }
}
