//! `MatMulNBits`: a product with weights of a few bits, scaled by blocks.

use super::contrib::DOMAIN;
use crate::error::{Result, bail, ensure, err};
use crate::ops::matrix::product::multiply_add;
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};

/// a `[.., k]` times the transpose of b `[n, blocks, block_size * bits / 8]`, whose bytes hold `bits`-wide weights,
/// lowest bits first. Then scales `[n * blocks]`; optional zero points, packed like b or as floats (by default half the
/// range); an optional block index for each of the `k`; an optional bias `[n]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatMulNBits {
    /// Length of the contracted axis.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Bits of a weight: 2, 4 or 8.
    pub bits: usize,
    /// How many weights along k share a scale: a power of two, at least 16.
    pub block_size: usize,
}

impl MatMulNBits {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let mut length = |name: &str| match node.int(name)?.map(usize::try_from) {
            Some(Ok(length)) => Ok(length),
            value => Err(err!(InvalidModel, "attribute {name} is {value:?}")),
        };
        let (k, n, block_size) = (length("K")?, length("N")?, length("block_size")?);
        let bits = node.int_or("bits", 4)?;
        ensure!(matches!(bits, 2 | 4 | 8), Unsupported, "weights of {bits} bits; 2, 4 and 8 are supported");
        let fits = block_size >= 16 && block_size.is_power_of_two();
        ensure!(fits, InvalidModel, "block_size is {block_size}, but must be a power of two from 16 on");
        let prepacked = node.int_or("weight_prepacked", 0)?;
        ensure!(prepacked == 0, Unsupported, "weights packed for another device (weight_prepacked {prepacked})");
        // A hint about the precision of the products; every level may be computed more exactly.
        node.int("accuracy_level")?;
        Ok(MatMulNBits { k, n, bits: bits as usize, block_size }.into())
    }

    /// Blocks along k.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(self.block_size)
    }

    /// Bytes of the packed zero points of a column.
    fn zero_bytes(&self) -> usize {
        (self.blocks() * self.bits).div_ceil(8)
    }

    /// The weight `index` of a run of bytes.
    fn unpack(&self, bytes: &[u8], index: usize) -> u8 {
        let each = 8 / self.bits;
        let mask = ((1u16 << self.bits) - 1) as u8;
        bytes[index / each] >> (index % each * self.bits) & mask
    }

    /// The real weights, `[k, n]`. `inputs` are those of the operator.
    pub(crate) fn dequantize(&self, inputs: Inputs<'_, Tensor>) -> Result<Vec<f64>> {
        let (packed, scales) = (inputs.require(1)?.as_slice::<u8>()?, inputs.require(2)?.to_f64_vec()?);
        let (blocks, bytes) = (self.blocks(), self.block_size * self.bits / 8);
        ensure!(packed.len() == self.n * blocks * bytes, Shape, "b has {} bytes", packed.len());
        ensure!(scales.len() == self.n * blocks, Shape, "{} scales", scales.len());
        let zeros = self.zeros(inputs.get(3))?;
        let group = inputs.get(4).map(Tensor::to_i64_vec).transpose()?;
        let mut weights = vec![0.0; self.k * self.n];
        for column in 0..self.n {
            for row in 0..self.k {
                let own = &packed[column * blocks * bytes..][..blocks * bytes];
                let value = f64::from(self.unpack(own, row));
                let block = match &group {
                    None => row / self.block_size,
                    Some(list) => match list.get(row).map(|&g| usize::try_from(g)) {
                        Some(Ok(block)) if block < blocks => block,
                        other => bail!(InvalidInput, "block index {other:?} of {blocks} blocks"),
                    },
                };
                let at = column * blocks + block;
                weights[row * self.n + column] = (value - zeros[at]) * scales[at];
            }
        }
        Ok(weights)
    }

    /// A zero point for each block of each column.
    pub(crate) fn zeros(&self, tensor: Option<&Tensor>) -> Result<Vec<f64>> {
        let blocks = self.blocks();
        let count = self.n * blocks;
        match tensor {
            None => Ok(vec![f64::from(1u32 << (self.bits - 1)); count]),
            Some(tensor) if tensor.dtype() == DType::U8 => {
                let (bytes, each) = (tensor.as_slice::<u8>()?, self.zero_bytes());
                ensure!(bytes.len() == self.n * each, Shape, "{} bytes of zero points", bytes.len());
                let of = |i: usize| f64::from(self.unpack(&bytes[i / blocks * each..], i % blocks));
                Ok((0..count).map(of).collect())
            }
            Some(tensor) => {
                ensure!(tensor.len() == count, Shape, "{} zero points", tensor.len());
                tensor.to_f64_vec()
            }
        }
    }
}

impl Op for MatMulNBits {
    fn name(&self) -> &'static str {
        "MatMulNBits"
    }

    fn macs(&self, inputs: Inputs<'_, Shape>, output: &Shape) -> Option<usize> {
        inputs.get(0)?.last()?.checked_mul(output.elements())
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (a, b, scales) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        ensure!(a.dtype.is_float() && scales.dtype.is_float(), InvalidModel, "a is {a}, the scales are {scales}");
        ensure!(b.dtype == DType::U8, InvalidModel, "b is {}, but packed weights are u8", b.dtype);
        let expected = |parts: [usize; 3]| parts.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let columns = [self.n, self.blocks(), self.block_size.saturating_mul(self.bits) / 8];
        for (name, fact, count) in
            [("b", b, expected(columns)), ("scales", scales, expected([self.n, self.blocks(), 1]))]
        {
            let Some(shape) = fact.concrete_shape() else { continue };
            ensure!(Some(shape.elements()) == count, Shape, "{name} has the shape {shape}; need {columns:?} in all");
        }
        ensure!(expected([self.k, self.n, 8]).is_some(), Limit, "{} times {} weights are too many", self.k, self.n);
        let Some(dims) = a.dims() else { return Ok(vec![Fact::unranked(a.dtype)]) };
        let Some((last, batch)) = dims.split_last() else { bail!(Shape, "a is a scalar") };
        last.unify(&Dim::Known(self.k)).map_err(|e| e.at("the last axis of a"))?;
        let shape = batch.iter().cloned().chain([Dim::Known(self.n)]).collect();
        Ok(vec![Fact::new(a.dtype, shape)])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let a = inputs.require(0)?;
        budget.admit_bytes(self.k.saturating_mul(self.n).saturating_mul(8))?;
        let weights = self.dequantize(inputs)?;
        let batch = &a.shape()[..a.rank().saturating_sub(1)];
        let rows = batch.iter().product::<usize>();
        let shape: Shape = batch.iter().copied().chain([self.n]).collect();
        let mut out = vec![0.0; shape.checked_len()?];
        multiply_add(rows, self.k, self.n, &a.to_f64_vec()?, &weights, &mut out);
        if let Some(bias) = inputs.get(5) {
            let bias = bias.to_f64_vec()?;
            ensure!(bias.len() == self.n, Shape, "{} biases for {} columns", bias.len(), self.n);
            out.chunks_exact_mut(self.n.max(1)).for_each(|row| row.iter_mut().zip(&bias).for_each(|(v, b)| *v += b));
        }
        Ok(vec![from_f64(a.dtype(), shape, out)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .int("K", self.k as i64)
            .int("N", self.n as i64)
            .int("bits", self.bits as i64)
            .int("block_size", self.block_size as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_unpacked_lowest_first() {
        let op = MatMulNBits { k: 16, n: 1, bits: 4, block_size: 16 };
        let mut bytes = vec![0x88u8; 8];
        bytes[0] = 0x9a;
        let packed = Tensor::new([1, 1, 8], bytes).unwrap();
        let scales = Tensor::vector(vec![0.5f32]);
        let mut a = vec![0.0f32; 16];
        (a[0], a[1]) = (1.0, 10.0);
        let a = Tensor::new([1, 16], a).unwrap();
        let y = |zeros: Option<&Tensor>| {
            let inputs = [Some(&a), Some(&packed), Some(&scales), zeros];
            op.eval(Inputs::new(&inputs), &Budget::generous()).unwrap()[0].to_f32_vec().unwrap()
        };
        assert_eq!(y(None), [0.5 * (2.0 + 10.0)]);
        assert_eq!(y(Some(&Tensor::new([1, 1], vec![0x0au8]).unwrap())), [0.5 * (0.0 - 10.0)]);
        assert_eq!(y(Some(&Tensor::vector(vec![9.5f32]))), [0.5 * (0.5 - 5.0)]);
    }

    #[test]
    fn contradicting_shapes_are_errors() {
        let op = MatMulNBits { k: 16, n: 1, bits: 4, block_size: 16 };
        let (a, scales) = (Fact::concrete(DType::F32, &[2, 16]), Fact::concrete(DType::F32, &[1]));
        let infer = |op: &MatMulNBits, b: &[usize]| {
            op.infer(Inputs::new(&[Some(&a), Some(&Fact::concrete(DType::U8, b)), Some(&scales)]))
        };
        assert!(infer(&op, &[1, 1, 8]).is_ok());
        assert!(infer(&op, &[1, 2, 8]).is_err());
        assert!(infer(&MatMulNBits { k: usize::MAX, n: usize::MAX, ..op }, &[1, 1, 8]).is_err());
    }
}
