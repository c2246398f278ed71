//! Moves requests: lanes, tickets, batcher, workers. It knows a [`BatchRunner`], not a model; its payload is generic.
//!
//! What it leaves to others: which requests ride together (`sched`), what a batch computes (the runner), and what is
//! done with the numbers (`monitor`).
//!
//! ```
//! use onrush::exec::{Batch, BatchRunner, Executor, SubmitOptions};
//!
//! struct Double;
//!
//! impl BatchRunner for Double {
//!     type Request = u32;
//!     type Response = u32;
//!     type Scratch = ();
//!     fn scratch(&self) {}
//!     fn run(&self, _: &mut (), batch: &mut Batch<'_, u32, u32>) -> onrush::Result<()> {
//!         for at in 0..batch.len() {
//!             let answer = batch.request(at) * 2;
//!             batch.answer(at, Ok(answer));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let executor = Executor::builder(Double).max_batch_size(8).workers(2).build()?;
//! let ticket = executor.try_submit(21, SubmitOptions::new()).map_err(onrush::Error::from)?;
//! assert_eq!(ticket.wait()?, 42);
//! # Ok::<(), onrush::Error>(())
//! ```

mod admission;
mod batcher;
mod builder;
mod credit;
mod due;
mod entry;
mod executor;
mod feedback;
mod forecast;
mod generations;
mod health;
mod interrupt;
mod lane;
#[cfg(all(test, loom))]
mod loom_shutdown;
mod models;
mod options;
mod pace;
mod queue;
mod replicas;
mod room;
mod run;
mod runner;
mod scratches;
mod shared;
mod sleepers;
mod slots;
mod ticket;
mod timekeeper;
mod trace;
mod wake;
mod worker;

#[cfg(all(test, not(loom)))]
mod tests;

pub use builder::Builder;
pub use entry::Timing;
pub use executor::{Executor, Shutdown, Submitting};
pub use options::{Reason, Refused, SubmitOptions};
pub use replicas::{Pinned, ReplicaId};
pub use runner::{Batch, BatchRunner, Flow, Load};
pub use ticket::{GroupTicket, Ticket};
