//! What was measured, as a record, a line of JSON and a table.

use onrush::monitor::Snapshot;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// What one thread saw.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    latencies: Vec<Duration>,
    failed: usize,
    pub(crate) refused: Vec<Duration>,
}

impl Samples {
    pub(crate) fn ended(&mut self, answered: bool, latency: Duration) {
        if answered {
            self.latencies.push(latency);
        } else {
            self.failed += 1;
        }
    }
}

/// One load, measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record {
    pub(crate) policy: String,
    pub(crate) load: f64,
    pub(crate) answered_per_s: f64,
    pub(crate) goodput_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) refused: usize,
    pub(crate) refusal_p99_us: f64,
    pub(crate) failed: usize,
    pub(crate) mean_batch: f64,
    pub(crate) capacity_per_s: f64,
}

fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).map_or(0.0, Duration::as_secs_f64)
}

impl Record {
    pub(crate) fn new(samples: Vec<Samples>, time: Duration, target: Duration, snapshot: &Snapshot) -> Self {
        let failed = samples.iter().map(|s| s.failed).sum();
        let (mut latencies, mut refused) = (Vec::new(), Vec::new());
        for sample in samples {
            latencies.extend(sample.latencies);
            refused.extend(sample.refused);
        }
        latencies.sort_unstable();
        refused.sort_unstable();
        let good = latencies.partition_point(|latency| *latency <= target);
        let seconds = time.as_secs_f64();
        Record {
            answered_per_s: latencies.len() as f64 / seconds,
            goodput_per_s: good as f64 / seconds,
            p50_ms: quantile(&latencies, 0.5) * 1e3,
            p99_ms: quantile(&latencies, 0.99) * 1e3,
            p999_ms: quantile(&latencies, 0.999) * 1e3,
            refused: refused.len(),
            refusal_p99_us: quantile(&refused, 0.99) * 1e6,
            failed,
            mean_batch: snapshot.batch_rows.mean(),
            ..Record::default()
        }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

pub(crate) fn table(records: &[Record]) -> String {
    let mut text = format!(
        "{:<18} {:>6} {:>11} {:>11} {:>9} {:>9} {:>9} {:>9} {:>10} {:>7} {:>7}\n",
        "policy",
        "load",
        "answers/s",
        "good/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "refused",
        "refusal us",
        "failed",
        "batch"
    );
    for record in records {
        let Record { policy, load, answered_per_s, goodput_per_s, p50_ms, p99_ms, p999_ms, .. } = record;
        let Record { refused, refusal_p99_us, failed, mean_batch, .. } = record;
        let _ = writeln!(
            text,
            "{policy:<18} {load:>6.2} {answered_per_s:>11.0} {goodput_per_s:>11.0} {p50_ms:>9.3} {p99_ms:>9.3} \
             {p999_ms:>9.3} {refused:>9} {refusal_p99_us:>10.1} {failed:>7} {mean_batch:>7.2}"
        );
    }
    text
}
