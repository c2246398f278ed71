//! `Split`: a tensor cut into pieces along an axis.

use super::arithmetic::{infer_constant, ints_to_input, length};
use super::strided::{signed_strides, strided};
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor, normalize_axis};

/// More pieces than any model makes; the facts of the outputs are listed, so their number is bounded.
const MAX_OUTPUTS: usize = 1 << 16;

/// Cuts x along an axis: into pieces of the lengths that the optional input 1 lists, or else into equal ones of which
/// the last may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The axis, counted from the end when negative.
    pub axis: i64,
    /// The number of equal pieces, where there is no list.
    pub num_outputs: Option<usize>,
    /// How many pieces the node takes, which tells their number where the list is not known yet.
    pub outputs: usize,
}

impl Split {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        ints_to_input(node, "split", 1)?;
        let axis = node.int_or("axis", 0)?;
        let outputs = node.output_count();
        let given = node.int("num_outputs")?.map(length).transpose()?;
        let num_outputs = if node.has_input(1) {
            ensure!(given.is_none(), InvalidModel, "num_outputs stands beside a list of lengths");
            None
        } else {
            Some(given.unwrap_or(outputs))
        };
        let fits = num_outputs.is_none_or(|n| (outputs..=MAX_OUTPUTS).contains(&n) && n > 0);
        ensure!(fits, InvalidModel, "num_outputs is {num_outputs:?}, but {outputs} outputs are named");
        Ok(Split { axis, num_outputs, outputs }.into())
    }

    /// The lengths of the pieces of an axis of this length.
    fn lengths(&self, whole: &Dim, list: Option<&Fact>) -> Result<Vec<Dim>> {
        let Some(list) = list else {
            let count = self.num_outputs.unwrap_or(self.outputs).max(1);
            let Some(whole) = whole.known() else {
                return Ok(vec![if count == 1 { whole.clone() } else { Dim::Unknown }; count]);
            };
            let piece = whole.div_ceil(count);
            let last = whole.checked_sub(piece.saturating_mul(count - 1));
            let Some(last) = last else {
                crate::error::bail!(Shape, "{whole} elements do not split into {count} pieces")
            };
            let mut lengths = vec![Dim::Known(piece); count];
            lengths[count - 1] = Dim::Known(last);
            return Ok(lengths);
        };
        let Some(lengths) = list.integers() else {
            return Ok(match list.lengths() {
                Some(lengths) => lengths,
                None => vec![Dim::Unknown; self.outputs],
            });
        };
        let lengths: Vec<usize> = lengths.into_iter().map(length).collect::<Result<_>>()?;
        ensure!(lengths.len() <= MAX_OUTPUTS, Limit, "{} pieces are more than the limit", lengths.len());
        let total = lengths.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        if let Some(whole) = whole.known() {
            ensure!(total == Some(whole), Shape, "pieces of {lengths:?} do not make up {whole} elements");
        }
        Ok(lengths.into_iter().map(Dim::Known).collect())
    }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        let Some(dims) = x.dims() else {
            let count = self.lengths(&Dim::Unknown, inputs.get(1))?.len();
            return Ok(vec![Fact::unranked(x.dtype); count]);
        };
        let axis = normalize_axis(self.axis, dims.len())?;
        let lengths = self.lengths(&dims[axis], inputs.get(1))?;
        let piece = |length: Dim| {
            let mut dims = dims.to_vec();
            dims[axis] = length;
            Fact::new(x.dtype, dims)
        };
        let mut pieces: Vec<Fact> = lengths.into_iter().map(piece).collect();
        if dims.len() == 1
            && let Some(content) = &x.content
        {
            let mut rest = content.as_slice();
            for piece in &mut pieces {
                let Some(count) = piece.dims().and_then(|d| d[0].known()).filter(|&n| n <= rest.len()) else { break };
                let (own, after) = rest.split_at(count);
                (piece.content, rest) = (Some(own.to_vec()), after);
            }
        }
        Ok(pieces)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let x = inputs.require(0)?;
        let axis = x.shape().axis(self.axis)?;
        let strides = signed_strides(x.shape());
        let mut start = 0;
        let mut pieces = Vec::new();
        for fact in infer_constant(self, inputs)? {
            let shape = fact.require_shape()?;
            let after = start + shape[axis];
            pieces.push(strided(x, shape, start * strides[axis] as usize, &strides)?);
            start = after;
        }
        Ok(pieces)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).int_opt("num_outputs", self.num_outputs.map(|n| n as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    fn pieces(num_outputs: Option<usize>, outputs: usize, list: Option<Vec<i64>>) -> Result<Vec<Vec<u8>>> {
        let x = Tensor::new([1, 5, 1], vec![1u8, 2, 3, 4, 5]).unwrap();
        let list = list.map(Tensor::vector);
        let pieces = run(&Split { axis: -2, num_outputs, outputs }, &[Some(&x), list.as_ref()])?;
        pieces.iter().map(|p| Ok(p.as_slice::<u8>()?.to_vec())).collect()
    }

    #[test]
    fn pieces_are_listed_or_equal() {
        assert_eq!(pieces(Some(2), 2, None).unwrap(), [vec![1, 2, 3], vec![4, 5]]);
        assert_eq!(pieces(None, 3, Some(vec![1, 0, 4])).unwrap(), [vec![1], vec![], vec![2, 3, 4, 5]]);
        assert_eq!(pieces(Some(1), 1, None).unwrap(), [vec![1, 2, 3, 4, 5]]);
        assert!(pieces(Some(4), 4, None).is_err());
        assert!(pieces(None, 2, Some(vec![1, 3])).is_err());
        assert!(pieces(None, 2, Some(vec![6, -1])).is_err());
        assert!(pieces(None, 2, Some(vec![i64::MAX, i64::MAX])).is_err());
    }

    #[test]
    fn pieces_lie_at_every_row() {
        let x = Tensor::new([2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap();
        let pieces = run(&Split { axis: 1, num_outputs: Some(3), outputs: 3 }, &[Some(&x)]).unwrap();
        assert_eq!(pieces[1].as_slice::<u8>().unwrap(), [2, 5]);
    }
}
