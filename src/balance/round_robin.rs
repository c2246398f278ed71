//! Each replica in turn.

use super::{Balancer, Load};

/// Takes the replicas in order of their numbers, whatever they have to do.
///
/// It remembers the number and not the position, so that it skips nobody when replicas come and go.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    last: Option<u64>,
}

impl RoundRobin {
    /// The balancer; it begins with the first replica.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Balancer for RoundRobin {
    fn name(&self) -> &str {
        "round-robin"
    }

    fn choose(&mut self, _group: u64, replicas: &[Load]) -> usize {
        let next = self.last.and_then(|last| replicas.iter().position(|load| load.id > last)).unwrap_or(0);
        self.last = replicas.get(next).map(|load| load.id);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_it_was_when_replicas_change() {
        let mut balancer = RoundRobin::new();
        let mut replicas: Vec<Load> = (0..4).map(Load::idle).collect();
        let mut next = |replicas: &[Load]| replicas[balancer.choose(0, replicas)].id;
        assert_eq!([next(&replicas), next(&replicas)], [0, 1]);
        replicas.remove(1);
        assert_eq!([next(&replicas), next(&replicas), next(&replicas)], [2, 3, 0]);
        replicas.push(Load::idle(9));
        assert_eq!([next(&replicas), next(&replicas), next(&replicas)], [2, 3, 9]);
    }
}
