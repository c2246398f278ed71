//! Bytes to graph and graph to bytes: every length checked, every limit stated.
//!
//! What an operator means is not known here: its attributes are converted and handed to [`ops`](crate::ops), and
//! what that answers becomes nodes of the graph.

mod export;
mod external;
mod import;
mod limits;
mod names;
mod proto;
mod scan;
mod tensors;

pub use export::export;
pub use import::{Imported, Overridable, import, import_path, import_reader};
pub use limits::{LoadLimits, LoadOptions};
pub use tensors::{read_tensor, write_tensor};
