//! Where the time of a plan goes, step by step.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// One step of a plan, with the time of all profiled runs.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StepProfile {
    /// The node's name.
    pub name: String,
    /// The operator.
    pub operator: String,
    /// How it ran: the kernel's name, or `reference`.
    pub kernel: String,
    /// Shape of the first output, as `f32[1, 64, 56, 56]`.
    pub output: String,
    /// Nanoseconds, summed over the runs.
    pub nanoseconds: u64,
}

/// The steps of a plan with their times; `Display` is a table, `Serialize` gives JSON.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// How many runs were added up.
    pub runs: u64,
    /// In the order in which they ran.
    pub steps: Vec<StepProfile>,
}

impl Profile {
    /// An empty profile, to hand to a profiled run.
    #[must_use]
    pub fn new() -> Self {
        Profile::default()
    }

    /// Mean time of one run.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let total: u64 = self.steps.iter().map(|s| s.nanoseconds).sum();
        Duration::from_nanos(total / self.runs.max(1))
    }

    pub(crate) fn record(&mut self, index: usize, describe: impl FnOnce() -> StepProfile, time: Duration) {
        if self.steps.len() <= index {
            self.steps.push(describe());
        }
        if let Some(step) = self.steps.get_mut(index) {
            step.nanoseconds += time.as_nanos() as u64;
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.runs.max(1);
        let total: u64 = self.steps.iter().map(|s| s.nanoseconds).sum::<u64>().max(1);
        writeln!(f, "{:>10} {:>6}  {:<20} {:<26} {:<24} name", "us", "%", "operator", "kernel", "output")?;
        for step in &self.steps {
            writeln!(
                f,
                "{:>10.2} {:>6.2}  {:<20} {:<26} {:<24} {}",
                step.nanoseconds as f64 / runs as f64 / 1e3,
                step.nanoseconds as f64 / total as f64 * 100.0,
                step.operator,
                step.kernel,
                step.output,
                step.name
            )?;
        }
        writeln!(f, "{:>10.2} us a run, {runs} runs", total as f64 / runs as f64 / 1e3)
    }
}
