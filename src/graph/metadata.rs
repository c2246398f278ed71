//! What a model file says beside what it computes: who wrote it, what it is for, remarks on its parts. It is carried from
//! file to file and read by nothing that computes.

use crate::tensor::Dim;
use std::collections::BTreeMap;

/// What a file says of a model and of its parts.
///
/// ```
/// use onrush::graph::{Graph, Metadata};
/// let mut graph = Graph::new("empty");
/// let mut metadata = Metadata::default();
/// metadata.properties.push(("author".to_owned(), "me".to_owned()));
/// graph.set_metadata(metadata);
/// assert_eq!(graph.metadata().properties[0].1, "me");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The tool that wrote the file.
    pub producer_name: String,
    /// The version of that tool.
    pub producer_version: String,
    /// Reverse-DNS name of where the model comes from.
    pub domain: String,
    /// The model's own version, as its author counts.
    pub model_version: i64,
    /// What the author says about the model.
    pub doc_string: String,
    /// Key and value pairs of the model.
    pub properties: Vec<(String, String)>,
    /// On the graph itself.
    pub graph: Remark,
    /// On nodes, by the name of the first output that they have.
    pub nodes: BTreeMap<String, Remark>,
    /// On inputs, outputs and other values, by name.
    pub values: BTreeMap<String, Remark>,
    /// The axes that the file declares for outputs of which inference does not even know how many they have, by name.
    pub declared: BTreeMap<String, Vec<Dim>>,
}

/// What a file says of one part of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remark {
    /// A text for people.
    pub doc_string: String,
    /// Key and value pairs.
    pub properties: Vec<(String, String)>,
}

impl Remark {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.doc_string.is_empty() && self.properties.is_empty()
    }
}
