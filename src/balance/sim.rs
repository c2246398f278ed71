//! A simulator of replicas with queues of their own, to compare balancers in simulated time.
//!
//! Here a request is bound to its replica when it arrives, as it is between machines or devices; so a bad choice cannot
//! be mended later. It keeps no threads and reads no clock: a million requests take about a second and come out the same
//! each time. Batching is left to the simulator in `sched`.

use super::{Balancer, Load};
use crate::clock::{Time, nanos};
use std::collections::VecDeque;
use std::time::Duration;

/// The replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// One entry for each replica: how fast it is, 1 being what the costs are stated for.
    pub speeds: Vec<f64>,
    /// What a request takes more on a replica that does not hold its group's plan warm.
    pub cold: Duration,
    /// Groups that a replica keeps warm; the one used longest ago makes room.
    pub warm_groups: usize,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it comes; in order.
    pub at: Time,
    /// What plan it needs.
    pub group: u64,
    /// How long it runs at speed 1, warm.
    pub cost: Duration,
}

/// What became of all requests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// From arrival to the beginning of the run, of each request.
    pub waits: Vec<Duration>,
    /// The replica of each request.
    pub replicas: Vec<u32>,
    /// Requests that found their plan cold.
    pub cold_starts: usize,
    /// When the last one ended.
    pub ended: Time,
}

impl Outcome {
    /// The mean wait.
    #[must_use]
    pub fn mean_wait(&self) -> Duration {
        let sum: u128 = self.waits.iter().map(Duration::as_nanos).sum();
        Duration::from_nanos((sum / self.waits.len().max(1) as u128) as u64)
    }

    /// The wait that a share `q` (0 to 1) of all requests do not exceed.
    #[must_use]
    pub fn wait_quantile(&self, q: f64) -> Duration {
        let mut sorted = self.waits.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * q.clamp(0.0, 1.0)) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Requests per second of simulated time.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.waits.len() as f64 / (self.ended.as_nanos().max(1) as f64 / 1e9)
    }
}

#[derive(Debug, Default)]
struct Replica {
    free_at: Time,
    ends: VecDeque<Time>,
    /// The latest last.
    warm: VecDeque<u64>,
}

impl Replica {
    fn load(&mut self, id: usize, arrival: &Arrival) -> Load {
        while self.ends.front().is_some_and(|end| *end <= arrival.at) {
            self.ends.pop_front();
        }
        Load {
            id: id as u64,
            work: self.free_at.since(arrival.at),
            requests: self.ends.len() as u32,
            warm: self.warm.contains(&arrival.group),
        }
    }

    /// Makes the group the latest; whether it was cold.
    fn touch(&mut self, group: u64, keep: usize) -> bool {
        let found = self.warm.iter().position(|&warm| warm == group);
        if let Some(at) = found {
            self.warm.remove(at);
        }
        self.warm.push_back(group);
        while self.warm.len() > keep.max(1) {
            self.warm.pop_front();
        }
        found.is_none()
    }
}

/// Runs `arrivals` (in order of time) over the replicas; each goes where `balancer` says when it comes.
#[must_use]
pub fn simulate(scenario: &Scenario, balancer: &mut dyn Balancer, arrivals: &[Arrival]) -> Outcome {
    let count = scenario.speeds.len();
    let mut replicas: Vec<Replica> = (0..count).map(|_| Replica::default()).collect();
    let mut outcome =
        Outcome { waits: Vec::with_capacity(arrivals.len()), replicas: Vec::new(), cold_starts: 0, ended: Time::ZERO };
    let mut loads = Vec::with_capacity(count);
    for arrival in arrivals {
        loads.clear();
        loads.extend(replicas.iter_mut().enumerate().map(|(id, replica)| replica.load(id, arrival)));
        if loads.is_empty() {
            break;
        }
        let chosen = balancer.choose(arrival.group, &loads) % count;
        let (replica, speed) = (&mut replicas[chosen], scenario.speeds[chosen]);
        let mut cost = nanos(arrival.cost);
        if replica.touch(arrival.group, scenario.warm_groups) {
            outcome.cold_starts += 1;
            cost = cost.saturating_add(nanos(scenario.cold));
        }
        let began = replica.free_at.max(arrival.at);
        replica.free_at = began.after(Duration::from_nanos((cost as f64 / speed.max(f64::MIN_POSITIVE)) as u64));
        replica.ends.push_back(replica.free_at);
        outcome.waits.push(began.since(arrival.at));
        outcome.replicas.push(chosen as u32);
        outcome.ended = outcome.ended.max(replica.free_at);
    }
    outcome
}
