//! Convolutions in cascade, channels last, in one step: strip by strip of the last one's lines, so that what lies between
//! them stays in the second cache.
//!
//! ```text
//! for each strip of lines of the output:
//!     from the last convolution to the first: the lines of its input that its strip needs, less those that are held
//!     from the first to the last: compute those lines from the strip before
//! ```
//! 1. Lines that two strips need move to the front of their strip: none is computed twice but where threads meet.
//! 2. Every convolution runs the kernels that it would run alone, on a strip as on an image of its own, padded where the
//!    image is. So the bits are the same.

use super::arena::Io;
use super::convolution::{Convolution, geometry};
use super::kernel::{Context, Division, Kernel, Spec};
use crate::backend::{Program, Weights};
use crate::error::{Result, bail, ensure};
use crate::kernels::arch::Isa;
use crate::kernels::conv::Geometry;
use crate::kernels::{Matrix, MatrixMut, gemm};
use crate::ops::fused::{Chain, ChannelsLast, Epilogue};
use crate::ops::nn::Conv;
use crate::tensor::DType;
use std::ops::Range;

/// Bytes of all strips, beside which what the first reads and the last writes stay in the second cache.
const STRIPS_BYTES: usize = 512 * 1024;

/// Bytes of weights that stay there as well.
const WEIGHTS_BYTES: usize = 256 * 1024;

/// Bytes between two convolutions that would not stay there, and so are worth it.
const WHOLE_BYTES: usize = 1024 * 1024;

/// Convolutions in one step, at most: a depthwise one, the one before, and a pointwise one behind.
const MOST_STAGES: usize = 3;

/// Whether these steps are worth it.
pub(super) fn joins(run: &Program) -> bool {
    if run.steps.len() > MOST_STAGES {
        return false;
    }
    let (weights, mut bytes) = (Weights::new(), 0usize);
    let mut stages: Vec<Geometry> = Vec::with_capacity(run.steps.len());
    for (position, step) in run.steps.iter().enumerate() {
        let spec = Spec::new(step, run, &weights);
        let Some((geometry, batch)) = described(&spec) else { return false };
        let whole = batch.saturating_mul(geometry.input_pixels()).saturating_mul(geometry.channels * 4);
        let fits = match stages.iter().position(is_depthwise) {
            // Winograd's tiles are several lines high.
            _ if position == 0 => !geometry.suits_winograd(),
            None => is_depthwise(&geometry),
            Some(depthwise) => depthwise + 1 == position && geometry.groups == 1 && geometry.is_pointwise(),
        };
        if !fits || (position > 0 && whole <= WHOLE_BYTES) {
            return false;
        }
        bytes = bytes.saturating_add(geometry.weights_len().saturating_mul(4));
        stages.push(geometry);
    }
    bytes <= WEIGHTS_BYTES && lines(&stages).is_some()
}

/// The convolution of f32 that a step is, and the number of images.
fn described(spec: &Spec<'_>) -> Option<(Geometry, usize)> {
    let last = spec.op::<ChannelsLast>().filter(|_| spec.all(DType::F32))?;
    let epilogue = last.op.downcast_ref::<Epilogue>();
    let conv = epilogue.map_or(&last.op, |e| &e.op).downcast_ref::<Conv>()?;
    let input = spec.shape(0)?;
    let geometry = geometry(conv, input, spec.constant(1)?.shape()).ok()??;
    geometry.validate().ok()?;
    Some((geometry, *input.first()?))
}

fn is_depthwise(g: &Geometry) -> bool {
    g.groups > 1 && g.groups == g.channels && g.groups == g.filters
}

/// Lines that an output line sees.
fn reach(g: &Geometry) -> usize {
    (g.kernel[0] - 1) * g.dilations[0] + 1
}

/// For a strip of `lines` lines of the last convolution, the lines of each strip before it: of what all but the first read.
fn heights(stages: &[Geometry], lines: usize) -> [usize; MOST_STAGES] {
    let (mut heights, mut lines) = ([0; MOST_STAGES], lines);
    for (g, height) in stages.iter().zip(&mut heights).skip(1).rev() {
        lines = ((lines.max(1) - 1) * g.strides[0] + reach(g)).min(g.input[0]);
        *height = lines;
    }
    heights
}

fn line_bytes(g: &Geometry) -> usize {
    g.input[1] * g.channels * 4
}

/// The most lines of the last convolution whose strips fit, where most lines of a strip are new.
fn lines(stages: &[Geometry]) -> Option<usize> {
    let bytes = |lines: usize| {
        let strips = stages.iter().zip(heights(stages, lines)).skip(1);
        strips.map(|(g, height)| (height * line_bytes(g)).next_multiple_of(64)).sum::<usize>()
    };
    let height = stages.last()?.output()[0];
    let lines = (1..=height).rev().find(|lines| bytes(*lines) <= STRIPS_BYTES)?;
    let heights = heights(stages, lines);
    let tall = |(g, height): (&Geometry, usize)| height == g.input[0] || height >= 3 * (reach(g) - 1);
    stages.iter().zip(heights).skip(1).all(tall).then_some(lines)
}

/// Convolutions, each of which takes what the one before makes.
#[derive(Debug)]
pub(super) struct Cascade {
    stages: Vec<Stage>,
    batch: usize,
    /// Lines of the output in one strip, at most.
    lines: usize,
}

#[derive(Debug)]
struct Stage {
    convolution: Convolution,
    /// What is added to the index of an input of its own, but for its first.
    offset: usize,
    /// Where the strip that it reads begins in the workspace, and the bytes of that.
    strip: Range<usize>,
}

impl Cascade {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let (Some(_), [Some(run)]) = (spec.op::<Chain>(), &spec.instruction.bodies[..]) else { return Ok(None) };
        let mut convolutions = Vec::with_capacity(run.steps.len());
        for step in &run.steps {
            let Some(convolution) = Convolution::new(&Spec::new(step, run, spec.weights), isa)? else {
                return Ok(None);
            };
            convolutions.push(convolution);
        }
        let geometries: Vec<Geometry> = convolutions.iter().map(|c| *c.conv.geometry()).collect();
        let (Some(lines), Some(first)) = (lines(&geometries), convolutions.first()) else { return Ok(None) };
        let (batch, heights) = (first.batch, heights(&geometries, lines));
        let (mut offset, mut end) = (0, 0);
        let mut stages = Vec::with_capacity(convolutions.len());
        for (position, (convolution, step)) in convolutions.into_iter().zip(&run.steps).enumerate() {
            let start = end;
            if position > 0 {
                end = (start + heights[position] * line_bytes(convolution.conv.geometry())).next_multiple_of(64);
            }
            stages.push(Stage { convolution, offset, strip: start..end });
            offset += step.inputs.len() - 1;
        }
        Ok(Some(Cascade { stages, batch, lines }))
    }

    fn output(&self) -> [usize; 2] {
        self.stages.last().map_or([0; 2], |last| last.convolution.conv.geometry().output())
    }
}

impl Kernel for Cascade {
    fn name(&self) -> String {
        let names: Vec<String> = self.stages.iter().map(|stage| stage.convolution.name()).collect();
        names.join(", ")
    }

    fn workspace(&self) -> usize {
        self.stages.last().map_or(0, |last| last.strip.end)
    }

    fn division(&self) -> Division {
        Division::units(self.batch * self.output()[0], 1)
    }

    fn weights(&self, _part: usize, _of: usize) -> &[u8] {
        self.stages.first().map_or(&[], |first| first.convolution.conv.bytes_from(0))
    }

    fn run(&self, io: &Io<'_>, context: &mut Context<'_>) -> Result<()> {
        let [height, width] = self.output();
        let Some(last) = self.stages.last() else { bail!(Internal, "no convolution") };
        let mut output = io.output_matrix::<f32>(0, last.convolution.conv.geometry().filters)?;
        let Range { start: mut done, end } = io.share();
        while done < end {
            let (image, first) = (done / height, done % height);
            let of_image = first..height.min(first + end - done);
            let strips = of_image.len().div_ceil(self.lines);
            // Lines of the image that each strip holds.
            let mut held: [Range<usize>; MOST_STAGES] = Default::default();
            for n in 0..strips {
                let start = |n: usize| of_image.start + of_image.len() * n / strips;
                let lines = start(n)..start(n + 1);
                let (now, rest) = output.split_rows(lines.len() * width);
                output = rest;
                let next = if n + 1 == strips { context.next } else { &[] };
                let hints = gemm::Epilogue { next, pack_rows: context.pack_rows, ..Default::default() };
                self.strip(io, context.workspace, &mut held, (image, lines), now, hints)?;
            }
            done += of_image.len();
        }
        Ok(())
    }
}

impl Cascade {
    /// One strip of the output of an image; `hints` say how products read, and nothing else.
    fn strip(
        &self,
        io: &Io<'_>,
        workspace: &mut [u8],
        held: &mut [Range<usize>; MOST_STAGES],
        (image, lines): (usize, Range<usize>),
        output: MatrixMut<'_, f32>,
        hints: gemm::Epilogue<'_>,
    ) -> Result<()> {
        // What each stage computes, and the lines that it sees of the strip before it.
        let mut new: [Range<usize>; MOST_STAGES] = Default::default();
        let mut seen: [Range<usize>; MOST_STAGES] = Default::default();
        let last = self.stages.len() - 1;
        new[last] = lines;
        for (position, stage) in self.stages.iter().enumerate().skip(1).rev() {
            let g = stage.convolution.conv.geometry();
            let (_, rows) = g.strip(&new[position]);
            let (line, old) = (line_bytes(g), &held[position]);
            let keep = if old.contains(&rows.start) { old.end.min(rows.end) - rows.start } else { 0 };
            if keep > 0 {
                let from = stage.strip.start + (rows.start - old.start) * line;
                workspace.copy_within(from..from + keep * line, stage.strip.start);
            }
            ensure!(rows.len() * line <= stage.strip.len(), Internal, "a strip of {} lines", rows.len());
            held[position] = rows.clone();
            new[position - 1] = rows.start + keep..rows.end;
            seen[position] = rows;
        }
        let mut output = Some(output);
        for (position, stage) in self.stages.iter().enumerate() {
            let g = stage.convolution.conv.geometry();
            let lines = new[position].clone();
            if lines.is_empty() {
                continue;
            }
            let at = stage.strip.end.min(workspace.len());
            let (before, behind) = workspace.split_at_mut(at);
            let out_width = g.output()[1];
            let output = match self.stages.get(position + 1) {
                None => match output.take() {
                    Some(output) => output,
                    None => bail!(Internal, "two last convolutions"),
                },
                Some(after) => {
                    let bytes = &mut behind[after.strip.start - at..after.strip.end - at];
                    let line = out_width * g.filters;
                    let keep = lines.start - seen[position + 1].start;
                    let rows: &mut [f32] = &mut bytemuck::cast_slice_mut(bytes)[keep * line..];
                    MatrixMut::dense(rows, lines.len() * out_width, g.filters)
                }
            };
            let whole = image * g.output()[0];
            let rows = (whole + lines.start) * out_width..(whole + lines.end) * out_width;
            let hints = if position == last { hints } else { gemm::Epilogue { next: &[], ..hints } };
            if position == 0 {
                let input = Matrix::dense(io.input(0)?, self.batch * g.input_pixels(), g.channels);
                let total = self.batch * g.output_pixels();
                let epilogue = stage.epilogue(io, 0..total, hints)?;
                stage.convolution.conv.run_rows(input, rows, total, output, &epilogue);
            } else {
                let (conv, seen) = stage.convolution.conv.strip(&lines);
                let strip: &[f32] = bytemuck::cast_slice(&before[stage.strip.clone()]);
                let input = Matrix::dense(strip, seen.len() * g.input[1], g.channels);
                conv.run(input, output, &stage.epilogue(io, rows, hints)?);
            }
        }
        Ok(())
    }
}

impl Stage {
    /// What is done to the pixels `rows` of the output.
    fn epilogue<'a>(&self, io: &Io<'a>, rows: Range<usize>, hints: gemm::Epilogue<'a>) -> Result<gemm::Epilogue<'a>> {
        let (c, filters) = (&self.convolution, self.convolution.conv.geometry().filters);
        let residual = match c.residual {
            None => None,
            Some(index) => {
                let elements: &[f32] = io.input(self.offset + index)?;
                let own = elements.get(rows.start * filters..rows.end * filters);
                let Some(own) = own else { bail!(Internal, "a residual of {} elements", elements.len()) };
                Some(gemm::Residual::Before(Matrix::dense(own, rows.len(), filters)))
            }
        };
        let bias = c.bias.map(|index| io.input(self.offset + index)).transpose()?;
        Ok(gemm::Epilogue { bias, residual, activation: c.activation, ..hints })
    }
}
