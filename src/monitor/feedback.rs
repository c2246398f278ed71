//! A controller: told what was measured since it last looked, it says whether to move batch cap, queue delay or number of
//! workers, by one step, and why. It reads no clock and moves nothing itself; that is left to `exec`.
//!
//! Three states lead to moves. *Overloaded* (requests are shed, or late while the workers are busy): batches get larger,
//! then workers are added, then the delay goes. *Late* without load: what makes a request wait is cut. *At ease* (well
//! within the target): idle workers go, and busy ones get fuller batches. A step that made things worse is taken back,
//! and a knob that goes to and fro rests twice as long each time.

use super::Measured;
use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A setting that the controller moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Knob {
    /// Most rows in a batch.
    BatchCap,
    /// How long a request may wait for company, in nanoseconds.
    QueueDelay,
    /// How many batches run at the same time.
    Workers,
}

/// Where the knobs stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most rows in a batch.
    pub cap: u32,
    /// How long a request may wait for company.
    pub delay: Duration,
    /// How many batches run at the same time.
    pub workers: usize,
}

/// One step of one knob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Move {
    /// When, in nanoseconds of the executor's clock.
    pub at_ns: u64,
    /// What.
    pub knob: Knob,
    /// From where.
    pub from: u64,
    /// To where.
    pub to: u64,
    /// Why, with the figures that it was decided by.
    pub reason: String,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Move { at_ns, knob, from, to, reason } = self;
        write!(f, "{:.3?}: ", Duration::from_nanos(*at_ns))?;
        match knob {
            Knob::BatchCap => write!(f, "batch cap {from} -> {to}")?,
            Knob::Workers => write!(f, "workers {from} -> {to}")?,
            Knob::QueueDelay => {
                write!(f, "queue delay {:?} -> {:?}", Duration::from_nanos(*from), Duration::from_nanos(*to))?;
            }
        }
        write!(f, ": {reason}")
    }
}

/// What a controller is to reach, how often it looks, and how far it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    pub(crate) target: Duration,
    pub(crate) interval: Duration,
    pub(crate) cap: RangeInclusive<u32>,
    pub(crate) delay: RangeInclusive<Duration>,
    pub(crate) workers: RangeInclusive<usize>,
}

impl Feedback {
    /// Keeps 99 % of the requests under `target`. Nothing moves until its bounds are stated.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        let (interval, none) = (Duration::from_millis(250), Duration::ZERO);
        Feedback { target, interval, cap: 0..=0, delay: none..=none, workers: 0..=0 }
    }

    /// How often it looks. Default 250 ms; at least 100 batches should run in it.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Lets the batch cap move between these.
    #[must_use]
    pub fn batch_cap(mut self, rows: RangeInclusive<u32>) -> Self {
        self.cap = rows;
        self
    }

    /// Lets the queue delay move between these.
    #[must_use]
    pub fn queue_delay(mut self, delay: RangeInclusive<Duration>) -> Self {
        self.delay = delay;
        self
    }

    /// Lets the number of workers move between these.
    #[must_use]
    pub fn workers(mut self, workers: RangeInclusive<usize>) -> Self {
        self.workers = workers;
        self
    }
}

/// Looks that a knob rests before it may turn back, at first and at most.
const REST: u32 = 4;
const LONGEST_REST: u32 = 256;
/// A move shows in the measurements only after the queue of before is gone: that many looks are passed over.
const SETTLE: u32 = 1;
/// The least step of the delay.
const STEP: Duration = Duration::from_micros(50);

/// What is remembered of a knob.
#[derive(Debug, Clone, Copy)]
struct Memory {
    upward: Option<bool>,
    since: u32,
    rest: u32,
}

/// A step whose effect is still to be seen.
#[derive(Debug, Clone, Copy)]
struct Trial {
    before: Settings,
    knob: Knob,
    rate: f64,
}

/// Decides; see the page of this file.
#[derive(Debug, Clone)]
pub struct Controller {
    goal: Feedback,
    memories: [Memory; 3],
    trial: Option<Trial>,
    settling: u32,
}

/// A step that a rule wants.
type Wish = (Settings, Knob, String);

impl Controller {
    /// A controller that has seen nothing.
    #[must_use]
    pub fn new(goal: Feedback) -> Self {
        let memory = Memory { upward: None, since: 0, rest: REST };
        Controller { goal, memories: [memory; 3], trial: None, settling: 0 }
    }

    /// What to move, if anything, from where the knobs stand; `at_ns` is only written down.
    pub fn decide(&mut self, at_ns: u64, seen: &Measured, at: Settings) -> Option<Move> {
        for memory in &mut self.memories {
            memory.since = memory.since.saturating_add(1);
            // What has stood for long is trusted again.
            if memory.since > memory.rest.saturating_mul(4) {
                memory.rest = (memory.rest / 2).max(REST);
                memory.since = memory.rest;
            }
        }
        if self.settling > 0 {
            self.settling -= 1;
            return None;
        }
        let trial = self.trial.take();
        let overloaded = self.is_overloaded(seen);
        let regretted = trial.filter(|trial| overloaded && seen.rate() < trial.rate * 0.9);
        let (to, knob, reason) = match regretted {
            Some(trial) => {
                let reason =
                    format!("taken back: answers per second fell from {:.0} to {:.0}", trial.rate, seen.rate());
                (trial.before, trial.knob, reason)
            }
            None => self.wishes(seen, at).into_iter().find(|wish| self.may(at, wish))?,
        };
        let (from, to_value) = (value(at, knob), value(to, knob));
        let memory = &mut self.memories[knob as usize];
        let upward = to_value > from;
        if memory.upward.is_some_and(|before| before != upward) {
            memory.rest = (memory.rest * 2).min(LONGEST_REST);
        }
        (memory.upward, memory.since) = (Some(upward), 0);
        if regretted.is_none() && overloaded {
            self.trial = Some(Trial { before: at, knob, rate: seen.rate() });
        }
        self.settling = SETTLE;
        Some(Move { at_ns, knob, from, to: to_value, reason })
    }

    fn is_overloaded(&self, seen: &Measured) -> bool {
        seen.shed > 0 || (seen.latency > self.goal.target && seen.busy >= 0.9)
    }

    /// A wish moves something, and does not turn a knob back that has to rest.
    fn may(&self, at: Settings, (to, knob, _): &Wish) -> bool {
        let (from, to) = (value(at, *knob), value(*to, *knob));
        let memory = &self.memories[*knob as usize];
        let turns = memory.upward.is_some_and(|before| before != (to > from));
        from != to && (!turns || memory.since >= memory.rest)
    }

    /// What would help, the most wanted first.
    fn wishes(&self, seen: &Measured, at: Settings) -> Vec<Wish> {
        let target = self.goal.target;
        let late = seen.latency > target;
        let long = seen.batch > target / 2;
        let fuller = seen.batch.saturating_mul(3) / 2 <= target / 2;
        let full = seen.rows >= 0.9 * f64::from(at.cap);
        let state = format!(
            "p99 {:.3?} of {target:.3?}, {} shed, busy {:.0} %, {:.1} of {} rows",
            seen.latency,
            seen.shed,
            seen.busy * 100.0,
            seen.rows,
            at.cap
        );
        let why = |text: &str| format!("{text} ({state})");
        let mut wishes = Vec::new();
        if self.is_overloaded(seen) {
            if full && fuller {
                wishes.push(self.cap(at, true, why("overloaded with full batches: larger ones answer more")));
            }
            wishes.push(self.workers(at, true, why("overloaded: one more worker")));
            wishes.push(self.delay(at, false, why("overloaded: the queue fills batches by itself")));
            if late && long {
                wishes.push(self.cap(at, false, why("one batch takes over half of the target")));
            }
        } else if late {
            wishes.push(self.delay(at, false, why("late, and not for want of workers: less waiting for company")));
            if long {
                wishes.push(self.cap(at, false, why("late: one batch takes over half of the target")));
            }
            if seen.queue > seen.batch {
                wishes.push(self.workers(at, true, why("late: requests wait longer than a batch runs")));
            }
        } else if seen.latency < target / 2 {
            let left = at.workers.saturating_sub(1).max(1) as f64;
            if seen.busy < 0.3 && seen.busy * at.workers as f64 / left < 0.6 {
                wishes.push(self.workers(at, false, why("idle: the others can do it")));
                wishes.push(self.delay(at, false, why("idle: nothing is gained by waiting")));
            } else if seen.busy >= 0.6 && full && fuller {
                wishes.push(self.cap(at, true, why("busy with full batches and time to spare: larger ones cost less")));
            } else if seen.busy >= 0.6 && seen.rows < 0.5 * f64::from(at.cap) {
                let (to, knob, reason) =
                    self.delay(at, true, why("busy with small batches and time to spare: wait for company"));
                if seen.latency + to.delay.saturating_sub(at.delay) <= target / 5 * 4 {
                    wishes.push((to, knob, reason));
                }
            }
        }
        wishes
    }

    fn cap(&self, at: Settings, up: bool, reason: String) -> Wish {
        let wanted = if up { at.cap.saturating_add(at.cap / 2).saturating_add(1) } else { at.cap - at.cap.div_ceil(4) };
        (Settings { cap: within(wanted, at.cap, &self.goal.cap), ..at }, Knob::BatchCap, reason)
    }

    fn workers(&self, at: Settings, up: bool, reason: String) -> Wish {
        let wanted = if up { at.workers.saturating_add(1) } else { at.workers.saturating_sub(1) };
        (Settings { workers: within(wanted, at.workers, &self.goal.workers), ..at }, Knob::Workers, reason)
    }

    fn delay(&self, at: Settings, up: bool, reason: String) -> Wish {
        let wanted = if up {
            at.delay.saturating_add((at.delay / 2).max(STEP))
        } else if at.delay > STEP * 2 {
            at.delay / 2
        } else {
            Duration::ZERO
        };
        (Settings { delay: within(wanted, at.delay, &self.goal.delay), ..at }, Knob::QueueDelay, reason)
    }
}

/// `wanted` as far as the bounds allow; where `now` lies outside of them it stays, as a knob without bounds does.
fn within<T: Copy + Ord>(wanted: T, now: T, bounds: &RangeInclusive<T>) -> T {
    if bounds.contains(&now) { wanted.clamp(*bounds.start(), *bounds.end()) } else { now }
}

fn value(at: Settings, knob: Knob) -> u64 {
    match knob {
        Knob::BatchCap => at.cap.into(),
        Knob::QueueDelay => crate::clock::nanos(at.delay),
        Knob::Workers => at.workers as u64,
    }
}

impl Move {
    /// Where the knobs stand after it.
    #[must_use]
    pub fn applied_to(&self, mut at: Settings) -> Settings {
        match self.knob {
            Knob::BatchCap => at.cap = u32::try_from(self.to).unwrap_or(u32::MAX),
            Knob::QueueDelay => at.delay = Duration::from_nanos(self.to),
            Knob::Workers => at.workers = self.to as usize,
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const START: Settings = Settings { cap: 8, delay: Duration::ZERO, workers: 2 };

    fn goal() -> Feedback {
        Feedback::new(10 * MS).batch_cap(1..=64).queue_delay(Duration::ZERO..=4 * MS).workers(1..=4)
    }

    fn seen(latency: Duration, shed: u64, busy: f64, rows: f64, batch: Duration) -> Measured {
        Measured { answered: 1000, shed, busy, rows, batch, latency, queue: latency / 2, ..Measured::nothing(MS * 100) }
    }

    /// Looks `looks` times at what `plant` makes of the settings; where they end, and the moves.
    fn run(
        goal: Feedback,
        mut at: Settings,
        looks: u64,
        plant: impl Fn(Settings) -> Measured,
    ) -> (Settings, Vec<Move>) {
        let (mut controller, mut moves) = (Controller::new(goal), Vec::new());
        for look in 0..looks {
            if let Some(step) = controller.decide(look, &plant(at), at) {
                at = step.applied_to(at);
                moves.push(step);
            }
        }
        (at, moves)
    }

    #[test]
    fn overload_makes_batches_larger_then_adds_workers() {
        // A batch takes 1 ms and 20 us per row, so larger ones answer more; 100,000 rows a second come.
        let plant = |at: Settings| {
            let batch = MS + Duration::from_micros(20) * at.cap;
            let rate = f64::from(at.cap) * at.workers as f64 / batch.as_secs_f64();
            let shed = if rate < 1e5 { 500 } else { 0 };
            Measured { answered: (rate / 10.0) as u64, ..seen(8 * MS, shed, 1.0, at.cap.into(), batch) }
        };
        let (end, moves) = run(goal(), START, 60, plant);
        assert_eq!((end.cap, end.workers), (64, 4), "{moves:#?}");
        assert_eq!(moves[0].knob, Knob::BatchCap);
        assert!(moves[0].reason.contains("overloaded with full batches") && moves[0].reason.contains("500 shed"));
        assert!(moves.iter().rev().take(2).all(|step| step.knob == Knob::Workers));
    }

    #[test]
    fn idle_workers_go_and_the_delay_with_them() {
        let at = Settings { delay: MS, workers: 4, ..START };
        let (end, moves) = run(goal(), at, 60, |_| seen(MS, 0, 0.05, 1.0, MS / 4));
        assert_eq!((end.workers, end.delay, end.cap), (1, Duration::ZERO, 8), "{moves:#?}");
        let (end, _) = run(goal(), at, 60, |_| Measured::nothing(MS));
        assert_eq!(end.workers, 1, "nothing at all is idle as well");
    }

    #[test]
    fn a_missed_target_cuts_the_wait_then_the_batch() {
        let plant = |at: Settings| {
            let batch = MS * at.cap;
            seen(batch + at.delay * 2 + MS, 0, 0.5, f64::from(at.cap) * 0.7, batch)
        };
        let (end, moves) = run(goal(), Settings { cap: 32, delay: 4 * MS, workers: 2 }, 80, plant);
        assert_eq!(moves[0].knob, Knob::QueueDelay, "{moves:#?}");
        assert!(end.delay.is_zero() && plant(end).latency <= 10 * MS, "{end:?}");
    }

    #[test]
    fn time_to_spare_fills_batches() {
        let plant = |at: Settings| {
            let rows = 1.0 + at.delay.as_secs_f64() * 4e3;
            seen(2 * MS + at.delay, 0, 0.8, rows, MS / 2)
        };
        let (end, _) = run(goal(), Settings { cap: 32, ..START }, 60, plant);
        assert!(end.delay > MS && end.delay <= 4 * MS, "{end:?}");
    }

    #[test]
    fn a_step_that_made_things_worse_is_taken_back() {
        // More workers than two answer less.
        let plant = |at: Settings| Measured {
            answered: if at.workers > 2 { 500 } else { 1000 },
            ..seen(20 * MS, 50, 1.0, 3.0, MS)
        };
        let (end, moves) = run(goal().batch_cap(8..=8), START, 9, plant);
        assert_eq!(end.workers, 2, "{moves:#?}");
        assert!(moves[1].reason.contains("fell from 10000 to 5000"), "{moves:#?}");
    }

    #[test]
    fn what_goes_to_and_fro_rests_longer_each_time() {
        // Two workers are too many and one is too few: it must not flap.
        let plant = |at: Settings| match at.workers {
            1 => seen(20 * MS, 9, 1.0, 1.0, 2 * MS),
            _ => seen(MS, 0, 0.1, 1.0, 2 * MS),
        };
        let (_, moves) = run(goal().batch_cap(8..=8), START, 1000, plant);
        assert!((3..16).contains(&moves.len()), "{} moves", moves.len());
        let gaps: Vec<u64> = moves.windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns).collect();
        assert!(gaps[gaps.len() - 1] >= 128 && gaps.is_sorted(), "{gaps:?}");
    }

    #[test]
    fn bounds_are_kept_and_a_knob_without_bounds_stays() {
        let mut random = 1_u64;
        let mut draw = move |n: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % n
        };
        let (mut controller, mut at) = (Controller::new(goal().batch_cap(4..=16)), START);
        let (mut fixed, mut steps) = (Controller::new(Feedback::new(10 * MS)), 0);
        for look in 0..5000 {
            let measured = Measured {
                answered: draw(2000),
                ..seen(
                    MS * draw(30) as u32,
                    draw(3) / 2 * draw(9),
                    draw(100) as f64 / 99.0,
                    draw(17) as f64,
                    MS * draw(9) as u32,
                )
            };
            if let Some(step) = controller.decide(look, &measured, at) {
                assert_ne!(step.from, step.to);
                at = step.applied_to(at);
                steps += 1;
            }
            assert!((4..=16).contains(&at.cap) && at.delay <= 4 * MS && (1..=4).contains(&at.workers), "{at:?}");
            assert_eq!(fixed.decide(look, &measured, START), None);
        }
        assert!(steps > 20, "{steps}");
    }
}
