//! Compiled models in files: the same answers bit for bit, whatever is packed, and a typed error for every lie.

use onrush::graph::{Graph, ValueId};
use onrush::ops::elementwise::{Binary, BinaryKind, Unary, UnaryKind};
use onrush::ops::matrix::MatMul;
use onrush::ops::nn::{Conv, Padding, Softmax};
use onrush::ops::quant::{DequantizeLinear, QuantizeLinear};
use onrush::ops::recurrent::{Activation, Direction, Gru, Lstm, Recurrence};
use onrush::{CompileOptions, CompiledModel, DType, Dim, ErrorKind, Fact, Model, Symbol, Tensor};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let element = |i: usize| ((i * 37 + seed * 101 + i * i % 13 * 5) % 128) as f32 / 64.0 - 1.0;
    Tensor::new(shape, (0..len).map(element).collect::<Vec<f32>>()).unwrap()
}

struct Case {
    name: &'static str,
    graph: Graph,
    input: Tensor,
}

fn conv(pads: i64, group: usize) -> Conv {
    let padding = Padding::Explicit { begin: vec![pads; 2], end: vec![pads; 2] };
    Conv { group, kernel: None, strides: vec![], dilations: vec![], padding }
}

/// A stem, a pointwise, a grouped and a depthwise convolution with activations; a residual.
fn convolutions() -> Case {
    let mut graph = Graph::new("convolutions");
    let input = numbers(&[1, 3, 9, 8], 1);
    let mut last = graph.input("x", Fact::concrete(DType::F32, input.shape())).unwrap();
    let sizes: [(&[usize], i64, usize); 4] =
        [(&[24, 3, 3, 3], 1, 1), (&[32, 24, 1, 1], 0, 1), (&[32, 16, 3, 3], 1, 2), (&[32, 1, 3, 3], 1, 32)];
    for (seed, (shape, pads, group)) in sizes.into_iter().enumerate() {
        let weight = graph.constant("w", numbers(shape, seed + 2)).unwrap();
        let made = graph.op("conv", conv(pads, group), &[last, weight]).unwrap();
        let mut made = graph.op("relu", Unary(UnaryKind::Relu), &[made]).unwrap();
        if shape[0] == shape[1] * group {
            made = graph.op("sum", Binary(BinaryKind::Add), &[made, last]).unwrap();
        }
        last = made;
    }
    graph.output(last).unwrap();
    Case { name: "convolutions", graph, input }
}

/// Products with bias and activations, over a batch that a request names.
fn products() -> Case {
    let mut graph = Graph::new("products");
    let rows = Dim::Symbol(Symbol::new("rows"));
    let shape = Some(vec![rows, Dim::Known(40)]);
    let x = graph.input("x", Fact { dtype: DType::F32, shape, value: None, content: None }).unwrap();
    let mut last = x;
    for (seed, shape) in [[40, 70], [70, 40]].iter().enumerate() {
        let weight = graph.constant("w", numbers(shape, seed)).unwrap();
        let bias = graph.constant("b", numbers(&[shape[1]], seed + 7)).unwrap();
        last = graph.op("product", MatMul, &[last, weight]).unwrap();
        last = graph.op("biased", Binary(BinaryKind::Add), &[last, bias]).unwrap();
        last = graph.op("clipped", Unary(UnaryKind::HardSigmoid { alpha: 0.2, beta: 0.5 }), &[last]).unwrap();
    }
    last = graph.op("softmax", Softmax { axis: -1 }, &[last]).unwrap();
    graph.output(last).unwrap();
    graph.output(last).unwrap();
    Case { name: "products", graph, input: numbers(&[3, 40], 9) }
}

fn recurrent() -> Case {
    let mut graph = Graph::new("recurrent");
    let (input, hidden) = (numbers(&[5, 2, 6], 4), 9);
    let mut last = graph.input("x", Fact::concrete(DType::F32, input.shape())).unwrap();
    for (name, gates) in [("lstm", 4), ("gru", 3)] {
        use Activation::{Sigmoid, Tanh};
        let cell: &[Activation] = if gates == 4 { &[Sigmoid, Tanh, Tanh] } else { &[Sigmoid, Tanh] };
        let width = graph.fact(last).concrete_shape().unwrap()[2];
        let (direction, clip) = (Direction::Bidirectional, None);
        let activations = cell.repeat(direction.count());
        let recurrence = Recurrence { hidden_size: None, direction, batch_first: false, activations, clip };
        let op: Arc<dyn onrush::ops::Op> = match gates {
            4 => Arc::new(Lstm { recurrence, input_forget: false }),
            _ => Arc::new(Gru { recurrence, linear_before_reset: false }),
        };
        let w = graph.constant("w", numbers(&[2, gates * hidden, width], 5)).unwrap();
        let r = graph.constant("r", numbers(&[2, gates * hidden, hidden], 6)).unwrap();
        let made = graph.node(name, op, &[Some(last), Some(w), Some(r)], &[Some(name), None]).unwrap();
        let op = onrush::ops::reduce::Reduce {
            kind: onrush::ops::reduce::ReduceKind::Sum,
            keep_dims: false,
            noop_with_empty_axes: false,
        };
        let axis = graph.constant("axis", Tensor::vector(vec![1i64])).unwrap();
        last = graph.op("both", op, &[made[0].unwrap(), axis]).unwrap();
    }
    graph.output(last).unwrap();
    Case { name: "recurrent", graph, input }
}

/// The same in bytes: convolutions of every form, then a product.
fn quantized() -> Case {
    let mut graph = Graph::new("quantized");
    let input = numbers(&[1, 3, 6, 5], 3);
    let x = graph.input("x", Fact::concrete(DType::F32, input.shape())).unwrap();
    let scale = graph.constant("scale", Tensor::scalar(0.02f32)).unwrap();
    let zero = graph.constant("zero", Tensor::scalar(120u8)).unwrap();
    let again = |graph: &mut Graph, value: ValueId| {
        let q = graph.op("q", QuantizeLinear::default(), &[value, scale, zero]).unwrap();
        graph.op("dq", DequantizeLinear::default(), &[q, scale, zero]).unwrap()
    };
    let weight = |graph: &mut Graph, shape: &[usize], seed: usize| {
        let len: usize = shape.iter().product();
        let bytes: Vec<i8> = (0..len).map(|i| ((i * 31 + seed * 7) % 255) as i32 - 127).map(|v| v as i8).collect();
        let bytes = graph.constant("bytes", Tensor::new(shape, bytes).unwrap()).unwrap();
        let scale = graph.constant("w scale", Tensor::scalar(0.003f32)).unwrap();
        let zero = graph.constant("w zero", Tensor::scalar(0i8)).unwrap();
        graph.op("w", DequantizeLinear::default(), &[bytes, scale, zero]).unwrap()
    };
    let mut last = again(&mut graph, x);
    let sizes: [(&[usize], i64, usize); 3] = [(&[24, 3, 3, 3], 1, 1), (&[24, 1, 3, 3], 1, 24), (&[16, 12, 1, 1], 0, 2)];
    for (seed, (shape, pads, group)) in sizes.into_iter().enumerate() {
        let w = weight(&mut graph, shape, seed);
        last = graph.op("conv", conv(pads, group), &[last, w]).unwrap();
        last = again(&mut graph, last);
    }
    let w = weight(&mut graph, &[5, 20], 9);
    last = graph.op("product", MatMul, &[last, w]).unwrap();
    last = again(&mut graph, last);
    graph.output(last).unwrap();
    Case { name: "quantized", graph, input }
}

fn cases() -> Vec<Case> {
    vec![convolutions(), products(), recurrent(), quantized()]
}

fn options() -> CompileOptions {
    CompileOptions::new().threads(1)
}

/// The model of a case, with a plan for its input.
fn compiled(case: &Case) -> CompiledModel {
    let model = Model::from_graph(case.graph.clone()).unwrap().compile(&options()).unwrap();
    model.plan(&[case.input.shape().clone()]).unwrap();
    model
}

fn bits(model: &CompiledModel, input: &Tensor) -> Vec<Vec<u8>> {
    let outputs = model.run([input.clone()]).unwrap().into_vec();
    outputs.iter().map(|t| t.as_bytes().to_vec()).collect()
}

#[test]
fn answers_are_the_same_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for case in cases() {
        let path = folder.path().join(case.name);
        let model = compiled(&case);
        let expected = bits(&model, &case.input);
        model.save_compiled(&path).unwrap();
        let again = Model::load_compiled(&path, &options().verify(true)).unwrap();
        assert_eq!(bits(&again, &case.input), expected, "{}", case.name);
        assert_eq!((again.inputs(), again.outputs()), (model.inputs(), model.outputs()), "{}", case.name);
        assert_eq!(again.graph().node_count(), model.graph().node_count(), "{}", case.name);
        let fallbacks = |model: &CompiledModel| model.plan(&[case.input.shape().clone()]).unwrap().fallbacks();
        assert_eq!(fallbacks(&again), fallbacks(&model), "{}", case.name);
        // What was loaded can be saved again, over its own file, and loaded by what has other threads.
        again.save_compiled(&path).unwrap();
        let third = Model::load_compiled(&path, &CompileOptions::new().threads(2).micro_batch(1)).unwrap();
        assert_eq!(bits(&third, &case.input), expected, "{}", case.name);
        assert_eq!(bits(&again, &case.input), expected, "{}", case.name);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len(), cases().len(), "{left:?}");
}

#[test]
fn other_shapes_than_those_saved_are_planned_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("products");
    let model = Model::from_graph(products().graph).unwrap().compile(&options()).unwrap();
    // Without a plan: one is made for a single row, so that there are packed weights.
    model.save_compiled(&path).unwrap();
    let again = Model::load_compiled(&path, &options()).unwrap();
    for rows in [1, 2, 7] {
        let input = numbers(&[rows, 40], rows);
        assert_eq!(bits(&again, &input), bits(&model, &input));
    }
}

/// The header's bytes that say how long the index is.
fn index_end(file: &[u8]) -> usize {
    128 + u64::from_le_bytes(file[80..88].try_into().unwrap()) as usize
}

fn load(path: &Path, file: &[u8]) -> Result<CompiledModel, onrush::Error> {
    std::fs::write(path, file).unwrap();
    Model::load_compiled(path, &options())
}

/// A file as small as they come, and a place for its damaged siblings.
fn small() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let mut graph = Graph::new("small");
    let x = graph.input("x", Fact::concrete(DType::F32, &[1, 2])).unwrap();
    let w = graph.constant("w", numbers(&[2, 3], 0)).unwrap();
    let y = graph.op("y", MatMul, &[x, w]).unwrap();
    graph.output(y).unwrap();
    Model::from_graph(graph).unwrap().compile(&options()).unwrap().save_compiled(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    (folder, path, file)
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let (_folder, path, file) = small();
    load(&path, &file).unwrap();
    let open = std::fs::File::options().write(true).open(&path).unwrap();
    for length in (0..file.len()).rev() {
        open.set_len(length as u64).unwrap();
        let error = Model::load_compiled(&path, &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{length}: {error}");
        assert!(error.to_string().contains("compile"), "{error}");
    }
}

#[test]
fn every_changed_byte_of_header_and_index_is_seen() {
    let (_folder, path, file) = small();
    let mut open = std::fs::File::options().write(true).open(&path).unwrap();
    let mut put = |at: usize, byte: u8| {
        open.seek(SeekFrom::Start(at as u64)).unwrap();
        open.write_all(&[byte]).unwrap();
    };
    for (at, &byte) in file[..index_end(&file)].iter().enumerate() {
        put(at, byte ^ (1 << (at % 8)));
        let error = Model::load_compiled(&path, &options()).unwrap_err();
        let known = matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Stale);
        assert!(known, "byte {at}: {error}");
        put(at, byte);
    }
    load(&path, &file).unwrap();
}

#[test]
fn damaged_weights_are_seen_where_it_is_asked_for() {
    let (_folder, path, mut file) = small();
    let last = file.len() - 1;
    file[last] ^= 1;
    load(&path, &file).unwrap();
    let error = Model::load_compiled(&path, &options().verify(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[test]
fn a_file_for_somebody_else_says_so() {
    let (_folder, path, file) = small();
    for (at, says) in [(8, "format"), (16, "version"), (48, "instruction set"), (64, "features"), (72, "options")] {
        let mut other = file.clone();
        other[at] ^= 1;
        let error = load(&path, &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
        assert!(error.to_string().contains(says) && error.to_string().contains("compile the model again"), "{error}");
    }
    std::fs::write(&path, &file).unwrap();
    let error = Model::load_compiled(&path, &options().optimize(false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    let missing = Model::load_compiled(path.with_extension("missing"), &options()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

/// Damage that a digest does not show, because whoever did it wrote a new one: it may be refused or answer wrongly, and
/// must not panic or read elsewhere.
#[test]
fn an_index_that_lies_is_refused_or_harmless() {
    let (_folder, path, file) = small();
    let mut same = file.clone();
    seal(&mut same);
    assert_eq!(same, file, "the digest here is that of the library");
    let mut refused = 0;
    for at in 128..index_end(&file) {
        let byte = file[at];
        for lie in [0, byte.wrapping_add(1), byte ^ 0x80, byte.wrapping_sub(1)] {
            let mut other = file.clone();
            other[at] = lie;
            seal(&mut other);
            match load(&path, &other) {
                Ok(model) => drop(model.run([numbers(&[1, 2], 1)])),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}

/// Writes the digest that the index has.
fn seal(file: &mut [u8]) {
    let end = index_end(file);
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let bytes = &file[128..end];
    let mut states = [1u64, 2, 3, 4];
    for block in bytes.chunks_exact(32) {
        for (state, word) in states.iter_mut().zip(block.chunks_exact(8)) {
            *state = step(*state, u64::from_le_bytes(word.try_into().unwrap()));
        }
    }
    let rest = bytes.chunks_exact(32).remainder().iter().fold(bytes.len() as u64, |s, &b| step(s, b.into()));
    let digest = states.into_iter().fold(rest, step);
    file[88..96].copy_from_slice(&digest.to_le_bytes());
}

#[test]
fn what_was_tuned_to_floats_is_compiled_and_kept_so() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("tunings.json"), folder.path().join("quantized"));
    let case = quantized();
    let model = Model::from_graph(case.graph).unwrap();
    let tune = || onrush::TuneOptions::new().budget(std::time::Duration::from_millis(5));
    let mut tuning = model.tune(&options(), [vec![case.input.clone()]], tune()).unwrap();
    (tuning.integers, tuning.pack_rows) = (false, Some(true));
    tuning.save(&file).unwrap();
    let integers =
        |model: &CompiledModel| model.graph().nodes().unwrap().any(|(_, node)| node.op().name() == "Quantized");
    let tuned = model.compile(&options().tuning(&file)).unwrap();
    assert!(integers(&model.compile(&options()).unwrap()) && !integers(&tuned));
    let floats = model.compile(&options().integers(false)).unwrap();
    assert_eq!(bits(&tuned, &case.input), bits(&floats, &case.input));
    tuned.save_compiled(&path).unwrap();
    let again = Model::load_compiled(&path, &options().tuning(&file)).unwrap();
    assert_eq!(bits(&again, &case.input), bits(&floats, &case.input));
    model.compile(&options()).unwrap().save_compiled(&path).unwrap();
    assert_eq!(Model::load_compiled(&path, &options().integers(false)).unwrap_err().kind(), ErrorKind::Stale);
}

#[test]
fn packed_rows_change_no_bit() {
    for case in cases() {
        let model = Model::from_graph(case.graph.clone()).unwrap();
        let of = |pack| bits(&model.compile(&options().pack_rows(pack)).unwrap(), &case.input);
        assert_eq!(of(Some(true)), of(None), "{}", case.name);
        assert_eq!(of(Some(false)), of(None), "{}", case.name);
    }
}

#[test]
fn what_was_tuned_is_kept_and_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tunings.json");
    let options = || CompileOptions::new().threads(2).winograd(false);
    let model = Model::from_graph(products().graph).unwrap();
    let plain = model.compile(&options()).unwrap();
    let inputs = [1, 8].map(|rows| numbers(&[rows, 40], rows));
    let measured = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = measured.clone();
    let tell = move |progress: &onrush::TuneProgress| seen.borrow_mut().push((progress.done, progress.total));
    let tune = onrush::TuneOptions::new().budget(std::time::Duration::from_millis(20)).progress(tell);
    let tuning = plain.tune(inputs.iter().map(|x| vec![x.clone()]), tune).unwrap();
    assert_eq!(tuning.plans.len(), 2);
    let measured = measured.borrow();
    assert!(measured.iter().enumerate().all(|(at, (done, _))| *done == at + 1));
    assert_eq!(measured.last().map(|(done, total)| done == total), Some(true));
    tuning.save(&file).unwrap();
    let path = folder.path().join("products");
    plain.save_compiled(&path).unwrap();
    let tuned = [
        model.compile(&options().tuning(&file)).unwrap(),
        Model::load_compiled(&path, &options().tuning(&file)).unwrap(),
        model.compile(&options().tuning(folder.path().join("none"))).unwrap(),
    ];
    for tuned in &tuned {
        assert_eq!(tuned.tuning_key().unwrap(), tuning.key);
        for input in &inputs {
            assert_eq!(bits(tuned, input), bits(&plain, input));
        }
    }
    // A choice that was written by hand shows that it is applied.
    let mut by_hand = tuning.clone();
    by_hand.plans[1].micro_batch = Some(3);
    by_hand.plans[1].parallel = false;
    by_hand.save(&file).unwrap();
    let tuned = model.compile(&options().tuning(&file)).unwrap();
    assert_eq!(tuned.plan(&[inputs[1].shape().clone()]).unwrap().micro_batch(), Some(3));
    assert_eq!(bits(&tuned, &inputs[1]), bits(&plain, &inputs[1]));
    std::fs::write(&file, "nothing").unwrap();
    assert_eq!(model.compile(&options().tuning(&file)).unwrap_err().kind(), ErrorKind::Malformed);
}
