//! A hundred equal tasks at once: one by one by one replica and by five, in batches, split over the replicas, balanced.

use onrush::balance::{Balancer, LeastLoaded, Load};
use onrush::clock::Time;
use onrush::exec::{Batch, BatchRunner, Executor, SubmitOptions};
use onrush::sched::sim::{Fate, Scenario, simulate};
use onrush::sched::{FirstCome, Limits, Waiting};
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

const TASKS: usize = 100;
const REPLICAS: usize = 5;
const CAP: u32 = 32;
/// The part of a lone task's time that a batch pays once.
const FIXED: f64 = 0.6;

#[derive(Debug, Serialize)]
pub(crate) struct Step {
    name: &'static str,
    mean_wait_s: f64,
    throughput_per_s: f64,
    real_mean_wait_s: Option<f64>,
    real_throughput_per_s: Option<f64>,
}

/// How the tasks are served.
struct Setting {
    name: &'static str,
    cap: u32,
    /// Where there are several queues: which one each task is bound to when it arrives.
    queues: Vec<Vec<usize>>,
    /// Replicas that serve each queue.
    replicas: usize,
    spread: bool,
}

fn cost(task_ms: f64, rows: u32) -> Duration {
    Duration::from_secs_f64(task_ms / 1e3 * (FIXED + (1.0 - FIXED) * f64::from(rows)))
}

fn settings() -> Vec<Setting> {
    let all = || vec![(0..TASKS).collect::<Vec<_>>()];
    let mut random = fastrand::Rng::with_seed(7);
    let mut bound = vec![Vec::new(); REPLICAS];
    (0..TASKS).for_each(|task| bound[random.usize(0..REPLICAS)].push(task));
    let mut balancer = LeastLoaded;
    let mut even = vec![Vec::new(); REPLICAS];
    let mut loads: Vec<Load> = (0..REPLICAS as u64).map(Load::idle).collect();
    for task in 0..TASKS {
        let chosen = balancer.choose(0, &loads);
        loads[chosen].requests += 1;
        even[chosen].push(task);
    }
    vec![
        Setting { name: "one replica, one by one", cap: 1, queues: all(), replicas: 1, spread: false },
        Setting { name: "five replicas, one by one", cap: 1, queues: all(), replicas: REPLICAS, spread: false },
        Setting { name: "one replica, batching", cap: CAP, queues: all(), replicas: 1, spread: false },
        Setting { name: "and splitting over five, at random", cap: CAP, queues: bound, replicas: 1, spread: false },
        Setting { name: "and balancing at arrival", cap: CAP, queues: even, replicas: 1, spread: false },
        Setting {
            name: "and one queue, bound late, spread",
            cap: CAP,
            queues: all(),
            replicas: REPLICAS,
            spread: true,
        },
    ]
}

impl Setting {
    /// The mean wait until a run begins, and the time until the last has ended.
    fn simulated(&self, task_ms: f64) -> (f64, f64) {
        let (mut waits, mut end) = (0.0, 0.0_f64);
        for queue in &self.queues {
            let mut limits = Limits::default();
            (limits.max_batch_size, limits.spread) = (self.cap, self.spread);
            let mut scenario = Scenario::default();
            (scenario.limits, scenario.servers) = (limits, self.replicas);
            let tasks = vec![Waiting::at(Time::ZERO); queue.len()];
            let outcome = simulate(&scenario, &mut FirstCome, tasks, |_, rows| cost(task_ms, rows));
            for fate in &outcome.fates {
                if let Fate::Answered { began, .. } = fate {
                    waits += began.as_nanos() as f64 / 1e9;
                }
            }
            end = end.max(outcome.ended.as_nanos() as f64 / 1e9);
        }
        (waits / TASKS as f64, end)
    }

    /// The same through executors whose runs sleep.
    fn real(&self, task_ms: f64) -> onrush::Result<(f64, f64)> {
        let build = |_: &Vec<usize>| {
            let builder = Executor::builder(Sleeper { task_ms }).max_batch_size(self.cap).workers(self.replicas);
            builder.spread(self.spread).run_inline(false).build()
        };
        let executors = self.queues.iter().map(build).collect::<onrush::Result<Vec<_>>>()?;
        let start = Instant::now();
        let mut groups = Vec::new();
        for (executor, queue) in executors.iter().zip(&self.queues) {
            groups.push(executor.submit_many(queue.clone(), SubmitOptions::new()).map_err(onrush::Error::from)?);
        }
        let mut waits = 0.0;
        for ticket in groups.into_iter().flat_map(|group| group.into_tickets()) {
            // Waiting with a timeout does not lend this thread, so that only the replicas run.
            while !ticket.is_done() {
                std::thread::sleep(Duration::from_micros(200));
            }
            waits += ticket.wait_timed().1.queued.as_secs_f64();
        }
        Ok((waits / TASKS as f64, start.elapsed().as_secs_f64()))
    }
}

/// Takes as long as a batch would, and no processor.
struct Sleeper {
    task_ms: f64,
}

impl BatchRunner for Sleeper {
    type Request = usize;
    type Response = usize;
    type Scratch = ();

    fn scratch(&self) {}

    fn run(&self, _: &mut (), batch: &mut Batch<'_, usize, usize>) -> onrush::Result<()> {
        std::thread::sleep(cost(self.task_ms, batch.rows()));
        for at in 0..batch.len() {
            let task = *batch.request(at);
            batch.answer(at, Ok(task));
        }
        Ok(())
    }
}

pub(crate) fn steps(task_ms: f64, real: bool) -> onrush::Result<Vec<Step>> {
    let step = |setting: Setting| {
        let (mean_wait_s, end) = setting.simulated(task_ms);
        let real = if real { Some(setting.real(task_ms)?) } else { None };
        Ok(Step {
            name: setting.name,
            mean_wait_s,
            throughput_per_s: TASKS as f64 / end,
            real_mean_wait_s: real.map(|(wait, _)| wait),
            real_throughput_per_s: real.map(|(_, end)| TASKS as f64 / end),
        })
    };
    settings().into_iter().map(step).collect()
}

pub(crate) fn table(steps: &[Step]) -> String {
    let mut text = format!("{:<36} {:>10} {:>9} {:>12} {:>10}\n", "", "mean wait", "tasks/s", "real wait", "tasks/s");
    for step in steps {
        let Step { name, mean_wait_s, throughput_per_s, .. } = step;
        let _ = write!(text, "{name:<36} {mean_wait_s:>8.3} s {throughput_per_s:>9.1}");
        if let (Some(wait), Some(throughput)) = (step.real_mean_wait_s, step.real_throughput_per_s) {
            let _ = write!(text, " {wait:>10.3} s {throughput:>10.1}");
        }
        text.push('\n');
    }
    text
}
