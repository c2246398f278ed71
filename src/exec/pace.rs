//! How fast requests leave the queue, and how much longer than foretold a wait may be.
//!
//! Written by workers, read at each submit with a deadline; `Relaxed` throughout: estimates, each usable alone.

use super::admission::{CLASSES, class};
use crate::clock::nanos;
use crate::sched::Waiting;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nobody is told to come back later than after this: by then anything may have changed.
pub(super) const LATEST_RETRY: Duration = Duration::from_secs(60);

/// How fast requests leave the queue.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Nanoseconds that a batch takes, averaged.
    batch: AtomicU64,
    /// Nanoseconds of a batch per request in it, averaged.
    request: AtomicU64,
    /// Rows of a request in 256ths, averaged.
    rows: AtomicU64,
    /// Of late, while work waited and every slot was taken: nanoseconds from batch to batch, batches, and rows of each class.
    /// Sums that fade, the counts in 256ths. What they say holds whatever else uses the processor.
    time: AtomicU64,
    batches: AtomicU64,
    drained: [AtomicU64; CLASSES],
}

fn average(cell: &AtomicU64, value: u64) {
    let old = cell.load(Ordering::Relaxed);
    cell.store(if old == 0 { value } else { old - old / 8 + value / 8 }, Ordering::Relaxed);
}

/// Adds to a sum of which a 32nd fades.
fn add_fading(cell: &AtomicU64, value: u64) {
    let old = cell.load(Ordering::Relaxed);
    cell.store((old - old / 32).saturating_add(value), Ordering::Relaxed);
}

impl Pace {
    pub(super) fn observe(&self, time: u64, requests: u64, rows: u64) {
        average(&self.batch, time);
        average(&self.request, time / requests.max(1));
        average(&self.rows, rows.saturating_mul(256) / requests.max(1));
    }

    /// A batch of these requests left the queue `gap` nanoseconds after the one before, and work waited all the time.
    pub(super) fn observe_gap<'a>(&self, gap: u64, requests: impl Iterator<Item = &'a Waiting>) {
        add_fading(&self.time, gap.max(1));
        add_fading(&self.batches, 256);
        self.drained.iter().for_each(|cell| add_fading(cell, 0));
        self.observe_overtaking(requests);
    }

    /// These requests left the queue to interrupt a batch: they take no time of their own from batch to batch.
    pub(super) fn observe_overtaking<'a>(&self, requests: impl Iterator<Item = &'a Waiting>) {
        for meta in requests {
            let cell = &self.drained[class(meta)];
            cell.store(cell.load(Ordering::Relaxed).saturating_add(u64::from(meta.rows) * 256), Ordering::Relaxed);
        }
    }

    /// Nanoseconds that a batch takes.
    pub(super) fn batch(&self) -> u64 {
        self.batch.load(Ordering::Relaxed)
    }

    /// Nanoseconds of a batch per request in it.
    pub(super) fn request(&self) -> u64 {
        self.request.load(Ordering::Relaxed)
    }

    /// Rows that so many requests have together.
    pub(super) fn rows_of(&self, requests: u32) -> u64 {
        u64::from(requests).saturating_mul(self.rows.load(Ordering::Relaxed)) / 256
    }

    /// How long the full ones of the batches of `rows` rows need to leave the queue, while more urgent ones than `class` leave
    /// as fast as of late; `None` while no batch had to wait for another.
    pub(super) fn drain(&self, rows: u64, class: usize) -> Option<u64> {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let (time, batches) = (read(&self.time), read(&self.batches));
        if time == 0 || batches == 0 {
            return None;
        }
        let all = self.drained.iter().map(read).fold(0, u64::saturating_add);
        let left = self.drained.iter().skip(class).map(read).fold(0, u64::saturating_add);
        let usual = ((all + batches / 2) / batches).max(1);
        // In floats: a quotient of wide integers would be the dearest part of a refusal.
        Some((time as f64 * (rows / usual * usual) as f64 * 256.0 / left.max(1) as f64) as u64)
    }

    /// Nanoseconds from one request of a class to the next, of late, while work waited; a minute at most, as one that had no
    /// turn may have it soon, and zero where nothing is known.
    pub(super) fn turn(&self, class: usize) -> u64 {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let rows = self.drained.get(class).map_or(0, read).max(1);
        ((read(&self.time) as f64 * read(&self.rows) as f64 / rows as f64) as u64).min(nanos(LATEST_RETRY))
    }

    /// After about this long a place should be free.
    pub(super) fn retry_after(&self) -> Duration {
        Duration::from_nanos(self.batch().max(1000))
    }
}

const WHOLE: u64 = 1 << 14;
const LEAST: u64 = WHOLE / 64;

/// How much longer than foretold a wait is taken to be: a foretelling that is right on average would be too short half of the
/// time, and what is then accepted in vain has cost room and work. It grows with each loss and falls while there is none, until
/// about one batch in fifty comes with a loss.
#[derive(Debug)]
pub(super) struct Margin(AtomicU64);

impl Default for Margin {
    fn default() -> Self {
        Margin(AtomicU64::new(WHOLE / 16))
    }
}

impl Margin {
    /// Some request was accepted in vain.
    pub(super) fn raise(&self) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store((now + WHOLE / 64).min(WHOLE), Ordering::Relaxed);
    }

    /// A batch has ended, too late for some or not.
    pub(super) fn observe(&self, is_late: bool) {
        if is_late {
            return self.raise();
        }
        let now = self.0.load(Ordering::Relaxed);
        if now > LEAST {
            self.0.store((now - WHOLE / 4096).max(LEAST), Ordering::Relaxed);
        }
    }

    /// The foretold wait with the margin.
    pub(super) fn widen(&self, wait: u64) -> u64 {
        let margin = self.0.load(Ordering::Relaxed);
        let more = (wait / WHOLE).saturating_mul(margin).saturating_add(wait % WHOLE * margin / WHOLE);
        wait.saturating_add(more)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::Time;

    #[test]
    fn the_margin_settles_where_losses_are_rare() {
        let margin = Margin::default();
        // Waits are up to an eighth longer than foretold: every eighth loses where the margin is too small.
        let mut losses = 0;
        for batch in 0..20_000_u64 {
            let actual = 10_000 + batch * 7919 % 1250;
            let is_late = actual > margin.widen(10_000);
            losses += u64::from(is_late && batch >= 10_000);
            margin.observe(is_late);
        }
        assert!((50..400).contains(&losses), "{losses} of the last 10,000");
    }

    #[test]
    fn the_margin_stays_within_its_bounds() {
        let margin = Margin::default();
        (0..10_000).for_each(|_| margin.observe(false));
        assert_eq!(margin.widen(6400), 6500);
        (0..10_000).for_each(|_| margin.raise());
        assert_eq!(margin.widen(6400), 12_800);
    }

    #[test]
    fn a_queue_drains_as_fast_as_of_late() {
        let pace = Pace::default();
        pace.observe(100, 1, 1);
        assert_eq!(pace.drain(9, 0), None);
        let (urgent, other) = (Waiting { priority: 0, ..Waiting::at(Time::ZERO) }, Waiting::at(Time::ZERO));
        // Two workers in turn: the gaps alternate, and one row in two is urgent.
        for _ in 0..300 {
            pace.observe_gap(10, [urgent].iter());
            pace.observe_gap(30, [other].iter());
        }
        assert!(pace.drain(9, 0).is_some_and(|nanos| (175..185).contains(&nanos)), "{:?}", pace.drain(9, 0));
        assert!(pace.drain(9, 1).is_some_and(|nanos| (340..375).contains(&nanos)), "{:?}", pace.drain(9, 1));
    }
}
