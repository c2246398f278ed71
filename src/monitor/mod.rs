//! Counters, histograms, and the learned cost of a batch. It does no input or output and knows no model.
//!
//! Recording costs a few nanoseconds and no lock; reading adds up the shards. How the numbers reach a screen or a
//! scraper is left to the caller: a [`Snapshot`] is data, a table, or JSON.

mod cost;
mod counters;
mod histogram;
mod serving;
mod snapshot;

pub use cost::{CostModel, Learned};
pub(crate) use counters::{Counters, Ended, thread_number};
pub use histogram::{Distribution, Histogram};
pub(crate) use serving::ModelStats;
pub use serving::{ModelSnapshot, ReplicaSnapshot, ReplicaState};
pub(crate) use snapshot::Stats;
pub use snapshot::{Refusals, Snapshot, Totals};
