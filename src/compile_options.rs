//! How a model is compiled: the options of [`Model::compile`](crate::Model::compile), their defaults, and what they decide.

use crate::threads::Threads;
use std::path::PathBuf;
use std::sync::Arc;

/// How a model is compiled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompileOptions {
    pub(crate) optimize: bool,
    pub(crate) max_run_bytes: usize,
    pub(crate) max_run_steps: u64,
    pub(crate) max_plans: usize,
    pub(crate) threads: Option<usize>,
    pub(crate) pool: Option<Arc<rayon_core::ThreadPool>>,
    pub(crate) micro_batch: Option<usize>,
    pub(crate) winograd: bool,
    pub(crate) integers: bool,
    pub(crate) pack_rows: Option<bool>,
    pub(crate) bfloat16: bool,
    pub(crate) verify: bool,
    pub(crate) tuning: Option<PathBuf>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        CompileOptions {
            optimize: true,
            max_run_bytes: 8 << 30,
            max_run_steps: 1_000_000,
            max_plans: 64,
            threads: None,
            pool: None,
            micro_batch: None,
            winograd: true,
            integers: true,
            pack_rows: None,
            bfloat16: false,
            verify: false,
            tuning: None,
        }
    }
}

impl CompileOptions {
    /// The defaults: optimized, 8 GiB of working memory a run, 64 plans kept, as many threads as the process has cores.
    #[must_use]
    pub fn new() -> Self {
        CompileOptions::default()
    }

    /// Whether the passes run; without them the graph runs as the file has it.
    #[must_use]
    pub fn optimize(self, optimize: bool) -> Self {
        CompileOptions { optimize, ..self }
    }

    /// Bytes of working memory that one run may need; a plan that needs more is refused before anything is allocated.
    #[must_use]
    pub fn max_run_bytes(self, max_run_bytes: usize) -> Self {
        CompileOptions { max_run_bytes, ..self }
    }

    /// Operators that one run may take in steps whose number depends on data, such as `Loop`: by default a million, which
    /// take about a second.
    #[must_use]
    pub fn max_run_steps(self, max_run_steps: u64) -> Self {
        CompileOptions { max_run_steps, ..self }
    }

    /// How many plans (one for each set of input shapes) are kept; at least one.
    #[must_use]
    pub fn max_plans(self, max_plans: usize) -> Self {
        CompileOptions { max_plans: max_plans.max(1), ..self }
    }

    /// How many threads one call may use, the caller's included; by default one for each core that the process may
    /// use, or those of the [`pool`](CompileOptions::pool). A batch is divided over them by rows where its rows are
    /// independent; a lone request inside its operators. Calls too short for that stay on the caller's thread. The
    /// answers are the same, bit for bit.
    ///
    /// The threads are started by the first call that they can help, sleep while there is none, and end with the model.
    /// `threads(1)` starts none. An [`Engine`](crate::Engine) of several workers runs each batch on one of them alone.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        CompileOptions { threads: Some(threads.max(1)), ..self }
    }

    /// The host's threads, in place of threads that the model would start. A call never waits for one of them that is
    /// busy: it does the work itself.
    #[must_use]
    pub fn pool(self, pool: Arc<rayon_core::ThreadPool>) -> Self {
        CompileOptions { pool: Some(pool), ..self }
    }

    /// How many rows of a batch go through the model at once, where its rows are independent. By default it is chosen
    /// for each plan, so that what a few rows need stays in the caches and the weights are not read too often.
    #[must_use]
    pub fn micro_batch(self, rows: usize) -> Self {
        CompileOptions { micro_batch: Some(rows.max(1)), ..self }
    }

    /// Whether f32 convolutions of 3x3 taps at stride 1 may run by Winograd's algorithm, F(4x4, 3x3), where that is expected
    /// to be faster by more than its memory is worth; they may by default. It takes a quarter of the multiplications, two to
    /// three times the speed, and four times the memory for those weights. Where that memory is not worth it, many channels of
    /// few pixels, it is F(2x2, 3x3): four ninths of the multiplications, one and a half times the speed, less than twice the
    /// memory, and a smaller error.
    ///
    /// It rounds differently: on normally distributed data the error is 1e-6 of the output's standard deviation in the mean
    /// square and below 2e-5 of it at most, about three times as much as of the sum in plain order (in the mean). The
    /// answer to a row does not depend on its batch, nor on the number of threads.
    #[must_use]
    pub fn winograd(self, winograd: bool) -> Self {
        CompileOptions { winograd, ..self }
    }

    /// Whether products of quantized values run in integers; they do by default. Otherwise they run in f32, and what lies
    /// between them is rounded to the steps of its quantization as the graph says: the same answers up to the order of
    /// rounding, for processors that have no fast products of bytes.
    #[must_use]
    pub fn integers(self, integers: bool) -> Self {
        CompileOptions { integers, ..self }
    }

    /// Whether products copy the rows that they take at once together before they read them, again and again. By default
    /// (`None`) they do where rows lie so far apart that they would drive each other out of the first cache. The answers
    /// are the same, bit for bit.
    #[must_use]
    pub fn pack_rows(self, pack_rows: Option<bool>) -> Self {
        CompileOptions { pack_rows, ..self }
    }

    /// Whether f32 matrix products with constant weights run in bfloat16, their sums in f32; by default they do not. It
    /// halves the memory of the weights, and doubles the speed where the processor has instructions for it.
    ///
    /// Both factors are rounded to eight bits of precision: a product of `k` terms is off by some
    /// `2^-9 * sqrt(2 / k)` of the sum of its terms' sizes. The answer to a row still does not depend on its batch, nor
    /// on the number of threads.
    #[must_use]
    pub fn bfloat16(self, bfloat16: bool) -> Self {
        CompileOptions { bfloat16, ..self }
    }

    /// Whether [`Model::load_compiled`](crate::Model::load_compiled) reads all weights and compares them with their digests. Without it only the
    /// index is compared, and a weight that was damaged on disk gives wrong answers.
    #[must_use]
    pub fn verify(self, verify: bool) -> Self {
        CompileOptions { verify, ..self }
    }

    /// Takes what [`CompiledModel::tune`](crate::CompiledModel::tune) measured for this machine, model and number of threads from a
    /// [file](crate::Tuning::save). Where the file has no such entry, or does not exist yet, choices are analytic.
    #[must_use]
    pub fn tuning(self, path: impl Into<PathBuf>) -> Self {
        CompileOptions { tuning: Some(path.into()), ..self }
    }

    pub(crate) fn untuned(self) -> Self {
        CompileOptions { tuning: None, ..self }
    }

    /// The options that a compiled graph and its weights depend on; the others may differ between saving and loading.
    pub(crate) fn of_the_graph(&self) -> String {
        format!("optimize {}, bfloat16 {}", self.optimize, self.bfloat16)
    }

    pub(crate) fn team(&self) -> Threads {
        match (&self.pool, self.threads) {
            (_, Some(1)) => Threads::serial(),
            (Some(pool), threads) => Threads::of_pool(pool.clone(), threads),
            (None, Some(threads)) => Threads::new(threads),
            (None, None) => Threads::all_cores(),
        }
    }
}
