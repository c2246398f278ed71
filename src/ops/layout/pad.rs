//! `Pad`: more elements around a tensor, or fewer.

use super::arithmetic::{axes_of, ints_to_input, output_shape};
use super::strided::{FILL, mapped};
use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};

/// What stands in the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PadMode {
    /// One value.
    #[default]
    Constant,
    /// The tensor mirrored at its first and last element.
    Reflect,
    /// The nearest element.
    Edge,
    /// The tensor again, as on a torus.
    Wrap,
}

impl PadMode {
    fn as_str(self) -> &'static str {
        match self {
            PadMode::Constant => "constant",
            PadMode::Reflect => "reflect",
            PadMode::Edge => "edge",
            PadMode::Wrap => "wrap",
        }
    }

    /// The element in `0..len` that stands at `index`, which may lie outside; `None` for the constant.
    fn source(self, index: i128, len: i128) -> Option<i128> {
        if (0..len).contains(&index) {
            return Some(index);
        }
        match self {
            PadMode::Constant => None,
            PadMode::Edge => Some(index.clamp(0, len - 1)),
            PadMode::Wrap => Some(index.rem_euclid(len)),
            PadMode::Reflect => {
                let period = (2 * (len - 1)).max(1);
                let there = index.rem_euclid(period);
                Some(there.min(period - there).min(len - 1))
            }
        }
    }
}

/// Pads x: inputs are x, pads (all the begins, then all the ends; negative ones crop), an optional value for the
/// constant mode, and the optional axes that pads speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pad {
    /// What stands in the padding.
    pub mode: PadMode,
}

impl Pad {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let mode = match node.str_or("mode", "constant")?.as_str() {
            "constant" => PadMode::Constant,
            "reflect" => PadMode::Reflect,
            "edge" => PadMode::Edge,
            "wrap" => PadMode::Wrap,
            other => bail!(InvalidModel, "mode {other:?} is none of constant, reflect, edge and wrap"),
        };
        ints_to_input(node, "pads", 1)?;
        if let Some(value) = node.float("value")? {
            ensure!(!node.has_input(2), InvalidModel, "the value is given both as an attribute and as an input");
            node.set_input(2, Tensor::scalar(value));
        }
        Ok(Pad { mode }.into())
    }

    /// What is added before and after each axis of a tensor of this rank; `None` where that is not known.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) when there are not two numbers for each axis.
    pub fn amounts(&self, pads: &Fact, axes: Option<&Fact>, rank: usize) -> Result<Option<Vec<(i64, i64)>>> {
        let (Some(pads), Some(axes)) = (pads.integers(), axes_of(axes, rank)?) else { return Ok(None) };
        ensure!(pads.len() == 2 * axes.len(), Shape, "{} pads are given for {} axes", pads.len(), axes.len());
        let mut amounts = vec![(0, 0); rank];
        for (i, &axis) in axes.iter().enumerate() {
            amounts[axis] = (pads[i], pads[axes.len() + i]);
        }
        Ok(Some(amounts))
    }

    fn padded(&self, length: usize, (begin, end): (i64, i64)) -> Result<usize> {
        let padded = length as i128 + i128::from(begin) + i128::from(end);
        match usize::try_from(padded) {
            Ok(padded) => {
                let kept = length as i128 + i128::from(begin.min(0)) + i128::from(end.min(0));
                let possible = padded == 0 || kept > 0 || self.mode == PadMode::Constant;
                ensure!(possible, Shape, "nothing is left of {length} elements to pad from");
                Ok(padded)
            }
            Err(_) => bail!(Shape, "pads of {begin} and {end} leave {padded} of {length} elements"),
        }
    }

    /// Where each element of a padded axis comes from.
    fn map(&self, length: usize, (begin, end): (i64, i64)) -> Result<Vec<usize>> {
        let padded = self.padded(length, (begin, end))?;
        let low = -i128::from(begin.min(0));
        let kept = length as i128 - low + i128::from(end.min(0));
        let first = -i128::from(begin) - low;
        Ok((0..padded as i128)
            .map(|i| self.mode.source(first + i, kept.max(0)).map_or(FILL, |there| (there + low) as usize))
            .collect())
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (x, pads) = (inputs.require(0)?, inputs.require(1)?);
        let Some(dims) = x.dims() else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let Some(amounts) = self.amounts(pads, inputs.get(3), dims.len())? else {
            return Ok(vec![Fact::new(x.dtype, vec![Dim::Unknown; dims.len()])]);
        };
        let pad = |(dim, amounts): (&Dim, (i64, i64))| match dim.known() {
            _ if amounts == (0, 0) => Ok(dim.clone()),
            Some(length) => self.padded(length, amounts).map(Dim::Known),
            None => Ok(Dim::Unknown),
        };
        Ok(vec![Fact::new(x.dtype, dims.iter().zip(amounts).map(pad).collect::<Result<_>>()?)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        if output_shape(self, inputs)?.checked_len()? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), output_shape(self, inputs)?)?]);
        }
        let axes = inputs.get(3).cloned().map(Fact::constant);
        let pads = Fact::constant(inputs.require(1)?.clone());
        let Some(amounts) = self.amounts(&pads, axes.as_ref(), x.rank())? else {
            bail!(InvalidModel, "pads and axes must be integers")
        };
        let maps: Result<Vec<_>> = x.shape().iter().zip(amounts).map(|(&n, amounts)| self.map(n, amounts)).collect();
        let fill = match inputs.get(2) {
            Some(value) if !value.is_empty() => value.cast(x.dtype())?,
            _ => Tensor::zeros(x.dtype(), [1])?,
        };
        Ok(vec![mapped(x, &maps?, &fill)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().str("mode", self.mode.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;
    use crate::ops::testing::{inputs_read, run, run_one};

    fn padded(mode: PadMode, pads: &[i64]) -> Result<Vec<i32>> {
        let x = Tensor::vector(vec![1i32, 2, 3]);
        let y = run(&Pad { mode }, &[Some(&x), Some(&Tensor::vector(pads.to_vec())), Some(&Tensor::scalar(9i32))])?;
        Ok(y[0].as_slice::<i32>()?.to_vec())
    }

    #[test]
    fn each_mode_fills_its_way() {
        for (mode, pads, expected) in [
            (PadMode::Constant, [2, 1], vec![9, 9, 1, 2, 3, 9]),
            (PadMode::Constant, [-1, 1], vec![2, 3, 9]),
            (PadMode::Constant, [-4, 3], vec![9, 9]),
            (PadMode::Reflect, [3, 3], vec![2, 3, 2, 1, 2, 3, 2, 1, 2]),
            (PadMode::Edge, [2, 1], vec![1, 1, 1, 2, 3, 3]),
            (PadMode::Edge, [-2, 1], vec![3, 3]),
            (PadMode::Wrap, [4, 1], vec![3, 1, 2, 3, 1, 2, 3, 1]),
            (PadMode::Reflect, [-2, 2], vec![3, 3, 3]),
            (PadMode::Edge, [-1, -2], vec![]),
        ] {
            assert_eq!(padded(mode, &pads).unwrap(), expected, "{mode:?} {pads:?}");
        }
        assert!(padded(PadMode::Constant, &[-2, -2]).is_err());
        assert!(padded(PadMode::Edge, &[-3, 1]).is_err());
        assert!(padded(PadMode::Constant, &[1, 1, 1]).is_err());
        assert!(padded(PadMode::Constant, &[i64::MAX, i64::MAX]).is_err());
        assert!(padded(PadMode::Constant, &[i64::MIN, i64::MIN]).is_err());
    }

    #[test]
    fn pads_may_speak_of_some_axes() {
        let x = Tensor::new([2, 1], vec![1u8, 2]).unwrap();
        let (pads, value, axes) = (Tensor::vector(vec![1i64, 0]), Tensor::scalar(7u8), Tensor::vector(vec![-1i32]));
        let y = run_one(&Pad { mode: PadMode::Constant }, &[&x, &pads, &value, &axes]).unwrap();
        assert_eq!(y, Tensor::new([2, 2], vec![7u8, 1, 7, 2]).unwrap());
    }

    #[test]
    fn old_attributes_become_inputs() {
        let attrs = [("pads", Attr::Ints(vec![1, 0])), ("value", Attr::Float(2.5))];
        let added = inputs_read("Pad", 10, &attrs, 1).unwrap();
        assert_eq!(added[&1].to_i64_vec().unwrap(), [1, 0]);
        assert_eq!(added[&2].to_scalar::<f32>().unwrap(), 2.5);
    }
}
