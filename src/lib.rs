//! Onrush: an ONNX model answers a crowd of callers, inside your process.

pub mod backend;
pub mod balance;
pub mod clock;
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
pub mod passes;
pub mod plan;
mod runner;
pub mod sched;
mod stacking;
mod summary;
mod sync;
pub mod tensor;
mod threads;

pub use engine::{Engine, EngineBuilder, EngineModel, RefusedFeeds, Ticket};
pub use error::{Error, ErrorKind, Result};
pub use exec::{Reason, Refused, SubmitOptions};
pub use feeds::{Feeds, Outputs};
pub use model::{CompileOptions, CompiledModel, Model, ValueInfo};
pub use plan::{Plan, Scratch};
pub use runner::ModelRunner;
pub use summary::{Layer, Summary};
pub use tensor::{DType, Dim, Element, Fact, Shape, Symbol, Tensor};
