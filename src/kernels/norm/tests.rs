//! Against f64, whatever is added before and however wide the rows.

use super::super::arch::Isa;
use super::*;

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 500.0 - 1.5).collect()
}

fn normalized(z: &[f64], center: Center, epsilon: f64) -> Vec<f64> {
    let n = z.len() as f64;
    let mean = if center == Center::Mean { z.iter().sum::<f64>() / n } else { 0.0 };
    let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
    z.iter().map(|z| (z - mean) / (variance + epsilon).sqrt()).collect()
}

fn close(y: f32, e: f64, what: &str) {
    assert!((f64::from(y) - e).abs() <= 5e-6 + 3e-6 * e.abs(), "{y} is not {e}: {what}");
}

#[test]
fn rows_are_normalized_with_what_is_added_first() {
    for isa in Isa::available() {
        for center in [Center::Mean, Center::Zero] {
            for cols in [1, 2, 5, 16, 31, 64, 65, 130, 384] {
                let rows = 3;
                let (x, residual) = (numbers(rows * cols, 1), numbers(rows * cols, 2));
                let (bias, scale, shift) = (numbers(cols, 3), numbers(cols, 4), numbers(cols, 5));
                for bits in 0..16 {
                    let has = |k: usize| bits >> k & 1 == 1;
                    let norm = RowNorm {
                        center,
                        cols,
                        epsilon: 1e-5,
                        scale: has(0).then_some(&scale[..]),
                        shift: has(1).then_some(&shift[..]),
                    };
                    let added = Rows {
                        x: has(2).then_some(&x[..]),
                        residual: has(2).then_some(&residual[..]),
                        bias: has(3).then_some(&bias[..]),
                    };
                    let mut y = x.clone();
                    let mut sum = vec![0.0; y.len()];
                    row_norm(isa, &norm, added, has(3).then_some(&mut sum[..]), &mut y);
                    for r in 0..rows {
                        let z: Vec<f64> = (0..cols)
                            .map(|c| {
                                let at = r * cols + c;
                                let mut z = x[at];
                                z += if has(2) { residual[at] } else { 0.0 };
                                z += if has(3) { bias[c] } else { 0.0 };
                                assert!(!has(3) || sum[at] == z, "the sum is handed out");
                                f64::from(z)
                            })
                            .collect();
                        for (c, e) in normalized(&z, center, 1e-5).iter().enumerate() {
                            let e = if has(0) { e * f64::from(scale[c]) } else { *e };
                            let e = if has(1) { e + f64::from(shift[c]) } else { e };
                            close(y[r * cols + c], e, isa.name());
                        }
                    }
                    let last = (rows - 1) * cols..;
                    let mut alone = x[last.clone()].to_vec();
                    let one = Rows {
                        x: added.x.map(|x| &x[last.clone()]),
                        residual: added.residual.map(|r| &r[last.clone()]),
                        bias: added.bias,
                    };
                    row_norm(isa, &norm, one, None, &mut alone);
                    assert_eq!(alone, y[last], "a row does not know its neighbors");
                }
            }
        }
    }
}

#[test]
fn what_does_not_vary_is_the_shift() {
    for isa in Isa::available() {
        let (x, scale, shift) = ([1000.123f32; 40], [3.0; 20], [0.25; 20]);
        for (groups, plane) in [(20, 2), (20, 1), (5, 2), (1, 2)] {
            let (x, mut work) = (&x[..20 * plane], [0.0; 40]);
            let mut y = vec![0.0; x.len()];
            group_norm(isa, groups, 0, plane, 1e-5, &scale, &shift, x, &mut y);
            assert!(y.iter().all(|y| (y - 0.25).abs() < 0.1), "{y:?}");
            group_norm_channels_last(isa, groups, plane, 1e-5, &scale, &shift, x, &mut y, &mut work);
            assert!(y.iter().all(|y| (y - 0.25).abs() < 0.1), "{y:?}");
            if groups == 20 && plane == 1 {
                assert!(y.iter().all(|y| *y == 0.25), "nothing to take off a lone element");
            }
        }
    }
}

#[test]
fn groups_and_instances_in_both_layouts() {
    for isa in Isa::available() {
        for (images, channels, groups, plane) in
            [(1, 1, 1, 1), (2, 6, 6, 5), (2, 6, 3, 7), (1, 40, 40, 9), (1, 40, 2, 3), (2, 144, 36, 4)]
        {
            let x = numbers(images * channels * plane, 1);
            let (scale, shift) = (numbers(channels, 2), numbers(channels, 3));
            let mut y = vec![0.0; x.len()];
            group_norm(isa, groups, 0, plane, 1e-3, &scale, &shift, &x, &mut y);
            let from = channels / groups * plane;
            let mut rest = vec![0.0; x.len() - from];
            group_norm(isa, groups, 1, plane, 1e-3, &scale, &shift, &x[from..], &mut rest);
            assert_eq!(rest, y[from..], "from the second group on");
            let last = |v: &[f32]| -> Vec<f32> {
                let at = |i: usize| {
                    let (c, p, image) = (i % channels, i / channels % plane, i / channels / plane);
                    (image * channels + c) * plane + p
                };
                (0..v.len()).map(|i| v[at(i)]).collect()
            };
            let mut y_last = vec![0.0; x.len()];
            let mut work = vec![9.0; 2 * channels];
            let (from, to) = (last(&x), &mut y_last);
            group_norm_channels_last(isa, groups, plane, 1e-3, &scale, &shift, &from, to, &mut work);
            let per_group = channels / groups;
            for (g, (x, y)) in x.chunks(per_group * plane).zip(y.chunks(per_group * plane)).enumerate() {
                let z: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                for (i, e) in normalized(&z, Center::Mean, 1e-3).iter().enumerate() {
                    let c = g % groups * per_group + i / plane;
                    close(y[i], e * f64::from(scale[c]) + f64::from(shift[c]), "channels first");
                }
            }
            for (a, e) in y_last.iter().zip(last(&y)) {
                close(*a, f64::from(e), "channels last");
            }
        }
    }
}
