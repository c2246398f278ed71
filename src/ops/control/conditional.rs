//! `If`: one of two bodies, chosen by a value.

use super::captured;
use super::facts::{infer_body, join};
use crate::error::{Result, ensure};
use crate::ops::{Attrs, Body, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{DType, Fact, Tensor};
use std::sync::Arc;

/// Runs `then_branch` where the condition (input 0, one `bool`) holds, `else_branch` where not. The branches take
/// nothing but captured values.
#[derive(Debug, Clone)]
pub struct If {
    /// What runs when the condition holds.
    pub then_branch: Arc<dyn Body>,
    /// What runs when it does not.
    pub else_branch: Arc<dyn Body>,
    /// How many of the last inputs are captured values.
    pub captures: usize,
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let (then_branch, else_branch) = (node.body("then_branch")?, node.body("else_branch")?);
    let captures = node.captures();
    for (name, branch) in [("then_branch", &then_branch), ("else_branch", &else_branch)] {
        ensure!(branch.input_count() == captures, InvalidModel, "{name} has inputs of its own");
        ensure!(branch.output_count() >= node.output_count(), InvalidModel, "{name} yields too few outputs");
    }
    ensure!(
        then_branch.output_count() == else_branch.output_count(),
        InvalidModel,
        "the branches yield {} and {} outputs",
        then_branch.output_count(),
        else_branch.output_count()
    );
    Ok(If { then_branch, else_branch, captures }.into())
}

impl If {
    fn branch(&self, condition: bool) -> &dyn Body {
        if condition { self.then_branch.as_ref() } else { self.else_branch.as_ref() }
    }
}

impl Op for If {
    fn name(&self) -> &'static str {
        "If"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let values = captured(inputs, self.captures)?;
        let condition = inputs.require(0)?;
        let one = condition.concrete_shape().is_none_or(|shape| shape.elements() == 1);
        ensure!(one && condition.dtype == DType::Bool, Shape, "the condition is {condition}, not one bool");
        if let Some(condition) = &condition.value {
            return infer_body(self.branch(condition.to_scalar()?), &values);
        }
        // A branch that cannot run on these shapes is one that is never taken: exporters guard `Squeeze` so.
        match (infer_body(self.branch(true), &values), infer_body(self.branch(false), &values)) {
            (Ok(a), Ok(b)) => a.iter().zip(&b).map(|(a, b)| join(a, b)).collect(),
            (Ok(facts), Err(_)) | (Err(_), Ok(facts)) => Ok(facts),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let values = captured(inputs, self.captures)?;
        self.branch(inputs.require(0)?.to_scalar()?).eval(&values, budget)
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().body("then_branch", self.then_branch.clone()).body("else_branch", self.else_branch.clone())
    }

    fn captures(&self) -> usize {
        self.captures
    }

    fn with_bodies(&self, bodies: Vec<Arc<dyn Body>>, captures: usize) -> Option<Arc<dyn Op>> {
        let [then_branch, else_branch] = <[_; 2]>::try_from(bodies).ok()?;
        Some(Arc::new(If { then_branch, else_branch, captures }))
    }
}
