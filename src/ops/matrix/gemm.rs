//! `Gemm`: a matrix product with factors, transposes and an added matrix.

use super::product::{Wide, multiply_add, transpose};
use crate::error::{Result, ensure};
use crate::ops::numeric::{from_f64, from_i64};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor, broadcast_index, broadcast_shapes};

/// `alpha * a' · b' + beta * c`: `a'` is `[m, k]`, `b'` is `[k, n]`, and the optional `c` broadcasts to `[m, n]`. With a
/// `beta` of zero `c` is not read, as in BLAS: a NaN in it does not matter.
#[derive(Debug, Clone, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of c.
    pub beta: f32,
    /// Whether a is stored `[k, m]`.
    pub trans_a: bool,
    /// Whether b is stored `[n, k]`.
    pub trans_b: bool,
}

impl Default for Gemm {
    /// Factors of one, nothing transposed.
    fn default() -> Self {
        Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }
    }
}

impl Gemm {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        Ok(Gemm::read_attrs(node)?.into())
    }

    pub(crate) fn read_attrs(node: &mut NodeReader) -> Result<Self> {
        Ok(Gemm {
            alpha: node.float_or("alpha", 1.0)?,
            beta: node.float_or("beta", 1.0)?,
            trans_a: node.flag_or("transA", false)?,
            trans_b: node.flag_or("transB", false)?,
        })
    }

    /// The product without factors: `[m, n]` and the sums.
    pub(crate) fn product<T: Wide + Default>(
        &self,
        a: &[T],
        a_shape: &[usize],
        b: &[T],
        b_shape: &[usize],
    ) -> Result<([usize; 2], Vec<T>)> {
        let (&[a0, a1], &[b0, b1]) = (a_shape, b_shape) else {
            crate::error::bail!(Shape, "Gemm of {a_shape:?} and {b_shape:?}: both must be matrices")
        };
        let (m, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (depth, n) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        ensure!(k == depth, Shape, "Gemm contracts {k} with {depth} elements");
        let len = crate::tensor::Shape::from([m, n]).checked_len()?;
        let mut out = vec![T::default(); len];
        let a = if self.trans_a { &transpose(a0, a1, a) } else { a };
        let b = if self.trans_b { &transpose(b0, b1, b) } else { b };
        multiply_add(m, k, n, a, b, &mut out);
        Ok(([m, n], out))
    }
}

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        inputs.get(0)?.get(usize::from(!self.trans_a))?.checked_mul(output.elements())
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        for fact in [Some(a), Some(b), inputs.get(2)].into_iter().flatten() {
            ensure!(fact.dtype == a.dtype && a.dtype != DType::Bool, Shape, "Gemm of {} with {}", a.dtype, fact.dtype);
        }
        let sides = |fact: &Fact, transposed: bool| match fact.dims() {
            None => Ok((Dim::Unknown, Dim::Unknown)),
            Some([rows, columns]) if transposed => Ok((columns.clone(), rows.clone())),
            Some([rows, columns]) => Ok((rows.clone(), columns.clone())),
            Some(_) => Err(crate::error::err!(Shape, "Gemm takes matrices, but got {fact}")),
        };
        let ((m, k), (depth, n)) = (sides(a, self.trans_a)?, sides(b, self.trans_b)?);
        k.unify(&depth).map_err(|e| e.at("the contracted axes of a and b"))?;
        let shape = vec![m, n];
        if let Some(dims) = inputs.get(2).and_then(Fact::dims) {
            ensure!(dims.len() <= 2, Shape, "c has rank {}, but adds to a matrix", dims.len());
            for (own, added) in shape.iter().rev().zip(dims.iter().rev()) {
                let fits = match (own.known(), added.known()) {
                    (Some(own), Some(added)) => added == own || added == 1,
                    _ => true,
                };
                ensure!(fits, Shape, "c has {added} elements where the product has {own}");
            }
        }
        Ok(vec![Fact::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let (a, b) = (inputs.require(0)?, inputs.require(1)?);
        // ONNX gives integers the float factors too; only where they matter is the sum taken through floats.
        let exact = !a.dtype().is_float() && self.alpha == 1.0 && self.beta == 1.0;
        if exact {
            let (shape, mut out) = self.product(&a.to_i64_vec()?, a.shape(), &b.to_i64_vec()?, b.shape())?;
            if let Some(c) = inputs.get(2) {
                broadcast_shapes(&[c.shape(), &shape])?;
                let added = c.to_i64_vec()?;
                out.iter_mut().zip(broadcast_index(c.shape(), &shape)).for_each(|(v, i)| *v = v.plus(added[i]));
            }
            return Ok(vec![from_i64(a.dtype(), shape, out)?]);
        }
        let (shape, mut out) = self.product(&a.to_f64_vec()?, a.shape(), &b.to_f64_vec()?, b.shape())?;
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        out.iter_mut().for_each(|v| *v *= alpha);
        if let Some(c) = inputs.get(2).filter(|_| self.beta != 0.0) {
            broadcast_shapes(&[c.shape(), &shape])?;
            let added = c.to_f64_vec()?;
            out.iter_mut().zip(broadcast_index(c.shape(), &shape)).for_each(|(v, i)| *v += beta * added[i]);
        }
        Ok(vec![from_f64(a.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .float("alpha", self.alpha)
            .float("beta", self.beta)
            .flag("transA", self.trans_a)
            .flag("transB", self.trans_b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &Gemm, tensors: &[&Tensor]) -> Result<Tensor> {
        let facts: Vec<Fact> = tensors.iter().map(|t| Fact::concrete(t.dtype(), t.shape())).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        op.infer(Inputs::new(&facts))?;
        let tensors: Vec<Option<&Tensor>> = tensors.iter().copied().map(Some).collect();
        Ok(op.eval(Inputs::new(&tensors), &Budget::generous())?.remove(0))
    }

    #[test]
    fn transposes_and_factors() {
        let a = Tensor::new([3, 2], vec![1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap();
        let b = Tensor::new([2, 3], vec![1.0f32, 0.0, 1.0, 0.0, 1.0, 1.0]).unwrap();
        let c = Tensor::new([2, 1], vec![10.0f32, 20.0]).unwrap();
        let op = Gemm { alpha: 2.0, beta: 0.5, trans_a: true, trans_b: true };
        assert_eq!(run(&op, &[&a, &b, &c]).unwrap().as_slice::<f32>().unwrap(), [13.0, 15.0, 30.0, 32.0]);
    }

    #[test]
    fn a_beta_of_zero_leaves_c_unread() {
        let one = Tensor::new([1, 1], vec![1.0f32]).unwrap();
        let c = Tensor::new([1, 1], vec![f32::NAN]).unwrap();
        assert_eq!(run(&Gemm { beta: 0.0, ..Gemm::default() }, &[&one, &one, &c]).unwrap(), one);
    }

    #[test]
    fn integers_are_exact() {
        let a = Tensor::new([1, 1], vec![(1i64 << 60) + 1]).unwrap();
        let one = Tensor::new([1, 1], vec![1i64]).unwrap();
        assert_eq!(run(&Gemm::default(), &[&a, &one, &one]).unwrap().as_slice::<i64>().unwrap(), [(1 << 60) + 2]);
    }

    #[test]
    fn misfits_are_errors() {
        let a = Tensor::new([2, 3], vec![0.0f32; 6]).unwrap();
        let b = Tensor::new([3, 2], vec![0.0f32; 6]).unwrap();
        let c = Tensor::new([3], vec![0.0f32; 3]).unwrap();
        assert!(run(&Gemm::default(), &[&a, &a]).is_err());
        assert!(run(&Gemm::default(), &[&a, &b, &c]).is_err());
    }
}
