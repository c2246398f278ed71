//! What arrives: requests of one kind, or a mix of classes, tenants or lengths.

use crate::support::Made;
use clap::ValueEnum;
use onrush::{Result, SubmitOptions, Tensor, ValueInfo};

/// Which kinds of requests arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// All alike.
    None,
    /// One in ten is urgent (priority 0), the others are not (priority 2).
    Priorities,
    /// A victim (tenant 1), and an aggressor (tenant 2) that asks ten times as often.
    Tenants,
    /// One in ten has twenty times the rows.
    Jobs,
}

/// Requests that are alike.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Its part of all arrivals.
    pub(crate) share: f64,
    pub(crate) options: SubmitOptions,
    /// The priority in the options; lower is more urgent.
    pub(crate) urgency: u8,
    pub(crate) inputs: Vec<Tensor>,
}

impl Mix {
    /// The kinds, with inputs made up for a model.
    pub(crate) fn kinds(self, made: &Made<'_>, infos: &[ValueInfo]) -> Result<Vec<Kind>> {
        let options = SubmitOptions::new();
        let kinds: &[(&'static str, f64, SubmitOptions, u8, usize)] = match self {
            Mix::None => &[("all", 1.0, options, 1, 1)],
            Mix::Priorities => &[("urgent", 0.1, options, 0, 1), ("other", 0.9, options, 2, 1)],
            Mix::Tenants => {
                &[("victim", 1.0 / 11.0, options.tenant(1), 1, 1), ("aggressor", 10.0 / 11.0, options.tenant(2), 1, 1)]
            }
            Mix::Jobs => &[("short", 0.9, options, 1, 1), ("long", 0.1, options, 1, 20)],
        };
        let kind = |&(name, share, options, urgency, rows): &(&'static str, f64, SubmitOptions, u8, usize)| {
            let inputs = Made { batch: made.batch * rows, ..made.clone() }.inputs(infos)?;
            Ok(Kind { name, share, options: options.priority(urgency), urgency, inputs })
        };
        kinds.iter().map(kind).collect()
    }
}

/// Draws kinds by their shares, the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    kinds: &'a [Kind],
    random: fastrand::Rng,
}

impl<'a> Draw<'a> {
    pub(crate) fn new(kinds: &'a [Kind], seed: u64) -> Self {
        Draw { kinds, random: fastrand::Rng::with_seed(seed) }
    }

    /// The position of the next kind, and the kind.
    pub(crate) fn next(&mut self) -> (usize, &'a Kind) {
        let mut left = self.random.f64();
        let last = self.kinds.len() - 1;
        let found = self.kinds.iter().position(|kind| {
            left -= kind.share;
            left < 0.0
        });
        let at = found.unwrap_or(last);
        (at, &self.kinds[at])
    }
}
