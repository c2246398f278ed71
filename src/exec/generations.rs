//! What is served: each model is a chain of generations, and a swap begins a new one while requests run.
//!
//! A generation lives in a *seat*. Whoever uses it holds a pin: a caller while it looks at it, a request from its
//! admission to its end. New requests pin the current seat of their model; after a swap that is another one, and the old
//! seat is emptied by whoever takes its last pin away. A model that is removed has no current seat any more.
//!
//! ```text
//!   EMPTY ── swap ──► LIVE ── next swap ──► RETIRING ◄──► REAPING ──► EMPTY
//! ```
//!
//! Pins are counted in shards, so that submitters share no cache line. A pin counts first and then looks at the state;
//! the reaper sets REAPING first and then adds up the shards; all `SeqCst`. So a pin that saw the generation alive is in
//! the sum, and one that came later sees REAPING, takes itself back on the same shard, and touches nothing. Pins that end
//! on another shard than they began on were all counted before REAPING, so no sum hides one behind another's end: that holds
//! for a pin made from another one too, which waits for the sum, though its generation cannot go.

use super::health::Health;
use super::models::Served;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, Padded, UnsafeCell, in_one_order, yield_now};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Generations that can be held at the same time, over all models.
pub(super) const MAX_GENERATIONS: usize = 64;
/// Models that can be served at the same time.
pub(super) const MAX_MODELS: usize = MAX_GENERATIONS / 2;
const SHARDS: usize = if cfg!(loom) { 2 } else { 8 };
/// In place of a model's number and seat: there is none.
const ABSENT: u64 = u64::MAX;

const EMPTY: u8 = 0;
const LIVE: u8 = 1;
const RETIRING: u8 = 2;
const REAPING: u8 = 3;

/// One model at one time.
#[derive(Debug)]
pub(super) struct Generation<R> {
    pub(super) runner: R,
    /// The number of the model.
    pub(super) model: u32,
    /// What its model is called and has done.
    pub(super) served: Arc<Served>,
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

/// A model that is served, or whose last requests have not ended.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) model: u32,
    pub(super) served: Arc<Served>,
    /// The number of its next generation.
    turn: u64,
}

/// What the next generation and the next model are numbered, and the models that there are, in order of their numbers.
struct Roster {
    serial: u64,
    next_model: u32,
    members: Vec<Member>,
}

/// Why there is no generation more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// There is no such model.
    Absent,
    /// Another model has this name.
    Named,
    /// There are as many models as can be.
    Models,
    /// Too many earlier generations still have requests.
    Generations,
}

/// All generations of all models.
pub(super) struct Generations<R> {
    seats: Box<[Seat<R>]>,
    /// The number of each model, and in the lowest byte the seat that its new requests go to; a model stands at its number
    /// modulo the length.
    current: Box<[AtomicU64]>,
    /// Whoever fills or empties a seat holds this.
    roster: Mutex<Roster>,
    reaped: AtomicU64,
}

/// The shard of the calling thread.
#[cfg(not(loom))]
#[inline]
fn shard() -> usize {
    crate::monitor::thread_number() % SHARDS
}

/// The same in a model, whose threads are all one to the system.
#[cfg(loom)]
fn shard() -> usize {
    SHARD.with(std::cell::Cell::get)
}

#[cfg(loom)]
loom::thread_local!(static SHARD: std::cell::Cell<usize> = std::cell::Cell::new(0));

fn word(model: u32, seat: usize) -> u64 {
    u64::from(model) << 8 | seat as u64
}

/// The seat in the word of `model`.
#[inline]
fn seat_in(word: u64, model: u32) -> Option<usize> {
    (word >> 8 == u64::from(model)).then_some((word & 0xff) as usize)
}

impl<R> Generations<R> {
    /// No generation yet, and room for `seats` at the same time, at most [`MAX_GENERATIONS`].
    pub(super) fn new(seats: usize) -> Self {
        Generations {
            seats: (0..seats).map(|_| Seat::new()).collect(),
            current: (0..seats.div_ceil(2)).map(|_| AtomicU64::new(ABSENT)).collect(),
            roster: Mutex::new(Roster { serial: 0, next_model: 0, members: Vec::new() }),
            reaped: AtomicU64::new(0),
        }
    }

    #[inline]
    fn place(&self, model: u32) -> &AtomicU64 {
        &self.current[model as usize % self.current.len()]
    }

    /// Puts a runner into an empty seat.
    fn seat(&self, roster: &mut Roster, member: &Member, runner: R) -> Result<usize, NoSeat> {
        let empty = |seat: &Seat<R>| seat.state.load(Ordering::SeqCst) == EMPTY;
        let at = self.seats.iter().position(empty).ok_or(NoSeat::Generations)?;
        let (serial, turn, health) = (roster.serial, member.turn, Health::default());
        let generation =
            Generation { runner, model: member.model, served: member.served.clone(), serial, turn, health };
        roster.serial += 1;
        // SAFETY: the seat is EMPTY and we hold the roster, so nobody reads or writes the cell until LIVE is set.
        self.seats[at].cell.with_mut(|cell| unsafe { *cell = Some(generation) });
        self.seats[at].state.store(LIVE, Ordering::SeqCst);
        Ok(at)
    }

    /// Begins the first generation of one more model, whose number it answers: no two models ever have the same.
    pub(super) fn add(&self, runner: R, served: Served) -> Result<u32, NoSeat> {
        let mut roster = self.roster.lock();
        self.forget_gone(&mut roster);
        if roster.members.iter().any(|member| member.served.name == served.name) {
            return Err(NoSeat::Named);
        }
        let free = |model: &u32| self.place(*model).load(Ordering::SeqCst) == ABSENT;
        let numbers = (0..self.current.len() as u32).map(|skipped| roster.next_model.wrapping_add(skipped));
        let model = numbers.into_iter().find(free).ok_or(NoSeat::Models)?;
        let mut member = Member { model, served: Arc::new(served), turn: 0 };
        let seat = self.seat(&mut roster, &member, runner)?;
        member.turn += 1;
        roster.members.push(member);
        roster.next_model = model.wrapping_add(1);
        self.place(model).store(word(model, seat), Ordering::SeqCst);
        Ok(model)
    }

    /// Begins the next generation of `model`.
    pub(super) fn swap(&self, model: u32, runner: R) -> Result<(), NoSeat> {
        let mut roster = self.roster.lock();
        let old = seat_in(self.place(model).load(Ordering::SeqCst), model).ok_or(NoSeat::Absent)?;
        let at = roster.members.iter().position(|member| member.model == model).ok_or(NoSeat::Absent)?;
        let member = roster.members[at].clone();
        let seat = self.seat(&mut roster, &member, runner)?;
        roster.members[at].turn += 1;
        self.place(model).store(word(model, seat), Ordering::SeqCst);
        self.retire(roster, old);
        Ok(())
    }

    /// Lets `model` take no new requests; those that it has keep its generation.
    pub(super) fn remove(&self, model: u32) -> Result<(), NoSeat> {
        let roster = self.roster.lock();
        let old = seat_in(self.place(model).load(Ordering::SeqCst), model).ok_or(NoSeat::Absent)?;
        self.place(model).store(ABSENT, Ordering::SeqCst);
        self.retire(roster, old);
        Ok(())
    }

    fn retire(&self, roster: MutexGuard<'_, Roster>, seat: usize) {
        self.seats[seat].state.store(RETIRING, Ordering::SeqCst);
        drop(roster);
        in_one_order();
        self.reap(seat);
    }

    /// Whether `model` takes requests.
    pub(super) fn is_served(&self, model: u32) -> bool {
        seat_in(self.place(model).load(Ordering::SeqCst), model).is_some()
    }

    /// Forgets the models that were removed and whose last requests have ended.
    fn forget_gone(&self, roster: &mut Roster) {
        let held = |model: u32| {
            // Whoever fills or empties a seat holds the roster, as we do.
            self.seats.iter().any(|seat| {
                let full = seat.state.load(Ordering::SeqCst) != EMPTY;
                // SAFETY: the seat is not EMPTY, so it holds a generation, which is emptied under the roster only.
                let own = |cell: *const Option<Generation<R>>| unsafe { (*cell).as_ref().map(|own| own.model) };
                full && seat.cell.with(own) == Some(model)
            })
        };
        roster.members.retain(|member| self.is_served(member.model) || held(member.model));
    }

    /// The models, in order of their numbers: those that are served, and those that were removed and still have requests.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut roster = self.roster.lock();
        self.forget_gone(&mut roster);
        roster.members.clone()
    }

    /// Pins the current generation of `model`; `None` if there is no such model.
    #[inline]
    pub(super) fn pin(&self, model: u32) -> Option<Hold<'_, R>> {
        let place = self.place(model);
        loop {
            let word = place.load(Ordering::SeqCst);
            let pin = self.pin_seat(seat_in(word, model)?);
            in_one_order();
            if place.load(Ordering::SeqCst) == word && pin.is_some() {
                return pin;
            }
        }
    }

    /// Pins what is in a seat; `None` if there is nothing, or if it is just being taken away.
    #[inline]
    pub(super) fn pin_seat(&self, seat: usize) -> Option<Hold<'_, R>> {
        let place = self.seats.get(seat)?;
        let pin = self.try_pin(seat);
        if pin.is_none() && place.state.load(Ordering::SeqCst) >= RETIRING {
            self.reap(seat);
        }
        pin
    }

    /// The same, but leaves it to the caller that a seat which may go is looked at.
    #[inline]
    fn try_pin(&self, seat: usize) -> Option<Hold<'_, R>> {
        let place = self.seats.get(seat)?;
        let shard = &place.pins[shard()];
        shard.fetch_add(1, Ordering::SeqCst);
        in_one_order();
        if matches!(place.state.load(Ordering::SeqCst), LIVE | RETIRING) {
            return Some(Hold { generations: self, seat });
        }
        shard.fetch_sub(1, Ordering::SeqCst);
        in_one_order();
        None
    }

    /// Takes away `pins` pins that were [kept](Hold::keep).
    #[inline]
    pub(super) fn unpin(&self, seat: usize, pins: u64) {
        let Some(place) = self.seats.get(seat) else { return };
        place.pins[shard()].fetch_sub(pins, Ordering::SeqCst);
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
    pub(super) fn retiring(&self, model: u32) -> usize {
        let retiring = |seat: &usize| {
            let pin = self.pin_seat(*seat);
            let old = self.seats[*seat].state.load(Ordering::SeqCst) == RETIRING;
            pin.is_some_and(|pin| old && pin.model == model)
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
        loop {
            if let Some(pin) = self.generations.try_pin(self.seat) {
                return pin;
            }
            // Somebody adds up the pins, and will find ours.
            yield_now();
        }
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

    fn served(name: &str) -> Served {
        Served::new(name.to_owned(), 1)
    }

    fn generations<R>(runners: impl IntoIterator<Item = R>, seats: usize) -> Generations<R> {
        let generations = Generations::new(seats);
        for (model, runner) in (0..).zip(runners) {
            assert_eq!(generations.add(runner, served(&format!("model {model}"))), Ok(model));
        }
        generations
    }

    #[test]
    fn the_old_one_goes_with_its_last_pin() {
        let (first, second) = (Arc::new(1), Arc::new(2));
        let generations = generations([first.clone()], 4);
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
        let generations = generations([1, 2], 3);
        assert!(generations.pin(2).is_none() && generations.swap(2, 5) == Err(NoSeat::Absent));
        let held = generations.pin(1).unwrap();
        generations.swap(1, 3).unwrap();
        assert_eq!(generations.swap(1, 4), Err(NoSeat::Generations), "all seats are taken");
        assert_eq!(generations.add(4, served("more")), Err(NoSeat::Models));
        drop(held);
        generations.swap(1, 4).unwrap();
        assert_eq!((generations.pin(0).unwrap().runner, generations.pin(1).unwrap().runner), (1, 4));
    }

    #[test]
    fn a_removed_model_goes_with_its_last_pin_and_its_number_with_it() {
        let (first, second) = (Arc::new(1), Arc::new(2));
        let generations = generations([first, second.clone()], 4);
        let members = || generations.members().iter().map(|member| member.model).collect::<Vec<_>>();
        let held = generations.pin(1).unwrap();
        generations.remove(1).unwrap();
        assert_eq!(generations.remove(1), Err(NoSeat::Absent));
        assert!(generations.pin(1).is_none() && *held.runner == 2 && generations.retiring(1) == 1);
        assert_eq!(generations.add(Arc::new(3), served("model 1")), Err(NoSeat::Named), "it has requests yet");
        assert_eq!(
            (members(), generations.add(Arc::new(3), served("new"))),
            (vec![0, 1], Ok(3)),
            "2 would stand at 0's place"
        );
        drop(held);
        assert_eq!((members(), Arc::strong_count(&second)), (vec![0, 3], 1));
        assert!(generations.is_served(3) && generations.swap(1, Arc::new(4)) == Err(NoSeat::Absent));
    }

    #[test]
    fn nobody_sees_a_generation_that_is_gone() {
        let generations = generations([Arc::new(0_u64)], 4);
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
                while generations.swap(0, Arc::new(value)).is_err() {
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
            let generations = Arc::new(Generations::new(2));
            generations.add(1, Served::new(String::new(), 1)).unwrap();
            let user = {
                let generations = generations.clone();
                loom::thread::spawn(move || {
                    let seat = generations.pin(0).unwrap().keep();
                    assert!(generations.pin_seat(seat).is_some_and(|pin| pin.runner > 0));
                    SHARD.with(|shard| shard.set(1));
                    generations.unpin(seat, 1);
                })
            };
            generations.swap(0, 2).unwrap();
            user.join().unwrap();
            assert_eq!((generations.reaped(), generations.serials()), (1, vec![1]));
        });
    }

    #[test]
    fn loom_pins_that_begin_and_end_on_two_shards_hide_no_other() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let generations = Arc::new(Generations::new(2));
            generations.add(1, Served::new(String::new(), 1)).unwrap();
            // Held to the end, and others made from it meanwhile.
            let seat = generations.pin(0).unwrap().keep();
            let others = [(); 2].map(|()| {
                let generations = generations.clone();
                loom::thread::spawn(move || {
                    let held = std::mem::ManuallyDrop::new(Hold { generations: &generations, seat });
                    let seat = Hold::clone(&held).keep();
                    SHARD.with(|shard| shard.set(1));
                    generations.unpin(seat, 1);
                })
            });
            generations.swap(0, 2).unwrap();
            assert_eq!(generations.reaped(), 0);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(generations.reaped(), 0);
            generations.unpin(seat, 1);
            assert_eq!(generations.reaped(), 1);
        });
    }

    #[test]
    fn loom_a_removed_model_ends_with_those_that_saw_it() {
        loom::model(|| {
            let generations = Arc::new(Generations::new(2));
            generations.add(1, Served::new(String::new(), 1)).unwrap();
            let user = {
                let generations = generations.clone();
                loom::thread::spawn(move || {
                    if let Some(pin) = generations.pin(0) {
                        assert_eq!(pin.runner, 1);
                    }
                })
            };
            generations.remove(0).unwrap();
            assert!(generations.pin(0).is_none());
            user.join().unwrap();
            assert_eq!((generations.reaped(), generations.serials()), (1, vec![]));
        });
    }
}
