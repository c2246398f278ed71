//! What lies in a slot: a scratch for each generation that ran there.
//!
//! A scratch may hold on to its model (plans, weights), so those of generations that are gone are thrown away.

use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Debug)]
pub(super) struct Scratches<S> {
    kept: Vec<(u64, S)>,
    /// How many generations had gone when this was last purged.
    reaped: u64,
}

impl<S> Default for Scratches<S> {
    fn default() -> Self {
        Scratches { kept: Vec::new(), reaped: 0 }
    }
}

impl<S> Scratches<S> {
    /// Takes out the scratch of a generation.
    #[inline]
    pub(super) fn take(&mut self, serial: u64) -> Option<S> {
        let at = self.kept.iter().position(|(kept, _)| *kept == serial)?;
        Some(self.kept.swap_remove(at).1)
    }

    /// Puts one back, if there is one.
    #[inline]
    pub(super) fn put(&mut self, serial: u64, scratch: Option<S>) {
        self.kept.extend(scratch.map(|scratch| (serial, scratch)));
    }

    /// Throws away what belongs to none of `alive`, if a generation has gone since the last time.
    #[inline]
    pub(super) fn purge(&mut self, reaped: u64, alive: impl FnOnce() -> Vec<u64>) {
        if self.reaped != reaped {
            self.reaped = reaped;
            let alive = alive();
            self.discard(|serial| !alive.contains(&serial));
        }
    }

    /// Throws away all of them.
    pub(super) fn clear(&mut self) {
        self.discard(|_| true);
    }

    fn discard(&mut self, which: impl Fn(u64) -> bool) {
        while let Some(at) = self.kept.iter().position(|(serial, _)| which(*serial)) {
            let gone = self.kept.swap_remove(at);
            let _ = catch_unwind(AssertUnwindSafe(move || drop(gone)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_keeps_those_of_the_living() {
        let mut scratches = Scratches::default();
        (0..4).for_each(|serial| scratches.put(serial, Some(serial * 10)));
        scratches.purge(0, || unreachable!("nothing has gone"));
        scratches.purge(1, || vec![1, 3]);
        assert_eq!([0, 1, 2, 3].map(|serial| scratches.take(serial)), [None, Some(10), None, Some(30)]);
        assert_eq!(scratches.take(1), None);
    }
}
