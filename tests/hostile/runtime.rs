//! Operators told at run time what they usually are told by constants: shapes, axes, counts, indices. Whatever a run
//! is told, the reference evaluation and the plans of the graph, optimized or not, come to the same answer or refuse it
//! alike.

use super::bounded;
use super::support::*;
use onrush::onnx::{LoadOptions, import};
use onrush::ops::Budget;
use onrush::{CompileOptions, Model, Result, Tensor};

const MAX_BYTES: usize = 1 << 20;
const MAX_STEPS: u64 = 1_000;

/// What an input of a request holds.
#[derive(Clone, Copy, Debug)]
enum Given<'a> {
    /// Floats of this shape.
    Floats(&'a [usize]),
    /// A list of integers.
    List(&'a [i64]),
    /// One integer, of rank 0.
    Scalar(i64),
}

use Given::{Floats, List, Scalar};

impl Given<'_> {
    fn tensor(self) -> Tensor {
        match self {
            Floats(shape) => {
                let elements = (0..shape.iter().product()).map(|i: usize| i as f32 + 1.0).collect();
                Tensor::new(shape, elements).unwrap()
            }
            List(elements) => Tensor::vector(elements.to_vec()),
            Scalar(element) => Tensor::scalar(element),
        }
    }

    /// As an input that declares its shape, or as one that leaves it open.
    fn declared(self, name: &str, open: bool) -> Message {
        let shape: Vec<i64> = self.tensor().shape().iter().map(|&d| d as i64).collect();
        let dtype = if matches!(self, Floats(_)) { F32 } else { I64 };
        if open { unshaped(name, dtype) } else { value(name, dtype, &shape) }
    }
}

/// An operator and what it is given; `true` where it must answer.
type Case<'a> = (&'a str, &'a [Message], &'a [Given<'a>], bool);

/// What is wrong with one node of a case, run by reference evaluation and as plans: with inputs that declare their shapes, with
/// lists that do not, and with open shapes throughout.
fn faults(&(op, attributes, given, answers): &Case<'_>) -> Vec<String> {
    let inputs = NAMES[..given.len()].to_vec();
    let nodes = vec![node(op, &inputs, &["y"], attributes), node("Identity", &["y"], &["z"], &[])];
    faults_of(&nodes, op, given, answers)
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The same of nodes between the inputs [`NAMES`] and `z`, where `op` is the one that may refuse.
fn faults_of(nodes: &[Message], op: &str, given: &[Given<'_>], answers: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let tensors: Vec<Tensor> = given.iter().map(|given| given.tensor()).collect();
    for open in [0, 1, 2] {
        let inputs = given.iter().zip(NAMES).enumerate();
        let inputs = inputs.map(|(at, (given, name))| given.declared(name, open > usize::from(at == 0))).collect();
        let initializers = vec![integers("zero", &[0]), integers("minus", &[-1])];
        let graph = Graph { nodes: nodes.to_vec(), initializers, inputs, outputs: vec![unshaped("z", 0)] };
        let bytes = graph.model(17).0;
        let expected: Result<Vec<Tensor>> = bounded(|| {
            let model = import(bytes.clone().into(), &LoadOptions::default())?;
            model.graph.interpret_within(&tensors, &Budget::new(MAX_BYTES, MAX_STEPS))
        });
        let what = format!("{op} of {given:?}, open {open}");
        if expected.is_ok() != answers {
            faults.push(format!("{what}: {expected:?}"));
        }
        for optimize in [false, true] {
            let options = CompileOptions::new().max_run_bytes(MAX_BYTES).max_run_steps(MAX_STEPS).optimize(optimize);
            let got = bounded(|| Model::from_bytes(&bytes)?.compile(&options)?.run(tensors.clone()));
            let alike = match (&got, &expected) {
                (Ok(got), Ok(expected)) => got["z"] == expected[0],
                (Err(got), Err(expected)) => {
                    got.kind() == expected.kind() && got.to_string().contains(&format!("({op})"))
                }
                _ => false,
            };
            if !alike {
                faults.push(format!("{what}, optimize {optimize}: {got:?} against {expected:?}"));
            }
        }
    }
    faults
}

#[track_caller]
fn check(cases: &[Case<'_>]) {
    let faults: Vec<String> = cases.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn shapes_and_counts() {
    let x = Floats(&[2, 3]);
    let one = Floats(&[1, 3]);
    let cases: &[Case<'_>] = &[
        ("Reshape", &[], &[x, List(&[5])], false),
        ("Reshape", &[], &[x, List(&[6])], true),
        ("Reshape", &[], &[x, List(&[-1])], true),
        ("Reshape", &[], &[x, List(&[0])], false),
        ("Reshape", &[], &[x, List(&[2, 2])], false),
        ("Reshape", &[], &[x, List(&[3, 2])], true),
        ("Reshape", &[], &[x, List(&[4, -1])], false),
        ("Reshape", &[], &[x, List(&[-1, -1])], false),
        ("Reshape", &[], &[x, List(&[-2, -3])], false),
        ("Reshape", &[], &[x, List(&[0, 0, 0])], false),
        ("Reshape", &[], &[x, List(&[])], false),
        ("Reshape", &[], &[Floats(&[6]), List(&[5])], false),
        ("Reshape", &[], &[Floats(&[6]), List(&[6])], true),
        ("Reshape", &[], &[Floats(&[1, 1]), List(&[])], true),
        ("Reshape", &[int("allowzero", 1)], &[x, List(&[0, -1])], false),
        ("Expand", &[], &[x, List(&[4, 3])], false),
        ("Expand", &[], &[x, List(&[2, 3])], true),
        ("Expand", &[], &[x, List(&[1, 1])], true),
        ("Expand", &[], &[x, List(&[1])], true),
        ("Expand", &[], &[x, List(&[4])], false),
        ("Expand", &[], &[x, List(&[-1, 3])], false),
        ("Expand", &[], &[x, List(&[0, 3])], false),
        ("Expand", &[], &[x, List(&[5, 1, 3])], true),
        ("Expand", &[], &[one, List(&[4, 3])], true),
        ("Expand", &[], &[one, List(&[4, 2])], false),
        ("Expand", &[], &[one, List(&[1 << 40, 3])], false),
        ("Tile", &[], &[x, List(&[2, 2])], true),
        ("Tile", &[], &[x, List(&[0, 1])], true),
        ("Tile", &[], &[x, List(&[2])], false),
        ("Tile", &[], &[x, List(&[-1, 1])], false),
        ("Tile", &[], &[Floats(&[0, 3]), List(&[-1, 1])], false),
        ("Tile", &[], &[Floats(&[0, 3]), List(&[5, 1])], true),
        ("ConstantOfShape", &[], &[List(&[2, 3])], true),
        ("ConstantOfShape", &[], &[List(&[2, -3])], false),
        ("ConstantOfShape", &[], &[List(&[1 << 40])], false),
        ("Range", &[], &[Scalar(0), Scalar(5), Scalar(2)], true),
        ("Range", &[], &[Scalar(0), Scalar(5), Scalar(0)], false),
        ("Range", &[], &[Scalar(0), Scalar(i64::MAX), Scalar(1)], false),
        ("Pad", &[], &[x, List(&[0, 1, 0, 1])], true),
        ("Pad", &[], &[x, List(&[0, -1, 0, -1])], true),
        ("Pad", &[], &[x, List(&[0, 1])], false),
        ("Pad", &[], &[x, List(&[0, -2, 0, -2])], false),
        ("Pad", &[text("mode", "reflect")], &[x, List(&[0, 9, 0, 9])], true),
        ("Split", &[], &[x, List(&[2])], true),
        ("Split", &[], &[x, List(&[3])], false),
        ("Split", &[], &[x, List(&[-2])], false),
        ("TopK", &[], &[x, List(&[2])], true),
        ("TopK", &[], &[x, List(&[3])], true),
        ("TopK", &[], &[x, List(&[4])], false),
        ("TopK", &[], &[x, List(&[-1])], false),
        ("TopK", &[], &[x, List(&[1, 1])], false),
        ("TopK", &[int("axis", 0)], &[Floats(&[1, 3]), List(&[2])], false),
        ("OneHot", &[], &[List(&[1, 0]), List(&[3]), List(&[0, 1])], true),
        ("OneHot", &[], &[List(&[1, 0]), List(&[-3]), List(&[0, 1])], false),
        ("OneHot", &[], &[List(&[1, 0]), List(&[3, 3]), List(&[0, 1])], false),
        ("OneHot", &[], &[List(&[1, 0]), List(&[3]), List(&[0, 1, 2])], false),
        ("Trilu", &[], &[x, Scalar(i64::MIN)], true),
        ("Trilu", &[], &[x, Scalar(i64::MAX)], true),
        ("Resize", &[text("mode", "nearest")], &[x, Floats(&[0]), Floats(&[0]), List(&[4, 6])], true),
        ("Resize", &[text("mode", "nearest")], &[x, Floats(&[0]), Floats(&[0]), List(&[4])], false),
        ("Resize", &[text("mode", "nearest")], &[x, Floats(&[0]), Floats(&[0]), List(&[-4, 3])], false),
        ("Resize", &[text("mode", "nearest")], &[x, Floats(&[0]), Floats(&[2])], true),
        ("Resize", &[text("mode", "nearest")], &[x, Floats(&[0]), Floats(&[3])], false),
    ];
    check(cases);
}

#[test]
fn axes_and_indices() {
    let (x, ones) = (Floats(&[2, 3]), Floats(&[1, 3]));
    let cases: &[Case<'_>] = &[
        ("Slice", &[], &[x, List(&[0]), List(&[1]), List(&[1])], true),
        ("Slice", &[], &[x, List(&[0]), List(&[3]), List(&[2])], false),
        ("Slice", &[], &[x, List(&[0, 1]), List(&[1])], false),
        ("Slice", &[], &[x, List(&[0, 0]), List(&[1, 1]), List(&[1, 1])], false),
        ("Slice", &[], &[x, List(&[0]), List(&[1]), List(&[1]), List(&[0])], false),
        ("Slice", &[], &[x, List(&[9]), List(&[-9]), List(&[1]), List(&[-1])], true),
        ("Slice", &[], &[x, List(&[i64::MIN]), List(&[i64::MAX]), List(&[0]), List(&[i64::MAX])], true),
        ("Slice", &[], &[x, List(&[0, 0, 0]), List(&[1, 1, 1])], false),
        ("Squeeze", &[], &[ones, List(&[0])], true),
        ("Squeeze", &[], &[ones, List(&[1])], false),
        ("Squeeze", &[], &[ones, List(&[2])], false),
        ("Squeeze", &[], &[Floats(&[1, 1]), List(&[0, 0])], false),
        ("Squeeze", &[], &[Floats(&[1]), List(&[0])], true),
        ("Squeeze", &[], &[Floats(&[1]), List(&[1])], false),
        ("Unsqueeze", &[], &[x, List(&[0])], true),
        ("Unsqueeze", &[], &[x, List(&[4])], false),
        ("Unsqueeze", &[], &[x, List(&[0, 0])], false),
        ("Unsqueeze", &[], &[Floats(&[]), List(&[0])], true),
        ("Unsqueeze", &[], &[Floats(&[]), List(&[1])], false),
        ("Unsqueeze", &[], &[Floats(&[1]), List(&[7])], false),
        ("ReduceSum", &[], &[x, List(&[0])], true),
        ("ReduceSum", &[], &[x, List(&[2])], false),
        ("ReduceSum", &[], &[x, List(&[0, 0])], false),
        ("ReduceSum", &[], &[ones, List(&[0, -2])], false),
        ("ReduceSum", &[], &[Floats(&[]), List(&[0])], false),
        ("ReduceSum", &[int("keepdims", 0)], &[x, List(&[1])], true),
        ("CumSum", &[], &[x, Scalar(1)], true),
        ("CumSum", &[], &[x, Scalar(2)], false),
        ("CumSum", &[], &[x, Scalar(-3)], false),
        ("Gather", &[], &[x, List(&[1, -2])], true),
        ("Gather", &[], &[x, List(&[2])], false),
        ("Gather", &[], &[x, List(&[i64::MIN])], false),
        ("Gather", &[int("axis", 1)], &[Floats(&[2, 0]), List(&[0])], false),
        ("Gather", &[int("axis", 1)], &[Floats(&[0, 3]), List(&[5])], false),
        ("GatherElements", &[], &[Floats(&[2]), List(&[1])], true),
        ("GatherElements", &[], &[Floats(&[2]), List(&[2])], false),
        ("GatherND", &[], &[x, List(&[1, 2])], true),
        ("GatherND", &[], &[x, List(&[1, 3])], false),
        ("GatherND", &[], &[x, List(&[1, 1, 1])], false),
        ("ScatterElements", &[], &[Floats(&[2]), List(&[1]), Floats(&[1])], true),
        ("ScatterElements", &[], &[Floats(&[2]), List(&[2]), Floats(&[1])], false),
        ("ScatterND", &[], &[Floats(&[2]), List(&[1]), Floats(&[])], true),
        ("ScatterND", &[], &[Floats(&[2]), List(&[2]), Floats(&[])], false),
        ("Compress", &[int("axis", 9)], &[x, List(&[1])], false),
        ("ReverseSequence", &[], &[x, List(&[1, 2, 1])], true),
        ("ReverseSequence", &[], &[x, List(&[1, 3, 1])], false),
        ("ReverseSequence", &[], &[x, List(&[1, 1])], false),
        ("ReverseSequence", &[], &[x, List(&[-1, 1, 1])], false),
        ("Div", &[], &[List(&[1]), List(&[0])], false),
        ("Mod", &[], &[List(&[1]), List(&[0])], false),
        ("Div", &[], &[List(&[i64::MIN]), List(&[-1])], true),
        ("Add", &[], &[x, Floats(&[2])], false),
        ("Concat", &[int("axis", 0)], &[x, Floats(&[2, 2])], false),
        ("MatMul", &[], &[x, Floats(&[2, 2])], false),
    ];
    check(cases);
}

#[test]
fn shapes_that_are_known_in_part() {
    let first = || {
        let shape = node("Shape", &["a"], &["shape"], &[]);
        vec![shape, node("Gather", &["shape", "zero"], &["first"], &[int("axis", 0)])]
    };
    let mut faults = Vec::new();
    for op in ["Reshape", "Expand"] {
        for (rest, answers) in [(3, true), (2, false), (-1, op == "Reshape"), (0, op == "Reshape")] {
            // As many as x has along axis 0, and what the request says, which only 3 fits.
            let join = node("Concat", &["first", "b"], &["to"], &[int("axis", 0)]);
            let last = [join, node(op, &["a", "to"], &["z"], &[])];
            let nodes = [first(), last.to_vec()].concat();
            faults.extend(faults_of(&nodes, op, &[Floats(&[2, 3]), List(&[rest])], answers));
        }
    }
    for (list, answers) in [(&[6][..], true), (&[5], false), (&[3, 2], true), (&[3, 3], false)] {
        // The last of two reshapes makes the first one needless, if that is one.
        let nodes = [node("Reshape", &["a", "b"], &["y"], &[]), node("Reshape", &["y", "minus"], &["z"], &[])];
        faults.extend(faults_of(&nodes, "Reshape", &[Floats(&[2, 3]), List(list)], answers));
    }
    for (shape, answers) in [(&[2, 3][..], true), (&[1, 3], true), (&[], true), (&[2, 2], false), (&[3], true)] {
        // A choice that is always the same, beside one that has to fit.
        let [same, choice] =
            [node("Equal", &["zero", "zero"], &["yes"], &[]), node("Where", &["yes", "a", "b"], &["z"], &[])];
        faults.extend(faults_of(&[same, choice], "Where", &[Floats(&[2, 3]), Floats(shape)], answers));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
