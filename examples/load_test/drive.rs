//! The two ways to put an engine under load.

use crate::report::{Record, Samples};
use clap::ValueEnum;
use onrush::{Engine, Reason, SubmitOptions, Tensor, Ticket};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    Poisson,
    Constant,
    /// Sixty-four at once.
    Burst,
}

/// An open loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) arrivals: Arrivals,
    pub(crate) time: Duration,
    pub(crate) target: Duration,
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
    inputs: &[Tensor],
    clients: usize,
    outstanding: usize,
    time: Duration,
    target: Duration,
) -> Record {
    let start = Instant::now();
    let end = start + time;
    let samples: Vec<Samples> = std::thread::scope(|scope| {
        let client = || {
            let mut samples = Samples::default();
            let mut tickets: VecDeque<(Instant, Ticket)> = VecDeque::new();
            while Instant::now() < end {
                if outstanding == 1 {
                    let asked = Instant::now();
                    samples.ended(engine.run(inputs.to_vec()).is_ok(), asked.elapsed());
                    continue;
                }
                if tickets.len() == outstanding
                    && let Some((asked, ticket)) = tickets.pop_front()
                {
                    samples.ended(ticket.wait().is_ok(), asked.elapsed());
                }
                let asked = Instant::now();
                if let Ok(ticket) = engine.submit(inputs.to_vec()) {
                    tickets.push_back((asked, ticket));
                }
            }
            samples
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Record::new(samples, start.elapsed(), target, &engine.snapshot())
}

/// Requests that arrive by a schedule, whatever becomes of those before.
pub(crate) fn open(engine: &Engine, inputs: &[Tensor], load: &Load) -> Record {
    let start = Instant::now();
    let samples = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let collector = scope.spawn(move || collect(receiver));
        let mut samples = Samples::default();
        for at in load.schedule() {
            let scheduled = start + Duration::from_secs_f64(at);
            let ahead = scheduled.saturating_duration_since(Instant::now());
            if ahead > Duration::from_micros(50) {
                std::thread::sleep(ahead);
            }
            let asked = Instant::now();
            let options = SubmitOptions::new().deadline_at(scheduled + load.target);
            match engine.try_submit_with(inputs.to_vec(), options) {
                Ok(ticket) => {
                    let _ = sender.send((asked.saturating_duration_since(scheduled), ticket));
                }
                Err(refused) if matches!(refused.reason(), Reason::Invalid(_)) => samples.ended(false, Duration::ZERO),
                Err(_) => samples.refused.push(asked.elapsed()),
            }
        }
        drop(sender);
        vec![samples, collector.join().unwrap_or_default()]
    });
    Record::new(samples, start.elapsed(), load.target, &engine.snapshot())
}

/// Takes the answers; each ticket carries its own timing, so that it does not matter when it is looked at.
fn collect(tickets: Receiver<(Duration, Ticket)>) -> Samples {
    let mut samples = Samples::default();
    for (late, ticket) in tickets {
        let (answer, timing) = ticket.wait_timed();
        samples.ended(answer.is_ok(), late + timing.total());
    }
    samples
}
