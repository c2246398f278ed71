//! Small files whose constants ask for endless arithmetic: it is left to the run, and counted, not timed.

use super::bounded;
use super::support::*;
use onrush::{CompileOptions, Model};

/// More than any of these may compute while it is compiled, and far less than any of them asks for.
const MOST: u64 = 1 << 27;

/// Ones of each of these shapes as `a`, `b`, and nodes on them, of which the last makes `y`.
fn of_ones(shapes: &[&[i64]], nodes: Vec<Message>) -> Vec<u8> {
    let mut graph = Graph { nodes: vec![], outputs: vec![unshaped("y", F32)], ..Graph::default() };
    for (name, shape) in ["a", "b"].into_iter().zip(shapes) {
        let lengths = format!("{name}_shape");
        graph.initializers.push(integers(&lengths, shape));
        let one = Message::new().text(1, "value").int(20, 4).message(5, &floats("", &[1], &[1.0]));
        graph.nodes.push(node("ConstantOfShape", &[&lengths], &[name], &[one]));
    }
    graph.nodes.extend(nodes);
    graph.model(17).0
}

/// Products of `a`, doubled three times over, with its transpose.
fn gram() -> Vec<Message> {
    let doubled = |x, y| node("Concat", &[x, x], &[y], &[int("axis", 1)]);
    vec![
        doubled("a", "a2"),
        doubled("a2", "a4"),
        doubled("a4", "a8"),
        node("Transpose", &["a8"], &["t"], &[ints("perm", &[1, 0])]),
        node("MatMul", &["a8", "t"], &["y"], &[]),
    ]
}

#[test]
fn arithmetic_without_end_on_constants() {
    let window = |extra: &[Message]| [&[ints("kernel_shape", &[400, 400]), ints("pads", &[399; 4])], extra].concat();
    let image: &[i64] = &[1, 1, 400, 400];
    let cases: [(&[&[i64]], Vec<Message>); 7] = [
        (&[&[1, 1, 500, 500], &[1, 1, 250, 250]], vec![node("Conv", &["a", "b"], &["y"], &[])]),
        (&[image], vec![node("AveragePool", &["a"], &["y"], &window(&[int("count_include_pad", 1)]))]),
        (&[image], vec![node("LpPool", &["a"], &["y"], &window(&[]))]),
        (&[&[1, 200_000, 1, 1]], vec![node("LRN", &["a"], &["y"], &[int("size", 199_999)])]),
        (&[&[512, 512]], gram()),
        (&[&[600, 600]], vec![node("Det", &["a"], &["y"], &[])]),
        (&[&[512, 512]], vec![node("Einsum", &["a", "a", "a"], &["y"], &[text("equation", "ij,jk,kl->il")])]),
    ];
    for (shapes, nodes) in cases {
        let bytes = of_ones(shapes, nodes);
        let model = bounded(|| Model::from_bytes(&bytes)?.compile(&CompileOptions::new().threads(1))).unwrap();
        let report = model.report();
        assert!(report.folding_work <= MOST, "{shapes:?}: {} of work", report.folding_work);
        assert!(report.nodes.1 > 0, "what {shapes:?} asks for was computed: {report}");
    }
}
