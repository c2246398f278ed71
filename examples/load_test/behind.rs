//! How much of a wait was for less urgent work: that is what priorities and preemption are to spare an urgent request. While every
//! worker runs work that is at least as urgent, it waits behind its equals.

use std::time::Duration;

/// When an answered request arrived, when its batch began and when it ended, from the start of the test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) arrived: Duration,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    /// Requests in its batch.
    pub(crate) riders: u32,
}

/// When fewer batches than there are workers were running.
#[derive(Debug)]
pub(crate) struct Room {
    /// Moments at which that changed, how long it had been so in all until then, and whether it is so from then on.
    changes: Vec<(f64, f64, bool)>,
}

impl Room {
    /// Where these requests, answered by so many workers, were all that ran.
    pub(crate) fn beside<'a>(spans: impl Iterator<Item = &'a Span>, workers: usize) -> Self {
        let mut steps: Vec<(f64, f64)> = spans
            .flat_map(|span| {
                let part = 1.0 / f64::from(span.riders.max(1));
                [(span.began.as_secs_f64(), part), (span.ended.as_secs_f64(), -part)]
            })
            .collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut changes, mut running) = (vec![(0.0, 0.0, true)], 0.0);
        for (at, step) in steps {
            running += step;
            // Half a batch of tolerance: the riders of one batch begin at times that differ by as much as it takes to read a clock.
            let is_room = running < workers as f64 - 0.5;
            let &(since, total, was_room) = changes.last().unwrap_or(&(0.0, 0.0, true));
            if is_room != was_room {
                changes.push((at, total + if was_room { at - since } else { 0.0 }, is_room));
            }
        }
        Room { changes }
    }

    /// For how long that had been so, in seconds, until `time`.
    fn until(&self, time: f64) -> f64 {
        let next = self.changes.partition_point(|change| change.0 <= time);
        let Some(&(since, total, is_room)) = next.checked_sub(1).and_then(|at| self.changes.get(at)) else {
            return 0.0;
        };
        total + if is_room { time - since } else { 0.0 }
    }

    /// For how long a request waited although some worker ran nothing as urgent.
    pub(crate) fn wait(&self, span: &Span) -> Duration {
        let waited = self.until(span.began.as_secs_f64()) - self.until(span.arrived.as_secs_f64());
        Duration::from_secs_f64(waited.max(0.0))
    }
}
