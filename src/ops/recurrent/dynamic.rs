//! `DynamicQuantizeLSTM`, which ONNX Runtime's dynamic quantizer writes: an `LSTM` whose weights are bytes. They are read
//! as the real numbers that they stand for, and so are the sequences, which that operator would round to bytes as it runs.

use super::lstm;
use crate::error::{Result, bail};
use crate::ops::elementwise::{Binary, BinaryKind, Cast};
use crate::ops::layout::{Reshape, Transpose, Unsqueeze};
use crate::ops::quant::DequantizeLinear;
use crate::ops::reader::Operand::{self, Constant, Input};
use crate::ops::sequence::{Sequence, input_if_present};
use crate::ops::{NodeReader, OpDef, Reading};
use crate::tensor::{DType, Tensor};

pub(super) const DYNAMIC_QUANTIZE_LSTM: OpDef =
    OpDef::new("DynamicQuantizeLSTM", 1, 12..=12, read).domain("com.microsoft").outputs(1..=3);

/// Inputs of an `LSTM`; behind them the scales and zero points of W and of R.
const LSTM_INPUTS: usize = 8;

fn read(node: &mut NodeReader) -> Result<Reading> {
    let Reading::Op(op) = lstm::read(node)? else { bail!(Internal, "an LSTM is one operator") };
    let lone = op.downcast_ref::<lstm::Lstm>().is_some_and(|op| op.recurrence.direction.count() == 1);
    let mut nodes = Sequence::default();
    let w = weight(node, &mut nodes, 1, LSTM_INPUTS, lone);
    let r = weight(node, &mut nodes, 2, LSTM_INPUTS + 2, lone);
    let mut inputs = vec![Input(0), w, r];
    inputs.extend((3..LSTM_INPUTS).map(Input));
    nodes.push_shared(op, inputs);
    Ok(nodes.finish())
}

/// `(bytes - zero) * scale` of `[directions, depth, gates * hidden]`, turned to the layout of an `LSTM`. Scales and zero
/// points are one for each direction, or one for each of its columns.
fn weight(node: &NodeReader, nodes: &mut Sequence, bytes: usize, scale: usize, lone: bool) -> Operand {
    let by_column = node.input_rank(scale) == Some(2);
    let number = if by_column && !lone {
        columns_of_both(node, nodes, bytes, scale)
    } else {
        let mut inputs = vec![Input(bytes)];
        for parameter in [Some(Input(scale)), input_if_present(node, scale + 1)].into_iter().flatten() {
            let flat = [parameter.clone(), Constant(Tensor::vector(vec![-1i64]))];
            inputs.push(if by_column { nodes.push(Reshape::default(), flat) } else { parameter });
        }
        let axis = if by_column { 2 } else { 0 };
        nodes.push(DequantizeLinear { axis, ..Default::default() }, inputs)
    };
    nodes.push(Transpose { perm: Some(vec![0, 2, 1]) }, [number])
}

/// Of two directions with a scale for each column, which no axis alone tells apart.
fn columns_of_both(node: &NodeReader, nodes: &mut Sequence, bytes: usize, scale: usize) -> Operand {
    let spread = |nodes: &mut Sequence, index: usize| {
        let number = nodes.push(Cast { to: DType::F32 }, [Input(index)]);
        nodes.push(Unsqueeze, [number, Constant(Tensor::vector(vec![1i64]))])
    };
    let mut number = nodes.push(Cast { to: DType::F32 }, [Input(bytes)]);
    if input_if_present(node, scale + 1).is_some() {
        let zero = spread(nodes, scale + 1);
        number = nodes.push(Binary(BinaryKind::Sub), [number, zero]);
    }
    let scale = spread(nodes, scale);
    nodes.push(Binary(BinaryKind::Mul), [number, scale])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Attr;
    use std::collections::BTreeMap;

    #[test]
    fn bytes_become_the_weights_of_an_lstm() {
        let attrs = BTreeMap::from([("hidden_size".to_owned(), Attr::Int(3))]);
        let mut present = vec![true; 12];
        present[4..8].fill(false);
        let ranks = |rank: usize| [vec![None; 8], vec![Some(rank); 4]].concat();
        for (direction, rank, zeros, count) in [
            ("forward", 1, true, 5),
            ("bidirectional", 1, false, 5),
            ("reverse", 2, true, 9),
            ("bidirectional", 2, true, 17),
            ("bidirectional", 2, false, 11),
        ] {
            (present[9], present[11]) = (zeros, zeros);
            let mut attrs = attrs.clone();
            attrs.insert("direction".to_owned(), Attr::Str(direction.into()));
            let node = NodeReader::new("DynamicQuantizeLSTM", 1, attrs, present.clone(), 1, 0);
            let Reading::Nodes(nodes) = read(&mut node.with_ranks(ranks(rank))).unwrap() else { panic!("one node") };
            assert_eq!(nodes.len(), count, "{direction} {rank}");
            let (op, inputs) = nodes.last().unwrap();
            assert_eq!((op.name(), inputs.len()), ("LSTM", 8));
        }
    }
}
