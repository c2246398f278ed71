//! The learned cost of a batch: how long so many rows of a group take, averaged, with a high quantile beside it.
//!
//! It is written after each batch and read at each submit with a deadline, by many threads and without a lock. Row counts
//! fall into classes, exact up to 8 and within an eighth above; what was never seen is inferred from its neighbors.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CELLS: usize = 1024;
const PROBES: usize = 16;
const CLASSES: u32 = 128;
/// A new time counts for an eighth of the mean, and moves the high estimate up by a quarter or down by a 64th of the
/// difference: it settles where about one in seventeen lies above. The low estimate moves the other way round.
const MEAN_SHIFT: u32 = 3;
const UP_SHIFT: u32 = 2;
const DOWN_SHIFT: u32 = 6;

/// Of so many first times of a cell the least counts: plans are built and memory is touched for the first time.
const YOUNG: u64 = 4;
/// A time counts for no more than so many times what is known, so that a run which the system held up says little, and a
/// lasting change is still learned in a few batches.
const MOST_AT_ONCE: u64 = 2;

/// One learned time. `key` is zero while the cell is free. All `Relaxed`: the numbers of a cell are estimates, and each is
/// usable alone; one that is written while its cell changes hands is wrong once.
#[derive(Debug, Default)]
struct Cell {
    key: AtomicU64,
    group: AtomicU64,
    low: AtomicU64,
    mean: AtomicU64,
    high: AtomicU64,
    times: AtomicU64,
    /// When it was last written, in batches over all groups.
    stamp: AtomicU64,
}

/// What was learned about batches of a group with about `rows` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Learned {
    /// The group of the batches.
    pub group: u64,
    /// Rows: the most that fall into this class.
    pub rows: u32,
    /// A running time that most stay above, in nanoseconds: what a batch takes when nothing disturbs it.
    pub low_ns: u64,
    /// The exponentially averaged running time, in nanoseconds.
    pub mean_ns: u64,
    /// A running time that about 94 % stay under, in nanoseconds.
    pub high_ns: u64,
    /// Batches seen.
    pub batches: u64,
}

/// The learned costs.
#[derive(Debug)]
pub struct CostModel {
    cells: Box<[Cell]>,
    /// Mean nanoseconds per row over all groups, for a group that was never seen.
    any_row: AtomicU64,
    batches: AtomicU64,
}

impl Default for CostModel {
    fn default() -> Self {
        Self::new()
    }
}

fn class_of(rows: u32) -> u32 {
    let rows = rows.max(1);
    if rows <= 8 {
        return rows - 1;
    }
    let shift = 31 - (rows - 1).leading_zeros() - 3;
    (shift * 8 + ((rows - 1) >> shift)).min(CLASSES - 1)
}

/// The most rows of a class.
fn rows_of(class: u32) -> u32 {
    if class < 16 {
        return class + 1;
    }
    let (shift, sub) = (class / 8 - 1, class % 8 + 8);
    (sub + 1).checked_shl(shift).unwrap_or(u32::MAX)
}

fn key_of(group: u64, class: u32) -> u64 {
    let mixed = (group ^ u64::from(class).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed ^ (mixed >> 32)) | 1
}

fn blend(old: u64, new: u64, shift: u32) -> u64 {
    if new >= old { old + ((new - old) >> shift) } else { old - ((old - new) >> shift) }
}

impl CostModel {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let cells = (0..CELLS).map(|_| Cell::default()).collect();
        CostModel { cells, any_row: AtomicU64::new(0), batches: AtomicU64::new(0) }
    }

    fn find(&self, group: u64, class: u32, claim: bool) -> Option<&Cell> {
        let key = key_of(group, class);
        for probe in 0..PROBES {
            let cell = &self.cells[(key as usize >> 1).wrapping_add(probe) % CELLS];
            let found = match cell.key.load(Ordering::Relaxed) {
                0 if claim => cell.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).map_or_else(
                    |other| other,
                    |_| {
                        cell.group.store(group, Ordering::Relaxed);
                        key
                    },
                ),
                0 => return None,
                other => other,
            };
            if found == key {
                return Some(cell);
            }
        }
        None
    }

    /// Takes the cell that was not written for the longest time from its group: groups of models that are gone, or shapes
    /// that nobody asks for any more, must not keep out those that are.
    fn evict(&self, group: u64, class: u32) -> Option<&Cell> {
        let key = key_of(group, class);
        let probes = (0..PROBES).map(|probe| &self.cells[(key as usize >> 1).wrapping_add(probe) % CELLS]);
        let cell = probes.min_by_key(|cell| cell.stamp.load(Ordering::Relaxed))?;
        let old = cell.key.load(Ordering::Relaxed);
        cell.key.compare_exchange(old, key, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        cell.group.store(group, Ordering::Relaxed);
        [&cell.low, &cell.mean, &cell.high, &cell.times].iter().for_each(|number| number.store(0, Ordering::Relaxed));
        Some(cell)
    }

    /// A batch of `rows` rows of `group` took `time`.
    pub fn observe(&self, group: u64, rows: u32, time: Duration) {
        let nanos = crate::clock::nanos(time).max(1);
        let per_row = nanos / u64::from(rows.max(1));
        let any = self.any_row.load(Ordering::Relaxed);
        self.any_row.store(if any == 0 { per_row } else { blend(any, per_row, MEAN_SHIFT) }, Ordering::Relaxed);
        let class = class_of(rows);
        let Some(cell) = self.find(group, class, true).or_else(|| self.evict(group, class)) else { return };
        cell.stamp.store(self.batches.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // Two workers may blend at once and one time be lost: an estimate bears that.
        let (mean, high) = (cell.mean.load(Ordering::Relaxed), cell.high.load(Ordering::Relaxed));
        let times = cell.times.fetch_add(1, Ordering::Relaxed);
        if mean == 0 || (times < YOUNG && nanos < mean) {
            [&cell.low, &cell.mean, &cell.high].iter().for_each(|number| number.store(nanos, Ordering::Relaxed));
            return;
        }
        let low = cell.low.load(Ordering::Relaxed);
        let shift = if nanos < low { UP_SHIFT } else { DOWN_SHIFT };
        cell.low.store(blend(low, nanos.min(low.saturating_mul(MOST_AT_ONCE)), shift), Ordering::Relaxed);
        let (to_mean, to_high) =
            (nanos.min(mean.saturating_mul(MOST_AT_ONCE)), nanos.min(high.saturating_mul(MOST_AT_ONCE)));
        cell.mean.store(blend(mean, to_mean, MEAN_SHIFT), Ordering::Relaxed);
        let shift = if nanos > high { UP_SHIFT } else { DOWN_SHIFT };
        cell.high.store(blend(high, to_high, shift), Ordering::Relaxed);
    }

    /// A warm-up found that batches of `rows` rows of `group` take `time`: it counts for as many as make a time known.
    pub fn seed(&self, group: u64, rows: u32, time: Duration) {
        (0..YOUNG).for_each(|_| self.observe(group, rows, time));
    }

    /// The mean time of a batch, in nanoseconds; inferred where that size was never seen, `None` where nothing was.
    #[must_use]
    pub fn mean(&self, group: u64, rows: u32) -> Option<u64> {
        self.estimate(group, rows, |cell| cell.mean.load(Ordering::Relaxed))
    }

    /// A time that most such batches stay above, in nanoseconds: what they take when nothing disturbs them.
    #[must_use]
    pub fn low(&self, group: u64, rows: u32) -> Option<u64> {
        self.estimate(group, rows, |cell| cell.low.load(Ordering::Relaxed))
    }

    /// A time that about 94 % of such batches stay under, in nanoseconds.
    #[must_use]
    pub fn high(&self, group: u64, rows: u32) -> Option<u64> {
        self.estimate(group, rows, |cell| cell.high.load(Ordering::Relaxed))
    }

    /// How many batches of about so many rows were seen.
    #[must_use]
    pub fn seen(&self, group: u64, rows: u32) -> u64 {
        self.find(group, class_of(rows), false).map_or(0, |cell| cell.times.load(Ordering::Relaxed))
    }

    fn estimate(&self, group: u64, rows: u32, read: impl Fn(&Cell) -> u64) -> Option<u64> {
        let class = class_of(rows);
        let at = |class| self.find(group, class, false).map(&read).filter(|&nanos| nanos > 0);
        if let Some(nanos) = at(class) {
            return Some(nanos);
        }
        // More rows take longer, but not more than in proportion; fewer rows do not take longer.
        let below = (0..class).rev().take(24).find_map(|class| at(class).map(|nanos| (rows_of(class), nanos)));
        let above = (class + 1..CLASSES).take(24).find_map(at);
        let scaled = below.map(|(known, nanos)| nanos.saturating_mul(u64::from(rows)) / u64::from(known.max(1)));
        match (scaled, above) {
            (Some(scaled), Some(above)) => Some(scaled.min(above)),
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => match self.any_row.load(Ordering::Relaxed) {
                0 => None,
                nanos => Some(nanos.saturating_mul(u64::from(rows.max(1)))),
            },
        }
    }

    /// Everything that was learned, by group and rows.
    #[must_use]
    pub fn learned(&self) -> Vec<Learned> {
        let known = |cell: &&Cell| cell.times.load(Ordering::Relaxed) > 0;
        let mut learned: Vec<_> = self.cells.iter().filter(known).filter_map(read).collect();
        crate::order::sort_by(&mut learned, |a, b| (a.group, a.rows).cmp(&(b.group, b.rows)));
        learned
    }
}

fn read(cell: &Cell) -> Option<Learned> {
    let (key, group) = (cell.key.load(Ordering::Relaxed), cell.group.load(Ordering::Relaxed));
    let class = (0..CLASSES).find(|&class| key_of(group, class) == key)?;
    Some(Learned {
        group,
        rows: rows_of(class),
        low_ns: cell.low.load(Ordering::Relaxed),
        mean_ns: cell.mean.load(Ordering::Relaxed),
        high_ns: cell.high.load(Ordering::Relaxed),
        batches: cell.times.load(Ordering::Relaxed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_all_rows_in_order() {
        let mut last = 0;
        for rows in (1..5000).chain([1 << 20, u32::MAX / 2, u32::MAX]) {
            let class = class_of(rows);
            assert!(class >= last && class < CLASSES);
            if class < CLASSES - 1 {
                assert!(rows_of(class) >= rows && rows_of(class) - rows <= rows / 8, "{rows}: {}", rows_of(class));
            }
            last = class;
        }
        assert_eq!((1..=16).map(class_of).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_seen_is_known_and_what_was_not_is_inferred() {
        let costs = CostModel::new();
        assert_eq!(costs.mean(1, 4), None);
        costs.observe(1, 4, Duration::from_nanos(400));
        costs.observe(1, 16, Duration::from_nanos(1000));
        assert_eq!(costs.mean(1, 4), Some(400));
        assert_eq!(costs.mean(1, 8), Some(800), "in proportion to fewer rows");
        assert_eq!(costs.mean(1, 12), Some(1000), "at most what more rows take");
        assert_eq!(costs.mean(1, 2), Some(400));
        assert_eq!(costs.mean(1, 32), Some(2000));
        assert!(costs.mean(2, 1).is_some_and(|nanos| (62..=100).contains(&nanos)), "another group: by the row");
        assert_eq!(costs.learned().iter().map(|l| (l.group, l.rows)).collect::<Vec<_>>(), [(1, 4), (1, 16)]);
    }

    #[test]
    fn first_times_and_outliers_say_little() {
        let costs = CostModel::new();
        // The plan is built in the first run.
        [25_000, 1000, 1010].into_iter().for_each(|nanos| costs.observe(1, 1, Duration::from_nanos(nanos)));
        assert!(costs.mean(1, 1).is_some_and(|nanos| nanos < 1010) && costs.seen(1, 1) == 3 && costs.seen(1, 2) == 0);
        costs.seed(1, 2, Duration::from_nanos(1500));
        assert_eq!((costs.mean(1, 2), costs.seen(1, 2)), (Some(1500), 4));
        // The system held up a run for a hundred times as long.
        costs.observe(1, 2, Duration::from_nanos(150_000));
        assert!(costs.mean(1, 2) <= Some(1700) && costs.high(1, 2) <= Some(1900));
        (0..30).for_each(|_| costs.observe(1, 2, Duration::from_nanos(150_000)));
        assert!(costs.mean(1, 2) > Some(40_000) && costs.high(1, 2) > Some(140_000), "it lasts");
    }

    #[test]
    fn what_is_not_seen_any_more_makes_room() {
        let costs = CostModel::new();
        for group in 0..10 * CELLS as u64 {
            costs.observe(1, 1, Duration::from_nanos(700));
            costs.observe(group * 77 + 2, 1, Duration::from_nanos(300));
        }
        assert_eq!((costs.mean(1, 1), costs.mean(77 * (10 * CELLS as u64 - 1) + 2, 1)), (Some(700), Some(300)));
        assert!(costs.learned().len() <= CELLS);
    }

    #[test]
    fn the_mean_follows_and_most_times_lie_between_low_and_high() {
        let costs = CostModel::new();
        let mut state = 1_u64;
        let mut times = Vec::new();
        for _ in 0..4000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            times.push(1000 + (state >> 54));
            costs.observe(0, 1, Duration::from_nanos(times[times.len() - 1]));
        }
        let (low, mean, high) = (costs.low(0, 1).unwrap(), costs.mean(0, 1).unwrap(), costs.high(0, 1).unwrap());
        assert!((1300..1750).contains(&mean), "{mean}");
        let under = times.iter().filter(|&&time| time <= high).count() as f64 / times.len() as f64;
        assert!(under > 0.8, "{under}");
        let above = times.iter().filter(|&&time| time >= low).count() as f64 / times.len() as f64;
        assert!(above > 0.7, "{above}");
    }
}
