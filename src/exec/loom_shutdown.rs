//! A model of shutdown for the model checker: lane, credit and sleepers together, without the rest.

use super::credit::Credit;
use super::lane::{Lane, Linked};
use super::sleepers::Sleepers;
use crate::sync::atomic::AtomicPtr;
use crate::sync::{Arc, in_one_order, park};

struct Node(AtomicPtr<Node>);

impl Linked for Node {
    fn link(&self) -> &AtomicPtr<Node> {
        &self.0
    }
}

struct Parts {
    lane: Lane<Node>,
    credit: Credit,
    sleepers: Sleepers,
}

impl Parts {
    fn is_over(&self) -> bool {
        in_one_order();
        let held = self.credit.held();
        held.closed && held.items == 0
    }

    fn work(&self) -> u32 {
        self.sleepers.register(0);
        let mut served = 0;
        loop {
            let drained = self.lane.drain().count() as u32;
            if drained > 0 {
                served += drained;
                self.credit.release(drained, 0);
                continue;
            }
            if self.is_over() {
                return served;
            }
            self.sleepers.lie_down(0);
            while self.lane.is_empty() && !self.is_over() && !self.sleepers.is_woken(0) {
                park();
            }
            self.sleepers.get_up(0);
        }
    }
}

#[test]
fn loom_shutdown_serves_what_was_accepted_and_ends() {
    // Without a bound this takes two minutes and passes too.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let lane = Lane::new();
        let parts = Arc::new(Parts { lane, credit: Credit::new(4, 4), sleepers: Sleepers::new(1) });
        let worker = {
            let parts = parts.clone();
            loom::thread::spawn(move || parts.work())
        };
        let submitter = {
            let parts = parts.clone();
            loom::thread::spawn(move || {
                let accepted = parts.credit.acquire(1, 0).is_ok();
                if accepted {
                    parts.lane.push(Arc::new(Node(AtomicPtr::new(std::ptr::null_mut()))));
                    parts.sleepers.notify();
                }
                accepted
            })
        };
        parts.credit.close();
        in_one_order();
        parts.sleepers.wake_all();
        assert_eq!(worker.join().unwrap(), u32::from(submitter.join().unwrap()));
    });
}
