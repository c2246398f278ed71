//! The three operators against numbers from another implementation.

use super::*;
use crate::ops::{Attr, Budget, Op, OpDef, Reading, registry};
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The elements `((i * step) mod 17 - 8) / 10`.
fn ramp(shape: &[usize], step: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let elements = (0..len).map(|i| ((i * step) % 17) as f32 / 10.0 - 0.8).collect();
    Tensor::new(shape, elements).unwrap()
}

fn build(name: &str, attrs: &[(&str, Attr)], inputs: usize) -> Result<Arc<dyn Op>> {
    let def: &OpDef = registry::find("", name).unwrap();
    let attrs: BTreeMap<String, Attr> = attrs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
    let mut node = NodeReader::new(name, 22, attrs, vec![true; inputs], 1, 0);
    let reading = (def.read)(&mut node)?;
    node.finish()?;
    match reading {
        Reading::Op(op) => Ok(op),
        Reading::Nodes(_) => unreachable!("one node stays one"),
    }
}

fn run(op: &dyn Op, inputs: &[Tensor]) -> Vec<Tensor> {
    crate::ops::testing::run(op, &inputs.iter().map(Some).collect::<Vec<_>>()).unwrap()
}

fn assert_close(value: &Tensor, expected: &[f64], tolerance: f64) {
    let value = value.to_f64_vec().unwrap();
    assert_eq!(value.len(), expected.len());
    for (index, (a, b)) in value.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "element {index}: {a} is not {b}");
    }
}

const LENGTH: usize = 3;
const BATCH: usize = 2;
const WIDTH: usize = 2;
const HIDDEN: usize = 2;

/// Inputs of a bidirectional node with sequences of length 2 and 3 and with an initial state.
fn bidirectional(gates: usize) -> Vec<Tensor> {
    let rows = gates * HIDDEN;
    vec![
        ramp(&[LENGTH, BATCH, WIDTH], 5),
        ramp(&[2, rows, WIDTH], 3),
        ramp(&[2, rows, HIDDEN], 7),
        ramp(&[2, 2 * rows], 11),
        Tensor::vector(vec![2i32, 3]),
        ramp(&[2, BATCH, HIDDEN], 4),
    ]
}

fn both_ways(clip: Option<f32>) -> Vec<(&'static str, Attr)> {
    let mut attrs = vec![("direction", Attr::Str("bidirectional".into())), ("hidden_size", Attr::Int(2))];
    attrs.extend(clip.map(|clip| ("clip", Attr::Float(clip))));
    attrs
}

#[test]
fn an_lstm_has_peepholes_lengths_and_two_directions() {
    let mut inputs = bidirectional(4);
    inputs.push(ramp(&[2, BATCH, HIDDEN], 6));
    inputs.push(ramp(&[2, 3 * HIDDEN], 13));
    let outputs = run(build("LSTM", &both_ways(None), 8).unwrap().as_ref(), &inputs);
    let y = [
        -0.16669, 0.04665, 0.11252, -0.0145, -0.37776, 0.1232, -0.08447, -0.01513, -0.13923, 0.17712, 0.04845, 0.11369,
        -0.32055, 0.08881, 0.15408, -0.02481, 0.0, 0.0, 0.01602, 0.14034, 0.0, 0.0, 0.05492, -0.00871,
    ];
    assert_close(&outputs[0], &y, 1e-5);
    let c = [-0.42284, 0.29324, 0.03813, 0.32597, -0.54118, 0.28513, -0.11043, -0.04857];
    assert_close(&outputs[2], &c, 1e-5);
    let outputs = run(build("LSTM", &both_ways(Some(0.3)), 8).unwrap().as_ref(), &inputs);
    let h = [-0.08266, 0.10325, -0.04117, 0.09287, -0.13879, 0.09451, -0.03319, -0.03692];
    assert_close(&outputs[1], &h, 1e-5);
}

#[test]
fn a_gru_resets_after_the_product_when_asked() {
    let inputs = bidirectional(3);
    let attrs = |clip| [both_ways(clip), vec![("linear_before_reset", Attr::Int(1))]].concat();
    let outputs = run(build("GRU", &attrs(None), 6).unwrap().as_ref(), &inputs);
    let y = [
        -0.59071, -0.59099, 0.23832, 0.15132, 0.44119, -0.68313, -0.14632, -0.12994, -0.34266, -0.64008, 0.10248,
        -0.27649, 0.6023, -0.62571, -0.34047, 0.51907, 0.0, 0.0, 0.0286, -0.43381, 0.0, 0.0, -0.23935, 0.41632,
    ];
    assert_close(&outputs[0], &y, 1e-5);
    let outputs = run(build("GRU", &attrs(Some(0.3)), 6).unwrap().as_ref(), &inputs);
    let h = [-0.10484, -0.3258, 0.05119, -0.13552, 0.0688, -0.34652, -0.12443, -0.0427];
    assert_close(&outputs[1], &h, 1e-5);
}

#[test]
fn a_plain_network_clips_what_it_activates() {
    let inputs = bidirectional(1);
    let outputs = run(build("RNN", &both_ways(None), 6).unwrap().as_ref(), &inputs);
    let h = [-0.78386, 0.80894, -0.83032, 0.53859, 0.68136, 0.17428, 0.97208, -0.81363];
    assert_close(&outputs[1], &h, 1e-5);
    let outputs = run(build("RNN", &both_ways(Some(0.3)), 6).unwrap().as_ref(), &inputs);
    let h = [-0.29131, 0.29131, -0.29131, 0.29131, 0.29131, 0.17428, 0.29131, -0.29131];
    assert_close(&outputs[1], &h, 1e-5);
}

#[test]
fn layouts_differ_by_a_transposition() {
    let swap = |t: &Tensor| {
        let [a, b, c] = <[usize; 3]>::try_from(t.shape().to_vec()).unwrap();
        let x = t.as_slice::<f32>().unwrap();
        let mut out = Vec::new();
        for j in 0..b {
            for i in 0..a {
                out.extend_from_slice(&x[(i * b + j) * c..(i * b + j + 1) * c]);
            }
        }
        Tensor::new([b, a, c], out).unwrap()
    };
    let inputs = bidirectional(3);
    let plain = run(build("GRU", &both_ways(None), 6).unwrap().as_ref(), &inputs);
    let attrs = [both_ways(None), vec![("layout", Attr::Int(1))]].concat();
    let mut swapped = inputs.clone();
    swapped[0] = swap(&inputs[0]);
    swapped[5] = swap(&inputs[5]);
    let batch_first = run(build("GRU", &attrs, 6).unwrap().as_ref(), &swapped);
    assert_eq!(swap(&batch_first[1]), plain[1]);
    assert_eq!(&**batch_first[0].shape(), [BATCH, LENGTH, 2, HIDDEN]);
}

#[test]
fn coupled_gates_and_parametric_activations() {
    let strings = ["HardSigmoid", "LeakyRelu", "ScaledTanh"].map(str::to_owned).to_vec();
    let attrs = [
        ("activations", Attr::Strs(strings)),
        ("activation_alpha", Attr::Floats(vec![0.3, 0.05, 1.2])),
        ("activation_beta", Attr::Floats(vec![0.4, 0.7])),
        ("input_forget", Attr::Int(1)),
    ];
    let rows = 4 * HIDDEN;
    let inputs = [
        ramp(&[LENGTH, BATCH, WIDTH], 5),
        ramp(&[1, rows, WIDTH], 3),
        ramp(&[1, rows, HIDDEN], 7),
        ramp(&[1, 2 * rows], 11),
    ];
    let outputs = run(build("LSTM", &attrs, 4).unwrap().as_ref(), &inputs);
    assert_close(&outputs[1], &[0.041182, 0.192429, 0.0, 0.097186], 1e-5);
    assert_close(&outputs[2], &[0.157838, 0.469151, 0.0, 0.321039], 1e-5);
}

#[test]
fn attributes_read_back_as_written() {
    let strings = |names: &[&str]| Attr::Strs(names.iter().map(|&n| n.to_owned()).collect());
    let attrs = [
        ("activations", strings(&["HardSigmoid", "LeakyRelu", "ScaledTanh"])),
        ("activation_alpha", Attr::Floats(vec![0.3, 0.05, 1.2])),
        ("activation_beta", Attr::Floats(vec![0.4, 0.7])),
        ("input_forget", Attr::Int(1)),
        ("clip", Attr::Float(2.0)),
        ("output_sequence", Attr::Int(1)),
    ];
    let op = build("LSTM", &attrs, 4).unwrap();
    let written: Vec<(&str, Attr)> = op.attrs().iter().map(|(n, a)| (n, a.clone())).collect();
    assert_eq!(build("LSTM", &written, 4).unwrap().attrs(), op.attrs());
    let lstm = op.downcast_ref::<Lstm>().unwrap();
    assert_eq!(lstm.recurrence.activations[2], Activation::ScaledTanh { alpha: 1.2, beta: 0.7 });
    assert!(build("RNN", &[("activations", strings(&["Tanh", "Tanh"]))], 3).is_err());
    assert!(build("RNN", &[("activations", strings(&["Cosine"]))], 3).is_err());
    assert!(build("RNN", &[("hidden_size", Attr::Int(-1))], 3).is_err());
}

#[test]
fn shapes_that_contradict_are_refused() {
    let op = build("GRU", &[], 3).unwrap();
    let infer = |x: &[usize], w: &[usize], r: &[usize]| {
        let facts = [x, w, r].map(|s| Fact::concrete(DType::F32, s));
        op.infer(Inputs::new(&facts.iter().map(Some).collect::<Vec<_>>()))
    };
    assert!(infer(&[5, 1, 4], &[1, 6, 4], &[1, 6, 2]).is_ok());
    assert!(infer(&[5, 1, 4], &[1, 6, 3], &[1, 6, 2]).is_err());
    assert!(infer(&[5, 1, 4], &[1, 8, 4], &[1, 6, 2]).is_err());
    assert!(infer(&[5, 1, 4], &[2, 6, 4], &[1, 6, 2]).is_err());
    assert!(infer(&[5, 4], &[1, 6, 4], &[1, 6, 2]).is_err());
    let (x, r) = (Fact::concrete(DType::F32, &[5, 1, 4]), Fact::concrete(DType::F32, &[1, 6, 2]));
    assert!(op.infer(Inputs::new(&[Some(&x), None, Some(&r)])).is_err());
}

#[test]
fn a_sequence_longer_than_its_axis_is_refused() {
    let mut inputs = bidirectional(1);
    inputs[4] = Tensor::vector(vec![2i32, 4]);
    let op = build("RNN", &both_ways(None), 6).unwrap();
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Some).collect();
    let error = op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
    let error = op.eval(Inputs::new(&inputs), &Budget::new(16, 10)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit);
}
