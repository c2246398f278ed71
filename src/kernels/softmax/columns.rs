//! A middle axis: `[n, inner]` blocks normalized over `n`, a vector of `inner` at a time.

use super::super::arch::{Body, Isa, Simd};
use super::super::vector::{exp_nonpositive, ln};
use super::rows::Form;

/// `form` over the middle axis of `x`, shaped `[outer, n, inner]`; `outer` follows from the length.
///
/// # Panics
/// Where the lengths differ or are no multiple of `n * inner`.
pub fn softmax_columns(isa: Isa, form: Form, n: usize, inner: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "softmax keeps the shape");
    let block = n.saturating_mul(inner);
    if block == 0 || y.is_empty() {
        return;
    }
    assert_eq!(y.len() % block, 0, "the axes divide the length");
    isa.dispatch(Columns { form, n, inner, x, y });
}

struct Columns<'a> {
    form: Form,
    n: usize,
    inner: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Body for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Columns { form, n, inner, x, y } = self;
        let block = n * inner;
        for (x, y) in x.chunks_exact(block).zip(y.chunks_exact_mut(block)) {
            let mut c = 0;
            while c < inner {
                let lanes = (inner - c).min(S::LANES);
                let (x, y) = (x[c..].as_ptr(), y[c..].as_mut_ptr());
                // SAFETY: row k of the block has `lanes` elements from column c on.
                unsafe {
                    let mut top = s.splat(f32::NEG_INFINITY);
                    for k in 0..n {
                        top = s.max(s.load_part(x.add(k * inner), lanes), top);
                    }
                    let mut sum = s.splat(0.0);
                    for k in 0..n {
                        let d = s.sub(s.load_part(x.add(k * inner), lanes), top);
                        let e = exp_nonpositive(s, d);
                        sum = s.add(sum, e);
                        s.store_part(y.add(k * inner), lanes, if form == Form::Softmax { e } else { d });
                    }
                    let factor = s.div(s.splat(1.0), sum);
                    let log = ln(s, sum);
                    for k in 0..n {
                        let v = s.load_part(y.add(k * inner), lanes);
                        let v = if form == Form::Softmax { s.mul(v, factor) } else { s.sub(v, log) };
                        s.store_part(y.add(k * inner), lanes, v);
                    }
                }
                c += S::LANES;
            }
        }
    }
}
