//! Elements and slices picked or put by tensors of indices: `GatherElements`, `GatherND`, `ScatterElements`, `ScatterND`.

use super::arena::Io;
use super::kernel::{Context, Kernel, Spec};
use crate::error::{Error, Result, err};
use crate::kernels::arch::Isa;
use crate::ops::index::{GatherElements, GatherNd, ScatterElements, ScatterNd, ScatterReduction};
use crate::tensor::{DType, Shape, with_bits};

/// Where the indices of a step are, and how wide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indices {
    count: usize,
    wide: bool,
}

impl Indices {
    /// Those of input `index`, where they are of a kind that kernels read.
    pub(super) fn of(spec: &Spec<'_>, index: usize) -> Option<Self> {
        let (slot, count) = (spec.input(index)?, spec.shape(index)?.elements());
        let wide = slot.dtype == DType::I64;
        (wide || slot.dtype == DType::I32).then_some(Indices { count, wide })
    }

    pub(super) fn workspace(self) -> usize {
        if self.wide { 0 } else { self.count.saturating_mul(8) }
    }

    /// The indices themselves, widened into the workspace where they are narrow.
    pub(super) fn read<'a>(self, io: &Io<'a>, index: usize, workspace: &'a mut [u8]) -> Result<&'a [i64]> {
        if self.wide {
            return io.input(index);
        }
        let narrow: &[i32] = io.input(index)?;
        let wide: &mut [i64] = bytemuck::cast_slice_mut(&mut workspace[..self.workspace()]);
        for (wide, narrow) in wide.iter_mut().zip(narrow) {
            *wide = i64::from(*narrow);
        }
        Ok(wide)
    }
}

fn outside(index: i64, length: usize) -> Error {
    err!(InvalidInput, "index {index} is outside an axis of {length} entries")
}

#[inline(always)]
fn place(index: i64, length: usize) -> Result<usize> {
    let from_start = if index < 0 { index.wrapping_add(length as i64) } else { index };
    if (0..length as i64).contains(&from_start) { Ok(from_start as usize) } else { Err(outside(index, length)) }
}

/// How the places of a step follow from its indices.
#[derive(Debug)]
enum Places {
    /// The coordinate along one axis is the index; the others are the index's own.
    Along { axis: usize, strides: Vec<usize>, shape: Shape, length: usize },
    /// Tuples name slices of `slice` elements: for each coordinate its length and how far it moves.
    Tuples {
        axes: Vec<(usize, usize)>,
        slice: usize,
        /// Tuples to each batch, and how far it lies from the one before.
        per_batch: usize,
        batch: usize,
    },
}

impl Places {
    fn along(x: &Shape, indices: &Shape, axis: i64) -> Result<Option<Self>> {
        let axis = x.axis(axis)?;
        let fits = |(at, (own, other)): (usize, (&usize, &usize))| at == axis || other <= own;
        let within = x.rank() == indices.rank() && x.iter().zip(indices.iter()).enumerate().all(fits);
        Ok(within.then(|| Places::Along {
            axis,
            strides: x.strides().to_vec(),
            shape: indices.clone(),
            length: x[axis],
        }))
    }

    fn tuples(x: &Shape, indices: &Shape, batch: usize) -> Option<Self> {
        let (&tuple, rows) = indices.split_last()?;
        let strides = x.strides();
        let batches: usize = rows.get(..batch)?.iter().product();
        Some(Places::Tuples {
            axes: (batch..batch + tuple)
                .map(|axis| Some((*x.get(axis)?, *strides.get(axis)?)))
                .collect::<Option<_>>()?,
            slice: x.get(batch + tuple..)?.iter().product(),
            per_batch: rows.iter().product::<usize>().checked_div(batches).unwrap_or(0).max(1),
            batch: x.get(batch..)?.iter().product(),
        })
    }

    /// Hands out each run of neighbors: where it starts among the elements of the indices, where in the tensor, and how
    /// long it is.
    fn each(&self, indices: &[i64], mut run: impl FnMut(usize, usize, usize)) -> Result<()> {
        match self {
            Places::Along { axis, strides, shape, length } => {
                let Some((&last, outer)) = shape.split_last() else { return Ok(()) };
                for (row, indices) in indices.chunks_exact(last.max(1)).enumerate() {
                    let (mut rest, mut start) = (row, 0);
                    for (at, &n) in outer.iter().enumerate().rev() {
                        let coordinate = rest % n;
                        rest /= n;
                        start += if at == *axis { 0 } else { coordinate * strides[at] };
                    }
                    let (by, own) = if *axis == outer.len() { (1, 0) } else { (strides[*axis], 1) };
                    for (column, &index) in indices.iter().enumerate() {
                        run(row * last + column, start + place(index, *length)? * by + column * own, 1);
                    }
                }
            }
            Places::Tuples { axes, slice, per_batch, batch } => {
                if axes.is_empty() || *slice == 0 {
                    return Ok(());
                }
                for (at, tuple) in indices.chunks_exact(axes.len()).enumerate() {
                    let mut start = at / per_batch * batch;
                    for (index, (length, stride)) in tuple.iter().zip(axes) {
                        start += place(*index, *length)? * stride;
                    }
                    run(at * slice, start, *slice);
                }
            }
        }
        Ok(())
    }
}

/// `GatherElements` and `GatherND`.
#[derive(Debug)]
pub(super) struct PickPlaces {
    size: usize,
    indices: Indices,
    places: Places,
}

impl PickPlaces {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (elements, tuples) = (spec.op::<GatherElements>(), spec.op::<GatherNd>());
        if (elements.is_none() && tuples.is_none()) || !spec.is_static() {
            return Ok(None);
        }
        let (Some(x), Some(shape), Some(own), Some(indices)) =
            (spec.input(0), spec.shape(0), spec.shape(1), Indices::of(spec, 1))
        else {
            return Ok(None);
        };
        let places = match (elements, tuples) {
            (Some(op), _) => Places::along(shape, own, op.axis)?,
            (_, Some(op)) => Places::tuples(shape, own, op.batch_dims).filter(is_of_tuples),
            _ => None,
        };
        let some = shape.elements() > 0;
        Ok(places.filter(|_| some).map(|places| PickPlaces { size: x.dtype.size(), indices, places }))
    }
}

/// Empty tuples name the whole tensor: left to the reference.
fn is_of_tuples(places: &Places) -> bool {
    !matches!(places, Places::Tuples { axes, .. } if axes.is_empty())
}

impl Kernel for PickPlaces {
    fn name(&self) -> String {
        "gather by places".to_owned()
    }

    fn workspace(&self) -> usize {
        self.indices.workspace()
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let indices = self.indices.read(io, 1, context.workspace)?;
        with_bits!(self.size, T => {
            let (x, y): (&[T], &mut [T]) = (io.input(0)?, io.output(0)?);
            self.places.each(indices, |at, from, count| {
                if count == 1 { y[at] = x[from] } else { y[at..at + count].copy_from_slice(&x[from..from + count]) }
            })
        })
    }
}

/// `ScatterElements` and `ScatterND`; what combines elements is for f32.
#[derive(Debug)]
pub(super) struct PutPlaces {
    size: usize,
    indices: Indices,
    places: Places,
    how: ScatterReduction,
}

impl PutPlaces {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (elements, tuples) = (spec.op::<ScatterElements>(), spec.op::<ScatterNd>());
        let Some(how) = elements.map(|op| op.reduction).or(tuples.map(|op| op.reduction)) else { return Ok(None) };
        let (Some(x), Some(shape), Some(own), Some(updates), Some(indices)) =
            (spec.input(0), spec.shape(0), spec.shape(1), spec.shape(2), Indices::of(spec, 1))
        else {
            return Ok(None);
        };
        let places = match elements {
            Some(op) => Places::along(shape, own, op.axis)?.filter(|_| own == updates),
            None => Places::tuples(shape, own, 0).filter(|places| match places {
                Places::Tuples { axes, slice, .. } => {
                    !axes.is_empty() && own.elements() / axes.len() * slice == updates.elements()
                }
                Places::Along { .. } => false,
            }),
        };
        let known = how == ScatterReduction::None || x.dtype == DType::F32;
        let some = shape.elements() > 0 && known && spec.is_static();
        Ok(places.filter(|_| some).map(|places| PutPlaces { size: x.dtype.size(), indices, places, how }))
    }
}

/// As the reference joins them.
#[inline(always)]
fn joined(how: ScatterReduction, there: f32, update: f32) -> f32 {
    match how {
        ScatterReduction::Add => there + update,
        ScatterReduction::Mul => there * update,
        ScatterReduction::Max if there.is_nan() || there > update => there,
        ScatterReduction::Min if there.is_nan() || there < update => there,
        _ => update,
    }
}

impl Kernel for PutPlaces {
    fn name(&self) -> String {
        "scatter by places".to_owned()
    }

    fn workspace(&self) -> usize {
        self.indices.workspace()
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let indices = self.indices.read(io, 1, context.workspace)?;
        if self.how == ScatterReduction::None {
            return with_bits!(self.size, T => {
                let (x, updates, y): (&[T], &[T], &mut [T]) = (io.input(0)?, io.input(2)?, io.output(0)?);
                y.copy_from_slice(x);
                self.places.each(indices, |at, to, count| {
                    if count == 1 {
                        y[to] = updates[at];
                    } else {
                        y[to..to + count].copy_from_slice(&updates[at..at + count]);
                    }
                })
            });
        }
        let (x, updates, y): (&[f32], &[f32], &mut [f32]) = (io.input(0)?, io.input(2)?, io.output(0)?);
        y.copy_from_slice(x);
        if self.how == ScatterReduction::Add {
            return self.places.each(indices, |at, to, count| {
                if count == 1 {
                    y[to] += updates[at];
                    return;
                }
                for (y, update) in y[to..to + count].iter_mut().zip(&updates[at..at + count]) {
                    *y += update;
                }
            });
        }
        let how = self.how;
        self.places.each(indices, |at, to, count| {
            for (y, &update) in y[to..to + count].iter_mut().zip(&updates[at..at + count]) {
                *y = joined(how, *y, update);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::ops::Op;
    use crate::ops::index::{GatherElements, GatherNd, ScatterElements, ScatterNd, ScatterReduction};
    use crate::tensor::{Fact, Tensor};
    use crate::{CompileOptions, Model};

    /// The compiled model answers as the interpreted graph does, without a reference evaluation.
    fn agrees(op: impl Op, inputs: &[Tensor], indices: &Tensor) {
        let mut graph = Graph::new("test");
        let tensors: Vec<Tensor> = [&inputs[..1], std::slice::from_ref(indices), &inputs[1..]].concat();
        let values: Vec<_> = tensors
            .iter()
            .enumerate()
            .map(|(at, t)| graph.input(&format!("x{at}"), Fact::concrete(t.dtype(), t.shape())).unwrap())
            .collect();
        let y = graph.op("y", op, &values).unwrap();
        graph.output(y).unwrap();
        let expected = graph.interpret(&tensors).unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
        let shapes: Vec<_> = tensors.iter().map(|t| t.shape().clone()).collect();
        assert_eq!(model.plan(&shapes).unwrap().fallbacks(), Vec::<String>::new());
        assert_eq!(model.run(tensors.clone()).unwrap()[0], expected[0]);
        let mut wrong = indices.to_i64_vec().unwrap();
        wrong[0] = 99;
        let mut tensors = tensors;
        tensors[1] = Tensor::new(indices.shape().clone(), wrong).unwrap().cast(indices.dtype()).unwrap();
        assert!(model.run(tensors).is_err(), "an index outside");
    }

    fn numbers(shape: &[usize]) -> Tensor {
        Tensor::new(shape, (0..shape.iter().product::<usize>()).map(|i| (i as f32) - 7.0).collect()).unwrap()
    }

    fn indices(shape: &[usize], length: i64) -> [Tensor; 2] {
        let wide: Vec<i64> =
            (0..shape.iter().product::<usize>() as i64).map(|i| (i * 5 + 1) % (2 * length) - length).collect();
        let wide = Tensor::new(shape, wide).unwrap();
        [wide.cast(crate::DType::I32).unwrap(), wide]
    }

    #[test]
    fn elements_are_picked_and_put() {
        use ScatterReduction::{Add, Max, Min, Mul, None};
        let x = numbers(&[3, 4, 5]);
        for (axis, shape) in [(0, [2, 4, 5]), (1, [3, 6, 2]), (2, [2, 3, 7]), (-1, [3, 4, 1])] {
            let length = x.shape()[x.shape().axis(axis).unwrap()] as i64;
            for indices in indices(&shape, length) {
                agrees(GatherElements { axis }, std::slice::from_ref(&x), &indices);
                for reduction in [None, Add, Mul, Max, Min] {
                    agrees(ScatterElements { axis, reduction }, &[x.clone(), numbers(&shape)], &indices);
                }
                let (bytes, updates) =
                    (x.cast(crate::DType::I8).unwrap(), numbers(&shape).cast(crate::DType::I8).unwrap());
                agrees(ScatterElements { axis, reduction: None }, &[bytes, updates], &indices);
            }
        }
    }

    #[test]
    fn slices_are_picked_and_put() {
        let x = numbers(&[3, 3, 5]);
        for (batch_dims, shape, slices) in
            [(0, &[4, 1][..], &[4, 3, 5][..]), (0, &[2, 2, 2], &[2, 2, 5]), (0, &[4, 3], &[4]), (1, &[3, 2, 1], &[])]
        {
            for indices in indices(shape, 3) {
                agrees(GatherNd { batch_dims }, std::slice::from_ref(&x), &indices);
                for reduction in [ScatterReduction::None, ScatterReduction::Add] {
                    if batch_dims == 0 {
                        agrees(ScatterNd { reduction }, &[x.clone(), numbers(slices)], &indices);
                    }
                }
            }
        }
    }
}
