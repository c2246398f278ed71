//! What a controller is told: the difference between two snapshots of one executor.

use super::Snapshot;
use std::time::Duration;

/// What happened between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// Time between the looks.
    pub span: Duration,
    /// Requests answered with a result.
    pub answered: u64,
    /// Requests refused for want of room or time, or expired in the queue.
    pub shed: u64,
    /// How long 99 % of the requests waited at most.
    pub queue: Duration,
    /// How long a batch took on average: formed, run, scattered.
    pub batch: Duration,
    /// How long 99 % of the requests took at most: the high quantiles of waiting and of running, added.
    pub latency: Duration,
    /// Mean rows in a batch; zero if none ran.
    pub rows: f64,
    /// Share of the workers' time that was spent in batches, 0 to 1.
    pub busy: f64,
}

impl Measured {
    /// Nothing happened for `span`.
    #[must_use]
    pub fn nothing(span: Duration) -> Self {
        let none = Duration::ZERO;
        Measured { span, answered: 0, shed: 0, queue: none, batch: none, latency: none, rows: 0.0, busy: 0.0 }
    }

    /// What `later` has more than `earlier`, which was taken `span` before it, with `workers` workers.
    #[must_use]
    pub fn between(earlier: &Snapshot, later: &Snapshot, span: Duration, workers: usize) -> Self {
        let lost = |s: &Snapshot| s.refused.full + s.refused.deadline + s.requests.expired;
        let [queue, form, run, scatter] = [
            later.queue.since(&earlier.queue),
            later.form.since(&earlier.form),
            later.run.since(&earlier.run),
            later.scatter.since(&earlier.scatter),
        ];
        let rows = later.batch_rows.since(&earlier.batch_rows);
        let spent = form.sum() + run.sum() + scatter.sum();
        let high = |times: &super::Distribution| Duration::from_nanos(times.quantile(0.99));
        Measured {
            span,
            answered: later.requests.answered.saturating_sub(earlier.requests.answered),
            shed: lost(later).saturating_sub(lost(earlier)),
            queue: high(&queue),
            batch: Duration::from_nanos(spent.checked_div(run.count()).unwrap_or(0)),
            latency: high(&queue) + high(&form) + high(&run) + high(&scatter),
            rows: rows.mean(),
            busy: (spent as f64 / (span.as_nanos().max(1) as f64 * workers.max(1) as f64)).min(1.0),
        }
    }

    /// Answers per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.span.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Histogram;
    use super::*;

    fn snapshot(batches: u64) -> Snapshot {
        let (queue, run, rows) = (Histogram::new(), Histogram::new(), Histogram::new());
        for _ in 0..batches {
            queue.record(1_000);
            run.record(2_000_000);
            rows.record(4);
        }
        let mut snapshot = Snapshot::default();
        queue.add_to(&mut snapshot.queue);
        run.add_to(&mut snapshot.run);
        rows.add_to(&mut snapshot.batch_rows);
        snapshot.requests.answered = batches * 4;
        snapshot.refused.full = batches / 10;
        snapshot
    }

    #[test]
    fn only_what_lies_between_counts() {
        let measured = Measured::between(&snapshot(100), &snapshot(150), Duration::from_millis(200), 2);
        assert_eq!((measured.answered, measured.shed, measured.rows), (200, 5, 4.0));
        assert_eq!(measured.batch, Duration::from_millis(2));
        assert!((measured.busy - 0.25).abs() < 1e-9 && (measured.rate() - 1000.0).abs() < 1e-6, "{measured:?}");
        assert!(measured.latency >= Duration::from_micros(2001) && measured.latency < Duration::from_micros(2200));
        let idle = Measured::between(&snapshot(100), &snapshot(100), Duration::from_secs(1), 2);
        assert_eq!(idle, Measured::nothing(Duration::from_secs(1)));
    }
}
