//! Fair share between tenants, in compute time, by deficit round robin.
//!
//! M. Shreedhar and G. Varghese, "Efficient Fair Queueing using Deficit Round Robin", SIGCOMM 1995; a request's size is
//! here the time that it is predicted to take.

use super::{Decision, Policy, Precedence, View};
use crate::clock::{Time, nanos};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// Compute time that the tenant may use before it is another's turn, in nanoseconds.
    deficit: u64,
    /// Whether it got its quantum for the turn that it has now.
    served: bool,
}

/// Who has how much left, and whose turn it is.
#[derive(Debug, Clone, Default)]
struct Round {
    accounts: HashMap<u64, Account>,
    ring: VecDeque<u64>,
}

/// Rounds that are kept; models may come and go.
const ROUNDS: usize = 64;

/// Each tenant gets the same compute time, or a share by its weight, whatever it asks for; where several models are served, of
/// the time of each.
///
/// Tenants take turns; at its turn a tenant's account grows by a quantum, and its requests run, in order of arrival, as
/// long as the account covers their cost. A tenant with nothing waiting keeps nothing for later. What would be answered too late
/// even if it ran now is dropped, so that a tenant that asks for too much has its share in answers that are of use.
#[derive(Debug, Clone)]
pub struct FairShare {
    quantum: u64,
    weights: HashMap<u64, u32>,
    /// By the model of the oldest request: a batch is of one model, and where models take turns one of them is seen at a time, which
    /// must not be taken for the end of the others' backlog.
    rounds: HashMap<u32, Round>,
}

/// What waits, by tenant, and what of it was offered for the batch.
struct Turns<'a> {
    view: &'a View<'a>,
    round: &'a mut Round,
    weights: &'a HashMap<u64, u32>,
    quantum: u64,
    waiting: HashMap<u64, VecDeque<usize>>,
    offered: Vec<(usize, u64, u64)>,
}

impl FairShare {
    /// `quantum` is the compute time of one turn: small ones are fairer, large ones let a tenant's requests ride together.
    #[must_use]
    pub fn new(quantum: Duration) -> Self {
        let quantum = nanos(quantum).max(1);
        FairShare { quantum, weights: HashMap::new(), rounds: HashMap::new() }
    }

    /// Fills the batch by turns.
    fn serve(
        &self,
        round: &mut Round,
        view: &View<'_>,
        waiting: HashMap<u64, VecDeque<usize>>,
        decision: &mut Decision,
    ) {
        let Self { quantum, weights, .. } = self;
        let mut turns = Turns { view, round, weights, quantum: *quantum, waiting, offered: Vec::new() };
        view.form(std::iter::from_fn(|| turns.next()), decision);
        // What was offered and does not ride was not used.
        let offered = turns.offered;
        for (at, tenant, cost) in offered {
            if !decision.run.contains(&at)
                && let Some(account) = round.accounts.get_mut(&tenant)
            {
                account.deficit = account.deficit.saturating_add(cost);
            }
        }
    }

    /// Fills it with what would not be answered too late, and drops the rest.
    fn serve_in_time(
        &self,
        round: &mut Round,
        view: &View<'_>,
        mut waiting: HashMap<u64, VecDeque<usize>>,
        decision: &mut Decision,
    ) {
        if view.waiting.iter().all(|request| request.deadline == Time::NEVER) {
            return self.serve(round, view, waiting, decision);
        }
        loop {
            let before = round.clone();
            self.serve(round, view, waiting.clone(), decision);
            let late: Vec<usize> = view.late(decision).map(|rank| decision.run[rank]).collect();
            if late.is_empty() {
                return;
            }
            // As if they had not been there: others take their places, and the batch is looked at again.
            *round = before;
            decision.run.clear();
            waiting.values_mut().for_each(|queue| queue.retain(|at| !late.contains(at)));
            decision.drop.extend(late);
        }
    }

    /// The tenant's share relative to others; 1 where nothing is said, and at least 1.
    #[must_use]
    pub fn weight(mut self, tenant: u64, weight: u32) -> Self {
        self.weights.insert(tenant, weight.max(1));
        self
    }
}

/// What one request is charged: its part of a full batch, since it will not run alone under load.
fn cost(view: &View<'_>, at: usize) -> u64 {
    let Some(request) = view.waiting.get(at) else { return 1 };
    let full = view.limits.max_batch_size.max(request.rows).max(1);
    let time = view.costs.predict(request.group, full).map_or(u64::from(full) * 1000, nanos);
    (time.saturating_mul(request.rows.into()) / u64::from(full)).max(1)
}

impl Turns<'_> {
    /// The next request by the rules of the round.
    fn next(&mut self) -> Option<usize> {
        let mut passed = 0;
        while let Some(&tenant) = self.round.ring.front() {
            if passed > self.round.ring.len() {
                self.skip_idle_rounds();
                passed = 0;
            }
            passed += 1;
            let Some(&at) = self.waiting.get(&tenant).and_then(VecDeque::front) else {
                // Everything of it was offered; whether its turn is over shows at the next decision.
                if self.waiting.values().all(VecDeque::is_empty) {
                    return None;
                }
                self.pass_turn();
                continue;
            };
            let cost = cost(self.view, at);
            let account = self.round.accounts.entry(tenant).or_default();
            if !account.served {
                let weight = self.weights.get(&tenant).copied().unwrap_or(1);
                account.deficit = account.deficit.saturating_add(self.quantum.saturating_mul(weight.into()));
                account.served = true;
            }
            if account.deficit >= cost {
                account.deficit -= cost;
                self.waiting.get_mut(&tenant)?.pop_front();
                self.offered.push((at, tenant, cost));
                return Some(at);
            }
            self.pass_turn();
        }
        None
    }

    /// After a round in which no account covered a request: grants at once the rounds until one does, but for the last.
    fn skip_idle_rounds(&mut self) {
        let grant = |tenant: &u64| self.quantum.saturating_mul(self.weights.get(tenant).copied().unwrap_or(1).into());
        let missing = self.waiting.iter().filter_map(|(tenant, queue)| {
            let deficit = self.round.accounts.get(tenant)?.deficit;
            Some(cost(self.view, *queue.front()?).saturating_sub(deficit).div_ceil(grant(tenant)))
        });
        let rounds = missing.min().unwrap_or(0).saturating_sub(1);
        for (tenant, _) in self.waiting.iter().filter(|(_, queue)| !queue.is_empty()) {
            if let Some(account) = self.round.accounts.get_mut(tenant) {
                account.deficit = account.deficit.saturating_add(grant(tenant).saturating_mul(rounds));
            }
        }
    }

    fn pass_turn(&mut self) {
        let Round { accounts, ring } = &mut *self.round;
        if let Some(tenant) = ring.pop_front() {
            accounts.entry(tenant).or_default().served = false;
            ring.push_back(tenant);
        }
    }
}

impl Policy for FairShare {
    fn name(&self) -> &str {
        "fair-share"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        let mut waiting: HashMap<u64, VecDeque<usize>> = HashMap::new();
        let mut arrived = Vec::new();
        // Runs of one tenant are found at once, so that a flood costs little.
        let mut rest = view.waiting;
        let mut at = 0;
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|request| request.tenant == first.tenant).count();
            let queue = waiting.entry(first.tenant).or_insert_with(|| {
                arrived.push(first.tenant);
                VecDeque::new()
            });
            queue.extend(at..at + run);
            at += run;
            rest = &rest[run..];
        }
        let model = view.waiting.first().map_or(0, |request| request.model);
        let mut round = self.rounds.remove(&model).unwrap_or_default();
        round.accounts.retain(|tenant, _| waiting.contains_key(tenant));
        round.ring.retain(|tenant| waiting.contains_key(tenant));
        for tenant in arrived {
            if round.accounts.insert(tenant, round.accounts.get(&tenant).copied().unwrap_or_default()).is_none() {
                round.ring.push_back(tenant);
            }
        }
        self.serve_in_time(&mut round, view, waiting, decision);
        if self.rounds.len() >= ROUNDS {
            self.rounds.clear();
        }
        self.rounds.insert(model, round);
    }

    fn precedence(&self) -> Precedence {
        Precedence::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Costs, Limits, Waiting};
    use super::*;

    /// Serves a queue in which each tenant always has `depth` requests waiting; how many of each were run.
    fn serve(policy: &mut FairShare, depths: &[(u64, usize)], decisions: usize, batch: u32) -> HashMap<u64, usize> {
        let limits = Limits { max_batch_size: batch, ..Limits::default() };
        let mut served = HashMap::new();
        let mut decision = Decision::default();
        let waiting: Vec<_> = depths
            .iter()
            .flat_map(|&(tenant, depth)| std::iter::repeat_n(Waiting { tenant, ..Waiting::at(Time::ZERO) }, depth))
            .collect();
        for _ in 0..decisions {
            decision.clear();
            policy.decide(&View::new(Time::ZERO, &waiting, &limits, &()), &mut decision);
            decision.run.iter().for_each(|&at| *served.entry(waiting[at].tenant).or_default() += 1);
        }
        served
    }

    #[test]
    fn a_flood_does_not_take_more_than_its_share() {
        let mut policy = FairShare::new(Duration::from_micros(4));
        let served = serve(&mut policy, &[(7, 500), (8, 50)], 100, 8);
        assert!(served[&7].abs_diff(served[&8]) <= 8, "{served:?}");
    }

    struct PerRow(u64);

    impl Costs for PerRow {
        fn predict(&self, _group: u64, rows: u32) -> Option<Duration> {
            Some(Duration::from_nanos(self.0 * u64::from(rows)))
        }
    }

    #[test]
    fn what_would_end_too_late_leaves_its_place_to_another_of_its_tenant() {
        let request = |&(tenant, deadline)| {
            let deadline = Time::from_nanos(deadline);
            Waiting { tenant, deadline, ..Waiting::at(Time::ZERO) }
        };
        let waiting: Vec<_> =
            [(7, 15), (7, 19), (8, 90), (7, 91), (7, 92), (8, u64::MAX)].iter().map(request).collect();
        let limits = Limits { max_batch_size: 2, ..Limits::default() };
        let (mut policy, mut decision) = (FairShare::new(Duration::from_nanos(10)), Decision::default());
        policy.decide(&View::new(Time::ZERO, &waiting, &limits, &PerRow(10)), &mut decision);
        assert_eq!((decision.drop, decision.run), (vec![0, 1], vec![3, 2]));
        let mut decision = Decision::default();
        policy.decide(&View::new(Time::ZERO, &waiting[..2], &limits, &PerRow(20)), &mut decision);
        assert_eq!((decision.drop.len(), decision.run.len()), (2, 0), "nobody waits for these any more");
    }

    #[test]
    fn shares_follow_the_weights() {
        let mut policy = FairShare::new(Duration::from_micros(2)).weight(7, 3);
        let served = serve(&mut policy, &[(7, 50), (8, 50)], 200, 8);
        let ratio = served[&7] as f64 / served[&8] as f64;
        assert!((2.8..3.2).contains(&ratio), "{served:?}");
    }

    #[test]
    fn a_lone_tenant_gets_full_batches() {
        let mut policy = FairShare::new(Duration::from_micros(1));
        assert_eq!(serve(&mut policy, &[(7, 50)], 10, 8)[&7], 80);
    }
}
