//! What import makes of well-formed models: functions, bodies, defaults, old opsets, names; and that export keeps it.

mod support;

use bytes::Bytes;
use onrush::graph::Metadata;
use onrush::onnx::{Imported, LoadOptions, export, import, import_reader};
use onrush::ops::Attr;
use onrush::{Dim, ErrorKind, Feeds, Model, Tensor};
use std::any::Any;
use support::*;

#[track_caller]
fn load(model: &Message) -> Imported {
    import(Bytes::from(model.0.clone()), &LoadOptions::default()).unwrap()
}

/// The first output, as imported and after a round trip through export.
#[track_caller]
fn run(model: &Message, inputs: &[Tensor]) -> Vec<f32> {
    let imported = load(model);
    let answer = imported.graph.interpret(inputs).unwrap()[0].to_f32_vec().unwrap();
    let again = import(export(&imported.graph).unwrap().into(), &LoadOptions::default()).unwrap();
    let names = |m: &Imported| -> Vec<String> {
        let values = m.graph.inputs().iter().chain(m.graph.outputs());
        values.map(|id| m.graph.value(*id).name().to_owned()).collect()
    };
    assert_eq!(names(&again), names(&imported));
    assert_eq!(again.graph.interpret(inputs).unwrap()[0].to_f32_vec().unwrap(), answer);
    answer
}

fn pair(a: f32, b: f32) -> Tensor {
    Tensor::vector(vec![a, b])
}

#[test]
fn what_the_file_says_of_itself() {
    let graph = between(vec![node("Relu", &["x"], &["y"], &[])], vec![]);
    let model = graph
        .model(17)
        .text(2, "writer")
        .text(3, "1.2")
        .text(4, "com.example")
        .int(5, 3)
        .text(6, "about")
        .message(14, &Message::new().text(1, "author").text(2, "me"))
        .message(8, &Message::new().text(1, "com.example").int(2, 2));
    let imported = import_reader(&model.0[..], &LoadOptions::default()).unwrap();
    let said = imported.graph.metadata();
    assert_eq!((imported.ir_version, said.model_version), (8, 3));
    assert_eq!((said.producer_name.as_str(), said.producer_version.as_str()), ("writer", "1.2"));
    assert_eq!((said.domain.as_str(), said.doc_string.as_str()), ("com.example", "about"));
    assert_eq!(imported.opsets, [(String::new(), 17), ("com.example".to_owned(), 2)]);
    assert_eq!(said.properties, [("author".to_owned(), "me".to_owned())]);
    assert_eq!(imported.graph.name(), "made in code");
    let again = import(export(&imported.graph).unwrap().into(), &LoadOptions::default()).unwrap();
    assert_eq!(again.graph.metadata(), said);
    // What has been read from no file says who writes it.
    let mut silent = imported.graph.clone();
    silent.set_metadata(Metadata::default());
    let again = import(export(&silent).unwrap().into(), &LoadOptions::default()).unwrap();
    assert_eq!(again.graph.metadata().producer_name, "onrush");
}

#[test]
fn remarks_on_every_part() {
    let pair = |key: &str| Message::new().text(1, key).text(2, "value");
    let mut add = node("Add", &["x", "w"], &["sum"], &[]).text(6, "adds").message(9, &pair("node"));
    add = add.message(9, &pair("again"));
    let then = Graph {
        nodes: vec![node("Relu", &["sum"], &["t"], &[]).text(6, "within a branch")],
        outputs: vec![unshaped("t", F32)],
        ..Graph::default()
    };
    let other = Graph {
        nodes: vec![node("Neg", &["sum"], &["e"], &[])],
        outputs: vec![unshaped("e", F32)],
        ..Graph::default()
    };
    let branches = [body("then_branch", &then.message().text(10, "a branch")), body("else_branch", &other.message())];
    let graph = Graph {
        nodes: vec![add, node("If", &["c"], &["y"], &branches)],
        initializers: vec![floats("w", &[2], &[1.0, 2.0]).text(12, "weights").message(16, &pair("tensor"))],
        inputs: vec![value("x", F32, &[2]).text(3, "an input").message(4, &pair("input")), value("c", BOOL, &[])],
        outputs: vec![value("y", F32, &[2]).text(3, "an output")],
    };
    let between = value("sum", F32, &[2]).text(3, "in between");
    let graph = graph.message().text(10, "a graph").message(13, &between).message(16, &pair("graph"));
    let imported = load(&header(17).message(7, &graph));
    let said = imported.graph.metadata();
    assert_eq!((said.graph.doc_string.as_str(), said.graph.properties.len()), ("a graph", 1));
    assert_eq!((said.nodes["sum"].doc_string.as_str(), said.nodes["sum"].properties.len()), ("adds", 2));
    let of_values: Vec<&str> = said.values.values().map(|remark| remark.doc_string.as_str()).collect();
    assert_eq!(of_values, ["in between", "weights", "an input", "an output"]);
    assert_eq!(said.values.values().filter(|remark| !remark.properties.is_empty()).count(), 2);
    let again = import(export(&imported.graph).unwrap().into(), &LoadOptions::default()).unwrap();
    let mut expected = said.clone();
    (expected.producer_name, expected.producer_version) = ("onrush".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    assert_eq!(again.graph.metadata(), &expected);
    // Bodies keep theirs.
    for graph in [&imported.graph, &again.graph] {
        let (_, node) = graph.nodes().unwrap().find(|(_, node)| node.op().name() == "If").unwrap();
        let attrs = node.op().attrs();
        let Some(Attr::Body(then)) = attrs.get("then_branch") else { panic!("it has a branch") };
        let then = (then.as_ref() as &dyn Any).downcast_ref::<onrush::graph::Graph>().unwrap();
        assert_eq!((then.metadata().graph.doc_string.as_str(), then.metadata().nodes.len()), ("a branch", 1));
    }
}

#[test]
fn declared_shapes_of_what_only_a_run_can_tell() {
    let graph = Graph {
        nodes: vec![node("Reshape", &["x", "to"], &["y"], &[])],
        initializers: vec![],
        inputs: vec![value("x", F32, &[2]), unshaped("to", I64)],
        outputs: vec![value("y", F32, &[1, 2])],
    };
    let imported = load(&graph.model(17));
    assert_eq!(imported.graph.fact(imported.graph.outputs()[0]).rank(), None);
    let again = load(&Message(export(&imported.graph).unwrap()));
    assert_eq!(again.graph.metadata().declared["y"], [Dim::Known(1), Dim::Known(2)]);
    let x = [pair(1.0, 2.0), Tensor::vector(vec![2i64, 1, 1])];
    assert_eq!(again.graph.interpret(&x).unwrap()[0].shape().to_vec(), [2, 1, 1]);
}

#[test]
fn nodes_in_any_order() {
    let nodes = vec![node("Neg", &["a"], &["y"], &[]), node("Relu", &["x"], &["a"], &[])];
    assert_eq!(run(&between(nodes, vec![]).model(17), &[pair(-1.0, 2.0)]), [-0.0, -2.0]);
}

#[test]
fn inputs_with_a_default_are_constants() {
    let mut graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![floats("w", &[2], &[1.0, 2.0])]);
    graph.inputs.push(value("w", F32, &[2]));
    let imported = load(&graph.model(17));
    assert_eq!(imported.graph.inputs().len(), 1);
    let [overridable] = imported.overridable.as_slice() else { panic!("one input has a default") };
    assert_eq!(overridable.name, "w");
    assert!(imported.graph.constant_of(overridable.value).is_some());
    assert_eq!(run(&graph.model(17), &[pair(1.0, 1.0)]), [2.0, 3.0]);
}

#[test]
fn a_default_that_is_kept_can_be_overridden() {
    let mut graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![floats("w", &[2], &[1.0, 2.0])]);
    graph.inputs.push(value("w", F32, &[2]));
    let bytes = graph.model(17);
    let load = |name: &str| {
        let options = LoadOptions::default().overridable_inputs([name]);
        Model::from_shared(Bytes::copy_from_slice(&bytes.0), &options)
    };
    let model = load("w").unwrap();
    assert!(model.inputs()[0].default.is_none());
    assert_eq!(model.inputs()[1].default, Some(pair(1.0, 2.0)));
    let answer = |feeds: Feeds| model.run(feeds).unwrap()["y"].as_slice::<f32>().unwrap().to_vec();
    assert_eq!(answer([("x", pair(1.0, 1.0))].into()), [2.0, 3.0]);
    assert_eq!(answer([("x", pair(1.0, 1.0)), ("w", pair(5.0, 6.0))].into()), [6.0, 7.0]);
    assert_eq!(load("x").unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// The type of a vector of floats whose length has a name.
fn named_shape(name: &str) -> Message {
    let dim = Message::new().message(1, &Message::new().text(2, name));
    Message::new().int(1, F32).message(2, &dim)
}

#[test]
fn dimensions_have_names() {
    let dim = |d: Message| Message::new().message(1, &d);
    let shape = Message(
        [dim(Message::new().text(2, "N")), dim(Message::new()), dim(Message::new().int(1, 3))].map(|m| m.0).concat(),
    );
    let tensor = Message::new().int(1, F32).message(2, &shape);
    let input = Message::new().text(1, "x").message(2, &Message::new().message(1, &tensor));
    let mut graph = Graph { inputs: vec![input], ..between(vec![node("Relu", &["x"], &["y"], &[])], vec![]) };
    let imported = load(&graph.model(17));
    let fact = imported.graph.fact(imported.graph.outputs()[0]).clone();
    assert_eq!(fact.to_string(), "f32[N, x_1, 3]");
    assert_eq!(fact.dims().unwrap()[2], Dim::Known(3));
    let again = import(export(&imported.graph).unwrap().into(), &LoadOptions::default()).unwrap();
    assert_eq!(again.graph.fact(again.graph.inputs()[0]).to_string(), "f32[N, x_1, 3]");
    // A name that the file has is not made again.
    let z = Message::new().text(1, "z").message(2, &Message::new().message(1, &named_shape("x_1")));
    graph.inputs.push(z);
    let imported = load(&graph.model(17));
    assert_eq!(imported.graph.fact(imported.graph.inputs()[0]).to_string(), "f32[N, x_1_, 3]");
}

#[test]
fn weights_share_the_memory_of_the_file() {
    // The alignment of the data within the file is chance, so the file is made with each of four paddings.
    let shared = (0..4).any(|padding| {
        let graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![floats("w", &[2], &[1.0, 2.0])]);
        let padded = Message::new().text(6, &"-".repeat(padding)).0;
        let bytes = Bytes::from([padded, graph.model(17).0].concat());
        let file = bytes.as_ptr_range();
        let imported = import(bytes, &LoadOptions::default()).unwrap();
        let (_, add) = imported.graph.nodes().unwrap().next().unwrap();
        let weights = imported.graph.constant_of(add.input(1).unwrap()).unwrap();
        file.contains(&weights.as_bytes().as_ptr())
    });
    assert!(shared);
}

#[test]
fn old_opsets() {
    // Clip had its bounds as attributes; the newest form has them as inputs.
    let bound = |name: &str, v: f32| Message::new().text(1, name).int(20, 1).float(2, v);
    let clip = node("Clip", &["x"], &["y"], &[bound("min", 0.0), bound("max", 1.0)]);
    assert_eq!(run(&between(vec![clip], vec![]).model(7), &[pair(-1.0, 2.0)]), [0.0, 1.0]);
    // The first format imports no opset at all.
    let not = Graph {
        nodes: vec![node("Not", &["x"], &["y"], &[])],
        inputs: vec![value("x", BOOL, &[2])],
        outputs: vec![unshaped("y", BOOL)],
        initializers: vec![],
    };
    let model = Message::new().int(1, 2).message(7, &not.message());
    assert_eq!(run(&model, &[Tensor::vector(vec![true, false])]), [0.0, 1.0]);
}

#[test]
fn outputs_that_nothing_takes_are_left_out() {
    let nodes = vec![node("Dropout", &["x"], &["y", "mask"], &[])];
    assert_eq!(run(&between(nodes, vec![]).model(7), &[pair(1.0, 2.0)]), [1.0, 2.0]);
    // The number of outputs of Split says how many pieces there are.
    let nodes = vec![node("Split", &["x"], &["y", "rest"], &[])];
    assert_eq!(run(&between(nodes, vec![]).model(17), &[pair(1.0, 2.0)]), [1.0]);
}

#[test]
fn sparse_initializers_become_dense() {
    let sparse = Message::new().message(1, &floats("w", &[1], &[5.0])).message(2, &integers("i", &[1])).int(3, 2);
    let graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![]);
    let model = header(17).message(7, &graph.message().message(15, &sparse));
    assert_eq!(run(&model, &[pair(1.0, 1.0)]), [1.0, 6.0]);
}

fn branch(name: &str, nodes: Vec<Message>, output: &str) -> Message {
    body(name, &Graph { nodes, outputs: vec![unshaped(output, F32)], ..Graph::default() }.message())
}

/// `c` picks between `inner`, an `If` on `d`, and a branch that yields an outer constant as it is.
fn nested() -> Message {
    let inner = vec![
        branch("then_branch", vec![node("Add", &["x", "w"], &["t"], &[])], "t"),
        branch("else_branch", vec![node("Sub", &["h", "w"], &["t"], &[])], "t"),
    ];
    let outer =
        vec![branch("then_branch", vec![node("If", &["d"], &["u"], &inner)], "u"), branch("else_branch", vec![], "w")];
    let mut graph = between(
        vec![node("Neg", &["x"], &["h"], &[]), node("If", &["c"], &["y"], &outer)],
        vec![floats("w", &[2], &[10.0, 20.0])],
    );
    graph.inputs.extend([value("c", BOOL, &[]), value("d", BOOL, &[])]);
    graph.model(17)
}

#[test]
fn bodies_see_the_graphs_around_them() {
    let flag = Tensor::scalar::<bool>;
    let run = |c, d| run(&nested(), &[pair(1.0, 2.0), flag(c), flag(d)]);
    assert_eq!(run(true, true), [11.0, 22.0]);
    assert_eq!(run(true, false), [-11.0, -22.0]);
    assert_eq!(run(false, true), [10.0, 20.0]);
}

#[test]
fn captures_are_outer_names_again_when_exported() {
    let written = export(&load(&nested()).graph).unwrap();
    // The weights lie in the file once, though three graphs use them.
    let weights: Vec<u8> = [10.0f32, 20.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(written.windows(weights.len()).filter(|w| *w == weights).count(), 1);
    let conditional = load(&Message(written)).graph;
    let node = conditional.nodes().unwrap().map(|(_, n)| n).find(|n| n.op().name() == "If").unwrap().clone();
    assert_eq!((node.op().captures(), node.inputs().len()), (3, 4));
}

/// `s`, `ys` of a scan of opset 8 that sums two rows of four, each of its own length where there are lengths.
fn batched_scan(lengths: bool, backwards: bool) -> Message {
    let body_graph = Graph {
        nodes: vec![node("Add", &["a", "e"], &["o"], &[]), node("Mul", &["o", "w"], &["p"], &[])],
        inputs: vec![value("a", F32, &[2]), value("e", F32, &[2])],
        outputs: vec![value("o", F32, &[2]), value("p", F32, &[2])],
        initializers: vec![],
    };
    let attributes =
        [int("num_scan_inputs", 1), ints("directions", &[i64::from(backwards)]), body("body", &body_graph.message())];
    let first = if lengths { "lengths" } else { "" };
    let scan = node("Scan", &[first, "s0", "xs"], &["s", "ys"], &attributes);
    let mut inputs = vec![value("s0", F32, &[2, 2]), value("xs", F32, &[2, 4, 2]), value("w", F32, &[2])];
    if lengths {
        inputs.push(value("lengths", I64, &[2]));
    }
    let outputs = vec![value("ys", F32, &[2, 4, 2]), value("s", F32, &[2, 2])];
    Graph { nodes: vec![scan], inputs, outputs, initializers: vec![] }.model(8)
}

#[test]
fn a_scan_of_opset_8_is_written_in_newer_words() {
    let count = |n: usize| (0..n).map(|i| i as f32).collect::<Vec<_>>();
    for (lengths, backwards) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut inputs =
            vec![Tensor::new([2, 2], count(4)).unwrap(), Tensor::new([2, 4, 2], count(16)).unwrap(), pair(1.0, -1.0)];
        if lengths {
            inputs.push(Tensor::vector(vec![4i64, 2]));
        }
        let model = batched_scan(lengths, backwards);
        let written = export(&load(&model).graph).unwrap();
        assert!(!written.windows(9).any(|w| w == b"ai.onrush"), "a domain that no other reader knows");
        let answer = run(&model, &inputs);
        assert_eq!(answer[..2], if backwards { [6.0, -8.0] } else { [0.0, -2.0] });
    }
}

#[test]
fn no_model_names_operators_of_this_crate() {
    let mut scan = node("BatchScan", &["", "x", "x"], &["y"], &[]);
    scan = scan.text(7, "ai.onrush");
    let model = between(vec![scan], vec![]).model(17).message(8, &Message::new().text(1, "ai.onrush").int(2, 1));
    let error = import(Bytes::from(model.0), &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn what_an_operator_cannot_be_without_is_written() {
    let counting = Graph {
        nodes: vec![node("Identity", &["go"], &["on"], &[]), node("Identity", &["i"], &["z"], &[])],
        inputs: vec![value("i", I64, &[]), value("go", BOOL, &[])],
        outputs: vec![value("on", BOOL, &[]), value("z", I64, &[])],
        initializers: vec![],
    };
    let nodes = vec![
        node("Loop", &["n", ""], &["all"], &[body("body", &counting.message())]),
        node("Cast", &["all"], &["y"], &[int("to", 1)]),
    ];
    let written =
        export(&load(&between(nodes, vec![raw("n", I64, &[], &3i64.to_le_bytes())]).model(17)).graph).unwrap();
    // Field 1 of the node: "n", and an empty name behind it.
    assert!(written.windows(5).any(|w| w == b"\x0a\x01n\x0a\x00"));
}

#[test]
fn scales_without_elements_are_not_written() {
    let resize = node("Resize", &["x", "", "none", "sizes"], &["y"], &[text("mode", "nearest")]);
    let mut graph = between(vec![resize], vec![integers("sizes", &[4])]);
    graph.inputs.push(value("none", F32, &[0]));
    let written = export(&load(&graph.model(13)).graph).unwrap();
    assert!(written.windows(10).any(|w| w == b"\x0a\x01x\x0a\x00\x0a\x00\x0a\x05s"));
    let given = [pair(1.0, 2.0), Tensor::vector(Vec::<f32>::new())];
    assert_eq!(run(&graph.model(13), &given), [1.0, 1.0, 2.0, 2.0]);
}

/// A function of `a` and `b` that yields `p` and `q`; attributes `alpha`, and `beta` with a default.
fn function(name: &str, nodes: Vec<Message>) -> Message {
    let beta = Message::new().text(1, "beta").int(20, 1).float(2, 0.5);
    let imports = [("", 17), ("f", 1)].map(|(d, v)| Message::new().text(1, d).int(2, v));
    let names = [(4, "a"), (4, "b"), (5, "p"), (5, "q"), (6, "alpha"), (10, "f")];
    let function = names.iter().fold(Message::new().text(1, name), |f, (field, text)| f.text(*field, text));
    function.messages(7, nodes).messages(9, imports).message(11, &beta)
}

fn call(name: &str, inputs: &[&str], outputs: &[&str], attributes: &[Message]) -> Message {
    node(name, inputs, outputs, attributes).text(7, "f")
}

fn referring(name: &str, to: &str) -> Message {
    Message::new().text(1, name).int(20, 1).text(21, to)
}

fn with_functions(graph: &Graph, functions: Vec<Message>) -> Message {
    graph.model(17).message(8, &Message::new().text(1, "f").int(2, 1)).messages(25, functions)
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let elu = |input: &str, output: &str, to: &str| node("LeakyRelu", &[input], &[output], &[referring("alpha", to)]);
    let inner = function("inner", vec![elu("a", "p", "alpha"), elu("a", "q", "beta")]);
    // Calls twice, hands its own attribute on, and leaves an input out.
    let again = [referring("alpha", "alpha"), Message::new().text(1, "beta").int(20, 1).float(2, 0.25)];
    let outer = function(
        "outer",
        vec![
            call("inner", &["a"], &["m", "n"], &again),
            call("inner", &["m", ""], &["", "k"], &[]),
            node("Add", &["n", "k"], &["p"], &[]),
            node("Identity", &["a"], &["q"], &[]),
        ],
    );
    let alpha = Message::new().text(1, "alpha").int(20, 1).float(2, 2.0);
    let graph = between(vec![call("outer", &["x"], &["y"], &[alpha])], vec![]);
    let model = with_functions(&graph, vec![inner, outer]);
    // -4: alpha gives m = -8, beta gives n = -1, and beta by default k = -4.
    assert_eq!(run(&model, &[pair(-4.0, 3.0)]), [-5.0, 6.0]);
    let imported = load(&model);
    let names: Vec<String> = imported.graph.nodes().unwrap().map(|(_, n)| n.name().to_owned()).collect();
    assert!(names.iter().all(|n| n.starts_with("y_node/")), "{names:?}");
}

#[test]
fn what_a_function_passes_through_keeps_the_names_of_the_call() {
    // Yields `a` as it came in, and `q` twice.
    let pass = Message::new()
        .text(1, "both")
        .text(4, "a")
        .text(4, "b")
        .text(5, "a")
        .text(5, "q")
        .text(5, "q")
        .messages(7, vec![node("Neg", &["b"], &["q"], &[])])
        .messages(9, [Message::new().text(1, "").int(2, 17)])
        .text(10, "f");
    let mut graph = between(vec![call("both", &["x", "x"], &["y", "n", "z"], &[])], vec![]);
    graph.outputs.extend([unshaped("n", F32), unshaped("z", F32)]);
    let model = with_functions(&graph, vec![pass]);
    assert_eq!(run(&model, &[pair(1.0, 2.0)]), [1.0, 2.0]);
    let outputs = load(&model).graph.interpret(&[pair(1.0, 2.0)]).unwrap();
    assert_eq!(outputs[1], outputs[2]);
    assert_eq!(outputs[2].to_f32_vec().unwrap(), [-1.0, -2.0]);
}

#[test]
fn bodies_within_functions_see_its_values() {
    let branches = [
        branch("then_branch", vec![node("LeakyRelu", &["a"], &["t"], &[referring("alpha", "beta")])], "t"),
        branch("else_branch", vec![node("Neg", &["a"], &["t"], &[])], "t"),
    ];
    let nodes = vec![node("If", &["b"], &["p"], &branches), node("Identity", &["a"], &["q"], &[])];
    let mut graph = between(vec![call("choose", &["x", "c"], &["y"], &[])], vec![]);
    graph.inputs.push(value("c", BOOL, &[]));
    let model = with_functions(&graph, vec![function("choose", nodes)]);
    assert_eq!(run(&model, &[pair(-1.0, 2.0), Tensor::scalar(true)]), [-0.5, 2.0]);
    assert_eq!(run(&model, &[pair(-1.0, 2.0), Tensor::scalar(false)]), [1.0, -2.0]);
}

#[test]
fn an_output_may_be_an_input_or_a_constant() {
    let mut graph = between(vec![node("Relu", &["x"], &["y"], &[])], vec![floats("w", &[2], &[1.0, 2.0])]);
    graph.outputs.extend([unshaped("x", F32), unshaped("w", F32), unshaped("y", F32)]);
    let imported = load(&graph.model(17));
    let again = import(export(&imported.graph).unwrap().into(), &LoadOptions::default()).unwrap();
    for graph in [&imported.graph, &again.graph] {
        let outputs = graph.interpret(&[pair(-1.0, 3.0)]).unwrap();
        let values: Vec<_> = outputs.iter().map(|t| t.to_f32_vec().unwrap()).collect();
        assert_eq!(values, [[0.0, 3.0], [-1.0, 3.0], [1.0, 2.0], [0.0, 3.0]]);
    }
}

#[test]
fn constants_of_every_form() {
    let attribute = |name: &str| Message::new().text(1, name);
    let cases = [
        (attribute("value").int(20, 4).message(5, &floats("", &[2], &[1.0, 2.0])), vec![1.0, 2.0]),
        (attribute("value_float").int(20, 1).float(2, 1.5), vec![1.5]),
        (attribute("value_floats").int(20, 6).float(7, 1.5).float(7, 2.5), vec![1.5, 2.5]),
        (int("value_int", 3), vec![3.0]),
        (ints("value_ints", &[3, 4]), vec![3.0, 4.0]),
    ];
    for (value, expected) in cases {
        let nodes = vec![
            node("Constant", &[], &["w"], &[value]),
            node("Cast", &["w"], &["v"], &[int("to", 1)]),
            node("Expand", &["v", "shape"], &["e"], &[]),
            node("Add", &["z", "e"], &["y"], &[]),
        ];
        let graph = Graph {
            initializers: vec![integers("shape", &[expected.len() as i64]), floats("z", &[], &[0.0])],
            ..between(nodes, vec![])
        };
        assert_eq!(run(&graph.model(17), &[pair(0.0, 0.0)]), expected);
    }
}
