//! What happens to a product before it is stored, as data: scales, bias, residual, activation.

use super::super::view::Matrix;
use super::output::Extremes;

/// What is done to `sum[r][c]`, the product's element, in this order:
///
/// `v = sum * column_scale[c] * row_scale[r] + bias[c]`, then `v + residual[r][c]`, then the activation (the residual
/// after it where it says so). The default does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One factor a column.
    pub column_scale: Option<&'a [f32]>,
    /// One factor a row.
    pub row_scale: Option<&'a [f32]>,
    /// One summand a column.
    pub bias: Option<&'a [f32]>,
    /// One summand an element.
    pub residual: Option<Residual<'a>>,
    /// Applied last, or just before the residual.
    pub activation: Activation,
    /// Told what is written, where that is f32.
    pub extremes: Option<&'a Extremes>,
    /// What will be read after this product, the next one's weights for example: its last rows fetch it. No result depends
    /// on it.
    pub next: &'a [u8],
    /// Whether the rows of A that one strip takes are copied together first: `None` where their distance asks for it. No
    /// result depends on it.
    pub pack_rows: Option<bool>,
}

impl Epilogue<'_> {
    /// Whether the output may hold sums between chunks of K.
    pub(in crate::kernels) fn allows_chunks(&self) -> bool {
        !matches!(self.residual, Some(Residual::OutputBefore | Residual::OutputAfter))
    }
}

/// A summand for every element.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Residual<'a> {
    /// Added before the activation (ResNet).
    Before(Matrix<'a, f32>),
    /// Added after the activation (YOLO, EfficientNet with an activation).
    After(Matrix<'a, f32>),
    /// What the output already holds, added before the activation: in-place accumulation.
    OutputBefore,
    /// What the output already holds, added after the activation.
    OutputAfter,
}

/// A function of one element.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// The element itself.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, lo), hi)`.
    Clip {
        /// The lower bound.
        lo: f32,
        /// The upper bound.
        hi: f32,
    },
    /// `x < 0 ? alpha * x : x`.
    LeakyRelu {
        /// The slope of negative elements.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * clip(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `clip(alpha * x + beta, 0, 1)`.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at zero.
        beta: f32,
    },
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

impl Activation {
    /// The bounds, where it does nothing but bound.
    #[must_use]
    pub fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Clip { lo, hi } => Some((lo, hi)),
            _ => None,
        }
    }
}
