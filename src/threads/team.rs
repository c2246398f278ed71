//! A leader and its helpers, who divide one region of work after another between them.
//!
//! ```text
//! leader                                   helper
//!   tag, done = 0; word = epoch | parts      loop:
//!   wake who sleeps                            read word: closed? return
//!   claim parts and run them                   claim a part: run it, done += 1
//!   wait until done = parts                    none left: spin 20 us, then sleep
//! ```
//! 1. A part is claimed by taking its bit out of `word` with a compare-and-swap that names the epoch, so each part runs
//!    once, and only while its region is open.
//! 2. The leader claims like everybody else. A helper that never comes costs nothing: its part is still there to claim.
//! 3. A region ends when all its parts are done. So whoever runs a part runs it while the leader is inside
//!    [`Team::region`], and what the leader borrows outlives it.
//! 4. A member has a part of its own that it claims first, so that from region to region it meets what it left in its
//!    cache.
//! 5. A helper is free for the next run when the leader has left, though it may have yet to wake and to see that; one
//!    that has not come by then is free when it comes, so that what waits in the pool's queue does not pile up.
//! 6. A panic in a part counts as done and is told at the end of the region.

use super::{MOST_PARTS, Threads};
use crate::error::{Result, ensure};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Padded, Thread, current, in_one_order, park};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

/// What the parts of all regions run: told the region's tag and the part.
type Work = dyn Fn(usize, usize) + Sync;

/// How long a member spins before it sleeps.
#[cfg(not(loom))]
const SPIN: Duration = Duration::from_micros(20);

/// Among the bits of the helpers that have come: the leader has left.
const LEFT: u32 = 1 << 31;

/// No region will come any more.
const CLOSED: u64 = 1 << 63;

struct Shared {
    /// [`CLOSED`], the number of the region in 31 bits, and a bit for each part that nobody has claimed.
    word: Padded<AtomicU64>,
    /// Parts of the region that have ended.
    done: Padded<AtomicU32>,
    /// What the region is; written before it opens, read after a claim in it.
    tag: AtomicUsize,
    /// A part of the region panicked.
    panicked: AtomicBool,
    /// A bit for each helper that sleeps or is about to.
    sleeping: AtomicU32,
    /// The leader sleeps or is about to.
    lead_sleeps: AtomicBool,
    lead: Thread,
    handles: Vec<Mutex<Option<Thread>>>,
    /// A bit for each helper that has come, and [`LEFT`].
    arrived: AtomicU32,
    /// Where the helpers were claimed.
    threads: Threads,
    work: *const Work,
}

// SAFETY: all fields but `work` are `Send`; it is called as point 3 above says: while the leader that borrows it waits.
// `Work` is `Sync`, so any thread may call it.
unsafe impl Send for Shared {}
// SAFETY: as above; the other fields are `Sync`.
unsafe impl Sync for Shared {}

/// The leader's side of a team.
pub(crate) struct Team {
    shared: Arc<Shared>,
    epoch: u64,
}

/// A helper's side of a team.
pub(crate) struct Helper {
    shared: Arc<Shared>,
    index: usize,
}

/// Calls `lead` with a team of itself and `helpers` claimed of `threads`, who run `work`; no helper runs any of it after
/// the return.
pub(super) fn with_team<R>(
    threads: &Threads,
    helpers: usize,
    work: &(dyn Fn(usize, usize) + Sync),
    lead: impl FnOnce(&mut Team) -> R,
) -> R {
    let work: *const (dyn Fn(usize, usize) + Sync + '_) = work;
    // SAFETY: only the lifetime in the type changes. The pointer is followed after the claim of a part and before that
    // part counts as done; `region` returns, or unwinds, after all parts are done, and without a region nothing can be
    // claimed. `lead` is called within the borrow of `work`.
    let work: *const Work = unsafe { std::mem::transmute(work) };
    let shared = Shared {
        word: Padded(AtomicU64::new(0)),
        done: Padded(AtomicU32::new(0)),
        tag: AtomicUsize::new(0),
        panicked: AtomicBool::new(false),
        sleeping: AtomicU32::new(0),
        lead_sleeps: AtomicBool::new(false),
        lead: current(),
        handles: (0..helpers.min(MOST_PARTS - 1)).map(|_| Mutex::new(None)).collect(),
        arrived: AtomicU32::new(0),
        threads: threads.clone(),
        work,
    };
    lead(&mut Team { shared: Arc::new(shared), epoch: 0 })
}

impl Team {
    /// Threads that may take part, the leader included.
    pub(crate) fn members(&self) -> usize {
        self.shared.handles.len() + 1
    }

    /// The side of helper `index`, to be handed to its thread.
    pub(super) fn helper(&self, index: usize) -> Helper {
        Helper { shared: self.shared.clone(), index }
    }

    /// Runs parts `0..parts` of the region `tag`, and returns when all have ended.
    ///
    /// # Errors
    /// `Internal` when a part panicked.
    pub(crate) fn region(&mut self, tag: usize, parts: usize) -> Result<()> {
        let shared = &*self.shared;
        ensure!((1..=MOST_PARTS).contains(&parts), Internal, "a region of {parts} parts");
        // Nobody else writes these between regions: all parts of the last one are done.
        shared.tag.store(tag, Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        shared.panicked.store(false, Ordering::Relaxed);
        self.epoch = (self.epoch + 1) & 0x7fff_ffff;
        let mask = u64::MAX >> (64 - parts);
        // `SeqCst` with the helpers' store of `sleeping`: one of the two sees the other.
        shared.word.store(self.epoch << 32 | mask, Ordering::SeqCst);
        shared.wake();
        while let Some(part) = shared.claim(0) {
            shared.run(part);
        }
        shared.wait(parts as u32);
        ensure!(
            !shared.panicked.load(Ordering::Relaxed),
            Internal,
            "a part of a step that was divided over threads panicked"
        );
        Ok(())
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let shared = &*self.shared;
        shared.word.store(CLOSED, Ordering::SeqCst);
        shared.wake();
        let arrived = shared.arrived.fetch_or(LEFT, Ordering::AcqRel);
        shared.threads.release(arrived.count_ones() as usize);
    }
}

impl Shared {
    /// Takes a part that nobody has claimed, preferably this one.
    fn claim(&self, own: usize) -> Option<usize> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let mask = word as u32;
            if mask == 0 || word & CLOSED != 0 {
                return None;
            }
            let part = if mask >> own & 1 == 1 { own } else { mask.trailing_zeros() as usize };
            // Acquire: what the leader wrote before it opened the region is seen.
            match self.word.compare_exchange_weak(word, word & !(1 << part), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(part),
                Err(now) => word = now,
            }
        }
    }

    /// Runs a part that was claimed.
    fn run(&self, part: usize) {
        let tag = self.tag.load(Ordering::Relaxed);
        // SAFETY: the part is claimed and not done, so the leader is inside `region`, within the borrow of `work`.
        let work = unsafe { &*self.work };
        if catch_unwind(AssertUnwindSafe(|| work(tag, part))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        // Release: the leader sees what the part wrote. `SeqCst` with `lead_sleeps`, as above.
        self.done.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Wakes who sleeps, after a store to `word`.
    fn wake(&self) {
        in_one_order();
        let asleep = self.sleeping.load(Ordering::SeqCst);
        for (index, handle) in self.handles.iter().enumerate() {
            let thread = if asleep >> index & 1 == 1 { handle.lock().clone() } else { None };
            if let Some(thread) = thread {
                thread.unpark();
            }
        }
    }

    /// Waits until so many parts are done.
    fn wait(&self, parts: u32) {
        let done = || self.done.0.load(Ordering::SeqCst) == parts;
        if spin(done) {
            return;
        }
        self.lead_sleeps.store(true, Ordering::SeqCst);
        in_one_order();
        while !done() {
            park();
        }
        self.lead_sleeps.store(false, Ordering::Relaxed);
    }
}

impl Helper {
    /// Serves the team until it is closed.
    pub(super) fn help(self) {
        let Helper { shared, index } = self;
        if shared.arrived.fetch_or(1 << index, Ordering::AcqRel) & LEFT != 0 {
            shared.threads.release(1);
            return;
        }
        if let Some(handle) = shared.handles.get(index) {
            *handle.lock() = Some(current());
        }
        let something = || {
            let word = shared.word.load(Ordering::SeqCst);
            word & CLOSED != 0 || word as u32 != 0
        };
        loop {
            while let Some(part) = shared.claim(index + 1) {
                shared.run(part);
                in_one_order();
                if shared.lead_sleeps.load(Ordering::SeqCst) {
                    shared.lead.unpark();
                }
            }
            if shared.word.load(Ordering::Acquire) & CLOSED != 0 {
                return;
            }
            if !spin(something) {
                shared.sleeping.fetch_or(1 << index, Ordering::SeqCst);
                in_one_order();
                while !something() {
                    park();
                }
                shared.sleeping.fetch_and(!(1 << index), Ordering::SeqCst);
            }
        }
    }
}

/// Spins until `ready`, for a while; whether it became so.
#[cfg(not(loom))]
fn spin(ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return false;
        }
    }
}

/// Time does not pass in the model checker.
#[cfg(loom)]
fn spin(ready: impl Fn() -> bool) -> bool {
    ready()
}
