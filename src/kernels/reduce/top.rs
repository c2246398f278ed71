//! The first few of each line in order of size.

/// The `k` greatest (or least) of each line of `n` elements that lie `inner` apart in `x`, `[outer, n, inner]`, and where
/// they stood; `values` and `places` are `[outer, k, inner]`. Of equals the first comes first, zeros of either sign are
/// equal, and NaN is greater than any number. `keys` has room for [`top_k_room`].
///
/// # Panics
/// Where the lengths are not these, or `k` is more than `n`.
#[allow(clippy::too_many_arguments)]
pub fn top_k(
    largest: bool,
    k: usize,
    n: usize,
    inner: usize,
    x: &[f32],
    keys: &mut [u64],
    values: &mut [f32],
    places: &mut [i64],
) {
    assert!(k <= n && u32::try_from(n).is_ok() && values.len() == places.len(), "k of n elements that can be counted");
    if values.is_empty() {
        return;
    }
    for (outer, (values, places)) in
        values.chunks_exact_mut(k * inner).zip(places.chunks_exact_mut(k * inner)).enumerate()
    {
        let x = &x[outer * n * inner..][..n * inner];
        for line in 0..inner {
            let key = |i: usize| {
                let key = ascending(x[i * inner + line]);
                u64::from(if largest { !key } else { key }) << 32 | i as u64
            };
            for (at, key) in first(keys, k, n, key).iter().enumerate() {
                let place = (*key & u64::from(u32::MAX)) as usize;
                values[at * inner + line] = x[place * inner + line];
                places[at * inner + line] = place as i64;
            }
        }
    }
}

/// Keys that [`top_k`] needs room for.
#[must_use]
pub fn top_k_room(k: usize, n: usize) -> usize {
    k.saturating_mul(2).max(64).min(n)
}

/// A number that grows with the element.
#[inline(always)]
fn ascending(x: f32) -> u32 {
    const SIGN: u32 = 1 << 31;
    if x.is_nan() {
        return u32::MAX;
    }
    // A negative zero plus zero is zero.
    let bits = (x + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The least `k` keys in order. Candidates are collected until there is no more room; from then on only what is less than
/// the last of the best ones is one.
#[inline(always)]
fn first(keys: &mut [u64], k: usize, n: usize, key: impl Fn(usize) -> u64) -> &[u64] {
    if k <= FEW {
        return few(&mut keys[..k], n, key);
    }
    let keys = &mut keys[..top_k_room(k, n)];
    let (mut len, mut bound) = (0, u64::MAX);
    for i in 0..n {
        let key = key(i);
        if key >= bound {
            continue;
        }
        if len == keys.len() {
            bound = *keys.select_nth_unstable(k - 1).1;
            len = k;
            if key >= bound {
                continue;
            }
        }
        keys[len] = key;
        len += 1;
    }
    let found = &mut keys[..len];
    if len > k {
        found.select_nth_unstable(k - 1);
    }
    found[..k].sort_unstable();
    &keys[..k]
}

/// So many are kept in order, each key put where it belongs.
const FEW: usize = 24;

/// [`first`] of a few.
#[inline(always)]
fn few(keys: &mut [u64], n: usize, key: impl Fn(usize) -> u64) -> &[u64] {
    keys.fill(u64::MAX);
    let last = keys.len() - 1;
    for i in 0..n {
        let key = key(i);
        if key < keys[last] {
            let mut at = last;
            while at > 0 && keys[at - 1] > key {
                keys[at] = keys[at - 1];
                at -= 1;
            }
            keys[at] = key;
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_those_of_a_sorted_line() {
        let nan = f32::NAN;
        for (n, inner, outer) in [(1, 1, 1), (5, 2, 3), (300, 1, 2), (1000, 3, 1)] {
            let mut x: Vec<f32> = (0..n * inner * outer).map(|i| ((i * 7919) % 101) as f32 - 50.0).collect();
            let last = x.len() - 1;
            (x[0], x[last / 2], x[last]) = (-0.0, nan, 0.0);
            for k in [1, 2, 7, 25, n / 2, n].into_iter().filter(|k| (1..=n).contains(k)) {
                for largest in [false, true] {
                    let mut keys = vec![0; top_k_room(k, n)];
                    let (mut values, mut places) = (vec![0.0; outer * k * inner], vec![0; outer * k * inner]);
                    top_k(largest, k, n, inner, &x, &mut keys, &mut values, &mut places);
                    for line in 0..outer * inner {
                        let at = |i: usize| x[(line / inner * n + i) * inner + line % inner];
                        let mut order: Vec<usize> = (0..n).collect();
                        let key = |i: &usize| if at(*i).is_nan() { f32::INFINITY } else { at(*i) };
                        order.sort_by(|a, b| {
                            let order = key(a).partial_cmp(&key(b)).unwrap();
                            if largest { order.reverse() } else { order }
                        });
                        for (rank, place) in order[..k].iter().enumerate() {
                            let found = (line / inner * k + rank) * inner + line % inner;
                            assert_eq!(places[found], *place as i64, "{n} {k} {largest}");
                            assert_eq!(values[found].to_bits(), at(*place).to_bits());
                        }
                    }
                }
            }
        }
    }
}
