//! `DFT`: the Fourier transform along an axis.

use super::fourier::{Complex, transform};
use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::{length, output_shape};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor, normalize_axis};

/// Transforms x along an axis; the last axis of x is 1 for real and 2 for complex numbers. The optional inputs are
/// the length (x is cut or padded with zeros to it) and the axis, which is otherwise the last but one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dft {
    /// Whether to transform back.
    pub inverse: bool,
    /// Whether the frequencies that mirror others are left out: of the result, or, transforming back, of x, and then
    /// the result is real.
    pub onesided: bool,
}

impl Dft {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let op = Dft { inverse: node.flag_or("inverse", false)?, onesided: node.flag_or("onesided", false)? };
        if node.opset() < 20 {
            let axis = node.int_or("axis", 1)?;
            node.set_input(2, Tensor::scalar(axis));
        }
        Ok(op.into())
    }

    /// The length of the transform of an axis of this length.
    fn length(&self, axis: &Dim, given: Option<&Fact>) -> Result<Dim> {
        match given {
            Some(given) => scalar(given),
            None if self.inverse && self.onesided => Ok(axis.map(|n| n.saturating_sub(1).saturating_mul(2))),
            None => Ok(axis.clone()),
        }
    }
}

/// A length that is an input, as far as it is known.
pub(super) fn scalar(fact: &Fact) -> Result<Dim> {
    if let Some(integers) = fact.integers() {
        let [value] = integers.as_slice() else { bail!(Shape, "a scalar is expected, not {fact}") };
        return Ok(Dim::Known(length(*value)?));
    }
    Ok(fact.lengths().and_then(|lengths| lengths.first().cloned()).unwrap_or(Dim::Unknown))
}

impl Op for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.is_float(), InvalidModel, "a transform of {}", x.dtype);
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let Some(parts) = dims.last() else { bail!(Shape, "a scalar has no axis to transform along") };
        ensure!(parts.known().is_none_or(|n| n == 1 || n == 2), Shape, "the last axis of {x} must be 1 or 2");
        let axis = match inputs.get(2).map(Fact::integers) {
            None => -2,
            Some(Some(axis)) => match axis.as_slice() {
                [axis] => *axis,
                _ => bail!(Shape, "{} axes, not one", axis.len()),
            },
            Some(None) => return Ok(vec![Fact::new(x.dtype, vec![Dim::Unknown; dims.len()])]),
        };
        let axis = normalize_axis(axis, dims.len())?;
        ensure!(axis + 1 < dims.len(), Shape, "the last axis of {x} holds complex numbers, not a signal");
        let length = self.length(&dims[axis], inputs.get(1))?;
        ensure!(length != Dim::Known(0), InvalidInput, "a transform of length 0");
        let mut shape = dims.to_vec();
        let (real, half) = (self.onesided && self.inverse, self.onesided && !self.inverse);
        shape[axis] = if half { length.map(|n| n / 2 + 1) } else { length };
        shape[dims.len() - 1] = Dim::Known(if real { 1 } else { 2 });
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let shape = output_shape(self, inputs)?;
        let axis = inputs.get(2).map(Tensor::to_i64_vec).transpose()?.map_or(-2, |axis| axis[0]);
        let axis = x.shape().axis(axis)?;
        let given = inputs.get(1).cloned().map(Fact::constant);
        let Some(len) = self.length(&Dim::Known(x.shape()[axis]), given.as_ref())?.known() else {
            bail!(InvalidModel, "the length must be an integer")
        };
        budget.admit_bytes(len.saturating_mul(128).saturating_add(shape.checked_len()?.saturating_mul(8)))?;
        let parts = x.shape()[x.rank() - 1];
        let inner = x.shape()[axis + 1..x.rank() - 1].iter().product::<usize>();
        let (from, to, out_parts) = (x.shape()[axis], shape[axis], shape[x.rank() - 1]);
        let values = x.to_f64_vec()?;
        let mut out = vec![0.0; shape.elements()];
        let rows = if shape.contains(&0) { 0 } else { shape.elements() / (to * out_parts) };
        for row in 0..rows {
            let (block, column) = (row / inner, row % inner);
            let at = |i: usize| {
                let place = ((block * from + i) * inner + column) * parts;
                Complex::new(values[place], if parts == 2 { values[place + 1] } else { 0.0 })
            };
            let mut signal: Vec<Complex> =
                (0..len).map(|i| if i < from { at(i) } else { Complex::default() }).collect();
            if self.inverse && self.onesided {
                // The second half mirrors the first, whatever x may hold there.
                (len / 2 + 1..len).for_each(|k| signal[k] = signal[len - k].conjugate());
                signal[0].im = 0.0;
                if len.is_multiple_of(2) {
                    signal[len / 2].im = 0.0;
                }
            }
            for (k, value) in transform(&signal, self.inverse).into_iter().take(to).enumerate() {
                let place = ((block * to + k) * inner + column) * out_parts;
                out[place] = value.re;
                if out_parts == 2 {
                    out[place + 1] = value.im;
                }
            }
        }
        Ok(vec![from_f64(x.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("inverse", self.inverse).flag("onesided", self.onesided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{inputs_read, run};

    fn dft(inverse: bool, onesided: bool, x: &Tensor, length: Option<i64>, axis: Option<i64>) -> Result<Tensor> {
        let (length, axis) = (length.map(Tensor::scalar), axis.map(Tensor::scalar));
        Ok(run(&Dft { inverse, onesided }, &[Some(x), length.as_ref(), axis.as_ref()])?.remove(0))
    }

    fn near(a: &Tensor, b: &Tensor) -> bool {
        let (x, y) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        a.shape() == b.shape() && x.iter().zip(y).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    #[test]
    fn there_and_back() {
        let x = Tensor::new([1, 3, 2, 1], vec![1.0f64, 2.0, 3.0, -1.0, 0.5, 4.0]).unwrap();
        for axis in [1, 2] {
            let y = dft(false, false, &x, None, Some(axis)).unwrap();
            assert_eq!(y.shape().to_vec(), [1, 3, 2, 2]);
            let half = dft(false, true, &x, None, Some(axis)).unwrap();
            let length = x.shape()[axis as usize] as i64;
            assert!(near(&dft(true, true, &half, Some(length), Some(axis)).unwrap(), &x));
            let back = dft(true, false, &y, None, Some(axis)).unwrap().to_f64_vec().unwrap();
            let real: Vec<f64> = back.chunks(2).map(|c| c[0]).collect();
            assert!(near(&Tensor::new(x.shape().clone(), real).unwrap(), &x));
        }
    }

    #[test]
    fn lengths_and_axes_are_checked() {
        let x = Tensor::new([1, 4, 1], vec![1.0f32; 4]).unwrap();
        assert_eq!(dft(false, true, &x, Some(7), None).unwrap().shape().to_vec(), [1, 4, 2]);
        for (length, axis) in [(Some(0), None), (Some(-1), None), (None, Some(2)), (None, Some(-1)), (None, Some(5))] {
            assert!(dft(false, false, &x, length, axis).is_err(), "{length:?} {axis:?}");
        }
        assert!(dft(true, true, &x.reshaped([4, 1, 1]).unwrap(), None, None).is_err());
        assert_eq!(inputs_read("DFT", 17, &[], 1).unwrap()[&2], Tensor::scalar(1i64));
    }
}
