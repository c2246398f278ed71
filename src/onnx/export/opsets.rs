//! Which opset a node needs: that of its operator's form, or a newer one for a dtype or a meaning that came later.

use crate::graph::{Graph, Node};
use crate::ops::{Attr, OpDef};
use crate::tensor::DType;

/// The opset of the operator's domain that `node` needs.
pub(super) fn needed(graph: &Graph, node: &Node, def: &OpDef) -> u32 {
    if !def.domain.is_empty() {
        return def.opset;
    }
    let takes = |dtype| node.inputs().iter().flatten().any(|id| graph.fact(*id).dtype == dtype);
    let rounds_up = || node.op().attrs().get("ceil_mode") == Some(&Attr::Int(1));
    let newer = match def.name {
        // Ranges of half floats came with opset 27.
        "Range" if takes(DType::F16) || takes(DType::BF16) => 27,
        // Until opset 22 a last window that lies in the padding alone was counted.
        "MaxPool" | "AveragePool" if rounds_up() => 22,
        // With opset 22 what was for the other floats only was opened to bf16.
        _ if takes(DType::BF16) => 22,
        _ => 0,
    };
    newer.max(def.opset)
}
