//! A product by rows of a unit matrix is a look-up: what a one-hot encoding before a dense layer comes to.
//!
//! `MatMul(Cast(Equal(ids, [0, 1, .., n - 1])), W)` picks row `ids` of `W`, and a row of zeros where no column is equal.
//! Functions of the elements that follow are functions of the table.

use super::pattern::{constant, each, integers};
use crate::error::Result;
use crate::graph::{Graph, Node, Patch, ValueId};
use crate::ops::elementwise::{Binary, BinaryKind, Cast, Unary, Variadic, VariadicKind};
use crate::ops::index::Gather;
use crate::ops::layout::Squeeze;
use crate::ops::matrix::MatMul;
use crate::tensor::{DType, Dim, Tensor};

/// Elements of the largest table whose functions are computed beforehand.
const MOST_ELEMENTS: usize = 1 << 17;

pub(super) fn look_up(graph: &mut Graph) -> Result<usize> {
    each(graph, |graph, _, node| product(graph, node).or_else(|| function(graph, node)))
}

/// The product of a one-hot encoding and a table.
fn product(graph: &Graph, node: &Node) -> Option<Patch> {
    node.op().downcast_ref::<MatMul>()?;
    let (hot, table) = (node.input(0)?, constant(graph, node.input(1)?)?);
    let &[n, width] = &table.shape()[..] else { return None };
    let (_, cast) = graph.producer(hot)?;
    let truth = cast.input(0)?;
    if cast.op().downcast_ref::<Cast>()?.to != DType::F32 || graph.fact(truth).dtype != DType::Bool {
        return None;
    }
    let (_, equal) = graph.producer(truth)?;
    let [a, b] = super::pattern::binary(equal, BinaryKind::Equal)?;
    let ids = if counts(graph, b, a, n) { a } else { Some(b).filter(|_| counts(graph, a, b, n))? };
    // Read last, for it is every product's weights that come here.
    let rows = table.as_slice::<f32>().ok()?;
    // Zero times these would not be zero.
    if rows.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let number = |x: i64| match graph.fact(ids).dtype {
        DType::I32 => i32::try_from(x).ok().map(Tensor::scalar),
        DType::I64 => Some(Tensor::scalar(x)),
        _ => None,
    };
    let mut padded = vec![0.0; width];
    padded.extend_from_slice(rows);
    padded.resize(padded.len() + width, 0.0);
    let (below, above, one) = (number(-1)?, number(i64::try_from(n).ok()?)?, number(1)?);
    let mut patch = Patch::new();
    let table = patch.constant("table", Tensor::new([n + 2, width], padded).ok()?);
    let last = patch.constant("axis", Tensor::vector(vec![-1i64]));
    let (below, above, one) =
        (patch.constant("below", below), patch.constant("above", above), patch.constant("one", one));
    let row = patch.op("ids", Squeeze, &[ids.into(), last]);
    let row = patch.op("ids", Variadic(VariadicKind::Max), &[row, below]);
    let row = patch.op("ids", Variadic(VariadicKind::Min), &[row, above]);
    let row = patch.op("ids", Binary(BinaryKind::Add), &[row, one]);
    let picked = patch.op(node.name(), Gather { axis: 0 }, &[table, row]);
    patch.replace(node.output(0)?, picked);
    Some(patch)
}

/// Whether `columns` are the numbers from 0 to `n`, spread along a new last axis of `ids`.
fn counts(graph: &Graph, columns: ValueId, ids: ValueId, n: usize) -> bool {
    let (Some(values), Some(shape)) = (integers(graph, columns), constant(graph, columns).map(Tensor::shape)) else {
        return false;
    };
    let Some(dims) = graph.fact(ids).dims() else { return false };
    let along_last = shape.last() == Some(&n) && values.len() == n && shape.rank() <= dims.len();
    let from_zero = values.iter().enumerate().all(|(i, &value)| i64::try_from(i) == Ok(value));
    along_last && from_zero && dims.last() == Some(&Dim::Known(1))
}

/// A function of what is picked from a table, alone or with a constant for each column.
fn function(graph: &Graph, node: &Node) -> Option<Patch> {
    let (index, beside) = match node.op().downcast_ref::<Binary>() {
        Some(Binary(kind)) => {
            let [a, b] = [node.input(0)?, node.input(1)?];
            // Rows that nobody picks must not make it fail, as a zero does that integers are divided by.
            let divides = matches!(kind, BinaryKind::Div | BinaryKind::Mod { .. } | BinaryKind::Pow);
            if divides && !graph.fact(a).dtype.is_float() {
                return None;
            }
            let index = usize::from(constant(graph, a).is_some());
            (index, Some([b, a][index]))
        }
        None => {
            node.op().downcast_ref::<Unary>()?;
            (0, None)
        }
    };
    let picked = node.input(index)?;
    let (_, gather) = graph.producer(picked)?;
    graph.single_user(picked)?;
    let (table, ids) = (gather.input(0)?, gather.input(1)?);
    let rows = constant(graph, table)?;
    if gather.op().downcast_ref::<Gather>()?.axis != 0 || rows.rank() != 2 || rows.len() > MOST_ELEMENTS {
        return None;
    }
    let mut patch = Patch::new();
    let mut inputs = vec![table.into()];
    if let Some(beside) = beside {
        let values = constant(graph, beside)?;
        let fits =
            values.len() == 1 || (values.len() == rows.shape()[1] && values.shape().last() == Some(&values.len()));
        let rank = graph.fact(picked).rank()?;
        if !fits || values.rank() > rank {
            return None;
        }
        let flat = patch.constant("beside", values.reshaped([values.len()]).ok()?);
        inputs.insert(1 - index, flat);
    }
    let inputs: Vec<_> = inputs.into_iter().map(Some).collect();
    let table = patch.node(node.name(), node.op().clone(), &inputs, 1);
    let picked = patch.op(gather.name(), Gather { axis: 0 }, &[*table.first()?, ids.into()]);
    patch.replace(node.output(0)?, picked);
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;
    use crate::ops::elementwise::UnaryKind;
    use crate::ops::layout::Unsqueeze;
    use crate::tensor::Fact;

    /// A one-hot encoding of `ids` before a product with a table of `[4, 3]`, and what comes after.
    fn encoded(columns: &[i32], after: bool) -> Graph {
        let mut graph = Graph::new("test");
        let ids = graph.input("ids", Fact::concrete(DType::I32, &[2, 5])).unwrap();
        let last = graph.constant("last", Tensor::vector(vec![-1i64])).unwrap();
        let columns = graph.constant("columns", Tensor::new([1, 1, 4], columns.to_vec()).unwrap()).unwrap();
        let table: Vec<f32> = (0..12).map(|i| i as f32 - 5.5).collect();
        let table = graph.constant("table", Tensor::new([4, 3], table).unwrap()).unwrap();
        let bias = graph.constant("bias", Tensor::vector(vec![1.0f32, -2.0, 0.5])).unwrap();
        let ids = graph.op("wide", Unsqueeze, &[ids, last]).unwrap();
        let equal = graph.op("equal", Binary(BinaryKind::Equal), &[ids, columns]).unwrap();
        let hot = graph.op("hot", Cast { to: DType::F32 }, &[equal]).unwrap();
        let mut y = graph.op("dense", MatMul, &[hot, table]).unwrap();
        if after {
            y = graph.op("bias", Binary(BinaryKind::Add), &[bias, y]).unwrap();
            y = graph.op("relu", Unary(UnaryKind::Relu), &[y]).unwrap();
        }
        graph.output(y).unwrap();
        graph
    }

    /// Some of them are in no column.
    fn ids() -> Tensor {
        Tensor::new([2, 5], vec![0, 3, 2, 1, 0, 4, -1, i32::MAX, i32::MIN, 3]).unwrap()
    }

    #[test]
    fn a_one_hot_encoding_before_a_product_is_a_look_up() {
        check(&mut encoded(&[0, 1, 2, 3], false), look_up, &[ids()], 6);
    }

    #[test]
    fn what_follows_is_a_function_of_the_table() {
        // Its addition and its function are left to be folded.
        check(&mut encoded(&[0, 1, 2, 3], true), look_up, &[ids()], 8);
        let mut graph = encoded(&[0, 1, 2, 3], true);
        look_up(&mut graph).unwrap();
        let picked = graph.producer(graph.outputs()[0]).unwrap().1;
        assert!(picked.op().is::<Gather>());
    }

    #[test]
    fn a_row_that_nobody_picks_does_not_fail() {
        use BinaryKind::{Add, Div, Mod, Pow};
        for (kind, moved) in [(Add, true), (Div, false), (Mod { fmod: false }, false), (Pow, false)] {
            let mut graph = Graph::new("test");
            let ids = graph.input("ids", Fact::concrete(DType::I64, &[2])).unwrap();
            let table = graph.constant("table", Tensor::new([2, 2], vec![0i64, 0, 3, 7]).unwrap()).unwrap();
            let beside = graph.constant("beside", Tensor::vector(vec![100i64, 50])).unwrap();
            let picked = graph.op("picked", Gather { axis: 0 }, &[table, ids]).unwrap();
            let y = graph.op("y", Binary(kind), &[beside, picked]).unwrap();
            graph.output(y).unwrap();
            check(&mut graph, look_up, &[Tensor::vector(vec![1i64, 1])], 2);
            assert_eq!(graph.producer(graph.outputs()[0]).unwrap().1.op().is::<Gather>(), moved, "{kind:?}");
        }
    }

    #[test]
    fn other_columns_are_another_product() {
        check(&mut encoded(&[0, 1, 3, 2], true), look_up, &[ids()], 6);
    }
}
