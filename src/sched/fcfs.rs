//! First come, first served.

use super::{Decision, Policy, View};

/// The request that arrived first opens the batch; others join in order of arrival.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstCome;

impl Policy for FirstCome {
    fn name(&self) -> &str {
        "first-come"
    }

    fn decide(&mut self, view: &View<'_>, decision: &mut Decision) {
        view.form(0..view.waiting.len(), decision);
    }
}
