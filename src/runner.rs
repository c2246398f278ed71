//! What the executor runs: requests of tensors, stacked, run by the plan for their rows, and scattered.

use crate::backend::Checkpoint;
use crate::divided::{join, split};
use crate::error::{Result, ensure, err};
use crate::exec::{Batch, BatchRunner, Flow, Load};
use crate::feeds::Outputs;
use crate::model::CompiledModel;
use crate::padding::{PadAxis, Padded};
use crate::pipeline::Pipeline;
use crate::plan::{Plan, Scratch};
use crate::stacking::{BatchAxes, check_apart, output_axes, promised_axes, stack, unstack, with_length};
use crate::tensor::{Buffer, Shape, Tensor};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Plans that one worker keeps warm, each with its scratch: more than there are batch sizes, in most engines.
const WARM: usize = 160;
/// Beyond this many it keeps no more than this many bytes.
const ALWAYS_WARM: usize = 8;
const WARM_BYTES: usize = 256 << 20;
/// Outputs of a batch that have no more bytes than this together lie in one buffer, which the answers share: an allocation for
/// each, made by the worker and given back by the caller, would cost both more than the few bytes that a kept answer holds.
const TOGETHER: usize = 32 << 10;
/// Shapes for which the axes of the outputs are remembered.
const KNOWN_AXES: usize = 1024;

/// A model as the executor sees it.
#[derive(Debug)]
pub struct ModelRunner {
    model: CompiledModel,
    axes: Option<BatchAxes>,
    /// Runs may use the threads of the model: there is one worker.
    alone: bool,
    /// An axis along which requests may be padded.
    pad: Option<PadAxis>,
    /// Where the model runs in stages.
    pipeline: Option<Pipeline>,
    /// The rows keep apart by the word of the host.
    promised: bool,
    /// The batch axis of each output, by the shapes of the inputs at one row; `None` where rows might mix.
    output_axes: RwLock<HashMap<Vec<Shape>, Option<Arc<[usize]>>>>,
}

/// What one worker keeps from batch to batch.
#[derive(Debug, Default)]
pub struct RunnerScratch {
    warm: Vec<Warm>,
    runs: u64,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
}

#[derive(Debug)]
struct Warm {
    /// What the shapes are mixed into, so that most others are passed over at a glance.
    key: u64,
    shapes: Vec<Shape>,
    plan: Arc<Plan>,
    scratch: Scratch,
    /// When it was last used, in runs of this worker.
    used: u64,
}

fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn key_of(shapes: &[Shape]) -> u64 {
    shapes.iter().fold(0, |key, shape| shape.iter().fold(mix(key, shape.rank() as u64), |key, &d| mix(key, d as u64)))
}

impl RunnerScratch {
    /// The plan for these shapes with its scratch; those that waited longest make room for a new one.
    fn warm(&mut self, runner: &ModelRunner, shapes: &[Shape]) -> Result<&mut Warm> {
        self.runs += 1;
        let (key, used) = (key_of(shapes), self.runs);
        let found = self.warm.iter().position(|warm| warm.key == key && warm.shapes == shapes);
        let index = match found {
            Some(index) => index,
            None => {
                let plan = if runner.alone { runner.model.plan(shapes)? } else { runner.model.serial_plan(shapes)? };
                self.make_room(plan.scratch_bytes());
                let scratch = plan.scratch()?;
                self.warm.push(Warm { key, shapes: shapes.to_vec(), scratch, plan, used });
                self.warm.len() - 1
            }
        };
        let warm = self.warm.get_mut(index).ok_or_else(|| err!(Internal, "no plan is kept"))?;
        warm.used = used;
        Ok(warm)
    }

    fn make_room(&mut self, bytes: usize) {
        let held = |warm: &[Warm]| warm.iter().fold(bytes, |sum, warm| sum.saturating_add(warm.plan.scratch_bytes()));
        while self.warm.len() >= WARM || (self.warm.len() >= ALWAYS_WARM && held(&self.warm) > WARM_BYTES) {
            let oldest = self.warm.iter().enumerate().min_by_key(|(_, warm)| warm.used);
            let Some((oldest, _)) = oldest else { return };
            self.warm.swap_remove(oldest);
        }
    }
}

impl ModelRunner {
    /// A runner for batches of so many rows, which are proven to keep apart, or `promised` to.
    pub(crate) fn new(model: CompiledModel, max_batch_size: u32, promised: bool) -> Result<Self> {
        let axes = BatchAxes::of(model.inputs());
        let stackable = axes.as_ref().is_some_and(BatchAxes::all);
        ensure!(
            max_batch_size <= 1 || stackable,
            InvalidInput,
            "max_batch_size is {max_batch_size}, but not every input has a symbolic axis to stack along; set it to 1, or \
             export the model with a dynamic batch"
        );
        if let Some(axes) = axes.as_ref().filter(|_| max_batch_size > 1 && !promised) {
            check_apart(&model, axes).map_err(|error| {
                err!(
                    InvalidInput,
                    "max_batch_size is {max_batch_size}, but {}; set it to 1, or promise by independent_rows that rows \
                     keep apart",
                    error.message()
                )
            })?;
        }
        let output_axes = RwLock::new(HashMap::new());
        Ok(ModelRunner { model, axes, alone: false, pad: None, pipeline: None, promised, output_axes })
    }

    /// Whether runs may use the threads of the model, because no other worker needs the cores.
    pub(crate) fn alone(self, alone: bool) -> Self {
        ModelRunner { alone, ..self }
    }

    /// Lets requests be padded along the axis of this name, if the model has it.
    pub(crate) fn padded(mut self, axis: Option<&str>) -> Result<Self> {
        self.pad = axis.and_then(|axis| PadAxis::of(self.model.inputs(), axis));
        if let (Some(pad), Some(axes), Some(name)) = (&self.pad, &self.axes, axis) {
            let both = (0..self.model.inputs().len()).any(|index| {
                let padded = pad.in_input(index);
                padded.is_some() && padded == axes.inputs.get(index).copied().flatten()
            });
            ensure!(!both, InvalidInput, "axis {name:?} is that of the rows; it is stacked, not padded");
        }
        Ok(self)
    }

    /// Whether there is an axis that may be padded.
    pub(crate) fn pads(&self) -> bool {
        self.pad.is_some()
    }

    /// The requests of a batch at one length, where they have several.
    fn pad(&self, axes: &BatchAxes, batch: &Batch<'_, Vec<Tensor>, Outputs>) -> Result<Option<Padded>> {
        let Some(pad) = &self.pad else { return Ok(None) };
        let shapes: Vec<Shape> = batch.request(0).iter().map(|t| t.shape().clone()).collect();
        pad.pad(&self.model, &axes.with_rows(&shapes, 1), batch.requests())
    }

    /// Runs the model in `count` stages, `rows` rows at a time.
    pub(crate) fn in_stages(mut self, count: usize, rows: usize) -> Result<Self> {
        self.pipeline = Some(Pipeline::new(&self.model, count, rows)?);
        Ok(self)
    }

    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        self.pipeline.as_ref()
    }

    pub(crate) fn model(&self) -> &CompiledModel {
        &self.model
    }

    pub(crate) fn axes(&self) -> Option<&BatchAxes> {
        self.axes.as_ref()
    }

    /// The batch axis of each output for requests of these shapes; `None` where their rows might mix.
    pub(crate) fn output_axes(&self, axes: &BatchAxes, shapes: &[Shape]) -> Result<Option<Arc<[usize]>>> {
        let key = axes.with_rows(shapes, 1);
        if let Some(found) = self.output_axes.read().get(&key) {
            return Ok(found.clone());
        }
        let found: Option<Arc<[usize]>> = if self.promised {
            Some(promised_axes(&self.model, axes, shapes)?.into())
        } else {
            output_axes(&self.model, axes, shapes).ok().map(Arc::from)
        };
        let mut known = self.output_axes.write();
        if known.len() >= KNOWN_AXES {
            known.clear();
        }
        known.insert(key, found.clone());
        drop(known);
        Ok(found)
    }

    /// Runs an example of one row or more at 1, 2, 4 and so on up to `max_rows` rows, and tells the time of each.
    pub(crate) fn warm_up(&self, example: &[Tensor], max_rows: usize, tell: impl Fn(u64, u32, Duration)) -> Result<()> {
        let load = self.admit(&example.to_vec())?;
        let mut scratch = RunnerScratch::default();
        let mut time = |tensors: &[Tensor], rows: usize| -> Result<()> {
            self.run_quietly(&mut scratch, tensors, rows)?;
            let mut least = Duration::MAX;
            for _ in 0..3 {
                let start = Instant::now();
                self.run_quietly(&mut scratch, tensors, rows)?;
                least = least.min(start.elapsed());
            }
            tell(load.group, rows as u32, least);
            Ok(())
        };
        let Some(axes) = self.axes.as_ref().filter(|axes| axes.all()) else {
            return time(example, load.rows as usize);
        };
        let own = load.rows as usize;
        let Some(row) = split(example, axes, own, own)?.into_iter().next() else { return Ok(()) };
        let input_axes: Vec<usize> = axes.inputs.iter().map(|axis| axis.unwrap_or(0)).collect();
        let powers =
            std::iter::successors(Some(1_usize), |rows| rows.checked_mul(2)).take_while(|&rows| rows < max_rows);
        for rows in powers.chain([max_rows]) {
            time(&join(&vec![row.clone(); rows], &input_axes, rows)?, rows)?;
        }
        Ok(())
    }

    fn run_quietly(&self, scratch: &mut RunnerScratch, tensors: &[Tensor], rows: usize) -> Result<()> {
        match &self.pipeline {
            Some(pipeline) => self.run_staged(pipeline, tensors.to_vec(), rows, || Ok(())).map(drop),
            None => self.run_lone(scratch, tensors, Checkpoint(&|| Ok(()))).map(drop),
        }
    }

    fn run_lone(&self, scratch: &mut RunnerScratch, tensors: &[Tensor], checkpoint: Checkpoint<'_>) -> Result<Outputs> {
        let shapes: Vec<Shape> = tensors.iter().map(|t| t.shape().clone()).collect();
        let warm = scratch.warm(self, &shapes)?;
        warm.plan.run_asking(&mut warm.scratch, tensors, checkpoint)?;
        let outputs = (0..self.model.outputs().len()).map(|i| warm.scratch.output(i)).collect::<Result<_>>()?;
        Ok(self.model.name_outputs(outputs))
    }

    /// Runs tensors of `rows` rows through the stages, in micro-batches.
    fn run_staged(
        &self,
        pipeline: &Pipeline,
        tensors: Vec<Tensor>,
        rows: usize,
        ask: impl Fn() -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let count = rows.div_ceil(pipeline.micro_batch);
        let Some(axes) = self.axes.as_ref().filter(|axes| count > 1 && axes.all()) else {
            let outputs = pipeline.run(vec![tensors], ask)?.into_iter().next();
            return outputs.ok_or_else(|| err!(Internal, "the stages answered nothing"));
        };
        let shapes: Vec<Shape> = tensors.iter().map(|t| t.shape().clone()).collect();
        let parts = match self.output_axes(axes, &shapes)? {
            Some(output_axes) => {
                let parts = pipeline.run(split(&tensors, axes, rows, count)?, ask)?;
                return join(&parts, &output_axes, rows);
            }
            None => pipeline.run(vec![tensors], ask)?,
        };
        parts.into_iter().next().ok_or_else(|| err!(Internal, "the stages answered nothing"))
    }

    /// As [`run_stacked`](Self::run_stacked), through the stages.
    fn run_stacked_staged(
        &self,
        pipeline: &Pipeline,
        axes: &BatchAxes,
        output_axes: &[usize],
        padded: Option<Padded>,
        batch: &mut Batch<'_, Vec<Tensor>, Outputs>,
    ) -> Result<()> {
        let infos = self.model.inputs();
        let rows: Vec<usize> = batch.requests().map(|r| axes.rows(infos, r)).collect::<Result<_>>()?;
        let total: usize = rows.iter().sum();
        let parts: Vec<Vec<Tensor>> = (0..batch.len()).map(|at| rider(batch, &padded, at).clone()).collect();
        let input_axes: Vec<usize> = axes.inputs.iter().map(|axis| axis.unwrap_or(0)).collect();
        let stacked = join(&parts, &input_axes, total)?;
        batch.mark_stacked();
        let outputs = self.run_staged(pipeline, stacked, total, || go_on(batch))?;
        batch.mark_computed();
        let mut first = 0;
        for (request, &rows) in rows.iter().enumerate() {
            let part = |(index, (output, &axis)): (usize, (&Tensor, &usize))| -> Result<Tensor> {
                let (shape, size) = (output.shape(), output.dtype().size());
                let mut part = Tensor::zeros(output.dtype(), with_length(shape, axis, rows))?;
                let bytes = part.as_bytes_mut().unwrap_or_default();
                unstack(bytes, output.as_bytes(), shape, size, axis, first, rows);
                match &padded {
                    Some(padded) => padded.cut(request, index, part),
                    None => Ok(part),
                }
            };
            let parts: Result<Vec<Tensor>> = outputs.iter().zip(output_axes).enumerate().map(part).collect();
            batch.answer(request, parts.map(|parts| self.model.name_outputs(parts)));
            first += rows;
        }
        Ok(())
    }

    fn run_stacked(
        &self,
        scratch: &mut RunnerScratch,
        axes: &BatchAxes,
        output_axes: &[usize],
        shapes: &[Shape],
        padded: Option<Padded>,
        batch: &mut Batch<'_, Vec<Tensor>, Outputs>,
    ) -> Result<()> {
        let infos = self.model.inputs();
        let rows: Vec<usize> = batch.requests().map(|r| axes.rows(infos, r)).collect::<Result<_>>()?;
        let total: usize = rows.iter().sum();
        let stacked = axes.with_rows(shapes, total);
        let mut inputs = std::mem::take(&mut scratch.inputs);
        inputs.resize_with(stacked.len(), || Buffer::zeroed(0));
        for (index, (shape, buffer)) in stacked.iter().zip(&mut inputs).enumerate() {
            let bytes = shape.checked_len()?.saturating_mul(infos[index].dtype.size());
            let target = sized(buffer, bytes)?;
            let mut first = 0;
            for (request, rows) in rows.iter().enumerate() {
                let axis = axes.inputs[index].unwrap_or(0);
                stack(target, total, first, axis, &rider(batch, &padded, request)[index]);
                first += rows;
            }
        }
        batch.mark_stacked();
        let mut outputs = std::mem::take(&mut scratch.outputs);
        let warm = scratch.warm(self, &stacked)?;
        let result = run_into(warm, &stacked, &inputs, &mut outputs, Checkpoint(&|| go_on(batch)));
        batch.mark_computed();
        if result.is_ok() {
            self.scatter(batch, &warm.plan, &rows, output_axes, &outputs, padded.as_ref());
        }
        scratch.inputs = inputs;
        scratch.outputs = outputs;
        result
    }

    fn scatter(
        &self,
        batch: &mut Batch<'_, Vec<Tensor>, Outputs>,
        plan: &Plan,
        rows: &[usize],
        axes: &[usize],
        outputs: &[Buffer],
        padded: Option<&Padded>,
    ) {
        let together = |(index, port): (usize, &crate::plan::Port)| -> Option<Tensor> {
            let whole = port.shape.clone().filter(|_| axes[index] == 0 && port.bytes() <= TOGETHER)?;
            let mut tensor = Tensor::zeros(port.dtype, whole).ok()?;
            tensor.as_bytes_mut()?.copy_from_slice(outputs[index].as_slice().get(..port.bytes())?);
            Some(tensor)
        };
        let together: Vec<Option<Tensor>> = plan.outputs().iter().enumerate().map(together).collect();
        let apart = |index: usize, port: &crate::plan::Port, first: usize, rows: usize| -> Result<Tensor> {
            let whole = port.shape.clone().ok_or_else(|| err!(Internal, "an output without a shape"))?;
            let axis = axes[index];
            let mut part = Tensor::zeros(port.dtype, with_length(&whole, axis, rows))?;
            let bytes = part.as_bytes_mut().unwrap_or_default();
            let size = port.dtype.size();
            let stacked = &outputs[index].as_slice()[..whole.elements() * size];
            unstack(bytes, stacked, &whole, size, axis, first, rows);
            Ok(part)
        };
        let mut first = 0;
        for (request, &rows) in rows.iter().enumerate() {
            let part = |(index, port): (usize, &crate::plan::Port)| -> Result<Tensor> {
                let part = match &together[index] {
                    Some(tensor) => tensor.rows(first..first + rows)?,
                    None => apart(index, port, first, rows)?,
                };
                match padded {
                    Some(padded) => padded.cut(request, index, part),
                    None => Ok(part),
                }
            };
            let parts: Result<Vec<Tensor>> = plan.outputs().iter().enumerate().map(part).collect();
            batch.answer(request, parts.map(|parts| self.model.name_outputs(parts)));
            first += rows;
        }
    }
}

/// What rides for the request at a position: the request itself, or a longer one.
fn rider<'a>(batch: &'a Batch<'_, Vec<Tensor>, Outputs>, padded: &'a Option<Padded>, at: usize) -> &'a Vec<Tensor> {
    padded.as_ref().and_then(|padded| padded.request(at)).unwrap_or_else(|| batch.request(at))
}

/// The first `bytes` of a buffer, which grows where it is too small.
fn sized(buffer: &mut Buffer, bytes: usize) -> Result<&mut [u8]> {
    if buffer.as_slice().len() < bytes {
        *buffer = Buffer::try_zeroed(bytes)?;
    }
    let whole = buffer.as_mut_slice().ok_or_else(|| err!(Internal, "a staging buffer is shared"))?;
    Ok(&mut whole[..bytes])
}

/// Whether somebody still waits for an answer of the batch; more urgent batches may run meanwhile.
fn go_on(batch: &Batch<'_, Vec<Tensor>, Outputs>) -> Result<()> {
    match batch.checkpoint() {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(err!(Cancelled, "nobody waits for the answer any more")),
    }
}

fn run_into(
    warm: &mut Warm,
    shapes: &[Shape],
    inputs: &[Buffer],
    outputs: &mut Vec<Buffer>,
    checkpoint: Checkpoint<'_>,
) -> Result<()> {
    let ports = warm.plan.outputs();
    outputs.resize_with(ports.len(), || Buffer::zeroed(0));
    let sources: Vec<&[u8]> = shapes
        .iter()
        .zip(warm.plan.inputs())
        .zip(inputs)
        .map(|((shape, port), buffer)| &buffer.as_slice()[..shape.elements() * port.dtype.size()])
        .collect();
    let mut targets: Vec<&mut [u8]> =
        outputs.iter_mut().zip(ports).map(|(buffer, port)| sized(buffer, port.bytes())).collect::<Result<_>>()?;
    warm.plan.run_bytes(&mut warm.scratch, &sources, &mut targets, checkpoint)
}

impl BatchRunner for ModelRunner {
    type Request = Vec<Tensor>;
    type Response = Outputs;
    type Scratch = RunnerScratch;

    fn scratch(&self) -> RunnerScratch {
        RunnerScratch::default()
    }

    fn admit(&self, request: &Vec<Tensor>) -> Result<Load> {
        self.model.check_tensors(request)?;
        let rows = match &self.axes {
            Some(axes) => axes.rows(self.model.inputs(), request)?,
            None => 1,
        };
        let mut group = 0;
        for (index, tensor) in request.iter().enumerate() {
            let axis = self.axes.as_ref().and_then(|axes| axes.inputs[index]);
            let padded = self.pad.as_ref().and_then(|pad| pad.in_input(index));
            group = mix(group, tensor.rank() as u64);
            for (position, &length) in tensor.shape().iter().enumerate() {
                // The rows make no difference, nor does a length that is padded; where they lie does.
                group = match position {
                    _ if Some(position) == axis => mix(group, u64::MAX),
                    _ if Some(position) == padded => mix(group, u64::MAX - 1),
                    _ => mix(group, length as u64),
                };
            }
        }
        let bytes = request.iter().map(|t| t.as_bytes().len()).sum();
        let width = match &self.pad {
            Some(pad) => u32::try_from(pad.length(self.model.inputs(), request)?).unwrap_or(u32::MAX),
            None => 0,
        };
        Ok(Load { rows: u32::try_from(rows).unwrap_or(u32::MAX), bytes, group, width })
    }

    fn run(&self, scratch: &mut RunnerScratch, batch: &mut Batch<'_, Vec<Tensor>, Outputs>) -> Result<()> {
        let alike =
            |axes: &BatchAxes| batch.requests().all(|request| axes.alike(batch.request(0), request, self.pad.as_ref()));
        if let Some(axes) = self.axes.as_ref().filter(|axes| batch.len() > 1 && alike(axes)) {
            let padded = self.pad(axes, batch)?;
            let shapes: Vec<Shape> = rider(batch, &padded, 0).iter().map(|t| t.shape().clone()).collect();
            if let Some(outputs) = self.output_axes(axes, &shapes)? {
                return match &self.pipeline {
                    Some(pipeline) => self.run_stacked_staged(pipeline, axes, &outputs, padded, batch),
                    None => self.run_stacked(scratch, axes, &outputs, &shapes, padded, batch),
                };
            }
        }
        // One request, or requests whose shapes only hash alike, or whose rows might mix.
        for at in 0..batch.len() {
            let request = batch.request(at);
            let answer = match &self.pipeline {
                Some(pipeline) => {
                    let rows = self.axes.as_ref().map_or(Ok(1), |axes| axes.rows(self.model.inputs(), request));
                    let outputs = self.run_staged(pipeline, request.clone(), rows?, || go_on(batch))?;
                    self.model.name_outputs(outputs)
                }
                None => self.run_lone(scratch, request, Checkpoint(&|| go_on(batch)))?,
            };
            batch.answer(at, Ok(answer));
        }
        Ok(())
    }
}
