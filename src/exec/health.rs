//! Quarantine: a model that keeps panicking rests, so that it costs the others nothing.
//!
//! What counts is a request that panics *alone*, after its batch was split, with no run in between that returned: one
//! poisonous row among good ones never adds up. After the rest the next panic sends the model back at once.

use crate::clock::Time;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// When a model rests, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quarantine {
    pub(super) panics: u32,
    pub(super) rest: Duration,
}

/// `Relaxed`: a panic that is counted late rests the model one request later.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Panics since the last run that returned.
    panics: AtomicU32,
    /// It rests until then; zero while it does not.
    until: AtomicU64,
}

impl Health {
    /// How long it still rests.
    #[inline]
    pub(super) fn rest(&self, now: Time) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        (until != 0 && until > now.as_nanos()).then(|| Time::from_nanos(until).since(now))
    }

    /// A run returned, be it with an error.
    #[inline]
    pub(super) fn returned(&self) {
        if self.panics.load(Ordering::Relaxed) != 0 {
            self.reinstate();
        }
    }

    /// A request panicked alone; whether the model rests from now on.
    pub(super) fn panicked(&self, rule: Quarantine, now: Time) -> bool {
        let panics = self.panics.fetch_add(1, Ordering::Relaxed) + 1;
        if rule.panics == 0 || panics < rule.panics {
            return false;
        }
        self.panics.store(rule.panics - 1, Ordering::Relaxed);
        self.until.store(now.after(rule.rest).as_nanos(), Ordering::Relaxed);
        true
    }

    /// It is taken for healthy again.
    pub(super) fn reinstate(&self) {
        self.panics.store(0, Ordering::Relaxed);
        self.until.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Quarantine = Quarantine { panics: 3, rest: Duration::from_nanos(100) };

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn only_panics_in_a_row_count() {
        let health = Health::default();
        for _ in 0..5 {
            assert!(!health.panicked(RULE, at(1)) && !health.panicked(RULE, at(1)));
            health.returned();
        }
        assert!(!health.panicked(RULE, at(1)) && !health.panicked(RULE, at(1)) && health.panicked(RULE, at(1)));
        assert_eq!(health.rest(at(11)), Some(Duration::from_nanos(90)));
        assert_eq!(health.rest(at(101)), None, "the rest is over");
        assert!(health.panicked(RULE, at(200)), "one more is enough then");
        health.reinstate();
        assert!(health.rest(at(201)).is_none() && !health.panicked(RULE, at(201)));
    }

    #[test]
    fn it_can_be_turned_off() {
        let health = Health::default();
        assert!((0..100).all(|_| !health.panicked(Quarantine { panics: 0, ..RULE }, at(1))));
    }
}
