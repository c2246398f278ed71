//! What is served: each model is a chain of generations, and a swap begins a new one while requests run.
//!
//! A generation lives in a *seat*. Whoever uses it holds a pin: a caller while it looks at it, a request from its
//! admission to its end. New requests pin the current seat of their model; after a swap that is another one, and the old
//! seat is emptied by whoever takes its last pin away.
//!
//! ```text
//!   EMPTY ── swap ──► LIVE ── next swap ──► RETIRING ◄──► REAPING ──► EMPTY
//! ```
//!
//! Pins are counted in shards, so that submitters share no cache line. A pin counts first and then looks at the state;
//! the reaper sets REAPING first and then adds up the shards; all `SeqCst`. So a pin that saw the generation alive is in
//! the sum, and one that came later sees REAPING, takes itself back on the same shard, and touches nothing. Pins that end
//! on another shard than they began on were all counted before REAPING, so no sum hides one behind another's end.

use super::health::Health;
use crate::monitor::thread_number;
use crate::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, Padded, UnsafeCell, in_one_order};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Generations that can be held at the same time, over all models.
pub(super) const MAX_GENERATIONS: usize = 64;
const SHARDS: usize = 8;

const EMPTY: u8 = 0;
const LIVE: u8 = 1;
const RETIRING: u8 = 2;
const REAPING: u8 = 3;

/// One model at one time.
#[derive(Debug)]
pub(super) struct Generation<R> {
    pub(super) runner: R,
    /// The position of the model.
    pub(super) model: u32,
    /// Counts up over all models; never used twice.
    pub(super) serial: u64,
    /// Counts the swaps of its model.
    pub(super) turn: u64,
    pub(super) health: Health,
}

impl<R> Generation<R> {
    /// What tells its groups from those of other generations. The first one keeps the runner's own numbers.
    pub(super) fn salt(&self) -> u64 {
        self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct Seat<R> {
    pins: [Padded<AtomicU64>; SHARDS],
    state: AtomicU8,
    cell: UnsafeCell<Option<Generation<R>>>,
}

// SAFETY: the cell is written only in state EMPTY under the lock of the roster, and emptied only in state REAPING with no
// pin left; a shared reference to it exists only while a pin is held (see the head of the file). Sharing the content
// between threads needs `Sync`, moving it in and out needs `Send`.
unsafe impl<R: Send + Sync> Sync for Seat<R> {}

impl<R> Seat<R> {
    fn new() -> Self {
        let pins = std::array::from_fn(|_| Padded(AtomicU64::new(0)));
        Seat { pins, state: AtomicU8::new(EMPTY), cell: UnsafeCell::new(None) }
    }

    fn pinned(&self) -> u64 {
        self.pins.iter().fold(0, |sum, shard| sum.wrapping_add(shard.load(Ordering::SeqCst)))
    }
}

/// What the next generation is numbered.
struct Roster {
    serial: u64,
    turns: Vec<u64>,
}

/// All generations of all models.
pub(super) struct Generations<R> {
    seats: Box<[Seat<R>]>,
    /// The seat that new requests of each model go to.
    current: Box<[AtomicUsize]>,
    /// Whoever fills or empties a seat holds this.
    roster: Mutex<Roster>,
    reaped: AtomicU64,
}

impl<R> Generations<R> {
    /// The first generation of each model, at most [`MAX_GENERATIONS`].
    pub(super) fn new(runners: Vec<R>, seats: usize) -> Self {
        let models = runners.len();
        let generations = Generations {
            seats: (0..seats).map(|_| Seat::new()).collect(),
            current: (0..models).map(AtomicUsize::new).collect(),
            roster: Mutex::new(Roster { serial: 0, turns: vec![0; models] }),
            reaped: AtomicU64::new(0),
        };
        for (model, runner) in runners.into_iter().enumerate() {
            // The seats are empty, so model after model gets the next one.
            let _ = generations.seat(&mut generations.roster.lock(), model, runner);
        }
        generations
    }

    /// Puts a runner into an empty seat; gives it back if there is none.
    fn seat(&self, roster: &mut Roster, model: usize, runner: R) -> Result<usize, R> {
        let empty = |seat: &Seat<R>| seat.state.load(Ordering::SeqCst) == EMPTY;
        let Some(at) = self.seats.iter().position(empty) else { return Err(runner) };
        let (serial, turn) = (roster.serial, roster.turns[model]);
        let generation = Generation { runner, model: model as u32, serial, turn, health: Health::default() };
        roster.serial += 1;
        roster.turns[model] += 1;
        // SAFETY: the seat is EMPTY and we hold the roster, so nobody reads or writes the cell until LIVE is set.
        self.seats[at].cell.with_mut(|cell| unsafe { *cell = Some(generation) });
        self.seats[at].state.store(LIVE, Ordering::SeqCst);
        Ok(at)
    }

    /// How many models there are.
    pub(super) fn models(&self) -> usize {
        self.current.len()
    }

    /// Begins the next generation of `model`. Gives the runner back if there is no such model, or if too many generations
    /// are still finishing.
    pub(super) fn swap(&self, model: usize, runner: R) -> Result<(), R> {
        let mut roster = self.roster.lock();
        let Some(current) = self.current.get(model) else { return Err(runner) };
        let seat = self.seat(&mut roster, model, runner)?;
        let old = current.swap(seat, Ordering::SeqCst);
        self.seats[old].state.store(RETIRING, Ordering::SeqCst);
        drop(roster);
        in_one_order();
        self.reap(old);
        Ok(())
    }

    /// Pins the current generation of `model`; `None` if there is no such model.
    #[inline]
    pub(super) fn pin(&self, model: usize) -> Option<Hold<'_, R>> {
        let current = self.current.get(model)?;
        loop {
            let seat = current.load(Ordering::SeqCst);
            let pin = self.pin_seat(seat);
            in_one_order();
            if current.load(Ordering::SeqCst) == seat && pin.is_some() {
                return pin;
            }
        }
    }

    /// Pins what is in a seat; `None` if there is nothing, or if it is just being taken away.
    #[inline]
    pub(super) fn pin_seat(&self, seat: usize) -> Option<Hold<'_, R>> {
        let place = self.seats.get(seat)?;
        place.pins[thread_number() % SHARDS].fetch_add(1, Ordering::SeqCst);
        in_one_order();
        if matches!(place.state.load(Ordering::SeqCst), LIVE | RETIRING) {
            return Some(Hold { generations: self, seat });
        }
        self.unpin(seat, 1);
        None
    }

    /// Takes away `pins` pins that were [kept](Hold::keep).
    #[inline]
    pub(super) fn unpin(&self, seat: usize, pins: u64) {
        let Some(place) = self.seats.get(seat) else { return };
        place.pins[thread_number() % SHARDS].fetch_sub(pins, Ordering::SeqCst);
        in_one_order();
        if place.state.load(Ordering::SeqCst) >= RETIRING {
            self.reap(seat);
        }
    }

    /// Empties a retiring seat if nobody pins it any more.
    #[cold]
    fn reap(&self, seat: usize) {
        let roster = self.roster.lock();
        let place = &self.seats[seat];
        if place.state.load(Ordering::SeqCst) != RETIRING || place.pinned() != 0 {
            return;
        }
        place.state.store(REAPING, Ordering::SeqCst);
        in_one_order();
        if place.pinned() != 0 {
            // Whoever it is takes itself back, and comes here then.
            place.state.store(RETIRING, Ordering::SeqCst);
            return;
        }
        // SAFETY: REAPING was set before the pins added up to none, so no reference to the content is left and none can
        // come; we hold the roster, so nobody else fills or empties it.
        let gone = place.cell.with_mut(|cell| unsafe { (*cell).take() });
        place.state.store(EMPTY, Ordering::SeqCst);
        self.reaped.fetch_add(1, Ordering::SeqCst);
        drop(roster);
        // The destructor may be anybody's code.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(gone)));
    }

    /// How many generations have gone.
    #[inline]
    pub(super) fn reaped(&self) -> u64 {
        self.reaped.load(Ordering::SeqCst)
    }

    /// The serials of the generations that are held.
    pub(super) fn serials(&self) -> Vec<u64> {
        (0..self.seats.len()).filter_map(|seat| Some(self.pin_seat(seat)?.serial)).collect()
    }

    /// How many old generations of `model` still have requests.
    pub(super) fn retiring(&self, model: usize) -> usize {
        let retiring = |seat: &usize| {
            let pin = self.pin_seat(*seat);
            let old = self.seats[*seat].state.load(Ordering::SeqCst) == RETIRING;
            pin.is_some_and(|pin| old && pin.model as usize == model)
        };
        (0..self.seats.len()).filter(retiring).count()
    }
}

/// A hold on a generation: while it lives, the generation does.
pub(super) struct Hold<'a, R> {
    generations: &'a Generations<R>,
    seat: usize,
}

impl<R> Hold<'_, R> {
    /// Leaves the pin to somebody who will [`unpin`](Generations::unpin) the seat that it answers.
    pub(super) fn keep(self) -> usize {
        let seat = self.seat;
        std::mem::forget(self);
        seat
    }
}

impl<R> Clone for Hold<'_, R> {
    fn clone(&self) -> Self {
        let place = &self.generations.seats[self.seat];
        // The generation is held by `self`, so there is nothing to look at.
        place.pins[thread_number() % SHARDS].fetch_add(1, Ordering::SeqCst);
        Hold { generations: self.generations, seat: self.seat }
    }
}

impl<R> Deref for Hold<'_, R> {
    type Target = Generation<R>;

    fn deref(&self) -> &Generation<R> {
        // SAFETY: a pin was made when the seat was LIVE or RETIRING, both of which hold a generation, and it is not
        // emptied while this pin counts.
        self.generations.seats[self.seat].cell.with(|cell| unsafe { (*cell).as_ref().unwrap_unchecked() })
    }
}

impl<R> Drop for Hold<'_, R> {
    fn drop(&mut self) {
        self.generations.unpin(self.seat, 1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_old_one_goes_with_its_last_pin() {
        let (first, second) = (Arc::new(1), Arc::new(2));
        let generations = Generations::new(vec![first.clone()], 4);
        let seat = generations.pin(0).unwrap().keep();
        let held = generations.pin(0).unwrap();
        generations.swap(0, second.clone()).unwrap();
        assert_eq!((*held.runner, *generations.pin(0).unwrap().runner), (1, 2));
        assert_eq!((generations.retiring(0), generations.serials()), (1, vec![0, 1]));
        drop(held);
        assert_eq!((Arc::strong_count(&first), *generations.pin_seat(seat).unwrap().runner), (2, 1));
        generations.unpin(seat, 1);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 2));
        assert_eq!((generations.reaped(), generations.serials()), (1, vec![1]));
    }

    #[test]
    fn there_is_no_model_and_no_seat_beyond_the_bounds() {
        let generations = Generations::new(vec![1, 2], 3);
        assert!(generations.pin(2).is_none() && generations.swap(2, 5).is_err());
        let held = generations.pin(1).unwrap();
        generations.swap(1, 3).unwrap();
        assert_eq!(generations.swap(1, 4), Err(4), "all seats are taken");
        drop(held);
        generations.swap(1, 4).unwrap();
        assert_eq!((generations.pin(0).unwrap().runner, generations.pin(1).unwrap().runner), (1, 4));
    }

    #[test]
    fn nobody_sees_a_generation_that_is_gone() {
        let generations = Generations::new(vec![Arc::new(0_u64)], 4);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let pin = generations.pin(0).unwrap();
                        let (value, copy) = (*pin.runner, pin.clone());
                        let seat = pin.keep();
                        assert_eq!(*copy.runner, value);
                        drop(copy);
                        assert_eq!(*generations.pin_seat(seat).unwrap().runner, value);
                        generations.unpin(seat, 1);
                    }
                });
            }
            for value in 1..300 {
                let mut next = Arc::new(value);
                while let Err(back) = generations.swap(0, next) {
                    next = back;
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!((generations.serials().len(), generations.reaped()), (1, 299));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn loom_a_pinned_generation_stays_and_an_unpinned_one_goes() {
        loom::model(|| {
            let generations = Arc::new(Generations::new(vec![1], 2));
            let user = {
                let generations = generations.clone();
                loom::thread::spawn(move || {
                    let seat = generations.pin(0).unwrap().keep();
                    assert!(generations.pin_seat(seat).is_some_and(|pin| pin.runner > 0));
                    generations.unpin(seat, 1);
                })
            };
            generations.swap(0, 2).unwrap();
            user.join().unwrap();
            assert_eq!((generations.reaped(), generations.serials()), (1, vec![1]));
        });
    }
}
