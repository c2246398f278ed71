//! What was measured to be fastest on one machine for one model, and the file that keeps it. Measures nothing itself.

mod file;

use serde::{Deserialize, Serialize};
use std::fmt;

/// For which machine and model something was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningKey {
    /// The processor, as the system names it.
    pub processor: String,
    /// The instruction set that the kernels use.
    pub instruction_set: String,
    /// The version of this crate.
    pub version: String,
    /// Threads that one call may use.
    pub threads: usize,
    /// A digest of the optimized graph: its operators and shapes, not its weights.
    pub model: String,
}

/// What was chosen for inputs of some shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedPlan {
    /// The shapes of the inputs.
    pub shapes: Vec<Vec<usize>>,
    /// Rows that go through at once; `None` leaves it to the analytic choice.
    pub micro_batch: Option<usize>,
    /// Whether a call may use all its threads, or keeps to one.
    pub parallel: bool,
    /// Milliseconds of a run by the analytic choice.
    pub before_ms: f64,
    /// Milliseconds of a run by this one, measured by turns with the other.
    pub after_ms: f64,
}

/// What was chosen for one model on one machine, and what it gained; `Display` is a table.
///
/// [`Model::tune`](crate::Model::tune) measures one, [`Tuning::save`] keeps it, and
/// [`CompileOptions::tuning`](crate::CompileOptions::tuning) applies it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// For which machine and model.
    pub key: TuningKey,
    /// Whether convolutions may run by Winograd's algorithm: one choice for all shapes, so that the answer to a row does
    /// not depend on its batch.
    pub winograd: bool,
    /// Whether products of quantized values run in integers, or in f32.
    pub integers: bool,
    /// Whether products copy rows together; `None` leaves it to the analytic choice.
    pub pack_rows: Option<bool>,
    /// One entry for each set of shapes.
    pub plans: Vec<TunedPlan>,
}

impl Tuning {
    /// What was chosen for inputs of these shapes.
    pub(crate) fn plan<'a>(&self, shapes: impl Iterator<Item = &'a [usize]> + Clone) -> Option<&TunedPlan> {
        self.plans.iter().find(|plan| plan.shapes.iter().map(Vec::as_slice).eq(shapes.clone()))
    }

    /// How many times faster the measured shapes run together.
    #[must_use]
    pub fn gain(&self) -> f64 {
        let sum = |of: fn(&TunedPlan) -> f64| self.plans.iter().map(of).sum::<f64>();
        let (before, after) = (sum(|plan| plan.before_ms), sum(|plan| plan.after_ms));
        if after > 0.0 { before / after } else { 1.0 }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TuningKey { processor, instruction_set, threads, .. } = &self.key;
        writeln!(
            f,
            "{processor}, {instruction_set}, {threads} threads; Winograd {}, quantized products in {}, rows {}",
            if self.winograd { "on" } else { "off" },
            if self.integers { "integers" } else { "f32" },
            match self.pack_rows {
                None => "packed where they are far apart",
                Some(true) => "packed",
                Some(false) => "in place",
            }
        )?;
        writeln!(
            f,
            "{:<28} {:>12} {:>8} {:>12} {:>12} {:>7}",
            "shapes", "rows at once", "threads", "before", "after", "gain"
        )?;
        for plan in &self.plans {
            let shapes: Vec<String> = plan.shapes.iter().map(|shape| format!("{shape:?}")).collect();
            let rows = plan.micro_batch.map_or("analytic".to_owned(), |rows| rows.to_string());
            let threads = if plan.parallel { *threads } else { 1 };
            let gain = plan.before_ms / plan.after_ms;
            let (shapes, before, after) = (shapes.join(" "), plan.before_ms, plan.after_ms);
            writeln!(f, "{shapes:<28} {rows:>12} {threads:>8} {before:>9.3} ms {after:>9.3} ms {gain:>6.2}x")?;
        }
        Ok(())
    }
}
