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
    /// None is given up earlier than this.
    pub(super) earliest_end: Time,
    /// Whether some may be given up before their deadlines.
    bounded: bool,
    /// Pairs of neighbors of which the one behind has the earlier deadline.
    inversions: usize,
}

fn inversions(waiting: &[Waiting]) -> usize {
    waiting.windows(2).filter(|pair| pair[1].deadline < pair[0].deadline).count()
}

impl<Q, S> Queue<Q, S> {
    pub(super) fn new() -> Self {
        Queue {
            waiting: Vec::new(),
            entries: Vec::new(),
            head: 0,
            earliest_end: Time::NEVER,
            bounded: false,
            inversions: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() - self.head
    }

    pub(super) fn waiting(&self) -> &[Waiting] {
        &self.waiting[self.head..]
    }

    /// Whether the deadlines rise from the front to the end.
    pub(super) fn deadlines_rise(&self) -> bool {
        self.inversions == 0
    }

    /// Adds an entry at its place: submitters that race may come in another order than that of their times.
    pub(super) fn push(&mut self, entry: Arc<Entry<Q, S>>) {
        let meta = entry.meta;
        self.earliest_end = self.earliest_end.min(meta.gives_up());
        self.bounded |= meta.timeout < meta.deadline;
        let mut at = self.waiting.len();
        while at > self.head && self.waiting[at - 1].arrived > meta.arrived {
            at -= 1;
        }
        let near = at.saturating_sub(1).max(self.head);
        let before = inversions(&self.waiting[near..(at + 1).min(self.waiting.len())]);
        self.waiting.insert(at, meta);
        self.entries.insert(at, Some(entry));
        self.inversions += inversions(&self.waiting[near..(at + 2).min(self.waiting.len())]) - before;
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
        let count = count.min(self.len());
        self.inversions -= inversions(&self.waiting[self.head..(self.head + count + 1).min(self.waiting.len())]);
        self.head += count;
        if self.head * 2 >= self.waiting.len() {
            self.waiting.drain(..self.head);
            self.entries.drain(..self.head);
            self.head = 0;
        }
    }

    /// Removes every position that was taken.
    pub(super) fn remove_taken(&mut self) {
        let (mut kept, mut last) = (self.head, Time::ZERO);
        self.inversions = 0;
        for at in self.head..self.entries.len() {
            if self.entries[at].is_some() {
                self.entries.swap(kept, at);
                self.waiting[kept] = self.waiting[at];
                let deadline = self.waiting[kept].deadline;
                self.inversions += usize::from(deadline < last);
                last = deadline;
                kept += 1;
            }
        }
        self.entries.truncate(kept);
        self.waiting.truncate(kept);
    }

    /// Takes out every entry that is given up not later than `now`, and hands it on. Where that is by deadlines, and they rise,
    /// only the front is looked at.
    pub(super) fn expire(&mut self, now: Time, mut to: impl FnMut(Arc<Entry<Q, S>>)) {
        if self.bounded || !self.deadlines_rise() {
            return self.sweep(|entry| entry.meta.gives_up() <= now, to);
        }
        let expired = self.waiting().iter().take_while(|request| request.deadline <= now).count();
        (0..expired).for_each(|at| self.take(at).into_iter().for_each(&mut to));
        self.remove_front(expired);
        self.earliest_end = self.waiting().first().map_or(Time::NEVER, |request| request.deadline);
    }

    /// Takes out every entry for which `leaves` says so, and hands it on.
    pub(super) fn sweep(&mut self, leaves: impl Fn(&Entry<Q, S>) -> bool, mut to: impl FnMut(Arc<Entry<Q, S>>)) {
        self.earliest_end = Time::NEVER;
        for at in self.head..self.entries.len() {
            if let Some(entry) = self.entries[at].take_if(|entry| leaves(entry)) {
                to(entry);
            } else {
                self.earliest_end = self.earliest_end.min(self.waiting[at].gives_up());
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

    #[test]
    fn late_pushes_find_their_place() {
        let mut queue = queue(0);
        for at in [3, 5, 4, 1, 9] {
            queue.push(Arc::new(Entry::new(at, Waiting::at(Time::from_nanos(at)), 0)));
        }
        assert_eq!(arrivals(&queue), [1, 3, 4, 5, 9]);
        assert_eq!(queue.take(2).map(|entry| entry.meta.arrived.as_nanos()), Some(4));
    }

    /// A queue of these deadlines, in order of arrival.
    fn due(deadlines: &[u64]) -> Queue<u64, ()> {
        let mut queue = Queue::new();
        for (&deadline, at) in deadlines.iter().zip(0..) {
            let meta = Waiting { deadline: Time::from_nanos(deadline), ..Waiting::at(Time::from_nanos(at)) };
            queue.push(Arc::new(Entry::new(deadline, meta, 0)));
        }
        queue
    }

    #[test]
    fn whether_deadlines_rise_is_known_through_every_change() {
        let mut random = 7_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut queue = due(&[]);
        for step in 0..2000 {
            let len = queue.len() as u64;
            match draw(4) {
                0 if len > 0 => queue.remove_front(draw(len + 1) as usize),
                1 if len > 0 => {
                    (0..2).for_each(|_| _ = queue.take(draw(len) as usize));
                    queue.remove_taken();
                }
                _ => {
                    let (arrived, deadline) = (step - draw(3).min(step), step + draw(3));
                    let meta =
                        Waiting { deadline: Time::from_nanos(deadline), ..Waiting::at(Time::from_nanos(arrived)) };
                    queue.push(Arc::new(Entry::new(step, meta, 0)));
                }
            }
            assert_eq!(queue.deadlines_rise(), queue.waiting().is_sorted_by_key(|request| request.deadline), "{step}");
        }
    }

    #[test]
    fn what_has_expired_leaves_whether_deadlines_rise_or_not() {
        for (deadlines, gone, next) in [(&[3, 5, 8, 9], vec![3, 5], 8), (&[8, 3, 9, 5], vec![3, 5], 8)] {
            let (mut queue, mut expired) = (due(deadlines), Vec::new());
            queue.expire(Time::from_nanos(5), |entry| expired.push(entry.meta.deadline.as_nanos()));
            assert_eq!((expired, queue.len(), queue.earliest_end), (gone, 2, Time::from_nanos(next)));
        }
    }
}
