//! `Scan` as opset 8 had it: for each row of a batch on its own, each with a length of its own.
//!
//! No newer operator says this in one node, so it is an operator of this crate; export writes a scan of scans.

use super::captured;
use super::scan::{Scan, ScanAxis, scan_input_count};
use super::stack::Stack;
use crate::error::{Result, bail, ensure};
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attrs, Body, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor};
use std::sync::Arc;

/// Inputs: lengths `[batch]` (`i64`, optional), the first values of the state `[batch, ...]`, the scan inputs
/// `[batch, length, ...]`, the captured values. Scan outputs are `[batch, length, ...]`, zero past a row's length.
#[derive(Debug, Clone)]
pub struct BatchScan {
    /// What happens to one row; its axes are all 0.
    pub row: Scan,
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    BatchScan::read_opset_8(node)
}

impl BatchScan {
    pub(super) fn read_opset_8(node: &mut NodeReader) -> Result<Reading> {
        let scanned = scan_input_count(node)?;
        let Some(states) = node.input_count().checked_sub(1 + scanned) else {
            bail!(InvalidModel, "{} inputs do not hold {scanned} scan inputs", node.input_count());
        };
        let body = node.body("body")?;
        let directions = node.ints("directions")?.unwrap_or_else(|| vec![0; scanned]);
        ensure!(
            directions.len() == scanned && directions.iter().all(|d| (0..=1).contains(d)),
            InvalidModel,
            "directions is {directions:?}, not {scanned} times 0 or 1"
        );
        let stacked = body.output_count().saturating_sub(states);
        let row = Scan {
            body,
            inputs: directions.iter().map(|&d| ScanAxis { axis: 0, reverse: d == 1 }).collect(),
            outputs: vec![ScanAxis::default(); stacked],
            captures: node.captures(),
        };
        row.states(states + scanned + row.captures)?;
        Ok(BatchScan { row }.into())
    }

    /// How many inputs after the first have a batch axis.
    fn batched(&self, count: usize) -> Result<usize> {
        match count.checked_sub(1 + self.row.captures) {
            Some(batched) if batched > 0 => Ok(batched),
            _ => bail!(InvalidModel, "{count} inputs are too few"),
        }
    }
}

impl Op for BatchScan {
    fn name(&self) -> &'static str {
        "BatchScan"
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut batch = Dim::Unknown;
        let mut rows = Vec::new();
        for index in 1..=self.batched(inputs.count())? {
            let fact = inputs.require(index)?;
            rows.push(match fact.dims() {
                None => Fact::unranked(fact.dtype),
                Some([]) => bail!(Shape, "input {index} has no batch axis"),
                Some([rows, row @ ..]) => {
                    batch = batch.unify(rows)?;
                    Fact::new(fact.dtype, row.to_vec())
                }
            });
        }
        rows.extend(captured(inputs, self.row.captures)?);
        let rows: Vec<Option<&Fact>> = rows.iter().map(Some).collect();
        let facts = self.row.infer(Inputs::new(&rows))?;
        Ok(facts
            .into_iter()
            .map(|fact| match fact.shape {
                None => fact,
                Some(mut dims) => {
                    dims.insert(0, batch.clone());
                    Fact::new(fact.dtype, dims)
                }
            })
            .collect())
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let batched = self.batched(inputs.count())?;
        let states = self.row.states(batched + self.row.captures)?;
        let values: Vec<&Tensor> = (1..=batched).map(|i| inputs.require(i)).collect::<Result<_>>()?;
        let batch = values[0].shape().first().copied().unwrap_or(0);
        let longest = values[states].shape().get(1).copied().unwrap_or(0);
        let lengths = match inputs.get(0) {
            Some(lengths) => lengths.to_i64_vec()?,
            None => vec![longest as i64; batch],
        };
        ensure!(lengths.len() == batch && batch > 0, InvalidInput, "{} lengths for {batch} rows", lengths.len());
        let captures = captured(inputs, self.row.captures)?;
        let mut held = budget.hold();
        let mut stacks: Vec<Stack> = Vec::new();
        for (row, &length) in lengths.iter().enumerate() {
            let length = usize::try_from(length).ok().filter(|&n| n <= longest);
            let Some(length) = length else { bail!(InvalidInput, "length {} of {longest}", lengths[row]) };
            let mut arguments = Vec::with_capacity(batched + captures.len());
            for (index, value) in values.iter().enumerate() {
                let one = value.rows(row..row + 1)?.reshaped(value.shape().replaced(0..1, &[]))?;
                arguments.push(if index < states { one } else { one.rows(0..length)? });
            }
            arguments.extend_from_slice(&captures);
            let arguments: Vec<Option<&Tensor>> = arguments.iter().map(Some).collect();
            let mut outputs = self.row.eval(Inputs::new(&arguments), budget)?;
            for output in &mut outputs[states..] {
                *output = padded(output, longest)?;
            }
            if stacks.is_empty() {
                stacks = outputs.iter().map(|output| Stack::new(output.dtype())).collect();
            }
            let total = stacks.iter().map(Stack::byte_len).chain(outputs.iter().map(|v| v.as_bytes().len()));
            held.set(total.sum())?;
            for (stack, output) in stacks.iter_mut().zip(&outputs) {
                stack.push(output)?;
            }
        }
        stacks.into_iter().map(|stack| stack.finish(&Fact::unranked(crate::tensor::DType::F32))).collect()
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .body("body", self.row.body.clone())
            .int("num_scan_inputs", self.row.inputs.len() as i64)
            .ints("directions", self.row.inputs.iter().map(|s| i64::from(s.reverse)))
    }

    fn captures(&self) -> usize {
        self.row.captures
    }

    fn with_bodies(&self, bodies: Vec<Arc<dyn Body>>, captures: usize) -> Option<Arc<dyn Op>> {
        let [body] = <[_; 1]>::try_from(bodies).ok()?;
        Some(Arc::new(BatchScan { row: Scan { body, captures, ..self.row.clone() } }))
    }
}

/// The value with zero rows added up to `rows`.
fn padded(value: &Tensor, rows: usize) -> Result<Tensor> {
    let shape = value.shape().replaced(0..1, &[rows]);
    let mut padded = Tensor::zeros(value.dtype(), shape)?;
    if let Some(bytes) = padded.as_bytes_mut() {
        let (filled, _) = bytes.split_at_mut(value.as_bytes().len());
        filled.copy_from_slice(value.as_bytes());
    }
    Ok(padded)
}
