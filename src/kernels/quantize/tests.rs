//! Bytes against ONNX's formulas in scalar f32: equal, on every instruction set.

use super::super::arch::Isa;
use super::super::elementwise::{Broadcast, Operand};
use super::*;

const LENGTHS: [usize; 7] = [0, 1, 7, 16, 33, 100, 700];

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 2003) as f32 / 100.0 - 10.0).collect()
}

#[test]
fn conversions_round_half_to_even_and_saturate() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let mut x = numbers(n);
            let extremes = [0.25, 0.75, -0.25, 1e30, f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
            x.iter_mut().zip(extremes).for_each(|(x, e)| *x = e);
            let (mut unsigned, mut signed, mut back) = (vec![0u8; n], vec![0i8; n], vec![0.0; n]);
            quantize(isa, &x, 0.5, 100, &mut unsigned);
            quantize(isa, &x, 0.05, -7, &mut signed);
            for i in 0..n {
                let e = (x[i] / 0.5).round_ties_even().max(-1e6) + 100.0;
                assert_eq!(unsigned[i], e as u8, "{}", x[i]);
                let e = (x[i] / 0.05).round_ties_even().max(-1e6) - 7.0;
                assert_eq!(signed[i], e as i8, "{}", x[i]);
            }
            dequantize(isa, &signed, 0.3, -7, &mut back);
            assert!((0..n).all(|i| back[i] == (i32::from(signed[i]) + 7) as f32 * 0.3));
            let wide: Vec<i32> = (0..n as i32).map(|i| i * 1_000_003).collect();
            dequantize_i32(isa, &wide, 0.3, &mut back);
            assert!((0..n).all(|i| back[i] == wide[i] as f32 * 0.3));
            let mut again = vec![0u8; n];
            requantize(isa, &unsigned, 0.5, 100, 0.7, 3, &mut again);
            for i in 0..n {
                let real = (i32::from(unsigned[i]) - 100) as f32 * 0.5;
                assert_eq!(again[i], ((real / 0.7).round_ties_even() + 3.0) as u8);
            }
        }
    }
}

#[test]
fn ranges_and_their_parameters() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let x = numbers(n);
            let expected =
                (x.iter().copied().fold(f32::INFINITY, f32::min), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            assert_eq!(min_max(isa, &x), expected);
        }
    }
    assert_eq!(dynamic_parameters(0.0, 0.0), (1.0, 0));
    assert_eq!(dynamic_parameters(1.0, 2.55), (0.01, 0));
    assert_eq!(dynamic_parameters(-5.1, -1.0), (0.02, 255));
    assert_eq!(dynamic_parameters(-1.275, 1.275), (0.01, 128));
}

#[test]
fn sums_and_products_are_those_of_the_real_values() {
    for isa in Isa::available() {
        for (rows, cols) in [(0, 3), (1, 1), (3, 5), (7, 33), (2, 600)] {
            let n = rows * cols;
            let a: Vec<i8> = (0..n).map(|i| (i * 37) as i8).collect();
            let b: Vec<i8> = (0..cols).map(|i| (i * 91 + 5) as i8).collect();
            let broadcast = Broadcast::of(&[cols], &[rows, cols]).unwrap();
            for op in [ByteOp::Add, ByteOp::Mul] {
                let mut y = a.clone();
                let u = Quantized { data: Operand::Target, scale: 0.11, zero: 3 };
                let w = Quantized { data: Operand::Spread(&b, &broadcast), scale: 0.07, zero: -9 };
                byte_binary(isa, op, u, w, 0.13, 20, (-100, 127), 0, &mut y);
                for i in 0..n {
                    let u = (i32::from(a[i]) - 3) as f32 * 0.11;
                    let w = (i32::from(b[i % cols]) + 9) as f32 * 0.07;
                    let real = if op == ByteOp::Add { u + w } else { u * w };
                    let e = ((real / 0.13).round_ties_even() as i32 + 20).clamp(-100, 127);
                    assert_eq!(i32::from(y[i]), e, "{op:?}");
                }
            }
        }
    }
}

#[test]
fn tables_hold_a_function() {
    let table = table_of::<i8, u8>(0.1, 4, 0.2, 10, |x| x.max(0.0));
    // Whole vectors, and what is left behind them.
    let x: Vec<u8> = (0..=255).chain(7..40).collect();
    for isa in Isa::available() {
        let mut y = vec![0; x.len()];
        map_table(isa, &table, &x, &mut y);
        for (x, y) in x.iter().zip(y) {
            let real = ((i32::from(*x as i8) - 4) as f32 * 0.1).max(0.0);
            assert_eq!(y, ((real / 0.2).round_ties_even() + 10.0) as u8);
        }
    }
}

/// A quotient by multiplication is the quotient, ties and all.
#[test]
fn quotients_are_correctly_rounded() {
    let mut random = fastrand::Rng::with_seed(3);
    for isa in Isa::available() {
        for scale in [0.1f32, 0.003_921_569, 0.3, 1.0, 7.77, 1e-6, 3e19] {
            let mut x: Vec<f32> = (-600..600).map(|i| i as f32 * 0.5 * scale).collect();
            x.extend((0..2000).map(|_| (random.f32() - 0.5) * 400.0 * scale));
            x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, -f32::MAX]);
            let mut y = vec![0i8; x.len()];
            quantize(isa, &x, scale, 3, &mut y);
            for (x, y) in x.iter().zip(y) {
                let expected = (x / scale).round_ties_even().max(-1e6) + 3.0;
                assert_eq!(y, expected as i8, "{} {x} / {scale}", isa.name());
            }
        }
    }
}
