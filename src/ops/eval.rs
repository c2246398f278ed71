//! What an operator is handed: its inputs, and the limits of its evaluation.

use super::Op;
use crate::error::{Result, ensure, err};
use crate::tensor::{Fact, Shape, Tensor};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The inputs of a node, in order; an optional input may be absent.
#[derive(Debug)]
pub struct Inputs<'a, T>(&'a [Option<&'a T>]);

impl<T> Clone for Inputs<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Inputs<'_, T> {}

impl<'a, T> Inputs<'a, T> {
    /// Wraps the inputs of a node.
    #[must_use]
    pub fn new(inputs: &'a [Option<&'a T>]) -> Self {
        Inputs(inputs)
    }

    /// Number of inputs, trailing absent ones included.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.len()
    }

    /// Input `index`, where it is present.
    #[must_use]
    pub fn get(self, index: usize) -> Option<&'a T> {
        self.0.get(index).copied().flatten()
    }

    /// Input `index`.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when it is absent.
    pub fn require(self, index: usize) -> Result<&'a T> {
        self.get(index).ok_or_else(|| err!(InvalidModel, "input {index} is missing"))
    }

    /// Every input from `index` on, all of which must be present.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when one is absent.
    pub fn require_from(self, index: usize) -> Result<Vec<&'a T>> {
        (index..self.count()).map(|i| self.require(i)).collect()
    }
}

/// What an evaluation may use: bytes that live at one time, operators run in total, and work done in total.
///
/// The limits are absolute, so a small file cannot ask for a huge tensor, an endless loop or an endless sum.
#[derive(Debug)]
pub struct Budget {
    max_bytes: usize,
    used: AtomicUsize,
    steps: AtomicU64,
    work: AtomicU64,
}

impl Budget {
    /// At most `max_bytes` of values alive at one time and `steps` operators run, whatever work they take.
    #[must_use]
    pub fn new(max_bytes: usize, steps: u64) -> Self {
        Budget { max_bytes, used: AtomicUsize::new(0), steps: AtomicU64::new(steps), work: AtomicU64::new(u64::MAX) }
    }

    /// The same with so much work: in multiply-accumulates, or elements gone through where there is no product.
    #[must_use]
    pub fn max_work(self, work: u64) -> Self {
        Budget { work: AtomicU64::new(work), ..self }
    }

    /// The work that is left.
    #[must_use]
    pub fn work_left(&self) -> u64 {
        self.work.load(Ordering::Relaxed)
    }

    /// Takes `work` before it is done; none of it where it is more than is left.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when not so much is left.
    pub fn spend(&self, work: usize) -> Result<()> {
        let work = work as u64;
        let left = self.work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(work));
        left.map_err(|left| err!(Limit, "{work} products or elements are asked for; {left} are left"))?;
        Ok(())
    }

    /// Takes the work of `op` on these inputs, as far as shapes tell it: its products, else every element that comes
    /// or goes. What an operator does beside that it takes itself.
    ///
    /// # Errors
    /// As [`spend`](Budget::spend).
    pub(crate) fn spend_on(&self, op: &dyn Op, inputs: Inputs<'_, Tensor>, outputs: &[Fact]) -> Result<()> {
        let shapes: Vec<Option<&Shape>> = inputs.0.iter().map(|input| input.map(Tensor::shape)).collect();
        let made: Vec<Shape> = outputs.iter().filter_map(Fact::concrete_shape).collect();
        let products = made.first().and_then(|first| op.macs(Inputs::new(&shapes), first)).unwrap_or(0);
        let elements = shapes.into_iter().flatten().chain(&made).map(Shape::elements);
        self.spend(elements.fold(products, usize::saturating_add))
    }

    /// Limits that only guard against accidents: 16 GiB and a thousand million operators.
    #[must_use]
    pub fn generous() -> Self {
        Budget::new(16 << 30, 1_000_000_000)
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when none is left.
    pub fn step(&self) -> Result<()> {
        let left = self.steps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        ensure!(left.is_ok(), Limit, "more operators ran than allowed; is there a loop without end?");
        Ok(())
    }

    /// Checks that a value of this fact may be made now, beside those alive. Unknown shapes pass.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when it would not fit.
    pub fn admit(&self, fact: &Fact) -> Result<()> {
        self.admit_bytes(fact.bytes().unwrap_or(0))
    }

    /// Checks that `bytes` more may be allocated now.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when they would not fit.
    pub fn admit_bytes(&self, bytes: usize) -> Result<()> {
        let used = self.used.load(Ordering::Relaxed);
        ensure!(
            used.saturating_add(bytes) <= self.max_bytes,
            Limit,
            "{bytes} bytes are asked for beside {used} in use; the limit is {}",
            self.max_bytes
        );
        Ok(())
    }

    /// Counts a value as alive.
    pub(crate) fn keep(&self, value: &Tensor) {
        self.used.fetch_add(value.as_bytes().len(), Ordering::Relaxed);
    }

    /// Counts a value as dropped.
    pub(crate) fn release(&self, value: &Tensor) {
        self.used.fetch_sub(value.as_bytes().len(), Ordering::Relaxed);
    }
}

/// Bytes that count as alive until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Budget {
    /// Counts nothing yet; see [`Held::set`].
    pub(crate) fn hold(&self) -> Held<'_> {
        Held { budget: self, bytes: 0 }
    }
}

impl Held<'_> {
    /// Admits what exceeds the bytes held so far, and holds `bytes` from now on.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        self.budget.admit_bytes(more)?;
        self.budget.used.fetch_add(more, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
