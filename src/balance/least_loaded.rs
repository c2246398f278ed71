//! The replica that will be done first.

use super::{Balancer, Load, lightest};

/// Takes the replica with the least predicted work, the first among equals: so a few stay warm when not all are needed.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastLoaded;

impl Balancer for LeastLoaded {
    fn name(&self) -> &str {
        "least-loaded"
    }

    fn choose(&mut self, _group: u64, replicas: &[Load]) -> usize {
        lightest(replicas)
    }
}
