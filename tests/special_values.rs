//! Zeros of either sign, infinities, NaN and the smallest and largest numbers: kernels give what the plain evaluation
//! gives, for whole vectors and for a rest.

use onrush::graph::Graph;
use onrush::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind, Variadic, VariadicKind};
use onrush::ops::nn::{Conv, GlobalPool, GlobalPoolKind, Padding, Pool, PoolKind};
use onrush::{CompileOptions, DType, Fact, Model, Tensor};

const VALUES: [f32; 32] = [
    0.0,
    -0.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-40,
    -1e-40,
    f32::MAX,
    f32::MIN,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.0,
    -3.0,
    6.0,
    1e-4,
    -1e-4,
    88.0,
    -88.0,
    90.0,
    -104.0,
    1e10,
    -1e10,
    16_777_217.0,
    0.3,
    -0.3,
];

/// What is wrong with the plans of a graph, against its plain evaluation.
fn faults(what: &str, graph: &Graph, inputs: &[Tensor]) -> Vec<String> {
    let expected = graph.interpret(inputs).unwrap()[0].to_f64_vec().unwrap();
    let model = Model::from_graph(graph.clone()).unwrap();
    let mut faults = Vec::new();
    for optimize in [false, true] {
        let outputs = model.compile(&CompileOptions::new().optimize(optimize)).unwrap().run(inputs.to_vec()).unwrap();
        let found = outputs.iter().next().unwrap().1.to_f64_vec().unwrap();
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // Kernels may take what is smaller than the smallest normal number as zero.
            let close = (found - expected).abs() <= 1e-4 * expected.abs() + 3e-38;
            if !(close || found == expected || (found.is_nan() && expected.is_nan())) {
                let of: Vec<f64> = inputs.iter().filter_map(|t| t.to_f64_vec().unwrap().get(at).copied()).collect();
                faults.push(format!("{what} of {of:?} is {found}, not {expected} (optimize {optimize})"));
            }
        }
    }
    faults
}

fn inputs(graph: &mut Graph, count: usize, len: usize) -> Vec<onrush::graph::ValueId> {
    (0..count).map(|i| graph.input(&format!("x{i}"), Fact::concrete(DType::F32, &[len])).unwrap()).collect()
}

#[test]
fn functions_of_one() {
    use UnaryKind::*;
    let alpha = 0.3;
    let kinds = [
        Abs,
        Neg,
        Sign,
        Ceil,
        Floor,
        Round,
        Reciprocal,
        Sqrt,
        Exp,
        Log,
        Erf,
        Tanh,
        Relu,
        Sigmoid,
        Softplus,
        Softsign,
        LeakyRelu { alpha },
        Elu { alpha },
        Selu { alpha: 1.67, gamma: 1.05 },
        Celu { alpha },
        ThresholdedRelu { alpha },
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        Gelu { tanh: false },
        Gelu { tanh: true },
        Swish { alpha: 1.0 },
        HardSwish,
        Mish,
        Asin,
        Acos,
        Atan,
        Asinh,
        Acosh,
        Atanh,
        Sinh,
        Cosh,
    ];
    let mut all = Vec::new();
    for len in [VALUES.len(), 5] {
        for kind in kinds {
            let mut graph = Graph::new("test");
            let x = inputs(&mut graph, 1, len);
            let y = graph.op("y", Unary(kind), &x).unwrap();
            graph.output(y).unwrap();
            all.extend(faults(&format!("{kind:?}"), &graph, &[Tensor::vector(VALUES[..len].to_vec())]));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn maxima_of_windows() {
    let mut all = Vec::new();
    let padding = Padding::symmetric(&[1, 1]);
    let (kernel, strides) = (vec![3, 2], vec![2, 1]);
    let kind = PoolKind::Max { storage_order: false };
    let pool = Pool { kind, kernel, strides, dilations: vec![], padding, ceil_mode: false };
    for channels in [1, 3, 40] {
        let shape = [1, channels, 5, 7];
        // Everywhere a number but for a NaN in each channel, another place each time, and one channel of nothing else.
        let element = |i: usize| if i / 35 == 2 || i % 35 == i / 35 { f32::NAN } else { (i * 37 % 64) as f32 };
        let x = Tensor::new(shape, (0..35 * channels).map(element).collect::<Vec<f32>>()).unwrap();
        for global in [false, true] {
            let mut graph = Graph::new("test");
            let input = graph.input("x", Fact::concrete(DType::F32, &shape)).unwrap();
            let w = Tensor::new([channels, 1, 1, 1], vec![1.0f32; channels]).unwrap();
            let w = graph.constant("w", w).unwrap();
            let conv = Conv { group: channels, ..Conv::default() };
            // Behind a convolution the images may be laid out channels last.
            for (name, convolved) in [("alone", false), ("convolved", true)] {
                let of = if convolved { graph.op("conv", conv.clone(), &[input, w]).unwrap() } else { input };
                let y = match global {
                    true => graph.op(name, GlobalPool { kind: GlobalPoolKind::Max }, &[of]),
                    false => graph.op(name, pool.clone(), &[of]),
                };
                let mut one = graph.clone();
                one.output(y.unwrap()).unwrap();
                all.extend(faults(&format!("{name} of {channels} channels"), &one, std::slice::from_ref(&x)));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn functions_of_two() {
    use BinaryKind::*;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for x in VALUES {
        a.extend([x; VALUES.len()]);
        b.extend(VALUES);
    }
    let mut all = Vec::new();
    let given = [Tensor::vector(a.clone()), Tensor::vector(b.clone())];
    for kind in [Add, Sub, Mul, Div, PRelu, Pow] {
        let mut graph = Graph::new("test");
        let x = inputs(&mut graph, 2, a.len());
        let y = graph.op("y", Binary(kind), &x).unwrap();
        graph.output(y).unwrap();
        all.extend(faults(&format!("{kind:?}"), &graph, &given));
    }
    for kind in [VariadicKind::Max, VariadicKind::Min, VariadicKind::Sum, VariadicKind::Mean] {
        let mut graph = Graph::new("test");
        let x = inputs(&mut graph, 2, a.len());
        let y = graph.op("y", Variadic(kind), &x).unwrap();
        graph.output(y).unwrap();
        all.extend(faults(&format!("{kind:?}"), &graph, &given));
    }
    let mut graph = Graph::new("test");
    let x = inputs(&mut graph, 1, VALUES.len());
    let bounds = [-1.0f32, 2.0].map(|bound| graph.constant("bound", Tensor::scalar(bound)).unwrap());
    let y = graph.op("y", Clip, &[x[0], bounds[0], bounds[1]]).unwrap();
    graph.output(y).unwrap();
    all.extend(faults("Clip", &graph, &[Tensor::vector(VALUES.to_vec())]));
    assert!(all.is_empty(), "{}", all.join("\n"));
}
