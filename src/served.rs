//! One of the models that an engine serves: the same calls as the engine's own, and what changes it while requests run.

use crate::divided::{DividedTicket, Division, SubmittingDivided, divide};
use crate::engine::{Engine, EngineModel, RefusedFeeds, Ticket};
use crate::error::{Error, Result};
use crate::exec::{GroupTicket, Pinned, Reason, Refused, SubmitOptions, Submitting};
use crate::feeds::{Feeds, Outputs};
use crate::model::CompiledModel;
use crate::runner::ModelRunner;
use crate::tensor::Tensor;

/// A model of an engine; made by [`Engine::of`].
#[derive(Debug, Clone, Copy)]
pub struct ServedModel<'a> {
    engine: &'a Engine,
    number: u32,
}

impl<'a> ServedModel<'a> {
    pub(crate) fn new(engine: &'a Engine, number: u32) -> Self {
        ServedModel { engine, number }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn pinned(&self) -> Result<Pinned<'a, ModelRunner>, Reason> {
        self.engine.pinned(self.number).map_err(Reason::Invalid)
    }

    /// The inputs in the order of the model that takes them, and a hold on it: a swap in between changes nothing.
    fn bind(&self, feeds: impl Into<Feeds>) -> Result<(Pinned<'a, ModelRunner>, Vec<Tensor>), RefusedFeeds> {
        let feeds = feeds.into();
        let pinned = match self.pinned() {
            Ok(pinned) => pinned,
            Err(reason) => return Err(Refused::new(feeds.into_tensors(), reason)),
        };
        match pinned.model().bind_owned(feeds) {
            Ok(tensors) => Ok((pinned, tensors)),
            Err((feeds, error)) => Err(Refused::new(feeds.into_tensors(), Reason::Invalid(error))),
        }
    }

    /// The model that takes new requests now.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where it was removed.
    pub fn model(&self) -> Result<CompiledModel> {
        Ok(self.engine.pinned(self.number)?.model().clone())
    }

    /// As [`Engine::submit_with`].
    ///
    /// # Errors
    /// As [`Engine::submit_with`].
    pub fn submit_with(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Ticket, RefusedFeeds> {
        let (pinned, tensors) = self.bind(feeds)?;
        self.engine.executor().submit_to(&pinned, tensors, options.model(self.number))
    }

    /// As [`Engine::submit`].
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit(&self, feeds: impl Into<Feeds>) -> Result<Ticket, RefusedFeeds> {
        self.submit_with(feeds, SubmitOptions::new())
    }

    /// As [`Engine::try_submit_with`].
    ///
    /// # Errors
    /// As [`Engine::try_submit_with`].
    pub fn try_submit_with(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Ticket, RefusedFeeds> {
        let (pinned, tensors) = self.bind(feeds)?;
        self.engine.executor().try_submit_to(&pinned, tensors, options.model(self.number))
    }

    /// As [`Engine::submit_async`].
    ///
    /// # Errors
    /// As [`Engine::submit_async`].
    pub fn submit_async(&self, feeds: impl Into<Feeds>) -> Result<Submitting<'a, ModelRunner>, RefusedFeeds> {
        self.submit_async_with(feeds, SubmitOptions::new())
    }

    /// As [`Engine::submit_async_with`].
    ///
    /// # Errors
    /// As [`Engine::submit_async_with`].
    pub fn submit_async_with(
        &self,
        feeds: impl Into<Feeds>,
        options: SubmitOptions,
    ) -> Result<Submitting<'a, ModelRunner>, RefusedFeeds> {
        let (pinned, tensors) = self.bind(feeds)?;
        Ok(self.engine.executor().submit_async_to(pinned, tensors, options.model(self.number)))
    }

    /// As [`Engine::submit_many`].
    ///
    /// # Errors
    /// As [`Engine::submit_many`].
    pub fn submit_many<F: Into<Feeds>>(
        &self,
        requests: impl IntoIterator<Item = F>,
        options: SubmitOptions,
    ) -> Result<GroupTicket<ModelRunner>, Refused<Vec<Vec<Tensor>>>> {
        let mut rest = requests.into_iter().map(Into::<Feeds>::into);
        let pinned = match self.pinned() {
            Ok(pinned) => pinned,
            Err(reason) => return Err(Refused::new(rest.map(Feeds::into_tensors).collect(), reason)),
        };
        let mut bound = Vec::new();
        while let Some(feeds) = rest.next() {
            match pinned.model().bind_owned(feeds) {
                Ok(tensors) => bound.push(tensors),
                Err((feeds, error)) => {
                    bound.push(feeds.into_tensors());
                    bound.extend(rest.map(Feeds::into_tensors));
                    return Err(Refused::new(bound, Reason::Invalid(error)));
                }
            }
        }
        self.engine.executor().submit_many_to(&pinned, bound, options.model(self.number))
    }

    /// As [`Engine::run`].
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run(&self, feeds: impl Into<Feeds>) -> Result<Outputs> {
        self.run_with(feeds, SubmitOptions::new())
    }

    /// As [`Engine::run_with`].
    ///
    /// # Errors
    /// As [`Engine::run_with`].
    pub fn run_with(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Outputs> {
        let (pinned, tensors) = self.bind(feeds)?;
        self.engine.executor().call_to(&pinned, tensors, options.model(self.number))
    }

    /// As [`Engine::submit_divided`].
    ///
    /// # Errors
    /// As [`Engine::submit_divided`].
    pub fn submit_divided(
        &self,
        feeds: impl Into<Feeds>,
        options: SubmitOptions,
    ) -> Result<DividedTicket, RefusedFeeds> {
        let Division { pinned, tensors, parts, merge, options } = self.divide(feeds, options)?;
        let mut tickets = Vec::with_capacity(parts.len());
        for part in parts {
            match self.engine.executor().submit_to(&pinned, part, options) {
                Ok(ticket) => tickets.push(ticket),
                // Those before it are dropped, which cancels them.
                Err(refused) => return Err(refused.map(|_| tensors)),
            }
        }
        Ok(DividedTicket::new(GroupTicket::new(tickets), merge))
    }

    /// As [`Engine::submit_divided_async`].
    ///
    /// # Errors
    /// As [`Engine::submit_divided_async`].
    pub fn submit_divided_async(
        &self,
        feeds: impl Into<Feeds>,
        options: SubmitOptions,
    ) -> Result<SubmittingDivided<'a>, RefusedFeeds> {
        Ok(SubmittingDivided::new(self.engine, self.divide(feeds, options)?))
    }

    /// As [`Engine::try_submit_divided`].
    ///
    /// # Errors
    /// As [`Engine::try_submit_divided`].
    pub fn try_submit_divided(
        &self,
        feeds: impl Into<Feeds>,
        options: SubmitOptions,
    ) -> Result<DividedTicket, RefusedFeeds> {
        let Division { pinned, tensors, parts, merge, options } = self.divide(feeds, options)?;
        match self.engine.executor().submit_many_to(&pinned, parts, options) {
            Ok(tickets) => Ok(DividedTicket::new(tickets, merge)),
            Err(refused) => Err(refused.map(|_| tensors)),
        }
    }

    /// The parts, each with what is to be said about it; a deadline counts from now for all of them.
    fn divide(&self, feeds: impl Into<Feeds>, options: SubmitOptions) -> Result<Division<'a>, RefusedFeeds> {
        let options = options.from_now().model(self.number).division(self.engine.next_division());
        let (pinned, tensors) = self.bind(feeds)?;
        match divide(&pinned, &tensors, self.engine.active_replicas(), self.engine.max_rows()) {
            Ok((parts, merge)) => Ok(Division { pinned, tensors, parts, merge, options }),
            Err(error) => Err(Refused::new(tensors, Reason::Invalid(error))),
        }
    }

    /// As [`Engine::warm_up`].
    ///
    /// # Errors
    /// As [`Engine::warm_up`].
    pub fn warm_up(&self, example: impl Into<Feeds>) -> Result<()> {
        let (pinned, tensors) = self.bind(example).map_err(Error::from)?;
        let seed = |group, rows, time| self.engine.executor().seed_cost(&pinned, group, rows, time);
        pinned.warm_up(&tensors, self.engine.max_rows(), seed)
    }

    /// Serves another model from now on. Requests that were accepted before are answered by the one before, which goes
    /// when the last of them has ended; new ones are checked against the new one.
    ///
    /// # Errors
    /// What compiling says; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model that cannot be batched as the
    /// engine does; [`Overloaded`](crate::ErrorKind::Overloaded) while too many earlier ones still have requests.
    pub fn swap(&self, model: impl Into<EngineModel>) -> Result<()> {
        let runner = self.engine.runner_for(model.into())?;
        self.engine.executor().swap(self.number, runner)
    }

    /// Takes the model for healthy again that rests because it kept panicking.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where it was removed.
    pub fn reinstate(&self) -> Result<()> {
        self.engine.executor().reinstate(self.number)
    }
}
