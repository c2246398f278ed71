//! Rows of several requests laid side by side along the batch axis, and taken apart again.

use crate::error::{Result, bail, ensure};
use crate::model::CompiledModel;
use crate::model::ValueInfo;
use crate::padding::PadAxis;
use crate::tensor::{Dim, Shape, Symbol, Tensor};

/// Which axis of each input runs over the rows of a batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchAxes {
    /// One entry an input; `None` for an input that all rows of a batch would share.
    pub(crate) inputs: Vec<Option<usize>>,
}

impl BatchAxes {
    /// The batch is the symbolic first axis of the first input that has one, and whatever carries the same symbol.
    pub(crate) fn of(inputs: &[ValueInfo]) -> Option<Self> {
        let symbol: &Symbol = inputs.iter().find_map(|info| match info.shape.as_ref()?.first()? {
            Dim::Symbol(symbol) => Some(symbol),
            _ => None,
        })?;
        let axis =
            |info: &ValueInfo| info.shape.as_ref()?.iter().position(|dim| matches!(dim, Dim::Symbol(s) if s == symbol));
        Some(BatchAxes { inputs: inputs.iter().map(axis).collect() })
    }

    /// True where every input has rows, so that requests can be stacked.
    pub(crate) fn all(&self) -> bool {
        self.inputs.iter().all(Option::is_some)
    }

    /// The rows that a request brings: the same number in each input.
    pub(crate) fn rows(&self, inputs: &[ValueInfo], tensors: &[Tensor]) -> Result<usize> {
        let mut rows: Option<usize> = None;
        for ((axis, tensor), info) in self.inputs.iter().zip(tensors).zip(inputs) {
            let Some(axis) = *axis else { continue };
            let Some(&own) = tensor.shape().get(axis) else {
                bail!(InvalidInput, "input {info} has too few axes: {}", tensor.shape());
            };
            let same = rows.is_none_or(|rows| rows == own);
            ensure!(same, InvalidInput, "input {info} has {own} rows, another input {}", rows.unwrap_or(0));
            rows = Some(own);
        }
        let rows = rows.unwrap_or(1);
        ensure!(rows > 0, InvalidInput, "a request needs at least one row");
        Ok(rows)
    }

    /// Whether two requests differ in nothing but their rows, and in the axis that is padded, so that they can be stacked.
    pub(crate) fn alike(&self, one: &[Tensor], other: &[Tensor], pad: Option<&PadAxis>) -> bool {
        one.len() == other.len()
            && one.iter().zip(other).zip(&self.inputs).enumerate().all(|(index, ((one, other), axis))| {
                let (one, other, padded) = (one.shape(), other.shape(), pad.and_then(|pad| pad.in_input(index)));
                let differ = |at: usize| Some(at) == *axis || Some(at) == padded;
                let same = |(at, (one, other)): (usize, (&usize, &usize))| one == other || differ(at);
                one.rank() == other.rank() && one.iter().zip(other.iter()).enumerate().all(same)
            })
    }

    /// The shapes of the inputs when they carry `rows` rows.
    pub(crate) fn with_rows(&self, shapes: &[Shape], rows: usize) -> Vec<Shape> {
        let widened = shapes.iter().zip(&self.inputs).map(|(shape, axis)| match axis {
            Some(axis) => with_length(shape, *axis, rows),
            None => shape.clone(),
        });
        widened.collect()
    }
}

/// The shape with another length of one axis.
pub(crate) fn with_length(shape: &Shape, axis: usize, length: usize) -> Shape {
    shape.iter().enumerate().map(|(at, own)| if at == axis { length } else { *own }).collect()
}

/// Which axis of each output runs over the rows, where these are proven to keep apart.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) with the node that may mix them.
pub(crate) fn output_axes(model: &CompiledModel, axes: &BatchAxes, shapes: &[Shape]) -> Result<Vec<usize>> {
    model.output_axes(&axes.inputs, |rows| axes.with_rows(shapes, rows))
}

/// Lengths that symbolic axes are tried with.
const TRIED: [usize; 3] = [8, 32, 224];

/// Refuses a model whose rows are not proven to keep apart, at lengths that it takes; where none of those tried is one,
/// requests will show.
///
/// # Errors
/// As [`output_axes`].
pub(crate) fn check_apart(model: &CompiledModel, axes: &BatchAxes) -> Result<()> {
    for length in TRIED {
        let dims = |info: &ValueInfo| info.shape.as_deref().unwrap_or_default().to_vec();
        let shape = |info| dims(info).iter().map(|dim| dim.known().unwrap_or(length)).collect();
        let shapes: Vec<Shape> = model.inputs().iter().map(shape).collect();
        if model.output_shapes(&axes.with_rows(&shapes, 1)).is_ok() {
            return output_axes(model, axes, &shapes).map(drop);
        }
    }
    Ok(())
}

/// Which axis of each output runs over the rows, by the word of whoever promises that these keep apart: found by asking for
/// the shapes at two and at three rows.
pub(crate) fn promised_axes(model: &CompiledModel, axes: &BatchAxes, shapes: &[Shape]) -> Result<Vec<usize>> {
    let at = |rows: usize| -> Result<Vec<Option<Shape>>> { model.output_shapes(&axes.with_rows(shapes, rows)) };
    let (two, three) = (at(2)?, at(3)?);
    let infos = model.outputs();
    let found = two.iter().zip(&three).zip(infos).map(|((two, three), info)| {
        let (Some(two), Some(three)) = (two, three) else {
            bail!(InvalidInput, "output {info} has a shape that depends on data; set max_batch_size to 1");
        };
        let grows: Vec<usize> = (0..two.rank().min(three.rank()))
            .filter(|&axis| (two[axis], three[axis]) != (three[axis], two[axis]))
            .collect();
        match grows.as_slice() {
            [axis] if two.rank() == three.rank() && two[*axis] == 2 && three[*axis] == 3 => Ok(*axis),
            _ => bail!(InvalidInput, "output {info} does not have one row for each row in; set max_batch_size to 1"),
        }
    });
    found.collect()
}

/// The runs of bytes of one tensor that belong together: `outer` runs of `rows * inner` bytes.
fn runs(shape: &[usize], axis: usize, size: usize) -> (usize, usize) {
    (shape[..axis].iter().product(), shape[axis..].iter().product::<usize>() * size)
}

/// Copies the rows of a request into a stack whose axis has `total` rows, from row `first` on.
pub(crate) fn stack(stack: &mut [u8], total: usize, first: usize, axis: usize, tensor: &Tensor) {
    let (outer, run) = runs(tensor.shape(), axis, tensor.dtype().size());
    let rows = tensor.shape()[axis].max(1);
    let row = run / rows;
    for (target, source) in
        stack.chunks_exact_mut((total * row).max(1)).zip(tensor.as_bytes().chunks_exact(run.max(1))).take(outer)
    {
        target[first * row..first * row + run].copy_from_slice(source);
    }
}

/// Copies rows `first..first + rows` of a stack into `part`, a tensor's bytes.
pub(crate) fn unstack(
    part: &mut [u8],
    stack: &[u8],
    shape: &Shape,
    size: usize,
    axis: usize,
    first: usize,
    rows: usize,
) {
    let (_, run) = runs(shape, axis, size);
    let row = run / shape[axis].max(1);
    for (target, source) in part.chunks_exact_mut((rows * row).max(1)).zip(stack.chunks_exact(run.max(1))) {
        target.copy_from_slice(&source[first * row..(first + rows) * row]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stacked_along_any_axis_comes_apart_again() {
        for axis in 0..3 {
            let part = |rows: usize, seed: u8| {
                let mut shape = [2, 3, 2];
                shape[axis] = rows;
                let len = shape.iter().product::<usize>();
                Tensor::new(shape, (0..len).map(|i| seed + i as u8).collect()).unwrap()
            };
            let parts = [part(1, 0), part(3, 50), part(2, 100)];
            let mut shape = parts[0].shape().to_vec();
            shape[axis] = 6;
            let shape = Shape::from(shape);
            let mut stacked = vec![0u8; shape.elements()];
            let mut first = 0;
            for part in &parts {
                stack(&mut stacked, 6, first, axis, part);
                first += part.shape()[axis];
            }
            first = 0;
            for part in &parts {
                let rows = part.shape()[axis];
                let mut bytes = vec![0u8; part.len()];
                unstack(&mut bytes, &stacked, &shape, 1, axis, first, rows);
                assert_eq!(bytes, part.as_bytes(), "axis {axis}");
                first += rows;
            }
        }
    }
}
