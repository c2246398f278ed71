//! `RotaryEmbedding`: positions as rotations of pairs of features.

use super::heads::{Heads, head_dims};
use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op};
use crate::tensor::{Dim, Fact, Tensor};

/// Rotates pairs of the first `rotary_dim` features of each head by the angle of the position.
///
/// Inputs: X `[batch, heads, length, size]` or `[batch, length, heads * size]`; cosines and sines, `[positions,
/// rotary_dim / 2]` with the positions `[batch, length]` as input 3, `[batch, length, rotary_dim / 2]` without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotaryEmbedding {
    /// True where a pair is two neighbors, false where it is a feature of the first half and one of the second.
    pub interleaved: bool,
    /// How many features of each head are rotated; 0 for all.
    pub rotary_dim: usize,
    /// Heads of X where it has rank 3; without it, a head is as wide as the angles reach.
    pub num_heads: Option<usize>,
}

impl Op for RotaryEmbedding {
    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let x = inputs.require(0)?;
        ensure!(x.dtype.is_float(), InvalidModel, "features of {} cannot be rotated", x.dtype);
        for index in [1, 2] {
            let cache = inputs.require(index)?;
            let rank = if inputs.get(3).is_some() { 2 } else { 3 };
            ensure!(cache.rank().is_none_or(|r| r == rank), Shape, "input {index} is {cache}, not of rank {rank}");
        }
        let last = |fact: &Fact| fact.dims().and_then(|dims| dims.last().and_then(Dim::known));
        let heads = self.heads_of(x.rank(), last(x), last(inputs.require(1)?));
        if (x.rank() != Some(3) || heads.is_some())
            && let Some([_, _, _, size]) = head_dims(x, heads, "X")?
            && let Some(size) = size.known()
        {
            let rotated = self.rotated(size);
            ensure!(
                rotated <= size && rotated.is_multiple_of(2),
                Shape,
                "{rotated} of {size} features cannot be rotated"
            );
        }
        let shape = x.shape.clone();
        Ok(vec![Fact { shape, ..Fact::unranked(x.dtype) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let (x, cos, sin) = (inputs.require(0)?, inputs.require(1)?, inputs.require(2)?);
        let mut held = budget.hold();
        held.set(x.len().saturating_mul(2).saturating_add(cos.len()).saturating_add(sin.len()).saturating_mul(8))?;
        let last = |value: &Tensor| value.shape().last().copied();
        let mut heads = Heads::read(x, self.heads_of(Some(x.rank()), last(x), last(cos)), "X")?;
        let rotated = self.rotated(heads.size);
        let half = rotated / 2;
        let fits = |cache: &Tensor| cache.shape().last() == Some(&half) && cache.shape() == cos.shape();
        ensure!(fits(cos) && fits(sin), Shape, "caches {} and {} do not hold {half} angles", cos.shape(), sin.shape());
        let positions = inputs.get(3).map(Tensor::to_i64_vec).transpose()?;
        let rows = cos.len() / half.max(1);
        let (cos, sin) = (cos.to_f64_vec()?, sin.to_f64_vec()?);
        for b in 0..heads.batch {
            for s in 0..heads.length {
                let at = b * heads.length + s;
                let position = match &positions {
                    None => Some(at),
                    Some(positions) => positions.get(at).and_then(|&p| usize::try_from(p).ok()),
                };
                let Some(position) = position.filter(|&p| p < rows || half == 0) else {
                    bail!(InvalidInput, "the position at [{b}, {s}] is outside the {rows} of the cache");
                };
                for h in 0..heads.heads {
                    let row = heads.row_mut(b, h, s);
                    for pair in 0..half {
                        let angle = position * half + pair;
                        let (first, second) =
                            if self.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, half + pair) };
                        let (a, b) = (row[first], row[second]);
                        row[first] = cos[angle] * a - sin[angle] * b;
                        row[second] = sin[angle] * a + cos[angle] * b;
                    }
                }
            }
        }
        Ok(vec![heads.to_layout_of(x)?])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .flag("interleaved", self.interleaved)
            .int("rotary_embedding_dim", self.rotary_dim as i64)
            .int("num_heads", self.num_heads.map_or(0, |n| n as i64))
    }
}

impl RotaryEmbedding {
    /// Reads the attributes, the same in ONNX's domain and in ONNX Runtime's.
    pub(super) fn read(node: &mut NodeReader) -> Result<Self> {
        let length = |node: &mut NodeReader, name: &str| -> Result<usize> {
            let value = node.int_or(name, 0)?;
            match usize::try_from(value) {
                Ok(value) => Ok(value),
                Err(_) => bail!(InvalidModel, "{name} is {value}"),
            }
        };
        let rotary_dim = length(node, "rotary_embedding_dim")?;
        ensure!(rotary_dim % 2 == 0, InvalidModel, "rotary_embedding_dim {rotary_dim} is odd");
        let num_heads = Some(length(node, "num_heads")?).filter(|&n| n > 0);
        Ok(RotaryEmbedding { interleaved: node.flag_or("interleaved", false)?, rotary_dim, num_heads })
    }

    fn rotated(&self, size: usize) -> usize {
        if self.rotary_dim == 0 { size } else { self.rotary_dim }
    }

    /// The number of heads, which says something only where they lie side by side. Where the node does not tell it, a
    /// head is as wide as the `angles` reach; `None` where these are not known either.
    fn heads_of(&self, rank: Option<usize>, width: Option<usize>, angles: Option<usize>) -> Option<usize> {
        let head = angles.filter(|_| self.rotary_dim == 0).map(|n| n * 2).filter(|&n| n > 0);
        if rank == Some(3) { self.num_heads.or_else(|| Some(width? / head?)).filter(|&n| n > 0) } else { None }
    }
}
