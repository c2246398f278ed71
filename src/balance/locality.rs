//! The replica that knows the group already: its plan is built, and its weights are in its cache.

use super::{Balancer, Load, lightest};
use std::time::Duration;

/// Takes a replica that holds the group's plan warm, unless it is too far behind the least loaded.
///
/// A group that is warm nowhere goes to its *home*, by rendezvous hashing (D. Thaler and C. Ravishankar, "Using
/// Name-Based Mappings to Increase Hit Rates", IEEE/ACM ToN 1998), so that groups spread over the replicas and few of them
/// move when one comes or goes.
#[derive(Debug, Clone, Copy)]
pub struct Locality {
    slack: Duration,
}

impl Locality {
    /// The warm replica is left when it has more than `slack` of work above the least loaded: about what a cold start
    /// costs.
    #[must_use]
    pub fn new(slack: Duration) -> Self {
        Locality { slack }
    }
}

fn affinity(group: u64, id: u64) -> u64 {
    let mut mixed = group.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ id.wrapping_add(1).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

impl Balancer for Locality {
    fn name(&self) -> &str {
        "locality"
    }

    fn choose(&mut self, group: u64, replicas: &[Load]) -> usize {
        let lightest = lightest(replicas);
        let Some(least) = replicas.get(lightest) else { return 0 };
        let bound = least.work.saturating_add(self.slack);
        let near = || replicas.iter().enumerate().filter(|(_, load)| load.work <= bound);
        let warm = near().filter(|(_, load)| load.warm).min_by_key(|(_, load)| load.weight());
        let home = || near().max_by_key(|(_, load)| affinity(group, load.id));
        warm.or_else(home).map_or(lightest, |(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_group_has_a_home_and_few_move_when_one_leaves() {
        let mut balancer = Locality::new(Duration::from_millis(1));
        let replicas: Vec<Load> = (0..5).map(Load::idle).collect();
        let fewer: Vec<Load> = replicas.iter().filter(|load| load.id != 3).copied().collect();
        let mut home = |replicas: &[Load], group| replicas[balancer.choose(group, replicas)].id;
        for group in 0..100 {
            let before = home(&replicas, group);
            assert_eq!(before, home(&replicas, group));
            assert!(before == 3 || home(&fewer, group) == before);
        }
    }

    #[test]
    fn the_warm_one_is_kept_until_it_is_too_far_behind() {
        let mut balancer = Locality::new(Duration::from_millis(2));
        let mut replicas: Vec<Load> = (0..4).map(Load::idle).collect();
        replicas[2].warm = true;
        for (work_us, chosen_warm) in [(0, true), (2000, true), (2001, false)] {
            replicas[2].work = Duration::from_micros(work_us);
            assert!((0..50).all(|group| (balancer.choose(group, &replicas) == 2) == chosen_warm), "{work_us} us");
        }
    }
}
