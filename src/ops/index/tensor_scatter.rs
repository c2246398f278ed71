//! `TensorScatter`: the update of a key or value cache.

use super::scatter::{ScatterReduction, scatter};
use crate::error::{Result, bail, ensure};
use crate::ops::layout::strided::offsets;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Tensor, normalize_axis};

/// Writes the positions of an update into a cache, from a place on that the optional input 2 names for each row.
///
/// Inputs are `[batch, .., capacity, ..]`, `[batch, .., length, ..]` and `[batch]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorScatter {
    /// The axis of positions, counted from the end when negative; not the first.
    pub axis: i64,
    /// Whether positions past the end go on at the start.
    pub circular: bool,
}

impl TensorScatter {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let circular = match node.str_or("mode", "linear")?.as_str() {
            "linear" => false,
            "circular" => true,
            other => bail!(InvalidModel, "mode {other:?} is neither linear nor circular"),
        };
        Ok(TensorScatter { axis: node.int_or("axis", -2)?, circular }.into())
    }
}

impl Op for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (cache, update) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(cache.dtype == update.dtype, Shape, "{} is written into {}", update.dtype, cache.dtype);
        if let (Some(dims), Some(new)) = (cache.dims(), update.dims()) {
            ensure!(dims.len() == new.len(), Shape, "{update} is written into {cache}: the ranks differ");
            let axis = normalize_axis(self.axis, dims.len())?;
            ensure!(axis > 0, Shape, "the axis of positions is the batch axis");
            for other in (0..dims.len()).filter(|&other| other != axis) {
                dims[other].unify(&new[other]).map_err(|e| e.at(format!("axis {other}")))?;
            }
            if let (Some(capacity), Some(length)) = (dims[axis].known(), new[axis].known()) {
                ensure!(length <= capacity, Shape, "{length} positions do not fit into {capacity}");
            }
        }
        if let Some(starts) = inputs.get(2) {
            ensure!(starts.dtype.is_integer(), InvalidModel, "write_indices are {}", starts.dtype);
            if let (Some([rows]), Some([batch, ..])) = (starts.dims(), cache.dims()) {
                rows.unify(batch).map_err(|e| e.at("write_indices"))?;
            }
        }
        Ok(vec![Fact { shape: cache.shape.clone(), ..Fact::unranked(cache.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (cache, update) = (inputs.require(0)?, inputs.require(1)?);
        let axis = cache.shape().axis(self.axis)?;
        let rows = cache.shape().first().copied().unwrap_or(0);
        let starts = match inputs.get(2) {
            Some(starts) => starts.to_i64_vec()?,
            None => vec![0; rows],
        };
        ensure!(starts.len() == rows, Shape, "{} write_indices for {rows} rows", starts.len());
        if update.is_empty() {
            return Ok(vec![cache.clone()]);
        }
        let (capacity, length) = (cache.shape()[axis], update.shape()[axis]);
        let mut strides = cache.shape().strides();
        let along = std::mem::replace(&mut strides[axis], 0);
        let inner = update.shape()[axis + 1..].iter().product::<usize>();
        let row = update.len() / rows;
        let place = |(i, base): (usize, usize)| {
            let (start, position) = (starts[i / row], i / inner % length);
            let at = i128::from(start) + position as i128;
            let at = if self.circular { at.rem_euclid(capacity as i128) } else { at };
            let fits = (0..capacity as i128).contains(&at);
            ensure!(fits, InvalidInput, "{length} positions from {start} on do not fit into {capacity}");
            Ok(base + at as usize * along)
        };
        let places: Result<Vec<usize>> = offsets(update.shape(), &strides).enumerate().map(place).collect();
        Ok(vec![scatter(cache, update, &places?, ScatterReduction::None)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().int("axis", self.axis).str("mode", if self.circular { "circular" } else { "linear" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run_one;
    use crate::tensor::DType;

    #[test]
    fn positions_are_written_row_by_row() {
        let cache = Tensor::zeros(DType::U8, [2, 3, 1]).unwrap();
        let update = Tensor::new([2, 2, 1], vec![1u8, 2, 3, 4]).unwrap();
        let write = |circular, starts: [i64; 2]| {
            let op = TensorScatter { axis: -2, circular };
            run_one(&op, &[&cache, &update, &Tensor::vector(starts.to_vec())])
        };
        assert_eq!(write(false, [1, 0]).unwrap().as_slice::<u8>().unwrap(), [0, 1, 2, 3, 4, 0]);
        assert_eq!(write(true, [2, 0]).unwrap().as_slice::<u8>().unwrap(), [2, 0, 1, 3, 4, 0]);
        assert!(write(false, [2, 0]).is_err());
        assert!(write(false, [-1, i64::MAX]).is_err());
    }
}
