//! Products of reals with weights that the file holds as bytes: the bytes stay, and are dequantized while they are
//! multiplied, since memory delivers them four times as fast.

use super::pattern::{constant, each};
use crate::error::Result;
use crate::graph::{Graph, Node, Operand, Patch, ValueId};
use crate::ops::Op;
use crate::ops::fused::Epilogue;
use crate::ops::matrix::{Gemm, MatMul};
use crate::ops::quant::{DequantizeLinear, MatMulNBits};
use crate::tensor::{DType, Tensor};
use std::sync::Arc;

pub(super) fn keep_weights(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| rewritten(graph, node))
}

/// Inputs that belong to the product that is made.
const ARITY: usize = 4;

fn rewritten(graph: &Graph, node: &Node) -> Option<Patch> {
    let output = node.output(0)?;
    let real = [node.input(0)?, output].iter().all(|value| graph.fact(*value).dtype == DType::F32);
    let (epilogue, transposed, rest) = form(graph, node)?;
    let weights = Weights::of(graph, node.input(1)?, transposed).filter(|_| real)?;
    let op: Arc<dyn Op> = Arc::new(MatMulNBits { k: weights.k, n: weights.n, bits: 8, block_size: weights.block });
    let op = match epilogue {
        Some(epilogue) => Arc::new(Epilogue { op, arity: ARITY, ..epilogue }),
        None => op,
    };
    let mut patch = Patch::new();
    let [codes, scales, zeros] = weights.tensors()?;
    let codes = patch.constant("weight", codes);
    let scales = patch.constant("scales", scales);
    let zeros = patch.constant("zeros", zeros);
    let mut inputs = vec![Some(node.input(0)?.into()), Some(codes), Some(scales), Some(zeros)];
    inputs.extend(rest.into_iter().map(|value| Some(Operand::from(value))));
    let outputs = patch.node(node.name(), op, &inputs, 1);
    patch.replace(output, outputs[0]);
    Some(patch)
}

/// What a product ends with, whether its weights are transposed, and its inputs from the third on.
fn form(graph: &Graph, node: &Node) -> Option<(Option<Epilogue>, bool, Vec<ValueId>)> {
    let op = node.op();
    let rest = || node.inputs().get(2..).unwrap_or_default().iter().copied().collect::<Option<Vec<_>>>();
    if op.is::<MatMul>() {
        return Some((None, false, Vec::new()));
    }
    if let Some(epilogue) = op.downcast_ref::<Epilogue>() {
        return (epilogue.op.is::<MatMul>() && epilogue.arity == 2).then_some((Some(epilogue.clone()), false, rest()?));
    }
    let gemm = op.downcast_ref::<Gemm>()?;
    let columns = graph.fact(node.output(0)?).dims()?.last()?.known()?;
    let vector = |bias: &ValueId| graph.fact(*bias).concrete_shape().is_some_and(|shape| shape[..] == [columns]);
    let bias = rest()?;
    let plain = gemm.alpha == 1.0 && !gemm.trans_a && (bias.is_empty() || (gemm.beta == 1.0 && vector(&bias[0])));
    let epilogue = Epilogue { bias: true, ..Epilogue::of(Arc::new(MatMul), 2) };
    plain.then_some(((!bias.is_empty()).then_some(epilogue), gemm.trans_b, bias))
}

/// Constant bytes with a scale for each block of each column.
struct Weights<'a> {
    bytes: &'a Tensor,
    scales: &'a Tensor,
    zeros: Option<&'a Tensor>,
    transposed: bool,
    k: usize,
    n: usize,
    /// Rows that share a scale in what is made.
    block: usize,
    /// Rows that share a scale in what there is.
    rows: usize,
}

impl<'a> Weights<'a> {
    fn of(graph: &'a Graph, value: ValueId, transposed: bool) -> Option<Self> {
        let (_, node) = graph.producer(value)?;
        let op = node.op().downcast_ref::<DequantizeLinear>()?;
        let (bytes, scales) = (constant(graph, node.input(0)?)?, constant(graph, node.input(1)?)?);
        let zeros = match node.input(2) {
            Some(zeros) => Some(constant(graph, zeros)?),
            None => None,
        };
        let &[first, second] = &bytes.shape()[..] else { return None };
        let (k, n) = if transposed { (second, first) } else { (first, second) };
        if !matches!(bytes.dtype(), DType::I8 | DType::U8) || k == 0 || n == 0 {
            return None;
        }
        let axis = bytes.shape().axis(op.axis).ok()?;
        let along_k = axis == usize::from(transposed);
        let rows = match (scales.len(), op.block_size) {
            (1, 0) => k,
            (count, 0) if count == n && scales.rank() == 1 && !along_k => k,
            (_, rows @ 16..) if along_k && rows.is_power_of_two() => rows,
            _ => return None,
        };
        // Columns with one scale are cut into blocks as long as a power of two can be.
        let block = if rows.is_power_of_two() { rows.max(16) } else { (1 << k.trailing_zeros()).max(16) };
        Some(Weights { bytes, scales, zeros, transposed, k, n, block, rows })
    }

    /// The number for a row of a column, of a tensor with one for each block, each column, or all.
    fn at(&self, numbers: &[f64], row: usize, column: usize) -> f64 {
        let block = row / self.rows;
        match numbers.len() {
            1 => numbers[0],
            len if len == self.n => numbers[column],
            _ if self.transposed => numbers[column * self.k.div_ceil(self.rows) + block],
            _ => numbers[block * self.n + column],
        }
    }

    /// Codes, scales and zeros as `MatMulNBits` takes them.
    fn tensors(&self) -> Option<[Tensor; 3]> {
        let &Weights { k, n, block, .. } = self;
        let blocks = k.div_ceil(block);
        let offset = if self.bytes.dtype() == DType::I8 { 128 } else { 0 };
        // A flipped highest bit adds the offset to a signed byte.
        let bytes = self.bytes.as_bytes();
        let mut codes = vec![0; n * blocks * block];
        for (column, codes) in codes.chunks_exact_mut(blocks * block).enumerate() {
            for (row, code) in codes[..k].iter_mut().enumerate() {
                let at = if self.transposed { column * k + row } else { row * n + column };
                *code = bytes[at] ^ offset;
            }
        }
        let (scales, zeros) = (self.scales.to_f64_vec().ok()?, self.zeros.map(|zeros| zeros.to_f64_vec()).transpose());
        let zeros = zeros.ok()?.unwrap_or(vec![0.0]);
        let each = |numbers: &[f64], offset: f64| {
            let places = (0..n).flat_map(|column| (0..blocks).map(move |b| (b * block, column)));
            let numbers = places.map(|(row, column)| (self.at(numbers, row, column) + offset) as f32);
            Tensor::new([n, blocks], numbers.collect::<Vec<f32>>()).ok()
        };
        let codes = Tensor::new([n, blocks, block], codes).ok()?;
        Some([codes, each(&scales, 0.0)?, each(&zeros, f64::from(offset))?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph_of, ramp};
    use super::*;

    fn dequantized(
        graph: &mut Graph,
        bytes: Tensor,
        scales: Tensor,
        zeros: Option<Tensor>,
        op: DequantizeLinear,
    ) -> ValueId {
        let mut inputs = vec![graph.constant("w", bytes).unwrap(), graph.constant("scales", scales).unwrap()];
        inputs.extend(zeros.map(|zeros| graph.constant("zeros", zeros).unwrap()));
        graph.op("dq", op, &inputs).unwrap()
    }

    fn signed(shape: [usize; 2]) -> Tensor {
        let bytes: Vec<i8> = (0..shape[0] * shape[1]).map(|i| (i * 31 % 253) as i32 - 126).map(|v| v as i8).collect();
        Tensor::new(shape, bytes).unwrap()
    }

    #[test]
    fn bytes_stay_with_a_scale_for_all_for_columns_or_for_blocks() {
        let columns = || Tensor::vector((0..6).map(|i| 0.01 + i as f32 * 0.001).collect::<Vec<_>>());
        let blocks = || Tensor::new([2, 6], (0..12).map(|i| 0.01 + i as f32 * 0.001).collect::<Vec<_>>()).unwrap();
        let cases = [
            (Tensor::scalar(0.02f32), Some(Tensor::scalar(3i8)), DequantizeLinear { axis: 1, ..Default::default() }),
            (columns(), None, DequantizeLinear { axis: 1, ..Default::default() }),
            (
                columns(),
                Some(Tensor::vector(vec![1i8, -2, 3, -4, 5, -6])),
                DequantizeLinear { axis: -1, ..Default::default() },
            ),
            (blocks(), None, DequantizeLinear { axis: 0, block_size: 16, ..Default::default() }),
        ];
        for (scales, zeros, op) in cases {
            let (mut graph, x) = graph_of(&[3, 32]);
            let w = dequantized(&mut graph, signed([32, 6]), scales, zeros, op);
            let y = graph.op("product", MatMul, &[x, w]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, keep_weights, &[ramp(&[3, 32])], 1);
        }
    }

    #[test]
    fn a_gemm_becomes_a_product_with_a_bias() {
        let (mut graph, x) = graph_of(&[3, 20]);
        let scales = Tensor::vector((0..6).map(|i| 0.01 + i as f32 * 0.001).collect::<Vec<_>>());
        let op = DequantizeLinear { axis: 0, ..Default::default() };
        let bytes = Tensor::new([6, 20], (0..120).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>()).unwrap();
        let w = dequantized(&mut graph, bytes, scales, None, op);
        let bias = graph.constant("bias", ramp(&[6])).unwrap();
        let y = graph.op("gemm", Gemm { trans_b: true, ..Default::default() }, &[x, w, bias]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, keep_weights, &[ramp(&[3, 20])], 1);
        assert!(graph.nodes().unwrap().all(|(_, node)| node.op().is::<Epilogue>()));
    }

    #[test]
    fn a_scale_for_each_row_does_not_fit() {
        let (mut graph, x) = graph_of(&[3, 6]);
        let scales = Tensor::vector(vec![0.1f32, 0.2, 0.3, 0.4, 0.5, 0.6]);
        let w =
            dequantized(&mut graph, signed([6, 6]), scales, None, DequantizeLinear { axis: 0, ..Default::default() });
        let y = graph.op("product", MatMul, &[x, w]).unwrap();
        graph.output(y).unwrap();
        check(&mut graph, keep_weights, &[ramp(&[3, 6])], 2);
    }
}
