//! What an operator is handed: its inputs, and the limits of its evaluation.

use crate::error::{Result, ensure, err};
use crate::tensor::{Fact, Tensor};
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

/// What an evaluation may use: bytes that live at one time, and operators run in total.
///
/// The limits are absolute, so a small file cannot ask for a huge tensor or an endless loop.
#[derive(Debug)]
pub struct Budget {
    max_bytes: usize,
    used: AtomicUsize,
    steps: AtomicU64,
}

impl Budget {
    /// At most `max_bytes` of values alive at one time and `steps` operators run.
    #[must_use]
    pub fn new(max_bytes: usize, steps: u64) -> Self {
        Budget { max_bytes, used: AtomicUsize::new(0), steps: AtomicU64::new(steps) }
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
