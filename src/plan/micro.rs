//! How many rows of a batch are run at once: the one place that decides it.
//!
//! A step that takes more rows reads its weights less often; but what it reads and writes then outgrows the caches.
//! The sum of both, over the steps of a program, is the time that is compared here. It is a choice and not a promise:
//! [`Choice::micro_batch`] overrides it.

use crate::backend::{Program, Work};

/// Bytes of the second cache of a core, and of the last one.
const L2: f64 = 1024.0 * 1024.0;
const L3: f64 = 16.0 * 1024.0 * 1024.0;

/// More micro-batches than this are not thought of.
const MOST: usize = 1 << 16;

/// Nanoseconds that a step takes beside its work.
const STEP: f64 = 100.0;

/// What the choice depends on beside the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// Threads that share the rows.
    pub(super) threads: usize,
    /// Rows at once, where the caller has said so.
    pub(super) micro_batch: Option<usize>,
}

/// The part of the time that threads must be busy for, where each takes whole rows. Inside operators they are about as
/// well used, whatever the number of rows.
const EVEN: f64 = 0.9;

/// Whether so many threads are well used when each of them takes whole rows.
pub(super) fn shares_evenly(rows: usize, threads: usize) -> bool {
    let threads = threads.max(1);
    rows as f64 >= EVEN * (rows.div_ceil(threads) * threads) as f64
}

/// Into how many micro-batches the `rows` rows of `program` are divided; 1 is no division.
pub(super) fn count(program: &Program, rows: usize, choice: Choice) -> usize {
    if let Some(wanted) = choice.micro_batch {
        return rows.div_ceil(wanted.clamp(1, rows.max(1)));
    }
    let steps: Vec<Work> = program.steps.iter().map(|step| Work::of(step, program)).collect();
    let weights: f64 = steps.iter().map(|work| work.weights).sum();
    let candidates = (1..=rows.min(MOST)).filter(|count| rows.div_ceil(*count) * (count - 1) < rows);
    let time = |count: usize| {
        let each = rows.div_ceil(count);
        let turns = count.div_ceil(choice.threads.max(1)) as f64;
        turns * steps.iter().map(|work| time(work, each as f64, rows as f64, weights)).sum::<f64>()
    };
    let best = candidates.map(|count| (time(count), count)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(1, |(_, count)| count)
}

/// Nanoseconds of one step on `each` of the `rows` rows that `work` is of.
fn time(work: &Work, each: f64, rows: f64, weights: f64) -> f64 {
    let share = each / rows;
    let values = work.values * share;
    let arithmetic = work.arithmetic() * share;
    // Weights come from where all of them stay between two micro-batches, values from where one step leaves them.
    let gathered = if work.macs > 0.0 { work.weights } else { work.weights.min(values) };
    let (weights, kept) = (weights + values, values + work.weights.min(L2 / 2.0));
    STEP + arithmetic + gathered / speed(weights, WEIGHTS) + values / speed(kept, VALUES)
}

/// Bytes a nanosecond of weights, which are read ahead while products are made, from the second cache, the last one,
/// and memory. Fitted to ResNet-50, MobileNetV2 and MiniLM at 1, 2, 4 and 8 rows.
const WEIGHTS: [f64; 3] = [48.0, 32.0, 12.0];

/// The same of values, which are written as well.
const VALUES: [f64; 3] = [48.0, 16.0, 7.0];

/// The speed of the cache that holds so many bytes.
fn speed(bytes: f64, [second, last, memory]: [f64; 3]) -> f64 {
    if bytes <= L2 {
        second
    } else if bytes <= L3 {
        last
    } else {
        memory
    }
}
