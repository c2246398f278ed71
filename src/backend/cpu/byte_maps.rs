//! Maps of quantized elements to quantized elements: sums and products with scales of their own, and tables.

use super::arena::Io;
use super::integer::known;
use super::kernel::{Context, Division, Kernel, Spec};
use crate::error::{Result, ensure, err};
use crate::kernels::arch::Isa;
use crate::kernels::elementwise::{Broadcast, Operand};
use crate::kernels::quantize::{Byte, ByteOp, Quantized as Bytes, byte_binary, map_table};
use crate::ops::elementwise::{Binary, BinaryKind};
use crate::ops::fused::{ByteTable, Quantized};
use crate::tensor::DType;
use bytemuck::{AnyBitPattern, NoUninit};

/// A sum or a product of two quantized operands, broadcast.
#[derive(Debug)]
pub(super) struct ByteZip {
    isa: Isa,
    op: ByteOp,
    signed: bool,
    operands: [(Broadcast, f32, i32); 2],
    scale: f32,
    zero: i32,
    division: Division,
}

impl ByteZip {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        Ok(Self::of(spec, isa))
    }

    fn of(spec: &Spec<'_>, isa: Isa) -> Option<Self> {
        let quantized = spec.op::<Quantized>()?;
        let op = match quantized.op.downcast_ref::<Binary>()?.0 {
            BinaryKind::Add => ByteOp::Add,
            BinaryKind::Mul => ByteOp::Mul,
            _ => return None,
        };
        let (out, dtype) = (spec.output_shape(0)?, spec.output(0)?.dtype);
        let operand = |index: usize| {
            let (scale, zero) = known(spec, quantized.input(index)?)?;
            let broadcast = Broadcast::of(spec.shape(index)?, out)?;
            (spec.input(index)?.dtype == dtype).then_some((broadcast, scale, zero))
        };
        let operands = [operand(0)?, operand(1)?];
        let (scale, zero) = known(spec, quantized.output?)?;
        Some(ByteZip {
            isa,
            op,
            signed: dtype == DType::I8,
            operands,
            scale,
            zero,
            division: Division::elements(Some(out)),
        })
    }

    fn zip<T: Byte + AnyBitPattern + NoUninit>(&self, io: &Io<'_>, limits: (i32, i32)) -> Result<()> {
        let operand = |index: usize| -> Result<Bytes<'_, T>> {
            let (broadcast, scale, zero) = &self.operands[index];
            let data = if io.in_place() == Some(index) {
                ensure!(broadcast.is_full(), Internal, "an operand that is spread cannot be overwritten");
                Operand::Target
            } else {
                Operand::Spread(io.input(index)?, broadcast)
            };
            Ok(Bytes { data, scale: *scale, zero: *zero })
        };
        let (a, b) = (operand(0)?, operand(1)?);
        byte_binary(self.isa, self.op, a, b, self.scale, self.zero, limits, io.share().start, io.output(0)?);
        Ok(())
    }
}

impl Kernel for ByteZip {
    fn name(&self) -> String {
        "zip bytes".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        if self.signed { self.zip::<i8>(io, (-128, 127)) } else { self.zip::<u8>(io, (0, 255)) }
    }
}

/// A table of the function of a byte.
#[derive(Debug)]
pub(super) struct Lookup {
    isa: Isa,
    division: Division,
}

impl Lookup {
    pub(super) fn new(spec: &Spec<'_>, isa: Isa) -> Result<Option<Self>> {
        let entries = spec.shape(1).is_some_and(|shape| shape[..] == [256]);
        let division = Division::elements(spec.output_shape(0));
        Ok((spec.op::<ByteTable>().is_some() && entries && spec.is_static()).then_some(Lookup { isa, division }))
    }
}

impl Kernel for Lookup {
    fn name(&self) -> String {
        "look up".to_owned()
    }

    fn division(&self) -> Division {
        self.division
    }

    fn run(&self, io: &Io<'_>, _context: &mut Context<'_>) -> Result<()> {
        let table = io.input(1)?.try_into().map_err(|_| err!(Internal, "a table without 256 entries"))?;
        map_table(self.isa, table, &io.input(0)?[io.share()], io.output(0)?);
        Ok(())
    }
}
