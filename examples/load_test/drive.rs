//! The two ways to put an engine under load.

use crate::behind::Span;
use crate::mix::{Draw, Kind};
use crate::report::{Answer, Record, Samples};
use clap::ValueEnum;
use onrush::{Engine, ErrorKind, Reason, Ticket};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    /// Independent of each other
    Poisson,
    /// Equal gaps
    Constant,
    /// Sixty-four at once
    Burst,
}

/// An open loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) arrivals: Arrivals,
    pub(crate) time: Duration,
    /// Later answers are not good.
    pub(crate) target: Duration,
    /// Whether requests carry the target as their deadline.
    pub(crate) deadlines: bool,
}

impl Load {
    /// When requests are scheduled to arrive, as seconds after the start.
    fn schedule(self) -> impl Iterator<Item = f64> {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut now, mut index) = (0.0, 0_u64);
        std::iter::from_fn(move || {
            now += match self.arrivals {
                Arrivals::Poisson => -(1.0 - random.f64()).ln() / self.rate,
                Arrivals::Constant => 1.0 / self.rate,
                Arrivals::Burst if index.is_multiple_of(64) => 64.0 / self.rate,
                Arrivals::Burst => 0.0,
            };
            index += 1;
            (now < self.time.as_secs_f64()).then_some(now)
        })
    }
}

/// `clients` threads that each keep `outstanding` requests in the engine for `time`.
pub(crate) fn closed(
    engine: &Engine,
    kinds: &[Kind],
    clients: usize,
    outstanding: usize,
    time: Duration,
    target: Duration,
) -> Record {
    let before = engine.snapshot();
    let start = Instant::now();
    let end = start + time;
    let samples: Vec<Samples> = std::thread::scope(|scope| {
        let client = |seed: usize| {
            let (mut samples, mut draw) = (Samples::default(), Draw::new(kinds, seed as u64));
            let mut tickets: VecDeque<(Instant, usize, Ticket)> = VecDeque::new();
            while Instant::now() < end {
                let (kind, Kind { inputs, options, .. }) = draw.next();
                let asked = Instant::now();
                samples.offered += 1;
                if outstanding == 1 {
                    let answer = engine.run_with(inputs.to_vec(), *options).map_err(|error| error.kind());
                    let (latency, wait) = (asked.elapsed(), Duration::ZERO);
                    samples.ended(answer.err(), Answer { kind, latency, wait, open: None });
                    continue;
                }
                if tickets.len() == outstanding
                    && let Some((asked, kind, ticket)) = tickets.pop_front()
                {
                    take(&mut samples, kind, asked.elapsed(), ticket);
                }
                let asked = Instant::now();
                if let Ok(ticket) = engine.submit_with(inputs.to_vec(), *options) {
                    tickets.push_back((asked, kind, ticket));
                }
            }
            samples
        };
        let threads: Vec<_> = (0..clients).map(|seed| scope.spawn(move || client(seed))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Record::new(kinds, samples, start.elapsed(), target, &before, &engine.snapshot())
}

/// Takes one answer of a closed loop. The wait for older answers counts, as it does for a caller.
fn take(samples: &mut Samples, kind: usize, before: Duration, ticket: Ticket) {
    let asked = Instant::now();
    let (answer, timing) = ticket.wait_timed();
    let (latency, wait) = (before + asked.elapsed(), timing.queued + timing.parked);
    samples.ended(answer.err().map(|error| error.kind()), Answer { kind, latency, wait, open: None });
}

/// How many requests are offered before answers are looked for again, where there is no pause.
const AT_ONCE: usize = 64;
/// How often the last answers are looked for.
const LOOK: Duration = Duration::from_millis(1);

/// A request of an open loop that was taken in.
struct Pending {
    kind: usize,
    /// When it was handed in, from the start of the test, and how much later than scheduled.
    arrived: Duration,
    late: Duration,
    ticket: Ticket,
}

/// Requests that arrive by a schedule, whatever becomes of those before. A refusal is timed from submit to its return.
///
/// As in the closed loop whoever asks takes the answers, so that both loads cost this program alike. Nobody has to be woken for
/// them: each ticket carries its own timing, and it does not matter when it is looked at.
pub(crate) fn open(engine: &Engine, kinds: &[Kind], load: &Load) -> Record {
    let before = engine.snapshot();
    let start = Instant::now();
    let (mut samples, mut draw) = (Samples::default(), Draw::new(kinds, 2));
    let mut pending = VecDeque::new();
    for at in load.schedule() {
        let scheduled = start + Duration::from_secs_f64(at);
        let is_ahead = scheduled > Instant::now() + Duration::from_micros(50);
        if is_ahead || samples.offered.is_multiple_of(AT_ONCE) {
            collect(&mut pending, &mut samples);
        }
        if is_ahead {
            std::thread::sleep(scheduled.saturating_duration_since(Instant::now()));
        }
        let (kind, Kind { inputs, options, .. }) = draw.next();
        let options = if load.deadlines { options.deadline_at(scheduled + load.target) } else { *options };
        let inputs = inputs.to_vec();
        samples.offered += 1;
        let asked = Instant::now();
        match engine.try_submit_with(inputs, options) {
            Ok(ticket) => {
                let (arrived, late) = (asked.duration_since(start), asked.saturating_duration_since(scheduled));
                pending.push_back(Pending { kind, arrived, late, ticket });
            }
            Err(refused) => {
                let took = asked.elapsed();
                match refused.reason() {
                    Reason::Invalid(error) => {
                        let answer = Answer { kind, latency: took, wait: took, open: None };
                        samples.ended(Some(error.kind()), answer);
                    }
                    _ => samples.refused.push((kind, took)),
                }
            }
        }
    }
    // Answers that come after the last arrival belong to the load, the time until they come does not.
    let time = load.time.min(start.elapsed());
    while collect(&mut pending, &mut samples) > 0 {
        std::thread::sleep(LOOK);
    }
    Record::new(kinds, vec![samples], time, load.target, &before, &engine.snapshot())
}

/// Takes the answers that are there, up to the first that is not; how many are left.
fn collect(pending: &mut VecDeque<Pending>, samples: &mut Samples) -> usize {
    while pending.front().is_some_and(|request| request.ticket.is_done())
        && let Some(Pending { kind, arrived, late, ticket }) = pending.pop_front()
    {
        let (answer, timing) = ticket.wait_timed();
        let error: Option<ErrorKind> = answer.err().map(|error| error.kind());
        let (began, ended) = (arrived + timing.queued, arrived + timing.total());
        let open = Some((Span { arrived, began, ended, riders: timing.batch_requests }, late));
        let (latency, wait) = (late + timing.total(), late + timing.queued + timing.parked);
        samples.ended(error, Answer { kind, latency, wait, open });
    }
    pending.len()
}
