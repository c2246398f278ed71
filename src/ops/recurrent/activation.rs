//! The activations that a recurrent cell may name, with their parameters.

use crate::error::{Result, bail, ensure};
use crate::ops::{Attrs, NodeReader};

/// An activation inside a recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `alpha * x + beta`.
    Affine {
        /// `alpha` of the formula.
        alpha: f32,
        /// `beta` of the formula.
        beta: f32,
    },
    /// `x` above zero, `alpha * x` below.
    LeakyRelu {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `x` where it is at least `alpha`, else zero.
    ThresholdedRelu {
        /// `alpha` of the formula.
        alpha: f32,
    },
    /// `alpha * tanh(beta * x)`.
    ScaledTanh {
        /// `alpha` of the formula.
        alpha: f32,
        /// `beta` of the formula.
        beta: f32,
    },
    /// `alpha * x + beta`, clipped to `0..=1`.
    HardSigmoid {
        /// `alpha` of the formula.
        alpha: f32,
        /// `beta` of the formula.
        beta: f32,
    },
    /// `x` above zero, `alpha * (exp(x) - 1)` below.
    Elu {
        /// `alpha` of the formula.
        alpha: f32,
    },
}

impl Activation {
    /// The activation of one number.
    #[must_use]
    pub fn apply(self, x: f64) -> f64 {
        let wide = f64::from;
        match self {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Softsign => x / (1.0 + x.abs()),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Affine { alpha, beta } => wide(alpha) * x + wide(beta),
            Activation::LeakyRelu { alpha } => {
                if x >= 0.0 {
                    x
                } else {
                    wide(alpha) * x
                }
            }
            Activation::ThresholdedRelu { alpha } => {
                if x >= wide(alpha) {
                    x
                } else {
                    0.0
                }
            }
            Activation::ScaledTanh { alpha, beta } => wide(alpha) * (wide(beta) * x).tanh(),
            Activation::HardSigmoid { alpha, beta } => (wide(alpha) * x + wide(beta)).clamp(0.0, 1.0),
            Activation::Elu { alpha } => {
                if x >= 0.0 {
                    x
                } else {
                    wide(alpha) * x.exp_m1()
                }
            }
        }
    }

    /// ONNX's name, and the parameters in use.
    fn parts(self) -> (&'static str, Option<f32>, Option<f32>) {
        match self {
            Activation::Relu => ("Relu", None, None),
            Activation::Tanh => ("Tanh", None, None),
            Activation::Sigmoid => ("Sigmoid", None, None),
            Activation::Softsign => ("Softsign", None, None),
            Activation::Softplus => ("Softplus", None, None),
            Activation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
            Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
            Activation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
            Activation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
            Activation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
            Activation::Elu { alpha } => ("Elu", Some(alpha), None),
        }
    }
}

/// Reads the activations of `directions` directions. Each takes its parameters, if it has any, from the front of
/// `activation_alpha` and `activation_beta`; where these have run out, the defaults of the operator of that name hold.
pub(super) fn read(node: &mut NodeReader, defaults: &[Activation], directions: usize) -> Result<Vec<Activation>> {
    let mut alphas = node.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = node.floats("activation_beta")?.unwrap_or_default().into_iter();
    let Some(names) = node.strs("activations")?.filter(|names| !names.is_empty()) else {
        return Ok(defaults.repeat(directions));
    };
    let wanted = defaults.len() * directions;
    ensure!(names.len() == wanted, InvalidModel, "{} activations are named, {wanted} are used", names.len());
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    names
        .iter()
        .map(|name| {
            Ok(match name.to_ascii_lowercase().as_str() {
                "relu" => Activation::Relu,
                "tanh" => Activation::Tanh,
                "sigmoid" => Activation::Sigmoid,
                "softsign" => Activation::Softsign,
                "softplus" => Activation::Softplus,
                "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
                "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
                "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
                "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
                "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
                "elu" => Activation::Elu { alpha: alpha(1.0) },
                _ => bail!(Unsupported, "the activation {name:?} is not known"),
            })
        })
        .collect()
}

/// Writes the activations so that [`read`] yields them back.
pub(super) fn write(attrs: Attrs, activations: &[Activation]) -> Attrs {
    let (mut names, mut alphas, mut betas) = (Vec::new(), Vec::new(), Vec::new());
    for activation in activations {
        let (name, alpha, beta) = activation.parts();
        names.push(name.to_owned());
        alphas.extend(alpha);
        betas.extend(beta);
    }
    let attrs = attrs.with("activations", crate::ops::Attr::Strs(names));
    let with = |attrs: Attrs, name, values: Vec<f32>| {
        if values.is_empty() { attrs } else { attrs.with(name, crate::ops::Attr::Floats(values)) }
    };
    with(with(attrs, "activation_alpha", alphas), "activation_beta", betas)
}
