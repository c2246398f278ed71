//! Spans and events for `tracing`, behind the feature of that name. Without it everything here is empty and costs nothing.
//!
//! Spans: `submit`, `form`, `run`, `scatter`. Events: a batch that was formed, a refusal, a quarantine, a move of the
//! feedback controller. The target is `onrush`.

#[cfg(not(feature = "tracing"))]
pub(super) use off::*;
#[cfg(feature = "tracing")]
pub(super) use on::*;

#[cfg(feature = "tracing")]
mod on {
    use super::super::options::Reason;
    use crate::monitor::Move;
    use tracing::{Level, event, span};

    /// A span that is open while this lives.
    pub(in super::super) struct Span(#[expect(dead_code, reason = "held for its drop")] tracing::span::EnteredSpan);

    /// A request is admitted and put into a lane.
    pub(in super::super) fn submit() -> Span {
        Span(span!(target: "onrush", Level::TRACE, "submit").entered())
    }

    /// A look at the queue.
    pub(in super::super) fn form(slot: usize) -> Span {
        Span(span!(target: "onrush", Level::TRACE, "form", slot).entered())
    }

    /// The look found a batch.
    pub(in super::super) fn formed(slot: usize, requests: usize) {
        event!(target: "onrush", Level::DEBUG, slot, requests, "batch formed");
    }

    /// A batch runs: its inputs are stacked, it computes, its outputs are split.
    pub(in super::super) fn run(slot: usize, group: u64, rows: u32) -> Span {
        Span(span!(target: "onrush", Level::DEBUG, "run", slot, group, rows).entered())
    }

    /// The answers of a batch are handed out.
    pub(in super::super) fn scatter(slot: usize) -> Span {
        Span(span!(target: "onrush", Level::TRACE, "scatter", slot).entered())
    }

    /// A request was not taken in.
    pub(in super::super) fn refused(reason: &Reason) {
        event!(target: "onrush", Level::DEBUG, %reason, "refused");
    }

    /// A model rests because it kept panicking.
    pub(in super::super) fn quarantined(model: &str) {
        event!(target: "onrush", Level::WARN, model, "quarantined");
    }

    /// The feedback controller moved something.
    pub(in super::super) fn moved(step: &Move) {
        event!(target: "onrush", Level::INFO, %step, "moved");
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use super::super::options::Reason;
    use crate::monitor::Move;

    /// Nothing; it has a destructor so that both forms are held alike.
    pub(in super::super) struct Span;

    impl Drop for Span {
        #[inline(always)]
        fn drop(&mut self) {}
    }

    #[inline(always)]
    pub(in super::super) fn submit() -> Span {
        Span
    }

    #[inline(always)]
    pub(in super::super) fn form(_slot: usize) -> Span {
        Span
    }

    #[inline(always)]
    pub(in super::super) fn formed(_slot: usize, _requests: usize) {}

    #[inline(always)]
    pub(in super::super) fn run(_slot: usize, _group: u64, _rows: u32) -> Span {
        Span
    }

    #[inline(always)]
    pub(in super::super) fn scatter(_slot: usize) -> Span {
        Span
    }

    #[inline(always)]
    pub(in super::super) fn refused(_reason: &Reason) {}

    #[inline(always)]
    pub(in super::super) fn quarantined(_model: &str) {}

    #[inline(always)]
    pub(in super::super) fn moved(_step: &Move) {}
}
