//! A batch run as micro-batches: one executable for so many rows, run again and again on slices of the inputs.
//!
//! The slices are along first axes, so nothing is copied. Whoever is free takes the next micro-batch; nobody waits for
//! another before the end.

use super::micro;
use crate::backend::{Buffers, Executable, Ports, Profile, State};
use crate::error::{Error, Result, ensure};
use crate::ops::Budget;
use crate::threads::{MOST_PARTS, Threads};
use parking_lot::Mutex;
use std::sync::Arc;

/// An executable for micro-batches of so many rows.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) rows: usize,
    pub(super) executable: Arc<dyn Executable>,
}

/// `larges` micro-batches of one size, and `smalls` of one row less.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) large: Part,
    pub(super) small: Option<Part>,
    pub(super) larges: usize,
    pub(super) smalls: usize,
    /// Bytes of a row of each input; `None` for one that all rows share.
    pub(super) inputs: Vec<Option<usize>>,
    /// Bytes of a row of each output.
    pub(super) outputs: Vec<usize>,
    /// How threads help, where they may.
    pub(super) sharing: Sharing,
}

/// What one thread changes while it runs micro-batches.
pub(super) struct Worker {
    large: State,
    small: Option<State>,
}

/// The workers of a scratch, each made when its thread first takes part.
pub(super) type Workers = Vec<Mutex<Option<Worker>>>;

/// A batch is divided over threads where one of them would take longer than this, in nanoseconds: one that has slept
/// takes a good part of it to wake.
const WORTH: f64 = 150_000.0;

/// How threads help with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Not at all.
    Alone,
    /// Each takes micro-batches of its own.
    Rows,
    /// Every micro-batch is divided inside its operators, as the rows would leave some thread idle.
    Inside,
}

impl Sharing {
    /// The sharing of `rows` rows that take one thread so many nanoseconds.
    pub(super) fn of(rows: usize, nanoseconds: f64, threads: &Threads) -> Self {
        match threads.are_worth(nanoseconds, WORTH) {
            false => Sharing::Alone,
            true if micro::shares_evenly(rows, threads.count()) => Sharing::Rows,
            true => Sharing::Inside,
        }
    }
}

/// What is left of the batch.
struct Rest<'a, 'b> {
    next: usize,
    first: usize,
    inputs: &'a [&'b [u8]],
    outputs: Ports<&'a mut [u8]>,
}

/// The micro-batch that is run next.
struct Next<'a> {
    is_large: bool,
    inputs: Ports<&'a [u8]>,
    outputs: Ports<&'a mut [u8]>,
}

impl Split {
    fn worker(&self) -> Result<Worker> {
        let small = self.small.as_ref().map(|part| part.executable.scratch());
        Ok(Worker { large: self.large.executable.scratch()?, small: small.transpose()? })
    }

    /// Workers for as many threads as can take part; the first is ready.
    pub(super) fn workers(&self) -> Result<Workers> {
        let most = (self.larges + self.smalls).min(MOST_PARTS);
        let first = Some(self.worker()?);
        Ok(std::iter::once(first).chain(std::iter::repeat_with(|| None)).take(most.max(1)).map(Mutex::new).collect())
    }

    /// The worker of a thread, made when it first takes part.
    fn ready<'w>(&self, worker: &'w mut Option<Worker>) -> Result<&'w mut Worker> {
        match worker {
            Some(worker) => Ok(worker),
            empty => Ok(empty.insert(self.worker()?)),
        }
    }

    /// Bytes of one worker.
    pub(super) fn scratch_bytes(&self) -> usize {
        let small = self.small.as_ref().map_or(0, |part| part.executable.scratch_bytes());
        self.large.executable.scratch_bytes().saturating_add(small)
    }

    /// Runs the batch, on this thread alone or with others where that pays.
    pub(super) fn run(
        &self,
        workers: &Workers,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        threads: Option<&Threads>,
    ) -> Result<()> {
        let Buffers { inputs, outputs, checkpoint, .. } = buffers;
        let outputs: Ports<&mut [u8]> = outputs.iter_mut().map(|o| &mut **o).collect();
        let fits = inputs.len() == self.inputs.len() && outputs.len() == self.outputs.len();
        ensure!(fits, InvalidInput, "the buffers are not those of the plan");
        let rest = Mutex::new(Rest { next: 0, first: 0, inputs, outputs });
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let inside = threads.filter(|_| self.sharing == Sharing::Inside);
        let work = |_: usize, part: usize| {
            let Some(worker) = workers.get(part) else { return };
            // What it may do meanwhile is the business of the thread that asked for the run.
            let checkpoint = checkpoint.filter(|_| part == 0);
            let mut worker = worker.lock();
            // Where there is no memory for one more worker, the others do its share: the first is always ready.
            let Ok(worker) = self.ready(&mut worker) else { return };
            while let Some(mut next) = self.take(&rest) {
                let (executable, state) = match (&self.small, &mut worker.small) {
                    (Some(small), Some(state)) if !next.is_large => (&small.executable, state),
                    _ => (&self.large.executable, &mut worker.large),
                };
                let buffers = Buffers { inputs: &next.inputs, outputs: &mut next.outputs, checkpoint, threads: inside };
                if let Err(error) = executable.run(state, buffers, budget) {
                    rest.lock().next = usize::MAX;
                    failed.lock().get_or_insert(error);
                }
            }
        };
        match threads.filter(|_| self.sharing == Sharing::Rows) {
            Some(threads) => threads.team(workers.len(), &work, |team| team.region(0, team.members()))?,
            None => work(0, 0),
        }
        failed.into_inner().map_or(Ok(()), Err)
    }

    fn take<'a>(&self, rest: &Mutex<Rest<'a, '_>>) -> Option<Next<'a>> {
        let mut rest = rest.lock();
        if rest.next >= self.larges + self.smalls {
            return None;
        }
        let is_large = rest.next < self.larges;
        let rows = self.large.rows - usize::from(!is_large);
        let first = rest.first;
        rest.next += 1;
        rest.first += rows;
        let slice = |(whole, row): (&&'a [u8], &Option<usize>)| match row {
            Some(row) => &whole[first * row..(first + rows) * row],
            None => whole,
        };
        let inputs = rest.inputs.iter().zip(&self.inputs).map(slice).collect();
        let outputs = rest.outputs.iter_mut().zip(&self.outputs);
        let outputs = outputs.map(|(output, row)| {
            let (head, tail) = std::mem::take(output).split_at_mut(rows * row);
            *output = tail;
            head
        });
        Some(Next { is_large, inputs, outputs: outputs.collect() })
    }

    /// As [`run`](Split::run) on this thread, adding the time of each step to `profile`; micro-batches of one row less
    /// go unmeasured where their steps are others.
    pub(super) fn run_profiled(
        &self,
        workers: &Workers,
        buffers: Buffers<'_, '_>,
        budget: &Budget,
        profile: &mut Profile,
    ) -> Result<()> {
        let Buffers { inputs, outputs, checkpoint, .. } = buffers;
        let outputs: Ports<&mut [u8]> = outputs.iter_mut().map(|o| &mut **o).collect();
        let fits = inputs.len() == self.inputs.len() && outputs.len() == self.outputs.len();
        ensure!(fits, InvalidInput, "the buffers are not those of the plan");
        let rest = Mutex::new(Rest { next: 0, first: 0, inputs, outputs });
        let Some(worker) = workers.first() else { return Ok(()) };
        let mut worker = worker.lock();
        let worker = self.ready(&mut worker)?;
        let runs = profile.runs;
        while let Some(mut next) = self.take(&rest) {
            let buffers = Buffers { inputs: &next.inputs, outputs: &mut next.outputs, checkpoint, threads: None };
            match (&self.small, &mut worker.small) {
                (Some(small), Some(state)) if !next.is_large => small.executable.run(state, buffers, budget)?,
                _ => self.large.executable.run_profiled(&mut worker.large, buffers, budget, profile)?,
            }
        }
        profile.runs = runs + 1;
        Ok(())
    }
}
