//! `EmbedLayerNormalization` of ONNX Runtime: how a BERT begins.

use super::contrib::DOMAIN;
use crate::error::{Result, bail, ensure};
use crate::ops::nn::LayerNormalization;
use crate::ops::numeric::from_f64;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Dim, Fact, Tensor};

/// Sums the embeddings of words, positions and segments and normalizes the sum.
///
/// Inputs: words `[batch, length]`, segments alike?, three tables `[entries, hidden]` (that of segments optional),
/// scale and shift `[hidden]`, a mask `[batch, length]`?, positions `[batch, length]` or `[1, length]`?. Outputs:
/// `[batch, length, hidden]`, how many ones each row of the mask has `[batch]`, and the sum before normalization.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedLayerNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}

mod input {
    pub(super) const WORDS: usize = 0;
    pub(super) const SEGMENTS: usize = 1;
    pub(super) const WORD_TABLE: usize = 2;
    pub(super) const POSITION_TABLE: usize = 3;
    pub(super) const SEGMENT_TABLE: usize = 4;
    pub(super) const SCALE: usize = 5;
    pub(super) const SHIFT: usize = 6;
    pub(super) const MASK: usize = 7;
    pub(super) const POSITIONS: usize = 8;
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let ones = node.int_or("mask_index_type", 0)? == 0;
    ensure!(ones, Unsupported, "only a mask_index_type of 0, which counts ones, is supported");
    Ok(EmbedLayerNormalization { epsilon: node.float_or("epsilon", 1e-12)? }.into())
}

impl Op for EmbedLayerNormalization {
    fn name(&self) -> &'static str {
        "EmbedLayerNormalization"
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let (words, table) = (inputs.require(input::WORDS)?, inputs.require(input::WORD_TABLE)?);
        ensure!(words.dtype.is_integer(), InvalidModel, "words of {} are no integers", words.dtype);
        ensure!(table.dtype.is_float(), InvalidModel, "a table of {} holds no floats", table.dtype);
        let mut hidden = Dim::Unknown;
        for index in [input::WORD_TABLE, input::POSITION_TABLE, input::SEGMENT_TABLE] {
            let Some(dims) = inputs.get(index).and_then(Fact::dims) else { continue };
            let [_, size] = dims else { bail!(Shape, "table {index} has rank {}, not 2", dims.len()) };
            hidden = hidden.unify(size)?;
        }
        for index in [input::SCALE, input::SHIFT] {
            if let Some(dims) = inputs.require(index)?.dims() {
                let [size] = dims else { bail!(Shape, "input {index} has rank {}, not 1", dims.len()) };
                hidden = hidden.unify(size)?;
            }
        }
        let (mut batch, mut length) = (Dim::Unknown, Dim::Unknown);
        for index in [input::WORDS, input::SEGMENTS, input::MASK] {
            let Some(dims) = inputs.get(index).and_then(Fact::dims) else { continue };
            let [rows, columns] = dims else { bail!(Shape, "input {index} has rank {}, not 2", dims.len()) };
            (batch, length) = (batch.unify(rows)?, length.unify(columns)?);
        }
        let sum = Fact::new(table.dtype, vec![batch.clone(), length, hidden]);
        Ok(vec![sum.clone(), Fact::new(DType::I32, vec![batch]), sum])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let words = inputs.require(input::WORDS)?;
        let table = inputs.require(input::WORD_TABLE)?;
        let [batch, length] = words.shape()[..] else { bail!(Shape, "words are {}, not of rank 2", words.shape()) };
        let hidden = table.shape()[1];
        let mut held = budget.hold();
        held.set(words.len().saturating_mul(hidden).saturating_mul(size_of::<f64>()))?;
        let mut sum = vec![0.0; words.len() * hidden];
        let positions = match inputs.get(input::POSITIONS) {
            Some(positions) => positions.to_i64_vec()?,
            None => (0..length as i64).collect(),
        };
        ensure!(
            positions.len() == length || positions.len() == words.len(),
            Shape,
            "{} positions for {batch} rows of {length}",
            positions.len()
        );
        add_rows(&mut sum, table, &words.to_i64_vec()?)?;
        add_rows(&mut sum, inputs.require(input::POSITION_TABLE)?, &positions)?;
        if let (Some(segments), Some(table)) = (inputs.get(input::SEGMENTS), inputs.get(input::SEGMENT_TABLE)) {
            add_rows(&mut sum, table, &segments.to_i64_vec()?)?;
        }
        let sum = from_f64(table.dtype(), [batch, length, hidden], sum)?;
        let norm = LayerNormalization { axis: -1, epsilon: self.epsilon };
        let rows = [Some(&sum), Some(inputs.require(input::SCALE)?), Some(inputs.require(input::SHIFT)?)];
        let normalized = norm.eval(Inputs::new(&rows), budget)?.swap_remove(0);
        let counts = match inputs.get(input::MASK) {
            Some(mask) => {
                let mask = mask.to_i64_vec()?;
                (0..batch).map(|row| mask[row * length..(row + 1) * length].iter().map(|&m| m as i32).sum()).collect()
            }
            None => vec![0; batch],
        };
        Ok(vec![normalized, Tensor::vector::<i32>(counts), sum])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().float("epsilon", self.epsilon)
    }
}

/// Adds the rows of a table `[entries, hidden]` that `indices` name, from the first again where they end.
fn add_rows(sum: &mut [f64], table: &Tensor, indices: &[i64]) -> Result<()> {
    let (entries, hidden) = (table.shape()[0], table.shape()[1]);
    let table = table.to_f64_vec()?;
    for (out, &index) in sum.chunks_exact_mut(hidden.max(1)).zip(indices.iter().cycle()) {
        let row = usize::try_from(index).ok().filter(|&row| row < entries);
        let Some(row) = row else { bail!(InvalidInput, "the index {index} is outside a table of {entries} rows") };
        for (out, value) in out.iter_mut().zip(&table[row * hidden..]) {
            *out += value;
        }
    }
    Ok(())
}
