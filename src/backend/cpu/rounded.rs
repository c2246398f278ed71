//! What only products of bfloat16 read is kept in bfloat16: they would round it as they read it, each for itself.
//!
//! A product that yields such a value stores it so, where its epilogue does not end in the tile's registers. The bits of all
//! answers stay, and half the bytes go through memory.

use super::kernel::Spec;
use super::product::Product;
use crate::backend::{Place, Program, Slot, SlotId, Weights};
use crate::tensor::DType;
use std::ops::Range;

/// Gives those values their dtype.
pub(super) fn keep_rounded(program: &mut Program, weights: &Weights) {
    if !weights.allow_bfloat16() {
        return;
    }
    for step in 0..program.steps.len() {
        for slot in readers(program, weights, step).unwrap_or_default() {
            program.slots[slot.index()].dtype = DType::BF16;
        }
    }
}

/// The output of a step, and its views, where this step can store bfloat16 and all who read it want that.
fn readers(program: &Program, weights: &Weights, step: usize) -> Option<Vec<SlotId>> {
    let maker = &program.steps[step];
    let &[Some(output)] = &maker.outputs[..] else { return None };
    if program.slot(output).dtype != DType::F32 || !Product::stores_halves(&Spec::new(maker, program, weights)) {
        return None;
    }
    let own = bytes(program.slot(output))?;
    let overlaps = |id: &SlotId| bytes(program.slot(*id)).is_some_and(|b| b.start < own.end && own.start < b.end);
    if maker.inputs.iter().flatten().any(overlaps) {
        return None;
    }
    let mut slots = vec![output];
    for reader in &program.steps[step + 1..] {
        for (index, id) in reader.inputs.iter().enumerate() {
            let Some(id) = id.filter(overlaps) else { continue };
            let whole = bytes(program.slot(id)).as_ref() == Some(&own) && program.slot(id).dtype == DType::F32;
            if index != 0 || !whole || !Product::rounds(&Spec::new(reader, program, weights)) {
                return None;
            }
            slots.push(id);
        }
        if reader.outputs.iter().flatten().any(overlaps) {
            break;
        }
    }
    (slots.len() > 1).then_some(slots)
}

/// Where in the arena a value is.
fn bytes(slot: &Slot) -> Option<Range<usize>> {
    match slot.place {
        Place::Arena(offset) if slot.bytes() > 0 => Some(offset..offset + slot.bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Profile;
    use crate::graph::Graph;
    use crate::ops::elementwise::{Unary, UnaryKind};
    use crate::ops::layout::Reshape;
    use crate::ops::matrix::MatMul;
    use crate::tensor::{DType, Fact, Tensor};
    use crate::{CompileOptions, Model};

    fn numbers(shape: &[usize], seed: f32) -> Tensor {
        let elements = (0..shape.iter().product()).map(|i: usize| (i as f32 * seed).sin());
        Tensor::new(shape, elements.collect::<Vec<f32>>()).unwrap()
    }

    /// What follows a product: bounds alone are the tile's, and leave a product as it is.
    fn function(layer: usize) -> UnaryKind {
        [UnaryKind::Tanh, UnaryKind::Sigmoid, UnaryKind::Gelu { tanh: false }, UnaryKind::Relu][layer]
    }

    /// Products one behind the other: of a chain, a view between two of them, and one whose input an output shows as well.
    fn model(shown: bool) -> Model {
        let mut graph = Graph::new("chain");
        let mut y = graph.input("x", Fact::concrete(DType::F32, &[3, 5, 40])).unwrap();
        for (layer, [depth, columns]) in [[40, 72], [72, 33], [33, 150], [150, 10]].into_iter().enumerate() {
            let w = graph.constant("w", numbers(&[depth, columns], 0.3 + layer as f32)).unwrap();
            y = graph.op("y", MatMul, &[y, w]).unwrap();
            y = graph.op("tanh", Unary(function(layer)), &[y]).unwrap();
            if layer == 1 {
                let shape = graph.constant("shape", Tensor::vector(vec![15i64, 33])).unwrap();
                y = graph.op("view", Reshape { allow_zero: false }, &[y, shape]).unwrap();
            }
            if layer == 2 && shown {
                let more = graph.op("more", Unary(UnaryKind::Exp), &[y]).unwrap();
                graph.output(more).unwrap();
            }
        }
        graph.output(y).unwrap();
        Model::from_graph(graph).unwrap()
    }

    #[test]
    fn rounding_earlier_leaves_the_bits() {
        let x = numbers(&[3, 5, 40], 0.7);
        for shown in [false, true] {
            let model = model(shown);
            // Every value is an output of its own here, and none is kept rounded.
            let mut expected = vec![x.clone()];
            for layer in 0..4 {
                let (depth, columns) = [(40, 72), (72, 33), (33, 150), (150, 10)][layer];
                let mut graph = Graph::new("layer");
                let input = graph.input("x", Fact::concrete(DType::F32, &[15, depth])).unwrap();
                let w = graph.constant("w", numbers(&[depth, columns], 0.3 + layer as f32)).unwrap();
                let y = graph.op("y", MatMul, &[input, w]).unwrap();
                let y = graph.op("tanh", Unary(function(layer)), &[y]).unwrap();
                graph.output(y).unwrap();
                let layer = Model::from_graph(graph).unwrap();
                let compiled = layer.compile(&CompileOptions::new().threads(1).bfloat16(true)).unwrap();
                let before = expected.pop().unwrap().reshaped([15, depth]).unwrap();
                expected.push(compiled.run([before]).unwrap()[0].clone());
            }
            for threads in [1, 3] {
                let options = CompileOptions::new().threads(threads).bfloat16(true);
                let compiled = model.compile(&options).unwrap();
                let answers = compiled.run([x.clone()]).unwrap();
                let last = answers[usize::from(shown)].as_bytes();
                assert_eq!(last, expected[0].as_bytes(), "by {threads}, shown {shown}");
                let (plan, mut profile) = (compiled.plan(&[x.shape().clone()]).unwrap(), Profile::new());
                plan.run_profiled(&mut plan.scratch().unwrap(), std::slice::from_ref(&x), &mut profile).unwrap();
                let halves = profile.steps.iter().filter(|step| step.output.starts_with("bf16")).count();
                assert_eq!(halves, if shown { 2 } else { 3 }, "{profile}");
            }
        }
    }
}
