//! What the tests of operators share: running one with its facts held against its results, and reading one by name.

use super::reader::Operand;
use super::{Attr, Budget, Inputs, NodeReader, Op, Reading, registry};
use crate::error::{Result, ensure, err};
use crate::tensor::{Dim, Fact, Symbol, Tensor};
use std::collections::BTreeMap;

/// Operators whose shapes depend on more than lengths.
const DATA_DEPENDENT: [&str; 4] = ["NonZero", "Unique", "Compress", "NonMaxSuppression"];

/// Evaluates `op`, and checks that what it infers agrees with the results: from constants exactly; from concrete or
/// symbolic shapes, and where nothing is known, without contradiction.
pub(crate) fn run(op: &dyn Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    let constant = |t: &Tensor| Fact::constant(t.clone());
    let facts = infer(op, inputs, |_, t| constant(t))?;
    let budget = Budget::new(1 << 30, 1 << 20);
    for fact in &facts {
        budget.admit(fact)?;
    }
    let outputs = op.eval(Inputs::new(inputs), &budget)?;
    agree("constants", &facts, &outputs);
    let exact = facts.iter().take(outputs.len()).all(|fact| fact.concrete_shape().is_some());
    assert!(exact || DATA_DEPENDENT.contains(&op.name()), "{op:?} infers {facts:?} from constants");
    type Kind<'a> = (&'a str, &'a dyn Fn(usize, &Tensor) -> Fact);
    let kinds: [Kind<'_>; 5] = [
        ("concrete shapes", &|_, t| Fact::concrete(t.dtype(), t.shape())),
        ("symbolic shapes", &|_, t| symbolic(t)),
        ("nothing", &|_, t| Fact::unranked(t.dtype())),
        ("a symbolic first input", &|i, t| if i == 0 { symbolic(t) } else { constant(t) }),
        ("a first input of unknown rank", &|i, t| if i == 0 { Fact::unranked(t.dtype()) } else { constant(t) }),
    ];
    for (what, fact) in kinds {
        match infer(op, inputs, fact) {
            Ok(facts) => agree(what, &facts, &outputs),
            Err(error) => panic!("{op:?} does not infer from {what}: {error}"),
        }
    }
    Ok(outputs)
}

/// The first output of an operator on inputs that are all there.
pub(crate) fn run_one(op: &dyn Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    Ok(run(op, &inputs)?.remove(0))
}

/// The fact that inference makes of these facts, for the first output.
pub(crate) fn infer_one(op: &dyn Op, inputs: &[&Fact]) -> Result<Fact> {
    let inputs: Vec<Option<&Fact>> = inputs.iter().copied().map(Some).collect();
    Ok(op.infer(Inputs::new(&inputs))?.remove(0))
}

/// A symbolic dimension; [`run`] takes `nK` to stand for the length K.
pub(crate) fn symbol(name: &str) -> Dim {
    Dim::Symbol(Symbol::new(name))
}

fn symbolic(t: &Tensor) -> Fact {
    Fact::new(t.dtype(), t.shape().iter().map(|n| symbol(&format!("n{n}"))).collect())
}

fn infer(op: &dyn Op, inputs: &[Option<&Tensor>], fact: impl Fn(usize, &Tensor) -> Fact) -> Result<Vec<Fact>> {
    let facts: Vec<Option<Fact>> = inputs.iter().enumerate().map(|(i, t)| t.map(|t| fact(i, t))).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    op.infer(Inputs::new(&facts))
}

fn agree(what: &str, facts: &[Fact], outputs: &[Tensor]) {
    let says = |dim: &Dim, n: usize| match dim {
        Dim::Known(known) => *known == n,
        Dim::Symbol(symbol) => symbol.name() == format!("n{n}"),
        Dim::Unknown => true,
    };
    assert!(facts.len() >= outputs.len(), "{what}: {facts:?} for {outputs:?}");
    for (fact, output) in facts.iter().zip(outputs) {
        let dims = fact.shape.clone().unwrap_or_else(|| vec![Dim::Unknown; output.rank()]);
        let same_shape =
            dims.len() == output.rank() && dims.iter().zip(output.shape().iter()).all(|(d, &n)| says(d, n));
        let same_content = fact.content.as_ref().is_none_or(|content| {
            let elements = output.to_i64_vec().unwrap_or_default();
            content.len() == elements.len() && content.iter().zip(&elements).all(|(d, &v)| says(d, v as usize))
        });
        let same_value = fact.value.as_ref().is_none_or(|value| value == output);
        assert!(
            fact.dtype == output.dtype() && same_shape && same_content && same_value,
            "from {what}: {fact:?} for {output:?}"
        );
    }
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

/// The constants that reading such a node, with all of its `inputs` there, makes inputs.
pub(crate) fn inputs_read(
    op_type: &str,
    opset: u32,
    attrs: &[(&str, Attr)],
    inputs: usize,
) -> Result<BTreeMap<usize, Tensor>> {
    let def = registry::find("", op_type).ok_or_else(|| err!(Unsupported, "{op_type}"))?;
    let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut reader = NodeReader::new(op_type, opset, attrs, vec![true; inputs], 1, 0);
    (def.read)(&mut reader)?;
    reader.finish()
}
