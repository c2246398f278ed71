//! Steady load: the policies, the balancers and the settings of a batch, each over many requests.

use onrush::balance::{Balancer, LeastLoaded, Locality, RoundRobin, TwoChoices, sim as replicas};
use onrush::clock::Time;
use onrush::sched::sim::{Poisson, Preemption, Scenario, simulate};
use onrush::sched::{
    EarliestDeadline, FairShare, FirstCome, Limits, Policy, Precedence, ShortestJob, StrictPriority, Waiting,
};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

const SERVERS: usize = 2;

#[derive(Debug, Serialize)]
pub(crate) struct Record {
    name: String,
    load: f64,
    pub(crate) requests: usize,
    mean_wait_us: f64,
    p50_us: f64,
    p99_us: f64,
    answered_per_s: f64,
    /// The share of all requests that was answered before its deadline.
    in_time: f64,
    mean_batch: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Balanced {
    name: String,
    pub(crate) requests: usize,
    mean_wait_us: f64,
    p99_wait_us: f64,
    cold_starts: usize,
}

/// A batch of short jobs (group 0) or of jobs twenty times as long.
fn cost(group: u64, rows: u32) -> Duration {
    let nanos = 20_000 + 5_000 * u64::from(rows);
    Duration::from_nanos(if group == 0 { nanos } else { 20 * nanos })
}

/// Requests per second that the servers can answer in full batches of `cap`.
fn capacity(cap: u32, long_share: f64) -> f64 {
    let each = |group| cost(group, cap).as_secs_f64() / f64::from(cap);
    SERVERS as f64 / (each(0) * (1.0 - long_share) + each(1) * long_share)
}

fn arrivals(requests: usize, rate: f64, long_share: f64) -> Vec<Waiting> {
    let (mut arrivals, mut draw) = (Poisson::new(rate, 1), Poisson::new(1.0, 2));
    let mut one = || {
        let mut request = Waiting::at(arrivals.next().unwrap_or(Time::NEVER));
        request.group = u64::from(draw.uniform() < long_share);
        request.priority = (draw.uniform() * 3.0) as u8;
        request.tenant = (draw.uniform() * 4.0) as u64;
        request.deadline = request.arrived.after(cost(request.group, 16) * 20);
        request
    };
    (0..requests).map(|_| one()).collect()
}

fn on_servers(limits: Limits) -> Scenario {
    let mut scenario = Scenario::default();
    (scenario.limits, scenario.servers) = (limits, SERVERS);
    scenario
}

fn record(name: String, load: f64, scenario: &Scenario, policy: &mut dyn Policy, requests: Vec<Waiting>) -> Record {
    let count = requests.len();
    let outcome = simulate(scenario, policy, requests, cost);
    let latencies = outcome.latencies(|_| true);
    let at = |q: f64| {
        let index = (latencies.len() as f64 * q) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Record {
        name,
        load,
        requests: count,
        mean_wait_us: outcome.mean_wait().as_secs_f64() * 1e6,
        p50_us: at(0.5),
        p99_us: at(0.99),
        answered_per_s: outcome.throughput(),
        in_time: outcome.in_time() as f64 / count.max(1) as f64,
        mean_batch: latencies.len() as f64 / outcome.batches.max(1) as f64,
    }
}

/// Every policy at 80 and at 120 % of what the servers can do, and the shortest job first with interruptions.
pub(crate) fn policies(requests: usize) -> Vec<Record> {
    let ms = Duration::from_millis;
    let mut records = Vec::new();
    for load in [0.8, 1.2] {
        let policies: [Box<dyn Policy>; 5] = [
            Box::new(FirstCome),
            Box::new(StrictPriority::new(ms(50))),
            Box::new(ShortestJob::new(ms(50))),
            Box::new(EarliestDeadline::new()),
            Box::new(FairShare::new(ms(1))),
        ];
        for mut policy in policies {
            let mut limits = Limits::default();
            limits.max_batch_size = 16;
            let requests = arrivals(requests / 12, load * capacity(16, 0.1), 0.1);
            let mut scenario = on_servers(limits);
            records.push(record(policy.name().to_owned(), load, &scenario, &mut policy, requests.clone()));
            if policy.precedence() == Precedence::Cost {
                scenario.preemption = Some(Preemption { gain: 16.0, most: 64 });
                let name = format!("{}, interrupting", policy.name());
                records.push(record(name, load, &scenario, &mut policy, requests));
            }
        }
    }
    records
}

/// Batch caps, and delays at the largest one, at 60 % of what full batches of 64 can do.
pub(crate) fn settings(requests: usize) -> Vec<Record> {
    let rate = 0.6 * capacity(64, 0.0);
    let caps = [8, 16, 32, 64].map(|cap| (cap, 0));
    let delays = [50, 100, 200].map(|delay| (64, delay));
    let one = |(cap, delay): (u32, u64)| {
        let mut limits = Limits::default();
        (limits.max_batch_size, limits.max_queue_delay) = (cap, Duration::from_micros(delay));
        let requests = arrivals(requests / 7, rate, 0.0);
        record(format!("cap {cap}, delay {delay} us"), 0.6, &on_servers(limits), &mut FirstCome, requests)
    };
    caps.into_iter().chain(delays).map(one).collect()
}

/// Every balancer over replicas with queues of their own.
pub(crate) fn balancers(requests: usize) -> Vec<Balanced> {
    let scenario =
        replicas::Scenario { speeds: vec![1.0, 1.0, 1.0, 0.5], cold: Duration::from_micros(300), warm_groups: 6 };
    let (mut arrivals, mut draw) = (Poisson::new(0.6 * 3.5 / 200e-6, 3), Poisson::new(1.0, 4));
    let mut one = || {
        let long = draw.uniform() < 0.05;
        replicas::Arrival {
            at: arrivals.next().unwrap_or(Time::NEVER),
            group: (draw.uniform() * 12.0) as u64,
            cost: Duration::from_micros(if long { 2000 } else { 105 }),
        }
    };
    let requests: Vec<_> = (0..requests / 4).map(|_| one()).collect();
    let balancers: [Box<dyn Balancer>; 4] = [
        Box::new(RoundRobin::new()),
        Box::new(TwoChoices::new(1)),
        Box::new(LeastLoaded),
        Box::new(Locality::new(Duration::from_micros(600))),
    ];
    let record = |mut balancer: Box<dyn Balancer>| {
        let outcome = replicas::simulate(&scenario, &mut balancer, &requests);
        Balanced {
            name: balancer.name().to_owned(),
            requests: requests.len(),
            mean_wait_us: outcome.mean_wait().as_secs_f64() * 1e6,
            p99_wait_us: outcome.wait_quantile(0.99).as_secs_f64() * 1e6,
            cold_starts: outcome.cold_starts,
        }
    };
    balancers.into_iter().map(record).collect()
}

pub(crate) fn policy_table(records: &[Record]) -> String {
    let mut text = format!(
        "{:<26} {:>5} {:>12} {:>12} {:>12} {:>12} {:>8} {:>7}\n",
        "", "load", "mean wait us", "p50 us", "p99 us", "answers/s", "in time", "batch"
    );
    for record in records {
        let Record { name, load, mean_wait_us, p50_us, p99_us, answered_per_s, mean_batch, .. } = record;
        let in_time = record.in_time * 100.0;
        let _ = writeln!(
            text,
            "{name:<26} {load:>5.2} {mean_wait_us:>12.0} {p50_us:>12.0} {p99_us:>12.0} {answered_per_s:>12.0} \
             {in_time:>6.1} % {mean_batch:>7.2}"
        );
    }
    text
}

pub(crate) fn balancer_table(records: &[Balanced]) -> String {
    let mut text = format!("{:<22} {:>12} {:>12} {:>12}\n", "", "mean wait us", "p99 wait us", "cold starts");
    for Balanced { name, mean_wait_us, p99_wait_us, cold_starts, .. } in records {
        let _ = writeln!(text, "{name:<22} {mean_wait_us:>12.0} {p99_wait_us:>12.0} {cold_starts:>12}");
    }
    text
}
