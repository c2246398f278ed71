//! Elements moved and not changed: transpose, slice, expand, blocks of pixels, concatenate, split, gather, pad.

use super::arena::Io;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, err};
use crate::kernels::arch::Isa;
use crate::kernels::movement::{self as m, Edge, copy_rows, gather_rows};
use crate::ops::Op;
use crate::ops::fused::ChannelsLast;
use crate::ops::image::{DepthToSpace, SpaceToDepth};
use crate::ops::index::{Gather, Slice};
use crate::ops::layout::{Concat, Expand, Pad, PadMode, Split, Transpose};
use crate::tensor::{DType, Shape, with_bits};
use std::ops::Range;

/// One strided copy: `Transpose`, `Slice`, `Expand`, `DepthToSpace`, `SpaceToDepth`.
#[derive(Debug)]
pub(super) struct Strided {
    kind: &'static str,
    size: usize,
    movement: m::Movement,
}

impl Strided {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (Some(input), Some(shape), Some(out)) = (spec.input(0), spec.shape(0), spec.output_shape(0)) else {
            return Ok(None);
        };
        let last = spec.op::<ChannelsLast>().and_then(|last| last.op.downcast_ref::<DepthToSpace>());
        let movement = if let Some(op) = spec.op::<Transpose>() {
            let perm = op.perm.clone().unwrap_or_else(|| (0..shape.rank()).rev().collect());
            m::Movement::transpose(shape, &perm)
        } else if spec.op::<Slice>().is_some() {
            slice(spec, shape, out)
        } else if spec.op::<Expand>().is_some() {
            m::Movement::expand(shape, out)
        } else if let (Some(op), &[n, c, h, w]) = (spec.op::<DepthToSpace>(), &**shape) {
            let (b, depth) = (op.block, c / (op.block * op.block));
            match op.column_row_depth {
                true => m::Movement::transpose(&Shape::from([n, depth, b, b, h, w]), &[0, 1, 4, 2, 5, 3]),
                false => m::Movement::transpose(&Shape::from([n, b, b, depth, h, w]), &[0, 3, 4, 1, 5, 2]),
            }
        } else if let (Some(op), &[n, h, w, c]) = (last, &**shape) {
            let (b, depth) = (op.block, c / (op.block * op.block));
            match op.column_row_depth {
                true => m::Movement::transpose(&Shape::from([n, h, w, depth, b, b]), &[0, 1, 4, 2, 5, 3]),
                false => m::Movement::transpose(&Shape::from([n, h, w, b, b, depth]), &[0, 1, 3, 2, 4, 5]),
            }
        } else if let (Some(op), &[n, c, h, w]) = (spec.op::<SpaceToDepth>(), &**shape) {
            let b = op.block;
            m::Movement::transpose(&Shape::from([n, c, h / b, b, w / b, b]), &[0, 3, 5, 1, 2, 4])
        } else {
            None
        };
        let kind = last.map_or(spec.instruction.op.name(), Op::name);
        Ok(movement.map(|movement| Strided { kind, size: input.dtype.size(), movement }))
    }
}

/// The movement of a `Slice` whose bounds are constants; the lengths are those that inference found.
fn slice(spec: &Spec<'_>, shape: &Shape, out: &Shape) -> Option<m::Movement> {
    let list = |index: usize| match spec.input(index) {
        Some(_) => spec.constant(index)?.to_i64_vec().ok().map(Some),
        None => Some(None),
    };
    let starts = list(1)??;
    let axes = list(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut first = vec![0usize; shape.rank()];
    let mut step = vec![1isize; shape.rank()];
    for ((start, axis), by) in starts.iter().zip(axes).zip(steps) {
        let axis = shape.axis(axis).ok()?;
        let length = i64::try_from(shape[axis]).ok()?;
        let from = if *start < 0 { start.saturating_add(length) } else { *start };
        let last = if by < 0 { length - 1 } else { length };
        first[axis] = usize::try_from(from.clamp(0, last.max(0))).ok()?;
        step[axis] = isize::try_from(by).ok()?;
    }
    m::Movement::slice(shape, &first, &step, out)
}

impl Kernel for Strided {
    fn name(&self) -> String {
        self.kind.to_lowercase()
    }

    fn division(&self) -> Division {
        Division::units(if self.movement.is_empty() { 0 } else { self.movement.rows() }, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        if !self.movement.is_empty() {
            with_bits!(self.size, T => self.movement.run_rows::<T>(io.input(0)?, io.share(), io.output(0)?));
        }
        Ok(())
    }
}

/// `Concat` or `Split`: runs of neighboring elements between one whole and its parts.
#[derive(Debug)]
pub(super) struct Runs {
    joins: bool,
    size: usize,
    rows: usize,
    whole: usize,
    parts: Vec<usize>,
}

impl Runs {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let (joins, axis) = match (spec.op::<Concat>(), spec.op::<Split>()) {
            (Some(op), _) => (true, op.axis),
            (_, Some(op)) => (false, op.axis),
            _ => return Ok(None),
        };
        if !spec.is_static() {
            return Ok(None);
        }
        let whole = if joins { spec.output(0) } else { spec.input(0) };
        let Some((slot, shape)) = whole.and_then(|s| Some((s, s.shape.as_ref()?))) else { return Ok(None) };
        let axis = shape.axis(axis)?;
        let inner: usize = shape[axis + 1..].iter().product();
        let count = if joins { spec.instruction.inputs.len() } else { spec.instruction.outputs.len() };
        let part = |index: usize| {
            let shape = if joins { spec.shape(index) } else { spec.output_shape(index) };
            Some(shape?.get(axis)? * inner)
        };
        let Some(parts) = (0..count).map(part).collect::<Option<Vec<usize>>>() else { return Ok(None) };
        let rows = shape[..axis].iter().product();
        Ok(Some(Runs { joins, size: slot.dtype.size(), rows, whole: shape[axis] * inner, parts }))
    }
}

impl Kernel for Runs {
    fn name(&self) -> String {
        if self.joins { "concat" } else { "split" }.to_owned()
    }

    fn division(&self) -> Division {
        Division::units(if self.whole == 0 { 0 } else { self.rows }, 1)
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let share = io.share();
        let rows = share.len();
        if rows == 0 || self.whole == 0 {
            return Ok(());
        }
        with_bits!(self.size, T => {
            let mut first = 0;
            if self.joins {
                let whole: &mut [T] = io.output(0)?;
                for (index, &run) in self.parts.iter().enumerate() {
                    let part: &[T] = io.input(index)?;
                    copy_rows(rows, run, &part[share.start * run..], run, &mut whole[first..], self.whole);
                    first += run;
                }
            } else {
                let whole: &[T] = io.input(0)?;
                for (index, &run) in self.parts.iter().enumerate() {
                    let from = &whole[share.start * self.whole + first..];
                    copy_rows(rows, run, from, self.whole, io.output(index)?, run);
                    first += run;
                }
            }
        });
        Ok(())
    }
}

/// `Gather`: rows picked from each of `outer` tables.
#[derive(Debug)]
pub(super) struct Pick {
    size: usize,
    wide: bool,
    indices: usize,
    rows: usize,
    row: usize,
    outer: usize,
}

impl Pick {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<Gather>().filter(|_| spec.is_static()) else { return Ok(None) };
        let (Some(data), Some(shape), Some(indices)) = (spec.input(0), spec.shape(0), spec.input(1)) else {
            return Ok(None);
        };
        if !matches!(indices.dtype, DType::I32 | DType::I64) {
            return Ok(None);
        }
        let axis = shape.axis(op.axis)?;
        Ok(Some(Pick {
            size: data.dtype.size(),
            wide: indices.dtype == DType::I64,
            indices: spec.shape(1).map_or(0, Shape::elements),
            rows: shape[axis],
            row: shape[axis + 1..].iter().product(),
            outer: shape[..axis].iter().product(),
        }))
    }
}

impl Kernel for Pick {
    fn name(&self) -> String {
        "gather".to_owned()
    }

    fn workspace(&self) -> usize {
        if self.wide { 0 } else { self.indices * 8 }
    }

    fn division(&self) -> Division {
        Division::units(if self.row == 0 { 0 } else { self.outer * self.indices }, 16)
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let indices: &[i64] = if self.wide {
            io.input(1)?
        } else {
            let narrow: &[i32] = io.input(1)?;
            let wide: &mut [i64] = bytemuck::cast_slice_mut(&mut context.workspace[..self.indices * 8]);
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                *wide = i64::from(*narrow);
            }
            wide
        };
        let outside = |index: i64| err!(InvalidInput, "index {index} is outside an axis of {} entries", self.rows);
        if self.outer * self.row == 0 {
            // Nothing is picked, but what would be must be there all the same.
            let rows = self.rows as i64;
            return indices
                .iter()
                .find(|index| !(-rows..rows).contains(index))
                .map_or(Ok(()), |index| Err(outside(*index)));
        }
        with_bits!(self.size, T => {
            let out: &mut [T] = io.output(0)?;
            match io.unaligned(0) {
                // A large table of which a few rows are read: not worth a copy.
                Some(table) if self.row > 1 => {
                    self.pick(table, self.row * self.size, indices, io.share(), bytemuck::cast_slice_mut(out))
                }
                _ => self.pick::<T>(io.input(0)?, self.row, indices, io.share(), out),
            }
            .map_err(outside)
        })
    }
}

impl Pick {
    /// Picks the rows of `row` elements that are the `share` of all rows of the output, as many to a table as there are
    /// indices.
    fn pick<T: Copy>(
        &self,
        tables: &[T],
        row: usize,
        indices: &[i64],
        share: Range<usize>,
        out: &mut [T],
    ) -> Result<(), i64> {
        let from = self.rows * row;
        let (mut at, mut rest) = (share.start, out);
        while at < share.end {
            let (outer, first) = (at / indices.len(), at % indices.len());
            let count = (indices.len() - first).min(share.end - at);
            let (out, others) = rest.split_at_mut(count * row);
            gather_rows(&tables[outer * from..(outer + 1) * from], row, &indices[first..first + count], out)?;
            (at, rest) = (at + count, others);
        }
        Ok(())
    }
}

/// `Pad` by constant amounts.
#[derive(Debug)]
pub(super) struct Padded {
    size: usize,
    pad: m::Pad,
    value: u64,
}

impl Padded {
    pub(super) fn new(spec: &Spec<'_>, _isa: Isa) -> Result<Option<Self>> {
        let Some(op) = spec.op::<Pad>() else { return Ok(None) };
        let (Some(slot), Some(shape), Some(pads)) = (spec.input(0), spec.shape(0), spec.constant(1)) else {
            return Ok(None);
        };
        let edge = match op.mode {
            PadMode::Constant => Edge::Constant,
            PadMode::Edge => Edge::Replicate,
            PadMode::Reflect => Edge::Reflect,
            _ => return Ok(None),
        };
        let pads = pads.to_i64_vec()?;
        let rank = shape.rank();
        let axes: Option<Vec<usize>> = match spec.input(3) {
            None => Some((0..rank).collect()),
            Some(_) => match spec.constant(3) {
                Some(axes) => axes.to_i64_vec()?.into_iter().map(|a| shape.axis(a).ok()).collect(),
                None => None,
            },
        };
        let Some(axes) = axes.filter(|axes| axes.len() * 2 == pads.len()) else { return Ok(None) };
        let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
        for (position, axis) in axes.iter().enumerate() {
            begin[*axis] = pads[position];
            end[*axis] = pads[axes.len() + position];
        }
        let value = match (spec.input(2), spec.constant(2)) {
            (None, _) => 0,
            (_, Some(value)) => {
                let mut bits = [0u8; 8];
                let bytes = value.as_bytes();
                bits[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
                u64::from_le_bytes(bits)
            }
            _ => return Ok(None),
        };
        let pad = m::Pad::new(shape, &begin, &end, edge);
        let fits = |pad: &m::Pad| spec.output_shape(0).is_some_and(|out| out.elements() == pad.len());
        Ok(pad.filter(fits).map(|pad| Padded { size: slot.dtype.size(), pad, value }))
    }
}

impl Kernel for Padded {
    fn name(&self) -> String {
        "pad".to_owned()
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        with_bits!(self.size, T => self.pad.run::<T>(io.input(0)?, self.value as T, io.output(0)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::tensor::{Fact, Tensor};
    use crate::{CompileOptions, Model};
    use bytes::Bytes;

    #[test]
    fn channels_become_blocks_of_pixels_and_blocks_channels() {
        let shape = [2, 12, 4, 6];
        let x = Tensor::new(shape, (0..576).map(|i| i as f32).collect::<Vec<f32>>()).unwrap();
        for which in 0..3 {
            let mut graph = Graph::new("blocks");
            let input = graph.input("x", Fact::concrete(DType::F32, &shape)).unwrap();
            let y = match which {
                2 => graph.op("y", SpaceToDepth { block: 2 }, &[input]),
                _ => graph.op("y", DepthToSpace { block: 2, column_row_depth: which == 1 }, &[input]),
            };
            graph.output(y.unwrap()).unwrap();
            let expected = graph.interpret(std::slice::from_ref(&x)).unwrap();
            let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
            assert!(model.plan(&[x.shape().clone()]).unwrap().fallbacks().is_empty());
            assert_eq!(model.run([x.clone()]).unwrap()[0], expected[0]);
        }
    }

    #[test]
    fn rows_are_picked_where_a_table_lies_however_it_is_aligned() {
        let rows: Vec<f32> = (0..600 * 8).map(|i| i as f32).collect();
        let mut bytes = vec![0u8];
        bytes.extend_from_slice(bytemuck::cast_slice(&rows));
        let table = Tensor::from_file(DType::F32, [600, 8], Bytes::from(bytes).slice(1..)).unwrap();
        let mut graph = Graph::new("rows");
        let ids = graph.input("ids", Fact::concrete(DType::I64, &[3])).unwrap();
        let constant = graph.constant("table", table.clone()).unwrap();
        let picked = graph.op("picked", Gather { axis: 0 }, &[constant, ids]).unwrap();
        graph.output(picked).unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new()).unwrap();
        let outputs = model.run([Tensor::vector(vec![599i64, -600, 7])]).unwrap();
        let expected = [&rows[599 * 8..], &rows[..8], &rows[7 * 8..][..8]].concat();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), expected);
        assert!(table.unaligned_bytes().is_some(), "the table was copied");
        assert!(model.run([Tensor::vector(vec![600i64, 0, 0])]).is_err());
    }
}
