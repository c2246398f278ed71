//! Against f64, over layouts, masks, groups, causality, and divisions of the work.

use super::super::arch::Isa;
use super::*;

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
}

fn reference(a: &Attention, x: Inputs<'_>, len: usize) -> Vec<f64> {
    let mut out = vec![0.0; len];
    for (b, h, i) in (0..a.batch).flat_map(|b| (0..a.heads).flat_map(move |h| (0..a.queries).map(move |i| (b, h, i)))) {
        let kv = h / (a.heads / a.kv_heads);
        let score = |j: usize| {
            let at = (a.q.at(b, h, i), a.k.at(b, kv, j));
            let dot: f64 = (0..a.head_size).map(|d| f64::from(x.q[at.0 + d]) * f64::from(x.k[at.1 + d])).sum();
            let mut z = dot * f64::from(a.scale);
            if let Some(cap) = a.soft_cap {
                z = f64::from(cap) * (z / f64::from(cap)).tanh();
            }
            if let (Some(mask), Some(m)) = (x.mask, a.mask) {
                z += f64::from(mask[b * m.batch + h * m.head + i * m.row + j]);
            }
            let hidden = a.causal.is_some_and(|offset| j as isize > i as isize + offset);
            if hidden { f64::NEG_INFINITY } else { z }
        };
        let z: Vec<f64> = (0..a.keys).map(score).collect();
        let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
        for d in 0..a.value_size {
            let weighted = |(j, z): (usize, &f64)| (z - top).exp() / sum * f64::from(x.v[a.v.at(b, kv, j) + d]);
            out[a.out.at(b, h, i) + d] = z.iter().enumerate().map(weighted).sum();
        }
    }
    out
}

#[test]
fn attention_does_as_its_formula_says() {
    // batch, heads, key heads, queries, keys, head size, value size
    let shapes = [
        (1, 1, 1, 1, 1, 1, 1),
        (2, 4, 2, 7, 9, 5, 6),
        (1, 1, 1, 70, 33, 9, 16),
        (2, 3, 1, 3, 20, 8, 70),
        (1, 2, 1, 20, 20, 17, 20),
        (1, 2, 2, 1, 17, 64, 64),
    ];
    for isa in Isa::available() {
        for (case, (batch, heads, kv_heads, queries, keys, head_size, value_size)) in shapes.into_iter().enumerate() {
            for option in 0..4 {
                let rows_first = option % 2 == 0;
                let heads_of = |heads, rows, size| {
                    if rows_first {
                        Heads::after_rows(heads, rows, size)
                    } else {
                        Heads::before_rows(heads, rows, size)
                    }
                };
                let attention = Attention {
                    batch,
                    heads,
                    kv_heads,
                    queries,
                    keys,
                    head_size,
                    value_size,
                    q: heads_of(heads, queries, head_size),
                    k: heads_of(kv_heads, keys, head_size),
                    v: heads_of(kv_heads, keys, value_size),
                    out: heads_of(heads, queries, value_size),
                    mask: match option {
                        1 => Some(MaskStrides { batch: keys, head: 0, row: 0 }),
                        2 => Some(MaskStrides { batch: 0, head: queries * keys, row: keys }),
                        _ => None,
                    },
                    scale: 0.7,
                    soft_cap: (option == 2).then_some(2.0),
                    causal: (option == 3).then_some(keys as isize - queries.min(keys) as isize),
                };
                let (q, k) =
                    (numbers(batch * heads * queries * head_size, 1), numbers(batch * kv_heads * keys * head_size, 2));
                let (v, mask) =
                    (numbers(batch * kv_heads * keys * value_size, 3), numbers(heads.max(batch) * queries * keys, 4));
                let inputs = Inputs { q: &q, k: &k, v: &v, mask: Some(&mask) };
                let mut scratch = vec![f32::NAN; attention.scratch_len(isa)];
                let mut out = vec![f32::NAN; batch * heads * queries * value_size];
                attention.run(isa, inputs, &mut out, &mut scratch);
                let expected = reference(&attention, inputs, out.len());
                for (&y, &e) in out.iter().zip(&expected) {
                    assert!((f64::from(y) - e).abs() < 2e-5, "{y} is not {e}: case {case}.{option} on {}", isa.name());
                }
                // The last batch alone, its second half of queries on its own where rows come first.
                let mut part = vec![f32::NAN; out.len()];
                let origin = (batch - 1) * attention.out.batch;
                let half = queries / 2;
                part[..origin].copy_from_slice(&out[..origin]);
                let last = batch - 1..batch;
                let run = |queries, to: &mut [f32], scratch: &mut [f32]| {
                    attention.run_part(isa, inputs, last.clone(), 0..kv_heads, queries, to, origin, scratch);
                };
                run(half..queries, &mut part[origin..], &mut scratch);
                run(0..half, &mut part[origin..], &mut scratch);
                assert_eq!(part, out, "divided");
            }
        }
    }
}
