//! A warm run allocates nothing: counted by an allocator that counts.

use onrush::graph::Graph;
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::matrix::MatMul;
use onrush::ops::nn::{Conv, GlobalPool, GlobalPoolKind, Padding, Softmax};
use onrush::{CompileOptions, DType, Dim, Fact, Model, Shape, Symbol, Tensor, onnx};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn weights(shape: &[usize]) -> Tensor {
    let elements: Vec<f32> = (0..shape.iter().product()).map(|i: usize| ((i as f32) * 0.7).sin() * 0.2).collect();
    Tensor::new(shape, elements).unwrap()
}

/// Convolutions with a residual, a pool, a product, an addition and a softmax.
fn network() -> Model {
    let mut g = Graph::new("network");
    let n = Dim::Symbol(Symbol::new("N"));
    let fact = Fact::new(DType::F32, vec![n, Dim::Known(3), Dim::Known(12), Dim::Known(10)]);
    let x = g.input("x", fact).unwrap();
    let conv = || Conv {
        group: 1,
        kernel: None,
        strides: vec![],
        dilations: vec![],
        padding: Padding::Explicit { begin: vec![1, 1], end: vec![1, 1] },
    };
    let w1 = g.constant("w1", weights(&[8, 3, 3, 3])).unwrap();
    let w2 = g.constant("w2", weights(&[8, 8, 3, 3])).unwrap();
    let a = g.op("a", conv(), &[x, w1]).unwrap();
    let a = g.op("relu", Unary(UnaryKind::Relu), &[a]).unwrap();
    let b = g.op("b", conv(), &[a, w2]).unwrap();
    let c = g.op("c", Binary(BinaryKind::Add), &[a, b]).unwrap();
    let d = g.op("d", GlobalPool { kind: GlobalPoolKind::Average }, &[c]).unwrap();
    let e = g.op("e", onrush::ops::layout::Flatten { axis: 1 }, &[d]).unwrap();
    let w3 = g.constant("w3", weights(&[8, 5])).unwrap();
    let bias = g.constant("bias", weights(&[5])).unwrap();
    let f = g.op("f", MatMul, &[e, w3]).unwrap();
    let f = g.op("g", Binary(BinaryKind::Add), &[f, bias]).unwrap();
    let y = g.op("y", Softmax { axis: -1 }, &[f]).unwrap();
    g.output(y).unwrap();
    Model::from_bytes(&onnx::export(&g).unwrap()).unwrap()
}

#[test]
fn a_warm_run_allocates_nothing() {
    for optimize in [true, false] {
        let model = network().compile(&CompileOptions::new().optimize(optimize)).unwrap();
        let inputs = [weights(&[2, 3, 12, 10])];
        let plan = model.plan(&[Shape::from([2, 3, 12, 10])]).unwrap();
        if optimize {
            assert_eq!(plan.fallbacks(), Vec::<String>::new());
        } else if !plan.fallbacks().is_empty() {
            // Without the passes a convolution runs by its reference evaluation, which allocates.
            continue;
        }
        let mut scratch = plan.scratch();
        plan.run(&mut scratch, &inputs).unwrap();
        let before = COUNT.with(Cell::get);
        for _ in 0..10 {
            plan.run(&mut scratch, &inputs).unwrap();
        }
        assert_eq!(COUNT.with(Cell::get) - before, 0);
        let sum: f32 = scratch.output(0).unwrap().as_slice::<f32>().unwrap()[..5].iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
}
