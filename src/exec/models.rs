//! Models come, change and go while requests run, and have shares of the replicas.
//!
//! What holds on to a model while its requests run is left to `generations`, who is served next to `sched`.

use super::executor::Executor;
use super::generations::{MAX_GENERATIONS, MAX_MODELS, Member, NoSeat};
use super::replicas::{LOOK, Pinned};
use super::runner::BatchRunner;
use super::shared::{Inside, Shared};
use crate::clock::nanos;
use crate::error::{Error, Result, ensure, err};
use crate::monitor::{ModelSnapshot, ModelStats};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What stays the same of a model while its generations change.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) name: String,
    /// `Relaxed`: the batcher is told of a change on its own way.
    share: AtomicU32,
    pub(super) stats: ModelStats,
}

impl Served {
    pub(super) fn new(name: String, share: u32) -> Self {
        Served { name, share: AtomicU32::new(share), stats: ModelStats::default() }
    }
}

/// The error of who asks for a model that is not there.
pub(super) fn no_model(model: impl fmt::Display) -> Error {
    err!(InvalidInput, "there is no model {model}; it was never added, or it was removed")
}

fn check_share(name: &str, share: u32) -> Result<()> {
    ensure!(share > 0, InvalidInput, "the share of model {name:?} is 0; it must be at least 1");
    Ok(())
}

impl NoSeat {
    fn explain(self, model: &str) -> Error {
        match self {
            NoSeat::Absent => no_model(model),
            NoSeat::Named => err!(InvalidInput, "two models are named {model:?}; reports could not tell them apart"),
            NoSeat::Models => err!(Limit, "there are {MAX_MODELS} models; remove one before another is added"),
            NoSeat::Generations => {
                err!(
                    Overloaded,
                    "{MAX_GENERATIONS} generations of models are in use; wait until requests of earlier ones have ended"
                )
            }
        }
    }
}

impl<R: BatchRunner> Shared<R> {
    /// Serves one more model; its number.
    pub(super) fn add_model(&self, runner: R, served: Served) -> Result<u32> {
        check_share(&served.name, served.share.load(Ordering::Relaxed))?;
        let name = served.name.clone();
        let model = self.generations.add(runner, served).map_err(|none| none.explain(&name))?;
        self.share_out();
        Ok(model)
    }

    /// Tells whoever shares the replicas out which models there are.
    fn share_out(&self) {
        let mut batcher = self.batcher.lock();
        // Read under the lock, so that of two changes the later one stays.
        let members = self.generations.members();
        let shares: Vec<_> =
            members.iter().map(|member| (member.model, member.served.share.load(Ordering::Relaxed))).collect();
        batcher.set_shares(&shares);
        self.admission.set_shared(shares.len() > 1);
    }

    pub(super) fn model_snapshots(&self) -> Vec<ModelSnapshot> {
        let snapshot = |member: Member| {
            let served = &member.served;
            let mut snapshot = ModelSnapshot::new(&served.name, served.share.load(Ordering::Relaxed), &served.stats);
            match self.generations.pin(member.model) {
                Some(pin) => {
                    snapshot.generation = pin.turn;
                    snapshot.resting_ns = pin.health.rest(self.clock.now()).map_or(0, nanos);
                }
                None => snapshot.removed = true,
            }
            snapshot.retiring = self.generations.retiring(member.model);
            snapshot
        };
        self.generations.members().into_iter().map(snapshot).collect()
    }
}

impl<R: BatchRunner> Executor<R> {
    /// Serves one more model by the same replicas, with a share of the compute time relative to the others'. Requests name
    /// it by the number that is answered, which no other model will ever have.
    ///
    /// # Errors
    /// `InvalidInput` for a share of 0 or a name that another model has, `Limit` if there are 32, `Overloaded` if too many
    /// earlier generations still have requests.
    pub fn add_model(&self, name: impl Into<String>, runner: R, share: u32) -> Result<u32> {
        ensure!(!self.shared().credit.held().closed, Cancelled, "the engine is shut down; no model can be added");
        self.shared().add_model(runner, Served::new(name.into(), share))
    }

    /// Takes no requests for a model any more, and waits until those that were accepted have ended; true when that was
    /// within `timeout`. If not, or if somebody still [holds](Executor::pinned) it, the model goes when they are done.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such model, or if it is the first one, which can be swapped and not removed.
    pub fn remove_model(&self, model: u32, timeout: Duration) -> Result<bool> {
        ensure!(model != 0, InvalidInput, "the first model cannot be removed; swap it, or shut the engine down");
        let shared = self.shared();
        shared.generations.remove(model).map_err(|none| none.explain(&model.to_string()))?;
        let deadline = Instant::now().checked_add(timeout);
        let over = loop {
            if shared.generations.retiring(model) == 0 {
                break true;
            }
            if Inside::is_inside() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break false;
            }
            std::thread::sleep(LOOK);
        };
        shared.share_out();
        shared.purge();
        Ok(over)
    }

    /// Changes a model's share of the compute time.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such model, or for a share of 0.
    pub fn set_share(&self, model: u32, share: u32) -> Result<()> {
        let Some(pinned) = self.pinned(model) else { return Err(no_model(model)) };
        check_share(&pinned.0.served.name, share)?;
        pinned.0.served.share.store(share, Ordering::Relaxed);
        self.shared().share_out();
        Ok(())
    }

    /// The number of the model that is served by this name.
    #[must_use]
    pub fn model_named(&self, name: &str) -> Option<u32> {
        let generations = &self.shared().generations;
        let member = generations.members().into_iter().find(|member| member.served.name == name)?;
        generations.is_served(member.model).then_some(member.model)
    }

    /// The names of the models that are served, in order of their numbers.
    #[must_use]
    pub fn model_names(&self) -> Vec<String> {
        let generations = &self.shared().generations;
        let served = generations.members().into_iter().filter(|member| generations.is_served(member.model));
        served.map(|member| member.served.name.clone()).collect()
    }

    /// Lets `runner` take all requests for a model from now on. Those that were accepted before are run by the one before,
    /// which is dropped when the last of them has ended.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such model, `Overloaded` if too many earlier ones still have requests.
    pub fn swap(&self, model: u32, runner: R) -> Result<()> {
        let shared = self.shared();
        let swapped = shared.generations.swap(model, runner);
        shared.purge();
        swapped.map_err(|none| none.explain(&model.to_string()))
    }

    /// Takes a model for healthy again that rests because it kept panicking.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such model.
    pub fn reinstate(&self, model: u32) -> Result<()> {
        match self.pinned(model) {
            Some(pinned) => pinned.0.health.reinstate(),
            None => return Err(no_model(model)),
        }
        Ok(())
    }

    /// Says how long a batch of `rows` rows of a group of what `pinned` holds takes, as a warm-up has measured it, so that
    /// deadlines, costs and shares are right from the first request on.
    pub fn seed_cost(&self, pinned: &Pinned<'_, R>, group: u64, rows: u32, time: Duration) {
        self.shared().admission.costs.seed(group.wrapping_add(pinned.0.salt()), rows, time);
    }
}
