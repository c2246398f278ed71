//! A model in stages: each on a thread of its own, with micro-batches following one another through them.
//!
//! While the first stage works on one micro-batch the second has the one before, so that every stage keeps its weights in
//! its core's cache. Where the model is cut is left to `stages`; what is a batch is left to the executor.

use crate::compile_options::CompileOptions;
use crate::error::{Error, ErrorKind, Result, bail, err};
use crate::graph::ValueId;
use crate::model::{CompiledModel, Model};
use crate::plan::{Plan, Scratch};
use crate::stages::{Cut, StageInfo, cut};
use crate::tensor::{Shape, Tensor};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Micro-batches that may wait before a stage.
const AHEAD: usize = 4;
/// Plans that a stage keeps warm.
const WARM: usize = 16;

/// The micro-batches that somebody waits for.
struct Awaited {
    answers: Mutex<(Vec<Option<Result<Vec<Tensor>>>>, usize)>,
    all: Condvar,
}

impl Awaited {
    fn answer(&self, at: usize, answer: Result<Vec<Tensor>>) {
        let mut answers = self.answers.lock();
        if let Some(place @ None) = answers.0.get_mut(at) {
            *place = Some(answer);
            answers.1 -= 1;
        }
        if answers.1 == 0 {
            self.all.notify_all();
        }
    }
}

/// A micro-batch on its way, with the values that later stages need.
struct Passing {
    values: HashMap<ValueId, Tensor>,
    at: usize,
    awaited: Arc<Awaited>,
}

impl Drop for Passing {
    /// One that is lost on its way is answered all the same.
    fn drop(&mut self) {
        self.awaited.answer(self.at, Err(err!(Internal, "a stage ended while it had work")));
    }
}

/// What one stage does.
struct Work {
    model: CompiledModel,
    takes: Vec<ValueId>,
    gives: Vec<ValueId>,
    /// Values that no later stage needs.
    done: Vec<ValueId>,
    /// The outputs of the whole model; only in the last stage.
    outputs: Option<Vec<ValueId>>,
    warm: Vec<(Vec<Shape>, Arc<Plan>, Scratch)>,
}

impl Work {
    fn run(&mut self, values: &mut HashMap<ValueId, Tensor>) -> Result<()> {
        let take = |value: &ValueId| match values.get(value) {
            Some(tensor) => Ok(tensor.clone()),
            None => bail!(Internal, "a stage before did not give what this one takes"),
        };
        let taken: Vec<Tensor> = self.takes.iter().map(take).collect::<Result<_>>()?;
        let shapes: Vec<Shape> = taken.iter().map(|tensor| tensor.shape().clone()).collect();
        let at = match self.warm.iter().position(|(warm, ..)| *warm == shapes) {
            Some(at) => at,
            None => {
                let plan = self.model.serial_plan(&shapes)?;
                if self.warm.len() >= WARM {
                    self.warm.remove(0);
                }
                let scratch = plan.scratch()?;
                self.warm.push((shapes, plan, scratch));
                self.warm.len() - 1
            }
        };
        let (_, plan, scratch) = &mut self.warm[at];
        plan.run(scratch, &taken)?;
        for (index, value) in self.gives.iter().enumerate() {
            values.insert(*value, scratch.output(index)?);
        }
        self.done.iter().for_each(|value| drop(values.remove(value)));
        Ok(())
    }

    fn serve(mut self, from: &Receiver<Passing>, next: Option<&SyncSender<Passing>>) {
        while let Ok(mut passing) = from.recv() {
            let ran = catch_unwind(AssertUnwindSafe(|| self.run(&mut passing.values))).unwrap_or_else(|panic| {
                // Nobody knows what state they are in.
                self.warm.clear();
                Err(Error::new(ErrorKind::Panicked, format!("a stage panicked: {}", message(panic.as_ref()))))
            });
            match (ran, &self.outputs, next) {
                (Err(error), ..) => passing.awaited.answer(passing.at, Err(error)),
                (Ok(()), Some(outputs), _) => {
                    let output = |value: &ValueId| {
                        let tensor = passing.values.get(value).cloned();
                        tensor.ok_or_else(|| err!(Internal, "no stage has made an output"))
                    };
                    passing.awaited.answer(passing.at, outputs.iter().map(output).collect());
                }
                (Ok(()), None, Some(next)) => drop(next.send(passing)),
                (Ok(()), None, None) => {}
            }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// A model cut into stages, each with its thread.
pub(crate) struct Pipeline {
    inputs: Vec<ValueId>,
    /// Outputs that no node makes.
    constants: HashMap<ValueId, Tensor>,
    first: Option<SyncSender<Passing>>,
    threads: Vec<JoinHandle<()>>,
    stages: Vec<StageInfo>,
    pub(crate) micro_batch: usize,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Cuts `model` into `count` stages by what they take for micro-batches of `rows` rows, and starts their threads.
    pub(crate) fn new(model: &CompiledModel, count: usize, rows: usize) -> Result<Self> {
        let Cut { places, stages } = cut(model, count, rows)?;
        let graph = model.graph();
        let parts = graph.stages(&places)?;
        let needed = |value: &ValueId, from: usize| {
            parts[from..].iter().any(|part| part.takes.contains(value)) || graph.outputs().contains(value)
        };
        let mut works = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let done = part.takes.iter().filter(|value| !needed(value, at + 1)).copied().collect();
            // It is optimized already; as it is, every node computes as it does in the whole.
            let options = CompileOptions::new().optimize(false).threads(1);
            let model = Model::from_graph(part.graph.clone())?.compile(&options)?;
            let outputs = (at + 1 == parts.len()).then(|| graph.outputs().to_vec());
            let (takes, gives) = (part.takes.clone(), part.gives.clone());
            works.push(Work { model, takes, gives, done, outputs, warm: Vec::new() });
        }
        let constant = |value: &ValueId| Some((*value, graph.constant_of(*value)?.clone()));
        let constants = graph.outputs().iter().filter_map(constant).collect();
        let mut pipeline = Pipeline {
            inputs: graph.inputs().to_vec(),
            constants,
            first: None,
            threads: Vec::new(),
            stages,
            micro_batch: rows.max(1),
        };
        // From the last to the first, as each sends to the one behind it.
        for (at, work) in works.into_iter().enumerate().rev() {
            let (sender, receiver) = sync_channel(AHEAD);
            let next = pipeline.first.replace(sender);
            let thread = std::thread::Builder::new().name(format!("onrush-stage-{at}"));
            pipeline.threads.push(thread.spawn(move || work.serve(&receiver, next.as_ref()))?);
        }
        Ok(pipeline)
    }

    pub(crate) fn stages(&self) -> &[StageInfo] {
        &self.stages
    }

    /// Sends micro-batches through and waits for their outputs. `go_on` is asked before each.
    pub(crate) fn run(
        &self,
        micro_batches: Vec<Vec<Tensor>>,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<Vec<Vec<Tensor>>> {
        let count = micro_batches.len();
        let answers = Mutex::new(((0..count).map(|_| None).collect(), count));
        let awaited = Arc::new(Awaited { answers, all: Condvar::new() });
        for (at, tensors) in micro_batches.into_iter().enumerate() {
            go_on()?;
            let mut values = self.constants.clone();
            values.extend(self.inputs.iter().copied().zip(tensors));
            let passing = Passing { values, at, awaited: awaited.clone() };
            let Some(first) = &self.first else { bail!(Internal, "a pipeline without stages") };
            if first.send(passing).is_err() {
                bail!(Internal, "the first stage has ended");
            }
        }
        let mut answers = awaited.answers.lock();
        while answers.1 > 0 {
            awaited.all.wait(&mut answers);
        }
        std::mem::take(&mut answers.0).into_iter().flatten().collect()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        drop(self.first.take());
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
