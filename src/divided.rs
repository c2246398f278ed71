//! A request of many rows, divided over the replicas and merged again: bit for bit what it would be undivided, since a
//! row's answer does not depend on its neighbors.

use crate::engine::{Engine, RefusedFeeds};
use crate::error::{Result, bail, ensure, err};
use crate::exec::{GroupTicket, Pinned, SubmitOptions, Submitting, Ticket};
use crate::feeds::Outputs;
use crate::model::CompiledModel;
use crate::runner::ModelRunner;
use crate::stacking::{BatchAxes, stack, unstack, with_length};
use crate::tensor::Tensor;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How the parts come together.
#[derive(Debug, Clone)]
pub(crate) struct Merge {
    model: CompiledModel,
    /// The axis of the rows of each output; `None` where there is only one part.
    axes: Option<Arc<[usize]>>,
    rows: usize,
}

/// The inputs of each part: as many parts as there are replicas, or more where one could not take its part in a batch.
pub(crate) fn divide(
    runner: &ModelRunner,
    tensors: &[Tensor],
    replicas: usize,
    max_rows: usize,
) -> Result<(Vec<Vec<Tensor>>, Merge)> {
    let model = runner.model().clone();
    model.check_tensors(tensors)?;
    let axes = runner.axes().filter(|axes| axes.all());
    let Some(axes) = axes else {
        return Ok((vec![tensors.to_vec()], Merge { model, axes: None, rows: 1 }));
    };
    let rows = axes.rows(model.inputs(), tensors)?;
    let count = replicas.max(rows.div_ceil(max_rows.max(1))).clamp(1, rows.max(1));
    if count == 1 {
        return Ok((vec![tensors.to_vec()], Merge { model, axes: None, rows }));
    }
    let shapes: Vec<_> = tensors.iter().map(|tensor| tensor.shape().clone()).collect();
    let Some(output_axes) = runner.output_axes(axes, &shapes)? else {
        return Ok((vec![tensors.to_vec()], Merge { model, axes: None, rows }));
    };
    Ok((split(tensors, axes, rows, count)?, Merge { model, axes: Some(output_axes), rows }))
}

/// Divides `rows` rows into `count` parts, no two of which differ by more than one row.
pub(crate) fn split(tensors: &[Tensor], axes: &BatchAxes, rows: usize, count: usize) -> Result<Vec<Vec<Tensor>>> {
    let mut parts = Vec::with_capacity(count);
    let mut first = 0;
    for part in 0..count {
        let own = rows / count + usize::from(part < rows % count);
        let slices = tensors.iter().zip(&axes.inputs).map(|(tensor, axis)| {
            let axis = axis.ok_or_else(|| err!(Internal, "an input without rows was to be divided"))?;
            let shape = tensor.shape();
            let mut slice = Tensor::zeros(tensor.dtype(), with_length(shape, axis, own))?;
            let bytes = slice.as_bytes_mut().unwrap_or_default();
            unstack(bytes, tensor.as_bytes(), shape, tensor.dtype().size(), axis, first, own);
            Ok(slice)
        });
        parts.push(slices.collect::<Result<Vec<_>>>()?);
        first += own;
    }
    Ok(parts)
}

/// Puts the outputs of the parts of `rows` rows together; `axes` are those of the rows.
pub(crate) fn join(parts: &[Vec<Tensor>], axes: &[usize], rows: usize) -> Result<Vec<Tensor>> {
    let whole = axes.iter().enumerate().map(|(output, &axis)| {
        let pieces: Option<Vec<&Tensor>> = parts.iter().map(|part| part.get(output)).collect();
        let Some([first, ..]) = pieces.as_deref() else { bail!(Internal, "a part without output {output}") };
        let mut whole = Tensor::zeros(first.dtype(), with_length(first.shape(), axis, rows))?;
        let bytes = whole.as_bytes_mut().unwrap_or_default();
        let mut row = 0;
        for piece in pieces.iter().flatten() {
            stack(bytes, rows, row, axis, piece);
            row += piece.shape().get(axis).copied().unwrap_or(0);
        }
        ensure!(row == rows, Internal, "{row} rows came back of {rows}");
        Ok(whole)
    });
    whole.collect()
}

impl Merge {
    fn merge(&self, answers: Vec<Result<Outputs>>) -> Result<Outputs> {
        let parts: Vec<Vec<Tensor>> =
            answers.into_iter().map(|answer| answer.map(Outputs::into_vec)).collect::<Result<_>>()?;
        let Some(axes) = &self.axes else {
            let whole = parts.into_iter().next().ok_or_else(|| err!(Internal, "a request without parts"))?;
            return Ok(self.model.name_outputs(whole));
        };
        Ok(self.model.name_outputs(join(&parts, axes, self.rows)?))
    }
}

/// The claim to the answer of a divided request: a future, or something to [`wait`](DividedTicket::wait) for. Dropping it
/// cancels all parts. There is an answer only where every part has one; a part that fails leaves the others alone.
#[must_use = "dropping a ticket cancels its request"]
#[derive(Debug)]
pub struct DividedTicket {
    tickets: GroupTicket<ModelRunner>,
    merge: Merge,
}

impl DividedTicket {
    pub(crate) fn new(tickets: GroupTicket<ModelRunner>, merge: Merge) -> Self {
        DividedTicket { tickets, merge }
    }

    /// How many parts there are.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.tickets.len()
    }

    /// Whether all parts have ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.tickets.is_done()
    }

    /// Gives the request up: no part runs that still waits, and those that run stop at their next checkpoint.
    pub fn cancel(self) {
        drop(self);
    }

    /// Waits for all parts and merges them.
    ///
    /// # Errors
    /// The error of the first part, in the order of the rows, that failed; the other parts have ended by then.
    pub fn wait(self) -> Result<Outputs> {
        self.merge.merge(self.tickets.wait())
    }
}

impl Future for DividedTicket {
    type Output = Result<Outputs>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.tickets).poll(context).map(|answers| self.merge.merge(answers))
    }
}

/// A request that was divided, before its parts are taken in.
pub(crate) struct Division<'a> {
    pub(crate) pinned: Pinned<'a, ModelRunner>,
    /// The whole, to be given back where a part is refused.
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) parts: Vec<Vec<Tensor>>,
    pub(crate) merge: Merge,
    pub(crate) options: SubmitOptions,
}

/// A divided request on its way in; made by [`Engine::submit_divided_async`]. Dropping it takes back the parts that are in.
#[must_use = "a future does nothing until it is polled"]
pub struct SubmittingDivided<'a> {
    engine: &'a Engine,
    pinned: Pinned<'a, ModelRunner>,
    tensors: Vec<Tensor>,
    parts: std::vec::IntoIter<Vec<Tensor>>,
    merge: Option<Merge>,
    options: SubmitOptions,
    /// The part that waits for room.
    part: Option<Submitting<'a, ModelRunner>>,
    tickets: Vec<Ticket<ModelRunner>>,
}

impl<'a> SubmittingDivided<'a> {
    pub(crate) fn new(engine: &'a Engine, division: Division<'a>) -> Self {
        let Division { pinned, tensors, parts, merge, options } = division;
        let (parts, merge) = (parts.into_iter(), Some(merge));
        SubmittingDivided { engine, pinned, tensors, parts, merge, options, part: None, tickets: Vec::new() }
    }

    /// The part that comes next, on its way in.
    fn next_part(&mut self) -> Option<Submitting<'a, ModelRunner>> {
        let part = self.parts.next()?;
        Some(self.engine.executor().submit_async_to(self.pinned.clone(), part, self.options))
    }
}

impl Future for SubmittingDivided<'_> {
    type Output = Result<DividedTicket, RefusedFeeds>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let Some(mut part) = this.part.take().or_else(|| this.next_part()) else { break };
            match Pin::new(&mut part).poll(context) {
                Poll::Ready(Ok(ticket)) => this.tickets.push(ticket),
                Poll::Ready(Err(refused)) => {
                    // Those before it are dropped, which cancels them.
                    this.tickets.clear();
                    (this.parts, this.merge) = (Vec::new().into_iter(), None);
                    return Poll::Ready(Err(refused.map(|_| std::mem::take(&mut this.tensors))));
                }
                Poll::Pending => {
                    this.part = Some(part);
                    return Poll::Pending;
                }
            }
        }
        let tickets = GroupTicket::new(std::mem::take(&mut this.tickets));
        match this.merge.take() {
            Some(merge) => Poll::Ready(Ok(DividedTicket::new(tickets, merge))),
            None => Poll::Pending,
        }
    }
}

impl std::fmt::Debug for SubmittingDivided<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubmittingDivided").field("taken_in", &self.tickets.len()).finish_non_exhaustive()
    }
}
