//! `Range`: numbers from a start by a step.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::{MAX_CONTENT, output_shape};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::{Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};

/// `start, start + delta, ..` up to but without `limit`: the three inputs, scalars of one dtype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range;

impl Range {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        // In which precision half floats are counted; here that is always the widest.
        node.int("stash_type")?;
        Ok(Range.into())
    }
}

/// How many numbers there are.
fn count(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Result<usize> {
    let numbers = |tensor: &Tensor| match tensor.len() {
        1 => Ok(()),
        len => bail!(Shape, "start, limit and delta are scalars, but one has {len} elements"),
    };
    for tensor in [start, limit, delta] {
        numbers(tensor)?;
    }
    if start.dtype().is_float() {
        let (start, limit, delta) = (start.to_f64_vec()?[0], limit.to_f64_vec()?[0], delta.to_f64_vec()?[0]);
        let count = ((limit - start) / delta).ceil();
        ensure!(delta != 0.0 && !count.is_nan(), InvalidInput, "a range of {start}..{limit} by {delta}");
        // The cast saturates: negative counts are none, and an infinite one is refused with the memory.
        return Ok(count as usize);
    }
    let (start, limit, delta) = (start.to_i64_vec()?[0], limit.to_i64_vec()?[0], delta.to_i64_vec()?[0]);
    ensure!(delta != 0, InvalidInput, "a range of {start}..{limit} by 0");
    let (span, delta) = (i128::from(limit) - i128::from(start), i128::from(delta));
    let count = if (span > 0) == (delta > 0) { span.unsigned_abs().div_ceil(delta.unsigned_abs()) } else { 0 };
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

impl Op for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (start, limit, delta) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let dtype = start.dtype;
        let same = dtype != DType::Bool && [limit, delta].iter().all(|fact| fact.dtype == dtype);
        ensure!(same, InvalidModel, "a range of {dtype} to {} by {}", limit.dtype, delta.dtype);
        let Some(((start, limit), delta)) = value(start)?.zip(value(limit)?).zip(value(delta)?) else {
            // The numbers below a length that a request says.
            let one = |fact: &Fact, n| fact.lengths().is_some_and(|v| v == [Dim::Known(n)]);
            let below = limit.lengths().filter(|v| v.len() == 1 && one(start, 0) && one(delta, 1));
            return Ok(vec![Fact::new(dtype, vec![below.map_or(Dim::Unknown, |mut v| v.remove(0))])]);
        };
        let count = count(&start, &limit, &delta)?;
        let mut fact = Fact::concrete(dtype, &[count]);
        if dtype.is_integer() && count <= MAX_CONTENT {
            let (start, delta) = (start.to_i64_vec()?[0], delta.to_i64_vec()?[0]);
            let element = |i: usize| start.checked_add(delta.checked_mul(i as i64)?).map(usize::try_from);
            let content: Option<Vec<Dim>> = (0..count).map(|i| Some(Dim::Known(element(i)?.ok()?))).collect();
            fact.content = content;
        }
        Ok(vec![fact])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (start, delta) = (inputs.require(0)?, inputs.require(2)?);
        let shape = output_shape(self, inputs)?;
        let count = shape.checked_len()?;
        Ok(vec![if start.dtype().is_float() {
            let (first, step) = (start.to_f64_vec()?[0], delta.to_f64_vec()?[0]);
            from_f64(start.dtype(), shape, (0..count).map(|i| first + i as f64 * step).collect())?
        } else {
            let (first, step) = (start.to_i64_vec()?[0], delta.to_i64_vec()?[0]);
            let element = |i| first.wrapping_add(step.wrapping_mul(i as i64));
            from_i64(start.dtype(), shape, (0..count).map(element).collect())?
        }])
    }
}

/// The scalar itself, where it is known.
fn value(fact: &Fact) -> Result<Option<Tensor>> {
    if fact.value.is_some() {
        return Ok(fact.value.clone());
    }
    match fact.integers().as_deref() {
        Some([n]) => Ok(Some(Tensor::scalar(*n).cast(fact.dtype)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{infer_one, run_one, symbol};

    #[test]
    fn numbers_go_up_and_down() {
        for (start, limit, delta, expected) in [
            (0, 5, 2, vec![0i64, 2, 4]),
            (10, 4, -2, vec![10, 8, 6]),
            (3, 3, 1, vec![]),
            (3, 9, -1, vec![]),
            (i64::MAX - 1, i64::MAX, 5, vec![i64::MAX - 1]),
            (i64::MIN, i64::MAX, i64::MAX, vec![i64::MIN, -1, i64::MAX - 1]),
        ] {
            let y = run_one(&Range, &[&Tensor::scalar(start), &Tensor::scalar(limit), &Tensor::scalar(delta)]);
            assert_eq!(y.unwrap().as_slice::<i64>().unwrap(), expected);
        }
        let y = run_one(&Range, &[&Tensor::scalar(1.0f32), &Tensor::scalar(2.1f32), &Tensor::scalar(0.5f32)]).unwrap();
        assert_eq!(y.as_slice::<f32>().unwrap(), [1.0, 1.5, 2.0]);
    }

    #[test]
    fn steps_of_zero_and_endless_ranges_are_refused() {
        let scalar = |v: f64| Fact::constant(Tensor::scalar(v));
        for (limit, delta) in [(1.0, 0.0), (0.0, 0.0), (f64::NAN, 1.0)] {
            assert!(infer_one(&Range, &[&scalar(0.0), &scalar(limit), &scalar(delta)]).is_err());
        }
        let endless = infer_one(&Range, &[&scalar(0.0), &scalar(f64::INFINITY), &scalar(1.0)]).unwrap();
        assert_eq!(endless.bytes(), Some(usize::MAX));
    }

    #[test]
    fn a_range_below_a_symbol_has_its_length() {
        let (zero, one) = (Fact::constant(Tensor::scalar(0i64)), Fact::constant(Tensor::scalar(1i64)));
        let n = Fact::concrete(DType::I64, &[]).with_content(vec![symbol("N")]);
        assert_eq!(infer_one(&Range, &[&zero, &n, &one]).unwrap().dims().unwrap(), [symbol("N")]);
        assert_eq!(infer_one(&Range, &[&one, &n, &one]).unwrap().dims().unwrap(), [Dim::Unknown]);
    }
}
