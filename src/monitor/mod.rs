//! Counters, histograms, the learned cost of a batch, and a controller that decides by them. It does no input or output
//! and knows no model.
//!
//! Recording costs a few nanoseconds and no lock; reading adds up the shards. How the numbers reach a screen or a
//! scraper is left to the caller: a [`Snapshot`] is data, a table, JSON, or Prometheus' text.

mod cost;
mod counters;
mod feedback;
mod histogram;
mod measured;
mod prometheus;
mod serving;
mod snapshot;

pub use cost::{CostModel, Learned};
pub(crate) use counters::{Counters, Ended, thread_number};
pub use feedback::{Controller, Feedback, Knob, Move, Settings};
pub use histogram::{Distribution, Histogram};
pub use measured::Measured;
pub use prometheus::{Labels, PROMETHEUS_CONTENT_TYPE, prometheus};
pub(crate) use serving::ModelStats;
pub use serving::{ModelSnapshot, ReplicaSnapshot, ReplicaState};
pub(crate) use snapshot::Stats;
pub use snapshot::{Process, Refusals, Snapshot, Totals};
