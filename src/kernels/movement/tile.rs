//! A 2-D transpose in blocks of a cache line, through registers where the element size allows.

/// Elements of a block on each side: a line of 4-byte elements, and few enough lines for the first cache.
const BLOCK: usize = 16;

/// `to[b * to_stride + a] = from[a * from_stride + b]` for `a < a_len`, `b < b_len`.
///
/// # Safety
/// All those elements are readable and writable; the two do not overlap.
pub(in crate::kernels) unsafe fn transpose_2d<U: Copy>(
    from: *const U,
    from_stride: isize,
    a_len: usize,
    to: *mut U,
    to_stride: usize,
    b_len: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        // Few channels on either side, as in pictures: known to the compiler, which makes shuffles of them.
        match (a_len, b_len) {
            (2, _) => return interleave::<U, 2>(from, from_stride, to, to_stride, b_len),
            (3, _) => return interleave::<U, 3>(from, from_stride, to, to_stride, b_len),
            (_, 2) => return separate::<U, 2>(from, from_stride, a_len, to, to_stride),
            (_, 3) => return separate::<U, 3>(from, from_stride, a_len, to, to_stride),
            _ => {}
        }
    }
    let side = micro_side(size_of::<U>());
    // SAFETY: blocks and their remainders stay below the two lengths.
    unsafe {
        let mut a = 0;
        while a < a_len {
            let a_n = BLOCK.min(a_len - a);
            let mut b = 0;
            while b < b_len {
                let b_n = BLOCK.min(b_len - b);
                let (from, to) = (from.offset(a as isize * from_stride).add(b), to.add(b * to_stride + a));
                let whole = |n: usize| n.checked_div(side).unwrap_or(0) * side;
                let (a_whole, b_whole) = (whole(a_n), whole(b_n));
                for i in (0..a_whole).step_by(side.max(1)) {
                    for j in (0..b_whole).step_by(side.max(1)) {
                        micro(
                            from.offset(i as isize * from_stride).add(j),
                            from_stride,
                            to.add(j * to_stride + i),
                            to_stride,
                        );
                    }
                }
                for j in 0..b_n {
                    let rest = if j < b_whole { a_whole } else { 0 };
                    for i in rest..a_n {
                        *to.add(j * to_stride + i) = *from.offset(i as isize * from_stride).add(j);
                    }
                }
                b += b_n;
            }
            a += a_n;
        }
    }
}

/// `A` rows become columns.
///
/// # Safety
/// As [`transpose_2d`].
unsafe fn interleave<U: Copy, const A: usize>(
    from: *const U,
    from_stride: isize,
    to: *mut U,
    to_stride: usize,
    b_len: usize,
) {
    let mut rows = [from; A];
    for (a, row) in rows.iter_mut().enumerate() {
        *row = from.wrapping_offset(a as isize * from_stride);
    }
    let column = |b: usize| {
        // SAFETY: as the caller promises.
        let mut column = [unsafe { *rows[0].add(b) }; A];
        for (a, element) in column.iter_mut().enumerate() {
            // SAFETY: as above.
            *element = unsafe { *rows[a].add(b) };
        }
        column
    };
    // SAFETY: as the caller promises.
    unsafe {
        if to_stride == A {
            let done = if size_of::<U>() == 1 && A == 3 { interleave_bytes(&rows, to.cast(), b_len) } else { 0 };
            let to = to.cast::<[U; A]>();
            (done..b_len).for_each(|b| *to.add(b) = column(b));
        } else {
            (0..b_len).for_each(|b| *to.add(b * to_stride).cast::<[U; A]>() = column(b));
        }
    }
}

/// Three rows of bytes become columns, all but the last few: how many are done. A compiler takes them one by one.
///
/// # Safety
/// There are three rows of `len` elements, of one byte; `to` holds as many columns.
#[cfg(target_arch = "x86_64")]
unsafe fn interleave_bytes<U>(rows: &[*const U], to: *mut u8, len: usize) -> usize {
    use std::arch::x86_64::*;
    let mut done = 0;
    // What is stored behind a block's last column belongs to the next.
    while done + 16 < len {
        // SAFETY: each row has sixteen more elements, and `to` one more column than them; every x86-64 has SSE2.
        unsafe {
            let row = |a: usize| _mm_loadu_si128(rows[a].add(done).cast());
            let (x, y, z, zero) = (row(0), row(1), row(2), _mm_setzero_si128());
            let pairs = [_mm_unpacklo_epi8(x, y), _mm_unpackhi_epi8(x, y)];
            let others = [_mm_unpacklo_epi8(z, zero), _mm_unpackhi_epi8(z, zero)];
            for k in 0..4 {
                let (pairs, others) = (pairs[k / 2], others[k / 2]);
                let quads =
                    if k % 2 == 0 { _mm_unpacklo_epi16(pairs, others) } else { _mm_unpackhi_epi16(pairs, others) };
                // Two columns of three bytes and a zero become six bytes.
                let first = _mm_and_si128(quads, _mm_set1_epi64x(0xff_ffff));
                let second = _mm_and_si128(_mm_srli_epi64::<8>(quads), _mm_set1_epi64x(0xffff_ff00_0000));
                let six = _mm_or_si128(first, second);
                let to = to.add(3 * (done + 4 * k));
                _mm_storel_epi64(to.cast(), six);
                _mm_storel_epi64(to.add(6).cast(), _mm_unpackhi_epi64(six, six));
            }
        }
        done += 16;
    }
    done
}

/// Leaves them all to the compiler.
///
/// # Safety
/// It touches nothing.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn interleave_bytes<U>(_: &[*const U], _: *mut u8, _: usize) -> usize {
    0
}

/// `B` columns become rows.
///
/// # Safety
/// As [`transpose_2d`].
unsafe fn separate<U: Copy, const B: usize>(
    from: *const U,
    from_stride: isize,
    a_len: usize,
    to: *mut U,
    to_stride: usize,
) {
    for b in 0..B {
        // SAFETY: as the caller promises.
        unsafe {
            let to = to.add(b * to_stride);
            if from_stride == B as isize {
                let from = from.cast::<[U; B]>();
                (0..a_len).for_each(|a| *to.add(a) = (*from.add(a))[b]);
            } else {
                (0..a_len).for_each(|a| *to.add(a) = *from.offset(a as isize * from_stride).add(b));
            }
        }
    }
}

/// Rows and columns of the block that [`micro`] transposes; 0 where there is none.
fn micro_side(size: usize) -> usize {
    match size {
        1 | 2 if cfg!(target_arch = "x86_64") => 8,
        4 if cfg!(target_arch = "x86_64") => 4,
        8 if cfg!(target_arch = "x86_64") => 2,
        _ => 0,
    }
}

/// Never called: where there are no such registers, [`micro_side`] says that no block is square.
///
/// # Safety
/// It touches nothing.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn micro<U: Copy>(_: *const U, _: isize, _: *mut U, _: usize) {}

/// A square block of [`micro_side`] through SSE2 registers, which every x86-64 has.
///
/// # Safety
/// As [`transpose_2d`], for the block.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn micro<U: Copy>(from: *const U, from_stride: isize, to: *mut U, to_stride: usize) {
    use std::arch::x86_64::*;
    let from = |i: usize| from.wrapping_offset(i as isize * from_stride);
    let to = |j: usize| to.wrapping_add(j * to_stride);
    // SAFETY: each row of the block holds as many elements as its loads and stores take.
    unsafe {
        match size_of::<U>() {
            1 => {
                let row = |i: usize| _mm_loadl_epi64(from(i).cast());
                let pair = |i: usize| _mm_unpacklo_epi8(row(i), row(i + 1));
                let (p0, p1, p2, p3) = (pair(0), pair(2), pair(4), pair(6));
                let quads = [_mm_unpacklo_epi16(p0, p1), _mm_unpackhi_epi16(p0, p1)];
                let others = [_mm_unpacklo_epi16(p2, p3), _mm_unpackhi_epi16(p2, p3)];
                for k in 0..2 {
                    let (low, high) =
                        (_mm_unpacklo_epi32(quads[k], others[k]), _mm_unpackhi_epi32(quads[k], others[k]));
                    _mm_storel_epi64(to(4 * k).cast(), low);
                    _mm_storel_epi64(to(4 * k + 1).cast(), _mm_unpackhi_epi64(low, low));
                    _mm_storel_epi64(to(4 * k + 2).cast(), high);
                    _mm_storel_epi64(to(4 * k + 3).cast(), _mm_unpackhi_epi64(high, high));
                }
            }
            2 => {
                let row = |i: usize| _mm_loadu_si128(from(i).cast());
                let rows = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
                let mut pairs = [_mm_setzero_si128(); 8];
                for k in 0..4 {
                    pairs[2 * k] = _mm_unpacklo_epi16(rows[2 * k], rows[2 * k + 1]);
                    pairs[2 * k + 1] = _mm_unpackhi_epi16(rows[2 * k], rows[2 * k + 1]);
                }
                for k in 0..2 {
                    let (low, high) = (
                        [_mm_unpacklo_epi32(pairs[k], pairs[2 + k]), _mm_unpackhi_epi32(pairs[k], pairs[2 + k])],
                        [
                            _mm_unpacklo_epi32(pairs[4 + k], pairs[6 + k]),
                            _mm_unpackhi_epi32(pairs[4 + k], pairs[6 + k]),
                        ],
                    );
                    for h in 0..2 {
                        _mm_storeu_si128(to(4 * k + 2 * h).cast(), _mm_unpacklo_epi64(low[h], high[h]));
                        _mm_storeu_si128(to(4 * k + 2 * h + 1).cast(), _mm_unpackhi_epi64(low[h], high[h]));
                    }
                }
            }
            4 => {
                let row = |i: usize| _mm_loadu_si128(from(i).cast());
                let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
                let (a, b) = (_mm_unpacklo_epi32(r0, r1), _mm_unpacklo_epi32(r2, r3));
                let (c, d) = (_mm_unpackhi_epi32(r0, r1), _mm_unpackhi_epi32(r2, r3));
                _mm_storeu_si128(to(0).cast(), _mm_unpacklo_epi64(a, b));
                _mm_storeu_si128(to(1).cast(), _mm_unpackhi_epi64(a, b));
                _mm_storeu_si128(to(2).cast(), _mm_unpacklo_epi64(c, d));
                _mm_storeu_si128(to(3).cast(), _mm_unpackhi_epi64(c, d));
            }
            _ => {
                let (a, b) = (_mm_loadu_si128(from(0).cast()), _mm_loadu_si128(from(1).cast()));
                _mm_storeu_si128(to(0).cast(), _mm_unpacklo_epi64(a, b));
                _mm_storeu_si128(to(1).cast(), _mm_unpackhi_epi64(a, b));
            }
        }
    }
}
