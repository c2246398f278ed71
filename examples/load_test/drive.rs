//! The two ways to put an engine under load.

use crate::mix::{Draw, Kind};
use crate::report::{Record, Samples};
use clap::ValueEnum;
use onrush::{Engine, ErrorKind, Reason, Ticket};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
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
                    let answer = engine.run(inputs.to_vec()).map_err(|error| error.kind());
                    samples.ended(kind, answer.err(), asked.elapsed(), Duration::ZERO);
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
    samples.ended(kind, answer.err().map(|error| error.kind()), before + asked.elapsed(), timing.queued);
}

/// Requests that arrive by a schedule, whatever becomes of those before. A refusal is timed from submit to its return.
pub(crate) fn open(engine: &Engine, kinds: &[Kind], load: &Load) -> Record {
    let before = engine.snapshot();
    let start = Instant::now();
    let samples = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let collector = scope.spawn(move || collect(receiver));
        let (mut samples, mut draw) = (Samples::default(), Draw::new(kinds, 2));
        for at in load.schedule() {
            let scheduled = start + Duration::from_secs_f64(at);
            let ahead = scheduled.saturating_duration_since(Instant::now());
            if ahead > Duration::from_micros(50) {
                std::thread::sleep(ahead);
            }
            let (kind, Kind { inputs, options, .. }) = draw.next();
            let options = if load.deadlines { options.deadline_at(scheduled + load.target) } else { *options };
            let inputs = inputs.to_vec();
            samples.offered += 1;
            let asked = Instant::now();
            match engine.try_submit_with(inputs, options) {
                Ok(ticket) => {
                    let _ = sender.send((asked.saturating_duration_since(scheduled), kind, ticket));
                }
                Err(refused) => {
                    let took = asked.elapsed();
                    match refused.reason() {
                        Reason::Invalid(error) => samples.ended(kind, Some(error.kind()), took, took),
                        _ => samples.refused.push((kind, took)),
                    }
                }
            }
        }
        drop(sender);
        vec![samples, collector.join().unwrap_or_default()]
    });
    // Answers that come after the last arrival belong to the load, the time until they come does not.
    let time = load.time.min(start.elapsed());
    Record::new(kinds, samples, time, load.target, &before, &engine.snapshot())
}

/// How often answers are looked for.
const LOOK: Duration = Duration::from_millis(1);

/// Takes the answers. Each ticket carries its own timing, so that it does not matter when it is looked at; and nobody has to
/// be woken for each, which would cost the engine some of the processor that it shares with this program.
fn collect(tickets: Receiver<(Duration, usize, Ticket)>) -> Samples {
    let mut samples = Samples::default();
    for (late, kind, ticket) in tickets {
        while !ticket.is_done() {
            std::thread::sleep(LOOK);
        }
        let (answer, timing) = ticket.wait_timed();
        let error: Option<ErrorKind> = answer.err().map(|error| error.kind());
        samples.ended(kind, error, late + timing.total(), late + timing.queued);
    }
    samples
}
