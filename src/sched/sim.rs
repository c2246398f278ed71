//! A simulator that drives the very policies of the executor with a made-up cost model, in simulated time.
//!
//! It knows servers (replicas that run one batch at a time), a list of arrivals, and how long a batch takes; it keeps no
//! threads and reads no clock, so a million requests take about a second and come out the same each time.

use super::{Costs, Decision, Limits, Policy, View, Waiting};
use crate::clock::{Time, nanos};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::Duration;

/// What is simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scenario {
    /// What bounds a batch.
    pub limits: Limits,
    /// Batches that can run at the same time.
    pub servers: usize,
    /// Most requests that wait; what arrives beyond is refused.
    pub queue_items: usize,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario { limits: Limits::default(), servers: 1, queue_items: 4096 }
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

    /// The mean time from arrival to the beginning of the run, over those answered.
    #[must_use]
    pub fn mean_wait(&self) -> Duration {
        let waits = self.requests.iter().zip(&self.fates).filter_map(|(request, fate)| match fate {
            Fate::Answered { began, .. } => Some(nanos(began.since(request.arrived))),
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

/// Runs `requests` (in order of arrival) through `policy`; a batch of `rows` rows of a group takes `cost(group, rows)`.
#[must_use]
pub fn simulate(
    scenario: &Scenario,
    policy: &mut dyn Policy,
    requests: Vec<Waiting>,
    cost: impl Fn(u64, u32) -> Duration,
) -> Outcome {
    let mut fates = vec![Fate::Refused; requests.len()];
    let costs = Truth(cost);
    let (mut waiting, mut ids): (Vec<Waiting>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut busy: BinaryHeap<Reverse<Time>> = BinaryHeap::new();
    let mut decision = Decision::default();
    let (mut now, mut next, mut batches, mut last_end) = (Time::ZERO, 0, 0, Time::ZERO);
    let mut look_again = Time::NEVER;
    loop {
        while requests.get(next).is_some_and(|request| request.arrived <= now) {
            if waiting.len() < scenario.queue_items {
                waiting.push(requests[next]);
                ids.push(next);
            }
            next += 1;
        }
        while busy.peek().is_some_and(|Reverse(end)| *end <= now) {
            busy.pop();
        }
        look_again = if look_again <= now { Time::NEVER } else { look_again };
        while busy.len() < scenario.servers && !waiting.is_empty() {
            decision.clear();
            let idle = (scenario.servers - busy.len() - 1) as u32;
            let view = View { idle, ..View::new(now, &waiting, &scenario.limits, &costs) };
            policy.decide(&view, &mut decision);
            keep_sensible(&mut decision, waiting.len());
            if decision.run.is_empty() && decision.drop.is_empty() {
                // A policy that waits for nothing would stop the simulation.
                let at_least = now.after(Duration::from_nanos(1));
                look_again = look_again.min(decision.look_again).max(at_least);
                break;
            }
            for &at in &decision.drop {
                fates[ids[at]] = Fate::Expired(now);
            }
            if let Some(&first) = decision.run.first() {
                let rows = decision.run.iter().fold(0_u32, |rows, &at| rows.saturating_add(waiting[at].rows));
                let ended = now.after((costs.0)(waiting[first].group, rows));
                decision.run.iter().for_each(|&at| fates[ids[at]] = Fate::Answered { began: now, ended, rows });
                busy.push(Reverse(ended));
                last_end = last_end.max(ended);
                batches += 1;
            }
            remove(&mut waiting, &mut ids, &decision);
        }
        let arrival = requests.get(next).map_or(Time::NEVER, |request| request.arrived);
        let freed = busy.peek().map_or(Time::NEVER, |Reverse(end)| *end);
        let retry = if busy.len() < scenario.servers && !waiting.is_empty() { look_again } else { Time::NEVER };
        now = arrival.min(freed).min(retry);
        if now == Time::NEVER {
            return Outcome { requests, fates, ended: last_end, batches };
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
