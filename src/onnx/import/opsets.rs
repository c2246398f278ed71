//! Which version of which domain a model speaks.

use crate::error::{Result, bail, ensure, err};
use crate::onnx::limits::LoadOptions;
use crate::onnx::proto::OperatorSetIdProto;
use std::collections::HashMap;

/// The oldest opset that is read throughout.
pub(super) const OLDEST: u32 = 7;
/// The newest opset that is known.
pub(super) const NEWEST: u32 = 27;

/// Operators whose form at opset 7 was there already at an older one: (name, since). Everything that is older than
/// opset 7 and not listed here meant something else then.
const SETTLED_BEFORE_7: &[(&str, u32)] = &[
    ("Abs", 6),
    ("ArgMax", 1),
    ("ArgMin", 1),
    ("Cast", 6),
    ("Ceil", 6),
    ("Clip", 6),
    ("Concat", 4),
    ("Constant", 1),
    ("Conv", 1),
    ("ConvTranspose", 1),
    ("DepthToSpace", 1),
    ("Elu", 6),
    ("Exp", 6),
    ("Flatten", 1),
    ("Floor", 6),
    ("Gather", 1),
    ("GlobalAveragePool", 1),
    ("GlobalLpPool", 2),
    ("GlobalMaxPool", 1),
    ("HardSigmoid", 6),
    ("Hardmax", 1),
    ("Identity", 1),
    ("If", 1),
    ("InstanceNormalization", 6),
    ("LRN", 1),
    ("LeakyRelu", 6),
    ("Log", 6),
    ("LogSoftmax", 1),
    ("Loop", 1),
    ("LpNormalization", 1),
    ("LpPool", 2),
    ("MatMul", 1),
    ("Max", 6),
    ("MaxPool", 1),
    ("MaxRoiPool", 1),
    ("Mean", 6),
    ("Min", 6),
    ("Neg", 6),
    ("Not", 1),
    ("Pad", 2),
    ("RandomNormal", 1),
    ("RandomNormalLike", 1),
    ("RandomUniform", 1),
    ("RandomUniformLike", 1),
    ("Reciprocal", 6),
    ("ReduceL1", 1),
    ("ReduceL2", 1),
    ("ReduceLogSum", 1),
    ("ReduceLogSumExp", 1),
    ("ReduceMax", 1),
    ("ReduceMean", 1),
    ("ReduceMin", 1),
    ("ReduceProd", 1),
    ("ReduceSum", 1),
    ("ReduceSumSquare", 1),
    ("Relu", 6),
    ("Reshape", 5),
    ("Selu", 6),
    ("Shape", 1),
    ("Sigmoid", 6),
    ("Size", 1),
    ("Slice", 1),
    ("Softmax", 1),
    ("Softplus", 1),
    ("Softsign", 1),
    ("SpaceToDepth", 1),
    ("Split", 2),
    ("Sqrt", 6),
    ("Squeeze", 1),
    ("Sum", 6),
    ("Tanh", 6),
    ("Tile", 6),
    ("TopK", 1),
    ("Transpose", 1),
    ("Unsqueeze", 1),
];

/// The opsets that a model or a function imports.
#[derive(Debug, Clone, Default)]
pub(super) struct Opsets(HashMap<String, u32>);

/// The empty name for both names of ONNX's own domain.
pub(super) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Opsets {
    /// Checks the imports. A model of the very first format, which had none, speaks opset 1.
    pub(super) fn read(imports: &[OperatorSetIdProto], ir_version: i64, options: &LoadOptions) -> Result<Self> {
        let mut versions = HashMap::new();
        for import in imports {
            let domain = canonical_domain(&import.domain);
            let Ok(mut version) = u32::try_from(import.version) else {
                bail!(InvalidModel, "opset_import: version {} of domain {domain:?}", import.version);
            };
            if domain.is_empty() {
                ensure!(version > 0, InvalidModel, "opset_import: version 0");
                if version > NEWEST {
                    ensure!(
                        options.allow_newer_opset,
                        Unsupported,
                        "opset_import: opset {version} is newer than {NEWEST}, the newest known; \
                         LoadOptions::allow_newer_opset reads it as {NEWEST}"
                    );
                    version = NEWEST;
                }
            }
            if let Some(other) = versions.insert(domain.to_owned(), version) {
                ensure!(other == version, InvalidModel, "opset_import: {other} and {version} of domain {domain:?}");
            }
        }
        if imports.is_empty() && ir_version < 3 {
            versions.insert(String::new(), 1);
        }
        Ok(Opsets(versions))
    }

    /// The version of a domain.
    pub(super) fn get(&self, domain: &str) -> Option<u32> {
        self.0.get(domain).copied()
    }

    /// The version of a domain, for an operator in it.
    pub(super) fn of(&self, domain: &str, op_type: &str) -> Result<u32> {
        let version = self
            .get(domain)
            .ok_or_else(|| err!(InvalidModel, "opset_import has no version for domain {:?}", shown(domain)))?;
        if domain.is_empty() && version < OLDEST {
            let settled = SETTLED_BEFORE_7.iter().any(|&(name, since)| name == op_type && since <= version);
            ensure!(
                settled,
                Unsupported,
                "{op_type} at opset {version}; before opset {OLDEST} only operators are read whose form has not \
                 changed since; convert the model to opset {OLDEST} or later"
            );
        }
        Ok(version)
    }

    /// The same, with what is missing taken from `other`.
    pub(super) fn or(mut self, other: &Opsets) -> Self {
        for (domain, version) in &other.0 {
            self.0.entry(domain.clone()).or_insert(*version);
        }
        self
    }

    /// Domain and version, sorted.
    pub(super) fn to_list(&self) -> Vec<(String, u32)> {
        let mut list: Vec<_> = self.0.iter().map(|(d, v)| (d.clone(), *v)).collect();
        crate::order::sort(&mut list);
        list
    }
}

/// The name of a domain as a reader knows it.
pub(super) fn shown(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}
