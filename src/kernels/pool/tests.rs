//! Against loops over padded windows, in both layouts.

use super::super::arch::Isa;
use super::*;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 2003) as f32 / 100.0 - 10.0).collect()
}

fn case(
    channels: usize,
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    begin: [usize; 2],
    end: [usize; 2],
) -> Pool {
    let out = |k: usize| (input[k] + begin[k] + end[k] - dilations[k] * (kernel[k] - 1) - 1) / strides[k] + 1;
    Pool { channels, input, output: [out(0), out(1)], kernel, strides, dilations, begin, end }
}

fn cases() -> Vec<Pool> {
    let mut cases = vec![
        case(1, [5, 5], [3, 3], [1, 1], [1, 1], [0, 0], [0, 0]),
        case(3, [7, 9], [3, 3], [2, 2], [1, 1], [1, 1], [1, 1]),
        case(37, [6, 6], [2, 3], [2, 1], [1, 2], [0, 2], [1, 0]),
        case(64, [1, 12], [1, 4], [1, 3], [1, 1], [0, 1], [0, 2]),
        case(16, [4, 4], [4, 4], [1, 1], [1, 1], [0, 0], [0, 0]),
        case(5, [9, 9], [3, 2], [3, 3], [2, 2], [2, 1], [2, 1]),
    ];
    // As ceil_mode leaves it: the last window begins in the padding and reaches past it.
    let mut beyond = case(4, [6, 6], [3, 3], [2, 2], [1, 1], [0, 0], [0, 0]);
    beyond.output = [3, 3];
    cases.push(beyond);
    cases
}

/// The elements of a window and the number of its places in the padded image.
fn window(pool: &Pool, oy: usize, ox: usize) -> (Vec<[usize; 2]>, usize) {
    let (mut inside, mut padded) = (Vec::new(), 0);
    for (ky, kx) in (0..pool.kernel[0]).flat_map(|y| (0..pool.kernel[1]).map(move |x| (y, x))) {
        let y = oy * pool.strides[0] + ky * pool.dilations[0];
        let x = ox * pool.strides[1] + kx * pool.dilations[1];
        let within = |v: usize, k: usize| v < pool.input[k] + pool.begin[k] + pool.end[k];
        padded += usize::from(within(y, 0) && within(x, 1));
        let at = y.checked_sub(pool.begin[0]).zip(x.checked_sub(pool.begin[1]));
        inside.extend(at.filter(|&(y, x)| y < pool.input[0] && x < pool.input[1]).map(|(y, x)| [y, x]));
    }
    (inside, padded)
}

#[test]
fn windows_in_both_layouts() {
    let kinds =
        [PoolKind::Max, PoolKind::Average { include_padding: false }, PoolKind::Average { include_padding: true }];
    for isa in Isa::available() {
        for (pool, kind) in cases().into_iter().flat_map(|pool| kinds.map(|kind| (pool, kind))) {
            let (images, c) = (2, pool.channels);
            let ([h, w], [oh, ow]) = (pool.input, pool.output);
            let x = numbers(images * h * w * c);
            let mut last = vec![f32::NAN; images * oh * ow * c];
            pool_channels_last(isa, kind, &pool, &x, 0..oh, &mut last[..oh * ow * c]);
            pool_channels_last(isa, kind, &pool, &x, oh..images * oh, &mut last[oh * ow * c..]);
            let turned: Vec<f32> =
                (0..x.len()).map(|i| x[i / (c * h * w) * c * h * w + i % (h * w) * c + i / (h * w) % c]).collect();
            let mut first = vec![f32::NAN; last.len()];
            pool_channels_first(isa, kind, &pool, &turned, 0..images * c, &mut first);
            for (n, oy, ox, k) in itertools(images, oh, ow, c) {
                let (inside, padded) = window(&pool, oy, ox);
                let values: Vec<f32> = inside.iter().map(|[y, x_]| x[((n * h + y) * w + x_) * c + k]).collect();
                let expected = match kind {
                    PoolKind::Max => values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                    PoolKind::Average { include_padding } => {
                        values.iter().sum::<f32>() / if include_padding { padded } else { inside.len() } as f32
                    }
                };
                let got = [last[((n * oh + oy) * ow + ox) * c + k], first[((n * c + k) * oh + oy) * ow + ox]];
                for y in got {
                    assert!((y - expected).abs() < 1e-5, "{y}, not {expected}: {kind:?} {pool:?}");
                }
            }
        }
    }
}

#[test]
fn a_maximum_is_nan_where_an_element_is() {
    for isa in Isa::available() {
        for pool in cases() {
            let (c, [h, w], [oh, ow]) = (pool.channels, pool.input, pool.output);
            for at in 0..h * w {
                let mut x = numbers(h * w * c);
                x[at * c..(at + 1) * c].fill(f32::NAN);
                let turned: Vec<f32> = (0..x.len()).map(|i| x[i % (h * w) * c + i / (h * w)]).collect();
                let (mut last, mut first) = (vec![0.0; oh * ow * c], vec![0.0; oh * ow * c]);
                pool_channels_last(isa, PoolKind::Max, &pool, &x, 0..oh, &mut last);
                pool_channels_first(isa, PoolKind::Max, &pool, &turned, 0..c, &mut first);
                for (_, oy, ox, k) in itertools(1, oh, ow, c) {
                    let expected = window(&pool, oy, ox).0.contains(&[at / w, at % w]);
                    let got = [last[(oy * ow + ox) * c + k], first[(k * oh + oy) * ow + ox]];
                    assert_eq!(got.map(f32::is_nan), [expected; 2], "{at} of {pool:?} on {}", isa.name());
                }
            }
        }
    }
}

fn itertools(a: usize, b: usize, c: usize, d: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / d / c / b, i / d / c % b, i / d % c, i % d))
}

#[test]
fn bytes_are_the_same_everywhere() {
    let scales = Requantize { x_scale: 0.1, x_zero: 3, y_scale: 0.07, y_zero: 11 };
    for isa in Isa::available() {
        for pool in cases() {
            let (c, [h, w], [oh, ow]) = (pool.channels, pool.input, pool.output);
            let x: Vec<u8> = (0..h * w * c).map(|i| (i * 37 % 256) as u8).collect();
            let signed: &[i8] = bytemuck::cast_slice(&x);
            let (mut top, mut mean, mut low) = (vec![0u8; oh * ow * c], vec![0u8; oh * ow * c], vec![0i8; oh * ow * c]);
            max_bytes(isa, &pool, &x, 0..oh, &mut top);
            max_bytes(isa, &pool, signed, 0..oh, &mut low);
            average_bytes(isa, &pool, true, scales, &x, 0..oh, &mut mean);
            for (_, oy, ox, k) in itertools(1, oh, ow, c) {
                let (inside, padded) = window(&pool, oy, ox);
                let at = (oy * ow + ox) * c + k;
                let values = || inside.iter().map(|[y, x]| (y * w + x) * c + k);
                assert_eq!(top[at], values().map(|i| x[i]).max().unwrap());
                assert_eq!(low[at], values().map(|i| signed[i]).max().unwrap());
                let sum: i32 = values().map(|i| i32::from(x[i]) - 3).sum();
                let steps = (sum as f32 * 0.1 / padded as f32 / 0.07).round_ties_even() as i32;
                assert_eq!(i32::from(mean[at]), (steps + 11).clamp(0, 255));
            }
        }
    }
}
