//! What the tests of operators share: running one with its facts held against its results, and reading one by name.

use super::reader::Operand;
use super::{Attr, Budget, Inputs, NodeReader, Op, Reading, registry};
use crate::error::{Result, ensure, err};
use crate::tensor::{Dim, Fact, Symbol, Tensor};
use std::collections::BTreeMap;

/// Evaluates `op`, and checks that what it infers agrees with the results: from constants exactly, from shapes alone
/// and from symbols without contradiction.
pub(crate) fn run(op: &dyn Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    let constants: Vec<Option<Fact>> = inputs.iter().map(|v| v.map(|v| Fact::constant(v.clone()))).collect();
    let expected = infer(op, &constants)?;
    let results = op.eval(Inputs::new(inputs), &Budget::generous())?;
    ensure!(expected.len() >= results.len(), Internal, "{} facts for {} results", expected.len(), results.len());
    for (fact, result) in expected.iter().zip(&results) {
        let actual = Fact::concrete(result.dtype(), result.shape());
        ensure!(fact.dtype == actual.dtype, Internal, "{fact} inferred, {actual} made");
        ensure!(fact.concrete_shape().as_ref() == Some(result.shape()), Internal, "{fact} inferred, {actual} made");
    }
    let shapes = constants.iter().map(|f| f.as_ref().map(|f| Fact { value: None, ..f.clone() })).collect();
    let symbols = constants.iter().enumerate().map(|(i, f)| f.as_ref().map(|f| symbolic(i, f))).collect();
    let unranked = constants.iter().map(|f| f.as_ref().map(|f| Fact::unranked(f.dtype))).collect();
    let sets: [Vec<Option<Fact>>; 3] = [shapes, symbols, unranked];
    for set in &sets {
        for (fact, result) in infer(op, set)?.iter().zip(&results) {
            let known = Fact { value: None, content: None, ..fact.clone() };
            let joined = known.unify(&Fact::concrete(result.dtype(), result.shape()));
            joined.map_err(|e| e.at(format!("{fact} inferred from {set:?}")))?;
        }
    }
    Ok(results)
}

fn infer(op: &dyn Op, facts: &[Option<Fact>]) -> Result<Vec<Fact>> {
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    op.infer(Inputs::new(&facts))
}

/// The shape with every axis longer than 1 named by its length and place; equal lengths at one place share a name.
fn symbolic(input: usize, fact: &Fact) -> Fact {
    let dims = fact.dims().unwrap_or(&[]);
    let name = |axis: usize, dim: &Dim| match dim {
        Dim::Known(n) if *n > 1 => Dim::Symbol(Symbol::new(&format!("i{input}a{axis}n{n}"))),
        dim => dim.clone(),
    };
    Fact::new(fact.dtype, dims.iter().enumerate().map(|(axis, dim)| name(axis, dim)).collect())
}

/// Reads a node of ONNX's own domain and runs it; see [`run`].
pub(crate) fn run_node(
    op_type: &str,
    opset: u32,
    attrs: &[(&str, Attr)],
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>> {
    let def = registry::find("", op_type).ok_or_else(|| err!(Unsupported, "{op_type}"))?;
    ensure!(def.inputs.contains(&inputs.len()), InvalidModel, "{} inputs of {op_type}", inputs.len());
    let attrs: BTreeMap<String, Attr> = attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let present = inputs.iter().map(Option::is_some).collect();
    let mut reader = NodeReader::new(op_type, opset, attrs, present, *def.outputs.end(), 0);
    let reading = (def.read)(&mut reader)?;
    let added = reader.finish()?;
    let mut operands: Vec<Option<Tensor>> = inputs.iter().map(|v| v.cloned()).collect();
    for (index, value) in added {
        operands.resize(operands.len().max(index + 1), None);
        operands[index] = Some(value);
    }
    let operand = |made: &[Vec<Tensor>], operand: &Operand| match operand {
        Operand::Input(index) => operands.get(*index).cloned().flatten(),
        Operand::Output { node, output } => Some(made[*node][*output].clone()),
        Operand::Constant(value) => Some(value.clone()),
    };
    match reading {
        Reading::Op(op) => {
            let inputs: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
            check_attrs_round_trip(op.as_ref())?;
            run(op.as_ref(), &inputs)
        }
        Reading::Nodes(nodes) => {
            let mut made: Vec<Vec<Tensor>> = Vec::new();
            for (op, wanted) in nodes {
                let inputs: Vec<Option<Tensor>> = wanted.iter().map(|o| operand(&made, o)).collect();
                let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
                made.push(run(op.as_ref(), &inputs)?);
            }
            made.pop().ok_or_else(|| err!(Internal, "{op_type} reads into no nodes"))
        }
    }
}

/// Writing the attributes and reading them in the opset they are written for yields the same attributes.
fn check_attrs_round_trip(op: &dyn Op) -> Result<()> {
    let Some(def) = registry::find(op.domain(), op.name()) else { return Ok(()) };
    let attrs: BTreeMap<String, Attr> =
        op.attrs().iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let present = vec![true; (*def.inputs.end()).min(8)];
    let mut reader = NodeReader::new(op.name(), def.opset, attrs, present, *def.outputs.start(), op.captures());
    let Reading::Op(again) = (def.read)(&mut reader)? else { return Ok(()) };
    reader.finish()?;
    ensure!(again.attrs() == op.attrs(), Internal, "{op:?} is read back as {again:?}");
    Ok(())
}
