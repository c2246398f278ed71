//! Time as a parameter: the monotonic clock that the executor reads, and a mock one for tests and simulators.
//!
//! Policies and cost models are handed a [`Time`]; only the executor reads a [`Clock`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A point on a clock's own axis, in nanoseconds since the clock's origin. It never runs backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Time = Time(0);
    /// Later than every other time: "no deadline".
    pub const NEVER: Time = Time(u64::MAX);

    /// The time `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This time and `duration` more; [`Time::NEVER`] where that overflows.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Time(self.0.saturating_add(nanos(duration)))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds, saturating after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A source of monotonic time.
pub trait Clock: Send + Sync + 'static {
    /// The time now. Never earlier than an earlier answer.
    fn now(&self) -> Time;

    /// Where a system instant lies on this clock's axis.
    fn time_of(&self, instant: Instant) -> Time {
        let (now, system) = (self.now(), Instant::now());
        match instant.checked_duration_since(system) {
            Some(ahead) => now.after(ahead),
            None => Time(now.0.saturating_sub(nanos(system - instant))),
        }
    }
}

/// The system's monotonic clock; its origin is its construction.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Monotonic(Instant::now())
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Time {
        Time(nanos(self.0.elapsed()))
    }

    fn time_of(&self, instant: Instant) -> Time {
        Time(nanos(instant.saturating_duration_since(self.0)))
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct Mock(AtomicU64);

impl Mock {
    /// A clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::SeqCst);
    }
}

impl Clock for Mock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let time = Time::from_nanos(5);
        assert_eq!(time.after(Duration::MAX), Time::NEVER);
        assert_eq!(Time::ZERO.since(time), Duration::ZERO);
        assert_eq!(time.after(Duration::from_nanos(3)).since(time), Duration::from_nanos(3));
    }

    #[test]
    fn a_mock_stands_still_until_told() {
        let clock = Mock::new();
        assert_eq!(clock.now(), Time::ZERO);
        clock.advance(Duration::from_micros(2));
        assert_eq!(clock.now(), Time::from_nanos(2000));
        assert_eq!(clock.time_of(Instant::now() - Duration::from_secs(1)), Time::ZERO);
    }

    #[test]
    fn instants_keep_their_order_on_the_real_clock() {
        let clock = Monotonic::new();
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        assert!(clock.time_of(early) < clock.time_of(late));
        assert!(clock.time_of(late) > clock.now());
    }
}
