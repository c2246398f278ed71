//! A digest of bytes that tells a damaged file from a whole one. It is no protection against who wants to deceive.

/// Odd, so that multiplying by it loses nothing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The digest. Every step keeps the state apart for different words, so one changed word is always seen.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(FACTOR).rotate_left(29);
    // Four chains, so that one multiplication need not wait for the one before.
    let mut states = [1u64, 2, 3, 4];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (state, word) in states.iter_mut().zip(block.chunks_exact(8)) {
            *state = step(*state, word.try_into().map_or(0, u64::from_le_bytes));
        }
    }
    let rest = blocks.remainder().iter().fold(bytes.len() as u64, |state, &byte| step(state, byte.into()));
    states.into_iter().fold(rest, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_and_length_is_seen() {
        let bytes: Vec<u8> = (0..101).map(|i| (i * 37) as u8).collect();
        let whole = digest(&bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert_ne!(digest(&other), whole);
            }
            assert_ne!(digest(&bytes[..at]), whole);
        }
    }
}
