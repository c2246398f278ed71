//! Packed matrices in files.

use super::super::arch::Isa;
use super::super::stored::{Parts, Stored, restore_all, store_all};
use super::bf16::PackedBf16;
use super::few_bits::{PackedBlocks, PackedCodes};
use super::halves::PackedHalves;
use super::pack::{self, PackedB};
use super::pack_bytes::{self, PackedBytes};
use crate::error::{Result, ensure};

impl Stored for PackedB {
    const KIND: &'static str = "f32 panels";

    fn store(&self, parts: &mut Parts) {
        parts.put_all(&[self.k, self.n, self.panel]);
        parts.put_buffer(&self.data);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [k, n, panel] = parts.take_sizes()?;
        ensure!(panel == pack::panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        let data = parts.take_buffer(&[n.div_ceil(panel), panel, k, 4])?;
        Ok(PackedB { data, k, n, panel })
    }
}

impl Stored for Vec<PackedB> {
    const KIND: &'static str = "several f32 panels";

    fn store(&self, parts: &mut Parts) {
        store_all(self, parts);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        restore_all(isa, parts)
    }
}

impl Stored for PackedBytes {
    const KIND: &'static str = "byte panels";

    fn store(&self, parts: &mut Parts) {
        parts.put_all(&[self.n, self.panel, self.segments, self.segment, self.summands]);
        parts.put_buffer(&self.data);
        parts.put_elements(&self.sums);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [n, panel, segments, segment, summands] = parts.take_sizes()?;
        ensure!(panel == pack_bytes::panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        ensure!((1..=3).contains(&summands), Malformed, "bytes as a sum of {summands}");
        let k = segments.checked_mul(segment);
        ensure!(k.is_some(), Malformed, "{segments} segments of {segment} bytes");
        let data = parts.take_buffer(&[n.div_ceil(panel), panel, 4, summands, segments, segment.div_ceil(4)])?;
        Ok(PackedBytes { data, sums: parts.take_elements(&[n])?, n, panel, segments, segment, summands })
    }
}

impl Stored for PackedBf16 {
    const KIND: &'static str = "bfloat16 panels";

    fn store(&self, parts: &mut Parts) {
        parts.put_all(&[self.k, self.n, self.panel]);
        parts.put_buffer(&self.data);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [k, n, panel] = parts.take_sizes()?;
        ensure!(panel == pack::panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        let data = parts.take_buffer(&[n.div_ceil(panel), panel, k.div_ceil(2), 4])?;
        Ok(PackedBf16 { data, k, n, panel })
    }
}

impl Stored for PackedHalves {
    const KIND: &'static str = "float16 panels";

    fn store(&self, parts: &mut Parts) {
        parts.put_all(&[self.k, self.n, self.panel, usize::from(self.exact)]);
        parts.put_buffer(&self.data);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [k, n, panel, exact] = parts.take_sizes()?;
        ensure!(panel == pack::panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        ensure!(exact <= 1, Malformed, "panels that are exact {exact} times");
        let data = parts.take_buffer(&[exact, n.div_ceil(panel), panel, k, 2])?;
        Ok(PackedHalves { data, k, n, panel, exact: exact == 1 })
    }
}

impl Stored for PackedCodes {
    const KIND: &'static str = "panels of few bits";

    fn store(&self, parts: &mut Parts) {
        parts.put_all(&[self.k, self.n, self.bits, self.panel]);
        parts.put_buffer(&self.data);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [k, n, bits, panel] = parts.take_sizes()?;
        ensure!(panel == pack::panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        ensure!(matches!(bits, 2 | 4 | 8), Malformed, "codes of {bits} bits");
        let data = parts.take_buffer(&[n.div_ceil(panel), k.div_ceil(8 / bits), panel])?;
        Ok(PackedCodes { data, k, n, bits, panel })
    }
}

impl Stored for PackedBlocks {
    const KIND: &'static str = "panels of blocks";

    fn store(&self, parts: &mut Parts) {
        parts.put_all(&[self.blocks, self.n, self.panel]);
        parts.put_elements(&self.data);
    }

    fn restore(isa: Isa, parts: &mut Parts) -> Result<Self> {
        let [blocks, n, panel] = parts.take_sizes()?;
        ensure!(panel == pack::panel_width(isa), Malformed, "panels of {panel} columns, not for {}", isa.name());
        let data = parts.take_elements(&[n.div_ceil(panel), blocks, panel])?;
        Ok(PackedBlocks { data, blocks, n, panel })
    }
}
