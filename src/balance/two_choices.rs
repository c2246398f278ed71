//! The better of two replicas drawn at random.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001: nearly as good as the least
//! loaded of all at the price of two looks, and without the herd that runs to the one that was least loaded a moment
//! ago.

use super::{Balancer, Load};

/// Draws two replicas and takes the one with less predicted work.
#[derive(Debug, Clone)]
pub struct TwoChoices {
    state: u64,
}

impl TwoChoices {
    /// The same seed draws the same replicas.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        TwoChoices { state: seed }
    }

    /// splitmix64: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Balancer for TwoChoices {
    fn name(&self) -> &str {
        "two-choices"
    }

    fn choose(&mut self, _group: u64, replicas: &[Load]) -> usize {
        let count = replicas.len();
        if count < 2 {
            return 0;
        }
        let drawn = self.draw();
        let first = (drawn as u32) as usize % count;
        let second = (first + 1 + (drawn >> 32) as usize % (count - 1)) % count;
        if replicas[first].weight() <= replicas[second].weight() { first } else { second }
    }
}
