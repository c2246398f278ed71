//! Few query rows: keys and values are read where they lie, each once a query.

use super::super::arch::{Body, Isa, Simd};
use super::Inputs;
use super::geometry::{Attention, Part};
use super::softmax::weigh;

pub(super) fn run(
    isa: Isa,
    attention: &Attention,
    inputs: Inputs<'_>,
    part: &Part,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let group = attention.heads / attention.kv_heads;
    for head in part.kv_head * group..(part.kv_head + 1) * group {
        for query in part.queries.clone() {
            let row = Row {
                attention,
                q: &inputs.q[attention.q.at(part.batch, head, query)..][..attention.head_size],
                k: rows(
                    inputs.k,
                    attention.k.at(part.batch, part.kv_head, 0),
                    attention.keys,
                    attention.k.row,
                    attention.head_size,
                ),
                v: rows(
                    inputs.v,
                    attention.v.at(part.batch, part.kv_head, 0),
                    attention.keys,
                    attention.v.row,
                    attention.value_size,
                ),
                mask: attention
                    .mask_rows(inputs.mask, part.batch, head)
                    .map(|(mask, stride)| &mask[query * stride..][..attention.keys]),
                visible: attention.visible(query),
                scores: &mut scratch[..attention.keys],
                out: &mut out[attention.out.at(part.batch, head, query) - part.origin..][..attention.value_size],
            };
            isa.dispatch(row);
        }
    }
}

/// What holds `count` rows of `size` elements, `stride` apart, from `at` on.
fn rows(data: &[f32], at: usize, count: usize, stride: usize, size: usize) -> &[f32] {
    match count.checked_sub(1) {
        Some(gaps) => &data[at..][..gaps * stride + size],
        None => &[],
    }
}

/// One query row.
struct Row<'a> {
    attention: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    mask: Option<&'a [f32]>,
    visible: usize,
    scores: &'a mut [f32],
    out: &'a mut [f32],
}

/// Vectors of a value row that are summed together.
const WIDE: usize = 4;

impl Body for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Row { attention, q, k, v, mask, visible, scores, out } = self;
        for (j, score) in scores[..visible].iter_mut().enumerate() {
            let key = &k[j * attention.k.row..][..q.len()];
            let mut sum = [s.splat(0.0); 2];
            let (mut i, mut turn) = (0, 0);
            while i < q.len() {
                let left = (q.len() - i).min(S::LANES);
                // SAFETY: both hold `left` elements from i on.
                let (a, b) = unsafe { (s.load_part(q.as_ptr().add(i), left), s.load_part(key.as_ptr().add(i), left)) };
                sum[turn & 1] = s.fma(a, b, sum[turn & 1]);
                turn += 1;
                i += S::LANES;
            }
            *score = s.sum(s.add(sum[0], sum[1]));
        }
        let factor = s.splat(weigh(s, attention, scores, visible, mask));
        let mut c = 0;
        while c < out.len() {
            let width = WIDE * S::LANES;
            let mut sums = [s.splat(0.0); WIDE];
            let left = out.len() - c;
            for (j, &weight) in scores[..visible].iter().enumerate() {
                let value = v[j * attention.v.row..][..out.len()].as_ptr().wrapping_add(c);
                let weight = s.splat(weight);
                for (w, sum) in sums.iter_mut().enumerate() {
                    let n = left.saturating_sub(w * S::LANES).min(S::LANES);
                    // SAFETY: n elements of the row follow.
                    *sum = s.fma(weight, unsafe { s.load_part(value.wrapping_add(w * S::LANES), n) }, *sum);
                }
            }
            for (w, &sum) in sums.iter().enumerate() {
                let n = left.saturating_sub(w * S::LANES).min(S::LANES);
                // SAFETY: n elements of the output follow.
                unsafe { s.store_part(out.as_mut_ptr().wrapping_add(c + w * S::LANES), n, s.mul(sum, factor)) };
            }
            c += width;
        }
    }
}
