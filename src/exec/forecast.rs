//! What the batcher foresees of each replica, and what a balancer makes of it.
//!
//! A batch is bound late: it is formed for a slot that is free. Where a balancer is set, the thread that asks for a batch
//! moves to the slot that the balancer names; if that one is busy and will be free within the patience, the batch waits.

use super::sleepers::MAX_WORKERS;
use super::slots::Slot;
use crate::balance::{Balancer, Load};
use crate::clock::Time;
use crate::sched::Costs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Groups that a replica is taken to hold warm.
const WARM: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Forecast {
    /// The replica's number.
    id: u64,
    /// When its batch will probably end.
    until: Time,
    requests: u32,
    /// The groups that it ran last.
    groups: [Option<u64>; WARM],
    next: usize,
}

pub(super) struct Forecasts {
    balancer: Option<Box<dyn Balancer>>,
    patience: Duration,
    slots: Vec<Forecast>,
    loads: Vec<Load>,
    positions: Vec<usize>,
}

impl Forecasts {
    pub(super) fn new(balancer: Option<Box<dyn Balancer>>, patience: Duration) -> Self {
        let slots = if balancer.is_some() { vec![Forecast::default(); MAX_WORKERS] } else { Vec::new() };
        Forecasts { balancer, patience, slots, loads: Vec::new(), positions: Vec::new() }
    }

    /// A new replica stands in `slot`.
    pub(super) fn begin(&mut self, slot: usize, id: u64) {
        if let Some(forecast) = self.slots.get_mut(slot) {
            *forecast = Forecast { id, ..Forecast::default() };
        }
    }

    /// A batch was formed for `slot`.
    pub(super) fn runs(&mut self, now: Time, slot: usize, group: u64, rows: u32, requests: u32, costs: &dyn Costs) {
        let Some(forecast) = self.slots.get_mut(slot) else { return };
        forecast.until = now.after(costs.predict(group, rows).unwrap_or_default());
        forecast.requests = requests;
        if !forecast.groups.contains(&Some(group)) {
            forecast.groups[forecast.next % WARM] = Some(group);
            forecast.next += 1;
        }
    }

    /// Moves to the slot that the balancer names for a batch of `group`; the time when it will be free, if that is one to
    /// wait for.
    pub(super) fn balance<T>(&mut self, now: Time, group: u64, slot: &mut Slot<'_, T>) -> Result<(), Time> {
        let Some(balancer) = &mut self.balancer else { return Ok(()) };
        self.loads.clear();
        self.positions.clear();
        let open = slot.slots().opened();
        for at in (0..self.slots.len()).filter(|&at| open & (1 << at) != 0 || at == slot.index()) {
            let forecast = &self.slots[at];
            let free = at == slot.index() || slot.slots().is_free(at);
            // One that has overrun by some time is taken to need as much again, so that a run which hangs is not waited for.
            let left = forecast.until.since(now).max(now.since(forecast.until));
            let work = if free { Duration::ZERO } else { left.max(Duration::from_micros(1)) };
            if work <= self.patience {
                let requests = if free { 0 } else { forecast.requests };
                let warm = forecast.groups.contains(&Some(group));
                self.positions.push(at);
                self.loads.push(Load { work, requests, warm, ..Load::idle(forecast.id) });
            }
        }
        let loads = &self.loads;
        let Ok(named) = catch_unwind(AssertUnwindSafe(|| balancer.choose(group, loads))) else {
            // A balancer that panics must not stop the engine: from now on whoever asks runs.
            self.balancer = None;
            return Ok(());
        };
        let chosen = named % self.loads.len().max(1);
        let (Some(&at), Some(load)) = (self.positions.get(chosen), self.loads.get(chosen)) else { return Ok(()) };
        if !load.work.is_zero() {
            return Err(now.after(load.work));
        }
        if at != slot.index() {
            // If somebody took it meanwhile, the batch runs here.
            slot.move_to(at);
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::slots::Slots;
    use super::*;

    /// Names the last one.
    struct Last;

    impl Balancer for Last {
        fn name(&self) -> &str {
            "last"
        }

        fn choose(&mut self, _group: u64, replicas: &[Load]) -> usize {
            replicas.len() - 1
        }
    }

    struct Fixed(Duration);

    impl Costs for Fixed {
        fn predict(&self, _group: u64, _rows: u32) -> Option<Duration> {
            Some(self.0)
        }
    }

    #[test]
    fn a_run_that_takes_longer_than_foretold_is_waited_for_no_longer_than_the_patience() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let slots = Slots::<()>::new(2);
        let _busy = slots.take(1);
        let mut own = slots.take(0).unwrap();
        let mut forecasts = Forecasts::new(Some(Box::new(Last)), Duration::from_micros(50));
        forecasts.runs(Time::ZERO, 1, 0, 1, 1, &Fixed(Duration::from_micros(100)));
        let mut wait = |micros| forecasts.balance(at(micros), 0, &mut own).err();
        assert_eq!((wait(40), wait(80)), (None, Some(at(100))), "it is too far away, and near");
        assert_eq!((wait(100), wait(120), wait(150)), (Some(at(101)), Some(at(140)), Some(at(200))));
        assert_eq!(wait(151), None, "it hangs");
    }
}
