//! What a caller hands in and gets back: tensors by name or by position.

use crate::error::{Result, bail, ensure};
use crate::tensor::Tensor;
use std::ops::Index;
use std::sync::Arc;

/// The inputs of one call: tensors in the model's order, or each with its name.
///
/// ```
/// use onrush::{Feeds, Tensor};
/// let x = Tensor::vector(vec![1.0f32]);
/// let by_position: Feeds = [x.clone()].into();
/// let by_name: Feeds = [("x", x)].into();
/// # let _ = (by_position, by_name);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    tensors: Vec<Tensor>,
    /// Those of the first tensors; none is kept where there are none, so that a list of tensors is taken over as it is.
    names: Vec<Option<String>>,
}

impl Feeds {
    /// No inputs yet.
    #[must_use]
    pub fn new() -> Self {
        Feeds::default()
    }

    /// Adds the input `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: impl Into<Tensor>) -> Self {
        self.names.resize(self.tensors.len(), None);
        self.names.push(Some(name.into()));
        self.tensors.push(tensor.into());
        self
    }

    /// The tensors in the order of `names`; `defaults` fills what the caller left out.
    pub(crate) fn ordered(&self, names: &[&str], defaults: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        if self.are_in_order(names.len()) {
            return Ok(self.tensors.clone());
        }
        let mut found: Vec<Option<Tensor>> = vec![None; names.len()];
        let mut position = 0;
        for (at, tensor) in self.tensors.iter().enumerate() {
            let index = match self.names.get(at).and_then(Option::as_deref) {
                Some(name) => match names.iter().position(|n| *n == name) {
                    Some(index) => index,
                    None => bail!(InvalidInput, "the model has no input {name:?}; it has {names:?}"),
                },
                None => {
                    position += 1;
                    position - 1
                }
            };
            ensure!(index < names.len(), InvalidInput, "more tensors than the model's inputs {names:?}");
            ensure!(found[index].is_none(), InvalidInput, "input {:?} is given twice", names[index]);
            found[index] = Some(tensor.clone());
        }
        let filled = found.into_iter().zip(names).zip(defaults).map(|((tensor, name), default)| {
            match tensor.or_else(|| default.cloned()) {
                Some(tensor) => Ok(tensor),
                None => bail!(InvalidInput, "input {name:?} is missing"),
            }
        });
        filled.collect()
    }

    /// Whether these are `count` tensors without names, which are then in the model's order.
    pub(crate) fn are_in_order(&self, count: usize) -> bool {
        self.tensors.len() == count && self.names.iter().all(Option::is_none)
    }

    /// The tensors in the order in which they were given.
    pub(crate) fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }
}

impl From<Vec<Tensor>> for Feeds {
    fn from(tensors: Vec<Tensor>) -> Self {
        Feeds { tensors, names: Vec::new() }
    }
}

impl<const N: usize> From<[Tensor; N]> for Feeds {
    fn from(tensors: [Tensor; N]) -> Self {
        Vec::from(tensors).into()
    }
}

impl From<Tensor> for Feeds {
    fn from(tensor: Tensor) -> Self {
        [tensor].into()
    }
}

impl From<&[Tensor]> for Feeds {
    fn from(tensors: &[Tensor]) -> Self {
        tensors.to_vec().into()
    }
}

impl<const N: usize> From<[(&str, Tensor); N]> for Feeds {
    fn from(tensors: [(&str, Tensor); N]) -> Self {
        let (names, tensors) = tensors.into_iter().map(|(name, tensor)| (Some(name.to_owned()), tensor)).unzip();
        Feeds { tensors, names }
    }
}

impl From<Vec<(String, Tensor)>> for Feeds {
    fn from(tensors: Vec<(String, Tensor)>) -> Self {
        let (names, tensors) = tensors.into_iter().map(|(name, tensor)| (Some(name), tensor)).unzip();
        Feeds { tensors, names }
    }
}

/// The outputs of one call, by position or by name.
///
/// ```no_run
/// # fn main() -> onrush::Result<()> {
/// # let model = onrush::Model::load("model.onnx")?;
/// # let image = onrush::Tensor::zeros(onrush::DType::F32, [1, 3, 224, 224])?;
/// let outputs = model.run([image])?;
/// let logits = outputs["logits"].as_slice::<f32>()?;
/// # let _ = logits; Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Outputs {
    names: Arc<[String]>,
    tensors: Vec<Tensor>,
}

impl Outputs {
    pub(crate) fn new(names: Arc<[String]>, tensors: Vec<Tensor>) -> Self {
        Outputs { names, tensors }
    }

    /// The output of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(self.names.iter().position(|n| n == name)?)
    }

    /// How many outputs there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Names and tensors, in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(&self.tensors)
    }

    /// The tensors, in the model's order.
    #[must_use]
    pub fn into_vec(self) -> Vec<Tensor> {
        self.tensors
    }
}

/// Panics when there is no such output; [`get`](Outputs::get) does not.
impl Index<&str> for Outputs {
    type Output = Tensor;

    fn index(&self, name: &str) -> &Tensor {
        match self.get(name) {
            Some(tensor) => tensor,
            None => panic!("there is no output {name:?}; there are {:?}", self.names),
        }
    }
}

/// Panics when there is no such output.
impl Index<usize> for Outputs {
    type Output = Tensor;

    fn index(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_found_by_name_and_by_position() {
        let (a, b) = (Tensor::scalar(1i64), Tensor::scalar(2i64));
        let named: Feeds = [("b", b.clone()), ("a", a.clone())].into();
        assert_eq!(named.ordered(&["a", "b"], &[None, None]).unwrap(), [a.clone(), b.clone()]);
        let placed: Feeds = [a.clone()].into();
        assert_eq!(placed.ordered(&["a", "b"], &[None, Some(&b)]).unwrap(), [a, b]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let feed = |name: &str| -> Feeds { [(name, Tensor::scalar(1i64))].into() };
        let message = |feeds: Feeds| feeds.ordered(&["a"], &[None]).unwrap_err().to_string();
        assert!(message(feed("z")).contains("no input \"z\""));
        assert!(message(Feeds::new()).contains("\"a\" is missing"));
        assert!(message(vec![Tensor::scalar(1i64); 2].into()).contains("more tensors"));
    }
}
