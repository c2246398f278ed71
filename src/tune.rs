//! The façade over tuning: measures a compiled model on this machine, where several ways to run it compete.
//!
//! The analytic choices of the planner stay where nothing measured is clearly better, since a wrong choice lasts longer
//! than a noisy measurement.

use crate::error::{Result, ensure};
use crate::feeds::Feeds;
use crate::kernels::arch::Isa;
use crate::model::CompiledModel;
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

impl CompiledModel {
    /// Measures ways to run these inputs on this machine: rows at once, one thread or several, Winograd's algorithm or the
    /// direct convolution where the [options](crate::CompileOptions::winograd) allow it. Nothing in this model changes:
    /// [`save`](Tuning::save) what comes back, and compile with [`CompileOptions::tuning`](crate::CompileOptions::tuning).
    ///
    /// Every element of `inputs` is the inputs of one call, and stands for all calls of its shapes. Keep the machine
    /// otherwise idle.
    ///
    /// # Errors
    /// As [`run`](CompiledModel::run).
    pub fn tune<F: Into<Feeds>>(&self, inputs: impl IntoIterator<Item = F>, options: TuneOptions) -> Result<Tuning> {
        let inputs: Result<Vec<Vec<Tensor>>> = inputs.into_iter().map(|feeds| self.bind(&feeds.into())).collect();
        let inputs = inputs?;
        ensure!(!inputs.is_empty(), InvalidInput, "tuning needs inputs to measure");
        let key = self.tuning_key()?;
        let mut models = vec![self.with_winograd(self.winograd())];
        if self.winograd() && self.has_winograd_steps(&inputs)? {
            models.push(self.with_winograd(false));
        }
        let mut trials = Vec::new();
        for model in &models {
            let sets: Result<Vec<_>> = inputs.iter().map(|set| model.ways(set, key.threads)).collect();
            trials.push(sets?);
        }
        let total: usize = trials.iter().flatten().map(Vec::len).sum::<usize>();
        let each = options.budget / u32::try_from(total + inputs.len() * 2 * TURNS as usize).unwrap_or(u32::MAX);
        let mut progress = options.progress;
        let mut done = 0;
        // The best way of each model for each set of inputs.
        let mut best: Vec<Vec<(f64, Way)>> = Vec::new();
        for (model, sets) in models.iter().zip(&trials) {
            let mut of_model = Vec::new();
            for (set, ways) in inputs.iter().zip(sets) {
                let mut fastest: Option<(f64, Way)> = None;
                for (way, plan) in ways {
                    let ms = measure(plan, set, each)?;
                    done += 1;
                    let measured = describe(set, *way, model.winograd());
                    progress(&TuneProgress { done, total, measured, ms });
                    // The analytic way comes first, and others must be clearly faster.
                    let bar = fastest.map_or(f64::INFINITY, |(least, found)| {
                        if found.micro_batch.is_none() && found.parallel { least * CLEARLY } else { least }
                    });
                    if ms < bar {
                        fastest = Some((ms, *way));
                    }
                }
                of_model.push(fastest.unwrap_or((f64::INFINITY, ANALYTIC)));
            }
            best.push(of_model);
        }
        let sum = |of: &[(f64, Way)]| of.iter().map(|(ms, _)| ms).sum::<f64>();
        let other = best.len() > 1 && sum(&best[1]) < sum(&best[0]) * CLEARLY;
        let chosen = usize::from(other);
        let mut plans = Vec::new();
        for (index, set) in inputs.iter().enumerate() {
            let way = best[chosen][index].1;
            plans.push(compare(&models[0], &models[chosen], set, way, each)?);
        }
        Ok(Tuning { key, winograd: models[chosen].winograd(), plans })
    }

    /// For which machine and model a tuning holds.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for an operator that is in no registry.
    pub fn tuning_key(&self) -> Result<TuningKey> {
        key(self.graph(), self.threads_count())
    }

    /// Whether a step of these inputs runs by Winograd's algorithm.
    fn has_winograd_steps(&self, inputs: &[Vec<Tensor>]) -> Result<bool> {
        for set in inputs {
            let plan = self.plan(&shapes(set))?;
            let mut profile = crate::backend::Profile::new();
            plan.run_profiled(&mut plan.scratch()?, set, &mut profile)?;
            if profile.steps.iter().any(|step| step.kernel.contains("winograd")) {
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

/// Measures the choice and the analytic one by turns, so that the gain is not that of a lucky moment.
fn compare(
    analytic: &CompiledModel,
    tuned: &CompiledModel,
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
    let same_model = analytic.winograd() == tuned.winograd();
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

fn describe(set: &[Tensor], way: Way, winograd: bool) -> String {
    let shapes: Vec<String> = set.iter().map(|tensor| tensor.shape().to_string()).collect();
    let rows = way.micro_batch.map_or("rows by estimate".to_owned(), |rows| format!("{rows} rows at once"));
    let threads = if way.parallel { "all threads" } else { "one thread" };
    format!("{}: {rows}, {threads}{}", shapes.join(" "), if winograd { "" } else { ", direct" })
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
