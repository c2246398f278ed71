//! Several elementwise operators in one step: what lies between them is never stored.

use crate::error::{Result, bail, ensure};
use crate::ops::elementwise::{Binary, BinaryKind, Clip, Unary, UnaryKind, Variadic, VariadicKind, Where};
use crate::ops::registry::OWN_DOMAIN;
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Fact, Tensor};
use std::sync::Arc;

/// Where a step takes an operand from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The node's input of this number.
    Input(usize),
    /// The result of this earlier step.
    Step(usize),
}

/// One of the operators, with its operands in the order of its inputs.
#[derive(Debug, Clone)]
pub struct ElementwiseStep {
    /// The operator; it has one output.
    pub op: Arc<dyn Op>,
    /// Its operands; an optional one may be absent.
    pub operands: Vec<Option<Source>>,
}

/// Elementwise operators that take from the node's inputs and from each other; the last one's result is the node's
/// output. Every result has the shape of the output; inputs are broadcast to it.
#[derive(Debug, Clone)]
pub struct Elementwise {
    steps: Vec<ElementwiseStep>,
}

/// The names of the attributes that hold the operators, which bounds their number.
const NAMES: [&str; 24] = [
    "op0", "op1", "op2", "op3", "op4", "op5", "op6", "op7", "op8", "op9", "op10", "op11", "op12", "op13", "op14",
    "op15", "op16", "op17", "op18", "op19", "op20", "op21", "op22", "op23",
];

impl Elementwise {
    /// Steps that one node can have.
    pub const MAX_STEPS: usize = NAMES.len();
    /// Inputs that one node can read element by element; numbers that are the same everywhere are not counted.
    pub const MAX_OPERANDS: usize = 8;
    /// Conditions among its inputs.
    pub const MAX_CONDITIONS: usize = 2;
    /// Results that can wait for a later step.
    pub const MAX_LIVE: usize = 6;

    /// These steps as one operator.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) where there is no step or one too many, an operator is none of
    /// those that [`takes`](Elementwise::takes) names, or a step takes from one that is not before it.
    pub fn new(steps: Vec<ElementwiseStep>) -> Result<Self> {
        ensure!(!steps.is_empty(), InvalidModel, "no elementwise operator");
        ensure!(steps.len() <= Self::MAX_STEPS, InvalidModel, "{} elementwise operators in one", steps.len());
        for (index, step) in steps.iter().enumerate() {
            ensure!(Self::takes(step.op.as_ref()), InvalidModel, "{} is not fused with others", step.op.name());
            let early = |source: &Source| !matches!(source, Source::Step(from) if *from >= index);
            ensure!(step.operands.iter().flatten().all(early), InvalidModel, "step {index} takes from a later one");
        }
        Ok(Elementwise { steps })
    }

    /// The operators in the order in which they are applied.
    #[must_use]
    pub fn steps(&self) -> &[ElementwiseStep] {
        &self.steps
    }

    /// True for the operators that can be among the steps.
    #[must_use]
    pub fn takes(op: &dyn Op) -> bool {
        use BinaryKind as B;
        use UnaryKind as U;
        if let Some(Unary(kind)) = op.downcast_ref() {
            let other = matches!(kind, U::Identity | U::Not | U::BitwiseNot | U::IsNaN | U::IsInf { .. })
                || matches!(kind, U::Shrink { .. })
                || matches!(kind, U::Celu { alpha } if *alpha <= 0.0 || alpha.is_nan());
            return !other;
        }
        if let Some(Binary(kind)) = op.downcast_ref() {
            let arithmetic = matches!(kind, B::Add | B::Sub | B::Mul | B::Div | B::Pow | B::PRelu);
            return arithmetic || kind.is_comparison() || *kind == B::Mod { fmod: true };
        }
        if let Some(Variadic(kind)) = op.downcast_ref() {
            return *kind != VariadicKind::Mean;
        }
        op.is::<Clip>() || op.is::<Where>()
    }

    /// The most results that wait for a later step at one time, a step's own result among them until it is the last.
    #[must_use]
    pub fn live(&self) -> usize {
        let last_use = |of: usize| self.steps.iter().rposition(|step| step.operands.contains(&Some(Source::Step(of))));
        let ends: Vec<usize> = (0..self.steps.len()).map(|step| last_use(step).unwrap_or(step)).collect();
        let before_last = 0..self.steps.len() - 1;
        before_last.map(|at| (0..=at).filter(|&step| step == at || ends[step] > at).count()).max().unwrap_or(0)
    }

    /// The results of all steps.
    fn run<T>(
        &self,
        inputs: Inputs<'_, T>,
        apply: impl Fn(&dyn Op, Inputs<'_, T>) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut made: Vec<T> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let operand = |source: &Option<Source>| match (*source)? {
                Source::Input(index) => inputs.get(index),
                Source::Step(from) => made.get(from),
            };
            let operands: Vec<Option<&T>> = step.operands.iter().map(operand).collect();
            let Some(result) = apply(step.op.as_ref(), Inputs::new(&operands))?.into_iter().next() else {
                bail!(Internal, "{} has no output", step.op.name())
            };
            made.push(result);
        }
        Ok(made)
    }

    /// The facts of all results, which are of one shape.
    fn facts(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let facts = self.run(inputs, |op, inputs| {
            let facts = op.infer(inputs)?.into_iter();
            Ok(facts.map(|fact| Fact { value: None, content: None, ..fact }).collect())
        })?;
        let Some(last) = facts.last() else { bail!(Internal, "no elementwise operator") };
        for fact in &facts {
            let (Some(own), Some(output)) = (fact.dims(), last.dims()) else { continue };
            let same = own.len() == output.len() && own.iter().zip(output).all(|(a, b)| a.unify(b).is_ok());
            ensure!(same, Shape, "a result {fact} between elementwise operators that yield {last}");
        }
        Ok(facts)
    }
}

pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
    let mut sources = node.ints("sources")?.unwrap_or_default().into_iter();
    let mut steps = Vec::new();
    for name in NAMES {
        let Some(op) = node.op_opt(name)? else { break };
        let mut operands = Vec::new();
        for _ in 0..sources.next().unwrap_or(0) {
            operands.push(match sources.next() {
                Some(-1) => None,
                Some(source @ 0..=0x7fff_ffff) if source % 2 == 0 => Some(Source::Input(source as usize / 2)),
                Some(source @ 0..=0x7fff_ffff) => Some(Source::Step(source as usize / 2)),
                source => bail!(InvalidModel, "{source:?} names no operand"),
            });
        }
        steps.push(ElementwiseStep { op, operands });
    }
    Ok(Elementwise::new(steps)?.into())
}

impl Op for Elementwise {
    fn name(&self) -> &'static str {
        "Elementwise"
    }

    fn domain(&self) -> &'static str {
        OWN_DOMAIN
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let mut facts = self.facts(inputs)?;
        facts.drain(..facts.len().saturating_sub(1));
        Ok(facts)
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        let facts: Vec<Option<Fact>> =
            (0..inputs.count()).map(|i| inputs.get(i).map(|t| Fact::concrete(t.dtype(), t.shape()))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let between = self.facts(Inputs::new(&facts))?.iter().filter_map(Fact::bytes).fold(0, usize::saturating_add);
        let mut held = budget.hold();
        held.set(between)?;
        let mut made = self.run(inputs, |op, inputs| op.eval(inputs, budget))?;
        made.drain(..made.len().saturating_sub(1));
        Ok(made)
    }

    fn attrs(&self) -> Attrs {
        let mut sources = Vec::new();
        for step in &self.steps {
            sources.push(step.operands.len() as i64);
            sources.extend(step.operands.iter().map(|source| match source {
                None => -1,
                Some(Source::Input(index)) => 2 * *index as i64,
                Some(Source::Step(step)) => 2 * *step as i64 + 1,
            }));
        }
        let named = self.steps.iter().zip(NAMES);
        named.fold(Attrs::new().ints("sources", sources), |attrs, (step, name)| attrs.op(name, &step.op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn step(op: impl Op, operands: &[Source]) -> ElementwiseStep {
        ElementwiseStep { op: Arc::new(op), operands: operands.iter().copied().map(Some).collect() }
    }

    /// `x * sigmoid(x + b)`.
    fn gate() -> Vec<ElementwiseStep> {
        vec![
            step(Binary(BinaryKind::Add), &[Source::Input(0), Source::Input(1)]),
            step(Unary(UnaryKind::Sigmoid), &[Source::Step(0)]),
            step(Binary(BinaryKind::Mul), &[Source::Input(0), Source::Step(1)]),
        ]
    }

    #[test]
    fn steps_take_from_inputs_and_from_each_other() {
        let op = Elementwise::new(gate()).unwrap();
        let (x, b) = (Tensor::vector(vec![1.0f32, -2.0]), Tensor::scalar(2.0f32));
        let y = op.eval(Inputs::new(&[Some(&x), Some(&b)]), &Budget::generous()).unwrap();
        let expected = [1.0 / (1.0 + (-3.0f64).exp()), -1.0];
        assert!(y[0].to_f64_vec().unwrap().iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-6));
        assert!(op.eval(Inputs::new(&[Some(&x), Some(&b)]), &Budget::new(8, 100)).is_err());
        assert_eq!(op.live(), 1);
    }

    #[test]
    fn what_lies_between_is_as_large_as_the_output() {
        let op = Elementwise::new(gate()).unwrap();
        let fact = |shape: &[usize]| Fact::concrete(DType::F32, shape);
        let (x, b, wide) = (fact(&[4, 3]), fact(&[3]), fact(&[4, 3]));
        let y = op.infer(Inputs::new(&[Some(&x), Some(&b)])).unwrap();
        assert_eq!(y[0].concrete_shape().unwrap()[..], [4, 3]);
        let mut twice = gate();
        twice.push(step(Binary(BinaryKind::Add), &[Source::Step(2), Source::Input(2)]));
        let op = Elementwise::new(twice).unwrap();
        assert!(op.infer(Inputs::new(&[Some(&b), Some(&b), Some(&wide)])).is_err());
    }

    #[test]
    fn wrong_steps_are_refused() {
        assert!(Elementwise::new(Vec::new()).is_err());
        assert!(Elementwise::new(vec![step(Unary(UnaryKind::Abs), &[Source::Step(0)])]).is_err());
        assert!(Elementwise::new(vec![step(Unary(UnaryKind::IsNaN), &[Source::Input(0)])]).is_err());
        let many = vec![step(Unary(UnaryKind::Abs), &[Source::Input(0)]); Elementwise::MAX_STEPS + 1];
        assert!(Elementwise::new(many).is_err());
    }
}
