//! A function of one byte as 256 entries: any activation between two quantizations.

use super::super::arch::{Body, Isa, Simd};
use super::byte::Byte;

/// The output byte of every input byte (an `i8` by its bits).
pub type Table = [u8; 256];

/// The table of `f` between two scales: `saturate(round(f((x - zero) * scale) / to_scale) + to_zero)`.
#[must_use]
pub fn table_of<T: Byte + bytemuck::Pod, U: Byte + bytemuck::Pod>(
    scale: f32,
    zero: i32,
    to_scale: f32,
    to_zero: i32,
    f: impl Fn(f32) -> f32,
) -> Table {
    std::array::from_fn(|bits| {
        let x: T = bytemuck::cast(bits as u8);
        let y = f((x.widen() - zero) as f32 * scale) / to_scale;
        let steps = y.round_ties_even().clamp(-65_536.0, 65_536.0) as i32;
        bytemuck::cast(U::saturate(steps + to_zero))
    })
}

/// `y[i] = table[x[i]]`.
///
/// # Panics
/// Where the lengths differ.
pub fn map_table(isa: Isa, table: &Table, x: &[u8], y: &mut [u8]) {
    assert_eq!(x.len(), y.len(), "a map keeps the length");
    isa.dispatch(Map { table, x, y });
}

struct Map<'a> {
    table: &'a Table,
    x: &'a [u8],
    y: &'a mut [u8],
}

impl Body for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Map { table, x, y } = self;
        let whole = if S::LOOKS_UP { x.len() / 64 * 64 } else { 0 };
        for at in (0..whole).step_by(64) {
            // SAFETY: both slices have 64 elements from there on, and the table 256.
            unsafe { s.look_up(table.as_ptr(), x.as_ptr().add(at), y.as_mut_ptr().add(at)) };
        }
        for (y, &x) in y[whole..].iter_mut().zip(&x[whole..]) {
            *y = table[usize::from(x)];
        }
    }
}
