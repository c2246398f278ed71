//! Operators that name axes, behind an image that is turned back from channels last: their axes are renamed, so that the
//! turning passes through.

use super::channels_last::{finish, rank, turned};
use super::pattern::{constant, integers};
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::elementwise::{Binary, Clip, Unary, Variadic};
use crate::ops::fused::{Epilogue, Quantized, to_first, to_last};
use crate::ops::image::{AspectPolicy, Coordinates, Resize};
use crate::ops::index::Slice;
use crate::ops::layout::{Concat, Pad, Split, Transpose};
use crate::ops::nn::{Conv, ConvTranspose, LogSoftmax, Pool, Softmax};
use crate::ops::quant::{DequantizeLinear, QuantizeLinear};
use crate::ops::reduce::Reduce;
use crate::tensor::Tensor;
use std::sync::Arc;

/// The patch for any of them.
pub(super) fn renamed(graph: &Graph, node: &Node) -> Option<Patch> {
    let Some(image) = turned(graph, node.input(0)?) else { return resize_dequantized(graph, node) };
    let rank = rank(graph, node.input(0)?)?;
    split(graph, node, image, rank)
        .or_else(|| slice(graph, node, image, rank))
        .or_else(|| along(graph, node, image, rank))
        .or_else(|| reduce(graph, node, image, rank))
        .or_else(|| pad(graph, node, image, rank))
        .or_else(|| resize(graph, node, image.into(), rank, Patch::new()))
}

/// Bytes that are turned back, converted and resized: converted as they lie.
fn resize_dequantized(graph: &Graph, node: &Node) -> Option<Patch> {
    node.op().downcast_ref::<Resize>()?;
    let rank = rank(graph, node.input(0)?).filter(|rank| *rank > 3)?;
    let (_, conversion) = graph.producer(node.input(0)?)?;
    let one = |value: ValueId| constant(graph, value).is_some_and(|scale| scale.len() == 1);
    if !conversion.op().is::<DequantizeLinear>() || !one(conversion.input(1)?) {
        return None;
    }
    let bytes = turned(graph, conversion.input(0)?)?;
    let mut patch = Patch::new();
    let mut inputs: Vec<Option<Operand>> = conversion.inputs().iter().map(|v| v.map(Into::into)).collect();
    *inputs.first_mut()? = Some(bytes.into());
    let image = patch.node(conversion.name(), conversion.op().clone(), &inputs, 1)[0];
    resize(graph, node, image, rank, patch)
}

/// Where an axis lies channels last.
fn moved(rank: usize, axis: i64) -> Option<i64> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    to_last(rank).iter().position(|&a| a as i64 == axis).map(|place| place as i64)
}

fn moved_all(rank: usize, axes: &[i64]) -> Option<Vec<i64>> {
    axes.iter().map(|&axis| moved(rank, axis)).collect()
}

fn split(graph: &Graph, node: &Node, image: ValueId, rank: usize) -> Option<Patch> {
    let op = node.op().downcast_ref::<Split>()?;
    let mut patch = Patch::new();
    let op = Split { axis: moved(rank, op.axis)?, ..op.clone() };
    let inputs = [Some(image.into()), node.input(1).map(Into::into)];
    let count = 1 + usize::from(node.input(1).is_some());
    let parts = patch.node(node.name(), Arc::new(op), &inputs[..count], node.outputs().len());
    for (output, part) in node.outputs().iter().zip(parts) {
        if let Some(output) = output {
            let back = patch.op("to_first", Transpose { perm: Some(to_first(graph.fact(*output).rank()?)) }, &[part]);
            patch.replace(*output, back);
        }
    }
    Some(patch)
}

fn slice(graph: &Graph, node: &Node, image: ValueId, rank: usize) -> Option<Patch> {
    node.op().downcast_ref::<Slice>()?;
    let axes = match node.input(3) {
        Some(axes) => integers(graph, axes)?,
        None => (0..i64::try_from(constant(graph, node.input(1)?)?.len()).ok()?).collect(),
    };
    let mut patch = Patch::new();
    let axes = patch.constant("axes", Tensor::vector(moved_all(rank, &axes)?));
    let (starts, ends) = (node.input(1)?.into(), node.input(2)?.into());
    let mut inputs = vec![Some(image.into()), Some(starts), Some(ends), Some(axes)];
    inputs.extend(node.input(4).map(|steps| Some(steps.into())));
    let y = patch.node(node.name(), Arc::new(Slice), &inputs, 1)[0];
    finish(graph, node, patch, y)
}

/// A function of whole lines.
fn along(graph: &Graph, node: &Node, image: ValueId, rank: usize) -> Option<Patch> {
    let op: Arc<dyn Op> = if let Some(op) = node.op().downcast_ref::<Softmax>() {
        Arc::new(Softmax { axis: moved(rank, op.axis)? })
    } else {
        Arc::new(LogSoftmax { axis: moved(rank, node.op().downcast_ref::<LogSoftmax>()?.axis)? })
    };
    let mut patch = Patch::new();
    let y = patch.node(node.name(), op, &[Some(image.into())], 1)[0];
    finish(graph, node, patch, y)
}

fn reduce(graph: &Graph, node: &Node, image: ValueId, rank: usize) -> Option<Patch> {
    let op = node.op().downcast_ref::<Reduce>()?;
    let axes = moved_all(rank, &integers(graph, node.input(1)?)?).filter(|axes| !axes.is_empty())?;
    // What is left of the axes lies in the same order in both layouts, or else stays with its lengths.
    let channels_go = axes.contains(&(rank as i64 - 1));
    if !op.keep_dims && !channels_go && !(1..rank as i64 - 1).all(|axis| axes.contains(&axis)) {
        return None;
    }
    let mut patch = Patch::new();
    let axes = patch.constant("axes", Tensor::vector(axes));
    let y = patch.op(node.name(), *op, &[image.into(), axes]);
    if op.keep_dims {
        return finish(graph, node, patch, y);
    }
    patch.replace(node.output(0)?, y);
    Some(patch)
}

fn pad(graph: &Graph, node: &Node, image: ValueId, rank: usize) -> Option<Patch> {
    let op = node.op().downcast_ref::<Pad>()?;
    let pads = integers(graph, node.input(1)?)?;
    let mut patch = Patch::new();
    let mut inputs = vec![Some(image.into())];
    if let Some(axes) = node.input(3) {
        inputs.extend([node.input(1).map(Into::into), node.input(2).map(Into::into)]);
        inputs.push(Some(patch.constant("axes", Tensor::vector(moved_all(rank, &integers(graph, axes)?)?))));
    } else {
        let (begin, end) = pads.split_at_checked(rank).filter(|(_, end)| end.len() == rank)?;
        let turned = [begin, end].map(|side| to_last(rank).into_iter().map(|axis| side[axis]).collect::<Vec<_>>());
        inputs.push(Some(patch.constant("pads", Tensor::vector(turned.concat()))));
        inputs.extend(node.input(2).map(|value| Some(value.into())));
    }
    let y = patch.node(node.name(), Arc::new(op.clone()), &inputs, 1)[0];
    finish(graph, node, patch, y)
}

/// Where its result is soon an image of channels last again; elsewhere the smaller image is turned back before.
fn resize(graph: &Graph, node: &Node, image: Operand, rank: usize, mut patch: Patch) -> Option<Patch> {
    let op = node.op().downcast_ref::<Resize>()?;
    if op.coordinates == Coordinates::CropAndResize || !wanted(graph, node.output(0)?, MOST_STEPS) {
        return None;
    }
    let mut made = op.clone();
    let mut inputs: Vec<Option<Operand>> = vec![Some(image), None];
    let lists = [node.input(2), node.input(3)];
    if let Some(axes) = &op.axes {
        made.axes = Some(moved_all(rank, axes)?);
        inputs.extend(lists.map(|list| list.map(Into::into)));
    } else {
        // In any other policy all axes speak of one scale.
        if op.aspect != AspectPolicy::Stretch {
            return None;
        }
        for list in lists {
            inputs.push(match list {
                None => None,
                Some(list) => Some(patch.constant("lengths", turned_list(constant(graph, list)?, rank)?)),
            });
        }
    }
    while inputs.last().is_some_and(Option::is_none) {
        inputs.pop();
    }
    let y = patch.node(node.name(), Arc::new(made), &inputs, 1)[0];
    finish(graph, node, patch, y)
}

/// A list of one number for each axis, in the other order; an empty one as it is.
fn turned_list(list: &Tensor, rank: usize) -> Option<Tensor> {
    if list.is_empty() {
        return Some(list.clone());
    }
    if list.len() != rank {
        return None;
    }
    let elements = list.to_f64_vec().ok()?;
    let turned: Vec<f64> = to_last(rank).into_iter().map(|axis| elements[axis]).collect();
    Tensor::vector(turned).cast(list.dtype()).ok()
}

/// Operators that are looked past for one that wants channels last.
const MOST_STEPS: usize = 6;

/// Whether `value` comes, unturned, to an operator that is computed channels last.
fn wanted(graph: &Graph, value: ValueId, steps: usize) -> bool {
    graph.value(value).users().iter().filter_map(|user| graph.get(*user)).any(|user| {
        let op = user.op();
        let op = op.downcast_ref::<Quantized>().map_or(op, |quantized| &quantized.op);
        let op = op.downcast_ref::<Epilogue>().map_or(op, |epilogue| &epilogue.op);
        if op.is::<Conv>() || op.is::<ConvTranspose>() || op.is::<Pool>() {
            return true;
        }
        let through = op.is::<Unary>()
            || op.is::<Clip>()
            || op.is::<Binary>()
            || op.is::<Variadic>()
            || op.is::<Concat>()
            || op.is::<Pad>()
            || op.is::<Split>()
            || op.is::<QuantizeLinear>()
            || op.is::<Resize>();
        steps > 0 && through && user.outputs().iter().flatten().any(|output| wanted(graph, *output, steps - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::super::channels_last::lay_out;
    use super::super::testing::{graph_of, list, ramp};
    use super::*;
    use crate::ops::image::Filter;
    use crate::ops::layout::PadMode;
    use crate::ops::reduce::ReduceKind;

    const IMAGE: [usize; 4] = [2, 3, 4, 5];

    /// A convolution, what `build` makes of its image, and the pass; how many transpositions are left.
    fn transposes(build: impl Fn(&mut Graph, ValueId) -> Vec<ValueId>) -> usize {
        let (mut graph, x) = graph_of(&IMAGE);
        let w = graph.constant("w", ramp(&[4, 3, 1, 1])).unwrap();
        let image = graph.op("conv", Conv::default(), &[x, w]).unwrap();
        for y in build(&mut graph, image) {
            graph.output(y).unwrap();
        }
        let before = graph.interpret(&[ramp(&IMAGE)]).unwrap();
        lay_out(&mut graph).unwrap();
        graph.verify().unwrap();
        for (after, before) in graph.interpret(&[ramp(&IMAGE)]).unwrap().iter().zip(&before) {
            assert_eq!(after.shape(), before.shape());
            for (a, b) in after.to_f64_vec().unwrap().iter().zip(before.to_f64_vec().unwrap()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} against {b}");
            }
        }
        graph.nodes().unwrap().filter(|(_, node)| node.op().is::<Transpose>()).count()
    }

    #[test]
    fn a_part_of_the_channels_goes_to_the_next_convolution_as_it_lies() {
        let count = transposes(|graph, image| {
            let split = Split { axis: 1, num_outputs: Some(2), outputs: 2 };
            let names = [Some("a"), Some("b")];
            let parts = graph.node("split", Arc::new(split), &[Some(image)], &names).unwrap();
            let w = graph.constant("v", ramp(&[2, 2, 1, 1])).unwrap();
            let y = graph.op("next", Conv::default(), &[parts[0].unwrap(), w]).unwrap();
            let (from, to, axes) = (list(graph, &[1]), list(graph, &[-1]), list(graph, &[-1]));
            let y = graph.op("slice", Slice, &[y, from, to, axes]).unwrap();
            vec![graph.op("sum", Concat { axis: 1 }, &[y, y]).unwrap(), parts[1].unwrap()]
        });
        assert_eq!(count, 3, "one before, one for each output");
    }

    #[test]
    fn lines_and_reductions_follow_their_axes() {
        let count = transposes(|graph, image| {
            let (spatial, channel) = (list(graph, &[2, -1]), list(graph, &[1]));
            let mean = |keep_dims| Reduce { kind: ReduceKind::Mean, keep_dims, noop_with_empty_axes: false };
            let image = graph.op("softmax", Softmax { axis: 1 }, &[image]).unwrap();
            let image = graph.op("log", LogSoftmax { axis: -2 }, &[image]).unwrap();
            vec![
                graph.op("all", mean(false), &[image, spatial]).unwrap(),
                graph.op("one", mean(false), &[image, channel]).unwrap(),
                graph.op("kept", mean(true), &[image, spatial]).unwrap(),
            ]
        });
        assert_eq!(count, 2, "before, and behind the one that keeps its axes");
        let rows = transposes(|graph, image| {
            let last = list(graph, &[-1]);
            let op = Reduce { kind: ReduceKind::Max, keep_dims: false, noop_with_empty_axes: false };
            vec![graph.op("rows", op, &[image, last]).unwrap()]
        });
        assert_eq!(rows, 2, "channels and rows would lie the other way round");
    }

    #[test]
    fn bytes_are_converted_and_resized_as_they_lie() {
        let count = transposes(|graph, image| {
            let scale = graph.constant("scale", Tensor::scalar(0.5f32)).unwrap();
            let zero = graph.constant("zero", Tensor::scalar(3i8)).unwrap();
            let none = graph.constant("none", Tensor::vector(Vec::<f32>::new())).unwrap();
            let scales = graph.constant("scales", Tensor::vector(vec![1.0f32, 1.0, 2.0, 2.0])).unwrap();
            let w = graph.constant("v", ramp(&[2, 4, 1, 1])).unwrap();
            let y = graph.op("q", QuantizeLinear::default(), &[image, scale, zero]).unwrap();
            let y = graph.op("d", DequantizeLinear::default(), &[y, scale, zero]).unwrap();
            let resize = Resize {
                filter: Filter::Linear,
                coordinates: Coordinates::AlignCorners,
                antialias: false,
                exclude_outside: false,
                extrapolation_value: 0.0,
                axes: None,
                aspect: AspectPolicy::Stretch,
            };
            let y = graph.op("resize", resize, &[y, none, scales]).unwrap();
            vec![graph.op("next", Conv::default(), &[y, w]).unwrap()]
        });
        assert_eq!(count, 2, "before, and behind the last");
    }

    #[test]
    fn padding_and_resizing_go_with_the_channels_last() {
        let resize = |axes| Resize {
            filter: Filter::Linear,
            coordinates: Coordinates::HalfPixel,
            antialias: false,
            exclude_outside: false,
            extrapolation_value: 0.0,
            axes,
            aspect: AspectPolicy::Stretch,
        };
        for (axes, scales) in [(None, vec![1.0f32, 1.0, 2.0, 1.5]), (Some(vec![3, 2]), vec![1.5, 2.0])] {
            for last in [false, true] {
                let count = transposes(|graph, image| {
                    let pads = list(graph, &[0, 1, 2, 1, 0, 0, 1, 0]);
                    let y = graph.op("pad", Pad { mode: PadMode::Constant }, &[image, pads]).unwrap();
                    let none = graph.constant("none", Tensor::vector(Vec::<f32>::new())).unwrap();
                    let scales = graph.constant("scales", Tensor::vector(scales.clone())).unwrap();
                    let y = graph.op("resize", resize(axes.clone()), &[y, none, scales]).unwrap();
                    if last {
                        return vec![y];
                    }
                    let w = graph.constant("v", ramp(&[2, 5, 1, 1])).unwrap();
                    vec![graph.op("next", Conv::default(), &[y, w]).unwrap()]
                });
                assert_eq!(count, 2);
            }
        }
    }
}
