//! Integers, comparisons and truth values, as plain loops: they stand on shapes, ids and masks, and are short.

use super::broadcast::Operand;

/// Integer types with the arithmetic of ONNX: wrapping, and no trap on division.
pub trait Integer: Copy + PartialOrd {
    /// `op(self, other)`.
    #[must_use]
    fn apply(self, op: IntegerOp, other: Self) -> Self;
}

/// What to do with each pair of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntegerOp {
    /// Wrapping sum.
    Add,
    /// Wrapping difference.
    Sub,
    /// Wrapping product.
    Mul,
    /// Quotient toward zero; 0 where the divisor is 0.
    Div,
    /// Remainder with the divisor's sign (as in Python); 0 where the divisor is 0.
    Mod,
    /// Remainder with the dividend's sign (as in C); 0 where the divisor is 0.
    Remainder,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// Shifted left; 0 from the width of the type on.
    ShiftLeft,
    /// Shifted right; 0 (or the sign) from the width of the type on.
    ShiftRight,
}

macro_rules! integers {
    ($($t:ty),*) => { $(
        impl Integer for $t {
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn apply(self, op: IntegerOp, other: Self) -> Self {
                match op {
                    IntegerOp::Add => self.wrapping_add(other),
                    IntegerOp::Sub => self.wrapping_sub(other),
                    IntegerOp::Mul => self.wrapping_mul(other),
                    IntegerOp::Div if other == 0 => 0,
                    IntegerOp::Div => self.wrapping_div(other),
                    IntegerOp::Mod | IntegerOp::Remainder if other == 0 => 0,
                    IntegerOp::Remainder => self.wrapping_rem(other),
                    IntegerOp::Mod => {
                        let r = self.wrapping_rem(other);
                        if r != 0 && (r < 0) != (other < 0) { r.wrapping_add(other) } else { r }
                    }
                    IntegerOp::Min => self.min(other),
                    IntegerOp::Max => self.max(other),
                    IntegerOp::And => self & other,
                    IntegerOp::Or => self | other,
                    IntegerOp::Xor => self ^ other,
                    IntegerOp::ShiftLeft => {
                        u32::try_from(other).ok().and_then(|n| self.checked_shl(n)).unwrap_or(0)
                    }
                    IntegerOp::ShiftRight => {
                        let n = u32::try_from(other).unwrap_or(u32::MAX).min(<$t>::BITS);
                        if n == <$t>::BITS { (self >> (n - 1)) >> 1 } else { self >> n }
                    }
                }
            }
        }
    )* };
}

integers!(i8, u8, i16, u16, i32, u32, i64, u64);

/// A comparison; anything but `NotEqual` is false of NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// `a == b`.
    Equal,
    /// `a != b`.
    NotEqual,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
}

/// A connective of truth values (bytes 0 and 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    /// Both.
    And,
    /// One of them or both.
    Or,
    /// One of them only.
    Xor,
}

/// The output of a map: a slice as a pointer, since an operand may read what it overwrites.
struct To<R> {
    y: *mut R,
    len: usize,
    start: usize,
}

impl<R: Copy> To<R> {
    fn new(y: &mut [R], start: usize) -> Self {
        To { y: y.as_mut_ptr(), len: y.len(), start }
    }

    /// `y[i] = f(a, b)` at `start + i`; `target` is `y`, or null where no operand may be what is overwritten.
    #[inline(always)]
    fn zip<T: Copy>(self, a: Operand<'_, T>, b: Operand<'_, T>, target: *const T, f: impl Fn(T, T) -> R) {
        let (mut a, mut b) = (a.blocks(target), b.blocks(target));
        let mut at = 0;
        while at < self.len {
            let index = self.start + at;
            let n = (self.len - at).min(a.reach(index)).min(b.reach(index));
            let (u, w) = (a.lane(index, at, n), b.lane(index, at, n));
            // SAFETY: each lane gives n elements to read (the first where it does not move); at + n <= len.
            unsafe {
                let to = self.y.add(at);
                match (u.step, w.step) {
                    (1, 0) => {
                        let w = *w.from;
                        (0..n).for_each(|i| *to.add(i) = f(*u.from.add(i), w));
                    }
                    (0, 1) => {
                        let u = *u.from;
                        (0..n).for_each(|i| *to.add(i) = f(u, *w.from.add(i)));
                    }
                    (1, 1) => (0..n).for_each(|i| *to.add(i) = f(*u.from.add(i), *w.from.add(i))),
                    (p, q) => (0..n).for_each(|i| *to.add(i) = f(*u.from.add(i * p), *w.from.add(i * q))),
                }
            }
            at += n;
        }
    }
}

/// `y[i] = op(a[start + i], b[start + i])` of integers, each operand spread over the whole output.
///
/// # Panics
/// Where an operand is too short for its broadcast.
pub fn integer<T: Integer>(op: IntegerOp, a: Operand<'_, T>, b: Operand<'_, T>, start: usize, y: &mut [T]) {
    let to = To::new(y, start);
    let target = to.y;
    // Known inside the loop where it is arithmetic on ids and lengths; the rest is rare.
    match op {
        IntegerOp::Add => to.zip(a, b, target, |u, w| u.apply(IntegerOp::Add, w)),
        IntegerOp::Sub => to.zip(a, b, target, |u, w| u.apply(IntegerOp::Sub, w)),
        IntegerOp::Mul => to.zip(a, b, target, |u, w| u.apply(IntegerOp::Mul, w)),
        op => to.zip(a, b, target, |u, w| u.apply(op, w)),
    }
}

/// `y[i] = min(max(x[i], low), high)`.
///
/// # Panics
/// Where the lengths differ.
pub fn integer_clip<T: Integer>(x: &[T], low: T, high: T, y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "as many results as elements");
    for i in 0..x.len() {
        y[i] = x[i].apply(IntegerOp::Max, low).apply(IntegerOp::Min, high);
    }
}

/// `y[i] = !x[i]` of truth values; any byte but 0 holds.
///
/// # Panics
/// Where the lengths differ.
pub fn not(x: &[u8], y: &mut [u8]) {
    assert_eq!(x.len(), y.len(), "as many results as elements");
    for i in 0..x.len() {
        y[i] = u8::from(x[i] == 0);
    }
}

/// `y[i] = op(a, b)` as 0 or 1. [`Operand::Target`] is no operand of a comparison, whose output has another type.
///
/// # Panics
/// Where an operand is too short for its broadcast, or is [`Operand::Target`].
pub fn compare<T: Copy + PartialOrd>(op: Compare, a: Operand<'_, T>, b: Operand<'_, T>, start: usize, y: &mut [u8]) {
    let target = matches!(a, Operand::Target) || matches!(b, Operand::Target);
    assert!(!target, "a comparison writes truth values, not over its operand");
    let (none, to) = (std::ptr::null(), To::new(y, start));
    let (op, a, b) = match op {
        Compare::Greater => (Compare::Less, b, a),
        Compare::GreaterOrEqual => (Compare::LessOrEqual, b, a),
        op => (op, a, b),
    };
    match op {
        Compare::Equal => to.zip(a, b, none, |u, w| u8::from(u == w)),
        Compare::NotEqual => to.zip(a, b, none, |u, w| u8::from(u != w)),
        Compare::Less | Compare::Greater => to.zip(a, b, none, |u, w| u8::from(u < w)),
        Compare::LessOrEqual | Compare::GreaterOrEqual => to.zip(a, b, none, |u, w| u8::from(u <= w)),
    }
}

/// `y[i] = op(a, b)` of truth values; any byte but 0 holds.
///
/// # Panics
/// Where an operand is too short for its broadcast.
pub fn logic(op: Logic, a: Operand<'_, u8>, b: Operand<'_, u8>, start: usize, y: &mut [u8]) {
    let to = To::new(y, start);
    let target = to.y;
    match op {
        Logic::And => to.zip(a, b, target, |u, w| u8::from(u != 0 && w != 0)),
        Logic::Or => to.zip(a, b, target, |u, w| u8::from(u | w != 0)),
        Logic::Xor => to.zip(a, b, target, |u, w| u8::from((u != 0) != (w != 0))),
    }
}
