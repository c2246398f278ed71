//! What was measured, as a record, a line of JSON and a table.

use crate::behind::{Room, Span};
use crate::mix::Kind;
use onrush::ErrorKind;
use onrush::monitor::Snapshot;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// The kind of request.
    pub(crate) kind: usize,
    pub(crate) latency: Duration,
    /// How much of that it waited, in the queue or interrupted.
    pub(crate) wait: Duration,
    /// Where arrivals are scheduled: when it was in the engine, and how late it came there because the generator was.
    pub(crate) open: Option<(Span, Duration)>,
}

/// What one thread saw.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) offered: usize,
    answers: Vec<Answer>,
    expired: usize,
    failed: usize,
    /// The kind, and the time from submit to the refusal.
    pub(crate) refused: Vec<(usize, Duration)>,
}

impl Samples {
    pub(crate) fn ended(&mut self, error: Option<ErrorKind>, answer: Answer) {
        match error {
            None => self.answers.push(answer),
            Some(ErrorKind::Deadline) => self.expired += 1,
            Some(_) => self.failed += 1,
        }
    }
}

/// One load, measured. Latency counts from the scheduled arrival; goodput is what came within the target.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record {
    pub(crate) policy: String,
    pub(crate) load: f64,
    pub(crate) offered_per_s: f64,
    pub(crate) answered_per_s: f64,
    pub(crate) goodput_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) mean_wait_ms: f64,
    /// How much later than scheduled requests were handed in, as part of their latency: this program's own share of it.
    pub(crate) late_p99_ms: f64,
    pub(crate) refused: usize,
    pub(crate) refusal_p99_us: f64,
    pub(crate) refusal_max_us: f64,
    pub(crate) expired: usize,
    pub(crate) failed: usize,
    pub(crate) mean_batch: f64,
    pub(crate) capacity_per_s: f64,
    pub(crate) target_ms: f64,
    /// Refused or expired, as a share of what was offered.
    pub(crate) shed: f64,
    /// Jain's index over the tenants' answers, each against what it asks for or its equal share, whichever is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jain: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kinds: Vec<KindRecord>,
    /// Batches by rows: the most rows of a class, and how many there were.
    pub(crate) batches: Vec<(u64, u64)>,
    /// Latencies in milliseconds that 1 %, 2 %, ... 100 % of the answers stay under.
    #[serde(skip)]
    pub(crate) percentiles_ms: Vec<f64>,
}

/// What became of the requests of one kind.
#[derive(Debug, Default, Serialize)]
pub(crate) struct KindRecord {
    pub(crate) name: &'static str,
    pub(crate) offered_share: f64,
    pub(crate) answered_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) mean_wait_ms: f64,
    /// From the scheduled arrival until it ran.
    pub(crate) wait_p99_ms: f64,
    pub(crate) max_wait_ms: f64,
    /// How much of that was for less urgent work, from when it was handed in: while every worker ran work as urgent it waited behind
    /// its equals.
    pub(crate) behind_p99_ms: f64,
    pub(crate) max_behind_ms: f64,
    /// Whether there is any.
    #[serde(skip)]
    has_less_urgent: bool,
    /// From when its batch began until its answer was there, but for interruptions.
    pub(crate) run_p50_ms: f64,
    pub(crate) run_p99_ms: f64,
    pub(crate) refused: usize,
}

fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).map_or(0.0, Duration::as_secs_f64)
}

fn mean(values: impl ExactSizeIterator<Item = Duration>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<Duration>().as_secs_f64() / count
}

fn sorted(values: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values
}

impl Record {
    pub(crate) fn new(
        all: &[Kind],
        samples: Vec<Samples>,
        time: Duration,
        target: Duration,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Self {
        let workers = after.replicas.len();
        let sum = |count: fn(&Samples) -> usize| samples.iter().map(count).sum::<usize>();
        let (offered, expired, failed) = (sum(|s| s.offered), sum(|s| s.expired), sum(|s| s.failed));
        let (mut answers, mut refused) = (Vec::new(), Vec::new());
        for sample in samples {
            answers.extend(sample.answers);
            refused.extend(sample.refused);
        }
        let latencies = sorted(answers.iter().map(|answer| answer.latency));
        let late = sorted(answers.iter().filter_map(|answer| answer.open).map(|(_, late)| late));
        let refusals = sorted(refused.iter().map(|refusal| refusal.1));
        let good = latencies.partition_point(|latency| *latency <= target);
        let seconds = time.as_secs_f64();
        let rows = after.batch_rows.since(&before.batch_rows);
        let kind = |(at, kind): (usize, &Kind)| KindRecord::new(at, kind, &answers, &refused, seconds);
        let mut kinds: Vec<KindRecord> =
            if all.len() > 1 { all.iter().enumerate().map(kind).collect() } else { Vec::new() };
        kinds.iter_mut().enumerate().for_each(|(at, kind)| kind.look_behind(at, all, &answers, workers));
        let lost = refused.len() + expired;
        Record {
            offered_per_s: offered as f64 / seconds,
            answered_per_s: latencies.len() as f64 / seconds,
            goodput_per_s: good as f64 / seconds,
            p50_ms: quantile(&latencies, 0.5) * 1e3,
            p99_ms: quantile(&latencies, 0.99) * 1e3,
            p999_ms: quantile(&latencies, 0.999) * 1e3,
            mean_wait_ms: mean(answers.iter().map(|answer| answer.wait)) * 1e3,
            late_p99_ms: quantile(&late, 0.99) * 1e3,
            refused: refusals.len(),
            refusal_p99_us: quantile(&refusals, 0.99) * 1e6,
            refusal_max_us: quantile(&refusals, 1.0) * 1e6,
            expired,
            failed,
            mean_batch: rows.mean(),
            target_ms: if target == Duration::MAX { 0.0 } else { target.as_secs_f64() * 1e3 },
            shed: lost as f64 / offered.max(1) as f64,
            kinds,
            batches: rows.classes().collect(),
            percentiles_ms: (1..=100).map(|p| quantile(&latencies, f64::from(p) / 100.0) * 1e3).collect(),
            ..Record::default()
        }
    }

    /// Jain's index, once the capacity is known.
    pub(crate) fn judge_fairness(&mut self) {
        let equal = self.capacity_per_s / self.kinds.len().max(1) as f64;
        let got = |kind: &KindRecord| {
            let due = equal.min(kind.offered_share * self.offered_per_s);
            (kind.answered_per_s / due.max(f64::MIN_POSITIVE)).min(1.0)
        };
        let got: Vec<f64> = self.kinds.iter().map(got).collect();
        let (sum, squares) = got.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        self.jain = (squares > 0.0).then(|| sum * sum / (got.len() as f64 * squares));
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl KindRecord {
    fn new(at: usize, kind: &Kind, answers: &[Answer], refused: &[(usize, Duration)], seconds: f64) -> Self {
        let own: Vec<&Answer> = answers.iter().filter(|answer| answer.kind == at).collect();
        let latencies = sorted(own.iter().map(|answer| answer.latency));
        let waits = sorted(own.iter().map(|answer| answer.wait));
        let runs = sorted(own.iter().map(|answer| answer.latency.saturating_sub(answer.wait)));
        KindRecord {
            name: kind.name,
            offered_share: kind.share,
            answered_per_s: own.len() as f64 / seconds,
            p50_ms: quantile(&latencies, 0.5) * 1e3,
            p99_ms: quantile(&latencies, 0.99) * 1e3,
            mean_wait_ms: mean(waits.iter().copied()) * 1e3,
            wait_p99_ms: quantile(&waits, 0.99) * 1e3,
            max_wait_ms: quantile(&waits, 1.0) * 1e3,
            run_p50_ms: quantile(&runs, 0.5) * 1e3,
            run_p99_ms: quantile(&runs, 0.99) * 1e3,
            refused: refused.iter().filter(|refusal| refusal.0 == at).count(),
            ..KindRecord::default()
        }
    }

    /// Finds out how long its requests waited for less urgent work.
    fn look_behind(&mut self, at: usize, kinds: &[Kind], answers: &[Answer], workers: usize) {
        let urgency = |answer: &&Answer| kinds.get(answer.kind).map_or(u8::MAX, |kind| kind.urgency);
        let own = kinds.get(at).map_or(0, |kind| kind.urgency);
        self.has_less_urgent = kinds.iter().any(|kind| kind.urgency > own);
        if !self.has_less_urgent {
            return;
        }
        let spans = |answer: &Answer| answer.open.map(|(span, _)| span);
        let equals: Vec<Span> = answers.iter().filter(|answer| urgency(answer) <= own).filter_map(spans).collect();
        let room = Room::beside(equals.iter(), workers);
        let own = answers.iter().filter(|answer| answer.kind == at).filter_map(spans);
        let behind = sorted(own.map(|span| room.wait(&span)));
        (self.behind_p99_ms, self.max_behind_ms) = (quantile(&behind, 0.99) * 1e3, quantile(&behind, 1.0) * 1e3);
    }
}

pub(crate) fn table(records: &[Record]) -> String {
    let mut text = format!(
        "{:<18} {:>6} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8} {:>10} {:>8} {:>7} {:>7}\n",
        "policy",
        "load",
        "offered/s",
        "answers/s",
        "good/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "wait ms",
        "refused",
        "refusal us",
        "expired",
        "failed",
        "batch"
    );
    for record in records {
        let Record { policy, load, offered_per_s, answered_per_s, goodput_per_s, p50_ms, p99_ms, p999_ms, .. } = record;
        let Record { mean_wait_ms, refused, refusal_p99_us, expired, failed, mean_batch, .. } = record;
        let _ = writeln!(
            text,
            "{policy:<18} {load:>6.2} {offered_per_s:>10.0} {answered_per_s:>10.0} {goodput_per_s:>10.0} {p50_ms:>9.3} \
             {p99_ms:>9.3} {p999_ms:>9.3} {mean_wait_ms:>9.3} {refused:>8} {refusal_p99_us:>10.1} {expired:>8} \
             {failed:>7} {mean_batch:>7.2}"
        );
        for kind in &record.kinds {
            let KindRecord { name, offered_share, answered_per_s, p50_ms, p99_ms, mean_wait_ms, refused, .. } = kind;
            let KindRecord { wait_p99_ms, max_wait_ms, behind_p99_ms, max_behind_ms, run_p50_ms, run_p99_ms, .. } =
                kind;
            let offered = offered_share * offered_per_s;
            let _ = writeln!(
                text,
                "  {name:<16} {:>6} {offered:>10.0} {answered_per_s:>10.0} {:>10} {p50_ms:>9.3} {p99_ms:>9.3} {:>9} \
                 {mean_wait_ms:>9.3} {refused:>8}",
                "", "", ""
            );
            let _ = write!(text, "    wait p99 {wait_p99_ms:.3} max {max_wait_ms:.3} ms");
            if kind.has_less_urgent {
                let behind = format!("p99 {behind_p99_ms:.3} max {max_behind_ms:.3} ms");
                let _ = write!(text, ", of it behind less urgent work {behind}");
            }
            let _ = writeln!(text, "; run p50 {run_p50_ms:.3} p99 {run_p99_ms:.3} ms");
        }
        if record.late_p99_ms > 0.0 {
            let _ = writeln!(text, "  requests handed in late by p99 {:.3} ms, counted as waited", record.late_p99_ms);
        }
        if let Some(jain) = record.jain {
            let _ = writeln!(text, "  Jain's index {jain:.3}");
        }
    }
    text
}
