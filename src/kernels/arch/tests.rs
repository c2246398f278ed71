//! Every method of [`Simd`] on every available instruction set, against plain scalar forms; and on plain Rust, which is what
//! other architectures have.

use super::portable::plain::Plain;
use super::*;

/// Runs `lane` on every pair of `samples` through `vector`, and compares bits (any NaN equals any NaN).
struct Binary<'a, L> {
    samples: &'a [f32],
    lane: L,
    op: Op,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Add,
    Div,
    Min,
    Max,
    Round,
    Floor,
    Sqrt,
    Abs,
    Neg,
    SelectLess,
    ToInteger,
    Half,
    Brain,
}

impl<L: Fn(f32, f32) -> f32> Body for Binary<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for &a in self.samples {
            for &b in self.samples {
                let (x, y) = (s.splat(a), s.splat(b));
                let result = match self.op {
                    Op::Add => s.add(x, y),
                    Op::Div => s.div(x, y),
                    Op::Min => s.min(x, y),
                    Op::Max => s.max(x, y),
                    Op::Round => s.round(x),
                    Op::Floor => s.floor(x),
                    Op::Sqrt => s.sqrt(x),
                    Op::Abs => s.abs(x),
                    Op::Neg => s.neg(x),
                    Op::SelectLess => s.select(s.lt(x, y), x, y),
                    Op::ToInteger => s.from_i32(s.to_i32(x)),
                    Op::Half => {
                        let mut bits = [0u16; 16];
                        // SAFETY: the array holds as many elements as the widest vector.
                        unsafe {
                            s.store_f16(bits.as_mut_ptr(), x);
                            s.load_f16(bits.as_ptr())
                        }
                    }
                    Op::Brain => {
                        let mut bits = [0u16; 16];
                        // SAFETY: the array holds as many elements as the widest vector.
                        unsafe {
                            s.store_bf16(bits.as_mut_ptr(), x);
                            s.load_bf16(bits.as_ptr())
                        }
                    }
                };
                let mut lanes = [0f32; 16];
                // SAFETY: the array holds as many elements as the widest vector.
                unsafe { s.store(lanes.as_mut_ptr(), result) };
                let expected = (self.lane)(a, b);
                for lane in &lanes[..S::LANES] {
                    let same = lane.to_bits() == expected.to_bits() || lane.is_nan() && expected.is_nan();
                    assert!(same, "{:?}({a}, {b}) = {lane}, not {expected}, with {} lanes", self.op, S::LANES);
                }
            }
        }
    }
}

fn on_all<B: Body<Output = ()>>(body: impl Fn() -> B) {
    Isa::available().into_iter().for_each(|isa| isa.dispatch(body()));
    Plain.call(body());
}

#[test]
fn float_lanes_do_as_scalars_do() {
    let samples = [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        3.7,
        -3.7,
        1e-40,
        1e10,
        -1e10,
        4_194_303.5,
        65504.0,
        1e-7,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        0.333,
    ];
    let scalar: [(Op, fn(f32, f32) -> f32); 13] = [
        (Op::Add, |a, b| a + b),
        (Op::Div, |a, b| a / b),
        (Op::Min, |a, b| if a < b { a } else { b }),
        (Op::Max, |a, b| if a > b { a } else { b }),
        (Op::Round, |a, _| a.round_ties_even()),
        (Op::Floor, |a, _| a.floor()),
        (Op::Sqrt, |a, _| a.sqrt()),
        (Op::Abs, |a, _| a.abs()),
        (Op::Neg, |a, _| -a),
        (Op::SelectLess, |a, b| if a < b { a } else { b }),
        (Op::ToInteger, |a, _| if a.abs() < 2e9 { a.round_ties_even() as i32 as f32 } else { i32::MIN as f32 }),
        (Op::Half, |a, _| half::f16::from_f32(a).to_f32()),
        (Op::Brain, |a, _| half::bf16::from_f32(a).to_f32()),
    ];
    for (op, lane) in scalar {
        on_all(|| Binary { samples: &samples, lane, op });
    }
}

/// Loads and stores of parts touch nothing beyond them; the sums of lanes are right.
struct Parts;

impl Body for Parts {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for n in 0..=S::LANES {
            let from: Vec<f32> = (1..=n).map(|i| i as f32).collect();
            let mut to = vec![-1f32; n + 1];
            // SAFETY: both hold n elements.
            let v = unsafe {
                let v = s.load_part(from.as_ptr(), n);
                s.store_part(to.as_mut_ptr(), n, v);
                v
            };
            assert_eq!((&to[..n], to[n]), (&from[..], -1.0));
            assert_eq!(s.sum(v), (n * (n + 1) / 2) as f32);
            assert_eq!((s.max_lane(v), s.min_lane(v)), (n as f32, if n == S::LANES { 1.0 } else { 0.0 }));

            let bytes: Vec<u8> = (0..n).map(|i| 250 - 13 * i as u8).collect();
            let mut back = vec![7u8; n + 1];
            // SAFETY: both hold n elements.
            unsafe { s.store_u8_part(back.as_mut_ptr(), n, s.load_u8_part(bytes.as_ptr(), n)) };
            assert_eq!((&back[..n], back[n]), (&bytes[..], 7));
            // SAFETY: the same bytes, read as signed ones.
            unsafe { s.store_i8_part(back.as_mut_ptr().cast(), n, s.load_i8_part(bytes.as_ptr().cast(), n)) };
            assert_eq!((&back[..n], back[n]), (&bytes[..], 7));
        }
        let wide = [-400, 400, -129, 128];
        let (mut unsigned, mut signed) = ([9u8; 16], [9i8; 16]);
        for (i, &x) in wide.iter().enumerate() {
            // SAFETY: the arrays hold as many elements as the widest vector.
            unsafe {
                s.store_u8(unsigned.as_mut_ptr(), s.splat_i32(x));
                s.store_i8(signed.as_mut_ptr(), s.splat_i32(x));
            }
            assert_eq!((unsigned[0], signed[0]), ([0, 255, 0, 128][i], [-128, 127, -128, 127][i]));
        }
    }
}

#[test]
fn parts_end_where_they_should() {
    on_all(|| Parts);
}

/// The extremes of u8 x s8 products, which saturating instructions get wrong.
struct Dot;

impl Body for Dot {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let a = [255u8, 255, 128, 1];
        let b: Vec<i8> = (0..S::LANES).flat_map(|c| [127 - c as i8, 127, -128, -128 + c as i8]).collect();
        let start: [i32; 16] = std::array::from_fn(|c| -100 * c as i32);
        let mut sums = [0i32; 16];
        // SAFETY: four bytes of A, four a lane of B, and room for the widest vector.
        unsafe {
            let (a, b) = (s.dot_a(a.as_ptr()), s.dot_b(b.as_ptr()));
            let acc = s.dot(s.dot(s.dot_start(s.load_i32(start.as_ptr())), a, b), a, b);
            s.store_i32(sums.as_mut_ptr(), s.dot_sum(acc));
        }
        for (c, sum) in sums[..S::LANES].iter().enumerate() {
            let c = c as i32;
            assert_eq!(*sum, 2 * (255 * (127 - c) + 255 * 127 - 128 * 128 - 128 + c) - 100 * c);
        }
        let pair = |odd: f32, even: f32| {
            (i32::from(half::bf16::from_f32(odd).to_bits()) << 16) | i32::from(half::bf16::from_f32(even).to_bits())
        };
        let result = s.dot_bf16(s.splat(1.0), s.splat_i32(pair(2.0, -3.0)), s.splat_i32(pair(0.5, 0.25)));
        assert_eq!(s.max_lane(result), 1.25);
    }
}

#[test]
fn dot_products_are_exact() {
    on_all(|| Dot);
}

/// Integers, lane by lane, which may be of either sign.
struct Integers;

impl Body for Integers {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let samples = [0, 1, -1, 7, -300, 65_535, 65_536, 1 << 20, -(1 << 20), i32::MAX, i32::MIN];
        let lanes = |v: S::I32| {
            let mut lanes = [0i32; 16];
            // SAFETY: the array holds as many elements as the widest vector.
            unsafe { s.store_i32(lanes.as_mut_ptr(), v) };
            lanes
        };
        for a in samples {
            for b in samples {
                let (x, y) = (s.splat_i32(a), s.splat_i32(b));
                let mask = s.select_i32(s.gt_i32(x, y), s.splat_i32(1), s.select_i32(s.eq_i32(x, y), x, y));
                let greater = if a > b { 1 } else { b };
                let pairs = [
                    (s.add_i32(x, y), a.wrapping_add(b)),
                    (s.sub_i32(x, y), a.wrapping_sub(b)),
                    (s.mul_i32(x, y), a.wrapping_mul(b)),
                    (s.min_i32(x, y), a.min(b)),
                    (s.max_i32(x, y), a.max(b)),
                    (s.shl_i32(x, 5), a << 5),
                    (s.sar_i32(x, 5), a >> 5),
                    (s.shr_i32(x, 5), (a as u32 >> 5) as i32),
                    (mask, greater),
                ];
                for (number, (vector, scalar)) in pairs.into_iter().enumerate() {
                    assert!(lanes(vector)[..S::LANES].iter().all(|lane| *lane == scalar), "{number}: {a}, {b}");
                }
            }
            let mut words = [0u16; 16];
            // SAFETY: the array holds as many elements as the widest vector.
            let back = unsafe {
                s.store_u16(words.as_mut_ptr(), s.splat_i32(a));
                s.load_u16(words.as_ptr())
            };
            assert!(lanes(back)[..S::LANES].iter().all(|lane| *lane == a & 0xffff), "{a}");
        }
        // Products differ by lane.
        let (from, mut products) = (std::array::from_fn::<i32, 16, _>(|i| i as i32 * 1_000_003 - 5), [0i32; 16]);
        // SAFETY: the arrays hold as many elements as the widest vector.
        unsafe {
            let v = s.load_i32(from.as_ptr());
            s.store_i32(products.as_mut_ptr(), s.mul_i32(v, v));
        }
        assert!((0..S::LANES).all(|i| products[i] == from[i].wrapping_mul(from[i])));
    }
}

#[test]
fn integer_lanes_do_as_scalars_do() {
    on_all(|| Integers);
}

/// Tiles of rows evenly apart, of every height and a few lengths, with and without each of what they can do.
struct EvenTiles;

impl Body for EvenTiles {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const APART: usize = 11;
        const STRIDE: usize = 35;
        let width = 2 * S::LANES;
        for (rows, words) in S::EVEN_ROWS.flat_map(|rows| [1, 3, 4, 10].map(|words| (rows, words))) {
            for mask in 0..8 {
                let on = |bit: usize| mask & bit != 0;
                let a: Vec<f32> = (0..rows * APART).map(|i| (i % 7) as f32 - 3.0).collect();
                let b: Vec<f32> = (0..words * width).map(|i| (i % 5) as f32 - 2.0).collect();
                let start: Vec<f32> = (0..width).map(|i| i as f32).collect();
                let before: Vec<f32> = (0..rows * STRIDE).map(|i| (i % 11) as f32).collect();
                let mut out = before.clone();
                let tile = EvenTile {
                    rows: a.as_ptr().cast(),
                    apart: APART * 4,
                    b: b.as_ptr().cast(),
                    words,
                    ahead: b.as_ptr().cast(),
                    more: mask * 64,
                    step: 64,
                    start: start.as_ptr(),
                    resume: usize::from(on(1)),
                    residual: if on(2) { before.as_ptr() } else { std::ptr::null() },
                    residual_stride: STRIDE * 4,
                    bounded: usize::from(on(4)),
                    lo: -2.0,
                    hi: 9.0,
                    out: out.as_mut_ptr(),
                    stride: STRIDE * 4,
                    next: out.as_mut_ptr(),
                    next_rows: mask,
                };
                // SAFETY: the vectors hold what the tile says.
                unsafe { s.even_tile(EvenWords::F32, rows, &tile) };
                for (at, &x) in out.iter().enumerate() {
                    let (row, column) = (at / STRIDE, at % STRIDE);
                    let product = |k: usize| a[row * APART + k] * b[k * width + column];
                    let expected = if column < width {
                        let first = if on(1) { before[at] } else { start[column] };
                        let sum = first + (0..words).map(product).sum::<f32>() + if on(2) { before[at] } else { 0.0 };
                        if on(4) { sum.clamp(-2.0, 9.0) } else { sum }
                    } else {
                        before[at]
                    };
                    assert_eq!(x, expected, "{rows} rows of {words}, {mask}: [{row}, {column}]");
                }
            }
        }
    }
}

#[test]
fn tiles_of_rows_evenly_apart_do_all_they_are_told() {
    for isa in Isa::available() {
        isa.dispatch(EvenTiles);
    }
}
