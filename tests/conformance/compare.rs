//! When an answer counts as right: dtype and shape exactly, numbers within the tolerance of their dtype.

use onrush::{DType, Tensor};

/// Cases whose reference rounds half to even *after* adding an odd zero point, where the text of the specification
/// rounds before: a tie may differ by one.
const TIES: &[&str] = &[];

/// Cases whose expected values were typed in with four digits: the suite's own tolerance holds.
const TYPED_IN: &[&str] = &[
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
];

/// Cases whose values are drawn by chance: dtype and shape are what counts.
const BY_CHANCE: &[&str] = &["test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed"];

/// Absolute or relative difference that is allowed; zero where only equality counts.
fn tolerance(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F32 | DType::F64 => (1e-5, 1e-4),
        DType::F16 => (2.5e-3, 1e-3),
        DType::BF16 => (1e-2, 8e-3),
        _ => (0.0, 0.0),
    }
}

/// Every output against the expected one; says where the first difference is.
pub(crate) fn all(case: &str, computed: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    if computed.len() != expected.len() {
        return Err(format!("{} outputs, not {}", computed.len(), expected.len()));
    }
    for (index, (computed, expected)) in computed.iter().zip(expected).enumerate() {
        one(case, computed, expected).map_err(|e| format!("output {index}: {e}"))?;
    }
    Ok(())
}

fn one(case: &str, computed: &Tensor, expected: &Tensor) -> Result<(), String> {
    let kind = |t: &Tensor| format!("{}{}", t.dtype(), t.shape());
    if computed.dtype() != expected.dtype() || computed.shape() != expected.shape() {
        return Err(format!("{}, not {}", kind(computed), kind(expected)));
    }
    if BY_CHANCE.contains(&case) {
        return Ok(());
    }
    if computed.dtype().is_integer() && !TIES.contains(&case) {
        let (computed, expected) = (computed.to_i64_vec(), expected.to_i64_vec());
        let (computed, expected) = (computed.expect("integers"), expected.expect("integers"));
        return match computed.iter().zip(&expected).position(|(a, b)| a != b) {
            Some(i) => Err(format!("element {i} is {}, not {}", computed[i], expected[i])),
            None => Ok(()),
        };
    }
    let (absolute, relative) = match computed.dtype() {
        dtype if dtype.is_integer() => (1.0, 0.0),
        _ if TYPED_IN.contains(&case) => (1e-7, 1e-3),
        dtype => tolerance(dtype),
    };
    let pairs = computed.to_f64_vec().expect("numbers").into_iter().zip(expected.to_f64_vec().expect("numbers"));
    for (i, (a, b)) in pairs.enumerate() {
        let close = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute.max(relative * b.abs());
        if !close || a.is_infinite() != b.is_infinite() {
            return Err(format!("element {i} is {a}, not {b}"));
        }
    }
    Ok(())
}
