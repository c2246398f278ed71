//! A simulator that drives the very policies of the executor with a made-up cost model, in simulated time.
//!
//! It knows servers (replicas that run one batch at a time), a list of arrivals, and how long a batch takes; it keeps no
//! threads and reads no clock, so a million requests take about a second and come out the same each time.

use super::{Costs, Decision, Limits, Policy, Precedence, View, Waiting};
use crate::clock::{Time, nanos};
use std::collections::HashSet;
use std::time::Duration;

/// When a request interrupts a run, as the executor's builder has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preemption {
    /// What is left of the run must take this many times as long as the request.
    pub gain: f64,
    /// How often one run may be interrupted.
    pub most: u32,
}

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scenario {
    /// What bounds a batch.
    pub limits: Limits,
    /// Batches that can run at the same time.
    pub servers: usize,
    /// Most requests that wait; what arrives beyond is refused.
    pub queue_items: usize,
    /// Whether more urgent requests interrupt runs, or shorter ones where the policy goes by costs.
    pub preemption: Option<Preemption>,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario { limits: Limits::default(), servers: 1, queue_items: 4096, preemption: None }
    }
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It rode in a batch of `rows` rows that began and ended at these times.
    Answered {
        /// When its batch began.
        began: Time,
        /// When its batch ended.
        ended: Time,
        /// Rows of its batch.
        rows: u32,
        /// For how long its batch was interrupted in between.
        parked: Duration,
    },
    /// It was given up at this time.
    Expired(Time),
    /// The queue was full when it came.
    Refused,
}

/// The fates of all requests, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What arrived.
    pub requests: Vec<Waiting>,
    /// What became of it.
    pub fates: Vec<Fate>,
    /// When the last batch ended.
    pub ended: Time,
    /// Batches that ran.
    pub batches: u64,
}

impl Outcome {
    /// Latencies from arrival to answer, sorted, of the answered requests that `select` names.
    #[must_use]
    pub fn latencies(&self, select: impl Fn(&Waiting) -> bool) -> Vec<Duration> {
        let answered = self.requests.iter().zip(&self.fates).filter(|(request, _)| select(request));
        let mut latencies: Vec<_> = answered
            .filter_map(|(request, fate)| match fate {
                Fate::Answered { ended, .. } => Some(ended.since(request.arrived)),
                _ => None,
            })
            .collect();
        latencies.sort_unstable();
        latencies
    }

    /// The mean time from arrival to the beginning of the run, and interrupted in it, over those answered.
    #[must_use]
    pub fn mean_wait(&self) -> Duration {
        let waits = self.requests.iter().zip(&self.fates).filter_map(|(request, fate)| match fate {
            Fate::Answered { began, parked, .. } => Some(nanos(began.since(request.arrived) + *parked)),
            _ => None,
        });
        let (sum, count) = waits.fold((0_u128, 0_u128), |(sum, count), wait| (sum + u128::from(wait), count + 1));
        Duration::from_nanos(sum.checked_div(count).unwrap_or(0) as u64)
    }

    /// Answered requests that met their deadline.
    #[must_use]
    pub fn in_time(&self) -> usize {
        let met = |(request, fate): (&Waiting, &Fate)| match fate {
            Fate::Answered { ended, .. } => *ended <= request.deadline,
            _ => false,
        };
        self.requests.iter().zip(&self.fates).filter(|&pair| met(pair)).count()
    }

    /// Answered requests per second of simulated time.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        let answered = self.fates.iter().filter(|fate| matches!(fate, Fate::Answered { .. })).count();
        answered as f64 / (self.ended.as_nanos().max(1) as f64 / 1e9)
    }
}

struct Truth<F>(F);

impl<F: Fn(u64, u32) -> Duration> Costs for Truth<F> {
    fn predict(&self, group: u64, rows: u32) -> Option<Duration> {
        Some((self.0)(group, rows))
    }
}

/// A batch that runs, or is parked while another one runs in its place.
struct Run {
    ids: Vec<usize>,
    rows: u32,
    began: Time,
    ends: Time,
    parked: Duration,
    interrupted: Option<Time>,
    times: u32,
    urgency: u64,
}

struct Simulation<'a, F> {
    scenario: &'a Scenario,
    policy: &'a mut dyn Policy,
    costs: Truth<F>,
    now: Time,
    waiting: Vec<Waiting>,
    /// Which requests wait, in step with `waiting`.
    ids: Vec<usize>,
    fates: Vec<Fate>,
    /// What runs on each server; where there are two, the first is interrupted by the second.
    servers: Vec<Vec<Run>>,
    batches: u64,
    last_end: Time,
    look_again: Time,
}

/// Runs `requests` (in order of arrival) through `policy`; a batch of `rows` rows of a group takes `cost(group, rows)`.
#[must_use]
pub fn simulate(
    scenario: &Scenario,
    policy: &mut dyn Policy,
    requests: Vec<Waiting>,
    cost: impl Fn(u64, u32) -> Duration,
) -> Outcome {
    let mut sim = Simulation {
        scenario,
        policy,
        costs: Truth(cost),
        now: Time::ZERO,
        waiting: Vec::new(),
        ids: Vec::new(),
        fates: vec![Fate::Refused; requests.len()],
        servers: (0..scenario.servers).map(|_| Vec::new()).collect(),
        batches: 0,
        last_end: Time::ZERO,
        look_again: Time::NEVER,
    };
    let (mut decision, mut next) = (Decision::default(), 0);
    loop {
        while let Some(request) = requests.get(next).filter(|request| request.arrived <= sim.now) {
            if sim.waiting.len() < scenario.queue_items {
                sim.waiting.push(*request);
                sim.ids.push(next);
            }
            next += 1;
        }
        sim.end_runs();
        sim.fill_servers(&mut decision);
        sim.interrupt(&mut decision);
        let arrival = requests.get(next).map_or(Time::NEVER, |request| request.arrived);
        sim.now = arrival.min(sim.next_end()).min(sim.retry());
        if sim.now == Time::NEVER {
            let Simulation { fates, last_end: ended, batches, .. } = sim;
            return Outcome { requests, fates, ended, batches };
        }
    }
}

impl<F: Fn(u64, u32) -> Duration> Simulation<'_, F> {
    fn free_server(&self) -> Option<usize> {
        self.servers.iter().position(Vec::is_empty)
    }

    /// When the first of what runs ends.
    fn next_end(&self) -> Time {
        self.servers.iter().filter_map(|runs| runs.last()).map(|run| run.ends).min().unwrap_or(Time::NEVER)
    }

    /// When the policy wants to look again, if it has a server to look for.
    fn retry(&self) -> Time {
        let looks = self.free_server().is_some() && !self.waiting.is_empty();
        if looks { self.look_again } else { Time::NEVER }
    }

    /// Ends what is over by now, and lets what it interrupted go on.
    fn end_runs(&mut self) {
        let now = self.now;
        for runs in &mut self.servers {
            while let Some(run) = runs.pop_if(|run| run.ends <= now) {
                let Run { began, ends: ended, rows, parked, .. } = run;
                run.ids.iter().for_each(|&id| self.fates[id] = Fate::Answered { began, ended, rows, parked });
                self.last_end = self.last_end.max(ended);
                if let Some(run) = runs.last_mut()
                    && let Some(since) = run.interrupted.take()
                {
                    let time = now.since(since);
                    (run.parked, run.ends) = (run.parked + time, run.ends.after(time));
                }
            }
        }
    }

    /// Forms batches as long as there are servers for them.
    fn fill_servers(&mut self, decision: &mut Decision) {
        self.look_again = if self.look_again <= self.now { Time::NEVER } else { self.look_again };
        while let Some(server) = self.free_server()
            && !self.waiting.is_empty()
        {
            decision.clear();
            let idle = self.servers.iter().filter(|runs| runs.is_empty()).count() as u32 - 1;
            let view = View { idle, ..View::new(self.now, &self.waiting, &self.scenario.limits, &self.costs) };
            self.policy.decide(&view, decision);
            keep_sensible(decision, self.waiting.len());
            if decision.run.is_empty() && decision.drop.is_empty() {
                // A policy that waits for nothing would stop the simulation.
                let at_least = self.now.after(Duration::from_nanos(1));
                self.look_again = self.look_again.min(decision.look_again).max(at_least);
                return;
            }
            self.apply(decision, server);
        }
    }

    /// Runs and drops what was decided.
    fn apply(&mut self, decision: &Decision, server: usize) {
        decision.drop.iter().for_each(|&at| self.fates[self.ids[at]] = Fate::Expired(self.now));
        if let Some(&first) = decision.run.first() {
            let rows = decision.run.iter().fold(0_u32, |rows, &at| rows.saturating_add(self.waiting[at].rows));
            let time = (self.costs.0)(self.waiting[first].group, rows);
            let urgency = decision.run.iter().map(|&at| self.urgency(&self.waiting[at], Some(time))).min();
            self.servers[server].push(Run {
                ids: decision.run.iter().map(|&at| self.ids[at]).collect(),
                rows,
                began: self.now,
                ends: self.now.after(time),
                parked: Duration::ZERO,
                interrupted: None,
                times: 0,
                urgency: urgency.unwrap_or(0),
            });
            self.batches += 1;
        }
        remove(&mut self.waiting, &mut self.ids, decision);
    }

    /// A lower number interrupts a higher one: the class, or the order of length where the policy goes by costs.
    fn urgency(&self, request: &Waiting, time: Option<Duration>) -> u64 {
        let time = || time.unwrap_or_else(|| (self.costs.0)(request.group, request.rows));
        match self.policy.precedence() {
            Precedence::Class => request.priority.into(),
            Precedence::Cost => nanos(time()).max(1).ilog2().into(),
            _ => 0,
        }
    }

    /// Where all servers are taken, lets what is more urgent run in the place of what is the least.
    fn interrupt(&mut self, decision: &mut Decision) {
        let Some(Preemption { gain, most }) = self.scenario.preemption else { return };
        if self.free_server().is_some() {
            return;
        }
        let mut least_urgent: Vec<usize> = (0..self.servers.len()).collect();
        least_urgent.sort_by_key(|&server| std::cmp::Reverse(self.servers[server].first().map(|run| run.urgency)));
        for server in least_urgent {
            while let [run] = &self.servers[server][..]
                && run.times < most
            {
                let (left, bound) = (run.ends.since(self.now), run.urgency);
                let urgent = |at: &usize| self.urgency(&self.waiting[*at], None) < bound;
                let positions: Vec<usize> = (0..self.waiting.len()).filter(urgent).collect();
                let waiting: Vec<Waiting> = positions.iter().map(|&at| self.waiting[at]).collect();
                let worth = |first: &Waiting| {
                    let own = (self.costs.0)(first.group, first.rows);
                    left.as_secs_f64() >= gain * own.as_secs_f64()
                };
                if !waiting.first().is_some_and(worth) {
                    break;
                }
                decision.clear();
                let limits = Limits { max_queue_delay: Duration::ZERO, ..self.scenario.limits.clone() };
                self.policy.decide(&View::new(self.now, &waiting, &limits, &self.costs), decision);
                keep_sensible(decision, waiting.len());
                decision.run.iter_mut().chain(&mut decision.drop).for_each(|at| *at = positions[*at]);
                if decision.run.is_empty() {
                    break;
                }
                if let Some(run) = self.servers[server].last_mut() {
                    (run.interrupted, run.times) = (Some(self.now), run.times + 1);
                }
                self.apply(decision, server);
            }
        }
    }
}

/// Positions that are not there are no news, and nobody is served twice: as in the executor, whatever a policy says.
fn keep_sensible(decision: &mut Decision, waiting: usize) {
    let mut named = HashSet::new();
    decision.drop.retain(|&at| at < waiting && named.insert(at));
    decision.run.retain(|&at| at < waiting && named.insert(at));
}

fn remove(waiting: &mut Vec<Waiting>, ids: &mut Vec<usize>, decision: &Decision) {
    let mut gone: Vec<usize> = decision.run.iter().chain(&decision.drop).copied().collect();
    gone.sort_unstable();
    let mut gone = gone.into_iter().peekable();
    let mut kept = 0;
    for at in 0..waiting.len() {
        if gone.next_if_eq(&at).is_none() {
            (waiting[kept], ids[kept]) = (waiting[at], ids[at]);
            kept += 1;
        }
    }
    waiting.truncate(kept);
    ids.truncate(kept);
}

/// Exponentially distributed gaps between arrivals, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Poisson {
    mean_gap: f64,
    state: u64,
    now: f64,
}

impl Poisson {
    /// `rate` arrivals per second on average.
    #[must_use]
    pub fn new(rate: f64, seed: u64) -> Self {
        Poisson { mean_gap: 1e9 / rate.max(f64::MIN_POSITIVE), state: seed, now: 0.0 }
    }

    /// A number that is evenly distributed over 0 to 1 (splitmix64).
    pub fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Iterator for Poisson {
    type Item = Time;

    fn next(&mut self) -> Option<Time> {
        self.now -= self.mean_gap * (1.0 - self.uniform()).ln();
        Some(Time::from_nanos(self.now as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::super::FirstCome;
    use super::*;

    #[test]
    fn a_hundred_tasks_on_five_servers_in_batches() {
        let requests = vec![Waiting::at(Time::ZERO); 100];
        let limits = Limits { max_batch_size: 4, ..Limits::default() };
        let scenario = Scenario { limits, servers: 5, ..Scenario::default() };
        let outcome = simulate(&scenario, &mut FirstCome, requests, |_, _| Duration::from_secs(1));
        assert_eq!((outcome.batches, outcome.ended), (25, Time::from_nanos(5_000_000_000)));
        assert_eq!(outcome.mean_wait(), Duration::from_secs(2));
        assert_eq!(outcome.throughput(), 20.0);
    }

    #[test]
    fn arrivals_follow_their_rate_and_their_seed() {
        let last = Poisson::new(1000.0, 1).nth(9999).unwrap().as_nanos() as f64 / 1e9;
        assert!((9.5..10.5).contains(&last), "{last}");
        assert_eq!(Poisson::new(5.0, 3).nth(9), Poisson::new(5.0, 3).nth(9));
    }

    /// Names the first, and what is not there.
    struct Nonsense;

    impl Policy for Nonsense {
        fn name(&self) -> &str {
            "nonsense"
        }

        fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
            decision.drop.extend([1, 1, usize::MAX]);
            decision.run.extend([view.waiting.len(), 0, 0, 1]);
        }
    }

    #[test]
    fn a_policy_that_talks_nonsense_serves_nobody_twice() {
        let requests = vec![Waiting::at(Time::ZERO); 10];
        let outcome = simulate(&Scenario::default(), &mut Nonsense, requests, |_, _| Duration::from_secs(1));
        let answered = outcome.fates.iter().filter(|fate| matches!(fate, Fate::Answered { .. })).count();
        assert_eq!((answered, outcome.batches), (5, 5));
        assert!(!outcome.fates.contains(&Fate::Refused), "and the others are given up");
    }

    #[test]
    fn a_full_queue_refuses() {
        let scenario = Scenario { queue_items: 3, ..Scenario::default() };
        let outcome =
            simulate(&scenario, &mut FirstCome, vec![Waiting::at(Time::ZERO); 5], |_, _| Duration::from_secs(1));
        assert_eq!(outcome.fates.iter().filter(|fate| **fate == Fate::Refused).count(), 2);
    }
}
