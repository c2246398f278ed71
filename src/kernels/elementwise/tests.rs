//! Maps against plain loops, on every instruction set, with every broadcast and every tail.

use super::super::arch::Isa;
use super::*;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 * 8.0 - 4.0
    };
    (0..n).map(|_| next()).collect()
}

const LENGTHS: [usize; 12] = [0, 1, 3, 4, 7, 15, 16, 17, 31, 33, 511, 1200];

#[test]
fn unary_maps_do_as_scalars_do_whatever_the_tail() {
    let alpha = 0.3;
    type Case = (Unary, fn(f32) -> f32);
    let cases: [Case; 34] = [
        (Unary::Abs, f32::abs),
        (Unary::Neg, |x| -x),
        (Unary::Sign, f32::signum),
        (Unary::Ceil, f32::ceil),
        (Unary::Floor, f32::floor),
        (Unary::Round, f32::round_ties_even),
        (Unary::Reciprocal, |x| 1.0 / x),
        (Unary::Square, |x| x * x),
        (Unary::Sqrt, f32::sqrt),
        (Unary::Rsqrt, |x| 1.0 / x.sqrt()),
        (Unary::Exp, f32::exp),
        (Unary::Ln, f32::ln),
        (Unary::Erf, libm::erff),
        (Unary::Sin, f32::sin),
        (Unary::Cos, f32::cos),
        (Unary::Relu, |x| x.max(0.0)),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::Tanh, f32::tanh),
        (Unary::Softplus, |x| x.exp().ln_1p()),
        (Unary::Softsign, |x| x / (1.0 + x.abs())),
        (Unary::Mish, |x| x * x.exp().ln_1p().tanh()),
        (Unary::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Unary::Gelu, |x| 0.5 * x * (1.0 + libm::erff(x / 2f32.sqrt()))),
        (Unary::GeluTanh, |x| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044715 * x * x * x)).tanh())),
        (Unary::Swish { alpha }, |x| x / (1.0 + (-0.3 * x).exp())),
        (Unary::LeakyRelu { alpha }, |x| if x < 0.0 { 0.3 * x } else { x }),
        (Unary::Elu { alpha }, |x| if x < 0.0 { 0.3 * x.exp_m1() } else { x }),
        (Unary::Selu { alpha, gamma: 2.0 }, |x| 2.0 * if x < 0.0 { 0.3 * x.exp_m1() } else { x }),
        (Unary::Celu { alpha }, |x| if x < 0.0 { 0.3 * (x / 0.3).exp_m1() } else { x }),
        (Unary::HardSigmoid { alpha, beta: 0.4 }, |x| (0.3 * x + 0.4).clamp(0.0, 1.0)),
        (Unary::ThresholdedRelu { alpha }, |x| if x > 0.3 { x } else { 0.0 }),
        (Unary::Clip { low: -1.0, high: 2.0 }, |x| x.clamp(-1.0, 2.0)),
        (Unary::Affine { scale: 0.5, shift: 3.0 }, |x| 0.5 * x + 3.0),
        (Unary::Scalar(f32::tan), f32::tan),
    ];
    for isa in Isa::available() {
        for (op, reference) in cases {
            let x = numbers(1200, 7);
            let mut whole = vec![0.0; x.len()];
            unary(isa, op, &x, &mut whole);
            for (&x, &y) in x.iter().zip(&whole) {
                let expected = reference(x);
                let close = (y - expected).abs() <= 3e-6 + 2e-6 * expected.abs() || y.is_nan() && expected.is_nan();
                assert!(close, "{op:?}({x}) = {y}, not {expected}, on {}", isa.name());
            }
            for n in LENGTHS {
                // Another place in the buffer and another tail: the same bits.
                let from = 1200 - n;
                let mut y = x[from..].to_vec();
                unary_in_place(isa, op, &mut y);
                let same = y.iter().zip(&whole[from..]).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{op:?} of {n} elements differs with its place on {}", isa.name());
            }
        }
    }
}

/// The operand's index for every element of the output, by ONNX's rule.
fn spread(from: &[usize], to: &[usize]) -> Vec<usize> {
    let total: usize = to.iter().product();
    let index = |mut i: usize| {
        let (mut at, mut stride) = (0, 1);
        for axis in (0..to.len()).rev() {
            let position = i % to[axis];
            i /= to[axis];
            if let Some(k) = (axis + from.len()).checked_sub(to.len()) {
                at += if from[k] == 1 { 0 } else { position * stride };
                stride *= from[k];
            }
        }
        at
    };
    (0..total).map(index).collect()
}

const SHAPES: [(&[usize], &[usize]); 19] = [
    (&[], &[]),
    (&[1], &[3, 5]),
    (&[5], &[3, 5]),
    (&[3, 1], &[3, 5]),
    (&[3, 5], &[3, 5]),
    (&[7], &[90, 7]),
    (&[90, 1], &[90, 7]),
    (&[300], &[4, 300]),
    (&[4, 1], &[4, 300]),
    (&[6, 1, 1], &[2, 6, 3, 5]),
    (&[2, 1, 1, 3], &[2, 4, 40, 3]),
    (&[2, 1, 5, 1], &[2, 3, 5, 7]),
    (&[1, 4, 1, 3], &[5, 4, 6, 3]),
    (&[700], &[3, 700]),
    (&[600, 1], &[600, 2]),
    (&[2, 1, 1, 900], &[2, 3, 1, 900]),
    (&[0], &[3, 0]),
    (&[1, 1], &[0, 4]),
    (&[13, 1, 41], &[13, 29, 41]),
];

#[test]
fn broadcasts_read_the_right_element_from_any_start() {
    for isa in Isa::available() {
        for (from, to) in SHAPES {
            let broadcast = Broadcast::of(from, to).unwrap();
            let operand = numbers(from.iter().product(), 3);
            let total: usize = to.iter().product();
            let full = numbers(total, 4);
            let expected: Vec<f32> = spread(from, to)
                .iter()
                .zip(&full)
                .map(|(&k, &x)| x - if total == 0 { 0.0 } else { operand[k] })
                .collect();
            for start in [0, 1, total / 3, total / 2 + 1] {
                let start = start.min(total);
                let mut y = vec![f32::NAN; total - start];
                let b = Operand::Spread(&operand[..broadcast.operand_len()], &broadcast);
                binary(isa, Binary::Sub, Operand::Full(&full), b, start, &mut y);
                assert_eq!(y, expected[start..], "{from:?} over {to:?} from {start} on {}", isa.name());
                y.copy_from_slice(&full[start..]);
                binary(isa, Binary::Sub, Operand::Target, b, start, &mut y);
                assert_eq!(y, expected[start..], "in place");
                binary(isa, Binary::Sub, b, Operand::Full(&full), start, &mut y);
                assert!(y.iter().zip(&expected[start..]).all(|(y, e)| *y == -e), "turned round");
            }
        }
    }
    assert_eq!(Broadcast::of(&[2], &[3]), None);
    assert_eq!(Broadcast::of(&[2, 3], &[3]), None);
    assert_eq!(Broadcast::of(&[1], &[usize::MAX, 2]), None);
}

#[test]
fn binary_maps_do_as_scalars_do() {
    let prelu = |a: f32, b: f32| if a < 0.0 { a * b } else { a };
    type Case = (Binary, fn(f32, f32) -> f32);
    let cases: [Case; 9] = [
        (Binary::Add, |a, b| a + b),
        (Binary::Sub, |a, b| a - b),
        (Binary::Mul, |a, b| a * b),
        (Binary::Div, |a, b| a / b),
        (Binary::Min, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }),
        (Binary::Max, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }),
        (Binary::PRelu, prelu),
        (Binary::Pow, f32::powf),
        (Binary::Scalar(f32::atan2), f32::atan2),
    ];
    for isa in Isa::available() {
        for n in LENGTHS {
            let (mut a, mut b) = (numbers(n, 1), numbers(n, 2));
            if n > 4 {
                (a[2], b[3], a[4]) = (f32::NAN, f32::NAN, f32::NEG_INFINITY);
            }
            for (op, reference) in cases {
                let mut y = vec![0.0; n];
                binary(isa, op, Operand::Full(&a), Operand::Full(&b), 0, &mut y);
                for i in 0..n {
                    let expected = reference(a[i], b[i]);
                    assert!(y[i] == expected || y[i].is_nan() && expected.is_nan(), "{op:?}({}, {})", a[i], b[i]);
                }
                for scalar in [2.0, 3.0, 0.5, -1.5] {
                    binary(isa, op, Operand::Full(&a), Operand::Scalar(scalar), 0, &mut y);
                    for i in 0..n {
                        let expected = reference(a[i], scalar);
                        let close = (y[i] - expected).abs() <= 3e-7 * expected.abs();
                        let same = y[i] == expected || y[i].is_nan() && expected.is_nan();
                        assert!(close || same, "{op:?}({}, {scalar}) = {}", a[i], y[i]);
                    }
                }
            }
        }
    }
}

#[test]
fn programs_chain_their_steps() {
    // y = sigmoid(x * scale + row) * x - 1, with more than one value alive.
    let steps = [
        Step::Binary(Binary::Mul, Source::Operand(0), Source::Operand(1)),
        Step::Binary(Binary::Add, Source::Step(0), Source::Operand(2)),
        Step::Unary(Unary::Sigmoid, Source::Step(1)),
        Step::Binary(Binary::Mul, Source::Step(2), Source::Operand(0)),
        Step::Unary(Unary::Abs, Source::Operand(1)),
        Step::Binary(Binary::Mul, Source::Step(3), Source::Step(4)),
        Step::Binary(Binary::Sub, Source::Step(5), Source::Constant(1.0)),
    ];
    let program = Program::new(3, 0, &steps).unwrap();
    for isa in Isa::available() {
        for (rows, cols) in [(0, 5), (1, 1), (3, 5), (40, 33), (2, 1500)] {
            let (x, row) = (numbers(rows * cols, 1), numbers(cols, 2));
            let broadcast = Broadcast::of(&[cols], &[rows, cols]).unwrap();
            let mut y = x.clone();
            let operands = [Operand::Target, Operand::Scalar(-0.5), Operand::Spread(&row, &broadcast)];
            program.run(isa, &operands, &[], 0, &mut y);
            for i in 0..x.len() {
                let expected = x[i] / (1.0 + (0.5 * x[i] - row[i % cols]).exp()) * 0.5 - 1.0;
                assert!((y[i] - expected).abs() < 1e-5, "{} is not {expected}", y[i]);
            }
            let half = x.len() / 2;
            let mut tail = x[half..].to_vec();
            program.run(isa, &operands, &[], half, &mut tail);
            assert_eq!(tail, y[half..], "split over threads");
        }
    }
}

#[test]
fn programs_choose_by_conditions_from_inside_and_outside() {
    // y = c ? (x < row ? x : -2) : row
    let steps = [
        Step::Binary(Binary::Less, Source::Operand(0), Source::Operand(1)),
        Step::Select(Source::Step(0), Source::Operand(0), Source::Constant(-2.0)),
        Step::Select(Source::Condition(0), Source::Step(1), Source::Operand(1)),
    ];
    let program = Program::new(2, 1, &steps).unwrap();
    assert!(Program::new(2, 0, &steps).is_none());
    for isa in Isa::available() {
        for (rows, cols) in [(1, 1), (3, 5), (40, 33), (2, 1500)] {
            let (x, row) = (numbers(rows * cols, 1), numbers(cols, 2));
            let bytes: Vec<u8> = (0..rows).map(|i| (i % 3) as u8).collect();
            let over_rows = Broadcast::of(&[cols], &[rows, cols]).unwrap();
            let over_columns = Broadcast::of(&[rows, 1], &[rows, cols]).unwrap();
            let operands = [Operand::Full(&x), Operand::Spread(&row, &over_rows)];
            let mut y = vec![0.0; x.len()];
            program.run(isa, &operands, &[Operand::Spread(&bytes, &over_columns)], 0, &mut y);
            for i in 0..x.len() {
                let inner = if x[i] < row[i % cols] { x[i] } else { -2.0 };
                assert_eq!(y[i], if bytes[i / cols] != 0 { inner } else { row[i % cols] });
            }
        }
    }
}

#[test]
fn programs_are_verified() {
    assert!(Program::new(1, 0, &[]).is_none());
    assert!(Program::new(1, 0, &[Step::Unary(Unary::Abs, Source::Operand(1))]).is_none());
    assert!(Program::new(1, 0, &[Step::Unary(Unary::Abs, Source::Step(0))]).is_none());
    let alive: Vec<_> = (0..8)
        .map(|_| Step::Unary(Unary::Abs, Source::Operand(0)))
        .chain((0..7).map(|i| Step::Binary(Binary::Add, Source::Step(i), Source::Step(7 + i))))
        .collect();
    assert!(Program::new(1, 0, &alive).is_none());
}

#[test]
fn choices_and_limits() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let (a, b) = (numbers(n, 5), numbers(n, 6));
            let c: Vec<u8> = (0..n).map(|i| (i % 3) as u8).collect();
            let expected: Vec<f32> = (0..n).map(|i| if c[i] != 0 { a[i] } else { b[i] }).collect();
            let mut y = vec![0.0; n];
            select(isa, Operand::Full(&c), Operand::Full(&a), Operand::Full(&b), 0, &mut y);
            assert_eq!(y, expected);
            select(isa, Operand::Full(&c), Operand::Target, Operand::Scalar(-9.0), 0, &mut y);
            assert!((0..n).all(|i| y[i] == if c[i] != 0 { a[i] } else { -9.0 }));
            clip(isa, &a, 1.0, 0.5, &mut y);
            assert!(y.iter().all(|&y| y == 0.5), "high wins");
        }
    }
}

#[test]
fn casts_do_as_scalars_do() {
    use half::{bf16, f16};
    for isa in Isa::available() {
        for n in LENGTHS {
            let x = numbers(n, 8);
            let mut back = vec![0.0; n];
            let mut half = vec![f16::ZERO; n];
            f16_from_f32(isa, &x, &mut half);
            assert!(x.iter().zip(&half).all(|(&x, &y)| f16::from_f32(x) == y));
            f16_to_f32(isa, &half, &mut back);
            assert!(half.iter().zip(&back).all(|(&x, &y)| x.to_f32() == y));
            let mut brain = vec![bf16::ZERO; n];
            bf16_from_f32(isa, &x, &mut brain);
            assert!(x.iter().zip(&brain).all(|(&x, &y)| bf16::from_f32(x) == y));
            bf16_to_f32(isa, &brain, &mut back);
            assert!(brain.iter().zip(&back).all(|(&x, &y)| x.to_f32() == y));
            let words: Vec<i32> = (0..n as i32).map(|i| i * 77_777 - 9000).collect();
            f32_from_i32(isa, &words, &mut back);
            assert!(words.iter().zip(&back).all(|(&x, &y)| x as f32 == y));
            let bytes: Vec<u8> = (0..n).map(|i| (i * 37) as u8).collect();
            f32_from_u8(isa, &bytes, &mut back);
            assert!(bytes.iter().zip(&back).all(|(&x, &y)| f32::from(x) == y));
            f32_from_i8(isa, bytemuck::cast_slice(&bytes), &mut back);
            assert!(bytes.iter().zip(&back).all(|(&x, &y)| f32::from(x as i8) == y));
        }
    }
}

#[test]
fn integers_wrap_and_never_trap() {
    let a = [7i64, -7, 7, -7, i64::MIN, 5, 1];
    let b = [3i64, 3, -3, -3, -1, 0, 70];
    let cases = [
        (IntegerOp::Add, [10, -4, 4, -10, i64::MAX, 5, 71]),
        (IntegerOp::Div, [2, -2, -2, 2, i64::MIN, 0, 0]),
        (IntegerOp::Mod, [1, 2, -2, -1, 0, 0, 1]),
        (IntegerOp::Remainder, [1, -1, 1, -1, 0, 0, 1]),
        (IntegerOp::Max, [7, 3, 7, -3, -1, 5, 70]),
        (IntegerOp::ShiftLeft, [56, -56, 0, 0, 0, 5, 0]),
    ];
    for (op, expected) in cases {
        let mut y = a;
        integer(op, Operand::Target, Operand::Full(&b), 0, &mut y);
        assert_eq!(y, expected, "{op:?}");
    }
    let mut y = [0u8; 7];
    compare(Compare::Less, Operand::Full(&a), Operand::Scalar(3), 0, &mut y);
    assert_eq!(y, [0, 1, 0, 1, 1, 0, 1]);
    compare(Compare::NotEqual, Operand::Scalar(f32::NAN), Operand::Scalar(1.0), 0, &mut y);
    assert_eq!(y, [1; 7]);
    let mut y = [0u8, 1, 0, 1];
    logic(Logic::Xor, Operand::Target, Operand::Full(&[0, 0, 1, 1]), 0, &mut y);
    assert_eq!(y, [0, 1, 1, 0]);
}
