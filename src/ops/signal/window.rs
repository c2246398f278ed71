//! `HannWindow`, `HammingWindow` and `BlackmanWindow`.

use super::dft::scalar;
use crate::error::{Result, ensure};
use crate::ops::layout::arithmetic::output_shape;
use crate::ops::numeric::from_f64;
use crate::ops::reader::dtype_to_onnx;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};
use std::f64::consts::TAU;

/// Which sum of cosines a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WindowKind {
    /// Two terms, down to 0.
    Hann,
    /// Two terms, with the first side lobe cancelled.
    Hamming,
    /// Three terms.
    Blackman,
}

/// A window of as many elements as the input says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its formula.
    pub kind: WindowKind,
    /// Whether it is one period of a periodic function, rather than symmetric.
    pub periodic: bool,
    /// The dtype of the result.
    pub dtype: DType,
}

impl Window {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let kind = match node.op_type() {
            "HannWindow" => WindowKind::Hann,
            "HammingWindow" => WindowKind::Hamming,
            _ => WindowKind::Blackman,
        };
        let dtype = node.dtype("output_datatype")?.unwrap_or(DType::F32);
        ensure!(dtype != DType::Bool, InvalidModel, "a window of bools");
        Ok(Window { kind, periodic: node.flag_or("periodic", true)?, dtype }.into())
    }
}

impl Op for Window {
    fn name(&self) -> &'static str {
        match self.kind {
            WindowKind::Hann => "HannWindow",
            WindowKind::Hamming => "HammingWindow",
            WindowKind::Blackman => "BlackmanWindow",
        }
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::new(self.dtype, vec![scalar(inputs.require(0)?)?])])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let shape = output_shape(self, inputs)?;
        let len = shape.checked_len()?;
        // A symmetric window of one element is its peak.
        let period = (if self.periodic { len } else { len.saturating_sub(1) }).max(1) as f64;
        let value = |i: usize| {
            let angle = if len == 1 && !self.periodic { TAU / 2.0 } else { TAU * i as f64 / period };
            match self.kind {
                WindowKind::Hann => 0.5 - 0.5 * angle.cos(),
                WindowKind::Hamming => 25.0 / 46.0 - 21.0 / 46.0 * angle.cos(),
                WindowKind::Blackman => 0.42 - 0.5 * angle.cos() + 0.08 * (2.0 * angle).cos(),
            }
        };
        Ok(vec![from_f64(self.dtype, shape, (0..len).map(value).collect())?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().flag("periodic", self.periodic).int("output_datatype", dtype_to_onnx(self.dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;

    #[test]
    fn windows_rise_to_one() {
        let window = |kind, periodic, size: i64| {
            run_one(&Window { kind, periodic, dtype: DType::F64 }, &[&Tensor::scalar(size)])
        };
        for (kind, edge) in [(WindowKind::Hann, 0.0), (WindowKind::Hamming, 4.0 / 46.0), (WindowKind::Blackman, 0.0)] {
            for periodic in [false, true] {
                let size = if periodic { 4 } else { 5 };
                let values = window(kind, periodic, size).unwrap().to_f64_vec().unwrap();
                assert!((values[0] - edge).abs() < 1e-12 && (values[2] - 1.0).abs() < 1e-12, "{kind:?}: {values:?}");
                assert!((values[1] - values[3]).abs() < 1e-12);
            }
            assert_eq!(window(kind, false, 0).unwrap().len(), 0);
            assert!((window(kind, false, 1).unwrap().to_f64_vec().unwrap()[0] - 1.0).abs() < 1e-12);
            assert!(window(kind, false, -1).is_err());
        }
    }
}
