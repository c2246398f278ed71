//! How many requests wait by their deadlines: so that a new one knows, without a look at the queue, who stands before it where
//! the earliest deadline goes first.

use crate::clock::{Time, nanos};
use crate::sched::Waiting;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Requests are told apart by the time that they gave from submit to deadline: from 16 us, in powers of two, to some hours.
/// Those that gave less count with the shortest.
const SHORTEST: u32 = 14;
const SPANS: u32 = 30;
/// Deadlines of a span fall into slots of a sixteenth of it, so that at most 33 slots are in use, and what has just expired is not
/// taken for something else.
const SLOTS: u64 = 64;
const SLOT_SHIFT: u32 = 4;

/// The counts. `Relaxed`: estimates for admission; each request adds and takes away one in the same place.
#[derive(Debug)]
pub(super) struct Due {
    /// The spans that were ever asked for, one bit each.
    used: AtomicU64,
    waiting: Box<[[AtomicU32; SLOTS as usize]]>,
}

/// Who stands before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) requests: u32,
    /// By then all of them have run or were given up.
    pub(super) gone: Time,
}

/// Which span a request is of; `None` if it has no deadline, or one that is hours away: then it stands behind all others.
fn span(meta: &Waiting) -> Option<u32> {
    let given = nanos(meta.deadline.since(meta.arrived)).max(1).ilog2();
    let span = given.saturating_sub(SHORTEST);
    (meta.deadline != Time::NEVER && span < SPANS).then_some(span)
}

/// The width of a slot, as a power of two.
fn shift(span: u32) -> u32 {
    SHORTEST + span - SLOT_SHIFT
}

impl Due {
    pub(super) fn new() -> Self {
        let waiting = (0..SPANS).map(|_| [const { AtomicU32::new(0) }; SLOTS as usize]).collect();
        Due { used: AtomicU64::new(0), waiting }
    }

    fn place(&self, meta: &Waiting) -> Option<&AtomicU32> {
        let span = span(meta)?;
        if self.used.load(Ordering::Relaxed) & (1 << span) == 0 {
            self.used.fetch_or(1 << span, Ordering::Relaxed);
        }
        let slot = (meta.deadline.as_nanos() >> shift(span)) % SLOTS;
        self.waiting.get(span as usize)?.get(slot as usize)
    }

    pub(super) fn join(&self, meta: &Waiting) {
        if let Some(place) = self.place(meta) {
            place.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn leave(&self, meta: &Waiting) {
        if let Some(place) = self.place(meta) {
            place.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Who stands before a request that arrives now. Of its own span all that fall into its slot do, as most of them came earlier;
    /// of a longer one a part of them, as its slots are wide.
    pub(super) fn before(&self, meta: &Waiting) -> Before {
        let (mut requests, mut gone) = (0_u32, meta.arrived);
        let (own_span, mut used) = (span(meta), self.used.load(Ordering::Relaxed));
        while used != 0 {
            let at = used.trailing_zeros();
            used &= used - 1;
            let Some(slots) = self.waiting.get(at as usize) else { break };
            let (shift, width) = (shift(at), 1_u64 << shift(at));
            let first = (meta.arrived.as_nanos() >> shift).saturating_sub(SLOTS / 2 - 1);
            let own = meta.deadline.as_nanos() >> shift;
            for slot in first..=own.min(first + SLOTS - 1) {
                let count = slots.get((slot % SLOTS) as usize).map_or(0, |count| count.load(Ordering::Relaxed));
                if count == 0 {
                    continue;
                }
                let inside = meta.deadline.as_nanos() & (width - 1);
                let is_partly_before = slot == own && own_span.is_none_or(|own| own < at);
                let before =
                    if is_partly_before { u64::from(count) * (inside >> (shift - 4)) / 16 } else { count.into() };
                if before > 0 {
                    requests = requests.saturating_add(before as u32);
                    gone = gone.max(Time::from_nanos((slot + 1) << shift).min(meta.deadline));
                }
            }
        }
        Before { requests, gone }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn request(arrived_us: u64, span_us: u64) -> Waiting {
        let arrived = Time::from_nanos(arrived_us * 1000);
        let deadline = if span_us == u64::MAX { Time::NEVER } else { arrived.after(Duration::from_micros(span_us)) };
        Waiting { deadline, ..Waiting::at(arrived) }
    }

    #[test]
    fn the_near_stand_before_the_far() {
        let due = Due::new();
        (0..100).for_each(|at| due.join(&request(at, 1_000_000)));
        (0..5).for_each(|at| due.join(&request(at, 3000)));
        (0..7).for_each(|at| due.join(&request(at, u64::MAX)));
        assert_eq!(due.before(&request(100, 2000)).requests, 0);
        assert_eq!(due.before(&request(100, 3000)).requests, 5);
        let far = due.before(&request(100, 500_000));
        assert_eq!(far.requests, 5);
        assert!((3000..3300).contains(&(far.gone.as_nanos() / 1000)), "the near are gone by then: {far:?}");
        assert_eq!(due.before(&request(100, 1_000_000)).requests, 105);
        assert_eq!(due.before(&request(100, u64::MAX)).requests, 105, "who has no deadline comes last");
        (0..5).for_each(|at| due.leave(&request(at, 3000)));
        assert_eq!(due.before(&request(100, 500_000)), Before { requests: 0, gone: Time::from_nanos(100_000) });
    }

    #[test]
    fn counts_are_right_but_for_a_slot() {
        let mut random = 5_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        let (due, mut queue) = (Due::new(), Vec::new());
        for now in 0..4000 {
            // Some leave in any order, and what has expired is swept.
            while queue.len() > 300 {
                due.leave(&queue.swap_remove(draw(300) as usize));
            }
            let now = now * 20;
            queue
                .extract_if(.., |meta: &mut Waiting| meta.deadline <= Time::from_nanos(now * 1000))
                .for_each(|gone| due.leave(&gone));
            let meta = request(now, [800, 900, 5000, 40_000][draw(4) as usize]);
            let exact = |deadline: Time| queue.iter().filter(|other| other.deadline <= deadline).count() as u32;
            let told = due.before(&meta).requests;
            // An eighth of its own span, and a slot of the longest one.
            let width = meta.deadline.since(meta.arrived) / 8 + Duration::from_nanos(1 << 21);
            let before = Time::from_nanos(meta.deadline.as_nanos().saturating_sub(nanos(width)));
            let bounds = exact(before)..=exact(meta.deadline.after(width));
            assert!(bounds.contains(&told), "{told} is not within {bounds:?}");
            due.join(&meta);
            queue.push(meta);
        }
    }
}
