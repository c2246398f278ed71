//! What the executor has seen, at one moment: as data, as a table (`Display`) and as JSON.

use super::histogram::{Distribution, Histogram};
use super::{Counters, Ended, Learned, ModelSnapshot, Move, ReplicaSnapshot};
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The histograms of one slot: written by whoever holds it.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) queue: Histogram,
    pub(crate) form: Histogram,
    pub(crate) run: Histogram,
    pub(crate) scatter: Histogram,
    pub(crate) batch_requests: Histogram,
    pub(crate) batch_rows: Histogram,
    /// Requests in the batch that runs now.
    pub(crate) running: AtomicU64,
    /// Nanoseconds spent in runs, and how many there were; set to zero for a new replica.
    pub(crate) busy: AtomicU64,
    pub(crate) batches: AtomicU64,
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Taken in. At rest this is the sum of the five that follow.
    pub accepted: u64,
    /// Answered with a result.
    pub answered: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Given up because the deadline passed.
    pub expired: u64,
    /// Given up by the caller.
    pub cancelled: u64,
    /// In the queue or in a running batch.
    pub waiting: u64,
    /// Of the accepted: run on the caller's own thread without waiting.
    pub inline: u64,
}

/// Why requests were not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Refusals {
    /// No room in items or bytes.
    pub full: u64,
    /// The deadline had passed or could not have been met.
    pub deadline: u64,
    /// The executor was shut down.
    pub closed: u64,
    /// The model rested.
    pub quarantined: u64,
    /// The request was wrong.
    pub invalid: u64,
}

impl Refusals {
    /// Each reason by its name, with its count.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 5] {
        let Refusals { full, deadline, closed, quarantined, invalid } = *self;
        [("full", full), ("deadline", deadline), ("closed", closed), ("quarantined", quarantined), ("invalid", invalid)]
    }
}

/// What the process uses. `monitor` reads no files: the façade fills this in, from `/proc` on Linux; elsewhere nothing is
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Processor time since its start, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
}

impl Process {
    /// Whether anything is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.cpu_seconds.is_some() || self.resident_bytes.is_some()
    }
}

/// Counters and distributions since the start. Times are in nanoseconds.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// What became of the requests.
    pub requests: Totals,
    /// Requests that were not taken in.
    pub refused: Refusals,
    /// Requests in the queue.
    pub queued: u64,
    /// Bytes of payload in the queue.
    pub queued_bytes: u64,
    /// Batches whose run panicked or failed and was split.
    pub retries: u64,
    /// Workers that died and were replaced.
    pub replaced_workers: u64,
    /// Time from submit to batch, per request.
    pub queue: Distribution,
    /// Time to stack a batch's inputs, per batch.
    pub form: Distribution,
    /// Time to run the model, per batch.
    pub run: Distribution,
    /// Time to split the outputs and hand out the answers, per batch.
    pub scatter: Distribution,
    /// Requests in a batch.
    pub batch_requests: Distribution,
    /// Rows in a batch.
    pub batch_rows: Distribution,
    /// The models that are served.
    pub models: Vec<ModelSnapshot>,
    /// The replicas, in order of their numbers.
    pub replicas: Vec<ReplicaSnapshot>,
    /// The last moves of the feedback controller, if there is one.
    pub moves: Vec<Move>,
    /// Moves that it has made in all.
    pub moves_made: u64,
    /// What the process uses, where somebody looked.
    pub process: Process,
    /// What batches were learned to cost.
    pub costs: Vec<Learned>,
}

impl Snapshot {
    /// Adds up counters and histograms; gauges are left to the caller.
    pub(crate) fn collect<'a>(counters: &Counters, stats: impl Iterator<Item = &'a Stats>) -> Self {
        let mut snapshot = Snapshot::default();
        // Ends are read before accepts, so that a request that ends meanwhile is not counted twice.
        let requests = &mut snapshot.requests;
        requests.answered = counters.total_ended(Ended::Answered);
        requests.failed = counters.total_ended(Ended::Failed);
        requests.expired = counters.total_ended(Ended::Expired);
        requests.cancelled = counters.total_ended(Ended::Cancelled);
        requests.inline = counters.sum(|shard| &shard.inline);
        requests.accepted = counters.sum(|shard| &shard.accepted);
        snapshot.refused = Refusals {
            full: counters.sum(|shard| &shard.refused_full),
            deadline: counters.sum(|shard| &shard.refused_deadline),
            closed: counters.sum(|shard| &shard.refused_closed),
            quarantined: counters.sum(|shard| &shard.refused_quarantined),
            invalid: counters.sum(|shard| &shard.refused_invalid),
        };
        for slot in stats {
            snapshot.requests.waiting += slot.running.load(Ordering::Relaxed);
            slot.queue.add_to(&mut snapshot.queue);
            slot.form.add_to(&mut snapshot.form);
            slot.run.add_to(&mut snapshot.run);
            slot.scatter.add_to(&mut snapshot.scatter);
            slot.batch_requests.add_to(&mut snapshot.batch_requests);
            slot.batch_rows.add_to(&mut snapshot.batch_rows);
        }
        snapshot
    }

    /// The stages that a request goes through, by name: queue counts requests, the others batches.
    #[must_use]
    pub fn stages(&self) -> [(&'static str, &Distribution); 4] {
        [("queue", &self.queue), ("form", &self.form), ("run", &self.run), ("scatter", &self.scatter)]
    }

    /// All of it as one JSON object; distributions as count, mean and quantiles.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Nanoseconds with three digits and a unit.
struct Nanos(f64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            n if n < 1e3 => format!("{n:.0} ns"),
            n if n < 1e6 => format!("{:.3} us", n / 1e3),
            n if n < 1e9 => format!("{:.3} ms", n / 1e6),
            n => format!("{:.3} s", n / 1e9),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { accepted, answered, failed, expired, cancelled, waiting, inline } = self.requests;
        writeln!(f, "requests   {accepted} accepted ({inline} inline) = {answered} answered + {failed} failed")?;
        writeln!(f, "           + {expired} expired + {cancelled} cancelled + {waiting} waiting")?;
        let Refusals { full, deadline, closed, quarantined, invalid } = self.refused;
        writeln!(
            f,
            "refused    {full} full, {deadline} deadline, {closed} closed, {quarantined} quarantined, {invalid} invalid"
        )?;
        writeln!(f, "{:<9} {:>10} {:>11} {:>11} {:>11} {:>11}", "stage", "count", "mean", "p50", "p99", "max")?;
        for (name, times) in self.stages() {
            let [p50, p99, max] = [times.quantile(0.5), times.quantile(0.99), times.max()].map(|n| Nanos(n as f64));
            let mean = Nanos(times.mean());
            writeln!(f, "{name:<9} {:>10} {mean:>11} {p50:>11} {p99:>11} {max:>11}", times.count())?;
        }
        for (name, sizes) in [("requests", &self.batch_requests), ("rows", &self.batch_rows)] {
            let (p50, p99, max) = (sizes.quantile(0.5), sizes.quantile(0.99), sizes.max());
            writeln!(f, "{name:<9} {:>10} {:>11.2} {p50:>11} {p99:>11} {max:>11}", sizes.count(), sizes.mean())?;
        }
        for model in self.models.iter().filter(|_| self.models.len() > 1) {
            writeln!(f, "{model}")?;
        }
        for replica in &self.replicas {
            writeln!(f, "{replica}")?;
        }
        for step in &self.moves {
            writeln!(f, "moved      {step}")?;
        }
        if let (Some(cpu), Some(resident)) = (self.process.cpu_seconds, self.process.resident_bytes) {
            writeln!(f, "process    {cpu:.2} s of processor time, {:.1} MB resident", resident as f64 / 1e6)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_adds_up_shards_and_slots() {
        let counters = Counters::default();
        counters.here().accepted.fetch_add(3, Ordering::Relaxed);
        counters.ended(Ended::Answered, 2);
        counters.ended(Ended::Expired, 1);
        let slots = [Stats::default(), Stats::default()];
        slots[0].run.record(10);
        slots[1].run.record(12);
        let snapshot = Snapshot::collect(&counters, slots.iter());
        assert_eq!((snapshot.requests.accepted, snapshot.requests.answered, snapshot.requests.expired), (3, 2, 1));
        assert_eq!((snapshot.run.count(), snapshot.run.sum()), (2, 22));
        let json: serde_json::Value = serde_json::from_str(&snapshot.to_json()).unwrap();
        assert_eq!(json["run"]["count"], 2);
        assert!(snapshot.to_string().contains("3 accepted"));
    }
}
