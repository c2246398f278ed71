//! Constants in the form that kernels want, packed once for a model and shared by its plans.

use crate::error::{At, Result, err};
use crate::kernels::arch::Isa;
use crate::kernels::stored::{Parts, Stored};
use crate::tensor::mapping::Mapping;
use crate::tensor::{Shape, Spare, Tensor};
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A constant by where its elements lie, and what is made of it.
#[derive(PartialEq, Eq, Hash)]
struct Key<F> {
    address: usize,
    shape: Shape,
    form: F,
    variant: u64,
}

impl<F> Key<F> {
    fn new(source: &Tensor, form: F, variant: u64) -> Self {
        Key { address: source.address(), shape: source.shape().clone(), form, variant }
    }
}

/// A packed constant of whatever form.
type Value = Arc<dyn Any + Send + Sync>;

/// A form: its type, its name, and the ways to its parts and back.
struct Form {
    id: TypeId,
    kind: &'static str,
    store: fn(&dyn Any, &mut Parts),
    restore: fn(Isa, &mut Parts) -> Result<Value>,
}

struct Packed {
    value: Value,
    kind: &'static str,
    store: fn(&dyn Any, &mut Parts),
    /// Keeps the address of the key taken.
    source: Tensor,
}

/// A packed constant taken apart: what a file keeps of it.
#[derive(Debug, Clone)]
pub struct StoredWeight {
    /// The constant that it was made of.
    pub source: Tensor,
    /// The form, as [`Stored::KIND`] names it.
    pub kind: String,
    /// As [`Weights::get_or_pack`] takes it.
    pub variant: u64,
    /// What the form consists of.
    pub parts: Parts,
}

/// What waits to be put together again.
struct Kept {
    isa: Isa,
    forms: HashMap<Key<String>, StoredWeight>,
}

/// Bytes of a file that may be resident because its constants are being packed.
const RELEASED: usize = 8 << 20;

/// The packed constants of one model.
#[derive(Default)]
pub struct Weights {
    packed: Mutex<HashMap<Key<TypeId>, Packed>>,
    kept: Option<Kept>,
    winograd: bool,
    bfloat16: bool,
    pack_rows: Option<bool>,
    /// The file that constants lie in.
    file: Mapping,
    /// Bytes of constants that were packed since pages of the file were given back.
    read: AtomicUsize,
    /// Where a constant is aligned that does not lie so in the file.
    spare: Mutex<Spare>,
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

    /// The file that the constants lie in, where it is mapped.
    #[must_use]
    pub(crate) fn with_file(self, file: Mapping) -> Self {
        Weights { file, ..self }
    }

    /// Whether filters may be packed for Winograd's algorithm, where a geometry suits it.
    #[must_use]
    pub fn with_winograd(self, winograd: bool) -> Self {
        Weights { winograd, ..self }
    }

    /// Whether products may be packed in bfloat16.
    #[must_use]
    pub fn with_bfloat16(self, bfloat16: bool) -> Self {
        Weights { bfloat16, ..self }
    }

    /// Whether products copy the rows of a strip together, where that is not left to their kernels.
    #[must_use]
    pub fn with_pack_rows(self, pack_rows: Option<bool>) -> Self {
        Weights { pack_rows, ..self }
    }

    pub(crate) fn pack_rows(&self) -> Option<bool> {
        self.pack_rows
    }

    pub(crate) fn allow_bfloat16(&self) -> bool {
        self.bfloat16
    }

    pub(crate) fn allow_winograd(&self) -> bool {
        self.winograd
    }

    /// How many constants are packed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.packed.lock().len()
    }

    /// Those of a file, packed for `isa`; each is put together and checked when it is first asked for.
    #[must_use]
    pub fn kept(isa: Isa, weights: Vec<StoredWeight>) -> Self {
        let key = |weight: &StoredWeight| Key::new(&weight.source, weight.kind.clone(), weight.variant);
        let forms = weights.into_iter().map(|weight| (key(&weight), weight)).collect();
        Weights { kept: Some(Kept { isa, forms }), ..Weights::default() }
    }

    /// Everything that is packed, and what a file brought that was not asked for.
    #[must_use]
    pub fn to_stored(&self) -> Vec<StoredWeight> {
        let packed = self.packed.lock();
        let taken_apart = packed.iter().map(|(key, packed)| {
            let mut parts = Parts::default();
            (packed.store)(packed.value.as_ref(), &mut parts);
            let source = packed.source.clone();
            StoredWeight { source, kind: packed.kind.to_owned(), variant: key.variant, parts }
        });
        let asked_for: HashSet<Key<String>> =
            packed.iter().map(|(key, p)| Key::new(&p.source, p.kind.to_owned(), key.variant)).collect();
        let kept = self.kept.iter().flat_map(|kept| &kept.forms).filter(|(key, _)| !asked_for.contains(key));
        taken_apart.chain(kept.map(|(_, weight)| weight.clone())).collect()
    }

    /// The constant `source` in the form `T`, packed now unless another plan has done so. `variant` tells apart what
    /// the type alone does not, such as a layout or a number of groups.
    ///
    /// A form that a file brought is checked in itself only; whether it has the sizes of the step is for the caller.
    ///
    /// # Errors
    /// What `pack` says, or [`Malformed`](crate::ErrorKind::Malformed) where a file brought what contradicts itself.
    pub fn get_or_pack<T: Stored>(
        &self,
        source: &Tensor,
        variant: u64,
        pack: impl FnOnce(&Tensor) -> Result<T>,
    ) -> Result<Arc<T>> {
        let mut pack = Some(pack);
        let mut pack = |tensor: &Tensor| -> Result<Value> {
            let pack = pack.take().ok_or_else(|| err!(Internal, "packed twice"))?;
            Ok(Arc::new(pack(tensor)?))
        };
        let form = Form {
            id: TypeId::of::<T>(),
            kind: T::KIND,
            store: |form, parts| {
                if let Some(form) = form.downcast_ref::<T>() {
                    form.store(parts);
                }
            },
            restore: |isa, parts| Ok(Arc::new(T::restore(isa, parts)?)),
        };
        let value = self.value(&form, source, variant, &mut pack)?;
        value.downcast().map_err(|_| err!(Internal, "a packed weight of another type"))
    }

    /// The same of any form: compiled once.
    fn value(
        &self,
        form: &Form,
        source: &Tensor,
        variant: u64,
        pack: &mut dyn FnMut(&Tensor) -> Result<Value>,
    ) -> Result<Value> {
        let key = Key::new(source, form.id, variant);
        if let Some(packed) = self.packed.lock().get(&key) {
            return Ok(packed.value.clone());
        }
        let value = match self.restore(form, source, variant)? {
            Some(value) => value,
            None => self.pack(source, pack)?,
        };
        let packed = Packed { value: value.clone(), kind: form.kind, store: form.store, source: source.clone() };
        self.packed.lock().insert(key, packed);
        Ok(value)
    }

    /// Packs a constant, and gives its pages of the file back: it is not read there again.
    fn pack(&self, source: &Tensor, pack: &mut dyn FnMut(&Tensor) -> Result<Value>) -> Result<Value> {
        let mut spare = std::mem::take(&mut *self.spare.lock());
        let packed = pack(&source.for_one_reading(&mut spare))?;
        *self.spare.lock() = spare;
        let bytes = source.len() * source.dtype().size();
        if self.read.fetch_add(bytes, Ordering::Relaxed) + bytes > RELEASED {
            self.read.store(0, Ordering::Relaxed);
            self.file.release_pages();
        }
        Ok(packed)
    }

    /// Gives back what only packing needs: a plan has been made.
    pub(crate) fn release(&self) {
        *self.spare.lock() = Spare::default();
        self.file.release_pages();
    }

    fn restore(&self, form: &Form, source: &Tensor, variant: u64) -> Result<Option<Value>> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let Some(weight) = kept.forms.get(&Key::new(source, form.kind.to_owned(), variant)) else { return Ok(None) };
        let mut parts = weight.parts.clone();
        let restored = (form.restore)(kept.isa, &mut parts).and_then(|value| parts.finish().map(|()| value));
        restored.map(Some).at(|| "a packed weight of a compiled model; compile it again".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the elements: as small as a form can be.
    struct Sum(usize);

    impl Stored for Sum {
        const KIND: &'static str = "sum";

        fn store(&self, parts: &mut Parts) {
            parts.put(self.0);
        }

        fn restore(_isa: Isa, parts: &mut Parts) -> Result<Self> {
            parts.take().map(Sum)
        }
    }

    fn sum(tensor: &Tensor) -> Result<Sum> {
        Ok(Sum(tensor.to_i64_vec()?.iter().sum::<i64>() as usize))
    }

    #[test]
    fn a_constant_is_packed_once_for_each_form() {
        let weights = Weights::new();
        let source = Tensor::vector(vec![1.0f32, 2.0]);
        let first = weights.get_or_pack(&source, 0, sum).unwrap();
        let second = weights.get_or_pack::<Sum>(&source, 0, |_| panic!("packed twice")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(weights.get_or_pack(&source, 1, |_| Ok(Sum(7))).unwrap().0, 7);
        // The same elements in another shape are another constant.
        let column = source.reshaped([2, 1]).unwrap();
        assert_eq!(weights.get_or_pack(&column, 0, |_| Ok(Sum(8))).unwrap().0, 8);
    }

    #[test]
    fn what_was_kept_is_not_packed_again() {
        let weights = Weights::new();
        let source = Tensor::vector(vec![1.0f32, 2.0]);
        weights.get_or_pack(&source, 4, sum).unwrap();
        let isa = Isa::chosen().unwrap();
        let kept = Weights::kept(isa, weights.to_stored());
        assert_eq!(kept.to_stored().len(), 1);
        assert_eq!(kept.get_or_pack::<Sum>(&source, 4, |_| panic!("packed again")).unwrap().0, 3);
        assert_eq!(kept.to_stored().len(), 1);
        assert_eq!(kept.get_or_pack(&source, 5, |_| Ok(Sum(9))).unwrap().0, 9);
        let mut broken = weights.to_stored();
        broken[0].parts.put(1);
        let broken = Weights::kept(isa, broken);
        assert!(broken.get_or_pack::<Sum>(&source, 4, |_| panic!("packed again")).is_err());
    }
}
