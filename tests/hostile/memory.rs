//! Small files that ask for huge tensors or endless work, and operators asked for what they forbid.

use super::support::*;
use super::{bounded, expect};
use onrush::ErrorKind::{self, InvalidModel, Limit};
use onrush::onnx::{LoadLimits, LoadOptions, import};
use onrush::ops::Budget;
use onrush::{CompileOptions, Model, Result, Tensor};

const MAX_BYTES: usize = 64 << 20;
const MAX_STEPS: u64 = 10_000;

/// Loads and runs within limits, by reference evaluation and compiled; both must come to the same end.
fn run(graph: &Graph, inputs: &[Tensor]) -> Result<()> {
    let model = graph.model(17).0;
    let interpreted = bounded(|| {
        let model = import(model.clone().into(), &LoadOptions::default())?;
        model.graph.interpret_within(inputs, &Budget::new(MAX_BYTES, MAX_STEPS)).map(|_| ())
    });
    let options = CompileOptions::new().max_run_bytes(MAX_BYTES).max_run_steps(MAX_STEPS);
    let compiled = bounded(|| Model::from_bytes(&model)?.compile(&options)?.run(inputs).map(|_| ()));
    let kind = |result: &Result<()>| result.as_ref().err().map(onrush::Error::kind);
    assert_eq!(kind(&interpreted), kind(&compiled), "{interpreted:?} against {compiled:?}");
    if let (Err(interpreted), Err(compiled)) = (&interpreted, &compiled) {
        let place = interpreted.place().unwrap_or_default();
        let node = place.rsplit("node ").next().unwrap_or_default();
        assert!(compiled.to_string().contains(node), "{interpreted} against {compiled}");
    }
    compiled
}

/// As [`run`], with what `sized` names as constants and as inputs of the request: the node must say why not.
#[track_caller]
fn refused(nodes: Vec<Message>, sized: &[(&str, &[i64])], kind: ErrorKind) {
    let constants = sized.iter().map(|(name, values)| integers(name, values)).collect();
    let graph = Graph { outputs: vec![unshaped("y", F32)], ..between(nodes.clone(), constants) };
    let x = Tensor::vector(vec![1.0f32, 2.0]);
    expect(run(&graph, std::slice::from_ref(&x)), kind, &["node \"y_node\""]);
    let mut graph = between(nodes, vec![]);
    let mut inputs = vec![x];
    for (name, values) in sized {
        graph.inputs.push(value(name, I64, &[values.len() as i64]));
        inputs.push(Tensor::vector(values.to_vec()));
    }
    expect(run(&graph, &inputs), kind, &["node \"y_node\""]);
}

#[test]
fn operators_that_ask_for_huge_tensors() {
    const HUGE: i64 = 1 << 40;
    refused(vec![node("ConstantOfShape", &["s"], &["y"], &[])], &[("s", &[HUGE])], Limit);
    refused(vec![node("ConstantOfShape", &["s"], &["y"], &[])], &[("s", &[1 << 20, 1 << 20, 1 << 20, 1 << 20])], Limit);
    refused(vec![node("Expand", &["x", "s"], &["y"], &[])], &[("s", &[HUGE, 2])], Limit);
    refused(vec![node("Tile", &["x", "s"], &["y"], &[])], &[("s", &[HUGE])], Limit);
    refused(vec![node("Pad", &["x", "s"], &["y"], &[])], &[("s", &[HUGE, HUGE])], Limit);
    // Rows that have no elements.
    let unique = node("Unique", &["z"], &["y"], &[int("axis", 0)]);
    refused(vec![node("ConstantOfShape", &["s"], &["z"], &[]), unique], &[("s", &[HUGE, 0])], Limit);
    // Nothing at all, of axes that multiply past any number.
    let nothing = vec![node("ConstantOfShape", &["s"], &["y"], &[])];
    refused(nothing, &[("s", &[0, HUGE, HUGE])], Limit);
    let resize = vec![
        node("Unsqueeze", &["x", "axes"], &["u"], &[]),
        node("Resize", &["u", "", "", "s"], &["y"], &[text("mode", "nearest")]),
    ];
    refused(resize, &[("axes", &[0, 1]), ("s", &[1, 1, HUGE])], Limit);
}

#[test]
fn a_range_without_end() {
    let range = vec![node("Range", &["a", "b", "c"], &["r"], &[]), node("Cast", &["r"], &["y"], &[int("to", 1)])];
    let scalar = |name: &str, value: i64| raw(name, I64, &[], &value.to_le_bytes());
    let constants = |step| vec![scalar("a", 0), scalar("b", i64::MAX), scalar("c", step)];
    let x = Tensor::vector(vec![1.0f32, 2.0]);
    let result = run(&between(range.clone(), constants(1)), std::slice::from_ref(&x));
    expect(result, Limit, &["node \"r_node\""]);
    let error = run(&between(range, constants(0)), &[x]).unwrap_err();
    assert!(error.to_string().contains("r_node"), "{error}");
}

#[test]
fn a_loop_without_end() {
    let step = Graph {
        nodes: vec![node("Identity", &["go"], &["on"], &[]), node("Relu", &["v"], &["w"], &[])],
        inputs: vec![value("i", I64, &[]), value("go", BOOL, &[]), value("v", F32, &[2])],
        outputs: vec![value("on", BOOL, &[]), value("w", F32, &[2])],
        initializers: vec![],
    };
    let yes = raw("yes", BOOL, &[], &[1]);
    let forever = node("Loop", &["", "yes", "x"], &["y"], &[body("body", &step.message())]);
    let x = Tensor::vector(vec![1.0f32, 2.0]);
    expect(run(&between(vec![forever], vec![yes.clone()]), std::slice::from_ref(&x)), Limit, &["loop without end"]);
    // Growing what it scans, until memory is what ends it.
    let growing = Graph {
        nodes: vec![node("Identity", &["go"], &["on"], &[]), node("Concat", &["v", "v"], &["w"], &[int("axis", 0)])],
        inputs: vec![value("i", I64, &[]), value("go", BOOL, &[]), unshaped("v", F32)],
        outputs: vec![value("on", BOOL, &[]), unshaped("w", F32)],
        initializers: vec![],
    };
    let forever = node("Loop", &["", "yes", "x"], &["y"], &[body("body", &growing.message())]);
    expect(run(&between(vec![forever], vec![yes]), &[x]), Limit, &["(Concat)"]);
}

/// The error of a graph with one operator on `x`, a `[1, 1, 4, 4]` image.
#[track_caller]
fn refused_window(op: &str, inputs: &[&str], attributes: &[Message], says: &str) {
    let graph = Graph {
        nodes: vec![node(op, inputs, &["y"], attributes)],
        inputs: vec![value("x", F32, &[1, 1, 4, 4])],
        outputs: vec![unshaped("y", F32)],
        initializers: vec![floats("w", &[1, 1, 2, 2], &[1.0; 4])],
    };
    let x = Tensor::new([1, 1, 4, 4], vec![1.0f32; 16]).unwrap();
    let error = run(&graph, &[x]).unwrap_err();
    let named = [ErrorKind::InvalidModel, ErrorKind::Shape, Limit].contains(&error.kind());
    assert!(named && error.to_string().contains("y_node") && error.to_string().contains(says), "{error}");
}

#[test]
fn windows_that_cannot_be() {
    for bad in [0, -1, i64::MIN] {
        for name in ["strides", "dilations", "kernel_shape"] {
            refused_window("Conv", &["x", "w"], &[ints(name, &[bad, 1])], "");
            refused_window("ConvTranspose", &["x", "w"], &[ints(name, &[bad, 1])], "");
            let others = if name == "kernel_shape" { vec![] } else { vec![ints("kernel_shape", &[2, 2])] };
            for pool in ["MaxPool", "AveragePool"] {
                let attributes = [others.clone(), vec![ints(name, &[bad, 1])]].concat();
                if pool == "MaxPool" || name != "dilations" {
                    refused_window(pool, &["x"], &attributes, "");
                }
            }
        }
        refused_window("Conv", &["x", "w"], &[int("group", bad)], "group");
    }
    refused_window("Conv", &["x", "w"], &[ints("strides", &[1])], "");
    refused_window("Conv", &["x", "w"], &[ints("pads", &[1])], "");
    refused_window("Conv", &["x", "w"], &[ints("dilations", &[1 << 60, 1])], "");
    refused_window("Conv", &["x", "w"], &[ints("pads", &[i64::MAX, 0, i64::MAX, 0])], "");
    refused_window("MaxPool", &["x"], &[ints("kernel_shape", &[9, 9])], "");
    refused_window("MaxPool", &["x"], &[ints("kernel_shape", &[2])], "");
    refused_window("Conv", &["x", "w"], &[int("group", 3)], "group");
}

#[test]
fn indices_out_of_range() {
    let x = Tensor::vector(vec![1.0f32, 2.0]);
    for index in [2, -3, i64::MIN, i64::MAX] {
        for (op, inputs) in [
            ("Gather", &["x", "i"][..]),
            ("GatherElements", &["x", "i"]),
            ("GatherND", &["x", "i"]),
            ("ScatterElements", &["x", "i", "u"]),
        ] {
            let constants = vec![integers("i", &[index]), floats("u", &[1], &[5.0])];
            let error =
                run(&between(vec![node(op, inputs, &["y"], &[])], constants), std::slice::from_ref(&x)).unwrap_err();
            assert!(error.to_string().contains(&format!("node \"y_node\" ({op})")), "{error}");
        }
    }
}

#[test]
fn scales_that_are_no_scales() {
    let there_and_back = |scale: f32, other: f32| {
        let nodes = vec![
            node("QuantizeLinear", &["x", "s", "z"], &["q"], &[]),
            node("DequantizeLinear", &["q", "t", "z"], &["y"], &[]),
        ];
        between(nodes, vec![floats("s", &[], &[scale]), floats("t", &[], &[other]), raw("z", U8, &[], &[1])])
    };
    for bad in [0.0, -0.0, f32::NAN] {
        super::refused(&there_and_back(bad, 1.0).model(17).0, InvalidModel, &["node \"q_node\"", "scale"]);
        super::refused(&there_and_back(1.0, bad).model(17).0, InvalidModel, &["node \"y_node\"", "scale"]);
        for index in [1, 4, 6] {
            let mut inputs = ["b", "s", "z", "b", "s", "z", "s", "z"];
            inputs[index] = "bad";
            let scales = vec![floats("s", &[], &[1.0]), floats("bad", &[], &[bad])];
            let bytes = vec![raw("b", U8, &[1, 1, 1, 1], &[1]), raw("z", U8, &[], &[1])];
            for op in ["QLinearMatMul", "QLinearConv"] {
                let nodes = vec![node(op, &inputs, &["q"], &[]), node("Add", &["x", "q"], &["y"], &[])];
                let graph = between(nodes, [scales.clone(), bytes.clone()].concat());
                super::refused(&graph.model(17).0, InvalidModel, &["node \"q_node\"", "scale"]);
            }
        }
    }
    // Others are no fault of the file: they give numbers, and no panic.
    for scale in [f32::INFINITY, -1.0, f32::MIN_POSITIVE] {
        let graph = there_and_back(scale, scale);
        for x in [[1.0f32, -2.0], [f32::NAN, f32::INFINITY]] {
            run(&graph, &[Tensor::vector(x.to_vec())]).unwrap();
        }
    }
}

#[test]
fn many_small_tensors_that_are_large_together() {
    // Each is 128 KiB that depend on nothing, so each could be computed while loading; the sum needs all of them.
    let count = 3_000;
    let mut nodes: Vec<Message> =
        (0..count).map(|i| node("ConstantOfShape", &["s"], &[&format!("c{i}")], &[])).collect();
    let names: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["x"]).collect();
    nodes.push(node("Concat", &names, &["y"], &[int("axis", 0)]));
    let model = between(nodes, vec![integers("s", &[1 << 15])]).model(17).0;
    bounded(|| {
        let options = LoadOptions::default().limits(LoadLimits::default().max_folded_bytes(16 << 20));
        let model = Model::from_shared(model.into(), &options)?;
        model.compile(&CompileOptions::new().max_run_bytes(MAX_BYTES)).map(|_| ())
    })
    .unwrap();
}
