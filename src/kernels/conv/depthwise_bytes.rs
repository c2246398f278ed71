//! Depthwise convolution of bytes: four taps of a channel make a word, so that one instruction takes them all.
//!
//! ```text
//! for each block of COLUMNS output pixels, for each vector of channels:
//!     acc[j] = bias - zero_point * sum(weights)
//!     for each group of four taps: acc[j] += dot(input of the four taps, weights of the four taps)
//! ```
//! Every tap of every output pixel of a block has its pointer, so that padding is a row of zero points like any other, and a
//! block runs on over the ends of output rows.

use super::super::arch::{Body, Simd};
use super::super::gemm::{Finish, FinishTile, RowPointers};
use super::taps::TapRows;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Output pixels of one block.
const COLUMNS: usize = 8;

/// Taps that a kernel may have here; a larger one takes the general path.
pub(super) const MOST_TAPS: usize = 64;

/// Weights of a depthwise convolution, four taps to a word.
#[derive(Debug, Clone)]
pub(super) struct TapWords {
    /// `[taps / 4][channels, filled up to whole vectors][4]`.
    pub(super) words: Vec<i8>,
    /// The sum of each channel's weights, filled up to whole vectors.
    pub(super) sums: Vec<i32>,
    pub(super) taps: usize,
}

impl TapWords {
    /// Packs weights of `[taps][padded]`, where all of them fit in a signed byte and there are not too many taps.
    pub(super) fn pack(weights: &[i32], taps: usize, padded: usize) -> Option<Self> {
        if taps > MOST_TAPS || weights.iter().any(|weight| i8::try_from(*weight).is_err()) {
            return None;
        }
        let mut words = vec![0; taps.div_ceil(4) * padded * 4];
        let mut sums = vec![0; padded];
        for (at, &weight) in weights.iter().enumerate() {
            let (tap, channel) = (at / padded, at % padded);
            words[(tap / 4 * padded + channel) * 4 + tap % 4] = weight as i8;
            sums[channel] += weight;
        }
        Some(TapWords { words, sums, taps })
    }

    /// Bytes that they hold.
    pub(super) fn len_bytes(&self) -> usize {
        self.words.len() + self.sums.len() * 4
    }
}

/// A depthwise convolution of the output pixels `range`.
pub(super) struct DepthwiseBytes<'a> {
    pub(super) rows: TapRows<'a>,
    pub(super) weights: &'a TapWords,
    pub(super) channels: usize,
    pub(super) zero_point: i32,
    pub(super) range: Range<usize>,
    pub(super) finish: &'a Finish<'a>,
    /// Room for [`RowPointers::copy_bytes`] of a block.
    pub(super) copies: &'a mut [u8],
}

/// Bytes of copies that a block needs.
pub(super) fn copy_bytes(rows: &TapRows<'_>) -> usize {
    rows.copy_bytes() * COLUMNS
}

impl Body for DepthwiseBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TapWords { words, sums, taps } = self.weights;
        let groups = taps.div_ceil(4);
        let padded = self.channels.next_multiple_of(S::LANES);
        let mut pointers = [std::ptr::null::<u8>(); MOST_TAPS * COLUMNS];
        let mut done = 0;
        while done < self.range.len() {
            let count = COLUMNS.min(self.range.len() - done);
            self.rows.fill(self.range.start + done, count, &mut pointers[..taps * count], self.copies);
            spread(&mut pointers, *taps, count);
            let mut channel = 0;
            while channel < self.channels {
                let n = S::LANES.min(self.channels - channel);
                // SAFETY: the pointers are good for all channels; the weights are filled up to whole vectors; the rows
                // and channels lie in the output.
                unsafe {
                    let bias = self.finish.start.map_or(s.splat_i32(0), |bias| s.load_i32_part(bias.add(channel), n));
                    let sums = s.load_i32(sums.as_ptr().add(channel));
                    let start = s.sub_i32(bias, s.mul_i32(sums, s.splat_i32(self.zero_point)));
                    let words = words.as_ptr().add(channel * 4);
                    let acc = if n == S::LANES {
                        vector(s, start, &pointers, groups, channel, S::LANES, words, padded * 4)
                    } else {
                        vector(s, start, &pointers, groups, channel, n, words, padded * 4)
                    };
                    let mut tile = MaybeUninit::<[i32; COLUMNS * 16]>::uninit();
                    let at = tile.as_mut_ptr().cast::<i32>();
                    for (j, &acc) in acc.iter().enumerate() {
                        s.store_i32(at.add(j * S::LANES), acc);
                    }
                    s.call(FinishTile {
                        finish: self.finish,
                        words: at,
                        pitch: S::LANES,
                        rows: done..done + count,
                        columns: channel..channel + n,
                    });
                }
                channel += S::LANES;
            }
            done += count;
        }
    }
}

/// Turns `[taps][count]` pointers into `[taps, filled up to a multiple of four][COLUMNS]`, those that are not there being
/// copies of others: what they yield is multiplied by zero, or not stored.
#[inline(always)]
fn spread(pointers: &mut [*const u8; MOST_TAPS * COLUMNS], taps: usize, count: usize) {
    if count < COLUMNS {
        for tap in (0..taps).rev() {
            let last = pointers[tap * count + count - 1];
            for j in (0..COLUMNS).rev() {
                pointers[tap * COLUMNS + j] = if j < count { pointers[tap * count + j] } else { last };
            }
        }
    }
    for tap in taps..taps.next_multiple_of(4) {
        pointers.copy_within(..COLUMNS, tap * COLUMNS);
    }
}

/// The sums of one vector of channels, of which the first `n` are there.
///
/// # Safety
/// The pointers are good for `channel + n` bytes; `words` holds `groups` vectors of words, `pitch` bytes apart.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn vector<S: Simd>(
    s: S,
    start: S::I32,
    pointers: &[*const u8; MOST_TAPS * COLUMNS],
    groups: usize,
    channel: usize,
    n: usize,
    words: *const i8,
    pitch: usize,
) -> [S::I32; COLUMNS] {
    let mut acc = [start; COLUMNS];
    let mut group = pointers.as_ptr();
    for g in 0..groups {
        // SAFETY: as the caller promises; there are four times `groups` rows of pointers.
        unsafe {
            let words = words.add(g * pitch);
            for (j, acc) in acc.iter_mut().enumerate() {
                let tap = |t: usize| (*group.add(t * COLUMNS + j)).add(channel);
                *acc = s.dot_taps(*acc, [tap(0), tap(1), tap(2), tap(3)], n, words);
            }
            group = group.add(4 * COLUMNS);
        }
    }
    acc
}
