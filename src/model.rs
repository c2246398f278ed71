//! The façade over loading and compiling: a file becomes a [`Model`], a model becomes a [`CompiledModel`], and that
//! becomes a plan for every shape it is asked.

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Weights};
use crate::compile_options::CompileOptions;
use crate::error::{Result, ensure, err};
use crate::feeds::{Feeds, Outputs};
use crate::graph::{Graph, ValueId};
use crate::onnx::{self, Imported, LoadLimits, LoadOptions};
use crate::ops::control::If;
use crate::passes::{self, PassReport};
use crate::plan::{Division, Plan, RunLimits, Scratch};
use crate::summary::Summary;
use crate::tensor::mapping::Mapping;
use crate::tensor::{DType, Dim, Fact, Shape, Tensor};
use crate::threads::Threads;
use crate::tune;
use crate::tuning::Tuning;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ValueInfo {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The axes, outermost first; `None` where not even the rank is known.
    pub shape: Option<Vec<Dim>>,
    /// What an input is when the caller leaves it out.
    pub default: Option<Tensor>,
}

impl std::fmt::Display for ValueInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fact = Fact { dtype: self.dtype, shape: self.shape.clone(), value: None, content: None };
        write!(f, "{}: {fact}", self.name)
    }
}

/// A loaded model: the graph as the file has it.
///
/// ```no_run
/// use onrush::{DType, Model, Tensor};
/// let model = Model::load("mobilenet_v2.onnx")?;
/// for input in model.inputs() {
///     println!("{input}");
/// }
/// let outputs = model.run([Tensor::zeros(DType::F32, [1, 3, 224, 224])?])?;
/// println!("{:?}", outputs[0]);
/// # Ok::<(), onrush::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    imported: Imported,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    max_folded_bytes: usize,
    compiled: OnceLock<CompiledModel>,
}

impl Model {
    /// Loads an ONNX file with default limits. The file is memory-mapped: it must not be changed while the model lives.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the file cannot be read, and everything that [`from_bytes`](Model::from_bytes)
    /// answers.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Model::load_with(path, &LoadOptions::default())
    }

    /// Loads an ONNX file.
    ///
    /// # Errors
    /// As [`load`](Model::load).
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        Model::new(onnx::import_path(path, options)?, &options.limits)
    }

    /// Loads a model from its bytes, which are copied; see [`from_shared`](Model::from_shared).
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) for bytes that are no model,
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) for a model that breaks ONNX's rules,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) with every operator that is not known,
    /// [`Limit`](crate::ErrorKind::Limit) past the [limits](LoadOptions).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Model::from_shared(Bytes::copy_from_slice(bytes), &LoadOptions::default())
    }

    /// Loads a model from shared bytes without copying its weights.
    ///
    /// # Errors
    /// As [`from_bytes`](Model::from_bytes).
    pub fn from_shared(bytes: Bytes, options: &LoadOptions) -> Result<Self> {
        Model::new(onnx::import(bytes, options)?, &options.limits)
    }

    /// Loads a model from a reader, up to the limit of the options.
    ///
    /// # Errors
    /// As [`from_bytes`](Model::from_bytes), and [`Io`](crate::ErrorKind::Io).
    pub fn from_reader(reader: impl Read, options: &LoadOptions) -> Result<Self> {
        Model::new(onnx::import_reader(reader, options)?, &options.limits)
    }

    /// A model of a graph that was built here rather than read from a file.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) when the graph breaks a rule.
    pub fn from_graph(graph: Graph) -> Result<Self> {
        graph.verify()?;
        Model::new(Imported::from(graph), &LoadLimits::default())
    }

    fn new(imported: Imported, limits: &LoadLimits) -> Result<Self> {
        let graph = &imported.graph;
        let info = |id: &ValueId| {
            let value = graph.value(*id);
            ValueInfo {
                name: value.name().to_owned(),
                dtype: value.fact().dtype,
                shape: value.fact().shape.clone(),
                default: imported.overridable.iter().find(|o| o.value == *id).map(|o| o.default.clone()),
            }
        };
        let inputs = graph.inputs().iter().map(info).collect();
        let outputs = graph.outputs().iter().map(info).collect();
        let max_folded_bytes = limits.max_folded_bytes;
        Ok(Model { imported, inputs, outputs, max_folded_bytes, compiled: OnceLock::new() })
    }

    /// The inputs in order.
    #[must_use]
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// The outputs in order.
    #[must_use]
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// The graph as the file has it.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.imported.graph
    }

    /// The graph with what the file says of itself: versions, and inputs that have a default.
    #[must_use]
    pub fn imported(&self) -> &Imported {
        &self.imported
    }

    /// Answers one call, compiling for its shapes when they are new. To answer many callers at once, hand the model to
    /// an [`Engine`](crate::Engine).
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for inputs that do not fit, with the input or node as place.
    pub fn run(&self, feeds: impl Into<Feeds>) -> Result<Outputs> {
        self.compiled()?.run(feeds)
    }

    fn compiled(&self) -> Result<&CompiledModel> {
        if let Some(compiled) = self.compiled.get() {
            return Ok(compiled);
        }
        let compiled = self.compile(&CompileOptions::default())?;
        Ok(self.compiled.get_or_init(|| compiled))
    }

    /// Optimizes the graph and makes the thing that callers share.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) or [`InvalidModel`](crate::ErrorKind::InvalidModel) with the node at fault.
    pub fn compile(&self, options: &CompileOptions) -> Result<CompiledModel> {
        let settled = self.settle(options)?;
        let tuning = tuning_of(&settled)?;
        let floats = tuning.as_ref().is_some_and(|tuning| !tuning.integers) && options.integers;
        let settled = if floats { self.settle(&options.clone().integers(false))? } else { settled };
        Ok(CompiledModel::tuned(settled, tuning))
    }

    fn settle(&self, options: &CompileOptions) -> Result<Settled> {
        let mut graph = self.imported.graph.clone();
        let report = match options.optimize {
            true => passes::optimize_within(&mut graph, self.max_folded_bytes, options.integers)?,
            false => PassReport::default(),
        };
        Ok(Settled {
            graph,
            report,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            backend: Arc::new(Cpu::new()?),
            weights: Weights::new(),
            options: options.clone(),
            max_folded_bytes: self.max_folded_bytes,
            mapping: self.imported.mapping.clone(),
        })
    }

    /// Layers with their shapes, parameters and multiply-accumulates.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(&self.imported.graph)
    }
}

/// What was measured for this graph on this machine.
fn tuning_of(settled: &Settled) -> Result<Option<Tuning>> {
    match &settled.options.tuning {
        Some(path) => Tuning::find(path, &tune::key(&settled.graph, settled.options.team().count())?),
        None => Ok(None),
    }
}

/// A plan with the scratches that wait for their next run.
#[derive(Debug)]
struct Pooled {
    plan: Arc<Plan>,
    idle: Mutex<Vec<Scratch>>,
}

type Plans = RwLock<HashMap<Vec<Shape>, Arc<Pooled>>>;

/// What a compiled model is made of.
pub(crate) struct Settled {
    pub(crate) graph: Graph,
    pub(crate) report: PassReport,
    pub(crate) inputs: Vec<ValueInfo>,
    pub(crate) outputs: Vec<ValueInfo>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) weights: Weights,
    pub(crate) options: CompileOptions,
    pub(crate) max_folded_bytes: usize,
    /// The file that weights are packed from, where one is mapped for that.
    pub(crate) mapping: Mapping,
}

struct Inner {
    graph: Graph,
    report: PassReport,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    names: Arc<[String]>,
    backend: Arc<dyn Backend>,
    weights: Weights,
    threads: Threads,
    plans: Plans,
    /// Plans for runs that keep to one thread, where others may use more.
    serial_plans: Plans,
    options: CompileOptions,
    max_folded_bytes: usize,
    /// The model's file, where it is mapped.
    mapping: Mapping,
    tuning: Option<Tuning>,
}

impl Inner {
    /// The graph at these shapes, where that can decide an `If` or lay out what is behind one.
    fn settled(&self, shapes: &[Shape]) -> Result<Option<Graph>> {
        let branches = self.options.optimize && self.graph.nodes()?.any(|(_, node)| node.op().is::<If>());
        if !branches {
            return Ok(None);
        }
        let mut graph = self.graph.specialize(shapes)?;
        passes::optimize_within(&mut graph, self.max_folded_bytes, self.options.integers)?;
        Ok(Some(graph))
    }
}

/// An optimized model with its packed weights, shared by all who use it; a clone is another handle.
#[derive(Clone)]
pub struct CompiledModel(Arc<Inner>);

impl std::fmt::Debug for CompiledModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { graph, weights, plans, .. } = &*self.0;
        f.debug_struct("CompiledModel")
            .field("name", &graph.name())
            .field("nodes", &graph.node_count())
            .field("weights", weights)
            .field("plans", &plans.read().len())
            .finish_non_exhaustive()
    }
}

impl CompiledModel {
    /// Of a graph that stays as it is, whatever was measured.
    pub(crate) fn assemble(settled: Settled) -> Result<Self> {
        let tuning = tuning_of(&settled)?;
        Ok(CompiledModel::tuned(settled, tuning))
    }

    fn tuned(mut settled: Settled, tuning: Option<Tuning>) -> Self {
        if let Some(tuning) = &tuning {
            let options = &mut settled.options;
            options.winograd &= tuning.winograd;
            options.pack_rows = options.pack_rows.or(tuning.pack_rows);
        }
        CompiledModel::joined(settled, tuning)
    }

    fn joined(settled: Settled, tuning: Option<Tuning>) -> Self {
        let Settled { graph, report, inputs, outputs, backend, weights, options, max_folded_bytes, mapping } = settled;
        CompiledModel(Arc::new(Inner {
            names: outputs.iter().map(|o| o.name.clone()).collect(),
            inputs,
            outputs,
            graph,
            report,
            backend,
            weights: weights
                .with_winograd(options.winograd)
                .with_bfloat16(options.bfloat16)
                .with_pack_rows(options.pack_rows)
                .with_file(mapping.clone()),
            threads: options.team(),
            plans: RwLock::default(),
            serial_plans: RwLock::default(),
            options,
            max_folded_bytes,
            mapping,
            tuning,
        }))
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.0.weights
    }

    pub(crate) fn options(&self) -> &CompileOptions {
        &self.0.options
    }

    pub(crate) fn max_folded_bytes(&self) -> usize {
        self.0.max_folded_bytes
    }

    /// The shapes that there are plans for, in some order that is always the same; second those for one thread.
    pub(crate) fn planned_shapes(&self) -> (Vec<Vec<Shape>>, Vec<Vec<Shape>>) {
        let shapes = |plans: &Plans| {
            let mut shapes: Vec<Vec<Shape>> = plans.read().keys().cloned().collect();
            crate::order::sort_by(&mut shapes, |a, b| a.iter().map(|s| &**s).cmp(b.iter().map(|s| &**s)));
            shapes
        };
        (shapes(&self.0.plans), shapes(&self.0.serial_plans))
    }

    /// The inputs in order.
    #[must_use]
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.0.inputs
    }

    /// The outputs in order.
    #[must_use]
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.0.outputs
    }

    /// The optimized graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }

    /// What the passes did.
    #[must_use]
    pub fn report(&self) -> &PassReport {
        &self.0.report
    }

    /// The plan for inputs of these shapes, in the order of the inputs; made now unless it is kept.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for shapes that the model does not take,
    /// [`Limit`](crate::ErrorKind::Limit) when it would need more memory than the options allow.
    pub fn plan(&self, shapes: &[Shape]) -> Result<Arc<Plan>> {
        self.pooled(shapes, &self.0.threads).map(|pooled| pooled.plan.clone())
    }

    /// As [`plan`](CompiledModel::plan), for runs that keep to one thread.
    pub(crate) fn serial_plan(&self, shapes: &[Shape]) -> Result<Arc<Plan>> {
        self.pooled(shapes, &Threads::serial()).map(|pooled| pooled.plan.clone())
    }

    fn pooled(&self, shapes: &[Shape], threads: &Threads) -> Result<Arc<Pooled>> {
        let inner = &*self.0;
        let plans = if threads.count() == 1 { &inner.serial_plans } else { &inner.plans };
        if let Some(pooled) = plans.read().get(shapes) {
            return Ok(pooled.clone());
        }
        self.check_shapes(shapes)?;
        // What was measured for several threads says nothing of one.
        let tuned = inner.tuning.as_ref().and_then(|tuning| tuning.plan(shapes.iter().map(|shape| &shape[..])));
        let tuned = tuned.filter(|plan| !plan.parallel || threads.count() > 1);
        let micro_batch = tuned.and_then(|plan| plan.micro_batch);
        let threads = if tuned.is_some_and(|plan| !plan.parallel) { Threads::serial() } else { threads.clone() };
        let plan = self.made(shapes, micro_batch, threads)?;
        let pooled = Arc::new(Pooled { plan: Arc::new(plan), idle: Mutex::new(Vec::new()) });
        let mut plans = plans.write();
        if plans.len() >= inner.options.max_plans
            && let Some(victim) = plans.keys().next().cloned()
        {
            plans.remove(&victim);
        }
        Ok(plans.entry(shapes.to_vec()).or_insert(pooled).clone())
    }

    fn made(&self, shapes: &[Shape], micro_batch: Option<usize>, threads: Threads) -> Result<Plan> {
        let inner = &*self.0;
        let limits = RunLimits { bytes: inner.options.max_run_bytes, steps: inner.options.max_run_steps };
        let division = Division { threads, micro_batch: inner.options.micro_batch.or(micro_batch) };
        let settled = inner.settled(shapes)?;
        let graph = settled.as_ref().unwrap_or(&inner.graph);
        let packed = inner.weights.count();
        let plan = Plan::new(graph, shapes, inner.backend.as_ref(), &inner.weights, limits, &division)?;
        if inner.weights.count() > packed {
            // What is packed is read no more where it lies in the file.
            inner.weights.release();
        }
        Ok(plan)
    }

    /// A plan that is not kept, run in this way whatever was tuned.
    pub(crate) fn make_plan(&self, shapes: &[Shape], micro_batch: Option<usize>, parallel: bool) -> Result<Plan> {
        self.check_shapes(shapes)?;
        let threads = if parallel { self.0.threads.clone() } else { Threads::serial() };
        self.made(shapes, micro_batch, threads)
    }

    /// The same graph with other algorithms, its weights packed for them; nothing that was tuned holds for it.
    pub(crate) fn with_options(&self, options: CompileOptions) -> Self {
        let inner = &*self.0;
        CompiledModel::joined(
            Settled {
                graph: inner.graph.clone(),
                report: inner.report.clone(),
                inputs: inner.inputs.clone(),
                outputs: inner.outputs.clone(),
                backend: inner.backend.clone(),
                weights: Weights::new(),
                options,
                max_folded_bytes: inner.max_folded_bytes,
                mapping: inner.mapping.clone(),
            },
            None,
        )
    }

    pub(crate) fn threads_count(&self) -> usize {
        self.0.threads.count()
    }

    fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        let inputs = &self.0.inputs;
        ensure!(
            shapes.len() == inputs.len(),
            InvalidInput,
            "{} inputs are expected, not {}",
            inputs.len(),
            shapes.len()
        );
        for (info, shape) in inputs.iter().zip(shapes) {
            let Some(dims) = &info.shape else { continue };
            let fits = dims.len() == shape.rank()
                && dims.iter().zip(shape.iter()).all(|(dim, d)| dim.known().is_none_or(|n| n == *d));
            ensure!(fits, InvalidInput, "input {info} does not take the shape {shape}");
        }
        Ok(())
    }

    /// The shapes of the outputs for inputs of these shapes; `None` for one that depends on data.
    ///
    /// # Errors
    /// As [`plan`](CompiledModel::plan).
    pub fn output_shapes(&self, shapes: &[Shape]) -> Result<Vec<Option<Shape>>> {
        self.check_shapes(shapes)?;
        let graph = self.0.graph.specialize(shapes)?;
        Ok(graph.outputs().iter().map(|id| graph.fact(*id).concrete_shape()).collect())
    }

    /// The axis of the rows of each output, where the rows of a batch are proven to keep apart; see
    /// [`plan::output_axes`](crate::plan::output_axes).
    pub(crate) fn output_axes(
        &self,
        axes: &[Option<usize>],
        shapes: impl Fn(usize) -> Vec<Shape>,
    ) -> Result<Vec<usize>> {
        crate::plan::output_axes(&self.0.graph, axes, shapes)
    }

    /// Checks tensors, in the order of the inputs, against what the model declares.
    pub(crate) fn check_tensors(&self, tensors: &[Tensor]) -> Result<()> {
        let inputs = &self.0.inputs;
        ensure!(
            tensors.len() == inputs.len(),
            InvalidInput,
            "{} inputs are expected, not {}",
            inputs.len(),
            tensors.len()
        );
        for (info, tensor) in inputs.iter().zip(tensors) {
            let shape = tensor.shape();
            let fits = info.shape.as_ref().is_none_or(|dims| {
                dims.len() == shape.rank()
                    && dims.iter().zip(shape.iter()).all(|(dim, d)| dim.known().is_none_or(|n| n == *d))
            });
            ensure!(
                fits && tensor.dtype() == info.dtype,
                InvalidInput,
                "input {info} does not take {}{shape}",
                tensor.dtype()
            );
        }
        Ok(())
    }

    /// Orders, completes and checks the inputs of one call.
    pub(crate) fn bind(&self, feeds: &Feeds) -> Result<Vec<Tensor>> {
        let inputs = &self.0.inputs;
        let names: smallvec::SmallVec<[&str; 8]> = inputs.iter().map(|i| i.name.as_str()).collect();
        let defaults: smallvec::SmallVec<[Option<&Tensor>; 8]> = inputs.iter().map(|i| i.default.as_ref()).collect();
        let tensors = feeds.ordered(&names, &defaults)?;
        self.check_dtypes(&tensors)?;
        Ok(tensors)
    }

    /// As [`bind`](CompiledModel::bind), without a copy where nothing is to be ordered; inputs that do not fit come back.
    pub(crate) fn bind_owned(&self, feeds: Feeds) -> Result<Vec<Tensor>, (Feeds, crate::Error)> {
        if !feeds.are_in_order(self.0.inputs.len()) {
            return self.bind(&feeds).map_err(|error| (feeds, error));
        }
        let tensors = feeds.into_tensors();
        match self.check_dtypes(&tensors) {
            Ok(()) => Ok(tensors),
            Err(error) => Err((tensors.into(), error)),
        }
    }

    fn check_dtypes(&self, tensors: &[Tensor]) -> Result<()> {
        for (info, tensor) in self.0.inputs.iter().zip(tensors) {
            ensure!(
                tensor.dtype() == info.dtype,
                InvalidInput,
                "input {:?} is {}, not {}",
                info.name,
                info.dtype,
                tensor.dtype()
            );
        }
        Ok(())
    }

    /// Answers one call, with the help of the threads that the model was compiled for where that pays.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for inputs that do not fit, with the input or node as place.
    pub fn run(&self, feeds: impl Into<Feeds>) -> Result<Outputs> {
        let tensors = self.bind(&feeds.into())?;
        let shapes: Vec<Shape> = tensors.iter().map(|t| t.shape().clone()).collect();
        let pooled = self.pooled(&shapes, &self.0.threads)?;
        let idle = pooled.idle.lock().pop();
        let mut scratch = idle.map_or_else(|| pooled.plan.scratch(), Ok)?;
        pooled.plan.run(&mut scratch, &tensors)?;
        let outputs: Result<Vec<Tensor>> = (0..self.0.outputs.len()).map(|i| scratch.output(i)).collect();
        pooled.idle.lock().push(scratch);
        Ok(Outputs::new(self.0.names.clone(), outputs?))
    }

    /// Wraps tensors in the order of the outputs.
    pub(crate) fn name_outputs(&self, tensors: Vec<Tensor>) -> Outputs {
        Outputs::new(self.0.names.clone(), tensors)
    }

    /// Concrete shapes of the inputs: the declared ones, with `lengths` for the symbols.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when an axis has neither a length nor an entry.
    pub fn shapes_for(&self, lengths: &[(&str, usize)]) -> Result<Vec<Shape>> {
        let length = |dim: &Dim| match dim {
            Dim::Known(n) => Some(*n),
            Dim::Symbol(symbol) => lengths.iter().find(|(name, _)| *name == symbol.name()).map(|(_, n)| *n),
            Dim::Unknown => None,
        };
        let shape = |info: &ValueInfo| {
            let dims = info.shape.as_ref()?;
            dims.iter().map(length).collect::<Option<Shape>>()
        };
        let shapes = self.0.inputs.iter().map(|info| {
            shape(info).ok_or_else(|| err!(InvalidInput, "input {info} has axes whose lengths were not given"))
        });
        shapes.collect()
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Model>();
    shared::<CompiledModel>();
};
