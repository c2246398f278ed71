//! Graphs that break the rules of ONNX, or nest without end.

use super::support::*;
use super::{refused, refused_with};
use onrush::ErrorKind::{self, InvalidModel, Limit, Malformed, Unsupported};
use onrush::onnx::{LoadLimits, LoadOptions, import};
use onrush::{CompileOptions, Model, Shape};

#[track_caller]
fn refused_nodes(nodes: Vec<Message>, kind: ErrorKind, says: &[&str]) {
    refused(&between(nodes, vec![]).model(17).0, kind, says);
}

#[test]
fn cycles() {
    let nodes = vec![node("Add", &["x", "b"], &["a"], &[]), node("Relu", &["a"], &["b"], &[])];
    refused_nodes([nodes, vec![node("Relu", &["b"], &["y"], &[])]].concat(), InvalidModel, &["cycle", "(Add)"]);
    refused_nodes(vec![node("Relu", &["y"], &["y"], &[])], InvalidModel, &["cycle", "y_node"]);
    // Through a body.
    let branch = |name: &str| {
        let graph = Graph {
            nodes: vec![node("Relu", &["y"], &["t"], &[])],
            outputs: vec![unshaped("t", F32)],
            ..Graph::default()
        };
        body(name, &graph.message())
    };
    let mut graph = between(vec![node("If", &["c"], &["y"], &[branch("then_branch"), branch("else_branch")])], vec![]);
    graph.inputs.push(value("c", BOOL, &[]));
    refused(&graph.model(17).0, InvalidModel, &["cycle", "y_node"]);
}

#[test]
fn names_that_are_made_twice_or_never() {
    let twice = vec![node("Relu", &["x"], &["y"], &[]), node("Neg", &["x"], &["y"], &[])];
    refused_nodes(twice, InvalidModel, &["\"y\"", "(Relu)", "(Neg)"]);
    refused_nodes(vec![node("Relu", &["x"], &["x"], &[])], InvalidModel, &["\"x\""]);
    refused_nodes(vec![node("Split", &["x"], &["y", "y"], &[])], InvalidModel, &["\"y\""]);
    refused_nodes(vec![node("Relu", &["nowhere"], &["y"], &[])], InvalidModel, &["y_node", "\"nowhere\""]);
    refused_nodes(vec![node("Relu", &["x"], &["z"], &[])], InvalidModel, &["output \"y\"", "made by nothing"]);
    let relu = || vec![node("Relu", &["x"], &["y"], &[])];
    let w = floats("w", &[1], &[1.0]);
    refused(&between(relu(), vec![w.clone(), w]).model(17).0, InvalidModel, &["initializer", "\"w\""]);
    refused(&between(relu(), vec![floats("", &[1], &[1.0])]).model(17).0, InvalidModel, &["initializer", "no name"]);
    refused(&between(relu(), vec![floats("y", &[1], &[1.0])]).model(17).0, InvalidModel, &["\"y\""]);
    let mut graph = between(relu(), vec![]);
    graph.inputs.push(value("x", F32, &[2]));
    refused(&graph.model(17).0, InvalidModel, &["input \"x\"", "twice"]);
    graph.inputs = vec![Message::new().text(1, "x")];
    refused(&graph.model(17).0, InvalidModel, &["input \"x\"", "no type"]);
    graph.outputs.clear();
    refused(&graph.model(17).0, InvalidModel, &["no outputs"]);
}

#[test]
fn missing_inputs_and_wrong_arity() {
    refused_nodes(vec![node("Add", &["x"], &["y"], &[])], InvalidModel, &["y_node", "1 inputs", "has 2"]);
    refused_nodes(vec![node("Add", &["x", ""], &["y"], &[])], InvalidModel, &["y_node", "input 1 is missing"]);
    refused_nodes(vec![node("Relu", &["x", "x"], &["y"], &[])], InvalidModel, &["y_node", "2 inputs"]);
    refused_nodes(vec![node("Relu", &["x"], &["y", "z"], &[])], InvalidModel, &["y_node", "2 outputs"]);
    refused_nodes(vec![node("Relu", &["x"], &[], &[])], InvalidModel, &["(Relu)", "0 outputs"]);
}

#[test]
fn attributes_of_the_wrong_kind() {
    let softmax = |attribute: Message| vec![node("Softmax", &["x"], &["y"], &[attribute])];
    let place = |says: &'static str| ["node \"y_node\" (Softmax)", "axis", says];
    refused_nodes(softmax(text("axis", "1")), InvalidModel, &place("not an integer"));
    refused_nodes(softmax(Message::new().text(1, "axis").int(20, 1).int(3, 1)), InvalidModel, &place("holds a value"));
    refused_nodes(softmax(Message::new().text(1, "axis").int(20, 99)), InvalidModel, &place("no type"));
    refused_nodes(softmax(int("axis", 1).float(2, 1.0)), InvalidModel, &place("several values"));
    refused_nodes(softmax(Message::new().text(1, "axis").int(20, 4)), InvalidModel, &place("no value"));
    refused_nodes(softmax(int("axes", 1)), InvalidModel, &["y_node", "unknown attribute axes"]);
    let twice = vec![node("Softmax", &["x"], &["y"], &[int("axis", 0), int("axis", 0)])];
    refused_nodes(twice, InvalidModel, &["y_node", "twice"]);
    refused_nodes(softmax(int("axis", 7)), ErrorKind::Shape, &["y_node", "axis 7"]);
    refused_nodes(softmax(Message::new().text(1, "axis").text(21, "outer")), InvalidModel, &["outside of a function"]);
}

#[test]
fn unknown_operators_in_one_error() {
    let graph =
        Graph { nodes: vec![node("Bar", &["x"], &["t"], &[])], outputs: vec![unshaped("t", F32)], ..Graph::default() };
    let branches = [body("then_branch", &graph.message()), body("else_branch", &graph.message())];
    let nodes = vec![
        node("Foo", &["x"], &["a"], &[]),
        node("Foo", &["a"], &["b"], &[]).text(7, "com.example"),
        node("Relu", &["b"], &["c"], &[]),
        node("If", &["c"], &["y"], &branches),
    ];
    let says = ["3 operators", "ai.onnx:Foo@17 in node \"a_node\"", "com.example:Foo@?", "ai.onnx:Bar@17", "t_node"];
    refused_nodes(nodes, Unsupported, &says);
    // All of them, with all of their nodes, as far as anybody could read.
    let foo = |op: usize, node_count: usize| -> Vec<Message> {
        (0..node_count).map(|i| node(&format!("Foo{op:04}"), &["x"], &[&format!("y{op}_{i}")], &[])).collect()
    };
    let says = ["30 operators", "Foo0029@17 in node \"y29_0_node\"", "node \"y29_8_node\" (Foo0029)"];
    refused_nodes((0..30).flat_map(|op| foo(op, 9)).collect(), Unsupported, &says);
    for nodes in [(0..5_000).flat_map(|op| foo(op, 1)).collect(), foo(0, 5_000)] {
        let error = refused(&between(nodes, vec![]).model(17).0, Unsupported, &[" more"]);
        assert!(error.to_string().len() < 100_000);
    }
}

#[test]
fn opsets() {
    let relu = between(vec![node("Relu", &["x"], &["y"], &[])], vec![]);
    refused(&relu.model(28).0, Unsupported, &["opset_import", "28", "allow_newer_opset"]);
    assert!(import(relu.model(28).0.into(), &LoadOptions::default().allow_newer_opset(true)).is_ok());
    refused(&relu.model(0).0, InvalidModel, &["opset_import", "version 0"]);
    refused(&relu.model(-1).0, InvalidModel, &["opset_import", "-1"]);
    refused(&relu.model(i64::MAX).0, InvalidModel, &["opset_import"]);
    refused(&relu.model(5).0, Unsupported, &["y_node", "Relu at opset 5"]);
    let early = between(vec![node("HardSwish", &["x"], &["y"], &[])], vec![]);
    refused(&early.model(13).0, Unsupported, &["HardSwish@13", "from opset 14 on"]);
    assert!(import(early.model(14).0.into(), &LoadOptions::default()).is_ok());
    assert!(import(relu.model(6).0.into(), &LoadOptions::default()).is_ok());
    let none = Message::new().int(1, 8).message(7, &relu.message());
    refused(&none.0, InvalidModel, &["y_node", "opset_import"]);
    let two = relu.model(17).message(8, &Message::new().text(1, "ai.onnx").int(2, 16));
    refused(&two.0, InvalidModel, &["opset_import", "17 and 16"]);
    refused(&Message::new().int(1, 99).message(7, &relu.message()).0, Unsupported, &["ir_version 99"]);
}

#[test]
fn declared_types() {
    let relu = |input: Message, output: Message| Graph {
        nodes: vec![node("Relu", &["x"], &["y"], &[])],
        inputs: vec![input],
        outputs: vec![output],
        initializers: vec![],
    };
    let says = ["output \"y\"", "declared as i64, computed as f32"];
    refused(&relu(value("x", F32, &[2]), value("y", I64, &[2])).model(17).0, InvalidModel, &says);
    refused(&relu(value("x", F32, &[-3]), unshaped("y", F32)).model(17).0, Malformed, &["input \"x\"", "dim 0", "-3"]);
    refused(&relu(value("x", 8, &[1]), unshaped("y", F32)).model(17).0, Unsupported, &["input \"x\"", "strings"]);
    refused(&relu(value("x", 42, &[1]), unshaped("y", F32)).model(17).0, InvalidModel, &["input \"x\"", "elem_type"]);
    let mut graph = relu(value("x", F32, &[2]), unshaped("y", F32));
    graph.initializers.push(floats("x", &[3], &[0.0; 3]));
    refused(&graph.model(17).0, InvalidModel, &["input \"x\"", "default does not fit"]);
}

/// Loads, optimizes and plans a model of one vector of floats and maybe two flags.
fn compile(model: &[u8]) {
    let model = Model::from_bytes(model).unwrap();
    let shapes: Vec<Shape> =
        model.inputs().iter().map(|i| if i.name == "x" { [2].into() } else { Shape::scalar() }).collect();
    model.compile(&CompileOptions::new()).unwrap().plan(&shapes).unwrap();
}

/// `levels` of `If`, each in both branches of the one around it.
fn nested_ifs(levels: usize, both: bool) -> Message {
    let leaf = |out: &str| Graph {
        nodes: vec![node("Relu", &["x"], &[out], &[])],
        outputs: vec![unshaped(out, F32)],
        ..Graph::default()
    };
    let mut inner = leaf("t0").message();
    for level in 1..=levels {
        let name = format!("t{level}");
        let shallow = if both { inner.clone() } else { leaf("s").message() };
        let branches = [body("then_branch", &inner), body("else_branch", &shallow)];
        let nodes = vec![node("If", &["c"], &[&name], &branches)];
        inner = Graph { nodes, outputs: vec![unshaped(&name, F32)], ..Graph::default() }.message();
    }
    let mut graph = Graph { inputs: vec![value("x", F32, &[2]), value("c", BOOL, &[])], ..Graph::default() };
    let branches = [body("then_branch", &inner), body("else_branch", &leaf("s").message())];
    graph.nodes = vec![node("If", &["c"], &["y"], &branches)];
    graph.outputs = vec![unshaped("y", F32)];
    graph.model(17)
}

#[test]
fn bodies_within_bodies() {
    refused(&nested_ifs(5_000, false).0, Limit, &["max_depth", "node[0].attribute[0].g[0]"]);
    let error = refused(&nested_ifs(24, false).0, Limit, &["max_depth"]);
    assert!(error.place().unwrap().len() < 2_000);
    super::bounded(|| compile(&nested_ifs(23, false).0));
    // However deep the caller allows them to be.
    let deepest = LoadOptions::default().limits(LoadLimits::default().max_depth(usize::MAX));
    refused_with(&nested_ifs(5_000, false).0, &deepest, Limit, &["max_depth"]);
    super::bounded(|| import(nested_ifs(31, false).0.into(), &deepest)).unwrap();
    // Both branches: the file doubles with each level.
    let limits = LoadOptions::default().limits(LoadLimits::default().max_nodes(2_000));
    refused_with(&nested_ifs(14, true).0, &limits, Limit, &["max_nodes"]);
    refused(&nested_ifs(14, true).0, Limit, &["max_bodies"]);
}

#[test]
fn loops_within_loops() {
    let mut inner = vec![node("Relu", &["v0"], &["w0"], &[])];
    for level in 0..22 {
        let (v, w) = (format!("v{level}"), format!("w{level}"));
        let go = format!("go{level}");
        let on = format!("on{level}");
        let mut nodes = vec![node("Identity", &[&go], &[&on], &[])];
        nodes.append(&mut inner);
        let graph = Graph {
            nodes,
            inputs: vec![value(&format!("i{level}"), I64, &[]), value(&go, BOOL, &[]), unshaped(&v, F32)],
            outputs: vec![value(&on, BOOL, &[]), unshaped(&w, F32)],
            initializers: vec![],
        };
        let (outer, made) = (format!("v{}", level + 1), format!("w{}", level + 1));
        inner = vec![node("Loop", &["n", "", &outer], &[&made], &[body("body", &graph.message())])];
    }
    inner.insert(0, node("Identity", &["x"], &["v22"], &[]));
    inner.push(node("Identity", &["w22"], &["y"], &[]));
    let model = between(inner, vec![raw("n", I64, &[], &2i64.to_le_bytes())]).model(17);
    super::bounded(|| compile(&model.0));
    let imported = super::bounded(|| import(model.0.into(), &LoadOptions::default()));
    // Two to the twenty-second rounds are more than the budget has.
    let x = onrush::Tensor::vector(vec![1.0f32, 2.0]);
    let budget = onrush::ops::Budget::new(1 << 20, 1_000);
    let result = super::bounded(|| imported.unwrap().graph.interpret_within(&[x], &budget).map(|_| ()));
    super::expect(result, Limit, &["loop without end"]);
}

/// A function of one input that runs these nodes on `a` to yield `b`.
fn function(name: &str, nodes: Vec<Message>) -> Message {
    let imports = [("", 17), ("f", 1)].map(|(d, v)| Message::new().text(1, d).int(2, v));
    Message::new().text(1, name).text(4, "a").text(5, "b").messages(7, nodes).messages(9, imports).text(10, "f")
}

fn with_functions(call: &str, functions: Vec<Message>) -> Vec<u8> {
    let graph = between(vec![node(call, &["x"], &["y"], &[]).text(7, "f")], vec![]);
    graph.model(17).message(8, &Message::new().text(1, "f").int(2, 1)).messages(25, functions).0
}

fn call(name: &str, input: &str, output: &str) -> Message {
    node(name, &[input], &[output], &[]).text(7, "f")
}

#[test]
fn functions_within_functions() {
    let chain = |depth: usize| {
        let inner = |i: usize| {
            if i == depth { node("Relu", &["a"], &["b"], &[]) } else { call(&format!("f{}", i + 1), "a", "b") }
        };
        with_functions("f0", (0..=depth).map(|i| function(&format!("f{i}"), vec![inner(i)])).collect())
    };
    assert!(import(chain(20).into(), &LoadOptions::default()).is_ok());
    refused(&chain(3_000), Limit, &["max_depth", "node \"y_node\" (f0)"]);
    refused(&with_functions("f0", vec![function("f0", vec![call("f0", "a", "b")])]), InvalidModel, &["calls itself"]);
    let mutual = vec![function("f0", vec![call("f1", "a", "b")]), function("f1", vec![call("f0", "a", "b")])];
    refused(&with_functions("f0", mutual), InvalidModel, &["calls itself", "y_node"]);
    let limits = LoadOptions::default().limits(LoadLimits::default().max_nodes(5_000));
    let twice = |i: usize| match i {
        20 => vec![node("Relu", &["a"], &["b"], &[])],
        i => vec![call(&format!("f{}", i + 1), "a", "m"), call(&format!("f{}", i + 1), "m", "b")],
    };
    let doubling = (0..=20).map(|i| function(&format!("f{i}"), twice(i))).collect();
    refused_with(&with_functions("f0", doubling), &limits, Limit, &["max_nodes"]);
    let same = vec![function("f0", vec![node("Relu", &["a"], &["b"], &[])]); 2];
    refused(&with_functions("f0", same), InvalidModel, &["\"f0\"", "defined twice"]);
}

#[test]
fn functions_that_multiply_what_they_hold() {
    let chain = |calls: usize, nodes: Vec<Message>| {
        let name = |i: usize| if i == calls { "y".to_owned() } else { format!("t{i}") };
        let from = |i: usize| if i == 0 { "x".to_owned() } else { name(i) };
        let calls = (0..calls).map(|i| call("f0", &from(i), &name(i + 1))).collect();
        let model = between(calls, vec![]).model(17).message(8, &Message::new().text(1, "f").int(2, 1));
        model.message(25, &function("f0", nodes)).0
    };
    let long = "n".repeat(1 << 20);
    let named = vec![node("Relu", &["a"], &["b"], &[]).text(3, &long)];
    assert!(import(chain(2, named.clone()).into(), &LoadOptions::default()).is_ok());
    refused(&chain(100, named), Limit, &["max_text_bytes", "f0"]);
    let values = vec![node("Relu", &["a"], &[&long], &[]), node("Relu", &[&long], &["b"], &[])];
    refused(&chain(100, values), Limit, &["max_text_bytes", "f0"]);
    let branch = Graph {
        nodes: vec![node("Relu", &["a"], &[&long], &[])],
        outputs: vec![unshaped(&long, F32)],
        ..Graph::default()
    };
    let branches = ["then_branch", "else_branch"].map(|name| body(name, &branch.message()));
    let value = Message::new().text(1, "value").int(20, 4).message(5, &raw("", BOOL, &[], &[1]));
    let yes = node("Constant", &[], &["c"], &[value]);
    refused(&chain(100, vec![yes, node("If", &["c"], &["b"], &branches)]), Limit, &["max_text_bytes", "f0"]);
    let many =
        vec![node("Constant", &[], &["c"], &[ints("value_ints", &[1; 100_000])]), node("Relu", &["a"], &["b"], &[])];
    refused(&chain(100, many), Limit, &["max_text_bytes", "f0"]);
    // Numbers that have to be copied are copied once.
    let ones = dims("", F32, &[50_000]).bytes(4, &1f32.to_le_bytes().repeat(50_000));
    let value = Message::new().text(1, "value").int(20, 4).message(5, &ones);
    let copied = vec![node("Constant", &[], &["c"], &[value]), node("Relu", &["a"], &["b"], &[])];
    super::bounded(|| import(chain(2_000, copied).into(), &LoadOptions::default())).unwrap();
    let limits = LoadOptions::default().limits(LoadLimits::default().max_nodes(1_000));
    let wide = vec![node("Sum", &["a"; 2_000], &["b"], &[])];
    refused_with(&chain(100, wide), &limits, Limit, &["inputs and outputs of nodes", "f0"]);
}

#[test]
fn captures_through_many_levels() {
    let names: Vec<String> = (0..2_000).map(|i| format!("v{i}")).collect();
    let given: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut inner = vec![node("Sum", &given, &["t0"], &[])];
    for level in 1..20 {
        let graph =
            Graph { nodes: inner, outputs: vec![unshaped(&format!("t{}", level - 1), F32)], ..Graph::default() };
        let branches = ["then_branch", "else_branch"].map(|name| body(name, &graph.message()));
        let branches = if level == 1 { branches.to_vec() } else { vec![branches[0].clone(), nothing()] };
        inner = vec![node("If", &["c"], &[&format!("t{level}")], &branches)];
    }
    inner.push(node("Identity", &["t19"], &["y"], &[]));
    let nodes = names.iter().map(|name| node("Relu", &["x"], &[name], &[])).chain(inner);
    let mut graph = between(nodes.collect(), vec![]);
    graph.inputs.push(value("c", BOOL, &[]));
    super::bounded(|| import(graph.model(17).0.into(), &LoadOptions::default())).unwrap();
}

/// A branch that yields an outer value.
fn nothing() -> Message {
    let same = Graph {
        nodes: vec![node("Identity", &["x"], &["s"], &[])],
        outputs: vec![unshaped("s", F32)],
        ..Graph::default()
    };
    body("else_branch", &same.message())
}

#[test]
fn nodes_of_one_name() {
    // The bound of each becomes a constant that is named after its node; the later name overwrites the first.
    let max = Message::new().text(1, "max").int(20, 1).float(2, 1.0);
    let names: Vec<String> = (0..4_000).map(|i| format!("v{i}")).chain(["y".into()]).collect();
    let inputs = ["x"].into_iter().chain(names.iter().map(String::as_str));
    let nodes =
        inputs.zip(&names).map(|(from, to)| node("Clip", &[from], &[to], std::slice::from_ref(&max)).text(3, "a"));
    let model = between(nodes.collect(), vec![]).model(10);
    super::bounded(|| import(model.0.into(), &LoadOptions::default())).unwrap();
}

#[test]
fn more_axes_than_anything_has() {
    let weights = vec![dims("w", F32, &[1; 100_000])];
    let error = refused(&between(vec![node("Add", &["x", "w"], &["y"], &[])], weights).model(17).0, Limit, &["axes"]);
    assert!(error.to_string().len() < 1_000);
    let mut graph = between(vec![node("Relu", &["x"], &["y"], &[])], vec![]);
    graph.inputs = vec![value("x", F32, &[1; 100_000])];
    refused(&graph.model(17).0, Limit, &["axes"]);
}
