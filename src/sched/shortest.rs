//! Shortest job first, by learned cost: the least mean wait, with a bound on anybody's patience.

use super::{Decision, Policy, Precedence, View};
use crate::clock::nanos;
use std::time::Duration;

/// The request with the least predicted running time first, by arrival among equals.
///
/// One that has waited longer than `patience` goes before all that have not, so that long jobs are not starved.
///
/// On one replica that cuts the mean wait at 80 % load to less than 0.4 of first come's where one job in ten takes twenty times
/// as long. On several it gains less, as short jobs find all of them at long ones sooner than they would find one of them so: 0.49
/// on two. Where short jobs may [interrupt](crate::exec::Builder::preemption) long ones it is less than 0.2 on either.
#[derive(Debug, Clone)]
pub struct ShortestJob {
    patience: u64,
    order: Vec<(u64, usize)>,
}

impl ShortestJob {
    /// Nobody is passed over after `patience`.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        ShortestJob { patience: nanos(patience), order: Vec::new() }
    }
}

impl Policy for ShortestJob {
    fn name(&self) -> &str {
        "shortest-job"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        self.order.clear();
        self.order.extend(view.waiting.iter().enumerate().map(|(at, request)| {
            let waited = nanos(view.now.since(request.arrived));
            let cost = if waited >= self.patience {
                0
            } else {
                view.costs.predict(request.group, request.rows).map_or(u64::from(request.rows), nanos).max(1)
            };
            (cost, at)
        }));
        view.form_by_key(&mut self.order, decision);
    }

    fn precedence(&self) -> Precedence {
        Precedence::Cost
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Costs, Limits, Waiting};
    use super::*;
    use crate::clock::Time;

    struct ByGroup;

    impl Costs for ByGroup {
        fn predict(&self, group: u64, _rows: u32) -> Option<Duration> {
            Some(Duration::from_nanos(group))
        }
    }

    #[test]
    fn the_cheapest_runs_first_and_patience_ends() {
        let request = |arrived, group| Waiting { group, ..Waiting::at(Time::from_nanos(arrived)) };
        let waiting = [request(0, 20), request(1, 10), request(2, 10)];
        let limits = Limits::default();
        let run = |now| {
            let mut decision = Decision::default();
            let view = View::new(Time::from_nanos(now), &waiting, &limits, &ByGroup);
            ShortestJob::new(Duration::from_nanos(100)).decide(&view, &mut decision);
            decision.run
        };
        assert_eq!(run(50), [1, 2]);
        assert_eq!(run(100), [0]);
    }
}
