//! What loading may cost: absolute limits, checked before the work that they bound.

/// How a model is loaded. Start from the default and change what matters.
///
/// ```
/// use onrush::onnx::{LoadLimits, LoadOptions};
/// let options = LoadOptions::default().limits(LoadLimits::default().max_nodes(1_000)).allow_newer_opset(true);
/// assert_eq!(options.limits.max_nodes, 1_000);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// What loading may cost.
    pub limits: LoadLimits,
    /// Whether an opset newer than the newest known one is read as if it were that one.
    pub allow_newer_opset: bool,
    /// Inputs with a default in the file that stay inputs, which a call may give or leave out. Any other input with a
    /// default is that constant, so that it can be folded and packed.
    pub overridable_inputs: Vec<String>,
}

impl LoadOptions {
    /// Sets the limits.
    #[must_use]
    pub fn limits(self, limits: LoadLimits) -> Self {
        LoadOptions { limits, ..self }
    }

    /// Sets whether an opset newer than the newest known one is read as if it were that one.
    #[must_use]
    pub fn allow_newer_opset(self, allow: bool) -> Self {
        LoadOptions { allow_newer_opset: allow, ..self }
    }

    /// Names inputs with a default (initializers that are also inputs of the graph) that calls may override.
    #[must_use]
    pub fn overridable_inputs<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        LoadOptions { overridable_inputs: names.into_iter().map(Into::into).collect(), ..self }
    }
}

/// Absolute limits of loading, so that a small file cannot ask for a huge model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadLimits {
    /// Bytes of the model file, external data not counted. Default: 2 GiB, which is protobuf's own limit.
    pub max_file_bytes: usize,
    /// Bytes of all constants together, external data included. Default: 16 GiB.
    pub max_tensor_bytes: usize,
    /// Nodes after functions are inlined, those of bodies included. Default: 250,000.
    pub max_nodes: usize,
    /// Bytes of names, and of attributes that are no tensors, after functions are inlined. Default: 64 MiB.
    pub max_text_bytes: usize,
    /// Bodies of `If`, `Loop` and `Scan`, wherever they stand. Default: 4,096.
    pub max_bodies: usize,
    /// Bodies within bodies and functions within functions, at most 32. Default: 24.
    pub max_depth: usize,
    /// Bytes of the constants that folding makes. Default: 1 GiB.
    pub max_folded_bytes: usize,
}

/// Messages, strings, inputs and outputs that a node may bring along on average.
const ITEMS_PER_NODE: usize = 32;

/// No limit goes deeper: so far protobuf is read, and the stack of a thread suffices.
const DEEPEST: usize = 32;

impl Default for LoadLimits {
    fn default() -> Self {
        LoadLimits {
            max_file_bytes: 2 << 30,
            max_tensor_bytes: 16 << 30,
            max_nodes: 250_000,
            max_text_bytes: 64 << 20,
            max_bodies: 4_096,
            max_depth: 24,
            max_folded_bytes: 1 << 30,
        }
    }
}

impl LoadLimits {
    /// Sets the largest file in bytes.
    #[must_use]
    pub fn max_file_bytes(self, max_file_bytes: usize) -> Self {
        LoadLimits { max_file_bytes, ..self }
    }

    /// Sets the most bytes that all constants may take together.
    #[must_use]
    pub fn max_tensor_bytes(self, max_tensor_bytes: usize) -> Self {
        LoadLimits { max_tensor_bytes, ..self }
    }

    /// Sets the largest number of nodes.
    #[must_use]
    pub fn max_nodes(self, max_nodes: usize) -> Self {
        LoadLimits { max_nodes, ..self }
    }

    /// Sets the most bytes that names and attributes may take together.
    #[must_use]
    pub fn max_text_bytes(self, max_text_bytes: usize) -> Self {
        LoadLimits { max_text_bytes, ..self }
    }

    /// Sets the largest number of bodies.
    #[must_use]
    pub fn max_bodies(self, max_bodies: usize) -> Self {
        LoadLimits { max_bodies, ..self }
    }

    /// Sets the deepest nesting of bodies and functions: at most 32, as each level takes some of the stack.
    #[must_use]
    pub fn max_depth(self, max_depth: usize) -> Self {
        LoadLimits { max_depth: max_depth.min(DEEPEST), ..self }
    }

    /// Sets the most bytes that folding may make.
    #[must_use]
    pub fn max_folded_bytes(self, max_folded_bytes: usize) -> Self {
        LoadLimits { max_folded_bytes, ..self }
    }

    /// Messages and strings of the file, and inputs and outputs of all nodes.
    pub(super) fn max_items(&self) -> usize {
        self.max_nodes.saturating_mul(ITEMS_PER_NODE).max(10_000)
    }
}
