//! An ordered list of graph-to-graph rewrites: folding, fusing, layout. A pass never sees a backend.
//!
//! Each pass is a function in a file of its own that patches the graph and says how often; the list gives the order and
//! the reason for each place in it. It runs until nothing changes, so a pass may leave to the next round what it only
//! just made possible.
//!
//! To add one: write a rule from a node to a patch, hand it to `pattern::each`, and test it with `testing::check`, once
//! where it must apply and once where a second user, a graph output in the middle or another constant forbids it. Every
//! rule keeps the answer of every request, up to the order of summation; where only concrete lengths would show that it
//! does, it does nothing.

mod activation;
mod attention;
mod axes;
mod batch_norm;
mod bodies;
mod branch;
mod channels_last;
mod common;
mod einsum;
mod elementwise;
mod epilogue;
mod fold;
mod gelu;
mod group_norm;
mod heads;
mod identity;
mod integer;
mod layer_norm;
mod linear;
mod look_up;
mod narrow;
mod pad;
mod pattern;
mod polynomial;
mod qdq;
mod ranges;
mod reshape;
mod spelled;
#[cfg(test)]
mod testing;
mod transpose;
mod transposed;
mod weight_only;
mod widen;

use crate::error::{At, Result};
use crate::graph::Graph;
use crate::ops::Budget;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;

struct Pass {
    name: &'static str,
    run: Run,
}

/// Changes the graph and says how many times it did.
type Rewrite = fn(&mut Graph) -> Result<usize>;

enum Run {
    Rewrite(Rewrite),
    /// One that makes products of integers out of quantized ones, where these are wanted.
    Integers(Rewrite),
    /// One that computes new constants, within what the budget leaves.
    Fold(fn(&mut Graph, &Budget) -> Result<usize>),
    /// One that runs all passes on other graphs, with or without products of integers.
    Nested(fn(&mut Graph, &Budget, bool) -> Result<usize>),
}

/// Bytes of constants that folding makes, unless the caller says otherwise.
const MAX_FOLDED_BYTES: usize = 1 << 30;
/// Operators that folding runs.
const MAX_FOLDED_STEPS: u64 = 1_000_000;
/// Work that folding does, in the units of [`Budget::spend`]: for any graph, and for each element of its constants.
const MAX_FOLDED_WORK: u64 = 1 << 27;
const WORK_OF_AN_ELEMENT: u64 = 8;

/// The passes in order, each with the reason for its place.
const PASSES: &[Pass] = &[
    // First, so that no later pass has to look into subgraphs or at constants in disguise.
    Pass { name: "bodies", run: Run::Nested(bodies::optimize_bodies) },
    // As early, so that what was inside is rewritten with what is around it.
    Pass { name: "branch", run: Run::Rewrite(branch::inline_branches) },
    // Before constants are folded into others and patterns are sought: all of them are written for f32.
    Pass { name: "widen", run: Run::Rewrite(widen::widen_halves) },
    Pass { name: "fold", run: Run::Fold(fold::fold_constants) },
    // Before identities, since a constant target shows that a reshape keeps the shape.
    Pass { name: "reshape", run: Run::Rewrite(reshape::simplify_reshapes) },
    Pass { name: "transpose", run: Run::Rewrite(transpose::join_transposes) },
    // Early, so that no pattern has to look through a node that does nothing.
    Pass { name: "identity", run: Run::Rewrite(identity::drop_identities) },
    // Early, so that patterns find one node where the exporter wrote two.
    Pass { name: "common-subexpressions", run: Run::Rewrite(common::share_common) },
    // Once equal scales are one constant, and before anything looks at what a product takes.
    Pass { name: "qdq", run: Run::Rewrite(qdq::keep_quantized) },
    // As convolutions they are as all others from here on.
    Pass { name: "transposed", run: Run::Integers(transposed::by_phases) },
    // Before patterns are sought in what they spell.
    Pass { name: "einsum", run: Run::Rewrite(einsum::spell_einsum) },
    Pass { name: "spelled", run: Run::Rewrite(spelled::spell_fused) },
    // What has a name of its own, before epilogues take parts of it. The gelus first: a gate might match their inside.
    Pass { name: "gelu", run: Run::Rewrite(gelu::recognize_gelu) },
    Pass { name: "activation", run: Run::Rewrite(activation::recognize_activations) },
    Pass { name: "layer-norm", run: Run::Rewrite(layer_norm::recognize_layer_norm) },
    Pass { name: "group-norm", run: Run::Rewrite(group_norm::recognize_group_norm) },
    // Before a bias or a residual takes the mask.
    Pass { name: "attention", run: Run::Rewrite(attention::recognize_attention) },
    // Once keys are a transpose like the others, and before a bias is sought in what transposes hide.
    Pass { name: "heads", run: Run::Rewrite(heads::keep_heads_in_rows) },
    // Before a bias or an activation is taken from what follows the table, and as long as the product stands by itself.
    Pass { name: "look-up", run: Run::Rewrite(look_up::look_up) },
    // While the activation that shows what is never negative still stands by itself.
    Pass { name: "pad", run: Run::Rewrite(pad::absorb_padding) },
    // Before epilogues, which would hide the product from the normalization after it.
    Pass { name: "batch-norm", run: Run::Rewrite(batch_norm::fold_batch_norm) },
    // A bias first: a residual or an activation comes after it in the sum.
    Pass { name: "bias", run: Run::Rewrite(linear::fuse_bias) },
    Pass { name: "epilogue", run: Run::Rewrite(epilogue::fuse_epilogues) },
    // With epilogues in place, so that what a product ends with comes along; before the layout of images is settled.
    Pass { name: "integer", run: Run::Integers(integer::compute_on_integers) },
    // What is left of bytes that only one side of a product has.
    Pass { name: "weight-only", run: Run::Integers(weight_only::keep_weights) },
    // Once it is clear which constants stay integers.
    Pass { name: "unquantized", run: Run::Fold(fold::fold_unquantized) },
    // What no product with constant weights, of floats or of integers, has been made of.
    Pass { name: "gemm", run: Run::Rewrite(spelled::spell_gemm) },
    // Last: the patterns above are written for the layout of ONNX.
    Pass { name: "channels-last", run: Run::Rewrite(channels_last::lay_out) },
];

/// The passes that run once, when the others change nothing any more: no pattern looks into what they make.
const LAST: &[Pass] = &[
    // What no product took as its epilogue and no pattern had a name for.
    Pass { name: "elementwise", run: Run::Rewrite(elementwise::fuse_elementwise) },
    // With all that computes in its last form.
    Pass { name: "narrow", run: Run::Rewrite(narrow::store_halves) },
    Pass { name: "ranges", run: Run::Rewrite(ranges::take_ranges) },
];

/// Rounds after which the list is not run again, whatever still changes.
const ROUNDS: usize = 4;

/// What the passes did.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct PassReport {
    /// Name of each pass that changed something, with how often, in the order in which they ran.
    pub changes: Vec<(&'static str, usize)>,
    /// Nodes before and after.
    pub nodes: (usize, usize),
    /// Multiply-accumulates, and elements gone through, that folding has computed.
    pub folding_work: u64,
}

impl fmt::Display for PassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} nodes became {}", self.nodes.0, self.nodes.1)?;
        for (name, count) in &self.changes {
            writeln!(f, "{count:>6}  {name}")?;
        }
        Ok(())
    }
}

/// Runs the passes until nothing changes any more.
///
/// # Errors
/// What inference says of a rewritten node: a fault of the pass, with its name as the place.
pub fn optimize(graph: &mut Graph) -> Result<PassReport> {
    optimize_within(graph, MAX_FOLDED_BYTES, true)
}

/// The same; the constants that folding makes take at most `max_folded_bytes`, and what would not fit is left to run. Without
/// `integers`, products of quantized values are left to be computed in floats.
///
/// # Errors
/// As [`optimize`].
pub fn optimize_within(graph: &mut Graph, max_folded_bytes: usize, integers: bool) -> Result<PassReport> {
    let work = constant_elements(graph)?.saturating_mul(WORK_OF_AN_ELEMENT).saturating_add(MAX_FOLDED_WORK);
    let budget = Budget::new(max_folded_bytes, MAX_FOLDED_STEPS).max_work(work);
    let report = optimize_on(graph, &budget, integers)?;
    Ok(PassReport { folding_work: work - budget.work_left(), ..report })
}

/// Elements of the constants that nodes take.
fn constant_elements(graph: &Graph) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut elements = 0u64;
    for (_, node) in graph.nodes()? {
        for id in node.inputs().iter().flatten() {
            if graph.value(*id).producer().is_none() && seen.insert(*id) {
                elements = elements.saturating_add(graph.constant_of(*id).map_or(0, |constant| constant.len() as u64));
            }
        }
    }
    Ok(elements)
}

fn optimize_on(graph: &mut Graph, budget: &Budget, integers: bool) -> Result<PassReport> {
    let before = graph.node_count();
    graph.sweep();
    let mut changes: Vec<(&'static str, usize)> = Vec::new();
    let mut run = |passes: &[Pass]| -> Result<usize> {
        let mut changed = 0;
        for pass in passes {
            let count = match pass.run {
                Run::Integers(_) if !integers => Ok(0),
                Run::Rewrite(rewrite) | Run::Integers(rewrite) => rewrite(graph),
                Run::Fold(fold) => fold(graph, budget),
                Run::Nested(nested) => nested(graph, budget, integers),
            };
            let count = count.at(|| format!("pass {}", pass.name))?;
            changed += count;
            if count > 0 {
                match changes.iter_mut().find(|(name, _)| *name == pass.name) {
                    Some((_, total)) => *total += count,
                    None => changes.push((pass.name, count)),
                }
            }
        }
        Ok(changed)
    };
    for _ in 0..ROUNDS {
        if run(PASSES)? == 0 {
            break;
        }
    }
    run(LAST)?;
    // What the passes have left behind would be kept, and copied for every plan.
    graph.compact();
    debug_assert!(graph.verify().is_ok());
    Ok(PassReport { changes, nodes: (before, graph.node_count()), folding_work: 0 })
}
