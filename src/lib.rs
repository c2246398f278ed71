//! Onrush: an ONNX model answers a crowd of callers, inside your process.
//!
//! [`Model::load`] reads a file, [`Model::run`] answers one call, and an [`Engine`] answers many callers at once. How the
//! crate is built, room by room, is in [`architecture`].
//!
//! ```no_run
//! use onrush::{DType, Engine, Model, Tensor};
//!
//! let engine = Engine::builder(Model::load("mobilenet_v2.onnx")?).max_batch_size(8).build()?;
//! let ticket = engine.submit([Tensor::zeros(DType::F32, [1, 3, 224, 224])?])?;
//! println!("{:?}", ticket.wait()?["logits"]);
//! # Ok::<(), onrush::Error>(())
//! ```

pub mod backend;
pub mod balance;
pub mod clock;
mod compile_options;
mod compiled;
mod divided;
mod engine;
pub mod error;
pub mod exec;
mod feeds;
pub mod graph;
pub mod kernels;
mod model;
pub mod monitor;
pub mod onnx;
pub mod ops;
mod order;
mod padding;
pub mod passes;
mod pipeline;
pub mod plan;
mod process;
mod runner;
pub mod sched;
mod served;
mod stacking;
mod stages;
mod store;
mod summary;
mod sync;
pub mod tensor;
mod threads;
mod tune;
mod tuning;

#[doc = include_str!("../docs/ARCHITECTURE.md")]
pub mod architecture {}

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use compile_options::CompileOptions;
pub use divided::{DividedTicket, SubmittingDivided};
pub use engine::{Engine, EngineBuilder, EngineModel, GroupTicket, RefusedFeeds, Ticket};
pub use error::{Error, ErrorKind, Result};
pub use exec::{Reason, Refused, SubmitOptions};
pub use feeds::{Feeds, Outputs};
pub use model::{CompiledModel, Model, ValueInfo};
pub use plan::{Plan, Scratch};
pub use runner::ModelRunner;
pub use served::ServedModel;
pub use stages::StageInfo;
pub use summary::{Layer, Summary};
pub use tensor::{DType, Dim, Element, Fact, Shape, Symbol, Tensor};
pub use tune::{TuneOptions, TuneProgress};
pub use tuning::{TunedPlan, Tuning, TuningKey};
