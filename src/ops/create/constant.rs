//! `Constant` and `ConstantOfShape`: tensors that the model states.

use crate::error::{Result, bail, ensure};
use crate::ops::layout::arithmetic::{MAX_CONTENT, lengths_of, output_shape};
use crate::ops::{Attrs, Budget, Inputs, NodeReader, Op, Reading};
use crate::tensor::{Dim, Fact, Tensor, with_bits};

/// A tensor as a node; the import makes it a constant of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant(pub Tensor);

impl Constant {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let strings = node.str("value_string")?.is_some() || node.strs("value_strings")?.is_some();
        ensure!(
            !strings,
            Unsupported,
            "tensors of strings are not supported; encode them as numbers outside the model"
        );
        let forms = [
            node.tensor("value")?,
            node.float("value_float")?.map(Tensor::scalar),
            node.floats("value_floats")?.map(Tensor::vector),
            node.int("value_int")?.map(Tensor::scalar),
            node.ints("value_ints")?.map(Tensor::vector),
        ];
        let mut given = forms.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(value), None) => Ok(Constant(value).into()),
            (None, _) => bail!(InvalidModel, "no value is given"),
            _ => bail!(InvalidModel, "more than one value is given"),
        }
    }
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "Constant"
    }

    fn infer(&self, _inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        Ok(vec![Fact::constant(self.0.clone())])
    }

    fn eval(&self, _inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        Ok(vec![self.0.clone()])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().tensor("value", self.0.clone())
    }
}

/// A tensor of the shape that the input lists, all of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantOfShape {
    /// The value: a list of one element, whose dtype is that of the result.
    pub value: Tensor,
}

impl ConstantOfShape {
    pub(super) fn read(node: &mut NodeReader) -> Result<Reading> {
        let value = node.tensor("value")?.unwrap_or_else(|| Tensor::scalar(0.0f32));
        ensure!(value.len() == 1, InvalidModel, "the value has {} elements, not one", value.len());
        Ok(ConstantOfShape { value: value.reshaped([1])? }.into())
    }
}

impl Op for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn infer(&self, inputs: Inputs<'_, Fact>) -> Result<Vec<Fact>> {
        let list = inputs.require(0)?;
        ensure!(list.dtype.is_integer(), InvalidModel, "the shape is {}, not integers", list.dtype);
        let dtype = self.value.dtype();
        let Some(dims) = lengths_of(list)? else { return Ok(vec![Fact::unranked(dtype)]) };
        let len = match dims.as_slice() {
            [] => Some(1),
            [len] => len.known().filter(|&n| n <= MAX_CONTENT),
            _ => None,
        };
        let element = Fact::constant(self.value.clone()).lengths().filter(|v| v[0] != Dim::Unknown);
        let content = element.zip(len).map(|(element, len)| vec![element[0].clone(); len]);
        Ok(vec![Fact { content, ..Fact::new(dtype, dims) }])
    }

    fn eval(&self, inputs: Inputs<'_, Tensor>, _budget: &Budget) -> Result<Vec<Tensor>> {
        let shape = output_shape(self, inputs)?;
        let (dtype, len) = (self.value.dtype(), shape.checked_len()?);
        Ok(vec![with_bits!(dtype.size(), T => {
            let element: Vec<T> = self.value.bits::<T>()?.iter().copied().cycle().take(len).collect();
            Tensor::from_bits(dtype, shape, element)?
        })])
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().tensor("value", self.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ops::Attr;
    use crate::ops::testing::{infer_one, run_node, run_one, symbol};
    use crate::tensor::DType;

    #[test]
    fn every_form_of_a_constant() {
        let read = |name: &str, value: Attr| run_node("Constant", 13, &[(name, value)], &[]).map(|mut v| v.remove(0));
        assert_eq!(read("value_float", Attr::Float(1.5)).unwrap(), Tensor::scalar(1.5f32));
        assert_eq!(read("value_ints", Attr::Ints(vec![1, 2])).unwrap(), Tensor::vector(vec![1i64, 2]));
        assert_eq!(read("value_floats", Attr::Floats(vec![])).unwrap(), Tensor::vector(Vec::<f32>::new()));
        assert_eq!(read("value_int", Attr::Int(3)).unwrap(), Tensor::scalar(3i64));
        assert_eq!(read("value", Attr::Tensor(Tensor::scalar(true))).unwrap(), Tensor::scalar(true));
        assert_eq!(read("value_string", Attr::Str("a".into())).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(run_node("Constant", 13, &[], &[]).is_err());
    }

    #[test]
    fn one_value_fills_a_shape() {
        let op = ConstantOfShape { value: Tensor::vector(vec![7i32]) };
        let fill = |shape: &[i64]| run_one(&op, &[&Tensor::vector(shape.to_vec())]);
        assert_eq!(fill(&[2, 1]).unwrap(), Tensor::new([2, 1], vec![7i32, 7]).unwrap());
        assert_eq!(fill(&[]).unwrap(), Tensor::scalar(7i32));
        assert_eq!(fill(&[3, 0]).unwrap().shape().to_vec(), [3, 0]);
        assert!(fill(&[-1]).is_err());
        let huge = infer_one(&op, &[&Fact::constant(Tensor::vector(vec![i64::MAX, i64::MAX]))]).unwrap();
        assert_eq!(huge.bytes(), Some(usize::MAX));
        let list = Fact::concrete(DType::I64, &[2]).with_content(vec![symbol("N"), Dim::Known(4)]);
        assert_eq!(infer_one(&op, &[&list]).unwrap().dims().unwrap(), [symbol("N"), Dim::Known(4)]);
        let ones = infer_one(&op, &[&Fact::constant(Tensor::vector(vec![2i64]))]).unwrap();
        assert_eq!(ones.lengths().unwrap(), [Dim::Known(7), Dim::Known(7)]);
    }
}
