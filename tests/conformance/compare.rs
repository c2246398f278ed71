//! When an answer counts as right: dtype and shape exactly, numbers within the tolerance of their dtype.

use onrush::{DType, Tensor};

/// Cases whose expected values were typed in with four digits: the suite's own tolerance holds.
const TYPED_IN: &[&str] = &[
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
];

/// Cases whose values are drawn by chance: dtype and shape are what counts.
const BY_CHANCE: &[&str] = &["test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed"];

/// Absolute and relative difference, one of which must hold for each dtype.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    single: (f64, f64),
    half: (f64, f64),
    brain: (f64, f64),
}

impl Tolerance {
    /// What one operator may be off by, whichever case it is.
    pub(crate) fn of_case(case: &str) -> Option<Self> {
        let single = if TYPED_IN.contains(&case) { (1e-7, 1e-3) } else { (1e-5, 1e-4) };
        (!BY_CHANCE.contains(&case)).then_some(Tolerance { single, half: (2.5e-3, 1e-3), brain: (1e-2, 8e-3) })
    }

    /// What a whole model may be off by.
    pub(crate) const MODEL: Tolerance = Tolerance { single: (1e-4, 1e-3), half: (5e-3, 5e-3), brain: (5e-2, 5e-2) };

    fn allows(&self, dtype: DType, computed: f64, expected: f64) -> bool {
        if computed == expected || (computed.is_nan() && expected.is_nan()) {
            return true;
        }
        let (absolute, relative) = match dtype {
            DType::F32 | DType::F64 => self.single,
            DType::F16 => self.half,
            DType::BF16 => self.brain,
            _ => (0.0, 0.0),
        };
        let difference = (computed - expected).abs();
        difference.is_finite() && difference <= absolute.max(relative * expected.abs())
    }
}

/// Every output against the expected one; says where the first difference is. Without a tolerance only dtypes and
/// shapes count.
pub(crate) fn all(computed: &[Tensor], expected: &[Tensor], tolerance: Option<Tolerance>) -> Result<(), String> {
    if computed.len() != expected.len() {
        return Err(format!("{} outputs, not {}", computed.len(), expected.len()));
    }
    for (index, (computed, expected)) in computed.iter().zip(expected).enumerate() {
        one(computed, expected, tolerance).map_err(|e| format!("output {index}: {e}"))?;
    }
    Ok(())
}

fn one(computed: &Tensor, expected: &Tensor, tolerance: Option<Tolerance>) -> Result<(), String> {
    let kind = |t: &Tensor| format!("{}{}", t.dtype(), t.shape());
    if computed.dtype() != expected.dtype() || computed.shape() != expected.shape() {
        return Err(format!("{}, not {}", kind(computed), kind(expected)));
    }
    let Some(tolerance) = tolerance else { return Ok(()) };
    if computed.dtype().is_integer() {
        // In `f64` two large integers that differ may look the same.
        let (computed, expected) = (computed.to_i64_vec(), expected.to_i64_vec());
        let (computed, expected) = (computed.expect("integers"), expected.expect("integers"));
        return match computed.iter().zip(&expected).position(|(a, b)| a != b) {
            Some(i) => Err(format!("element {i} is {}, not {}", computed[i], expected[i])),
            None => Ok(()),
        };
    }
    let pairs = computed.to_f64_vec().expect("numbers").into_iter().zip(expected.to_f64_vec().expect("numbers"));
    match pairs.enumerate().find(|(_, (a, b))| !tolerance.allows(computed.dtype(), *a, *b)) {
        Some((i, (a, b))) => Err(format!("element {i} is {a}, not {b}")),
        None => Ok(()),
    }
}

#[test]
fn a_comparison_finds_every_difference() {
    let tolerance = Tolerance::of_case("");
    let check = |a: &Tensor, b: &Tensor| all(std::slice::from_ref(a), std::slice::from_ref(b), tolerance);
    let one = |v: f32| Tensor::vector(vec![v]);
    for (a, b) in [(1.0, 1.00009), (0.0, 9e-6), (f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY)] {
        assert!(check(&one(a), &one(b)).is_ok(), "{a} against {b}");
    }
    let infinities = [(1.0, f32::INFINITY), (f32::INFINITY, 1.0), (f32::NEG_INFINITY, f32::INFINITY)];
    for (a, b) in [(1.0, 1.0002), (0.0, 2e-5), (f32::NAN, 1.0), (1.0, f32::NAN)].into_iter().chain(infinities) {
        assert!(check(&one(a), &one(b)).is_err(), "{a} against {b}");
    }
    let large = |v: i64| Tensor::vector(vec![v]);
    assert!(check(&large(i64::MAX), &large(i64::MAX - 1)).is_err());
    assert!(check(&one(1.0), &Tensor::scalar(1.0f32)).is_err());
    assert!(check(&one(1.0), &Tensor::vector(vec![1.0f64])).is_err());
    assert!(all(&[], &[one(1.0)], tolerance).is_err());
}
