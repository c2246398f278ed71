//! Random valid graphs for property tests: a rewritten or compiled graph must answer like the plain one.
//!
//! Every node is evaluated while the graph grows, three times: plainly, and with small noise of either sign on what
//! each node yields. A node whose answer jumps under such noise (a comparison on the edge, a quotient by almost zero)
//! is not taken, so a legal change of the order of summation cannot make the answers differ by much; how much it may
//! is [`RandomGraph::tolerances`].
//!
//! Include it from an integration test with `#[path = "support/random_graph/mod.rs"] mod random_graph;`.

mod arithmetic;
mod builder;
mod convolution;
mod layout;
mod products;
mod quantized;
mod structure;

use builder::Builder;
use onrush::graph::{Graph, ValueId};
use onrush::{DType, Tensor};

/// A graph with inputs for it and what it answers.
pub(crate) struct RandomGraph {
    /// What [`generate`] was given.
    pub(crate) seed: u64,
    pub(crate) graph: Graph,
    pub(crate) inputs: Vec<Tensor>,
    /// The answers of the plain evaluation.
    pub(crate) outputs: Vec<Tensor>,
    /// The difference that each output may have after legal rewriting; zero for integers and `bool`.
    pub(crate) tolerances: Vec<f64>,
    /// What every value of the graph is for these inputs.
    pub(crate) values: Vec<(ValueId, Tensor)>,
}

/// How many graphs a test tries: `ONRUSH_RANDOM_GRAPHS`, or 10,000 where `ONRUSH_LONG` is 1, or 300.
pub(crate) fn count() -> u64 {
    let long = std::env::var("ONRUSH_LONG").is_ok_and(|v| v == "1");
    let count = std::env::var("ONRUSH_RANDOM_GRAPHS").ok().and_then(|n| n.parse().ok());
    count.unwrap_or(if long { 10_000 } else { 300 })
}

/// The graph of this seed: 2 to 40 nodes and a few more that nothing needs.
pub(crate) fn generate(seed: u64) -> RandomGraph {
    let mut builder = Builder::new(seed);
    builder.add_inputs();
    let wanted = builder.between(2, 40);
    // Patterns may be refused by what they would compute; a bound keeps the walk finite.
    for _ in 0..wanted * 20 {
        if builder.node_count() >= wanted {
            break;
        }
        let _ = match builder.between(0, 99) {
            0..=17 => builder.unary(),
            18..=33 => builder.binary(),
            34..=39 => builder.activation_pattern(),
            40..=43 => builder.selection(),
            44..=54 => builder.convolution(),
            55..=58 => builder.pooling(),
            59..=66 => builder.product(),
            67..=69 => builder.attention(),
            70..=74 => builder.normalization(),
            75..=77 => builder.reduction(),
            78 => builder.control_flow(),
            79 => builder.halves(),
            80..=86 => builder.rearrangement(),
            87..=90 => builder.shape_arithmetic(),
            91..=94 => builder.quantized(),
            95..=96 => builder.duplicate(),
            97 => builder.constant_expression(),
            98 => builder.recurrence(),
            _ => builder.identity(),
        };
    }
    builder.finish()
}

impl RandomGraph {
    /// Panics, naming the seed, unless the outputs agree with [`outputs`](RandomGraph::outputs) within
    /// [`tolerances`](RandomGraph::tolerances).
    pub(crate) fn assert_close(&self, computed: &[Tensor], what: &str) {
        assert_eq!(computed.len(), self.outputs.len(), "{what}, seed {}: number of outputs", self.seed);
        for (index, (computed, expected)) in computed.iter().zip(&self.outputs).enumerate() {
            if let Err(difference) = close(computed, expected, self.tolerances[index]) {
                panic!("{what}, seed {}: output {index}: {difference}\n{}", self.seed, self.describe());
            }
        }
    }

    /// The nodes in order, with what each yields: for the message of a failed test.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (_, node) in self.graph.nodes().expect("no cycle") {
            let name = |id: &Option<ValueId>| match id {
                Some(id) => format!("{} {}", self.graph.value(*id).name(), self.graph.fact(*id)),
                None => "-".to_owned(),
            };
            let list = |ids: &[Option<ValueId>]| ids.iter().map(name).collect::<Vec<_>>().join(", ");
            text += &format!("{} = {}({})\n", list(node.outputs()), node.op().name(), list(node.inputs()));
        }
        let outputs = self.graph.outputs().iter().map(|id| self.graph.value(*id).name()).collect::<Vec<_>>();
        text + &format!("outputs: {}", outputs.join(", "))
    }
}

/// Same dtype, same shape, and no element further apart than the tolerance.
pub(crate) fn close(computed: &Tensor, expected: &Tensor, tolerance: f64) -> Result<(), String> {
    let kind = |t: &Tensor| format!("{}{}", t.dtype(), t.shape());
    if computed.dtype() != expected.dtype() || computed.shape() != expected.shape() {
        return Err(format!("{}, not {}", kind(computed), kind(expected)));
    }
    let (a, b) = (computed.to_f64_vec().expect("numbers"), expected.to_f64_vec().expect("numbers"));
    let apart = |(a, b): (&f64, &f64)| !(a == b || (a - b).abs() <= tolerance);
    match a.iter().zip(&b).position(apart) {
        Some(i) => Err(format!("element {i} of {} is {}, not {} (within {tolerance:e})", kind(expected), a[i], b[i])),
        None => Ok(()),
    }
}

/// One unit in the last place at one, of a float dtype.
fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 1.2e-7,
    }
}
