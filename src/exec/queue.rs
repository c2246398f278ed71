//! The drained requests in order of arrival: what the policy sees beside whom it stands for.

use super::entry::Entry;
use crate::clock::Time;
use crate::sched::Waiting;
use crate::sync::Arc;

/// Two columns of equal length from `head` on. What left from the front is cut off when it makes half of it.
pub(super) struct Queue<Q, S> {
    waiting: Vec<Waiting>,
    entries: Vec<Option<Arc<Entry<Q, S>>>>,
    head: usize,
    /// No deadline is earlier than this.
    pub(super) earliest_deadline: Time,
}

impl<Q, S> Queue<Q, S> {
    pub(super) fn new() -> Self {
        Queue { waiting: Vec::new(), entries: Vec::new(), head: 0, earliest_deadline: Time::NEVER }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() - self.head
    }

    pub(super) fn waiting(&self) -> &[Waiting] {
        &self.waiting[self.head..]
    }

    pub(super) fn push(&mut self, entry: Arc<Entry<Q, S>>) {
        self.earliest_deadline = self.earliest_deadline.min(entry.meta.deadline);
        self.waiting.push(entry.meta);
        self.entries.push(Some(entry));
    }

    /// The seat of the generation that the entry at a position is for.
    pub(super) fn seat(&self, at: usize) -> Option<usize> {
        Some(self.entries.get(self.head.checked_add(at)?)?.as_ref()?.seat())
    }

    /// Takes the entry at a position, which must then be [removed](Self::remove); `None` if it was taken or is not there.
    pub(super) fn take(&mut self, at: usize) -> Option<Arc<Entry<Q, S>>> {
        self.entries.get_mut(self.head.checked_add(at)?)?.take()
    }

    /// Cuts off the front `count` positions.
    pub(super) fn remove_front(&mut self, count: usize) {
        self.head += count.min(self.len());
        if self.head * 2 >= self.waiting.len() {
            self.waiting.drain(..self.head);
            self.entries.drain(..self.head);
            self.head = 0;
        }
    }

    /// Removes every position that was taken.
    pub(super) fn remove_taken(&mut self) {
        let mut kept = self.head;
        for at in self.head..self.entries.len() {
            if self.entries[at].is_some() {
                self.entries.swap(kept, at);
                self.waiting[kept] = self.waiting[at];
                kept += 1;
            }
        }
        self.entries.truncate(kept);
        self.waiting.truncate(kept);
    }

    /// Takes out every entry for which `leaves` says so, and hands it on.
    pub(super) fn sweep(&mut self, leaves: impl Fn(&Entry<Q, S>) -> bool, mut to: impl FnMut(Arc<Entry<Q, S>>)) {
        self.earliest_deadline = Time::NEVER;
        for at in self.head..self.entries.len() {
            if let Some(entry) = self.entries[at].take_if(|entry| leaves(entry)) {
                to(entry);
            } else {
                self.earliest_deadline = self.earliest_deadline.min(self.waiting[at].deadline);
            }
        }
        self.remove_taken();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn queue(arrivals: u64) -> Queue<u64, ()> {
        let mut queue = Queue::new();
        (0..arrivals).for_each(|at| queue.push(Arc::new(Entry::new(at, Waiting::at(Time::from_nanos(at)), 0))));
        queue
    }

    fn arrivals(queue: &Queue<u64, ()>) -> Vec<u64> {
        queue.waiting().iter().map(|waiting| waiting.arrived.as_nanos()).collect()
    }

    #[test]
    fn front_and_middle_leave_in_step() {
        let mut queue = queue(6);
        assert!(queue.take(0).is_some() && queue.take(0).is_none() && queue.take(9).is_none());
        queue.remove_front(1);
        assert_eq!(arrivals(&queue), [1, 2, 3, 4, 5]);
        queue.take(1);
        queue.take(3);
        queue.remove_taken();
        assert_eq!(arrivals(&queue), [1, 3, 5]);
        assert_eq!(queue.take(2).unwrap().meta.arrived.as_nanos(), 5);
    }

    #[test]
    fn a_sweep_hands_on_what_leaves() {
        let mut queue = queue(5);
        let mut gone = Vec::new();
        queue.sweep(|entry| entry.meta.arrived.as_nanos() % 2 == 0, |entry| gone.push(entry.meta.arrived.as_nanos()));
        assert_eq!((gone, arrivals(&queue)), (vec![0, 2, 4], vec![1, 3]));
    }
}
