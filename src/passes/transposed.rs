//! Transposed convolutions of quantized values as convolutions: each of the `s * s` phases of the output is a convolution of
//! the input with every `s`-th tap, so all of them are one with `s * s` times the filters, whose channels are then laid out
//! as blocks of pixels. What no phase has a tap for is zero.

use super::pattern::{constant, each};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::elementwise::{Unary, UnaryKind};
use crate::ops::image::DepthToSpace;
use crate::ops::index::Slice;
use crate::ops::nn::{Conv, ConvTranspose, Padding};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::tensor::{DType, Dim, Tensor};
use std::sync::Arc;

pub(super) fn by_phases(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| rule(graph, node))
}

fn rule(graph: &Graph, node: &Node) -> Option<Patch> {
    let op = node.op().downcast_ref::<ConvTranspose>()?;
    let (_, x) = graph.producer(node.input(0)?)?;
    x.op().is::<DequantizeLinear>().then_some(())?;
    let w = Weights::of(graph, node.input(1)?)?;
    let [_, filters, height, width] = w.shape;
    let stride = match op.strides[..] {
        [down, across] if down == across && (2..=8).contains(&down) => down,
        _ => return None,
    };
    let plain = op.group == 1 && op.dilations.iter().all(|&d| d == 1) && op.output_shape.is_none();
    let Padding::Explicit { begin, end } = &op.padding else { return None };
    // Many zeros would be multiplied where the stride does not divide the kernel.
    let taps = [height, width].map(|taps| taps.div_ceil(stride));
    let worth = height > 0 && width > 0 && taps[0] * taps[1] * stride * stride / 2 <= height * width;
    let crops = |list: &[i64]| list.is_empty() || list.len() == 2 && list.iter().all(|&n| (0..1 << 20).contains(&n));
    if !plain || !worth || !crops(begin) || !crops(end) || op.output_padding.len() > 2 {
        return None;
    }
    let lengths = graph.fact(node.input(0)?).shape.as_ref()?.get(2..4)?.iter();
    let lengths: Vec<i64> = lengths
        .map(|dim| if let Dim::Known(n) = dim { i64::try_from(*n).ok() } else { None })
        .collect::<Option<_>>()?;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (axis, taps) in taps.iter().enumerate() {
        let of = |list: &[i64]| list.get(axis).copied().unwrap_or(0);
        let added = op.output_padding.get(axis).map_or(Some(0), |&n| i64::try_from(n).ok())?;
        let (length, kernel, step) =
            (lengths[axis], i64::try_from([height, width][axis]).ok()?, i64::try_from(stride).ok()?);
        let whole = (length + i64::try_from(*taps).ok()? - 1).checked_mul(step)?;
        let to = (length - 1).checked_mul(step)? + kernel + added - of(end);
        if to > whole || to <= of(begin) {
            return None;
        }
        first.push(of(begin));
        last.push(to);
    }
    // The activation and the quantization that follow go along: they take one element at a time.
    let (mut y, mut activation) = (node.output(0)?, None);
    let (_, mut next) = graph.single_user(y)?;
    if next.op().downcast_ref::<Unary>() == Some(&Unary(UnaryKind::Relu)) {
        (y, activation) = (next.output(0)?, Some(next));
        next = graph.single_user(y)?.1;
    }
    let quantize = next.op().downcast_ref::<QuantizeLinear>().filter(|quantize| quantize.block_size == 0)?;
    if next.input(0) != Some(y) || constant(graph, next.input(1)?)?.len() != 1 {
        return None;
    }
    let mut patch = Patch::new();
    let weights = w.write(&mut patch, node, stride, taps)?;
    let mut inputs = vec![Some(node.input(0)?.into()), Some(weights)];
    if let Some(bias) = node.input(2) {
        let each = reals(graph, bias)?.repeat(stride * stride);
        (each.len() == filters * stride * stride).then_some(())?;
        inputs.push(Some(patch.constant("bias", Tensor::vector(each))));
    }
    let pads: Vec<i64> = taps.iter().map(|&taps| taps as i64 - 1).collect();
    let conv = Conv { padding: Padding::Explicit { begin: pads.clone(), end: pads }, ..Conv::default() };
    let mut made = patch.node(node.name(), Arc::new(conv), &inputs, 1)[0];
    if let Some(activation) = activation {
        made = patch.node(activation.name(), activation.op().clone(), &[Some(made)], 1)[0];
    }
    let mut inputs: Vec<Option<Operand>> = next.inputs().iter().map(|input| input.map(Into::into)).collect();
    inputs[0] = Some(made);
    let made = patch.node(next.name(), Arc::new(quantize.clone()), &inputs, 1)[0];
    let blocks = DepthToSpace { block: stride, column_row_depth: false };
    let made = patch.node(node.name(), Arc::new(blocks), &[Some(made)], 1)[0];
    let axes = patch.constant("axes", Tensor::vector(vec![2i64, 3]));
    let [first, last] =
        [("first", first), ("last", last)].map(|(name, list)| patch.constant(name, Tensor::vector(list)));
    let made = patch.op(node.name(), Slice, &[made, first, last, axes]);
    patch.replace(next.output(0)?, made);
    Some(patch)
}

/// Constant bytes `[channels, filters, height, width]`, with scales for the filters or one for all.
struct Weights {
    shape: [usize; 4],
    bytes: Tensor,
    scale: Tensor,
    zero: Option<Tensor>,
}

impl Weights {
    fn of(graph: &Graph, value: ValueId) -> Option<Self> {
        let (_, node) = graph.producer(value)?;
        let op = node.op().downcast_ref::<DequantizeLinear>().filter(|op| op.block_size == 0)?;
        let bytes = constant(graph, node.input(0)?)?.clone();
        let shape: [usize; 4] = bytes.shape()[..].try_into().ok()?;
        let scale = constant(graph, node.input(1)?)?.clone();
        let zero = match node.input(2) {
            Some(zero) => Some(constant(graph, zero)?.clone()),
            None => None,
        };
        let fits = |list: &Tensor| list.len() == 1 || list.len() == shape[1] && matches!(op.axis, 1 | -3);
        let known = matches!(bytes.dtype(), DType::I8 | DType::U8) && scale.dtype() == DType::F32;
        (known && fits(&scale) && zero.as_ref().is_none_or(fits)).then_some(Weights { shape, bytes, scale, zero })
    }

    /// Those of the convolution, dequantized: filter `(y * s + x) * filters + m` has the taps `y + s * j` and `x + s * i`, the last
    /// one first.
    fn write(&self, patch: &mut Patch, node: &Node, stride: usize, taps: [usize; 2]) -> Option<Operand> {
        let [channels, filters, height, width] = self.shape;
        let (bytes, zeros) =
            (self.bytes.to_i64_vec().ok()?, self.zero.as_ref().map_or(Some(vec![0]), |z| z.to_i64_vec().ok())?);
        let phases = stride * stride;
        let len = [filters, phases, channels, taps[0]].iter().try_fold(taps[1], |len, &n| len.checked_mul(n))?;
        let mut made = Vec::with_capacity(len);
        for (filter, phase) in (0..phases).flat_map(|phase| (0..filters).map(move |filter| (filter, phase))) {
            let zero = *zeros.get(if zeros.len() == 1 { 0 } else { filter })?;
            for channel in 0..channels {
                for (j, i) in (0..taps[0]).rev().flat_map(|j| (0..taps[1]).rev().map(move |i| (j, i))) {
                    let (y, x) = (phase / stride + stride * j, phase % stride + stride * i);
                    let inside = y < height && x < width;
                    made.push(if inside {
                        bytes[((channel * filters + filter) * height + y) * width + x]
                    } else {
                        zero
                    });
                }
            }
        }
        let shape = [filters * phases, channels, taps[0], taps[1]];
        let bytes = match self.bytes.dtype() {
            DType::I8 => Tensor::new(shape, made.into_iter().map(|n| n as i8).collect::<Vec<_>>()),
            _ => Tensor::new(shape, made.into_iter().map(|n| n as u8).collect::<Vec<_>>()),
        };
        let bytes = patch.constant("weights", bytes.ok()?);
        let scales: Vec<f32> = self.scale.to_f64_vec().ok()?.into_iter().map(|s| s as f32).collect();
        let scale = match self.scale.len() {
            1 => self.scale.clone(),
            _ => Tensor::vector(scales.repeat(phases)),
        };
        let mut inputs = vec![Some(bytes), Some(patch.constant("scales", scale))];
        if let Some(zero) = &self.zero {
            let each = zeros.repeat(phases).into_iter();
            let each = match (zeros.len(), zero.dtype()) {
                (1, _) => zero.clone(),
                (_, DType::I8) => Tensor::vector(each.map(|z| z as i8).collect::<Vec<_>>()),
                _ => Tensor::vector(each.map(|z| z as u8).collect::<Vec<_>>()),
            };
            inputs.push(Some(patch.constant("zeros", each)));
        }
        let op = DequantizeLinear { axis: 0, ..DequantizeLinear::default() };
        Some(patch.node(node.name(), Arc::new(op), &inputs, 1)[0])
    }
}

/// The numbers of a constant, or of one that is dequantized.
fn reals(graph: &Graph, value: ValueId) -> Option<Vec<f32>> {
    if let Some(tensor) = constant(graph, value) {
        return Some(tensor.to_f64_vec().ok()?.into_iter().map(|n| n as f32).collect());
    }
    let (_, node) = graph.producer(value)?;
    node.op().downcast_ref::<DequantizeLinear>().filter(|op| op.block_size == 0)?;
    let numbers = |index: usize| constant(graph, node.input(index)?)?.to_f64_vec().ok();
    let (values, scales) = (numbers(0)?, numbers(1)?);
    let zeros = if node.input(2).is_some() { numbers(2)? } else { vec![0.0] };
    let at = |list: &[f64], index: usize| list.get(if list.len() == 1 { 0 } else { index }).copied();
    let real = |(index, value): (usize, f64)| Some(((value - at(&zeros, index)?) * at(&scales, index)?) as f32);
    values.into_iter().enumerate().map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, number, ramp};
    use super::*;

    fn quantized(graph: &mut Graph, x: ValueId, scale: f32) -> ValueId {
        let scale = number(graph, scale);
        let zero = graph.constant("zero", Tensor::scalar(100u8)).unwrap();
        let q = graph.op("q", QuantizeLinear::default(), &[x, scale, zero]).unwrap();
        graph.op("dq", DequantizeLinear::default(), &[q, scale, zero]).unwrap()
    }

    fn transposed(
        kernel: [usize; 2],
        begin: [i64; 2],
        end: [i64; 2],
        added: [usize; 2],
        bias: bool,
        relu: bool,
    ) -> Graph {
        let (mut graph, x) = graph_of(&[2, 3, 4, 5]);
        let x = quantized(&mut graph, x, 0.05);
        let len = 3 * 2 * kernel[0] * kernel[1];
        let bytes = (0..len).map(|i| (i * 37 % 255) as u8);
        let shape = [3, 2, kernel[0], kernel[1]];
        let (bytes, zeros) = match bias {
            true => (Tensor::new(shape, bytes.collect::<Vec<_>>()), Tensor::vector(vec![120u8, 131])),
            false => (Tensor::new(shape, bytes.map(|n| n as i8).collect::<Vec<_>>()), Tensor::vector(vec![0i8, -3])),
        };
        let bytes = graph.constant("w", bytes.unwrap()).unwrap();
        let scale = graph.constant("s", Tensor::vector(vec![0.01f32, 0.02])).unwrap();
        let zeros = graph.constant("z", zeros).unwrap();
        let w = graph.op("dw", DequantizeLinear { axis: 1, ..Default::default() }, &[bytes, scale, zeros]).unwrap();
        let padding = Padding::Explicit { begin: begin.to_vec(), end: end.to_vec() };
        let op = ConvTranspose { strides: vec![2, 2], padding, output_padding: added.to_vec(), ..Default::default() };
        let mut inputs = vec![x, w];
        if bias {
            inputs.push(graph.constant("b", Tensor::vector(vec![0.5f32, -0.25])).unwrap());
        }
        let mut y = graph.op("y", op, &inputs).unwrap();
        if relu {
            y = graph.op("relu", Unary(UnaryKind::Relu), &[y]).unwrap();
        }
        let y = quantized(&mut graph, y, 0.1);
        graph.output(y).unwrap();
        graph
    }

    #[test]
    fn phases_are_one_convolution() {
        let cases = [
            ([2, 2], [0, 0], [0, 0], [0, 0]),
            ([4, 4], [1, 1], [1, 1], [0, 0]),
            ([3, 3], [1, 1], [1, 1], [1, 1]),
            ([3, 4], [0, 2], [1, 1], [0, 1]),
        ];
        for (kernel, begin, end, added) in cases {
            for plain in [true, false] {
                let mut graph = transposed(kernel, begin, end, added, !plain, !plain);
                // The blocks and the part of them that is kept are two more.
                let nodes = graph.node_count() + 2;
                check(&mut graph, by_phases, &[ramp(&[2, 3, 4, 5])], nodes);
                assert!(graph.nodes().unwrap().all(|(_, node)| !node.op().is::<ConvTranspose>()));
            }
        }
    }

    #[test]
    fn what_would_multiply_mostly_zeros_stays() {
        let mut graph = transposed([1, 1], [0, 0], [0, 0], [0, 0], false, false);
        assert_eq!(by_phases(&mut graph).unwrap(), 0);
    }
}
