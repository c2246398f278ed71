//! Products of unsigned bytes and packed signed bytes: exact sums, then real numbers, then bytes again where wanted.

use super::super::arch::Isa;
use super::super::view::{Matrix, MatrixMut};
use super::driver::RowPointers;
use super::epilogue::{Activation, Residual};
use super::finish::{ByteResidual, Finish, FinishThrough, Rescale, Store};
use super::output::Extremes;
use super::pack_bytes::{PackedBytes, panel_width};
use super::part::{Operand, Part, Strided, drive};
use super::product::Bytes;
use super::strips::Strips;
use half::{bf16, f16};
use std::marker::PhantomData;
use std::ops::Range;

/// What is done to an integer sum, in this order:
///
/// `i = sum(a * b) - zero_point * sum(b) + bias[c]`, exactly; then `v = i * column_scale[c] * row_scale[r] + shift[c]`,
/// the residuals and the activation as in [`Epilogue`](super::Epilogue), in f32; then what [`ByteOutput`] stores.
/// Only an i32 output takes `i` itself. The default does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByteEpilogue<'a> {
    /// The zero point of A.
    pub zero_point: i32,
    /// One integer a column.
    pub bias: Option<&'a [i32]>,
    /// One factor a column.
    pub column_scale: Option<&'a [f32]>,
    /// One factor a row.
    pub row_scale: Option<&'a [f32]>,
    /// One real summand a column.
    pub shift: Option<&'a [f32]>,
    /// One real summand an element; the output's own content only of an f32 output.
    pub residual: Option<Residual<'a>>,
    /// One quantized summand an element, added before the activation.
    pub byte_residual: Option<QuantizedResidual<'a>>,
    /// Applied last, or just before the residual.
    pub activation: Activation,
    /// A first rounding, and what follows it before the store.
    pub through: Option<Through<'a>>,
    /// Told what is written, where that is f32; see [`Epilogue::extremes`](super::Epilogue::extremes).
    pub extremes: Option<&'a Extremes>,
    /// What will be read after this product; see [`Epilogue::next`](super::Epilogue::next).
    pub next: &'a [u8],
    /// How rows are read; see [`Epilogue::pack_rows`](super::Epilogue::pack_rows).
    pub pack_rows: Option<bool>,
}

/// A value that is quantized on the way, as `q = round(v * factor)` kept in `least..=most`, and goes on as
/// `q * scale + shift[c] + residual`.
#[derive(Debug, Clone, Copy)]
pub struct Through<'a> {
    /// One over the scale that it is quantized with; 1 where the scales before already hold it.
    pub factor: f32,
    /// The least and the greatest integer, less the zero point.
    pub limits: (i32, i32),
    /// The real value of a step, or what the output's factor makes of it.
    pub scale: f32,
    /// One real summand a column.
    pub shift: Option<&'a [f32]>,
    /// One quantized summand an element.
    pub residual: Option<QuantizedResidual<'a>>,
}

/// Summands `(q - zero_point) * scale`.
#[derive(Debug, Clone, Copy)]
pub struct QuantizedResidual<'a> {
    /// The bytes; signed ones are taken as unsigned, 128 up.
    pub data: Matrix<'a, u8>,
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero_point: i32,
}

/// Where the results go, and as what.
#[derive(Debug)]
#[non_exhaustive]
pub enum ByteOutput<'a> {
    /// The exact integers, before all scales.
    I32(MatrixMut<'a, i32>),
    /// Real numbers.
    F32(MatrixMut<'a, f32>),
    /// The nearest half-precision numbers, ties to even.
    F16(MatrixMut<'a, f16>),
    /// The nearest bfloat16, ties to even.
    Bf16(MatrixMut<'a, bf16>),
    /// `saturate(round(v * factor) + zero_point)`, ties to even.
    U8(MatrixMut<'a, u8>, Requantize),
    /// The same in signed bytes.
    I8(MatrixMut<'a, i8>, Requantize),
}

/// How real numbers become bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requantize {
    /// One over the output's scale; 1 where the scales before already hold it.
    pub factor: f32,
    /// The output's zero point.
    pub zero_point: i32,
}

impl ByteOutput<'_> {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            ByteOutput::I32(out) => out.rows(),
            ByteOutput::F32(out) => out.rows(),
            ByteOutput::F16(out) => out.rows(),
            ByteOutput::Bf16(out) => out.rows(),
            ByteOutput::U8(out, _) => out.rows(),
            ByteOutput::I8(out, _) => out.rows(),
        }
    }

    /// Elements of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        match self {
            ByteOutput::I32(out) => out.cols(),
            ByteOutput::F32(out) => out.cols(),
            ByteOutput::F16(out) => out.cols(),
            ByteOutput::Bf16(out) => out.cols(),
            ByteOutput::U8(out, _) => out.cols(),
            ByteOutput::I8(out, _) => out.cols(),
        }
    }

    /// The same output for a shorter time, its columns of `range` alone.
    pub(in crate::kernels) fn columns(&mut self, range: Range<usize>) -> ByteOutput<'_> {
        match self {
            ByteOutput::I32(out) => ByteOutput::I32(out.reborrow().columns(range)),
            ByteOutput::F32(out) => ByteOutput::F32(out.reborrow().columns(range)),
            ByteOutput::F16(out) => ByteOutput::F16(out.reborrow().columns(range)),
            ByteOutput::Bf16(out) => ByteOutput::Bf16(out.reborrow().columns(range)),
            ByteOutput::U8(out, to) => ByteOutput::U8(out.reborrow().columns(range), *to),
            ByteOutput::I8(out, to) => ByteOutput::I8(out.reborrow().columns(range), *to),
        }
    }

    /// The same output for a shorter time, its rows of `range` alone.
    pub(in crate::kernels) fn part(&mut self, range: Range<usize>) -> ByteOutput<'_> {
        match self {
            ByteOutput::I32(out) => ByteOutput::I32(rows(out, range)),
            ByteOutput::F32(out) => ByteOutput::F32(rows(out, range)),
            ByteOutput::F16(out) => ByteOutput::F16(rows(out, range)),
            ByteOutput::Bf16(out) => ByteOutput::Bf16(rows(out, range)),
            ByteOutput::U8(out, to) => ByteOutput::U8(rows(out, range), *to),
            ByteOutput::I8(out, to) => ByteOutput::I8(rows(out, range), *to),
        }
    }

    /// Pointer, stride and what is stored.
    fn parts(&mut self) -> (*mut u8, usize, Store) {
        match self {
            ByteOutput::I32(out) => (out.as_mut_ptr().cast(), out.stride(), Store::I32),
            ByteOutput::F32(out) => (out.as_mut_ptr().cast(), out.stride(), Store::F32),
            ByteOutput::F16(out) => (out.as_mut_ptr().cast(), out.stride(), Store::F16),
            ByteOutput::Bf16(out) => (out.as_mut_ptr().cast(), out.stride(), Store::Bf16),
            ByteOutput::U8(out, Requantize { factor, zero_point }) => {
                (out.as_mut_ptr(), out.stride(), Store::U8 { factor: *factor, zero_point: *zero_point })
            }
            ByteOutput::I8(out, Requantize { factor, zero_point }) => {
                (out.as_mut_ptr().cast(), out.stride(), Store::I8 { factor: *factor, zero_point: *zero_point })
            }
        }
    }
}

/// Only the rows of `range`.
fn rows<'a, T>(out: &'a mut MatrixMut<'_, T>, range: Range<usize>) -> MatrixMut<'a, T> {
    out.reborrow().split_rows(range.end).0.split_rows(range.start).1
}

/// `out = epilogue(a x b)`; `a` is `[m, k]`, `b` `[k, n]`, `out` `[m, n]`.
///
/// The integer sums are exact (modulo 2^32), the same on every instruction set; so are bytes and real numbers after an
/// activation that only bounds. For signed A see [`ByteEpilogue::zero_point`]: `a + 128` with a zero point 128 higher.
///
/// # Panics
/// If the sizes do not fit together, `b` was packed for another instruction set, or a residual is the output's content
/// where that is not f32.
#[track_caller]
pub fn gemm_bytes(isa: Isa, a: Matrix<'_, u8>, b: &PackedBytes, out: ByteOutput<'_>, epilogue: &ByteEpilogue<'_>) {
    gemm_bytes_region(isa, a, b, 0..a.rows(), 0..b.n, out, epilogue);
}

/// The part of [`gemm_bytes`] that lies in `rows` of `a` and `columns` of `b`; see
/// [`gemm_region`](super::gemm_region).
///
/// # Panics
/// As [`gemm_bytes`], or if `columns` does not start with a panel of `b`.
#[track_caller]
pub fn gemm_bytes_region(
    isa: Isa,
    a: Matrix<'_, u8>,
    b: &PackedBytes,
    rows: Range<usize>,
    columns: Range<usize>,
    mut out: ByteOutput<'_>,
    epilogue: &ByteEpilogue<'_>,
) {
    assert!(a.cols() == b.k(), "A has {} columns, B {} rows", a.cols(), b.k());
    assert!(rows.start <= rows.end && rows.end <= a.rows(), "rows {rows:?} of {}", a.rows());
    let part = Part { whole: (a.rows(), b.n), rows, columns, first_column: 0 };
    let strided = Strided { data: a.as_ptr(), stride_bytes: a.stride() };
    // SAFETY: the rows of A are in its slice, and each of them is k bytes long.
    unsafe { product_bytes(isa, &strided, b, &part, &mut out, epilogue) }
}

/// Rows of the tallest strip.
pub(in crate::kernels) fn byte_strip_rows(isa: Isa) -> usize {
    Strips::of::<Bytes>(isa).height
}

/// A product of rows from anywhere.
///
/// # Safety
/// The pointers that `a` yields for the part's rows are good for a segment of B each, and `a` has as many of them.
#[track_caller]
pub(in crate::kernels) unsafe fn product_bytes(
    isa: Isa,
    a: &dyn RowPointers,
    b: &PackedBytes,
    part: &Part,
    out: &mut ByteOutput<'_>,
    epilogue: &ByteEpilogue<'_>,
) {
    assert!(b.panel == panel_width(isa), "B is packed in panels of {}, not for {}", b.panel, isa.name());
    assert!(a.segments() == b.segments, "A has {} segments, B {}", a.segments(), b.segments);
    let mut finish = finish_bytes(epilogue, part, out);
    if epilogue.zero_point != 0 {
        // The sums of a group are its own, not the whole output's.
        finish.column_sums = Some(b.sums.as_ptr().wrapping_add(part.columns.start - part.first_column));
    }
    let operand = Operand {
        data: b.data.as_slice().as_ptr(),
        n: b.n,
        panel: b.panel,
        panel_bytes: b.panel_bytes(),
        words: b.segment / 4,
        tail: b.segment % 4,
    };
    // SAFETY: as the caller promises.
    unsafe {
        if b.summands == 1 {
            drive::<Bytes>(isa, a, operand, part, &finish, false);
        } else {
            drive::<Bytes>(isa, &Repeated { rows: a, times: b.summands }, operand, part, &finish, false);
        }
    }
}

/// The epilogue in the coordinates of a part of the output, its operands checked.
///
/// # Panics
/// If an operand's size is not the output's, or a residual is the output's content where that is not f32.
#[track_caller]
pub(in crate::kernels) fn finish_bytes<'a>(
    epilogue: &ByteEpilogue<'a>,
    part: &Part,
    out: &mut ByteOutput<'_>,
) -> Finish<'a> {
    part.check_output(out.rows(), out.cols());
    let (pointer, stride, store) = out.parts();
    let own = || {
        assert!(store == Store::F32, "only an f32 output can be its own residual");
        (pointer.cast_const().cast::<f32>(), stride)
    };
    let (residual, residual_after) = match epilogue.residual {
        None => (None, false),
        Some(Residual::Before(residual)) => (Some(part.matrix(residual)), false),
        Some(Residual::After(residual)) => (Some(part.matrix(residual)), true),
        Some(Residual::OutputBefore) => (Some(own()), false),
        Some(Residual::OutputAfter) => (Some(own()), true),
    };
    let quantized = |residual: QuantizedResidual<'a>| {
        let (data, stride) = part.matrix(residual.data);
        ByteResidual { data, stride, scale: residual.scale, zero_point: residual.zero_point }
    };
    let byte_residual = epilogue.byte_residual.map(quantized);
    let through = epilogue.through.map(|through| FinishThrough {
        factor: through.factor,
        lo: through.limits.0 as f32,
        hi: through.limits.1 as f32,
        scale: through.scale,
        shift: through.shift.map(|shift| part.per_column(shift)),
        residual: through.residual.map(quantized),
    });
    let column_scale = epilogue.column_scale.map(|scale| part.per_column(scale));
    let plain = epilogue.row_scale.is_none() && residual.is_none();
    let rescale = match (column_scale, epilogue.activation.bounds()) {
        (Some(scale), Some(bounds)) if plain => rescale(scale, bounds, through.as_ref(), store),
        _ => None,
    };
    Finish {
        rescale,
        resume: false,
        simple: None,
        extremes: epilogue.extremes.filter(|_| store == Store::F32),
        start: epilogue.bias.map(|bias| part.per_column(bias)),
        direct: None,
        integer: true,
        zero_point: epilogue.zero_point,
        column_sums: None,
        column_scale,
        row_scale: epilogue.row_scale.map(|scale| part.per_row(scale)),
        shift: epilogue.shift.map(|shift| part.per_column(shift)),
        residual: residual.map(|(pointer, _)| pointer),
        residual_stride: residual.map_or(0, |(_, stride)| stride),
        residual_after,
        byte_residual,
        through,
        activation: epilogue.activation,
        store,
        out: pointer,
        stride,
        next: epilogue.next,
        pack_rows: epilogue.pack_rows,
        lifetime: PhantomData,
    }
}

/// The short form of an epilogue that only scales and bounds, where its factors are in the scales already.
fn rescale(scale: *const f32, (lo, hi): (f32, f32), through: Option<&FinishThrough>, store: Store) -> Option<Rescale> {
    let (factor, zero_point, limits) = match store {
        Store::U8 { factor, zero_point } => (factor, zero_point, (0, 255)),
        Store::I8 { factor, zero_point } => (factor, zero_point, (-128, 127)),
        Store::F32 if through.is_none() => return Some(Rescale { scale, lo, hi, zero_point: 0, least: 0, most: 0.0 }),
        _ => return None,
    };
    let (least, most) = (limits.0 - zero_point, limits.1 - zero_point);
    // Bounding before or after rounding is the same.
    let bounds = |least: f32, most: f32| (lo.max(least), hi.min(most));
    let known = factor == 1.0 && lo <= hi && through.is_none_or(|through| through.factor == 1.0);
    let short = match through {
        Some(through) => {
            let (lo, hi) = bounds(through.lo, through.hi);
            (lo <= hi).then_some(Rescale { scale, lo, hi, zero_point, least, most: most as f32 })
        }
        None => {
            let (lo, hi) = bounds(least as f32, most as f32);
            let least = lo.round_ties_even() as i32;
            (lo <= hi).then_some(Rescale { scale, lo, hi, zero_point, least, most: hi })
        }
    };
    short.filter(|_| known)
}

/// Rows whose segments are gone through several times, for a B that is a sum.
struct Repeated<'a> {
    rows: &'a dyn RowPointers,
    times: usize,
}

impl RowPointers for Repeated<'_> {
    fn segments(&self) -> usize {
        self.rows.segments() * self.times
    }

    fn copy_bytes(&self) -> usize {
        self.rows.copy_bytes()
    }

    fn segments_apart(&self) -> bool {
        self.rows.segments_apart()
    }

    fn offset(&self, segment: usize) -> usize {
        self.rows.offset(segment % self.rows.segments().max(1))
    }

    fn fill(&self, first: usize, count: usize, pointers: &mut [*const u8], copies: &mut [u8]) {
        if !self.segments_apart() {
            return self.rows.fill(first, count, pointers, copies);
        }
        let once = self.rows.segments() * count;
        self.rows.fill(first, count, &mut pointers[..once], copies);
        for time in 1..self.times {
            pointers.copy_within(..once, time * once);
        }
    }
}
