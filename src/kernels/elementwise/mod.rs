//! One output element for each index: unary and binary maps, chains of them in one pass, broadcasts, casts.
//!
//! Outputs are flat. A caller that splits an output over threads hands each its slice and the index at which the slice
//! `start`s; an element's value depends on its operands alone, never on where it stands. How an operand of a smaller
//! shape is spread over the output is worked out once, as a [`Broadcast`]; at run time it stands in an [`Operand`].

mod binary;
mod broadcast;
mod convert;
mod integer;
mod program;
mod select;
#[cfg(test)]
mod tests;
mod unary;

pub use binary::{Binary, binary};
pub use broadcast::{Broadcast, Operand};
pub use convert::{bf16_from_f32, bf16_to_f32, f16_from_f32, f16_to_f32, f32_from_i8, f32_from_i32, f32_from_u8};
pub use integer::{Compare, Integer, IntegerOp, Logic, compare, integer, integer_clip, logic, not};
pub use program::{MAX_CONDITIONS, MAX_CONSTANTS, MAX_OPERANDS, MAX_REGISTERS, Program, Source, Step};
pub use select::{clip, select};
pub use unary::{Unary, unary, unary_in_place};
