//! Constants in the form that kernels want, packed once for a model and shared by its plans.

use crate::error::Result;
use crate::tensor::Tensor;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    address: usize,
    bytes: usize,
    form: TypeId,
    variant: u64,
}

struct Packed {
    value: Arc<dyn Any + Send + Sync>,
    /// Keeps the address of the key taken.
    _source: Tensor,
}

/// The packed constants of one model.
#[derive(Default)]
pub struct Weights {
    packed: Mutex<HashMap<Key, Packed>>,
    winograd: bool,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weights({} packed)", self.packed.lock().len())
    }
}

impl Weights {
    /// No packed constants yet.
    #[must_use]
    pub fn new() -> Self {
        Weights::default()
    }

    /// Whether filters may be packed for Winograd's algorithm, where a geometry suits it.
    #[must_use]
    pub fn with_winograd(self, winograd: bool) -> Self {
        Weights { winograd, ..self }
    }

    pub(crate) fn allow_winograd(&self) -> bool {
        self.winograd
    }

    /// How many constants are packed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.packed.lock().len()
    }

    /// The constant `source` in the form `T`, packed now unless another plan has done so. `variant` tells apart what
    /// the type alone does not, such as a layout or a number of groups.
    ///
    /// # Errors
    /// What `pack` says.
    pub fn get_or_pack<T: Any + Send + Sync>(
        &self,
        source: &Tensor,
        variant: u64,
        pack: impl FnOnce(&Tensor) -> Result<T>,
    ) -> Result<Arc<T>> {
        let bytes = source.as_bytes();
        let key = Key { address: bytes.as_ptr() as usize, bytes: bytes.len(), form: TypeId::of::<T>(), variant };
        let held = self.packed.lock().get(&key).map(|packed| packed.value.clone());
        if let Some(Ok(value)) = held.map(Arc::downcast::<T>) {
            return Ok(value);
        }
        let value = Arc::new(pack(source)?);
        self.packed.lock().insert(key, Packed { value: value.clone(), _source: source.clone() });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_packed_once_for_each_form() {
        let weights = Weights::new();
        let source = Tensor::vector(vec![1.0f32, 2.0]);
        let sum = |t: &Tensor| Ok(t.to_f32_vec()?.iter().sum::<f32>());
        let first = weights.get_or_pack(&source, 0, sum).unwrap();
        let second = weights.get_or_pack::<f32>(&source, 0, |_| panic!("packed twice")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*weights.get_or_pack(&source, 1, |_| Ok(7.0f32)).unwrap(), 7.0);
    }
}
