//! Queue policies per priority level: how long a class may wait, and what happens then.

use super::{Decision, Policy, Precedence, View, Waiting};
use crate::clock::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// What happens to a request that has waited for its level's timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutAction {
    /// It is given up, as if its deadline had passed.
    #[default]
    Reject,
    /// It waits on, behind all that have not timed out.
    Delay,
}

/// The queue policy of one priority level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    timeout: Option<Duration>,
    action: TimeoutAction,
}

impl Level {
    /// Requests may wait for ever.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// They may wait for `timeout`; then `action` is taken.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration, action: TimeoutAction) -> Self {
        (self.timeout, self.action) = (Some(timeout), action);
        self
    }

    fn ends(&self, request: &Waiting) -> Time {
        self.timeout.map_or(Time::NEVER, |timeout| request.arrived.after(timeout))
    }
}

/// Another policy, with a queue policy for each priority level.
#[derive(Debug, Clone)]
pub struct Levels<P> {
    inner: P,
    levels: BTreeMap<u8, Level>,
    kept: Vec<Waiting>,
    positions: Vec<usize>,
}

impl<P: Policy> Levels<P> {
    /// `inner` decides between those that have not timed out.
    #[must_use]
    pub fn new(inner: P) -> Self {
        Levels { inner, levels: BTreeMap::new(), kept: Vec::new(), positions: Vec::new() }
    }

    /// The queue policy of the requests of `priority`.
    #[must_use]
    pub fn level(mut self, priority: u8, level: Level) -> Self {
        self.levels.insert(priority, level);
        self
    }

    fn select(&mut self, view: &View<'_>, select: impl Fn(&Waiting) -> bool) {
        self.kept.clear();
        self.positions.clear();
        for (at, request) in view.waiting.iter().enumerate().filter(|(_, request)| select(request)) {
            self.kept.push(*request);
            self.positions.push(at);
        }
    }

    /// Lets the inner policy decide about what was selected.
    fn decide_selected(&mut self, view: &View<'_>, decision: &mut Decision) {
        if self.kept.is_empty() {
            return;
        }
        let mut inner = Decision { look_again: Time::NEVER, ..Decision::default() };
        self.inner.decide(&View { waiting: &self.kept, ..*view }, &mut inner);
        let position = |at: usize| self.positions.get(at).copied();
        decision.run.extend(inner.run.into_iter().filter_map(position));
        decision.drop.extend(inner.drop.into_iter().filter_map(position));
        decision.look_again = decision.look_again.min(inner.look_again);
    }
}

impl<P: Policy> Policy for Levels<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        let levels = std::mem::take(&mut self.levels);
        let end = |request: &Waiting| {
            levels.get(&request.priority).map_or((Time::NEVER, TimeoutAction::Delay), |l| (l.ends(request), l.action))
        };
        for (at, request) in view.waiting.iter().enumerate() {
            match end(request) {
                (end, TimeoutAction::Reject) if end <= view.now => decision.drop.push(at),
                (end, TimeoutAction::Reject) => decision.look_again = decision.look_again.min(end),
                _ => {}
            }
        }
        self.select(view, |request| end(request).0 > view.now);
        self.decide_selected(view, decision);
        if decision.run.is_empty() {
            self.select(view, |request| matches!(end(request), (end, TimeoutAction::Delay) if end <= view.now));
            self.decide_selected(view, decision);
        }
        self.levels = levels;
    }

    fn precedence(&self) -> Precedence {
        self.inner.precedence()
    }

    fn timeout(&self, priority: u8) -> Option<Duration> {
        let level = self.levels.get(&priority).filter(|level| level.action == TimeoutAction::Reject);
        let own = level.and_then(|level| level.timeout);
        own.into_iter().chain(self.inner.timeout(priority)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FirstCome, Limits};
    use super::*;

    #[test]
    fn each_level_has_its_own_timeout_and_action() {
        let timeout = Duration::from_nanos(100);
        let mut policy = Levels::new(FirstCome)
            .level(1, Level::new().timeout(timeout, TimeoutAction::Reject))
            .level(2, Level::new().timeout(timeout, TimeoutAction::Delay));
        let request = |arrived, priority| Waiting { priority, ..Waiting::at(Time::from_nanos(arrived)) };
        let waiting = [request(0, 1), request(0, 2), request(0, 3), request(50, 1), request(60, 2)];
        let limits = Limits::default();
        let mut decide = |now| {
            let mut decision = Decision::default();
            decision.clear();
            policy.decide(&View::new(Time::from_nanos(now), &waiting, &limits, &()), &mut decision);
            (decision.run, decision.drop)
        };
        assert_eq!(decide(70), (vec![0, 1, 2, 3, 4], vec![]));
        assert_eq!(decide(120), (vec![2, 3, 4], vec![0]));
        assert_eq!(decide(500), (vec![2], vec![0, 3]));
    }

    #[test]
    fn the_delayed_run_when_nothing_else_waits() {
        let level = Level::new().timeout(Duration::from_nanos(1), TimeoutAction::Delay);
        let mut policy = Levels::new(FirstCome).level(1, level);
        let mut decision = Decision::default();
        let view_limits = Limits::default();
        policy.decide(&View::new(Time::from_nanos(9), &[Waiting::at(Time::ZERO)], &view_limits, &()), &mut decision);
        assert_eq!(decision.run, [0]);
    }
}
