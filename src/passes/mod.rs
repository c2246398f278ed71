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
mod batch_norm;
mod bodies;
mod channels_last;
mod common;
mod epilogue;
mod fold;
mod gelu;
mod identity;
mod layer_norm;
mod linear;
mod pad;
mod pattern;
mod polynomial;
mod qdq;
mod reshape;
#[cfg(test)]
mod testing;
mod transpose;
mod widen;

use crate::error::{At, Result};
use crate::graph::Graph;
use serde::Serialize;
use std::fmt;

/// A rewrite: changes the graph and says how many times it did.
type Rewrite = fn(&mut Graph) -> Result<usize>;

struct Pass {
    name: &'static str,
    run: Rewrite,
}

/// The passes in order, each with the reason for its place.
const PASSES: &[Pass] = &[
    // First, so that no later pass has to look into subgraphs or at constants in disguise.
    Pass { name: "bodies", run: bodies::optimize_bodies },
    // Before constants are folded into others and patterns are sought: all of them are written for f32.
    Pass { name: "widen", run: widen::widen_halves },
    Pass { name: "fold", run: fold::fold_constants },
    // Before identities, since a constant target shows that a reshape keeps the shape.
    Pass { name: "reshape", run: reshape::simplify_reshapes },
    Pass { name: "transpose", run: transpose::join_transposes },
    // Early, so that no pattern has to look through a node that does nothing.
    Pass { name: "identity", run: identity::drop_identities },
    // Early, so that patterns find one node where the exporter wrote two.
    Pass { name: "common-subexpressions", run: common::share_common },
    // Once equal scales are one constant, and before anything looks at what a product takes.
    Pass { name: "qdq", run: qdq::keep_quantized },
    // What has a name of its own, before epilogues take parts of it. The gelus first: a gate might match their inside.
    Pass { name: "gelu", run: gelu::recognize_gelu },
    Pass { name: "activation", run: activation::recognize_activations },
    Pass { name: "layer-norm", run: layer_norm::recognize_layer_norm },
    // Before a bias or a residual takes the mask.
    Pass { name: "attention", run: attention::recognize_attention },
    // While the activation that shows what is never negative still stands by itself.
    Pass { name: "pad", run: pad::absorb_padding },
    // Before epilogues, which would hide the product from the normalization after it.
    Pass { name: "batch-norm", run: batch_norm::fold_batch_norm },
    // A bias first: a residual or an activation comes after it in the sum.
    Pass { name: "bias", run: linear::fuse_bias },
    Pass { name: "epilogue", run: epilogue::fuse_epilogues },
    // Last: the patterns above are written for the layout of ONNX.
    Pass { name: "channels-last", run: channels_last::lay_out },
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
    let before = graph.node_count();
    let mut changes: Vec<(&'static str, usize)> = Vec::new();
    for _ in 0..ROUNDS {
        let mut changed = 0;
        for pass in PASSES {
            let count = (pass.run)(graph).at(|| format!("pass {}", pass.name))?;
            changed += count;
            if count > 0 {
                match changes.iter_mut().find(|(name, _)| *name == pass.name) {
                    Some((_, total)) => *total += count,
                    None => changes.push((pass.name, count)),
                }
            }
        }
        if changed == 0 {
            break;
        }
    }
    debug_assert!(graph.verify().is_ok());
    Ok(PassReport { changes, nodes: (before, graph.node_count()) })
}
