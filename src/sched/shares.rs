//! Shares between models in compute time: whoever has used least of its share is served next.
//!
//! P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996, with a batch for a packet: what a batch costs is
//! known only after it was formed, so it is charged then, and not, as a deficit is, before.

use super::{Decision, Policy, Precedence, View, Waiting};
use crate::clock::nanos;
use std::collections::HashMap;
use std::time::Duration;

/// Lets models take turns by their weights, in predicted compute time; within a model another policy decides.
///
/// A model that has nothing waiting leaves its time to the others and saves nothing up, but what it has used beyond its
/// share it still owes when it comes back.
#[derive(Debug, Clone)]
pub struct Shares<P> {
    inner: P,
    weights: HashMap<u32, u32>,
    /// Compute time that each model has used, divided by its weight, in 1024ths of nanoseconds.
    used: HashMap<u32, u64>,
    /// What the model served last had used when it was: those that come back begin here.
    virtual_time: u64,
    kept: Vec<Waiting>,
    positions: Vec<usize>,
    models: Vec<u32>,
}

impl<P: Policy> Shares<P> {
    /// `inner` decides between the requests of one model.
    #[must_use]
    pub fn new(inner: P) -> Self {
        Shares {
            inner,
            weights: HashMap::new(),
            used: HashMap::new(),
            virtual_time: 0,
            kept: Vec::new(),
            positions: Vec::new(),
            models: Vec::new(),
        }
    }

    /// The share of a model relative to others; 1 where nothing is said, and at least 1.
    #[must_use]
    pub fn weight(mut self, model: u32, weight: u32) -> Self {
        self.weights.insert(model, weight.max(1));
        self
    }

    /// From now on there are these models, each with its weight; what others have used is forgotten.
    pub fn set_weights(&mut self, weights: &[(u32, u32)]) {
        self.weights = weights.iter().map(|&(model, weight)| (model, weight.max(1))).collect();
        self.used.retain(|model, _| self.weights.contains_key(model));
    }

    /// The policy that decides between the requests of one model.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// Puts the models that wait into `self.models`, the one that has used least first.
    fn rank(&mut self, waiting: &[Waiting]) {
        self.models.clear();
        let mut rest = waiting;
        while let Some(first) = rest.first() {
            if !self.models.contains(&first.model) {
                self.models.push(first.model);
            }
            rest = &rest[rest.iter().take_while(|request| request.model == first.model).count()..];
        }
        for model in &self.models {
            let used = self.used.entry(*model).or_default();
            *used = (*used).max(self.virtual_time);
        }
        // Models are few. Among equals the one whose request came first stays first.
        for end in 1..self.models.len() {
            let mut at = end;
            while at > 0 && self.used.get(&self.models[at]) < self.used.get(&self.models[at - 1]) {
                self.models.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    fn charge(&mut self, view: &View<'_>, model: u32, decision: &Decision) {
        let Some(&first) = decision.run.first() else { return };
        let (group, own) = (self.kept[first].group, self.kept[first].rows);
        let rows = decision.run.iter().fold(0_u32, |rows, &at| rows.saturating_add(self.kept[at].rows));
        let cost = view.costs.predict(group, rows.max(own)).map_or(u64::from(rows) * 1000, nanos);
        let weight = u64::from(self.weights.get(&model).copied().unwrap_or(1));
        let used = self.used.entry(model).or_default();
        self.virtual_time = self.virtual_time.max(*used);
        *used = used.saturating_add((cost.saturating_mul(1024) / weight).max(1));
    }
}

impl<P: Policy> Policy for Shares<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        self.rank(view.waiting);
        let mut own = Decision::default();
        for rank in 0..self.models.len() {
            let model = self.models[rank];
            self.kept.clear();
            self.positions.clear();
            for (at, request) in view.waiting.iter().enumerate().filter(|(_, request)| request.model == model) {
                self.kept.push(*request);
                self.positions.push(at);
            }
            own.clear();
            self.inner.decide(&View { waiting: &self.kept, ..*view }, &mut own);
            own.run.retain(|&at| at < self.kept.len());
            own.drop.retain(|&at| at < self.kept.len());
            self.charge(view, model, &own);
            decision.run.extend(own.run.iter().map(|&at| self.positions[at]));
            decision.drop.extend(own.drop.iter().map(|&at| self.positions[at]));
            decision.look_again = decision.look_again.min(own.look_again);
            if !own.run.is_empty() {
                return;
            }
        }
    }

    fn precedence(&self) -> Precedence {
        Precedence::Unknown
    }

    fn timeout(&self, priority: u8) -> Option<Duration> {
        self.inner.timeout(priority)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Costs, FirstCome, Limits};
    use super::*;
    use crate::clock::Time;

    /// A batch of model 1 takes ten times as long as one of any other.
    struct Slow;

    impl Costs for Slow {
        fn predict(&self, group: u64, rows: u32) -> Option<Duration> {
            Some(Duration::from_micros(u64::from(rows) * if group == 1 { 10 } else { 1 }))
        }
    }

    fn waiting(models: &[u32]) -> Vec<Waiting> {
        models.iter().map(|&model| Waiting { model, group: model.into(), ..Waiting::at(Time::ZERO) }).collect()
    }

    /// The compute time that each of three models gets while those in `backlog` always have requests.
    fn serve(policy: &mut Shares<FirstCome>, backlog: &[u32], decisions: usize) -> [u64; 3] {
        let limits = Limits { max_batch_size: 4, ..Limits::default() };
        let requests = waiting(&backlog.iter().flat_map(|&model| [model; 6]).collect::<Vec<_>>());
        let mut times = [0; 3];
        let mut decision = Decision::default();
        for _ in 0..decisions {
            decision.clear();
            policy.decide(&View::new(Time::ZERO, &requests, &limits, &Slow), &mut decision);
            let model = requests[decision.run[0]].model;
            assert!(decision.run.iter().all(|&at| requests[at].model == model));
            times[model as usize] += nanos(Slow.predict(model.into(), decision.run.len() as u32).unwrap());
        }
        times
    }

    #[test]
    fn time_and_not_batches_is_shared() {
        let mut policy = Shares::new(FirstCome).weight(2, 2);
        let [a, b, c] = serve(&mut policy, &[0, 1, 2], 2300).map(|time| time as f64);
        assert!((0.95..1.05).contains(&(a / b)) && (1.9..2.1).contains(&(c / a)), "{a} {b} {c}");
    }

    #[test]
    fn the_idle_save_nothing_up() {
        let mut policy = Shares::new(FirstCome);
        serve(&mut policy, &[1], 100);
        let [a, b, _] = serve(&mut policy, &[0, 1], 1100);
        assert!(a.abs_diff(b) * 10 < b, "{a} {b}");
    }

    #[test]
    fn tenants_keep_their_turns_while_models_take_theirs() {
        let request = |model, tenant| Waiting { model, group: model.into(), tenant, ..Waiting::at(Time::ZERO) };
        // A flood that came first, a victim, and somebody who asks another model.
        let flood = std::iter::repeat_n(request(0, 7), 500).chain([request(0, 8); 50]).chain([request(2, 9); 50]);
        let requests: Vec<_> = flood.collect();
        let limits = Limits { max_batch_size: 8, ..Limits::default() };
        let mut policy = Shares::new(super::super::FairShare::new(Duration::from_micros(100)));
        let (mut served, mut decision) = (HashMap::new(), Decision::default());
        for _ in 0..1000 {
            decision.clear();
            policy.decide(&View::new(Time::ZERO, &requests, &limits, &Slow), &mut decision);
            decision.run.iter().for_each(|&at| *served.entry(requests[at].tenant).or_insert(0_u32) += 1);
        }
        assert!(served[&7].abs_diff(served[&8]) <= 200 && served[&9] >= 3000, "{served:?}");
    }

    #[test]
    fn one_that_waits_for_company_lets_others_go_first() {
        let limits = Limits { max_queue_delay: Duration::from_micros(5), max_batch_size: 2, ..Limits::default() };
        let requests = waiting(&[0, 1, 1]);
        let mut decision = Decision::default();
        decision.clear();
        let mut policy = Shares::new(FirstCome);
        policy.decide(&View::new(Time::ZERO, &requests, &limits, &()), &mut decision);
        assert_eq!((decision.run, decision.look_again), (vec![1, 2], Time::from_nanos(5000)));
    }
}
