//! The façade over tuning: measures a compiled model on this machine, where several ways to run it compete.
//!
//! The analytic choices of the planner stay where nothing measured is clearly better, since a wrong choice lasts longer
//! than a noisy measurement.

use crate::compile_options::CompileOptions;
use crate::error::{Result, ensure};
use crate::feeds::Feeds;
use crate::kernels::arch::Isa;
use crate::model::{CompiledModel, Model};
use crate::plan::Plan;
use crate::tensor::{Shape, Tensor};
use crate::tuning::{TunedPlan, Tuning, TuningKey};
use std::time::{Duration, Instant};

/// By how much another way must be faster than the analytic choice.
const CLEARLY: f64 = 0.97;

/// Turns in which the choice and the analytic one are compared at last.
const TURNS: u32 = 4;

/// How far tuning has come.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TuneProgress {
    /// Ways that were measured.
    pub done: usize,
    /// Ways that will be.
    pub total: usize,
    /// What was measured last.
    pub measured: String,
    /// Milliseconds of a run so.
    pub ms: f64,
}

/// How long to tune, and whom to tell.
pub struct TuneOptions {
    budget: Duration,
    progress: Box<dyn FnMut(&TuneProgress)>,
}

impl Default for TuneOptions {
    fn default() -> Self {
        TuneOptions { budget: Duration::from_secs(10), progress: Box::new(|_| {}) }
    }
}

impl std::fmt::Debug for TuneOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TuneOptions").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl TuneOptions {
    /// Ten seconds, and nobody is told.
    #[must_use]
    pub fn new() -> Self {
        TuneOptions::default()
    }

    /// About how long measuring may take; every way is run a few times at least, however long that is.
    #[must_use]
    pub fn budget(self, budget: Duration) -> Self {
        TuneOptions { budget, ..self }
    }

    /// Called after each measurement.
    #[must_use]
    pub fn progress(self, progress: impl FnMut(&TuneProgress) + 'static) -> Self {
        TuneOptions { progress: Box::new(progress), ..self }
    }
}

/// One way to run inputs of some shapes.
#[derive(Debug, Clone, Copy)]
struct Way {
    micro_batch: Option<usize>,
    parallel: bool,
}

const ANALYTIC: Way = Way { micro_batch: None, parallel: true };

impl Model {
    /// Measures ways to run these inputs on this machine, where several compete: rows at once, one thread or several,
    /// Winograd's algorithm or the direct convolution, products of integers or of floats for what is quantized, rows packed
    /// or read in place; each only where the options allow it. [`save`](Tuning::save) what comes back, and compile with
    /// [`CompileOptions::tuning`]. Algorithms are chosen for all shapes together, so that the answer to a row does not
    /// depend on its batch.
    ///
    /// Every element of `inputs` is the inputs of one call, and stands for all calls of its shapes. Keep the machine
    /// otherwise idle.
    ///
    /// # Errors
    /// As [`compile`](Model::compile) and [`run`](Model::run).
    pub fn tune<F: Into<Feeds>>(
        &self,
        compile: &CompileOptions,
        inputs: impl IntoIterator<Item = F>,
        options: TuneOptions,
    ) -> Result<Tuning> {
        // What was measured before plays no part.
        let compile = &compile.clone().untuned();
        let model = self.compile(compile)?;
        let integers = compile.integers && model.report().changes.iter().any(|(pass, _)| *pass == "integer");
        let floats = if integers { Some(self.compile(&compile.clone().integers(false))?) } else { None };
        model.tune_beside(floats, inputs, options)
    }
}

/// A model, and the best way that was found to run each set of inputs, with its milliseconds.
struct Found {
    model: CompiledModel,
    best: Vec<(f64, Way)>,
}

impl Found {
    fn ms(&self) -> f64 {
        self.best.iter().map(|(ms, _)| ms).sum()
    }
}

impl CompiledModel {
    /// As [`Model::tune`], of algorithms for this graph: whether its products are of integers has been decided. Nothing in
    /// this model changes.
    ///
    /// # Errors
    /// As [`run`](CompiledModel::run).
    pub fn tune<F: Into<Feeds>>(&self, inputs: impl IntoIterator<Item = F>, options: TuneOptions) -> Result<Tuning> {
        self.tune_beside(None, inputs, options)
    }

    fn tune_beside<F: Into<Feeds>>(
        &self,
        floats: Option<CompiledModel>,
        inputs: impl IntoIterator<Item = F>,
        options: TuneOptions,
    ) -> Result<Tuning> {
        let inputs: Result<Vec<Vec<Tensor>>> = inputs.into_iter().map(|feeds| self.bind(&feeds.into())).collect();
        let inputs = inputs?;
        ensure!(!inputs.is_empty(), InvalidInput, "tuning needs inputs to measure");
        let key = self.tuning_key()?;
        let own = self.with_options(self.options().clone());
        let ways: Result<Vec<_>> = inputs.iter().map(|set| own.ways(set, key.threads)).collect();
        let ways = ways?;
        let rivals = own.rivals(floats, &inputs)?;
        let total = ways.iter().map(Vec::len).sum::<usize>() + rivals.len() * inputs.len();
        let each = options.budget / u32::try_from(total + inputs.len() * 2 * TURNS as usize).unwrap_or(u32::MAX);
        let mut progress = options.progress;
        let mut done = 0;
        let mut timed = |what: &str, plan: &Plan, set: &[Tensor], way: Way| -> Result<f64> {
            let ms = measure(plan, set, each)?;
            done += 1;
            progress(&TuneProgress { done, total, measured: describe(set, way, what), ms });
            Ok(ms)
        };
        let mut best = Vec::new();
        for (set, ways) in inputs.iter().zip(&ways) {
            let mut fastest: Option<(f64, Way)> = None;
            for (way, plan) in ways {
                let ms = timed("", plan, set, *way)?;
                // The analytic way comes first, and others must be clearly faster.
                let bar = fastest.map_or(f64::INFINITY, |(least, found)| {
                    if found.micro_batch.is_none() && found.parallel { least * CLEARLY } else { least }
                });
                if ms < bar {
                    fastest = Some((ms, *way));
                }
            }
            best.push(fastest.unwrap_or((f64::INFINITY, ANALYTIC)));
        }
        drop(ways);
        let mut chosen = Found { model: own.clone(), best };
        // One algorithm after the other, each beside the best of those before.
        for rival in &rivals {
            let model = rival.beside(&chosen.model);
            let mut best = Vec::new();
            for (set, (_, way)) in inputs.iter().zip(&chosen.best) {
                let plan = model.make_plan(&shapes(set), way.micro_batch, way.parallel)?;
                best.push((timed(rival.name(), &plan, set, *way)?, *way));
            }
            let rival = Found { model, best };
            if rival.ms() < chosen.ms() * CLEARLY {
                chosen = rival;
            }
        }
        let mut plans = Vec::new();
        let same = chosen.model.algorithms() == own.algorithms();
        for (set, (_, way)) in inputs.iter().zip(&chosen.best) {
            plans.push(compare(&own, &chosen.model, same, set, *way, each)?);
        }
        let (winograd, integers, pack_rows) = chosen.model.algorithms();
        Ok(Tuning { key, winograd, integers, pack_rows, plans })
    }

    /// What is chosen for all shapes together.
    fn algorithms(&self) -> (bool, bool, Option<bool>) {
        let options = self.options();
        (options.winograd, options.integers, options.pack_rows)
    }

    /// The algorithms that may be better than this model's, and make a difference.
    fn rivals(&self, floats: Option<CompiledModel>, inputs: &[Vec<Tensor>]) -> Result<Vec<Rival>> {
        let (winograd, _, pack_rows) = self.algorithms();
        let mut rivals: Vec<Rival> = floats.map(Rival::Floats).into_iter().collect();
        if winograd && self.has_step(inputs, &["winograd"])? {
            rivals.push(Rival::Direct);
        }
        if pack_rows.is_none() && self.has_step(inputs, &["gemm", "conv"])? {
            rivals.extend([true, false].map(Rival::PackRows));
        }
        Ok(rivals)
    }

    /// For which machine and model a tuning holds.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for an operator that is in no registry.
    pub fn tuning_key(&self) -> Result<TuningKey> {
        key(self.graph(), self.threads_count())
    }

    /// Whether a step of these inputs runs in a kernel with one of these words in its name.
    fn has_step(&self, inputs: &[Vec<Tensor>], words: &[&str]) -> Result<bool> {
        for set in inputs {
            let plan = self.plan(&shapes(set))?;
            let mut profile = crate::backend::Profile::new();
            plan.run_profiled(&mut plan.scratch()?, set, &mut profile)?;
            if profile.steps.iter().any(|step| words.iter().any(|word| step.kernel.contains(word))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The ways that differ, the analytic one first.
    fn ways(&self, set: &[Tensor], threads: usize) -> Result<Vec<(Way, Plan)>> {
        let shapes = shapes(set);
        let rows = shapes.iter().filter_map(|shape| shape.first().copied()).max().unwrap_or(1);
        let sizes = std::iter::successors(Some(1), |rows| Some(rows * 2)).take_while(|size| *size < rows);
        let sizes: Vec<Option<usize>> = std::iter::once(None).chain(sizes.chain([rows]).map(Some)).collect();
        let mut ways: Vec<(Way, Plan)> = Vec::new();
        for parallel in [true, false] {
            if !parallel && threads == 1 {
                continue;
            }
            let mut seen = Vec::new();
            for &micro_batch in &sizes {
                let plan = self.make_plan(&shapes, micro_batch, parallel)?;
                // What a plan cannot do, or does already, need not be measured.
                if !seen.contains(&plan.micro_batch()) {
                    seen.push(plan.micro_batch());
                    ways.push((Way { micro_batch, parallel }, plan));
                }
            }
        }
        Ok(ways)
    }
}

/// An algorithm that competes with the one that the options or the estimate name.
enum Rival {
    /// Products of quantized values in f32, as in this model.
    Floats(CompiledModel),
    /// Convolutions without Winograd's algorithm.
    Direct,
    /// Rows always copied together, or never.
    PackRows(bool),
}

impl Rival {
    fn name(&self) -> &'static str {
        match self {
            Rival::Floats(_) => ", in f32",
            Rival::Direct => ", direct",
            Rival::PackRows(true) => ", rows packed",
            Rival::PackRows(false) => ", rows in place",
        }
    }

    /// The model with this algorithm, and the others as `chosen` has them.
    fn beside(&self, chosen: &CompiledModel) -> CompiledModel {
        let options = chosen.options().clone();
        match self {
            Rival::Floats(floats) => floats.with_options(options.integers(false)),
            Rival::Direct => chosen.with_options(options.winograd(false)),
            Rival::PackRows(pack) => chosen.with_options(options.pack_rows(Some(*pack))),
        }
    }
}

/// Measures the choice and the analytic one by turns, so that the gain is not that of a lucky moment.
fn compare(
    analytic: &CompiledModel,
    tuned: &CompiledModel,
    same_model: bool,
    set: &[Tensor],
    way: Way,
    each: Duration,
) -> Result<TunedPlan> {
    let shapes = shapes(set);
    let before = analytic.make_plan(&shapes, None, true)?;
    let after = tuned.make_plan(&shapes, way.micro_batch, way.parallel)?;
    let (mut before_ms, mut after_ms) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        before_ms = before_ms.min(measure(&before, set, each)?);
        after_ms = after_ms.min(measure(&after, set, each)?);
    }
    let better = after_ms < before_ms * CLEARLY || !same_model;
    let (way, after_ms) = if better { (way, after_ms) } else { (ANALYTIC, before_ms) };
    let shapes = shapes.iter().map(|shape| shape.to_vec()).collect();
    Ok(TunedPlan { shapes, micro_batch: way.micro_batch, parallel: way.parallel, before_ms, after_ms })
}

/// Milliseconds of the fastest run: what the work takes where nobody interferes.
fn measure(plan: &Plan, inputs: &[Tensor], time: Duration) -> Result<f64> {
    let mut scratch = plan.scratch()?;
    plan.run(&mut scratch, inputs)?;
    let (end, mut least, mut runs) = (Instant::now() + time, Duration::MAX, 0);
    while runs < 3 || Instant::now() < end {
        let start = Instant::now();
        plan.run(&mut scratch, inputs)?;
        least = least.min(start.elapsed());
        runs += 1;
    }
    Ok(least.as_secs_f64() * 1e3)
}

fn shapes(set: &[Tensor]) -> Vec<Shape> {
    set.iter().map(|tensor| tensor.shape().clone()).collect()
}

fn describe(set: &[Tensor], way: Way, algorithm: &str) -> String {
    let shapes: Vec<String> = set.iter().map(|tensor| tensor.shape().to_string()).collect();
    let rows = way.micro_batch.map_or("rows by estimate".to_owned(), |rows| format!("{rows} rows at once"));
    let threads = if way.parallel { "all threads" } else { "one thread" };
    format!("{}: {rows}, {threads}{algorithm}", shapes.join(" "))
}

/// The key of an optimized graph on this machine.
pub(crate) fn key(graph: &crate::graph::Graph, threads: usize) -> Result<TuningKey> {
    Ok(TuningKey {
        processor: processor(),
        instruction_set: Isa::chosen()?.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        threads,
        model: format!("{:016x}", crate::store::fingerprint(graph)?),
    })
}

/// The name of the processor, where the system tells.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
