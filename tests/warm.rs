//! A warm run allocates nothing: counted by an allocator that counts.

#[path = "support/counting.rs"]
mod counting;

use counting::allocations;
use onrush::graph::Graph;
use onrush::ops::elementwise::{Binary, BinaryKind, Cast, Clip, Unary, UnaryKind, Where};
use onrush::ops::layout::Unsqueeze;
use onrush::ops::matrix::MatMul;
use onrush::ops::nn::{Conv, GlobalPool, GlobalPoolKind, Padding, Softmax};
use onrush::ops::reduce::{ArgExtreme, CumSum};
use onrush::{CompileOptions, DType, Dim, Fact, Model, Shape, Symbol, Tensor, onnx};

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
    let conv = || Conv { padding: Padding::Explicit { begin: vec![1, 1], end: vec![1, 1] }, ..Conv::default() };
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

/// As many inputs as outputs: the sum of each with the next.
fn many_ports(count: usize) -> Model {
    let mut g = Graph::new("ports");
    let fact = || Fact::new(DType::F32, vec![Dim::Symbol(Symbol::new("N")), Dim::Known(3)]);
    let inputs: Vec<_> = (0..count).map(|i| g.input(&format!("x{i}"), fact()).unwrap()).collect();
    for i in 0..count {
        let next = inputs[(i + 1) % count];
        let y = g.op(&format!("y{i}"), Binary(BinaryKind::Add), &[inputs[i], next]).unwrap();
        g.output(y).unwrap();
    }
    Model::from_graph(g).unwrap()
}

#[test]
fn many_inputs_and_outputs_allocate_nothing() {
    let count = 40;
    let model = many_ports(count).compile(&CompileOptions::new().threads(1)).unwrap();
    let inputs: Vec<Tensor> = (0..count).map(|_| weights(&[2, 3])).collect();
    let shapes: Vec<Shape> = inputs.iter().map(|t| t.shape().clone()).collect();
    assert_eq!(allocations_of_a_run(&model, &shapes, &inputs), 0);
}

/// Allocations in a warm run.
fn allocations_of_a_run(model: &onrush::CompiledModel, shapes: &[Shape], inputs: &[Tensor]) -> usize {
    let plan = model.plan(shapes).unwrap();
    assert_eq!(plan.fallbacks(), Vec::<String>::new());
    let mut scratch = plan.scratch().unwrap();
    plan.run(&mut scratch, inputs).unwrap();
    allocations(|| plan.run(&mut scratch, inputs).unwrap()).0
}

/// Ids that are encoded one-hot, which the passes make a look-up of.
fn encoded_ids() -> Graph {
    let mut g = Graph::new("encoded");
    let ids = g.input("ids", Fact::concrete(DType::I32, &[2, 5])).unwrap();
    let last = g.constant("last", Tensor::vector(vec![-1i64])).unwrap();
    let columns = g.constant("columns", Tensor::new([1, 1, 4], vec![0i32, 1, 2, 3]).unwrap()).unwrap();
    let table = g.constant("table", weights(&[4, 3])).unwrap();
    let ids = g.op("wide", Unsqueeze, &[ids, last]).unwrap();
    let equal = g.op("equal", Binary(BinaryKind::Equal), &[ids, columns]).unwrap();
    let hot = g.op("hot", Cast { to: DType::F32 }, &[equal]).unwrap();
    let y = g.op("y", MatMul, &[hot, table]).unwrap();
    g.output(y).unwrap();
    g
}

/// Positions of tokens that are not padding, within bounds, and where the last one stands.
fn positions(dtype: DType) -> Graph {
    let mut g = Graph::new("positions");
    let scalar = |value: i64| Tensor::scalar(value).cast(dtype).unwrap();
    let ids = g.input("ids", Fact::concrete(dtype, &[2, 5])).unwrap();
    let [pad, one, low, high] = [0, 1, -2, 3].map(|v| g.constant("c", scalar(v)).unwrap());
    let axis = g.constant("axis", Tensor::scalar(1i64)).unwrap();
    let padding = g.op("padding", Binary(BinaryKind::Equal), &[ids, pad]).unwrap();
    let kept = g.op("kept", Unary(UnaryKind::Not), &[padding]).unwrap();
    let ones = g.op("ones", Where, &[kept, one, pad]).unwrap();
    let sum = g.op("sum", CumSum { exclusive: false, reverse: true }, &[ones, axis]).unwrap();
    let bounded = g.op("bounded", Clip, &[sum, low, high]).unwrap();
    let most = ArgExtreme { max: true, axis: 1, keep_dims: true, select_last: dtype != DType::F32 };
    let most = g.op("most", most, &[bounded]).unwrap();
    for output in [bounded, kept, most] {
        g.output(output).unwrap();
    }
    g
}

#[test]
fn arithmetic_on_ids_allocates_nothing() {
    let ids = Tensor::new([2, 5], vec![0i32, 3, 2, 1, 0, 4, -1, i32::MAX, i32::MIN, 3]).unwrap();
    let graphs = [DType::I32, DType::I64, DType::F32].map(|dtype| (positions(dtype), ids.cast(dtype).unwrap()));
    for (graph, ids) in graphs.into_iter().chain([(encoded_ids(), ids.clone())]) {
        let expected = graph.interpret(std::slice::from_ref(&ids)).unwrap();
        let model = Model::from_graph(graph).unwrap().compile(&CompileOptions::new().threads(1)).unwrap();
        let inputs = [ids];
        assert_eq!(model.run(&inputs[..]).unwrap().into_vec(), expected);
        assert_eq!(allocations_of_a_run(&model, &[Shape::from([2, 5])], &inputs), 0);
    }
}

/// Real models, where their files are there.
#[test]
fn real_models_allocate_nothing() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    for name in ["mnist", "ultraface_rfb320", "magika_v3_3"] {
        let path = folder.join(name).join("model.onnx");
        if !path.exists() {
            assert!(std::env::var("ONRUSH_REQUIRE_SHARED").as_deref() != Ok("1"), "{} is missing", path.display());
            println!("skipped: no model at {}", path.display());
            continue;
        }
        let model = Model::load(&path).unwrap().compile(&CompileOptions::new().threads(1)).unwrap();
        let length = |dim: &Dim| dim.known().unwrap_or(1);
        let input = |info: &onrush::ValueInfo| {
            let shape: Shape = info.shape.as_ref().unwrap().iter().map(length).collect();
            Tensor::zeros(info.dtype, shape).unwrap()
        };
        let inputs: Vec<Tensor> = model.inputs().iter().map(input).collect();
        let shapes: Vec<Shape> = inputs.iter().map(|t| t.shape().clone()).collect();
        assert_eq!(allocations_of_a_run(&model, &shapes, &inputs), 0, "{name}");
    }
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
        let mut scratch = plan.scratch().unwrap();
        plan.run(&mut scratch, &inputs).unwrap();
        for _ in 0..10 {
            assert_eq!(allocations(|| plan.run(&mut scratch, &inputs).unwrap()).0, 0);
        }
        let sum: f32 = scratch.output(0).unwrap().as_slice::<f32>().unwrap()[..5].iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
}
