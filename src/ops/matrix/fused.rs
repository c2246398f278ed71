//! `FusedMatMul`: ONNX Runtime's matrix product with a factor and transposes.

use super::matmul::{infer_product, multiply};
use super::product::transpose;
use crate::error::{Result, ensure};
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Tensor};

/// `alpha * a' · b'`, where the last two axes of a and b may be stored the other way round; otherwise as `MatMul`.
#[derive(Debug, Clone, PartialEq)]
pub struct FusedMatMul {
    /// Factor of the product.
    pub alpha: f32,
    /// Whether a is stored `[.., k, m]`.
    pub trans_a: bool,
    /// Whether b is stored `[.., n, k]`.
    pub trans_b: bool,
}

impl FusedMatMul {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        for name in ["transBatchA", "transBatchB"] {
            let moved = node.flag_or(name, false)?;
            ensure!(!moved, Unsupported, "FusedMatMul with {name} is not supported; turn off that fusion");
        }
        Ok(FusedMatMul {
            alpha: node.float_or("alpha", 1.0)?,
            trans_a: node.flag_or("transA", false)?,
            trans_b: node.flag_or("transB", false)?,
        }
        .into())
    }
}

/// The fact of an operand as the product sees it.
fn turned_fact(fact: &Fact, turn: bool) -> Fact {
    let mut fact = Fact { dtype: fact.dtype, shape: fact.shape.clone(), value: None, content: None };
    if let (true, Some([.., a, b])) = (turn, fact.shape.as_deref_mut()) {
        std::mem::swap(a, b);
    }
    fact
}

/// An operand as the product sees it.
fn turned(x: &Tensor, turn: bool) -> Result<Tensor> {
    let [batch @ .., rows, columns] = &x.shape()[..] else { return Ok(x.clone()) };
    if !turn {
        return Ok(x.clone());
    }
    let shape: Vec<usize> = batch.iter().chain([columns, rows]).copied().collect();
    let values = x.to_f64_vec()?;
    let matrices = values.chunks_exact((rows * columns).max(1));
    from_f64(x.dtype(), shape, matrices.flat_map(|m| transpose(*rows, *columns, m)).collect())
}

impl Op for FusedMatMul {
    fn name(&self) -> &'static str {
        "FusedMatMul"
    }

    fn domain(&self) -> &'static str {
        "com.microsoft"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        ensure!(a.dtype == b.dtype && a.dtype.is_float(), Shape, "FusedMatMul of {} and {}", a.dtype, b.dtype);
        let shape = infer_product(&turned_fact(a, self.trans_a), &turned_fact(b, self.trans_b))?;
        Ok(vec![Fact { dtype: a.dtype, shape, value: None, content: None }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (a, b) = (turned(inputs.require(0)?, self.trans_a)?, turned(inputs.require(1)?, self.trans_b)?);
        let y = multiply(&a, &b)?;
        let alpha = f64::from(self.alpha);
        let scaled = y.to_f64_vec()?.into_iter().map(|v| v * alpha).collect();
        Ok(vec![from_f64(y.dtype(), y.shape().clone(), scaled)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().float("alpha", self.alpha).flag("transA", self.trans_a).flag("transB", self.trans_b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_transposed_operands() {
        let a = Tensor::new([2, 2, 1], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let b = Tensor::new([3, 2], vec![1.0f32, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
        let op = FusedMatMul { alpha: 2.0, trans_a: true, trans_b: true };
        let facts = [&a, &b].map(|t| Fact::concrete(t.dtype(), t.shape()));
        let fact = op.infer(Inputs::new(&[Some(&facts[0]), Some(&facts[1])])).unwrap().remove(0);
        let y = op.eval(Inputs::new(&[Some(&a), Some(&b)]), &Budget::generous()).unwrap().remove(0);
        assert_eq!(fact.concrete_shape().unwrap(), *y.shape());
        assert_eq!(y, Tensor::new([2, 1, 3], vec![2.0f32, 4.0, 6.0, 6.0, 8.0, 14.0]).unwrap());
    }
}
